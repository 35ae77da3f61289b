"""`ComplexLazyTensor`: an expression of real parts, each followed by its imaginary part.

Operators, methods and reductions of LazyTensors come down to four methods of `core`.  Of complex
ones these look up what the operation is on parts, so what is not in the tables here is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.language.expressions import NEGATION, NUMBER
from redcomp.frontend.lazy.bindings import Bindings
from redcomp.frontend.lazy.checked import with_checked_methods
from redcomp.frontend.lazy.core import NO_SETTINGS, LazyCore
from redcomp.frontend.lazy.given import COMPLEX, argument_of, symbol
from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase
from redcomp.frontend.lazy.library import Library
from redcomp.frontend.lazy.reduction import Job

C = TypeVar("C", bound="ComplexLazyTensorBase")

_DTYPES: Mapping[str | None, str] = {"float64": "complex128"}
# Reductions over i or j of the parts, and of a real LazyTensor that a complex one gives.
_OF_PARTS: Mapping[str, str] = {"Sum": "Sum", "Mean": "Mean", "Prod": "ComplexProd"}
_OF_REAL: Mapping[str, Callable[[Any], Any]] = {
    "Norm": lambda z: abs(z),
    "Any": lambda z: z != 0,
    "All": lambda z: z != 0,
}

# What serves where a reduction over i or j has no complex form.
_INSTEAD: Mapping[str, str] = {
    "SumSoftMaxWeight": "the softmax is of real scores; its weights may be complex",
    "LogSumExp": "z.exp().sum(axis) is the sum, which has many logarithms",
}


class ComplexResults(NamedTuple):
    """A job whose results are parts, as one that gives complex arrays."""

    job: Job

    def check(self, library: Library, options: Mapping[str, Any]) -> None:
        self.job.check(library, {name: value for name, value in options.items() if name != "out"})

    def run(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        out = options.pop("out", None)
        result = self.job.run(library, bindings, options)
        if isinstance(result, tuple):  # a solution, and what is known of it
            return (library.complex(result[0]), *result[1:])
        made = library.complex(result)
        return made if out is None else library.filled(out, made)

    @property
    def text(self) -> str:
        return self.job.text


@with_checked_methods
class ComplexLazyTensorBase(LazyTensorBase):
    """A LazyTensor of complex numbers.

    `LazyTensor` makes one of a complex array, number, or list with complex numbers in it, and with
    `is_complex=True` of a real one too, whose imaginary part is 0, or of a symbol, whose dimension
    counts real and imaginary parts.

    It has the operators + - * / ** == != with complex and real LazyTensors, arrays and numbers;
    `real`, `imag`, `angle()`, `abs()`, `conj()`, `exp()`, `log()`, `sqrt()`, `square()`, `inv()`;
    norms and sums of components; indices and `concat`; `sum`, `prod`, `mean`, `norm`, `var`, `std`,
    `any` and `all` over i or j, and products with vectors; and it may be the weights of
    `sumsoftmaxweight`.  Results are complex arrays.  Gradients are those of PyTorch's complex
    numbers.  Powers and logarithms are the principal ones.

    Raises ArgumentError (a ValueError) for what means nothing for complex numbers, or is ambiguous.
    """

    __slots__ = ()
    is_complex = True

    def __init__(self, x: object = None, axis: int | None = None, is_complex: bool = True) -> None:
        if isinstance(x, tuple) or self._is_complex_value(x):
            self._settings = NO_SETTINGS
            made = symbol(x, True) if isinstance(x, tuple) else argument_of(self.library, x, axis)
            self._bind(made)
            return
        given: Any = x if isinstance(x, LazyCore) else self.real_class(x, axis)
        super().__init__(given if given.is_complex else given.real2complex())

    def _is_complex_value(self, value: Any) -> bool:
        if isinstance(value, self.library.array_class):
            return self.library.type_of(value).is_complex
        values = value if isinstance(value, list) else [value]
        return any(isinstance(v, COMPLEX) for v in values)

    @classmethod
    def of_parts(cls: type[C], parts: LazyCore) -> C:
        """Complex numbers, from the real LazyTensor of their parts."""
        if not isinstance(parts, LazyCore) or parts.is_complex:
            raise ArgumentError(f"parts must be a real LazyTensor, not {arguments.shown(parts)}")
        made: C = parts._read_as(cls)
        return made

    @property
    def parts(self) -> LazyTensorBase:
        """The real LazyTensor of the parts: re, im, re, im, ..."""
        made: LazyTensorBase = self._read_as(self.real_class)
        return made

    # -- what core asks for ------------------------------------------------------------------------

    def _of_this(self, callee: str) -> Any:
        return self._on_complex(callee, (self,))

    def _with(self, callee: str, other: Any) -> Any:
        if not self._is_operand(other):
            return NotImplemented
        return self._on_complex(callee, (self, self._taken(other)))

    def _apply(self, callee: str, *others: Any, first: Sequence[Any] = ()) -> Any:
        return self._on_complex(callee, self._operands(callee, (*first, self, *others)))

    def _on_complex(self, callee: str, operands: Sequence[Any]) -> Any:
        rule = _RULES.get(callee)
        if rule is None:
            raise _meaningless(callee)
        return rule(*operands)

    def _number(self, value: int) -> Any:
        return self.parts._number(value)

    def _list_of(self, values: tuple[int, ...]) -> Any:
        return self.parts._list_of(values)

    def _job(self, job: Job) -> Job:
        return ComplexResults(job)

    def reduction(self, reduction_op: str, *args: Any, **options: Any) -> Any:
        reduction_op = arguments.text("reduction_op", reduction_op)
        of_real = _OF_REAL.get(reduction_op)
        if of_real is not None:
            return of_real(self).reduction(reduction_op, *args, **options)
        of_parts = _OF_PARTS.get(reduction_op)
        if of_parts is None:
            raise _meaningless(reduction_op)
        return super().reduction(of_parts, *args, **options)

    reduction.__doc__ = LazyTensorBase.reduction.__doc__

    # -- attributes --------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        """The dimension of the vectors: how many complex numbers they have."""
        return self._expression.dim // 2

    @property
    def dtype(self) -> str | None:
        """The name of the complex dtype; None if there are numbers and symbols only."""
        own = self._bindings.agreed.dtype
        return None if own is None else _DTYPES.get(own, "complex64")

    # -- parts -------------------------------------------------------------------------------------

    @property
    def real(self) -> Any:
        """The real part, a real LazyTensor."""
        return self.parts._of_this("ComplexReal")

    @property
    def imag(self) -> Any:
        """The imaginary part, a real LazyTensor."""
        return self.parts._of_this("ComplexImag")

    def angle(self) -> Any:
        """The angle in [-pi, pi], a real LazyTensor."""
        return self.parts._of_this("ComplexAngle")

    def conj(self: C) -> C:
        """The complex conjugate."""
        return self.of_parts(self.parts._of_this("Conj"))


def _meaningless(name: str) -> ArgumentError:
    usual = "z.real, z.imag, abs(z) and z.angle() are real ones"
    return ArgumentError(
        f"{name} is not defined for complex LazyTensors; {_INSTEAD.get(name, usual)}"
    )


# -- what operations on complex numbers are --------------------------------------------------------
#
# Operands are LazyTensors, one of which is complex.


def _parts(z: Any) -> Any:
    """The parts of a complex LazyTensor, or of a real one as complex numbers."""
    return z.parts if z.is_complex else z._of_this("Real2Complex")


def _of_parts(parts: Any) -> Any:
    return parts.complex_class.of_parts(parts)


def _joined(re: Any, im: Any) -> Any:
    """The complex numbers re + i im."""
    return _of_parts(re._apply("Complex", im))


def _on_parts(callee: str) -> Callable[..., Any]:
    """An operation of the table whose operands and result are parts."""
    return lambda *operands: _of_parts(_applied(callee, *map(_parts, operands)))


def _to_real(callee: str) -> Callable[..., Any]:
    """An operation of the table that gives real numbers for parts."""
    return lambda z: z.parts._of_this(callee)


def _applied(callee: str, first: Any, *others: Any) -> Any:
    return first._apply(callee, *others) if others else first._of_this(callee)


def _fitting(rule: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A rule for vectors of one dimension, one of which may be a scalar."""

    @functools.wraps(rule)
    def checked(a: Any, b: Any) -> Any:
        if a.ndim != b.ndim and 1 not in (a.ndim, b.ndim):
            raise ArgumentError(
                f"complex vectors of {a.ndim} and {b.ndim} components do not fit: the numbers must "
                "be equal, or 1"
            )
        return rule(a, b)

    return checked


