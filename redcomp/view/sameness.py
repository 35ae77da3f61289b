"""Which values of different stages are the same: equal in structure, or equal as numbers.

Passes need not say what they did.  Every value is computed at some sample points, by the
interpreter that is the oracle of all passes; what has the same numbers is the same value, however
it is written.  A component of a vector belongs to the vector.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redcomp.interpret import interpret
from redcomp.ir import (
    AnyProgram,
    Carried,
    Hoisted,
    Interner,
    Kernel,
    Nest,
    Partition,
    Value,
    free_indices,
    topological,
)
from redcomp.ops.table import Array

_SAMPLES = 48
_RELATIVE, _ABSOLUTE, _OF_NORMALIZED = 2e-4, 1e-6, 1e-4
# Longer programs are compared by structure alone, and so are components of longer vectors.
_MOST_VALUES = 4000
_MOST_COMPONENTS = 64


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as its values, of which equal ones are one object in all stages.

    known   by each value of the program, the object that stands for it
    order   these objects, arguments before their users
    """

    name: str
    program: AnyProgram
    known: Mapping[Value, Value]
    order: tuple[Value, ...]


class Sameness:
    """Groups of values that are the same, over all stages.

    group    the number of a value's group
    family   the group that a value is a step of: one of the first stage's, or of a reduction.
             What is a value of the first stage moved and scaled is a step of that one
    """

    def __init__(self, programs: Sequence[tuple[str, AnyProgram]]) -> None:
        intern = Interner()
        self.stages = [_stage(name, program, intern) for name, program in programs]
        self.group: dict[Value, int] = {}
        self.family: dict[Value, int] = {}
        self._numbers, self._moved = _Numbers(), _Numbers(_OF_NORMALIZED)
        self._roots: set[int] = set()
        self._families: dict[int | None, int] = {}  # of groups
        for number, stage in enumerate(self.stages):
            numbers = _evaluated(stage)
            for value in stage.order:
                if value not in self.group:
                    self._place(value, numbers.get(value), is_first=number == 0)
            self._trace(stage, is_first=number == 0)

    def _place(self, value: Value, numbers: Array | None, is_first: bool) -> None:
        found = None if numbers is None else self._numbers.find(value, numbers)
        self.group[value] = len(self.group) if found is None else found
        if found in self._families:
            self.family[value] = self._families[found]
        if numbers is None or found is not None:
            return
        self._numbers.add(value, numbers, self.group[value])
        if is_first and value.op != "constant":
            self._moved.add(value, _normalized(numbers), self.group[value])
        elif value.op not in ("constant", "variable") and _varies(numbers):
            moved = self._moved.find(value, _normalized(numbers))
            if moved is not None:
                self.family[value] = moved

    def _trace(self, stage: Stage, is_first: bool) -> None:
        """The families of a stage: a value without one of its own has its nearest user's."""
        users: dict[Value, Value] = {}
        for user in stage.order[::-1]:
            group = self.group[user]
            if user not in self.family:
                if is_first or group in self._roots or user not in users:
                    self._roots.add(group)
                    self.family[user] = group
                else:
                    self.family[user] = self.family[users[user]]
            self._families.setdefault(group, self.family[user])
            for arg in user.args:
                users[arg] = user


def _stage(name: str, program: AnyProgram, intern: Interner) -> Stage:
    known: dict[Value, Value] = {}
    for value in topological(roots_of(program)):
        known[value] = intern(value.with_args(tuple([known[a] for a in value.args])))
    order = tuple(dict.fromkeys(known.values()))
    known |= {value: value for value in order}
    return Stage(name, _replaced(program, known), known, order)


def _replaced(program: AnyProgram, known: Mapping[Value, Value]) -> AnyProgram:
    """The program made of the objects that stand for its values."""
    if isinstance(program, Partition):
        parts = [replace(p, nest=_replaced_nest(p.nest, known)) for p in program.parts]
        return Partition(tuple(parts))
    if isinstance(program, Nest):
        return _replaced_nest(program, known)
    return program.map_roots(known.__getitem__).with_params(_all(program.params, known))


def _replaced_nest(nest: Nest, known: Mapping[Value, Value]) -> Nest:
    nest = nest.map_roots(known.__getitem__)

    def carried(state: Carried) -> Carried:
        return replace(
            state,
            variable=known[state.variable],
            total=known[state.total],
            other=known[state.other],
        )

    def moved(group: tuple[Hoisted, ...]) -> tuple[Hoisted, ...]:
        return tuple(replace(h, variable=known[h.variable]) for h in group)

    return replace(
        nest,
        params=_all(nest.params, known),
        states=tuple(map(carried, nest.states)),
        uniform=moved(nest.uniform),
        rows=moved(nest.rows),
        columns=moved(nest.columns),
        products=moved(nest.products),
        updates=moved(nest.updates),
    )


