"""A summary of one compilation, on one screen."""

from __future__ import annotations

from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.ir import Block, Nest, Value, stored_of, topological
from redcomp.text import print_block


def explain(lowering: HostLowering | GpuLowering, formula: str) -> str:
    """Formula, results, target, schedule, cost of a pair, and the pair loop's program."""
    nest, counts = lowering.nest, lowering.operations
    operations = ", ".join(
        f"{count} {name}" for name, count in sorted(counts.items(), key=lambda o: -o[1])
    )
    results = ", ".join(
        f"{output.reduction} over j of {output.value.type}" for output in lowering.kernel.outputs
    )
    hoisted = ", ".join(
        f"{len(group)} {what}"
        for group, what in (
            (nest.uniform, "per call"),
            (nest.rows, "per row"),
            (nest.columns, "per column"),
            (nest.products, "per pair by products of matrices"),
            (nest.updates, "per column for products of matrices"),
        )
        if group
    )
    target, changes = lowering.target, _changes(nest)
    stored = {stored_of(param) for param in nest.params} - {""}
    dtype = f"{nest.dtype}, from arrays of {', '.join(stored)}" if stored else nest.dtype
    lines = [
        f"formula    {formula}",
        f"result     {results}",
        f"target     {target.name} ({target.cpu}), {dtype}",
        f"schedule   {lowering.schedule}",
        f"hoisted    {hoisted or 'nothing'}",
        f"per pair   {sum(counts.values())} operations: {operations}",
        f"machine    {lowering.machine}",
        "",
        "the step of the pair loop:",
        print_block(Block(_inputs(changes), changes)),
    ]
    return "\n".join(lines)


def _changes(nest: Nest) -> tuple[Value, ...]:
    """The guards, and what the states that a pair can change become."""
    adjusts = [s.adjust for s in nest.states if s.adjust is not s.variable]
    steps = [s.step for s in nest.states if s.step is not s.variable]
    return (*nest.guards, *adjusts, *steps)


def _inputs(roots: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(value for value in topological(roots) if value.op == "variable")
