"""Operations on the components of vectors: sums, norms, products, extrema.

A row's `element` rule gives one component of the result, at a position that is a number or, inside
a loop over a long vector, a computed value.  It reads operands through an `Access`, which also
knows whether a fold over components is written out or becomes a loop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from redcomp.ir import Value, broadcast, compare, constant, select
from redcomp.ops.access import (
    VECTORS,
    Access,
    Position,
    composite,
    one_component,
    one_of_pair,
    same_dimension,
    total,
    vector_row,
)
from redcomp.ops.table import Array, Operation, ShapeError, apply, broadcast_dim, register

# -- sums and products -----------------------------------------------------------------------------


def _sum_element(access: Access, value: Value, k: Position) -> Value:
    (f,) = value.args
    return access.fold("add", None, lambda n: (access.element(f, n),), f.dim)


def _dot(access: Access, f: Value, g: Value) -> Value:
    extent = max(f.dim, g.dim)
    return access.fold("fma", None, lambda n: (access.element(f, n), access.element(g, n)), extent)


def _scalprod_element(access: Access, value: Value, k: Position) -> Value:
    return _dot(access, *value.args)


def _scalprod_pullback(e: Value, value: Value) -> tuple[Value | None, ...]:
    f, g = value.args
    return e * g, e * f


def _sum_t_shape(f: int, *, n: int) -> int:
    if f != 1 or n < 1:
        raise ShapeError(f"SumT repeats a scalar at least once; it got dimension {f} and count {n}")
    return n


register(
    vector_row(
        "sum",
        "Sum",
        1,
        "sum of the components",
        total,
        one_component,
        _sum_element,
        lambda e, value: (broadcast(e, value.args[0].dim),),
        moves="all",
    ),
    vector_row(
        "sum_t",
        "SumT",
        1,
        "the scalar f repeated n times",
        lambda f, *, n: np.repeat(f, n, axis=-1),
        _sum_t_shape,
        lambda access, value, k: access.element(value.args[0], 0),
        lambda e, value: (e,),
        ("n",),
        moves="all",
    ),
    vector_row(
        "scalprod",
        "Scalprod",
        2,
        "scalar product (f|g); a scalar operand is repeated",
        lambda f, g: total(f * g),
        one_of_pair,
        _scalprod_element,
        _scalprod_pullback,
        domain=VECTORS,
        is_polynomial=True,
    ),
)


def sqnorm2(f: Value) -> Value:
    """Sum of the squared components."""
    return apply("scalprod", f, f)


def _symmetric_shape(a: int, f: int) -> int:
    if a != f * f:
        raise ShapeError(f"SymSqNorm needs a matrix of {f} x {f} = {f * f} components, not {a}")
    return 1


def _symmetric_norm(a: Value, f: Value) -> Value:
    return apply("scalprod", f, apply("matvecmult", a, f))


def _weighted_shape(s: int, f: int) -> int:
    if s not in (1, f, f * f):
        raise ShapeError(f"the weight needs 1, {f} or {f * f} components, not {s}")
    return 1


def _weighted_norm(s: Value, f: Value) -> Value:
    if s.dim == 1:
        return s * sqnorm2(f)
    if s.dim == f.dim:
        return apply("sum", s * apply("square", f))
    return _symmetric_norm(s, f)


def _first_scalar(s: int, f: int) -> int:
    if s != 1:
        raise ShapeError(f"the weight must be a scalar, not of dimension {s}")
    return 1


register(
    composite("SqNorm2", 1, "sum of the squares", one_component, sqnorm2),
    composite("SqDist", 2, "SqNorm2(f - g)", one_of_pair, lambda f, g: sqnorm2(f - g)),
    composite(
        "Norm2",
        1,
        "Euclidean norm",
        one_component,
        lambda f: apply("sqrt", sqnorm2(f)),
        gradient="0 at the origin",
    ),
    composite(
        "Normalize",
        1,
        "f / Norm2(f), but 0 for the zero vector",
        same_dimension,
        lambda f: apply("rsqrt", sqnorm2(f)) * f,
        gradient="0 at the origin",
    ),
    composite(
        "SqNormIso",
        2,
        "s * SqNorm2(f), for a scalar s",
        _first_scalar,
        lambda s, f: s * sqnorm2(f),
        operands=("s", "f"),
    ),
    composite(
        "SqNormDiag",
        2,
        "Sum(s * f * f)",
        one_of_pair,
        lambda s, f: apply("sum", s * apply("square", f)),
        operands=("s", "f"),
    ),
    composite(
        "SymSqNorm",
        2,
        "sum over k, l of A[k * d + l] f[k] f[l], A having d * d components",
        _symmetric_shape,
        _symmetric_norm,
        operands=("A", "f"),
    ),
    composite(
        "WeightedSqNorm",
        2,
        "SqNormIso, SqNormDiag or SymSqNorm, by the dimension of s: 1, d or d * d",
        _weighted_shape,
        _weighted_norm,
        operands=("s", "f"),
    ),
    composite(
        "WeightedSqDist",
        3,
        "WeightedSqNorm(s, f - g)",
        lambda s, f, g: _weighted_shape(s, broadcast_dim(f, g)),
        lambda s, f, g: _weighted_norm(s, f - g),
        operands=("s", "f", "g"),
    ),
)

# -- extrema over components -----------------------------------------------------------------------
# Comparisons are strict, so the first extremum wins and NaN is passed over, unless it comes first.


def _first_extremum(array: Array, better: Callable[[Array, Array], Array]) -> Array:
    """Position of the first extremum, by the scan that the language defines."""
    place = np.zeros(array.shape[:-1], dtype=np.int64)
    best = array[..., 0]
    for k in range(1, array.shape[-1]):
        wins = better(array[..., k], best)
        place, best = np.where(wins, k, place), np.where(wins, array[..., k], best)
    return place[..., None]


def _extremum(access: Access, f: Value, predicate: str) -> Value:
    winner = "greater_of" if predicate == "ogt" else "less_of"
    return access.fold(winner, None, lambda n: (access.element(f, n),), f.dim)


def _value_row(name: str, spelling: str, predicate: str) -> Operation:
    """The row of an extremum."""
    better, word = _EXTREMA[predicate]

    def value_of(f: Array) -> Array:
        return np.take_along_axis(f, _first_extremum(f, better), axis=-1)

    def pullback(e: Value, value: Value) -> tuple[Value | None, ...]:
        (f,) = value.args
        is_there = compare("une", apply("one_hot", apply(f"arg{name}", f), n=f.dim), 0.0)
        return (select(is_there, e, 0.0),)

    return vector_row(
        name,
        spelling,
        1,
        f"{word} component; NaN counts only as the first component",
        value_of,
        one_component,
        lambda access, value, k: _extremum(access, value.args[0], predicate),
        pullback,
        gradient="to the first extremum",
    )


def _position_row(name: str, spelling: str, predicate: str) -> Operation:
    """The row of an extremum's position."""
    better, word = _EXTREMA[predicate]

    def position_of(f: Array) -> Array:
        return _first_extremum(f, better).astype(f.dtype)

    def position(access: Access, value: Value, k: Position) -> Value:
        # The smallest position that holds the extremum; none does if component 0 is NaN.
        (f,) = value.args
        best = _extremum(access, f, predicate)
        nowhere = constant(float(f.dim), f.dtype)

        def candidate(n: Position) -> tuple[Value, ...]:
            holds = compare("oeq", access.element(f, n), best)
            return (select(holds, access.position(n, f.dtype), nowhere),)

        first = access.fold("less_of", None, candidate, f.dim)
        return select(compare("oeq", first, nowhere), 0.0, first)

    return vector_row(
        f"arg{name}",
        f"Arg{spelling}",
        1,
        f"index of the first {word} component, as a number of the dtype",
        position_of,
        one_component,
        position,
        lambda e, value: (None,),
        gradient="0",
    )


# By the comparison that the extremum wins: the same in NumPy, and its name.
_EXTREMA = {"ogt": (np.greater, "largest"), "olt": (np.less, "smallest")}


register(
    _value_row("max", "Max", "ogt"),
    _position_row("max", "Max", "ogt"),
    _value_row("min", "Min", "olt"),
    _position_row("min", "Min", "olt"),
    Operation(
        "any_of",
        1,
        "whether any component holds, of truth values",
        lambda f: f.any(axis=-1, keepdims=True),
        shape=one_component,
        elementwise=False,
        element=lambda access, value, k: access.fold(
            "or", None, lambda n: (access.element(value.args[0], n),), value.args[0].dim
        ),
        dtypes=("i1",),
    ),
)
