"""What every call shares: checks of arguments, its sizes, and the launch of the kernel.

`prepare` keeps what follows from the shapes; a warm call looks it up and adds addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from redcomp import config
from redcomp.concurrency import cached_property
from redcomp.errors import ArgumentError
from redcomp.frontend.language.integers import fits
from redcomp.frontend.reductions.pair_reduction import HOST, PairReduction, Parameter, remembered
from redcomp.frontend.reductions.ranges import Ranges, read_ranges
from redcomp.ir import INTEGER_OF_WIDTH, NUMPY_DTYPES, SIZES
from redcomp.limits import MAX_AXES
from redcomp.runtime.kernel import BatchLayout, Executor, LoadedKernel
from redcomp.runtime.tasks import Blocks, whole

_ONE = (1, "")
# The shapes that a variable of dimension 1, and of another one, may have (see `shapes`).
_SHAPES_OF_SCALARS = {
    "i": "(M, 1) or (M,)",
    "j": "(N, 1) or (N,)",
    "ij": "(M, N, 1)",
    "parameter": "(1,), () or (1, 1)",
}
_SHAPES = {
    "i": "(M, {D})",
    "j": "(N, {D})",
    "ij": "(M, N, {D})",
    "parameter": "({D},), (1, {D}) or ({D}, 1)",
}
# What the axes count that are before the components and after those of the batch.
AXES: Mapping[str, str] = {"i": "i", "j": "j", "ij": "ij", "parameter": ""}


# The positions of arguments by their names: pairs, which tracers of Python can look through.
Positions = tuple[tuple[str, int], ...]


def check_count(reduction: PairReduction, args: Sequence[object]) -> None:
    """Raise ArgumentError unless there is an argument for each variable."""
    if len(args) == len(reduction.parameters):
        return
    names = [parameter.name for parameter in reduction.parameters]
    if len(args) == 1 and isinstance(args[0], (list, tuple)) and len(args[0]) == len(names):
        hint = ": write op(*arguments) instead of op(arguments)"
    elif len(args) == 1 and isinstance(args[0], Mapping):
        hint = ": write op(**arguments) instead of op(arguments)"
    else:
        missing = ", ".join(map(repr, names[len(args) :]))
        hint = f": {missing} missing" if missing else ""
    listed = ", ".join(names)
    raise ArgumentError(f"expected {len(names)} arguments ({listed}), but {len(args)} came{hint}")


def positions_of(reduction: PairReduction) -> Positions:
    """The position of each argument, by every name that formulas and errors have for it."""
    found = {parameter.name: n for n, parameter in enumerate(reduction.parameters)}
    aliases = getattr(reduction.source, "aliases", ())
    found |= {alias.name: alias.position for alias in aliases if alias.name}
    return tuple(found.items())


def check_integers(parameter: Parameter, low: int, high: int, dtype: str) -> None:
    """Raise ArgumentError unless the integers of a kernel hold an argument's extreme values."""
    if fits(low, dtype) and fits(high, dtype):
        return
    number = high if fits(low, dtype) else low
    held = NUMPY_DTYPES[INTEGER_OF_WIDTH[dtype]].__name__
    raise ArgumentError(
        f"argument {parameter.name!r} has the value {number}, which does not fit into {held}, "
        f"the integers of a call in {NUMPY_DTYPES[dtype].__name__}"
    )


def mixed_dtypes(
    argument: tuple[str, object], first: tuple[str, object], convert: Callable[[Any], str]
) -> ArgumentError:
    """The error of two arguments with different dtypes, each a name and a dtype.

    convert  how an array of the library is converted to a dtype
    """
    (name, dtype), (other, of_other) = argument, first
    return ArgumentError(
        f"argument {name!r} has dtype {dtype}, but {other!r} has {of_other}: all arguments must "
        f"have the same; convert {name} with {convert(of_other)}, or {other} with {convert(dtype)}"
    )


class Sizes(NamedTuple):
    """What a call computes: rows of the result, columns reduced over, dimensions of the batch."""

    rows: int
    columns: int
    batch: tuple[int, ...]

    def by_kind(self, reduction: PairReduction) -> dict[str, int]:
        """The numbers of i and of j, whichever the reduction is over."""
        i, j = (self.columns, self.rows) if reduction.rows == "j" else (self.rows, self.columns)
        return {"i": i, "j": j}


def sizes(reduction: PairReduction, shapes: tuple[Sequence[int], ...]) -> Sizes:
    """The sizes of a call whose arguments have these full shapes; checks them all.

    An index without any variable has size 1.  Where a reduction has results of rows and of columns,
    rows are the i.  Raises ArgumentError.
    """
    parameters = reduction.parameters
    found: dict[str, tuple[int, str]] = {}
    is_batch = False
    for parameter, shape in zip(parameters, shapes, strict=True):
        axes = AXES[parameter.kind]
        own = len(axes) + 1
        if len(shape) < own or shape[-1] != parameter.dim:
            raise ArgumentError(_shape_message(parameter, shape))
        if len(shape) > MAX_AXES:
            raise ArgumentError(
                f"argument {parameter.name!r} has {len(shape)} axes; at most {MAX_AXES} are "
                "possible, those of a batch included"
            )
        is_batch = is_batch or len(shape) > own
        for index, count, what in zip(axes, shape[-own:], ("rows", "columns"), strict=False):
            size, first = found.setdefault(index, (count, parameter.name))
            if size != count:
                names = ", ".join(p.name for p in parameters)
                raise ArgumentError(
                    f"argument {parameter.name!r} has {count} {what}, but {first!r} has {size}: "
                    f"all {index}-variables must have the same number; the order is {names}"
                )
    rows, columns = ("j", "i") if reduction.rows == "j" else ("i", "j")
    batch = _batch(reduction, shapes) if is_batch else ()
    return Sizes(found.get(rows, _ONE)[0], found.get(columns, _ONE)[0], batch)


