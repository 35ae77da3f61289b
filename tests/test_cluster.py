"""Cluster helpers against loops, for both libraries: no backend, PyTorch."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import redcomp.numpy.cluster
import redcomp.torch.cluster
from redcomp.errors import ArgumentError

FACES: dict[str, Any] = {"numpy": redcomp.numpy.cluster, "torch": redcomp.torch.cluster}
Array = Any
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def given_to(face: str, array: Any) -> Any:
    """An array in the library's type."""
    return np.asarray(array) if face == "numpy" else torch.tensor(np.asarray(array))


def same(result: Any, expected: Any, **tolerance: float) -> None:
    """Values and dtype."""
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.dtype == expected.dtype
    if tolerance:
        np.testing.assert_allclose(result, expected, **tolerance)
    else:
        np.testing.assert_array_equal(result, expected)


LABELS = {"numpy": np.int64, "torch": np.int32}


def cell_labels(face: str, x: Array, size: Any) -> Array:
    """The place of each point's cell among the sorted cells, as KeOps' libraries count them."""
    start = 0 if face == "numpy" else x.min(axis=0)
    cells = [tuple(row) for row in np.floor((x - start) / np.asarray(size, x.dtype))]
    places = {cell: place for place, cell in enumerate(sorted(set(cells)))}
    return np.array([places[cell] for cell in cells], dtype=LABELS[face])


# -- grid_cluster ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("D", [1, 2, 3, 4, 10, 17])
def test_grid(face: str, D: int, dtype: Any) -> None:
    x = np.random.default_rng(D).uniform(-3, 3, (300, D)).astype(dtype)
    sides = np.random.default_rng(0).uniform(0.5, 3, D).astype(dtype)
    for size in (1.5, 3, list(map(float, sides))):
        same(FACES[face].grid_cluster(given_to(face, x), size), cell_labels(face, x, size))
    labels = FACES[face].grid_cluster(given_to(face, x), given_to(face, sides))
    same(labels, cell_labels(face, x, sides))


def test_grid_tells_apart_cells_that_are_far_from_each_other(face: str) -> None:
    """Numbers of cells beyond 1,024, 2^20 and 2^31 on an axis, and points whose sums agree."""
    x = np.array(
        [[0, 1024, 0], [1, 0, 0], [0, 0, 1024], [0, 1, 0], [2.0**40, 0, 0], [0, 2.0**40, 0]]
    )
    labels = np.asarray(FACES[face].grid_cluster(given_to(face, x), 1.0))
    assert len(set(labels.tolist())) == 6
    same(labels, cell_labels(face, x, 1.0))


def test_grid_of_integers_and_of_nothing(face: str) -> None:
    x = np.array([[-100, 3], [100, 3], [-90, 3]], dtype=np.int8)
    labels = np.array([0, 1, 0], LABELS[face])
    same(FACES[face].grid_cluster(given_to(face, x), 20), labels)
    same(FACES[face].grid_cluster(given_to(face, np.zeros((0, 2))), 20), labels[:0])


# Points, a size, and the labels that pykeops 2.3 gives for NumPy, where cells start at 0, and for
# PyTorch, where they start at the smallest number.
CELLS_OF_KEOPS = (
    ([[-0.75], [-0.25], [0.25], [0.75], [1.25]], 0.6, [0, 1, 2, 3, 4], [0, 0, 1, 2, 3]),
    (
        [
            *([-1.2, -0.46, -2.83], [-2.25, 1.02, 0.88], [0.69, -0.7, 2.98]),
            *([2.89, 1.11, 0.9], [1.13, -0.67, -2.19], [1.33, 0.15, -1.14]),
        ],
        1.5,
        [1, 0, 3, 5, 2, 4],
        [0, 1, 2, 5, 3, 4],
    ),
)


@pytest.mark.parametrize(("points", "size", "of_numpy", "of_torch"), CELLS_OF_KEOPS)
def test_cells_start_where_those_of_keops_do(
    points: Array, size: float, of_numpy: list[int], of_torch: list[int]
) -> None:
    for face, expected in (("numpy", of_numpy), ("torch", of_torch)):
        found = FACES[face].grid_cluster(given_to(face, points), size)
        same(found, np.array(expected, LABELS[face]))


