"""Where calls run: needs no GPU but a stand-in for its driver, the CPU's backend, PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gpu_model import ModelDriver
from ptxsim.driver import StandIn
from torch.autograd import forward_ad

import redcomp
import redcomp.numpy
import redcomp.torch
from redcomp.abi import Launch
from redcomp.errors import ArgumentError, FallbackWarning
from redcomp.frontend.reductions import backends
from redcomp.frontend.reductions.backends import GPU_BACKENDS
from redcomp.frontend.reductions.genred import reducer_of_formulas
from redcomp.runtime import driver as drivers
from redcomp.runtime.device import Device, DeviceError
from redcomp.runtime.driver import use
from redcomp.runtime.gpu import Copies, GpuKernel
from redcomp.runtime.host import HostKernel
from redcomp.torch import genred as face
from redcomp.torch.cluster import from_matrix
from redcomp.torch.executors import CudaTensors, check_one_device, executor_of, on_host

Tensor = torch.Tensor

GAUSSIAN = "Exp(-SqDist(x, y)) * b"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)


def tensors(
    rows: int, columns: int, dtype: torch.dtype = torch.float64, *batch: int
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(rows + columns)
    x, y, b = (
        torch.randn(*batch, *shape, generator=random, dtype=torch.float64)
        for shape in ((rows, 3), (columns, 3), (columns, 2))
    )
    return x.to(dtype), y.to(dtype), b.to(dtype)


def kernel_matrix(x: Tensor, y: Tensor) -> Tensor:
    return (-((x.double()[..., :, None, :] - y.double()[..., None, :, :]) ** 2).sum(-1)).exp()


def dense(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return kernel_matrix(x, y) @ b.double()


def check(result: Any, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        torch.as_tensor(result).double(), expected.double(), rtol=tolerance, atol=tolerance
    )


class Recorder(StandIn):
    """It also knows on which devices kernels have run."""

    def __init__(self, devices: int) -> None:
        super().__init__(devices)
        self.used: list[int] = []

    def launch(self, device: Device, *rest: Any) -> None:
        self.used.append(device.number)
        super().launch(device, *rest)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Two devices; host kernels must not be called."""

    def refuse(*_: object) -> None:
        raise AssertionError("computed on the host")

    monkeypatch.setattr(HostKernel, "__call__", refuse)
    with use(Recorder(devices=2)) as driver:
        yield driver
    assert driver.launches


# -- names and devices --


@pytest.mark.sampled(144)
@pytest.mark.parametrize("backend", GPU_BACKENDS)
@pytest.mark.parametrize("library", ["numpy", "torch", "either"])
def test_names_of_gpu_backends(gpu: Recorder, backend: str, library: str) -> None:
    given = tensors(5, 7)
    made = {"numpy": redcomp.numpy, "torch": redcomp.torch, "either": redcomp}[library]
    arrays = given if library == "torch" else [t.numpy() for t in given]
    result = made.Genred(GAUSSIAN, ALIASES, axis=1)(*arrays, backend=backend)
    assert type(result) is type(arrays[0])
    check(result, dense(*given))
    assert not gpu.leaks()


@pytest.mark.parametrize("backend", ["auto", "CPU"])
@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_host_backends_leave_the_gpu_alone(backend: str, library: Any) -> None:
    given = tensors(5, 7)
    arrays = given if library is redcomp.torch else [t.numpy() for t in given]
    with use(StandIn()) as driver:
        result = library.Genred(GAUSSIAN, ALIASES, axis=1)(*arrays, backend=backend)
    check(result, dense(*given))
    assert not driver.launches


def test_a_device_is_chosen_by_its_number(gpu: Recorder) -> None:
    given = tensors(5, 7)
    call = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)
    for device_id in (-1, 1, 0):
        check(call(*given, backend="GPU", device_id=device_id), dense(*given))
    assert gpu.used == [0, 1, 0]


