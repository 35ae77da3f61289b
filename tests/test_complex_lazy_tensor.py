"""`ComplexLazyTensor` beside dense complex128 of PyTorch: needs the CPU, PyTorch.

An expression of the table is written twice: of LazyTensors, and of tensors of shape (M, N, D).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError

M, N, D = 6, 5, 3
Expression = Callable[..., Any]
FACES = {"numpy": redcomp.numpy, "torch": redcomp.torch}


def arrays(seed: int = 0) -> dict[str, torch.Tensor]:
    """z and w complex vectors of i and j, u and v complex scalars, r and s real ones, q and t."""
    random = np.random.default_rng(seed)

    def real(*shape: int) -> Any:
        # Away from zero: quotients and logarithms are of these.
        return random.uniform(0.4, 1.3, shape) * random.choice([-1, 1], shape)

    def both(*shape: int) -> Any:
        return real(*shape) + 1j * real(*shape)

    made = {
        "z": both(M, 1, D),
        "w": both(1, N, D),
        "u": both(M, 1, 1),
        "v": both(1, N, 1),
        "r": real(M, 1, D),
        "s": real(1, N, D),
        "q": real(M, 1, 1),
        "t": real(1, N, 1),
    }
    return {name: torch.tensor(value) for name, value in made.items()}


def of(face: str, array: Any) -> Any:
    """An array of NumPy's as the library's."""
    return torch.tensor(array) if face == "torch" else array


def components(x: Any) -> Any:
    return x.sum(-1, keepdim=True)


# Of LazyTensors, and of tensors where that is written otherwise.
EXPRESSIONS: dict[str, tuple[Expression, Expression]] = {}


def _same(*texts: str) -> None:
    for text in texts:
        names = sorted(set(re.findall(r"\b[zwuvrsqt]\b", text)))
        made = eval(f"lambda {', '.join(names)}: {text}", {"torch": torch, "abs": abs})
        EXPRESSIONS[text] = (made, made)


def _other(text: str, dense: str) -> None:
    names = sorted(set(re.findall(r"\b[zwuvrsqt]\b", text)))
    scope = {"torch": torch, "components": components, "abs": abs}
    made = [eval(f"lambda {', '.join(names)}: {body}", scope) for body in (text, dense)]
    EXPRESSIONS[text] = (made[0], made[1])


# Every operator of complex numbers with complex and real ones, scalars and vectors, both ways.
for _op in "+-*/":
    _same(*(f"{a} {_op} {b}" for a in "zu" for b in "wvst"))
    _same(*(f"{a} {_op} {b}" for a in "rq" for b in "wv"))
    _same(*(f"z {_op} {c}" for c in ("2", "-0.5", "(1.5 - 2j)", "20")))
    _same(*(f"{c} {_op} z" for c in ("2", "-0.5", "(1.5 - 2j)", "20")))
    _same(*(f"r {_op} {c}" for c in ("2j", "(1.5 - 2j)")), *(f"{c} {_op} r" for c in ("2j",)))
_same(*(f"(z + w) ** {n}" for n in (0, 1, 2, 3, 5, -1, -2)))
_same("z ** 0.5", "z ** -0.5", "z ** 1.5", "z ** 17", "z ** w", "z ** t", "u ** w", "z ** (1 + 2j)")
_same("2.5 ** z", "(1 - 2j) ** z")
_same("-(z * w)", "(z * w).conj()", "(z * w).real", "(z * w).imag", "(z + w).angle()")
_same("abs(z + w)", "(z * w).abs()", "(z - w).exp()", "(z * w).log()", "(z * w).sqrt()")
_same("(z * w).square()", "+(z + w)", "z * z.conj()", "(1j * z + w * 2).exp() / (2 - u)")
_other("(z * w).sum(-1)", "components(z * w)")
_other("(z * w).sum(dim=2)", "components(z * w)")
_other("(z * w).mean()", "components(z * w) / 3")
_other("(z * w.conj()).sum(-1).exp() * v", "components(z * w.conj()).exp() * v")
_other("(z * w).var(ddof=1)", "torch.var(z * w, -1, keepdim=True)")
_other("(z * w).std(ddof=0)", "torch.var(z * w, -1, correction=0, keepdim=True).sqrt()")
_other("(z * w).prod()", "(z * w).prod(-1, keepdim=True)")
_other("(z * w).inv()", "1 / (z * w)")
_other("(z * w).rsqrt()", "(z * w) ** -0.5")
_other("(z - w).norm2()", "components((z - w).abs() ** 2).sqrt()")
_other("(z - w).sqnorm2()", "components((z - w).abs() ** 2)")
_other("z.sqdist(w)", "components((z - w).abs() ** 2)")
_other("z.sqdist(t)", "components((z - t).abs() ** 2)")
_other("(z * w).normalize()", "z * w / components((z * w).abs() ** 2).sqrt()")
_other("r.real2complex() * w", "r * w")
_other("r.imag2complex() * s", "1j * r * s")
_other("(r * s).exp1j()", "torch.exp(1j * r * s)")
_other("r.conj() + s.real", "r + s")
_other("(z * w)[0]", "(z * w)[..., :1]")
_other("(z * w)[-1] * z", "(z * w)[..., -1:] * z")
_other("(z * w)[1:]", "(z * w)[..., 1:]")
_other("(z * w)[::-1]", "(z * w).flip(-1)")
_other("(z * w)[..., ::2]", "(z * w)[..., ::2]")
_other("(z * w).elem(1)", "(z * w)[..., 1:2]")
_other("(z * w).extract(1, 2)", "(z * w)[..., 1:3]")
_other("z.concat(w)", "torch.cat([z + 0 * w[..., :1], w + 0 * z[..., :1]], -1)")
_other("r.concat(w) * u", "torch.cat([r + 0 * w[..., :1], w + 0 * r[..., :1]], -1) * u")
_other("(s - r).ifelse(z, w)", "torch.where(s >= r, z + 0 * w, w + 0 * z)")
_other("(t - q).ifelse(z, r)", "torch.where(t >= q, z + 0 * t, r + 0j * t)")
_other("(s - q).ifelse(u, 1j)", "torch.where(s >= q, u + 0 * s, 1j + 0 * s * q)")
_other("(s > r).where(z, 2)", "torch.where(s > r, z + 0 * s, 2 + 0j * s * r)")


def names_of(text: str) -> list[str]:
    return sorted(set(re.findall(r"\b[zwuvrsqt]\b", text)))


def given(text: str, dtype: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The arguments of an expression in complex128 and float64, and in the precision of a dtype."""
    values = arrays()
    exact = [values[name] for name in names_of(text)]
    if dtype == "complex128":
        return exact, exact
    return exact, [t.to(torch.complex64 if t.is_complex() else torch.float32) for t in exact]


