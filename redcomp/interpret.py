"""Evaluate values with NumPy: slow, obvious, and the oracle that every pass is tested against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from redcomp.ir import Value, entries_of, free_indices, loop_of, topological
from redcomp.ops.table import OPERATIONS, Array

Loops = frozenset[tuple[int, int]]


def interpret(roots: Iterable[Value], variables: Mapping[str, Array]) -> list[Array]:
    """The values of `roots`, given an array for each variable's name.

    Arrays have the components on their last axis; all leading axes broadcast, so that i-variables
    of shape (M, 1, D) and j-variables of shape (1, N, D) give results of shape (M, N, D).
    """
    roots = tuple(roots)
    with np.errstate(all="ignore"):
        done = _Interpreter(free_indices(roots), variables).run(roots, {}, frozenset())
    return [done[root] for root in roots]


class _Interpreter:
    def __init__(self, free: Mapping[Value, Loops], variables: Mapping[str, Array]) -> None:
        self.free, self.variables = free, variables

    def run(
        self, roots: Iterable[Value], done: dict[Value, Array], inside: Loops
    ) -> dict[Value, Array]:
        """Evaluate whatever the roots need and the open loops determine."""
        done = dict(done)
        for value in topological(roots, known=done.keys()):
            if self.free[value] <= inside:
                done[value] = self.evaluate(value, done, inside)
        return done

    def evaluate(self, value: Value, done: dict[Value, Array], inside: Loops) -> Array:
        match value.op:
            case "variable":
                array = np.asarray(self.variables[value["name"]], dtype=value.type.numpy)
                if array.shape[-1] != value.dim:
                    name = value["name"]
                    raise ValueError(f"{name} has {array.shape[-1]} components, not {value.dim}")
                return array
            case "constant":
                return np.array([value["value"]], dtype=value.type.numpy)
            case "constants":
                return np.asarray(entries_of(value))
            case "broadcast":
                array = done[value.args[0]]
                return np.broadcast_to(array, (*array.shape[:-1], value.dim))
            case "component":
                vector, *position = (done[arg] for arg in value.args)
                if not position:
                    return vector[..., value["position"] : value["position"] + 1]
                return OPERATIONS["gather"].value(vector, *position)
            case "from_elements":
                return _stack([done[arg] for arg in value.args])
            case "contraction":
                a, b = (done[arg] for arg in value.args)
                return np.asarray(np.sum(a * b, axis=-1, keepdims=True))
            case "update":
                state, factor, vector = (done[arg] for arg in value.args)
                return np.asarray(state + factor * vector)
            case "fold":
                return self.fold(value, done, inside)
            case "map":
                return self.map(value, done, inside)
            case "scan":
                return self.scan(value, done, inside)
        args = [done[arg] for arg in value.args]
        result = OPERATIONS[value.op].value(*args, **dict(value.attrs))
        return np.asarray(result, dtype=value.type.numpy)

    def fold(self, value: Value, done: dict[Value, Array], inside: Loops) -> Array:
        initial, following, before, counter = value.args
        inside = inside | {loop_of(counter)}
        state = done[initial]
        for k in range(counter["extent"]):
            known = {**done, counter: np.array([k]), before: state}
            state = self.run([following], known, inside)[following]
        return state

    def map(self, value: Value, done: dict[Value, Array], inside: Loops) -> Array:
        element, counter = value.args
        inside = inside | {loop_of(counter)}
        made = []
        for k in range(counter["extent"]):
            known = {**done, counter: np.array([k])}
            made.append(self.run([element], known, inside)[element])
        return _stack(made)

    def scan(self, value: Value, done: dict[Value, Array], inside: Loops) -> Array:
        element, before, counter = value.args
        inside = inside | {loop_of(counter)}
        made: list[Array] = []
        for k in range(counter["extent"]):
            missing = [np.full(1, np.nan if k else 0, value.type.numpy)] * (value.dim - k)
            known = {**done, counter: np.array([k]), before: _stack(made + missing)}
            made.append(self.run([element], known, inside)[element])
        return _stack(made)


def _stack(scalars: list[Array]) -> Array:
    leading = np.broadcast_shapes(*(scalar.shape[:-1] for scalar in scalars))
    return np.concatenate([np.broadcast_to(s, (*leading, 1)) for s in scalars], axis=-1)
