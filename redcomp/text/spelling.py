"""How the IR is spelt in MLIR: names of operations, attributes and literals, and back.

An operation has MLIR's name (`arith.addf`) exactly where MLIR's typing rules accept it, so that
MLIR's tools verify it, and is `redcomp.<name>` otherwise: where a scalar operand serves every
component of a vector, or where MLIR has no such operation.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from redcomp.ir import FLOATS, STRUCTURAL, WIDTHS, Attribute, Type, Value
from redcomp.ops.primitives import FLOAT_PREDICATES, INTEGER_PREDICATES
from redcomp.ops.table import OPERATIONS

DIALECT = "redcomp."
KERNEL, BLOCK, NEST, YIELD = (DIALECT + name for name in ("kernel", "block", "nest", "yield"))
PARTITION, PART = DIALECT + "partition", DIALECT + "part"

# The numbers of the pieces of a part.
PIECES = ("results", "firsts", "dims")

# The parts of a nest in the order in which they print.
NEST_CARRIED = ("states", "totals", "others")
NEST_COMPUTED = ("starts", "guards", "adjusts", "steps", "merges", "joins", "results")
NEST_HOISTED = ("uniform", "rows", "columns", "products", "updates")

# Operations that are part of the IR itself and have no row in the table.
_WITHOUT_ROW = (*STRUCTURAL, "broadcast")

# How the struct module packs a float and its bits, and the digits that determine it.
_FLOAT_FORMATS = {"f32": ("<f", "<I", 9), "f64": ("<d", "<Q", 17)}

Spelling = tuple[str, str]  # an operation's printed name, and the text of its attributes


def spell(value: Value) -> Spelling:
    """The name under which a value prints, MLIR's where MLIR accepts it, and its attributes."""
    special = _SPECIAL.get(value.op)
    if special is not None:
        found = special(value)
        if found is not None:
            return found
    elif not value.attrs and value.op in OPERATIONS:
        name = OPERATIONS[value.op].mlir[0 if value.dtype in FLOATS else 1]
        if name and all(a.type is value.type or a.type == value.type for a in value.args):
            return name, ""
    return DIALECT + value.op, attributes_text(value.attrs)


def _spell_constant(value: Value) -> Spelling | None:
    if len(value.attrs) != 1 or value.dim != 1 or value.args:
        return None
    ((name, number),) = value.attrs
    if name != "value" or not isinstance(number, float if value.type.is_float else int):
        return None
    return "arith.constant", f" {{value = {number_text(number, value.dtype)}}}"


def _spell_compare(value: Value) -> Spelling | None:
    operand = value.args[0].type
    predicates = FLOAT_PREDICATES if operand.is_float else INTEGER_PREDICATES
    predicate = dict(value.attrs).get("predicate")
    if predicate not in predicates or len(value.attrs) != 1:
        return None
    if any(arg.type != operand for arg in value.args) or value.type != Type("i1", operand.dim):
        return None
    name = OPERATIONS["compare"].mlir[0 if operand.is_float else 1]
    return name, f" {{predicate = {predicates.index(predicate)} : i64}}"


def _spell_select(value: Value) -> Spelling | None:
    condition, *branches = value.args
    if value.attrs or condition.dtype != "i1" or condition.dim not in (1, value.dim):
        return None
    if any(branch.type != value.type for branch in branches):
        return None
    return OPERATIONS["select"].mlir[0], ""


def _spell_bitcast(value: Value) -> Spelling | None:
    width = WIDTHS.get(value.dtype)
    if width is None or width != WIDTHS.get(value.args[0].dtype) or not _is_cast(value):
        return None
    return OPERATIONS["bitcast"].mlir[0], ""


def _spell_convert(value: Value) -> Spelling | None:
    names = OPERATIONS["convert"].casts.get((value.args[0].dtype, value.dtype))
    return (names[0], "") if names and _is_cast(value) else None


def _is_cast(value: Value) -> bool:
    return value.attrs == (("dtype", value.dtype),) and value.args[0].dim == value.dim


