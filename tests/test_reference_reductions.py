"""The meanings of reductions against numbers that one can check by hand: needs PyTorch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from reference_reductions import (
    ASKED,
    CHOOSING,
    COMBINATIONS,
    MEANINGS,
    SELECTIONS,
    TRUTHS,
    meaning_of,
    reduce_pairs,
    taken_terms,
    winners,
)

from redcomp.ops.reductions import REDUCTIONS, Reduction

INF, NAN = math.inf, math.nan
NONE = torch.zeros(1, 4, dtype=torch.bool)
FIRST_TWO = torch.tensor([[True, True, False, False]])
ROW = (2.0, 1.0, 3.0, 1.0)
LOGS = tuple(map(math.log, ROW))
WEIGHTS = (1.0, 2.0, 3.0, 4.0)


def reduced(name: str, row, mask=None, weights=None, count: int = 1, axis: int = 1):  # type: ignore[no-untyped-def]
    """The results for one row of terms of dimension 1, as lists."""
    terms = torch.tensor(row, dtype=torch.float64).reshape((1, -1, 1) if axis else (-1, 1, 1))
    if weights is not None:
        weights = torch.tensor(weights, dtype=torch.float64).reshape(*terms.shape[:2], 1)
    mask = mask.T if mask is not None and axis == 0 else mask
    results = reduce_pairs(name, taken_terms(name, terms), axis, mask, weights, count)
    assert all(r.shape[0] == 1 for r in results)
    return [r.flatten().tolist() for r in results]


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.name)
def test_every_row_has_a_meaning(row: Reduction) -> None:
    """By its own name, and by each name that `reduction_op` takes."""
    assert all(meaning_of(name) is meaning_of(row.name) for name in row.spellings)


def test_every_meaning_is_that_of_a_row() -> None:
    assert set(MEANINGS) == {row.name for row in ASKED}
    spelled = [name for row in ASKED for name in row.spellings]
    assert sorted([*COMBINATIONS, *SELECTIONS]) == sorted(spelled)


def test_a_row_without_a_meaning_says_where_to_give_it_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REDUCTIONS, "median", replace(REDUCTIONS["min"], name="median"))
    with pytest.raises(AssertionError, match=r"MEANINGS of tests/reference_reductions.py .*median"):
        reduce_pairs("median", torch.zeros(1, 2, 1))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("name", "row", "whole", "part", "nothing"),
    [
        ("Sum", ROW, [7.0], [3.0], [0.0]),
        ("compensated_sum", ROW, [7.0], [3.0], [0.0]),
        ("Mean", ROW, [1.75], [1.5], [NAN]),
        ("Norm", (2.0, 4.0, 4.0, 0.0), [6.0], [math.sqrt(20)], [0.0]),
        ("Prod", ROW, [6.0], [2.0], [1.0]),
        ("Any", (0.0, 0.0, -1.0, 0.0), [True], [False], [False]),
        ("All", (-1.0, 2.0, 0.0, 1.0), [False], [True], [True]),
        ("LogSumExp", LOGS, [math.log(7)], [math.log(3)], [-INF]),
        ("Max_SumShiftExp", LOGS, [math.log(3), 7 / 3], [math.log(2), 1.5], [-INF, 0.0]),
        ("Min", ROW, [1.0], [1.0], [INF]),
        ("Max", ROW, [3.0], [2.0], [-INF]),
    ],
)
def test_one_result(name, row, whole, part, nothing, axis) -> None:  # type: ignore[no-untyped-def]
    for mask, right in ((None, whole), (FIRST_TWO, part), (NONE, nothing)):
        (found,) = reduced(name, row, mask, axis=axis)
        assert found == pytest.approx(right, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "whole", "nothing"),
    [
        ("LogSumExp", [math.log(17)], [-INF]),
        ("SoftMax", [17 / 7], [NAN]),
        ("SumSoftMaxWeight", [17 / 7], [NAN]),
        ("Max_SumShiftExpWeight", [math.log(3), 17 / 3], [-INF, 0.0]),
    ],
)
def test_weighted(name, whole, nothing) -> None:  # type: ignore[no-untyped-def]
    for mask, right in ((None, whole), (NONE, nothing)):
        (found,) = reduced(name, LOGS, mask, WEIGHTS)
        assert found == pytest.approx(right, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "count", "row", "results"),
    [
        ("ArgMin", 1, ROW, [[1]]),
        ("ArgMax", 1, ROW, [[2]]),
        ("Min_ArgMin", 1, (NAN, 5.0, NAN, 7.0), [[5.0], [1]]),
        ("MaxArgMax", 1, (NAN, NAN), [[-INF], [0]]),
        ("KMin", 3, ROW, [[1.0, 1.0, 2.0]]),
        ("ArgKMin", 3, ROW, [[1, 3, 0]]),
        ("ArgKMax", 4, ROW, [[2, 0, 1, 3]]),
        ("KMin_ArgKMin", 3, (4.0, NAN), [[4.0, INF, INF], [0, 0, 0]]),
        ("KMaxArgKMax", 2, (), [[-INF, -INF], [0, 0]]),
        ("Min_ArgMin", 1, (), [[INF], [0]]),
        # What is as bad as nothing is kept in lists only.
        ("Min_ArgMin", 1, (NAN, INF), [[INF], [0]]),
        ("KMin_ArgKMin", 3, (NAN, INF, 2.0), [[2.0, INF, INF], [2, 1, 0]]),
        ("Max_ArgMax", 1, (NAN, -INF, INF, INF), [[INF], [2]]),
        ("KMax_ArgKMax", 4, (NAN, -INF, INF, INF), [[INF, INF, -INF, -INF], [2, 3, 1, 0]]),
    ],
)
def test_selections(name, count, row, results) -> None:  # type: ignore[no-untyped-def]
    assert reduced(name, row, count=count) == results


@pytest.mark.parametrize(
    ("name", "row", "result"),
    [
        ("Sum", (1.0, INF), [INF]),
        ("Sum", (-INF, INF), [NAN]),
        ("Norm", (3.0, -INF), [INF]),
        ("Prod", (0.0, INF), [NAN]),
        ("Any", (0.0, NAN), [True]),
        ("All", (1.0, NAN), [True]),
        ("LogSumExp", (0.0, INF), [INF]),
        ("LogSumExp", (-INF, -INF), [-INF]),
        ("LogSumExp", (-INF, 0.0), [0.0]),
        ("LogSumExp", (NAN, 0.0), [NAN]),
        ("SoftMax", (INF, 1.0), [NAN]),
        ("SoftMax", (-INF, -INF), [NAN]),
        ("SoftMax", (-INF, 0.0), [1.0]),
        ("Max_SumShiftExp", (INF, INF, 1.0), [INF, 2.0]),
        ("Max_SumShiftExp", (-INF, -INF), [-INF, 2.0]),
        ("Max_SumShiftExp", (NAN, 0.0), [0.0, NAN]),
        ("Max_SumShiftExp", (NAN, NAN), [-INF, NAN]),
        ("Max_SumShiftExp", (1000.0, 1000.0), [1000.0, 2.0]),
    ],
)
def test_special_values(name, row, result) -> None:  # type: ignore[no-untyped-def]
    weights = [1.0] * len(row) if name == "SoftMax" else None
    assert reduced(name, row, weights=weights) == [pytest.approx(result, nan_ok=True)]


def test_pairs_that_do_not_count_may_be_anything() -> None:
    mask = torch.tensor([[True, True, False, False]])
    for name in (*COMBINATIONS, *SELECTIONS):
        weights = WEIGHTS if name in ("SoftMax", "SumSoftMaxWeight") else None
        found = reduced(name, (2.0, 1.0, NAN, INF), mask, weights, count=3)
        assert found == reduced(name, (2.0, 1.0, -INF, 7.0), mask, weights, count=3), name
        assert not any(math.isnan(number) for result in found for number in result), name


def test_batches_and_axes() -> None:
    """Each entry of a batch by itself; the axes exchanged with the terms."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(-2, 3, (2, 3, 4, 5, 1), generator=generator).double()
    weights = torch.rand((2, 3, 4, 5, 2), generator=generator, dtype=torch.float64)
    mask = torch.rand((4, 5), generator=generator) < 0.6
    for name in (*COMBINATIONS, *SELECTIONS):
        terms = taken_terms(name, drawn)
        whole = reduce_pairs(name, terms, 1, mask, weights, 2)
        one = reduce_pairs(name, terms[1, 2], 1, mask, weights[1, 2], 2)
        turned = reduce_pairs(
            name, terms.transpose(-3, -2), 0, mask.T, weights.transpose(-3, -2), 2
        )
        for a, b, c in zip(whole, one, turned, strict=True):
            assert torch.equal(a.nan_to_num(9.0), c.nan_to_num(9.0)), name
            assert torch.allclose(a[1, 2].double(), b.double(), 1e-14, 0, equal_nan=True), name


