"""Schedules: how a nest of loops is laid out on a GPU.  Data: printed, and overridable."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator

from redcomp.ir import (
    I_BIT,
    J_BIT,
    SIZES,
    STRUCTURAL,
    Nest,
    Part,
    Partition,
    Value,
    factors_of,
    free_indices,
    leaves_of,
    topological,
)
from redcomp.llvm_backend.records import scans_of
from redcomp.passes.divide import most_updated
from redcomp.passes.partition import partitioned
from redcomp.ptx.mma import MEMBERS, PRODUCTS
from redcomp.ptx.multiprocessor import (
    ALU,
    ISSUE,
    LSU,
    REGISTERS,
    WARP,
    multiprocessor,
)
from redcomp.ptx.slices import chunks, prepared, slices
from redcomp.ptx.tile_sizes import (
    MOST_COLUMNS,
    OF_COLUMNS,
    THREADS,
    columns_of_teams,
    columns_of_tile,
    components,
    copied_slices,
)
from redcomp.ptx.work import of_matrices, pipe_of
from redcomp.records import record
from redcomp.target import Context


@record
class PtxSchedule:
    """Layout of the loops.

    threads  of a block
    rows     rows i that a thread holds in registers
    cols     columns j of a step of the pair loop
    tile     columns that a block prepares in shared memory at a time; partial sums are merged into
             totals after each
    resident blocks that a multiprocessor is to hold at least: it limits a thread's registers
    sharing  neighbouring threads that have the same rows, each of them other columns: 1, or as many
             as hold a row of a product of matrices (`redcomp.ptx.mma`)
    teams    whether tasks of few rows divide all threads among these (`redcomp.ptx.teams`), so that
             a block has at most so many rows
    span     tiles after which partial sums are merged, where that costs much: their columns are as
             many as those of a large tile
    """

    threads: int
    rows: int
    cols: int
    tile: int
    resident: int = 2
    sharing: int = 1
    span: int = 1
    teams: bool = False

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return self.threads * self.rows // self.sharing

    @property
    def row_stride(self) -> int:
        """How far a thread's rows are from each other."""
        if self.teams:
            return 1
        return self.threads if self.sharing == 1 else WARP // self.sharing

    @property
    def step_columns(self) -> int:
        """Columns of a step of all threads that share rows."""
        return self.cols * self.sharing

    @property
    def run(self) -> int:
        """Neighbouring columns of a step that a thread has."""
        if self.teams:
            return 1
        return self.cols if self.sharing == 1 else 2

    def __str__(self) -> str:
        of_row = f", {self.sharing} threads per row" if self.sharing > 1 else ""
        of_row = ", all threads whatever the rows" if self.teams else of_row
        return (
            f"{self.threads} threads of {self.rows} rows a block, {self.cols} columns a "
            f"step{of_row}, "
            f"tiles of {self.tile} columns in shared memory, twice; at least {self.resident} "
            "blocks a multiprocessor"
        )


@record
class PlannedPart:
    """A part of a nest, the layout of its loops, and what a pair of each thread of a warp costs.

    These are estimates, in clocks of a multiprocessor that is full: `of_pair` for the rows, and
    `filling` to fill in a column.
    """

    part: Part
    schedule: PtxSchedule
    of_pair: float
    filling: float

    @property
    def clocks(self) -> float:
        """What a column costs a block for its rows."""
        return self.of_pair * self.schedule.block_rows / WARP


# One shared load serves all rows of a thread, and one end of the loop all columns of a step.
ROWS = (4, 2, 1)
COLUMNS = (8, 4, 2, 1)
# Where accumulators of loops over components wait for each other.
COLUMNS_OF_FOLDS = (16, 8, 4, 2, 1)

# The assembler's time grows faster than a loop's body, which is limited to this many operations;
# and adjustments of states, which are rare, are written for each pair of a step.
_LONGEST_BODY = 1200
_LONGEST_ADJUSTMENT = 400

