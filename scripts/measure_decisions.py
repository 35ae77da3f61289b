"""Measure what the records in docs/decisions quote: `python scripts/measure_decisions.py 0001`."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from unittest.mock import patch

import numpy as np

from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.compile import PIPELINE, lower
from redcomp.concurrency import Latest
from redcomp.frontend.reductions import derivatives
from redcomp.frontend.solvers import kernel_solve
from redcomp.ir import NUMPY_DTYPES, Kernel, Output, Type, Value, topological, variable
from redcomp.llvm_backend import code_generation
from redcomp.llvm_backend.host.targets import host_target
from redcomp.numpy import Genred, KernelSolve
from redcomp.ops.table import OPERATIONS, SIMD, Operation, apply
from redcomp.passes.pipeline import parse_pipeline, run_pipeline
from redcomp.ptx.schedule import PtxSchedule
from redcomp.runtime import host
from redcomp.runtime.tasks import LONG, Blocks, whole
from redcomp.runtime.waves import Waves
from redcomp.target import Arithmetic, Context, Options, Target, Unrolling
from redcomp.text import print_program

GAUSSIAN = "Exp(-SqDist(x, y)) * b"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]


def accumulators() -> None:
    """0001: the error and the time of totals in float32 and float64, in one thread."""
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    rng = np.random.default_rng(0)

    def uniform(*shape: int) -> np.ndarray:
        return rng.random(shape, dtype=np.float32)

    sums = Genred("x * y + y", ["x = Vi(1)", "y = Vj(1)"], axis=1).lower().kernel
    x, y = uniform(4096, 1), uniform(200_000, 1)
    exact = (x.astype(np.float64) + 1.0) * y.astype(np.float64).sum()
    gaussian = Genred(GAUSSIAN, ALIASES, axis=1).lower().kernel
    points = [uniform(4096, 3), uniform(4096, 3), uniform(4096, 1)]
    for name in ("f32", "f64"):
        result, _ = timed(sums, name, [x, y], calls=1)
        _, seconds = timed(gaussian, name, points, calls=30)
        error = np.abs(result / exact - 1.0).max()
        print(f"totals in {name}: relative error {error:.1e}; Gaussian {seconds * 1e3:.2f} ms")


def timed(
    kernel: Kernel, accumulator: str, arrays: list[np.ndarray], calls: int
) -> tuple[np.ndarray, float]:
    """A kernel's result, and its least time over some calls."""
    code = lower(kernel, options=Options(accumulator=accumulator)).load()
    result = np.empty((len(arrays[0]), 1), np.float32)
    times = []
    for _ in range(calls):
        start = time.thread_time()
        addresses = [array.ctypes.data for array in arrays]
        code(whole(len(arrays[0]), len(arrays[1])), [result.ctypes.data], addresses)
        times.append(time.thread_time() - start)
    return result, min(times)


def loops() -> None:
    """0002: 1,000 components as a loop and written out."""
    kernel = Genred("SqDist(x, y)", ["x = Vi(1000)", "y = Vj(1000)"], axis=1).lower().kernel
    for limit in (16, 1000):
        unrolling = (Unrolling(limit, limit, limit),) * 2
        target = replace(host_target(), unrolling={"f32": unrolling})
        start = time.perf_counter()
        lowering = HostLowering(kernel, Context(target, Options()), PIPELINE)
        text = lowering.module.text
        code_generation.compile_object(text, lowering.target)
        seconds = time.perf_counter() - start
        values = len(list(topological(lowering.nest.roots)))
        print(f"limit {limit}: {values} values, {len(text)} characters, {seconds:.3f} s")


def stages() -> None:
    """0004: the time of what makes the cache's key, and of what a hit saves."""
    for formula in ("x + y", GAUSSIAN):  # the first one loads what a process needs once
        lowering = Genred(formula, ALIASES, axis=1).lower()
        times = [time.perf_counter()]
        print(f"{formula}: {len(lowering.programs) - 1} passes", end=" ")
        times.append(time.perf_counter())
        text = lowering.module.text
        times.append(time.perf_counter())
        code_generation.compile_object(text, lowering.target)
        times.append(time.perf_counter())
        passes, module, llvm = (1e3 * (b - a) for a, b in pairwise(times))
        print(f"in {passes:.1f} ms, text {module:.1f} ms, LLVM {llvm:.1f} ms")


