"""Batches, ranges, strides, half precision, forward mode and systems on GPUs: needs PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import test_batch
import torch
from agreement import assert_as_reference
from on_gpu import machines, sizes_at_most
from test_arrays import (
    op,
    test_broadcast_arrays_and_aliasing,
    test_denormal_arguments_are_kept,
    test_expanded_cotangent,
    test_gradients_of_empty_arrays,
    test_gradients_of_strided_tensors,
    test_layouts_do_not_change_a_bit,
    test_sizes,
    test_tensor_layouts,
    test_third_derivative,
    torch_op,
)
from test_batch import test_every_reduction as test_every_reduction_of_a_batch
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
from test_forward_mode import (
    test_forward_over_forward,
    test_forward_over_reverse,
    test_jvp,
    test_reverse_over_forward,
)
from test_options import (
    test_compensated_sums_keep_what_plain_ones_lose,
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
    test_every_entry_of_a_batch_has_the_same_ranges,
    test_every_reduction,
    test_first_of_equal_columns_wins_whatever_the_order_of_intervals,
    test_gradients_in_a_batch,
    test_the_neutral_element_is_exact_where_a_factor_is_infinite,
)

import redcomp
import redcomp.numpy
import redcomp.torch
from redcomp.runtime.gpu import GpuKernel

__all__ = [
    "op",
    "test_broadcast_arrays_and_aliasing",
    "test_compensated_sums_keep_what_plain_ones_lose",
    "test_denormal_arguments_are_kept",
    "test_different_reductions_share_a_sweep",
    "test_every_accumulation",
    "test_every_entry_of_a_batch_has_the_same_ranges",
    "test_every_reduction",
    "test_every_reduction_of_a_batch",
    "test_expanded_cotangent",
    "test_first_of_equal_columns_wins_whatever_the_order_of_intervals",
    "test_forward_derivatives",
    "test_forward_over_forward",
    "test_forward_over_reverse",
    "test_gradients_go_to_all_formulas",
    "test_gradients_have_the_dtype_of_their_arguments",
    "test_gradients_in_a_batch",
    "test_gradients_of_empty_arrays",
    "test_gradients_of_nothing",
    "test_gradients_of_strided_tensors",
    "test_gradients_to_second_order",
    "test_half_precision_is_one_rounding_from_float32",
    "test_half_precision_of_numpy",
    "test_jvp",
    "test_layouts_do_not_change_a_bit",
    "test_no_rows_no_columns_no_entries",
    "test_numpy_gives_the_same",
    "test_one_kind_of_variable",
    "test_out_is_filled_and_returned",
    "test_parameters_differ_between_entries",
    "test_reverse_over_forward",
    "test_several_formulas_give_a_tuple",
    "test_sizes",
    "test_strides",
    "test_sums",
    "test_systems_are_solved_entry_by_entry",
    "test_tensor_layouts",
    "test_the_neutral_element_is_exact_where_a_factor_is_infinite",
    "test_third_derivative",
    "test_weights_may_depend_on_rows",
    "torch_op",
]

# PyTorch's own forward mode warns when it is first used, as in `test_forward_mode`.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

machine = machines(one_test_in=6)
few = sizes_at_most(test_batch, "arguments", 40)


def test_calls_that_name_no_backend_are_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What all tests of GPUs rely on."""
    launched: list[object] = []
    run = GpuKernel.__call__
    monkeypatch.setattr(GpuKernel, "__call__", lambda *a, **o: launched.append(run(*a, **o)))
    aliases = ["x = Vi(1)", "y = Vj(1)"]
    for face, ones in ((redcomp.numpy, np.ones), (redcomp.torch, torch.ones), (redcomp, np.ones)):
        result = face.Genred("x*y", aliases, axis=1)(ones((2, 1)), ones((3, 1)))
        assert result.tolist() == [[3.0], [3.0]]
    assert len(launched) == 3


LONG = {
    "distances": ("Exp(-SqDist(x, y)*p/{d})*b", 1),
    "wide results": ("Exp(-Square(Elem(x, 0) - Elem(y, 1)))*y*p", 1),
    "products": ("(x|y)*x/{d} + y*p", 0),
    "a part for pairs, all for columns": (
        "Exp(Elem(x, 0) - SqNorm2(y)/{d} - Square(Elem(x, 1)))*y",
        0,
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dim", [33, 70, 100, 300, 1000])
@pytest.mark.parametrize("name", LONG)
def test_long_vectors(name: str, dim: int, axis: int) -> None:
    """Too long for registers, and for shared memory; values and gradients."""
    formula, order = LONG[name]
    aliases = [f"x=Vi({dim})", f"y=Vj({dim})", "b=Vj(1)", "p=Pm(1)"]
    generator = torch.Generator().manual_seed(dim)
    shapes = ((5, dim), (7, dim), (7, 1), (1,))
    tensors = [torch.rand(shape, generator=generator) for shape in shapes]
    assert_as_reference(formula.format(d=dim), aliases, tensors, torch.float32, axis, order)