@pytest.mark.parametrize("device_id", [2, -2])
@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_numbers_of_no_device(device_id: Any, library: Any) -> None:
    arrays = tensors(5, 7) if library is redcomp.torch else [t.numpy() for t in tensors(5, 7)]
    call = library.Genred(GAUSSIAN, ALIASES, axis=1)
    message = f"device_id must be a number below 2, .*; it is {device_id!r}"
    with use(StandIn(devices=2)), pytest.raises(ArgumentError, match=message):
        call(*arrays, backend="GPU", device_id=device_id)


@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_without_a_gpu_the_error_says_why(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    def missing() -> None:
        raise DeviceError("the driver reports no device")

    monkeypatch.setattr(drivers, "_real", missing)
    arrays = tensors(5, 7) if library is redcomp.torch else [t.numpy() for t in tensors(5, 7)]
    with pytest.raises(DeviceError, match="backend='GPU_2D': the driver reports no device"):
        library.Genred(GAUSSIAN, ALIASES, axis=1)(*arrays, backend="GPU_2D")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not yet looked for GPUs, and finds none."""

    def missing() -> None:
        raise DeviceError("the driver reports no device")

    monkeypatch.setattr(drivers, "_real", missing)
    memories = backends._missing_gpu, backends._warn_of_fallback
    for memory in memories:
        memory.cache_clear()
    yield
    for memory in memories:
        memory.cache_clear()


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_calls_for_a_gpu_may_fall_back_to_the_host(
    monkeypatch: pytest.MonkeyPatch, library: Any
) -> None:
    arrays = tensors(5, 7) if library is redcomp.torch else [t.numpy() for t in tensors(5, 7)]
    call = library.Genred(GAUSSIAN, ALIASES, axis=1)
    x, y, b = (
        make(a) for make, a in zip((library.Vi, library.Vj, library.Vj), arrays, strict=True)
    )
    product = (-x.sqdist(y)).exp() * b
    expected = np.asarray(kernel_matrix(*tensors(5, 7)[:2]) @ tensors(5, 7)[2])
    monkeypatch.setenv("REDCOMP_GPU_FALLBACK", "1")
    with pytest.warns(FallbackWarning, match="the driver reports no device") as told:
        results = [call(*arrays, backend=backend) for backend in GPU_BACKENDS]
    assert len(told) == 1
    results.append(product.sum(axis=1, backend="GPU"))
    for result in results:
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-12)
    monkeypatch.setenv("REDCOMP_GPU_FALLBACK", "0")
    with pytest.raises(DeviceError, match="with REDCOMP_GPU_FALLBACK=1 the call runs on the host"):
        call(*arrays, backend="GPU")


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_there_is_used_whatever_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDCOMP_GPU_FALLBACK", "1")
    with use(ModelDriver()):
        assert not backends.falls_back()
    with pytest.warns(FallbackWarning):
        assert backends.falls_back()


def test_gpus_that_are_too_old() -> None:
    message = r"GPU 0, model 0, has compute capability 6\.1; redcomp needs 7\.0"
    with use(ModelDriver(capability=(6, 1))), pytest.raises(DeviceError, match=message):
        redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)(*tensors(5, 7), backend="GPU")


def test_gpus_that_are_newer_than_all_known() -> None:
    """They run the code of the last one that is known."""
    given = tensors(5, 7)
    with use(StandIn(capability=(13, 7))) as driver:
        result = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)(*given, backend="GPU")
    check(result, dense(*given))
    assert driver.launches


# -- where tensors are --


def place(devices: list[str], backend: str = "auto", device_id: int = -1) -> Any:
    reduction = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1).reduction
    return executor_of(reduction, list(map(torch.device, devices)), backend, device_id)


@pytest.mark.parametrize("backend", ["auto", "GPU", "GPU_1D_device"])
@pytest.mark.parametrize("device_id", [-1, 1])
def test_cuda_tensors_are_computed_where_they_are(backend: str, device_id: int) -> None:
    with use(ModelDriver(devices=2)) as driver:
        found = place(["cuda:1"] * 3, backend, device_id)
    assert found == CudaTensors(driver, driver.devices()[1], torch.device("cuda:1"))


def test_cpu_tensors_are_computed_on_the_host_or_copied() -> None:
    with use(ModelDriver()) as driver:
        assert place(["cpu"] * 3) is None
        assert place(["cpu"] * 3, "GPU") == Copies(driver, driver.devices()[0])


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["cpu", "cuda:0", "cpu"], "'y' is on cuda:0, but 'x' is on cpu: all arguments"),
        (["cuda:0", "cuda:0", "cuda:1"], "'b' is on cuda:1, but 'x' is on cuda:0"),
    ],
)
def test_several_devices(devices: list[str], message: str) -> None:
    reduction = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1).reduction
    with pytest.raises(ArgumentError, match=message):
        check_one_device(reduction, [torch.device(device) for device in devices])


@pytest.mark.parametrize(
    ("devices", "options", "message"),
    [
        (["cuda:0"] * 3, {"backend": "CPU"}, "'x' is on cuda:0, but backend='CPU'"),
        (["cuda:0"] * 3, {"device_id": 1}, "'x' is on cuda:0, but device_id is 1"),
        (["cuda:5"] * 3, {}, "device_id must be a number below 2, .*; it is 5"),
        (["meta"] * 3, {}, "'x' is on meta: redcomp computes on CPUs and on NVIDIA GPUs"),
        (["cpu"] * 3, {"backend": "TPU"}, "backend must be one of auto, CPU, GPU.*not 'TPU'"),
    ],
)
def test_wrong_devices(devices: list[str], options: dict[str, Any], message: str) -> None:
    with use(ModelDriver(devices=2)), pytest.raises(ArgumentError, match=message):
        place(devices, **options)


def test_cuda_tensors_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise DeviceError("cuda-python is not installed")

    monkeypatch.setattr(drivers, "_real", missing)
    with pytest.raises(DeviceError, match="'x' is on cuda:0: cuda-python is not installed"):
        place(["cuda:0"] * 3)


def test_an_out_on_another_device_is_refused() -> None:
    call = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)
    with pytest.raises(ArgumentError, match="out is on meta, where it has no values"):
        call(*tensors(5, 7), out=torch.empty(5, 2, dtype=torch.float64, device="meta"))


# -- tensors on a device: those of the CPU stand for them --


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> ModelDriver:
    """A device with the host's memory, whose kernels compute sum_j x_i * y_j."""
    reducer_of_formulas.cache_clear()  # which have decided where tensors like these are
    driver = ModelDriver()
    monkeypatch.setattr(driver, "_check", lambda *_: None)
    found = CudaTensors(driver, driver.devices()[0], torch.device("cpu"))
    monkeypatch.setattr(face, "executor_of", lambda *_: found)
    streams = "_cuda_getCurrentRawStream"  # which PyTorch for the CPU lacks
    monkeypatch.setattr(torch._C, streams, lambda number: 77 + number, raising=False)
    kernel = GpuKernel("x * y", (driver.kernel,))
    monkeypatch.setattr(GpuKernel, "__init__", lambda self, *_: self.__dict__.update(vars(kernel)))
    return driver


def test_work_is_queued_on_the_current_stream(on_device: ModelDriver) -> None:
    call = redcomp.torch.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    x, y = torch.arange(1.0, 21.0)[:, None].double(), torch.ones(40_000, 1, dtype=torch.float64)
    first = call(x, y)
    assert torch.equal(first, 40_000 * x)
    on_device.calls.clear()
    assert torch.equal(call(x, y, out=torch.zeros_like(x)), first)
    assert on_device.calls == {"launch": 2}
    assert {(name, stream) for name, _, _, stream, _ in on_device.launches} == {
        ("redcomp_run", 77),
        ("redcomp_join", 77),
    }


def test_the_stream_is_asked_for_at_each_call(
    on_device: ModelDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = redcomp.torch.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    x, y = torch.ones(20, 1, dtype=torch.float64), torch.ones(30, 1, dtype=torch.float64)
    streams = iter([5, 6, 5])
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: next(streams))
    for _ in range(3):
        assert torch.equal(call(x, y), 30 * x)
    used = [stream for name, _, _, stream, _ in on_device.launches if name == "redcomp_run"]
    assert used == [5, 6, 5]


def test_gradients_run_on_the_device_too(on_device: ModelDriver) -> None:
    call = redcomp.torch.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    x, y = torch.ones(20, 1, dtype=torch.float64), torch.ones(30, 1, dtype=torch.float64)
    call(x, y.requires_grad_())
    assert on_device.launches[0][0] == "redcomp_run"
    before = on_device.calls["launch"]
    # The model knows no kernel of three arguments, and says so.
    with pytest.raises(ValueError, match="unpack"):
        call(x, y).sum().backward()
    assert on_device.calls["launch"] > before


def test_ranges_on_a_device_are_moved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[Tensor] = []

    class Elsewhere(torch.Tensor):
        """Claims to be on a GPU."""

        device = property(lambda self: SimpleNamespace(type="cuda"))

        def cpu(self, *_: Any) -> Tensor:
            moves.append(self)
            return torch.Tensor.cpu(self.as_subclass(torch.Tensor)).clone()

    ranges = tuple(torch.arange(n).as_subclass(Elsewhere) for n in range(6))
    first = on_host(ranges)
    assert on_host(tuple(ranges)) is first
    assert len(moves) == 6
    with torch.no_grad():
        ranges[3].add_(1)
    second = on_host(ranges)
    assert second is not first
    assert torch.equal(second[3], torch.tensor([1, 2, 3]))
    plain = (torch.arange(3),) * 6
    assert on_host(plain) is plain
    assert on_host(None) is None


# -- results, with the stand-in --


@pytest.mark.sampled(24)
@DTYPES
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 700), (150, 40)], ids=str)
def test_sums_of_both_libraries(
    gpu: Recorder, sizes: tuple[int, int], axis: int, dtype: torch.dtype
) -> None:
    x, y, b = tensors(*sizes, dtype)
    expected = dense(x, y, b)
    aliases = ALIASES
    if axis == 0:
        aliases = [alias.translate(str.maketrans("ij", "ji")) for alias in ALIASES]
    options = {"axis": axis, "use_fast_math": False}
    result = redcomp.torch.Genred(GAUSSIAN, aliases, **options)(x, y, b, backend="GPU")
    assert result.dtype == dtype
    check(result, expected, TOLERANCE[dtype])
    arrays = [t.numpy() for t in (x, y, b)]
    out = np.empty(result.shape, arrays[0].dtype)
    again = redcomp.numpy.Genred(GAUSSIAN, aliases, **options)(*arrays, backend="GPU", out=out)
    assert again is out
    assert np.array_equal(out, result.numpy())
    assert not gpu.leaks()


