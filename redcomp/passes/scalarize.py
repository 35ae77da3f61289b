"""scalarize: from operations on vectors to operations on scalars, and loops over long vectors.

Components are pulled: each output asks for its components, which ask for those of their operands.
Vectors of at most `UNROLLED` components are written out.  For longer ones the position is the
counter of a loop, and whatever depends on it is the loop's body; an element that two loops need is
computed in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redcomp import ir
from redcomp.errors import CompilerError
from redcomp.ir import Kernel, Output, Value, component, from_elements, vector_map
from redcomp.ops.table import OPERATIONS
from redcomp.ops.vectors import Position

# Above this many components a loop replaces straight-line code: the accumulators of a wider result
# would not fit into the 16 or 32 vector registers that a host has.
UNROLLED = 16

T = TypeVar("T")


def scalarize(kernel: Kernel) -> Kernel:
    """The same kernel on scalars; vector outputs end in `from_elements` or `map`."""
    scalarizer = _Scalarizer()

    def scalar_output(output: Output) -> Output:
        scale = None if output.scale is None else scalarizer.vector(output.scale)
        return Output(scalarizer.vector(output.value), output.reduction, scale)

    return Kernel(kernel.params, tuple(map(scalar_output, kernel.outputs)))


class _Scalarizer:
    """Memoised components, by value and position."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, object], Value] = {}
        self._alive: list[Value] = []
        self._intern = ir.Interner()
        self._level = 0

    def vector(self, value: Value) -> Value:
        """All components of an output."""
        if value.dim <= UNROLLED:
            return from_elements(tuple(self.element(value, k) for k in range(value.dim)))
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
        """See `redcomp.ops.vectors.Access`."""
        if extent > UNROLLED:
            return self._loop(combine, initial, operands, extent)
        state = initial
        for k in range(extent):
            args = operands(k)
            if state is None:
                state = args[0] * args[1] if combine == "fma" else args[0]
            else:
                state = ir.elementwise(combine, *args, state)
        if state is None:
            raise ValueError("a fold over nothing needs an initial value")
        return state

    def position(self, value: Position, dtype: str) -> Value:
        """See `redcomp.ops.vectors.Access`."""
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
        return position if isinstance(position, int) else self._intern(position)

    def _key(self, value: Value, place: Position) -> tuple[int, object]:
        return id(value), place if isinstance(place, int) else id(place)

    def _missing(self, value: Value, place: Position) -> list[tuple[Value, Position]]:
        if not _is_elementwise(value):
            return []
        wanted = [(arg, self._place(arg, place)) for arg in value.args]
        return [(arg, at) for arg, at in wanted if self._key(arg, at) not in self._known]

    def _make(self, value: Value, place: Position) -> Value:
        if value.op == "variable":
            return component(value, place)
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


def _is_elementwise(value: Value) -> bool:
    row = OPERATIONS.get(value.op)
    return row is not None and row.elementwise
