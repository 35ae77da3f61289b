"""What new users get wrong, and what they are told: needs a CPU and PyTorch.

Each row is a program, and what its error must say: which argument or which place in the formula is
wrong, and what to write instead.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import redcomp
import redcomp.numpy as rn
import redcomp.numpy.cluster
import redcomp.torch as rt
from redcomp.errors import ArgumentError, AxisWarning, FormulaError, KeywordError, RedcompError

FORMULA = "Exp(-SqDist(x, y)) * b"
ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
PAIR = ALIASES[:2]

FAQ = Path(__file__).parents[1] / "docs" / "faq.md"

random = np.random.default_rng(0)
x, y, b = (random.random(shape, dtype=np.float32) for shape in ((4, 3), (5, 3), (5, 1)))
tx, ty, tb = map(torch.from_numpy, (x, y, b))
wide = x.astype(np.float64)


@dataclass(frozen=True)
class Mistake:
    """A program, parts of what its error must say, and the text that the caret is under."""

    program: Callable[[], Any]
    says: tuple[str, ...]
    at: str | None = None
    error: type[Exception] = ArgumentError


def formula(text: Any, *says: str, at: str | None = None, aliases: Any = ALIASES) -> Mistake:
    """A formula with a mistake."""
    error = RedcompError if at is None else FormulaError
    return Mistake(lambda: rn.Genred(text, aliases, axis=1), says, at, error)


def aliases(given: Any, *says: str, at: str | None = None, of: str = "x") -> Mistake:
    """Aliases with a mistake."""
    return formula(of, *says, at=at, aliases=given)


def option(*says: str, error: type[Exception] = RedcompError, **options: Any) -> Mistake:
    """An option of the constructor with a mistake."""
    given = {"formula": FORMULA, "aliases": ALIASES, "axis": 1, **options}
    return Mistake(lambda: rn.Genred(**given), says, None, error)


def call(*args: Any, says: tuple[str, ...], of: Any = ALIASES, **options: Any) -> Mistake:
    """Arguments of a call with a mistake; of tensors, if the first one is a tensor."""
    library = rt if isinstance(args[0], torch.Tensor) else rn
    text = FORMULA if of is ALIASES else of[0]
    names = ALIASES if of is ALIASES else list(of[1:])
    error = options.pop("error", ArgumentError)
    return Mistake(lambda: library.Genred(text, names, axis=1)(*args, **options), says, None, error)


def lazy(program: Callable[[], Any], *says: str) -> Mistake:
    """An expression of LazyTensors with a mistake."""
    return Mistake(program, says)


x_i, y_j = rn.LazyTensor(x[:, None, :]), rn.LazyTensor(y[None, :, :])
K = (-((x_i - y_j) ** 2).sum(-1)).exp()
tx_i = rt.LazyTensor(tx[:, None, :])


IN_FORMULAS: Mapping[str, Mistake] = {
    "a function of NumPy": formula(
        "np.exp(-SqDist(x, y))", "Exp(...)", "instead of np.exp(...)", at="np.exp"
    ),
    "a function of PyTorch": formula(
        "b * torch.sqrt(SqDist(x, y))", "Sqrt(...)", "instead of torch.sqrt(...)", at="torch.sqrt"
    ),
    "a function in a module of a module": formula(
        "torch.nn.functional.relu(x)", "ReLU(...)", at="torch.nn.functional.relu"
    ),
    "a function that is none here": formula("np.polyfit(x)", "Exp(f)", at="np.polyfit"),
    "a constant of NumPy": formula("np.pi * x", "3.14159", at="np.pi"),
    "a method": formula("((x - y) ** 2).sum()", "Sum(...)", "instead of .sum()", at=".sum"),
    "a method of a variable": formula("x.sum()", "Sum(x)", at="x.sum"),
    "a method with an axis": formula("(x * y).sum(-1)", "Sum(...)", at=".sum"),
    "a transpose": formula("x.T * y", "attributes", at="x.T"),
    "a power as in mathematics": formula("SqDist(x, y) ^ 2", "'^'", "x ** 2", at="^"),
    "a matrix product": formula("x @ y", "'@'", "(f | g)", at="@"),
    "a component": formula("x[0] * b", "Elem(x, 0)", at="[0]"),
    "a component of an expression": formula("(x - y)[0]", "Elem(f, 0)", at="[0]"),
    "components": formula("x[0:2] * b", "Extract(x, 0, 2)", at="[0:2]"),
    "all rows": formula("x[:, 0]", "Elem(x, 0)", at="[:, 0]"),
    "and": formula("(x < y) and (y < 1)", "'and'", "(a < b) * (c < d)", at="and"),
    "or": formula("(x < y) or (y < 1)", "'or'", "Maximum", at="or"),
    "not": formula("not (x < y)", "'not'", "1 -", at="not"),
    "if": formula(
        "x if x < y else y", "'if'", "IfElse(c, f, g)", "at least 0", "IfElse(c - 1, f, g)", at="if"
    ),
    "a selection of another name": formula("where(x < y, x, y)", "IfElse(c - 1", at="where"),
    "is": formula("x is y", "'is'", "x == y", at="is"),
    "in": formula("x in y", "'in'", at="in"),
    "lambda": formula("lambda x, y: x * y", "'lambda'", at="lambda"),
    "an ampersand": formula("(x < y) & (y < 1)", "'&'", "(a < b) * (c < d)", at="&"),
    "a negation": formula("~(x < y)", "'~'", "1 -", at="~"),
    "a logical negation": formula("!(x < y)", "'!'", "1 -", at="!"),
    "a chain of comparisons": formula("0 < x < y", "(a < b) * (b < c)", at="<"),
    "an equality with one sign": formula("x = y", "'=='", at="="),
    "an assignment": formula("out = x * y", "'=='", at="="),
    "a quotient without rest": formula("x // 2", "Floor(x / 2)", at="//"),
    "a rest": formula("x % 2", "Mod(x, 2, 0)", at="%"),
    "a product without its sign": formula("2 x", "'*'", at="x"),
    "a product of brackets": formula("(x + 1)(y + 1)", "'*'", at="("),
    "two names": formula("x y", "'*'", at="y"),
    "bars of an absolute value": formula("|x - y|", "Abs(...)", at="|"),
    "bars of a norm": formula("||x - y||", "Norm2(...)", at="||"),
    "a missing operand": formula("x + ", "the end", at=""),
    "a bracket too few": formula("Exp(-SqDist(x, y) * b", "never closed", at="("),
    "a bracket too many": formula("Exp(-SqDist(x, y))) * b", "')' closes nothing", at=")"),
    "braces of an f-string": formula("Exp(-{gamma} * SqDist(x, y))", "f-string", at="{"),
    "a quotation mark": formula("'x' * y", "without quotation marks", at="'"),
    "a comment": formula("x * y # all pairs", "comment", at="#"),
    "a semicolon": formula("x * y;", "one formula", at=";"),
    "a backslash": formula("x * \\ y", "line", at="\\"),
    "a colon": formula("f(x): x", "':'", at=":"),
    "a decimal point of another language": formula("x * 0,5", "','", at=","),
    "a minus sign of a text processor": formula("x \N{MINUS SIGN} y", "'-'", at="\N{MINUS SIGN}"),
    "a multiplication sign": formula("x \N{MULTIPLICATION SIGN} y", "'*'", at="\xd7"),
    "a square of a text processor": formula("x\N{SUPERSCRIPT TWO}", "** 2", at="\xb2"),
    "a Greek letter": formula("\N{GREEK SMALL LETTER GAMMA} * x", "ASCII", at="\u03b3"),
    "a space that does not break": formula("x\xa0* y", "a space", at="\xa0"),
    "another case": formula("exp(-SqDist(x, y))", "Exp", at="exp"),
    "a slip of the pen": formula("SqDst(x, y)", "SqDist", at="SqDst"),
    "a name of NumPy's": formula("power(x, 2)", "Pow", at="power"),
    "a norm": formula("norm(x - y)", "Norm2", at="norm"),
    "a distance": formula("Dist(x, y)", "Norm2(x - y)", "SqDist(x, y)", at="Dist"),
    "a norm that is a reduction": formula("Norm(x - y)", "Norm2(f)", at="Norm"),
    "a dot product": formula("dot(x, y)", "(f | g)", at="dot"),
    "a maximum of two": formula("Max(x, y)", "Maximum", at="Max(x, y)"),
    "a reduction": formula("LogSumExp(x)", 'reduction_op="LogSumExp"', at="LogSumExp"),
    "a reduction as KeOps writes it": formula(
        "Sum_Reduction(x * y, 0)", 'reduction_op="Sum"', at="Sum_Reduction"
    ),
    "pi": formula("pi * x", "3.14159", at="pi"),
    "an infinity": formula("x * inf", "Maximum", at="inf"),
    "true": formula("True * x", "1", at="True"),
    "an unknown name": formula("x * z", "the names are: x, y, b", '"z = Pm(1)"', at="z"),
    "a variable of the program": formula("Exp(-gamma * SqDist(x, y))", "Pm(1)", at="gamma"),
    "an operation without brackets": formula("Exp * x", "Exp(f)", at="Exp"),
    "a variable that is called": formula("x(y)", "'x'", "'*'", at="x"),
    "too few arguments": formula("SqDist(x) * b", "SqDist(f, g) takes 2", at="SqDist(x)"),
    "too many arguments": formula("Exp(x, y)", "Exp(f) takes 1", at="Exp(x, y)"),
    "no arguments": formula("Exp()", "Exp(f) takes 1", at="Exp()"),
    "a keyword": formula("Elem(x, m=0)", "by position", at="="),
    "an axis": formula("Sum(x, axis=1)", "by position", at="="),
    "the sum before the formula": formula(
        "sum_j Exp(-SqDist(x, y))", 'reduction_op="Sum"', at="sum_j"
    ),
    "the sum as a function": formula("sum_j(x * y)", 'reduction_op="Sum"', at="sum_j"),
    "the index after the name": formula("SqDist(x_i, y_j)", "did you mean x?", at="x_i"),
    "a name that only has an index": formula("x * z_j", '"z_j = Vj(3)"', at="z_j"),
    "Euler's number": formula("e ** (-SqDist(x, y))", "Exp(f)", at="e"),
    "dimensions": formula("x * y", "3, 2", at="x * y", aliases=["x=Vi(3)", "y=Vj(2)"]),
    "a component beyond the last": formula("Elem(x, 3)", "3", at="Elem(x, 3)"),
    "an index that is no literal": formula("Elem(x, b)", "integer", at="b"),
    "division by zero": formula("x / 0", "division by zero", at="x / 0"),
    "a number that is too large": formula("1e400 * x", "too large", at="1e400"),
    "an empty formula": formula("", "formula is empty"),
    "no formula": formula(None, "formula must be a string", 'such as "'),
    "a function for a formula": formula(
        lambda x, y: x * y, "formula must be a string", 'such as "'
    ),
    "an array for a formula": formula(x, "formula[0] must be a string", 'such as "'),
    "a list of no formulas": formula([], "formula"),
    "a LazyTensor for a formula": formula(K, "formula must be a string", 'such as "'),
}

IN_ALIASES: Mapping[str, Mistake] = {
    "all in one text": aliases("x = Vi(3), y = Vj(3)", "a list", '["', at=","),
    "a dict": aliases({"x": "Vi(3)"}, "aliases must be a list", '"x = Vi(3)"'),
    "a set": aliases({"x = Vi(3)"}, "aliases must be a list", '"x = Vi(3)"'),
    "pairs": aliases([("x", "Vi(3)")], "aliases[0]", '"x = Vi(3)"'),
    "LazyTensors": aliases([rn.Vi(0, 3)], "aliases[0]", '"x = Vi(3)"'),
    "arrays": aliases([x, y], "aliases[0]", '"x = Vi(3)"'),
    "none": aliases(None, "aliases must be a list", '"x = Vi(3)"'),
    "another case": aliases(["x = vi(3)"], "did you mean Vi", at="vi"),
    "an unknown kind": aliases(["x = Vk(3)"], "Vi, Vj, Vij, Pm or Var", at="Vk"),
    "a kind alone": aliases(["x = Vi"], "Vi(3)", at=""),
    "no equals sign": aliases(["x Vi(3)"], "x = Vi(3)", at="x"),
    "a colon": aliases(["x : Vi(3)"], "x = Vi(3)", at=":"),
    "the reverse": aliases(["Vi(3) = x"], "x = Vi(3)", at="="),
    "the name as an argument": aliases(["Vi(x, 3)"], "x = Vi(3)", at="x"),
    "no dimension": aliases(["x = Vi()"], "whole number", "dimension", at=")"),
    "dimension zero": aliases(["x = Vi(0)"], "dimension from 1", at="0"),
    "a negative dimension": aliases(["x = Vi(-1)"], "whole number", at="-"),
    "a dimension with a point": aliases(["x = Vi(3.0)"], "whole number", "3", at="3.0"),
    "a dimension of the program": aliases(["x = Vi(D)"], 'f"', at="D"),
    "braces without an f": aliases(["x = Vi({D})"], "f-string", at="{"),
    "a shape": aliases(["x = Vi((4, 3))"], "whole number", at="("),
    "two numbers of a shape": aliases(
        ["x = Vi(100, 3)"], "the first one is the position", "(3)", at="x = Vi(100, 3)"
    ),
    "a semicolon": aliases(["x = Vi(3);"], "ends with the bracket", at=";"),
    "a dimension by its name": aliases(["x = Vi(dim=3)"], "alone", '"x = Vi(3)"', at="dim"),
    "a dtype of integers": aliases(["x = Vi(1, int32)"], '"l = Vi(1, int)"', at="int32"),
    "a dtype": aliases(["x = Vi(3, float)"], "whole number", at="float"),
    "three numbers": aliases(["x = Vi(0, 3, 1)"], "(position, dimension)", at="1"),
    "two numbers of Var": aliases(["x = Var(0, 3)"], "(position, dimension, category)", at="Var"),
    "a category": aliases(["x = Var(0, 3, 3)"], "0 (i), 1 (j) or 2 (parameter)", at="3"),
    "a name that begins with a digit": aliases(["2x = Vi(3)"], "name", at="2"),
    "a name twice": aliases(["x = Vi(3)", "x = Vj(3)"], "'x' is given twice", at="x"),
    "a position twice": aliases(["x = Vi(0, 3)", "y = Vj(0, 3)"], "argument 0", at="y = Vj(0, 3)"),
    "a gap": aliases(["x = Vi(1, 3)"], "argument 0", at="x = Vi(1, 3)"),
    "a forgotten alias": formula(
        "x * y", "unknown name 'y'", '"y = Pm(1)"', at="y", aliases=PAIR[:1]
    ),
    "an empty text": aliases(["x = Vi(3)", ""], "Vi, Vj, Vij, Pm or Var"),
}

OPTIONS: Mapping[str, Mistake] = {
    "another case": option("reduction_op", "did you mean Sum", reduction_op="sum"),
    "a slip of the pen": option("did you mean ArgMin", reduction_op="Argmin"),
    "the name of SciPy's": option("did you mean LogSumExp", reduction_op="logsumexp"),
    "an average": option("did you mean Mean", reduction_op="average"),
    "a function": option("reduction_op must be a string", '"Sum"', reduction_op=np.sum),
    "no reduction": option("reduction_op must be a string", '"Sum"', reduction_op=None),
    "an axis of arrays": option("axis must be 0", "1 (reduce over j", axis=-1),
    "an axis beyond": option("axis must be 0", "1 (reduce over j", axis=2),
    "an index for an axis": option("axis must be 0", "1 (reduce over j", axis="j"),
    "both axes": option("axis must be 0", axis=(0, 1)),
    "no K": option(
        "opt_arg", "opt_arg=10", formula="SqDist(x, y)", aliases=PAIR, reduction_op="KMin"
    ),
    "K = 0": option(
        "opt_arg", formula="SqDist(x, y)", aliases=PAIR, reduction_op="KMin", opt_arg=0
    ),
    "K with a point": option("opt_arg", reduction_op="KMin", opt_arg=5.0),
    "K for a sum": option("opt_arg", "leave it out", opt_arg=5),
    "no weights": option("formula2", 'formula2="b"', reduction_op="SumSoftMaxWeight"),
    "weights for an extremum": option("formula2", "leave it out", reduction_op="Max", formula2="b"),
    "a word for a switch": option("use_fast_math must be True or False", use_fast_math="yes"),
    "a scheme": option("sum_scheme", "did you mean kahan_scheme", sum_scheme="kahan"),
    "an accumulator": option("dtype_acc", "did you mean float64", dtype_acc="double"),
    "a scheme without sums": option(
        "sum_scheme", "leave", reduction_op="Max", sum_scheme="kahan_scheme"
    ),
    "a dtype of integers": option("dtype must be", "'float32' or 'float64'", dtype="int32"),
    "a dtype of C": option("dtype must be", "'float32' or 'float64'", dtype="double"),
    "a keyword's slip of the pen": option(
        "Genred", "'axes'", "did you mean axis", error=KeywordError, axes=1
    ),
    "an option of the call": option(
        "Genred", "'backend'", "calls", error=KeywordError, backend="GPU"
    ),
    "an unknown keyword": option("'tile_size'", "use_fast_math", error=KeywordError, tile_size=4),
    "the axis of PyTorch's": option("'dim'", "did you mean axis", error=KeywordError, dim=1),
    "K by its name": option("'k'", "did you mean opt_arg", error=KeywordError, k=3),
    "weights by their name": option("did you mean formula2", error=KeywordError, weights="b"),
    "weights in an array": option(
        "formula2", 'such as "b"', reduction_op="SumSoftMaxWeight", formula2=b
    ),
    "one reduction for two formulas": option(
        "1 items for 2 formulas", "one for all", formula=["x", "y"], reduction_op=["Sum"]
    ),
    "a dtype of half precision": option("dtype", "leave it out", dtype="float16"),
    "an extremum of a vector's index": option(
        "1", error=FormulaError, formula="x", reduction_op="LogSumExp"
    ),
}

ARGUMENTS: Mapping[str, Mistake] = {
    "one too few": call(x, y, says=("'b'", "x, y, b", "2 came")),
    "one too many": call(x, y, b, b, says=("x, y, b", "4 came")),
    "all in a list": call([x, y, b], says=("x, y, b", "*")),
    "all in a dict": call({"x": x, "y": y, "b": b}, says=("x, y, b", "op(**arguments)")),
    "the order": call(y, x, b, says=("'b' has 5", "'y' has 4", "order")),
    "a transpose": call(x, y.T.copy(), b, says=("'y'", "(N, 3)", "(3, 5)", ".T")),
    "a dimension too many": call(x, y[:, :2], b, says=("'y'", "(N, 3)", "(5, 2)")),
    "a number for each row as a parameter": call(
        np.ones(4, np.float32),
        y,
        says=("'g'", "(4,)", "Vi(1) or Vj(1)"),
        of=("g * y", "g = Pm(1)", "y = Vj(3)"),
    ),
    "a vector for points": call(x[0], y, b, says=("'x'", "(M, 3)", "(3,)")),
    "other lengths": call(x, y, b[:-1], says=("'b' has 4", "'y' has 5", "same number")),
    "float64 among float32": call(
        x,
        y.astype(np.float64),
        b,
        says=("'y' has dtype float64", "'x' has float32", ".astype(np.float32)"),
    ),
    "float32 among float64": call(
        wide, y, b, says=("'y' has dtype float32", "'x' has float64", ".astype(np.float64)")
    ),
    "float64 tensors among float32": call(
        tx,
        ty.double(),
        tb,
        says=("'y' has dtype torch.float64", "'x' has torch.float32", ".to(torch.float32)"),
    ),
    "integers": call(
        x, y, np.arange(5)[:, None], says=("'b' has dtype int64", ".astype(np.float32)", "int)")
    ),
    "integer tensors": call(
        tx,
        ty,
        torch.arange(5)[:, None],
        says=("'b' has dtype torch.int64", ".to(torch.float32)", "int)"),
    ),
    "booleans": call(x, y, b > 0, says=("'b' has dtype bool", ".astype(np.float32)")),
    "complex numbers": call(x, y, b * 1j, says=("'b' has dtype complex", "LazyTensor")),
    "objects": call(x, y, b.astype(object), says=("'b' has dtype object", ".astype(np.float32)")),
    "texts": call(x, y, b.astype(str), says=("'b' has dtype", ".astype(np.float32)")),
    "floats for integers": call(
        x[:, :1],
        says=("'k' has dtype float32", "integers", ".astype(np.int64)"),
        of=("k * 1.5", "k = Vi(1, int)"),
    ),
    "a list of rows": call(x.tolist(), y, b, says=("'x'", "list", "np.asarray")),
    "a number for rows": call(1.0, y, b, says=("'x' is a number", "Pm")),
    "None": call(x, y, None, says=("'b'", "None")),
    "a text": call(x, y, "b", says=("'b'", "str")),
    "a tensor for NumPy": call(x, ty, b, says=("'y'", "torch.Tensor", "redcomp.torch", ".numpy()")),
    "a tensor with a gradient for NumPy": call(
        x, ty.clone().requires_grad_(), b, says=("'y'", "redcomp.torch", ".detach()")
    ),
    "an array for PyTorch": call(
        tx, y, tb, says=("'y'", "ndarray", "torch.from_numpy", "redcomp.numpy")
    ),
    "a list for PyTorch": call(tx, ty.tolist(), tb, says=("'y'", "list", "torch.tensor")),
    "a masked array": call(
        np.ma.masked_less(x, 0.5), y, b, says=("'x' is a masked array", ".filled(")
    ),
    "a matrix of SciPy": call(
        x,
        pytest.importorskip("scipy.sparse").csr_matrix(y),
        b,
        says=("'y'", "sparse", ".toarray()"),
    ),
    "a sparse tensor": call(
        tx, ty.to_sparse(), tb, says=("'y'", "torch.sparse_coo", ".to_dense()")
    ),
    "a meta tensor": call(tx, ty.to("meta"), tb, says=("'y' is on meta", "'x' is on cpu", ".to(")),
    "a LazyTensor": call(x_i, y, b, says=("'x'", "LazyTensor", "array")),
    "batches": call(
        x[None].repeat(2, 0), y[None].repeat(3, 0), b, says=("'y'", "(3,)", "(2,)", "broadcast")
    ),
    "a name's slip of the pen": call(
        x, y, says=("'bb'", "did you mean b"), bb=b, error=KeywordError
    ),
    "a name twice": call(x, y, b, says=("'x'", "twice"), x=x, error=KeywordError),
    "a name for nothing": call(x, says=("'b'", "missing"), y=y),
    "an option of the constructor": call(
        x, y, b, says=("'axis'", "Genred(", "constructor"), axis=0, error=KeywordError
    ),
    "an unknown option": call(
        x, y, b, says=("'outs'", "did you mean out"), outs=None, error=KeywordError
    ),
    "a device for a backend": call(x, y, b, says=("backend", "GPU"), backend="cuda"),
    "a backend's case": call(x, y, b, says=("backend", "did you mean GPU"), backend="gpu"),
    "a device's name": call(x, y, b, says=("device_id", "integer", "0"), device_id="cuda:0"),
    "ranges of another shape": call(x, y, b, says=("ranges", "six arrays"), ranges=(x, y)),
    "ranges of floats": call(x, y, b, says=("ranges[0]", "integers"), ranges=(x,) * 6),
    "out of another shape": call(
        x, y, b, says=("out must have shape (4, 1)", "(4,)"), out=np.empty(4, np.float32)
    ),
    "out of another dtype": call(x, y, b, says=("out", "float32", "float64"), out=np.empty((4, 1))),
    "a result in a list": call(x, y, b, says=("out", "array"), out=[]),
}


def declared(dtype: str) -> Callable[[], Any]:
    return lambda: rn.Genred(FORMULA, ALIASES, axis=1, dtype=dtype)(x, y, b)


def lowered(**options: Any) -> Callable[[], Any]:
    return lambda: rn.Genred(FORMULA, ALIASES, axis=1).lower(**options)


def solver(
    *says: str, text: str = FORMULA, unknown: Any = "b", axis: Any = 1, **rest: Any
) -> Mistake:
    error = rest.pop("error", ArgumentError)
    return Mistake(
        lambda: rn.KernelSolve(text, ALIASES, unknown, axis=axis, **rest), says, None, error
    )


def solve(*args: Any, says: tuple[str, ...], error: Any = ArgumentError, **options: Any) -> Mistake:
    return Mistake(
        lambda: rn.KernelSolve(FORMULA, ALIASES, "b", axis=1)(*args, **options), says, None, error
    )


OTHERS: Mapping[str, Mistake] = {
    "a dtype that the arrays do not have": Mistake(
        declared("float64"), ("'x' has dtype float32", "dtype='float64'", ".astype(np.float64)")
    ),
    "a target without its underscore": Mistake(
        lowered(target="sm90"), ("target", "did you mean sm_90")
    ),
    "a target that is none": Mistake(lowered(target="sm_91"), ("target", "'sm_91'", "sm_90")),
    "a target too old": Mistake(lowered(target="sm_60"), ("target", "'sm_60'", "sm_70")),
    "a target of PyTorch's": Mistake(lowered(target="cuda"), ("target", "sm_90")),
    "a target with a hyphen": Mistake(lowered(target="avx-512"), ("did you mean avx512",)),
    "a dtype of lower": Mistake(lowered(dtype="double"), ("dtype", "float64")),
    "a keyword of lower": Mistake(lowered(arch="sm_90"), ("'arch'", "target"), error=KeywordError),
    "an output that is a parameter": Mistake(
        lambda: rn.generic_sum(FORMULA, "a = Pm(1)", *ALIASES), ("Vi",), "a = Pm(1)", FormulaError
    ),
    "an output of another dimension": Mistake(
        lambda: rn.generic_sum(FORMULA, "a = Vi(3)", *ALIASES),
        ("dimension 1",),
        "a = Vi(3)",
        FormulaError,
    ),
    "aliases of generic_sum in a list": Mistake(
        lambda: rn.generic_sum(FORMULA, "a = Vi(1)", ALIASES), ("aliases[0]", '"x = Vi(3)"')
    ),
    "an axis for generic_sum": Mistake(
        lambda: rn.generic_sum(FORMULA, "a = Vi(1)", *ALIASES, axis=1), ("axis", "output")
    ),
    "an unknown that is no variable": solver(
        "varinvalias", "x, y, b", unknown="a", error=FormulaError
    ),
    "an unknown that is not reduced over": solver("'b'", "axis=1", axis=0, error=FormulaError),
    "a formula that is not linear": solver(
        "linear", "'b'", text="Exp(-SqDist(x, y)) * b * b", error=FormulaError
    ),
    "an option of a solver's call": solver("'alpha'", "call", alpha=0.1, error=KeywordError),
    "a system that is not square": solve(x, y, b, says=("not square", "'x' has 4", "'y' has 5")),
    "a negative tolerance": solve(x, x, b[:4], says=("eps", "at least 0"), eps=-1.0),
    "an alpha of another shape": solve(x, x, b[:4], says=("alpha", "(4, 1)"), alpha=np.ones(3)),
    "a keyword of a solver": solve(
        x, x, b[:4], says=("'tol'", "rtol"), tol=1e-6, error=KeywordError
    ),
    "a matrix that is not positive": Mistake(
        lambda: rn.KernelSolve("-Exp(-SqDist(x, y)) * b", ALIASES, "b", axis=1)(x, x, b[:4]),
        ("positive definite", "alpha"),
        error=redcomp.errors.SolverError,
    ),
    "labels that are floats": Mistake(
        lambda: redcomp.numpy.cluster.cluster_ranges(np.ones(4)), ("lab", "integers")
    ),
    "a size of cells that is negative": Mistake(
        lambda: redcomp.numpy.cluster.grid_cluster(x, -1.0), ("size",)
    ),
    "centroids of the wrong labels": Mistake(
        lambda: redcomp.numpy.cluster.cluster_centroids(x, np.zeros(3, np.int64)), ("lab", "4", "3")
    ),
    "a formula with a constant": solver(
        "linear", "a factor", text="Exp(-SqDist(x, y)) * b + 1", error=FormulaError
    ),
    "a LazyTensor of a matrix": lazy(lambda: rn.LazyTensor(x), "axis=0", "x[:, None, :]"),
    "a matrix beside a LazyTensor": lazy(lambda: K * b, "Vj(x)", "x[None, :, :]"),
    "an array of pairs beside a LazyTensor": lazy(
        lambda: K + np.ones((4, 5), np.float32), "x[:, :, None]"
    ),
    "a LazyTensor of a sparse tensor": lazy(
        lambda: rt.Vi(tx.to_sparse()), "torch.sparse_coo", ".to_dense()"
    ),
    "a LazyTensor of a sparse matrix": lazy(
        lambda: rn.Vi(pytest.importorskip("scipy.sparse").csr_matrix(x)), ".toarray()"
    ),
    "a LazyTensor of a masked array": lazy(
        lambda: rn.Vi(np.ma.masked_less(x, 0.5)).sum(0), "masked array", ".filled("
    ),
    "a power of LazyTensors as in mathematics": lazy(lambda: x_i ^ 2, "x ** 2"),
    "an ampersand of LazyTensors": lazy(lambda: (K > 0) & (K < 1), "(a < b) * (c < d)"),
    "a negation of LazyTensors": lazy(lambda: ~(K > 0), "1 -"),
    "two axes": lazy(lambda: K.sum(axis=(0, 1)), "axis is one integer", "the result again"),
    "the name of an axis": lazy(lambda: K.sum("j"), "1 over j"),
    "a LazyTensor in a list": lazy(lambda: x_i.concat([y_j]), "a LazyTensor of shape (1, 5, 3)"),
    "a LazyTensor of a tensor for NumPy": lazy(
        lambda: rn.LazyTensor(tx[:, None]), "torch.Tensor", "redcomp.torch"
    ),
    "a LazyTensor of an array for PyTorch": lazy(
        lambda: rt.LazyTensor(x[:, None]), "numpy.ndarray", "torch.from_numpy"
    ),
    "LazyTensors of two libraries": lazy(lambda: tx_i - y_j, "NumPy", "PyTorch"),
    "other numbers of rows": lazy(lambda: x_i - rn.LazyTensor(x[:2, None]), "4", "2"),
    "other dimensions": lazy(lambda: x_i - rn.LazyTensor(y[None, :, :2]), "3", "2"),
    "a reduction without an axis": lazy(lambda: K.logsumexp(), "axis"),
    "an axis beyond the last": lazy(lambda: K.sum(axis=5), "axis", "5"),
    "the truth of a LazyTensor": lazy(lambda: K and K, "neither true nor false", ".logical_or("),
    "a product of the wrong size": lazy(lambda: K @ np.ones((4, 1), np.float32), "5", "4"),
    "LazyTensors of two dtypes": lazy(
        lambda: x_i - rn.Vj(wide), "float32 and float64", ".astype(np.float32)"
    ),
    "a product of tensors of another dtype": lazy(
        lambda: (tx_i | rt.Vj(ty)) @ torch.ones(5, 1).double(), ".to(torch.float32)"
    ),
    "too few arrays for symbols": lazy(
        lambda: (rn.Vi(0, 3) - rn.Vj(1, 3)).sum(1)(x), "Vi(0, 3), Vj(1, 3)", "1 came"
    ),
    "a product of a number": lazy(lambda: K @ 2.0, "K * v"),
    "an array that is too large": lazy(lambda: K.dense(limit=10), "limit", "reduce"),
}

MISTAKES = {
    f"{group}: {name}": row
    for group, rows in (
        ("formula", IN_FORMULAS),
        ("aliases", IN_ALIASES),
        ("options", OPTIONS),
        ("arguments", ARGUMENTS),
        ("others", OTHERS),
    )
    for name, row in rows.items()
}


# -- what is taken


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=2e-5)


def weighted(g: Any) -> Any:
    """The sum of exp(-g |x_i - y_j|^2) b_j, in float64, by NumPy alone."""
    squares = ((x[:, None].astype(np.float64) - y) ** 2 * np.asarray(g, np.float64)).sum(-1)
    return np.exp(-squares) @ b.astype(np.float64)


PARAMETERS: Mapping[str, tuple[int, Any]] = {
    "an integer": (1, 2),
    "a number": (1, 0.5),
    "a number of NumPy's": (1, np.float64(0.5)),
    "an array without axes": (1, np.array(0.5)),
    "an integer array without axes": (1, np.array(2)),
    "a list of one number": (1, [0.5]),
    "a tuple of one number": (1, (0.5,)),
    "a list": (3, [0.5, 1.0, 2]),
    "a tuple": (3, (0.5, 1.0, 2.0)),
    "a list of numbers of NumPy's": (3, list(np.array([0.5, 1.0, 2.0]))),
}


@pytest.mark.parametrize("library", ["numpy", "torch", "either"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_may_be_numbers_and_lists(library: str, name: str) -> None:
    dim, g = PARAMETERS[name]
    genred = redcomp.Genred if library == "either" else getattr(redcomp, library).Genred
    op = genred("Exp(-WeightedSqDist(g, x, y)) * b", [*ALIASES, f"g = Pm({dim})"], axis=1)
    if library != "torch":
        close(op(x, y, b, g), weighted(g))
    if library != "numpy":
        given = torch.tensor(g) if isinstance(g, np.ndarray) else g
        close(op(tx, ty, tb, given), weighted(g))
        close(op(tx, ty, tb, g=given), weighted(g))


@pytest.mark.parametrize("library", [rn, rt])
@pytest.mark.parametrize("name", PARAMETERS)
def test_solvers_take_them_too(library: Any, name: str) -> None:
    dim, g = PARAMETERS[name]
    formula = "Exp(-WeightedSqDist(g, x, y)) * b"
    op = library.KernelSolve(formula, [*ALIASES, f"g = Pm({dim})"], "b", axis=1)
    points, values = (x, b[:4]) if library is rn else (tx, tb[:4])
    given = torch.tensor(g) if library is rt and isinstance(g, np.ndarray) else g
    found = op(points, points, values, given, alpha=1.0)
    squares = ((x[:, None].astype(np.float64) - x) ** 2 * np.asarray(g, np.float64)).sum(-1)
    close(found, np.linalg.solve(np.eye(4) + np.exp(-squares), b[:4].astype(np.float64)))


def test_gradients_pass_through_numbers_of_other_dtypes() -> None:
    g = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    op = rt.Genred("Exp(-g * SqDist(x, y)) * b", [*ALIASES, "g = Pm(1)"], axis=1)
    (found,) = torch.autograd.grad(op(tx, ty, tb, g).sum(), g)
    squares = ((x[:, None].astype(np.float64) - y) ** 2).sum(-1)
    assert found.dtype == torch.float64
    assert found.shape == ()
    close(found, -(squares * np.exp(-0.5 * squares) @ b.astype(np.float64)).sum())


WITHOUT_DERIVATIVES = ("ArgMin", "ArgMax", "ArgKMin", "ArgKMax", "Any", "All")
OF_PYTORCH = "element 0 of tensors does not require grad"


@pytest.mark.parametrize("name", WITHOUT_DERIVATIVES)
def test_the_faq_has_what_pytorch_says_of_indices(name: str) -> None:
    """Integers and booleans can have no gradients, so the error is PyTorch's own."""
    options = {"opt_arg": 2} if "K" in name else {}
    op = rt.Genred("SqDist(x, y)", PAIR, name, axis=1, **options)
    with pytest.raises(RuntimeError, match=OF_PYTORCH):
        op(tx.clone().requires_grad_(), ty).sum().backward()
    assert f"RuntimeError: {OF_PYTORCH}`" in FAQ.read_text("utf-8")


