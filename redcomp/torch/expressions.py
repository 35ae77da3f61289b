"""Expressions of LazyTensors where `torch.compile` traces the program that builds them.

Its tracer follows what is done with tensors; expressions are constants of the graph, which the
functions below make while it traces.  Such a function takes plain values only, so expressions are
given by their keys.
"""

from __future__ import annotations

import operator
from typing import Any

from torch.compiler import is_dynamo_compiling

from redcomp.frontend.language import expressions
from redcomp.frontend.language.expressions import Expression, Placed, Slot, expression_of
from redcomp.frontend.lazy import reduction, solve
from redcomp.frontend.lazy.reduction import Reduced
from redcomp.frontend.lazy.solve import System
from redcomp.frontend.reductions.genred import Reducer
from redcomp.torch.dynamo import with_products
from redcomp.torch.solve import KernelSolve
from redcomp.tracing import constant_in_graphs

# An expression's key, and where its slots are.
_Key = tuple[int, tuple[int, ...]]


def variable(slot: Slot) -> Expression:
    """See `redcomp.frontend.language.expressions`, as for the others."""
    return (
        _traced(_variable(*_plain(slot))) if is_dynamo_compiling() else expressions.variable(slot)
    )


def number(value: int) -> Expression:
    return _traced(_number(value)) if is_dynamo_compiling() else expressions.number(value)


def integers(values: tuple[int, ...]) -> Expression:
    return _traced(_integers(values)) if is_dynamo_compiling() else expressions.integers(values)


def operation(callee: str, *operands: Placed) -> Expression:
    if is_dynamo_compiling():
        return _traced(_operation(callee, [_key(operand) for operand in operands]))
    return expressions.operation(callee, *operands)


def rebound(expression: Expression, slots: tuple[Slot, ...]) -> Expression:
    if is_dynamo_compiling():
        return _traced(_rebound(expression.key, [_plain(slot) for slot in slots]))
    return expressions.rebound(expression, slots)


def _plain(slot: Slot) -> tuple[Any, ...]:
    """A slot as constants: the dimension of vectors is part of an expression, also of a graph."""
    return slot.kind, operator.index(slot.dim), slot.is_integer


class _Traced:
    """What stands for an expression in a trace, and behind it.

    The tracer sees the data of an object that a function returns as a constant, but nothing that
    its class has.
    """

    def __init__(self, found: _Found) -> None:
        self.held, self.key, self.callee = found.held, found.key, found.callee
        self.dim, self.operands, self.everywhere = found.dim, found.operands, found.everywhere
        self.slots = tuple([Slot(kind, dim, integer) for kind, dim, integer in found.slots])

    @property
    def in_place(self) -> Placed:
        stands: Any = self if is_dynamo_compiling() else self.held.expression
        return Placed(stands, self.everywhere)


class _Held:
    """An expression that the tracer does not see.

    It would guard that it is the one of a LazyTensor from outside, if it is, and fail to: what
    a constant function returns has no name in guards (PyTorch 2.13).
    """

    def __init__(self, expression: Expression) -> None:
        self.expression = expression


class _Found:
    """An expression, with plain data."""

    def __init__(self, expression: Expression) -> None:
        with_products()  # before what is traced can be multiplied
        self.held, self.key, self.callee = _Held(expression), expression.key, expression.callee
        self.dim, self.operands = expression.dim, len(expression.operands) * (None,)
        self.everywhere = expression.everywhere
        self.slots = [(slot.kind, slot.dim, slot.is_integer) for slot in expression.slots]


def _traced(found: _Found) -> Expression:
    made: Any = _Traced(found)
    return made  # type: ignore[no-any-return]  # it has what the tracer meets


def reducer(reduced: Reduced, options: dict[str, Any]) -> Reducer:
    """See `redcomp.frontend.lazy.reduction`."""
    if not is_dynamo_compiling():
        return reduction.reducer(reduced, options)
    weights = None if reduced.weights is None else _key(reduced.weights)
    return _reducer(
        reduced.reduction_op,
        _key(reduced.formula),
        weights,
        reduced.axis,
        reduced.opt_arg,
        reduction.compilation_options(options),
    )


def solver(system: System, compilation: tuple[Any, ...]) -> KernelSolve:
    """See `redcomp.frontend.lazy.solve`."""
    if not is_dynamo_compiling():
        found: KernelSolve = solve.solver(system, compilation)
        return found
    text = _text_of_solver(_key(system.formula), system.unknown, system.axis, compilation)
    return KernelSolve.of_text(text)


def _key(placed: Placed) -> _Key:
    return placed.expression.key, placed.placement


def _placed(key: _Key) -> Placed:
    return Placed(expression_of(key[0]), tuple(key[1]))


@constant_in_graphs
def _variable(*slot: Any) -> _Found:
    return _Found(expressions.variable(Slot(*slot)))


@constant_in_graphs
def _number(value: int) -> _Found:
    return _Found(expressions.number(value))


@constant_in_graphs
def _integers(values: tuple[int, ...]) -> _Found:
    return _Found(expressions.integers(tuple(values)))


@constant_in_graphs
def _operation(callee: str, operands: list[_Key]) -> _Found:
    return _Found(expressions.operation(callee, *map(_placed, operands)))


@constant_in_graphs
def _rebound(key: int, slots: list[tuple[Any, ...]]) -> _Found:
    return _Found(expressions.rebound(expression_of(key), tuple([Slot(*slot) for slot in slots])))


@constant_in_graphs
def _text_of_solver(formula: _Key, unknown: int, axis: int, compilation: tuple[Any, ...]) -> str:
    made = solve.made_solver(KernelSolve, _placed(formula), unknown, axis, compilation)
    return made.text


@constant_in_graphs
def _reducer(
    reduction_op: str,
    formula: _Key,
    weights: _Key | None,
    axis: int,
    opt_arg: Any,
    compilation: tuple[Any, ...],
) -> Reducer:
    given = None if weights is None else _placed(weights)
    options = dict(zip(reduction.OF_COMPILATION, compilation, strict=True))
    return reduction.reducer(Reduced(reduction_op, _placed(formula), given, axis, opt_arg), options)
