"""The order in which values are written: long sums, and loops.

LLVM's scheduler goes up the longest chain first.  Of a sum of hundreds of terms that is the chain
of its partial sums, for which all terms are computed first, stored and loaded again.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from redcomp.errors import CompilerError
from redcomp.ir import Value

# Where a sum has more terms than there are registers, LLVM's scheduler is shown so many values at a
# time: a few terms, which can wait in registers.
SCHEDULED_TOGETHER = 50

_SUMS = ("add", "subtract", "fma")


def longest_sum(values: Sequence[Value]) -> int:
    """How many sums there are on the longest chain of sums; `values` has operands first."""
    lengths: dict[Value, int] = {}
    for value in values:
        if value.op in _SUMS:
            before = [lengths[arg] for arg in value.args if arg in lengths]
            lengths[value] = 1 + max(before, default=0)
    return max(lengths.values(), default=0)


def term_by_term(values: Sequence[Value]) -> list[Value]:
    """The same values, operands first; of a sum that operand first that needs more registers.

    This is the rule of Sethi and Ullman: whichever comes first waits for the other one.  So a
    partial sum precedes the term that is added to it.
    """
    needs: dict[Value, int] = {}
    operands: dict[Value, list[Value]] = {}  # those that are listed too, the first one at the end
    for value in values:
        found = [arg for arg in value.args[::-1] if arg in needs]
        operands[value] = found
        if len(found) < 2:
            needs[value] = needs[found[0]] if found else 1
            continue
        if value.op in _SUMS:
            found.sort(key=needs.__getitem__)
        needs[value] = max([needs[arg] + n for n, arg in enumerate(found[::-1])])
    used = {arg for found in operands.values() for arg in found}
    stack: list[Value | None] = [value for value in reversed(values) if value not in used]
    order: list[Value] = []
    seen: set[Value] = set()
    while stack:
        following = stack.pop()
        if following is None:  # all that the next one needs has been listed
            done = stack.pop()
            assert done is not None
            order.append(done)
        elif following not in seen:
            seen.add(following)
            stack += (following, None)
            stack += operands[following]
    return order


def turns(
    values: Sequence[Value], needs: Mapping[Value, frozenset[Value]]
) -> Iterator[list[Value]]:
    """The values, operands first: all that can do without the loops that are left, then a loop.

    needs  what each loop reads; of several that can be written it is the first one's turn, with all
           folds that can share it

    The time is that of the values and what they read, however many loops there are.
    """
    if values and not needs:
        yield list(values)
        return
    waiting = _Waiting(values, needs)
    while waiting.left:
        if plain := waiting.plain_turn():
            yield plain
        if waiting.left:
            yield waiting.loop_turn()


class _Waiting:
    """Values that are to be written; each is ready when all that it reads has been taken."""

    def __init__(self, values: Sequence[Value], needs: Mapping[Value, frozenset[Value]]) -> None:
        self.left, self._values, self._needs = len(values), values, needs
        self._plain: list[int] = []  # positions of what is ready, a heap
        self._loops: list[int] = []
        self._folds: defaultdict[Value, list[int]] = defaultdict(list)  # ready ones, by counter
        self._taken: set[Value] = set()
        self._missing: dict[Value, int] = {}
        self._users: defaultdict[Value, list[int]] = defaultdict(list)
        places = {value: place for place, value in enumerate(values)}
        for value, place in places.items():
            read = [arg for arg in set(needs.get(value, value.args)) if arg in places]
            self._missing[value] = len(read)
            for arg in read:
                self._users[arg].append(place)
            if not read:
                self._ready(place)

    def plain_turn(self) -> list[Value]:
        """Everything that can be written without another loop, in order."""
        turn = []
        while self._plain:
            value = self._values[heapq.heappop(self._plain)]
            self._take(value)
            turn.append(value)
        return turn

    def loop_turn(self) -> list[Value]:
        """The first loop that is ready, and the folds that share it."""
        while self._loops and self._values[self._loops[0]] in self._taken:
            heapq.heappop(self._loops)
        if not self._loops:
            raise CompilerError("a loop waits for a value that is never computed")
        first = self._values[self._loops[0]]
        turn = [first]
        if first.op == "fold":
            turn = [self._values[place] for place in sorted(self._folds.pop(first.args[-1]))]
        for value in turn:
            self._take(value)
        return turn

    def _ready(self, place: int) -> None:
        value = self._values[place]
        if value not in self._needs:
            heapq.heappush(self._plain, place)
            return
        heapq.heappush(self._loops, place)
        if value.op == "fold":
            self._folds[value.args[-1]].append(place)

    def _take(self, value: Value) -> None:
        self.left -= 1
        self._taken.add(value)
        for place in self._users[value]:
            user = self._values[place]
            self._missing[user] -= 1
            if not self._missing[user]:
                self._ready(place)
