"""Whatever is passed, an error of redcomp's own that names it: needs a CPU and PyTorch."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.numpy.cluster
import redcomp.torch
import redcomp.torch.cluster
from redcomp import arguments
from redcomp.errors import ArgumentError, FormulaError, RedcompError
from redcomp.limits import MAX_AXES, MAX_LIST

FORMULA, ALIASES = "Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
GENREDS = (redcomp.numpy.Genred, redcomp.torch.Genred)
CLUSTERS = (redcomp.numpy.cluster, redcomp.torch.cluster)

NOTHING_OF_USE: dict[str, Any] = {
    "None": None,
    "a number": 3,
    "a complex number": 1j,
    "a text": "abc",
    "a list": [1, 2],
    "a list of lists": [[1], 2],
    "a dictionary": {"x": 1},
    "an object": object(),
    "a huge number": 10**5000,
    "an endless iterator": itertools.count(),
    "a range of any length": range(10**12),
    "NaN": float("nan"),
    "numbers": np.ones((3, 2)),
    "more axes": np.ones((1, 1, 1)),
    "nothing": np.zeros((0,), int),
    "complex numbers": np.ones((3, 2), complex),
    "objects": np.full((3, 2), None),
    "times": np.ones((3, 2), "M8[s]"),
    "fields": np.ones(3, [("a", "f8", (2,)), ("b", "i4")]),
    "masked": np.ma.masked_equal(np.ones((3, 2)), 1),
    "an array elsewhere": type("OnGpu", (), {"__cuda_array_interface__": {}})(),
    "an array that fails": type("Failing", (), {"__array__": lambda self, *_, **__: 1 / 0})(),
    "tensor": torch.ones(3, 2),
    "complex tensor": torch.ones(3, 2, dtype=torch.complex64),
    "tensor with a gradient": torch.ones(3, 2, requires_grad=True),
}


def points() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.random((5, 3)), rng.random((5, 3)), rng.random((5, 1))]


def in_library(library: int, arrays: list[np.ndarray[Any, Any]]) -> list[Any]:
    return [torch.from_numpy(a) for a in arrays] if library else list(arrays)


def own_error_or_result(call: Callable[[], object], name: str) -> None:
    """Fail if the call raises anything but an error of redcomp's own that names the argument."""
    message = name
    try:
        call()
    except FormulaError as error:
        message = name + str(error)  # which shows the text
    except RedcompError as error:
        message = str(error)
    assert name in message
    assert len(message) < 500


@pytest.mark.filterwarnings("ignore::redcomp.errors.AxisWarning")  # of None
@pytest.mark.parametrize("value", NOTHING_OF_USE)
@pytest.mark.parametrize(
    "name",
    [
        *("formula", "aliases", "reduction_op", "axis", "dtype", "opt_arg", "formula2"),
        *("cuda_type", "dtype_acc", "use_double_acc", "sum_scheme", "use_fast_math"),
    ],
)
def test_options_of_genred(name: str, value: str) -> None:
    given: dict[str, Any] = {"formula": FORMULA, "aliases": ALIASES, "axis": 1}
    given[name] = NOTHING_OF_USE[value]
    for genred in GENREDS:
        own_error_or_result(lambda genred=genred: genred(**given), name)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("value", NOTHING_OF_USE)
@pytest.mark.parametrize("library", [0, 1])
def test_arguments_and_options_of_a_call(library: int, value: str) -> None:
    operation: Any = GENREDS[library](FORMULA, ALIASES, axis=1)
    arrays = in_library(library, points())
    thing = NOTHING_OF_USE[value]
    for position, name in enumerate("xyb"):
        given = [*arrays[:position], thing, *arrays[position + 1 :]]
        own_error_or_result(lambda given=given: operation(*given), repr(name))
    for name in ("backend", "device_id", "ranges", "out"):
        options = {name: thing}
        own_error_or_result(lambda options=options: operation(*arrays, **options), name)
    own_error_or_result(lambda: operation(*arrays, ranges=[thing] * 6), "ranges[0]")
    for name in ("dtype", "target"):
        options = {name: thing}
        own_error_or_result(lambda options=options: operation.lower(**options), name)
        own_error_or_result(lambda options=options: operation.explain(**options), name)


