"""Gradients of long vectors by products of matrices, interpreted: needs PyTorch, no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dense_pairs import distance, product, uneven_blocks
from on_gpu import machines
from test_gpu_updates import ROWS, Arrays, call, is_updated, on_axes, points

import redcomp.torch as faces
from redcomp.frontend.reductions.derivatives import for_derivatives, gradient
from redcomp.numpy import Genred

machine = machines(one_test_in=4)


def gaussian(a: Arrays) -> Any:
    return np.exp(-distance(a)) * a["w"] * a["s"]


# Formula, the axis that is reduced, options, and the dense result.
CASES = {
    "rows": (
        "Grad(Exp(-SqDist(x, y)) * w, x, s)",
        1,
        {},
        lambda a: (-2 * gaussian(a) * (a["x"] - a["y"])).sum(1),
    ),
    "columns": (
        "Grad(Exp(-SqDist(x, y)) * w, y, s)",
        0,
        {},
        lambda a: (2 * gaussian(a) * (a["x"] - a["y"])).sum(0),
    ),
    "of a product": (
        "Grad(Exp(x | y) * w, x, s)",
        1,
        {},
        lambda a: (np.exp(product(a)) * a["w"] * a["s"] * a["y"]).sum(1),
    ),
    "sum of vectors": (
        "-Square(w - s) * (y + x) * p",
        1,
        {},
        lambda a: (-((a["w"] - a["s"]) ** 2) * a["p"] * (a["x"] + a["y"])).sum(1),
    ),
    "mean of differences": (
        "w * s * Exp(-Square(w - s)) * (y - x)",
        1,
        {"reduction_op": "Mean"},
        lambda a: (
            a["w"] * a["s"] * np.exp(-((a["w"] - a["s"]) ** 2)) * (a["y"] - a["x"])
        ).mean(1),
    ),
}  # fmt: skip


def reduction(name: str, dim: int) -> Genred:
    formula, axis, options, _ = CASES[name]
    declared = {"x": f"Vi({dim})", "y": f"Vj({dim})", "s": "Vi(1)", "w": "Vj(1)", "p": "Pm(1)"}
    names = "".join(c if c.isalpha() else " " for c in formula).split()
    aliases = [f"{n} = {kind}" for n, kind in declared.items() if n in names]
    return Genred(formula, aliases, axis=axis, use_fast_math=True, **options)


def check(name: str, arrays: Arrays, error: float) -> None:
    genred = reduction(name, arrays["x"].shape[-1])
    assert is_updated(genred, dtype=str(arrays["x"].dtype))
    expected = CASES[name][3](on_axes(arrays))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(call(genred, arrays), expected, rtol=error, atol=error * scale)


# Components; rows and columns, beside whole blocks, tiles, and products of 16 rows and 8 columns.
SIZES = [(64, 64, 53), (16, 70, 65), (20, 53, ROWS), (50, 65, 61)]


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("dim", "rows", "columns"), SIZES)
@pytest.mark.parametrize("name", CASES)
def test_results(name, dim, rows, columns):
    check(name, points(dim, 1, rows, columns), 3e-6)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("dim", "rows", "columns"), [(16, 70, 65), (36, ROWS, 53)])
@pytest.mark.parametrize("name", CASES)
def test_float64(name, dim, rows, columns):
    check(name, points(dim, 1, rows, columns, "float64"), 1e-13)


@pytest.mark.sampled(3)
def test_ranges():
    """Blocks of rows and of columns that are no multiples of anything."""
    rows, columns = 60, 53
    genred, arrays = reduction("rows", 20), points(20, 1, rows, columns)
    blocks, ranges = uneven_blocks(rows, columns)
    found = call(genred, arrays, ranges=ranges)
    a = on_axes(arrays)
    for start, stop, chosen in blocks:
        part = {k: a[k][start:stop] if k in "xs" else a[k][:, chosen] for k in "xysw"}
        np.testing.assert_allclose(found[start:stop], CASES["rows"][3](part), rtol=5e-6, atol=5e-6)


@pytest.mark.sampled(3)
def test_batches():
    """Each entry has an origin of its own."""
    entries = [points(20, 1, 53, 50 + n) for n in range(3)]
    entries = [{k: v[:50] if k in "yw" else v for k, v in e.items()} for e in entries]
    together = {
        k: np.stack([e[k] + n * (k in "xy") for n, e in enumerate(entries)]) for k in "xysw"
    }
    found = call(reduction("rows", 20), together)
    for n, result in enumerate(found):
        a = on_axes({k: together[k][n] for k in "xysw"})
        np.testing.assert_allclose(result, CASES["rows"][3](a), rtol=5e-6, atol=5e-6)


def test_one_column_and_no_columns():
    arrays, genred = points(20, 1, ROWS, 1), reduction("rows", 20)
    expected = CASES["rows"][3](on_axes(arrays))
    np.testing.assert_allclose(call(genred, arrays), expected, rtol=1e-5, atol=1e-6)
    empty = {k: v[:0] if k in "yw" else v for k, v in arrays.items()}
    np.testing.assert_array_equal(call(genred, empty), 0.0)


# Formulas whose gradients need two products of a pair, options, and the dense values.
WIDE = {
    "attention": (
        "3 * (x | y)",
        {"reduction_op": "SumSoftMaxWeight", "formula2": "b"},
        lambda x, y, b: torch.softmax(3 * x @ y.T, dim=1) @ b,
    ),
    "Gaussian": ("Exp(-SqDist(x, y)) * b", {}, lambda x, y, b: torch.exp(-squares(x, y)) @ b),
    "LogSumExpWeight": (
        "-SqDist(x, y)",
        {"reduction_op": "LogSumExpWeight", "formula2": "Exp(b)"},
        lambda x, y, b: torch.log(torch.exp(-squares(x, y)) @ torch.exp(b)),
    ),
}


def squares(x: Any, y: Any) -> Any:
    return ((x[:, None] - y) ** 2).sum(-1)


@pytest.mark.sampled(24)
@pytest.mark.parametrize(("dim", "wide"), [(64, 64), (20, 36), (36, 17)])
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_wide_results(name, dim, wide, dtype):
    formula, options, dense = WIDE[name]
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", f"b = Vj({wide})"]
    genred = faces.Genred(formula, aliases, axis=1, use_fast_math=True, **options)
    arrays = points(dim, wide, 61, 55, dtype)
    found, expected = (
        [torch.tensor(arrays[k], dtype=t, requires_grad=True) for k in "xyb"]
        for t in (getattr(torch, dtype), torch.float64)
    )
    e = torch.linspace(-1, 1, 61 * wide, dtype=torch.float64).reshape(61, wide)
    genred(*found, backend="GPU").backward(e.to(found[0].dtype))
    dense(*expected).backward(e)
    error = 3e-6 if dtype == "float32" else 1e-13
    for own, other in zip(found, expected, strict=True):
        scale = float(other.grad.abs().max())
        np.testing.assert_allclose(own.grad, other.grad, rtol=error, atol=error * scale)


@pytest.mark.thorough
@pytest.mark.parametrize("mask", [0.0, -1e9])
@pytest.mark.parametrize(("dim", "rows", "columns"), [(64, 64, 53), (20, 61, 55)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_a_logarithm(dim, rows, columns, mask, dtype):
    """Of soft minima of distances; some columns are masked, and all columns of one row."""
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "s = Vi(1)", "w = Vj(1)"]
    genred = faces.Genred("s + w - SqDist(x, y)", aliases, "LogSumExp", axis=1, use_fast_math=True)
    kept = for_derivatives(genred.reduction)
    for positions in (0,), (1, 3):
        made = gradient(kept, positions, (True, False)).lower(dtype.replace("float", "f"), "sm_90")
        assert made.nest.updates
    arrays = points(dim, 1, rows, columns, dtype)
    arrays["s"][5], arrays["w"][::4] = mask, mask
    found, (x, y, s, w) = (
        [torch.tensor(arrays[k], dtype=t, requires_grad=True) for k in "xysw"]
        for t in (getattr(torch, dtype), torch.float64)
    )
    # A row of masks has weights that rounding decides; their sum is 1.
    e = torch.linspace(-1, 1, rows, dtype=torch.float64)[:, None]
    e[5] = 0.0
    result, e_of_masks = genred(*found, backend="GPU"), torch.eye(rows, dtype=found[0].dtype)[5]
    of_masks = torch.autograd.grad(result, found, e_of_masks[:, None], retain_graph=True)
    assert all(bool(one.isfinite().all()) for one in of_masks)
    result.backward(e.to(result.dtype))
    (s + w.T - squares(x, y)).logsumexp(1, True).backward(e)
    error = 3e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(of_masks[2][5], 1.0, rtol=error)
    for own, other in zip(found, (x, y, s, w), strict=True):
        scale = float(other.grad.abs().max())
        np.testing.assert_allclose(own.grad, other.grad, rtol=error, atol=error * scale)
