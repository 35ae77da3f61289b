"""Every reduction on GPUs, against dense float64 computations: needs PyTorch, no GPU."""

from __future__ import annotations

import itertools

import pytest
import torch
from dense_reductions import Case, cases, grid
from on_gpu import REAL, STAND_INS, machines
from test_reduction_gradients import (
    test_first_of_equal_extrema_gets_the_gradient,
    test_gradient_for_some_arguments_only,
    test_gradients_of_no_pairs_are_zero,
    test_gradients_of_one_pair,
    test_gradients_to_second_order,
    test_products_of_vectors_count_zeros_for_each_component,
)
from test_reductions import (
    check,
    test_columns_are_kept_for_each_component,
    test_kept_columns_pass_over_nan,
    test_long_vectors_have_a_place_for_each_component,
    test_no_columns_and_no_rows,
    test_nothing_but_minus_infinity,
    test_special_values,
)

from redcomp.ops.reductions import REDUCTIONS

__all__ = [
    "test_columns_are_kept_for_each_component",
    "test_first_of_equal_extrema_gets_the_gradient",
    "test_gradient_for_some_arguments_only",
    "test_gradients_of_no_pairs_are_zero",
    "test_gradients_of_one_pair",
    "test_gradients_to_second_order",
    "test_kept_columns_pass_over_nan",
    "test_long_vectors_have_a_place_for_each_component",
    "test_no_columns_and_no_rows",
    "test_nothing_but_minus_infinity",
    "test_products_of_vectors_count_zeros_for_each_component",
    "test_special_values",
]

machine = machines(one_in=40)

# Neither blocks (of 32 or 128 threads, of 1 to 4 rows each) nor tiles (of 16 to 256 columns) nor
# steps (of up to 8) are whole.
SIZES = [(1, 45), (70, 37)]
ALL = list(itertools.product(cases(), (torch.float32, torch.float64), (1, 0)))
KINDS = list(itertools.product(STAND_INS, (torch.float32, torch.float64), (1, 0)))


def check_values(case: Case, dtype: torch.dtype, axis: int) -> None:
    for rows, columns in SIZES:
        sizes = (rows, columns) if axis == 1 else (columns, rows)
        check(case, grid(*sizes, dtype, case.width), axis)


def one_each() -> list[object]:
    """Each reduction once, all setups, dtypes and axes in turns, as far as there is no GPU."""
    turns = itertools.cycle((*KINDS, KINDS[0]))
    return [pytest.param(*next(turns), case, id=str(case)) for case in cases()]
