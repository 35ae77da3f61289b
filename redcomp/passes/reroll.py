"""reroll: a long sum of terms that differ in constants only becomes a sum over vectors of them.

`w0*Exp(-a0*s) + w1*Exp(-a1*s) + ...` is `Sum(w*Exp(-a*s))` for vectors w and a of constants.
Targets compute it in a loop, so that compiling takes the same time however many terms there are.
Derivatives are made from the vectors, and are such sums again.

Terms are added in the order of the formula, so this changes no bit if all terms are alike.  A
vector that all terms are multiplied by is a factor of their sum, which is another rounding.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from redcomp.ir import Kernel, Type, Value, constant, constants, topological, with_roots
from redcomp.ops.table import OPERATIONS, apply
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

# Fewer terms are compiled soon, and hosts may write vectors of 32 components out again.
LEAST_TERMS = 33

_SUMS = ("add", "subtract")


@compiler_pass
def reroll(kernel: Kernel, context: Context) -> Kernel:
    """The kernel with long sums of like terms as sums over vectors, on any target."""
    return rerolled(kernel)


def rerolled(kernel: Kernel) -> Kernel:
    """The kernel with long sums of like terms as sums over vectors; equal values are one object."""
    sums = {v for v in kernel.values if v.op in _SUMS and v.type.is_float}
    if len(sums) < LEAST_TERMS - 1:
        return kernel
    before = _partial_sums(kernel, sums)
    inner = set(before.values())
    shapes = _Shapes()
    done: dict[Value, Value] = {}
    for value in kernel.values:
        made = value.with_args(tuple([done[arg] for arg in value.args]))
        if value in sums and value not in inner:
            terms = [(done[term], is_minus) for term, is_minus in _terms(value, before)]
            if len(terms) >= LEAST_TERMS:
                made = _total(terms, shapes) or made
        done[value] = made
    return with_roots(kernel, done)


def _total(terms: Sequence[tuple[Value, bool]], shapes: _Shapes) -> Value | None:
    """The sum of terms, some of which are subtracted; None if none of it is one over vectors."""
    vector = _common_vector([term for term, _ in terms])
    if vector is not None:
        terms = [(_other(term, vector), is_minus) for term, is_minus in terms]
    total = _added([_signed(term, is_minus) for term, is_minus in terms], shapes)
    return total if total is None or vector is None else apply("multiply", total, vector)


def _common_vector(terms: Sequence[Value]) -> Value | None:
    """The vector that all terms are scalars times."""
    if terms[0].dim == 1 or any(term.op != "multiply" for term in terms):
        return None
    for vector in terms[0].args:
        if all(vector in term.args and _other(term, vector).dim == 1 for term in terms):
            return vector
    return None


def _other(product: Value, factor: Value) -> Value:
    a, b = product.args
    return a if b is factor else b


def _partial_sums(kernel: Kernel, sums: set[Value]) -> dict[Value, Value]:
    """For each sum that has one as an operand that nobody else needs, that partial sum."""
    uses = Counter([*kernel.roots, *(arg for value in kernel.values for arg in value.args)])
    found = {}
    for value in sums:
        operands = value.args if value.op == "add" else value.args[:1]
        partial = next((arg for arg in operands if arg in sums and uses[arg] == 1), None)
        if partial is not None:
            found[value] = partial
    return found


def _terms(total: Value, before: Mapping[Value, Value]) -> list[tuple[Value, bool]]:
    """What is added up, in this order, and whether it is subtracted."""
    found = []
    value: Value | None = total
    while value is not None:
        a, b = value.args
        partial = before.get(value)
        if partial is None:
            found += [(b, value.op == "subtract"), (a, False)]
        else:
            found.append((a if partial is b else b, value.op == "subtract"))
        value = partial
    return found[::-1]


def _signed(term: Value, is_minus: bool) -> Value:
    """The term, or what is added instead of subtracting it; a factor takes the sign."""
    if not is_minus:
        return term
    if term.op in ("multiply", "divide") and term.args[0].is_constant:
        factor, other = term.args
        return term.with_args((constant(-factor["value"], factor.dtype), other))
    return -term


def _added(terms: Sequence[Value], shapes: _Shapes) -> Value | None:
    """The sum of the terms, each long run of like ones as a sum over vectors, if there is any."""
    parts, has_run = [], False
    for run in _runs(terms, shapes):
        vector = _vector(run) if len(run) >= LEAST_TERMS else None
        has_run |= vector is not None
        parts += run if vector is None else [apply("sum", vector)]
    return functools.reduce(operator.add, parts) if has_run else None


def _runs(terms: Sequence[Value], shapes: _Shapes) -> Iterator[list[Value]]:
    """Neighbouring terms together that are alike."""
    for _, run in groupby(terms, shapes.of):
        yield list(run)


class _Shapes:
    """What values are but for the constants in them: equal objects for values that are alike.

    A shape is a value that is no operation on scalars, or the number of an operation on shapes.
    """

    def __init__(self) -> None:
        self._known: dict[Value, object] = {}
        self._numbers: dict[object, int] = {}

    def of(self, term: Value) -> object:
        for value in topological([term], known=self._known):
            self._known[value] = self._made(value)
        return self._known[term]

    def _made(self, value: Value) -> object:
        if value.is_constant and value.type.is_float:
            return value.dtype
        if not _is_scalar_operation(value):
            return value
        key = (value.op, value.attrs, value.type, *[self._known[arg] for arg in value.args])
        return self._numbers.setdefault(key, len(self._numbers))


def _is_scalar_operation(value: Value) -> bool:
    row = OPERATIONS.get(value.op)
    return row is not None and row.elementwise and value.dim == 1


def _vector(terms: Sequence[Value]) -> Value | None:
    """The vector of like terms; None where they are one value, constants, or share other values."""
    if terms[0].is_constant or _is_same(terms):
        return None
    order = list(topological(terms[:1]))
    alike = {terms[0]: tuple(terms)}  # what stands in all terms at the place of each in the first
    for value in reversed(order):
        if value not in alike or _is_same(alike[value]):
            continue
        for k, arg in enumerate(value.args):
            found = tuple([term.args[k] for term in alike[value]])
            if not arg.is_constant and alike.setdefault(arg, found) != found:
                return None
    made: dict[Value, Value] = {}
    for value in order:
        if value in alike:
            made[value] = value if _is_same(alike[value]) else _of_vectors(alike[value], made)
    return made[terms[0]]


def _of_vectors(alike: Sequence[Value], made: Mapping[Value, Value]) -> Value:
    """One operation on vectors that stands for like ones on scalars."""
    value = alike[0]
    args = tuple(
        _constants([other.args[k] for other in alike]) if arg.is_constant else made[arg]
        for k, arg in enumerate(value.args)
    )
    dim = max(arg.dim for arg in args)
    return Value(value.op, args, Type(value.dtype, dim), value.attrs, value.span)


def _constants(values: Sequence[Value]) -> Value:
    if _is_same(values):
        return values[0]
    return constants([value["value"] for value in values], values[0].dtype, values[0].span)


def _is_same(values: Sequence[Value]) -> bool:
    return all(value is values[0] for value in values)
