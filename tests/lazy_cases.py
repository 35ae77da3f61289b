"""The programs of the table of LazyTensors: needs PyTorch.

Each is an expression of a lazy tensor `K`, and what is then computed from `K`, as
`lazy_programs.py` says.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from lazy_expressions import ARITHMETIC, DERIVATIVES, UNARY, VECTORS


@dataclass(frozen=True)
class Case:
    """A program; and the dense one where that reads otherwise; and what KeOps gets wrong in it."""

    lazy: str
    reduced: str
    dense: tuple[str, str] | None = None
    fault: str | None = None
    dtype: str = "float64"

    @property
    def densely(self) -> tuple[str, str]:
        return self.dense or (self.lazy, self.reduced)

    def __str__(self) -> str:
        return f"{self.lazy} -> {self.reduced} [{self.dtype}]"


J, I = "K.sum(dim=K.dim() - 2)", "K.sum(dim=K.dim() - 3)"  # noqa: E741  reduced over j, over i


def _over_both(lazy: str, fault: str | None = None) -> Iterator[Case]:
    for reduced in (J, I):
        yield Case(lazy, reduced, fault=fault)


def _alternating(lazies: list[str], fault: str | None = None) -> Iterator[Case]:
    """Each reduced over one of both indices."""
    for lazy, reduced in zip(lazies, itertools.cycle((J, I)), strict=False):
        yield Case(lazy, reduced, fault=fault)


_GAUSSIAN_GRADIENT = "(-(x_i - y_j).sqnorm2()).exp() * v_j * (y_j - x_i) * 2"


def elementwise() -> Iterator[Case]:
    """Each method of KeOps' LazyTensor, then a sum."""
    yield from _alternating(ARITHMETIC + UNARY)
    yield from _alternating(VECTORS)
    for lazy, dense in DERIVATIVES:
        for reduced in (J, I)[: 1 + (dense is None)]:
            yield Case(lazy, reduced, (dense or _GAUSSIAN_GRADIENT, reduced))
    for lazy in ("x_i * 0 + y_j", "0 / (x_i + 3) + y_j"):
        yield from _over_both(lazy, fault="the product with 0 is Python's 0")
    yield Case("x_i.weightedsqdist(y_j, p_p)", J, fault="its arguments are (g, s), and it fails")
    yield Case(
        "x_i.grad_matrix(x_i) * v_j",
        J,
        ("LazyTensor([1.0, 0, 0, 0, 1, 0, 0, 0, 1]) * v_j + 0 * u_i", J),
        fault="the name of an object is in the formula",
    )
    yield Case(
        "x_i.difference_matrix(y_j)",
        J,
        (
            "LazyTensor([0.0]) + x_i.tensorprod(LazyTensor([1.0, 1, 1])) "
            "- LazyTensor([1.0, 1, 1]).tensorprod(y_j)",
            J,
        ),
        fault="there is no such operation",
    )


def broken_operators() -> Iterator[Case]:
    """Operators and indices that KeOps has not."""
    for lazy in (
        "(x_i - y_j) % 0.5",
        "(x_i - y_j) // 0.5",
        "2 ** (x_i - y_j)",
        "1.5 ** (x_i - y_j)",
    ):
        yield Case(lazy, J, fault="there is no such operator")
    for lazy in (
        "(x_i * y_j)[-1]",
        "(x_i * y_j)[-2:]",
        "(x_i * y_j)[:-1]",
        "(x_i * y_j)[::2]",
        "(x_i * y_j)[::-1]",
        "(x_i * y_j)[..., 1]",
        "(x_i * y_j)[..., 1:]",
        "(x_i * y_j)[:, :, -1]",
    ):
        yield Case(lazy, J, fault="there are no such indices")


SCALAR, VECTOR = "(x_i - y_j).sqnorm2()", "x_i * y_j - x_i"
REDUCTIONS = [
    (SCALAR, "sum"),
    (VECTOR, "sum_reduction"),
    (SCALAR, "min"),
    (VECTOR, "min_reduction"),
    (VECTOR, "max"),
    (SCALAR, "max_reduction"),
    (SCALAR, "argmin"),
    (VECTOR, "argmin"),
    (VECTOR, "argmin_reduction"),
    (SCALAR, "argmax"),
    (VECTOR, "argmax_reduction"),
    (SCALAR, "min_argmin"),
    (VECTOR, "min_argmin_reduction"),
    (VECTOR, "max_argmax"),
    (SCALAR, "max_argmax_reduction"),
    (SCALAR, "logsumexp"),
    (SCALAR, "logsumexp_reduction"),
]


