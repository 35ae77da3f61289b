"""What KeOps 2.3 gets wrong in reductions and calls is right: needs the CPU backend, PyTorch.

As `test_keops_faults.py`, which says what is not concerned.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from single_values import INF, NAN, PAIR, SPREAD, Array, close, column, reduced, uniform, value

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError, ConvergenceWarning, SolverError
from redcomp.numpy import Genred, KernelSolve
from redcomp.numpy.cluster import grid_cluster
from redcomp.runtime import driver as drivers
from redcomp.runtime.device import DeviceError

# -- reductions ------------------------------------------------------------------------------------


def test_weighted_logsumexp_is_the_logarithm() -> None:
    """KeOps returns the pair of Max_SumShiftExpWeight for this name (BUG-10)."""
    x = SPREAD[:, :2].copy()
    result = reduced("LogSumExpWeight", x, "Elem(x, 0)", formula2="Elem(x, 1)")
    exact = np.log((np.exp(x[:, 0]) * x[:, 1]).sum())
    close(result, [exact], units=32)
    close(reduced("LogSumExp", x, "Elem(x, 0)", formula2="Elem(x, 1)"), [exact], units=32)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("spelling", "usual"),
    [
        ("MinArgMin", "Min_ArgMin"),
        ("MaxArgMax", "Max_ArgMax"),
        ("KMinArgKMin", "KMin_ArgKMin"),
        ("MaxSumShiftExp", "Max_SumShiftExp"),
    ],
)
def test_documented_spellings_of_reductions_exist(spelling: str, usual: str) -> None:
    """KeOps documents them, and raises a NameError (BUG-10)."""
    x = SPREAD[:, :1].copy()
    options = {"opt_arg": 2} if spelling.startswith("K") else {}
    results, others = (reduced(name, x, **options) for name in (spelling, usual))
    for result, other in zip(results, others, strict=True):
        np.testing.assert_array_equal(result, other)
    ascending = np.sort(x[:, 0])
    first = {"M": ascending[-1], "K": ascending[:2]}[spelling[0]]
    np.testing.assert_array_equal(results[0], ascending[0] if spelling[1] == "i" else first)


@pytest.mark.parametrize(
    "options",
    [{"sum_scheme": "kahan_scheme"}, {"dtype_acc": "float64"}, {"use_double_acc": True}],
)
def test_accumulation_options_serve_every_sum(options: dict[str, Any]) -> None:
    """KeOps raises for LogSumExp and its kin (BUG-11)."""
    x = SPREAD[:, :1].astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    close(reduced("LogSumExp", x, **options), np.log(exact.sum(0)), units=4)
    weighted = reduced("SumSoftMaxWeight", x, formula2="x*x", **options)
    close(weighted, (exact * x * x).sum(0) / exact.sum(0), units=8)


def test_unknown_sum_schemes_are_errors_that_list_the_known() -> None:
    """KeOps documents "block_red" for "block_sum", and raises ValueError(None)."""
    with pytest.raises(ArgumentError, match="block_sum"):
        Genred("x", ["x=Vj(1)"], axis=0, sum_scheme="block_red")


def test_places_are_exact_integers() -> None:
    """KeOps carries places as floats, documents them as such, and refuses many columns."""
    x = np.zeros((17_000_000, 1), np.float32)
    x[16_777_217:] = -1.0
    result = Genred("x", ["x=Vj(1)"], "ArgKMin", axis=1, opt_arg=2)(x)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, [[16_777_217, 16_777_218]])
    assert Genred("x", ["x=Vj(1)"], "ArgMin", axis=1)(x)[0, 0] == 16_777_217


def test_extrema_have_gradients() -> None:
    """KeOps raises NotImplementedError for Min, Max and KMin."""
    x = torch.tensor([[3.0], [1.0], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    result = redcomp.torch.Genred("x", ["x=Vj(1)"], "KMin", axis=1, opt_arg=2)(x)
    (slope,) = torch.autograd.grad((result * torch.tensor([[5.0, 7.0]])).sum(), x)
    np.testing.assert_array_equal(slope[:, 0], [0.0, 5.0, 7.0, 0.0])


@pytest.mark.filterwarnings("ignore::redcomp.errors.AxisWarning")
def test_default_axis_reduces_over_rows() -> None:
    """As in KeOps, whose documentation does not mention it; here a warning does."""
    x, y = SPREAD[:4], SPREAD[4:9]
    result = Genred("SqDist(x, y)", ["x=Vi(3)", "y=Vj(3)"])(x, y)
    close(result[:, 0], ((x[:, None] - y) ** 2).sum((0, 2)), units=32)


# -- calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "wrong", "message"),
    [
        (0, np.ones((4, 2)), "'x' must have shape"),
        (1, np.ones(3), "'y' must have shape"),
        (2, np.ones((6, 1)), "'b' has 6 rows, but 'y' has 5"),
        (2, np.ones((5, 1), np.float32), "'b' has dtype float32"),
        (0, np.ones((4, 3), np.int64), "'x' has dtype int64"),
        (0, [[1.0, 2.0, 3.0]], "'x' must be a NumPy array"),
    ],
)
def test_wrong_arguments_are_errors_that_name_them(place: int, wrong: Array, message: str) -> None:
    """KeOps checks the number of arguments only, and reads other memory."""
    args = [np.ones((4, 3)), np.ones((5, 3)), np.ones((5, 1))]
    args[place] = wrong
    with pytest.raises(ArgumentError, match=message):
        Genred("Exp(-SqDist(x, y)) * b", PAIR, axis=1)(*args)
    if isinstance(wrong, np.ndarray):
        with pytest.raises(ArgumentError, match=message.replace("dtype ", ".*")):
            redcomp.torch.Genred("Exp(-SqDist(x, y)) * b", PAIR, axis=1)(*map(torch.tensor, args))


def test_tensors_of_other_devices_are_errors() -> None:
    """KeOps dereferences their addresses on the host."""
    args = [torch.ones(4, 3), torch.ones(5, 3), torch.ones(5, 1)]
    for place in range(3):
        moved = [a.to("meta") if n == place else a for n, a in enumerate(args)]
        with pytest.raises(ArgumentError, match="meta"):
            redcomp.torch.Genred("SqDist(x, y) * b", PAIR, axis=1)(*moved, backend="CPU")


@pytest.mark.parametrize("backend", ["GPU", "GPU_1D", "GPU_2D"])
def test_backends_that_cannot_be_had_are_errors_that_say_so(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """KeOps raises KeyError('nvrtc') without CUDA, and other errors for GPU_2D (BUG-13)."""
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(drivers, "_real", drivers._real.__wrapped__)  # looks again
    with pytest.raises(DeviceError, match=f"backend='{backend}'.*cuda-python is not installed"):
        Genred("x", ["x=Vi(1)"], axis=1)(column(1.0), backend=backend)


def test_options_for_schedules_do_not_change_results() -> None:
    """KeOps' torch binding switches a mode on by its default, and breaks wide sums (BUG-14)."""
    x, y = torch.tensor(SPREAD[:4]), torch.tensor(uniform(5, 200))
    z = torch.tensor(SPREAD[4:9])
    aliases = ["x=Vi(3)", "z=Vj(3)", "y=Vj(200)"]
    exact = torch.exp(-((x[:, None] - z) ** 2).sum(-1)) @ y
    for option in (False, True, None, 1):
        made = redcomp.torch.Genred(
            "Exp(-SqDist(x, z)) * y", aliases, axis=1, rec_multVar_highdim=option
        )
        close(made(x, z, y).numpy(), exact.numpy(), units=32)


