"""What a pair costs on a GPU: the instructions of the pair loop, and how fast it can be with them.

Counted in the machine code that NVIDIA's assembler makes; nothing is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from redcomp.abi import RUN, kernel_name
from redcomp.ptx.assemble import Assembled, Resources
from redcomp.ptx.ceiling import Ceiling, Occupancy, ceiling, occupancy
from redcomp.ptx.sass import MachineLoop, pair_loop
from redcomp.records import record

# Those that are listed; what is computed once a warp, and branches, are the rest.
PIPES = ("fma", "alu", "xu", "fp64", "tensor", "tensor64", "lsu")


@record
class Cost:
    """What one kernel costs.

    pairs    of an iteration of the loop; or so many components of pairs, if it is one over those
    reached  the ceiling of all instructions of the loop
    """

    pairs: int
    loop: MachineLoop
    resources: Resources
    occupancy: Occupancy
    reached: Ceiling

    @property
    def instructions(self) -> float:
        """Machine instructions a pair."""
        return len(self.loop.executed) / self.pairs

    @property
    def pipes(self) -> Mapping[str, float]:
        """Machine instructions a pair by pipe."""
        counts = {name: self.loop.pipes[name] / self.pairs for name in PIPES}
        return {**counts, "rest": self.instructions - sum(counts.values())}

    @property
    def spills(self) -> int:
        """Bytes a thread that are moved to and from memory because registers do not suffice."""
        return self.resources.spill_stores + self.resources.spill_loads


def costs(
    assembled: Assembled, sass: str, target: str, kernels: Sequence[tuple[int, int, int]]
) -> tuple[Cost, ...]:
    """The costs of the parts' kernels: each has so many threads a block, and pairs of a step.

    Where vectors come in chunks, these are the pairs of a tile, and there is their number.
    """
    made = []
    for number, (threads, pairs, chunks) in enumerate(kernels):
        name = kernel_name(RUN, number)
        loop, taken = pair_loop(sass, name, chunks), assembled.kernels[name]
        made.append(
            Cost(
                pairs,
                loop,
                taken,
                occupancy(target, threads, taken.registers, taken.shared),
                ceiling(loop.work, len(loop.executed), pairs, target),
            )
        )
    return tuple(made)


def clocks(parts: Sequence[Cost]) -> float:
    """Clocks of a multiprocessor a pair at best, which each of the parts takes in turn."""
    return sum(1 / part.reached.pairs for part in parts)


def description(parts: Sequence[Cost], best: Ceiling | None) -> str:
    """What a pair costs, in a line.

    best   the ceiling of its arithmetic alone; None if the loops are over components of pairs
    """
    pipes = {name: sum(part.pipes[name] for part in parts) for name in (*PIPES, "rest")}
    listed = ", ".join(f"{count:.1f} {name}" for name, count in pipes.items() if count)
    unit = "per pair" if best else "of the innermost loop per component"
    warps = min(part.occupancy.warps for part in parts)
    spills = sum(part.spills for part in parts)
    limits = " and ".join(dict.fromkeys(part.reached.limit for part in parts))
    pairs = 1 / clocks(parts)
    reached = f"; at best {pairs:.1f} pairs a clock (limit: {limits})" if best else ""
    bound = best.pairs if best else math.inf
    share = f", {pairs / bound:.0%} of what the arithmetic allows" if bound < math.inf else ""
    kernels = f" of {len(parts)} kernels" if len(parts) > 1 else ""
    return (
        f"{sum(part.instructions for part in parts):.1f} instructions {unit}{kernels} ({listed}); "
        f"{max(part.resources.registers for part in parts)} registers, "
        f"{f'{spills} bytes of spills' if spills else 'no spills'}, "
        f"{warps} warps a multiprocessor{reached}{share}"
    )
