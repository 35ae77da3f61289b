"""scalarize: from operations on vectors to operations on scalars, and loops over long vectors.

Components are computed on demand: each root requests its components, which request those of their
operands.  Vectors of at most `unrolled` components are unrolled.  For longer ones the position is
the counter of a loop, and all values that depend on it are the loop's body; an element that two
loops need is computed in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from redcomp import ir
from redcomp.errors import CompilerError, SizeError
from redcomp.ir import (
    Carried,
    Hoisted,
    Nest,
    Value,
    component,
    from_elements,
    topological,
    vector_map,
)
from redcomp.limits import check_cells, check_states, check_values
from redcomp.ops.access import Position, Reader
from redcomp.ops.table import OPERATIONS
from redcomp.passes.registry import compiler_pass
from redcomp.passes.size import check_size, is_short
from redcomp.records import record
from redcomp.target import Context, Role, Target, Unrolling

T = TypeVar("T")

# Rules ask for components from within rules.  Deeper than this they start from the bottom instead.
_DEEPEST = 40
# Components after which values are counted for the first time.
_FIRST_COUNT = 1024

# A component of a value, and how many loops it is in.
_Wanted = tuple[Value, Position, int]


class _WantedFirst(Exception):  # noqa: N818  it is no error
    """Components that are to be computed first, each of them after those that follow it."""

    def __init__(self, wanted: list[_Wanted]) -> None:
        super().__init__()
        self.wanted = wanted


@compiler_pass
def scalarize(
    nest: Nest,
    context: Context,
    *,
    operands: int | None = None,
    states: int | None = None,
    lists: int | None = None,
    scans: int | None = None,
) -> Nest:
    """The same nest on scalars; what stays a vector ends in `from_elements` or `map`.

    As much is written out as the target's registers and patience allow, or what options say (see
    `Unrolling`; what they leave out has the target's first choice).  Raises SizeError where that
    takes too many components, or more code than a kernel may have.
    """
    target = context.target
    check_states(len(nest.states))
    given = {"operands": operands, "states": states, "lists": lists, "scans": scans}
    wanted = {name: most for name, most in given.items() if most is not None}
    if wanted:
        made = written_out_by(nest, replace(target.unrolling[nest.dtype][0], **wanted))
    else:
        made = _suited(nest, target)
    check_states(len(made.states))
    return check_size(made, target.primitives)


class _Choices:
    """What an unrolling says of the vectors of a nest, as far as it has been asked."""

    def __init__(self, unrolling: Unrolling) -> None:
        self.unrolling = unrolling
        self._said: dict[tuple[int, tuple[Role, ...]], bool] = {}

    def writes_out(self, dim: int, *roles: Role) -> bool:
        """Whether vectors of so many components are written out in any of these roles."""
        said = self._said.get((dim, roles))
        if said is None:
            said = self._said[dim, roles] = self.unrolling.writes_out(dim, *roles)
        return said

    def are_those_of(self, other: Unrolling) -> bool:
        """Whether the other one says the same, so that the same comes of it."""
        return all(
            other.writes_out(dim, *roles) == said for (dim, roles), said in self._said.items()
        )


@record
class _Attempt:
    """What has come of an unrolling: a nest, or an error if there were too many values."""

    choices: _Choices
    outcome: Nest | SizeError

    @classmethod
    def at(cls, nest: Nest, unrolling: Unrolling) -> _Attempt:
        choices = _Choices(unrolling)
        try:
            return cls(choices, _written_out(nest, choices))
        except SizeError as error:
            return cls(choices, error)

    def nest(self) -> Nest:
        """The nest; raises the error."""
        if isinstance(self.outcome, SizeError):
            raise self.outcome
        return self.outcome


def _suited(nest: Nest, target: Target) -> Nest:
    """The nest by the first of the target's unrollings that keeps it short, else the last one."""
    *preferred, last = target.unrolling[nest.dtype]
    most = max(target.carried.get(nest.dtype, (0,)))
    tried: list[_Attempt] = []
    for unrolling in preferred:
        if not any(attempt.choices.are_those_of(unrolling) for attempt in tried):
            attempt = _Attempt.at(nest, unrolling)
            made = attempt.outcome
            if isinstance(made, Nest) and is_short(made, most, target.primitives):
                return made
            tried.append(attempt)
    same = (attempt for attempt in tried if attempt.choices.are_those_of(last))
    return (next(same, None) or _Attempt.at(nest, last)).nest()


def written_out_by(nest: Nest, unrolling: Unrolling) -> Nest:
    """The nest on scalars, vectors written out as `unrolling` says.

    A state or total of a few components becomes as many scalar ones.  Raises SizeError where that
    takes too many components.
    """
    return _written_out(nest, _Choices(unrolling))


