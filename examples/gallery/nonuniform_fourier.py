"""
Non-uniform Fourier transforms: a picture from spokes of frequencies
====================================================================

A magnetic resonance scanner measures the Fourier transform of a slice, often along spokes through
the origin of the frequencies, where the fast Fourier transform does not apply. What one learns:
complex sums over all pairs with ``exp1j``, their adjoint, and both as a linear operator of SciPy
that inverts them.
"""

import os

import numpy as np
from matplotlib import cbook
from matplotlib import pyplot as plt
from scipy.sparse.linalg import aslinearoperator, lsqr

from redcomp.numpy import Vi, Vj

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
side, spokes, iterations = (16, 12, 5) if small else (128, 80, 20)

# %%
# The slice of a head comes with Matplotlib. Pixels have whole coordinates around 0.

with cbook.get_sample_data("s1045.ima.gz") as file:
    slice_ = np.frombuffer(file.read(), dtype=np.uint16).reshape(256, 256)
step = 256 // side
picture = slice_.reshape(side, step, side, step).mean((1, 3)) / slice_.max()
axis = np.arange(side) - side / 2
pixels = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

# %%
# Frequencies, in radians per pixel, on spokes through the origin. They are dense near it and sparse
# far from it.

angle = np.pi * np.arange(spokes) / spokes
radius = np.pi * (np.arange(side) + 0.5 - side / 2) / (side / 2)
frequencies = np.stack(
    [np.outer(np.cos(angle), radius).ravel(), np.outer(np.sin(angle), radius).ravel()], axis=1
)

# %%
# The transform is the matrix ``exp(-i <frequency, pixel>)`` of 10,240 x 16,384 complex numbers,
# which is not stored. Measurements have some noise.

F = (-(Vi(frequencies) | Vj(pixels))).exp1j()
measured = F @ picture.ravel()
noise = np.random.default_rng(0).normal(size=(len(measured), 2)) @ [1, 1j]
measured += 0.01 * measured.std() * noise

# %%
# Three pictures from the same measurements: the adjoint, which blurs because the spokes are dense
# near the origin; the adjoint with weights that make up for that; and the least squares solution,
# which SciPy finds with products with F and its adjoint alone.

weights = np.tile(np.abs(radius), spokes) / len(measured) * np.pi / 2
pictures = {
    "truth": picture,
    "adjoint": F.conj().T @ measured / len(measured),
    "adjoint, spokes weighted": F.conj().T @ (weights * measured),
    f"least squares, {iterations} steps": lsqr(aslinearoperator(F), measured, iter_lim=iterations)[
        0
    ],
}

figure, panels = plt.subplots(1, 5, figsize=(14, 3.3), layout="constrained")
panels[0].scatter(*frequencies.T, s=0.3, color="black")
panels[0].set(title="frequencies [rad/pixel]", aspect="equal")
panels[0].set(xticks=[-np.pi, 0, np.pi], xticklabels=["-π", "0", "π"], yticks=[])
for panel, (title, image) in zip(panels[1:], pictures.items(), strict=True):
    image = np.clip(image.real / np.quantile(image.real, 0.999), 0, 1)
    panel.imshow(image.reshape(side, side), cmap="gray")
    panel.set_title(title)
    panel.axis("off")
plt.show()

# %%
# Some of the sums, from arrays of all their terms.

some = slice(None, None, len(frequencies) // 50)
terms = np.exp(-1j * frequencies[some] @ pixels.T) * picture.ravel()
np.testing.assert_allclose((F @ picture.ravel())[some], terms.sum(1), rtol=1e-9, atol=1e-9)
back = np.exp(1j * pixels[:50] @ frequencies.T) * measured
np.testing.assert_allclose((F.conj().T @ measured)[:50], back.sum(1), rtol=1e-9, atol=1e-9)
