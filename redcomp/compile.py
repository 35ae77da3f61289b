"""The compiler: the only module that knows the order of the stages.

    kernel -> passes -> nest of loops -> schedule -> LLVM -> object code -> loaded host kernel

`Lowering` holds one compilation and makes each stage when it is asked for.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import llvmlite

from redcomp import config
from redcomp.errors import CompilerError
from redcomp.ir import Kernel, Nest, topological
from redcomp.llvm_backend import jit
from redcomp.llvm_backend.host import JOIN, RUN, HostModule, host_module
from redcomp.llvm_backend.machine_code import LoopBody, pair_loop
from redcomp.llvm_backend.schedule import Schedule, choose_schedule
from redcomp.llvm_backend.target import Target, host_target
from redcomp.passes.accumulate import accumulate
from redcomp.passes.contract import contract
from redcomp.passes.cse import cse
from redcomp.passes.expand import STRUCTURAL, expand
from redcomp.passes.factor import factor
from redcomp.passes.hoist import hoist
from redcomp.passes.legal import legal
from redcomp.passes.prescale import prescale
from redcomp.passes.scalarize import scalarize
from redcomp.passes.simplify import simplify
from redcomp.ptx.target import gpu_target, is_gpu
from redcomp.runtime.cache import default_cache
from redcomp.runtime.host import HostKernel
from redcomp.text import parse_kernel, parse_nest, print_program
from redcomp.verify import verify

Program = Kernel | Nest


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller chooses about a compilation.

    use_fast_math  allow rewriting that changes rounding, and the approximate instructions of GPUs;
                   None: on GPUs only
    accumulator    dtype of the totals that tiles are merged into
    sum            the row that sums: "sum", or "compensated_sum"
    """

    use_fast_math: bool | None = None
    accumulator: str = "f64"
    sum: str = "sum"


@dataclass(frozen=True, slots=True)
class Context:
    """What passes may ask about the compilation they are part of."""

    target: Target
    options: Options


# Each pass by name, as a function of the program and its context.
PASSES: Mapping[str, Callable[[Program, Context], Program]] = {
    "simplify": lambda p, c: simplify(p, use_fast_math=bool(c.options.use_fast_math)),
    "cse": lambda p, c: cse(p),
    "factor": lambda p, c: factor(_kernel(p, "factor")),
    "scalarize": lambda p, c: scalarize(_nest(p, "scalarize")),
    "accumulate": lambda p, c: accumulate(_kernel(p, "accumulate"), c.options.accumulator),
    "prescale": lambda p, c: _prescaled(p, c) if c.options.use_fast_math else p,
    "contract": lambda p, c: contract(p),
    "expand": lambda p, c: expand(p, c.target.primitives),
    "hoist": lambda p, c: hoist(_nest(p, "hoist")),
    "legal": lambda p, c: legal(p, c.target.primitives),
}

# From a formula's kernel to what the code generator takes.
PIPELINE = (
    "simplify",
    "factor",
    "accumulate",
    "scalarize",
    "simplify",
    "cse",
    "prescale",
    "contract",
    "expand",
    "simplify",
    "hoist",
    "legal",
)


def _prescaled(program: Program, context: Context) -> Program:
    target = context.target
    return prescale(program, target.primitives, negates_operands=target.negates_operands)


def _kernel(program: Program, name: str) -> Kernel:
    if not isinstance(program, Kernel):
        raise CompilerError(f"pass {name!r} takes a kernel, not a nest of loops")
    return program


def _nest(program: Program, name: str) -> Nest:
    if not isinstance(program, Nest):
        raise CompilerError(f"pass {name!r} takes a nest of loops, not a kernel")
    return program


