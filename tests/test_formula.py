"""The parser of formulas: needs no backend.

Python's own parser is the oracle: what both accept must get the same tree.
"""

from __future__ import annotations

import ast
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redcomp.errors import FormulaError
from redcomp.frontend.language.formula import (
    Binary,
    Call,
    List,
    Name,
    Node,
    Number,
    Unary,
    children,
    parse,
    walk,
)
from redcomp.limits import MAX_CHARACTERS, MAX_NESTING, MAX_TOKENS

SYMBOLS = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.BitOr: "|",
    ast.UAdd: "+",
    ast.USub: "-",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}

Shape = object


def shape(node: Node) -> Shape:
    """A small tree as nested tuples, without spans."""
    match node:
        case Number(value):
            return value
        case Name(name):
            return name
        case Unary(op, operand):
            return op, shape(operand)
        case Binary(op, left, right):
            return shape(left), op, shape(right)
        case Call(callee, args):
            return callee.name, [shape(arg) for arg in args]
        case List(items):
            return [shape(item) for item in items]


class UnsupportedError(Exception):
    """Python's grammar has it, ours does not."""


def python_shape(node: ast.expr) -> Shape:
    """`shape` of a tree by Python's parser."""
    match node:
        case ast.Constant(value) if type(value) in (int, float):
            return value
        case ast.Name(name):
            return name
        case ast.UnaryOp(op, operand) if type(op) in SYMBOLS:
            return SYMBOLS[type(op)], python_shape(operand)
        case ast.BinOp(left, op, right) if type(op) in SYMBOLS:
            return python_shape(left), SYMBOLS[type(op)], python_shape(right)
        case ast.Compare(left, [op], [right]) if type(op) in SYMBOLS:
            return python_shape(left), SYMBOLS[type(op)], python_shape(right)
        case ast.Call(ast.Name(name), args, []):
            return name, [python_shape(arg) for arg in args]
        case ast.List(items) | ast.Tuple(items):
            return [python_shape(item) for item in items]
    raise UnsupportedError(ast.dump(node))


def error_of(formula: str) -> FormulaError:
    with pytest.raises(FormulaError) as caught:
        parse(formula)
    return caught.value


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("x", "x"),
        ("12", 12),
        ("2.5", 2.5),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("5.", 5.0),
        ("1.5E+2", 150.0),
        ("-x**2", ("-", ("x", "**", 2))),
        ("2**-x", (2, "**", ("-", "x"))),
        ("2**-x*3", ((2, "**", ("-", "x")), "*", 3)),
        ("a**b**c", ("a", "**", ("b", "**", "c"))),
        ("a-b-c", (("a", "-", "b"), "-", "c")),
        ("a/b*c", (("a", "/", "b"), "*", "c")),
        ("a|b+c", ("a", "|", ("b", "+", "c"))),
        ("a|b|c", (("a", "|", "b"), "|", "c")),
        ("a|b<c*d", (("a", "|", "b"), "<", ("c", "*", "d"))),
        ("(a<b)==c", (("a", "<", "b"), "==", "c")),
        ("a!=+b", ("a", "!=", ("+", "b"))),
        ("Exp(-p*SqDist(x,y))*b", (("Exp", [(("-", "p"), "*", ("SqDist", ["x", "y"]))]), "*", "b")),
        ("f()", ("f", [])),
        ("T(a,[2,3],[],[-1,],[0])", ("T", ["a", [2, 3], [], [("-", 1)], [0]])),
        (" f ( x ,\n\ty , ) ", ("f", ["x", "y"])),
        ("D(f, (x, y+1), (a,))", ("D", ["f", ["x", ("y", "+", 1)], ["a"]])),
        ("((x), (), ((a, b),))", ["x", [], [["a", "b"]]]),
    ],
)  # fmt: skip
def test_tree(formula: str, expected: Shape) -> None:
    assert shape(parse(formula)) == expected


def test_integers_and_floats_stay_apart() -> None:
    assert [type(node.value) for node in walk(parse("2+2.0+2e0")) if isinstance(node, Number)] == [
        int,
        float,
        float,
    ]


