"""Programs made of values: blocks, kernels, nests of loops, and parts of nests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Protocol, TypeVar

from redcomp.concurrency import cached_property
from redcomp.ir.graphs import Listing, listing, rewrite, topological
from redcomp.ir.values import Value
from redcomp.records import record


@record
class Block:
    """A straight-line program: its inputs and its results."""

    params: tuple[Value, ...]
    outs: tuple[Value, ...]


@record
class Output:
    """One output of a kernel: `scale(i) * reduce_j value(i, j)`; the scale does not depend on j.

    `count` is the number of columns that reductions such as `kmin` keep.
    """

    value: Value
    reduction: str = "sum"
    scale: Value | None = None
    count: int = 0


@dataclass(frozen=True, eq=False)
class Kernel:
    """The reduction over j of one or several outputs, for each i: the meaning of a formula."""

    params: tuple[Value, ...]
    outputs: tuple[Output, ...]

    @property
    def roots(self) -> tuple[Value, ...]:
        """Every value that the kernel needs: the reduced values, then the scales."""
        scales = tuple(o.scale for o in self.outputs if o.scale is not None)
        return tuple(o.value for o in self.outputs) + scales

    @cached_property
    def values(self) -> Listing:
        """All values that the roots reach."""
        return listing(self.roots)

    def with_params(self, params: tuple[Value, ...]) -> Kernel:
        """The kernel with other parameters."""
        return replace(self, params=params)

    def map_roots(self, function: Callable[[Value], Value]) -> Kernel:
        """The kernel with each root replaced."""
        outputs = tuple(
            replace(
                o,
                value=function(o.value),
                scale=None if o.scale is None else function(o.scale),
            )
            for o in self.outputs
        )
        return Kernel(self.params, outputs)


@record
class Hoisted:
    """A value computed outside the pair loop, and the variable that stands for it in the loop."""

    variable: Value
    definition: Value


@record
class Carried:
    """A state of the reduction, which the loops carry from pair to pair and from tile to tile.

    Three variables stand for it, and `initial` is the number that its total starts from:

    variable  the state, while the columns of a tile are reduced
    total     the accumulator over the tiles so far, in the accumulator's dtype
    other     the total of the next split of the columns

    The other fields are values, computed from the variables of all states:

    start     once per tile: the state before its first pair, from the totals
    adjust    once per pair, before the step: the state after a rare adjustment, from the states and
              the pair; the variable itself if it is never adjusted (see `Nest.guards`)
    step      once per pair: the next state, from the states and the pair; the variable itself if
              only adjustments change it
    merge     once per tile: the next total, from the totals and the states
    join      once per split: the next total, from the totals and the others; None, for all states
              of a nest, if its columns cannot be split
    """

    variable: Value
    initial: float
    total: Value
    other: Value
    start: Value
    adjust: Value
    step: Value
    merge: Value
    join: Value | None

    @classmethod
    def several(
        cls,
        *,
        states: Sequence[Value],
        initial: Sequence[float],
        totals: Sequence[Value],
        others: Sequence[Value],
        starts: Sequence[Value],
        adjusts: Sequence[Value],
        steps: Sequence[Value],
        merges: Sequence[Value],
        joins: Sequence[Value],
    ) -> tuple[Carried, ...]:
        """As many states as the lists have items.

        `adjusts` is empty if none is adjusted, `joins` if the columns cannot be split.
        """
        changed = adjusts or states, steps, merges, joins or (None,) * len(states)
        parts = zip(states, initial, totals, others, starts, *changed, strict=True)
        return tuple(starmap(cls, parts))

    @property
    def computed(self) -> tuple[Value, ...]:
        """All values of the state."""
        values = (self.start, self.adjust, self.step, self.merge)
        return values if self.join is None else (*values, self.join)

    def map(self, function: Callable[[Value], Value]) -> Carried:
        """The state with each value replaced."""
        return Carried(
            variable=self.variable,
            initial=self.initial,
            total=self.total,
            other=self.other,
            start=function(self.start),
            adjust=function(self.adjust),
            step=function(self.step),
            merge=function(self.merge),
            join=None if self.join is None else function(self.join),
        )


@dataclass(frozen=True, eq=False)
class Nest:
    """A kernel as the loops that compute it; each of its parts is a straight-line program.

    once per call      `uniform`, the values that depend on parameters only
    once per row i     `rows`
    once per column j  `columns`
    once per tile      `products`, scalar products of vectors of rows with vectors of columns, which
                       a skeleton computes for a block of pairs at a time, on targets that can;
                       and `updates`, vectors of columns, multiples of which are added to wide
                       states for a block of pairs at a time
    once per pair      `guards`, booleans of the states and the pair: adjusting the states changes
                       nothing in a row where none is true.  Without guards, no state is adjusted
    once per row       `results`, from the totals of the states

    `Carried` says when the values of a state are computed.
    """

    params: tuple[Value, ...]
    states: tuple[Carried, ...]
    guards: tuple[Value, ...]
    results: tuple[Value, ...]
    uniform: tuple[Hoisted, ...] = ()
    rows: tuple[Hoisted, ...] = ()
    columns: tuple[Hoisted, ...] = ()
    products: tuple[Hoisted, ...] = ()
    updates: tuple[Hoisted, ...] = ()

    @property
    def dtype(self) -> str:
        """The dtype of the reduced values.

        At least one state has it, also in each part of a partition (`verify`): column indices are
        only kept together with the values that they belong to.
        """
        return next(s.variable.dtype for s in self.states if s.variable.type.is_float)

    @property
    def accumulator(self) -> str:
        """The dtype of the totals."""
        return self.states[0].total.dtype

    @property
    def pairs(self) -> tuple[Value, ...]:
        """What is computed for each pair."""
        adjusts, steps = [s.adjust for s in self.states], [s.step for s in self.states]
        return (*self.guards, *adjusts, *steps)

    @property
    def joins(self) -> tuple[Value, ...]:
        """The joins of the states; none if the columns cannot be split."""
        return tuple(s.join for s in self.states if s.join is not None)

    @property
    def can_split(self) -> bool:
        """Whether parts of the columns can be reduced apart and joined."""
        return bool(self.joins)

    @property
    def roots(self) -> tuple[Value, ...]:
        starts, merges = [s.start for s in self.states], [s.merge for s in self.states]
        hoisted = [h.definition for h in self.hoisted]
        return (*starts, *self.pairs, *merges, *self.joins, *self.results, *hoisted)

    @property
    def kept(self) -> int:
        """Columns that lists keep for each row, such as the K nearest; 0 if there are no lists."""
        return sum(s.variable.dim for s in self.states if not s.variable.type.is_float)

    @property
    def hoisted(self) -> tuple[Hoisted, ...]:
        """All that is computed outside the pair loop."""
        return self.uniform + self.rows + self.columns + self.products + self.updates

    @cached_property
    def values(self) -> Listing:
        """All values that the roots reach."""
        return listing(self.roots)

    @cached_property
    def partitions(self) -> dict[int, Partition]:
        """What has been made of it, by the most states of a part (`passes.partition`)."""
        return {}

    @cached_property
    def pair_values(self) -> Listing:
        """All values that `pairs` reach."""
        return listing(self.pairs)

    @cached_property
    def pair_variables(self) -> Listing:
        """All variables that `pairs` reach."""
        return Listing(value for value in self.pair_values if value.op == "variable")

    def with_params(self, params: tuple[Value, ...]) -> Nest:
        """The nest with other parameters."""
        return replace(self, params=params)

    def map_roots(self, function: Callable[[Value], Value]) -> Nest:
        """The nest with each root replaced."""

        def moved(group: tuple[Hoisted, ...]) -> tuple[Hoisted, ...]:
            return tuple(Hoisted(h.variable, function(h.definition)) for h in group)

        return replace(
            self,
            states=tuple(state.map(function) for state in self.states),
            guards=tuple(map(function, self.guards)),
            results=tuple(map(function, self.results)),
            uniform=moved(self.uniform),
            rows=moved(self.rows),
            columns=moved(self.columns),
            products=moved(self.products),
            updates=moved(self.updates),
        )


@record
class Piece:
    """Which components of a result a part computes: those from `first` on.

    dim  the number of components of that result
    """

    result: int
    first: int
    dim: int


@record
class Part:
    """A nest that computes pieces of the results; one piece for each of its own results."""

    nest: Nest
    pieces: tuple[Piece, ...]

    @property
    def carried(self) -> int:
        """States that are in registers."""
        return sum(state.variable.dim == 1 for state in self.nest.states)


@dataclass(frozen=True, eq=False)
class Partition:
    """A nest as several, one after the other, which compute all components of its results."""

    parts: tuple[Part, ...]

    @property
    def values(self) -> Listing:
        """All values that the parts reach."""
        return listing([root for part in self.parts for root in part.nest.roots])

    def map_nests(self, function: Callable[[Nest], Nest]) -> Partition:
        """The partition with each part's nest replaced, by one with the same results."""
        return Partition(tuple(Part(function(part.nest), part.pieces) for part in self.parts))


