"""Check the rules of the IR; an error shows the broken rule and the listing around the place.

The rules of an operation come from its row in the table; structural operations have theirs here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np

from redcomp.errors import CompilerError
from redcomp.ir import (
    BINDERS,
    BOUND,
    FACTOR_FORMATS,
    FLOATS,
    I_BIT,
    J_BIT,
    SHORT_FORMATS,
    WIDTHS,
    AnyProgram,
    Block,
    Carried,
    Kernel,
    Nest,
    Partition,
    Type,
    Value,
    factors_of,
    free_indices,
    loop_of,
    stored_of,
    topological,
)
from redcomp.ops.reductions import REDUCTIONS
from redcomp.ops.table import LIST_PARAMETERS, OPERATIONS, DtypeError, ShapeError, apply
from redcomp.text import excerpt

_Loops = frozenset[tuple[int, int]]
_INDEX = Type("index")


class _BrokenRuleError(Exception):
    """The rule that a value breaks."""


def verify(program: AnyProgram | Block) -> None:
    """Raise CompilerError if the program breaks a rule of the IR."""
    if isinstance(program, Partition):
        _check_partition(program)
    else:
        _verify(program)


def _verify(program: Kernel | Nest | Block) -> None:
    params, roots = program.params, _roots(program)
    if isinstance(program, Nest):
        params = _nest_params(program)
    everything = (*params, *roots)
    values = list(topological(everything))
    for value in values:
        try:
            _check_value(value)
        except (_BrokenRuleError, DtypeError, ShapeError) as error:
            _fail(str(error), everything, value)
    _check_variables(params, values)
    if any(value.op in BOUND for value in values):
        _check_loops(roots)
    if isinstance(program, Nest):
        _check_nest(program)
    else:
        names = [param["name"] for param in params]
        if len(set(names)) < len(names):
            raise CompilerError(f"the names of the parameters are not different: {names}")
    if isinstance(program, Kernel):
        _check_outputs(program)


def _roots(program: Kernel | Block | Nest) -> tuple[Value, ...]:
    return program.outs if isinstance(program, Block) else program.roots


def _fail(problem: str, roots: Iterable[Value], value: Value) -> NoReturn:
    raise CompilerError(f"{value.op}: {problem}\n{excerpt(roots, value)}")


def _require(condition: object, problem: str) -> None:
    if not condition:
        raise _BrokenRuleError(problem)


# Values, one at a time, whose arguments are known to be right


def _check_value(value: Value) -> None:
    rule = _STRUCTURAL.get(value.op)
    if rule is not None:
        rule(value)
    else:
        _check_operation(value)


def _check_form(value: Value, arity: int, /, **attributes: type) -> None:
    """The number of operands, and the attributes' names (which are sorted) and Python types."""
    if len(value.args) != arity:
        raise _BrokenRuleError(f"takes {arity} operands, not {len(value.args)}")
    if not attributes and not value.attrs:
        return
    names = [name for name, _ in value.attrs]
    wanted = sorted(attributes)
    if names != wanted:
        raise _BrokenRuleError(f"has the attributes {names}, not {wanted}")
    for name, attribute in value.attrs:
        if type(attribute) is not attributes[name]:
            kind = attributes[name].__name__
            raise _BrokenRuleError(f"the attribute {name!r} is {attribute!r}, not of type {kind}")
        if isinstance(attribute, tuple) and any(type(item) is not int for item in attribute):
            raise _BrokenRuleError(f"the attribute {name!r} holds other things than integers")


def _check_operation(value: Value) -> None:
    row = OPERATIONS.get(value.op)
    if row is None or row.definition is not None:
        raise _BrokenRuleError("no operation of the IR has this name")
    if row.parameters:
        forms = {name: tuple if name in LIST_PARAMETERS else int for name in row.parameters}
        _check_form(value, row.arity, **forms)
    else:
        _check_form(value, row.arity, **row.typing.attributes)
    operands = value.args[slice(*row.typing.alike)]
    dtype = operands[0].dtype
    if any(operand.dtype != dtype for operand in operands):
        raise _BrokenRuleError(f"has operands of types {', '.join(str(a.type) for a in operands)}")
    # No MLIR name for floats but one for integers: an operation on bits.
    if row.mlir[1] and not row.mlir[0] and dtype in FLOATS:
        raise _BrokenRuleError(f"takes integers, not {dtype}")
    _require(row.takes(dtype), f"takes {', '.join(row.dtypes)}, not {dtype}")
    rule = row.typing.result
    first = value.args[0].type
    if rule is None and row.shape is None and all(arg.type == first for arg in value.args):
        _check_type(
            value, first
        )  # the most frequent case, for which `apply` costs most of the time
    else:
        dim = apply(row.name, *value.args, **dict(value.attrs)).dim
        _check_type(value, Type(rule(value) if rule else dtype, dim))


