"""Lets calls compute on a GPU, or on what stands in for one: needs PyTorch, no GPU.

A test of the host becomes one of GPUs where its module imports it beside a fixture that `machines`
makes.  The stand-in runs the same PTX as a GPU, on as many threads and columns as the setup says,
and finds races, reads of what nothing has written, and what is out of bounds.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from ptxsim.driver import StandIn

import redcomp.frontend.reductions.genred
import redcomp.numpy
import redcomp.numpy.genred
import redcomp.ptx.schedule
import redcomp.torch
import redcomp.torch.genred
from redcomp.ptx.schedule import PtxSchedule
from redcomp.ptx.tile_sizes import THREADS
from redcomp.runtime import driver as drivers
from redcomp.runtime.device import DeviceError
from redcomp.target import Options

Fixture = Callable[..., Any]
# What takes the name of a backend.
CALLS = (
    *(redcomp.numpy.Genred.__call__, redcomp.torch.Genred.__call__),
    *(redcomp.numpy.KernelSolve.__call__, redcomp.torch.KernelSolve.__call__),
    *(redcomp.numpy.genred.call, redcomp.torch.genred.call),
)


class Setup(NamedTuple):
    """What stands in for a GPU.

    processors  with many of them columns are split, with one they are not
    is_small    blocks of a warp and tiles of a few columns, so that small problems have several;
                else blocks have as many threads as those of large problems
    """

    processors: int
    is_small: bool


SMALL = {"threads": 32, "tile": 16}
LARGE = {"threads": THREADS}
STAND_INS: Mapping[str, Setup] = {
    "stand-in": Setup(4, is_small=False),
    "small blocks": Setup(1, is_small=True),
    "splits": Setup(64, is_small=True),
}


def _real() -> tuple[str, ...]:
    """On a GPU: copies of CPU tensors and NumPy's arrays, and tensors that are there."""
    try:
        drivers.driver()
    except DeviceError:
        return ()
    return ("copies", "tensors") if torch.cuda.is_available() else ("copies",)


REAL = _real()  # none without a GPU
GPUS = tuple(pytest.param(name, marks=pytest.mark.gpu) for name in REAL)


def machines(variants: int = 1, one_test_in: int = 1) -> Fixture:
    """A fixture that lets every test of a module compute on each setup, and on a GPU if there is
    one; so many variants of some tests are run on stand-ins."""
    few = pytest.mark.interpreted(variants, one_test_in)
    params = [*(pytest.param(name, marks=few) for name in STAND_INS), *GPUS]

    @pytest.fixture(autouse=True, params=params)
    def machine(request: pytest.FixtureRequest) -> Iterator[None]:
        with on_gpu(request.param):
            yield

    return machine


def sizes_at_most(module: ModuleType, name: str, most: int) -> Fixture:
    """A fixture: on stand-ins a module's function of rows and columns gets fewer of them."""

    @pytest.fixture(autouse=True)
    def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.node.callspec.params["machine"] in STAND_INS:
            given = getattr(module, name)
            monkeypatch.setattr(
                module,
                name,
                lambda rows, columns, *rest, **options: given(
                    min(rows, most), min(columns, most), *rest, **options
                ),
            )

    return few


@contextlib.contextmanager
def on_gpu(machine: str) -> Iterator[None]:
    """Let calls that name no backend compute there, without fast math unless they ask for it."""
    setup = STAND_INS.get(machine)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        if setup is not None:
            stack.enter_context(drivers.use(_stand_in(setup.processors)))
            _set_blocks(patch, SMALL if setup.is_small else LARGE)
        for call in CALLS:
            patch.setitem(call.__kwdefaults__, "backend", "GPU")
        if machine == "tensors":
            patch.setattr(redcomp.torch.genred, "call", _call_on_device)
        patch.setattr(redcomp.frontend.reductions.genred, "Options", _declining_fast_math)
        yield


@functools.cache
def _stand_in(processors: int) -> StandIn:
    # One for all tests, because kernels stay loaded for as long as the process lives.
    return StandIn(processors=processors)


def _set_blocks(patch: pytest.MonkeyPatch, changes: Mapping[str, int]) -> None:
    choose = redcomp.ptx.schedule.choose_schedule

    def changed(*args: Any, **options: Any) -> PtxSchedule:
        return replace(choose(*args, **options), **changes)

    patch.setattr(redcomp.ptx.schedule, "choose_schedule", changed)


def _declining_fast_math(use_fast_math: bool | None = None, **others: Any) -> Options:
    return Options(use_fast_math=bool(use_fast_math), **others)


_call = redcomp.torch.genred.call


def _call_on_device(
    genred: Any,
    *args: Any,
    backend: str = "GPU",
    ranges: Any = None,
    out: Any = None,
    **others: Any,
) -> Any:
    """The call with tensors on the GPU; results come back, and gradients go through both ways."""
    moved = (a.cuda() if isinstance(a, torch.Tensor) else a for a in args)
    results = _call(genred, *moved, backend=backend, ranges=_moved(ranges), **others)
    back = _on_host(results)
    return back if out is None else redcomp.torch.genred.filled(out, back)


def _moved(ranges: Any) -> Any:
    if isinstance(ranges, tuple) and all(isinstance(array, torch.Tensor) for array in ranges):
        return tuple(array.cuda() for array in ranges)
    return ranges


def _on_host(results: Any) -> Any:
    if isinstance(results, tuple):
        return tuple(map(_on_host, results))
    return results.cpu()
