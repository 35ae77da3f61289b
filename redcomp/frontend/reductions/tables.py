"""Reads of tables taken out of a formula: `Gather(t, index)` where the index has no pairs.

Such a read is a variable of the kind of its index.  Given as one, its gradient is one number a row
or column, which is then added to the table's component; in the formula it would be a whole table a
row.
"""

from __future__ import annotations

from redcomp.frontend.reductions.derivatives import pointwise_kernel
from redcomp.frontend.reductions.pair_reduction import DerivedSource, PairReduction, remembered
from redcomp.ir import (
    I_BIT,
    J_BIT,
    Kernel,
    Kind,
    Type,
    Value,
    compare,
    convert,
    replace_variables,
    select,
    topological,
    variable,
)
from redcomp.passes.derivatives import NUMBERS, Names, arguments_of, numbers_of
from redcomp.records import record

_KINDS: dict[int, Kind] = {0: "parameter", I_BIT: "i", J_BIT: "j"}


@record
class Read:
    """A read of a table, which a variable of some kind stands for.

    table      the table's position
    index      gives the index for each row, -1 where the table has no such component; its arguments
               are those at the positions `arguments`, and then the rows' `numbers`
    """

    kind: Kind
    table: int
    index: PairReduction
    arguments: tuple[int, ...]
    numbers: tuple[Kind, ...]


@record
class WithoutReads:
    """A reduction that takes what was read after its other arguments.

    unread      the positions of tables that it reads no more
    """

    reduction: PairReduction
    reads: tuple[Read, ...]
    unread: frozenset[int]


@remembered
def without_reads(reduction: PairReduction, tables: frozenset[int]) -> WithoutReads | None:
    """The reduction without its reads of the tables at some positions; None if there are none."""
    kernel = reduction.description
    reads = tuple(
        _read(reduction, kernel, tables, number, gather)
        for number, gather in enumerate(_gathers(kernel, tables))
    )
    if not reads:
        return None
    derived = reduction.derive(WithoutReadsSource(reduction, tables), reduction.rows)
    left = set(topological(derived.description.roots))
    arguments = arguments_of(derived.description)
    unread = frozenset(position for position in tables if arguments[position] not in left)
    return WithoutReads(derived, reads, unread)


def _gathers(kernel: Kernel, tables: frozenset[int]) -> list[Value]:
    """The reads that can be taken out, in the order of the listing."""
    arguments = arguments_of(kernel)
    wanted = {arguments[position] for position in tables}
    return [
        value
        for value in topological(kernel.roots)
        if value.op == "gather" and value.args[0] in wanted and value.dependence in _KINDS
    ]


def _read(
    reduction: PairReduction, kernel: Kernel, tables: frozenset[int], number: int, gather: Value
) -> Read:
    table, index = gather.args
    variables = _variables(kernel, index)
    return Read(
        _KINDS[gather.dependence],
        table["position"],
        reduction.derive(IndexSource(reduction, tables, number), "i"),
        tuple(v["position"] for v in variables if v["kind"] not in NUMBERS),
        numbers_of(variables),
    )


def _variables(kernel: Kernel, value: Value) -> list[Value]:
    """The kernel's variables that a value reads, in the kernel's order."""
    read = set(topological([value]))
    return [v for v in kernel.params if v in read]


@record
class WithoutReadsSource(DerivedSource):
    """A reduction whose reads of some tables are variables."""

    stage = "without-reads"
    tables: frozenset[int]

    def kernel(self, dtype: str) -> Kernel:
        kernel = self.parent.untransposed(dtype)
        arguments, names = arguments_of(kernel), Names(kernel)
        made = {
            gather: variable(
                names.new("read"),
                _KINDS[gather.dependence],
                len(arguments) + n,
                Type(gather.dtype),
                gather.span,
            )
            for n, gather in enumerate(_gathers(kernel, self.tables))
        }
        numbers = (v for v in kernel.params if v["kind"] in NUMBERS)
        rewritten = replace_variables(kernel, made)
        return Kernel((*arguments, *made.values(), *numbers), rewritten.outputs)


@record
class IndexSource(DerivedSource):
    """The index of one of a reduction's reads, for each row."""

    stage = "index"
    tables: frozenset[int]
    number: int

    def kernel(self, dtype: str) -> Kernel:
        kernel = self.parent.untransposed(dtype)
        table, index = _gathers(kernel, self.tables)[self.number].args
        is_inside = select(compare("sge", index, 0), compare("slt", index, table.dim), False)
        place = convert(select(is_inside, index, -1), dtype)  # exact: tables have at most 2^24
        return pointwise_kernel(kernel, place, _variables(kernel, index))


SOURCES = (WithoutReadsSource, IndexSource)
