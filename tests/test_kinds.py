"""Numbers of rows and columns, integers, tables, arrays of pairs: needs a CPU and PyTorch."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from reduction_cases import ROWS
from reference_reductions import Results, reduce_pairs, taken_formula, taken_terms
from torch.autograd import forward_ad

import redcomp.numpy
from redcomp.errors import ArgumentError, FormulaError
from redcomp.ops.reductions import Reduction
from redcomp.torch import Genred, KernelSolve

pytestmark = pytest.mark.slow

Tensor = torch.Tensor
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-11}
TABLE = 40  # longer than what is written out component by component
ALIASES = {
    "x": "x = Vi(3)",
    "y": "y = Vj(3)",
    "b": "b = Vj(1)",
    "p": "p = Pm(1)",
    "w": "w = Vij(1)",
    "u": "u = Vij(3)",
    "k": "k = Vij(1, int)",
    "l": "l = Vi(2, int)",
    "m": "m = Vj(2, int)",
    "n": "n = Pm(1, int)",
    "t": f"t = Pm({TABLE})",
    "s": "s = Pm(5)",
    "r": "r = Vi(7)",
}


class Pairs(NamedTuple):
    """Every variable spread over all pairs: (M, N, D), float64 or int64; and their numbers."""

    i: Tensor
    j: Tensor
    x: Tensor
    y: Tensor
    b: Tensor
    p: Tensor
    w: Tensor
    u: Tensor
    k: Tensor
    l: Tensor  # noqa: E741  # the names of the formulas
    m: Tensor
    n: Tensor
    t: Tensor
    s: Tensor
    r: Tensor


def arguments(rows: int, columns: int, dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    """One tensor for each name; tables are read outside of their ends too."""
    generator = torch.Generator().manual_seed(seed)

    def floats(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) + 0.25

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    return {
        "x": floats(rows, 3),
        "y": floats(columns, 3),
        "b": floats(columns, 1),
        "p": floats(1),
        "w": floats(rows, columns, 1),
        "u": floats(rows, columns, 3),
        "k": integers(-2, 8, rows, columns, 1),
        "l": integers(-3, TABLE + 3, rows, 2),
        "m": integers(-3, TABLE + 3, columns, 2),
        "n": integers(2, 3, 1),
        "t": floats(TABLE),
        "s": floats(5),
        "r": floats(rows, 7),
    }


def spread(given: dict[str, Tensor]) -> Pairs:
    rows, columns = given["w"].shape[:2]
    placed = {"Vi(": (slice(None), None), "Vj(": (None, slice(None)), "Pm(": (None, None)}
    moved = {}
    for name, tensor in given.items():
        place = placed.get(ALIASES[name].split("= ")[1][:3], ...)
        wide = tensor.double() if tensor.is_floating_point() else tensor
        moved[name] = wide[place].expand(rows, columns, -1)
    i, j = torch.arange(rows)[:, None, None], torch.arange(columns)[None, :, None]
    return Pairs(i.expand(-1, columns, 1), j.expand(rows, -1, 1), **moved)


def take(table: Tensor, index: Tensor) -> Tensor:
    inside = (index >= 0) & (index < table.shape[-1])
    place = torch.where(inside, index, 0).expand(*table.shape[:-1], 1)
    return torch.where(inside, table.gather(-1, place), 0.0)


def sqdist(e: Pairs) -> Tensor:
    return ((e.x - e.y) ** 2).sum(-1, keepdim=True)


class Case(NamedTuple):
    """A formula, the names of its arguments, and its dense value."""

    formula: str
    names: str
    dense: Callable[[Pairs], Tensor]


CASES = {
    "numbers": Case(
        "Exp(-SqDist(x, y)) * (Ind_j() <= 3*Ind_i() + 2) * b + p*Cos(Ind_i() - Ind_j())",
        "xybp",
        lambda e: (
            torch.exp(-sqdist(e)) * (e.j <= 3 * e.i + 2) * e.b
            + e.p * torch.cos((e.i - e.j).double())
        ),
    ),
    "band": Case(
        "x * (Ind_i() - Ind_j() < 3) * (-3 < Ind_i() - Ind_j()) * b",
        "xb",
        lambda e: e.x * ((e.i - e.j).abs() < 3) * e.b,
    ),
    "integers": Case(
        "Exp(-SqDist(x, y)) * Equal(Elem(l, 0), Elem(m, 1) - n + 2) + x/(1 + Square(l|m))"
        " + (-k != n*n - 4)*b - Concat(m, n)*y",
        "xyblmnk",
        lambda e: (
            torch.exp(-sqdist(e)) * (e.l[..., :1] == e.m[..., 1:] - e.n + 2)
            + e.x / (1 + (e.l * e.m).sum(-1, keepdim=True).double() ** 2)
            + (-e.k != e.n * e.n - 4) * e.b
            - torch.cat([e.m, e.n], -1) * e.y
        ),
    ),
    "tables": Case(
        "Gather(t, Elem(l, 0))*x*b + Gather(t, Elem(m, 1))*Square(x) + Gather(t, n)*y"
        " + Gather(r, Elem(m, 0))",
        "xybtlmnr",
        lambda e: (
            take(e.t, e.l[..., :1]) * e.x * e.b
            + take(e.t, e.m[..., 1:]) * e.x**2
            + take(e.t, e.n) * e.y
            + take(e.r, e.m[..., :1])
        ),
    ),
    "tables by pair": Case(
        "Gather(t, Ind_j() - Ind_i() + 5)*b*x + Gather(s, 3*Sum(x*y))*x + Sin(Gather(t*b, k + 17))",
        "xybtsk",
        lambda e: (
            take(e.t, e.j - e.i + 5) * e.b * e.x
            + take(e.s, torch.floor(3 * (e.x * e.y).sum(-1, keepdim=True) + 0.5).long()) * e.x
            + torch.sin(take(e.t * e.b, e.k + 17))
        ),
    ),
    "pairs": Case(
        "Exp(-SqDist(x, y)*w) * k + Sum(u*x*u)*Elem(u, 1) + (u|y)*b",
        "xybwuk",
        lambda e: (
            torch.exp(-sqdist(e) * e.w) * e.k
            + (e.u * e.x * e.u).sum(-1, keepdim=True) * e.u[..., 1:2]
            + (e.u * e.y).sum(-1, keepdim=True) * e.b
        ),
    ),
}


def operation(case: Case, reduction_op: str = "Sum", axis: int = 1, **options: Any) -> Genred:
    return Genred(case.formula, [ALIASES[n] for n in case.names], reduction_op, axis, **options)


def assert_near(computed: Tensor, exact: Tensor, dtype: torch.dtype, what: object = "") -> None:
    assert computed.shape == exact.shape, what
    scale = exact.abs().max() if exact.numel() else 0.0
    error = (computed.double() - exact).abs()
    assert bool((error <= TOLERANCE[dtype] * scale + 1e-300).all()), (what, float(error.max()))


def derivatives(
    evaluate: Callable[[dict[str, Tensor]], Tensor], given: dict[str, Tensor], names: Sequence[str]
) -> list[Tensor]:
    """First and second derivatives of sums of squares, in all float arguments."""
    leaves = {n: t.detach().clone().requires_grad_(t.is_floating_point()) for n, t in given.items()}
    wanted = [leaves[n] for n in names if leaves[n].requires_grad]
    loss = (evaluate(leaves).double() ** 2).sum()
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad(loss, wanted, create_graph=True, **options)
    twice = sum((part.double() * torch.cos(part.detach().double() * 0 + 1.0 + n)).sum()
                for n, part in enumerate(first))  # fmt: skip
    second = torch.autograd.grad(twice, wanted, **options)
    return [part.detach() for part in (*first, *second)]


@pytest.mark.sampled(53)
@pytest.mark.parametrize(("rows", "columns"), [(70, 300), (3, 9)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("name", CASES)
def test_sums_and_their_derivatives(
    name: str, dtype: torch.dtype, axis: int, rows: int, columns: int
) -> None:
    case, given = CASES[name], arguments(rows, columns, dtype)
    reduce = operation(case, axis=axis)

    def compiled(leaves: dict[str, Tensor]) -> Tensor:
        return reduce(*(leaves[n] for n in case.names))

    def dense(leaves: dict[str, Tensor]) -> Tensor:
        return case.dense(spread(leaves)).sum(axis)

    result = compiled(given)
    assert result.dtype == dtype
    assert_near(result, dense(given), dtype)
    wide = {n: t.double() if t.is_floating_point() else t for n, t in given.items()}
    for n, (found, expected) in enumerate(
        zip(
            derivatives(compiled, given, case.names),
            derivatives(dense, wide, case.names),
            strict=True,
        )
    ):
        assert_near(found, expected, dtype, n)


# -- every reduction -------------------------------------------------------------------------------

K = 3
KINDS = {
    "number": Case(
        "Cos(p*Ind_j() + Ind_i()) + b",
        "bp",
        lambda e: torch.cos(e.p * e.j + e.i) + e.b,
    ),
    "integer": Case(
        "Sin(Elem(l, 0) + 2*Elem(m, 0)) + b*Elem(x, 0)",
        "xblm",
        lambda e: torch.sin((e.l + 2 * e.m)[..., :1].double()) + e.b * e.x[..., :1],
    ),
    "table": Case(
        "Gather(t, Elem(m, 0))*Elem(x, 1) + Gather(s, Ind_i() - Ind_j())",
        "xtsm",
        lambda e: take(e.t, e.m[..., :1]) * e.x[..., 1:2] + take(e.s, e.i - e.j) * 1.0,
    ),
    "pair": Case("w*b - Elem(u, 2)", "bwu", lambda e: e.w * e.b - e.u[..., 2:]),
}
# One row and one column after the other have what the first case lacks: no ties.
WEIGHTS = Case("b + Elem(x, 0)", "xb", lambda e: e.b + e.x[..., :1])


def untied(kind: str) -> Case:
    """The case with a term that has no ties, as extrema need."""
    case = KINDS[kind]
    names = "".join(dict.fromkeys(case.names + "xyb"))
    return Case(
        f"{case.formula} + (x|y)/4",
        names,
        lambda e: case.dense(e) + (e.x * e.y).sum(-1)[..., None] / 4,
    )


@pytest.mark.sampled(112)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.spelling)
def test_every_reduction_of_every_kind(row: Reduction, kind: str) -> None:
    case, dtype = untied(kind), torch.float64
    given = arguments(20, 270, dtype)
    options: dict[str, Any] = {}
    if row.takes == "weights":
        options["formula2"] = WEIGHTS.formula
    if row.keeps:
        options["opt_arg"] = K
    for axis in (1, 0):
        taken = case._replace(formula=taken_formula(row.name, case.formula))
        reduce = operation(taken, row.spelling, axis, **options)

        def compiled(leaves: dict[str, Tensor], reduce: Genred = reduce) -> Results:
            made = reduce(*(leaves[n] for n in case.names))
            return made if isinstance(made, tuple) else (made,)

        def dense(leaves: dict[str, Tensor], axis: int = axis) -> Results:
            pairs = spread(leaves)
            weights = WEIGHTS.dense(pairs) if row.takes == "weights" else None
            terms = taken_terms(row.name, case.dense(pairs))
            return reduce_pairs(row.name, terms, axis, weights=weights, count=K)

        for found, expected in zip(compiled(given), dense(given), strict=True):
            if expected.is_floating_point():
                assert_near(found, expected, dtype, axis)
            else:
                assert torch.equal(found, expected), axis
        if row.has_gradient:
            made = (
                derivatives(lambda e, f=f: f(e)[0], given, case.names) for f in (compiled, dense)
            )
            for n, (found, expected) in enumerate(zip(*made, strict=True)):
                assert_near(found, expected, dtype, (axis, n))


# -- what people ask for ---------------------------------------------------------------------------


def test_causal_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(300, 8, generator=generator, requires_grad=True) for _ in range(3))
    aliases = ["q = Vi(8)", "k = Vj(8)", "v = Vj(8)"]
    attention = Genred(
        "(q|k)/Sqrt(8) + Log(Ind_j() <= Ind_i())", aliases, "SumSoftMaxWeight", 1, formula2="v"
    )
    wide = [t.detach().double().requires_grad_() for t in (q, k, v)]
    exact = torch.nn.functional.scaled_dot_product_attention(*wide, is_causal=True)
    result = attention(q, k, v)
    assert_near(result, exact, torch.float32)
    found = torch.autograd.grad(result.sin().sum(), (q, k, v))
    for part, expected in zip(found, torch.autograd.grad(exact.sin().sum(), wide), strict=True):
        assert_near(part, expected, torch.float32)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_mask_of_pairs_under_logsumexp(axis: int) -> None:
    given = arguments(40, 300, torch.float64)
    mask = given["k"] > 2
    mask[3], mask[:, 5] = False, False
    reduce = Genred("(x|y) + Log(w)", ["x=Vi(3)", "y=Vj(3)", "w=Vij(1, int)"], "LogSumExp", axis)
    x = given["x"].requires_grad_()
    result = reduce(x, given["y"], mask)
    scores = (x @ given["y"].T)[..., None].masked_fill(~mask, -math.inf)
    exact = scores.logsumexp(axis)
    masked = 3 if axis == 1 else 5
    assert result[masked].item() == -math.inf
    there = torch.arange(len(exact)) != masked
    assert_near(result[there], exact[there], torch.float64)
    (found,) = torch.autograd.grad(result[there].sum(), x)
    (expected,) = torch.autograd.grad(exact[there].sum(), x)
    assert_near(found, expected.nan_to_num(0.0), torch.float64)


def test_labels_count_their_like() -> None:
    labels = torch.tensor([[3], [1], [3], [3]])
    count = Genred("Equal(l, m)", ["l = Vi(1, int)", "m = Vj(1, int)"], axis=1)
    assert count(labels, labels).flatten().tolist() == [3, 1, 3, 3]


# -- integers --------------------------------------------------------------------------------------


def test_integers_are_exact_beyond_what_float32_holds() -> None:
    large = 2**24
    rows = torch.tensor([[large], [large + 1]])
    columns = torch.tensor([[large + 1], [large], [large + 1]])
    aliases = ["l = Vi(1, int)", "m = Vj(1, int)", "x = Vi(1)"]
    x = torch.ones(2, 1)
    equal = Genred("x*(l == m)", aliases, axis=1)
    assert equal(rows, columns, x).flatten().tolist() == [1, 2]
    close = Genred("x*(2*l - m - l < 0) + 0*x", aliases, axis=1)
    assert close(rows, columns, x).flatten().tolist() == [2, 0]
    by_number = Genred(f"x*(Ind_j() + {large} == l)", ["l = Vi(1, int)", "x = Vj(1)"], axis=1)
    assert by_number(rows, torch.tensor([[1.0], [10.0]])).flatten().tolist() == [1, 10]
    table = Genred("Gather(l, 0) == m", ["l = Pm(1, int)", "m = Vj(1, int)", "x = Vi(1)"], axis=1)
    assert table(rows[1], columns, x).flatten().tolist() == [2, 2]


def test_numbers_that_do_not_fit_are_compared_as_floats() -> None:
    before = Genred("x*(Ind_j() < 5000000000)", ["x = Vj(1)", "y = Vi(1)"], axis=1)
    assert before(torch.ones(4, 1), torch.ones(2, 1)).flatten().tolist() == [4, 4]
    halves = Genred("x*(Ind_j() < 5/2)", ["x = Vj(1)", "y = Vi(1)"], axis=1)
    assert halves(torch.ones(4, 1), torch.ones(2, 1)).flatten().tolist() == [3, 3]


INTEGER_DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("integer", [*INTEGER_DTYPES, ">i2", ">i8"])
def test_numpy_takes_every_integer_dtype(integer: str, dtype: Any) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (9, 2)).astype(integer)[:, ::-1]
    x = np.ones((9, 1), dtype)
    count = redcomp.numpy.Genred(
        "x*Equal(Elem(l, 0), Elem(m, 1))", ["x = Vi(1)", "l = Vi(2, int)", "m = Vj(2, int)"], axis=1
    )
    result = count(x, labels, labels)
    assert result.dtype == dtype
    equal = labels[:, None, 0].astype(int) == labels[None, :, 1].astype(int)
    np.testing.assert_array_equal(result[:, 0], equal.sum(1))


@pytest.mark.parametrize("integer", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_takes_every_integer_dtype(integer: torch.dtype, dtype: torch.dtype) -> None:
    labels = torch.tensor([[1], [0], [1]]).to(integer)
    x = torch.full((3, 1), 2.0, dtype=dtype)
    count = Genred("x*(l == m)", ["x = Vi(1)", "l = Vi(1, int)", "m = Vj(1, int)"], axis=1)
    result = count(x, labels, labels)
    assert result.dtype == dtype
    assert result.flatten().tolist() == [4, 2, 4]


def test_a_call_of_integers_alone_has_the_library_s_own_dtype() -> None:
    aliases = ["l = Vi(1, int)", "m = Vj(1, int)"]
    labels = np.array([[2**40], [7]])
    result = redcomp.numpy.Genred("l == m", aliases, axis=1)(labels, labels)
    assert result.dtype == np.float64
    assert result.flatten().tolist() == [1, 1]
    assert Genred("l + m", aliases, axis=1)(*[torch.tensor([[1]])] * 2).dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.float32, 2**31), (np.float32, -(2**31) - 1), (np.float64, 2**63)]
)
def test_integers_out_of_range_are_named(dtype: Any, value: int) -> None:
    labels = np.array([[1], [value]], np.uint64 if value > 2**62 else np.int64)
    x, aliases = np.ones((2, 1), dtype), ["x = Vi(1)", "labels = Vj(1, int)"]
    with pytest.raises(ArgumentError, match=rf"'labels' has the value {value}, .* fit into int"):
        redcomp.numpy.Genred("x*labels", aliases, axis=1)(x, labels)
    if value < 2**63:
        tensors = torch.from_numpy(x), torch.from_numpy(labels)
        with pytest.raises(ArgumentError, match=rf"'labels' has the value {value}, .* int32"):
            Genred("x*labels", aliases, axis=1)(*tensors)
        assert (
            redcomp.numpy.Genred("x*(labels != 1)", aliases, axis=1)(x.astype(float), labels)[0]
            == 1
        )


@pytest.mark.parametrize("face", [redcomp.numpy.Genred, Genred])
def test_wrong_dtypes_are_named(face: Any) -> None:
    make: Callable[..., Any] = np.ones if face is redcomp.numpy.Genred else torch.ones
    int64 = np.int64 if face is redcomp.numpy.Genred else torch.int64
    reduce = face("x*l", ["x = Vi(1)", "l = Vj(1, int)"], axis=1)
    with pytest.raises(ArgumentError, match=r"'l' has dtype .*float.*; its alias says integers"):
        reduce(make((2, 1)), make((3, 1)))
    with pytest.raises(ArgumentError, match=r"'x' has dtype .*int64; expected"):
        reduce(make((2, 1), dtype=int64), make((3, 1), dtype=int64))


# -- tables ----------------------------------------------------------------------------------------


def test_indices_are_rounded_and_never_leave_the_table() -> None:
    half = math.nextafter(0.5, 0.0)
    indices = [0.5, half, 1.5, -0.5, -0.51, 4.49, 4.5, 1e30, -1e30, math.inf, -math.inf, math.nan]
    expected = [1, 0, 2, 0, None, 4, None, None, None, None, None, None]
    table = torch.arange(5.0, dtype=torch.float64) + 10
    exact = [0.0 if n is None else n + 10.0 for n in expected]
    at = torch.tensor(indices, dtype=torch.float64)[:, None]
    for formula in ("Gather(t, x)", "Gather(1*t, x)"):
        read = Genred(formula, ["t = Pm(5)", "x = Vi(1)", "y = Vj(1)"], axis=1)
        assert read(table, at, at[:1]).flatten().tolist() == exact
    far = torch.tensor([[2**31 - 1], [-(2**31)], [4]])
    read = Genred("Gather(t, l)", ["t = Pm(5)", "l = Vi(1, int)", "y = Vj(1)"], axis=1)
    assert read(table.float(), far, at[:1].float()).flatten().tolist() == [0, 0, 14]


def test_zeros_of_a_table_that_is_not_read_stay_zeros() -> None:
    """What is not asked for may be infinite or NaN."""
    table = torch.tensor([math.nan, 2.0, math.inf], requires_grad=True)
    x = torch.ones(4, 1, requires_grad=True)
    for formula in ("x*Gather(t, 1)", "x*Gather(t, Ind_i() - Ind_i() + 1)", "x*Gather(t*1, 1)"):
        result = Genred(formula, ["t = Pm(3)", "x = Vi(1)"], axis=1)(table, x)
        assert result.flatten().tolist() == [2, 2, 2, 2]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["Vi", "Vj"])
def test_a_long_table_costs_what_its_reads_cost(kind: str) -> None:
    length, rows = 1_000_000, 200
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(length, generator=generator, requires_grad=True)
    labels = torch.randint(0, length, (rows, 1), generator=generator)
    x = torch.rand(300, 1, generator=generator, requires_grad=True)
    other = "Vj" if kind == "Vi" else "Vi"
    read = Genred(
        "Exp(-Square(x - Gather(t, l)))",
        [f"x = {other}(1)", f"t = Pm({length})", f"l = {kind}(1, int)"],
        axis=1,
    )
    result = read(x, table, labels)
    wide = table.detach().double().requires_grad_()
    terms = torch.exp(-((x.double() - wide[labels[:, 0]][None]) ** 2))
    exact = terms.sum(1 if kind == "Vj" else 0)[:, None]
    assert_near(result, exact, torch.float32)
    (found,) = torch.autograd.grad(result.sum(), table, create_graph=True)
    (expected,) = torch.autograd.grad(exact.sum(), wide, create_graph=True)
    assert_near(found, expected, torch.float32)
    again, _ = torch.autograd.grad(found.square().sum(), (table, x))
    (exact_again,) = torch.autograd.grad(expected.square().sum(), wide)
    assert_near(again, exact_again, torch.float32)


def test_one_table_read_in_several_ways() -> None:
    """Through indices of rows, of pairs, and as it is: all derivatives add up."""
    given = arguments(9, 11, torch.float64)
    case = Case(
        "Gather(s, Elem(l, 0))*Gather(s, Ind_i() - Ind_j()) + Sum(s*s)*b"
        " + Gather(s, 2)*Gather(s, n)",
        "blsn",
        lambda e: (
            take(e.s, e.l[..., :1]) * take(e.s, e.i - e.j)
            + (e.s * e.s).sum(-1, keepdim=True) * e.b
            + e.s[..., 2:3] * take(e.s, e.n)
        ),
    )
    given["l"] = given["l"] % 5
    for axis in (0, 1):
        reduce = operation(case, axis=axis)
        found = derivatives(lambda e, f=reduce: f(*(e[n] for n in case.names)), given, case.names)
        expected = derivatives(
            lambda e, axis=axis: case.dense(spread(e)).sum(axis), given, case.names
        )
        for n, parts in enumerate(zip(found, expected, strict=True)):
            assert_near(*parts, torch.float64, (axis, n))


# -- arrays of pairs -------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_arrays_of_pairs_may_have_any_strides(axis: int) -> None:
    given = arguments(20, 30, torch.float32)
    x, u = given["x"], given["u"]
    reduce = Genred("(x|u)", ["x = Vi(3)", "u = Vij(3)"], axis=axis)
    expected = reduce(x, u)
    for strided in (
        u.transpose(0, 1).contiguous().transpose(0, 1),
        u.repeat_interleave(2, dim=-1)[..., ::2],
        torch.stack([u, u], 0)[1],
    ):
        assert torch.equal(reduce(x, strided), expected)
    flipped = np.flip(np.flip(u.numpy(), 1).copy(), 1)
    result = redcomp.numpy.Genred("(x|u)", ["x = Vi(3)", "u = Vij(3)"], axis=axis)(
        x.numpy(), flipped
    )
    np.testing.assert_array_equal(result, expected)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (1, 1), (1, 600), (600, 1)])
def test_arrays_of_pairs_of_every_size(rows: int, columns: int, axis: int) -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(rows, columns, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    result = Genred("Square(w)*Elem(w, 0)", ["w = Vij(2)"], axis=axis)(w)
    exact = (w**2 * w[..., :1]).sum(axis)
    assert_near(result, exact, torch.float64)
    (found,) = torch.autograd.grad(result.sum(), w)
    (expected,) = torch.autograd.grad(exact.sum(), w)
    assert_near(found, expected, torch.float64)


def test_gradients_of_pairs_are_computed_some_rows_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redcomp.torch.autograd._PAIRS", 64)
    case, given = CASES["pairs"], arguments(23, 30, torch.float64)
    reduce = operation(case)
    found = derivatives(lambda e: reduce(*(e[n] for n in case.names)), given, case.names)
    expected = derivatives(lambda e: case.dense(spread(e)).sum(1), given, case.names)
    for n, parts in enumerate(zip(found, expected, strict=True)):
        assert_near(*parts, torch.float64, n)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 4), r"'w' must have shape \(M, N, 1\).*it has shape \(3, 4\)"),
        ((3, 5, 1), "'w' has 5 columns, but 'y' has 4: all j-variables"),
        ((2, 4, 1), "'w' has 2 rows, but 'x' has 3: all i-variables"),
        ((3, 4, 2), r"'w' must have shape \(M, N, 1\)"),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_arrays_of_pairs_of_wrong_shapes(shape: tuple[int, ...], message: str, axis: int) -> None:
    reduce = Genred("x*y*w", ["x = Vi(1)", "y = Vj(1)", "w = Vij(1)"], axis=axis)
    with pytest.raises(ArgumentError, match=message):
        reduce(torch.ones(3, 1), torch.ones(4, 1), torch.ones(shape))


# -- batches and ranges ----------------------------------------------------------------------------

# What of each argument stands for the entries of a batch of (2, 3).
BATCHED: dict[str, tuple[int, ...]] = {
    "x": (3,),
    "y": (),
    "b": (2, 1),
    "p": (2, 3),
    "w": (3,),
    "u": (2, 3),
    "t": (3,),
    "s": (),
    "l": (2, 1),
    "n": (),
}


@pytest.mark.sampled(15)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_batches(name: str, axis: int) -> None:
    """Every entry is a call of its own, numbers counting anew; and so are the derivatives."""
    case = CASES[name]
    entries = [arguments(9, 14, torch.float64, seed) for seed in range(6)]
    given = {}
    for n in case.names:
        stacked = torch.stack([entry[n] for entry in entries]).unflatten(0, (2, 3))
        shape = BATCHED.get(n, (2, 3))
        sizes = (*(1,) * (2 - len(shape)), *shape)
        given[n] = stacked[: sizes[0], : sizes[1]].reshape(*shape, *stacked.shape[2:])
    reduce = operation(case, axis=axis)

    def compiled(leaves: dict[str, Tensor]) -> Tensor:
        return reduce(*(leaves[n] for n in case.names))

    def dense(leaves: dict[str, Tensor]) -> Tensor:
        wide = {n: leaves[n].expand(2, 3, *entries[0][n].shape) for n in case.names}
        results = [
            case.dense(spread({**entries[0], **{n: t[a, b] for n, t in wide.items()}})).sum(axis)
            for a in range(2)
            for b in range(3)
        ]
        return torch.stack(results).unflatten(0, (2, 3))

    assert_near(compiled(given), dense(given), torch.float64)
    found = derivatives(compiled, given, case.names)
    for n, parts in enumerate(zip(found, derivatives(dense, given, case.names), strict=True)):
        assert_near(*parts, torch.float64, n)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_ranges(name: str, axis: int) -> None:
    """Blocks of pairs; numbers are those of the whole arrays, and what is left out is 0."""
    case, given = CASES[name], arguments(40, 300, torch.float64)
    ranges_i, slices_i = [[2, 11], [20, 40]], [2, 3]
    redranges_j = [[0, 7], [250, 290], [30, 299]]
    blocks = [(ranges_i[0], redranges_j[:2]), (ranges_i[1], redranges_j[2:])]
    mask = torch.zeros(40, 300, 1, dtype=torch.bool)
    for (first, last), intervals in blocks:
        for start, stop in intervals:
            mask[first:last, start:stop] = True
    columns = mask[:, :, 0].any(0).nonzero()[:, 0].tolist()
    ranges_j = [[j, j + 1] for j in columns]
    reached = [[rows for rows, cols in blocks if any(a <= j < b for a, b in cols)] for j in columns]
    six = (
        ranges_i,
        slices_i,
        redranges_j,
        ranges_j,
        np.cumsum([len(rows) for rows in reached]),
        [rows for each in reached for rows in each],
    )
    ranges = tuple(torch.tensor(np.array(array), dtype=torch.int32) for array in six)
    reduce = operation(case, axis=axis)

    def compiled(leaves: dict[str, Tensor]) -> Tensor:
        return reduce(*(leaves[n] for n in case.names), ranges=ranges)

    def dense(leaves: dict[str, Tensor]) -> Tensor:
        return torch.where(mask, case.dense(spread(leaves)), 0.0).sum(axis)

    assert_near(compiled(given), dense(given), torch.float64)
    found = derivatives(compiled, given, case.names)
    for n, parts in enumerate(zip(found, derivatives(dense, given, case.names), strict=True)):
        assert_near(*parts, torch.float64, n)


# -- formulas --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "message", "place"),
    [
        ("Ind_i(x)", r"Ind_i\(\) takes 0 arguments, got 1", "Ind_i(x)"),
        ("Ind_i + x", r"Ind_i is an operation: write Ind_i\(\)", "Ind_i"),
        ("Gather(x)", r"Gather\(table, index\) takes 2 arguments", "Gather(x)"),
        ("Gather(t, x)", "Gather takes one index, not a vector of 3", "Gather(t, x)"),
        ("Grad(x, l, x)", "must be a variable, no integer", "l"),
        ("l + Vi(1, 2)", r"argument 1 is Vi\(1, 2, int\), called l", "Vi(1, 2)"),
        ("x + Concat(l, l)", "dimensions 3, 4 do not fit", "x + Concat(l, l)"),
        ("x*(Elem(l, 0) < Concat(l, l)) + (l == x)", "dimensions", ""),
    ],
)
def test_wrong_formulas(formula: str, message: str, place: str) -> None:
    with pytest.raises(FormulaError, match=message) as caught:
        Genred(formula, ["x = Vi(3)", "l = Vi(2, int)", "t = Pm(5)"], axis=1)
    error = caught.value
    assert place in ("", formula[error.start : error.stop])


def test_variables_of_pairs_without_an_alias() -> None:
    w = torch.rand(4, 5, 2)
    result = Genred("Vij(0, 2)*Ind_j()", [], axis=1)(w)
    torch.testing.assert_close(result, (w * torch.arange(5.0)[:, None]).sum(1))


# -- forward mode, other targets, other machines ---------------------------------------------------


# PyTorch's forward mode warns about PyTorch's own scripts.
@pytest.mark.sampled(6)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_forward_mode(name: str) -> None:
    case, given = CASES[name], arguments(12, 17, torch.float64)
    reduce = operation(case)
    tangents = {n: torch.cos(7 * t) for n, t in given.items() if t.is_floating_point()}

    def tangent(evaluate: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        with forward_ad.dual_level():
            duals = {
                n: forward_ad.make_dual(t, tangents[n]) if n in tangents else t
                for n, t in given.items()
            }
            return forward_ad.unpack_dual(evaluate(duals)).tangent

    found = tangent(lambda e: reduce(*(e[n] for n in case.names)))
    assert_near(found, tangent(lambda e: case.dense(spread(e)).sum(1)), torch.float64)


@pytest.mark.sampled(24)
@pytest.mark.parametrize("target", ["avx2", "sse2"])
@pytest.mark.parametrize("name", CASES)
def test_narrower_targets(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    available = [t for t in ("avx512", "avx2", "sse2") if _runs(t)]
    if target not in available:
        pytest.skip(f"this machine does not run {target}")
    monkeypatch.setenv("REDCOMP_TARGET", target)
    case = CASES[name]
    for dtype in (torch.float32, torch.float64):
        given = arguments(21, 30, dtype)
        result = operation(case)(*(given[n] for n in case.names))
        assert_near(result, case.dense(spread(given)).sum(1), dtype)


def _runs(target: str) -> bool:
    import llvmlite.binding as llvm

    needed = {"avx512": "avx512f", "avx2": "avx2", "sse2": "sse2"}[target]
    return bool(llvm.get_host_cpu_features().get(needed, False))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", CASES)
def test_neon_compiles(name: str) -> None:
    lowering = operation(CASES[name]).lower("float32", "neon")
    assert lowering.pair_loop.vector_instructions > 0


def test_reductions_are_pickled() -> None:
    case, given = CASES["pairs"], arguments(6, 7, torch.float32)
    reduce = operation(case)
    copy = pickle.loads(pickle.dumps(reduce))
    arguments_ = [given[n] for n in case.names]
    assert torch.equal(copy(*arguments_), reduce(*arguments_))


def test_a_system_with_labels_and_weights_of_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    n, dtype = 40, torch.float64
    x = torch.rand(n, 2, generator=generator, dtype=dtype)
    b = torch.randn(n, 1, generator=generator, dtype=dtype)
    labels = torch.randint(0, 3, (n, 1), generator=generator)
    w = torch.rand(n, n, 1, generator=generator, dtype=dtype)
    w = (w + w.transpose(0, 1)).requires_grad_()
    aliases = ["x=Vi(2)", "y=Vj(2)", "l=Vi(1, int)", "m=Vj(1, int)", "w=Vij(1)", "a=Vj(1)"]
    solve = KernelSolve("Exp(-SqDist(x, y))*(l == m)*w*a", aliases, "a", axis=1)
    result = solve(x, x, labels, labels, w, b, alpha=8.0, eps=1e-12)
    kernel = torch.exp(-(torch.cdist(x, x) ** 2)) * (labels == labels.T) * w[..., 0]
    exact = torch.linalg.solve(kernel + 8 * torch.eye(n, dtype=dtype), b)
    assert_near(result, exact, dtype)
    (found,) = torch.autograd.grad(result.square().sum(), w)
    (expected,) = torch.autograd.grad(exact.square().sum(), w)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
