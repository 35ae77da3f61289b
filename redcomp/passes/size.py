"""size: how much code a program becomes and how long a pair takes, counted without making it.

Nothing here walks the tree of a value, which can be exponentially larger than its graph.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Container, Iterable, Mapping

from redcomp.errors import SizeError
from redcomp.ir import BINDERS, Attribute, Nest, Type, Value, free_indices, loop_of, topological
from redcomp.limits import MAX_OPERATIONS, MAX_WORK
from redcomp.ops.table import OPERATIONS
from redcomp.passes.expand import STRUCTURAL, expand_value
from redcomp.passes.scalarize import UNROLLED

# Expansions are looked at where so many operations each could be too many.
_LONG_EXPANSION = 100


def written_out(roots: Iterable[Value], known: Container[int] = ()) -> int:
    """About how many operations on scalars vectors become, none of them expanded.

    Nothing is counted below a value whose `id` is `known`.
    """
    return sum(map(_components, topological(roots, known)))


def _components(value: Value) -> int:
    row = OPERATIONS.get(value.op)
    if row is None or row.elementwise or not value.args:
        return _copies(value.dim)
    return _copies(value.dim) * _copies(max(arg.dim for arg in value.args))


def _copies(dim: int) -> int:
    """How often the code of a component is written: in a loop once."""
    return dim if dim <= UNROLLED else 1


def check_size(nest: Nest, primitives: Collection[str]) -> Nest:
    """The nest, which is scalar; raises SizeError if its code or its work per pair is too much.

    The body of a loop is in each loop that binds its counter, and is worked off as often as the
    counter says.
    """
    roots = nest.roots
    free = free_indices(roots)
    names = frozenset(primitives)
    is_long = len(free) * _LONG_EXPANSION > MAX_OPERATIONS
    loops: dict[int, tuple[int, int]] = {}
    code = work = 0

    def cost(value: Value) -> tuple[int, int]:
        if value.op in STRUCTURAL:
            return loops.get(id(value), (0, 0))
        number = _expansion(value, names) if is_long else 1
        return number, number

    for value in topological(roots):
        if value.op in BINDERS:
            *body, counter = value.args
            inside = topological(body, known=_Outside(free, loop_of(counter)))
            parts = [cost(part) for part in inside]
            of_loop = sum(c for c, _ in parts), counter["extent"] * sum(w for _, w in parts)
            loops[id(value)] = of_loop
            code, work = code + of_loop[0], max(work, of_loop[1])
        elif not free[id(value)]:
            code += cost(value)[0]
        if code > MAX_OPERATIONS:
            raise SizeError(f"becomes more than {MAX_OPERATIONS:,} operations")
        if work > MAX_WORK:
            raise SizeError(f"takes more than {MAX_WORK:,} operations per pair")
    return nest


class _Outside:
    """The values, by `id`, that are not in a loop."""

    def __init__(
        self, free: Mapping[int, frozenset[tuple[int, int]]], loop: tuple[int, int]
    ) -> None:
        self.free, self.loop = free, loop

    def __contains__(self, key: object) -> bool:
        return isinstance(key, int) and self.loop not in self.free[key]


def _expansion(value: Value, primitives: frozenset[str]) -> int:
    types = tuple(arg.type for arg in value.args)
    return _expansion_of(value.op, types, value.type, value.attrs, primitives)


@functools.lru_cache(maxsize=1024)
def _expansion_of(
    op: str,
    types: tuple[Type, ...],
    result: Type,
    attrs: tuple[tuple[str, Attribute], ...],
    primitives: frozenset[str],
) -> int:
    """The operations that an operation on scalars is expanded to."""
    operands = tuple(Value("index", (), type_) for type_ in types)
    expanded = expand_value(Value(op, operands, result, attrs), primitives)
    return sum(value.op not in STRUCTURAL for value in topological([expanded]))
