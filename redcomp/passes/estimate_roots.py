"""estimate_roots: square roots of pairs from estimates, where the processor would wait for them.

Its divider takes a root while other units go on, so a root is free in a loop that has enough else
to do.  In a shorter one, an estimate that is refined in multiply-adds takes less time; both are the
nearest floats (`ops.expansions.roots`).  It runs after `expand`, which tells the operations.
"""

from __future__ import annotations

from redcomp.ir import I_BIT, J_BIT, STRUCTURAL, P, Value, free_indices, with_roots
from redcomp.ops.expansions.roots import sqrt_by_estimate
from redcomp.passes.expand import times
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

_PAIR = I_BIT | J_BIT


@compiler_pass
def estimate_roots(program: P, context: Context) -> P:
    """Rewrite the roots of pairs, if a pair has fewer operations for each than the target says."""
    values = program.values
    roots = [value for value in values if value.op == "sqrt" and value.dependence == _PAIR]
    if not roots or not context.target.hidden_by:
        return program
    runs = times(values, free_indices(values))
    number = sum(runs[root] for root in roots)
    others = sum(
        runs[value]
        for value in values
        if value.dependence == _PAIR and value.op not in STRUCTURAL and value.op != "sqrt"
    )
    if others >= number * context.target.hidden_by[roots[0].dtype]:
        return program
    estimated = set(roots)
    done: dict[Value, Value] = {}
    for value in values:
        made = value.with_args(tuple([done[arg] for arg in value.args]))
        done[value] = sqrt_by_estimate(*made.args) if value in estimated else made
    return with_roots(program, done)
