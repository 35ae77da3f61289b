"""Programs that torch.compile compiles around reductions: needs the CPU's backend and PyTorch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

import redcomp
import redcomp.torch
import redcomp.torch.cluster as clusters
from redcomp.torch.computation import LEAST_PAIRS

Tensor = torch.Tensor

pytestmark = [
    # Where a graph breaks, Dynamo itself looks at .grad of the tensors at hand.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    # Inductor itself uses what PyTorch has deprecated.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning"),
]

FORMULA, ALIASES = "Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]

smooth = redcomp.torch.Genred(FORMULA, ALIASES, axis=1)
smooth_of_any = redcomp.Genred(FORMULA, ALIASES, axis=1)
smooth_by_name = redcomp.torch.generic_sum(FORMULA, "a = Vi(2)", *ALIASES)
nearest = redcomp.torch.Genred("SqDist(x, y)", ALIASES[:2], "Min", axis=1)
softmax = redcomp.torch.Genred("-SqDist(x, y)", ALIASES, "SumSoftMaxWeight", 1, formula2="b")
solve = redcomp.torch.KernelSolve(FORMULA, ALIASES, "b", axis=1)


def kernel(x: Tensor, y: Tensor) -> Tensor:
    return torch.exp(-((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1))


def dense(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return kernel(x, y) @ b


def dense_softmax(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return torch.softmax(torch.log(kernel(x, y)), -1) @ b


def dense_nearest(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return -torch.log(kernel(x, y)).max(-1, keepdim=True).values + 0 * b.sum()


def solved(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    result: Tensor = solve(x, x, b, alpha=0.5, eps=1e-13)
    return result + 0 * y.sum()


def dense_solved(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    identity = torch.eye(len(x), dtype=x.dtype)
    return torch.linalg.solve(kernel(x, x) + 0.5 * identity, b) + 0 * y.sum()


def made_inside(x: Tensor, y: Tensor, b: Tensor) -> Any:
    return redcomp.torch.Genred(FORMULA, ALIASES, axis=1)(x, y, b)


def made_by_name_inside(x: Tensor, y: Tensor, b: Tensor) -> Any:
    return redcomp.torch.generic_sum(FORMULA, "a = Vi(2)", *ALIASES)(x, y, b)


def by_clusters(x: Tensor, y: Tensor, b: Tensor) -> Any:
    x, order = clusters.sort_clusters(x, torch.arange(len(x)).flip(0))
    ranges = clusters.cluster_ranges(order)
    whole = torch.tensor([[0, len(y)]])
    keep = torch.ones(len(ranges), 1, dtype=torch.bool)
    return smooth(x, y, b, ranges=clusters.from_matrix(ranges, whole, keep)).flip(0)


def wrong_formula_inside(x: Tensor) -> Any:
    return redcomp.torch.Genred("z * x", ["x = Vi(3)"], axis=1)(x)


PROGRAMS: list[tuple[Callable[..., Any], Callable[..., Tensor]]] = [
    (smooth, dense),
    (smooth_of_any, dense),
    (smooth_by_name, dense),
    (made_inside, dense),
    (made_by_name_inside, dense),
    (by_clusters, dense),
    (softmax, dense_softmax),
    (lambda x, y, b: nearest(x, y) + 0 * b.sum(), dense_nearest),
    (solved, dense_solved),
]
NAMES = ["Genred", "any", "by name", "inside", "by name inside", "clusters", "softmax", "min",
         "solve"]  # fmt: skip


def arguments(count: int, requires_grad: bool = False) -> list[Tensor]:
    random = torch.Generator().manual_seed(count)
    shapes = [(count, 3), (count, 3), (count, 2)]
    return [
        torch.rand(*shape, generator=random, dtype=torch.float64).requires_grad_(requires_grad)
        for shape in shapes
    ]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def check_values(
    program: Any, reference: Any, backend: str, sizes: Sequence[int] = (5,), **options: Any
) -> None:
    """Values and gradients of a program between other operations, for some numbers of points."""

    def around(call: Any) -> Any:
        return lambda x, y, b: (call(2 * x, y.sin(), b) ** 2).sin().sum() + b.sum()

    compiled = torch.compile(around(program), backend=backend, **options)
    for count in sizes:
        given = arguments(count)
        torch.testing.assert_close(compiled(*given), around(reference)(*given))
        results = []
        for function in (compiled, around(reference)):
            moved = arguments(count, requires_grad=True)
            total = function(*moved)
            results.append((total, *torch.autograd.grad(total, moved, allow_unused=True)))
        for ours, expected in zip(*results, strict=True):
            ours = torch.zeros_like(expected) if ours is None else ours
            torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("program", "reference"), PROGRAMS, ids=NAMES)
def test_values_and_gradients(program: Any, reference: Any) -> None:
    """In one graph, but for functions of clusters, which look at values."""
    check_values(program, reference, "aot_eager", fullgraph=program is not by_clusters)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dynamic", [True, False])
def test_dynamic_shapes(dynamic: bool) -> None:
    check_values(smooth, dense, "aot_eager", (5, 7, 4), dynamic=dynamic, fullgraph=True)


def test_sizes_are_symbols_of_one_graph() -> None:
    counter = torch._dynamo.testing.CompileCounter()
    program = torch.compile(smooth, backend=counter, fullgraph=True, dynamic=True)
    for count in (4, 5, 9):
        torch.testing.assert_close(program(*arguments(count)), dense(*arguments(count)))
    assert (counter.frame_count, counter.op_count) == (1, 2)  # the operator, and its only result


def test_ranges_in_a_graph() -> None:
    blocks = torch.tensor([[0, 3], [3, 5]])
    ranges = (blocks, torch.tensor([1, 2]), blocks) * 2
    mask = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)).to(torch.float64)

    def by_blocks(x: Tensor, y: Tensor, b: Tensor) -> Any:
        return smooth(x, y, b, ranges=ranges)

    check_values(by_blocks, lambda x, y, b: (kernel(x, y) * mask) @ b, "aot_eager", fullgraph=True)


PAGE = Path(__file__).parents[1] / "docs" / "inside-pytorch.md"


def test_the_program_of_the_page() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    # Here without a C++ compiler.
    exec(program.replace("fullgraph=True", 'fullgraph=True, backend="aot_eager"'), found)
    x, y, b = arguments(5, requires_grad=True)
    total = found["loss"](x, y, b[:, :1])
    costs = ((x[:, None] - y) ** 2).sum(-1)
    expected = (dense(2 * x, y, b[:, :1]) ** 2).mean() - torch.logsumexp(-costs, 1).mean()
    torch.testing.assert_close(total, expected)
    for ours, theirs in zip(
        torch.autograd.grad(total, (x, y)), torch.autograd.grad(expected, (x, y)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.skipif(not shutil.which("g++"), reason="AOTInductor needs a C++ compiler")
@pytest.mark.thorough
def test_a_program_compiled_ahead_of_time(tmp_path: Path) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor, y: Tensor, b: Tensor) -> Tensor:
            smoothed: Tensor = smooth(2 * x, y, b)
            return smoothed + 1

    sizes = torch.export.Dim("sizes")
    exported = torch.export.export(Module(), tuple(arguments(5)), dynamic_shapes=({0: sizes},) * 3)
    package = str(tmp_path / "program.pt2")
    torch._inductor.aoti_compile_and_package(exported, package_path=package)
    loaded = torch._inductor.aoti_load_package(package)
    x, y, b = arguments(7)
    torch.testing.assert_close(loaded(x, y, b), dense(2 * x, y, b) + 1)


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.slow
def test_inductor() -> None:
    x, y, b = arguments(5)
    x.requires_grad_()
    total = torch.compile(lambda x: smooth(2 * x, y, b).sum())(x)
    torch.testing.assert_close(total, dense(2 * x, y, b).sum())
    (expected,) = torch.autograd.grad(dense(2 * x, y, b).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(total, x)[0], expected)


def test_the_graph_does_not_break() -> None:
    explained = torch._dynamo.explain(lambda x, y, b: smooth(2 * x, y, b) + 1)(*arguments(4))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_errors_say_what_is_wrong() -> None:
    x, y, b = arguments(4)
    with pytest.raises(Exception, match="argument 'y' must have shape"):
        torch.compile(smooth, backend="eager", fullgraph=True)(x, y[:, :2], b)
    compiled = torch.compile(wrong_formula_inside, backend="eager", fullgraph=True)
    with pytest.raises(Exception, match="unknown name 'z'"):
        compiled(x)


def test_numbers_and_out_in_a_graph() -> None:
    call = redcomp.torch.Genred("p * x * y", ["p = Pm(1)", "x = Vi(3)", "y = Vj(3)"], axis=1)
    x, y, _ = arguments(4)
    program = torch.compile(lambda x, y, out: call(0.5, x, y, out=out), backend="aot_eager")
    out = torch.empty_like(x)
    program(x, y, out)
    torch.testing.assert_close(out, 0.5 * x * y.sum(0))


# Transforms of functions of a point, some points and what they carry; which axes they map.
TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "vmap": lambda f: torch.vmap(f, (0, None, None)),
    "nested vmap": lambda f: torch.vmap(
        torch.vmap(lambda x, p, b: f(x, p[None], b[None]), (None, 0, 0)), (0, None, None)
    ),
    "gradients of samples": lambda f: torch.vmap(torch.func.grad(f), (0, None, None)),
    "jacrev": lambda f: lambda x, y, b: torch.func.jacrev(f)(x[0], y, b),
    "jacfwd": lambda f: lambda x, y, b: torch.func.jacfwd(f)(x[0], y, b),
    "hessian": lambda f: lambda x, y, b: torch.func.hessian(f)(x[0], y, b),
    "jvp": lambda f: lambda x, y, b: torch.func.jvp(lambda t: f(x[0], y, t), (b,), (b.flip(0),)),
    "gradient of a gradient": lambda f: (
        lambda x, y, b: torch.func.grad(lambda t: torch.func.grad(f)(t, y, b).sum())(x[0])
    ),
}


def solved_on_scaled_axes(scales: Tensor, y: Tensor, b: Tensor) -> Any:
    return solve(scales * y, scales * y, b, alpha=0.5, eps=1e-13)


def dense_on_scaled_axes(scales: Tensor, y: Tensor, b: Tensor) -> Tensor:
    identity = torch.eye(b.shape[-2], dtype=y.dtype)
    return torch.linalg.inv(kernel(scales * y, scales * y) + 0.5 * identity) @ b


TRANSFORMED = {"Genred": (smooth, dense), "solve": (solved_on_scaled_axes, dense_on_scaled_axes)}


@pytest.mark.sampled(48)
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("of", TRANSFORMED)
def test_transforms_in_a_graph(of: str, name: str) -> None:
    def program(call: Any) -> Any:
        return TRANSFORMS[name](lambda x, y, b: (call(x[None], y, b) ** 2).sum())

    ours, reference = map(program, TRANSFORMED[of])
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(*arguments(5)), reference(*arguments(5)), rtol=1e-7, atol=1e-8
    )


@pytest.mark.thorough
def test_gradients_inside_of_the_program() -> None:
    def descent(call: Any) -> Any:
        def step(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            (call(x, y, b) ** 2).sum().backward()
            (of_y,) = torch.autograd.grad((call(x, y, b) ** 2).sum(), y)
            assert x.grad is not None
            return x - x.grad + of_y

        return step

    given = arguments(5, requires_grad=True)
    compiled = torch.compile(descent(smooth), backend="aot_eager")
    torch.testing.assert_close(compiled(*given), descent(dense)(*given))


class Model(torch.nn.Module):
    """Points on scaled axes."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call
        self.scales = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor, b: Tensor) -> Any:
        return torch.relu(self.call(x * self.scales, y * self.scales, b))


