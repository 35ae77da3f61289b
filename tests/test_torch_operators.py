"""Reductions as operators of PyTorch: graphs, fake tensors, modes and subclasses; needs the CPU's
backend and PyTorch.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from on_gpu import STAND_INS, on_gpu
from reduction_cases import Case, call, cases, generic
from reference_reductions import Results
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from redcomp.errors import ArgumentError
from redcomp.torch import Genred, KernelSolve, Vi, Vj
from redcomp.torch.solve import solver_of

pytestmark = [
    # opcheck looks at .grad of all tensors, and torch.export at what PyTorch has deprecated.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

Tensor = torch.Tensor
OPERATORS = torch.ops.redcomp
CASES = cases()

# Kinds of variables that the cases of reductions do not have: formula, aliases, shapes.
KINDS: dict[str, tuple[str, list[str], list[tuple[int, ...]]]] = {
    "pairs": ("v * x", ["x = Vi(2)", "v = Vij(2)"], [(5, 2), (5, 4, 2)]),
    "integers": (
        "IfElse(l - k, x, 2 * x)",
        ["x = Vi(2)", "l = Vi(1, int)", "k = Vj(1, int)"],
        [(5, 2), (5, 1), (4, 1)],
    ),
    "a table": ("Gather(t, l) * y", ["t = Pm(6)", "l = Vi(1, int)", "y = Vj(2)"],
                [(6,), (5, 1), (4, 2)]),
    "a batch": ("Exp(-SqDist(x, y)) * p", ["x = Vi(3)", "y = Vj(3)", "p = Pm(1)"],
                [(3, 5, 3), (4, 3), (3, 1)]),
    "numbers of pairs": ("Ind_i() * y", ["y = Vj(2)", "x = Vi(1)"], [(4, 2), (5, 1)]),
}  # fmt: skip
SYSTEM = KernelSolve("Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"], "b", axis=1)


def kind_of(name: str) -> tuple[Genred, list[Tensor]]:
    """The reduction of a row, and arguments for it."""
    formula, aliases, shapes = KINDS[name]
    random = torch.Generator().manual_seed(0)
    given = [
        torch.randint(0, 6, shape, generator=random)
        if "int" in alias
        else torch.rand(shape, generator=random, dtype=torch.float64, requires_grad=True)
        for alias, shape in zip(aliases, shapes, strict=True)
    ]
    return Genred(formula, aliases, axis=1), given


def of_call(genred: Genred, given: Sequence[Tensor], ranges: Sequence[Tensor] = ()) -> Any:
    """The arguments of the operator that a call is."""
    return (list(given), [], [], list(ranges), genred.text, "auto", -1, True)


@pytest.mark.sampled(48)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_opcheck(case: Case) -> None:
    torch.library.opcheck(
        OPERATORS.call.default, of_call(case.genred(1), generic(5, 4, case.width))
    )


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", KINDS)
def test_opcheck_of_kinds(name: str) -> None:
    torch.library.opcheck(OPERATORS.call.default, of_call(*kind_of(name)))


@pytest.mark.thorough
def test_opcheck_of_ranges_and_solves() -> None:
    x, y, b = (torch.rand(4, n, dtype=torch.float64, requires_grad=True) for n in (3, 3, 2))
    blocks = torch.tensor([[0, 2], [2, 4]])
    ranges = [blocks, torch.tensor([1, 2]), blocks] * 2
    torch.library.opcheck(OPERATORS.call.default, of_call(SYSTEM.genred, [x, y, b], ranges))
    alpha = torch.full((4, 2), 0.5, dtype=torch.float64, requires_grad=True)
    settings = (1e-12, 0.0, None, True, "auto", -1)
    torch.library.opcheck(
        OPERATORS.solve.default, ([x, x, b], alpha, [], SYSTEM.text, False, *settings)
    )
    torch.library.opcheck(
        OPERATORS.call_solve.default, ([x, x, b], [], [], alpha, [], SYSTEM.text, *settings)
    )


@pytest.mark.sampled(44)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fake_results_are_like_real_ones(case: Case) -> None:
    operation, given = case.genred(1), generic(5, 4, case.width)
    real = call(operation, *given)
    with FakeTensorMode() as mode:
        fakes = call(operation, *map(mode.from_tensor, given))
    on_meta = call(operation, *[t.to("meta") for t in given])
    for result, fake, meta in zip(real, fakes, on_meta, strict=True):
        expected = (result.shape, result.dtype, result.stride(), result.requires_grad)
        assert (fake.shape, fake.dtype, fake.stride(), fake.requires_grad) == expected
        assert (meta.shape, meta.dtype, meta.stride(), meta.requires_grad) == expected


@pytest.mark.sampled(60)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_graphs_with_sizes_that_are_symbols(case: Case) -> None:
    """Values and gradients from a graph, for more rows and columns than it was traced with."""
    operation = case.genred(1)

    def weighed(results: Results, of: Callable[[Tensor], Tensor]) -> list[Tensor]:
        return [(of(r) * r).sum() for r in results if r.is_floating_point()]

    def program(*given: Tensor) -> tuple[Tensor, ...]:
        results = call(operation, *given)
        values = weighed(results, torch.cos)
        gradients: Sequence[Tensor] = ()
        if values and values[0].requires_grad:
            total = sum(values, torch.zeros((), dtype=torch.float64))
            gradients = torch.autograd.grad(total, given, allow_unused=True, materialize_grads=True)
        return (*results, *gradients)

    graph = make_fx(program, tracing_mode="symbolic")(*generic(5, 4, case.width))
    assert "torch.ops.redcomp.reduce" in graph.code
    given = generic(7, 6, case.width, seed=1)
    found = graph(*given)
    dense = case.dense(given, 1)
    for ours, expected in zip(found, dense, strict=False):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    if len(found) > len(dense):
        total = sum(weighed(dense, torch.cos), torch.zeros((), dtype=torch.float64))
        gradients = torch.autograd.grad(total, given, allow_unused=True, materialize_grads=True)
        for ours, expected in zip(found[len(dense) :], gradients, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


FORMULA, ALIASES = "Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
smooth = Genred(FORMULA, ALIASES, axis=1)


def dense(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return torch.exp(-((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)) @ b


def points(count: int = 5) -> list[Tensor]:
    random = torch.Generator().manual_seed(count)
    return [torch.rand(count, n, generator=random, dtype=torch.float64) for n in (3, 3, 2)]


TRACERS: dict[str, Callable[..., Any]] = {
    "jit.trace": lambda f, *args: torch.jit.trace(lambda *a: f(*a), args),
    "make_fx": lambda f, *args: make_fx(f)(*args),
    "make_fx of fakes": lambda f, *args: make_fx(f, tracing_mode="fake")(*args),
    "make_fx before dispatch": lambda f, *args: make_fx(f, pre_dispatch=True)(*args),
    "functionalize": lambda f, *_: torch.func.functionalize(f),
    "make_fx of functionalize": lambda f, *args: make_fx(torch.func.functionalize(f))(*args),
    "export": lambda f, *args: torch.export.export(as_module(f), args).module(),
}
PROGRAMS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "call": (smooth, dense),
    "LazyTensors": (lambda x, y, b: (-((Vi(x) - Vj(y)) ** 2).sum(-1)).exp() @ b, dense),
    "gradient": (
        torch.func.grad(lambda *args: (smooth(*args) ** 2).sum(), (0, 1, 2)),
        torch.func.grad(lambda *args: (dense(*args) ** 2).sum(), (0, 1, 2)),
    ),
    "mapped": (
        lambda x, y, b: torch.vmap(smooth, (None, None, 1), 1)(x, y, b[:, None]),
        lambda x, y, b: torch.vmap(dense, (None, None, 1), 1)(x, y, b[:, None]),
    ),
    "solve": (
        lambda x, y, b: SYSTEM(x, x, b, alpha=0.5, eps=1e-13),
        lambda x, y, b: torch.linalg.solve(
            dense(x, x, torch.eye(len(x)).to(x)) + 0.5 * torch.eye(len(x)).to(x), b
        ),
    ),
}

# torch.func's transforms, where a tracer does not follow them.
REFUSED = [
    *[
        (tracer, program)
        for tracer in ("export", "jit.trace")
        for program in ("gradient", "mapped")
    ],
    *[("make_fx before dispatch", program) for program in ("gradient", "mapped")],
    ("functionalize", "gradient"),
    ("make_fx of functionalize", "gradient"),
]


def as_module(function: Callable[..., Any]) -> torch.nn.Module:
    class Module(torch.nn.Module):
        def forward(self, *args: Tensor) -> Any:
            return function(*args)

    return Module()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_traced_programs(tracer: str, program: str) -> None:
    if (tracer, program) in REFUSED:
        pytest.skip("PyTorch itself cannot trace this")
    ours, reference = PROGRAMS[program]
    traced = TRACERS[tracer](ours, *points())
    other = [t + 0.25 for t in points()]
    torch.testing.assert_close(traced(*other), reference(*other), rtol=1e-7, atol=1e-9)


SAVED = """
import io, sys
import torch, redcomp.torch
program = torch.export.load(io.BytesIO(sys.stdin.buffer.read())).module()
x = torch.arange(18.0, dtype=torch.float64).reshape(6, 3) / 18
print(program(x, x.flip(0), x[:, :2]).sum().item())
"""


@pytest.mark.thorough
def test_a_saved_program_in_another_process() -> None:
    sizes = torch.export.Dim("sizes")
    exported = torch.export.export(
        as_module(smooth), tuple(points()), dynamic_shapes=(({0: sizes},) * 3,)
    )
    torch.export.save(exported.run_decompositions(), buffer := io.BytesIO())
    done = subprocess.run(
        [sys.executable, "-c", SAVED], input=buffer.getvalue(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    x = torch.arange(18.0, dtype=torch.float64).reshape(6, 3) / 18
    assert float(done.stdout) == pytest.approx(dense(x, x.flip(0), x[:, :2]).sum().item())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("tracer", ["compile", "make_fx"])
def test_graphs_that_ask_for_a_gpu(tracer: str) -> None:
    """Values and gradients by what stands in for a GPU: a graph says where its operators run."""

    def program(x: Tensor, y: Tensor, b: Tensor) -> Any:
        def loss(x: Tensor) -> Tensor:
            total: Tensor = (smooth(x, y, b, backend="GPU") ** 2).sum()
            return total

        return torch.func.grad_and_value(loss)(x)

    x, y, b = points(4)
    with on_gpu(next(iter(STAND_INS))):
        if tracer == "compile":
            found = torch.compile(program, backend="aot_eager", fullgraph=True)(x, y, b)
        else:
            graph = make_fx(program)(x, y, b)
            assert graph.code.count("'f64', 'GPU', 0") == 2
            found = graph(x, y, b)
    expected = torch.func.grad_and_value(lambda x: (dense(x, y, b) ** 2).sum())(x)
    torch.testing.assert_close(found, expected)


class Seen(TorchDispatchMode):
    """Counts the operators that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_functionalize_around_gradients_is_refused() -> None:
    x, y, b = points()
    with pytest.raises(ArgumentError, match="functionalize"):
        torch.func.functionalize(torch.func.grad(lambda x: smooth(x, y, b).sum()))(x)


