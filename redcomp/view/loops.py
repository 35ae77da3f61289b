"""The pair loops as data for the page: each instruction with its cost, and what limits the loop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.ir import SIZES, Nest
from redcomp.llvm_backend.control_flow import Instruction
from redcomp.llvm_backend.host import machine_code
from redcomp.lowering import is_over_components, operations_of
from redcomp.ops.table import OPERATIONS
from redcomp.ptx.costs import Cost
from redcomp.ptx.multiprocessor import LSU, WARP, multiprocessor
from redcomp.ptx.sass import pipe_of, taken
from redcomp.view import processors
from redcomp.view.stages import Json, Places, Texts

_HOST = (
    "Costs are those of LLVM's scheduling model for {} ({}). The clocks are a bound: all ports "
    "share the work as evenly as they can, and no instruction waits for a result or for "
    "memory."
)
_NO_MODEL = "LLVM has no scheduling model of {}, so that the instructions have no costs here."
_GPU = (
    "Clocks are those of a multiprocessor of {} for a warp's instruction, by the rates that "
    "NVIDIA's guides name. They are a bound: all pipes are busy side by side, and other warps hide "
    "all waiting."
)
_ROOFLINE = (
    "The point is the bound above, not a measurement. A multiply-add counts as two operations, a "
    "comparison, a selection or a conversion as none."
)
_STORED = re.compile(r"^\s+v?mov\w+\s+%[xyz]mm\d+, .*\(")
_WIDTHS = {"x": 16, "y": 32, "z": 64}


def flops_of(nest: Nest) -> int:
    """Floating-point operations of a pair for which no state is adjusted, as the loop is counted.

    A multiply-add counts as two, comparisons and moves as none.
    """
    operations = operations_of([*nest.guards, *(state.step for state in nest.states)])
    arithmetic = {
        name: n
        for name, n in operations.items()
        if OPERATIONS[name].unit in ("arithmetic", "special")
    }
    return sum(n * (2 if name == "fma" else 1) for name, n in arithmetic.items())


def _row(line: Instruction, numbers: Sequence[int], places: Places) -> Json:
    group, family = places[numbers[line.place]]
    return {
        "text": line.strip().expandtabs(8),
        "place": line.place,
        "group": group,
        "family": family,
    }


# -- hosts -----------------------------------------------------------------------------------------


def host_loops(lowering: HostLowering, texts: Texts, places: Places) -> list[Json]:
    """The pair loops of a host's kernel."""
    model = processors.processor(lowering.target.cpu)
    made = []
    for number, loop in enumerate(lowering.pair_loops):
        rows = [_row(line, texts.assembly_places, places) for line in loop.lines]
        found: Json = {"stage": "asm", "title": machine_code.loop_name(number), "rows": rows}
        found["spills"] = loop.spills
        found["lanes"] = lowering.schedule.lanes
        found["pairs"] = lowering.schedule.lanes * lowering.schedule.rows * lowering.schedule.cols
        found["unit"] = "components of pairs" if is_over_components(lowering.nest) else "pairs"
        found["says"] = _NO_MODEL.format(lowering.target.cpu)
        if model is not None:
            found |= _host_costs(loop.lines, rows, model)
            found["says"] = _HOST.format(lowering.target.cpu, processors.source())
        made.append(found)
    return made


def _host_costs(lines: Sequence[str], rows: Sequence[Json], model: processors.Processor) -> Json:
    """What the processor's model says of the loop; the rows get theirs."""
    for line, row in zip(lines, rows, strict=True):
        cost = model.cost(line)
        if cost is not None:
            row["uops"], row["latency"] = cost.uops, cost.latency
            row["ports"] = [[_names(ports, model), clocks] for ports, clocks in cost.uses]
            row["clocks"] = sum(clocks / len(ports) for ports, clocks in cost.uses)
    bound = processors.bound(lines, model)
    return {
        "model": model.name,
        "width": model.width,
        "clocks": bound.clocks,
        "limit": bound.limit,
        "uops": bound.uops,
        "busy": dict(bound.busy),
        "unknown": sorted(set(bound.unknown)),
    }


def _names(ports: Iterable[str], model: processors.Processor) -> str:
    """A set of ports in short: "p05" of p0 and p5."""
    listed = [port for port in model.ports if port in ports]
    if all(re.fullmatch(r"p\d", port) for port in listed):
        return "p" + "".join(port[1] for port in listed)
    return "+".join(listed)


def host_roofline(lowering: HostLowering, loops: Sequence[Json]) -> Json | None:
    """What limits the loop: arithmetic, or the loads from the first-level cache; by clock."""
    model = processors.processor(lowering.target.cpu)
    multiply, peak, load = _peaks(lowering, model)
    is_inner = is_over_components(lowering.nest)
    if not multiply or not load or len(loops) != 1 or not loops[0].get("clocks") or is_inner:
        return None
    (loop,) = loops
    flops = flops_of(lowering.nest) * loop["pairs"]
    size = SIZES[lowering.nest.dtype]
    read = sum(_bytes_read(row["text"], size) for row in loop["rows"])
    return {
        "unit": "floating-point operations per clock of a core",
        "roofs": [
            {"label": "the peak: multiply-adds, and sums where these leave ports", "rate": peak},
            {"label": "multiplications alone", "rate": multiply},
            {"label": "loads from the first-level cache", "bytes": load},
        ],
        "point": {
            "intensity": flops / max(read, 1),
            "rate": flops / loop["clocks"],
            "label": "pair loop",
        },
        "share": flops / loop["clocks"] / peak,
        "shareOf": "of the peak at best",
        "intensity": "operations per byte that the loop loads",
        "note": _ROOFLINE,
    }


