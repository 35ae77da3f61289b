"""trace: the weighted sum of the diagonal of a Jacobian, without the Jacobian.

The derivatives of a value along all d components of a variable are a matrix.  It is propagated
through the graph as `diag(diagonal) + sum of outer(direction, weights)`, so elementwise operations
and sums over components, of which most formulas consist, cost as much as one derivative.  Other
operations that mix components (Concat, a product with a matrix) cost one derivative per component.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from redcomp.ir import Type, Value, broadcast, constant, topological, zero
from redcomp.limits import MAX_OPERATIONS
from redcomp.ops.table import OPERATIONS, ShapeError, apply
from redcomp.passes.grad import pull_back
from redcomp.passes.guarded import Guarded, Supports
from redcomp.passes.jvp import Tangents, jvp, push_forward


@dataclass(slots=True)
class _Jacobian:
    """diag(diagonal) + sum of outer(direction, weights), the directions by the weights."""

    diagonal: Guarded | None = None
    outers: dict[Guarded, Guarded] = field(default_factory=dict)

    def add(self, direction: Guarded, weights: Guarded) -> None:
        known = self.outers.get(weights)
        self.outers[weights] = direction if known is None else known.plus(direction)


def trace(output: Value, wrt: Value, weights: Value) -> Value:
    """sum over k of weights[k] * (d output[k] / d wrt[k]); a scalar weight serves all.

    `output` and the variable `wrt` have the same dimension.  Raises ShapeError if this becomes too
    much.
    """
    if wrt.dim == 1:
        return jvp(output, (wrt,), (weights,))
    jacobian = _Sweep(wrt).run(output)
    terms = [] if jacobian.diagonal is None else [jacobian.diagonal]
    terms += [direction.times(weights) for weights, direction in jacobian.outers.items()]
    if not terms:
        return zero(Type(output.dtype))
    weighted = Guarded(weights).fit(wrt.type).times(functools.reduce(Guarded.plus, terms))
    return weighted.fit(Type(output.dtype)).settled()


class _Sweep:
    """The Jacobians of all values that depend on the variable, arguments first."""

    def __init__(self, wrt: Value) -> None:
        self.wrt, self.steps = wrt, 0
        self.one = constant(1.0, wrt.dtype)
        self.supports = Supports()
        self.units: dict[int, Guarded] = {}
        self.known = {wrt: _Jacobian(Guarded(broadcast(self.one, wrt.dim)))}

    def run(self, output: Value) -> _Jacobian:
        for value in topological([output]):
            if value not in self.known and any(arg in self.known for arg in value.args):
                self.known[value] = self.forward(value)
        return self.known.get(output, _Jacobian())

    def forward(self, value: Value) -> _Jacobian:
        arguments = [self.known.get(arg) or _Jacobian() for arg in value.args]
        result = _Jacobian()
        diagonals = [jacobian.diagonal for jacobian in arguments]
        if value.op in OPERATIONS and OPERATIONS[value.op].elementwise:
            result.diagonal = self.push(value, diagonals)
        elif any(diagonal is not None for diagonal in diagonals):
            self.mix(value, diagonals, result)
        for weights in dict.fromkeys(key for jacobian in arguments for key in jacobian.outers):
            tangents = [jacobian.outers.get(weights) for jacobian in arguments]
            direction = self.push(value, tangents)
            if direction is not None:
                result.add(direction, weights)
        return result

    def mix(self, value: Value, diagonals: Tangents, result: _Jacobian) -> None:
        """Add the derivatives along diagonals that the operation takes apart, as outer products."""
        self.check(min(value.dim, self.wrt.dim))
        if value.dim <= self.wrt.dim:
            for row in range(value.dim):
                place = _unit(self.one, value.dim, row)
                weights = self.pull(place, value, diagonals)
                if weights is not None:
                    result.add(place, weights)
            return
        for column in range(self.wrt.dim):
            # The same object for every operation, so that their outer products merge.
            unit = self.units.setdefault(column, _unit(self.one, self.wrt.dim, column))
            tangents = [None if d is None else d.times(unit) for d in diagonals]
            direction = self.push(value, tangents)
            if direction is not None:
                result.add(direction, unit)

    def push(self, value: Value, tangents: Tangents) -> Guarded | None:
        self.count()
        return push_forward(value, tangents, self.supports)

    def pull(self, e: Guarded, value: Value, diagonals: Tangents) -> Guarded | None:
        """One row of the result's Jacobian."""
        self.count()
        moving = {a for a, d in zip(value.args, diagonals, strict=True) if d is not None}
        row: Guarded | None = None
        parts = pull_back(e, value, moving, self.supports)
        for arg, diagonal, part in zip(value.args, diagonals, parts, strict=True):
            if diagonal is not None and part is not None:
                entry = part.fit(arg.type).times(diagonal)
                row = entry if row is None else row.plus(entry)
        return row

    def count(self) -> None:
        self.check(1)
        self.steps += 1

    def check(self, steps: int) -> None:
        """Refuse so many further steps before any is taken, if they are too many."""
        if self.steps + steps > MAX_OPERATIONS:
            raise ShapeError(f"the derivative takes more than {MAX_OPERATIONS:,} operations")


def _unit(one: Value, dim: int, place: int) -> Guarded:
    if dim == 1:
        return Guarded(one)
    unit, is_there = (apply("elem_t", v, n=dim, m=place) for v in (one, constant(True, "i1")))
    return Guarded(unit, is_there)
