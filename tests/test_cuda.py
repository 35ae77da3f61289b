"""NVIDIA's driver through cuda-python: needs no GPU; a C compiler and cuda-python, or it skips.

A library stands for libcuda (`fake_cuda.c`), and cuda-python itself converts the arguments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

from redcomp.runtime import cuda
from redcomp.runtime.device import DeviceError

HERE = Path(__file__).parent

SETUP = """
    import ctypes, os
    from cuda.bindings import driver as api
    from redcomp.runtime.cuda import CudaDriver
    from redcomp.runtime.device import DeviceError
    driver = CudaDriver()
    first, second = driver.devices()[0], driver.devices()[-1]
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the library that stands for NVIDIA's."""
    pytest.importorskip("cuda.bindings.driver")
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("cuda")
    target = folder / "libcuda.so.1"
    source = HERE / "fake_cuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, source, "-ldl"], check=True)
    return folder


def run(library: Path, program: str, mode: str = "2", setup: str = SETUP) -> list[str]:
    """The lines that the library and the program write."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(library),
        "FAKE_CUDA_PATH": str(library / "libcuda.so.1"),
        "FAKE_CUDA": mode,
        "PYTHONUNBUFFERED": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(setup) + textwrap.dedent(program)],
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_devices_and_the_driver_are_described(library: Path) -> None:
    lines = run(library, "print(driver.version, *driver.devices(), sep='\\n')")
    assert lines == [
        "CUDA 12.4",
        "Device(number=0, name='Fake 0', capability=(9, 0), processors=10)",
        "Device(number=1, name='Fake 1', capability=(9, 1), processors=11)",
    ]


def test_code_is_assembled_and_loaded_in_the_context_of_its_device(library: Path) -> None:
    lines = run(
        library,
        """
        code = driver.assemble(second, "some PTX")
        module = driver.load(second, code)
        function = driver.function(second, module, "redcomp_run")
        print(code, hex(module), hex(function), driver.resident_blocks(second, function, 128))
        driver.unload(second, module)
        """,
    )
    assert lines == [
        "retain 1",
        "linker in 0x1001, logs of 16384 and 16384",
        "link 0x77 type 1: some PTX (redcomp)",
        "destroy 0x77",
        "load in 0x1001: cubin of some PTX",
        "function redcomp_run of 0x5000000005",
        "occupancy of 0x6000000006 with 128 threads, 0 bytes",
        "b'cubin of some PTX' 0x5000000005 0x6000000006 5",
        "synchronize in 0x1001",
        "unload 0x5000000005",
    ]


def test_memory_is_copied_and_waited_for(library: Path) -> None:
    lines = run(
        library,
        """
        address = driver.allocate(first, 32)
        source, target = (ctypes.c_int64 * 4)(1, 2, 3, 4), (ctypes.c_int64 * 4)()
        driver.copy_in(first, address, ctypes.addressof(source), 32, 7)
        driver.copy_out(first, ctypes.addressof(target), address, 24, 0)
        print(list(target))
        driver.release(first, address)
        """,
    )
    assert lines == [
        "retain 0",
        "allocate 32 in 0x1000",
        "copy 32 in on 0x7",
        "wait for 0x7",
        "copy 24 out on 0x1",
        "wait for 0x1",
        "[1, 2, 3, 0]",
        "synchronize in 0x1000",
        "free in 0x1000",
    ]


def test_a_launch_passes_each_word(library: Path) -> None:
    lines = run(
        library,
        """
        for words in ((1, -2, 2**62), (4, 5, 6)):
            driver.launch(first, 99, 2**31 - 1, 128, 2**40, (ctypes.c_int64 * 3)(*words))
        """,
    )
    launch = (
        "launch 0x63: 2147483647 1 1 blocks of 128 1 1, 0 bytes, on 0x10000000000 in 0x1000, "
        "extra (nil): "
    )
    assert lines == ["retain 0", f"{launch}1 -2 {2**62}", f"{launch}4 5 6"]


def test_contexts_are_left_as_they_were_in_every_thread(library: Path) -> None:
    lines = run(
        library,
        """
        import threading
        def current():
            return hex(int(api.cuCtxGetCurrent()[1]))
        def work():
            before = current()
            driver.allocate(first, 8)
            api.cuCtxPushCurrent(api.CUcontext(0x1001))
            driver.allocate(second, 16)
            driver.allocate(first, 24)
            try:
                driver.function(first, 5, "missing")
            except DeviceError:
                print("error")
            print(before, current())
        for _ in range(2):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        """,
    )
    assert [line for line in lines if not line.startswith(("retain", "function"))] == [
        "allocate 8 in 0x1000",
        "allocate 16 in 0x1001",
        "allocate 24 in 0x1000",
        "error",
        "0x0 0x1001",
    ] * 2
    assert lines.count("retain 0") == lines.count("retain 1") == 1


ERRORS = {
    "assembler": (
        "driver.assemble(first, 'bad PTX')",
        [
            "NVIDIA's driver failed at assembling code for Fake 0 (sm_90, CUDA 12.4): "
            "the code is not valid (CUDA_ERROR_INVALID_PTX):",
            "line 3: unexpected x",
            "a remark",
        ],
    ),
    "memory": (
        "driver.allocate(first, 10**12)",
        [
            "NVIDIA's driver failed at allocating 1000000000000 bytes on Fake 0: "
            "something is wrong (CUDA_ERROR_OUT_OF_MEMORY)"
        ],
    ),
    "launch": (
        "driver.launch(first, 3, 4, 128, 0, (ctypes.c_int64 * 3)())",
        [
            "NVIDIA's driver failed at starting a kernel of 4 blocks of 128 threads on Fake 0: "
            "something is wrong (CUDA_ERROR_INVALID_VALUE)"
        ],
    ),
}


@pytest.mark.parametrize("mode", ERRORS)
def test_errors_say_what_failed_and_why(library: Path, mode: str) -> None:
    statement, expected = ERRORS[mode]
    program = f"""
        try:
            {statement}
        except DeviceError as error:
            print(error)
        print(int(api.cuCtxGetCurrent()[1]))
        """
    lines = run(library, program, mode)
    assert lines[-len(expected) - 1 :] == [*expected, "0"]


POOL = """
    import sys, types
    def empty_cache():
        print("emptied")
        {body}
    sys.modules["torch.cuda"] = types.SimpleNamespace(empty_cache=empty_cache)
    try:
        print(hex({ask}))
    except DeviceError as error:
        print("CUDA_ERROR_OUT_OF_MEMORY" in str(error))
