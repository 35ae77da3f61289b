"""How exact products of matrices are, and what they cost: needs PyTorch and ptxas, no GPU."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from on_gpu import on_gpu
from ptxsim.machine import Machine
from ptxsim.threads import WARP
from test_gpu_products import CASES, ROWS, UNIT, call, is_product, points, reduction, wide

from redcomp.numpy import Genred
from redcomp.ptx.mma import PRODUCTS


def pairs(x: Any, y: Any) -> Any:
    """The products of all x with one y, each of them a result, as kernels compute them."""
    dim = x.shape[-1]
    genred = Genred("(x | y)", [f"x = Vi({dim})", f"y = Vj({dim})"], axis=1, use_fast_math=True)
    assert is_product(genred)
    with on_gpu("stand-in"):
        return np.stack([genred(x, row[None], backend="GPU")[:, 0] for row in y], axis=1)


def hard_factors(rng: Any, shape: tuple[int, ...]) -> Any:
    """Numbers just above 1, of which rounding to 11 bits cuts off most."""
    bits = (
        0x3F800000 | rng.integers(0, 2, shape) << 13 | rng.choice([0x0FFF, 0x1000, 0x17FF], shape)
    )
    return bits.astype(np.uint32).view(np.float32) * rng.choice([-1, 1], shape).astype(np.float32)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("kind", "dim"),
    [("uniform", 64), ("normal", 64), ("of all sizes", 64), ("hard", 64), ("of all sizes", 300)],
)
def test_a_product_errs_by_at_most_4_units(kind, dim):
    """Of the sum of all |x_k y_k|, in units of the last place of float32."""
    rng = np.random.default_rng(0)
    shape_x, shape_y = (64, dim), (4 if dim == 64 else 1, dim)
    draw = {
        "uniform": lambda shape: rng.uniform(0, 1, shape),
        "normal": rng.standard_normal,
        "of all sizes": lambda shape: (
            rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)
        ),
        "hard": lambda shape: hard_factors(rng, shape),
    }[kind]
    x, y = (draw(shape).astype(np.float32) for shape in (shape_x, shape_y))
    found = pairs(x, y)
    a, b = x.astype(np.float64), y.astype(np.float64)
    assert np.all(np.abs(found - a @ b.T) <= 4 * UNIT * (np.abs(a) @ np.abs(b).T))


@pytest.mark.sampled(63)
@pytest.mark.parametrize(
    ("width", "offset", "dim"),
    [*itertools.product([0.1, 1.0, 30.0], [0.0, 1.0, 1e3], [16, 64]), (1.0, 1e3, 130)],
)
def test_error_of_a_distance(dim, width, offset):
    """Relative to the sum: at most 2^-20 times the square of the radius, wherever the points
    are.  The length of the kernel is 1."""
    rng = np.random.default_rng(0)
    y = rng.uniform(-width / 2, width / 2, (32, dim))
    x = y[rng.integers(0, 32, ROWS)] + rng.uniform(-1, 1, (ROWS, dim)) * (3 / dim) ** 0.5
    arrays = points(dim, ROWS, 32)
    arrays |= {"x": (x + offset).astype(np.float32), "y": (y + offset).astype(np.float32)}
    with on_gpu("stand-in"):
        found = call(reduction("Gaussian", dim), {**arrays, "b": np.abs(arrays["b"]) + 0.5})
    a = wide({**arrays, "b": np.abs(arrays["b"]) + 0.5})
    expected = CASES["Gaussian"][2](a)
    radius = max(((a[k] - a["y"][:, :1]) ** 2).sum(-1).max() for k in "xy")
    assert np.abs(found / expected - 1).max() <= 2.0**-20 * (radius + 1)


def test_a_kernel_of_far_points_is_never_above_1():
    """Where the bound says nothing any more: a distance is not negative."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1e4, 1e4, (ROWS, 16)).astype(np.float32)
    genred = Genred(
        "Exp(-SqDist(x, y))", ["x = Vi(16)", "y = Vj(16)"], "Max", 1, use_fast_math=True
    )
    assert is_product(genred)
    with on_gpu("stand-in"):
        found = genred(x, x, backend="GPU")
    assert found.max() <= 1.0


