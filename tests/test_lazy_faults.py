"""What KeOps 2.3 gets wrong in LazyTensors is right: needs the CPU backend, PyTorch.

Each test is named after what is right, and its docstring says what KeOps does. Expected values are
computed in float64 without redcomp. Where whole programs are compared with KeOps, `lazy_cases.py`
says what it gets wrong in them: products with 0, `%`, `//`, `__rpow__`, indices, complex numbers
beside Python's, `grad_matrix`, `difference_matrix`, systems of symbolic variables, batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from single_values import INF, NAN, close, uniform

import redcomp.numpy
import redcomp.numpy.cluster
import redcomp.torch
import redcomp.torch.cluster
from redcomp.errors import ArgumentError, RedcompError
from redcomp.numpy import LazyTensor, Pm, Vi, Vj

Array = Any
X, Y = uniform(5, 3, seed=2), uniform(4, 3, seed=3)


@pytest.fixture(params=["numpy", "torch"])
def library(request: pytest.FixtureRequest) -> Any:
    return getattr(redcomp, request.param)


def given(library: Any, *arrays: Array, dtype: str = "float64") -> list[Any]:
    """The arrays, as the library has them."""
    typed = [np.asarray(array, dtype) for array in arrays]
    return list(map(torch.tensor, typed)) if library is redcomp.torch else typed


def each(function: Callable[..., Any], *columns: Any) -> Array:
    """A function of LazyTensors of i, at each row."""
    rows = np.broadcast_arrays(*columns)
    return function(*(Vi(np.array(row, float).reshape(-1, 1)) for row in rows)).sum(axis=1)[:, 0]


def gradients(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    """Of the sum of a function of the LazyTensors of i of some arrays."""
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    result = function(*map(redcomp.torch.Vi, leaves)).sum(axis=1)
    value = result.real if result.is_complex() else result
    return [g.numpy() for g in torch.autograd.grad(value.sum(), leaves)]


# -- precision -------------------------------------------------------------------------------------


def test_numbers_have_the_precision_of_the_data(library: Any) -> None:
    """KeOps rounds x/3 and integers to float32, also in float64 (BUG-5)."""
    (x,) = given(library, X)
    x_i = library.Vi(x)
    close((x_i / 3).sum(axis=1), X / 3, units=1)
    close((x_i * 0.1).sum(axis=1), X * 0.1, units=1)
    close((x_i + 16777217).sum(axis=1), X + 16777217, units=4)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("exponent", [1.5, -2.5, 0.1])
def test_powers_have_the_precision_of_the_data(library: Any, exponent: float) -> None:
    """KeOps computes powers other than integers in float32 (BUG-6)."""
    (x,) = given(library, X + 0.5)
    x_i = library.Vi(x)
    close((x_i**exponent).sum(axis=1), (X + 0.5) ** exponent)
    close((x_i**x_i).sum(axis=1), (X + 0.5) ** (X + 0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_beside_symbols_have_the_dtype_of_the_call(library: Any, dtype: str) -> None:
    """KeOps makes them before it knows of the data."""
    x, y = given(library, X, Y, dtype=dtype)
    lazy = library.Vi(0, 3) * 0.1 + library.Vj(1, 3) * [0.2, 0.3, 0.4]
    result = lazy.sum(axis=1)(x, y)
    assert str(result.dtype).endswith(dtype)
    exact = [np.asarray(array, np.float64) for array in (x, y)]
    factors = np.array([0.2, 0.3, 0.4])
    dense = (exact[0][:, None] * 0.1 + exact[1] * factors).sum(1)
    close(result, dense)


def test_integer_constants_and_fractions_add_up() -> None:
    """KeOps raises AttributeError (BUG-9)."""
    one_third = LazyTensor(1) / 3
    for lazy, value in ((one_third + 1, 4 / 3), (one_third - 1, -2 / 3), (2 - one_third, 5 / 3)):
        close((Vi(X) * lazy).sum(axis=1), X * value)


# -- special values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [([-INF, -INF], -INF), ([-INF, 0.0, 0.0], math.log(2)), ([INF, 1.0], INF), ([INF, INF], INF)],
)
def test_logsumexp_of_infinities_is_that_of_the_mathematics(
    library: Any, values: list[float], expected: float
) -> None:
    """KeOps has NaN where the first is -inf, or where +inf is repeated."""
    (column,) = given(library, np.array(values)[:, None])
    result = library.Vj(column).logsumexp(axis=1)
    assert result.shape == (1, 1)
    assert float(result[0, 0]) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "neutral"), [("sum", 0.0), ("min", INF), ("logsumexp", -INF)])
def test_reductions_of_nothing_have_the_neutral_element(
    library: Any, name: str, neutral: float
) -> None:
    """KeOps has NaN for logsumexp."""
    x, nothing = given(library, X, np.zeros((0, 3)))
    lazy = (library.Vi(x) - library.Vj(nothing)).sqnorm2()
    assert lazy.shape == (5, 0)
    assert getattr(lazy, name)(axis=1).tolist() == [[neutral]] * 5
    assert tuple(getattr(lazy, name)(axis=0).shape) == (0, 1)


@pytest.mark.parametrize(("rows", "columns"), [(5, 0), (0, 5), (0, 0), (5, 5)])
def test_arrays_of_nothing_have_their_shape(library: Any, rows: int, columns: int) -> None:
    x, y = given(library, np.ones((rows, 3)), np.ones((columns, 3)))
    vectors = library.Vi(x) - library.Vj(y)
    assert tuple(vectors.dense().shape) == (rows, columns, 3)
    assert tuple(vectors.sqnorm2().dense().shape) == (rows, columns)
    if rows == columns:
        assert tuple(vectors.diagonal().shape) == (rows, 3)
        assert tuple(vectors.trace().shape) == (3,)


SPECIAL: dict[str, tuple[Callable[..., Any], list[float], list[float]]] = {
    "rsqrt": (lambda x: x.rsqrt(), [0.0, 4.0], [0.0, 0.5]),
    "xlogx": (lambda x: x.xlogx(), [0.0, 1.0], [0.0, 0.0]),
    "sinxdivx": (lambda x: x.sinxdivx(), [0.0], [1.0]),
    "step": (lambda x: x.step(), [0.0, -0.5, 2.0], [1.0, 0.0, 1.0]),
    "sign": (lambda x: x.sign(), [0.0, NAN, -3.0], [0.0, 0.0, -1.0]),
    "relu": (lambda x: x.relu(), [-1.0, NAN, 2.0], [0.0, NAN, 2.0]),
    "ifelse": (lambda x: x.ifelse(1, 2), [0.0, NAN, -1.0, 1.0], [1.0, 2.0, 2.0, 1.0]),
    "round": (lambda x: x.round(), [0.5, -0.5, 1.5, 2.5], [1.0, -1.0, 2.0, 3.0]),
    "normalize": (lambda x: x.normalize(), [0.0], [0.0]),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_values_at_special_points_are_those_of_the_language(name: str) -> None:
    """KeOps documents few of them; programs rely on them."""
    function, places, expected = SPECIAL[name]
    np.testing.assert_array_equal(each(function, places), expected)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("sqrt", 0.0, 0.0),
        ("norm2", 0.0, 0.0),
        ("relu", 0.0, 1.0),
        ("abs", 0.0, 0.0),
        ("sinxdivx", 0.0, 0.0),
        ("asin", 1.0, 0.0),
        ("acos", -1.0, 0.0),
        ("normalize", 0.0, 0.0),
    ],
)
def test_gradients_at_special_points_are_finite(name: str, place: float, expected: float) -> None:
    """As in KeOps; but the derivative of sin(x) / x at 0, which there is NaN."""
    (gradient,) = gradients(lambda x: getattr(x, name)(), np.array([[place]]))
    assert gradient.tolist() == [[expected]]


def test_extrema_pass_nan_over(library: Any) -> None:
    """As in KeOps; NumPy's and PyTorch's functions do not."""
    (column,) = given(library, [[NAN], [2.0], [1.0], [NAN]])
    lazy = library.Vj(column)
    assert lazy.min(axis=1).tolist() == [[1.0]]
    assert lazy.argmin(axis=1).tolist() == [[2]]
    assert [value.item() for value in lazy.max_argmax(axis=1)] == [2.0, 1.0]
    assert lazy.argKmin(2, dim=1).tolist() == [[2, 1]]


def test_places_are_integers(library: Any) -> None:
    """Its documentation shows floats."""
    x, y = given(library, X, Y)
    places = (library.Vi(x) - library.Vj(y)).sqnorm2().argKmin(2, dim=1)
    assert str(places.dtype).endswith("int64")


# -- gradients -------------------------------------------------------------------------------------

BROADCAST: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "atan2": (lambda x, s: s.atan2(x), lambda x, s: torch.atan2(s, x)),
    "atan2 of vectors": (lambda x, s: x.atan2(s), lambda x, s: torch.atan2(x, s)),
    "power": (lambda x, s: x**s, lambda x, s: x**s),
    "ifelse": (lambda x, s: (x - 0.5).ifelse(s, x), lambda x, s: torch.where(x >= 0.5, s, x)),
    "ifelse of scalars": (
        lambda x, s: (s - 0.5).ifelse(x, s),
        lambda x, s: torch.where(s >= 0.5, x, s),
    ),
    "minimum": (lambda x, s: x.minimum(s), torch.minimum),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", BROADCAST)
def test_gradients_of_scalars_beside_vectors_are_sums(name: str) -> None:
    """KeOps has the wrong dimension, or another value (BUG-4)."""
    lazy, dense = BROADCAST[name]
    x, s = X + 0.1, uniform(5, 1, seed=4) + 0.1
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, s)]
    expected = torch.autograd.grad(dense(*leaves).sum(), leaves)
    for result, right in zip(gradients(lazy, x, s), expected, strict=True):
        close(result, right.numpy(), units=32)


def test_gradients_reach_arrays_that_are_broadcast_in_a_batch() -> None:
    """KeOps once gave them another shape than that of the array."""
    arrays = [uniform(2, 5, 1, 3), uniform(1, 1, 4, 3, seed=5), uniform(3, seed=6)]
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    dense = (-((leaves[0] - leaves[1]) ** 2 * leaves[2]).sum(-1)).exp().sum(2)
    expected = torch.autograd.grad((dense**2).sum(), leaves)
    x_i, y_j, p = map(redcomp.torch.LazyTensor, leaves)
    lazy = (-((x_i - y_j) ** 2 * p).sum(-1)).exp().sum(2)
    found = torch.autograd.grad((lazy**2).sum(), leaves)
    for result, right in zip(found, expected, strict=True):
        assert result.shape == right.shape
        close(result, right.numpy(), units=64)


# -- what a LazyTensor is made of ------------------------------------------------------------------


def test_parameters_of_modules_are_tensors() -> None:
    """KeOps takes no subclass, and its error is another error."""
    weight = torch.nn.Parameter(torch.tensor(X))
    result = (redcomp.torch.Vi(weight) * 2).sum(axis=1)
    close(result.detach(), 2 * X)
    result.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == np.full_like(X, 2).tolist()


def test_mapped_files_are_arrays(tmp_path: Path) -> None:
    """KeOps takes no subclass of NumPy's arrays."""
    mapped = np.memmap(tmp_path / "points", np.float64, "w+", shape=X.shape)
    mapped[:] = X
    close((Vi(mapped) * 2).sum(axis=1), 2 * X)


