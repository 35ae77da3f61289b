"""Every operation through the host kernels, against a dense reference: needs the CPU, PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import llvmlite.binding
import numpy as np
import pytest
import torch
from agreement import EPSILON, assert_as_reference, assert_close
from operation_cases import KINDS, Case, apart, call, cases
from reference import INTEGER_PARAMETERS, OPERATIONS, dense

import redcomp.numpy
from redcomp.ops import SPELLINGS, Operation
from redcomp.torch import Genred

pytestmark = pytest.mark.slow

SHORT, LONG = 3, 20  # LONG vectors become loops over their components
SQUARE = {1: 4, SHORT: 4, LONG: 5}
ROWS, COLUMNS = 37, 21


def _cases(d: int) -> list[Case]:
    return cases(d, SQUARE[d])


def _inputs(row: Operation, dims: Sequence[int], kinds: Sequence[str], seed: int) -> list[Any]:
    """Float32 numbers of the row's domain, special points among them."""
    random = np.random.default_rng(seed)
    found = []
    for n, (dim, kind) in enumerate(zip(dims, kinds, strict=True)):
        low, high = row.domain.intervals[min(n, len(row.domain.intervals) - 1)]
        shape = {"Vi": (ROWS, dim), "Vj": (COLUMNS, dim), "Pm": (dim,)}[kind]
        values = random.uniform(low, high, shape)
        inside = [s for s in row.domain.special if low < s < high]
        if inside and kind != "Pm":
            is_special = random.random(shape) < 0.05
            values = np.where(is_special, random.choice(inside, shape), values)
        found.append(torch.from_numpy(values.astype(np.float32)))
    return found


def _together(case: Case) -> tuple[str, list[str], list[str], list[int]]:
    """The first operand depends on both indices: it is taken from i or from j, by the sign of w."""
    names = [f"u{n}" for n in range(len(case.dims))]
    operands = ["IfElse(w,u0,v)", *names[1:]]
    kinds = ["Vi", *(KINDS[(1 + n) % 3] for n in range(1, len(names))), "Vj", "Vj"]
    return call(case, operands), names, kinds, [*case.dims, case.dims[0], 1]


# dtype, axis, whether vectors are long, whether one operand depends on both indices
SETTINGS = [
    (torch.float32, 1, False, False),
    (torch.float32, 0, True, True),
    (torch.float64, 1, False, True),
    (torch.float64, 0, True, False),
]


@pytest.mark.sampled(1980)
@pytest.mark.parametrize(
    ("dtype", "axis", "case", "is_together"),
    [
        pytest.param(dtype, axis, case, is_together, id=f"{str(dtype)[-3:]}-axis{axis}-{case}")
        for dtype, axis, is_long, is_together in SETTINGS
        for case in _cases(LONG if is_long else SHORT)
    ],
)
def test_operation_agrees_with_reference(dtype, axis, case, is_together):
    row = SPELLINGS[case.spelling]
    if is_together:
        formula, names, kinds, dims = _together(case)
        names = [*names, "v", "w"]
    else:
        formula, names, kinds, dims = apart(case, first=axis)
        names = [*names, "w"]
    aliases = [f"{n} = {k}({d})" for n, k, d in zip(names, kinds, dims, strict=True)]
    operands = _inputs(row, case.dims, kinds[: len(case.dims)], seed=len(formula))
    if is_together:
        operands += _inputs(row, case.dims[:1], ["Vj"], seed=2)
    (w,) = _inputs(SPELLINGS["Minus"], [1], kinds[-1:], seed=3)
    is_second = dtype == torch.float64 and (axis == 1 or not row.elementwise)
    order = 2 if is_second else 1
    assert_as_reference(formula, aliases, [*operands, w], dtype, axis, order)


def test_every_operation_has_a_case():
    for d in (SHORT, LONG):
        assert {case.spelling for case in _cases(d)} == set(SPELLINGS)


def test_reference_has_every_operation():
    missing = set(SPELLINGS) - set(OPERATIONS)
    assert not missing, f"say in OPERATIONS of tests/reference.py what {missing} are"
    with_integers = {row.spelling for row in SPELLINGS.values() if row.parameters}
    differing = with_integers ^ INTEGER_PARAMETERS
    assert not differing, f"INTEGER_PARAMETERS of tests/reference.py is wrong about {differing}"


# -- special values --------------------------------------------------------------------------------

