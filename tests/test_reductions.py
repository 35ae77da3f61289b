"""Every reduction of the table against dense float64 computations: needs a CPU and torch."""

from __future__ import annotations

import itertools

import pytest
import torch
from reduction_cases import INF, NAN, ROWS, Case, Tensor, call, cases, grid
from reference_reductions import reduce_pairs

from redcomp.errors import FormulaError
from redcomp.ops.reductions import REDUCTIONS, Reduction
from redcomp.torch import Genred

pytestmark = pytest.mark.slow

LANES = 16
SIZES = [(1, 1), (1, 700), (3, 257), (LANES, 256), (LANES + 1, 2), (49, 255), (70, 520)]
COUNTS = [1, 2, 10, 16, 17, 40, 100, 256]
WIDTHS = [1, 3, 16, 17, 40]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["f32", "f64"])


def check(case: Case, given: list[Tensor], axis: int) -> None:
    """Values and dtypes of all results; numbers of columns and truth values are exact."""
    dtype = given[0].dtype
    computed, expected = call(case.genred(axis), *given), case.dense(given, axis)
    for result, right in zip(computed, expected, strict=True):
        assert result.shape == right.shape
        if not right.is_floating_point():
            assert torch.equal(result, right)
            continue
        assert result.dtype == dtype
        assert_close(result, right, TOLERANCE[dtype])


def assert_close(result: Tensor, right: Tensor, tolerance: float) -> None:
    """Relative to the largest result; infinities and NaN must be the same."""
    result, right = result.double(), right.double()
    finite = right.isfinite()
    same = (result == right) | (result.isnan() & right.isnan())
    size = 1 + torch.where(finite, right, 0).abs().max() if right.numel() else 0
    close = finite & ((result - right).abs() <= tolerance * size)
    assert bool((same | close).all()), (result, right)


def test_rows_give_what_those_in_their_place_give() -> None:
    """A kernel writes as many results as its caller has memory for."""
    for row in REDUCTIONS.values():
        if row.fast is not None:
            assert row.fast.results == row.results
        if row.kept:
            assert REDUCTIONS[row.kept].results[: len(row.results)] == row.results
            assert REDUCTIONS[row.kept].fast is None


@pytest.mark.sampled(928)
@pytest.mark.parametrize("axis", [0, 1])
@DTYPES
@pytest.mark.parametrize("case", cases(), ids=str)
def test_values(case: Case, dtype: torch.dtype, axis: int) -> None:
    for rows, columns in SIZES:
        sizes = (rows, columns) if axis == 1 else (columns, rows)
        check(case, grid(*sizes, dtype, case.width), axis)


@pytest.mark.sampled(84)
@DTYPES
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["kmin_argkmin", "argkmax"])
def test_numbers_of_columns_kept(name: str, count: int, dtype: torch.dtype) -> None:
    """Also more than there are: then neutral values, and number 0."""
    case = Case(REDUCTIONS[name], count=count)
    for rows, columns in ((1, 300), (20, 1), (20, 9), (60, 600)):
        check(case, grid(rows, columns, dtype), axis=1)


@pytest.mark.sampled(18)
@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("name", ["kmin", "kmax_argkmax", "argkmin"])
def test_columns_are_kept_for_each_component(name: str, count: int) -> None:
    case = Case(REDUCTIONS[name], is_vector=True, count=count)
    given = grid(30, 300, torch.float32)
    assert call(case.genred(1), *given)[0].shape == (30, count, 3)
    check(case, given, axis=1)


def test_kept_columns_of_ascending_and_descending_values() -> None:
    """Each column of the descending ones is better than all before it."""
    y = torch.arange(1000.0)[:, None]
    for given in (y, y.flip(0)):
        case = Case(REDUCTIONS["kmin_argkmin"], count=40)
        values, places = case.genred(1, "x + y", ("x = Vi(1)", "y = Vj(1)"))(y[:5] * 0, given)
        assert (values == torch.arange(40.0)).all()
        assert (given[:, 0][places] == values).all()


@pytest.mark.sampled(108)
@DTYPES
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("row", [r for r in ROWS if r.takes == "weights"], ids=lambda r: r.name)
def test_dimensions_of_weights(row: Reduction, width: int, dtype: torch.dtype) -> None:
    for rows, columns in ((1, 300), (60, 300)):
        check(Case(row, width=width), grid(rows, columns, dtype, width), axis=1)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("row", [r for r in ROWS if r.weighted], ids=lambda r: r.name)