@pytest.mark.sampled(8)
@pytest.mark.parametrize("dim", [16, 48, 64])
def test_no_bank_is_asked_more_than_twice(dim, monkeypatch):
    """By the threads of a warp that read or write single words of shared memory.

    In the loop over pairs no bank is asked twice.  Where columns are prepared, two of the lanes
    that read components of four columns meet in a bank, and two of those that write them.
    """
    conflicts: dict[str, int] = defaultdict(int)
    read, write = Machine.read, Machine.write

    def count(machine: Machine, site: Any, addresses: Any, threads: Any, size: int) -> None:
        if site.space == "shared" and site.size == size == 4:
            banks = defaultdict(set)
            for warp, address in zip(machine.threads.warp[threads], addresses, strict=True):
                banks[warp, int(address) // 4 % WARP].add(int(address))
            most = max(map(len, banks.values()))
            text = f"{site.instruction.line}: {site.instruction.text}"
            conflicts[text] = max(conflicts[text], most)

    def counted_read(self: Machine, site: Any, access: Any, at: Any, who: Any, size: int) -> Any:
        count(self, site, at, who, size)
        return read(self, site, access, at, who, size)

    def counted_write(
        self: Machine, site: Any, access: Any, at: Any, who: Any, values: Any, size: int
    ) -> None:
        count(self, site, at, who, size)
        write(self, site, access, at, who, values, size)

    monkeypatch.setattr(Machine, "read", counted_read)
    monkeypatch.setattr(Machine, "write", counted_write)
    with on_gpu("stand-in"):
        call(reduction("Gaussian", dim), points(dim, ROWS, 48))
    assert len(conflicts) > dim // 4
    assert {text: n for text, n in conflicts.items() if n > 2} == {}
    # Each lane of a column reads every eighth component.
    assert sum(n > 1 for text, n in conflicts.items() if "ld." in text) <= dim // 8


@pytest.mark.ptxas
@pytest.mark.slow
@pytest.mark.sampled(352)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("dim", [16, 64, 128, 300, 1000])
@pytest.mark.parametrize("name", ["Gaussian", "softmax", "three columns"])
def test_no_register_is_spilled_and_arithmetic_is_the_limit(name, dim, target, dtype):
    made = reduction(name, dim).lower(dtype, target=target)
    if not made.nest.products:
        # Where they are slower, and in float64 where vectors are too long.
        assert dim < 64 or (dtype == "float64" and (dim > 64 or target == "sm_100"))
        return
    (cost,) = made.costs
    assert cost.spills == 0, cost.resources
    assert cost.reached.pairs >= 0.8 * made.ideal.pairs


@pytest.mark.parametrize("name", ["f32", "tf32", "bf16"])
def test_chunks_have_few_zeros(name):
    """Whole products of matrices, and few zeros."""
    product = PRODUCTS[name]
    for dim in range(product.kept + 1, 2000, 7):
        size, depth = product.chunk(dim), product.depth(dim)
        assert size % product.k == depth % size == 0
        assert dim <= depth < dim + size
        assert depth < 1.13 * dim


@pytest.mark.sampled(8)
@pytest.mark.parametrize("target", ["sm_75", "sm_86", "sm_89", "sm_120"])
def test_who_has_no_fast_products_writes_them_out(target):
    assert not is_product(reduction("Gaussian", 64), target)
    assert is_product(reduction("Gaussian", 64), "sm_80")


def test_few_rows_and_exact_calls_write_them_out():
    aliases = ["x = Vi(64)", "y = Vj(64)"]
    exact = Genred("Exp(-SqDist(x, y))", aliases, axis=1, use_fast_math=False)
    assert not is_product(exact)
