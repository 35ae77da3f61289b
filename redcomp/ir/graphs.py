"""Graphs of values: topological order, loops, sharing of equal values, rewriting."""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from redcomp.ir.values import BINDERS, BOUND, Attribute, Value


class Listing(tuple[Value, ...]):
    """Values in order: before each of them, all that it is made from.  `topological` keeps it."""

    __slots__ = ()


def topological(roots: Iterable[Value], known: Container[Value] = ()) -> Iterator[Value]:
    """Every value that the roots reach, arguments before their users, each once.

    Nothing is yielded or searched below `known` values.
    """
    if isinstance(roots, Listing) and known == ():
        yield from roots
        return
    seen: set[Value] = set()
    stack: list[Value | None] = list(roots)
    stack.reverse()
    # Looked up once: every pass and the emitter walk all values.
    pop, add, has_all = stack.pop, seen.add, seen.issuperset
    while stack:
        value = pop()
        if value is None:  # all that the next one needs has been yielded
            done = pop()
            assert done is not None
            yield done
        elif value not in seen and value not in known:
            add(value)
            if has_all(value.args):  # which have been yielded: no value is made from itself
                yield value
            else:
                stack += (value, None)
                stack += value.args[::-1]


def listing(roots: Iterable[Value]) -> Listing:
    """Every value that the roots reach, in order."""
    return roots if isinstance(roots, Listing) else Listing(topological(roots))


def leaves_of(roots: Iterable[Value], numbers: Mapping[Value, int]) -> dict[Value, int]:
    """For each reachable value which of some leaves it is made from: bit n for number n.

    numbers   those of the leaves
    """
    masks: dict[Value, int] = {}
    for value in topological(roots):
        mask = 1 << numbers[value] if value in numbers else 0
        for arg in value.args:
            mask |= masks[arg]
        masks[value] = mask
    return masks


def free_indices(roots: Iterable[Value]) -> dict[Value, frozenset[tuple[int, int]]]:
    """For each reachable value the loops it is inside of, as (level, extent) pairs."""
    nothing: frozenset[tuple[int, int]] = frozenset()
    values = listing(roots)
    if not any(value.op in BOUND for value in values):
        return dict.fromkeys(values, nothing)
    free: dict[Value, frozenset[tuple[int, int]]] = {}
    for value in values:
        if value.op in BOUND:
            free[value] = frozenset({loop_of(value)})
            continue
        inside = nothing
        for arg in value.args:
            loops = free[arg]
            if loops and loops is not inside:  # mostly all arguments are in the same loops
                inside = inside | loops if inside else loops
        if value.op in BINDERS:
            inside -= {loop_of(value.args[-1])}
        free[value] = inside
    return free


def read_in_loops(elements: Iterable[Value]) -> list[Value]:
    """What elements of vectors take from outside of the loops that they are computed in.

    What is outside is not looked into: a fold there has loops of its own.
    """
    roots = tuple(elements)
    free = free_indices(roots)
    outside = {number for number, loops in free.items() if not loops}
    inner = topological(roots, known=outside)
    return list(dict.fromkeys(a for v in inner for a in v.args if a in outside))


def loop_of(counter: Value) -> tuple[int, int]:
    """What tells loops apart: the nesting level and the extent."""
    return counter["level"], counter["extent"]


_BITS = struct.Struct("d").pack


def _key_attribute(item: tuple[str, Attribute]) -> object:
    name, value = item
    # 0.0 and -0.0 are different constants and NaN equals itself, so floats are compared by bits.
    return (name, _BITS(value)) if isinstance(value, float) else item


class Interner:
    """Gives one object for all values of equal structure: common-subexpression elimination."""

    def __init__(self) -> None:
        self._known: dict[object, Value] = {}

    def __call__(self, value: Value) -> Value:
        type_ = value.type
        attrs = tuple([_key_attribute(item) for item in value.attrs]) if value.attrs else ()
        key = (value.op, type_.dtype, type_.dim, attrs, value.args)
        return self._known.setdefault(key, value)


def shared(roots: Iterable[Value]) -> dict[Value, Value]:
    """For each reachable value the one object that stands for all values of equal structure."""
    intern = Interner()
    done: dict[Value, Value] = {}
    for value in topological(roots):
        done[value] = intern(value.with_args(tuple([done[a] for a in value.args])))
    return done


def rewrite(roots: Iterable[Value], rule: Callable[[Value], Value]) -> dict[Value, Value]:
    """Rebuild the graph bottom-up through `rule`, sharing equal values; the new values by the old.

    `rule` gets a value whose arguments are final and returns it or a replacement.  A replacement,
    and whatever is new inside it, passes through the rule again until nothing changes.
    """
    intern = Interner()
    interned: dict[Value, Value] = {}
    final: dict[Value, Value] = {}

    def share(value: Value, args: tuple[Value, ...]) -> Value:
        """The one object for a value whose arguments have become `args`, which are shared."""
        made = value.with_args(args)
        known = interned.get(made)
        if known is None:
            known = intern(made)
            interned[made] = interned[known] = known
        return known

    def settle(value: Value) -> Value:
        replacement = rule(value)
        if replacement is value:
            return value
        for part in topological([replacement], known=interned):
            interned[part] = share(part, tuple([interned[a] for a in part.args]))
        replacement = interned[replacement]
        if replacement is value:
            return value
        for part in list(topological([replacement], known=final)):
            final[part] = settle(share(part, tuple([final[a] for a in part.args])))
        return final[replacement]

    done: dict[Value, Value] = {}
    for value in topological(roots):
        kept = share(value, tuple([done[a] for a in value.args]))
        settled = final.get(kept)
        if settled is None:
            settled = final[kept] = settle(kept)
        done[value] = final[settled] = settled
    return done


def depending_on(
    roots: Iterable[Value], leaves: Iterable[Value], known: Container[Value] = ()
) -> list[Value]:
    """The values that the roots reach and that depend on the leaves, in order.

    Nothing is searched below `known` values.
    """
    ends = set(leaves)
    found: list[Value] = []
    reached = set(ends)
    for value in topological(roots, known):
        if value not in ends and any(arg in reached for arg in value.args):
            reached.add(value)
            found.append(value)
    return found


class Outside:
    """The values that are not in a loop; `free` is what `free_indices` says of them."""

    def __init__(
        self, free: Mapping[Value, frozenset[tuple[int, int]]], loop: tuple[int, int]
    ) -> None:
        self.free, self.loop = free, loop

    def __contains__(self, key: object) -> bool:
        return isinstance(key, Value) and self.loop not in self.free[key]
