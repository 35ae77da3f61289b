"""The benchmarks on GPUs, in small: PyTorch, an interpreter of PTX, made-up times; Triton if any.

What competitors compute is compared with the float64 reference of the cases; no GPU is needed.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ptxsim.driver import StandIn

from benchmarks import __main__ as program
from benchmarks.cases import Case, Formula, inputs
from benchmarks.competitors import Competitor, UnsupportedError, formula_of
from benchmarks.gpu import command, device, shares, worker
from benchmarks.gpu import measure as measuring
from benchmarks.gpu.cases import GPU_CASES, LAUNCH_CASE, STARTUP_CASE, GpuCase
from benchmarks.gpu.competitors import gpu_competitor, tensors
from benchmarks.gpu.measure import (
    LAUNCH_ROUNDS,
    Site,
    measure_launches,
    measure_speed,
    measure_startup,
    prepared,
    surviving,
)
from benchmarks.gpu.timing import MOST_CALLS, interleaved
from benchmarks.gpu.worker import first_call, first_possible_call
from benchmarks.measure import Results, WorkerError, fresh_process
from redcomp.ir import STRUCTURAL
from redcomp.numpy import Genred
from redcomp.ptx.ceiling import Ceiling
from redcomp.ptx.multiprocessor import H200, multiprocessor
from redcomp.ptx.work import pipe_of
from redcomp.runtime import driver

by_case = pytest.mark.parametrize("row", GPU_CASES, ids=lambda row: row.name)
TINY = (37, 45)  # split, and no multiple of anything
BY_NAME = {row.name: row for row in GPU_CASES}
MACHINE = dict.fromkeys(("cpu", "cores", "system", "python", "date"), "?") | {
    "versions": {"redcomp": "1"}
}
DEVICE = {
    "name": "Example GPU",
    "target": "sm_90",
    "processors": 132,
    "cuda": "13.0",
    "driver": "1.2.3",
    "largest_clock": 1.98e9,
}


class MadeUp:
    """A timer on which each function takes what a table says; it notes who was called how often."""

    def __init__(self, seconds: dict[Any, float]) -> None:
        self.seconds = seconds
        self.calls: list[tuple[Any, int]] = []

    def device(self, function: Any, calls: int) -> float:
        self.calls.append((function, calls))
        return self.seconds[function]

    def host(self, function: Any, calls: int) -> float:
        return self.device(function, calls)


def named(name: str, computation: Any) -> Competitor:
    """A competitor that is there, whose computations are always the same one."""
    return Competitor(name, "torch", lambda case, given: computation)


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed over to torch.compile without options is run as it is."""
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **options: compile_(f, **options) if options else f
    )


without_flex_warning = pytest.mark.filterwarnings(
    "ignore:flex_attention called without torch.compile"
)


# -- what is computed ------------------------------------------------------------------------------


def small(row: GpuCase, name: str) -> Results:
    """The results after a competitor has computed a case at a tiny size."""
    results = Results("test")
    site = Site("cpu", MadeUp({}))
    computations, errors = prepared(row.at(*TINY), [gpu_competitor(name)], site, results)
    if computations:
        assert errors[gpu_competitor(name).name] <= row.case.tolerance
    return results


def spoiled(name: str, formula: Formula) -> GpuCase:
    """A case with another formula."""
    row = BY_NAME[name]
    return dataclasses.replace(row, case=dataclasses.replace(row.case, formula=formula))


@pytest.mark.sampled(22)
@by_case
def test_redcomp_computes_every_case_on_a_gpu(row: GpuCase) -> None:
    with driver.use(StandIn()) as gpu:
        results = small(row, "redcomp")
    assert not results.skipped
    assert gpu.launches


@pytest.mark.thorough
@by_case
def test_dense_ones_compute_every_case(row: GpuCase) -> None:
    assert not small(row, "torch").skipped


@pytest.mark.thorough
@pytest.mark.usefixtures("without_compiler")
@by_case
def test_what_is_given_to_torch_compile_is_right(row: GpuCase) -> None:
    results = small(row, "torch.compile")
    absent = {"argkmin-10", "block-sparse"}
    assert bool(results.skipped) == (row.name in absent)
    assert not results.failures


