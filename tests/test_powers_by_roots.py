"""Powers with exponents n / 2 on hosts: needs a CPU, mpmath.

They are made of roots and products; see `half_power` in `redcomp/ops/expansions/powers.py`.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from host_targets import RUNNING

from redcomp.numpy import Genred, LazyTensor
from redcomp.ops.table import OPERATIONS

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
HALVES = (1, -1, 3, -3, 5, -5, 7, -7)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
every_power = pytest.mark.parametrize("n", HALVES)
POINTS = ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"]


@pytest.fixture(params=RUNNING)
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REDCOMP_TARGET", request.param)
    return str(request.param)


def power(x: Array, n: int) -> Array:
    term = Genred(f"IfElse(one, Powf(x, {n / 2}), one)", ["x=Vi(1)", "one=Vj(1)"], axis=1)
    return np.asarray(term(x[:, None], np.ones((1, 1), x.dtype))[:, 0])


@pytest.mark.sampled(32)
@every_power
@every_dtype
def test_special_values(dtype: type, n: int, target: str) -> None:
    """Those of C's pow; results below the normal numbers may be 0."""
    info = np.finfo(dtype)
    wide = np.ldexp(dtype(1), np.arange(info.minexp - info.nmant, info.maxexp, 3)).astype(dtype)
    limits = [0.0, np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, 1.0, 4.0]
    x = np.concatenate([np.array(limits, dtype), wide])
    x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        # Of a number as the exponent NumPy takes the root, which is another function at -inf.
        expected = np.power(x, np.full_like(x, n / 2))
    found = power(x, n)
    is_small = np.abs(expected) < info.tiny
    np.testing.assert_allclose(found[~is_small], expected[~is_small], rtol=4 * info.eps)
    assert np.all((found[is_small] >= 0) & (found[is_small] <= info.tiny))


@pytest.mark.sampled(24)
@every_power
@every_dtype
def test_errors(dtype: type, n: int, target: str) -> None:
    """In units in the last place, as for other powers."""
    random = np.random.default_rng(0)
    width = np.finfo(dtype).maxexp * min(2 / abs(n), 0.75) - 4
    x = np.exp2(random.uniform(-width, width, 1000)).astype(dtype)
    if dtype is np.float32:
        x = np.concatenate([x, np.exp2(random.uniform(-width, width, 50_000)).astype(dtype)])
        exact: Array = np.power(x.astype(np.float64), n / 2)
        errors = np.abs(power(x, n) - exact) / np.spacing(exact.astype(dtype))
    else:
        with mpmath.workprec(160):
            precise = [mpmath.mpf(float(a)) ** mpmath.mpf(n / 2) for a in x]
            found = map(mpmath.mpf, power(x, n).tolist())
            wrong = [abs(f - e) for f, e in zip(found, precise, strict=True)]
        errors = np.array(wrong, float) / np.spacing(np.array(precise, float))
    assert 0.3 < errors.max() <= OPERATIONS["powf"].ulp


@pytest.mark.sampled(16)
@pytest.mark.parametrize("n", [3, -3])
@every_dtype
def test_gradients(dtype: type, n: int) -> None:
    """To the second order, against dense float64."""
    random = np.random.default_rng(1)
    x, y = random.uniform(0, 2, (6, 1)), random.uniform(0, 2, (8, 1))
    d, k = x - y.T, n / 2
    base = d**2 + 1
    first = (k * base ** (k - 1) * 2 * d).sum(1)
    second = (k * (k - 1) * base ** (k - 2) * 4 * d**2 + 2 * k * base ** (k - 1)).sum(1)
    e = np.ones((6, 1))
    arrays = [a.astype(dtype) for a in (x, y, e)]
    aliases = ["x=Vi(1)", "y=Vj(1)", "e=Vi(1)"]
    formula = f"Powf(SqDist(x,y)+1,{k})"
    for expected in (first, second):
        formula = f"Grad({formula},x,e)"
        found = Genred(formula, aliases, axis=1)(*arrays)[:, 0]
        np.testing.assert_allclose(found, expected, rtol=100 * np.finfo(dtype).eps)


@pytest.mark.sampled(27)
@every_power
def test_ways_to_write_it(n: int) -> None:
    """Powf, ** and LazyTensors compute the same; but -1/2 is Rsqrt, and 1/2 Sqrt, of **."""
    random = np.random.default_rng(2)
    x, y, b = (random.uniform(0, 2, shape) for shape in ((5, 3), (7, 3), (7, 1)))
    expected = ((((x[:, None] - y[None]) ** 2).sum(-1) + 1) ** (n / 2)) @ b
    lazy = ((LazyTensor(x[:, None]) - LazyTensor(y[None])) ** 2).sum(-1) + 1
    texts = (f"Powf(SqDist(x,y)+1,{n / 2})*b", f"(SqDist(x,y)+1)**({n}/2)*b")
    found = [Genred(text, POINTS, axis=1)(x, y, b) for text in texts]
    for result in (*found, (lazy ** (n / 2)) @ b):
        np.testing.assert_allclose(result, expected, rtol=1e-14)
    assert "Pm" not in str(lazy ** (n / 2))


@pytest.mark.sampled(36)
@pytest.mark.parametrize("text", ["Powf({},-1.5)*b", "{}**2.5*b", "Grad(Powf({},-0.5)*b,x,b)"])
@every_dtype
def test_no_logarithm_is_taken(dtype: type, text: str, target: str) -> None:
    reduction = Genred(text.format("(SqDist(x,y)+1)"), POINTS, axis=1)
    lowered: Any = reduction.lower(dtype.__name__, target)
    operations = lowered.stats.operations
    assert not {"lookup", "scale", "floor"} & set(operations)
    if target == "avx512":
        assert not {"divide", "sqrt"} & set(operations)
