"""Forward-mode derivatives of reductions of tensors, to second order: needs the CPU and PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.autograd import forward_ad

from redcomp.torch import Genred

# PyTorch's forward mode warns about PyTorch's own scripts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Tensor = torch.Tensor
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "p = Pm(1)"]


def distances(x: Tensor, y: Tensor) -> Tensor:
    return ((x[:, None] - y[None]) ** 2).sum(-1)


def gaussian(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
    return (-p * distances(x, y)).exp() @ b


def logsumexp(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
    return (p * distances(x, y)).logsumexp(1, keepdim=True)


def minimum(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
    return (p * distances(x, y)).min(1, keepdim=True).values


CASES = {
    "sum": (Genred("Exp(-p*SqDist(x,y))*b", ALIASES, axis=1), gaussian),
    "logsumexp": (
        Genred("p*SqDist(x,y) + 0*Sum(b)", ALIASES, reduction_op="LogSumExp", axis=1),
        logsumexp,
    ),
    "min": (Genred("p*SqDist(x,y) + 0*Sum(b)", ALIASES, reduction_op="Min", axis=1), minimum),
}
every_case = pytest.mark.parametrize(("genred", "dense"), CASES.values(), ids=CASES)
Dense = Callable[..., Tensor]


def numbers(seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((4, 3), (5, 3), (5, 2), (1,))
    return tuple(torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes)


@pytest.mark.sampled(9)
@every_case
def test_jvp(genred: Genred, dense: Dense) -> None:
    found = torch.func.jvp(genred, numbers(0), numbers(1))
    torch.testing.assert_close(found, torch.func.jvp(dense, numbers(0), numbers(1)))


@pytest.mark.sampled(2)
@every_case
def test_tangents_of_some_arguments(genred: Genred, dense: Dense) -> None:
    x, y, b, p = numbers(0)
    with forward_ad.dual_level():
        args = (x, forward_ad.make_dual(y, numbers(1)[1]), b, p)
        found, expected = (forward_ad.unpack_dual(f(*args)) for f in (genred, dense))
    torch.testing.assert_close(tuple(found), tuple(expected))


@pytest.mark.sampled(6)
@every_case
def test_forward_over_forward(genred: Genred, dense: Dense) -> None:
    def twice(function: Dense) -> tuple[Tensor, Tensor]:
        return torch.func.jvp(
            lambda *args: torch.func.jvp(function, args, numbers(1))[1], numbers(0), numbers(2)
        )

    torch.testing.assert_close(twice(genred), twice(dense))


@pytest.mark.sampled(9)
@every_case
def test_forward_over_reverse(genred: Genred, dense: Dense) -> None:
    def curvature(function: Dense) -> tuple[Tensor, Tensor]:
        gradient = torch.func.grad(lambda x: (function(x, *numbers(0)[1:]) ** 2).sum())
        return torch.func.jvp(gradient, numbers(0)[:1], numbers(1)[:1])

    torch.testing.assert_close(curvature(genred), curvature(dense))


@pytest.mark.sampled(9)
@every_case
def test_reverse_over_forward(genred: Genred, dense: Dense) -> None:
    def gradient(function: Dense) -> Tensor:
        def derivative(x: Tensor) -> Tensor:
            args = (x, *numbers(0)[1:])
            return (torch.func.jvp(function, args, numbers(1))[1] ** 2).sum()

        return torch.func.grad(derivative)(numbers(0)[0])

    torch.testing.assert_close(gradient(genred), gradient(dense))


def test_a_call_without_tangents_has_none() -> None:
    genred, dense = CASES["sum"]
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(genred(*numbers(0)))
    assert found.tangent is None
    torch.testing.assert_close(found.primal, dense(*numbers(0)))


REQUESTS = [
    *((name, {}) for name in ("Sum", "Mean", "Norm", "LogSumExp", "Prod", "Min", "Max")),
    *((name, {"formula2": "b"}) for name in ("LogSumExp", "SumSoftMaxWeight")),
    *((name, {"opt_arg": 2}) for name in ("KMin", "KMax")),
]


@pytest.mark.sampled(36)
@pytest.mark.parametrize(("name", "options"), REQUESTS)
def test_every_reduction_by_differences(name: str, options: dict[str, object]) -> None:
    genred = Genred("SqDist(x,y)*p", ALIASES, reduction_op=name, axis=1, **options)
    _, found = torch.func.jvp(genred, numbers(0), numbers(1))
    ends = [
        genred(*(a + h * t for a, t in zip(numbers(0), numbers(1), strict=True)))
        for h in (1e-6, -1e-6)
    ]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-7, atol=1e-7)
