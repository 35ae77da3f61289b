"""Reductions as texts, from which another process makes the same ones again.

PyTorch's operators take texts and not objects, so that a graph of them can be saved.  A text is
JSON: what a reduction is made from, class by class, and for a derivative what it is the derivative
of.  In one process a text stands for one object as long as somebody holds that, so what has been
compiled for it is found.
"""

from __future__ import annotations

import functools
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from redcomp.errors import ArgumentError, FormulaError
from redcomp.frontend.language import expressions
from redcomp.frontend.language.aliases import Alias
from redcomp.frontend.language.expressions import Expression, Placed, Slot
from redcomp.frontend.reductions import derivatives, tables
from redcomp.frontend.reductions.pair_reduction import DerivedSource, PairReduction, remembered
from redcomp.frontend.reductions.requests import ExpressionSource, FormulaSource, Request
from redcomp.target import Options

# Reductions that are found again though only texts of them are left.
_KEPT = 256

_CLASSES: Mapping[str, type[Any]] = {
    made.__name__: made
    for made in (
        Alias, ExpressionSource, FormulaSource, Options, Placed, Request, Slot,
        *derivatives.SOURCES, *tables.SOURCES,
    )
}  # fmt: skip
# What makes an expression again, by what stands for it in texts.
_MAKERS: Mapping[str, Callable[..., Expression]] = {
    made.__name__: made
    for made in (
        expressions.variable,
        expressions.number,
        expressions.integers,
        expressions.operation,
    )
}

_reductions: weakref.WeakValueDictionary[str, PairReduction] = weakref.WeakValueDictionary()


def text_of(*values: Any) -> str:
    """The text of what reductions are made from: `values_of` gives the same again."""
    return json.dumps([_written(value, {}) for value in values])


def values_of(text: str) -> list[Any]:
    """What a text has been made of; raises ArgumentError for any other text."""
    try:
        return [_made(part, []) for part in json.loads(text)]
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, (ArgumentError, FormulaError)):
            raise
        raise ArgumentError(f"this is no text of a reduction ({error}): {text[:80]}") from None


@remembered
def text_of_reduction(reduction: PairReduction) -> str:
    """The text of a reduction; `reduction_of` gives it back."""
    return text_of(reduction)


@functools.lru_cache(_KEPT)
def reduction_of(text: str) -> PairReduction:
    """The reduction of a text; raises ArgumentError for a text of another kind."""
    found = values_of(text)
    if len(found) != 1 or not isinstance(found[0], PairReduction):
        raise ArgumentError(f"this is no text of a reduction: {text[:80]}")
    return found[0]


# -- writing


def _written(value: Any, known: dict[Expression, int]) -> Any:
    """What JSON has for a value; `known` are the expressions that have been written before it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    name = type(value).__name__
    match value:
        case PairReduction():
            return _written_reduction(value)
        case Expression():
            parts = _written_expression(value, known)
        case frozenset():
            parts = sorted(value)
        case _ if is_dataclass(value):
            parts = [_written(getattr(value, field.name), known) for field in fields(value)]
        case _:
            parts = [_written(part, known) for part in value]
    return parts if name == "tuple" else {name: parts}


@remembered
def _written_reduction(reduction: PairReduction) -> Any:
    parts = [_written(p, {}) for p in (reduction.source, reduction.rows, reduction.options)]
    written = {"PairReduction": parts}
    _reductions.setdefault(json.dumps(written), reduction)
    return written


def _written_expression(root: Expression, known: dict[Expression, int]) -> list[Any]:
    """What is new in an expression, each node after its operands; and the number of its root."""
    new: list[Any] = []
    stack = [root]
    while stack:
        node = stack[-1]
        missing = [o.expression for o in node.operands if o.expression not in known]
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        if node not in known:
            known[node] = len(known)
            new.append(_written_node(node, known))
    return [new, known[root]]


def _written_node(node: Expression, known: Mapping[Expression, int]) -> list[Any]:
    maker, arguments = node.__reduce__()
    written = [
        [known[a.expression], *a.placement] if isinstance(a, Placed) else a for a in arguments
    ]
    return [maker.__name__, *written]


# -- reading


def _made(plain: Any, known: list[Expression]) -> Any:
    """The value that has been written; `known` are the expressions that have been read before."""
    if isinstance(plain, list):
        return tuple([_made(part, known) for part in plain])
    if not isinstance(plain, dict):
        return plain
    ((name, parts),) = plain.items()
    match name:
        case "PairReduction":
            return _made_reduction(plain, parts)
        case "Expression":
            return _made_expression(parts, known)
        case "frozenset":
            return frozenset(parts)
    return _CLASSES[name](*[_made(part, known) for part in parts])


def _made_reduction(plain: Any, parts: list[Any]) -> PairReduction:
    """The reduction of this text that somebody holds, or else a new one."""
    text = json.dumps(plain)
    found = _reductions.get(text)
    if found is None:
        source, rows, options = (_made(part, []) for part in parts)
        if isinstance(source, DerivedSource):
            found = source.parent.derive(source, rows)
        else:
            found = PairReduction(source, rows, options)
        _reductions[text] = found
    return found


def _made_expression(parts: list[Any], known: list[Expression]) -> Expression:
    new, root = parts
    number: int = root
    for maker, *arguments in new:
        known.append(_MAKERS[maker](*[_made_operand(a, maker, known) for a in arguments]))
    return known[number]


def _made_operand(plain: Any, maker: str, known: list[Expression]) -> Any:
    """An argument of what makes an expression."""
    match maker, plain:
        case "operation", [number, *placement]:
            return Placed(known[number], tuple(placement))
        case "variable", slot:
            return Slot(*slot)
        case "integers", values:
            return tuple(values)
    return plain
