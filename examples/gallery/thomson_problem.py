"""
Thomson's problem: electrons on a sphere
========================================

Electrons that repel each other spread over a sphere until their energy is least; this is one of
Smale's problems for this century, and a way to place points evenly. What one learns: an energy of
all pairs but those of a point with itself, minimised by PyTorch's LBFGS, and derivatives by the
formula's own ``Grad``.
"""

import os

import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy.spatial import SphericalVoronoi

from redcomp.torch import Genred

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
torch.manual_seed(0)

# %%
# The energy of N electrons is the sum of 1 / distance over all pairs. ``Rsqrt`` is 0 at 0, so the
# pairs of an electron with itself count nothing, and nothing special has to be done about them.

sums = Genred("Rsqrt(SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)"], axis=1)


def energy(free):
    """The energy of points that are projected to the sphere: (N, 3) -> ()."""
    x = free / free.norm(dim=1, keepdim=True)
    return sums(x, x).sum() / 2


# %%
# Minima have been searched for a long time, so the best energies are known for many N (Wales and
# Ulker, 2006). Some starts end in a minimum that is a little higher.

known = {4: 3.674234614, 12: 49.165253058, 32: 412.261274651, 72: 2255.001190975}


def spread(N):
    """The points on the sphere where LBFGS ends."""
    free = torch.randn(N, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = energy(free)
        value.backward()
        return value

    optimizer.step(closure)
    return (free / free.norm(dim=1, keepdim=True)).detach()


for N, best in list(known.items())[: 3 if small else 4]:
    found = min(energy(spread(N)).item() for _ in range(10 if N > 32 else 3))
    print(f"N = {N:3d}: energy {found:.6f}, best known {best:.6f}")
    assert best - 1e-6 < found < best * (1 + 1e-3)


# %%
# The figure: the region of each electron, coloured by the number of its neighbours. Hexagons alone
# cannot cover a sphere: by Euler's formula, pentagons outnumber heptagons by twelve.

N = 40 if small else 400
colours = {5: "#E69F00", 6: "#CCDDEE", 7: "#0072B2"}
figure = plt.figure(figsize=(9, 4.4), layout="constrained")
random = torch.nn.functional.normalize(torch.randn(N, 3, dtype=torch.float64))
for k, (title, points) in enumerate({"random": random, "least energy": spread(N)}.items()):
    voronoi = SphericalVoronoi(points.numpy())
    voronoi.sort_vertices_of_regions()
    sides = [len(region) for region in voronoi.regions]
    assert sum(6 - n for n in sides) == 12
    panel = figure.add_subplot(1, 2, k + 1, projection="3d", box_aspect=(1, 1, 1))
    polygons = Poly3DCollection([voronoi.vertices[region] for region in voronoi.regions])
    polygons.set(facecolor=[colours.get(n, "0.5") for n in sides], edgecolor="white", linewidth=0.7)
    panel.add_collection(polygons, autolim=False)
    panel.set(xlim=(-0.65, 0.65), ylim=(-0.65, 0.65), zlim=(-0.65, 0.65))
    panel.set_title(f"{title}, energy {energy(points):,.0f}")
    panel.axis("off")
labels = {"5 neighbours": colours[5], "6": colours[6], "7": colours[7], "others": "0.5"}
figure.legend(
    handles=[Patch(color=c, label=name) for name, c in labels.items()], loc="lower center", ncols=4
)
plt.show()