def contraction() -> None:
    """0005: the operations whose programs differ if `contract` runs after `expand`."""
    names = [step.name for step in PIPELINE if step.name != "contract"]
    names.insert(names.index("expand") + 1, "contract")
    later = parse_pipeline(",".join(names))
    rows = [row for row in OPERATIONS.values() if row.expand and row.spelling]
    for target in ("avx512", "avx2", "neon"):
        context = Context(host_target(target), Options())
        changed = []
        for row in rows:
            kernel = times_a_column(row)
            first, second = (run_pipeline(steps, kernel, context) for steps in (PIPELINE, later))
            if print_program(first) != print_program(second):
                sizes = [len(list(topological(nest.roots))) for nest in (first, second)]
                changed.append(f"{row.name} ({sizes[0]} and {sizes[1]} values)")
        print(f"{target}: {len(changed)} of {len(rows)} differ: {', '.join(changed)}")


def times_a_column(row: Operation) -> Kernel:
    """The sum of op(a0, a1, ...) * b, a0 being of the row and all else of the column."""
    kinds: tuple[Value, ...] = tuple(
        variable(f"a{k}", "j" if k else "i", k, Type("f32")) for k in range(row.arity)
    )
    b = variable("b", "j", row.arity, Type("f32"))
    value = apply(row.name, *kinds, **dict(zip(row.parameters, (3, 4), strict=False)))
    return Kernel((*kinds, b), (Output(value * b),))


def waiting() -> None:
    """0012: the time of 100 nearest columns, in one thread, by how many pairs a lane keeps."""
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    rng = np.random.default_rng(0)
    x, y = (rng.random((4096, 3), dtype=np.float32) for _ in range(2))
    for count in (20, 100):
        operation = Genred("SqDist(x, y)", ALIASES[:2], "ArgKMin", axis=1, opt_arg=count)
        chosen = operation.lower()
        for pending in (0, 8, 32, 128):
            kernel = chosen.with_schedule(replace(chosen.schedule, pending=pending)).load()
            result = np.empty((len(x), count), np.int64)
            addresses = [x.ctypes.data, y.ctypes.data]
            times = []
            for _ in range(7):
                start = time.thread_time()
                kernel(whole(len(x), len(y)), [result.ctypes.data], addresses)
                times.append(time.thread_time() - start)
            print(f"{count} columns, {pending} pairs kept: {min(times) * 1e3:.0f} ms")


def kept() -> None:
    """0016: instructions of a pair on a GPU for values, values to be differentiated, gradients."""
    weights = {"formula2": "v"}
    for name, options in (("LogSumExp", {}), ("LogSumExp", weights), ("SumSoftMaxWeight", weights),
                          ("Prod", {}), ("Norm", {})):  # fmt: skip
        aliases = ["x = Vi(3)", "y = Vj(3)", *(["v = Vj(2)"] if options else [])]
        asked = Genred("-SqDist(x, y)", aliases, name, axis=1, **options).reduction
        full = derivatives.for_derivatives(asked)
        values = (n for n, result in enumerate(full.results) if result.kind == "value")
        given = tuple(n in derivatives.positions_in_kept(asked) for n in values)
        others = tuple(range(1, len(aliases)))
        sweeps = (derivatives.gradient(full, group, given) for group in ((0,), others))
        found = [r.lower("f32", "sm_90").stats.instructions for r in (asked, full, *sweeps)]
        print(name, *options.values(), *(f"{instructions:.2f}" for instructions in found))


