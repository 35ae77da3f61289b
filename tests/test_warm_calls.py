"""What changes between two calls counts in the second: needs the CPU's backend and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ptxsim.driver import StandIn
from torch.autograd import forward_ad

import redcomp.numpy
import redcomp.torch
from redcomp.config import ConfigError
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.genred import reducer_of_formulas
from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.runtime.device import Device
from redcomp.runtime.driver import use

Tensor = torch.Tensor

ROWS, COLUMNS = 6, 5


def tensors(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(ROWS, 2, generator=random, dtype=torch.float64)
    y = torch.randn(COLUMNS, 2, generator=random, dtype=torch.float64)
    return x.to(dtype), y.to(dtype)


def dense(x: Tensor, y: Tensor) -> Tensor:
    """What `call` computes: sum_j (x_i | y_j)^2 y_j."""
    return ((x @ y.mT) ** 2) @ y


@pytest.fixture
def call() -> Any:
    """A reduction that has been called with the tensors, with gradients and without."""
    made = redcomp.torch.Genred("Square((x | y)) * y", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    for _ in range(3):  # the second time it is kept what the tensors are like
        made(*tensors())
        x, y = tensors()
        torch.autograd.grad(made(x.requires_grad_(), y).sum(), x)
    return made


def check(result: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


# -- the arguments --


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_another_dtype(call: Any, dtype: torch.dtype) -> None:
    given = tensors(dtype)
    tolerance = 8 * torch.finfo(dtype).eps
    check(call(*given), dense(*(t.double() for t in given)).to(dtype), tolerance)
    check(call(*tensors()), dense(*tensors()))


def test_another_shape_and_a_batch(call: Any) -> None:
    x, y = tensors()
    for given in ((x[:4], y), (x, y[1:]), (torch.stack([x, -x, x + 1]), y), (x, y)):
        check(call(*given), dense(*given))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, y: (x, y.float()), "'y' has dtype torch.float32, but 'x'"),
        (lambda x, y: (x, y.long()), "'y' has dtype torch.int64"),
        (lambda x, y: (x, y.to("meta")), "'y' is on meta, but 'x' is on cpu"),
        (lambda x, y: (x, y.numpy()), "'y' must be a tensor, not a ndarray"),
        (lambda x, y: (x, y.tolist()), "'y' must be a tensor, not a list"),
        (lambda x, y: (x, y, y), "2 arguments"),
        (lambda x, y: (x, y.T), "'y' must have shape"),
    ],
)
def test_arguments_that_have_become_wrong(call: Any, wrong: Any, message: str) -> None:
    given = tensors()
    for _ in range(2):
        with pytest.raises(ArgumentError, match=message):
            call(*wrong(*given))
    check(call(*given), dense(*given))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.mT.contiguous().mT,
        lambda t: t[:1].expand_as(t),
        lambda t: torch.stack([t, t], -1)[..., 1],
        torch._neg_view,
        lambda t: torch.complex(t, -t).conj().imag,
        torch.nn.Parameter,
        lambda t: torch._efficientzerotensor(t.shape, dtype=t.dtype),
    ],
    ids=["transposed", "expanded", "strided", "negated", "conjugated", "parameter", "zero"],
)
@pytest.mark.parametrize("position", [0, 1])
def test_the_same_shape_in_another_layout(call: Any, change: Any, position: int) -> None:
    given = list(tensors())
    given[position] = change(given[position])
    plain = [t.detach().resolve_neg().clone() for t in given]
    check(call(*given).detach(), dense(*plain))


def test_integers_are_looked_at_in_each_call() -> None:
    call = redcomp.torch.Genred("x * k", ["x = Vi(1)", "k = Vj(1, int)"], axis=1)
    x, k = torch.ones(3, 1), torch.arange(4)[:, None]
    assert call(x, k).flatten().tolist() == [6, 6, 6]
    with pytest.raises(ArgumentError, match="'k' has the value 4294967296"):
        call(x, k + 2**32)
    assert call(x, k.to(torch.int16) + 1).flatten().tolist() == [10, 10, 10]
    assert call(x.double(), k + 2**32).flatten().tolist() == [6 + 4 * 2**32] * 3


def test_the_default_dtype_counts_where_there_are_integers_only() -> None:
    call = redcomp.torch.Genred("k * l", ["k = Vi(1, int)", "l = Vj(1, int)"], axis=1)
    k, ones = torch.arange(3)[:, None], torch.ones(4, 1, dtype=torch.int64)
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float32, torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            check(call(k, ones), 4 * k.to(dtype))
    finally:
        torch.set_default_dtype(before)


# -- the options of a call --


class Recorder(StandIn):
    """Two devices; knows on which of them kernels have run."""

    def __init__(self) -> None:
        super().__init__(2)
        self.used: list[int] = []

    def launch(self, device: Device, *rest: Any) -> None:
        self.used.append(device.number)
        super().launch(device, *rest)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_backends_devices_and_drivers(library: Any) -> None:
    given: Any = tensors()
    expected = dense(*given)
    if library is redcomp.numpy:
        given = [t.numpy() for t in given]
    call = library.Genred("Square((x | y)) * y", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    first, second = Recorder(), Recorder()
    for driver in (first, second, first):
        with use(driver):
            for options in (
                {},
                {"backend": "GPU"},
                {"backend": "CPU"},
                {"backend": "GPU", "device_id": 1},
                {"backend": "GPU_1D"},
            ):
                check(torch.as_tensor(call(*given, **options)), expected)
    assert (first.used, second.used) == ([0, 1, 0] * 2, [0, 1, 0])


@pytest.mark.parametrize("device_id", [None, "0", [0], 0.5])
@pytest.mark.parametrize("backend", ["auto", "GPU"])
@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_a_device_has_a_number(library: Any, backend: str, device_id: Any) -> None:
    given: Any = tensors() if library is redcomp.torch else [t.numpy() for t in tensors()]
    call = library.Genred("Square((x | y)) * y", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    call(*given)
    with use(Recorder()), pytest.raises(ArgumentError, match="device_id must be an integer, not"):
        call(*given, backend=backend, device_id=device_id)
    with pytest.raises(ArgumentError, match="backend must be one of"):
        call(*given, backend=["GPU"])


def ranges(split: int) -> tuple[Tensor, ...]:
    """All rows, each with the columns from `split` on; and the other way round."""
    one = torch.ones(1, dtype=torch.int64)
    rows, columns = torch.tensor([[0, ROWS]]), torch.tensor([[split, COLUMNS]])
    return rows, one, columns, columns, one, rows


def test_ranges(call: Any) -> None:
    x, y = tensors()
    visited = [(None, 0), (ranges(2), 2), (ranges(3), 3), (None, 0)]
    for given, split in visited:
        check(call(x, y, ranges=given), dense(x, y[split:]))
        moved = y.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(call(x, moved, ranges=given).sum(), moved)
        (expected,) = torch.autograd.grad(dense(x, moved[split:]).sum(), moved)
        check(gradient, expected)
    with pytest.raises(ArgumentError, match="ranges"):
        call(x, y, ranges=ranges(COLUMNS + 1))


def test_outs(call: Any) -> None:
    given = tensors()
    out = torch.zeros(ROWS, 2, dtype=torch.float64)
    assert call(*given, out=out) is out
    again = call(given[0] + 1, given[1])
    check(out, dense(*given))
    check(again, dense(given[0] + 1, given[1]))
    with pytest.raises(ArgumentError, match="out must have shape"):
        call(*given, out=out.T)


# -- autograd --


def test_gradients_are_kept_as_each_call_says(call: Any) -> None:
    x, y = tensors()
    moved = x.clone().requires_grad_()
    assert not call(x, y).requires_grad
    assert call(moved, y).requires_grad
    with torch.no_grad():
        assert not call(moved, y).requires_grad
    with torch.inference_mode():
        assert call(moved, y).is_inference()
    assert not call(moved.detach(), y).requires_grad
    result = call(moved, y)
    (gradient,) = torch.autograd.grad(result.sum(), moved)
    (expected,) = torch.autograd.grad(dense(moved, y).sum(), moved)
    check(gradient, expected)


def test_other_arguments_with_gradients(call: Any) -> None:
    for wanted in ((0,), (1,), (0, 1), (0,)):
        gradients = []
        for function in (call, dense):
            given = [t.requires_grad_(n in wanted) for n, t in enumerate(tensors())]
            moved = [given[n] for n in wanted]
            gradients.append(torch.autograd.grad((function(*given) ** 2).sum(), moved))
        for ours, expected in zip(*gradients, strict=True):
            check(ours, expected)


def test_cotangents_of_other_results() -> None:
    call = redcomp.torch.Genred(["x * y", "x + y"], ["x = Vi(1)", "y = Vj(1)"], axis=1)
    x, y = torch.ones(3, 1, requires_grad=True), torch.full((4, 1), 2.0)
    for used, expected in (((0,), 8.0), ((1,), 4.0), ((0, 1), 12.0), ((0,), 8.0)):
        total = sum(result.sum() for n, result in enumerate(call(x, y)) if n in used)
        (gradient,) = torch.autograd.grad(total, x)
        assert gradient.flatten().tolist() == [expected] * 3


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "cotangent",
    [
        torch.ones(ROWS, 2),
        torch.ones(1, 1).expand(ROWS, 2),
        torch.ones(2, ROWS).mT,
        torch._neg_view(torch.ones(ROWS, 2)),
        torch._efficientzerotensor((ROWS, 2)),
    ],
    ids=["plain", "expanded", "transposed", "negated", "zero"],
)
def test_cotangents_in_other_layouts(call: Any, cotangent: Tensor) -> None:
    x, y = tensors(torch.float32)
    moved = x.clone().requires_grad_()
    (ours,) = torch.autograd.grad(call(moved, y), moved, cotangent)
    (expected,) = torch.autograd.grad(dense(moved, y), moved, cotangent.resolve_neg().clone())
    check(ours, expected, 1e-5)


def test_other_cotangents_after_a_backward_pass(call: Any) -> None:
    for weights in (1.0, torch.arange(2.0 * ROWS).reshape(ROWS, 2), torch.ones(1, 2), 1.0):
        gradients = []
        for function in (call, dense):
            x, y = tensors()
            result = function(x.requires_grad_(), y) * weights
            gradients.append(torch.autograd.grad(result.sum(), x)[0])
        check(*gradients)


def test_second_derivatives_after_first_ones(call: Any) -> None:
    found = []
    for function in (call, dense):
        x, y = tensors()
        (first,) = torch.autograd.grad(function(x.requires_grad_(), y).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.sin().sum(), x)[0])
    check(*found)


def test_one_tensor_twice(call: Any) -> None:
    x = tensors()[0].requires_grad_()
    for _ in range(3):
        gradients = [torch.autograd.grad(f(x, x).sum(), x)[0] for f in (call, dense)]
        check(*gradients)


def test_parts_of_a_tensor(call: Any) -> None:
    _, y = tensors()
    rows = torch.randn(3 * ROWS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for start in (0, 4, 2 * ROWS):
        part = rows[start : start + ROWS]
        check(call(part, y), dense(part, y))


@pytest.mark.parametrize("position", [0, 1])
def test_memory_that_has_become_shorter(call: Any, position: int) -> None:
    given = [t.clone() for t in tensors()]
    moved = given[0].clone().requires_grad_()
    result = call(moved, given[1])
    given[position].untyped_storage().resize_(8)
    with pytest.raises(ArgumentError, match="less than they take"):
        call(*given)
    if position:
        with pytest.raises(ArgumentError, match="less than they take"):
            result.sum().backward()


@pytest.mark.parametrize("is_new", [False, True])
def test_hooks_of_saved_tensors_run_once(call: Any, is_new: bool) -> None:
    x, y = tensors()
    y = y[: 2 if is_new else None]
    unpacked = []

    def unpack(packed: Tensor) -> Tensor:
        unpacked.append(packed)
        return packed.clone()

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), unpack):
        result = call(x.requires_grad_(), y)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert len(unpacked) == 2
    check(gradient, torch.autograd.grad(dense(x, y).sum(), x)[0])


def test_tensors_that_were_changed_after_the_call(call: Any) -> None:
    x, y = tensors()
    result = call(x.requires_grad_(), y)
    y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_transforms_of_functions(call: Any) -> None:
    x, y = tensors()
    (expected,) = torch.autograd.grad(dense(m := x.clone().requires_grad_(), y).sum(), m)
    kept = []

    def total(x: Tensor) -> Tensor:
        kept.append(x)
        return call(x, y).sum()

    check(torch.func.grad(total)(x), expected)
    check(call(x, y), dense(x, y))
    # The wrapper that the transform made outlives it.
    assert call(kept[0].requires_grad_(), y).shape == (ROWS, 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's forward mode, about itself
def test_tangents(call: Any) -> None:
    x, y = tensors()
    tangents = []
    for function in (call, dense):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, x.flip(0))
            tangents.append(forward_ad.unpack_dual(function(dual, y)).tangent)
            assert forward_ad.unpack_dual(call(x, y)).tangent is None
    check(*tangents)
    check(call(x, y), dense(x, y))


def test_autocast(call: Any) -> None:
    given = tensors(torch.float32)
    first = call(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(call(*given), call(*(t.bfloat16() for t in given)))
    assert torch.equal(call(*given), first)


# -- settings --


@pytest.fixture(params=["numpy", "torch"])
def warm(request: pytest.FixtureRequest) -> Any:
    """A function without arguments that has been called, for each library."""
    library: Any = getattr(redcomp, request.param)
    made = library.Genred("Sqrt(1 + SqDist(x, y))", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    ones: Any = np.ones((5000, 2)) if request.param == "numpy" else torch.ones(5000, 2).double()
    result = made(ones, ones)
    assert (result == 5000).all()
    return lambda: made(ones, ones)


def test_the_number_of_threads_is_read_at_each_call(
    warm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDCOMP_NUM_THREADS", "none")
    with pytest.raises(ConfigError, match="REDCOMP_NUM_THREADS"):
        warm()
    monkeypatch.setenv("REDCOMP_NUM_THREADS", "1")
    assert (warm() == 5000).all()


def test_the_target_is_read_at_each_call(warm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDCOMP_TARGET", "pdp11")
    with pytest.raises(ConfigError, match="REDCOMP_TARGET: unknown host target 'pdp11'"):
        warm()
    monkeypatch.setenv("REDCOMP_TARGET", "sm_80")
    with pytest.raises(ConfigError, match="REDCOMP_TARGET is 'sm_80', which is not the host's"):
        warm()
    monkeypatch.delenv("REDCOMP_TARGET")
    assert (warm() == 5000).all()


# -- NumPy --


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[::-1],
        lambda a: np.asfortranarray(a),
        lambda a: a.astype(">f8"),
        lambda a: np.broadcast_to(a[:1], a.shape),
        lambda a: np.ma.masked_array(a),
    ],
    ids=["reversed", "transposed", "swapped", "broadcast", "masked"],
)
@pytest.mark.parametrize("position", [0, 1])
def test_arrays_of_the_same_shape_in_another_layout(change: Any, position: int) -> None:
    call = redcomp.numpy.Genred("Square((x | y)) * y", ["x = Vi(2)", "y = Vj(2)"], axis=1)
    given: Any = [t.numpy() for t in tensors()]
    call(*given)
    given[position] = change(given[position])
    expected = dense(*(torch.from_numpy(np.array(a, np.float64)) for a in given))
    check(torch.from_numpy(call(*given)), expected)
    check(torch.from_numpy(call(*(a.astype(np.float32) for a in given))).double(), expected, 1e-5)


# -- formulas that programs make anew --------------------------------------------------------------


@pytest.mark.parametrize("library", [redcomp.numpy, redcomp.torch])
def test_a_formula_made_anew_is_not_compiled_again(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in each step of programs that make their reductions where they call them."""
    reducer_of_formulas.cache_clear()
    lowered = []
    lower = PairReduction.lower
    monkeypatch.setattr(
        PairReduction, "lower", lambda self, *rest: lowered.append(rest) or lower(self, *rest)
    )
    x, y = (t if library is redcomp.torch else t.numpy() for t in tensors())

    def step(**options: Any) -> Any:
        aliases = ["x = Vi(2)", "y = Vj(2)"]
        return library.Genred("Exp(-SqDist(x, y) * 0.7182) * y", aliases, axis=1, **options)

    first, again = step(), step()
    assert first(x, y).tolist() == again(x, y).tolist()
    assert len(lowered) == 1
    with pytest.raises(ArgumentError, match="float32"):
        step(dtype="float32")(x, y)
    step(sum_scheme="kahan_scheme")(x, y)
    assert len(lowered) == 2
    # Who looks at compilations sees each.
    monkeypatch.setenv("REDCOMP_DEBUG", "1")
    step()(x, y)
    assert len(lowered) == 3