def reductions() -> Iterator[Case]:
    """Each reduction over each index, the axis as `axis` or as `dim`."""
    for (lazy, name), dim in itertools.product(REDUCTIONS, (0, 1)):
        word = ("axis", "dim")[zlib.crc32(f"{name}{dim}".encode()) % 2]
        yield Case(lazy, f"K.{name}({word}={dim})")
    for lazy, dim in itertools.product((SCALAR, VECTOR), (0, 1)):
        for name in ("Kmin", "argKmin", "Kmin_argKmin"):
            yield Case(lazy, f"K.{name}(3, dim={dim})")
        yield Case(lazy, f"K.Kmin(K=1, axis={dim})")
    for name, dim in itertools.product(("Kmin", "argKmin", "Kmin_argKmin"), (0, 1)):
        yield Case(SCALAR, f"K.{name}_reduction(K=2, dim={dim})")
    for dim in (0, 1):
        yield Case(SCALAR, f"K.logsumexp({dim}, weight=v_j * v_j + u_i * u_i + 1)")
        yield Case(SCALAR, f"K.logsumexp(dim={dim}, weight=w_j * w_j + u_i * u_i + 1)")
        yield Case(SCALAR, f"K.sumsoftmaxweight(w_j, axis={dim})")
        yield Case(SCALAR, f"K.sumsoftmaxweight(x_i, dim={dim})")
        yield Case(SCALAR, f"K.sumsoftmaxweight_reduction(weight=x_i * y_j, axis={dim})")
    for reduced in (
        "K.sum(1, backend='CPU')",
        "K.sum(1, sum_scheme='kahan_scheme')",
        "K.sum(1, dtype_acc='float64')",
        "K.sum(1, use_double_acc=True)",
        "K.sum(1, enable_chunks=False)",
    ):
        yield Case(SCALAR, reduced)
    for reduced in ("K.sum(-2)", "K.sum(-3)", "K.argmin(dim=-2)", "K.logsumexp(-3)"):
        yield Case(SCALAR, reduced, fault="negative axes are refused")
    for lazy in ("x_i", "y_j", "x_i + p_p"):  # an index that the values do not depend on
        yield from _over_both(lazy)
    yield Case("x_i * x_i", "K.sum(1)")
    yield Case("u_i * 1.5", "K.argmin(0), K.min(1), K.Kmin(1, dim=1)")


def constructions() -> Iterator[Case]:
    """A lazy tensor in all the ways in which one is made."""
    for lazy in (
        "LazyTensor(rows, axis=0) + LazyTensor(columns, axis=1)",
        "LazyTensor(rows, 0) * LazyTensor(columns, 1)",
        "Vi(rows) - Vj(columns)",
        "Vi(rows) * Vj(rows)",
        "Vi(rows) * Pm(p) + Vj(columns)",
        "Vi(row_weights) + Vj(row_weights)",
        "Vi(rows) - y_j",
        "x_i + Vj(columns) * LazyTensor(p, axis=2)",
        "x_i + LazyTensor(p) * y_j",
        "x_i + LazyTensor(p3) * y_j",
        "x_i + LazyTensor([0.5, 1.5, 2.5]) * y_j",
        "x_i + Pm([0.5, 1.5, 2.5]) * y_j",
        "x_i + LazyTensor(2) * y_j",
        "x_i + LazyTensor(2.5) * y_j",
        "x_i + Pm(2.5) * y_j",
        "x_i + Pm(s) * y_j",
        "LazyTensor(x) + LazyTensor(y)",
        "x_i * p_p",
    ):
        yield from _over_both(lazy)
    yield Case("x_i + LazyTensor(number) * y_j", J, fault="NumPy's arrays without axes are refused")
    yield Case("x_i * number + y_j", J, fault="NumPy's arrays without axes are refused")


