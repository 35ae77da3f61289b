"""B-splines: a recurrence that is written out as a formula, whose derivatives are the formula's."""

from __future__ import annotations

from redcomp.ir import Value, compare, select
from redcomp.limits import MAX_ORDER
from redcomp.ops.access import composite
from redcomp.ops.table import Domain, ShapeError, apply, register

# Splines over so many knots are written out.  Over more they become loops, in which the gradient's
# work doubles with each order.
SHORT = 16


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


register(
    composite(
        "BSpline",
        2,
        "the B-splines of an order over the knots, at x; intervals hold their left ends only",
        _bspline_shape,
        _bspline,
        ("order",),
        section="Splines and alignment",
        domain=Domain(((0.0, 1.0),)),
        gradient="0 at knots of the highest multiplicity; from the right at the others",
        differs="float64 too, and gradients with respect to the knots and to x",
        operands=("knots", "x"),
    ),
)
