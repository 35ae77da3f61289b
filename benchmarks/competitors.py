"""Who computes: one row a competitor.

A competitor prepares a case's arrays (outside the measured time) and returns a function without
arguments that computes the outputs anew at each call.  Each keeps its default number of threads.

Each gets the faster of the two forms of a squared distance: dense ones the matrix product, in
blocks of rows that fit into the caches; torch.compile, for short vectors, the sum of squared
differences, which it fuses into one loop without an M x N array, and for longer ones the product.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import loops
from benchmarks.cases import Array, Case

Outputs = tuple[Any, ...]
Computation = Callable[[], Outputs]

BLOCK_PAIRS = 4_000_000  # pairs in a block of rows of the dense competitors
FUSED_DIM = 8  # up to here torch.compile gets the difference form


class UnsupportedError(Exception):
    """A case that a competitor cannot run; the message is the reason given in the report."""


@dataclass(frozen=True, slots=True)
class Competitor:
    """How to run one library.

    name      for the command line and the report
    module    what must be importable
    prepare   (case, arrays) to a computation; raises UnsupportedError
    compiles  whether a first call compiles
    streams   whether it never stores the M x N array, so that it can run the memory case
    """

    name: str
    module: str
    prepare: Callable[[Case, Sequence[Array]], Computation]
    compiles: bool = False
    streams: bool = False

    def missing(self) -> str | None:
        """Why it cannot run here at all, or None."""
        if importlib.util.find_spec(self.module.partition(".")[0]) is None:
            return f"{self.module} is not installed"
        return None


def _genred(package: str) -> Callable[[Case, Sequence[Array]], Computation]:
    """redcomp and KeOps have the same interface."""

    def prepare(case: Case, arrays: Sequence[Array]) -> Computation:
        face = importlib.import_module(f"{package}.{'torch' if case.gradient else 'numpy'}")
        op = face.Genred(case.formula.text, case.aliases, reduction_op="Sum", axis=1)
        if case.gradient:
            return _torch_gradients(lambda *args: op(*args, backend="CPU"), arrays)
        return lambda: (op(*arrays, backend="CPU"),)

    return prepare


def _torch_gradients(function: Callable[..., Any], arrays: Sequence[Array]) -> Computation:
    """Forward and backward: the gradients of every argument, the last array being the cotangent."""
    import torch

    *variables, cotangent = (torch.from_numpy(array) for array in arrays)
    for variable in variables:
        variable.requires_grad_()
    return lambda: torch.autograd.grad(function(*variables), variables, cotangent)


# -- dense -----------------------------------------------------------------------------------------


def _square_distances(x: Any, y: Any) -> Any:
    """All |x_i - y_j|^2 by a matrix product; rounding may make one negative."""
    return (x * x).sum(-1)[:, None] + (y * y).sum(-1)[None, :] - 2 * (x @ y.T)


def _dense_gaussian(library: Any, x: Any, y: Any, b: Any) -> Any:
    return library.exp(-_square_distances(x, y)) @ b


def _dense_laplacian(library: Any, x: Any, y: Any, b: Any) -> Any:
    return library.exp(-library.sqrt(_square_distances(x, y).clip(min=0))) @ b


def _dense_seed(library: Any, x: Any, y: Any, a: Any, p: Any) -> Any:
    return (library.square(p - a) * library.exp(x[:, None, :] + y[None, :, :])).sum(1)


DENSE: dict[str, Callable[..., Any]] = {
    "gaussian": _dense_gaussian,
    "laplacian": _dense_laplacian,
    "seed": _dense_seed,
}


def _blocks(case: Case) -> list[slice]:
    rows = max(1, BLOCK_PAIRS // case.columns)
    return [slice(start, start + rows) for start in range(0, case.rows, rows)]


def _numpy(case: Case, arrays: Sequence[Array]) -> Computation:
    if case.gradient:
        raise UnsupportedError("NumPy has no automatic differentiation")
    dense, blocks = DENSE[case.formula.name], _blocks(case)
    x, *others = arrays
    return lambda: (np.concatenate([dense(np, x[block], *others) for block in blocks]),)


def _torch_dense(case: Case, arrays: Sequence[Array]) -> Computation:
    import torch

    dense, blocks = DENSE[case.formula.name], _blocks(case)

    def compute(x: Any, *others: Any) -> Any:
        return torch.cat([dense(torch, x[block], *others) for block in blocks])

    if case.gradient:
        return _torch_gradients(compute, arrays)
    tensors = [torch.from_numpy(array) for array in arrays]
    return lambda: (compute(*tensors),)


# -- compilers -------------------------------------------------------------------------------------


def _fused_gaussian(library: Any, x: Any, y: Any, b: Any) -> Any:
    squares = library.square(x[:, None, :] - y[None, :, :]).sum(-1)
    return (library.exp(-squares) * b[:, 0]).sum(1, keepdim=True)


def _fused_laplacian(library: Any, x: Any, y: Any, b: Any) -> Any:
    squares = library.square(x[:, None, :] - y[None, :, :]).sum(-1)
    return (library.exp(-library.sqrt(squares)) * b[:, 0]).sum(1, keepdim=True)


FUSED: dict[str, Callable[..., Any]] = {
    "gaussian": _fused_gaussian,
    "laplacian": _fused_laplacian,
    "seed": _dense_seed,
}


def _torch_compile(case: Case, arrays: Sequence[Array]) -> Computation:
    import torch

    forms = FUSED if case.dim <= FUSED_DIM else DENSE
    form = forms[case.formula.name]
    torch.compiler.reset()  # or it would make sizes dynamic after the first case
    compute = torch.compile(lambda *tensors: form(torch, *tensors))
    if case.gradient:
        return _torch_gradients(compute, arrays)
    tensors = [torch.from_numpy(array) for array in arrays]
    return lambda: (compute(*tensors),)


def _numba(case: Case, arrays: Sequence[Array]) -> Computation:
    if case.gradient:
        raise UnsupportedError("numba has no automatic differentiation")
    compute = loops.compile_loop(case.formula.name, case.dim)
    return lambda: (compute(*arrays),)


COMPETITORS: tuple[Competitor, ...] = (
    Competitor("redcomp", "redcomp.numpy", _genred("redcomp"), compiles=True, streams=True),
    Competitor("KeOps", "pykeops.numpy", _genred("pykeops"), compiles=True, streams=True),
    Competitor("torch.compile", "torch", _torch_compile, compiles=True),
    Competitor("numba", "numba", _numba, compiles=True, streams=True),
    Competitor("torch", "torch", _torch_dense),
    Competitor("NumPy", "numpy", _numpy),
)


def competitor(name: str) -> Competitor:
    """The row of this name, in any case of letters."""
    for row in COMPETITORS:
        if row.name.lower() == name.lower():
            return row
    raise ValueError(f"no competitor {name!r}")
