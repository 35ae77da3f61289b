"""Alias strings: needs no backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redcomp.errors import FormulaError
from redcomp.frontend.language.aliases import Alias, parse_alias, parse_aliases
from redcomp.ir import Kind
from redcomp.limits import MAX_DIM


def error_of(*aliases: str) -> FormulaError:
    with pytest.raises(FormulaError) as caught:
        parse_aliases(aliases)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = Vi(3)", Alias("x", "i", 7, 3)),
        ("y=Vj(3)", Alias("y", "j", 7, 3)),
        ("p=Pm(1)", Alias("p", "parameter", 7, 1)),
        ("  _x1 =\tVi ( 0 , 3 )\n", Alias("_x1", "i", 0, 3)),
        ("y=Vj(2,4)", Alias("y", "j", 2, 4)),
        ("p=Pm(5,6)", Alias("p", "parameter", 5, 6)),
        ("Vi(3)", Alias(None, "i", 7, 3)),
        ("Vj(1,3)", Alias(None, "j", 1, 3)),
        ("Var(0,3,0)", Alias(None, "i", 0, 3)),
        ("Var(1,2,1)", Alias(None, "j", 1, 2)),
        ("x = Var(4,3,2)", Alias("x", "parameter", 4, 3)),
        ("w = Vij(2)", Alias("w", "ij", 7, 2)),
        ("w = Vij(0, 2, int)", Alias("w", "ij", 0, 2, True)),
        ("l = Vi(1, int)", Alias("l", "i", 7, 1, True)),
        ("l=Pm(2,1,int)", Alias("l", "parameter", 2, 1, True)),
        ("l = Var(4, 1, 1, int)", Alias("l", "j", 4, 1, True)),
        ("int = Vi(1)", Alias("int", "i", 7, 1)),
        ("x = Vx(3)", Alias("x", "i", 7, 3)),
        ("x = Vy(2,3)", Alias("x", "j", 2, 3)),
        ("Exp = Vi(2)", Alias("Exp", "i", 7, 2)),
        ("Vi = Vi(2)", Alias("Vi", "i", 7, 2)),
        (f"x = Vi({MAX_DIM})", Alias("x", "i", 7, MAX_DIM)),
    ],
)
def test_one_alias(text: str, expected: Alias) -> None:
    assert parse_alias(text, place=7) == expected


def test_place_in_the_list_is_the_position() -> None:
    aliases = parse_aliases(["x = Vi(3)", "Vj(2)", "p = Pm(1)"])
    assert [(a.name, a.position) for a in aliases] == [("x", 0), (None, 1), ("p", 2)]


def test_stated_positions_hold_whatever_the_order() -> None:
    aliases = parse_aliases(["y = Vj(1,3)", "b = Vj(2,1)", "x = Vi(0,3)"])
    assert [(a.name, a.position) for a in aliases] == [("y", 1), ("b", 2), ("x", 0)]


def test_two_names_for_one_argument() -> None:
    x, same = parse_aliases(["x = Vi(3)", "same = Vi(0,3)"])
    assert (x.position, same.position) == (0, 0)


def test_no_aliases() -> None:
    assert parse_aliases([]) == ()


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("x", "expected Vi, Vj, Vij, Pm or Var, got 'x'", 0),
        ("x =", "expected Vi, Vj, Vij, Pm or Var, got the end", 3),
        ("x = Vk(3)", "expected Vi, Vj, Vij, Pm or Var, got 'Vk'", 4),
        ("x == Vi(3)", "expected Vi, Vj, Vij, Pm or Var, got 'x'", 0),
        ("3 = Vi(3)", "a name begins with a letter", 0),
        ("é = Vi(3)", "unexpected character 'é'", 0),
        ("x = Vi", "expected '(', got the end", 6),
        ("x = Vi()", "expected a whole number, the dimension, got ')'", 7),
        ("x = Vi(-1)", "expected a whole number, the dimension, got '-'", 7),
        ("x = Vi(3.0)", "expected a whole number, the dimension, got '3.0'", 7),
        ("x = Vi(D)", "write the dimension as a number", 7),
        ("x = Vi(3", "expected ',' or ')', got the end", 8),
        ("x = Vi(3,", "expected a whole number, the dimension, got the end", 9),
        ("x = Vi(3) + 1", "expected the end, got '+'", 10),
        ("x = Vi(3, int, 1)", "expected ')', got ','", 13),
        ("x = Vi(int)", "write the dimension as a number", 7),
        ("x = Vi(3, float)", "expected a whole number, the dimension, got 'float'", 10),
        ("x = Vi(0,1,2)", "Vi takes (dimension) or (position, dimension)", 11),
        ("x = Var(0,3)", "Var takes (position, dimension, category)", 4),
        ("x = Var(0,3,0,1)", "Var takes (position, dimension, category)", 4),
        ("x = Var(0,3,3)", "0 (i), 1 (j) or 2 (parameter), got 3", 12),
        ("x = Vi(0)", "expected a dimension from 1 to 16,777,216, got 0", 7),
        ("x = Vi(0,16777217)", "expected a dimension from 1", 9),
        ("x = Vi(123456789)", "the number is too large", 7),
    ],
)
def test_error_points_into_the_alias(text: str, message: str, column: int) -> None:
    error = error_of(text)
    assert message in str(error)
    assert (error.formula, error.start) == (text, column)
    *_, shown, caret = str(error).split("\n")
    assert shown == "  " + text
    assert caret.index("^") == 2 + column


@pytest.mark.parametrize(
    ("aliases", "message", "blamed", "column"),
    [
        (["x=Vi(3)", "y=Vj(3)", "  x = Vi(3)"], "the name 'x' is given twice", 2, 2),
        (["x=Vi(3)", "y=Vi(0,4)"], "argument 0 is Vi(0, 3) in another alias", 1, 0),
        (["x=Vi(3)", "y=Vj(0,3)"], "argument 0 is Vi(0, 3) in another alias", 1, 0),
        (["y=Pm(1,3)", "x=Vi(3)"], "argument 1 is Pm(1, 3) in another alias", 1, 0),
        (["y=Vi(5,4)", "x=Vi(0,3)"], "no alias describes argument 1", 0, 0),
        (["y=Vi(1,4)"], "no alias describes argument 0, but one describes 1", 0, 0),
    ],
)
def test_errors_between_aliases(aliases: list[str], message: str, blamed: int, column: int) -> None:
    error = error_of(*aliases)
    assert message in str(error)
    assert (error.formula, error.start) == (aliases[blamed], column)


def test_an_alias_is_a_string() -> None:
    with pytest.raises(FormulaError, match="expected a string, got tuple"):
        parse_aliases([("x", 3)])  # type: ignore[list-item]


names = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,5}", fullmatch=True)
kinds: st.SearchStrategy[Kind] = st.sampled_from(("i", "j", "ij", "parameter"))


@given(
    st.lists(
        st.tuples(names, kinds, st.integers(1, 99), st.booleans()),
        unique_by=lambda a: a[0],
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_round_trip(arguments: list[tuple[str, Kind, int, bool]], random: object) -> None:
    aliases = [
        Alias(name, kind, k, dim, is_integer)
        for k, (name, kind, dim, is_integer) in enumerate(arguments)
    ]
    random.shuffle(aliases)  # type: ignore[attr-defined]
    assert parse_aliases([f"{a.name} = {a.what}" for a in aliases]) == tuple(aliases)


@given(st.text(alphabet="xV ijaPmrnt=(),0123é-", max_size=20))
def test_any_text_is_an_alias_or_an_error(text: str) -> None:
    try:
        alias = parse_alias(text)
    except FormulaError as error:
        place = error.start
    else:
        place = 0
        assert parse_alias(alias.what) == replace(alias, name=None)
    assert 0 <= place <= len(text)
