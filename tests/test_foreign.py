"""Arrays of other libraries, in the place of NumPy's and of tensors: needs a CPU and PyTorch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from array_samples import ALIASES, FORMULA, ROOT, assert_near, run_script, sample
from foreign_arrays import (
    Array,
    Converted,
    Dlpack,
    DlpackOnGpu,
    Held,
    Interface,
    OfLibrary,
    OfOther,
    OnGpu,
)

import redcomp.numpy
import redcomp.numpy.cluster
import redcomp.torch
import redcomp.torch.cluster
import redcomp.torch.foreign
from redcomp import foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.calls import Call

SPEAKERS = (Interface, Converted, Dlpack, OfLibrary, OfOther, memoryview)
LIBRARIES = ("jax", "cupy", "numba", "tensorflow", "pyarrow", "pandas", "polars", "ml_dtypes")


@pytest.fixture(scope="module")
def op() -> Any:
    return redcomp.numpy.Genred(FORMULA, ALIASES, axis=1)


def address(array: Array) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The addresses of the arguments that kernels have got."""
    found: list[int] = []
    launch = Call.launch

    def recorded(call: Call, blocks: Any, outputs: Any, arguments: Any, executor: Any) -> None:
        found.extend(arguments)
        launch(call, blocks, outputs, arguments, executor)

    monkeypatch.setattr(Call, "launch", recorded)
    return found


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPEAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_read_where_the_array_is(
    kind: Any, dtype: Any, op: Any, addresses: list[int]
) -> None:
    arrays = sample(dtype)
    assert_near(held(op(*map(kind, arrays))), arrays)
    assert addresses == list(map(address, arrays))


def held(result: Any) -> Any:
    """A result as an array of NumPy's."""
    return result if isinstance(result, np.ndarray) else result.held


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "read-only": read_only,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "transposed": np.asfortranarray,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "half": lambda a: a.astype(np.float16),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [Interface, Converted, Dlpack, memoryview])
def test_layouts(kind: Any, layout: str, op: Any) -> None:
    arrays = list(map(LAYOUTS[layout], sample()))
    if kind is Dlpack and layout == "byte-swapped":
        with pytest.raises(ArgumentError, match=r"'x' .*Dlpack and cannot be read"):
            op(*map(kind, arrays))
        return
    np.testing.assert_array_equal(op(*map(kind, arrays)), op(*arrays))


@pytest.mark.parametrize("kind", SPEAKERS)
def test_sizes_and_integers(kind: Any) -> None:
    count = redcomp.numpy.Genred("p * k", ["p = Pm(1)", "k = Vj(1, int)"], axis=0)
    p = np.array(2.0)
    for numbers in (np.arange(3), np.array([True, False]), np.array([7], np.uint8)):
        numbers = numbers[:, None]
        assert held(count(kind(p), kind(numbers))).tolist() == (2.0 * numbers).tolist()
    total = redcomp.numpy.Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    if kind is not memoryview:  # which has no array without items
        nothing = total(kind(np.ones((3, 1))), kind(np.ones((0, 1))))
        assert held(nothing).tolist() == [[0.0]] * 3


def test_numbers_get_the_dtype_of_arrays(op: Any) -> None:
    x, y, b, g = sample()
    result = op(Converted(x), Converted(y), Converted(b), 0.5)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, op(x, y, b, np.full_like(g, 0.5)))


# -- what is no array, or not one that can be read -------------------------------------------------


class Failing:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise KeyError("a secret\nof two lines")


class Proxy:
    def __getattr__(self, name: str) -> Any:
        return self


class Nowhere(Dlpack):
    def __dlpack_device__(self) -> Any:
        raise RuntimeError("on several devices")


