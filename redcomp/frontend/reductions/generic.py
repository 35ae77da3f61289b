"""What the `generic_*` functions of every array library share: the output string and its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from redcomp import arguments
from redcomp.errors import ArgumentError, FormulaError
from redcomp.frontend.language.aliases import parse_alias
from redcomp.frontend.reductions.genred import GenredBase
from redcomp.tracing import constant_in_graphs

if TYPE_CHECKING:
    from redcomp.typing import Axis, Reduction

G = TypeVar("G", bound=GenredBase)
AXIS: Mapping[str, Axis] = {"i": 1, "j": 0}
# The options of Genred that the function's name and the output say.
SAID = ("formula", "aliases", "reduction_op", "axis", "opt_arg")


def generic_reduction(
    genred_class: type[G],
    reduction_op: Reduction,
    formula: str,
    output: str,
    aliases: Sequence[str],
    options: Mapping[str, Any],
) -> G:
    """The reduction whose results `output`, such as "a = Vi(2)", describes.

    A Vi output has a row for each i, so the reduction is over j; a Vj output is the reverse.
    Raises FormulaError (a ValueError), in particular if the dimension is not the formula's.
    """
    axis, dim = _parsed(output, options)
    made = genred_class(formula, aliases, reduction_op, axis, **options)
    result = made.dims[0]
    if result != dim:
        raise _error(
            f"the result of {arguments.shown(formula)} has dimension {result}, "
            f"but the output says {dim}",
            output,
        )
    return made


def generic_neighbours(
    genred_class: type[G],
    formula: str,
    output: str,
    aliases: Sequence[str],
    options: Mapping[str, Any],
) -> G:
    """The ArgKMin of a scalar formula; the output's dimension is K."""
    axis, count = _parsed(output, options)
    return genred_class(formula, aliases, "ArgKMin", axis, opt_arg=count, **options)


class GenericFunctions(Generic[G]):
    """The functions that make a `Genred` of one array library by the name of its reduction."""

    def __init__(self, genred_class: type[G]) -> None:
        self._class = genred_class

    def generic_sum(self, formula: str, output: str, *aliases: str, **options: Any) -> G:
        """The `Genred` of a Sum.

            generic_sum("(x | y) * b", "a = Vi(2)", "x = Vi(3)", "y = Vj(3)", "b = Vj(2)")

        output   the result's kind and dimension: a Vi is reduced over j, a Vj over i
        options  those of Genred

        Raises FormulaError (a ValueError), in particular if the dimension is not the formula's.
        """
        return generic_reduction(self._class, "Sum", formula, output, aliases, options)

    def generic_logsumexp(self, formula: str, output: str, *aliases: str, **options: Any) -> G:
        """The `Genred` of a LogSumExp; arguments and errors as for `generic_sum`."""
        return generic_reduction(self._class, "LogSumExp", formula, output, aliases, options)

    def generic_argmin(self, formula: str, output: str, *aliases: str, **options: Any) -> G:
        """The `Genred` of an ArgMin, of int64; arguments and errors as for `generic_sum`."""
        return generic_reduction(self._class, "ArgMin", formula, output, aliases, options)

    def generic_argkmin(self, formula: str, output: str, *aliases: str, **options: Any) -> G:
        """The `Genred` of an ArgKMin, int64: "a = Vi(5)" asks for 5 columns of each row."""
        return generic_neighbours(self._class, formula, output, aliases, options)


@constant_in_graphs
def _parsed(output: object, options: Mapping[str, Any]) -> tuple[Axis, int]:
    """The axis that is reduced over, and the dimension; checks that no option says it again."""
    for name in SAID:
        if name in options:
            raise ArgumentError(f"{name} is no option here: the function and its output say it")
    output = arguments.text("output", output)
    alias = parse_alias(output)
    if alias.kind not in AXIS:
        raise _error("an output is a Vi (a row for each i) or a Vj, not a parameter", output)
    return AXIS[alias.kind], alias.dim


def _error(message: str, output: str) -> FormulaError:
    return FormulaError(message, output, 0, len(output))
