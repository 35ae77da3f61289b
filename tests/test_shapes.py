"""The shapes in which arguments may come, by a table checked with KeOps: CPU, PyTorch.

`scripts/keops_shapes.py` writes the table; values are compared with dense float64 computations.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shape_programs import PROGRAMS, arguments, given_as

import redcomp
import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.shapes import full_shapes

pytestmark = pytest.mark.slow

Tensor = torch.Tensor
FACES: dict[str, Any] = {"numpy": redcomp.numpy, "torch": redcomp.torch}
TABLE: list[dict[str, Any]] = json.loads((Path(__file__).parent / "keops_shapes.json").read_text())
TAKEN = [case for case in TABLE if case["full"] is not None]
REFUSED = [case for case in TABLE if case["full"] is None]
DIFFERENTIABLE = [name for name, program in PROGRAMS.items() if "nearest" not in name
                  and program.constructor != "generic_argmin"]  # fmt: skip


def taken(name: str) -> list[tuple[list[Any], list[tuple[int, ...]]]]:
    """The shapes in which a program's arguments come, and those that they stand for."""
    return [
        (case["given"], [tuple(shape) for shape in case["full"]])
        for case in TAKEN
        if case["program"] == name
    ]


def close(result: Any, expected: Tensor) -> bool:
    result = torch.as_tensor(result)
    return result.shape == expected.shape and torch.allclose(
        result.double(), expected.double(), rtol=1e-9, atol=1e-9
    )


def test_the_table_is_large_and_agrees_with_keops() -> None:
    """Where KeOps has the dense result it has the shape that we give; the table says where."""
    same = [case for case in TAKEN if "same" in case["keops"].values()]
    assert len(TABLE) >= 200
    assert len(same) >= 200
    assert {case["program"] for case in same} == set(PROGRAMS)
    assert len(REFUSED) >= 20
    for case in TAKEN:
        values = arguments(PROGRAMS[case["program"]], [tuple(shape) for shape in case["full"]])
        assert list(PROGRAMS[case["program"]].dense(*values).shape) == case["result"]


@pytest.mark.sampled(60)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_results(name: str, face: str) -> None:
    program = PROGRAMS[name]
    op = program.made(FACES[face])
    wrong = []
    for came, full in taken(name):
        values = arguments(program, full)
        args = [given_as(v, s, as_array=face == "numpy") for v, s in zip(values, came, strict=True)]
        expected = program.dense(*values)
        if program.unknown and came[-1] != list(full[-1]):
            expected = expected[..., 0]  # a solution has the form of b
        if not close(op(*args), expected):
            wrong.append(came)
    assert not wrong


@pytest.mark.sampled(16)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_have_the_shapes_of_arguments(name: str) -> None:
    program = PROGRAMS[name]
    op, wrong = program.made(redcomp.torch), []
    for came, full in taken(name):
        values = arguments(program, full)
        gradients = []
        for function in (lambda *a: op(*a).flatten(), of_given(program.dense, full)):
            leaves = leaves_of(values, came)
            result = function(*leaves)
            weights = torch.linspace(-1, 2, result.numel(), dtype=torch.float64)
            wanted = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            gradients.append(torch.autograd.grad((result * weights).sum(), wanted))
        if not all(map(close, *gradients)):
            wrong.append(came)
    assert not wrong


@pytest.mark.sampled(16)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's forward mode, about itself
@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if not PROGRAMS[n].unknown])
def test_tangents_have_the_shapes_of_arguments(name: str) -> None:
    program = PROGRAMS[name]
    op, wrong = program.made(redcomp.torch), []
    for came, full in taken(name):
        if None in came:
            continue  # a number has no tangent
        values = arguments(program, full)
        point = tuple(given_as(v, s) for v, s in zip(values, came, strict=True))
        along = tuple(torch.cos(3 * p) for p in point)
        _, ours = torch.func.jvp(lambda *a: op(*a).flatten(), point, along)
        _, expected = torch.func.jvp(of_given(program.dense, full), point, along)
        if not close(ours, expected):
            wrong.append(came)
    assert not wrong


def of_given(dense: Callable[..., Tensor], full: Sequence[tuple[int, ...]]) -> Any:
    """The dense computation as a function of the arguments as they come."""

    def function(*given: Any) -> Tensor:
        values = [
            torch.as_tensor(a, dtype=torch.float64).reshape(s)
            for a, s in zip(given, full, strict=True)
        ]
        return dense(*values).flatten()

    return function


