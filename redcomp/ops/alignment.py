"""Soft dynamic time warping: a table of alignments, filled cell after cell in one loop.

Two rows make such tables: `soft_alignments`, and the linear recurrence over the same grid, which is
its derivative.  The derivatives of the latter are itself again, so there are all orders.

A table of n x m cells is a vector, row after row; the cells before one are at the distances 1, m
and m + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redcomp.ir import Value, broadcast, compare, constant, elementwise, select, zero
from redcomp.limits import MAX_TABLE
from redcomp.ops.access import Access, Position, Reader, composite, quotient
from redcomp.ops.table import Array, Domain, Operation, ShapeError, apply, register


def _distances(columns: int) -> tuple[int, int, int]:
    return 1, columns, columns + 1


# -- soft minima -----------------------------------------------------------------------------------


def _evaluate_soft_minimum(a: Array, b: Array, c: Array, gamma: Array) -> Array:
    least = np.minimum(np.minimum(a, b), c)
    return np.asarray(least - gamma * np.log(sum(np.exp((least - v) / gamma) for v in (a, b, c))))


def _expand_soft_minimum(a: Value, b: Value, c: Value, gamma: Value) -> Value:
    # The smallest operand is factored out: nothing overflows, and its own exponential is 1.
    low, high = elementwise("less_of", a, b), elementwise("greater_of", a, b)
    least, other = elementwise("less_of", low, c), elementwise("greater_of", low, c)
    rate = 1.0 / gamma
    shares = apply("exp", (least - high) * rate) + apply("exp", (least - other) * rate)
    return least - gamma * apply("log", 1.0 + shares)


def _weight(a: Value, gamma: Value, out: Value) -> Value:
    """The share of a in the sum of exponentials; at most 1."""
    return apply("exp", (out - a) / gamma)


def _temperature_rule(a: Value, b: Value, c: Value, gamma: Value, out: Value) -> Value:
    # Minus the entropy of the weights, whose logarithms are (out - a) / gamma and so on.
    first, second, third = (_weight(v, gamma, out) * ((out - v) / gamma) for v in (a, b, c))
    return first + second + third


# -- the table of alignments -----------------------------------------------------------------------


def _grid_shape(name: str, cells: Sequence[int], columns: int) -> int:
    if len(set(cells)) > 1 or columns < 1 or cells[0] % columns:
        raise ShapeError(f"{name} takes vectors of whole rows of {columns}, not {tuple(cells)}")
    return cells[0]


def _alignments_shape(cost: int, gamma: int, *, m: int) -> int:
    if gamma != 1:
        raise ShapeError(f"soft_alignments takes a scalar gamma, not one of dimension {gamma}")
    return _grid_shape("soft_alignments", (cost,), m)


def _evaluate_alignments(cost: Array, gamma: Array, *, m: int) -> Array:
    leading = np.broadcast_shapes(cost.shape[:-1], gamma.shape[:-1])
    best, ends = [np.zeros((*leading, 1), cost.dtype)], [cost[..., :1]]
    for k in range(1, cost.shape[-1]):
        if k % m and k >= m:
            left, up, diagonal = (ends[k - distance] for distance in _distances(m))
            best.append(_evaluate_soft_minimum(left, up, diagonal, gamma))
        else:
            best.append(np.broadcast_to(ends[k - 1 if k % m else k - m], best[0].shape))
        ends.append(best[-1] + cost[..., k : k + 1])
    return np.concatenate(best, axis=-1)


def _alignments_element(access: Access, value: Value, k: Position) -> Value:
    """The recurrence of Cuturi and Blondel, Soft-DTW (2017), algorithm 1.

    Cells in the first row and column of the table have one cell before them only.
    """
    cost, m = value.args[0], value["m"]

    def cell(earlier: Reader, k: Position) -> Value:
        def end(distance: int) -> Value:
            at = _at_least_0(k - distance)
            return earlier(at) + access.element(cost, at)

        column = k - quotient(k, m, value.dim) * m
        if isinstance(k, int) and (column == 0 or k < m):
            return end(1 if column else m) if k else constant(0.0, value.dtype)
        left, up, diagonal = map(end, _distances(m))
        least = elementwise("soft_minimum", left, up, diagonal, access.element(value.args[1], 0))
        if isinstance(k, int) or isinstance(column, int):
            return least
        is_left, is_up = compare("sgt", column, 0), compare("sge", k, m)
        only = select(is_left, left, select(is_up, up, 0.0))
        return select(select(is_left, is_up, False), least, only)

    return access.scan(value, cell, k)


def _at_least_0(position: Position) -> Position:
    if isinstance(position, int):
        return max(position, 0)
    return select(compare("slt", position, 0), 0, position)


def _alignments_pullback(e: Value, value: Value) -> tuple[Value | None, ...]:
    """Algorithm 2 of the paper: each cell hands on what it gets, by the weights of its minimum."""
    (cost, gamma), m = value.args, value["m"]
    ends, weights, entropy, arriving = value + cost, [], zero(value.type), zero(value.type)
    for distance, is_there in zip(_distances(m), _there(value, m), strict=True):
        # Weights outside of the table are chosen by its own value: 0 without infinities.
        gain = (value - select(is_there, _behind(ends, distance), value)) / gamma
        weight = select(is_there, apply("exp", gain), 0.0)
        weights.append(weight)
        entropy = entropy + weight * gain
        arriving = arriving + _ahead(e * weight, distance)
    of_cost = _transposed(arriving, weights, m)
    return of_cost, (e + of_cost) * entropy


def _there(value: Value, m: int) -> tuple[Value, Value, Value]:
    """Which cells have one before them: to the left, above, and both."""
    rows = broadcast(constant(1.0, value.dtype), value.dim // m)
    row = _behind(broadcast(constant(1.0, value.dtype), m), 1)
    left = compare("ogt", _outer(rows, row), 0.5)
    up = compare("ogt", _behind(broadcast(constant(1.0, value.dtype), value.dim), m), 0.5)
    return left, up, select(left, up, constant(False, "i1"))


def _outer(f: Value, g: Value) -> Value:
    no: tuple[int, ...] = ()
    return apply("tensordot", f, g, dimsf=(f.dim,), dimsg=(g.dim,), contf=no, contg=no, perm=no)


def _behind(f: Value, distance: int) -> Value:
    """The component at k - distance, 0 where there is none."""
    kept = f.dim - distance
    if kept < 1:
        return zero(f.type)
    return apply("extract_t", apply("extract", f, start=0, length=kept), start=distance, n=f.dim)


def _ahead(f: Value, distance: int) -> Value:
    """The component at k + distance, 0 where there is none."""
    kept = f.dim - distance
    if kept < 1:
        return zero(f.type)
    return apply("extract_t", apply("extract", f, start=distance, length=kept), start=0, n=f.dim)


# -- the linear recurrence -------------------------------------------------------------------------


def _recurrence_shape(f: int, left: int, up: int, diagonal: int, *, m: int) -> int:
    return _grid_shape("grid_recurrence", (f, left, up, diagonal), m)


def _evaluate_recurrence(f: Array, *weights: Array, m: int) -> Array:
    leading = np.broadcast_shapes(f.shape[:-1], *(weight.shape[:-1] for weight in weights))
    out = np.array(np.broadcast_to(f, (*leading, f.shape[-1])))
    for k in range(f.shape[-1]):
        for distance, weight in zip(_distances(m), weights, strict=True):
            if k >= distance:
                out[..., k] += weight[..., k] * out[..., k - distance]
    return out


def _recurrence_element(access: Access, value: Value, k: Position) -> Value:
    f, *weights = value.args

    def cell(earlier: Reader, k: Position) -> Value:
        out = access.element(f, k)
        for distance, weight in zip(_distances(value["m"]), weights, strict=True):
            if isinstance(k, int) and k < distance:
                continue
            before = earlier(_at_least_0(k - distance))
            if not isinstance(k, int):
                before = select(compare("sge", k, distance), before, 0.0)
            out = out + access.element(weight, k) * before
        return out

    return access.scan(value, cell, k)


def _recurrence_pullback(e: Value, value: Value) -> tuple[Value | None, ...]:
    _, *weights = value.args
    back = _transposed(e, weights, value["m"])
    behind = (_behind(value, distance) for distance in _distances(value["m"]))
    return back, *(back * before for before in behind)


def _transposed(e: Value, weights: Sequence[Value], m: int) -> Value:
    """The transposed recurrence, from the last cell to the first: `e` and what cells ahead give."""
    ahead = map(_ahead, weights, _distances(m))
    reversed_weights = (apply("reverse", weight) for weight in ahead)
    made = apply("grid_recurrence", apply("reverse", e), *reversed_weights, m=m)
    return apply("reverse", made)


# -- the formula -----------------------------------------------------------------------------------


def _soft_dtw_shape(x: int, y: int, gamma: int) -> int:
    if gamma != 1:
        raise ShapeError(f"SoftDTW_SqDist takes a scalar gamma, not one of dimension {gamma}")
    if x * y > MAX_TABLE:
        raise ShapeError(
            f"SoftDTW_SqDist of {x} and {y} components fills a table of {x * y:,} cells; "
            f"at most {MAX_TABLE:,} are possible"
        )
    return 1


def _soft_dtw(x: Value, y: Value, gamma: Value) -> Value:
    """What the last cell costs, and the softly least cost of an alignment that leads to it."""
    if x.dim * y.dim == 1:
        return apply("square", x - y)
    rows, columns = (broadcast(constant(1.0, x.dtype), v.dim) for v in (x, y))
    cost = apply("square", _outer(x, columns) - _outer(rows, y))
    ends = apply("soft_alignments", cost, gamma, m=y.dim) + cost
    return apply("elem", ends, m=ends.dim - 1)


_COST = (0.0, 4.0)

register(
    Operation(
        "soft_minimum",
        4,
        "-gamma * log(exp(-a / gamma) + exp(-b / gamma) + exp(-c / gamma)), for gamma > 0",
        _evaluate_soft_minimum,
        partials=(
            lambda a, b, c, gamma, out: _weight(a, gamma, out),
            lambda a, b, c, gamma, out: _weight(b, gamma, out),
            lambda a, b, c, gamma, out: _weight(c, gamma, out),
            _temperature_rule,
        ),
        expand=_expand_soft_minimum,
        domain=Domain(((-4.0, 4.0), (-4.0, 4.0), (-4.0, 4.0), (0.5, 4.0))),
        ulp=8.0,
    ),
    Operation(
        "soft_alignments",
        2,
        "for each cell of a table of costs the soft minimum over alignments that lead to it",
        _evaluate_alignments,
        parameters=("m",),
        shape=_alignments_shape,
        elementwise=False,
        element=_alignments_element,
        pullback=_alignments_pullback,
        domain=Domain((_COST, (0.5, 2.0))),
        ulp=8.0,
        operands=("cost", "gamma"),
    ),
    Operation(
        "grid_recurrence",
        4,
        "out[k] = f[k] + left[k] out[k - 1] + up[k] out[k - m] + diagonal[k] out[k - m - 1]",
        _evaluate_recurrence,
        parameters=("m",),
        shape=_recurrence_shape,
        elementwise=False,
        element=_recurrence_element,
        pullback=_recurrence_pullback,
        domain=Domain((_COST, (0.0, 0.5), (0.0, 0.5), (0.0, 0.5))),
        ulp=8.0,
        operands=("f", "left", "up", "diagonal"),
    ),
    composite(
        "SoftDTW_SqDist",
        3,
        "soft dynamic time warping of the sequences x and y by squared distances, for gamma > 0",
        _soft_dtw_shape,
        _soft_dtw,
        section="Splines and alignment",
        domain=Domain(((-1.0, 1.0), (-1.0, 1.0), (0.5, 2.0))),
        differs=(
            "in the precision of the dtype; gradients of any order, also to gamma; a table of "
            f"more than {MAX_TABLE:,} cells is a FormulaError"
        ),
        operands=("x", "y", "gamma"),
    ),
)
