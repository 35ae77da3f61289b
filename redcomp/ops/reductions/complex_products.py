"""Products of complex numbers, which are pairs: the real part and the imaginary one."""

from __future__ import annotations

from redcomp.ir import Value, compare, elementwise, fma, indicator, select, zero
from redcomp.ops.reductions.products import GRADIENT, LIMITED, RESULTS, SUMS, Field
from redcomp.ops.reductions.row import Columns, Reduction, State, States, with_kept
from redcomp.ops.table import apply


def _parts(value: Value) -> tuple[Value, Value]:
    return apply("complex_real", value), apply("complex_imag", value)


def _twice(real: Value) -> Value:
    """A real number for each complex one, for both parts."""
    return apply("complex", real, real)


def _one(value: Value) -> Value:
    nothing = zero(_parts(value)[0].type)
    return apply("complex", nothing + 1.0, nothing)


def _sum_of_sizes(value: Value) -> Value:
    """|re| + |im|, which is 0 for 0 only."""
    re, im = _parts(value)
    return elementwise("abs", re) + elementwise("abs", im)


def _quotient(a: Value, b: Value) -> Value:
    (x, y), (re, im) = _parts(a), _parts(b)
    return apply(
        "complex",
        apply("real_quotient", x, y, re, im),
        apply("real_quotient", y, -x, re, im),
    )


_FIELD = Field(
    one=_one,
    is_zero=lambda value: compare("oeq", _twice(_sum_of_sizes(value)), 0.0),
    times=lambda a, b: apply("complexmult", a, b),
    quotient=_quotient,
    conj=lambda value: apply("conj", value),
)


# The product of the factors that are not 0 is (re + i im) * 2**exponent, the larger one of |re| and
# |im| in [1/2, 1).  What rounding has lost of re and im is kept too (Graillat 2009, for real ones):
# products alone are wrong by about as many units as the square root of the number of factors.


def _states(dim: int, count: int) -> tuple[State, ...]:
    """The real and imaginary part, what they have lost, the exponent, the number of zeros."""
    pairs = dim // 2
    return State(pairs, 1.0), *(State(pairs, 0.0) for _ in range(5))


def _binary_exponent(re: Value, im: Value) -> Value:
    return apply(
        "exponent", elementwise("greater_of", elementwise("abs", re), elementwise("abs", im))
    )


def _sum_of_products(a: Value, b: Value, c: Value, d: Value) -> tuple[Value, Value]:
    """a b + c d, and its rounding error; 0 for what is infinite or NaN, whose error is NaN."""
    left, right = a * b, c * d
    total = left + right
    of_right = total - left
    errors = (left - (total - of_right)) + (right - of_right)
    errors = errors + (fma(a, b, -left) + fma(c, d, -right))
    return total, select(compare("uno", errors, errors), 0.0, errors)


def _merge(a: States, b: States) -> States:
    re, lost_re = _sum_of_products(a[0], b[0], -a[1], b[1])
    im, lost_im = _sum_of_products(a[0], b[1], a[1], b[0])
    lost_re = lost_re + ((a[0] * b[2] - a[1] * b[3]) + (a[2] * b[0] - a[3] * b[1]))
    lost_im = lost_im + ((a[0] * b[3] + a[1] * b[2]) + (a[2] * b[1] + a[3] * b[0]))
    exponent = _binary_exponent(re, im)
    scale = elementwise("scale", zero(exponent.type) + 1.0, -exponent)
    scaled = (part * scale for part in (re, im, lost_re, lost_im))
    return *scaled, a[4] + b[4] + exponent, a[5] + b[5]


def _step(states: States, value: Value, columns: Columns) -> States:
    is_zero = compare("oeq", _sum_of_sizes(value), 0.0)
    re, im = _parts(value)
    re = select(is_zero, 1.0, re)
    exponent = _binary_exponent(re, im)
    re, im = elementwise("scale", re, -exponent), elementwise("scale", im, -exponent)
    nothing = zero(re.type)
    return _merge(states, (re, im, nothing, nothing, exponent, indicator(is_zero, re.dtype)))


def _finish(states: States) -> tuple[Value, ...]:
    """The product, the part and the power, the number of zeros, and the symmetric sums."""
    re, im, lost_re, lost_im, exponent, zeros = states
    re, im, half = re + lost_re, im + lost_im, apply("floor", 0.5 * exponent)

    def scaled(exponent: Value) -> Value:
        return apply(
            "complex", elementwise("scale", re, exponent), elementwise("scale", im, exponent)
        )

    others, zeros = scaled(exponent), _twice(zeros)
    product = select(compare("ogt", zeros, 0.0), others * 0.0, others)
    power = _twice(elementwise("scale", zero(half.type) + 1.0, half))
    return product, scaled(exponent - half), power, zeros, *[zeros * 0.0] * SUMS


COMPLEX_PRODUCTS = with_kept(
    Reduction(
        "complex_prod",
        ("ComplexProd",),
        "product over the columns, of complex numbers (re, im); 1 for none",
        RESULTS,
        _states,
        step=_step,
        finish=_finish,
        merge=_merge,
        cotangent=_FIELD.cotangent,
        saves=True,
        limited=LIMITED,
        takes="complex",
        gradient=GRADIENT,
        differs="new",
    )
)
