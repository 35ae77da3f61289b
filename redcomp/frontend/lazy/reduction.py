"""Reductions of expressions: found again by what is reduced, and called now or later."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.frontend.language.expressions import Placed, Slot, aliases_of, text_of
from redcomp.frontend.lazy.bindings import Argument, Bindings, Symbol
from redcomp.frontend.lazy.library import Library
from redcomp.frontend.reductions.genred import Reducer, options_of
from redcomp.frontend.reductions.requests import ExpressionSource, request

# Reductions that are found again, with their machine code.
_KEPT = 1024
# Options that say how a reduction is compiled, with what they are without being given.
OF_COMPILATION: Mapping[str, Any] = {
    "dtype_acc": "auto",
    "use_double_acc": False,
    "sum_scheme": "auto",
    "use_fast_math": None,
}
# Options of KeOps for what schedules choose here.
IGNORED = ("enable_chunks", "rec_multVar_highdim")
OF_CALLS = ("backend", "device_id", "ranges", "out")


class Reduced(NamedTuple):
    """What is reduced: the expression and its weights, over the same slots."""

    reduction_op: str
    formula: Placed
    weights: Placed | None
    axis: int
    opt_arg: Any

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The variables of both."""
        both = [self.formula, *([] if self.weights is None else [self.weights])]
        found = {n: slot for e, at in both for n, slot in zip(at, e.slots, strict=True)}
        return tuple(found[n] for n in range(len(found)))


def _made(reduced: Reduced, *compilation: Any) -> Reducer:
    requested = request(reduced.formula, reduced.reduction_op, reduced.opt_arg, reduced.weights)
    options = options_of((requested,), *compilation)
    source = ExpressionSource((requested,), reduced.slots)
    return Reducer(source, reduced.axis, options, dtype_acc=compilation[0])


_found = functools.lru_cache(_KEPT)(_made)
_DEFAULTS = tuple(OF_COMPILATION.values())


def reducer(reduced: Reduced, options: dict[str, Any]) -> Reducer:
    """The reduction, which takes its options out of `options`; raises ArgumentError."""
    compilation = _DEFAULTS
    if options:
        compilation = tuple([options.pop(n, default) for n, default in OF_COMPILATION.items()])
        for name in IGNORED:
            options.pop(name, None)
    try:
        return _found(reduced, *compilation)
    except TypeError:  # an option without a hash, which is wrong: say so
        return _made(reduced, *compilation)


class LazyReduction:
    """A reduction that is not computed yet: call it, with arrays for its symbolic variables.

    `LazyTensor` methods with `call=False` return it, and those of LazyTensors that have symbolic
    variables.  Its arguments, in the order of the symbols' positions, have the shapes that those of
    `Genred` have; its options are those of the method, which they replace.
    """

    def __init__(
        self,
        library: Library,
        reduced: Reduced,
        bindings: Bindings,
        options: Mapping[str, Any],
        finish: Callable[[Any], Any],
    ) -> None:
        self._library, self._reduced, self._bindings = library, reduced, bindings
        self._options, self._finish = dict(options), finish
        self._symbols = bindings.symbols
        reducer(reduced, dict(options))  # what is wrong is said here

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The result; raises ArgumentError as `Genred` does."""
        if len(args) != len(self._symbols):
            listed = ", ".join(f"{s.slot.kind}({s.slot.dim})" for s in self._symbols)
            raise ArgumentError(
                f"expected {len(self._symbols)} arguments, one for each symbolic variable "
                f"({listed}), but {len(args)} came"
            )
        given = {symbol.key: value for symbol, value in zip(self._symbols, args, strict=True)}
        bindings = self._bindings
        dtype = bindings.dtype
        if dtype is None and args and self._library.is_array(args[0]):
            dtype = self._library.type_of(args[0]).dtype
        bound = tuple(self._bound(a, given) for a in bindings.arguments)
        bindings = replace(bindings, arguments=bound, dtype=dtype)
        options = {**self._options, **options}
        return compute(self._library, self._reduced, bindings, options, self._finish)

    def _bound(self, argument: Argument, given: Mapping[Any, Any]) -> Argument:
        if not isinstance(argument.given, Symbol):
            return argument
        return replace(argument, value=given[argument.key])

    @property
    def formula(self) -> str:
        """What is reduced, as text."""
        return text_of(self._reduced.formula)

    @property
    def reduction_op(self) -> str:
        """The reduction's name."""
        return self._reduced.reduction_op

    def __repr__(self) -> str:
        index = "ij"[self._reduced.axis]
        variables = ", ".join(f"{a.name} = {a.what}" for a in aliases_of(self._reduced.slots))
        return (
            f"LazyReduction({self.reduction_op} over {index} of {self.formula}, {variables}); "
            "call it to compute it"
        )


def compute(
    library: Library,
    reduced: Reduced,
    bindings: Bindings,
    options: dict[str, Any],
    finish: Callable[[Any], Any],
) -> Any:
    """The reduction of arguments, by the options of a method."""
    made = reducer(reduced, options)
    for name in options:
        if name not in OF_CALLS:
            known = ", ".join((*OF_CALLS, *OF_COMPILATION))
            raise ArgumentError(f"unknown option {arguments.shown(name)}; the options are {known}")
    values = [argument.value for argument in bindings.arguments]
    return finish(library.call(made, values, bindings.dtype, options))
