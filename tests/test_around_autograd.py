"""What PyTorch does around autograd, beside the same with dense PyTorch: needs the CPU, PyTorch."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd import functional
from torch.autograd.graph import (
    allow_mutation_on_saved_tensors,
    save_on_cpu,
    saved_tensors_hooks,
)
from torch.utils.checkpoint import checkpoint

from redcomp.torch import Genred, KernelSolve, LazyTensor

Tensor = torch.Tensor
Function = Callable[..., Tensor]

M, N = 4, 5
ALIASES = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)", "p = Pm(1)"]


def leaves() -> list[Tensor]:
    """x, y, b, p."""
    random = torch.Generator().manual_seed(0)
    shapes = [(M, 2), (N, 2), (N, 1), (1,)]
    return [torch.rand(s, generator=random, dtype=torch.float64).requires_grad_() for s in shapes]


def squares(x: Tensor, y: Tensor) -> Tensor:
    return ((x[:, None] - y[None]) ** 2).sum(-1)


def dense_solve(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
    kernel = torch.exp(-p * squares(y, y)) + 0.5 * torch.eye(N, dtype=p.dtype)
    return x.sum() * (torch.linalg.inv(kernel) @ b)


_solve = KernelSolve("Exp(-p * SqDist(x, y)) * b", ["x = Vi(2)", *ALIASES[1:]], "b", axis=1)


def lazy(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Any:
    return (-p * LazyTensor(x, 0).sqdist(LazyTensor(y, 1))).exp() @ b


# Each with its dense twin: x, y, b, p to (rows, 1).
PROGRAMS: dict[str, tuple[Function, Function]] = {
    "Sum": (
        Genred("Exp(-p * SqDist(x, y)) * b", ALIASES, axis=1),
        lambda x, y, b, p: torch.exp(-p * squares(x, y)) @ b,
    ),
    "LogSumExp": (  # whose derivatives need its result
        Genred("p * SqDist(x, y) + b", ALIASES, "LogSumExp", axis=1),
        lambda x, y, b, p: (p * squares(x, y) + b.mT).logsumexp(1, keepdim=True),
    ),
    "Min": (
        Genred("p * SqDist(x, y) + b", ALIASES, "Min", axis=1),
        lambda x, y, b, p: (p * squares(x, y) + b.mT).min(1, keepdim=True).values,
    ),
    "LazyTensor": (lazy, lambda x, y, b, p: torch.exp(-p * squares(x, y)) @ b),
    "KernelSolve": (
        lambda x, y, b, p: x.sum() * _solve(y, y, b, p, alpha=0.5, eps=1e-14),
        dense_solve,
    ),
}
every_program = pytest.mark.parametrize("name", PROGRAMS)


def loss(result: Tensor) -> Tensor:
    return (result**3).sum()


def gradients(result: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss(result), given))


def twice(f: Function, given: Sequence[Tensor]) -> list[Tensor]:
    """First and second derivatives."""
    first = torch.autograd.grad(loss(f(*given)), given, create_graph=True)
    return [*first, *torch.autograd.grad(sum((g**2).sum() for g in first), given)]


# -- facilities: each with a function and its leaves --


def retained(f: Function, given: list[Tensor]) -> Any:
    value = loss(f(*given))
    value.backward(retain_graph=True)
    value.backward(inputs=given[:2])
    return [t.grad for t in given]


def third_order(f: Function, given: list[Tensor]) -> Any:
    found = [loss(f(*given))]
    for _ in range(3):
        total = sum((t**2).sum() for t in found)
        found = list(torch.autograd.grad(total, given, create_graph=True))
    return [t.detach() for t in found]


def through_hooks(f: Function, given: list[Tensor]) -> Any:
    """What is saved leaves memory, as bytes."""

    def pack(tensor: Tensor) -> bytes:
        torch.save(tensor, buffer := io.BytesIO())
        return buffer.getvalue()

    with saved_tensors_hooks(pack, lambda kept: torch.load(io.BytesIO(kept))):
        return gradients(f(*given), given)


def on_the_host(f: Function, given: list[Tensor]) -> Any:
    with save_on_cpu():
        return twice(f, given)


def with_mutations(f: Function, given: list[Tensor]) -> Any:
    """Derivatives are those of before what was saved changed."""
    with allow_mutation_on_saved_tensors():
        moved = [1 * t for t in given]
        result = f(*moved)
        for t in moved:
            t.mul_(3)
        return gradients(result, given)


def looked_at(f: Function, given: list[Tensor]) -> Any:
    with torch.autograd.detect_anomaly():
        return twice(f, given)


def again(use_reentrant: bool) -> Callable[..., Any]:
    def checkpointed(f: Function, given: list[Tensor]) -> Any:
        def part(*args: Tensor) -> Tensor:
            return f(*args).sin()

        loss(checkpoint(part, *given, use_reentrant=use_reentrant)).backward()
        return [t.grad for t in given]

    return checkpointed


def hooked(f: Function, given: list[Tensor]) -> Any:
    """Hooks see gradients and change them; those of results too."""
    seen: list[Tensor] = []
    given[0].register_hook(lambda g: 2 * g)
    given[1].register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.clone()))
    result = f(*given)
    result.register_hook(lambda g: g + 1)
    result.retain_grad()
    loss(result).backward()
    return [*[t.grad for t in given], result.grad, *seen]


def of_one_tensor(f: Function, given: list[Tensor]) -> Any:
    """Several arguments are views of one, and one is all of another, which is used again."""
    whole = torch.cat([t.detach().flatten() for t in given]).requires_grad_()
    parts = whole.split([t.numel() for t in given])
    x, _, b, p = (part.view(t.shape) for part, t in zip(parts, given, strict=True))
    return gradients(f(x, torch.cat([x, b[:1] * x[:1]]), b, p), [whole])


def expanded(f: Function, given: list[Tensor]) -> Any:
    x, y, b, p = given
    return gradients(f(x[:1].expand(M, 2), y.mT.contiguous().mT, b[:1].expand(N, 1), p), given)


def batched(f: Function, given: list[Tensor]) -> Any:
    result = f(*given)
    cotangents = torch.eye(len(result), dtype=result.dtype)[..., None]
    return torch.autograd.grad(result, given, cotangents, is_grads_batched=True)


def functionals(f: Function, given: list[Tensor]) -> Any:
    args = tuple(t.detach() for t in given)
    moves = tuple(t.cos() for t in args)
    return [
        functional.vjp(f, args, f(*args).sin()),
        functional.jvp(f, args, moves),
        functional.vhp(lambda *a: loss(f(*a)), args, moves),
        functional.hvp(lambda *a: loss(f(*a)), args, moves),
    ]


def in_threads(f: Function, given: list[Tensor]) -> Any:
    """As in nn.DataParallel: replicas share parameters, and forward runs in a thread for each."""
    results: dict[int, Tensor] = {}

    def work(n: int) -> None:
        results[n] = f(given[0] + n, *given[1:])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(loss(results[n]) for n in range(3))
    return torch.autograd.grad(total, given)


def backward_in_threads(f: Function, given: list[Tensor]) -> Any:
    values = [loss(f(given[0] + n, *given[1:])) for n in range(3)]
    threads = [threading.Thread(target=value.backward) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [t.grad for t in given]


FACILITIES: dict[str, Callable[[Function, list[Tensor]], Any]] = {
    "retain_graph": retained,
    "third order": third_order,
    "saved-tensor hooks": through_hooks,
    "save_on_cpu": on_the_host,
    "allow_mutation_on_saved_tensors": with_mutations,
    "detect_anomaly": looked_at,
    "checkpoint": again(use_reentrant=False),
    "reentrant checkpoint": again(use_reentrant=True),
    "hooks": hooked,
    "views": of_one_tensor,
    "expanded": expanded,
    "is_grads_batched": batched,
    "functional": functionals,
    "threads": in_threads,
    "backward in threads": backward_in_threads,
}


@every_program
@pytest.mark.sampled(40)
@pytest.mark.parametrize("facility", FACILITIES)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_facilities(name: str, facility: str) -> None:
    found, expected = (FACILITIES[facility](f, leaves()) for f in PROGRAMS[name])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


# -- what must be an error --


# What derivatives do not read again: Min's come from the pairs that it has found, which are copied.
UNNEEDED = {*(("Min", n) for n in range(4)), ("LazyTensor", 3), ("KernelSolve", 0)}


@pytest.mark.sampled(6)
@every_program
@pytest.mark.parametrize("changed", range(4))
def test_arguments_that_change_before_backward(name: str, changed: int) -> None:
    """Either derivatives need them, which is PyTorch's own error, or they are those of before."""
    given = leaves()
    moved = [1 * t for t in given]
    result = PROGRAMS[name][0](*moved)
    with torch.no_grad():
        moved[changed].mul_(2)
    if (name, changed) in UNNEEDED:
        expected = gradients(PROGRAMS[name][0](*given), given)
        torch.testing.assert_close(gradients(result, given), expected)
    else:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            gradients(result, given)


