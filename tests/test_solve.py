"""KernelSolve against dense float64 linear algebra and autograd: CPU, PyTorch."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError, ConvergenceWarning, FormulaError, SolverError
from redcomp.frontend.solvers.kernel_solve import KernelSolveBase

GAUSS = "Exp(-SqDist(x,y)*g)*a"
COLUMNS = ["x=Vi(3)", "y=Vj(3)", "a=Vj(2)", "g=Pm(1)"]
ROWS = ["x=Vi(3)", "y=Vj(3)", "a=Vi(2)", "g=Pm(1)"]
N = 60
Array = Any


def sample(dtype: Any = np.float64, n: int = N, seed: int = 0) -> list[Array]:
    """x, b and g."""
    random = np.random.default_rng(seed)
    x, b = random.random((n, 3)), random.standard_normal((n, 2))
    return [x.astype(dtype), b.astype(dtype), np.array([8.0], dtype)]


def kernel(x: Array, g: Array, y: Array | None = None) -> Array:
    """The Gaussian's matrix in float64."""
    x = np.asarray(x, np.float64)
    y = x if y is None else np.asarray(y, np.float64)
    return np.exp(-np.float64(g) * ((x[:, None] - y[None]) ** 2).sum(-1))


def solver(face: Any = redcomp.numpy, axis: int = 1) -> Any:
    return face.KernelSolve(GAUSS, COLUMNS if axis == 1 else ROWS, "a", axis=axis)


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.sampled(16)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_dense_solve(axis: int, dtype: Any) -> None:
    x, b, g = sample(dtype)
    exact = np.linalg.solve(kernel(x, g) + 0.5 * np.eye(N), b.astype(np.float64))
    tolerance = 1e-9 if dtype == np.float64 else 3e-6
    solution = solver(axis=axis)(x, x, b, g, alpha=0.5, eps=1e-10)
    assert solution.dtype == dtype
    assert solution.shape == b.shape
    np.testing.assert_allclose(solution, exact, rtol=0, atol=tolerance * abs(exact).max())
    tensors = [torch.tensor(a) for a in (x, x, b, g)]
    again = solver(redcomp.torch, axis)(*tensors, alpha=0.5, eps=1e-10)
    np.testing.assert_allclose(again.numpy(), solution, rtol=0, atol=tolerance * abs(exact).max())


@pytest.mark.sampled(4)
@pytest.mark.parametrize("axis", [0, 1])
def test_strided_and_byte_swapped_arguments(axis: int) -> None:
    x, b, g = sample()
    expected = solver(axis=axis)(x, x, b, g, alpha=0.5, eps=1e-14)
    wide = np.repeat(np.concatenate([x, x], axis=1), 2, axis=0)[::2, :3]
    layouts = [
        (wide, np.asfortranarray(b)),
        (x[::-1].copy()[::-1], np.repeat(b, 2, axis=1)[:, ::2]),
        (x.astype(">f8"), b.astype(">f8")),
    ]
    for points, right in layouts:
        solution = solver(axis=axis)(points, points, right, g, alpha=0.5, eps=1e-14)
        np.testing.assert_allclose(solution, expected, rtol=0, atol=1e-12)
    tensors = [torch.tensor(wide), torch.tensor(wide), torch.tensor(b.T.copy()).T, torch.tensor(g)]
    solution = solver(redcomp.torch, axis)(*tensors, alpha=0.5, eps=1e-14).numpy()
    np.testing.assert_allclose(solution, expected, rtol=0, atol=1e-12)


