"""accumulate: from "reduce this value over j" to the states, steps and merges that do it.

States live for one tile of columns and have the kernel's dtype; after each tile they are merged
into totals of the accumulator's dtype.  So rounding errors grow with the tile, not with the
columns.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

from redcomp.ir import (
    Kernel,
    Kind,
    Nest,
    Output,
    Type,
    Value,
    component,
    convert,
    from_elements,
    variable,
    vector_map,
)
from redcomp.ops.reductions import REDUCTIONS, Reduction


class _Numbers(NamedTuple):
    """The number of a column within its tile, exact in every dtype, and of the tile's first one."""

    column: Value
    tile: Value


class _Slots(NamedTuple):
    """One reduced output: its states, their initial values, totals, steps, merges and results."""

    states: tuple[Value, ...]
    initial: tuple[float, ...]
    totals: tuple[Value, ...]
    others: tuple[Value, ...]
    steps: tuple[Value, ...]
    merges: tuple[Value, ...]
    joins: tuple[Value, ...]
    results: tuple[Value, ...]


def accumulate(kernel: Kernel, accumulator: str) -> Nest:
    """The nest of a scalar kernel, nothing hoisted yet; totals are of dtype `accumulator`."""
    first = 0
    slots: list[_Slots] = []
    numbers = _Numbers(
        variable("column", "column", 0, Type(kernel.outputs[0].value.dtype)),
        variable("tile", "tile", 0, Type(accumulator)),
    )
    for output in kernel.outputs:
        build = _reduce_loop if output.value.op == "map" else _reduce_elements
        slots.append(build(output, REDUCTIONS[output.reduction], numbers, first))
        first += len(slots[-1].states)
    are_numbered = any(any(REDUCTIONS[o.reduction].is_index) for o in kernel.outputs)
    return Nest(
        (*kernel.params, *(numbers if are_numbered else ())),
        tuple(chain.from_iterable(s.states for s in slots)),
        tuple(chain.from_iterable(s.initial for s in slots)),
        tuple(chain.from_iterable(s.totals for s in slots)),
        tuple(chain.from_iterable(s.others for s in slots)),
        tuple(chain.from_iterable(s.steps for s in slots)),
        tuple(chain.from_iterable(s.merges for s in slots)),
        tuple(chain.from_iterable(s.joins for s in slots)),
        tuple(chain.from_iterable(s.results for s in slots)),
    )


def _variables(name: str, kind: Kind, first: int, count: int, type_: Type) -> tuple[Value, ...]:
    return tuple(variable(f"{name}{first + n}", kind, first + n, type_) for n in range(count))


def _reduce_elements(output: Output, row: Reduction, numbers: _Numbers, first: int) -> _Slots:
    """One set of states for each of a few components."""
    value = output.value
    elements = value.args if value.op == "from_elements" else (value,)
    width = len(row.initial)
    count = width * len(elements)
    states = _variables("state", "state", first, count, Type(value.dtype))
    totals = _variables("total", "total", first, count, Type(numbers.tile.dtype))
    others = _variables("other", "total", first, count, Type(numbers.tile.dtype))
    steps: list[Value] = []
    merges: list[Value] = []
    joins: list[Value] = []
    finished: list[tuple[Value, ...]] = []
    for k, element in enumerate(elements):
        own = slice(k * width, (k + 1) * width)
        steps.extend(row.step(states[own], element, numbers.column))
        converted = _as_totals(states[own], row, numbers.tile)
        merges.extend(row.merge(totals[own], converted))
        joins.extend(row.merge(totals[own], others[own]))
        finished.append(row.finish(totals[own]))
    results = tuple(
        _scaled_elements(list(elements), output.scale, _result_dtype(row, n, value.dtype))
        for n, elements in enumerate(zip(*finished, strict=True))
    )
    return _Slots(
        states,
        row.initial * len(elements),
        totals,
        others,
        tuple(steps),
        tuple(merges),
        tuple(joins),
        results,
    )


def _reduce_loop(output: Output, row: Reduction, numbers: _Numbers, first: int) -> _Slots:
    """Vectors of states, and a loop over their components, for many of them."""
    element, counter = output.value.args
    width, dim = len(row.initial), output.value.dim
    states = _variables("state", "state", first, width, Type(element.dtype, dim))
    totals = _variables("total", "total", first, width, Type(numbers.tile.dtype, dim))
    others = _variables("other", "total", first, width, Type(numbers.tile.dtype, dim))

    def loops(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(vector_map(value, counter) for value in values)

    def at(vectors: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(component(vector, counter) for vector in vectors)

    converted = _as_totals(at(states), row, numbers.tile)
    scale = output.scale
    scale_element = scale.args[0] if scale is not None and scale.op == "map" else scale
    results = tuple(
        vector_map(_scaled(total, scale_element, _result_dtype(row, n, element.dtype)), counter)
        for n, total in enumerate(row.finish(at(totals)))
    )
    return _Slots(
        states,
        row.initial,
        totals,
        others,
        loops(row.step(at(states), element, numbers.column)),
        loops(row.merge(at(totals), converted)),
        loops(row.merge(at(totals), at(others))),
        results,
    )


def _as_totals(states: tuple[Value, ...], row: Reduction, tile: Value) -> tuple[Value, ...]:
    """A tile's states in the totals' dtype; numbers of columns count from the first tile on."""
    wide = (convert(state, tile.dtype) for state in states)
    return tuple(
        state + tile if is_index else state
        for state, is_index in zip(wide, row.is_index, strict=True)
    )


def _result_dtype(row: Reduction, n: int, dtype: str) -> str:
    return "i64" if row.gives_index[n] else dtype


def _scaled_elements(finished: list[Value], scale: Value | None, dtype: str) -> Value:
    """Every component of the result; a scale may have more of them than the reduced value."""
    if scale is not None and scale.op == "map":  # a scalar was reduced, the scale is a long vector
        element, counter = scale.args
        return vector_map(_scaled(finished[0], element, dtype), counter)
    scales = scale.args if scale is not None and scale.op == "from_elements" else (scale,)
    dim = max(len(finished), len(scales))
    return from_elements(
        tuple(
            _scaled(finished[k % len(finished)], scales[k % len(scales)], dtype) for k in range(dim)
        )
    )


def _scaled(total: Value, scale: Value | None, dtype: str) -> Value:
    """The result in its dtype; the product is taken in the wider one."""
    if scale is not None:
        total = total * convert(scale, total.dtype)
    return convert(total, dtype)