def leaves_of(values: Sequence[Tensor], given: Sequence[Any]) -> list[Any]:
    made = [given_as(v, s) for v, s in zip(values, given, strict=True)]
    return [a.clone().requires_grad_() if isinstance(a, Tensor) else a for a in made]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: str(case["given"]))
def test_what_fits_no_reading_is_an_error(case: dict[str, Any], face: str) -> None:
    """KeOps takes most of these, and reads what lies behind an array or leaves some of it out."""
    program = PROGRAMS[case["program"]]
    shapes = [tuple(shape) for shape in case["given"]]
    values = arguments(program, shapes)
    args = [given_as(v, s, as_array=face == "numpy") for v, s in zip(values, shapes, strict=True)]
    with pytest.raises(ArgumentError, match=r"argument '[a-z]' "):
        program.made(FACES[face])(*args)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": (3, 4)}, r"'b' must have shape \(N, 1\) or \(N,\).*\(3, 4\)"),
        ({"c": (1, 5)}, r"'c' must have shape \(M, 1\) or \(M,\).*\(1, 5\)"),
        ({"y": (4,)}, r"'y' must have shape \(N, 2\), as.*\(4,\)"),
        ({"p": (2,)}, r"'p' must have shape \(1,\), \(\) or \(1, 1\).*\(2,\)"),
        ({"q": (3,)}, r"'q' must have shape \(2,\), \(1, 2\) or \(2, 1\).*\(3,\)"),
        ({"c": ()}, r"'c' must have shape \(M, 1\) or \(M,\).*\(\)"),
        ({"b": (5,)}, "'b' has 5 rows, but 'y' has 4"),
        ({"b": (5, 1)}, "'b' has 5 rows, but 'y' has 4"),
        ({"x": (3, 5, 2), "b": (2, 4)}, r"'b' has batch dimensions \(2,\).*\(3,\)"),
        ({"x": (3, 5, 2), "q": (2, 1, 2)}, r"'q' has batch dimensions \(2,\).*\(3,\)"),
    ],
)
def test_errors_say_which_shapes_are_taken(change: dict[str, Any], message: str) -> None:
    program = PROGRAMS["points"]
    shapes = {"x": (5, 2), "y": (4, 2), "b": (4, 1), "c": (5, 1), "p": (1,), "q": (2,)}
    with pytest.raises(ArgumentError, match=message):
        program.made(redcomp.numpy)(*map(np.ones, {**shapes, **change}.values()))


BATCH = st.lists(st.sampled_from([1, 2, 3]), max_size=3).map(tuple)


@given(BATCH, st.integers(0, 3), st.integers(0, 3), st.data())
def test_full_shapes_are_read_as_they_are(batch: Any, m: int, n: int, data: Any) -> None:
    """Whatever the batch, of which each argument may have less, as NumPy broadcasts."""

    def own() -> tuple[int, ...]:
        some = batch[data.draw(st.integers(0, len(batch))) :]
        return tuple(data.draw(st.sampled_from([1, size])) for size in some)

    x, y, b, c = (*own(), m, 2), (*own(), n, 2), (*own(), n, 1), (*own(), m, 1)
    axes = max(len(shape) - 2 for shape in (x, y, b, c))
    p, q = ((*own()[-axes or 3 :], dim) for dim in (1, 2))
    given_shapes = (x, y, b, c, p, q)
    assert full_shapes(POINTS, given_shapes) == given_shapes


@given(BATCH, st.integers(0, 3), st.integers(0, 3), st.sampled_from(["row", "column", "short"]))
def test_shorter_shapes_stand_for_full_ones(batch: Any, m: int, n: int, form: str) -> None:
    """In any batch, with any number of rows, one too, since others tell it."""
    own = ((m, 2), (n, 2), (n, 1), (m, 1), (1,), (2,))
    full = x, y, b, c, p, q = tuple((*batch, *axes) for axes in own)
    shapes = {
        "row": (x, y, b, c, (*batch, 1, 1), (*batch, 1, 2)),
        "column": (x, y, b, c, (*batch, 1, 1), (*batch, 2, 1)),
        "short": (x, y, b[:-1], c[:-1], p, q),
    }[form]
    read = full_shapes(POINTS, shapes)
    # The one exception: (..., 1, 1) beside one row can be a full shape with an axis less.
    unclear = {k for k in (2, 3) if form == "short" and shapes[k][-2:] == (1, 1)}
    assert [s for k, s in enumerate(read) if k not in unclear] == [
        s for k, s in enumerate(full) if k not in unclear
    ]