@pytest.mark.parametrize("number", [np.float64(1.5), np.array(1.5), np.array([1.5]), 1.5, [1.5]])
def test_numbers_come_in_many_forms(number: Any) -> None:
    """KeOps raises for NumPy's arrays without axes."""
    for lazy in (LazyTensor(X[:, None]) * number, LazyTensor(X[:, None]) * Pm(number)):
        close(lazy.sum(axis=1), 1.5 * X)


def test_arrays_without_axes_are_numbers_for_tensors_too() -> None:
    lazy = redcomp.torch.Vi(torch.tensor(X)) * torch.tensor(1.5, dtype=torch.float64)
    close(lazy.sum(axis=1), 1.5 * X)


def test_noncontiguous_arrays_are_taken(library: Any) -> None:
    """KeOps' solver reads them as if they were contiguous (BUG-12)."""
    x, y = given(library, X.T.copy(), np.repeat(Y, 2, 0))
    lazy = (library.Vi(x.T) - library.Vj(y[::2])).sqnorm2()
    close(lazy.sum(axis=1)[:, 0], ((X[:, None] - Y) ** 2).sum((1, 2)), units=32)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("components", [99, 101, 150])
def test_long_vectors_keep_options_of_reductions(library: Any, components: int) -> None:
    """KeOps drops call, ranges and backend from 101 components on, for one index (BUG-15)."""
    vectors = uniform(4, components, seed=7)
    x, b = given(library, uniform(5, 1, seed=8), vectors)
    lazy = (library.Vi(x) * 2).exp() * library.Vj(b)
    for axis, dense in ((1, np.exp(2 * uniform(5, 1, seed=8)) * vectors.sum(0)), (0, None)):
        later = lazy.sum(axis=axis, call=False)
        assert callable(later)
        if dense is None:
            dense = np.exp(2 * uniform(5, 1, seed=8)).sum() * vectors
        close(later(), dense, units=64)
        close(lazy.sum(axis=axis), dense, units=64)


