"""The script that checks all on a GPU: needs bash, no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

STEPS = ("tests", "rehearsal", "benchmarks", "schedules", "memcheck", "racecheck", "more-tests")


@pytest.fixture
def check(tmp_path: Path) -> Any:
    """Runs the script with programs that only say how they were called; some of them fail."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")

    def run(*arguments: str, failing: str = "none") -> tuple[int, list[str], str]:
        for name in ("python", "compute-sanitizer", "nvidia-smi"):
            path = tmp_path / name
            path.write_text(f'#!{bash}\necho "{name} $*"\n[[ "$*" != *{failing}* ]]\n')
            path.chmod(0o700)
        done = subprocess.run(
            [bash, str(Path(__file__).parents[1] / "scripts" / "gpu_check.sh"), *arguments],
            env={
                "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]]),
                "PYTHON": str(tmp_path / "python"),
                "FOLDER": str(tmp_path / "folder"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout.splitlines()
        calls = [line for line in said if line.startswith(("python ", "compute-sanitizer "))]
        return done.returncode, calls, done.stdout + done.stderr

    return run


def test_all_steps_are_run_the_shortest_first(check: Any, tmp_path: Path) -> None:
    status, calls, said = check()
    assert status == 0
    assert [line[3:].strip() for line in said.splitlines() if line.startswith("== ")] == [*STEPS]
    tests, rehearsal, benchmarks, schedules, memory, races, more = calls
    for call in (tests, more):
        assert call.startswith("python -m pytest -m gpu ")
        assert " -W default " in call
        assert " -p no:benchmark " in call
    assert tests.endswith(" tests/test_gpu.py")
    assert more.endswith(" -n 8 --ignore tests/test_gpu.py")
    assert rehearsal == "python -m benchmarks gpu --rehearse"
    assert benchmarks == f"python -m benchmarks gpu --output {tmp_path}/folder/gpu --check"
    stored = f"{tmp_path}/folder/gpu-schedules.json"
    assert schedules == f"python -m benchmarks gpu-schedules --output {stored}"
    for call, tool in ((memory, "memcheck"), (races, "racecheck")):
        options = f"--tool {tool} --error-exitcode 1 --report-api-errors no"
        program = f"{tmp_path}/python -m benchmarks gpu --rehearse"
        assert call == f"compute-sanitizer {options} {program}"
    logs = {path.name for path in (tmp_path / "folder").iterdir()}
    assert logs == {f"{name}.log" for name in (*STEPS, "nvidia-smi")}


@pytest.mark.parametrize("step", STEPS)
def test_one_step_is_run_with_options_and_its_log_grows(
    check: Any, tmp_path: Path, step: str
) -> None:
    for options in (["-k", "two words"], ["--more"]):
        status, calls, _ = check(step, *options)
        (call,) = calls
        assert status == 0
        assert call.endswith(" ".join(options))
        assert "--check" not in call
    log = (tmp_path / "folder" / f"{step}.log").read_text()
    assert "two words" in log
    assert "--more" in log


def test_a_step_that_fails_does_not_stop_the_others(check: Any) -> None:
    status, calls, said = check(failing="racecheck")
    assert status == 1
    assert len(calls) == len(STEPS)
    assert [line for line in said.splitlines() if "failed" in line] == ["== racecheck: failed"]


def test_unknown_steps_are_refused(check: Any) -> None:
    status, calls, said = check("gpu-check")
    assert status == 2
    assert not calls
    assert "no step gpu-check" in said
