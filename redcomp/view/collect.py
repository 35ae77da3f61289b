"""All that the page shows of a compilation, as data that JSON can hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from redcomp.abi import RUN, kernel_name
from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.llvm_backend.host import schedule as host_schedule
from redcomp.llvm_backend.host.machine_code import loop_name
from redcomp.lowering import is_over_components
from redcomp.ptx import schedule as ptx_schedule
from redcomp.view.labels import labels
from redcomp.view.loops import (
    gpu_loops,
    gpu_roofline,
    host_loops,
    host_roofline,
)
from redcomp.view.sameness import Sameness
from redcomp.view.stages import Json, places_of, program_stages, text_stages, texts_of


def collect(given: HostLowering | GpuLowering, formula: str, source: str) -> Json:
    """What the page shows: see `redcomp/view/page.js`, which reads it.

    source   the text that the spans of values point into, or nothing
    """
    # Compiled anew, so that the emitter can tell which values it writes.
    lowering = given.with_schedule(given.given_schedule)
    sameness = Sameness(lowering.programs)
    texts = texts_of(lowering)
    places = places_of(texts, sameness)
    is_gpu = isinstance(lowering, GpuLowering)
    if isinstance(lowering, GpuLowering):
        functions = [kernel_name(RUN, n) for n in range(len(lowering.planned))]
        loops = gpu_loops(lowering, texts, places)
        roofline = gpu_roofline(lowering, loops)
    else:
        functions = [loop_name(n) for n in range(lowering.module.loops)]
        loops = host_loops(lowering, texts, places)
        roofline = host_roofline(lowering, loops)
    families = sorted({*sameness.family.values()})
    named = labels(sameness, source)
    return {
        "formula": formula,
        "target": lowering.target.name,
        "facts": _facts(lowering),
        "stages": [
            *program_stages(sameness, source),
            *text_stages(texts, places, functions, is_gpu),
        ],
        "families": {str(family): named.get(family, "") for family in families},
        "loops": loops,
        "roofline": roofline,
        "schedule": _schedule(lowering),
        "noRoofline": _no_roofline(lowering, loops),
    }


def _no_roofline(lowering: HostLowering | GpuLowering, loops: list[Json]) -> str:
    """Why there is no roofline, where there is none."""
    if is_over_components(lowering.nest):
        return "The loop that is counted is one over components, of which a pair takes several."
    if len(loops) > 1:
        return "There are several pair loops, one after the other."
    return "The costs of the instructions are not known."


_KINDS = {"i": "rows", "j": "columns", "parameter": "parameters", "ij": "pairs", "ji": "pairs"}


def _facts(lowering: HostLowering | GpuLowering) -> Json:
    nest, counts = lowering.nest, lowering.operations
    outputs = [f"{o.reduction} over j of {o.value.type}" for o in lowering.kernel.outputs]
    listed = ", ".join(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda o: -o[1]))
    given: dict[str, list[str]] = {}
    for param in lowering.kernel.params:
        if param["kind"] in _KINDS:
            size = f"({param.dim})" if param.dim > 1 else ""
            given.setdefault(_KINDS[param["kind"]], []).append(f"{param['name']}{size}")
    return {
        "given": "; ".join(f"{kind} {', '.join(names)}" for kind, names in given.items()),
        "result": ", ".join(outputs),
        "target": f"{lowering.target.name} ({lowering.target.cpu}), {nest.dtype}",
        "operations": f"{sum(counts.values())} operations per pair: {listed}",
        "machine": lowering.machine,
    }


_WHY_ON_GPU = (
    "Of the blocks that fit into the registers the one is taken whose pairs need the fewest "
    "clocks, by counts of instructions on each pipe; nothing is measured."
)
_WHY_ON_HOST = (
    "The blocks are listed best first, as measured on a machine with AVX-512 for nests of this "
    "kind; the first one is taken that fits."
)


def _schedule(lowering: HostLowering | GpuLowering) -> Json:
    """The schedule, and what else was considered for the blocks of each pair loop."""
    considered: list[list[dict[str, Any]]] = []
    if isinstance(lowering, GpuLowering):
        for planned in lowering.planned:
            found = ptx_schedule.considered(planned.part.nest, lowering.context)
            block = planned.schedule.rows, planned.schedule.cols
            rows = sorted(found, key=lambda considered: considered.clocks)
            considered.append([asdict(b) | {"taken": (b.rows, b.cols) == block} for b in rows])
        return {"text": str(lowering.schedule), "why": _WHY_ON_GPU, "considered": considered}
    for loop in host_schedule.loops_of(lowering.nest):
        blocks = host_schedule.considered(loop, lowering.context)
        considered.append(
            [
                asdict(b) | {"fits": b.fits, "taken": (b.rows, b.cols) == lowering.block}
                for b in blocks
            ]
        )
    return {"text": str(lowering.schedule), "why": _WHY_ON_HOST, "considered": considered}
