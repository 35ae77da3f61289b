"""The printer: a topological listing in which every loop has a region."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import chain
from typing import Any

from redcomp.errors import CompilerError
from redcomp.ir import (
    BINDERS,
    BOUND,
    AnyProgram,
    Block,
    Kernel,
    Nest,
    Part,
    Partition,
    Value,
    free_indices,
    loop_of,
    shared,
    stored_of,
    topological,
)
from redcomp.text.spelling import (
    BLOCK,
    DIALECT,
    KERNEL,
    NEST,
    NEST_CARRIED,
    NEST_COMPUTED,
    NEST_HOISTED,
    PART,
    PARTITION,
    PIECES,
    YIELD,
    Spelling,
    attribute_text,
    attributes_text,
    number_text,
    spell,
    string_text,
    type_text,
)

_Loops = frozenset[tuple[int, int]]
_OUTERMOST: _Loops = frozenset()


def print_kernel(kernel: Kernel) -> str:
    """The kernel as one `redcomp.kernel` operation, which yields the values and then the scales."""
    lists = (
        ("counts", attribute_text(tuple(o.count for o in kernel.outputs))),
        ("reductions", _array([string_text(o.reduction) for o in kernel.outputs])),
        ("scaled", _array(["false" if o.scale is None else "true" for o in kernel.outputs])),
    )
    return _Printer(kernel.params, kernel.roots).program(KERNEL, lists)


def print_block(block: Block) -> str:
    """The block as one `redcomp.block` operation."""
    return _Printer(block.params, block.outs).program(BLOCK, ())


def print_nest(nest: Nest) -> str:
    """The nest as one `redcomp.nest` operation, its parts in the order of `NEST_*`.

    Its arguments are the parameters, what the loops carry, and the hoisted variables; it yields
    what the loops compute, and the hoisted definitions.
    """
    states = nest.states
    carried: list[Sequence[Value]] = [
        [s.variable for s in states],
        [s.total for s in states],
        [s.other for s in states],
    ]
    computed: list[Sequence[Value]] = [
        [s.start for s in states],
        nest.guards,
        [s.adjust for s in states] if nest.guards else (),
        [s.step for s in states],
        [s.merge for s in states],
        nest.joins,
        nest.results,
    ]
    moved = [nest.uniform, nest.rows, nest.columns, nest.products, nest.updates]
    hoisted = [h for group in moved for h in group]
    params = (*nest.params, *chain(*carried), *(h.variable for h in hoisted))
    roots = (*chain(*computed), *(h.definition for h in hoisted))
    initial = ", ".join(number_text(x, "f64").split()[0] for x in [s.initial for s in states])
    lists = [("initial", f"array<f64: {initial}>" if initial else "array<f64>")]
    names = (*NEST_CARRIED, *NEST_COMPUTED, *NEST_HOISTED)
    for name, group in zip(names, (*carried, *computed, *moved), strict=True):
        lists.append((name, attribute_text(len(group))))
    return _Printer(params, roots).program(NEST, lists)


def print_partition(partition: Partition) -> str:
    """The partition as one `redcomp.partition` operation of `redcomp.part`s, each of one nest."""
    parts = "".join(_part(part) for part in partition.parts)
    return f'"{PARTITION}"() ({{\n{_indented(parts)}}}) : () -> ()\n'


def _part(part: Part) -> str:
    numbers = zip(*map(astuple, part.pieces), strict=True)
    attributes = attributes_text([*zip(PIECES, numbers, strict=True)])
    nest = _indented(print_nest(part.nest))
    return f'"{PART}"() ({{\n{nest}}}){attributes} : () -> ()\n'


def _indented(text: str) -> str:
    return "".join(f"  {line}" for line in text.splitlines(keepends=True))


def print_program(program: AnyProgram | Block) -> str:
    """Any of them, by its type."""
    return str(_PRINTERS[type(program)](program))


_PRINTERS: Mapping[type, Callable[[Any], str]] = {
    Block: print_block,
    Kernel: print_kernel,
    Nest: print_nest,
    Partition: print_partition,
}


def same_kernel(a: Kernel, b: Kernel) -> bool:
    """Whether two kernels are equal: same parameters, same outputs, same structure."""
    return print_kernel(a) == print_kernel(b)


def excerpt(roots: Iterable[Value], culprit: Value, around: int = 2) -> str:
    """The listing near a value and its arguments, for errors.

    It has no regions and only the IR's own names, so that it can show IR that breaks every rule.
    """
    values = list(topological(roots))
    place = next((k for k, value in enumerate(values) if value is culprit), len(values))
    near = set(values[max(0, place - around) : place + around + 1])
    shown = near | set(culprit.args)
    names = {value: str(k) for k, value in enumerate(values)}
    lines, skipped = [], False
    for value in values:
        if value not in shown:
            skipped = True
            continue
        line = _line(value, names, (DIALECT + value.op, attributes_text(value.attrs)))
        mark = "> " if value is culprit else "  "
        lines += ["  ..."] * skipped + [f"{mark}%{names[value]} = {line}"]
        skipped = False
    return "\n".join(lines)


class _Printer:
    def __init__(self, params: Sequence[Value], roots: Sequence[Value]) -> None:
        ends, self.values = _share((*params, *roots))
        self.params, self.roots = ends[: len(params)], ends[len(params) :]
        has_loops = any(value.op in BOUND for value in self.values)
        self.free = free_indices(self.roots) if has_loops else {}
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.lines: list[str] = []
        self.count = 0
        for root in self.roots:
            if self.free.get(root, _OUTERMOST):
                raise CompilerError(f"{root.op} depends on a loop's index outside of the loop")
        for param in self.params:
            if param.op != "variable" or param in self.names:
                raise CompilerError(f"the parameters must be different variables, not {param}")
            self.names[param] = self.fresh(re.sub(r"\W", "_", param["name"], flags=re.ASCII))

    def fresh(self, wanted: str) -> str:
        """An identifier of MLIR's, not visible yet; values have numbers instead."""
        base = wanted if wanted and not wanted[0].isdigit() else f"_{wanted}"
        name, k = base, 0
        while name in self.taken:
            k += 1
            name = f"{base}_{k}"
        self.taken.add(name)
        return name

    def program(self, name: str, lists: Sequence[tuple[str, str]]) -> str:
        params = self.params
        described = (
            ("kinds", _array([string_text(p["kind"]) for p in params])),
            ("names", _array([string_text(p["name"]) for p in params])),
            ("positions", attribute_text(tuple(p["position"] for p in params))),
            *self._stored(),
        )
        header = ", ".join(f"%{self.names[p]}: {type_text(p.type)}" for p in params)
        self.lines = [f'"{name}"() ({{', f"^bb0({header}):"]
        self.region(self.values, self.roots, _OUTERMOST, "  ")
        attributes = ", ".join(f"{key} = {text}" for key, text in sorted((*described, *lists)))
        self.lines.append(f"}}) {{{attributes}}} : () -> ()\n")
        return "\n".join(self.lines)

    def _stored(self) -> Iterator[tuple[str, str]]:
        """The formats of parameters' numbers, if some are shorter than their dtypes."""
        formats = [stored_of(p) for p in self.params]
        if any(formats):
            yield "stored", _array([string_text(each) for each in formats])

    def region(
        self, values: Iterable[Value], roots: Sequence[Value], opened: _Loops, indent: str
    ) -> list[Value]:
        """Print what the roots need and the open loops determine; what is printed."""
        names, free, lines = self.names, self.free, self.lines
        printed = []
        for value in values:
            inside = free.get(value, _OUTERMOST)
            if value in names or (inside and not inside <= opened):
                continue
            if value.op in BINDERS:
                text = self.loop(value, opened, indent)
            else:
                if value.op == "variable":
                    raise CompilerError(f"the parameters lack the variable {value['name']!r}")
                text = _line(value, names, spell(value))
            names[value] = str(self.count)
            printed.append(value)
            lines.append(f"{indent}%{self.count} = {text}")
            self.count += 1
        operands = ", ".join([f"%{names[root]}" for root in roots])
        types = ", ".join([type_text(root.type) for root in roots])
        lines.append(f'{indent}"{YIELD}"({operands}) : ({types}) -> ()')
        return printed

    def loop(self, value: Value, opened: _Loops, indent: str) -> str:
        """The text of a loop, whose region is printed apart since its number comes after theirs."""
        *operands, counter = value.args
        initial = operands[:1] if value.op == "fold" else []
        outside, self.lines = self.lines, []
        name = self.names[counter] = self.fresh("k")
        roots = operands[len(initial) :]
        needed = topological(roots, known=self.names)
        inner = self.region(needed, roots, opened | {loop_of(counter)}, indent + "  ")
        body, self.lines = "\n".join(self.lines), outside
        for local in (counter, *inner):
            del self.names[local]
        self.taken.remove(name)
        attributes = attributes_text((*value.attrs, *counter.attrs))
        arguments = ", ".join(f"%{self.names[a]}" for a in initial)
        types = ", ".join(type_text(a.type) for a in initial)
        return (
            f'"{DIALECT}{value.op}"({arguments}) ({{\n{indent}^bb0(%{name}: index):\n{body}\n'
            f"{indent}}}){attributes} : ({types}) -> {type_text(value.type)}"
        )


def _share(roots: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """The roots with one object for all values of equal structure; all those values, in order."""
    known = shared(roots)
    return [known[root] for root in roots], list(dict.fromkeys(known.values()))


def _line(value: Value, names: Mapping[Value, str], spelling: Spelling) -> str:
    operands = ", ".join([f"%{names[arg]}" for arg in value.args])
    types = ", ".join([type_text(arg.type) for arg in value.args])
    return f'"{spelling[0]}"({operands}){spelling[1]} : ({types}) -> {type_text(value.type)}'


def _array(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"