# For each instruction set an instruction on full vectors that multiplies (the suffix says of which
# numbers), how many operations a number takes, one that adds, and one that loads a vector.
_PEAKS = {
    "avx512": ("vfmadd231{} z,z,z", 2, "vadd{} z,z,z", "vmovaps m,z"),
    "avx2": ("vfmadd231{} y,y,y", 2, "vadd{} y,y,y", "vmovaps m,y"),
    "sse2": ("mul{} x,x", 1, "add{} x,x", "movaps m,x"),
    "neon": ("fmla v{},v{},v{}", 2, "fadd v{},v{},v{}", "ldr q,m"),
}
_SUFFIXES = {"f32": ("ps", "4s"), "f64": ("pd", "2d")}


def _peaks(
    lowering: HostLowering, model: processors.Processor | None
) -> tuple[float, float, float]:
    """Operations a clock, of multiplications alone and of all at most, and bytes loaded a clock."""
    target, dtype = lowering.target, lowering.nest.dtype
    if model is None or target.name not in _PEAKS:
        return 0.0, 0.0, 0.0
    multiply, operations, add, load = _PEAKS[target.name]
    suffix = [_SUFFIXES[dtype][target.name == "neon"]] * 3
    size = target.vector_bits // 8
    lanes = size // SIZES[dtype]
    product, total = (model.costs.get(form.format(*suffix)) for form in (multiply, add))
    rate = _rate(product)
    sums = processors.beside(product, total, model.width) if product and total else 0.0
    return lanes * rate, lanes * (rate * operations + sums), _rate(model.costs.get(load)) * size


def _rate(cost: processors.Cost | None) -> float:
    """How many a clock."""
    if cost is None or not cost.uses:
        return 0.0
    return 1 / max(clocks / len(ports) for ports, clocks in cost.uses)


def _bytes_read(text: str, size: int) -> int:
    """Bytes that an instruction reads from memory."""
    if "(" not in text or _STORED.match(f"  {text}"):
        return 0
    if "{1to" in text or re.match(r"v?broadcasts|vbroadcasts|v?movs[sd]\b", text):
        return size
    width = re.search(r"%([xyz])mm", text)
    return _WIDTHS[width[1]] if width else 0


# -- GPUs ------------------------------------------------------------------------------------------


def gpu_loops(lowering: GpuLowering, texts: Texts, places: Places) -> list[Json]:
    """The pair loops of a GPU's kernels; none without NVIDIA's programs."""
    if not texts.machine:
        return []
    made = []
    for (kernel, (_, numbers)), cost in zip(texts.machine.items(), lowering.costs, strict=True):
        rows = []
        for line in cost.loop.lines:
            row = _row(line, numbers, places)
            pipe = pipe_of(line)
            clocks = (
                multiprocessor(lowering.target.name).clocks(pipe) if pipe in _timed(lowering) else 0
            )
            rows.append(
                row | {"ports": [[pipe, taken(line) * clocks]], "clocks": taken(line) * clocks}
            )
        unit = "components of pairs" if is_over_components(lowering.nest) else "pairs of a warp"
        found: Json = {"stage": "sass", "title": kernel, "rows": rows, "unit": unit, "lanes": WARP}
        made.append(found | {"says": _GPU.format(lowering.target.name)} | _gpu_costs(cost))
    return made


def _timed(lowering: GpuLowering) -> Mapping[str, float]:
    return multiprocessor(lowering.target.name).results


def _gpu_costs(cost: Cost) -> Json:
    clocks = cost.reached.clocks
    return {
        "pairs": cost.pairs * WARP,
        "clocks": clocks[cost.reached.limit] * cost.pairs * WARP,
        "limit": cost.reached.limit,
        "busy": {name: each * cost.pairs * WARP for name, each in clocks.items()},
        "registers": cost.resources.registers,
        "shared": cost.resources.shared,
        "spills": cost.spills,
        "warps": cost.occupancy.warps,
        "blocks": cost.occupancy.blocks,
        "occupancy": cost.occupancy.share,
        "unknown": [],
    }


def gpu_roofline(lowering: GpuLowering, loops: Sequence[Json]) -> Json | None:
    """What limits the loop: arithmetic, shared memory, or special functions; by clock."""
    best = lowering.ideal
    if best is None or len(loops) != 1:
        return None
    (loop,) = loops
    results = multiprocessor(lowering.target.name).results
    flops = flops_of(lowering.nest)
    rate = loop["pairs"] / loop["clocks"] * flops
    words = sum(row["clocks"] for row in loop["rows"] if row["ports"][0][0] == LSU)
    read = words * results[LSU] * 4 / loop["pairs"]
    peak = results["fp64" if lowering.nest.dtype == "f64" else "fma"]
    roofs = [
        {"label": "multiply-adds", "rate": 2 * peak},
        {"label": "without multiply-adds", "rate": peak},
        {"label": "shared memory", "bytes": results[LSU] * 4},
        {"label": f"what the arithmetic allows ({best.limit})", "rate": best.pairs * flops},
    ]
    return {
        "unit": "floating-point operations per clock of a multiprocessor",
        "roofs": roofs,
        "point": {"intensity": flops / max(read, 1e-9), "rate": rate, "label": "pair loop"},
        "share": loop["pairs"] / loop["clocks"] / best.pairs,
        "shareOf": "of what the arithmetic allows",
        "intensity": "operations per byte that the loop loads from shared memory",
        "note": _ROOFLINE,
    }