def _scaled(op: str, z: Any, r: Any) -> Any:
    """z times or by a real r: both parts, each on its own."""
    if r.ndim == 1:
        return _of_parts(z.parts._apply(op, r))
    if z.ndim == 1:
        return _joined(z.real._apply(op, r), z.imag._apply(op, r))
    return _of_parts(z.parts._apply(op, _joined(r, r).parts))


@_fitting
def _multiply(a: Any, b: Any) -> Any:
    if not b.is_complex:
        return _scaled("*", a, b)
    if not a.is_complex:
        return _scaled("*", b, a)
    return _on_parts("ComplexMult")(a, b)


@_fitting
def _divide(a: Any, b: Any) -> Any:
    if not b.is_complex:
        return _scaled("/", a, b)
    if not a.is_complex:
        return _multiply(b.conj(), a / b.parts._of_this("ComplexSquareAbs"))
    return _on_parts("ComplexDivide")(a, b)


def _inverse(z: Any) -> Any:
    return _divide(z._number(1), z)


def _re_and_im(z: Any) -> tuple[Any, Any]:
    return (z.real, z.imag) if z.is_complex else (z, z._number(0))


def _compared(callee: str, joint: str) -> Callable[[Any, Any], Any]:
    """A comparison of both parts, and what makes one truth value of the two."""

    def rule(a: Any, b: Any) -> Any:
        (a_re, a_im), (b_re, b_im) = _re_and_im(a), _re_and_im(b)
        return a_re._apply(callee, b_re)._apply(joint, a_im._apply(callee, b_im))

    return _fitting(rule)


