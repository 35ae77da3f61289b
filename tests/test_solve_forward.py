"""KernelSolve in forward mode, mixed with reverse mode, beside dense float64: CPU, PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.functional import hessian as autograd_hessian
from torch.autograd.functional import jacobian as autograd_jacobian
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vmap

from redcomp.torch import KernelSolve

pytestmark = [
    # PyTorch's forward mode, about itself.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),
    # ... and its `linearize`.
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]

Tensor = torch.Tensor
Function = Callable[..., Any]

ROWS = 4
FORMULA = "Exp(-p * SqDist(x, y)) * b"
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)", "p = Pm(1)"]
EVERY = (0, 1, 2, 3, 4)


def dense(x: Tensor, y: Tensor, b: Tensor, p: Tensor, alpha: Tensor) -> Tensor:
    kernel = torch.exp(-p[..., None] * ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1))
    # Not torch.linalg.solve: its derivative backward over forward lacks a part (PyTorch 2.13).
    return torch.linalg.inv(kernel + torch.diag_embed(alpha[..., 0])) @ b


def transposed(x: Tensor, y: Tensor, b: Tensor, p: Tensor, alpha: Tensor) -> Tensor:
    """Over i: y's rows are those of the matrix."""
    return dense(y, x, b, p, alpha)


def solver(axis: int) -> Function:
    aliases = ALIASES if axis == 1 else [*ALIASES[:2], "b = Vi(1)", ALIASES[3]]
    operation = KernelSolve(FORMULA, aliases, "b", axis=axis)
    return lambda x, y, b, p, alpha: operation(x, y, b, p, alpha=alpha, eps=1e-14)


# Equal points are two tensors: what moves is K's rows or columns alone.
PROGRAMS = {"axis 1": (solver(1), dense), "axis 0": (solver(0), transposed)}
every_program = pytest.mark.parametrize("name", PROGRAMS)


def arguments() -> tuple[Tensor, ...]:
    """x, y, b, p, alpha."""
    random = torch.Generator().manual_seed(0)
    shapes = [(ROWS, 2), (ROWS, 1), (1,), (ROWS, 1)]
    x, b, p, alpha = (torch.rand(s, generator=random, dtype=torch.float64) for s in shapes)
    return x, x.clone(), b, p + 0.5, alpha + 0.5


GIVEN = arguments()
MOVES = tuple(t.sin() for t in GIVEN)
BATCH = tuple(torch.stack([t, 1.25 * t]) for t in GIVEN)


def check(name: str, transformed: Callable[[Function], Any], tolerance: float = 1e-9) -> None:
    found, expected = (transformed(function) for function in PROGRAMS[name])
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def total(function: Function) -> Function:
    return lambda *args: (function(*args) ** 3).sum()


def along(function: Function) -> Function:
    """The tangent of a function of all arguments, as a function of them."""
    return lambda *args: jvp(function, args, MOVES)[1]


def rows(function: Function) -> Function:
    return jacfwd(function, EVERY)


def dual(function: Function, args: tuple[Tensor, ...] = GIVEN) -> tuple[Tensor, Tensor]:
    """The value and the tangent that `torch.autograd.forward_ad` gives, inside of a level."""
    moving = [forward_ad.make_dual(*pair) for pair in zip(args, MOVES, strict=True)]
    value, tangent = forward_ad.unpack_dual(function(*moving))
    assert tangent is not None
    return value, tangent


def plain(function: Function) -> Any:
    with forward_ad.dual_level():
        return dual(function)


def reverse_over_plain(function: Function) -> Any:
    leaves = tuple(t.clone().requires_grad_() for t in GIVEN)
    with forward_ad.dual_level():
        value, tangent = dual(function, leaves)
        return torch.autograd.grad((value + tangent**3).sum(), leaves)


def plain_over_reverse(function: Function) -> Any:
    leaves = tuple(t.clone().requires_grad_() for t in GIVEN)
    with forward_ad.dual_level():
        moving = [forward_ad.make_dual(*pair) for pair in zip(leaves, MOVES, strict=True)]
        gradients = torch.autograd.grad(total(function)(*moving), moving)
        return [forward_ad.unpack_dual(g)[1].detach() for g in gradients]


def plain_over_transform(function: Function) -> Any:
    with forward_ad.dual_level():
        moving = [forward_ad.make_dual(*pair) for pair in zip(GIVEN, MOVES, strict=True)]
        return [forward_ad.unpack_dual(g)[1] for g in grad(total(function), EVERY)(*moving)]


