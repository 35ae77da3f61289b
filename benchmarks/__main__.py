"""python -m benchmarks cpu: measure, print tables, and store JSON, Markdown and a picture."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import machine, measure, report
from benchmarks.cases import CASES
from benchmarks.competitors import COMPETITORS, Competitor, competitor

PARTS = ("speed", "compile", "import", "memory")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line selects."""
    options = _parser().parse_args(arguments)
    chosen: list[Competitor] = options.only or list(COMPETITORS)
    results = measure.Results(machine=machine.describe())
    if "speed" in options.parts:
        for case in CASES:
            if case.name in options.cases:
                print(f"measuring {case.name} ...", flush=True)
                measure.measure_speed(case, chosen, options.rounds, results)
    if "compile" in options.parts:
        print("measuring first calls ...", flush=True)
        measure.measure_compile(chosen, results)
    if "import" in options.parts:
        print("measuring imports ...", flush=True)
        measure.measure_imports(chosen, options.rounds, results)
    if "memory" in options.parts:
        print("measuring memory ...", flush=True)
        measure.measure_memory(chosen, results)
    report.show(results)
    command = shlex.join(["python", "-m", "benchmarks", *_shown(options)])
    for path in report.save(results, options.output, command):
        print(f"wrote {path}")


def _shown(options: argparse.Namespace) -> list[str]:
    """The arguments that select what is measured, for the report's first line."""
    shown = [options.device]
    if set(options.cases) != {case.name for case in CASES}:
        shown += ["--cases", ",".join(options.cases)]
    if options.only:
        shown += ["--only", ",".join(row.name for row in options.only)]
    if set(options.parts) != set(PARTS):
        shown += ["--parts", ",".join(options.parts)]
    return shown


def _parser() -> argparse.ArgumentParser:
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("device", choices=["cpu"])
    parser.add_argument(
        "--cases", type=_subset(names), default=names, help=f"some of {','.join(names)}"
    )
    parser.add_argument(
        "--only",
        type=lambda text: [competitor(name) for name in text.split(",")],
        help=f"some of {','.join(row.name for row in COMPETITORS)}",
    )
    parser.add_argument(
        "--parts", type=_subset(PARTS), default=PARTS, help=f"some of {','.join(PARTS)}"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each competitor")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/benchmarks/cpu"),
        help="the written files' path without suffix",
    )
    return parser


def _subset(known: Sequence[str]) -> Callable[[str], list[str]]:
    """An argparse type: names separated by commas, each one of the known ones."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = set(names) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return names

    return parse


if __name__ == "__main__":
    main()
