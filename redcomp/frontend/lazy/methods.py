"""The operations of the table as methods of LazyTensors, and the names that others have for them.

A row of the table is a method by its name in formulas, in small letters, and by its name in the IR;
the LazyTensor is the operand that `_POSITION_OF_SELF` says, the first one elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.operators import Operators
from redcomp.ops import SPELLINGS
from redcomp.ops.table import LIST_PARAMETERS, Operation

M = TypeVar("M", bound="Methods")

# Which operand the LazyTensor is, where it is not the first.
_POSITION_OF_SELF: Mapping[str, int] = {
    "SqNormIso": 1,
    "SqNormDiag": 1,
    "SymSqNorm": 1,
    "WeightedSqNorm": 1,
}
# Names of NumPy's, PyTorch's and SciPy's for methods that rows give.
OTHER_NAMES: Mapping[str, str] = {
    "absolute": "abs",
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "arctan2": "atan2",
    "expit": "sigmoid",
    "fix": "trunc",
    "negative": "minus",
    "neg": "minus",
    "reciprocal": "inv",
    "sgn": "sign",
    "true_divide": "divide",
    "dot": "scalprod",
    "heaviside_step": "step",
}


class Methods(Operators):
    """Elementwise operations and operations on vectors."""

    __slots__ = ()

    def power(self: M, exponent: Any) -> M:
        """`self ** exponent`."""
        made: M = self**exponent
        return made

    pow = power

    def mod(self: M, modulus: Any, offset: Any = 0) -> M:
        """`self - modulus * floor((self - offset) / modulus)`."""
        return self._apply("Mod", modulus, offset)

    remainder = mod

    def ceil(self: M) -> M:
        """The smallest integer that is not smaller."""
        return -((-self)._of_this("Floor"))

    def round(self: M, d: int = 0) -> M:
        """Rounded to d decimals, half away from zero."""
        return self._apply("Round", self._literal(d, "d"))

    def clamp(self: M, a: Any = None, b: Any = None) -> M:
        """Limited to at least a and at most b; without one of them, on one side."""
        if a is None and b is None:
            raise ArgumentError("clamp needs a limit: a, b or both")
        if a is None:
            return self._apply("Minimum", b)
        if b is None:
            return self._apply("Maximum", a)
        return self._apply("Clamp", a, b)

    clip = clamp

    def ifelse(self: M, a: Any, b: Any) -> M:
        """a where this is at least 0, and b elsewhere."""
        return self._apply("IfElse", a, b)

    def where(self: M, a: Any, b: Any) -> M:
        """a where this is not 0, as a comparison's result where it holds, and b elsewhere."""
        return (0 - self._with("==", 0))._apply("IfElse", a, b)

    def norm(self: M, axis: Any = -1, dim: Any = None, **options: Any) -> Any:
        """The Euclidean norm: of the vectors, or over i or j for each component."""
        if self._axis(axis, dim) is None:
            return self._of_this("Norm2")
        return self.reduction("Norm", axis=axis, dim=dim, **options)

    def weightedsqdist(self: M, y: Any, s: Any) -> M:
        """The squared distance to y with weights s: a number, one a component, or a matrix."""
        return self._taken(s)._apply("WeightedSqDist", self, y)

    def sinc(self: M) -> M:
        """sin(pi x) / (pi x)."""
        return (self * 3.141592653589793)._of_this("SinXDivX")

    def log10(self: M) -> M:
        """The logarithm to base 10."""
        return self._of_this("Log") * 0.4342944819032518

    def bspline(self: M, x: Any, k: int = 0) -> M:
        """The B-splines of order k at x, over these knots."""
        return self._apply("BSpline", x, self._literal(k, "k"))

    def keops_tensordot(
        self: M, other: Any, dimfa: Any, dimfb: Any, contfa: Any, contfb: Any, *perm: Any
    ) -> M:
        """The tensor contraction of vectors that are tensors of dimensions dimfa, dimfb.

        contfa and contfb are the axes that are summed over; perm says where each axis of the result
        goes, as in KeOps.
        """
        lists = [
            _integers(name, v)
            for name, v in zip(
                ("dimfa", "dimfb", "contfa", "contfb"), (dimfa, dimfb, contfa, contfb), strict=True
            )
        ]
        lists += [_integers("perm", v) for v in perm]
        return self._apply("TensorDot", other, *map(self._list_of, lists))

    def keops_kron(self: M, other: Any, dimfa: Any, dimfb: Any) -> M:
        """The Kronecker product of vectors that are tensors of dimensions dimfa, dimfb."""
        lists = (_integers("dimfa", dimfa), _integers("dimfb", dimfb))
        return self._apply("Kron", other, *map(self._list_of, lists))

    def concat(self: M, other: Any) -> M:
        """The components of both, one after the other."""
        return self._apply("Concat", other)

    @classmethod
    def concatenate(cls: type[M], tensors: Any, axis: int = -1) -> M:
        """The components of all, one after the other."""
        listed = arguments.items("tensors", tensors, "LazyTensors")
        if not listed:
            raise ArgumentError("there is nothing to concatenate")
        made = listed[0] if isinstance(listed[0], cls) else cls(listed[0])
        if made._axis(axis, None) is not None:
            raise ArgumentError("LazyTensors are concatenated along the last axis")
        for other in listed[1:]:
            made = made._apply("Concat", other)
        return made

    @classmethod
    def cat(cls: type[M], tensors: Any, dim: int = -1) -> M:
        """As `concatenate`."""
        return cls.concatenate(tensors, dim)

    # -- complex numbers ---------------------------------------------------------------------------

    @property
    def real(self: M) -> M:
        """The real part."""
        return self

    def conj(self: M) -> M:
        """The complex conjugate."""
        return self

    def real2complex(self) -> Any:
        """The complex numbers x + 0i."""
        return self.complex_class.of_pairs(self._of_this("Real2Complex"))

    def imag2complex(self) -> Any:
        """The complex numbers 0 + xi."""
        return self.complex_class.of_pairs(self._of_this("Imag2Complex"))

    def exp1j(self) -> Any:
        """The complex numbers exp(i x)."""
        return self.complex_class.of_pairs(self._of_this("ComplexExp1j"))

    # -- derivatives -------------------------------------------------------------------------------

    def grad(self: M, v: Any, e: Any) -> M:
        """The gradient in the variable v of (self | e)."""
        return self._apply("Grad", v, e)

    def diff(self: M, v: Any, u: Any) -> M:
        """The derivative in the variable v along u."""
        return self._apply("Diff", v, u)

    def grad_matrix(self: M, v: Any) -> M:
        """The Jacobian in the variable v, row after row."""
        return self._apply("GradMatrix", v)

    def divergence(self: M, v: Any) -> M:
        """The divergence in the variable v."""
        return self._apply("Divergence", v)

    def laplacian(self: M, v: Any) -> M:
        """The Laplacian in the variable v."""
        return self._apply("Laplacian", v)

    def trace_operator(self: M, v: Any) -> M:
        """The trace of this as a linear map of the variable v."""
        return self._apply("TraceOperator", v)

    def factorize(self: M, y: Any) -> M:
        """Itself: shared expressions are always computed once."""
        return self

    def auto_factorize(self: M) -> M:
        """Itself: shared expressions are always computed once."""
        return self

    def difference_matrix(self: M, y: Any) -> M:
        """All differences of components: self[k] - y[l] at k * D + l."""
        other = self._taken(y)
        mine = self._apply("TensorProd", _ones(self, other.ndim))
        return mine - _ones(self, self.ndim)._apply("TensorProd", other)

    def _literal(self: M, value: Any, name: str) -> M:
        """An integer that is part of the expression."""
        return self._number(arguments.integer(name, value))