@pytest.mark.thorough
@without_flex_warning
@pytest.mark.usefixtures("without_compiler")
@by_case
def test_flex_attention_computes_attention_only(row: GpuCase) -> None:
    results = small(row, "FlexAttention")
    assert bool(results.skipped) == (not row.name.startswith("attention"))
    assert not results.failures


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles with g++ on the host")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gaussian-1e4", "gradients"])
def test_torch_compile_compiles(name: str) -> None:
    assert not small(BY_NAME[name], "torch.compile").skipped


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["redcomp", "torch"])
def test_wrong_results_are_failures(name: str) -> None:
    terms = lambda x, y, b: b + 0 * x[..., :1]
    wrong = dataclasses.replace(BY_NAME["gaussian-1e4"].case.formula, terms=terms)
    with driver.use(StandIn()):
        results = small(spoiled("gaussian-1e4", wrong), name)
    (failure,) = results.failures
    assert "wrong result" in failure["reason"]


def test_triton_kernels_are_right() -> None:
    pytest.importorskip("triton")
    check = Path(__file__).with_name("triton_check.py")
    run = subprocess.run(
        [sys.executable, str(check)],
        cwd=check.parent.parent,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said = dict(reversed(line.split()) for line in run.stdout.splitlines())
    absent = {name for name, word in said.items() if word == "absent"}
    assert absent == {"gaussian-f64", "argkmin-10", "block-sparse"}
    assert said.keys() == BY_NAME.keys()


FLOAT32 = {"x", "y", "b", "f", "w", "x2", "y2", "q", "k", "v", "out"}
CONSTANTS: dict[str, list[dict[str, int]]] = {
    "gaussian_kernel": [{"D": 1}, {"D": 3}],
    "moments_kernel": [{}],
    "logsumexp_kernel": [{"D": 3}],
    "argmin_kernel": [{"D": 3}],
    "product_gaussian_kernel": [{"D": 16, "BK": 16}, {"D": 300, "BK": 32}],
    "wide_gaussian_kernel": [{"D": 3, "E": 100, "BE": 128}],
    "attention_kernel": [{"D": 64, "E": 64}],
    "sinkhorn_kernel": [{"D": 64}],
}


@pytest.mark.slow
@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", CONSTANTS)
def test_triton_kernels_compile(name: str) -> None:
    triton = pytest.importorskip("triton")
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", 90, 32)
    kernel = getattr(importlib.import_module("benchmarks.gpu.triton_kernels"), name)
    out = "*i64" if name == "argmin_kernel" else "*fp32"
    for constants, chosen in itertools.product(CONSTANTS[name], kernel.configs[-2:]):
        fixed = constants | chosen.kwargs
        types = dict.fromkeys(kernel.fn.arg_names, "i32")
        types |= dict.fromkeys(FLOAT32 & types.keys(), "*fp32") | {"out": out}
        types |= dict.fromkeys(fixed, "constexpr")
        source = compiler.ASTSource(kernel.fn, signature=types, constexprs=fixed)
        options = {"num_warps": chosen.num_warps, "enable_fp_fusion": True}
        made = triton.compile(source, target=target, options=options)
        assert f".entry {name}" in made.asm["ptx"]
        assert made.metadata.shared <= multiprocessor("sm_90").shared


@pytest.mark.gpu
def test_every_case_on_a_real_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        device.find()
    except device.NoGpuError as reason:
        pytest.skip(str(reason))
    assert program.main(["gpu", "--rehearse"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(GPU_CASES) + 1


@pytest.mark.thorough
def test_a_rehearsal_goes_on_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = dataclasses.replace(BY_NAME["argmin"].case.formula, terms=lambda x, y: x[..., :1] + y)
    cases = [spoiled("argmin", wrong), BY_NAME["gaussian-D1"]]
    with driver.use(StandIn()):
        assert command.rehearse(cases, Site("cpu", MadeUp({})), *TINY) == 1
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.out.splitlines()] == [
        row.at(*TINY).case.title for row in (BY_NAME["gaussian-D1"], LAUNCH_CASE)
    ]
    assert said.err.startswith("argmin, redcomp: ")
    with driver.use(StandIn()):
        assert command.rehearse(cases[1:], Site("cpu", MadeUp({})), *TINY) == 0


# -- what is counted -------------------------------------------------------------------------------


def lowering_of(case: Case) -> Any:
    text, aliases, reduction = formula_of(case)
    return Genred(text, aliases, axis=1, **reduction).lower(case.dtype, target="sm_90")


def operations(lowering: Any) -> Counter[str]:
    """The operations per pair that redcomp compiles for a GPU, by pipe."""
    values = lowering.nest.pair_values
    pipes = Counter(pipe_of(value) for value in values if value.op not in STRUCTURAL)
    return Counter({name: pipes[name] for name in ("fma", "alu", "xu")})


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "row",
    [row for row in GPU_CASES if row.work and not row.case.gradient],
    ids=lambda row: row.name,
)
def test_work_is_what_is_compiled_or_less(row: GpuCase) -> None:
    lowering = lowering_of(row.case)
    compiled = operations(lowering)
    # Tensor cores do most of what is written as multiply-adds.
    if lowering.nest.products or lowering.nest.updates:
        assert row.name in (
            "gaussian-D16",
            "gaussian-D64",
            "gaussian-D300",
            "sinkhorn-64",
            "wide-100",
            "attention-64",
        )
        assert compiled["fma"] < row.work["fma"]
        return
    assert row.work.keys() <= compiled.keys()
    assert all(count <= compiled[pipe] + 1e-9 for pipe, count in row.work.items())
    if row.name in ("gaussian-1e6", "gaussian-D1", "argmin"):
        assert sum(row.work.values()) == pytest.approx(sum(compiled.values()))


def test_shares_are_of_the_pipe_that_limits() -> None:
    # 132 multiprocessors at 1.98 GHz, 16 exponentials a clock: 4.18e12 a second.
    exponentials = 132 * 1.98e9 * 16
    share = shares.of_formula(BY_NAME["gaussian-1e6"], exponentials / 2, H200)
    assert share == shares.Share("xu", pytest.approx(0.5))
    # Six multiply-adds and three selections or comparisons: nine of 128 issued a clock.
    share = shares.of_formula(BY_NAME["argmin"], 132 * 1.98e9, H200)
    assert share == shares.Share("issue", pytest.approx(9 / 128))
    assert shares.of_formula(BY_NAME["gaussian-f64"], 1e12, H200) is None


def test_pipes_are_busy_by_their_instructions() -> None:
    own = Ceiling({"xu": 1 / 16, "fma": 8 / 128, "issue": 9 / 128})
    found = shares.busy(own, 132 * 1.98e9 * 8, H200)
    assert found == pytest.approx({"xu": 1 / 2, "fma": 1 / 2, "issue": 9 / 16})


@pytest.mark.ptxas
def test_the_code_of_a_gaussian_is_bounded_by_its_formula() -> None:
    row = BY_NAME["gaussian-1e6"]
    own = shares.of_code(row.case, "sm_90")
    assert isinstance(own, Ceiling)
    assert 10 < own.pairs <= 16
    assert own.clocks["xu"] == pytest.approx(1 / 16)
    assert shares.of_code(BY_NAME["gradients"].case, "sm_90") == "several kernels"


# -- how it is timed -------------------------------------------------------------------------------


def test_competitors_take_turns() -> None:
    quick, slow = (lambda: ()), (lambda: ((),))
    timer = MadeUp({quick: 1e-4, slow: 1.0})
    times = interleaved({"quick": quick, "slow": slow}, 2, timer)
    # 5 ms a sample are 50 calls, and 0.2 s a turn are 40 samples; a slow one has one of each.
    assert {name: len(t) for name, t in times.items()} == {"quick": 80, "slow": 2}
    plan, rounds = timer.calls[:4], timer.calls[4:]
    assert plan == [(quick, 2), (quick, 1), (slow, 2), (slow, 1)]
    turn = [(quick, 1)] + [(quick, 50)] * 40 + [(slow, 1)]
    assert rounds == turn * 2


def test_the_queue_of_launches_is_never_full() -> None:
    tiny = lambda: ()
    timer = MadeUp({tiny: 1e-9})
    interleaved({"tiny": tiny}, 1, timer)
    assert max(calls for _, calls in timer.calls) == MOST_CALLS


def speed_of(seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> Results:
    """The results of a case for which a right computation takes made-up times."""
    row = BY_NAME["gaussian-1e4"].at(*TINY)
    computations = {
        name: dataclasses.replace(gpu_competitor("torch"), name=name).prepare(
            row.case, tensors(inputs(row.case), "cpu")
        )
        for name in seconds
    }
    own = Ceiling({"fma": 7 / 128, "alu": 0, "fp64": 0, "xu": 1 / 16, "lsu": 0, "issue": 8 / 128})
    monkeypatch.setattr(shares, "of_code", lambda case, target: own)
    timer = MadeUp({computations[name]: time for name, time in seconds.items()})
    results = Results("test", machine=MACHINE, device=dict(DEVICE))
    competitors = [named(name, computation) for name, computation in computations.items()]
    measure_speed(row, competitors, 3, Site("cpu", timer, H200), results)
    return results


def test_records_have_times_errors_and_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    results = speed_of({"redcomp": 0.5e-9, "KeOps": 2.0}, monkeypatch)
    own, other = results.speed
    assert (own["median_s"], other["median_s"]) == (0.5e-9, 2.0)
    assert own["quartiles_s"] == [0.5e-9, 0.5e-9]
    assert own["pairs_per_s"] == pytest.approx(37 * 45 / 0.5e-9)
    assert 0 <= own["error"] < 1e-3
    share = 37 * 45 / 0.5e-9 / (132 * 1.98e9 * 16)
    assert own["limit"] == "xu"
    assert own["share"] == pytest.approx(share)
    assert own["busy"]["fma"] == pytest.approx(share * 7 / 8)
    assert other["busy"] is None
    assert other["share"] == pytest.approx(own["share"] * 0.25e-9)


@pytest.mark.thorough
def test_what_one_raises_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    row = BY_NAME["gaussian-1e4"].at(*TINY)

    def unable(case: Case, given: Sequence[Any]) -> Any:
        raise UnsupportedError("not written")

    def broken() -> Any:
        raise RuntimeError("out of memory\nand more")

    good = gpu_competitor("torch")
    computation = good.prepare(row.case, tensors(inputs(row.case), "cpu"))
    absent = Competitor("absent", "a_module_that_is_not_there", unable)
    competitors = [
        Competitor("unable", "torch", unable),
        named("broken", broken),
        absent,
        named("torch", computation),
    ]
    results = Results("test")
    measure_speed(row, competitors, 1, Site("cpu", MadeUp({computation: 1.0})), results)
    assert [record["competitor"] for record in results.speed] == ["torch"]
    reasons = {record["competitor"]: record["reason"] for record in results.skipped}
    assert reasons == {
        "unable": "not written",
        "broken": "RuntimeError: out of memory",
        "absent": "a_module_that_is_not_there is not installed",
    }
    assert [record["competitor"] for record in results.failures] == ["broken"]


@pytest.mark.thorough
def test_memory_is_given_back_before_and_after_each_competitor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In PyTorch's pool redcomp could not use it."""
    row = BY_NAME["gaussian-1e4"].at(*TINY)
    said: list[str] = []

    def dense(case: Case, given: Sequence[Any]) -> Any:
        said.append("computes")
        loop: list[Any] = [Held(said)]  # as closures are, which only a collection finds
        loop.append(loop)
        raise UnsupportedError("no")

    class Held:
        def __init__(self, said: list[str]) -> None:
            self.said = said

        def __del__(self) -> None:
            self.said.append("gone")

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: said.append("emptied"))
    competitors = [Competitor(name, "torch", dense) for name in "ab"]
    prepared(row, competitors, Site("cpu", MadeUp({})), Results("test"))
    assert said == ["emptied", *["computes", "gone", "emptied"] * 2]


def test_after_a_fault_of_the_gpu_it_is_known_who_caused_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: Any) -> Any:
        raise RuntimeError("illegal address")

    def start(*_: Any) -> Any:
        monkeypatch.setattr(measuring, "tensors", fault)
        monkeypatch.setattr(torch.cuda, "empty_cache", fault)
        fault()

    monkeypatch.setattr(command, "gpu_competitor", lambda name: Competitor(name, "torch", start))
    cases = [BY_NAME["gaussian-1e4"], BY_NAME["gradients"]]
    with pytest.raises(RuntimeError, match="illegal"):
        command.rehearse(cases, Site("cpu", MadeUp({})), *TINY)
    said = capsys.readouterr().err.splitlines()
    assert said == ["gaussian-1e4, redcomp: RuntimeError: illegal address"]


