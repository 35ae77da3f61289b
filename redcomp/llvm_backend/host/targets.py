"""Hosts as targets: instruction sets of processors, and which one this machine has."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from redcomp.concurrency import importing
from redcomp.errors import ArgumentError, CompilerError
from redcomp.ir import FLOATS
from redcomp.ops.table import SIMD, primitives
from redcomp.target import TABLE, Arithmetic, Native, Target

# Operands of masked instructions: the value of masked lanes, the mask (all lanes), and the rounding
# mode (the current one).
_VECTORS = {"f32": ("<16 x float>", "<16 x i32>"), "f64": ("<8 x double>", "<8 x i64>")}
_ZEROS = {dtype: (floats, "zeroinitializer") for dtype, (floats, _) in _VECTORS.items()}
_ALL = {"f32": ("i16", "-1"), "f64": ("i8", "-1")}
_ROUNDING = ("i32", "4")
_SUFFIXES = {"f32": "ps", "f64": "pd"}


def _native_avx512(dtype: str) -> dict[str, Native]:
    """Instructions that LLVM has no names of its own for.

    vscalef computes a * 2**floor(n) with all special cases; vpermps and vpermpd look up a table
    that fills a vector; vfixupimm gives a, or what a table says of x if it is 0, infinite, ...
    """
    suffix, zeros, mask = _SUFFIXES[dtype], _ZEROS[dtype], _ALL[dtype]

    def fixed_up(responses: Mapping[int, int]) -> Native:
        """`responses` to classes of x, which have numbers; see Intel's manual, VFIXUPIMMPS."""
        name, table = f"llvm.x86.avx512.mask.fixupimm.{suffix}.512", 0
        for class_, response in responses.items():
            table |= response << (4 * class_)
        integers = _VECTORS[dtype][1]
        entries = (integers, f"splat ({integers.split()[-1][:-1]} {table})")
        return Native(name, (0, 1, entries, ("i32", "0"), mask, _ROUNDING))

    return {
        "scale": Native(
            f"llvm.x86.avx512.mask.scalef.{suffix}.512", (0, 1, zeros, mask, _ROUNDING)
        ),
        "lookup": Native(f"llvm.x86.avx512.permvar.{suffix[1]}f.512", (TABLE, 0)),
        "rsqrt_estimate": Native(f"llvm.x86.avx512.rsqrt14.{suffix}.512", (0, zeros, mask)),
        "root_or_limit": fixed_up({_ZERO: _ITSELF, _INFINITE: _ITSELF}),
        "inverse_root_or_limit": fixed_up({_ZERO: _NOTHING, _INFINITE: _NOTHING}),
    }


# Classes of operands of vfixupimm, and responses to them.
_ZERO, _INFINITE = 2, 5
_ITSELF, _NOTHING = 1, 8

_AVX512_NATIVE = {
    (op, dtype): native for dtype in FLOATS for op, native in _native_avx512(dtype).items()
}

# Vectors that registers have no room for are then not split over two cache lines, wherever the
# stack of a thread begins.
_ALIGNED_STACK = '"stackrealign"'

# Rounding to nearest, no traps, and results below the normal numbers are zeros (FTZ, 0x8000): each
# vector with one would take more than a hundred cycles.  Operands are taken as they are.  See
# docs/decisions/0051-results-below-the-normal-numbers.md.
_MXCSR = 0x9F80
_SAVE, _SET = "llvm.x86.sse.stmxcsr", "llvm.x86.sse.ldmxcsr"
_X86_ARITHMETIC = Arithmetic(
    (
        "%arithmetic = alloca i32, align 4",
        "%ours = alloca i32, align 4",
        f"store i32 {_MXCSR}, ptr %ours, align 4",
        f"call void @{_SAVE}(ptr %arithmetic)",
        f"call void @{_SET}(ptr %ours)",
    ),
    (f"call void @{_SET}(ptr %arithmetic)",),
    {name: f"declare void @{name}(ptr)" for name in (_SAVE, _SET)},
)

# Rounding to nearest, no traps, nothing flushed: FZ would take operands for zeros too.
_FPCR = 0
_READ, _WRITE = "llvm.aarch64.get.fpcr", "llvm.aarch64.set.fpcr"
_AARCH64_ARITHMETIC = Arithmetic(
    (f"%arithmetic = call i64 @{_READ}()", f"call void @{_WRITE}(i64 {_FPCR})"),
    (f"call void @{_WRITE}(i64 %arithmetic)",),
    {_READ: f"declare i64 @{_READ}()", _WRITE: f"declare void @{_WRITE}(i64)"},
)

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
            primitives("fma", "rounding") | {SIMD, *(op for op, _ in _AVX512_NATIVE)},
            _AVX512_NATIVE,
            f'"prefer-vector-width"="512" "min-legal-vector-width"="512" {_ALIGNED_STACK}',
            embeds_broadcasts=True,
            hidden_by={"f32": 36, "f64": 44},
            arithmetic=_X86_ARITHMETIC,
        ),
        Target(
            "avx2",
            "",
            "x86-64",
            "+avx2,+fma",
            256,
            16,
            primitives("fma", "rounding") | {SIMD},
            attributes=_ALIGNED_STACK,
            arithmetic=_X86_ARITHMETIC,
        ),
        Target(
            "sse2",
            "",
            "x86-64",
            "+sse2",
            128,
            16,
            primitives() | {SIMD},
            arithmetic=_X86_ARITHMETIC,
        ),
    )
}


HOST_TARGETS = (*_X86, "neon")


@functools.cache
def _llvm() -> Any:
    """LLVM, which names of targets do without, with its locks held while the process forks."""
    with importing:
        import llvmlite.binding as llvm

        import redcomp.llvm_backend.locks  # noqa: F401 (so that forks wait for it)
    return llvm


@functools.cache
def host_target(name: str = "") -> Target:
    """The host target of the given name, or the widest that this machine has."""
    triple: str = _llvm().get_process_triple()
    if not name:
        return _native(triple)
    if name in _X86:
        return replace(_X86[name], triple=_triple_for("x86_64", triple))
    if name == "neon":
        return _neon(_triple_for("aarch64", triple), "generic", "+neon")
    raise ArgumentError(f"unknown host target {name!r}; known ones: {', '.join(HOST_TARGETS)}")


def _native(triple: str) -> Target:
    machine = platform.machine().lower()
    cpu: str = _llvm().get_host_cpu_name()
    found = _llvm().get_host_cpu_features()
    flat: str = found.flatten()
    if machine in ("arm64", "aarch64"):
        return _neon(triple, cpu, flat)
    for target in _X86.values():
        if all(found.get(feature[1:], False) for feature in target.features.split(",")):
            return replace(target, triple=triple, cpu=cpu, features=flat)
    raise CompilerError(f"no host target for {machine!r} with features {flat}")


def _neon(triple: str, cpu: str, features: str) -> Target:
    return Target(
        "neon",
        triple,
        cpu,
        features,
        128,
        32,
        primitives("fma", "rounding") | {SIMD},
        arithmetic=_AARCH64_ARITHMETIC,
    )


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
    own, wanted = (name.split("-")[0] for name in (_llvm().get_process_triple(), triple))
    if own != wanted:
        return f"is {own}, not {wanted}"
    found = _llvm().get_host_cpu_features()
    asked = (feature[1:] for feature in features.split(",") if feature.startswith("+"))
    missing = ", ".join(feature for feature in asked if not found.get(feature, False))
    return missing and f"lacks {missing}"