def together() -> None:
    """0049: instructions a pair of the kernels of second derivatives, apart and together."""
    for formula in (GAUSSIAN, "Exp(-Sqrt(SqDist(x, y))) * b", "b / (1 + SqDist(x, y))"):
        reduction = Genred(formula, ALIASES, axis=1).reduction
        (rows, columns), all_of = ((0,), (1, 2)), (True,)
        first = derivatives.gradient(reduction, (*rows, *columns), all_of)
        # The cotangent of the result has rows, and so have those of the gradients of rows.
        apart = [
            derivatives.gradient(part, group, (True,) * len(part.results))
            for part in (derivatives.gradient(reduction, own, all_of) for own in (rows, columns))
            for group in ((*rows, 3), columns)
        ]
        second = derivatives.gradient(first, (*rows, 3, *columns), (True,) * len(first.results))
        for name, kernels in (("apart", apart), ("together", second.parts)):
            found = [k.lower("f32", "sm_90").stats.instructions for k in kernels]
            listed = " + ".join(f"{instructions:.2f}" for instructions in found)
            print(f"{formula}, {name}: {listed} = {sum(found):.2f}")


def divider() -> None:
    """0052: ns of processor time per pair of formulas that divide or take roots."""
    rng = np.random.default_rng(0)
    aliases = [*ALIASES, "w = Vj(1)", "s = Pm(1)"]
    formulas = (
        *(f"Exp(-SqDist(x,y)/{divisor})*b" for divisor in ("0.98", "s", "w")),
        *("Sum((x-y)/s)*b", "Norm2(x-y)*b", "Exp(-Norm2(x-y))*b", "Matern52(SqDist(x,y))*b"),
        *("Rsqrt(SqDist(x,y)+s)*b", "Powf(SqDist(x,y)+1,-1.5)*b", "Powf(SqDist(x,y)+1,1.5)*b"),
    )
    for formula in formulas:
        found = []
        for dtype in ("float32", "float64"):
            shapes = {"x": (6000, 3), "y": (6000, 3), "b": (6000, 1), "w": (6000, 1), "s": (1,)}
            used = [a for a in aliases if re.search(rf"\b{a[0]}\b", formula)]
            given = [rng.random(shapes[a[0]]).astype(dtype) + 0.5 for a in used]
            found.append(1e9 * least_time(Genred(formula, used, axis=1), given) / 6000**2)
        print(f"{formula}: {found[0]:.3f} in float32, {found[1]:.3f} in float64")


def least_time(function: Callable[..., object], given: Sequence[np.ndarray]) -> float:
    """The least processor time of some calls, behind a first one."""
    times = []
    for _ in range(10):
        start = time.process_time()
        function(*given)
        times.append(time.process_time() - start)
    return min(times[1:])


def columns() -> None:
    """0055: sums of many columns, ns per pair and column; seconds of solves in parts."""
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        x = rng.random((3000, 3)).astype(dtype)
        for count in (128, 256, 512, 1024, 2048):
            b = rng.random((3000, count)).astype(dtype)
            operation = Genred(GAUSSIAN, [*ALIASES[:2], f"b = Vj({count})"], axis=1)
            each = 1e9 * least_time(operation, [x, x, b]) / (3000**2 * count)
            print(f"{count} columns, {dtype}: {each:.3f} ns")
    for number, dim in ((2000, 3), (1000, 64)):
        x = rng.random((number, dim)).astype("float32")
        b = rng.random((number, 2048)).astype("float32")
        aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(2048)"]
        for most in (2048, 512, 256, 128):
            with patch.object(kernel_solve, "MOST_COLUMNS", most):
                solve = KernelSolve("Exp(-10*SqDist(x,y))*b", aliases, "b", axis=1)
                solve(x, x, b, alpha=30.0, eps=1e-4)
                start = time.perf_counter()
                solve(x, x, b, alpha=30.0, eps=1e-4)
                seconds = time.perf_counter() - start
            print(f"{number} points in {dim} dimensions, parts of {most}: {seconds:.2f} s")


