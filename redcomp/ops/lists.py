"""Lists of the smallest values and their places: which one comes first, and two lists as one.

A list is two vectors, of values and of the places where they are, worst first: so component 0 is
what a new value has to beat.  Of equal values the one with the smaller place comes first.  NaN
marks components that are free; they come last, and their places mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redcomp.ir import Value, compare, constant, convert, elementwise, select
from redcomp.ops.access import Access, Position, vector_row
from redcomp.ops.table import Array, Domain, ShapeError, register

INF = float("inf")

Entry = tuple[Value, Value]  # a value and its place
VALUES, PLACES = 0, 1


def precedes(value: Value, kept: Value) -> Value:
    """Whether a value comes before one that is kept, for which it would have to be smaller.

    A comparison that is true of NaN as well takes free components for the worst ones.  A value that
    is NaN counts as infinite, so it comes before those only.
    """
    return compare("ult", elementwise("less_of", value, INF), kept)


def _comes_first(a: Entry, b: Entry) -> Value:
    """Whether an entry comes before another one; of free ones either may."""
    is_tied = compare("oeq", a[VALUES], b[VALUES])
    return select(is_tied, compare("olt", a[PLACES], b[PLACES]), precedes(a[VALUES], b[VALUES]))


def _chosen(condition: Value, a: Entry, b: Entry) -> Entry:
    return select(condition, a[VALUES], b[VALUES]), select(condition, a[PLACES], b[PLACES])


def _written_out(a: Sequence[Entry], b: Sequence[Entry]) -> list[Entry]:
    """The first of the entries of two lists, as many as each has, by a network of comparisons.

    It is Batcher's bitonic merger (Sorting networks and their applications, 1968).  Each component
    of a list and the one at the same distance from the other list's end leave the better of them.
    """
    pairs = zip(a, reversed(b), strict=True)
    return _sorted([_chosen(_comes_first(x, y), x, y) for x, y in pairs])


def _sorted(entries: list[Entry]) -> list[Entry]:
    """Entries that get better only from some one on, worst first.

    Where their number is no power of two, the network is as if better ones followed the last.
    """
    if len(entries) == 1:
        return entries
    half = 1 << ((len(entries) - 1).bit_length() - 1)
    for n in range(len(entries) - half):
        x, y = entries[n], entries[n + half]
        is_better = _comes_first(x, y)
        entries[n] = _chosen(is_better, y, x)
        entries[n + half] = _chosen(is_better, x, y)
    return _sorted(entries[:half]) + _sorted(entries[half:])


def _searched(access: Access, lists: Sequence[Value], k: Value) -> Entry:
    """The entry at a position of two lists as one, the only one that is computed.

    How many of the entries before it come from the first list is found bit by bit, see Odeh, Green,
    Mwassi, Shmueli and Birk, Merge path (2012).  Nothing is read of that list before position k, so
    it may be replaced from its beginning on.
    """
    size = lists[0].dim
    before = (size - 1) - convert(k, "i32")
    bits = size.bit_length()

    def entry(first: int, position: Value) -> Entry:
        at = convert(position, "index")
        return access.element(lists[first], at), access.element(lists[first + 1], at)

    def following(taken: Value, n: Value) -> Value:
        step = elementwise("shift_right_logical", constant(1 << bits - 1, "i32"), convert(n, "i32"))
        more = taken + step
        is_possible = compare("sle", more, before)
        last = entry(0, select(is_possible, size - more, size - 1))
        other = entry(2, select(is_possible, convert(k, "i32") + more, convert(k, "i32")))
        return select(select(is_possible, _comes_first(last, other), False), more, taken)

    taken = access.loop(constant(0, "i32"), following, bits)
    a, b = entry(0, (size - 1) - taken), entry(2, convert(k, "i32") + taken)
    return _chosen(_comes_first(a, b), a, b)


def _element(access: Access, value: Value, k: Position) -> Value:
    lists = value.args
    if not isinstance(k, int):
        return _searched(access, lists, k)[value["part"]]

    def all_entries() -> list[Entry]:
        vectors = [[access.element(v, n) for n in range(value.dim)] for v in lists]
        first, other = vectors[:2], vectors[2:]
        return _written_out([*zip(*first, strict=True)], [*zip(*other, strict=True)])

    return access.once(lists, all_entries)[k][value["part"]]


def _evaluate(*lists: Array, part: int) -> Array:
    shape = np.broadcast_shapes(*(v.shape for v in lists))
    values, places = (
        np.concatenate([np.broadcast_to(v, shape) for v in lists[n::2]], axis=-1) for n in range(2)
    )
    order = np.lexsort((places, np.where(np.isnan(values), INF, values), np.isnan(values)))
    kept = order[..., : shape[-1]][..., ::-1]
    return np.take_along_axis((values, places)[part], kept, axis=-1)


def _shape(*dims: int, part: int) -> int:
    if len(set(dims)) != 1 or part not in (VALUES, PLACES):
        raise ShapeError("lists have one length, and values and places")
    return dims[0]


register(
    vector_row(
        "merged",
        "",
        4,
        "the first entries of two sorted lists (values, places, and those of the other one), as "
        "many as each has: their values, or their places",
        _evaluate,
        _shape,
        _element,
        None,
        ("part",),
        gradient="0",
        domain=Domain(((-4.0, 4.0),) * 4),
    )
)
