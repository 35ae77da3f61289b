"""accumulate: from a kernel to a nest: instantiate each reduction's states, steps and merges.

States live for one tile of columns and have the kernel's dtype; after each tile they are merged
into totals of the accumulator's dtype.  So rounding errors grow with the size of a tile, not with
the number of columns.  The states of a reduction that keeps several columns, such as `kmin`,
persist from tile to tile instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from redcomp.ir import (
    Carried,
    Kernel,
    Kind,
    Nest,
    Output,
    Type,
    Value,
    broadcast,
    constant,
    convert,
    number_variable,
    topological,
    variable,
)
from redcomp.ops.reductions import REDUCTIONS, Columns, Reduction, State
from redcomp.passes.registry import compiler_pass
from redcomp.records import record
from redcomp.target import Context


@record
class _Slot:
    """One reduced output and what carries it, one of each for a state."""

    output: Output
    row: Reduction
    specs: tuple[State, ...]
    states: tuple[Value, ...]
    totals: tuple[Value, ...]
    others: tuple[Value, ...]


@compiler_pass
def accumulate(kernel: Kernel, context: Context) -> Nest:
    """The nest of a kernel, nothing hoisted yet; totals are of the accumulator's dtype."""
    accumulator, use_fast_math = context.options.accumulator, context.use_fast_math
    dtype = kernel.outputs[0].value.dtype
    columns = Columns(
        variable("column", "column", 0, Type(dtype)),
        _known(kernel, number_variable("j_index", dtype)),
    )
    tile = variable("tile", "tile", 0, Type(accumulator))
    slots = list(_slots(kernel, accumulator, use_fast_math))
    can_split = all(_can_be_joined(slot.row, context) for slot in slots)
    states = tuple(s for slot in slots for s in _carried(slot, columns, tile, can_split))
    read = set(topological(v for s in states for v in (s.adjust, s.step, s.merge)))
    own = set(kernel.params)
    numbers = (v for v in (*columns, tile) if v in read and v not in own)
    return Nest(
        params=(*kernel.params, *numbers),
        states=states,
        guards=tuple(guard for slot in slots for guard in _guards(slot)),
        results=tuple(result for slot in slots for result in _results(slot)),
    )


def _can_be_joined(row: Reduction, context: Context) -> bool:
    """Whether the columns may be split, and calls of this height pay for the code of joins."""
    is_worth_it = not row.keeps or context.height in context.target.splits_lists
    return row.join_any is not None and is_worth_it


def _known(kernel: Kernel, number: Value) -> Value:
    """The kernel's own variable of this kind, if its formula has it."""
    return next((v for v in kernel.params if v["kind"] == number["kind"]), number)


def _slots(kernel: Kernel, accumulator: str, use_fast_math: bool) -> Iterator[_Slot]:
    first = 0
    for output in kernel.outputs:
        row, value = REDUCTIONS[output.reduction], output.value
        if use_fast_math and row.fast is not None:
            row = row.fast
        specs = row.states(value.dim, output.count)
        states = _variables("state", first, [Type(s.dtype(value.dtype), s.dim) for s in specs])
        wide = [Type(accumulator, spec.dim) for spec in specs]
        totals = _variables("total", first, wide)
        others = _variables("other", first, wide)
        yield _Slot(output, row, specs, states, totals, others)
        first += len(specs)


def _variables(name: str, first: int, types: list[Type]) -> tuple[Value, ...]:
    kind: Kind = "state" if name == "state" else "total"
    return tuple(
        variable(f"{name}{first + n}", kind, first + n, type_) for n, type_ in enumerate(types)
    )


def _carried(slot: _Slot, columns: Columns, tile: Value, can_split: bool) -> tuple[Carried, ...]:
    """The states of an output."""
    row, value = slot.row, slot.output.value
    return Carried.several(
        states=slot.states,
        initial=[spec.first(value.dtype) for spec in slot.specs],
        totals=slot.totals,
        others=slot.others,
        starts=_starts(slot),
        adjusts=() if row.adjust is None else row.adjust(slot.states, value, columns),
        steps=row.step(slot.states, value, columns),
        merges=_merges(slot, tile),
        joins=row.join_any(slot.totals, slot.others) if can_split and row.join_any else (),
    )


def _starts(slot: _Slot) -> tuple[Value, ...]:
    """Neutral states, or what the tiles before have come to."""
    return tuple(
        convert(total, state.dtype)
        if spec.resumes
        else broadcast(constant(spec.first(state.dtype), state.dtype), state.dim)
        for spec, state, total in zip(slot.specs, slot.states, slot.totals, strict=True)
    )


def _merges(slot: _Slot, tile: Value) -> tuple[Value, ...]:
    """Totals and a tile's states; numbers of columns count from the first tile on."""
    wide = tuple(
        convert(state, tile.dtype) + tile if spec.kind == "column" else convert(state, tile.dtype)
        for spec, state in zip(slot.specs, slot.states, strict=True)
    )
    return wide if slot.row.merge is None else slot.row.merge(slot.totals, wide)


def _guards(slot: _Slot) -> tuple[Value, ...]:
    guard = slot.row.guard
    return () if guard is None else (guard(slot.states, slot.output.value),)


def _results(slot: _Slot) -> tuple[Value, ...]:
    """The results in their dtype; a scale is applied in the wider one."""
    scale = slot.output.scale
    finished = slot.row.finish(slot.totals)
    if scale is not None:
        finished = tuple(_scaled(total, scale) for total in finished)
    return tuple(
        convert(total, "i64" if result.kind == "index" else slot.output.value.dtype)
        for result, total in zip(slot.row.results, finished, strict=True)
    )


def _scaled(total: Value, scale: Value) -> Value:
    """A total times a scale; the inverse of a huge number may be too small for any number."""
    if scale.op == "divide":
        one, divisor = scale.args
        if one.is_constant and one["value"] == 1:
            return total / convert(divisor, total.dtype)
    return total * convert(scale, total.dtype)
