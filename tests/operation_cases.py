"""Calls of every operation, with fitting dimensions: needs no backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from redcomp.ops import SPELLINGS

KINDS = ("Vi", "Vj", "Pm")


class Case(NamedTuple):
    """A call of one operation: its operands' dimensions and its integer arguments."""

    spelling: str
    dims: tuple[int, ...]
    integers: tuple[int | list[int], ...] = ()

    def __str__(self) -> str:
        return "-".join([self.spelling, *map(str, self.dims), *(f"({n})" for n in self.integers)])


def _complex_shapes(d: int) -> dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Operands of complex operations, vectors of even dimension d among them."""
    of_a_vector = ["Real", "Imag", "Abs", "SquareAbs", "Angle", "Sum", "Exp"]
    of_two = ["Add", "Subtract", "Mult", "Divide"]
    return {
        **{f"Complex{name}": [((d,), ())] for name in of_a_vector},
        **{f"Complex{name}": [((d, d), ()), ((2, d), ()), ((d, 2), ())] for name in of_two},
        "Conj": [((d,), ())],
        "Complex": [((d, d), ()), ((1, d), ()), ((d, 1), ())],
        "ComplexSumT": [((2,), (d,))],
        "ComplexScal": [((2, d), ()), ((2, 2), ())],
        "ComplexRealScal": [((1, d), ()), ((d, 1), ())],
    }


def _special_shapes(d: int, square: int) -> dict[str, list[Case]]:
    """Operations whose operands are not simply vectors of equal dimension, here d."""
    rows = {
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
        "MatVecMult": [((4 * d, d), ()), ((2 * d, 2), ())],
        "VecMatMult": [((d, 4 * d), ()), ((2, 2 * d), ())],
        "TensorProd": [((d, 2), ())],
        "TensorDot": [((2 * d, 3 * d), ([2, d], [d, 3], [1], [0], [1, 0]))],
        "Kron": [((d, 2), ([d, 1], [1, 2]))],
        "BSpline": [((d + 2, 1), (1,))],
        "SoftDTW_SqDist": [((square, 3, 1), ())],
        **_complex_shapes(2 * d),
    }
    return {name: [Case(name, *row) for row in listed] for name, listed in rows.items()}


def cases(d: int, square: int) -> list[Case]:
    """Calls with vectors of dimension d, but `square` where they come with a square matrix."""
    special = _special_shapes(d, square)
    found = []
    for row in SPELLINGS.values():
        if row.spelling in special:
            found.extend(special[row.spelling])
            continue
        assert row.domain.parameters or not row.parameters, (
            f"{row.spelling} takes {row.parameters}: its row has to have values of them in "
            "`domain.parameters`, or if they depend on dimensions, cases in `_special_shapes`"
        )
        for integers in row.domain.parameters or [()]:
            found.append(Case(row.spelling, (d,) * row.arity, integers))
        if row.elementwise and row.arity == 2:
            found.extend([Case(row.spelling, (1, d)), Case(row.spelling, (d, 1))])
        if row.elementwise and row.arity == 3:
            found.append(Case(row.spelling, (d, 1, d)))
    return found


def call(case: Case, operands: Iterable[str]) -> str:
    """The formula that applies it to operands."""
    return f"{case.spelling}({','.join([*operands, *map(str, case.integers)])})"


def apart(case: Case, first: int) -> tuple[str, list[str], list[str], list[int]]:
    """Each operand is an argument of another kind; an unrelated factor makes all pairs differ."""
    kinds = [KINDS[(first + n) % 3] for n in range(len(case.dims))]
    other = "Vj" if kinds[0] == "Vi" else "Vi"
    names = [f"u{n}" for n in range(len(kinds))]
    return f"{call(case, names)} * w", names, [*kinds, other], [*case.dims, 1]
