"""The reference's tensors, splines and alignments: needs PyTorch, no backend.

Operands have the shape (B..., M, N, D).  Each is written by its textbook definition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch

Tensor = torch.Tensor


def _mat_vec_mult(a: Tensor, b: Tensor) -> Tensor:
    return (_reshaped(a, (a.shape[-1] // b.shape[-1], b.shape[-1])) * b.unsqueeze(-2)).sum(-1)


def _vec_mat_mult(b: Tensor, a: Tensor) -> Tensor:
    return (_reshaped(a, (b.shape[-1], a.shape[-1] // b.shape[-1])) * b.unsqueeze(-1)).sum(-2)


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
    """By einsum over the axes behind those of the pairs; perm holds destinations."""
    labels_f = list(range(len(dimsf)))
    labels_g = list(range(len(dimsf), len(dimsf) + len(dimsg)))
    sizes = dict(zip(labels_f + labels_g, [*dimsf, *dimsg], strict=True))
    for a, b in zip(contf, contg, strict=True):
        labels_g[b] = labels_f[a]
    raw = [n for k, n in enumerate(labels_f) if k not in contf]
    raw += [n for k, n in enumerate(labels_g) if k not in contg]
    out = list(raw)
    for k, destination in enumerate(perm):
        out[destination] = raw[k]
    operands = [_reshaped(f, dimsf), [..., *labels_f], _reshaped(g, dimsg), [..., *labels_g]]
    result = torch.einsum(*operands, [..., *out])
    return result.reshape(*result.shape[: result.ndim - len(out)], math.prod(sizes[n] for n in out))


def _kron(f: Tensor, g: Tensor, dimsf: Sequence[int], dimsg: Sequence[int]) -> Tensor:
    """The entry at (a1 b1, a2 b2, ...) is f[a1, a2, ...] * g[b1, b2, ...]."""
    spread_f = [n for dim in dimsf for n in (dim, 1)]
    spread_g = [n for dim in dimsg for n in (1, dim)]
    return (_reshaped(f, spread_f) * _reshaped(g, spread_g)).flatten(-len(spread_f))


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
