"""What the `Genred` of every array library shares: options, checks, reading the compiler."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from redcomp.compile import Lowering, Options
from redcomp.errors import ArgumentError, FormulaError
from redcomp.explain import explain
from redcomp.frontend.aliases import parse_aliases
from redcomp.frontend.pair_reduction import FormulaSource, PairReduction, Parameter, Request
from redcomp.frontend.ranges import Ranges, read_ranges
from redcomp.llvm_backend.schedule import SIZES
from redcomp.ops.reductions import REDUCTIONS, REDUCTIONS_BY_SPELLING, USUAL_SPELLINGS
from redcomp.runtime.tasks import Blocks, Integers, whole

A = TypeVar("A")

DTYPES = {"float32": "f32", "float64": "f64", "f32": "f32", "f64": "f64"}
HOST_BACKENDS = ("auto", "CPU")
GPU_BACKENDS = (
    "GPU",
    "GPU_1D",
    "GPU_1D_device",
    "GPU_1D_host",
    "GPU_2D",
    "GPU_2D_device",
    "GPU_2D_host",
)
_ONE = (1, "")
_OWN_AXES = {"i": 2, "j": 2, "parameter": 1}
_SHAPES = {"i": "(M, {})", "j": "(N, {})", "parameter": "({},)"}


# K-minima are kept in memory that each worker has.
MAX_COUNT = 4096


class GenredBase:
    """A formula over pairs and its reduction; subclasses call it on arrays of their library.

    formula       text in the formula language; or a list of formulas, all reduced in one sweep
    aliases       the variables, such as "x = Vi(3)", "y = Vj(3)", "p = Pm(1)"
    reduction_op  name of the reduction ("Sum"); with several formulas one for all, or a list
    axis          0 reduces over i and gives a result for each j; 1 reduces over j
    opt_arg       K, for KMin and its kin; with several formulas one for all, or a list
    formula2      the weights, for SumSoftMaxWeight, LogSumExp and their kin; likewise
    dtype_acc, use_double_acc, sum_scheme   how sums are accumulated.  Blocks of up to 256 terms are
                  summed in the data's dtype and blocks in float64, which is what "auto" and
                  "block_sum" mean; "kahan_scheme", and "direct_sum" with a float64 accumulator,
                  compensate the rounding of every term.  For float16 and bfloat16 data, which are
                  computed in float32, `dtype_acc` is also the result's dtype.
    use_fast_math allow rewriting that changes rounding; on the host off unless it is asked for
    dtype, cuda_type                 deprecated: the arguments' dtype counts
    enable_chunks, rec_multVar_highdim   accepted and ignored; schedules choose themselves

    Raises FormulaError (a ValueError) for a formula or an alias that cannot be understood, and
    ArgumentError (a ValueError) for any other argument.
    """

    def __init__(
        self,
        formula: str | Sequence[str],
        aliases: Sequence[str],
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
        for name, value in (("dtype", dtype), ("cuda_type", cuda_type)):
            if value is not None and str(value).rsplit(".", 1)[-1] not in ("float32", "float64"):
                raise ArgumentError(f"{name}={value!r}: expected 'float32' or 'float64'")
        if axis not in (0, 1):
            raise ArgumentError(
                f"axis must be 0 (reduce over i) or 1 (reduce over j), not {axis!r}"
            )
        self.formula, self.aliases = formula, tuple(aliases)
        self.reduction_op, self.axis, self.dtype_acc = reduction_op, axis, dtype_acc
        self.is_single = isinstance(formula, str)
        self.requests = requests(formula, reduction_op, opt_arg, formula2)
        options = Options(
            use_fast_math=bool(use_fast_math),
            sum=_sum_row(self.requests, dtype_acc, use_double_acc, sum_scheme),
        )
        source = FormulaSource(self.requests, parse_aliases(list(aliases)))
        self.reduction = PairReduction(source, "i" if axis == 1 else "j", options)
        self.parts = source.parts()
        kinds = [result.kind for result in self.reduction.results]
        # Whether a call returns the kernel's only result as it is.
        self.is_plain = self.is_single and kinds in (["value"], ["index"])

    def __repr__(self) -> str:
        aliases = ", ".join(map(repr, self.aliases))
        return (
            f"Genred({self.formula!r}, [{aliases}], "
            f"reduction_op={self.reduction_op!r}, axis={self.axis})"
        )

    def lower(self, dtype: str = "float32", target: str = "host") -> Lowering:
        """Every stage of the compilation for a dtype ("float32", "float64") and a target.

        Targets: "host" (this machine) or "avx512", "avx2", "sse2", "neon".  The result has
        `.stages`, `.llvm`, `.asm`, `.schedule` and `.stats`.
        """
        if dtype not in DTYPES:
            raise ArgumentError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
        return self.reduction.lower(DTYPES[dtype], target)

    def explain(self, dtype: str = "float32", target: str = "host") -> str:
        """The story of the compilation in one screen."""
        title = self.formula if isinstance(self.formula, str) else ", ".join(self.formula)
        return explain(self.lower(dtype, target), title)

    def stored_dtype(self, dtype: str) -> str:
        """The dtype of values that are returned for arguments of a dtype ("f16", "f32", ...).

        Half precision is for storage, and `dtype_acc` may ask for more.
        """
        is_half = dtype in ("f16", "bf16")
        return DTYPES.get(self.dtype_acc, dtype) if is_half else dtype

    def arranged(self, results: Sequence[A], stack: Callable[[list[A]], A]) -> Any:
        """What a call returns, from all results of the kernel.

        One entry a formula, which is itself a tuple for values with their places; `stack` joins
        arrays of the components of a vector along a new last axis.
        """
        entries = []
        outputs = iter(range(sum(self.parts)))
        for parts in self.parts:
            own = [
                [
                    array
                    for array, result in zip(results, self.reduction.results, strict=True)
                    if result.output == output and not result.is_hidden
                ]
                for output in itertools.islice(outputs, parts)
            ]
            joined = [c[0] if parts == 1 else stack(list(c)) for c in zip(*own, strict=True)]
            entries.append(joined[0] if len(joined) == 1 else tuple(joined))
        return entries[0] if self.is_single else tuple(entries)


def requests(
    formula: str | Sequence[str], reduction_op: Any, opt_arg: Any, formula2: Any
) -> tuple[Request, ...]:
    """One request for each formula; raises FormulaError or ArgumentError."""
    formulas = [formula] if isinstance(formula, str) else list(formula)
    if not formulas:
        raise ArgumentError("there is no formula")
    each = {
        name: _for_each(name, value, len(formulas))
        for name, value in (
            ("reduction_op", reduction_op),
            ("opt_arg", opt_arg),
            ("formula2", formula2),
        )
    }
    return tuple(map(_request, formulas, each["reduction_op"], each["opt_arg"], each["formula2"]))


def _for_each(name: str, value: Any, count: int) -> list[Any]:
    """A list with one item a formula; what is no list serves all formulas."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ArgumentError(f"{name} has {len(value)} items for {count} formulas")
    return list(value)


