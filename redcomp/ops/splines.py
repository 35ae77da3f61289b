"""B-splines, and soft dynamic time warping: recurrences that are written out as formulas.

Both are composites, so that their derivatives are those of the formulas.
"""

from __future__ import annotations

import numpy as np

from redcomp.ir import Value, compare, elementwise, select
from redcomp.ops.table import Array, Domain, Operation, ShapeError, apply, register

# Splines over so many knots are written out.  Over more they become loops, in which the gradient's
# work doubles with each order.
SHORT, MAX_ORDER = 16, 5
# Cells of the table of alignments, each of which is some hundred instructions to compile.
MAX_CELLS = 400


# -- B-splines -------------------------------------------------------------------------------------


def _bspline_shape(knots: int, x: int, *, order: int) -> int:
    if x != 1:
        raise ShapeError(f"BSpline takes a scalar x, not one of dimension {x}")
    if order < 0:
        raise ShapeError(f"BSpline's order must not be negative: {order}")
    if knots < order + 2:
        raise ShapeError(f"BSpline of order {order} needs at least {order + 2} knots, not {knots}")
    if knots > SHORT and order > MAX_ORDER:
        raise ShapeError(
            f"BSpline over more than {SHORT} knots has an order of at most {MAX_ORDER}, not {order}"
        )
    return knots - order - 1


def _bspline(knots: Value, x: Value, *, order: int) -> Value:
    """De Boor's recurrence, from the indicators of the intervals between knots to their order.

    De Boor, A Practical Guide to Splines, chapter IX, (14).
    """
    count = knots.dim - 1
    starts, stops = _part(knots, 0, count), _part(knots, 1, count)
    basis = apply("less_or_equal", starts, x) * apply("less_than", x, stops)
    # Outside of all intervals every spline is 0, but weights overflow far away: a knot stands in.
    is_outside = compare("oeq", apply("sum", basis), 0.0)
    inside = select(is_outside, apply("elem", knots, m=0), x)
    x = select(compare("uno", x, x), x, inside)
    for degree in range(1, order + 1):
        starts, stops = _part(knots, 0, count), _part(knots, degree, count)
        # Where a support is empty its spline is 0, and so is the term, whatever the weight.
        width = stops - starts
        width = select(compare("oeq", width, 0.0), 1.0, width)
        count -= 1
        rising = (x - starts) / width * basis
        falling = (stops - x) / width * basis
        basis = _part(rising, 0, count) + _part(falling, 1, count)
    return basis


def _part(vector: Value, start: int, length: int) -> Value:
    if length == vector.dim:
        return vector
    return apply("extract", vector, start=start, length=length)


# -- soft dynamic time warping ---------------------------------------------------------------------


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


def _soft_dtw_shape(x: int, y: int, gamma: int) -> int:
    if gamma != 1:
        raise ShapeError(f"SoftDTW_SqDist takes a scalar gamma, not one of dimension {gamma}")
    if x * y > MAX_CELLS:
        raise ShapeError(
            f"SoftDTW_SqDist of {x} and {y} components fills a table of {x * y:,} cells; "
            f"at most {MAX_CELLS:,} are possible"
        )
    return 1


def _soft_dtw(x: Value, y: Value, gamma: Value) -> Value:
    """The recurrence of Cuturi and Blondel, Soft-DTW (2017), algorithm 1, row after row.

    Cells outside of the table are infinite, so that those in its first row and column have one
    predecessor only.
    """
    columns = [apply("elem", y, m=j) for j in range(y.dim)]
    above: list[Value] = []
    for i in range(x.dim):
        component = apply("elem", x, m=i)
        row: list[Value] = []
        for j, other in enumerate(columns):
            cost = apply("square", component - other)
            before = [*above[max(0, j - 1) : j + 1], *row[-1:]]
            if len(before) == 3:
                cost = apply("soft_minimum", *before, gamma) + cost
            elif before:
                cost = before[0] + cost
            row.append(cost)
        above = row
    return above[-1]


register(
    Operation(
        "bspline",
        2,
        "the B-splines of an order over the knots, at x; intervals hold their left ends only",
        None,
        "BSpline",
        "Splines and alignment",
        ("order",),
        _bspline_shape,
        elementwise=False,
        definition=_bspline,
        domain=Domain(((0.0, 1.0), (0.0, 1.0))),
        ulp=8.0,
        gradient="0 at knots of the highest multiplicity; from the right at the others",
        differs="float64 too, and gradients with respect to the knots and to x",
        operands=("knots", "x"),
    ),
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
        "softdtw_sqdist",
        3,
        "soft dynamic time warping of the sequences x and y by squared distances, for gamma > 0",
        None,
        "SoftDTW_SqDist",
        "Splines and alignment",
        (),
        _soft_dtw_shape,
        elementwise=False,
        definition=_soft_dtw,
        domain=Domain(((-1.0, 1.0), (-1.0, 1.0), (0.5, 2.0))),
        ulp=8.0,
        differs="in the precision of the dtype; gradients of any order, also to gamma",
        operands=("x", "y", "gamma"),
    ),
)
