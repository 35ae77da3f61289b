"""Every reduction of the table against a dense float64 computation; needs a CPU and torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from redcomp.errors import FormulaError
from redcomp.ops.reductions import REDUCTIONS
from redcomp.torch import Genred

pytestmark = pytest.mark.slow

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "p = Pm(1)"]
SCALAR = "b - p * SqDist(x, y)"
VECTOR = "b * (x - y) - p"
INF, NAN = float("inf"), float("nan")

# What each row means, over the terms' axis 1; NaN is passed over where the language says so.
DENSE: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, ...]]] = {
    "Sum": lambda terms: (terms.sum(1),),
    "Min": lambda terms: (smallest(terms)[0],),
    "Max": lambda terms: (largest(terms)[0],),
    "ArgMin": lambda terms: (smallest(terms)[1],),
    "ArgMax": lambda terms: (largest(terms)[1],),
    "Min_ArgMin": lambda terms: smallest(terms),
    "Max_ArgMax": lambda terms: largest(terms),
    "LogSumExp": lambda terms: (terms.logsumexp(1),),
}


def smallest(terms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and first places along axis 1; without any value below infinity the place is 0."""
    known = terms.nan_to_num(INF, INF, -INF)
    value = known.amin(1)
    place = (known == value[:, None]).to(torch.int8).argmax(1)  # argmax gives the first one
    return value, torch.where(value == INF, 0, place)


