"""The operations of the table as methods of LazyTensors, and the names that others have for them.

A row of the table is a method by its name in formulas, in small letters, and by its name in the IR;
the LazyTensor is the operand that `_POSITION_OF_SELF` says, the first one elsewhere.  Parameters
have the names that they have in KeOps, where it has the method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redcomp import arguments
from redcomp.errors import ArgumentError, KeywordError
from redcomp.frontend.language.expressions import NEGATION
from redcomp.frontend.language.lower import OPERATORS, SWAPPED
from redcomp.frontend.lazy.checked import checked, with_checked_methods
from redcomp.frontend.lazy.declared import Declared
from redcomp.frontend.lazy.operators import Operators
from redcomp.ops import SPELLINGS
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING
from redcomp.ops.table import LIST_PARAMETERS, Operation

M = TypeVar("M", bound="Methods")

# Which operand the LazyTensor is, where it is not the first.
_POSITION_OF_SELF: Mapping[str, int] = {
    "SqNormIso": 1,
    "SqNormDiag": 1,
    "SymSqNorm": 1,
    "WeightedSqNorm": 1,
}
# The names of parameters in KeOps, where they are not "other" and those of the row.
_KEOPS_NAMES: Mapping[str, tuple[str, ...]] = {
    "Elem": ("i",),
    "Extract": ("i", "d"),
    "OneHot": ("D",),
    "SoftDTW_SqDist": ("other", "gamma"),
}
# Rows that operators build, so that a method and its operator are the same expression.
_OPERATOR_OF: Mapping[str, str] = {
    "negate": NEGATION,
    **{name: symbol for symbol, name in OPERATORS.items() if symbol not in SWAPPED},
}
# Names of NumPy's, PyTorch's and SciPy's for methods that rows give.
OTHER_NAMES: Mapping[str, str] = {
    "absolute": "abs",
    "fabs": "abs",
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
    "mul": "multiply",
    "div": "divide",
    "sub": "subtract",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less_than",
    "less": "less_than",
    "le": "less_or_equal",
    "less_equal": "less_or_equal",
    "vecdot": "scalprod",
}


@with_checked_methods
class Methods(Declared):
    """Elementwise operations and operations on vectors."""

    __slots__ = ()

    def positive(self: M) -> M:
        """This itself."""
        return self

    def power(self: M, other: Any) -> M:
        """`self ** other`."""
        if not self._is_operand(other):
            self._operands("power", (self, other))
        made: M = self**other
        return made

    pow = power

    def mod(self: M, modulus: Any, offset: Any = 0) -> M:
        """`self - modulus * floor((self - offset) / modulus)`."""
        return self._apply("Mod", modulus, offset)

    remainder = mod

    def floor_divide(self: M, other: Any) -> M:
        """`self // other`."""
        if not self._is_operand(other):
            self._operands("floor_divide", (self, other))
        made: M = self // other
        return made

    def greater(self: M, other: Any) -> M:
        """1 where this is larger, 0 elsewhere."""
        return self._apply(">", other)

    gt = greater

    def greater_equal(self: M, other: Any) -> M:
        """1 where this is larger or equal, 0 elsewhere."""
        return self._apply(">=", other)

    ge = greater_equal

    def logical_and(self: M, other: Any) -> M:
        """1 where neither is 0, 0 elsewhere."""
        taken: M = self._operands("logical_and", (self, other))[1]
        return self._is_true() * taken._is_true()

    def logical_or(self: M, other: Any) -> M:
        """1 where one is not 0, 0 elsewhere."""
        taken: M = self._operands("logical_or", (self, other))[1]
        return self._is_true().maximum(taken._is_true())

    def logical_not(self: M) -> M:
        """1 where this is 0, 0 elsewhere."""
        return self._with("==", 0)

    def _is_true(self: M) -> M:
        return self._with("!=", 0)

    def ceil(self: M) -> M:
        """The smallest integer that is at least this."""
        return -((-self)._of_this("Floor"))

    def round(self: M, other: int = 0) -> M:
        """Rounded to `other` decimals, halves away from 0 as in KeOps; `rint` rounds as NumPy."""
        return self._apply("Round", self._literal(other, "the number of decimals"))

    def rint(self: M) -> M:
        """The nearest integer; halfway between two, the even one."""
        rest = (self - self._of_this("Trunc"))._of_this("Abs")
        return rest._with("==", 0.5).where((self / 2).round() * 2, self.round())

    def tan(self: M) -> M:
        """The tangent."""
        return self._of_this("Sin") / self._of_this("Cos")

    def clamp(
        self: M, other1: Any = None, other2: Any = None, *, min: Any = None, max: Any = None
    ) -> M:
        """At least other1 (or `min`) and at most other2 (or `max`); one of the two is enough."""
        lowest, highest = _one("min", other1, min), _one("max", other2, max)
        if lowest is None and highest is None:
            raise ArgumentError("clamp needs a limit: the smallest value, the largest, or both")
        if lowest is None:
            return self._apply("Minimum", highest)
        if highest is None:
            return self._apply("Maximum", lowest)
        return self._apply("Clamp", lowest, highest)

    clip = clamp

    def ifelse(self: M, other1: Any, other2: Any) -> M:
        """other1 where this is at least 0, and other2 elsewhere; for comparisons take `where`."""
        return self._apply("IfElse", other1, other2)

    def where(self: M, a: Any, b: Any) -> M:
        """a where this is not 0 (a comparison is 1 where it holds), and b elsewhere."""
        return (0 - self._with("==", 0))._apply("IfElse", a, b)

    def weightedsqdist(self: M, g: Any, s: Any) -> M:
        """The squared distance to g with weights s: one number, one per component, or a matrix."""
        return self._taken(s)._apply("WeightedSqDist", self, g)

    def sinc(self: M) -> M:
        """sin(pi x) / (pi x)."""
        return (self * math.pi)._of_this("SinXDivX")

    def log10(self: M) -> M:
        """The logarithm to base 10."""
        return self._of_this("Log") * (1 / math.log(10))

    def bspline(self: M, x: Any, k: int = 0) -> M:
        """The B-splines of order k at x, over these knots."""
        return self._apply("BSpline", x, self._literal(k, "k"))

    def keops_tensordot(
        self: M, other: Any, dimfa: Any, dimfb: Any, contfa: Any, contfb: Any, *args: Any
    ) -> M:
        """The tensor contraction of vectors that are tensors of dimensions dimfa, dimfb.

        contfa and contfb are the axes that are summed over; a last list says where each axis of the
        result goes, as in KeOps.
        """
        lists = [
            _integers(name, v)
            for name, v in zip(
                ("dimfa", "dimfb", "contfa", "contfb"), (dimfa, dimfb, contfa, contfb), strict=True
            )
        ]
        lists += [_integers("the permutation", v) for v in args]
        return self._apply("TensorDot", other, *map(self._list_of, lists))

    def keops_kron(self: M, other: Any, dimfself: Any, dimfother: Any) -> M:
        """The Kronecker product of vectors that are tensors of dimensions dimfself, dimfother."""
        lists = (_integers("dimfself", dimfself), _integers("dimfother", dimfother))
        return self._apply("Kron", other, *map(self._list_of, lists))

    @classmethod
    def concatenate(cls: type[M], tuple_of_lt: Any, axis: Any = -1) -> M:
        """The components of all the LazyTensors in the tuple, one after the other."""
        listed = arguments.items("tuple_of_lt", tuple_of_lt, "a tuple or list of LazyTensors")
        if not listed:
            raise ArgumentError("there is nothing to concatenate")
        made = listed[0] if isinstance(listed[0], cls) else cls(listed[0])
        if made._axis(axis, None) is not None:
            raise ArgumentError("LazyTensors are concatenated along the last axis, axis=-1")
        for other in listed[1:]:
            made = made._apply("Concat", other)
        return made

    @classmethod
    def cat(cls: type[M], tuple_of_lt: Any, dim: Any = -1) -> M:
        """As `concatenate`."""
        return cls.concatenate(tuple_of_lt, dim)

    # -- complex numbers ---------------------------------------------------------------------------

    @property
    def real(self: M) -> M:
        """The real part."""
        return self

    @property
    def imag(self: M) -> M:
        """The imaginary part: 0."""
        return self._apply("IfElse", 0, 0)

    def conj(self: M) -> M:
        """The complex conjugate."""
        return self

    def conjugate(self: M) -> M:
        """As `conj`."""
        return self.conj()

    def angle(self: M) -> M:
        """The angle of the complex number: 0, or pi where this is negative."""
        return self._taken(0)._apply("Atan2", self)

    def real2complex(self) -> Any:
        """The complex numbers x + 0i."""
        return self.complex_class.of_parts(self._of_this("Real2Complex"))

    def imag2complex(self) -> Any:
        """The complex numbers 0 + xi."""
        return self.complex_class.of_parts(self._of_this("Imag2Complex"))

    def exp1j(self) -> Any:
        """The complex numbers exp(i x)."""
        return self.complex_class.of_parts(self._of_this("ComplexExp1j"))

    # -- derivatives -------------------------------------------------------------------------------

    def grad(self: M, other: Any, gradin: Any) -> M:
        """The gradient in the variable `other` of (self | gradin)."""
        return self._apply("Grad", other, gradin)

    def diff(self: M, other: Any, diffin: Any) -> M:
        """The derivative in the variable `other` along diffin."""
        return self._apply("Diff", other, diffin)

    def grad_matrix(self: M, other: Any) -> M:
        """The Jacobian in the variable `other`, row after row."""
        return self._apply("GradMatrix", other)

    def divergence(self: M, var: Any) -> M:
        """The divergence in the variable `var`."""
        return self._apply("Divergence", var)

    def laplacian(self: M, var: Any) -> M:
        """The Laplacian in the variable `var`."""
        return self._apply("Laplacian", var)

    def trace_operator(self: M, var: Any) -> M:
        """The trace of this as a linear map of the variable `var`, on which it does not depend."""
        return self._apply("TraceOperator", var)._without(var)

    def factorize(self: M, other: Any) -> M:
        """This itself: shared expressions are always computed once."""
        return self

    def auto_factorize(self: M) -> M:
        """This itself: shared expressions are always computed once."""
        return self

    def difference_matrix(self: M, other: Any) -> M:
        """All differences of components: self[k] - other[l] at k * D + l."""
        _, taken = self._operands("difference_matrix", (self, other))
        mine = self._apply("TensorProd", _ones(self, taken.ndim))
        return mine - _ones(self, self.ndim)._apply("TensorProd", taken)

    def _literal(self: M, value: Any, name: str) -> M:
        """An integer that is part of the expression."""
        return self._number(arguments.integer(name, value))


def _ones(like: M, dim: int) -> M:
    return type(like)([1.0] * dim)


def _integers(name: str, values: Any) -> tuple[int, ...]:
    listed = arguments.items(name, values, "a list of integers")
    return tuple(arguments.integer(f"{name}[{n}]", v) for n, v in enumerate(listed))


def _one(name: str, first: Any, second: Any) -> Any:
    """An argument that has two names."""
    if first is not None and second is not None:
        raise ArgumentError(f"{name} is given twice")
    return second if first is None else first


def parameters_of(row: Operation) -> tuple[str, ...]:
    """The names of a method's parameters, besides the LazyTensor."""
    if row.spelling in _KEOPS_NAMES:
        return _KEOPS_NAMES[row.spelling]
    at = _POSITION_OF_SELF.get(row.spelling, 0)
    names = [n for k, n in enumerate(row.arguments[: row.arity]) if k != at]
    return (*(["other"] if len(names) == 1 else names), *row.parameters)


