"""Operations on complex vectors, whose components are pairs (re, im), one after the other.

Three rows stand in the IR: `complex_real` and `complex_imag` take a vector apart and `complex` puts
one together.  The others are formulas of these in real arithmetic, so that a complex scalar serves
all pairs by the rule of real ones, and gradients, to any order, are those of the real inner product
on (re, im), as PyTorch has them.
"""

from __future__ import annotations

import functools

import numpy as np

from redcomp.ir import Value, broadcast, compare, constant, elementwise, select
from redcomp.ops.access import Access, Position, composite
from redcomp.ops.table import Array, Domain, Operation, ShapeError, apply, broadcast_dim, register

NUMBER = (-2.0, 2.0)
AWAY_FROM_ZERO = (0.2, 2.0)

# -- shapes ----------------------------------------------------------------------------------------


def _complex(dim: int) -> int:
    """The number of pairs."""
    if dim % 2:
        raise ShapeError(f"a complex vector holds pairs (re, im): its dimension is even, not {dim}")
    return dim // 2


def _same(f: int) -> int:
    return 2 * _complex(f)


def _doubled(*dims: int) -> int:
    return 2 * broadcast_dim(*dims)


def _common(f: int, g: int) -> int:
    if _complex(f) != _complex(g) and 2 not in (f, g):
        raise ShapeError(f"complex dimensions {f}, {g} do not fit: they must be equal, or 2")
    return max(f, g)


def _pair(f: int) -> int:
    _complex(f)
    return 2


def _repeated(f: int, *, n: int) -> int:
    if f != 2 or n < 2 or n % 2:
        raise ShapeError(
            f"ComplexSumT repeats a complex scalar, of dimension 2, to an even dimension; "
            f"it got dimensions {f} and {n}"
        )
    return n


def _scaled(f: int, g: int) -> int:
    if 1 not in (f, g):
        raise ShapeError(f"ComplexRealScal needs a real scalar among its operands, not {f} and {g}")
    return _same(max(f, g))


def _scalar_times(f: int, g: int) -> int:
    if f != 2:
        raise ShapeError(
            f"ComplexScal's first operand is a complex scalar, of dimension 2, not {f}"
        )
    return _same(g)


# -- taking apart and putting together -------------------------------------------------------------


def _place(pair: Position, part: int) -> Position:
    """Where the real (part 0) or imaginary (part 1) component of a pair is."""
    if isinstance(pair, int):
        return 2 * pair + part
    return pair << 1 | part if part else pair << 1


def _pair_and_part(k: Position) -> tuple[Position, Position]:
    """The reverse of `_place`; undoes it rather than compute, so that no part is ever selected."""
    if isinstance(k, int):
        return divmod(k, 2)
    doubled, part = (k.args[0], 1) if k.op == "or" else (k, 0)
    if doubled.op == "shift_left" and doubled.args[1]["value"] == 1:
        return doubled.args[0], part
    return k >> 1, k & 1


def _element(access: Access, value: Value, k: Position) -> Value:
    re, im = value.args
    pair, part = _pair_and_part(k)
    if isinstance(part, int):
        return access.element(im if part else re, pair)
    if re is im:
        return access.element(re, pair)
    is_imaginary = compare("ne", part, 0)
    return select(is_imaginary, access.element(im, pair), access.element(re, pair))


def _evaluate(re: Array, im: Array) -> Array:
    pairs = np.stack(np.broadcast_arrays(re, im), axis=-1)
    return pairs.reshape(*pairs.shape[:-2], -1)


def _part(part: int, name: str, spelling: str, word: str) -> Operation:
    def pullback(e: Value, value: Value) -> tuple[Value | None, ...]:
        # -0 is what changes no sum: where both parts of a vector are used, nothing is added.
        nothing = constant(-0.0, e.dtype)
        return (_joined(nothing, e) if part else _joined(e, nothing),)

    return Operation(
        name,
        1,
        f"{word} part of each complex number",
        lambda f: f[..., part::2],
        spelling,
        "Complex numbers",
        shape=_complex,
        elementwise=False,
        element=lambda access, value, k: access.element(value.args[0], _place(k, part)),
        pullback=pullback,
        moves="some",
        domain=Domain((NUMBER,)),
    )


register(
    _part(0, "complex_real", "ComplexReal", "real"),
    _part(1, "complex_imag", "ComplexImag", "imaginary"),
    Operation(
        "complex",
        2,
        "complex numbers f + gi of real ones",
        _evaluate,
        "Complex",
        section="Complex numbers",
        shape=_doubled,
        elementwise=False,
        element=_element,
        pullback=lambda e, value: (_real(e), _imag(e)),
        moves="all",
        domain=Domain((NUMBER, NUMBER)),
        differs="new",
    ),
)


# -- quotients that are right wherever they can be represented -------------------------------------


def _by_ratio(x: Value, y: Value, re: Value, im: Value) -> Value:
    """By the ratio of the divisor's parts (Smith 1962), whose squares would overflow; where the
    imaginary one is larger, both numbers are turned by -i."""
    is_real = compare("oge", elementwise("abs", re), elementwise("abs", im))
    x, y = select(is_real, x, y), select(is_real, y, -x)
    larger, smaller = select(is_real, re, im), select(is_real, im, -re)
    ratio = smaller / larger
    return (x + y * ratio) / (larger + smaller * ratio)


