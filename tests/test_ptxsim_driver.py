"""The stand-in for a GPU's driver, with kernels that LLVM compiles: needs no backend."""

from __future__ import annotations

import ctypes
import functools

import llvmlite.binding as llvm
import numpy as np
import pytest
from ptxsim import parse
from ptxsim.driver import Findings, Launch, StandIn

from redcomp.runtime.device import Device, DeviceError, Driver

AXPY = """
@scale = internal addrspace(1) global i64 3, align 8
define ptx_kernel void @axpy(i64 %count, i64 %x, i64 %y) {
  %thread = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %threads = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %start = mul i32 %block, %threads
  %sum = add i32 %start, %thread
  %row = zext i32 %sum to i64
  %inside = icmp slt i64 %row, %count
  br i1 %inside, label %work, label %end
work:
  %xs = inttoptr i64 %x to ptr addrspace(1)
  %ys = inttoptr i64 %y to ptr addrspace(1)
  %xp = getelementptr float, ptr addrspace(1) %xs, i64 %row
  %yp = getelementptr float, ptr addrspace(1) %ys, i64 %row
  %xv = load float, ptr addrspace(1) %xp
  %yv = load float, ptr addrspace(1) %yp
  %factor = load volatile i64, ptr addrspace(1) @scale
  %a = sitofp i64 %factor to float
  %r = call float @llvm.fma.f32(float %a, float %xv, float %yv)
  store float %r, ptr addrspace(1) %yp
  br label %end
end:
  ret void
}
"""

# out_i = sum_j 2^-|x_i - y_j|^2 b_j, in one dimension: a row a thread, tiles of 64 pairs (y_j, b_j)
# in two buffers, of which one is filled while the other is used.
GAUSSIAN = """
@tiles = internal addrspace(3) global [128 x <2 x float>] undef, align 8
define ptx_kernel void @gaussian(i64 %rows, i64 %columns, i64 %out, i64 %x, i64 %y) {
entry:
  %thread = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %t = zext i32 %thread to i64
  %b = zext i32 %block to i64
  %start = mul i64 %b, 64
  %row = add i64 %start, %t
  %inside = icmp slt i64 %row, %rows
  %safe = select i1 %inside, i64 %row, i64 0
  %outs = inttoptr i64 %out to ptr addrspace(1)
  %xs = inttoptr i64 %x to ptr addrspace(1)
  %ys = inttoptr i64 %y to ptr addrspace(1)
  %xp = getelementptr float, ptr addrspace(1) %xs, i64 %safe
  %xv = load float, ptr addrspace(1) %xp
  %first.has = icmp slt i64 %t, %columns
  %first.size = select i1 %first.has, i32 8, i32 0
  %first.to = getelementptr <2 x float>, ptr addrspace(3) @tiles, i64 %t
  %first.from = getelementptr <2 x float>, ptr addrspace(1) %ys, i64 %t
  call void @llvm.nvvm.cp.async.ca.shared.global.8.s(
    ptr addrspace(3) %first.to, ptr addrspace(1) %first.from, i32 %first.size)
  call void @llvm.nvvm.cp.async.commit.group()
  br label %tile
tile:
  %begin = phi i64 [ 0, %entry ], [ %after, %next ]
  %buffer = phi i64 [ 0, %entry ], [ %other, %next ]
  %total = phi float [ 0.0, %entry ], [ %sum, %next ]
  %after = add i64 %begin, 64
  %other = xor i64 %buffer, 64
  %j = add i64 %after, %t
  %has = icmp slt i64 %j, %columns
  %size = select i1 %has, i32 8, i32 0
  %slot = add i64 %other, %t
  %to = getelementptr <2 x float>, ptr addrspace(3) @tiles, i64 %slot
  %from = getelementptr <2 x float>, ptr addrspace(1) %ys, i64 %j
  call void @llvm.nvvm.cp.async.ca.shared.global.8.s(
    ptr addrspace(3) %to, ptr addrspace(1) %from, i32 %size)
  call void @llvm.nvvm.cp.async.commit.group()
  call void @llvm.nvvm.cp.async.wait.group(i32 WAIT)
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  br label %pair
pair:
  %k = phi i64 [ 0, %tile ], [ %k1, %pair ]
  %part = phi float [ %total, %tile ], [ %sum, %pair ]
  %at = add i64 %buffer, %k
  %p = getelementptr <2 x float>, ptr addrspace(3) @tiles, i64 %at
  %v = load <2 x float>, ptr addrspace(3) %p, align 8
  %yv = extractelement <2 x float> %v, i32 0
  %bv = extractelement <2 x float> %v, i32 1
  %d = fsub float %xv, %yv
  %minus = fneg float %d
  %s = fmul float %d, %minus
  %e = call float @llvm.nvvm.ex2.approx.ftz.f(float %s)
  %sum = call float @llvm.fma.f32(float %e, float %bv, float %part)
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, 64
  br i1 %more, label %pair, label %next
next:
  BARRIER
  %again = icmp slt i64 %after, %columns
  br i1 %again, label %tile, label %done
done:
  br i1 %inside, label %store, label %end
store:
  %op = getelementptr float, ptr addrspace(1) %outs, i64 %row
  store float %sum, ptr addrspace(1) %op
  br label %end
end:
  ret void
}
"""
BARRIER = "call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"
DECLARATIONS = """
target triple = "nvptx64-nvidia-cuda"
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare void @llvm.nvvm.barrier.cta.sync.aligned.all(i32)
declare float @llvm.nvvm.ex2.approx.ftz.f(float)
declare float @llvm.fma.f32(float, float, float)
declare void @llvm.nvvm.cp.async.ca.shared.global.8.s(ptr addrspace(3), ptr addrspace(1), i32)
declare void @llvm.nvvm.cp.async.commit.group()
declare void @llvm.nvvm.cp.async.wait.group(i32)
"""


