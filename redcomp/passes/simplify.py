"""simplify: constant folding and identities.

Every rule says whether it is exact.  Exact rules never change a bit of any result, including NaN,
infinities and the sign of zero; the others are applied under fast math only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from redcomp.ir import (
    P,
    Type,
    Value,
    broadcast,
    compare,
    component,
    constant,
    constants,
    elementwise,
    entries_of,
    fma,
    rewrite_program,
    select,
)
from redcomp.ops.primitives import OPPOSITES
from redcomp.ops.table import OPERATIONS, apply
from redcomp.passes.registry import compiler_pass
from redcomp.passes.sign import is_nonnegative, is_nonpositive
from redcomp.records import record
from redcomp.target import Context

_LOG2_E = 1 / math.log(2)


@record
class Rule:
    """An identity: `apply` gives the simpler value, or None where the rule does not fit."""

    ops: tuple[str, ...]
    name: str
    apply: Callable[[Value], Value | None]
    is_exact: bool = True


@compiler_pass
def simplify(program: P, context: Context) -> P:
    """Apply all rules to every value until none fits; without fast math, the exact ones."""
    return simplified(program, is_exact=not context.use_fast_math)


def simplified(program: P, *, is_exact: bool) -> P:
    """The program after all (exact) rules."""
    rules: dict[str, list[Callable[[Value], Value | None]]] = {}
    for rule in RULES:
        if rule.is_exact or not is_exact:
            for op in rule.ops:
                rules.setdefault(op, [_fold_constants]).append(rule.apply)
    others = (_fold_constants,)

    def simplified(value: Value) -> Value:
        for rule in rules.get(value.op, others):
            simpler = rule(value)
            if simpler is not None:
                return simpler
        return value

    return rewrite_program(program, simplified)


def _fold_constants(value: Value) -> Value | None:
    """Primitives of constants; other operations follow once they are expanded to primitives."""
    for arg in value.args:
        if arg.op != "constant":
            return _fold_tables(value) if arg.op == "component" else None
    row = OPERATIONS.get(value.op)
    if row is None or not row.is_primitive or value.dim != 1 or not value.args:
        return None
    operands = [np.array([arg["value"]], dtype=arg.type.numpy) for arg in value.args]
    with np.errstate(all="ignore"):
        folded = row.value(*operands, **dict(value.attrs)).astype(value.type.numpy)
    return constant(folded[0].item(), value.dtype, value.span)


def _fold_tables(value: Value) -> Value | None:
    """The same of constants in tables, all at one position of a loop: one table of the results."""
    row, position = OPERATIONS.get(value.op), None
    if row is None or not row.is_primitive or not value.type.is_float:
        return None
    operands = []
    for arg in value.args:
        if arg.op == "component" and arg.args[0].op == "constants" and arg.args[1:]:
            if position not in (None, arg.args[1]):
                return None
            position = arg.args[1]
            operands.append(entries_of(arg.args[0]))
        elif arg.op == "constant":
            operands.append(np.array([arg["value"]], dtype=arg.type.numpy))
        else:
            return None
    if position is None:
        return None
    with np.errstate(all="ignore"):
        folded = row.value(*operands, **dict(value.attrs))
    return component(constants(folded, value.dtype, value.span), position)


def _is(value: Value, number: float) -> bool:
    """Whether the value is this constant, the signs of zeros told apart."""
    if not value.is_constant:
        return False
    found = value["value"]
    return bool(found == number and math.copysign(1.0, found) == math.copysign(1.0, number))


def _as_wide_as(value: Value, like: Value) -> Value | None:
    """A replacement by one operand is right only if it has all components."""
    return value if value.dim == like.dim else None


def _either(value: Value, number: float) -> Value | None:
    """The other operand of a commutative operation if one is this constant."""
    a, b = value.args
    if _is(b, number):
        return _as_wide_as(a, value)
    return _as_wide_as(b, value) if _is(a, number) else None


# -- exact -----------------------------------------------------------------------------------------


def _times_one(value: Value) -> Value | None:
    return _either(value, 1.0) if value.type.is_float else None


def _times_minus_one(value: Value) -> Value | None:
    other = _either(value, -1.0) if value.type.is_float else None
    return None if other is None else -other


def _over_one(value: Value) -> Value | None:
    a, b = value.args
    return a if _is(b, 1.0) else None


def _minus_zero(value: Value) -> Value | None:
    a, b = value.args
    return _as_wide_as(a, value) if value.type.is_float and _is(b, 0.0) else None


def _plus_negative_zero(value: Value) -> Value | None:
    return _either(value, -0.0) if value.type.is_float else None


def _double_negation(value: Value) -> Value | None:
    (a,) = value.args
    return a.args[0] if a.op == "negate" else None


def _plus_negated(value: Value) -> Value | None:
    a, b = value.args
    if b.op == "negate":
        return a - b.args[0]
    return b - a.args[0] if a.op == "negate" else None


def _minus_negated(value: Value) -> Value | None:
    a, b = value.args
    return a + b.args[0] if b.op == "negate" else None


def _negated_product(value: Value) -> Value | None:
    """(-a) op b -> -(a op b) for products and quotients; a constant takes the sign instead."""
    a, b = value.args
    if a.op == "negate" and b.op == "negate":
        return elementwise(value.op, a.args[0], b.args[0])
    for negated, other, place in ((a, b, 0), (b, a, 1)):
        if negated.op != "negate":
            continue
        inner = negated.args[0]
        if other.is_constant:
            other = constant(-other["value"], other.dtype)
            return elementwise(value.op, *((inner, other) if place == 0 else (other, inner)))
        return -elementwise(value.op, *((inner, other) if place == 0 else (other, inner)))
    return None


def _negated_factor(value: Value) -> Value | None:
    """fma(-a, b, c) with a constant b: the constant takes the sign."""
    a, b, c = value.args
    if b.op == "negate":
        a, b = b, a
    if a.op == "negate" and b.is_constant:
        return fma(a.args[0], constant(-b["value"], b.dtype), c)
    return None


def _twice(value: Value) -> Value | None:
    a, b = value.args
    return 2.0 * a if a is b and value.type.is_float else None


def _part_of_concat(value: Value) -> Value | None:
    """Components that all come from one of the two parts; all components of it are the part."""
    (vector,) = value.args
    start = value["m"] if value.op == "elem" else value["start"]
    if vector.op == "concat":
        first, second = vector.args
        if start + value.dim <= first.dim:
            return _components(first, start, value.dim)
        if start >= first.dim:
            return _components(second, start - first.dim, value.dim)
    return vector if value.dim == vector.dim else None


def _components(vector: Value, start: int, count: int) -> Value:
    if count == vector.dim:
        return vector
    if count == 1:
        return apply("elem", vector, m=start)
    return apply("extract", vector, start=start, length=count)


def _over_power_of_two(value: Value) -> Value | None:
    """Dividing by a power of two is multiplying by its inverse, if that is a normal number."""
    a, b = value.args
    if not b.is_constant or b["value"] == 0 or not math.isfinite(b["value"]):
        return None
    mantissa, exponent = math.frexp(b["value"])
    limit = 120 if b.dtype == "f32" else 1000
    if abs(mantissa) != 0.5 or abs(exponent) > limit:
        return None
    inverse: float = 1.0 / b["value"]
    return a * inverse


def _square_of_magnitude(value: Value) -> Value | None:
    (a,) = value.args
    return apply("square", a.args[0]) if a.op in ("negate", "abs") else None


def _magnitude(value: Value) -> Value | None:
    (a,) = value.args
    if a.op in ("negate", "abs"):
        return elementwise("abs", a.args[0])
    return a if a.op in ("square", "exp") else None


def _small_power(value: Value) -> Value | None:
    (a,) = value.args
    match value["m"]:
        case 0:
            return broadcast(constant(1.0, a.dtype), a.dim)
        case 1:
            return a
        case 2:
            return apply("square", a)
        case -1:
            return apply("inverse", a)
    return None


def _decided(value: Value) -> Value | None:
    condition, a, b = value.args
    if condition.is_constant:
        return _as_wide_as(a if condition["value"] else b, value)
    return a if a is b and a.dim == value.dim else None


def _negated_choice(value: Value) -> Value | None:
    """Where the condition is a negated one, the branches change places."""
    condition, a, b = value.args
    return select(condition.args[0], b, a) if _is_negation(condition) else None


def _is_negation(value: Value) -> bool:
    return value.dtype == "i1" and value.op == "xor" and _is(value.args[1], True)


def _negated_truth(value: Value) -> Value | None:
    (a, _) = value.args
    if not _is_negation(value):
        return None
    if _is_negation(a):
        return a.args[0]
    if a.op == "compare" and a["predicate"] in OPPOSITES and a.dim == value.dim:
        return compare(OPPOSITES[a["predicate"]], *a.args)
    return None


def _plus_selected(value: Value) -> Value | None:
    """x + select(c, y, -0) = select(c, x + y, x): where y is a product, the sum takes it in."""
    left, right = value.args
    if left.op == right.op == "select" and left.args[0] is right.args[0]:
        return _sum_of_choices(left, right)
    for x, term in ((left, right), (right, left)):
        if term.op == "select" and term.type.is_float:
            condition, a, b = term.args
            if _is(b, -0.0):
                return select(condition, x + a, x)
            if _is(a, -0.0):
                return select(condition, x, x + b)
    return None


def _sum_of_choices(left: Value, right: Value) -> Value | None:
    """Of two selections by one condition, if one of the terms is -0 in either case."""
    condition, *terms = left.args
    sums = []
    for a, b in zip(terms, right.args[1:], strict=True):
        if not _is(a, -0.0) and not _is(b, -0.0):
            return None
        sums.append(b if _is(a, -0.0) else a)
    return select(condition, *sums) if left.dim == right.dim else None


def _truth_of_both(value: Value) -> Value | None:
    """a & a = a and a | a = a; one of the two that is a constant decides, or has no effect."""
    a, b = value.args
    if value.dtype != "i1":
        return None
    for known, other in ((a, b), (b, a)):
        if known.is_constant:
            decides = bool(known["value"]) == (value.op == "or")
            return broadcast(known, value.dim) if decides else _as_wide_as(other, value)
    return _as_wide_as(a, value) if a is b else None


def _truth_of_choice(value: Value) -> Value | None:
    """A comparison of one of two constants with a third is known for each."""
    chosen, number = value.args
    if chosen.op != "select" or not number.is_constant:
        return None
    condition, *branches = chosen.args
    if not all(branch.is_constant for branch in branches):
        return None
    a, b = (_fold_constants(value.with_args((branch, number))) for branch in branches)
    if a is None or b is None:
        return None
    if bool(a["value"]) == bool(b["value"]):
        return broadcast(a, value.dim)
    return _as_wide_as(condition if a["value"] else condition ^ True, value)


def _clamp_of(value: Value) -> tuple[str, Value, float] | None:
    """(predicate, x, limit) of select(compare(predicate, x, limit), limit, x)."""
    condition, limit, x = value.args
    if condition.op != "compare" or not limit.is_constant or not limit.type.is_float:
        return None
    if condition.args[0] is not x or condition.args[1] is not limit:
        return None
    return condition["predicate"], x, limit["value"]


def _clamp_of_negated(value: Value) -> Value | None:
    """max(-x, c) = -min(x, -c), and so on: the negation moves to where it costs nothing."""
    clamp = _clamp_of(value)
    if clamp is None or clamp[1].op != "negate" or clamp[0] not in ("olt", "ogt"):
        return None
    predicate, negated, limit = clamp
    (x,) = negated.args
    opposite = constant(-limit, x.dtype)
    return -select(compare("ogt" if predicate == "olt" else "olt", x, opposite), opposite, x)


def _useless_clamp(value: Value) -> Value | None:
    """min(x, c) with x <= 0 <= c, and max(x, c) with x >= 0 >= c, are x (NaN too)."""
    clamp = _clamp_of(value)
    if clamp is None:
        return None
    predicate, x, limit = clamp
    if predicate == "ogt" and limit >= 0 and is_nonpositive(x):
        return x
    return x if predicate == "olt" and limit <= 0 and is_nonnegative(x) else None


def _broadcast_operand(value: Value) -> Value | None:
    """An elementwise operation repeats scalars by itself, if another operand has all components."""
    for arg in value.args:
        if arg.op == "broadcast":
            break
    else:
        return None
    narrow = tuple(a.args[0] if a.op == "broadcast" else a for a in value.args)
    if max(arg.dim for arg in narrow) == value.dim:
        return value.with_args(narrow)
    scalar = Value(value.op, narrow, Type(value.dtype), value.attrs, value.span)
    return broadcast(scalar, value.dim)


def _elementwise_names() -> tuple[str, ...]:
    return tuple(row.name for row in OPERATIONS.values() if row.elementwise)


# -- fast ------------------------------------------------------------------------------------------


def _plus_zero(value: Value) -> Value | None:
    return _either(value, 0.0)


def _times_zero(value: Value) -> Value | None:
    if any(_is(arg, 0.0) or _is(arg, -0.0) for arg in value.args):
        return broadcast(constant(0.0, value.dtype), value.dim)
    return None


def _self_difference(value: Value) -> Value | None:
    a, b = value.args
    return broadcast(constant(0.0, value.dtype), value.dim) if a is b else None


def _merged_factors(value: Value) -> Value | None:
    """c1 * (c2 * x) -> (c1 * c2) * x; in integers, the constant's product might not fit."""
    if not value.type.is_float:
        return None
    for outer, inner in (value.args, value.args[::-1]):
        if outer.is_constant and inner.op == "multiply":
            for factor, x in (inner.args, inner.args[::-1]):
                if factor.is_constant:
                    product: float = outer["value"] * factor["value"]
                    return product * x
    return None


