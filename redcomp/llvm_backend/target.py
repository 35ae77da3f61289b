"""Targets as data: how wide they are, what they emit, and how that is spelt in LLVM."""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import llvmlite.binding as llvm

from redcomp.errors import ArgumentError, CompilerError
from redcomp.ir import FLOATS
from redcomp.passes.scalarize import Unrolling

LLVM_TYPES: Mapping[str, str] = {
    "f32": "float",
    "f64": "double",
    "i1": "i1",
    "i32": "i32",
    "i64": "i64",
    "index": "i64",
}

# (instruction on floats, instruction on integers)
INSTRUCTIONS: Mapping[str, tuple[str, str]] = {
    "add": ("fadd", "add"),
    "subtract": ("fsub", "sub"),
    "multiply": ("fmul", "mul"),
    "divide": ("fdiv", ""),
    "negate": ("fneg", ""),
    "and": ("", "and"),
    "or": ("", "or"),
    "xor": ("", "xor"),
    "shift_left": ("", "shl"),
    "shift_right": ("", "ashr"),
    "shift_right_logical": ("", "lshr"),
}

# Intrinsics of float operands, overloaded by the operands' type.
INTRINSICS: Mapping[str, str] = {
    "fma": "llvm.fma",
    "sqrt": "llvm.sqrt",
    "abs": "llvm.fabs",
    "floor": "llvm.floor",
    "round_even": "llvm.roundeven",
}

CONVERSIONS: Mapping[tuple[str, str], str] = {
    ("f32", "f64"): "fpext",
    ("f64", "f32"): "fptrunc",
    ("i32", "f32"): "sitofp",
    ("i32", "f64"): "sitofp",
    ("i64", "f32"): "sitofp",
    ("i64", "f64"): "sitofp",
    ("i1", "f32"): "uitofp",
    ("i1", "f64"): "uitofp",
    ("f32", "i32"): "fptosi",
    ("f64", "i32"): "fptosi",
    ("f64", "i64"): "fptosi",
    ("f32", "i64"): "fptosi",
    ("i32", "i64"): "sext",
    ("i64", "i32"): "trunc",
    ("index", "i32"): "trunc",
    ("i32", "index"): "sext",
    ("i64", "index"): "bitcast",  # of the same type, which does nothing
}

BASE_PRIMITIVES = (
    frozenset(INSTRUCTIONS)
    | {"sqrt", "abs", "compare", "select", "bitcast", "convert"}
)  # fmt: skip


# The module is in SSA form, its schedule is decided and nothing in it is written twice, so few
# passes are worth their time; see docs/decisions/0007-llvm-passes.md.  LLVM may assert, which ends
# the process: see docs/decisions/0015-no-value-numbering-in-llvm.md.
LLVM_PASSES = ("loop_rotate", "instruction_combine")

# Combination follows conditions through the operations that they are made of, and takes up to 4 ms
# for each of those; see docs/decisions/0007-llvm-passes.md.
_MOST_CONDITIONS = 500
_CONDITION = re.compile(r" = (?:and|or|xor) (?:<\d+ x i1>|i1) ")

# Stands for a lookup's table in the arguments of a native instruction.
TABLE = "table"


@dataclass(frozen=True, slots=True)
class Native:
    """An intrinsic and its arguments: numbers of operands, TABLE, or constants with their type."""

    intrinsic: str
    arguments: tuple[int | str, ...]


