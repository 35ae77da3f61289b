"""How `KernelSolve` is called, when it warns, and derivatives of its gradients: CPU, PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError, ConvergenceWarning, FormulaError

pytestmark = pytest.mark.slow

Array = Any
Tensor = torch.Tensor
FACES = {"numpy": redcomp.numpy, "torch": redcomp.torch}
GAUSS = "Exp(-p*SqDist(x,y))*a"
ALIASES = ["x=Vi(2)", "y=Vj(2)", "a=Vj(1)", "p=Pm(1)"]
ROWS = 8
ALPHA = 0.5


def sample() -> tuple[Array, Array]:
    """x and b."""
    random = np.random.default_rng(0)
    return 2 * random.random((ROWS, 2)), random.standard_normal((ROWS, 1))


def exact(x: Array, b: Array) -> Array:
    K = np.exp(-1.5 * ((x[:, None] - x[None]) ** 2).sum(-1))
    return np.linalg.solve(K + ALPHA * np.eye(ROWS), b)


def solved(face: str, op: Any, x: Array, b: Array, **options: Any) -> Array:
    """The solution as an array, whichever library computes it."""
    given = [x, x, b, np.array([1.5])]
    if face == "torch":
        given = [torch.tensor(a) for a in given]
    return np.asarray(op(*given, alpha=ALPHA, **options))


# -- constructors ----------------------------------------------------------------------------------

# What follows the axis in KeOps, with values that each option takes and others refuse.
POSITIONAL = {
    "numpy": ("float64", None, "float64", False, "kahan_scheme", True, None, False),
    "torch": ("float64", False, "kahan_scheme", True, None, "float64", "float64", False),
}


@pytest.mark.parametrize("face", FACES)
def test_options_have_their_places_in_keops(face: str) -> None:
    x, b = sample()
    op = FACES[face].KernelSolve(GAUSS, ALIASES, "a", 1, *POSITIONAL[face])
    assert op.genred.reduction.options.sum == "compensated_sum"
    assert op.genred.reduction.options.use_fast_math is False
    np.testing.assert_allclose(solved(face, op, x, b, eps=1e-12), exact(x, b), rtol=1e-9)
    other = "torch" if face == "numpy" else "numpy"
    with pytest.raises((ArgumentError, FormulaError)):
        FACES[face].KernelSolve(GAUSS, ALIASES, "a", 1, *POSITIONAL[other])


# -- tolerances ------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_a_small_b_needs_a_relative_tolerance(face: str) -> None:
    """KeOps gives zeros, silently."""
    x, b = sample()
    op = FACES[face].KernelSolve(GAUSS, ALIASES, "a", axis=1)
    small = 1e-7 * b
    with pytest.warns(ConvergenceWarning, match=r"no better than zero.*eps=1e-06.*rtol"):
        assert not solved(face, op, x, small).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({"rtol": 1e-10}, {"eps": 1e-18}, {"eps": 0.0, "rtol": 1e-10}):
            found = solved(face, op, x, small, **options)
            np.testing.assert_allclose(found, exact(x, small), rtol=1e-7)
        assert not solved(face, op, x, 0 * b).any()
    with pytest.warns(ConvergenceWarning, match="no better than zero"):
        assert not solved(face, op, x, small, eps=1e-6, rtol=1e-10).any()


@pytest.mark.parametrize("face", FACES)
def test_one_small_column_is_enough_for_a_warning(face: str) -> None:
    x, b = sample()
    op = FACES[face].KernelSolve(GAUSS, [*ALIASES[:2], "a=Vj(2)", ALIASES[3]], "a", axis=1)
    both = np.concatenate([b, 1e-8 * b], axis=1)
    with pytest.warns(ConvergenceWarning, match="no better than zero"):
        found = solved(face, op, x, both)
    np.testing.assert_allclose(found[:, :1], exact(x, b), rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        solved(face, op, x, both, rtol=1e-10), exact(x, both), rtol=1e-6, atol=1e-16
    )


@pytest.mark.parametrize("name", ["eps", "rtol", "maxiter"])
@pytest.mark.parametrize("value", ["1", [1.0], np.ones(2), 1j, -1, np.nan, np.inf])
@pytest.mark.parametrize("face", FACES)
def test_tolerances_are_numbers(face: str, value: Any, name: str) -> None:
    op = FACES[face].KernelSolve(GAUSS, ALIASES, "a", axis=1)
    with pytest.raises(ArgumentError, match=f"{name} must be"):
        solved(face, op, *sample(), **{name: value})


# Options that are wrong, and what the error says.
WRONG: dict[str, tuple[list[Any], str]] = {
    "alpha": ([None, "1", {}, 1j, np.array([1j]), np.array(["a"]), torch.zeros(1).to_sparse(),
               torch.zeros(1, device="meta"), torch.tensor(1j)],
              "alpha (must be|has layout|is on)"),
    "precondition": ([None, 2, "yes", np.ones(2), torch.ones(2)], "precondition must be True or"),
    "return_info": ([None, 2, "yes", np.ones(2), torch.ones(2)], "return_info must be True or"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("face", FACES)
def test_wrong_options_are_named(face: str, name: str) -> None:
    values, message = WRONG[name]
    op = FACES[face].KernelSolve(GAUSS, ALIASES, "a", axis=1)
    x, b = sample()
    given: list[Any] = [x, x, b, np.array([1.5])]
    if face == "torch":
        given = [torch.tensor(a) for a in given]
    for value in values:
        with pytest.raises(ArgumentError, match=message):
            op(*given, **{name: value})


@pytest.mark.parametrize("unknown", [None, 3, ["a"], np.zeros(2), b"a"])
def test_the_unknown_has_a_name(unknown: Any) -> None:
    with pytest.raises(ArgumentError, match="varinvalias must be a string"):
        redcomp.numpy.KernelSolve(GAUSS, ALIASES, unknown, axis=1)


@pytest.mark.parametrize("face", FACES)
def test_alpha_keeps_its_digits(face: str) -> None:
    """A Python float is float64, whatever PyTorch's default is."""
    x, b = sample()
    op = FACES[face].KernelSolve("0*SqDist(x,y)*p*a", ALIASES, "a", axis=1)
    given: list[Any] = [x, x, b, np.array([1.5])]
    if face == "torch":
        given = [torch.tensor(a) for a in given]
    for alpha in (0.1, np.float64(0.1), [0.1], np.full((ROWS, 1), 0.1)):
        np.testing.assert_allclose(np.asarray(op(*given, alpha=alpha)), b / 0.1, rtol=1e-14)