def _ones(like: M, dim: int) -> M:
    return type(like)([1.0] * dim)


def _integers(name: str, values: Any) -> tuple[int, ...]:
    listed = arguments.items(name, values, "a list of integers")
    return tuple(arguments.integer(f"{name}[{n}]", v) for n, v in enumerate(listed))


def _method(row: Operation) -> Callable[..., Any]:
    """The method that a row is."""
    at = _POSITION_OF_SELF.get(row.spelling, 0)
    names = [n for k, n in enumerate(row.arguments[: row.arity]) if k != at]
    wanted = (*names, *row.parameters)

    def of_this(self: Any) -> Any:
        return self._of_this(row.spelling)

    def of_several(self: Any, *given: Any, **named: Any) -> Any:
        values = _in_order(name, wanted, given, named)
        vectors = values[: len(names)]
        literals = [
            self._literal(v, n) for v, n in zip(values[len(names) :], row.parameters, strict=True)
        ]
        return self._apply(row.spelling, *vectors[at:], *literals, first=vectors[:at])

    method: Callable[..., Any] = of_several if wanted else of_this
    name = row.spelling.lower()
    method.__name__, method.__qualname__ = name, f"LazyTensor.{name}"
    call = f"{row.spelling}({', '.join(row.arguments)})"
    method.__doc__ = f"{call}, this being {row.arguments[at]}: {row.doc}."
    return method


def _in_order(
    name: str, wanted: tuple[str, ...], given: tuple[Any, ...], named: Mapping[str, Any]
) -> list[Any]:
    """A call's arguments in the order of their names; raises ArgumentError."""
    values = dict(zip(wanted, given, strict=False))
    is_double = any(n in values for n in named)
    if len(given) > len(wanted) or is_double or {*values, *named} != {*wanted}:
        listed = ", ".join(wanted) or "nothing"
        raise ArgumentError(f"{name} takes {listed}, not {len(given) + len(named)} arguments")
    values.update(named)
    return [values[n] for n in wanted]


def is_method(row: Operation) -> bool:
    """Whether a row acts on real vectors, with no lists as parameters."""
    is_real = row.section != "Complex numbers"
    return bool(row.spelling) and is_real and not {*row.parameters} & {*LIST_PARAMETERS}


def _add_methods() -> None:
    for row in SPELLINGS.values():
        if not is_method(row):
            continue
        made = _method(row)
        for name in (row.spelling.lower(), row.name):
            if not hasattr(Methods, name):
                setattr(Methods, name, made)
    for name, known in OTHER_NAMES.items():
        if not hasattr(Methods, name):
            setattr(Methods, name, getattr(Methods, known))


_add_methods()
