"""`ranges`, against masked dense float64; needs a CPU and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from masked import (
    ALIASES,
    MEANINGS,
    arguments,
    as_tuple,
    check,
    check_derivatives,
    dense,
    dense_batch,
    formula,
    options,
)

import redcomp
import redcomp.numpy
from redcomp import config
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.ranges import read_ranges
from redcomp.runtime.tasks import Blocks, Grain
from redcomp.torch import Genred

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
Six = tuple[Array, ...]


def half(rows: Any, columns: list[list[tuple[int, int]]]) -> Six:
    """Three arrays: blocks of rows, and the list of intervals of each."""
    slices = np.cumsum([len(intervals) for intervals in columns], dtype=np.int64)
    flat = [interval for intervals in columns for interval in intervals]
    pairs = [np.array(list(p), np.int64).reshape(-1, 2) for p in (rows, flat)]
    return pairs[0], slices, pairs[1]


def mask_of(three: Six, shape: tuple[int, int]) -> Array:
    """The pairs that three arrays name, one after the other."""
    mask = np.zeros(shape, np.bool_)
    start = 0
    for (first, last), end in zip(three[0], three[1], strict=True):
        for left, right in three[2][start:end]:
            mask[first:last, left:right] = True
        start = end
    return mask


def intervals_of(row: Array) -> list[tuple[int, int]]:
    """The intervals where a row of a mask is set."""
    ends = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in ends.reshape(-1, 2)]


def both(three: Six, rows: int, columns: int) -> Six:
    """The six arrays whose last three say of every column what the first three say of the rows."""
    mask = mask_of(three, (rows, columns))
    blocks = [(k, k + 1) for k in range(columns)]
    return (*three, *half(blocks, [intervals_of(mask[:, k]) for k in range(columns)]))


def swapped(six: Six) -> Six:
    return (*six[3:], *six[:3])


M, N = 150, 900
PATTERNS: dict[str, Six] = {
    "one block": half([(0, M)], [[(0, N)]]),
    "unsorted blocks": half([(100, 150), (0, 40), (40, 100)], [[(0, 9)], [(8, 30)], [(700, 900)]]),
    "rows outside": half([(10, 20), (60, 61)], [[(0, 300)], [(5, 6), (899, 900)]]),
    "empty blocks": half([(0, 50), (50, 50), (50, 90)], [[], [(0, 5)], [(3, 3), (4, 8)]]),
    "nothing": half([], []),
    "no intervals": half([(0, M)], [[]]),
    "long intervals": half([(0, 77), (77, M)], [[(1, 850)], [(0, 257), (258, 899)]]),
    "adjacent intervals": half([(0, M)], [[(300, 400), (100, 200), (200, 300)]]),
    "unsorted intervals": half([(0, 70), (70, M)], [[(500, 520), (3, 8), (40, 41)], [(9, 10)]]),
    "single pairs": half([(k, k + 1) for k in range(M)], [[(k, k + 1)] for k in range(M)]),
}


def operation(name: str, axis: int) -> Genred:
    return Genred(formula(name), ALIASES, axis=axis, **options(name))


@pytest.mark.sampled(96)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", MEANINGS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_reduction(pattern: str, name: str, axis: int) -> None:
    """The pattern's rows are those of the result, whichever the axis."""
    three = PATTERNS[pattern]
    mask, six = mask_of(three, (M, N)), both(three, M, N)
    for dtype in (torch.float32, torch.float64):
        given = arguments(*((M, N) if axis == 1 else (N, M)), torch.float64)
        given = [t.to(dtype) for t in given]
        ranges = six if axis == 1 else swapped(six)
        results = operation(name, axis)(*given, ranges=ranges)
        expected = dense(name, given, axis, mask if axis == 1 else mask.T)
        if dtype == torch.float64:
            check(results, expected, dtype)
        else:  # rounding may choose another place
            kept = [n for n, e in enumerate(expected) if e.dtype != torch.int64]
            check(tuple(as_tuple(results)[n] for n in kept), [expected[n] for n in kept], dtype)


