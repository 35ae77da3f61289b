"""Every operation that a formula can have, on GPUs, as on the host: needs PyTorch, no GPU."""

from __future__ import annotations

import test_kinds
from on_gpu import machines, sizes_at_most
from test_complex import (
    test_of_one_vector,
    test_of_reals,
    test_of_two_vectors,
    test_program_is_that_of_numpy,
    test_reals_of_odd_dimension_have_gradients,
    test_with_scalars,
)
from test_complex import test_value_at_special_points as test_complex_value_at_special_points
from test_genred import (
    test_derivative_at_special_points,
    test_formulas_of_programs,
    test_operation_agrees_with_reference,
    test_value_at_special_points,
)
from test_kinds import (
    test_a_mask_of_pairs_under_logsumexp,
    test_arrays_of_pairs_may_have_any_strides,
    test_arrays_of_pairs_of_every_size,
    test_batches,
    test_every_reduction_of_every_kind,
    test_forward_mode,
    test_indices_are_rounded_and_never_leave_the_table,
    test_integers_are_exact_beyond_what_float32_holds,
    test_numpy_takes_every_integer_dtype,
    test_one_table_read_in_several_ways,
    test_ranges,
    test_sums_and_their_derivatives,
    test_torch_takes_every_integer_dtype,
    test_zeros_of_a_table_that_is_not_read_stay_zeros,
)
from test_linear_operators import test_compiled_operator
from test_tensors import (
    test_alignments,
    test_clamped_splines_sum_to_one_and_repeated_knots_do_no_harm,
    test_splines,
    test_tensors,
    test_third_derivative_of_a_quadratic_form_in_a_cubic,
)

__all__ = [
    "test_a_mask_of_pairs_under_logsumexp",
    "test_alignments",
    "test_arrays_of_pairs_may_have_any_strides",
    "test_arrays_of_pairs_of_every_size",
    "test_batches",
    "test_clamped_splines_sum_to_one_and_repeated_knots_do_no_harm",
    "test_compiled_operator",
    "test_complex_value_at_special_points",
    "test_derivative_at_special_points",
    "test_every_reduction_of_every_kind",
    "test_formulas_of_programs",
    "test_forward_mode",
    "test_indices_are_rounded_and_never_leave_the_table",
    "test_integers_are_exact_beyond_what_float32_holds",
    "test_numpy_takes_every_integer_dtype",
    "test_of_one_vector",
    "test_of_reals",
    "test_of_two_vectors",
    "test_one_table_read_in_several_ways",
    "test_operation_agrees_with_reference",
    "test_program_is_that_of_numpy",
    "test_ranges",
    "test_reals_of_odd_dimension_have_gradients",
    "test_splines",
    "test_sums_and_their_derivatives",
    "test_tensors",
    "test_third_derivative_of_a_quadratic_form_in_a_cubic",
    "test_torch_takes_every_integer_dtype",
    "test_value_at_special_points",
    "test_with_scalars",
    "test_zeros_of_a_table_that_is_not_read_stay_zeros",
]

machine = machines(one_in=60)
few = sizes_at_most(test_kinds, "arguments", 30)
