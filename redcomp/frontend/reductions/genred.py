"""What the `Genred` of every array library shares: its options, and reading the compiler."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import keyword
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from redcomp import arguments, config, notebooks
from redcomp.concurrency import importing
from redcomp.errors import ArgumentError, AxisWarning, KeywordError
from redcomp.frontend.language.aliases import parse_aliases, texts_of_aliases
from redcomp.frontend.reductions.calls import Positions, positions_of
from redcomp.frontend.reductions.pair_reduction import HOST, PairReduction, Parameter
from redcomp.frontend.reductions.requests import (
    FormulaSource,
    Request,
    RequestSource,
    formulas_of,
    requests,
    sum_row,
)
from redcomp.frontend.reductions.texts import text_of, values_of
from redcomp.llvm_backend.host.targets import HOST_TARGETS
from redcomp.ptx.targets import CAPABILITIES
from redcomp.target import Options
from redcomp.tracing import constant_in_graphs

if TYPE_CHECKING:
    import torch
    from typing_extensions import Never

    from redcomp.backends.gpu import GpuLowering
    from redcomp.backends.host import HostLowering
    from redcomp.typing import Accumulator, ArrayDtype, Axis, Dtype, Reduction, SumScheme, Target

    # "float32" and "float64" as NumPy and PyTorch have them.
    AnyDtype = type[np.floating[Any]] | np.dtype[Any] | torch.dtype
    from redcomp.view import View

A = TypeVar("A")

_FLOATS = ("float32", "float64")
_ARRAY_FLOATS = ("float16", "bfloat16", *_FLOATS)
_NO_AXIS = (
    "no axis is given, so this reduces over i and gives a result for each j, as in KeOps: say "
    "axis=1 for a result for each i, or axis=0 for this"
)
DTYPES = {"float32": "f32", "float64": "f64", "f32": "f32", "f64": "f64"}
# And the shorter ones that arrays may have.
ARRAY_DTYPES = {**DTYPES, "float16": "f16", "bfloat16": "bf16", "f16": "f16", "bf16": "bf16"}
# What `lower` takes.
# Formulas whose reducers are found again by programs that make them anew in each of their steps.
_MADE_ANEW = 32
TARGETS = (HOST, *HOST_TARGETS, *(f"sm_{capability.number}" for capability in CAPABILITIES))


class Reducer:
    """What is called on arrays: a reduction, and how a call arranges its results.

    reduction     what is computed
    dtype_acc     the dtype of results for arrays of half precision
    is_single     whether a call returns the result of the only formula, and no tuple

    `text` is all of that as a text, from which `reducer_of` makes it again, and `lengths` the
    number of arrays that a call returns for each formula; `dims` are the dimensions of results, and
    `positions` those of arguments by name.  `declared` is the dtype that arguments must have, if
    the constructor was given one.
    """

    def __init__(
        self, reduction: PairReduction, *, dtype_acc: str = "auto", is_single: bool = True
    ) -> None:
        self.reduction, self.dtype_acc, self.is_single = reduction, dtype_acc, is_single
        self.declared: str | None = None
        self.axis: Axis = 1 if reduction.rows == "i" else 0
        source = reduction.source
        if not isinstance(source, RequestSource):
            raise ArgumentError("a call computes a formula, and no derivative of one")
        self.parts = source.parts()
        self.positions = positions_of(reduction)
        kinds = [result.kind for result in self.reduction.results]
        # Whether a call returns the kernel's only result as it is.
        self.is_plain = is_single and kinds in (["value"], ["index"])
        self.lengths = tuple(self._lengths())
        self.dims = tuple([result.dim for result in reduction.results])
        self.text = text_of(reduction, dtype_acc, is_single)

    @property
    def spanned(self) -> str:
        """The text that the spans of values point into; empty where there are several."""
        source = self.reduction.source
        return source.spanned if isinstance(source, RequestSource) else ""

    @classmethod
    def of(
        cls, source: RequestSource[Any], axis: int, options: Options, dtype_acc: str, **rest: Any
    ) -> Reducer:
        """The reduction of a source over an axis, 0 for i or 1 for j."""
        reduction = PairReduction(source, "i" if axis == 1 else "j", options)
        return Reducer(reduction, dtype_acc=dtype_acc, **rest)

    def lower(
        self, dtype: ArrayDtype = "float32", target: Target = "host", **unknown: Never
    ) -> HostLowering | GpuLowering:
        """Every stage of the compilation for a dtype of arrays and a target.

        Dtypes: "float32", "float64", "float16" and "bfloat16"; the last two are computed in
        float32, on GPUs by cheaper products where vectors are long.

        Targets: "host" (this machine), "avx512", "avx2", "sse2", "neon", or a GPU, from "sm_70" on,
        which need not be there.  The result has `.stages`, `.llvm`, `.asm`, `.schedule` and
        `.stats`.  The dtype may also be NumPy's or PyTorch's own.

        Raises ArgumentError for another dtype or target.
        """
        if unknown:
            arguments.refuse_keywords("lower", unknown, ("dtype", "target"))
        is_name = isinstance(dtype, str) and dtype in ARRAY_DTYPES
        name = ARRAY_DTYPES[dtype if is_name else checked_dtype("dtype", dtype, _ARRAY_FLOATS)]
        stored = self.reduction.stored_as(name)
        made = stored.lower("f64" if name == "f64" else "f32", checked_target(target))
        made.formula = self.reduction.source.formula
        return made

    def explain(
        self, dtype: ArrayDtype = "float32", target: Target = "host", **unknown: Never
    ) -> str:
        """A summary of the compilation in one screen; arguments and errors as for `lower`."""
        with importing:  # it knows the compiler, see `PairReduction.lower`
            from redcomp.explain import explain

        return explain(self.lower(dtype, target, **unknown), self.reduction.source.formula)

    def view(
        self, dtype: ArrayDtype = "float32", target: Target = "host", **unknown: Never
    ) -> View:
        """A page about the compilation: its stages side by side, and what the pair loop costs.

        Notebooks show the result; `.save("page.html")` writes it, as one file that loads nothing.
        Takes what `lower` takes.  Raises ArgumentError for another dtype or target.
        """
        from redcomp.view import view  # who does not look at it needs none of it

        return view(
            self.lower(dtype, target, **unknown), self.reduction.source.formula, self.spanned
        )

    def stored_dtype(self, dtype: str) -> str:
        """The dtype of values that are returned for arguments of a dtype ("f16", "f32", ...).

        Half precision is for storage, and `dtype_acc` may ask for more.
        """
        is_half = dtype in ("f16", "bf16")
        return DTYPES.get(self.dtype_acc, dtype) if is_half else dtype

    def joined(self, results: Sequence[A], stack: Callable[[list[A]], A]) -> list[A]:
        """The arrays that a call returns, from all results of the kernel.

        `stack` joins arrays of the components of a vector along a new last axis.
        """
        made: list[A] = []
        outputs = iter(range(sum(self.parts)))
        for parts in self.parts:
            own = [
                [
                    array
                    for array, result in zip(results, self.reduction.results, strict=True)
                    if result.output == output
                ]
                for output in itertools.islice(outputs, parts)
            ]
            made += [c[0] if parts == 1 else stack(list(c)) for c in zip(*own, strict=True)]
        return made

    def _lengths(self) -> Iterator[int]:
        """The number of arrays that a call returns for each formula."""
        outputs = [result.output for result in self.reduction.results]
        first = 0
        for parts in self.parts:
            yield outputs.count(first)
            first += parts

    def nested(self, arrays: Sequence[A]) -> Any:
        """What a call returns: an entry for each formula, a tuple for values with their places."""
        return nested(arrays, self.lengths, self.is_single)


def nested(arrays: Sequence[A], lengths: Sequence[int], is_single: bool) -> Any:
    """Arrays as `Reducer.nested` returns them; PyTorch's tracer follows it."""
    entries: list[Any] = []
    first = 0
    for length in lengths:
        own = arrays[first : first + length]
        entries.append(own[0] if length == 1 else tuple(own))
        first += length
    return entries[0] if is_single else tuple(entries)


