"""Write docs/formulas.md, the reference of the formula language, from the compiler's tables.

    python scripts/make_formulas.py            write the page
    python scripts/make_formulas.py --check    only say, by the exit status, whether it is current

The prose is in scripts/formulas.md.in; every table comes from the rows of operations, builders and
reductions.
"""

from __future__ import annotations

import contextlib
import itertools
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from limit_examples import EXAMPLES
from written_file import write_or_check

from redcomp.frontend.language.builders import DERIVATIVES, VARIABLES, Builder
from redcomp.frontend.language.lower import OPTIONAL_PARAMETER
from redcomp.numpy import Genred
from redcomp.ops import SPELLINGS, Operation, ShapeError
from redcomp.ops.reductions import REDUCTIONS, Reduction
from redcomp.ops.table import LIST_PARAMETERS, Section

ROOT = Path(__file__).parents[1]
TEMPLATE, PAGE = ROOT / "scripts" / "formulas.md.in", ROOT / "docs" / "formulas.md"
NEW = "new"

ELEMENTWISE = {"Arithmetic", "Mathematics", "Comparison and selection"}
DTYPES = {"value": "", "index": " int64", "truth": " bool"}
# What a reduction's results are measured with: the dimensions of a formula and of its weights, and
# how many columns are kept.  All sizes that can come of them differ.
LETTERS = {1: "1", 2: "2", 3: "d", 4: "d", 5: "e", 6: "1 + e", 7: "K"}


def page(limits: str | None = None) -> str:
    """The whole page; the table of limits may be given, since to try them all out takes seconds."""
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    differing = [(name, row.differs) for name, row in _named() if row.differs]
    return template.substitute(
        variables=_builders(VARIABLES),
        operations="\n\n".join(_sections()),
        derivatives=_builders(DERIVATIVES),
        reductions=_reductions(),
        differences=_differences([item for item in differing if item[1] != NEW]),
        limits=limits_table() if limits is None else limits,
        new=", ".join(f"`{name}`" for name, differs in differing if differs == NEW),
    )


def limits_table() -> str:
    """The limits, each with the error of what exceeds it."""
    cells = [(example.what, example.most, _text(example.error())) for example in EXAMPLES]
    return table(("limit", "at most", "error"), cells)


def _named() -> Iterator[tuple[str, Operation | Builder | Reduction]]:
    """Every row that has a name for users, by the usual one."""
    yield from {**VARIABLES, **SPELLINGS, **DERIVATIVES}.items()
    yield from ((row.spelling, row) for row in REDUCTIONS.values() if row.spellings)


def _differences(rows: Iterable[tuple[str, str]]) -> str:
    """One line for each difference, with all the names that it is true of."""
    names: dict[str, list[str]] = {}
    for name, differs in rows:
        names.setdefault(differs, []).append(f"`{name}`")
    return "\n".join(f"- {', '.join(who)}: {_text(what)}" for what, who in names.items())


# -- tables ----------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that are empty in all rows."""
    used = [n for n in range(len(header)) if any(row[n] for row in rows)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line[n] for n in used) + " |" for line in lines)


def _text(text: str) -> str:
    """Plain text in Markdown."""
    for character in "*|<":
        text = text.replace(character, f"\\{character}")
    return text


def _call(name: str, arguments: Sequence[str], least: int | None = None) -> str:
    """A call as one writes it, with brackets around arguments that may be left out."""
    if least is None:
        return f"`{name}({', '.join(arguments)})`"
    if arguments[0] == "position":  # the one that is left out although it comes first
        return f"`{name}([position, ]{', '.join(arguments[1:])})`"
    optional = "".join(f"[, {argument}]" for argument in arguments[least:])
    return f"`{name}({', '.join(arguments[:least])}{optional})`"


def _sections() -> Iterator[str]:
    """The operations, one table a section."""
    header = ("operation", "value", "dimension", "gradient", "ULP", "unlike KeOps")
    for section in get_args(Section):
        rows = [row for row in SPELLINGS.values() if row.section == section]
        if not rows:
            continue
        title = f"### {section}" + (", elementwise" if section in ELEMENTWISE else "")
        yield f"{title}\n\n{table(header, [_operation(row) for row in rows])}"


