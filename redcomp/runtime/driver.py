"""Which driver is in use: NVIDIA's, or another one that was given, as tests do."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from redcomp.runtime.device import Driver

_given: Driver | None = None


def driver() -> Driver:
    """The driver in use, NVIDIA's unless another was given; raises DeviceError without a GPU."""
    return _given or _real()


def given_driver() -> Driver | None:
    """The driver that was given, None where it is NVIDIA's; needs no GPU."""
    return _given


@contextlib.contextmanager
def use(given: Driver) -> Iterator[Driver]:
    """Let every call that begins within the `with` statement use another driver."""
    global _given
    before, _given = _given, given
    try:
        yield given
    finally:
        _given = before


@functools.cache
def _real() -> Driver:
    # Who computes on the host does without it.
    from redcomp.runtime.cuda import CudaDriver

    return CudaDriver()
