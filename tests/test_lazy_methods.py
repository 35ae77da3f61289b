"""Every method of LazyTensors beside dense float64 NumPy, for both libraries.

Methods that are rows of the table of operations are tested as soon as the row is there: by NumPy's
function of the same name, by `DENSE`, or by the row's own value.  Any other method needs an entry
in `DENSE`, in `REDUCED`, or in `ELSEWHERE`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase
from redcomp.frontend.lazy.methods import OTHER_NAMES, TABLE_METHODS, parameters_of
from redcomp.frontend.lazy.reductions import OTHER_REDUCTIONS
from redcomp.ops import Operation

M, N, D = 7, 5, 3
Reference = Callable[..., Any]

# Methods that have tests of their own in the file that is named, and what are no methods.
ELSEWHERE = {
    "T t matmul matvec rmatvec block bias mask dense diagonal trace solve": "test_lazy_tensor",
    "angle conj conjugate exp1j imag imag2complex is_complex real real2complex": (
        "test_complex_lazy_tensor"
    ),
    "topk": "test_lazy_wrong_calls",
    "grad diff grad_matrix divergence laplacian trace_operator": "below",
    "reduction Kmin argKmin Kmin_argKmin Kmax argKmax Kmax_argKmax sumsoftmaxweight": "below",
    "axis backend batchdims dim dtype formula library nbatchdims ndim ni nj ranges shape": "none",
    "formula2 symbolic_variables variables": "none",
}
# Dimensions of operands, of a LazyTensor first, where they are not all D.
DIMS = {
    "MatVecMult": (6, 3),
    "VecMatMult": (3, 6),
    "ElemT": (1,),
    "OneHot": (1,),
    "SumT": (1,),
    "SoftDTW_SqDist": (3, 4, 1),
    "SymSqNorm": (3, 9),
    "SqNormIso": (3, 1),
    "WeightedSqNorm": (3, 9),
    "TensorProd": (3, 2),
}
# What the parameters of a row are given, where its domain does not say.
PARAMETERS = {
    "Elem": (1,),
    "ElemT": (4, 2),
    "Extract": (1, 2),
    "ExtractT": (1, 5),
    "OneHot": (4,),
    "SumT": (3,),
}


def _matrix(a: Any, rows: int) -> Any:
    return a.reshape(*a.shape[:-1], rows, -1)


def _keep(a: Any) -> Any:
    return a[..., None]


def _quadratic(f: Any, s: Any) -> Any:
    matrix = _matrix(np.broadcast_to(s, (*np.broadcast_shapes(f.shape[:-1], s.shape[:-1]), 9)), 3)
    return _keep(np.einsum("...k,...kl,...l->...", *np.broadcast_arrays(f, f)[:1], matrix, f))


def _both(*arrays: Any) -> list[Any]:
    """Arrays with the same axes before the last one."""
    shape = np.broadcast_shapes(*(a.shape[:-1] for a in arrays))
    return [np.broadcast_to(a, (*shape, a.shape[-1])) for a in arrays]


def _soft_dtw(x: Any, y: Any, gamma: Any) -> Any:
    cost = (x[..., :, None] - y[..., None, :]) ** 2
    table = np.full((*cost.shape[:-2], cost.shape[-2] + 1, cost.shape[-1] + 1), np.inf)
    table[..., 0, 0] = 0
    for k in range(cost.shape[-2]):
        for m in range(cost.shape[-1]):
            before = np.stack([table[..., k, m], table[..., k, m + 1], table[..., k + 1, m]], -1)
            soft = -gamma * np.log(np.exp(-before / gamma).sum(-1, keepdims=True))
            table[..., k + 1, m + 1] = cost[..., k, m] + soft[..., 0]
    return _keep(table[..., -1, -1])


def _logsumexp(a: Any, axis: int = -1) -> Any:
    return np.log(np.exp(a).sum(axis, keepdims=axis == -1))


# Dense values of methods of one LazyTensor f (M, 1, D), and of others, by the method's name.
DENSE: dict[str, Reference] = {
    "softdtw_sqdist": _soft_dtw,
    "matvecmult": lambda A, b: np.einsum("...kl,...l->...k", _matrix(A, 2), b),
    "vecmatmult": lambda b, A: np.einsum("...k,...kl->...l", b, _matrix(A, 3)),
    "tensorprod": lambda f, g: (f[..., :, None] * g[..., None, :]).reshape(M, N, -1),
    "sqnorm2": lambda f: (f**2).sum(-1, keepdims=True),
    "sqdist": lambda f, g: ((f - g) ** 2).sum(-1, keepdims=True),
    "norm2": lambda f: np.sqrt((f**2).sum(-1, keepdims=True)),
    "normalize": lambda f: f / np.sqrt((f**2).sum(-1, keepdims=True)),
    "sqnormiso": lambda f, s: s * (f**2).sum(-1, keepdims=True),
    "sqnormdiag": lambda f, s: (s * f**2).sum(-1, keepdims=True),
    "symsqnorm": lambda f, s: _quadratic(*_both(f, s)),
    "weightedsqnorm": lambda f, s: _quadratic(*_both(f, s)),
    "scalprod": lambda f, g: (f * g).sum(-1, keepdims=True),
    "concat": lambda f, g: np.concatenate(_both(f, g), -1),
    "positive": lambda f: f,
    "ceil": np.ceil,
    "rint": np.rint,
    "tan": np.tan,
    "sinc": np.sinc,
    "log10": lambda f: np.log10(f),
    "logical_not": lambda f: f == 0,
    "auto_factorize": lambda f: f,
    "softmax": lambda f: np.exp(f) / np.exp(f).sum(-1, keepdims=True),
    "log_softmax": lambda f: f - _logsumexp(f),
    "greater": np.greater,
    "gt": np.greater,
    "greater_equal": np.greater_equal,
    "ge": np.greater_equal,
    "logical_and": lambda f, g: (f != 0) & (g != 0),
    "logical_or": lambda f, g: (f != 0) | (g != 0),
    "floor_divide": np.floor_divide,
    "factorize": lambda f, g: f,
    "difference_matrix": lambda f, g: (f[..., :, None] - g[..., None, :]).reshape(M, N, -1),
}
# The same for methods that want special arguments: how to call, on LazyTensors or on arrays.
CALLS: dict[str, tuple[Callable[..., Any], Reference]] = {
    "power": (lambda f, g: abs(f).power(g), lambda f, g: abs(f) ** g),
    "pow": (lambda f, g: abs(f).pow(other=3) + g, lambda f, g: abs(f) ** 3 + g),
    "mod": (lambda f, g: f.mod(abs(g), offset=1), lambda f, g: (f - 1) % abs(g) + 1),
    "remainder": (lambda f, g: f.remainder(modulus=abs(g)), lambda f, g: f % abs(g)),
    "round": (lambda f, g: f.round(1) + g.round(), lambda f, g: np.round(f, 1) + np.round(g)),
    "clamp": (lambda f, g: f.clamp(-g, 1.5), lambda f, g: np.minimum(np.maximum(f, -g), 1.5)),
    "clip": (lambda f, g: f.clip(min=0) + g.clip(max=1), lambda f, g: f.clip(0) + g.clip(None, 1)),
    "ifelse": (lambda f, g: f.ifelse(g, other2=2), lambda f, g: np.where(f >= 0, g, 2)),
    "where": (lambda f, g: (f > g).where(f, b=g), lambda f, g: np.where(f > g, f, g)),
    "weightedsqdist": (
        lambda f, g: f.weightedsqdist(g, s=abs(f)),
        lambda f, g: (abs(f) * (f - g) ** 2).sum(-1, keepdims=True),
    ),
    "bspline": (
        lambda f, g: type(f)([0.0, 1.0, 2.0, 3.0]).bspline(abs(f[0]), k=0) + 0 * g,
        lambda f, g: (np.floor(abs(f[..., :1])) == np.arange(3)) + 0 * g,
    ),
    "keops_tensordot": (
        lambda f, g: f.keops_tensordot(g, [3], [3], [0], contfb=[0]),
        lambda f, g: (f * g).sum(-1, keepdims=True),
    ),
    "keops_kron": (
        lambda f, g: f.keops_kron(g, dimfself=[3], dimfother=[3]),
        lambda f, g: (f[..., :, None] * g[..., None, :]).reshape(M, N, -1),
    ),
    "cat": (lambda f, g: f.cat((f, g), dim=2), lambda f, g: np.concatenate(_both(f, g), -1)),
    "concatenate": (
        lambda f, g: f.concatenate([f, g], axis=-1),
        lambda f, g: np.concatenate(_both(f, g), -1),
    ),
}
# Methods that reduce, by NumPy's reduction of an array (M, N, D) along 0, 1 or 2.
REDUCED: dict[str, Reference] = {
    **{
        name: getattr(np, name)
        for name in ("sum", "mean", "prod", "any", "all", "max", "min", "argmax", "argmin")
    },
    "norm": lambda a, axis: np.sqrt((a**2).sum(axis)),
    "max_argmax": lambda a, axis: (a.max(axis), a.argmax(axis)),
    "min_argmin": lambda a, axis: (a.min(axis), a.argmin(axis)),
}
OVER_PAIRS = {f"{name}_reduction" for name in ("sum", "max", "min", "argmax", "argmin")} | {
    "max_argmax_reduction",
    "min_argmin_reduction",
}
SPREADS = ("var", "std")


def lazy(library: str, *arrays: Any) -> list[Any]:
    """The first array for each i, all others for each j."""
    module = getattr(redcomp, library)
    given = arrays if library == "numpy" else map(torch.tensor, arrays)
    return [(module.Vj if n else module.Vi)(array) for n, array in enumerate(given)]


def axes(arrays: Sequence[Any]) -> list[Any]:
    """The arrays with axes for i and j."""
    return [array[None] if n else array[:, None] for n, array in enumerate(arrays)]


def dense(found: Any) -> Any:
    """The array that a LazyTensor is, with an axis of vectors."""
    return np.asarray(found.dense()).reshape(found._shape)


def data(dims: Sequence[int], intervals: Sequence[tuple[float, float]] = ((-3, 3),)) -> list[Any]:
    random = np.random.default_rng(sum(dims))
    return [
        random.uniform(*intervals[n % len(intervals)], (N if n else M, dim))
        for n, dim in enumerate(dims)
    ]


def public_methods() -> list[str]:
    return [name for name in dir(LazyTensorBase) if not name.startswith("_")]


def known_names() -> set[str]:
    listed = {name for names in ELSEWHERE for name in names.split()}
    return {*listed, *TABLE_METHODS, *DENSE, *CALLS, *REDUCED, *OVER_PAIRS, *SPREADS, "logsumexp"}


def test_every_method_is_tested() -> None:
    others = {**OTHER_NAMES, **OTHER_REDUCTIONS}
    missing = {others.get(name, name) for name in public_methods()} - known_names()
    assert not missing, (
        f"no test knows what {', '.join(sorted(missing))} should give: add to tests/"
        "test_lazy_methods.py what it is of dense arrays, in DENSE if it takes LazyTensors only, "
        "in CALLS if it takes other arguments too, in REDUCED if it reduces over any axis"
    )


def test_other_names_are_the_same_methods() -> None:
    for name, known in {**OTHER_NAMES, **OTHER_REDUCTIONS}.items():
        assert getattr(LazyTensorBase, name) is getattr(LazyTensorBase, known), name


def reference(name: str, row: Operation, parameters: Sequence[int]) -> Reference:
    """What a row is of dense arrays, the LazyTensor's first."""
    if row.spelling.lower() in DENSE:
        return DENSE[row.spelling.lower()]
    attributes = dict(zip(row.parameters, parameters, strict=True))
    ufunc = getattr(np, name, None)
    if isinstance(ufunc, np.ufunc):
        return ufunc
    return lambda *operands: row.value(*operands, **attributes)


