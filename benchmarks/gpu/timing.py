"""Clocks of a GPU and of the host, and turns of competitors."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Protocol

from benchmarks.competitors import Computation

WARM_UP_CALLS = 2
TURN_SECONDS = 0.2  # of each competitor a round
SAMPLE_SECONDS = 0.005  # two events are told apart far more finely than this
MOST_SAMPLES = 40  # of a turn
MOST_CALLS = 500  # in a row: a driver's queue has place for about a thousand launches


class Timer(Protocol):
    """Seconds a call, of several calls in a row."""

    def device(self, function: Computation, calls: int) -> float:
        """From when the device begins with the first call to when it has finished the last."""

    def host(self, function: Computation, calls: int) -> float:
        """What the calls take on the host, which does not wait for the device meanwhile."""


class CudaTimer:
    """Events on PyTorch's current stream, and the host's clock."""

    def device(self, function: Computation, calls: int) -> float:
        """Time between an event before the calls and one after them."""
        import torch

        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        before.record()
        for _ in range(calls):
            function()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) / 1e3 / calls

    def host(self, function: Computation, calls: int) -> float:
        """Time on the host's clock; the device is idle before, and is waited for afterwards."""
        import torch

        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        seconds = time.perf_counter() - start
        torch.cuda.synchronize()
        return seconds / calls


def interleaved(
    computations: Mapping[str, Computation], rounds: int, timer: Timer
) -> dict[str, list[float]]:
    """Seconds a call on the device, the competitors taking turns: A, B, C, A, B, C, ..."""
    times: dict[str, list[float]] = {name: [] for name in computations}
    plans = {name: _plan(function, timer) for name, function in computations.items()}
    for _ in range(rounds):
        for name, function in computations.items():
            calls, samples = plans[name]
            if samples > 1:
                timer.device(function, 1)  # finds the caches as in a loop of its user's
            times[name] += [timer.device(function, calls) for _ in range(samples)]
    return times


def _plan(function: Computation, timer: Timer) -> tuple[int, int]:
    """Calls of a sample, and samples of a turn."""
    timer.device(function, WARM_UP_CALLS)
    seconds = timer.device(function, 1)
    calls = max(1, min(MOST_CALLS, math.ceil(SAMPLE_SECONDS / seconds)))
    return calls, max(1, min(MOST_SAMPLES, int(TURN_SECONDS / (calls * seconds))))
