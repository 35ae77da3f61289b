"""Packages that call KeOps, with redcomp in its place, which must be there before they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import redcomp.as_pykeops
import redcomp.numpy.genred
import redcomp.numpy.lazy_tensor
import redcomp.torch.genred
import redcomp.torch.lazy_tensor

# The modules that compute for Genred and LazyTensor, each by the name `call`.
COMPUTING = (
    redcomp.numpy.genred,
    redcomp.numpy.lazy_tensor,
    redcomp.torch.genred,
    redcomp.torch.lazy_tensor,
)


@pytest.fixture
def reductions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The formulas that redcomp reduces meanwhile; there must be some, or a package did without."""
    done: list[str] = []
    for module in COMPUTING:

        def counted(reducer: Any, *args: Any, call: Any = module.call, **options: Any) -> Any:
            done.append(str(reducer))
            return call(reducer, *args, **options)

        monkeypatch.setattr(module, "call", counted)
    yield done
    assert done