# Of 255 registers: what addresses, counters and temporaries take, and components of columns that
# have been loaded: those that are used at once, and those that wait for the rest of a pair's value.
# States that others are adjusted by are there more than once.  Values that are the same for all
# rows need no register of a thread while they are few; in pairs, registers cannot all be used.
_OVERHEAD = 24
_TEAM_OVERHEAD = 8  # besides, of the thread's place in its team
_EARLY_COLUMNS = 48
_LATE_COLUMNS = 96
_COPIES_OF_ADJUSTED = 1.5
_UNIFORM_REGISTERS = {"f32": 60, "f64": 24}
_MOST_REGISTERS = {"f32": 216, "f64": 208}
# How far the assembler's count may be from ours, all uniform values included.  Told to fit fewer
# blocks than it would choose by itself, it does not spill registers to fit more.
_TOLERANCE = {"f32": 1.4, "f64": 2.0}
_LEAST_RESIDENT, _MOST_RESIDENT = 2, 4
# Registers of the fragments of rows that leave room for a third block of a multiprocessor, and
# products of matrices that a warp computes at a time for each block of rows: sums that do not wait
# for each other.
_MOST_FRAGMENTS = 64
# Of fragments and of sums together, with two blocks of rows, and with a third block of threads.
# Factors of columns that are not divided leave room for more.
_MOST_SUMS, _MOST_SUMS_OF_SHORT, _FEW_SUMS = 80, 96, 48
_TILES_OF_PRODUCT = 2
# Where vectors come in chunks: columns of a tile, whose products are in registers; and sums that
# leave room for two blocks of rows, and where states are adjusted.
_CHUNKED_COLUMNS = 64
_MOST_SUMS_OF_CHUNKED, _FEW_SUMS_OF_CHUNKED = 40, 0

_LOOP_END = 4
# On this GPU schedules of float32 have been measured; they are the same on all.
MEASURED = "sm_90"


@record
class Figures:
    """Of the model of costs, what no manual says: `scripts/fit_schedules.py` fits it.

    interference  part of its time that a pipe which does not limit the rate adds to it
    warps         of a multiprocessor that hide most latencies, with several pairs in each
    slower        how much slower pairs are, by extrapolation, where there is none of them
    """

    interference: float = 0.2
    warps: float = 16
    slower: float = 0.5


FIGURES = Figures()


@record
class Plan:
    """A partition into parts of at most so many states, and the parts with their schedules."""

    most: int
    partition: Partition
    parts: tuple[PlannedPart, ...]


def choose_plan(nest: Nest, context: Context, given: PtxSchedule | None) -> Plan:
    """The cheapest plan for a nest: from counts of values, nothing measured.

    More states in a part repeat less of what parts have in common, fewer leave registers for more
    rows.
    """

    counts = context.target.carried[nest.dtype]
    if nest.updates:
        counts = (most_updated(nest, context.target.update_limits),)
    choices = [(most, partitioned(nest, most)) for most in counts]
    by_count = {len(partition.parts): (most, partition) for most, partition in choices}
    plans = [Plan(most, made, planned(made, context, given)) for most, made in by_count.values()]
    return min(plans, key=lambda plan: sum(planned.of_pair for planned in plan.parts))


def planned(
    partition: Partition, context: Context, given: PtxSchedule | None
) -> tuple[PlannedPart, ...]:
    """The parts of a nest and their schedules."""
    return tuple(_planned(part, context, given) for part in partition.parts)


def _planned(part: Part, context: Context, given: PtxSchedule | None) -> PlannedPart:
    costs = _Costs(part.nest, context)
    schedule = given or choose_schedule(costs)
    of_pair = costs.of(schedule.rows, schedule.cols)
    return PlannedPart(part, schedule, of_pair, _filling(part.nest, context))


# Instructions of a thread for a column that it fills in: of each number that it copies, of each
# vector that it writes, and of the column's loops and places.
_COPY, _WRITE, _COLUMN = 4.0, 3.0, 12.0


