"""Random cases of every formula, reduction and shape against the reference: needs CPU, PyTorch.

Each case is a number, so a failure can be had again; `make fuzz` goes through many more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import differential
import pytest
import torch
from differential import check_case
from random_cases import CASES_A_PROGRAM, Case, Program, Reduced, program_text, random_case
from random_formulas import Argument, names_in_templates
from reference_reductions import pair_mask, reduce_pairs
from smaller_cases import shrink, smaller_formulas

from redcomp.ops.table import SPELLINGS

PROGRAMS_A_TEST = 5
TESTS = 3
TOO_NOISY = 5  # of 25 cases: most must be able to fail


def check_programs(first: int, count: int) -> int:
    """Check the cases of some programs; how many were too noisy to say anything."""
    noisy = 0
    for seed in range(first * CASES_A_PROGRAM, (first + count) * CASES_A_PROGRAM):
        case = random_case(seed)
        try:
            noisy += not check_case(case)
        except Exception as error:
            raise AssertionError(f"case {seed}: {error}\n{program_text(case)}") from error
    return noisy


def test_a_few_cases() -> None:
    assert check_programs(0, 3) <= TOO_NOISY


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("part", range(TESTS))
def test_cases(part: int) -> None:
    assert check_programs(3 + part * PROGRAMS_A_TEST, PROGRAMS_A_TEST) <= TOO_NOISY


ARGUMENTS = (Argument("x", "Vi", 2), Argument("y", "Vj", 2))
KINDS = {"gradient": ("Sum",), "place": ("ArgMin", "Min_ArgMin"), "value": ("Sum", "Min")}


def dense_operation(reduced: Reduced, mistake: str) -> Callable[..., Any]:
    """SqDist(x, y) reduced over y by PyTorch, with a mistake."""

    def operation(x: torch.Tensor, y: torch.Tensor, ranges: None) -> Any:
        terms = ((x.detach() if mistake == "gradient" else x)[:, None] - y) ** 2
        terms = terms.sum(-1, keepdim=True)
        results = list(reduce_pairs(reduced.reduction_op, terms))
        for n, result in enumerate(results):
            if mistake == "place" and not result.is_floating_point():
                results[n] = (result + 1) % y.shape[0]
            elif mistake == "value" and result.is_floating_point():
                results[n] = torch.where(result == result.max(), result * 1.0001, result)
        return tuple(results) if len(results) > 1 else results[0]

    return operation


@pytest.mark.parametrize(("mistake", "name"), [(k, n) for k, ns in KINDS.items() for n in ns])
def test_mistakes_are_found(mistake: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reduced = Reduced("SqDist(x,y)", name)
    program = Program((reduced,), ARGUMENTS, 1, torch.float32)
    case = Case(program, rows=5, columns=7, batches=((), ()))
    monkeypatch.setattr(differential, "compiled", lambda _: dense_operation(reduced, "none"))
    assert check_case(case)
    monkeypatch.setattr(differential, "compiled", lambda _: dense_operation(reduced, mistake))
    with pytest.raises(AssertionError, match="differ"):
        check_case(case)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", ["MaxSumShiftExpWeight", "SoftMax", "LogSumExp"])
def test_ties_have_second_derivatives(name: str) -> None:
    """A value that equals the largest one has a derivative of its own."""
    reduced = Reduced("Sum(y)", name, formula2="Exp(x)")
    program = Program((reduced,), ARGUMENTS, 1, torch.float32, is_second_order=True)
    assert check_case(Case(program, rows=5, columns=7, batches=((), ()), has_ties=True))


def test_formulas_hold_every_operation() -> None:
    missing = set(SPELLINGS) - names_in_templates()
    assert not missing, f"give {missing} templates in tests/random_formulas.py"


def test_a_number_is_a_case() -> None:
    assert random_case(11) == random_case(11)
    assert random_case(11).program == random_case(10).program
    assert random_case(11) != random_case(10)
    for a, b in zip(random_case(11).tensors(), random_case(11).tensors(), strict=True):
        assert torch.equal(a, b)


def test_smaller_formulas_leave_parts_out() -> None:
    assert smaller_formulas("Sin(x+y)") == ["x", "y", "x + y", "Sin(x)", "Sin(y)"]
    assert smaller_formulas("x") == []


def test_a_failing_case_becomes_smaller() -> None:
    """Down to what the failure needs: one formula with a product, five columns or more."""
    program = Program((Reduced("Exp(x*y)-y", "Sum"), Reduced("x", "Min")), ARGUMENTS, 0, torch.half)
    case = Case(program, 20, 300, ((2,), (1,)), is_strided=True)

    def fails(other: Case) -> bool:
        return any("x * y" in r.formula for r in other.program.results) and other.columns > 4

    small = shrink(replace(case, program=replace(program, axis=1)), fails)
    assert small.program == Program((Reduced("x * y", "Sum"),), ARGUMENTS, 1, torch.float32)
    assert (small.rows, small.columns, small.batches, small.is_strided) == (0, 5, ((), ()), False)


@pytest.mark.parametrize("seed", range(300))
def test_programs_make_the_case_again(seed: int) -> None:
    """The text has the case's arguments and ranges."""
    case = random_case(seed)
    scope = _run_without_redcomp(program_text(case))
    for argument, tensor in zip(case.program.arguments, case.tensors(), strict=True):
        assert torch.equal(scope[argument.name], tensor)
    if case.blocks is not None:
        pairs = zip(scope["ranges"], case.blocks.ranges(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def _run_without_redcomp(text: str) -> dict[str, object]:
    """The variables of a program whose operation does nothing."""
    scope: dict[str, object] = {"Genred": lambda **options: lambda *args, **keywords: args}
    without = [line for line in text.splitlines() if "import Genred" not in line]
    exec("\n".join(without).replace("print(op", "(op"), scope)
    return scope


def blocks_of(seeds: range) -> list[Case]:
    return [c for c in map(random_case, seeds) if c.blocks is not None]


def test_both_halves_of_ranges_hold_the_same_pairs() -> None:
    cases = blocks_of(range(300))
    assert len(cases) > 30
    for case in cases:
        ranges = case.blocks.ranges()
        mask = pair_mask(ranges, case.rows, case.columns)
        assert torch.equal(mask, pair_mask(ranges[3:], case.columns, case.rows).T)
        kept = [
            (r.stop - r.start) * (c.stop - c.start)
            for r, row in zip(_slices(case.blocks.rows), case.blocks.keep, strict=True)
            for c, is_kept in zip(_slices(case.blocks.columns), row, strict=True)
            if is_kept
        ]
        assert mask.sum() == sum(kept)


def _slices(intervals: tuple[tuple[int, int], ...]) -> list[slice]:
    return [slice(*interval) for interval in intervals]