def test_all_reductions_without_derivatives_are_known() -> None:
    found = []
    for row in redcomp.reductions():
        weights = {"formula2": "y"} if "Weight" in row.name else {}
        options = {**weights, **({"opt_arg": 2} if row.name.startswith(("K", "ArgK")) else {})}
        formula = "SqDist(x, y)"
        if row.name.startswith("Complex"):
            formula = f"Real2Complex({formula})"
        op = rt.Genred(formula, PAIR, row.name, axis=1, **options)
        results = op(tx.clone().requires_grad_(), ty)
        results = results if isinstance(results, tuple) else (results,)
        if not any(result.requires_grad for result in results):
            found.append(row.name)
    assert sorted(found) == sorted(WITHOUT_DERIVATIVES)


@pytest.mark.parametrize("given", [{}, {"b": 2}, {"y": 1, "b": 2}, {"b": 2, "y": 1, "x": 0}])
def test_arguments_have_their_names(given: Mapping[str, int]) -> None:
    for library, arrays in ((rn, (x, y, b)), (rt, (tx, ty, tb)), (redcomp, (x, y, b))):
        op = library.Genred(FORMULA, ALIASES, axis=1)
        named = {name: arrays[position] for name, position in given.items()}
        close(op(*arrays[: 3 - len(given)], **named, backend="CPU"), weighted(1.0))


