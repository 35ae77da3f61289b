"""Every operation that a formula can have, on GPUs, as on the host: needs PyTorch, no GPU."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import test_genred
import test_kinds
import torch
from agreement import assert_close, exact_and_noise
from on_gpu import GPUS, machines, sizes_at_most
from operation_cases import apart
from reference import Tensor, dense
from test_complex import (
    test_program_is_that_of_numpy,
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
    test_every_reduction_of_every_kind,
    test_forward_mode,
    test_indices_are_rounded_and_never_leave_the_table,
    test_integers_are_exact_beyond_what_float32_holds,
    test_numpy_takes_every_integer_dtype,
    test_one_table_read_in_several_ways,
    test_sums_and_their_derivatives,
    test_torch_takes_every_integer_dtype,
    test_zeros_of_a_table_that_is_not_read_stay_zeros,
)
from test_linear_operators import test_compiled_operator
from test_selections import test_guards_of_components, test_programs_that_drop_pairs
from test_tensors import (
    compare,
    random,
    test_alignments,
    test_clamped_splines_sum_to_one_and_repeated_knots_do_no_harm,
    test_splines,
    test_tensors,
    test_third_derivative_of_a_quadratic_form_in_a_cubic,
)

from redcomp.ops import SPELLINGS
from redcomp.torch import Genred

__all__ = [
    "test_a_mask_of_pairs_under_logsumexp",
    "test_alignments",
    "test_arrays_of_pairs_may_have_any_strides",
    "test_arrays_of_pairs_of_every_size",
    "test_clamped_splines_sum_to_one_and_repeated_knots_do_no_harm",
    "test_compiled_operator",
    "test_complex_value_at_special_points",
    "test_derivative_at_special_points",
    "test_every_reduction_of_every_kind",
    "test_formulas_of_programs",
    "test_guards_of_components",
    "test_forward_mode",
    "test_indices_are_rounded_and_never_leave_the_table",
    "test_integers_are_exact_beyond_what_float32_holds",
    "test_numpy_takes_every_integer_dtype",
    "test_one_table_read_in_several_ways",
    "test_operation_agrees_with_reference",
    "test_program_is_that_of_numpy",
    "test_programs_that_drop_pairs",
    "test_splines",
    "test_sums_and_their_derivatives",
    "test_tensors",
    "test_third_derivative_of_a_quadratic_form_in_a_cubic",
    "test_torch_takes_every_integer_dtype",
    "test_value_at_special_points",
    "test_zeros_of_a_table_that_is_not_read_stay_zeros",
]

pytestmark = pytest.mark.slow

machine = machines(one_test_in=6)
few = sizes_at_most(test_kinds, "arguments", 30)

TOGETHER = 6
CASES = test_genred._cases(test_genred.SHORT)
SETTINGS = [
    pytest.param(torch.float32, True, id="fast"),
    pytest.param(torch.float32, False, id="f32", marks=pytest.mark.sampled(12)),
    pytest.param(torch.float64, False, id="f64", marks=pytest.mark.sampled(12)),
]


@pytest.mark.sampled(15)
@pytest.mark.parametrize("machine", ["small blocks", *GPUS], indirect=True)
@pytest.mark.parametrize(("dtype", "is_fast"), SETTINGS)
@pytest.mark.parametrize("first", range(0, len(CASES), TOGETHER))
def test_every_operation(first: int, dtype: torch.dtype, is_fast: bool) -> None:
    """Several a sweep.  The fast functions err by less than 2^-17, relative to 1 at least, and so
    much is allowed to all of them (see docs/fast-math.md)."""
    formulas: list[str] = []
    aliases: list[str] = []
    tensors: list[Tensor] = []
    for n, case in enumerate(CASES[first : first + TOGETHER]):
        formula, names, kinds, dims = apart(case, first=1)
        names = [*names, "w"]
        formulas.append(re.sub(r"\b(u\d|w)\b", rf"\1_{n}", formula))
        aliases += [f"{m}_{n}={k}({d})" for m, k, d in zip(names, kinds, dims, strict=True)]
        row = SPELLINGS[case.spelling]
        tensors += test_genred._inputs(row, case.dims, kinds[:-1], seed=n)
        tensors += test_genred._inputs(SPELLINGS["Minus"], [1], kinds[-1:], seed=n)

    def exactly(given: Sequence[Tensor]) -> list[Tensor]:
        return [dense(formula, aliases, given, 1) for formula in formulas]

    exact, noise = exact_and_noise(exactly, tensors)
    sweep = Genred(formulas, aliases, axis=1, use_fast_math=is_fast)
    results = sweep(*(t.to(dtype) for t in tensors))
    for formula, result, right, own in zip(formulas, results, exact, noise, strict=True):
        size = test_genred.COLUMNS + float(right.abs().max())
        assert_close(result, right.expand(result.shape), own, dtype, size, formula)


@pytest.mark.thorough
@pytest.mark.parametrize("machine", ["splits", *GPUS], indirect=True)
@pytest.mark.parametrize("sequence", ["y = Vj(3)", "y = Pm(3)"])
def test_tables_of_alignments(sequence: str) -> None:
    """Of pairs, and of rows, which are filled when the sum over the columns is complete."""
    aliases = ["x = Vi(6)", sequence, "g = Pm(1)", "b = Vj(1)"]
    y = random(40, 3, 1) if "Vj" in sequence else random(1, 3, 1)[0]
    tensors = [random(3, 6, 0), y, torch.tensor([0.4]), random(40, 1, 2)]
    compare("SoftDTW_SqDist(x,y,g)*b", aliases, tensors, torch.float32, 1, 1)
