"""Solves for many right-hand sides, some at a time: needs the CPU's backend and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.frontend.solvers import kernel_solve

N, E, MOST = 20, 8, 3
random = np.random.default_rng(0)
x, b = random.random((N, 2)), random.standard_normal((N, E))
b[:, 2] *= 1e-3  # solved after fewer iterations than others
b[:, 5] = 0.0
scales = random.random((N, E)) + 0.5
dense = np.exp(-4 * ((x[:, None] - x) ** 2).sum(-1))

GAUSS = "Exp(-4 * SqDist(x, y)) * a"


def solver(face: Any, formula: str = GAUSS, axis: int = 1, has_weights: bool = False) -> Any:
    aliases = ["x = Vi(2)", "y = Vj(2)", f"a = V{'ij'[axis]}({E})"]
    return face.KernelSolve(formula, aliases + [f"w = Pm({E})"] * has_weights, "a", axis=axis)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_solve, "MOST_COLUMNS", MOST)


def widths(made: Any) -> list[int]:
    return [genred.reduction.parameters[2].dim for _, genred in made._parts(b, {"backend": "auto"})]


def given(face: Any, *arrays: Any) -> list[Any]:
    return [a if face is redcomp.numpy else torch.from_numpy(np.array(a)) for a in arrays]


@pytest.mark.sampled(48)
@pytest.mark.parametrize("alpha", [0.5, "rows", "all"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("face", [redcomp.numpy, redcomp.torch])
def test_the_same_as_all_at_once(face: Any, axis: int, alpha: Any, monkeypatch: Any) -> None:
    shift = {"rows": scales[:, :1], "all": scales}.get(alpha, alpha)
    expected = np.stack(
        [
            np.linalg.solve(dense + np.diag(np.broadcast_to(shift, b.shape)[:, k]), b[:, k])
            for k in range(E)
        ],
        axis=1,
    )
    args = given(face, x, x, b)
    options = {"alpha": shift, "eps": 1e-11, "return_info": True}
    if face is redcomp.torch and not isinstance(shift, float):
        options["alpha"] = torch.from_numpy(shift.copy())
    together, whole = solver(face, axis=axis)(*args, **options)
    monkeypatch.setattr(kernel_solve, "MOST_COLUMNS", MOST)
    made = solver(face, axis=axis)
    assert widths(made) == [3, 3, 2]
    apart, info = made(*args, **options)
    np.testing.assert_allclose(np.asarray(apart), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(np.asarray(apart), np.asarray(together), rtol=0, atol=1e-13)
    assert info.iterations == whole.iterations
    assert info.converged
    np.testing.assert_allclose(info.residual, whole.residual, rtol=1e-3)


def test_what_is_told_of_each_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations are counted once for all, and the residual is the largest."""
    told = []
    for most in (256, MOST):
        monkeypatch.setattr(kernel_solve, "MOST_COLUMNS", most)
        told.append(list[tuple[int, float]]())
        solver(redcomp.numpy)(x, x, b, alpha=0.1, eps=1e-9, callback=lambda *a: told[-1].append(a))
    whole, apart = map(np.array, told)
    np.testing.assert_array_equal(apart[:, 0], np.arange(1, len(apart) + 1))
    assert len(whole) == len(apart)
    np.testing.assert_allclose(apart[:, 1], whole[:, 1], rtol=1e-4)


@pytest.mark.usefixtures("narrow")
def test_formulas_that_tell_components_apart_are_not_narrowed() -> None:
    weights = np.linspace(1, 2, E)
    kernel = "Exp(-4 * SqDist(x, y))"
    halves = (
        f"Concat({kernel} * Extract(a, 0, {MOST}), 2 * {kernel} * Extract(a, {MOST}, {E - MOST}))"
    )
    for formula, factors in (
        (f"{GAUSS} * w", weights),
        (halves, np.where(np.arange(E) < MOST, 1.0, 2.0)),
        (f"{kernel} * Var(2, {E}, 1)", np.ones(E)),
    ):
        has_weights = formula.endswith("w")
        if "Var" in formula:
            made = redcomp.numpy.KernelSolve(
                formula, ["x = Vi(2)", "y = Vj(2)"], f"Var(2, {E}, 1)", axis=1
            )
        else:
            made = solver(redcomp.numpy, formula, has_weights=has_weights)
        assert widths(made) == [E]
        found = made(x, x, b, *([weights] if has_weights else []), alpha=0.5, eps=1e-11)
        for k, factor in enumerate(factors):
            expected = np.linalg.solve(factor * dense + 0.5 * np.eye(N), b[:, k])
            np.testing.assert_allclose(found[:, k], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("narrow")
def test_numbers_of_each_pair_may_weigh_all_components() -> None:
    formula = f"({GAUSS} + a * (Ind_i() == Ind_j())) * Elem(w, 1) - 0.25 * a * (Ind_i() == Ind_j())"
    made = solver(redcomp.numpy, formula, has_weights=True)
    assert widths(made) == [3, 3, 2]
    weights = np.linspace(1, 2, E)
    found = made(x, x, b, weights, alpha=0.5, eps=1e-11)
    matrix = (dense + np.eye(N)) * weights[1] + 0.25 * np.eye(N)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, b), rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("narrow")
def test_gradients_and_a_batch() -> None:
    points = torch.from_numpy(np.stack([x, 0.5 * x])).requires_grad_()
    right = torch.from_numpy(b).requires_grad_()
    found = solver(redcomp.torch)(points, points, right, alpha=0.5, eps=1e-12)
    kernels = torch.exp(-4 * ((points[:, :, None] - points[:, None]) ** 2).sum(-1))
    matrices = kernels + 0.5 * torch.eye(N, dtype=torch.float64)
    expected = torch.linalg.solve(matrices, right.expand(2, N, E))
    torch.testing.assert_close(found, expected)
    of_found, of_expected = (
        torch.autograd.grad(result.sin().sum(), (points, right)) for result in (found, expected)
    )
    torch.testing.assert_close(of_found, of_expected)