def _all(values: Iterable[Value], known: Mapping[Value, Value]) -> tuple[Value, ...]:
    return tuple(known[value] for value in values)


def roots_of(program: AnyProgram) -> list[Value]:
    """All that a program reads and computes, its parameters too."""
    return [
        value
        for nest in _nests(program)
        for value in (*nest.params, *_variables(nest), *nest.roots)
    ]


def _nests(program: AnyProgram) -> Iterable[Kernel | Nest]:
    return [part.nest for part in program.parts] if isinstance(program, Partition) else [program]


def _variables(program: Kernel | Nest) -> Iterator[Value]:
    if isinstance(program, Nest):
        for state in program.states:
            yield from (state.variable, state.total, state.other)
        for hoisted in program.hoisted:
            yield hoisted.variable


# -- numbers ---------------------------------------------------------------------------------------


class _Numbers:
    """Finds the group of a value by its numbers."""

    def __init__(self, least: float = _ABSOLUTE) -> None:
        self.least = least
        self.rows: dict[str, list[Array]] = {}
        self.groups: dict[str, list[int]] = {}

    def find(self, value: Value, numbers: Array) -> int | None:
        key = _key(value)
        rows = self.rows.get(key)
        if not rows:
            return None
        near = np.isclose(np.stack(rows), _flat(numbers), _RELATIVE, self.least, equal_nan=True)
        same = np.flatnonzero(near.all(axis=1))
        return self.groups[key][same[0]] if len(same) else None

    def add(self, value: Value, numbers: Array, group: int) -> None:
        self._append(_key(value), numbers, group)
        if 1 < value.dim <= _MOST_COMPONENTS:
            for k in range(value.dim):
                self._append(_key(value, 1), numbers[..., k : k + 1], group)

    def _append(self, key: str, numbers: Array, group: int) -> None:
        self.rows.setdefault(key, []).append(_flat(numbers))
        self.groups.setdefault(key, []).append(group)


def _varies(numbers: Array) -> bool:
    return numbers.dtype.kind == "f" and bool(np.ptp(numbers[..., 0]) > _ABSOLUTE)


def _normalized(numbers: Array) -> Array:
    """The same for all that is moved and scaled, component by component."""
    given = np.broadcast_to(numbers, (_SAMPLES, numbers.shape[-1])).astype(np.float64)
    with np.errstate(all="ignore"):
        centred = given - given.mean(axis=0)
        made: Array = centred / (centred.std(axis=0) * np.sign(centred[0]))
    return np.where(np.isfinite(made), made, np.nan)


def _flat(numbers: Array) -> Array:
    return np.broadcast_to(numbers, (_SAMPLES, numbers.shape[-1])).ravel().astype(np.float64)


def _key(value: Value, dim: int = 0) -> str:
    """What values must have in common to be the same: truth values often agree by chance."""
    dtype = "float" if value.type.is_float else value.dtype
    kind = value.op if value.op in ("constant", "variable") or dtype == "i1" else ""
    return f"{dtype} {dim or value.dim} {kind}"


def _evaluated(stage: Stage) -> dict[Value, Array]:
    """The numbers of a stage's values outside of loops, at the sample points."""
    if len(stage.order) > _MOST_VALUES:
        return {}
    samples: dict[str, Array] = {}
    found: dict[Value, Array] = {}
    for nest in _nests(stage.program):
        if isinstance(nest, Nest):
            for hoisted in nest.hoisted:
                (made,) = _interpreted([stage.known[hoisted.definition]], samples)
                samples[hoisted.variable["name"]] = made
    outside = [v for v, loops in free_indices(stage.order).items() if not loops]
    for value, numbers in zip(outside, _interpreted(outside, samples), strict=True):
        found[value] = numbers
    return found


def _interpreted(values: Sequence[Value], samples: dict[str, Array]) -> list[Array]:
    for value in topological(values):
        if value.op == "variable":
            samples.setdefault(value["name"], _sample(value))
    return interpret(values, samples)


def _sample(variable: Value) -> Array:
    """Numbers that depend on the name alone, so that they are the same in all stages."""
    random = np.random.default_rng(zlib.crc32(variable["name"].encode()))
    shape = (_SAMPLES if variable.dependence else 1, variable.dim)
    if variable.type.is_float:
        return random.uniform(0.2, 1.2, shape)
    return random.integers(0, 2 if variable.dtype == "i1" else 1000, shape)