def test_long_vectors_may_be_symbols(library: Any) -> None:
    """KeOps raises IndexError (BUG-15)."""
    vectors = uniform(4, 120, seed=7)
    x, b = given(library, X, vectors)
    lazy = (-(library.Vi(x).sqnorm2())).exp() * library.Vj(0, 120)
    dense = np.exp(-(X**2).sum(1))
    close(lazy.sum(axis=0)(b), dense.sum() * vectors, units=64)
    close(lazy.sum(axis=1)(b), dense[:, None] * vectors.sum(0), units=64)


@pytest.mark.parametrize(
    "options",
    [{"sum_scheme": "kahan_scheme"}, {"dtype_acc": "float64"}, {"use_double_acc": True}],
)
def test_accumulation_options_serve_every_sum(options: dict[str, Any]) -> None:
    """KeOps raises for logsumexp and its kin (BUG-11)."""
    x, y = (array.astype(np.float32) for array in (X, Y))
    lazy = (Vi(x) - Vj(y)).sqnorm2()
    dense = ((x.astype(float)[:, None] - y) ** 2).sum(-1)
    close(lazy.logsumexp(axis=1, **options)[:, 0], np.log(np.exp(dense).sum(1)), units=8)
    weights = np.exp(dense) / np.exp(dense).sum(1, keepdims=True)
    close(lazy.sumsoftmaxweight(Vj(y), axis=1, **options), weights @ y, units=8)