# Loops over 8 components and more are as fast as what they replace, and compiled sooner.  Where
# thousands of values would be written out, nearly all vectors and lists are in memory.
_UNROLLING = dict.fromkeys(
    FLOATS,
    (*(Unrolling(most, most) for most in (8, 16, 32)), Unrolling(3, 3, 3)),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to compile for.

    name           the name that `lower(target=...)` takes
    triple, cpu, features   LLVM's description of it
    vector_bits    width of a vector register; 0 where a lane is a thread
    registers      number of vector registers
    primitives     the operations that it emits
    native         operations spelt otherwise than by the tables above, by (op, dtype)
    attributes     LLVM function attributes
    embeds_broadcasts   whether instructions can repeat a scalar operand from memory over all lanes
    unrolling      which vectors are written out, by dtype: the first one is taken with which loops
                   repeat little, bodies are short and states few enough, else the last
    carried        how many states may be in registers, by dtype
    hoists_vectors whether a long vector that depends on one index has memory to be kept in
    copies_asynchronously   whether shared memory is filled without passing through registers
    extremes       intrinsics that give the value, NaN left out, for which a comparison holds if it
                   holds for one of two; by (predicate, dtype), where they are one instruction
    llvm_passes    what LLVM's optimiser runs
    llvm_options   switches that LLVM needs to be given for this target

    negates_operands    whether instructions can negate their operands
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
    unrolling: Mapping[str, tuple[Unrolling, ...]] = field(default_factory=lambda: dict(_UNROLLING))
    carried: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    hoists_vectors: bool = True
    copies_asynchronously: bool = False
    extremes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    llvm_passes: tuple[str, ...] = LLVM_PASSES
    llvm_options: tuple[str, ...] = ()

    negates_operands: bool = False

    def for_module(self, text: str) -> Target:
        """The target whose LLVM passes suit a module: many conditions are not combined."""
        if len(_CONDITION.findall(text)) <= _MOST_CONDITIONS:
            return self
        passes = tuple(name for name in self.llvm_passes if name != "instruction_combine")
        return replace(self, llvm_passes=passes)

    def lanes(self, dtype: str) -> int:
        """Lanes of a vector of the kernel's dtype."""
        if not self.vector_bits:
            return 1
        return max(1, self.vector_bits // {"f32": 32, "f64": 64}[dtype])


_ROUNDINGS = frozenset({"floor", "round_even"})
_FMA = frozenset({"fma"})

# vscalef computes a * 2**floor(n) with all special cases; the operands that follow are the value of
# masked lanes, the mask (all lanes) and the rounding mode (the current one).  vpermps and vpermpd
# look up a table that fills a vector.
_AVX512_NATIVE = {
    ("scale", "f32"): Native(
        "llvm.x86.avx512.mask.scalef.ps.512",
        (0, 1, "<16 x float> zeroinitializer", "i16 -1", "i32 4"),
    ),
    ("scale", "f64"): Native(
        "llvm.x86.avx512.mask.scalef.pd.512",
        (0, 1, "<8 x double> zeroinitializer", "i8 -1", "i32 4"),
    ),
    ("lookup", "f32"): Native("llvm.x86.avx512.permvar.sf.512", (TABLE, 0)),
    ("lookup", "f64"): Native("llvm.x86.avx512.permvar.df.512", (TABLE, 0)),
}

# Vectors that registers have no room for are then not split over two cache lines, wherever the
# stack of a thread begins.
_ALIGNED_STACK = '"stackrealign"'

# Widest first.  Triple and cpu are those of the machine that the target is made for.
_X86 = {
    target.name: target
    for target in (
        Target(
            "avx512",
            "",
            "x86-64",
            "+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx2,+fma",
            512,
            32,
            BASE_PRIMITIVES | _ROUNDINGS | _FMA | {"scale", "lookup"},
            _AVX512_NATIVE,
            f'"prefer-vector-width"="512" "min-legal-vector-width"="512" {_ALIGNED_STACK}',
            embeds_broadcasts=True,
        ),
        Target(
            "avx2",
            "",
            "x86-64",
            "+avx2,+fma",
            256,
            16,
            BASE_PRIMITIVES | _ROUNDINGS | _FMA,
            attributes=_ALIGNED_STACK,
        ),
        Target("sse2", "", "x86-64", "+sse2", 128, 16, BASE_PRIMITIVES),
    )
}


@functools.cache
def host_target(name: str = "") -> Target:
    """The host target of the given name, or the widest that this machine has."""
    triple: str = llvm.get_process_triple()
    if not name:
        return _native(triple)
    if name in _X86:
        return replace(_X86[name], triple=_triple_for("x86_64", triple))
    if name == "neon":
        return _neon(_triple_for("aarch64", triple), "generic", "+neon")
    known = ", ".join([*_X86, "neon"])
    raise ArgumentError(f"unknown host target {name!r}; known ones: {known}")


def _native(triple: str) -> Target:
    machine = platform.machine().lower()
    cpu: str = llvm.get_host_cpu_name()
    found = llvm.get_host_cpu_features()
    flat: str = found.flatten()
    if machine in ("arm64", "aarch64"):
        return _neon(triple, cpu, flat)
    for target in _X86.values():
        if all(found.get(feature[1:], False) for feature in target.features.split(",")):
            return replace(target, triple=triple, cpu=cpu, features=flat)
    raise CompilerError(f"no host target for {machine!r} with features {flat}")


def _neon(triple: str, cpu: str, features: str) -> Target:
    primitives = BASE_PRIMITIVES | _ROUNDINGS | _FMA
    return Target("neon", triple, cpu, features, 128, 32, primitives)


def _triple_for(architecture: str, host_triple: str) -> str:
    """The host's own triple if it is of that architecture, else one to read the assembly of."""
    same = host_triple.startswith(architecture) or (
        architecture == "aarch64" and host_triple.startswith("arm64")
    )
    return host_triple if same else f"{architecture}-unknown-linux-gnu"


def check_runs_here(target: Target) -> None:
    """Raise ArgumentError if this machine cannot run the code: it would end the process."""
    reason = _unsuited(target.triple, target.features)
    if reason:
        raise ArgumentError(f"target {target.name!r} does not run here: this machine {reason}")


@functools.cache
def _unsuited(triple: str, features: str) -> str:
    """Why this machine cannot run such code, or nothing."""
    own, wanted = (name.split("-")[0] for name in (llvm.get_process_triple(), triple))
    if own != wanted:
        return f"is {own}, not {wanted}"
    found = llvm.get_host_cpu_features()
    asked = (feature[1:] for feature in features.split(",") if feature.startswith("+"))
    missing = ", ".join(feature for feature in asked if not found.get(feature, False))
    return missing and f"lacks {missing}"