INF, NAN = math.inf, math.nan
NAMES = {torch.float32: "f32", torch.float64: "f64"}
TINY = {torch.float32: 1.2e-38, torch.float64: 2.3e-308}
HUGE = {torch.float32: 3e38, torch.float64: 1e308}
ELEMENTWISE = [case for case in _cases(1) if SPELLINGS[case.spelling].elementwise]


def _outer(op: Any, arity: int, values: Any) -> tuple[Any, list[Any]]:
    """The operation at all tuples of the given values, a row each, and the operands."""
    rows = torch.tensor(list(itertools.product(values.tolist(), repeat=arity)), dtype=values.dtype)
    operands = [rows[:, n : n + 1].contiguous() for n in range(arity)]
    return op(*operands), operands


@pytest.mark.sampled(320)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", [c for c in ELEMENTWISE if len(c.dims) < 3 or c.integers], ids=str)
def test_value_at_special_points(case, dtype):
    """Zeros of both signs, infinities, NaN, ties, the largest and the smallest numbers."""
    largest = SPELLINGS[case.spelling].domain.largest
    huge, tiny = largest.get(NAMES[dtype], HUGE[dtype]), TINY[dtype]
    points = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, INF, -INF, NAN, huge, tiny]
    arity = len(case.dims)
    names = [f"u{n}" for n in range(arity)]
    # A lone i-variable would be taken out of the sum: the first operand depends on both indices.
    formula = call(case, ["IfElse(w,u0,v)", *names[1:]])
    aliases = [*(f"{name} = Vi(1)" for name in names), "v = Vj(1)", "w = Vj(1)"]
    op = Genred(formula, aliases, axis=1)
    one = torch.ones(1, 1, dtype=dtype)
    result, operands = _outer(lambda *t: op(*t, one, one), arity, torch.tensor(points, dtype=dtype))
    wide = [t.double() for t in (*operands, one, one)]
    exact = dense(formula, aliases, wide, 1).to(dtype).double()
    both_nan = result.isnan() & exact.isnan()
    # Below the smallest normal number a few units of that number's last place are allowed, and 0.
    allowed = 16 * EPSILON[dtype] * (exact.abs() + TINY[dtype])
    vanishes = (result == 0) & (exact.abs() < torch.finfo(dtype).tiny)
    is_close = (result == exact) | ((result.double() - exact).abs() <= allowed) | vanishes
    bad = ~(both_nan | is_close).flatten()
    listed = torch.cat([*operands, result, exact.to(dtype)], dim=1)[bad]
    assert not bad.any(), f"operands, result and what was expected:\n{listed}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["Sin", "Cos"])
def test_sines_stay_in_their_range(name, dtype):
    x = torch.logspace(0, math.log10(HUGE[dtype]), 500, dtype=dtype)[:, None]
    result = Genred(f"{name}(x)", ["x = Vi(1)"], axis=1)(torch.cat([x, -x]))
    assert (result.abs() <= 1).all()


# Formula in x, value of x, expected derivative: the conventions of the language.
CONVENTIONS = [
    ("Sqrt(x)", 0.0, 0.0),
    ("Rsqrt(x)", 0.0, 0.0),
    ("Norm2(x)", 0.0, 0.0),
    ("Normalize(x)", 0.0, 0.0),
    ("Norm2(x-y)", 2.0, 0.0),
    ("Sqrt(SqDist(x,y))", 2.0, 0.0),
    ("Abs(x)", 0.0, 0.0),
    ("Abs(x)", -0.0, 0.0),
    ("Abs(x)", -3.0, -1.0),
    ("Sign(x)", 2.0, 0.0),
    ("ReLU(x)", 0.0, 1.0),
    ("ReLU(x)", -1.0, 0.0),
    ("Step(x)", 0.0, 0.0),
    ("XLogX(x)", 0.0, -INF),
    ("SinXDivX(x)", 0.0, 0.0),
    ("Asin(x)", 1.0, 0.0),
    ("Asin(x)", -1.0, 0.0),
    ("Acos(x)", 1.0, 0.0),
    ("Acos(x)", -1.0, 0.0),
    ("Atan2(x,Zero(1))", 0.0, NAN),
    ("Clamp(x,IntCst(-1),IntCst(1))", 1.0, 1.0),
    ("Clamp(x,IntCst(-1),IntCst(1))", -1.0, 1.0),
    ("Clamp(x,IntCst(-1),IntCst(1))", 1.5, 0.0),
    ("Clamp(IntCst(3),IntCst(-1),x)", 1.5, 1.0),
    ("Clamp(IntCst(-3),x,IntCst(1))", -1.5, 1.0),
    ("ClampInt(x,0,2)", 2.0, 1.0),
    ("ClampInt(x,0,2)", 0.0, 1.0),
    ("ClampInt(x,0,2)", 2.5, 0.0),
    ("Floor(x)", 1.0, 0.0),
    ("Round(x,0)", 0.5, 0.0),
    ("Mod(x,IntCst(2),IntCst(0))", 2.0, 1.0),
    ("Minimum(x,y)", 2.0, 1.0),
    ("Minimum(y,x)", 2.0, 0.0),
    ("Maximum(x,y)", 2.0, 1.0),
    ("Maximum(y,x)", 2.0, 0.0),
    ("Max(Concat(x,y))", 2.0, 1.0),
    ("Max(Concat(y,x))", 2.0, 0.0),
    ("Min(Concat(x,y))", 2.0, 1.0),
    ("Min(Concat(y,x))", 2.0, 0.0),
    ("IfElse(x,x,Zero(1))", 0.0, 1.0),
    ("IfElse(x,Zero(1),x)", NAN, 1.0),
    ("LessThan(x,y)", 2.0, 0.0),
    ("Powf(x,Zero(1))", 0.0, 0.0),
    ("Powf(x,IntCst(1))", 0.0, 1.0),
    ("Cbrt(x)", 0.0, INF),
    ("x**0.5", 0.0, 0.0),
    ("x**2", 3.0, 6.0),
]


