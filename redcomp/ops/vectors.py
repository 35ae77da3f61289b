"""Operations on the components of vectors: sums, norms, products, extraction, extrema.

A row's `element` rule gives one component of the result, at a position that is a number or, inside
a loop over a long vector, a computed value.  It reads operands through an `Access`, which also
knows whether a fold over components is written out or becomes a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from redcomp.ir import (
    INTEGER_OF_WIDTH,
    Type,
    Value,
    broadcast,
    compare,
    component,
    constant,
    convert,
    indicator,
    select,
    zero,
)
from redcomp.ops.table import Array, Domain, Operation, ShapeError, apply, broadcast_dim, register

Position = int | Value


class Access(Protocol):
    """How an element rule reads its operands; `redcomp.passes.scalarize` implements it."""

    def element(self, vector: Value, position: Position) -> Value:
        """A component of an operand; a scalar gives itself at every position."""

    def fold(
        self,
        combine: str,
        initial: Value | None,
        operands: Callable[[Position], tuple[Value, ...]],
        extent: int,
    ) -> Value:
        """state = combine(*operands(k), state) for k in range(extent).

        Without `initial`, the fold starts from the first operand (from its product, for fma).
        """

    def position(self, value: Position, dtype: str) -> Value:
        """A position as a number of the given dtype."""


def shifted(position: Position, distance: int) -> Position:
    """position + distance.

    Shifts of a loop's counter add up, so that elements at one place are one value, however the
    place was reached.
    """
    if isinstance(position, int):
        return position + distance
    if position.op == "add" and position.args[1].is_constant:
        position, first = position.args
        distance += first["value"]
    return position + distance if distance else position


VECTOR = Domain(((-4.0, 4.0),))
VECTORS = Domain(((-4.0, 4.0), (-4.0, 4.0)))


def _scalar(*dims: int, **attrs: int) -> int:
    return 1


def _scalar_of_pair(f: int, g: int) -> int:
    broadcast_dim(f, g)
    return 1


def _row(
    name: str,
    spelling: str,
    arity: int,
    doc: str,
    evaluate: Callable[..., Array],
    shape: Callable[..., int],
    element: Callable[..., Value],
    pullback: Callable[[Value, Value], tuple[Value | None, ...]] | None,
    parameters: tuple[str, ...] = (),
    *,
    gradient: str = "",
    differs: str = "",
    domain: Domain | None = None,
) -> Operation:
    return Operation(
        name,
        arity,
        doc,
        evaluate,
        spelling,
        "Vectors",
        parameters,
        shape,
        elementwise=False,
        element=element,
        pullback=pullback,
        domain=domain or Domain(VECTOR.intervals * arity),
        ulp=8.0,
        gradient=gradient,
        differs=differs,
    )


def _total(array: Array) -> Array:
    return np.asarray(array.sum(axis=-1, keepdims=True))


def _placed(n: int, start: int, f: Array) -> Array:
    out = np.zeros((*f.shape[:-1], n), dtype=f.dtype)
    out[..., start : start + f.shape[-1]] = f
    return out


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
    _row(
        "sum",
        "Sum",
        1,
        "sum of the components",
        _total,
        _scalar,
        _sum_element,
        lambda e, value: (broadcast(e, value.args[0].dim),),
    ),
    _row(
        "sum_t",
        "SumT",
        1,
        "the scalar f repeated n times",
        lambda f, *, n: np.repeat(f, n, axis=-1),
        _sum_t_shape,
        lambda access, value, k: access.element(value.args[0], 0),
        lambda e, value: (e,),
        ("n",),
    ),
    _row(
        "scalprod",
        "Scalprod",
        2,
        "scalar product (f|g); a scalar operand is repeated",
        lambda f, g: _total(f * g),
        _scalar_of_pair,
        _scalprod_element,
        _scalprod_pullback,
        domain=VECTORS,
    ),
)


def _same(f: int) -> int:
    return f


def _composite(
    spelling: str,
    arity: int,
    doc: str,
    shape: Callable[..., int],
    definition: Callable[..., Value],
    *,
    gradient: str = "",
    operands: tuple[str, ...] = (),
) -> Operation:
    """A row that is built from others: value and derivative follow from its definition."""
    return Operation(
        spelling.lower(),
        arity,
        doc,
        None,
        spelling,
        "Vectors",
        (),
        shape,
        elementwise=False,
        definition=definition,
        domain=Domain(VECTOR.intervals * arity),
        ulp=8.0,
        gradient=gradient,
        operands=operands,
    )


def sqnorm2(f: Value) -> Value:
    """Sum of the squared components."""
    return apply("scalprod", f, f)


def _symmetric_shape(a: int, f: int) -> int:
    if a != f * f:
        raise ShapeError(f"SymSqNorm needs a matrix of {f} x {f} = {f * f} components, not {a}")
    return 1


def _symmetric_norm(a: Value, f: Value) -> Value:
    rows = (apply("scalprod", apply("extract", a, start=n * f.dim, length=f.dim), f)
            for n in range(f.dim))  # fmt: skip
    total = zero(Type(f.dtype))
    for n, row in enumerate(rows):
        total = total + apply("elem", f, m=n) * row
    return total


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
    _composite("SqNorm2", 1, "sum of the squares", _scalar, sqnorm2),
    _composite("SqDist", 2, "SqNorm2(f - g)", _scalar_of_pair, lambda f, g: sqnorm2(f - g)),
    _composite(
        "Norm2",
        1,
        "Euclidean norm",
        _scalar,
        lambda f: apply("sqrt", sqnorm2(f)),
        gradient="0 at the origin",
    ),
    _composite(
        "Normalize",
        1,
        "f / Norm2(f), but 0 for the zero vector",
        _same,
        lambda f: apply("rsqrt", sqnorm2(f)) * f,
        gradient="0 at the origin",
    ),
    _composite(
        "SqNormIso",
        2,
        "s * SqNorm2(f), for a scalar s",
        _first_scalar,
        lambda s, f: s * sqnorm2(f),
        operands=("s", "f"),
    ),
    _composite(
        "SqNormDiag",
        2,
        "Sum(s * f * f)",
        _scalar_of_pair,
        lambda s, f: apply("sum", s * apply("square", f)),
        operands=("s", "f"),
    ),
    _composite(
        "SymSqNorm",
        2,
        "sum over k, l of A[k * d + l] f[k] f[l], A having d * d components",
        _symmetric_shape,
        _symmetric_norm,
        operands=("A", "f"),
    ),
    _composite(
        "WeightedSqNorm",
        2,
        "SqNormIso, SqNormDiag or SymSqNorm, by the dimension of s: 1, d or d * d",
        _weighted_shape,
        _weighted_norm,
        operands=("s", "f"),
    ),
    _composite(
        "WeightedSqDist",
        3,
        "WeightedSqNorm(s, f - g)",
        lambda s, f, g: _weighted_shape(s, broadcast_dim(f, g)),
        lambda s, f, g: _weighted_norm(s, f - g),
        operands=("s", "f", "g"),
    ),
)

# -- extraction and assembly -----------------------------------------------------------------------


def _elem_shape(f: int, *, m: int) -> int:
    if not 0 <= m < f:
        raise ShapeError(
            f"component {m} of a vector of dimension {f}: it must be from 0 to {f - 1}"
        )
    return 1


def _elem_t_shape(f: int, *, n: int, m: int) -> int:
    if f != 1 or not 0 <= m < n:
        raise ShapeError(
            f"ElemT puts a scalar at one of {n} places; it got dimension {f}, place {m}"
        )
    return n


def _extract_shape(f: int, *, start: int, length: int) -> int:
    if start < 0 or length < 1 or start + length > f:
        raise ShapeError(f"components {start} to {start + length - 1} of a vector of dimension {f}")
    return length


def _extract_t_shape(f: int, *, start: int, n: int) -> int:
    if start < 0 or start + f > n:
        raise ShapeError(f"{f} components at place {start} do not fit into {n}")
    return n


def _inside(access: Access, f: Value, start: int, k: Position) -> Value:
    """f's component k - start where there is one, else 0."""
    if isinstance(k, int):
        inside = 0 <= k - start < f.dim
        return access.element(f, k - start) if inside else constant(0.0, f.dtype)
    shifted = k - start
    low = select(compare("slt", shifted, 0), 0, shifted)
    clamped = select(compare("sgt", low, f.dim - 1), f.dim - 1, low)
    is_inside = compare("eq", clamped, shifted)
    return select(is_inside, access.element(f, clamped), 0.0)


