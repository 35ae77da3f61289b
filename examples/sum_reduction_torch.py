"""A sum over pairs and its gradient, with PyTorch's automatic differentiation.

    c_i = sum_j (p - a_j)^2 exp(x_i + y_j)        x: 3,000 vectors, y: 5,000 vectors of 3 components

The only line in which this program differs from its KeOps version is the import of `Genred`.

Usage: python examples/sum_reduction_torch.py [PICTURE.png]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from redcomp.torch import Genred
from report import check, median_seconds, plot, print_times, seconds

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
M, N, D = (300, 500, 3) if small else (3000, 5000, 3)
dtype = "float32"
library = Genred.__module__.partition(".")[0]

generator = torch.Generator().manual_seed(0)
x = torch.randn(M, D, generator=generator)
y = torch.randn(N, D, generator=generator, requires_grad=True)
a = torch.randn(N, 1, generator=generator)
p = torch.randn(1, generator=generator)
e = torch.rand(M, D, generator=generator)  # the cotangent: the gradient of a loss with respect to c

# Vi: one vector a row i; Vj: one vector a column j; Pm: a parameter of the whole sum.
formula = "Square(p-a)*Exp(x+y)"
variables = ["x = Vi(3)", "y = Vj(3)", "a = Vj(1)", "p = Pm(1)"]
sum_over_j = Genred(formula, variables, reduction_op="Sum", axis=1, dtype=dtype)


def dense_sum(x, y, a, p):
    """The same through an array of shape (M, N, 3), which the library never stores."""
    return (torch.square(p - a) * torch.exp(x[:, None, :] + y[None, :, :])).sum(dim=1)


def value_and_gradient(function, x, y, a, p, e):
    """The sum, and the gradient of its inner product with e with respect to y."""
    c = function(x, y, a, p)
    (gradient,) = torch.autograd.grad(c, y, e)
    return c.detach(), gradient


def compiled_sum(x, y, a, p):
    return sum_over_j(x, y, a, p, backend="auto")


first = seconds(lambda: compiled_sum(x, y, a, p))
warm = median_seconds(lambda: compiled_sum(x, y, a, p), calls=15)
print_times("sum", first, warm, median_seconds(lambda: dense_sum(x, y, a, p), calls=3))

first = seconds(lambda: value_and_gradient(compiled_sum, x, y, a, p, e))
warm = median_seconds(lambda: value_and_gradient(compiled_sum, x, y, a, p, e), calls=15)
dense = median_seconds(lambda: value_and_gradient(dense_sum, x, y, a, p, e), calls=3)
print_times("both", first, warm, dense)

c, gradient = value_and_gradient(compiled_sum, x, y, a, p, e)
in_float64 = [tensor.double() for tensor in (x, y, a, p, e)]
c_dense, gradient_dense = value_and_gradient(dense_sum, *in_float64)
check("sum", c.numpy(), c_dense.numpy())
check("gradient", gradient.numpy(), gradient_dense.numpy())

plot(
    Path(sys.argv[1])
    if len(sys.argv) > 1
    else Path(__file__).parent / "output/sum_reduction_torch.png",
    f"PyTorch: a sum over {M:,} x {N:,} pairs and its gradient (first entries)",
    library,
    {
        "sum $c_i$": ("i", c.numpy(), c_dense.numpy()),
        r"gradient $\partial\langle c, e\rangle / \partial y_j$": (
            "j",
            gradient.numpy(),
            gradient_dense.numpy(),
        ),
    },
)