def test_fast_math_is_the_default_of_the_gpu_alone() -> None:
    call = redcomp.numpy.Genred(GAUSSIAN, ALIASES, axis=1)
    exact = redcomp.numpy.Genred(GAUSSIAN, ALIASES, axis=1, use_fast_math=False)
    assert call.lower("float32", "sm_90").context.use_fast_math
    assert not exact.lower("float32", "sm_90").context.use_fast_math
    assert not call.lower("float32").context.use_fast_math


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_for_storage(gpu: Recorder, dtype: torch.dtype) -> None:
    given = tensors(6, 9, dtype)
    call = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)
    result = call(*given, backend="GPU")
    assert result.dtype == dtype
    check(result, dense(*given), 2e-2)


def test_autocast(gpu: Recorder) -> None:
    """That of the tensors' device counts, wherever the kernel runs."""
    x, y, b = tensors(6, 9, torch.float32)
    call = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)
    results = []
    for cast in (lambda t: t, torch.Tensor.bfloat16):
        given = [t.detach().requires_grad_() for t in (x, y, b)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast(x) is x):
            result = call(*map(cast, given), backend="GPU")
            assert result.dtype == torch.bfloat16
            result.sum().backward()
        results.append((result.detach(), *[t.grad for t in given]))
    assert all(map(torch.equal, *results))


