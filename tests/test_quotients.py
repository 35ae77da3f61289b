"""Quotients by what pairs share: needs a CPU.

They are multiply-adds on targets that fuse them; see `redcomp/ops/expansions/quotients.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from host_targets import RUNNING

from redcomp.numpy import Genred

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
every_target = pytest.mark.parametrize("target", RUNNING)

# What is selected stays in the sum, as a value of the pair.
KEPT = "IfElse(one, {}, one)"
OF_PAIR = KEPT.format("x")


@pytest.fixture(autouse=True)
def compiled_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDCOMP_TARGET", request.getfixturevalue("target"))


def special(dtype: type) -> Array:
    """Numbers of all kinds and magnitudes, of both signs."""
    info = np.finfo(dtype)
    powers = np.ldexp(np.ones((), dtype), np.arange(info.minexp - info.nmant, info.maxexp, 9))
    limits = [info.max, info.tiny, info.smallest_subnormal, np.inf, np.nan, 0.0, 1.0, 3.0]
    near = np.array(limits).astype(dtype)
    beside = np.nextafter(near, dtype(1))
    numbers = np.concatenate([powers, dtype(1.3) * powers, near, beside])
    return np.concatenate([numbers, -numbers])


def kept(formula: str, dtype: type, *aliases: str) -> Callable[..., Array]:
    """The formula at each row, for one column."""
    term = Genred(KEPT.format(formula), [*aliases, "one=Vj(1)"], axis=1)
    one = np.ones((1, 1), dtype)
    return lambda *operands: term(*operands, one)[:, 0]


def by_parameter(x: Array, c: Array, formula: str = "{}") -> Array:
    divided = kept(formula.format(f"{OF_PAIR}/c"), x.dtype.type, "x=Vi(1)", "c=Pm(1)")
    return np.stack([divided(x[:, None], number[None]) for number in c], 1)


def by_column(x: Array, c: Array, formula: str = "{}") -> Array:
    divided = kept(formula.format("x/c"), x.dtype.type, "x=Vi(1)", "c=Vj(1)")
    return np.stack([divided(x[:, None], number[None, None]) for number in c], 1)


def by_row(x: Array, c: Array, formula: str = "{}") -> Array:
    divided = kept(formula.format("x/c"), x.dtype.type, "x=Vj(1)", "c=Vi(1)")
    return np.stack([divided(number[None, None], c[:, None]) for number in x], 0)


def by_number(x: Array, c: Array, formula: str = "{}") -> Array:
    quotients = (f"{OF_PAIR}/({float(number)!r})" for number in c)
    divided = [kept(formula.format(q), x.dtype.type, "x=Vi(1)") for q in quotients]
    return np.stack([one(x[:, None]) for one in divided], 1)


def flushed(a: Array) -> Array:
    """What hosts may give: zeros of the same sign instead of subnormal numbers."""
    return np.where(np.abs(a) < np.finfo(a.dtype).tiny, np.copysign(a.dtype.type(0), a), a)


def check(found: Array, x: Array, c: Array) -> None:
    """Bit for bit, but for the last digits of results that are hardly normal numbers."""
    with np.errstate(all="ignore"):
        expected = (x[:, None] / c[None, :]).astype(x.dtype)
    info = np.finfo(x.dtype)
    is_small = np.abs(expected) < info.tiny * 2.0 ** (info.nmant + 1)
    np.testing.assert_array_equal(found[~is_small], expected[~is_small])
    small, right = flushed(found[is_small]), flushed(expected[is_small])
    allowed = np.maximum(2.5 * np.spacing(np.abs(right)), 2 * info.tiny)
    assert np.all(np.abs(small - right) <= allowed)


@pytest.mark.sampled(3)
@every_dtype
@every_target
@pytest.mark.parametrize("divided", [by_parameter, by_column, by_row])
def test_special_values(divided: Any, dtype: type, target: str) -> None:
    x = special(dtype)
    c = x[:: 7 if divided is by_parameter else 3]
    check(divided(x, c), x, c)


@pytest.mark.sampled(4)
@every_dtype
@every_target
def test_special_values_by_numbers(dtype: type, target: str) -> None:
    x, info = special(dtype), np.finfo(dtype)
    c = np.array([-0.98, info.max, info.smallest_subnormal], dtype)
    check(by_number(x, c), x, c)


@pytest.mark.sampled(8)
@every_dtype
@every_target
@pytest.mark.parametrize("divided", [by_parameter, by_column, by_row, by_number])
def test_signs_of_zeros(divided: Any, dtype: type, target: str) -> None:
    """A sum does not tell them apart, the inverses do."""
    x, c = np.array([0.0, -0.0], dtype), np.array([3.0, -0.7, 1e30, -1e-30], dtype)
    with np.errstate(all="ignore"):
        expected = 1 / (x[:, None] / c[None, :])
    np.testing.assert_array_equal(divided(x, c, "1/({})"), expected)


def hard_cases(dtype: type, count: int) -> Iterator[tuple[int, int]]:
    """Integers x < c whose quotient is next to the middle of two floats, the last half of a digit
    apart from it by k / c of an ulp / 2**p: solutions of 2**(p + 1) x = k mod c, for small odd k.
    """
    p = np.finfo(dtype).nmant + 1
    random = np.random.default_rng(0)
    for c in random.integers(2 ** (p - 1), 2**p, count):
        c = int(c) | 1
        inverse = pow(2 ** (p + 1), -1, c)
        for k in (1, -1, 3, -3, 5, -5):
            x = k * inverse % c
            if x >= 2 ** (p - 1) and ((x << (p + 1)) - k) // c % 2:
                yield x, c


@pytest.mark.sampled(2)
@every_dtype
@every_target
def test_error_where_quotients_are_next_to_the_middle_of_two_floats(
    dtype: type, target: str
) -> None:
    cases = list(hard_cases(dtype, 2000))
    assert len(cases) > 1000
    x, c = np.array(cases).astype(dtype).T
    found = kept(f"{OF_PAIR}/c", dtype, "x=Vi(1)", "c=Vi(1)")(x[:, None], c[:, None])
    p = np.finfo(dtype).nmant + 1
    # Quotients are in [1/2, 1): the last digit is worth 2**-p.
    errors = [
        abs(Fraction(float(q)) - Fraction(a, b)) * 2**p
        for q, (a, b) in zip(found, cases, strict=True)
    ]
    assert Fraction(49, 100) < max(errors) <= Fraction(1, 2) + Fraction(8, 2**p)
    wrong = sum(error > Fraction(1, 2) for error in errors)
    assert wrong < len(errors) / 2
    if target == "sse2":
        assert not wrong


@pytest.mark.sampled(2)
@every_dtype
@every_target
def test_random_quotients_are_the_nearest_floats(dtype: type, target: str) -> None:
    """But for some in ten millions; whole numbers, and what is exact otherwise, always."""
    random = np.random.default_rng(1)
    c = random.uniform(0.5, 2.0, 20).astype(dtype)
    x = random.uniform(-4.0, 4.0, 50_000).astype(dtype)
    found = by_column(x, c)
    assert np.count_nonzero(found != x[:, None] / c[None, :]) <= 2
    whole = np.arange(-2000, 2000).astype(dtype)
    c = np.array([3.0, 7.0, 10.0, 0.1, 1e-3], dtype)
    products = (whole[:, None] * c[None, :]).astype(dtype)
    exact = np.stack([by_column(products[:, k], c[k : k + 1])[:, 0] for k in range(len(c))], 1)
    np.testing.assert_array_equal(exact, products / c)


@pytest.mark.sampled(2)
@every_dtype
@pytest.mark.parametrize("target", RUNNING[:1])
def test_gradients(dtype: type, target: str) -> None:
    """By x, by the parameter and by the weights of columns, against dense float64."""
    random = np.random.default_rng(2)
    x, y, w = (random.uniform(0.5, 2.0, (n, 1)) for n in (5, 7, 7))
    s = np.array([0.7])
    e = np.ones((5, 1))
    arrays = [a.astype(dtype) for a in (x, y, w, s, e)]
    aliases = ["x=Vi(1)", "y=Vj(1)", "w=Vj(1)", "s=Pm(1)", "e=Vi(1)"]
    term = "Exp(-Square(x-y)/s/w)"
    d = x - y.T
    dense = np.exp(-(d**2) / s / w.T)
    by = {
        "x": (dense * -2 * d / s / w.T).sum(1),
        "w": (dense * d**2 / s / w.T**2).sum(0),
        "s": (dense * d**2 / s**2 / w.T).sum(),
    }
    for name, expected in by.items():
        axis = 0 if name == "w" else 1
        found = Genred(f"Grad({term},{name},e)", aliases, axis=axis)(*arrays)
        total = found.sum() if name == "s" else found[:, 0]
        np.testing.assert_allclose(total, expected, rtol=64 * np.finfo(dtype).eps)


@pytest.mark.sampled(18)
@pytest.mark.parametrize("divisor", ["0.98", "s", "w", "Norm2(x)", "(2*Square(s))"])
@pytest.mark.parametrize("target", ["avx512", "avx2", "neon"])
def test_pairs_leave_the_divider_alone(divisor: str, target: str) -> None:
    aliases = ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)", "s=Pm(1)", "w=Vj(1)"]
    lowered: Any = Genred(f"Exp(-SqDist(x,y)/{divisor})*b", aliases, axis=1).lower("f32", target)
    assert lowered.stats.operations.get("divide", 0) == 0
    counts = lowered.pair_loop.counts
    assert not [name for name in counts if name.startswith(("vdiv", "fdiv"))]
    # A number's quotient has one product less than that of a divisor of unknown size.
    products = {"0.98": 1}.get(divisor, 2)
    without: Any = Genred("Exp(-SqDist(x,y))*b", aliases, axis=1).lower("f32", target)
    more = {
        op: lowered.stats.operations[op] - without.stats.operations[op]
        for op in ("multiply", "fma")
    }
    assert more == {"multiply": products, "fma": 1}
