"""
A Gaussian process whose hyperparameters are learnt
===================================================

The trend, the seasons and the noise of a time series are told apart by a covariance with six
parameters, which gradient ascent on the marginal likelihood finds. What one learns: ``solve`` of a
:class:`~redcomp.torch.LazyTensor`, which PyTorch differentiates, and how random vectors replace the
determinant of a matrix that is never stored.
"""

import math
import os

import torch
from matplotlib import pyplot as plt

from redcomp.torch import Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, steps, probes = (60, 3, 4) if small else (200, 40, 8)
torch.manual_seed(0)

# %%
# The data: values that rise, and swing with the seasons, as the carbon dioxide in the air does.
# Two of twelve years are missing.

truth = lambda t: (t / 6) ** 2 + torch.sin(2 * math.pi * t) - 1
t = 12 * torch.rand(N, 1, dtype=torch.float64).sort(0).values
t = t[(t < 5) | (t > 7)][:, None]
y = truth(t) + 0.5 * torch.randn(t.shape, dtype=torch.float64)

# %%
# The covariance is that of a smooth trend, and of a season of one year whose shape may change in
# the long run. Positive parameters are learnt as their logarithms.

names = ["rise", "years", "swing", "width", "decay", "noise"]
start = torch.tensor([1.0, 5.0, 1.0, 1.0, 10.0, 0.5], dtype=torch.float64)


def covariance(t, u, parameters):
    """The matrix of all pairs of times, (M, N), which is not stored."""
    rise, years, swing, width, decay, _ = parameters
    difference = Vi(t) - Vj(u)
    trend = rise**2 * (-((difference / years) ** 2) / 2).exp()
    wave = (math.pi * difference).sin() / width
    return trend + swing**2 * (-2 * wave**2 - (difference / decay) ** 2 / 2).exp()


def solve(b, parameters):
    """(K + noise^2 Id)^-1 b, for b of shape (N, P), by conjugate gradients."""
    return covariance(t, t, parameters).solve(b, alpha=parameters[-1] ** 2, rtol=1e-8)


# %%
# The likelihood is that of ``y K^-1 y + log det K``. The derivative of the logarithm of the
# determinant is the trace of ``K^-1 dK``, which is the mean of ``z K^-1 dK z`` for random signs z.
# So the second term below has the right gradient, whatever its value is.


def loss(z, count, parameters):
    K = covariance(t, t, parameters)
    fit = (y * solve(y, parameters)).sum()
    matrix_times_z = K @ z + parameters[-1] ** 2 * z
    return fit + (solve(z, parameters).detach() * matrix_times_z).sum() / count


logarithms = start.log().requires_grad_()
optimizer = torch.optim.Adam([logarithms], lr=0.1)
for _ in range(steps):
    signs = torch.randint(2, (len(t), probes)).double() * 2 - 1
    optimizer.zero_grad()
    loss(signs, probes, logarithms.exp()).backward()
    optimizer.step()
learnt = logarithms.detach().exp()
for name, value in zip(names, learnt, strict=True):
    print(f"{name:6s} {value.item():.3f}")

# %%
# The prediction, and its standard deviation, from solves with one column for each time.

at = torch.linspace(0, 15, 400, dtype=torch.float64)[:, None]
between = covariance(at, t, learnt).dense()
mean = between @ solve(y, learnt)
explained = (between.T * solve(between.T, learnt)).sum(0)
deviation = (learnt[0] ** 2 + learnt[2] ** 2 - explained).sqrt()

figure, panel = plt.subplots(figsize=(10, 4), layout="constrained")
panel.scatter(t, y, s=5, color="0.6", label="sample")
panel.plot(at, truth(at), color="black", linewidth=1, linestyle="--", label="truth")
panel.plot(at, mean, color="tab:blue", label="mean")
low, high = mean[:, 0] - 2 * deviation, mean[:, 0] + 2 * deviation
panel.fill_between(at[:, 0], low, high, alpha=0.3, label="mean ± 2 standard deviations")
panel.set(xlabel="year", ylabel="value", xlim=(0, 15))
panel.legend(loc="upper left")
plt.show()

# %%
# With all unit vectors for z the gradient is exact, and so is that of a dense computation.

identity = torch.eye(len(t), dtype=torch.float64)
parameters = learnt.requires_grad_()
(gradient,) = torch.autograd.grad(loss(identity, 1, parameters), parameters)
rise, years, swing, width, decay, noise = parameters
d = t - t.T
K = rise**2 * torch.exp(-(d**2) / (2 * years**2)) + noise**2 * identity
K = K + swing**2 * torch.exp(-2 * (torch.sin(math.pi * d) / width) ** 2 - (d / decay) ** 2 / 2)
dense = (y * torch.linalg.solve(K, y)).sum() + torch.logdet(K)
(expected,) = torch.autograd.grad(dense, parameters)
torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
