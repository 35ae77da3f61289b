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


class _Slots(NamedTuple):
    """One reduced output: its states, their initial values, totals, steps, merges and result."""

    states: tuple[Value, ...]
    initial: tuple[float, ...]
    totals: tuple[Value, ...]
    others: tuple[Value, ...]
    steps: tuple[Value, ...]
    merges: tuple[Value, ...]
    joins: tuple[Value, ...]
    result: Value


def accumulate(kernel: Kernel, accumulator: str) -> Nest:
    """The nest of a scalar kernel, nothing hoisted yet; totals are of dtype `accumulator`."""
    first = 0
    slots: list[_Slots] = []
    for output in kernel.outputs:
        build = _reduce_loop if output.value.op == "map" else _reduce_elements
        slots.append(build(output, REDUCTIONS[output.reduction], accumulator, first))
        first += len(slots[-1].states)
    return Nest(
        kernel.params,
        tuple(chain.from_iterable(s.states for s in slots)),
        tuple(chain.from_iterable(s.initial for s in slots)),
        tuple(chain.from_iterable(s.totals for s in slots)),
        tuple(chain.from_iterable(s.others for s in slots)),
        tuple(chain.from_iterable(s.steps for s in slots)),
        tuple(chain.from_iterable(s.merges for s in slots)),
        tuple(chain.from_iterable(s.joins for s in slots)),
        tuple(s.result for s in slots),
    )


def _variables(name: str, kind: Kind, first: int, count: int, type_: Type) -> tuple[Value, ...]:
    return tuple(variable(f"{name}{first + n}", kind, first + n, type_) for n in range(count))


def _reduce_elements(output: Output, row: Reduction, accumulator: str, first: int) -> _Slots:
    """One set of states for each of a few components."""
    value = output.value
    elements = value.args if value.op == "from_elements" else (value,)
    width = len(row.initial)
    count = width * len(elements)
    states = _variables("state", "state", first, count, Type(value.dtype))
    totals = _variables("total", "total", first, count, Type(accumulator))
    others = _variables("other", "total", first, count, Type(accumulator))
    steps: list[Value] = []
    merges: list[Value] = []
    joins: list[Value] = []
    finished: list[Value] = []
    for k, element in enumerate(elements):
        own = slice(k * width, (k + 1) * width)
        steps.extend(row.step(states[own], element))
        converted = tuple(convert(state, accumulator) for state in states[own])
        merges.extend(row.merge(totals[own], converted))
        joins.extend(row.merge(totals[own], others[own]))
        finished.append(row.finish(totals[own]))
    result = _scaled_elements(finished, output.scale, value)
    return _Slots(
        states,
        row.initial * len(elements),
        totals,
        others,
        tuple(steps),
        tuple(merges),
        tuple(joins),
        result,
    )


def _reduce_loop(output: Output, row: Reduction, accumulator: str, first: int) -> _Slots:
    """Vectors of states, and a loop over their components, for many of them."""
    element, counter = output.value.args
    width, dim = len(row.initial), output.value.dim
    states = _variables("state", "state", first, width, Type(element.dtype, dim))
    totals = _variables("total", "total", first, width, Type(accumulator, dim))
    others = _variables("other", "total", first, width, Type(accumulator, dim))

    def loops(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(vector_map(value, counter) for value in values)

    def at(vectors: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(component(vector, counter) for vector in vectors)

    converted = tuple(convert(state, accumulator) for state in at(states))
    scale = output.scale
    scale_element = scale.args[0] if scale is not None and scale.op == "map" else scale
    result = _scaled(row.finish(at(totals)), scale_element, element)
    return _Slots(
        states,
        row.initial,
        totals,
        others,
        loops(row.step(at(states), element)),
        loops(row.merge(at(totals), converted)),
        loops(row.merge(at(totals), at(others))),
        vector_map(result, counter),
    )


def _scaled_elements(finished: list[Value], scale: Value | None, like: Value) -> Value:
    """Every component of the result; a scale may have more of them than the reduced value."""
    if scale is not None and scale.op == "map":  # a scalar was reduced, the scale is a long vector
        element, counter = scale.args
        return vector_map(_scaled(finished[0], element, like), counter)
    scales = scale.args if scale is not None and scale.op == "from_elements" else (scale,)
    dim = max(len(finished), len(scales))
    return from_elements(
        tuple(
            _scaled(finished[k % len(finished)], scales[k % len(scales)], like) for k in range(dim)
        )
    )


def _scaled(total: Value, scale: Value | None, like: Value) -> Value:
    """The result in the kernel's dtype; the product is taken in the wider one."""
    if scale is not None:
        total = total * convert(scale, total.dtype)
    return convert(total, like.dtype)
