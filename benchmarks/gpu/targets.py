"""What redcomp has to reach, and whether a run shows that it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.gpu.competitors import IN_A_GRAPH, KEOPS, REDCOMP, gpu_competitor
from benchmarks.measure import Record, Results
from benchmarks.report import duration


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a number that a run gives, or does not give (None).

    is_ratio  the number is KeOps' time over redcomp's and must be at least the bound; otherwise it
              is a time in seconds, which must be at most the bound
    """

    what: str
    bound: float
    number: Callable[[Results], float | None]
    is_ratio: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, and the number that was found, if it was measured.

    is_excused  KeOps, which it is compared with, is not installed
    """

    target: Target
    number: float | None
    is_excused: bool = False

    @property
    def word(self) -> str:
        """Met, missed, or not measured."""
        if self.number is None:
            return "not measured"
        bound = self.target.bound
        is_met = self.number >= bound if self.target.is_ratio else self.number <= bound
        return "met" if is_met else "missed"

    @property
    def is_failure(self) -> bool:
        """Whether a check must not pass: not if it could not have been measured."""
        return self.word == "missed" or (self.number is None and not self.is_excused)

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """What it is about, the bound, the number, and the word."""
        if self.target.is_ratio:
            shown, relation = (lambda number: f"{number:.3g}"), "at least"
        else:
            shown, relation = duration, "at most"
        found = "–" if self.number is None else shown(self.number)
        return self.target.what, f"{relation} {shown(self.target.bound)}", found, self.word


def _found(records: list[Record], key: str, **wanted: str) -> float | None:
    """A number of the first record that has these entries."""
    for record in records:
        if all(record[name] == value for name, value in wanted.items()):
            return float(record[key])
    return None


def _time(case: str, competitor: str = REDCOMP) -> Callable[[Results], float | None]:
    return lambda results: _found(results.speed, "median_s", case=case, competitor=competitor)


def _ratio(case: str) -> Callable[[Results], float | None]:
    def ratio(results: Results) -> float | None:
        own, other = _time(case)(results), _time(case, KEOPS)(results)
        return None if own is None or other is None else other / own

    return ratio


def _against_keops(case: str, bound: float) -> Target:
    return Target(f"{case}: KeOps' time over redcomp's", bound, _ratio(case), is_ratio=True)


# Seconds on an H100 or an H200.
TIMES: Mapping[str, float] = {
    "gaussian-1e5": 2.9e-3,
    "gaussian-1e6": 0.285,
    "gradients": 9e-3,
    "gaussian-D16": 9e-3,
    "gaussian-D64": 17e-3,
    "gaussian-D300": 90e-3,
    "wide-100": 25e-3,
    "few-rows": 25e-6,
    "logsumexp": 4e-3,
    "argkmin-10": 3.2e-3,
    "attention-64": 33e-3,
    "attention-64-f16": 12e-3,
    "block-sparse": 0.5e-3,
}

TARGETS: tuple[Target, ...] = (
    Target("gaussian-1e4: time in a graph", 31e-6, _time("gaussian-1e4", IN_A_GRAPH)),
    *(Target(f"{case}: time", bound, _time(case)) for case, bound in TIMES.items()),
    _against_keops("gaussian-1e6", 1.5),
    _against_keops("gaussian-1e5", 2),
    _against_keops("gaussian-1e4", 2),
    _against_keops("gradients", 3),
    _against_keops("gaussian-D64", 2),
    Target(
        "first call on a new formula, empty caches",
        0.25,
        lambda results: _found(results.compile, "first_s", competitor=REDCOMP, caches="empty"),
    ),
    Target(
        "host's time of a warm launch",
        15e-6,
        lambda results: _found(results.launches, "median_s", competitor=REDCOMP),
    ),
)


def verdicts(results: Results) -> list[Verdict]:
    """What a run says of every target."""
    has_keops = gpu_competitor(KEOPS).missing() is None
    return [
        Verdict(target, target.number(results), is_excused=target.is_ratio and not has_keops)
        for target in TARGETS
    ]