def carried() -> None:
    """0056: instructions per pair of a sum, of its gradients and of both; times of both."""
    aliases = [*ALIASES, "p = Pm(1)"]
    for formula in ("Exp(-p * SqDist(x, y)) * b", "Exp(-p * Norm2(x - y)) * b"):
        reduction = Genred(formula, aliases, axis=1).reduction
        kernels = {
            "value": reduction,
            "gradient of x": derivatives.gradient(reduction, (0,), (True,)),
            "gradient of p": derivatives.gradient(reduction, (3,), (True,)),
            "gradient of y and b": derivatives.gradient(reduction, (1, 2), (True,)),
            "value and slopes in x": derivatives.slopes(reduction, (0,)),
            "value and slopes in x and p": derivatives.slopes(reduction, (0, 3)),
        }
        for target in ("host", "sm_90"):
            for name, kernel in kernels.items():
                found = kernel.lower("f32", target).stats.instructions
                print(f"{formula}, {target}, {name}: {found:.2f}")
    compare_steps({}, (3, 16))


def logarithms() -> None:
    """0070: the same of logarithms, plain and weighted, and of a gradient of long vectors."""
    aliases = [*ALIASES, "p = Pm(1)"]
    softmin = {"formula": "b - p * SqDist(x, y)", "reduction_op": "LogSumExp"}
    mixture = {"formula": "-p * SqDist(x, y)", "reduction_op": "LogSumExp", "formula2": "Exp(b)"}
    for options in (softmin, mixture):
        reduction = Genred(aliases=aliases, axis=1, **options).reduction
        kept, given = derivatives.for_derivatives(reduction), (True, False)
        kernels = {
            "value": reduction,
            "value and what derivatives need": kept,
            "gradient of x": derivatives.gradient(kept, (0,), given),
            "gradient of p": derivatives.gradient(kept, (3,), given),
            "value and slopes in x": derivatives.slopes(kept, (0,)),
            "value and slopes in x and p": derivatives.slopes(kept, (0, 3)),
        }
        for name, kernel in kernels.items():
            found = kernel.lower("f32", "sm_90").stats.instructions
            print(f"{options}, sm_90, {name}: {found:.2f}")
    for dim in (16, 64):
        aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)", "p = Pm(1)"]
        kept = derivatives.for_derivatives(Genred(aliases=aliases, axis=1, **softmin).reduction)
        gradient = derivatives.gradient(kept, (0,), (True, False))
        print(f"D = {dim}: {gradient.lower('f32', 'sm_90').stats.instructions:.2f}")
    compare_steps(softmin, (3, 12))


def compare_steps(options: Mapping[str, str], dims: Sequence[int]) -> None:
    """Times of training steps with slopes and without."""
    from redcomp.torch.computation import LEAST_PAIRS

    for names in ("x", "p", "xp", "xyb", "xybp"):
        with patch.dict(LEAST_PAIRS, cpu=2**62):
            swept = training_step(names, options)
        carried = training_step(names, options)
        print(f"gradients of {', '.join(names)}: {swept / carried:.2f} times as fast")
    for dim in dims:
        with patch.dict(LEAST_PAIRS, cpu=2**62):
            alone = training_step("x", options, dim, is_differentiated=False)
        recorded = training_step("x", options, dim, is_differentiated=False)
        print(f"recorded, never differentiated, D = {dim}: {recorded / alone:.2f} times as long")


def training_step(
    names: str, options: Mapping[str, str], dim: int = 3, is_differentiated: bool = True
) -> float:
    """Seconds of one thread for a reduction of 4000 x 4000 pairs, and its gradients."""
    import torch

    from redcomp.torch import Genred

    options = {"formula": "Exp(-p * SqDist(x, y)) * b", **options}
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    made = torch.Generator().manual_seed(0)
    shapes = {"x": (4000, dim), "y": (4000, dim), "b": (4000, 1), "p": (1,)}
    given = {
        name: torch.rand(shape, generator=made).requires_grad_(name in names)
        for name, shape in shapes.items()
    }
    wanted = [given[name] for name in names]
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", "b = Vj(1)", "p = Pm(1)"]
    reduce = Genred(aliases=aliases, axis=1, **options)
    times = []
    for _ in range(15):
        start = time.thread_time()
        result = reduce(*given.values())
        if is_differentiated:
            torch.autograd.grad(result.sum(), wanted)
        times.append(time.thread_time() - start)
    return min(times)


