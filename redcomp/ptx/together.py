"""Contractions that neighbouring lanes compute together, each of some components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from redcomp.ir import Value, topological
from redcomp.llvm_backend.components import Visit
from redcomp.llvm_backend.emit import Emitter
from redcomp.ptx.kernel_code import KernelCode
from redcomp.ptx.mma import padded

# Contractions of more components than this are loops, over so many at a time.
_WRITTEN_OUT, _OF_LOOP = 256, 32

# Of each contraction, for some points of the emitter's rows and columns.
OfContractions = dict[Value, list[str]]
Points = Sequence[tuple[int, int]]
_Key = TypeVar("_Key")


class Contracted(NamedTuple):
    """What lanes have computed together.

    sums    contractions: for each row an operand, which all of the lanes have
    visits  the components of other vectors that the lane has come by: where, and for each vector
            and row an operand
    """

    sums: Mapping[Value, list[str]]
    visits: list[tuple[str, list[list[str]]]]


def contractions(roots: Iterable[Value]) -> list[Value]:
    """Those that some values need."""
    return [value for value in topological(roots) if value.op == "contraction"]


def by_length(values: Iterable[Value]) -> list[list[Value]]:
    """Contractions, those of vectors of one length together."""
    found: dict[int, list[Value]] = {}
    for value in values:
        found.setdefault(value.args[0].dim, []).append(value)
    return list(found.values())


def contracted(
    kernel: KernelCode,
    emitter: Emitter,
    values: Sequence[Value],
    rows: Sequence[int],
    member: str,
    lanes: int,
    vectors: Sequence[Value] = (),
) -> Contracted:
    """Compute contractions of some rows, by so many neighbouring lanes; `member` counts them.

    They are of vectors of one length, that of the other `vectors` too, which are short.  Each lane
    takes every so many-th component; all lanes take part.
    """
    code, points = kernel.code, [(row, 0) for row in rows]
    factors = [vector for value in values for vector in value.args]
    wanted = [*factors, *vectors]
    if not wanted:
        return Contracted({}, [])
    sums = {value: ["0.0" for _ in rows] for value in values}
    visits = []
    depth = padded(wanted[0].dim)
    if depth > _WRITTEN_OUT and not vectors:
        return Contracted(_in_loop(kernel, emitter, sums, points, member, lanes), [])
    for offset in range(0, depth, lanes):
        place = code.integer("add", member, offset)
        found = Visit(emitter, wanted, place, depth).operands(points)
        add_products(kernel, emitter, sums, found)
        visits.append((place, found[len(factors) :]))
    return Contracted(joined(kernel, sums, lanes), visits)


def _in_loop(
    kernel: KernelCode,
    emitter: Emitter,
    sums: OfContractions,
    points: Points,
    member: str,
    lanes: int,
) -> OfContractions:
    """The contractions of long vectors, whose sums are 0 before."""
    code, factors = kernel.code, [vector for value in sums for vector in value.args]
    dim = factors[0].dim
    depth = -(-dim // _OF_LOOP) * _OF_LOOP
    emitter.emit(factor.args[0] for factor in factors)  # what is the same for all components
    carried = [(kernel.scalar, operand) for operands in sums.values() for operand in operands]
    with code.loop(0, depth, _OF_LOOP, carried) as loop:
        found = split(loop.carried, sums)
        for offset in range(0, _OF_LOOP, lanes):
            place = code.integer("add", code.integer("add", loop.counter, member), offset)
            visit = Visit(emitter, factors, place, depth)
            add_products(kernel, emitter, found, visit.operands(points))
        loop.following = [operand for operands in found.values() for operand in operands]
    return joined(kernel, split(loop.carried, sums), lanes)


def split(operands: Sequence[str], sums: Mapping[_Key, list[str]]) -> dict[_Key, list[str]]:
    """Operands in the order in which some sums have theirs."""
    left = iter(operands)
    return {value: [next(left) for _ in own] for value, own in sums.items()}


def add_products(
    kernel: KernelCode, emitter: Emitter, sums: OfContractions, found: Sequence[Sequence[str]]
) -> None:
    """Add the products of a component of the vectors of each contraction to its sums."""
    type_, fma = kernel.scalar, emitter.overloaded("llvm.fma", kernel.nest.dtype, True)
    for value, a, b in zip(sums, found[::2], found[1::2], strict=False):
        sums[value] = [
            kernel.code.call(type_, fma, [type_] * 3, operands)
            for operands in zip(a, b, sums[value], strict=True)
        ]


def joined(kernel: KernelCode, sums: OfContractions, lanes: int) -> OfContractions:
    """The sums of what so many neighbouring lanes have, which all of them get."""
    code, type_ = kernel.code, kernel.scalar
    distance = 1
    while distance < lanes:
        for value, operands in sums.items():
            sums[value] = [
                code.value(
                    f"fadd {type_} {operand}, "
                    f"{kernel.spelling.exchanged(code, type_, operand, distance)}"
                )
                for operand in operands
            ]
        distance *= 2
    return sums
