"""The text form of the IR, printed and parsed: MLIR's generic syntax.

A kernel is one `redcomp.kernel` operation.  A loop is an operation with a region, which holds what
depends on the loop's counter; all else stands before it.  Equal structure prints once, so the text
is a canonical form: kernels with equal texts are equal, and the text can be the key of a cache.
Source spans are not part of it.  `redcomp.text.pretty` has another form, which people read.
"""

from redcomp.text.parser import (
    parse_block,
    parse_kernel,
    parse_nest,
    parse_partition,
    parse_program,
)
from redcomp.text.printer import (
    excerpt,
    print_block,
    print_kernel,
    print_nest,
    print_partition,
    print_program,
    same_kernel,
)
from redcomp.text.tokens import TextError

__all__ = [
    "print_kernel",
    "print_block",
    "print_nest",
    "print_partition",
    "print_program",
    "parse_kernel",
    "parse_block",
    "parse_nest",
    "parse_partition",
    "parse_program",
    "same_kernel",
    "excerpt",
    "TextError",
]
