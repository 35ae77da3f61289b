"""Derivatives of products, norms, means and solutions at the ends of the range: CPU and PyTorch.

What is compared with is computed with fractions, or densely in float64.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from on_gpu import on_gpu
from reference_reductions import reduce_pairs

from redcomp.errors import ArgumentError
from redcomp.torch import Genred, KernelSolve

# PyTorch's forward mode warns about PyTorch's own scripts.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

Tensor = torch.Tensor
Numbers = tuple[float, ...]
PAIRS = ["x = Vi(1)", "y = Vj(1)"]
PROD = Genred("x * y", PAIRS, "Prod", axis=1)
NORM = Genred("x * y", PAIRS, "Norm", axis=1)
EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}
F32, F64 = torch.float32, torch.float64


def column(numbers: Numbers, dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, dtype=dtype)[:, None].requires_grad_()


def product(numbers: Sequence[float], *without: int) -> Fraction:
    """The exact product of all but some numbers."""
    left = (Fraction(n) for k, n in enumerate(numbers) if k not in without)
    return math.prod(left, start=Fraction(1))


# -- products --------------------------------------------------------------------------------------

# The product of the others is a normal number of the dtype, whatever the product is.
SLOPES: list[tuple[torch.dtype, Numbers]] = [
    (F32, (1e-25, 1e-25)),
    (F32, (1e25, 1e25)),
    (F32, (-1e25, 3e25)),
    (F32, (1e-38, 1e-38)),
    (F32, (1.5e38, 3e38)),
    (F32, (1e-30, 2e30, 1e-30)),
    (F32, (1e30, 1e30, 1e-30, 1e-15, -1e8)),
    (F32, (1e-17, 1e-16, 1e-18)),
    (F32, (1e17, 1e16, 1e18)),
    (F32, (0.0, 1e20, 1e17)),
    (F32, (0.0, 1e-30, 1e30, 1e-30, 1e30)),
    (F32, (2.0,) * 127),
    (F32, (1.4142135,) * 250),
    (F32, (1e12,) * 300 + (1e-12,) * 300),
    (F32, (2.0**-60, 1.9) * 80 + (2.0**60,) * 100 + (2e-38,)),
    (F64, (1e-200, 1e-200)),
    (F64, (1e200, 1e200)),
    (F64, (1e200, 1e-300, 1e200, 1e-90)),
    (F64, (1e100,) * 30 + (1e-100,) * 30),
]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("dtype", "numbers"), SLOPES, ids=lambda v: str(v)[:40])
def test_slope_of_a_product_is_the_product_of_the_others(
    dtype: torch.dtype, numbers: Numbers
) -> None:
    x, y = torch.ones(1, 1, dtype=dtype), column(numbers, dtype)
    (slope,) = torch.autograd.grad(PROD(x, y).sum(), y)
    exact = [n.item() for n in y.detach()]
    largest = torch.finfo(dtype).max
    others = product([n for n in exact if n])
    for n, found in zip(exact, slope.flatten().tolist(), strict=True):
        expected = others / Fraction(n) if n else others
        expected = expected if exact.count(0.0) <= (n == 0) else Fraction(0)
        if abs(expected) > largest:
            assert math.isinf(found)
        elif abs(expected) >= torch.finfo(dtype).tiny:
            error = abs(Fraction(found) / expected - 1)
            assert error <= EPS[dtype] * (4 + len(numbers) / 2)
        else:
            assert abs(found) <= torch.finfo(dtype).tiny


CURVED: list[tuple[torch.dtype, Numbers]] = [
    (F32, (1e-25, 1e-25)),
    (F32, (1e25, 2e25)),
    (F32, (1e-20, 2e-20, 3e-20)),
    (F32, (1e18, -1e18, 1e18)),
    (F32, (2.0, -3.0, 5.0, 0.5)),
    (F64, (1e-200, 1e-200)),
    (F64, (1e140, 1e140, 1e140)),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("dtype", "numbers"), CURVED, ids=lambda v: str(v)[:40])
def test_second_derivatives_of_products(dtype: torch.dtype, numbers: Numbers) -> None:
    x, y = torch.ones(1, 1, dtype=dtype), column(numbers, dtype)
    (slope,) = torch.autograd.grad(PROD(x, y).sum(), y, create_graph=True)
    found = torch.stack([torch.autograd.grad(s, y, retain_graph=True)[0][:, 0] for s in slope])
    exact, places = [n.item() for n in y.detach()], range(len(numbers))
    expected = torch.tensor(
        [[float(product(exact, k, m)) if k != m else 0.0 for m in places] for k in places],
        dtype=torch.float64,
    )
    assert (found - expected).abs().max() <= 16 * EPS[dtype] * expected.abs().max()


def mixed(function: Tensor, leaves: Sequence[Tensor], orders: int) -> list[Tensor]:
    """Derivatives up to some order, each of a random mixture of those before."""
    generator = torch.Generator().manual_seed(0)
    results, found = [function], []
    for _ in range(orders):
        weights = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in results]
        mixture = sum((t * w).sum() for t, w in zip(results, weights, strict=True))
        touched = mixture + sum(0.0 * t.sum() for t in leaves)
        results = list(torch.autograd.grad(touched, leaves, create_graph=True))
        found += results
    return found


def check(computed: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    size = 1 + max(b.abs().max().item() for b in expected)
    for a, b in zip(computed, expected, strict=True):
        assert (a.double() - b.double()).abs().max() <= tolerance * size, (a, b)


@pytest.mark.sampled(20)
@pytest.mark.parametrize("zeros", range(1, 6))
@pytest.mark.parametrize("others", [(), (3.0,), (2.0, -1.5), (1.0, 0.5, -2.0)])
def test_products_with_zeros(zeros: int, others: Numbers) -> None:
    """To fourth order; the formula of a zero is not 0 for each row."""
    numbers = (*others[:1], *(0.0,) * zeros, *others[1:])
    x, y = column((1.0, -0.5), F64), column(numbers, F64)
    dense = reduce_pairs("prod", x[:, None] * y[None])[0]
    check(mixed(PROD(x, y), (x, y), 4), mixed(dense, (x, y), 4), 1e-12)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("zeros", range(4))
def test_products_with_zeros_in_forward_mode(zeros: int) -> None:
    given = (column((1.0, -0.5), F64), column((2.0, *(0.0,) * zeros, -1.5), F64))
    given = tuple(t.detach() for t in given)
    tangents = tuple(torch.ones_like(t) * 0.75 for t in given)

    def dense(x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = reduce_pairs("prod", x[:, None] * y[None])[0]
        return result

    def third(function: object) -> Tensor:
        for _ in range(3):
            function = moved(function)
        return function(*given)  # type: ignore[operator]

    def moved(function: object) -> object:
        return lambda *at: torch.func.jvp(function, at, tangents)[1]

    torch.testing.assert_close(third(PROD), third(dense))


@pytest.mark.thorough
@pytest.mark.parametrize("zeros", [0, pytest.param(4, marks=pytest.mark.thorough), 5, 6])
def test_orders_that_are_wrong_are_refused(zeros: int) -> None:
    """As many zeros as that are what the fifth derivative sees first; all others are right."""
    x, y = torch.tensor([[1.0], [-0.5]], dtype=F64), column((2.0,) + (0.0,) * zeros, F64)
    expected = mixed(reduce_pairs("prod", x[:, None] * y[None])[0], (y,), 5)
    product = PROD(x, y)
    check(mixed(product, (y,), 4), expected[:4], 1e-12)
    if zeros == 5:
        with pytest.raises(
            ArgumentError, match=r"of order 5 .* zeros .* are 5 to 5: up to order 4"
        ):
            mixed(product, (y,), 5)
    else:
        check(mixed(product, (y,), 5), expected, 1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("mode", [torch.func.jacfwd, torch.func.jacrev])
@pytest.mark.parametrize("zeros", [5, 6])
def test_orders_that_are_wrong_are_refused_under_transforms(mode: Any, zeros: int) -> None:
    y = torch.tensor([3.0, *(0.0,) * zeros], dtype=F64)
    along = torch.linspace(0.5, 1.5, len(y), dtype=F64)

    def moved(function: Any) -> Any:
        def at(t: Tensor) -> Tensor:
            return function(y + t * along)

        for _ in range(5):
            at = mode(at)
        return at(torch.tensor(0.0, dtype=F64))

    def product(values: Tensor) -> Tensor:
        return PROD(torch.ones(1, 1, dtype=F64), values[:, None]).sum()

    if zeros == 5:
        with pytest.raises(ArgumentError, match="derivatives of order 5 cannot be computed"):
            moved(product)
    else:
        dense = moved(lambda values: functools.reduce(operator.mul, values))
        torch.testing.assert_close(moved(product), dense)


def test_derivatives_of_mapped_products() -> None:
    """Entries with few zeros and with many, under vmap."""
    values = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0]], dtype=F64)
    one = torch.ones(1, 1, dtype=F64)
    slope = torch.func.hessian(lambda v: PROD(one, v[:, None]).sum())
    dense = torch.func.hessian(lambda v: v[0] * v[1] * v[2])
    expected = torch.stack([dense(v) for v in values])
    torch.testing.assert_close(torch.vmap(slope)(values), expected)


# -- norms -----------------------------------------------------------------------------------------

NORMS: list[tuple[torch.dtype, Numbers]] = [
    (F32, (3e25, 4e25)),
    (F32, (3e-25, 4e-25)),
    (F32, (3e-38, 4e-38)),
    (F32, (2e38, 1e38)),
    (F32, (1e-30, 1e30)),
    (F32, (1e-12, 1e-10, 1e-15)),
    (F32, (1e18, 3e19, 1e10) * 200),
    (F32, (1e-18, 3e-19, 1e-22) * 200),
    (F32, (3.0, -4.0)),
    (F64, (3e200, 4e200)),
    (F64, (3e-200, 4e-200)),
    (F64, (1e-307, 1e-307)),
    (F64, (1e308, 1e308)),
]


@pytest.mark.sampled(9)
@pytest.mark.parametrize(("dtype", "numbers"), NORMS, ids=lambda v: str(v)[:40])
def test_norms_and_their_gradients(dtype: torch.dtype, numbers: Numbers) -> None:
    x, y = torch.ones(1, 1, dtype=dtype), column(numbers, dtype)
    norm = NORM(x, y)
    (slope,) = torch.autograd.grad(norm.sum(), y)
    exact = math.hypot(*(n.item() for n in y.detach()))
    assert abs(norm.item() / exact - 1) <= 16 * EPS[dtype]
    error = (slope.double() - y.detach().double() / exact).abs().max()
    assert error <= 16 * EPS[dtype]
    assert torch.equal(NORM(x, y.detach()), norm.detach())


def test_norms_of_nothing_and_of_infinities() -> None:
    x = torch.ones(1, 1)
    for numbers, norm in (((), 0.0), ((0.0, -0.0), 0.0), ((1.0, -math.inf), math.inf)):
        assert NORM(x, column(numbers, F32).detach()).item() == norm
    assert NORM(x, column((1.0, math.nan, math.inf), F32).detach()).isnan()


def test_norms_of_components_of_different_sizes() -> None:
    operation = Genred("x * y", ["x = Vi(1)", "y = Vj(20)"], "Norm", axis=1)
    sizes = 10.0 ** torch.linspace(-37, 37, 20, dtype=F64)
    y = sizes * torch.tensor([[3.0], [4.0]], dtype=F64)
    found = operation(torch.ones(1, 1), y.float()).double()
    torch.testing.assert_close(found, 5 * sizes[None], rtol=1e-6, atol=0.0)


def test_second_derivatives_of_norms() -> None:
    x, y = column((1.0, -2.0, 0.0), F64), column((3.0, -4.0, 0.5), F64)
    rows = (x[:2, None] * y[None]).square().sum(1).sqrt()  # the third norm is 0: its slope is 0
    check(mixed(NORM(x, y), (x, y), 3), mixed(torch.cat([rows, 0 * rows[:1]]), (x, y), 3), 1e-12)


# -- means -----------------------------------------------------------------------------------------


def test_means_of_nothing_depend_on_nothing() -> None:
    """Rows that see no column beside rows that see some, to second order."""
    operation = Genred("x * x * y * p", [*PAIRS, "p = Pm(1)"], "Mean", axis=1)
    blocks = torch.tensor([[0, 2], [2, 3]], dtype=torch.int32)
    ends, seen = torch.ones(2, dtype=torch.int32), torch.tensor([[0, 2]], dtype=torch.int32)
    ranges = (blocks, ends, seen, torch.tensor([[0, 2], [2, 4]], dtype=torch.int32), ends, seen)
    leaves = (column((1.0, 2.0, 3.0), F64), column((4.0, 5.0, 6.0, 7.0), F64), column((2.0,), F64))
    x, y, p = leaves
    mean = operation(x, y, p[:, 0], ranges=ranges)
    assert mean[2].isnan().all()
    dense = (x[:2, None] ** 2 * y[None, :2] * p).mean(1)
    check(mixed(mean[:2], leaves, 2), mixed(dense, leaves, 2), 1e-14)
    for g in torch.autograd.grad(operation(x, y[:0], p[:, 0]).sum(), (x, p)):
        assert (g == 0).all()


# -- solutions -------------------------------------------------------------------------------------


@pytest.mark.sampled(18)
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
@pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])
def test_derivatives_of_solutions_of_any_size(dtype: torch.dtype, scale: float) -> None:
    """They reuse the solution, to first and second order; each is as good as the solver's rtol."""
    solve = KernelSolve("Exp(-SqDist(x, y)) * b", [*PAIRS, "b = Vj(1)"], "b", axis=1)
    generator = torch.Generator().manual_seed(0)
    x, b, e = (torch.randn(30, 1, generator=generator, dtype=F64) for _ in range(3))
    found, asked = [], 1e-7 if dtype == F32 else 1e-13
    for of, rtol in ((dtype, asked), (F64, 0.0)):
        leaves = [t.to(dtype).to(of).requires_grad_() for t in (x, scale * b)]
        if rtol:
            solution = solve(leaves[0], *leaves, alpha=1.0, eps=0.0, rtol=rtol)
        else:
            kernel = torch.exp(-((leaves[0] - leaves[0].T) ** 2))
            solution = torch.linalg.solve(torch.eye(30, dtype=F64) + kernel, leaves[1])
        first = torch.autograd.grad(solution, leaves, e.to(of), create_graph=True)
        mixture = (first[0] * e.to(of)).sum() / scale + (first[1] * e.to(of)).sum()
        found.append([*first, *torch.autograd.grad(mixture, leaves)])
    for a, right in zip(*found, strict=True):
        assert (a.double() - right).abs().max() <= 100 * asked * right.abs().max()


