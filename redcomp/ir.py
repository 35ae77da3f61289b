"""The intermediate representation: immutable values in SSA form over small vectors.

A formula is pure, so the graph of its values *is* the program; the listing that `redcomp.text`
prints is the graph's topological order, and code that nothing reaches does not exist.

Besides its type, a value has a *dependence set*: whether it changes with the row index i, the
column index j, both, or neither (a parameter or a constant).  It says what is a vector of lanes and
what is uniform, and what can be moved out of which loop.

Loops over the components of long vectors are values too.  An `index` value is the loop counter; the
operations in `BINDERS` (`fold`, `map`, `scan`) bind it: whatever depends on it is the body of the
loop.  A `scan` binds a second value, `earlier`, by which its body reads the components that the
loop has made before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from redcomp.concurrency import cached_property

Kind = Literal[
    "i",
    "j",
    "ij",
    "ji",
    "parameter",
    "j_sample",
    "i_index",
    "j_index",
    "column",
    "tile",
    "state",
    "total",
]
Attribute = int | float | str | tuple[int, ...]

I_BIT, J_BIT = 1, 2
# `ij` and `ji` have a vector for each pair, in an array with the rows or the columns on its first
# axis.  A `j_sample` is what the `j` of its position is in one column, the same for all rows and
# columns of an entry of the batch.  `i_index` and `j_index` are the numbers of the row and of the
# column, integers; `column` is the number of a column within its tile, a float, and `tile` that of
# the tile's first column.  A reduction's state changes with every pair; its total is one a row.
KIND_BITS: Mapping[Kind, int] = {
    "i": I_BIT,
    "j": J_BIT,
    "ij": I_BIT | J_BIT,
    "ji": I_BIT | J_BIT,
    "parameter": 0,
    "j_sample": 0,
    "i_index": I_BIT,
    "j_index": J_BIT,
    "column": J_BIT,
    "tile": 0,
    "state": I_BIT | J_BIT,
    "total": I_BIT,
}

# What calls pass arrays for.
ARGUMENT_KINDS: tuple[Kind, ...] = ("i", "j", "ij", "ji", "parameter")

FLOATS = ("f32", "f64")
NUMPY_DTYPES: Mapping[str, type[np.generic]] = {
    "f32": np.float32,
    "f64": np.float64,
    "i1": np.bool_,
    "i32": np.int32,
    "i64": np.int64,
    "index": np.int64,
}
INTEGER_OF_WIDTH: Mapping[str, str] = {"f32": "i32", "f64": "i64"}
# Bits of what stands for a number.
WIDTHS: Mapping[str, int] = {"i1": 1, "i32": 32, "f32": 32, "i64": 64, "f64": 64}
# Bytes in memory.
SIZES: Mapping[str, int] = {"f32": 4, "f64": 8, "i32": 4, "i64": 8}

# Operations whose last argument is an `index` value that they bind.
BINDERS = ("fold", "map", "scan")
# Operations without arithmetic, which every target has.
STRUCTURAL = frozenset(
    {"variable", "constant", "index", "earlier", "component", "from_elements", *BINDERS}
)


@dataclass(frozen=True, slots=True)
class Type:
    """`dim` components of one `dtype`; a scalar is a vector of one component."""

    dtype: str
    dim: int = 1

    def __post_init__(self) -> None:
        if self.dtype not in NUMPY_DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}")
        if self.dim < 1:
            raise ValueError(f"a vector needs at least one component, not {self.dim}")

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def numpy(self) -> type[np.generic]:
        return NUMPY_DTYPES[self.dtype]

    def __str__(self) -> str:
        return self.dtype if self.dim == 1 else f"vector<{self.dim}x{self.dtype}>"


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open piece of the formula's text, for error messages."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One operation and its result; compared by identity, so `Interner` shares equal ones."""

    op: str
    args: tuple[Value, ...]
    type: Type
    attrs: tuple[tuple[str, Attribute], ...] = ()
    span: Span | None = None
    dependence: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.op == "variable":
            bits = KIND_BITS[self["kind"]]
        elif self.op == "earlier":  # a scan is computed for each pair
            bits = I_BIT | J_BIT
        else:
            bits = 0
            for arg in self.args:
                bits |= arg.dependence
        object.__setattr__(self, "dependence", bits)

    def __getitem__(self, name: str) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"{self.op} has no attribute {name!r}")

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def dim(self) -> int:
        return self.type.dim

    @property
    def is_constant(self) -> bool:
        return self.op == "constant"

    def with_args(self, args: tuple[Value, ...]) -> Value:
        """The same operation on other arguments; itself if they are the same objects."""
        if args == self.args:  # values are compared by identity
            return self
        return Value(self.op, args, self.type, self.attrs, self.span)

    # Arithmetic on values builds the operations of the same name, so that the rules of the
    # operation tables read like formulas.  Numbers become constants of the other operand's dtype.
    def __add__(self, other: Value | float) -> Value:
        return elementwise("add", self, other)

    def __radd__(self, other: float) -> Value:
        return elementwise("add", other, self)

    def __sub__(self, other: Value | float) -> Value:
        return elementwise("subtract", self, other)

    def __rsub__(self, other: float) -> Value:
        return elementwise("subtract", other, self)

    def __mul__(self, other: Value | float) -> Value:
        return elementwise("multiply", self, other)

    def __rmul__(self, other: float) -> Value:
        return elementwise("multiply", other, self)

    def __truediv__(self, other: Value | float) -> Value:
        return elementwise("divide", self, other)

    def __rtruediv__(self, other: float) -> Value:
        return elementwise("divide", other, self)

    def __neg__(self) -> Value:
        return elementwise("negate", self)

    def __and__(self, other: Value | int) -> Value:
        return elementwise("and", self, other)

    def __or__(self, other: Value | int) -> Value:
        return elementwise("or", self, other)

    def __xor__(self, other: Value | int) -> Value:
        return elementwise("xor", self, other)

    def __lshift__(self, other: Value | int) -> Value:
        return elementwise("shift_left", self, other)

    def __rshift__(self, other: Value | int) -> Value:
        """The arithmetic (sign-keeping) shift."""
        return elementwise("shift_right", self, other)


