"""
Nadaraya-Watson regression
==========================

The regression of y on x is a weighted mean of the y_j, with weights that fall with the distance of
x_j. Its one parameter, the bandwidth, is learnt by gradient descent on the error at points that
were left out. What one learns: two sums in one sweep with :class:`~redcomp.torch.Genred`, pairs
of a point with itself that are left out by their indices, and gradients with respect to a number
inside of the formula.
"""

import os

import numpy as np
import torch
from matplotlib import pyplot as plt

from redcomp.torch import Genred

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, steps = (200, 5) if small else (2_000, 40)

# %%
# The data: a chirp with noise, whose waves become shorter to the right.

rng = np.random.default_rng(0)
x = np.sort(rng.random(N))
truth = lambda x: np.sin(2 * np.pi * (0.5 + 2 * x) ** 2)
y = truth(x) + 0.3 * rng.normal(size=N)
x, y = torch.tensor(x)[:, None], torch.tensor(y)[:, None]

# %%
# Both sums, of the weights and of the weights times y, come from one sweep over all pairs. The
# indices of the pair, ``Ind_i()`` and ``Ind_j()``, tell which pairs are the same point.

weight = "Exp(-SqDist(x_i, x_j) / (2 * Square(h)))"
variables = ["x_i = Vi(1)", "x_j = Vj(1)", "y_j = Vj(1)", "h = Pm(1)"]
other = "(Ind_i() != Ind_j())"
sums = Genred([f"{weight} * y_j", weight], variables, axis=1)
sums_of_others = Genred([f"{other} * {weight} * y_j", f"{other} * {weight}"], variables, axis=1)


def predict(x_i, h):
    weighted, total = sums(x_i, x, y, h)
    return weighted / total


def error(h):
    """The mean squared error at each point, predicted from all the others."""
    weighted, total = sums_of_others(x, x, y, h)
    return (weighted / total - y).square().mean()


# %%
# Gradient descent on the logarithm of the bandwidth, which keeps it positive.

log_h = torch.tensor([-2.0], dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.Adam([log_h], lr=0.1)
path = []
for _ in range(steps):
    loss = error(log_h.exp())
    path.append((log_h.exp().item(), loss.item()))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
h = log_h.detach().exp()

# %%
# The figure.

at = torch.linspace(0, 1, 500, dtype=torch.float64)[:, None]
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4), width_ratios=[2, 1], layout="constrained"
)
left.scatter(x, y, s=4, color="0.75", label="sample")
left.plot(at, truth(at.numpy()), color="black", linestyle="--", label="truth")
left.plot(at, predict(at, np.exp(-2.0)), label="bandwidth at the start")
left.plot(at, predict(at, h), linewidth=2, label=f"bandwidth learnt, {h.item():.3f}")
left.set(xlabel="x", ylabel="y", ylim=(-2.4, 2.4))
left.legend(loc="lower left", ncols=2, fontsize="small")
curve = np.geomspace(0.003, 0.2, 30)
right.loglog(curve, [error(h).item() for h in curve], color="0.6", label="error")
right.loglog(*zip(*path, strict=True), "o", markersize=4, label="steps of Adam")
right.set(xlabel="bandwidth", ylabel="squared error at points left out")
right.legend()
plt.show()

# %%
# The same error and its gradient, from the array of all pairs.

h.requires_grad_(True)
pairs = torch.exp(-((x - x.T) ** 2) / (2 * h**2)) * (1 - torch.eye(N))
dense = (pairs @ y / pairs.sum(1, keepdim=True) - y).square().mean()
(expected,) = torch.autograd.grad(dense, h)
(gradient,) = torch.autograd.grad(error(h), h)
torch.testing.assert_close(error(h), dense, rtol=1e-9, atol=0)
torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)
