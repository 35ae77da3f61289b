"""Complex operations against PyTorch's complex numbers: needs the CPU, PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import reference_complex
import torch
from agreement import assert_as_reference

import redcomp.numpy
from redcomp.errors import FormulaError
from redcomp.ir import topological
from redcomp.ops import SPELLINGS
from redcomp.torch import Genred

pytestmark = pytest.mark.slow

ROWS, COLUMNS = 19, 14
UNARY = [
    "ComplexReal", "ComplexImag", "Conj", "ComplexAbs", "ComplexSquareAbs", "ComplexAngle",
    "ComplexSum", "ComplexExp",
]  # fmt: skip
BINARY = ["ComplexAdd", "ComplexSubtract", "ComplexMult", "ComplexDivide"]
OF_REALS = ["Real2Complex", "Imag2Complex", "ComplexExp1j"]
DIMS = [2, 6, 40]  # the last is more than is written out: a loop

both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
both_axes = pytest.mark.parametrize("axis", [0, 1])


def numbers(alias: str, seed: int) -> torch.Tensor:
    """Values for an argument whose complex numbers are away from zero and from the negatives."""
    kind, dim = alias.split("=")[1].strip(" )").split("(")
    rows = {"Vi": (ROWS,), "Vj": (COLUMNS,), "Pm": ()}[kind]
    values = np.random.default_rng(seed).uniform(0.3, 1.5, (*rows, int(dim)))
    return torch.from_numpy(values.astype(np.float32))


def check(formula: str, aliases: list[str], dtype: Any, axis: int, order: int = 2) -> None:
    tensors = [numbers(alias, seed) for seed, alias in enumerate(aliases)]
    assert_as_reference(formula, aliases, tensors, dtype, axis, order)


def test_every_complex_operation_is_known_to_the_reference() -> None:
    rows = {row.spelling for row in SPELLINGS.values() if row.section == "Complex numbers"}
    assert rows == set(reference_complex.OPERATIONS)


@pytest.mark.sampled(136)
@both_dtypes
@both_axes
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", UNARY)
def test_of_one_vector(name: str, dim: int, axis: int, dtype: Any) -> None:
    """Of a vector that differs from pair to pair; x + y is away from where angles jump."""
    check(f"{name}(x + y) * w", [f"x=Vi({dim})", f"y=Vj({dim})", "w=Vj(1)"], dtype, axis)


@pytest.mark.sampled(156)
@both_dtypes
@both_axes
@pytest.mark.parametrize("dims", [(2, 2), (6, 6), (2, 6), (6, 2), (40, 40), (2, 40), (40, 2)])
@pytest.mark.parametrize("name", BINARY)
def test_of_two_vectors(name: str, dims: tuple[int, int], axis: int, dtype: Any) -> None:
    f, g = dims
    check(f"{name}(x, y) * w", [f"x=Vi({f})", f"y=Vj({g})", "w=Vj(1)"], dtype, axis)


@pytest.mark.sampled(208)
@both_dtypes
@both_axes
@pytest.mark.parametrize("dim", [1, 3, 5, 20, 21])
@pytest.mark.parametrize("name", OF_REALS)
def test_of_reals(name: str, dim: int, axis: int, dtype: Any) -> None:
    check(f"{name}(x - y) * w", [f"x=Vi({dim})", f"y=Vj({dim})", "w=Vj(1)"], dtype, axis)


@pytest.mark.sampled(32)
@both_dtypes
@both_axes
@pytest.mark.parametrize("dims", [(1, 1), (3, 3), (1, 3), (3, 1), (21, 21), (1, 21), (21, 1)])
def test_of_two_reals(dims: tuple[int, int], axis: int, dtype: Any) -> None:
    f, g = dims
    check("Complex(x, y) * w", [f"x=Vi({f})", f"y=Vj({g})", "w=Vj(1)"], dtype, axis)


@pytest.mark.sampled(48)
@both_dtypes
@both_axes
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(
    "formula",
    ["ComplexScal(s, y)", "ComplexRealScal(r, y)", "ComplexRealScal(y, r)", "ComplexSumT(s, {d})"],
)
def test_with_scalars(formula: str, dim: int, axis: int, dtype: Any) -> None:
    aliases = ["s=Vi(2)", f"y=Vj({dim})", "r=Vi(1)", "w=Vj(1)"]
    check(f"{formula.format(d=dim)} * w", aliases, dtype, axis)


@pytest.mark.sampled(54)
@both_axes
@pytest.mark.parametrize("dim", [1, 3, 5, 21])
@pytest.mark.parametrize("name", BINARY)
def test_reals_of_odd_dimension_have_gradients(name: str, dim: int, axis: int) -> None:
    """A real variable's gradients are real: KeOps adds them up as complex ones, and fails."""
    formula = f"{name}(Real2Complex(x), Real2Complex(x) + Imag2Complex(y))"
    check(formula, [f"x=Vi({dim})", f"y=Vj({dim})"], torch.float64, axis)
    check(f"{name}(Real2Complex(x), ComplexExp1j(x - y))", [f"x=Vi({dim})", f"y=Vj({dim})"],
          torch.float64, axis)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("dim", [2, 40])
