"""The cases' formulas by the kernels of `benchmarks.gpu.triton_kernels`, on PyTorch's tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import triton

from benchmarks.gpu import triton_kernels as kernels

LOG2_E = math.log2(math.e)
DIFFERENCE_DIM = 8  # up to here squared distances are sums of squared differences
SMALLEST_PRODUCT = 16  # the least extent of a factor of `tl.dot`
PROGRAMS = 2048  # so many keep every multiprocessor of the largest GPUs busy to the end
PART_COLUMNS = 256  # a part of the columns is a multiple of this
ROWS = 64  # of a program, about

Tensor = torch.Tensor


def _launch(kernel: Any, rows: int, parts: int, *arguments: Any, **sizes: Any) -> None:
    """Start a kernel on blocks of rows and parts of the columns."""
    grid = lambda chosen: (triton.cdiv(rows, chosen["BM"]), parts)
    kernel[grid](*arguments, **sizes, enable_fp_fusion=True)


def _scaled(points: Tensor, factor: float | Tensor) -> Tensor:
    """Points times a factor, as (D, M)."""
    return (points * factor).T.contiguous()


def _gaussian(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    if x.shape[1] > DIFFERENCE_DIM:
        return _product_gaussian(x, y, b)
    return _scaled_gaussian(x, y, b, math.sqrt(LOG2_E))


def _width(x: Tensor, y: Tensor, b: Tensor, g: Tensor) -> Tensor:
    return _scaled_gaussian(x, y, b, torch.sqrt(LOG2_E * g))


def _scaled_gaussian(x: Tensor, y: Tensor, b: Tensor, factor: float | Tensor) -> Tensor:
    """Columns are split where there are few rows, and the parts' sums added up."""
    (M, D), N = x.shape, len(y)
    wanted = max(1, PROGRAMS // triton.cdiv(M, ROWS))
    part = triton.cdiv(triton.cdiv(N, wanted), PART_COLUMNS) * PART_COLUMNS
    parts = triton.cdiv(N, part)
    out = x.new_empty(parts, M)
    sizes = (M, N, part)
    _launch(
        kernels.gaussian_kernel,
        M,
        parts,
        _scaled(x, factor),
        _scaled(y, factor),
        b,
        out,
        *sizes,
        D=D,
    )
    return (out if parts == 1 else out.sum(0)).reshape(M, 1)


def _product_gaussian(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    (M, D), N = x.shape, len(y)
    x, y = x * math.sqrt(LOG2_E), y * math.sqrt(LOG2_E)
    squares = (x * x).sum(1), (y * y).sum(1)
    out = x.new_empty(M, 1)
    depth = SMALLEST_PRODUCT if D <= SMALLEST_PRODUCT else 2 * SMALLEST_PRODUCT
    arguments = (x, y.T.contiguous(), *squares, b, out, M, N)
    _launch(kernels.product_gaussian_kernel, M, 1, *arguments, D=D, BK=depth)
    return out


def _wide(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    (M, D), (N, E) = x.shape, b.shape
    factor = math.sqrt(LOG2_E)
    out = x.new_empty(M, E)
    arguments = (_scaled(x, factor), _scaled(y, factor), b, out, M, N)
    extent = max(SMALLEST_PRODUCT, triton.next_power_of_2(E))
    _launch(kernels.wide_gaussian_kernel, M, 1, *arguments, D=D, E=E, BE=extent)
    return out


def _logsumexp(x: Tensor, y: Tensor) -> Tensor:
    (M, D), N = x.shape, len(y)
    factor = math.sqrt(LOG2_E)
    out = x.new_empty(M, 1)
    arguments = (_scaled(x, factor), _scaled(y, factor), out, M, N)
    _launch(kernels.logsumexp_kernel, M, 1, *arguments, D=D)
    return out / LOG2_E


def _argmin(x: Tensor, y: Tensor) -> Tensor:
    (M, D), N = x.shape, len(y)
    out = torch.empty(M, 1, dtype=torch.int64, device=x.device)
    _launch(kernels.argmin_kernel, M, 1, _scaled(x, 1.0), _scaled(y, 1.0), out, M, N, D=D)
    return out


def _attention(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    (M, D), (N, E) = x.shape, b.shape
    out = x.new_empty(M, E)
    arguments = (x, y.T.contiguous(), b, out, M, N)
    _launch(kernels.attention_kernel, M, 1, *arguments, D=D, E=E)
    return out


def _sinkhorn(x: Tensor, y: Tensor, f: Tensor) -> Tensor:
    """The squares of rows and columns are taken out of the loop: -|x|^2 is added at the end."""
    (M, D), N = x.shape, len(y)
    x, y = x * math.sqrt(LOG2_E), y * math.sqrt(LOG2_E)
    potentials = f[:, 0] * LOG2_E - (y * y).sum(1)
    out = x.new_empty(M, 1)
    arguments = (x, y.T.contiguous(), potentials, out, M, N)
    _launch(kernels.sinkhorn_kernel, M, 1, *arguments, D=D)
    return (out - (x * x).sum(1, keepdim=True)) / LOG2_E


def _moments(x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """For each x_i, the sums over j of k w and of k w y, with the Gaussian k."""
    M, N = len(x), len(y)
    factor = math.sqrt(LOG2_E)
    out = x.new_empty(4, M)
    _launch(kernels.moments_kernel, M, 1, _scaled(x, factor), _scaled(y, factor), w, out, M, N)
    return out[0, :, None], out[1:].T / factor


def _gradients(x: Tensor, y: Tensor, b: Tensor, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of sum_ij e_i exp(-|x_i - y_j|^2) b_j, derived by hand, in three dimensions.

    The first sum of the rows is the Gaussian's value, so that this is a forward pass, too.
    """
    of_rows, moved_rows = _moments(x, y, b)
    of_columns, moved_columns = _moments(y, x, e)
    gradient_x = -2 * e * (x * of_rows - moved_rows)
    gradient_y = 2 * b * (moved_columns - y * of_columns)
    return gradient_x, gradient_y, of_columns


GRADIENTS: Callable[..., tuple[Tensor, ...]] = _gradients
FORMS: Mapping[str, Callable[..., Tensor]] = {
    "gaussian": _gaussian,
    "width": _width,
    "wide": _wide,
    "logsumexp": _logsumexp,
    "argmin": _argmin,
    "attention": _attention,
    "sinkhorn": _sinkhorn,
}
