"""Random formulas over all operations, with fitting dimensions: needs no backend.

A formula grows from templates.  Functions with a kink or a jump get an argument whose sign and
order are exact in float32 (a variable, or a difference of two): elsewhere a rounding error may take
the other branch, which is nobody's fault.  Smooth templates keep moderate numbers moderate.
Elementwise operations that no template holds get one from their rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple, TypeVar

from redcomp.ops import SPELLINGS, Operation

T = TypeVar("T")


class Choices:
    """Random decisions."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def below(self, n: int) -> int:
        return self.random.randrange(n)

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def once_in(self, n: int) -> bool:
        return self.below(n) == n - 1


class Argument(NamedTuple):
    name: str
    kind: str  # Vi, Vj or Pm
    dim: int

    def __str__(self) -> str:
        return f"{self.name} = {self.kind}({self.dim})"


# A template makes a formula of dimension d from parts of the dimensions named in braces, where k is
# another dimension: {f:..} is a formula, {x:..} an exact one, {v:..} a variable, {n:..} the number.
DIMENSIONS: Mapping[str, Callable[[int, int], int]] = {
    "d": lambda d, k: d,
    "k": lambda d, k: k,
    "1": lambda d, k: 1,
    "2": lambda d, k: 2,
    "d-1": lambda d, k: d - 1,
    "d+k": lambda d, k: d + k,
    "d*k": lambda d, k: d * k,
    "d*k-d": lambda d, k: d * k - d,
    "k*k": lambda d, k: k * k,
    "d*2": lambda d, k: d * 2,
    "k*2": lambda d, k: k * 2,
    "d/2": lambda d, k: d // 2,
    "d*k*2": lambda d, k: d * k * 2,
}
SLOT = re.compile(r"\{([fxvn]):([^}]+)\}")

