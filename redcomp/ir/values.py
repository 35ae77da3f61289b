"""Values: operations and their results, and the functions that make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from redcomp.records import record

Kind = Literal[
    "i",
    "j",
    "ij",
    "ji",
    "parameter",
    "j_sample",
    "product",
    "update",
    "i_index",
    "j_index",
    "column",
    "tile",
    "state",
    "total",
]
Attribute = int | float | str | tuple[int, ...]

I_BIT, J_BIT = 1, 2
# `ij` and `ji` have a vector for each pair, in an array whose first axis is that of the rows or of
# the columns.  A `j_sample` is the `j` variable of the same position at one fixed column, the same
# for all rows and columns of a batch entry.  A `product` is one of `Nest.products`, a number for
# each pair, and an `update` one of `Nest.updates`, a vector of the column.  `i_index` and `j_index`
# are the indices of the row and of the column, integers; `column` is the index of a column within
# its tile, a float, and `tile` that of the tile's first column.  A reduction's state changes with
# every pair; its total changes with the row only.
KIND_BITS: Mapping[Kind, int] = {
    "i": I_BIT,
    "j": J_BIT,
    "ij": I_BIT | J_BIT,
    "ji": I_BIT | J_BIT,
    "parameter": 0,
    "j_sample": 0,
    "product": I_BIT | J_BIT,
    "update": J_BIT,
    "i_index": I_BIT,
    "j_index": J_BIT,
    "column": J_BIT,
    "tile": 0,
    "state": I_BIT | J_BIT,
    "total": I_BIT,
}

# The kinds of variables for which calls pass arrays.
ARGUMENT_KINDS: tuple[Kind, ...] = ("i", "j", "ij", "ji", "parameter")

FLOATS = ("f32", "f64")
# Of numbers of float32: IEEE's half precision and bfloat16.
SHORT_FORMATS = ("f16", "bf16")
# And of factors of products: TF32 has the exponents of float32 and 11 bits.
FACTOR_FORMATS = (*SHORT_FORMATS, "tf32")
NUMPY_DTYPES: Mapping[str, type[np.generic]] = {
    "f32": np.float32,
    "f64": np.float64,
    "i1": np.bool_,
    "i32": np.int32,
    "i64": np.int64,
    "index": np.int64,
}
INTEGER_OF_WIDTH: Mapping[str, str] = {"f32": "i32", "f64": "i64"}
# Bits of a number.
WIDTHS: Mapping[str, int] = {"i1": 1, "i32": 32, "f32": 32, "i64": 64, "f64": 64}
# Bytes in memory.
SIZES: Mapping[str, int] = {"f32": 4, "f64": 8, "i32": 4, "i64": 8}

# Operations whose last argument is an `index` value that they bind.
BINDERS = ("fold", "map", "scan")
# Values that exist only in the body of such a loop: its counter, and its earlier results.
BOUND = ("index", "earlier", "so_far")
# Operations without arithmetic, which every target has, and those that skeletons compute per tile.
STRUCTURAL = frozenset(
    {
        "variable",
        "constant",
        "constants",
        "component",
        "from_elements",
        "contraction",
        "update",
        *BOUND,
        *BINDERS,
    }
)


@record
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


@record
class Span:
    """A half-open piece of the formula's text, for error messages."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Value:
    """An operation and its result; compared by identity (`Interner` shares equal values)."""

    op: str
    args: tuple[Value, ...]
    type: Type
    attrs: tuple[tuple[str, Attribute], ...]
    span: Span | None
    dependence: int = field(init=False, repr=False)

    def __init__(
        self,
        op: str,
        args: tuple[Value, ...],
        type: Type,
        attrs: tuple[tuple[str, Attribute], ...] = (),
        span: Span | None = None,
    ) -> None:
        # Compilations make some hundred thousand values.  This takes a third of the time of the
        # method that a frozen class gets.
        _set_op(self, op)
        _set_args(self, args)
        _set_type(self, type)
        _set_attrs(self, attrs)
        _set_span(self, span)
        if args:
            bits = 0
            for arg in args:
                bits |= arg.dependence
        else:
            bits = self._own_dependence()
        _set_dependence(self, bits)

    def _own_dependence(self) -> int:
        """What a value without arguments depends on."""
        if self.op == "variable":
            return KIND_BITS[self["kind"]]
        if self.op == "earlier":  # a scan is computed for each pair
            return I_BIT | J_BIT
        bits: int = self["dependence"] if self.op == "so_far" else 0
        return bits

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


# The fields of a frozen class are set by what lies behind them, here looked up once.
_set_op, _set_args, _set_type, _set_attrs, _set_span, _set_dependence = (
    getattr(Value, name).__set__ for name in Value.__slots__
)