def _written_out(nest: Nest, choices: _Choices) -> Nest:
    divided = list(_divided(nest.states, choices))
    carried = {old: made for state in divided for old, made in state.variables.items()}
    scalarizer = _Scalarizer(carried, choices)

    def result(value: Value) -> Value:
        # Threads that share a wide state have each some of its components, found at computed
        # places.
        is_divided = not nest.updates and choices.writes_out(value.dim, "states", "lists")
        return scalarizer.vector(value, is_divided)

    guards = (scalarizer.components(g, choices.writes_out(g.dim, "states")) for g in nest.guards)
    return replace(
        nest,
        states=tuple(chain.from_iterable(state.scalarized(scalarizer) for state in divided)),
        guards=tuple(chain.from_iterable(guards)),
        results=tuple(map(result, nest.results)),
        products=tuple(scalarizer.product(product) for product in nest.products),
        updates=tuple(replace(h, definition=scalarizer.vector(h.definition)) for h in nest.updates),
    )


@record
class _Divided:
    """A state, and what each of its variables becomes: as many scalars, or one long vector."""

    whole: Carried
    variables: dict[Value, tuple[Value, ...]]

    def scalarized(self, scalarizer: _Scalarizer) -> tuple[Carried, ...]:
        """The states that it becomes."""
        whole = self.whole
        variables = self.variables[whole.variable]
        is_written_out = len(variables) == whole.variable.dim

        def components(value: Value) -> tuple[Value, ...]:
            return scalarizer.components(value, is_written_out)

        def following(value: Value) -> tuple[Value, ...]:
            """A state that stays as it is remains itself."""
            if value.op == "update":
                _, factor, vector = value.args
                return (value.with_args((variables[0], scalarizer.element(factor, 0), vector)),)
            return variables if value is whole.variable else components(value)

        return Carried.several(
            states=variables,
            initial=[whole.initial] * len(variables),
            totals=self.variables[whole.total],
            others=self.variables[whole.other],
            starts=components(whole.start),
            adjusts=following(whole.adjust),
            steps=following(whole.step),
            merges=components(whole.merge),
            joins=() if whole.join is None else components(whole.join),
        )


def _divided(states: Iterable[Carried], choices: _Choices) -> Iterator[_Divided]:
    """The states, and their variables divided as the choices say; numbered anew."""
    first = 0
    for state in states:
        role: Role = "lists" if state.step is state.variable else "states"
        is_whole = state.step.op == "update" or not choices.writes_out(state.variable.dim, role)
        count = 1 if is_whole else state.variable.dim
        olds = (state.variable, state.total, state.other)
        yield _Divided(state, {old: tuple(_parts(old, first, count)) for old in olds})
        first += count


