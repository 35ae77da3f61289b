"""PyTorch's gradcheck and gradgradcheck of each operation and reduction: needs the CPU, PyTorch.

Both modes, mixed to second order, plain and mapped by PyTorch's older vmap, against differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from operation_cases import Case as OperationCase
from operation_cases import apart
from operation_cases import cases as operation_cases
from reduction_cases import Case, call, cases, generic
from torch.autograd import gradcheck, gradgradcheck

from redcomp.ops import SPELLINGS
from redcomp.torch import Genred, KernelSolve

# PyTorch's forward mode, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

Tensor = torch.Tensor

SIZES = {"Vi": (2,), "Vj": (3,), "Pm": ()}
LARGEST = 2.0  # of an operand, where its interval allows that: differences are exact enough then


def check(of_arguments: Callable[..., Any], arguments: Sequence[Tensor]) -> None:
    """All that both functions of PyTorch's look at.

    The arguments are views of one leaf, so that all move at once: that takes the fewest kernels.
    """
    sizes = [t.numel() for t in arguments]
    given = (torch.cat([t.detach().flatten() for t in arguments]).requires_grad_(),)

    def function(leaf: Tensor) -> Any:
        parts = zip(leaf.split(sizes), arguments, strict=True)
        return of_arguments(*[part.view(t.shape) for part, t in parts])

    tolerances = {"rtol": 1e-5, "atol": 1e-5}
    assert gradcheck(
        function,
        given,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
        **tolerances,
    )
    assert gradgradcheck(
        function,
        given,
        gen_non_contig_grad_outputs=True,
        check_fwd_over_rev=True,
        check_batched_grad=True,
        **tolerances,
    )


def operands(case: OperationCase, kinds: Sequence[str]) -> list[Tensor]:
    """Numbers of the operation's domain."""
    random = np.random.default_rng(0)
    intervals = SPELLINGS[case.spelling].domain.intervals
    found = []
    for n, (dim, kind) in enumerate(zip(case.dims, kinds, strict=True)):
        low, high = intervals[min(n, len(intervals) - 1)]
        low, high = max(low, min(-LARGEST, high - LARGEST)), min(high, max(LARGEST, low + LARGEST))
        values = torch.from_numpy(random.uniform(low, high, (*SIZES[kind], dim)))
        found.append(values)
    return found


@pytest.mark.sampled(600)
@pytest.mark.parametrize("case", operation_cases(3, 2), ids=str)
def test_operations(case: OperationCase) -> None:
    formula, names, kinds, dims = apart(case, first=0)
    names = [*names, "w"]
    aliases = [f"{n} = {k}({d})" for n, k, d in zip(names, kinds, dims, strict=True)]
    w = torch.linspace(0.5, 1.5, 3, dtype=torch.float64)[: SIZES[kinds[-1]][0], None]
    given = [*operands(case, kinds[:-1]), w]
    check(Genred(formula, aliases, axis=1), given)


@pytest.mark.thorough
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("case", [case for case in cases() if case.row.has_gradient], ids=str)
def test_reductions(case: Case, axis: int) -> None:
    if case.count:
        case = case._replace(count=2)
    operation = case.genred(axis)

    def values(*given: Tensor) -> tuple[Tensor, ...]:
        return tuple(t for t in call(operation, *given) if t.is_floating_point())

    check(values, generic(2, 3, case.width))


@pytest.mark.thorough
def test_solves() -> None:
    aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)", "p = Pm(1)"]
    solve = KernelSolve("Exp(-p * SqDist(x, y)) * b", aliases, "b", axis=1)

    def function(x: Tensor, b: Tensor, p: Tensor, alpha: Tensor) -> Any:
        return solve(x, x, b, p, alpha=alpha, eps=1e-14)

    random = np.random.default_rng(0)
    given = [random.random(shape) + 0.5 for shape in ((2, 1), (2, 1), (1,), ())]
    check(function, list(map(torch.from_numpy, map(np.asarray, given))))
