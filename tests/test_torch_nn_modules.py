"""What modules of redcomp.torch.nn are besides: copies, errors, a page; needs CPU and PyTorch."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dense_nn
import pytest
import torch
from nn_cases import (
    CASES,
    F64,
    LABELS,
    D,
    E,
    M,
    N,
    called,
    check,
    points,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from redcomp.errors import ArgumentError
from redcomp.torch import nn
from redcomp.torch.nn.kernels import KERNELS

# -- modules --


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "name", ["periodic, per feature", "MMD alpha", "soft nearest", "soft nearest loss, mean"]
)
def test_parameters_are_kept(name: str) -> None:
    """By copies, pickles and state_dict, in any dtype, which starts from other numbers."""
    module = CASES[name].module()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.25
    args = CASES[name].arguments()
    expected = called(module, args)
    loaded = CASES[name].module()
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
MASK = torch.ones(M, N, dtype=torch.bool)
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
    ("attn_mask", lambda: nn.Attention()(X, Y, V, MASK[:, 1:])),
    ("attn_mask", lambda: nn.Attention()(X, Y, V, MASK.int())),
    ("attn_mask", lambda: nn.Attention()(X, Y, V, MASK[0])),
    ("bias", lambda: nn.Attention()(X, Y, V, None, X.float())),
]


@pytest.mark.parametrize(("named", "call"), WRONG)
def test_errors_name_the_argument(named: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ArgumentError, match=named):
        call()


WITH_PARAMETERS: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "KernelSum": (nn.KernelSum, (X, Y, V)),
    "MMD": (nn.MMD, (X, Y)),
    "SoftNearestNeighbour": (nn.SoftNearestNeighbour, (X, Y)),
    "SoftNearestNeighbourLoss": (nn.SoftNearestNeighbourLoss, (X, LABELS)),
}
CONVERSIONS = {F64: "double", torch.float32: "float", torch.float16: "half"}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", WITH_PARAMETERS)
@pytest.mark.parametrize("dtype", CONVERSIONS)
def test_errors_say_how_to_convert_a_module(name: str, dtype: torch.dtype) -> None:
    make, args = WITH_PARAMETERS[name]
    module = make(dtype=torch.float32 if dtype == F64 else F64)
    given = [a.to(dtype) if a.is_floating_point() else a for a in args]
    own = next(module.parameters()).dtype
    says = rf"'x' has dtype {dtype}.*of this {name} has {own}.*\.{CONVERSIONS[dtype]}\(\)"
    with pytest.raises(ArgumentError, match=says):
        module(*given)
    converted = getattr(module, CONVERSIONS[dtype])()
    assert torch.as_tensor(converted(*given)).isfinite().all()


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_modules_have_another_dtype_under_autocast(name: str) -> None:
    make, args = WITH_PARAMETERS[name]
    given = [a.bfloat16() if a.is_floating_point() else a for a in args]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make()(*given).isfinite().all()


def known_of(result: Any) -> Any:
    """What is known of results without their values."""
    parts = result if isinstance(result, tuple) else (result,)
    return [(part.shape, part.dtype, part.requires_grad) for part in parts]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", CASES)
def test_modules_without_values(name: str) -> None:
    """On the meta device, and of fake tensors."""
    module, args = CASES[name].module(), CASES[name].arguments()
    expected = known_of(called(module, args))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert known_of(called(module, tuple(map(mode.from_tensor, args)))) == expected
    on_meta = called(module.to("meta"), tuple(a.to("meta") for a in args))
    assert known_of(on_meta) == expected


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


@pytest.mark.thorough
@pytest.mark.slow
def test_compiled_modules_give_the_same() -> None:
    """Also for other numbers of features, of which Dynamo makes symbols."""
    module = nn.KernelSum(dtype=F64)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for columns in (D, 3, 4):
        x, y = points(M, columns=columns), points(N, columns=columns, seed=1)
        parameters = tuple(module.parameters())
        ours, expected = compiled(x, y, V), module(x, y, V)
        check(ours, expected)
        for gradient, other in zip(
            torch.autograd.grad(ours.sum(), parameters),
            torch.autograd.grad(expected.sum(), parameters),
            strict=True,
        ):
            check(gradient, other)