def interruptible() -> None:
    """0020: how long a call may take that an interrupt does not end, in one thread."""
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    rng = np.random.default_rng(0)
    for formula in (GAUSSIAN, "Sin(x | y)", "Norm2(x - y) / (2 + (x | y))"):
        for name, dtype in (("f32", "float32"), ("f64", "float64")):
            operation = Genred(formula, ALIASES if "b" in formula else ALIASES[:2], axis=1)
            kernel = operation.reduction.compiled(name, 10**6)
            size = int((LONG * kernel.grain.pairs_alone) ** 0.5)
            dims = [parameter.dim for parameter in operation.reduction.parameters]
            arrays = [rng.random((size, dim)).astype(dtype) for dim in dims]
            operation(*arrays)
            start = time.thread_time()
            operation(*arrays)
            print(f"{formula}, {dtype}: {time.thread_time() - start:.2f} s")


def limits() -> None:
    """0022: how long LLVM takes, by the operations that a formula becomes."""
    for count in (200, 400, 800):
        # Terms that are alike would be a loop.
        formula = "+".join(f"{'Sin' if n % 2 else 'Cos'}({n}*x*y)" for n in range(count))
        lowering = Genred(formula, ["x = Vi(1)", "y = Vj(1)"], axis=1).lower()
        operations = sum(lowering.operations.values())
        text = lowering.module.text
        start = time.process_time()
        code_generation.compile_object(text, lowering.target)
        print(f"{operations} operations: {time.process_time() - start:.2f} s")


def tables() -> None:
    """0026: soft dynamic time warping by loops and written out, to compile and in one thread."""
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    rng = np.random.default_rng(0)
    for dim in (3, 4, 5, 6, 8):
        aliases = [f"x = Vi({dim})", f"y = Vj({dim})"]
        value = Genred("SoftDTW_SqDist(x, y, IntCst(1))", aliases, axis=1).reduction
        points = [rng.random((rows, dim), dtype=np.float32) for rows in (256, 1000)]
        cotangent = np.ones((256, 1), np.float32)
        for name, reduction, arrays, width in (
            ("value", value, points, 1),
            ("gradient", derivatives.gradient(value, (0,), (True,)), [*points, cotangent], dim),
        ):
            found = []
            for scans in (0, 4096):
                target = host_target()
                unrolling = tuple(replace(u, scans=scans) for u in target.unrolling["f32"])
                target = replace(target, unrolling={"f32": unrolling})
                start = time.process_time()
                context = Context(target, Options())
                kernel = HostLowering(reduction.kernel("f32"), context, PIPELINE).load()
                compiled = time.process_time() - start
                result, times = np.empty((256, width), np.float32), []
                for _ in range(5):
                    addresses = [array.ctypes.data for array in arrays]
                    start = time.thread_time()
                    kernel(whole(256, 1000), [result.ctypes.data], addresses)
                    times.append(time.thread_time() - start)
                found.append(f"{min(times) * 1e3:.1f} ms ({compiled:.2f} s)")
            print(f"{dim} x {dim}, {name}: by loops {found[0]}, written out {found[1]}")


def lists() -> None:
    """0027: instructions of a pair on GPUs, for the nearest columns."""
    for count in (5, 10, 20):
        operation = Genred("SqDist(x, y)", ALIASES[:2], "ArgKMin", axis=1, opt_arg=count)
        found = (operation.lower("float32", target) for target in ("sm_75", "sm_90"))
        print(f"K = {count}:", *(f"{lowering.stats.instructions:.2f}" for lowering in found))