def test_right_hand_sides_converge_as_if_alone() -> None:
    """An easy right-hand side (an eigenvector) beside a hard one, of other sizes too."""
    x, b, g = sample()
    _, vectors = np.linalg.eigh(kernel(x, g))
    alone = redcomp.numpy.KernelSolve(GAUSS, [*COLUMNS[:2], "a=Vj(1)", "g=Pm(1)"], "a", axis=1)
    for right in (
        [vectors[:, -1], b[:, 0]],
        [1e-8 * b[:, 0], 1e8 * b[:, 1]],
        [b[:, 0] * 0, b[:, 1]],
    ):
        both = np.stack(right, axis=1)
        options: dict[str, Any] = {"alpha": 0.1, "eps": 0.0, "rtol": 1e-9}
        together, info = solver()(x, x, both, g, return_info=True, **options)
        parts = [alone(x, x, both[:, k : k + 1], g, return_info=True, **options) for k in range(2)]
        separate = np.concatenate([part for part, _ in parts], axis=1)
        scale = abs(separate).max(axis=0) + 1e-300
        assert (abs(together - separate) <= 1e-8 * scale).all()
        assert abs(info.iterations - max(i.iterations for _, i in parts)) <= 1


COUPLED = {
    "matrix": (
        "Exp(-SqDist(x,y))*Concat((Extract(A,0,2)|a),(Extract(A,2,2)|a))",
        ["x=Vi(1)", "y=Vj(1)", "a=Vj(2)", "A=Pm(4)"],
    ),
    "outer": (
        "Exp(-SqDist(x,y))*(a + (A|a)*A)",
        ["x=Vi(1)", "y=Vj(1)", "a=Vj(2)", "A=Pm(2)"],
    ),
    "components": (
        "Concat(Exp(-SqDist(x,y))*Elem(a,0), Exp(-3*SqDist(x,y))*Elem(a,1))",
        ["x=Vi(1)", "y=Vj(1)", "a=Vj(2)", "A=Pm(1)"],
    ),
}


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", COUPLED)
def test_operators_that_mix_components(name: str) -> None:
    formula, aliases = COUPLED[name]
    random = np.random.default_rng(1)
    x, b = 3 * random.random((20, 1)), random.standard_normal((20, 2))
    A = {"matrix": np.array([2.0, 0.5, 0.5, 1.0]), "outer": np.array([1.0, 2.0])}.get(
        name, np.ones(1)
    )
    K = kernel(x, 1.0)
    dense = {
        "matrix": lambda: np.kron(K, A.reshape(2, 2)),
        "outer": lambda: np.kron(K, np.eye(2) + np.outer(A, A)),
        "components": lambda: (
            np.kron(K, np.diag([1.0, 0.0])) + np.kron(kernel(x, 3.0), np.diag([0.0, 1.0]))
        ),
    }[name]()
    exact = np.linalg.solve(dense + 0.3 * np.eye(40), b.reshape(-1)).reshape(20, 2)
    op = redcomp.numpy.KernelSolve(formula, aliases, "a", axis=1)
    assert not op.is_componentwise
    np.testing.assert_allclose(op(x, x, b, A, alpha=0.3, eps=1e-12), exact, rtol=0, atol=1e-9)


def test_which_formulas_keep_components_apart() -> None:
    aliases = ["x=Vi(2)", "y=Vj(2)", "a=Vj(2)"]
    for formula, expected in [
        ("Exp(-SqDist(x,y))*a", True),
        ("x*a*y + a/(1+SqNorm2(x))", True),
        ("IfElse(x-y, a, -a)", True),
        ("(x|a)*y", False),
        ("Concat(Elem(a,1), Elem(a,0))", False),
        ("a + SumT(Sum(a),2)", False),
    ]:
        op = redcomp.numpy.KernelSolve(formula, aliases, "a", axis=1)
        assert op.is_componentwise == expected, formula


def test_alpha_of_every_shape() -> None:
    x, b, g = sample()
    random = np.random.default_rng(2)
    K = kernel(x, g)
    for alpha in (
        0.5,
        np.float32(0.5),
        np.array(0.5),
        random.random((N, 1)),
        random.random((N, 2)),
    ):
        shift = np.broadcast_to(alpha, b.shape)
        exact = np.stack(
            [np.linalg.solve(K + np.diag(shift[:, k]), b[:, k]) for k in range(2)], axis=1
        )
        solution = solver()(x, x, b, g, alpha=alpha, eps=1e-12)
        np.testing.assert_allclose(solution, exact, rtol=0, atol=1e-8)


