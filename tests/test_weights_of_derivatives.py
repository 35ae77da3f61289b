"""Derivatives weigh pairs as the reduction did, whatever the size of the values: CPU and PyTorch.

The dense references are relative to the largest value of a row, in float64, so that they are as
good for logarithms of 1e9 as for small ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from on_gpu import on_gpu

from redcomp.torch import Genred

# PyTorch's forward mode warns about PyTorch's own scripts.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

Tensor = torch.Tensor
Function = Callable[..., Tensor]
SIZES = (0.0, 1e3, -1e3, 1e6, -1e6, 1e9, -1e9)  # of the logarithms, one a row
ALIASES = ["q = Vi(2)", "k = Vj(2)", "m = Vi(1)", "v = Vj(2)"]
SCORES = "(q | k) + m"
REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "logarithm": {"reduction_op": "LogSumExp"},
    "weighted": {"reduction_op": "LogSumExp", "formula2": "v"},
    "softmax": {"reduction_op": "SumSoftMaxWeight", "formula2": "v"},
    "largest": {"reduction_op": "Max_SumShiftExp"},
    "weighted largest": {"reduction_op": "Max_SumShiftExpWeight", "formula2": "v"},
}
TOLERANCES = {torch.float32: 3e-6, torch.float64: 3e-14}  # the reference rounds as well


def dense(name: str, dtype: torch.dtype) -> Function:
    """The reduction of scores as a dtype rounds them, in float64."""

    def function(q: Tensor, k: Tensor, m: Tensor, v: Tensor) -> Tensor:
        exact = (q[:, None] * k[None]).sum(-1, keepdim=True) + m[:, None]
        scores = exact + (exact.detach().to(dtype).double() - exact.detach())
        place = scores.detach().argmax(1, keepdim=True)
        largest = scores.gather(1, place)
        if "largest" not in name:
            largest = largest.detach()
        terms = (scores - largest).exp()
        weighted = terms * v[None] if REQUESTS[name].get("formula2") else terms
        if name == "softmax":
            return weighted.sum(1) / terms.sum(1)
        if "largest" in name:
            return torch.cat([largest[:, 0], weighted.sum(1)], -1)
        return largest[:, 0] + weighted.sum(1).log()

    return function


def numbers(dtype: torch.dtype) -> list[Tensor]:
    """Arguments whose products are exact in float32, so that all that rounds is the last sum."""
    generator = torch.Generator().manual_seed(0)

    def eighths(*shape: int) -> Tensor:
        return torch.randint(-8, 9, shape, generator=generator).to(dtype) / 8

    m = torch.tensor(SIZES, dtype=dtype)[:, None]
    weights = torch.rand(300, 2, generator=generator).to(dtype) + 0.5
    return [eighths(len(SIZES), 2), eighths(300, 2), m, weights]


def drawn(like: Sequence[Tensor], seed: int) -> list[Tensor]:
    """The same random numbers in whatever dtype."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=generator).to(t.dtype) for t in like]


def in_reverse(function: Function, given: Sequence[Tensor], orders: int) -> list[Tensor]:
    """Derivatives up to some order, each of a random mixture of those before."""
    leaves = [t.clone().requires_grad_() for t in given]
    (value,) = results = [function(*leaves)]
    found: list[Tensor] = []
    for order in range(orders):
        e = drawn(results, order)
        mixture = sum((t * w).sum() for t, w in zip(results, e, strict=True))
        touched = mixture + sum(0.0 * t.sum() for t in (value, *leaves))
        results = list(torch.autograd.grad(touched, leaves, create_graph=True))
        found += results
    return [t.detach() for t in found]


def in_forward(function: Function, given: Sequence[Tensor]) -> list[Tensor]:
    """First and second derivatives in forward mode, and forward over reverse."""

    def moved(f: Function, seed: int) -> Callable[..., Any]:
        return lambda *at: torch.func.jvp(f, at, tuple(drawn(given, seed)))[1]

    def gradient(*at: Tensor) -> tuple[Tensor, ...]:
        def loss(*at: Tensor) -> Tensor:
            value = function(*at)
            return (value * drawn([value.detach()], 3)[0]).sum()

        return torch.func.grad(loss, tuple(range(4)))(*at)

    at = tuple(given)
    once = moved(function, 1)
    return [once(*at), moved(once, 2)(*at), *moved(gradient, 2)(*at)]


