"""The reference's reductions against numbers that one can check by hand: needs PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
from reference_reductions import REDUCTIONS, SELECTIONS, reduce_pairs, winners

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
    places = None
    if name in SELECTIONS:
        places = winners(terms, axis, mask, count, SELECTIONS[name].is_largest)
    results = reduce_pairs(name, terms, axis, mask, weights, places)
    assert all(r.shape[0] == 1 for r in results)
    return [r.flatten().tolist() for r in results]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("name", "row", "whole", "part", "nothing"),
    [
        ("Sum", ROW, [7.0], [3.0], [0.0]),
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
    ],
)
def test_selections(name, count, row, results) -> None:  # type: ignore[no-untyped-def]
    assert reduced(name, row, count=count) == results


def test_shapes_of_selections() -> None:
    for dim, shape in ((1, (2, 5, 3)), (4, (2, 5, 3, 4))):
        terms = torch.zeros(2, 5, 7, dim)
        places = winners(terms, 1, None, 3, is_largest=False)
        (found,) = reduce_pairs("ArgKMin", terms, 1, places=places)
        assert found.shape == shape


@pytest.mark.parametrize("name", [n for n in REDUCTIONS if n not in ("Any", "All")])
def test_gradients(name: str) -> None:
    """Against differences, away from ties."""
    terms = torch.tensor(ROW[:3], dtype=torch.float64).reshape(1, 3, 1).requires_grad_()
    weights = torch.tensor(WEIGHTS[:3], dtype=torch.float64).reshape(1, 3, 1)
    given = weights if "Weight" in name or name == "SoftMax" else None
    torch.autograd.gradcheck(lambda t: reduce_pairs(name, t, 1, weights=given), terms)


def test_gradients_of_no_pairs_are_zero() -> None:
    terms = torch.ones(1, 4, 1, dtype=torch.float64, requires_grad=True)
    for name in REDUCTIONS:
        if name not in ("Any", "All"):
            (result,) = reduce_pairs(name, terms, 1, NONE, torch.ones_like(terms))
            (gradient,) = torch.autograd.grad(result.sum(), terms)
            assert (gradient == 0).all(), name
