"""What tracers of Python are told about functions.

`torch.compile` follows a program's Python code with symbols in the place of tensors.  Parsing and
building of formulas is no work for it: it calls those functions, and what they return is a constant
of the graph.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def constant_in_graphs(function: T) -> T:
    """The function, which tracers call with its arguments as they are; no tensor is among them.

    This is what `torch.compiler.assume_constant_result` does, without importing PyTorch.
    """
    marked: Any = function
    marked._dynamo_marked_constant = True
    return function