@given(
    st.lists(
        st.tuples(*[st.integers(-(2**20), 2**20)] * 3).map(lambda row: [r / 64 for r in row]),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([0.25, 1.0, 3.0, 1000.0]),
)
def test_grid_of_any_points(points: list[list[float]], size: float) -> None:
    x = np.array(points)
    for face in FACES:
        same(FACES[face].grid_cluster(given_to(face, x), size), cell_labels(face, x, size))


# -- sorting, ranges, centroids --------------------------------------------------------------------


def test_sorting_is_stable_and_takes_several_arrays(face: str) -> None:
    labels = np.random.default_rng(0).integers(0, 7, 500)
    x, w = np.arange(1500.0).reshape(500, 3), np.arange(500)
    order = sorted(range(500), key=lambda k: labels[k])
    module = FACES[face]
    sorted_x, sorted_labels = module.sort_clusters(given_to(face, x), given_to(face, labels))
    same(sorted_x, x[order])
    same(sorted_labels, labels[order])
    for kind in (tuple, list):
        points, _ = module.sort_clusters(
            kind([given_to(face, x), given_to(face, w)]), given_to(face, labels)
        )
        assert type(points) is kind
        same(points[0], x[order])
        same(points[1], w[order])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_ranges_count_labels_that_are_missing_too(face: str, dtype: Any) -> None:
    labels = given_to(face, np.array([3, 0, 3, 1, 3], dtype))
    expected = np.array([[0, 1], [1, 2], [2, 2], [2, 5]])
    same(FACES[face].cluster_ranges(labels), expected)
    counts = given_to(face, np.array([1, 1, 0, 3], dtype))
    same(FACES[face].cluster_ranges(labels, counts), expected)


@pytest.mark.sampled(2)
def test_ranges_beyond_what_float32_counts(face: str) -> None:
    count = 2**24 + 3
    labels = np.zeros(count, np.int64)
    labels[-1] = 1
    ranges = FACES[face].cluster_ranges(given_to(face, labels))
    same(ranges, np.array([[0, count - 1], [count - 1, count]]))


def loop_centroids(x: Array, labels: Array, weights: Array) -> Array:
    return np.stack(
        [
            np.average(x[labels == k].astype(float), axis=0, weights=weights[labels == k])
            for k in range(labels.max() + 1)
        ]
    ).astype(x.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centroids(face: str, dtype: Any) -> None:
    random = np.random.default_rng(1)
    x, labels = random.standard_normal((400, 3)).astype(dtype), np.arange(400) % 7
    weights = random.random(400).astype(dtype)
    module, (X, L, W) = FACES[face], (given_to(face, a) for a in (x, labels, weights))
    close = {"rtol": 4 * float(np.finfo(dtype).eps), "atol": 1e-16}
    same(module.cluster_centroids(X, L), loop_centroids(x, labels, np.ones(400)), **close)
    expected = loop_centroids(x, labels, weights.astype(float))
    same(module.cluster_centroids(X, L, weights=W), expected, **close)
    same(module.cluster_centroids(X, L, weights=W.reshape(-1, 1)), expected, **close)
    totals = np.array([weights[labels == k].astype(float).sum() for k in range(7)])
    known = module.cluster_centroids(X, L, weights=W, weights_c=given_to(face, totals))
    same(known, expected, **close)
    ranges, centroids, found = module.cluster_ranges_centroids(X, L, weights=W, min_weight=0.0)
    counts = np.bincount(labels)
    same(ranges, np.stack([counts.cumsum() - counts, counts.cumsum()], axis=1))
    same(centroids, expected, **close)
    same(found, totals.astype(dtype), **close)
    _, centroids, found = module.cluster_ranges_centroids(X, L)
    same(centroids, loop_centroids(x, labels, np.ones(400)), **close)
    same(found, counts.astype(dtype))


@pytest.mark.sampled(4)
def test_float32_sums_of_many_points(face: str) -> None:
    """A float32 sum would stop growing at 2^24."""
    x = np.ones((2**24 + 10, 1), np.float32)
    labels = given_to(face, np.zeros(len(x), np.int64))
    same(FACES[face].cluster_centroids(given_to(face, x), labels), np.ones((1, 1), np.float32))


def test_cluster_without_weight_has_its_plain_mean(face: str) -> None:
    x = given_to(face, np.array([[1.0], [3.0], [5.0], [9.0]]))
    labels, weights = given_to(face, [0, 0, 1, 1]), given_to(face, [0.0, 0.0, 3.0, 1.0])
    expected = np.array([[2.0], [6.0]])
    same(FACES[face].cluster_centroids(x, labels, weights=weights), expected)
    for least in (0.0, 1e-9):
        _, centroids, totals = FACES[face].cluster_ranges_centroids(x, labels, weights, least)
        same(centroids, expected, rtol=1e-15)
        same(totals, np.array([2 * least, 4.0]))


def test_centroids_are_differentiable() -> None:
    x = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1])
    assert torch.autograd.gradcheck(
        lambda x, w: redcomp.torch.cluster.cluster_centroids(x, labels, weights=w), (x, weights)
    )
    assert not redcomp.torch.cluster.grid_cluster(x, 1.0).requires_grad


