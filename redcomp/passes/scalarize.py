"""scalarize: from operations on vectors to operations on scalars, and loops over long vectors.

Components are pulled: each root asks for its components, which ask for those of their operands.
Vectors of at most `unrolled` components are written out.  For longer ones the position is the
counter of a loop, and whatever depends on it is the loop's body; an element that two loops need is
computed in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from redcomp import ir
from redcomp.errors import CompilerError, SizeError
from redcomp.ir import Nest, Value, component, from_elements, vector_map
from redcomp.limits import MAX_COMPONENTS
from redcomp.ops.access import Position
from redcomp.ops.table import OPERATIONS

# Above this many components a loop replaces straight-line code, unless a target says otherwise: the
# accumulators of a wider result would not fit into the 16 or 32 vector registers that a host has.
UNROLLED = 16


@dataclass(frozen=True, slots=True)
class Unrolling:
    """Vectors of at most so many components are written out.

    operands  those that are computed
    states    those that are carried from pair to pair
    """

    operands: int = UNROLLED
    states: int = UNROLLED


T = TypeVar("T")


def scalarize(nest: Nest, unrolling: Unrolling | None = None) -> Nest:
    """The same nest on scalars; what stays a vector ends in `from_elements` or `map`.

    A state or total of a few components becomes as many scalar ones.  Raises SizeError where that
    takes too many components.
    """
    unrolling = unrolling or Unrolling()
    groups = ("states", "totals", "others")
    carried = {name: _split(getattr(nest, name), unrolling.states) for name in groups}
    parts = {k: v for parts in carried.values() for k, v in parts.items()}
    scalarizer = _Scalarizer(parts, unrolling)

    def components(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(chain.from_iterable(map(scalarizer.components, values)))

    def following(values: tuple[Value, ...]) -> tuple[Value, ...]:
        """As `components`, but a state that stays as it is remains itself."""
        parts = (
            carried["states"][id(v)] if v is state else scalarizer.components(v)
            for v, state in zip(values, nest.states, strict=False)
        )
        return tuple(chain.from_iterable(parts))

    initial = (
        (number,) * len(parts)
        for number, parts in zip(nest.initial, carried["states"].values(), strict=True)
    )
    return replace(
        nest,
        states=_flat(carried["states"]),
        totals=_flat(carried["totals"]),
        others=_flat(carried["others"]),
        initial=tuple(chain.from_iterable(initial)),
        starts=components(nest.starts),
        guards=components(nest.guards),
        adjusts=following(nest.adjusts),
        steps=following(nest.steps),
        merges=components(nest.merges),
        joins=components(nest.joins),
        results=tuple(map(scalarizer.vector, nest.results)),
    )


def _flat(parts: Mapping[int, tuple[Value, ...]]) -> tuple[Value, ...]:
    return tuple(chain.from_iterable(parts.values()))


def _split(variables: tuple[Value, ...], unrolled: int) -> dict[int, tuple[Value, ...]]:
    """What each variable, by `id`, becomes: scalars, or one long vector; numbered anew."""
    made: dict[int, tuple[Value, ...]] = {}
    count = 0
    for old in variables:
        parts = old.dim if old.dim <= unrolled else 1
        type_ = ir.Type(old.dtype, old.dim // parts)
        stem = old["name"].rstrip("0123456789")
        made[id(old)] = tuple(
            ir.variable(f"{stem}{count + n}", old["kind"], count + n, type_) for n in range(parts)
        )
        count += parts
    return made


class _Scalarizer:
    """Memoised components, by value and position; `carried` says what variables become."""

    def __init__(self, carried: Mapping[int, tuple[Value, ...]], unrolling: Unrolling) -> None:
        self._carried, self._unrolling = carried, unrolling
        self._known: dict[tuple[int, object], Value] = {}
        self._alive: list[Value] = []
        self._intern = ir.Interner()
        self._interned: set[int] = set()
        self._level = 0

    def components(self, value: Value) -> tuple[Value, ...]:
        """The components of a value, or one loop over many of them."""
        if value.dim > self._unrolling.states:
            return (self.vector(value),)
        return tuple(self.element(value, k) for k in range(value.dim))

    def vector(self, value: Value) -> Value:
        """All components of a value, as one."""
        if value.dim <= self._unrolling.states:
            return from_elements(self.components(value))
        counter = self._intern(ir.index(value.dim, self._level))
        return vector_map(self._inside(counter, lambda k: self.element(value, k)), counter)

    def element(self, vector: Value, position: Position) -> Value:
        """One component of a value; keeps its own stack, so that chains may have any length."""
        place = self._place(vector, position)
        stack = [(vector, place)]
        while stack:
            value, place = stack[-1]
            key = self._key(value, place)
            if key in self._known:
                stack.pop()
                continue
            missing = self._missing(value, place)
            if missing:
                stack.extend(missing)
                continue
            if len(self._known) >= MAX_COMPONENTS:
                raise SizeError(f"needs more than {MAX_COMPONENTS:,} components of vectors")
            self._known[key] = self._make(value, place)
            self._alive.append(value)
            stack.pop()
        return self._known[self._key(vector, self._place(vector, position))]

    def fold(
        self,
        combine: str,
        initial: Value | None,
        operands: Callable[[Position], tuple[Value, ...]],
        extent: int,
    ) -> Value:
        """See `redcomp.ops.access.Access`."""
        if extent > self._unrolling.operands:
            return self._loop(combine, initial, operands, extent)
        state = initial
        for k in range(extent):
            args = operands(k)
            if state is None:
                state = args[0] * args[1] if combine == "fma" else args[0]
            else:
                state = Value(combine, (*args, state), state.type)
        if state is None:
            raise ValueError("a fold over nothing needs an initial value")
        return state

    def position(self, value: Position, dtype: str) -> Value:
        """See `redcomp.ops.access.Access`."""
        if isinstance(value, int):
            return ir.constant(float(value), dtype)
        return ir.convert(ir.convert(value, "i32"), dtype)

    def _loop(
        self,
        combine: str,
        initial: Value | None,
        operands: Callable[[Position], tuple[Value, ...]],
        extent: int,
    ) -> Value:
        counter = self._intern(ir.index(extent, self._level))
        args = self._inside(counter, operands)
        if initial is None:
            # Sums start from zero; extrema from the first component, which is then compared to
            # itself.
            is_sum = combine in ("add", "fma")
            initial = ir.constant(0.0, args[0].dtype) if is_sum else operands(0)[0]
        return ir.fold(combine, initial, args, counter)

    def _inside(self, counter: Value, body: Callable[[Position], T]) -> T:
        self._level += 1
        try:
            return body(counter)
        finally:
            self._level -= 1

    def _place(self, vector: Value, position: Position) -> Position:
        if vector.dim == 1:
            return 0
        return position if isinstance(position, int) else self._one_of_equal(position)

    def _one_of_equal(self, position: Value) -> Value:
        """One object for all equal positions, by which components are remembered.

        Rules compute positions from the one they are given by a few operations, hence recursion.
        """
        if id(position) not in self._interned:
            args = tuple(map(self._one_of_equal, position.args))
            position = self._intern(position.with_args(args))
            self._interned.add(id(position))
        return position

    def _key(self, value: Value, place: Position) -> tuple[int, object]:
        return id(value), place if isinstance(place, int) else id(place)

    def _missing(self, value: Value, place: Position) -> list[tuple[Value, Position]]:
        if not _is_elementwise(value):
            return []
        wanted = [(arg, self._place(arg, place)) for arg in value.args]
        return [(arg, at) for arg, at in wanted if self._key(arg, at) not in self._known]

    def _make(self, value: Value, place: Position) -> Value:
        if value.op == "variable":
            return self._read(self._carried.get(id(value), (value,)), place)
        if value.op in ("constant", "index"):
            return value
        if value.op == "broadcast":
            return self.element(value.args[0], 0)
        if _is_elementwise(value):
            args = tuple(self._known[self._key(a, self._place(a, place))] for a in value.args)
            return Value(value.op, args, ir.Type(value.dtype), value.attrs, value.span)
        rule = OPERATIONS[value.op].element if value.op in OPERATIONS else None
        if rule is None:
            raise CompilerError(f"scalarize takes operations on vectors, not {value.op!r}")
        return rule(self, value, place)

    def _read(self, parts: tuple[Value, ...], place: Position) -> Value:
        """A component of a variable, which may have become several."""
        if len(parts) == 1:
            return component(parts[0], place)
        if isinstance(place, int):
            return parts[place]
        chosen = parts[0]
        for k in range(1, len(parts)):
            chosen = ir.select(ir.compare("eq", place, k), parts[k], chosen)
        return chosen


def _is_elementwise(value: Value) -> bool:
    row = OPERATIONS.get(value.op)
    return row is not None and row.elementwise
