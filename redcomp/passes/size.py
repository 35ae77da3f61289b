"""size: the size of a program's code and the work per pair, computed without generating the code.

Programs beyond a limit are refused before LLVM would take minutes to compile them.  The limits
apply to the code and not to the formula's text: keeping the 200 smallest values of each of 300
components is within them, and of each of 1,000 components is not.  Nothing here walks the tree of a
value, which can be exponentially larger than its graph.
"""

from __future__ import annotations

from collections.abc import Collection

from redcomp.errors import SizeError
from redcomp.ir import BINDERS, STRUCTURAL, Nest, Outside, Value, free_indices, loop_of, topological
from redcomp.limits import MAX_OPERATIONS, MAX_STATES, MAX_WORK
from redcomp.passes.expand import expanded_length, measure
from redcomp.passes.partition import partitioned

# Where a kernel has one nest, its pair loops together are kept below this many operations, which
# are compiled in about a second; where it has several, the body of each is kept below so many
# values, since assemblers' time grows faster than a body.
_LONGEST_LOOPS = 20_000
_LONGEST_BODY = 1500
# Loops inside of loops compute what they share anew, as in a network's layers.  Above so many times
# the necessary operations, writing the vectors out is faster (benchmarks/schedules.py).
_MOST_REPETITIONS = 2.5


def is_short(nest: Nest, most: int, primitives: Collection[str]) -> bool:
    """Whether what is written out is short enough, and loops repeat little.

    most        states of each of the parts that the nest will be divided into; 0: it will not
    primitives  what is left when the nest is expanded
    """
    if not most:
        size = measure(nest.pair_values, primitives)
        repeats = size.done > _MOST_REPETITIONS * size.needed
        return not repeats and size.written <= _LONGEST_LOOPS and len(nest.states) <= MAX_STATES
    parts = partitioned(nest, most).parts
    return all(
        part.carried <= most and len(part.nest.pair_values) <= _LONGEST_BODY for part in parts
    )


def check_size(nest: Nest, primitives: Collection[str]) -> Nest:
    """The nest, which is scalar; raises SizeError if its code or its work per pair is too much.

    The body of a loop is in each loop that binds its counter, and is worked off as often as the
    counter says.
    """
    names, free = frozenset(primitives), free_indices(nest.values)
    loops: dict[Value, tuple[int, int]] = {}
    code = work = 0

    def cost(value: Value) -> tuple[int, int]:
        if value.op in STRUCTURAL:
            return loops.get(value, (0, 0))
        number = expanded_length(value, names)
        return number, number

    for value in nest.values:
        if value.op in BINDERS:
            *body, counter = value.args
            inside = topological(body, known=Outside(free, loop_of(counter)))
            parts = [cost(part) for part in inside]
            of_loop = sum(c for c, _ in parts), counter["extent"] * sum(w for _, w in parts)
            loops[value] = of_loop
            code, work = code + of_loop[0], max(work, of_loop[1])
        elif not free[value]:
            code += cost(value)[0]
        if code > MAX_OPERATIONS:
            raise SizeError(f"becomes more than {MAX_OPERATIONS:,} operations")
        if work > MAX_WORK:
            raise SizeError(f"takes more than {MAX_WORK:,} operations per pair")
    return nest