def _parts(old: Value, first: int, count: int) -> Iterator[Value]:
    """So many variables in place of one."""
    type_ = ir.Type(old.dtype, old.dim // count)
    stem = old["name"].rstrip("0123456789")
    for n in range(first, first + count):
        yield ir.variable(f"{stem}{n}", old["kind"], n, type_)


class _Scalarizer:
    """Memoised components, by value and position.

    carried  what variables become
    choices  which vectors are written out
    """

    def __init__(self, carried: Mapping[Value, tuple[Value, ...]], choices: _Choices) -> None:
        self._carried, self._choices = carried, choices
        self._known: dict[tuple[Value, object], Value] = {}
        self._intern = ir.Interner()
        self._interned: set[Value] = set()
        self._made_once: dict[tuple[Value, ...], Any] = {}
        self._level = 0
        self._depth = 0
        self._made = 0
        self._counted_at = _FIRST_COUNT
        self._cells = 0

    def components(self, value: Value, is_written_out: bool) -> tuple[Value, ...]:
        """The components of a value, or one loop over them."""
        if value.dim > 1 and not is_written_out:
            return (self.vector(value),)
        return tuple(self.element(value, k) for k in range(value.dim))

    def vector(self, value: Value, is_written_out: bool = False) -> Value:
        """All components of a value, as one, which a loop makes unless they are written out."""
        if value.dim == 1 or is_written_out:
            return from_elements(self.components(value, is_written_out))
        counter = self._intern(ir.index(value.dim, self._level))
        return vector_map(self._inside(counter, lambda k: self.element(value, k)), counter)

    def product(self, product: Hoisted) -> Hoisted:
        """The definition of a product on vectors whose components are computed one by one."""
        return Hoisted(product.variable, self.element(product.definition, 0))

    def element(self, vector: Value, position: Position) -> Value:
        """One component of a value; keeps its own stack, so that chains may have any length."""
        place = self._place(vector, position)
        key = (vector, place)
        if key not in self._known:
            if self._depth == _DEEPEST:
                raise _WantedFirst([(vector, place, self._level)])
            self._depth += 1
            try:
                self._compute(vector, place)
            finally:
                self._depth -= 1
        return self._known[key]

    def _compute(self, vector: Value, place: Position) -> None:
        known = self._known
        stack: list[_Wanted] = [(vector, place, self._level)]
        while stack:
            value, place, level = stack[-1]
            if (value, place) in known:
                stack.pop()
            elif _is_elementwise(value):
                wanted = [(arg, self._place(arg, place)) for arg in value.args]
                missing = [(*key, level) for key in wanted if key not in known]
                if missing:
                    stack += missing
                else:
                    known[value, place] = self._elementwise(value, [known[key] for key in wanted])
            else:
                try:
                    known[value, place] = self._at_level(level, value, place)
                except _WantedFirst as first:
                    # What has been begun is on the stack too, so that each goes on by itself.
                    stack += first.wanted
                    if self._depth > 1:
                        raise _WantedFirst(stack) from None

    def _elementwise(self, value: Value, args: list[Value]) -> Value:
        """A component of an elementwise operation, from those of its arguments."""
        self._count()
        type_ = value.type if value.type.dim == 1 else ir.Type(value.dtype)
        return Value(value.op, tuple(args), type_, value.attrs, value.span)

    def _count(self) -> None:
        """Components are counted one by one; what rules made of them, each time they double."""
        self._made += 1
        check_values(self._made)
        if self._made == self._counted_at:
            self._counted_at *= 2
            check_values(sum(1 for _ in topological(self._known.values())))

    def _at_level(self, level: int, value: Value, place: Position) -> Value:
        self._count()
        outer, self._level = self._level, level
        try:
            return self._make(value, place)
        finally:
            self._level = outer

    def fold(
        self,
        combine: str,
        initial: Value | None,
        operands: Callable[[Position], tuple[Value, ...]],
        extent: int,
    ) -> Value:
        """See `redcomp.ops.access.Access`."""
        if not self._choices.writes_out(extent, "operands"):
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

    def scan(
        self, vector: Value, cell: Callable[[Reader, Position], Value], position: Position
    ) -> Value:
        """See `redcomp.ops.access.Access`."""
        written_out = isinstance(position, int) and self._choices.writes_out(vector.dim, "scans")
        if not written_out or not isinstance(position, int):
            return component(self._scanned(vector, cell), position)
        for k in range(position + 1):
            if (vector, k) not in self._known:
                made = cell(lambda at: self.element(vector, at), k)
                self._known[vector, k] = made
        return self._known[vector, position]

    def _scanned(self, vector: Value, cell: Callable[[Reader, Position], Value]) -> Value:
        """The vector as the value of one loop."""
        key = (vector, "scan")
        if key not in self._known:
            counter = self._intern(ir.index(vector.dim, self._level))
            before = self._intern(ir.earlier(counter, vector.dtype))
            element = self._inside(counter, lambda k: cell(lambda at: component(before, at), k))
            self._known[key] = ir.scan(element, before, counter)
            self._cells += vector.dim
            check_cells(self._cells)
        return self._known[key]

    def loop(
        self, initial: Value, following: Callable[[Value, Value], Value], extent: int
    ) -> Value:
        """See `redcomp.ops.access.Access`."""
        counter = self._intern(ir.index(extent, self._level))
        return self._inside(
            counter, lambda _: ir.fold(initial, lambda state: following(state, counter), counter)
        )

    def once(self, operands: tuple[Value, ...], make: Callable[[], T]) -> T:
        """See `redcomp.ops.access.Access`."""
        if operands not in self._made_once:
            self._made_once[operands] = make()
        return self._made_once[operands]  # type: ignore[no-any-return]

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
        return ir.fold(initial, lambda state: Value(combine, (*args, state), state.type), counter)

    def _inside(self, counter: Value, body: Callable[[Position], T]) -> T:
        self._level += 1
        try:
            return body(counter)
        finally:
            self._level -= 1

    def _place(self, vector: Value, position: Position) -> Position:
        if vector.type.dim == 1:
            return 0
        return position if isinstance(position, int) else self._one_of_equal(position)

    def _one_of_equal(self, position: Value) -> Value:
        """One object for all equal positions, by which components are remembered.

        Rules compute positions from the one they are given by a few operations, hence recursion.
        """
        if position not in self._interned:
            args = tuple(map(self._one_of_equal, position.args))
            position = self._intern(position.with_args(args))
            self._interned.add(position)
        return position

    def _make(self, value: Value, place: Position) -> Value:
        if value.op == "variable":
            return self._read(self._carried.get(value, (value,)), place)
        if value.op in ("constant", "index"):
            return value
        if value.op == "constants":
            if isinstance(place, int):
                return ir.constant(ir.entries_of(value)[place], value.dtype)
            return component(value, place)
        if value.op == "broadcast":
            return self.element(value.args[0], 0)
        if value.op == "contraction":
            return value.with_args(tuple([self.vector(vector) for vector in value.args]))
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