@pytest.mark.sampled(84)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", TABLE_METHODS)
def test_rows(name: str, library: str) -> None:
    row = TABLE_METHODS[name]
    arrays = data(DIMS.get(row.spelling, (D,) * row.arity), row.domain.intervals)
    parameters = PARAMETERS.get(row.spelling) or (*row.domain.parameters, ())[0]
    assert len(parameters) == len(row.parameters), (
        f"give PARAMETERS in tests/test_lazy_methods.py values for {row.parameters} of {row.name}"
    )
    expected = np.asarray(reference(name, row, parameters)(*axes(arrays)), float)
    first, *others = lazy(library, *arrays)
    found = getattr(first, name)(*others, *parameters)
    np.testing.assert_allclose(dense(found), expected, 1e-12, 1e-12)
    named = dict(zip(parameters_of(row), [*others, *parameters], strict=True))
    assert getattr(first, name)(**named)._expression is found._expression
    if named:
        with pytest.raises(ArgumentError, match=f"takes {next(iter(named))}"):
            getattr(first, name)()


@pytest.mark.sampled(24)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", [name for name in DENSE if name not in TABLE_METHODS])
def test_methods_of_lazy_tensors(name: str, library: str) -> None:
    method = DENSE[name]
    count = (
        method.nin if isinstance(method, np.ufunc) else len(inspect.signature(method).parameters)
    )
    arrays = data((D,) * count, ((0.5, 3),) if name == "log10" else ((-3, 3),))
    arrays[0][0, 0] = 1.5 if name == "log10" else 0
    first, *others = lazy(library, *arrays)
    expected = np.asarray(DENSE[name](*axes(arrays)), float)
    np.testing.assert_allclose(dense(getattr(first, name)(*others)), expected, 1e-12, 1e-12)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", CALLS)