@pytest.mark.filterwarnings("ignore::redcomp.errors.AxisWarning")  # of None
@pytest.mark.filterwarnings("ignore::redcomp.errors.ConvergenceWarning")
@pytest.mark.parametrize("value", NOTHING_OF_USE)
@pytest.mark.parametrize("library", [0, 1])
def test_arguments_of_kernel_solve(library: int, value: str) -> None:
    face: ModuleType = (redcomp.numpy, redcomp.torch)[library]
    thing = NOTHING_OF_USE[value]
    for name in ("formula", "aliases", "varinvalias", "axis"):
        given = {"formula": FORMULA, "aliases": ALIASES, "varinvalias": "b", "axis": 1, name: thing}
        own_error_or_result(lambda given=given: face.KernelSolve(**given), name)
    solver = face.KernelSolve(FORMULA, ALIASES, "b", axis=1)
    x, _, b = in_library(library, points())
    for name in ("alpha", "eps", "rtol", "maxiter", "precondition", "return_info"):
        options = {"alpha": 0.1, name: thing}
        own_error_or_result(lambda options=options: solver(x, x, b, **options), name)


@pytest.mark.parametrize("value", NOTHING_OF_USE)
@pytest.mark.parametrize("library", [0, 1])
def test_arguments_of_generic_functions(library: int, value: str) -> None:
    face: ModuleType = (redcomp.numpy, redcomp.torch)[library]
    thing = NOTHING_OF_USE[value]
    own_error_or_result(lambda: face.generic_sum(thing, "a = Vi(1)", *ALIASES), "formula")
    own_error_or_result(lambda: face.generic_sum(FORMULA, thing, *ALIASES), "output")
    own_error_or_result(lambda: face.generic_argkmin(FORMULA, "a = Vi(2)", thing), "aliases")
    own_error_or_result(lambda: face.generic_sum(FORMULA, "a = Vi(1)", *ALIASES, axis=1), "axis")


def cluster_calls(library: int, thing: Any) -> dict[str, Callable[[], object]]:
    """Each helper with the thing in the place of each of its arguments, by the argument's name."""
    c: ModuleType = CLUSTERS[library]
    given = [np.random.default_rng(0).random((3, 2)), np.array([0, 1, 1]), np.ones(3)]
    given += [np.array([[0, 1], [1, 3]]), np.ones((2, 2), bool)]
    x, lab, w, intervals, keep = in_library(library, given)
    return {
        "x of grid_cluster": lambda: c.grid_cluster(thing, 1.0),
        "size of grid_cluster": lambda: c.grid_cluster(x, thing),
        "x of sort_clusters": lambda: c.sort_clusters(thing, lab),
        "lab of sort_clusters": lambda: c.sort_clusters(x, thing),
        "lab of cluster_ranges": lambda: c.cluster_ranges(thing),
        "Nlab of cluster_ranges": lambda: c.cluster_ranges(lab, thing),
        "x of cluster_centroids": lambda: c.cluster_centroids(thing, lab),
        "lab of cluster_centroids": lambda: c.cluster_centroids(x, thing),
        "Nlab of cluster_centroids": lambda: c.cluster_centroids(x, lab, thing),
        "weights of cluster_centroids": lambda: c.cluster_centroids(x, lab, None, thing),
        "weights_c of cluster_centroids": lambda: c.cluster_centroids(x, lab, None, w, thing),
        "x of cluster_ranges_centroids": lambda: c.cluster_ranges_centroids(thing, lab),
        "lab of cluster_ranges_centroids": lambda: c.cluster_ranges_centroids(x, thing),
        "weights of cluster_ranges_centroids": lambda: c.cluster_ranges_centroids(x, lab, thing),
        "min_weight of cluster_ranges_centroids": lambda: c.cluster_ranges_centroids(
            x, lab, w, thing
        ),
        "ranges_i of from_matrix": lambda: c.from_matrix(thing, intervals, keep),
        "ranges_j of from_matrix": lambda: c.from_matrix(intervals, thing, keep),
        "keep of from_matrix": lambda: c.from_matrix(intervals, intervals, thing),
        "ranges of swap_axes": lambda: c.swap_axes(thing),
    }


@pytest.mark.parametrize("value", NOTHING_OF_USE)
@pytest.mark.parametrize("library", [0, 1])
def test_arguments_of_cluster_helpers(library: int, value: str) -> None:
    for what, call in cluster_calls(library, NOTHING_OF_USE[value]).items():
        own_error_or_result(call, what.partition(" ")[0])


@pytest.mark.parametrize("library", [0, 1])
def test_aliases_come_alone_or_from_a_generator(library: int) -> None:
    x = np.arange(6.0).reshape(3, 2)
    (given,) = in_library(library, [x])
    alone: Any = GENREDS[library]("x * 2", "x = Vi(2)", axis=1)
    np.testing.assert_array_equal(alone(given), 2 * x)
    several: Any = GENREDS[library]("x * 2", (f"{name} = Vi(2)" for name in "x"), axis=1)
    np.testing.assert_array_equal(several(given), 2 * x)
    assert several.aliases == ("x = Vi(2)",)