@functools.cache
def to_ptx(text: str, target: str = "sm_90") -> str:
    """LLVM's PTX."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(DECLARATIONS + text)
    machine = llvm.Target.from_triple("nvptx64-nvidia-cuda").create_target_machine(cpu=target)
    return str(machine.emit_assembly(module))


def upload(driver: Driver, device: Device, array: np.ndarray) -> int:
    address = driver.allocate(device, array.nbytes)
    driver.copy_in(device, address, array.ctypes.data, array.nbytes, 0)
    return address


def download(driver: Driver, device: Device, address: int, count: int) -> np.ndarray:
    array = np.zeros(count, np.float32)
    driver.copy_out(device, array.ctypes.data, address, array.nbytes, 0)
    return array


def load(driver: Driver, device: Device, text: str, name: str) -> int:
    module = driver.load(device, driver.assemble(device, to_ptx(text)))
    return driver.function(device, module, name)


def launch(driver: Driver, device: Device, function: int, shape: tuple[int, int], *words: int):
    array = (ctypes.c_int64 * len(words))(*words)
    driver.launch(device, function, *shape, 0, array)


@pytest.fixture
def driver() -> StandIn:
    return StandIn()


@pytest.fixture
def device(driver) -> Device:
    return driver.devices()[0]


def test_devices_are_as_asked_for():
    devices = StandIn(devices=2, capability=(7, 0), processors=5).devices()
    assert [device.number for device in devices] == [0, 1]
    assert {(d.target, d.processors) for d in devices} == {("sm_70", 5)}


def test_a_kernel_changes_memory(driver, device):
    x, y = np.arange(1000, dtype=np.float32), np.ones(1000, np.float32)
    addresses = upload(driver, device, x), upload(driver, device, y)
    function = load(driver, device, AXPY, "axpy")
    launch(driver, device, function, (8, 128), 1000, *addresses)
    assert (download(driver, device, addresses[1], 1000) == 3 * x + 1).all()
    assert driver.launches == [Launch("axpy", 8, 128)]
    assert driver.resident_blocks(device, function, 128) == 2


def run_gaussian(driver, device, rows, columns, *, wait=1, barrier=BARRIER):
    """The kernel's output, and the reduction in float64."""
    rng = np.random.default_rng(rows)
    x, y = rng.standard_normal(rows), rng.standard_normal((columns, 2))
    x, y = x.astype(np.float32), y.astype(np.float32)
    out = driver.allocate(device, 4 * rows)
    text = GAUSSIAN.replace("WAIT", str(wait)).replace("BARRIER", barrier)
    function = load(driver, device, text, "gaussian")
    addresses = upload(driver, device, x), upload(driver, device, y)
    shape = (-(-rows // 64), 64)
    launch(driver, device, function, shape, rows, columns, out, *addresses)
    squares = (x[:, None].astype(float) - y[:, 0]) ** 2
    return download(driver, device, out, rows), np.exp2(-squares) @ y[:, 1].astype(float)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (64, 64), (100, 63), (130, 200)])
