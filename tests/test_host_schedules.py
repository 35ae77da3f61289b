"""Schedules of hosts: which are chosen, and that wide results are right at every edge of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redcomp.llvm_backend.host.schedule import Schedule
from redcomp.numpy import Genred

Array = np.ndarray[Any, Any]
ALIASES = ["x = Vi(3)", "y = Vj(3)"]


def schedule_of(formula: str, aliases: list[str], target: str, **options: Any) -> Schedule:
    lowering = Genred(formula, aliases, axis=1, **options).reduction.lower("f32", target)
    assert isinstance(lowering.schedule, Schedule)
    return lowering.schedule


def test_wide_results_share_what_they_load_of_columns() -> None:
    """Rows share columns where repeating an operand takes an instruction; 16 registers suffice."""
    aliases = [*ALIASES, "b = Vj(128)"]
    chosen = schedule_of("Exp(-SqDist(x, y)) * b", aliases, "avx2")
    assert (chosen.rows, chosen.cols) == (3, 4)
    chosen = schedule_of("Exp(-SqDist(x, y)) * b", [*ALIASES, "b = Vj(20)"], "avx2")
    assert (chosen.rows, chosen.cols) == (2, 4)
    # The distances of so many pairs have no room beside their sums.
    long = ["x = Vi(64)", "y = Vj(64)", "b = Vj(128)"]
    chosen = schedule_of("Exp(-SqDist(x, y)) * b", long, "avx2")
    assert (chosen.rows, chosen.cols) == (2, 4)
    # Two values of each pair are needed in the loop over components.
    chosen = schedule_of("Exp(-SqDist(x, y)) * b + (x | y) * Square(b)", aliases, "avx2")
    assert (chosen.rows, chosen.cols) == (2, 2)
    chosen = schedule_of("Exp(-SqDist(x, y)) * b", aliases, "avx512")
    assert (chosen.rows, chosen.cols) == (1, 8)


@pytest.mark.parametrize("target", ["avx2", "avx512", "neon"])
def test_columns_of_thousands_of_components_serve_many_rows(target: str) -> None:
    """What is done once a chunk or a tile, packing and merging, is rare, within some memory."""
    wide, widest = (
        schedule_of("Exp(-SqDist(x, y)) * b", [*ALIASES, f"b = Vj({dim})"], target)
        for dim in (2048, 2**20)
    )
    assert wide.tile in (96, 128)
    assert wide.chunk >= 12
    assert widest.tile == 32
    assert widest.chunk == widest.rows


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_few_registers_hold_fewer_pairs(dtype: str) -> None:
    """What does not fit is loaded again; a step of 4 x 2 takes 11.5 instructions."""
    distances = Genred("SqDist(x, y) * b", [*ALIASES, "b = Vj(1)"], axis=1).reduction
    lowering = distances.lower(dtype, "avx2")
    assert lowering.stats.instructions < 10


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_what_a_gaussian_takes_without_an_instruction_that_scales(dtype: str) -> None:
    gaussian = Genred("Exp(-SqDist(x, y)) * b", [*ALIASES, "b = Vj(1)"], axis=1).reduction
    lowering = gaussian.lower(dtype, "avx2")
    assert lowering.stats.instructions < {"f32": 35, "f64": 46}[dtype]


def gaussian(x: Array, y: Array, b: Array) -> Array:
    return np.exp(-np.square(x[:, None] - y).sum(-1)) @ b


def softmax(x: Array, y: Array, b: Array) -> Array:
    weights = np.exp(-np.square(x[:, None] - y).sum(-1))
    return weights @ b / weights.sum(1, keepdims=True)


def largest(x: Array, y: Array, b: Array) -> Array:
    return np.max((x[:, None] * y).sum(-1)[..., None] * b, axis=1)


CASES = {
    "sum": ("Exp(-SqDist(x, y)) * b", {}, gaussian),
    "softmax": ("-SqDist(x, y)", {"reduction_op": "SumSoftMaxWeight", "formula2": "b"}, softmax),
    "maximum": ("(x | y) * b", {"reduction_op": "Max"}, largest),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", CASES)
def test_wide_results_at_the_edges_of_steps(name: str) -> None:
    """Rows and columns that do not fill a step, a tile or a vector that is copied."""
    formula, options, dense = CASES[name]
    operation = Genred(formula, [*ALIASES, "b = Vj(37)"], axis=1, **options)
    rng = np.random.default_rng(0)
    for rows, columns in ((49, 1), (70, 133), (200, 260)):
        x, y, b = rng.random((rows, 3)), rng.random((columns, 3)), rng.normal(size=(columns, 37))
        expected = dense(x, y, b)
        np.testing.assert_allclose(operation(x, y, b), expected, rtol=1e-12, atol=1e-13)
        found = operation(*(array.astype(np.float32) for array in (x, y, b)))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_columns_are_copied_in_whole_vectors_and_the_rest() -> None:
    dims = (8, 9, 15, 16, 17, 24, 31, 32, 33, 41)
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(5, dim)).astype(np.float32) for dim in dims]
    names = [f"b{dim}" for dim in dims]
    aliases = [f"{name} = Vj({dim})" for name, dim in zip(names, dims, strict=True)]
    found = Genred(names, aliases, ["Max"] * len(dims), axis=1)(*given)
    for made, b in zip(found, given, strict=True):
        np.testing.assert_array_equal(made, b.max(0, keepdims=True))
