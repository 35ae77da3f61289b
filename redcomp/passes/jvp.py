"""jvp: forward-mode differentiation, IR to IR, of any order.

Operations have no rules for it.  A row's derivative rule maps a cotangent back through the
operation and is linear in it; its transpose maps a tangent forward.  A linear function is
transposed by differentiating it in reverse mode, so `push_forward` is a reverse sweep over the
rule's result.
"""

from __future__ import annotations

from collections.abc import Sequence

from redcomp.ir import Value, topological, variable, zero
from redcomp.passes.grad import pull_back, sweep
from redcomp.passes.guarded import Guarded, Supports

Tangents = Sequence[Guarded | None]


def jvp(output: Value, wrt: Sequence[Value], tangents: Sequence[Value]) -> Value:
    """The derivative of `output` along tangents of the variables `wrt`: a Jacobian-vector product.

    A scalar tangent serves all components of its variable; those of a variable that comes twice
    add up.
    """
    known: dict[Value, Guarded] = {}
    supports = Supports()
    for v, t in zip(wrt, tangents, strict=True):
        tangent = Guarded(t).fit(v.type)
        known[v] = known[v].plus(tangent) if v in known else tangent
    for value in topological([output]):
        if value not in known:
            moved = push_forward(value, [known.get(arg) for arg in value.args], supports)
            if moved is not None:
                known[value] = moved
    moved = known.get(output)
    return zero(output.type) if moved is None else moved.settled()


def push_forward(value: Value, tangents: Tangents, supports: Supports) -> Guarded | None:
    """The tangent of one operation's result, given those of its arguments (None: zero)."""
    moving = {arg for arg, t in zip(value.args, tangents, strict=True) if t is not None}
    if not moving or not value.type.is_float:
        return None
    e = variable("cotangent", "parameter", 0, value.type)
    pulled = pull_back(Guarded(e), value, moving, supports)
    seeds = [
        (part.fit(arg.type).settled(), tangent)
        for arg, part, tangent in zip(value.args, pulled, tangents, strict=True)
        if part is not None and tangent is not None
    ]
    if not seeds:
        return None
    return sweep(seeds, (e,), supports, known={value, *value.args})[0]
