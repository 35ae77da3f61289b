"""Programs with formulas, as in KeOps' gallery: needs the CPU backend, PyTorch.

Each is small, in our own words, and compared with the same computation on dense float64 arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gallery import B, Tensor, X, Y, close, leaves, numbers, same_gradients, squared_distances

import redcomp.numpy
import redcomp.numpy.cluster
import redcomp.torch
import redcomp.torch.cluster
from redcomp.torch import (
    Genred,
    KernelSolve,
    generic_argkmin,
    generic_argmin,
    generic_logsumexp,
    generic_sum,
)

LIBRARIES = ["numpy", "torch"]


def given(library: str, *tensors: Tensor) -> list[Any]:
    return [t.numpy() for t in tensors] if library == "numpy" else list(tensors)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("library", LIBRARIES)
def test_sums_with_a_parameter_over_either_index(library: str) -> None:
    scale, weights = torch.tensor([0.7]).double(), numbers(9, 1, seed=3)
    aliases = ["p = Pm(1)", "a = Vj(1)", "x = Vi(3)", "y = Vj(3)"]
    dense = (scale - weights[:, 0]) ** 2 * (X[:, None] + Y).exp().permute(2, 0, 1)
    for axis in (0, 1):
        made = getattr(redcomp, library).Genred("Square(p-a)*Exp(x+y)", aliases, axis=axis)
        close(made(*given(library, scale, weights, X, Y)), dense.sum(1 + axis).T)


def test_gradients_of_formulas_by_reverse_mode_and_by_symbols() -> None:
    (x,) = leaves(X)
    cotangent = numbers(11, 2, seed=4)
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
    result = Genred("Exp(-SqDist(x,y))*b", aliases, axis=1)(x, Y, B)
    dense = (-squared_distances(x, Y)).exp() @ B
    close(result, dense)
    same_gradients((result * cotangent).sum(), (dense * cotangent).sum(), [x])
    symbolic = Genred("Grad(Exp(-SqDist(x,y))*b, x, e)", [*aliases, "e = Vi(2)"], axis=1)
    dense = (-squared_distances(x, Y)).exp() @ B
    close(symbolic(X, Y, B, cotangent), torch.autograd.grad((dense * cotangent).sum(), x)[0])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("library", LIBRARIES)
def test_logarithms_of_sums_with_scalar_and_vector_weights(library: str) -> None:
    package, weights = getattr(redcomp, library), B.abs() + 0.1
    squares = squared_distances(X, Y)
    aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
    plain = package.Genred("SqDist(x,y)", aliases[:2], "LogSumExp", axis=1)
    close(plain(*given(library, X, Y)), squares.logsumexp(1, keepdim=True))
    weighted = package.Genred("SqDist(x,y)", aliases, "LogSumExp", axis=1, formula2="b")
    close(weighted(*given(library, X, Y, weights)), (squares.exp() @ weights).log())
    mean = package.Genred("SqDist(x,y)", aliases, "SumSoftMaxWeight", axis=1, formula2="b")
    close(mean(*given(library, X, Y, B)), squares.softmax(1) @ B)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("library", LIBRARIES)
def test_generic_reductions_are_named_by_their_output(library: str) -> None:
    package, squares = getattr(redcomp, library), squared_distances(X, Y)
    arguments = given(library, X, Y)
    nearest = package.generic_argkmin("SqDist(x,y)", "a = Vi(3)", "x = Vi(3)", "y = Vj(3)")
    close(nearest(*arguments), squares.argsort(dim=1, stable=True)[:, :3])
    first = package.generic_argmin("SqDist(x,y)", "a = Vj(1)", "x = Vi(3)", "y = Vj(3)")
    close(first(*arguments), squares.argmin(0)[:, None])
    total = package.generic_sum("Exp(-SqDist(x,y))", "a = Vi(1)", "x = Vi(3)", "y = Vj(3)")
    close(total(*arguments), (-squares).exp().sum(1, keepdim=True))
    soft = package.generic_logsumexp("-SqDist(x,y)", "a = Vj(1)", "x = Vi(3)", "y = Vj(3)")
    close(soft(*arguments), (-squares).logsumexp(0)[:, None])


@pytest.mark.sampled(9)
@pytest.mark.parametrize("form", ["Iso", "Diag", "Sym"])
def test_anisotropic_kernels_by_the_form_of_their_scale(form: str) -> None:
    root = numbers(3, 3, seed=5)
    matrix = {"Iso": torch.eye(3) * 0.7, "Diag": torch.diag(root[0].abs()), "Sym": root @ root.T}
    scale = {"Iso": matrix["Iso"][:1, 0], "Diag": root[0].abs(), "Sym": matrix["Sym"].flatten()}
    given = leaves(scale[form].double(), X)
    aliases = [f"g = Pm({len(scale[form])})", "x = Vi(3)", "y = Vj(3)", "b = Vj(2)"]
    result = Genred("Exp(-WeightedSqDist(g,x,y))*b", aliases, axis=1)(*given, Y, B)
    form_of = {
        "Iso": lambda s: s * torch.eye(3).double(),
        "Diag": torch.diag,
        "Sym": lambda s: s.reshape(3, 3),
    }[form](given[0])
    difference = given[1][:, None] - Y
    dense = (-torch.einsum("ijk,kl,ijl->ij", difference, form_of, difference)).exp() @ B
    close(result, dense)
    same_gradients((result**2).sum(), (dense**2).sum(), given)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", LIBRARIES)
def test_systems_with_a_kernel(library: str) -> None:
    values, scale = numbers(11, 2, seed=15), torch.tensor([0.8]).double()
    aliases = ["x = Vi(3)", "y = Vj(3)", "a = Vj(2)", "g = Pm(1)"]
    made = getattr(redcomp, library).KernelSolve("Exp(-g*SqDist(x,y))*a", aliases, "a", axis=1)
    result = made(*given(library, X, X, values, scale), alpha=0.3, eps=1e-12)
    matrix = (-0.8 * squared_distances(X, X)).exp() + 0.3 * torch.eye(11).double()
    close(result, torch.linalg.solve(matrix, values), 1e-8)


def test_ridge_regression_by_conjugate_gradients_has_gradients() -> None:
    given = leaves(X, numbers(11, 1, seed=15), torch.tensor([0.8]).double())
    points, values, scale = given
    solve = KernelSolve(
        "Exp(-g*SqDist(x,y))*a", ["x = Vi(3)", "y = Vj(3)", "a = Vj(1)", "g = Pm(1)"], "a", axis=1
    )
    result = solve(points, points, values, scale, alpha=0.3, eps=1e-13)
    matrix = (-scale * squared_distances(points, points)).exp() + 0.3 * torch.eye(11).double()
    expected = torch.linalg.solve(matrix, values)
    close(result, expected, 1e-8)
    found, right = (torch.autograd.grad((r**2).sum(), given) for r in (result, expected))
    for one, other in zip(found, right, strict=True):
        close(one, other, 1e-7)


def test_contractions_of_tensors() -> None:
    left, right = numbers(11, 12, seed=6), numbers(9, 6, seed=7)
    made = Genred(
        "TensorDot(x, y, [2,3,2], [3,2], [1,2], [0,1])", ["x = Vi(12)", "y = Vj(6)"], axis=1
    )
    dense = torch.einsum("iabc,jbc->ia", left.reshape(-1, 2, 3, 2), right.reshape(-1, 3, 2))
    close(made(left, right), dense)
    product = Genred("Kron(x, y, [3,4], [2,3])", ["x = Vi(12)", "y = Vj(6)"], axis=1)
    each = [
        np.kron(a.reshape(3, 4), right.numpy().sum(0).reshape(2, 3)).ravel() for a in left.numpy()
    ]
    close(product(left, right), np.stack(each))


@pytest.mark.parametrize("library", LIBRARIES)
def test_clusters_by_cells_of_a_grid_and_sums_of_near_ones(library: str) -> None:
    package = getattr(redcomp, library)
    cluster, points = (
        package.cluster,
        torch.rand(200, 2, generator=torch.Generator().manual_seed(0)),
    )
    (x,) = given(library, points.double() * 5)
    labels = cluster.grid_cluster(x, 0.8)
    ranges, centres, _ = cluster.cluster_ranges_centroids(x, labels)
    x, labels = cluster.sort_clusters(x, labels)
    is_near = ((centres[:, None] - centres[None]) ** 2).sum(-1) < 4.0
    made = package.Genred("Exp(-SqDist(x,y))", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    result = made(x, x, ranges=cluster.from_matrix(ranges, ranges, is_near))
    values, kept = torch.as_tensor(x), torch.as_tensor(is_near)
    places = torch.as_tensor(labels).long()
    dense = (-squared_distances(values, values)).exp() * kept[places][:, places]
    close(result, dense.sum(1, keepdim=True))
    assert not kept.all()


def test_all_constructors_of_torch_take_tensors_that_need_gradients() -> None:
    (x,) = leaves(X)
    total = generic_sum("Exp(-SqDist(x,y))", "a = Vi(1)", "x = Vi(3)", "y = Vj(3)")(x, Y)
    same_gradients(total.sum(), (-squared_distances(x, Y)).exp().sum(), [x])
    soft = generic_logsumexp("-SqDist(x,y)", "a = Vi(1)", "x = Vi(3)", "y = Vj(3)")(x, Y)
    same_gradients(soft.sum(), (-squared_distances(x, Y)).logsumexp(1).sum(), [x])
    for made, name in ((generic_argmin, "a = Vi(1)"), (generic_argkmin, "a = Vi(2)")):
        assert not made("SqDist(x,y)", name, "x = Vi(3)", "y = Vj(3)")(x, Y).requires_grad