def test_preconditioner_is_worth_it_for_rows_of_different_scales() -> None:
    x, b, _ = sample()
    s = 10.0 ** np.random.default_rng(3).uniform(-2, 2, (N, 1))
    formula = "Exp(-8*SqDist(x,y))*s*t*a"
    aliases = ["x=Vi(3)", "y=Vj(3)", "a=Vj(2)", "s=Vi(1)", "t=Vj(1)"]
    op = redcomp.numpy.KernelSolve(formula, aliases, "a", axis=1)
    options: dict[str, Any] = {"alpha": 1e-3, "eps": 1e-9, "return_info": True}
    with_it, info = op(x, x, b, s, s, **options)
    _, plain = op(x, x, b, s, s, precondition=False, **options)
    assert 3 * info.iterations < plain.iterations
    exact = np.linalg.solve(kernel(x, 8.0) * s * s.T + 1e-3 * np.eye(N), b)
    np.testing.assert_allclose(with_it, exact, rtol=0, atol=1e-5 * abs(exact).max())


def test_preconditioner_of_each_component() -> None:
    """Without it, components of scales 1 and 1e4 that a rotation mixes would take many steps."""
    x, b, _ = sample()
    aliases = ["x=Vi(3)", "y=Vj(3)", "a=Vj(2)", "A=Pm(4)"]
    op = redcomp.numpy.KernelSolve(
        "Exp(-50*SqDist(x,y))*Concat((Extract(A,0,2)|a),(Extract(A,2,2)|a))", aliases, "a", axis=1
    )
    A = np.array([1e4, 1.0, 1.0, 1.0])
    _, info = op(x, x, b, A, return_info=True)
    _, plain = op(x, x, b, A, return_info=True, precondition=False)
    assert 3 * info.iterations < plain.iterations


def test_formula_that_introduces_a_variable_itself() -> None:
    x, b, g = sample()
    formula = "Exp(-SqDist(x,Var(3,3,1))*g)*a"
    op = redcomp.numpy.KernelSolve(formula, ["x=Vi(3)", "a=Vj(2)", "g=Pm(1)"], "Var(1,2,1)", axis=1)
    assert op.diagonal is None
    exact = np.linalg.solve(kernel(x, g) + 0.5 * np.eye(N), b)
    np.testing.assert_allclose(op(x, b, g, x, alpha=0.5, eps=1e-10), exact, rtol=0, atol=1e-8)


def test_eps_is_absolute_and_rtol_relative() -> None:
    x, b, g = sample()
    A = kernel(x, g) + 0.5 * np.eye(N)
    for scale in (1e-3, 1.0, 1e3):
        solution, info = solver()(x, x, scale * b, g, alpha=0.5, eps=1e-4, return_info=True)
        residual = scale * b - A @ solution
        true = np.sqrt((residual**2).mean(axis=0)).max()
        assert true <= 1e-4
        assert info.residual == pytest.approx(true, rel=1e-6)
        relative = np.linalg.norm(residual, axis=0) / np.linalg.norm(scale * b, axis=0)
        assert info.relative_residual == pytest.approx(relative.max(), rel=1e-6)
        _, info = solver()(x, x, scale * b, g, alpha=0.5, eps=0, rtol=1e-5, return_info=True)
        assert info.relative_residual <= 1e-5
        assert info.relative_residual > 1e-8
    with pytest.warns(ConvergenceWarning, match="no better than zero"):
        zeros, info = solver()(x, x, 1e-9 * b, g, alpha=0.5, return_info=True)
    assert info.iterations == 0
    assert not zeros.any()


