"""What a `LazyTensor` needs of an array library; `redcomp.numpy` and `redcomp.torch` have it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from redcomp import foreign
from redcomp.frontend.language.expressions import Expression, Placed, Slot
from redcomp.frontend.reductions.genred import Reducer


class ArrayType(NamedTuple):
    """What an array's numbers are: the name of their dtype, and of which sort."""

    dtype: str
    is_integer: bool = False
    is_complex: bool = False


class Agreed(NamedTuple):
    """What the arguments of an expression agree on, or what one of them says of it.

    rows        the number of i, None where nothing depends on i
    columns     the number of j, likewise
    batch       the axes before these
    dtype       its name, or None for what takes the dtype of the others
    is_complex  whether some numbers are parts, of each complex number re and then im
    is_special  whether there are symbols, or arrays of other libraries: a call looks at these first
    is_loose    whether some values are no arrays with axes, and get the dtype of the others
    """

    rows: int | None = None
    columns: int | None = None
    batch: tuple[int, ...] = ()
    dtype: str | None = None
    is_complex: bool = False
    is_special: bool = False
    is_loose: bool = False


class Shaped(NamedTuple):
    """What an array of some type and shape is as an argument: this follows from these alone.

    slot    the variable that it stands for
    shape   that of its value, if it is another one than the array's, or than that of its parts
    agreed  what it says of an expression
    """

    slot: Slot
    shape: tuple[int, ...] | None = None
    agreed: Agreed = Agreed()


class Building(Protocol):
    """How expressions and their reductions are made: by the functions of these names.

    An array library whose programs are traced makes them constants of the trace.
    """

    def variable(self, slot: Slot, /) -> Expression: ...
    def number(self, value: int, /) -> Expression: ...
    def integers(self, values: tuple[int, ...], /) -> Expression: ...
    def operation(self, callee: str, /, *operands: Placed) -> Expression: ...
    def rebound(self, expression: Expression, slots: tuple[Slot, ...], /) -> Expression: ...


class Library(Protocol):
    """An array library."""

    name: str
    array_class: type[Any]
    # How a caller converts an array to a dtype.
    conversion: str
    # What variances lessen the number of values by, unless one says.
    correction: int

    @property
    def build(self) -> Building:
        """What makes expressions."""

    def identity(self, value: object) -> Hashable:
        """Equal for the same object only: arrays have no usable hash and ==."""

    def taken(self, name: str, value: object) -> Any:
        """An array of another library as one of this one; raises ArgumentError, which says `name`.

        It shares the memory wherever that is possible.
        """

    def result_library(self, named: Iterable[tuple[str, object]]) -> foreign.Library | None:
        """The other library that results are made for, of arguments with their names in errors.

        None is this one.  Raises ArgumentError if there are two.
        """

    def type_of(self, array: Any) -> ArrayType:
        """What the array's numbers are; raises ArgumentError for a dtype that cannot be taken."""

    def shaped(self, array: Any, axis: int | None, /) -> Shaped:
        """`given.shaped` of an array's type and shape; may be kept; raises ArgumentError."""

    def agreed(self, a: Agreed, b: Agreed, /) -> Agreed:
        """`bindings.agreed`, which may be kept; raises ArgumentError."""

    def real(self, array: Any) -> Any:
        """A complex array (..., D) as a real one (..., 2 D): real and imaginary parts in turn."""

    def complex(self, array: Any) -> Any:
        """The reverse of `real`; numbers of half precision become complex64."""

    def filled(self, out: Any, result: Any) -> Any:
        """`out` with the result in it; raises ArgumentError where it does not fit."""

    def reducer(self, reduced: Any, options: dict[str, Any]) -> Reducer:
        """What computes a `Reduced`; it takes its options out of `options`."""

    def solver(self, system: Any, compilation: tuple[Any, ...]) -> Any:
        """The `KernelSolve` of a `System`, with options in the order of OF_SYSTEMS."""

    def common_dtype(self, arrays: Sequence[Any]) -> str | None:
        """The dtype in which arrays of several are computed with, or None where that is wrong."""

    def call(
        self,
        reducer: Reducer,
        values: Sequence[Any],
        agreed: Agreed,
        options: Mapping[str, Any],
    ) -> Any:
        """A reduction of arrays, and of numbers and lists of them, which get the arrays' dtype."""

    def transposed(self, array: Any) -> Any:
        """The array with the axes of i and j exchanged: the third and the second of the last."""

    def diagonal(self, array: Any) -> Any:
        """The array (..., M, M, D) at the pairs (k, k): (..., M, D)."""

    def constant(self, array: Any) -> Any:
        """The array, a constant for derivatives."""

    def root(self, array: Any) -> Any:
        """Square roots, the derivative at 0 being 0."""

    def unit_matrix(self, size: int, dtype: str | None, beside: Sequence[Any]) -> Any:
        """The unit matrix in a dtype or the library's own, on the device of arrays among others."""

    def joined(self, parts: Sequence[Any]) -> Any:
        """Arrays one after the other along the first axis."""

    def arrays(self, values: Sequence[Any], dtype: str | None) -> Sequence[Any]:
        """The values, numbers and lists of them being arrays of the dtype."""

    @property
    def kernel_solve(self) -> type[Any]:
        """The library's `KernelSolve`."""

    def right_hand_side(
        self, v: Any, dtype: str | None, like: Any
    ) -> tuple[Any, Callable[[Any], Any]]:
        """An array that a matrix is multiplied with, and what makes its product the caller's.

        dtype, like  the matrix's dtype, and the matrix
        NumPy's arrays are taken too where the matrix is of tensors, and give one back.
        """
