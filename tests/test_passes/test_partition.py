"""The pass partition: needs no backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pass_tools import EXACT, Array, run_nest

from redcomp.ir import Kernel, Nest, Output, Part, Type, Value, variable
from redcomp.ops.table import apply
from redcomp.passes.accumulate import accumulate
from redcomp.passes.hoist import hoist
from redcomp.passes.partition import partitioned
from redcomp.passes.scalarize import written_out_by
from redcomp.target import Unrolling

M, N, WIDTH = 5, 11, 10
X = variable("x", "i", 0, Type("f64", 3))
Y = variable("y", "j", 1, Type("f64", 3))
WIDE = variable("w", "j", 2, Type("f64", WIDTH))
ONE = variable("b", "j", 3, Type("f64"))


def gaussian() -> Value:
    return apply("exp", -apply("sqdist", X, Y))


# Outputs, the most states of a part, and the states of each part that this makes.
Case = tuple[Callable[[], tuple[Output, ...]], int, list[int]]
CASES: dict[str, Case] = {
    "sum": (lambda: (Output(gaussian() * WIDE),), 4, [4, 4, 2]),
    "as few as possible, of one size": (lambda: (Output(gaussian() * WIDE),), 9, [5, 5]),
    "all in one": (lambda: (Output(gaussian() * WIDE),), 10, [10]),
    "several outputs": (
        lambda: (Output(gaussian() * WIDE), Output(gaussian(), "max"), Output(ONE * X, "min")),
        5,
        [5, 5, 4],
    ),
    "scaled": (lambda: (Output(WIDE * ONE, "sum", apply("elem", X, m=1)),), 6, [5, 5]),
    # Beside its own sums, each part has the shift, and if it divides by it the sum of exponentials.
    "softmax": (
        lambda: (Output(apply("concat", gaussian(), WIDE), "softmax"),),
        8,
        [7, 7],
    ),
    "weighted logsumexp": (
        lambda: (Output(apply("concat", gaussian(), WIDE * WIDE), "weighted_logsumexp"),),
        6,
        [6, 6],
    ),
}


def nest_of(outputs: tuple[Output, ...]) -> Nest:
    kernel = Kernel((X, Y, WIDE, ONE), outputs)
    return hoist(written_out_by(accumulate(kernel, EXACT), Unrolling(64, 64)), EXACT)


def given() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    shapes = {"x": (M, 1, 3), "y": (1, N, 3), "w": (1, N, WIDTH), "b": (1, N, 1)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def put_together(nest: Nest, parts: Sequence[Part]) -> list[Array]:
    """The results of a nest from those of its parts, every component from exactly one."""
    results = [np.full((M, 1, result.dim), np.nan) for result in nest.results]
    for part in parts:
        for place, made in zip(part.pieces, run_nest(part.nest, given(), N, 4), strict=True):
            assert place.dim == results[place.result].shape[-1]
            target = results[place.result][..., place.first : place.first + made.shape[-1]]
            assert np.isnan(target).all()
            target[:] = made
    return results


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_parts_compute_what_the_nest_computes(case: Case) -> None:
    outputs, most, states = case
    nest = nest_of(outputs())
    parts = partitioned(nest, most).parts
    assert [part.carried for part in parts] == states
    whole = run_nest(nest, given(), N, 4)
    for result, right in zip(put_together(nest, parts), whole, strict=True):
        np.testing.assert_array_equal(result, np.broadcast_to(right, result.shape))


def test_a_list_is_not_divided() -> None:
    values = (Output(apply("elem", X * Y, m=m), "kmin_argkmin", count=3) for m in range(2))
    nest = nest_of(tuple(values))
    parts = partitioned(nest, 7).parts
    # Places need the values: both results of an output are in its part.
    assert [part.carried for part in parts] == [6, 6]
    assert [[place.result for place in part.pieces] for part in parts] == [[0, 1], [2, 3]]
    for part in parts:
        assert len(part.nest.guards) == 1
        assert all(state.adjust is not state.variable for state in part.nest.states)


def test_places_are_computed_with_their_values() -> None:
    nest = nest_of((Output(X * Y, "min_argmin"),))
    parts = partitioned(nest, 2).parts
    assert [part.carried for part in parts] == [2, 2, 2]
    assert [[(p.result, p.first) for p in part.pieces] for part in parts] == [
        [(0, k), (1, k)] for k in range(3)
    ]


def test_parts_leave_out_what_they_do_not_read() -> None:
    nest = nest_of((Output(apply("exp", X) * apply("exp", Y)),))
    assert (len(nest.rows), len(nest.columns)) == (3, 3)
    parts = partitioned(nest, 1).parts
    assert [(len(part.nest.rows), len(part.nest.columns)) for part in parts] == [(1, 1)] * 3
