"""Measure the errors of the elementary functions and write docs/accuracy.md.

    python scripts/measure_ulp.py                 a sample of all floats, a few minutes
    python scripts/measure_ulp.py --full exp log  besides, all float32 values for some functions
    python scripts/measure_ulp.py exp             replace the lines of some functions, or add them
    python scripts/measure_ulp.py --output - exp  print the table of some functions

A unit in the last place (ULP) is the distance between the floats around the exact result; 0.5 is
the best possible.  The functions are measured as compiled: for this machine and, where that has
AVX-512, for AVX2 too, as some functions have another form there; or for REDCOMP_TARGET.  The
reference is float64 for float32, and mpmath with 160 bits for float64.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mpmath
import numpy as np

from redcomp import config
from redcomp.llvm_backend.host.targets import host_target
from redcomp.numpy import Genred
from redcomp.ops.table import OPERATIONS, Array

DTYPES = {"f32": np.float32, "f64": np.float64}
CHUNK = 1 << 16

# Besides floats of all magnitudes, points are drawn uniformly from (-width, width).
WIDTHS = (1.0, 4.0, 30.0, 110.0, 750.0)

# The functions whose rows say what is exact.
MEASURED = tuple(row.name for row in OPERATIONS.values() if row.exact is not None)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The largest error of an operation on a target over `count` points, and where it is."""

    op: str
    dtype: str
    target: str
    count: int = 0
    error: float = 0.0
    at: tuple[float, ...] = ()


def targets() -> list[str]:
    """The host targets that are measured: REDCOMP_TARGET, or this machine's and what it also runs.

    AVX2 is measured besides AVX-512, because some functions have another form there.
    """
    if config.target():
        return [config.target()]
    native = host_target().name
    return [native, "avx2"] if native == "avx512" else [native]


@contextlib.contextmanager
def compiling_for(target: str) -> Iterator[None]:
    """Within, formulas are compiled for this host target; empty for that of the machine."""
    before = os.environ.get("REDCOMP_TARGET", "")
    os.environ["REDCOMP_TARGET"] = target
    try:
        yield
    finally:
        os.environ["REDCOMP_TARGET"] = before


@functools.cache
def _compiled(op: str, target: str) -> Genred:
    """A formula for each target, because one is fast when called for the same target again."""
    row = OPERATIONS[op]
    names = [f"v{k}" for k in range(row.arity)]
    aliases = [*(f"{name}=Vi(1)" for name in names), "one=Vj(1)"]
    return Genred(f"{row.spelling}({','.join(names)})", aliases, reduction_op="Sum", axis=1)


def evaluate(op: str, *operands: Array, target: str = "") -> Array:
    """The operation applied to arrays of one dimension, compiled: a reduction over one column."""
    one = np.ones((1, 1), operands[0].dtype)
    columns = [operand[:, None] for operand in operands]
    with compiling_for(target):
        return _compiled(op, target)(*columns, one, backend="CPU")[:, 0]


def reference(op: str, *operands: Array) -> tuple[Array, Array]:
    """The exact results as sums of two float64 numbers, for operands of either dtype."""
    row = OPERATIONS[op]
    assert row.exact is not None, f"the row of {op!r} has to say what is `exact`"
    with np.errstate(all="ignore"):
        high = row.value(*(operand.astype(np.float64) for operand in operands))
    if operands[0].dtype == np.float32:
        return high, np.broadcast_to(0.0, high.shape)
    low = np.zeros_like(high)
    regular = np.isfinite(high) & (high != 0)
    for operand in operands:
        regular &= np.isfinite(operand) & (operand != 0)
    for k in np.flatnonzero(regular):
        with mpmath.workprec(160):
            exact = row.exact(mpmath, *(mpmath.mpf(float(operand[k])) for operand in operands))
            high[k] = float(exact)
            low[k] = float(exact - high[k]) if math.isfinite(high[k]) else 0.0
    return high, low


