"""Programs that drop pairs, compiled: their derivatives are those of the pairs that they keep.

Needs PyTorch.  The reference is given the pairs that are kept, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from reference import declared, terms

from redcomp.torch import Genred

pytestmark = pytest.mark.slow

Tensor = torch.Tensor
ALIASES = ["x=Vi(3)", "y=Vj(3)", "b=Vj(2)"]
SIZES = (9, 9)


class Program(NamedTuple):
    """A formula that drops pairs, what it is at the others, and which pairs these are."""

    formula: str
    bare: str
    keeps: Callable[[Tensor, Tensor], Tensor]


def away(x: Tensor, y: Tensor) -> Tensor:
    return square_distances(x, y) >= 0.001


def near(x: Tensor, y: Tensor) -> Tensor:
    return square_distances(x, y) <= 4


def between(x: Tensor, y: Tensor) -> Tensor:
    return away(x, y) & near(x, y)


def others(x: Tensor, y: Tensor) -> Tensor:
    return torch.eye(len(x), len(y)) == 0


def square_distances(x: Tensor, y: Tensor) -> Tensor:
    return ((x[:, None] - y) ** 2).sum(-1)


def guarded(bare: str) -> Program:
    return Program(f"IfElse(SqDist(x,y)-0.001,{bare},0)", bare, away)


S = "SqDist(x,y)"
PROGRAMS: Mapping[str, Program] = {
    "Lennard-Jones": guarded(f"4*(Pow({S},-6)-Pow({S},-3))"),
    "Coulomb": guarded(f"Rsqrt({S})*Sum(b)"),
    "inverse square": guarded(f"1/{S}"),
    "logarithm": guarded(f"Log({S})"),
    "power": guarded(f"Powf({S},-1.5)"),
    "angle": guarded("Square(Atan2(Elem(x-y,0),Elem(x-y,1)))"),
    "oscillation": guarded(f"SinXDivX(1/{S})"),
    "entropy": guarded(f"XLogX({S})"),
    "two guards": Program(
        f"IfElse({S}-0.001,1/{S},0)+IfElse({S}-0.001,Log({S}),0)", f"1/{S}+Log({S})", away
    ),
    "overflow": Program(f"IfElse(4-{S},Exp(Square(2*{S})),0)", f"Exp(Square(2*{S}))", near),
    "a cutoff": Program(f"IfElse({S}-0.001,IfElse(4-{S},1/{S},0),0)", f"1/{S}", between),
    "numbers": Program(f"IfElse(0.5-Equal(Ind_i(),Ind_j()),1/{S},0)", f"1/{S}", others),
    "numbers as a factor": Program(
        f"NotEqual(Ind_i(),Ind_j())*Powf({S},0.3)", f"Powf({S},0.3)", others
    ),
    "a comparison as a factor": Program(f"({S}>0.001)*Cbrt({S})", f"Cbrt({S})", away),
    "a smaller one": Program(f"Minimum(1/{S},100)", f"1/{S}", away),
    "a clamped one": Program(f"Clamp(Log({S}),-6,100)", f"Log({S})", away),
    "a positive one": Program(f"ReLU(100-1/{S})", f"100-1/{S}", away),
    "a vector": guarded(f"(x-y)*Powf({S},-1.5)"),
}
# The pairs that these drop contribute a constant.
CONSTANTS = {"a smaller one": 100.0, "a clamped one": -6.0}
DERIVED = ("Grad({},x,1)", "Laplacian({},x)", "Square(GradMatrix({},x))", "Diff({},x,y)")


def points(count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Points of space, no two of them close to each other."""
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * 3)
    rng = np.random.default_rng(seed)
    chosen = torch.from_numpy(rng.permutation(27)[:count])
    moved = grid[chosen] + torch.from_numpy(rng.uniform(-0.1, 0.1, (count, 3)))
    return moved.to(dtype)


def arguments(dtype: torch.dtype) -> list[Tensor]:
    """The same points as rows and as columns."""
    x = points(SIZES[0], dtype)
    b = torch.linspace(0.5, 2, 2 * len(x), dtype=dtype).reshape(-1, 2)
    return [t.clone().requires_grad_() for t in (x, x, b)]


