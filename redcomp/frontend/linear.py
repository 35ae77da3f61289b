"""Questions about a formula as a function of one variable: is it linear, does it mix components?"""

from __future__ import annotations

import numpy as np

from redcomp.interpret import interpret
from redcomp.ir import Kernel, Output, Type, Value, topological, variable
from redcomp.ops.table import OPERATIONS
from redcomp.passes.grad import gradient
from redcomp.passes.simplify import simplify

SAMPLES = 8


def is_linear(value: Value, wrt: Value, params: tuple[Value, ...]) -> bool:
    """Whether a value (in f64) is linear in a variable, with f(0) = 0.

    Its derivative must not mention the variable, which leaves affine functions and step functions;
    that f(2 v) = 2 f(v), to the last bit, at random points tells these from linear ones.
    """
    return _has_constant_derivative(value, wrt, params) and _is_homogeneous(value, wrt, params)


def _has_constant_derivative(value: Value, wrt: Value, params: tuple[Value, ...]) -> bool:
    cotangent = variable("cotangent of the result", "i", len(params), Type(value.dtype, value.dim))
    derivative = gradient(value, wrt, cotangent)
    kernel = Kernel((*params, cotangent), (Output(derivative),))
    roots = simplify(kernel, use_fast_math=False).roots
    return all(v.op != "variable" or v["name"] != wrt["name"] for v in topological(roots))


def _is_homogeneous(value: Value, wrt: Value, params: tuple[Value, ...]) -> bool:
    random = np.random.default_rng(0)
    arrays = {v["name"]: random.uniform(0.25, 1.0, (SAMPLES, v.dim)) for v in params}
    (once,) = interpret([value], arrays)
    (twice,) = interpret([value], {**arrays, wrt["name"]: 2.0 * arrays[wrt["name"]]})
    with np.errstate(all="ignore"):
        return bool(np.all((2.0 * once == twice) | ~np.isfinite(2.0 * once - twice)))


def acts_componentwise(value: Value, wrt: Value) -> bool:
    """Whether each component of a value depends on the same component of a variable only.

    The answer may be False where it is so in a way that the operations do not show.
    """
    if value.dim != wrt.dim:
        return False
    known = {id(wrt): True}
    for v in topological([value], known=known):
        active = [arg for arg in v.args if id(arg) in known]
        if active:
            row = OPERATIONS.get(v.op)
            is_elementwise = row is not None and row.elementwise
            known[id(v)] = is_elementwise and all(
                known[id(arg)] and arg.dim == wrt.dim for arg in active
            )
    return known.get(id(value), True)