def ulp_error(result: Array, high: Array, low: Array | float = 0.0) -> Array:
    """The errors of float results against exact values high + low, in units in the last place.

    An infinity or NaN where the exact value rounds to it has no error, elsewhere an infinite one.
    Nor has a zero of a host where the exact value is below the normal numbers.
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
    special |= (result == 0) & (np.abs(high) < info.tiny)
    return np.asarray(np.where(special, 0.0, finite))


def points(op: str, dtype: str, count: int, seed: int = 0) -> Iterator[tuple[Array, ...]]:
    """Chunks of operands: floats of all magnitudes, evenly by their bits, and uniform samples."""
    random = np.random.default_rng(seed)
    if OPERATIONS[op].arity == 2:
        yield _pairs(op, dtype, count, random)
        return
    yield from every_float(op, dtype, max(1, 2 ** (32 if dtype == "f32" else 64) // count))
    for width in WIDTHS:
        uniform = random.uniform(-width, width, count // len(WIDTHS)).astype(DTYPES[dtype])
        yield (uniform[np.abs(uniform) <= largest(op, dtype)],)


def every_float(op: str, dtype: str, stride: int) -> Iterator[tuple[Array]]:
    """Chunks that together hold every stride-th float, by bit patterns, where `op` is accurate."""
    unsigned, end = (np.uint32, 2**32) if dtype == "f32" else (np.uint64, 2**64)
    offsets = (np.arange(CHUNK, dtype=np.uint64) * np.uint64(stride)).astype(unsigned)
    for start in range(0, end, stride * CHUNK):
        number = min(CHUNK, -(-(end - start) // stride))
        x = np.add(offsets[:number], unsigned(start)).view(DTYPES[dtype])
        limit = largest(op, dtype)
        yield (x if limit == np.inf else x[np.abs(x) <= limit],)


def largest(op: str, dtype: str) -> float:
    """Up to where an operation is accurate."""
    return OPERATIONS[op].domain.largest.get(dtype, np.inf)


def _pairs(op: str, dtype: str, count: int, random: np.random.Generator) -> tuple[Array, ...]:
    """Pairs of operands, as the operation's row draws them."""
    drawn = OPERATIONS[op].domain.drawn
    assert drawn is not None, f"the domain of {op!r} has to say how pairs are `drawn`"
    return tuple(operand.astype(DTYPES[dtype]) for operand in drawn(random, dtype, count))


def measure(
    op: str, dtype: str, chunks: Iterator[tuple[Array, ...]], on: Sequence[str]
) -> list[Measurement]:
    """The largest error of an operation over chunks of operands, on each of some targets."""
    worst = {target: Measurement(op, dtype, target) for target in on}
    for operands in chunks:
        if not len(operands[0]):
            continue
        exact = reference(op, *operands)
        for target, before in worst.items():
            result = evaluate(op, *operands, target=target)
            worst[target] = _worse(before, operands, result, *exact)
    return list(worst.values())


def _worse(
    before: Measurement, operands: tuple[Array, ...], result: Array, high: Array, low: Array
) -> Measurement:
    """The measurement with some more points."""
    after = replace(before, count=before.count + len(result))
    quick = before.dtype == "f32"
    found = np.flatnonzero(_may_exceed(before.error, result, high)) if quick else slice(None)
    errors = ulp_error(result[found], high[found], low[found])
    if not len(errors) or errors.max() < before.error:
        return after
    k = int(np.argmax(errors))
    at = tuple(float(operand[found][k]) for operand in operands)
    return replace(after, error=float(errors[k]), at=at)


def _may_exceed(units: float, result: Array, exact: Array) -> Array:
    """Where an error may be more than `units`: a quick test, which spares most of `ulp_error`."""
    # A unit in the last place is more than |exact| * epsilon / 2; a NaN compares as false.
    bound = units * float(np.finfo(result.dtype).eps) / 2
    with np.errstate(all="ignore"):
        return np.asarray(~(np.abs(result - exact) <= np.abs(exact) * bound))


PAGE = """\
# Accuracy

The largest errors that were found, in units in the last place (0.5 is the best possible). This page
was written by

{commands}

The points are floats of all magnitudes, with subnormal numbers and infinities, and uniform samples.
A function with {every:,} points was measured at every float32. sin, cos and sin(x) / x are measured
for |x| up to 2^20 in float32 and 2^30 in float64; for larger |x|, sin and cos are between -1 and 1,
and may have no correct digit. Matern32 and Matern52 are measured for x up to 64.

The functions are measured as they are compiled for the targets in the table. AVX-512 has
instructions for lookups in a register and for estimates of roots, so avx512 has other forms of:
{variants}. The limits assume fused multiply-adds; the target sse2 does not have them and emulates
them, and `tests/test_accuracy.py` checks it with the same limits. On GPUs with fast math the errors
are larger: see [fast math](fast-math.md).

"""