def test_arrays_of_any_layout_are_taken() -> None:
    """KeOps wants contiguous arrays of exactly its own types; KernelSolve ignores strides."""
    wide = uniform(8, 6)
    expected = wide[::2, ::2].sum(1, keepdims=True)
    for x in (wide[::2, ::2], wide[::2, ::2].view(np.recarray), wide[::2, ::2].astype(">f8")):
        close(Genred("Sum(x)", ["x=Vi(3)"], axis=1)(x), expected)
    parameter = torch.nn.Parameter(torch.tensor(wide[::2, ::2].copy()))
    result = redcomp.torch.Genred("Sum(x)", ["x=Vi(3)"], axis=1)(parameter)
    close(result.detach().numpy(), expected)


def test_outputs_have_the_shape_of_results() -> None:
    """KeOps wants `out` in the shape of its states: two numbers a row for LogSumExp."""
    out = np.empty((1, 1))
    x = SPREAD[:, :1].copy()
    assert Genred("x", ["x=Vj(1)"], "LogSumExp", axis=1)(x, out=out) is out
    close(out[0], np.log(np.exp(x).sum(0)), units=16)


def test_lists_of_aliases_are_left_as_they_are() -> None:
    """KeOps' NumPy binding appends the formula's own variables to the caller's list."""
    aliases = ["x=Vi(3)"]
    made = Genred("x * Var(1, 1, 2)", aliases, axis=1)
    assert aliases == ["x=Vi(3)"]
    close(made(SPREAD, np.array([2.0])), 2 * SPREAD)


