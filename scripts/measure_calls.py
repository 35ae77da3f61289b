"""What calls on tensors cost, in PyTorch's several ways to make them; CPU time of one thread.

python scripts/measure_calls.py          # microseconds of small calls
python scripts/measure_calls.py --steps  # milliseconds of training steps, eager and compiled
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from redcomp.frontend.reductions.texts import text_of_reduction
from redcomp.torch import Genred, Vi, Vj

SMALL, POINTS = 100, 2000
SMOOTH = ("Exp(-SqDist(x,y))*b", ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"])
smooth = Genred(*SMOOTH, axis=1)
similar = Genred("Exp(-SqDist(x,y))", ["x=Vi(3)", "y=Vj(3)"], axis=1)


class Empty(torch.autograd.Function):
    """The least that a function with three arguments and gradients costs PyTorch."""

    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*tensors)
        return tensors[2] * 1

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor, ...]:
        saved: tuple[torch.Tensor, ...] = ctx.saved_tensors
        return saved


def small_calls() -> dict[str, Callable[[], Any]]:
    """Calls of 100 x 100 pairs."""
    plain = [torch.rand(SMALL, n) for n in (3, 3, 1)]
    moved = [t.clone().requires_grad_() for t in plain]
    one, text = torch.ones(SMALL, 1), text_of_reduction(smooth.reduction)
    empty: Callable[..., torch.Tensor] = Empty.apply
    of_x = [moved[0], *plain[1:]]

    def lazy(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp() @ b
        return product

    def reduce(*args: torch.Tensor) -> torch.Tensor:
        results: list[torch.Tensor] = torch.ops.redcomp.reduce(
            list(args), [], text, "f32", "auto", -1
        )
        return results[0]

    def call(*args: torch.Tensor) -> torch.Tensor:
        given = (list(args), [], [], [], smooth.text, "auto", -1, True)
        results: list[torch.Tensor] = torch.ops.redcomp.call(*given)
        return results[0]

    return {
        "eager": lambda: smooth(*plain),
        "eager, made anew": lambda: Genred(*SMOOTH, axis=1)(*plain),
        "redcomp::call": lambda: call(*plain),
        "redcomp::reduce": lambda: reduce(*plain),
        "eager, recorded": lambda: smooth(*moved),
        "eager, all gradients": lambda: torch.autograd.grad(smooth(*moved), moved, one),
        "redcomp::reduce, all gradients": lambda: torch.autograd.grad(reduce(*moved), moved, one),
        "an empty Function, gradients": lambda: torch.autograd.grad(empty(*moved), moved, one),
        "eager, gradient of x": lambda: torch.autograd.grad(smooth(*of_x), of_x[:1], one),
        "an empty Function, gradient of x": lambda: torch.autograd.grad(
            empty(*of_x), of_x[:1], one
        ),
        "LazyTensor": lambda: lazy(*plain),
        "LazyTensor, gradient of x": lambda: torch.autograd.grad(lazy(*of_x), of_x[:1], one),
        "LazyTensor, all gradients": lambda: torch.autograd.grad(lazy(*moved), moved, one),
    }


def training_steps() -> dict[str, Callable[[], Any]]:
    """Steps of losses over the features of a network, of 2,000 points."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 3))
    points, target = torch.randn(POINTS, 8), torch.randn(POINTS, 3)

    def by_genred(points: torch.Tensor) -> torch.Tensor:
        features = network(points)
        loss: torch.Tensor = (
            similar(features, features).mean() - 2 * similar(features, target).mean()
        )
        return loss

    def by_lazy_tensor(points: torch.Tensor) -> torch.Tensor:
        costs = ((Vi(network(points)) - Vj(target)) ** 2).sum(-1)
        loss: torch.Tensor = -(-costs).logsumexp(1).mean()
        return loss

    def step(loss: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(loss(points), tuple(network.parameters()))

    losses = {"Gaussian loss": by_genred, "softmin of a LazyTensor": by_lazy_tensor}
    made = {}
    for name, loss in losses.items():
        compiled = torch.compile(loss, fullgraph=True)
        made[f"{name}, eager"], made[f"{name}, compiled"] = step(loss), step(compiled)
        pairs = zip(made[f"{name}, eager"](), made[f"{name}, compiled"](), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    return made


def measured(cases: Mapping[str, Callable[[], Any]], calls: int, rounds: int) -> dict[str, float]:
    """Seconds of a call: the lower tenth of rounds that go over all cases in turn."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            run()
            start = time.process_time()
            for _ in range(calls):
                run()
            found[name].append((time.process_time() - start) / calls)
    return {name: sorted(times)[len(times) // 10] for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", action="store_true", help="training steps")
    torch.set_num_threads(1)
    if parser.parse_args().steps:
        for name, seconds in measured(training_steps(), 5, 15).items():
            print(f"{name:36} {seconds * 1e3:8.2f} ms")
    else:
        for name, seconds in measured(small_calls(), 200, 30).items():
            print(f"{name:36} {seconds * 1e6:8.1f} us")


if __name__ == "__main__":
    main()
