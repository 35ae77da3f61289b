"""linear: whether a value is a linear function of a variable; there are no false positives.

A value is linear in a variable if it is the variable, or an operation that is linear in those of
its arguments that depend on the variable, and these are linear.  An argument that is the constant
zero may count as one that depends on the variable: IfElse(f, v, 0) is linear in v.  So any nesting
of sums, products with factors that do not depend on the variable, extraction, concatenation,
products with matrices and selection is accepted.  Expressions that are linear only because terms
cancel, such as (v + 1) - 1, are not.

Which operations are linear in which arguments is derived from their rows.  An operation is linear
if its derivative does not depend on the arguments and, along the arguments themselves, equals its
value (Euler's relation).  The second condition, which excludes piecewise constant (Floor) and
discontinuous (Mod) operations, is evaluated at random points of the row's test domain, on vectors
of two components if the operation treats all components alike.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np

from redcomp.errors import SizeError
from redcomp.interpret import interpret
from redcomp.ir import Attribute, Kernel, Output, Type, Value, topological, variable
from redcomp.limits import MAX_DIM, MAX_EVALUATED
from redcomp.ops.table import OPERATIONS, Array
from redcomp.passes.guarded import Guarded, Supports
from redcomp.passes.jvp import push_forward
from redcomp.passes.simplify import simplified

_SAMPLES = 8
_DOMAIN = ((-4.0, 4.0),)
# Linear operations of a few thousand terms, whose intermediate results may cancel.
_TOLERANCE = 1e-9

_Dims = tuple[Type, ...]
_Attributes = tuple[tuple[str, Attribute], ...]


def is_linear(value: Value, wrt: Value) -> bool:
    """Whether a value is seen to be linear in the variable `wrt`; False if it cannot be seen.

    Zero is linear in everything.  Raises SizeError where vectors are too long to see it.
    """
    kernel = simplified(Kernel((), (Output(value),)), is_exact=False)
    value = kernel.outputs[0].value
    linear = {wrt}  # what depends on the variable, all of it linear
    for part in topological([value]):
        if part is not wrt and any(arg in linear for arg in part.args):
            if not _keeps_linear(part, linear):
                return False
            linear.add(part)
    return value in linear or _is_zero(value)


def _keeps_linear(value: Value, linear: set[Value]) -> bool:
    active = [n for n, arg in enumerate(value.args) if arg in linear]
    zeros = [n for n, arg in enumerate(value.args) if _is_zero(arg)]
    most = 2 if value.op in OPERATIONS and OPERATIONS[value.op].elementwise else MAX_DIM
    types = [replace(v.type, dim=min(v.dim, most)) for v in (*value.args, value)]
    choices = [active, sorted(active + zeros)] if zeros else [active]
    return any(
        _is_linear_operation(value.op, tuple(types), value.attrs, tuple(positions))
        for positions in choices
    )


def _is_zero(value: Value) -> bool:
    if value.op == "broadcast":
        return _is_zero(value.args[0])
    return value.is_constant and bool(value["value"] == 0)


@functools.lru_cache(maxsize=1024)
def _is_linear_operation(
    op: str, types_and_result: _Dims, attrs: _Attributes, positions: tuple[int, ...]
) -> bool:
    """Whether an operation is linear in its arguments at `positions`, all taken together."""
    *types, result = types_and_result
    if not result.is_float:
        return False
    arguments = tuple(_stand_in(f"a{n}", type_) for n, type_ in enumerate(types))
    tangents = [
        Guarded(_stand_in(f"t{n}", type_)) if n in positions else None
        for n, type_ in enumerate(types)
    ]
    value = Value(op, arguments, replace(result, dtype="f64"), attrs)
    pushed = push_forward(value, tangents, Supports())
    moving = {arguments[n] for n in positions}
    if pushed is None:
        return False
    derivative = pushed.settled()
    if any(part in moving for part in topological([derivative])):
        return False
    samples = _samples(op, types_and_result)
    arrays = {v["name"]: _sample(op, n, v.type, samples) for n, v in enumerate(arguments)}
    arrays |= {f"t{n}": arrays[f"a{n}"] for n in positions}
    found, expected = interpret([derivative, value], arrays)
    size = np.abs(expected).max()
    return bool(np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * size))


def _stand_in(name: str, type_: Type) -> Value:
    dtype = "f64" if type_.is_float else type_.dtype
    return variable(name, "parameter", 0, replace(type_, dtype=dtype))


def _samples(op: str, types: _Dims) -> int:
    """How many points an operation is evaluated at; raises SizeError if one takes too many numbers.

    A product of two matrices has as many products as the square root of the product of the numbers
    of components.
    """
    dims = [type_.dim for type_ in types]
    moves_only = op not in OPERATIONS or bool(OPERATIONS[op].moves)
    numbers = max(dims if moves_only else (*dims, math.isqrt(math.prod(dims))))
    if numbers > MAX_EVALUATED:
        raise SizeError(
            f"has an operation of {numbers:,} numbers, of which at most {MAX_EVALUATED:,} are "
            "looked at to see whether it is linear"
        )
    return min(_SAMPLES, MAX_EVALUATED // numbers)


def _sample(op: str, position: int, type_: Type, samples: int) -> Array:
    """Random numbers of the test domain of an operation's argument."""
    rng = np.random.default_rng(position)
    shape = (samples, type_.dim)
    if not type_.is_float:
        return rng.integers(0, 2, shape).astype(type_.numpy)
    intervals = OPERATIONS[op].domain.intervals if op in OPERATIONS else _DOMAIN
    return rng.uniform(*intervals[position % len(intervals)], shape)


def acts_componentwise(value: Value, wrt: Value) -> bool:
    """Whether each component of a value depends on the same component of a variable only.

    The answer may be False where it is so in a way that the operations do not show.
    """
    return _acts_componentwise(value, wrt, is_alike=False)


def acts_alike(value: Value, wrt: Value) -> bool:
    """Whether it does so in the same way for all components: all else there is are numbers."""
    return _acts_componentwise(value, wrt, is_alike=True)


def _acts_componentwise(value: Value, wrt: Value, is_alike: bool) -> bool:
    if value.dim != wrt.dim:
        return False
    known = {wrt: True}
    for v in topological([value], known=known):
        active = [arg for arg in v.args if arg in known]
        if active:
            row = OPERATIONS.get(v.op)
            is_elementwise = row is not None and row.elementwise
            known[v] = is_elementwise and all(
                known[arg] and arg.dim == wrt.dim
                if arg in known
                else not is_alike or arg.dim == 1 or arg.op == "broadcast"
                for arg in v.args
            )
    return known.get(value, not is_alike)
