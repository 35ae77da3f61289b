"""Schedules: how a nest of loops is laid out on a host.  Data: printed, and overridable."""

from __future__ import annotations

from collections.abc import Container, Sequence

from redcomp.ir import (
    I_BIT,
    J_BIT,
    KIND_BITS,
    SIZES,
    STRUCTURAL,
    Carried,
    Kind,
    Nest,
    Value,
    read_in_loops,
    topological,
)
from redcomp.passes.partition import independent
from redcomp.records import record
from redcomp.target import Context

# What a thread works on at a time should fit into the second-level cache with the tile of columns.
_CHUNK_BYTES = 256 * 1024
_TILE_BYTES = 64 * 1024
_LEAST_TILE = 32
# States in memory are started and merged for each tile, and columns are packed for each chunk: both
# take long if a record has thousands of components.  Then this is what they should be, within
# memory that still is fast if it is read in order.
_WIDE_TILE = 128
_WIDE_TILE_BYTES = 1024 * 1024
_WIDE_CHUNK = 16
_WIDE_CHUNK_BYTES = 4 * 1024 * 1024


@record
class Schedule:
    """Layout of the loops.

    lanes    rows i in a vector
    rows     vectors of rows that a step of the pair loop holds in registers
    cols     columns j that a step holds
    tile     columns prepared at a time; partial sums are merged into totals after each
    chunk    vectors of rows that a task holds, at most; a multiple of `rows`
    pending  pairs that are kept for each lane before the states are adjusted; 0: none
    """

    lanes: int
    rows: int
    cols: int
    tile: int
    chunk: int
    pending: int = 0

    def __str__(self) -> str:
        pending = f", adjusted after {self.pending} pairs" if self.pending else ""
        return (
            f"{self.lanes} lanes, a step of {self.rows} x {self.cols} (vectors of rows x columns), "
            f"tiles of {self.tile} columns, at most {self.chunk} vectors of rows per task{pending}"
        )


# Blocks of rows x columns, best first, measured on an AVX-512 machine (benchmarks/schedules.py).
# With a loop over components, a block is to reuse what it loads; otherwise, to hide latencies.
_Blocks = tuple[tuple[int, int], ...]
_LOOP_BLOCKS: _Blocks = ((5, 4), (4, 3), (3, 3), (3, 2), (2, 2), (2, 1), (1, 1))
_BLOCKS: _Blocks = ((4, 2), (1, 2), (1, 1))
# With 16 registers (measured on AVX2): constants and pairs' values take turns in them.
_BLOCKS_OF_FEW_REGISTERS: _Blocks = ((3, 2), (1, 2), (1, 1))
_LOOP_BLOCKS_OF_A_ROW: _Blocks = ((1, 8), (1, 4), (1, 1))
_BLOCKS_OF_A_ROW: _Blocks = ((1, 4), (1, 2), (1, 1))
# A result that is a long vector lives in memory.  In a step's loop over components, rows share what
# is loaded of columns; where that is free (AVX-512 repeats an operand from memory), more columns
# mean fewer passes over the states.
_WIDE_BLOCKS_OF_A_ROW: _Blocks = ((1, 8), (1, 4), (1, 2), (1, 1))
_WIDE_BLOCKS: _Blocks = ((3, 4), (2, 4), (2, 2), *_WIDE_BLOCKS_OF_A_ROW)
# The first of these blocks has no registers for what precedes the loop, which must be longer.
_SHORT_WIDE = 32
# Where the states are rarely adjusted, branches keep the pairs apart: the first row is for states
# that are stepped too, the second for those that only change then.
_ADJUSTED_BLOCKS: _Blocks = ((1, 2), (1, 1))
_LIST_BLOCKS: _Blocks = ((1, 4), (1, 1))
# The components of a scan are in memory, for one column; cells wait for those before them, so that
# several rows hide latencies.
_SCAN_BLOCKS: _Blocks = ((4, 1), (2, 1), (1, 1))
# How many pairs a lane keeps: enough that the lanes are about equally full when one is full.
_PENDING = 32

# States of one pair loop, by weight: in registers, in memory, and those that are rarely adjusted.
_MOST_WEIGHT = 64
_WEIGHT_IN_MEMORY = 4
_WEIGHT_ADJUSTED = 4
# With more pair loops than this, a step is one pair: what it compiles to is several times shorter.
_MOST_LONG_LOOPS = 8