def test_sizes_at_the_ends_of_float32() -> None:
    x, b, g = sample(np.float32)
    exact = np.linalg.solve(kernel(x, g) + 0.5 * np.eye(N), b.astype(np.float64))
    for scale in (np.float32(1e-30), np.float32(1e30)):
        solution = solver()(x, x, scale * b, g, alpha=0.5, eps=0, rtol=1e-6) / scale
        np.testing.assert_allclose(solution, exact, rtol=0, atol=1e-5 * abs(exact).max())


def test_no_rows() -> None:
    x, b, g = sample(n=0)
    solution, info = solver()(x, x, b, g, return_info=True)
    assert solution.shape == (0, 2)
    assert (info.iterations, info.residual, info.converged) == (0, 0.0, True)


@pytest.mark.parametrize("face", [redcomp.numpy, redcomp.torch])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("precondition", [False, True])
def test_matrices_that_are_not_symmetric_warn(face: Any, dtype: Any, precondition: bool) -> None:
    """And no others do, however large or small the condition number."""
    x, b, g = sample(dtype)
    given = torch.from_numpy if face is redcomp.torch else np.asarray
    solve = solver(face)
    moved = x * np.asarray([1.2, 1, 1], dtype)
    with pytest.warns(ConvergenceWarning) as caught:
        solve(*map(given, (x, moved, b, g)), alpha=3.0, precondition=precondition)
    assert "K is not symmetric" in str(caught[0].message)
    assert {warning.filename for warning in caught} == {__file__}
    for scale, alpha in ((1.0, 0.5), (50.0, 1e-3), (0.3, 1e-3), (1.0, 1e3)):
        points = scale * x
        same = map(given, (points, points.copy(), b, g))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, info = solve(*same, alpha=alpha, precondition=precondition, return_info=True)
        assert info.is_symmetric


# -- when it does not converge ---------------------------------------------------------------------


def test_maxiter_warns_and_gives_the_last_iterate() -> None:
    x, b, g = sample()
    with pytest.warns(ConvergenceWarning, match=r"after 3 iterations because maxiter was reached"):
        solution, info = solver()(x, x, b, g, alpha=0.5, maxiter=3, return_info=True)
    assert (info.iterations, info.converged) == (3, False)
    A = kernel(x, g) + 0.5 * np.eye(N)
    residual = np.sqrt(((b - A @ solution) ** 2).mean(axis=0)).max()
    assert info.residual == pytest.approx(residual)
    assert residual < np.sqrt((b**2).mean())


def test_ill_conditioned_system_warns() -> None:
    """A wide Gaussian has eigenvalues far below rounding, and b is not in its range."""
    x, b, _ = sample(n=100)
    with pytest.warns(ConvergenceWarning, match=r"residual is \d"):
        _, info = solver()(x, x, b, np.array([0.01]), alpha=0.0, return_info=True)
    assert not info.converged
    assert info.residual > 1e-6


def test_system_beyond_float32_warns() -> None:
    """The same system is solved in float64, where rounding leaves more digits."""
    x, b, _ = sample(n=100)
    aliases = [*COLUMNS[:3], "g=Pm(1)"]
    op = redcomp.numpy.KernelSolve("Inv(1 + g*SqDist(x,y))*a", aliases, "a", axis=1)
    x32, b32 = x.astype(np.float32), b.astype(np.float32)
    with pytest.warns(ConvergenceWarning, match="rounding allows no more.*use float64"):
        _, info = op(x32, x32, b32, np.float32([0.01]), return_info=True)
    assert not info.converged
    _, info = op(x, x, b, np.array([0.01]), alpha=1e-6, return_info=True)
    assert info.converged


