"""Contractions that neighbouring lanes compute together, each of some components."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from redcomp.ir import Value, topological
from redcomp.llvm_backend.components import components_at
from redcomp.llvm_backend.emit import Emitter
from redcomp.ptx.kernel_code import KernelCode
from redcomp.ptx.mma import padded


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

    They are of vectors of one length, that of the other `vectors` too.  Each lane takes every so
    many-th component; all lanes take part.
    """
    code, type_ = kernel.code, kernel.scalar
    factors = [vector for value in values for vector in value.args]
    wanted = [*factors, *vectors]
    if not wanted:
        return Contracted({}, [])
    depth = padded(wanted[0].dim)
    fma = emitter.overloaded("llvm.fma", kernel.nest.dtype, True)
    sums = {value: ["0.0" for _ in rows] for value in values}
    visits = []
    for offset in range(0, depth, lanes):
        place = code.integer("add", member, offset)
        found = components_at(emitter, wanted, place, rows, depth)
        for value, a, b in zip(values, found[::2], found[1::2], strict=False):
            sums[value] = [
                code.call(type_, fma, [type_] * 3, operands)
                for operands in zip(a, b, sums[value], strict=True)
            ]
        visits.append((place, found[len(factors) :]))
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
    return Contracted(sums, visits)
