"""The backend for NVIDIA GPUs: PTX, which their driver assembles."""

from __future__ import annotations

from dataclasses import replace

from redcomp.concurrency import Latest, cached_property
from redcomp.errors import CompilerError
from redcomp.ir import Partition
from redcomp.lowering import KEPT_KERNELS, Lowering, Statistics
from redcomp.passes.pipeline import Step
from redcomp.ptx.assemble import Assembled, ToolError, assemble, disassemble
from redcomp.ptx.ceiling import Ceiling, ideal
from redcomp.ptx.costs import Cost, costs, description
from redcomp.ptx.sass import MachineLoop
from redcomp.ptx.schedule import Plan, PlannedPart, PtxSchedule, choose_plan, planned
from redcomp.ptx.skeleton import PtxModule, ptx_module
from redcomp.ptx.slices import chunks
from redcomp.runtime.gpu import GpuKernel


class GpuLowering(Lowering[PtxSchedule, GpuKernel]):
    """A kernel compiled for an NVIDIA GPU, which need not be there."""

    ASSEMBLY = ("ptx", "ptx")
    LOADED = Latest(KEPT_KERNELS)

    def choose_schedule(self) -> PtxSchedule:
        return self.planned[0].schedule

    def own_steps(self) -> tuple[Step, ...]:
        return (Step("partition", (("most", self.plan.most),)),)

    @cached_property
    def plan(self) -> Plan:
        """The partition that suits the nest, unless its stage is edited."""
        return choose_plan(self.nest, self.context, self.given_schedule)

    @cached_property
    def planned(self) -> tuple[PlannedPart, ...]:
        """The parts that results are computed in, and their schedules."""
        _, partition = self.programs[-1]
        if not isinstance(partition, Partition):
            raise CompilerError("kernels of GPUs are made of the parts of a nest")
        if partition is self.plan.partition:
            return self.plan.parts
        return planned(partition, self.context, self.given_schedule)

    @cached_property
    def module(self) -> PtxModule:
        """The LLVM module and the memory it needs."""
        planned = self.planned
        with self.timed("module"):
            module = ptx_module(planned, len(self.nest.results), self.target)
        return replace(module, text=self.dumped_module(module.text))

    @property
    def module_text(self) -> str:
        return self.module.text

    @cached_property
    def assembled(self) -> Assembled:
        """What NVIDIA's assembler makes of the kernels; ToolError if it is not installed."""
        return assemble(self.asm, self.target.name)

    @cached_property
    def sass(self) -> str:
        """The machine code as text; ToolError if NVIDIA's programs are not installed."""
        return disassemble(self.assembled.code)

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """What the kernel of each part costs; needs NVIDIA's assembler and disassembler."""
        kernels = []
        for one in self.planned:
            schedule, count = one.schedule, chunks(one.part.nest)
            columns = schedule.tile // schedule.sharing if count else schedule.cols
            kernels.append((schedule.threads, schedule.rows * columns, count))
        return costs(self.assembled, self.sass, self.target.name, kernels)

    @property
    def pair_loops(self) -> tuple[MachineLoop, ...]:
        """The pair loop of each part's kernel; ToolError if NVIDIA's programs are missing."""
        return tuple(cost.loop for cost in self.costs)

    @property
    def stats(self) -> Statistics:
        """The cost of a pair; needs NVIDIA's assembler and disassembler."""
        return Statistics(self.operations, sum(cost.instructions for cost in self.costs))

    @property
    def ideal(self) -> Ceiling | None:
        """A bound for pairs where no state is adjusted; None if there are loops in them."""
        return ideal(self.nest, self.target.name)

    @property
    def machine(self) -> str:
        """The cost of a pair, in words; without the assembler, how to get it."""
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

    def kernel_of(self, code: bytes) -> GpuKernel:
        return GpuKernel(code.decode(), self.module.launches)
