"""Derivatives of arrays of pairs in traced programs, with ranges too: needs the CPU's backend and
PyTorch.  The reference is dense, over all pairs, with a mask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from redcomp.torch import Genred, Vi, Vj

Tensor = torch.Tensor
Program = Callable[..., Any]
M, N = 7, 6


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def half(blocks: Sequence[tuple[int, int]], of_blocks: Sequence[Sequence[tuple[int, int]]]) -> Any:
    """Three of the six tensors of ranges."""
    ends = torch.tensor([len(line) for line in of_blocks], dtype=torch.int64).cumsum(0)
    intervals = [interval for line in of_blocks for interval in line]
    pairs = (torch.tensor(list(p), dtype=torch.int64).reshape(-1, 2) for p in (blocks, intervals))
    first, last = pairs
    return first, ends, last


def transposed(mask: Tensor) -> Any:
    """The other three, a row at a time."""
    lines = [[(int(i), int(i) + 1) for i in column.nonzero()[:, 0]] for column in mask.T]
    return half([(j, j + 1) for j in range(N)], lines)


# The blocks of rows, and the intervals of columns of each.
RANGES: dict[str, tuple[list[tuple[int, int]], list[list[tuple[int, int]]]]] = {
    "two blocks": ([(0, 3), (3, 7)], [[(0, 4)], [(2, 3), (4, 6)]]),
    "in another order": ([(5, 7), (0, 2)], [[(3, 6), (0, 2)], [(1, 2)]]),
    "an empty block": ([(2, 2), (1, 4)], [[(0, 6)], [(0, 3), (3, 3), (3, 4)]]),
    "a block without pairs": ([(0, 3), (3, 7)], [[], [(0, 6)]]),
    "no block": ([], []),
}


def mask_of(name: str) -> Tensor:
    mask = torch.zeros(M, N, dtype=torch.bool)
    for (first, last), line in zip(*RANGES[name], strict=True):
        for start, stop in line:
            mask[first:last, start:stop] = True
    return mask


def ranges_of(name: str) -> list[Tensor]:
    return [*half(*RANGES[name]), *transposed(mask_of(name))]


def arguments(seed: int = 0, rows: int = M, columns: int = N) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    sizes = ((rows, 2), (columns, 2), (rows, columns, 1), (columns, 3), (1,))
    made = [torch.rand(size, generator=random, dtype=torch.float64) for size in sizes]
    return [t.requires_grad_() for t in made]


WEIGHTED = Genred(
    "p * Exp(-SqDist(x, y)) * Square(w) * b",
    ["x = Vi(2)", "y = Vj(2)", "w = Vij(1)", "b = Vj(3)", "p = Pm(1)"],
    axis=1,
)


def weighted(x: Tensor, y: Tensor, w: Tensor, b: Tensor, p: Tensor, *ranges: Tensor) -> Tensor:
    result: Tensor = WEIGHTED(x, y, w, b, p, ranges=ranges or None)
    return result.sin().sum()


def dense(mask: Tensor, x: Tensor, y: Tensor, w: Tensor, b: Tensor, p: Tensor) -> Tensor:
    kernel = torch.exp(-((x[:, None] - y) ** 2).sum(-1)) * w[..., 0] ** 2
    return (p * (kernel * mask) @ b).sin().sum()


def exported(strict: bool) -> Callable[[Program, Sequence[Any]], Program]:
    def export(program: Program, given: Sequence[Any]) -> Program:
        class Module(torch.nn.Module):
            def forward(self, *args: Any) -> Any:
                return program(*args)

        return torch.export.export(Module(), tuple(given), strict=strict).module()

    return export


def compiled(program: Program, given: Sequence[Any], **options: Any) -> Program:
    made: Program = torch.compile(program, backend="aot_eager", fullgraph=True, **options)
    return made


WAYS: dict[str, Callable[[Program, Sequence[Any]], Program]] = {
    "compile": compiled,
    "dynamic": functools.partial(compiled, dynamic=True),
    "make_fx": lambda program, given: make_fx(program)(*given),
    "symbols": lambda program, given: make_fx(program, tracing_mode="symbolic")(*given),
    "export": exported(strict=False),
    "strict export": exported(strict=True),
}


def gradients_in_graph(*given: Tensor) -> Any:
    """A program that differentiates, as those do that `make_fx` and export see."""
    return torch.autograd.grad(weighted(*given), given[:5], create_graph=True)


@pytest.mark.sampled(32)
@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_with_ranges(way: str, name: str) -> None:
    given, ranges = arguments(), ranges_of(name)
    program = WAYS[way](weighted, [*given, *ranges])
    found = torch.autograd.grad(program(*given, *ranges), given)
    expected = torch.autograd.grad(dense(mask_of(name), *given), given)
    torch.testing.assert_close(found, expected)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("tracing_mode", ["real", "symbolic"])
def test_gradients_that_the_graph_makes(tracing_mode: str) -> None:
    """The mask is made by the graph from the ranges that it gets: others than it was made with."""
    first, second = ("two blocks", "in another order")
    graph = make_fx(gradients_in_graph, tracing_mode=tracing_mode)(*arguments(), *ranges_of(first))
    given, ranges = arguments(1), ranges_of(second)
    found = graph(*given, *ranges)
    total = dense(mask_of(second), *given)
    expected = torch.autograd.grad(total, given, create_graph=True)
    torch.testing.assert_close(found, expected)
    twice, dense_twice = (
        torch.autograd.grad(sum(g.sin().sum() for g in once), given) for once in (found, expected)
    )
    torch.testing.assert_close(twice, dense_twice)


def test_nothing_comes_from_pairs_that_are_left_out() -> None:
    """Where the derivative of a weight is infinite, and where that of a parameter is."""
    ratio = Genred("p * b / (w * x)", ["x = Vi(1)", "w = Vij(1)", "b = Vj(1)", "p = Pm(1)"], axis=1)
    name = "two blocks"
    mask = mask_of(name)
    random = torch.Generator().manual_seed(1)
    sizes = ((M, 1), (M, N, 1), (N, 1), (1,))
    x, w, b, p = (torch.rand(s, generator=random, dtype=torch.float64) + 0.5 for s in sizes)
    w = torch.where(mask[..., None], w, 0.0)

    def program(*given: Tensor) -> Any:
        x, w, b, p, *ranges = given
        total = ratio(x, w, b, p, ranges=ranges).sin().sum()
        once = torch.autograd.grad(total, given[:4], create_graph=True)
        return once, torch.autograd.grad(sum(g.sin().sum() for g in once), given[:4])

    given = [t.requires_grad_() for t in (x, w, b, p)]
    found = make_fx(program)(*given, *ranges_of(name))(*given, *ranges_of(name))
    expected = program(*given, *ranges_of(name))
    torch.testing.assert_close(found, expected)
    assert all(bool(g.isfinite().all()) for order in found for g in order)


@pytest.mark.thorough
def test_ranges_of_lazy_tensors_and_their_dtypes() -> None:
    given = arguments()
    name = "two blocks"

    def program(x: Tensor, y: Tensor, w: Tensor, b: Tensor, *ranges: Tensor) -> Any:
        costs = ((Vi(x) - Vj(y)) ** 2).sum(-1)
        costs.ranges = ranges
        return ((-costs).bias(w[..., 0]).exp() @ b).sin().sum()

    x, y, w, b, _ = given
    ranges = [r.to(torch.int32) for r in ranges_of(name)]
    found = torch.autograd.grad(WAYS["compile"](program, [])(x, y, w, b, *ranges), [x, w])
    kernel = torch.exp(w[..., 0] - ((x[:, None] - y) ** 2).sum(-1)) * mask_of(name)
    expected = torch.autograd.grad((kernel @ b).sin().sum(), [x, w])
    torch.testing.assert_close(found, expected)


def test_a_batch_with_ranges() -> None:
    given = arguments()
    batch = [torch.stack([t, t / 2]).detach().requires_grad_() for t in given[2:4]]
    name = "an empty block"

    def program(w: Tensor, b: Tensor, *ranges: Tensor) -> Any:
        return weighted(given[0], given[1], w, b, given[4], *ranges)

    traced = make_fx(program)(*batch, *ranges_of(name))
    found = torch.autograd.grad(traced(*batch, *ranges_of(name)), batch)
    expected = torch.autograd.grad(
        sum(
            dense(mask_of(name), given[0], given[1], w, b, given[4])
            for w, b in zip(*batch, strict=True)
        ),
        batch,
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [None, "two blocks"])
def test_one_graph_for_all_sizes(name: str | None) -> None:
    count = 0

    def counting(graph: Any, given: Any) -> Any:
        nonlocal count
        count += 1
        return torch._dynamo.backends.debugging.aot_eager(graph, given)

    program = torch.compile(weighted, backend=counting, fullgraph=True, dynamic=True)
    for rows, columns in ((8, 7), (9, 12), (10, 11)):
        given = arguments(rows, rows, columns)
        mask = torch.ones(rows, columns, dtype=torch.bool)
        ranges: list[Tensor] = []
        if name is not None:
            mask[:M, :N] = mask_of(name)
            mask[M:], mask[:, N:] = False, False
            ranges = ranges_of(name)
        found = torch.autograd.grad(program(*given, *ranges), given)
        torch.testing.assert_close(found, torch.autograd.grad(dense(mask, *given), given))
    assert count == 1


def test_gradients_without_a_graph() -> None:
    given = arguments()
    for name in RANGES:
        found = torch.autograd.grad(weighted(*given, *ranges_of(name)), given)
        expected = torch.autograd.grad(dense(mask_of(name), *given), given)
        torch.testing.assert_close(found, expected)
