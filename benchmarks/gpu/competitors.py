"""Who computes on GPUs: one row a competitor, on PyTorch's tensors.

Dense ones compute blocks of rows, except attention, for which PyTorch has kernels of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.competitors import (
    TORCH_DENSE,
    Competitor,
    Computation,
    UnsupportedError,
    blockwise,
    compiled,
    form_of,
    gradients,
    operation,
    require_all_pairs,
)

DENSE_PAIRS = 2**28  # of a block of rows: 1 GiB of float32, and a few times that while computing
DENSE_BYTES = 100e9  # of all pairs: more takes minutes


def tensors(arrays: Sequence[Any], device: str) -> list[Any]:
    """The arrays on a device."""
    import torch

    return [torch.from_numpy(array).to(device) for array in arrays]


def _task(case: Case, function: Callable[..., Any], given: Sequence[Any]) -> Computation:
    """The case's values or derivatives, given a function of its variables."""
    if case.gradient:
        return gradients(case, function, given)
    return lambda: (function(*given),)


def _genred(package: str) -> Callable[[Case, Sequence[Any]], Computation]:
    """redcomp and KeOps have the same interface; tensors on the host are copied to a GPU."""

    def prepare(case: Case, given: Sequence[Any]) -> Computation:
        import torch

        face = importlib.import_module(f"{package}.torch")
        device = given[0].device
        backend = "auto" if device.type == "cuda" else "GPU"
        to_device = lambda array: torch.from_numpy(np.ascontiguousarray(array)).to(device)
        return _task(case, operation(face, case, backend, to_device), given)

    return prepare


def _replayed(case: Case, given: Sequence[Any]) -> Computation:
    """redcomp's launches, recorded once: what remains is the device's own time."""
    import torch

    if case.gradient:
        raise UnsupportedError("only values are recorded")
    compute = _genred("redcomp")(case, given)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        compute()  # what happens only once is not recorded
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = compute()

    def replay() -> tuple[Any, ...]:
        graph.replay()
        return outputs

    return replay


def _torch(case: Case, given: Sequence[Any]) -> Computation:
    import torch

    size = case.rows * case.columns * np.dtype(case.dtype).itemsize
    if size > DENSE_BYTES:
        raise UnsupportedError(f"the M x N array has {size / 1e9:.0f} GB")
    has_kernels = case.formula.name == "attention"
    pairs = case.rows * case.columns if has_kernels else DENSE_PAIRS
    to_device = lambda columns: torch.from_numpy(columns).to(given[0].device)
    compute = blockwise(case, form_of(TORCH_DENSE, case), torch, pairs, to_device)
    return _task(case, compute, given)


def _torch_compile(case: Case, given: Sequence[Any]) -> Computation:
    return _task(case, compiled(case), given)


def _flex_attention(case: Case, given: Sequence[Any]) -> Computation:
    """PyTorch's kernels for variants of attention, made by torch.compile."""
    if case.formula.name != "attention":
        raise UnsupportedError("it computes attention only")
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    attend = torch.compile(flex_attention)
    query, key, value = (array[None, None] for array in given)
    return lambda: (attend(query, key, value, scale=1.0)[0, 0],)


def _triton(case: Case, given: Sequence[Any]) -> Computation:
    require_all_pairs(case)
    if case.dtype != "float32" and (case.dtype, case.formula.name) != ("float16", "attention"):
        raise UnsupportedError("written for float32 only, and attention for float16 too")
    if case.formula.name == "argkmin":
        raise UnsupportedError("it has no selection of the K smallest in registers")
    from benchmarks.gpu import triton_forms

    function = triton_forms.GRADIENTS if case.gradient else triton_forms.FORMS[case.formula.name]
    if case.gradient:
        return lambda: function(*given)
    return lambda: (function(*given),)


REDCOMP, IN_A_GRAPH, KEOPS = "redcomp", "redcomp in a graph", "KeOps"

GPU_COMPETITORS: tuple[Competitor, ...] = (
    Competitor(REDCOMP, "redcomp.torch", _genred("redcomp"), compiles=True),
    Competitor(IN_A_GRAPH, "redcomp.torch", _replayed),
    Competitor(KEOPS, "pykeops.torch", _genred("pykeops"), compiles=True),
    Competitor("Triton", "triton", _triton, compiles=True),
    Competitor("torch.compile", "torch", _torch_compile, compiles=True),
    Competitor("FlexAttention", "torch", _flex_attention),
    Competitor("torch", "torch", _torch),
)


def gpu_competitor(name: str) -> Competitor:
    """The row of this name, in any case of letters."""
    for row in GPU_COMPETITORS:
        if row.name.lower() == name.lower():
            return row
    raise ValueError(f"no competitor {name!r}")
