"""Write redcomp/frontend/lazy/declared*.py: the methods that tables make, for type checkers.

    python scripts/make_declared.py            write the modules
    python scripts/make_declared.py --check    only say, by the exit status, whether they are new

Rows of operations and of reductions are made methods of LazyTensors when redcomp is imported, which
no type checker sees.  The modules declare them, with their parameters and their documentation.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from written_file import write_or_check

from redcomp.frontend.lazy.methods import OTHER_NAMES, TABLE_METHODS, parameters_of
from redcomp.frontend.lazy.reductions import OTHER_REDUCTIONS, REDUCTION_METHODS, Reductions
from redcomp.ops import Operation

ROOM = Path(__file__).parents[1] / "redcomp" / "frontend" / "lazy"
WIDTH = 100
HEAD = '''"""Declarations of the methods that {table} make, written by scripts/make_declared.py.

Type checkers and editors read them; when redcomp runs, the class is empty.
"""

{noqa}from __future__ import annotations

from typing import TYPE_CHECKING, Any{imports}

from redcomp.frontend.lazy.{room} import {base}
{variable}

class {name}({base}):
    """What {table} add to LazyTensors."""

    __slots__ = ()

    if TYPE_CHECKING:
'''


def operations() -> str:
    """The module with the operations."""
    head = HEAD.format(
        table="operations",
        noqa="",
        imports=", TypeVar",
        room="declared_reductions",
        base="DeclaredReductions",
        variable='\nD = TypeVar("D", bound="Declared")\n',
        name="Declared",
    )
    return head + _indented(_operations())


def reductions() -> str:
    """The module with the reductions."""
    head = HEAD.format(
        table="reductions",
        noqa="# ruff: noqa: N802, N815 (KeOps' names)\n\n",
        imports="",
        room="operators",
        base="Operators",
        variable="",
        name="DeclaredReductions",
    )
    return head + _indented(_reductions())


MODULES: Mapping[Path, Callable[[], str]] = {
    ROOM / "declared.py": operations,
    ROOM / "declared_reductions.py": reductions,
}


def _indented(declarations: Iterator[str]) -> str:
    return "\n" + "\n\n".join(textwrap.indent(d, " " * 8) for d in declarations) + "\n"


def _operations() -> Iterator[str]:
    first_names: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, row in TABLE_METHODS.items():
        first = first_names.setdefault(row.name, name)
        if first != name:
            others[name] = first
            continue
        parameters = parameters_of(row)
        yield _declaration(name, _typed(row, parameters), "D")
    yield _aliases({**others, **OTHER_NAMES})


def _typed(row: Operation, parameters: Sequence[str]) -> str:
    """A row's parameters: LazyTensors and whatever becomes one, then integers."""
    vectors = row.arity - 1
    typed = [f", {p}: {'Any' if n < vectors else 'int'}" for n, p in enumerate(parameters)]
    return "self: D" + "".join(typed)


def _reductions() -> Iterator[str]:
    for name, method in REDUCTION_METHODS.items():
        signature = inspect.signature(method)
        yield _declaration(name, ", ".join(map(str, signature.parameters.values())), "Any")
    yield _aliases({a: b for a, b in OTHER_REDUCTIONS.items() if b in REDUCTION_METHODS})


def _declaration(name: str, parameters: str, result: str) -> str:
    parameters = parameters.replace("'", "").replace("self: Any", "self")
    lines = [*_documentation(getattr(Reductions, name)), "..."]
    body = textwrap.indent("\n".join(lines), "    ")
    return f"def {name}({parameters}) -> {result}:\n{body}"


def _documentation(method: Any) -> list[str]:
    """A docstring, in lines that are short enough."""
    line = f'"""{method.__doc__}"""'
    if len(line) <= WIDTH - 12:
        return [line]
    return [*textwrap.wrap(f'"""{method.__doc__}', WIDTH - 12), '"""']


def _aliases(names: Mapping[str, str]) -> str:
    return "\n".join(f"{name} = {known}" for name, known in names.items())


if __name__ == "__main__":
    sys.exit(max(write_or_check(path, made, __doc__) for path, made in MODULES.items()))