def test_modes_see_the_operator() -> None:
    given = [t.requires_grad_() for t in points()]
    with Seen() as seen:
        result = smooth(*given)
        gradients = torch.autograd.grad(result.sum(), given)
    assert seen.names.count("redcomp::reduce") == 2
    torch.testing.assert_close(result, dense(*given))
    for ours, expected in zip(
        gradients, torch.autograd.grad(dense(*given).sum(), given), strict=True
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("is_kept", [True, False])
def test_selective_checkpoints_by_name(is_kept: bool) -> None:
    """The forward reduction is computed again for the backward pass unless a policy keeps it."""
    given = [t.requires_grad_() for t in points()]

    def policy(_: Any, operator: Any, *args: Any, **named: Any) -> CheckpointPolicy:
        is_ours = operator is OPERATORS.reduce.default and is_kept
        return CheckpointPolicy.MUST_SAVE if is_ours else CheckpointPolicy.PREFER_RECOMPUTE

    with Seen() as seen:
        result = checkpoint(
            lambda *args: smooth(*args).sin().sum(),
            *given,
            use_reentrant=False,
            context_fn=lambda: create_selective_checkpoint_contexts(policy),
        )
        gradients = torch.autograd.grad(result, given)
    assert seen.names.count("redcomp::reduce") == (2 if is_kept else 3)
    expected = torch.autograd.grad(dense(*given).sin().sum(), given)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_subclass_that_decides_itself() -> None:
    """Both of its tensors are computed with, and both get gradients."""
    x, y, b = points()
    both = TwoTensor(x, 2 * x).requires_grad_()
    result = smooth(both, y, b)
    (gradient,) = torch.autograd.grad((result**2).sum(), both)
    for factor, ours, part in ((1, result.a, gradient.a), (2, result.b, gradient.b)):
        moved = (factor * x).requires_grad_()
        expected = dense(moved, y, b)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(part, torch.autograd.grad((expected**2).sum(), moved)[0])


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", "[1]", "[null]", '[{"PairReduction": []}]', '[{"Alias": [1]}]',
             '[{"PairReduction": [1, 2, 3]}]', '[{"os": ["system"]}]', "[" * 500]
)  # fmt: skip
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(ArgumentError, match="no text"):
        OPERATORS.reduce(points(), [], text, "f64", "auto", -1)
    with pytest.raises(ArgumentError):
        OPERATORS.call(points(), [], [], [], text, "auto", -1, True)
    x, _, b = points()
    with pytest.raises(ArgumentError):
        OPERATORS.solve([x, x, b], b, [], text, False, None, 1e-6, None, True, "auto", -1)


@pytest.mark.parametrize("option", ["use_fast_math", "use_double_acc"])
@pytest.mark.parametrize("value", [True, 1, np.bool_(True)])
def test_options_of_solvers_are_in_their_texts(option: str, value: Any) -> None:
    made = KernelSolve(FORMULA, ALIASES, "b", axis=1, **{option: value})
    assert solver_of(made.text).text == made.text
    assert made.text == KernelSolve(FORMULA, ALIASES, "b", axis=1, **{option: True}).text


def test_operators_check_their_arguments() -> None:
    x, y, b = points()
    with pytest.raises(ArgumentError, match="'y' must have shape"):
        OPERATORS.call([x, y[:, :2], b], [], [], [], smooth.text, "auto", -1, True)
    with pytest.raises(ArgumentError, match="expected 3 arguments"):
        OPERATORS.call([x, y], [], [], [], smooth.text, "auto", -1, True)