# -- ranges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_from_matrix_covers_the_kept_blocks(face: str, dtype: Any) -> None:
    random = np.random.default_rng(2)
    ends_i, ends_j = np.array([0, 4, 4, 9, 15]), np.array([0, 3, 8, 10])
    ranges_i = np.stack([ends_i[:-1], ends_i[1:]], axis=1).astype(dtype)
    ranges_j = np.stack([ends_j[:-1], ends_j[1:]], axis=1).astype(dtype)
    for _ in range(20):
        keep = random.random((4, 3)) < 0.5
        mask = np.zeros((15, 10), bool)
        for k, (first, last) in enumerate(ranges_i):
            for n, (start, stop) in enumerate(ranges_j):
                mask[first:last, start:stop] |= keep[k, n]
        made = FACES[face].from_matrix(
            given_to(face, ranges_i), given_to(face, ranges_j), given_to(face, keep)
        )
        assert all(np.asarray(part).dtype == np.int64 for part in made)
        np.testing.assert_array_equal(covered(made[:3], (15, 10)), mask)
        np.testing.assert_array_equal(covered(made[3:], (10, 15)), mask.T)
        swapped = FACES[face].swap_axes(made)
        for k in range(6):
            assert swapped[k] is made[(k + 3) % 6]


def covered(half: Any, shape: tuple[int, int]) -> Array:
    """The pairs of three arrays of `ranges`, by the definition."""
    ranges, slices, reduced = (np.asarray(part) for part in half)
    mask = np.zeros(shape, bool)
    for k, (first, last) in enumerate(ranges):
        for n in range(slices[k - 1] if k else 0, slices[k]):
            assert not mask[first:last, reduced[n, 0] : reduced[n, 1]].any()
            mask[first:last, reduced[n, 0] : reduced[n, 1]] = True
    return mask


def test_from_matrix_of_an_example(face: str) -> None:
    made = FACES[face].from_matrix(
        given_to(face, [[2, 5], [7, 12]]),
        given_to(face, [[1, 4], [4, 9], [20, 30]]),
        given_to(face, [[True, True, False], [False, True, False]]),
    )
    same(made[1], np.array([2, 3]))
    same(made[2], np.array([[1, 4], [4, 9], [4, 9]]))
    same(made[4], np.array([1, 3, 3]))
    same(made[5], np.array([[2, 5], [2, 5], [7, 12]]))


def test_no_ranges_stay_none(face: str) -> None:
    assert FACES[face].swap_axes(None) is None


# -- wrong arguments -------------------------------------------------------------------------------