def run_passes(program: Program, names: tuple[str, ...], context: Context) -> Program:
    """Run passes by name, verifying after each where the settings say so."""
    for name in names:
        if name not in PASSES:
            raise CompilerError(f"unknown pass {name!r}; known ones: {', '.join(PASSES)}")
        program = PASSES[name](program, context)
        if config.verify():
            verify(program)
    return program


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a pair costs.

    operations    arithmetic operations of the IR a pair, by name; a loop's combination counts once
                  a component
    instructions  vector instructions of the innermost loop for one vector of pairs (or, if it is a
                  loop over components, of one component of them), none of which is of the rare ones
                  for which states are adjusted
    """

    operations: Mapping[str, int]
    instructions: float


class Lowering:
    """One kernel compiled for one target; stages are computed on demand and kept.

    kernel    the kernel as the frontend built it
    stages    name to text, for every stage in order: "00-kernel", "01-simplify", ...,
              "20-module.4x2.ll" (the schedule's block in the name), ...
    schedule  the layout of the loops
    """

    def __init__(
        self,
        kernel: Kernel,
        dtype: str,
        target: Target,
        options: Options,
        schedule: Schedule | None = None,
        few_rows: bool = False,
    ) -> None:
        self.kernel, self.dtype, self.target, self.options = kernel, dtype, target, options
        self._schedule, self._few_rows = schedule, few_rows
        self._dumper = _Dumper.from_settings(kernel, f"{target.name} {options}")

    @functools.cached_property
    def programs(self) -> list[tuple[str, Program]]:
        """The program after each pass, by the stage's name."""
        context = Context(self.target, self.options)
        program: Program = self._dumper.stage("00-kernel", self.kernel)
        programs = [("00-kernel", program)]
        for number, name in enumerate(PIPELINE, 1):
            stage = f"{number:02}-{name}"
            program = self._dumper.stage(stage, run_passes(program, (name,), context))
            programs.append((stage, program))
        return programs

    @property
    def nest(self) -> Nest:
        """The legal, hoisted nest of loops."""
        return _nest(self.programs[-1][1], "the code generator")

    @functools.cached_property
    def schedule(self) -> Schedule:
        """The layout of the loops: the one that was asked for or the one that is chosen."""
        if self._schedule is not None:
            return self._schedule
        return choose_schedule(self.nest, self.dtype, self.target, self._few_rows)

    def with_schedule(self, schedule: Schedule) -> Lowering:
        """The same compilation with another layout of the loops."""
        return Lowering(self.kernel, self.dtype, self.target, self.options, schedule)

    @functools.cached_property
    def module(self) -> HostModule:
        """The LLVM module that redcomp writes, before LLVM's optimiser."""
        module = host_module(self.nest, self.dtype, self.target, self.schedule)
        text = self._dumper.text(self.file_name("20-module", "ll"), module.text)
        return HostModule(text, module.scratch_bytes, module.total_bytes)

    def file_name(self, stage: str, suffix: str) -> str:
        """The dump of a stage that depends on the schedule; a kernel may have several."""
        return f"{stage}.{self.schedule.rows}x{self.schedule.cols}.{suffix}"

    @functools.cached_property
    def llvm(self) -> str:
        """The LLVM module after LLVM's optimiser."""
        return jit.optimized_llvm(self.module.text, self.target)

    @functools.cached_property
    def asm(self) -> str:
        """The target's assembly."""
        return jit.assembly(self.module.text, self.target)

    @property
    def pair_loop(self) -> LoopBody:
        """The innermost loop of the assembly, see `redcomp.llvm_backend.machine_code`."""
        return pair_loop(self.asm)

    @functools.cached_property
    def stages(self) -> dict[str, str]:
        """Every stage's text, in order."""
        texts = {name: print_program(program) for name, program in self.programs}
        return {
            **texts,
            self.file_name("20-module", "ll"): self.module.text,
            self.file_name("21-llvm", "ll"): self.llvm,
            self.file_name("22-asm", "s"): self.asm,
        }

    @functools.cached_property
    def operations(self) -> Mapping[str, int]:
        """Arithmetic operations of the IR a pair, by name."""
        counts: Counter[str] = Counter()
        for value in topological(self.nest.pairs):
            if value.op not in STRUCTURAL:
                counts[value.op] += 1
            elif value.op == "fold":
                counts[value["combine"]] += value.args[-1]["extent"]
        return dict(counts)

    @property
    def stats(self) -> Statistics:
        """What a pair costs."""
        block = self.schedule.rows * self.schedule.cols
        return Statistics(self.operations, self.pair_loop.vector_instructions / block)

    def object_code(self) -> tuple[bytes, bool]:
        """The object file, from the disk cache if it is there (then True)."""
        cache = default_cache()
        key = self._key()
        code = None if cache is None else cache.load(key)
        if code is not None:
            return code, True
        code = jit.compile_object(self.module.text, self.target)
        if cache is not None:
            cache.store(key, code)
        return code, False

    def _key(self) -> str:
        """All that the object code depends on."""
        target, text = self.target, self.module.text
        compiler = [llvmlite.__version__, *jit.LLVM_PASSES]
        return json.dumps([*compiler, target.triple, target.cpu, target.features, text])

    def load(self) -> HostKernel:
        """Compile, or fetch from a cache, and load."""
        start = time.perf_counter()
        key = self._key()
        kernel = _loaded.get(key)
        if kernel is not None:
            return kernel
        code, was_cached = self.object_code()
        module, schedule = self.module, self.schedule
        kernel = HostKernel(
            jit.Library(code, (RUN, JOIN)),
            lanes=schedule.lanes,
            rows=schedule.rows,
            chunk=schedule.chunk,
            operations=sum(self.operations.values()),
            scratch_bytes=module.scratch_bytes,
            total_bytes=module.total_bytes,
            can_split=bool(self.nest.joins),
        )
        kernel = _loaded.setdefault(key, kernel)
        self._dumper.compiled(self, time.perf_counter() - start, was_cached)
        return kernel


# Loaded kernels of this process.  They are small, and code cannot be unloaded while it may run.
_loaded: dict[str, HostKernel] = {}


def lower(
    kernel: Kernel,
    dtype: str,
    target: str = "host",
    options: Options | None = None,
    few_rows: bool = False,
) -> Lowering:
    """Prepare the compilation of a kernel: for "host", or the name of a host target or a GPU.

    `few_rows` asks for the schedule of calls with at most `FEW_ROWS` rows.
    """
    name = config.target() if target == "host" else target
    options = options or Options()
    fast = is_gpu(name) if options.use_fast_math is None else options.use_fast_math
    options = replace(options, use_fast_math=fast)
    made = gpu_target(name, fast) if is_gpu(name) else host_target(name)
    return Lowering(kernel, dtype, made, options, few_rows=few_rows)


class _Dumper:
    """Shows stages where the settings ask for it, and reads edited ones back."""

    def __init__(self, name: str, level: int, dump: Path | None, override: Path | None) -> None:
        self.name, self.level = name, level
        self.dump, self.override = dump, override
        self.last = ""

    @classmethod
    def from_settings(cls, kernel: Kernel, variant: str) -> _Dumper:
        """`variant` tells compilations of the same kernel apart."""
        dump, override = config.dump_directory(), config.override_directory()
        level = config.debug()
        name = ""
        if dump or override or level:
            name = hashlib.sha256(f"{variant}\n{print_program(kernel)}".encode()).hexdigest()[:12]
        return cls(name, level, dump, override)

    def stage(self, stage: str, program: Program) -> Program:
        """Dump a program, or replace it by the edited one of the same name."""
        if not self.name:
            return program
        given = print_program(program)
        text = self.text(f"{stage}.mlir", given)
        if text != given:
            program = parse_kernel(text) if isinstance(program, Kernel) else parse_nest(text)
            verify(program)
        if self.level >= 2 and text != self.last:
            _show(f"{self.name} {stage}", text)
        self.last = text
        return program

    def text(self, stage: str, text: str) -> str:
        """Dump a text, or replace it by the edited one of the same name."""
        if not self.name:
            return text
        if self.override:
            edited = self.override / self.name / stage
            if edited.is_file():
                text = edited.read_text()
        if self.dump:
            path = self.dump / self.name / stage
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return text

    def compiled(self, lowering: Lowering, seconds: float, was_cached: bool) -> None:
        """After a compilation: one line, then LLVM and machine code where asked for."""
        if self.dump:
            self.text(lowering.file_name("21-llvm", "ll"), lowering.llvm)
            self.text(lowering.file_name("22-asm", "s"), lowering.asm)
        if self.level >= 1:
            how = "loaded from the disk cache" if was_cached else "compiled"
            _show(
                f"{self.name} {how} in {seconds * 1e3:.1f} ms: {lowering.target.name}, "
                f"{lowering.dtype}, {lowering.schedule}",
                "",
            )
        if self.level >= 3:
            _show(f"{self.name} LLVM", lowering.llvm)
        if self.level >= 4:
            _show(f"{self.name} machine code", lowering.asm)


def _show(title: str, text: str) -> None:
    """REDCOMP_DEBUG writes to standard error even where logging is not configured."""
    print(f"redcomp: {title}\n{text}".rstrip(), file=sys.stderr)
