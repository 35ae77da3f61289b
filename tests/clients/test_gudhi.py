"""gudhi's nearest neighbours by KeOps against SciPy's; needs gudhi (extra "clients")."""

from __future__ import annotations

import numpy as np
import pytest
from packages import package

knn = package("gudhi.point_cloud.knn")

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("reductions")]


@pytest.mark.parametrize("p", [1, 2, 3, np.inf])
@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.parametrize("metric", ["minkowski"])
def test_neighbours_and_distances(p, k, metric):
    random = np.random.default_rng(0)
    known, asked = random.random((300, 4)), random.random((200, 4))
    options = {"return_index": True, "return_distance": True, "metric": metric, "p": p}
    expected = knn.KNearestNeighbors(k, implementation="ckdtree", **options)
    found = knn.KNearestNeighbors(k, implementation="keops", **options)
    places, distances = expected.fit(known).transform(asked)
    for own, wanted in zip(found.fit(known).transform(asked), (places, distances), strict=True):
        assert tuple(own.shape) == wanted.shape
        np.testing.assert_allclose(np.asarray(own), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("is_index", "is_distance"), [(True, False), (False, True)])
def test_one_of_them(is_index, is_distance):
    points = np.random.default_rng(1).random((150, 3))
    options = {"return_index": is_index, "return_distance": is_distance, "p": 2}
    found = knn.KNearestNeighbors(5, implementation="keops", **options).fit_transform(points)
    expected = knn.KNearestNeighbors(5, implementation="ckdtree", **options).fit_transform(points)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)
