"""The reductions as kernels in Triton, as one would write them by hand for float32.

A program computes BM rows and goes through the columns in tiles of BN.  Points come as (D, M) and
(D, N), scaled so that the exponential is one of base 2.  Sums are kept for each place in a tile and
added up across threads at the end.  Products of matrices use tensor cores where three products of
TF32 are faster than one of float32 ("tf32x3" or "ieee"): plain TF32 is too inexact.
"""

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl

LOG2_E = tl.constexpr(math.log2(math.e))


def _configurations(shapes: str, precisions: tuple[str, ...] = ()) -> list[Any]:
    """Block shapes to choose from, each "BMxBN/warps"."""
    made = []
    for shape in shapes.split():
        block, warps = shape.split("/")
        rows, columns = map(int, block.split("x"))
        for precision in precisions or (None,):
            options = {"PRECISION": precision} if precision else {}
            sizes = {"BM": rows, "BN": columns}
            made.append(triton.Config({**sizes, **options}, num_warps=int(warps)))
    return made


_ELEMENTWISE = _configurations("64x32/4 128x16/4 128x32/4 64x64/4 128x64/8 256x32/8")
_MOMENTS = _configurations("32x32/4 64x16/4 64x32/4 128x16/4 128x32/8")
_ONLINE = _configurations("32x64/4 64x64/4 64x128/4 128x64/8 32x128/4")
_PRODUCTS = _configurations("64x32/4 64x64/4 128x32/4 128x64/8", ("tf32x3", "ieee"))


@triton.jit
def _square_distances(
    x, y, rows, columns, M, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):
    """A tile of |x_i - y_j|^2."""
    squares = tl.zeros((BM, BN), tl.float32)
    for d in tl.static_range(D):
        of_row = tl.load(x + d * M + rows, mask=rows < M, other=0.0)
        of_column = tl.load(y + d * N + columns, mask=columns < N, other=0.0)
        difference = of_row[:, None] - of_column[None, :]
        squares += difference * difference
    return squares