def _concat_element(access: Access, value: Value, k: Position) -> Value:
    f, g = value.args
    if isinstance(k, int):
        return access.element(f, k) if k < f.dim else access.element(g, k - f.dim)
    last = select(compare("sgt", k, f.dim - 1), f.dim - 1, k)
    rest = select(compare("slt", k, f.dim), 0, k - f.dim)
    in_first = compare("slt", k, f.dim)
    return select(in_first, access.element(f, last), access.element(g, rest))


def _extract(f: Value, start: int, length: int) -> Value:
    return apply("extract", f, start=start, length=length)


def _evaluate_one_hot(f: Array, *, n: int) -> Array:
    place = np.floor(f + f.dtype.type(0.5))
    return np.asarray((place == np.arange(n)).astype(f.dtype))


def _one_hot_shape(f: int, *, n: int) -> int:
    if f != 1 or n < 1:
        raise ShapeError(f"OneHot takes a scalar and a positive length, not {f} and {n}")
    return n


def _one_hot_element(access: Access, value: Value, k: Position) -> Value:
    f = access.element(value.args[0], 0)
    place = apply("floor", f + 0.5)
    return indicator(compare("oeq", place, access.position(k, f.dtype)), f.dtype)


register(
    _row(
        "elem",
        "Elem",
        1,
        "component m of f",
        lambda f, *, m: f[..., m : m + 1],
        _elem_shape,
        lambda access, value, k: access.element(value.args[0], value["m"]),
        lambda e, value: (apply("elem_t", e, n=value.args[0].dim, m=value["m"]),),
        ("m",),
        differs="a negative m is an error (KeOps reads past the vector)",
    ),
    _row(
        "elem_t",
        "ElemT",
        1,
        "n zeros but for the scalar f at place m",
        lambda f, *, n, m: _placed(n, m, f),
        _elem_t_shape,
        lambda access, value, k: _inside(access, value.args[0], value["m"], k),
        lambda e, value: (apply("elem", e, m=value["m"]),),
        ("n", "m"),
    ),
    _row(
        "extract",
        "Extract",
        1,
        "the components f[start : start + length]",
        lambda f, *, start, length: f[..., start : start + length],
        _extract_shape,
        lambda access, value, k: access.element(value.args[0], shifted(k, value["start"])),
        lambda e, value: (apply("extract_t", e, start=value["start"], n=value.args[0].dim),),
        ("start", "length"),
    ),
    _row(
        "extract_t",
        "ExtractT",
        1,
        "n zeros but for f at place start",
        lambda f, *, start, n: _placed(n, start, f),
        _extract_t_shape,
        lambda access, value, k: _inside(access, value.args[0], value["start"], k),
        lambda e, value: (_extract(e, value["start"], value.args[0].dim),),
        ("start", "n"),
    ),
    _row(
        "concat",
        "Concat",
        2,
        "f followed by g",
        lambda f, g: np.concatenate(_common_leading(f, g), axis=-1),
        lambda f, g: f + g,
        _concat_element,
        lambda e, value: (
            _extract(e, 0, value.args[0].dim),
            _extract(e, value.args[0].dim, value.args[1].dim),
        ),
        domain=VECTORS,
    ),
    _row(
        "reverse",
        "",
        1,
        "the components of f, last one first",
        lambda f: f[..., ::-1],
        _same,
        lambda access, value, k: access.element(value.args[0], (value.dim - 1) - k),
        lambda e, value: (apply("reverse", e),),
    ),
    _row(
        "one_hot",
        "OneHot",
        1,
        "n zeros but for a 1 at place floor(f + 1/2), if there is such a place",
        _evaluate_one_hot,
        _one_hot_shape,
        _one_hot_element,
        lambda e, value: (None,),
        ("n",),
        gradient="0",
        differs="a place outside the vector gives zeros (KeOps writes past it)",
        domain=Domain(((0.0, 3.0),)),
    ),
)