@functools.lru_cache(256)
def reducer_of(text: str) -> Reducer:
    """The reducer whose text this is; raises ArgumentError for a text of anything else."""
    found = values_of(text)
    if len(found) != 3 or not isinstance(found[0], PairReduction):
        raise ArgumentError(f"this is no text of a reduction: {text[:80]}")
    reduction, dtype_acc, is_single = found
    return Reducer(reduction, dtype_acc=dtype_acc, is_single=is_single)


class CallSignature:
    """What editors show of a call: the arguments by their names, and the options of `__call__`.

    A class has none of its own, so that its constructor is shown.
    """

    def __get__(self, made: Any, owner: type[Any]) -> inspect.Signature:
        if made is None:
            raise AttributeError("__signature__")
        own = inspect.signature(type(made).__call__)
        options = [p for p in own.parameters.values() if p.kind is p.KEYWORD_ONLY]
        names = [parameter.name for parameter in made.parameters]
        if any(keyword.iskeyword(n) or n in own.parameters for n in names):
            raise AttributeError("__signature__")  # so that of `__call__` is shown
        named = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
        return own.replace(parameters=[*named, *options])


class GenredBase(Reducer):
    """A formula over pairs and its reduction, to be called on arrays.

        from redcomp.numpy import Genred  # or from redcomp.torch, for tensors

        # out_i = sum_j exp(-|x_i - y_j|^2) b_j
        aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
        smooth = Genred("Exp(-SqDist(x, y)) * b", aliases, reduction_op="Sum", axis=1)
        out = smooth(x, y, b)  # shapes (M, 3), (N, 3), (N, 1) give (M, 1); or smooth(b=b, x=x, y=y)

    `redcomp.operations()` lists what formulas can say, `redcomp.reductions()` the reductions.

    Arrays of other libraries (CuPy, JAX, TensorFlow, PyArrow, columns of pandas and polars) are
    taken too, without a copy if their layout allows it.  Indices, such as those of ArgMin, have no
    gradients; the values of Min and Min_ArgMin have.

    formula       a text in the formula language, or a list of formulas, which are all reduced in
                  one pass over the pairs
    aliases       the variables, such as "x = Vi(3)", "y = Vj(3)", "p = Pm(1)", "l = Vi(1, int)"; a
                  single one may be a text
    reduction_op  the name of the reduction ("Sum"); for several formulas one name, or a list
    axis          1 reduces over j and gives a result for each i; 0 reduces over i and gives one for
                  each j.  If no axis is given, it is 0, with an AxisWarning
    opt_arg       K, for KMin and similar reductions; for several formulas one number, or a list
    formula2      the weights, for SumSoftMaxWeight, LogSumExp and similar reductions; for several
                  formulas one text, or a list
    dtype_acc, use_double_acc, sum_scheme   how sums are accumulated.  "auto" and "block_sum" add up
                  to 256 terms in the dtype of the data, and these partial sums in float64.
                  "kahan_scheme", and "direct_sum" with a float64 accumulator, compensate the
                  rounding of every term.  float16 and bfloat16 are computed in float32; then
                  `dtype_acc` is also the dtype of the result.
    use_fast_math allow rewriting that changes rounding, and approximate functions on GPUs; by
                  default on for GPUs, and off for the host
    allow_tf32    on GPUs whose tensor cores compute products of long vectors of float32, round the
                  factors of these to 11 bits, as PyTorch's option of that name does: one product
                  instead of three, with errors of 1e-3 instead of 1e-6.  No effect on the host, for
                  other dtypes and for short vectors
    dtype, cuda_type                 "float32" or "float64": arguments of another dtype are refused;
                  not needed, because the dtype of the arguments counts
    enable_chunks, rec_multVar_highdim   accepted, without effect

    Raises FormulaError (a ValueError) for a formula or an alias that cannot be understood,
    KeywordError (a TypeError) for an unknown option, and ArgumentError (a ValueError) for any other
    argument.
    """

    def __init__(
        self,
        formula: str | Sequence[str],
        aliases: str | Iterable[str],
        reduction_op: Reduction | Sequence[Reduction] = "Sum",
        axis: Axis | None = None,
        dtype: Dtype | AnyDtype | None = None,
        opt_arg: int | Sequence[int | None] | None = None,
        formula2: str | Sequence[str | None] | None = None,
        cuda_type: Dtype | AnyDtype | None = None,
        dtype_acc: Accumulator = "auto",
        use_double_acc: bool = False,
        sum_scheme: SumScheme = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: bool | int | None = False,
        use_fast_math: bool | None = None,
        allow_tf32: bool = False,
        **unknown: Never,
    ) -> None:
        if unknown:
            refuse_options("Genred", unknown, type(self))
        dtypes = [declared_dtype("dtype", dtype), declared_dtype("cuda_type", cuda_type)]
        asked = (dtype_acc, use_double_acc, sum_scheme, use_fast_math, allow_tf32)
        declared = dtypes[0] or dtypes[1]
        made = _made(formula, aliases, reduction_op, axis, opt_arg, formula2, asked, declared)
        # Calls go to the reducer, which others that are made of the same text share.
        self.reducer = made.reducer
        vars(self).update(vars(made.reducer))
        self.formula, self.aliases = made.formula, made.aliases
        self.reduction_op = reduction_op

    # Python names it where an argument is missing.
    __init__.__qualname__ = "Genred.__init__"
    __signature__ = CallSignature()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What arguments are expected, in their order."""
        return self.reduction.parameters

    def __repr__(self) -> str:
        aliases = ", ".join(map(repr, self.aliases))
        return (
            f"Genred({self.formula!r}, [{aliases}], "
            f"reduction_op={self.reduction_op!r}, axis={self.axis})"
        )

    def _repr_html_(self) -> str:
        """What it is, as a table for notebooks."""
        formula = self.formula if isinstance(self.formula, str) else ", ".join(self.formula)
        names = self.reduction_op
        over = ("i, so there is a result for each j", "j, so there is a result for each i")
        facts = [
            ("formula", formula),
            ("arguments", ", ".join(self.aliases)),
            ("reduction", names if isinstance(names, str) else ", ".join(names)),
            ("over", over[self.axis]),
            ("dtype", self.declared or "that of the arguments"),
        ]
        return notebooks.facts("Genred", facts)


@functools.lru_cache(_MADE_ANEW)
def reducer_of_formulas(
    source: FormulaSource,
    axis: Axis,
    options: Options,
    dtype_acc: str,
    is_single: bool,
    declared: str | None,
) -> Reducer:
    """The reducer of formulas, with its machine code if a program has made it before."""
    reducer = Reducer.of(source, axis, options, dtype_acc, is_single=is_single)
    reducer.declared = declared
    return reducer


class _Made(NamedTuple):
    """What a constructor makes, and the formulas and the aliases that it is made of."""

    reducer: Reducer
    formula: str | tuple[str, ...]
    aliases: tuple[str, ...]


@constant_in_graphs
def _made(
    formula: str | Sequence[str],
    aliases: str | Iterable[str],
    reduction_op: str | Sequence[str],
    axis: int | None,
    opt_arg: int | Sequence[int | None] | None,
    formula2: str | Sequence[str | None] | None,
    asked: tuple[Any, ...],
    declared: str | None,
) -> _Made:
    """What the arguments of a constructor ask for; raises FormulaError or ArgumentError."""
    over = checked_axis(axis)
    is_single = isinstance(formula, str)
    formulas, texts = formulas_of(formula), texts_of_aliases(aliases)
    source = FormulaSource(
        requests(formulas, reduction_op, opt_arg, formula2), parse_aliases(texts)
    )
    options = options_of(source.requests, *asked)
    # Who looks at compilations wants to see each.
    find = reducer_of_formulas.__wrapped__ if config.is_watched() else reducer_of_formulas
    reducer = find(source, over, options, asked[0], is_single, declared)
    if axis is None and not stands_for_keops():
        arguments.warn_caller(_NO_AXIS, AxisWarning)
    return _Made(reducer, formulas[0] if is_single else formulas, texts)


def refuse_options(what: str, unknown: Iterable[str], made: type[Any]) -> None:
    """Raise KeywordError for options that the constructor of a class has not."""
    known, of_calls = arguments.names_of(made.__init__), arguments.names_of(made.__call__)
    arguments.refuse_keywords(what, unknown, known, of_calls, f"calls of what {what}(...) gives")


def in_order(
    made: Any, positions: Positions, args: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Any, ...]:
    """A call's arguments by position, some of which were given by their names in aliases.

    made  what is called, for errors about its options

    Raises KeywordError for a name that nothing has, and where an argument is given twice or not at
    all.
    """
    known = dict(positions)
    unknown = [name for name in named if name not in known]
    if unknown:
        _refuse_names(type(made), unknown, known)
    placed: dict[int, Any] = dict(enumerate(args))
    for name, value in named.items():
        if known[name] in placed:
            raise KeywordError(f"argument {name!r} is given twice")
        placed[known[name]] = value
    missing = [name for name, position in positions if position not in placed]
    if missing:
        raise KeywordError(f"argument {missing[0]!r} is missing")
    return tuple([placed[n] for n in range(len(placed))])


def _refuse_names(made: type[Any], unknown: Iterable[str], known: Iterable[str]) -> None:
    of_calls, own = (arguments.names_of(f) for f in (made.__call__, made.__init__))
    where = f"the constructor, {made.__name__}(...)"
    arguments.refuse_keywords("the call", unknown, (*known, *of_calls), own, where)


def checked_axis(axis: object) -> Axis:
    """0 or 1, which is 0 for None; raises ArgumentError."""
    if axis is None:
        return 0
    with contextlib.suppress(ArgumentError):
        if (found := arguments.integer("axis", axis)) in (0, 1):
            return 1 if found else 0
    raise ArgumentError(
        f"axis must be 0 (reduce over i) or 1 (reduce over j), not {arguments.shown(axis)}"
    )


def stands_for_keops() -> bool:
    """Whether this process runs programs that were written for KeOps, which are to run as there."""
    return "redcomp.as_pykeops" in sys.modules


def checked_target(target: object) -> str:
    """The name of a target that there is code for; raises ArgumentError."""
    name = arguments.text("target", target, HOST)
    return name if name in TARGETS else arguments.one_of("target", name, TARGETS)


def options_of(
    requested: Sequence[Request[Any]],
    dtype_acc: object,
    use_double_acc: object,
    sum_scheme: object,
    use_fast_math: object,
    allow_tf32: object,
) -> Options:
    """How reductions are compiled, from a constructor's options; raises ArgumentError."""
    if use_fast_math is not None:
        use_fast_math = arguments.switch("use_fast_math", use_fast_math)
    allow_tf32 = arguments.switch("allow_tf32", allow_tf32)
    if allow_tf32 and use_fast_math is False:
        raise ArgumentError("allow_tf32 contradicts use_fast_math=False: leave one of them out")
    return Options(
        allow_tf32=allow_tf32,
        use_fast_math=use_fast_math,
        sum=sum_row(requested, dtype_acc, use_double_acc, sum_scheme),
    )


