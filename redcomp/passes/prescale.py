"""prescale: multiply inputs once per row or column instead of values once per pair.

    exp2(-c * sum_k (x_k - y_k)**2) = exp2(-sum_k (sqrt(c) x_k - sqrt(c) y_k)**2)

The factors of a product are divided into those that change with the pair and coefficients, which
are constant or depend on parameters, on i or on j only.  Coefficients of one kind are multiplied
with each other, which is hoisted.  A coefficient is then pushed through sums and products to values
that do not change with the pair, where it costs nothing.  A positive constant enters a square as
its square root, and a square root as its square.  If a value on the way has another user, or a leaf
changes with the pair, the multiplication stays.

Rounding the products must not matter where their sum cancels.  The operands of a sum of two values
per pair have been rounded before, so another rounding increases the error by a small factor only.
But a difference of data is nearly exact, so both operands are first moved to a common origin
(`origin`).

For fast math only: rounding differs, and so does overflow.  The pass runs before `contract`, which
would hide the products, and before `hoist`, which moves the scaled inputs.  Loops over components
are left alone: there a coefficient costs one multiplication per loop, a scaled vector memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from redcomp.ir import (
    I_BIT,
    J_BIT,
    P,
    Program,
    Value,
    constant,
    elementwise,
    fma,
    free_indices,
    with_roots,
)
from redcomp.ops.table import OPERATIONS
from redcomp.passes.expand import emits
from redcomp.passes.origin import moved, with_samples
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

_PAIR = I_BIT | J_BIT
_PRODUCTS = frozenset({"multiply", "divide", "negate"})
_HOMOGENEOUS = frozenset(row.name for row in OPERATIONS.values() if row.is_homogeneous)

_Operands = tuple[Value, Value]

# A coefficient is pushed through this many operations.
_DEPTH = 64


@compiler_pass
def prescale(program: P, context: Context) -> P:
    """Move coefficients out of what is computed for each pair, where this saves operations.

    Rounding changes, so it does nothing without fast math.  Where the target divides by multiplying
    by the inverse, so do the products, for that can then be fused with a sum.  A negation is an
    operation unless the target's instructions can negate their operands.
    """
    if not context.use_fast_math:
        return program
    target = context.target
    prescaler = _Prescaler(program, target.primitives, 0 if target.negates_operands else 1)
    return with_samples(with_roots(program, prescaler.done))


@dataclass(slots=True)
class _Product:
    """A product: number * coefficients * factors / divisors; `cost` in operations a pair."""

    number: float = 1.0
    coefficients: dict[int, Value] = field(default_factory=dict)
    factors: list[Value] = field(default_factory=list)
    divisors: list[Value] = field(default_factory=list)
    cost: int = 0

    def take(self, value: Value, is_divisor: bool) -> None:
        """One more factor or divisor, which is no product itself."""
        if value.is_constant and not (is_divisor and value["value"] == 0):
            number = value["value"]
            self.number = self.number / number if is_divisor else self.number * number
        elif value.dependence == _PAIR:
            (self.divisors if is_divisor else self.factors).append(value)
        else:
            known = self.coefficients.get(value.dependence)
            self.coefficients[value.dependence] = _joined(known, value, is_divisor)

    def merged(self, dtype: str) -> list[Value]:
        """As few coefficients as there can be, the number in one of them."""
        parts = self.coefficients
        uniform = parts.pop(0, None)
        if self.number != 1.0:
            number = constant(self.number, dtype)
            uniform = number if uniform is None else uniform * number
            self.number = 1.0
        for dependence in (J_BIT, I_BIT):
            if uniform is not None and dependence in parts:
                parts[dependence] = parts[dependence] * uniform
                uniform = None
        return [*parts.values(), *([] if uniform is None else [uniform])]


class _Prescaler:
    """Rebuilds values, arguments first; `done` has the new ones by the old.

    `private` are those new values that have one user: they may be changed for it.
    """

    def __init__(self, program: Program, primitives: Collection[str], negation: int) -> None:
        self.primitives, self.negation = primitives, negation
        self.done: dict[Value, Value] = {}
        self.private: set[Value] = set()
        values = program.values
        loops = free_indices(values)
        users = Counter(program.roots)
        inner: set[Value] = set()  # products that are part of another one
        for value in values:
            used = set(value.args)
            users.update(used)
            if _is_product(value) and not _is_square(value):
                inner |= used
        for value in values:
            made = value.with_args(tuple(self.done[arg] for arg in value.args))
            is_private = users[value] == 1
            is_inner = is_private and value in inner
            if _is_product(value) and not is_inner and not loops[value]:
                made = self._multiplied(made)
            self.done[value] = self._keep(made, is_private)

    def _keep(self, value: Value, is_private: bool = True) -> Value:
        if is_private:
            self.private.add(value)
        return value

    # -- products ----------------------------------------------------------------------------------

    def _multiplied(self, value: Value) -> Value:
        """A whole product with as few operations a pair as can be found."""
        by_inverse = emits("reciprocal_approx", value.dtype, self.primitives)
        product = self._sorted(value, by_inverse)
        cost, divides = product.cost, bool(product.divisors)
        made, new_cost = self._built(product, value.dtype, by_inverse)
        return made if new_cost < cost or (by_inverse and divides) else value

    def _sorted(self, value: Value, by_inverse: bool) -> _Product:
        """The product's parts."""
        product = _Product()
        stack = [(value, False)]
        while stack:
            part, is_divisor = stack.pop()
            is_taken_apart = _is_product(part) and not _is_square(part)
            if not is_taken_apart or not (part is value or part in self.private):
                product.take(part, is_divisor)
            elif part.op == "negate":
                product.number = -product.number
                product.cost += self.negation
                stack.append((part.args[0], is_divisor))
            else:
                a, b = part.args
                product.cost += 2 if part.op == "divide" and by_inverse else 1
                if part.op == "divide":
                    stack += [(b, not is_divisor), (a, is_divisor)]
                else:
                    stack += [(b, is_divisor), (a, is_divisor)]
        return product

    def _built(self, product: _Product, dtype: str, by_inverse: bool) -> tuple[Value, int]:
        """The product as a value, and what it costs."""
        left = [k for k in product.merged(dtype) if not self._absorbed(k, product)]
        factors = product.factors + [k for k in left if not _is_one(k)]
        divisor = self._times(product.divisors)
        if divisor is not None and by_inverse:
            factors.append(self._keep(elementwise("inverse", divisor)))
        cost = max(len(factors) - 1, 0) + len(product.divisors)
        result = self._times(factors) or constant(1.0, dtype)
        if divisor is not None and not by_inverse:
            result = self._keep(result / divisor)
        if product.number < 0:
            cost += self.negation
            result = -result
        return result, cost

    def _times(self, factors: list[Value]) -> Value | None:
        """The product, or None of nothing."""
        if not factors:
            return None
        result = factors[0]
        for factor in factors[1:]:
            result = self._keep(result * factor)
        return result

    def _absorbed(self, coefficient: Value, product: _Product) -> bool:
        """Whether a factor took the coefficient in; a constant's sign may go to the product."""
        choices = [(coefficient, 1.0)]
        if coefficient.is_constant and coefficient["value"] < 0:
            choices.append((constant(-coefficient["value"], coefficient.dtype), -1.0))
        for k, sign in choices:
            for n, factor in enumerate(product.factors):
                if any(factor is other for other in product.factors[n + 1 :]):
                    continue
                pushed = self._pushed(factor, k)
                if pushed is not None:
                    product.factors[n] = pushed
                    product.number *= sign
                    return True
        return False

    # -- pushing -----------------------------------------------------------------------------------

    def _pushed(self, value: Value, k: Value, depth: int = _DEPTH) -> Value | None:
        """value * k in no more operations a pair than `value`, or None."""
        if value.dependence | k.dependence != _PAIR:
            return value * k
        if depth == 0 or value not in self.private:
            return None
        rule = _RULES.get(value.op)
        made = None if rule is None else rule(self, value, k, depth - 1)
        return None if made is None else self._keep(made)

    def _into_homogeneous(self, value: Value, k: Value, depth: int) -> Value | None:
        return self._into_all(value, value.args, k, depth) if _is_positive(k) else None

    def _into_sum(self, value: Value, k: Value, depth: int) -> Value | None:
        """Sums and differences, whose sides are moved where they may be exact."""
        sides: tuple[Value, ...] | None = value.args
        if not _is_power_of_two(k):
            if any(_is_selection(arg) for arg in value.args):
                return None
            if all(arg.dependence != _PAIR for arg in value.args):
                sides = moved(value)
        return None if sides is None else self._into_all(value, sides, k, depth)

    def _into_negation(self, value: Value, k: Value, depth: int) -> Value | None:
        return self._into_all(value, value.args, k, depth)

    def _into_all(
        self, value: Value, operands: tuple[Value, ...], k: Value, depth: int
    ) -> Value | None:
        """The operation on operands each of which has taken in the coefficient."""
        args = []
        for arg in operands:
            pushed = self._pushed(arg, k, depth)
            if pushed is None:
                return None
            args.append(pushed)
        return value.with_args(tuple(args))

    def _into_product(self, args: tuple[Value, ...], k: Value, depth: int) -> _Operands | None:
        """The operands of a product of which one took the coefficient in, or both its root."""
        a, b = args
        if a is b:
            root = _root(k)
            pushed = None if root is None else self._pushed(a, root, depth)
            return None if pushed is None else (pushed, pushed)
        # Rather one that is computed once a row or a column.
        if b.dependence != _PAIR:
            pushed = self._pushed(b, k, depth)
            if pushed is not None:
                return a, pushed
        pushed = self._pushed(a, k, depth)
        if pushed is not None:
            return pushed, b
        pushed = self._pushed(b, k, depth)
        return None if pushed is None else (a, pushed)

    def _into_multiply(self, value: Value, k: Value, depth: int) -> Value | None:
        operands = self._into_product(value.args, k, depth)
        return None if operands is None else value.with_args(operands)

    def _into_fma(self, value: Value, k: Value, depth: int) -> Value | None:
        a, b, c = value.args
        rest = self._pushed(c, k, depth)
        operands = None if rest is None else self._into_product((a, b), k, depth)
        return None if rest is None or operands is None else fma(*operands, rest)

    def _into_square(self, value: Value, k: Value, depth: int) -> Value | None:
        return self._through(value, _root(k), depth)

    def _into_root(self, value: Value, k: Value, depth: int) -> Value | None:
        return self._through(value, _square(k), depth)

    def _through(self, value: Value, k: Value | None, depth: int) -> Value | None:
        """A function of one operand that takes the coefficient in as `k`."""
        pushed = None if k is None else self._pushed(value.args[0], k, depth)
        return None if pushed is None else value.with_args((pushed,))