@pytest.mark.parametrize("name", ["Sum", "LazyTensor", "Min"])
def test_results_may_change(name: str) -> None:
    """Where no derivative needs them."""
    found = []
    for f in PROGRAMS[name]:
        result = f(*(given := leaves()))
        result += 1
        found.append(gradients(result.mul_(2), given))
    torch.testing.assert_close(*found)


def test_results_that_derivatives_need_may_not_change() -> None:
    result = PROGRAMS["LogSumExp"][0](*(given := leaves()))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(result.mul_(2), given)


@every_program
def test_a_freed_graph(name: str) -> None:
    value = loss(PROGRAMS[name][0](*(given := leaves())))
    value.backward()
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, given)


@every_program
@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, about anomalies
def test_anomalies_are_found(name: str) -> None:
    given = leaves()
    with torch.autograd.detect_anomaly():
        result = PROGRAMS[name][0](*given)
        with pytest.raises((RuntimeError, ArithmeticError), match=r"nan values|NaN"):
            torch.autograd.grad(result, given, torch.full_like(result, float("nan")))


@every_program
def test_inference(name: str) -> None:
    given = leaves()
    f, dense = PROGRAMS[name]
    with torch.no_grad():
        assert not f(*given).requires_grad
    with torch.inference_mode():
        result = f(*given)
        assert result.is_inference()
        torch.testing.assert_close(result, dense(*given))
        made = [t * 1 for t in given]
    torch.testing.assert_close(f(*made), dense(*given))
    assert not f(*made).requires_grad
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        f(made[0], given[1], *made[2:])


