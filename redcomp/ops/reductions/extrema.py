"""Extrema over the columns, where they are, and the K smallest and largest values."""

from __future__ import annotations

from dataclasses import replace

from redcomp.ir import Value, broadcast, compare, constant, elementwise, select
from redcomp.ops.lists import PLACES, VALUES, precedes
from redcomp.ops.reductions.row import (
    INDEX,
    INF,
    NAN,
    VALUE,
    Reduction,
    State,
    States,
    same_states,
    value_states,
)
from redcomp.ops.table import apply

_HAS_GRADIENTS = "with gradients (KeOps: none)"
_EXACT_PLACES = "any number of columns (KeOps: up to 1.6e7 in float32)"


def _extremum(name: str, winner: str, neutral: float) -> Reduction:
    """The scan keeps the first extremum; comparisons with NaN fail, so NaN is passed over."""
    word = "smallest" if neutral > 0 else "largest"
    return Reduction(
        name,
        (name.capitalize(),),
        f"{word} value of each component, NaN ignored; {neutral} for no columns",
        (VALUE,),
        value_states(neutral),
        step=lambda states, value, columns: (elementwise(winner, value, states[0]),),
        finish=same_states,
        merge=lambda a, b: (elementwise(winner, b[0], a[0]),),
        places=f"{name}_arg{name}",
        gradient="to the first column that has it",
        differs=_HAS_GRADIENTS,
    )


def _placed_extrema(name: str, predicate: str, neutral: float) -> tuple[Reduction, ...]:
    """An extremum and where it is; comparisons are strict, so the first one wins.

    Of sets of columns that lie between each other the one wins whose extremum comes first.
    """
    word = "smallest" if neutral > 0 else "largest"
    title = name.capitalize()
    comparison = f"{'below' if neutral > 0 else 'above'} {neutral}"

    def better(old: States, new: States) -> States:
        wins = compare(predicate, new[0], old[0])
        return select(wins, new[0], old[0]), select(wins, new[1], old[1])

    def join(a: States, b: States) -> States:
        value, place = better(a, b)
        first = select(compare("olt", b[1], a[1]), b[1], a[1])
        return value, select(compare("oeq", a[0], b[0]), first, place)

    both = Reduction(
        f"{name}_arg{name}",
        (f"{title}_Arg{title}", f"{title}Arg{title}"),
        f"{word} value of each component and the index of the first column that has it; "
        f"{neutral} and 0 if no value is {comparison}",
        (VALUE, INDEX),
        lambda dim, count: (State(dim, neutral), State(dim, 0.0, "column")),
        step=lambda states, value, columns: better(
            states, (value, broadcast(columns.in_tile, value.dim))
        ),
        finish=same_states,
        merge=better,
        join=join,
        places=f"{name}_arg{name}",
        gradient="to the first column that has it",
        differs=f"{_HAS_GRADIENTS}; {_EXACT_PLACES}",
    )
    place = replace(
        both,
        name=f"arg{name}",
        spellings=(f"Arg{title}",),
        doc=f"index of the first column with the {word} value of each component; "
        f"0 if no value is {comparison}",
        results=(INDEX,),
        finish=lambda states: states[1:],
        places="",
        gradient="",
        differs=_EXACT_PLACES,
    )
    return both, place


# The K smallest values so far are a list as in `redcomp.ops.lists`, where infinity is a value like
# others.  A value that is NaN only reaches free places, one of which it becomes.


def _insert(states: States, value: Value, index: Value) -> States:
    """The lists with the value in its place, after equal ones, and the largest one dropped."""
    values, indices = states
    enters = precedes(value, values)
    moves = _shifted(enters, False)
    return (
        select(moves, _shifted(values, 0.0), select(enters, value, values)),
        select(moves, _shifted(indices, 0), select(enters, index, indices)),
    )


def _merged(a: States, b: States) -> States:
    """Two lists as one."""
    return tuple(apply("merged", *a, *b, part=part) for part in (VALUES, PLACES))


def _shifted(vector: Value, last: float) -> Value:
    """Each component's successor; `last` after the last one."""
    end = constant(last, vector.dtype)
    if vector.dim == 1:
        return end
    return apply("concat", apply("extract", vector, start=1, length=vector.dim - 1), end)


def _nearest_with_places(name: str, word: str, sign: float) -> Reduction:
    """The `count` smallest values, or largest ones, in order, and where they are."""
    title = f"K{name.capitalize()}"
    order = "ascending" if sign > 0 else "descending"

    def signed(value: Value) -> Value:
        return value if sign > 0 else -value

    def finish(states: States) -> tuple[Value, ...]:
        values, indices = (apply("reverse", state) for state in states)
        is_free = compare("uno", values, values)
        return signed(select(is_free, INF, values)), select(is_free, 0, indices)

    return Reduction(
        f"k{name}_argk{name}",
        (f"{title}_Arg{title}", f"{title}Arg{title}"),
        f"the K {word} values, {order}, and the indices of their columns; of equal values the "
        f"smaller index comes first; {sign * INF} and 0 if there are fewer columns",
        (VALUE, INDEX),
        lambda dim, count: (
            State(count, NAN, resumes=True),
            State(count, 0.0, "index", resumes=True),
        ),
        step=lambda states, value, columns: states,
        finish=finish,
        join=_merged,
        guard=lambda states, value: compare("ult", signed(value), apply("elem", states[0], m=0)),
        adjust=lambda states, value, columns: _insert(states, signed(value), columns.in_call),
        places=f"k{name}_argk{name}",
        takes="components",
        keeps=True,
        gradient="to the columns that have them",
        differs=f"{_HAS_GRADIENTS}; {_EXACT_PLACES}" if sign > 0 else "new",
    )


def _nearest(name: str, word: str, sign: float) -> tuple[Reduction, ...]:
    """The row of both, of the values alone, and of their places alone."""
    title = f"K{name.capitalize()}"
    order = "ascending" if sign > 0 else "descending"
    both = _nearest_with_places(name, word, sign)
    values = replace(
        both,
        name=f"k{name}",
        spellings=(title,),
        doc=f"the K {word} values, {order}, NaN ignored; {sign * INF} if there are fewer columns",
        results=both.results[:1],
        finish=lambda states: both.finish(states)[:1],
        differs=_HAS_GRADIENTS if sign > 0 else "new",
    )
    places = replace(
        both,
        name=f"argk{name}",
        spellings=(f"Arg{title}",),
        doc=f"indices of the columns with the K {word} values, {order}; "
        "0 if there are fewer columns",
        results=both.results[1:],
        finish=lambda states: both.finish(states)[1:],
        places="",
        gradient="",
        differs=_EXACT_PLACES if sign > 0 else "new",
    )
    return both, values, places


EXTREMA = (
    _extremum("min", "less_of", INF),
    _extremum("max", "greater_of", -INF),
    *_placed_extrema("min", "olt", INF),
    *_placed_extrema("max", "ogt", -INF),
    *_nearest("min", "smallest", 1.0),
    *_nearest("max", "largest", -1.0),
)
