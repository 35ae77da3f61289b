"""Write docs/lazy-tensor.md, the page about LazyTensor, from the tables that make its methods.

    python scripts/make_lazy_tensor.py           write the page
    python scripts/make_lazy_tensor.py --check   only say whether it is current, by the exit status

The prose is in scripts/lazy-tensor.md.in.
"""

from __future__ import annotations

import inspect
import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from make_formulas import _text as plain
from make_formulas import table
from written_file import write_or_check

from redcomp.frontend.lazy.lazy_tensor import LazyTensorBase
from redcomp.frontend.lazy.methods import OTHER_NAMES, TABLE_METHODS, Methods, parameters_of
from redcomp.frontend.lazy.protocols import NUMPY, NUMPY_REDUCE, TORCH
from redcomp.frontend.lazy.reductions import OTHER_REDUCTIONS, REDUCTION_METHODS, Reductions

ROOT = Path(__file__).parents[1]
TEMPLATE, PAGE = ROOT / "scripts" / "lazy-tensor.md.in", ROOT / "docs" / "lazy-tensor.md"


def page() -> str:
    """The whole page."""
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(
        rows="\n\n".join(_sections()),
        methods=_methods(Methods, TABLE_METHODS),
        reductions=_reductions(),
        exponentials=_methods(Reductions, REDUCTION_METHODS),
        matrices=_methods(LazyTensorBase, {}),
        numpy=_names(NUMPY),
        ufuncs=_names(NUMPY_REDUCE),
        torch=_names(name for name in TORCH if not name.startswith(("__", "Tensor."))),
    )


def _sections() -> Iterator[str]:
    """Methods that are rows of the table of operations, a table for each section."""
    sections: dict[str, dict[str, list[str]]] = {}
    for name, row in TABLE_METHODS.items():
        sections.setdefault(row.section, {}).setdefault(row.spelling, []).append(name)
    for section, rows in sections.items():
        cells = [_row(names) for names in rows.values()]
        yield f"### {section}\n\n" + table(("method", "formula", "value", "other names"), cells)


def _row(names: Sequence[str]) -> tuple[str, ...]:
    row = TABLE_METHODS[names[0]]
    others = [*names[1:], *(o for o, known in OTHER_NAMES.items() if known in names)]
    return (
        f"`.{names[0]}({', '.join(parameters_of(row))})`",
        f"`{row.spelling}({', '.join(row.arguments)})`",
        _text(row.doc),
        _names(others),
    )


def _reductions() -> str:
    """The reductions of the table, and of what they are."""
    cells = []
    for name, method in REDUCTION_METHODS.items():
        if name.endswith("_reduction"):
            continue
        what, inner, _ = (method.__doc__ or "").partition(": of each vector's components")
        others = [o for o, known in OTHER_REDUCTIONS.items() if known == name]
        if f"{name}_reduction" in REDUCTION_METHODS:
            others.append(f"{name}_reduction")
        over = "components, i, j" if inner else "i, j"
        value = what.partition(", over i")[0]
        cells.append((f"`.{name}{_call(method)}`", _text(value), over, _names(others)))
    return table(("method", "value", "over", "other names"), cells)


def _methods(owner: type, without: Mapping[str, Any]) -> str:
    """The methods that a class adds, and what they are."""
    known = {**OTHER_NAMES, **OTHER_REDUCTIONS}
    found: dict[Any, list[str]] = {}
    for name, method in vars(owner).items():
        if not name.startswith("_") and name not in without and name not in known:
            found.setdefault(method, []).append(name)
    return table(
        ("method", "value", "other names"),
        [_method(method, names, known) for method, names in found.items()],
    )


def _method(method: Any, names: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    others = [*names[1:], *(o for o, name in known.items() if name in names)]
    documentation = (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " ")
    return f"`.{names[0]}{_call(method)}`", _text(documentation.removesuffix(".")), _names(others)


def _text(text: str) -> str:
    """Text in Markdown, code in it left as it is."""
    parts = text.split("`")
    return "`".join(part if n % 2 else plain(part) for n, part in enumerate(parts))


def _call(method: Any) -> str:
    """A method's parameters, without their types."""
    if isinstance(method, property):
        return ""
    function = getattr(method, "__func__", method)
    parameters = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in inspect.signature(function).parameters.values()
        if p.name not in ("self", "cls")
    ]
    return str(inspect.Signature(parameters))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page, __doc__))
