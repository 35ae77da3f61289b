"""Functions of one value that a program computes several times, such as an expanded exponential.

A region is what lies between a value and an earlier one through which all paths to it lead.
Regions of equal structure are calls of one function.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from redcomp.interpret import interpret
from redcomp.ir import (
    BINDERS,
    Program,
    Value,
    free_indices,
    shared,
    topological,
    variable,
    with_roots,
)
from redcomp.ops.table import OPERATIONS, Operation
from redcomp.records import record

P = TypeVar("P", bound=Program)

CALL = "call"
_LEAST, _MOST = 5, 400  # operations of a function
_LONGEST_CHAIN = 80
_NEAR = 4  # how far apart operations are that are compared first
_MOST_VALUES = 4000
_POINTS = np.linspace(0.15, 0.95, 17)[:, None]


@record
class Function:
    """A function: its name, the value that it is of, and what it makes of that."""

    name: str
    argument: Value
    result: Value


@record
class _Region:
    argument: Value
    result: Value
    inside: tuple[Value, ...]  # the result among them


def with_calls(program: P) -> tuple[tuple[Function, ...], P]:
    """The functions that a program computes several times, and the program with calls of them."""
    known = shared((*program.params, *program.roots))
    program = with_roots(program, known)
    order = list(dict.fromkeys(known.values()))
    if len(order) > _MOST_VALUES:
        return (), program
    chosen = _chosen(order, set(program.roots))
    functions, calls = [], dict[Value, tuple[str, Value]]()
    taken: set[str] = set()
    for regions in chosen:
        name = _name(regions[0], taken)
        taken.add(name)
        functions.append(Function(name, regions[0].argument, regions[0].result))
        calls |= {region.result: (name, region.argument) for region in regions}
    done: dict[Value, Value] = {}
    for value in order:
        if value in calls:
            name, argument = calls[value]
            attrs = (("function", name),)
            done[value] = Value(CALL, (done[argument],), value.type, attrs, value.span)
        else:
            done[value] = value.with_args(tuple(done[arg] for arg in value.args))
    return tuple(functions), with_roots(program, done)


def _chosen(order: Sequence[Value], roots: set[Value]) -> list[list[_Region]]:
    """Groups of equal regions that do not overlap, those first that save most."""
    users: defaultdict[Value, set[Value]] = defaultdict(set)
    for value in order:
        for arg in value.args:
            users[arg].add(value)
    groups: defaultdict[object, list[_Region]] = defaultdict(list)
    for region in _regions(order, users):
        inner = set(region.inside)
        hidden = inner - {region.result}
        if roots.isdisjoint(hidden) and all(users[value] <= inner for value in hidden):
            groups[_structure(region)].append(region)
    covered: set[Value] = set()
    made = []
    for regions in sorted(groups.values(), key=_saved, reverse=True):
        left = []
        for region in regions:
            if covered.isdisjoint(region.inside):
                left.append(region)
                covered.update(region.inside)
        if len(left) > 1:
            made.append(left)
        else:
            covered.difference_update(*(region.inside for region in left))
    return made


def _saved(regions: Sequence[_Region]) -> int:
    return (len(regions) - 1) * len(regions[0].inside)


def _regions(order: Sequence[Value], users: Mapping[Value, set[Value]]) -> Iterator[_Region]:
    """The regions of values outside of loops, between each value and those that it depends on."""
    free = free_indices(order)
    above: dict[Value, Value | None] = {}  # the nearest value that all paths lead through
    depth: dict[Value, int] = {}
    for value in order:
        args = [arg for arg in dict.fromkeys(value.args) if not arg.is_constant]
        is_plain = not free[value] and value.op not in BINDERS
        above[value] = parent = _meeting(args, above, depth) if is_plain else None
        depth[value] = 0 if parent is None else depth[parent] + 1
    alike = _looks(order)
    count = Counter(alike.values())
    for value in order:
        is_repeated = count[alike[value]] > 1 and value.dim == 1
        if not is_repeated or _is_inside(value, users, above, count, alike):
            continue
        parent = above[value]
        for _ in range(_LONGEST_CHAIN):
            if parent is None or parent.dim > 1:
                break
            inside = [v for v in topological([value], known={parent}) if not v.is_constant]
            if len(inside) > _MOST:
                break
            if len(inside) >= _LEAST:
                yield _Region(parent, value, tuple(inside))
            parent = above[parent]


def _looks(order: Sequence[Value]) -> dict[Value, int]:
    """A number for each value that is the same for those whose nearest operations are the same."""
    looks: dict[Value, int] = dict.fromkeys(order, 0)
    for _ in range(_NEAR):
        numbers: dict[object, int] = {}
        looks = {
            value: numbers.setdefault(
                (value.op, value.type, repr(value.attrs), tuple(looks[a] for a in value.args)),
                len(numbers),
            )
            for value in order
        }
    return looks


def _is_inside(
    value: Value,
    users: Mapping[Value, set[Value]],
    above: Mapping[Value, Value | None],
    count: Mapping[int, int],
    alike: Mapping[Value, int],
) -> bool:
    """Whether the only user of a value is repeated as often, so that its regions are larger."""
    if len(users[value]) != 1:
        return False
    (user,) = users[value]
    return above[user] is not None and count[alike[user]] >= count[alike[value]] > 1


def _meeting(
    values: Sequence[Value], above: Mapping[Value, Value | None], depth: Mapping[Value, int]
) -> Value | None:
    """The nearest value that all paths from some values lead through, themselves included."""
    if not values or any(value not in depth for value in values):
        return None
    found: Value | None = values[0]
    for value in values[1:]:
        other: Value | None = value
        while found is not other:
            if found is None or other is None:
                return None
            if depth[found] >= depth[other]:
                found = above[found]
            else:
                other = above[other]
    return found


def _structure(region: _Region) -> object:
    """Equal for regions that differ in their arguments only."""
    numbers = {region.argument: 0}
    listed: list[object] = [region.argument.type]
    for value in topological([region.result], known={region.argument}):
        numbers[value] = len(numbers)
        attrs = tuple((name, repr(a) if isinstance(a, float) else a) for name, a in value.attrs)
        listed.append((value.op, value.type, attrs, tuple(numbers[a] for a in value.args)))
    return tuple(listed)


def _name(region: _Region, taken: Iterable[str]) -> str:
    """The name of the operation that a function is, as its numbers show; or "f"."""
    wanted = _operation(region) or "f"
    names = [wanted, *(f"{wanted}{n}" for n in range(1, 1000))]
    return next(name for name in names if name not in taken)


def _operation(region: _Region) -> str:
    argument = region.argument
    if not argument.type.is_float or not region.result.type.is_float:
        return ""
    own = variable("a", "i", 0, argument.type)
    done = {argument: own}
    for value in topological([region.result], known={argument}):
        done[value] = value.with_args(tuple(done[arg] for arg in value.args))
    with np.errstate(all="ignore"):
        (found,) = interpret([done[region.result]], {"a": _POINTS})
        for row in filter(_is_function, OPERATIONS.values()):
            expected = np.asarray(row.value(_POINTS), np.float64)
            if np.allclose(found, expected, 1e-5, 1e-7):
                return row.name
    return ""


def _is_function(row: Operation) -> bool:
    """Whether an operation is a function of one number, which is expanded."""
    return bool(
        row.arity == 1 and row.spelling and row.elementwise and not row.parameters and row.expand
    )
