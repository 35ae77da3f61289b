"""
Attention with masks
====================

What a query of a transformer sees is a softmax over keys, of scores that masks and biases change.
What one learns: :class:`redcomp.torch.nn.Attention` with a causal mask, with padding and with
a learnt bias, how to look at its weights, and sequences too long for the array of weights.
"""

import os

import torch
from matplotlib import pyplot as plt

from redcomp.torch import nn

small = "REDCOMP_EXAMPLES_SMALL" in os.environ
L, long = (24, 300) if small else (48, 4_096)
torch.manual_seed(0)


# %%
# Queries and keys with a meaning that can be seen: a position is an angle at several frequencies,
# and the scalar product of two positions falls with their distance.


def positions(length, pairs=8):
    """(length, 2 * pairs): cosines and sines of the positions, at frequencies from 1 to 1 / 32."""
    angles = torch.arange(length)[:, None] * torch.logspace(0, -1.5, pairs)
    return 1.2 * torch.cat([angles.cos(), angles.sin()], dim=1)


query, key = positions(L), positions(L)

# %%
# Masks: one is of booleans, one for each key; those of the last quarter are padding. A bias is an
# array of numbers, here a slope as of ALiBi. The values are unit vectors, so that each output is
# the row of weights.

padding = torch.arange(L) < 3 * L // 4
slope = -0.3 * (torch.arange(L)[:, None] - torch.arange(L)).abs().float()
identity = torch.eye(L)
weights = {
    "all keys": nn.Attention()(query, key, identity),
    "causal": nn.Attention(is_causal=True)(query, key, identity),
    "no padding": nn.Attention()(query, key, identity, padding[None]),
    "causal, bias of distance": nn.Attention(is_causal=True)(query, key, identity, bias=slope),
}

figure, panels = plt.subplots(1, 4, figsize=(13, 3.6), sharey=True, layout="constrained")
for panel, (title, image) in zip(panels, weights.items(), strict=True):
    colours = panel.imshow(image.numpy(), cmap="Blues", vmin=0, vmax=0.2)
    panel.set(title=title, xlabel="key")
panels[0].set_ylabel("query")
figure.colorbar(colours, ax=panels, label="weight")
plt.show()

# %%
# PyTorch's own attention, in float64, has the same weights.

q, k, v = (tensor.double() for tensor in (query, key, identity))
seen = torch.ones(L, L, dtype=torch.bool).tril()
masks = [None, seen, padding[None], torch.where(seen, slope, -torch.inf).double()]
for ours, mask in zip(weights.values(), masks, strict=True):
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-5)

# %%
# A long sequence with four heads has 67 million weights, none of which is stored, in the backward
# pass neither. Under a causal mask the first queries see the first keys only, so their results can
# be computed densely.

heads = [torch.randn(4, long, 16, requires_grad=True) for _ in range(3)]
out = nn.Attention(is_causal=True)(*heads)
out[:, :200].square().sum().backward()

first = [head.detach()[:, :200].double().requires_grad_() for head in heads]
dense = torch.nn.functional.scaled_dot_product_attention(*first, is_causal=True)
dense.square().sum().backward()
torch.testing.assert_close(out[:, :200].double(), dense, rtol=1e-4, atol=1e-5)
for head, expected in zip(heads, first, strict=True):
    torch.testing.assert_close(head.grad[:, :200].double(), expected.grad, rtol=1e-3, atol=1e-4)