def _method(row: Operation) -> Callable[..., Any]:
    """The method that a row is."""
    at = _POSITION_OF_SELF.get(row.spelling, 0)
    wanted = parameters_of(row)
    callee = _OPERATOR_OF.get(row.name, row.spelling)
    vectors = row.arity - 1

    def of_this(self: Any) -> Any:
        return self._of_this(callee)

    def of_several(self: Any, *given: Any, **named: Any) -> Any:
        values = _in_order(name, wanted, given, named)
        literals = [
            self._literal(v, n) for v, n in zip(values[vectors:], wanted[vectors:], strict=True)
        ]
        return self._apply(callee, *values[at:vectors], *literals, first=values[:at])

    method: Callable[..., Any] = of_several if wanted else of_this
    name = row.spelling.lower()
    method.__name__, method.__qualname__ = name, f"LazyTensor.{name}"
    call = f"{row.spelling}({', '.join(row.arguments)})"
    method.__doc__ = f"{call}, this being {row.arguments[at]}: {row.doc}."
    return method


def _in_order(
    name: str, wanted: tuple[str, ...], given: tuple[Any, ...], named: Mapping[str, Any]
) -> list[Any]:
    """A call's arguments in the order of their names; raises KeywordError."""
    values = dict(zip(wanted, given, strict=False))
    is_double = any(n in values for n in named)
    if len(given) > len(wanted) or is_double or {*values, *named} != {*wanted}:
        listed = ", ".join(wanted) or "nothing"
        raise KeywordError(f"{name} takes {listed}, not {len(given) + len(named)} arguments")
    values.update(named)
    return [values[n] for n in wanted]


def is_method(row: Operation) -> bool:
    """Whether a row acts on real vectors, with no lists as parameters."""
    is_real = row.section != "Complex numbers"
    return bool(row.spelling) and is_real and not {*row.parameters} & {*LIST_PARAMETERS}


def table_methods() -> dict[str, Operation]:
    """The methods that rows are, by name: those that neither this module nor reductions define."""
    return {
        name: row
        for row in SPELLINGS.values()
        if is_method(row) and row.spelling not in REDUCTIONS_BY_SPELLING
        for name in (row.spelling.lower(), row.name)
        if not hasattr(Operators, name) and name not in vars(Methods)
    }


TABLE_METHODS = table_methods()
for _name, _row in TABLE_METHODS.items():
    setattr(Methods, _name, checked(_method(_row)))
for _name, _known in OTHER_NAMES.items():
    setattr(Methods, _name, getattr(Methods, _known))