# -- GPUs ------------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("machine", ["small blocks", "splits"])
def test_products_and_norms_on_gpus(machine: str) -> None:
    numbers = (1e-25, 2e-25, *(0.5, 2.0) * 30)
    x, y = torch.ones(2, 1), column(numbers, F32)
    with on_gpu(machine):
        (slope,) = torch.autograd.grad(PROD(x, y).sum(), y)
        norm = NORM(x, y.detach() * 1e25)
    exact = [n.item() for n in y.detach()]
    expected = [2 * float(product(exact, k)) for k in range(2)]
    torch.testing.assert_close(slope[:2, 0].double(), torch.tensor(expected, dtype=F64))
    right = torch.linalg.vector_norm(y.detach().double() * 1e25).item()
    torch.testing.assert_close(norm.double(), torch.full((2, 1), right, dtype=F64))


# -- powers of distances ---------------------------------------------------------------------------

# Between points that coincide the slopes of powers are infinite; by the convention of roots they
# count as 0, as those of a distance do.
POWERS = [
    "Powf(SqDist(x, y), 0.7)",
    "SqDist(x, y) ** 1.3",
    "SqDist(x, y) ** 1.5",
    "Norm2(x - y) ** 1.5",
    "Norm2(x - y) ** 0.5",
    "Cbrt(SqDist(x, y))",
    "Sum(Abs(x - y) ** 3) ** (1 / 3)",
    "Powf(SqDist(x, y), p)",
]