@pytest.mark.sampled(30)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["Sum", "LogSumExp", "Max"])
@pytest.mark.parametrize(
    "pattern", ["one block", "unsorted blocks", "rows outside", "empty blocks", "nothing"]
)
def test_gradients_to_second_order(pattern: str, name: str, axis: int) -> None:
    three = PATTERNS[pattern]
    mask, six = mask_of(three, (M, N)), both(three, M, N)
    given = arguments(M, N, torch.float64)
    call = operation(name, axis)
    check_derivatives(
        lambda *given: call(*given, ranges=six),
        lambda *given: dense(name, given, axis, mask)[0],
        given,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's forward mode, about itself
@pytest.mark.parametrize("name", ["Sum", "LogSumExp"])
def test_forward_derivatives(name: str) -> None:
    three = PATTERNS["unsorted blocks"]
    mask, six = mask_of(three, (M, N)), both(three, M, N)
    given, tangents = (tuple(arguments(M, N, torch.float64, seed=seed)) for seed in (0, 1))
    call = operation(name, 1)
    computed = torch.func.jvp(lambda *g: call(*g, ranges=six), given, tangents)
    expected = torch.func.jvp(lambda *g: dense(name, g, 1, mask)[0], given, tangents)
    torch.testing.assert_close(computed, expected)


def test_first_of_equal_columns_wins_whatever_the_order_of_intervals() -> None:
    x, y = torch.zeros(3, 1), torch.zeros(50, 1)
    three = half([(0, 3)], [[(40, 45), (7, 9), (20, 30)]])
    call = Genred("x - y", ["x = Vi(1)", "y = Vj(1)"], reduction_op="ArgMin", axis=1)
    assert (call(x, y, ranges=both(three, 3, 50)) == 7).all()


@pytest.mark.sampled(16)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["Sum", "Min_ArgMin", "KMin_ArgKMin"])
def test_every_entry_of_a_batch_has_the_same_ranges(name: str, axis: int) -> None:
    three = PATTERNS["rows outside"]
    mask, six = mask_of(three, (M, N)), both(three, M, N)
    batches = ((3, 1), (2,), (1, 2), (3, 1))
    given = arguments(M, N, torch.float64, batches)
    call = operation(name, axis)
    check(call(*given, ranges=six), dense_batch(name, given, axis, mask), torch.float64)


def test_gradients_in_a_batch() -> None:
    three = half([(1, 5), (8, 12)], [[(0, 9), (20, 24)], [(3, 7)]])
    mask, six = mask_of(three, (12, 30)), both(three, 12, 30)
    given = arguments(12, 30, torch.float64, ((3,), (2, 1), (), (2, 3)))
    for name in ("Sum", "LogSumExp", "Min"):
        call = operation(name, 1)
        check_derivatives(
            lambda *given, call=call: call(*given, ranges=six),
            lambda *given, name=name: dense_batch(name, given, 1, mask)[0],
            given,
        )


def test_the_neutral_element_is_exact_where_a_factor_is_infinite() -> None:
    """The factor of a row is applied to the sum; a row without pairs is 0 all the same."""
    x, y = torch.full((4, 1), float("inf")), torch.ones(5, 1)
    three = half([(0, 2), (2, 3)], [[(0, 5)], []])
    result = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, y, ranges=both(three, 4, 5))
    assert result.flatten().tolist() == [float("inf"), float("inf"), 0.0, 0.0]


@pytest.mark.sampled(15)
@pytest.mark.parametrize("kind", ["int32", "uint8", "int64 of other strides", "torch", "lists"])
def test_any_integers(kind: str) -> None:
    three = half([(10, 20), (60, 61)], [[(0, 200)], [(5, 6), (99, 100)]])
    six = both(three, M, 200)
    make = {
        "int32": lambda a: a.astype(np.int32),
        "uint8": lambda a: a.astype(np.uint8),
        "int64 of other strides": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        "torch": lambda a: torch.from_numpy(a).to(torch.int32),
        "lists": lambda a: a.tolist(),
    }[kind]
    given = arguments(M, 200, torch.float32)
    expected = operation("Sum", 1)(*given, ranges=six)
    ranges = [make(a) for a in six]
    assert torch.equal(operation("Sum", 1)(*given, ranges=ranges), expected)
    arrays = [t.numpy() for t in given]
    for face in (redcomp.numpy.Genred, redcomp.Genred):
        result = face(formula("Sum"), ALIASES, axis=1)(*arrays, ranges=tuple(ranges))
        assert np.array_equal(result, expected.numpy())


def test_arrays_may_change_between_calls() -> None:
    given = arguments(M, N, torch.float64)
    six = both(half([(0, 50)], [[(0, 100)]]), M, N)
    for stop in (100, 200, 100):
        six[2][0, 1] = stop
        mask = mask_of(six[:3], (M, N))
        check(operation("Sum", 1)(*given, ranges=six), dense("Sum", given, 1, mask), torch.float64)


