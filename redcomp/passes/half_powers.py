"""half_powers: powers with exponents n / 2 from roots and products.

A power of any exponent takes a logarithm to twice the precision, some 60 operations.  The exponent
must be a number, so this cannot be an expansion, which knows types only.  It runs after
`contract`, since the products are to stay as they are written.  A fast form of powers is faster.
"""

from __future__ import annotations

from redcomp.ir import P, Value, rewrite_program
from redcomp.ops.expansions.powers import half_power, half_power_by_estimate
from redcomp.ops.table import OPERATIONS
from redcomp.passes.expand import emits
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

# Powers up to half of this have errors as other powers may: at most 4 units in the last place.
_LARGEST = 7


@compiler_pass
def half_powers(program: P, context: Context) -> P:
    """Rewrite the powers of scalars whose exponents are small odd multiples of a half."""
    if not any(_halves(value) for value in program.values):
        return program
    primitives = context.target.primitives

    def rewritten(value: Value) -> Value:
        halves = _halves(value)
        fast = OPERATIONS["powf"].fast
        if not halves or any(emits(needed, value.dtype, primitives) for needed in fast):
            return value
        by_estimate = emits("rsqrt_estimate", value.dtype, primitives)
        return (half_power_by_estimate if by_estimate else half_power)(value.args[0], halves)

    return rewrite_program(program, rewritten)


def _halves(value: Value) -> int:
    """The n of a power n / 2 that is to be rewritten, else 0."""
    if value.op != "powf" or value.dim > 1 or not value.args[1].is_constant:
        return 0
    doubled = 2 * value.args[1]["value"]
    return int(doubled) if abs(doubled) <= _LARGEST and doubled % 2 == 1 else 0