def dense_power(formula: str, differences: Tensor, p: Tensor) -> Tensor:
    squares = (differences**2).sum(-1)
    found = {
        POWERS[0]: lambda: squares**0.7,
        POWERS[1]: lambda: squares**1.3,
        POWERS[2]: lambda: squares**1.5,
        POWERS[3]: lambda: squares**0.75,
        POWERS[4]: lambda: squares**0.25,
        POWERS[5]: lambda: squares ** (1 / 3),
        POWERS[6]: lambda: (differences.abs() ** 3).sum(-1) ** (1 / 3),
        POWERS[7]: lambda: squares**p,
    }
    return found[formula]()


@pytest.mark.sampled(8)
@pytest.mark.parametrize("formula", POWERS)
def test_powers_of_distances_of_points_that_coincide(formula: str) -> None:
    """First and second derivatives are those of the sum over the other points."""
    count = 5
    x = torch.linspace(-1, 1, 3 * count, dtype=F64).reshape(count, 3).sin().requires_grad_()
    p = torch.tensor([0.8], dtype=F64, requires_grad=True)
    operation = Genred(f"{formula} + 0 * p", ["x = Vi(3)", "y = Vj(3)", "p = Pm(1)"], axis=1)
    others = ~torch.eye(count, dtype=torch.bool)
    differences = (x[:, None] - x)[others]
    weights = torch.linspace(1, 2, count, dtype=F64)[:, None]
    dense = dense_power(formula, differences, p).reshape(count, -1).sum(1, keepdim=True)
    for variable in (x, p) if "Powf(SqDist(x, y), p)" in formula else (x,):
        first, second = [], []
        for value in (operation(x, x, p), dense):
            (slope,) = torch.autograd.grad((value * weights).sum(), variable, create_graph=True)
            first.append(slope)
            second.append(torch.autograd.grad(slope.sin().sum(), x, retain_graph=True)[0])
        torch.testing.assert_close(*first, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(*second, rtol=1e-9, atol=1e-9)
