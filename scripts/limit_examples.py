"""What goes beyond each limit of redcomp, for the table of errors in docs/formulas.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redcomp import limits
from redcomp.errors import RedcompError
from redcomp.numpy import Genred
from redcomp.ops.splines import SHORT
from redcomp.ptx.kernel_code import MOST_PARAMETER_BYTES, MOST_SHARED_BYTES


@dataclass(frozen=True)
class Example:
    """A limit, as one writes it, and a call that goes beyond it."""

    what: str
    most: str
    beyond: Callable[[], object]

    def error(self) -> str:
        """The first line of the error that the call gives."""
        try:
            self.beyond()
        except RedcompError as error:
            return str(error).splitlines()[0]
        raise AssertionError(f"no limit: {self.what}")


def _formula(text: str, *aliases: str, **options: object) -> Callable[[], object]:
    return lambda: Genred(text, aliases or ("x = Vi(1)",), **options)  # type: ignore[arg-type]


# For one target: how much memory is needed depends on the lanes.
def _compiled(text: str, *aliases: str, target: str = "avx512") -> Callable[[], object]:
    return lambda: Genred(text, aliases, axis=1).lower(target=target).llvm


def _assembled(count: int) -> str:
    """Splines over knots that are splines, each over knots that another gives."""
    made = "x"
    for _ in range(count):
        made = f"BSpline(Concat(Concat({made}, x), Concat(y, b)), b, 1)"
    return made


_WIDEST = f"{limits.MAX_DIM}"
# Sums of terms that are alike would be loops.
_SINES = " + ".join(f"{'Sin' if n % 2 else 'Cos'}({n} * x)" for n in range(1200))
_ALIGNMENTS = " + ".join(f"SoftDTW_SqDist({n} * x, y, 1)" for n in range(1, 12))

EXAMPLES = (
    Example(
        "characters of a formula or an alias",
        f"{limits.MAX_CHARACTERS:,}",
        _formula("x" * (limits.MAX_CHARACTERS + 1)),
    ),
    Example(
        "names, numbers and symbols in a formula",
        f"{limits.MAX_TOKENS:,}",
        _formula("x" + "+x" * limits.MAX_TOKENS),
    ),
    Example(
        "characters of one name or number",
        f"{limits.MAX_TOKEN_CHARACTERS}",
        _formula("x" * (limits.MAX_TOKEN_CHARACTERS + 1)),
    ),
    Example(
        "nested brackets, signs and powers",
        f"{limits.MAX_NESTING}",
        _formula("-" * (limits.MAX_NESTING + 1) + "x"),
    ),
    Example(
        "integers that an operation takes",
        f"{limits.MAX_INTEGER:,}",
        _formula("Pow(x, 2147483648)"),
    ),
    Example("other numbers", "those of the dtype", _formula("x * 10 ** 309")),
    Example(
        "the dimension of a vector",
        f"{limits.MAX_DIM:,}",
        _formula("x", f"x = Vi({limits.MAX_DIM + 1})"),
    ),
    Example(
        "operations of a formula or its derivative, vectors of up to 16 components written out",
        f"{limits.MAX_OPERATIONS:,}",
        _formula("x * " * 4000 + "x", "x = Vi(8)"),
    ),
    Example(
        "the same with functions written out, such as `Sin`",
        f"{limits.MAX_OPERATIONS:,}",
        _compiled(_SINES, "x = Vi(1)"),
    ),
    Example(
        "components that have to be searched for, in nested parts of vectors",
        f"{limits.MAX_VALUES:,}",
        _compiled(_assembled(10), "x = Vi(300)", "y = Vj(300)", "b = Vj(1)"),
    ),
    Example(
        "sums and lists that are kept for each row",
        f"{limits.MAX_STATES:,}",
        lambda: Genred("x-y", ("x=Vi(1000)", "y=Vj(1000)"), "ArgKMin", 1, opt_arg=10).lower().nest,
    ),
    Example(
        "operations per pair",
        f"{limits.MAX_WORK:,}",
        _compiled(
            "TensorDot(x, y, [4096, 4096], [4096, 128], [1], [0])",
            f"x = Vi({_WIDEST})",
            "y = Vj(524288)",
        ),
    ),
    Example(
        "memory for vectors, per thread",
        f"{limits.MAX_SCRATCH / 2**20:g} MB",
        _compiled("Sum(x * y)", f"x = Vi({_WIDEST})", f"y = Vj({_WIDEST})"),
    ),
    Example(
        "memory for vectors, per block of a GPU",
        f"{limits.MAX_WORKSPACE / 2**30:g} GB",
        _compiled("x + y", f"x = Vi({_WIDEST})", f"y = Vj({_WIDEST})", target="sm_90"),
    ),
    Example(
        "operations that `Divergence` and its like differentiate, counted for each direction",
        f"{limits.MAX_OPERATIONS:,}",
        _formula(
            "Divergence(Concat(Extract(x, 0, 25000), Extract(x, 25000, 25000)), x)", "x = Vi(50000)"
        ),
    ),
    Example(
        "entries of a product that `TraceOperator` and its like check for linearity",
        f"{limits.MAX_EVALUATED:,}",
        _formula("TraceOperator(MatVecMult(A, x), x)", "x = Vi(3000)", "A = Pm(9000000)"),
    ),
    Example(
        "formulas of one `Genred`, and aliases",
        f"{limits.MAX_LIST:,}",
        lambda: Genred(["x"] * 2000, "x = Vi(1)", axis=1),
    ),
    Example(
        "K (`opt_arg`)",
        f"{limits.MAX_COUNT:,}",
        _formula("x", reduction_op="KMin", opt_arg=limits.MAX_COUNT + 1),
    ),
    Example(
        f"order of `BSpline` over more than {SHORT} knots",
        f"{limits.MAX_ORDER}",
        _formula(f"BSpline(k, x, {limits.MAX_ORDER + 1})", "x = Vi(1)", f"k = Pm({SHORT + 1})"),
    ),
    Example(
        "cells of `SoftDTW_SqDist`",
        f"{limits.MAX_TABLE:,}",
        _formula("SoftDTW_SqDist(x, x, 1)", f"x = Vi({limits.MAX_TABLE})"),
    ),
    Example(
        "cells of all tables of a formula or its derivative",
        f"{limits.MAX_CELLS:,}",
        _compiled(_ALIGNMENTS, "x = Vi(100)", "y = Vj(100)"),
    ),
    Example(
        "axes of an argument, with those of a batch",
        f"{limits.MAX_AXES}",
        lambda: Genred("x", "x = Vi(1)", axis=1)(np.ones((1,) * (limits.MAX_AXES + 1))),
    ),
    Example(
        "arguments and results on a GPU",
        f"about {MOST_PARAMETER_BYTES // 8}",
        _compiled(
            " + ".join(f"x{n}" for n in range(600)),
            *(f"x{n} = Vi(1)" for n in range(600)),
            target="sm_90",
        ),
    ),
    Example(
        "shared memory of a block of a GPU, for one column",
        f"{MOST_SHARED_BYTES // 2**10} kB",
        _compiled(
            " + ".join(f"(x | y{n})" for n in range(100)),
            "x = Vi(64)",
            *(f"y{n} = Vj(64)" for n in range(100)),
            target="sm_90",
        ),
    ),
)