def test_unknown_options_are_errors() -> None:
    """KeOps drops them where it takes a short cut, and over components always."""
    lazy = Vi(X) * Vj(Y)
    with pytest.raises(ArgumentError, match="bakend"):
        lazy.sum(axis=1, bakend="CPU")
    with pytest.raises(ArgumentError, match="bakend"):
        lazy.sum(-1, bakend="CPU")
    with pytest.raises(ArgumentError, match="block_sum"):
        lazy.sum(axis=1, sum_scheme="block_red")


def test_options_may_be_attributes(library: Any) -> None:
    """As in KeOps; they go on to what is made of a LazyTensor."""
    x, y = given(library, X, Y)
    lazy = library.Vi(x)
    lazy.backend = "CPU"
    product = (lazy * library.Vj(y)).exp()
    assert product.backend == "CPU"
    product.backend = "TPU"
    with pytest.raises(ArgumentError, match="TPU"):
        product.sum(axis=1)


def test_weights_of_logsumexp_have_two_names(library: Any) -> None:
    """As in KeOps, whose Genred gives the raw pair for such weights (BUG-10)."""
    x, y = given(library, X, Y)
    lazy = (library.Vi(x) - library.Vj(y)).sqnorm2()
    dense = np.log(np.exp(((X[:, None] - Y) ** 2).sum(-1)) @ Y)
    close(lazy.logsumexp(axis=1, weight=library.Vj(y)), dense, units=32)
    close(lazy.logsumexp(axis=1, other=library.Vj(y)), dense, units=32)