def constant(value: float | int | bool, dtype: str, span: Span | None = None) -> Value:
    """A scalar constant, rounded to `dtype`; floats keep the sign of zero and NaN."""
    with np.errstate(over="ignore"):
        rounded = NUMPY_DTYPES[dtype](value)
    number = float(rounded) if dtype in FLOATS else int(rounded)
    return Value("constant", (), Type(dtype), (("value", number),), span)


def zero(type_: Type) -> Value:
    """A vector of zeros."""
    return broadcast(constant(0, type_.dtype), type_.dim)


def broadcast(scalar: Value, dim: int) -> Value:
    """The scalar repeated `dim` times; a value that has `dim` components is returned as it is."""
    if scalar.dim == dim:
        return scalar
    return Value("broadcast", (scalar,), Type(scalar.dtype, dim))


def variable(name: str, kind: Kind, position: int, type_: Type, span: Span | None = None) -> Value:
    """An argument of the kernel: one vector a row, a column, a pair, or a call."""
    attrs = (("kind", kind), ("name", name), ("position", position))
    return Value("variable", (), type_, attrs, span)


def number_variable(kind: Kind, dtype: str) -> Value:
    """The number of the row ("i_index") or column ("j_index"), for a kernel of this dtype.

    Its name is one that no formula can have.
    """
    return variable(f"#{kind[0]}", kind, 0, Type(INTEGER_OF_WIDTH[dtype]))


def index(extent: int, level: int = 0) -> Value:
    """The counter of a loop over `extent` components; `level` tells nested loops apart."""
    return Value("index", (), Type("index"), (("extent", extent), ("level", level)))


def elementwise(op: str, *operands: Value | float, **attrs: Attribute) -> Value:
    """An operation that acts on each component, a scalar operand serving every component."""
    values = [operand for operand in operands if isinstance(operand, Value)]
    first = values[0]
    args = tuple(
        operand if isinstance(operand, Value) else constant(operand, first.dtype)
        for operand in operands
    )
    dim = max(value.dim for value in values)
    span = next((value.span for value in values if value.span), None)
    return Value(op, args, Type(first.dtype, dim), tuple(sorted(attrs.items())), span)


def fma(a: Value, b: Value | float, c: Value | float) -> Value:
    """a * b + c, rounded once."""
    return elementwise("fma", a, b, c)


def compare(predicate: str, a: Value, b: Value | float) -> Value:
    """A truth value (i1); predicates are LLVM's: olt, ole, ogt, oge, oeq, une, uno, slt, eq, ..."""
    made = elementwise("compare", a, b, predicate=predicate)
    return replace(made, type=Type("i1", made.dim))


