"""The complex operations of the reference, by PyTorch's complex numbers: needs PyTorch, no backend.

Vectors hold pairs (re, im) on the last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

Tensor = torch.Tensor


def complex_of(f: Tensor) -> Tensor:
    """Pairs as complex numbers."""
    # A copy: a view may begin at an odd place, where no complex number may lie.
    return torch.view_as_complex(
        f.unflatten(-1, (-1, 2)).clone(memory_format=torch.contiguous_format)
    )


def pairs_of(z: Tensor) -> Tensor:
    """Complex numbers as pairs."""
    # The product makes cotangents anew: a slice of one may begin at an odd place too.
    return (torch.view_as_real(z.resolve_conj()) * 1.0).flatten(-2)


def _on_complex(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *args: pairs_of(function(*map(complex_of, args)))


def _with_zeros(f: Tensor, part: int) -> Tensor:
    zeros = torch.zeros_like(f)
    return pairs_of(torch.complex(*((zeros, f) if part else (f, zeros))))


def _real_times(f: Tensor, g: Tensor) -> Tensor:
    if f.shape[-1] != 1:
        f, g = g, f
    return pairs_of(f * complex_of(g))


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "ComplexReal": lambda f: complex_of(f).real,
    "ComplexImag": lambda f: complex_of(f).imag,
    "Real2Complex": lambda f: _with_zeros(f, 0),
    "Imag2Complex": lambda f: _with_zeros(f, 1),
    "Complex": lambda f, g: pairs_of(torch.complex(*torch.broadcast_tensors(f, g))),
    "Conj": _on_complex(torch.conj),
    "ComplexAbs": lambda f: complex_of(f).abs(),
    "ComplexSquareAbs": lambda f: (complex_of(f) * complex_of(f).conj()).real,
    "ComplexAngle": lambda f: complex_of(f).angle(),
    "ComplexSum": lambda f: pairs_of(complex_of(f).sum(-1, keepdim=True)),
    "ComplexSumT": lambda f, n: pairs_of(complex_of(f).expand(*f.shape[:-1], n // 2)),
    "ComplexAdd": _on_complex(torch.add),
    "ComplexSubtract": _on_complex(torch.sub),
    "ComplexMult": _on_complex(torch.mul),
    "ComplexDivide": _on_complex(torch.div),
    "ComplexScal": _on_complex(torch.mul),
    "ComplexRealScal": _real_times,
    "ComplexExp": _on_complex(torch.exp),
    "ComplexExp1j": lambda f: pairs_of(torch.polar(torch.ones_like(f), f)),
}

# Operations whose last arguments are integer literals.
INTEGER_PARAMETERS = frozenset(["ComplexSumT"])
