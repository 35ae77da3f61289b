"""Layouts and sizes of arrays, threads, processes: needs a CPU and PyTorch."""

from __future__ import annotations

import copy
import os
import pickle
import textwrap
import threading
from typing import Any

import numpy as np
import pytest
import torch
from array_samples import ALIASES, FORMULA, TOLERANCE, M, N, assert_near, run_script, sample

import redcomp.numpy
import redcomp.torch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def op() -> redcomp.numpy.Genred:
    return redcomp.numpy.Genred(FORMULA, ALIASES, axis=1)


@pytest.fixture(scope="module")
def torch_op() -> redcomp.torch.Genred:
    return redcomp.torch.Genred(FORMULA, ALIASES, axis=1)


# -- layouts ---------------------------------------------------------------------------------------


class Subclass(np.ndarray):
    """Like an array with units: operations on it must not be relied on."""

    def __array_finalize__(self, other: object) -> None:
        pass

    def __mul__(self, other: object) -> Any:
        raise AssertionError("arithmetic on an argument")


def _read_only(a: Any) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


def _unaligned(a: Any) -> Any:
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned or a.itemsize == 1
    return view


LAYOUTS = {
    "every-other-row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "every-other-component": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "reversed-components": lambda a: a[..., ::-1].copy()[..., ::-1],
    "column-of-a-wider-array": lambda a: np.concatenate([a, a], axis=-1)[..., : a.shape[-1]],
    "fortran": np.asfortranarray,
    "read-only": _read_only,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "unaligned": _unaligned,
    "subclass": lambda a: a.view(Subclass),
    "masked-off": lambda a: np.ma.masked_array(a).data,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_change_a_bit(op, layout, dtype):
    arrays = sample(dtype)
    result = op(*arrays)
    assert type(result) is np.ndarray
    assert result.dtype == dtype
    assert result.flags.c_contiguous
    assert_near(result, arrays)
    given = [LAYOUTS[layout](a) for a in arrays]
    before = [np.array(a) for a in given]
    again = op(*given)
    assert type(again) is np.ndarray
    np.testing.assert_array_equal(again, result)
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)  # arguments are left alone


def test_memory_mapped_files(op, tmp_path):
    arrays = sample()
    mapped = []
    for n, a in enumerate(arrays):
        np.save(tmp_path / f"{n}.npy", a)
        mapped.append(np.load(tmp_path / f"{n}.npy", mmap_mode="r"))
    np.testing.assert_array_equal(op(*mapped), op(*arrays))
    del mapped


def test_broadcast_arrays_and_aliasing(op):
    """One array as two arguments, and rows that are all the same memory."""
    x, y, b, g = sample(columns=M)
    repeated = np.broadcast_to(y[:1], (N, 3))
    np.testing.assert_array_equal(op(x, repeated, b[:N], g), op(x, repeated.copy(), b[:N], g))
    assert_near(op(x, x, b, g), [x, x, b, g])


@pytest.mark.parametrize("axis", [0, 1])
def test_tensor_layouts(axis):
    op = redcomp.torch.Genred(FORMULA, ALIASES, axis=axis)
    tensors = [torch.from_numpy(a) for a in sample()]
    result = op(*tensors)
    layouts = {
        "transposed": lambda t: t.t().contiguous().t(),
        "strided": lambda t: torch.stack([t, t], dim=-1)[..., 0],
        "parameter": torch.nn.Parameter,
        "offset": lambda t: torch.cat([t, t])[len(t) :],
    }
    for name, layout in layouts.items():
        given = [layout(t) for t in tensors]
        np.testing.assert_array_equal(op(*given).detach(), result, err_msg=name)