# -- ranges ----------------------------------------------------------------------------------------


def blocks(library: Any, kept: list[list[bool]]) -> Any:
    """Ranges of rows 0..1 and 2..4, and columns 0..1 and 2..3."""
    made = [np.array([[0, 2], [2, 5]]), np.array([[0, 2], [2, 4]]), np.array(kept)]
    if library is redcomp.torch:
        return redcomp.torch.cluster.from_matrix(*map(torch.tensor, made))
    return redcomp.numpy.cluster.from_matrix(*made)


def test_rows_outside_of_ranges_have_the_neutral_element(library: Any) -> None:
    """KeOps leaves them uninitialised on a GPU, and its logsumexp gives NaN (BUG-17)."""
    x, y = given(library, X, Y)
    lazy = (library.Vi(x) - library.Vj(y)).sqnorm2()
    ranges = blocks(library, [[False, False], [True, True]])
    for name, neutral in (("sum", 0.0), ("min", INF), ("max", -INF), ("logsumexp", -INF)):
        result = getattr(lazy, name)(axis=1, ranges=ranges)
        assert [float(value) for value in result[:2, 0]] == [neutral, neutral]
        assert np.isfinite(np.asarray(result[2:])).all()


def test_blocks_of_rows_that_overlap_are_errors(library: Any) -> None:
    """KeOps writes them twice, in any order."""
    x, y = given(library, X, Y)
    lazy = library.Vi(x) | library.Vj(y)
    ranges = list(blocks(library, [[True, True], [True, True]]))
    ranges[0][1, 0] = 1
    with pytest.raises(ArgumentError, match="overlap"):
        lazy.sum(axis=1, ranges=tuple(ranges))


def test_ranges_and_batches_go_together() -> None:
    """KeOps gives anything (unchecked)."""
    x, y = uniform(2, 5, 1, 3), uniform(2, 1, 4, 3, seed=9)
    lazy = (LazyTensor(x) - LazyTensor(y)).sqnorm2()
    lazy.ranges = blocks(redcomp.numpy, [[True, False], [True, True]])
    dense = ((x - y) ** 2).sum(-1)
    dense[:, :2, 2:] = 0
    close(lazy.sum(axis=2)[..., 0], dense.sum(2), units=32)


# -- validation ------------------------------------------------------------------------------------