# -- tables ----------------------------------------------------------------------------------------
# An index is an integer; where a table has no such component there is a zero.


def nearest_integer(f: Value, extent: int) -> Value:
    """The integer nearest to f, halves rounded up, if it is from 0 to extent - 1, else -1."""
    below = apply("floor", f)
    # f - below is exact where it matters, unlike f + 1/2.
    place = below + indicator(compare("oge", f - below, 0.5), f.dtype)
    is_inside = select(compare("oge", place, 0.0), compare("ole", place, extent - 1.0), False)
    return convert(select(is_inside, place, -1.0), INTEGER_OF_WIDTH[f.dtype])


def _evaluate_gather(f: Array, index: Array) -> Array:
    is_inside = (index >= 0) & (index < f.shape[-1])
    table, place = _common_leading(f, np.where(is_inside, index, 0).astype(np.int64))
    return np.where(is_inside, np.take_along_axis(table, place, axis=-1), f.dtype.type(0))


def _gather_shape(f: int, index: int) -> int:
    if index != 1:
        raise ShapeError(f"Gather takes one index, not a vector of {index}")
    return 1


def _gather_element(access: Access, value: Value, k: Position) -> Value:
    """A load for a table that lies in memory as it is; a search in any other vector."""
    table, index = value.args[0], access.element(value.args[1], 0)
    if table.op != "variable" or table.dependence or table.dim == 1:
        return access.fold(
            "select",
            constant(0, table.dtype),
            lambda n: (
                compare("eq", access.position(n, index.dtype), index),
                access.element(table, n),
            ),
            table.dim,
        )
    low = select(compare("slt", index, 0), 0, index)
    clamped = select(compare("sgt", low, table.dim - 1), table.dim - 1, low)
    found = component(table, convert(clamped, "index"))
    return select(compare("eq", clamped, index), found, 0)


