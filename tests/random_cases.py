"""Random cases: a formula, its reductions, and data of some shape; needs PyTorch, no backend.

Every number up to some millions is a case.  Cases of consecutive numbers share a compiled program
and differ in sizes, batches, ranges and data, since compiling takes longer than checking.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from agreement import HALVES
from random_formulas import Argument, Choices, Grammar
from reference_reductions import COMBINATIONS, SELECTIONS, TRUTHS, is_complex, row_of

CASES_A_PROGRAM = 5
# Around the numbers of lanes (8, 16), of rows in a step (64, 128), and of columns in a tile (256).
SIZES = (3, 1, 2, 0, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 256, 257, 300, 513)
# Up to 16 components are written out; more become loops.
DIMS = (1, 2, 3, 1, 2, 3, 4, 5, 6, 8, 15, 16, 17, 18, 20, 33)
LONG_DIMS = (100, 257, 1000)
ENTRIES = 60_000  # the most of the reference's tensors
FEW_ENTRIES = 8_000  # where kernels are interpreted
COUNTS = (2, 1, 3, 5, 10)
BATCHES = ((2,), (1,), (3,), (2, 3), (3, 1, 2), (0,))
DTYPES = (torch.float32, torch.float64, torch.float32, torch.float64, torch.float16, torch.bfloat16)
SUMS = ("Sum", "LogSumExp", "SoftMax")
SUM_OPTIONS = (
    *(("sum_scheme", "block_sum"), ("sum_scheme", "direct_sum"), ("sum_scheme", "kahan_scheme")),
    *(("use_double_acc", True), ("dtype_acc", "float64")),
)
# A reduction of a scalar, whose exponentials are summed; and those with a second formula.
EXPONENTIAL = tuple(name for name in COMBINATIONS if row_of(name).takes in ("scalar", "weights"))
WEIGHTED = tuple(name for name in EXPONENTIAL if row_of(name).takes == "weights")
POSITIVE = ("LogSumExp", "LogSumExpWeight")  # whose weights have a logarithm
DRAWN = (("Sum",), tuple(SELECTIONS), EXPONENTIAL, COMBINATIONS)


@dataclass(frozen=True)
class Reduced:
    """A formula and its reduction."""

    formula: str
    reduction_op: str
    opt_arg: int | None = None
    formula2: str | None = None

    @property
    def count(self) -> int:
        return 1 if self.opt_arg is None else self.opt_arg


@dataclass(frozen=True)
class Program:
    """What is compiled together."""

    results: tuple[Reduced, ...]
    arguments: tuple[Argument, ...]
    axis: int
    dtype: torch.dtype
    options: tuple[tuple[str, object], ...] = ()
    is_second_order: bool = False

    def options_of_genred(self) -> dict[str, object]:
        """All keyword arguments; a list an option where there are several formulas."""
        names = ("formula", "reduction_op", "opt_arg", "formula2")
        given: dict[str, object] = {}
        for name in names:
            values = [getattr(r, name) for r in self.results]
            if any(v is not None for v in values):
                given[name] = values if len(values) > 1 else values[0]
        aliases = [str(a) for a in self.arguments]
        return {**given, "aliases": aliases, "axis": self.axis, **dict(self.options)}


@dataclass(frozen=True)
class Blocks:
    """Block-sparse ranges: intervals of rows and of columns, and the pairs of them that count."""

    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]
    keep: tuple[tuple[bool, ...], ...]

    def ranges(self) -> tuple[torch.Tensor, ...]:
        """The six arrays of the language."""
        keep = np.array(self.keep, dtype=bool).reshape(len(self.rows), len(self.columns))
        halves = ((self.rows, self.columns, keep), (self.columns, self.rows, keep.T))
        found = []
        for blocks, intervals, kept in halves:
            joined = [intervals[n] for row in kept for n in np.flatnonzero(row)]
            slices = np.cumsum(kept.sum(axis=1))
            found += [np.array(a).reshape(-1, 2) for a in (blocks, joined)]
            found.insert(-1, slices)
        return tuple(torch.from_numpy(a.astype(np.int64)) for a in found)


@dataclass(frozen=True)
class Case:
    """All that one comparison needs; its `repr` is a program that makes it."""

    program: Program
    rows: int
    columns: int
    batches: tuple[tuple[int, ...], ...]
    blocks: Blocks | None = None
    has_ties: bool = False
    is_strided: bool = False
    checks_numpy: bool = False
    seed: int = 0

    def shapes(self) -> list[tuple[int, ...]]:
        leading = {"Vi": (self.rows,), "Vj": (self.columns,), "Pm": ()}
        return [
            (*batch, *leading[a.kind], a.dim)
            for a, batch in zip(self.program.arguments, self.batches, strict=True)
        ]

    def tensors(self) -> list[torch.Tensor]:
        """The arguments in the program's dtype: numbers that float32 has too."""
        return [
            _strided(t) if self.is_strided else t
            for t in _data(self.shapes(), self.seed, self.has_ties, self.program.dtype)
        ]

    def ranges(self) -> tuple[torch.Tensor, ...] | None:
        return None if self.blocks is None else self.blocks.ranges()