def few_rows() -> Iterator[Case]:
    """One row, or one column, which KeOps takes for a parameter."""
    for lazy in (
        "x1_i - y_j",
        "x_i - y1_j",
        "x1_i - y1_j",
        "Vi(row) - Vj(columns)",
        "Vi(rows) - Vj(row)",
        "Vi(row) - Vj(row)",
    ):
        yield from _over_both(lazy)
        for name in ("argmin", "logsumexp"):
            yield Case(f"({lazy}).sqnorm2()", f"K.{name}(1), K.{name}(0)")
    yield Case("(Vi(row) - Vj(columns)).sqnorm2()", "K @ f, K.t() @ f[:1]")
    yield Case("(x1_i - y_j).sqnorm2()", "K @ f, K.t() @ f[:1]")
    yield Case("(x_i - y1_j).sqnorm2()", "K @ f[:1], K.T @ g")


def symbolic() -> Iterator[Case]:
    """Variables that are given at the call, and reductions that are called later."""
    squares = "({} - {}).sqnorm2()"
    called = squares.format("Vi(0, 3)", "Vj(1, 3)")
    given = squares.format("Vi(rows)", "Vj(columns)")
    for name in ("sum(1)", "sum(0)", "logsumexp(1)", "argmin(dim=0)", "Kmin_argKmin(2, dim=1)"):
        yield Case(called, f"K.{name}(rows, columns)", (given, f"K.{name}"))
    mixed, given = squares.format("Vi(0, 3)", "y_j"), squares.format("Vi(rows)", "y_j")
    for dim in (0, 1):
        yield Case(mixed, f"K.sum({dim})(rows)", (given, f"K.sum({dim})"))
    gradient = "(Vi(rows) - Vj(columns)) * 2 * Vj(columns[:, :1])"
    for lazy, args, dense in (
        ("Vi(0, 3) * Pm(1, 3) + Vj(2, 3)", "rows, p, columns", "Vi(rows) * Pm(p) + Vj(columns)"),
        ("Vi(1, 3) * Pm(0, 3) + Vj(2, 3)", "p, rows, columns", "Vi(rows) * Pm(p) + Vj(columns)"),
        ("Vi(0, 3) * 1.5 + Vj(1, 3) / 3", "rows, columns", "Vi(rows) * 1.5 + Vj(columns) / 3"),
        (
            "LazyTensor((0, 3, 0)) - LazyTensor((1, 3, 1))",
            "rows, columns",
            "Vi(rows) - Vj(columns)",
        ),
        (
            "Vi(0, 3).sqdist(Vj(1, 3)).exp().grad(Vi(0, 3), Vj(2, 1))",
            "rows, columns, columns[:, :1]",
            f"Vi(rows).sqdist(Vj(columns)).exp() * {gradient}",
        ),
    ):
        yield Case(lazy, f"K.sum(1)({args})", (dense, "K.sum(1)"))
    for name in ("sum(1", "logsumexp(0", "argKmin(2, dim=1"):
        yield Case(SCALAR, f"K.{name}, call=False)()", (SCALAR, f"K.{name})"))
    yield Case("x_i * y_j", "K.sum(1, call=False)(backend='CPU')", ("x_i * y_j", "K.sum(1)"))


def products() -> Iterator[Case]:
    """`@`, transposes, ranges and systems of equations."""
    gaussian = "(-(x_i - y_j).sqnorm2()).exp()"
    for reduced in (
        "K @ f",
        "K @ ff",
        "K @ bff",
        "K.t() @ g",
        "K.T @ gg",
        "K.t().t() @ f",
        "K.matvec(f)",
        "K.rmatvec(g)",
        "K.t().sum(1)",
        "K.T.argmin(dim=0)",
        "K.__matmul__(ff, sum_scheme='direct_sum')",
    ):
        dense = "K @ ff" if "__matmul__" in reduced else reduced
        yield Case(gaussian, reduced, (gaussian, dense))
    yield Case("(x_i * y_j + x_i).t()", J)
    yield Case("x_i.t() * x_i", J)
    yield Case("(x_i - x_i.t()).sqnorm2()", I)
    batched = "(-(bx_i - by_j).sqnorm2()).exp()"
    for reduced in ("K @ ff", "K @ bff", "K @ cff", "K.t() @ gg"):
        yield Case(batched, reduced)
    yield Case("(-(dx_i - dy_j).sqnorm2()).exp()", "K @ dff")
    yield Case("(-(dx_i - dy_j).sqnorm2()).exp()", "K @ ff")
    yield Case("(-(dx_i - dy_j).sqnorm2()).exp()", "K.t() @ gg")
    yield Case(gaussian, "K @ dff")
    for kept, reductions_of in (
        ("KEPT", ("K.sum(1)", "K.sum(0)", "K.min(1)", "K.argmin(0)", "K.logsumexp(1)", "K @ ff")),
        ("KEPT", ("K.t() @ g", "K.t().sum(1)", "K.Kmin_argKmin(1, dim=0)")),
        ("KEPT_ROW", ("K.sum(1)", "K.max(1)", "K.sum(0)", "K @ f")),
    ):
        for reduced in reductions_of:
            yield Case(f"with_ranges({gaussian}, {kept})", reduced)
    yield Case("with_ranges(x_i * y_j, KEPT)", "(K * x_i).sum(1)")
    yield from solves()


