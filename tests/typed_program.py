"""A user's program, which type checkers accept as strictly as they can: checked, never run."""

from typing import TYPE_CHECKING, Any

import numpy as np

from redcomp.numpy import LazyTensor, Pm, Vi, Vj

if TYPE_CHECKING:
    from typing_extensions import assert_type


def gaussian_means(x: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]") -> Any:
    """Every sort of method: operators, rows of tables, other names, reductions."""
    x_i, y_j = Vi(x), LazyTensor(y[None, :, :])
    assert_type(x_i, LazyTensor)
    kernel = (-x_i.sqdist(y_j) / 2).exp()
    assert_type(kernel, LazyTensor)
    assert_type(kernel.tanh().clamp(0, 1).maximum(0.5), LazyTensor)
    assert_type((kernel > 0.5).where(kernel, 0), LazyTensor)
    assert_type(2 * kernel[..., 0].T + Pm(0.5), LazyTensor)
    assert_type(kernel.arcsin().reciprocal(), LazyTensor)
    assert_type(x_i.one_hot(3).elem(1), LazyTensor)
    is_zero = kernel == 0
    assert_type(is_zero, LazyTensor)
    nearest: np.ndarray[Any, Any] = kernel.argKmin(3, dim=1)
    return kernel.sum(axis=1), kernel.logsumexp(1), kernel @ y, nearest, Vj(0, 3).std(1)
