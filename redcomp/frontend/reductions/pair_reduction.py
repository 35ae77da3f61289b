"""A reduction over pairs, independent of the array library: what `Genred` is underneath.

It knows its variables, builds its kernel for each dtype and compiles it once, and keeps the
reductions that are made of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar, cast

from redcomp import config
from redcomp.concurrency import cached_property, importing, once
from redcomp.errors import SizeError
from redcomp.ir import SHORT_FORMATS, Kernel, Kind, replace_variables, variable
from redcomp.limits import MAX_OPERATIONS
from redcomp.ops.reductions import REDUCTIONS, Reduction
from redcomp.passes.cse import with_shared_values
from redcomp.passes.derivatives import arguments_of, numbers_of, results_of
from redcomp.passes.reroll import rerolled
from redcomp.passes.scalars import written_out
from redcomp.passes.transpose import with_indices_exchanged
from redcomp.ptx.targets import height_for
from redcomp.records import record
from redcomp.runtime.driver import given_driver
from redcomp.runtime.kernel import LoadedKernel
from redcomp.target import Height, Options

if TYPE_CHECKING:
    from redcomp.backends.gpu import GpuLowering
    from redcomp.backends.host import HostLowering

HOST = "host"
ROWS: tuple[Kind, ...] = ("i", "j")


@record
class Parameter:
    """One argument of a call, in the order of the call."""

    name: str
    kind: Kind
    dim: int
    is_integer: bool


class Source(Protocol):
    """What kernels are made from."""

    def kernel(self, dtype: str) -> Kernel:
        """The kernel over rows i and columns j, as the formula names them."""

    @property
    def subject(self) -> str:
        """What an error about the kernel is about: "the formula", or something made of it."""

    @property
    def formula(self) -> str:
        """The formula's text, or several formulas' texts with commas between them."""


@dataclass(eq=False)
class PairReduction:
    """One or more results, all reduced over the same axis; rows are what is left.

    source      what its kernels are made from
    rows        "i" if it reduces over j (axis 1), "j" if it reduces over i (axis 0), "ij" if some
                outputs do the one and some the other: it is compiled as its two `parts`
    described   the dtype of the kernel that it is described by: which variables and results there
                are does not depend on it.  "f64" has numbers that "f32" lacks; what is derived has
                the dtype that its parent was last computed in, so that its kernel is made once
    decided     what a library has decided for the latest calls of a reducer, by reducer
    """

    source: Source
    rows: Kind
    options: Options
    described: str = "f64"
    _kernels: dict[str, Kernel] = field(default_factory=dict, repr=False)
    _compiled: dict[tuple[str, Height, str, object], LoadedKernel] = field(
        default_factory=dict, repr=False
    )
    _derived: dict[Source, PairReduction] = field(default_factory=dict, repr=False)
    _remembered: dict[Callable[..., Any], Callable[..., Any]] = field(
        default_factory=dict, repr=False
    )
    decided: dict[object, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        kernel = self.description
        self.parameters = tuple(
            Parameter(v["name"], v["kind"], v.dim, not v.type.is_float)
            for v in arguments_of(kernel)
        )
        self.results = results_of(kernel)

    def __getstate__(self) -> dict[str, object]:
        # Compiled code stays behind; what it is made from is enough to make it again.
        return {"source": self.source, "rows": self.rows, "options": self.options}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # mypy wants no call of __init__ on an object

    @property
    def reductions(self) -> list[Reduction]:
        """How each output is reduced."""
        return [REDUCTIONS[output.reduction] for output in self.description.outputs]

    @property
    def rows_of_outputs(self) -> tuple[Kind, ...]:
        """What is left of i and j in each output."""
        if self.rows != "ij":
            return (self.rows,) * len(self.description.outputs)
        assert isinstance(self.source, DerivedSource)
        return self.source.rows_of_outputs

    @cached_property
    def parts(self) -> tuple[PairReduction, ...]:
        """The reductions with one kernel each that it consists of, in the order of results."""
        if self.rows != "ij":
            return (self,)
        return tuple(self.derive(PartSource(self, rows), rows) for rows in ROWS)

    # -- kernels -----------------------------------------------------------------------------------

    def kernel(self, dtype: str) -> Kernel:
        """The kernel in "f32" or "f64", reducing over j whatever the axis."""
        assert self.rows != "ij"  # only its parts have kernels that can be compiled
        kernel = self.untransposed(dtype)
        outputs = tuple(
            replace(o, reduction=self.options.sum) if o.reduction == "sum" else o
            for o in kernel.outputs
        )
        kernel = Kernel(kernel.params, outputs)
        return kernel if self.rows == "i" else with_indices_exchanged(kernel)

    @property
    def description(self) -> Kernel:
        """The kernel, with the formula's own i and j, in whichever dtype."""
        return self.untransposed(self.described)

    def untransposed(self, dtype: str) -> Kernel:
        """The kernel with the formula's own i and j."""
        if dtype not in self._kernels:
            # Equal values are one before they are differentiated: it gets one cotangent.
            # So are long sums of like terms, which become loops.
            kernel = rerolled(with_shared_values(self.source.kernel(dtype)))
            if self.rows != "ij" and written_out(kernel.values) > MAX_OPERATIONS:
                raise self._too_large(f"becomes more than {MAX_OPERATIONS:,} operations")
            self._kernels[dtype] = kernel
        return self._kernels[dtype]

    def _too_large(self, what: str) -> SizeError:
        """The error of a formula that a limit forbids, or whose derivative it forbids."""
        return SizeError(what, self.source.subject, self.source.formula)

    # -- derived reductions ------------------------------------------------------------------------

    @property
    def numbers(self) -> tuple[Kind, ...]:
        """The kinds of the numbers that the formulas have: "i_index", "j_index"."""
        return numbers_of(self.description.params)

    def derive(self, source: Source, rows: Kind) -> PairReduction:
        """The reduction with the same options that another source gives; made once."""
        known = self._derived.get(source)
        if known is None:
            latest = next(reversed(self._kernels))
            made = PairReduction(source, rows, self.options, latest)
            known = self._derived.setdefault(source, made)
        return known

    def stored_as(self, format: str) -> PairReduction:
        """The same reduction of arrays that are stored in a format: a dtype, or a shorter one."""
        is_short = format in SHORT_FORMATS
        return self.derive(StoredSource(self, format), self.rows) if is_short else self

    # -- compilation -------------------------------------------------------------------------------

    def lower(
        self, dtype: str, target: str = HOST, rows: int | None = None
    ) -> HostLowering | GpuLowering:
        """The compilation for a dtype, a target and a number of rows (None: many), by stages."""
        # The compiler is half of redcomp, and LLVM, which nobody waits for who only imports it.
        with importing:
            from redcomp.compile import lower

        made = lower(self.kernel(dtype), target, self.options, rows)
        made.dumper.about("formula", lambda: self.source.formula)
        if isinstance(self.source, DerivedSource) and made.dumper.is_wanted:
            for stage, kernel in self.history(dtype).items():
                made.dumper.made_from(stage, kernel)
        return made

    def history(self, dtype: str) -> dict[str, Kernel]:
        """The kernels from the formula's to its own, by what has been done to the one before."""
        source = self.source
        if not isinstance(source, DerivedSource):
            return {"formula": self.untransposed(dtype)}
        before = source.parent.history(dtype)
        name = source.stage
        if name in before:
            name = f"{name}-after-{[*before][-1]}"
        return {**before, name: self.untransposed(dtype)}

    def compiled(self, dtype: str, rows: int, target: str = HOST) -> LoadedKernel:
        """The loaded kernel for a dtype and a number of rows, compiled at the first call.

        The target is "host", which REDCOMP_TARGET may name, or a device's.
        """
        name = config.target() or HOST if target == HOST else target
        driver = None if target == HOST else given_driver()  # to which loaded kernels belong
        key = (dtype, height_for(name, rows), name, driver)
        kernel = self._compiled.get(key)
        if kernel is None:
            try:
                kernel = once(self._compiled, key, lambda: self.lower(dtype, target, rows).load())
            except SizeError as error:
                raise self._too_large(error.what) from None
        return kernel


