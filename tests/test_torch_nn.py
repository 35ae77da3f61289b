"""The modules of redcomp.torch.nn beside dense PyTorch: needs the CPU's backend and PyTorch."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dense_nn
import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention

from redcomp.errors import ArgumentError
from redcomp.torch import nn
from redcomp.torch.nn.kernels import KERNELS

Tensor = torch.Tensor
Log = Mapping[str, Tensor]

F64 = torch.float64
M, N, D, E, B = 4, 5, 2, 3, 2


def points(count: int, *batch: int, columns: int = D, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, count, columns, generator=random, dtype=F64)


def clouds(*batch: int) -> tuple[Tensor, Tensor]:
    """x in a batch, and y; a point of each is the same, and two of y are."""
    x, y = points(M, *batch), points(N, seed=1)
    y[0] = x.reshape(-1, D)[0]
    y[2] = y[1]
    return x, y


def weights(count: int, *batch: int) -> Tensor:
    return points(1, *batch, columns=count, seed=2).abs()[..., 0, :]


@dataclass(frozen=True)
class Case:
    """A module, what it computes densely, and arguments in a batch."""

    module: Callable[[], torch.nn.Module]
    dense: Callable[..., Any]
    arguments: Callable[..., tuple[Tensor, ...]]


def log_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("log_"): log for name, log in module.named_parameters()}


def kernel_case(name: str, **options: Any) -> Case:
    return Case(
        lambda: nn.KernelSum(name, **{"lengthscale": 0.8, **options}, dtype=F64),
        lambda log, *args: dense_nn.kernel_sum(*args, name, log),
        lambda *batch: (*clouds(*batch), points(N, columns=E, seed=3)),
    )


def mmd_case(name: str, weighted: bool = False, lengthscale: Any = 0.7, **options: Any) -> Case:
    dense_options = {k: v for k, v in options.items() if k in ("unbiased", "reduction")}
    return Case(
        lambda: nn.MMD(name, lengthscale, learnable=True, dtype=F64, **options),
        lambda log, *args: dense_nn.mmd(*args, kernel_name=name, log=log, **dense_options),
        lambda *batch: (*clouds(*batch), *((weights(M, *batch), weights(N)) if weighted else ())),
    )


def energy_case(weighted: bool = False, **options: Any) -> Case:
    return Case(
        lambda: nn.EnergyDistance(**options),
        lambda log, *args: dense_nn.energy(*args, **options),
        lambda *batch: (*clouds(*batch), *((weights(M), weights(N)) if weighted else ())),
    )


def chamfer_case(**options: Any) -> Case:
    return Case(
        lambda: nn.ChamferDistance(**options),
        lambda log, *args: dense_nn.chamfer(*args, **options),
        lambda *batch: clouds(*batch),
    )


LABELS = torch.tensor([3, 0, 3, 7])  # 0 and 7 are those of single points
CASES = {
    **{name: kernel_case(name) for name in KERNELS if name != "rational_quadratic"},
    "rational_quadratic": kernel_case("rational_quadratic", alpha=0.6),
    "gaussian, per feature": kernel_case("gaussian", lengthscale=[0.8, 1.3], outputscale=2.5),
    "laplacian, per feature": kernel_case("laplacian", lengthscale=[0.8, 1.3]),
    "periodic, per feature": kernel_case("periodic", lengthscale=[0.8, 1.3], period=[1.5, 0.9]),
    "MMD laplacian": mmd_case("laplacian"),
    "MMD of several": mmd_case("gaussian", lengthscale=[0.5, 1.0, 2.0], unbiased=True),
    "MMD with weights": mmd_case("gaussian", True, [0.5, 1.0, 2.0], reduction="none"),
    "MMD unbiased with weights": mmd_case("gaussian", True, unbiased=True, reduction="sum"),
    "MMD alpha": mmd_case("rational_quadratic", lengthscale=[0.5, 1.0], alpha=0.4),
    "energy": energy_case(),
    "energy, unbiased": energy_case(unbiased=True, reduction="none"),
    "energy with weights": energy_case(True, unbiased=True, reduction="sum"),
    "Chamfer": chamfer_case(),
    "Chamfer, unsquared": chamfer_case(squared=False, directions="both", reduction="sum"),
    "Chamfer, one way": chamfer_case(directions="x_to_y"),
    "Chamfer of points": chamfer_case(squared=False, reduction="none"),
    "soft nearest": Case(
        lambda: nn.SoftNearestNeighbour(0.7, dtype=F64),
        lambda log, *args: dense_nn.soft_nearest(*args, log),
        lambda *batch: (*clouds(*batch), points(N, columns=E, seed=3)),
    ),
    "soft nearest, onto y": Case(
        lambda: nn.SoftNearestNeighbour(0.7, dtype=F64),
        lambda log, x, y: dense_nn.soft_nearest(x, y, y, log),
        lambda *batch: clouds(*batch),
    ),
    **{
        f"soft nearest loss, {reduction}": Case(
            lambda r=reduction: nn.SoftNearestNeighbourLoss(  # type: ignore[misc]
                0.7, learnable=True, reduction=r, dtype=F64
            ),
            lambda log, x, r=reduction: dense_nn.soft_nearest_loss(x, LABELS, log, r),
            lambda *batch: (points(M, *batch),),
        )
        for reduction in ("mean", "sum", "none")
    },
    "attention": Case(
        lambda: nn.Attention(),
        lambda log, *args: scaled_dot_product_attention(*args),
        lambda *batch: (points(M, *batch), points(N, seed=1), points(N, columns=E, seed=3)),
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


def called(module: torch.nn.Module, args: tuple[Tensor, ...]) -> Any:
    """The module's result; the loss takes its labels here, which have no gradient."""
    further = (LABELS,) if isinstance(module, nn.SoftNearestNeighbourLoss) else ()
    return module(*args, *further)