def test_shapes_of_selections() -> None:
    for dim, shape in ((1, (2, 5, 3)), (4, (2, 5, 3, 4))):
        terms = torch.zeros(2, 5, 7, dim)
        places = winners("ArgKMin", terms, count=3)
        assert places.shape == (2, 5, 3, dim)
        for known in (places, None):
            (found,) = reduce_pairs("ArgKMin", terms, count=3, places=known)
            assert found.shape == shape


def test_winners_that_are_known_are_taken() -> None:
    """As if rounding had made another term the extremum."""
    terms = torch.tensor(ROW).reshape(1, 4, 1)
    for name in CHOOSING:
        first = reduce_pairs(name, terms, places=torch.zeros(1, 1, 1, dtype=torch.int64))[0]
        assert first.flatten()[0] == (0 if name.startswith("Arg") else ROW[0]), name


@pytest.mark.parametrize("name", [n for n in COMBINATIONS if n not in TRUTHS])
def test_gradients(name: str) -> None:
    """Against differences, away from ties."""
    terms = torch.tensor(ROW[:3], dtype=torch.float64).reshape(1, 3, 1).requires_grad_()
    weights = torch.tensor(WEIGHTS[:3], dtype=torch.float64).reshape(1, 3, 1)
    given = weights if "Weight" in name or name == "SoftMax" else None
    torch.autograd.gradcheck(
        lambda t: reduce_pairs(name, taken_terms(name, t), 1, weights=given), terms
    )


