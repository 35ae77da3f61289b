"""Programs made of values: blocks, kernels, and the nests of loops that kernels become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from redcomp.concurrency import cached_property
from redcomp.ir.graphs import Listing, listing, rewrite, topological
from redcomp.ir.values import Value


@dataclass(frozen=True, slots=True)
class Block:
    """A straight-line program: what it reads and what it yields."""

    params: tuple[Value, ...]
    outs: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """One reduced value of a kernel: `scale(i) * reduce_j value(i, j)`, the scale free of j.

    `count` is how many columns a reduction keeps that keeps several, such as `kmin`.
    """

    value: Value
    reduction: str = "sum"
    scale: Value | None = None
    count: int = 0


@dataclass(frozen=True, eq=False)
class Kernel:
    """A reduction over j of a block's outputs, for each i: all that a formula asks for."""

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


@dataclass(frozen=True, slots=True)
class Hoisted:
    """A value computed outside the pair loop, and the variable by which the loop knows it."""

    variable: Value
    definition: Value


@dataclass(frozen=True, eq=False)
class Nest:
    """A kernel as the loops that compute it; every part is a straight-line program.

    once a call     `uniform`, the values that depend on parameters only
    once a row i    `rows`
    once a column j `columns`
    once a tile     `starts`: the first value of each of the reduction's `states`, from the totals
    once a pair     `adjusts`, then `steps`: the next value of each state.  Adjusting is rarely
                    needed: it changes nothing in a row where none of the `guards`, truth values of
                    the states and the pair, holds
    once a tile     `merges`: the next value of each of the `totals`, from the totals and the states
    once a split    `joins`: the next value of each total, from the totals and `others`, those of
                    the next part of the columns; none if the columns cannot be split
    once a row      `results`, from the totals
    """

    params: tuple[Value, ...]
    states: tuple[Value, ...]
    initial: tuple[float, ...]
    totals: tuple[Value, ...]
    others: tuple[Value, ...]
    starts: tuple[Value, ...]
    guards: tuple[Value, ...]
    adjusts: tuple[Value, ...]
    steps: tuple[Value, ...]
    merges: tuple[Value, ...]
    joins: tuple[Value, ...]
    results: tuple[Value, ...]
    uniform: tuple[Hoisted, ...] = ()
    rows: tuple[Hoisted, ...] = ()
    columns: tuple[Hoisted, ...] = ()

    @property
    def dtype(self) -> str:
        """The dtype of the reduced values."""
        return next(state.dtype for state in self.states if state.type.is_float)

    @property
    def pairs(self) -> tuple[Value, ...]:
        """What is computed for each pair."""
        return self.guards + self.adjusts + self.steps

    @property
    def roots(self) -> tuple[Value, ...]:
        hoisted = self.uniform + self.rows + self.columns
        ends = self.merges + self.joins + self.results
        return self.starts + self.pairs + ends + tuple(h.definition for h in hoisted)

    @cached_property
    def values(self) -> Listing:
        """All values that the roots reach."""
        return listing(self.roots)

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
            starts=tuple(map(function, self.starts)),
            guards=tuple(map(function, self.guards)),
            adjusts=tuple(map(function, self.adjusts)),
            steps=tuple(map(function, self.steps)),
            merges=tuple(map(function, self.merges)),
            joins=tuple(map(function, self.joins)),
            results=tuple(map(function, self.results)),
            uniform=moved(self.uniform),
            rows=moved(self.rows),
            columns=moved(self.columns),
        )


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
