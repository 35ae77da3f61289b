"""Fast math on points far from 0, on GPUs as on the host: needs PyTorch, no GPU."""

from __future__ import annotations

from on_gpu import machines
from test_offsets import (
    test_a_column_that_is_no_point_of_the_cloud,
    test_columns_that_are_not_visited_may_be_anything,
    test_error_does_not_grow_with_the_offset,
    test_every_entry_of_a_batch_has_its_own_origin,
    test_integers_and_numbers_of_columns,
    test_long_loops_over_components_on_both_sides,
    test_no_columns_and_no_rows,
    test_padding_by_zeros_is_no_origin,
    test_reduction_over_rows,
    test_sizes,
    test_sums_of_opposite_sides,
    test_ways_to_write_differences,
)

__all__ = [
    "test_a_column_that_is_no_point_of_the_cloud",
    "test_columns_that_are_not_visited_may_be_anything",
    "test_error_does_not_grow_with_the_offset",
    "test_every_entry_of_a_batch_has_its_own_origin",
    "test_integers_and_numbers_of_columns",
    "test_long_loops_over_components_on_both_sides",
    "test_no_columns_and_no_rows",
    "test_padding_by_zeros_is_no_origin",
    "test_reduction_over_rows",
    "test_sizes",
    "test_sums_of_opposite_sides",
    "test_ways_to_write_differences",
]

machine = machines(one_test_in=4)
