"""A sum over pairs and its gradient, with NumPy.

    c_i = sum_j (p - a_j)^2 exp(x_i + y_j)        x: 3,000 vectors, y: 5,000 vectors of 3 components

The only line in which this program differs from its KeOps version is the import of `Genred`.

Usage: python examples/sum_reduction_numpy.py [PICTURE.png]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from redcomp.numpy import Genred
from report import check, median_seconds, plot, print_times, seconds

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
M, N, D = (300, 500, 3) if small else (3000, 5000, 3)
dtype = "float32"
library = Genred.__module__.partition(".")[0]

rng = np.random.default_rng(0)
x = rng.standard_normal((M, D)).astype(dtype)
y = rng.standard_normal((N, D)).astype(dtype)
a = rng.standard_normal((N, 1)).astype(dtype)
p = rng.standard_normal(1).astype(dtype)
e = rng.random((M, D)).astype(dtype)  # the cotangent: the gradient of a loss with respect to c

# The sum.  Vi: one vector a row i; Vj: one vector a column j; Pm: a parameter of the whole sum.
formula = "Square(p-a)*Exp(x+y)"
variables = ["x = Vi(3)", "y = Vj(3)", "a = Vj(1)", "p = Pm(1)"]
sum_over_j = Genred(formula, variables, reduction_op="Sum", axis=1, dtype=dtype)

# Its gradient with respect to y is a sum over i (axis 0) of a formula that the library derives.
gradient_over_i = Genred(
    f"Grad({formula}, y, e)", [*variables, "e = Vi(3)"], reduction_op="Sum", axis=0, dtype=dtype
)


def dense_terms(x, y, a, p):
    """The summands as an array of shape (M, N, 3): what the library never stores."""
    return (p - a) ** 2 * np.exp(x[:, None, :] + y[None, :, :])


def dense_sum(x, y, a, p):
    return dense_terms(x, y, a, p).sum(axis=1)


def dense_gradient(x, y, a, p, e):
    return (dense_terms(x, y, a, p) * e[:, None, :]).sum(axis=0)


def in_float64(*arrays):
    return [array.astype("float64") for array in arrays]


first = seconds(lambda: sum_over_j(x, y, a, p, backend="auto"))
warm = median_seconds(lambda: sum_over_j(x, y, a, p, backend="auto"), calls=15)
print_times("sum", first, warm, median_seconds(lambda: dense_sum(x, y, a, p), calls=3))

first = seconds(lambda: gradient_over_i(x, y, a, p, e, backend="auto"))
warm = median_seconds(lambda: gradient_over_i(x, y, a, p, e, backend="auto"), calls=15)
print_times("gradient", first, warm, median_seconds(lambda: dense_gradient(x, y, a, p, e), calls=3))

c = sum_over_j(x, y, a, p, backend="auto")
gradient = gradient_over_i(x, y, a, p, e, backend="auto")
c_dense = dense_sum(*in_float64(x, y, a, p))
gradient_dense = dense_gradient(*in_float64(x, y, a, p, e))
check("sum", c, c_dense)
check("gradient", gradient, gradient_dense)

plot(
    Path(sys.argv[1])
    if len(sys.argv) > 1
    else Path(__file__).parent / "output/sum_reduction_numpy.png",
    f"NumPy: a sum over {M:,} x {N:,} pairs and its gradient (first entries)",
    library,
    {
        "sum $c_i$": ("i", c, c_dense),
        r"gradient $\partial\langle c, e\rangle / \partial y_j$": ("j", gradient, gradient_dense),
    },
)
