"""
The N-body problem: two galaxies meet
=====================================

Stars of two discs attract each other by Newton's law. What one learns: forces as a sum over all
pairs with :class:`~redcomp.numpy.Genred`, the force and the potential in one sweep, and a
simulation with hundreds of such sweeps that keeps its energy.
"""

import os

import numpy as np
from matplotlib import pyplot as plt

from redcomp.numpy import Genred

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, steps = (100, 30) if small else (4_000, 399)
dt, softening = 0.015, 0.1

# %%
# The acceleration of a star, and its potential: 4,000 x 4,000 pairs per step. Softening keeps the
# force finite where stars meet; a star does not attract itself, because its distance is 0.

potential = "-m * Rsqrt(SqDist(x, y) + Square(s))"
acceleration = "m * (y - x) * Rsqrt(SqDist(x, y) + Square(s)) ** 3"
variables = ["x = Vi(3)", "y = Vj(3)", "m = Vj(1)", "s = Pm(1)"]
gravity = Genred([acceleration, potential], variables, axis=1)


def field(x):
    """The accelerations (N, 3) and the potentials (N, 1) at the stars' positions."""
    return gravity(x, x, mass, softening)


# %%
# A galaxy: a heavy nucleus, and stars on circular orbits around it, in a disc.


def galaxy(stars, centre, velocity, tilt, rng):
    """Positions and velocities (stars + 1, 3); the nucleus, of mass 1, comes first."""
    radius, angle = 0.3 + 0.9 * np.sqrt(rng.random(stars)), 2 * np.pi * rng.random(stars)
    zero = np.zeros(stars)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle), zero], axis=1)
    v = np.stack([-np.sin(angle), np.cos(angle), zero], axis=1) / np.sqrt(radius)[:, None]
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    at_rest = np.zeros((1, 3))
    return np.vstack([at_rest, x @ turn.T]) + centre, np.vstack([at_rest, v @ turn.T]) + velocity


rng = np.random.default_rng(0)
half = N // 2 - 1
x1, v1 = galaxy(half, [-1.6, -0.9, 0], [0.45, 0, 0], 0.3, rng)
x2, v2 = galaxy(half, [1.6, 0.9, 0], [-0.45, 0, 0], -0.9, rng)
x, v = np.vstack([x1, x2]), np.vstack([v1, v2])
mass = np.full((N, 1), 0.1 / N)
mass[[0, half + 1]] = 1

# %%
# The leapfrog: half a kick, a drift, half a kick. It is symplectic, so the energy does not drift.


def energy(v, potentials):
    """The energy. Each pair is in two potentials, hence 1 / 2; a star's own is a constant."""
    return float(np.sum(mass * (0.5 * np.sum(v**2, 1, keepdims=True) + 0.5 * potentials)))


pictures, energies = {}, []
a, potentials = field(x)
for k in range(steps + 1):
    energies.append(energy(v, potentials))
    if k % (steps // 3) == 0:
        pictures[k * dt] = x
    v = v + dt / 2 * a
    x = x + dt * v
    a, potentials = field(x)
    v = v + dt / 2 * a

# %%
# The figure. The stars have the colour of the galaxy that they were born in.

figure, panels = plt.subplots(1, 5, figsize=(14, 3.1), layout="constrained")
for panel, (time, positions) in zip(panels, pictures.items(), strict=False):
    panel.set_facecolor("black")
    for galaxy_stars, colour in [(slice(0, half + 1), "#56B4E9"), (slice(half + 1, N), "#E69F00")]:
        panel.scatter(*positions[galaxy_stars, :2].T, s=1, color=colour, linewidths=0)
    panel.set(title=f"time {time:.1f}", aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
    panel.set(xticks=[], yticks=[])
error = np.abs(np.array(energies) / energies[0] - 1)
panels[4].semilogy(dt * np.arange(1, steps + 1), error[1:])
panels[4].set(title="relative error of the energy", xlabel="time")
plt.show()
assert error.max() < 1e-3

# %%
# The forces on some stars, from all differences of positions.

some = slice(None, None, N // 50)
difference = x[None] - x[some, None]
cubes = (np.sum(difference**2, -1, keepdims=True) + softening**2) ** 1.5
np.testing.assert_allclose(a[some], np.sum(mass * difference / cubes, axis=1), rtol=1e-9, atol=1e-9)