def constant(value: float | int | bool, dtype: str, span: Span | None = None) -> Value:
    """A scalar constant, rounded to `dtype`; floats keep the sign of zero and NaN."""
    number: float | int
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            number = float(NUMPY_DTYPES[dtype](value))
    else:
        number = int(NUMPY_DTYPES[dtype](value))
    return Value("constant", (), Type(dtype), (("value", number),), span)


def constants(
    numbers: Sequence[float] | np.ndarray[Any, Any], dtype: str, span: Span | None = None
) -> Value:
    """A vector of constant floats, which is in memory; they are kept as bits."""
    integer = NUMPY_DTYPES[INTEGER_OF_WIDTH[dtype]]
    bits = np.array(numbers, NUMPY_DTYPES[dtype]).view(integer)
    attrs = (("table", tuple(bits.tolist())),)
    return Value("constants", (), Type(dtype, len(numbers)), attrs, span)


def entries_of(value: Value) -> Any:
    """The numbers of `constants`, as an array."""
    integer = NUMPY_DTYPES[INTEGER_OF_WIDTH[value.dtype]]
    return np.array(value["table"], integer).view(value.type.numpy)


def zero(type_: Type) -> Value:
    """A vector of zeros."""
    return broadcast(constant(0, type_.dtype), type_.dim)


def broadcast(scalar: Value, dim: int) -> Value:
    """The scalar repeated `dim` times; a value that has `dim` components is returned as it is."""
    if scalar.dim == dim:
        return scalar
    return Value("broadcast", (scalar,), Type(scalar.dtype, dim))


def variable(
    name: str,
    kind: Kind,
    position: int,
    type_: Type,
    span: Span | None = None,
    stored: str = "",
) -> Value:
    """An argument of the kernel: one vector per row, column, pair, or call.

    stored  "f16" or "bf16" if its numbers are of this shorter format (`stored_of`)
    """
    attrs = (("kind", kind), ("name", name), ("position", position))
    return Value("variable", (), type_, (*attrs, ("stored", stored)) if stored else attrs, span)


def stored_of(value: Value) -> str:
    """The format that all numbers of a variable have, if it is shorter than its dtype, or ""."""
    return dict(value.attrs).get("stored", "")  # type: ignore[return-value]


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
    type_ = values[0].type
    args = tuple([o if isinstance(o, Value) else constant(o, type_.dtype) for o in operands])
    dim = max([value.type.dim for value in values])
    span = next((value.span for value in values if value.span), None)
    if dim != type_.dim:
        type_ = Type(type_.dtype, dim)
    return Value(op, args, type_, tuple(sorted(attrs.items())) if attrs else (), span)


def fma(a: Value, b: Value | float, c: Value | float) -> Value:
    """a * b + c, rounded once."""
    return elementwise("fma", a, b, c)


def compare(predicate: str, a: Value, b: Value | float) -> Value:
    """A boolean (i1); predicates are LLVM's: olt, ole, ogt, oge, oeq, une, uno, slt, eq, ..."""
    made = elementwise("compare", a, b, predicate=predicate)
    return Value("compare", made.args, Type("i1", made.dim), made.attrs, made.span)


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


def contraction(a: Value, b: Value, factors: str = "") -> Value:
    """The sum over k of a[k] * b[k], which several threads compute cooperatively.

    Both vectors depend on the row only, or both on the column only; or it defines a product of a
    nest, of an i-vector and a j-vector, which is computed for a block of pairs at a time.

    factors  the format that the numbers of both have, if it is shorter than their dtype
    """
    attrs = (("factors", factors),) if factors else ()
    return Value("contraction", (a, b), Type(a.dtype), attrs)


def update(state: Value, factor: Value, vector: Value, factors: str = "") -> Value:
    """state + factor * vector, the step of a state whose components several threads share.

    The factor is a number of the pair, the vector a variable of the column (`Nest.updates`): so all
    pairs of a step together multiply the matrix of factors with that of the columns.

    factors  the format that the vector's numbers have, if it is shorter than their dtype
    """
    attrs = (("factors", factors),) if factors else ()
    return Value("update", (state, factor, vector), state.type, attrs)


def factors_of(product: Value) -> str:
    """The format that the vectors of a contraction or an update have: their dtype, or a shorter."""
    return dict(product.attrs).get("factors", product.dtype)  # type: ignore[return-value]


def so_far(counter: Value, dtype: str, dependence: int) -> Value:
    """The accumulated value of the counter's fold before this iteration.

    Its dependence is that of the fold, which cannot be derived from the body.
    """
    attrs = (("dependence", dependence), *counter.attrs)
    return Value("so_far", (), Type(dtype), attrs)


def fold(initial: Value, step: Callable[[Value], Value], counter: Value) -> Value:
    """Over the counter's loop, state = step(state), starting from `initial`; see `so_far`."""
    dependence = initial.dependence | step(initial).dependence
    before = so_far(counter, initial.dtype, dependence)
    return Value("fold", (initial, step(before), before, counter), initial.type)


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
