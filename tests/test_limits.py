"""What is too much is refused before time and memory are spent: needs a CPU and PyTorch."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from redcomp.errors import FormulaError, SizeError
from redcomp.frontend.reductions import derivatives
from redcomp.limits import MAX_OPERATIONS
from redcomp.torch import Genred

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
limit_examples: Any = importlib.import_module("limit_examples")

pytestmark = pytest.mark.slow


def gradients(formula: str, *aliases: str, orders: int = 1) -> tuple[torch.Tensor, ...]:
    """The derivatives of a sum for ones, of some order."""
    op = Genred(formula, aliases, axis=1)
    shapes = {"i": (2,), "j": (2,), "parameter": ()}
    arguments = [torch.ones(*shapes[p.kind], p.dim) for p in op.reduction.parameters]
    given = [a.requires_grad_() for a in arguments]
    found: tuple[torch.Tensor, ...] = (op(*given),)
    for _ in range(orders):
        total = sum((t.sum() for t in found), start=torch.zeros(()))
        found = torch.autograd.grad(total, given, create_graph=True, materialize_grads=True)
    return found


def powers(count: int) -> str:
    return "**".join(["x"] * count)


# Each took minutes or gigabytes once, and is computed now.
COMPUTED: dict[str, tuple[str, list[str], int]] = {
    "powers": (powers(60), ["x = Vi(1)"], 1),
    "powers of many components": (powers(60), ["x = Vi(16)"], 1),
    "a norm of 1,000 components": ("SymSqNorm(A, x)", ["x = Vi(1000)", "A = Pm(1000000)"], 1),
    "a gradient as a matrix": ("GradMatrix(SqDist(x, y), x)", ["x = Vi(1000)", "y = Vj(1000)"], 1),
    "long comparisons": ("Sum(x < y)", ["x = Vi(100000)", "y = Vj(100000)"], 0),
    "a tower that is exponential as a tree": (
        "Normalize(" * 100 + "x" + ")" * 100,
        ["x = Vi(3)"],
        1,
    ),
}


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", COMPUTED)
def test_much_is_computed(name: str) -> None:
    formula, aliases, orders = COMPUTED[name]
    for tensor in gradients(formula, *aliases, orders=orders):
        assert tensor.isfinite().all()


# And these are refused.  What the message says, and what it points at.
REFUSED: dict[str, tuple[str, list[str], int, str]] = {
    "a long tower of powers": (powers(190), ["x = Vi(3)"], 0, "more than 30,000 operations"),
    "a Jacobian of a million components": (
        "GradMatrix(x * y * x * y * x * y * x * y * x * y * x * y * x * y * x * y, x)",
        ["x = Vi(1000)", "y = Vj(1000)"],
        0,
        "more than 30,000 operations",
    ),
    "derivatives of derivatives": (
        "Grad(Exp(" * 40 + "x" + ") * x, x, y)" * 40,
        ["x = Vi(1)", "y = Vj(1)"],
        0,
        "more than 30,000 operations",
    ),
    "the longest vectors": ("x * y", [f"x = Vi({2**24})", "y = Vj(1)"], 0, "GB of memory"),
    "loops in loops": (
        "TensorDot(x, y, [4096, 4096], [4096, 128], [1], [0])",
        [f"x = Pm({2**24})", "y = Vj(524288)"],
        0,
        "more than 1,073,741,824 operations per pair",
    ),
    "deep brackets": ("(" * 4000 + "x" + ")" * 4000, ["x = Vi(1)"], 0, "200 levels"),
    "a huge number": ("x * " + "9" * 399, ["x = Vi(1)"], 0, "too large for"),
    "a huge power": ("x * 2 ** 3 ** 4 ** 5 ** 6", ["x = Vi(1)"], 0, "too large for"),
    "a huge exponent": ("Pow(x, 99999999999)", ["x = Vi(1)"], 0, "at most 2,147,483,647"),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", REFUSED)
def test_more_is_refused_with_a_place_in_the_formula(name: str) -> None:
    formula, aliases, orders, message = REFUSED[name]
    with pytest.raises(FormulaError, match=f"(?s){message}.*\n +\\^") as caught:
        gradients(formula, *aliases, orders=orders)
    assert caught.value.formula == formula


def test_a_derivative_that_is_too_much_is_told_from_its_formula() -> None:
    formula = "*".join(["x"] * 1400)
    op = Genred(formula, ["x = Vi(16)"], axis=1)
    with pytest.raises(FormulaError, match="a derivative of it becomes more than 30,000") as caught:
        derivatives.gradient(op.reduction, (0,), (True,))
    assert caught.value.formula == formula


def test_a_compilation_that_is_looked_at_says_the_same() -> None:
    op = Genred(powers(190), ["x = Vi(3)"], axis=1)
    with pytest.raises(SizeError, match=f"^the formula becomes more than {MAX_OPERATIONS:,}"):
        op.lower().nest  # noqa: B018  made when it is read


@pytest.mark.thorough
def test_every_example_in_the_documentation_has_an_error_of_its_own() -> None:
    errors = [example.error() for example in limit_examples.EXAMPLES]
    assert len(set(errors)) >= len(errors) - 1  # one number, counted twice