def test_weights_choose_the_weighted_row(row: Reduction) -> None:
    given = grid(10, 20, torch.float64, 2)
    weighted = Case(REDUCTIONS[row.weighted], width=2)
    results = call(weighted.genred(1, reduction_op=row.spelling), *given)
    for result, right in zip(results, weighted.dense(given, 1), strict=True):
        torch.testing.assert_close(result, right, rtol=1e-12, atol=1e-12)


@pytest.mark.sampled(384)
@pytest.mark.parametrize("case", [c for c in cases() if c.row.spellings], ids=str)
def test_all_spellings_mean_the_same(case: Case) -> None:
    given = grid(20, 30, torch.float32, case.width)
    first, *others = (
        call(case.genred(1, reduction_op=spelling), *given) for spelling in case.row.spellings
    )
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_spellings_of_pairs_are_known() -> None:
    known = {spelling for row in ROWS for spelling in row.spellings}
    pairs = {"MinArgMin", "MaxArgMax", "KMinArgKMin", "KMaxArgKMax", "MaxSumShiftExp", "SoftMax"}
    assert pairs <= known


@pytest.mark.parametrize("case", cases(), ids=str)
def test_no_columns_and_no_rows(case: Case) -> None:
    for rows, columns in ((4, 0), (0, 4), (0, 0)):
        check(case, grid(rows, columns, torch.float32, case.width), axis=1)


@pytest.mark.sampled(32)
@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("name", ["argmin", "max_argmax", "argkmin", "kmax_argkmax"])
def test_places_are_exact_over_tiles_and_splits(name: str, rows: int) -> None:
    columns, row = 300_000, REDUCTIONS[name]
    sign = 1.0 if "min" in name else -1.0
    case = Case(row, count=2 if row.keeps else 0)
    operation = case.genred(1, "x + y", ("x = Vi(1)", "y = Vj(1)"))
    x, y = torch.zeros(rows, 1), torch.full((columns, 1), sign)
    for place in (0, 255, 256, 131_071, columns - 2):
        y[place:] = 0.0  # from there on all are equal: the first ones count
        found = call(operation, x, y)[-1]
        assert found.dtype == torch.int64
        assert (found == place + torch.arange(found.shape[1])).all()
        y[place:] = sign


def test_places_beyond_what_float32_can_count() -> None:
    columns = 2**24 + 5
    y = torch.zeros(columns, 1)
    y[-2] = -1.0
    aliases = ["x = Vi(1)", "y = Vj(1)"]
    for spelling, count in (("ArgMin", None), ("ArgKMin", 2)):
        operation = Genred("x + y", aliases, reduction_op=spelling, axis=1, opt_arg=count)
        assert operation(torch.zeros(1, 1), y)[0, 0] == columns - 2


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["min_argmin", "max_argmax"])
def test_long_vectors_have_a_place_for_each_component(name: str) -> None:
    case = Case(REDUCTIONS[name])
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-9, 9, (n, 40), generator=generator).float() for n in (30, 300))
    results = case.genred(1, "x - y", ("x = Vi(40)", "y = Vj(40)"))(x, y)
    expected = reduce_pairs(name, (x[:, None] - y[None]).double())
    for result, right in zip(results, expected, strict=True):
        assert torch.equal(result, right.to(result))


def test_logsumexp_does_not_overflow_over_many_tiles() -> None:
    operation = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], reduction_op="LogSumExp", axis=1)
    x = torch.tensor([[1.0], [-1.0], [100.0]])
    y = torch.linspace(-1000, 1000, 5000)[:, None]
    expected = (x.double() * y.double().T).logsumexp(1, keepdim=True)
    assert ((operation(x, y) - expected).abs() <= 1e-6 * expected.abs()).all()


def test_softmax_of_large_values_is_a_mean_of_weights() -> None:
    aliases = ["x = Vi(1)", "y = Vj(1)", "w = Vj(2)"]
    operation = Genred("x * y", aliases, reduction_op="SoftMax", axis=1, formula2="w")
    x, y = torch.tensor([[1.0], [-50.0]]), torch.linspace(-1000, 1000, 3000)[:, None]
    w = torch.cat([y, torch.ones(3000, 1)], 1)
    shares = (x.double() * y.double().T).softmax(1)
    torch.testing.assert_close(operation(x, y, w).double(), shares @ w.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r.takes in ("scalar", "weights")], ids=lambda row: row.name
)
def test_rows_of_scalars_take_no_vectors(row: Reduction) -> None:
    with pytest.raises(FormulaError, match="dimension 1, not 3"):
        Case(row, is_vector=True, width=2).genred(1)


# -- infinities and NaN ----------------------------------------------------------------------------

