"""The findings of a launch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ptxsim.errors import Report
from ptxsim.scalars import Array
from ptxsim.syntax import Instruction
from ptxsim.threads import Threads


class Findings:
    """One report for each kind of finding at each line."""

    def __init__(self, threads: Threads, reports: dict[tuple[str, int], Report]) -> None:
        self._threads = threads
        self._reports = reports

    def add(
        self,
        kind: str,
        instruction: Instruction,
        bad: Array,
        threads: Array,
        describe: Callable[[int], str],
    ) -> None:
        """Report that a check failed for some of these threads.

        `bad` has a flag, or a row of flags, for each thread; `describe` words the case of the n-th.
        """
        if not bad.any():
            return
        bad = np.asarray(bad.any(axis=1)) if bad.ndim > 1 else bad
        count, first = int(bad.sum()), int(np.argmax(bad))
        if (old := self._reports.get((kind, instruction.line))) is not None:
            old.count += count
            return
        message = f"{self._threads.who(threads[first])} {describe(first)}"
        report = Report(kind, instruction.line, instruction.text, message, count)
        self._reports[kind, instruction.line] = report