def test_all_public_names_can_be_imported() -> None:
    """KeOps lists a name that does not exist, so that `from pykeops.numpy import *` fails."""
    for face in (redcomp.numpy, redcomp.torch):
        assert "Genred" in face.__all__
        assert all(hasattr(face, name) for name in face.__all__)


def test_machine_code_is_found_again_by_other_processes(tmp_path: Path) -> None:
    """A cache of KeOps never hits in a new process, and grows with each."""
    program = "import numpy as np; from redcomp.numpy import Genred; "
    program += "print(Genred('Exp(x)', ['x=Vi(1)'], axis=1)(np.ones((3, 1)))[0, 0])"
    environment = {**os.environ, "REDCOMP_CACHE_DIR": str(tmp_path / "cache")}
    sizes = []
    for _ in range(2):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        close(float(done.stdout), math.e)
        sizes.append(sorted(file.name for file in (tmp_path / "cache").rglob("*")))
    assert sizes[0]
    assert sizes[0] == sizes[1]


# -- batches and ranges ----------------------------------------------------------------------------

# Rows 0 to 1 meet columns 1 and 2, row 2 is in a block without columns, and row 3 in no block.
FORWARD = (np.array([[0, 2], [2, 3]]), np.array([1, 1]), np.array([[1, 3]]))
BACKWARD = (np.array([[1, 3]]), np.array([1]), np.array([[0, 2]]))
MASK = np.zeros((4, 3), bool)
MASK[:2, 1:] = True


@pytest.mark.parametrize(
    ("op", "neutral"), [("Sum", 0.0), ("Min", INF), ("LogSumExp", -INF), ("ArgMax", 0)]
)
def test_rows_without_columns_have_the_neutral_element(op: str, neutral: float) -> None:
    """KeOps leaves memory as it is on the GPU (BUG-17); for LogSumExp there is NaN on the host."""
    x, y = uniform(4, 3), uniform(3, 3, seed=2)
    result = Genred("SqDist(x, y)", PAIR[:2], op, axis=1)(x, y, ranges=(*FORWARD, *BACKWARD))
    distances = ((x[:, None] - y) ** 2).sum(-1)[:2, 1:]
    exact = {
        "Sum": distances.sum(1),
        "Min": distances.min(1),
        "LogSumExp": np.log(np.exp(distances).sum(1)),
        "ArgMax": 1 + distances.argmax(1),
    }[op]
    np.testing.assert_allclose(result[:2, 0], exact, rtol=1e-14)
    np.testing.assert_array_equal(result[2:], np.full((2, 1), neutral))


def test_blocks_of_rows_that_overlap_are_errors() -> None:
    """KeOps computes some of the rows twice, in an order that is not defined."""
    blocks = (np.array([[0, 3], [2, 4]]), np.array([1, 2]), np.array([[0, 3], [0, 3]]))
    with pytest.raises(ArgumentError, match="overlap"):
        Genred("SqDist(x, y)", PAIR[:2], axis=1)(
            SPREAD[:4], SPREAD[:3], ranges=(*blocks, *BACKWARD)
        )