AFTER = """
## Quotients and square roots

They are not in the table, because they are the floats nearest to the exact results, as IEEE 754
asks, but for these:

- **A quotient by what is not of the pair** (a number, a parameter, a value of the row or of the
  column) is computed from the inverse of the divisor, except on sse2. It is the nearest float too,
  unless the exact quotient is within 2^-21 of a unit in the last place (float64: 2^-50) from the
  middle between two floats, where it may be the other one of them. A quotient that is a float is
  exact. Below 2^-102 (2^-969) the error is up to 2.5 units; on x86, quotients below 2^-125
  (2^-1021) can be 0.
- **A square root on AVX-512** is refined from an estimate and is the nearest float; of numbers
  below 2^-102 (2^-969) it errs by up to 1.1 (2.5) units. In float64 this is proved for all
  significands but 10, which were tried with many estimates (`scripts/prove_roots.py`).

## Below the normal numbers

Numbers below the smallest normal one (1.2e-38 in float32, 2.2e-308 in float64) are called
subnormal. x86 processors take more than a hundred cycles for each vector in which one comes up, and
kernels whose exponentials vanish are full of them. So, on them:

- **A result below the smallest normal number is 0**, with its sign. Each operation of a formula has
  a result: `Exp(-90) * 1e10` is 0 in float32. A sum of n such terms is wrong by less than n times
  the smallest normal number. In the table above, 0 counts as right there. XLA and TensorFlow do the
  same.
- **Arguments are taken as they are**, subnormal ones too: `Log(x)` is -92.1 for x = 1e-40, not
  infinite.
- Numbers of half precision are not concerned: their subnormal numbers are normal in float32.

ARM processors keep subnormal results, and so do GPUs without [fast math](fast-math.md).

How a program lets its threads round and flush (`torch.set_flush_denormal`, C's `fesetround`) does
not change results on a host, and calls leave it as it is.
"""

COMMAND = "    python scripts/measure_ulp.py"


def page(measurements: Sequence[Measurement], arguments: Sequence[str], before: str) -> str:
    """The measurements as a page of documentation.

    before  the page that they are to be part of, where they are not of all functions
    """
    on = list(dict.fromkeys(m.target for m in measurements))
    variants = ", ".join(row.spelling for row in OPERATIONS.values() if row.variants)
    head = [
        f"| function | dtype | allowed | {' | at | '.join(on)} | at | points |",
        "|---|---|---|" + "---|---|" * len(on) + "---|",
    ]
    if before and head[0] not in before:
        raise SystemExit("the page is of other targets: measure all functions, or use --output -")
    commands = [line for line in before.splitlines() if line.startswith(COMMAND)]
    lines = {name: line for line in before.splitlines() if (name := _function_of(line)) in _ORDER}
    for line in _lines(measurements, on):
        lines[_function_of(line)] = line
    text = PAGE.format(
        commands="\n".join([*commands, " ".join([COMMAND, *arguments])]),
        every=2**32,
        variants=variants,
    )
    table = "\n".join([*head, *(lines[name] for name in _ORDER if name in lines)])
    return f"{text}{table}\n{AFTER}"


_ORDER = tuple((OPERATIONS[op].spelling, dtype) for op in MEASURED for dtype in DTYPES)


def _function_of(line: str) -> tuple[str, ...]:
    """The name of the function and the dtype that a line of the table is about."""
    return tuple(cell.strip() for cell in line.split("|")[1:3])


def _lines(measurements: Sequence[Measurement], on: Sequence[str]) -> Iterator[str]:
    for k in range(0, len(measurements), len(on)):
        first = measurements[k]
        row = OPERATIONS[first.op]
        cells = [row.spelling, first.dtype, f"{row.ulp:g}"]
        for m in measurements[k : k + len(on)]:
            cells += [f"{m.error:.3f}", _listed(m)]
        yield f"| {' | '.join(cells)} | {first.count:,} |"


def _listed(m: Measurement) -> str:
    return ", ".join(f"{x:.9g}" if m.dtype == "f32" else f"{x:.17g}" for x in m.at)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit status says whether a function exceeds its limit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", default=list(MEASURED), help="functions (default: all)")
    parser.add_argument(
        "--full", nargs="+", default=[], metavar="OP", help="functions measured at every float32"
    )
    parser.add_argument("--points", type=int, default=8_000_000, help="float32 points of each kind")
    parser.add_argument("--points64", type=int, default=40_000, help="float64 points of each kind")
    file = Path(__file__).parents[1] / "docs" / "accuracy.md"
    parser.add_argument("--output", default=str(file), help="a file, or - for the terminal")
    options = parser.parse_args(arguments)
    measurements = []
    for op in options.ops:
        for dtype, count in (("f32", options.points), ("f64", options.points64)):
            everything = op in options.full and dtype == "f32"
            chunks = every_float(op, dtype, 1) if everything else points(op, dtype, count)
            measurements += measure(op, dtype, chunks, targets())
            print(*measurements[-len(targets()) :], sep="\n", file=sys.stderr, flush=True)
    is_part = options.output == str(file) and set(options.ops) != set(MEASURED)
    text = page(measurements, arguments, file.read_text(encoding="utf-8") if is_part else "")
    if options.output == "-":
        print(text, end="")
    else:
        path = Path(options.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return int(any(m.error > OPERATIONS[m.op].ulp for m in measurements))


if __name__ == "__main__":
    sys.exit(main())
