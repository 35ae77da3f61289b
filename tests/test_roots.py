"""Square roots and their inverses on hosts: needs a CPU.

On AVX-512 both are made of an estimate; see `redcomp/ops/expansions/roots.py`.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_targets import RUNNING

from redcomp.interpret import interpret
from redcomp.ir import Type, variable
from redcomp.llvm_backend.host.targets import host_target
from redcomp.numpy import Genred
from redcomp.ops.expansions.roots import sqrt_by_estimate
from redcomp.ops.table import OPERATIONS
from redcomp.passes.expand import expand_value

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
prove_roots: Any = importlib.import_module("prove_roots")

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
FORMATS = dict(zip((np.float32, np.float64), prove_roots.FORMATS, strict=True))
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
every_target = pytest.mark.parametrize("target", RUNNING)


def at_each(formula: str, x: Array, target: str, monkeypatch: pytest.MonkeyPatch) -> Array:
    """The formula at each row, as a value of a pair."""
    monkeypatch.setenv("REDCOMP_TARGET", target)
    term = Genred(f"IfElse(one, {formula}, one)", ["x=Vi(1)", "one=Vj(1)"], axis=1)
    return np.asarray(term(x[:, None], np.ones((1, 1), x.dtype))[:, 0])


def samples(dtype: type) -> Array:
    """Numbers of all magnitudes, their neighbours, squares, and what is hard to round."""
    form, info = FORMATS[dtype], np.finfo(dtype)
    random = np.random.default_rng(0)
    wide = np.exp2(random.uniform(info.minexp, info.maxexp, 100_000)).astype(dtype)
    powers = np.ldexp(dtype(1), np.arange(info.minexp, info.maxexp)).astype(dtype)
    squares = np.square(np.arange(2000, dtype=dtype))
    significands = [float(x) for x in prove_roots.near_middles(form, 500)]
    exponents = 2 * np.arange(-20, 20)
    hard = np.ldexp(np.array(significands, dtype)[:, None], exponents).astype(dtype).ravel()
    beside = [np.nextafter(powers, dtype(limit)) for limit in (0, np.inf)]
    special = np.array([0.0, np.inf, np.nan, info.max], dtype)
    numbers = np.concatenate([wide, powers, squares, hard, *beside, special])
    return np.concatenate([numbers, -numbers[::50], -special])


@every_dtype
@every_target
def test_roots_are_the_nearest_floats(
    dtype: type, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = samples(dtype)
    info = np.finfo(dtype)
    x = x[~(np.abs(x) < info.tiny * 2.0 ** (info.nmant + 1)) | (x == 0)]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(at_each("Sqrt(x)", x, target, monkeypatch), np.sqrt(x))


@every_dtype
@every_target
def test_roots_of_small_numbers(dtype: type, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subnormal ones among them."""
    info = np.finfo(dtype)
    random = np.random.default_rng(1)
    x = np.exp2(random.uniform(info.minexp - info.nmant, info.minexp + info.nmant, 20_000))
    x = np.append(x.astype(dtype), info.smallest_subnormal)
    exact = np.sqrt(x)
    wrong = np.abs(at_each("Sqrt(x)", x, target, monkeypatch) - exact) / np.spacing(exact)
    assert wrong.max() <= (1 if dtype is np.float32 or target != "avx512" else 2)


@pytest.mark.sampled(2)
@every_dtype
@every_target
@pytest.mark.parametrize("op", ["Sqrt", "Rsqrt"])
def test_roots_of_zeros(op: str, dtype: type, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inverses tell them apart; the inverse root of either is 0."""
    x = np.array([0.0, -0.0], dtype)
    expected = {"Sqrt": [np.inf, -np.inf], "Rsqrt": [np.inf, np.inf]}[op]
    found = at_each(f"1/{op}(x)", x, target, monkeypatch)
    np.testing.assert_array_equal(found, np.array(expected, dtype))


@every_dtype
@every_target
def test_inverse_roots_of_special_values(
    dtype: type, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = np.finfo(dtype)
    x = [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1.0, 0.25, info.tiny, info.smallest_subnormal]
    x = np.array(x, dtype)
    with np.errstate(all="ignore"):
        expected = np.where(x == 0, 0, 1 / np.sqrt(x))
    found = at_each("Rsqrt(x)", x, target, monkeypatch)
    np.testing.assert_allclose(found, expected, rtol=2 * info.eps)


@every_dtype
def test_proof_is_about_the_expansion(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes what the expansion does, of the same estimates."""
    form, random = FORMATS[dtype], np.random.default_rng(2)
    x = random.uniform(1.0, 4.0, 200).astype(dtype)
    estimate = ((1 + random.uniform(-1, 1, 200) * 2.0**-14) / np.sqrt(x)).astype(dtype)
    row = OPERATIONS["rsqrt_estimate"]
    given = dataclasses.replace(row, evaluate=lambda _: estimate[:, None])
    monkeypatch.setitem(OPERATIONS, row.name, given)
    operand = variable("x", "i", 0, Type("f32" if dtype is np.float32 else "f64"))
    value = expand_value(sqrt_by_estimate(operand), host_target("avx512").primitives)
    (found,) = interpret([value], {"x": x[:, None]})
    computed = [
        float(prove_roots.by_estimate(Fraction(float(a)), Fraction(float(b)), form))
        for a, b in zip(x, estimate, strict=True)
    ]
    np.testing.assert_array_equal(found[:, 0], computed)


def test_roots_are_right_for_all_estimates_in_float64() -> None:
    """Of numbers for which that is hard to say, and some estimates."""
    form = FORMATS[np.float64]
    within = prove_roots.bounds(form)
    hard = list(prove_roots.near_middles(form, 100))
    left = [x for x in hard if not prove_roots.is_proved(x, form, within)]
    assert len(hard) > 20
    assert 0 < len(left) <= 10
    for x in left:
        for _, estimate in zip(range(20), prove_roots.estimates(x, form), strict=False):
            assert prove_roots.by_estimate(x, estimate, form) == prove_roots.root(x, form.bits)


@every_dtype
def test_bounds_before_the_last_step(dtype: type) -> None:
    """Roots of random numbers from estimates at their limits are within them, and close."""
    form = FORMATS[dtype]
    within = prove_roots.bounds(form)
    assert within.root < 2 * form.unit
    assert within.half < 3 * form.unit


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(
    "formula", ["Norm2(x-y)*b", "Exp(-Norm2(x-y))*b", "Matern52(SqDist(x,y))*b"]
)
def test_roots_of_pairs_leave_the_divider_alone(formula: str, dtype: str) -> None:
    reduction = Genred(formula, ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"], axis=1)
    lowered: Any = reduction.lower(dtype, "avx512")
    assert not [name for name in lowered.pair_loop.counts if name.startswith(("vdiv", "vsqrt"))]


def test_root_and_inverse_root_share_the_estimate() -> None:
    formula = "Sqrt(SqDist(x,y))*b + Rsqrt(SqDist(x,y))*b"
    lowered: Any = Genred(formula, ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"], axis=1).lower("f32", "avx512")
    block = lowered.schedule.rows * lowered.schedule.cols
    assert lowered.pair_loop.counts["vrsqrt14ps"] == block


def test_roots_in_long_loops_are_left_to_the_divider() -> None:
    formula = "Exp(-Sqrt(SqDist(x,y)))*Cos(x|y)*b"
    lowered: Any = Genred(formula, ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"], axis=1).lower("f32", "avx512")
    assert any(name.startswith("vsqrt") for name in lowered.pair_loop.counts)