def total(result: Any) -> Tensor:
    """A number that all of the result influences."""
    parts = result if isinstance(result, tuple) else (result,)
    return sum(((p * p.detach().cos()).sum() for p in parts), torch.zeros((), dtype=F64))


def check(ours: Any, dense: Any) -> None:
    torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-11)


# -- values and gradients --


@every_case
@pytest.mark.parametrize("batch", [(), (2, 1)])
def test_values_and_gradients(name: str, batch: tuple[int, ...]) -> None:
    """At coinciding points too: those of `clouds`."""
    case = CASES[name]
    module = case.module()
    args = tuple(a.requires_grad_() for a in case.arguments(*batch))
    ours, dense = called(module, args), case.dense(log_of(module), *args)
    check(ours, dense)
    inputs = (*args, *module.parameters())
    check(
        torch.autograd.grad(total(ours), inputs),
        torch.autograd.grad(total(dense), inputs),
    )


@every_case
def test_gradcheck(name: str) -> None:
    """In all arguments and parameters, where points do not coincide."""
    module = CASES[name].module()
    args = CASES[name].arguments()
    x, count = args[0] + 0.05 * points(len(args[0]), seed=9), len(args)
    y = [args[1] + 0.05 * points(N, seed=8)] if count > 1 else []
    names = [n for n, _ in module.named_parameters()]

    def function(*inputs: Tensor) -> Any:
        parameters = dict(zip(names, inputs[count:], strict=True))
        labels = [LABELS] if count == 1 else []
        return functional_call(module, parameters, (*inputs[:count], *labels))

    inputs = [x, *y, *args[2:], *module.parameters()]
    assert torch.autograd.gradcheck(function, [t.detach().requires_grad_() for t in inputs])


@pytest.mark.parametrize(("name", "curvature"), [("matern32", 3.0), ("matern52", 5 / 3)])
def test_second_derivatives_are_exact_where_points_coincide(name: str, curvature: float) -> None:
    x = points(1).requires_grad_()
    lengthscale = torch.tensor([0.5, 2.0], dtype=F64)
    module = nn.KernelSum(name, lengthscale, dtype=F64)
    value = module(x, x.detach().clone(), torch.ones(1, 1, dtype=F64))
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    rows = [torch.autograd.grad(slope[0, k], x, retain_graph=True)[0][0] for k in range(D)]
    check(slope, torch.zeros_like(slope))
    check(torch.stack(rows), torch.diag(-curvature / lengthscale**2))


def test_kernel_sum_of_a_vector() -> None:
    x, y = clouds(3)
    module, b = nn.KernelSum(dtype=F64), points(N, seed=3)
    check(module(x, y, b[:, 0]), module(x, y, b)[..., 0])


def test_indices_are_those_of_nearest_points() -> None:
    x, y = clouds(B)
    array = (dense_nn.differences(x, y) ** 2).sum(-1)
    loss, (there, back) = nn.ChamferDistance(return_indices=True)(x, y)
    check((there, back), (array.argmin(-1), array.argmin(-2)))
    check(loss, nn.ChamferDistance()(x, y))
    module = nn.ChamferDistance(directions="x_to_y", reduction="none", return_indices=True)
    least, there = module(x, y)
    check((least, there), tuple(array.min(-1)))
    assert not there.requires_grad


