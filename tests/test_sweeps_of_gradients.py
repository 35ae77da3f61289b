"""Reductions that give their derivatives in the sweep that computes them: the same, sooner.

Needs PyTorch, which computes the reference from all pairs, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any, NamedTuple

import pytest
import torch

from redcomp.backends.host import HostLowering
from redcomp.frontend.reductions.calls import Call
from redcomp.frontend.reductions.derivatives import for_derivatives
from redcomp.frontend.reductions.differentiation import differentiation
from redcomp.frontend.reductions.genred import reducer_of_formulas
from redcomp.runtime.host import HostKernel
from redcomp.torch import Genred, LazyTensor
from redcomp.torch.autograd import differentiable
from redcomp.torch.computation import LEAST_PAIRS, prepare_computation

pytestmark = pytest.mark.slow

Tensor = torch.Tensor
ROWS, COLUMNS = 37, 29
NAMES = ("x", "y", "b", "p")


@pytest.fixture(autouse=True)
def no_call_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEAST_PAIRS, "cpu", 0)


class Program(NamedTuple):
    """A formula of x_i, y_j (3 components each), b_j and p, and what it is at all pairs.

    weights  a formula of the weights, and what they are
    """

    formula: str
    dense: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    reduction: str = "Sum"
    weights: tuple[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] | None = None

    def genred(self, axis: int = 1) -> Any:
        options = {} if self.weights is None else {"formula2": self.weights[0]}
        return Genred(self.formula, aliases(axis), self.reduction, axis=axis, **options)

    def reduced(self, *given: Tensor) -> Tensor:
        """What it is for each row."""
        pairs = self.dense(*given)
        if self.weights is not None:
            pairs = pairs + self.weights[1](*given).log()
        return pairs.sum(-1) if self.reduction == "Sum" else pairs.logsumexp(-1)


def squares(x: Tensor, y: Tensor) -> Tensor:
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


PROGRAMS = {
    "Gaussian": Program(
        "Exp(-p * SqDist(x, y)) * b",
        lambda x, y, b, p: torch.exp(-p * squares(x, y)) * b.mT,
    ),
    "Laplacian": Program(
        "Exp(-Norm2(p * x - y)) * b",
        lambda x, y, b, p: torch.exp(-squares(p * x, y).sqrt()) * b.mT,
    ),
    "Cauchy": Program(
        "b / (p * p + SqDist(x, y))",
        lambda x, y, b, p: b.mT / (p * p + squares(x, y)),
    ),
    "polynomial": Program(
        "Powf((x | y) + p, 3) * b", lambda x, y, b, p: (x @ y.mT + p) ** 3 * b.mT
    ),
    "a factor of rows": Program(
        "Sum(x) * Exp(-p * SqDist(x, y)) * b",
        lambda x, y, b, p: x.sum(-1, True) * torch.exp(-p * squares(x, y)) * b.mT,
    ),
    "no rows": Program(
        "p * b * Sum(y)", lambda x, y, b, p: (p * b * y.sum(-1, True)).mT + 0 * x[..., :1]
    ),
    "softmin": Program(
        "b - p * SqDist(x, y)", lambda x, y, b, p: b.mT - p * squares(x, y), "LogSumExp"
    ),
    # Exponents whose exponentials overflow and underflow.
    "softmax": Program(
        "30 * p * (x | y) + b", lambda x, y, b, p: 30 * p * (x @ y.mT) + b.mT, "LogSumExp"
    ),
    "mixture": Program(
        "-p * SqDist(x, y)",
        lambda x, y, b, p: -p * squares(x, y),
        "LogSumExp",
        ("Exp(b * Elem(x, 1))", lambda x, y, b, p: torch.exp(b.mT * x[..., 1:2])),
    ),
}
WANTED = [names for k in range(1, 5) for names in combinations(NAMES, k)]


def arguments(dtype: torch.dtype = torch.float64, batch: tuple[int, ...] = ()) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(len(batch))

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made, dtype=torch.float64).to(dtype)

    return {
        "x": drawn(*batch, ROWS, 3),
        "y": drawn(COLUMNS, 3),
        "b": drawn(*batch, COLUMNS, 1),
        "p": drawn(1).abs() + 0.5,
    }


def aliases(axis: int = 1) -> list[str]:
    i, j = ("Vi", "Vj") if axis == 1 else ("Vj", "Vi")
    return [f"x = {i}(3)", f"y = {j}(3)", f"b = {j}(1)", "p = Pm(1)"]


def watched(values: dict[str, Tensor], names: tuple[str, ...], dtype: torch.dtype) -> list[Tensor]:
    return [v.to(dtype).detach().requires_grad_(name in names) for name, v in values.items()]


def gradients(
    function: Callable[..., Tensor], given: list[Tensor], create_graph: bool = False
) -> list[Tensor]:
    """Of a function of the results that gives each row a cotangent of its own."""
    result = function(*given)
    loss = (result.squeeze(-1) * torch.linspace(-1, 2, ROWS, dtype=result.dtype)).sum()
    asked = [v for v in given if v.requires_grad]
    return list(torch.autograd.grad(loss, asked, create_graph=create_graph))


@contextmanager
def counted_launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    launched: list[Call] = []
    launch = Call.launch

    def counted(call: Call, *rest: object) -> None:
        launched.append(call)
        launch(call, *rest)  # type: ignore[arg-type]  # whatever it takes

    with monkeypatch.context() as patched:
        patched.setattr(Call, "launch", counted)
        yield launched


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("wanted", WANTED, ids="".join)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.sampled(256)
def test_gradients(name: str, wanted: tuple[str, ...], axis: int, dtype: torch.dtype) -> None:
    program, values = PROGRAMS[name], arguments(dtype)
    found = gradients(program.genred(axis), watched(values, wanted, dtype))
    expected = gradients(program.reduced, watched(values, wanted, torch.float64))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        # Sums of some thirty terms, and cotangents that they decide.
        bound = (2e-5 if dtype == torch.float32 else 1e-13) * (1 + other.abs().max())
        assert (one - other).abs().max() <= bound


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", ["Gaussian", "softmin", "mixture"])
@pytest.mark.parametrize(
    ("wanted", "forward", "backward"),
    [
        ("x", 1, 0),
        ("p", 1, 0),
        ("xp", 1, 0),
        ("b", 1, 1),
        ("bp", 1, 1),  # p has its part of the sweep for b
        ("xyb", 1, 1),
        ("xybp", 1, 1),
    ],
)
def test_sweeps(
    name: str, wanted: str, forward: int, backward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduce = PROGRAMS[name].genred()
    given = watched(arguments(), tuple(wanted), torch.float64)
    with counted_launches(monkeypatch) as launched:
        result = reduce(*given)
        assert len(launched) == forward
        result.sum().backward()
        assert len(launched) == forward + backward
    assert [v.grad is not None for v in given] == [name in wanted for name in NAMES]


@pytest.mark.parametrize(
    ("formula", "reduction", "wanted"),
    [
        ("Exp(-p * SqDist(x, y)) * b", "Sum", "b"),  # of columns only
        ("Exp(-p * SqDist(x, y)) * y", "Sum", "x"),  # three components
        ("p * SqDist(x, y) + b", "LogSumExp", "b"),
        ("p * SqDist(x, y) + b", "Mean", "x"),
        ("p * SqDist(x, y) + b", "Min", "x"),
    ],
)
def test_what_has_no_slopes(formula: str, reduction: str, wanted: str) -> None:
    made = for_derivatives(Genred(formula, aliases(), reduction, axis=1).reduction)
    assert differentiation(made).slopes(tuple(name in wanted for name in NAMES)) is None


def test_long_vectors_have_no_slopes() -> None:
    """They would be loops of their own, or take the registers of what computes the value."""
    for name, most in (("Sum", 16), ("LogSumExp", 15)):
        for dim, pays in ((most, True), (most + 1, False)):
            aliases = [f"x = Vi({dim})", f"y = Vj({dim})"]
            made = for_derivatives(Genred("SqDist(x, y)", aliases, name, axis=1).reduction)
            assert (differentiation(made).slopes((True, True)) is not None) == pays


@pytest.mark.parametrize(("count", "backward"), [(255, 1), (257, 0)])
def test_short_calls_have_no_slopes(
    count: int, backward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There PyTorch's operators on slopes take longer than a sweep."""
    monkeypatch.setitem(LEAST_PAIRS, "cpu", 2**17)
    x, y = torch.rand(2, count, 1, requires_grad=True), torch.rand(2, count, 1)
    result = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, y)
    with counted_launches(monkeypatch) as launched:
        result.sum().backward()
    assert len(launched) == backward