def check(computed: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Relative to the largest of all numbers: those of one tensor may be sums that cancel."""
    assert len(computed) == len(expected)
    size = max(b.abs().max().item() for b in expected)
    for n, (a, b) in enumerate(zip(computed, expected, strict=True)):
        error = (a.double() - b).abs().max().item()
        assert error <= tolerance * size, (n, error / size)


def genred(name: str, **options: Any) -> Genred:
    return Genred(SCORES, ALIASES, axis=1, **REQUESTS[name], **options)


of_requests = pytest.mark.parametrize("name", REQUESTS)
of_dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f32", "f64"])
of_math = pytest.mark.parametrize("is_fast", [False, True], ids=["exact", "fast"])


@pytest.mark.sampled(24)
@of_requests
@of_dtypes
@of_math
def test_derivatives(name: str, dtype: torch.dtype, is_fast: bool) -> None:
    """To third order in reverse mode; to second order in forward mode and in mixtures."""
    given, wide = numbers(dtype), [t.double() for t in numbers(dtype)]
    operation, reference = genred(name, use_fast_math=is_fast), dense(name, dtype)
    tolerance = TOLERANCES[dtype]
    check(in_reverse(operation, given, 3), in_reverse(reference, wide, 3), tolerance)
    check(in_forward(operation, given), in_forward(reference, wide), tolerance)


# -- all weight arrives ----------------------------------------------------------------------------

# Scores, and rows that are masked: of size 1e9 all scores round to the same number, so that every
# column has the same weight.
FORMULAS = {
    "sum": "(q | k) + m",
    "product": "m * k2",  # a product that could be fused with the difference to the largest one
    "distance": "m * SqDist(q, k)",
    "quotient": "m * (q | k) / (1 + SqNorm2(k))",
    "logarithm": "m * Log(2 + (q | k))",
    "long vectors": "(r | s) + m",
    "long distances": "m * SqDist(r, s)",
}
MORE_ALIASES = [*ALIASES, "k2 = Vj(1)", "r = Vi(40)", "s = Vj(40)"]


def total_weights(formula: str, dtype: torch.dtype, is_fast: bool) -> Tensor:
    """For each size, the sums of the gradients with respect to the values that softmax averages."""
    q, k, m, _ = numbers(dtype)
    aliases = [
        alias for alias in MORE_ALIASES if alias.split()[0] in re.findall("[a-z]2?", formula)
    ]
    longer = [torch.linspace(-1, 1, n * 40, dtype=dtype).reshape(n, 40) for n in (1, 300)]
    given = {"q": q[:1], "k": k, "k2": k[:, :1] + 0.1, "r": longer[0], "s": longer[1]}
    operation = Genred(
        formula,
        [*aliases, "v = Vj(2)"],
        "SumSoftMaxWeight",
        axis=1,
        formula2="v",
        use_fast_math=is_fast,
    )
    sums = []
    for size in m:
        v = torch.ones(300, 2, dtype=dtype, requires_grad=True)
        named = {**given, "m": size[:, None]}
        value = operation(*(named[alias.split()[0]] for alias in aliases), v)
        sums.append(torch.autograd.grad(value.sum(), v)[0].double().sum(0))
    return torch.stack(sums)


@pytest.mark.sampled(14)
@of_dtypes
@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_weights_sum_to_one(formula: str, dtype: torch.dtype) -> None:
    """Whatever the formula: the gradient computes its scores as the reduction has."""
    error = (total_weights(formula, dtype, False) - 1.0).abs().max()
    assert error <= TOLERANCES[dtype]


@pytest.mark.sampled(2)
@of_dtypes
def test_weights_of_masked_rows_sum_to_one_under_fast_math(dtype: torch.dtype) -> None:
    error = (total_weights(SCORES, dtype, True) - 1.0).abs().max()
    assert error <= TOLERANCES[dtype]


INF = float("inf")
TIES = [(-INF, -INF), (INF, INF), (1.0, INF, INF, 2.0), (-INF, 0.5, 0.5), (INF,), (INF, -INF)]


@pytest.mark.sampled(24)
@pytest.mark.parametrize("values", TIES, ids=str)
@pytest.mark.parametrize("name", ["largest", "weighted largest"])
@pytest.mark.parametrize("is_backward", [True, False], ids=["backward", "forward"])
def test_equal_infinities_are_as_other_equal_values(
    name: str, values: tuple[float, ...], is_backward: bool
) -> None:
    """Of each other; so derivatives are those with a large number for infinity, to third order."""
    aliases = ["x = Vi(1)", "y = Vj(1)", "v = Vj(2)"]
    operation = Genred("x + y", aliases, **REQUESTS[name], axis=1)
    generator = torch.Generator().manual_seed(0)
    v, e = (torch.rand(s, generator=generator, dtype=torch.float64) for s in ((4, 2), (3, 4, 1)))

    def derivative(infinity: float) -> list[Tensor]:
        y = torch.tensor(values, dtype=torch.float64)[:, None].clamp(-infinity, infinity)
        x = torch.zeros(1, 1, dtype=torch.float64)

        def moved(t: Tensor) -> Tensor:
            along = sum(t ** (k + 1) * e[k, : len(y)] for k in range(3))
            return operation(x + t, y + along, v[: len(y)] * (1 + t))[:, 1:]

        found = []
        for _ in range(3):
            moved = (torch.func.jacrev if is_backward else torch.func.jacfwd)(moved)
            found.append(moved(torch.zeros((), dtype=torch.float64)))
        return found

    for with_infinity, limit in zip(derivative(INF), derivative(1e4), strict=True):
        torch.testing.assert_close(with_infinity, limit, rtol=1e-9, atol=1e-9)


def test_softmax_of_nothing_but_minus_infinity_is_that_of_pytorch() -> None:
    """NaN, value and gradient, in that row alone."""
    scores = torch.tensor([[-INF, -INF, -INF], [-INF, 1.0, 2.0]], dtype=torch.float64)
    v = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    operation = Genred("s", ["s = Vij(1)", "v = Vj(1)"], **REQUESTS["softmax"], axis=1)
    found, right = scores[..., None].requires_grad_(), scores.clone().requires_grad_()
    values = operation(found, v), torch.softmax(right, 1) @ v
    torch.testing.assert_close(*values, equal_nan=True)
    (of_found,) = torch.autograd.grad(values[0].sum(), found)
    (of_right,) = torch.autograd.grad(values[1].sum(), right)
    torch.testing.assert_close(of_found[..., 0], of_right, equal_nan=True)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["logarithm", "softmax"])
@of_math
def test_derivatives_on_gpus(name: str, is_fast: bool) -> None:
    """First derivatives, with approximate instructions under fast math."""
    q, k, m, v = numbers(torch.float32)
    given = [q, k[:40], m, v[:40]]
    with on_gpu("small blocks"):
        computed = in_reverse(genred(name, use_fast_math=is_fast), given, 1)
    wide = [t.double() for t in given]
    tolerance = TOLERANCES[torch.float32] * (10 if is_fast else 1)
    check(computed, in_reverse(dense(name, torch.float32), wide, 1), tolerance)