SMOOTH = (
    "({f:d})*3",
    "({f:d})/3",
    "(-({f:d}))",
    "Sin({f:d})",
    "Cos({f:d})",
    "Tanh({f:d})",
    "Sigmoid({f:d})",
    "Softplus({f:d})",
    "Atan({f:d})",
    "Erf({f:d})",
    "Erfc({f:d})",
    "SinXDivX({f:d})",
    "Exp(-Square({f:d}))",
    "Exp(Sin({f:d}))",
    "Exp2(Cos({f:d}))",
    "Expm1(Sin({f:d}))",
    "Sinh(Sin({f:d}))",
    "Cosh(Tanh({f:d}))",
    "Asin(0.9*Sin({f:d}))",
    "Acos(0.9*Cos({f:d}))",
    "Inv(IntCst(1)+Square({f:d}))",
    "Log(IntCst(2)+Cos({f:d}))",
    "Log2(IntCst(3)-Sin({f:d}))",
    "Log1p(Square({f:d}))",
    "XLogX(1.5+Sin({f:d}))",
    "Sqrt(IntCst(1)+Square({f:d}))",
    "Rsqrt(1+Square({f:d}))",
    "Powf(1.5+Sin({f:d}),RatCst(3,2))",
    "Powf(1.5+Sin({f:d}),Sin({f:1}))",
    "Pow(Tanh({f:d}),3)",
    "Pow(2+Cos({f:d}),-2)",
    "(1.5+Cos({f:d}))**1.5",
    "Cbrt(2+Sin({f:d}))",
    "({f:d})**2*IntInv(4)",
    "Minus({f:d})",
)
SHARP = (
    "Abs({x:d})",
    "ReLU({x:d})",
    "Step({x:d})",
    "Sign({x:d})",
    "Floor({x:d})",
    "Round({x:d}*4,0)",
    "Clamp({x:d},-0.5,RatCst(1,4))",
    "Clamp({v:d},{v:1}-2,{v:1}*IntInv(2))",
    "ClampInt({x:d},0,1)",
    "DiffClampInt({x:d},-1,0)",
    "Mod({x:d},IntCst(2),IntCst(0))",
    "Minimum({x:d},0)",
    "Maximum({v:d},{v:1})",
    "Minimum({v:1},{v:d})",
    "LessThan({x:d},0.25)",
    "LessOrEqual({v:d},{v:1})",
    "Equal(Sign({x:d}),IntCst(1))",
    "NotEqual(Step({x:d}),Step({x:1}))",
    "({v:d}<{v:1})",
    "({v:1}>={v:d})",
)
BINARY = (
    "({f:d}+{f:d})*0.5",
    "({f:d}-{f:d})*0.5",
    "({f:d})*({f:d})",
    "({f:1})*({f:d})",
    "({f:d})-({f:1})",
    "({f:d})/(IntCst(2)+Cos({f:d}))",
    "({f:1})/(IntCst(2)+Cos({f:d}))",
    "Atan2({f:d},2+Cos({f:d}))",
    "Atan2({f:1},2+Cos({f:d}))",
    "Add({f:d},{f:1})*0.5",
    "Subtract({f:1},{f:d})*0.5",
    "Mult({f:d},{f:d})",
    "Divide({f:d},2+Sin({f:1}))",
    "IfElse({x:1},{f:d},{f:d})",
    "IfElse({x:d},{f:d},{f:1})",
)
TO_SCALAR = (
    "Sum({f:k})*IntInv({n:k})",
    "Scalprod({f:k},{f:k})*IntInv({n:k})",
    "({f:k}|{f:k})*IntInv({n:k})",
    "SqDist({f:k},{f:k})*IntInv({n:k})",
    "SqDist({f:1},{f:k})*IntInv({n:k})",
    "SqNorm2({f:k})*IntInv({n:k})",
    "Norm2(Concat({f:k},IntCst(1)))*IntInv({n:k})",
    "SqNormIso({f:1},{f:k})*IntInv({n:k})",
    "SqNormDiag({f:k},{f:k})*IntInv({n:k})",
    "WeightedSqNorm({f:k},{f:k})*IntInv({n:k})",
    "WeightedSqDist({f:1},{f:k},{f:k})*IntInv({n:k})",
    "Max({v:k})",
    "Min({v:k})",
    "ArgMax({v:k})*IntInv({n:k})",
    "ArgMin({v:k})*IntInv({n:k})",
    "BSpline(Concat(Concat({v:1}-2,IntCst(0)),Concat(IntCst(1),{v:1}+3)),{v:1},2)",
    "Elem({f:k},0)",
)
QUADRATIC = (  # of k x k numbers: for a short vector only
    "SoftDTW_SqDist({f:k},{f:k},1.5+Cos({f:1}))*IntInv({n:k})",
    "SymSqNorm({f:k*k},{f:k})*IntInv({n:k*k})",
    "WeightedSqNorm({f:k*k},{f:k})*IntInv({n:k*k})",
    "WeightedSqDist({f:k*k},{f:k},{f:k})*IntInv({n:k*k})",
)
VECTOR = (
    "SumT({f:1},{n:d})",
    "Concat({f:1},{f:d-1})",
    "Concat({f:d-1},{f:1})",
    "Extract({f:d+k},0,{n:d})",
    "Extract({f:d+k},{n:k},{n:d})",
    "ExtractT({f:d-1},0,{n:d})",
    "ExtractT({f:d-1},1,{n:d})",
    "ElemT({f:1},{n:d},0)",
    "ElemT({f:1},{n:d},{n:d-1})",
    "OneHot({v:1},{n:d})",
    "Normalize({f:d}+IntCst(3))",
)
MATRIX = (
    "MatVecMult({f:d*k},{f:k})*IntInv({n:k})",
    "VecMatMult({f:k},{f:d*k})*IntInv({n:k})",
    "TensorProd({f:d},{f:1})",
    "Extract(TensorProd({f:d},{f:k}),{n:d*k-d},{n:d})",
    "TensorDot({f:d*k},{f:k},[{n:d},{n:k}],[{n:k}],[1],[0])*IntInv({n:k})",
    "TensorDot({f:k},{f:d*k},[{n:k}],[{n:k},{n:d}],[0],[0])*IntInv({n:k})",
    "Extract(TensorDot({f:k},{f:d},[{n:k}],[{n:d}],[],[],[1,0]),0,{n:d})",
    "Extract(Kron({f:k},{f:d},[{n:k}],[{n:d}]),0,{n:d})",
    "Extract(Kron({f:k},{f:d*2},[1,{n:k}],[2,{n:d}]),{n:d},{n:d})",
)
FROM_COMPLEX = (
    "ComplexReal({f:d*2})",
    "ComplexImag({f:d*2})",
    "ComplexSquareAbs({f:d*2})*0.5",
    "ComplexAbs(Real2Complex(2+Cos({f:d})))",
    "ComplexAbs(ComplexAdd(Real2Complex(2+Cos({f:d})),Imag2Complex({f:d})))",
    "ComplexAngle(ComplexAdd(Real2Complex(2+Cos({f:d})),Imag2Complex({f:d})))",
)
COMPLEX = (
    "Real2Complex({f:d/2})",
    "Imag2Complex({f:d/2})",
    "Complex({f:d/2},{f:d/2})",
    "Conj({f:d})",
    "ComplexAdd({f:d},{f:d})*0.5",
    "ComplexSubtract({f:d},{f:2})*0.5",
    "ComplexMult({f:d},{f:d})",
    "ComplexMult({f:2},{f:d})",
    "ComplexDivide({f:d},ComplexAdd(Real2Complex(IntCst(2)),Imag2Complex(Sin({f:d/2}))))",
    "ComplexScal({f:2},{f:d})",
    "ComplexRealScal({f:1},{f:d})",
    "ComplexRealScal({f:d},{f:1})",
    "ComplexExp(Tanh({f:d}))",
    "ComplexExp1j({f:d/2})",
    "ComplexSumT({f:2},{n:d})",
)
COMPLEX_SCALAR = (  # for d = 2
    "ComplexSum({f:k*2})*IntInv({n:k})",
)
# Derivatives inside the formula; {f:..} after the first part may be as deep as any.
DERIVATIVE = (
    "Grad({f:1},{v:d},{f:1})*0.5",
    "Grad({f:k},{v:d},{f:k})*IntInv({n:k})",
    "Diff({f:d},{v:k},{f:k})*IntInv({n:k})",
    "GradMatrix({f:1},{v:d})*0.5",
    "GradMatrix({f:d},{v:1})*0.5",
)
DERIVATIVE_SCALAR = (
    "Divergence({f:k},{v:k})*IntInv({n:k})",
    "Laplacian({f:1},{v:k})*IntInv({n:k})",
)
LONGEST_DERIVED = 5  # components of a derivative's parts, whose code grows fast
LONGEST_MATRIX = 64  # entries of a matrix


