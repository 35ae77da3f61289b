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
from test_ptx_resources import gradients

import redcomp.torch as faces
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


@pytest.mark.sampled(12)
@pytest.mark.parametrize("columns", [1, 16, 40])
@pytest.mark.parametrize("kind", DRAW)
def test_a_sum_errs_by_at_most_4_units(kind, columns):
    """Of the sum of all |f g|, in units of the last place of float32."""
    rng = np.random.default_rng(0)
    f, g = (DRAW[kind](rng, s).astype(np.float32) for s in ((ROWS, columns), (columns, 16)))
    a, b = f.astype(np.float64), g.astype(np.float64)
    assert np.all(np.abs(sums(f, g) - a @ b) <= 4 * UNIT * (np.abs(a) @ np.abs(b)))


@pytest.mark.sampled(8)
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


@pytest.mark.sampled(24)
@pytest.mark.parametrize("dim", [16, 64])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
@pytest.mark.parametrize("width", [0.1, 1.0, 30.0])
def test_error_of_a_gradient(dim, width, offset):
    """Relative to the sum of the lengths of its terms: the bound of the Gaussian's own error, at
    most 2^-20 times the square of the radius, wherever the points are.  The kernel's length is 1.
    """
    rng = np.random.default_rng(0)
    y = rng.uniform(-width / 2, width / 2, (33, dim))
    x = y[rng.integers(0, 33, ROWS)] + rng.uniform(-1, 1, (ROWS, dim)) * (3 / dim) ** 0.5
    x, y = ((points + offset).astype(np.float32) for points in (x, y))
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})"]
    genred = Genred("Grad(Exp(-SqDist(x, y)), x, 1)", aliases, axis=1, use_fast_math=True)
    assert is_updated(genred)
    with on_gpu("stand-in"):
        found = genred(x, y, backend="GPU")
    a, b = x.astype(np.float64), y.astype(np.float64)
    differences = a[:, None] - b
    terms = -2 * np.exp(-(differences**2).sum(-1, keepdims=True)) * differences
    radius = max(((p - b[0]) ** 2).sum(-1).max() for p in (a, b))
    error = np.linalg.norm(found - terms.sum(1), axis=-1)
    assert np.all(error <= 2.0**-20 * (radius + 1) * np.linalg.norm(terms, axis=-1).sum(1))


@pytest.mark.sampled(9)
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
@pytest.mark.parametrize("width", [0.1, 1.0, 30.0])
def test_error_of_a_gradient_of_a_logarithm(width, offset):
    """The same bound, where the kernel's values are weights."""
    rng = np.random.default_rng(0)
    y = rng.uniform(-width / 2, width / 2, (33, 16))
    x = y[rng.integers(0, 33, ROWS)] + rng.uniform(-1, 1, (ROWS, 16)) * (3 / 16) ** 0.5
    x, y = ((points + offset).astype(np.float32) for points in (x, y))
    genred = faces.Genred(
        "-SqDist(x, y)", ["x = Vi(16)", "y = Vj(16)"], "LogSumExp", axis=1, use_fast_math=True
    )
    given = torch.tensor(x, requires_grad=True)
    with on_gpu("stand-in"):
        result = genred(given, torch.tensor(y), backend="GPU")
        (found,) = torch.autograd.grad(result.sum(), given)
    a, b = x.astype(np.float64), y.astype(np.float64)
    differences = a[:, None] - b
    exponents = -(differences**2).sum(-1, keepdims=True)
    weights = np.exp(exponents - exponents.max(1, keepdims=True))
    terms = -2 * weights / weights.sum(1, keepdims=True) * differences
    radius = max(((p - b[0]) ** 2).sum(-1).max() for p in (a, b))
    error = np.linalg.norm(found.numpy() - terms.sum(1), axis=-1)
    assert np.all(error <= 2.0**-20 * (radius + 1) * np.linalg.norm(terms, axis=-1).sum(1))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("width", [1.0, 1e3])
def test_error_of_a_sum_of_differences(width, offset):
    """At most 2^-21 times the radius, relative to the sum of the numbers that multiply them."""
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-width / 2, width / 2, (n, 20)) + offset for n in (ROWS, 300))
    x, y = x.astype(np.float32), y.astype(np.float32)
    w = rng.uniform(0, 1, (300, 1)).astype(np.float32)
    s = rng.uniform(1, 2, (ROWS, 1)).astype(np.float32)
    aliases = ["x = Vi(20)", "y = Vj(20)", "w = Vj(1)", "s = Vi(1)"]
    genred = Genred("Exp(-w * s) * (x - y)", aliases, axis=1, use_fast_math=True)
    assert is_updated(genred)
    with on_gpu("stand-in"):
        found = genred(x, y, w, s, backend="GPU")
    a, b = x.astype(np.float64), y.astype(np.float64)
    f = np.exp(-(w.astype(np.float64).T) * s.astype(np.float64))
    error = np.abs(found - (f[..., None] * (a[:, None] - b)).sum(1)).max(1)
    radius = max(np.abs(points - b[0]).max() for points in (a, b))
    assert np.all(error <= 2.0**-21 * radius * f.sum(1))


