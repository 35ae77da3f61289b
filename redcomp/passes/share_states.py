"""share_states: outputs that carry the same states carry them once.

The slopes of a LogSumExp are sums of its own exponentials, and two softmaxes of one formula have
the same weights.  Each output has brought its own shift and total, and a guard that adjusts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redcomp.ir import Carried, Nest, Value
from redcomp.ir.graphs import Interner
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context


@compiler_pass
def share_states(nest: Nest, context: Context) -> Nest:
    """The nest with one state for all that are carried alike, where several outputs have guards.

    Others are seldom alike: only where somebody asks twice for the same result.
    """
    if len(nest.guards) < 2:
        return nest
    # States that begin alike may be the same.  They are, if they stay so as long as all others do.
    leaders = _numbered([(s.variable.type, s.total.type, s.initial) for s in nest.states])
    while True:
        done = _with_leaders(nest, leaders)
        carried = [s.map(done.__getitem__) for s in nest.states]
        following = _numbered([(n, s.computed) for n, s in zip(leaders, carried, strict=True)])
        if following == leaders:
            return _of_leaders(nest.map_roots(done.__getitem__), leaders)
        leaders = following


def _numbered(keys: Sequence[object]) -> list[int]:
    """For each key the position of the first one that equals it."""
    first: dict[object, int] = {}
    return [first.setdefault(key, n) for n, key in enumerate(keys)]


def _with_leaders(nest: Nest, leaders: Sequence[int]) -> dict[Value, Value]:
    """What each value becomes if states are what their leaders are."""
    done: dict[Value, Value] = {}
    for own, number in zip(nest.states, leaders, strict=True):
        leader = nest.states[number]
        done |= {
            own.variable: leader.variable,
            own.total: leader.total,
            own.other: leader.other,
        }
    intern = Interner()
    for value in nest.values:
        if value not in done:
            done[value] = intern(value.with_args(tuple([done[a] for a in value.args])))
    return done


def _of_leaders(nest: Nest, leaders: Sequence[int]) -> Nest:
    """The nest without the states that others stand for."""
    states: list[Carried] = [nest.states[n] for n in dict.fromkeys(leaders)]
    return replace(nest, states=tuple(states), guards=tuple(dict.fromkeys(nest.guards)))
