"""contract: fuse a product that is used once with the sum that uses it: a * b + c -> fma(a, b, c).

The fused operation rounds once instead of twice, as C compilers do by default.  The pass runs
before `expand`, so that the arithmetic inside elementary functions stays as written.  A product
that `hoist` will compute less often than the sum is not fused: adding it costs no more than an fma.
"""

from __future__ import annotations

from collections import Counter

from redcomp.ir import P, Value, fma, free_indices, with_roots
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context


@compiler_pass
def contract(program: P, context: Context) -> P:
    """Fuse wherever the product has no other user."""
    values = program.values
    loops = free_indices(values)
    uses = Counter(arg for value in values for arg in value.args)
    uses.update(program.roots)
    done: dict[Value, Value] = {}
    for value in values:
        rebuilt = value.with_args(tuple([done[arg] for arg in value.args]))
        if value.op in ("add", "subtract") and value.type.is_float:
            products = [
                arg.op == "multiply"
                and uses[arg] == 1
                and (arg.dependence == value.dependence or bool(loops[value]))
                for arg in value.args
            ]
            rebuilt = _fused(rebuilt, products)
        done[value] = rebuilt
    return with_roots(program, done)


def _fused(value: Value, products: list[bool]) -> Value:
    """A sum or difference; `products` says which operands are products that may be consumed."""
    if not any(products):
        return value
    a, b = value.args
    is_sum = value.op == "add"
    if products[0]:
        left, right = a.args
        return fma(left, right, b if is_sum else -b)
    left, right = b.args
    return fma(left if is_sum else -left, right, a)
