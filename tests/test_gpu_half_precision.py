"""Products of matrices of tensors in half precision, interpreted: needs PyTorch, no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dense_pairs import distance, product, softmax
from on_gpu import machines

from redcomp.torch import Genred

machine = machines(one_test_in=4)

Arrays = dict[str, torch.Tensor]

FORMATS = {"f16": torch.float16, "bf16": torch.bfloat16}
# Of the sum of all |f b|: in a shorter format numbers f have fewer bits, see docs/fast-math.md.
ERRORS = {"f16": 2.0**-21, "bf16": 2.0**-17}
# Calls with fewer rows have kernels of their own, without products of matrices.
ROWS = 52


def points(dtype: torch.dtype, dim: int, wide: int, rows: int, columns: int) -> Arrays:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (rows, dim), "y": (columns, dim), "b": (columns, wide)}
    made = {n: 2 * torch.rand(s, generator=generator) - 1 for n, s in shapes.items()}
    return {n: (t if n == "b" else t * dim**-0.5).to(dtype) for n, t in made.items()}


def on_axes(tensors: Arrays) -> dict[str, Any]:
    """In float64, rows and columns on axes of their own."""
    made = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    return {name: array[:, None] if name == "x" else array[None] for name, array in made.items()}


# Formula, options, and the dense result.
CASES = {
    "attention": (
        "8 * (x | y)",
        {"reduction_op": "SumSoftMaxWeight", "formula2": "b"},
        lambda a: softmax(8 * product(a), a["b"]),
    ),
    "kernel": ("Exp(x | y) * b", {}, lambda a: (np.exp(product(a)) * a["b"]).sum(1)),
    "distance": ("Exp(-SqDist(x, y)) * b", {}, lambda a: (np.exp(-distance(a)) * a["b"]).sum(1)),
    "computed": (
        "Square(x | y + 1) * (b - 1)",
        {},
        lambda a: ((a["x"] * (a["y"] + 1)).sum(-1, keepdims=True) ** 2 * (a["b"] - 1)).sum(1),
    ),
}  # fmt: skip


def reduction(name: str, dim: int, wide: int, **options: Any) -> Genred:
    formula, own, _ = CASES[name]
    aliases = [f"x = Vi({dim})", f"y = Vj({dim})", f"b = Vj({wide})"]
    return Genred(
        formula, aliases, axis=1, use_fast_math=True, dtype_acc="float32", **own, **options
    )


def text(genred: Genred, dtype: str, target: str = "sm_90") -> str:
    return genred.lower(dtype, target).asm


def check(name: str, tensors: Arrays, error: float, **options: Any) -> None:
    genred = reduction(name, tensors["x"].shape[-1], tensors["b"].shape[-1])
    found = genred(*tensors.values(), **options)
    expected = CASES[name][2](on_axes(tensors))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=error * np.abs(expected).max())


# Components of points and of b; rows and columns, beside whole blocks, tiles, and products of 16
# rows and 8 columns.
SIZES = [(64, 64, 64, 48), (64, 1, ROWS, 7), (50, 3, 70, 17), (20, 33, 65, 33), (3, 100, 49, 20)]


@pytest.mark.sampled(18)
@pytest.mark.parametrize(("dim", "wide", "rows", "columns"), SIZES)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_results(name, format, dim, wide, rows, columns):
    # Sums of terms of both signs; exponentials are approximate.
    check(name, points(FORMATS[format], dim, wide, rows, columns), 8 * ERRORS[format] + 4e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("format", FORMATS)
def test_many_columns_and_ranges(format):
    tensors = points(FORMATS[format], 20, 16, 60, 300)
    check("attention", tensors, 8 * ERRORS[format] + 4e-6)
    ends = ([[0, 19], [19, 60]], [2, 3], [[3, 9], [20, 141], [49, 50]], [[0, 300]], [1], [[0, 60]])
    genred = reduction("kernel", 20, 16)
    found = genred(*tensors.values(), ranges=tuple(map(torch.tensor, ends)))
    a = on_axes(tensors)
    kept = np.zeros((60, 300, 1), bool)
    kept[:19, 3:9] = kept[:19, 20:141] = kept[19:, 49:50] = True
    expected = (np.exp(product(a)) * a["b"] * kept).sum(1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * ERRORS[format] * 10)


@pytest.mark.sampled(3)
def test_batches():
    entries = [points(torch.bfloat16, 64, 20, 51, 21) for _ in range(2)]
    entries[1] = {name: tensor.flip(0) for name, tensor in entries[1].items()}
    together = {name: torch.stack([e[name] for e in entries]) for name in entries[0]}
    found = reduction("attention", 64, 20)(*together.values())
    for result, tensors in zip(found, entries, strict=True):
        expected = CASES["attention"][2](on_axes(tensors))
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)


def test_results_are_in_half_precision_unless_asked():
    tensors = points(torch.bfloat16, 64, 16, ROWS, 20)
    formula, own, dense = CASES["attention"]
    genred = Genred(formula, ["x = Vi(64)", "y = Vj(64)", "b = Vj(16)"], axis=1, **own)
    found = genred(*tensors.values())
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.double(), dense(on_axes(tensors)), rtol=2.0**-8, atol=1e-5)


@pytest.mark.thorough
def test_gradients():
    """Cotangents and sums of exponentials were not stored in half precision."""
    tensors = points(torch.bfloat16, 20, 17, ROWS, 30)
    plain = {n: t.double().requires_grad_() for n, t in tensors.items()}
    scores = 8 * plain["x"] @ plain["y"].T
    expected = torch.autograd.grad((scores.softmax(1) @ plain["b"]).sin().sum(), plain.values())
    given = [t.float().requires_grad_() for t in tensors.values()]
    halves = [t.to(torch.bfloat16) for t in given]
    made = torch.autograd.grad(reduction("attention", 20, 17)(*halves).sin().sum(), given)
    for found, wanted in zip(made, expected, strict=True):
        error = 2.0**-8 * wanted.abs().max()  # gradients of tensors in bfloat16 are rounded to it
        np.testing.assert_allclose(found.double(), wanted, rtol=0, atol=error)


@pytest.mark.thorough
def test_a_cotangent_in_float32_is_no_stored_vector():
    """The gradient of b sums multiples of cotangents, which have more bits than b."""
    tensors = points(torch.float16, 3, 40, ROWS, 60)
    genred = reduction("kernel", 3, 40)
    given = [t.float().requires_grad_() for t in tensors.values()]
    result = genred(*[t.to(torch.float16) for t in given])
    g = torch.rand(result.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    kernel = torch.exp(tensors["x"].double() @ tensors["y"].double().T)
    (found,) = torch.autograd.grad(result, given[2], g)
    expected = kernel.T @ g.double()
    np.testing.assert_allclose(found.double(), expected, rtol=2.0**-10, atol=2.0**-14)


NAMES = {"f16": "f16", "bf16": "bf16"}


@pytest.mark.parametrize("format", FORMATS)
def test_one_product_of_stored_vectors(format):
    """None of them is divided into parts, and halves are multiplied as such."""
    stored = reduction("attention", 64, 64).reduction.stored_as(format)
    asm = stored.lower("f32", "sm_90").asm
    assert f"mma.sync.aligned.m16n8k16.row.col.f32.{format}.{format}.f32" in asm
    for line in asm.splitlines():
        assert not (format == "bf16" and ".tf32." in line)
