"""LazyTensors with axes of a batch, beside PyTorch's broadcasting: needs the CPU backend, PyTorch.

KeOps has, or had, faults of each kind (issues of getkeops/keops): parameters with a batch of their
own (366), several axes of length 1 one after the other (19, 382), batches that only some of the
variables have (97, 106), gradients (103, 145, 266, 299).  Any mixture of axes that are there, of
length 1, or missing is drawn here, and computed densely in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redcomp.errors import ArgumentError
from redcomp.torch import LazyTensor

Tensor = torch.Tensor
Shape = tuple[int, ...]
D = 2


def subshapes(shape: Shape) -> st.SearchStrategy[Shape]:
    """What broadcasts to a shape: some of its last axes, some of them of length 1."""
    lengths = [
        st.tuples(*(st.sampled_from((1, length)) for length in shape[first:]))
        for first in range(len(shape) + 1)
    ]
    return st.one_of(lengths)


BATCHES = st.sampled_from([(), (2,), (1,), (2, 3), (2, 1, 3)])
SIZES = st.tuples(st.sampled_from([1, 5]), st.sampled_from([1, 4]))
FORMS = BATCHES.flatmap(lambda b: st.tuples(SIZES, *[subshapes(b)] * 3))


def points(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape)).requires_grad_()


def argmin(values: Tensor, dim: int) -> Tensor:
    return values.argmin(dim)


# A reduction of lazy K over an axis, and of the dense one, which has no axis for components.
REDUCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "sum": (lambda K, dim: K.sum(dim), lambda K, dim: K.sum(dim)),
    "logsumexp": (lambda K, dim: K.logsumexp(dim), lambda K, dim: K.logsumexp(dim)),
    "min": (lambda K, dim: K.min(dim), lambda K, dim: K.amin(dim)),
    "argmin": (lambda K, dim: K.argmin(dim), argmin),
    "the two smallest": (
        lambda K, dim: K.Kmin(2, dim),
        lambda K, dim: torch.nn.functional.pad(
            K.sort(dim).values.movedim(dim, -1), (0, 1), value=torch.inf
        )[..., :2],
    ),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", REDUCTIONS)
@settings(max_examples=6)
@given(form=FORMS, over=st.sampled_from([-3, -2]))
@example(form=((5, 4), (), (), (3,)), over=-2)  # a batch of parameters alone
@example(form=((1, 4), (2, 3), (2, 1), (1, 1)), over=-2)  # axes of length 1, one after the other
@example(form=((5, 1), (2, 1), (1, 3), ()), over=-3)
@example(form=((1, 1), (1,), (1,), ()), over=-2)  # a batch of one entry, without an index
def test_values_and_gradients(name: str, form: Any, over: int) -> None:
    (M, N), x_batch, y_batch, p_batch = form
    arrays = [points(1, *x_batch, M, 1, D), points(2, *y_batch, 1, N, D)]
    arrays.append(points(3, *p_batch, 1, 1, D))
    lazily, densely = REDUCTIONS[name]
    x_i, y_j, p = map(LazyTensor, arrays)
    lazy = ((x_i - y_j) ** 2 * p).sum(-1)
    x, y, q = arrays
    dense = ((x - y) ** 2 * q).sum(-1)
    batch = torch.broadcast_shapes(x_batch, y_batch, p_batch)
    assert lazy._shape == (*dense.shape, 1) == (*batch, M, N, 1)
    found, expected = lazily(lazy, dim=len(batch) + over + 3), densely(dense, over + 1)
    if name != "the two smallest":
        expected = expected[..., None]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-12)
    if not expected.is_floating_point():
        return
    weights = torch.where(expected.isfinite(), expected.detach().cos(), 0)
    finite = [torch.where(values.isfinite(), values, 0) for values in (found, expected)]
    for result, right in zip(
        *(torch.autograd.grad((values * weights).sum(), arrays) for values in finite), strict=True
    ):
        assert result.shape == right.shape
        np.testing.assert_allclose(result, right, rtol=1e-10, atol=1e-12)


@settings(max_examples=8)
@given(form=FORMS, columns=st.sampled_from([1, 3]))
@example(form=((1, 1), (), (), ()), columns=1)
def test_products_with_arrays(form: Any, columns: int) -> None:
    """The third form is that of the right-hand side, which has no parameter."""
    (M, N), x_batch, y_batch, v_batch = form
    x, y, v = (
        points(1, *x_batch, M, 1, D),
        points(2, *y_batch, 1, N, D),
        points(3, *v_batch, N, columns),
    )
    lazy, dense = (LazyTensor(x) - LazyTensor(y)).sqnorm2(), ((x - y) ** 2).sum(-1)
    found, expected = lazy @ v, dense @ v
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(
        torch.autograd.grad(found.cos().sum(), v)[0],
        torch.autograd.grad(expected.cos().sum(), v)[0],
        rtol=1e-11,
    )


def test_second_derivatives() -> None:
    """The derivative of a Hamiltonian's gradients, for a batch of positions and momenta."""
    sizes = (3, 5, D)

    def gradients(kernel: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        x, m = points(1, *sizes), points(2, *sizes)
        energy = (m * kernel(x, m)).sum()
        first = torch.autograd.grad(energy, (x, m), create_graph=True)
        return list(torch.autograd.grad(sum(g.sin().sum() for g in first), (x, m)))

    def lazily(x: Tensor, m: Tensor) -> Tensor:
        difference = LazyTensor(x[:, :, None]) - LazyTensor(x[:, None])
        product: Tensor = (-difference.sqnorm2()).exp() @ m
        return product

    def densely(x: Tensor, m: Tensor) -> Tensor:
        return (-((x[:, :, None] - x[:, None]) ** 2).sum(-1)).exp() @ m

    for found, expected in zip(gradients(lazily), gradients(densely), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("over", [0, 1])
def test_complex_scalars_of_a_batch_times_vectors(over: int) -> None:
    """Their gradients are sums over what they are repeated along."""
    shapes = [(3, 5, 1, 1), (1, 1, 4, D)]
    leaves = [points(n, *shape, 2) for n, shape in enumerate(shapes)]
    x, y = map(torch.view_as_complex, leaves)
    found = (LazyTensor(x) * LazyTensor(y)).exp().sum(dim=1 + over)
    expected = (x * y).exp().sum(1 + over)
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-12)
    for result, right in zip(
        *(torch.autograd.grad((z * z.conj()).real.sum(), leaves) for z in (found, expected)),
        strict=True,
    ):
        np.testing.assert_allclose(result, right, rtol=1e-11)


def test_an_array_that_is_read_in_two_ways_is_two_arguments() -> None:
    """Four i, and a batch of four with one i each: they do not fit."""
    x = torch.rand(4, 1, D)
    with pytest.raises(ArgumentError, match="different ni, the numbers of rows: 4 and 1"):
        LazyTensor(x) + LazyTensor(x, axis=0)
