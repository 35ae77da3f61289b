"""Primitive operations without a spelling in the language: what expansions are made of.

Integer operations wrap around.  `compare` gives a truth value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from redcomp.ir import (
    FLOATS,
    NUMPY_DTYPES,
    WIDTHS,
    Value,
    bitcast,
    compare,
    constant,
    convert,
    elementwise,
    select,
)
from redcomp.ops import signs
from redcomp.ops.expansions.shared import copy_sign, expand_scale, format_of, magnitude
from redcomp.ops.signs import SignRule
from redcomp.ops.table import ALIKE, Array, DtypeError, Feature, Operation, Typing, Unit, register

# MLIR numbers its predicates in this order (ArithBase.td: CmpFPredicateAttr, CmpIPredicateAttr).
# fmt: off
FLOAT_PREDICATES = (
    "false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord",
    "ueq", "ugt", "uge", "ult", "ule", "une", "uno", "true",
)
INTEGER_PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
# fmt: on

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


def _is_limit(x: Value) -> Value:
    return compare("oeq", x, 0.0) | compare("oeq", x, math.inf)


def floor_by_rounding(a: Value) -> Value:
    nearest = elementwise("round_even", a)
    return select(compare("ogt", nearest, a), nearest - 1.0, nearest)


def _select_dtype(value: Value) -> str:
    condition = value.args[0].dtype
    if condition != "i1":
        raise DtypeError(f"chooses by an i1, not by {condition}")
    return value.args[1].dtype


def _compare_dtype(value: Value) -> str:
    dtype, predicate = value.args[0].dtype, value["predicate"]
    if predicate not in (FLOAT_PREDICATES if dtype in FLOATS else INTEGER_PREDICATES):
        raise DtypeError(f"{predicate!r} is no predicate for {dtype}")
    return "i1"


def _convert_dtype(value: Value) -> str:
    target = str(value["dtype"])
    if target not in NUMPY_DTYPES:
        raise DtypeError(f"{target!r} is no dtype")
    return target


def _bitcast_dtype(value: Value) -> str:
    source, target = value.args[0].dtype, str(value["dtype"])
    if target not in WIDTHS or WIDTHS.get(source) != WIDTHS[target]:
        raise DtypeError(f"{source} and {target} are not of the same width")
    return target


# MLIR's names and LLVM's.  i1 counts as unsigned, since True becomes 1.  What becomes i1 is
# missing: MLIR and LLVM keep the lowest bit, where `convert` compares with zero.
_INTEGERS = ("i32", "i64")
CASTS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("f32", "f64"): ("arith.extf", "fpext"),
    ("f64", "f32"): ("arith.truncf", "fptrunc"),
    **{(f, i): ("arith.fptosi", "fptosi") for f in FLOATS for i in _INTEGERS},
    **{(i, f): ("arith.sitofp", "sitofp") for f in FLOATS for i in _INTEGERS},
    **{("i1", f): ("arith.uitofp", "uitofp") for f in FLOATS},
    **{("i1", i): ("arith.extui", "zext") for i in _INTEGERS},
    ("i32", "i64"): ("arith.extsi", "sext"),
    ("i64", "i32"): ("arith.trunci", "trunc"),
    # An index has 64 bits in LLVM; a bitcast of the same type does nothing.
    ("i32", "index"): ("arith.index_cast", "sext"),
    ("i64", "index"): ("arith.index_cast", "bitcast"),
    ("index", "i32"): ("arith.index_cast", "trunc"),
    ("index", "i64"): ("arith.index_cast", "bitcast"),
    ("i1", "index"): ("arith.index_castui", "zext"),
}


def _primitive(
    name: str,
    arity: int,
    unit: Unit,
    evaluate: Any,
    mlir: tuple[str, str],
    doc: str,
    fallback: Any = None,
    *,
    llvm: tuple[str, str] = ("", ""),
    needs: Feature = "",
    typing: Typing = ALIKE,
    sign: SignRule | None = None,
) -> Operation:
    return Operation(
        name,
        arity,
        doc,
        evaluate,
        mlir=mlir,
        llvm=llvm,
        needs=needs,
        unit=unit,
        typing=typing,
        sign=sign,
        fallback=fallback,
    )


register(
    _primitive(
        "fma",
        3,
        "arithmetic",
        _fma,
        ("math.fma", ""),
        "a * b + c, rounded once",
        _fused_by_splitting,
        llvm=("llvm.fma", ""),
        needs="fma",
        sign=signs.of_fused,
    ),
    _primitive(
        "select",
        3,
        "selection",
        np.where,
        ("arith.select", "arith.select"),
        "a where the condition holds, else b",
        llvm=("select", "select"),
        typing=Typing(_select_dtype, alike=(1, None)),
        sign=signs.of_selection,
    ),
    _primitive(
        "compare",
        2,
        "comparison",
        lambda a, b, *, predicate: PREDICATES[predicate](a, b),
        ("arith.cmpf", "arith.cmpi"),
        "a truth value",
        llvm=("fcmp", "icmp"),
        typing=Typing(_compare_dtype, {"predicate": str}),
    ),
    _primitive(
        "and",
        2,
        "logic",
        np.bitwise_and,
        ("", "arith.andi"),
        "bitwise and",
        llvm=("", "and"),
    ),
    _primitive(
        "or",
        2,
        "logic",
        np.bitwise_or,
        ("", "arith.ori"),
        "bitwise or",
        llvm=("", "or"),
    ),
    _primitive(
        "xor",
        2,
        "logic",
        np.bitwise_xor,
        ("", "arith.xori"),
        "bitwise exclusive or",
        llvm=("", "xor"),
    ),
    _primitive(
        "shift_left",
        2,
        "logic",
        _shift(np.left_shift),
        ("", "arith.shli"),
        "a << b",
        llvm=("", "shl"),
    ),
    _primitive(
        "shift_right",
        2,
        "logic",
        _shift(np.right_shift),
        ("", "arith.shrsi"),
        "a >> b, keeping the sign",
        llvm=("", "ashr"),
    ),
    _primitive(
        "shift_right_logical",
        2,
        "logic",
        _shift_right_logical,
        ("", "arith.shrui"),
        "a >> b, zeros entering",
        llvm=("", "lshr"),
    ),
    _primitive(
        "bitcast",
        1,
        "operand",
        lambda a, *, dtype: np.ascontiguousarray(a).view(NUMPY_DTYPES[dtype]),
        ("arith.bitcast", "arith.bitcast"),
        "the same bits in another dtype",
        llvm=("bitcast", "bitcast"),
        typing=Typing(_bitcast_dtype, {"dtype": str}),
    ),
    Operation(
        "convert",
        1,
        "the same number in another dtype",
        _convert,
        pullback=lambda e, value: (_converted_back(e, value.args[0]),),
        casts=CASTS,
        unit="conversion",
        typing=Typing(_convert_dtype, {"dtype": str}),
        sign=signs.of_conversion,
    ),
    _primitive(
        "round_even",
        1,
        "rounding",
        np.rint,
        ("math.roundeven", ""),
        "nearest integer, ties to even",
        _round_even_by_addition,
        llvm=("llvm.roundeven", ""),
        needs="rounding",
    ),
    _primitive(
        "lookup",
        1,
        "selection",
        _lookup,
        ("", ""),
        "an entry of a small table, the position taken modulo its length",
        _lookup_by_selection,
        needs="native",
        typing=Typing(_bitcast_dtype, {"dtype": str, "table": tuple}),
    ),
    _primitive(
        "root_or_limit",
        2,
        "selection",
        lambda a, x: np.where((x == 0) | (x == np.inf), x, a),
        ("", ""),
        "a, which is a root of x, but x itself where that is 0 or infinite",
        lambda a, x: select(_is_limit(x), x, a),
        needs="native",
        sign=signs.nonnegative,
    ),
    _primitive(
        "inverse_root_or_limit",
        2,
        "selection",
        lambda a, x: np.where((x == 0) | (x == np.inf), a.dtype.type(0), a),
        ("", ""),
        "a, which is 1 over a root of x, but 0 where x is 0 or infinite",
        lambda a, x: select(_is_limit(x), 0.0, a),
        needs="native",
        sign=signs.nonnegative,
    ),
    _primitive(
        "scale",
        2,
        "arithmetic",
        _scale,
        ("", ""),
        "a * 2**floor(n), rounded once",
        expand_scale,
        needs="native",
        sign=signs.of_first,
    ),
)
