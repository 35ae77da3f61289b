"""Real GPUs: needs an NVIDIA GPU, cuda-python, and PyTorch with CUDA; skips without."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
from redcomp.errors import ArgumentError
from redcomp.torch import Genred, KernelSolve

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
]

Tensor = torch.Tensor

GAUSSIAN = "Exp(-SqDist(x, y)) * b"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
SIZES = [(1, 1), (100, 30_000), (5000, 700)]


def tensors(
    rows: int, columns: int, dtype: torch.dtype = torch.float64, device: Any = "cuda"
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(rows + columns)
    x, y, b = (
        torch.randn(shape, generator=random, dtype=torch.float64).to(device, dtype)
        for shape in ((rows, 3), (columns, 3), (columns, 2))
    )
    return x, y, b


def dense(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    x, y, b = x.double(), y.double(), b.double()
    return (-((x[:, None] - y) ** 2).sum(-1)).exp() @ b


def check(result: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(
        result.double(), expected, rtol=tolerance, atol=tolerance * max(1.0, scale)
    )


def operation(**options: Any) -> Genred:
    return Genred(GAUSSIAN, ALIASES, axis=1, **options)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_sums(sizes: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    given = tensors(*sizes, dtype)
    for fast in (False, None):
        result = operation(use_fast_math=fast)(*given)
        assert result.device == given[0].device
        check(result, dense(*given), tolerance)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_arrays_of_the_host(sizes: tuple[int, int]) -> None:
    given = tensors(*sizes, device="cpu")
    expected = dense(*given)
    check(operation()(*given, backend="GPU"), expected)
    call = redcomp.numpy.Genred(GAUSSIAN, ALIASES, axis=1)
    result = call(*(t.numpy() for t in given), backend="GPU")
    assert isinstance(result, np.ndarray)
    check(torch.from_numpy(result), expected)


def test_gradients_of_two_orders() -> None:
    given = [t.requires_grad_() for t in tensors(60, 90)]
    orders = []
    for result in (operation()(*given), dense(*given)):
        first = torch.autograd.grad((result**2).sum(), given, create_graph=True)
        second = torch.autograd.grad(sum((t**2).sum() for t in first), given)
        orders.append((*first, *second))
    for ours, expected in zip(*orders, strict=True):
        check(ours, expected, 1e-9)


def test_ranges_and_batches_on_the_device() -> None:
    x, y, b = tensors(400, 3000)
    rows = torch.tensor([[0, 100], [150, 400]], device="cuda")
    columns = torch.tensor([[0, 2000], [1000, 3000]], device="cuda")
    slices = torch.tensor([1, 2], device="cuda")
    none = torch.zeros(0, 2, dtype=torch.int64, device="cuda")
    ranges = (rows, slices, columns, none, none[:, 0], none)
    result = operation()(x, y, b, ranges=ranges)
    check(result[:100], dense(x[:100], y[:2000], b[:2000]))
    check(result[150:], dense(x[150:], y[1000:], b[1000:]))
    assert not result[100:150].any()
    batch = operation()(x.reshape(4, 100, 3), y, b)
    check(batch.reshape(400, 2), dense(x, y, b))


def test_systems_are_solved() -> None:
    x, _, b = tensors(300, 300)
    solver = KernelSolve(GAUSSIAN, ALIASES, "b", axis=1)
    eye = torch.eye(300, dtype=torch.float64, device="cuda")
    matrix = (-((x[:, None] - x) ** 2).sum(-1)).exp() + 0.5 * eye
    check(solver(x, x, b, alpha=0.5, eps=1e-12), torch.linalg.solve(matrix, b), 1e-8)


def test_work_is_in_the_order_of_the_current_stream() -> None:
    x, y, b = tensors(2000, 20_000)
    expected = dense(x, y, b)
    call, stream = operation(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        later = torch.zeros_like(b)
        torch.cuda._sleep(50_000_000)  # cycles of the GPU, for which the stream is busy
        later.copy_(b)
        result = call(x, y, later)
    torch.cuda.current_stream().wait_stream(stream)
    check(result, expected)


@pytest.mark.parametrize("kind", ["dense", "batch", "ranges"])
def test_calls_are_recorded_in_graphs(kind: str) -> None:
    x, y, b = tensors(300, 20_000)
    call = operation()
    options: dict[str, Any] = {}
    if kind == "batch":
        x = x.reshape(3, 100, 3)
    if kind == "ranges":
        three = torch.tensor([[0, 300]]), torch.tensor([2]), torch.tensor([[0, 10], [20, 20_000]])
        none = torch.zeros(0, 2, dtype=torch.int64)
        options["ranges"] = tuple(t.cuda() for t in (*three, none, none[:, 0], none))
    call(x, y, b, **options)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call(x, y, b, **options)
    b.copy_(torch.randn_like(b))
    graph.replay()
    torch.cuda.synchronize()
    check(result, call(x, y, b, **options), 1e-13)


def test_many_threads() -> None:
    given = tensors(500, 5000)
    expected, results = dense(*given), {}
    call = operation()
    torch.cuda.synchronize()

    def work(number: int) -> None:
        results[number] = call(*given)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        check(results[number], expected)


def test_memory_does_not_grow() -> None:
    given = tensors(2000, 5000, torch.float32)
    call = operation()
    call(*given)
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        call(*given)
    assert torch.cuda.memory_allocated() == before


def test_cuda_tensors_are_not_computed_on_the_host() -> None:
    with pytest.raises(ArgumentError, match="'x' is on cuda:0, but backend='CPU'"):
        operation()(*tensors(3, 4), backend="CPU")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices() -> None:
    call = operation()
    for device in ("cuda:1", "cuda:0", "cuda:1"):
        given = tensors(300, 4000, device=device)
        check(call(*given), dense(*given))
    x, y, b = tensors(300, 4000)
    with pytest.raises(ArgumentError, match="'y' is on cuda:1, but 'x' is on cuda:0"):
        call(x, y.to("cuda:1"), b)
