"""Batches, ranges, strides, half precision, forward mode and systems on GPUs: needs PyTorch."""

from __future__ import annotations

import masked
import pytest
import test_batch
import test_ranges
import torch
from agreement import assert_as_reference
from on_gpu import machines, sizes_at_most
from test_arrays import (
    op,
    test_broadcast_arrays_and_aliasing,
    test_denormal_numbers_are_kept,
    test_expanded_cotangent,
    test_gradients_of_empty_arrays,
    test_gradients_of_strided_tensors,
    test_layouts_do_not_change_a_bit,
    test_sizes,
    test_tensor_layouts,
    test_third_derivative,
    torch_op,
)
from test_batch import (
    test_forward_derivatives,
    test_gradients_of_nothing,
    test_gradients_to_second_order,
    test_no_rows_no_columns_no_entries,
    test_numpy_gives_the_same,
    test_one_kind_of_variable,
    test_parameters_differ_between_entries,
    test_strides,
    test_sums,
    test_systems_are_solved_entry_by_entry,
)
from test_batch import test_every_reduction as test_every_reduction_of_a_batch
from test_forward_mode import (
    test_forward_over_forward,
    test_forward_over_reverse,
    test_jvp,
    test_reverse_over_forward,
)
from test_options import (
    test_compensated_sums_keep_what_plain_ones_lose,
    test_compensated_vectors_and_gradients,
    test_different_reductions_share_a_sweep,
    test_every_accumulation,
    test_gradients_go_to_all_formulas,
    test_gradients_have_the_dtype_of_their_arguments,
    test_half_precision_is_one_rounding_from_float32,
    test_half_precision_of_numpy,
    test_out_is_filled_and_returned,
    test_several_formulas_give_a_tuple,
    test_weights_may_depend_on_rows,
)
from test_ranges import (
    test_any_integers,
    test_every_entry_of_a_batch_has_the_same_ranges,
    test_every_reduction,
    test_first_of_equal_columns_wins_whatever_the_order_of_intervals,
    test_gradients_in_a_batch,
    test_the_neutral_element_is_exact_where_a_factor_is_infinite,
)
from test_ranges import test_forward_derivatives as test_forward_derivatives_of_blocks
from test_ranges import test_gradients_to_second_order as test_gradients_of_blocks
from test_solve import (
    test_agrees_with_dense_solve,
    test_gradients_of_first_and_second_order,
    test_operators_that_mix_components,
)
