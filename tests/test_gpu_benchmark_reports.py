"""What is reported of benchmarks on GPUs, and the command: made-up times, a stand-in for a GPU."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ptxsim.driver import StandIn
from test_gpu_benchmarks import BY_NAME, DEVICE, TINY, speed_of

from benchmarks import __main__ as program
from benchmarks.competitors import Competitor
from benchmarks.gpu import command, device, report, shares
from benchmarks.gpu import measure as measuring
from benchmarks.gpu.cases import GPU_CASES, LAUNCH_CASE, GpuCase
from benchmarks.gpu.competitors import GPU_COMPETITORS, IN_A_GRAPH, gpu_competitor
from benchmarks.gpu.measure import (
    measure_speed,
)
from benchmarks.gpu.targets import TARGETS, TIMES, Target, verdicts
from benchmarks.measure import Results
from benchmarks.report import Table, write
from redcomp.runtime import driver


def passing() -> Results:
    """Made-up results that meet every target, some of them exactly."""
    results = Results("test")
    of_keops = {
        "gaussian-1e6": 0.5,
        "gaussian-1e5": 0.0058,
        "gaussian-1e4": 2e-4,
        "gradients": 0.027,
        "gaussian-D64": 0.05,
    }
    own = {"gaussian-1e4": 5e-5} | TIMES
    for name, times in (
        ("redcomp", own),
        ("KeOps", of_keops),
        (IN_A_GRAPH, {"gaussian-1e4": 31e-6}),
    ):
        for case, seconds in times.items():
            results.speed.append({"case": case, "competitor": name, "median_s": seconds})
    for name, caches, seconds in (
        ("KeOps", "empty", 9.0),
        ("redcomp", "warm", 0.1),
        ("redcomp", "empty", 0.25),
    ):
        results.compile.append({"competitor": name, "caches": caches, "first_s": seconds})
    for name, seconds in (("KeOps", 3e-5), ("redcomp", 15e-6)):
        results.launches.append({"competitor": name, "median_s": seconds})
    return results


def test_targets_are_met_at_their_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    results = passing()
    assert {verdict.word for verdict in verdicts(results)} == {"met"}
    assert command.status(results, check=True) == 0
    assert capsys.readouterr().out.count("met: ") == len(TARGETS)


@pytest.mark.parametrize("position", range(len(TARGETS)), ids=lambda n: TARGETS[n].what)
def test_each_target_can_be_missed(position: int) -> None:
    results = passing()
    target = TARGETS[position]
    worse = {"median_s": 100.0, "first_s": 100.0}
    for records in (results.speed, results.compile, results.launches):
        for record in records:
            is_ours = record["competitor"].startswith("redcomp") and record.get("caches") != "warm"
            if is_ours and record.get("case", target.what) in target.what:
                record.update({key: worse[key] for key in worse.keys() & record.keys()})
    assert verdicts(results)[position].word == "missed"
    assert command.status(results, check=True) == 1
    assert command.status(results, check=False) == 0


def test_targets_without_measurements_are_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Competitor, "missing", lambda self: None)
    results = passing()
    results.speed = [r for r in results.speed if r["competitor"] != "KeOps"]
    words = {verdict.target.what: verdict.word for verdict in verdicts(results)}
    assert words["gradients: KeOps' time over redcomp's"] == "not measured"
    assert words["gaussian-1e6: time"] == "met"
    assert command.status(results, check=True) == 1
    assert {verdict.word for verdict in verdicts(Results("empty"))} == {"not measured"}


def test_targets_against_who_is_not_installed_are_not_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = lambda self: "not installed" if self.name == "KeOps" else None
    monkeypatch.setattr(Competitor, "missing", absent)
    results = passing()
    for records in (results.speed, results.compile, results.launches):
        records[:] = [r for r in records if r["competitor"] != "KeOps"]
    assert command.status(results, check=True) == 0
    said = capsys.readouterr().out
    assert "not measured: gradients: KeOps' time over redcomp's, at least 3, –" in said
    assert (said.count("not measured: "), said.count("\n")) == (5, len(TARGETS))
    results.launches.clear()
    assert command.status(results, check=True) == 1
    results.launches.append({"competitor": "redcomp", "median_s": 1.0})
    assert command.status(results, check=True) == 1


def test_targets_are_those_of_known_cases() -> None:
    def named_case(target: Target) -> str:
        return target.what.partition(":")[0]

    cases = [named_case(target) for target in TARGETS if ":" in target.what]
    assert len(cases) == len(TIMES) + 6
    assert set(cases) <= BY_NAME.keys()


def test_failures_of_redcomp_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    results = passing()
    results.fail("argmin", "Triton", "RuntimeError: no")
    assert command.status(results, check=True) == 0
    results.fail("argmin", "redcomp", "wrong result: error 1.0")
    assert command.status(results, check=False) == 1
    assert "argmin, redcomp: wrong result: error 1.0" in capsys.readouterr().err


def test_the_page_has_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results = speed_of({"redcomp": 0.5e-9, "KeOps": 1e-9}, monkeypatch)
    results.compile.append(
        {"competitor": "redcomp", "caches": "empty"}
        | {"import_s": 0.02, "first_s": 0.3, "later_s": 1e-5}
    )
    results.launches.append(
        {"title": "`x`", "competitor": "redcomp", "median_s": 12e-6, "smallest_s": 11e-6}
    )
    results.skip("argkmin-10", "Triton", "no selection")
    results.device.update(device.summary(SAMPLES))
    page = report.markdown(results, "python -m benchmarks gpu")
    for line in (
        "Written by `python -m benchmarks gpu` on ?",
        "The GPU: Example GPU, sm_90, 132 multiprocessors, CUDA 13.0 of PyTorch, driver 1.2.3",
        "its clock was 1700 to 1980 MHz, with a median of 1900 MHz in 3 samples",
        "| gaussian-1e4 | 0.0005 µs | 0.001 µs | 2 |",
        "| gaussian-1e4 | MUFU | 80% | 40% |",
        "| gaussian-1e4 | 0.0005 µs | 70% | 80% | 0% | 0% | 0% | 80% |",
        "| redcomp | empty | 20 ms | 300 ms | 10 µs |",
        "| redcomp | 12 µs | 11 µs |",
        "| gaussian-1e4: KeOps' time over redcomp's | at least 2 | 2 | met |",
        "| argkmin-10 | Triton | no selection |",
    ):
        assert line in page
    json_path, markdown_path = write(results, tmp_path / "folder" / "h", page)
    assert markdown_path.read_text(encoding="utf-8") == page
    stored = json.loads(json_path.read_text(encoding="utf-8"))
    assert stored["speed"][0]["busy"]["xu"] == pytest.approx(results.speed[0]["busy"]["xu"])
    assert stored["device"]["clock_mhz"] == [1700, 1900, 1980]


SAMPLES = (
    "345, 30, 70.0, 0",
    "1980, 40, 500.5, 100",
    "1700, 55, 690.0, 99",
    "1900, 50, 600.0, 98",
    "[N/A], 50, 600.0, 98",
    "1200, 50",
)


def test_clocks_are_those_under_load() -> None:
    assert device.summary(SAMPLES) == {
        "samples": 3,
        "clock_mhz": [1700, 1900, 1980],
        "hottest_c": 55,
        "most_w": 690,
    }
    assert device.summary(SAMPLES[:1]) == {}


def test_shares_need_a_clock() -> None:
    gpu = device.gpu_of(DEVICE)
    assert gpu is not None
    assert gpu.pairs_per_second(1) == 132 * 1.98e9
    assert device.gpu_of(DEVICE | {"largest_clock": None}) is None


# -- the command -----------------------------------------------------------------------------------


def test_without_a_gpu_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert program.main(["gpu", "--check"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "NVIDIA GPU was looked for" in line
    assert torch.__version__ in line


class Seconds:
    """A timer on which every call takes as long."""

    def device(self, function: Any, calls: int) -> float:
        for _ in range(calls):
            function()
        return 0.25

    host = device


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Lets the command measure a stand-in for a GPU, with three cases at a tiny size."""
    cases = [BY_NAME[name].at(*TINY) for name in ("gaussian-1e4", "gradients", "gaussian-1e6")]
    monkeypatch.setattr(command, "GPU_CASES", cases)
    # A process of its own would have no stand-in; `test_gpu_benchmarks.py` tries competitors.
    monkeypatch.setattr(command, "surviving", lambda competitors, results: list(competitors))
    monkeypatch.setattr(measuring, "LAUNCH_CASE", LAUNCH_CASE.at(*TINY))
    monkeypatch.setattr(measuring, "LAUNCH_CALLS", 1)
    monkeypatch.setattr(command, "DEVICE", "cpu")
    monkeypatch.setattr(command, "CudaTimer", Seconds)
    monkeypatch.setattr(device, "find", lambda: StandIn().devices()[0])
    monkeypatch.setattr(device, "describe", lambda found: DEVICE | {"name": found.name})
    monkeypatch.setattr(device, "watched", lambda state: contextlib.nullcontext())
    monkeypatch.setattr(shares, "of_code", lambda case, target: "not disassembled")
    with driver.use(StandIn()) as gpu:
        yield gpu


