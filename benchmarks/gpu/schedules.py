"""python -m benchmarks gpu-schedules: time schedules of some nests on an NVIDIA GPU, store JSON.

`scripts/fit_schedules.py` fits the model of costs to what is stored, without a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import device
from benchmarks.gpu.timing import CudaTimer, Timer
from redcomp.backends.gpu import GpuLowering
from redcomp.errors import RedcompError
from redcomp.frontend.reductions.calls import prepare
from redcomp.numpy import Genred
from redcomp.ptx.schedule import PtxSchedule
from redcomp.runtime.kernel import Executor

Record = dict[str, Any]
NO_GPU = 2  # the exit status
ROWS = COLUMNS = 100_000
SECONDS = 170.0  # of a GPU's time
SAMPLES = 3
DTYPES = {"float32": "f32", "float64": "f64"}
GAUSSIAN = "Exp(-SqDist(x, y)) * b"


@dataclasses.dataclass(frozen=True, slots=True)
class Nest:
    """What is timed: a reduction over j."""

    name: str
    formula: str
    dims: tuple[tuple[str, int], ...]
    reduction: str = "Sum"
    dtype: str = "float32"

    def operation(self) -> Genred:
        """The reduction, which the faces of all array libraries share."""
        aliases = [f"{alias}({dim})" for alias, dim in self.dims]
        return Genred(self.formula, aliases, self.reduction, axis=1)

    def lowering(self, target: str) -> GpuLowering:
        """Its compilation, with the schedule that is chosen."""
        made = self.operation().reduction.lower(DTYPES[self.dtype], target)
        assert isinstance(made, GpuLowering)
        return made


def _points(dim: int, width: int = 1) -> tuple[tuple[str, int], ...]:
    return ("x = Vi", dim), ("y = Vj", dim), ("b = Vj", width)


NESTS = (
    Nest("gaussian", GAUSSIAN, _points(3)),
    Nest("gaussian-D16", GAUSSIAN, _points(16)),
    Nest("8-columns", GAUSSIAN, _points(3, 8)),
    Nest("gradient", f"Grad({GAUSSIAN}, x, e)", (*_points(3), ("e = Vi", 1))),
    Nest("logsumexp", "-SqDist(x, y)", _points(3)[:2], "LogSumExp"),
    Nest("argmin", "SqDist(x, y)", _points(3)[:2], "ArgMin"),
    Nest("gaussian-f64", GAUSSIAN, _points(3), dtype="float64"),
)
BY_NAME = {nest.name: nest for nest in NESTS}


def grid(chosen: PtxSchedule) -> list[PtxSchedule]:
    """The chosen schedule, and others: first its neighbours, then what differs in two things."""
    blocks = itertools.product((1, 2, 4, 8), (2, 4, 8))
    found = [chosen]
    found += [dataclasses.replace(chosen, rows=rows, cols=cols) for rows, cols in blocks]
    found += [dataclasses.replace(chosen, resident=n) for n in (1, 2, 4, 6, 8)]
    found += [dataclasses.replace(chosen, tile=n) for n in (64, 128) if n < chosen.tile]
    for threads in (32, 64, 256):
        resident = max(1, chosen.resident * chosen.threads // threads)
        found.append(dataclasses.replace(chosen, threads=threads, resident=resident))
    for rows, resident in itertools.product((2, 4), (6, 8)):
        found.append(dataclasses.replace(chosen, rows=rows, resident=resident))
    return list(dict.fromkeys(found))


def planned(target: str, nests: Sequence[Nest] = NESTS) -> Iterator[tuple[Nest, PtxSchedule]]:
    """What is timed: of each nest its first schedule, then its second one, and so on.

    So all nests have as many where the time does not suffice for all.
    """
    grids = [[(nest, s) for s in grid(nest.lowering(target).schedule)] for nest in nests]
    for row in itertools.zip_longest(*grids):
        yield from filter(None, row)


def timed(
    nest: Nest,
    schedule: PtxSchedule,
    target: str,
    timer: Timer,
    executor: Callable[[], Executor],
    tensors: Callable[[Sequence[tuple[Sequence[int], str]]], list[int]],
    size: tuple[int, int] = (ROWS, COLUMNS),
) -> Record:
    """One schedule's record: seconds of a call, or why there are none.

    `tensors` gives addresses of arrays of (shape, dtype), which it keeps until it is asked again.
    """
    record: Record = {"nest": nest.name, "rows": size[0], "columns": size[1]}
    record |= {"schedule": dataclasses.asdict(schedule), "dtype": nest.dtype}
    reduction = nest.operation().reduction
    counts = {"i": size[0], "j": size[1]}
    shapes = tuple((counts[p.kind], p.dim) for p in reduction.parameters)
    call = prepare(reduction, DTYPES[nest.dtype], shapes)
    try:
        kernel = nest.lowering(target).with_schedule(schedule).load()
    except RedcompError as reason:
        return record | {"seconds": None, "reason": str(reason)}
    dtypes = ["int64" if r.kind == "index" else nest.dtype for r in reduction.results]
    arrays = [*zip(call.results, dtypes, strict=True), *((s, nest.dtype) for s in shapes)]
    addresses = tensors(arrays)
    outputs, arguments = addresses[: len(dtypes)], addresses[len(dtypes) :]

    def compute() -> tuple[Any, ...]:
        kernel(call.dense, outputs, arguments, call.layout, executor())
        return ()

    timer.device(compute, 1)
    return record | {"seconds": min(timer.device(compute, 2) for _ in range(SAMPLES))}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--output", type=Path, default=Path("gpu-schedules.json"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="stop to time after these")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, command: str) -> int:
    """Time as many schedules as the seconds allow; the exit status."""
    try:
        found = device.find()
    except device.NoGpuError as reason:
        print(reason, file=sys.stderr)
        return NO_GPU
    import torch

    from redcomp.runtime.driver import driver
    from redcomp.torch.executors import CudaTensors

    place = CudaTensors(driver(), found, torch.device("cuda", found.number))
    kept: list[torch.Tensor] = []

    def tensors(arrays: Sequence[tuple[Sequence[int], str]]) -> list[int]:
        kept[:] = [
            torch.rand(tuple(shape), device="cuda").to(getattr(torch, dtype))
            for shape, dtype in arrays
        ]
        return [tensor.data_ptr() for tensor in kept]

    records, end = [], time.monotonic() + options.seconds
    for nest, schedule in planned(found.target):
        if time.monotonic() > end:
            break
        records.append(timed(nest, schedule, found.target, CudaTimer(), place.queue, tensors))
    stored = {"command": command, "device": device.describe(found), "records": records}
    options.output.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.output}: {len(records)} schedules")
    return 0
