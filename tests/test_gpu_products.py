"""Products of matrices in kernels for GPUs, interpreted: needs PyTorch, no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_pairs import distance, product, softmax, uneven_blocks
from on_gpu import machines

from redcomp.numpy import Genred

machine = machines(one_test_in=4)

# Calls with fewer rows have kernels of their own, without such products.
ROWS = 52
UNIT = 2.0**-23  # of float32


def points(dim: int, rows: int, columns: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {
        "x": (rows, dim),
        "y": (columns, dim),
        "b": (columns, 1),
        "s": (rows, 1),
        "v": (columns, 3),
    }
    made = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    made["w"] = rng.uniform(0.1, 1, dim).astype(np.float32)
    return {**made, "x": made["x"] * dim**-0.5, "y": made["y"] * dim**-0.5}


def wide(arrays: dict[str, Any]) -> dict[str, Any]:
    """In float64, rows and columns on axes of their own."""
    made = {name: array.astype(np.float64) for name, array in arrays.items()}
    return {
        name: array[:, None] if name in "xs" else array if name == "w" else array[None]
        for name, array in made.items()
    }


# Formula, options, and the dense result; aliases are all that a formula may read.
CASES = {
    "Gaussian": ("Exp(-SqDist(x, y)) * b", {}, lambda a: (np.exp(-distance(a)) * a["b"]).sum(1)),
    "of a width a row": (
        "Exp(-SqDist(x, y) * Square(s)) * b",
        {},
        lambda a: (np.exp(-distance(a) * a["s"] ** 2) * a["b"]).sum(1),
    ),
    "weighted": (
        "Exp(-3 * WeightedSqDist(w, x, y)) * b",
        {},
        lambda a: (np.exp(-3 * distance(a, a["w"])) * a["b"]).sum(1),
    ),
    "product": ("Square(x | y) * b", {}, lambda a: (product(a) ** 2 * a["b"]).sum(1)),
    "three columns": (
        "Exp(x | y) * v",
        {},
        lambda a: (np.exp(product(a)) * a["v"]).sum(1),
    ),
    "LogSumExp": (
        "3 * (x | y) + b",
        {"reduction_op": "LogSumExp"},
        lambda a: np.log(np.exp(3 * product(a) + a["b"]).sum(1)),
    ),
    "softmax": (
        "8 * (x | y)",
        {"reduction_op": "SumSoftMaxWeight", "formula2": "v"},
        lambda a: softmax(8 * product(a), a["v"]),
    ),
    "largest": ("(x | y) + b", {"reduction_op": "Max"}, lambda a: (product(a) + a["b"]).max(1)),
}  # fmt: skip


def reduction(name: str, dim: int, **more: Any) -> Genred:
    formula, options, _ = CASES[name]
    read = formula + options.get("formula2", "")
    declared = {"x": f"Vi({dim})", "y": f"Vj({dim})", "b": "Vj(1)", "s": "Vi(1)", "v": "Vj(3)"}
    declared["w"] = f"Pm({dim})"
    names = read.replace("Exp", "").replace("Square", "").replace("WeightedSqDist", "")
    names = names.replace("SqDist", "")
    aliases = [f"{key} = {kind}" for key, kind in declared.items() if key in names]
    return Genred(formula, aliases, axis=1, use_fast_math=True, **options, **more)


def call(genred: Genred, arrays: dict[str, Any], **options: Any) -> Any:
    names = [alias.split()[0] for alias in genred.aliases]
    return genred(*(arrays[name] for name in names), backend="GPU", **options)


def is_product(genred: Genred, target: str = "sm_90", dtype: str = "float32") -> bool:
    made = genred.lower(dtype, target=target)
    assert ("mma.sync" in made.asm) == bool(made.nest.products)
    return "mma.sync" in made.asm


# Components; rows and columns, beside whole blocks, tiles, and products of 16 rows and 8 columns.
SIZES = [(64, 64, 48), (64, ROWS, 7), (48, 70, 17), (50, 65, 33), (100, 49, 20)]


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("dim", "rows", "columns"), SIZES)
@pytest.mark.parametrize("name", CASES)
def test_results(name, dim, rows, columns):
    genred, arrays = reduction(name, dim), points(dim, rows, columns)
    assert is_product(genred)
    expected = CASES[name][2](wide(arrays))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(call(genred, arrays), expected, rtol=2e-6, atol=2e-6 * scale)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("dim", "rows", "columns"), [(16, 70, 17), (20, ROWS, 40), (64, 49, 9)])
@pytest.mark.parametrize("name", ["Gaussian", "weighted", "three columns", "LogSumExp"])
def test_float64(name, dim, rows, columns):
    genred, arrays = reduction(name, dim), points(dim, rows, columns)
    assert is_product(genred, dtype="float64")
    doubles = {key: array.astype(np.float64) for key, array in arrays.items()}
    expected = CASES[name][2](wide(doubles))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(call(genred, doubles), expected, rtol=1e-13, atol=1e-13 * scale)


@pytest.mark.thorough
def test_many_columns_with_short_vectors():
    """Several tiles, each of more than 100 columns."""
    arrays, genred = points(16, ROWS, 300), reduction("Gaussian", 16)
    assert is_product(genred)
    expected = CASES["Gaussian"][2](wide(arrays))
    np.testing.assert_allclose(call(genred, arrays), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["Gaussian", "softmax"])
def test_ranges(name):
    """Blocks of rows and of columns that are no multiples of anything."""
    dim, rows, columns = 64, 60, 50
    genred, arrays = reduction(name, dim), points(dim, rows, columns)
    blocks, ranges = uneven_blocks(rows, columns)
    result = call(genred, arrays, ranges=ranges)
    a = wide(arrays)
    for start, stop, chosen in blocks:
        part = {
            k: v[start:stop] if k in "xs" else v if k == "w" else v[:, chosen] for k, v in a.items()
        }
        np.testing.assert_allclose(result[start:stop], CASES[name][2](part), rtol=5e-6, atol=5e-6)


@pytest.mark.thorough
def test_batches():
    dim, rows, columns = 64, 51, 21
    entries = [points(dim, rows, columns, seed) for seed in range(3)]
    genred = reduction("Gaussian", dim)
    together = {k: np.stack([e[k] for e in entries]) for k in ("x", "y", "b")}
    found = call(genred, together)
    for result, arrays in zip(found, entries, strict=True):
        expected = CASES["Gaussian"][2](wide(arrays))
        np.testing.assert_allclose(result, expected, rtol=5e-6, atol=5e-6)


def test_one_column_and_no_columns():
    arrays, genred = points(64, ROWS, 1), reduction("Gaussian", 64)
    expected = CASES["Gaussian"][2](wide(arrays))
    np.testing.assert_allclose(call(genred, arrays), expected, rtol=1e-5)
    empty = {k: v[:0] if k in "yb" else v for k, v in arrays.items()}
    np.testing.assert_array_equal(call(genred, empty), 0.0)


FAR = {"infinite": np.inf, "far": 3e30, "no number": np.nan}


@pytest.mark.parametrize("far", FAR)
def test_a_column_far_away_does_no_harm(far):
    """It counts as infinitely far away; one that is no number makes results that."""
    arrays = points(64, ROWS, 20)
    arrays["y"][7, 3] = FAR[far]
    found = call(reduction("Gaussian", 64), arrays)
    with np.errstate(all="ignore"):
        expected = CASES["Gaussian"][2](wide(arrays))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