def _batch(reduction: PairReduction, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The dimensions that arguments have before their own, broadcast."""
    batch: tuple[int, ...] = ()
    for parameter, shape in zip(reduction.parameters, shapes, strict=True):
        own = tuple(shape[: len(shape) - len(AXES[parameter.kind]) - 1])
        together = broadcast(batch, own)
        if together is None:
            raise ArgumentError(
                f"argument {parameter.name!r} has batch dimensions {own}, which do not broadcast "
                f"with {batch}, those of the arguments before it"
            )
        batch = together
    return batch


def broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The shape that both have together; None if they do not fit.

    NumPy's function of that name takes no sizes that are symbols.
    """
    count = max(len(a), len(b))
    a, b = ((1,) * (count - len(shape)) + tuple(shape) for shape in (a, b))
    if any(m != n and m != 1 and n != 1 for m, n in zip(a, b, strict=True)):
        return None
    return tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


@dataclass(frozen=True, eq=False)
class Call:
    """What follows from the shapes of a call's arguments and the dtype that it is computed in.

    dtype    of the kernel: "f32" or "f64"
    shapes   of the arguments, in full
    results  the shape of each result
    """

    reduction: PairReduction
    dtype: str
    shapes: tuple[Sequence[int], ...]
    size: Sizes
    results: tuple[tuple[int, ...], ...]
    _on_host: dict[str, LoadedKernel] = field(default_factory=dict, repr=False)

    @cached_property
    def dense(self) -> Blocks:
        """All rows, each with all columns."""
        return whole(self.size.rows, self.size.columns)

    @cached_property
    def layout(self) -> BatchLayout:
        """Where entries of the batch have their parts of arrays."""
        return _layout(self.reduction, self.dtype, self.shapes, self.size)

    def ranges(self, ranges: object) -> Ranges:
        """`ranges` for these sizes, checked; raises ArgumentError."""
        counts = self.size.by_kind(self.reduction)
        return read_ranges(ranges, counts["i"], counts["j"])

    def blocks(self, ranges: Ranges | None) -> Blocks:
        """The rows and columns of every entry that are visited."""
        return self.dense if ranges is None else ranges.blocks(self.reduction.rows)

    def launch(
        self,
        blocks: Blocks,
        outputs: Sequence[int],
        arguments: Sequence[int],
        executor: Executor | None = None,
    ) -> None:
        """Compute the rows of the blocks; addresses of contiguous outputs and arguments.

        The executor is a GPU and how it gets at the arrays, or None for the host.
        """
        if not blocks.covered or 0 in self.size.batch:
            return
        if executor is None and blocks is self.dense:
            kernel = self._on_host.get(config.target()) or self._compiled_for_host()
        else:
            target = HOST if executor is None else executor.device.target
            kernel = self.reduction.compiled(self.dtype, blocks.tallest, target)
        kernel(blocks, outputs, arguments, self.layout, executor)

    def _compiled_for_host(self) -> LoadedKernel:
        """What computes all rows on the host, by the name that REDCOMP_TARGET has now."""
        name = config.target()
        kernel = self.reduction.compiled(self.dtype, self.dense.tallest)
        return self._on_host.setdefault(name, kernel)


@remembered
def prepare(reduction: PairReduction, dtype: str, shapes: tuple[Sequence[int], ...]) -> Call:
    """The call with arguments of these full shapes; raises ArgumentError if they do not fit."""
    size = sizes(reduction, shapes)
    counts, rows = size.by_kind(reduction), reduction.rows_of_outputs
    results = tuple((*size.batch, counts[rows[r.output]], r.dim) for r in reduction.results)
    return Call(reduction, dtype, shapes, size, results)


def _layout(
    reduction: PairReduction, dtype: str, shapes: tuple[Sequence[int], ...], size: Sizes
) -> BatchLayout:
    """Where entries of the batch have their parts of results and arguments."""
    own, steps = [], []
    for result in reduction.results:
        own.append(size.batch)
        steps.append(size.rows * result.dim * SIZES["i64" if result.kind == "index" else dtype])
    for parameter, shape in zip(reduction.parameters, shapes, strict=True):
        axes = len(shape) - len(AXES[parameter.kind]) - 1
        own.append(tuple(shape[:axes]))
        steps.append(prod(shape[axes:]) * SIZES[dtype])
    columns = size.by_kind(reduction)["j"]
    return BatchLayout(size.rows, columns, size.batch, tuple(own), tuple(steps))


def _shape_message(parameter: Parameter, shape: Sequence[int]) -> str:
    table = _SHAPES_OF_SCALARS if parameter.dim == 1 else _SHAPES
    expected = table[parameter.kind].format(D=parameter.dim)
    instead = ""
    if parameter.kind in ("i", "j") and len(shape) == 2 and shape[0] == parameter.dim:
        instead = f": give its transpose, {parameter.name}.T"
    if parameter.kind == "parameter" and len(shape) == parameter.dim == 1:
        instead = ": a number for each i or each j is Vi(1) or Vj(1)"
    return (
        f"argument {parameter.name!r} must have shape {expected}, as its alias says, after any "
        f"dimensions of a batch; it has shape {tuple(shape)}{instead}"
    )
