"""Primitive operations, which back ends emit, and the arithmetic, comparisons and selection on top.

Integer operations wrap around.  The language's comparisons give 1.0 or 0.0; the primitive `compare`
gives a truth value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from redcomp.ir import (
    NUMPY_DTYPES,
    Value,
    bitcast,
    compare,
    constant,
    convert,
    elementwise,
    indicator,
    select,
)
from redcomp.ops import approximate
from redcomp.ops.expansions.shared import copy_sign, expand_scale, format_of, magnitude
from redcomp.ops.table import Array, Domain, Operation, Unit, apply, register

PAIR = Domain(((-4.0, 4.0), (-4.0, 4.0)), (0.0,))

PREDICATES: dict[str, Any] = {
    "oeq": np.equal,
    "une": np.not_equal,
    "olt": np.less,
    "ole": np.less_equal,
    "ogt": np.greater,
    "oge": np.greater_equal,
    "uno": lambda a, b: np.isnan(a) | np.isnan(b),
    # Of floats: true where an operand is NaN.
    "ult": lambda a, b: ~(a >= b),
    "ule": lambda a, b: ~(a > b),
    "ugt": lambda a, b: ~(a <= b),
    "uge": lambda a, b: ~(a < b),
    "eq": np.equal,
    "ne": np.not_equal,
    "slt": np.less,
    "sle": np.less_equal,
    "sgt": np.greater,
    "sge": np.greater_equal,
}
_OPPOSITES = (
    ("oeq", "une"),
    ("olt", "uge"),
    ("ole", "ugt"),
    ("ogt", "ule"),
    ("oge", "ult"),
    ("eq", "ne"),
    ("slt", "sge"),
    ("sle", "sgt"),
)
# The predicate that holds where one does not.
OPPOSITES: dict[str, str] = dict(_OPPOSITES) | {b: a for a, b in _OPPOSITES}


def _chosen(condition: Array, a: Array, b: Array) -> Array:
    return np.asarray(np.where(condition, a, b))


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """a * b and its rounding error in float64, by Veltkamp's splitting into halves of 26 bits."""

    def halves(x: Array) -> tuple[Array, Array]:
        high = x * 134217729.0  # 2**27 + 1
        high = high - (high - x)
        return high, x - high

    (ah, al), (bh, bl) = halves(a), halves(b)
    product = a * b
    return product, al * bl - (((product - ah * bh) - al * bh) - ah * bl)