"""
ASKED = {
    "allocate": ("driver.allocate(first, 8) and 1", ["allocate 8 in 0x1000", "0x1"]),
    "load": ("driver.load(first, b'code')", ["load in 0x1000: code", "0x5000000005"]),
    "function": (
        "driver.function(first, 5, 'run')",
        ["function run of 0x5", "0x6000000006"],
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_memory_that_is_full_is_asked_for_again_without_the_pool_of_pytorch(
    library: Path, name: str
) -> None:
    ask, expected = ASKED[name]
    frees = "os.environ['FAKE_CUDA'] = '1'"
    lines = run(library, POOL.format(ask=ask, body=frees), "memory")
    assert lines == ["retain 0", "no memory", "emptied", *expected]


@pytest.mark.parametrize("body", ["pass", "raise RuntimeError('no')"])
def test_memory_that_stays_full_is_asked_for_twice(library: Path, body: str) -> None:
    ask, _ = ASKED["allocate"]
    lines = run(library, POOL.format(ask=ask, body=body), "memory")
    assert lines == ["retain 0", "no memory", "emptied", "no memory", "True"]


def test_the_pool_is_kept_at_other_errors_and_without_errors(library: Path) -> None:
    ask, expected = ASKED["allocate"]
    assert run(library, POOL.format(ask=ask, body="pass")) == ["retain 0", *expected]
    missing = "driver.function(first, 5, 'missing')"
    lines = run(library, POOL.format(ask=missing, body="pass"))
    assert lines == ["retain 0", "function missing of 0x5", "False"]


def test_pytorch_is_not_imported_when_memory_is_full(library: Path) -> None:
    lines = run(
        library,
        """
        import sys
        try:
            driver.allocate(first, 8)
        except DeviceError:
            print([name for name in sys.modules if name.startswith("torch")])
        """,
        "memory",
    )
    assert lines == ["retain 0", "no memory", "[]"]


def test_a_forked_process_is_told_so(library: Path) -> None:
    lines = run(
        library,
        """
        address = driver.allocate(first, 8)
        child = os.fork()
        if not child:
            try:
                driver.allocate(first, 8)
            except DeviceError as error:
                print(error)
            os._exit(0)
        os.waitpid(child, 0)
        """,
    )
    assert lines[2].startswith("this process was forked from one that used the GPU")
    assert len(lines) == 3


def test_a_driver_without_devices(library: Path) -> None:
    program = """
        from redcomp.runtime.device import DeviceError
        from redcomp.runtime.driver import driver
        try:
            driver()
        except DeviceError as error:
            print(error)
    """
    (line,) = run(library, program, "none", setup="")
    assert line.endswith("the driver reports no device")


# -- without cuda-python, with anything in its place --


def test_cuda_python_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceError, match=r"not installed \(pip install redcomp\[cuda\]\)"):
        cuda.CudaDriver()


class NoLibrary(types.ModuleType):
    """cuda-python on a machine without NVIDIA's driver."""

    CUresult: Any = None

    def cuInit(self, flags: int) -> tuple[int]:  # noqa: N802
        raise RuntimeError("no libcuda.so.1")


def test_the_driver_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_bindings", lambda: NoLibrary("driver"))
    expected = r"libcuda could not be loaded: the NVIDIA driver is missing \(no libcuda\.so\.1\)"
    with pytest.raises(DeviceError, match=expected):
        cuda.CudaDriver()
