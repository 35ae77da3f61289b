"""Every reduction on GPUs, against dense float64 computations: needs PyTorch, no GPU."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import test_reduction_gradients
import torch
from on_gpu import GPUS, REAL, STAND_INS, machines, sizes_at_most
from reduction_cases import INF, Case, call, cases, grid
from reference_reductions import reduce_pairs
from test_reduction_gradients import (
    test_first_of_equal_extrema_gets_the_gradient,
    test_gradient_for_some_arguments_only,
    test_gradients_of_no_pairs_are_zero,
    test_gradients_of_one_pair,
    test_gradients_to_second_order,
    test_products_of_vectors_count_zeros_for_each_component,
)
from test_reductions import (
    SCALARS,
    SPECIAL,
    assert_close,
    check,
    check_special_list,
    test_columns_are_kept_for_each_component,
    test_long_vectors_have_a_place_for_each_component,
    test_no_columns_and_no_rows,
    test_nothing_but_minus_infinity,
)

from redcomp.ops.reductions import REDUCTIONS
from redcomp.torch import Genred

__all__ = [
    "test_columns_are_kept_for_each_component",
    "test_first_of_equal_extrema_gets_the_gradient",
    "test_gradient_for_some_arguments_only",
    "test_gradients_of_no_pairs_are_zero",
    "test_gradients_of_one_pair",
    "test_gradients_to_second_order",
    "test_long_vectors_have_a_place_for_each_component",
    "test_no_columns_and_no_rows",
    "test_nothing_but_minus_infinity",
    "test_products_of_vectors_count_zeros_for_each_component",
]

pytestmark = pytest.mark.slow

machine = machines(one_test_in=6)
few = sizes_at_most(test_reduction_gradients, "generic", 20)

# Neither blocks (of 32 or 128 threads, of 1 to 4 rows each) nor tiles (of 16 to 256 columns) nor
# steps (of up to 8) are whole.
SIZES = [(1, 45), (70, 21)]
DTYPES = (torch.float32, torch.float64)
SETUPS = itertools.cycle([*itertools.product(STAND_INS, DTYPES, (1, 0)), ("splits", DTYPES[0], 1)])


def each_once() -> list[Any]:
    """Each reduction on a stand-in, in turns with all dtypes and axes, and in all ways on a GPU."""
    found = [pytest.param(*next(SETUPS), case, id=str(case)) for case in cases()]
    every = itertools.product(REAL, DTYPES, (1, 0), cases())
    return found + [pytest.param(*one, marks=pytest.mark.gpu) for one in every]


@pytest.mark.sampled(22)
@pytest.mark.parametrize(("machine", "dtype", "axis", "case"), each_once(), indirect=["machine"])
def test_values(dtype: torch.dtype, axis: int, case: Case) -> None:
    for rows, columns in SIZES:
        sizes = (rows, columns) if axis == 1 else (columns, rows)
        check(case, grid(*sizes, dtype, case.width), axis)


@pytest.mark.parametrize("count", [3, 10, 30, 100])
@pytest.mark.parametrize("name", ["kmin_argkmin", "kmax"])
def test_lists_in_registers_and_in_memory(name: str, count: int) -> None:
    case = Case(REDUCTIONS[name], count=count)
    check(case, grid(3, 120, torch.float32), axis=1)


@pytest.mark.parametrize("count", [3, 10, 30])
@pytest.mark.parametrize("name", ["kmin_argkmin", "kmax_argkmax"])
def test_lists_of_special_values(name: str, count: int) -> None:
    for columns in (7, 45):
        check_special_list(name, count, columns, torch.float32)


@pytest.mark.parametrize("width", [3, 40])
@pytest.mark.parametrize("name", ["softmax", "weighted_logsumexp", "max_sumshiftexpweight"])
def test_wide_weights(name: str, width: int) -> None:
    check(Case(REDUCTIONS[name], width=width), grid(20, 40, torch.float64, width), axis=1)


@pytest.mark.parametrize("machine", ["stand-in", *GPUS], indirect=True)
def test_a_list_beside_a_long_vector() -> None:
    """Too many states for one kernel; a list must not be divided, since it changes as a whole."""
    operation = Genred(
        ["v", "y"], ["v = Vj(1)", "y = Vi(300)"], ["KMax_ArgKMax", "ArgMax"], 1, opt_arg=[10, None]
    )
    v, y = torch.arange(8.0, dtype=torch.float64)[:, None], torch.ones(2, 300).double()
    (values, places), first = operation(v, y)
    expected = [*range(7, -1, -1), -INF, -INF]
    assert values.tolist() == [expected] * 2
    assert places.tolist() == [[*range(7, -1, -1), 0, 0]] * 2
    assert torch.equal(first, torch.zeros(2, 300, dtype=torch.int64))


@pytest.mark.parametrize("case", SCALARS, ids=str)
def test_special_values(case: Case) -> None:
    """All triples of special terms, each an entry of a batch, alone and over several tiles."""
    aliases = ("x = Vi(1)", "y = Vj(1)", "w = Vj(2)")[: 3 if case.width else 2]
    operation = case.genred(1, "x + y", aliases, formula2="w" if case.width else None)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    triples = torch.tensor(list(itertools.product(SPECIAL, repeat=3)), dtype=torch.float64)
    for repeated in (1, 20):
        y = triples.repeat(1, repeated)[..., None]
        given = [torch.cat([y.isnan(), y.isinf()], -1).double() + 0.5] if case.width else []
        weights = given[0] if given else None
        dense = reduce_pairs(case.row.name, y, weights=weights, count=case.count)
        for computed, right in zip(call(operation, zero, y, *given), dense, strict=True):
            for entry, expected in zip(computed, right, strict=True):
                assert_close(entry, expected[None], 1e-12)


# Of float32: in fast math, shifts are scaled before they are subtracted.
EXPONENTS = (-INF, -1.6e38, -300.0, 0.5, 88.0, 1.6e38, INF)


@pytest.mark.parametrize("name", ["logsumexp", "softmax"])
def test_exponents_of_any_size(name: str) -> None:
    """All triples, in each order, over several tiles; infinite ones have no mean."""
    row = REDUCTIONS[name]
    case = Case(row, width=2 if row.takes == "weights" else 0)
    used = EXPONENTS[:-1] if case.width else EXPONENTS
    aliases = ("x = Vi(1)", "y = Vj(1)", "w = Vj(2)")[: 3 if case.width else 2]
    weights = "w" if case.width else None
    operation = case.genred(1, "x + y", aliases, formula2=weights, use_fast_math=True)
    triples = torch.tensor(list(itertools.product(used, repeat=3)))
    y = triples.repeat(1, 20)[..., None]
    given = [torch.cat([y.abs() < 1, y > 1], -1).float() + 0.5] if case.width else []
    doubles = [tensor.double() for tensor in (y, *given)]
    (right, *_) = reduce_pairs(name, doubles[0], weights=doubles[1] if given else None)
    assert_close(operation(torch.zeros(1, 1), y, *given)[:, 0], right, 1e-6)
