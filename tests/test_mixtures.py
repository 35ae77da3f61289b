"""Long sums of like terms, which become loops: against dense float64; needs PyTorch, no GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from on_gpu import on_gpu

from redcomp.compile import lower
from redcomp.frontend.reductions import derivatives
from redcomp.numpy import Genred as NumpyGenred
from redcomp.torch import Genred

Dense = Callable[..., torch.Tensor]

ALIASES = ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)", "p=Pm(1)"]
COUNT = 70  # more than any target writes out


def widths(count: int = COUNT) -> list[float]:
    return [0.25 + 0.125 * k for k in range(count)]  # exact in float32


def weights(count: int = COUNT) -> list[float]:
    return [(-1) ** k * (1 + k / 16) for k in range(count)]


def mixture(term: str) -> str:
    return "+".join(term.format(w=f"({w})", c=c) for w, c in zip(weights(), widths(), strict=True))


def of_squares(dense: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> Dense:
    """A dense sum over terms, from the squared distance and the numbers of each term."""

    def value(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        distance = ((x[:, None] - y[None]) ** 2).sum(-1)[..., None]
        w, c = (torch.tensor(numbers, dtype=x.dtype) for numbers in (weights(), widths()))
        return (dense(distance, w, c).sum(-1) * (b * p)[:, 0]).sum(1, keepdim=True)

    return value


S = "SqDist(x,y)"
MIXTURES: dict[str, tuple[str, Dense]] = {
    "Gaussians": ("{w}*Exp(-{c}*" + S + ")", of_squares(lambda s, w, c: w * (-c * s).exp())),
    "widths below": ("{w}*Exp(-" + S + "/{c})", of_squares(lambda s, w, c: w * (-s / c).exp())),
    "Laplacians": (
        "{w}*Exp(-{c}*Sqrt(1+" + S + "))",
        of_squares(lambda s, w, c: w * (-c * (1 + s).sqrt()).exp()),
    ),
    "rational": ("{w}*Powf(1+" + S + ",-{c})", of_squares(lambda s, w, c: w * (1 + s) ** -c)),
    "waves": ("{w}*Cos({c}*" + S + ")", of_squares(lambda s, w, c: w * (c * s).cos())),
    "Cauchy": ("{w}*Inv(1+{c}*" + S + ")", of_squares(lambda s, w, c: w / (1 + c * s))),
    "of compact support": (
        "{w}*Square(ReLU({c}-" + S + "))",
        of_squares(lambda s, w, c: w * (c - s).relu() ** 2),
    ),
    "of erf": ("{w}*Erf({c}*" + S + ")", of_squares(lambda s, w, c: w * (c * s).erf())),
    "steps": (
        "IfElse(" + S + "-{c},{w}*Exp(-" + S + "),{w}*" + S + ")",
        of_squares(lambda s, w, c: torch.where(s >= c, w * (-s).exp(), w * s)),
    ),
}


def arguments(dtype: torch.dtype, rows: int, columns: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    shapes = ((rows, 3), (columns, 3), (columns, 1), (1,))
    return [torch.rand(shape, generator=random).to(dtype).requires_grad_() for shape in shapes]


def derivatives_of(function: Dense, given: list[torch.Tensor], order: int) -> list[torch.Tensor]:
    """The value, and derivatives with respect to all arguments, each of functions of the last."""
    last = found = [function(*given)]
    for _ in range(order):
        total = sum(
            (k + 1) * (tensor / (1 + tensor.detach().abs().max())).sin().sum()
            for k, tensor in enumerate(last)
        )
        last = list(torch.autograd.grad(total, given, create_graph=True))
        found = found + last
    return found


def times_differences(
    x: torch.Tensor, y: torch.Tensor, b: torch.Tensor, p: torch.Tensor
) -> torch.Tensor:
    """A dense sum of Gaussians times x - y."""
    differences = x[:, None] - y[None]
    distance = (differences**2).sum(-1)[..., None]
    w, c = (torch.tensor(numbers, dtype=x.dtype) for numbers in (weights(), widths()))
    values = (w * (-c * distance).exp()).sum(-1, keepdim=True) * differences
    return (values * b * p).sum(1)


def check(
    name: str, dtype: torch.dtype, tolerance: float, *, rows: int, columns: int, order: int
) -> None:
    term, dense = MIXTURES[name]
    check_formula(f"b*p*({mixture(term)})", dense, dtype, tolerance, (rows, columns), order)


def check_formula(
    formula: str,
    dense: Dense,
    dtype: torch.dtype,
    tolerance: float,
    shape: tuple[int, int],
    order: int,
) -> None:
    given = arguments(dtype, *shape)
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    reduction = Genred(formula, ALIASES, axis=1)
    found = derivatives_of(lambda *tensors: reduction(*tensors), given, order)
    for ours, expected in zip(found, derivatives_of(dense, exact, order), strict=True):
        error = (ours.double() - expected).abs().max() / expected.abs().max()
        assert error < tolerance


@pytest.mark.sampled(18)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("name", MIXTURES)
def test_values_and_two_derivatives(name: str, dtype: torch.dtype, tolerance: float) -> None:
    check(name, dtype, tolerance, rows=9, columns=20, order=2)


def test_terms_times_a_vector() -> None:
    formula = f"b*p*({mixture('{w}*Exp(-{c}*SqDist(x,y))*(x-y)')})"
    check_formula(formula, times_differences, torch.float64, 1e-12, (9, 20), 2)


@pytest.mark.interpreted(1, 1)
@pytest.mark.parametrize("name", ["Gaussians"])
def test_values_and_derivatives_on_gpus(name: str) -> None:
    with on_gpu("small blocks"):
        check(name, torch.float32, 2e-5, rows=3, columns=5, order=1)


def gaussians(count: int) -> str:
    return "+".join(f"Exp(-IntCst({k + 1})*SqDist(x,y))" for k in range(count))


@pytest.mark.sampled(27)
@pytest.mark.parametrize("target", ["avx512", "avx2", "sm_90"])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_code_is_as_long_for_any_number_of_terms(order: int, target: str) -> None:
    def lines(count: int) -> int:
        reduction = NumpyGenred(gaussians(count), ALIASES[:2], axis=1).reduction
        for _ in range(order):
            reduction = derivatives.gradient(reduction, (0,), (True,))
        return lower(reduction.kernel("f32"), target).module_text.count("\n")

    assert lines(100) == lines(400)


# Vector instructions for a term, as in tests/test_order.py where they are written out.
BUDGETS = {
    ("avx512", "f32", 0): 15.3,
    ("avx512", "f32", 1): 16.3,
    ("avx512", "f64", 0): 19.3,
    ("avx512", "f64", 1): 20.3,
    ("avx2", "f32", 0): 34.8,
    ("avx2", "f32", 1): 37.7,
    ("avx2", "f64", 0): 48.6,
    ("avx2", "f64", 1): 48.6,
}


@pytest.mark.sampled(32)
@pytest.mark.parametrize(("target", "dtype", "order"), BUDGETS)
def test_a_term_takes_no_more_instructions_than_written_out(
    target: str, dtype: str, order: int
) -> None:
    reduction = NumpyGenred(gaussians(100), ALIASES[:2], axis=1).reduction
    for _ in range(order):
        reduction = derivatives.gradient(reduction, (0,), (True,))
    lowering = lower(reduction.kernel(dtype), target)
    assert lowering.stats.instructions <= BUDGETS[target, dtype, order]