def select(condition: Value, a: Value | float, b: Value | float) -> Value:
    """a where the condition holds, else b."""
    values = [operand for operand in (a, b) if isinstance(operand, Value)]
    dtype = values[0].dtype
    operands = [v if isinstance(v, Value) else constant(v, dtype) for v in (a, b)]
    dim = max(condition.dim, *(v.dim for v in operands))
    return Value("select", (condition, *operands), Type(dtype, dim), (), values[0].span)


def indicator(condition: Value, dtype: str) -> Value:
    """1.0 where the condition holds, else 0.0."""
    return select(condition, constant(1.0, dtype), constant(0.0, dtype))


def bitcast(a: Value, dtype: str) -> Value:
    """The same bits as a number of another dtype of the same width."""
    return Value("bitcast", (a,), Type(dtype, a.dim), (("dtype", dtype),), a.span)


def convert(a: Value, dtype: str) -> Value:
    """The same number in another dtype (the integer part, from float to integer)."""
    if a.dtype == dtype:
        return a
    return Value("convert", (a,), Type(dtype, a.dim), (("dtype", dtype),), a.span)


def lookup(table: tuple[float, ...], position: Value, dtype: str) -> Value:
    """table[position modulo its length], a power of two; the table is kept as bits."""
    integer = NUMPY_DTYPES[INTEGER_OF_WIDTH[dtype]]
    bits = np.array(table, NUMPY_DTYPES[dtype]).view(integer)
    attrs = (("dtype", dtype), ("table", tuple(int(b) for b in bits)))
    return Value("lookup", (position,), Type(dtype, position.dim), attrs, position.span)


def component(vector: Value, position: Value | int) -> Value:
    """One component of a vector, at a constant or computed position."""
    if isinstance(position, int):
        if vector.dim == 1:
            return vector
        return Value("component", (vector,), Type(vector.dtype), (("position", position),))
    return Value("component", (vector, position), Type(vector.dtype))


def fold(combine: str, initial: Value, operands: tuple[Value, ...], counter: Value) -> Value:
    """Over the counter's loop, state = combine(*operands, state), starting from `initial`."""
    return Value("fold", (initial, *operands, counter), initial.type, (("combine", combine),))


def vector_map(element: Value, counter: Value) -> Value:
    """The vector whose component at `counter` is `element`."""
    return Value("map", (element, counter), Type(element.dtype, counter["extent"]))


def earlier(counter: Value, dtype: str) -> Value:
    """The vector that the counter's scan is making.

    Component 0 is 0 until it is made, so that a body may read it in place of those before it;
    others are undefined until then.
    """
    return Value("earlier", (), Type(dtype, counter["extent"]), counter.attrs)


def scan(element: Value, before: Value, counter: Value) -> Value:
    """The vector whose component at `counter` is `element`, made in order; see `earlier`."""
    return Value("scan", (element, before, counter), before.type)


def from_elements(elements: tuple[Value, ...]) -> Value:
    """The vector of the given scalars."""
    if len(elements) == 1:
        return elements[0]
    return Value("from_elements", elements, Type(elements[0].dtype, len(elements)))


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


class Listing(tuple[Value, ...]):
    """Values in order: before each of them, all that it is made from.  `topological` keeps it."""

    __slots__ = ()


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


def topological(roots: Iterable[Value], known: Container[Value] = ()) -> Iterator[Value]:
    """Every value that the roots reach, arguments before their users, each once.

    Nothing is yielded or searched below `known` values.
    """
    if isinstance(roots, Listing) and known == ():
        yield from roots
        return
    seen: set[Value] = set()
    stack: list[Value | None] = list(roots)
    stack.reverse()
    # Looked up once: every pass and the emitter walk all values.
    pop, add, has_all = stack.pop, seen.add, seen.issuperset
    while stack:
        value = pop()
        if value is None:  # all that the next one needs has been yielded
            done = pop()
            assert done is not None
            yield done
        elif value not in seen and value not in known:
            add(value)
            if has_all(value.args):  # which have been yielded: no value is made from itself
                yield value
            else:
                stack += (value, None)
                stack += value.args[::-1]


def listing(roots: Iterable[Value]) -> Listing:
    """Every value that the roots reach, in order."""
    return roots if isinstance(roots, Listing) else Listing(topological(roots))


