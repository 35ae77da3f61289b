"""Fit the model of costs of schedules for GPUs to times that were measured; no GPU is needed.

    python scripts/fit_schedules.py FILE.json

FILE is what `python -m benchmarks gpu-schedules` has written.  Printed are the figures
(`redcomp.ptx.schedule.Figures`) whose times have the smallest spread around the measured ones, how
large it is with them and with the figures in use, and for each nest how much slower than the
fastest schedule that was measured the one is that the model would choose among them.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.schedules import BY_NAME  # noqa: E402
from redcomp.ptx.schedule import FIGURES, Figures, PtxSchedule, pair_clocks  # noqa: E402

INTERFERENCES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
WARPS = (8, 12, 16, 20, 24, 32)
SLOWER = (0.0, 0.25, 0.5, 0.75, 1.0)

Record = Mapping[str, Any]


def clocks(record: Record, target: str, figures: Figures) -> float:
    """What the model says of a schedule: clocks of all parts, for a pair of each thread."""
    schedule = PtxSchedule(**record["schedule"])
    return sum(model(schedule, figures) for model in _models(record["nest"], target))


@functools.cache
def _models(nest: str, target: str) -> list[Callable[[PtxSchedule, Figures], float]]:
    """The models of the parts of a nest."""
    lowering = BY_NAME[nest].lowering(target)
    return [pair_clocks(planned.part.nest, lowering.context) for planned in lowering.planned]


def spread(records: Sequence[Record], target: str, figures: Figures) -> float:
    """The standard deviation of the logarithms of measured over predicted times.

    How long a clock is, and what the model leaves out of a whole nest, do not count.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        ratio = record["seconds"] / clocks(record, target, figures)
        found[record["nest"]].append(math.log(ratio))
    squares = [(x - statistics.fmean(ratios)) ** 2 for ratios in found.values() for x in ratios]
    return math.sqrt(statistics.fmean(squares))


def candidates() -> Iterable[Figures]:
    """The figures among which the best are looked for."""
    return itertools.starmap(Figures, itertools.product(INTERFERENCES, WARPS, SLOWER))


def fit(records: Sequence[Record], target: str) -> Figures:
    """The figures with the least spread; of equal ones those in use, if they are among them."""
    return min((FIGURES, *candidates()), key=lambda figures: spread(records, target, figures))


def regrets(records: Sequence[Record], target: str, figures: Figures) -> dict[str, float]:
    """By nest, the time of what the model prefers over the smallest time."""
    found = {}
    for nest in dict.fromkeys(record["nest"] for record in records):
        own = [record for record in records if record["nest"] == nest]
        preferred = min(own, key=lambda record: clocks(record, target, figures))
        found[nest] = preferred["seconds"] / min(record["seconds"] for record in own)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the fit to a file's records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    stored = json.loads(options.file.read_text(encoding="utf-8"))
    target = stored["device"]["target"]
    records = [record for record in stored["records"] if record["seconds"] is not None]
    print(f"{len(records)} times of {stored['device']['name']}")
    for name, figures in (("in use", FIGURES), ("fitted", fit(records, target))):
        print(f"{name}: {figures}, spread {spread(records, target, figures):.1%}")
        for nest, regret in regrets(records, target, figures).items():
            print(f"    {nest}: {regret:.2f} times the fastest")
    return 0


if __name__ == "__main__":
    sys.exit(main())
