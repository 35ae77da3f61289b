"""Who computes: one row a competitor.

A competitor prepares a case's arrays (outside the measured time) and returns a function without
arguments that computes the outputs anew at each call.  Each keeps its default number of threads.

Each gets the faster of the two forms of a squared distance: dense ones the matrix product, in
blocks of rows that fit into the caches; torch.compile, for short vectors, the sum of squared
differences, which it fuses into one loop without an M x N array, and for longer ones the product.
Block-sparse dense ones gather the columns of each block of rows, and a dense solver factorises.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import loops
from benchmarks.cases import BLOCK, SOLVE_EPS, SUM, Array, Case, kept_blocks

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
    prepare: Callable[[Case, Sequence[Any]], Computation]
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
        return _computation(case, operation(face, case, "CPU", np.asarray), arrays)

    return prepare


def operation(
    face: Any, case: Case, backend: str, array: Callable[[Array], Any]
) -> Callable[..., Any]:
    """What computes the case from its variables, of a module with KeOps' interface.

    `array` makes the module's kind of array.
    """
    formula = case.formula
    if case.alpha is not None:
        unknown = formula.arguments[-1].name
        solve = face.KernelSolve(formula.text, case.aliases, unknown, axis=1)
        return functools.partial(solve, backend=backend, alpha=case.alpha, eps=SOLVE_EPS)
    if case.lazy:
        return functools.partial(_lazy_gaussian, face.LazyTensor, backend)
    text, aliases, reduction = formula_of(case)
    op = face.Genred(text, aliases, axis=1, **reduction)
    options = {} if case.kept is None else {"ranges": tuple(map(array, _ranges(case)))}
    return functools.partial(op, backend=backend, **options)


def _lazy_gaussian(lazy_tensor: Any, backend: str, x: Any, y: Any, b: Any) -> Any:
    """The Gaussian's sum, as programs write it with LazyTensors."""
    x_i, y_j = lazy_tensor(x[:, None, :]), lazy_tensor(y[None, :, :])
    kernel = (-((x_i - y_j) ** 2).sum(-1)).exp()
    kernel.backend = backend
    return kernel @ b


def formula_of(case: Case) -> tuple[str, list[str], dict[str, Any]]:
    """The formula, its variables, and what else `Genred` is told of the reduction."""
    formula = case.formula
    reduction = {
        "reduction_op": formula.reduction.name,
        "opt_arg": formula.reduction.count,
        "formula2": formula.weights,
    }
    return formula.text, case.aliases, reduction


def _ranges(case: Case) -> tuple[Array, ...]:
    """The kept blocks, as both libraries take them."""
    from redcomp.numpy.cluster import from_matrix

    starts_i, starts_j = (np.arange(0, size, BLOCK) for size in (case.rows, case.columns))
    intervals_i, intervals_j = (np.stack([s, s + BLOCK], axis=1) for s in (starts_i, starts_j))
    return from_matrix(intervals_i, intervals_j, kept_blocks(case))


def _computation(
    case: Case, function: Callable[..., Any], arrays: Sequence[Any], library: Any = np
) -> Computation:
    """The case's task, given a function of its variables; derivatives are those of PyTorch."""
    if case.task == "value":
        own = [library.asarray(array) for array in arrays]
        return lambda: (function(*own),)
    import torch

    return gradients(case, function, [torch.from_numpy(array) for array in arrays])


def gradients(case: Case, function: Callable[..., Any], tensors: Sequence[Any]) -> Computation:
    """The derivatives of a function of PyTorch's tensors, the last of which is the cotangent."""
    import torch

    variables = [tensor.detach().requires_grad_() for tensor in tensors[:-1]]
    cotangent = tensors[-1]
    if case.task == "gradients":
        return lambda: torch.autograd.grad(function(*variables), variables, cotangent)
    value = function(*variables)
    return lambda: torch.autograd.grad(value, variables, cotangent, retain_graph=True)


# -- dense -----------------------------------------------------------------------------------------


def _square_distances(x: Any, y: Any) -> Any:
    """All |x_i - y_j|^2 by a matrix product; rounding may make one negative."""
    return (x * x).sum(-1)[:, None] + (y * y).sum(-1)[None, :] - 2 * (x @ y.T)


def _dense_gaussian(library: Any, x: Any, y: Any, b: Any) -> Any:
    return library.exp(-_square_distances(x, y)) @ b


def _dense_width(library: Any, x: Any, y: Any, b: Any, g: Any) -> Any:
    return library.exp(-g * _square_distances(x, y)) @ b


