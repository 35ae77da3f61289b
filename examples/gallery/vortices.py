"""
Vortices: the roll-up of a wake
===============================

The wake of a wing is a sheet of vortices, which rolls up into two spirals in the flow that it makes
itself. What one learns: the Biot-Savart law in two dimensions as a sum over all pairs of a
:class:`~redcomp.numpy.LazyTensor`, vectors put together with ``concatenate``, and Runge-Kutta
steps with an invariant to check.
"""

import os

import numpy as np
from matplotlib import pyplot as plt

from redcomp.numpy import LazyTensor, Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, steps, side = (100, 6, 20) if small else (2_000, 300, 200)
blob, end = 0.05, 1.2

# %%
# The wing of span 2 has an elliptic lift. Behind it, at (cos t, 0), the sheet has the strength of
# the change of the lift.

t = np.pi * (np.arange(N) + 0.5) / N
x = np.stack([np.cos(t), np.zeros(N)], axis=1)
strength = (np.cos(t) * np.pi / N)[:, None]

# %%
# A vortex of strength s at y gives the velocity ``s / (2 pi) * rot(p - y) / |p - y|^2`` at p, where
# rot turns by 90 degrees. A small ``blob`` squared in the denominator makes a smooth sheet of the
# points (Krasny, 1987).


def velocity(p, y):
    """(M, 2): the velocity at the points p that the vortices at y make."""
    difference = Vi(p) - Vj(y)
    turned = LazyTensor.concatenate((-difference[1], difference[0]))
    factor = Vj(strength) / (2 * np.pi * (difference.sqnorm2() + blob**2))
    return (factor * turned).sum(axis=1)


# %%
# Four sums per step of the classical Runge-Kutta method.

dt, snapshots = end / steps, {0.0: x}
for step in range(1, steps + 1):
    a = velocity(x, x)
    b = velocity(x + dt / 2 * a, x + dt / 2 * a)
    c = velocity(x + dt / 2 * b, x + dt / 2 * b)
    d = velocity(x + dt * c, x + dt * c)
    x = x + dt / 6 * (a + 2 * b + 2 * c + d)
    if step % (steps // 3) == 0:
        snapshots[step * dt] = x

# %%
# The figure: the sheet as it sinks, and the speed of the air around it at the end.

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.6), sharey=True, layout="constrained")
for (time, sheet), colour in zip(
    snapshots.items(), plt.cm.cividis([0.9, 0.6, 0.3, 0]), strict=True
):
    left.plot(*sheet.T, linewidth=1, color=colour, label=f"time {time:.1f}")
left.set(title="the sheet", xlabel="span", ylabel="height", aspect="equal")
left.legend(loc="lower left", ncols=2, fontsize="small")
axis_x, axis_y = np.linspace(-1.5, 1.5, side), np.linspace(-1.2, 0.6, side)
pixels = np.stack(np.meshgrid(axis_x, axis_y), axis=-1)
u = velocity(pixels.reshape(-1, 2), x).reshape(side, side, 2)
speed = right.pcolormesh(axis_x, axis_y, np.linalg.norm(u, axis=-1), cmap="cividis")
right.streamplot(
    axis_x, axis_y, *np.moveaxis(u, -1, 0), color="white", linewidth=0.5, arrowsize=0.7
)
right.set(title=f"the air at time {end}", xlabel="span", aspect="equal")
figure.colorbar(speed, ax=right, label="speed")
plt.show()

# %%
# Velocities at some vortices, from an array of all pairs; and the impulse, which the flow keeps.

some = x[:: N // 50]
d = some[:, None] - x[None]
turned = np.stack([-d[..., 1], d[..., 0]], axis=-1) / (np.sum(d**2, -1, keepdims=True) + blob**2)
dense = np.sum(strength * turned, axis=1) / (2 * np.pi)
np.testing.assert_allclose(velocity(some, x), dense, rtol=1e-9, atol=1e-12)
np.testing.assert_allclose(strength.T @ x, strength.T @ snapshots[0.0], rtol=1e-9, atol=1e-9)
