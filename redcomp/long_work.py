"""Progress of calls and solves that last more than a few seconds, on standard error, if asked for.

Whoever does it asks `is_shown` first, and makes a `Work` if so.  The machine code of a call counts
its tasks anyway, so being watched costs a call nothing.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, Protocol

from redcomp import arguments, config

# What ends sooner is not shown.
DELAY_SECONDS = 2.0
# Between two lines, where there is no bar.
_LINE_SECONDS = 5.0

_asked: bool | None = None  # what the latest `progress` says; None leaves it to the environment
_clock = time.monotonic


def progress(shown: bool = True) -> contextlib.AbstractContextManager[object]:
    """Show the progress of long calls and solves on standard error, from now on or within a block.

        with redcomp.progress():
            out = op(x, y, b)

        redcomp.progress()        # until the program ends, or until:
        redcomp.progress(False)

    What has taken 2 seconds is shown from then on: of a call on the host, the pairs that are done
    and those in all; of a solve, wherever it runs, the iterations and the residual.  A call on a
    GPU is queued and says nothing until it has ended.  tqdm draws a bar if it is installed;
    otherwise a line is written every 5 seconds.

    It holds for all threads of the process.  As a context manager, it restores what was before.
    The environment variable REDCOMP_PROGRESS=1 does the same for a whole program.

    Raises ArgumentError unless `shown` is True or False.
    """
    stack = contextlib.ExitStack()
    stack.callback(_ask, _asked)
    _ask(arguments.switch("shown", shown))
    return stack


def _ask(shown: bool | None) -> None:
    global _asked
    _asked = shown


class Display(Protocol):
    """Where one piece of work is shown."""

    def show(self, done: int, residual: float | None) -> None:
        """So much is done."""

    def close(self) -> None:
        """No more will be done, be it that the work has ended early."""


class Work:
    """A call or a solve that somebody wants to see; a context manager, which ends it.

    unit   what is counted: "pairs" or "iterations"
    total  how many there will be, or None if nobody knows
    """

    def __init__(self, unit: str, total: int | None) -> None:
        self.unit, self.total = unit, total
        self._begin = _clock()
        self._display: Display | None = None

    def show(self, done: int, residual: float | None = None) -> None:
        """So much is done, the residual being that of a solve."""
        if self._display is None and self.seconds >= DELAY_SECONDS:
            self._display = _display(self)
        if self._display is not None:
            self._display.show(done, residual)

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return _clock() - self._begin

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.close()


def is_shown() -> bool:
    """Whether somebody wants to see long work."""
    return (config.progress() if _asked is None else _asked) and sys.stderr is not None


class _Lines:
    """Lines of text on standard error."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._written = -_LINE_SECONDS  # when the latest line was written, in the work's seconds
        self._latest: tuple[int, float | None] | None = None

    def show(self, done: int, residual: float | None) -> None:
        self._latest = done, residual
        if self._work.seconds >= self._written + _LINE_SECONDS:
            self.close()

    def close(self) -> None:
        if self._latest is not None:
            self._written = self._work.seconds
            print(_line(self._work, *self._latest), file=sys.stderr, flush=True)
            self._latest = None


def _line(work: Work, done: int, residual: float | None) -> str:
    so_far, rest = f"{done:,} {work.unit}", ""
    if work.total:
        so_far = f"{100 * done / work.total:.0f} % of {work.total:.3g} {work.unit}"
        left = work.seconds * (work.total - done) / done if done else 0.0
        rest = f", about {left:.0f} s left" if left else ""
    if residual is not None:
        rest = f", residual {residual:.2e}"
    return f"redcomp: {so_far} after {work.seconds:.0f} s{rest}"


class _Bar:
    """A bar of tqdm's."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def show(self, done: int, residual: float | None) -> None:
        if residual is not None:
            self._bar.set_postfix_str(f"residual {residual:.2e}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def _display(work: Work) -> Display:
    """A bar, or lines where tqdm is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Lines(work)
    # Rates count from the work's begin, and not from that of the bar, as smooth ones would.
    bar = tqdm(total=work.total, desc="redcomp", unit=f" {work.unit}", unit_scale=True, smoothing=0)
    bar.start_t -= work.seconds
    return _Bar(bar)
