"""The modules of redcomp.torch.nn beside dense PyTorch: needs the CPU's backend and PyTorch."""

from __future__ import annotations

from typing import Any

import dense_nn
import pytest
import torch
from nn_cases import (
    CASES,
    F64,
    LABELS,
    B,
    D,
    E,
    M,
    N,
    Tensor,
    called,
    check,
    clouds,
    log_of,
    points,
    total,
)
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention

from redcomp.torch import nn
from redcomp.torch.nn.kernels import KERNELS

every_case = pytest.mark.parametrize("name", CASES)

# -- values and gradients --


@pytest.mark.sampled(60)
@every_case
@pytest.mark.parametrize("batch", [(), (2, 1)])
def test_values_and_gradients(name: str, batch: tuple[int, ...]) -> None:
    """At coinciding points too: those of `clouds`."""
    case = CASES[name]
    module = case.module()
    args = tuple(a.requires_grad_() for a in case.arguments(*batch))
    ours, dense = called(module, args), case.dense(log_of(module), *args)
    check(ours, dense)
    inputs = (*args, *module.parameters())
    check(
        torch.autograd.grad(total(ours), inputs),
        torch.autograd.grad(total(dense), inputs),
    )


@pytest.mark.sampled(28)
@every_case
def test_gradcheck(name: str) -> None:
    """In all arguments and parameters, where points do not coincide."""
    module = CASES[name].module()
    args = CASES[name].arguments()
    x, count = args[0] + 0.05 * points(len(args[0]), seed=9), len(args)
    y = [args[1] + 0.05 * points(N, seed=8)] if count > 1 else []
    names = [n for n, _ in module.named_parameters()]

    def function(*inputs: Tensor) -> Any:
        parameters = dict(zip(names, inputs[count:], strict=True))
        labels = [LABELS] if count == 1 else []
        return functional_call(module, parameters, (*inputs[:count], *labels))

    inputs = [x, *y, *args[2:], *module.parameters()]
    assert torch.autograd.gradcheck(function, [t.detach().requires_grad_() for t in inputs])


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("name", "curvature"), [("matern32", 3.0), ("matern52", 5 / 3)])
def test_second_derivatives_are_exact_where_points_coincide(name: str, curvature: float) -> None:
    x = points(1).requires_grad_()
    lengthscale = torch.tensor([0.5, 2.0], dtype=F64)
    module = nn.KernelSum(name, lengthscale, dtype=F64)
    value = module(x, x.detach().clone(), torch.ones(1, 1, dtype=F64))
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    rows = [torch.autograd.grad(slope[0, k], x, retain_graph=True)[0][0] for k in range(D)]
    check(slope, torch.zeros_like(slope))
    check(torch.stack(rows), torch.diag(-curvature / lengthscale**2))


def test_kernel_sum_of_a_vector() -> None:
    x, y = clouds(3)
    module, b = nn.KernelSum(dtype=F64), points(N, seed=3)
    check(module(x, y, b[:, 0]), module(x, y, b)[..., 0])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [name for name in KERNELS if name != "periodic"])
def test_every_kernel_with_several_lengthscales(name: str) -> None:
    module = nn.MMD(name, [0.5, 1.5], dtype=F64)
    check(module(*clouds()), dense_nn.mmd(*clouds(), kernel_name=name, log=log_of(module)))


def test_vmap_over_parameters_and_points() -> None:
    module = nn.KernelSum(dtype=F64)
    (x, y), b, logs = clouds(3), points(N, columns=E, seed=3), points(1, columns=3)[0]

    def of_entry(log: Tensor, x: Tensor) -> Tensor:
        result: Tensor = functional_call(module, {"log_lengthscale": log}, (x, y, b))
        return result

    dense = torch.stack(
        [
            dense_nn.kernel_sum(entry, y, b, "gaussian", {"lengthscale": log})
            for entry, log in zip(x, logs, strict=True)
        ]
    )
    check(torch.vmap(of_entry)(logs[:, None], x), dense)


def test_indices_are_those_of_nearest_points() -> None:
    x, y = clouds(B)
    array = (dense_nn.differences(x, y) ** 2).sum(-1)
    loss, (there, back) = nn.ChamferDistance(return_indices=True)(x, y)
    check((there, back), (array.argmin(-1), array.argmin(-2)))
    check(loss, nn.ChamferDistance()(x, y))
    module = nn.ChamferDistance(directions="x_to_y", reduction="none", return_indices=True)
    least, there = module(x, y)
    check((least, there), tuple(array.min(-1)))
    assert not there.requires_grad


# -- attention --