WRONG: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "flat": ("grid_cluster", (np.zeros(3), 1.0), "x must have 2 axes"),
    "nan": ("grid_cluster", (np.array([[np.nan]]), 1.0), "x must be finite"),
    "infinite": ("grid_cluster", (np.array([[np.inf], [0.0]]), 1.0), "x must be finite"),
    "zero size": ("grid_cluster", (np.zeros((3, 2)), 0.0), "size must be positive"),
    "nan size": ("grid_cluster", (np.zeros((3, 2)), np.nan), "size must be positive"),
    "three sizes": ("grid_cluster", (np.zeros((3, 2)), [1.0, 1.0, 1.0]), "2 numbers"),
    "text": ("grid_cluster", (np.zeros((3, 2)), "big"), "size must be a number"),
    "tiny size": ("grid_cluster", (np.array([[0.0], [1e300]]), 1e-300), "size is too small"),
    "float labels": ("cluster_ranges", (np.zeros(3),), "lab must hold integers"),
    "large": ("cluster_ranges", (np.array([0, 2**31]),), "lab must be below 16,777,216"),
    "no counts": ("cluster_ranges", (np.zeros(3, int), [3]), "Nlab must be of type"),
    "no totals": (
        "cluster_centroids",
        (np.zeros((2, 1)), np.zeros(2, int), None, np.ones(2), 2.0),
        "weights_c must be of type",
    ),
    "least weight": (
        "cluster_ranges_centroids",
        (np.zeros((2, 1)), np.zeros(2, int), np.ones(2), "1"),
        "min_weight must be a finite number",
    ),
    "negative": ("cluster_ranges", (np.array([0, -1]),), "lab must not be negative"),
    "matrix": ("cluster_ranges", (np.zeros((2, 2), int),), r"lab must have shape \(M,\)"),
    "counts": ("cluster_ranges", (np.zeros(3, int), np.ones((3, 1), int)), "Nlab must have"),
    "rows": ("sort_clusters", (np.zeros((4, 2)), np.zeros(3, int)), "there are 3 labels"),
    "gap": ("cluster_centroids", (np.zeros((2, 1)), np.array([0, 2])), "without points"),
    "lengths": ("cluster_centroids", (np.zeros((2, 1)), np.zeros(3, int)), "there are 3 labels"),
    "weights": (
        "cluster_centroids",
        (np.zeros((2, 1)), np.zeros(2, int), None, np.array([1.0, -1.0])),
        "weights must not be negative",
    ),
    "total": (
        "cluster_centroids",
        (np.zeros((2, 1)), np.zeros(2, int), None, np.ones(2), np.ones(2)),
        "weights_c has 2 numbers, not 1",
    ),
    "keep": (
        "from_matrix",
        (np.zeros((2, 2), int), np.zeros((1, 2), int), np.ones((2, 1))),
        "keep must be an array of booleans",
    ),
    "shape": (
        "from_matrix",
        (np.zeros((2, 2), int), np.zeros((1, 2), int), np.ones((1, 2), bool)),
        r"keep must have shape \(2, 1\)",
    ),
    "interval": (
        "from_matrix",
        (np.array([[3, 1]]), np.zeros((1, 2), int), np.ones((1, 1), bool)),
        "ranges_i must have 0 <= start <= end",
    ),
    "width": (
        "from_matrix",
        (np.zeros((2, 2), int), np.zeros((1, 3), int), np.ones((2, 1), bool)),
        "ranges_j must be integers of shape",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(face: str, name: str) -> None:
    function, args, message = WRONG[name]
    converted = [given_to(face, a) if isinstance(a, np.ndarray) else a for a in args]
    with pytest.raises(ArgumentError, match=message):
        getattr(FACES[face], function)(*converted)


NO_NUMBERS = {
    "numpy": [np.zeros((3, 2), complex), np.zeros((3, 2), "M8[s]"), np.full((3, 2), None)],
    "torch": [torch.zeros(3, 2, dtype=torch.complex64)],
}


def test_arrays_hold_real_numbers(face: str) -> None:
    library, labels = FACES[face], given_to(face, [0, 0, 1])
    x, ranges = given_to(face, np.zeros((3, 2))), given_to(face, [[0, 2], [2, 3]])
    for a in NO_NUMBERS[face]:
        for function, args, name in (
            (library.grid_cluster, (a, 1.0), "x"),
            (library.grid_cluster, (x, a), "size"),
            (library.sort_clusters, (x, a), "lab"),
            (library.cluster_ranges, (a,), "lab"),
            (library.cluster_ranges, (labels, a), "Nlab"),
            (library.cluster_centroids, (a, labels), "x"),
            (library.cluster_centroids, (x, labels, a), "Nlab"),
            (library.cluster_ranges_centroids, (x, labels, a), "weights"),
            (library.from_matrix, (a, ranges, a), "ranges_i"),
            (library.from_matrix, (ranges, ranges, a), "keep"),
        ):
            with pytest.raises(ArgumentError, match=f"{name} must hold real numbers"):
                function(*args)


def test_the_other_library_s_arrays_are_named() -> None:
    with pytest.raises(ArgumentError, match="x must be of type Tensor, not ndarray"):
        redcomp.torch.cluster.grid_cluster(np.zeros((3, 2)), 1.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="x must be of type ndarray, not Tensor"):
        redcomp.numpy.cluster.grid_cluster(torch.zeros(3, 2), 1.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="must be of type ndarray"):
        redcomp.numpy.cluster.sort_clusters([[1.0]], np.zeros(1, int))
    for wrong in ((1, 2), 3, 1.5, "abcdef", np.zeros((6, 2)), {}):
        with pytest.raises(ArgumentError, match="ranges must be a tuple of 6 arrays"):
            redcomp.numpy.cluster.swap_axes(wrong)  # type: ignore[arg-type]


def test_what_cannot_be_sorted_or_has_no_coordinates_is_named() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ArgumentError, match="x cannot be sorted"):
        redcomp.torch.cluster.sort_clusters(torch._neg_view(torch.ones(2) > 0), labels)
    with pytest.raises(ArgumentError, match="x must have coordinates"):
        redcomp.numpy.cluster.grid_cluster(np.zeros((2, 0)), 1.0)
    with pytest.raises(ArgumentError, match="x must have coordinates"):
        redcomp.torch.cluster.grid_cluster(torch.zeros(2, 0), 1.0)


@pytest.mark.parametrize("name", redcomp.numpy.cluster.__all__)
def test_other_processes_can_be_given_functions(face: str, name: str) -> None:
    function = getattr(FACES[face], name)
    assert pickle.loads(pickle.dumps(function)).__doc__ == function.__doc__