def _fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, rounded once: through float64, where products are exact, or with exact errors."""
    if a.dtype == np.float32:
        wide = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
        return np.asarray(wide.astype(np.float32))
    product, error = _two_product(a, b)
    total = np.asarray(product + c)
    other = total - product
    exact = total + (((product - (total - other)) + (c - other)) + error)
    return np.where(np.isfinite(exact), exact, total)


def _lookup(a: Array, *, dtype: str, table: tuple[int, ...]) -> Array:
    entries = np.array(table, a.dtype).view(NUMPY_DTYPES[dtype])
    return np.asarray(entries[a & (len(table) - 1)])


def _lookup_by_selection(a: Value, *, dtype: str, table: tuple[int, ...]) -> Value:
    """Halve the table with each bit of the position, the lowest first."""
    integer = a.dtype
    entries: list[Value] = [bitcast(constant(bits, integer), dtype) for bits in table]
    bit = 1
    while len(entries) > 1:
        is_odd = compare("ne", a & bit, 0)
        pairs = zip(entries[::2], entries[1::2], strict=True)
        entries = [select(is_odd, odd, even) for even, odd in pairs]
        bit *= 2
    return entries[0]


def _converted_back(e: Value, source: Value) -> Value | None:
    """The cotangent in the dtype of what was converted; integers have none."""
    return convert(e, source.dtype) if e.type.is_float and source.type.is_float else None


def _shift(function: Any) -> Any:
    """A shift by a count taken modulo the width, so that NumPy never sees an undefined one."""
    return lambda a, b: function(a, b & (a.dtype.itemsize * 8 - 1))


def _shift_right_logical(a: Array, b: Array) -> Array:
    unsigned = np.uint32 if a.dtype.itemsize == 4 else np.uint64
    return np.asarray((a.view(unsigned) >> b.astype(unsigned)).view(a.dtype))


def _convert(a: Array, *, dtype: str) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(a.astype(NUMPY_DTYPES[dtype]))


def _scale(a: Array, n: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(a, np.clip(np.floor(n), -4000, 4000).astype(np.int32)))


def _fused_by_splitting(a: Value, b: Value, c: Value) -> Value:
    """fma without the instruction: in float64 for float32, with exact errors for float64.

    The elementary functions rest on a single rounding, so that targets without fma pay for it.
    """
    if a.dtype == "f32":
        wide = convert(a, "f64") * convert(b, "f64") + convert(c, "f64")
        return convert(wide, "f32")

    def halves(x: Value) -> tuple[Value, Value]:
        high = x * 134217729.0  # 2**27 + 1: Veltkamp's splitting, as in `_two_product`
        high = high - (high - x)
        return high, x - high

    (ah, al), (bh, bl) = halves(a), halves(b)
    product = a * b
    error = al * bl - (((product - ah * bh) - al * bh) - ah * bl)
    total = product + c
    other = total - product
    exact = total + (((product - (total - other)) + (c - other)) + error)
    is_finite = compare("oeq", exact - exact, 0.0)
    return select(is_finite, exact, total)


def _round_even_by_addition(a: Value) -> Value:
    """Adding and subtracting 2**mantissa, with a's sign, rounds; beyond it all are integers."""
    limit = 2.0 ** format_of(a).mantissa
    shift = copy_sign(constant(limit, a.dtype), a)
    rounded = copy_sign(magnitude((a + shift) - shift), a)
    return select(compare("olt", magnitude(a), limit), rounded, a)


def floor_by_rounding(a: Value) -> Value:
    nearest = elementwise("round_even", a)
    return select(compare("ogt", nearest, a), nearest - 1.0, nearest)


def _primitive(
    name: str,
    arity: int,
    unit: Unit,
    evaluate: Any,
    mlir: tuple[str, str],
    doc: str,
    fallback: Any = None,
) -> Operation:
    return Operation(name, arity, doc, evaluate, mlir=mlir, unit=unit, fallback=fallback)


# Primitives without a spelling in the language.
register(
    _primitive(
        "fma",
        3,
        "arithmetic",
        _fma,
        ("math.fma", ""),
        "a * b + c, rounded once",
        _fused_by_splitting,
    ),
    _primitive(
        "select",
        3,
        "selection",
        np.where,
        ("arith.select", "arith.select"),
        "a where the condition holds, else b",
    ),
    _primitive(
        "compare",
        2,
        "comparison",
        lambda a, b, *, predicate: PREDICATES[predicate](a, b),
        ("arith.cmpf", "arith.cmpi"),
        "a truth value",
    ),
    _primitive("and", 2, "logic", np.bitwise_and, ("", "arith.andi"), "bitwise and"),
    _primitive("or", 2, "logic", np.bitwise_or, ("", "arith.ori"), "bitwise or"),
    _primitive("xor", 2, "logic", np.bitwise_xor, ("", "arith.xori"), "bitwise exclusive or"),
    _primitive("shift_left", 2, "logic", _shift(np.left_shift), ("", "arith.shli"), "a << b"),
    _primitive(
        "shift_right",
        2,
        "logic",
        _shift(np.right_shift),
        ("", "arith.shrsi"),
        "a >> b, keeping the sign",
    ),
    _primitive(
        "shift_right_logical",
        2,
        "logic",
        _shift_right_logical,
        ("", "arith.shrui"),
        "a >> b, zeros entering",
    ),
    _primitive(
        "bitcast",
        1,
        "operand",
        lambda a, *, dtype: np.ascontiguousarray(a).view(NUMPY_DTYPES[dtype]),
        ("arith.bitcast", "arith.bitcast"),
        "the same bits in another dtype",
    ),
    Operation(
        "greater_of",
        2,
        "a where a > b, else b",
        lambda a, b: _chosen(a > b, a, b),
        selection=lambda a, b: select(compare("ogt", a, b), a, b),
        domain=PAIR,
    ),
    Operation(
        "less_of",
        2,
        "a where a < b, else b",
        lambda a, b: _chosen(a < b, a, b),
        selection=lambda a, b: select(compare("olt", a, b), a, b),
        domain=PAIR,
    ),
    Operation(
        "convert",
        1,
        "the same number in another dtype",
        _convert,
        unit="conversion",
        pullback=lambda e, value: (_converted_back(e, value.args[0]),),
    ),
    _primitive(
        "round_even",
        1,
        "rounding",
        np.rint,
        ("math.roundeven", ""),
        "nearest integer, ties to even",
        _round_even_by_addition,
    ),
    _primitive(
        "lookup",
        1,
        "selection",
        _lookup,
        ("", ""),
        "an entry of a small table, the position taken modulo its length",
        _lookup_by_selection,
    ),
    _primitive(
        "scale", 2, "arithmetic", _scale, ("", ""), "a * 2**floor(n), rounded once", expand_scale
    ),
)


