"""Declarations of the methods that operations make, written by scripts/make_declared.py.

Type checkers and editors read them; when redcomp runs, the class is empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from redcomp.frontend.lazy.declared_reductions import DeclaredReductions

D = TypeVar("D", bound="Declared")


class Declared(DeclaredReductions):
    """What operations add to LazyTensors."""

    __slots__ = ()

    if TYPE_CHECKING:

        def softdtw_sqdist(self: D, other: Any, gamma: Any) -> D:
            """SoftDTW_SqDist(x, y, gamma), this being x: soft dynamic time warping of the sequences
            x and y by squared distances, for gamma > 0.
            """
            ...

        def add(self: D, other: Any) -> D:
            """Add(f, g), this being f: f + g."""
            ...

        def subtract(self: D, other: Any) -> D:
            """Subtract(f, g), this being f: f - g."""
            ...

        def mult(self: D, other: Any) -> D:
            """Mult(f, g), this being f: f * g."""
            ...

        def divide(self: D, other: Any) -> D:
            """Divide(f, g), this being f: f / g."""
            ...

        def minus(self: D) -> D:
            """Minus(f), this being f: -f."""
            ...

        def inv(self: D) -> D:
            """Inv(f), this being f: 1 / f."""
            ...

        def square(self: D) -> D:
            """Square(f), this being f: f squared."""
            ...

        def sqrt(self: D) -> D:
            """Sqrt(f), this being f: square root; NaN below 0."""
            ...

        def rsqrt(self: D) -> D:
            """Rsqrt(f), this being f: 1 / sqrt(f), but 0 where f is 0."""
            ...

        def equal(self: D, other: Any) -> D:
            """Equal(f, g), this being f: 1 where f = g, else 0."""
            ...

        def notequal(self: D, other: Any) -> D:
            """NotEqual(f, g), this being f: 1 where f != g, else 0."""
            ...

        def lessthan(self: D, other: Any) -> D:
            """LessThan(f, g), this being f: 1 where f < g, else 0."""
            ...

        def lessorequal(self: D, other: Any) -> D:
            """LessOrEqual(f, g), this being f: 1 where f <= g, else 0."""
            ...

        def if_else(self: D, a: Any, b: Any) -> D:
            """IfElse(f, a, b), this being f: a where f >= 0, else b (so b where f is NaN); for a
            comparison f, write f - 1.
            """
            ...

        def elem(self: D, i: int) -> D:
            """Elem(f, m), this being f: component m of f."""
            ...

        def elemt(self: D, n: int, m: int) -> D:
            """ElemT(f, n, m), this being f: n zeros, except for the scalar f at index m."""
            ...

        def extract(self: D, i: int, d: int) -> D:
            """Extract(f, start, length), this being f: the components f[start : start + length]."""
            ...

        def extractt(self: D, start: int, n: int) -> D:
            """ExtractT(f, start, n), this being f: n zeros, except for f, which begins at index
            start.
            """
            ...

        def concat(self: D, other: Any) -> D:
            """Concat(f, g), this being f: f followed by g."""
            ...

        def onehot(self: D, D: int) -> D:
            """OneHot(f, n), this being f: n zeros, except for a 1 at the index floor(f + 1/2), if
            that is below n and not negative.
            """
            ...

        def exp(self: D) -> D:
            """Exp(f), this being f: e to the power f."""
            ...

        def exp2(self: D) -> D:
            """Exp2(f), this being f: 2 to the power f."""
            ...

        def expm1(self: D) -> D:
            """Expm1(f), this being f: e to the power f, minus 1; accurate near 0."""
            ...

        def log(self: D) -> D:
            """Log(f), this being f: natural logarithm; -inf at 0, NaN below."""
            ...

        def log2(self: D) -> D:
            """Log2(f), this being f: logarithm to base 2; -inf at 0, NaN below."""
            ...

        def log1p(self: D) -> D:
            """Log1p(f), this being f: natural logarithm of 1 + f; accurate near 0."""
            ...

        def xlogx(self: D) -> D:
            """XLogX(f), this being f: f log(f), 0 at 0."""
            ...

        def powf(self: D, other: Any) -> D:
            """Powf(f, g), this being f: f to the power g, with the special values of C's pow."""
            ...

        def cbrt(self: D) -> D:
            """Cbrt(f), this being f: cube root."""
            ...

        def sigmoid(self: D) -> D:
            """Sigmoid(f), this being f: 1 / (1 + exp(-f))."""
            ...

        def softplus(self: D) -> D:
            """Softplus(f), this being f: log(1 + exp(f))."""
            ...

        def tanh(self: D) -> D:
            """Tanh(f), this being f: hyperbolic tangent."""
            ...

        def sinh(self: D) -> D:
            """Sinh(f), this being f: hyperbolic sine."""
            ...

        def cosh(self: D) -> D:
            """Cosh(f), this being f: hyperbolic cosine."""
            ...

        def logcosh(self: D) -> D:
            """LogCosh(f), this being f: logarithm of Cosh(f); accurate near 0, without overflow."""
            ...

        def matern32(self: D) -> D:
            """Matern32(f), this being f: (1 + r) exp(-r), with r = sqrt(f); accurate for f up to
            64, NaN below 0.
            """
            ...

        def matern52(self: D) -> D:
            """Matern52(f), this being f: (1 + r + r**2 / 3) exp(-r), with r = sqrt(f); accurate for
            f up to 64, NaN below 0.
            """
            ...

        def erf(self: D) -> D:
            """Erf(f), this being f: error function."""
            ...

        def erfc(self: D) -> D:
            """Erfc(f), this being f: 1 - erf(f), accurate where that cancels."""
            ...

        def sin(self: D) -> D:
            """Sin(f), this being f: sine."""
            ...

        def cos(self: D) -> D:
            """Cos(f), this being f: cosine."""
            ...

        def sinxdivx(self: D) -> D:
            """SinXDivX(f), this being f: sin(f) / f, 1 at 0."""
            ...

        def asin(self: D) -> D:
            """Asin(f), this being f: arc sine; NaN outside [-1, 1]."""
            ...

        def acos(self: D) -> D:
            """Acos(f), this being f: arc cosine; NaN outside [-1, 1]."""
            ...

        def atan(self: D) -> D:
            """Atan(f), this being f: arc tangent."""
            ...

        def atan2(self: D, other: Any) -> D:
            """Atan2(f, g), this being f: angle of the point (g, f), in [-pi, pi]."""
            ...

        def abs(self: D) -> D:
            """Abs(f), this being f: absolute value."""
            ...

        def sign(self: D) -> D:
            """Sign(f), this being f: -1, 0 or 1; 0 where f is NaN."""
            ...

        def step(self: D) -> D:
            """Step(f), this being f: 0 where f < 0, else 1 (also where f is NaN)."""
            ...

        def relu(self: D) -> D:
            """ReLU(f), this being f: 0 where f < 0, else f."""
            ...

        def floor(self: D) -> D:
            """Floor(f), this being f: largest integer not above f."""
            ...

        def trunc(self: D) -> D:
            """Trunc(f), this being f: f without its fraction: the nearest integer that is not
            farther from 0.
            """
            ...

        def minimum(self: D, other: Any) -> D:
            """Minimum(f, g), this being f: the smaller of f and g; NaN if one of them is."""
            ...

        def maximum(self: D, other: Any) -> D:
            """Maximum(f, g), this being f: the larger of f and g; NaN if one of them is."""
            ...

        def clampint(self: D, m: int, n: int) -> D:
            """ClampInt(x, m, n), this being x: m where x < m, else n where x > n, else x, for
            integers m and n.
            """
            ...

        def diffclampint(self: D, m: int, n: int) -> D:
            """DiffClampInt(x, m, n), this being x: 1 on the closed interval [m, n], else 0, for
            integers m and n.
            """
            ...

        def matvecmult(self: D, other: Any) -> D:
            """MatVecMult(A, b), this being A: the matrix A, with rows as long as b, times the
            vector b.
            """
            ...

        def vecmatmult(self: D, other: Any) -> D:
            """VecMatMult(b, A), this being b: the vector b times the matrix A, with columns as long
            as b.
            """
            ...

        def tensorprod(self: D, other: Any) -> D:
            """TensorProd(f, g), this being f: the products f[k] g[l], k outside."""
            ...

        def sumt(self: D, n: int) -> D:
            """SumT(f, n), this being f: the scalar f repeated n times."""
            ...

        def scalprod(self: D, other: Any) -> D:
            """Scalprod(f, g), this being f: scalar product (f|g); a scalar operand is repeated."""
            ...

        def sqnorm2(self: D) -> D:
            """SqNorm2(f), this being f: sum of the squares."""
            ...

        def sqdist(self: D, other: Any) -> D:
            """SqDist(f, g), this being f: SqNorm2(f - g)."""
            ...

        def norm2(self: D) -> D:
            """Norm2(f), this being f: Euclidean norm."""
            ...

        def normalize(self: D) -> D:
            """Normalize(f), this being f: f / Norm2(f), but 0 for the zero vector."""
            ...

        def sqnormiso(self: D, other: Any) -> D:
            """SqNormIso(s, f), this being f: s * SqNorm2(f), for a scalar s."""
            ...

        def sqnormdiag(self: D, other: Any) -> D:
            """SqNormDiag(s, f), this being f: Sum(s * f * f)."""
            ...

        def symsqnorm(self: D, other: Any) -> D:
            """SymSqNorm(A, f), this being f: sum over k, l of A[k * d + l] f[k] f[l], A having d *
            d components.
            """
            ...

        def weightedsqnorm(self: D, other: Any) -> D:
            """WeightedSqNorm(s, f), this being f: SqNormIso, SqNormDiag or SymSqNorm, by the
            dimension of s: 1, d or d * d.
            """
            ...

        multiply = mult
        negate = minus
        inverse = inv
        not_equal = notequal
        less_than = lessthan
        less_or_equal = lessorequal
        elem_t = elemt
        extract_t = extractt
        one_hot = onehot
        log_cosh = logcosh
        sum_t = sumt
        absolute = abs
        fabs = abs
        arccos = acos
        arcsin = asin
        arctan = atan
        arctan2 = atan2
        expit = sigmoid
        fix = trunc
        negative = minus
        neg = minus
        reciprocal = inv
        sgn = sign
        true_divide = divide
        dot = scalprod
        mul = multiply
        div = divide
        sub = subtract
        eq = equal
        ne = not_equal
        lt = less_than
        less = less_than
        le = less_or_equal
        less_equal = less_or_equal
        vecdot = scalprod