def test_calls_without_gradients_have_no_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    reduce = Genred(PROGRAMS["Gaussian"].formula, aliases(), axis=1)
    given = watched(arguments(), ("x",), torch.float64)
    with counted_launches(monkeypatch) as launched, torch.no_grad():
        reduce(*given)
    assert [len(call.reduction.results) for call in launched] == [1]


@pytest.mark.parametrize("batch", [(2,), (3, 1)], ids=str)
@pytest.mark.parametrize("name", ["Gaussian", "mixture"])
def test_batches(name: str, batch: tuple[int, ...]) -> None:
    """What all entries of a batch share gets the sum of their cotangents."""
    program, values = PROGRAMS[name], arguments(batch=batch)
    values["p"] = values["p"].expand(*batch[:-1], 1, 1).clone() if len(batch) > 1 else values["p"]

    def summed(x: Tensor, y: Tensor, b: Tensor, p: Tensor) -> Tensor:
        return program.reduced(x, y, b, p.reshape(p.shape + (1,) * (p.dim() > 1)))

    reduce = program.genred()
    for wanted in (("x", "p"), NAMES):
        found = gradients(reduce, watched(values, wanted, torch.float64))
        expected = gradients(summed, watched(values, wanted, torch.float64))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_rows_without_pairs() -> None:
    """Their slopes are 0, whatever the cotangent is."""
    given = watched(arguments(), ("x", "p"), torch.float64)
    ranges = [[[0, 20]], [1], [[0, COLUMNS]], [[0, COLUMNS]], [1], [[0, 20]]]
    tensors = tuple(torch.tensor(r, dtype=torch.int32) for r in ranges)
    result = Genred(PROGRAMS["Gaussian"].formula, aliases(), axis=1)(*given, ranges=tensors)
    (found,) = torch.autograd.grad(result.sum(), given[:1], retain_graph=True)
    dense = PROGRAMS["Gaussian"].dense(*given)[:20].sum()
    (expected,) = torch.autograd.grad(dense, given[:1])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (found,) = torch.autograd.grad(result.log().sum(), given[:1])
    assert (found[20:] == 0).all()