def integer_power(base: Value, exponent: int) -> Value:
    """base ** exponent by repeated squaring; a negative exponent divides once, at the end."""
    result: Value | None = None
    square, remaining = base, abs(exponent)
    while remaining:
        if remaining & 1:
            result = square if result is None else result * square
        remaining >>= 1
        if remaining:
            square = square * square
    if result is None:
        return constant(1.0, base.dtype)
    return 1.0 / result if exponent < 0 else result


def _power_rule(f: Value, out: Value, *, m: int) -> Value | float:
    return 0.0 if m == 0 else float(m) * apply("pow", f, m=m - 1)


register(
    Operation(
        "add",
        2,
        "f + g",
        np.add,
        "Add",
        "Arithmetic",
        partials=(lambda f, g, out: 1.0, lambda f, g, out: 1.0),
        mlir=("arith.addf", "arith.addi"),
        unit="arithmetic",
        domain=PAIR,
    ),
    Operation(
        "subtract",
        2,
        "f - g",
        np.subtract,
        "Subtract",
        "Arithmetic",
        partials=(lambda f, g, out: 1.0, lambda f, g, out: -1.0),
        mlir=("arith.subf", "arith.subi"),
        unit="arithmetic",
        domain=PAIR,
    ),
    Operation(
        "excess",
        2,
        "f - g of f and g as they are rounded: nothing is fused with it, no factor moved into it",
        np.subtract,
        partials=(lambda f, g, out: 1.0, lambda f, g, out: -1.0),
        expand=lambda f, g: f - g,
        domain=PAIR,
    ),
    Operation(
        "multiply",
        2,
        "f * g",
        np.multiply,
        "Mult",
        "Arithmetic",
        partials=(lambda f, g, out: g, lambda f, g, out: f),
        mlir=("arith.mulf", "arith.muli"),
        unit="arithmetic",
        domain=PAIR,
    ),
    Operation(
        "divide",
        2,
        "f / g",
        np.divide,
        "Divide",
        "Arithmetic",
        partials=(lambda f, g, out: 1.0 / g, lambda f, g, out: -(out / g)),
        fast={"reciprocal_approx": approximate.divide},
        mlir=("arith.divf", ""),
        unit="special",
        domain=Domain(((-4.0, 4.0), (0.1, 4.0)), (0.0,)),
    ),
    Operation(
        "negate",
        1,
        "-f",
        np.negative,
        "Minus",
        "Arithmetic",
        partials=(lambda f, out: -1.0,),
        mlir=("arith.negf", ""),
        unit="operand",
    ),
    Operation(
        "inverse",
        1,
        "1 / f",
        np.reciprocal,
        "Inv",
        "Arithmetic",
        partials=(lambda f, out: -(out * out),),
        expand=lambda f: 1.0 / f,
        domain=Domain(((0.1, 4.0),), (0.0,)),
    ),
    Operation(
        "square",
        1,
        "f squared",
        np.square,
        "Square",
        "Arithmetic",
        partials=(lambda f, out: 2.0 * f,),
        expand=lambda f: f * f,
    ),
    Operation(
        "pow",
        1,
        "f to the integer power m, of any sign",
        lambda f, *, m: np.asarray(np.power(f, f.dtype.type(m))),
        "Pow",
        "Arithmetic",
        parameters=("m",),
        partials=(_power_rule,),
        expand=lambda f, *, m: integer_power(f, m),
        domain=Domain(((0.2, 3.0),)),
        ulp=4.0,
        gradient="0 where m = 0",
        differs="in the precision of the dtype everywhere (KeOps: float32 on the GPU)",
    ),
    Operation(
        "sqrt",
        1,
        "square root; NaN below 0",
        np.sqrt,
        "Sqrt",
        "Arithmetic",
        partials=(lambda f, out: 0.5 * apply("rsqrt", f),),
        fast={"sqrt_approx": approximate.sqrt},
        mlir=("math.sqrt", ""),
        unit="special",
        domain=Domain(((0.0, 4.0),), (0.0,)),
        gradient="0 at 0",
    ),
    Operation(
        "rsqrt",
        1,
        "1 / sqrt(f), but 0 where f is 0",
        lambda f: np.where(f == 0, f.dtype.type(0), 1 / np.sqrt(f)),
        "Rsqrt",
        "Arithmetic",
        partials=(lambda f, out: -0.5 * (out * out * out),),
        expand=lambda f: select(compare("oeq", f, 0.0), 0.0, 1.0 / elementwise("sqrt", f)),
        fast={"rsqrt_approx": approximate.rsqrt},
        domain=Domain(((0.01, 4.0),), (0.0,)),
        ulp=2.0,
        gradient="0 at 0",
    ),
    Operation(
        "mod",
        3,
        "x - n * floor((x - d) / n): x brought into [d, d + n)",
        lambda x, n, d: x - n * np.floor((x - d) / n),
        "Mod",
        "Arithmetic",
        partials=(
            lambda x, n, d, out: 1.0,
            lambda x, n, d, out: -apply("floor", (x - d) / n),
            None,
        ),
        expand=lambda x, n, d: x - n * apply("floor", (x - d) / n),
        domain=Domain(((-4.0, 4.0), (0.5, 2.0), (-1.0, 1.0))),
        gradient="to x and n, as if floor were constant; 0 for d",
        operands=("x", "n", "d"),
    ),
)


def _truth(name: str, spelling: str, predicate: str, symbol: str) -> Operation:
    function = PREDICATES[predicate]
    return Operation(
        name,
        2,
        f"1 where f {symbol} g, else 0",
        lambda f, g: function(f, g).astype(f.dtype),
        spelling,
        "Comparison and selection",
        selection=lambda f, g: indicator(compare(predicate, f, g), f.dtype),
        domain=PAIR,
        gradient="0",
    )


register(
    _truth("equal", "Equal", "oeq", "="),
    _truth("not_equal", "NotEqual", "une", "!="),
    _truth("less_than", "LessThan", "olt", "<"),
    _truth("less_or_equal", "LessOrEqual", "ole", "<="),
    Operation(
        "if_else",
        3,
        "a where f >= 0, else b (so b where f is NaN)",
        lambda f, a, b: _chosen(f >= 0, a, b),
        "IfElse",
        "Comparison and selection",
        selection=lambda f, a, b: select(compare("oge", f, 0.0), a, b),
        domain=Domain(((-4.0, 4.0),) * 3, (0.0,)),
        gradient="nothing through f",
        differs="gradients of scalar operands are right (KeOps: an error or a wrong value)",
        operands=("f", "a", "b"),
    ),
)
