"""What `torch.compile` calls as it is: its tracer, Dynamo, breaks the graph around such functions.

`torch.compiler.disable` does the same, but importing it loads all of Dynamo, which takes seconds,
and it puts a wrapper around every call.  Here a function is marked once, and calls cost nothing.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch._C._dynamo import eval_frame

from redcomp.frontend.reductions.genred import Reducer, nested

T = TypeVar("T")


def in_graph(
    genred: Reducer, args: Sequence[Any], backend: str, device_id: int, ranges: Any, out: Any
) -> Any:
    """A call as the tracer sees it: one operator."""
    tensors, numbers, places = [], [], []
    for place, arg in enumerate(args):
        if isinstance(arg, torch.Tensor):
            tensors.append(arg)
        else:
            numbers.append(arg)
            places.append(place)
    visited = [] if ranges is None else [torch.as_tensor(array) for array in ranges]
    results = torch.ops.redcomp.call.default(
        tensors, numbers, places, visited, genred.text, backend, device_id
    )
    made = nested(results, genred.lengths, genred.is_single)
    return made if out is None else out.copy_(made)


@functools.cache
def with_reflected_products() -> None:
    """Have the tracer take `K @ b` for `torch.Tensor.__rmatmul__(b, K)`.

    It hands operators on what is no tensor to `__torch_function__` as methods of the tensor among
    the operands, by a table that lacks this one, so that it would be `torch.matmul(b, K)`
    (PyTorch 2.13, torch/_dynamo/variables/builtin.py).
    """
    from torch._dynamo.variables import builtin

    builtin.populate_builtin_to_tensor_fn_map()
    builtin.BUILTIN_TO_TENSOR_RFN_MAP.setdefault(operator.matmul, torch.Tensor.__rmatmul__)


def untraced(target: T) -> T:
    """A function, a method, or a class with its own methods, which are called as they are.

    Dynamo neither traces nor compiles them, nor what they call.
    """
    if isinstance(target, type):
        for member in vars(target).values():
            if isinstance(member, (FunctionType, staticmethod, classmethod)):
                _mark(member)
    else:
        _mark(target)
    return target


def _mark(method: Any) -> None:
    function = getattr(method, "__func__", method)
    # So Dynamo does not trace it into the graph of a caller, ...
    function._torchdynamo_disable = True
    function._torchdynamo_disable_msg = "redcomp compiles reductions itself"
    # ... nor as a frame of its own when a caller whose graph ends there calls it (PyTorch 2.7).
    if hasattr(eval_frame, "_FrameExecStrategy"):
        skip = eval_frame._FrameAction.SKIP
        strategy = eval_frame._FrameExecStrategy(skip, skip)
        eval_frame.set_code_exec_strategy(function.__code__, strategy)