def leaves_of(roots: Iterable[Value], numbers: Mapping[Value, int]) -> dict[Value, int]:
    """For each reachable value which of some leaves it is made from: bit n for number n.

    numbers   those of the leaves
    """
    masks: dict[Value, int] = {}
    for value in topological(roots):
        mask = 1 << numbers[value] if value in numbers else 0
        for arg in value.args:
            mask |= masks[arg]
        masks[value] = mask
    return masks


def free_indices(roots: Iterable[Value]) -> dict[Value, frozenset[tuple[int, int]]]:
    """For each reachable value the loops it is inside of, as (level, extent) pairs."""
    nothing: frozenset[tuple[int, int]] = frozenset()
    values = listing(roots)
    if not any(value.op in ("index", "earlier") for value in values):
        return dict.fromkeys(values, nothing)
    free: dict[Value, frozenset[tuple[int, int]]] = {}
    for value in values:
        if value.op in ("index", "earlier"):
            free[value] = frozenset({loop_of(value)})
            continue
        inside = nothing
        for arg in value.args:
            if free[arg]:
                inside |= free[arg]
        if value.op in BINDERS:
            inside -= {loop_of(value.args[-1])}
        free[value] = inside
    return free


def read_in_loops(elements: Iterable[Value]) -> list[Value]:
    """What elements of vectors take from outside of the loops that they are computed in.

    What is outside is not looked into: a fold there has loops of its own.
    """
    roots = tuple(elements)
    free = free_indices(roots)
    outside = {number for number, loops in free.items() if not loops}
    inner = topological(roots, known=outside)
    return list(dict.fromkeys(a for v in inner for a in v.args if a in outside))


def loop_of(counter: Value) -> tuple[int, int]:
    """What tells loops apart: the nesting level and the extent."""
    return counter["level"], counter["extent"]


_BITS = struct.Struct("d").pack


def _key_attribute(item: tuple[str, Attribute]) -> object:
    name, value = item
    # 0.0 and -0.0 are different constants and NaN equals itself, so floats are compared by bits.
    return (name, _BITS(value)) if isinstance(value, float) else item


class Interner:
    """Gives one object for all values of equal structure: common-subexpression elimination."""

    def __init__(self) -> None:
        self._known: dict[object, Value] = {}

    def __call__(self, value: Value) -> Value:
        type_, attrs = value.type, value.attrs
        key = (
            value.op,
            type_.dtype,
            type_.dim,
            tuple(map(_key_attribute, attrs)) if attrs else attrs,
            *value.args,
        )
        return self._known.setdefault(key, value)


def shared(roots: Iterable[Value]) -> dict[Value, Value]:
    """For each reachable value the one object that stands for all values of equal structure."""
    intern = Interner()
    done: dict[Value, Value] = {}
    for value in topological(roots):
        done[value] = intern(value.with_args(tuple([done[a] for a in value.args])))
    return done


def rewrite(roots: Iterable[Value], rule: Callable[[Value], Value]) -> dict[Value, Value]:
    """Rebuild the graph bottom-up through `rule`, sharing equal values; the new values by the old.

    `rule` gets a value whose arguments are final and returns it or a replacement.  A replacement,
    and whatever is new inside it, passes through the rule again until nothing changes.
    """
    intern = Interner()
    interned: dict[Value, Value] = {}
    final: dict[Value, Value] = {}

    def share(value: Value, args: tuple[Value, ...]) -> Value:
        """The one object for a value whose arguments have become `args`, which are shared."""
        made = value.with_args(args)
        known = interned.get(made)
        if known is None:
            known = intern(made)
            interned[made] = interned[known] = known
        return known

    def settle(value: Value) -> Value:
        replacement = rule(value)
        if replacement is value:
            return value
        for part in topological([replacement], known=interned):
            interned[part] = share(part, tuple([interned[a] for a in part.args]))
        replacement = interned[replacement]
        if replacement is value:
            return value
        for part in list(topological([replacement], known=final)):
            final[part] = settle(share(part, tuple([final[a] for a in part.args])))
        return final[replacement]

    done: dict[Value, Value] = {}
    for value in topological(roots):
        kept = share(value, tuple([done[a] for a in value.args]))
        settled = final.get(kept)
        if settled is None:
            settled = final[kept] = settle(kept)
        done[value] = final[settled] = settled
    return done


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