def test_gradients_in_formulas(dim: int) -> None:
    """To third order: twice in the formula, and once by PyTorch."""
    first = "Grad(ComplexMult(ComplexExp(ComplexMult(x, y)), y), x, e)"
    aliases = [f"x=Vi({dim})", f"y=Vj({dim})", f"e=Vi({dim})"]
    check(first, aliases, torch.float64, 1)
    check(f"Grad({first}, x, y)", aliases, torch.float64, 1, order=1)


def test_convention_is_that_of_the_real_inner_product() -> None:
    """The gradient of f g for f is conj(g) e; that of a holomorphic function, conj(f') e."""
    z, g, e = (complex(*pair) for pair in ((0.3, -1.2), (2.0, 0.5), (-0.7, 1.1)))
    arrays = [np.array([[number.real, number.imag]]) for number in (z, g, e)]
    aliases = ["z=Vi(2)", "g=Vj(2)", "e=Vi(2)"]
    for formula, expected in (
        ("ComplexMult(z, g)", g.conjugate() * e),
        ("ComplexDivide(g, z)", (-g / z**2).conjugate() * e),
        ("Conj(z) + g * 0", e.conjugate()),
    ):
        result = redcomp.numpy.Genred(f"Grad({formula}, z, e)", aliases, axis=1)(*arrays)
        np.testing.assert_allclose(result, [[expected.real, expected.imag]], rtol=1e-14)


# -- whole programs, against NumPy's complex numbers -----------------------------------------------


def inner(x: Any, y: Any) -> Any:
    return (x * y).sum(-1, keepdims=True)


# Of real x and y and complex b and c, all broadcast to pairs.
PROGRAMS = {
    "ComplexMult(ComplexExp1j((x|y)), b)": lambda x, y, b, c: np.exp(1j * inner(x, y)) * b,
    "ComplexMult(ComplexExp(Real2Complex(-SqDist(x,y)) + Imag2Complex((x|y))), b)": (
        lambda x, y, b, c: np.exp(-inner(x - y, x - y) + 1j * inner(x, y)) * b
    ),
    "ComplexDivide(b, ComplexSubtract(c, b) + Real2Complex(IntCst(4)+0*x))": (
        lambda x, y, b, c: b / (c - b + 4)
    ),
    "ComplexMult(ComplexSum(ComplexMult(c, Conj(b))), b)": (
        lambda x, y, b, c: inner(c, b.conj()) * b
    ),
    "ComplexRealScal(Exp(-Sum(ComplexAbs(c - b))), ComplexMult(b, c))": (
        lambda x, y, b, c: np.exp(-abs(c - b).sum(-1, keepdims=True)) * b * c
    ),
    "ComplexMult(ComplexExp1j(ComplexAngle(b)), ComplexSumT(ComplexSum(c), {d}))": (
        lambda x, y, b, c: np.exp(1j * np.angle(b)) * c.sum(-1, keepdims=True)
    ),
}


@pytest.mark.sampled(180)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pairs", [1, 3, 20])
@pytest.mark.parametrize("program", PROGRAMS)
def test_program_is_that_of_numpy(program: str, pairs: int, dtype: Any) -> None:
    random = np.random.default_rng(pairs)
    reals = [random.normal(size=(n, pairs)) for n in (ROWS, COLUMNS, COLUMNS, COLUMNS, ROWS, ROWS)]
    x, y, *parts = (0.5 * real.astype(dtype) for real in reals)
    b, c = parts[0] + 1j * parts[1], parts[2] + 1j * parts[3]
    x64, y64, b128, c128 = (a.astype(np.result_type(a, np.float64)) for a in (x, y, b, c))
    terms = PROGRAMS[program](x64[:, None], y64[None], b128[None], c128[:, None])
    expected = np.broadcast_to(terms, (ROWS, COLUMNS, pairs)).sum(axis=1)
    aliases = [f"x=Vi({pairs})", f"y=Vj({pairs})", f"b=Vj({2 * pairs})", f"c=Vi({2 * pairs})"]
    op = redcomp.numpy.Genred(program.format(d=2 * pairs), aliases, axis=1)
    result = op(x, y, b.view(dtype), c.view(dtype)).view(b.dtype)
    size = np.abs(terms).sum(axis=1).max()
    np.testing.assert_allclose(result, expected, atol=100 * np.finfo(dtype).eps * size)


