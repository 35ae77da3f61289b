"""The names that users write stay: needs torch, but no backend.

The lists are what commit 30710fc offered, and what has been promised since; names may be added to
them, and none may go.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import redcomp
from redcomp import __main__ as command_line
from redcomp.frontend.language.builders import BUILDERS
from redcomp.numpy import Genred
from redcomp.ops import SPELLINGS
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING

GENRED = (
    "formula aliases reduction_op axis dtype opt_arg formula2 cuda_type dtype_acc use_double_acc "
    "sum_scheme enable_chunks rec_multVar_highdim use_fast_math"
)
METHODS = {"lower": "dtype target", "explain": "dtype target"}
GENERIC = "formula output aliases"
SOLVE = "alpha eps ranges rtol maxiter precondition return_info callback"
OF_A_LIBRARY = {
    "Genred": GENRED,
    "Genred.__call__": "args backend device_id ranges out",
    **{f"Genred.{name}": parameters for name, parameters in METHODS.items()},
    "KernelSolve": "formula aliases varinvalias axis",
    "KernelSolve.__call__": f"args backend device_id {SOLVE}",
    "generic_argkmin": GENERIC,
    "generic_argmin": GENERIC,
    "generic_logsumexp": GENERIC,
    "generic_sum": GENERIC,
}
OF_CLUSTERS = {
    "cluster_centroids": "x lab Nlab weights weights_c",
    "cluster_ranges": "lab Nlab",
    "cluster_ranges_centroids": "x lab weights min_weight",
    "from_matrix": "ranges_i ranges_j keep",
    "grid_cluster": "x size",
    "sort_clusters": "x lab",
    "swap_axes": "ranges",
}
OF_MODULES = {
    "Attention": "is_causal scale",
    "Attention.forward": "query key value attn_mask bias",
    "ChamferDistance": "squared directions return_indices reduction",
    "ChamferDistance.forward": "x y",
    "EnergyDistance": "unbiased reduction",
    "EnergyDistance.forward": "x y x_weights y_weights",
    "KernelSum": "kernel lengthscale outputscale alpha period device dtype",
    "KernelSum.forward": "x y b",
    "MMD": "kernel lengthscale unbiased alpha learnable reduction device dtype",
    "MMD.forward": "x y x_weights y_weights",
    "SoftNearestNeighbour": "temperature learnable device dtype",
    "SoftNearestNeighbour.forward": "x y values",
    "SoftNearestNeighbourLoss": "temperature learnable reduction device dtype",
    "SoftNearestNeighbourLoss.forward": "x labels",
}
ERRORS: Mapping[str, tuple[type, ...]] = {
    "RedcompError": (Exception,),
    "FormulaError": (ValueError,),
    "ArgumentError": (ValueError,),
    "SolverError": (ArithmeticError,),
    "ConvergenceWarning": (UserWarning,),
    "CompilerError": (RuntimeError,),
}
# Names with their parameters, in the order in which they can be given by position.
CALLABLES = {
    "redcomp": {
        "Genred": GENRED,
        "progress": "shown",
        **{f"Genred.{name}": p for name, p in METHODS.items()},
    },
    "redcomp.numpy": OF_A_LIBRARY,
    "redcomp.torch": OF_A_LIBRARY,
    "redcomp.numpy.cluster": OF_CLUSTERS,
    "redcomp.torch.cluster": OF_CLUSTERS,
    "redcomp.torch.nn": OF_MODULES,
}
ENVIRONMENT = (
    "REDCOMP_CACHE_DIR REDCOMP_DEBUG REDCOMP_DUMP REDCOMP_NUM_THREADS REDCOMP_OVERRIDE "
    "REDCOMP_PROGRESS REDCOMP_TARGET REDCOMP_VERIFY"
)
COMMANDS = {
    "show": "--axis --reduction --opt-arg --formula2 --dtype --stage --target --fast-math",
    "opt": "-p --passes --target --fast-math",
}
PASSES = "simplify cse factor scalarize accumulate prescale contract expand hoist legal"
LOWERED = "stages llvm asm schedule stats"

FUNCTIONS = """
Abs Acos Add AdjointOperator ArgMax ArgMin Asin Atan Atan2 AutoFactorize BSpline Cbrt Clamp
ClampInt ComplexAbs ComplexAdd ComplexAngle ComplexDivide ComplexExp ComplexExp1j ComplexImag
ComplexMult ComplexReal ComplexRealScal ComplexScal ComplexSquareAbs ComplexSubtract ComplexSum
ComplexSumT Concat Conj Cos Cosh Diff DiffClampInt Divergence Divide Elem ElemT Equal Erf Erfc
Exp Exp2 Expm1 Extract ExtractT Factorize Floor Gather Grad GradMatrix IfElse Imag2Complex Ind_i
Ind_j IntCst IntInv Inv Kron Laplacian LessOrEqual LessThan Log Log1p Log2 Matern32 Matern52
MatVecMult Max Maximum Min Minimum Minus Mod Mult Norm2 Normalize NotEqual OneHot Pm Pow Powf
RatCst ReLU Real2Complex Round Rsqrt Scalprod Sigmoid Sign Sin SinXDivX Sinh SoftDTW_SqDist
Softplus SqDist SqNorm2 SqNormDiag SqNormIso Sqrt Square Step Subtract Sum SumLinOperator SumT
SymSqNorm Tanh TensorDot TensorProd TraceOperator Var VecMatMult Vi Vij Vj Vx Vy WeightedSqDist
WeightedSqNorm XLogX Zero
"""
REDUCTIONS = """
All Any ArgKMax ArgKMin ArgMax ArgMin KMax KMaxArgKMax KMax_ArgKMax KMin KMinArgKMin
KMin_ArgKMin LogSumExp LogSumExpWeight Max MaxArgMax MaxSumShiftExp MaxSumShiftExpWeight
Max_ArgMax Max_SumShiftExp Max_SumShiftExpWeight Mean Min MinArgMin Min_ArgMin Norm Prod SoftMax
Sum SumSoftMaxWeight
"""


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [(m, n, parameters) for m, names in CALLABLES.items() for n, parameters in names.items()],
)
def test_names_have_their_parameters(module: str, name: str, parameters: str) -> None:
    """In the same order, so that they can be given by position as before."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    given = [n for n in inspect.signature(found).parameters if n != "self"]
    assert [n for n in given if n in parameters.split()] == parameters.split()