@pytest.mark.parametrize("wanted", [("x", "p"), NAMES], ids="".join)
@pytest.mark.parametrize("name", ["softmin", "mixture"])
def test_logarithms_of_nothing(name: str, wanted: tuple[str, ...]) -> None:
    """Rows without pairs depend on nothing, nor do results of no rows and no columns."""
    program = PROGRAMS[name]
    given = watched(arguments(), wanted, torch.float64)
    ranges = [[[0, 20]], [1], [[0, 9]], [[0, 9]], [1], [[0, 20]]]
    tensors = tuple(torch.tensor(r, dtype=torch.int32) for r in ranges)
    result = program.genred()(*given, ranges=tensors)
    assert (result[20:] == -torch.inf).all()
    asked = [v for v in given if v.requires_grad]
    found = torch.autograd.grad(result.sum(), asked)
    x, y, b, p = given
    dense = program.reduced(x[:20], y[:9], b[:9], p).sum()
    for one, other in zip(found, torch.autograd.grad(dense, asked), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    for rows, columns in ((0, COLUMNS), (5, 0)):
        result = program.genred()(x[:rows], y[:columns], b[:columns], p)
        assert (result == -torch.inf).all()
        for of in torch.autograd.grad(result.sum(), asked):
            assert (of == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mask", [-1e9, -torch.inf], ids=str)
def test_masks(mask: float, dtype: torch.dtype) -> None:
    """Columns that are masked, and rows of nothing else.

    With a finite mask these are soft minima of what rounding has left; nothing but -inf depends on
    nothing, where PyTorch's own gradients are NaN.
    """
    hidden = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    hidden[:, ::3], hidden[4] = True, True
    values = arguments(dtype)
    x = values["x"].requires_grad_()
    keys = torch.arange(ROWS, dtype=dtype)[:, None]
    columns = (torch.arange(COLUMNS) % 3).to(dtype)[:, None]
    genred = Genred(
        "IfElse(Square(k - 4) * c - 0.5, -SqDist(x, y), m)",
        ["x = Vi(3)", "k = Vi(1)", "y = Vj(3)", "c = Vj(1)", "m = Pm(1)"],
        "LogSumExp",
        axis=1,
    )
    result = genred(x, keys, values["y"], columns, torch.tensor([mask], dtype=dtype))
    (found,) = torch.autograd.grad(result.sum(), x)
    wide = values["x"].double().detach().requires_grad_()
    dense = (-squares(wide, values["y"].double())).masked_fill(hidden, mask)
    visible = [n for n in range(ROWS) if n != 4]
    (expected,) = torch.autograd.grad(dense[visible].logsumexp(1).sum(), wide)
    bound = 1e-5 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(found.double(), expected, rtol=bound, atol=bound)
    assert result[4] == torch.full((COLUMNS,), mask).double().logsumexp(0).to(dtype)
    assert (found[4] == 0).all()


@pytest.mark.parametrize("given", ["value", "total", "both"])
def test_cotangents_of_what_is_kept(given: str) -> None:
    """Slopes are of the value alone; derivatives of derivatives ask for the total's, too."""
    reduction = for_derivatives(PROGRAMS["softmin"].genred().reduction)
    tensors = watched(arguments(), ("x", "p"), torch.float64)
    shapes = tuple(t.shape for t in tensors)
    kept = prepare_computation(reduction, shapes, torch.float64, torch.device("cpu"))
    value, shift, total = differentiable(kept, tensors, None, None)
    loss = sum(r.sin().sum() for r, name in ((value, "total"), (total, "value")) if name != given)
    found = torch.autograd.grad(loss, [tensors[0], tensors[3]])
    pairs = PROGRAMS["softmin"].dense(*tensors)
    dense = {"total": pairs.logsumexp(1, True), "value": (pairs - shift).exp().sum(1, True)}
    loss = sum(r.sin().sum() for name, r in dense.items() if name != given)
    expected = torch.autograd.grad(loss, [tensors[0], tensors[3]])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_one_tensor_of_rows_and_columns() -> None:
    x, b = arguments()["x"].requires_grad_(), torch.linspace(-1, 1, ROWS).double()[:, None]
    p = torch.tensor([0.7], dtype=torch.float64)
    reduce, dense = (
        Genred(PROGRAMS["Gaussian"].formula, aliases(), axis=1),
        PROGRAMS["Gaussian"].dense,
    )
    (found,) = gradients(lambda x: reduce(x, x, b, p), [x])
    (expected,) = gradients(lambda x: dense(x, x, b, p).sum(-1), [x])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("wanted", [("x",), ("x", "p"), NAMES], ids="".join)
@pytest.mark.parametrize("name", ["Gaussian", "softmin", "mixture"])
def test_what_is_differentiated_again(name: str, wanted: tuple[str, ...]) -> None:
    """Gradients that are part of a graph are computed from the arguments."""
    program, values = PROGRAMS[name], arguments()
    results = []
    for function in (program.genred(), program.reduced):
        given = watched(values, wanted, torch.float64)
        first = gradients(function, given, create_graph=True)
        again = sum((g**3).sum() for g in first)
        asked = [v for v in given if v.requires_grad]
        results.append([*first, *torch.autograd.grad(again, asked)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_a_graph_that_is_used_twice() -> None:
    given = watched(arguments(), ("x", "p"), torch.float64)
    result = Genred(PROGRAMS["Gaussian"].formula, aliases(), axis=1)(*given)
    first = torch.autograd.grad(result.sum(), given[:1], retain_graph=True)
    twice = torch.autograd.grad(2 * result.sum(), given[:1], retain_graph=True)
    torch.testing.assert_close(2 * first[0], twice[0], rtol=1e-15, atol=0)
    # Only what is asked for is given.
    (of_p,) = torch.autograd.grad(result.sum(), given[3])
    assert of_p.shape == (1,)


def test_results_have_one_value_for_each_row() -> None:
    given = watched(arguments(), NAMES, torch.float64)
    result = Genred(PROGRAMS["Gaussian"].formula, aliases(), axis=1)(*given)
    assert isinstance(result, Tensor)
    assert result.shape == (ROWS, 1)


def test_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    values = arguments()
    x = values["x"].requires_grad_()
    scale = values["p"].requires_grad_()

    def summed() -> Tensor:
        squares = ((LazyTensor(x[:, None]) - LazyTensor(values["y"][None])) ** 2).sum(-1)
        return (-squares * scale).exp() @ values["b"]

    with counted_launches(monkeypatch) as launched:
        found = torch.autograd.grad(summed().sum(), (x, scale))
    assert len(launched) == 1
    dense = PROGRAMS["Gaussian"].dense(x, values["y"], values["b"], scale)
    for one, other in zip(found, torch.autograd.grad(dense.sum(), (x, scale)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("least", "kernels"), [(0, 2), (10**6, 3)])
def test_long_calls_share_a_kernel_with_those_that_are_differentiated(
    least: int, kernels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logarithm that nobody differentiates, one that somebody does, and its gradient."""
    reducer_of_formulas.cache_clear()
    monkeypatch.setitem(LEAST_PAIRS, "cpu", least)
    compiled = set()
    load = HostLowering.load

    def counted(lowering: HostLowering) -> HostKernel:
        compiled.add(lowering.key)
        return load(lowering)

    monkeypatch.setattr(HostLowering, "load", counted)
    compute = Genred("(x | y)", ["x = Vi(3)", "y = Vj(3)"], reduction_op="LogSumExp", axis=1)
    x, y = torch.rand(ROWS, 3, requires_grad=True), torch.rand(COLUMNS, 3)
    values = [compute(x.detach(), y) for _ in range(3)]
    recorded = compute(x, y)
    recorded.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (x.detach() @ y.mT).softmax(1) @ y)
    for value in values:
        assert torch.equal(value, recorded.detach())
    assert len(compiled) == kernels