@pytest.mark.thorough
@pytest.mark.ptxas
@pytest.mark.parametrize("dim", [16, 64])
def test_gradients_take_about_one_instruction_a_component(dim):
    """Differences take three and more, and loads besides."""
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)", "e = Vi(1)"]
    made = Genred("Grad(Exp(-SqDist(x, y)) * b, x, e)", aliases, axis=1).lower(target="sm_90")
    (cost,) = made.costs
    assert cost.spills == 0, cost.resources
    assert cost.instructions <= 1.1 * dim


@pytest.mark.thorough
@pytest.mark.ptxas
@pytest.mark.parametrize("dim", [16, 64])
def test_gradients_of_logarithms_take_as_many(dim):
    """Such as those of soft minima in Sinkhorn's algorithm."""
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "w = Vj(1)"]
    made = Genred("w - SqDist(x, y)", aliases, "LogSumExp", axis=1).reduction
    of_rows, _ = gradients(made)
    (cost,) = of_rows.lower("f32", "sm_90").costs
    assert cost.spills == 0, cost.resources
    assert cost.instructions <= dim + 5


@pytest.mark.thorough
@pytest.mark.ptxas
@pytest.mark.parametrize(("dim", "wide", "kernels"), [(3, 300, 2), (3, 1000, 4), (64, 256, 2)])
def test_more_columns_take_as_few_kernels_as_registers_allow(dim, wide, kernels):
    """Some 0.46 instructions a column, and a kernel's value in each kernel."""
    made = reduction("Gaussian", dim, wide).lower(target="sm_90")
    assert len(made.costs) == kernels
    assert all(cost.spills == 0 for cost in made.costs)
    value = 10 if dim == 3 else 32
    assert sum(cost.instructions for cost in made.costs) <= 0.48 * wide + kernels * value


# Sweeps over pairs that a backward pass makes, the products and updates of each, and instructions a
# pair that it takes at most, with 64 components.
SWEEPS = {
    "attention": (
        ("(x | y)", {"reduction_op": "SumSoftMaxWeight", "formula2": "b"}),
        ((2, 1, 85), (2, 2, 120)),
    ),
    "Gaussian": (("Exp(-SqDist(x, y)) * b", {}), ((2, 1, 90), (2, 2, 125))),
}


@pytest.mark.thorough
@pytest.mark.ptxas
@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_backward_passes_make_two_sweeps(name):
    """One for the rows, and one for both arguments of the columns, which share the exponential."""
    (formula, options), sweeps = SWEEPS[name]
    aliases = ["x = Vi(64)", "y = Vj(64)", "b = Vj(64)"]
    own = gradients(Genred(formula, aliases, axis=1, **options).reduction)
    for sweep, (products, updates, most) in zip(own, sweeps, strict=True):
        made = sweep.lower("f32", "sm_90")
        (cost,) = made.costs
        assert (len(made.nest.products), len(made.nest.updates)) == (products, updates)
        assert cost.instructions <= most


WORTH = [
    ("Gaussian", 3, 16),
    ("Gaussian", 3, 100),
    ("Gaussian", 3, 256),
    ("Gaussian", 64, 64),
    ("attention", 64, 64),
]


@pytest.mark.ptxas
@pytest.mark.slow
@pytest.mark.sampled(32)
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


@pytest.mark.sampled(4)
@pytest.mark.parametrize("target", ["sm_75", "sm_86", "sm_89", "sm_120"])
def test_who_has_no_fast_products_writes_them_out(target):
    genred = reduction("Gaussian", 3, 64)
    assert not is_updated(genred, target)
    assert is_updated(genred, "sm_80")


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("formula", "aliases", "options"),
    [
        ("Exp(-SqDist(x, y)) * b", ["b = Vj(8)"], {}),  # written out, they are as fast
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


@pytest.mark.thorough
def test_calls_of_few_rows_write_them_out():
    stand_in = StandIn(processors=1)
    arrays = points(3, 64, 40, 9)
    with drivers.use(stand_in):
        found = call(reduction("Gaussian", 3, 64), arrays)
    expected = np.exp(-((arrays["x"][:, None] - arrays["y"]) ** 2).sum(-1)) @ arrays["b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.thorough
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