def architectures() -> None:
    """0028: kernels and pipes of a pair in float64, by the rate of float64."""
    points = ["x = Vi({})", "y = Vj({})"]
    cases = {
        "60 columns": (GAUSSIAN, 3, ["b = Vj(60)"], {}),
        "100 columns": (GAUSSIAN, 3, ["b = Vj(100)"], {}),
        "softmax, D = 16": ("x | y", 16, ["b = Vj(16)"], {"reduction_op": "SumSoftMaxWeight"}),
        "softmax of 64": ("x | y", 3, ["b = Vj(64)"], {"reduction_op": "SumSoftMaxWeight"}),
        "Gaussian, D = 16": (GAUSSIAN, 16, ["b = Vj(1)"], {}),
        "Mod of 64, float32": ("Mod(x, y, d)", 64, ["d = Vi(64)"], {}),
    }
    for name, (formula, dim, others, options) in cases.items():
        aliases = [alias.format(dim) for alias in points] + others
        given = {**options, "formula2": "b"} if options else {}
        operation = Genred(formula, aliases, axis=1, **given)
        for target in ("sm_80", "sm_90", "sm_120"):
            made = operation.lower("float32" if "float32" in name else "float64", target=target)
            costs, blocks = (
                made.costs,
                {f"{p.schedule.rows} x {p.schedule.cols}" for p in made.planned},
            )
            print(
                f"{name}, {target}: {len(costs)} kernels of {' or '.join(sorted(blocks))},",
                f"{sum(1 / cost.reached.pairs for cost in costs):.3f} clocks a pair,",
                f"{sum(cost.instructions for cost in costs):.1f} instructions,",
                f"{sum(cost.pipes['fp64'] for cost in costs):.1f} of float64,",
                f"{max(cost.resources.registers for cost in costs)} registers,",
                f"{min(cost.occupancy.warps for cost in costs)} warps",
            )