def weights() -> tuple[torch.Tensor, torch.Tensor]:
    """A number for each pair, so that every expression depends on both indices, and its factors."""
    random = np.random.default_rng(1)
    return torch.tensor(random.normal(size=(M, 1, 1))), torch.tensor(random.normal(size=(1, N, 1)))


def check(found: Any, expected: torch.Tensor) -> None:
    """Equal up to rounding, in the dtype of the result."""
    found = torch.as_tensor(found)
    assert found.is_complex() == expected.is_complex()
    tolerance = 1e-4 if found.dtype in (torch.complex64, torch.float32) else 1e-11
    size = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(
        found.to(expected.dtype), expected, rtol=tolerance, atol=tolerance * size
    )


@pytest.mark.sampled(8)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_values(text: str, axis: int, dtype: str) -> None:
    lazy, dense = EXPRESSIONS[text]
    exact, narrow = given(text, dtype)
    made = lazy(*[redcomp.numpy.LazyTensor(t.numpy()) for t in narrow])
    value = dense(*exact)
    assert isinstance(made, redcomp.numpy.ComplexLazyTensor) == value.is_complex()
    assert made._shape == tuple(value.shape)
    a, b = weights()
    a_i, b_j = [redcomp.numpy.LazyTensor(w.numpy().astype(made.real.dtype)) for w in (a, b)]
    check((made * a_i * b_j).sum(axis=axis), (value * a * b).sum(axis))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_gradients(text: str, axis: int) -> None:
    lazy, dense = EXPRESSIONS[text]
    tensors, _ = given(text, "complex128")
    for tensor in tensors:
        tensor.requires_grad_(True)
    a, b = weights()
    made = lazy(*map(redcomp.torch.LazyTensor, tensors))
    found = (made * redcomp.torch.LazyTensor(a) * redcomp.torch.LazyTensor(b)).sum(axis=axis)
    expected = (dense(*tensors) * a * b).sum(axis)
    check(found, expected)
    if expected.requires_grad:
        cotangent = torch.randn_like(expected)
        options = {"grad_outputs": cotangent, "allow_unused": True, "materialize_grads": True}
        gradients = torch.autograd.grad(found, tensors, **options)
        for mine, theirs in zip(
            gradients, torch.autograd.grad(expected, tensors, **options), strict=True
        ):
            check(mine, theirs)


