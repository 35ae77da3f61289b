"""Dimensions of a batch, against a loop over its entries in dense float64; needs a CPU, torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masked import (
    ALIASES,
    MEANINGS,
    arguments,
    check,
    check_derivatives,
    dense_batch,
    formula,
    options,
)

import redcomp.numpy
from redcomp import config
from redcomp.errors import ArgumentError
from redcomp.runtime.tasks import whole
from redcomp.torch import Genred, KernelSolve

pytestmark = pytest.mark.slow

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])

# The dimensions of x, y, b, g before their own.
BATCHES = {
    "equal": ((2, 3), (2, 3), (2, 3), (2, 3)),
    "ones": ((2, 1), (1, 3), (2, 3), (1, 1)),
    "one dimension": ((4,), (4,), (4,), (4,)),
    "fewer": ((2, 3), (3,), (), (2, 1)),
    "rows only": ((3,), (), (), ()),
    "columns only": ((), (3,), (), ()),
    "parameter only": ((), (), (), (5,)),
    "one entry": ((1, 1), (1, 1), (1, 1), (1, 1)),
    "three dimensions": ((2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 2)),
}


def operation(name: str, axis: int) -> Genred:
    return Genred(formula(name), ALIASES, axis=axis, **options(name))


@pytest.mark.sampled(4)
@DTYPES
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("batch", BATCHES)
def test_sums(batch: str, axis: int, dtype: torch.dtype) -> None:
    given = arguments(37, 21, dtype, BATCHES[batch])
    check(operation("Sum", axis)(*given), dense_batch("Sum", given, axis), dtype)


@pytest.mark.sampled(81)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", MEANINGS)
def test_every_reduction(name: str, axis: int) -> None:
    """Over several tiles; places count within the entry."""
    for batch in ("ones", "fewer"):
        given = arguments(300, 70, torch.float64, BATCHES[batch])
        check(operation(name, axis)(*given), dense_batch(name, given, axis), torch.float64)


@pytest.mark.sampled(30)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("batch", BATCHES)
def test_numpy_gives_the_same(batch: str, axis: int) -> None:
    given = arguments(5, 60, torch.float32, BATCHES[batch])
    face = redcomp.numpy.Genred(formula("Sum"), ALIASES, axis=axis)
    result = face(*(t.numpy() for t in given))
    assert np.array_equal(result, operation("Sum", axis)(*given).numpy())


@pytest.mark.sampled(35)
@pytest.mark.parametrize("name", ["Sum", "LogSumExp", "Min", "SumSoftMaxWeight"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("batch", ["equal", "ones", "fewer", "parameter only"])
def test_gradients_to_second_order(batch: str, axis: int, name: str) -> None:
    given = arguments(7, 20, torch.float64, BATCHES[batch])
    call = operation(name, axis)
    check_derivatives(call, lambda *given: dense_batch(name, given, axis)[0], given)


@pytest.mark.sampled(18)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's forward mode, about itself
@pytest.mark.parametrize("name", ["Sum", "LogSumExp", "Min"])
@pytest.mark.parametrize("batch", ["equal", "fewer"])
def test_forward_derivatives(batch: str, name: str) -> None:
    given = tuple(arguments(7, 20, torch.float64, BATCHES[batch]))
    tangents = tuple(arguments(7, 20, torch.float64, BATCHES[batch], seed=1))
    computed = torch.func.jvp(operation(name, 1), given, tangents)
    expected = torch.func.jvp(lambda *g: dense_batch(name, g, 1)[0], given, tangents)
    torch.testing.assert_close(computed, expected)


def test_systems_are_solved_entry_by_entry() -> None:
    solve = KernelSolve(
        "Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"], "b", axis=1
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, 9, 3, generator=generator, dtype=torch.float64)
    b = torch.rand(3, 9, 1, generator=generator, dtype=torch.float64)
    solution = solve(x, x, b, alpha=0.1, eps=1e-12)
    kernel = torch.exp(-(torch.cdist(x, x) ** 2)) + 0.1 * torch.eye(9, dtype=torch.float64)
    torch.testing.assert_close(solution, torch.linalg.solve(kernel, b), rtol=1e-8, atol=1e-8)


def test_strides() -> None:
    """A batch in the last place of memory, and a broadcast one."""
    x, y, b, g = arguments(9, 30, torch.float32, ((4,), (4,), (4,), (4,)))
    moved = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    repeated = y[:1].expand(4, 30, 3)
    given = [moved, repeated, b, g]
    assert not moved.is_contiguous()
    check(operation("Sum", 1)(*given), dense_batch("Sum", given, 1), torch.float32)
    arrays = (moved.numpy(), repeated.numpy(), b.numpy(), g.numpy())
    result = redcomp.numpy.Genred(formula("Sum"), ALIASES, axis=1)(*arrays)
    check(result, dense_batch("Sum", given, 1), torch.float32)


# -- sizes --


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", MEANINGS)
def test_no_rows_no_columns_no_entries(name: str, axis: int) -> None:
    for rows, columns, entries in ((0, 3, 2), (3, 0, 2), (3, 4, 0)):
        given = arguments(rows, columns, torch.float64, ((entries,), (1,), (), ()))
        results = operation(name, axis)(*given)
        results = results if isinstance(results, tuple) else (results,)
        count, reduced = (rows, columns) if axis == 1 else (columns, rows)
        for result in results:
            assert result.shape[:2] == (entries, count)
        if reduced == 0:
            empty = torch.zeros(1, 1, 3 if name == "SumSoftMaxWeight" else 2)
            meanings = MEANINGS[name](empty, torch.zeros(1, 1, 1, dtype=torch.bool))
            for result, meaning in zip(results, meanings, strict=True):
                neutral = meaning.flatten()[0]
                assert ((result == neutral) | (result.isnan() & neutral.isnan())).all()


@pytest.mark.parametrize("name", ["Sum", "Min"])
@pytest.mark.parametrize("sizes", [(3, 4, 0), (3, 0, 2), (0, 4, 2)])
def test_gradients_of_nothing(sizes: tuple[int, int, int], name: str) -> None:
    rows, columns, entries = sizes
    given = [
        t.requires_grad_()
        for t in arguments(rows, columns, torch.float64, ((entries,), (1,), (), (1,)))
    ]
    result = operation(name, 1)(*given)
    gradients = torch.autograd.grad(result.sum(), given)
    for tensor, gradient in zip(given, gradients, strict=True):
        assert gradient.shape == tensor.shape
        assert (gradient == 0).all()


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("text", "alias", "batch", "axis"),
    [
        ("p * p", "p = Pm(2)", (3, 2), 0),
        ("p * p", "p = Pm(2)", (3, 2), 1),
        ("2 * p", "p = Vi(2)", (3,), 1),
        ("2 * p", "p = Vi(2)", (3,), 0),
        ("2 * p", "p = Vj(2)", (3,), 0),
        ("2 * p", "p = Vj(2)", (3,), 1),
    ],
)
def test_one_kind_of_variable(text: str, alias: str, batch: tuple[int, ...], axis: int) -> None:
    """An index without variables has size 1, and the dimensions of the batch are what is left."""
    is_parameter = "Pm" in alias
    own = (2,) if is_parameter else (5, 2)
    p = torch.rand(*batch, *own, dtype=torch.float64, requires_grad=True)
    result = Genred(text, [alias], axis=axis)(p)
    value = p * p if is_parameter else 2 * p
    if is_parameter:
        expected = value[..., None, :]
    else:
        is_row = ("Vi" in alias) == (axis == 1)
        expected = value if is_row else value.sum(-2, keepdim=True)
    torch.testing.assert_close(result, expected)
    e = torch.rand_like(result)
    computed, right = (torch.autograd.grad(r, p, e)[0] for r in (result, expected))
    torch.testing.assert_close(computed, right)


def test_parameters_differ_between_entries() -> None:
    """What is hoisted out of a call with one parameter belongs to the entry in a batch."""
    g = torch.tensor([[0.0], [1.0], [7.0]], dtype=torch.float64)
    x, y = torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    result = Genred("Exp(-Exp(g) * SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)", "g = Pm(1)"], axis=1)(
        x, y, g
    )
    torch.testing.assert_close(result, (-3.0 * g.exp()).exp()[:, None])


def test_few_long_entries_are_split_and_joined() -> None:
    rows, columns = 5, 60_000
    given = arguments(rows, columns, torch.float64, ((3,), (3,), (3,), ()))
    kernel = operation("Sum", 1).reduction.compiled("f64", rows)
    assert whole(rows, columns).plan(3, kernel.grain).partials > 0
    for name in ("Sum", "Min_ArgMin", "LogSumExp"):
        check(operation(name, 1)(*given), dense_batch(name, given, 1), torch.float64)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("sizes", [(200, 64, 64), (3, 5, 60_000), (2, 5000, 400)])
def test_results_do_not_depend_on_threads(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int, int]
) -> None:
    entries, rows, columns = sizes
    given = arguments(rows, columns, torch.float32, ((entries,), (entries,), (1,), ()))
    results = []
    for count in (1, 2, 3, 7):
        monkeypatch.setattr(config, "num_threads", lambda count=count: count)
        results.append(operation("Sum", 1)(*given))
    assert all(torch.equal(results[0], result) for result in results[1:])


def test_many_small_entries_are_one_launch() -> None:
    calls = []
    call = operation("Sum", 1)
    given = arguments(64, 64, torch.float32, ((200,), (200,), (200,), ()))
    kernel = call.reduction.compiled("f32", 64)
    run = kernel._run
    kernel._run = lambda *job: (calls.append(job), run(*job))[1]  # type: ignore[assignment]
    try:
        result = call(*given)
    finally:
        kernel._run = run
    assert 1 <= len(calls) <= config.num_threads()
    check(result, dense_batch("Sum", given, 1), torch.float32)


# -- errors --


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (((2,), (3,), (), ()), r"'y' has batch dimensions \(3,\).*\(2,\)"),
        (((2, 3), (), (), (4, 3)), r"'g' has batch dimensions \(4, 3\).*\(2, 3\)"),
        (((), (2,), (3,), ()), r"'b' has batch dimensions \(3,\).*\(2,\)"),
        (((0,), (2,), (), ()), r"'y' has batch dimensions \(2,\).*\(0,\)"),
    ],
)
def test_batches_that_do_not_broadcast(batches: tuple[tuple[int, ...], ...], message: str) -> None:
    given = arguments(5, 6, torch.float32, batches)
    with pytest.raises(ArgumentError, match=message):
        operation("Sum", 1)(*given)
    with pytest.raises(ArgumentError, match=message):
        redcomp.numpy.Genred(formula("Sum"), ALIASES, axis=1)(*(t.numpy() for t in given))


def test_shapes_of_entries_are_checked() -> None:
    x, y, b, g = arguments(5, 6, torch.float32, ((2,), (2,), (2,), (2,)))
    for given, message in (
        ((x[..., :2], y, b, g), r"'x' must have shape \(M, 3\).*\(2, 5, 2\)"),
        ((x, y, b[:, :5], g), "'b' has 5 rows, but 'y' has 6"),
        ((x, y, b, g[:, :0]), r"'g' must have shape \(1,\).*\(2, 0\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            operation("Sum", 1)(*given)
