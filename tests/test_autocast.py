"""Under `torch.autocast`, calls do what `torch.mm` does: needs the CPU's backend and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.func import grad, jvp, vmap

from redcomp.errors import ArgumentError
from redcomp.torch import ComplexLazyTensor, Genred, KernelSolve, LazyTensor

# PyTorch's forward mode, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

Tensor = torch.Tensor
F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
ALIASES = ["x = Vi(2)", "y = Vj(2)"]
M, N = 6, 5


@pytest.fixture(params=[BF16, F16], ids=["bfloat16", "float16"])
def low(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """The dtype of autocast, which is on."""
    with torch.autocast("cpu", dtype=request.param):
        yield request.param


def points(*dtypes: torch.dtype) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [
        torch.rand(n, 2, generator=random, dtype=F64).to(dtype)
        for n, dtype in zip((M, N), dtypes, strict=True)
    ]


product = Genred("(x | y) * y", ALIASES, axis=1)


def dense(x: Tensor, y: Tensor) -> Tensor:
    """The same, in float64, of points as autocast rounds them."""
    return ((x @ y.mT) @ y).to(F64)


def lazy(x: Tensor, y: Tensor) -> Any:
    return ((LazyTensor(x, 0) | LazyTensor(y, 1)) * LazyTensor(y, 1)).sum(1)


CALLS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "Genred": product,
    "LazyTensor": lazy,
    "matrix": lambda x, y: (LazyTensor(x, 0) | LazyTensor(y, 1)) @ y,
    "several": lambda x, y: Genred(["(x | y) * y", "x"], ALIASES, axis=1)(x, y)[0],
    "called later": lambda x, y: (
        (LazyTensor((0, 2, 0)) | LazyTensor((1, 2, 1))) * LazyTensor((1, 2, 1))
    ).sum(1)(x, y),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)

MIXED = [(F32, F32), (F32, BF16), (F16, F32), (BF16, F16), (BF16, BF16)]


@every_call
@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtypes", MIXED, ids=str)
def test_results(
    low: torch.dtype, dtypes: tuple[torch.dtype, ...], call: Callable[..., Any]
) -> None:
    """As PyTorch's matrix product casts, and computed in float32 from there."""
    given = points(*dtypes)
    assert torch.mm(given[0], given[1].mT).dtype == low
    found = call(*given)
    assert found.dtype == low
    expected = dense(*(t.to(low).to(F64) for t in given))
    torch.testing.assert_close(found, expected.to(low), rtol=torch.finfo(low).eps, atol=1e-3)


@every_call
@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtypes", MIXED, ids=str)
def test_gradients_have_the_dtypes_of_the_arguments(
    low: torch.dtype, dtypes: tuple[torch.dtype, ...], call: Callable[..., Any]
) -> None:
    given = [t.requires_grad_() for t in points(*dtypes)]
    call(*given).float().square().sum().backward()  # also backward is under autocast
    assert tuple(t.grad.dtype for t in given) == dtypes
    exact = [t.detach().to(low).to(F64).requires_grad_() for t in given]
    dense(*exact).square().sum().backward()
    for ours, theirs in zip(given, exact, strict=True):
        torch.testing.assert_close(ours.grad.to(F64), theirs.grad, rtol=2e-2, atol=2e-2)


@every_call
def test_float64_is_left_alone(low: torch.dtype, call: Callable[..., Any]) -> None:
    given = points(F64, F64)
    torch.testing.assert_close(call(*given), dense(*given))
    with pytest.raises(ArgumentError, match="dtype"):
        call(*points(F64, F32))


@every_call
def test_without_autocast_dtypes_do_not_mix(call: Callable[..., Any]) -> None:
    for dtypes in MIXED[1:4]:
        with pytest.raises(ArgumentError, match="dtype"):
            call(*points(*dtypes))
    with torch.autocast("cpu", dtype=BF16), torch.autocast("cpu", enabled=False):
        assert call(*points(F32, F32)).dtype == F32
    with torch.autocast("cuda", dtype=BF16, enabled=torch.cuda.is_available()):
        assert call(*points(F32, F32)).dtype == F32


def test_transforms(low: torch.dtype) -> None:
    x, y = points(F32, BF16)
    batch = torch.stack([x, 2 * x])
    found = vmap(product, (0, None))(batch, y)
    assert found.dtype == low
    assert torch.equal(found, torch.stack([product(t, y) for t in batch]))
    assert grad(lambda x: product(x, y).float().sum())(x).dtype == F32
    assert [t.dtype for t in jvp(lambda x: product(x, y), (x,), (x,))] == [low, low]


def test_out_is_filled_as_it_is(low: torch.dtype) -> None:
    """As PyTorch's own functions fill it."""
    x, y = points(F32, F32)
    out = torch.empty(M, 2)
    product(x, y, out=out)
    torch.testing.assert_close(out.to(F64), dense(x.to(F64), y.to(F64)), rtol=1e-6, atol=1e-6)
    with pytest.raises(ArgumentError, match="dtype"):
        product(x, y.to(low), out=out)


