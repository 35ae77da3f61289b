"""Taking vectors apart and putting them together; reads of tables."""

from __future__ import annotations

import numpy as np

from redcomp.ir import (
    INTEGER_OF_WIDTH,
    Value,
    compare,
    component,
    constant,
    convert,
    indicator,
    select,
)
from redcomp.ops.access import (
    VECTORS,
    Access,
    Position,
    placed,
    same_dimension,
    shifted,
    vector_row,
)
from redcomp.ops.table import Array, Domain, DtypeError, ShapeError, Typing, apply, register

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
            f"ElemT puts a scalar at an index below {n}; it got dimension {f}, index {m}"
        )
    return n


def _extract_shape(f: int, *, start: int, length: int) -> int:
    if start < 0 or length < 1 or start + length > f:
        raise ShapeError(f"components {start} to {start + length - 1} of a vector of dimension {f}")
    return length


def _extract_t_shape(f: int, *, start: int, n: int) -> int:
    if start < 0 or start + f > n:
        raise ShapeError(f"{f} components at index {start} do not fit into {n}")
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


def _one_hot_selection(f: Value, *, n: int) -> Value:
    return indicator(compare("une", apply("one_hot", f, n=n), 0.0), f.dtype)


register(
    vector_row(
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
        moves="some",
        integers="same",
    ),
    vector_row(
        "elem_t",
        "ElemT",
        1,
        "n zeros, except for the scalar f at index m",
        lambda f, *, n, m: placed(n, m, f),
        _elem_t_shape,
        lambda access, value, k: _inside(access, value.args[0], value["m"], k),
        lambda e, value: (apply("elem", e, m=value["m"]),),
        ("n", "m"),
        moves="all",
    ),
    vector_row(
        "extract",
        "Extract",
        1,
        "the components f[start : start + length]",
        lambda f, *, start, length: f[..., start : start + length],
        _extract_shape,
        lambda access, value, k: access.element(value.args[0], shifted(k, value["start"])),
        lambda e, value: (apply("extract_t", e, start=value["start"], n=value.args[0].dim),),
        ("start", "length"),
        moves="some",
        integers="same",
    ),
    vector_row(
        "extract_t",
        "ExtractT",
        1,
        "n zeros, except for f, which begins at index start",
        lambda f, *, start, n: placed(n, start, f),
        _extract_t_shape,
        lambda access, value, k: _inside(access, value.args[0], value["start"], k),
        lambda e, value: (_extract(e, value["start"], value.args[0].dim),),
        ("start", "n"),
        moves="all",
    ),
    vector_row(
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
        moves="all",
        integers="same",
    ),
    vector_row(
        "reverse",
        "",
        1,
        "the components of f, last one first",
        lambda f: f[..., ::-1],
        same_dimension,
        lambda access, value, k: access.element(value.args[0], (value.dim - 1) - k),
        lambda e, value: (apply("reverse", e),),
        moves="all",
    ),
    vector_row(
        "one_hot",
        "OneHot",
        1,
        "n zeros, except for a 1 at the index floor(f + 1/2), if that is below n and not negative",
        _evaluate_one_hot,
        _one_hot_shape,
        _one_hot_element,
        None,
        ("n",),
        selection=_one_hot_selection,
        gradient="0",
        differs="an index outside of the vector gives zeros (KeOps writes past its end)",
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


def _indexed_dtype(value: Value) -> str:
    index = value.args[1].dtype
    if index not in INTEGER_OF_WIDTH.values():
        raise DtypeError(f"has an index of type {index}")
    return value.args[0].dtype


_INDEXED = Typing(_indexed_dtype, alike=(0, 1))


def _scatter_shape(f: int, index: int, *, n: int) -> int:
    if (f, index) != (1, 1) or n < 1:
        raise ShapeError(f"a scalar goes to one of {n} places, not {f} components to {index}")
    return n


def _scatter_element(access: Access, value: Value, k: Position) -> Value:
    f, index = (access.element(arg, 0) for arg in value.args)
    return select(compare("eq", access.position(k, index.dtype), index), f, 0)


register(
    vector_row(
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
        moves="some",
        typing=_INDEXED,
    ),
    vector_row(
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
        moves="all",
        typing=_INDEXED,
    ),
)


def _common_leading(f: Array, g: Array) -> tuple[Array, Array]:
    leading = np.broadcast_shapes(f.shape[:-1], g.shape[:-1])
    return (
        np.broadcast_to(f, (*leading, f.shape[-1])),
        np.broadcast_to(g, (*leading, g.shape[-1])),
    )