def test_ranges_and_batches_go_together() -> None:
    """KeOps' behaviour is not defined, and not checked."""
    x, y = uniform(2, 4, 3), uniform(3, 3, seed=2)
    result = Genred("SqDist(x, y)", PAIR[:2], axis=1)(x, y, ranges=(*FORWARD, *BACKWARD))
    exact = (((x[:, :, None] - y) ** 2).sum(-1) * MASK).sum(-1)
    close(result[..., 0], exact, units=16)


def test_parameters_alone_make_a_batch() -> None:
    """KeOps counts one dimension of the batch too few where there are only parameters."""
    p, q = uniform(5, 3), uniform(5, 3, seed=2)
    result = Genred("p * q", ["p=Pm(3)", "q=Pm(3)"], axis=1)(p, q)
    close(result, (p * q)[:, None])


def test_batches_that_do_not_fit_are_errors() -> None:
    """KeOps reads other memory."""
    with pytest.raises(ArgumentError, match="batch"):
        Genred("SqDist(x, y)", PAIR[:2], axis=1)(uniform(2, 4, 3), uniform(5, 3, 3))


# -- linear systems --------------------------------------------------------------------------------

GAUSS = ("Exp(-SqDist(x, y)) * a", ["x=Vi(3)", "y=Vj(3)", "a=Vj(1)"], "a")


def test_linear_systems_take_arrays_of_any_strides() -> None:
    """KeOps reads them as if they were contiguous: wrong solutions (BUG-12)."""
    x, b = uniform(40, 6)[:, ::2], uniform(80, 1, seed=2)[::2]
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(-1)) + 0.5 * np.eye(40)
    solution = KernelSolve(*GAUSS, axis=1)(x, x, b, alpha=0.5, eps=1e-12)
    np.testing.assert_allclose(solution, np.linalg.solve(kernel, b), rtol=0, atol=1e-10)


def test_linear_systems_come_to_an_end() -> None:
    """KeOps iterates for ever where the residual cannot fall, or is NaN (BUG-12)."""
    x, b = SPREAD[:40], SPREAD[:40, :1].copy()
    solver = KernelSolve(*GAUSS, axis=1)
    with pytest.warns(ConvergenceWarning):
        solver(x, x, b, alpha=1e-9, eps=1e-12, maxiter=3)
    with pytest.raises(SolverError):
        solver(x, x, np.full_like(b, NAN), alpha=0.5)
    with pytest.raises(SolverError):
        solver(x, x, b, alpha=-1e3)


def test_shifts_of_linear_systems_belong_to_the_call_and_have_gradients() -> None:
    """KeOps documents alpha in the constructor, and gives it no gradient."""
    with pytest.raises(TypeError, match="alpha"):
        KernelSolve(*GAUSS, axis=1, alpha=0.5)
    x, b = torch.tensor(SPREAD[:20]), torch.tensor(SPREAD[:20, :1])
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    solution = redcomp.torch.KernelSolve(*GAUSS, axis=1)(x, x, b, alpha=alpha, eps=1e-13)
    (slope,) = torch.autograd.grad(solution.sum(), alpha)
    kernel = torch.exp(-((x[:, None] - x) ** 2).sum(-1)) + alpha * torch.eye(20, dtype=x.dtype)
    (exact,) = torch.autograd.grad(torch.linalg.solve(kernel, b).sum(), alpha)
    torch.testing.assert_close(slope, exact, rtol=1e-9, atol=1e-9)


# -- clusters --------------------------------------------------------------------------------------


def test_cells_of_any_number_have_labels_of_their_own() -> None:
    """KeOps gives distant cells one label beyond 1,024 on an axis, and knows three dimensions."""
    x = np.zeros((4, 4))
    x[1, 1], x[2, 0], x[3, 3] = 1024.0, 1.0, 5.0
    labels = grid_cluster(x + 0.5, 1.0)
    assert sorted(labels) == [0, 1, 2, 3]


def test_no_warnings_are_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """KeOps prints that it copies arrays, and that it compiles."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value("Sum(x)", uniform(8, 6)[::2, ::2])
    assert capfd.readouterr() == ("", "")