# -- what complex LazyTensors are made of ----------------------------------------------------------


def dense_of(made: Any) -> torch.Tensor:
    """The values of a LazyTensor that depends on i and j at most."""
    return torch.as_tensor(made.dense()).reshape(made._shape)


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


def random(*shape: int) -> Any:
    """Complex numbers."""
    source = np.random.default_rng(len(shape))
    return source.normal(size=shape) + 1j * source.normal(size=shape)


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
    with pytest.raises(ArgumentError, match="pairs"):
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

# Public methods and attributes that mean for complex numbers what they say; the tests above and the
# table have their values.
MEANINGFUL = {
    "T", "abs", "absolute", "add", "all", "angle", "any", "auto_factorize", "axis", "backend",
    "batchdims", "bias", "block", "cat", "concat", "concatenate", "conj", "conjugate",
    "complex_class", "dense", "diagonal", "diff", "dim", "div", "divide", "dtype", "elem", "eq",
    "equal", "exp", "extract", "factorize", "formula", "formula2", "grad", "imag", "inv",
    "is_complex", "library", "log", "log10", "logical_and", "logical_not", "logical_or", "mask",
    "matmul", "matvec", "mean", "minus", "mul", "mult", "multiply", "nbatchdims", "ndim", "ne",
    "neg",
    "negate", "negative", "ni", "nj", "norm", "norm2", "normalize", "not_equal", "notequal",
    "of_pairs", "pairs", "positive", "pow", "power", "powf", "prod", "ranges", "real", "real_class",
    "reciprocal", "reduction", "rmatvec", "rsqrt", "shape", "solve", "sqdist", "sqnorm2", "sqrt",
    "square", "std", "sub", "subtract", "sum", "sum_reduction", "symbolic_variables", "t", "trace",
    "true_divide", "var", "variables", "where", "fabs", "inverse",
}  # fmt: skip
# Arguments with which the others are called: as many as they take.
FEW = [(), (1,), (1, 1), (1, 1, 1), ([1], [1]), (1, [1], [1]), (1, [1], [1], [0], [0])]


def test_nothing_acts_on_raw_parts() -> None:
    """What means nothing for complex numbers says so, whatever it is called with."""
    z = redcomp.numpy.Vi(random(M, D)) * redcomp.numpy.Vj(random(N, D))
    names = {name for name in dir(z) if not name.startswith("_")}
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
        ("r.sumsoftmaxweight(z, axis=1)", "are real, not complex"),
        ("z.var(axis=1)", "over i or j"),
        ("z[3]", "index 3 is not below 3"),
        ("z[2:].elem(1)", "are not among 1"),
        ("z + w[:2]", "complex vectors of 3 and 2 components"),
        ("z * s[:2]", "complex vectors of 3 and 2 components"),
        ("z + Vj(np.ones((5, 3), 'f4'))", "dtype: float64 and float32"),
        ("z + Vj(np.ones((5, 3), 'c8'))", "dtype: float64 and float32"),
        ("z + Vi(np.ones((3, 3)))", "numbers of rows: 6 and 3"),
        ("LazyTensor([1j, 'a'])", "holds numbers"),
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
