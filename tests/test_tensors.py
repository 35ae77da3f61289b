"""Tensors, splines and alignments against a dense reference: needs the CPU, PyTorch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from agreement import assert_close, exact_and_noise
from reference import Tensor, dense
from reference_tensors import OPERATIONS as REFERENCES
from torch.autograd import forward_ad

from redcomp.errors import FormulaError
from redcomp.interpret import interpret
from redcomp.ir import Type, variable
from redcomp.ops import access
from redcomp.torch import Genred

pytestmark = pytest.mark.slow

ROWS, COLUMNS = 11, 6
ORDER_2 = {"allow_unused": True, "materialize_grads": True}


def gradients(op: Any, tensors: Sequence[Tensor], order: int) -> list[Tensor]:
    """The value, the gradients of all arguments, and those of a mixture of these."""
    generator = torch.Generator().manual_seed(1)

    def like(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator).to(t.dtype)

    value = op(*tensors)
    cotangent = like(value).requires_grad_()
    first = torch.autograd.grad(value, tensors, cotangent, create_graph=order == 2)
    if order == 1:
        return [value, *first]
    mixture = sum((part * like(part)).sum() for part in first)
    return [value, *first, *torch.autograd.grad(mixture, [*tensors, cotangent], **ORDER_2)]


def compare(
    formula: str, aliases: list[str], tensors: Sequence[Tensor], dtype: Any, axis: int, order: int
) -> None:
    op = Genred(formula, aliases, axis=axis)
    exact, noise = exact_and_noise(
        lambda leaves: gradients(lambda *t: dense(formula, aliases, t, axis), leaves, order),
        tensors,
    )
    leaves = [t.to(dtype).requires_grad_() for t in tensors]
    computed = gradients(op, leaves, order)
    assert len(computed) == len(exact)
    for n, (result, right, own) in enumerate(zip(computed, exact, noise, strict=True)):
        size = float(right.abs().max())
        assert_close(result, right, own, dtype, size, f"{formula} axis {axis}, result {n}")


def random(rows: int, dim: int, seed: int) -> Tensor:
    values = np.random.default_rng(seed).uniform(-1.0, 1.0, (rows, dim))
    return torch.from_numpy(values.astype(np.float32))


# Formula, dimensions of x and y, order of the gradients.
CASES = [
    ("MatVecMult(x,y)", 12, 3, 2),
    ("MatVecMult(x,y)", 4096, 64, 1),
    ("MatVecMult(x,Sin(y))", 400, 20, 2),
    ("MatVecMult(x,y)", 40, 2, 2),
    ("VecMatMult(y,x)", 12, 4, 2),
    ("VecMatMult(y,x)", 4096, 64, 1),
    ("VecMatMult(Sin(y),x*x)", 400, 20, 2),
    ("(MatVecMult(x,y)|y)", 64, 8, 2),
    ("Sum(TensorProd(x,y)*TensorProd(x,y))", 4, 3, 2),
    ("TensorProd(x,y)", 20, 18, 2),
    ("TensorDot(x,y,[2,3],[3,2],[1],[0])", 6, 6, 2),
    ("TensorDot(x,y,[2,3],[3,2],[1],[0],[1,0])", 6, 6, 2),
    ("TensorDot(x,y,[6],[6],[0],[0])", 6, 6, 2),
    ("TensorDot(x,y,[],[6],[],[])", 1, 6, 2),
    ("TensorDot(x,y,[5,2,3],[2,4,3],[1,2],[0,2])", 30, 24, 2),
    ("TensorDot(x,y,[5,2,3],[2,4,3],[2,1],[2,0],[1,0])", 30, 24, 2),
    ("TensorDot(x,y,[5,2,3],[2,4,3],[1],[0],[3,1,0,2])", 30, 24, 2),
    ("TensorDot(x,y,[2,3,2],[2,2],[0],[1],[2,0,1])", 12, 4, 2),
    ("TensorDot(Sin(x),y,[7,5,3],[3,7,2],[0,2],[1,0],[1,0])", 105, 42, 2),
    ("Kron(x,y,[3,2],[2,4])", 6, 8, 2),
    ("Kron(x,y,[2,2,2],[1,3,2])", 8, 6, 2),
    ("Kron(x,y,[2],[9])", 2, 9, 1),
]
DTYPES = (torch.float32, torch.float64)


@pytest.mark.sampled(58)
@pytest.mark.parametrize(("dtype", "axis"), [(DTYPES[0], 1), (DTYPES[1], 0)], ids=["f32", "f64"])
@pytest.mark.parametrize(("formula", "dim_x", "dim_y", "order"), CASES)
def test_tensors(formula: str, dim_x: int, dim_y: int, order: int, dtype: Any, axis: int) -> None:
    aliases = [f"x = Vi({dim_x})", f"y = Vj({dim_y})", "w = Vj(1)"]
    arguments = [random(ROWS, dim_x, 0), random(COLUMNS, dim_y, 1), random(COLUMNS, 1, 2)]
    compare(f"{formula}*w", aliases, arguments, dtype, axis, order)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_third_derivative_of_a_quadratic_form_in_a_cubic(dtype: Any) -> None:
    formula, aliases = "(MatVecMult(p,y*y)|y)*x", ["x = Vi(1)", "y = Vj(3)", "p = Pm(9)"]
    exact_leaves = [random(5, 1, 0), random(4, 3, 1), random(1, 9, 2)[0]]

    def third(op: Any, leaves: Sequence[Tensor]) -> list[Tensor]:
        value = op(*leaves)
        for _ in range(3):
            (part,) = torch.autograd.grad(value.sum(), leaves[1], create_graph=True)
            value = part * part
        return [part]

    (exact,), (noise,) = exact_and_noise(
        lambda leaves: third(lambda *t: dense(formula, aliases, t, 1), leaves), exact_leaves
    )
    leaves = [t.to(dtype).requires_grad_() for t in exact_leaves]
    (found,) = third(Genred(formula, aliases, axis=1), leaves)
    assert_close(found, exact, noise, dtype, float(exact.abs().max()), formula)


def test_quotients_are_those_of_integers() -> None:
    """In a loop a position is divided by multiplication and shift."""
    bound = 2**24
    for divisor in (1, 2, 3, 5, 7, 16, 17, 641, 4096, 65_537, 2**24 - 1, 2**24):
        k = variable("k", "parameter", 0, Type("index"))
        value = access.quotient(k, divisor, bound)
        multiples = np.arange(0, bound, max(divisor, bound // 1000))
        near = np.concatenate([multiples - 1, multiples, multiples + 1, [bound, bound - 1]])
        positions = near[(near >= 0) & (near <= bound)][:, None]
        (found,) = interpret([value], {"k": positions})
        np.testing.assert_array_equal(found, positions // divisor)


# -- splines ---------------------------------------------------------------------------------------


def knots(count: int, seed: int) -> Tensor:
    values = np.sort(np.random.default_rng(seed).uniform(0.0, 1.0, count) + np.arange(count))
    return torch.from_numpy((values / count).astype(np.float32))


@pytest.mark.thorough
@pytest.mark.parametrize(("dtype", "axis"), [(DTYPES[0], 1), (DTYPES[1], 0)], ids=["f32", "f64"])
@pytest.mark.parametrize(
    ("count", "degree", "order"), [(2, 0, 1), (6, 1, 2), (8, 3, 2), (12, 7, 1), (24, 2, 2)]
)
def test_splines(count: int, degree: int, order: int, dtype: Any, axis: int) -> None:
    formula = f"BSpline(t,x,{degree})*w+Sum(t)*x*w"  # the sum, so that there are gradients
    aliases = ["x = Vi(1)", f"t = Pm({count})", "w = Vj(1)"]
    arguments = [random(40, 1, 0) * 0.6 + 0.5, knots(count, 1), random(COLUMNS, 1, 2)]
    compare(formula, aliases, arguments, dtype, axis, order)


def splines_at(knots: list[float], x: list[float], degree: int, dtype: Any) -> Tensor:
    op = Genred(f"BSpline(t,x,{degree})", ["x = Vi(1)", f"t = Pm({len(knots)})"], axis=1)
    return op(torch.tensor(x, dtype=dtype)[:, None], torch.tensor(knots, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_intervals_hold_their_left_ends_only(dtype: Any) -> None:
    found = splines_at([0.0, 1.0, 2.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0, -1.0], 0, dtype)
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.tolist() == expected


@pytest.mark.sampled(6)
@pytest.mark.parametrize("count", [11, 31])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_clamped_splines_sum_to_one_and_repeated_knots_do_no_harm(dtype: Any, count: int) -> None:
    inner = np.linspace(0.0, 1.0, count - 6).tolist()
    t = [0.0] * 3 + inner + [1.0] * 3
    op = Genred("BSpline(t,x,3)", ["x = Vi(1)", f"t = Pm({count})"], axis=1)
    x = torch.linspace(0.0, 0.999, 50, dtype=dtype)[:, None].requires_grad_()
    leaves = torch.tensor(t, dtype=dtype, requires_grad=True)
    value = op(x, leaves)
    torch.testing.assert_close(value.sum(1), torch.ones(50, dtype=dtype))
    assert bool((value >= 0).all())
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(dtype)
    slopes = torch.autograd.grad(value, [x, leaves], weights)
    right = [v.detach().double().requires_grad_() for v in (x, leaves)]
    reference = dense("BSpline(t,x,3)", ["x = Vi(1)", f"t = Pm({count})"], right, 1)
    expected = torch.autograd.grad(reference, right, weights.double())
    for slope, other in zip(slopes, expected, strict=True):
        tolerance = 200 * torch.finfo(dtype).eps * float(other.abs().max())
        torch.testing.assert_close(slope.double(), other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_splines_vanish_far_away_and_keep_nan(dtype: Any) -> None:
    far = torch.finfo(dtype).max
    found = splines_at([0.0, 0.1, 0.2, 0.3], [far, -far, np.inf, -np.inf, np.nan], 2, dtype)
    assert found[:4].tolist() == [[0.0]] * 4
    assert bool(found[4].isnan().all())


# -- alignments ------------------------------------------------------------------------------------


@pytest.mark.sampled(22)
@pytest.mark.parametrize(("dtype", "axis"), [(DTYPES[0], 1), (DTYPES[1], 0)], ids=["f32", "f64"])
@pytest.mark.parametrize(("n", "m", "order"), [(1, 1, 2), (1, 4, 2), (3, 4, 2), (18, 2, 1)])
@pytest.mark.parametrize("gamma", [0.05, 1.5])
def test_alignments(n: int, m: int, order: int, gamma: float, dtype: Any, axis: int) -> None:
    formula, aliases = "SoftDTW_SqDist(x,y,g)*g", [f"x = Vi({n})", f"y = Vj({m})", "g = Pm(1)"]
    arguments = [random(ROWS, n, 0), random(COLUMNS, m, 1), torch.tensor([gamma])]
    compare(formula, aliases, arguments, dtype, axis, order)


@pytest.mark.thorough
@pytest.mark.parametrize(("dtype", "axis"), [(DTYPES[0], 1), (DTYPES[1], 0)], ids=["f32", "f64"])
def test_alignments_of_long_sequences(dtype: Any, axis: int) -> None:
    formula, aliases = "SoftDTW_SqDist(2*x,y,g)", ["x = Vi(17)", "y = Vj(9)", "g = Pm(1)"]
    arguments = [random(3, 17, 0), random(5, 9, 1), torch.tensor([0.3])]
    compare(formula, aliases, arguments, dtype, axis, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("n", [24, 50])
def test_alignments_of_sequences_of_equal_length(n: int) -> None:
    op = Genred("SoftDTW_SqDist(x,y,g)", [f"x = Vi({n})", f"y = Vj({n})", "g = Pm(1)"], axis=1)
    tensors = [random(3, n, 0).double(), random(5, n, 1).double(), torch.tensor([0.3]).double()]
    for t in tensors:
        t.requires_grad_()

    def reference(x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return REFERENCES["SoftDTW_SqDist"](x[:, None], y, g).sum(1)

    for found, right in zip(
        gradients(op, tensors, 1), gradients(reference, tensors, 1), strict=True
    ):
        torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-11)


# Where a table is the same for all columns, it may leave the sum over them.
ONE_SIDED = {
    "rows": "x=Vi(6) z=Pm(4) g=Pm(1) b=Vj(2)",
    "columns": "x=Vj(6) z=Pm(4) g=Pm(1) b=Vi(2)",
    "parameters": "x=Pm(6) z=Pm(4) g=Pm(1) b=Vj(2)",
    "temperatures": "x=Pm(6) z=Vj(4) g=Vi(1) b=Vj(2)",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ONE_SIDED)
def test_alignments_that_do_not_depend_on_both(name: str) -> None:
    aliases = ONE_SIDED[name].split()
    arguments = []
    for n, alias in enumerate(aliases):
        _, kind, dim = re.split("[=()]", alias)[:3]
        vectors = random(COLUMNS if kind == "Vj" else ROWS, int(dim), n).abs() + 0.1
        arguments.append(vectors[0] if kind == "Pm" else vectors)
    compare("SoftDTW_SqDist(x,z,g)*b", aliases, arguments, torch.float64, 1, 1)


ALIGNED = ["x = Vi(6)", "y = Vj(4)", "g = Pm(1)", "c = Vi(1)", "d = Vj(1)"]
GUARDS = ["IfElse(c*d-1,{},0)", "IfElse(0-c*d,0,{})"]


class Guarded(NamedTuple):
    """A sum over pairs that drops some, its arguments, and the same from the kept pairs alone."""

    op: Any
    arguments: list[Tensor]
    reference: Any
    good: list[Tensor]


def guarded_alignments(guard: str, bad: float) -> Guarded:
    """Every other row and column is bad, and kept out."""
    rows, columns = torch.arange(ROWS) % 2, torch.arange(COLUMNS) % 2
    c, d = rows.double()[:, None], columns.double()[:, None]
    x, y = random(ROWS, 6, 0).double() * c, random(COLUMNS, 4, 1).double() * d
    gamma = torch.tensor([0.4], dtype=torch.float64)
    given = [x.where(c > 0, bad), y.where(d > 0, bad), gamma]
    op = Genred(guard.format("SoftDTW_SqDist(x,y,g)"), ALIGNED, axis=1)

    def reference(x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return (REFERENCES["SoftDTW_SqDist"](x[:, None], y, g) * (c[:, None] * d)).sum(1)

    return Guarded(lambda *t: op(*t, c, d), given, reference, [x, y, gamma.clone()])


@pytest.mark.thorough
@pytest.mark.parametrize(("guard", "bad"), [(GUARDS[0], np.inf), (GUARDS[1], np.nan)])
def test_alignments_behind_guards(guard: str, bad: float) -> None:
    """The value and its first and second derivatives are those of the pairs that are kept."""
    case = guarded_alignments(guard, bad)
    found = gradients(case.op, [t.requires_grad_() for t in case.arguments], 2)
    right = gradients(case.reference, [t.requires_grad_() for t in case.good], 2)
    for result, expected in zip(found, right, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's forward mode, about itself
@pytest.mark.parametrize("guard", GUARDS)
def test_tangents_of_alignments_behind_guards(guard: str) -> None:
    case = guarded_alignments(guard, np.nan)

    def tangent(op: Any, arguments: Sequence[Tensor]) -> Tensor:
        with forward_ad.dual_level():
            duals = [
                forward_ad.make_dual(t, torch.linspace(-1, 1, t.numel()).to(t).reshape(t.shape))
                for t in arguments
            ]
            return forward_ad.unpack_dual(op(*duals)).tangent

    found, right = tangent(case.op, case.arguments), tangent(case.reference, case.good)
    torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-12)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("reduction", ["Min", "LogSumExp", "KMin"])
def test_alignments_in_other_reductions(reduction: str) -> None:
    aliases = ["x = Vi(4)", "y = Vj(5)", "g = Pm(1)"]
    x, y = random(9, 4, 0).double(), random(40, 5, 1).double()
    gamma = torch.tensor([0.5], dtype=torch.float64)
    options = {"opt_arg": 3} if reduction == "KMin" else {}
    op = Genred("SoftDTW_SqDist(x,y,g)", aliases, reduction_op=reduction, axis=1, **options)
    pairs = REFERENCES["SoftDTW_SqDist"](x[:, None], y[None], gamma)[..., 0]
    expected = {
        "Min": lambda: pairs.min(dim=1, keepdim=True).values,
        "LogSumExp": lambda: pairs.logsumexp(dim=1, keepdim=True),
        "KMin": lambda: pairs.sort(dim=1).values[:, :3],
    }[reduction]()
    torch.testing.assert_close(op(x, y, gamma), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_alignment_with_a_tiny_gamma_is_the_shortest_path(dtype: Any) -> None:
    """Nothing overflows where differences are thousands of gammas; gradients follow the path."""
    op = Genred("SoftDTW_SqDist(x,y,g)", ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"], axis=1)
    x = torch.tensor([[0.0, 10.0, 20.0]], dtype=dtype, requires_grad=True)
    y = torch.tensor([[1.0, 1.0, 18.0]], dtype=dtype)
    gamma = torch.tensor([1e-3], dtype=dtype, requires_grad=True)
    value = op(x, y, gamma)
    # 0-1, 0-1, 10-18, 20-18: costs 1, 1, 64 and 4, and no other path is as short.
    assert value.item() == pytest.approx(70.0, abs=1e-4)
    slope, by_gamma = torch.autograd.grad(value.sum(), [x, gamma])
    assert slope.tolist()[0] == pytest.approx([-4.0, -16.0, 4.0], abs=1e-4)
    assert by_gamma.item() == pytest.approx(0.0, abs=1e-4)


# -- errors ----------------------------------------------------------------------------------------

ERRORS = [
    ("MatVecMult(x,y)", 7, 3, "matrix has 7 components: not a multiple of the vector's dimension"),
    ("VecMatMult(x,y)", 3, 7, "VecMatMult's matrix has 7 components"),
    ("TensorDot(x,y,[2,3],[3],[1],[0])", 7, 3, r"dimsf \[2, 3\] has 6 components, but f has"),
    ("TensorDot(x,y,[2,3],[3],[1],[0])", 6, 4, r"dimsg \[3\] has 3 components, but g has"),
    ("TensorDot(x,y,[-2,-3],[3],[1],[0])", 6, 3, r"dimsf \[-2, -3\] must be positive"),
    ("TensorDot(x,y,[2,3],[3],[2],[0])", 6, 3, "contf names axis 2, but dimsf"),
    ("TensorDot(x,y,[2,3],[3],[-1],[0])", 6, 3, "contf names axis -1"),
    ("TensorDot(x,y,[2,2],[2,2],[1,1],[0,1])", 4, 4, r"contf \[1, 1\] names an axis twice"),
    ("TensorDot(x,y,[2,3],[3],[0],[0])", 6, 3, r"axes of \[2\] components of f and \[3\] of g"),
    ("TensorDot(x,y,[2,3],[3],[1],[])", 6, 3, "they must be equal"),
    ("TensorDot(x,y,[2,3],[3],[1],[0],[1])", 6, 3, r"perm \[1\] must name each of the result's 1"),
    ("TensorDot(x,y,[2,3],[3],[1],[0],[0,1])", 6, 3, "must name each of the result's 1 axes"),
    ("TensorDot(x,y,2,[3],[1],[0])", 6, 3, "argument dimsf must be a list, such as"),
    ("Kron(x,y,[2,3],[4])", 6, 4, "same number of axes, not 2 and 1"),
    ("Kron(x,y,[2,3],[3,1])", 6, 4, r"Kron's dimsg \[3, 1\] has 3 components"),
    ("TensorProd(x,y)", 5000, 5000, "more than 16,777,216 components"),
    ("BSpline(x,y,1)", 5, 2, "BSpline takes a scalar x, not one of dimension 2"),
    ("BSpline(x,y,4)", 5, 1, "order 4 needs at least 6 knots, not 5"),
    ("BSpline(x,y,-1)", 5, 1, "order must not be negative: -1"),
    ("BSpline(x,y,6)", 20, 1, "more than 16 knots has an order of at most 5, not 6"),
    ("SoftDTW_SqDist(x,y,y)", 3, 4, "scalar gamma, not one of dimension 4"),
    ("SoftDTW_SqDist(x,y,IntCst(1))", 101, 100, "table of 10,100 cells; at most 10,000"),
]


@pytest.mark.parametrize(("formula", "dim_x", "dim_y", "message"), ERRORS)
def test_wrong_shapes_are_explained(formula: str, dim_x: int, dim_y: int, message: str) -> None:
    with pytest.raises(FormulaError, match=message) as caught:
        Genred(formula, [f"x = Vi({dim_x})", f"y = Vj({dim_y})"], axis=1)
    assert formula in str(caught.value)
    assert "^" in str(caught.value)