# -- attention --

KEYS = torch.ones(B, 1, 1, N, dtype=torch.bool)
KEYS[0, ..., :2] = False  # with a causal mask, two queries see nothing
KEYS[1] = False
PAIRS = torch.rand(M, N, generator=torch.Generator().manual_seed(0)) > 0.4
PAIRS[1] = False
BIASES: dict[str, Tensor | None] = {
    "none": None,
    "of heads and pairs": points(M, 3, columns=N, seed=5),
    "of keys": points(1, B, 3, columns=N, seed=5),
    "of queries": points(M, columns=1, seed=5),
    "of entries": points(1, B, 1, columns=1, seed=5),
}
MASKS: dict[str, Tensor | None] = {
    "none": None,
    "of keys": KEYS,
    "of pairs": PAIRS,
    "of queries": PAIRS[:, :1],
    "added": torch.where(PAIRS, points(M, columns=N, seed=6), -torch.inf),
}


@pytest.mark.parametrize(
    ("mask", "bias", "is_causal"),
    [
        ("none", "none", True),
        ("none", "of keys", False),
        ("of keys", "none", True),
        ("of keys", "of queries", False),
        ("of pairs", "of heads and pairs", False),
        ("of queries", "of entries", True),
        ("added", "none", False),
    ],
)
def test_masks_and_biases(mask: str, bias: str, is_causal: bool) -> None:
    check_attention(MASKS[mask], BIASES[bias], is_causal)


def check_attention(mask: Tensor | None, bias: Tensor | None, is_causal: bool) -> None:
    """Values and gradients, those of the bias included, beside PyTorch's own."""
    shapes = [(M, D), (N, D), (N, E)]
    inputs = [
        points(count, B, 3, columns=columns, seed=n).requires_grad_()
        for n, (count, columns) in enumerate(shapes)
    ]
    if bias is not None:
        bias = bias.detach().requires_grad_()
    added = torch.zeros(1, 1, dtype=F64) if bias is None else bias
    if mask is not None:
        added = added + (torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask)
    if is_causal:
        added = added + torch.full((M, N), -torch.inf, dtype=F64).triu(1)
    dense = scaled_dot_product_attention(*inputs, attn_mask=added.expand(B, 3, M, N), scale=0.3)
    ours = nn.Attention(is_causal=is_causal, scale=0.3)(*inputs, mask, bias)
    check(ours, dense)
    wanted = [*inputs, *([] if bias is None else [bias])]
    check(torch.autograd.grad(total(ours), wanted), torch.autograd.grad(total(dense), wanted))


def test_heads_may_share_keys() -> None:
    query, key, value = points(M, B, 3, 2), points(N, B, 3, 1, seed=1), points(N, B, 3, 1, seed=2)
    dense = scaled_dot_product_attention(query, key.expand(-1, -1, 2, -1, -1),
                                           value.expand(-1, -1, 2, -1, -1))  # fmt: skip
    check(nn.Attention()(query, key, value), dense)


# -- edges --


def test_single_points() -> None:
    x, b = points(1), points(1, columns=E)
    for name in KERNELS:
        check(nn.KernelSum(name, dtype=F64)(x, x, b), b)
    zero = torch.zeros((), dtype=F64)
    modules = (nn.MMD(dtype=F64), nn.EnergyDistance(), nn.ChamferDistance())
    for module in modules:
        check(module(x, x.clone()), zero)
    assert nn.EnergyDistance(unbiased=True)(x, x).isnan()
    check(nn.SoftNearestNeighbour(dtype=F64)(x, x, b), b)
    check(nn.SoftNearestNeighbourLoss(reduction="sum", dtype=F64)(x, LABELS[:1]), zero)


def test_sums_over_nothing_are_0() -> None:
    x, nothing = points(M).requires_grad_(), points(0)
    kernel_sum = nn.KernelSum(dtype=F64)
    result = kernel_sum(x, nothing, points(0, columns=E))
    check(result, torch.zeros(M, E, dtype=F64))
    assert kernel_sum(nothing, x, points(M, columns=E)).shape == (0, E)
    seen = nn.Attention()(x, nothing, points(0, columns=E))
    check(seen, torch.zeros(M, E, dtype=F64))
    check(torch.autograd.grad(total(seen), x)[0], torch.zeros(M, D, dtype=F64))