# -- modules --


class Points(torch.Tensor):
    """A subclass that leaves all to PyTorch."""


class Model(torch.nn.Module):
    """Everything of redcomp that a module may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.y = torch.nn.Parameter(leaves()[1].detach())
        self.b = torch.nn.Parameter(leaves()[2].detach())
        self.smooth, self.solve = PROGRAMS["Sum"][0], _solve
        x, y = LazyTensor((0, 2, 0)), LazyTensor((1, 2, 1))
        self.later = (-x.sqdist(y)).exp().sum(1)  # a LazyReduction
        self.matrix = (-LazyTensor(self.y.detach(), 0).sqdist(LazyTensor(self.y, 1))).exp()

    def forward(self, x: Tensor) -> Tensor:
        p = torch.ones(1, dtype=x.dtype)
        weights = self.solve(self.y, self.y, self.b, p, alpha=0.5, eps=1e-14)
        return (
            self.smooth(x, self.y, weights, p)
            + self.later(x, self.y)
            + (self.matrix @ weights).sum()
        )


def trained(model: Any, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    result = model(x)
    loss(result).backward()
    return [result.detach(), *[p.grad for p in model.parameters()]]


def saved(model: Model) -> Model:
    torch.save(model, buffer := io.BytesIO())
    buffer.seek(0)
    loaded: Model = torch.load(buffer, weights_only=False)
    return loaded


COPIES: dict[str, Callable[[Model], Model]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
}


@pytest.mark.sampled(18)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("is_used", [False, True])
def test_copies_of_modules(copied: Callable[[Model], Model], is_used: bool) -> None:
    model, x = Model(), leaves()[0].detach()
    if is_used:
        trained(model, x)
    other = copied(model)
    assert other.smooth is not model.smooth
    assert other.y is not model.y
    torch.testing.assert_close(trained(other, x), trained(model, x), rtol=0, atol=0)
    with torch.no_grad():
        other.y.mul_(2)
    assert not torch.equal(model.y, other.y)


def test_a_state_and_a_functional_call() -> None:
    model, x = Model(), leaves()[0].detach()
    other = Model()
    with torch.no_grad():
        other.b.mul_(2)
    state = {name: p.detach() for name, p in other.named_parameters()}
    found = torch.func.functional_call(model, state, (x,))
    torch.testing.assert_close(found, other(x))
    model.load_state_dict(state)
    torch.testing.assert_close(model(x), other(x))


@pytest.mark.sampled(15)
@every_program
def test_subclasses_and_parameters(name: str) -> None:
    """Are computed with as their values are."""
    expected = twice(PROGRAMS[name][1], leaves())
    for kind in (torch.nn.Parameter, lambda t: t.as_subclass(Points).requires_grad_()):
        given = [kind(t.detach()) for t in leaves()]
        found = [t.as_subclass(Tensor) for t in twice(PROGRAMS[name][0], given)]
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_distributed_data_parallel() -> None:
    """A group of one process, in which gradients are reduced while backward runs."""
    model, x = Model(), leaves()[0].detach()
    expected = trained(model, x)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        found = trained(torch.nn.parallel.DistributedDataParallel(model), x)
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(found, expected)


def one_of_two(rank: int, store: str) -> None:
    """A process of two: each has rows of its own, and gets the mean of both gradients."""
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    model, x = Model(), leaves()[0].detach()
    parallel = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    _, *found = trained(parallel, x[: rank + 1])
    _, *of_first = trained(Model(), x[:1])
    _, *of_second = trained(Model(), x[:2])
    expected = [(a + b) / 2 for a, b in zip(of_first, of_second, strict=True)]
    torch.testing.assert_close(found, expected)
    torch.distributed.destroy_process_group()


@pytest.mark.thorough
def test_distributed_data_parallel_of_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path / "store"),), nprocs=2)
