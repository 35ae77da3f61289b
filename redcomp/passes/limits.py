"""How much is compiled: what is beyond is refused before LLVM would take minutes over it.

The limits count what formulas have become, not what is written: a vector of 300 components of which
the 200 nearest columns are wanted is within them, one of 1,000 is not.
"""

from __future__ import annotations

from collections.abc import Collection

from redcomp.errors import SizeError
from redcomp.ir import Nest
from redcomp.passes.expand import measure
from redcomp.passes.partition import partition

# Values of a program, with short vectors and lists written out.
MOST_VALUES = 60_000
# Sums and lists that are carried from pair to pair.
MOST_STATES = 1200
# Lines of an LLVM module; it takes some 0.1 s for a thousand.
MOST_LINES = 150_000

# Where a kernel has one nest, its pair loops together are kept below this many operations, which
# are compiled in about a second; where it has several, the body of each is kept below so many
# values, since assemblers' time grows faster than a body.
_LONGEST_LOOPS = 20_000
_LONGEST_BODY = 1500
# Loops inside of loops compute what they share anew, as in a network's layers.  Above so many times
# the necessary operations, writing the vectors out is faster (benchmarks/schedules.py).
_MOST_REPETITIONS = 2.5


def is_short(nest: Nest, most: int, primitives: Collection[str]) -> bool:
    """Whether what is written out is short enough, and loops repeat little.

    most        states of each of the parts that the nest will be divided into; 0: it will not
    primitives  what is left when the nest is expanded
    """
    if not most:
        size = measure(nest.pair_values, primitives)
        repeats = size.done > _MOST_REPETITIONS * size.needed
        return not repeats and size.written <= _LONGEST_LOOPS and len(nest.states) <= MOST_STATES
    parts = partition(nest, most)
    return all(part.carried <= most and _length(part.nest) <= _LONGEST_BODY for part in parts)


def _length(nest: Nest) -> int:
    return len(nest.pair_values)


def check_values(count: int) -> None:
    """Raise SizeError if a program has too many values."""
    _check(count, MOST_VALUES, "operations")


def check_states(count: int) -> None:
    """Raise SizeError if a nest has too many states."""
    _check(count, MOST_STATES, "sums and lists for each row")


def check_lines(text: str) -> None:
    """Raise SizeError if a module is too long."""
    _check(text.count("\n"), MOST_LINES, "instructions")


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise SizeError(
            f"the formulas take {count:,} {what}, of which {most:,} are possible: divide them, or "
            "their components, among several reductions"
        )
