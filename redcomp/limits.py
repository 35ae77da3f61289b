"""Every limit of what redcomp takes, so that any input ends soon: with a result or with an error.

`docs/formulas.md` lists them with the errors that they give, which tests make.
Limits of memory and time that a machine has (a GPU's parameters and shared memory, the cells of an
array) are where that machine is described.
"""

from __future__ import annotations

from redcomp.errors import SizeError

# -- the text of a formula or an alias -------------------------------------------------------------

MAX_CHARACTERS = 100_000
MAX_TOKENS = 10_000
# Brackets, signs and powers within each other.
MAX_NESTING = 200
# float64's largest number has 309 digits, and Python refuses to read integers of more than 4,300.
MAX_TOKEN_CHARACTERS = 400
# Exact numbers of more bits are rounded to float64, so that arithmetic on them stays cheap.
MAX_BITS = 4096
# Integer literals become attributes, which C and LLVM hold in 32 bits.
MAX_INTEGER = 2**31 - 1

# -- what a formula becomes ------------------------------------------------------------------------

# Up to here float32 holds every position in a vector exactly (ArgMax gives one).
MAX_DIM = 2**24
# The order of a B-spline over many knots.
MAX_ORDER = 5
# Operations on scalars, functions expanded; a loop over components counts once.  LLVM takes some
# seconds for so many.
MAX_OPERATIONS = 30_000
# While a formula is built, vectors of at most so many components count as often as they have some:
# targets may write them out.  Longer ones are loops.
MAX_WRITTEN_OUT = 16
# Values of a program, with leaves and components.  Parts of long vectors that are made of parts of
# others ask for exponentially many.
MAX_VALUES = 60_000
# Sums and lists that are carried from pair to pair.
MAX_STATES = 1200
# Cells of the table that a recurrence fills, and of all tables of a program: they are in memory,
# for each row of a step and for each of a GPU's threads.
MAX_TABLE = 10_000
MAX_CELLS = 100_000
# Lines of an LLVM module; it takes some 0.1 s for a thousand.
MAX_LINES = 150_000
# Operations on scalars per pair, loops included: about a second's work.
MAX_WORK = 2**30
# Numbers of an operation's arguments, result and products, where it is evaluated to see whether it
# is linear.
MAX_EVALUATED = 2**21
# Bytes of memory that each thread needs for vectors of rows and for tiles of columns.
MAX_SCRATCH = 2**29
# Bytes of a GPU's memory for what its blocks cannot keep in registers and shared memory.
MAX_WORKSPACE = 2**32

# -- reductions and calls --------------------------------------------------------------------------

# Formulas of one reduction, aliases, and items of any other list.
MAX_LIST = 1024
# K of KMin and its kin: the lists are in memory that each worker has.
MAX_COUNT = 4096
# Bytes of the array of a LazyTensor, unless a call allows more.
MAX_DENSE = 2**31
# Axes of an argument, those of a batch included: NumPy broadcasts no more.
MAX_AXES = 32

# -- checks ----------------------------------------------------------------------------------------


def check_values(count: int) -> None:
    """Raise SizeError if a program has too many values."""
    _check(count, MAX_VALUES, "values and components")


def check_states(count: int) -> None:
    """Raise SizeError if a nest has too many states."""
    _check(count, MAX_STATES, "sums and lists for each row")


def check_cells(count: int) -> None:
    """Raise SizeError if recurrences fill tables of too many cells."""
    _check(count, MAX_CELLS, "cells of tables for each row")


def check_lines(text: str) -> None:
    """Raise SizeError if a module is too long."""
    _check(text.count("\n"), MAX_LINES, "lines of LLVM")


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise SizeError(
            f"takes {count:,} {what}, of which {most:,} are possible: divide the formula, or its "
            "components, among several reductions"
        )
