"""Wide results by products of matrices, interpreted: needs PyTorch, no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_pairs import distance, product, softmax, uneven_blocks
from on_gpu import machines

from redcomp.numpy import Genred

machine = machines(one_test_in=4)

Arrays = dict[str, Any]

# Calls with fewer rows have kernels of their own, without products of matrices.
ROWS = 52
# Which axis an argument has besides its components: that of rows, of columns, or none.
AXES = {"x": "i", "y": "j", "b": "j", "s": "i", "w": "j", "p": ""}


def points(dim: int, wide: int, rows: int, columns: int, dtype: str = "float32") -> Arrays:
    """Arguments whose vectors have `dim` components, and those of b `wide` ones."""
    rng, dims = np.random.default_rng(0), {"x": dim, "y": dim, "b": wide, "s": 1, "w": 1, "p": 1}
    counts = {"i": (rows,), "j": (columns,), "": ()}
    made = {n: rng.uniform(-1, 1, (*counts[AXES[n]], k)).astype(dtype) for n, k in dims.items()}
    return {**made, "x": made["x"] * dim**-0.5, "y": made["y"] * dim**-0.5}


def on_axes(arrays: Arrays) -> Arrays:
    """In float64, rows and columns on axes of their own."""
    slots = {"i": np.s_[:, None], "j": np.s_[None], "": np.s_[:]}
    return {name: array.astype(np.float64)[slots[AXES[name]]] for name, array in arrays.items()}


# Formula, options, and the dense result.
CASES = {
    "Gaussian": ("Exp(-SqDist(x, y)) * b", {}, lambda a: (np.exp(-distance(a)) * a["b"]).sum(1)),
    "Laplacian": (
        "Exp(-Sqrt(SqDist(x, y))) * b",
        {},
        lambda a: (np.exp(-np.sqrt(distance(a))) * a["b"]).sum(1),
    ),
    "with factors": (
        "-w * Square(x | y) * p * (b - 1) * s",
        {},
        lambda a: (-a["w"] * product(a) ** 2 * a["p"] * (a["b"] - 1) * a["s"]).sum(1),
    ),
    "with a scalar": (
        "Exp(x | y) * Concat(b, y)",
        {},
        lambda a: (
            np.exp(product(a)) * np.concatenate([a["b"], a["y"]], axis=-1)
        ).sum(1),
    ),
    "mean": (
        "Exp(x | y) * b",
        {"reduction_op": "Mean"},
        lambda a: (np.exp(product(a)) * a["b"]).mean(1),
    ),
    "attention": (
        "8 * (x | y)",
        {"reduction_op": "SumSoftMaxWeight", "formula2": "b"},
        lambda a: softmax(8 * product(a), a["b"]),
    ),
    "rising scores": (
        "20 * w + (x | y)",
        {"reduction_op": "SumSoftMaxWeight", "formula2": "b"},
        lambda a: softmax(20 * a["w"] + product(a), a["b"]),
    ),
    "LogSumExpWeight": (
        "3 * (x | y)",
        {"reduction_op": "LogSumExpWeight", "formula2": "Square(b) + 1"},
        lambda a: np.log((np.exp(3 * product(a)) * (a["b"] ** 2 + 1)).sum(1)),
    ),
}  # fmt: skip


def reduction(name: str, dim: int, wide: int) -> Genred:
    formula, options, _ = CASES[name]
    declared = {"x": f"Vi({dim})", "y": f"Vj({dim})", "b": f"Vj({wide})"}
    declared |= {"s": "Vi(1)", "w": "Vj(1)", "p": "Pm(1)"}
    names = "".join(c if c.isalpha() else " " for c in formula + options.get("formula2", ""))
    aliases = [f"{n} = {kind}" for n, kind in declared.items() if n in names.split()]
    return Genred(formula, aliases, axis=1, use_fast_math=True, **options)


def call(genred: Genred, arrays: Arrays, **options: Any) -> Any:
    names = [alias.split()[0] for alias in genred.aliases]
    return genred(*(arrays[name] for name in names), backend="GPU", **options)


def is_updated(genred: Genred, target: str = "sm_90", dtype: str = "float32") -> bool:
    made = genred.lower(dtype, target=target)
    assert ("mma.sync" in made.asm) == bool(made.nest.updates or made.nest.products)
    return bool(made.nest.updates)


def check(name: str, arrays: Arrays, error: float, **options: Any) -> None:
    dim, wide = arrays["x"].shape[-1], arrays["b"].shape[-1]
    genred = reduction(name, dim, wide)
    assert is_updated(genred, dtype=str(arrays["x"].dtype))
    expected = CASES[name][2](on_axes(arrays))
    scale = np.abs(expected).max()
    found = call(genred, arrays, **options)
    np.testing.assert_allclose(found, expected, rtol=error, atol=error * scale)


# Components of points and of columns; rows and columns, beside whole blocks, tiles, and products of
# 16 rows and 8 columns.
SIZES = [(3, 64, 64, 48), (3, 20, ROWS, 7), (64, 40, 70, 17), (20, 33, 65, 33), (8, 100, 49, 20)]


@pytest.mark.sampled(24)
@pytest.mark.parametrize(("dim", "wide", "rows", "columns"), SIZES)
@pytest.mark.parametrize("name", CASES)
def test_results(name, dim, wide, rows, columns):
    if name == "Laplacian" and dim > 8:
        pytest.skip("pairs read long vectors, which stay as they are")
    check(name, points(dim, wide, rows, columns), 3e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["Gaussian", "with a scalar", "attention", "LogSumExpWeight"])
@pytest.mark.parametrize(("dim", "wide", "rows", "columns"), [(3, 300, 51, 9), (20, 263, 65, 17)])
def test_more_columns_than_registers(name, dim, wide, rows, columns):
    """Groups of components, each of them a kernel."""
    check(name, points(dim, wide, rows, columns), 3e-6)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "dim", "wide", "rows", "columns"),
    [
        ("Gaussian", 3, 16, 70, 17),
        ("Gaussian", 20, 40, ROWS, 40),
        ("attention", 20, 36, 49, 19),
        ("rising scores", 3, 20, 49, 9),
        ("LogSumExpWeight", 16, 17, 51, 33),
    ],
)
def test_float64(name, dim, wide, rows, columns):
    check(name, points(dim, wide, rows, columns, "float64"), 1e-13)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["Gaussian", "rising scores"])
def test_many_columns(name):
    """More tiles than are merged at a time."""
    check(name, points(3, 16, ROWS, 700), 1e-5)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("name", ["Gaussian", "attention"])
@pytest.mark.parametrize("dim", [3, 64])
def test_ranges(name, dim):
    """Blocks of rows and of columns that are no multiples of anything."""
    rows, columns = 60, 50
    genred, arrays = reduction(name, dim, 20), points(dim, 20, rows, columns)
    blocks, ranges = uneven_blocks(rows, columns)
    found = call(genred, arrays, ranges=ranges)
    a = on_axes(arrays)
    for start, stop, chosen in blocks:
        taken = {"i": np.s_[start:stop], "j": np.s_[:, chosen], "": np.s_[:]}
        part = {name: array[taken[AXES[name]]] for name, array in a.items()}
        np.testing.assert_allclose(found[start:stop], CASES[name][2](part), rtol=5e-6, atol=5e-6)


def test_batches():
    entries = [points(3, 20, 51, 21 + n) for n in range(3)]
    entries = [{k: v[:21] if AXES[k] == "j" else v for k, v in e.items()} for e in entries]
    together = {k: np.stack([e[k] * (n + 1) for n, e in enumerate(entries)]) for k in "xyb"}
    found = call(reduction("Gaussian", 3, 20), together)
    for n, result in enumerate(found):
        a = on_axes({k: together[k][n] for k in "xyb"})
        np.testing.assert_allclose(result, CASES["Gaussian"][2](a), rtol=5e-6, atol=5e-6)


def test_one_column_and_no_columns():
    arrays, genred = points(3, 20, ROWS, 1), reduction("Gaussian", 3, 20)
    np.testing.assert_allclose(
        call(genred, arrays), CASES["Gaussian"][2](on_axes(arrays)), rtol=1e-5
    )
    empty = {k: v[:0] if AXES[k] == "j" else v for k, v in arrays.items()}
    np.testing.assert_array_equal(call(genred, empty), 0.0)


@pytest.mark.parametrize("columns", [1, 13, 32])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_reaches_its_component_alone(value, dtype, columns):
    """In float64 it is what a sum of products is; in float32, whose parts of infinity are no
    numbers, it is none."""
    arrays = points(3, 20, ROWS, columns, dtype)
    arrays["b"][columns // 2, 5] = value
    found = call(reduction("Gaussian", 3, 20), arrays)
    with np.errstate(all="ignore"):
        expected = CASES["Gaussian"][2](on_axes(arrays))
    if dtype == "float32":
        expected[:, 5] = np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_number_of_a_pair_that_is_none_reaches_its_row_alone():
    arrays = points(3, 20, ROWS, 13)
    arrays["x"][7, 1] = np.nan
    found = call(reduction("Gaussian", 3, 20), arrays)
    expected = CASES["Gaussian"][2](on_axes(arrays))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", ["some", "all"])
def test_columns_of_no_weight(masked):
    """Scores of -inf, as masks make them; rows of nothing else have no mean."""
    arrays = points(3, 20, ROWS, 13)
    arrays["w"][: 12 if masked == "some" else 13] = -np.inf
    found = call(reduction("rising scores", 3, 20), arrays)
    if masked == "all":
        assert np.isnan(found).all()
        return
    np.testing.assert_allclose(found, np.tile(arrays["b"][12], (ROWS, 1)), rtol=1e-5)
