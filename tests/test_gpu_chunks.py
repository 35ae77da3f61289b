"""Products of vectors that come in chunks, interpreted: needs PyTorch, no GPU.

They have more components than registers keep: more than 128 in float32, 256 in half precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import test_gpu_gradients as gradients
import test_gpu_half_precision as halves
import test_gpu_products as products
import test_gpu_updates as updates
from dense_pairs import uneven_blocks
from on_gpu import machines
from ptxsim.banks import Banks
from ptxsim.driver import StandIn

from redcomp.numpy import Genred
from redcomp.ptx.slices import chunks
from redcomp.runtime import driver as drivers

machine = machines(one_test_in=4)

ROWS = products.ROWS


def has_chunks(genred: Any, dtype: str = "float32") -> bool:
    made = genred.lower(dtype, target="sm_90")
    return all(chunks(planned.part.nest) for planned in made.planned)


def check(name: str, arrays: dict[str, Any], **options: Any) -> None:
    genred = products.reduction(name, arrays["x"].shape[-1], **options)
    assert has_chunks(genred)
    expected = products.CASES[name][2](products.wide(arrays))
    found = products.call(genred, arrays)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6 * scale)


# Components, beside whole chunks; rows and columns, beside whole blocks, tiles, and products.
SIZES = [(129, 66, 20), (144, ROWS, 65), (300, ROWS, 17)]


@pytest.mark.interpreted(2, 1)
@pytest.mark.thorough
@pytest.mark.parametrize(("dim", "rows", "columns"), SIZES)
@pytest.mark.parametrize("name", products.CASES)
def test_results(name, dim, rows, columns):
    check(name, products.points(dim, rows, columns))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", updates.CASES)
def test_wide_results(name):
    if name == "Laplacian":
        pytest.skip("pairs read long vectors, which stay as they are")
    assert has_chunks(updates.reduction(name, 136, 20))
    updates.check(name, updates.points(136, 20, ROWS, 70), 3e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["rows", "columns", "of a product"])
def test_gradients(name):
    assert has_chunks(gradients.reduction(name, 136))
    gradients.check(name, updates.points(136, 1, 55, 53), 3e-6)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("format", halves.FORMATS)
@pytest.mark.parametrize(("name", "wide"), [("kernel", 1), ("attention", 20)])
def test_half_precision(name, wide, format):
    tensors = halves.points(halves.FORMATS[format], 260, wide, ROWS, 20)
    assert has_chunks(halves.reduction(name, 260, wide).reduction.stored_as(format), "f32")
    halves.check(name, tensors, 8 * halves.ERRORS[format] + 4e-6)


@pytest.mark.thorough
def test_ranges():
    """Blocks of rows and of columns that are no multiples of anything."""
    rows, columns = 60, 50
    genred, arrays = products.reduction("product", 130), products.points(130, rows, columns)
    blocks, ranges = uneven_blocks(rows, columns)
    found = products.call(genred, arrays, ranges=ranges)
    a = products.wide(arrays)
    for start, stop, chosen in blocks:
        part = {"x": a["x"][start:stop], "y": a["y"][:, chosen], "b": a["b"][:, chosen]}
        expected = products.CASES["product"][2](part)
        np.testing.assert_allclose(found[start:stop], expected, rtol=5e-6, atol=5e-6)


def test_batches():
    """Each entry has an origin of its own."""
    entries = [products.points(130, ROWS, 9, seed) for seed in range(2)]
    together = {k: np.stack([e[k] + n for n, e in enumerate(entries)]) for k in "xyb"}
    found = products.call(products.reduction("Gaussian", 130), together)
    for n, result in enumerate(found):
        a = products.wide({k: together[k][n] for k in "xyb"})
        expected = products.CASES["Gaussian"][2](a)
        np.testing.assert_allclose(result, expected, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("far", products.FAR)
def test_a_column_far_away_does_no_harm(far):
    """In its last component too, which stands for those that lack to a chunk."""
    arrays = products.points(130, ROWS, 20)
    arrays["y"][7, 129] = products.FAR[far]
    found = products.call(products.reduction("Gaussian", 130), arrays)
    with np.errstate(all="ignore"):
        expected = products.CASES["Gaussian"][2](products.wide(arrays))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_one_column_and_no_columns():
    arrays, genred = products.points(130, ROWS, 1), products.reduction("Gaussian", 130)
    expected = products.CASES["Gaussian"][2](products.wide(arrays))
    np.testing.assert_allclose(products.call(genred, arrays), expected, rtol=1e-5)
    empty = {k: v[:0] if k in "yb" else v for k, v in arrays.items()}
    np.testing.assert_array_equal(products.call(genred, empty), 0.0)


@pytest.mark.thorough
def test_a_contraction_of_another_length():
    """The norm of a long vector that is no factor of the product."""
    rng = np.random.default_rng(0)
    shapes = {"x": (ROWS, 130), "y": (20, 130), "z": (20, 270)}
    arrays = {k: rng.uniform(-0.1, 0.1, s).astype(np.float32) for k, s in shapes.items()}
    aliases = ["x = Vi(130)", "y = Vj(130)", "z = Vj(270)"]
    genred = Genred("Exp(x | y) * SqNorm2(z)", aliases, axis=1, use_fast_math=True)
    assert has_chunks(genred)
    x, y, z = (array.astype(np.float64) for array in arrays.values())
    expected = np.exp(x @ y.T) @ (z**2).sum(1)
    np.testing.assert_allclose(genred(*arrays.values())[:, 0], expected, rtol=2e-6)


def test_the_exact_kernel_takes_differences():
    aliases = ["x = Vi(300)", "y = Vj(300)"]
    exact = Genred("Exp(-SqDist(x, y))", aliases, axis=1, use_fast_math=False)
    assert not products.is_product(exact)


@pytest.mark.parametrize("name", ["Gaussian", "attention"])
def test_no_bank_conflicts(name, request):
    """In a tile that is full: else lanes without a column of their own read the last one."""
    if request.node.callspec.params["machine"] != "stand-in":
        pytest.skip("of whole blocks")
    stand_in = StandIn(processors=1, resident=1, capability=(9, 0))
    stand_in.banks = Banks()
    with drivers.use(stand_in):
        updates.check(name, updates.points(136, 17, ROWS, 64), 3e-6)
    assert [text for _, text in stand_in.banks.extra] == []