def test_a_batch(gpu: Recorder) -> None:
    x, y, b = tensors(6, 9, torch.float64, 2, 3)
    given = x[:1], y[:, :1], b
    result = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)(*given, backend="GPU")
    check(result, dense(*given))
    assert len(gpu.launches) == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_ranges_leave_rows_out(gpu: Recorder, library: Any) -> None:
    x, y, b = tensors(20, 30)
    intervals_i, intervals_j = torch.tensor([[0, 4], [6, 20]]), torch.tensor([[0, 11], [12, 30]])
    ranges = from_matrix(intervals_i, intervals_j, torch.tensor([[True, False], [True, True]]))
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[:4, :11] = mask[6:, :11] = mask[6:, 12:] = True
    given: Any = (x, y, b)
    if library is redcomp.numpy:
        given, ranges = [t.numpy() for t in given], tuple(t.numpy() for t in ranges)
    result = library.Genred(GAUSSIAN, ALIASES, axis=1)(*given, ranges=ranges, backend="GPU")
    check(result, (kernel_matrix(x, y) * mask) @ b)
    best = library.Genred("SqDist(x, y)", ALIASES[:2], "Min", axis=1)
    found = best(*given[:2], ranges=ranges, backend="GPU")
    distances = -kernel_matrix(x, y).log()
    check(found, distances.masked_fill(~mask, torch.inf).amin(1, keepdim=True), 1e-9)


