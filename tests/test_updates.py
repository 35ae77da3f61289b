"""How exact updates of wide states are, and what they cost: needs PyTorch and ptxas, no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from on_gpu import on_gpu
from ptxsim.banks import Banks
from ptxsim.driver import StandIn
from test_gpu_products import UNIT
from test_gpu_updates import ROWS, call, is_updated, points, reduction
from test_products import hard_factors

from redcomp.numpy import Genred
from redcomp.runtime import driver as drivers

DRAW = {
    "uniform": lambda rng, shape: rng.uniform(0, 1, shape),
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "of all sizes": lambda rng, shape: (
        rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 7, shape)
    ),
    "hard": hard_factors,
}


def sums(f: Any, g: Any) -> Any:
    """sum_j f_ij g_j as kernels compute it, f being given."""
    aliases = [f"f = Vij({1})", f"g = Vj({g.shape[1]})"]
    genred = Genred("f * g", aliases, axis=1, use_fast_math=True)
    assert is_updated(genred)
    with on_gpu("stand-in"):
        return genred(f[..., None], g, backend="GPU")


@pytest.mark.parametrize("columns", [1, 16, 40])
@pytest.mark.parametrize("kind", DRAW)
def test_a_sum_errs_by_at_most_4_units(kind, columns):
    """Of the sum of all |f g|, in units of the last place of float32."""
    rng = np.random.default_rng(0)
    f, g = (DRAW[kind](rng, s).astype(np.float32) for s in ((ROWS, columns), (columns, 16)))
    a, b = f.astype(np.float64), g.astype(np.float64)
    assert np.all(np.abs(sums(f, g) - a @ b) <= 4 * UNIT * (np.abs(a) @ np.abs(b)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "dim", "wide"), [("Gaussian", 3, 64), ("Gaussian", 3, 20), ("attention", 64, 64)]
)
def test_no_bank_is_asked_twice(name, dim, wide, dtype):
    """Neither where tiles are filled nor where pairs read them."""
    stand_in = StandIn(processors=1, resident=1)
    stand_in.banks = Banks()
    arrays = points(dim, wide, ROWS, 48, dtype)
    with drivers.use(stand_in):
        call(reduction(name, dim, wide), arrays)
    # Where threads diverge, those of a warp are at different columns in the stand-in.
    of_columns = ("ld.shared.v", "ld.shared.b64") if name == "attention" else ()
    found = [text for _, text in stand_in.banks.extra if not text.startswith(of_columns)]
    assert found == []


WORTH = [
    ("Gaussian", 3, 16),
    ("Gaussian", 3, 100),
    ("Gaussian", 3, 256),
    ("Gaussian", 64, 64),
    ("attention", 64, 64),
]


@pytest.mark.ptxas
@pytest.mark.slow
@pytest.mark.sampled(8)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(("name", "dim", "wide"), WORTH)
def test_one_kernel_without_spills_whose_limit_is_arithmetic(name, dim, wide, target, dtype):
    made = reduction(name, dim, wide).lower(dtype, target=target)
    if dtype == "float64" and not made.nest.updates:  # too wide for registers
        assert wide > 128
        return
    (cost,) = made.costs
    assert cost.spills == 0, cost.resources
    assert cost.reached.pairs >= 0.75 * made.ideal.pairs


@pytest.mark.parametrize("target", ["sm_75", "sm_86", "sm_89", "sm_120"])
def test_who_has_no_fast_products_writes_them_out(target):
    genred = reduction("Gaussian", 3, 64)
    assert not is_updated(genred, target)
    assert is_updated(genred, "sm_80")


@pytest.mark.parametrize(
    ("formula", "aliases", "options"),
    [
        ("Exp(-SqDist(x, y)) * b", ["b = Vj(8)"], {}),  # written out, they are as fast
        ("Exp(-SqDist(x, y)) * b", ["b = Vj(300)"], {}),  # do not fit into registers
        ("Exp(-SqDist(x, y)) * b", ["b = Vj(64)"], {"use_fast_math": False}),
        ("Exp(-SqDist(x, y)) * b", ["b = Vj(64)"], {"sum_scheme": "kahan_scheme"}),
        ("Exp(-SqDist(x, y)) * Sin(b * Elem(x, 0))", ["b = Vj(64)"], {}),
        ("Exp(-SqDist(x, y)) * b", ["b = Vj(64)"], {"reduction_op": "Max"}),
        ("8 * (x | y)", ["b = Vj(64)"], {"reduction_op": "Max_SumShiftExpWeight", "formula2": "b"}),
    ],
)
def test_what_stays_written_out(formula, aliases, options):
    genred = Genred(formula, ["x = Vi(3)", "y = Vj(3)", *aliases], axis=1, **options)
    assert not is_updated(genred)


def test_calls_of_few_rows_write_them_out():
    stand_in = StandIn(processors=1)
    arrays = points(3, 64, 40, 9)
    with drivers.use(stand_in):
        found = call(reduction("Gaussian", 3, 64), arrays)
    expected = np.exp(-((arrays["x"][:, None] - arrays["y"]) ** 2).sum(-1)) @ arrays["b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_a_wide_sum():
    """Those of b are as wide as it."""
    arrays = points(3, 20, ROWS, 53)
    tensors = {k: torch.tensor(arrays[k], requires_grad=True) for k in "xyb"}
    import redcomp.torch as faces

    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(20)"]
    operation = faces.Genred("Exp(-SqDist(x, y)) * b", aliases, axis=1, use_fast_math=True)
    e = torch.linspace(-1, 1, ROWS * 20).reshape(ROWS, 20)
    with on_gpu("stand-in"):
        operation(*tensors.values(), backend="GPU").backward(e)
    dense = {k: torch.tensor(arrays[k], dtype=torch.float64, requires_grad=True) for k in "xyb"}
    x, y, b = dense.values()
    (torch.exp(-((x[:, None] - y) ** 2).sum(-1)) @ b).backward(e.double())
    for name, tensor in tensors.items():
        scale = float(dense[name].grad.abs().max())
        np.testing.assert_allclose(tensor.grad, dense[name].grad, rtol=1e-5, atol=1e-5 * scale)
