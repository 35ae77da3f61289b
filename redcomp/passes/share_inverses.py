"""share_inverses: divide by what is not of a pair through its inverse, computed once.

A processor divides in 10 to 20 clocks, in which it could start as many multiply-adds or twice as
many.  A divisor that depends on parameters, on rows or on columns only has an inverse that `hoist`
moves out of the pair loop, with what its rounding has left: two or three multiply-adds then make a
quotient (`ops.expansions.quotients`).  Of a number it is all known, and `simplify` folds it.

It runs after `expand`, since expansions divide too.
"""

from __future__ import annotations

from redcomp.ir import I_BIT, J_BIT, P, Value, free_indices, with_roots
from redcomp.ops.expansions.quotients import Inverse, inverse, quotient
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

_PAIR = I_BIT | J_BIT


@compiler_pass
def share_inverses(program: P, context: Context) -> P:
    """Rewrite the divisions of pairs, where the target fuses products with sums.

    A divisor that changes in a loop over components stays: not all such have memory to be kept in.
    """
    if "fma" not in context.target.primitives:
        return program
    values = program.values
    shared = {value for value in values if _divides_by_shared(value)}
    if not shared:
        return program
    loops = free_indices(values)
    inverses: dict[Value, Inverse] = {}
    done: dict[Value, Value] = {}
    for value in values:
        args = tuple([done[arg] for arg in value.args])
        if value not in shared or loops[value.args[1]]:
            done[value] = value.with_args(args)
            continue
        x, c = args
        if c not in inverses:
            inverses[c] = inverse(c)
        done[value] = quotient(x, inverses[c])
    return with_roots(program, done)


def _divides_by_shared(value: Value) -> bool:
    return value.op == "divide" and value.dependence == _PAIR and value.args[1].dependence != _PAIR
