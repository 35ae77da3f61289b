"""Which pipes of a multiprocessor the operations of a pair take, from the table of operations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from redcomp.ir import I_BIT, J_BIT, STRUCTURAL, Nest, Value, factors_of, topological
from redcomp.ops.table import OPERATIONS, Unit
from redcomp.ptx.mma import PRODUCTS, UPDATES
from redcomp.ptx.multiprocessor import ALU, FMA, FP64, ISSUE, XU, Multiprocessor

# The pipe of each unit, for float32, float64, and all other dtypes; none for what is no instruction
# of its own.
_PIPES: Mapping[Unit, tuple[str, str, str]] = {
    "arithmetic": (FMA, FP64, ALU),
    "comparison": (ALU, FP64, ALU),
    "selection": (ALU, ALU, ALU),
    "logic": (ALU, ALU, ALU),
    "special": (XU, XU, XU),
    "rounding": (XU, XU, XU),
    "conversion": (XU, XU, XU),
    "operand": ("", "", ""),
}
_COLUMNS = {"f32": 0, "f64": 1}

# Of integer operations the assembler joins two, such as a shift and a sum, on either of two pipes.
_OF_INTEGERS = 0.5


def unit_of(value: Value) -> Unit:
    """What computes a value that is not structural."""
    return OPERATIONS[value.op].unit


def pipe_of(value: Value) -> str:
    """The pipe that an operation takes; "" if it is part of another instruction."""
    dtype = value.args[0].dtype if value.op == "compare" else value.dtype
    return _PIPES[unit_of(value)][_COLUMNS.get(dtype, 2)]


def least_work(nest: Nest, limits: Multiprocessor) -> Mapping[str, float]:
    """Instructions that a pair takes at least on each pipe, and on `ISSUE` in all.

    It is a bound, so only what differs from pair to pair counts: the rest can be shared by the rows
    and columns of a step.  And what an assembler can join to one instruction counts as one.
    """
    pair = _Pair(nest, limits)
    work = defaultdict(float, {ISSUE: 0.0})
    for value in pair.values:
        if value.op not in STRUCTURAL and value in pair.differing:
            count = pair.least(value)
            work[ISSUE] += count
            pipe = pair.certain_pipe(value)
            if pipe:
                work[pipe] += count
    for pipe, count in of_matrices(nest).items():
        work[ISSUE] += count
        work[pipe] += count
    return work


def of_matrices(nest: Nest) -> Mapping[str, float]:
    """The instructions of a pair that multiply matrices, by pipe."""
    work: defaultdict[str, float] = defaultdict(float)
    for h in nest.products:
        product = PRODUCTS[factors_of(h.definition)]
        work[product.pipe] += product.instructions(h.definition.args[0].dim)
    for step in [state.step for state in nest.states if state.step.op == "update"]:
        product = UPDATES[factors_of(step)]
        work[product.pipe] += product.update_instructions(step.dim)
    return work


class _Pair:
    """What is computed for a pair, where nothing is adjusted."""

    def __init__(self, nest: Nest, limits: Multiprocessor) -> None:
        self.limits = limits
        self.guards = frozenset(nest.guards)
        ends = (*nest.guards, *[state.step for state in nest.states])
        self.values = list(topological(ends))
        self.differing = _differing(nest)
        self.uses = Counter(ends)
        self.extremes: set[Value] = set()
        self.choices: set[Value] = set()
        self.signs = Counter(v.args[0] for v in self.values if _asks_sign(v))
        for value in self.values:
            self.uses.update(value.args)
            if self._is_choice(value):
                self.choices.add(value)
        for value in filter(self._is_extreme, self.values):
            self.extremes |= {value, value.args[0]}
        self.counted: set[tuple[str, tuple[object, ...]]] = set()

    def certain_pipe(self, value: Value) -> str:
        """The pipe of an operation; "" where the assembler may choose another one."""
        unit = unit_of(value)
        if unit == "selection" or not _computes_floats(value):
            return ""
        if value.op == "divide" and value.args[1] not in self.differing:
            return _PIPES["arithmetic"][_COLUMNS[value.dtype]]
        return pipe_of(value)

    def least(self, value: Value) -> float:
        """Instructions that an operation adds at least; the same one costs nothing again."""
        unit = unit_of(value)
        if unit == "operand" or value in self.choices or self._is_repeated(value):
            return 0.0
        if unit == "selection" and self._is_joined(value):
            return 0.0
        if unit in ("rounding", "conversion") and _is_joined_conversion(value):
            return 0.0
        if unit == "comparison" and not self.choices.isdisjoint(value.args):
            return 0.0
        if unit == "comparison" and self.limits.joins_extremes:
            return 0.5 if value in self.extremes or value in self.guards else 1.0
        if value.op == "subtract" and self.signs[value] == self.uses[value]:
            return 0.0  # what is compared are its operands
        if value.dtype == "i1" and unit == "logic":  # a comparison's second operand
            return 0.0
        return 1.0 if _computes_floats(value) else _OF_INTEGERS

    def _is_repeated(self, value: Value) -> bool:
        """Whether a comparison of these operands, or a division by this one, has been counted."""
        if unit_of(value) not in ("comparison", "special"):
            return False
        operands = value.args[1:] if value.op == "divide" else value.args
        key = (unit_of(value), tuple(map(_identity, operands)))
        is_repeated = key in self.counted
        self.counted.add(key)
        return is_repeated

    def _is_joined(self, selection: Value) -> bool:
        """Whether a selection can be part of an instruction that is counted.

        As a minimum, with the comparison of its values; as a predicate of the only use of one of
        them.  One that is made once a row is made outside of the loop.
        """
        condition, *values = selection.args
        return (
            selection in self.extremes
            or condition not in self.differing
            or any(self._can_be_predicated(value) for value in values)
        )

    def _is_choice(self, value: Value) -> bool:
        """Whether a value is one of two numbers, into which what is computed of it can be moved."""
        if value.op in STRUCTURAL or value.dtype == "i1":
            return False
        values = value.args[1:] if unit_of(value) == "selection" else value.args
        return all(v.is_constant or v.dtype == "i1" or v in self.choices for v in values)

    def _can_be_predicated(self, value: Value) -> bool:
        if value.op in STRUCTURAL or self.uses[value] > 1:
            return False
        return unit_of(value) != "selection" or value in self.extremes

    def _is_extreme(self, selection: Value) -> bool:
        """Whether a selection is between what its comparison compares, and nothing else asks it."""
        if selection.op in STRUCTURAL or unit_of(selection) != "selection":
            return False
        condition, *values = selection.args
        is_alone = condition.op == "compare" and self.uses[condition] == 1
        return is_alone and {*map(_identity, values)} == {*map(_identity, condition.args)}


def _identity(value: Value) -> object:
    """Equal for the same value and for equal constants."""
    return (value.dtype, repr(value["value"])) if value.is_constant else value


def _asks_sign(value: Value) -> bool:
    return value.op == "compare" and value.args[1].is_constant and value.args[1]["value"] == 0


def _computes_floats(value: Value) -> bool:
    return value.args[-1].type.is_float


def _is_joined_conversion(value: Value) -> bool:
    """Whether a rounding or a conversion can be part of another instruction.

    Of a rounding it rounds again; truth values select, and integers become longer or shorter.
    """
    source = value.args[0]
    if source.op not in STRUCTURAL and unit_of(source) == "rounding":
        return True
    return not source.type.is_float and (source.dtype == "i1" or not value.type.is_float)


def _differing(nest: Nest) -> set[Value]:
    """The values that depend on the row and on the column.

    States do if what they are made from does: the number of columns so far is the same for all
    rows.
    """
    known = dict.fromkeys((state.variable for state in nest.states), 0)
    while True:
        found: dict[Value, int] = {}
        for value in topological(nest.pairs):
            own = known.get(value, value.dependence if not value.args else 0)
            for arg in value.args:
                own |= found[arg]
            found[value] = own
        made = dict(known)
        for state in nest.states:
            made[state.variable] |= found[state.adjust] | found[state.step]
        if made == known:
            return {value for value, bits in found.items() if bits == I_BIT | J_BIT}
        known = made
