"""What complex LazyTensors are made of, reduced by and refused: needs the CPU, PyTorch."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lazy_complex import FACES, D, Expression, M, N, arrays, check, of, random

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError
from redcomp.numpy.cluster import from_matrix


def dense_of(made: Any) -> torch.Tensor:
    """The values of a LazyTensor that depends on i and j at most."""
    return torch.as_tensor(made.dense()).reshape(made._shape)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1j", [1j]),
        ("(2.5 - 3j)", [2.5 - 3j]),
        ("[1j, 2]", [1j, 2]),
        ("[1, 2.5, -1j, True]", [1, 2.5, -1j, 1]),
        ("np.complex64(1 + 2j)", [1 + 2j]),
        ("3, is_complex=True", [3]),
        ("30.5, is_complex=True", [30.5]),
        ("[1.5, 2], is_complex=True", [1.5, 2]),
        ("array(3 - 1j)", [3 - 1j]),
        ("array([3 - 1j, 2])", [3 - 1j, 2]),
        ("array([[3 - 1j, 2]]), axis=2", [3 - 1j, 2]),
        ("array([1.0, 2.0]), is_complex=True", [1, 2]),
        ("LazyTensor([1j, 2])", [1j, 2]),
        ("LazyTensor([1.5, 2]), is_complex=True", [1.5, 2]),
    ],
)
def test_numbers_and_parameters(face: str, text: str, expected: list[complex]) -> None:
    """A number takes the dtype of what it meets, and a 0-D array too."""
    module = FACES[face]
    scope = {"LazyTensor": module.LazyTensor, "array": lambda v: of(face, np.array(v)), "np": np}
    made = eval(f"LazyTensor({text})", scope)
    assert isinstance(made, module.ComplexLazyTensor)
    assert made.is_complex
    assert (made.ni, made.nj, made.ndim) == (None, None, len(expected))
    pairs = module.Vi(of(face, np.ones((M, 1)))) * module.Vj(of(face, np.ones((N, 1))))
    check((made * pairs).sum(axis=1), torch.tensor([expected] * M, dtype=torch.complex128) * N)


def conjugated(x: Any) -> Any:
    """The array, as a tensor that PyTorch only notes to be conjugated."""
    return torch.tensor(x.conj()).conj()


def parameter(x: Any) -> Any:
    return torch.nn.Parameter(torch.tensor(x))


LAYOUTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "contiguous": ("numpy", lambda x: x),
    "columns first": ("numpy", np.asfortranarray),
    "every other": ("numpy", lambda x: np.repeat(x, 2, -1)[:, ::2]),
    "reversed": ("numpy", lambda x: x[::-1, ::-1].copy()[::-1, ::-1]),
    "a part of records": ("numpy", lambda x: np.stack([x, x], -1)[..., 1]),
    "byte-swapped": ("numpy", lambda x: x.astype(">c16")),
    "byte-swapped and reversed": ("numpy", lambda x: x[:, ::-1].astype(">c16")[:, ::-1]),
    "read-only": ("numpy", lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)),
    "subclass": ("numpy", lambda x: x.view(type("Own", (np.ndarray,), {}))),
    "tensor": ("torch", torch.tensor),
    "transposed tensor": ("torch", lambda x: torch.tensor(x.T.copy()).T),
    "strided tensor": ("torch", lambda x: torch.tensor(np.repeat(x, 2, -1))[:, ::2]),
    "conjugated tensor": ("torch", conjugated),
    "parameter": ("torch", parameter),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(layout: str) -> None:
    face, arrange = LAYOUTS[layout]
    x, y = random(M, D), random(N, D)
    x_i, y_j = FACES[face].Vi(arrange(x)), FACES[face].Vj(arrange(y))
    found = (x_i * y_j.conj()).sum(axis=0)
    check(
        found if face == "numpy" else found.detach(), torch.tensor((x[:, None] * y.conj()).sum(0))
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("axis", [1, 2, -2, -3])
def test_batches_and_kept_axes(face: str, axis: int) -> None:
    x, y, p, s = random(4, M, 1, D), random(1, 1, N, D), random(4, 1, 1, D), random(1, M, N, 1)
    made = [FACES[face].LazyTensor(of(face, a)) for a in (x, y, p, s)]
    lazy = (made[0] - made[1]) * made[2] * made[3]
    dense = torch.tensor((x - y) * p * s)
    assert (lazy.shape, lazy.nbatchdims, lazy.dim()) == (tuple(dense.shape), 1, 4)
    check(lazy.sum(axis=axis), dense.sum(axis))
    check(lazy.mean(axis=axis, keepdim=True), dense.mean(axis, keepdim=True))
    check(lazy.norm(axis=axis), torch.linalg.vector_norm(dense, dim=axis))
    assert bool((torch.as_tensor(lazy.any(axis=axis)) == dense.bool().any(axis)).all())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("face", FACES)
def test_products(face: str) -> None:
    """Of complex and real matrices with complex and real vectors, on both sides."""
    module, x, y = FACES[face], random(M, D), random(N, D)
    phase = module.Vi(of(face, x)) * module.Vj(of(face, y)).conj()
    kernels = {True: phase.sum(-1).exp(), False: abs(phase).sum(-1)}
    dense = {True: np.exp(x @ y.conj().T), False: abs(x[:, None] * y[None].conj()).sum(-1)}
    for is_complex, lazy in kernels.items():
        matrix = torch.tensor(dense[is_complex] + 0j)
        for right in (random(N, 2), random(N, 2).real, random(N), random(N).imag.copy()):
            if is_complex or np.iscomplexobj(right):
                check(lazy @ of(face, right), torch.tensor(dense[is_complex] @ right))
            check(lazy.t() @ of(face, random(M)), matrix.T @ torch.tensor(random(M)))
        check(lazy.matvec(of(face, random(N))), matrix @ torch.tensor(random(N)))
        check(lazy.rmatvec(of(face, random(M))), matrix.mH @ torch.tensor(random(M)))
        check(lazy @ random(N), torch.tensor(dense[is_complex] @ random(N)))
        both = lazy @ kernels[True].t()
        assert both.dtype == "complex128"
        check(both @ of(face, random(M)), matrix @ torch.tensor(dense[True].T @ random(M)))
        adjoint = matrix.to(torch.complex128) @ torch.tensor(dense[True].T)
        check(both.rmatvec(of(face, random(M))), adjoint.mH @ torch.tensor(random(M)))
    check(dense_of(kernels[True])[..., 0], torch.tensor(dense[True]))
    check(
        kernels[True].bias(of(face, random(M, N))) @ of(face, random(N)),
        torch.tensor((dense[True] + random(M, N)) @ random(N)),
    )
    chosen = random(M, N).real > 0
    check(
        kernels[True].mask(of(face, chosen)) @ of(face, random(N)),
        torch.tensor((dense[True] * chosen) @ random(N)),
    )


@pytest.mark.sampled(4)
@pytest.mark.parametrize("face", FACES)
def test_systems(face: str) -> None:
    """A Hermitian matrix with complex and real right-hand sides, a real one with a complex one."""
    module, x = FACES[face], random(M, D).real.copy()
    x_i, x_j = module.Vi(of(face, x)), module.Vj(of(face, x))
    gaussian = (-x_i.sqdist(x_j)).exp()
    dense = np.exp(-((x[:, None] - x) ** 2).sum(-1))
    waves = np.exp(2j * (x[:, None, 0] - x[None, :, 0]))
    pairs = [(gaussian * (2 * (x_i - x_j)[0]).exp1j(), dense * waves), (gaussian, dense)]
    for (lazy, matrix), right in [
        (pairs[0], random(M, 2)),
        (pairs[0], random(M, 2).real.copy()),
        (pairs[1], random(M, 2)),
    ]:
        expected = np.linalg.solve(matrix + 0.5 * np.eye(M), right)
        found = lazy.solve(of(face, right), alpha=0.5, eps=1e-13)
        check(found, torch.tensor(expected))


@pytest.mark.parametrize("face", FACES)
def test_symbols_and_later_calls(face: str) -> None:
    module, LazyTensor = FACES[face], FACES[face].LazyTensor
    x, y = random(M, D), random(N, D)
    product = LazyTensor((0, 2 * D, 0), is_complex=True) * LazyTensor(
        (1, 2 * D, 1), is_complex=True
    )
    later = product.sum(axis=1)
    expected = torch.tensor((x[:, None] * y).sum(1))
    check(later(of(face, x), of(face, y)), expected)
    pairs = x.view(np.float64)
    check(later(of(face, pairs), of(face, y)), expected)
    narrow = later(of(face, x.astype(np.complex64)), of(face, y.astype(np.complex64)))
    assert "complex64" in str(narrow.dtype)
    out = of(face, np.empty((D, M), np.complex128)).T
    assert later(of(face, x), of(face, y), out=out) is out
    check(out, expected)
    scalars = LazyTensor((0, 2, 0), is_complex=True) + module.Vj(of(face, y[:, :1]))
    check(scalars.sum(axis=1)(of(face, x[:, 0])), torch.tensor(x[:, :1] * N + y[:, 0].sum()))
    known = (module.Vi(of(face, x)) * module.Vj(of(face, y))).sum(axis=1, call=False)
    check(known(), expected)
    with pytest.raises(ArgumentError, match="both parts"):
        LazyTensor((0, 3, 0), is_complex=True)
    with pytest.raises(ArgumentError, match="out must have shape"):
        later(of(face, x), of(face, y), out=of(face, np.empty((M, D))))


def test_half_precision_gives_complex64() -> None:
    x = torch.ones(M, 1, dtype=torch.bfloat16)
    found = (redcomp.torch.Vi(x) * 2j * redcomp.torch.Vj(torch.ones(N, 1, dtype=x.dtype))).sum(
        axis=1
    )
    check(found, torch.full((M, 1), 2j * N, dtype=torch.complex128))
    halves = redcomp.numpy.Vi(np.ones((M, 1), np.float16)) + 1j
    assert halves.dtype == "complex64"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("face", FACES)
def test_functions_of_the_libraries(face: str) -> None:
    x, y = random(M, D), random(N, D)
    lazy = FACES[face].Vi(of(face, x)) * FACES[face].Vj(of(face, y))
    dense = torch.tensor(x[:, None] * y)
    module: Any = {"numpy": np, "torch": torch}[face]
    for name in ("exp", "abs", "conj", "real", "imag", "angle", "log", "square", "negative"):
        check(dense_of(getattr(module, name)(lazy)), getattr(torch, name)(dense).resolve_conj())
    scale = of(face, random(1, N, 1))
    check(dense_of(scale * lazy), torch.tensor(random(1, N, 1)) * dense)
    check(dense_of(np.complex128(2j) * lazy - np.float64(2)), 2j * dense - 2)
    chosen = module.where(FACES[face].Vj(of(face, y.real > 0)), lazy, 1j)
    check(dense_of(chosen), torch.where(torch.tensor(y.real > 0), dense, 1j))


LONG: list[Expression] = [
    lambda z, w, s, u: z * s,
    lambda z, w, s, u: s / z + w,
    lambda z, w, s, u: u * s,
    lambda z, w, s, u: (z - w) ** 3 / s,
    lambda z, w, s, u: (s * u + 1j) * w,
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("number", range(len(LONG)))
def test_vectors_that_are_loops(number: int) -> None:
    of_all = (random(M, 40), random(N, 40), random(N, 40).imag.copy(), random(M, 1))
    makers = {"i": redcomp.numpy.Vi, "j": redcomp.numpy.Vj}
    made = [makers[index](a) for index, a in zip("ijji", of_all, strict=True)]
    z, w, s, u = map(torch.tensor, of_all)
    check(LONG[number](*made).sum(axis=0), LONG[number](z[:, None], w, s, u[:, None]).sum(0))


def test_a_tensor_without_axes_gets_its_gradient() -> None:
    """In its own dtype, whatever that of the others is."""
    x, y = torch.tensor(random(M, D)), torch.tensor(random(N, D))
    scale = torch.tensor(1.5 - 2j, dtype=torch.complex64, requires_grad=True)
    found = (redcomp.torch.Vi(x) * scale * redcomp.torch.Vj(y)).sum(axis=1)
    expected = (x[:, None] * scale * y).sum(1)
    cotangent = torch.tensor(random(M, D))
    (mine,) = torch.autograd.grad(found, scale, cotangent)
    check(mine, torch.autograd.grad(expected, scale, cotangent)[0])


def test_blocks_of_pairs() -> None:
    """`ranges` go with the expression."""
    x, y = random(M, D), random(N, D)
    kept = np.array([[True, False], [True, True]])
    ranges = from_matrix(np.array([[0, 2], [2, M]]), np.array([[0, 3], [3, N]]), kept)
    kernel = redcomp.numpy.Vi(x) * redcomp.numpy.Vj(y)
    kernel.ranges = ranges
    visited = np.repeat(np.repeat(kept, [2, M - 2], 0), [3, N - 3], 1)
    dense = np.where(visited, ((2j * (x[:, None] * y) + 1).conj()).sum(-1), 0)
    lazy = (2j * kernel + 1).conj().sum(-1)
    check(lazy @ random(N), torch.tensor(dense @ random(N)))
    check(lazy.t() @ random(M), torch.tensor(dense.T @ random(M)))


@pytest.mark.parametrize("face", FACES)
def test_nothing_to_reduce(face: str) -> None:
    for rows, columns in ((0, N), (M, 0)):
        x, y = of(face, random(M, D)[:rows]), of(face, random(N, D)[:columns])
        found = (FACES[face].Vi(x) * FACES[face].Vj(y)).sum(axis=1)
        check(found, torch.zeros(rows, D, dtype=torch.complex128))


def test_equality() -> None:
    x = np.array([[1 + 1j, 2], [1 - 1j, 2j]])
    x_i, x_j = redcomp.numpy.Vi(x), redcomp.numpy.Vj(x)
    for other, dense in ((x_j, x[None]), (2, 2), (2j, 2j)):
        np.testing.assert_array_equal(
            (x_i == other).dense(), np.broadcast_to(x[:, None] == dense, (x_i == other)._shape)
        )
        np.testing.assert_array_equal(
            (x_i != other).dense(), np.broadcast_to(x[:, None] != dense, (x_i == other)._shape)
        )


def test_derivatives_of_expressions() -> None:
    """`grad` and `diff`: those of the real inner product of real and imaginary parts."""
    x, y, e = random(M, D), random(N, D), random(M, D)
    x_i, y_j, e_i = (redcomp.numpy.Vi(x), redcomp.numpy.Vj(y), redcomp.numpy.Vi(e))
    gradient = (x_i * y_j).grad(x_i, e_i)
    check(dense_of(gradient), torch.tensor(e[:, None] * y.conj()))
    check(dense_of((x_i * y_j).diff(x_i, e_i)), torch.tensor(e[:, None] * y))
    ones = redcomp.numpy.Vi(np.ones((M, D)))
    check(
        dense_of((abs(x_i).square() * abs(y_j)).grad(x_i, ones)),
        torch.tensor(2 * x[:, None] * abs(y)),
    )


@pytest.mark.thorough
def test_second_derivatives_and_mapped_calls() -> None:
    x, y = (torch.tensor(random(n, 2), requires_grad=True) for n in (4, 3))

    def reduced(x: Any, y: Any) -> Any:
        x_i, y_j = redcomp.torch.Vi(x), redcomp.torch.Vj(y)
        return ((x_i * y_j.conj()).sum(-1) * 0.3).exp() @ y

    assert torch.autograd.gradcheck(reduced, (x, y))
    assert torch.autograd.gradgradcheck(reduced, (x, y))
    batch = torch.tensor(random(5, 4, 2))
    mapped = torch.func.vmap(reduced, in_dims=(0, None))(batch, y.detach())
    check(mapped, torch.stack([reduced(entry, y.detach()) for entry in batch]))


# -- what is refused -------------------------------------------------------------------------------

# Public methods that mean for complex numbers what they say; the tests above and the table of
# expressions have their values.
MEANINGFUL = {
    "abs", "absolute", "add", "all", "angle", "any", "auto_factorize",
    "bias", "block", "cat", "concat", "concatenate", "conj", "conjugate",
    "complex_class", "dense", "diagonal", "diff", "dim", "div", "divide", "elem", "eq",
    "equal", "exp", "extract", "factorize", "grad", "inv",
    "log", "log10", "logical_and", "logical_not", "logical_or", "mask", "matmul",
    "matvec", "mean", "minus", "mul", "mult", "multiply", "ne", "neg",
    "negate", "negative", "norm", "norm2", "normalize", "not_equal", "notequal",
    "of_parts", "positive", "pow", "power", "powf", "prod", "real_class",
    "reciprocal", "reduction", "rmatvec", "rsqrt", "solve", "sqdist", "sqnorm2", "sqrt",
    "square", "std", "sub", "subtract", "sum", "sum_reduction", "t", "trace",
    "true_divide", "var", "where", "fabs", "inverse",
}  # fmt: skip
# Arguments with which the others are called: as many as they take.
FEW = [(), (1,), (1, 1), (1, 1, 1), ([1], [1]), (1, [1], [1]), (1, [1], [1], [0], [0])]


def test_nothing_acts_on_raw_parts() -> None:
    """What means nothing for complex numbers says so, whatever it is called with."""
    z = redcomp.numpy.Vi(random(M, D)) * redcomp.numpy.Vj(random(N, D))
    names = {n for n in dir(z) if not n.startswith("_") and callable(getattr(z, n, None))}
    assert names >= MEANINGFUL
    said = []
    for name in sorted(names - MEANINGFUL):
        messages = []
        for given_ in [*FEW, *((z,) * n for n in (1, 2, 3)), (z, 1), (z, 1, 1)]:
            with pytest.raises((ArgumentError, TypeError)) as error:
                getattr(z, name)(*given_)
            messages.append(str(error.value))
        said.append(any("complex" in message for message in messages))
        assert said[-1], f"{name}: {messages}"
    assert len(said) > 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z < w", "< is not defined for complex"),
        ("z >= 1", ">= is not defined for complex"),
        ("1 > z", "is not defined for complex"),
        ("z | w", "is not defined for complex"),
        ("z % 2", "Mod is not defined for complex"),
        ("z // 2", "Floor is not defined for complex"),
        ("r.atan2(z)", "Atan2 is not defined for complex"),
        ("(z | 1)", "is not defined for complex"),
        ("z.argmin(axis=1)", "ArgMin is not defined for complex"),
        ("z.Kmin(2, axis=1)", "KMin is not defined for complex"),
        ("z.real2complex()", "Real2Complex is not defined for complex"),
        ("z.exp1j()", "ComplexExp1j is not defined for complex"),
        ("r[0].logsumexp(axis=1, weight=z)", "the weights of LogSumExp are real"),
        ("z.sumsoftmaxweight(r, axis=1)", "the softmax is of real scores"),
        ("z[0].logsumexp(axis=1)", "z.exp().sum(axis) is the sum"),
        ("z.var(axis=1, out=np.empty((6, 3)))", "var takes no out"),
        ("z.var(axis=1, ddof=1, unbiased=True)", "say the same"),
        ("z[3]", "index 3 is out of range for vectors of dimension 3"),
        ("z[2:].elem(1)", "are not among 1"),
        ("z + w[:2]", "complex vectors of 3 and 2 components"),
        ("z * s[:2]", "complex vectors of 3 and 2 components"),
        ("z + Vj(np.ones((5, 3), 'f4'))", "dtype: float64 and float32"),
        ("z + Vj(np.ones((5, 3), 'c8'))", "dtype: float64 and float32"),
        ("z + Vi(np.ones((3, 3)))", "numbers of rows: 6 and 3"),
        ("LazyTensor([1j, 'a'])", "holds numbers"),
        ("Vi(np.ma.masked_equal([[1j], [2j]], 1j))", "is a masked array"),
        ("LazyTensor((0, 6, 0)).sum(axis=1)(np.ones((5, 3), complex))", "has dtype complex128"),
        ("Vi(np.ones((5, 3), np.clongdouble))", "dtype"),
        ("LazyTensor(np.ones((5, 3), complex))", "needs axis=0"),
        ("z @ w", "is no matrix"),
        ("z.sum(axis=1, out=np.empty((6, 3)))", "out must have shape"),
    ],
)
def test_errors(text: str, message: str) -> None:
    lazies = {n: redcomp.numpy.LazyTensor(a.numpy()) for n, a in arrays().items()}
    with pytest.raises(ArgumentError, match=re.escape(message)):
        eval(text, {**lazies, "np": np, **vars(redcomp.numpy)})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lazy: pickle.loads(pickle.dumps(lazy))])
def test_copies_of_symbols_take_complex_arrays(copied: Callable[[Any], Any]) -> None:
    x, y = random(M, 1), random(N, 1)
    z = redcomp.numpy.ComplexLazyTensor((0, 2, 0)) * redcomp.numpy.Vj(y)
    check(copied(z).sum(axis=1)(x), torch.tensor(x * y.sum()))