# LLVM's time grows faster than a loop's body, which is limited to this many operations.
_LONGEST_BODY = 2000
# Those of scans are several loops, one after the other.
_LONGEST_SCANS = 4000


def loops_of(nest: Nest) -> tuple[Nest, ...]:
    """The nests of the pair loops: one, unless its states are far more than there are registers.

    Where one loop adjusts many lists, it adjusts all of them for each pair that concerns one.
    """

    def weight(n: int) -> int:
        state = nest.states[n]
        in_memory = _WEIGHT_IN_MEMORY if state.variable.dim > 1 else 1
        return in_memory * (1 if state.adjust is state.variable else _WEIGHT_ADJUSTED)

    return independent(nest, _MOST_WEIGHT, weight)


def choose_schedule(nest: Nest, context: Context) -> Schedule:
    """The schedule for a nest: from the counts of its values, nothing measured."""
    loops = loops_of(nest)
    rows, cols = (1, 1)
    if len(loops) <= _MOST_LONG_LOOPS:
        blocks = [_block(loop, context) for loop in loops]
        rows, cols = map(min, zip(*blocks, strict=True))
    lanes = context.target.lanes(nest.dtype)
    totals = sum(state.total.dim for state in nest.states)
    row_bytes = lanes * (_width(nest, "i") * SIZES[nest.dtype] + totals * 8)
    chunk = max(1, _CHUNK_BYTES // max(1, row_bytes))
    if _wide_states(nest):
        chunk = max(chunk, min(_WIDE_CHUNK, _WIDE_CHUNK_BYTES // row_bytes))
    chunk = max(rows, chunk - chunk % rows)
    pending = _PENDING if any(map(pending_entries, loops)) else 0
    tile = _tile(nest, rows * lanes)
    return Schedule(lanes, rows, cols, tile, chunk, pending)


@record
class Considered:
    """A block of rows x columns that a step of the pair loop could hold.

    It fits if it needs no more than there is of `what`, such as registers.
    """

    rows: int
    cols: int
    what: str
    needs: int
    limit: int

    @property
    def fits(self) -> bool:
        return self.needs <= self.limit


def considered(nest: Nest, context: Context) -> list[Considered]:
    """The blocks for a pair loop, best first: the first one that fits is taken, or the last one."""
    values = nest.pair_values
    operations = sum(value.op not in STRUCTURAL for value in values)
    folds = [v for v in values if v.op == "fold" and v.dependence == I_BIT | J_BIT]
    held, shared = _kept_for(folds, context.target.registers)
    scans = any(value.op == "scan" for value in values)
    stepped = [state for state in nest.states if state.step is not state.variable]
    registers = context.target.registers
    wide = _wide_states(nest)
    per_pair = _kept_for_components(wide)

    def of(block: tuple[int, int]) -> Considered:
        rows, cols = block
        if scans:  # most of the work: that states do not stay in registers costs little
            return Considered(rows, cols, "operations", rows * operations, _LONGEST_SCANS)
        if rows * cols * operations > _LONGEST_BODY:
            return Considered(rows, cols, "operations", rows * cols * operations, _LONGEST_BODY)
        needs = 0
        if folds:
            needs = rows * cols * (len(folds) + held) + rows + 3 + shared
        if wide and rows > 1:  # values of one row's pairs may stay in memory
            needs = max(needs, rows * cols * per_pair + rows * len(wide))
        if needs:
            return Considered(rows, cols, "registers", needs, registers - 1)
        # Constants and temporaries take about two thirds; inputs can stay in memory.
        most = registers * 3 // 8 - 1
        return Considered(rows, cols, "registers for states", rows * len(stepped), most)

    return [of(block) for block in _blocks(nest, context, bool(folds), scans, bool(stepped))]


def _kept_for(folds: Sequence[Value], registers: int) -> tuple[int, int]:
    """Registers that loops over components need besides their sums: for each pair, and for all.

    Where they load components of rows or columns, that is what takes the time, and the arithmetic
    finds what it needs.  Constants that are more than there are registers are in memory, and
    several pairs share their loads.
    """
    bodies = [fold.args[1] for fold in folds]
    if any(v.op == "component" and v.args[1:] and v.dependence for v in topological(bodies)):
        return 0, 0
    outside = read_in_loops(bodies)
    of_pairs = sum(v.dependence == I_BIT | J_BIT for v in outside)
    constants = sum(v.is_constant for v in outside)
    # A pair has a temporary value too.
    return of_pairs + 1, constants if constants < registers else 0


def _wide_states(nest: Nest) -> list[Carried]:
    """The states that are vectors in memory, which each pair steps in a loop over components."""
    return [state for state in nest.states if state.step.op == "map"]


def _kept_for_components(states: Sequence[Carried]) -> int:
    """Registers that a step's loop over components needs for each pair, besides its states."""
    outside = read_in_loops([state.step.args[0] for state in states])
    of_pairs = sum(v.dependence == I_BIT | J_BIT and v.op != "variable" for v in outside)
    # Where constants are read, there is arithmetic with temporary values.
    return of_pairs + 2 * any(v.is_constant for v in outside)


def _blocks(
    nest: Nest, context: Context, has_folds: bool, has_scans: bool, is_stepped: bool
) -> _Blocks:
    """The blocks that suit a nest, best first."""
    if has_scans:
        return _SCAN_BLOCKS[-1:] if context.height == "few" else _SCAN_BLOCKS
    if not is_stepped:
        return _LIST_BLOCKS
    if wide := _wide_states(nest):
        alone = context.height == "few" or context.target.embeds_broadcasts
        if alone:
            return _WIDE_BLOCKS_OF_A_ROW
        longest = max(state.variable.dim for state in wide)
        return _WIDE_BLOCKS if longest > _SHORT_WIDE else _WIDE_BLOCKS[1:]
    if has_folds:
        return _LOOP_BLOCKS_OF_A_ROW if context.height == "few" else _LOOP_BLOCKS
    if nest.guards:
        return _ADJUSTED_BLOCKS
    if context.height == "few":
        return _BLOCKS_OF_A_ROW
    return _BLOCKS_OF_FEW_REGISTERS if context.target.registers < 32 else _BLOCKS


def _block(nest: Nest, context: Context) -> tuple[int, int]:
    """Rows and columns of a step of a pair loop."""
    found = considered(nest, context)
    taken = next((block for block in found if block.fits), found[-1])
    return taken.rows, taken.cols


def pending_entries(nest: Nest) -> list[Value]:
    """What adjustments read of a pair, if that and vectors of states are all that they read.

    Then they can wait.  Truth values are made again from what they compare, and so is what follows
    from the other entries.
    """
    states = {state.variable for state in nest.states}
    if any(s.adjust.op != "map" or s.step is not s.variable for s in nest.states):
        return []
    elements = [state.adjust.args[0] for state in nest.states]
    waiting, found = read_in_loops(elements), dict[Value, None]()
    while waiting:
        value = waiting.pop()
        if value.dtype == "i1":
            waiting += value.args
        elif not value.is_constant and value not in states:
            found[value] = None
    return [value for value in found if not _is_made_from(value, found)]


def _is_made_from(value: Value, found: Container[Value]) -> bool:
    """Whether a value follows from others that have been found, by truth values at most."""
    return bool(value.args) and all(
        arg.is_constant or arg in found or (arg.dtype == "i1" and _is_made_from(arg, found))
        for arg in value.args
    )


def _tile(nest: Nest, block_rows: int) -> int:
    """Columns a tile: enough to amortise a tile's start, few enough to stay in the cache.

    The start is nothing beside scans, and calls are stopped between two tiles.
    """
    if any(value.op == "scan" for value in nest.pair_values):
        return _LEAST_TILE
    components = _width(nest, "j") + block_rows * (_width(nest, "ij") + _width(nest, "ji"))
    a_column = max(1, components) * SIZES[nest.dtype]
    columns = _TILE_BYTES // a_column
    if _wide_states(nest):
        columns = max(columns, min(_WIDE_TILE, _WIDE_TILE_BYTES // a_column))
    return max(_LEAST_TILE, min(256, columns - columns % _LEAST_TILE))


def _width(nest: Nest, kind: Kind) -> int:
    """Components of one record of the inputs of a kind."""
    bits = KIND_BITS[kind]
    seen = (v for v in nest.values if v.op == "variable")
    return sum(v.dim for v in seen if v["kind"] == kind and v.dependence == bits)