def kept_sum(bare: str, tensors: Sequence[Tensor], keeps: Tensor) -> Tensor:
    """The sum over the columns of the pairs that are kept."""
    rows, columns = keeps.nonzero(as_tuple=True)
    at_pairs = [t[rows if n == 0 else columns] for n, t in enumerate(tensors)]
    values = terms(bare, declared(ALIASES), at_pairs)
    return values.new_zeros(len(tensors[0]), values.shape[-1]).index_add(0, rows, values)


def weighted(t: Tensor, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return (t * torch.from_numpy(rng.uniform(0.5, 2.0, t.shape)).to(t)).sum()


def derivatives(result: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """First ones by all arguments, and second ones."""
    first = torch.autograd.grad(
        weighted(result, 1), tensors, create_graph=True, allow_unused=True, materialize_grads=True
    )
    total = sum((weighted(t, 2 + n) for n, t in enumerate(first)), torch.zeros(()))
    second = torch.autograd.grad(total, tensors, allow_unused=True, materialize_grads=True)
    return [t.detach() for t in (*first, *second)]


def assert_agree(formula: str, bare: str, program: str, dtype: torch.dtype) -> None:
    keeps = PROGRAMS[program].keeps
    exact, given = arguments(torch.float64), arguments(dtype)
    kept = keeps(exact[0].detach(), exact[1].detach())
    expected = kept_sum(bare, exact, kept)
    result = Genred(formula, ALIASES, axis=1)(*given)
    constant = CONSTANTS.get(program, 0.0) if bare == PROGRAMS[program].bare else 0.0
    dropped = constant * (~kept).sum(1, keepdim=True)
    found = [result.detach() - dropped, *derivatives(result, given)]
    wanted = [expected.detach(), *derivatives(expected, exact)]
    for one, other in zip(found, wanted, strict=True):
        size = float(other.abs().max())
        precision = 1e-11 if dtype == torch.float64 else 3e-4
        torch.testing.assert_close(
            one.double(), other, rtol=precision, atol=precision * (1 + size), msg=formula
        )


@pytest.mark.sampled(128)
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_programs_that_drop_pairs(program: str, dtype: torch.dtype) -> None:
    assert_agree(PROGRAMS[program].formula, PROGRAMS[program].bare, program, dtype)


@pytest.mark.sampled(92)
@pytest.mark.parametrize("derived", DERIVED)
@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "a vector"])
def test_derivatives_in_formulas_that_drop_pairs(program: str, derived: str) -> None:
    formula, bare, _ = PROGRAMS[program]
    assert_agree(derived.format(formula), derived.format(bare), program, torch.float64)


def test_forces_of_a_guarded_lennard_jones_potential() -> None:
    """Each particle among its columns too, as programs of molecular dynamics have it."""
    x = points(20).requires_grad_()
    potential = PROGRAMS["Lennard-Jones"].formula
    energy = Genred(potential, ALIASES[:2], axis=1)(x, x).sum() / 2
    (forces,) = torch.autograd.grad(-energy, x, create_graph=True)
    by_formula = Genred(f"-Grad({potential},x,1)", ALIASES[:2], axis=1)(x, x)
    (column,) = torch.autograd.grad(forces[3, 1], x)
    pairs = square_distances(x, x) + torch.eye(20)
    inverse = pairs**-3
    dense = (2 * (inverse**2 - inverse) * (1 - torch.eye(20))).sum()
    (exact,) = torch.autograd.grad(-dense, x, create_graph=True)
    (exact_column,) = torch.autograd.grad(exact[3, 1], x)
    torch.testing.assert_close(forces, exact, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(by_formula, exact, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(column, exact_column, rtol=1e-10, atol=1e-9)


@pytest.mark.sampled(16)
@pytest.mark.parametrize("missing", [np.nan, np.inf])
@pytest.mark.parametrize("dim", [3, 20])
def test_columns_that_are_filled_up_with_anything(dim: int, missing: float) -> None:
    rng = np.random.default_rng(2)
    x, y = (torch.from_numpy(rng.normal(size=(n, dim))) for n in (5, 7))
    is_there = torch.tensor([1.0, 1, 0, 1, 0, 1, 1], dtype=torch.float64)[:, None]
    filled = torch.where(is_there > 0, y, missing)
    operation = Genred(
        "IfElse(m-0.5,Exp(-SqDist(x,y)),0)", [f"x=Vi({dim})", f"y=Vj({dim})", "m=Vj(1)"], axis=1
    )
    short = y[is_there[:, 0] > 0]
    found = pulled(operation(x.requires_grad_(), filled.requires_grad_(), is_there), x, filled)
    ones = torch.ones(len(short), 1, dtype=torch.float64)
    wanted = pulled(operation(x, short.requires_grad_(), ones), x, short)
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1][is_there[:, 0] > 0], wanted[1])
    assert (found[1][is_there[:, 0] == 0] == 0).all()