def _filling(nest: Nest, context: Context) -> float:
    """Clocks of a multiprocessor to fill in a column of a tile, about."""
    definitions = prepared(nest)
    copied = sum(part.count for part in copied_slices(nest))
    made = sum(v.op not in STRUCTURAL for v in topological(definitions))
    written = -(-components(nest, *OF_COLUMNS) // 4)
    limits = multiprocessor(context.target.name)
    count = _COLUMN + _COPY * copied + made + _WRITE * written
    return count / limits.results[ISSUE]


def choose_schedule(costs: _Costs) -> PtxSchedule:
    """The cheapest schedule of a nest that fits."""
    nest = costs.nest
    if nest.products or nest.updates:
        return _of_matrices(nest)
    rows, cols = min(costs.blocks(), key=lambda block: costs.of(*block))
    registers = _TOLERANCE[nest.dtype] * (costs.registers(rows, cols) + costs.uniform)
    most = _LEAST_RESIDENT if scans_of(nest.pairs) else _MOST_RESIDENT  # whose bodies are loops
    fitting = int(REGISTERS // (THREADS * registers))
    threads = THREADS if costs.context.height == "many" or costs.teams else WARP
    resident = max(_LEAST_RESIDENT, min(most, fitting)) * THREADS // threads
    tile = columns_of_teams(nest, costs.context) if costs.teams else columns_of_tile(nest, threads)
    return PtxSchedule(threads, rows, cols, tile, resident, teams=costs.teams)


def _has_teams(nest: Nest, context: Context) -> bool:
    """Whether threads of a block share rows, if a task has few.

    Vectors that are read from global memory are read by all threads at the same column.  Members
    would fill lists of their own, with most of the few columns that each has.
    """
    is_short = all(part.is_short for part in slices(nest.pairs, "i", "j"))
    return context.height != "many" and nest.can_split and is_short and not nest.kept


def _of_matrices(nest: Nest) -> PtxSchedule:
    """The schedule of a nest with products of matrices: a warp has one or two blocks of rows."""
    product = PRODUCTS[nest.dtype]  # of which the others of float32 have the rows and columns
    sums = sum(product.sum_registers(h.variable.dim) for h in nest.updates)
    if chunks(nest):
        most = _FEW_SUMS_OF_CHUNKED if nest.guards else _MOST_SUMS_OF_CHUNKED
        blocks = 2 if 2 * sums <= most else 1
        return _of_blocks(nest, blocks, _LEAST_RESIDENT, _CHUNKED_COLUMNS)
    # The elements of a thread's rows are in registers, and so are the sums of wide states.
    registers = sums + sum(
        PRODUCTS[factors_of(h.definition)].registers(h.definition.args[0].dim)
        for h in nest.products
    )
    if not nest.updates:
        most = few = _MOST_FRAGMENTS
    else:
        most, few = _MOST_SUMS_OF_SHORT if _is_short(nest) else _MOST_SUMS, _FEW_SUMS
    blocks = 2 if 2 * registers <= most else 1
    resident = _LEAST_RESIDENT + (blocks * registers < few)
    return _of_blocks(nest, blocks, resident, MOST_COLUMNS)


def _of_blocks(nest: Nest, blocks: int, resident: int, most: int) -> PtxSchedule:
    """The schedule with so many blocks of rows for each warp; tiles have `most` columns at most."""
    rows, cols = blocks * PRODUCTS[nest.dtype].rows, 2 * _TILES_OF_PRODUCT
    step = cols * MEMBERS
    tile = max(step, min(most, columns_of_tile(nest, THREADS)) // step * step)
    span = max(1, MOST_COLUMNS // tile) if nest.updates else 1
    return PtxSchedule(THREADS, rows, cols, tile, resident, MEMBERS, span)


def _is_short(nest: Nest) -> bool:
    """Whether all vectors that matrices are made of have a shorter format than their dtype."""
    made = [h.definition for h in nest.products]
    made += [state.step for state in nest.states if state.step.op == "update"]
    return all(factors_of(value) != nest.dtype for value in made)


def pair_clocks(nest: Nest, context: Context) -> Callable[[PtxSchedule, Figures], float]:
    """The model: clocks of a full multiprocessor for a pair of each thread of a warp."""
    costs = _Costs(nest, context)
    return lambda schedule, figures: costs.of(schedule.rows, schedule.cols, figures)


class _Costs:
    """What pairs of a nest cost, by the block of rows and columns of a step."""

    def __init__(self, nest: Nest, context: Context) -> None:
        self.nest, self.dtype, self.words = nest, nest.dtype, SIZES[nest.dtype] // 4
        self.context, self.teams = context, _has_teams(nest, context)
        self.few_rows = context.height == "few" and not self.teams
        free = free_indices(nest.pair_values)
        steps = [state.step for state in nest.states]
        values = list(topological((*nest.guards, *steps)))
        operations = [v for v in values if v.op not in STRUCTURAL and v.dependence == I_BIT | J_BIT]
        self.folds = [v for v in values if v.op == "fold" and v.dependence == I_BIT | J_BIT]

        def times(value: Value) -> int:
            return math.prod(extent for _, extent in free[value])

        self.limits = multiprocessor(MEASURED if self.dtype == "f32" else context.target.name)
        self.body = len(operations)
        # Operations by what they depend on and by pipe.  Those of rows or columns alone are here
        # because they are not worth a register.
        self.work: defaultdict[tuple[int, str], float] = defaultdict(float)
        for value in values:
            if value.op not in STRUCTURAL and value.dependence:
                self.work[value.dependence, pipe_of(value)] += times(value)
        for pipe, count in of_matrices(nest).items():
            self.work[I_BIT | J_BIT, pipe] += count
        long = {p.variable for p in slices(nest.pair_values, "i", "j") if not p.is_short}
        read = [v for v in values if v.op == "component" and v.args[0] in long]
        self.long_rows = sum(times(v) for v in read if v.dependence == I_BIT) * self.words
        self.long_columns = sum(times(v) for v in read if v.dependence == J_BIT) * self.words
        kept = [v for v in _operands_of_pairs(values) if not free[v]]
        self.uniform = self.words * sum(v.dependence == 0 for v in kept)
        of_row = sum(v.dependence == I_BIT for v in kept)
        self.of_row = self.words * (self._carried() + of_row)
        self.of_column = self.words * components(nest, *OF_COLUMNS)
        used = {arg for step in steps for arg in step.args if not arg.is_constant}
        self.late_columns = self.words * sum(v.dependence == J_BIT for v in used)
        self.held = self.words * sum(
            v.dependence == I_BIT | J_BIT and v.op != "variable" for v in used
        )
        rare = topological([state.adjust for state in nest.states], known=set(values))
        self.adjustment = sum(v.op not in STRUCTURAL for v in rare)

    def _carried(self) -> int:
        """Scalar states, and copies of those that the next values of others are made from."""
        adjusts = [state.adjust for state in self.nest.states]
        variables = enumerate(state.variable for state in self.nest.states)
        numbers = {variable: n for n, variable in variables if variable.dim == 1}
        made_from = leaves_of(adjusts, numbers)
        read = 0
        for n, adjust in enumerate(adjusts):
            read |= made_from[adjust] & ~(1 << n)
        return len(numbers) + int(_COPIES_OF_ADJUSTED * read.bit_count())

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The blocks that fit, or else the smallest."""
        if scans_of(self.nest.pairs):  # the components are in memory, for one pair of each thread
            yield 1, 1
            return
        is_wide = any(state.variable.dim > 1 for state in self.nest.states)
        all_rows = (1,) if self.few_rows or is_wide else ROWS
        all_columns = COLUMNS_OF_FOLDS if self.folds else COLUMNS
        found = [b for b in itertools.product(all_rows, all_columns) if self._fits(*b)]
        yield from found or [(1, 1)]

    def _fits(self, rows: int, cols: int) -> bool:
        return (
            rows * cols * self.body * self.words <= _LONGEST_BODY
            and rows * cols * self.adjustment <= _LONGEST_ADJUSTMENT
            and self.registers(rows, cols) <= _MOST_REGISTERS[self.dtype]
        )

    def registers(self, rows: int, cols: int) -> int:
        """Of a thread, about."""
        early = min(cols * max(0, self.of_column - self.late_columns), _EARLY_COLUMNS)
        late = min(cols * self.late_columns, _LATE_COLUMNS * self.words)
        pairs = rows * cols * (1 + len(self.folds)) * self.words
        # The assembler overlaps neighbouring columns, and more if components come from afar.
        overlapping = cols + 1 if self.long_columns else min(cols, 2)
        held = overlapping * self.held
        uniform = max(0, self.uniform - _UNIFORM_REGISTERS[self.dtype])
        overhead = _OVERHEAD + (_TEAM_OVERHEAD if self.teams else 0)
        return uniform + rows * (self.of_row + held) + early + late + pairs + overhead

    def of(self, rows: int, cols: int, figures: Figures = FIGURES) -> float:
        """Clocks of a multiprocessor for a pair of each thread of a warp, about."""
        registers = self.registers(rows, cols)
        spilled = max(0, registers - _MOST_REGISTERS[self.dtype]) / (rows * cols)
        words = (self.of_column + self.long_columns) / rows + self.long_rows / cols + spilled
        loads = (
            self.of_column / 4 / rows + self.long_columns / rows + self.long_rows / cols + spilled
        )
        work: defaultdict[str, float] = defaultdict(float)
        served = {I_BIT: cols, J_BIT: rows}
        for (dependence, pipe), count in self.work.items():
            work[pipe] += count / served.get(dependence, 1)
        if self.teams and cols > 1:  # whose columns lie apart: the place of each is computed
            work[ALU] += 1 / rows
        work[ISSUE] = sum(work.values()) + loads + _LOOP_END / (rows * cols)
        work[LSU] = words
        pipes = [count * self.limits.clocks(pipe) for pipe, count in work.items() if pipe]
        busy = max(pipes) + figures.interference * (sum(pipes) - max(pipes))
        warps = REGISTERS // (WARP * registers)
        idle = max(0, 1 - warps / figures.warps)
        return busy * (1 + figures.slower * idle)


@record
class Considered:
    """A block of rows x columns that fits, registers of a thread, and clocks of a warp per pair."""

    rows: int
    cols: int
    registers: int
    clocks: float


def considered(nest: Nest, context: Context) -> list[Considered]:
    """The blocks that fit, of which the one of the fewest clocks is taken."""
    costs = _Costs(nest, context)
    return [
        Considered(rows, cols, round(costs.registers(rows, cols)), costs.of(rows, cols))
        for rows, cols in costs.blocks()
    ]


def _operands_of_pairs(values: list[Value]) -> list[Value]:
    """Scalars that do not change with the column, and that are read for each pair."""
    found = dict.fromkeys(
        arg
        for value in values
        if value.dependence == I_BIT | J_BIT
        for arg in value.args
        if arg.dependence in (0, I_BIT) and arg.dim == 1 and not arg.is_constant
    )
    return list(found)
