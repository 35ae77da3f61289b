"""The reference's tensors, splines and alignments: needs PyTorch, no backend.

Operands have the shape (M, N, D).  Each is written by its textbook definition, unlike redcomp's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch

Tensor = torch.Tensor


def _mat_vec_mult(a: Tensor, b: Tensor) -> Tensor:
    return (a.unflatten(-1, (-1, b.shape[-1])) * b.unsqueeze(-2)).sum(-1)


def _vec_mat_mult(b: Tensor, a: Tensor) -> Tensor:
    return (a.unflatten(-1, (b.shape[-1], -1)) * b.unsqueeze(-1)).sum(-2)


def _tensor_prod(f: Tensor, g: Tensor) -> Tensor:
    return (f.unsqueeze(-1) * g.unsqueeze(-2)).flatten(-2)


def _reshaped(f: Tensor, dims: Sequence[int]) -> Tensor:
    assert f.shape[-1] == math.prod(dims)
    return f.reshape(*f.shape[:-1], *dims)


def _tensor_dot(
    f: Tensor,
    g: Tensor,
    dimsf: Sequence[int],
    dimsg: Sequence[int],
    contf: Sequence[int],
    contg: Sequence[int],
    perm: Sequence[int] = (),
) -> Tensor:
    """By einsum, where 0 and 1 are the axes of the pairs; perm holds destinations."""
    labels_f = list(range(2, 2 + len(dimsf)))
    labels_g = list(range(2 + len(dimsf), 2 + len(dimsf) + len(dimsg)))
    for a, b in zip(contf, contg, strict=True):
        labels_g[b] = labels_f[a]
    raw = [n for k, n in enumerate(labels_f) if k not in contf]
    raw += [n for k, n in enumerate(labels_g) if k not in contg]
    out = list(raw)
    for k, destination in enumerate(perm):
        out[destination] = raw[k]
    operands = [_reshaped(f, dimsf), [0, 1, *labels_f], _reshaped(g, dimsg), [0, 1, *labels_g]]
    result = torch.einsum(*operands, [0, 1, *out])
    return result.reshape(*result.shape[:2], -1)


def _kron(f: Tensor, g: Tensor, dimsf: Sequence[int], dimsg: Sequence[int]) -> Tensor:
    """torch.kron at every pair."""
    f, g = _reshaped(f, dimsf), _reshaped(g, dimsg)
    rows, columns = torch.broadcast_shapes(f.shape[:2], g.shape[:2])
    f, g = f.expand(rows, columns, *dimsf), g.expand(rows, columns, *dimsg)
    products = [
        torch.stack([torch.kron(f[i, j], g[i, j]).flatten() for j in range(columns)])
        for i in range(rows)
    ]
    return torch.stack(products)


def _bspline(knots: Tensor, x: Tensor, order: int) -> Tensor:
    """The recurrence of Cox and de Boor, spline by spline; 0 / 0 counts as 0."""
    t = [knots[..., k : k + 1] for k in range(knots.shape[-1])]

    def ratio(above: Tensor, below: Tensor) -> Tensor:
        is_zero = below == 0
        return torch.where(is_zero, 0.0, above / torch.where(is_zero, 1.0, below))

    basis = [((a <= x) & (x < b)).to(x) for a, b in itertools.pairwise(t)]
    for k in range(1, order + 1):
        basis = [
            ratio(x - t[j], t[j + k] - t[j]) * basis[j]
            + ratio(t[j + k + 1] - x, t[j + k + 1] - t[j + 1]) * basis[j + 1]
            for j in range(len(basis) - 1)
        ]
    return torch.cat(basis, dim=-1)


def _soft_dtw(x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """The table with its border of infinities, where soft minima are logarithms of sums."""
    n, m = x.shape[-1], y.shape[-1]
    infinite = torch.full_like(x[..., :1] + y[..., :1] + gamma, 1e10).detach()
    table = {(i, 0): infinite for i in range(n + 1)} | {(0, j): infinite for j in range(m + 1)}
    table[0, 0] = torch.zeros_like(infinite)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            before = [table[i - 1, j - 1], table[i - 1, j], table[i, j - 1]]
            soft = -gamma * torch.logsumexp(torch.stack([-b / gamma for b in before]), dim=0)
            table[i, j] = (x[..., i - 1 : i] - y[..., j - 1 : j]) ** 2 + soft
    return table[n, m]


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "MatVecMult": _mat_vec_mult,
    "VecMatMult": _vec_mat_mult,
    "TensorProd": _tensor_prod,
    "TensorDot": _tensor_dot,
    "Kron": _kron,
    "BSpline": _bspline,
    "SoftDTW_SqDist": _soft_dtw,
}
# Operations whose last arguments are integer literals or lists of them.
INTEGER_PARAMETERS = frozenset(["TensorDot", "Kron", "BSpline"])