def test_no_columns_need_no_kernel() -> None:
    with use(StandIn()) as driver:
        result = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)(*tensors(3, 0), backend="GPU")
    assert torch.equal(result, torch.zeros(3, 2, dtype=torch.float64))
    assert not driver.launches


def test_columns_are_split_and_joined() -> None:
    """Of one block of rows on a large device."""
    given = tensors(3, 30_000, torch.float32)
    with use(StandIn(processors=16)) as driver:
        result = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)(*given, backend="GPU")
    assert [launch.kernel for launch in driver.launches] == ["redcomp_run", "redcomp_join"]
    assert driver.launches[0].blocks > 2
    check(result, dense(*given), 1e-4)


def test_places_and_integers(gpu: Recorder) -> None:
    x, y, _ = tensors(8, 13)
    arguments = (x, y, torch.arange(13)[:, None] % 3)
    aliases = [*ALIASES[:2], "l = Vj(1, int)"]
    call = redcomp.torch.Genred("SqDist(x, y) + 100 * Equal(l, 1)", aliases, "ArgMin", axis=1)
    distances = -kernel_matrix(x, y).log()
    distances[:, arguments[2][:, 0] == 1] = torch.inf
    assert torch.equal(call(*arguments, backend="GPU")[:, 0], distances.argmin(1))


# -- derivatives run where the result did --


@pytest.mark.sampled(2)
@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_of_two_orders(gpu: Recorder, axis: int) -> None:
    x, y, b = (t.requires_grad_() for t in tensors(6, 9))
    aliases = ALIASES
    if axis == 0:
        aliases = [alias.translate(str.maketrans("ij", "ji")) for alias in ALIASES]
    call = redcomp.torch.Genred(GAUSSIAN, aliases, axis=axis)
    orders = []
    for result in (call(x, y, b, backend="GPU"), dense(x, y, b)):
        first = torch.autograd.grad((result**2).sum(), (x, y, b), create_graph=True)
        second = torch.autograd.grad(sum((t**2).sum() for t in first), (x, y, b))
        orders.append((*first, *second))
    for ours, expected in zip(*orders, strict=True):
        check(ours.detach(), expected.detach(), 1e-10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's forward mode, about itself
def test_forward_mode(gpu: Recorder) -> None:
    given, tangents = tensors(6, 9), [t.flip(0) for t in tensors(6, 9)]
    call = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)
    results = []
    for function in (lambda *a: call(*a, backend="GPU"), dense):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, u) for t, u in zip(given, tangents, strict=True)]
            results.append(forward_ad.unpack_dual(function(*duals)).tangent)
    check(results[0], results[1], 1e-10)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("reduction", ["Max", "LogSumExp"])
