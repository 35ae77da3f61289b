"""NumPy's and PyTorch's own functions and operators of LazyTensors, beside the same of arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase
from redcomp.frontend.lazy.protocols import NUMPY, NUMPY_REDUCE, TORCH

M, N, D = 7, 5, 3
functional, linalg = torch.nn.functional, torch.linalg
Call = Callable[[Any, Any, Any], Any]


def operands(library: str) -> tuple[Any, Any, Any]:
    """Vectors for each i (M, 1, D) and for each j (1, N, D), and numbers of pairs (M, N)."""
    random = np.random.default_rng(1)
    x, y = random.uniform(0.1, 0.9, (M, 1, D)), random.uniform(0.1, 0.9, (1, N, D))
    given = (x, y, (x * y).sum(-1))
    return given if library == "numpy" else tuple(map(torch.tensor, given))


def lazy(library: str) -> tuple[Any, Any, Any]:
    """The same as LazyTensors."""
    x, y, _ = operands(library)
    kind = getattr(redcomp, library).LazyTensor
    return kind(x), kind(y), kind(x) | kind(y)


def check(call: Call, library: str) -> None:
    """A function of LazyTensors is what it is of arrays, but for axes of length 1."""
    found, expected = call(*lazy(library)), call(*operands(library))
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for one, other in pairs:
        one = one.dense() if isinstance(one, LazyTensorBase) else one
        np.testing.assert_allclose(np.squeeze(one), np.squeeze(other), 1e-12, 1e-12)


REDUCTIONS = ("sum", "prod", "mean", "amax", "amin", "argmax", "argmin")


def reduction(library: Any, name: str, axis: str, keep: str) -> Call:
    """A reduction over j, in two ways to write it."""
    reduce = getattr(library, name)
    return lambda x, y, s: reduce(x * y, 1) + reduce(x * y, **{axis: -2, keep: True})[:, 0]


# The rows that are no functions of one array, or of two of them.
OF_NUMPY: Mapping[str, Call] = {
    "matmul": lambda x, y, s: np.matmul(np.ones((2, M)), s),
    "dot": lambda x, y, s: np.dot(s, np.ones((N, 2))),
    "linalg.matmul": lambda x, y, s: np.linalg.matmul(s, np.ones((N, 2))),
    "linalg.vecdot": lambda x, y, s: np.linalg.vecdot(x, y),
    "bitwise_or": lambda x, y, s: np.bitwise_or(x, y) if is_lazy(x) else (x * y).sum(-1),
    "where": lambda x, y, s: np.where(x > y, x, 2.0),
    "clip": lambda x, y, s: np.clip(x, 0.3, a_max=y) + np.clip(y, 0.4, 0.5) + np.clip(x, 0.5, None),
    "round": lambda x, y, s: np.round(10 * x, 1) + np.round(y, decimals=2),
    "around": lambda x, y, s: np.around(10 * x) * y,
    "rint": lambda x, y, s: np.rint(np.floor(20 * x) / 2 - 4) + y,
    "transpose": lambda x, y, s: np.transpose(s),
    "trace": lambda x, y, s: np.trace(x * x.T) if is_lazy(x) else (x**2).sum((0, 1)),
    "diagonal": lambda x, y, s: np.diagonal(x * x.T) if is_lazy(x) else x**2,
    "shape": lambda x, y, s: np.shape(x * y),
    "concatenate": lambda x, y, s: np.concatenate((x * y, y * x), axis=2),
    "concat": lambda x, y, s: np.concatenate([x * y, y * x], -1),
    "linalg.norm": lambda x, y, s: np.linalg.norm(x * y, None, 1) + np.linalg.norm(x[:], axis=1),
    "linalg.vector_norm": lambda x, y, s: np.linalg.vector_norm(x * y, axis=-1, ord=2),
    **{name: reduction(np, name, "axis", "keepdims") for name in REDUCTIONS},
    **{name: reduction(np, name, "axis", "keepdims") for name in ("max", "min")},
    "any": lambda x, y, s: np.any(x < y, axis=1) | np.any(x > 0.5, 1),
    "all": lambda x, y, s: np.all(x < y, axis=1) | np.all(x > 0.5, 1),
    "var": lambda x, y, s: np.var(x * y, 1) + np.var(x * y, axis=1, ddof=1),
    "std": lambda x, y, s: np.std(s, 0) + np.std(s, axis=0, ddof=1, keepdims=True)[0],
}
OF_TORCH: Mapping[str, Call] = {
    "add": lambda x, y, s: torch.add(x, y, alpha=2) + torch.add(x, 2),
    "sub": lambda x, y, s: torch.sub(x, y, alpha=0.5),
    "subtract": lambda x, y, s: torch.subtract(x, y),
    "rsub": lambda x, y, s: torch.rsub(x, y),
    "div": lambda x, y, s: torch.div(x, y) + torch.div(x, y, rounding_mode="floor"),
    "divide": lambda x, y, s: torch.divide(x - 0.5, y, rounding_mode="trunc"),
    "bitwise_or": lambda x, y, s: torch.bitwise_or(x, y) if is_lazy(x) else (x * y).sum(-1),
    "__or__": lambda x, y, s: 1 * (x | y) if is_lazy(x) else (x * y).sum(-1),
    **{
        f"__{name}__": lambda x, y, s, function=function: function(2.0, x) + function(y, 2.0)
        for name, function in {
            "rsub": operator.sub,
            "rdiv": operator.truediv,
            "rtruediv": operator.truediv,
            "floordiv": operator.floordiv,
            "rfloordiv": operator.floordiv,
            "rpow": operator.pow,
            "rmod": operator.mod,
        }.items()
    },
    "Tensor.where": lambda x, y, s: operands("torch")[0].where(x > y, y),
    "where": lambda x, y, s: torch.where(x > y, x, y) + torch.where(x > 0.5, y, 1.0),
    "clamp": lambda x, y, s: torch.clamp(x, 0.3, 0.6) + torch.clamp(y, min=0.3, max=0.2),
    "clip": lambda x, y, s: torch.clip(x, max=0.6) + y,
    "clamp_min": lambda x, y, s: torch.clamp_min(x, 0.3) * y,
    "clamp_max": lambda x, y, s: torch.clamp_max(x, 0.3) * y,
    "round": lambda x, y, s: torch.round(10 * x) + torch.round(y, decimals=1),
    "cat": lambda x, y, s: torch.cat((x * y, y * x), dim=2),
    "concat": lambda x, y, s: torch.concat([x * y, y * x], -1),
    "concatenate": lambda x, y, s: torch.concatenate([x * y, y * x], dim=-1),
    "matmul": lambda x, y, s: torch.matmul(s, torch.ones(N, 2).double()),
    "linalg_matmul": lambda x, y, s: linalg.matmul(torch.ones(2, M).double(), s),
    "mm": lambda x, y, s: torch.mm(s, torch.ones(N, 2).double()),
    "mv": lambda x, y, s: torch.mv(s, torch.ones(N).double()),
    "t": lambda x, y, s: torch.t(s),
    "imag": lambda x, y, s: torch.imag(x * (1 + 2j)) * y,
    "trace": lambda x, y, s: torch.trace(x.T * x) if is_lazy(x) else (x**2).sum((0, 1)),
    "diagonal": lambda x, y, s: torch.diagonal(x * x.T) if is_lazy(x) else x**2,
    "dot": lambda x, y, s: torch.dot(x, y) if is_lazy(x) else (x * y).sum(-1),
    "vecdot": lambda x, y, s: linalg.vecdot(x, y),
    "linalg_vecdot": lambda x, y, s: linalg.vecdot(x, y),
    **{name: reduction(torch, name, "dim", "keepdim") for name in REDUCTIONS},
    "any": lambda x, y, s: torch.any(x * y > 0.7, dim=1),
    "all": lambda x, y, s: torch.all(x * y < 0.7, 1),
    "logsumexp": lambda x, y, s: torch.logsumexp(s, 1),
    "softmax": lambda x, y, s: torch.softmax(x * y, -1) + functional.softmax(x, dim=-1),
    "log_softmax": lambda x, y, s: torch.log_softmax(x * y, dim=-1),
    "max": lambda x, y, s: (*torch.max(s, 1), torch.max(x, y)),
    "min": lambda x, y, s: (*torch.min(s, dim=0), torch.min(x, y)),
    "var": lambda x, y, s: torch.var(s, 1) + torch.var(s, dim=1, correction=0),
    "std": lambda x, y, s: torch.std(s, 1, False) + torch.std(s, dim=1),
    "topk": lambda x, y, s: (*torch.topk(s, 2, dim=1), *torch.topk(s, 2, 1, largest=False)),
    "norm": lambda x, y, s: torch.norm(x * y, dim=1),
    "linalg_norm": lambda x, y, s: linalg.norm(x * y, dim=-1),
    "linalg_vector_norm": lambda x, y, s: linalg.vector_norm(x * y, 2, dim=1),
    "normalize": lambda x, y, s: functional.normalize(x * y, dim=-1),
    "relu": lambda x, y, s: functional.relu(x - y) + torch.relu(y - x),
    "softplus": lambda x, y, s: functional.softplus(x * y),
    "erf": lambda x, y, s: torch.special.erf(x * y),
    "sinc": lambda x, y, s: torch.special.sinc(x * y),
    "expit": lambda x, y, s: torch.special.expit(x * y),
    "pow": lambda x, y, s: torch.pow(x, y) + torch.pow(2.0, y) + torch.pow(x, exponent=2),
    "remainder": lambda x, y, s: torch.remainder(x, y),
}


def is_lazy(value: object) -> bool:
    return isinstance(value, LazyTensorBase)


def usual(function: Any, parameters: Mapping[str, str]) -> Call:
    """A function of one array, or of two of them."""
    if len(parameters) == 2:
        return lambda x, y, s: function(x, y)
    return lambda x, y, s: function(x * y)


@pytest.mark.sampled(18)
@pytest.mark.parametrize("name", NUMPY)
def test_functions_of_numpy(name: str) -> None:
    if name.startswith("linalg.") and not hasattr(np.linalg, name.removeprefix("linalg.")):
        pytest.skip("NumPy 1 has no such function")
    if name in OF_NUMPY or hasattr(np, name):
        check(OF_NUMPY.get(name) or usual(getattr(np, name), NUMPY[name].parameters), "numpy")
    else:
        assert name in TORCH, f"{name} is a function of neither library"


@pytest.mark.sampled(30)
@pytest.mark.parametrize("name", TORCH)
def test_functions_of_torch(name: str) -> None:
    if name in OF_TORCH or hasattr(torch, name):
        check(OF_TORCH.get(name) or usual(getattr(torch, name), TORCH[name].parameters), "torch")
    else:
        known = name in NUMPY or hasattr(torch.Tensor, name)
        assert known, f"{name} is a function of neither library"


@pytest.mark.parametrize("name", NUMPY_REDUCE)
def test_reductions_by_ufuncs(name: str) -> None:
    reduce = getattr(np, name).reduce
    check(lambda x, y, s: reduce(x * y, 1), "numpy")
    check(lambda x, y, s: reduce(x * y), "numpy")


OPERATORS = [
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
]


@pytest.mark.sampled(27)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_in_both_orders(name: str, library: str) -> None:
    act = getattr(operator, name)
    x, y, _ = operands(library)
    x_i, y_j, _ = lazy(library)
    for found in (act(x, y_j), act(x_i, y), act(x_i, y_j)):
        assert type(found) is type(x_i)
        np.testing.assert_allclose(found.dense(), act(x, y), 1e-12, 1e-12)
    for number in (2, 0.5, np.float64(0.5), np.float32(0.5), np.int64(2)):
        for one, other in ((act(number, y_j), act(number, y)), (act(y_j, number), act(y, number))):
            assert type(one) is type(y_j)
            np.testing.assert_allclose(np.squeeze(one.dense()), np.squeeze(other), 1e-12, 1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_products_in_both_orders(library: str) -> None:
    x, y, array = operands(library)
    x_i, y_j, matrix = lazy(library)
    kind = type(x_i)
    assert type(x | y_j) is type(x_i | y) is kind
    np.testing.assert_allclose((x | y_j).dense(), array, 1e-12)
    left = x[:, 0]
    np.testing.assert_allclose(left.T @ matrix, left.T @ array, 1e-12)
    np.testing.assert_allclose(left[:, 0] @ matrix, left[:, 0] @ array, 1e-12)
    np.testing.assert_allclose(matrix @ y[0], array @ y[0], 1e-12)


UNSUPPORTED: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("numpy.median", lambda n, t: np.median(n, 1)),
    ("numpy.einsum", lambda n, t: np.einsum("ij->i", n)),
    ("numpy.stack", lambda n, t: np.stack([n, n])),
    ("numpy.add.outer", lambda n, t: np.add.outer(n, n)),
    ("numpy.add.accumulate", lambda n, t: np.add.accumulate(n)),
    ("numpy.linalg.solve", lambda n, t: np.linalg.solve(n, np.ones(5))),
    ("numpy.exp of a LazyTensor takes no out", lambda n, t: np.exp(n, out=np.ones((7, 5)))),
    ("numpy.multiply", lambda n, t: operator.imul(np.ones((7, 1, 3)), n)),
    ("numpy.sum of a LazyTensor takes no dtype", lambda n, t: np.sum(n, 1, np.float32)),
    ("numpy.sum of a LazyTensor takes no where", lambda n, t: np.sum(n, 1, where=True)),
    ("numpy.add.*takes no where", lambda n, t: np.add(n, 1, where=np.ones(3, bool))),
    ("torch.cdist", lambda n, t: torch.cdist(t, t)),
    ("torch.einsum", lambda n, t: torch.einsum("ij->i", t)),
    ("torch.stack", lambda n, t: torch.stack([t, t])),
    ("torch.add_", lambda n, t: torch.ones(7, 1, 3).double().add_(t)),
    ("torch.gelu", lambda n, t: functional.gelu(t)),
    ("torch.relu of a LazyTensor takes no inplace", lambda n, t: functional.relu(t, inplace=True)),
    ("torch.sum of a LazyTensor takes no dtype", lambda n, t: torch.sum(t, 1, dtype=torch.float)),
    ("is no array of NumPy.*dense", lambda n, t: np.asarray(n)),
    ("is no array of NumPy.*dense", lambda n, t: np.array([n, 1])),
    ("is no array of NumPy.*dense", lambda n, t: np.float64(n)),
    ("dense", lambda n, t: torch.tensor(t)),
    ("dense", lambda n, t: torch.as_tensor(t)),
    ("is no single number.*dense", lambda n, t: float(n)),
    ("is no single number.*dense", lambda n, t: int(n)),
    ("is no single number.*dense", lambda n, t: complex(n)),
    ("is no single number.*dense", lambda n, t: range(n)),
    ("has no length.*dense", lambda n, t: len(n)),
    ("has no items.*dense", lambda n, t: list(n)),
    ("cannot be searched.*dense", lambda n, t: 1 in n),
]


@pytest.mark.parametrize(("message", "call"), UNSUPPORTED, ids=[m for m, _ in UNSUPPORTED])
def test_what_is_not_supported_says_so(message: str, call: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(TypeError, match=message):
        call(lazy("numpy")[2], lazy("torch")[2])


WRONG: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("is neither true nor false", lambda n, t: bool(n)),
    ("is neither true nor false", lambda n, t: 1 if t else 0),
    (r"a < b < c is \(a < b\) \* \(b < c\)", lambda n, t: 0 < n < 1),
    ("`and` is \\*", lambda n, t: (t < 1) and (t > 0)),
    (r"`or` is .logical_or\(...\)", lambda n, t: (t < 1) or (t > 0)),
    ("`K is not None` asks", lambda n, t: not n),
    ("is neither true nor false", lambda n, t: n in [1, 2]),
    ("axis is missing", lambda n, t: np.sum(n)),
    ("axis is missing", lambda n, t: torch.sum(t)),
    ("axis is missing", lambda n, t: torch.cat([t, t])),
    ("last axis", lambda n, t: np.concatenate([n, n], 1)),
    ("Euclidean", lambda n, t: np.linalg.norm(n, 1, 1)),
    ("Euclidean", lambda n, t: torch.norm(t, p=1, dim=1)),
    ("meets one of", lambda n, t: n + t),
    ("made of an array of PyTorch", lambda n, t: np.ones((7, 1, 3)) * t),
    ("made of an array of NumPy", lambda n, t: torch.ones(7, 1, 3) * n),
    ("needs axis", lambda n, t: np.ones((7, 3)) * n),
]


@pytest.mark.parametrize(("message", "call"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_what_is_wrong_says_so(message: str, call: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(ArgumentError, match=message):
        call(lazy("numpy")[2], lazy("torch")[2])


def test_gradients_pass_through_functions_of_torch() -> None:
    x, y, _ = (a.requires_grad_() for a in operands("torch"))
    kind = redcomp.torch.LazyTensor
    found = torch.sum(torch.exp(-torch.square(kind(x) - y).sum(-1)), dim=1)
    expected = torch.exp(-torch.square(x - y).sum(-1)).sum(1)
    for one, other in zip(
        torch.autograd.grad(found.sum(), (x, y)),
        torch.autograd.grad(expected.sum(), (x, y)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
