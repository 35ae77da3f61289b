"""The order in which long sums are written.

LLVM's scheduler goes up the longest chain first.  Of a sum of hundreds of terms that is the chain
of its partial sums, for which all terms are computed first, stored and loaded again.
"""

from __future__ import annotations

from collections.abc import Sequence

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