@pytest.mark.parametrize(
    ("formula", "pieces"),
    [
        ("a + Exp( b )", ["a + Exp( b )", "a", "Exp( b )", "b"]),
        ("(a+b) * -c", ["(a+b) * -c", "(a+b)", "a", "b", "-c", "c"]),
        ("F(x)**[1, 2 ]", ["F(x)**[1, 2 ]", "F(x)", "x", "[1, 2 ]", "1", "2"]),
        (" ( (x) ) ", ["( (x) )"]),
    ],
)
def test_spans(formula: str, pieces: list[str]) -> None:
    """Each node's span is its text, with its parentheses."""
    nodes = list(walk(parse(formula)))
    assert [formula[node.span.start : node.span.stop] for node in nodes] == pieces


def test_callee_has_its_own_span() -> None:
    node = parse("1 + (Foo (x))")
    assert isinstance(node, Binary)
    assert isinstance(node.right, Call)
    assert (node.right.callee.span.start, node.right.callee.span.stop) == (5, 8)


@pytest.mark.parametrize(
    ("formula", "message", "column"),
    [
        ("a+", "expected a name, a number, '(' or '-', got the end", 2),
        ("a+*b", "expected a name, a number, '(' or '-', got '*'", 2),
        ("a b", "expected an operator or the end, got 'b'", 2),
        ("2x", "expected an operator or the end, got 'x'", 1),
        ("(a", "'(' is never closed", 0),
        ("f(a, g(b)", "'(' is never closed", 1),
        ("(a]", "expected an operator, ',' or ')', got ']'", 2),
        ("f(a b)", "expected an operator, ',' or ')', got 'b'", 4),
        ("a)", "expected an operator or the end, got ')'", 1),
        ("a,b", "expected an operator or the end, got ','", 1),
        ("(,)", "expected a name, a number, '(' or '-', got ','", 1),
        ("(a,", "expected a name, a number, '(' or '-', got the end", 3),
        ("f(,)", "expected a name, a number, '(' or '-', got ','", 2),
        ("f(a,,b)", "expected a name, a number, '(' or '-', got ','", 4),
        ("[a)", "expected an operator, ',' or ']', got ')'", 2),
        ("x(3)(4)", "only a name can be called", 4),
        ("a=b", "equality is '=='", 1),
        ("f(a=b)", "equality is '=='", 3),
        ("a<b<c", "write (a < b) * (b < c)", 3),
        ("a<b|c!=d", "comparisons cannot be chained", 5),
        ("1e400", "too large for float64", 0),
        ("x + " + "9" * 350, "too large for float64", 4),
        ("x + " + "9" * 500, "a number of more than 400 characters", 4),
        ("x % y", "'%' is no operator of formulas", 2),
        ("x + é", "'é' is no letter of names", 4),
        ("x\x00", "unexpected character '\\x00' (U+0000)", 1),
        ("x + '", '"\'" is no character of formulas', 4),
        ("x\ud800", "(U+D800)", 1),
        ("x.y", "formulas have no attributes such as x.y", 0),
    ],
)
def test_error(formula: str, message: str, column: int) -> None:
    """The message says what was expected and what came, and a caret stands under the place."""
    error = error_of(formula)
    assert message in str(error)
    assert (error.formula, error.start) == (formula, column)
    *_, caret = str(error).split("\n")
    assert re.fullmatch(r" *\^~*", caret)
    if len(formula) < 100:
        assert caret.index("^") == 2 + column


@pytest.mark.parametrize("formula", ["", " \t\n"])
def test_empty_formula(formula: str) -> None:
    assert "the formula is empty" in str(error_of(formula))


def test_a_formula_is_a_string() -> None:
    assert "expected a string, got int" in str(error_of(3))  # type: ignore[arg-type]


# -- hostile input


@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("(" * 100_000, f"more than {MAX_TOKENS:,} names"),
        ("(" * 9_000, f"nested more than {MAX_NESTING} levels"),
        ("f(" * 4_000, f"nested more than {MAX_NESTING} levels"),
        ("-" * 9_000 + "x", f"nested more than {MAX_NESTING} levels"),
        ("x**" * 4_000 + "x", f"nested more than {MAX_NESTING} levels"),
        ("a" * 1_000_000, f"the limit is {MAX_CHARACTERS:,}"),
        ("a+" * 500_000, f"the limit is {MAX_CHARACTERS:,}"),
        ("a+" * 6_000 + "a", f"more than {MAX_TOKENS:,} names"),
        ("a" * 90_000, "a name of more than 400 characters"),
        ("1" * 90_000, "a number of more than 400 characters"),
        ("__import__('os')", "is no character of formulas"),
        ("().__class__", "formulas have no attributes"),
        ("\x00" * 1_000, "unexpected character"),
        ("\N{ZERO WIDTH SPACE}x", "U+200B"),
    ],
    ids=lambda text: text[:10],
)
def test_hostile_formula(formula: str, message: str) -> None:
    started = time.process_time()
    error = error_of(formula)
    assert message in str(error)
    assert len(str(error)) < 1_000
    assert time.process_time() - started < 10  # minutes, if it took the square of the length