def solves() -> Iterator[Case]:
    """Systems whose matrix is positive definite."""
    kernel = "(-(Vi(rows) - Vj(rows)).sqnorm2()).exp()"
    lazy = "(-(x_i - LazyTensor(x.reshape(1, 5, 3))).sqnorm2()).exp()"
    for made in (kernel, lazy):
        for right in ("gg", "rows", "Vi(rows)", "Vi(gg)", "Vj(gg)", "x_i"):
            yield Case(made, f"K.solve({right}, alpha=0.5, eps=1e-12)")
    yield Case(
        kernel + " * Vj(0, 2)",
        "K.solve(Vi(gg), var=Vj(0, 2), alpha=0.5, eps=1e-12)",
        (kernel, "K.solve(gg, alpha=0.5)"),
    )
    yield Case(
        kernel,
        "K.solve(Vi(gg), alpha=0.5, eps=1e-12, call=False)()",
        (kernel, "K.solve(gg, alpha=0.5)"),
    )
    yield Case(
        "(-(Vi(0, 3) - Vj(1, 3)).sqnorm2()).exp()",
        "K.solve(Vi(2, 2), alpha=0.5, eps=1e-12)(rows, rows, gg)",
        (kernel, "K.solve(gg, alpha=0.5)"),
        fault="a system of symbolic variables alone fails",
    )
    yield Case(
        kernel,
        "K.solve(rows[:, ::2], alpha=0.5, eps=1e-12)",
        fault="strides are ignored (BUG-12)",
    )
    batch = "(-(bx_i - LazyTensor(bx.reshape(2, 1, 5, 3))).sqnorm2()).exp()"
    yield Case(batch, "K.solve(bx_i, alpha=0.5, eps=1e-12)")


def batches() -> Iterator[Case]:
    """Axes of a batch in some variables, in others of length 1, and in others none."""
    last = "K.dim() - 2"
    kinds = [("x_i", "cx_i", "bx_i"), ("y_j", "cy_j", "by_j"), ("p_p", "cp_p", "bp_p")]
    together = [(x, y, p) for x, y, p in itertools.product(*kinds) if "b" in x[0] + y[0] + p[0]]
    reduced = itertools.cycle(
        (
            f"K.sum(dim={last})",
            "K.sum(dim=1)",
            f"K.logsumexp({last})",
            "K.argmin(axis=1)",
            f"K.Kmin(2, dim={last})",
        )
    )
    for (x, y, p), reduction in zip(together, reduced, strict=False):
        yield Case(f"((({x} - {y}) * {p}) ** 2).sum(-1)", reduction)
    for lazy in (
        "bx_i * y_j",
        "bx_i - by_j",
        "cx_i - by_j",
        "bx_i * bp_p + y_j",
        "x_i * y_j + bp_p",
        "x_i * y_j * bs_p",
        "dx_i - dy_j",
        "dx_i - ey_j",
        "dx_i * y_j",
        "bx_i + bp",
        "bp_p",
        "bp_p + p_p",
        "bx_i | by_j",
        "(bx_i * by_j)[:, :, :, 1:]",
        "LazyTensor.cat((bx_i, by_j), dim=3)",
        "bx_i.concat(y_j)",
    ):
        yield from _over_both(lazy)
    yield Case(
        "(-bs_p * (cx_i - cy_j).sqnorm2()).exp()",
        J,
        fault="parameters alone have the batch (KeOps' issue 366)",
    )
    yield Case(
        "(-bs_p * (cx_i - cy_j).sqnorm2()).exp()",
        I,
        fault="parameters alone have the batch (KeOps' issue 366)",
    )
    yield Case(
        "(bx1_i - by1_j).sqnorm2()",
        "K.argmin(dim=3)",
        fault="one point beside a batch (KeOps' issue 382)",
    )
    yield Case("(bx1_i - by1_j).sqnorm2()", J, fault="one point beside a batch (KeOps' issue 382)")
    yield Case(
        "(-(bx_i - by_j).sqnorm2() + bv_j) / LazyTensor(number)", "K.logsumexp(1)", fault="#106"
    )
    yield Case("(bx_i - by_j).sqnorm2()", "K.logsumexp(2, weight=bw_j * bw_j)")
    yield Case("(bx_i - y_j).sqnorm2()", "K.sumsoftmaxweight(bw_j, dim=1)")
    yield Case("(bx_i - y_j).sqnorm2()", "K.sumsoftmaxweight(w_j, dim=2)")
    yield Case("(bx_i - by_j).sqnorm2()", "K.min_argmin(1)")
    yield Case("(bx_i * by_j)", "K.max_argmax(dim=2)")
    yield Case("(dx_i - dy_j).sqnorm2()", "K.Kmin_argKmin(2, dim=3)")


