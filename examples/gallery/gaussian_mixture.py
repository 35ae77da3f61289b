"""
A Gaussian mixture fitted by gradient descent
=============================================

A density is fitted to a sample as a sum of Gaussians with weights, means and covariances of their
own. What one learns: ``logsumexp`` of a :class:`~redcomp.torch.LazyTensor`, whose gradients in all
parameters PyTorch's optimizers take, and quadratic forms with a matrix per component.
"""

import os

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Ellipse

from redcomp.torch import Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, K, steps, side = (300, 3, 5, 20) if small else (10_000, 15, 300, 150)
torch.manual_seed(0)

# %%
# The sample: a pinwheel of five bent clusters.

arm = torch.randint(5, (N,))
length, width = 1 + 0.3 * torch.randn(N), 0.08 * torch.randn(N)
angle = 2 * torch.pi * arm / 5 + 0.8 * length
across = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
along = torch.stack([-torch.sin(angle), torch.cos(angle)], 1)
x = length[:, None] * across + width[:, None] * along

# %%
# Each component has a weight, a mean m, and a triangular matrix L. Its precision is ``L L^T``, so
# its log-density at x is ``log w + log det L - |L^T (x - m)|^2 / 2 - log(2 pi)``.

logits = torch.zeros(K)
means = x[torch.randperm(N)[:K]].clone()
diagonal = torch.full((K, 2), 1.5)  # the logarithms of the diagonal of L
below = torch.zeros(K)
parameters = [p.requires_grad_() for p in (logits, means, diagonal, below)]


def cholesky_factors():
    """(K, 2, 2): the matrices L."""
    return torch.diag_embed(diagonal.exp()) + below[:, None, None] * torch.eye(2)[[1, 0]].tril()


def log_density(x):
    """(M,): the logarithm of the mixture's density at x, (M, 2)."""
    constant = torch.log_softmax(logits, 0) + diagonal.sum(1) - np.log(2 * np.pi)
    transposed = cholesky_factors().mT.reshape(K, 4)
    scaled = Vj(transposed).matvecmult(Vi(x) - Vj(means))  # L^T (x - m) for each pair
    return (Vj(constant[:, None]) - scaled.sqnorm2() / 2).logsumexp(axis=1)[:, 0]


# %%
# The fit maximises the mean log-likelihood of the sample.

optimizer = torch.optim.Adam(parameters, lr=0.05)
likelihoods = []
for _ in range(steps):
    loss = -log_density(x).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    likelihoods.append(-loss.item())

# %%
# The figure: the density, and the ellipse of two standard deviations of each component.

axis = torch.linspace(-2.3, 2.3, side)
pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
image = log_density(pixels).detach().exp().reshape(side, side)
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
left.scatter(*x[:3000].T, s=1, color="0.4")
covariances = torch.linalg.inv(cholesky_factors() @ cholesky_factors().mT).detach()
for mean, covariance in zip(means.detach(), covariances, strict=True):
    squares, vectors = torch.linalg.eigh(covariance)
    turn = torch.rad2deg(torch.atan2(vectors[1, 1], vectors[0, 1])).item()
    axes = 4 * squares.sqrt()
    outline = Ellipse(mean, axes[1], axes[0], angle=turn, fill=False, edgecolor="tab:orange", lw=2)
    left.add_patch(outline)
left.set(title="sample and components", aspect="equal", xlim=(-2.3, 2.3), ylim=(-2.3, 2.3))
middle.contourf(axis, axis, image, levels=15, cmap="Blues")
middle.set(title="density of the mixture", aspect="equal")
right.plot(likelihoods)
right.set(xlabel="step", ylabel="log-likelihood per point")
plt.show()

# %%
# The same log-likelihood from PyTorch's distributions, which store all pairs, in float64.

normal = torch.distributions.MultivariateNormal(means.double(), covariances.double())
weights = torch.distributions.Categorical(logits=logits.double())
mixture = torch.distributions.MixtureSameFamily(weights, normal)
expected = mixture.log_prob(pixels[::7].double()).float()
torch.testing.assert_close(log_density(pixels[::7]), expected, rtol=1e-3, atol=1e-3)