@triton.autotune(configs=_ELEMENTWISE, key=["M", "N", "D"])
@triton.jit
def gaussian_kernel(x, y, b, out, M, N, part, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """out[s, i] = sum of 2^-|x_i - y_j|^2 b_j over the columns j of part s."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    start = tl.program_id(1) * part
    end = tl.minimum(start + part, N)
    sums = tl.zeros((BM, BN), tl.float32)
    for first in range(start, end, BN):
        columns = first + tl.arange(0, BN)
        weights = tl.load(b + columns, mask=columns < end, other=0.0)
        squares = _square_distances(x, y, rows, columns, M, N, D, BM, BN)
        sums += tl.exp2(-squares) * weights[None, :]
    tl.store(out + tl.program_id(1) * M + rows, tl.sum(sums, 1), mask=rows < M)


@triton.autotune(configs=_MOMENTS, key=["M", "N"])
@triton.jit
def moments_kernel(x, y, w, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    """Of 3 components: out[0, i] = sum_j k_ij w_j and out[1 + d, i] = sum_j k_ij w_j y_jd."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    x0 = tl.load(x + rows, mask=rows < M, other=0.0)
    x1 = tl.load(x + M + rows, mask=rows < M, other=0.0)
    x2 = tl.load(x + 2 * M + rows, mask=rows < M, other=0.0)
    sums = tl.zeros((BM, BN), tl.float32)
    moments0 = tl.zeros((BM, BN), tl.float32)
    moments1 = tl.zeros((BM, BN), tl.float32)
    moments2 = tl.zeros((BM, BN), tl.float32)
    for first in range(0, N, BN):
        columns = first + tl.arange(0, BN)
        weights = tl.load(w + columns, mask=columns < N, other=0.0)
        y0 = tl.load(y + columns, mask=columns < N, other=0.0)
        y1 = tl.load(y + N + columns, mask=columns < N, other=0.0)
        y2 = tl.load(y + 2 * N + columns, mask=columns < N, other=0.0)
        d0 = x0[:, None] - y0[None, :]
        d1 = x1[:, None] - y1[None, :]
        d2 = x2[:, None] - y2[None, :]
        terms = tl.exp2(-(d0 * d0 + d1 * d1 + d2 * d2)) * weights[None, :]
        sums += terms
        moments0 += terms * y0[None, :]
        moments1 += terms * y1[None, :]
        moments2 += terms * y2[None, :]
    tl.store(out + rows, tl.sum(sums, 1), mask=rows < M)
    tl.store(out + M + rows, tl.sum(moments0, 1), mask=rows < M)
    tl.store(out + 2 * M + rows, tl.sum(moments1, 1), mask=rows < M)
    tl.store(out + 3 * M + rows, tl.sum(moments2, 1), mask=rows < M)


@triton.autotune(configs=_ONLINE, key=["M", "N", "D"])
@triton.jit
def logsumexp_kernel(x, y, out, M, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """out[i] = log2 sum_j 2^-|x_i - y_j|^2."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    largest = tl.full((BM,), float("-inf"), tl.float32)
    sums = tl.zeros((BM,), tl.float32)
    for first in range(0, N, BN):
        columns = first + tl.arange(0, BN)
        squares = _square_distances(x, y, rows, columns, M, N, D, BM, BN)
        terms = tl.where(columns[None, :] < N, -squares, float("-inf"))
        shift = tl.maximum(largest, tl.max(terms, 1))
        sums = sums * tl.exp2(largest - shift) + tl.sum(tl.exp2(terms - shift[:, None]), 1)
        largest = shift
    tl.store(out + rows, largest + tl.log2(sums), mask=rows < M)


@triton.autotune(configs=_ELEMENTWISE, key=["M", "N", "D"])
@triton.jit
def argmin_kernel(x, y, out, M, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """out[i] = the first j of those with the smallest |x_i - y_j|^2."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    best = tl.full((BM, BN), float("inf"), tl.float32)
    places = tl.zeros((BM, BN), tl.int32)
    for first in range(0, N, BN):
        columns = first + tl.arange(0, BN)
        squares = _square_distances(x, y, rows, columns, M, N, D, BM, BN)
        is_better = (squares < best) & (columns[None, :] < N)
        best = tl.where(is_better, squares, best)
        places = tl.where(is_better, columns[None, :], places)
    smallest = tl.min(best, 1)
    found = tl.min(tl.where(best == smallest[:, None], places, N), 1)
    tl.store(out + rows, found.to(tl.int64), mask=rows < M)


@triton.autotune(configs=_PRODUCTS, key=["M", "N", "D"])
@triton.jit
def product_gaussian_kernel(
    x, y, x2, y2, b, out, M, N, D: tl.constexpr, BK: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out[i] = sum_j 2^-(x2_i + y2_j - 2 x_i y_j) b_j, with x of shape (M, D)."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    x_squares = tl.load(x2 + rows, mask=rows < M, other=0.0)
    sums = tl.zeros((BM, BN), tl.float32)
    for first in range(0, N, BN):
        columns = first + tl.arange(0, BN)
        products = tl.zeros((BM, BN), tl.float32)
        for start in range(0, D, BK):
            ks = start + tl.arange(0, BK)
            of_rows = tl.load(
                x + rows[:, None] * D + ks[None, :],
                mask=(rows[:, None] < M) & (ks[None, :] < D),
                other=0.0,
            )
            of_columns = tl.load(
                y + ks[:, None] * N + columns[None, :],
                mask=(ks[:, None] < D) & (columns[None, :] < N),
                other=0.0,
            )
            products = tl.dot(of_rows, of_columns, products, input_precision=PRECISION)
        y_squares = tl.load(y2 + columns, mask=columns < N, other=0.0)
        weights = tl.load(b + columns, mask=columns < N, other=0.0)
        exponents = 2.0 * products - x_squares[:, None] - y_squares[None, :]
        sums += tl.exp2(exponents) * weights[None, :]
    tl.store(out + rows, tl.sum(sums, 1), mask=rows < M)


@triton.autotune(configs=_PRODUCTS, key=["M", "N", "D", "E"])
@triton.jit
def wide_gaussian_kernel(
    x, y, b, out, M, N, D: tl.constexpr, E: tl.constexpr, BE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out[i, e] = sum_j 2^-|x_i - y_j|^2 b[j, e]; BE is a power of two from E on."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    es = tl.arange(0, BE)
    sums = tl.zeros((BM, BE), tl.float32)
    for first in range(0, N, BN):
        columns = first + tl.arange(0, BN)
        weights = tl.load(
            b + columns[:, None] * E + es[None, :],
            mask=(columns[:, None] < N) & (es[None, :] < E),
            other=0.0,
        )
        squares = _square_distances(x, y, rows, columns, M, N, D, BM, BN)
        sums = tl.dot(tl.exp2(-squares), weights, sums, input_precision=PRECISION)
    tl.store(
        out + rows[:, None] * E + es[None, :],
        sums,
        mask=(rows[:, None] < M) & (es[None, :] < E),
    )


@triton.autotune(configs=_PRODUCTS, key=["M", "N", "D", "E"])
@triton.jit
def attention_kernel(
    q, k, v, out, M, N, D: tl.constexpr, E: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out[i] = sum_j e^(q_i k_j) v_j / sum_j e^(q_i k_j); D and E are powers of two.

    In half precision the factors of both products are; sums and exponents are float32.
    """
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    ds, es = tl.arange(0, D), tl.arange(0, E)
    queries = tl.load(q + rows[:, None] * D + ds[None, :], mask=rows[:, None] < M, other=0.0)
    largest = tl.full((BM,), float("-inf"), tl.float32)
    weights = tl.zeros((BM,), tl.float32)
    sums = tl.zeros((BM, E), tl.float32)
    for first in range(0, N, BN):
        columns = first + tl.arange(0, BN)
        keys = tl.load(k + ds[:, None] * N + columns[None, :], mask=columns[None, :] < N, other=0.0)
        values = tl.load(
            v + columns[:, None] * E + es[None, :], mask=columns[:, None] < N, other=0.0
        )
        scores = tl.dot(queries, keys, input_precision=PRECISION)
        scores = tl.where(columns[None, :] < N, scores, float("-inf"))
        shift = tl.maximum(largest, tl.max(scores, 1))
        scale = tl.exp2((largest - shift) * LOG2_E)
        factors = tl.exp2(scores * LOG2_E - shift[:, None] * LOG2_E)
        weights = weights * scale + tl.sum(factors, 1)
        factors = factors.to(v.dtype.element_ty)
        sums = tl.dot(factors, values, sums * scale[:, None], input_precision=PRECISION)
        largest = shift
    averages = sums / weights[:, None]
    tl.store(out + rows[:, None] * E + es[None, :], averages, mask=rows[:, None] < M)


@triton.autotune(configs=_PRODUCTS, key=["M", "N", "D"])
@triton.jit
def sinkhorn_kernel(
    x, y, f, out, M, N, D: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out[i] = log2 sum_j 2^(f_j + 2 x_i y_j), with x of shape (M, D), D a power of two."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    ds = tl.arange(0, D)
    of_rows = tl.load(x + rows[:, None] * D + ds[None, :], mask=rows[:, None] < M, other=0.0)
    largest = tl.full((BM,), float("-inf"), tl.float32)
    sums = tl.zeros((BM,), tl.float32)
    for first in range(0, N, BN):
        columns = first + tl.arange(0, BN)
        of_columns = tl.load(
            y + ds[:, None] * N + columns[None, :], mask=columns[None, :] < N, other=0.0
        )
        potentials = tl.load(f + columns, mask=columns < N, other=float("-inf"))
        products = tl.dot(of_rows, of_columns, input_precision=PRECISION)
        terms = potentials[None, :] + 2.0 * products
        shift = tl.maximum(largest, tl.max(terms, 1))
        sums = sums * tl.exp2(largest - shift) + tl.sum(tl.exp2(terms - shift[:, None]), 1)
        largest = shift
    tl.store(out + rows, largest + tl.log2(sums), mask=rows < M)
