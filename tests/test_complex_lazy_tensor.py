"""`ComplexLazyTensor` beside dense complex128 of PyTorch: needs the CPU, PyTorch.

An expression of the table is written twice: of LazyTensors, and of tensors of shape (M, N, D).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from lazy_complex import Expression, M, N, arrays, check

import redcomp.numpy
import redcomp.torch


def components(x: Any) -> Any:
    return x.sum(-1, keepdim=True)


# Of LazyTensors, and of tensors where that is written otherwise.
EXPRESSIONS: dict[str, tuple[Expression, Expression]] = {}


def names_of(text: str) -> list[str]:
    return sorted(set(re.findall(r"\b[zwuvrsqt]\b", text)))


def _other(text: str, dense: str) -> None:
    scope = {"torch": torch, "components": components, "abs": abs}
    names = ", ".join(names_of(text))
    made = [eval(f"lambda {names}: {body}", scope) for body in (text, dense)]
    EXPRESSIONS[text] = (made[0], made[1])


def _same(*texts: str) -> None:
    for text in texts:
        _other(text, text)


# Every operator of complex numbers with complex and real ones, scalars and vectors, both ways.
for _op in "+-*/":
    _same(*(f"{a} {_op} {b}" for a in "zu" for b in "wvst"))
    _same(*(f"{a} {_op} {b}" for a in "rq" for b in "wv"))
    _same(*(f"z {_op} {c}" for c in ("2", "-0.5", "(1.5 - 2j)", "20")))
    _same(*(f"{c} {_op} z" for c in ("2", "-0.5", "(1.5 - 2j)", "20")))
    _same(*(f"r {_op} {c}" for c in ("2j", "(1.5 - 2j)")), *(f"{c} {_op} r" for c in ("2j",)))
_same(*(f"(z + w) ** {n}" for n in (0, 1, 2, 3, 5, -1, -2)))
_same("z ** 0.5", "z ** -0.5", "z ** 1.5", "z ** 17", "z ** w", "z ** t", "u ** w", "z ** (1 + 2j)")
_same("2.5 ** z", "(1 - 2j) ** z")
_same("-(z * w)", "(z * w).conj()", "(z * w).real", "(z * w).imag", "(z + w).angle()")
_same("abs(z + w)", "(z * w).abs()", "(z - w).exp()", "(z * w).log()", "(z * w).sqrt()")
_same("(z * w).square()", "+(z + w)", "z * z.conj()", "(1j * z + w * 2).exp() / (2 - u)")
_other("(z * w).sum(-1)", "components(z * w)")
_other("(z * w).sum(dim=2)", "components(z * w)")
_other("(z * w).mean()", "components(z * w) / 3")
_other("(z * w.conj()).sum(-1).exp() * v", "components(z * w.conj()).exp() * v")
_other("(z * w).var(ddof=1)", "torch.var(z * w, -1, keepdim=True)")
_other("(z * w).std(ddof=0)", "torch.var(z * w, -1, correction=0, keepdim=True).sqrt()")
_other("(z * w).prod()", "(z * w).prod(-1, keepdim=True)")
_other("(z * w).inv()", "1 / (z * w)")
_other("(z * w).rsqrt()", "(z * w) ** -0.5")
_other("(z - w).norm2()", "components((z - w).abs() ** 2).sqrt()")
_other("(z - w).sqnorm2()", "components((z - w).abs() ** 2)")
_other("z.sqdist(w)", "components((z - w).abs() ** 2)")
_other("z.sqdist(t)", "components((z - t).abs() ** 2)")
_other("(z * w).normalize()", "z * w / components((z * w).abs() ** 2).sqrt()")
_other("r.real2complex() * w", "r * w")
_other("r.imag2complex() * s", "1j * r * s")
_other("(r * s).exp1j()", "torch.exp(1j * r * s)")
_other("r.conj() + s.real", "r + s")
_other("(z * w)[0]", "(z * w)[..., :1]")
_other("(z * w)[-1] * z", "(z * w)[..., -1:] * z")
_other("(z * w)[1:]", "(z * w)[..., 1:]")
_other("(z * w)[::-1]", "(z * w).flip(-1)")
_other("(z * w)[..., ::2]", "(z * w)[..., ::2]")
_other("(z * w).elem(1)", "(z * w)[..., 1:2]")
_other("(z * w).extract(1, 2)", "(z * w)[..., 1:3]")
_other("z.concat(w)", "torch.cat([z + 0 * w[..., :1], w + 0 * z[..., :1]], -1)")
_other("r.concat(w) * u", "torch.cat([r + 0 * w[..., :1], w + 0 * r[..., :1]], -1) * u")
_other("(s - r).ifelse(z, w)", "torch.where(s >= r, z + 0 * w, w + 0 * z)")
_other("(t - q).ifelse(z, r)", "torch.where(t >= q, z + 0 * t, r + 0j * t)")
_other("(s - q).ifelse(u, 1j)", "torch.where(s >= q, u + 0 * s, 1j + 0 * s * q)")
_other("(s > r).where(z, 2)", "torch.where(s > r, z + 0 * s, 2 + 0j * s * r)")


def given(text: str, dtype: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The arguments of an expression in complex128 and float64, and in the precision of a dtype."""
    values = arrays()
    exact = [values[name] for name in names_of(text)]
    if dtype == "complex128":
        return exact, exact
    return exact, [t.to(torch.complex64 if t.is_complex() else torch.float32) for t in exact]


def weights() -> tuple[torch.Tensor, torch.Tensor]:
    """A number for each pair, so that every expression depends on both indices, and its factors."""
    random = np.random.default_rng(1)
    return torch.tensor(random.normal(size=(M, 1, 1))), torch.tensor(random.normal(size=(1, N, 1)))


@pytest.mark.sampled(1050)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_values(text: str, axis: int, dtype: str) -> None:
    lazy, dense = EXPRESSIONS[text]
    exact, narrow = given(text, dtype)
    made = lazy(*[redcomp.numpy.LazyTensor(t.numpy()) for t in narrow])
    value = dense(*exact)
    assert isinstance(made, redcomp.numpy.ComplexLazyTensor) == value.is_complex()
    assert made._shape == tuple(value.shape)
    a, b = weights()
    a_i, b_j = [redcomp.numpy.LazyTensor(w.numpy().astype(made.real.dtype)) for w in (a, b)]
    check((made * a_i * b_j).sum(axis=axis), (value * a * b).sum(axis))


@pytest.mark.sampled(1188)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_gradients(text: str, axis: int) -> None:
    lazy, dense = EXPRESSIONS[text]
    tensors, _ = given(text, "complex128")
    for tensor in tensors:
        tensor.requires_grad_(True)
    a, b = weights()
    made = lazy(*map(redcomp.torch.LazyTensor, tensors))
    found = (made * redcomp.torch.LazyTensor(a) * redcomp.torch.LazyTensor(b)).sum(axis=axis)
    expected = (dense(*tensors) * a * b).sum(axis)
    check(found, expected)
    if expected.requires_grad:
        cotangent = torch.randn_like(expected)
        options = {"grad_outputs": cotangent, "allow_unused": True, "materialize_grads": True}
        gradients = torch.autograd.grad(found, tensors, **options)
        for mine, theirs in zip(
            gradients, torch.autograd.grad(expected, tensors, **options), strict=True
        ):
            check(mine, theirs)