def _request(formula: str, reduction_op: str, opt_arg: object, weights: str | None) -> Request:
    row = REDUCTIONS_BY_SPELLING.get(reduction_op)
    if row is None:
        known = ", ".join(USUAL_SPELLINGS)
        raise FormulaError(f"unknown reduction_op {reduction_op!r}; known ones: {known}")
    if weights is not None and row.takes != "weights":
        if not row.weighted:
            raise ArgumentError(f"formula2 means nothing for reduction_op={reduction_op!r}")
        row = REDUCTIONS[row.weighted]
    if weights is None and row.takes == "weights":
        raise ArgumentError(f"reduction_op={reduction_op!r} needs formula2, the weights")
    if not row.keeps and opt_arg is not None:
        raise ArgumentError(f"opt_arg means nothing for reduction_op={reduction_op!r}")
    return Request(formula, row.name, weights, _count(reduction_op, opt_arg) if row.keeps else 0)


def _count(reduction_op: str, opt_arg: object) -> int:
    if isinstance(opt_arg, bool) or not isinstance(opt_arg, (int, np.integer)):
        raise ArgumentError(
            f"reduction_op={reduction_op!r} needs opt_arg, the number K of columns to keep, "
            f"an integer; it is {opt_arg!r}"
        )
    if not 1 <= opt_arg <= MAX_COUNT:
        raise ArgumentError(f"opt_arg must be from 1 to {MAX_COUNT}, not {opt_arg}")
    return int(opt_arg)


def _sum_row(
    requested: Sequence[Request], dtype_acc: str, use_double_acc: bool, sum_scheme: str
) -> str:
    """The row that sums; totals are float64 anyway, so what asks for less or as much is granted."""
    if dtype_acc not in ("auto", "float16", "float32", "float64"):
        raise ArgumentError(
            f"dtype_acc must be auto, float16, float32 or float64, not {dtype_acc!r}"
        )
    if use_double_acc and dtype_acc not in ("auto", "float64"):
        raise ArgumentError(f"use_double_acc contradicts dtype_acc={dtype_acc!r}")
    if sum_scheme not in ("auto", "block_sum", "direct_sum", "kahan_scheme"):
        raise ArgumentError(
            f"sum_scheme must be auto, block_sum, direct_sum or kahan_scheme, not {sum_scheme!r}"
        )
    is_default = dtype_acc == sum_scheme == "auto" and not use_double_acc
    if not is_default and not any(REDUCTIONS[r.reduction].accumulates for r in requested):
        raise ArgumentError("dtype_acc, use_double_acc and sum_scheme mean nothing without sums")
    is_double = use_double_acc or dtype_acc == "float64"
    is_compensated = sum_scheme == "kahan_scheme" or (sum_scheme == "direct_sum" and is_double)
    return "compensated_sum" if is_compensated else "sum"


