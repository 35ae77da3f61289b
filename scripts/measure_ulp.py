"""Measure the errors of the elementary functions and write docs/accuracy.md.

    python scripts/measure_ulp.py                 a sample of all floats, about a minute
    python scripts/measure_ulp.py --full exp log  all float32 values of some functions
    python scripts/measure_ulp.py --output -      print the table instead of writing it

A unit in the last place (ULP) is the distance between the floats around the exact result; 0.5 is
the best possible.  The functions are measured as compiled for this machine.  The reference is
float64 for float32, and mpmath with 160 bits for float64.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

from redcomp.numpy import Genred
from redcomp.ops.table import OPERATIONS, Array, Operation

DTYPES = {"f32": np.float32, "f64": np.float64}
CHUNK = 1 << 16

# Where the argument of a circular function can be reduced accurately.
LIMITS = {
    ("sin", "f32"): 2.0**20,
    ("cos", "f32"): 2.0**20,
    ("sinxdivx", "f32"): 2.0**20,
    ("sin", "f64"): 2.0**30,
    ("cos", "f64"): 2.0**30,
    ("sinxdivx", "f64"): 2.0**30,
}
# Besides floats of all magnitudes, points are drawn uniformly from (-width, width).
WIDTHS = (1.0, 4.0, 30.0, 110.0, 750.0)

EXACT: dict[str, Callable[..., Any]] = {
    "exp": mpmath.exp,
    "exp2": lambda x: mpmath.power(2, x),
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "log1p": mpmath.log1p,
    "xlogx": lambda x: x * mpmath.log(x),
    "powf": mpmath.power,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "tanh": mpmath.tanh,
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "sinxdivx": lambda x: mpmath.sin(x) / x,
    "asin": mpmath.asin,
    "acos": mpmath.acos,
    "atan": mpmath.atan,
    "atan2": mpmath.atan2,
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """The largest error of an operation over `count` points, and where it is."""

    op: str
    dtype: str
    count: int
    error: float
    at: tuple[float, ...]


@functools.cache
def _compiled(op: str) -> Genred:
    row = OPERATIONS[op]
    names = [f"v{k}" for k in range(row.arity)]
    aliases = [*(f"{name}=Vi(1)" for name in names), "one=Vj(1)"]
    return Genred(f"{row.spelling}({','.join(names)})", aliases, reduction_op="Sum", axis=1)


def evaluate(op: str, *operands: Array) -> Array:
    """The operation applied to arrays of one dimension, compiled: a reduction over one column."""
    one = np.ones((1, 1), operands[0].dtype)
    return _compiled(op)(*(operand[:, None] for operand in operands), one, backend="CPU")[:, 0]


def reference(op: str, *operands: Array) -> tuple[Array, Array]:
    """The exact results as sums of two float64 numbers, for operands of either dtype."""
    row = OPERATIONS[op]
    with np.errstate(all="ignore"):
        high = np.asarray(row.evaluate(*(operand.astype(np.float64) for operand in operands)))
    low = np.zeros_like(high)
    if operands[0].dtype == np.float32:
        return high, low
    regular = np.isfinite(high) & (high != 0)
    for operand in operands:
        regular &= np.isfinite(operand) & (operand != 0)
    for k in np.flatnonzero(regular):
        with mpmath.workprec(160):
            exact = EXACT[op](*(mpmath.mpf(float(operand[k])) for operand in operands))
            high[k] = float(exact)
            low[k] = float(exact - high[k]) if math.isfinite(high[k]) else 0.0
    return high, low


def ulp_error(result: Array, high: Array, low: Array | float = 0.0) -> Array:
    """The errors of float results against exact values high + low, in units in the last place.

    An infinity or NaN where the exact value rounds to it has no error, elsewhere an infinite one.
    """
    info = np.finfo(result.dtype)
    with np.errstate(all="ignore"):
        exponent = np.where(high == 0, info.minexp, np.frexp(high)[1] - 1)
        exponent = np.maximum(exponent, info.minexp)
        difference = np.abs((result.astype(np.float64) - high) - low)
        error = np.ldexp(difference, np.minimum(info.nmant - exponent, 2000))
        rounded = (result == high.astype(result.dtype)) | (np.isnan(result) & np.isnan(high))
        finite = np.where(np.isfinite(error), error, np.inf)
    # At infinity and at overflow the difference says nothing.
    special = rounded & ~(np.isfinite(result) & np.isfinite(high))
    return np.asarray(np.where(special, 0.0, finite))


def points(row: Operation, dtype: str, count: int, seed: int = 0) -> Iterator[tuple[Array, ...]]:
    """Chunks of operands: floats of all magnitudes, evenly by their bits, and uniform samples."""
    random = np.random.default_rng(seed)
    if row.arity == 2:
        yield _pairs(row.name, dtype, count, random)
        return
    yield from every_float(row.name, dtype, max(1, 2 ** (32 if dtype == "f32" else 64) // count))
    for width in WIDTHS:
        uniform = random.uniform(-width, width, count // len(WIDTHS)).astype(DTYPES[dtype])
        yield (uniform[np.abs(uniform) <= LIMITS.get((row.name, dtype), np.inf)],)


def every_float(op: str, dtype: str, stride: int) -> Iterator[tuple[Array]]:
    """Chunks that together hold every stride-th float, by bit patterns, where `op` is accurate."""
    unsigned, end = (np.uint32, 2**32) if dtype == "f32" else (np.uint64, 2**64)
    for start in range(0, end, stride * CHUNK):
        number = -(-min(end - start, stride * CHUNK) // stride)
        patterns = np.arange(number, dtype=np.uint64) * np.uint64(stride) + np.uint64(start)
        x = patterns.astype(unsigned).view(DTYPES[dtype])
        limit = LIMITS.get((op, dtype))
        yield (x if limit is None else x[np.abs(x) <= limit],)


def _pairs(op: str, dtype: str, count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Pairs of operands: powers over the whole range of results, or any angles."""
    largest = 126.0 if dtype == "f32" else 1020.0
    if op == "powf":
        # Bases of all magnitudes, and as many near 1, where the exponents are largest.
        wide = np.exp2(random.uniform(-largest, largest, count // 2))
        x = np.concatenate([wide, random.uniform(0.65, 1.5, count - count // 2)])
        y = random.uniform(-largest, largest, count) / np.log2(x)
    else:
        x = random.standard_normal(count)
        y = x * np.exp(random.uniform(-5.0, 5.0, count)) * random.choice([-1.0, 1.0], count)
    return x.astype(DTYPES[dtype]), y.astype(DTYPES[dtype])


def measure(op: str, dtype: str, chunks: Iterator[tuple[Array, ...]]) -> Measurement:
    """The largest error of an operation over chunks of operands."""
    worst, at, count = 0.0, (math.nan,), 0
    for operands in chunks:
        if not len(operands[0]):
            continue
        result, (high, low) = evaluate(op, *operands), reference(op, *operands)
        count += len(result)
        found = np.flatnonzero(exceeds(worst, result, high)) if dtype == "f32" else slice(None)
        errors = ulp_error(result[found], high[found], low[found])
        if len(errors) and errors.max() >= worst:
            k = int(np.argmax(errors))
            worst, at = float(errors[k]), tuple(float(operand[found][k]) for operand in operands)
    return Measurement(op, dtype, count, worst, at)


def exceeds(units: float, result: Array, exact: Array) -> Array:
    """Where an error may be more than `units`: a quick test, which spares most of `ulp_error`."""
    # A unit in the last place is more than |exact| * epsilon / 2; a NaN compares as false.
    bound = units * float(np.finfo(result.dtype).eps) / 2
    with np.errstate(all="ignore"):
        return ~(np.abs(result - exact) <= np.abs(exact) * bound)


def table(measurements: Sequence[Measurement]) -> str:
    """The measurements as a page of documentation."""
    lines = [
        "# Accuracy",
        "",
        "Largest errors found, in units in the last place (0.5 is the best possible), by",
        "`scripts/measure_ulp.py`, which wrote this page. Points are floats of all magnitudes,",
        "subnormal numbers and infinities included, and uniform samples; sin and cos are measured",
        "for |x| up to 2^20 in float32 and 2^30 in float64; beyond, they are only bounded by 1.",
        "",
        "| function | dtype | allowed | largest error | at | points |",
        "|---|---|---|---|---|---|",
    ]
    for m in measurements:
        row = OPERATIONS[m.op]
        at = ", ".join(f"{x:.9g}" if m.dtype == "f32" else f"{x:.17g}" for x in m.at)
        lines.append(
            f"| {row.spelling} | {m.dtype} | {row.ulp:g} | {m.error:.3f} | {at} | {m.count:,} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit status says whether a function exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", default=list(EXACT), help="functions (default: all)")
    parser.add_argument("--full", action="store_true", help="every float32")
    parser.add_argument("--points", type=int, default=8_000_000, help="float32 points of each kind")
    parser.add_argument("--points64", type=int, default=40_000, help="float64 points of each kind")
    page = Path(__file__).parents[1] / "docs" / "accuracy.md"
    parser.add_argument("--output", default=str(page), help="a file, or - for the terminal")
    options = parser.parse_args(arguments)
    measurements = []
    for op in options.ops:
        for dtype, count in (("f32", options.points), ("f64", options.points64)):
            row = OPERATIONS[op]
            everything = options.full and dtype == "f32" and row.arity == 1
            chunks = every_float(op, dtype, 1) if everything else points(row, dtype, count)
            measurements.append(measure(op, dtype, chunks))
            print(measurements[-1], file=sys.stderr)
    text = table(measurements)
    if options.output == "-":
        print(text, end="")
    else:
        Path(options.output).write_text(text, encoding="utf-8")
    return int(any(m.error > OPERATIONS[m.op].ulp for m in measurements))


if __name__ == "__main__":
    sys.exit(main())
