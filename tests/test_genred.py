"""Every operation of the language through the host kernels, against a dense reference: CPU, PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from agreement import assert_close, exact_and_noise
from reference import dense

import redcomp.numpy
from redcomp.ops import SPELLINGS, Operation
from redcomp.torch import Genred

SHORT, LONG = 3, 20  # LONG vectors become loops over their components
ROWS, COLUMNS = 37, 21
KINDS = ("Vi", "Vj", "Pm")


class Case(NamedTuple):
    """A call of one operation: its operands' dimensions and its integer arguments."""

    spelling: str
    dims: tuple[int, ...]
    integers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.spelling, *map(str, self.dims), *(f"({n})" for n in self.integers)])


def _special_shapes(d: int) -> dict[str, list[Case]]:
    """Operations whose operands are not simply vectors of equal dimension, for vectors of dimension d."""
    square = 4 if d == SHORT else 5  # of the dimension of a vector that comes with a matrix
    rows = {
        "Pow": [((d,), (m,)) for m in (3, -2, 0, 1)],
        "Round": [((d,), (n,)) for n in (0, 2, -1)],
        "ClampInt": [((d,), (-1, 2))],
        "DiffClampInt": [((d,), (-1, 2))],
        "SumT": [((1,), (d,))],
        "Scalprod": [((d, d), ()), ((1, d), ())],
        "SqDist": [((d, d), ()), ((d, 1), ())],
        "SqNormIso": [((1, d), ())],
        "SymSqNorm": [((square**2, square), ())],
        "WeightedSqNorm": [((1, d), ()), ((d, d), ()), ((square**2, square), ())],
        "WeightedSqDist": [((1, d, d), ()), ((d, d, d), ()), ((square**2, square, square), ())],
        "Elem": [((d,), (0,)), ((d,), (d - 1,))],
        "ElemT": [((1,), (d, 0)), ((1,), (d, d - 1))],
        "Extract": [((d,), (1, d - 1)), ((d,), (0, 1))],
        "ExtractT": [((d,), (0, d + 2)), ((d,), (2, d + 2)), ((2,), (1, d))],
        "Concat": [((d, d), ()), ((1, d), ()), ((d, 2), ())],
        "OneHot": [((1,), (4,)), ((1,), (d,))],
    }
    return {name: [Case(name, *row) for row in listed] for name, listed in rows.items()}


def _cases(d: int) -> list[Case]:
    special = _special_shapes(d)
    cases = []
    for row in SPELLINGS.values():
        if row.spelling in special:
            cases.extend(special[row.spelling])
            continue
        cases.append(Case(row.spelling, (d,) * row.arity))
        if row.elementwise and row.arity == 2:
            cases.extend([Case(row.spelling, (1, d)), Case(row.spelling, (d, 1))])
        if row.elementwise and row.arity == 3:
            cases.append(Case(row.spelling, (d, 1, d)))
    return cases


def _inputs(row: Operation, dims: Sequence[int], kinds: Sequence[str], seed: int) -> list[Any]:
    """Float32 numbers of the row's domain, special points among them."""
    random = np.random.default_rng(seed)
    found = []
    for n, (dim, kind) in enumerate(zip(dims, kinds, strict=True)):
        low, high = row.domain.intervals[min(n, len(row.domain.intervals) - 1)]
        shape = {"Vi": (ROWS, dim), "Vj": (COLUMNS, dim), "Pm": (dim,)}[kind]
        values = random.uniform(low, high, shape)
        inside = [s for s in row.domain.special if low < s < high]
        if inside and kind != "Pm":
            is_special = random.random(shape) < 0.05
            values = np.where(is_special, random.choice(inside, shape), values)
        found.append(torch.from_numpy(values.astype(np.float32)))
    return found


def _gradients(op: Any, tensors: Sequence[Any], order: int) -> list[Any]:
    """The value, the gradients for all arguments, then those of a mixture of these gradients."""
    generator = torch.Generator().manual_seed(1)

    def like(t: Any) -> Any:
        return torch.randn(t.shape, generator=generator).to(t.dtype)

    value = op(*tensors)
    results = [value]
    if order == 0:
        return results
    cotangent = like(value).requires_grad_()
    wanted = [*tensors, cotangent]
    options = {"allow_unused": True, "materialize_grads": True}
    value = value + 0 * sum(t.sum() for t in tensors)  # a graph even where all derivatives vanish
    first = torch.autograd.grad(value, tensors, cotangent, create_graph=order == 2, **options)
    results.extend(first)
    if order == 2:
        # The sum over the arguments themselves is there so that something can be differentiated.
        mixture = sum((part * like(part)).sum() + t.sum() for t, part in zip(wanted, first))
        results.extend(torch.autograd.grad(mixture, wanted, **options))
    return results