def test_gradients_of_strided_tensors(torch_op):
    tensors = [torch.from_numpy(a) for a in sample(np.float64)]
    cotangent = torch.randn(2, M, dtype=torch.float64).t()  # not contiguous either
    leaves = [t.clone().requires_grad_() for t in tensors]
    plain = torch.autograd.grad(torch_op(*leaves), leaves, cotangent.contiguous())
    leaves = [t.clone().requires_grad_() for t in tensors]
    strided = [torch.stack([t, t], dim=-1)[..., 1] for t in leaves]
    for a, b in zip(plain, torch.autograd.grad(torch_op(*strided), leaves, cotangent), strict=True):
        np.testing.assert_array_equal(a, b)


def test_expanded_cotangent(torch_op):
    """`sum().backward()` sends a cotangent with strides of 0."""
    leaves = [torch.from_numpy(a).requires_grad_() for a in sample(np.float64)]
    torch_op(*leaves).sum().backward()
    twice = [t.detach().clone().requires_grad_() for t in leaves]
    torch_op(*twice).backward(torch.ones(M, 2, dtype=torch.float64))
    for a, b in zip(leaves, twice, strict=True):
        np.testing.assert_array_equal(a.grad, b.grad)


def test_gradients_that_nobody_wants(torch_op):
    x, y, b, g = (torch.from_numpy(a) for a in sample())
    result = torch_op(x, y.requires_grad_(), b, g)
    assert result.requires_grad
    result.sum().backward()
    assert x.grad is None
    assert y.grad.shape == y.shape
    with torch.no_grad():
        assert not torch_op(x, y, b, g).requires_grad


def test_one_tensor_as_two_arguments():
    """Its gradient is the sum of both arguments' gradients."""
    op = redcomp.torch.Genred("Exp(-SqDist(x,y))*b", ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)"], axis=1)
    x = torch.from_numpy(sample(np.float64)[0]).requires_grad_()
    b, e = torch.rand(M, 1, dtype=torch.float64), torch.rand(M, 1, dtype=torch.float64)
    (together,) = torch.autograd.grad(op(x, x, b), x, e)
    other = x.detach().clone().requires_grad_()
    apart = torch.autograd.grad(op(x, other, b), (x, other), e)
    np.testing.assert_array_equal(together, sum(apart))


@pytest.mark.thorough
def test_derivatives_against_finite_differences(torch_op):
    """PyTorch's own checks, of the first and the second order, independent of any formula."""
    leaves = [torch.from_numpy(a).requires_grad_() for a in sample(np.float64, 4, 3)]
    assert torch.autograd.gradcheck(torch_op, leaves)
    assert torch.autograd.gradgradcheck(torch_op, leaves)


def test_third_derivative():
    op = redcomp.torch.Genred("Sin(x*y)", ["x=Vi(1)", "y=Vj(1)"], axis=1)
    x = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None].requires_grad_()
    y = torch.linspace(0, 2, 5, dtype=torch.float64)[:, None]
    value = op(x, y)
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    exact = -(y.T**3 * torch.cos(x * y.T)).sum(1, keepdim=True)
    np.testing.assert_allclose(value.detach(), exact.detach(), rtol=1e-13, atol=1e-13)


def test_changing_an_argument_before_its_gradient_is_an_error(torch_op):
    leaves = [torch.from_numpy(a).requires_grad_() for a in sample()]
    value = torch_op(*leaves)
    with torch.no_grad():
        leaves[0].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.sum().backward()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_denormal_arguments_are_kept(dtype):
    smallest = np.finfo(dtype).smallest_subnormal
    x = (np.arange(1, 20) * smallest).astype(dtype)[:, None]
    y = np.full((1, 1), 2.0**60, dtype)  # products with it are normal numbers
    op = redcomp.numpy.Genred("IfElse(y,x,y)*y+x*y", ["x=Vi(1)", "y=Vj(1)"], axis=1)
    np.testing.assert_array_equal(op(x, y), 2 * x * y)