def test_masked_arrays_are_refused_where_they_mask_anything() -> None:
    operation = redcomp.numpy.Genred("x", "x = Vi(1)", axis=1)
    masked = np.ma.masked_array(np.ones((3, 1)), mask=[[0], [1], [0]])
    with pytest.raises(ArgumentError, match=r"argument 'x' is a masked array.*\.filled"):
        operation(masked)
    np.testing.assert_array_equal(operation(masked.filled(2)), [[1], [2], [1]])
    np.testing.assert_array_equal(operation(np.ma.masked_array(np.ones((3, 1)))), np.ones((3, 1)))
    with pytest.raises(ArgumentError, match=r"^out is a masked array"):
        operation(np.ones((3, 1)), out=masked)


@pytest.mark.parametrize("library", [0, 1])
def test_results_that_float16_lacks_are_infinite(library: int) -> None:
    operation: Any = GENREDS[library]("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    given = in_library(library, [np.full((2, 1), s * 300, np.float16) for s in (1, -1)])
    result = operation(given[0], given[1])
    assert str(result.dtype).endswith("float16")
    np.testing.assert_array_equal(result, np.full((2, 1), -np.inf))


@pytest.mark.parametrize("library", [0, 1])
def test_an_argument_has_so_many_axes(library: int) -> None:
    operation: Any = GENREDS[library]("x", "x = Vi(1)", axis=1)
    (most,) = in_library(library, [np.ones((1,) * MAX_AXES)])
    assert operation(most).shape == most.shape
    (more,) = in_library(library, [np.ones((1,) * (MAX_AXES + 1))])
    with pytest.raises(ArgumentError, match=rf"'x' has {MAX_AXES + 1} axes; at most {MAX_AXES}"):
        operation(more)


def test_lists_have_so_many_items() -> None:
    for given in ({"aliases": itertools.repeat("x")}, {"formula": itertools.repeat("x")}):
        options: Any = {"formula": FORMULA, "aliases": ALIASES, **given}
        with pytest.raises(ArgumentError, match=f"more than {MAX_LIST:,} items"):
            redcomp.numpy.Genred(**options)


def test_what_errors_show_is_short() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise ValueError("no")

    for value in (Hostile(), 10**5000, "a" * 10**6, np.ones((100, 100)), [[[[[1]]]]] * 100):
        shown = arguments.shown(value)
        assert len(shown) < 300
        assert "\n" not in shown


def test_a_first_call_imports_no_masked_arrays() -> None:
    """Which takes 10 ms."""
    import subprocess

    program = (
        "import sys, numpy as np; from redcomp.numpy import Genred\n"
        "op = Genred('x * y', ['x = Vi(1)', 'y = Vj(1)'], axis=1)\n"
        "op(np.ones((300, 1)), np.ones((3000, 1))); assert 'numpy.ma' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


class Unhashable(str):
    """A text that is equal to nothing and has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError


class Shaped:
    """What says that it has a shape, which cannot be compared."""

    shape = np.ones((5, 3))


class WithoutItems(torch.Tensor):
    """A tensor whose items cannot be had."""

    def __iter__(self) -> Any:
        return self


class WithoutLength(list[str]):
    """A list that does not say how long it is."""

    def __len__(self) -> Any:
        return "many"


@pytest.mark.parametrize("text", ["Sum", "none", "Max"])
def test_texts_are_taken_for_their_letters(text: str) -> None:
    def outcome(given: str) -> str:
        try:
            return repr(redcomp.numpy.Genred("x", "x = Vi(1)", given, axis=1))
        except RedcompError as error:
            return str(error)

    assert outcome(Unhashable(text)) == outcome(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: redcomp.numpy.Genred("x", "x = Vi(1)", axis=Shaped()), "axis must be 0"),
        (lambda: redcomp.numpy.Genred("x", Shaped(), axis=1), "aliases must be a list"),
        (
            lambda: redcomp.numpy.Genred("x", torch.ones(3).as_subclass(WithoutItems), axis=1),
            "aliases",
        ),
        (
            lambda: redcomp.numpy.Genred("x", "x = Vi(1)", WithoutLength(["a", "b"]), axis=1),
            "has 2 items",
        ),
        (
            lambda: redcomp.numpy.Genred("x", "x = Vi(1)", axis=1)(
                np.ones((2, 1)), backend=Unhashable()
            ),
            "backend must be one of",
        ),
    ],
    ids=["shape", "shape of a list", "items", "length", "backend"],
)
def test_objects_that_misbehave_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