def check_backend(backend: str) -> None:
    """Raise ArgumentError unless the backend is known and can be had."""
    if backend in HOST_BACKENDS:
        return
    if backend in GPU_BACKENDS:
        raise ArgumentError(f"backend={backend!r}: this version of redcomp runs on the host only")
    known = ", ".join(HOST_BACKENDS + GPU_BACKENDS)
    raise ArgumentError(f"backend must be one of {known}, not {backend!r}")


def check_count(reduction: PairReduction, count: int) -> None:
    """Raise ArgumentError unless there is an argument for each variable."""
    parameters = reduction.parameters
    if count != len(parameters):
        listed = ", ".join(p.name for p in parameters)
        raise ArgumentError(f"expected {len(parameters)} arguments ({listed}), but {count} came")


class Sizes(NamedTuple):  # made at each call, three times as fast as a dataclass
    """What a call computes: rows of the result, columns reduced over, dimensions of the batch."""

    rows: int
    columns: int
    batch: tuple[int, ...]

    def ranges(self, reduction: PairReduction, ranges: object) -> Ranges | None:
        """A call's `ranges`, checked; raises ArgumentError."""
        if ranges is None:
            return None
        counts = (self.rows, self.columns)
        return read_ranges(ranges, *(counts if reduction.rows == "i" else counts[::-1]))

    def blocks(self, reduction: PairReduction, ranges: Ranges | None) -> Blocks:
        """The rows and columns of every entry that are visited."""
        return whole(self.rows, self.columns) if ranges is None else ranges.blocks(reduction.rows)


def sizes(reduction: PairReduction, shapes: Sequence[Sequence[int]]) -> Sizes:
    """The sizes of a call whose arguments have these shapes; checks them all.

    An index without any variable has size 1.  Raises ArgumentError.
    """
    parameters = reduction.parameters
    found: dict[str, tuple[int, str]] = {}
    is_batch = False
    for parameter, shape in zip(parameters, shapes, strict=True):
        kind = parameter.kind
        own = _OWN_AXES[kind]
        if len(shape) < own or shape[-1] != parameter.dim:
            raise ArgumentError(_shape_message(parameter, shape))
        is_batch = is_batch or len(shape) > own
        if kind == "parameter":
            continue
        size, first = found.setdefault(kind, (shape[-2], parameter.name))
        if size != shape[-2]:
            raise ArgumentError(
                f"argument {parameter.name!r} has {shape[-2]} rows, but {first!r} has {size}: "
                f"all {kind}-variables must have the same number"
            )
    columns = "j" if reduction.rows == "i" else "i"
    batch = _batch(reduction, shapes) if is_batch else ()
    return Sizes(found.get(reduction.rows, _ONE)[0], found.get(columns, _ONE)[0], batch)


def _batch(reduction: PairReduction, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The dimensions that arguments have before their own, broadcast."""
    batch: tuple[int, ...] = ()
    for parameter, shape in zip(reduction.parameters, shapes, strict=True):
        own = tuple(shape[: len(shape) - _OWN_AXES[parameter.kind]])
        try:
            batch = np.broadcast_shapes(batch, own)
        except ValueError:
            raise ArgumentError(
                f"argument {parameter.name!r} has batch dimensions {own}, which do not broadcast "
                f"with {batch}, those of the arguments before it"
            ) from None
    return batch


def launch(
    reduction: PairReduction,
    dtype: str,
    size: Sizes,
    blocks: Blocks,
    outputs: Sequence[int],
    arguments: Sequence[int],
    shapes: Sequence[Sequence[int]],
) -> None:
    """Compute the rows of the blocks; addresses of contiguous outputs and arguments of `shapes`."""
    if blocks.covered and 0 not in size.batch:
        offsets = _offsets(reduction, dtype, size, shapes) if size.batch else None
        reduction.compiled(dtype, blocks.tallest)(blocks, outputs, arguments, offsets)


def _offsets(
    reduction: PairReduction, dtype: str, size: Sizes, shapes: Sequence[Sequence[int]]
) -> Integers:
    """(entries of the batch, outputs and arguments): bytes to the entry's part of the array."""
    columns = [
        _entries(
            size.batch,
            size.batch,
            size.rows * result.dim * SIZES["i64" if result.kind == "index" else dtype],
        )
        for result in reduction.results
    ]
    for parameter, shape in zip(reduction.parameters, shapes, strict=True):
        axes = len(shape) - _OWN_AXES[parameter.kind]
        columns.append(_entries(tuple(shape[:axes]), size.batch, prod(shape[axes:]) * SIZES[dtype]))
    return np.stack(columns, axis=1)


def _entries(own: tuple[int, ...], batch: tuple[int, ...], step: int) -> Integers:
    """For each entry of the batch, `step` times the number of the array's own entry."""
    numbers = step * np.arange(prod(own), dtype=np.int64)
    return np.broadcast_to(numbers.reshape(own), batch).ravel()


def _shape_message(parameter: Parameter, shape: Sequence[int]) -> str:
    expected = _SHAPES[parameter.kind].format(parameter.dim)
    return (
        f"argument {parameter.name!r} must have shape {expected}, as its alias says, after any "
        f"dimensions of a batch; it has shape {tuple(shape)}"
    )