SPECIAL = (-INF, -2.0, 0.0, 3.0, INF, NAN)
# Of complex numbers tests/test_complex_products.py says what they are.
SCALARS = [case for case in cases() if not case.is_vector and case.row.takes != "complex"]


@pytest.mark.sampled(72)
@pytest.mark.parametrize("case", SCALARS, ids=str)
def test_special_values(case: Case) -> None:
    """All triples of special terms, alone and again and again over several tiles."""
    aliases = ("x = Vi(1)", "y = Vj(1)", "w = Vj(2)")[: 3 if case.width else 2]
    operation = case.genred(1, "x + y", aliases, formula2="w" if case.width else None)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for terms in itertools.product(SPECIAL, repeat=3):
        for repeated in (1, 200):
            y = torch.tensor(terms * repeated, dtype=torch.float64)[:, None]
            given = [torch.cat([y.isnan(), y.isinf()], 1).double() + 0.5] if case.width else []
            weights = given[0][None] if given else None
            dense = reduce_pairs(case.row.name, y[None], weights=weights, count=case.count)
            for computed, right in zip(call(operation, zero, y, *given), dense, strict=True):
                assert_close(computed, right, 1e-12)


def check_special_list(name: str, count: int, columns: int, dtype: torch.dtype) -> None:
    """Rows of a few special values each, most of them infinite or NaN, against a stable sort."""
    random = torch.Generator().manual_seed(columns)
    y = torch.tensor((*SPECIAL, INF, NAN, NAN), dtype=dtype)[
        torch.randint(len(SPECIAL) + 3, (columns, 1), generator=random)
    ]
    x = torch.tensor(SPECIAL * 3, dtype=dtype)[:, None]
    spelling = REDUCTIONS[name].spelling
    operation = Genred("x + y", ["x = Vi(1)", "y = Vj(1)"], spelling, axis=1, opt_arg=count)
    terms = (x + y.T)[..., None]
    expected = reduce_pairs(name, terms, count=count)
    for computed, right in zip(call(operation, x, y), expected, strict=True):
        assert_close(computed, right, 0.0)


@pytest.mark.sampled(40)
@DTYPES
@pytest.mark.parametrize("count", [1, 3, 10, 17, 40])
@pytest.mark.parametrize("name", ["kmin_argkmin", "kmax_argkmax"])
def test_lists_of_special_values(name: str, count: int, dtype: torch.dtype) -> None:
    for columns in (1, 7, 8, 9, 10, 11, 30, 31, 33, 100, 300):
        check_special_list(name, count, columns, dtype)


def test_nothing_but_minus_infinity() -> None:
    """The logarithm is -inf, a mean weighted by the exponentials is not defined."""
    y, w = torch.full((600, 1), -INF), torch.ones(600, 3)
    aliases = ["x = Vi(1)", "y = Vj(1)", "w = Vj(3)"]
    for spelling, weights, expected in (
        ("LogSumExp", None, -INF),
        ("LogSumExp", "w", -INF),
        ("SoftMax", "w", NAN),
    ):
        names = aliases if weights else aliases[:2]
        operation = Genred("x + y", names, spelling, axis=1, formula2=weights)
        result = operation(torch.zeros(40, 1), y, *([w] if weights else []))
        assert_close(result, torch.full_like(result, expected), 0.0)


def test_infinite_terms_have_no_mean() -> None:
    """As in `torch.softmax`: what infinities weigh relative to each other is not defined."""
    y, w = torch.tensor([[INF], [1.0]]), torch.tensor([[2.0], [100.0]])
    operation = Genred("y", ["y = Vj(1)", "w = Vj(1)"], "SoftMax", axis=1, formula2="w")
    assert operation(y, w).isnan().all()
    assert Genred("y", ["y = Vj(1)"], "LogSumExp", axis=1)(y).item() == INF


@pytest.mark.sampled(2)
@DTYPES
def test_kept_columns_pass_over_nan(dtype: torch.dtype) -> None:
    y = torch.arange(300, dtype=dtype)[:, None]
    y[::2] = NAN
    operation = Genred("x + y", ["x = Vi(1)", "y = Vj(1)"], "KMin_ArgKMin", axis=1, opt_arg=200)
    values, places = operation(torch.zeros(20, 1, dtype=dtype), y)
    odd = torch.arange(1, 300, 2)
    assert torch.equal(places[:, :150], odd.expand(20, -1))
    assert torch.equal(values[:, :150], odd.to(dtype).expand(20, -1))
    assert (values[:, 150:] == INF).all()
    assert (places[:, 150:] == 0).all()
