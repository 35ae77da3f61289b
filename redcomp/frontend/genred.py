"""What the `Genred` of every array library shares: options, checks, reading the compiler."""

from __future__ import annotations

from collections.abc import Sequence

from redcomp.compile import Lowering, Options
from redcomp.errors import ArgumentError
from redcomp.explain import explain
from redcomp.frontend.pair_reduction import PairReduction, Parameter, make_reduction

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
_SHAPES = {"i": "(M, {})", "j": "(N, {})", "parameter": "({},)"}


class GenredBase:
    """A formula over pairs and its reduction; subclasses call it on arrays of their library.

    formula       text in the formula language
    aliases       the variables, such as "x = Vi(3)", "y = Vj(3)", "p = Pm(1)"
    reduction_op  name of the reduction ("Sum")
    axis          0 reduces over i and gives a result for each j; 1 reduces over j
    use_fast_math allow rewriting that changes rounding; on the host off unless it is asked for
    dtype, cuda_type                 deprecated: the arguments' dtype counts
    enable_chunks, rec_multVar_highdim   accepted and ignored; schedules choose themselves

    Raises FormulaError (a ValueError) for a formula or an alias that cannot be understood.
    """

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        reduction_op: str = "Sum",
        axis: int = 0,
        dtype: object = None,
        opt_arg: object = None,
        formula2: str | None = None,
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
        if formula2 is not None or opt_arg is not None:
            name = "formula2" if formula2 is not None else "opt_arg"
            raise ArgumentError(f"{name} means nothing for reduction_op={reduction_op!r}")
        _check_accumulation(dtype_acc, use_double_acc, sum_scheme)
        self.formula, self.aliases = formula, tuple(aliases)
        self.reduction_op, self.axis = reduction_op, axis
        options = Options(use_fast_math=bool(use_fast_math))
        self.reduction = make_reduction((formula,), self.aliases, reduction_op, axis, options)

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
        return explain(self.lower(dtype, target), self.formula)


def _check_accumulation(dtype_acc: str, use_double_acc: bool, sum_scheme: str) -> None:
    """Sums are block sums with float64 totals; what asks for less or for as much is granted."""
    if dtype_acc not in ("auto", "float32", "float64"):
        raise ArgumentError(f"dtype_acc must be auto, float32 or float64, not {dtype_acc!r}")
    if use_double_acc and dtype_acc not in ("auto", "float64"):
        raise ArgumentError(f"use_double_acc contradicts dtype_acc={dtype_acc!r}")
    if sum_scheme not in ("auto", "block_sum"):
        raise ArgumentError(
            f"sum_scheme must be auto or block_sum in this version of redcomp, not {sum_scheme!r}"
        )


def check_call(backend: str, ranges: object, out: object) -> None:
    """Raise ArgumentError unless the call's options are known and can be had."""
    for name, value in (("ranges", ranges), ("out", out)):
        if value is not None:
            raise ArgumentError(f"{name} is not supported by this version of redcomp")
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


def sizes(reduction: PairReduction, shapes: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The numbers of rows (of the result) and of columns (reduced over); checks all shapes.

    An index without any variable has size 1.  Raises ArgumentError.
    """
    parameters = reduction.parameters
    found: dict[str, tuple[int, str]] = {}
    for parameter, shape in zip(parameters, shapes, strict=True):
        kind = parameter.kind
        expected_axes = 1 if kind == "parameter" else 2
        if len(shape) != expected_axes or shape[-1] != parameter.dim:
            raise ArgumentError(_shape_message(parameter, shape))
        if kind == "parameter":
            continue
        size, first = found.setdefault(kind, (shape[0], parameter.name))
        if size != shape[0]:
            raise ArgumentError(
                f"argument {parameter.name!r} has {shape[0]} rows, but {first!r} has {size}: "
                f"all {kind}-variables must have the same number"
            )
    columns = "j" if reduction.rows == "i" else "i"
    return found.get(reduction.rows, _ONE)[0], found.get(columns, _ONE)[0]


def _shape_message(parameter: Parameter, shape: Sequence[int]) -> str:
    expected = _SHAPES[parameter.kind].format(parameter.dim)
    return (
        f"argument {parameter.name!r} must have shape {expected}, as its alias says; "
        f"it has shape {tuple(shape)}"
    )