def largest(terms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    value, place = smallest(-terms)
    return -value, place


def call(operation: Genred, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The results as a tuple, also if there is only one."""
    results = operation(*given)
    return results if isinstance(results, tuple) else (results,)


ROWS = [row for row in REDUCTIONS.values() if row.spellings and row.spelling in DENSE]
SIZES = [(1, 1), (5, 300), (70, 3), (60, 700)]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def arguments(rows: int, columns: int, dtype: torch.dtype, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, 3), (columns, 3), (columns, 1), (1,))
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def dense(spelling: str, is_scalar: bool, arguments: list[torch.Tensor], axis: int) -> torch.Tensor:
    x, y, b, p = (a.double() for a in arguments)
    difference = x[:, None] - y[None]
    terms = b[None] - p * (difference**2).sum(-1, keepdim=True)
    if not is_scalar:
        terms = b[None] * difference - p
    return DENSE[spelling](terms if axis == 1 else terms.transpose(0, 1))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.spelling)
def test_value(row, dtype, axis) -> None:  # type: ignore[no-untyped-def]
    for is_scalar in (True,) if row.takes == "scalar" else (True, False):
        formula = SCALAR if is_scalar else VECTOR
        operation = Genred(formula, ALIASES, reduction_op=row.spelling, axis=axis)
        for rows, columns in SIZES:
            given = arguments(rows, columns, dtype)
            expected = dense(row.spelling, is_scalar, given, axis)
            for computed, right in zip(call(operation, *given), expected, strict=True):
                assert computed.dtype == (torch.int64 if right.dtype == torch.int64 else dtype)
                error = (computed.double() - right).abs().max()
                assert error <= TOLERANCE[dtype] * (1 + right.abs().max())


@pytest.mark.parametrize("row", [r for r in ROWS if r.cotangent], ids=lambda row: row.spelling)
def test_gradients_to_second_order(row) -> None:  # type: ignore[no-untyped-def]
    given = [a.requires_grad_() for a in arguments(20, 300, torch.float64)]
    operation = Genred(SCALAR, ALIASES, reduction_op=row.spelling, axis=1)
    (computed,), (expected,) = call(operation, *given), dense(row.spelling, True, given, 1)
    e = torch.randn(computed.shape, dtype=torch.float64)
    first = [torch.autograd.grad(r, given, e, create_graph=True) for r in (computed, expected)]
    check_close(*first)
    weights = [torch.randn_like(g) for g in first[0]]
    mixtures = [sum((g * w).sum() for g, w in zip(gs, weights, strict=True)) for gs in first]
    # With Sum the second derivative with respect to b is zero, which autograd calls unused.
    options = {"allow_unused": True, "materialize_grads": True}
    check_close(*(torch.autograd.grad(mixture, given, **options) for mixture in mixtures))


def check_close(computed: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    for a, b in zip(computed, expected, strict=True):
        assert (a - b).abs().max() <= 1e-11 * (1 + b.abs().max())


def test_places_alone_need_no_gradient() -> None:
    given = [a.requires_grad_() for a in arguments(3, 4, torch.float32)]
    assert not Genred(SCALAR, ALIASES, reduction_op="ArgMin", axis=1)(*given).requires_grad


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.spelling)
def test_no_columns_give_the_neutral_element(row) -> None:  # type: ignore[no-untyped-def]
    operation = Genred(SCALAR, ALIASES, reduction_op=row.spelling, axis=1)
    results = call(operation, *arguments(4, 0, torch.float32))
    for result, r in zip(results, operation.reduction.results, strict=True):
        (empty,) = r.empty
        assert result.shape == (4, 1)
        assert (result == empty).all()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.spelling)
def test_special_values(row) -> None:  # type: ignore[no-untyped-def]
    """All triples of special terms, at the start of a longer row of neutral ones too."""
    operation = Genred("x + y", ["x = Vi(1)", "y = Vj(1)"], reduction_op=row.spelling, axis=1)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for terms in itertools.product((-INF, -2.0, 0.0, 3.0, INF, NAN), repeat=3):
        y = torch.tensor(terms, dtype=torch.float64)[:, None]
        expected = DENSE[row.spelling](y[None])
        for computed, right in zip(call(operation, zero, y), expected, strict=True):
            torch.testing.assert_close(computed, right, equal_nan=True, rtol=1e-12, atol=0)


def test_logsumexp_gradient_of_nothing_but_minus_infinity_is_zero() -> None:
    operation = Genred("x + y", ["x = Vi(1)", "y = Vj(1)"], reduction_op="LogSumExp", axis=1)
    x = torch.zeros(2, 1, requires_grad=True)
    result = operation(x, torch.full((3, 1), -INF))
    (gradient,) = torch.autograd.grad(result, x, torch.ones_like(result))
    assert (gradient == 0).all()


def test_logsumexp_does_not_overflow_over_many_tiles() -> None:
    operation = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], reduction_op="LogSumExp", axis=1)
    x = torch.tensor([[1.0], [-1.0], [100.0]])
    y = torch.linspace(-1000, 1000, 5000)[:, None]
    expected = (x.double() * y.double().T).logsumexp(1, keepdim=True)
    assert ((operation(x, y) - expected).abs() <= 1e-6 * expected.abs()).all()


@pytest.mark.parametrize("rows", [1, 100])
def test_places_are_exact_over_tiles_and_splits(rows: int) -> None:
    columns = 300_000
    x, y = torch.zeros(rows, 1), torch.ones(columns, 1)
    for place in (0, 255, 256, 131_071, columns - 1):
        y[place:] = 0.0  # from there on all are equal: the first one counts
        operation = Genred("x + y", ["x = Vi(1)", "y = Vj(1)"], reduction_op="ArgMin", axis=1)
        assert (operation(x, y) == place).all()
        y[place:] = 1.0


def test_long_vectors_have_a_place_for_each_component() -> None:
    operation = Genred("x - y", ["x = Vi(40)", "y = Vj(40)"], reduction_op="Min_ArgMin", axis=1)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 40, generator=generator) for n in (30, 700))
    value, place = operation(x, y)
    expected = (x[:, None] - y[None]).min(1)
    assert torch.equal(value, expected.values)
    assert torch.equal(place, expected.indices)


def test_logsumexp_takes_scalars_only() -> None:
    with pytest.raises(FormulaError, match="dimension 1, not 3"):
        Genred(VECTOR, ALIASES, reduction_op="LogSumExp", axis=1)
