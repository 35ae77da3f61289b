"""Timing of schedules and the fit of the model, on made-up times: needs no GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ptxsim.driver import StandIn

from benchmarks import __main__ as program
from benchmarks.gpu.schedules import BY_NAME, NESTS, Nest, grid, planned, timed
from redcomp.ptx.schedule import Figures, PtxSchedule
from redcomp.runtime.gpu import Copies

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fitting() -> ModuleType:
    path = ROOT / "scripts" / "fit_schedules.py"
    spec = importlib.util.spec_from_file_location("fit_schedules", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(fitting: ModuleType, figures: Figures) -> list[dict[str, Any]]:
    """Records that nobody measured: the model's own times with other figures, and 2 % of noise."""
    random = np.random.default_rng(0)
    records = []
    for nest in NESTS[:3]:
        for schedule in grid(nest.lowering("sm_90").schedule):
            record = {"nest": nest.name, "schedule": dataclasses.asdict(schedule)}
            exact = fitting.clocks(record, "sm_90", figures)
            records.append(
                record | {"seconds": 1e-3 * exact * (1 + 0.02 * random.standard_normal())}
            )
    return records


def test_figures_that_made_the_times_are_found(fitting: ModuleType) -> None:
    truth = Figures(0.5, 24, 0.75)
    records = made_up(fitting, truth)
    found = fitting.fit(records, "sm_90")
    assert abs(found.interference - truth.interference) <= 0.1
    assert fitting.spread(records, "sm_90", found) < 0.03
    assert fitting.spread(records, "sm_90", Figures(0.0, 8, 0.0)) > 0.05
    assert all(regret < 1.1 for regret in fitting.regrets(records, "sm_90", found).values())


def test_stored_times_are_read(
    fitting: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = made_up(fitting, Figures())[:8]
    records.append(records[0] | {"seconds": None, "reason": "too large"})
    stored = {"device": {"target": "sm_90", "name": "nobody's GPU"}, "records": records}
    (tmp_path / "times.json").write_text(json.dumps(stored))
    assert fitting.main([str(tmp_path / "times.json")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "8 times of nobody's GPU"
    assert [line.partition(":")[0] for line in said if line[0] != " "][1:] == ["in use", "fitted"]


def test_all_nests_have_as_many_schedules() -> None:
    listed = list(planned("sm_90"))
    assert len(listed) < 250
    assert {nest.name for nest, _ in listed[: len(NESTS)]} == set(BY_NAME)
    for nest, schedule in listed[: len(NESTS)]:
        assert schedule == nest.lowering("sm_90").schedule


@pytest.mark.sampled(8)
@pytest.mark.parametrize("nest", NESTS, ids=lambda nest: nest.name)
def test_schedules_are_timed(nest: Nest) -> None:
    """On the stand-in, of which the clock is made up."""
    stand_in, kept = StandIn(), []

    class Clock:
        def device(self, function: Any, calls: int) -> float:
            function()
            return 2.5 + len(stand_in.launches)

        def host(self, function: Any, calls: int) -> float:
            raise NotImplementedError

    def arrays(shapes: Sequence[tuple[Sequence[int], str]]) -> list[int]:
        kept[:] = [np.ones(tuple(shape), dtype) for shape, dtype in shapes]
        return [array.ctypes.data for array in kept]

    place = Copies(stand_in, stand_in.devices()[0])
    schedule = dataclasses.replace(nest.lowering("sm_90").schedule, threads=64, tile=32, rows=2)
    record = timed(nest, schedule, "sm_90", Clock(), lambda: place, arrays, (9, 40))
    assert record["seconds"] > 2.5
    assert PtxSchedule(**record["schedule"]) == schedule
    assert np.isfinite(kept[0]).all()


def test_schedules_that_do_not_fit_say_why() -> None:
    schedule = PtxSchedule(128, 4, 8, tile=4096)
    arrays: list[int] = []
    record = timed(NESTS[0], schedule, "sm_90", None, None, lambda _: arrays)  # type: ignore[arg-type]
    assert record["seconds"] is None
    assert "shared memory" in record["reason"]


def test_without_a_gpu_nothing_is_written(tmp_path: Path) -> None:
    from benchmarks.gpu import device

    try:
        device.find()
    except device.NoGpuError:
        assert program.main(["gpu-schedules", "--output", str(tmp_path / "none.json")]) == 2
        assert not list(tmp_path.iterdir())