REFUSED: dict[str, tuple[Callable[[Array], Any], str]] = {
    "nothing offered": (Held, "'y' must be a NumPy array; it is of type foreign_arrays.Held"),
    "objects": (lambda a: Converted(a.astype(object)), "holds no numbers: .* dtype is object"),
    "texts": (lambda a: Converted(a.astype("U3")), "holds no numbers: .* dtype is <U3"),
    "dates": (lambda a: Converted(np.ones(3, "M8[s]")), "holds no numbers"),
    "fields": (lambda a: Converted(np.ones(3, "f4,f4")), "holds no numbers"),
    "complex": (lambda a: Converted(a.astype(complex)), "'y' has dtype complex128; expected"),
    "another dtype": (lambda a: Converted(a.astype(float)), "'y' has dtype float64, but 'x'"),
    "failing": (lambda a: Failing(), "'y' is of type .*Failing and cannot be read as an array: "),
    "on a GPU": (OnGpu, "'y' must be in the host's memory; .*OnGpu, on a GPU: copy it"),
    "on a GPU, by DLPack": (DlpackOnGpu, "'y' must be in the host's memory; .* on a CUDA GPU"),
    "somewhere": (Nowhere, "'y' is of type .*Nowhere and does not say where it is: on several"),
    "of no module": (lambda a: eval("type('Odd', (), {})()", {}), "'y' .* it is of type Odd"),
    "what answers to any name": (lambda a: Proxy(), "'y' .* it is of type .*Proxy"),
    "a class": (lambda a: Interface, "'y' must be a NumPy array; it is of type type"),
    "bytes": (lambda a: b"abc", "'y' must be a NumPy array; it is of type bytes"),
    "a complex number": (lambda a: np.complex64(1), "'y' must be a NumPy array"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_argument(case: str, op: Any) -> None:
    make, message = REFUSED[case]
    x, y, b, g = sample()
    with pytest.raises(ArgumentError, match=message) as caught:
        op(x, make(y), b, g)
    assert "\n" not in str(caught.value)


# -- what comes back -------------------------------------------------------------------------------


def test_results_are_of_the_callers_library(op: Any) -> None:
    x, y, b, g = sample()
    for given, kind in (
        ((OfLibrary(x), OfLibrary(y), OfLibrary(b), OfLibrary(g)), OfLibrary),
        ((x, y, OfLibrary(b), 0.5), OfLibrary),
        ((OfOther(x), y, Converted(b), g), OfOther),
        ((Converted(x), Dlpack(y), Interface(b), g), np.ndarray),
    ):
        result = op(*given)
        assert type(result) is kind
    with pytest.raises(ArgumentError, match="'b' is an array of other, but argument 'x' is one of"):
        op(OfLibrary(x), y, OfOther(b), g)


def test_each_result_comes_back() -> None:
    x, y, *_ = map(OfLibrary, sample())
    both = redcomp.numpy.Genred("SqDist(x, y)", ALIASES[:2], "Min_ArgMin", axis=1)
    value, place = both(x, y)
    assert (type(value), type(place)) == (OfLibrary, OfLibrary)
    assert place.held.dtype == np.int64
    several = redcomp.numpy.Genred(["SqDist(x, y)"] * 2, ALIASES[:2], ["Sum", "Max_ArgMax"], axis=1)
    total, (most, where) = several(x, y)
    assert {type(total), type(most), type(where)} == {OfLibrary}


def test_a_result_is_handed_over_where_it_is(op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Array] = []
    library = foreign.Library("kept", type("Kept", (), {"from_dlpack": made.append}))
    assert library.made(np.ones(3)) is None
    arrays = sample()
    result = op(OfLibrary(arrays[0]), *arrays[1:]).held
    assert result.flags.owndata is False
    assert_near(result, arrays)


def test_out_is_an_array_of_numpy(op: Any) -> None:
    arrays = sample()
    out = np.zeros((len(arrays[0]), 2), np.float32)
    assert op(*map(OfLibrary, arrays), out=out) is out
    assert_near(out, arrays)
    with pytest.raises(ArgumentError, match="out must be a NumPy array; it is of type OfLibrary"):
        op(*arrays, out=OfLibrary(out))


def test_what_cannot_hold_a_result_says_so(op: Any) -> None:
    def refuse(array: Any) -> Any:
        raise TypeError("no such dtype")

    library = foreign.Library("strict", type("Strict", (), {"asarray": staticmethod(refuse)}))
    with pytest.raises(ArgumentError, match=r"strict cannot hold the result: .*no such dtype"):
        library.made(np.ones(3))


# -- other arguments, and other functions ----------------------------------------------------------


@pytest.mark.parametrize("kind", SPEAKERS)
def test_ranges(kind: Any, op: Any) -> None:
    arrays = sample()
    rows, columns = np.array([[0, 20], [30, 70]]), np.array([[0, 9], [20, 45], [3, 4]])
    ends = np.array([1, 3])
    given = (rows, ends, columns, columns[:2], ends - 1, rows)
    expected = op(*arrays, ranges=given)
    np.testing.assert_array_equal(op(*arrays, ranges=tuple(map(kind, given))), expected)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", SPEAKERS)
def test_systems(kind: Any) -> None:
    solver = redcomp.numpy.KernelSolve("Exp(-SqDist(x, y)) * b", ALIASES[:3], "b", axis=1)
    x, _, b, _ = sample(np.float64, columns=70)
    alpha = np.linspace(1, 2, 70)[:, None]
    expected, info = solver(x, x, b, alpha=alpha, return_info=True)
    found, info_of_kind = solver(kind(x), kind(x), kind(b), alpha=kind(alpha), return_info=True)
    assert (type(found) is kind) == (kind in (OfLibrary, OfOther))
    np.testing.assert_array_equal(held(found), expected)
    assert info_of_kind == info


def test_other_arguments_are_named(op: Any) -> None:
    arrays = sample()
    texts = Converted(np.array(["a", "b"]))
    with pytest.raises(ArgumentError, match=r"ranges\[0\] .* holds no numbers"):
        op(*arrays, ranges=[texts] * 6)
    solver = redcomp.numpy.KernelSolve("x * y * b", ["x=Vi(1)", "y=Vj(1)", "b=Vj(1)"], "b", axis=1)
    ones = np.ones((3, 1))
    for wrong, message in ((texts, "holds no numbers"), (OnGpu(ones), "host's memory")):
        with pytest.raises(ArgumentError, match=f"alpha .*{message}"):
            solver(ones, ones, ones, alpha=wrong)


# -- as tensors ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_op() -> Any:
    return redcomp.torch.Genred(FORMULA, ALIASES, axis=1)


@pytest.mark.parametrize("kind", SPEAKERS)
@pytest.mark.parametrize("change", [lambda a: a, read_only], ids=["plain", "read-only"])
def test_kernels_read_what_tensors_share(
    kind: Any, change: Any, torch_op: Any, addresses: list[int]
) -> None:
    arrays = list(map(change, sample()))
    result = torch_op(*map(kind, arrays))
    assert isinstance(result, torch.Tensor)
    assert_near(result.numpy(), arrays)
    assert addresses == list(map(address, arrays))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_tensors(layout: str, op: Any, torch_op: Any) -> None:
    arrays = list(map(LAYOUTS[layout], sample()))
    expected = op(*(a.astype(a.dtype.newbyteorder("=")) for a in arrays))
    np.testing.assert_array_equal(torch_op(*map(Converted, arrays)).numpy(), expected)


def test_tensors_among_them_keep_their_gradients() -> None:
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)", "g = Pm(1)"]
    product = redcomp.torch.Genred("(x | y) * b * g", aliases, axis=1)
    x, y, b, _ = sample(np.float64)
    tensor = torch.from_numpy(y).requires_grad_()
    result = product(OfLibrary(x), tensor, Converted(b), 0.5)
    (found,) = torch.autograd.grad(result.sum(), tensor)
    np.testing.assert_allclose(found.numpy(), 0.5 * b.sum(1)[:, None] * x.sum(0), 1e-12)


def test_systems_of_tensors() -> None:
    x, _, b, _ = sample(np.float64, columns=70)
    made = redcomp.torch.KernelSolve("Exp(-SqDist(x, y)) * b", ALIASES[:3], "b", axis=1)
    tensors = [torch.from_numpy(a) for a in (x, b)]
    expected = made(tensors[0], tensors[0], tensors[1], alpha=2.0)
    alpha = Converted(read_only(np.full((70, 1), 2.0)))
    assert torch.equal(made(OfLibrary(x), Converted(x), tensors[1], alpha=alpha), expected)


REFUSED_AS_TENSORS: dict[str, tuple[Callable[[Array], Any], str]] = {
    "an array of NumPy's": (lambda a: a, "'y' must be a tensor, not a ndarray: torch.from_numpy"),
    "nothing offered": (Held, "'y' must be a tensor, not a Held"),
    "texts": (lambda a: Converted(a.astype("U3")), "'y' .* holds no numbers"),
    "a long dtype": (lambda a: Converted(a.astype("g")), "'y' has dtype float128, which PyTorch"),
    "on a GPU": (OnGpu, "'y' is of type .*OnGpu, on a GPU, and PyTorch cannot take it there"),
    "on a GPU, by DLPack": (DlpackOnGpu, "on a CUDA GPU, and PyTorch cannot take it there"),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch would read host memory on a GPU")
@pytest.mark.parametrize("case", REFUSED_AS_TENSORS)
def test_refusals_of_tensors_name_the_argument(case: str, torch_op: Any) -> None:
    make, message = REFUSED_AS_TENSORS[case]
    if case == "a long dtype" and np.dtype("g").itemsize == 8:
        pytest.skip("here long doubles are doubles")
    x, y, b, g = sample()
    with pytest.raises(ArgumentError, match=message):
        torch_op(torch.from_numpy(x), make(y), torch.from_numpy(b), torch.from_numpy(g))


# -- the face that looks at its arguments ----------------------------------------------------------


@pytest.fixture(scope="module")
def either() -> Any:
    return redcomp.Genred(FORMULA, ALIASES, axis=1)


def test_arguments_say_which_face_is_called(either: Any) -> None:
    x, y, b, g = sample()
    tensor = torch.from_numpy(y)
    for given, kind in (
        ((x, y, b, g), np.ndarray),
        ((OfLibrary(x), y, b, 0.5), OfLibrary),
        ((OfLibrary(x), tensor, Converted(b), 0.5), torch.Tensor),
    ):
        assert type(either(*given)) is kind
    with pytest.raises(ArgumentError, match="'x' must be a tensor, not a ndarray: torch"):
        either(x, tensor, OfLibrary(b), g)


@pytest.fixture
def gpu_tensors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """PyTorch takes what says that it is on a GPU, though it is here, and lists it."""
    taken: list[Any] = []

    def tensor(value: Any, **_: Any) -> torch.Tensor:
        taken.append(value)
        return torch.from_numpy(value.held)

    monkeypatch.setattr(redcomp.torch.foreign, "from_dlpack", tensor)
    monkeypatch.setattr(torch, "as_tensor", tensor)
    return taken


def test_arrays_on_a_gpu_are_computed_with_there(
    either: Any, gpu_tensors: list[Any], addresses: list[int]
) -> None:
    arrays = sample()
    given: Any = list(map(DlpackOnGpu, arrays))
    result = either(*given)
    assert type(result) is OfLibrary
    assert_near(result.held, arrays)
    assert gpu_tensors == given
    assert addresses == list(map(address, arrays))
    mixed = [*given[:2], OnGpu(arrays[2]), 0.5]
    assert type(either(*mixed)) is OfLibrary
    assert type(either(*map(OnGpu, arrays))) is torch.Tensor  # nothing makes arrays of theirs
    out = torch.zeros(len(arrays[0]), 2)
    assert either(*given, out=out) is out


def test_arrays_on_a_gpu_and_elsewhere(either: Any, gpu_tensors: list[Any]) -> None:
    x, y, b, g = sample()
    with pytest.raises(ArgumentError, match="'y' must be a tensor, not a ndarray: torch"):
        either(DlpackOnGpu(x), y, b, g)
    ranges = [OnGpu(np.zeros((1, 2), int))] * 6
    with pytest.raises(ArgumentError, match=r"ranges\[0\] .* must be in the host's memory"):
        either(x, y, b, g, ranges=ranges)


def test_without_pytorch_an_error_says_what_to_do() -> None:
    program = (
        "import numpy as np, redcomp, foreign_arrays, sys\n"
        "op = redcomp.Genred('x * y', ['x = Vi(1)', 'y = Vj(1)'], axis=1)\n"
        "given = foreign_arrays.DlpackOnGpu(np.ones((2, 1)))\n"
        "try: op(given, given)\n"
        "except redcomp.errors.ArgumentError as error: print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    shown = run_script("-c", program, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    assert "on a CUDA GPU: copy it, or import torch and call redcomp.Genred" in shown


# -- LazyTensors -----------------------------------------------------------------------------------


def kernel(face: Any, x: Any, y: Any) -> Any:
    """A Gaussian kernel matrix of points, a LazyTensor."""
    return (-((face.Vi(x) - face.Vj(y)) ** 2).sum(-1)).exp()


def blocks(matrix: Any) -> Any:
    """The matrix four times."""
    return type(matrix).block([[matrix, matrix], [matrix, matrix]])


def as_kind_of(given: Any, array: Array) -> Any:
    return array if isinstance(given, np.ndarray) else type(given)(array)


# What LazyTensors of x and y give beside b, which has a row for each j.
LAZY: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "sum": lambda face, x, y, b: kernel(face, x, y).sum(axis=1),
    "keepdims": lambda face, x, y, b: kernel(face, x, y).sum(axis=0, keepdims=True),
    "argKmin": lambda face, x, y, b: (face.Vi(x) - face.Vj(y)).norm().argKmin(2, axis=1),
    "var": lambda face, x, y, b: kernel(face, x, y).var(axis=1, ddof=0),
    "matmul": lambda face, x, y, b: kernel(face, x, y) @ b,
    "times": lambda face, x, y, b: (kernel(face, x, y) * face.Vj(b)).sum(axis=1),
    "an operand": lambda face, x, y, b: (face.Vi(x) * x[:, None]).sum(axis=1),
    "the other operand": lambda face, x, y, b: (x[:, None] - face.Vj(y)).sum(axis=0),
    "a parameter": lambda face, x, y, b: (face.Vi(x) * face.Pm(y[0])).sum(axis=1),
    "complex": lambda face, x, y, b: (kernel(face, x, y) * 1j).sum(axis=1),
    "complex array": lambda face, x, y, b: face.Vi(x * 1j).abs().sum(axis=1),
    "dense": lambda face, x, y, b: kernel(face, x, y).dense(),
    "diagonal": lambda face, x, y, b: kernel(face, x, x).diagonal(),
    "blocks": lambda face, x, y, b: (
        blocks(kernel(face, x, y)) @ as_kind_of(b, np.ones(90, np.float32))
    ),
    "trace": lambda face, x, y, b: kernel(face, x, x).trace(),
    "solve": lambda face, x, y, b: kernel(face, y, y).solve(face.Vi(b), alpha=2.0),
    "symbols": lambda face, x, y, b: (face.Vi(0, 3) - face.Vj(y)).sqnorm2().sum(axis=1)(x),
    "a mixed difference": lambda face, x, y, b: (face.Vi(x) - face.Vj(Converted(held(y)))).sum(
        axis=1
    ),
}


class Indexed(OfLibrary):
    """With the operators that the cases need."""

    __array_ufunc__ = None
    shape = property(lambda self: self.held.shape)

    def __getitem__(self, index: Any) -> Indexed:
        return Indexed(self.held[index])

    def __mul__(self, other: Any) -> Any:
        return Indexed(self.held * other) if isinstance(other, complex) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return NotImplemented


@pytest.mark.sampled(30)
@pytest.mark.parametrize("case", LAZY)
def test_lazy_tensors(case: str) -> None:
    x, y, b, _ = sample()
    expected = LAZY[case](redcomp.numpy, x, y, b)
    result = LAZY[case](redcomp.numpy, *map(Indexed, (x, y, b)))
    assert type(result) is OfLibrary
    np.testing.assert_array_equal(result.held, expected)
    of_tensors = LAZY[case](redcomp.torch, *map(Indexed, (x, y, b)))
    assert isinstance(of_tensors, torch.Tensor)
    np.testing.assert_allclose(of_tensors.numpy(), np.asarray(expected), 2e-4, 1e-5)


def test_an_array_is_one_argument(addresses: list[int]) -> None:
    x, y, *_ = sample()
    lazy = redcomp.numpy.LazyTensor(Converted(x[:, None]))
    given = Converted(y)
    y_j = redcomp.numpy.Vj(given)
    result = ((lazy - y_j) ** 2 * redcomp.numpy.Vj(given)).sum(axis=1)
    assert isinstance(result, np.ndarray)
    assert addresses == [address(x), address(y)]
    assert [type(a) for a in (lazy - y_j).variables] == [Converted, Converted]


def test_columns_and_vectors_are_multiplied_with() -> None:
    x, y, b, _ = sample(np.float64)
    matrix = kernel(redcomp.numpy, x, y)
    column = np.ascontiguousarray(b[:, 0])
    for kind in SPEAKERS:
        assert type(matrix @ kind(column)) in (kind, np.ndarray)
        np.testing.assert_array_equal(held(matrix @ kind(column)), matrix @ column)
    of_tensors = kernel(redcomp.torch, torch.from_numpy(x), torch.from_numpy(y))
    expected = of_tensors @ torch.from_numpy(column)
    assert torch.equal(of_tensors @ OfLibrary(column), expected)
    twice = blocks(of_tensors) @ np.tile(column, 2)  # as each block, it gives back what it gets
    np.testing.assert_allclose(twice, 2 * np.tile(expected.numpy(), 2), 1e-12)


def test_lazy_tensors_of_two_libraries() -> None:
    x, y, *_ = sample()
    both = redcomp.numpy.Vi(OfLibrary(x)) - redcomp.numpy.Vj(OfOther(y))
    with pytest.raises(ArgumentError, match="variable 1 of the LazyTensor is an array of other, b"):
        both.sum(axis=1)
    with pytest.raises(
        ArgumentError, match=r"array of a LazyTensor is of type .* holds no numbers"
    ):
        redcomp.numpy.Vi(Converted(np.array([["a"]])))
    with pytest.raises(ArgumentError, match="a LazyTensor is made of an array of NumPy, a number"):
        redcomp.numpy.Vi(Held(x))


# -- clusters --------------------------------------------------------------------------------------

CLUSTERS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "grid_cluster": lambda face, x, lab: face.grid_cluster(x, size=np.array([0.5, 0.4, 2.0])),
    "sort_clusters": lambda face, x, lab: face.sort_clusters([x, x], lab),
    "cluster_ranges": lambda face, x, lab: face.cluster_ranges(lab),
    "cluster_centroids": lambda face, x, lab: face.cluster_centroids(x, lab=lab),
    "cluster_ranges_centroids": lambda face, x, lab: face.cluster_ranges_centroids(x, lab),
}


def flat(found: Any) -> list[Any]:
    return (
        [a for item in found for a in flat(item)] if isinstance(found, (list, tuple)) else [found]
    )


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters(name: str) -> None:
    x, *_ = sample(np.float64)
    lab = np.arange(len(x)) % 4
    expected = flat(CLUSTERS[name](redcomp.numpy.cluster, x, lab))
    for kind in (OfLibrary, Converted):
        found = flat(CLUSTERS[name](redcomp.numpy.cluster, kind(x), kind(lab)))
        assert {type(a) for a in found} == {OfLibrary if kind is OfLibrary else np.ndarray}
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(held(ours), theirs)
        given = torch.from_numpy(x), torch.from_numpy(lab)
        of_torch = flat(CLUSTERS[name](redcomp.torch.cluster, *given))
        for ours, theirs in zip(
            flat(CLUSTERS[name](redcomp.torch.cluster, kind(x), kind(lab))), of_torch, strict=True
        ):
            assert torch.equal(ours, theirs)


def test_clusters_name_what_they_refuse() -> None:
    x, *_ = sample()
    for wrong, message in (
        (Converted(np.array(["a"])), "lab is of type .* and holds no numbers"),
        (Held(np.arange(70)), "lab must be of type ndarray, not Held"),
    ):
        with pytest.raises(ArgumentError, match=message):
            redcomp.numpy.cluster.sort_clusters(Converted(x), wrong)
    with pytest.raises(TypeError, match="positional arguments"):
        redcomp.numpy.cluster.cluster_ranges(*[Converted(x)] * 9)


# -- nothing is imported ---------------------------------------------------------------------------


def test_no_library_is_imported() -> None:
    pattern = re.compile(rf"^\s*(import|from) ({'|'.join(LIBRARIES)})\b", re.MULTILINE)
    assert pattern.search("def f():\n    import jax\n")
    files = Path(redcomp.__file__).parent.rglob("*.py")
    assert [path for path in files if pattern.search(path.read_text(encoding="utf-8"))] == []
