"""Reductions as texts: what is read is what was written, also in a process that has none of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from reduction_cases import cases

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions import derivatives, texts
from redcomp.frontend.reductions.genred import Reducer, reducer_of
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.frontend.reductions.tables import without_reads
from redcomp.numpy import Genred, LazyTensor, Vi, Vj
from redcomp.text import print_kernel

CASES = cases()
TABLE = Genred("Gather(t, l) * x", ["t = Pm(4)", "l = Vi(1, int)", "x = Vj(2)"], axis=1).reduction


def lazy(made: LazyTensor) -> PairReduction:
    """The reduction of a LazyTensor's sum over j."""
    return made.library.reducer(made._reduced("Sum", 1), {}).reduction


def without_tables() -> PairReduction:
    without = without_reads(TABLE, frozenset([0]))
    assert without is not None
    return without.reduction


REDUCTIONS: dict[str, Callable[[], PairReduction]] = {
    "several": lambda: Genred(["x", "-x"], "x = Vi(2)", ["Sum", "Max"], axis=1).reduction,
    "options": lambda: Genred(
        "x", "x = Vi(2)", axis=0, use_fast_math=True, sum_scheme="kahan_scheme"
    ).reduction,
    "reads": lambda: TABLE,
    "half precision": lambda: TABLE.stored_as("f16"),
    "without reads": without_tables,
    "an expression": lambda: lazy(((Vi(0, 3) - Vj(1, 3)) ** 2).sum(-1).exp()),
    "a shared part": lambda: lazy((d := Vi(0, 3) * Vj(1, 3)) * d + d.exp()),
    "a list of numbers": lambda: lazy(
        Vi(0, 4).keops_tensordot(Vj(1, 4), (2, 2), (2, 2), (0,), (0,))
    ),
    "a deep expression": lambda: lazy(sum((Vj(1, 1) * n for n in range(600)), Vi(0, 1))),
}  # fmt: skip


def derived(reduction: PairReduction) -> list[PairReduction]:
    """What is made of a reduction whose values have gradients."""
    kept = derivatives.for_derivatives(reduction)
    first = derivatives.gradient(kept, (0,), (True,))
    return [
        reduction,
        kept,
        first,
        derivatives.gradient(first, (1,), (True,)),
        *derivatives.gradient(kept, all_positions(kept), (True,)).parts,
        derivatives.differential(kept, (0, 1)),
        derivatives.pointwise(kept, 0, spreads_parameters=True),
    ]


def all_positions(reduction: PairReduction) -> tuple[int, ...]:
    """The arguments that have gradients, those of rows first."""
    order = ("i", "j", "parameter")
    kinds = [None if p.is_integer else p.kind for p in reduction.parameters]
    return tuple(n for kind in order for n, own in enumerate(kinds) if own == kind)


def check(reduction: PairReduction, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text stands for one object as long as that is held, and for an equal one afterwards.

    Other tests may hold another reduction of the same text, which is found then.
    """
    text = texts.text_of_reduction(reduction)
    held = texts.reduction_of(text)
    assert texts.text_of_reduction(held) == text
    texts.reduction_of.cache_clear()
    assert texts.reduction_of(text) is held
    monkeypatch.setattr(texts, "_reductions", {})
    texts.reduction_of.cache_clear()
    read = texts.reduction_of(text)
    assert read not in (reduction, held)
    assert read.rows == reduction.rows
    assert read.options == reduction.options
    assert print_kernel(read.kernel("f32")) == print_kernel(reduction.kernel("f32"))
    assert texts.text_of_reduction(read) == text
    json.loads(text)
    texts.reduction_of.cache_clear()


@pytest.mark.parametrize("name", REDUCTIONS)
def test_what_is_read_is_what_was_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(REDUCTIONS[name](), monkeypatch)


@pytest.mark.sampled(35)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives(case: object, monkeypatch: pytest.MonkeyPatch) -> None:
    reduction = case.genred(1).reduction  # type: ignore[attr-defined]  # a case of the table
    kept = derivatives.for_derivatives(reduction)
    is_smooth = kept.results[0].kind == "value" and not kept.reductions[0].places
    for made in derived(reduction) if is_smooth else [reduction, kept]:
        check(made, monkeypatch)
        monkeypatch.undo()


def test_reducers() -> None:
    genred = Genred(["x", "-x"], "x = Vi(2)", "Max_ArgMax", axis=1)
    read = reducer_of(genred.text)
    assert isinstance(read, Reducer)
    assert read.reduction is genred.reduction
    assert (read.axis, read.lengths, read.is_single) == (1, genred.lengths, False)
    gradient = derivatives.gradient(Genred("x", "x = Vi(2)", axis=0).reduction, (0,), (True,))
    with pytest.raises(ArgumentError, match="no derivative"):
        Reducer(gradient)