# The types of programs that passes take and return.
AnyProgram = Kernel | Nest | Partition


class Program(Protocol):
    """What a pass rewrites: a kernel, or the nest of loops that it has become."""

    @property
    def params(self) -> tuple[Value, ...]: ...

    @property
    def roots(self) -> tuple[Value, ...]: ...

    @property
    def values(self) -> Listing: ...

    def with_params(self: P, params: tuple[Value, ...]) -> P: ...

    def map_roots(self: P, function: Callable[[Value], Value]) -> P: ...


P = TypeVar("P", bound=Program)


def rewrite_program(program: P, rule: Callable[[Value], Value]) -> P:
    """`rewrite` over all roots of a program."""
    return with_roots(program, rewrite(program.values, rule))


def with_roots(program: P, done: Mapping[Value, Value]) -> P:
    """The program with each root replaced; itself, which knows its values, if none changes."""
    if all(done[root] is root for root in program.roots):
        return program
    return program.map_roots(done.__getitem__)


def replace_variables(kernel: Kernel, replacements: Mapping[Value, Value]) -> Kernel:
    """The kernel with variables replaced; dependence sets follow."""
    done: dict[Value, Value] = dict(replacements)
    for value in topological((*kernel.params, *kernel.roots), known=replacements):
        # `with_args` recomputes the dependence set from the new arguments.
        done[value] = value.with_args(tuple(done[arg] for arg in value.args))
    moved = kernel.map_roots(done.__getitem__)
    return Kernel(tuple(done[v] for v in kernel.params), moved.outputs)
