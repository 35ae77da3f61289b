"""Which column stands for all of them: the first or the last one, whichever is nearer to 0."""

from __future__ import annotations

from collections.abc import Callable

from redcomp.ir import Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.spelling import LLVM_TYPES

# Up to so many components are added up without a loop.
_UNROLLED = 8


def is_last_nearer(
    code: Code, variable: Value, first: str, last: str, load: Callable[[str, int | str], str]
) -> str:
    """Whether the vector `last` is nearer to 0 than `first`.

    Zeros do not count, for they often fill up arrays.  So neither they nor a column that is not
    finite, or far away from all others, stand for the others.  `load` gives a component at a
    pointer.
    """
    if not variable.type.is_float:
        return "false"
    type_ = LLVM_TYPES[variable.dtype]

    def added(total: str, vector: str, position: int | str) -> str:
        component = load(vector, position)
        size = code.call(type_, f"llvm.fabs.{variable.dtype}", [type_], [component])
        return code.value(f"fadd {type_} {total}, {size}")

    def size(vector: str) -> str:
        total = "0.0"
        if variable.dim > _UNROLLED:
            with code.loop(0, variable.dim, 1, [(type_, total)]) as loop:
                loop.following = [added(loop.carried[0], vector, loop.counter)]
            return loop.carried[0]
        for position in range(variable.dim):
            total = added(total, vector, position)
        return total

    of_first, of_last = size(first), size(last)
    # The first comparison holds for NaN, the last does not.
    is_less = code.value(f"fcmp ult {type_} {of_last}, {of_first}")
    is_only = code.value(f"fcmp oeq {type_} {of_first}, 0.0")
    is_nearer = code.value(f"or i1 {is_less}, {is_only}")
    is_there = code.value(f"fcmp ogt {type_} {of_last}, 0.0")
    return code.value(f"and i1 {is_nearer}, {is_there}")
