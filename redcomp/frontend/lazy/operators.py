"""Python's operators on LazyTensors, and indexing."""

from __future__ import annotations

from typing import Any, TypeVar

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.language.expressions import NEGATION
from redcomp.frontend.lazy.core import LazyCore

O = TypeVar("O", bound="Operators")  # noqa: E741 (a type)


class Operators(LazyCore):
    """LazyTensors as operands of Python's operators."""

    __slots__ = ()

    def __add__(self: O, other: Any) -> O:
        return self._with("+", other)

    def __radd__(self: O, other: Any) -> O:
        return self._after("+", other)

    def __sub__(self: O, other: Any) -> O:
        return self._with("-", other)

    def __rsub__(self: O, other: Any) -> O:
        return self._after("-", other)

    def __mul__(self: O, other: Any) -> O:
        return self._with("*", other)

    def __rmul__(self: O, other: Any) -> O:
        return self._after("*", other)

    def __truediv__(self: O, other: Any) -> O:
        return self._with("/", other)

    def __rtruediv__(self: O, other: Any) -> O:
        return self._after("/", other)

    def __or__(self: O, other: Any) -> O:
        return self._with("|", other)

    def __ror__(self: O, other: Any) -> O:
        return self._after("|", other)

    def __lt__(self: O, other: Any) -> O:
        return self._with("<", other)

    def __le__(self: O, other: Any) -> O:
        return self._with("<=", other)

    def __gt__(self: O, other: Any) -> O:
        return self._with(">", other)

    def __ge__(self: O, other: Any) -> O:
        return self._with(">=", other)

    def __eq__(self: O, other: Any) -> O:  # type: ignore[override]  # a LazyTensor
        return self._with("==", other)

    def __ne__(self: O, other: Any) -> O:  # type: ignore[override]  # a LazyTensor
        return self._with("!=", other)

    def __rpow__(self: O, base: Any) -> O:
        return self._after("**", base)

    def __neg__(self: O) -> O:
        return self._of_this(NEGATION)

    def __pos__(self: O) -> O:
        return self

    def __abs__(self: O) -> O:
        return self._of_this("Abs")

    def __pow__(self: O, exponent: Any) -> O:
        """Small halves and integers, which are roots and products, or anything else."""
        if type(exponent) is int and exponent == 2:
            return self._of_this("Square")
        if isinstance(exponent, float) and abs(exponent) == 0.5:
            return self._of_this("Sqrt" if exponent > 0 else "Rsqrt")
        if isinstance(exponent, float) and (2 * exponent).is_integer() and abs(exponent) <= 16:
            is_whole = exponent.is_integer()
            exponent = int(exponent) if is_whole else self._number(int(2 * exponent)) / 2
        return self._with("**", exponent)

    def __mod__(self: O, modulus: Any) -> O:
        return self._apply("Mod", modulus, 0) if self._is_operand(modulus) else NotImplemented

    def __rmod__(self: O, value: Any) -> O:
        return self._taken(value) % self if self._is_operand(value) else NotImplemented

    def __floordiv__(self: O, divisor: Any) -> O:
        return (self / divisor)._apply("Floor") if self._is_operand(divisor) else NotImplemented

    def __rfloordiv__(self: O, value: Any) -> O:
        return (value / self)._apply("Floor") if self._is_operand(value) else NotImplemented

    # -- indexing ----------------------------------------------------------------------------------

    def __getitem__(self: O, key: Any) -> O:
        """Components of the vectors: `x[0]`, `x[-1]`, `x[1:3]`, `x[..., ::2]`, `x[:, :, 0]`.

        The axes before the last one are taken whole; `None` after all of them adds nothing.  Raises
        ArgumentError for anything else.
        """
        item = self._of_components(key)
        if isinstance(item, slice):
            return self._sliced(item)
        position = arguments.integer("an index", item)
        dim = self.ndim
        if not -dim <= position < dim:
            raise ArgumentError(f"index {position} is out of range for vectors of dimension {dim}")
        return self._apply("Elem", self._number(position % dim))

    def _of_components(self, key: Any) -> Any:
        """What an index says of the last axis."""
        items = list(key) if isinstance(key, tuple) else [key]
        axes = self.dim()
        if Ellipsis in [item for item in items if isinstance(item, type(Ellipsis))]:
            at = next(n for n, item in enumerate(items) if item is Ellipsis)
            after = items[at + 1 :]
            is_new = [item for item in items if item is None]
            items[at : at + 1] = [slice(None)] * (axes - len(items) + 1 + len(is_new))
            items = items if after else [*items, slice(None)][: max(axes, len(items))]
        elif not isinstance(key, tuple):
            return key
        if None in [item for item in items if item is None]:
            items = self._without_new_axis(items)
        if len(items) == axes - 1:
            items.append(slice(None))
        is_whole = all(isinstance(i, slice) and i == slice(None) for i in items[:-1])
        if len(items) != axes or not is_whole:
            raise ArgumentError(
                f"an index of a LazyTensor with {axes} axes takes the first {axes - 1} whole, as "
                f"in x[{':, ' * (axes - 1)}0]: only components of vectors can be chosen"
            )
        return items[-1]

    def _without_new_axis(self, items: list[Any]) -> list[Any]:
        """An index whose last item is None, which makes scalars vectors of one component."""
        if items[-1] is None and items.count(None) == 1 and self.ndim == 1:
            return items[:-1]
        raise ArgumentError("None in an index of a LazyTensor stands last, after scalars")

    def _sliced(self: O, item: slice) -> O:
        try:
            chosen = range(*item.indices(self.ndim))
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"slices of a LazyTensor take integers: {error}") from None
        if not chosen:
            raise ArgumentError(f"the slice {item} of {self.ndim} components is empty")
        if len(chosen) == self.ndim and chosen.step == 1:
            return self
        if chosen.step == 1:
            at = (self._number(chosen.start), self._number(len(chosen)))
            return self._apply("Extract", *at)
        made = self[chosen[0]]
        for position in chosen[1:]:
            made = made._apply("Concat", self[position])
        return made
