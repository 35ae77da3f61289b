"""`generic_sum` and its like on PyTorch tensors: a `Genred` by the name of its reduction."""

from __future__ import annotations

from typing import Any

from redcomp.frontend.generic import generic_neighbours, generic_reduction
from redcomp.torch.genred import Genred

__all__ = ["generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum"]


def generic_sum(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The `Genred` of a Sum.

        generic_sum("Exp(-SqDist(x, y)) * b", "a = Vi(2)", "x = Vi(3)", "y = Vj(3)", "b = Vj(2)")

    output   the result's kind and dimension: a Vi is reduced over j, a Vj over i
    options  those of Genred

    Raises FormulaError (a ValueError), in particular if the dimension is not the formula's.
    """
    return generic_reduction(Genred, "Sum", formula, output, aliases, options)


def generic_logsumexp(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The `Genred` of a LogSumExp; arguments and errors as for `generic_sum`."""
    return generic_reduction(Genred, "LogSumExp", formula, output, aliases, options)


def generic_argmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The `Genred` of an ArgMin, which gives int64; arguments and errors as for `generic_sum`."""
    return generic_reduction(Genred, "ArgMin", formula, output, aliases, options)


def generic_argkmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The `Genred` of an ArgKMin, int64: "a = Vi(5)" asks for the 5 best columns of each row."""
    return generic_neighbours(Genred, formula, output, aliases, options)
