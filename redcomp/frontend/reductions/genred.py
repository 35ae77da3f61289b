"""What the `Genred` of every array library shares: its options, and reading the compiler."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from redcomp import arguments
from redcomp.concurrency import importing
from redcomp.errors import ArgumentError
from redcomp.frontend.language.aliases import parse_aliases, texts_of_aliases
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.frontend.reductions.requests import (
    FormulaSource,
    Request,
    RequestSource,
    formulas_of,
    requests,
    sum_row,
)
from redcomp.frontend.reductions.texts import text_of, values_of
from redcomp.target import Options
from redcomp.tracing import constant_in_graphs

if TYPE_CHECKING:
    from redcomp.backends.gpu import GpuLowering
    from redcomp.backends.host import HostLowering

A = TypeVar("A")

_FLOATS = ("float32", "float64")
DTYPES = {"float32": "f32", "float64": "f64", "f32": "f32", "f64": "f64"}


class Reducer:
    """What is called on arrays: a reduction, and how a call arranges its results.

    reduction     what is computed
    dtype_acc     the dtype of results for arrays of half precision
    is_single     whether a call returns the result of the only formula, and no tuple

    `text` is all of that as a text, from which `reducer_of` makes it again, and `lengths` the
    number of arrays that a call returns for each formula; `dims` are the dimensions of results.
    """

    def __init__(
        self, reduction: PairReduction, *, dtype_acc: str = "auto", is_single: bool = True
    ) -> None:
        self.reduction, self.dtype_acc, self.is_single = reduction, dtype_acc, is_single
        self.axis = 1 if reduction.rows == "i" else 0
        source = reduction.source
        if not isinstance(source, RequestSource):
            raise ArgumentError("a call computes a formula, and no derivative of one")
        self.parts = source.parts()
        kinds = [result.kind for result in self.reduction.results]
        # Whether a call returns the kernel's only result as it is.
        self.is_plain = is_single and kinds in (["value"], ["index"])
        self.lengths = tuple(self._lengths())
        self.dims = tuple([result.dim for result in reduction.results])
        self.text = text_of(reduction, dtype_acc, is_single)

    @classmethod
    def of(
        cls, source: RequestSource[Any], axis: int, options: Options, dtype_acc: str, **rest: Any
    ) -> Reducer:
        """The reduction of a source over an axis, 0 for i or 1 for j."""
        reduction = PairReduction(source, "i" if axis == 1 else "j", options)
        return Reducer(reduction, dtype_acc=dtype_acc, **rest)

    def lower(self, dtype: str = "float32", target: str = "host") -> HostLowering | GpuLowering:
        """Every stage of the compilation for a dtype ("float32", "float64") and a target.

        Targets: "host" (this machine), "avx512", "avx2", "sse2", "neon", or a GPU, from "sm_70" on,
        which need not be there.  The result has `.stages`, `.llvm`, `.asm`, `.schedule` and
        `.stats`.

        Raises ArgumentError for another dtype or target.
        """
        name = arguments.one_of("dtype", dtype, DTYPES)
        return self.reduction.lower(DTYPES[name], arguments.text("target", target))

    def explain(self, dtype: str = "float32", target: str = "host") -> str:
        """The story of the compilation in one screen."""
        with importing:  # it knows the compiler, see `PairReduction.lower`
            from redcomp.explain import explain

        return explain(self.lower(dtype, target), self.reduction.source.formula)

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


class GenredBase(Reducer):
    """A formula over pairs and its reduction; subclasses call it on arrays of their library.

    Arrays of other libraries (CuPy, JAX, TensorFlow, PyArrow, columns of pandas and polars) are
    taken too, without a copy where their layout allows it: see docs/arrays.md.

    formula       text in the formula language; or a list of formulas, all reduced in one sweep
    aliases       the variables, such as "x = Vi(3)", "y = Vj(3)", "p = Pm(1)", "l = Vi(1, int)";
                  one of them may come without a list
    reduction_op  name of the reduction ("Sum"); with several formulas one for all, or a list
    axis          0 reduces over i and gives a result for each j; 1 reduces over j
    opt_arg       K, for KMin and its kin; with several formulas one for all, or a list
    formula2      the weights, for SumSoftMaxWeight, LogSumExp and their kin; likewise
    dtype_acc, use_double_acc, sum_scheme   how sums are accumulated.  Blocks of up to 256 terms are
                  summed in the data's dtype and blocks in float64, which is what "auto" and
                  "block_sum" mean; "kahan_scheme", and "direct_sum" with a float64 accumulator,
                  compensate the rounding of every term.  For float16 and bfloat16 data, which are
                  computed in float32, `dtype_acc` is also the result's dtype.
    use_fast_math allow rewriting that changes rounding, and approximate functions on GPUs, where it
                  is on unless it is declined; on the host it is off unless it is asked for
    dtype, cuda_type                 deprecated: the arguments' dtype counts
    enable_chunks, rec_multVar_highdim   accepted and ignored; schedules choose themselves

    Raises FormulaError (a ValueError) for a formula or an alias that cannot be understood, and
    ArgumentError (a ValueError) for any other argument.
    """

    def __init__(
        self,
        formula: str | Sequence[str],
        aliases: str | Iterable[str],
        reduction_op: str | Sequence[str] = "Sum",
        axis: int = 0,
        dtype: object = None,
        opt_arg: int | Sequence[int | None] | None = None,
        formula2: str | Sequence[str | None] | None = None,
        cuda_type: object = None,
        dtype_acc: str = "auto",
        use_double_acc: bool = False,
        sum_scheme: str = "auto",
        enable_chunks: bool = True,
        rec_multVar_highdim: bool | int | None = False,
        use_fast_math: bool | None = None,
    ) -> None:
        asked = (dtype_acc, use_double_acc, sum_scheme, use_fast_math)
        made = _made(formula, aliases, reduction_op, axis, opt_arg, formula2, asked)
        vars(self).update(vars(made.reducer))
        self.formula, self.aliases = made.formula, made.aliases
        self.reduction_op = reduction_op
        for name, value in (("dtype", dtype), ("cuda_type", cuda_type)):
            _check_deprecated(name, value)

    def __repr__(self) -> str:
        aliases = ", ".join(map(repr, self.aliases))
        return (
            f"Genred({self.formula!r}, [{aliases}], "
            f"reduction_op={self.reduction_op!r}, axis={self.axis})"
        )


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
    axis: int,
    opt_arg: int | Sequence[int | None] | None,
    formula2: str | Sequence[str | None] | None,
    asked: tuple[Any, ...],
) -> _Made:
    """What the arguments of a constructor ask for; raises FormulaError or ArgumentError."""
    axis = checked_axis(axis)
    is_single = isinstance(formula, str)
    formulas, texts = formulas_of(formula), texts_of_aliases(aliases)
    source = FormulaSource(
        requests(formulas, reduction_op, opt_arg, formula2), parse_aliases(texts)
    )
    options = options_of(source.requests, *asked)
    reducer = Reducer.of(source, axis, options, asked[0], is_single=is_single)
    return _Made(reducer, formulas[0] if is_single else formulas, texts)


def checked_axis(axis: object) -> int:
    """0 or 1; raises ArgumentError."""
    found = arguments.integer("axis", axis)
    if found not in (0, 1):
        raise ArgumentError(
            f"axis must be 0 (reduce over i) or 1 (reduce over j), not {arguments.shown(axis)}"
        )
    return found


def options_of(
    requested: Sequence[Request[Any]],
    dtype_acc: object,
    use_double_acc: object,
    sum_scheme: object,
    use_fast_math: object,
) -> Options:
    """How reductions are compiled, from a constructor's options; raises ArgumentError."""
    if use_fast_math is not None:
        use_fast_math = arguments.switch("use_fast_math", use_fast_math)
    return Options(
        use_fast_math=use_fast_math,
        sum=sum_row(requested, dtype_acc, use_double_acc, sum_scheme),
    )


def _check_deprecated(name: str, value: object) -> None:
    """Raise ArgumentError unless a dtype is None, or float32 or float64 as a library names it."""
    torch = sys.modules.get("torch")  # whoever has a dtype of PyTorch's has imported it
    objects = [None, np.float32, np.float64]
    objects += [getattr(torch, dtype, None) for dtype in _FLOATS]
    is_named = isinstance(value, str) and value in _FLOATS
    is_dtype = isinstance(value, np.dtype) and value in (np.float32, np.float64)
    if not (is_named or is_dtype or any(value is known for known in objects)):
        raise ArgumentError(f"{name} must be 'float32' or 'float64', not {arguments.shown(value)}")
