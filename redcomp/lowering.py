"""One compilation, stage by stage: the code that all backends share.

kernel -> passes -> nest of loops -> schedule -> LLVM -> object code -> loaded kernel
"""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import llvmlite

from redcomp import notebooks
from redcomp.concurrency import Latest, cached_property, once
from redcomp.dump import Dumper
from redcomp.errors import CompilerError
from redcomp.ir import (
    BINDERS,
    NUMPY_DTYPES,
    STRUCTURAL,
    AnyProgram,
    Kernel,
    Nest,
    Value,
    free_indices,
    listing,
)
from redcomp.limits import check_lines
from redcomp.llvm_backend import code_generation
from redcomp.passes.expand import times
from redcomp.passes.pipeline import Step, stage_names
from redcomp.records import record
from redcomp.runtime.cache import default_cache
from redcomp.target import Context, Target
from redcomp.text import print_program


class HasBlock(Protocol):
    """A schedule: a step of the pair loop holds a block of rows and columns."""

    @property
    def rows(self) -> int: ...

    @property
    def cols(self) -> int: ...


S = TypeVar("S", bound=HasBlock)
K = TypeVar("K")
L = TypeVar("L", bound="Lowering[Any, Any]")

# Kernels of a backend that are kept though no reduction holds them: they are likely to be asked for
# again.
KEPT_KERNELS = 64


def operations_of(values: Iterable[Value]) -> Mapping[str, int]:
    """Arithmetic operations of the IR in some values, by name; loops are counted as they run."""
    counts: Counter[str] = Counter()
    listed = listing(values)
    runs = times(listed, free_indices(listed))
    for value in listed:
        if value.op not in STRUCTURAL:
            counts[value.op] += runs[value]
    return dict(counts)


def is_over_components(nest: Nest) -> bool:
    """Whether the loop that is counted is one over components, of which a pair takes several."""
    return any(value.op in BINDERS for value in nest.pair_values)


@record
class Statistics:
    """The cost of a pair.

    operations    arithmetic operations of the IR per pair, by name; those of a loop count as often
                  as it runs
    instructions  on the host, vector instructions of the innermost loop per vector of pairs; on
                  GPUs, all of its instructions per pair.  If the innermost loop is one over
                  components, both are per component.  Instructions that run only for the few pairs
                  that change a list, such as that of ArgKMin, do not count
    """

    operations: Mapping[str, int]
    instructions: float