def _dense_laplacian(library: Any, x: Any, y: Any, b: Any) -> Any:
    return library.exp(-library.sqrt(_square_distances(x, y).clip(min=0))) @ b


def _dense_seed(library: Any, x: Any, y: Any, a: Any, p: Any) -> Any:
    return (library.square(p - a) * library.exp(x[:, None, :] + y[None, :, :])).sum(1)


def _dense_logsumexp(library: Any, x: Any, y: Any, f: Any = None) -> Any:
    terms = -_square_distances(x, y)
    if f is not None:
        terms = terms + f.T
    shift = library.amax(terms, 1)[:, None]
    return shift + library.log(library.exp(terms - shift).sum(1))[:, None]


def _dense_argmin(library: Any, x: Any, y: Any) -> Any:
    return _square_distances(x, y).argmin(1)[:, None]


def _dense_attention(library: Any, x: Any, y: Any, b: Any) -> Any:
    scores = x @ y.T
    factors = library.exp(scores - library.amax(scores, 1)[:, None])
    return (factors @ b) / factors.sum(1)[:, None]


def _torch_attention(torch: Any, x: Any, y: Any, b: Any) -> Any:
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(x[None, None], y[None, None], b[None, None], scale=1.0)[0, 0]


def _torch_argkmin(torch: Any, x: Any, y: Any, count: int) -> Any:
    return torch.topk(_square_distances(x, y), count, dim=1, largest=False).indices


DENSE: dict[str, Callable[..., Any]] = {
    "gaussian": _dense_gaussian,
    "width": _dense_width,
    "wide": _dense_gaussian,
    "laplacian": _dense_laplacian,
    "seed": _dense_seed,
    "logsumexp": _dense_logsumexp,
    "sinkhorn": _dense_logsumexp,
    "argmin": _dense_argmin,
    "attention": _dense_attention,
}
TORCH_DENSE = {**DENSE, "argkmin": _torch_argkmin, "attention": _torch_attention}


def form_of(forms: dict[str, Callable[..., Any]], case: Case) -> Callable[..., Any]:
    """The function of a library and arrays that computes the case's values."""
    form, count = forms.get(case.formula.name), case.formula.reduction.count
    if form is None:
        raise UnsupportedError("not written for this library")
    return form if count is None else functools.partial(form, count=count)


