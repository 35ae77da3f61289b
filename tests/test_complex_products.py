"""Products of complex numbers over i and j, and their derivatives: needs the CPU and PyTorch.

What they are compared with is computed with 200 bits, or densely in complex float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from reference_reductions import reduce_pairs

import redcomp.numpy
from redcomp.errors import ArgumentError, FormulaError
from redcomp.torch import Genred, LazyTensor, Vi, Vj

# PyTorch's forward mode warns about PyTorch's own scripts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Tensor = torch.Tensor
Tensors = Sequence[Tensor]
EPS = {torch.complex64: 2.0**-23, torch.complex128: 2.0**-52}
C64, C128 = torch.complex64, torch.complex128


def product(numbers: Sequence[complex], *without: int) -> mpmath.mpc:
    """The product of all but some numbers, to 200 bits."""
    with mpmath.workprec(200):
        found = mpmath.mpc(1)
        for n, number in enumerate(numbers):
            if n not in without:
                found *= mpmath.mpc(number)
        return found


def error(found: complex, right: mpmath.mpc) -> float:
    """Relative to the modulus."""
    with mpmath.workprec(200):
        return float(abs(mpmath.mpc(found) - right) / abs(right))


def column(numbers: Sequence[complex], dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, dtype=dtype)[:, None].requires_grad_()


def lazily(x: Tensor, y: Tensor, axis: int = 1) -> Tensor:
    found: Tensor = (Vi(x) * Vj(y)).prod(axis)
    return found


def densely(x: Tensor, y: Tensor, axis: int = 1) -> Tensor:
    terms = torch.view_as_real(x[:, None] * y[None]).flatten(-2)
    (found,) = reduce_pairs("complex_prod", terms, axis)
    return torch.view_as_complex(found.unflatten(-1, (-1, 2)))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=C128, generator=torch.Generator().manual_seed(seed))


# -- values ----------------------------------------------------------------------------------------


def rotations(count: int, dtype: torch.dtype) -> list[complex]:
    """Numbers of very different sizes whose product is near 1 in modulus, in pairs."""
    draws = np.random.default_rng(0)
    sizes = np.exp(draws.normal(size=count // 2) * 8)
    angles = draws.uniform(-np.pi, np.pi, count)
    made = np.concatenate([sizes, 1 / sizes]) * np.exp(1j * angles)
    return torch.tensor(draws.permutation(made), dtype=dtype).tolist()


@pytest.mark.sampled(15)
@pytest.mark.parametrize("dtype", [C64, C128], ids=str)
@pytest.mark.parametrize("count", [2, 10, 1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_values_are_right_to_a_unit_whatever_the_number_of_factors(
    count: int, dtype: torch.dtype
) -> None:
    numbers = rotations(count, dtype)
    y = column(numbers, dtype).detach()
    found = lazily(torch.ones(1, 1, dtype=dtype), y).item()
    assert error(found, product(numbers)) <= EPS[dtype]


LARGE: list[tuple[torch.dtype, list[complex]]] = [
    (C64, [1e30 + 1e30j] * 300 + [(1e-30 - 1e-30j) / 2] * 300),
    (C64, [2e-38j, 1e38, 2e-38, 1e38j] * 8),
    (C128, [1e300 - 1e280j, 1e-300, 1e300j, 1e-300 + 1e-300j] * 40),
    (C128, [1.7e308 + 1.7e308j, 3e-308]),
    (C128, [3e-308 - 3e-308j, 1e300]),
]


@pytest.mark.parametrize(("dtype", "numbers"), LARGE, ids=lambda v: str(v)[:30])
def test_nothing_overflows_in_between(dtype: torch.dtype, numbers: list[complex]) -> None:
    y = column(numbers, dtype).detach()
    found = lazily(torch.ones(1, 1, dtype=dtype), y).item()
    assert error(found, product(y[:, 0].tolist())) <= EPS[dtype]


@pytest.mark.sampled(25)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "batch"])
@pytest.mark.parametrize("dim", [1, 3, 40])
def test_each_component_has_its_product(dim: int, batch: tuple[int, ...], axis: int) -> None:
    x, y = random(*batch, 4, dim), random(7, dim, seed=1)
    right = (x[..., :, None, :] * y).prod(axis - 3)
    place = axis + len(batch)
    for lazy in (
        Vi(x) * Vj(y),
        LazyTensor(x[..., :, None, :]) * y[None],
        redcomp.numpy.Vi(x.numpy()) * redcomp.numpy.Vj(y.numpy()),
    ):
        found = lazy.prod(axis=place)
        np.testing.assert_allclose(found, right, rtol=1e-13)
        kept = lazy.prod(axis=place, keepdim=True)
        np.testing.assert_allclose(kept, np.expand_dims(right, place), rtol=1e-13)


def test_products_of_nothing_and_of_zeros() -> None:
    x = random(3, 2)
    assert (lazily(x, x[:0]) == 1).all()
    y = random(5, 2, seed=1)
    y[3, 1] = 0
    found = lazily(x, y)
    assert (found[:, 1] == 0).all()
    assert (found[:, 0] != 0).all()


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, complex(0, np.inf)])
def test_what_is_not_finite_stays_so(special: complex) -> None:
    y = random(5, 1)
    y[2] = special
    for numbers in (y, torch.cat([y] * 100)):
        assert not lazily(torch.ones(1, 1, dtype=C128), numbers).isfinite().any()


def test_products_are_functions_of_symbols_too() -> None:
    x, y = random(3, 2), random(5, 2, seed=1)
    later = (LazyTensor((0, 4, 0), is_complex=True) * Vj(y)).prod(axis=1)
    np.testing.assert_allclose(later(x), (x[:, None] * y).prod(1), rtol=1e-13)


def test_formulas_have_an_even_number_of_components() -> None:
    aliases = ["x = Vi(2)", "y = Vj(2)"]
    x, y = random(3, 1), random(5, 1, seed=1)
    parts = [torch.view_as_real(t).flatten(-2) for t in (x, y)]
    found = Genred("ComplexMult(x, y)", aliases, "ComplexProd", axis=1)(*parts)
    np.testing.assert_allclose(torch.view_as_complex(found), (x * y.T).prod(1), rtol=1e-13)
    with pytest.raises(FormulaError, match="an even number of components, not 1"):
        Genred("(x|y)", aliases, "ComplexProd", axis=1)


# -- derivatives -----------------------------------------------------------------------------------


def derivatives(function: Callable[..., Tensor], given: Tensors, orders: int) -> list[Tensor]:
    """Up to some order, each of a random mixture of those before."""
    leaves = [t.detach().clone().requires_grad_() for t in given]
    generator = torch.Generator().manual_seed(0)
    results, found = [function(*leaves)], []
    for _ in range(orders):
        cotangents = [torch.randn(t.shape, dtype=C128, generator=generator) for t in results]
        results = list(torch.autograd.grad(results, leaves, cotangents, create_graph=True))
        found += results
    return found


def tangents(function: Callable[..., Tensor], given: Tensors, orders: int) -> list[Tensor]:
    """The same in forward mode, each along a random direction."""
    found = []
    for seed in range(1, orders + 1):
        along = tuple(random(*t.shape, seed=seed) for t in given)

        def moved(*at: Tensor, last: Any = function, along: Any = along) -> Tensor:
            tangent: Tensor = torch.func.jvp(last, at, along)[1]
            return tangent

        function = moved
        found.append(function(*given))
    return found


def check(found: Tensors, right: Tensors, tolerance: float = 1e-13) -> None:
    for a, b in zip(found, right, strict=True):
        assert (a - b).abs().max() <= tolerance * (b.abs().max() + 1e-300)


@pytest.mark.sampled(25)
@pytest.mark.parametrize("zeros", range(4))
@pytest.mark.parametrize(
    "axis", [1, pytest.param(0, marks=pytest.mark.thorough)], ids=["over j", "over i"]
)
@pytest.mark.parametrize("of", [derivatives, tangents])
def test_derivatives_with_zeros(of: Callable[..., list[Tensor]], axis: int, zeros: int) -> None:
    """To second order, in both modes."""
    x, y = random(3, 2), random(5, 2, seed=1)
    (y if axis else x)[1 : 1 + zeros, 1] = 0
    found, right = (of(lambda x, y, f=f: f(x, y, axis), (x, y), 2) for f in (lazily, densely))
    check(found, right)


SIZES: list[list[complex]] = [
    [1e-20 + 1e-20j, 3e-20j],
    [1e25 - 2e25j, 1e10 + 1e12j],
    [1e20j, 1e15, 1e-20 + 1e-20j, 1e-15, -1e8 + 1e7j],
    [1e30 + 1e-30j, 1e-30 + 1e-38j, 1e-5j],
    [0, 1e20 + 1e20j, 1e15j],
    [0, 0, 1e20 + 1e20j, 1e15j],
    [0, 1e-30j, 1e30 + 1e30j, 1e-30, 1e30],
    [1e12 + 1e12j] * 300 + [(1e-12 - 1e-12j) / 2] * 300,
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("numbers", SIZES, ids=lambda v: str(v)[:30])
def test_slopes_of_large_and_small_factors(numbers: list[complex]) -> None:
    """The product of the others, conjugated as PyTorch's gradients are."""
    y = column(numbers, C64)
    (slope,) = torch.autograd.grad(lazily(torch.ones(1, 1, dtype=C64), y).real.sum(), y)
    given = y.detach()[:, 0].tolist()
    zeros = given.count(0)
    for n, found in enumerate(slope.conj()[:, 0].tolist()):
        if zeros > (given[n] == 0):
            assert found == 0
        elif n < 10:
            assert error(found, product(given, n)) <= 8 * EPS[C64]


