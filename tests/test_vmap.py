"""torch.vmap and what is made of it, beside dense PyTorch: needs the CPU's backend and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd.functional import hessian as autograd_hessian
from torch.autograd.functional import jacobian as autograd_jacobian
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from redcomp.errors import ArgumentError
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING
from redcomp.torch import Genred, KernelSolve

# PyTorch's forward mode, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

Tensor = torch.Tensor
Function = Callable[..., Any]

M, N, D, B = 4, 5, 2, 3

ALIASES = [f"x = Vi({D})", f"y = Vj({D})", "b = Vj(1)", "p = Pm(1)", "w = Vij(1)"]
TABLE = ["t = Pm(4)", "k = Vj(1, int)", f"x = Vi({D})", f"y = Vj({D})"]


def arguments(*batch: int) -> list[Tensor]:
    """x, y, b, p, w; p is positive."""
    random = torch.Generator().manual_seed(len(batch))
    shapes = [(M, D), (N, D), (N, 1), (1,), (M, N, 1)]
    made = [torch.rand(*batch, *s, generator=random, dtype=torch.float64) for s in shapes]
    return [t + 0.5 * (n == 3) for n, t in enumerate(made)]


def squares(x: Tensor, y: Tensor, p: Tensor) -> Tensor:
    """(M, N): p |x - y|^2."""
    return p[..., None] * ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def gaussian(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> Tensor:
    return (torch.exp(-squares(x, y, p)) * w[..., 0]) @ b


def transposed(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> Tensor:
    return (torch.exp(-squares(x, y, p)) * w[..., 0] * b[..., 0][..., None, :]).sum(-2)[..., None]


def several(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    return squares(x, y, p) @ b, (x[..., :, None, :] * y[..., None, :, :]).sum(-2) + 0 * w.sum()


def logarithm(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> Tensor:
    return torch.logsumexp(-squares(x, y, p) * w[..., 0] + b.mT, -1, keepdim=True)


def softmax(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> Tensor:
    return torch.softmax(-squares(x, y, p) * w[..., 0], -1) @ b


def smallest(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> Tensor:
    return (squares(x, y, p) * w[..., 0] * b.mT).min(-1, keepdim=True).values


def largest(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> Tensor:
    products = x[..., :, None, :] * torch.sin(y)[..., None, :, :] * w
    return products.max(-2).values * p[..., None] + 0 * b.sum()


def two_smallest(x: Tensor, y: Tensor, b: Tensor, p: Tensor, w: Tensor) -> Tensor:
    return (squares(x, y, p) * w[..., 0] * b.mT).topk(2, largest=False).values


# Each with all its arguments: what is reduced has no `Vij` where there are several formulas.
PROGRAMS: dict[str, tuple[Function, Function]] = {
    "Sum": (Genred("Exp(-p * SqDist(x, y)) * b * w", ALIASES, axis=1), gaussian),
    "axis 0": (Genred("Exp(-p * SqDist(x, y)) * b * w", ALIASES, axis=0), transposed),
    "two": (
        Genred(["p * SqDist(x, y) * b", "x * y + 0 * w"], ALIASES, axis=1),
        several,
    ),
    "LogSumExp": (Genred("b - p * SqDist(x, y) * w", ALIASES, "LogSumExp", axis=1), logarithm),
    "SumSoftMaxWeight": (
        Genred("-p * SqDist(x, y) * w", ALIASES, "SumSoftMaxWeight", axis=1, formula2="b"),
        softmax,
    ),
    "Min": (Genred("p * SqDist(x, y) * w * b", ALIASES, "Min", axis=1), smallest),
    "Max": (Genred("p * x * Sin(y) * w + 0 * b", ALIASES, "Max", axis=1), largest),
    "KMin": (Genred("p * SqDist(x, y) * w * b", ALIASES, "KMin", axis=1, opt_arg=2), two_smallest),
}

every_program = pytest.mark.parametrize("name", PROGRAMS)


def check(name: str, transformed: Callable[[Function], Any]) -> None:
    """What a transform gives for our function and for the dense one."""
    ours, dense = (transformed(function) for function in PROGRAMS[name])
    torch.testing.assert_close(ours, dense, rtol=1e-8, atol=1e-9)


def total(function: Function) -> Function:
    """The sum of the squares of all results."""

    def of_results(*args: Tensor) -> Tensor:
        results = function(*args)
        results = results if isinstance(results, tuple) else (results,)
        return sum(((r**2).sum() for r in results), torch.zeros((), dtype=torch.float64))

    return of_results


# -- the mapped axis --

IN_DIMS: list[tuple[int | None, ...]] = [
    (0, 0, 0, 0, 0),
    (0, None, None, None, None),
    (None, 0, None, None, None),
    (None, None, None, 0, None),
    (None, None, None, None, 0),
    (1, 2, -1, 1, 2),
    (-1, None, 0, -1, None),
]


@pytest.mark.parametrize("in_dims", IN_DIMS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_any_axis_of_any_argument_is_mapped(
    in_dims: tuple[int | None, ...], batch: tuple[int, ...]
) -> None:
    given = [
        mapped.movedim(0, axis) if axis is not None else plain
        for mapped, plain, axis in zip(
            arguments(B, *batch), arguments(*batch), in_dims, strict=True
        )
    ]
    check("Sum", lambda function: vmap(function, in_dims)(*given))
    check("Sum", lambda function: vmap(function, in_dims, out_dims=-1, chunk_size=2)(*given))


def test_arguments_have_different_numbers_of_axes() -> None:
    """A batch of some arguments, a mapped axis of others."""
    (x, *_), (_, y, *_), (_, _, b, p, w) = arguments(B), arguments(2), arguments(B, 2)
    check("Sum", lambda f: vmap(f, (0, None, 0, 0, 0))(x, y, b, p, w))
    check("Sum", lambda f: vmap(f, (0, None, 0, None, 0))(x, y, b, p[0], w))


def test_arguments_that_lack_axes() -> None:
    """Shapes are read without the mapped axis, however they are given."""
    ours = Genred("Exp(-p * SqDist(x, y)) * b", ["x = Vi(1)", "y = Vj(1)", *ALIASES[2:4]], axis=1)
    random = torch.Generator().manual_seed(0)
    shapes = [(M,), (N,), (N,), ()]
    given = [torch.rand(B, *s, generator=random, dtype=torch.float64) for s in shapes]

    def dense(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
        return torch.exp(-p * (x[:, None] - y) ** 2) @ b[:, None]

    for transform in (
        lambda f: vmap(f)(*given),
        lambda f: vmap(vmap(f, (0, None, None, None)), (None, 0, 0, 0), 1)(*given),
        lambda f: vmap(grad(total(f), (0, 1, 2, 3)))(*given),
    ):
        torch.testing.assert_close(transform(ours), transform(dense))


@pytest.mark.parametrize("name", ["Sum", "Min"])
def test_nested(name: str) -> None:
    x, y, b, p, w = arguments(B, 2)
    check(name, lambda f: vmap(vmap(f))(x, y, b, p, w))
    check(name, lambda f: vmap(vmap(f, (0, None, 0, 0, 0)), (0, 0, None, 0, 0))(
        x, y[:, 0], b[0], p, w))  # fmt: skip


@pytest.mark.sampled(8)
@every_program
def test_vmap_with_gradients(name: str) -> None:
    given = arguments(B)
    wanted = tuple(range(5))
    check(name, lambda f: vmap(f)(*given))
    check(name, lambda f: vmap(grad(total(f), wanted))(*given))
    check(name, lambda f: grad(total(vmap(f)), wanted)(*given))
    check(name, lambda f: jvp(vmap(f), tuple(given), tuple(t.sin() for t in given)))


@every_program
@pytest.mark.sampled(8)
def test_jacobians(name: str) -> None:
    given = arguments()
    wanted = tuple(range(5))
    check(name, lambda f: jacrev(f, wanted)(*given))
    check(name, lambda f: jacfwd(f, wanted)(*given))


@every_program
@pytest.mark.sampled(8)
def test_hessians(name: str) -> None:
    given = arguments()
    check(name, lambda f: hessian(total(f), (0, 3))(*given))
    check(name, lambda f: jacrev(jacrev(total(f)), 1)(*given))


def test_a_batch_of_hessians_and_a_third_derivative() -> None:
    given = arguments(2)
    check("Sum", lambda f: vmap(hessian(total(f)))(*given))
    check("Sum", lambda f: jacfwd(hessian(total(f), 3), 3)(*arguments()))


@every_program
@pytest.mark.sampled(8)
def test_the_older_vmap(name: str) -> None:
    """What `torch.autograd` maps cotangents and tangents with."""
    given = tuple(arguments())

    def batched(function: Function) -> Any:
        moved = [t.clone().requires_grad_() for t in given[:2]]
        results = function(*moved, *given[2:])
        result = results[0] if isinstance(results, tuple) else results
        cotangents = torch.eye(result.numel(), dtype=torch.float64).reshape(-1, *result.shape)
        return torch.autograd.grad(result, moved, cotangents, is_grads_batched=True)

    check(name, batched)
    check(name, lambda f: autograd_jacobian(f, given, vectorize=True))
    check(name, lambda f: autograd_hessian(total(f), given, vectorize=True))
    if name != "two":  # PyTorch's own tuple of results has constants, which it does not take
        forward = {"vectorize": True, "strategy": "forward-mode"}
        check(name, lambda f: autograd_jacobian(f, given, **forward))


def test_batched_gradients_that_are_differentiated_again() -> None:
    x, *rest = arguments()
    identity = torch.eye(M, dtype=torch.float64)[..., None]

    def twice(function: Function) -> Any:
        moved = x.clone().requires_grad_()
        rows = torch.autograd.grad(
            function(moved, *rest), moved, identity, is_grads_batched=True, create_graph=True
        )
        return torch.autograd.grad((rows[0] ** 2).sum(), moved)

    check("Sum", twice)


# -- without values, with tables, with integers --


def test_places_and_integers() -> None:
    x, y, *_ = arguments(B)
    labels = torch.arange(B * N).reshape(B, N, 1) % 3
    place = Genred("SqDist(x, y)", ALIASES[:2], "ArgMin", axis=1)
    expected = ((x[:, :, None] - y[:, None]) ** 2).sum(-1).argmin(-1)[..., None]
    torch.testing.assert_close(vmap(place)(x, y), expected)
    weighted = Genred("SqDist(x, y) * k", [*ALIASES[:2], "k = Vj(1, int)"], axis=1)
    for given in ((x, y), (x.float(), y.float())):  # in float32, int64 is looked at
        dense = ((given[0][:, :, None] - given[1][:, None]) ** 2).sum(-1) @ labels.to(
            given[0].dtype
        )
        torch.testing.assert_close(vmap(weighted)(*given, labels), dense)
        ours = grad(lambda *a: vmap(weighted)(*a).sum())(*given, labels)
        moved = given[0].clone().requires_grad_()
        squared = ((moved[:, :, None] - given[1][:, None]) ** 2).sum(-1)
        (expected,) = torch.autograd.grad((squared @ labels.to(moved.dtype)).sum(), moved)
        torch.testing.assert_close(ours, expected)
    with pytest.raises(ArgumentError, match="'k' has the value 4294967296"):
        vmap(weighted)(x.float(), y.float(), labels + 2**32)


def test_lookups_in_tables() -> None:
    x, y, *_ = arguments(B)
    table = torch.rand(B, 4, dtype=torch.float64)
    index = torch.arange(B * N).reshape(B, N, 1) % 4
    ours = Genred("Exp(-Gather(t, k) * SqDist(x, y))", TABLE, axis=1)

    def dense(t: Tensor, k: Tensor, x: Tensor, y: Tensor) -> Tensor:
        weights = ((k == torch.arange(4)) * t).sum(-1)
        return torch.exp(-weights * ((x[:, None] - y) ** 2).sum(-1)).sum(-1, keepdim=True)

    def both(transformed: Callable[[Function], Any]) -> None:
        torch.testing.assert_close(transformed(ours), transformed(dense))

    both(lambda f: vmap(f)(table, index, x, y))
    both(lambda f: vmap(grad(total(f)))(table, index, x, y))
    both(lambda f: vmap(grad(total(f)), (0, None, 0, None))(table, index[0], x, y[0]))
    both(lambda f: vmap(grad(total(f)), (None, 0, None, 0))(table[0], index, x[0], y))
    both(lambda f: grad(lambda *a: vmap(total(f))(*a).sum())(table, index, x, y))
    both(lambda f: jacfwd(f)(table[0], index[0], x[0], y[0]))
    both(lambda f: hessian(total(f))(table[0], index[0], x[0], y[0]))


def test_extrema_of_rows_without_columns() -> None:
    """What is infinite there reaches no gradient."""
    ours = Genred("1 / (x - y)", ["x = Vi(1)", "y = Vj(1)"], "Min", axis=1)
    x = torch.tensor([[0.5], [float("nan")], [2.5]], dtype=torch.float64)
    y = torch.tensor([[0.25], [1.5]], dtype=torch.float64)
    expected = torch.tensor([[-1.0], [0.0], [-1 / 2.25**2]], dtype=torch.float64)
    found = grad(lambda x: ours(x, y)[[0, 2]].sum())(x)
    torch.testing.assert_close(found, expected)
    batch = torch.stack([x, x + 0])
    torch.testing.assert_close(
        vmap(grad(lambda x: ours(x, y)[[0, 2]].sum()))(batch), torch.stack([expected] * 2)
    )
    none = y[:0]
    assert vmap(lambda x: ours(x, none))(batch).isposinf().all()
    assert (vmap(grad(lambda x: (ours(x, none) / 2**9).sum()))(batch) == 0).all()


@every_program
@pytest.mark.sampled(8)
def test_transforms_that_are_over(name: str) -> None:
    """What they have recorded is differentiated by plain autograd."""

    def again(function: Function) -> Any:
        moved = [t.requires_grad_() for t in arguments()]
        value, pull = torch.func.vjp(total(function), *moved)
        gradients = pull(torch.ones_like(value))
        norm = sum((g**2).sum() for g in gradients)
        return torch.autograd.grad(value + norm, moved)

    check(name, again)


# -- per-sample gradients --


class Model(torch.nn.Module):
    """Distances to points that are learnt, after a map that is learnt."""

    def __init__(self, call: Function) -> None:
        super().__init__()
        self.call = call
        self.map = torch.nn.Linear(D, D, dtype=torch.float64)
        self.points = torch.nn.Parameter(torch.rand(N, D, dtype=torch.float64))

    def forward(self, x: Tensor) -> Any:
        return self.call(self.map(x), self.points)


def test_gradients_of_each_sample() -> None:
    def dense(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-((x[:, None] - y) ** 2).sum(-1)).sum(-1, keepdim=True)

    model = Model(Genred("Exp(-SqDist(x, y))", ALIASES[:2], axis=1))
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    samples, targets = arguments(B)[0], torch.rand(B, M, 1, dtype=torch.float64)
    found = []
    for call in (model.call, dense):
        model.call = call

        def loss(parameters: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
            result: Tensor = functional_call(model, parameters, (x,))
            return ((result - target) ** 2).mean()

        found.append(vmap(grad(loss), (None, 0, 0))(parameters, samples, targets))
    torch.testing.assert_close(*found)


# -- options --


def test_ranges_and_out() -> None:
    x, y, *_ = arguments(B)
    call = Genred("SqDist(x, y)", ALIASES[:2], axis=1)
    one = torch.ones(1, dtype=torch.int64)
    rows, columns = torch.tensor([[0, M]]), torch.tensor([[1, N]])
    ranges = (rows, one, columns, columns, one, rows)
    expected = ((x[:, :, None] - y[:, None, 1:]) ** 2).sum(-1).sum(-1, keepdim=True)
    torch.testing.assert_close(vmap(lambda x, y: call(x, y, ranges=ranges))(x, y), expected)
    gradients = vmap(grad(lambda x, y, *r: call(x, y, ranges=r).sum()), (0, 0, *[None] * 6))
    moved = x.clone().requires_grad_()
    squared = ((moved[:, :, None] - y[:, None, 1:]) ** 2).sum()
    torch.testing.assert_close(gradients(x, y, *ranges), torch.autograd.grad(squared, moved)[0])
    mapped = [torch.stack([r] * B) for r in ranges]
    with pytest.raises(ArgumentError, match="ranges cannot be mapped by vmap"):
        vmap(lambda x, y, *r: call(x, y, ranges=r))(x, y, *mapped)
    out = torch.zeros(B, M, 1, dtype=torch.float64)
    vmap(lambda x, y, out: call(x, y, out=out))(x, y, out)
    torch.testing.assert_close(out, ((x[:, :, None] - y[:, None]) ** 2).sum(-1).sum(-1)[..., None])
    with pytest.raises(ArgumentError, match="out cannot hold the result"):
        vmap(lambda x, y: call(x, y, out=out[0]))(x, y)


# -- KernelSolve --


def test_solves() -> None:
    solve = KernelSolve("Exp(-SqDist(x, y)) * b", ALIASES[:3], "b", axis=1)

    def ours(x: Tensor, b: Tensor, alpha: Tensor) -> Any:
        return solve(x, x, b, alpha=alpha, eps=1e-13)

    def dense(x: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
        kernel = torch.exp(-squares(x, x, torch.ones(1, dtype=x.dtype)))
        # torch.linalg.solve has wrong derivatives forward, under two vmaps (PyTorch 2.13).
        return torch.linalg.inv(kernel + torch.diag_embed(alpha[..., 0])) @ b

    def both(transformed: Callable[[Function], Any]) -> None:
        torch.testing.assert_close(transformed(ours), transformed(dense), rtol=1e-6, atol=1e-8)

    x, _, b, *_ = arguments(B)
    b = torch.cat([b, b], -2)[:, :M]
    alpha = b.cos() + 0.5
    given, wanted = (x, b, alpha), (0, 1, 2)
    one = (x[0], b[0], alpha[0])
    both(lambda f: vmap(f)(*given))
    both(lambda f: vmap(f, (0, None, None))(x, *one[1:]))
    both(lambda f: vmap(f, (None, -1, None))(one[0], b.movedim(0, -1), one[2]))
    both(lambda f: vmap(f, (None, None, 1))(*one[:2], alpha.movedim(0, 1)))
    both(lambda f: vmap(grad(total(f), wanted))(*given))
    both(lambda f: grad(total(vmap(f)), wanted)(*given))
    both(lambda f: jacrev(f, wanted)(*one))
    both(lambda f: jacrev(jacrev(total(f)), wanted)(*one))
    both(lambda f: autograd_hessian(total(f), one, vectorize=True))
    both(lambda f: vmap(vmap(f, (None, 0, None)), (0, None, 0), 1)(*given))
    both(lambda f: vmap(vmap(jacfwd(f, wanted), (0, None, None)), (None, 0, 0))(*given))


# -- all reductions --


@pytest.mark.sampled(60)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spelling", REDUCTIONS_BY_SPELLING)
def test_entries_are_what_single_calls_give(spelling: str, axis: int) -> None:
    row = REDUCTIONS_BY_SPELLING[spelling]
    formula = "p * x * Sin(y) + y" if row.takes == "vector" else "SqDist(p * x, y)"
    call = Genred(
        formula,
        [*ALIASES[:2], "p = Pm(1)"],
        spelling,
        axis=axis,
        opt_arg=2 if row.keeps else None,
        formula2="x * y" if row.takes == "weights" else None,
    )

    def results(*args: Tensor) -> tuple[Tensor, ...]:
        found = call(*args)
        return found if isinstance(found, tuple) else (found,)

    def loss(*args: Tensor) -> Any:
        return (results(*args)[0] ** 2).sum()

    x, y, _, p, _ = arguments(B)
    functions: list[Function] = [results]
    if row.has_gradient:
        functions.append(grad(loss, (0, 1, 2)))
    for function in functions:
        single = [function(x[n], y[n], p[n]) for n in range(B)]
        expected = tuple(torch.stack(entries) for entries in zip(*single, strict=True))
        torch.testing.assert_close(vmap(function)(x, y, p), expected)
