"""A smaller case that fails like a given one: needs PyTorch, no backend."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from random_cases import Blocks, Case, Program, Reduced


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float = 60.0) -> Case:
    """The smallest case that single steps lead to, all of which fail, in the time."""
    deadline = time.monotonic() + seconds
    candidates = smaller(case)
    for candidate in candidates:
        if time.monotonic() > deadline:
            break
        if fails(candidate):
            return shrink(candidate, fails, deadline - time.monotonic())
    return case


def smaller(case: Case) -> Iterator[Case]:
    """Cases that are one step simpler; some may be no valid ones."""
    yield from (_with_program(case, program) for program in _smaller_programs(case.program))
    plain = {"has_ties": False, "is_strided": False, "checks_numpy": False, "blocks": None}
    for name, value in plain.items():
        if getattr(case, name) != value:
            yield replace(case, **{name: value})
    if any(case.batches):
        yield replace(case, batches=tuple(batch[1:] for batch in case.batches))
        yield replace(case, batches=tuple((1,) * len(batch) for batch in case.batches))
    if case.blocks is not None:
        yield from (replace(case, blocks=blocks) for blocks in _smaller_blocks(case.blocks))
    else:
        for name in ("rows", "columns"):
            size = getattr(case, name)
            numbers = sorted({n for n in (0, 1, 2, 3, size // 2, size - 1) if 0 <= n < size})
            yield from (replace(case, **{name: n}) for n in numbers)


def _with_program(case: Case, program: Program) -> Case:
    """The case with another program, which may have fewer arguments."""
    batches = dict(zip(case.program.arguments, case.batches, strict=True))
    kinds = {a.kind for a in program.arguments}
    return replace(
        case,
        program=program,
        batches=tuple(batches[a] for a in program.arguments),
        rows=case.rows if "Vi" in kinds else 1,
        columns=case.columns if "Vj" in kinds else 1,
    )


def _smaller_programs(program: Program) -> Iterator[Program]:
    results = program.results
    if len(results) > 1:
        yield from (replace(program, results=(r,)) for r in results)
        yield from (replace(program, results=results[:n] + results[n + 1 :]) for n in range(3))
    text = " ".join(f"{r.formula} {r.formula2}" for r in results)
    used = tuple(a for a in program.arguments if re.search(rf"\b{a.name}\b", text))
    if used and used != program.arguments:
        yield replace(program, arguments=used)
    plain = {"is_second_order": False, "options": (), "dtype": torch.float32, "axis": 1}
    for name, value in plain.items():
        if getattr(program, name) != value:
            yield replace(program, **{name: value})
    for n, reduced in enumerate(results):
        for other in _smaller_reduced(reduced):
            yield replace(program, results=(*results[:n], other, *results[n + 1 :]))


def _smaller_reduced(reduced: Reduced) -> Iterator[Reduced]:
    if reduced.opt_arg is not None:
        yield from (replace(reduced, opt_arg=k) for k in range(1, reduced.opt_arg))
    yield from (replace(reduced, formula=f) for f in smaller_formulas(reduced.formula))
    if reduced.formula2 is not None:
        yield from (replace(reduced, formula2=f) for f in smaller_formulas(reduced.formula2))


def _smaller_blocks(blocks: Blocks) -> Iterator[Blocks]:
    rows, columns, keep = blocks.rows, blocks.columns, blocks.keep
    for n in range(len(rows)):
        yield Blocks(rows[:n] + rows[n + 1 :], columns, keep[:n] + keep[n + 1 :])
    for n in range(len(columns)):
        kept = tuple(row[:n] + row[n + 1 :] for row in keep)
        yield Blocks(rows, columns[:n] + columns[n + 1 :], kept)


def smaller_formulas(formula: str) -> list[str]:
    """The formula with one part replaced by a part of that part; the shortest first."""
    tree = ast.parse(formula, mode="eval").body
    found = {ast.unparse(t) for t in _replaced(tree)} - {formula}
    return sorted(found, key=lambda text: (len(text), text))


def _replaced(node: ast.expr) -> Iterator[ast.expr]:
    inner = [n for n in ast.walk(node) if isinstance(n, (ast.Name, ast.Call, ast.BinOp))]
    functions = {id(n.func) for n in inner if isinstance(n, ast.Call)}
    yield from (n for n in inner if id(n) not in functions and n is not node)
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.expr) and name != "func":
            for other in _replaced(value):
                yield _copied(node, name, other)
        elif isinstance(value, list):
            for n, item in enumerate(value):
                if isinstance(item, ast.expr):
                    for other in _replaced(item):
                        yield _copied(node, name, [*value[:n], other, *value[n + 1 :]])


def _copied(node: ast.expr, name: str, value: object) -> ast.expr:
    fields = {**dict(ast.iter_fields(node)), name: value}
    return type(node)(**fields)
