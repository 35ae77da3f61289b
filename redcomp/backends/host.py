"""The backend for hosts: SIMD code for the CPU."""

from __future__ import annotations

from dataclasses import replace

from redcomp.abi import JOIN, RUN
from redcomp.concurrency import Latest, cached_property
from redcomp.errors import SizeError
from redcomp.limits import MAX_SCRATCH
from redcomp.llvm_backend import code_generation
from redcomp.llvm_backend.host.jit import Library
from redcomp.llvm_backend.host.machine_code import LoopBody, pair_loop
from redcomp.llvm_backend.host.schedule import Schedule, choose_schedule
from redcomp.llvm_backend.host.skeleton import HostModule, host_module
from redcomp.llvm_backend.host.targets import check_runs_here
from redcomp.lowering import KEPT_KERNELS, Lowering, Statistics, is_over_components
from redcomp.runtime.host import HostKernel


class HostLowering(Lowering[Schedule, HostKernel]):
    """A kernel compiled for this machine's processor, or another one to read the assembly of."""

    ASSEMBLY = ("asm", "s")
    LOADED = Latest(KEPT_KERNELS)

    def choose_schedule(self) -> Schedule:
        return choose_schedule(self.nest, self.context)

    @cached_property
    def module(self) -> HostModule:
        """The LLVM module and the memory it needs."""
        nest, schedule = self.nest, self.schedule
        with self.timed("module"):
            module = host_module(nest, self.target, schedule)
        if module.scratch_bytes > MAX_SCRATCH:
            raise SizeError(
                f"needs {module.scratch_bytes / 2**30:.1f} GB of memory for its vectors in each "
                f"thread; at most {MAX_SCRATCH / 2**30:g} GB are possible"
            )
        return replace(module, text=self.dumped_module(module.text))

    @property
    def module_text(self) -> str:
        return self.module.text

    @property
    def pair_loop(self) -> LoopBody:
        """The innermost loop of the assembly, see `redcomp.llvm_backend.host.machine_code`.

        Of the first of several, where there are more states than one pair loop carries.
        """
        return self.pair_loops[0]

    @property
    def pair_loops(self) -> tuple[LoopBody, ...]:
        """The innermost loop of each pair loop."""
        return tuple(pair_loop(self.asm, number) for number in range(self.module.loops))

    @property
    def stats(self) -> Statistics:
        """The cost of a pair."""
        rows, cols = self.block
        instructions = sum(loop.vector_instructions for loop in self.pair_loops)
        return Statistics(self.operations, instructions / (rows * cols))

    @property
    def machine(self) -> str:
        """The cost of a pair, in words."""
        loop = "pair loop for"
        if is_over_components(self.nest):
            loop = "loop over components for one component of"
        return (
            f"{self.stats.instructions:.1f} vector instructions of the {loop} "
            f"{self.schedule.lanes} pairs"
        )

    def generate(self) -> bytes:
        if self.edited_assembly is not None:
            from redcomp.llvm_backend.host.assembling import assembled  # nobody else needs it

            return assembled(self.edited_assembly, self.target)
        return code_generation.compile_object(*self.given_llvm)

    def load(self) -> HostKernel:
        check_runs_here(self.target)
        return super().load()

    def kernel_of(self, code: bytes) -> HostKernel:
        module, schedule = self.module, self.schedule
        return HostKernel(
            Library(code, (RUN, JOIN)),
            lanes=schedule.lanes,
            rows=schedule.rows,
            chunk=schedule.chunk,
            tile=schedule.tile,
            operations=sum(self.operations.values()),
            scratch_bytes=module.scratch_bytes,
            total_bytes=module.total_bytes,
            can_split=self.nest.can_split,
            kept=self.nest.kept,
        )
