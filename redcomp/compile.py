"""The compiler: the only module that knows the order of the stages.

    kernel -> passes -> nest of loops -> schedule -> LLVM -> object code -> loaded host kernel

`Lowering` holds one compilation and makes each stage when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import llvmlite

from redcomp import config
from redcomp.concurrency import Latest, cached_property, once
from redcomp.dump import Dumper
from redcomp.errors import ArgumentError, CompilerError, SizeError
from redcomp.ir import Kernel, Listing, Nest, Value, free_indices, topological
from redcomp.limits import MAX_SCRATCH
from redcomp.llvm_backend import jit
from redcomp.llvm_backend.host import JOIN, RUN, HostModule, host_module
from redcomp.llvm_backend.machine_code import LoopBody, pair_loop
from redcomp.llvm_backend.schedule import Schedule, choose_schedule
from redcomp.llvm_backend.target import Target, check_runs_here, host_target
from redcomp.passes.accumulate import accumulate
from redcomp.passes.contract import contract
from redcomp.passes.cse import cse
from redcomp.passes.expand import STRUCTURAL, expand, times
from redcomp.passes.factor import factor
from redcomp.passes.hoist import hoist
from redcomp.passes.legal import legal
from redcomp.passes.prescale import prescale
from redcomp.passes.scalarize import Unrolling, scalarize, shortest_vector
from redcomp.passes.simplify import simplify
from redcomp.passes.size import (
    check_lines,
    check_size,
    check_states,
    check_values,
    is_short,
)
from redcomp.ptx.assemble import ToolError
from redcomp.ptx.ceiling import Ceiling, ideal
from redcomp.ptx.costs import Cost, costs, description
from redcomp.ptx.schedule import PlannedPart, PtxSchedule, plan
from redcomp.ptx.skeleton import PtxModule, ptx_module
from redcomp.ptx.target import gpu_target, is_gpu
from redcomp.runtime.cache import default_cache
from redcomp.runtime.gpu import GpuKernel
from redcomp.runtime.host import HostKernel
from redcomp.text import print_program
from redcomp.verify import verify

Program = Kernel | Nest
S = TypeVar("S")
L = TypeVar("L", bound="Lowering[Any]")


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
    "scalarize": lambda p, c: check_size(
        _scalarized(_nest(p, "scalarize"), c.target), c.target.primitives
    ),
    "accumulate": lambda p, c: accumulate(
        _kernel(p, "accumulate"),
        c.options.accumulator,
        use_fast_math=bool(c.options.use_fast_math),
    ),
    "prescale": lambda p, c: _prescaled(p, c) if c.options.use_fast_math else p,
    "contract": lambda p, c: contract(p),
    "expand": lambda p, c: expand(p, c.target.primitives),
    "hoist": lambda p, c: hoist(_nest(p, "hoist"), hoists_vectors=c.target.hoists_vectors),
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


def _scalarized(nest: Nest, target: Target) -> Nest:
    """On scalars, with as much written out as the target's registers and patience allow."""
    check_states(len(nest.states))
    *preferred, last = target.unrolling[nest.dtype]
    most = max(target.carried.get(nest.dtype, (0,)))
    # What was tried, and the shortest vector that it left: one that writes out no less, and no
    # vector of that length, has the same result.
    tried: list[tuple[Unrolling, float]] = []
    for unrolling in preferred:
        if any(unrolling.longest < left and not unrolling.writes_out_less(u) for u, left in tried):
            continue
        try:
            made = scalarize(nest, unrolling)
        except SizeError:
            tried.append((unrolling, math.inf))
            continue
        if is_short(made, most, target.primitives):
            return made
        tried.append((unrolling, shortest_vector(made)))
    made = scalarize(nest, last)
    check_states(len(made.states))
    return made


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
            raise ArgumentError(f"unknown pass {name!r}; known ones: {', '.join(PASSES)}")
        program = PASSES[name](program, context)
        check_values(len(program.values))
        if config.verify():
            verify(program)
    return program