@pytest.mark.parametrize(
    ("formula", "aliases"),
    [
        ("Exp(-SqDist(x,y)*g)*b", ["b = Vj(2,2)", "g = Pm(3,1)", "y = Vj(1,3)", "x = Vi(0,3)"]),
        ("Exp(-SqDist(Var(0,3,0),y)*Var(3,1,2))*b", ["Vi(3)", "y = Vj(3)", "b = Vj(2)"]),
        ("Exp(-SqDist(Var(0,3,0),Var(1,3,1))*Var(3,1,2))*Var(2,2,1)", []),
    ],
)
def test_arguments_come_in_the_order_of_their_positions(torch_op, formula, aliases):
    leaves = [torch.from_numpy(a).requires_grad_() for a in sample(np.float64)]
    results = []
    for op in (torch_op, redcomp.torch.Genred(formula, aliases, axis=1)):
        value = op(*leaves)
        results.append([value, *torch.autograd.grad((value**2).sum(), leaves)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.detach(), b.detach())


# -- sizes -----------------------------------------------------------------------------------------

SIZES = [
    (0, 5),
    (5, 0),
    (0, 0),
    (1, 1),
    (1, 7),
    (7, 1),
    (16, 256),
    (17, 257),
    (130, 513),
    (2100, 3),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_sizes(op, rows, columns, dtype):
    arrays = sample(dtype, rows, columns)
    assert_near(op(*arrays), arrays)


@pytest.mark.parametrize(("rows", "columns"), SIZES[:4])
def test_gradients_of_empty_arrays(torch_op, rows, columns):
    tensors = [torch.from_numpy(a).requires_grad_() for a in sample(np.float64, rows, columns)]
    value = torch_op(*tensors)
    parts = torch.autograd.grad(value, tensors, torch.ones_like(value), create_graph=True)
    assert [p.shape for p in parts] == [t.shape for t in tensors]
    if rows * columns == 0:
        assert all((p == 0).all() for p in (value, *parts))
    second = torch.autograd.grad(sum((p**2).sum() for p in parts), tensors)
    assert [p.shape for p in second] == [t.shape for t in tensors]


def test_missing_kinds_count_as_one():
    """Without j-variables there is one column, without i-variables one row."""
    p, x = np.array([2.0]), np.arange(5.0)[:, None]
    for axis, shape in ((1, (5, 1)), (0, (1, 1))):
        result = redcomp.numpy.Genred("x*p", ["x=Vi(1)", "p=Pm(1)"], axis=axis)(x, p)
        np.testing.assert_array_equal(result, (x * 2 if axis else (x * 2).sum(0, keepdims=True)))
        assert result.shape == shape
    constant = redcomp.numpy.Genred("p*IntCst(3)", ["p=Pm(1)"], axis=1)(p)
    np.testing.assert_array_equal(constant, [[6.0]])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_many_columns_and_few_rows(op, rows, dtype):
    """Columns are split over tasks, whose sums are joined."""
    arrays = sample(dtype, rows, 50_001)
    assert_near(op(*arrays), arrays)


def test_many_columns_and_long_vectors():
    """The join of splits whose totals are vectors in memory."""
    random = np.random.default_rng(0)
    x, y, b = (random.uniform(-1, 1, s) for s in ((3, 1), (41_000, 1), (41_000, 33)))
    op = redcomp.numpy.Genred("Cos(x-y)*b", ["x=Vi(1)", "y=Vj(1)", "b=Vj(33)"], axis=1)
    np.testing.assert_allclose(op(x, y, b), np.cos(x - y.T) @ b, rtol=0, atol=41_000 * 1e-15)


def test_more_than_2_to_32_pairs():
    size = 70_000
    random = np.random.default_rng(0)
    x, y = (random.uniform(0, 1, (size, 1)).astype(np.float32) for _ in range(2))
    result = redcomp.numpy.Genred("x*y+1", ["x=Vi(1)", "y=Vj(1)"], axis=1)(x, y)
    exact = x.astype(np.float64) * y.sum(dtype=np.float64) + size
    np.testing.assert_allclose(result, exact, rtol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1 / 3, None])
@pytest.mark.parametrize("rows", [1, 40])
def test_float32_sums_of_a_million_terms(value, rows):
    """Also of equal terms, whose rounding errors in a plain sum all have one sign."""
    count = 1_000_000
    y = np.random.default_rng(0).uniform(-1, 1, (count, 1)).astype(np.float32)
    if value is not None:
        y[:] = value
    x = np.ones((rows, 1), np.float32)
    result = redcomp.numpy.Genred("Exp(x-x)*y", ["x=Vi(1)", "y=Vj(1)"], axis=1)(x, y)
    error = np.abs(result - y.sum(dtype=np.float64))
    assert error.max() <= 1e-5 * np.abs(y).sum(dtype=np.float64)


# -- threads and processes -------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(3, 60_000), (700, 900), (5000, 130)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_do_not_depend_on_the_number_of_threads(op, monkeypatch, rows, columns, dtype):
    arrays = sample(dtype, rows, columns)
    results = []
    for count in (1, 2, 3):
        monkeypatch.setenv("REDCOMP_NUM_THREADS", str(count))
        results.append(op(*arrays))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_calls_from_many_threads():
    """The first calls, which compile, come at the same time too."""
    op = redcomp.torch.Genred(FORMULA, ALIASES, axis=0)
    problems = [sample(dtype, 500 + n, 300, n) for n in range(8) for dtype in TOLERANCE]
    results: list[Any] = [None] * len(problems)
    start = threading.Barrier(len(problems))

    def work(n: int) -> None:
        leaves = [torch.from_numpy(a).requires_grad_() for a in problems[n]]
        start.wait(60)
        for _ in range(3):
            value = op(*leaves)
            results[n] = [value, *torch.autograd.grad(value.sum(), leaves)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for arrays, result in zip(problems, results, strict=True):
        leaves = [torch.from_numpy(a).requires_grad_() for a in arrays]
        value = op(*leaves)
        alone = [value, *torch.autograd.grad(value.sum(), leaves)]
        for a, b in zip(result, alone, strict=True):
            np.testing.assert_array_equal(a.detach(), b.detach())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize("is_used", [False, True])
def test_pickle_and_copy(face, is_used):
    op = getattr(redcomp, face).Genred(FORMULA, ALIASES, axis=1)
    arrays = sample()
    given = arrays if face == "numpy" else [torch.from_numpy(a).requires_grad_() for a in arrays]
    if is_used:
        result = op(*given)
        if face == "torch":
            result.sum().backward()
    for other in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op), copy.copy(op)):
        assert repr(other) == repr(op)
        result = other(*given)
        assert_near(result if face == "numpy" else result.detach().numpy(), arrays)


PROCESSES = """
    import multiprocessing, os, sys
    import numpy as np
    from redcomp.numpy import Genred

    def work(op, arrays):
        return op(*arrays)

    def main():
        op = Genred({formula!r}, {aliases!r}, axis=1)
        random = np.random.default_rng(0)
        arrays = [random.uniform(-1, 1, s) for s in ((900, 3), (800, 3), (800, 2), (1,))]
        result = op(*arrays)  # starts threads
        if sys.argv[1] == "fork":
            child = os.fork()
            if child == 0:
                same = np.array_equal(op(*arrays), result)
                other = Genred(op.formula + "*2", op.aliases, axis=1)  # compiled in the child
                again = np.array_equal(other(*arrays), 2 * result)
                os._exit(0 if same and again else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert np.array_equal(op(*arrays), result)
        else:
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                for other in pool.starmap(work, [(op, arrays)] * 3):
                    assert np.array_equal(other, result)
        print("same")

    if __name__ == "__main__":
        main()
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(method, tmp_path):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    script = tmp_path / "processes.py"
    script.write_text(textwrap.dedent(PROCESSES).format(formula=FORMULA, aliases=ALIASES))
    assert run_script(str(script), method) == "same\n"
