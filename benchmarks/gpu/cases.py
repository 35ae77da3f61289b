"""What is computed on GPUs: one row a case, and what its formula costs at least."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.cases import (
    ARGMIN,
    BLOCK,
    GAUSSIAN,
    LOG_DENSITY,
    SINKHORN,
    WIDTH,
    Case,
    Formula,
    Task,
    argkmin,
    attention,
    nearest,
    wide_gaussian,
)

LARGE, MIDDLE, SMALL = 1_000_000, 100_000, 10_000


@dataclass(frozen=True, slots=True)
class GpuCase:
    """A case, and how many instructions a pair needs, by the pipes of `redcomp.ptx.ceiling`.

    Counted by hand, each operation of the formula as it is written and of its reduction as one
    instruction: a squared distance of D components is D differences and D multiply-adds, an
    exponential is one of base 2, and what can be done once a row or a column costs nothing.
    Nothing is counted where an operation is no instruction, as an exponential of float64.
    """

    case: Case
    work: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.case.name

    def at(self, rows: int, columns: int) -> GpuCase:
        """The same at another size; fewer rows if it has fewer, whole blocks if it is of blocks."""
        case = self.case
        if case.kept is not None:
            rows, columns = (max(2, size // BLOCK) * BLOCK for size in (rows, columns))
        sized = dataclasses.replace(case, rows=min(rows, case.rows), columns=columns)
        return dataclasses.replace(self, case=sized)


def _gaussian(name: str, dim: int, size: int, dtype: str = "float32") -> GpuCase:
    work = {"fma": 2 * dim + 1, "xu": 1} if dtype == "float32" else {}
    return GpuCase(Case(name, GAUSSIAN, dim, dtype, size, size), work)


def _row(
    name: str,
    formula: Formula,
    work: Mapping[str, float],
    dim: int = 3,
    rows: int = MIDDLE,
    columns: int = MIDDLE,
    task: Task = "value",
    kept: float | None = None,
    dtype: str = "float32",
) -> GpuCase:
    return GpuCase(Case(name, formula, dim, dtype, rows, columns, task=task, kept=kept), work)


GPU_CASES: tuple[GpuCase, ...] = (
    _gaussian("gaussian-1e4", 3, SMALL),
    _gaussian("gaussian-1e5", 3, MIDDLE),
    _gaussian("gaussian-1e6", 3, LARGE),
    # The value and the gradients of x are sums over j of k b and k b (x - y), those of y and b sums
    # over i: twice a distance, an exponential, a product, a sum, and D multiply-adds.
    _row("gradients", GAUSSIAN, {"fma": 2 * (2 * 3 + 2 + 3), "xu": 2}, task="gradients"),
    _gaussian("gaussian-D1", 1, MIDDLE),
    _gaussian("gaussian-D16", 16, MIDDLE),
    _gaussian("gaussian-D64", 64, MIDDLE),
    _gaussian("gaussian-D300", 300, MIDDLE),
    _row("width", WIDTH, {"fma": 2 * 3 + 1, "xu": 1}),
    _row("wide-100", wide_gaussian(100), {"fma": 2 * 3 + 100, "xu": 1}),
    _gaussian("gaussian-f64", 3, MIDDLE, "float64"),
    _row("few-rows", GAUSSIAN, {"fma": 2 * 3 + 1, "xu": 1}, rows=10, columns=LARGE),
    # A maximum, a difference, an exponential and a sum; a comparison and two selections; a
    # comparison with the worst of those that are kept.
    _row("logsumexp", LOG_DENSITY, {"fma": 2 * 3 + 2, "alu": 1, "xu": 1}),
    _row("sinkhorn-64", SINKHORN, {"fma": 2 * 64 + 3, "alu": 1, "xu": 1}, dim=64),
    _row("argmin", nearest("argmin", ARGMIN), {"fma": 2 * 3, "alu": 3}),
    _row("argkmin-10", nearest("argkmin", argkmin(10)), {"fma": 2 * 3, "alu": 1}),
    _row("attention-64", attention(64), {"fma": 64 + 2 + 64, "alu": 1, "xu": 1}, dim=64),
    _row("attention-64-f16", attention(64), {}, dim=64, dtype="float16"),
    _row("block-sparse", GAUSSIAN, {"fma": 2 * 3 + 1, "xu": 1}, kept=0.1),
)

# What is small enough for a call to cost the host more than the device.
LAUNCH_CASE = _gaussian("launch", 3, 256)
STARTUP_CASE = _gaussian("start", 3, SMALL)