def _check_type(value: Value, expected: Type) -> None:
    if value.type != expected:
        raise _BrokenRuleError(f"has a result of type {value.type}, not {expected}")


def _check_variable(value: Value) -> None:
    stored = {"stored": str} if stored_of(value) else {}
    _check_form(value, 0, kind=str, name=str, position=int, **stored)
    _require(value["position"] >= 0, "has a negative position")
    _check_format(value, stored_of(value) or value.dtype, SHORT_FORMATS)


def _check_constant(value: Value) -> None:
    _check_form(value, 0, value=float if value.type.is_float else int)
    _check_type(value, Type(value.dtype))
    number = value["value"]
    if value.type.is_float:
        with np.errstate(over="ignore"):
            rounded = float(value.type.numpy(number))
        _require(rounded == number or math.isnan(number), f"{number!r} is not rounded")
        return
    bits = WIDTHS.get(value.dtype, 64)
    low, high = (0, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    _require(low <= number <= high, f"{number} does not fit into {value.dtype}")


def _check_constants(value: Value) -> None:
    _check_form(value, 0, table=tuple)
    _require(value.type.is_float, f"holds floats, not {value.dtype}")
    _check_type(value, Type(value.dtype, max(1, len(value["table"]))))
    half = 2 ** (WIDTHS[value.dtype] - 1)
    _require(all(-half <= bits < half for bits in value["table"]), "has entries of other widths")


def _check_index(value: Value) -> None:
    _check_form(value, 0, extent=int, level=int)
    _check_type(value, _INDEX)
    _require(value["extent"] >= 1, "has an extent below 1")
    _require(value["level"] >= 0, "has a negative level")


def _check_broadcast(value: Value) -> None:
    _check_form(value, 1)
    (scalar,) = value.args
    _require(scalar.dim == 1, f"repeats a scalar, not {scalar.type}")
    _check_type(value, Type(scalar.dtype, value.dim))


def _check_component(value: Value) -> None:
    vector, *position = value.args or (value,)
    if position:
        _check_form(value, 2)
        _require(position[0].type == _INDEX, "has a position that is no index")
        is_variable = vector.op == "variable"
        is_table = is_variable and (not vector.dependence or vector["kind"] == "total")
        _require(
            is_table or not position[0].dependence,
            "has a position that changes with rows or columns, in no parameter and no total",
        )
    else:
        _check_form(value, 1, position=int)
        _require(0 <= value["position"] < vector.dim, "has a position outside of the vector")
    _check_type(value, Type(vector.dtype))


def _check_from_elements(value: Value) -> None:
    _check_form(value, max(1, len(value.args)))
    for element in value.args:
        _require(element.type == Type(value.dtype), f"has an element of type {element.type}")
    _check_type(value, Type(value.dtype, len(value.args)))


def _check_format(value: Value, format: str, short: Sequence[str]) -> None:
    """The format of numbers is the dtype, or one of some shorter ones."""
    is_short = value.dtype == "f32" and format in short
    _require(format == value.dtype or is_short, f"has numbers of the format {format!r}")


def _check_product(value: Value, arity: int) -> None:
    has_own = factors_of(value) != value.dtype
    _check_form(value, arity, **({"factors": str} if has_own else {}))
    _check_format(value, factors_of(value), FACTOR_FORMATS)


def _check_contraction(value: Value) -> None:
    _check_product(value, 2)
    a, b = value.args
    _require(a.type == b.type, f"contracts {a.type} with {b.type}")
    for vector in value.args:
        _require(vector.dependence != I_BIT | J_BIT, "has a vector that changes with every pair")
    _check_type(value, Type(a.dtype))


def _check_update(value: Value) -> None:
    _check_product(value, 3)
    state, factor, vector = value.args
    _require(state.op == "variable" and state["kind"] == "state", "updates what is no state")
    _require(factor.type == Type(state.dtype), f"multiplies by {factor.type}")
    _require(vector.op == "variable" and vector["kind"] == "update", "adds what is no update")
    _require(vector.type == state.type, f"adds {vector.type} to {state.type}")
    _check_type(value, state.type)


def _check_map(value: Value) -> None:
    _check_form(value, 2)
    element, counter = value.args
    _require(counter.op == "index", "counts by no index")
    _require(element.dim == 1, f"needs scalar elements, not {element.type}")
    _check_type(value, Type(element.dtype, counter["extent"]))


def _check_earlier(value: Value) -> None:
    _check_form(value, 0, extent=int, level=int)
    _check_type(value, Type(value.dtype, value["extent"]))


def _check_so_far(value: Value) -> None:
    _check_form(value, 0, dependence=int, extent=int, level=int)
    _require(0 <= value["dependence"] <= I_BIT | J_BIT, "depends on what there is not")
    _check_type(value, Type(value.dtype))


def _check_scan(value: Value) -> None:
    _check_form(value, 3)
    element, before, counter = value.args
    _require(counter.op == "index", "counts by no index")
    _require(before.op == "earlier", "has no name for what it has made")
    _require(loop_of(before) == loop_of(counter), "reads what another loop makes")
    _require(element.type == Type(value.dtype), f"has an element of type {element.type}")
    _check_type(value, before.type)


def _check_fold(value: Value) -> None:
    _check_form(value, 4)
    initial, following, before, counter = value.args
    _require(counter.op == "index", "counts by no index")
    _require(before.op == "so_far", "has no name for what it has come to")
    _require(loop_of(before) == loop_of(counter), "reads what another loop comes to")
    for state in (initial, following, before):
        _require(state.type == Type(value.dtype), f"has a state of type {state.type}")
        _require(not state.dependence & ~before.dependence, "changes with more than its state says")
    _check_type(value, before.type)


_STRUCTURAL: Mapping[str, Callable[[Value], None]] = {
    "variable": _check_variable,
    "constant": _check_constant,
    "constants": _check_constants,
    "index": _check_index,
    "broadcast": _check_broadcast,
    "component": _check_component,
    "from_elements": _check_from_elements,
    "contraction": _check_contraction,
    "update": _check_update,
    "map": _check_map,
    "earlier": _check_earlier,
    "so_far": _check_so_far,
    "scan": _check_scan,
    "fold": _check_fold,
}


# The program as a whole


def _check_variables(params: Sequence[Value], values: Sequence[Value]) -> None:
    """Parameters are different variables, and no others are read; equal structure is the same."""
    known = set()
    for param in params:
        if param.op != "variable":
            _fail("a parameter must be a variable", params, param)
        key = (param.attrs, param.type)
        if key in known:
            _fail("is a parameter twice", params, param)
        known.add(key)
    for value in values:
        if value.op == "variable" and (value.attrs, value.type) not in known:
            _fail("is no parameter", values, value)


def _check_loops(roots: Sequence[Value]) -> None:
    """Every index is bound by the loops around it, and loops inside each other differ."""
    free = free_indices(roots)
    for value in topological(roots):
        if value.op == "fold" and loop_of(value.args[-1]) in free[value.args[0]]:
            _fail("starts from a value that depends on its own index", roots, value)
    for root in roots:
        if free[root]:
            _fail(f"depends on the indices {sorted(free[root])} outside of loops", roots, root)
    _Nesting(roots, free).walk(roots, frozenset())


class _Nesting:
    """Goes through the regions as the printer does, to see which loops are open where."""

    def __init__(self, roots: Sequence[Value], free: Mapping[Value, _Loops]) -> None:
        self.roots, self.free = roots, free
        self.done: set[Value] = set()

    def walk(self, roots: Sequence[Value], opened: _Loops) -> None:
        mine = []
        for value in topological(roots, known=self.done):
            if not self.free[value] <= opened:
                continue
            if value.op in BINDERS:
                loop = loop_of(value.args[-1])
                if loop in opened:
                    _fail("stands in a loop of the same level and extent", self.roots, value)
                body = value.args[1:-1] if value.op == "fold" else value.args[:-1]
                self.walk(body, opened | {loop})
            self.done.add(value)
            mine.append(value)
        if opened:
            self.done.difference_update(mine)


def _check_partition(partition: Partition) -> None:
    """Parts follow the rules of nests, and each component of a result is in one piece."""
    # First components and those after the last, as results may have millions of components.
    intervals: dict[int, list[tuple[int, int]]] = {}
    dims: dict[int, int] = {}
    for part in partition.parts:
        _verify(part.nest)
        if len(part.pieces) != len(part.nest.results):
            raise CompilerError("a part needs one piece for each of its nest's results")
        for piece, result in zip(part.pieces, part.nest.results, strict=True):
            if dims.setdefault(piece.result, piece.dim) != piece.dim:
                raise CompilerError(f"{piece} does not fit the other pieces")
            own = intervals.setdefault(piece.result, [])
            own.append((piece.first, piece.first + result.dim))
    if [*sorted(intervals)] != [*range(len(intervals))]:
        raise CompilerError("the pieces do not make up whole results")
    for number, own in intervals.items():
        end = 0
        for first, next_end in sorted(own):
            if first < end:
                raise CompilerError(f"a piece of result {number} does not fit the other pieces")
            if first > end:
                raise CompilerError("the pieces do not make up whole results")
            end = next_end
        if end != dims[number]:
            raise CompilerError("the pieces do not make up whole results")


def _check_outputs(kernel: Kernel) -> None:
    for output in kernel.outputs:
        value, scale = output.value, output.scale
        if output.reduction not in REDUCTIONS:
            _fail(f"{output.reduction!r} is no reduction", kernel.roots, value)
        problem = REDUCTIONS[output.reduction].problem(value.dim, output.count)
        if problem:
            _fail(problem, kernel.roots, value)
        if scale is None:
            continue
        first = REDUCTIONS[output.reduction].linear_from
        if first is None:
            _fail("is a scale of a reduction that is not linear", kernel.roots, scale)
        if scale.dependence & J_BIT:
            _fail("is a scale that depends on j", kernel.roots, scale)
        if scale.dtype != value.dtype or (
            scale.dim != value.dim - first and 1 not in (scale.dim, value.dim - first)
        ):
            _fail(f"is a scale of type {scale.type} for {value.type}", kernel.roots, scale)


def _nest_params(nest: Nest) -> tuple[Value, ...]:
    hoisted = tuple(h.variable for h in nest.hoisted)
    states, totals, others = (
        tuple(getattr(state, part) for state in nest.states)
        for part in ("variable", "total", "other")
    )
    return nest.params + states + totals + others + hoisted


def _check_nest(nest: Nest) -> None:
    for guard in nest.guards:
        if guard.type != Type("i1"):
            _fail(f"is a guard of type {guard.type}, not i1", nest.roots, guard)
    for state in nest.states:
        _check_state(nest, state)
    if len({s.variable.dtype for s in nest.states if s.variable.type.is_float}) != 1:
        raise CompilerError("the nest's states that are floats have no dtype in common")
    if len(nest.joins) not in (0, len(nest.states)):
        raise CompilerError("some of the nest's states have a join, and others none")
    for hoisted in nest.hoisted:
        name, definition = hoisted.variable["name"], hoisted.definition
        if definition.type != hoisted.variable.type:
            _fail(f"is hoisted as {name}, of another type", nest.roots, definition)
        if definition.dependence & ~hoisted.variable.dependence:
            _fail(f"changes inside of the loop of {name}", nest.roots, definition)
    for product in nest.products:
        definition = product.definition
        if definition.op != "contraction":
            _fail("defines a product and is no contraction", nest.roots, definition)
        if [
            v.dependence & ~own for v, own in zip(definition.args, (I_BIT, J_BIT), strict=True)
        ] != [0, 0]:
            _fail("is no product of a row with a column", nest.roots, definition)


def _check_state(nest: Nest, state: Carried) -> None:
    own, total = state.variable, state.total
    name = own["name"]
    parts = {
        "start": (state.start, own),
        "adjust": (state.adjust, own),
        "step": (state.step, own),
        "merge": (state.merge, total),
        "join": (state.join or total, total),
        "other": (state.other, total),
    }
    for part, (value, replaced) in parts.items():
        if value.type != replaced.type:
            _fail(
                f"is the {part} of {name} and of type {value.type}, not {replaced.type}",
                nest.roots,
                value,
            )
    if state.adjust is not own and not nest.guards:
        _fail(f"adjusts {name}, and there are no guards", nest.roots, state.adjust)