def _quotient_pullback(e: Value, value: Value) -> tuple[Value, ...]:
    """-q e / g for g, e divided first: a derivative of the ratio would underflow in between."""
    x, y, re, im = value.args
    nothing = constant(0.0, e.dtype)
    e_x = apply("real_quotient", e, nothing, re, -im)
    e_y = apply("real_quotient", nothing, -e, re, -im)
    imaginary = apply("real_quotient", y, -x, re, im)
    return e_x, e_y, -(value * e_x + imaginary * e_y), imaginary * e_x - value * e_y


register(
    Operation(
        "real_quotient",
        4,
        "the real part of (f + gi) / (h + ui)",
        lambda x, y, re, im: ((x + 1j * y) / (re + 1j * im)).real.astype(x.dtype),
        pullback=_quotient_pullback,
        expand=_by_ratio,
        domain=Domain((NUMBER, NUMBER, AWAY_FROM_ZERO, NUMBER)),
        ulp=8.0,
    )
)


def _real(f: Value) -> Value:
    return apply("complex_real", f)


def _imag(f: Value) -> Value:
    return apply("complex_imag", f)


def _joined(re: Value, im: Value) -> Value:
    return apply("complex", re, im)


# -- formulas --------------------------------------------------------------------------------------


def _repeat(f: Value, n: int) -> Value:
    """A complex scalar as a vector of dimension n."""
    return f if f.dim == n else _joined(broadcast(_real(f), n // 2), _imag(f))


def _on_both(a: Value) -> Value:
    """A real number for each complex one, as a factor of both parts; a scalar is one already."""
    return a if a.dim == 1 else _joined(a, a)


def _conj(f: Value) -> Value:
    return _joined(_real(f), -_imag(f))


def _times_i(f: Value) -> Value:
    return _joined(-_imag(f), _real(f))


def _square_abs(f: Value) -> Value:
    return apply("square", _real(f)) + apply("square", _imag(f))


def _sum(f: Value) -> Value:
    return _joined(apply("sum", _real(f)), apply("sum", _imag(f)))


def _add(f: Value, g: Value) -> Value:
    dim = max(f.dim, g.dim)
    return _repeat(f, dim) + _repeat(g, dim)


def _subtract(f: Value, g: Value) -> Value:
    dim = max(f.dim, g.dim)
    return _repeat(f, dim) - _repeat(g, dim)


def _multiply(f: Value, g: Value) -> Value:
    # In terms of g itself: a component in a loop takes two products, where parts would take four.
    if f.dim > g.dim:
        f, g = g, f
    return _on_both(_real(f)) * g + _on_both(_imag(f)) * _times_i(g)


def _divide(f: Value, g: Value) -> Value:
    # The inverse of g is a value of its own, since hoisting often moves it out of the pair loop.
    return _multiply(f, _conj(g) * _on_both(apply("inverse", _square_abs(g))))


def _exp1j(f: Value) -> Value:
    return _joined(apply("cos", f), apply("sin", f))


_composite = functools.partial(composite, section="Complex numbers", domain=Domain((NUMBER,)))
_ODD = "gradients for real variables of odd dimension work"

register(
    _composite(
        "Real2Complex",
        1,
        "complex numbers f + 0i of real ones",
        _doubled,
        lambda f: _joined(f, constant(0.0, f.dtype)),
    ),
    _composite(
        "Imag2Complex",
        1,
        "complex numbers 0 + fi of real ones",
        _doubled,
        lambda f: _joined(constant(0.0, f.dtype), f),
    ),
    _composite("Conj", 1, "complex conjugate", _same, _conj),
    _composite(
        "ComplexAbs",
        1,
        "modulus of each complex number",
        _complex,
        lambda f: apply("sqrt", _square_abs(f)),
        gradient="0 at 0",
    ),
    _composite("ComplexSquareAbs", 1, "squared modulus, re**2 + im**2", _complex, _square_abs),
    _composite(
        "ComplexAngle",
        1,
        "angle of each complex number, Atan2(im, re), in [-pi, pi]",
        _complex,
        lambda f: apply("atan2", _imag(f), _real(f)),
        gradient="NaN at 0",
    ),
    _composite("ComplexSum", 1, "sum of the complex numbers", _pair, _sum),
    _composite(
        "ComplexSumT",
        1,
        "the complex scalar f repeated to a vector of (real) dimension n",
        _repeated,
        lambda f, *, n: _repeat(f, n),
        ("n",),
    ),
    _composite("ComplexAdd", 2, "f + g", _common, _add, differs=_ODD),
    _composite("ComplexSubtract", 2, "f - g", _common, _subtract, differs=_ODD),
    _composite("ComplexMult", 2, "product of complex numbers", _common, _multiply, differs=_ODD),
    _composite(
        "ComplexDivide",
        2,
        "quotient f conj(g) / |g|**2; NaN where g is 0",
        _common,
        _divide,
        domain=Domain((NUMBER, AWAY_FROM_ZERO)),
        differs=_ODD,
    ),
    _composite(
        "ComplexScal",
        2,
        "the complex scalar f times the complex vector g",
        _scalar_times,
        _multiply,
        differs="KeOps documents it, but lacks it",
    ),
    _composite(
        "ComplexRealScal",
        2,
        "a real scalar times a complex vector, in either order",
        _scaled,
        lambda f, g: f * g,
    ),
    _composite(
        "ComplexExp",
        1,
        "e to the power f",
        _same,
        lambda f: _on_both(apply("exp", _real(f))) * _exp1j(_imag(f)),
    ),
    _composite("ComplexExp1j", 1, "exp(i f) = cos f + i sin f of real f", _doubled, _exp1j),
)
