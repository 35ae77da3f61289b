"""The arithmetic, the comparisons and the selections of the language.

Integer operations wrap around.  Comparisons give 1.0 or 0.0.
"""

from __future__ import annotations

import numpy as np

from redcomp.ir import (
    Value,
    compare,
    elementwise,
    indicator,
    select,
)
from redcomp.ops import signs
from redcomp.ops.expansions import fast, powers
from redcomp.ops.expansions.roots import rsqrt_by_estimate
from redcomp.ops.primitives import PREDICATES
from redcomp.ops.table import NORMAL, Array, Domain, Operation, Range, apply, register

PAIR = Domain(((-4.0, 4.0), (-4.0, 4.0)), (0.0,))


def _chosen(condition: Array, a: Array, b: Array) -> Array:
    return np.asarray(np.where(condition, a, b))


def _power_rule(f: Value, out: Value, *, m: int) -> Value | float:
    return 0.0 if m == 0 else float(m) * apply("pow", f, m=m - 1)


def _expand_gap(f: Value, g: Value) -> Value:
    is_infinite = compare("oeq", elementwise("abs", g), float("inf"))
    return select(compare("oeq", f, g) & is_infinite, 0.0, apply("excess", f, g))


register(
    Operation(
        "greater_of",
        2,
        "a where a > b, else b",
        lambda a, b: _chosen(a > b, a, b),
        selection=lambda a, b: select(compare("ogt", a, b), a, b),
        domain=PAIR,
        is_homogeneous=True,
    ),
    Operation(
        "less_of",
        2,
        "a where a < b, else b",
        lambda a, b: _chosen(a < b, a, b),
        selection=lambda a, b: select(compare("olt", a, b), a, b),
        domain=PAIR,
        is_homogeneous=True,
    ),
    Operation(
        "add",
        2,
        "f + g",
        np.add,
        "Add",
        "Arithmetic",
        partials=(lambda f, g, out: 1.0, lambda f, g, out: 1.0),
        mlir=("arith.addf", "arith.addi"),
        llvm=("fadd", "add"),
        unit="arithmetic",
        domain=PAIR,
        is_polynomial=True,
        integers="same",
        sign=signs.of_sum,
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
        llvm=("fsub", "sub"),
        unit="arithmetic",
        domain=PAIR,
        is_polynomial=True,
        integers="same",
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
        "gap",
        2,
        "excess of f over g, but 0 of equal infinities, with the derivatives of equal numbers",
        lambda f, g: np.where((f == g) & np.isinf(g), 0.0, f - g).astype(f.dtype),
        partials=(lambda f, g, out: 1.0, lambda f, g, out: -1.0),
        expand=_expand_gap,
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
        llvm=("fmul", "mul"),
        unit="arithmetic",
        domain=PAIR,
        is_polynomial=True,
        integers="same",
        sign=signs.of_product,
    ),
    Operation(
        "divide",
        2,
        "f / g",
        np.divide,
        "Divide",
        "Arithmetic",
        partials=(lambda f, g, out: 1.0 / g, lambda f, g, out: -(out / g)),
        fast={"reciprocal_approx": fast.divide},
        fast_range=Range(((-4.0, 4.0), (0.1, 4.0))),
        mlir=("arith.divf", ""),
        llvm=("fdiv", ""),
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
        llvm=("fneg", ""),
        unit="operand",
        is_polynomial=True,
        integers=lambda dtype, f: f * -1,
        sign=signs.of_negation,
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
        fast_range=Range(((NORMAL[0], 2.0**126),)),
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
        is_polynomial=True,
        sign=signs.nonnegative,
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
        expand=lambda f, *, m: powers.integer_power(f, m),
        domain=Domain(((0.2, 3.0),), parameters=((3,), (-2,), (0,), (1,))),
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
        fast={"sqrt_approx": fast.sqrt},
        fast_range=Range((NORMAL,)),
        mlir=("math.sqrt", ""),
        llvm=("llvm.sqrt", ""),
        unit="special",
        domain=Domain(((0.0, 4.0),), (0.0,)),
        gradient="0 at 0",
        sign=signs.nonnegative,
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
        fast={"rsqrt_approx": fast.rsqrt},
        fast_range=Range((NORMAL,)),
        variants={"rsqrt_estimate": rsqrt_by_estimate},
        exact=lambda m, f: 1 / m.sqrt(f),
        domain=Domain(((0.01, 4.0),), (0.0,)),
        ulp=2.0,
        gradient="0 at 0",
        sign=signs.nonnegative,
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
        fast_range=Range(),
        domain=Domain(((-4.0, 4.0), (0.5, 2.0), (-1.0, 1.0))),
        gradient="to x and n, as if floor were constant; 0 for d",
        operands=("x", "n", "d"),
    ),
)


def _truth(name: str, spelling: str, predicate: str, integer: str, symbol: str) -> Operation:
    function = PREDICATES[predicate]
    return Operation(
        name,
        2,
        f"1 where f {symbol} g, else 0",
        lambda f, g: function(f, g).astype(f.dtype),
        spelling,
        "Comparison and selection",
        selection=lambda f, g: indicator(compare(predicate, f, g), f.dtype),
        integers=lambda dtype, f, g: indicator(compare(integer, f, g), dtype),
        domain=PAIR,
        gradient="0",
    )


register(
    _truth("equal", "Equal", "oeq", "eq", "="),
    _truth("not_equal", "NotEqual", "une", "ne", "!="),
    _truth("less_than", "LessThan", "olt", "slt", "<"),
    _truth("less_or_equal", "LessOrEqual", "ole", "sle", "<="),
    Operation(
        "if_else",
        3,
        "a where f >= 0, else b (so b where f is NaN); for a comparison f, write f - 1",
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