def _operation(row: Operation) -> tuple[str, ...]:
    least = len(row.arguments) - 1 if OPTIONAL_PARAMETER in row.parameters else None
    return (
        _call(row.spelling, row.arguments, least),
        _text(row.doc),
        "" if row.elementwise else _text(dimension(row)),
        _text(row.gradient),
        f"{row.ulp:g}" if row.elementwise and row.ulp else "",
        _text(row.differs),
    )


def _builders(rows: Mapping[str, Builder]) -> str:
    cells = [
        (
            _call(name, row.arguments, row.least),
            _text(row.doc),
            _text(row.dim),
            _text(row.differs),
        )
        for name, row in rows.items()
    ]
    return table(("call", "value", "dimension", "unlike KeOps"), cells)


# -- dimensions ------------------------------------------------------------------------------------

# What the dimension of a result can be, the simplest first.  A name is that of an operand, standing
# for its dimension, or that of a parameter.
FORMS = (
    "1",
    "2",
    "{0}",
    "2 * {0}",
    "{0} / 2",
    "{0} + {1}",
    "{0} * {1}",
    "{0} / {1}",
    "max({0}, {1})",
    "2 * max({0}, {1})",
    "{0} - {1} - 1",
)


def dimension(row: Operation) -> str:
    """The dimension of the result, as the first form that all results of the shape rule have."""
    if any(parameter in LIST_PARAMETERS for parameter in row.parameters):
        return "product of the result's axes"
    results = list(_results(row))
    for form in FORMS:
        for names in itertools.permutations(row.arguments, form.count("{")):
            text = form.format(*names)
            if all(eval(text, {"max": max}, sizes) == result for sizes, result in results):
                return text
    raise ValueError(f"no form for the dimension of {row.name}: {results[:5]}")


def _results(row: Operation) -> Iterator[tuple[dict[str, int], int]]:
    """What the shape rule makes of many dimensions and parameters that it accepts."""
    assert row.shape is not None
    for dims in itertools.product((1, 2, 3, 4, 6, 9, 12), repeat=row.arity):
        for values in itertools.product(range(1, 8), repeat=len(row.parameters)):
            attrs = dict(zip(row.parameters, values, strict=True))
            with contextlib.suppress(ShapeError):
                result = row.shape(*dims, **attrs)
                yield dict(zip(row.arguments, (*dims, *values), strict=True)), result


# -- reductions ------------------------------------------------------------------------------------


def _reductions() -> str:
    header = ("`reduction_op`", "value", "formula", "result", "gradient", "unlike KeOps")
    rows = [_reduction(row) for row in REDUCTIONS.values() if row.spellings]
    return table(header, rows)


def _reduction(row: Reduction) -> tuple[str, ...]:
    gradient = (row.gradient or "yes") if row.has_gradient else "none"
    return (
        ", ".join(f"`{spelling}`" for spelling in row.spellings),
        _text(row.doc),
        _taken(row),
        _text(", ".join(_shapes(row))),
        _text(gradient),
        _text(row.differs),
    )


def _taken(row: Reduction) -> str:
    """What a reduction wants besides a formula of any dimension."""
    wanted = {
        "vector": "",
        "scalar": "d = 1",
        "weights": "d = 1, `formula2`",
        "components": "",
        "complex": "d even: numbers (re, im)",
    }[row.takes]
    if row.weighted:
        weighted = REDUCTIONS[row.weighted]
        wanted += f"; with `formula2` it is `{weighted.spelling}`"
    return wanted + ("`opt_arg`" if row.keeps else "")


def _shapes(row: Reduction) -> list[str]:
    """Shape and dtype of each result that a call returns, as the frontend makes them."""
    formula = {"scalar": "s", "weights": "s", "complex": "z"}.get(row.takes, "x")
    options: dict[str, Any] = {"formula2": "w"} if row.takes == "weights" else {}
    if row.keeps:
        options["opt_arg"] = 7
    aliases = ["x = Vj(3)", "s = Vj(1)", "w = Vj(5)", "z = Vj(4)"]
    made = Genred(formula, aliases, row.spelling, axis=1, **options)
    return [
        f"(R, {LETTERS[result.dim]}){DTYPES[result.kind]}"
        for result in made.reduction.results
        if result.output == 0
    ]


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page, __doc__))
