"""
Radial basis functions: terrain from scattered heights
======================================================

An interpolant is a sum of bumps around the places where heights were measured, with coefficients
that make it pass through the measurements. What one learns: :class:`~redcomp.numpy.KernelSolve`
finds the coefficients without the matrix of all pairs, and the same formula in a
:class:`~redcomp.numpy.Genred` then evaluates the interpolant anywhere.
"""

import os

import numpy as np
from matplotlib import cbook
from matplotlib import pyplot as plt
from matplotlib.colors import LightSource
from scipy.interpolate import RBFInterpolator

from redcomp.numpy import Genred, KernelSolve

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, step = (200, 8) if small else (3_000, 1)

# %%
# The terrain: a part of the elevation model of a geological fault near Jacksboro, Tennessee, that
# comes with Matplotlib. Heights are known at random places only.

with cbook.get_sample_data("jacksboro_fault_dem.npz") as data:
    terrain = data["elevation"][:300:step, :300:step].astype(np.float64)
side = len(terrain)
axis = np.linspace(0, 1, side)
grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
rng = np.random.default_rng(0)
known = rng.choice(len(grid), N, replace=False)
places, heights = grid[known], terrain.reshape(-1, 1)[known]
mean = heights.mean()

# %%
# Thin plates and other polynomials need a further equation. Matérn's kernel does not: its matrix is
# positive definite. ``alpha`` is added to its diagonal, for measurements with a small error.

formula = "Matern32(s * SqDist(x, y)) * a"  # (1 + r) exp(-r), with r = sqrt(s) |x - y|
variables = ["x = Vi(2)", "y = Vj(2)", "a = Vj(1)", "s = Pm(1)"]
solve = KernelSolve(formula, variables, "a", axis=1)
evaluate = Genred(formula, variables, axis=1)

s, alpha = 20.0**2, 1e-2
a, info = solve(places, places, heights - mean, s, alpha=alpha, rtol=1e-5, return_info=True)
print(f"{N:,} unknowns: {info}")
image = mean + evaluate(grid, places, a, s).reshape(side, side)

# %%
# The figure: the terrain in the light of a sun in the north-west.

light = LightSource(azdeg=315, altdeg=45)
shade = lambda z: light.shade(z, plt.cm.gist_earth, vert_exag=0.2, blend_mode="soft")
figure, panels = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
extent = (0, 1, 1, 0)
panels[0].imshow(shade(terrain), extent=extent)
panels[0].set_title(f"terrain, {side} x {side} heights")
dots = panels[1].scatter(*places.T, c=heights, s=2, cmap="gist_earth")
panels[1].set(title=f"{N:,} measurements", aspect="equal", xlim=(0, 1), ylim=(1, 0))
figure.colorbar(dots, ax=panels, label="height in metres", shrink=0.8)
panels[2].imshow(shade(image), extent=extent)
error = np.sqrt(np.mean((image - terrain) ** 2))
panels[2].set_title(f"interpolated, error {error:.0f} m (RMS)")
for panel in panels:
    panel.set(xticks=[], yticks=[])
plt.show()

# %%
# SciPy solves such systems densely. It has no Matérn kernel, so both use an inverse quadric.

few, again = slice(0, 200), "1 / (1 + s * SqDist(x, y)) * a"
quadric = KernelSolve(again, variables, "a", axis=1)
coefficients = quadric(places[few], places[few], heights[few], s, alpha=alpha, rtol=1e-10)
found = Genred(again, variables, axis=1)(grid[few], places[few], coefficients, s)
scipy = RBFInterpolator(
    places[few], heights[few], smoothing=alpha, kernel="inverse_quadratic", epsilon=20, degree=-1
)
np.testing.assert_allclose(found, scipy(grid[few]), rtol=1e-6)