CURVED: list[tuple[torch.dtype, list[complex]]] = [
    (C64, [1e-20 + 1e-20j, 2e-20j, 3e-20]),
    (C64, [1e18j, -1e18 + 1e17j, 1e18]),
    (C64, [2 + 1j, -3j, 5, 0.5 - 0.25j]),
    (C64, [0, 2e19j, 3e18 + 1e18j]),
    (C64, [0, 2e-19j, 0, 3e-18 + 1e-18j]),
    (C128, [1e-200j, 1e-200]),
    (C128, [1e140 + 1e140j, 1e140, -1e140j]),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("dtype", "numbers"), CURVED, ids=lambda v: str(v)[:40])
def test_second_derivatives_of_large_and_small_factors(
    dtype: torch.dtype, numbers: list[complex]
) -> None:
    x, y = torch.ones(1, 1, dtype=dtype), column(numbers, dtype)
    (slope,) = torch.autograd.grad(lazily(x, y).real.sum(), y, create_graph=True)
    rows = [torch.autograd.grad(s.real, y, retain_graph=True)[0][:, 0] for s in slope[:, 0]]
    given, places = y.detach()[:, 0].tolist(), range(len(numbers))
    right = [[complex(product(given, k, m)) * (k != m) for m in places] for k in places]
    curvature = torch.tensor(right, dtype=C128)
    found = torch.stack(rows).conj()
    assert (found - curvature).abs().max() <= 16 * EPS[dtype] * curvature.abs().max()


@pytest.mark.thorough
def test_orders_that_are_wrong_are_refused() -> None:
    """As those of real products."""
    x, y = random(1, 1), random(7, 1, seed=1)
    y[:5] = 0
    with pytest.raises(ArgumentError, match=r"of order 5 .* zeros .* are 5 to 5: up to order 4"):
        derivatives(lambda y: lazily(x, y), (y,), 5)