def _operations(values: Iterable[Value]) -> Mapping[str, int]:
    """Arithmetic operations of the IR in some values, by name; loops are counted as they run."""
    counts: Counter[str] = Counter()
    listed = Listing(topological(values))
    runs = times(listed, free_indices(listed))
    for value in listed:
        if value.op not in STRUCTURAL:
            counts[value.op] += runs[id(value)]
        elif value.op == "fold":
            counts[value["combine"]] += value.args[-1]["extent"] * runs[id(value)]
    return dict(counts)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a pair costs.

    operations    arithmetic operations of the IR a pair, by name; those of a loop count as often
                  as it runs
    instructions  on the host vector instructions of the innermost loop for one vector of pairs, on
                  GPUs all of its instructions for one pair (or, if it is a loop over components, of
                  one component of them), none of which is of the rare ones for which states are
                  adjusted
    """

    operations: Mapping[str, int]
    instructions: float


class Lowering(Generic[S]):
    """One kernel compiled for one target; stages are computed on demand and kept.

    kernel    the kernel as the frontend built it
    stages    name to text, for every stage in order: "00-kernel", "01-simplify", ...,
              "20-module.4x2.ll" (the schedule's block in the name), ...
    schedule  the layout of the loops
    """

    ASSEMBLY: ClassVar[tuple[str, str]]  # the last stage's name and suffix

    def __init__(
        self,
        kernel: Kernel,
        dtype: str,
        target: Target,
        options: Options,
        schedule: S | None = None,
        few_rows: bool = False,
    ) -> None:
        self.kernel, self.dtype, self.target, self.options = kernel, dtype, target, options
        self.given_schedule, self.few_rows = schedule, few_rows
        self.dumper = Dumper.from_settings(kernel, f"{target.name} {options}")

    @cached_property
    def programs(self) -> list[tuple[str, Program]]:
        """The program after each pass, by the stage's name."""
        context = Context(self.target, self.options)
        program: Program = self.dumper.stage("00-kernel", self.kernel)
        programs = [("00-kernel", program)]
        for number, name in enumerate(PIPELINE, 1):
            stage = f"{number:02}-{name}"
            program = self.dumper.stage(stage, run_passes(program, (name,), context))
            programs.append((stage, program))
        return programs

    @property
    def nest(self) -> Nest:
        """The legal, hoisted nest of loops."""
        return _nest(self.programs[-1][1], "the code generator")

    @cached_property
    def schedule(self) -> S:
        """The layout of the loops: the one that was asked for or the one that is chosen."""
        return self.choose_schedule() if self.given_schedule is None else self.given_schedule

    def choose_schedule(self) -> S:
        """The layout of the loops that suits the nest."""
        raise NotImplementedError

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a step of the pair loop."""
        raise NotImplementedError

    def with_schedule(self: L, schedule: Any) -> L:
        """The same compilation with another layout of the loops."""
        return type(self)(self.kernel, self.dtype, self.target, self.options, schedule)

    @property
    def module_text(self) -> str:
        """The LLVM module that redcomp writes, before LLVM's optimiser."""
        raise NotImplementedError

    def file_name(self, stage: str, suffix: str) -> str:
        """The dump of a stage that depends on the schedule; a kernel may have several."""
        rows, cols = self.block
        return f"{stage}.{rows}x{cols}.{suffix}"

    @cached_property
    def given_llvm(self) -> tuple[str, Target]:
        """The module that LLVM gets, for which target: an edited one has been optimised already."""
        edited = self.dumper.edited(self.file_name("21-llvm", "ll"))
        if edited is None:
            return self.module_text, self.target
        return edited, replace(self.target, llvm_passes=())

    @cached_property
    def edited_assembly(self) -> str | None:
        """The edited text of the last stage, if there is one."""
        return self.dumper.edited(self.file_name(*self.ASSEMBLY))

    @cached_property
    def llvm(self) -> str:
        """The LLVM module after LLVM's optimiser."""
        return jit.optimized_llvm(*self.given_llvm)

    @cached_property
    def asm(self) -> str:
        """The target's assembly: of the host, or PTX."""
        edited = self.edited_assembly
        return jit.assembly(*self.given_llvm) if edited is None else edited

    @cached_property
    def stages(self) -> dict[str, str]:
        """Every stage's text, in order."""
        texts = {name: print_program(program) for name, program in self.programs}
        return {
            **texts,
            self.file_name("20-module", "ll"): self.module_text,
            self.file_name("21-llvm", "ll"): self.llvm,
            self.file_name(*self.ASSEMBLY): self.asm,
        }

    @cached_property
    def operations(self) -> Mapping[str, int]:
        """Arithmetic operations of the IR a pair, by name."""
        return _operations(self.nest.pair_values)

    def object_code(self) -> tuple[bytes, bool]:
        """Machine code, or PTX, from the disk cache if it is there (then True)."""
        cache = default_cache()
        key = self.key()
        code = None if cache is None else cache.load(key)
        if code is not None:
            return code, True
        code = self.generate()
        if cache is not None:
            cache.store(key, code)
        return code, False

    def generate(self) -> bytes:
        """Machine code, or PTX."""
        raise NotImplementedError

    def report(self, seconds: float, was_cached: bool) -> None:
        """Tell that it has been compiled, where the settings ask for it."""
        how = "loaded from the disk cache" if was_cached else "compiled"
        self.dumper.compiled(
            f"{how} in {seconds * 1e3:.1f} ms: {self.target.name}, {self.dtype}, {self.schedule}",
            lambda: {
                self.file_name("21-llvm", "ll"): self.llvm,
                self.file_name(*self.ASSEMBLY): self.asm,
            },
        )

    def key(self) -> bytes:
        """A digest of all that the code depends on."""
        (text, target), edited = self.given_llvm, self.edited_assembly
        compiler = [llvmlite.__version__, *target.llvm_passes, *target.llvm_options]
        described = json.dumps([*compiler, target.triple, target.cpu, target.features, edited])
        return hashlib.sha256(f"{described}\n{text}".encode()).digest()


class HostLowering(Lowering[Schedule]):
    """A kernel compiled for this machine's processor, or another one to read the assembly of."""

    ASSEMBLY = ("22-asm", "s")

    def choose_schedule(self) -> Schedule:
        return choose_schedule(self.nest, self.dtype, self.target, self.few_rows)

    @property
    def block(self) -> tuple[int, int]:
        return self.schedule.rows, self.schedule.cols

    @cached_property
    def module(self) -> HostModule:
        """The LLVM module and the memory it needs."""
        module = host_module(self.nest, self.dtype, self.target, self.schedule)
        if module.scratch_bytes > MAX_SCRATCH:
            raise SizeError(
                f"needs {module.scratch_bytes / 2**30:.1f} GB of memory for its vectors in each "
                f"thread; at most {MAX_SCRATCH / 2**30:g} GB are possible"
            )
        text = self.dumper.text(self.file_name("20-module", "ll"), module.text)
        check_lines(text)
        return replace(module, text=text)

    @property
    def module_text(self) -> str:
        return self.module.text

    @property
    def pair_loop(self) -> LoopBody:
        """The innermost loop of the assembly, see `redcomp.llvm_backend.machine_code`.

        Of the first of several, where there are more states than one pair loop carries.
        """
        return pair_loop(self.asm)

    @property
    def stats(self) -> Statistics:
        """What a pair costs."""
        rows, cols = self.block
        loops = [pair_loop(self.asm, number) for number in range(self.module.loops)]
        instructions = sum(loop.vector_instructions for loop in loops)
        return Statistics(self.operations, instructions / (rows * cols))

    @property
    def machine(self) -> str:
        """What a pair costs, in words."""
        return (
            f"{self.stats.instructions:.1f} vector instructions of the innermost loop for "
            f"{self.schedule.lanes} pairs"
        )

    @cached_property
    def edited_assembly(self) -> None:
        """None: the host's assembly is for reading."""
        if super().edited_assembly is not None:
            raise config.ConfigError(
                f"REDCOMP_OVERRIDE: {self.file_name(*self.ASSEMBLY)} cannot be read back, because "
                f"LLVM makes machine code at once; edit {self.file_name('21-llvm', 'll')}"
            )

    def generate(self) -> bytes:
        return jit.compile_object(*self.given_llvm)

    def load(self) -> HostKernel:
        """Compile, or fetch from a cache, and load; raises ArgumentError for another machine."""
        check_runs_here(self.target)
        start = time.perf_counter()
        return once(_on_host, self.key(), lambda: self._loaded(start))

    def _loaded(self, start: float) -> HostKernel:
        code, was_cached = self.object_code()
        module, schedule = self.module, self.schedule
        kernel = HostKernel(
            jit.Library(code, (RUN, JOIN)),
            lanes=schedule.lanes,
            rows=schedule.rows,
            chunk=schedule.chunk,
            tile=schedule.tile,
            operations=sum(self.operations.values()),
            scratch_bytes=module.scratch_bytes,
            total_bytes=module.total_bytes,
            can_split=bool(self.nest.joins),
        )
        self.report(time.perf_counter() - start, was_cached)
        return kernel


class GpuLowering(Lowering[PtxSchedule]):
    """A kernel compiled for an NVIDIA GPU, which need not be there."""

    ASSEMBLY = ("22-ptx", "ptx")

    def choose_schedule(self) -> PtxSchedule:
        return self.planned[0].schedule

    @cached_property
    def planned(self) -> tuple[PlannedPart, ...]:
        """The parts that results are computed in, and their schedules."""
        return plan(self.nest, self.dtype, self.target, self.few_rows, self.given_schedule)

    @property
    def block(self) -> tuple[int, int]:
        return self.schedule.rows, self.schedule.cols

    @cached_property
    def module(self) -> PtxModule:
        """The LLVM module and the memory it needs."""
        module = ptx_module(self.planned, len(self.nest.results), self.dtype, self.target)
        text = self.dumper.text(self.file_name("20-module", "ll"), module.text)
        check_lines(text)
        return replace(module, text=text)

    @property
    def module_text(self) -> str:
        return self.module.text

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """What the kernel of each part costs; needs NVIDIA's assembler and disassembler."""
        schedules = [planned.schedule for planned in self.planned]
        kernels = [(s.threads, s.rows * s.cols) for s in schedules]
        return costs(self.asm, self.target.name, kernels)

    @property
    def stats(self) -> Statistics:
        """What a pair costs; needs NVIDIA's assembler and disassembler."""
        return Statistics(self.operations, sum(cost.instructions for cost in self.costs))

    @property
    def ideal(self) -> Ceiling | None:
        """A bound for pairs where no state is adjusted; None if there are loops in them."""
        return ideal(self.nest, self.target.name)

    @property
    def machine(self) -> str:
        """What a pair costs, in words; without the assembler, how to get it."""
        try:
            return description(self.costs, self.ideal)
        except ToolError as error:
            return f"unknown: {error}"

    @property
    def ptx(self) -> str:
        """The kernels in PTX."""
        return self.asm

    def generate(self) -> bytes:
        return self.asm.encode()

    def load(self) -> GpuKernel:
        """Compile, or fetch from a cache; devices get the code when they first run it."""
        start = time.perf_counter()
        return once(_on_gpus, self.key(), lambda: self._loaded(start))

    def _loaded(self, start: float) -> GpuKernel:
        code, was_cached = self.object_code()
        kernel = GpuKernel(code.decode(), self.module.launches)
        self.report(time.perf_counter() - start, was_cached)
        return kernel


# Kernels that are kept though no reduction holds them: they are likely to be asked for again.
KEPT_KERNELS = 64

# Loaded kernels of this process, by their keys.
_on_host: Latest[bytes, HostKernel] = Latest(KEPT_KERNELS)
_on_gpus: Latest[bytes, GpuKernel] = Latest(KEPT_KERNELS)


def lower(
    kernel: Kernel,
    dtype: str,
    target: str = "host",
    options: Options | None = None,
    few_rows: bool = False,
) -> HostLowering | GpuLowering:
    """Prepare the compilation of a kernel: for "host", or the name of a host target or a GPU.

    `few_rows` asks for the schedule of calls with at most `FEW_ROWS` rows.  Raises ArgumentError
    for another name.
    """
    found = context_of(target, options or Options())
    made = GpuLowering if is_gpu(found.target.name) else HostLowering
    return made(kernel, dtype, found.target, found.options, few_rows=few_rows)


def context_of(target: str, options: Options) -> Context:
    """The target of a name, see `lower`, and the options with what it implies."""
    name = config.target() if target == "host" else target
    fast = is_gpu(name) if options.use_fast_math is None else options.use_fast_math
    try:
        found = gpu_target(name, fast) if is_gpu(name) else host_target(name)
    except ArgumentError as error:
        if target == "host":
            raise config.ConfigError(f"REDCOMP_TARGET: {error}") from None
        raise
    return Context(found, replace(options, use_fast_math=fast))
