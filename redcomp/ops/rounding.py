"""Absolute values, signs, rounding and limits: functions that are exact, one row each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from redcomp.ir import compare, select
from redcomp.ops import signs
from redcomp.ops.expansions import logarithm, rounding
from redcomp.ops.expansions.shared import at_least, copy_sign, magnitude
from redcomp.ops.mathematics import function_row
from redcomp.ops.primitives import floor_by_rounding
from redcomp.ops.table import Domain, Operation, Range, apply, register

PAIR = Domain(((-4.0, 4.0), (-4.0, 4.0)), (0.0, -1.5, 1.5))
TRIPLE = Domain(((-4.0, 4.0), (-2.0, 0.0), (0.0, 2.0)), (0.0,))
LIMITED = Domain(((-4.0, 4.0),), parameters=((-1, 2),))
SIGNED = Domain(((-4.0, 4.0),), (0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5))

register(
    function_row(
        "abs",
        "Abs",
        "absolute value",
        np.abs,
        partials=(lambda f, out: apply("sign", f),),
        mlir=("math.absf", ""),
        llvm=("llvm.fabs", ""),
        unit="operand",
        gradient="0 at 0",
        is_homogeneous=True,
        sign=signs.nonnegative,
    ),
    function_row(
        "sign",
        "Sign",
        "-1, 0 or 1; 0 where f is NaN",
        lambda f: np.where(f > 0, 1, np.where(f < 0, -1, 0)).astype(f.dtype),
        partials=(None,),
        expand=rounding.expand_sign,
        gradient="0",
    ),
    function_row(
        "step",
        "Step",
        "0 where f < 0, else 1 (also where f is NaN)",
        lambda f: np.where(f < 0, 0, 1).astype(f.dtype),
        selection=rounding.expand_step,
        gradient="0",
    ),
    function_row(
        "relu",
        "ReLU",
        "0 where f < 0, else f",
        lambda f: np.where(f < 0, 0, f).astype(f.dtype),
        selection=lambda f: at_least(f, 0.0),
        gradient="1 at 0",
        is_homogeneous=True,
    ),
    Operation(
        "mantissa",
        1,
        "m of f = m * 2**e, |m| in [1/2, 1); f itself where it is 0, infinite or NaN",
        lambda f: np.frexp(f)[0],
        expand=lambda f: logarithm.parts(f)[0],
        domain=SIGNED,
    ),
    Operation(
        "exponent",
        1,
        "the integer e of f = m * 2**e, |m| in [1/2, 1); 0 where f is 0, infinite or NaN",
        lambda f: np.where(np.isfinite(f), np.frexp(f)[1], 0).astype(f.dtype),
        expand=lambda f: logarithm.parts(f)[1],
        domain=SIGNED,
    ),
    function_row(
        "floor",
        "Floor",
        "largest integer not above f",
        np.floor,
        partials=(None,),
        mlir=("math.floor", ""),
        llvm=("llvm.floor", ""),
        unit="rounding",
        needs="rounding",
        fallback=floor_by_rounding,
        domain=SIGNED,
        gradient="0",
    ),
    function_row(
        "trunc",
        "Trunc",
        "f without its fraction: the nearest integer that is not farther from 0",
        np.trunc,
        partials=(None,),
        mlir=("math.trunc", ""),
        llvm=("llvm.trunc", ""),
        needs="rounding",
        unit="rounding",
        fallback=lambda f: copy_sign(apply("floor", magnitude(f)), f),
        domain=SIGNED,
        gradient="0",
        differs="new",
    ),
    function_row(
        "round",
        "Round",
        "f rounded to d decimal digits (d may be negative), halves away from 0",
        rounding.round_half_away,
        parameters=("d",),
        partials=(None,),
        expand=rounding.expand_round,
        fast_range=Range(),
        # f * 10**d overflows beyond.
        domain=replace(SIGNED, parameters=((0,), (2,), (-1,)), largest={"f32": 1e34, "f64": 1e304}),
        gradient="0",
    ),
    function_row(
        "minimum",
        "Minimum",
        "the smaller of f and g; NaN if one of them is",
        np.minimum,
        arity=2,
        selection=lambda f, g: select(compare("olt", g, f), g, f),
        expand=rounding.expand_minimum,
        domain=PAIR,
        gradient="that of f where f = g",
        differs="new",
        is_homogeneous=True,
    ),
    function_row(
        "maximum",
        "Maximum",
        "the larger of f and g; NaN if one of them is",
        np.maximum,
        arity=2,
        selection=lambda f, g: select(compare("ogt", g, f), g, f),
        expand=rounding.expand_maximum,
        domain=PAIR,
        gradient="that of f where f = g",
        differs="new",
        is_homogeneous=True,
    ),
    function_row(
        "clamp",
        "Clamp",
        "a where x < a, else b where x > b, else x",
        rounding.clamp,
        arity=3,
        selection=rounding.choose_limit,
        expand=rounding.expand_clamp,
        domain=TRIPLE,
        gradient="to x on the closed interval [a, b], else to the limit that is taken",
        differs="gradient where a = b (KeOps: NaN)",
        operands=("x", "a", "b"),
    ),
    function_row(
        "clampint",
        "ClampInt",
        "m where x < m, else n where x > n, else x, for integers m and n",
        lambda x, *, m, n: rounding.clamp(x, m, n),
        parameters=("m", "n"),
        selection=lambda x, *, m, n: rounding.choose_limit(x, float(m), float(n)),
        expand=lambda x, *, m, n: rounding.expand_clamp(x, float(m), float(n)),
        domain=LIMITED,
        gradient="1 on the closed interval [m, n], else 0",
        operands=("x",),
    ),
    function_row(
        "diffclampint",
        "DiffClampInt",
        "1 on the closed interval [m, n], else 0, for integers m and n",
        lambda x, *, m, n: ((x >= m) & (x <= n)).astype(x.dtype),
        parameters=("m", "n"),
        selection=lambda x, *, m, n: rounding.inside(x, float(m), float(n)),
        domain=LIMITED,
        gradient="0",
        operands=("x",),
    ),
)