KEYS = torch.ones(B, 1, 1, N, dtype=torch.bool)
KEYS[0, ..., :2] = False  # with a causal mask, two queries see nothing
KEYS[1] = False
PAIRS = torch.rand(M, N, generator=torch.Generator().manual_seed(0)) > 0.4
PAIRS[1] = False
BIASES: dict[str, Tensor | None] = {
    "none": None,
    "of heads and pairs": points(M, 3, columns=N, seed=5),
    "of keys": points(1, B, 3, columns=N, seed=5),
    "of queries": points(M, columns=1, seed=5),
    "of entries": points(1, B, 1, columns=1, seed=5),
}
MASKS: dict[str, Tensor | None] = {
    "none": None,
    "of keys": KEYS,
    "of pairs": PAIRS,
    "of queries": PAIRS[:, :1],
    "added": torch.where(PAIRS, points(M, columns=N, seed=6), -torch.inf),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("mask", "bias", "is_causal"),
    [
        ("none", "none", True),
        ("none", "of keys", False),
        ("of keys", "none", True),
        ("of keys", "of queries", False),
        ("of pairs", "of heads and pairs", False),
        ("of queries", "of entries", True),
        ("added", "none", False),
    ],
)
def test_masks_and_biases(mask: str, bias: str, is_causal: bool) -> None:
    check_attention(MASKS[mask], BIASES[bias], is_causal)


def check_attention(mask: Tensor | None, bias: Tensor | None, is_causal: bool) -> None:
    """Values and gradients, those of the bias included, beside PyTorch's own."""
    shapes = [(M, D), (N, D), (N, E)]
    inputs = [
        points(count, B, 3, columns=columns, seed=n).requires_grad_()
        for n, (count, columns) in enumerate(shapes)
    ]
    if bias is not None:
        bias = bias.detach().requires_grad_()
    added = torch.zeros(1, 1, dtype=F64) if bias is None else bias
    if mask is not None:
        added = added + (torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask)
    if is_causal:
        added = added + torch.full((M, N), -torch.inf, dtype=F64).triu(1)
    dense = scaled_dot_product_attention(*inputs, attn_mask=added.expand(B, 3, M, N), scale=0.3)
    ours = nn.Attention(is_causal=is_causal, scale=0.3)(*inputs, mask, bias)
    check(ours, dense)
    wanted = [*inputs, *([] if bias is None else [bias])]
    check(torch.autograd.grad(total(ours), wanted), torch.autograd.grad(total(dense), wanted))


def test_heads_may_share_keys() -> None:
    query, key, value = points(M, B, 3, 2), points(N, B, 3, 1, seed=1), points(N, B, 3, 1, seed=2)
    dense = scaled_dot_product_attention(query, key.expand(-1, -1, 2, -1, -1),
                                           value.expand(-1, -1, 2, -1, -1))  # fmt: skip
    check(nn.Attention()(query, key, value), dense)


# -- edges --


def test_single_points() -> None:
    x, b = points(1), points(1, columns=E)
    for name in KERNELS:
        check(nn.KernelSum(name, dtype=F64)(x, x, b), b)
    zero = torch.zeros((), dtype=F64)
    modules = (nn.MMD(dtype=F64), nn.EnergyDistance(), nn.ChamferDistance())
    for module in modules:
        check(module(x, x.clone()), zero)
    assert nn.EnergyDistance(unbiased=True)(x, x).isnan()
    check(nn.SoftNearestNeighbour(dtype=F64)(x, x, b), b)
    check(nn.SoftNearestNeighbourLoss(reduction="sum", dtype=F64)(x, LABELS[:1]), zero)


def test_sums_over_nothing_are_0() -> None:
    x, nothing = points(M).requires_grad_(), points(0)
    kernel_sum = nn.KernelSum(dtype=F64)
    result = kernel_sum(x, nothing, points(0, columns=E))
    check(result, torch.zeros(M, E, dtype=F64))
    assert kernel_sum(nothing, x, points(M, columns=E)).shape == (0, E)
    seen = nn.Attention()(x, nothing, points(0, columns=E))
    check(seen, torch.zeros(M, E, dtype=F64))
    check(torch.autograd.grad(total(seen), x)[0], torch.zeros(M, D, dtype=F64))


def test_one_dimension_and_a_batch_of_single_points() -> None:
    """Shapes in which an axis could be taken for a missing one."""
    x, y, b = points(1, 4, columns=1), points(1, 4, columns=1, seed=1), points(1, 4, columns=1)
    module = nn.KernelSum(dtype=F64)
    check(module(x, y, b), dense_nn.kernel_sum(x, y, b, "gaussian", log_of(module)))
    y, b = points(4, columns=1), points(4, 4, columns=1)
    check(module(x, y, b), dense_nn.kernel_sum(x, y, b, "gaussian", log_of(module)))
    check(nn.EnergyDistance()(x, y), dense_nn.energy(x, y))


def test_points_far_from_the_origin() -> None:
    """Distances are those of the differences: float32 loses nothing to an offset."""
    x, y = (t.float() * 2**-10 + 1024.0 for t in clouds())
    b = points(N, columns=E, seed=3).float()
    module = nn.KernelSum(lengthscale=2.0**-10)
    dense = dense_nn.kernel_sum(x.double(), y.double(), b.double(), "gaussian", log_of(module))
    torch.testing.assert_close(module(x, y, b), dense.float(), rtol=1e-5, atol=1e-6)