def test_one_dimension_and_a_batch_of_single_points() -> None:
    """Shapes in which an axis could be taken for a missing one."""
    x, y, b = points(1, 4, columns=1), points(1, 4, columns=1, seed=1), points(1, 4, columns=1)
    module = nn.KernelSum(dtype=F64)
    check(module(x, y, b), dense_nn.kernel_sum(x, y, b, "gaussian", log_of(module)))
    y, b = points(4, columns=1), points(4, 4, columns=1)
    check(module(x, y, b), dense_nn.kernel_sum(x, y, b, "gaussian", log_of(module)))
    check(nn.EnergyDistance()(x, y), dense_nn.energy(x, y))


def test_points_far_from_the_origin() -> None:
    """Distances are those of the differences: float32 loses nothing to an offset."""
    x, y = (t.float() * 2**-10 + 1024.0 for t in clouds())
    b = points(N, columns=E, seed=3).float()
    module = nn.KernelSum(lengthscale=2.0**-10)
    dense = dense_nn.kernel_sum(x.double(), y.double(), b.double(), "gaussian", log_of(module))
    torch.testing.assert_close(module(x, y, b), dense.float(), rtol=1e-5, atol=1e-6)


# -- modules --

LEARNT = {name: case for name, case in CASES.items() if [*case.module().parameters()]}


@pytest.mark.parametrize("name", LEARNT)
def test_parameters_are_kept(name: str) -> None:
    """By copies, pickles and state_dict, in any dtype, which starts from other numbers."""
    module = LEARNT[name].module()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.25
    args = LEARNT[name].arguments()
    expected = called(module, args)
    loaded = LEARNT[name].module()
    loaded.load_state_dict(module.state_dict())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
        assert repr(other) == repr(module)
        check(called(other, args), expected)
    module.to(torch.float32)
    single = called(module, tuple(a.float() for a in args))
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-5)


def test_numbers_can_be_read_and_set() -> None:
    module = nn.KernelSum("periodic", [0.5, 2.0], outputscale=3.0)
    assert repr(module) == ("KernelSum('periodic', lengthscale=[0.5, 2], outputscale=3, period=1)")
    assert module.alpha is None
    module.lengthscale, module.period = 0.25, torch.tensor([4.0])
    assert module.lengthscale.tolist() == pytest.approx([0.25, 0.25])
    assert module.period.item() == pytest.approx(4.0)
    (slope,) = torch.autograd.grad(module.lengthscale.sum(), module.log_lengthscale)
    assert slope.tolist() == pytest.approx([0.25, 0.25])
    with pytest.raises(ArgumentError, match="lengthscale"):
        module.lengthscale = -1.0
    with pytest.raises(ArgumentError, match="lengthscale"):
        module.lengthscale = [1.0, 2.0, 3.0]
    with pytest.raises(ArgumentError, match="alpha"):
        module.alpha = 1.0


def test_learning_is_chosen() -> None:
    for module in (nn.MMD(), nn.SoftNearestNeighbourLoss()):
        assert not any(p.requires_grad for p in module.parameters())
    for module in (nn.KernelSum(), nn.SoftNearestNeighbour(), nn.MMD(learnable=True)):
        assert all(p.requires_grad for p in module.parameters())


def test_factory_arguments() -> None:
    module = nn.KernelSum(device=torch.device("cpu"), dtype=torch.float16)
    assert module.log_lengthscale.dtype == torch.float16
    assert nn.MMD().log_lengthscale.dtype == torch.get_default_dtype()


# -- errors --

