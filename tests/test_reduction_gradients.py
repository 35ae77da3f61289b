"""Gradients of every differentiable reduction against dense autograd: needs a CPU and torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from reduction_cases import INF, NAN, Case, Tensor, call, cases, generic, grid
from reference_reductions import ASKED, reduce_pairs

import redcomp.numpy
from redcomp.ops.reductions import REDUCTIONS
from redcomp.torch import Genred

pytestmark = pytest.mark.slow

PAIRS = ["x = Vi(1)", "y = Vj(1)"]
DIFFERENTIABLE = [case for case in cases() if case.row.has_gradient]
WITHOUT = {"argmin", "argmax", "argkmin", "argkmax", "any", "all"}
MORE = [
    Case(REDUCTIONS["kmin"], count=1),
    Case(REDUCTIONS["kmin_argkmin"], count=17),
    Case(REDUCTIONS["kmax"], count=40),
    Case(REDUCTIONS["softmax"], width=1),
    Case(REDUCTIONS["softmax"], width=20),
    Case(REDUCTIONS["weighted_logsumexp"], width=20),
    Case(REDUCTIONS["max_sumshiftexpweight"], width=20),
]


def values_of(results: Sequence[Tensor]) -> list[Tensor]:
    return [t for t in results if t.is_floating_point()]


def derivatives(results: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """First derivatives for random cotangents, then those of a random mixture of them."""
    generator = torch.Generator().manual_seed(1)

    def random(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator, dtype=t.dtype)

    values = values_of(results)
    options = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad(values, given, [random(v) for v in values], create_graph=True)
    # First derivatives may be constants, which autograd would not take: so each leaf is there too.
    mixture = sum((g * random(g) + 0.0 * t).sum() for g, t in zip(first, given, strict=True))
    return [*first, *torch.autograd.grad(mixture, given, **options)]


def check_close(computed: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for n, (a, b) in enumerate(zip(computed, expected, strict=True)):
        error = (a - b).abs().max() if b.numel() else 0.0
        assert bool(error <= 1e-10 * (1 + b.abs().max())), (n, a, b)


def test_what_has_a_gradient() -> None:
    assert {row.name for row in ASKED if not row.has_gradient} == WITHOUT


@pytest.mark.sampled(280)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("case", DIFFERENTIABLE + MORE, ids=str)
def test_gradients_to_second_order(case: Case, axis: int) -> None:
    given = generic(20, 300, case.width) if axis == 1 else generic(300, 20, case.width)
    computed = derivatives(call(case.genred(axis), *given), given)
    check_close(computed, derivatives(case.dense(given, axis), given))


@pytest.mark.sampled(72)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradients_of_one_pair(case: Case) -> None:
    given = generic(1, 1, case.width)
    if case.count:
        case = case._replace(count=1)
    computed = derivatives(call(case.genred(1), *given), given)
    check_close(computed, derivatives(case.dense(given, 1), given))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradients_of_no_pairs_are_zero(case: Case) -> None:
    for rows, columns in ((3, 0), (0, 3)):
        given = generic(rows, columns, case.width)
        values = values_of(call(case.genred(1), *given))
        grads = torch.autograd.grad(values, given, list(map(torch.ones_like, values)))
        assert [g.shape for g in grads] == [t.shape for t in given]
        assert all((g == 0).all() for g in grads)


@pytest.mark.sampled(24)
@pytest.mark.parametrize("case", [c for c in DIFFERENTIABLE if not c.is_vector], ids=str)
def test_gradient_for_some_arguments_only(case: Case) -> None:
    """The others are constants; a parameter alone, and an i-variable alone."""
    for chosen in (0, 3):
        given = [t.detach() for t in generic(10, 20, case.width)]
        given[chosen].requires_grad_()
        leaf = given[chosen : chosen + 1]
        results, dense = call(case.genred(1), *given), case.dense(given, 1)
        check_close(derivatives(results, leaf), derivatives(dense, leaf))


@pytest.mark.sampled(112)
@pytest.mark.parametrize("case", cases(), ids=str)
def test_hidden_results_stay_hidden(case: Case) -> None:
    given = grid(5, 6, torch.float32, case.width)
    results = call(case.genred(1), *given)
    expected = case.dense(given, 1)
    assert len(results) == len(expected)
    assert type(case.genred(1)(*given)) is (tuple if len(expected) > 1 else Tensor)
    leaves = [t.clone().requires_grad_() for t in given]
    for result, plain in zip(call(case.genred(1), *leaves), results, strict=True):
        assert torch.equal(result, plain)  # also where places are computed for the gradient
        assert result.requires_grad == (case.row.has_gradient and plain.is_floating_point())
    if case.row.spellings:
        weights = {"formula2": "w"} if case.width else {}
        operation = redcomp.numpy.Genred(
            case.formula, case.aliases, case.row.spelling, 1, opt_arg=case.count or None, **weights
        )
        found = operation(*(t.numpy() for t in given))
        assert (len(found) if isinstance(found, tuple) else 1) == len(expected)


def test_one_cotangent_of_two_results() -> None:
    """Only the largest value of a pair is used, or only the sums."""
    given = generic(9, 30, 2)
    case = Case(REDUCTIONS["max_sumshiftexpweight"], width=2)
    for part in (slice(0, 1), slice(1, 3)):
        (result,), (dense,) = call(case.genred(1), *given), case.dense(given, 1)
        check_close(derivatives([result[:, part]], given), derivatives([dense[:, part]], given))


# -- special points --------------------------------------------------------------------------------


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None].requires_grad_()


@pytest.mark.sampled(16)
@pytest.mark.parametrize(
    "numbers",
    [(2.0, 0.0, 3.0), (0.0, 5.0, 0.0, 3.0), (0.0, 0.0, 0.0), (0.0,), (-2.0, -0.0, 4.0), (2.0, 3.0)],
)
def test_products_with_zeros_are_exact_to_second_order(numbers: tuple[float, ...]) -> None:
    operation = Genred("x * y", PAIRS, "Prod", axis=1)
    x, y = column(1.0, -3.0, 0.5), column(*numbers)
    computed = derivatives([operation(x, y)], (x, y))
    dense = reduce_pairs("prod", x[:, None] * y[None])
    check_close(computed, derivatives(dense, (x, y)))


@pytest.mark.thorough
def test_products_of_vectors_count_zeros_for_each_component() -> None:
    operation = Genred("x * y", ["x = Vi(3)", "y = Vj(3)"], "Prod", axis=1)
    x = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[0.0, 2, 3], [4, 5, 0], [6, 7, 0]], dtype=torch.float64, requires_grad=True)
    dense = reduce_pairs("prod", x[:, None] * y[None])
    check_close(derivatives([operation(x, y)], (x, y)), derivatives(dense, (x, y)))


def test_gradient_of_a_norm_at_zero_is_zero() -> None:
    operation = Genred("x - y", PAIRS, "Norm", axis=1)
    x, y = column(1.0, 2.0), column(1.0, 1.0)
    e = torch.ones(2, 1, dtype=torch.float64)
    gx, gy = torch.autograd.grad(operation(x, y), (x, y), e)
    root = 2**-0.5
    torch.testing.assert_close(gx.flatten().tolist(), [0.0, 2 * root])
    torch.testing.assert_close(gy.flatten().tolist(), [-root, -root])


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("spelling", "sign"), [("Max", 1.0), ("Min", -1.0), ("Max_ArgMax", 1.0)])
def test_first_of_equal_extrema_gets_the_gradient(spelling: str, sign: float) -> None:
    operation = Genred("x * y", PAIRS, spelling, axis=1)
    x, y = column(2.0), column(*(sign * t for t in (1.0, 7.0, 7.0, 3.0, 7.0)))
    value = call(operation, x, y)[0]
    gx, gy = torch.autograd.grad(value, (x, y), torch.ones_like(value))
    assert gx.item() == sign * 7.0
    assert gy.flatten().tolist() == [0.0, 2.0, 0.0, 0.0, 0.0]


def test_each_of_equal_nearest_columns_gets_its_gradient() -> None:
    operation = Genred("x * y", PAIRS, "KMin", axis=1, opt_arg=2)
    x, y = column(1.0), column(4.0, 3.0, 3.0, 3.0)
    e = torch.tensor([[10.0, 20.0]], dtype=torch.float64)
    (gy,) = torch.autograd.grad(operation(x, y), y, e)
    assert gy.flatten().tolist() == [0.0, 10.0, 20.0, 0.0]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("is_vector", [False, True])
@pytest.mark.parametrize("name", ["kmin", "kmax_argkmax"])
def test_more_columns_kept_than_there_are(name: str, is_vector: bool) -> None:
    case = Case(REDUCTIONS[name], is_vector=is_vector, count=9)
    given = generic(7, 5)
    computed = values_of(call(case.genred(1), *given))[0]
    dense = values_of(case.dense(given, 1))[0]
    check_close(*(derivatives([t.nan_to_num(0, 0, 0)], given) for t in (computed, dense)))


@pytest.mark.sampled(18)
@pytest.mark.parametrize("formula", ["x * y", "Log(y) + x"])
@pytest.mark.parametrize(("spelling", "count"), [("Min", None), ("Max", None), ("KMin", 3)])
def test_where_there_is_no_column_nothing_is_differentiated(
    spelling: str, count: int | None, formula: str
) -> None:
    """The neutral value is a constant, whatever the derivative at column 0 may be."""
    operation = Genred(formula, PAIRS, spelling, axis=1, opt_arg=count)
    x, y = column(1.0, 2.0), column(NAN, NAN)
    result = operation(x, y)
    assert result.isinf().all()
    for g in torch.autograd.grad(result, (x, y), torch.ones_like(result)):
        assert (g == 0).all()


def test_padding_does_not_differentiate_the_first_column() -> None:
    """Its derivative is infinite, but it is only one of the columns that are kept."""
    operation = Genred("Sqrt(y) / y * x", PAIRS, "KMin", axis=1, opt_arg=3)
    x, y = column(1.0), column(NAN, 4.0)
    result = operation(x, y)
    gx, gy = torch.autograd.grad(result, (x, y), torch.ones_like(result))
    assert result.tolist() == [[0.5, INF, INF]]
    assert gx.item() == 0.5
    assert gy.flatten().tolist() == [0.0, -0.0625]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("weights", [None, "w"])
def test_logsumexp_of_nothing_but_minus_infinity_has_gradient_zero(weights: str | None) -> None:
    aliases = [*PAIRS, "w = Vj(1)"] if weights else PAIRS
    operation = Genred("x + y", aliases, "LogSumExp", axis=1, formula2=weights)
    x = torch.zeros(2, 1, requires_grad=True)
    others = [torch.full((3, 1), -INF), *([torch.ones(3, 1)] if weights else [])]
    result = operation(x, *others)
    (gradient,) = torch.autograd.grad(result, x, torch.ones_like(result))
    assert (result == -INF).all()
    assert (gradient == 0).all()


def test_gradients_of_extrema_look_at_the_winning_pairs_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All kernels but the first one are over as many pairs as there are winners, not all pairs."""
    from redcomp.runtime.host import HostKernel
    from redcomp.runtime.tasks import Blocks

    seen: list[int] = []  # the pairs of each call
    run = HostKernel.__call__

    def counted(self: HostKernel, blocks: Blocks, *rest: Any) -> None:
        seen.append(int(blocks.heights @ blocks.widths))
        run(self, blocks, *rest)

    monkeypatch.setattr(HostKernel, "__call__", counted)
    given = generic(50, 4000)
    operation = Case(REDUCTIONS["kmin"], count=3).genred(1)
    result = operation(*given)
    torch.autograd.grad(result, given, torch.ones_like(result))
    first, *others = seen
    assert first == 50 * 4000
    assert others
    assert max(others) <= 50 * 3