def _power(z: Any, exponent: Any) -> Any:
    """Products for a small integer, else the principal power."""
    if exponent._expression.callee == NUMBER:
        return _integer_power(z, exponent._expression.numbers[0])
    if exponent.is_complex:
        return (exponent * (z if z.is_complex else z.real2complex()).log()).exp()
    return (exponent * z.angle()).exp1j() * abs(z)._apply("**", exponent)


def _integer_power(z: Any, exponent: int) -> Any:
    if exponent < 0:
        return _inverse(_integer_power(z, -exponent))
    if exponent == 0:
        return z.real._apply("**", z._number(0)).real2complex()
    if exponent == 1:
        return z
    half = _integer_power(z, exponent // 2)
    return half * half * z if exponent % 2 else half * half


def _root(z: Any) -> Any:
    return (z.angle() / 2).exp1j() * abs(z).sqrt()


def _inverse_root(z: Any) -> Any:
    return (z.angle() / -2).exp1j() * abs(z).rsqrt()


# -- components ------------------------------------------------------------------------------------


def _components(z: Any, start: Any, count: int = 1) -> Any:
    """Some components, which are twice as many parts."""
    first = start._expression.numbers[0]
    if first < 0 or count < 1 or first + count > z.ndim:
        raise ArgumentError(f"components {first} to {first + count - 1} are not among {z.ndim}")
    at = (z._number(2 * first), z._number(2 * count))
    return _of_parts(z.parts._apply("Extract", *at))


def _extract(z: Any, start: Any, count: Any) -> Any:
    return _components(z, start, count._expression.numbers[0])


def _repeated(z: Any, dim: int) -> Any:
    """The parts of a vector of that dimension, which a scalar is repeated to."""
    parts = _parts(z)
    return parts if z.ndim == dim else parts._apply("ComplexSumT", parts._number(2 * dim))


def _choose(condition: Any, a: Any, b: Any) -> Any:
    if condition.is_complex:
        raise _meaningless("IfElse where a complex number is at least 0")
    dim = max(condition.ndim, a.ndim, b.ndim)
    if condition.ndim > 1:
        condition = _joined(condition, condition).parts
    return _of_parts(condition._apply("IfElse", _repeated(a, dim), _repeated(b, dim)))


# -- derivatives -----------------------------------------------------------------------------------


def _like(value: Any, other: Any) -> Any:
    """What goes with another: parts with parts, real numbers with real ones."""
    if other.is_complex:
        return _parts(value)
    if value.is_complex:
        raise ArgumentError("a complex direction or cotangent belongs to something complex")
    return value


def _gradient(f: Any, variable: Any, cotangent: Any) -> Any:
    """The gradient of the real inner product: as PyTorch has it."""
    cotangent = _like(cotangent, f)
    found = _like(f, f)._apply("Grad", _like(variable, variable), cotangent)
    return _of_parts(found) if variable.is_complex else found


def _derivative(f: Any, variable: Any, direction: Any) -> Any:
    direction = _like(direction, variable)
    found = _like(f, f)._apply("Diff", _like(variable, variable), direction)
    return _of_parts(found) if f.is_complex else found


# By operators and names of the table.
_RULES: Mapping[str, Callable[..., Any]] = {
    "+": _fitting(_on_parts("ComplexAdd")),
    "-": _fitting(_on_parts("ComplexSubtract")),
    "*": _multiply,
    "/": _divide,
    "==": _compared("==", "Minimum"),
    "!=": _compared("!=", "Maximum"),
    "**": _power,
    "Powf": _power,
    NEGATION: _on_parts("Minus"),
    "Abs": _to_real("ComplexAbs"),
    "Inv": _inverse,
    "Square": lambda z: _multiply(z, z),
    "Exp": _on_parts("ComplexExp"),
    "Log": lambda z: _joined(abs(z).log(), z.angle()),
    "Sqrt": _root,
    "Rsqrt": _inverse_root,
    "Sum": _on_parts("ComplexSum"),
    "Norm2": _to_real("Norm2"),
    "SqNorm2": _to_real("SqNorm2"),
    "SqDist": lambda a, b: (a - b).parts._of_this("SqNorm2"),
    "Normalize": _on_parts("Normalize"),
    "Elem": _components,
    "Extract": _extract,
    "Concat": _on_parts("Concat"),
    "IfElse": _choose,
    "Grad": _gradient,
    "Diff": _derivative,
}