X, Y, V = points(M), points(N), points(N, columns=E)
WRONG: list[tuple[str, Callable[[], Any]]] = [
    ("kernel", lambda: nn.KernelSum("gauss")),
    ("lengthscale", lambda: nn.KernelSum(lengthscale=0.0)),
    ("lengthscale", lambda: nn.KernelSum(lengthscale=[])),
    ("lengthscale", lambda: nn.KernelSum(lengthscale=[[1.0]])),
    ("lengthscale", lambda: nn.KernelSum(lengthscale="1")),
    ("outputscale", lambda: nn.KernelSum(outputscale=[1.0, 2.0])),  # type: ignore[arg-type]
    ("alpha", lambda: nn.KernelSum(alpha=2.0)),
    ("alpha", lambda: nn.KernelSum("rational_quadratic", alpha=-2.0)),
    ("period", lambda: nn.KernelSum("gaussian", period=2.0)),
    ("'x'", lambda: nn.KernelSum(dtype=F64)(X[0], Y, V)),
    ("'y'", lambda: nn.KernelSum(dtype=F64)(X, Y.tolist(), V)),
    ("'y'", lambda: nn.KernelSum(dtype=F64)(X, V, V)),
    ("'b'", lambda: nn.KernelSum(dtype=F64)(X, Y, V[1:])),
    ("'b'", lambda: nn.KernelSum(dtype=F64)(X, Y, None)),
    ("log_lengthscale", lambda: nn.KernelSum()(X, Y, V)),
    ("log_lengthscale", lambda: nn.KernelSum(lengthscale=[1.0] * 3, dtype=F64)(X, Y, V)),
    ("kernel", lambda: nn.MMD("periodic")),
    ("unbiased", lambda: nn.MMD(unbiased="no")),  # type: ignore[arg-type]
    ("reduction", lambda: nn.MMD(reduction="batchmean")),
    ("learnable", lambda: nn.MMD(learnable=2)),  # type: ignore[arg-type]
    ("'x'", lambda: nn.MMD(dtype=F64)(X[:0], Y)),
    ("'y'", lambda: nn.EnergyDistance()(X, Y[:0])),
    ("x_weights", lambda: nn.EnergyDistance()(X, Y, Y[:, 0])),
    ("y_weights", lambda: nn.EnergyDistance()(X, Y, X[:, 0], 1.0)),
    ("squared", lambda: nn.ChamferDistance(squared=None)),  # type: ignore[arg-type]
    ("directions", lambda: nn.ChamferDistance(directions="y_to_x")),
    ("'y'", lambda: nn.ChamferDistance()(X, V)),
    ("temperature", lambda: nn.SoftNearestNeighbour(-1.0)),
    ("values", lambda: nn.SoftNearestNeighbour(dtype=F64)(X, Y, X)),
    ("values", lambda: nn.SoftNearestNeighbour(dtype=F64)(X, Y, Y[:, 0])),
    ("labels", lambda: nn.SoftNearestNeighbourLoss(dtype=F64)(X, LABELS[1:])),
    ("labels", lambda: nn.SoftNearestNeighbourLoss(dtype=F64)(X, X[:, 0])),
    ("scale", lambda: nn.Attention(scale=float("nan"))),
    ("is_causal", lambda: nn.Attention(is_causal="yes")),  # type: ignore[arg-type]
    ("'key'", lambda: nn.Attention()(X, V, V)),
    ("'value'", lambda: nn.Attention()(X, Y, V[1:])),
    ("attn_mask", lambda: nn.Attention()(X, Y, V, PAIRS[:, 1:])),
    ("attn_mask", lambda: nn.Attention()(X, Y, V, PAIRS.int())),
    ("attn_mask", lambda: nn.Attention()(X, Y, V, PAIRS[0])),
    ("bias", lambda: nn.Attention()(X, Y, V, None, X.float())),
]


@pytest.mark.parametrize(("named", "call"), WRONG)
def test_errors_name_the_argument(named: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match=named):
        call()


# -- the page --

PAGE = Path(__file__).parents[1] / "docs" / "torch-nn.md"


def test_programs_of_the_page_run() -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec("\n".join(programs), found)
    x, y, b = (found[name] for name in "xyb")
    square = (dense_nn.differences(x, y) ** 2).sum(-1)
    torch.testing.assert_close(found["heavy"], (1 / (1 + square)) @ b)
    torch.testing.assert_close(found["there"], square.min(-1).values.sqrt().mean())
    shapes = {"out": (100, 2), "each": (5,), "distances": (100,), "projected": (100, 3)}
    shapes |= {"probabilities": (100, 4), "seen": (2, 4, 50, 16), "mixed": (), "weighted": ()}
    assert {name: tuple(found[name].shape) for name in shapes} == shapes
    torch.testing.assert_close(found["probabilities"].sum(-1), torch.ones(100))


def test_page_names_every_module_and_kernel() -> None:
    page = PAGE.read_text("utf-8")
    assert not [name for name in nn.__all__ if f"## {name}\n" not in page]
    assert not [name for name in KERNELS if f'`"{name}"`' not in page]
    assert not [name for name in nn.__all__ if f"`{name}`" not in str(nn.__doc__)]


# -- torch.compile --


@pytest.mark.slow
def test_compiled_modules_give_the_same() -> None:
    """Also for other numbers of features, of which Dynamo makes symbols."""
    module = nn.KernelSum(dtype=F64).requires_grad_(False)
    compiled = torch.compile(module, backend="eager")
    for columns in (D, 3, 4):
        x, y = points(M, columns=columns), points(N, columns=columns, seed=1)
        check(compiled(x, y, V), module(x, y, V))
