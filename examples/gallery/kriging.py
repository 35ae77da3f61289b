"""
Kriging: a map, and how far to trust it
=======================================

Ordinary kriging predicts a field as the best linear unbiased combination of measurements, and says
how uncertain each prediction is. What one learns: :class:`~redcomp.numpy.KernelSolve` with
hundreds of right-hand sides at once, which share each evaluation of the kernel.
"""

import os

import numpy as np
from matplotlib import cbook
from matplotlib import pyplot as plt

from redcomp.numpy import KernelSolve, Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, step = (60, 10) if small else (400, 2)

# %%
# The field: heights of land and depths of the sea around Vancouver Island, on a grid that comes
# with Matplotlib. They are measured at random places, more often in the east. Distances are in
# kilometres.

with cbook.get_sample_data("topobathy.npz") as data:
    truth = data["topo"][::step, ::step].astype(np.float64)
    longitude, latitude = data["longitude"][::step], data["latitude"][::step]
east = (longitude - longitude[0]) * 111.2 * np.cos(np.radians(latitude.mean()))
north = (latitude - latitude[0]) * 111.2
grid = np.stack(np.meshgrid(east, north), axis=-1).reshape(-1, 2).astype(np.float64)

rng = np.random.default_rng(0)
often = np.where(grid[:, 0] > 150, 1.0, 0.2)
measured = rng.choice(len(grid), N, replace=False, p=often / often.sum())
places, z = grid[measured], truth.reshape(-1, 1)[measured]

# %%
# The covariance of the field at two places x and y is ``sill * c(x, y)``, with an exponential
# correlation c. A nugget of 3 % of the sill is the variance of errors.

reach, sill, nugget = 40.0, z.var(), 0.03
correlation = "Exp(-Norm2(x - y) / reach)"


def solve(b):
    """(c + nugget Id)^-1 b for the measured places, and each of the columns of b: (N, P)."""
    variables = ["x = Vi(2)", "y = Vj(2)", f"b = Vj({b.shape[1]})", "reach = Pm(1)"]
    solver = KernelSolve(f"{correlation} * b", variables, "b", axis=1)
    return solver(places, places, b, reach, alpha=nugget, rtol=1e-6)


# %%
# The columns of b: the measurements, ones for the unknown mean, and the correlations with every
# point of the map. All are solved for in one call.

to_grid = (-(Vi(places) - Vj(grid)).norm2() / reach).exp().dense()  # (N, P)
ones = np.ones((N, 1))
of_z, of_ones, of_grid = np.split(solve(np.hstack([z, ones, to_grid])), [1, 2], axis=1)

mean = of_z.sum() / of_ones.sum()  # by generalised least squares
prediction = mean + to_grid.T @ (of_z - mean * of_ones)
unexplained = 1 - (to_grid * of_grid).sum(0) + (1 - of_grid.sum(0)) ** 2 / of_ones.sum()
deviation = np.sqrt(sill * unexplained)

# %%
# The figure.

figure, panels = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True, layout="constrained")
maps = {"truth": truth, f"kriged from {N} measurements": prediction}
for panel, (title, image) in zip(panels[:2], maps.items(), strict=True):
    image = image.reshape(truth.shape)
    heights = panel.pcolormesh(east, north, image, cmap="BrBG_r", vmin=-1500, vmax=1500)
    panel.contour(east, north, image, levels=[0], colors="black", linewidths=0.8)  # the coast
    panel.set(title=title, aspect="equal", xlabel="east [km]")
figure.colorbar(heights, ax=panels[:2], label="metres")
errors = panels[2].pcolormesh(east, north, deviation.reshape(truth.shape), vmin=0)
panels[2].scatter(*places.T, s=1, color="white")
panels[2].set(title="standard deviation", aspect="equal", xlabel="east [km]")
panels[0].set_ylabel("north [km]")
figure.colorbar(errors, ax=panels[2], label="metres")
plt.show()

# %%
# The textbook's system, with the constraint as a further row and column, solved densely.

distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
system = np.block([[np.exp(-distances / reach) + nugget * np.eye(N), ones], [ones.T, 0]])
weights = np.linalg.solve(system, np.vstack([to_grid, np.ones(len(grid))]))
np.testing.assert_allclose(prediction, weights[:N].T @ z, rtol=1e-5, atol=1e-2)
variance = sill * (1 - (weights * np.vstack([to_grid, np.ones(len(grid))])).sum(0))
np.testing.assert_allclose(deviation**2, variance, rtol=1e-4)
