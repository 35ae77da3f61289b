"""Operations, reductions and passes that stand outside of the package: needs a CPU.

Each of them is known to the whole compiler by its row alone.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from redcomp import compile as compiler
from redcomp.errors import FormulaError
from redcomp.interpret import interpret
from redcomp.ir import Kernel, Type, compare, select, variable
from redcomp.numpy import Genred
from redcomp.ops import table
from redcomp.ops.reductions import (
    REDUCTIONS,
    REDUCTIONS_BY_SPELLING,
    Arrived,
    Reduction,
    Result,
    State,
    register,
)
from redcomp.ops.table import Operation, apply
from redcomp.passes.pipeline import PASSES, parse_pipeline
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context
from redcomp.torch import Genred as TorchGenred

pytestmark = pytest.mark.slow

ALIASES = ["x = Vi(3)", "y = Vj(3)"]
GPU = "sm_90"

OPERATIONS = (
    # Gudermann's function, with an expansion and a derivative of its own.
    Operation(
        "gudermann",
        1,
        "2 atan(tanh(f / 2))",
        lambda f: 2 * np.arctan(np.tanh(f / 2)),
        spelling="Gudermann",
        section="Mathematics",
        partials=(lambda f, out: 1.0 / apply("cosh", f),),
        expand=lambda f: 2.0 * apply("atan", apply("tanh", 0.5 * f)),
    ),
    # A composite, which never stands in the IR.
    Operation(
        "mean_square",
        1,
        "mean of the squares of the components",
        None,
        spelling="MeanSquare",
        section="Vectors",
        shape=lambda f: 1,
        elementwise=False,
        definition=lambda f: apply("sqnorm2", f) * (1.0 / f.dim),
    ),
)


def cube_cotangent(value: table.Value, arrived: Arrived) -> table.Value:
    return 3.0 * value * value * arrived.cotangent


def last_place(states: tuple[table.Value, ...]) -> table.Value:
    """The column of the last value below 0, or -1."""
    return select(compare("olt", states[0], 0.0), states[1], -1)


REDUCTION_ROWS = (
    Reduction(
        "sum_of_cubes",
        ("SumOfCubes",),
        "sum of the third powers",
        (Result(),),
        lambda dim, count: (State(dim, 0.0),),
        step=lambda states, value, columns: (states[0] + value * value * value,),
        finish=lambda states: states,
        merge=lambda a, b: (a[0] + b[0],),
        cotangent=cube_cotangent,
        accumulates=True,
    ),
    # Two results, one of them an integer.
    Reduction(
        "last_negative",
        ("LastNegative",),
        "the last value below 0 and the number of its column; 0 and 0 for none",
        (Result(), Result("index")),
        lambda dim, count: (State(1, 0.0), State(1, 0.0, "index")),
        step=lambda states, value, columns: (
            select(compare("olt", value, 0.0), value, states[0]),
            select(compare("olt", value, 0.0), columns.in_call, states[1]),
        ),
        finish=lambda states: states,
        merge=lambda a, b: (
            select(compare("olt", b[0], 0.0), b[0], a[0]),
            select(compare("olt", b[0], 0.0), b[1], a[1]),
        ),
        join=lambda a, b: (
            select(compare("ogt", last_place(b), last_place(a)), b[0], a[0]),
            select(compare("ogt", last_place(b), last_place(a)), b[1], a[1]),
        ),
        takes="scalar",
    ),
)


@pytest.fixture(autouse=True, scope="module")
def additions() -> Iterator[None]:
    """The rows are in the tables while the tests of this file run."""
    table.register(*OPERATIONS)
    register(*REDUCTION_ROWS)
    yield
    for row in OPERATIONS:
        del table.OPERATIONS[row.name], table.SPELLINGS[row.spelling]
    for reduction in REDUCTION_ROWS:
        del REDUCTIONS[reduction.name], REDUCTIONS_BY_SPELLING[reduction.spelling]


def points(*rows: int) -> list[np.ndarray]:
    return [np.random.default_rng(n).uniform(-2, 2, (rows[n], 3)) for n in range(len(rows))]


def differences(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x[:, None, :] - y[None, :, :]


def gudermann(f: np.ndarray) -> np.ndarray:
    return np.arcsin(np.tanh(f))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_operation_is_its_row(dtype: type[np.floating]) -> None:
    x, y = points(40, 300)
    computed = Genred("Gudermann(x-y)", ALIASES, axis=1)(x.astype(dtype), y.astype(dtype))
    expected = gudermann(differences(x, y)).sum(axis=1)
    assert np.allclose(computed, expected, rtol=1e-5, atol=1e-3 if dtype is np.float32 else 1e-10)


def test_a_composite_is_its_row() -> None:
    x, y = points(40, 300)
    computed = Genred("Gudermann(MeanSquare(x-y))", ALIASES, axis=1)(x, y)
    expected = gudermann((differences(x, y) ** 2).mean(axis=-1)).sum(axis=1)
    assert np.allclose(computed[:, 0], expected, rtol=1e-10)


def test_a_derivative_is_that_of_the_row() -> None:
    x, y = (torch.tensor(p, requires_grad=True) for p in points(5, 7))
    reduction = TorchGenred("Gudermann(x-y)", ALIASES, axis=1)
    assert torch.autograd.gradcheck(reduction, (x, y))
    assert torch.autograd.gradgradcheck(reduction, (x, y))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_reduction_is_its_row(axis: int) -> None:
    x, y = points(40, 700)
    computed = Genred("x-y", ALIASES, "SumOfCubes", axis)(x, y)
    assert np.allclose(computed, (differences(x, y) ** 3).sum(axis=axis), rtol=1e-10)


def test_its_derivatives_too() -> None:
    x, y = (torch.tensor(p, requires_grad=True) for p in points(5, 7))
    reduction = TorchGenred("Sin(x-y)", ALIASES, "SumOfCubes", 1)
    assert torch.autograd.gradcheck(reduction, (x, y))
    assert torch.autograd.gradgradcheck(reduction, (x, y))


def test_its_results_have_the_dtypes_of_the_row() -> None:
    x, y = points(40, 700)
    formula = "Sum(x-y)-Cos(Sum(x))"
    value, place = Genred(formula, ALIASES, "LastNegative", 1)(x, y)
    dense = differences(x, y).sum(axis=-1) - np.cos(x.sum(axis=-1))[:, None]
    last = [max(np.flatnonzero(row < 0), default=0) for row in dense]
    assert place.dtype == np.int64
    assert place[:, 0].tolist() == last
    expected = [min(row[n], 0.0) for row, n in zip(dense, last, strict=True)]
    assert np.allclose(value[:, 0], expected, rtol=1e-12)


def test_what_a_row_does_not_take_is_refused_in_its_name() -> None:
    with pytest.raises(FormulaError, match="LastNegative takes a formula of dimension 1, not 3"):
        Genred("x-y", ALIASES, "LastNegative", 1)(*points(2, 2))


@pytest.mark.parametrize("reduction_op", ["SumOfCubes", "LastNegative"])
def test_every_target_has_them(reduction_op: str) -> None:
    reduction = Genred("Gudermann(MeanSquare(x-y))-1", ALIASES, reduction_op, 1)
    assert ".visible .entry" in reduction.lower("f32", GPU).ptx


def test_tables_refuse_what_they_have() -> None:
    with pytest.raises(ValueError, match="'sum_of_cubes' or its spelling is registered twice"):
        register(replace(REDUCTION_ROWS[0], spellings=("Other",)))
    with pytest.raises(ValueError, match="'gudermann' or its spelling is registered twice"):
        table.register(replace(OPERATIONS[0], spelling="Other"))


def test_the_reference_documents_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    make_formulas = importlib.import_module("make_formulas")
    page = make_formulas.page(limits="")
    for row in (*OPERATIONS, *REDUCTION_ROWS):
        assert f"| {row.doc} |" in page


@pytest.fixture
def double() -> Iterator[str]:
    """A pass that doubles what is reduced, by its name."""

    @compiler_pass
    def double(kernel: Kernel, context: Context, times: int = 1) -> Kernel:
        return kernel.map_roots(lambda value: value * math.pow(2.0, times))

    yield "double"
    del PASSES["double"]


def test_a_pass_is_its_function(double: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has options, a place in the pipeline, and a stage of its own."""
    usual = compiler.PIPELINE
    monkeypatch.setattr(compiler, "PIPELINE", parse_pipeline(f"{double}{{times=3}}") + usual)
    x, y = points(10, 20)
    reduction = Genred("Exp(-SqDist(x,y))+0.25", ALIASES, axis=1)
    expected = 8 * (np.exp(-(differences(x, y) ** 2).sum(axis=-1)) + 0.25).sum(axis=1)
    assert np.allclose(reduction(x, y)[:, 0], expected, rtol=1e-10)
    assert list(reduction.lower("f64").stages)[:3] == ["kernel", double, "simplify"]


def test_the_interpreter_knows_them() -> None:
    (found,) = interpret(
        [apply("gudermann", variable("x", "i", 0, Type("f64", 3)))], {"x": points(4)[0]}
    )
    assert np.allclose(found, gudermann(points(4)[0]))
