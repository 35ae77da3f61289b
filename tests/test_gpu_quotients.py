"""Quotients by shared divisors and half powers on GPUs: needs PyTorch, no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from on_gpu import machines

from redcomp.numpy import Genred

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
machine = machines(one_test_in=4)

# The term of a pair from x, y, s, w and r, for the differences d = x - y.
TERMS: dict[str, Callable[..., Array]] = {
    "Exp(-SqDist(x,y)/s)": lambda d, s, w, r: np.exp(-(d**2).sum(-1) / s),
    "Exp(-SqDist(x,y)/0.98/w)": lambda d, s, w, r: np.exp(-(d**2).sum(-1) / 0.98 / w.T),
    "Exp(-SqDist(x,y)/r)": lambda d, s, w, r: np.exp(-(d**2).sum(-1) / r),
    "Powf(SqDist(x,y)+1,-1.5)": lambda d, s, w, r: ((d**2).sum(-1) + 1) ** -1.5,
    "Powf(SqDist(x,y)+1,2.5)": lambda d, s, w, r: ((d**2).sum(-1) + 1) ** 2.5,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("term", TERMS)
def test_values(term: str, dtype: type) -> None:
    random = np.random.default_rng(0)
    x, y = random.uniform(0, 1, (20, 3)), random.uniform(0, 1, (30, 3))
    s, w, r = (random.uniform(0.3, 2.0, shape) for shape in ((1,), (30, 1), (20, 1)))
    arrays = [a.astype(dtype) for a in (x, y, s, w, r)]
    x, y, s, w, r = (a.astype(np.float64) for a in arrays)
    expected = TERMS[term](x[:, None] - y[None], s, w, r).sum(1, keepdims=True)
    aliases = ["x=Vi(3)", "y=Vj(3)", "s=Pm(1)", "w=Vj(1)", "r=Vi(1)"]
    found = Genred(f"{term} + 0*s*w*r", aliases, axis=1)(*arrays)
    np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(dtype).eps)
