"""python -m benchmarks SUITE: measure, print tables, and store JSON, Markdown and a picture."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import machine, measure, report
from benchmarks.competitors import COMPETITORS, Competitor, competitor
from benchmarks.suites import PARTS, SUITES, Suite


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line selects."""
    options = _parser().parse_args(arguments)
    suite: Suite = options.suite
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
    report.show(results)
    command = shlex.join(["python", "-m", "benchmarks", *_shown(options)])
    for path in report.save(results, options.output, command):
        print(f"wrote {path}")


def _shown(options: argparse.Namespace) -> list[str]:
    """The arguments that select what is measured, for the report's first line."""
    suite: Suite = options.suite
    shown = [suite.name]
    if set(options.cases) != {case.name for case in suite.cases}:
        shown += ["--cases", ",".join(options.cases)]
    if options.only:
        shown += ["--only", ",".join(row.name for row in options.only)]
    if set(options.parts) != set(suite.parts):
        shown += ["--parts", ",".join(options.parts)]
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(metavar="SUITE", required=True)
    for suite in SUITES:
        _add_options(commands.add_parser(suite.name, description=suite.title), suite)
    return parser


def _add_options(parser: argparse.ArgumentParser, suite: Suite) -> None:
    names = [case.name for case in suite.cases]
    parser.set_defaults(suite=suite)
    parser.add_argument(
        "--cases", type=_subset(names), default=names, help=f"some of {','.join(names)}"
    )
    parser.add_argument(
        "--only",
        type=lambda text: [competitor(name) for name in text.split(",")],
        help=f"some of {','.join(row.name for row in COMPETITORS)}; "
        f"by default {','.join(suite.competitors)}",
    )
    parser.add_argument(
        "--parts",
        type=_subset(PARTS),
        default=suite.parts,
        help=f"some of {','.join(PARTS)}; by default {','.join(suite.parts)}",
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each competitor")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/benchmarks") / suite.name,
        help="the written files' path without suffix",
    )


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