_SPECIAL: Mapping[str, Callable[[Value], Spelling | None]] = {
    "constant": _spell_constant,
    "compare": _spell_compare,
    "select": _spell_select,
    "bitcast": _spell_bitcast,
    "convert": _spell_convert,
}


def operations_by_name() -> dict[str, str]:
    """The operation of each printed name, MLIR's and our own."""
    rows = [row.name for row in OPERATIONS.values() if row.definition is None]
    own = {DIALECT + op: op for op in (*rows, *_WITHOUT_ROW)}
    borrowed = {name: row.name for row in OPERATIONS.values() for name in row.mlir if name}
    casts = {name: row.name for row in OPERATIONS.values() for name, _ in row.casts.values()}
    return {**own, **borrowed, **casts, "arith.constant": "constant"}


def attributes_of(
    op: str, name: str, printed: Mapping[str, Attribute], result: Type
) -> tuple[tuple[str, Attribute], ...]:
    """The IR's attributes of an operation, from the printed ones; the reverse of `spell`.

    Raises KeyError or IndexError where MLIR's own attributes are missing or out of range.
    """
    if name.startswith(DIALECT) or op == "constant":
        return tuple(sorted(printed.items()))
    if op == "compare":
        predicates = FLOAT_PREDICATES if name == "arith.cmpf" else INTEGER_PREDICATES
        number = printed["predicate"]
        if not isinstance(number, int) or not 0 <= number < len(predicates):
            raise IndexError(f"there is no predicate {number!r}")
        return (("predicate", predicates[number]),)
    return (("dtype", result.dtype),) if op in ("convert", "bitcast") else ()


@lru_cache(maxsize=1024)
def type_text(type_: Type) -> str:
    """A type as MLIR writes it."""
    return str(type_)


def attributes_text(attrs: Sequence[tuple[str, Attribute]]) -> str:
    """An attribute dictionary sorted by name, with a space before it; nothing if it is empty."""
    if not attrs:
        return ""
    items = [f"{name} = {attribute_text(value)}" for name, value in sorted(attrs)]
    return f" {{{', '.join(items)}}}"


def attribute_text(attribute: Attribute) -> str:
    """One attribute; what the IR's rules forbid shows as a string, so that errors can show it."""
    if isinstance(attribute, str):
        return string_text(attribute)
    if isinstance(attribute, int):
        return f"{int(attribute)} : i64"
    if isinstance(attribute, float):
        return number_text(attribute, "f64")
    if isinstance(attribute, tuple):
        return f"array<i64: {', '.join(map(str, attribute))}>" if attribute else "array<i64>"
    return string_text(repr(attribute))


def string_text(text: str) -> str:
    """A string literal; what is not printable ASCII stands as UTF-8 bytes in hex."""
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}"
        for byte in text.encode()
    )
    return f'"{"".join(escaped)}"'


def number_text(value: float, dtype: str) -> str:
    """A literal with its type; infinities, NaN and -0.0 are given by their bits."""
    if dtype == "i1":
        return "true" if value else "false"
    if dtype not in FLOATS:
        return f"{value} : {dtype}"
    packed, bits, digits = _FLOAT_FORMATS[dtype]
    if not math.isfinite(value) or (value == 0.0 and math.copysign(1.0, value) < 0):
        (pattern,) = struct.unpack(bits, struct.pack(packed, value))
        return f"0x{pattern:0{2 * struct.calcsize(bits)}X} : {dtype}"
    mantissa, mark, exponent = f"{value:.{digits}g}".partition("e")
    point = "" if "." in mantissa else ".0"  # MLIR demands one
    return f"{mantissa}{point}{mark}{exponent} : {dtype}"


def number_value(literal: str, dtype: str) -> float | int:
    """The number that a literal stands for; raises ValueError where it is none of that type."""
    if dtype not in FLOATS:
        return int(literal, 0)
    if not literal.startswith("0x"):
        return float(literal)
    packed, bits, _ = _FLOAT_FORMATS[dtype]
    pattern = int(literal, 16)
    if pattern >> (8 * struct.calcsize(bits)):
        raise ValueError(f"{literal} has too many bits for {dtype}")
    (value,) = struct.unpack(packed, struct.pack(bits, pattern))
    return float(value)
