"""
Optimal transport: the colours of one picture in another
========================================================

Sinkhorn's algorithm finds how to move one cloud of points onto another at the least cost, here the
colours of a photograph to those of a sunset. What one learns: the reductions ``LogSumExp`` and
``SumSoftMaxWeight``, which are the whole algorithm, and a plan that is used without being stored.
"""

import os

import numpy as np
from matplotlib import cbook
from matplotlib import pyplot as plt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from redcomp.numpy import Genred

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
N, step, iterations = (100, 16, 30) if small else (2_000, 2, 30)
rng = np.random.default_rng(0)

# %%
# The clouds: colours of a photograph that comes with Matplotlib, and of a sunset painted here.

with cbook.get_sample_data("grace_hopper.jpg") as file:
    portrait = plt.imread(file, format="jpg")[::step, ::step] / 255.0
rows, columns = portrait.shape[:2]
up, across = np.mgrid[1 : 0 : rows * 1j, -0.4 : 0.4 : columns * 1j]
stops = np.array([0, 0.3, 0.31, 0.45, 0.7, 1])
colours = np.array(
    [(10, 5, 30), (120, 45, 50), (255, 190, 80), (250, 120, 60), (140, 60, 110), (30, 25, 70)]
)
sunset = np.stack([np.interp(up, stops, colour / 255) for colour in colours.T], axis=-1)
sunset[np.hypot(up - 0.42, across) < 0.09] = (1, 0.95, 0.7)
sunset = np.clip(sunset + 0.02 * rng.normal(size=sunset.shape), 0, 1)

x = rng.permutation(portrait.reshape(-1, 3))[:N]
y = rng.permutation(sunset.reshape(-1, 3))[:N]

# %%
# The plan is ``exp((f_i + g_j - |x_i - y_j|^2) / eps) / N^2``. Sinkhorn's algorithm finds f and g
# such that its rows and its columns have the right sums, in turn. A large eps at first brings them
# near fast.

score = "(g - SqDist(x, y)) / eps"
variables = ["x = Vi(3)", "y = Vj(3)", "g = Vj(1)", "eps = Pm(1)"]
log_sum = Genred(score, variables, reduction_op="LogSumExp", axis=1)


def sinkhorn(x, y, eps, iterations=iterations):
    """The potentials f and g, each (N, 1), that solve the problem with blur eps."""
    g = np.zeros((len(y), 1))
    for blur in [*np.geomspace(1, eps, 10), *[eps] * iterations]:
        f = -blur * (log_sum(x, y, g, blur) - np.log(len(y)))
        g = -blur * (log_sum(y, x, f, blur) - np.log(len(x)))
    return f, g


# %%
# A colour moves to the mean of the places that the plan sends it to. This is a softmax, which can
# be evaluated for colours that were not in the sample, so for all pixels of the picture.

moved = Genred(score, variables, reduction_op="SumSoftMaxWeight", formula2="y", axis=1)
eps = 0.003
f, g = sinkhorn(x, y, eps)
pixels = moved(portrait.reshape(-1, 3), y, g, eps)

ends = moved(x[:300], y, g, eps)

figure = plt.figure(figsize=(12.5, 4), layout="constrained")
titles = ["portrait", "sunset", "portrait in the colours of the sunset"]
for k, image in enumerate([portrait, sunset, pixels.reshape(portrait.shape)]):
    panel = figure.add_subplot(1, 4, k + 1)
    panel.imshow(image)
    panel.set_title(titles[k], fontsize=10)
    panel.axis("off")
cube = figure.add_subplot(1, 4, 4, projection="3d")
for line in np.stack([x[:300], ends], axis=1):
    cube.plot(*line.T, color="0.8", linewidth=0.4)
cube.scatter(*x[:300].T, c=x[:300], s=6)
cube.scatter(*ends.T, c=ends, s=8, marker="^")
cube.set(xticklabels=[], yticklabels=[], zticklabels=[])
cube.set_xlabel("red", labelpad=-12)
cube.set_ylabel("green", labelpad=-12)
cube.set_zlabel("blue", labelpad=-12)
cube.set_title("300 colours (dots) and where they go", fontsize=10)
plt.show()

# %%
# Between few points, for a small eps, SciPy knows the best assignment. By the theory of entropic
# transport, the plan costs at most ``eps log N`` more. Its columns have the right sums.

n, eps = 50, 5e-4
f, g = sinkhorn(x[:n], y[:n], eps, iterations=1000)
cost = cdist(x[:n], y[:n], "sqeuclidean")
plan = np.exp((f + g.T - cost) / eps) / n**2
best = cost[linear_sum_assignment(cost)].mean()
print(f"cost {np.sum(plan * cost):.5f}, best {best:.5f}")
np.testing.assert_allclose(plan.sum(0), 1 / n, rtol=1e-9)
np.testing.assert_allclose(np.sum(plan * cost), best, rtol=0, atol=eps * np.log(n))