def _names(*groups: Sequence[str]) -> set[str]:
    return {
        name for group in groups for text in group for name in re.findall(r"([A-Z]\w+)\(", text)
    }


def _of_row(row: Operation) -> str:
    """A template for an elementwise operation, on its domain if it is smooth (and so rounds)."""
    intervals = (row.domain.intervals * row.arity)[: row.arity]
    operands = ["{x:d}", "{v:1}", "{v:d}"][: row.arity]
    if row.ulp:
        operands = [
            f"{(low + high) / 2}+{(high - low) / 2}*Sin({{f:d}})" for low, high in intervals
        ]
    parameters = (row.domain.parameters or [()])[0]
    return f"{row.spelling}({','.join([*operands, *map(str, parameters)])})"


_BY_HAND = _names(
    *(SMOOTH, SHARP, BINARY, TO_SCALAR, QUADRATIC, VECTOR, MATRIX, FROM_COMPLEX, COMPLEX),
    *(COMPLEX_SCALAR, DERIVATIVE, DERIVATIVE_SCALAR),
)
_OTHERS = [row for row in SPELLINGS.values() if row.elementwise and row.spelling not in _BY_HAND]
SMOOTH_BY_ROWS = tuple(_of_row(row) for row in _OTHERS if row.ulp)
SHARP_BY_ROWS = tuple(_of_row(row) for row in _OTHERS if not row.ulp)


