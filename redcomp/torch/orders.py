"""Derivatives of an order that a reduction's rules do not reach: they are refused, not 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.differentiation import Limit
from redcomp.records import record
from redcomp.torch.dynamo import untraced
from redcomp.torch.mapped import by_vmap, unwrapped

Tensors = tuple[torch.Tensor, ...]


def with_limits(
    limits: Sequence[Limit], results: Tensors, tensors: Sequence[torch.Tensor]
) -> Tensors:
    """The same results; derivatives of some orders raise ArgumentError where they would be wrong.

    They depend on `tensors`, and so does what is subtracted: zeros, which change no bit.
    """
    limited = list(results)
    for limit in limits:
        count = results[limit.count]
        (nothing,) = _nothing(_Order(limit, 0, (0,)), count, *tensors)
        limited[limit.value] = limited[limit.value] - nothing
    return tuple(limited)


@record
class _Order:
    """A derivative of some order of a result, as a function of the count and other tensors.

    like  its outputs have the shapes of these inputs
    """

    limit: Limit
    order: int
    like: tuple[int, ...]

    def following(self, like: tuple[int, ...]) -> _Order:
        return _Order(self.limit, self.order + 1, like)

    def check(self, count: torch.Tensor) -> None:
        """Raise ArgumentError if the derivative of the next order is wrong in some row."""
        order, right = self.order + 1, self.limit.rule.orders
        if order <= right:
            return
        counts = unwrapped(count)
        if bool(((counts > right) & (counts <= order)).any()):
            raise ArgumentError(
                f"derivatives of order {order} cannot be computed where {self.limit.rule.what} of "
                f"a row are {right + 1} to {order}: up to order {right} they can"
            )


@untraced
class _Nothing(torch.autograd.Function):
    """Zeros that stand for a derivative, know its order, and depend on what it depends on."""

    @staticmethod
    def forward(order: _Order, *tensors: torch.Tensor) -> Tensors:
        return tuple([torch.zeros_like(tensors[n]) for n in order.like])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.order, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], order: _Order, *tensors: torch.Tensor
    ) -> tuple[Tensors, tuple[int | None, ...]]:
        return _nothing(order, *tensors), tuple(in_dims[1 + n] for n in order.like)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        def pulled_back(*cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
            # The count is of whole numbers: nothing depends on it.
            wanted = [n for n, is_one in enumerate(ctx.needs_input_grad[1:]) if is_one and n]
            found = _next(ctx, tuple(wanted), cotangents)
            given = dict(zip(wanted, found, strict=True))
            return tuple(given.get(n) for n in range(len(ctx.saved_tensors)))

        return (None, *by_vmap(pulled_back, cotangents))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        return by_vmap(lambda *given: _next(ctx, ctx.order.like, given), tangents)


_nothing: Callable[..., Tensors] = _Nothing.apply


def _next(ctx: Any, like: tuple[int, ...], given: Sequence[torch.Tensor | None]) -> Tensors:
    """The derivative of the next order, along what is given."""
    ctx.order.check(ctx.saved_tensors[0])
    directions = [t for t in given if t is not None]
    return _nothing(ctx.order.following(like), *ctx.saved_tensors, *directions)
