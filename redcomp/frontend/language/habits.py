"""What people write in formulas and aliases by habit, and how it is written here.

Only errors come here, so nothing else imports this module before there is one.  A row of `FORMULAS`
or `ALIASES` is a piece of text that another language has, and what to write instead; `OPERATIONS`
and `NAMES` have words that could be names, where nothing has these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from redcomp.arguments import nearest
from redcomp.ops import SPELLINGS
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING

# How far around the place of an error a habit is looked for.
_AROUND = 200
_Says = str | Callable[[re.Match[str]], str]


class Habit(NamedTuple):
    """A pattern, whose group "at" is what an error points at, and what the error says of it."""

    pattern: re.Pattern[str]
    says: _Says


class Found(NamedTuple):
    """What an error says, and the place that it points at."""

    says: str
    start: int
    stop: int


def habit_at(habits: Sequence[Habit], text: str, place: int) -> Found | None:
    """The first habit whose text covers a place, if there is one."""
    first = max(0, place - _AROUND)
    window = text[first : place + _AROUND]
    for pattern, says in habits:
        for match in pattern.finditer(window):
            start, stop = (first + end for end in match.span())
            if start <= place < max(stop, start + 1):
                at = match.span("at")
                said = says if isinstance(says, str) else says(match)
                return Found(said, first + at[0], first + at[1])
    return None


def reduction_named(name: str) -> str | None:
    """The reduction that a name means where an operation is expected: KeOps has Sum_Reduction."""
    short = name.removesuffix("_Reduction")
    return short if short in REDUCTIONS_BY_SPELLING else None


_MODULES = (
    "F jax jnp math mx nn np numpy scipy sp special tf torch cp cupy K keras tensorflow tl xp"
)
_CONSTANTS: Mapping[str, str] = {
    "pi": "a number is written out: 3.141592653589793",
    "e": "e to the power f is Exp(f)",
    "inf": "there is no infinity in formulas: Maximum and Minimum bound values",
    "nan": "there is no NaN in formulas: IfElse(c, f, g) chooses among values",
}


def _of_module(match: re.Match[str]) -> str:
    written, name = match["at"], match["name"]
    if name.lower() in _CONSTANTS:
        return f"formulas have no {written}; {_CONSTANTS[name.lower()]}"
    operation = _operation(name)
    if operation:
        return f"write {operation}(...) instead of {written}(...): operations have no module"
    return f"formulas have no {written}: operations have names of their own, such as Exp(f)"


def _method(match: re.Match[str]) -> str:
    operand, name = match["operand"], match["name"]
    written = f"{operand or ''}.{name}"
    if not match["call"]:
        return f"formulas have no attributes such as {written}: components are Elem and Extract"
    operation = _operation(name)
    if operation:
        instead = f"{operation}({operand or '...'})"
        return f"write {instead} instead of {written}(): formulas have no methods"
    return f"formulas have no methods such as {written}(): an operation is called as Exp(f)"


def _operation(name: str) -> str:
    """The operation of a name in other libraries, or nothing."""
    same = {spelling.lower(): spelling for spelling in SPELLINGS}
    close = nearest(name, SPELLINGS).partition("mean ")[2].rstrip("?")
    return same.get(name.lower()) or close.partition(" or ")[0]


def _components(match: re.Match[str]) -> str:
    """What an index is as operations: the one after the last comma counts."""
    of = match["operand"] if match["operand"] not in (")", "]") else "f"
    *_, last = match["inside"].split(",")
    start, colon, stop = (part.strip() for part in last.partition(":"))
    if last.strip().isdecimal():
        return f"formulas have no indices: write Elem({of}, {last.strip()})"
    if colon and start.isdecimal() and stop.isdecimal() and int(start) < int(stop):
        instead = f"Extract({of}, {start}, {int(stop) - int(start)})"
        return f"formulas have no indices: write {instead}, start and length"
    return (
        f"formulas have no indices: write Elem({of}, m) for a component, "
        f"Extract({of}, start, length) for several"
    )


def _is_no_operator(match: re.Match[str]) -> str:
    written = match["at"].strip()
    return f"{written!r} is no operator of formulas: {_OPERATORS[written]}"


def _character(match: re.Match[str]) -> str:
    return f"{match['at']!r} is no character of formulas: {_CHARACTERS[match['at']]}"


_CONJUNCTION = "multiply conditions, as in (a < b) * (c < d)"
_DISJUNCTION = "write Maximum(a < b, c < d)"
_NEGATION = "write 1 - (a < b)"
_CHOICE = (
    "IfElse(c, f, g) is f where c is at least 0, and g elsewhere; a comparison c is 1 or 0, so "
    "write IfElse(c - 1, f, g)"
)
_OVER_PAIRS = 'the sum over j is no part of the formula: reduction_op="Sum" and axis=1 ask for it'
_PRODUCTS = "(f | g) is the scalar product of vectors, and MatVecMult(A, x) multiplies by a matrix"
_SELECTION = "IfElse(c, f, g) chooses by the sign of c"
_OPERATORS: Mapping[str, str] = {
    "^": "write ** for a power, as in x ** 2",
    "@": _PRODUCTS,
    "//": "write Floor(x / 2)",
    "%": "write Mod(x, 2, 0)",
    "&": _CONJUNCTION,
    "&&": _CONJUNCTION,
    "and": _CONJUNCTION,
    "||": _DISJUNCTION,
    "or": _DISJUNCTION,
    "not": _NEGATION,
    "~": _NEGATION,
    "!": _NEGATION,
    "if": _CHOICE,
    "else": _CHOICE,
    "?": _CHOICE,
    "is": "write x == y",
    "in": f"compare with ==, one by one; {_SELECTION}",
    "for": "a reduction goes over all pairs by itself",
    "lambda": "write the expression alone; the aliases name its variables",
    "->": "write the expression alone; the aliases name its variables",
}
_CHARACTERS: Mapping[str, str] = {
    **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}", "a minus is '-'"),
    **dict.fromkeys("\xd7\xb7\N{DOT OPERATOR}\N{ASTERISK OPERATOR}", "a product is written '*'"),
    "\xf7": "a quotient is written '/'",
    "\xb2": "write ** 2",
    "\xb3": "write ** 3",
    "\N{SQUARE ROOT}": "write Sqrt(...)",
    "\N{LESS-THAN OR EQUAL TO}": "write <=",
    "\N{GREATER-THAN OR EQUAL TO}": "write >=",
    "\N{NOT EQUAL TO}": "write !=",
    "\N{DOUBLE VERTICAL LINE}": "a norm is Norm2(...)",
    **dict.fromkeys("'\"`\u2018\u2019\u201c\u201d", "write names without quotation marks"),
    "#": "there are no comments in a formula",
    ";": "a string has one formula; several are a list of strings",
    "\\": "lines go on by themselves",
    **dict.fromkeys(
        "{}", 'is an f missing before the string, which makes an f-string of it: f"{gamma} * x"?'
    ),
    "$": 'write the value, by an f-string: f"{gamma} * x"',
    ":": "there are no slices and no definitions; Extract(f, start, length) has components",
}

_MODULE = _MODULES.replace(" ", "|")
_WORD = r"[A-Za-z_]\w*"
_OPENS = r"(?:^|(?<=[(\[,*+/<>=-]))[ ]*"
FORMULAS: Sequence[Habit] = tuple(
    Habit(re.compile(pattern, re.VERBOSE), says)
    for pattern, says in (
        (rf"(?<![\w.)\]]) (?P<at> (?:{_MODULE}) \. (?:{_WORD}\.)* (?P<name>{_WORD}) )",
         _of_module),
        (rf"(?P<at> (?P<operand>{_WORD}) \. (?P<name>{_WORD}) ) (?P<call>[ ]*\()?", _method),
        (rf"(?P<at> (?P<operand>) (?<=[)\]]) \. (?P<name>{_WORD}) ) (?P<call>[ ]*\()?", _method),
        (rf"(?P<operand> {_WORD} | [)\]] ) [ ]* (?P<at> \[ (?P<inside>[^\[\]]*) \] )", _components),
        (rf"\b (?P<at> sum (?:_[ij])? ) [ ]+ (?:{_WORD} | \()", _OVER_PAIRS),
        (r"\b (?P<at>lambda) \b [^:]* :?", _is_no_operator),
        (r"(?P<at> -> )", _is_no_operator),
        (rf"{_OPENS} (?P<at> \|\| )", "a norm is Norm2(...), and (f | g) is a scalar product"),
        (rf"{_OPENS} (?P<at> \| )",
         "an absolute value is Abs(...), and (f | g) is a scalar product"),
        (r"(?P<at> // | && | \|\| | [\^@%&~!?] )", _is_no_operator),
        (r"(?P<at> \b (?: and | or | not | if | else | is | in | for ) \b )", _is_no_operator),
        (rf"(?P<at> [{re.escape(''.join(_CHARACTERS))}] )", _character),
        (r"(?P<at> [^\W0-9] (?<![A-Za-z_]) )",
         lambda match: f"{match['at']!r} is no letter of names: these are ASCII, digits and _"),
        (r"(?P<at> \s (?<![ \t\r\n\f]) )", "this is no plain blank: write a space"),
    )
)  # fmt: skip

_EXAMPLE = '"x = Vi(3)"'
ALIASES: Sequence[Habit] = tuple(
    Habit(re.compile(pattern, re.VERBOSE), says)
    for pattern, says in (
        (r"\) [ ]* (?P<at>,)",
         'each alias is a string of its own, in a list: ["x = Vi(3)", "y = Vj(3)"]'),
        (r"(?P<at>\{)",
         'is an f missing before the string, which makes an f-string of it: f"x = Vi({D})"?'),
        (r"(?P<at>;)", "an alias is a string of its own, which ends with the bracket"),
        (r"\( [ ]* (?P<at>dim(?:ension)?) [ ]* =", f"write the dimension alone, as in {_EXAMPLE}"),
        (r", [ ]* (?P<at>u?int\d+|long|bool) [ ]* \)",
         'integers of any width are declared by int, as in "l = Vi(1, int)"'),
        (rf"\( [ ]* (?P<at>{_WORD}) [ ]* ,",
         f"the name of a variable stands before its kind, as in {_EXAMPLE}"),
        (rf"\( [ ]* (?P<at>{_WORD}) [ ]* \)",
         'write the dimension as a number, or by an f-string: f"x = Vi({D})"'),
        (r"^ \s* \w+ \s* (?P<at>:)", f"write an equals sign, as in {_EXAMPLE}"),
        (r"^ \s* (?P<at>[0-9])", f"a name begins with a letter, as in {_EXAMPLE}"),
        (r"\( [^)]* \) [ ]* (?P<at>=)", f"the name comes first, as in {_EXAMPLE}"),
    )
)  # fmt: skip

OPERATIONS: Mapping[str, str] = {
    "dot": "the scalar product is (f | g)",
    "inner": "the scalar product is (f | g)",
    **dict.fromkeys(
        ("cdist", "dist", "distance", "euclidean"),
        "a distance is Norm2(x - y), its square SqDist(x, y)",
    ),
    "norm": 'the norm of a vector is Norm2(f), and that over all pairs reduction_op="Norm"',
    "matmul": _PRODUCTS,
    "not": _NEGATION,
    "and": _CONJUNCTION,
    "or": _DISJUNCTION,
    "if": _CHOICE,
    "where": _CHOICE,
    "sum_i": _OVER_PAIRS,
    "sum_j": _OVER_PAIRS,
    "mean": 'the mean of D components is Sum(f) / D, and that over all pairs reduction_op="Mean"',
    "softmax": 'it is over all pairs: reduction_op="SumSoftMaxWeight"',
}
NAMES: Mapping[str, str] = {
    **_CONSTANTS,
    "true": "comparisons give 1 and 0: write 1",
    "false": "comparisons give 1 and 0: write 0",
    "none": "leave it out",
    "i": "the number of the row is Ind_i()",
    "j": "the number of the column is Ind_j()",
}
# Operations on components that others have for two arguments too.
OF_TWO: Mapping[str, str] = {
    "Max": "the larger one of two is Maximum(f, g)",
    "Min": "the smaller one of two is Minimum(f, g)",
}
