"""guarded: derivatives with a condition, the guard, outside of which they are zero.

A selection passes its cotangent to one branch and zero to the other.  If this zero were a number,
an infinite or NaN partial derivative of that branch would turn it into NaN.  So the derivative of
each branch has a guard, a boolean, instead.  Its value is arbitrary where the guard is false, and
the selection is made where the derivative is used.  Derivative rules are linear, so they can be
applied to the value while the guard is carried along.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import replace
from typing import NamedTuple

from redcomp.errors import CompilerError
from redcomp.interpret import interpret
from redcomp.ir import Type, Value, broadcast, constant, select, topological
from redcomp.ops.table import OPERATIONS, apply
from redcomp.records import record


@record
class Guarded:
    """A derivative: `value` where the guard holds, zero elsewhere.

    guard       a truth value, of one component or as many as the value; None: it holds everywhere
    is_settled  whether the value itself is zero where the guard does not hold
    """

    value: Value
    guard: Value | None = None
    is_settled: bool = True

    @property
    def dim(self) -> int:
        """The number of components of what it stands for."""
        return max(self.value.dim, 1 if self.guard is None else self.guard.dim)

    def settled(self) -> Value:
        """The derivative as a value."""
        if self.guard is None or self.is_settled:
            return self.value
        return select(self.guard, self.value, -0.0)  # which changes no sum

    def where(self, condition: Value) -> Guarded:
        """Itself where a condition holds too, zero elsewhere."""
        guard = condition if self.guard is None else self.guard & condition
        return Guarded(self.value, guard, is_settled=False)

    def times(self, other: Guarded) -> Guarded:
        """The product, zero where one of the factors is."""
        product = replace(self, value=self.value * other.value, is_settled=self.guard is None)
        return product if other.guard is None else product.where(other.guard)

    def with_scalar_guard(self) -> Guarded:
        """The same, for rules by which components mix: the guard is that any component has one."""
        if self.guard is None or self.guard.dim == 1:
            return self
        return Guarded(self.settled(), _any(self.guard))

    def plus(self, other: Guarded) -> Guarded:
        """The sum.  Where two guards exclude each other, one selection chooses the term."""
        if self.guard is other.guard:
            is_settled = self.is_settled and other.is_settled
            return Guarded(self.value + other.value, self.guard, is_settled)
        if self.guard is not None and other.guard is not None:
            if negation(self.guard) is other.guard:
                return Guarded(select(self.guard, self.value, other.value))
            if negation(other.guard) is self.guard:
                return Guarded(select(other.guard, other.value, self.value))
        return Guarded(self.settled() + other.settled(), _join(self.guard, other.guard))

    def fit(self, wanted: Type) -> Guarded:
        """Summed over components that were broadcast, or a scalar repeated."""
        if self.dim > 1 == wanted.dim:
            narrow = self.with_scalar_guard()
            return replace(narrow, value=apply("sum", narrow.value))
        return replace(self, value=broadcast(self.value, wanted.dim))


def negation(condition: Value) -> Value:
    """Where a truth value does not hold; twice, it is the same object again."""
    if condition.op == "xor" and condition.args[1].is_constant:
        return condition.args[0]
    return condition ^ True


# Whether places cover a vector is looked at by evaluating guards of at most so many components and
# values; a selection too much in longer ones costs less.
_LONGEST_EVALUATED = 1024
_MOST_EVALUATED = 1000


def _join(a: Value | None, b: Value | None) -> Value | None:
    """Where one of two guards holds."""
    if a is None or b is None:
        return None
    joined = a | b
    if joined.dim > _LONGEST_EVALUATED:
        return joined
    for count, value in enumerate(topological([joined])):  # most have a variable among the first
        if value.op == "variable" or count == _MOST_EVALUATED:
            return joined
    return None if bool(interpret([joined], {})[0].all()) else joined


def _any(guard: Value) -> Value | None:
    """Whether a guard holds for any component; there are always some places."""
    return None if _is_of_places(guard) else apply("any_of", guard)


def _is_of_places(guard: Value) -> bool:
    """Whether a guard only says which places a derivative has been moved to."""
    return all(value.op != "variable" for value in topological([guard]))


class Support(NamedTuple):
    """Where a factor selects: it is `rest` where the guard holds (None: 1), zero elsewhere."""

    guard: Value
    rest: Value | None


# The operands of which each makes the result zero where it is zero.
_FACTORS = {"multiply": (0, 1), "divide": (0,), "negate": (0,), "broadcast": (0,)}


class Supports:
    """The supports of factors, each found once: a product selects where one of its factors does."""

    def __init__(self) -> None:
        self._known: dict[Value, Support | None] = {}
        self._polynomials: dict[Value, bool] = {}
        self._selections: dict[Value, Value] = {}

    def times(self, e: Guarded, factor: Value | float, *, is_guard: bool = True) -> Guarded:
        """A derivative times a partial derivative, which may be infinite or NaN."""
        if not isinstance(factor, Value):
            if factor == 1.0:
                return e
            return replace(e, value=-e.value if factor == -1.0 else e.value * factor)
        support = self.of(factor) if is_guard else None
        if support is None:
            return Guarded(e.value * factor, e.guard, self._stays_settled(e, factor))
        value = e.value if support.rest is None else e.value * support.rest
        return replace(e, value=value).where(support.guard)

    def _stays_settled(self, e: Guarded, factor: Value) -> bool:
        """Whether zeros stay zeros in a product.

        At places that a derivative was not moved to, this is so if arguments are numbers: there,
        no selection of theirs is to be made.
        """
        if e.guard is None:
            return True
        return e.is_settled and _is_of_places(e.guard) and self._is_polynomial(factor)

    def _is_polynomial(self, value: Value) -> bool:
        """Whether a value is a number wherever arguments are."""
        for part in topological([value], known=self._polynomials):
            row = OPERATIONS.get(part.op)
            is_one = part.op in ("variable", "constant", "constants", "broadcast") or (
                row is not None and (row.is_polynomial or bool(row.moves))
            )
            of_those = all(self._polynomials[arg] for arg in part.args)
            self._polynomials[part] = is_one and of_those
        return self._polynomials[value]

    def split(self, e: Guarded, part: Value) -> Guarded:
        """A derivative that a rule has made from that of `e`; what it multiplied by may select."""
        self._keep(e.value, None)
        support = self.of(part)
        if support is None:
            return Guarded(part, e.guard, e.guard is None)
        rest = constant(1.0, part.dtype) if support.rest is None else support.rest
        return Guarded(rest, e.guard).where(support.guard)

    def of(self, factor: Value) -> Support | None:
        """The support of a factor, None if it is not seen to have one."""
        stack = [factor]
        while stack:
            value = stack[-1]
            below = self._below(value)
            missing = [part for part in below if part not in self._known]
            stack.extend(missing)
            if not missing:
                self._keep(stack.pop(), self._made(value, below))
        return self._known[factor]

    def _keep(self, value: Value, support: Support | None) -> None:
        self._known.setdefault(value, support)

    def _below(self, value: Value) -> tuple[Value, ...]:
        """The values on whose supports a value's own depends."""
        if value.op in _FACTORS:
            return tuple(value.args[n] for n in _FACTORS[value.op])
        if value.op == "select":
            _, a, b = value.args
            return (b,) if _is(a, 0.0) else (a,) if _is(b, 0.0) else ()
        if value.op in OPERATIONS and OPERATIONS[value.op].selection is not None:
            if value not in self._selections:
                self._selections[value] = selection(value)
            return (self._selections[value],)
        return ()

    def _made(self, value: Value, below: tuple[Value, ...]) -> Support | None:
        supports = [self._known[part] for part in below]
        if value.op == "select" and below:
            condition, a, _ = value.args
            (taken,), (inner,) = below, supports
            outer = condition if taken is a else negation(condition)
            if inner is not None:
                return Support(outer & inner.guard, inner.rest)
            return Support(outer, None if _is(taken, 1.0) else taken)
        guards = [support.guard for support in supports if support is not None]
        if not guards:
            return None
        rests = [
            part if support is None else support.rest
            for part, support in zip(below, supports, strict=True)
        ]
        return Support(functools.reduce(operator.and_, guards), _rebuilt(value, rests))


def _rebuilt(value: Value, rests: list[Value | None]) -> Value | None:
    """A product of what its factors are where they all may be other than zero; None: 1."""
    first = rests[0]
    match value.op:
        case "multiply":
            factors = [rest for rest in rests if rest is not None]
            return functools.reduce(operator.mul, factors) if factors else None
        case "divide":
            return (1.0 if first is None else first) / value.args[1]
        case "negate":
            return constant(-1.0, value.dtype) if first is None else -first
        case "broadcast":
            return None if first is None else broadcast(first, value.dim)
    return first


def selection(value: Value) -> Value:
    """An operation that selects, in terms of `select`."""
    choose = OPERATIONS[value.op].selection
    if choose is None:
        raise CompilerError(f"operation {value.op!r} selects nothing")
    return choose(*value.args, **dict(value.attrs))


def _is(value: Value, number: float) -> bool:
    scalar = value.args[0] if value.op == "broadcast" else value
    return scalar.is_constant and bool(scalar["value"] == number)
