"""The pass reroll: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest
from pass_tools import EXACT, kernel_text

from redcomp.frontend.reductions.pair_reduction import PairReduction
from redcomp.interpret import interpret
from redcomp.ir import Kernel, Value, topological
from redcomp.numpy import Genred
from redcomp.passes.cse import with_shared_values
from redcomp.passes.reroll import LEAST_TERMS, reroll
from redcomp.text import parse_kernel, print_kernel
from redcomp.verify import verify

N = LEAST_TERMS
ALIASES = ["x=Vi(2)", "y=Vj(2)", "p=Pm(1)", "b=Vj(3)"]


def written(formula: str, dtype: str = "f64") -> Kernel:
    """The kernel of a formula before the pass."""
    reduction: PairReduction = Genred(formula, ALIASES, axis=1).reduction
    return with_shared_values(reduction.source.kernel(dtype))


def summed(term: str, count: int = N, between: str = "+") -> str:
    """A term with {k}, {c} and {s} for an integer, a number and one of either sign."""
    return between.join(
        term.format(k=k + 2, c=f"{0.3 + 0.7 * k:.2f}", s=f"({(-1) ** k * (k + 0.5)})")
        for k in range(count)
    )


def operations(kernel: Kernel) -> int:
    return sum(value.op not in ("constant", "variable") for value in kernel.values)


def values_at_random(kernel: Kernel) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"i": (4, 1), "j": (1, 5), "parameter": (1, 1)}
    arrays = {v["name"]: random.random((*shapes[v["kind"]], v.dim)) for v in kernel.params}
    return interpret(kernel.roots, arrays)


def test_terms_become_vectors() -> None:
    terms = [
        f"""
        %c{k} = "arith.constant"() {{value = {k + 2}.0 : f32}} : () -> f32
        %m{k} = "arith.mulf"(%c{k}, %x) : (f32, f32) -> f32
        %e{k} = "redcomp.exp"(%m{k}) : (f32) -> f32
        %s{k} = "arith.addf"(%{"y" if k == 0 else f"s{k - 1}"}, %e{k}) : (f32, f32) -> f32
        """
        for k in range(N)
    ]
    before = kernel_text("x i f32, y j f32", "".join(terms), f"%s{N - 1}: f32")
    bits = ", ".join(str(np.float32(k + 2).view(np.int32)) for k in range(N))
    after = f"""
        %0 = "redcomp.constants"() {{table = array<i64: {bits}>}} : () -> vector<{N}xf32>
        %1 = "redcomp.multiply"(%0, %x) : (vector<{N}xf32>, f32) -> vector<{N}xf32>
        %2 = "redcomp.exp"(%1) : (vector<{N}xf32>) -> vector<{N}xf32>
        %3 = "redcomp.sum"(%2) : (vector<{N}xf32>) -> f32
        %4 = "arith.addf"(%y, %3) : (f32, f32) -> f32
        """
    made = print_kernel(reroll(parse_kernel(before), EXACT))
    expected = print_kernel(parse_kernel(kernel_text("x i f32, y j f32", after, "%4: f32")))
    assert made == expected


# Formulas, and how many sums over vectors there are afterwards.
CASES = {
    "Gaussians": (summed("Exp(-{k}*SqDist(x,y))"), 1),
    "weights": (summed("{c}*Exp(-SqDist(x,y)/{k})"), 1),
    "weights of either sign": (summed("{s}*Exp(-SqDist(x,y)*{c})"), 1),
    "differences": (summed("{c}*Exp(-{k}*SqDist(x,y))", between="-"), 1),
    "from the right": (summed("(Sin({k}*(x|y))", between="+") + N * ")", 1),
    "an equal constant in each": (summed("Inv(1+{c}*SqDist(x,y)+2*(x|y))"), 1),
    "a constant twice in one": (summed("Exp(-{c}*SqDist(x,y))*Sin({c}*p)"), 1),
    "powers of constants": (summed("Powf(1+SqDist(x,y),{s})"), 1),
    "selections": (summed("IfElse(SqDist(x,y)-{c},Exp(-{k}*p),{k}*p)"), 1),
    "constants alone": (summed("Exp({c}*p)"), 1),
    "a run in others": ("p+" + summed("Exp(-{k}*p)") + "+Cos(p)+Sin(p)", 1),
    "two runs": (summed("Exp(-{k}*(x|y))") + "+" + summed("Cos({k}*(x|y))"), 2),
    "times each other": (f"({summed('Exp(-{k}*p)')})*({summed('Cos({k}*(x|y))')})", 2),
    "within itself": (f"Exp(-({summed('Exp(-{k}*p)')}))+{summed('Cos({k}*(x|y))')}", 2),
    "within each term": (summed("Sin({k}*(" + summed("Exp(-{k}*p)") + "))"), 2),
    "beside a vector": (f"({summed('Exp(-{k}*SqDist(x,y))')})*b", 1),
    "times a vector": (summed("Exp(-{k}*SqDist(x,y))*b"), 1),
    "differences times a vector": (summed("b*({c}*Exp(-{k}*p))", between="-"), 1),
    "a factor of each": (summed("Sum(b)*Exp(-{k}*p)*Norm2(b)"), 1),
}
AS_THEY_ARE = {
    "too few": summed("Exp(-{k}*SqDist(x,y))", N - 1),
    "vectors": summed("Exp({k}*b)"),
    "times vectors": "+".join(f"Exp(-{k}*p)*{('b', 'Sin(b)')[k % 2]}" for k in range(N)),
    "one value": "+".join(N * ["Sin(p)"]),
    "one vector": "+".join(N * ["b"]),
    "numbers": "p*(" + summed("{c}") + ")",
    "numbers and others": summed("{c}+p"),
    "in turn": summed("Exp(-{k}*p)+p*{k}"),
    "a balanced sum": "+".join(f"({summed('Exp(-{k}*p)', 8)})" for _ in range(8)),
    "no constants": "+".join(f"Exp({k * 'Sin('}p{k * ')'})" for k in range(N)),
    "parameters of operations": summed("Pow(p,{k})"),
    "products": summed("Exp(-{k}*p)", between="*"),
}


@pytest.mark.sampled(30)
@pytest.mark.parametrize("name", CASES)
def test_values_stay(name: str) -> None:
    formula, sums = CASES[name]
    kernel = written(formula)
    made = reroll(kernel, EXACT)
    verify(made)
    tables = [v for v in made.values if v.op == "sum" and v.args[0].dim >= N]
    assert len(tables) == sums
    assert operations(made) < operations(kernel) / 4
    for before, after in zip(values_at_random(kernel), values_at_random(made), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-13)
    assert reroll(made, EXACT) is made


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_others_stay_as_they_are(name: str) -> None:
    kernel = written(AS_THEY_ARE[name])
    assert reroll(kernel, EXACT) is kernel


def test_partial_sums_that_others_need_stay() -> None:
    total = summed("Exp(-{k}*p)", 2 * N)
    partial = summed("Exp(-{k}*p)", N)
    made = reroll(written(f"({total})*Sin({partial})"), EXACT)
    assert [v.args[0].dim for v in made.values if v.op == "sum"] == [N, N]


def test_terms_that_share_other_values_are_not_alike() -> None:
    """Of x1 * x2 both factors are alike in all terms, but they are one value in some only."""
    terms = [f"Sin({k}*p)*Sin({k if k % 2 else k + 1}*p)" for k in range(N)]
    kernel = written("+".join(terms))
    made = reroll(kernel, EXACT)
    for before, after in zip(values_at_random(kernel), values_at_random(made), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-13)


def test_entries_are_those_of_the_dtype() -> None:
    made = reroll(written(summed("Exp(-{c}*p)"), "f32"), EXACT)
    (table,) = (v for v in topological(made.roots) if v.op == "constants")
    expected = np.array([np.float32(float(f"{0.3 + 0.7 * k:.2f}")) for k in range(N)])
    np.testing.assert_array_equal(np.abs(_entries(table)), expected)


def _entries(table: Value) -> np.ndarray:
    return np.array(table["table"], np.int32).view(np.float32)