POINTS = redcomp.numpy.Genred(
    PROGRAMS["points"].formula, PROGRAMS["points"].aliases, axis=0
).reduction


# -- numbers ---------------------------------------------------------------------------------------

SUM = ("x*y*p", ["x=Vi(1)", "y=Vj(1)", "p=Pm(1)"])
REAL = [2, 2.0, np.float32(2), np.float64(2), np.int8(2), np.float16(2)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("face", [*FACES, "any"])
def test_a_number_takes_the_dtype_of_the_arrays(face: str, dtype: str) -> None:
    op = {**FACES, "any": redcomp}[face].Genred(*SUM, axis=1)
    x, y = np.ones(3, dtype), np.ones(4, dtype)
    for value in (*REAL, True, np.True_):
        given = (x, y) if face == "numpy" else (torch.tensor(x), torch.tensor(y))
        result = op(*given, value)
        assert str(result.dtype).endswith(dtype)
        assert result.shape == (3, 1)
        np.testing.assert_array_equal(np.asarray(result), 4 * float(value))


@pytest.mark.parametrize("face", FACES)
def test_arrays_without_axes_take_the_dtype_of_others(face: str) -> None:
    make = np.asarray if face == "numpy" else torch.tensor
    op = FACES[face].Genred(*SUM, axis=1)
    x, y = np.ones(3), np.ones(4)
    given = [make(x), make(y)]
    for dtype in (np.float64, np.float32, np.float16, np.int64):
        result = op(*given, make(np.array(2.0, dtype)))
        assert result[0, 0] == 8
        assert result.dtype == given[0].dtype
    with pytest.raises(ArgumentError, match=r"'p' has dtype .*float32"):
        op(*given, make(np.array([2.0], np.float32)))


@pytest.mark.parametrize("face", FACES)
def test_numbers_that_are_integers(face: str) -> None:
    make = np.asarray if face == "numpy" else torch.tensor
    op = FACES[face].Genred("x*k", ["x=Vi(1)", "k=Pm(1, int)"], axis=1)
    x = make(np.ones(3, np.float32))
    for value in (3, np.int16(3), True):
        assert op(x, value).flatten().tolist() == [int(value)] * 3
    for value in (3.0, np.float32(3)):
        with pytest.raises(ArgumentError, match=r"'k' is .*its alias says integers"):
            op(x, value)
    for large in (2**40, 2**80):
        with pytest.raises(ArgumentError, match=f"'k' has the value {large}"):
            op(x, large)


def test_numbers_only() -> None:
    for op, dtype in ((redcomp.numpy, "float64"), (redcomp.torch, "torch.float32")):
        result = op.Genred("p*q", ["p=Pm(1)", "q=Pm(1)"], axis=1)(2.0, 3)
        assert (result.shape, str(result.dtype), float(result[0, 0])) == ((1, 1), dtype, 6.0)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("face", FACES)
def test_numbers_that_are_not_finite(face: str, value: float) -> None:
    make = np.asarray if face == "numpy" else torch.tensor
    op = FACES[face].Genred(*SUM, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = op(make(np.ones(3, np.float32)), make(np.ones(4, np.float32)), value)
    np.testing.assert_array_equal(np.asarray(result), np.float32(value))


# -- every way of autograd -------------------------------------------------------------------------

PATHS: dict[str, tuple[Any, dict[str, Any], Sequence[str]]] = {
    "Sum": ("Exp(-Square(x-y)*p)*b*(q|w)", {}, ()),
    "LogSumExp": ("Square(x-y)*p*b*(q|w)", {"reduction_op": "LogSumExp"}, ()),
    "Min": ("Square(x-y)*p*b*w*q", {"reduction_op": "Min"}, ()),
    "KMin": ("Square(x-y)*p*b*(q|w)", {"reduction_op": "KMin", "opt_arg": 2}, ()),
    "table": ("x*y*p*b*(q|w)*Gather(q, Ind_i() - 1)", {}, ()),
    "pairs": ("x*y*p*b*(q|w)*m", {}, ("m=Vij(1)",)),
    "several": (["x*y*p*b*(q|w)", "x*Square(y)*p*b*Sum(q)*Sum(w)"], {}, ()),
}
ALIASES = ["x=Vi(1)", "y=Vj(1)", "b=Vj(1)", "p=Pm(1)", "q=Pm(3)", "w=Vj(3)"]
FORMS = {
    "plain": ((5,), (4,), (4,), (), (3, 1)),
    "rows": ((5, 1), (4,), (4, 1), (1, 1), (1, 3)),
    "batch": ((2, 5), (2, 4), (4,), (2,), (2, 1, 3)),
    "columns": ((2, 5, 1), (2, 4, 1), (2, 4), (2, 1, 1), (3, 1)),
}


def reading(shape: tuple[int, ...], what: str) -> tuple[int, ...]:
    """The full shape that a shape of `FORMS` stands for."""
    if what.startswith("Pm"):
        size, batch = int(what[3:-1]), (2,) if shape[:1] == (2,) else ()
        return (*batch, size)
    return shape if shape[-1] == 1 else (*shape, 1)


@pytest.mark.sampled(72)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's forward mode, about itself
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", PATHS)
def test_derivatives_of_any_order_and_mode(path: str, form: str) -> None:
    """Those in full shapes, brought into the shapes that the arguments have."""
    formula, options, more = PATHS[path]
    op = redcomp.torch.Genred(formula, [*ALIASES, *more], axis=1, **options)
    full = [reading(s, a.split("=")[1]) for s, a in zip(FORMS[form], ALIASES, strict=False)]
    generator = torch.Generator().manual_seed(1)
    values = [0.5 + torch.rand(s, generator=generator).double() for s in [*full, (4, 3)]]
    values += [torch.rand(5, 4, 1, generator=generator).double() for _ in more]
    shapes = [*FORMS[form], *(v.shape for v in values[5:])]

    def functional(*args: Tensor) -> Tensor:
        results = op(*args)
        return sum(
            (torch.sin(r) ** 2).sum()
            for r in (results if isinstance(results, tuple) else (results,))
        )

    found = [
        derivatives(functional, values, these) for these in (shapes, [v.shape for v in values])
    ]
    for ours, expected, shape in zip(*found, [*shapes, *shapes, ()], strict=True):
        assert ours.shape == shape
        torch.testing.assert_close(ours, expected.reshape(shape), rtol=1e-10, atol=1e-12)


def derivatives(functional: Any, values: Sequence[Tensor], shapes: Sequence[Any]) -> list[Tensor]:
    """First and second order, and along a tangent."""
    leaves = [v.reshape(s).clone().requires_grad_() for v, s in zip(values, shapes, strict=True)]
    first = torch.autograd.grad(functional(*leaves), leaves, create_graph=True)
    second = torch.autograd.grad(sum((torch.cos(g) ** 2).sum() for g in first), leaves)
    point = tuple(leaf.detach() for leaf in leaves)
    _, along = torch.func.jvp(functional, point, tuple(torch.cos(3 * p) for p in point))
    return [*first, *second, along]


@pytest.mark.thorough
def test_gradcheck() -> None:
    """By finite differences, which know nothing of shapes."""
    op = redcomp.torch.Genred("Exp(-Square(x-y)*p)*b*(q|w)", ALIASES, axis=1)
    leaves = [torch.rand(s).double().requires_grad_() for s in [*FORMS["batch"], (4, 3)]]
    assert torch.autograd.gradcheck(op, leaves)
    assert torch.autograd.gradgradcheck(op, leaves, fast_mode=True)


# -- what else has shapes --------------------------------------------------------------------------


def test_out_has_the_shape_of_the_result() -> None:
    op = redcomp.numpy.Genred(*SUM, axis=1)
    out = np.empty((2, 3, 1))
    assert op(np.ones((2, 3)), np.ones((2, 4)), 1.0, out=out) is out
    assert (out == 4).all()
    with pytest.raises(ArgumentError, match="out must have shape"):
        op(np.ones((2, 3)), np.ones((2, 4)), 1.0, out=np.empty((2, 3)))


def test_alpha_broadcasts_to_the_solution() -> None:
    aliases = ["x=Vi(1)", "y=Vj(1)", "a=Vj(1)"]
    x, alpha = np.linspace(0, 1, 5), np.linspace(0.5, 2, 5)
    b = np.cos(x)
    exact = np.linalg.solve(np.exp(-(np.subtract.outer(x, x) ** 2)) + np.diag(alpha), b)
    for face, make in (("numpy", np.asarray), ("torch", torch.tensor)):
        op = FACES[face].KernelSolve("Exp(-SqDist(x,y))*a", aliases, "a", axis=1)
        for shape in ((5,), (5, 1)):
            given = [make(a) for a in (x, x, b.reshape(shape))]
            solution = op(*given, alpha=make(alpha.reshape(shape)), eps=1e-12)
            assert solution.shape == shape
            np.testing.assert_allclose(np.asarray(solution).flatten(), exact, rtol=1e-9)