def teams() -> None:
    """0061: short tasks on sm_90 with teams, and with the blocks of a warp that there were before.

    Counted in the machine code, and predicted for 132 multiprocessors.
    """
    reduction = Genred(GAUSSIAN, ALIASES, axis=1).reduction
    for rows, columns, entries in ((10, 10**6, 1), (100, 10**6, 1), (100, 100, 1000)):
        chosen = reduction.lower("f32", "sm_90", rows)
        before = PtxSchedule(32, 1 if rows == 10 else 4, 8, 72, 16 if rows == 10 else 12)
        for lowering in (chosen.with_schedule(before), chosen):
            assert isinstance(lowering, GpuLowering)
            waves = _waves(lowering)
            waves, width = waves.dense(rows, columns, entries)
            blocks = -(-rows // waves.height) * entries
            clocks = waves.clocks(blocks, columns, width)
            print(f"{entries} x {rows} x {columns}: {_team_text(lowering, waves, rows)}", end="")
            if rows == 10 and lowering is chosen:
                print(f"; {128 * waves.launch.filling:.0f} instructions to fill a column", end="")
            tasks = blocks * -(-columns // width)
            print(f"; {tasks / waves.blocks:.2f} waves; {clocks:,.0f} clocks")
    count = 1000  # clusters of 100 points, each with a tenth of the others
    random = np.random.default_rng(0)
    kept = [np.sort(random.choice(count, count // 10, replace=False)) for _ in range(count)]
    starts, rows_of = 100 * np.concatenate(kept), 100 * np.arange(count)
    ends = count // 10 * np.arange(1, count + 1)
    made = (np.stack([first, first + 100], 1) for first in (rows_of, starts))
    blocks_of, intervals = made
    sparse = Blocks(blocks_of, ends, intervals)
    chosen = reduction.lower("f32", "sm_90", 100)
    for lowering in (chosen.with_schedule(PtxSchedule(32, 4, 8, 72, 12)), chosen):
        assert isinstance(lowering, GpuLowering)
        waves = _waves(lowering)
        cuts = waves.cuts(sparse, 1)
        width = -(-sparse.widths // cuts.splits)
        column = waves.for_rows(100).column
        clocks = waves.table_clocks((width * column).repeat(cuts.splits))
        print(f"blocks of 100: {_team_text(lowering, waves.for_rows(100), 100)}", end="")
        print(f"; {cuts.splits.sum() / waves.blocks:.2f} waves; {clocks:,.0f} clocks")


def _waves(lowering: GpuLowering) -> Waves:
    """The kernel on 132 multiprocessors."""
    (launch,), (cost,) = lowering.module.launches, lowering.costs
    return Waves(launch, 132, cost.occupancy.warps * 32 // launch.threads)


def _team_text(lowering: GpuLowering, waves: Waves, rows: int) -> str:
    schedule, (cost,) = lowering.schedule, lowering.costs
    groups = -(-waves.height // schedule.rows) if schedule.teams else schedule.threads
    shared = schedule.threads // groups
    active = rows * shared / (-(-rows // waves.height) * schedule.threads * schedule.rows)
    return (
        f"{shared} threads per row, {active:.0%} of places have rows, "
        f"{cost.instructions:.1f} instructions per pair, {cost.instructions / active:.1f} with "
        "those of places without"
    )


def underflow() -> None:
    """0051: CPU time of a pair where exponentials underflow, by the state of x86's arithmetic."""
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    states = {"the caller's": None, "FTZ and DAZ": 0x9FC0, "FTZ": 0x9F80, "DAZ": 0x1FC0}
    reductions: Mapping[str, tuple[str, dict[str, str]]] = {
        "Gaussian": ("Exp(-p * SqDist(x, y)) * b", {}),
        "LogSumExp": ("-p * SqDist(x, y)", {"reduction_op": "LogSumExp"}),
        "SumSoftMaxWeight": (
            "-p * SqDist(x, y)",
            {"reduction_op": "SumSoftMaxWeight", "formula2": "b"},
        ),
    }
    aliases = ["p = Pm(1)", "x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]
    rng = np.random.default_rng(0)
    points = [rng.normal(size=(4000, dim)) for dim in (2, 2, 1)]
    for name, (formula, options) in reductions.items():
        reduction = Genred(formula, aliases, axis=1, **options).reduction
        for state, word in states.items():
            found = []
            for dtype in ("f32", "f64"):
                context = Context(_in_state(host_target(), word), Options())
                kernel = HostLowering(reduction.kernel(dtype), context, PIPELINE).load()
                for width in (1, 0.1, 0.01):
                    given = [np.array([0.5 / width**2]), *points]
                    arrays = [array.astype(NUMPY_DTYPES[dtype]) for array in given]
                    result = np.empty((4000, 1), NUMPY_DTYPES[dtype])
                    addresses = [array.ctypes.data for array in arrays]
                    times = []
                    for _ in range(7):
                        start = time.thread_time()
                        kernel(whole(4000, 4000), [result.ctypes.data], addresses)
                        times.append(time.thread_time() - start)
                    found.append(f"{sorted(times)[3] / 4000**2 * 1e9:.2f}")
            print(f"{name}, {state}: {', '.join(found[:3])} | {', '.join(found[3:])} ns per pair")


def parts_of_lists() -> None:
    """0066: one thread's time for the nearest of 1e6 columns to 10 rows, whole and in parts; the
    time to compile that, by calls' heights; parts on 132 multiprocessors, by the model.
    """
    os.environ["REDCOMP_CACHE_DIR"] = ""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((n, 3)).astype(np.float32) for n in (10, 10**6))
    for count in (3, 10, 16, 30, 100, 300):
        options = {"axis": 1, "opt_arg": count}
        operation = Genred("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], "ArgKMin", **options)
        taken = {}
        for name, columns in (("whole", 10**9), ("parts", host.SPLIT_OF_LISTS), ("16 parts", 0)):
            with patch.object(host, "SPLIT_OF_LISTS", columns):
                made = operation.reduction.lower("f32", "host", 10).load()
            outputs = np.empty((10, count), np.int64)
            addresses = [outputs.ctypes.data], [x.ctypes.data, y.ctypes.data]
            run = partial(made, whole(10, 10**6), *addresses)
            taken[name] = 1e3 * least_time(run, ())
            HostLowering.LOADED = Latest(64)
        compiled = []
        for rows in (10_000, 10):
            lowering = operation.reduction.lower("f32", "host", rows)
            start = time.process_time()
            lowering.load()
            compiled.append(time.process_time() - start)
        gpu = operation.reduction.lower("f32", "sm_90", 10)
        _, width = Waves(gpu.module.launches[0], 132, 16).dense(10, 10**6, 1)
        times = ", ".join(f"{name} {value:.1f} ms" for name, value in taken.items())
        print(f"K = {count}: {times}; to compile for many rows {compiled[0]:.2f} s,", end=" ")
        print(f"for few {compiled[1]:.2f} s; parts on a GPU {-(-(10**6) // width)}")


def _in_state(target: Target, word: int | None) -> Target:
    """An x86 target whose code sets MXCSR to a word, or leaves it to the caller."""
    if word is None:
        return replace(target, arithmetic=Arithmetic())
    *before, store, save, load = target.arithmetic.enter
    assert store.startswith("store i32 ")
    made = (*before, f"store i32 {word}, ptr %ours, align 4", save, load)
    return replace(target, arithmetic=replace(target.arithmetic, enter=made))


def scaling() -> None:
    """0064: what pairs take with exponentials scaled without and with `SIMD`; GPUs lack it."""
    os.environ["REDCOMP_NUM_THREADS"] = "1"
    formulas = (GAUSSIAN, "Exp(-Norm2(x - y)) * b")
    targets = ("avx2", "sse2", "neon", "sm_80", "sm_90")
    for formula, target, dtype in product(formulas, targets, ("f32", "f64")):
        kernel = Genred(formula, ALIASES, axis=1).reduction.kernel(dtype)
        made = lower(kernel, "host" if target == host_target().name else target)
        emitted = made.target.primitives
        found = []
        for primitives in (emitted - {SIMD}, emitted | {SIMD}):
            chosen = replace(made.target, primitives=primitives)
            context = replace(made.context, target=chosen)
            found.append(_taken(type(made)(kernel, context, PIPELINE), dtype))
        print(f"{formula}, {dtype}, {target}: {' -> '.join(found)}")


def _taken(made: HostLowering | GpuLowering, dtype: str) -> str:
    """Instructions for a vector of pairs, and pipes or the least ns per pair."""
    text = f"{made.stats.instructions:.1f} instructions"
    if isinstance(made, GpuLowering):
        pipes = [f", {made.costs[0].pipes[p]:.1f} {p}" for p in ("fma", "alu", "xu", "fp64")]
        return text + "".join(pipes)
    if made.target.name != host_target().name:
        return text
    points = np.random.default_rng(0).random((3000, 7)).astype(NUMPY_DTYPES[dtype])
    arrays = [np.ascontiguousarray(part) for part in np.split(points, (3, 6), axis=1)]
    code, result = made.load(), np.empty_like(arrays[-1])
    addresses = [array.ctypes.data for array in arrays]
    run = partial(code, whole(3000, 3000), [result.ctypes.data], addresses)
    return f"{text}, {1e9 * least_time(run, []) / 3000**2:.2f} ns"


MEASUREMENTS: Mapping[str, Callable[[], None]] = {
    "0001": accumulators,
    "0002": loops,
    "0004": stages,
    "0005": contraction,
    "0012": waiting,
    "0016": kept,
    "0020": interruptible,
    "0022": limits,
    "0026": tables,
    "0027": lists,
    "0028": architectures,
    "0049": together,
    "0051": underflow,
    "0052": divider,
    "0055": columns,
    "0056": carried,
    "0061": teams,
    "0064": scaling,
    "0066": parts_of_lists,
    "0070": logarithms,
}


def main() -> None:
    """Parse the command line and run the measurement asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", choices=MEASUREMENTS)
    MEASUREMENTS[parser.parse_args().record]()


if __name__ == "__main__":
    main()
