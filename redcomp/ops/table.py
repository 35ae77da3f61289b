"""The table of operations: what an operation is, and where one looks it up.

One row says everything about an operation: how it is spelt in formulas and in MLIR, the shape of
its result, its value (for constant folding and for the interpreter), its derivative, how it is
expanded into simpler operations, and how it is to be tested and documented.  Parser, passes, back
ends, tests and the documentation read the table; adding a scalar operation is adding one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal

import numpy as np

from redcomp.ir import Attribute, Type, Value
from redcomp.ops.signs import SignRule
from redcomp.records import record

Array = np.ndarray[Any, Any]
Section = Literal[
    "Arithmetic",
    "Mathematics",
    "Comparison and selection",
    "Vectors",
    "Matrices and tensors",
    "Splines and alignment",
    "Complex numbers",
    "Constants",
    "Primitives",
]

# What computes a primitive.
Unit = Literal[
    "",
    "arithmetic",
    "comparison",
    "selection",
    "logic",
    "special",
    "rounding",
    "conversion",
    "operand",
]

# What not every target has; see `Operation.needs`.
Feature = Literal["", "fma", "rounding", "native"]
# Stands among the primitives of a target whose lanes are those of SIMD registers.  It is no
# operation, but `Operation.variants` may need it.
SIMD = "simd"

# Parameters that are lists of integers instead of integers.
LIST_PARAMETERS = ("dimsf", "dimsg", "contf", "contg", "perm")


class ShapeError(ValueError):
    """Dimensions that an operation cannot take; the frontend adds the place in the formula."""


class DtypeError(ValueError):
    """Dtypes that an operation cannot take."""


Interval = tuple[float, float]


@record
class Domain:
    """Where an operation is tested and its errors are measured.

    intervals   one an operand, or one for all of them
    special     points of special interest
    parameters  values of the parameters, where they do not depend on dimensions
    largest     operands up to which it is accurate, by dtype, where that is not everywhere
    drawn       of two operands, (random numbers, dtype, count) to those where errors are measured
    """

    intervals: tuple[Interval, ...]
    special: tuple[float, ...] = ()
    parameters: tuple[tuple[int, ...], ...] = ()
    largest: Mapping[str, float] = field(default_factory=dict)
    drawn: Callable[[np.random.Generator, str, int], tuple[Array, Array]] | None = None


@record
class Range:
    """Where errors are measured of what is approximate on GPUs, in float32.

    intervals  one an operand; none for stairs, where an error is that of a whole step
    floor      errors are divided by max(floor, |exact result|)
    """

    intervals: tuple[Interval, ...] = ()
    floor: float = 0.0


# Normal numbers of float32.
NORMAL: Interval = (2.0**-126, 2.0**127)


@record
class Error:
    """How far a result is from the exact one: relative * |exact|, or `absolute` if that is more."""

    relative: float = 0.0
    absolute: float = 0.0


@record
class Typing:
    """What the IR demands of an operation's types, where that is more than one dtype for all.

    result      (value) to the dtype of the result, where that is not the operands'; raises
                DtypeError
    attributes  attributes that no formula gives, with their Python types
    alike       the operands that have one dtype, as a slice
    """

    result: Callable[[Value], str] | None = None
    attributes: Mapping[str, type] = field(default_factory=dict)
    alike: tuple[int, int | None] = (0, None)


ALIKE = Typing()


@record
class Operation:
    """One row of the table.

    name        the operation's name in the IR ("exp")
    spelling    its name in formulas ("Exp"), or "" if it has none
    arity       number of vector operands
    doc         one line of documentation
    section     the documentation's section
    operands    their names in formulas and in the documentation, where they are not f, g, h
    parameters  integer literals, or lists of them, that follow the operands in a formula, as names
                of attributes
    shape       from operand dimensions and attributes to the result's dimension; raises ShapeError
    evaluate    NumPy value from operand arrays (components on the last axis) and attributes; IEEE.
                None for a composite
    elementwise acts on each component, scalars serving all
    partials    for elementwise operations, one rule an operand: (operands..., result) to the
                partial derivative (a value or a number), or None for zero everywhere
    pullback    instead of partials: (cotangent, value) to one cotangent an operand (None: zero);
                one with more components than its operand is summed over them
    moves       whether the pullback only moves components to places of the operand, so that it can
                move truth values too: to "all" of the places, or to "some"
    selection   instead of partials, for operations that only choose among their operands and
                constants: the choice in terms of `select` (operands to value), whose derivative is
                theirs; it need not be right where an operand is NaN
    sign        the rule for the sign of its result, see `redcomp.ops.signs`; any, if there is none
    is_polynomial   whether it makes numbers of numbers, unless it overflows
    is_homogeneous  whether op(k f, k g) is k op(f, g) for all k >= 0
    integers    what it is of operands that are all integers: the "same" operation, or (the dtype of
                the kernel's floats, operands...) to the value; "" if they become floats first
    expand      scalar elementwise operations: rewritten with simpler operations (operands to
                value), by default the selection; None for a primitive, which back ends emit
    fallback    likewise, for a primitive that some targets cannot emit
    variants    expansions that are better on targets that have a certain primitive, or SIMD
    fast        faster expansions of larger errors, on targets that have a certain primitive; even
                the operation itself gives way to them
    fast_range  where the errors of what is approximate under fast math are measured
    element     vector operations: (access, value, k) to the component k of the result
    definition  for composites: operands and attributes to the formula that `apply` builds instead
    mlir        for primitives, MLIR's names for floats and for integers, where MLIR has them
    llvm        likewise, LLVM's instructions, or "llvm...." for an intrinsic of float operands,
                which is overloaded by their type
    needs       for primitives, what a target has to have to emit it: nothing, fused multiply-adds,
                instructions for "rounding"; "native" where LLVM has no name of its own, so that
                targets bring theirs
    casts       for a conversion, MLIR's and LLVM's names by the dtypes from which and to which
    unit        for primitives, the sort of unit that computes them, from which models of machines
                tell how fast: multiply-adds and integer sums are "arithmetic", integer operations
                on bits "logic", roots and quotients "special"; a sign or other bits are part of an
                "operand" of what reads them, and cost nothing
    dtypes      the dtypes of its operands, where not all are allowed
    error       for approximate instructions, how much they err at most
    typing      what else its types and attributes have to be
    domain      where to test
    exact       elementary functions: (m, operands) to the exact value, by the functions of a module
                such as mpmath; errors are measured against it
    ulp         the largest allowed error, in units in the last place, for float32 and float64
    gradient    the derivative at special points, for the documentation
    differs     where and why it differs from KeOps, for the documentation; "new" if it lacks it
    """

    name: str
    arity: int
    doc: str
    evaluate: Callable[..., Array] | None
    spelling: str = ""
    section: Section = "Primitives"
    parameters: tuple[str, ...] = ()
    shape: Callable[..., int] | None = None
    elementwise: bool = True
    partials: tuple[Callable[..., Value | float] | None, ...] = ()
    pullback: Callable[[Value, Value], tuple[Value | None, ...]] | None = None
    moves: Literal["", "all", "some"] = ""
    selection: Callable[..., Value] | None = None
    sign: SignRule | None = None
    is_polynomial: bool = False
    is_homogeneous: bool = False
    integers: Literal["", "same"] | Callable[..., Value] = ""
    expand: Callable[..., Value] | None = None
    fallback: Callable[..., Value] | None = None
    variants: Mapping[str, Callable[..., Value]] = field(default_factory=dict)
    fast: Mapping[str, Callable[..., Value]] = field(default_factory=dict)
    fast_range: Range | None = None
    element: Callable[..., Value] | None = None
    definition: Callable[..., Value] | None = None
    mlir: tuple[str, str] = ("", "")
    llvm: tuple[str, str] = ("", "")
    needs: Feature = ""
    casts: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    unit: Unit = ""
    dtypes: tuple[str, ...] = ()
    error: Error | None = None
    typing: Typing = ALIKE
    domain: Domain = field(default=Domain(((-4.0, 4.0),)))
    exact: Callable[..., Any] | None = None
    ulp: float = 0.0
    gradient: str = ""
    differs: str = ""
    operands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.expand is None:
            object.__setattr__(self, "expand", self.selection)

    @property
    def is_primitive(self) -> bool:
        return self.elementwise and self.expand is None

    def takes(self, dtype: str) -> bool:
        """Whether operands may have this dtype."""
        return not self.dtypes or dtype in self.dtypes

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of a call in a formula, by name."""
        return (*(self.operands or "fghuvw"[: self.arity]), *self.parameters)

    def value(self, *operands: Array, **attrs: Any) -> Array:
        """`evaluate`, which every row has that can stand in the IR."""
        if self.evaluate is None:
            raise ValueError(f"{self.name} is a composite: it never stands in the IR")
        return np.asarray(self.evaluate(*operands, **attrs))


OPERATIONS: dict[str, Operation] = {}
SPELLINGS: dict[str, Operation] = {}


def register(*rows: Operation) -> None:
    """Add rows to the table; names and spellings are unique."""
    for row in rows:
        is_spelt = any(row.llvm) or row.casts or row.needs == "native"
        if row.is_primitive and not (is_spelt and row.unit):
            raise ValueError(
                f"{row.name} is a primitive: its row has to say how LLVM spells it, or that it "
                "needs a target's native instruction, and which unit computes it"
            )
        if row.name in OPERATIONS or (row.spelling and row.spelling in SPELLINGS):
            raise ValueError(f"operation {row.name!r} or its spelling is registered twice")
        OPERATIONS[row.name] = row
        if row.spelling:
            SPELLINGS[row.spelling] = row


def primitives(*features: Feature) -> frozenset[str]:
    """The primitives that a target with these features emits, but for its native ones."""
    return frozenset(
        row.name for row in OPERATIONS.values() if row.is_primitive and row.needs in ("", *features)
    )


def broadcast_dim(*dims: int) -> int:
    """The common dimension of elementwise operands: all equal, or some of them 1."""
    widest = max(dims)
    if any(dim not in (1, widest) for dim in dims):
        listed = ", ".join(map(str, dims))
        raise ShapeError(f"dimensions {listed} do not fit: they must be equal, or 1")
    return widest


def apply(op: str, *args: Value, **attrs: Attribute) -> Value:
    """Build an operation from its row: infers the result's type and checks the operands' shapes.

    A composite is replaced by its definition.
    """
    row = OPERATIONS[op]
    dims = [arg.dim for arg in args]
    if row.shape is not None:
        dim = row.shape(*dims, **attrs)
    elif row.elementwise:
        dim = broadcast_dim(*dims)
    else:
        raise ValueError(f"operation {op!r} has no shape rule")
    if row.definition is not None:
        return row.definition(*args, **attrs)
    span = next((arg.span for arg in args if arg.span), None)
    return Value(op, args, Type(args[0].dtype, dim), tuple(sorted(attrs.items())), span)