def test_numbers_and_integers(low: torch.dtype) -> None:
    """A number takes the dtype of the others; integers stay what they are."""
    x, y = points(F32, F32)
    call = Genred("(x | y) * k * p", [*ALIASES, "k = Vj(1, int)", "p = Pm(1)"], axis=1)
    labels = torch.arange(N)[:, None] + 300  # bfloat16 has no 301
    found = call(x, y, labels, 0.1)
    exact = [t.to(low).to(F64) for t in (x, y, torch.tensor(0.1))]
    expected = (exact[0] @ exact[1].mT) @ labels.to(F64) * exact[2]
    torch.testing.assert_close(found, expected.to(low), rtol=torch.finfo(low).eps, atol=0)
    lazy = (LazyTensor(x, 0) | LazyTensor(y, 1)) * LazyTensor(labels, 1) * 0.1
    torch.testing.assert_close(lazy.sum(1), found, rtol=torch.finfo(low).eps, atol=0)


def test_complex_numbers_are_left_alone(low: torch.dtype) -> None:
    """As a product of complex matrices is."""
    x, y = points(F32, F32)
    z = torch.complex(y, y.cos())
    found = (LazyTensor(x, 0) * ComplexLazyTensor(z, 1)).sum(1)
    assert (x.cfloat() @ z.mT).dtype == found.dtype == torch.complex64
    torch.testing.assert_close(found, (x[:, None] * z).sum(1), rtol=1e-5, atol=1e-5)
    with pytest.raises(ArgumentError, match="dtype"):
        LazyTensor(x.to(low), 0) * ComplexLazyTensor(z, 1)


def test_expressions_of_before(low: torch.dtype) -> None:
    """What counts is where dtypes meet, and where it is reduced."""
    x, y = points(F32, BF16)
    with torch.autocast("cpu", enabled=False):
        parts = LazyTensor(x, 0), LazyTensor(y, 1)
        with pytest.raises(ArgumentError, match="dtype"):
            parts[0] | parts[1]
    distances = parts[0].sqdist(parts[1])
    assert distances.sum(1).dtype == low
    with (
        torch.autocast("cpu", enabled=False),
        pytest.raises(ArgumentError, match="must have the same"),
    ):
        distances.sum(1)


@pytest.mark.parametrize("length", [0, 8 * M - 1, None])
def test_what_cannot_be_read_is_not_cast(low: torch.dtype, length: int | None) -> None:
    x, y = points(F32, F32)
    if length is None:
        x = x.to_sparse()
    else:
        x.untyped_storage().resize_(length)
    with pytest.raises(ArgumentError, match="'x' has"):
        product(x, y)


# -- KernelSolve --

solve = KernelSolve("Exp(-SqDist(x, y)) * b", [*ALIASES, "b = Vj(1)"], "b", axis=1)


def dense_solve(x: Tensor, b: Tensor) -> Tensor:
    x, b = x.to(F64), b.to(F64)
    kernel = torch.exp(-((x[:, None] - x) ** 2).sum(-1))
    return torch.linalg.solve(kernel + 0.5 * torch.eye(len(x), dtype=F64), b)


SOLVES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "KernelSolve": lambda x, b: solve(x, x, b, alpha=0.5),
    "LazyTensor": lambda x, b: (
        (-LazyTensor(x, 0).sqdist(LazyTensor(x, 1))).exp().solve(b, alpha=0.5)
    ),
}


@pytest.mark.sampled(16)
@pytest.mark.parametrize("ours", SOLVES.values(), ids=SOLVES)
@pytest.mark.parametrize("dtypes", MIXED, ids=str)
def test_solves_are_in_float32(
    low: torch.dtype, dtypes: tuple[torch.dtype, ...], ours: Callable[..., Any]
) -> None:
    """As torch.linalg.solve is; backward and forward under autocast too."""
    x, b = points(*dtypes)
    x, b = x.requires_grad_(), b.repeat(2, 1)[:M, :1].clone().requires_grad_()
    found, expected = ours(x, b), dense_solve(x, b)
    assert found.dtype == torch.linalg.solve(torch.eye(M, dtype=dtypes[0]), b).dtype == F32
    torch.testing.assert_close(found.to(F64), expected, rtol=1e-4, atol=1e-4)
    grads, exact = (torch.autograd.grad(s.square().sum(), (x, b)) for s in (found, expected))
    assert tuple(g.dtype for g in grads) == dtypes
    for got, theirs in zip(grads, exact, strict=True):
        torch.testing.assert_close(got, theirs, rtol=1e-2, atol=1e-3)
    x, b = x.detach(), b.detach()
    moves = (x.cos(), b.cos())
    _, tangent = jvp(ours, (x, b), moves)
    _, right = jvp(dense_solve, (x.to(F64), b.to(F64)), tuple(t.to(F64) for t in moves))
    torch.testing.assert_close(tangent.to(F64), right, rtol=1e-2, atol=1e-2)
