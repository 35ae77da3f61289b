"""Variables that lie in memory together, and which variables and states do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from redcomp.ir import Nest, Value, topological
from redcomp.records import record


@record
class Record:
    """Variables packed one after the other; offsets are in components."""

    variables: tuple[Value, ...]
    offsets: dict[Value, int]
    width: int

    @classmethod
    def of(cls, variables: Iterable[Value]) -> Record:
        """The record of these variables, in their order."""
        listed = tuple(variables)
        offsets: dict[Value, int] = {}
        width = 0
        for variable in listed:
            offsets[variable] = width
            width += variable.dim
        return cls(listed, offsets, width)


# Arrays of vectors for each pair, by what counts their first axis.
PAIR_KINDS = ("ij", "ji")
# What a row is packed from: i-variables and its number.
ROW_KINDS = ("i", "i_index")


def variables_of(roots: Sequence[Value], *kinds: str) -> list[Value]:
    """The variables of some kinds that the roots reach."""
    return [v for v in topological(roots) if v.op == "variable" and v["kind"] in kinds]


def scans_of(roots: Iterable[Value]) -> list[Value]:
    """The scans that the roots reach."""
    return [value for value in topological(roots) if value.op == "scan"]


def in_memory(nest: Nest) -> Iterator[Value]:
    """What each row has memory for: states that are vectors and not updated, and scans."""
    are_vectors = (s for s in nest.states if s.variable.dim > 1 and s.step.op != "update")
    yield from (state.variable for state in are_vectors)
    others = topological(nest.results, known=set(nest.pair_values))
    yield from (value for value in (*nest.pair_values, *others) if value.op == "scan")