def test_methods_with_other_arguments(name: str, library: str) -> None:
    call, expected = CALLS[name]
    arrays = data((D, D), ((-2.9, 2.9), (0.2, 2.9)))
    np.testing.assert_allclose(
        dense(call(*lazy(library, *arrays))), expected(*axes(arrays)), 1e-12, 1e-12
    )


def _close(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            _close(one, other)
        return
    if isinstance(found, LazyTensorBase):
        found = found.dense()
    np.testing.assert_allclose(np.asarray(found), expected, 1e-12, 1e-12)


@pytest.mark.sampled(28)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", REDUCED)
def test_reductions_over_any_axis(name: str, library: str) -> None:
    x, y = data((D, D))
    x[0], y[0] = 0, 0
    x_i, y_j = lazy(library, x, y)
    product, array = x_i * y_j, x[:, None] * y[None]
    method, expected = getattr(product, name), REDUCED[name]
    for axis in (0, 1, 2):
        _close(method(axis), expected(array, axis=axis))
        _close(method(dim=axis - 3), expected(array, axis=axis))
    for axis in (0, 1):
        for kept in (method(axis=axis, keepdim=True), method(axis, keepdims=True)):
            wanted = expected(array, axis=axis)
            if isinstance(wanted, tuple):
                _close(kept, tuple(np.expand_dims(w, axis) for w in wanted))
            else:
                _close(kept, np.expand_dims(wanted, axis))
        _close(method(axis=axis, call=False)(), expected(array, axis=axis))
        _close(method(axis=axis, backend="CPU"), expected(array, axis=axis))
        with pytest.raises(ArgumentError, match="unknown option 'speed'"):
            method(axis=axis, speed=3)
    with pytest.raises(ArgumentError, match="backend='CPU' has no effect"):
        method(axis=-1, backend="CPU")
    with pytest.raises(ArgumentError, match="axis must be 0"):
        method(axis=3)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", sorted(OVER_PAIRS))
def test_reductions_over_pairs_only(name: str) -> None:
    x, y = data((D, D))
    x_i, y_j = lazy("numpy", x, y)
    method = getattr(x_i * y_j, name)
    _close(method(axis=1), REDUCED[name.removesuffix("_reduction")](x[:, None] * y, axis=1))
    with pytest.raises(ArgumentError, match="axis is missing"):
        method()
    with pytest.raises(ArgumentError, match="over i or j"):
        method(-1)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_k_smallest_and_largest(library: str) -> None:
    x, y = data((D, D))
    x_i, y_j = lazy(library, x, y)
    product, array = x_i * y_j, x[:, None] * y[None]
    order = array.argsort(1)
    values, first, last = np.sort(array, 1), order[:, :2], order[:, ::-1][:, :2]
    _close(product.Kmin(2, 1), values[:, :2])
    _close(product.argKmin(K=2, dim=1), first)
    _close(product.Kmin_argKmin(2, axis=-2), (values[:, :2], first))
    _close(product.Kmax(2, axis=1), values[:, ::-1][:, :2])
    _close(product.argKmax(2, axis=1), last)
    _close(product.Kmax_argKmax(2, axis=1), (values[:, ::-1][:, :2], last))
    _close(product.Kmin(2, axis=0, keepdim=True), np.sort(array, 0)[None, :2].transpose(0, 2, 1, 3))
    _close(product[0].Kmin(2, axis=1, keepdims=True), values[:, None, :2, 0])
    _close(product.reduction("KMin", opt_arg=2, axis=1), values[:, :2])


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_exponentials(library: str) -> None:
    x, y, b = data((D, D, 2))
    x_i, y_j, b_j = lazy(library, x, y, b)
    product, array = (x_i | y_j), x @ y.T
    weights = np.exp(array)
    _close(product.logsumexp(1), _logsumexp(array, 1)[:, None])
    _close(product.logsumexp(dim=0, keepdim=True), _logsumexp(array, 0)[None, :, None])
    _close((x_i * y_j).logsumexp(-1), _logsumexp(x[:, None] * y[None])[..., 0])
    _close(product.logsumexp(axis=1, weight=abs(b_j)), np.log(weights @ abs(b)))
    _close(product.logsumexp(axis=1, other=abs(b_j)), np.log(weights @ abs(b)))
    shares = weights @ b / weights.sum(1, keepdims=True)
    _close(product.sumsoftmaxweight(b_j, axis=1), shares)
    _close(product.sumsoftmaxweight_reduction(weight=b_j, dim=1), shares)
    with pytest.raises(ArgumentError, match="sumsoftmaxweight"):
        product.softmax(axis=1)
    infinite = np.array([[-np.inf, -np.inf], [np.inf, 1.0], [-np.inf, 2.0]])
    with np.errstate(divide="ignore"):
        _close(lazy(library, infinite)[0].logsumexp(-1), _logsumexp(infinite))


@pytest.mark.sampled(12)
@pytest.mark.parametrize("ddof", [None, 0, 1, 2.5])
@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_spreads(library: str, name: str, ddof: float | None) -> None:
    x, y = data((D, D))
    x += 1000
    x_i, y_j = lazy(library, x, y)
    symbols = [getattr(redcomp, library).Vi(0, D), getattr(redcomp, library).Vj(1, D)]
    array = x[:, None] - y[None]
    lessened = {"numpy": 0, "torch": 1}[library] if ddof is None else ddof
    given = {} if ddof is None else {"ddof": ddof}
    for axis in (0, 1, 2):
        expected = getattr(np, name)(array, axis=axis, ddof=lessened)
        found = getattr(x_i - y_j, name)(axis, **given)
        if axis == 2:
            found = found.dense()
        np.testing.assert_allclose(np.asarray(found), expected, 1e-9)
        if axis < 2:
            later = getattr(symbols[0] - symbols[1], name)(dim=axis, keepdim=True, **given)
            values = later(*(v for lazy_ in (x_i, y_j) for v in lazy_.variables))
            np.testing.assert_allclose(values, np.expand_dims(expected, axis), 1e-9)


def test_spreads_as_pytorch_says_them() -> None:
    x, y = data((D, D))
    x_i, y_j = lazy("torch", x, y)
    product, array = x_i * y_j, x[:, None] * y[None]
    _close(product.var(1, unbiased=False), array.var(1))
    _close(product.std(1, correction=2), array.std(1, ddof=2))
    _close(product.std(dim=-1, unbiased=True), array.std(-1, ddof=1))
    with pytest.raises(ArgumentError, match="say the same"):
        product.var(1, ddof=1, unbiased=True)
    with pytest.raises(ArgumentError, match="3 components with ddof=3"):
        product.var(-1, ddof=3)
    with pytest.raises(ArgumentError, match="takes no out"):
        product.var(1, out=torch.empty(M, D))


def test_spread_far_from_zero_and_in_half_precision() -> None:
    random = np.random.default_rng(3)
    y = (1e4 + random.normal(size=(5000, 1))).astype(np.float32)
    found = (redcomp.numpy.Vj(y) * 1.0).var(axis=1)
    np.testing.assert_allclose(found[0, 0], y.astype(float).var(), 1e-5)
    half = random.normal(3, size=(100_000, 1)).astype(np.float16)
    found = redcomp.numpy.Vj(half).var(axis=1, ddof=1)
    np.testing.assert_allclose(found[0, 0], half.astype(float).var(), 2e-3)
    assert np.isnan(redcomp.numpy.Vj(y[:1]).var(axis=1, ddof=1)).all()


@pytest.mark.parametrize("name", SPREADS)
def test_gradients_of_spreads(name: str) -> None:
    x, y = (torch.tensor(a, requires_grad=True) for a in data((D, D)))
    product = redcomp.torch.Vi(x) * redcomp.torch.Vj(y)
    lazy_gradients = torch.autograd.grad(getattr(product, name)(1).square().sum(), (x, y))
    array = x[:, None] * y[None]
    expected = torch.autograd.grad(getattr(array, name)(1).square().sum(), (x, y))
    for found, wanted in zip(lazy_gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    same = torch.ones(N, 1, dtype=torch.float64, requires_grad=True)
    (at_zero,) = torch.autograd.grad(redcomp.torch.Vj(same).std(1).sum(), same)
    assert (at_zero == 0).all()


def test_derivatives() -> None:
    x, y, e = data((D, D, D))
    x_i, y_j, e_j = lazy("numpy", x, y, e)
    square = x_i.sqdist(y_j)
    difference = x[:, None] - y[None]
    _close(square.grad(x_i, gradin=1), 2 * difference)
    _close(square.diff(x_i, diffin=e_j), (2 * difference * e).sum(-1))
    _close(square.grad_matrix(other=x_i), 2 * difference)
    _close(square.laplacian(var=x_i), np.full((M, N), 2.0 * D))
    _close((x_i * y_j).divergence(var=x_i), np.broadcast_to(y.sum(-1), (M, N)))
    _close((x_i * y_j).trace_operator(var=x_i), np.broadcast_to(y.sum(-1), (M, N)))