WRONG: dict[str, Callable[[], Any]] = {
    "numbers of rows": lambda: Vi(X) + Vi(X[:4]),
    "numbers of columns": lambda: Vj(X) + Vj(Y),
    "dimensions": lambda: Vi(X) + Vj(Y[:, :2]),
    "types": lambda: Vi(X) + Vj(Y.astype(np.float32)),
    "batches": lambda: LazyTensor(uniform(2, 5, 1, 3)) + LazyTensor(uniform(3, 1, 4, 3)),
    "component": lambda: Vi(X)[3],
    "negative component": lambda: Vi(X)[-4],
    "part": lambda: Vi(X).extract(2, 2),
    "another index": lambda: Vi(X)[0, :, :],
    "one_hot": lambda: Vi(X[:, :1]).one_hot(0),
    "axis": lambda: Vi(X).sum(axis=3),
    "no axis": lambda: Vi(X).logsumexp(),
    "two-dimensional arrays": lambda: LazyTensor(X),
    "texts": lambda: LazyTensor("x"),
    "weights": lambda: Vi(X).sumsoftmaxweight(Vj(Y), axis=1),
    "matrix of vectors": lambda: Vi(X) @ np.ones(5),
    "length of a vector": lambda: (Vi(X) | Vj(Y)) @ np.ones(5),
    "missing symbols": lambda: (Vi(0, 3) + Vj(1, 3)).sum(axis=1)(X),
    "gaps between symbols": lambda: (Vi(0, 3) + Vj(2, 3)).sum(axis=1)(X, Y),
    "both libraries": lambda: Vi(X) + redcomp.torch.Vj(torch.tensor(Y)),
    "arrays of the other library": lambda: Vi(X) + torch.tensor(Y)[None],
    "backend": lambda: Vi(X).sum(axis=1, backend="TPU"),
    "K": lambda: (Vi(X) | Vj(Y)).argKmin(0, dim=1),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_right_is_an_error(name: str) -> None:
    """KeOps checks few of them, and then reads past arrays or gives garbage."""
    with pytest.raises(RedcompError):
        WRONG[name]()


@pytest.mark.parametrize("reduction", ["sum", "argmin"])
def test_reductions_that_are_not_called_are_no_lazy_tensors(reduction: str) -> None:
    """As in KeOps: a reduced LazyTensor cannot go on."""
    later = getattr(Vi(0, 3) * Vj(1, 3), reduction)(axis=1)
    with pytest.raises((TypeError, ValueError)):
        later + Vi(X)


def test_the_same_array_may_have_both_indices(library: Any) -> None:
    (x,) = given(library, X)
    close((library.Vi(x) - library.Vj(x)).sum(axis=1), 5 * X - X.sum(0), units=32)
    lazy = library.Vi(x)
    close((lazy * lazy.t()).sum(axis=1), X * X.sum(0), units=32)


# -- complex numbers -------------------------------------------------------------------------------


def test_complex_gradients_reach_real_variables_of_odd_dimension() -> None:
    """KeOps raises ValueError (BUG-7)."""
    z = X[:, :1] + 1j * uniform(5, 1, seed=10)
    leaves = [torch.tensor(array, requires_grad=True) for array in (X, z)]
    found = gradients(lambda x, z: (x * z).exp(), X, z)
    expected = torch.autograd.grad(torch.exp(leaves[0] * leaves[1]).real.sum(), leaves)
    for result, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(result, right.numpy(), rtol=1e-12)


@pytest.mark.parametrize("values", [[1 + 2j], [1 + 2j, 3 - 1j, 2j]])
def test_lists_of_complex_numbers_are_vectors(library: Any, values: list[complex]) -> None:
    """KeOps mixes them up from two on (BUG-16)."""
    (x,) = given(library, X)
    close_complex((library.Vi(x) * values).sum(axis=1), X * np.array(values))
    z = library.Vi(given(library, X, dtype="complex128")[0])
    close_complex((z * values).sum(axis=1), X * np.array(values))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("number", [2, 2.0, 1.5 - 2j])
def test_complex_numbers_go_with_those_of_python(library: Any, number: complex) -> None:
    """KeOps raises AttributeError."""
    values = X + 1j * X[::-1]
    z = library.Vi(given(library, values, dtype="complex128")[0])
    for lazy, dense in (
        (z * number, values * number),
        (number * z, values * number),
        (z + number, values + number),
        (number - z, number - values),
        (z / number, values / number),
    ):
        close_complex(lazy.sum(axis=1), dense)


def close_complex(result: Any, expected: Array) -> None:
    assert str(result.dtype).endswith("complex128")
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-14, atol=1e-14)
