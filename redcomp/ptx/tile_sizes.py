"""How many columns a tile has: as many as fit into shared memory, and no more than pay."""

from __future__ import annotations

from redcomp.ir import SIZES, Nest
from redcomp.ptx.multiprocessor import multiprocessor
from redcomp.ptx.slices import Slice, matrices, prepared, slices
from redcomp.target import Context

THREADS = 128  # of a block, if rows do not have to fit closely
MOST_COLUMNS = 256
_LEAST_COLUMNS = 32
# Two buffers of a tile and what is staged for it: several blocks are to fit beside each other, and
# more than 48 KiB would have to be asked for at run time.
SHARED_BYTES = 32 * 1024
# Of blocks whose registers leave room for few of them anyway.
_WIDE_SHARED_BYTES = 48 * 1024
# Components of a record at most that keep vectors aligned, and threads out of each other's banks.
_PADDING = 8
# Where members of a team have few columns each of a tile, it is larger.
_TEAM_COLUMNS = 1024
# Bytes of two buffers and what is staged, of a multiprocessor that holds at least so many blocks;
# and if fewer columns fit than a team may have members.  Besides, blocks exchange totals.
_TEAM_SHARED = ((24 * 1024, 4), (40 * 1024, 2))
_EXCHANGED_BYTES = 5 * 1024
OF_COLUMNS = ("j", "j_index", "column")


def components(nest: Nest, *kinds: str) -> int:
    """Scalars of these kinds that a step reads from shared memory."""
    return sum(part.count for part in slices(nest.pair_values, *kinds) if part.is_short)


def columns_of_tile(nest: Nest, threads: int) -> int:
    """Columns a tile: enough to amortise a tile's start, few enough to fit into shared memory.

    Smaller blocks have smaller tiles, so that as many threads fit.
    """
    definitions = prepared(nest)
    for_pairs = {part.variable for part in slices(nest.pair_values, *OF_COLUMNS)}
    read = [p for p in slices((*nest.pairs, *definitions), *OF_COLUMNS) if p.is_short]
    made = {h.variable for h in nest.columns}
    staged = sum(p.count for p in read if p.variable not in made)
    kept = _PADDING + sum(matrix.width for matrix in matrices(nest))
    kept += sum(p.count for p in read if p.variable in for_pairs)
    words = 2 * kept + staged
    size = words * SIZES[nest.dtype]
    most = _WIDE_SHARED_BYTES if nest.updates else SHARED_BYTES
    least = min(_LEAST_COLUMNS, most // size)
    columns = min(MOST_COLUMNS, max(least, most * threads // THREADS // size))
    return columns - columns % 8 or max(1, columns)


def copied_slices(nest: Nest) -> list[Slice]:
    """What is copied into tiles of the arguments of columns."""
    made = {h.variable for h in nest.columns}
    read = slices((*nest.pairs, *prepared(nest)), "j")
    return [part for part in read if part.is_short and part.variable not in made]


def columns_of_teams(nest: Nest, context: Context) -> int:
    """Columns of a tile, the records of which are an odd number of vectors of 16 bytes each."""
    size = SIZES[nest.dtype]
    staged = sum(part.count for part in copied_slices(nest))
    kept = components(nest, *OF_COLUMNS)
    vectors = -(-kept * size // 16) | 1
    column = 2 * 16 * vectors + staged * size
    held = multiprocessor(context.target.name).shared
    few, more = (
        max(1, min(most, held // blocks - _EXCHANGED_BYTES) // column)
        for most, blocks in _TEAM_SHARED
    )
    columns = few if few >= THREADS else max(few, min(THREADS, more))
    return min(_TEAM_COLUMNS, columns - columns % 8 or columns)