class Lowering(ABC, Generic[S, K]):
    """One kernel compiled for one target; stages are computed on demand and kept.

    A backend is a subclass.  It has what is abstract here: it chooses the schedule `S`, writes the
    module, generates code from it and makes a kernel `K` of that, which calls run.

    kernel    the kernel as the frontend built it
    stages    name to text, for every stage in order: "kernel", "simplify", ..., "module.4x2.ll"
              (the schedule's block in the name), ...
    schedule  the layout of the loops
    times     seconds that each stage took which has been made
    formula   what users wrote, if that is known
    """

    ASSEMBLY: ClassVar[tuple[str, str]]  # the last stage's name and suffix
    LOADED: ClassVar[Latest[bytes, Any]]  # the backend's kernels of this process, by their keys

    def __init__(
        self,
        kernel: Kernel,
        context: Context,
        pipeline: tuple[Step, ...],
        *,
        schedule: S | None = None,
    ) -> None:
        self.kernel, self.context, self.pipeline = kernel, context, pipeline
        self.given_schedule = schedule
        self.formula = ""
        self.dumper = Dumper.from_settings(kernel, f"{self.target.name} {context.options}")
        self.dumper.about("target", lambda: f"{self.target.name}, {context.options}")
        self.times: dict[str, float] = {}  # in seconds

    def __repr__(self) -> str:
        return f"<{', '.join(f'{name} {what}' for name, what in self._facts())}>"

    def _repr_html_(self) -> str:
        """What is compiled, as a table for notebooks."""
        return notebooks.facts("A compilation", self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        outputs = self.kernel.outputs
        return [
            ("formula", self.formula or "unknown"),
            ("arguments", ", ".join(f"{p['name']} ({p['kind']})" for p in self.kernel.params)),
            ("reduction", ", ".join(f"{o.reduction} over j of {o.value.type}" for o in outputs)),
            ("dtype", NUMPY_DTYPES[outputs[0].value.dtype].__name__),
            ("target", self.target.name),
        ]

    @property
    def target(self) -> Target:
        """The machine to compile for."""
        return self.context.target

    @cached_property
    def programs(self) -> list[tuple[str, AnyProgram]]:
        """The program after each pass, those of the backend too, by the stage's name."""
        return [*self._rewritten, *self._stages_after(self.nest, self.own_steps())]

    @cached_property
    def _rewritten(self) -> list[tuple[str, AnyProgram]]:
        """The program after each pass of the pipeline, by the stage's name."""
        program = self.dumper.stage("kernel", self.kernel)
        return [("kernel", program), *self._stages_after(program, self.pipeline)]

    def _stages_after(
        self, program: AnyProgram, steps: tuple[Step, ...]
    ) -> Iterator[tuple[str, AnyProgram]]:
        for name, step in zip(stage_names(steps), steps, strict=True):
            with self.timed(name):
                program = step(program, self.context)
            program = self.dumper.stage(name, program)
            yield name, program

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of a block for a stage."""
        start = time.perf_counter()
        yield
        self.times[stage] = self.times.get(stage, 0.0) + time.perf_counter() - start

    @property
    def nest(self) -> Nest:
        """The legal, hoisted nest of loops."""
        program = self._rewritten[-1][1]
        if not isinstance(program, Nest):
            raise CompilerError("the code generator takes a nest of loops, not a kernel")
        return program

    def own_steps(self) -> tuple[Step, ...]:
        """The backend's own passes, which come after the pipeline; they may depend on the nest."""
        return ()

    @cached_property
    def schedule(self) -> S:
        """The layout of the loops: the one that was asked for or the one that is chosen."""
        return self.choose_schedule() if self.given_schedule is None else self.given_schedule

    @abstractmethod
    def choose_schedule(self) -> S:
        """The layout of the loops that suits the nest."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a step of the pair loop."""
        return self.schedule.rows, self.schedule.cols

    def with_schedule(self: L, schedule: Any) -> L:
        """The same compilation with another layout of the loops."""
        made = type(self)(self.kernel, self.context, self.pipeline, schedule=schedule)
        made.dumper.facts |= self.dumper.facts
        return made

    @property
    @abstractmethod
    def module_text(self) -> str:
        """The LLVM module that redcomp writes, before LLVM's optimiser."""

    def dumped_module(self, text: str) -> str:
        """The module's text, or the edited one; raises SizeError for one that is too long."""
        self.dumper.about("schedule", lambda: str(self.schedule))
        text = self.dumper.text(self.file_name("module", "ll"), text)
        check_lines(text)
        return text

    def file_name(self, stage: str, suffix: str) -> str:
        """The dump of a stage that depends on the schedule; a kernel may have several."""
        rows, cols = self.block
        return f"{stage}.{rows}x{cols}.{suffix}"

    @cached_property
    def given_llvm(self) -> tuple[str, Target]:
        """The module that LLVM gets, for which target: an edited one has been optimised already."""
        edited = self.dumper.edited(self.file_name("llvm", "ll"))
        if edited is None:
            text = self.module_text
            return text, code_generation.for_module(self.target, text)
        return edited, replace(self.target, llvm_passes=())

    @cached_property
    def edited_assembly(self) -> str | None:
        """The edited text of the last stage, if there is one."""
        return self.dumper.edited(self.file_name(*self.ASSEMBLY))

    @cached_property
    def llvm(self) -> str:
        """The LLVM module after LLVM's optimiser."""
        return code_generation.optimized_llvm(*self.given_llvm)

    @cached_property
    def asm(self) -> str:
        """The target's assembly: of the host, or PTX."""
        text = self.edited_assembly
        if text is None:
            text = code_generation.assembly(*self.given_llvm)
        self.dumper.ended(lambda: self._last_stages(self.llvm, text))
        return text

    def _last_stages(self, llvm: str, assembly: str) -> dict[str, str]:
        """The stages of LLVM's by the names of their dumps."""
        return {self.file_name("llvm", "ll"): llvm, self.file_name(*self.ASSEMBLY): assembly}

    @cached_property
    def stages(self) -> dict[str, str]:
        """Every stage's text, in order."""
        texts = {name: print_program(program) for name, program in self.programs}
        return {
            **texts,
            self.file_name("module", "ll"): self.module_text,
            **self._last_stages(self.llvm, self.asm),
        }

    @cached_property
    def operations(self) -> Mapping[str, int]:
        """Arithmetic operations of the IR per pair, by name."""
        return operations_of(self.nest.pair_values)

    def load(self) -> K:
        """Compile, or fetch from a cache, and load; a GPU gets the code when it first runs it.

        Raises ArgumentError if the target is another machine's processor.
        """
        start = time.perf_counter()
        kernel: K = once(self.LOADED, self.key, lambda: self._loaded(start))
        return kernel

    def _loaded(self, start: float) -> K:
        code, was_cached = self.object_code()
        with self.timed("loading"):
            kernel = self.kernel_of(code)
        self.report(time.perf_counter() - start, was_cached)
        return kernel

    def object_code(self) -> tuple[bytes, bool]:
        """Machine code, or PTX, from the disk cache if it is there (then True)."""
        cache = default_cache()
        key = self.key
        code = None if cache is None else cache.load(key)
        if code is not None:
            return code, True
        with self.timed("code"):
            code = self.generate()
        if cache is not None:
            cache.store(key, code)
        return code, False

    @abstractmethod
    def generate(self) -> bytes:
        """Machine code, or PTX."""

    @abstractmethod
    def kernel_of(self, code: bytes) -> K:
        """The kernel that runs the code."""

    def report(self, seconds: float, was_cached: bool) -> None:
        """Tell that it has been compiled, where the settings ask for it."""
        how = "loaded from the disk cache" if was_cached else "compiled"
        what = f"{self.target.name}, {self.nest.dtype}, {self.schedule}"
        times = ", ".join(f"{name} {taken * 1e3:.1f}" for name, taken in self.times.items())
        self.dumper.compiled(
            f"{how} in {seconds * 1e3:.1f} ms: {what}",
            f"ms of each stage: {times}",
            lambda: self._last_stages(self.llvm, self.asm),
        )

    @cached_property
    def key(self) -> bytes:
        """A digest of all that the code depends on."""
        (text, target), edited = self.given_llvm, self.edited_assembly
        compiler = [llvmlite.__version__, *target.llvm_passes, *target.llvm_options]
        described = json.dumps([*compiler, target.triple, target.cpu, target.features, edited])
        return hashlib.sha256(f"{described}\n{text}".encode()).digest()