# -- tasks --


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", ["Sum", "Max_ArgMax", "LogSumExp"])
def test_few_long_blocks_are_split_and_joined(name: str) -> None:
    rows, columns = 20, 150_000
    three = half(
        [(0, 5), (15, 20), (7, 8)], [[(10, 60_000), (60_001, 150_000)], [(5, 140_000)], [(4, 9)]]
    )
    six = (*three, *half([], []))
    call = operation(name, 1)
    kernel = call.reduction.compiled("f64", 5)
    assert read_ranges(six, rows, columns).i.plan(1, kernel.grain).partials > 0
    given = arguments(rows, columns, torch.float64)
    mask = mask_of(three, (rows, columns))
    check(call(*given, ranges=six), dense(name, given, 1, mask), torch.float64)


@pytest.mark.parametrize("size", [(4000, 3000), (30, 100_000)])
def test_results_do_not_depend_on_threads(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    rows, columns = size
    blocks = [(0, rows // 3), (rows // 2, rows)]
    three = half(blocks, [[(0, columns // 2)], [(columns // 3, columns), (1, 7)]])
    six = (*three, *half([], []))
    given = arguments(rows, columns, torch.float32)
    results = []
    for count in (1, 2, 3, 7):
        monkeypatch.setattr(config, "num_threads", lambda count=count: count)
        results.append(operation("Sum", 1)(*given, ranges=six))
    assert all(torch.equal(results[0], result) for result in results[1:])


@st.composite
def cut(draw: st.DrawFn, size: int, most: int) -> list[tuple[int, int]]:
    """Disjoint intervals within range(size), in any order."""
    count = draw(st.integers(0, most))
    ends = sorted(draw(st.lists(st.integers(0, size), min_size=2 * count, max_size=2 * count)))
    return draw(st.permutations(list(zip(ends[::2], ends[1::2], strict=True))))


@drawn(st.data())
def test_tasks_visit_each_pair_once(data: st.DataObject) -> None:
    """Whatever blocks and grain, the table's tasks cover the pairs, and joins cover partials."""
    rows, columns = data.draw(st.integers(0, 60)), data.draw(st.sampled_from([0, 7, 90, 30_000]))
    blocks = data.draw(cut(rows, 5))
    three = half(blocks, [data.draw(cut(columns, 4)) for _ in blocks])
    step = data.draw(st.sampled_from([1, 2, 3, 4, 12]))
    chunk = step * data.draw(st.integers(1, 3))
    tasks, split_columns = data.draw(st.sampled_from([(16, 2048), (300, 2), (300, 20)]))
    grain = Grain(step, chunk, tasks, split_columns, pairs_alone=20)
    entries = data.draw(st.integers(1, 3))
    made = read_ranges((*three, *half([], [])), rows, columns).i
    if made.covered:
        check_plan(made, entries, grain, mask_of(three, (rows, columns)))
    else:
        assert not mask_of(three, (rows, columns)).any()


def check_plan(blocks: Blocks, entries: int, grain: Grain, mask: Array) -> None:
    plan = blocks.plan(entries, grain)
    tasks, intervals, joins = plan.tasks, plan.intervals, plan.joins
    visits = np.zeros(mask.shape, np.int64)
    places: dict[int, tuple[int, int]] = {}
    for first, last, start, stop, partial in tasks:
        assert 0 < last - first <= plan.rows <= grain.chunk
        assert start < stop
        for left, right in intervals[start:stop]:
            assert 0 <= left < right <= mask.shape[1]
            visits[first:last, left:right] += 1
        if partial >= 0:
            places[partial] = (first, last)
    assert np.array_equal(visits, mask)
    joined = [place for *_, start, stop, _ in joins for place in range(start, stop)]
    assert sorted(places) == sorted(joined) == list(range(plan.partials))
    for first, last, start, stop, _ in joins:
        assert all(places[place] == (first, last) for place in range(start, stop))


# -- errors --

GOOD = both(half([(0, 4), (4, 9)], [[(0, 5), (5, 7)], [(2, 8)]]), 10, 12)


def change(place: int, index: Any, value: int) -> Six:
    arrays = [a.copy() for a in GOOD]
    arrays[place][index] = value
    return tuple(arrays)


def replace(place: int, array: Any) -> Any:
    return (*GOOD[:place], array, *GOOD[place + 1 :])


BAD: dict[str, tuple[Any, str]] = {
    "five arrays": (GOOD[:5], "ranges must be a tuple of six arrays"),
    "an array": (np.zeros((6, 2), np.int64), "ranges must be a tuple of six arrays"),
    "a number": (3, "ranges must be a tuple of six arrays"),
    "floats": (replace(2, GOOD[2].astype(np.float32)), r"ranges\[2\].*integers.*float32"),
    "booleans": (replace(1, np.array([True, True])), r"ranges\[1\].*integers.*bool"),
    "nothing": (replace(4, None), r"ranges\[4\].*integers"),
    "ragged": (replace(5, [[1, 2], [3]]), r"ranges\[5\] cannot be read"),
    "blocks of one axis": (replace(0, GOOD[0][:, 0]), r"ranges\[0\].*\(blocks, 2\).*\(2,\)"),
    "blocks of three": (replace(3, np.zeros((2, 3), int)), r"ranges\[3\].*\(blocks, 2\)"),
    "intervals": (replace(2, GOOD[2].T), r"ranges\[2\].*\(intervals, 2\).*\(2, 3\)"),
    "too few slices": (replace(1, GOOD[1][:1]), r"ranges\[1\].*\(2,\).*ranges\[0\].*\(1,\)"),
    "slices of two axes": (replace(1, GOOD[1][None]), r"ranges\[1\].*shape"),
    "slices descend": (change(1, slice(None), [3, 2]), r"ranges\[1\].*ascend.*entry 1 is 2"),
    "negative slices": (change(1, 0, -1), r"ranges\[1\].*ascend.*entry 0 is -1"),
    "slices beyond": (change(1, 1, 4), r"ranges\[1\].*ends at 4.*ranges\[2\] has 3 intervals"),
    "slices of the last three": (change(4, 11, 99), r"ranges\[4\].*ends at 99.*ranges\[5\]"),
    "block stops first": (change(0, (1, 1), 3), r"ranges\[0\]\[1\].*\[4, 3\].*stops before"),
    "interval stops first": (change(2, (2, 0), 9), r"ranges\[2\]\[2\].*\[9, 8\].*stops before"),
    "negative row": (change(0, (0, 0), -1), r"ranges\[0\]\[0\].*\[-1, 4\].*10, the number of i"),
    "row beyond": (change(0, (1, 1), 11), r"ranges\[0\]\[1\].*10, the number of i"),
    "column beyond": (change(2, (2, 1), 13), r"ranges\[2\]\[2\].*12, the number of j"),
    "negative column": (change(2, (0, 0), -4), r"ranges\[2\]\[0\].*12, the number of j"),
    "j beyond": (change(3, (11, 1), 13), r"ranges\[3\]\[11\].*12, the number of j"),
    "i beyond": (change(5, (0, 1), 11), r"ranges\[5\]\[0\].*10, the number of i"),
    "blocks overlap": (change(0, (1, 0), 3), r"ranges\[0\]\[0\].*ranges\[0\]\[1\].*overlap"),
    "intervals overlap": (change(2, (1, 0), 4), r"ranges\[2\]\[0\].*ranges\[2\]\[1\].*overlap"),
    "far beyond": (
        replace(2, np.array([[0, 2**63 + 5]] * 3, np.uint64)),
        r"ranges\[2\]\[0\]",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_errors_name_the_array(bad: str) -> None:
    ranges, message = BAD[bad]
    given = arguments(10, 12, torch.float32)
    for axis in (0, 1):
        with pytest.raises(ArgumentError, match=message):
            operation("Sum", axis)(*given, ranges=ranges)
        with pytest.raises(ArgumentError, match=message):
            redcomp.numpy.Genred(formula("Sum"), ALIASES, axis=axis)(
                *(t.numpy() for t in given), ranges=ranges
            )


def test_good_ones_are_good() -> None:
    given = arguments(10, 12, torch.float64)
    mask = mask_of(GOOD[:3], (10, 12))
    check(operation("Sum", 1)(*given, ranges=GOOD), dense("Sum", given, 1, mask), torch.float64)


def test_equal_intervals_of_different_blocks_do_not_overlap() -> None:
    six = both(half([(0, 4), (4, 9)], [[(2, 8)], [(2, 8)]]), 10, 12)
    given = arguments(10, 12, torch.float64)
    mask = mask_of(six[:3], (10, 12))
    check(operation("Sum", 1)(*given, ranges=six), dense("Sum", given, 1, mask), torch.float64)