def test_tiles_in_two_buffers(driver, device, rows, columns):
    got, want = run_gaussian(driver, device, rows, columns)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "kind"), [({"wait": 2}, "cp.async"), ({"barrier": ""}, "shared-race")]
)
def test_a_faulty_kernel_is_found_out(driver, device, how, kind):
    with pytest.raises(Findings, match=r"Launch.*gaussian") as error:
        run_gaussian(driver, device, 64, 200, **how)
    assert kind in {report.kind for report in error.value.reports}


def test_out_of_bounds_and_uninitialised_memory(driver, device):
    x = upload(driver, device, np.zeros(100, np.float32))
    fresh = driver.allocate(device, 400)
    function = load(driver, device, AXPY, "axpy")
    with pytest.raises(Findings, match=r"out-of-bounds.*offset 400"):
        launch(driver, device, function, (1, 128), 101, x, x)
    with pytest.raises(Findings, match="uninit-global"):
        launch(driver, device, function, (1, 128), 100, x, fresh)


def test_released_memory_is_not_touched(driver, device):
    x = upload(driver, device, np.zeros(100, np.float32))
    function = load(driver, device, AXPY, "axpy")
    assert driver.leaks() == [f"device 0: allocation 0, 400 bytes at {x:#x}"]
    driver.release(device, x)
    assert driver.leaks() == []
    with pytest.raises(Findings, match="has been released"):
        launch(driver, device, function, (1, 128), 100, x, x)
    with pytest.raises(Findings, match="has been released"):
        download(driver, device, x, 100)
    with pytest.raises(Findings, match="released before"):
        driver.release(device, x)


def test_copies_stay_in_one_allocation(driver, device):
    x = upload(driver, device, np.arange(10, dtype=np.float32))
    assert download(driver, device, x + 8, 2).tolist() == [2, 3]
    with pytest.raises(Findings, match="no allocation has all of them"):
        download(driver, device, x + 8, 9)
    with pytest.raises(Findings, match="nothing has written allocation 1"):
        download(driver, device, driver.allocate(device, 40), 10)


def test_each_device_has_its_own_memory_and_modules():
    driver = StandIn(devices=2)
    first, second = driver.devices()
    x = upload(driver, first, np.zeros(10, np.float32))
    with pytest.raises(Findings):
        download(driver, second, x, 10)
    function = load(driver, first, AXPY, "axpy")
    with pytest.raises(DeviceError, match="another device"):
        launch(driver, second, function, (1, 32), 10, x, x)


def test_code_is_checked_when_it_is_assembled(driver, device):
    with pytest.raises(DeviceError, match="line 1"):
        driver.assemble(device, "nonsense")
    with pytest.raises(DeviceError, match="sm_100 does not run on sm_90"):
        driver.assemble(device, to_ptx(AXPY, "sm_100"))
    module = driver.load(device, driver.assemble(device, to_ptx(AXPY, "sm_70")))
    with pytest.raises(DeviceError, match="no kernel 'other'"):
        driver.function(device, module, "other")
    assert list(parse(to_ptx(AXPY)).kernels) == ["axpy"]