@record
class DerivedSource(Source):
    """A source of kernels that are made from those of another reduction; `stage` is how."""

    stage: ClassVar[str]
    parent: PairReduction

    @property
    def subject(self) -> str:
        return "a derivative of it"

    @property
    def formula(self) -> str:
        return self.parent.source.formula

    @property
    def rows_of_outputs(self) -> tuple[Kind, ...]:
        """What is left of i and j in each output, where that differs: rows i come first."""
        return self.parent.rows_of_outputs


@record
class PartSource(DerivedSource):
    """The outputs that have a result for each i, or each j."""

    stage = "one-axis"
    rows: Kind

    def kernel(self, dtype: str) -> Kernel:
        whole = self.parent.untransposed(dtype)
        of_outputs = zip(whole.outputs, self.parent.rows_of_outputs, strict=True)
        return Kernel(whole.params, tuple(o for o, rows in of_outputs if rows == self.rows))


@record
class StoredSource(DerivedSource):
    """A reduction of arrays whose numbers were stored in half precision, "f16" or "bf16".

    They are converted before the kernel reads them.  Numbers of parameters may never have been
    stored so, and arrays that derivatives take are not.
    """

    stage = "stored"
    format: str

    @property
    def subject(self) -> str:
        return self.parent.source.subject

    def kernel(self, dtype: str) -> Kernel:
        whole = self.parent.untransposed(dtype)
        return replace_variables(
            whole,
            {
                v: variable(v["name"], v["kind"], v["position"], v.type, v.span, self.format)
                if v["kind"] in ROWS and v.dtype == "f32"
                else v
                for v in whole.params
            },
        )


R = TypeVar("R")
P = ParamSpec("P")
# Results of a function that a reduction keeps, of calls with different other arguments.
_REMEMBERED = 128


def remembered(
    function: Callable[Concatenate[PairReduction, P], R],
) -> Callable[Concatenate[PairReduction, P], R]:
    """The function, its latest results kept by the reduction, as long as that lives.

    A cache of the function's own would hold reductions, and their machine code, that nobody needs.
    Arguments are given by position: names take time.
    """

    @functools.wraps(function)
    def look_up(reduction: PairReduction, /, *rest: Any) -> R:
        known = reduction._remembered.get(function)
        if known is None:
            own = functools.partial(function, reduction)
            known = functools.lru_cache(maxsize=_REMEMBERED)(own)
            known = reduction._remembered.setdefault(function, known)
        try:
            result: R = known(*rest)
        except TypeError:  # sizes that are symbols of PyTorch's have no hash: nothing is kept
            make: Callable[..., R] = function
            result = make(reduction, *rest)
        return result

    return cast(Callable[Concatenate[PairReduction, P], R], look_up)
