"""hoist: move values that do not change with every pair out of the pair loop.

Values that depend on parameters only are computed once per call, those of i only once per row, and
those of j only once per column.  Inside a loop over the components of long vectors, such a value
becomes a vector of its own.
"""

from __future__ import annotations

from dataclasses import replace

from redcomp.ir import (
    I_BIT,
    INTEGER_OF_WIDTH,
    J_BIT,
    Hoisted,
    Kind,
    Nest,
    Type,
    Value,
    bitcast,
    compare,
    component,
    free_indices,
    indicator,
    variable,
    vector_map,
)
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

_KINDS: dict[int, tuple[Kind, str]] = {
    0: ("parameter", "uniform"),
    I_BIT: ("i", "row"),
    J_BIT: ("j", "column"),
}
_RAW = frozenset({"variable", "constant", "index"})


@compiler_pass
def hoist(nest: Nest, context: Context) -> Nest:
    """Split the steps into what varies with the pair and what is prepared before.

    Elements of long vectors are computed at each pair where there is no memory for the vectors.
    """
    hoister = _Hoister(nest, context.target.hoists_vectors)
    done: dict[Value, Value] = {}
    for value in nest.pair_values:
        args = [
            done[arg]
            if arg.dependence == value.dependence or _is_raw(arg)
            else hoister.operand(arg, done[arg])
            for arg in value.args
        ]
        done[value] = value.with_args(tuple(args))
    made = replace(
        nest,
        guards=tuple(done[guard] for guard in nest.guards),
        states=tuple(replace(s, adjust=done[s.adjust], step=done[s.step]) for s in nest.states),
        uniform=tuple(hoister.hoisted["uniform"]),
        rows=tuple(hoister.hoisted["row"]),
        columns=tuple(hoister.hoisted["column"]),
    )
    return without_unused(made)


def without_unused(nest: Nest) -> Nest:
    """The nest without hoisted values that no pair needs."""
    read = set(nest.pair_values)
    if all(h.variable in read for h in nest.hoisted):
        return nest  # which knows its values
    return replace(
        nest,
        uniform=tuple(h for h in nest.uniform if h.variable in read),
        rows=tuple(h for h in nest.rows if h.variable in read),
        columns=tuple(h for h in nest.columns if h.variable in read),
        products=tuple(h for h in nest.products if h.variable in read),
        updates=tuple(h for h in nest.updates if h.variable in read),
    )


class _Hoister:
    def __init__(self, nest: Nest, hoists_vectors: bool) -> None:
        self.hoists_vectors = hoists_vectors
        self.free = free_indices(nest.pair_values)
        self.counters = {
            (value["level"], value["extent"]): value
            for value in nest.pair_values
            if value.op == "index"
        }
        self.hoisted: dict[str, list[Hoisted]] = {"uniform": [], "row": [], "column": []}
        self.known: dict[Value, Value] = {}
        self.dtype = nest.dtype

    def operand(self, arg: Value, rebuilt: Value) -> Value:
        """What is read instead of an argument that changes less often than its user: a hoisted
        variable if there can be one, else the argument, which has been rebuilt.
        """
        if arg in self.known:
            return self.known[arg]
        loops = self.free[arg]
        can_keep = self.hoists_vectors and arg.dependence and len(loops) == 1
        if loops and not can_keep:
            return rebuilt
        stored = _to_float(arg, self.dtype)
        if stored is None:
            return rebuilt
        kind, name = _KINDS[arg.dependence]
        group = self.hoisted[name]
        if not loops:
            made = variable(f"{name}{len(group)}", kind, len(group), Type(self.dtype))
            group.append(Hoisted(made, stored))
            read = made
        else:
            (loop,) = loops
            counter = self.counters[loop]
            type_ = Type(self.dtype, counter["extent"])
            made = variable(f"{name}{len(group)}", kind, len(group), type_)
            group.append(Hoisted(made, vector_map(stored, counter)))
            read = component(made, counter)
        self.known[arg] = _from_float(read, arg.dtype)
        return self.known[arg]


def _to_float(value: Value, dtype: str) -> Value | None:
    """The value in the dtype of the records that hoisted values are kept in, if it fits."""
    if value.dtype == dtype:
        return value
    if value.dtype == "i1":
        return indicator(value, dtype)
    return bitcast(value, dtype) if value.dtype == INTEGER_OF_WIDTH[dtype] else None


def _from_float(stored: Value, dtype: str) -> Value:
    """The reverse of `_to_float`."""
    if stored.dtype == dtype:
        return stored
    return compare("une", stored, 0.0) if dtype == "i1" else bitcast(stored, dtype)


def _is_raw(value: Value) -> bool:
    """Whether the value is read from memory or written into the code as it is."""
    if value.op == "component":
        vector = value.args[0]
        # A position that changes more often than its table takes a computation and a load a lane.
        is_in_memory = vector.op in ("variable", "constants")
        return is_in_memory and vector.dependence == value.dependence
    return value.op in _RAW