def _scatter_shape(f: int, index: int, *, n: int) -> int:
    if (f, index) != (1, 1) or n < 1:
        raise ShapeError(f"a scalar goes to one of {n} places, not {f} components to {index}")
    return n


def _scatter_element(access: Access, value: Value, k: Position) -> Value:
    f, index = (access.element(arg, 0) for arg in value.args)
    return select(compare("eq", access.position(k, index.dtype), index), f, 0)


register(
    _row(
        "gather",
        "",
        2,
        "the component of f at an index, 0 where there is none",
        _evaluate_gather,
        _gather_shape,
        _gather_element,
        lambda e, value: (
            apply("scatter", e, value.args[1], n=value.args[0].dim),
            None,
        ),
        gradient="0 for the index",
    ),
    _row(
        "scatter",
        "",
        2,
        "n zeros but for the scalar f at an index, if there is such a place",
        lambda f, index, *, n: np.where(index == np.arange(n), f, f.dtype.type(0)),
        _scatter_shape,
        _scatter_element,
        lambda e, value: (apply("gather", e, value.args[1]), None),
        ("n",),
        gradient="0 for the index",
    ),
)


def _common_leading(f: Array, g: Array) -> tuple[Array, Array]:
    leading = np.broadcast_shapes(f.shape[:-1], g.shape[:-1])
    return (
        np.broadcast_to(f, (*leading, f.shape[-1])),
        np.broadcast_to(g, (*leading, g.shape[-1])),
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


def _extrema(name: str, spelling: str, predicate: str) -> tuple[Operation, Operation]:
    better = np.greater if predicate == "ogt" else np.less
    word = "largest" if predicate == "ogt" else "smallest"
    winner = "greater_of" if predicate == "ogt" else "less_of"

    def place_of(f: Array) -> Array:
        return _first_extremum(f, better).astype(f.dtype)

    def value_of(f: Array) -> Array:
        return np.take_along_axis(f, _first_extremum(f, better), axis=-1)

    def extremum(access: Access, f: Value) -> Value:
        return access.fold(winner, None, lambda n: (access.element(f, n),), f.dim)

    def place(access: Access, value: Value, k: Position) -> Value:
        # The smallest position that holds the extremum; none does if component 0 is NaN.
        (f,) = value.args
        best = extremum(access, f)
        nowhere = constant(float(f.dim), f.dtype)

        def candidate(n: Position) -> tuple[Value, ...]:
            holds = compare("oeq", access.element(f, n), best)
            return (select(holds, access.position(n, f.dtype), nowhere),)

        first = access.fold("less_of", None, candidate, f.dim)
        return select(compare("oeq", first, nowhere), 0.0, first)

    def pullback(e: Value, value: Value) -> tuple[Value | None, ...]:
        (f,) = value.args
        return (apply("one_hot", apply(f"arg{name}", f), n=f.dim) * e,)

    return (
        _row(
            name,
            spelling,
            1,
            f"{word} component; NaN counts only as the first component",
            value_of,
            _scalar,
            lambda access, value, k: extremum(access, value.args[0]),
            pullback,
            gradient="to the first extremum",
        ),
        _row(
            f"arg{name}",
            f"Arg{spelling}",
            1,
            f"position of the (first) {word} component, as a number",
            place_of,
            _scalar,
            place,
            lambda e, value: (None,),
            gradient="0",
        ),
    )


register(*_extrema("max", "Max", "ogt"), *_extrema("min", "Min", "olt"))