def _compare(
    formula: str,
    aliases: list[str],
    tensors: Sequence[Any],
    dtype: Any,
    axis: int,
    order: int,
    reference: str | None = None,
) -> list[Any]:
    """Value and gradients against the reference; the allowance is relative to the largest entry."""
    op = Genred(formula, aliases, axis=axis)

    def exactly(leaves: Sequence[Any]) -> list[Any]:
        return _gradients(lambda *t: dense(reference or formula, aliases, t, axis), leaves, order)

    exact, noise = exact_and_noise(exactly, tensors)
    leaves = [t.detach().to(dtype).requires_grad_() for t in tensors]
    computed = _gradients(op, leaves, order)
    names = [alias.split("=")[0].strip() for alias in aliases]
    labels = ["value", *names, *(f"second {name}" for name in [*names, "cotangent"])]
    assert len(computed) == len(exact)
    for label, result, right, own in zip(labels, computed, exact, noise, strict=False):
        finite = right[right.isfinite()].abs()
        size = float(finite.max()) if finite.numel() else 0.0
        assert_close(result, right, own, dtype, size, f"{formula} {aliases} axis {axis}: {label}")
    return computed


def _call(case: Case, operands: Iterable[str]) -> str:
    return f"{case.spelling}({','.join([*operands, *map(str, case.integers)])})"


def _apart(case: Case, first: int) -> tuple[str, list[str], list[str], list[int]]:
    """Each operand is an argument of another kind; an unrelated factor makes all pairs differ."""
    kinds = [KINDS[(first + n) % 3] for n in range(len(case.dims))]
    other = "Vj" if kinds[0] == "Vi" else "Vi"
    names = [f"u{n}" for n in range(len(kinds))]
    return f"{_call(case, names)} * w", names, [*kinds, other], [*case.dims, 1]


def _together(case: Case) -> tuple[str, list[str], list[str], list[int]]:
    """The first operand depends on both indices: it is taken from i or from j, by the sign of w."""
    names = [f"u{n}" for n in range(len(case.dims))]
    operands = ["IfElse(w,u0,v)", *names[1:]]
    kinds = ["Vi", *(KINDS[(1 + n) % 3] for n in range(1, len(names))), "Vj", "Vj"]
    return _call(case, operands), names, kinds, [*case.dims, case.dims[0], 1]


# dtype, axis, whether vectors are long, whether one operand depends on both indices
SETTINGS = [
    (torch.float32, 1, False, False),
    (torch.float32, 0, True, True),
    (torch.float64, 1, False, True),
    (torch.float64, 0, True, False),
]


@pytest.mark.parametrize(
    ("dtype", "axis", "case", "is_together"),
    [
        pytest.param(dtype, axis, case, is_together, id=f"{str(dtype)[-3:]}-axis{axis}-{case}")
        for dtype, axis, is_long, is_together in SETTINGS
        for case in _cases(LONG if is_long else SHORT)
    ],
)
def test_operation_agrees_with_reference(dtype, axis, case, is_together):
    row = SPELLINGS[case.spelling]
    if is_together:
        formula, names, kinds, dims = _together(case)
        names = [*names, "v", "w"]
    else:
        formula, names, kinds, dims = _apart(case, first=axis)
        names = [*names, "w"]
    aliases = [f"{n} = {k}({d})" for n, k, d in zip(names, kinds, dims, strict=True)]
    operands = _inputs(row, case.dims, kinds[: len(case.dims)], seed=len(formula))
    if is_together:
        operands += _inputs(row, case.dims[:1], ["Vj"], seed=2)
    (w,) = _inputs(SPELLINGS["Minus"], [1], kinds[-1:], seed=3)
    order = 2 if dtype == torch.float64 else 1
    _compare(formula, aliases, [*operands, w], dtype, axis, order)


def test_every_operation_has_a_case():
    for d in (SHORT, LONG):
        assert {case.spelling for case in _cases(d)} == set(SPELLINGS)