@pytest.mark.parametrize(
    "module", ["redcomp", "redcomp.numpy", "redcomp.torch", "redcomp.torch.nn"]
)
def test_names_are_listed(module: str) -> None:
    names = {name for name in CALLABLES[module] if "." not in name}
    assert names <= set(importlib.import_module(module).__all__)


def test_version() -> None:
    assert redcomp.__version__


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_what_they_were(name: str) -> None:
    errors = importlib.import_module("redcomp.errors")
    error = getattr(errors, name)
    assert issubclass(error, ERRORS[name])
    assert issubclass(error, errors.RedcompError) or issubclass(error, Warning)


@pytest.mark.parametrize("name", ENVIRONMENT.split())
def test_environment_variables_are_looked_up(name: str) -> None:
    looked_up = rf'(environ\.get|_switch)\("{name}"'
    assert re.search(looked_up, Path(redcomp.__path__[0], "config.py").read_text("utf-8"))


def test_formulas_can_spell_what_they_could() -> None:
    assert not set(FUNCTIONS.split()) - {*SPELLINGS, *BUILDERS}


def test_reductions_have_their_names() -> None:
    assert not set(REDUCTIONS.split()) - {*REDUCTIONS_BY_SPELLING}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_their_options(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        command_line.main([command, "--help"])
    shown = capsys.readouterr().out
    words = shown.replace(",", " ").replace("[", " ").replace("]", " ").split()
    expected = [*COMMANDS[command].split(), *(PASSES.split() if command == "opt" else ())]
    assert not set(expected) - set(words)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOWERED.split())
def test_what_is_lowered_can_be_read(name: str) -> None:
    lowered = Genred("Exp(-SqDist(x,y))", ["x = Vi(3)", "y = Vj(3)"], axis=1).lower()
    assert getattr(lowered, name)