def test_gradients_of_rows_need_no_sweep_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator that computes the value gives what the backward pass multiplies."""
    monkeypatch.setitem(LEAST_PAIRS, "cpu", 0)
    found: dict[str, int] = {}

    def counting(name: str) -> Any:
        def compiler(graph: torch.fx.GraphModule, _: object) -> Any:
            found[name] = sum("redcomp" in str(node.target) for node in graph.graph.nodes)
            return make_boxed_func(graph.forward)

        return compiler

    backend = aot_autograd(fw_compiler=counting("forward"), bw_compiler=counting("backward"))
    x, y, b = arguments(5)
    x.requires_grad_()
    function = redcomp.torch.Genred("Exp(-SqDist(x, y)) * Sum(b)", ALIASES, axis=1)
    compiled = torch.compile(function, backend=backend, fullgraph=True)
    results = [torch.autograd.grad(f(x, y, b).sum(), x)[0] for f in (function, compiled)]
    torch.testing.assert_close(*results)
    assert found == {"forward": 1, "backward": 0}


def test_a_training_loop() -> None:
    trained = []
    for call in (smooth, dense):
        model = Model(call)
        run = torch.compile(model, backend="aot_eager") if call is smooth else model
        optimiser = torch.optim.SGD(model.parameters(), 0.01)
        for count in (4, 5, 6, 6, 6):
            optimiser.zero_grad()
            run(*arguments(count)).sum().backward()
            optimiser.step()
        trained.append(model.scales.detach())
    torch.testing.assert_close(*trained)


@pytest.mark.thorough
def test_many_reductions_through_one_program() -> None:
    """More than Dynamo keeps versions of a function."""
    program = torch.compile(lambda call, x: call(2 * x) + 1, backend="aot_eager")
    (x, *_) = arguments(4)
    for factor in range(12):
        call = redcomp.torch.Genred(f"{factor} * x", ["x = Vi(3)"], axis=1)
        torch.testing.assert_close(program(call, x), 2 * factor * x + 1)


FRESH = """
import sys
import torch, redcomp.torch
from redcomp.torch import Vi, Vj

