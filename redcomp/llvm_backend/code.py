"""LLVM text under construction: fresh names, blocks, loops."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from redcomp.llvm_backend.scopes import Scopes


@dataclass(slots=True)
class Loop:
    """A loop being written: its counter, the values it carries, and their next values."""

    counter: str
    carried: list[str]
    following: list[str]


# The metadata of branches that are seldom taken; others, one a kernel, count from 0.
_RARE = "!1000000"

# Instructions whose results depend on more than their text.
_IMPURE = ("load", "phi", "call", "atomicrmw", "alloca")


@dataclass(slots=True)
class Code:
    """The body of one function; all its loops have the same metadata, if any.

    An instruction whose result is at hand is not written again: that of a block which is always on
    the way to this one.
    """

    loop_metadata: str = ""
    lines: list[str] = field(default_factory=list)
    declarations: dict[str, str] = field(default_factory=dict)
    block: str = "entry"
    _names: int = 0
    _known: Scopes[str, str] = field(default_factory=Scopes)  # results by instruction

    def fresh(self) -> str:
        """A name for a value."""
        self._names += 1
        return f"%v{self._names}"

    def value(self, text: str) -> str:
        """Append an instruction, unless its result is at hand; the name of its result."""
        known = self._known.now.get(text)
        if known is not None:
            return known
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        if not text.startswith(_IMPURE):
            self._known.add(text, name)
        return name

    def line(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {text}")

    def call(
        self,
        result: str,
        name: str,
        types: Sequence[str],
        operands: Sequence[str],
        attributes: str = "",
    ) -> str:
        """The result of calling an intrinsic, which is declared; `attributes` are of the call."""
        self.declare(result, name, types)
        arguments = ", ".join([f"{t} {o}" for t, o in zip(types, operands, strict=True)])
        return self.value(f"call {result} @{name}({arguments}) {attributes}".rstrip())

    def declare(self, result: str, name: str, types: Sequence[str]) -> None:
        """Declare an intrinsic, once."""
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({', '.join(types)})"

    def table(self, text: str, align: int, space: int = 0) -> str:
        """The address of constants that the module has once, given as LLVM spells their array."""
        name = f"@table.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if name not in self.declarations:
            place = f"addrspace({space}) " if space else ""
            self.declarations[name] = f"{name} = internal {place}constant {text}, align {align}"
        return name

    def end_scheduling(self) -> None:
        """Keep LLVM's scheduler from moving instructions past here: it moves none past a label."""
        name = "llvm.codeview.annotation"
        self.declarations[name] = f"declare void @{name}(metadata)"
        self.line(f'call void @{name}(metadata !{{!"order"}})')

    def label(self, name: str) -> None:
        """Start a block."""
        self.block = name
        self.lines.append(f"{name}:")

    def load(self, type_: str, pointer: str, align: int, space: int = 0) -> str:
        """The value at a pointer of an address space."""
        return self.value(f"load {type_}, {_pointer_type(space)} {pointer}, align {align}")

    def in_space(self, pointer: str, space: int) -> str:
        """The same address as a pointer of another address space."""
        return self.value(f"addrspacecast ptr {pointer} to {_pointer_type(space)}")

    def store(self, type_: str, operand: str, pointer: str, align: int, space: int = 0) -> None:
        """Store a value at a pointer of an address space."""
        self.line(f"store {type_} {operand}, {_pointer_type(space)} {pointer}, align {align}")

    def at(self, pointer: str, type_: str, *offsets: str | int, space: int = 0) -> str:
        """The pointer moved by the sum of the offsets, counted in elements of `type_`."""
        constant = sum(offset for offset in offsets if isinstance(offset, int))
        computed = [offset for offset in offsets if not isinstance(offset, int)]
        for offset in (*computed, constant) if constant else computed:
            pointer = self.value(
                f"getelementptr inbounds {type_}, {_pointer_type(space)} {pointer}, i64 {offset}"
            )
        return pointer

    def opaque(self, pointer: str) -> str:
        """The same pointer, of which LLVM's analysis of loops does not ask how it is computed."""
        return self.call("ptr", "llvm.launder.invariant.group.p0", ["ptr"], [pointer])

    def integer(self, op: str, a: str | int, b: str | int) -> str:
        """64-bit integer arithmetic."""
        return self.value(f"{op} i64 {a}, {b}")

    def smaller(self, a: str | int, b: str | int) -> str:
        """The smaller of two 64-bit integers."""
        is_less = self.value(f"icmp slt i64 {a}, {b}")
        return self.value(f"select i1 {is_less}, i64 {a}, i64 {b}")

    def select(self, condition: str, type_: str, value: str, otherwise: str) -> str:
        """One of two values of a type."""
        return self.value(f"select i1 {condition}, {type_} {value}, {type_} {otherwise}")

    @contextmanager
    def loop(
        self,
        start: str | int,
        stop: str | int,
        step: int | str,
        carried: list[tuple[str, str]] | None = None,
        index: str = "i64",
    ) -> Iterator[Loop]:
        """for counter in range(start, stop, step); `carried` are (type, initial value) pairs.

        The body sets `following`.  After the loop the carried names hold the final values.  The
        counter and its limits are integers of type `index`.
        """
        carried = carried or []
        tag = self.fresh()[1:]
        head, body, done = f"head.{tag}", f"body.{tag}", f"done.{tag}"
        before = self.block
        self.line(f"br label %{head}")
        self.label(head)
        counter = self.fresh()
        names = [self.fresh() for _ in carried]
        place = len(self.lines)
        self.lines.extend([""] * (1 + len(carried)))
        inside = self.value(f"icmp slt {index} {counter}, {stop}")
        self.line(f"br i1 {inside}, label %{body}, label %{done}")
        self.label(body)
        loop = Loop(counter, names, list(names))
        self._known.enter()
        yield loop
        advanced = self.value(f"add nsw {index} {counter}, {step}")
        self.line(f"br label %{head}{self.loop_metadata and f', !llvm.loop {self.loop_metadata}'}")
        latch = self.block
        self.lines[place] = (
            f"  {counter} = phi {index} [ {start}, %{before} ], [ {advanced}, %{latch} ]"
        )
        for n, ((type_, initial), name) in enumerate(zip(carried, names, strict=True)):
            following = loop.following[n]
            self.lines[place + 1 + n] = (
                f"  {name} = phi {type_} [ {initial}, %{before} ], [ {following}, %{latch} ]"
            )
        self._known.leave()
        self.label(done)

    @contextmanager
    def when(
        self, condition: str, carried: Sequence[tuple[str, str]] = (), *, is_rare: bool = False
    ) -> Iterator[list[str]]:
        """If the condition holds; `carried` are (type, value otherwise) pairs.

        Where that is rare, registers are given out for the way on which it does not.  The body
        replaces the items of the list; after it they are the values of either case.
        """
        tag = self.fresh()[1:]
        then, done, before = f"then.{tag}", f"done.{tag}", self.block
        weights = f", !prof {_RARE}" if is_rare else ""
        if is_rare:
            self.declarations[_RARE] = f'{_RARE} = !{{!"branch_weights", i32 1, i32 20}}'
        self.line(f"br i1 {condition}, label %{then}, label %{done}{weights}")
        self.label(then)
        values = [operand for _, operand in carried]
        self._known.enter()
        yield values
        self._known.leave()
        last = self.block
        self.line(f"br label %{done}")
        self.label(done)
        values[:] = [
            self.value(f"phi {type_} [ {otherwise}, %{before} ], [ {value}, %{last} ]")
            for (type_, otherwise), value in zip(carried, values, strict=True)
        ]


def _pointer_type(space: int) -> str:
    return f"ptr addrspace({space})" if space else "ptr"
