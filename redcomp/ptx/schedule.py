"""Schedules: how a nest of loops is laid out on a GPU.  Data: printed, and overridable."""

from __future__ import annotations

from dataclasses import dataclass

from redcomp.ir import I_BIT, J_BIT, Nest, Value, topological
from redcomp.llvm_backend.layout import variables_of
from redcomp.llvm_backend.schedule import SIZES
from redcomp.llvm_backend.target import Target
from redcomp.passes.expand import STRUCTURAL


@dataclass(frozen=True, slots=True)
class PtxSchedule:
    """Layout of the loops.

    threads  of a block
    rows     rows i that a thread holds in registers
    cols     columns j of a step of the pair loop
    tile     columns that a block prepares in shared memory at a time; partial sums are merged into
             totals after each
    """

    threads: int
    rows: int
    cols: int
    tile: int

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return self.threads * self.rows

    def __str__(self) -> str:
        return (
            f"{self.threads} threads of {self.rows} rows a block, {self.cols} columns a step, "
            f"tiles of {self.tile} columns in shared memory, twice"
        )


THREADS = 128
MOST_COLUMNS = 256
# Two buffers of a tile and what is staged for it: several blocks are to fit beside each other, and
# more than 48 KiB would have to be asked for at run time.
SHARED_BYTES = 32 * 1024
# Longer vectors stay in global memory, where all threads read the same element at a time.
LONGEST_IN_TILE = 64

# Blocks of rows x columns, best first.  One shared load serves all rows of a thread, and one end of
# the loop all columns of a step.
_Blocks = tuple[tuple[int, int], ...]
_BLOCKS: _Blocks = ((4, 8), (4, 4), (2, 8), (2, 4), (2, 2), (2, 1), (1, 4), (1, 2), (1, 1))
# A result that is a long vector lives in memory; more columns a step mean fewer passes over it.
_VECTOR_STATE_BLOCKS: _Blocks = ((1, 8), (1, 4), (1, 1))
# Where the states are rarely adjusted, branches keep the pairs apart.
_ADJUSTED_BLOCKS: _Blocks = ((2, 4), (1, 4), (1, 2), (1, 1))

# Of the 255 registers that a thread can have, those that rows, states and columns may take; and
# with which most blocks of a few rows still leave a multiprocessor well filled.
_MOST_REGISTERS = 150
# The assembler's time grows faster than a loop's body, which is limited to this many operations.
_LONGEST_BODY = 1200


def choose_schedule(nest: Nest, dtype: str, target: Target, few_rows: bool = False) -> PtxSchedule:
    """The schedule for a nest: from the counts of its values, nothing measured."""
    values = list(topological(nest.pairs))
    operations = sum(value.op not in STRUCTURAL for value in values)
    folds = sum(v.op == "fold" and v.dependence == I_BIT | J_BIT for v in values)
    words = SIZES[dtype] // 4
    scalars = sum(state.dim == 1 for state in nest.states)
    of_row = words * (scalars + _components(nest, "i", "i_index"))
    of_column = words * _components(nest, "j", "j_index", "column")

    def fits(block: tuple[int, int]) -> bool:
        rows, cols = block
        registers = rows * of_row + min(cols, 2) * of_column + rows * cols * folds * words
        is_short = rows * cols * operations <= _LONGEST_BODY
        return is_short and registers <= _MOST_REGISTERS

    if any(state.dim > 1 for state in nest.states):
        blocks = _VECTOR_STATE_BLOCKS
    elif nest.guards:
        blocks = _ADJUSTED_BLOCKS
    else:
        blocks = _BLOCKS
    if few_rows:
        blocks = tuple((rows, cols) for rows, cols in blocks if rows == 1)
    rows, cols = next(filter(fits, blocks), (1, 1))
    return PtxSchedule(THREADS, rows, cols, _tile(nest, dtype, cols))


def _components(nest: Nest, *kinds: str) -> int:
    """Scalars of these kinds that a step reads from registers or shared memory."""
    found = variables_of(nest.pairs, *kinds)
    return sum(v.dim for v in found if is_short(v))


def is_short(variable: Value) -> bool:
    """Whether a variable is kept close to the arithmetic, and not read from global memory."""
    return variable.dim * SIZES[variable.dtype] <= LONGEST_IN_TILE * 4


def _tile(nest: Nest, dtype: str, cols: int) -> int:
    """Columns a tile: enough to amortise a tile's start, few enough to fit into shared memory."""
    definitions = [h.definition for h in nest.columns]
    read = [*variables_of(nest.pairs, "j", "j_index", "column"), *variables_of(definitions, "j")]
    short = {id(v): v.dim for v in read if is_short(v)}
    a_column = 2 * SIZES[dtype] * max(4, sum(short.values()) + 3)
    columns = min(MOST_COLUMNS, SHARED_BYTES // a_column)
    return max(8, columns - columns % 8)