def _over_constant(value: Value) -> Value | None:
    a, b = value.args
    if not b.is_constant or not math.isfinite(b["value"]) or b["value"] == 0:
        return None
    inverse: float = 1.0 / b["value"]
    return a * inverse


def _product_of_exponentials(value: Value) -> Value | None:
    a, b = value.args
    if a.op == b.op and a.op in ("exp", "exp2") and a is not b:
        return apply(a.op, a.args[0] + b.args[0])
    return None


def _exponential_base_two(value: Value) -> Value | None:
    (a,) = value.args
    return apply("exp2", a * _LOG2_E)


RULES: tuple[Rule, ...] = (
    Rule(_elementwise_names(), "operations repeat scalars", _broadcast_operand),
    Rule(("multiply",), "x * 1 = x", _times_one),
    Rule(("multiply",), "x * -1 = -x", _times_minus_one),
    Rule(("divide",), "x / 1 = x", _over_one),
    Rule(("subtract",), "x - 0 = x", _minus_zero),
    Rule(("add",), "x + -0 = x", _plus_negative_zero),
    Rule(("negate",), "-(-x) = x", _double_negation),
    Rule(("add",), "x + x = 2 * x", _twice),
    Rule(("add",), "x + -y = x - y", _plus_negated),
    Rule(("subtract",), "x - -y = x + y", _minus_negated),
    Rule(("multiply", "divide"), "-x * y = -(x * y)", _negated_product),
    Rule(("fma",), "fma(-x, c, y) = fma(x, -c, y)", _negated_factor),
    Rule(("divide",), "x / 2**n = x * 2**-n", _over_power_of_two),
    Rule(("square",), "(-x)**2 = |x|**2 = x**2", _square_of_magnitude),
    Rule(("abs",), "|-x| = ||x|| = |x|", _magnitude),
    Rule(("pow",), "small powers", _small_power),
    Rule(("elem", "extract"), "components of a part", _part_of_concat),
    Rule(("select",), "decided selections", _decided),
    Rule(("select",), "negated conditions", _negated_choice),
    Rule(("add",), "x + select(c, y, -0) = select(c, x + y, x)", _plus_selected),
    Rule(("xor",), "negated comparisons", _negated_truth),
    Rule(("and", "or"), "decided truth values", _truth_of_both),
    Rule(("compare",), "comparisons of constants that are selected", _truth_of_choice),
    Rule(("select",), "max(-x, c) = -min(x, -c)", _clamp_of_negated),
    Rule(("select",), "clamps that cannot act", _useless_clamp),
    Rule(("add",), "x + 0 = x", _plus_zero, is_exact=False),
    Rule(("multiply",), "x * 0 = 0", _times_zero, is_exact=False),
    Rule(("subtract",), "x - x = 0", _self_difference, is_exact=False),
    Rule(("multiply",), "c * (d * x) = (c * d) * x", _merged_factors, is_exact=False),
    Rule(("divide",), "x / c = x * (1 / c)", _over_constant, is_exact=False),
    Rule(("multiply",), "exp(x) * exp(y) = exp(x + y)", _product_of_exponentials, is_exact=False),
    Rule(("exp",), "exp(x) = exp2(x * log2(e))", _exponential_base_two, is_exact=False),
)