# -- special values --------------------------------------------------------------------------------

# Formula in z, value of z, expected gradient for a cotangent of ones.
CONVENTIONS = [
    ("ComplexAbs(z)", (0.0, 0.0), (0.0, 0.0)),
    ("ComplexAbs(z)", (-3.0, 4.0), (-0.6, 0.8)),
    ("ComplexSquareAbs(z)", (0.0, 0.0), (0.0, 0.0)),
    ("ComplexAngle(z)", (0.0, 0.0), (math.nan, math.nan)),
    ("ComplexAngle(z)", (0.0, 2.0), (-0.5, 0.0)),
    ("ComplexReal(z)", (1.0, math.inf), (1.0, 0.0)),
    ("ComplexImag(z)", (math.nan, 1.0), (0.0, 1.0)),
]


@pytest.mark.sampled(49)
@pytest.mark.parametrize(("formula", "at", "expected"), CONVENTIONS)
def test_gradient_at_special_points(
    formula: str, at: Sequence[float], expected: Sequence[float]
) -> None:
    op = Genred(f"{formula} * w", ["z=Vi(2)", "w=Vj(1)"], axis=1)
    z = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(op(z, torch.ones(1, 1, dtype=torch.float64)).sum(), z)
    np.testing.assert_allclose(slope.numpy(), [expected], rtol=1e-15)