def made():
    return redcomp.torch.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)

def check(call, requires_grad):
    x = torch.ones(3, 1, requires_grad=requires_grad)
    result = torch.compile(lambda x: call(x + 1, y).sum(), backend="eager")(x)
    assert result.item() == 48
    if requires_grad:
        assert torch.autograd.grad(result, x)[0].flatten().tolist() == [8.0] * 3

y = torch.full((4, 1), 2.0)
known = made()
known(y, y)
known(y.clone().requires_grad_(), y).sum().backward()
assert "torch._dynamo" not in sys.modules, "neither importing nor calling redcomp may load Dynamo"
K, L = (left * right for left, right in ((Vi(y), Vj(2 * y)), (Vi(3 * y), Vj(y))))

class Product:
    def __matmul__(self, other):
        return y

of_others = Product()
# What Dynamo refuses, it remembers: this `@` of objects that it does not know.
assert torch.compile(lambda y: of_others @ of_others + y, backend="eager")(y).sum().item() == 16
# All that it meets of redcomp are two objects that were made before.
product = torch.compile(lambda y: (K @ L) @ y, backend="eager", fullgraph=True)(y)
assert product.flatten().tolist() == [8.0 * 48.0 * 8.0] * 4
for requires_grad in (True, False):
    check(made(), requires_grad)
    check(known, requires_grad)
"""


@pytest.mark.thorough
def test_in_a_fresh_process() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
