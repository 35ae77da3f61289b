"""What `torch.compile` sees: calls as operators, and functions that it calls as they are.

Its tracer, Dynamo, breaks the graph around the latter.  `torch.compiler.disable` does the same, but
importing it loads all of Dynamo, which takes seconds, and it puts a wrapper around every call.
Here a function is marked once, and calls cost nothing.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch._C._dynamo import eval_frame

from redcomp.frontend.lazy.matrix import Matrix
from redcomp.frontend.reductions.genred import Reducer, nested

T = TypeVar("T")


def in_graph(
    genred: Reducer,
    args: Sequence[Any],
    backend: str,
    device_id: int,
    ranges: Any,
    out: Any,
    is_cast: bool,
) -> Any:
    """A call as the tracer sees it: one operator."""
    results = torch.ops.redcomp.call.default(
        *_separated(args), _tensors(ranges), genred.text, backend, device_id, is_cast
    )
    made = nested(results, genred.lengths, genred.is_single)
    return made if out is None else out.copy_(made)


def solve_in_graph(
    solver: str,
    args: Sequence[Any],
    alpha: Any,
    ranges: Any,
    asked: tuple[float | None, float, int | None, bool],
    backend: str,
    device_id: int,
) -> Any:
    """A solve as the tracer sees it: one operator."""
    if not isinstance(alpha, torch.Tensor):
        alpha = torch.tensor(alpha, dtype=torch.float64)
    return torch.ops.redcomp.call_solve.default(
        *_separated(args), alpha, _tensors(ranges), solver, *asked, backend, device_id
    )


def _separated(args: Sequence[Any]) -> tuple[list[torch.Tensor], list[Any], list[int]]:
    """The tensors, among them those of lists, the numbers, and the positions of these."""
    tensors, numbers, places = [], [], []
    for place, arg in enumerate(args):
        if isinstance(arg, torch.Tensor):
            tensors.append(arg)
        elif isinstance(arg, (list, tuple)):
            like = next(a for a in args if isinstance(a, torch.Tensor) and a.dim())
            tensors.append(torch.tensor(arg, dtype=like.dtype, device=like.device))
        else:
            numbers.append(arg)
            places.append(place)
    return tensors, numbers, places


def _tensors(ranges: Any) -> list[torch.Tensor]:
    return [] if ranges is None else [torch.as_tensor(array) for array in ranges]


@functools.cache
def with_products() -> bool:
    """Have the tracer take `K @ b` and `K @ L` of lazy matrices; whether it does.

    It hands operators on a tensor and something else to `__torch_function__` as methods of the
    tensor, by a table that lacks this one, so that `K @ b` would be `torch.matmul(b, K)`.  Of two
    objects that are no tensors it knows no `@` at all (PyTorch 2.13,
    torch/_dynamo/variables/builtin.py).
    """
    from torch._dynamo.variables import BuiltinVariable, UserDefinedObjectVariable, builtin

    table = getattr(builtin, "BUILTIN_TO_TENSOR_RFN_MAP", None)
    populate = getattr(builtin, "populate_builtin_to_tensor_fn_map", None)
    if table is None or populate is None:
        return False
    populate()
    table.setdefault(operator.matmul, torch.Tensor.__rmatmul__)
    handlers = BuiltinVariable._binop_handlers().setdefault(operator.matmul, [])
    handlers.append(((UserDefinedObjectVariable, UserDefinedObjectVariable), _product_of_objects))
    BuiltinVariable.call_function_handler_cache.clear()  # it keeps what it has refused
    return True


def _product_of_objects(tracer: Any, a: Any, b: Any) -> Any:
    """`a @ b` as Python has it where `a` is one of ours; None leaves it to the tracer."""
    if isinstance(a.value, Matrix):
        return a.call_method(tracer, "__matmul__", [b], {})
    return None


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
