"""Measure the errors of fast math; write docs/fast-math.md and the tables it is made of.

    python scripts/measure_fast_math.py functions           on GPUs, without one; some minutes
    python scripts/measure_fast_math.py offsets             on the host, some seconds
    python scripts/measure_fast_math.py offsets --on gpu    on a GPU, less than 40 s
    python scripts/measure_fast_math.py offsets --on stand-in        kernels for GPUs, interpreted
    python scripts/measure_fast_math.py products --on stand-in       their products of matrices
    python scripts/measure_fast_math.py functions --print exp        only print a table

Elementary functions are what GPUs compute, operation by operation, in NumPy; each approximate
instruction's exact result is moved by the largest error that NVIDIA documents for it
(`error` of its row), up or down at random, and rounded.  Offsets are those of points
from 0 in whole calls (`offset_errors.py`), products those of long vectors (`product_errors.py`).
References are in float64.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import offset_errors
import product_errors

from redcomp.interpret import interpret
from redcomp.ir import Type, topological, variable
from redcomp.ops.table import OPERATIONS, Array, Interval, Range, apply
from redcomp.passes.expand import expand_value
from redcomp.ptx.targets import APPROXIMATE, gpu_target

PAGE = Path(__file__).parents[1] / "docs" / "fast-math.md"
TABLES = PAGE.with_suffix(".json")
TEMPLATE = Path(__file__).parent / "fast-math.md.in"
CHUNK = 1 << 17


def range_of(op: str) -> Range:
    """Where a function is measured."""
    found = OPERATIONS[op].fast_range
    assert found is not None, (
        f"{op!r} becomes approximate under fast math: its row has to say in which `fast_range` its "
        "errors are measured"
    )
    return found


def approximate() -> list[str]:
    """The functions that become approximate under fast math."""
    primitives = gpu_target("sm_90", True).primitives
    found = []
    for row in OPERATIONS.values():
        if row.spelling and row.elementwise:
            attrs = dict(zip(row.parameters, (2, 3), strict=False))
            operands = [variable(f"v{k}", "i", k, Type("f32")) for k in range(row.arity)]
            parts = topological([expand_value(apply(row.name, *operands, **attrs), primitives)])
            if any(part.op in APPROXIMATE for part in parts):
                found.append(row.name)
    return found


def measured() -> list[str]:
    """The functions whose errors under fast math are measured: all but stairs."""
    return [op for op in approximate() if range_of(op).intervals]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The largest error of an operation over `count` points, and where it is."""

    op: str
    count: int = 0
    error: float = 0.0
    at: tuple[float, ...] = ()


@contextlib.contextmanager
def inexact(seed: int) -> Iterator[None]:
    """Within, NumPy's approximate instructions err as much as is documented."""
    random = np.random.default_rng(seed)
    before = {op: OPERATIONS[op] for op in APPROXIMATE}

    def moved(op: str, x: Array) -> Array:
        exact = before[op].value(x)
        error = before[op].error
        assert error is not None, f"the row of {op!r} has to say how much the instruction errs"
        size = np.maximum(error.relative * np.abs(exact.astype(np.float64)), error.absolute)
        sign = random.choice([-1.0, 1.0], exact.shape)
        return np.asarray((exact + sign * size).astype(np.float32))

    try:
        for op, row in before.items():
            OPERATIONS[op] = replace(row, evaluate=lambda x, op=op: moved(op, x))
        yield
    finally:
        OPERATIONS.update(before)


def points(op: str, count: int, seed: int = 0) -> Iterator[tuple[Array, ...]]:
    """Chunks of operands: uniform in the ranges and, where these are wide, by magnitude too."""
    random = np.random.default_rng(seed)
    intervals = range_of(op).intervals
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        yield tuple(_drawn(interval, size, random) for interval in intervals)


def _drawn(interval: Interval, count: int, random: np.random.Generator) -> Array:
    low, high = interval
    uniform = random.uniform(low, high, count)
    # Half of the points by magnitude, as far down as to a millionth of the range, or to its end.
    least = math.log2(low) if low > 0 else math.log2(high) - 20
    sized = np.exp2(random.uniform(least, math.log2(high), count))
    if low < 0:
        sized = np.clip(sized * random.choice([-1.0, 1.0], count), low, high)
    return np.where(random.random(count) < 0.5, uniform, sized).astype(np.float32)


def measure(op: str, count: int) -> Measurement:
    """The largest error of an operation."""
    row, floor = OPERATIONS[op], range_of(op).floor
    operands = [variable(f"v{k}", "i", k, Type("f32")) for k in range(row.arity)]
    value = expand_value(apply(op, *operands), gpu_target("sm_90", True).primitives)
    worst = Measurement(op, count)
    for seed, arrays in enumerate(points(op, count)):
        exact = row.value(*(array.astype(np.float64) for array in arrays))
        columns = {f"v{k}": array[:, None] for k, array in enumerate(arrays)}
        with inexact(seed):
            found = interpret([value], columns)[0][:, 0]
        with np.errstate(all="ignore"):
            errors = np.abs(found - exact) / np.maximum(np.abs(exact), floor)
        errors[found == exact] = 0.0
        k = int(np.argmax(errors))
        if not errors[k] <= worst.error:
            at = tuple(float(array[k]) for array in arrays)
            worst = replace(worst, error=float(errors[k]), at=at)
    return worst


def table(measurements: Sequence[Measurement]) -> list[str]:
    """The measurements as the lines of a table of the page."""
    lines = [
        "| function | where | error | relative to | at | points |",
        "|---|---|---|---|---|---|",
    ]
    for m in measurements:
        row, where = OPERATIONS[m.op], range_of(m.op)
        intervals = ", ".join(f"[{low:.4g}, {high:.4g}]" for low, high in where.intervals)
        divisor = "max(1, abs(result))" if where.floor else "result"
        at = ", ".join(f"{x:.7g}" for x in m.at)
        cells = [row.spelling, intervals, f"2^{math.log2(m.error):.1f}", divisor, at]
        lines.append(f"| {' | '.join(cells)} | {m.count:,} |")
    return lines


def page(tables: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """The page with these tables: that of functions, and that of offsets for each machine."""
    template = TEMPLATE.read_text(encoding="utf-8")
    template = template.replace("$formulas", "\n".join(offset_errors.formulas()))
    for part, by_machine in tables.items():
        titled = ("\n".join([f"{name}:\n", *lines]) for name, lines in by_machine.items())
        template = template.replace(f"${part}", "\n\n".join(titled))
    return template


def keep(part: str, machine: str, lines: Sequence[str]) -> None:
    """Store a table, and write the page anew."""
    tables = json.loads(TABLES.read_text(encoding="utf-8"))
    tables.setdefault(part, {})[machine] = list(lines)
    tables[part] = dict(sorted(tables[part].items()))  # the order of the file, so of the page
    TABLES.write_text(json.dumps(tables, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(tables), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("functions", "offsets", "products"))
    parser.add_argument("ops", nargs="*", default=measured(), help="functions (default: all)")
    parser.add_argument("--points", type=int, default=1 << 22, help="points of each function")
    parser.add_argument("--on", choices=offset_errors.MACHINES, default="host")
    parser.add_argument("--print", action="store_true", help="write no file")
    options = parser.parse_args(arguments)
    if options.part == "functions":
        machine = "Elementary functions"
        lines = table([measure(op, options.points) for op in options.ops])
    else:
        script = offset_errors if options.part == "offsets" else product_errors
        machine, lines = script.table(options.on)
    print("\n".join([f"{machine}:", *lines]))
    if not options.print:
        keep(options.part, machine, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