@pytest.mark.sampled(192)
@pytest.mark.parametrize(("formula", "at", "expected"), CONVENTIONS)
def test_derivative_at_special_points(formula, at, expected):
    """y is 2, and there are three of them, so that sums and factors of all shapes are seen."""
    op = Genred(f"({formula})*s", ["x = Vi(1)", "y = Vj(1)", "s = Vj(1)"], axis=1)
    x = torch.full((5, 1), at, dtype=torch.float64, requires_grad=True)
    y, s = torch.full((3, 1), 2.0, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    (slope,) = torch.autograd.grad(op(x, y, s).sum(), x)
    np.testing.assert_array_equal(slope.numpy(), np.full((5, 1), 3 * expected))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("d", [3, 20])
def test_extrema_pass_over_nan_and_take_the_first_of_ties(d):
    x = np.full((6, d), 1.0)
    x[1, 0] = x[2, 1] = NAN
    x[3, [1, d - 1]], x[4, [0, 2]], x[5] = 7.0, -7.0, NAN
    expected = {
        "Max": [1, NAN, 1, 7, 1, NAN],
        "ArgMax": [0, 0, 0, 1, 1, 0],
        "Min": [1, NAN, 1, 1, -7, NAN],
        "ArgMin": [0, 0, 0, 0, 0, 0],
    }
    for name, values in expected.items():
        op = redcomp.numpy.Genred(
            f"{name}(IfElse(s,x,y))", [f"x=Vi({d})", f"y=Vj({d})", "s=Vj(1)"], axis=1
        )
        result = op(x, np.zeros((1, d)), np.ones((1, 1)))
        np.testing.assert_array_equal(result[:, 0], values, err_msg=name)


# -- what programs ask for -------------------------------------------------------------------------

MATERN = (
    "((IntCst(1) + Sqrt(IntCst(5)) * Norm2(x1 / s - x2 / s) + (IntInv(3) * IntCst(5)) * "
    "SqNorm2(x1 / s - x2 / s)) * Exp(-Sqrt(IntCst(5)) * Norm2(x1 / s - x2 / s))) * v"
)
GEOMLOSS = ["A = Vi(1)", "X = Vi({d})", "Y = Vj({d})", "B = Vj(1)", "P = Pm(1)"]
CLIENTS = {
    "falkon-gaussian": (
        "Exp(SqDist(x1 / g, x2 / g) * IntInv(-2)) * v",
        ["x1 = Vi({d})", "x2 = Vj({d})", "v = Vj({t})", "g = Pm(1)"],
    ),
    "falkon-gaussian-diagonal": (
        "Exp(SqDist(x1 / g, x2 / g) * IntInv(-2)) * v",
        ["x1 = Vi({d})", "x2 = Vj({d})", "v = Vj({t})", "g = Pm({d})"],
    ),
    "falkon-laplacian": (
        "Exp(-Sqrt(SqDist(x1 / g, x2 / g))) * v",
        ["x1 = Vi({d})", "x2 = Vj({d})", "v = Vj({t})", "g = Pm(1)"],
    ),
    "falkon-matern": (MATERN, ["x1 = Vi({d})", "x2 = Vj({d})", "v = Vj({t})", "s = Pm(1)"]),
    "falkon-polynomial": (
        "Powf((gamma * (X | Y) + beta), degree) * v",
        [
            "X = Vi({d})",
            "Y = Vj({d})",
            "v = Vj({t})",
            "gamma = Pm(1)",
            "beta = Pm(1)",
            "degree = Pm(1)",
        ],
    ),
    "geomloss-squared": ("( B - (P * (SqDist(X,Y) / IntCst(2)) ) )", GEOMLOSS),
    "geomloss-distance": ("( B - (P * Norm2(X-Y) ) )", GEOMLOSS),
    "seed": ("Square(p-a)*Exp(x+y)", ["x = Vi({d})", "y = Vj({d})", "a = Vj(1)", "p = Pm(1)"]),
    "derivative": (
        "Grad(Exp(-SqDist(x,y)*g)*b, x, e)",
        ["x = Vi({d})", "y = Vj({d})", "b = Vj(1)", "e = Vi(1)", "g = Pm(1)"],
    ),
}


@pytest.mark.sampled(48)
@pytest.mark.parametrize(("d", "t", "dtype"), [(3, 1, torch.float32), (20, 30, torch.float64)])
@pytest.mark.parametrize("name", CLIENTS)
def test_formulas_of_programs(name, d, t, dtype):
    formula, templates = CLIENTS[name]
    aliases = [template.format(d=d, t=t) for template in templates]
    random = np.random.default_rng(5)
    shapes = {"Vi": (ROWS,), "Vj": (COLUMNS,), "Pm": ()}
    tensors = []
    for alias in aliases:
        kind, dim = alias.split("= ")[1].rstrip(")").split("(")
        positive = kind == "Pm" or name == "falkon-polynomial"
        values = random.uniform(0.5 if positive else -1.0, 1.5, (*shapes[kind], int(dim)))
        tensors.append(torch.from_numpy(values.astype(np.float32)))
    assert_as_reference(formula, aliases, tensors, dtype, axis=1, order=1)


def test_falkon_calls():
    """falkon's constructor and call, NumPy arrays and several threads aside."""
    aliases = ["x1 = Vi(4)", "x2 = Vj(4)", "v = Vj(2)", "g = Pm(1)"]
    formula = "Exp(SqDist(x1 / g, x2 / g) * IntInv(-2)) * v"
    op = Genred(
        formula,
        aliases,
        reduction_op="Sum",
        axis=1,
        dtype_acc="float64",
        sum_scheme="auto",
        rec_multVar_highdim=False,
    )
    tensors = [torch.rand(9, 4), torch.rand(8, 4), torch.rand(8, 2), torch.ones(1)]
    result = op(*tensors, out=None, device_id=-1, backend="CPU")
    exact = dense(formula, aliases, [t.double() for t in tensors], 1)
    assert_close(result, exact, 0.0, torch.float32, 8.0, "falkon")


# -- other targets of the same architecture --------------------------------------------------------

FEATURES = llvmlite.binding.get_host_cpu_features()
TARGETS = [
    pytest.param(name, marks=pytest.mark.skipif(not runs, reason=f"no {name} on this machine"))
    for name, runs in {
        "avx512": FEATURES.get("avx512dq", False),
        "avx2": FEATURES.get("avx2", False) and FEATURES.get("fma", False),
        "sse2": FEATURES.get("sse2", False),
    }.items()
]


@pytest.mark.sampled(92)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CLIENTS)
def test_formulas_of_programs_on_other_targets(name, dtype, target, monkeypatch):
    monkeypatch.setenv("REDCOMP_TARGET", target)
    test_formulas_of_programs(name, 18, 2, dtype)


@pytest.mark.sampled(720)
@pytest.mark.parametrize("target", TARGETS[2:])  # the one that lacks fma and rounding
@pytest.mark.parametrize("case", [c for c in _cases(SHORT) if len(set(c.dims)) == 1], ids=str)
def test_operations_on_other_targets(case, target, monkeypatch):
    monkeypatch.setenv("REDCOMP_TARGET", target)
    formula, names, kinds, dims = _together(case)
    aliases = [f"{n} = {k}({d})" for n, k, d in zip([*names, "v", "w"], kinds, dims, strict=True)]
    row = SPELLINGS[case.spelling]
    operands = _inputs(row, case.dims, kinds[: len(names)], seed=len(formula))
    operands += _inputs(row, case.dims[:1], ["Vj"], seed=2)
    operands += _inputs(SPELLINGS["Minus"], [1], ["Vj"], seed=3)
    assert_as_reference(formula, aliases, operands, torch.float32, axis=1, order=0)
