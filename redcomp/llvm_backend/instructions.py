"""Single operations as LLVM instructions: how a target spells them.

Operands are scalars or vectors of lanes.
"""

from __future__ import annotations

from collections.abc import Sequence

from redcomp.ir import Value
from redcomp.llvm_backend.code import Code
from redcomp.llvm_backend.spelling import (
    LLVM_TYPES,
    float_of_width,
    table_text,
    vector_type,
)
from redcomp.ops.table import OPERATIONS
from redcomp.target import TABLE, Native, Target


class Instructions:
    """Writes single operations into `code`, on scalars and on vectors of `lanes`."""

    def __init__(self, code: Code, target: Target, lanes: int) -> None:
        self.code, self.target, self.lanes = code, target, lanes

    def type_of(self, dtype: str, lane: bool) -> str:
        """LLVM's name of a scalar or of a vector of lanes."""
        return vector_type(self.lanes if lane else 1, dtype)

    def splat(self, operand: str, dtype: str) -> str:
        """A vector of lanes that all hold the scalar operand."""
        scalar, vector = LLVM_TYPES[dtype], self.type_of(dtype, True)
        one = self.code.value(f"insertelement {vector} poison, {scalar} {operand}, i64 0")
        return self.code.value(
            f"shufflevector {vector} {one}, {vector} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def form(self, value: Value, lane: bool) -> str:
        """The instruction of a value, for vectors of lanes or scalars: `{}` for each operand."""
        op, result = value.op, self.type_of(value.dtype, lane)
        source, row = value.args[0].type, OPERATIONS[op]
        name = row.llvm[0 if source.is_float else 1]
        if name.startswith("llvm."):
            name, types = self.overloaded(name, value.dtype, lane), [result] * len(value.args)
            self.code.declare(result, name, types)
            return f"call {result} @{name}({', '.join([f'{type_} {{}}' for type_ in types])})"
        given = self.type_of(source.dtype, lane)
        if op == "select":
            return f"{name} {given} {{}}, {result} {{}}, {result} {{}}"
        if op == "convert":
            _, name = row.casts[source.dtype, value.dtype]
        if op in ("convert", "bitcast"):
            return f"{name} {given} {{}} to {result}"
        places = ", ".join(["{}"] * len(value.args))
        if op == "compare":
            return f"{name} {value['predicate']} {given} {places}"
        return f"{name} {result} {places}"

    def native(self, value: Value, operands: list[str], lane: bool) -> str:
        """A target's own instruction, which exists for full vectors only (or, on GPUs, scalars)."""
        native = self.target.native[value.op, value.dtype]
        dtypes = [arg.dtype for arg in value.args]
        lane = lane or self.lanes == 1
        if not lane:
            operands = [self.splat(o, dtype) for o, dtype in zip(operands, dtypes, strict=True)]
        made = [
            self._native_part(native, value, part)
            for part in self._parts(list(zip(operands, dtypes, strict=True)))
        ]
        vector = self._joined(made, value.dtype)
        if lane:
            return vector
        wide = self.type_of(value.dtype, True)
        return self.code.value(f"extractelement {wide} {vector}, i64 0")

    def _native_part(self, native: Native, value: Value, operands: list[str]) -> str:
        """One native instruction on one full vector register."""
        lanes = self.target.lanes(value.dtype)
        types, arguments = [], []
        for argument in native.arguments:
            if isinstance(argument, int):
                types.append(vector_type(lanes, value.args[argument].dtype))
                arguments.append(operands[argument])
            elif argument == TABLE:
                types.append(vector_type(lanes, value.dtype))
                arguments.append(
                    table_text(value["table"], value.args[0].dtype, value.dtype, lanes)
                )
            else:
                types.append(argument[0])
                arguments.append(argument[1])
        result = vector_type(lanes, value.dtype)
        return self.code.call(result, native.intrinsic, types, arguments)

    def _parts(self, operands: list[tuple[str, str]]) -> list[list[str]]:
        """The operands of each vector register: values of a wider dtype take several."""
        width = self.target.lanes(float_of_width(operands[0][1]))
        if width == self.lanes:
            return [[operand for operand, _ in operands]]
        return [
            [self._slice(operand, dtype, first, width) for operand, dtype in operands]
            for first in range(0, self.lanes, width)
        ]

    def _slice(self, operand: str, dtype: str, first: int, width: int) -> str:
        vector = self.type_of(dtype, True)
        mask = ", ".join(f"i32 {first + n}" for n in range(width))
        return self.code.value(
            f"shufflevector {vector} {operand}, {vector} poison, <{width} x i32> <{mask}>"
        )

    def _joined(self, parts: list[str], dtype: str) -> str:
        """Vectors one after the other; their number is a power of two."""
        width = self.target.lanes(dtype)
        while len(parts) > 1:
            type_ = f"<{width} x {LLVM_TYPES[dtype]}>"
            mask = ", ".join(f"i32 {n}" for n in range(2 * width))
            parts = [
                self.code.value(
                    f"shufflevector {type_} {a}, {type_} {b}, <{2 * width} x i32> <{mask}>"
                )
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
            width *= 2
        return parts[0]

    def overloaded(self, intrinsic: str, dtype: str, lane: bool) -> str:
        """The name of an intrinsic for operands of a type."""
        suffix = dtype if not lane or self.lanes == 1 else f"v{self.lanes}{dtype}"
        return f"{intrinsic}.{suffix}"

    def any_lane(self, truths: Sequence[str]) -> str:
        """Whether one of the truth values holds in any lane."""
        held, type_ = self.either(truths), self.type_of("i1", True)
        if self.lanes == 1:
            return held
        name = f"llvm.vector.reduce.or.v{self.lanes}i1"
        return self.code.call("i1", name, [type_], [held])

    def either(self, truths: Sequence[str]) -> str:
        """Whether one of the truth values holds, lane by lane."""
        held, type_ = truths[0], self.type_of("i1", True)
        for truth in truths[1:]:
            held = self.code.value(f"or {type_} {held}, {truth}")
        return held