# -- derivatives of gradients ----------------------------------------------------------------------


def derivatives(solve: Callable[..., Tensor], sources: list[Tensor]) -> list[Tensor]:
    """Of first and second order in all sources, and some of third."""

    def weights(t: Tensor) -> Tensor:
        return torch.linspace(-1, 2, t.numel(), dtype=t.dtype).reshape(t.shape)

    solution = solve(*sources)
    value = (torch.sin(solution) * weights(solution)).sum()
    first = torch.autograd.grad(value, sources, create_graph=True)
    second = [
        derivative
        for gradient in first
        for derivative in torch.autograd.grad(
            (torch.cos(gradient) * weights(gradient)).sum(), sources, create_graph=True
        )
    ]
    third = torch.autograd.grad(sum((s**2).sum() for s in second[:4]), sources)
    return [*first, *second, *third]


def check(op: Any, dense: Any, arrays: list[Array]) -> None:
    """Derivatives where equal points are two tensors, each with gradients of its own."""
    found, expected = (
        derivatives(solve, [torch.tensor(a).requires_grad_() for a in arrays])
        for solve in (lambda *given: op(*given, alpha=ALPHA, eps=1e-14), dense)
    )
    for ours, theirs in zip(found, expected, strict=True):
        scale = float(theirs.detach().abs().max())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9 * scale)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("axis", [0, 1])
def test_points_that_are_two_tensors(axis: int) -> None:
    """The transpose of K has K's values, and other derivatives."""
    x, b = sample()
    aliases = ALIASES if axis == 1 else [*ALIASES[:2], "a=Vi(1)", ALIASES[3]]
    op = redcomp.torch.KernelSolve(GAUSS, aliases, "a", axis=axis)

    def dense(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
        K = torch.exp(-p * ((x[:, None] - y[None]) ** 2).sum(-1))
        A = (K if axis == 1 else K.mT) + ALPHA * torch.eye(ROWS, dtype=K.dtype)
        return torch.linalg.solve(A, b)

    check(op, dense, [x, x, b, np.array([1.5])])


@pytest.mark.thorough
def test_components_that_are_mixed() -> None:
    """Also in directions in which the matrix between components is not symmetric."""
    x, _ = sample()
    b = np.random.default_rng(1).standard_normal((ROWS, 2))
    aliases = ["x=Vi(2)", "y=Vj(2)", "a=Vj(2)", "A=Pm(4)"]
    op = redcomp.torch.KernelSolve("Exp(-SqDist(x,y))*MatVecMult(A,a)", aliases, "a", axis=1)

    def dense(x: Tensor, y: Tensor, b: Tensor, A: Tensor) -> Tensor:
        K = torch.kron(torch.exp(-((x[:, None] - y[None]) ** 2).sum(-1)), A.reshape(2, 2))
        K = K + ALPHA * torch.eye(2 * ROWS, dtype=K.dtype)
        solution: Tensor = torch.linalg.solve(K, b.reshape(-1)).reshape(ROWS, 2)
        return solution

    check(op, dense, [x, x, b, np.array([2.0, 0.5, 0.5, 1.0])])
