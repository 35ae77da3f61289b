"""The errors of formulas under fast math for points far from 0; part of `measure_fast_math.py`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redcomp import config
from redcomp.llvm_backend.host.targets import host_target
from redcomp.numpy import Genred
from redcomp.runtime.driver import driver

Array = np.ndarray[Any, Any]

MACHINES = ("host", "gpu", "stand-in")
OFFSETS = (0.0, 1.0, 1e2, 1e4, 1e6)
# Coefficients of the squared distance, and the widths of the cloud for each.
CLOUDS: Mapping[float, tuple[float, ...]] = {1.0: (1.0, 30.0, 1e3), 3e4: (0.01, 1.0, 1e3)}
ROWS, COLUMNS = 48, 64


@dataclass(frozen=True, slots=True)
class Formula:
    """A function of the distances, by the text of its coefficient of their squares and its root."""

    name: str
    text: str
    reduction: str = "Sum"

    def genred(self, coefficient: float, *, use_fast_math: bool) -> Genred:
        """The reduction over columns."""
        root = repr(float(np.sqrt(coefficient)))
        text = self.text.format(c=repr(coefficient), k=root)
        aliases = ["x = Vi(3)", "y = Vj(3)"]
        aliases += [a for a in ("b = Vj(1)", "e = Vi(1)", "g = Pm(1)") if self.reads(a[0])]
        return Genred(
            text, aliases, reduction_op=self.reduction, axis=1, use_fast_math=use_fast_math
        )

    def reads(self, name: str) -> bool:
        """Whether the formula has this variable."""
        return name in self.text.replace("Exp", "").replace("Grad", "").replace("SqDist", "")


GAUSSIAN = "Exp(-{c} * SqDist(x, y)) * b"
FORMULAS = (
    Formula("Gaussian", GAUSSIAN),
    Formula("gradient of the Gaussian", f"Grad({GAUSSIAN}, x, e)"),
    Formula("Gaussian with a parameter", "Exp(-g * SqDist(x, y)) * b"),
    Formula("LogSumExp of the exponent", "-{c} * SqDist(x, y)", "LogSumExp"),
    Formula("Laplacian", "Exp(-{k} * Sqrt(SqDist(x, y))) * b"),
    Formula("gradient of the Laplacian", "Grad(Exp(-{k} * Sqrt(SqDist(x, y))) * b, x, e)"),
    Formula("Cauchy", "b / (1 + {c} * SqDist(x, y))"),
    Formula("absolute differences", "Exp(-{k} * Sum(Abs(x - y))) * b"),
)


def formulas() -> list[str]:
    """The lines of a table of the formulas."""
    lines = ["| formula | |", "|---|---|"]
    for f in FORMULAS:
        text = f.text.format(c="c", k="k").replace("|", "\\|")
        reduction = "" if f.reduction == "Sum" else f"{f.reduction} of "
        lines.append(f"| {f.name} | {reduction}`{text}` |")
    return lines


@dataclass(frozen=True, slots=True)
class Errors:
    """Of a formula on clouds of one width: of the exact path, and of fast math for each offset."""

    formula: str
    coefficient: float
    width: float
    exact: float
    fast: tuple[float, ...]


def clouds(coefficient: float, width: float, offsets: Sequence[float]) -> tuple[Array, Array]:
    """Points of rows and of columns, (offsets, count, 3): each row's is near some column's."""
    random = np.random.default_rng(0)
    columns = random.uniform(-width / 2, width / 2, (COLUMNS, 3))
    near = random.uniform(-1.0, 1.0, (ROWS, 3)) / np.sqrt(coefficient)
    rows = columns[random.integers(0, COLUMNS, ROWS)] + near
    moves = np.array(offsets)[:, None, None]
    return (rows + moves).astype(np.float32), (columns + moves).astype(np.float32)


def measure(
    formula: Formula,
    coefficient: float,
    widths: Sequence[float],
    offsets: Sequence[float] = OFFSETS,
    **options: Any,
) -> Iterator[Errors]:
    """The errors on clouds of some widths, all of which are one call with these options."""
    pairs = [clouds(coefficient, width, offsets) for width in widths]
    x, y = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    random = np.random.default_rng(1)
    more = {
        "b": random.uniform(0.5, 1.0, (COLUMNS, 1)).astype(np.float32),
        "e": random.uniform(0.5, 1.0, (ROWS, 1)).astype(np.float32),
        "g": np.array([coefficient], np.float32),
    }
    args = [x, y, *(array for name, array in more.items() if formula.reads(name))]
    exact, fast = (
        formula.genred(coefficient, use_fast_math=is_fast)(*args, **options)
        for is_fast in (False, True)
    )
    wide = [array.astype(np.float64) for array in args]
    expected = formula.genred(coefficient, use_fast_math=False)(*wide, **options)
    for width, a, b, c in zip(
        widths, *(np.split(array, len(widths)) for array in (exact, fast, expected)), strict=True
    ):
        of_exact, of_fast = (tuple(_relative(found, c).tolist()) for found in (a, b))
        yield Errors(formula.name, coefficient, width, max(of_exact), of_fast)


def _relative(found: Array, expected: Array) -> Array:
    """The largest error of each entry, relative to its largest result, if this is not tiny."""
    largest = np.maximum(np.abs(expected).max(axis=(1, 2)), 1e-30)
    error: Array = np.abs(found - expected).max(axis=(1, 2)) / largest
    return np.where(error < 1e-12, 0.0, error)


def table(machine: str) -> tuple[str, list[str]]:
    """What the machine is called, and the lines of its table."""
    heads = ["formula", "c", "width", "exact", *(f"at {offset:,.0f}" for offset in OFFSETS)]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    with calls_on(machine) as (name, options):
        for formula in FORMULAS:
            for coefficient, widths in CLOUDS.items():
                for e in measure(formula, coefficient, widths, **options):
                    errors = [f"{error:.1e}" if error else "0" for error in (e.exact, *e.fast)]
                    cells = [e.formula, f"{coefficient:,.0f}", f"{e.width:g}", *errors]
                    lines.append(f"| {' | '.join(cells)} |")
    return name, lines


@contextlib.contextmanager
def calls_on(machine: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What a machine is called, and the options of calls that are computed there."""
    if machine == "host":
        name = host_target(config.target()).name
        yield f"The host ({name})", {"backend": "CPU"}
    elif machine == "gpu":
        yield driver().devices()[0].name, {"backend": "GPU"}
    else:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from on_gpu import on_gpu

        with on_gpu("stand-in"):
            yield (
                "Kernels for GPUs, interpreted (approximate instructions round once)",
                {"backend": "GPU"},
            )