@pytest.mark.parametrize("name", ["self", "args", "named", "lambda", "made", "alpha_"])
def test_any_name_but_those_of_options_will_do(name: str) -> None:
    for library, array in ((rn, x), (rt, tx), (redcomp, x)):
        op = library.Genred(f"2 * {name}", [f"{name} = Vi(3)"], axis=1)
        close(op(**{name: array}), 2 * x)


def test_other_names_of_an_argument() -> None:
    op = rn.Genred("x * z + Vj(1, 3)", ["x = Vi(0, 3)", "z = Vi(0, 3)"], axis=1)
    close(op(v1=y, z=x), 5 * x**2 + y.sum(0))
    close(op(v1=y, x=x), 5 * x**2 + y.sum(0))


def test_a_dtype_may_be_an_object() -> None:
    for dtype in ("float32", np.float32, np.dtype("float32"), torch.float32):
        op = rn.Genred(FORMULA, ALIASES, axis=1, dtype=dtype)
        close(op(x, y, b), weighted(1.0))
        assert op.lower(dtype=dtype).nest.dtype == "f32"


def test_names_and_lists_are_in_graphs() -> None:
    aliases = [*ALIASES, "g = Pm(1)"]
    op = rt.Genred("Exp(-g * SqDist(x, y)) * b", aliases, axis=1)
    solver = rt.KernelSolve("Exp(-g * SqDist(x, y)) * b", aliases, "b", axis=1)
    half = torch.tensor(0.5, dtype=torch.float64)

    def program(x: Any, y: Any, b: Any) -> Any:
        solution = solver(x, g=half, y=x, b=b[:4], alpha=1.0)
        return op(x, g=[0.5], b=b, y=y), op(x, y, b, half), solution

    traced: Any = torch.compile(program, fullgraph=True, backend="eager")
    for found, expected in zip(traced(tx, ty, tb), program(tx, ty, tb), strict=True):
        close(found, expected)


