"""Reductions of expressions: found again by what is reduced, and called now or later."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from redcomp import arguments, foreign, notebooks
from redcomp.errors import ArgumentError
from redcomp.frontend.language.aliases import spell
from redcomp.frontend.language.expressions import Placed, Slot, aliases_of, text_of
from redcomp.frontend.lazy.bindings import Argument, Bindings, Symbol, parts_of
from redcomp.frontend.lazy.library import Library
from redcomp.frontend.reductions.genred import Reducer, options_of
from redcomp.frontend.reductions.requests import ExpressionSource, request

if TYPE_CHECKING:
    from redcomp.backends.gpu import GpuLowering
    from redcomp.backends.host import HostLowering
    from redcomp.typing import ArrayDtype, Target
    from redcomp.view import View

# Reductions that are found again, with their machine code.
KEPT = 256
# Options that say how systems and reductions are compiled, with what they are if not given.
OF_SYSTEMS: Mapping[str, Any] = {
    "dtype_acc": "auto",
    "use_double_acc": False,
    "sum_scheme": "auto",
    "use_fast_math": None,
}
OF_COMPILATION: Mapping[str, Any] = {**OF_SYSTEMS, "allow_tf32": False}
# Options of KeOps for what schedules choose here.
IGNORED = ("enable_chunks", "rec_multVar_highdim")
OF_CALLS = ("backend", "device_id", "ranges", "out")
_ARE_OF_CALLS = frozenset(OF_CALLS).issuperset


class Job(Protocol):
    """What a LazyTensor's method computes, now or later."""

    def check(self, library: Library, options: Mapping[str, Any]) -> None:
        """Raise ArgumentError or FormulaError for what is wrong whatever the arrays are."""

    def run(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        """The result."""

    @property
    def text(self) -> str:
        """What it is, in a line."""


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

    def check(self, library: Library, options: Mapping[str, Any]) -> None:
        library.reducer(self, dict(options))

    def run(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        made = library.reducer(self, options)
        if not _ARE_OF_CALLS(options):
            check_options(options, OF_CALLS)
        values = values_of(bindings)
        return library.call(made, values, bindings.agreed, options)

    @property
    def text(self) -> str:
        return f"{self.reduction_op} over {'ij'[self.axis]} of {text_of(self.formula)}"


class Keeping(NamedTuple):
    """A job whose results have an axis of length 1 more, before those from `place` on."""

    job: Job
    place: int

    def check(self, library: Library, options: Mapping[str, Any]) -> None:
        self.job.check(library, options)

    def run(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        return self._kept(self.job.run(library, bindings, options))

    def _kept(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(map(self._kept, result))
        return result.reshape(*result.shape[: self.place], 1, *result.shape[self.place :])

    @property
    def text(self) -> str:
        return self.job.text


class Arranged(NamedTuple):
    """A job whose result is arranged by a function of the library's own arrays."""

    job: Job
    arrange: Callable[[Any], Any]

    def check(self, library: Library, options: Mapping[str, Any]) -> None:
        self.job.check(library, options)

    def run(self, library: Library, bindings: Bindings, options: dict[str, Any]) -> Any:
        return self.arrange(self.job.run(library, bindings, options))

    @property
    def text(self) -> str:
        return self.job.text


def _made(reduced: Reduced, *compilation: Any) -> Reducer:
    requested = request(reduced.formula, reduced.reduction_op, reduced.opt_arg, reduced.weights)
    options = options_of((requested,), *compilation)
    source = ExpressionSource((requested,), reduced.slots)
    return Reducer.of(source, reduced.axis, options, compilation[0])


_found = functools.lru_cache(KEPT)(_made)
_DEFAULTS = tuple(OF_COMPILATION.values())


def reducer(reduced: Reduced, options: dict[str, Any]) -> Reducer:
    """The reduction, which takes its options out of `options`; raises ArgumentError."""
    compilation = _DEFAULTS if _ARE_OF_CALLS(options) else compilation_options(options)
    try:
        return _found(reduced, *compilation)
    except TypeError:  # an option without a hash, which is wrong: say so
        return _made(reduced, *compilation)


def compilation_options(
    options: dict[str, Any], table: Mapping[str, Any] = OF_COMPILATION
) -> tuple[Any, ...]:
    """The options of compilation in the order of a table, taken out of all options."""
    for name in IGNORED:
        options.pop(name, None)
    return tuple([options.pop(n, default) for n, default in table.items()])


class LazyReduction:
    """A reduction that is not computed yet: call it, with arrays for its symbolic variables.

    Methods of LazyTensors return it with `call=False`, and where there are symbolic variables.  Its
    arguments, in the order of the symbols' positions, have the shapes that those of `Genred` have;
    its options are those of the method, which they replace.

    `lower`, `explain` and `view` are those of `Genred`; the dtype is that of the arrays.
    """

    def __init__(
        self,
        library: Library,
        job: Job,
        bindings: Bindings,
        options: Mapping[str, Any],
    ) -> None:
        self._library, self._job, self._bindings = library, job, bindings
        self._options = dict(options)
        self._symbols = bindings.symbols
        self._others = [
            (f"variable {n} of the LazyTensor", a.given)
            for n, a in enumerate(bindings.arguments)
            if a.agreed.is_special and not isinstance(a.given, Symbol)
        ]
        job.check(library, options)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The result; raises ArgumentError as `Genred` does."""
        if len(args) != len(self._symbols):
            slots = [symbol.slot for symbol in self._symbols]
            listed = ", ".join(spell(s.kind, n, s.dim) for n, s in enumerate(slots))
            raise ArgumentError(
                f"expected {len(self._symbols)} arguments, one for each symbolic variable "
                f"({listed}), but {len(args)} came"
            )
        taken, library = args, None
        if self._others or not all(isinstance(a, self._library.array_class) for a in args):
            taken, library = self._taken(args)
        given = {symbol.key: value for symbol, value in zip(self._symbols, taken, strict=True)}
        bindings = self._bindings
        bound = [_bound(a, given, self._library) for a in bindings.arguments]
        dtype = bindings.agreed.dtype
        if dtype is None and taken and isinstance(taken[0], self._library.array_class):
            first = next(a for a in bound if a.key == self._symbols[0].key)
            dtype = self._library.type_of(first.value).dtype
        bindings = Bindings.of(bound, bindings.agreed._replace(dtype=dtype))
        options = {**self._options, **options}
        is_out_given = options.get("out") is not None
        found = self._job.run(self._library, bindings, options)
        return found if library is None or is_out_given else library.made(found)

    def lower(
        self, dtype: ArrayDtype | None = None, target: Target = "host"
    ) -> HostLowering | GpuLowering:
        """Every stage of the compilation; raises ArgumentError for what is several reductions."""
        return self._reducer.lower(dtype or self._dtype, target)

    def explain(self, dtype: ArrayDtype | None = None, target: Target = "host") -> str:
        """A summary of the compilation in one screen."""
        return self._reducer.explain(dtype or self._dtype, target)

    def view(self, dtype: ArrayDtype | None = None, target: Target = "host") -> View:
        """A page about the compilation, which notebooks show."""
        return self._reducer.view(dtype or self._dtype, target)

    @property
    def _dtype(self) -> Any:
        return self._bindings.agreed.dtype or "float32"

    @property
    def _reducer(self) -> Reducer:
        job: Any = self._job
        while not isinstance(job, Reduced):
            job = getattr(job, "job", None)
            if job is None:
                raise ArgumentError(
                    f"{self._job.text} is made of several reductions: REDCOMP_DUMP shows each"
                )
        return self._library.reducer(job, dict(self._options))

    def _taken(self, args: Sequence[Any]) -> tuple[tuple[Any, ...], foreign.Library | None]:
        """The arguments as arrays of this library, and the one that the result is for."""
        own, others = self._library, list(self._others)
        taken = list(args)
        for n, value in enumerate(args):
            if foreign.speaks(value):
                others.append((f"argument {n}", value))
                taken[n] = own.taken(*others[-1])
        return tuple(taken), own.result_library(others)

    @property
    def _variables(self) -> str:
        slots = [argument.slot for argument in self._bindings.arguments]
        return ", ".join(f"{a.name} = {a.what}" for a in aliases_of(slots))

    def __repr__(self) -> str:
        return f"LazyReduction({self._job.text}, {self._variables}); call it to compute it"

    def _repr_html_(self) -> str:
        count = len(self._symbols)
        arrays = f" with {count} array{'s' * (count > 1)}, one a symbol" if count else ""
        rows = [
            ("reduction", self._job.text),
            ("dtype", self._bindings.agreed.dtype or "that of the arrays it will meet"),
            ("variables", self._variables),
            ("to compute", f"call it{arrays}"),
        ]
        return notebooks.facts("LazyReduction", rows)


def _bound(argument: Argument, given: Mapping[Any, Any], library: Library) -> Argument:
    """An argument, a symbol's value being the one that is given."""
    if not isinstance(argument.given, Symbol):
        return argument
    value = given[argument.key]
    if (
        argument.agreed.is_complex
        and isinstance(value, library.array_class)
        and library.type_of(value).is_complex
    ):
        value = parts_of(library, value, argument.slot.kind in ("i", "j"))
    return replace(argument, value=value)


def values_of(bindings: Bindings) -> list[Any]:
    """The values that a call gets.

    In a batch all arrays get its number of axes, so that there is one way to read their shapes.
    """
    axes = len(bindings.agreed.batch)
    if not axes:
        return [argument.value for argument in bindings.by_key.values()]
    return [_with_axes(a.value, axes - len(a.agreed.batch)) for a in bindings.arguments]


def _with_axes(value: Any, missing: int) -> Any:
    """The value with so many axes more before those that it has; numbers have none."""
    if not missing or not getattr(value, "shape", ()):
        return value
    return value.reshape((1,) * missing + tuple(value.shape))


def check_options(
    options: Mapping[str, Any], known: tuple[str, ...], table: Mapping[str, Any] = OF_COMPILATION
) -> None:
    """Raise ArgumentError for an option that nobody has taken; those of the table have been."""
    for name in options:
        if name not in known:
            listed = ", ".join((*known, *table))
            raise ArgumentError(f"unknown option {arguments.shown(name)}; the options are {listed}")