def test_modulus_has_second_gradients_of_zero_at_zero() -> None:
    op = Genred("ComplexAbs(z) * w", ["z=Vi(2)", "w=Vj(1)"], axis=1)
    z, w = torch.zeros(3, 2, requires_grad=True), torch.ones(2, 1)
    (first,) = torch.autograd.grad(op(z, w).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    assert (second == 0).all()


INF, NAN = math.inf, math.nan
VALUES = [
    ("ComplexAngle(z)", (-1.0, 0.0), (math.pi,)),
    ("ComplexAngle(z)", (-1.0, -0.0), (-math.pi,)),
    ("ComplexAngle(z)", (0.0, 0.0), (0.0,)),
    ("ComplexAbs(z)", (INF, -1.0), (INF,)),
    ("ComplexAbs(z)", (NAN, 1.0), (NAN,)),
    ("ComplexExp(z)", (-INF, 1.0), (0.0, 0.0)),
    ("ComplexExp(z)", (0.0, 0.0), (1.0, 0.0)),
    ("ComplexExp1j(ComplexReal(z))", (INF, 0.0), (NAN, NAN)),
    ("ComplexDivide(Real2Complex(IntCst(1)), z)", (0.0, 0.0), (NAN, NAN)),
    ("ComplexDivide(Real2Complex(IntCst(1)), z)", (0.0, 2.0), (0.0, -0.5)),
    # What one part is does not reach the other.
    ("Conj(z)", (NAN, 1.0), (NAN, -1.0)),
    ("Real2Complex(ComplexReal(z))", (2.0, NAN), (2.0, 0.0)),
    ("Imag2Complex(ComplexImag(z))", (INF, 2.0), (0.0, 2.0)),
]


@pytest.mark.sampled(270)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("copies", [1, 12])  # written out, and in a loop
@pytest.mark.parametrize(("formula", "at", "expected"), VALUES)
def test_value_at_special_points(
    formula: str, at: Sequence[float], expected: Sequence[float], copies: int, dtype: Any
) -> None:
    # Of a choice between a row's and a column's vector, so that nothing leaves the pair loop.
    formula = formula.replace("z", "IfElse(w, z, v)")
    aliases = [f"z=Vi({2 * copies})", f"v=Vj({2 * copies})", "w=Vj(1)"]
    z = np.tile(np.array([at], dtype), copies)
    result = redcomp.numpy.Genred(formula, aliases, axis=1)(
        z, np.ones_like(z), np.ones((1, 1), dtype)
    )
    wanted = np.tile(np.array([expected], dtype), copies)
    np.testing.assert_allclose(result, wanted, rtol=4 * np.finfo(dtype).eps)


# -- what does not fit -----------------------------------------------------------------------------

ODD = "a complex vector holds pairs (re, im): its dimension is even, not 3"
MISFITS = [
    *((f"{name}(x)", ODD) for name in UNARY),
    *((f"{name}(x, z)", ODD) for name in BINARY),
    *((f"{name}(z, x)", ODD) for name in BINARY),
    *(
        (f"{name}(z, u)", "complex dimensions 4, 6 do not fit: they must be equal, or 2")
        for name in BINARY
    ),
    ("ComplexAdd(r, z)", "its dimension is even, not 1"),
    ("ComplexScal(z, u)", "first operand is a complex scalar, of dimension 2, not 4"),
    ("ComplexScal(s, x)", ODD),
    ("ComplexRealScal(s, z)", "needs a real scalar among its operands, not 2 and 4"),
    ("ComplexRealScal(r, x)", ODD),
    ("ComplexRealScal(r, r)", "its dimension is even, not 1"),
    ("ComplexSumT(z, 8)", "of dimension 2, to an even dimension; it got dimensions 4 and 8"),
    ("ComplexSumT(s, 7)", "it got dimensions 2 and 7"),
    ("ComplexSumT(s, 0)", "it got dimensions 2 and 0"),
    ("ComplexSumT(s, -2)", "it got dimensions 2 and -2"),
]


@pytest.mark.parametrize(("formula", "message"), MISFITS)
def test_dimensions_that_do_not_fit(formula: str, message: str) -> None:
    aliases = ["x=Vi(3)", "z=Vi(4)", "u=Vj(6)", "s=Vj(2)", "r=Vj(1)"]
    with pytest.raises(FormulaError) as caught:
        redcomp.numpy.Genred(f"1 + {formula}", aliases, axis=1)
    assert message in str(caught.value)
    assert caught.value.start == len("1 + ")


# -- what becomes of them --------------------------------------------------------------------------


def operations(formula: str, aliases: list[str]) -> dict[str, int]:
    return dict(redcomp.numpy.Genred(formula, aliases, axis=1).lower("float32").operations)


def test_short_product_is_four_multiplications() -> None:
    counts = operations("ComplexMult(x, y)", ["x=Vi(2)", "y=Vj(2)"])
    assert counts == {"multiply": 2, "fma": 2, "negate": 1, "add": 2}


def test_gradient_of_a_product_is_a_product() -> None:
    aliases = ["x=Vi(2)", "y=Vj(2)", "e=Vj(2)"]
    counts = operations("ComplexMult(e, Conj(y)) * Sum(x)", aliases)
    assert operations("Grad(ComplexMult(x, y), x, e) * Sum(x)", aliases) == counts


def test_exponential_shares_the_reduction_of_its_angle() -> None:
    """One rounding to quadrants for the sine and the cosine."""
    alone = operations("Sin(x - y)", ["x=Vi(1)", "y=Vj(1)"])
    both = operations("ComplexExp1j(x - y)", ["x=Vi(1)", "y=Vj(1)"])
    assert sum(both.values()) < 1.6 * sum(alone.values())


@pytest.mark.parametrize(
    "formula",
    [
        "ComplexSum(ComplexMult(x, Conj(y)))",
        "Sum(ComplexSquareAbs(x - y))",
        "ComplexSum(ComplexMult(ComplexMult(x, y), x + y))",
    ],
)
def test_loops_over_pairs_select_nothing(formula: str) -> None:
    counts = operations(formula, ["x=Vi(40)", "y=Vj(40)"])
    assert not {"select", "compare", "shift_right", "and"} & counts.keys()


def test_long_product_takes_two_multiplications_a_component() -> None:
    """The second factor, turned by a right angle, is computed once a column."""
    aliases = ["x=Vi(2)", "y=Vj(2)", "b=Vj(40)"]
    lowering = redcomp.numpy.Genred("ComplexMult(x + y, b)", aliases, axis=1).lower("float32")
    assert "select" not in lowering.operations
    assert len(lowering.nest.columns) == 1
    assert lowering.operations["multiply"] + lowering.operations["fma"] == 2 * 40


def test_code_of_nested_products_grows_with_their_number() -> None:
    """Each position of a loop is one value, however many operations ask for it."""
    sizes = []
    for depth in (1, 2, 3, 4):
        formula = "z"
        for _ in range(depth):
            formula = f"ComplexMult(y, {formula} + z)"
        op = redcomp.numpy.Genred(formula, ["z=Vi(40)", "y=Vj(40)"], axis=1)
        programs = op.lower("float32").programs
        (scalar,) = (program for name, program in programs if name.endswith("-scalarize"))
        sizes.append(len(list(topological(scalar.roots))))
    assert len({after - before for before, after in itertools.pairwise(sizes)}) == 1