def pulled(result: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(weighted(result, 3), tensors)


def test_a_row_that_keeps_nothing_has_no_derivative() -> None:
    """Not even where the cotangent is infinite: the logarithm of nothing."""
    x = points(4).requires_grad_()
    y = points(4) + torch.tensor([[0.0], [0], [0], [9]])
    result = Genred("IfElse(0.3-SqDist(x,y),Exp(-SqDist(x,y)),0)", ALIASES[:2], axis=1)(x, y)
    assert (result[3] == 0).all()
    (found,) = torch.autograd.grad(result.log().sum(), x)
    assert found.isfinite().all()
    assert (found[3] == 0).all()


@pytest.mark.sampled(27)
@pytest.mark.parametrize("dim", [3, 24])
@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ("Sum(IfElse(x-y-0.25,Log(x-y),Zero({d})))", lambda x, y: kept_log(x - y)),
        (
            "Sum(IfElse(x-y-0.25,Powf(SqDist(x,y),0.3)*x,Zero({d})))",
            lambda x, y: vector_guard(x, y),
        ),
        ("Min(1/(x-y))", lambda x, y: 1 / torch.where(x - y < 0, x - y, -1e30).amax(-1)),
        ("Elem(Log(x-y),1)", lambda x, y: torch.log((x - y)[..., 1])),
    ],
    ids=["of components", "of vectors for a scalar", "smallest component", "one component"],
)
def test_guards_of_components(
    dim: int, formula: str, wanted: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Each component is kept or dropped, also in loops over long vectors."""
    rng = np.random.default_rng(5)
    y = torch.from_numpy(rng.uniform(1, 2, (3, dim)))
    x = torch.from_numpy(rng.uniform(-1, 4, (4, dim)))
    x[:, 0] = y[0, 0]  # a component that is infinite somewhere
    x[:, 1] = 3.0
    x[:, 2] = 0.5
    x[3] = y[2] - torch.linspace(1e-3, 2e-3, dim) * formula.startswith("Min")
    x[3, 1] += formula.startswith("Elem")
    aliases = [f"x=Vi({dim})", f"y=Vj({dim})"]
    given, exact = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = Genred(formula.format(d=dim), aliases, axis=1)(given, y)
    dense = wanted(exact[:, None], y).sum(1, keepdim=True)
    torch.testing.assert_close(found, dense)
    torch.testing.assert_close(pulled(found, given)[0], pulled(dense, exact)[0])


def kept_log(t: Tensor) -> Tensor:
    is_kept = t >= 0.25
    return torch.where(is_kept, torch.where(is_kept, t, 1).log(), 0).sum(-1)


def vector_guard(x: Tensor, y: Tensor) -> Tensor:
    is_kept = x - y >= 0.25
    square = ((x - y) ** 2).sum(-1, keepdim=True)
    is_apart = square > 0
    power = torch.where(is_apart, torch.where(is_apart, square, 1) ** 0.3, 0)
    return torch.where(is_kept, power * x, 0).sum(-1)