@pytest.mark.sampled(25)
@pytest.mark.parametrize("op", ["+", "-", "*", "/", "|"])
def test_long_chains_do_not_nest(op: str) -> None:
    node, depth = parse("a" + f"{op}a" * 4_900), 0
    while isinstance(node, Binary):
        assert node.right == Name("a", node.right.span)
        node, depth = node.left, depth + 1
    assert depth == 4_900


@pytest.mark.parametrize(
    ("opener", "closer"), [("(", ")"), ("f(", ")"), ("[", "]"), ("-", ""), ("a**", "")]
)
def test_nesting_up_to_the_limit(opener: str, closer: str) -> None:
    assert parse(opener * MAX_NESTING + "x" + closer * MAX_NESTING)
    too_deep = opener * (MAX_NESTING + 1) + "x" + closer * (MAX_NESTING + 1)
    assert "nested" in str(error_of(too_deep))


def test_nesting_ends_with_its_bracket() -> None:
    once = "(" * MAX_NESTING + "x" + ")" * MAX_NESTING
    assert sum(isinstance(node, Name) for node in walk(parse(f"{once}+{once}*-{once[1:-1]}"))) == 3


# -- Python's parser as the oracle

operands = st.sampled_from(["a", "b", "x1", "1", "2.5", "1e-3", ".5"])
binary_operators = st.sampled_from(["+", "-", "*", "/", "**", "|", "<", "<=", ">", "==", "!="])
spaces = st.sampled_from(["", " "])


def _expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(inner, max_size=3).map(", ".join)
    # Most often without parentheses, so that precedence decides.
    return st.one_of(
        st.tuples(inner, spaces, binary_operators, spaces, inner).map("".join),
        st.tuples(st.sampled_from("-+"), inner).map("".join),
        st.lists(inner, min_size=2, max_size=5).map("**".join),
        inner.map("({})".format),
        items.map("f({})".format),
        items.map("[{}]".format),
        items.map("({},)".format),
    )


def has_brackets(formula: str) -> bool:
    """Whether a tuple is one argument of a call, and not several of them."""
    call = ast.parse(f"f({formula})", mode="eval").body
    assert isinstance(call, ast.Call)
    return len(call.args) == 1 and isinstance(call.args[0], ast.Tuple)


def assert_like_python(formula: str) -> None:
    try:
        root = ast.parse(formula.strip(), mode="eval").body
        if isinstance(root, ast.Tuple) and not has_brackets(formula):
            raise UnsupportedError(formula)
        expected = python_shape(root)
    except (SyntaxError, UnsupportedError):
        assert error_of(formula).formula == formula
    else:
        assert shape(parse(formula)) == expected


@given(st.recursive(operands, _expressions, max_leaves=20))
@example("-a**-b**c*d")
@example("a<b|c+d*-e**f")
def test_precedence_is_that_of_python(formula: str) -> None:
    assert_like_python(formula)


@given(
    st.lists(
        st.sampled_from([*"ab+-*/|<>()[],= ", "**", "<=", "==", "f(", "1", "2.5"]),
        min_size=1,
        max_size=15,
    ).map("".join)
)
@example("(a),b")
@example("(a,)")
def test_same_language_as_python(formula: str) -> None:
    """Any row of tokens: we accept what Python accepts, of the nodes that we have, and agree."""
    # Python calls (f)(x) and ours does not; it reads 01 differently; it warns about 2(x).
    if re.search(r"[\])\d] *[(\[]|\b0\d|^ *$", formula):
        return
    assert_like_python(formula)


@given(st.text(max_size=40))
def test_any_text_is_a_tree_or_an_error_at_a_place(text: str) -> None:
    try:
        root = parse(text)
    except FormulaError as error:
        start, stop = error.start, error.stop
    else:
        start, stop = root.span.start, root.span.stop
        for node in walk(root):
            for child in children(node):
                assert node.span.start <= child.span.start < child.span.stop <= node.span.stop
    assert 0 <= start <= stop <= len(text)
