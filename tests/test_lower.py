"""From formulas to IR values: needs no backend."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcomp.errors import FormulaError
from redcomp.frontend.language import builders
from redcomp.frontend.language.aliases import parse_aliases
from redcomp.frontend.language.exact import fold, rounded
from redcomp.frontend.language.lower import Lowered, lower_formula, lower_formulas
from redcomp.interpret import interpret
from redcomp.ir import Value, topological
from redcomp.limits import MAX_BITS, MAX_OPERATIONS
from redcomp.ops import OPERATIONS, SPELLINGS
from redcomp.ops.table import Operation

ALIASES = ("x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "p = Pm(1)")


def lowered(formula: str, *aliases: str, dtype: str = "f64") -> Lowered:
    return lower_formula(formula, parse_aliases(aliases or ALIASES), dtype)


def error_of(formula: str, *aliases: str, dtype: str = "f64") -> FormulaError:
    with pytest.raises(FormulaError) as caught:
        lowered(formula, *aliases, dtype=dtype)
    return caught.value


def listing(value: Value) -> str:
    """The value as nested calls, with attributes after the operands."""
    if value.op == "variable":
        return str(value["name"])
    if value.op == "constant":
        return repr(value["value"])
    attrs = [f"{name}={attribute}" for name, attribute in value.attrs]
    return f"{value.op}({', '.join([*map(listing, value.args), *attrs])})"


@pytest.mark.parametrize(
    ("formula", "expected", "dim"),
    [
        ("x", "x", 3),
        ("x + y", "add(x, y)", 3),
        ("x - b", "subtract(x, b)", 3),
        ("2*x", "multiply(2.0, x)", 3),
        ("x/3", "divide(x, 3.0)", 3),
        ("1/x", "divide(1.0, x)", 3),
        ("-x", "negate(x)", 3),
        ("+x", "x", 3),
        ("(x|y)", "scalprod(x, y)", 1),
        ("x < y", "less_than(x, y)", 3),
        ("x <= 1", "less_or_equal(x, 1.0)", 3),
        ("x > y", "less_than(y, x)", 3),
        ("x >= 1", "less_or_equal(1.0, x)", 3),
        ("x == y", "equal(x, y)", 3),
        ("x != y", "not_equal(x, y)", 3),
        ("x**2", "square(x)", 3),
        ("x**2.0", "square(x)", 3),
        ("x**(4/2)", "square(x)", 3),
        ("x**3", "pow(x, m=3)", 3),
        ("x**-1", "pow(x, m=-1)", 3),
        ("x**0.5", "sqrt(x)", 3),
        ("x**(1/2)", "sqrt(x)", 3),
        ("x**-0.5", "rsqrt(x)", 3),
        ("x**1.5", "powf(x, 1.5)", 3),
        ("x**y", "powf(x, y)", 3),
        ("2**x", "powf(2.0, x)", 3),
        ("-x**2", "negate(square(x))", 3),
        ("Add(x, 1)", "add(x, 1.0)", 3),
        ("Exp(2)", "exp(2.0)", 1),
        ("IfElse(x, 1, 0)", "if_else(x, 1.0, 0.0)", 3),
        ("Elem(x, 2)", "elem(x, m=2)", 1),
        ("Elem(x, 1 + 1)", "elem(x, m=2)", 1),
        ("Pow(x, -2)", "pow(x, m=-2)", 3),
        ("Extract(x, 1, 2)", "extract(x, length=2, start=1)", 2),
        ("Concat(x, Zero(2))", "concat(x, broadcast(0.0))", 5),
        ("Zero(1)", "0.0", 1),
        ("1/2", "0.5", 1),
        ("2 < 3", "less_than(2.0, 3.0)", 1),
        ("IntCst(3)*x", "multiply(3.0, x)", 3),
        ("x**IntCst(2)", "square(x)", 3),
        ("RatCst(2, 4)*x", "multiply(0.5, x)", 3),
        ("IntInv(4)", "0.25", 1),
        ("-0.0", "negate(0.0)", 1),
        ("-0", "0.0", 1),
        ("Factorize(x*y, y)", "multiply(x, y)", 3),
        ("AutoFactorize(x*y)", "multiply(x, y)", 3),
        ("Exp(-p*SqDist(x,y))", "exp(multiply(negate(p), scalprod({0}, {0})))", 1),
        ("WeightedSqNorm(p, x)", "multiply(p, scalprod(x, x))", 1),
    ],
)
def test_value(formula: str, expected: str, dim: int) -> None:
    value = lowered(formula).value
    assert listing(value) == expected.format("subtract(x, y)")
    assert value.dim == dim


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_everything_has_the_dtype_of_the_kernel(dtype: str) -> None:
    result = lowered("Exp(-2*SqDist(x,y)/3) * b + Var(4,1,2)", dtype=dtype)
    values = [*topological([result.value]), *result.variables]
    assert {value.dtype for value in values} == {dtype}


def test_value_of_a_formula_by_numpy() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(4, 1, 3)), random.normal(size=(1, 5, 3))
    (found,) = interpret(
        [lowered("2**-1 * -x**2 / (1 + y**2) - (x|y) + (x > y) * 3").value], {"x": x, "y": y}
    )
    dot = (x * y).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, -0.5 * x**2 / (1 + y**2) - dot + 3 * (x > y), rtol=1e-14)


# -- variables


def arguments(result: Lowered) -> list[tuple[str, str, int, int]]:
    return [(v["name"], v["kind"], v["position"], v.dim) for v in result.variables]


def test_variables_come_by_position_used_or_not() -> None:
    result = lowered("x", "y = Vj(1,2)", "p = Pm(2,1)", "x = Vi(0,3)")
    assert arguments(result) == [("x", "i", 0, 3), ("y", "j", 1, 2), ("p", "parameter", 2, 1)]
    assert result.value is result.variables[0]


def test_one_position_is_one_value() -> None:
    result = lowered("x + Var(0,3,0) * Vi(0,3) - same", "x = Vi(3)", "same = Vi(0,3)")
    assert arguments(result) == [("x", "i", 0, 3)]
    leaves = {value for value in topological([result.value]) if value.op == "variable"}
    assert leaves == {result.variables[0]}


def test_extra_variables_follow_the_aliases() -> None:
    result = lowered("x + Var(2,3,1) + Var(1,3,2)", "x = Vi(3)")
    expected = [("x", "i", 0, 3), ("v1", "parameter", 1, 3), ("v2", "j", 2, 3)]
    assert arguments(result) == expected


def test_variables_without_a_position_take_the_free_ones_in_order() -> None:
    result = lowered("Vi(3) + Vj(3) + Pm(3) + Var(2,3,0) + x", "x = Vi(3)")
    kinds = [(kind, position) for _, kind, position, _ in arguments(result)]
    assert kinds == [("i", 0), ("i", 1), ("i", 2), ("j", 3), ("parameter", 4)]


def test_generated_names_avoid_the_given_ones() -> None:
    result = lowered("v1 + Var(2,1,0)", "Vi(1)", "v1 = Vj(1)", "v0 = Pm(3,1)", "Var(2,1,0)")
    assert [name for name, *_ in arguments(result)] == ["v0_", "v1", "v2", "v0"]


def test_an_alias_may_shadow_an_operation() -> None:
    result = lowered("Exp + Var", "Exp = Vi(2)", "Var = Vj(2)")
    assert listing(result.value) == "add(Exp, Var)"
    assert "'Exp' is a variable, which cannot be called" in str(error_of("Exp(Exp)", "Exp = Vi(2)"))


def test_formulas_together_share_their_variables() -> None:
    aliases = parse_aliases(["x = Vi(3)"])
    (f, g), variables = lower_formulas(["x + Vj(3)", "x * Var(1,3,2)"], aliases, "f32")
    assert f.args[0] is g.args[0] is variables[0]
    assert [v["position"] for v in variables] == [0, 1, 2]
    assert f.args[1] is variables[2]
    assert g.args[1] is variables[1]


# -- Grad


@pytest.fixture
def gradient_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Value, Value, Value]]:
    """What Grad asks of the pass, which answers with the cotangent."""
    calls: list[tuple[Value, Value, Value]] = []

    def recorded(output: Value, wrt: Value, cotangent: Value) -> Value:
        calls.append((output, wrt, cotangent))
        return cotangent

    monkeypatch.setattr(builders, "gradient", recorded)
    return calls


Calls = list[tuple[Value, Value, Value]]


def test_grad(gradient_calls: Calls) -> None:
    result = lowered("Grad(SqDist(x,y)*b, x, p)")
    ((output, wrt, cotangent),) = gradient_calls
    assert listing(output) == "multiply(scalprod({0}, {0}), b)".format("subtract(x, y)")
    assert wrt is result.variables[0]
    assert cotangent is result.value is result.variables[3]


@pytest.mark.parametrize(("wrt", "kind"), [("x", "j"), ("Var(1,3,1)", "i")])
def test_grad_adds_a_cotangent(gradient_calls: Calls, wrt: str, kind: str) -> None:
    result = lowered(f"Grad(x*y, {wrt}) + Var(4,3,2)")
    ((_, _, cotangent),) = gradient_calls
    assert cotangent is result.variables[5]
    assert arguments(result)[4:] == [("v4", "parameter", 4, 3), ("v5", kind, 5, 3)]


def test_nested_grad_by_the_pass() -> None:
    """The derivative along e of (d/dx x^3) e' is 6 x e e'."""
    value = lowered("Grad(Grad(x**3, x, y), x, z)", "x=Vi(2)", "y=Vj(2)", "z=Vj(2)").value
    data = {"x": np.array([3.0, 2.0]), "y": np.array([5.0, 2.0]), "z": np.array([7.0, 2.0])}
    np.testing.assert_allclose(interpret([value], data)[0], [6 * 3 * 5 * 7, 6 * 2 * 2 * 2])


# -- numbers


def constant_of(formula: str, dtype: str) -> float:
    value = lowered(formula, dtype=dtype).value
    assert value.is_constant
    return float(value["value"])


@pytest.mark.parametrize(
    ("formula", "exact"),
    [
        ("1/3", Fraction(1, 3)),
        ("1/3*3 - 1", Fraction(0)),
        ("2**-3", Fraction(1, 8)),
        ("10**20 + 1 - 10**20", Fraction(1)),
        ("1e300 * 1e300 / 1e300", Fraction(1e300)),
        ("0.1 + 0.2", Fraction(0.1) + Fraction(0.2)),
        ("-(2 - 5)*+2", Fraction(6)),
        ("2**0.5", Fraction(math.sqrt(2))),
    ],
)
def test_numbers_are_exact_until_rounded_once(formula: str, exact: Fraction) -> None:
    assert constant_of(formula, "f64") == float(exact)


def test_a_float32_constant_is_rounded_once() -> None:
    # Through float64, 1 + 2**-24 + 2**-60 first becomes a tie of float32, then 1.
    assert constant_of("1 + 2**-24 + 2**-60", "f32") == 1 + 2**-23
    assert constant_of("1 + 2**-24 - 2**-60", "f32") == 1
    assert constant_of("1 + 2**-24", "f32") == 1


@given(st.fractions(), st.integers(-160, 130))
def test_rounding_to_float32_gives_the_nearest(number: Fraction, exponent: int) -> None:
    exact = number * Fraction(2) ** exponent
    with np.errstate(over="ignore"):
        found = np.float32(rounded(exact, "f32"))
    if np.isinf(found):
        return
    error = abs(Fraction(float(found)) - exact)
    for direction in (np.inf, -np.inf):
        neighbour = np.nextafter(found, np.float32(direction))
        if np.isfinite(neighbour):
            assert error <= abs(Fraction(float(neighbour)) - exact)


def test_long_numbers_are_rounded_in_between() -> None:
    number: int | Fraction = 1
    for prime in range(3, 3_000, 2):
        number = fold("+", number, Fraction(1, prime))
    bits = max(number.numerator.bit_length(), number.denominator.bit_length())
    assert bits <= MAX_BITS
    assert float(number) == pytest.approx(1 + sum(1 / p for p in range(3, 3_000, 2)))


def test_minus_zero_keeps_its_sign() -> None:
    (zero,) = interpret([lowered("-0.0").value], {})
    assert struct.pack("<d", zero[0]) == struct.pack("<d", -0.0)


# -- errors


@pytest.mark.parametrize(
    ("formula", "message", "place"),
    [
        ("x + yy", "unknown name 'yy'; did you mean y?; the names are: x, y, b, p", "yy"),
        ("Exp + 1", "Exp is an operation: write Exp(f)", "Exp"),
        ("x + Elem", "Elem is an operation: write Elem(f, m)", "Elem"),
        ("1 + Grad", "Grad is an operation: write Grad(f, v, e)", "Grad"),
        ("x + SqDits(x, y)", "unknown operation 'SqDits'; did you mean SqDist", "SqDits"),
        ("1 + sqdist(x, y)", "unknown operation 'sqdist'; did you mean SqDist", "sqdist"),
        ("__import__(x)", "unknown operation '__import__'", "__import__"),
        ("1 + y(x)", "'y' is a variable, which cannot be called", "y"),
        ("1 + SqDist(x)", "SqDist(f, g) takes 2 arguments, got 1", "SqDist(x)"),
        ("1 + Exp()", "Exp(f) takes 1 argument, got 0", "Exp()"),
        ("Elem(x, 1, 2)", "Elem(f, m) takes 2 arguments, got 3", "Elem(x, 1, 2)"),
        ("Grad(x)", "Grad(f, v, e) takes 2 to 3 arguments, got 1", "Grad(x)"),
        ("b*(x + Vj(4, 2))", "dimensions 3, 2 do not fit", "(x + Vj(4, 2))"),
        ("b + SqDist(x, Zero(2))", "dimensions 3, 2 do not fit", "SqDist(x, Zero(2))"),
        ("b + Elem(x, 3)", "component 3 of a vector of dimension 3", "Elem(x, 3)"),
        ("b + Elem(x, -1)", "component -1 of a vector of dimension 3", "Elem(x, -1)"),
        ("Elem(x, b)", "Elem's argument m must be an integer literal", "b"),
        ("Elem(x, 1.0)", "Elem's argument m must be an integer literal", "1.0"),
        ("Elem(x, [1])", "Elem's argument m must be an integer literal", "[1]"),
        ("Pow(x, 2147483648)", "at most 2,147,483,647 in absolute value", "2147483648"),
        ("x + [1, 2]", "a list stands where a vector is expected", "[1, 2]"),
        ("-[1]", "a list stands where a vector is expected", "[1]"),
        ("+[1]", "a list stands where a vector is expected", "[1]"),
        ("Exp([1])", "a list stands where a vector is expected", "[1]"),
        ("x**[2]", "a list stands where a vector is expected", "[2]"),
        ("[1, 2]", "a list stands where a vector is expected", "[1, 2]"),
        ("[x]", "a list stands where a vector is expected", "[x]"),
        ("1 + (x, y)", "a list stands where a vector is expected", "(x, y)"),
        ("2 + x/0", "division by zero", "x/0"),
        ("1/(1 - 1)", "division by zero", "1/(1 - 1)"),
        ("x/0.0", "division by zero", "x/0.0"),
        ("0**-1", "division by zero", "0**-1"),
        ("1 + Divide(x, 0)", "division by zero", "Divide(x, 0)"),
        ("1 + RatCst(1, 0)", "division by zero", "RatCst(1, 0)"),
        ("IntCst(0.5)", "IntCst's argument must be an integer", "0.5"),
        ("(-8)**0.5", "a negative number has no such power", "(-8)**0.5"),
        ("10**400*x", "the number is too large for f64", "10**400"),
        ("10**9999*x", "the number is too large for float64", "10**9999"),
        ("x + 1e308*10", "the number is too large for f64", "1e308*10"),
        ("Var(0,3,1)", "argument 0 is Vi(0, 3), called x", "Var(0,3,1)"),
        ("1 + Vj(1, 2)", "argument 1 is Vj(1, 3), called y", "Vj(1, 2)"),
        ("x + Var(5,3,0)", "nothing describes argument 4", "Var(5,3,0)"),
        ("Var(4,3,3)", "0 (i), 1 (j) or 2 (parameter), got 3", "3"),
        ("Var(2+2,3,1)", "the position must be written as a number", "2+2"),
        ("Vi(0)", "expected a dimension from 1 to 16,777,216, got 0", "0"),
        ("Zero(-1)", "expected a dimension from 1 to 16,777,216, got -1", "-1"),
        ("Zero(99999999)", "expected a dimension from 1 to 16,777,216", "99999999"),
        ("1 + SumT(b, 16777217)", "more than 16,777,216 components", "SumT(b, 16777217)"),
        ("Grad(x, x + 1, x)", "Grad's argument v must be a variable", "x + 1"),
        ("Grad(x, 1, x)", "Grad's argument v must be a variable", "1"),
        ("1 + Grad(b, p)", "needs its third argument", "Grad(b, p)"),
        ("Grad(x|y, x, y)", "Grad's argument e has dimension 3, not 1", "y"),
        ("Factorize(x, [1])", "a list stands where a vector is expected", "[1]"),
    ],
)
def test_error(formula: str, message: str, place: str) -> None:
    """The message says what is wrong, and the caret stands at the start of the guilty piece."""
    error = error_of(formula)
    assert message in str(error)
    assert formula[error.start : error.stop] == place
    *_, caret = str(error).split("\n")
    assert caret.index("^") == 2 + error.start
    assert len(caret) == 2 + error.stop


def test_a_number_must_fit_the_dtype_of_the_kernel() -> None:
    assert constant_of("1e39", "f64") == 1e39
    assert "the number is too large for f32" in str(error_of("1e39", dtype="f32"))


def test_errors_name_the_formula_that_they_are_in() -> None:
    with pytest.raises(FormulaError) as caught:
        lower_formulas(["x", "x + z"], parse_aliases(ALIASES), "f32")
    assert (caught.value.formula, caught.value.start) == ("x + z", 4)


def test_spans_are_the_text_of_the_operations() -> None:
    formula = "Exp(x - y) * (2 + b)"
    spans = [v.span for v in topological([lowered(formula).value]) if v.op != "variable"]
    pieces = [formula[span.start : span.stop] for span in spans if span is not None]
    assert pieces == ["x - y", "Exp(x - y)", "2", "(2 + b)", formula]


# -- lists of integers, with a row of our own


@pytest.fixture
def list_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Operation(
        "list_operation",
        1,
        "takes two lists, the second of which may be left out",
        lambda f, *, dimsf, perm: f,
        "ListOperation",
        parameters=("dimsf", "perm"),
    )
    monkeypatch.setitem(OPERATIONS, row.name, row)
    monkeypatch.setitem(SPELLINGS, row.spelling, row)


@pytest.mark.usefixtures("list_operation")
def test_lists_of_integers() -> None:
    both = lowered("ListOperation(x, [2,-3,1+1,], [0])").value
    assert both.attrs == (("dimsf", (2, -3, 2)), ("perm", (0,)))
    assert lowered("ListOperation(x, (2, 3))").value.attrs == (("dimsf", (2, 3)), ("perm", ()))
    assert lowered("ListOperation(x, [])").value.attrs == (("dimsf", ()), ("perm", ()))


@pytest.mark.usefixtures("list_operation")
def test_errors_in_lists() -> None:
    assert "argument dimsf must be a list, such as [2,3]" in str(error_of("ListOperation(x, 2)"))
    assert "takes 2 to 3 arguments, got 1" in str(error_of("ListOperation(x)"))
    error = error_of("ListOperation(x, [1, b])")
    assert "an element of a list must be an integer literal" in str(error)
    assert error.start == len("ListOperation(x, [1, ")


# -- hostile input


@pytest.mark.sampled(6)
@pytest.mark.parametrize("formula", ["x" + "+x" * 4_900, "x" + "/y" * 4_900, "1" + "+.1" * 4_900])
def test_long_chains(formula: str) -> None:
    result = lowered(formula)
    operations = sum(value.op in ("add", "divide") for value in topological([result.value]))
    assert operations == (0 if formula[0] == "1" else 4_900)


@pytest.mark.parametrize(
    "nest",
    [
        lambda inner: f"Grad(Exp({inner})*x, x, x)",
        lambda inner: f"Grad(Sin({inner}*x), x, y)",
    ],
    ids=["exp", "sin"],
)
def test_nested_gradients_stop(nest: Callable[[str], str]) -> None:
    formula = "x"
    for _ in range(90):
        formula = nest(formula)
    message = str(error_of(formula))
    assert f"more than {MAX_OPERATIONS:,} operations" in message


def test_a_definition_that_grows_stops() -> None:
    formula = "+".join(["BSpline(Vi(4, 16), Vj(5, 1), 14)"] * 30)
    assert f"more than {MAX_OPERATIONS:,} operations" in str(error_of(formula))


@given(st.text(alphabet="xybpVarijGdEx(),+-*/|<=012.e[] ", max_size=30))
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    try:
        result = lowered(text, dtype="f32")
    except FormulaError as error:
        place = error.stop
    else:
        place = len(text)
        positions = [variable["position"] for variable in result.variables]
        assert positions == list(range(len(positions)))
    assert 0 <= place <= len(text)
