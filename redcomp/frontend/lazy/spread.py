"""How far values spread around their mean: variances and standard deviations, in two passes.

The first pass gives a center c, the mean up to rounding; the second the means of x - c and of its
square, whose difference mean((x - c)^2) - mean(x - c)^2 is the variance whatever c is.  So c counts
as a constant for derivatives, and its rounding does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from redcomp.frontend.language.expressions import Slot
from redcomp.frontend.lazy.bindings import Argument, Bindings, Unique
from redcomp.frontend.lazy.library import Agreed, Library, Shaped
from redcomp.frontend.lazy.reduction import Reduced


def center_of(bindings: Bindings, over: int, dim: int) -> Argument:
    """The variable whose values the first pass gives: a vector for each row of the result."""
    whole = bindings.agreed
    return Argument(
        Unique(),
        None,
        None,
        Shaped(
            Slot("ji"[over], dim),  # type: ignore[arg-type]  # one of the two letters
            None,
            Agreed(
                whole.rows if over == 1 else None,
                whole.columns if over == 0 else None,
                whole.batch,
                whole.dtype,
            ),
        ),
    )


class Spread(NamedTuple):
    """A variance, or its square root.

    mean     the mean of the values
    moments  the means of the differences from the center, and of their squares
    ones     the sum of ones, which is how many values there are
    center   the last argument of `moments`
    parts    how many components make one number: 2 of complex ones, whose variances add up
    ddof     what the number of values is lessened by
    """

    mean: Reduced
    moments: Reduced
    ones: Reduced
    center: Argument
    parts: int
    ddof: float
    is_root: bool

    def check(self, library: Library, options: Mapping[str, Any]) -> None:
        self.mean.check(library, options)
        self.moments.check(library, options)

    def run(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        mean = self.mean.run(library, bindings, dict(options))
        center = replace(self.center, value=library.constant(mean))
        both = Bindings.of((*bindings.arguments, center), bindings.agreed)
        moments = self.moments.run(library, both, dict(options))
        dim = self.center.slot.dim
        shift, squares = moments[..., :dim], moments[..., dim:]
        variance = (squares - shift * shift).clip(0)
        if self.parts > 1:
            variance = variance.reshape(*variance.shape[:-1], -1, self.parts).sum(-1)
        if self.ddof:
            variance = variance * self._factor(library, bindings, options)
        return library.root(variance) if self.is_root else variance

    def _factor(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        """n / (n - ddof), or NaN; n is infinite where it is too large for the dtype."""
        count = bindings.agreed.columns if self.mean.axis == 1 else bindings.agreed.rows
        if count is None or options.get("ranges") is not None:
            share = self.ddof / self.ones.run(library, bindings, dict(options))
            return 1 / (1 - share).clip(0)
        return count / (count - self.ddof) if count > self.ddof else float("nan")

    @property
    def text(self) -> str:
        return ("the standard deviation" if self.is_root else "the variance") + self.mean.text[4:]