@pytest.mark.thorough
def test_launches_are_timed_on_the_host() -> None:
    computation = gpu_competitor("torch").prepare(
        LAUNCH_CASE.case, tensors(inputs(LAUNCH_CASE.case), "cpu")
    )
    timer = MadeUp({computation: 12e-6})
    results = Results("test")
    measure_launches([named("redcomp", computation)], Site("cpu", timer), results)
    (record,) = results.launches
    assert record["median_s"] == record["smallest_s"] == 12e-6
    assert len(timer.calls) == LAUNCH_ROUNDS


def test_first_calls_find_empty_caches_and_then_warm_ones() -> None:
    seen: list[tuple[str, str, list[str]]] = []

    def process(module: str, arguments: Sequence[str], caches: str) -> dict[str, Any]:
        assert module == "benchmarks.gpu.worker"
        seen.append((arguments[0], caches, os.listdir(caches)))
        if arguments[0] == "KeOps":
            raise WorkerError("no compiler")
        Path(caches, "code").touch()
        return {"competitor": arguments[0], "first_s": 0.3 / len(seen)}

    results = Results("test")
    rows = [
        dataclasses.replace(gpu_competitor(name), module="torch")
        for name in ("redcomp", "KeOps", "torch")
    ]
    measure_startup(rows, results, process)
    assert [(name, files) for name, _, files in seen] == [
        ("redcomp", []),
        ("redcomp", ["code"]),
        ("KeOps", []),
    ]
    assert seen[0][1] == seen[1][1]
    assert [(r["caches"], r["first_s"]) for r in results.compile] == [
        ("empty", 0.3),
        ("warm", 0.15),
    ]
    assert results.failures == [
        {"part": f"{STARTUP_CASE.name} (empty)", "competitor": "KeOps", "reason": "no compiler"}
    ]