def types() -> Iterator[Case]:
    """The dtypes of values, of indices, and of numbers beside them."""
    for lazy, reduced in (
        ("x_i * y_j", "K.sum(1)"),
        ("(-(x_i - y_j).sqnorm2() / 3).exp()", "K.sum(0)"),
        ("(x_i - y_j).sqnorm2() * 1.5", "K.logsumexp(1)"),
        (SCALAR, "K.argmin(1)"),
        (SCALAR, "K.Kmin_argKmin(2, dim=0)"),
        ("(x_i - y_j).abs() ** 1.5", "K.sum(1)"),
        ("(-(x_i - y_j).sqnorm2()).exp()", "K @ ff"),
        ("x_i * [0.1, 0.2, 0.3] + y_j", "K.sum(1)"),
        ("bx_i * y_j", "K.sum(2)"),
    ):
        yield Case(lazy, reduced, dtype="float32")
        yield Case(lazy, reduced, dtype="float16", fault="float16 needs a GPU")


def complexes() -> Iterator[Case]:
    """Complex numbers."""
    for lazy in (
        "zx_i + zy_j",
        "zx_i - zy_j",
        "zx_i * zy_j",
        "zx_i / zy_j.exp()",
        "zx_i * v_j",
        "u_i * zy_j",
        "zx_i * y_j",
        "x_i * zy_j",
        "x_i + zy_j",
        "zx_i - y_j",
        "zu_i * zy_j",
        "zu_i + zy_j",
        "zx_i * zy_j.conj()",
        "(zx_i * zy_j).real",
        "(zx_i * zy_j).imag",
        "(zx_i + zy_j).angle()",
        "(zx_i + zy_j).abs()",
        "abs(zx_i + zy_j)",
        "(zx_i * zy_j).exp()",
        "(zx_i * zy_j).sum()",
        "(zx_i * zy_j).sum(-1)",
        "(x_i * y_j).real2complex()",
        "(x_i * y_j).imag2complex()",
        "(x_i * y_j).exp1j()",
        "zu_i * zv_j",
        "zx_i * LazyTensor(zp) + zy_j",
        "x_i * (1 + 2j) * v_j",
        "bzx_i * zy_j",
    ):
        yield Case(lazy, J)
    yield Case("zx_i * zy_j", I)
    yield Case("zx_i * zy_j", I, dtype="float32")
    for lazy in (
        "zx_i * 2.0 + zy_j",
        "2 * zx_i + zy_j",
        "zx_i * (1 - 2j) + zy_j",
        "(zx_i + zy_j) / 2",
        "zx_i - 1.5 + zy_j",
        "1.5 - zx_i + zy_j",
        "zx_i * p + zy_j",
        "zx_i * y",
        "-zx_i + zy_j",
        "zx_i * [1 + 1j, 2 - 1j, 3j] + zy_j",
    ):
        yield Case(lazy, J, fault="complex numbers with Python's, lists and real arrays (BUG-16)")
    for lazy, reduced in (
        ("zu_i * zv_j", "K @ f"),
        ("zu_i * zv_j", "K @ zv.reshape(4)"),
        ("zu_i * zv_j", "K.t() @ gg"),
    ):
        yield Case(lazy, reduced, fault="a complex value counts as two")


def cases() -> list[Case]:
    """All cases, each once."""
    families = (
        elementwise, broken_operators, reductions, constructions, few_rows, symbolic, products,
        batches, types, complexes,
    )  # fmt: skip
    found = {str(case): case for family in families for case in family()}
    return list(found.values())
