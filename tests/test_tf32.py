"""Products of matrices with factors rounded to TF32, where callers allow it, interpreted: needs
PyTorch and ptxas, no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import test_gpu_products
import test_gpu_updates
from on_gpu import on_gpu
from test_gpu_products import ROWS, wide

from redcomp.errors import ArgumentError, KeywordError
from redcomp.frontend.reductions.texts import reduction_of, text_of_reduction
from redcomp.interpret import interpret
from redcomp.ir import Type, factors_of, variable
from redcomp.numpy import Genred, KernelSolve, LazyTensor
from redcomp.passes.tf32 import rounded

# Half of the last of 11 bits, of a factor; and of both factors of a product.
ROUNDING = 2.0**-11
ERROR = 2 * ROUNDING
POINTS = ["x = Vi(64)", "y = Vj(64)"]


def formats(genred: Genred, target: str = "sm_90", dtype: str = "float32") -> list[str]:
    nest = genred.lower(dtype, target).nest
    steps = [state.step for state in nest.states if state.step.op == "update"]
    return [factors_of(value) for value in (*(h.definition for h in nest.products), *steps)]


@pytest.mark.sampled(24)
@pytest.mark.parametrize("dim", [64, 50])
@pytest.mark.parametrize("name", test_gpu_products.CASES)
def test_products(name, dim):
    genred = test_gpu_products.reduction(name, dim, allow_tf32=True)
    arrays = test_gpu_products.points(dim, 65, 33)
    # Weights, which one side has, would make distances of near points wrong.
    assert formats(genred) == ["f32" if name == "weighted" else "tf32"]
    with on_gpu("stand-in"):
        found = test_gpu_products.call(genred, arrays)
    expected = test_gpu_products.CASES[name][2](wide(arrays))
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * ERROR * np.abs(expected).max())
    if name != "weighted":  # the option is not forgotten on the way
        assert np.abs(found - expected).max() > 1e-2 * ERROR * np.abs(expected).max()


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("dim", "wide"), [(3, 64), (64, 40)])
@pytest.mark.parametrize("name", ["Gaussian", "attention", "with a scalar", "rising scores"])
def test_updates(name, dim, wide):
    formula, options, dense = test_gpu_updates.CASES[name]
    plain = test_gpu_updates.reduction(name, dim, wide)
    genred = Genred(formula, plain.aliases, axis=1, use_fast_math=True, allow_tf32=True, **options)
    assert set(formats(genred)) <= {"tf32"} or not formats(plain)
    arrays = test_gpu_updates.points(dim, wide, 65, 33)
    with on_gpu("small blocks"):
        found = test_gpu_updates.call(genred, arrays)
    expected = dense(test_gpu_updates.on_axes(arrays))
    np.testing.assert_allclose(found, expected, rtol=0, atol=16 * ERROR * np.abs(expected).max())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", [1.0, 1e-20, 1e15])
def test_a_product_errs_by_two_roundings(size):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(s).astype(np.float32) for s in ((ROWS, 64), (5, 64)))
    x *= np.float32(size)
    genred = Genred("(x | y)", POINTS, axis=1, use_fast_math=True, allow_tf32=True)
    with on_gpu("stand-in"):
        found = np.stack([genred(x, row[None], backend="GPU")[:, 0] for row in y], 1)
    a, b = x.astype(np.float64), y.astype(np.float64)
    error, most = np.abs(found - a @ b.T), ERROR * (np.abs(a) @ np.abs(b).T)
    assert np.all(error <= 1.001 * most)
    assert error.max() > 0.02 * most.max()  # of 64 roundings, which are not all of one sign


@pytest.mark.sampled(36)
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e4])
@pytest.mark.parametrize("width", [0.1, 1.0, 30.0])
def test_a_distance_is_that_of_rounded_points(width, offset):
    """Near points stay near: the error is one of the distance times the radius R of the points,
    and not one of R^2."""
    rng = np.random.default_rng(0)
    y = rng.uniform(-width / 2, width / 2, (32, 64))
    x = y[rng.integers(0, 32, ROWS)] + rng.uniform(-1, 1, (ROWS, 64)) * (3 / 64) ** 0.5
    x, y = ((p + offset).astype(np.float32) for p in (x, y))
    genred = Genred("Exp(-SqDist(x, y))", POINTS, "Max", 1, use_fast_math=True, allow_tf32=True)
    assert formats(genred) == ["tf32"]
    with on_gpu("stand-in"):
        found = np.log(genred(x, y, backend="GPU").astype(np.float64))[:, 0]
    a, b = x.astype(np.float64), y.astype(np.float64)
    distance = np.sqrt(((a[:, None] - b) ** 2).sum(-1).min(1))
    radius = max(np.sqrt(((p - b[0]) ** 2).sum(-1).max()) for p in (a, b))
    moved = 2 * ROUNDING * radius
    bound = 2 * distance * moved + moved**2 + 2.0**-20 * (radius**2 + 1)
    assert np.all(np.abs(found + distance**2) <= bound)


def test_rounding():
    """To nearest, halves away from zero; what is no number stays none."""
    units = np.float32(2.0**-10)
    half = np.float32(2.0**-11)
    cases = [
        (1 + half, 1 + units),
        (1 + half * np.float32(0.999), 1),
        (-1 - half, -1 - units),
        (0.0, 0.0),
        (-0.0, -0.0),
        (np.inf, np.inf),
        (-np.inf, -np.inf),
        (3.4028235e38, np.inf),
        (1.1754944e-38, 1.1754944e-38),
    ]
    given, expected = np.array(cases, np.float32).T
    x = variable("x", "i", 0, Type("f32"))
    (found,) = interpret([rounded(x)], {"x": given[:, None]})
    np.testing.assert_array_equal(found[:, 0].view(np.int32), expected.copy().view(np.int32))
    bad = np.array([0x7FFFFFFF, 0x7FC00000, -1, -0x400000], np.int32).view(np.float32)
    (found,) = interpret([rounded(x)], {"x": bad[:, None]})
    assert np.isnan(found).all()


@pytest.mark.sampled(9)
@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0x7FC00000, 0xFFFFFFFF])
def test_nan_is_not_rounded_away(bits):
    arrays = test_gpu_updates.points(3, 16, ROWS, 20)
    arrays["b"][3, 2] = np.array(bits, np.uint32).view(np.float32)
    plain = test_gpu_updates.reduction("Gaussian", 3, 16)
    genred = Genred(plain.formula, plain.aliases, axis=1, use_fast_math=True, allow_tf32=True)
    with on_gpu("stand-in"):
        found = test_gpu_updates.call(genred, arrays)
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(np.delete(found, 2, 1)).all()


# -- the option ------------------------------------------------------------------------------------


def made(**options: Any) -> Genred:
    return Genred("Exp(x | y)", POINTS, axis=1, **options)


def test_it_is_off_unless_asked_for():
    assert formats(made()) == formats(made(allow_tf32=False)) == ["f32"]
    assert formats(made(allow_tf32=True)) == ["tf32"]
    assert made().lower("float32", "sm_90").llvm != made(allow_tf32=True).lower(target="sm_90").llvm


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("dtype", "target"),
    [("float32", "avx2"), ("float64", "sm_90"), ("float32", "sm_75"), ("bfloat16", "sm_90")],
)
def test_where_it_has_no_effect(dtype, target):
    """On hosts, for other dtypes, and on GPUs without TF32."""
    plain, allowed = (made(allow_tf32=a).lower(dtype, target).llvm for a in (False, True))
    assert plain == allowed


def test_short_vectors_are_not_rounded():
    aliases = ["x = Vi(3)", "y = Vj(3)"]
    assert not formats(Genred("Exp(x | y)", aliases, axis=1, allow_tf32=True))


def test_texts_have_it():
    reduction = made(allow_tf32=True).reduction
    assert reduction_of(text_of_reduction(reduction)).options.allow_tf32


def test_lazy_tensors_take_it():
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(size=s).astype(np.float32) for s in ((ROWS, 1, 64), (1, 9, 64)))
    lazy = (LazyTensor(x) | LazyTensor(y)).exp()
    with on_gpu("stand-in"):
        plain = lazy.sum(1, use_fast_math=True, backend="GPU")
        allowed = lazy.sum(1, use_fast_math=True, allow_tf32=True, backend="GPU")
    assert plain.shape == allowed.shape
    assert not np.array_equal(plain, allowed)
    np.testing.assert_allclose(plain, allowed, rtol=1e-2)


def test_what_is_refused():
    with pytest.raises(ArgumentError, match="allow_tf32 contradicts use_fast_math=False"):
        made(allow_tf32=True, use_fast_math=False)
    with pytest.raises(ArgumentError, match="allow_tf32"):
        made(allow_tf32="yes")
    with pytest.raises(KeywordError, match="allow_tf32"):  # solves need exact products
        KernelSolve("Exp(-SqDist(x, y)) * b", [*POINTS, "b = Vj(1)"], "b", axis=1, allow_tf32=True)
    x, b = np.zeros((4, 1, 3)), np.zeros((4, 1))
    kernel = (-((LazyTensor(x) - LazyTensor(x.reshape(1, 4, 3))) ** 2).sum(-1)).exp()
    known = "unknown option 'allow_tf32'; the options are (?!.*tf32)"
    with pytest.raises(ArgumentError, match=known):
        kernel.solve(b, allow_tf32=True)


@pytest.mark.sampled(6)
@pytest.mark.ptxas
@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention", "Gaussian"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_cost(name, target):
    plain = test_gpu_updates.reduction(name, 64, 64)
    formula, options, _ = test_gpu_updates.CASES[name]
    lowering = Genred(formula, plain.aliases, axis=1, allow_tf32=True, **options).lower(
        "float32", target
    )
    (cost,) = lowering.costs
    assert cost.spills == 0, cost.resources
    assert cost.reached.pairs >= 0.8 * lowering.ideal.pairs