def _data(
    shapes: Sequence[tuple[int, ...]], seed: int, has_ties: bool, dtype: torch.dtype
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.float32 if dtype == torch.float64 else dtype
    drawn = [torch.rand(s, generator=generator, dtype=torch.float64) * 2 - 1 for s in shapes]
    if has_ties:
        drawn = [_repeated(t) for t in drawn]
    return [t.to(coarse).to(dtype) for t in drawn]


def _repeated(t: torch.Tensor) -> torch.Tensor:
    """Every third row or column again and again; one vector has nothing to repeat."""
    if t.ndim < 2:
        return t
    return t.index_select(-2, torch.arange(t.shape[-2]) % 3 % max(t.shape[-2], 1))


def _strided(t: torch.Tensor) -> torch.Tensor:
    """The same numbers, no two of them neighbours in memory."""
    return torch.stack([t, t + 1], dim=-1)[..., 0]


def random_case(seed: int, most_entries: int = ENTRIES) -> Case:
    """The case of a number, of some size at most."""
    program = random_program(Choices(seed // CASES_A_PROGRAM))
    return random_setting(Choices(seed), program, seed, most_entries)


def random_program(choices: Choices) -> Program:
    """What is compiled: formulas, reductions, dtype and options."""
    grammar = Grammar(choices, choices.one_of(LONG_DIMS if choices.once_in(25) else DIMS))
    results = [_result(choices, grammar)]
    while len(results) < 3 and choices.once_in(6):
        results.append(_result(choices, grammar))
    options: tuple[tuple[str, object], ...] = ()
    if all(r.reduction_op in SUMS for r in results) and choices.once_in(4):
        options = (choices.one_of(SUM_OPTIONS),)
    if choices.once_in(4):
        options += (("use_fast_math", True),)
    dtype = choices.one_of(DTYPES)
    order = sorted(grammar.arguments, key=lambda a: choices.below(4))
    axis = choices.one_of((1, 0))
    is_second_order = dtype not in HALVES and grammar.dim <= 4 and choices.once_in(6)
    return Program(tuple(results), tuple(order), axis, dtype, options, is_second_order)


def _result(choices: Choices, grammar: Grammar) -> Reduced:
    reduction_op = choices.one_of(choices.one_of(DRAWN))
    depth = choices.one_of((1, 2, 3, 2, 4))
    width = choices.one_of((1, grammar.dim))
    if reduction_op in TRUTHS:
        return Reduced(grammar.truth(width), reduction_op)
    if reduction_op in EXPONENTIAL:
        f = grammar.formula(1, depth)
        formula = f"IntCst(20)*({f})" if choices.once_in(4) else f
        if reduction_op not in WEIGHTED and not (
            reduction_op == "LogSumExp" and choices.once_in(3)
        ):
            return Reduced(formula, reduction_op)
        g = grammar.formula(choices.one_of((1, grammar.dim)), choices.one_of((0, 1, 2)))
        formula2 = f"Exp(Sin({g}))" if reduction_op in POSITIVE else g
        return Reduced(formula, reduction_op, None, formula2)
    if reduction_op in SELECTIONS and SELECTIONS[reduction_op].takes_count:
        formula = grammar.formula(width if width <= 5 else 1, depth)
        return Reduced(formula, reduction_op, choices.one_of(COUNTS))
    formula = grammar.formula(width, depth)
    if reduction_op == "Prod":  # factors near 1, whose product is not lost
        formula = f"1+Sin({formula})*IntInv(8)"
    if is_complex(reduction_op):
        formula = f"Complex(1+Sin({formula})*IntInv(8),Cos({formula})*IntInv(8))"
    return Reduced(formula, reduction_op)


def random_setting(choices: Choices, program: Program, seed: int, most_entries: int) -> Case:
    """Sizes, batches, ranges and data for a program."""
    batch: tuple[int, ...] = choices.one_of(BATCHES) if choices.once_in(4) else ()
    batches = tuple(
        tuple(1 if choices.once_in(4) else size for size in batch) for _ in program.arguments
    )
    kinds = {a.kind for a in program.arguments}
    entries = max(a.dim for a in program.arguments) * max(int(np.prod(batch)), 1)
    few = [n for n in SIZES if n * entries <= most_entries] or [1]
    rows = choices.one_of(few) if "Vi" in kinds else 1
    fitting = [n for n in SIZES if n * rows * entries <= most_entries] or [1]
    columns = choices.one_of(fitting) if "Vj" in kinds else 1
    blocks = None
    if choices.once_in(4):
        row_cuts, column_cuts = _intervals(choices, rows), _intervals(choices, columns)
        keep = tuple(tuple(not choices.once_in(2) for _ in column_cuts) for _ in row_cuts)
        blocks = Blocks(row_cuts, column_cuts, keep)
    flags = [choices.once_in(n) for n in (3, 6, 4)]
    return Case(program, rows, columns, batches, blocks, *flags, seed=seed)


def _intervals(choices: Choices, size: int) -> tuple[tuple[int, int], ...]:
    """Disjoint intervals in their order, which need not cover everything."""
    cuts = sorted({0, size, *(choices.below(size + 1) for _ in range(choices.below(4)))})
    found = tuple(itertools.pairwise(cuts))
    if len(found) > 1 and choices.once_in(3):
        dropped = choices.below(len(found))
        return found[:dropped] + found[dropped + 1 :]
    return found


def program_text(case: Case) -> str:
    """A short program that shows the case, with PyTorch and redcomp alone."""
    program = case.program
    coarse = torch.float32 if program.dtype == torch.float64 else program.dtype
    ties = "[..., torch.arange(shape[-2]) % 3 % shape[-2], :]" if case.has_ties else ""
    strides = "x = torch.stack([x, x + 1], dim=-1)[..., 0]" if case.is_strided else None
    keywords = ",\n    ".join(f"{k}={v!r}" for k, v in program.options_of_genred().items())
    lines = [
        "import torch",
        "from redcomp.torch import Genred",
        f"generator = torch.Generator().manual_seed({case.seed})",
        "def data(*shape):",
        "    x = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1",
        f"    x = x{ties} if len(shape) > 1 else x" if ties else None,
        f"    x = x.to({coarse}).to({program.dtype})",
        f"    {strides}" if strides else None,
        "    return x.requires_grad_()",
        f"op = Genred(\n    {keywords},\n)",
    ]
    names = [a.name for a in program.arguments]
    for name, shape in zip(names, case.shapes(), strict=True):
        lines.append(f"{name} = data({', '.join(map(str, shape))})")
    call = ", ".join(names)
    ranges = case.ranges()
    if ranges is not None:
        arrays = [f"torch.tensor({t.tolist()}).reshape({tuple(t.shape)})" for t in ranges]
        lines.append(f"ranges = ({', '.join(arrays)})")
        call += ", ranges=ranges"
    return "\n".join([line for line in lines if line is not None] + [f"print(op({call}))"])
