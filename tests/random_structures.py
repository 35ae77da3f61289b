"""Random cases of structure: dimensions, list lengths, many formulas, sizes; needs PyTorch.

Where `random_cases` draws over operations, these draw over what decides the schedule: D and E up to
300, K up to 200, up to 100 formulas, numbers of rows and columns around lanes, steps and tiles, all
reductions.  Arguments are multiples of 1/8, so that what is selected by is exact, ties included.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from random_cases import Case, Program, Reduced, random_setting
from random_formulas import Argument, Choices
from reference import Tensor, declared, spread, terms
from reference_reductions import (
    COMBINATIONS,
    SELECTIONS,
    TRUTHS,
    Pairs,
    arranged,
    is_complex,
    pair_mask,
    reduce_pairs,
    row_of,
    taken_formula,
)

import redcomp.torch

CASES_A_STRUCTURE = 40
ENTRIES = 20_000  # the most of a tensor of pairs
FEW_ENTRIES = 2_000  # where kernels are interpreted
# Around what is written out (16), and what fills a register, a step or a tile.
DIMS = (1, 2, 3, 1, 2, 3, 5, 8, 15, 16, 17, 18, 20, 31, 32, 33, 64, 65, 100, 128, 257, 300)
COUNTS = (1, 2, 3, 4, 5, 10, 15, 16, 17, 18, 20, 32, 33, 64, 100, 199, 200)
LISTS = (2, 3, 4, 8, 9, 16, 17, 33, 50, 64, 98, 100)
MOST_STATES = 600  # components of all results, lists counted by what they keep
DTYPES = (torch.float32, torch.float64)
USUAL = tuple(name for name in COMBINATIONS if name == row_of(name).spelling)
WEIGHTED = tuple(name for name in USUAL if row_of(name).takes == "weights")
PRODUCTS = ("Prod", "ComplexProd")
PLAIN = tuple(name for name in USUAL if name not in WEIGHTED)
DRAWN = (("Sum",), PLAIN, WEIGHTED, tuple(SELECTIONS), tuple(SELECTIONS))
# Exact for multiples of 1/8, in float32 too.
SCALARS = (
    *("SqDist(x,y)", "(x|y)", "Max(x-y)", "Sum(Abs(x-y))", "SqNorm2(x-y)", "Min(x)-Max(y)"),
    *("p", "Elem(x,0)", "Elem(y,0)", "Elem(x,0)*Elem(y,0)-p", "Step(Elem(x,0)-Elem(y,0))"),
)
VECTORS = ("b", "c-b", "c*b", "b*({s})", "SumT({s},{e})", "c-b*p", "Maximum(c,b)", "c")
ROUNDED = ("Exp(-SqDist(x,y)*IntInv({d}))", "Sin(x|y)", "Sqrt(1+SqDist(x,y))", "Exp(p-2)")
# What other schedules are for: a recurrence, and so long a body that a step has one pair.  If its
# terms were alike it would be a loop; terms of both signs would cancel.
RARE = (
    ("SoftDTW_SqDist(x,y,1.5+Cos(p))*IntInv({d})", 33),
    ("+".join(f"Square({'Sin' if k % 2 else 'Cos'}({k}*(x|y)))" for k in range(1, 90)), 17),
)
# What one rounding is at most, relative to the number.
ROUNDING = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
# Roundings of different terms partly cancel.
USUAL_ROUNDINGS = 32
# Columns of which a sum is in the kernel's dtype; sums of tiles are float64.
LONGEST_TILE = 256


@dataclass(frozen=True)
class StructureCase(Case):
    """A case whose arguments are multiples of 1/8."""

    def tensors(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        return [
            torch.randint(-8, 9, s, generator=generator).to(self.program.dtype) / 8
            for s in self.shapes()
        ]


def random_structure(seed: int, most_entries: int = ENTRIES) -> StructureCase:
    """The case of a number, of some size at most."""
    program = random_program(Choices(seed // CASES_A_STRUCTURE))
    made = random_setting(Choices(seed), program, seed, most_entries)
    fields = {name: getattr(made, name) for name in Case.__dataclass_fields__}
    return StructureCase(**{**fields, "is_strided": False, "checks_numpy": False})


def random_program(choices: Choices) -> Program:
    """Formulas over x and y of dimension D, and over b and c of dimension E."""
    dim, width = choices.one_of(DIMS), choices.one_of(DIMS)
    wanted = choices.one_of(LISTS) if choices.once_in(5) else 1
    reduction = choices.one_of(choices.one_of(DRAWN))
    results: list[Reduced] = []
    left = MOST_STATES
    while len(results) < wanted:
        made, taken = _result(choices, reduction, dim, width, left)
        left -= taken
        if results and left < 0:
            break
        results.append(made)
        if choices.once_in(4):
            reduction = choices.one_of(choices.one_of(DRAWN))
    kinds = {"x": ("Vi", dim), "y": ("Vj", dim), "p": ("Pm", 1), "b": ("Vj", width)}
    arguments = [Argument(n, *kind) for n, kind in {**kinds, "c": ("Vi", width)}.items()]
    axis, dtype = choices.one_of((1, 0)), choices.one_of(DTYPES)
    formula, longest = choices.one_of(RARE)
    if choices.once_in(10) and dim <= longest:
        results[0] = Reduced(formula.format(d=dim), "Sum")
    return Program(tuple(results), tuple(arguments), axis, dtype)


def _result(
    choices: Choices, reduction: str, dim: int, width: int, left: int
) -> tuple[Reduced, int]:
    """A formula and its reduction, and about how many components it keeps."""
    selection = SELECTIONS.get(reduction)
    scalar = choices.one_of(SCALARS)
    if selection is None and choices.once_in(2):
        scalar = choices.one_of(ROUNDED).format(d=dim)
    is_scalar = row_of(reduction).takes in ("scalar", "weights")
    count = choices.one_of(COUNTS) if selection is not None and selection.takes_count else None
    kept = width * (min(count, 17) if count else 1)
    if is_scalar or kept > left or choices.once_in(3):
        formula, kept = scalar, kept // width
    else:
        formula = choices.one_of(VECTORS).format(s=scalar, e=width)
    if reduction in PRODUCTS:
        formula = taken_formula(reduction, f"1+({formula})*IntInv(1024)")
    if reduction not in WEIGHTED:
        return Reduced(formula, reduction, count), kept
    weights = "Exp(b)" if reduction == "LogSumExpWeight" else "b"
    weights = weights if width <= left else "p*p"
    if reduction == "LogSumExpWeight":
        weights = "Exp(Elem(b,0))"
    return Reduced(formula, reduction, None, weights), width


@functools.lru_cache(maxsize=2)
def compiled(program: Program) -> Any:
    """The operation for PyTorch; cases of one program share it."""
    return redcomp.torch.Genred(**program.options_of_genred())


def check_structure(case: StructureCase) -> bool:
    """Compare all results with the dense ones; True, since all cases say something."""
    tensors = case.tensors()
    results = compiled(case.program)(*tensors, ranges=case.ranges())
    results = results if len(case.program.results) > 1 else (results,)
    ranges = case.ranges()
    mask = None if ranges is None else pair_mask(ranges, case.rows, case.columns)
    variables = declared([str(a) for a in case.program.arguments])
    spreads = spread(variables, [t.double() for t in tensors])
    of_formula = functools.lru_cache(None)(lambda formula: terms(formula, variables, spreads))
    for number, (reduced, found) in enumerate(zip(case.program.results, results, strict=True)):
        axis, name = case.program.axis, reduced.reduction_op
        exact = of_formula(reduced.formula)
        weights = None if reduced.formula2 is None else of_formula(reduced.formula2)
        right = reduce_pairs(name, exact, axis, mask, weights, reduced.count)
        size = _size(name, exact, axis, mask, weights)
        flat = found if isinstance(found, tuple) else (found,)
        for one, expected in zip(flat, right, strict=True):
            label = f"{name} of {reduced.formula} ({number})"
            _compare(one, expected, size, label)
    return True


def _roundings(name: str, pairs: Pairs) -> int:
    """How many roundings of a result may add up: those of equal terms have one sign."""
    terms = pairs.filled(torch.nan)
    first = terms.nan_to_num(-torch.inf).amax(-2, keepdim=True)
    if not bool((terms.isnan() | (terms == first)).all()):
        return USUAL_ROUNDINGS
    count = int(pairs.mask.sum(-2).max()) if pairs.mask.numel() else 0
    # Factors near 1 are rounded, and so are their products; these have no tiles.
    most = 2 * count if name in PRODUCTS else min(count, LONGEST_TILE)
    return max(USUAL_ROUNDINGS, most)


def _size(
    name: str, exact: Tensor, axis: int, mask: Tensor | None, weights: Tensor | None
) -> Tensor | float:
    """What all roundings together are relative to one of them."""
    if name in COMBINATIONS and name not in TRUTHS:
        absolute = None if weights is None else weights.abs()
        if name in ("Sum", "Mean", "Norm"):
            (found,) = reduce_pairs(name, exact.abs(), axis, mask)
        else:
            (found,) = reduce_pairs(name, exact, axis, mask, absolute)
        if is_complex(name):  # a component may be far below the modulus, whose rounding it has
            found = found.unflatten(-1, (-1, 2)).norm(dim=-1).repeat_interleave(2, -1)
        pairs = arranged(exact, axis, mask)
        largest = pairs.filled(0.0).abs().amax() if exact.numel() else 0.0
        return _roundings(name, pairs) * (1 + found.abs().nan_to_num(0, 0, 0) * (1 + largest))
    return 0.0


def _compare(found: Tensor, right: Tensor, size: Tensor | float, label: str) -> None:
    assert found.shape == right.shape, (label, found.shape, right.shape)
    if not found.is_floating_point():
        assert torch.equal(found, right), f"{label}: places or truth values differ"
        return
    allowed = ROUNDING[found.dtype] * size
    same = (found == right) | (found.isnan() & right.isnan())
    wrong = ~(same | ((found.double() - right).abs() <= allowed))
    if bool(wrong.any()):
        worst = int(wrong.flatten().nonzero()[0])
        raise AssertionError(
            f"{label}: {found.flatten()[worst].item()!r} instead of "
            f"{right.flatten()[worst].item()!r}, {int(wrong.sum())} of {wrong.numel()} differ"
        )
