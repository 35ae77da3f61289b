"""
Flows of particles to a shape
=============================

Particles move down the gradient of a distance between their distribution and that of a target. What
one learns: two losses of :mod:`redcomp.torch.nn`, the maximum mean discrepancy of a Gaussian kernel
and the energy distance, and why they move particles so differently.
"""

import os

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.textpath import TextPath

from redcomp.torch import nn

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, steps = (100, 30) if small else (1_500, 210)

# %%
# The target: points in the letters of a word, in Matplotlib's font. The particles start in a disc.

rng = np.random.default_rng(0)
word = TextPath((0, 0), "flux", size=1)
box = word.get_extents()
candidates = box.min + box.size * rng.random((20 * N, 2))
target = candidates[word.contains_points(candidates)][:N]
start = rng.normal(size=(10 * N, 2))
start = target.mean(0) + 0.3 * start[np.linalg.norm(start, axis=1) < 1][:N]
target, start = torch.tensor(target).float(), torch.tensor(start).float()

# %%
# A flow is gradient descent on the positions. Losses are means over N particles, so a step of N
# times the gradient moves particles at a speed that does not depend on N.

shown = [0, steps // 30, steps // 6, steps]


def flow(loss, rate):
    """The positions at some steps, on the way down the gradient of the loss."""
    x, path = start.clone(), []
    for step in range(steps + 1):
        if step in shown:
            path.append(x)
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x, target), x)
        x = (x - rate * N * gradient).detach()
    return path


mmd, energy_distance = nn.MMD("gaussian", lengthscale=0.1), nn.EnergyDistance()
flows = {"Gaussian MMD": flow(mmd, 0.015), "energy distance": flow(energy_distance, 0.1)}

# %%
# The figure. A Gaussian's force ends within some lengthscales, so particles that are far from the
# target stay where they are. The energy distance has no scale, and reaches everywhere.

figure, panels = plt.subplots(2, 4, figsize=(13, 4), sharex=True, sharey=True, layout="constrained")
for row, (name, path) in zip(panels, flows.items(), strict=True):
    for panel, x, step in zip(row, path, shown, strict=True):
        panel.scatter(*target.T, s=1, color="0.8")
        panel.scatter(*x.T, s=1, color="tab:blue")
        panel.set(title=f"{name}, step {step}", aspect="equal", xticks=[], yticks=[])
plt.show()

# %%
# The same distances and a gradient from arrays of all pairs, in float64.

x, y = flows["energy distance"][1].double().requires_grad_(), target.double()
gaussian = lambda a, b: torch.exp(-(torch.cdist(a, b) ** 2) / (2 * 0.1**2)).mean()
distance = lambda a, b: torch.cdist(a, b).mean()
dense_mmd = gaussian(x, x) + gaussian(y, y) - 2 * gaussian(x, y)
dense_energy = 2 * distance(x, y) - distance(x, x) - distance(y, y)
x32 = x.detach().float().requires_grad_()
for value, dense in [(mmd(x32, target), dense_mmd), (energy_distance(x32, target), dense_energy)]:
    torch.testing.assert_close(value.double(), dense, rtol=1e-4, atol=1e-6)
(gradient,) = torch.autograd.grad(value, x32)
(expected,) = torch.autograd.grad(dense, x)
torch.testing.assert_close(gradient.double(), expected, rtol=1e-3, atol=1e-6)
