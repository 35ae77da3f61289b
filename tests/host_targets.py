"""The host targets whose code this machine runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from redcomp.errors import ArgumentError
from redcomp.llvm_backend.host.targets import HOST_TARGETS, check_runs_here, host_target


def _running() -> Iterator[str]:
    for name in HOST_TARGETS:
        with contextlib.suppress(ArgumentError):
            check_runs_here(host_target(name))
            yield name


RUNNING = tuple(_running())
