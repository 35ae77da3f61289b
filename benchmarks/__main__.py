"""python -m benchmarks SUITE: measure, print tables, and store JSON, Markdown and a picture."""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, measure, report
from benchmarks.competitors import COMPETITORS, Competitor, competitor
from benchmarks.gpu import command as gpu
from benchmarks.gpu import schedules as gpu_schedules
from benchmarks.options import subset
from benchmarks.suites import PARTS, SUITES, Suite


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line selects; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    status: int = options.run(options, shlex.join(["python", "-m", "benchmarks", *given]))
    return status


def _run(suite: Suite, options: argparse.Namespace, command: str) -> int:
    """Measure a suite on the CPU."""
    chosen: list[Competitor] = options.only or [competitor(name) for name in suite.competitors]
    results = measure.Results(title=suite.title, machine=machine.describe())
    if "speed" in options.parts:
        for case in suite.cases:
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
    report.show(report.tables(results))
    for path in report.save(results, options.output, command):
        print(f"wrote {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(metavar="SUITE", required=True)
    for suite in SUITES:
        _add_options(commands.add_parser(suite.name, description=suite.title), suite)
    gpu.add_options(commands.add_parser("gpu", description=gpu.__doc__))
    gpu_schedules.add_options(
        commands.add_parser("gpu-schedules", description=gpu_schedules.__doc__)
    )
    return parser


def _add_options(parser: argparse.ArgumentParser, suite: Suite) -> None:
    names = [case.name for case in suite.cases]
    parser.set_defaults(run=functools.partial(_run, suite))
    parser.add_argument(
        "--cases", type=subset(names), default=names, help=f"some of {','.join(names)}"
    )
    parser.add_argument(
        "--only",
        type=lambda text: [competitor(name) for name in text.split(",")],
        help=f"some of {','.join(row.name for row in COMPETITORS)}; "
        f"by default {','.join(suite.competitors)}",
    )
    parser.add_argument(
        "--parts",
        type=subset(PARTS),
        default=suite.parts,
        help=f"some of {','.join(PARTS)}; by default {','.join(suite.parts)}",
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each competitor")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/benchmarks") / suite.name,
        help="the written files' path without suffix",
    )


if __name__ == "__main__":
    sys.exit(main())