def declared_dtype(name: str, value: object) -> str | None:
    """The dtype that a constructor says its arguments will have; raises ArgumentError."""
    found = None if value is None else checked_dtype(name, value)
    return None if stands_for_keops() else found  # KeOps looks at the arguments only


def checked_dtype(name: str, value: object, known: Sequence[str] = _FLOATS) -> str:
    """The name of a float dtype, given as that or as NumPy's or PyTorch's; or ArgumentError."""
    torch = sys.modules.get("torch")  # whoever has a dtype of PyTorch's has imported it
    for found in known:
        is_named = isinstance(value, str) and value == found
        is_numpy = isinstance(value, np.dtype) and value.name == found  # bfloat16 has another home
        if is_named or is_numpy or value is getattr(np, found, None) is not None:
            return found
        if torch is not None and value is getattr(torch, found):
            return found
    hint = arguments.nearest(value, known) if isinstance(value, str) else ""
    if known is _FLOATS and isinstance(value, str) and value in _ARRAY_FLOATS:
        hint = ": leave it out, since the dtype of the arguments counts"
    listed = f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
    raise ArgumentError(f"{name} must be {listed}, not {arguments.shown(value)}{hint}")


def check_declared(
    declared: str | None, found: str, reduction: PairReduction, convert: str
) -> None:
    """Raise ArgumentError unless the arguments' dtype is the one that the constructor was given.

    convert  how arrays of the library are converted, with braces for a dtype
    """
    if declared in (None, found):
        return
    names = [parameter.name for parameter in reduction.parameters if not parameter.is_integer]
    who = f"argument {names[0]!r} has" if names else "integers are computed in"
    raise ArgumentError(
        f"{who} dtype {found}, but the constructor was given dtype={declared!r}: convert the "
        f"arguments with {convert.format(declared)}, or leave dtype out, since theirs counts"
    )