def names_in_templates() -> set[str]:
    """The operations that a formula may hold."""
    return _BY_HAND | _names(SMOOTH_BY_ROWS, SHARP_BY_ROWS)


class Grammar:
    """Grows formulas over variables that it declares as it goes."""

    def __init__(self, choices: Choices, dim: int) -> None:
        self.choices, self.dim = choices, dim
        self.arguments = [Argument("x", "Vi", dim), Argument("y", "Vj", dim)]
        if choices.once_in(10):  # an index without variables has size 1
            del self.arguments[choices.below(2)]

    def formula(self, d: int, depth: int, may_derive: bool = True) -> str:
        """A formula of dimension d."""
        if depth == 0 or self.choices.once_in(6):
            return self.variable(d)
        k = self.choices.one_of((self.dim, 2, 3, 5, self.dim, 1))
        template = self.choices.one_of(self.choices.one_of(self.groups(d, k, may_derive)))
        may_derive = may_derive and template not in (*DERIVATIVE, *DERIVATIVE_SCALAR)

        def part(match: re.Match[str]) -> str:
            kind, size = match[1], DIMENSIONS[match[2]](d, k)
            if kind == "n":
                return str(size)
            if kind == "v":
                return self.variable(size, is_needed=True)
            return self.exact(size) if kind == "x" else self.formula(size, depth - 1, may_derive)

        return SLOT.sub(part, template)

    def groups(self, d: int, k: int, may_derive: bool) -> list[Sequence[str]]:
        """The groups of templates that fit; more than once what should come more often."""
        smooth, sharp = SMOOTH + SMOOTH_BY_ROWS, SHARP + SHARP_BY_ROWS
        found: list[Sequence[str]] = [BINARY, smooth, smooth, sharp]
        if d == 1:
            found += [TO_SCALAR, TO_SCALAR]
            found += [QUADRATIC] if k * k <= LONGEST_MATRIX else []
        else:
            found += [VECTOR, VECTOR]
        if d * k * 2 <= LONGEST_MATRIX:
            found += [MATRIX, FROM_COMPLEX]
        if d % 2 == 0:
            found += [COMPLEX] + ([COMPLEX_SCALAR] if d == 2 else [])
        if may_derive and max(d, k, self.dim) <= LONGEST_DERIVED:
            found += [DERIVATIVE] + ([DERIVATIVE_SCALAR] if d == 1 else [])
        return found

    def variable(self, dim: int, is_needed: bool = False) -> str:
        """A variable; without `is_needed` it may be a constant where there are many already."""
        known = [a.name for a in self.arguments if a.dim == dim]
        if known and not self.choices.once_in(3):
            return self.choices.one_of(known)
        if len(self.arguments) < 6 or (is_needed and not known):
            kind = self.choices.one_of(("Vj", "Vi", "Pm"))
            self.arguments.append(Argument(f"v{len(self.arguments)}", kind, dim))
            return self.arguments[-1].name
        if known:
            return self.choices.one_of(known)
        return self.constant() if dim == 1 else f"SumT({self.variable(1)},{dim})"

    def constant(self) -> str:
        return self.choices.one_of(("IntCst(1)", "RatCst(1,3)", "IntCst(-2)", "IntInv(-2)"))

    def exact(self, dim: int) -> str:
        """An argument without rounding errors in its sign."""
        first = self.variable(dim)
        return f"({first}-{self.variable(dim)})" if self.choices.once_in(2) else first

    def truth(self, dim: int) -> str:
        """A formula that is exactly zero, or not, for many pairs."""
        compared = self.choices.one_of(("{}<0.9", "Step({}-0.75)", "ReLU({}+0.5)", "Floor({})"))
        return compared.format(self.exact(dim))
