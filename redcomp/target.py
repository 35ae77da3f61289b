"""What is compiled for: targets as data, and what a caller chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from redcomp.ir import FLOATS
from redcomp.records import record

# Above this many components a loop replaces straight-line code, unless a target says otherwise: the
# accumulators of a wider result would not fit into the 16 or 32 vector registers that a host has.
_UNROLLED = 16
# A loop over fewer cells costs a multiple of what they do, because each waits for those before it.
_SCANS_UNROLLED = 16


# What a vector is in a nest of loops.
Role = Literal["operands", "states", "lists", "scans"]


@record
class Unrolling:
    """Vectors of at most so many components are written out.

    operands  those that are computed
    states    those that are carried from pair to pair and change with each
    lists     those that are carried and change rarely
    scans     those whose components are made from earlier ones
    """

    operands: int = _UNROLLED
    states: int = _UNROLLED
    lists: int = _UNROLLED
    scans: int = _SCANS_UNROLLED

    def writes_out(self, dim: int, *roles: Role) -> bool:
        """Whether it writes out a vector of so many components in any of these roles."""
        return any(dim <= getattr(self, role) for role in roles)


# Calls with at most so many rows are compiled for one vector of rows a step (one row a thread of a
# GPU): more would stay empty.
_FEW_ROWS = 48
# And where blocks of rows have at most so many, blocks of a GPU are a warp: they fit more closely.
_SHORT_ROWS = 1024

# The module is in SSA form, its schedule is decided and nothing in it is written twice, so few
# passes are worth their time; see docs/decisions/0007-llvm-passes.md.  LLVM may assert, which ends
# the process: see docs/decisions/0015-no-value-numbering-in-llvm.md.
LLVM_PASSES = ("loop_rotate", "instruction_combine")
# Blocks of thousands of instructions take LLVM's schedulers and its selection of instructions
# quadratic time, unless they keep so few memory accesses in view.
LLVM_OPTIONS = ("-dag-maps-huge-region=200", "-combiner-tokenfactor-inline-limit=64")

# How many rows lie together in calls that get code of their own.
Height = Literal["few", "short", "many"]

# Stands for a lookup's table in the arguments of a native instruction.
TABLE = "table"


@record
class Native:
    """An intrinsic and its arguments: numbers of operands, TABLE, or constants, types first."""

    intrinsic: str
    arguments: tuple[int | str | tuple[str, str], ...]


@record
class Arithmetic:
    """What sets a thread's rounding and flushing while machine code runs, as instructions of LLVM.

    enter         save the caller's state, and set ours
    leave         restore the caller's
    declarations  those of the intrinsics, by name
    """

    enter: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    declarations: Mapping[str, str] = field(default_factory=dict)


# Loops over 8 components and more are as fast as what they replace, and compiled sooner.  Where
# thousands of values would be written out, nearly all vectors and lists are in memory.
_UNROLLING = dict.fromkeys(
    FLOATS,
    (*(Unrolling(most, most) for most in (8, 16, 32)), Unrolling(3, 3, 3)),
)


@record
class UpdateLimits:
    """Which wide states are updated by products of matrices (`passes.updates`).

    least   components that each has at least
    most    that all have together at most
    memory  numbers at most for each column of a tile: twice the components of the vectors that
            products of matrices take, and those that these are computed from
    kept    longer vectors of products come in chunks
    chunk   of at most so many components
    """

    least: int
    most: int
    memory: int
    kept: int
    chunk: int


@record
class Target:
    """A machine to compile for.

    name           the name that `lower(target=...)` takes
    triple, cpu, features   LLVM's description of it
    vector_bits    width of a vector register; 0 where a lane is a thread
    registers      number of vector registers
    primitives     the operations that it emits, and SIMD where a lane is one of a vector
    native         operations that LLVM spells otherwise than on other targets, by (op, dtype)
    attributes     LLVM function attributes
    embeds_broadcasts   whether instructions can repeat a scalar operand from memory over all lanes
    hidden_by      by so many other operations of a pair a square root is hidden, by dtype; empty
                   where roots are not made of estimates
    unrolling      which vectors are written out, by dtype: the first one is taken with which loops
                   repeat little, bodies are short and states few enough, else the last
    carried        how many states may be in registers, by dtype
    hoists_vectors whether a long vector that depends on one index has memory to be kept in
    copies_asynchronously   whether shared memory is filled without passing through registers
    constants_space   LLVM's number of the address space that tables of constants are in
    arithmetic     the state of the processor's arithmetic that machine code runs in
    extremes       intrinsics that give the value, NaN left out, for which a comparison holds if it
                   holds for one of two; by (predicate, dtype), where they are one instruction
    splits_lists   the heights of blocks of rows for which columns are split that lists are kept of:
                   merging lists is long code
    llvm_passes    what LLVM's optimiser runs
    llvm_options   switches that LLVM needs to be given for this target

    negates_operands    whether instructions can negate their operands
    product_dims        how many components vectors have at least and at most whose contractions are
                        computed for whole tiles, by what they are for (see `passes.products`) and
                        the format of their numbers, a dtype or a shorter one; empty if none are
    kept_dims           by format, of how many components vectors are at most to be kept as a whole:
                        of a nest with longer ones only one product is computed so
    update_limits       to which wide states steps add products of matrices, by the format of the
                        vectors of columns
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    registers: int
    primitives: frozenset[str]
    native: Mapping[tuple[str, str], Native] = field(default_factory=dict)
    attributes: str = ""
    embeds_broadcasts: bool = False
    hidden_by: Mapping[str, int] = field(default_factory=dict)
    unrolling: Mapping[str, tuple[Unrolling, ...]] = field(default_factory=lambda: dict(_UNROLLING))
    carried: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    hoists_vectors: bool = True
    copies_asynchronously: bool = False
    constants_space: int = 0
    arithmetic: Arithmetic = Arithmetic()
    extremes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    splits_lists: tuple[Height, ...] = ("few",)
    llvm_passes: tuple[str, ...] = LLVM_PASSES
    llvm_options: tuple[str, ...] = LLVM_OPTIONS

    negates_operands: bool = False
    product_dims: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    kept_dims: Mapping[str, int] = field(default_factory=dict)
    update_limits: Mapping[str, UpdateLimits] = field(default_factory=dict)

    def lanes(self, dtype: str) -> int:
        """Lanes of a vector of the kernel's dtype."""
        if not self.vector_bits:
            return 1
        return max(1, self.vector_bits // {"f32": 32, "f64": 64}[dtype])


@record
class Options:
    """What a caller chooses about a compilation.

    use_fast_math  allow rewriting that changes rounding, and the approximate instructions of GPUs;
                   None: on GPUs only
    accumulator    dtype of the totals that tiles are merged into
    sum            the reduction that sums: "sum", or "compensated_sum"
    allow_tf32     let products of float32 on tensor cores round their factors to TF32
    """

    use_fast_math: bool | None = None
    accumulator: str = "f64"
    sum: str = "sum"
    allow_tf32: bool = False


def height_of(rows: int | None, *, has_blocks: bool) -> Height:
    """The code for so many rows (None: many); `has_blocks` where a target has blocks of rows."""
    if rows is None or rows > _SHORT_ROWS:
        return "many"
    if rows <= _FEW_ROWS:
        return "few"
    return "short" if has_blocks else "many"


@record
class Context:
    """What passes and schedules may ask about the compilation they are part of.

    height   of the blocks of rows that it is for, see `height_of`
    """

    target: Target
    options: Options
    height: Height = "many"

    @property
    def allow_tf32(self) -> bool:
        """Whether products of matrices may round factors of float32 to TF32."""
        return self.options.allow_tf32

    @property
    def use_fast_math(self) -> bool:
        """Whether rewriting may change rounding."""
        return bool(self.options.use_fast_math)
