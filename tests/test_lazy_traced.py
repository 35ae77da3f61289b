"""LazyTensors in programs that torch.compile traces, in one graph; needs the CPU's backend and
PyTorch.  What they compute is compared with the same program without a tracer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.fx.experimental.proxy_tensor import make_fx

from redcomp.torch import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj

Tensor = torch.Tensor
Program = Callable[[Tensor, Tensor, Tensor], Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def distances(x: Tensor, y: Tensor) -> Any:
    """Squared distances, (M, N)."""
    return ((Vi(x) - Vj(y)) ** 2).sum(-1)


def weights(y: Tensor) -> Tensor:
    """One number a column: (1, N, 1)."""
    return y[None, :, :1]


SCALES = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
made_outside = LazyTensor(torch.linspace(0, 1, 15, dtype=torch.float64).reshape(5, 1, 3))
matrix_outside = (made_outside | made_outside.t()).exp()
product_outside = matrix_outside @ matrix_outside.sin()
waves_outside = (1j * matrix_outside).exp()
PROGRAMS: dict[str, Program] = {
    "times a tensor": lambda x, y, b: (distances(x, y) * weights(y)).sum(1),
    "a tensor times": lambda x, y, b: (weights(y) * distances(x, y)).sum(1),
    "a tensor minus": lambda x, y, b: (weights(y) - distances(x, y)).sum(1),
    "minus a tensor": lambda x, y, b: (distances(x, y) - weights(y)).sum(1),
    "over a tensor": lambda x, y, b: (distances(x, y) / (weights(y) + 1)).sum(1),
    "a number over": lambda x, y, b: (2 / (1 + distances(x, y))).sum(1),
    "a tensor over": lambda x, y, b: (weights(y) / (1 + distances(x, y))).sum(1),
    "product": lambda x, y, b: distances(x, y) @ b,
    "product of the transpose": lambda x, y, b: distances(y, x).t() @ b,
    "a tensor's product": lambda x, y, b: b.T[:, :5] @ distances(x[:5], y),
    "two products": lambda x, y, b: distances(x, y) @ (distances(y, x) @ b[: len(x)]),
    "a product of matrices": lambda x, y, b: (distances(x, y) @ distances(y, x).t().t()) @ b[:5],
    "a vector times a product": lambda x, y, b: x[:, 0] @ (distances(x, y) @ distances(y, x)),
    "the transpose of a product": lambda x, y, b: (
        (distances(x, y) @ distances(y, y)).t() @ x + (distances(y, y) @ distances(y, x)).T.t() @ x
    ),
    "a product of three": lambda x, y, b: distances(x, y) @ distances(y, y) @ distances(y, x) @ x,
    "a product with a product": lambda x, y, b: (
        distances(x, y) @ (distances(y, x) @ distances(x, y)) @ b
    ),
    "a matrix of blocks": lambda x, y, b: (
        LazyTensor.block([[distances(x, y), None], [None, distances(y, x)]]) @ torch.cat([b, b[:5]])
    ),
    "a matrix from outside": lambda x, y, b: matrix_outside @ distances(x, y) @ b,
    "matrices from outside": lambda x, y, b: matrix_outside @ matrix_outside @ x,
    "a product from outside times itself": lambda x, y, b: product_outside @ product_outside @ x,
    "transposed and back": lambda x, y, b: matrix_outside.t().t() @ x,
    "a product from outside": lambda x, y, b: product_outside @ x + (x.T @ product_outside.t()).T,
    "a product by its function": lambda x, y, b: torch.matmul(product_outside, x),
    "a function of PyTorch": lambda x, y, b: torch.exp(-distances(x, y)).sum(1),
    "torch.where": lambda x, y, b: torch.where(distances(x, y) < 0.5, distances(x, y), 0.0).sum(1),
    "over i": lambda x, y, b: (-distances(x, y)).exp().sum(0),
    "a power": lambda x, y, b: (distances(x, y) ** 1.5).sum(1),
    "a root": lambda x, y, b: distances(x, y).sqrt().sum(1),
    "logsumexp": lambda x, y, b: (-distances(x, y)).logsumexp(dim=1),
    "weights": lambda x, y, b: distances(x, y).logsumexp(1, weight=Vj(b[:, :1])),
    "argmin": lambda x, y, b: distances(x, y).argmin(1),
    "min": lambda x, y, b: distances(x, y).min(1),
    "argKmin": lambda x, y, b: distances(x, y).argKmin(3, dim=1),
    "Kmin_argKmin": lambda x, y, b: distances(x, y).Kmin_argKmin(3, dim=1),
    "softmax": lambda x, y, b: (-distances(x, y)).sumsoftmaxweight(Vj(b), dim=1),
    "dot product": lambda x, y, b: ((Vi(x) | Vj(y)).exp() * Vj(b)).sum(1),
    "parameters": lambda x, y, b: Vi(x).weightedsqdist(Vj(y), Pm(SCALES)).sum(1),
    "a float": lambda x, y, b: ((-distances(x, y) / (2 * 0.3**2)).exp() * Vj(b)).sum(1),
    "several floats": lambda x, y, b: (distances(x, y) + 0.5 - 3 * distances(x, y) % 1).sum(1),
    "ifelse": lambda x, y, b: (distances(x, y) - 0.1).ifelse(distances(x, y), 0).sum(1),
    "indices": lambda x, y, b: (Vi(x)[0] * Vj(y)[..., 1:3]).sum(1),
    "concat": lambda x, y, b: Vi(x).concat(Vj(y)).sum(1),
    "mean": lambda x, y, b: distances(x, y).mean(1),
    "var": lambda x, y, b: distances(x, y).var(1),
    "a variance with its correction": lambda x, y, b: distances(x, y).var(1, ddof=0),
    "prod": lambda x, y, b: distances(x, y).prod(1),
    "trace": lambda x, y, b: distances(x, x).trace(),
    "a kept axis": lambda x, y, b: distances(x, y).sum(1, keepdim=True),
    "a shape": lambda x, y, b: x * distances(x, y).shape[1],
    "a batch": lambda x, y, b: (
        (LazyTensor(torch.stack([x, 2 * x])[:, :, None]) - LazyTensor(y[None, None])).exp().sum(2)
    ),
    "dense": lambda x, y, b: distances(x, y).dense(),
    "complex": lambda x, y, b: ((1j * (Vi(x) | Vj(y))).exp() * Vj(b)).sum(1),
    "complex tensors": lambda x, y, b: (
        ComplexLazyTensor(torch.complex(x, 2 * x)[:, None]) * ComplexLazyTensor(y[None] + 1j)
    ).sum(1),
    "a complex tensor": lambda x, y, b: (
        (LazyTensor(torch.complex(x, 2 * x)[:, None]) * Vj(y)).exp().sum(1)
    ),
    "called complex": lambda x, y, b: (
        LazyTensor(x[:, None], is_complex=True) * LazyTensor(Vj(torch.complex(y, y)))
    ).sum(1),
    "complex numbers": lambda x, y, b: (Vi(x) * Pm(1 + 2j) - Vj(y) * Pm(SCALES + 1j)).sum(1),
    "a product with complex vectors": lambda x, y, b: distances(x, y) @ torch.complex(b, 2 * b),
    "complex matrices from outside": lambda x, y, b: waves_outside @ waves_outside @ x,
    "solve": lambda x, y, b: (-distances(y, y)).exp().solve(Vi(b), alpha=0.3, eps=1e-12),
    "a norm": lambda x, y, b: (Vi(x) - Vj(y)).norm2().sum(1),
    "called later": lambda x, y, b: distances(x, y).sum(1, call=False)(),
    "a symbol": lambda x, y, b: ((-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp() * Vj(0, 2)).sum(1)(b),
    "made outside": lambda x, y, b: (
        (made_outside * Vj(y)).sum(1) + (made_outside | Vj(y)) @ b[:, :1]
    ),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def points(count: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(count)
    sizes = ((count, 3), (6, 3), (6, 2))
    x, y, b = (torch.rand(size, generator=random, dtype=torch.float64) for size in sizes)
    return x, y, b


@pytest.mark.sampled(78)
@pytest.mark.parametrize("name", PROGRAMS)
def test_traced_programs(name: str) -> None:
    program = PROGRAMS[name]

    def around(x: Tensor, y: Tensor, b: Tensor) -> Any:
        return program(2 * x, y.sin(), b)

    compiled = torch.compile(around, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*points(5)), around(*points(5)))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["Vi", "LazyTensor", "parameters", "complex", "twice"])
def test_arguments_of_a_compiled_program_may_be_other_tensors(name: str) -> None:
    """A graph serves all tensors of its sizes, and, of which some are the same, those in turn."""
    programs: dict[str, Program] = {
        "Vi": lambda x, y, b: distances(x, y).argmin(1) + y[0],
        "LazyTensor": lambda x, y, b: (LazyTensor(x[:, None]) - LazyTensor(y[None])).exp().sum(1),
        "parameters": lambda x, y, b: (distances(x, y) * Pm(b[0])).sum(1),
        "complex": lambda x, y, b: (1j * (Vi(x) | Vj(y))).exp().sum(1),
        "twice": lambda x, y, b: (Vi(x) | Vj(x)).exp().sum(1) + distances(x, y).sum(1),
    }
    program, graphs = programs[name], CompileCounter()
    compiled = torch.compile(program, backend=graphs, fullgraph=True, dynamic=True)
    for count in (4, 5, 7, 8):
        given = points(count)
        torch.testing.assert_close(compiled(*given), program(*given))
        assert graphs.frame_count == 1
    x, _, b = given
    torch.testing.assert_close(compiled(x, x, b), program(x, x, b))
    torch.testing.assert_close(compiled(*given), program(*given))
    assert graphs.frame_count <= 2


def softmin(x: Tensor, y: Tensor, b: Tensor) -> Any:
    costs = distances(x, y) / 2
    return (-costs * 3.5).logsumexp(1) + (-costs).sumsoftmaxweight(Vj(b), axis=1)


def dense_softmin(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    costs = ((x[:, None] - y) ** 2).sum(-1) / 2
    return torch.logsumexp(-costs * 3.5, 1)[:, None] + torch.softmax(-costs, 1) @ b


@pytest.mark.thorough
def test_gradients_of_a_softmin() -> None:
    """Values and gradients, for sizes that are symbols from the second on."""
    compiled = torch.compile(
        lambda *args: softmin(*args).sin().sum(), backend="aot_eager", fullgraph=True
    )
    for count in (5, 6, 7):
        given = [t.requires_grad_() for t in points(count)]
        total, expected = compiled(*given), dense_softmin(*given).sin().sum()
        torch.testing.assert_close(total, expected)
        for ours, theirs in zip(
            torch.autograd.grad(total, given), torch.autograd.grad(expected, given), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def smoothed_twice(x: Tensor, y: Tensor, b: Tensor) -> Any:
    to, back = (-distances(x, y)).exp(), (-distances(y, x)).exp()
    return (to @ back) @ (to @ b)


def dense_smoothed_twice(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    kernel = torch.exp(-((x[:, None] - y) ** 2).sum(-1))
    return kernel @ (kernel.T @ (kernel @ b))


def in_strict_export(program: Program, given: list[Tensor]) -> Program:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor, b: Tensor) -> Any:
            return program(x, y, b)

    return torch.export.export(Module(), tuple(given), strict=True).module()


WAYS: dict[str, Callable[[Program, list[Tensor]], Program]] = {
    "compile": lambda f, given: torch.compile(f, backend="aot_eager", fullgraph=True),
    "dynamic": lambda f, given: torch.compile(f, backend="aot_eager", fullgraph=True, dynamic=True),
    "make_fx": lambda f, given: make_fx(f)(*given),
    "export": in_strict_export,
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_products_of_matrices(way: str) -> None:
    given = [t.requires_grad_() for t in points(5)]
    traced = WAYS[way](smoothed_twice, given)
    results = []
    for program in (traced, dense_smoothed_twice):
        result = program(*given)
        results.append((result, *torch.autograd.grad(result.sin().sum(), given)))
    torch.testing.assert_close(*results)


def test_all_sizes_are_symbols() -> None:
    """But for the dimension of vectors, which is part of the expression."""
    compiled = torch.compile(
        lambda x, y, b: (-distances(x, y)).exp() @ b, backend="eager", fullgraph=True, dynamic=True
    )
    for count, dim in ((5, 3), (6, 3), (6, 2)):
        x, y, b = points(count)
        x, y = x[:, :dim].contiguous(), y[:, :dim].contiguous()
        torch.testing.assert_close(compiled(x, y, b), torch.exp(-(torch.cdist(x, y) ** 2)) @ b)


def test_lazy_tensors_that_leave_a_graph() -> None:
    """Where a graph breaks, and from a compiled function."""
    x, y, b = points(5)

    def broken(x: Tensor, y: Tensor, b: Tensor) -> Any:
        lazy = distances(2 * x, y)
        torch._dynamo.graph_break()
        return (-lazy).exp() @ b

    expected = torch.exp(-(torch.cdist(2 * x, y) ** 2)) @ b
    torch.testing.assert_close(torch.compile(broken, backend="eager")(x, y, b), expected)
    left = torch.compile(lambda x, y: distances(2 * x, y), backend="eager")(x, y)
    torch.testing.assert_close((-left).exp() @ b, expected)