# -- the axis


@pytest.fixture(autouse=True)
def not_as_pykeops(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program of this process was written for KeOps."""
    monkeypatch.delitem(sys.modules, "redcomp.as_pykeops", raising=False)


@pytest.mark.parametrize("library", [rn, rt, redcomp])
def test_a_forgotten_axis_is_said_once_for_each_place(library: Any) -> None:
    with pytest.warns(AxisWarning, match="axis=1 for a result for each i") as warned:
        made = library.Genred(FORMULA, ALIASES)
    assert made.axis == 0
    assert [w.filename for w in warned] == [__file__]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            library.Genred(FORMULA, ALIASES)
    assert len(caught) == 1


@pytest.mark.parametrize("library", [rn, rt])
def test_solvers_say_it_too(library: Any) -> None:
    with pytest.warns(AxisWarning) as warned:
        library.KernelSolve("Exp(-SqDist(x, y)) * b", ["x=Vi(3)", "y=Vj(3)", "b=Vi(1)"], "b")
    assert [w.filename for w in warned] == [__file__]


def test_programs_for_keops_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redcomp.as_pykeops", redcomp)
    op = rn.Genred(FORMULA, ALIASES, dtype="float64")
    assert op.axis == 0
    assert op(x, y, b).dtype == np.float32


def test_there_are_enough() -> None:
    assert len(MISTAKES) >= 105


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained(name: str) -> None:
    row = MISTAKES[name]
    with pytest.raises(Exception) as raised:  # noqa: PT011 (its class is checked below)
        row.program()
    error = raised.value
    assert isinstance(error, RedcompError)
    assert isinstance(error, row.error)
    missing = [part for part in row.says if part not in str(error)]
    assert not missing, str(error)
    if row.at is not None:
        assert isinstance(error, FormulaError)
        assert error.formula[error.start : error.stop] == row.at
        assert "\n" in str(error)
        assert "^" in str(error)