_Rule = Callable[[_Prescaler, Value, Value, int], Value | None]
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("add", "subtract"), _Prescaler._into_sum),
    **dict.fromkeys(_HOMOGENEOUS, _Prescaler._into_homogeneous),
    "negate": _Prescaler._into_negation,
    "multiply": _Prescaler._into_multiply,
    "fma": _Prescaler._into_fma,
    "square": _Prescaler._into_square,
    "sqrt": _Prescaler._into_root,
}


def _is_product(value: Value) -> bool:
    """Whether the value is a product of numbers that changes with the pair."""
    is_number = value.type.is_float and value.dim == 1
    return is_number and value.op in _PRODUCTS and value.dependence == _PAIR


def _is_square(value: Value) -> bool:
    """Whether the value is a product of a value with itself, which is computed once."""
    return value.op == "multiply" and value.args[0] is value.args[1]


def _joined(known: Value | None, value: Value, is_divisor: bool) -> Value:
    if known is None:
        return 1.0 / value if is_divisor else value
    return known / value if is_divisor else known * value


def _is_selection(value: Value) -> bool:
    """Whether the value of a pair is one that belongs to its row or column, but for its sign."""
    stack, seen = [value] if value.dependence == _PAIR else [], set()
    while stack:
        part = stack.pop()
        if part.dependence != _PAIR:
            return True
        if part not in seen and (part.op == "negate" or part.op in _HOMOGENEOUS):
            stack.extend(part.args)
        seen.add(part)
    return False


def _is_power_of_two(k: Value) -> bool:
    """Whether products with it are not rounded (but for subnormal ones)."""
    return k.is_constant and abs(math.frexp(k["value"])[0]) == 0.5


def _is_one(value: Value) -> bool:
    return value.is_constant and value["value"] == 1.0


def _is_positive(k: Value) -> bool:
    return k.is_constant and 0.0 < k["value"] < math.inf


def _root(k: Value) -> Value | None:
    """The square root of a positive constant."""
    return constant(math.sqrt(k["value"]), k.dtype) if _is_positive(k) else None


def _square(k: Value) -> Value | None:
    """The square of a positive constant, unless it is out of range."""
    if not _is_positive(k):
        return None
    square = constant(k["value"] * k["value"], k.dtype)
    return square if _is_positive(square) else None