def test_gradients_of_no_pairs_are_zero() -> None:
    terms = torch.ones(1, 4, 1, dtype=torch.float64, requires_grad=True)
    for name in COMBINATIONS:
        if name not in TRUTHS:
            given = taken_terms(name, terms)
            (result,) = reduce_pairs(name, given, 1, NONE, torch.ones_like(terms))
            (gradient,) = torch.autograd.grad(result.sum(), terms)
            assert (gradient == 0).all(), name


def derivatives(name: str, row: tuple[float, ...], order: int) -> list[float]:
    """Those of the first result by each term, or of the sum of the derivatives before them."""
    terms = torch.tensor(row, dtype=torch.float64).reshape(1, -1, 1).requires_grad_()
    result = reduce_pairs(name, terms)[0]
    for _ in range(order - 1):
        (result,) = torch.autograd.grad(result.sum(), terms, create_graph=True)
    return torch.autograd.grad(result.sum(), terms)[0].flatten().tolist()


@pytest.mark.parametrize(
    ("name", "row", "order", "slopes"),
    [
        ("Min", (2.0, 1.0, 1.0), 1, [0.0, 1.0, 0.0]),
        ("Max", (NAN, 3.0, 3.0), 1, [0.0, 1.0, 0.0]),
        ("Min", (NAN, INF), 1, [0.0, 0.0]),
        ("Norm", (0.0, 0.0), 1, [0.0, 0.0]),
        ("Norm", (0.0, 0.0), 2, [0.0, 0.0]),
        ("Prod", (0.0, 2.0, 3.0), 1, [6.0, 0.0, 0.0]),
        ("Prod", (0.0, 0.0, 3.0), 1, [0.0, 0.0, 0.0]),
        ("Prod", (0.0, 2.0, 3.0), 2, [5.0, 3.0, 2.0]),
        ("Prod", (0.0, 0.0, 3.0), 2, [3.0, 3.0, 0.0]),
        ("Prod", (0.0, 0.0, 0.0), 3, [2.0, 2.0, 2.0]),
        ("Prod", (0.0, 0.0, 0.0, 0.0), 4, [6.0, 6.0, 6.0, 6.0]),
        ("LogSumExp", (0.0, 0.0), 1, [0.5, 0.5]),
        ("LogSumExp", (-INF, 0.0), 1, [0.0, 1.0]),
        ("LogSumExp", (-INF, -INF), 1, [0.0, 0.0]),
        ("LogSumExp", (INF, 1.0), 1, [NAN, 0.0]),
        ("SoftMax", (-INF, -INF), 1, [0.0, 0.0]),
        ("SoftMax", (INF, 1.0), 1, [NAN, NAN]),
        # The first of the largest terms is the shift: 1 for it, and its slope is that of -exp.
        ("Max_SumShiftExp", (5.0, 5.0, 5.0), 1, [-1.0, 1.0, 1.0]),
    ],
)
def test_derivatives_at_special_points(name, row, order, slopes) -> None:  # type: ignore[no-untyped-def]
    assert derivatives(name, row, order) == pytest.approx(slopes, nan_ok=True)