def _blocks(case: Case, pairs: int) -> list[tuple[slice, Any]]:
    """Blocks of rows, each with the columns that count for it."""
    if case.kept is not None:
        columns = np.arange(case.columns)
        kept = kept_blocks(case)[:, columns // BLOCK]
        return [(slice(n * BLOCK, (n + 1) * BLOCK), columns[row]) for n, row in enumerate(kept)]
    rows = max(1, pairs // case.columns)
    starts = range(0, case.rows, rows)
    return [(slice(start, start + rows), slice(None)) for start in starts]


def blockwise(
    case: Case,
    form: Callable[..., Any],
    library: Any,
    pairs: int = BLOCK_PAIRS,
    as_index: Callable[[Array], Any] = np.asarray,
) -> Callable[..., Any]:
    """The values of all rows, a block of so many pairs at a time.

    `as_index` makes what the library's arrays take as a list of columns.
    """
    kinds = [a.kind for a in case.formula.arguments]
    blocks = [
        (rows, columns if isinstance(columns, slice) else as_index(columns))
        for rows, columns in _blocks(case, pairs)
    ]

    def compute(*arrays: Any) -> Any:
        values = []
        for rows, columns in blocks:
            part = {"Vi": rows, "Vj": columns, "Pm": slice(None)}
            own = (array[part[kind]] for kind, array in zip(kinds, arrays, strict=True))
            values.append(form(library, *own))
        return library.concatenate(values)

    return compute


def _numpy(case: Case, arrays: Sequence[Array]) -> Computation:
    if case.gradient:
        raise UnsupportedError("NumPy has no automatic differentiation")
    if case.alpha is not None:
        raise UnsupportedError("NumPy has no solver for positive definite matrices")
    return _computation(case, blockwise(case, form_of(DENSE, case), np), arrays)


def _torch_dense(case: Case, arrays: Sequence[Array]) -> Computation:
    import torch

    if case.alpha is None:
        compute = blockwise(case, form_of(TORCH_DENSE, case), torch)
    else:
        compute = functools.partial(_cholesky, torch, case.alpha)
    return _computation(case, compute, arrays, torch)


def _cholesky(torch: Any, alpha: float, x: Any, y: Any, b: Any) -> Any:
    """The solution a of (alpha Id + K) a = b with the Gaussian K."""
    matrix = torch.exp(-_square_distances(x, y))
    matrix.diagonal().add_(alpha)
    return torch.cholesky_solve(b, torch.linalg.cholesky(matrix))


def _scikit_learn(case: Case, arrays: Sequence[Array]) -> Computation:
    reduction = case.formula.reduction
    if not reduction.is_index:
        raise UnsupportedError("it has nearest neighbours only")
    from sklearn.neighbors import NearestNeighbors

    x, y = arrays
    search = NearestNeighbors(n_neighbors=reduction.count or 1, algorithm="brute").fit(y)
    return lambda: (search.kneighbors(x, return_distance=False),)


# -- compilers -------------------------------------------------------------------------------------


def _fused_gaussian(library: Any, x: Any, y: Any, b: Any) -> Any:
    squares = library.square(x[:, None, :] - y[None, :, :]).sum(-1)
    return (library.exp(-squares) * b[:, 0]).sum(1, keepdim=True)


def _fused_width(library: Any, x: Any, y: Any, b: Any, g: Any) -> Any:
    squares = library.square(x[:, None, :] - y[None, :, :]).sum(-1)
    return (library.exp(-g * squares) * b[:, 0]).sum(1, keepdim=True)


def _fused_laplacian(library: Any, x: Any, y: Any, b: Any) -> Any:
    squares = library.square(x[:, None, :] - y[None, :, :]).sum(-1)
    return (library.exp(-library.sqrt(squares)) * b[:, 0]).sum(1, keepdim=True)


def _fused_logsumexp(library: Any, x: Any, y: Any) -> Any:
    squares = library.square(x[:, None, :] - y[None, :, :]).sum(-1)
    return library.logsumexp(-squares, 1, keepdim=True)


def _fused_argmin(library: Any, x: Any, y: Any) -> Any:
    return library.square(x[:, None, :] - y[None, :, :]).sum(-1).argmin(1, keepdim=True)


FUSED: dict[str, Callable[..., Any]] = {
    "gaussian": _fused_gaussian,
    "width": _fused_width,
    "wide": _dense_gaussian,
    "laplacian": _fused_laplacian,
    "seed": _dense_seed,
    "logsumexp": _fused_logsumexp,
    "sinkhorn": _dense_logsumexp,
    "argmin": _fused_argmin,
    "attention": _dense_attention,
}


def _torch_compile(case: Case, arrays: Sequence[Array]) -> Computation:
    import torch

    return _computation(case, compiled(case), arrays, torch)


def compiled(case: Case) -> Callable[..., Any]:
    """The case's values by torch.compile, which compiles them at the first call."""
    import torch

    require_all_pairs(case)
    if case.task == "backward":
        raise UnsupportedError("its backward pass runs once for a forward pass")
    form = form_of(FUSED if case.dim <= FUSED_DIM else DENSE, case)
    torch.compiler.reset()  # or it would make sizes dynamic after the first case
    compute: Callable[..., Any] = torch.compile(lambda *tensors: form(torch, *tensors))
    return compute


def _numba(case: Case, arrays: Sequence[Array]) -> Computation:
    require_all_pairs(case)
    if case.gradient:
        raise UnsupportedError("numba has no automatic differentiation")
    if case.formula.reduction is not SUM:
        raise UnsupportedError("only sums are written for this library")
    return _computation(case, loops.compile_loop(case.formula.name, case.dim), arrays)


def require_all_pairs(case: Case) -> None:
    """Raise UnsupportedError for block-sparse cases and for solvers."""
    if case.kept is not None or case.alpha is not None:
        raise UnsupportedError("not written for this library")


COMPETITORS: tuple[Competitor, ...] = (
    Competitor("redcomp", "redcomp.numpy", _genred("redcomp"), compiles=True, streams=True),
    Competitor("KeOps", "pykeops.numpy", _genred("pykeops"), compiles=True, streams=True),
    Competitor("torch.compile", "torch", _torch_compile, compiles=True),
    Competitor("numba", "numba", _numba, compiles=True, streams=True),
    Competitor("scikit-learn", "sklearn.neighbors", _scikit_learn),
    Competitor("torch", "torch", _torch_dense),
    Competitor("NumPy", "numpy", _numpy),
)


def competitor(name: str) -> Competitor:
    """The row of this name, in any case of letters."""
    for row in COMPETITORS:
        if row.name.lower() == name.lower():
            return row
    raise ValueError(f"no competitor {name!r}")
