"""Errors about arguments and options, which name what is wrong: needs a CPU and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from array_samples import ALIASES, FORMULA, sample

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError, FormulaError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def op() -> redcomp.numpy.Genred:
    return redcomp.numpy.Genred(FORMULA, ALIASES, axis=1)


@pytest.fixture(scope="module")
def torch_op() -> redcomp.torch.Genred:
    return redcomp.torch.Genred(FORMULA, ALIASES, axis=1)


# What replaces which argument of x, y, b, g; what the message must say.
WRONG: dict[str, tuple[int, Any, str]] = {
    "too-few-axes": (1, lambda a: a[:, 0], "'y'.*\\(N, 3\\)"),
    "several-parameters": (3, lambda a: a.repeat(5), "'g'.*\\(1,\\).*\\(5,\\)"),
    "dimension": (0, lambda a: a[:, :2], "'x'.*\\(M, 3\\)"),
    "transposed": (1, lambda a: a.T, "'y'.*\\(N, 3\\)"),
    "number-of-columns": (2, lambda a: a[:-1], "'b'.*44.*'y'.*45"),
    "mixed-dtypes": (1, lambda a: a.astype(np.float64), "'y'.*float64.*'x'.*float32"),
    "mixed-dtypes-of-a-parameter": (
        3,
        lambda a: a.astype(np.float64),
        "'g'.*float64.*'x'.*float32",
    ),
    "integers": (0, lambda a: a.astype(np.int64), "'x'.*int64"),
    "half": (2, lambda a: a.astype(np.float16), "'b'.*float16"),
    "complex": (1, lambda a: a.astype(np.complex64), "'y'.*complex64"),
    "booleans": (3, lambda a: a > 0, "'g'.*bool"),
    "list": (0, lambda a: a.tolist(), "'x'.*list"),
    "none": (1, lambda a: None, "'y'.*None"),
    "number": (2, lambda a: 1.0, "'b' is a number.*Pm"),
    "number-of-a-row": (0, lambda a: np.float32(1), "'x' is a number.*Pm"),
    "complex-number": (3, lambda a: 1j, "'g'.*complex"),
    "large-number": (3, lambda a: 1e39, "'g' is a number above 3.403e\\+38"),
    "huge-number": (3, lambda a: -(10**400), "'g' is a number above 3.403e\\+38"),
}


@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_named(face, wrong, op, torch_op):
    position, replace, message = WRONG[wrong]
    arrays: list[Any] = list(sample())
    arrays[position] = replace(arrays[position])
    if face == "torch":
        arrays = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in arrays]
    with pytest.raises(ArgumentError, match=message):
        (op if face == "numpy" else torch_op)(*arrays)


def test_numpy_takes_no_tensors_nor_torch_arrays(op, torch_op):
    arrays = sample()
    with pytest.raises(ArgumentError, match=r"'x'.*Tensor"):
        op(torch.from_numpy(arrays[0]), *arrays[1:])
    tensors = [torch.from_numpy(a) for a in arrays]
    with pytest.raises(ArgumentError, match=r"'y'.*ndarray"):
        torch_op(tensors[0], arrays[1], *tensors[2:])


@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize("count", [0, 3, 5])
def test_wrong_number_of_arguments(face, count, op, torch_op):
    arrays = [*sample(), np.ones(1, np.float32)][:count]
    given = arrays if face == "numpy" else [torch.from_numpy(a) for a in arrays]
    with pytest.raises(ArgumentError, match=rf"4 arguments \(x, y, b, g\).*{count} came"):
        (op if face == "numpy" else torch_op)(*given)


@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "TPU"}, ArgumentError, "backend.*'TPU'"),
        ({"backend": "gpu"}, ArgumentError, "backend.*'gpu'"),
        ({"backend": None}, ArgumentError, "backend"),
        ({"ranges": (1, 2)}, ArgumentError, "ranges"),
        ({"outs": None}, TypeError, "outs"),
    ],
)
def test_wrong_options_of_a_call(face, options, error, message, op, torch_op):
    arrays = sample()
    given = arrays if face == "numpy" else [torch.from_numpy(a) for a in arrays]
    with pytest.raises(error, match=message):
        (op if face == "numpy" else torch_op)(*given, **options)


@pytest.mark.parametrize("face", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"axis": 2}, ValueError, "axis.*2"),
        ({"axis": "1"}, ValueError, "axis"),
        ({"reduction_op": "Product"}, ValueError, "reduction_op.*'Product'"),
        ({"sum_scheme": "fast"}, ArgumentError, "sum_scheme.*'fast'"),
        ({"dtype_acc": "bfloat16"}, ArgumentError, "dtype_acc.*'bfloat16'"),
        ({"dtype_acc": "float32", "use_double_acc": True}, ArgumentError, "use_double_acc"),
        ({"dtype": "int32"}, ArgumentError, "dtype.*'int32'"),
        ({"opt_arg": 3}, ArgumentError, "opt_arg"),
        ({"formula2": "x"}, ArgumentError, "formula2"),
        ({"axes": 1}, TypeError, "axes"),
    ],
)
def test_wrong_options_of_a_constructor(face, options, error, message):
    with pytest.raises(error, match=message):
        getattr(redcomp, face).Genred(FORMULA, ALIASES, **{"axis": 1, **options})


def test_tensors_elsewhere_are_refused(torch_op):
    tensors = [torch.from_numpy(a) for a in sample()]
    with pytest.raises(ArgumentError, match=r"'y'.*meta"):
        torch_op(tensors[0], tensors[1].to("meta"), *tensors[2:])


def test_numbers_beyond_float32_are_for_float64() -> None:
    operation = redcomp.numpy.Genred("x * 1e300", ["x = Vi(1)"], axis=1)
    assert operation(np.ones((1, 1)))[0, 0] == 1e300
    with pytest.raises(FormulaError, match="1e300"):
        operation(np.ones((1, 1), np.float32))