def test_gradients_of_other_reductions(gpu: Recorder, reduction: str) -> None:
    x, y, _ = tensors(6, 9)
    call = redcomp.torch.Genred("(x | y)", ALIASES[:2], reduction, axis=1)
    meanings = {"Max": lambda t: t.amax(1), "LogSumExp": lambda t: t.logsumexp(1)}
    gradients = []
    for result in (
        lambda x: call(x, y, backend="GPU")[:, 0],
        lambda x: meanings[reduction](x @ y.T),
    ):
        moved = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad((result(moved) ** 2).sum(), moved)[0])
    check(*gradients, 1e-10)


def test_gradients_of_tables_and_of_pairs(gpu: Recorder) -> None:
    x, _, _ = tensors(6, 5)
    table, index = torch.randn(7, dtype=torch.float64), torch.tensor([0, 6, 3, 3, 1])[:, None]
    pairs = torch.randn(6, 5, 1, dtype=torch.float64)
    aliases = ["x = Vi(3)", "k = Vj(1, int)", "t = Pm(7)", "w = Vij(1)"]
    call = redcomp.torch.Genred("Sum(x) * w * Gather(t, k)", aliases, axis=1)
    gradients = []
    for function in (
        lambda t, w: call(x, index, t, w, backend="GPU"),
        lambda t, w: (x.sum(1)[:, None] * w[..., 0] * t[index[:, 0]]).sum(1, keepdim=True),
    ):
        given = [t.clone().requires_grad_() for t in (table, pairs)]
        result = function(*given)
        gradients.append(torch.autograd.grad((result**2).sum(), given))
    for ours, expected in zip(*gradients, strict=True):
        check(ours, expected, 1e-10)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_systems_are_solved(gpu: Recorder, library: Any) -> None:
    x, _, b = tensors(7, 7)
    solver = library.KernelSolve(GAUSSIAN, ALIASES, "b", axis=1)
    given: Any = (x, x, b)
    if library is redcomp.numpy:
        given = [t.numpy() for t in given]
    found = solver(*given, alpha=0.5, eps=1e-12, backend="GPU")
    matrix = kernel_matrix(x, x) + 0.5 * torch.eye(7, dtype=torch.float64)
    check(found, torch.linalg.solve(matrix, b), 1e-9)


def test_gradients_of_solutions(gpu: Recorder) -> None:
    x, _, b = tensors(5, 5)
    solver = redcomp.torch.KernelSolve(GAUSSIAN, ALIASES, "b", axis=1)
    eye = torch.eye(5, dtype=torch.float64)
    gradients = []
    for function in (
        lambda x, b: solver(x, x, b, alpha=0.5, eps=1e-13, backend="GPU"),
        lambda x, b: torch.linalg.solve(kernel_matrix(x, x) + 0.5 * eye, b),
    ):
        given = [t.clone().requires_grad_() for t in (x, b)]
        gradients.append(torch.autograd.grad((function(*given) ** 2).sum(), given))
    for ours, expected in zip(*gradients, strict=True):
        check(ours, expected, 1e-8)


def test_the_device_of_a_result_is_that_of_its_gradient(gpu: Recorder) -> None:
    x, y, b = tensors(6, 9)
    result = redcomp.torch.Genred(GAUSSIAN, ALIASES, axis=1)(
        x, y, b.requires_grad_(), backend="GPU", device_id=1
    )
    result.sum().backward()
    check(b.grad, kernel_matrix(x, y).sum(0)[:, None].expand(9, 2))
    assert gpu.used == [1, 1]


def test_launch_is_what_the_schedule_says() -> None:
    lowering = redcomp.numpy.Genred(GAUSSIAN, ALIASES, axis=1).lower("float32", "sm_80")
    kernel = lowering.load()
    assert isinstance(kernel, GpuKernel)
    schedule = lowering.schedule
    # Two totals a row, in float64.
    height = schedule.threads * schedule.rows
    expected = Launch(schedule.threads, height, schedule.tile, 2 * 8 * height)
    (launch,) = kernel.launches
    estimated = {"clocks": expected.clocks, "filling": expected.filling}
    assert replace(launch, **estimated) == expected