@pytest.mark.thorough
def test_the_command_measures_shows_and_stores(
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown: list[Table] = []
    monkeypatch.setattr(command, "show", shown.extend)
    given = ["gpu", "--cases", "gaussian-1e4,gradients", "--only", "redcomp,torch"]
    given += ["--parts", "speed,launches", "--rounds", "1", "--check"]
    assert program.main([*given, "--output", str(tmp_path / "page")]) == 1
    assert stand_in.launches
    titles = {table.title for table in shown}
    assert {"Speed", "Share of the hardware's ceiling", "Targets", "Left out"} <= titles
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| gaussian-1e4 | 250 ms | 250 ms | – |" in page
    assert "| gradients | 250 ms | 250 ms | – |" in page
    assert "gaussian-1e6 |" not in page
    assert "host's time of a warm launch | at most 15 µs | 250 ms | missed" in page
    assert "python -m benchmarks gpu --cases gaussian-1e4,gradients" in page
    assert json.loads((tmp_path / "page.json").read_text("utf-8"))["device"]["name"] == "stand-in"
    assert "missed: host's time of a warm launch, at most 15 µs, 250 ms" in capsys.readouterr().out


@pytest.mark.thorough
def test_a_run_that_is_cut_short_has_stored_what_it_measured(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stored() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / "page.json").read_text("utf-8"))
        return found

    seen: list[tuple[int, int]] = []

    def measured(row: GpuCase, *rest: Any) -> None:
        seen.append((len(stored()["compile"]), len(stored()["speed"])))
        if row.name == "gaussian-1e6":
            rest[-1].skip(row.name, "torch", "noted last")
            raise KeyboardInterrupt
        measure_speed(row, *rest)

    def started(chosen: Sequence[Competitor], results: Results) -> None:
        results.compile.append(
            {"competitor": chosen[0].name, "caches": "empty"}
            | {"import_s": 0.02, "first_s": 0.3, "later_s": 1e-5}
        )

    monkeypatch.setattr(command, "measure_speed", measured)
    monkeypatch.setattr(command, "measure_startup", started)
    given = ["gpu", "--only", "redcomp,torch", "--rounds", "1"]
    given += ["--cases", "gaussian-1e4,gradients,gaussian-1e6"]
    with pytest.raises(KeyboardInterrupt):
        program.main([*given, "--output", str(tmp_path / "page")])
    assert seen == [(2, 0), (2, 2), (2, 4)]
    assert {r["case"] for r in stored()["speed"]} == {"gaussian-1e4", "gradients"}
    assert stored()["skipped"][-1]["reason"] == "noted last"
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "| gradients | 250 ms | 250 ms | – |" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.json", "page.md"]


def test_what_is_stored_stays_whole_if_it_cannot_be_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths = write(Results("first"), tmp_path / "page", "first")
    contents = [path.read_text("utf-8") for path in paths]

    def cut_short(path: Path, text: str, **options: Any) -> None:
        path.write_bytes(text.encode()[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", cut_short)
    with pytest.raises(KeyboardInterrupt):
        write(Results("second"), tmp_path / "page", "second")
    assert [path.read_text("utf-8") for path in paths] == contents


@pytest.mark.thorough
def test_some_cases_can_be_rehearsed(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "REHEARSED", TINY)
    assert program.main(["gpu", "--rehearse", "--cases", "gradients"]) == 0
    titles = [row.at(*TINY).case.title for row in (BY_NAME["gradients"], LAUNCH_CASE)]
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(": error")[0] for line in said] == titles


def test_competitors_and_cases_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(GPU_CASES)
    names = [row.name.lower() for row in GPU_COMPETITORS]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match="no competitor"):
        gpu_competitor("nobody")


@pytest.mark.parametrize("option", [["--cases", "x"], ["--only", "x"], ["--parts", "x"]])
def test_unknown_names_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["gpu", *option])
    assert "unknown: x" in capsys.readouterr().err
