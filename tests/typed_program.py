"""A user's program, which type checkers accept as strictly as they can: checked, never run.

A comment that ignores an error proves that there is one: checkers complain where it is needless.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import redcomp
import redcomp.torch
import redcomp.torch.nn
from redcomp.numpy import Genred, KernelSolve, LazyTensor, Pm, Vi, Vj

if TYPE_CHECKING:
    from typing_extensions import assert_type

    from redcomp.catalogue import NamedOperation, NamedReduction, Table
    from redcomp.frontend.solvers.conjugate_gradients import SolveInfo
    from redcomp.typing import Backend, Reduction

Array = np.ndarray[Any, np.dtype[Any]]
FORMULA, ALIASES = "Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]


def gaussian_means(x: Array, y: Array) -> Any:
    """Every sort of method: operators, rows of tables, other names, reductions."""
    x_i, y_j = Vi(x), LazyTensor(y[None, :, :])
    assert_type(x_i, LazyTensor)
    kernel = (-x_i.sqdist(y_j) / 2).exp()
    assert_type(kernel, LazyTensor)
    assert_type(kernel.tanh().clamp(0, 1).maximum(0.5), LazyTensor)
    assert_type((kernel > 0.5).where(kernel, 0), LazyTensor)
    assert_type(2 * kernel[..., 0].T + Pm(0.5), LazyTensor)
    assert_type(kernel.arcsin().reciprocal(), LazyTensor)
    assert_type(x_i.one_hot(3).elem(1), LazyTensor)
    is_zero = kernel == 0
    assert_type(is_zero, LazyTensor)
    nearest: np.ndarray[Any, Any] = kernel.argKmin(3, dim=1)
    return kernel.sum(axis=1), kernel.logsumexp(1), kernel @ y, nearest, Vj(0, 3).std(1)


def sums(x: Array, y: Array, b: Array, tx: torch.Tensor, g: float) -> Array:
    """Reductions of arrays and of tensors, by position and by name, with options."""
    smooth = Genred(FORMULA, ALIASES, reduction_op="Sum", axis=1, sum_scheme="kahan_scheme")
    assert_type(smooth(x, y, b), Array)
    assert_type(smooth(x, b=b, y=y, backend="CPU"), Array)
    scaled = Genred("Exp(-g * x)", ["x = Vj(1)", "g = Pm(1)"], axis=1, dtype=np.float32)
    assert_type(scaled(x, g), Array)
    assert_type(scaled(x, [g]), Array)
    of_torch = redcomp.torch.Genred(FORMULA, ALIASES, "LogSumExp", 1)
    assert_type(of_torch(tx, tx, tx), torch.Tensor)
    either = redcomp.Genred(FORMULA, ALIASES, axis=0, dtype="float32")
    assert_type(either(x, y, b), Array)
    assert_type(either(tx, tx, tx), torch.Tensor)
    values, places = Genred(FORMULA, ALIASES, "Min_ArgMin", axis=1)(x, y, b)
    both = Genred([FORMULA, "x"], ALIASES, ["Sum", "Max"], axis=1)(x, y, b)
    print(values, places, both[0], smooth.lower("float32", "sm_90").asm, smooth.explain())
    return smooth(x, y, b)


def solutions(x: Array, b: Array, tx: torch.Tensor, is_asked: bool) -> Array:
    """What solvers give depends on return_info."""
    solve = KernelSolve(FORMULA, ALIASES, "b", axis=1)
    assert_type(solve(x, x, b, alpha=0.1), Array)
    assert_type(solve(x, x, b, return_info=True), tuple[Array, SolveInfo])
    assert_type(solve(x, x, b, return_info=is_asked), Array | tuple[Array, SolveInfo])
    of_torch = redcomp.torch.KernelSolve(FORMULA, ALIASES, "b", axis=1, dtype_acc="float64")
    assert_type(of_torch(tx, tx, tx), torch.Tensor)
    solution, info = of_torch(tx, tx, tx, return_info=True)
    print(solution, info.iterations)
    return solve(x, x, b=b)


def tables() -> None:
    """What there is, and errors by their names."""
    assert_type(redcomp.operations(), Table[NamedOperation])
    assert_type(redcomp.operations()["Exp"].meaning, str)
    assert_type(redcomp.reductions()[0], NamedReduction)
    try:
        redcomp.numpy.Genred(FORMULA, ALIASES, axis=1)
    except redcomp.FormulaError as error:
        print(error.formula, redcomp.AxisWarning)


def passed_on(backend: "Backend", reduction: "Reduction", x: Array) -> Array:
    """Words that options take are types."""
    return Genred(FORMULA, ALIASES, reduction, 1)(x, x, x, backend=backend)


def mistakes(x: Array) -> None:
    """Options that there are not."""
    Genred(FORMULA, ALIASES, reduction_op="sum", axis=1)  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, reduction_op=["Sum", "max"], axis=1)  # type: ignore[list-item]
    Genred(FORMULA, ALIASES, axis=2)  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, axis="j")  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, axis=1, sum_scheme="kahan")  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, axis=1, dtype_acc="double")  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, axis=1, dtype="double")  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, axis=1, use_fast_math="yes")  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, axis=1, opt_arg="3")  # type: ignore[arg-type]
    Genred(FORMULA, ALIASES, axis=1, tile_size=4)  # type: ignore[arg-type]
    Genred(None, ALIASES, axis=1)  # type: ignore[arg-type]
    Genred(FORMULA, None, axis=1)  # type: ignore[arg-type]
    smooth = Genred(FORMULA, ALIASES, axis=1)
    smooth(x, x, x, backend="cuda")  # type: ignore[call-overload]
    smooth(x, x, x, device_id="cuda:0")  # type: ignore[call-overload]
    smooth.lower("double")  # type: ignore[arg-type]
    smooth.lower(target="sm90")  # type: ignore[arg-type]
    smooth.explain(arch="sm_90")  # type: ignore[arg-type]
    solve = KernelSolve(FORMULA, ALIASES, "b", axis=1)
    solve(x, x, x, backend="gpu")  # type: ignore[call-overload]
    solve(x, x, x, eps="small")  # type: ignore[call-overload]
    KernelSolve(FORMULA, ALIASES, "b", axis=3)  # type: ignore[arg-type]
    KernelSolve(FORMULA, ALIASES, "b", axis=1, alpha=0.1)  # type: ignore[arg-type]
    redcomp.torch.KernelSolve(FORMULA, ALIASES, "b", axis=1, sum_scheme=1)  # type: ignore[arg-type]
    redcomp.torch.nn.KernelSum("gauss")  # type: ignore[arg-type]
    redcomp.torch.nn.MMD("periodic")  # type: ignore[arg-type]
    redcomp.torch.nn.MMD(reduction="average")  # type: ignore[arg-type]
    redcomp.torch.nn.ChamferDistance(directions="y")  # type: ignore[arg-type]