FORWARD = {"vectorize": True, "strategy": "forward-mode"}
TRANSFORMS: dict[str, Callable[[Function], Any]] = {
    "jvp": lambda f: jvp(f, GIVEN, MOVES),
    "linearize": lambda f: linearize(f, *GIVEN)[1](*MOVES),
    "jacfwd": lambda f: rows(f)(*GIVEN),
    "jvp over jvp": lambda f: along(along(f))(*GIVEN),
    "three jvps": lambda f: along(along(along(f)))(*GIVEN),
    "hessian": lambda f: hessian(total(f), EVERY)(*GIVEN),
    "jacfwd over jacfwd": lambda f: jacfwd(rows(f), (0, 3))(*GIVEN),
    "jacrev over jacfwd": lambda f: jacrev(rows(f), (1, 4))(*GIVEN),
    "jvp over a hessian": lambda f: along(hessian(total(f), (0, 3)))(*GIVEN),
    "gradient over a hessian": lambda f: jacrev(hessian(total(f), (1, 4)), (2, 3))(*GIVEN),
    "vmap over jvp": lambda f: vmap(lambda *a: jvp(f, a, MOVES))(*BATCH),
    "jvp over vmap": lambda f: jvp(vmap(f), BATCH, tuple(t.cos() for t in BATCH)),
    "hessians of a batch": lambda f: vmap(hessian(total(f)))(*BATCH),
    "plain": plain,
    "reverse over plain": reverse_over_plain,
    "plain over reverse": plain_over_reverse,
    "plain over a transform": plain_over_transform,
    "the older vmap": lambda f: autograd_jacobian(f, GIVEN, **FORWARD),
    "the older vmap, forward over reverse": lambda f: autograd_hessian(
        total(f), GIVEN, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
}


@every_program
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.sampled(48)
def test_transforms(name: str, transform: str) -> None:
    check(name, TRANSFORMS[transform])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("moving", EVERY)
def test_one_argument_moves(moving: int) -> None:
    def of_one(function: Function) -> Any:
        def of(t: Tensor) -> Any:
            return function(*GIVEN[:moving], t, *GIVEN[moving + 1 :])

        return jvp(of, (GIVEN[moving],), (MOVES[moving],))

    check("axis 1", of_one)


def test_nothing_moves() -> None:
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(PROGRAMS["axis 1"][0](*GIVEN))
    assert found.tangent is None


def test_narrow_numbers() -> None:
    """In float32, alpha being float64; tangents have the solution's dtype."""
    given, moves = (tuple(t.float() for t in ts) for ts in (GIVEN, MOVES))
    operation = KernelSolve(FORMULA, ALIASES, "b", axis=1)

    def ours(x: Tensor, y: Tensor, b: Tensor, p: Tensor, alpha: Tensor) -> Any:
        return operation(x, y, b, p, alpha=alpha.double())

    value, tangent = jvp(ours, given, moves)
    assert value.dtype == tangent.dtype == torch.float32
    _, expected = jvp(dense, GIVEN, MOVES)
    torch.testing.assert_close(tangent.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.thorough
def test_mixed_components() -> None:
    """The transpose of K matters where what is between components is not symmetric."""
    aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(2)", "A = Pm(4)"]
    operation = KernelSolve("Exp(-SqDist(x, y)) * MatVecMult(A, b)", aliases, "b", axis=1)

    def ours(x: Tensor, y: Tensor, b: Tensor, A: Tensor) -> Any:
        return operation(x, y, b, A, alpha=0.3, eps=1e-14)

    def exact(x: Tensor, y: Tensor, b: Tensor, A: Tensor) -> Tensor:
        K = torch.kron(torch.exp(-((x[:, None] - y[None]) ** 2).sum(-1)), A.reshape(2, 2))
        K = K + 0.3 * torch.eye(2 * ROWS, dtype=K.dtype)
        return (torch.linalg.inv(K) @ b.reshape(-1)).reshape(ROWS, 2)

    x, y, b, *_ = GIVEN
    matrix = torch.tensor([2.0, 0.5, 0.5, 1.0], dtype=torch.float64)
    given = (x, y, torch.cat([b, b.cos()], -1), matrix)
    for transform in (jacfwd, lambda f, w: hessian(total(f), w)):
        found, expected = (transform(f, (0, 1, 2, 3))(*given) for f in (ours, exact))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