def test_competitors_that_end_their_process_do_not_join_a_run() -> None:
    """KeOps 2.3 ends it with CUDA 13, and took all results with it."""
    tried: list[str] = []

    def process(module: str, arguments: Sequence[str], caches: str) -> dict[str, Any]:
        assert (module, os.listdir(caches)) == ("benchmarks.gpu.worker", [])
        tried.extend(arguments)
        if arguments[0] == "KeOps":
            raise WorkerError("ended by SIGSEGV: no message")
        return {}

    results = Results("test")
    rows = [
        gpu_competitor("redcomp"),
        dataclasses.replace(gpu_competitor("KeOps"), module="torch"),
        dataclasses.replace(gpu_competitor("Triton"), module="not.there"),
        gpu_competitor("torch"),
    ]
    found = surviving(rows, results, process)
    assert tried == ["KeOps", "torch"]
    assert [row.name for row in found] == ["redcomp", "Triton", "torch"]
    assert results.failures == [
        {"part": "trial", "competitor": "KeOps", "reason": "ended by SIGSEGV: no message"}
    ]


def test_what_ends_a_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends_itself.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(WorkerError, match="ended by SIGSEGV"):
        fresh_process("ends_itself", [], str(tmp_path))


def test_a_worker_calls_twice() -> None:
    waits: list[int] = []
    with driver.use(StandIn()) as gpu:
        row = STARTUP_CASE.at(*TINY)
        found = first_call(gpu_competitor("redcomp"), row, "cpu", lambda: waits.append(1))
    assert {launch.kernel for launch in gpu.launches} >= {"redcomp_run"}
    assert len(waits) == 3
    assert found["competitor"] == "redcomp"
    assert all(found[key] > 0 for key in ("import_s", "first_s", "later_s"))


@without_flex_warning
@pytest.mark.usefixtures("without_compiler")
def test_a_trial_is_of_a_case_that_the_competitor_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STARTUP_CASE", STARTUP_CASE.at(*TINY))
    found = first_possible_call(gpu_competitor("FlexAttention"), "cpu", lambda: None)
    assert (found["case"], found["competitor"]) == ("attention-64", "FlexAttention")
    found = first_possible_call(gpu_competitor("torch"), "cpu", lambda: None)
    assert found["case"] == STARTUP_CASE.name


def test_what_computes_no_case_says_so() -> None:
    def unable(case: Case, given: Sequence[Any]) -> Any:
        raise UnsupportedError("not written")

    with pytest.raises(UnsupportedError, match="unable computes none of the cases"):
        first_possible_call(Competitor("unable", "torch", unable), "cpu", lambda: None)