def test_float32_that_cannot_reach_eps_does_not_warn() -> None:
    """An eps far below float32's rounding is met as well as float32 can meet it."""
    x, b, g = sample(np.float32, n=200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution, info = solver()(x, x, b, g, alpha=0.01, eps=1e-12, return_info=True)
    assert info.converged
    assert info.residual > 1e-12
    exact = np.linalg.solve(kernel(x, g) + 0.01 * np.eye(200), b.astype(np.float64))
    np.testing.assert_allclose(solution, exact, rtol=0, atol=2e-3 * abs(exact).max())


@pytest.mark.sampled(8)
@pytest.mark.parametrize("precondition", [False, True])
@pytest.mark.parametrize("face", [redcomp.numpy, redcomp.torch])
def test_not_positive_definite_is_an_error(face: Any, precondition: bool) -> None:
    arguments = [a if face is redcomp.numpy else torch.tensor(a) for a in sample()]
    x, b, g = arguments
    negative = face.KernelSolve("-" + GAUSS, COLUMNS, "a", axis=1)
    indefinite = face.KernelSolve("(x|y)*a - a*g", COLUMNS, "a", axis=1)
    for op in (negative, indefinite):
        with pytest.raises(SolverError, match="not positive definite"):
            op(x, x, b, g, alpha=1e-3, precondition=precondition)
    with pytest.raises(SolverError, match="not positive definite"):
        solver(face)(x, x, b, g, alpha=-2.0, precondition=precondition)


def test_zero_operator_is_an_error() -> None:
    x, b, g = sample()
    op = redcomp.numpy.KernelSolve("0*(x|y)*a*g", COLUMNS, "a", axis=1)
    with pytest.raises(SolverError, match="not positive definite"):
        op(x, x, b, g, alpha=0.0)
    np.testing.assert_allclose(op(x, x, b, g, alpha=2.0), b / 2, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_an_error(bad: float) -> None:
    x, b, g = sample()
    for position in range(3):
        arguments = [x.copy(), b.copy(), g.copy()]
        arguments[position].flat[0] = bad
        if position == 2 and bad == np.inf:
            continue  # exp(-inf * 0) is NaN, exp(-inf) is 0: caught below as NaN
        with pytest.raises(SolverError, match="NaN or infinity"):
            solver()(arguments[0], arguments[0], arguments[1], arguments[2], alpha=0.5)
    with pytest.raises(SolverError, match="NaN or infinity"):
        solver()(x, x, b, g, alpha=bad)


# -- wrong arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "unknown", "axis", "message"),
    [
        ("Exp(-SqDist(x,y))*a*a", "a", 1, "must be linear in 'a'"),
        ("Exp(-SqDist(x,y))*a + 1", "a", 1, "must be linear in 'a'"),
        ("Exp(-SqDist(x,y))*Exp(a)", "a", 1, "must be linear in 'a'"),
        ("Exp(-SqDist(x,y))*Floor(a)", "a", 1, "must be linear in 'a'"),
        ("Exp(-SqDist(x,y))*Abs(a)", "a", 1, "must be linear in 'a'"),
        ("IfElse(a, x, y)*a", "a", 1, "must be linear in 'a'"),
        ("x*y", "a", 1, "must be linear in 'a'"),
        ("(x|y)*Sum(a)", "a", 1, "dimension 1, but 'a' has 2"),
        ("(x|y)*a", "a", 0, "'a' must be a variable that is reduced over: Vi for axis=0"),
        ("(x|y)*a", "x", 1, "'x' must be a variable that is reduced over: Vj for axis=1"),
        ("(x|y)*a", "b", 1, "varinvalias 'b' is none of the variables: x, y, a"),
        ("(x|y)*a", "Var(2,3,1)", 1, "is none of the variables"),
        ("(x|y)*", "a", 1, "expected"),
    ],
)
def test_formulas_that_cannot_be_solved(
    formula: str, unknown: str, axis: int, message: str
) -> None:
    with pytest.raises(FormulaError, match=message.replace("(", r"\(").replace(")", r"\)")):
        redcomp.numpy.KernelSolve(formula, ["x=Vi(2)", "y=Vj(2)", "a=Vj(2)"], unknown, axis=axis)


CALLS: dict[str, tuple[Callable[[list[Array]], list[Array]], dict[str, Any], str]] = {
    "count": (lambda a: a[:3], {}, "expected 4 arguments"),
    "list": (lambda a: [a[0].tolist(), *a[1:]], {}, "argument 'x' must be a NumPy array"),
    "square": (lambda a: [a[0], a[1][1:], *a[2:]], {}, "not square: argument 'x' has 60 rows"),
    "vector": (lambda a: [a[0], a[1], a[2][:, 0], a[3]], {}, r"'a' must have shape \(N, 2\)"),
    "width": (lambda a: [a[0], a[1], a[2][:, :1], a[3]], {}, r"'a' must have shape \(N, 2\)"),
    "integers": (lambda a: [a[0], a[1], a[2].astype(int), a[3]], {}, "'a' has dtype int64"),
    "mixed": (lambda a: [a[0], a[1], a[2].astype(np.float32), a[3]], {}, "dtype"),
    "points": (lambda a: [a[0][:, :2], *a[1:]], {}, "argument 'x' must have shape"),
    "alpha": (lambda a: a, {"alpha": np.ones(3)}, "alpha must be .* that broadcast"),
    "eps": (lambda a: a, {"eps": -1.0}, "eps must be"),
    "rtol": (lambda a: a, {"rtol": np.nan}, "rtol must be"),
    "maxiter": (lambda a: a, {"maxiter": 0}, "maxiter must be"),
    "half an iteration": (lambda a: a, {"maxiter": 2.5}, "maxiter must be"),
    "backend": (lambda a: a, {"backend": "TPU"}, "backend must be"),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments_are_named(name: str) -> None:
    change, options, message = CALLS[name]
    x, b, g = sample()
    with pytest.raises(ArgumentError, match=message):
        solver()(*change([x, x, b, g]), **options)


def test_pickle_copy_and_repr() -> None:
    x, b, g = sample()
    op = solver()
    expected = op(x, x, b, g, alpha=0.5)
    for other in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
        assert isinstance(other, KernelSolveBase)
        assert repr(other) == repr(op)
        np.testing.assert_array_equal(other(x, x, b, g, alpha=0.5), expected)
    assert repr(op).startswith("KernelSolve('Exp(-SqDist(x,y)*g)*a', ['x=Vi(3)'")


# -- gradients -------------------------------------------------------------------------------------


def leaves(*arrays: Array) -> list[torch.Tensor]:
    return [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]


def dense_solve(
    x: torch.Tensor, b: torch.Tensor, g: torch.Tensor, alpha: torch.Tensor
) -> torch.Tensor:
    """The same as KernelSolve, in dense PyTorch; alpha a number or one a row."""
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    shift = torch.diag(alpha.reshape(-1).expand(len(x)))
    solution: torch.Tensor = torch.linalg.solve(torch.exp(-g * distances) + shift, b)
    return solution


def derivatives(
    solve: Callable[..., torch.Tensor], sources: list[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Gradients of a functional of the solution, and gradients of a functional of those."""
    solution = solve(*sources)
    weights = torch.linspace(-1, 2, solution.numel(), dtype=torch.float64).reshape(solution.shape)
    value = (torch.sin(solution) * weights).sum()
    first = torch.autograd.grad(value, sources, create_graph=True)
    second = torch.autograd.grad(sum((q**2).sum() for q in first), sources)
    return list(first), list(second)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("alpha", [0.5, np.linspace(0.3, 2.0, 25)[:, None]], ids=["number", "rows"])
def test_gradients_of_first_and_second_order(axis: int, alpha: Any) -> None:
    x, b, g = sample(n=25)
    op = solver(redcomp.torch, axis)
    sources = leaves(x, b, g, alpha)
    found = derivatives(lambda x, b, g, alpha: op(x, x, b, g, alpha=alpha, eps=1e-13), sources)
    exact = derivatives(dense_solve, sources)
    for order in range(2):
        for ours, theirs in zip(found[order], exact[order], strict=True):
            assert ours.shape == theirs.shape
            torch.testing.assert_close(
                ours, theirs, rtol=1e-7, atol=1e-8 * float(theirs.detach().abs().max())
            )


def test_gradient_of_some_arguments_without_recording() -> None:
    x, b, g = sample(n=25)
    op = solver(redcomp.torch)
    for chosen in ([0], [1], [2], [3], [0, 3]):
        sources = leaves(x, b, g, 0.5)
        for n, source in enumerate(sources):
            source.requires_grad_(n in chosen)
        op(sources[0], sources[0], *sources[1:3], alpha=sources[3], eps=1e-13).sum().backward()
        wanted = leaves(x, b, g, 0.5)
        dense_solve(*wanted).sum().backward()
        for n, (source, exact) in enumerate(zip(sources, wanted, strict=True)):
            if n in chosen:
                assert source.grad is not None
                assert not source.grad.requires_grad
                torch.testing.assert_close(source.grad, exact.grad, rtol=1e-7, atol=1e-9)
            else:
                assert source.grad is None


def test_gradients_of_an_operator_that_mixes_components() -> None:
    formula, aliases = COUPLED["matrix"]
    op = redcomp.torch.KernelSolve(formula, aliases, "a", axis=1)
    random = np.random.default_rng(4)
    sources = leaves(
        3 * random.random((12, 1)), random.standard_normal((12, 2)), [2.0, 0.5, 0.5, 1]
    )

    def dense(x: torch.Tensor, b: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        K = torch.kron(torch.exp(-((x - x.T) ** 2)), A.reshape(2, 2))
        solution: torch.Tensor = torch.linalg.solve(
            K + 0.3 * torch.eye(24, dtype=K.dtype), b.reshape(-1)
        )
        return solution.reshape(12, 2)

    # A functional of the solution is differentiated in all entries of A, also where A would not be
    # symmetric; there the two ways differ, so only the symmetric part of A's gradient is compared.
    found, _ = derivatives(lambda x, b, A: op(x, x, b, A, alpha=0.3, eps=1e-13), sources)
    exact, _ = derivatives(dense, sources)
    torch.testing.assert_close(found[0], exact[0], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(found[1], exact[1], rtol=1e-7, atol=1e-8)
    ours, theirs = (m.reshape(2, 2) + m.reshape(2, 2).T for m in (found[2], exact[2]))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


def test_small_cotangents_keep_their_accuracy() -> None:
    """A loss scaled by 1e-12 is far below eps, which is absolute; its gradient is as accurate."""
    x, b, g = sample(n=25)
    grads = []
    for scale in (1.0, 1e-12):
        sources = leaves(x, b, g)
        (solver(redcomp.torch)(sources[0], *sources, alpha=0.5).sum() * scale).backward()
        grads.append([None if s.grad is None else s.grad / scale for s in sources])
    for large, small in zip(*grads, strict=True):
        assert large is not None
        assert large.abs().max() > 1e-3
        torch.testing.assert_close(small, large, rtol=1e-9, atol=1e-12)


def test_gradients_in_float32() -> None:
    x, b, g = sample(n=25)
    sources = [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in (x, b, g)]
    alpha = torch.tensor(0.5, requires_grad=True)
    solver(redcomp.torch)(sources[0], *sources, alpha=alpha).sum().backward()
    exact = leaves(x, b, g, 0.5)
    dense_solve(*exact).sum().backward()
    for ours, theirs in zip([*sources, alpha], exact, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert ours.grad.dtype == torch.float32
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


def test_info_beside_gradients() -> None:
    x, b, g = leaves(*sample(n=25))
    solution, info = solver(redcomp.torch)(x, x, b, g, alpha=0.5, return_info=True)
    assert solution.requires_grad
    assert info.converged
    assert 0 < info.iterations < 250
    with torch.no_grad():
        assert not solver(redcomp.torch)(x, x, b, g, alpha=0.5).requires_grad
