"""Shared memory without bank conflicts, by a count over the addresses of interpreted kernels.

Needs PyTorch, no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from ptxsim import DeviceMemory, execute, parse
from ptxsim.banks import Banks
from ptxsim.driver import StandIn
from ptxsim.scalars import GLOBAL_START

from redcomp.ptx.layout import _record_shape
from redcomp.runtime import driver as drivers
from redcomp.torch import Genred

# -- the counter itself ----------------------------------------------------------------------------

STRIDED = """
.version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 stride)
{{
  .reg .b32 %r<9>;
  .shared .align 16 .b8 buffer[8192];
  ld.param.u32 %r1, [stride];
  mov.u32 %r2, %tid.x;
  mul.lo.u32 %r3, %r1, %r2;
  mov.u32 %r4, buffer;
  add.u32 %r4, %r4, %r3;
  mov.u32 %r5, 0;
  {store}
  ret;
}}
"""
STORES = {
    4: "st.shared.b32 [%r4], %r5;",
    8: "st.shared.v2.b32 [%r4], {%r5, %r5};",
    16: "st.shared.v4.b32 [%r4], {%r5, %r5, %r5, %r5};",
}


@pytest.mark.parametrize(
    ("size", "stride", "extra"),
    [
        *((4, 4, 0), (4, 8, 1), (4, 16, 3), (4, 12, 0), (4, 68, 0), (4, 128, 31), (4, 96, 7)),
        *((8, 8, 0), (8, 24, 0), (8, 16, 2), (8, 64, 14)),
        *((16, 16, 0), (16, 48, 0), (16, 32, 4), (16, 80, 0), (16, 128, 28)),
    ],
)
def test_counter_of_strided_stores(size: int, stride: int, extra: int) -> None:
    """By hand: threads at a distance; the least are 1, 2 and 4 wavefronts for a warp."""
    banks = Banks()
    module = parse(STRIDED.format(store=STORES[size]))
    execute(module, "k", 1, 32, [stride], DeviceMemory(GLOBAL_START), banks=banks)
    assert sum(banks.extra.values()) == extra


# -- kernels ---------------------------------------------------------------------------------------


class Case(NamedTuple):
    formula: str
    dims: Mapping[str, int]
    reduction: str = "Sum"
    options: Mapping[str, Any] = {}
    is_guarded: bool = False  # threads go through the loop over pairs by different ways


GAUSSIAN = "Exp(-SqDist(x, y)) * b"


def points(dim: int, width: int = 1) -> dict[str, int]:
    return {"x = Vi": dim, "y = Vj": dim, "b = Vj": width}


TWO = {"x = Vi": 3, "y = Vj": 3}
CASES = {
    "gaussian": Case(GAUSSIAN, points(3)),
    "D1": Case(GAUSSIAN, points(1)),
    "D7": Case(GAUSSIAN, points(7)),
    "D16": Case(GAUSSIAN, points(16)),
    "D64": Case(GAUSSIAN, points(64)),
    "width": Case("Exp(-g * SqDist(x, y)) * b", {**points(3), "g = Pm": 1}),
    "cauchy": Case("b / (1 + SqDist(x, y))", points(3)),
    "12 columns": Case(GAUSSIAN, points(3, 12)),
    "gradient": Case(f"Grad({GAUSSIAN}, x, e)", {**points(3), "e = Vi": 1}),
    "argmin": Case("SqDist(x, y)", TWO, "ArgMin"),
    "logsumexp": Case("-SqDist(x, y)", TWO, "LogSumExp", is_guarded=True),
    "attention": Case("x | y", points(9, 9), "SumSoftMaxWeight", {"formula2": "b"}, True),
}
SIZES = {"Vi": 40, "Vj": 50}


def arguments(case: Case, dtype: torch.dtype) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = ((SIZES.get(name[-2:]), dim) for name, dim in case.dims.items())
    return [
        torch.randn((dim,) if count is None else (count, dim), generator=random, dtype=dtype)
        for count, dim in shapes
    ]


def conflicts(case: Case, dtype: torch.dtype, capability: tuple[int, int]) -> list[str]:
    """The instructions of a call that take more wavefronts than they need."""
    stand_in = StandIn(processors=1, resident=1, capability=capability)
    stand_in.banks = Banks()
    aliases = [f"{name}({dim})" for name, dim in case.dims.items()]
    with drivers.use(stand_in):
        operation = Genred(case.formula, aliases, case.reduction, axis=1, **case.options)
        operation(*arguments(case, dtype), backend="GPU")
    found = [text for _, text in stand_in.banks.extra]
    # All threads are at the same column, which where they diverge the stand-in does not keep up.
    of_columns = ("ld.shared.v", "ld.shared.b64")  # of float64, what is left over is loaded alone
    return [text for text in found if not (case.is_guarded and text.startswith(of_columns))]


@pytest.mark.sampled(48)
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_no_conflicts(name: str, dtype: torch.dtype, capability: tuple[int, int]) -> None:
    """Stores into tiles had conflicts of 4 ways for D = 3, and of 24 for attention with 64."""
    assert conflicts(CASES[name], dtype, capability) == []


@pytest.mark.sampled(8)
@pytest.mark.parametrize("dim", [2, 5, 7, 8, 9, 11, 23, 24])
def test_any_width_of_records_is_right(dim: int) -> None:
    """Records with gaps between columns, and between what threads write and what is copied."""
    random = torch.Generator().manual_seed(dim)
    shapes = ((5, 3), (70, 3), (70, dim), (70, 1))
    tensors = [torch.rand(shape, generator=random) for shape in shapes]
    aliases = ["x=Vi(3)", "y=Vj(3)", f"b=Vj({dim})", "c=Vj(1)"]
    stand_in = StandIn(processors=1)
    with drivers.use(stand_in):
        found = Genred("Exp(-SqDist(x,y))*b*c", aliases, axis=1)(*tensors, backend="GPU")
    x, y, b, c = (tensor.numpy().astype(np.float64) for tensor in tensors)
    kernel = np.exp(-((x[:, None] - y) ** 2).sum(-1))
    assert np.allclose(found, kernel @ (b * c), rtol=1e-5)


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("cols", [1, 2, 4, 8, 16])
def test_shapes_of_records(cols: int, size: int) -> None:
    """Steps are aligned, vectors that are written too; an odd number of vectors makes a record."""
    most = 16 // size
    for written in range(70):
        for whole in (0, 9, 20, 64):
            begin, store, width = _record_shape(written, whole, cols, size)
            assert begin + whole <= width <= written + whole + (8 if cols > 2 else 12)
            assert width * cols % most == 0
            if written:
                assert written <= begin
                assert begin % store == width % store == 0
                assert width // store % 2 == 1
                assert begin + whole == width or width % most == 0
