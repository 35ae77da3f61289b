"""Write docs/keops-names.md, the table of what became of every public name of KeOps.

    python scripts/make_keops_names.py           write the page
    python scripts/make_keops_names.py --check   only say whether it is current, by the exit status

The names are those of tests/pykeops_names.json and of the rows of operations and reductions; what
is said of them is in scripts/keops_names.py and in the rows.
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keops_names
from make_formulas import NEW, table
from make_formulas import _text as plain
from written_file import write_or_check

from redcomp.frontend.language.builders import BUILDERS
from redcomp.frontend.lazy.methods import TABLE_METHODS
from redcomp.ops import SPELLINGS
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING

ROOT = Path(__file__).parents[1]
TEMPLATE, PAGE = ROOT / "scripts" / "keops-names.md.in", ROOT / "docs" / "keops-names.md"
NAMES = json.loads((ROOT / "tests" / "pykeops_names.json").read_text(encoding="utf-8"))
LIBRARIES = ("pykeops.numpy", "pykeops.torch")
LAZY = "pykeops.common.lazy_tensor"
HEADER = ("name", "in redcomp", "what is different, or why it is missing")
SAME, DIFFERENT, MISSING = "the same", "differs", "missing"

# The options of constructors and calls: name, where, what is different.
ARGUMENTS = (
    ("`formula`, `aliases`", "Genred, KernelSolve", "checked when the object is made"),
    ("`reduction_op`", "Genred", ""),
    ("`axis`", "Genred, KernelSolve", ""),
    ("`opt_arg`, `formula2`", "Genred", ""),
    ("`dtype`, `cuda_type`", "Genred, KernelSolve", "accepted; the arguments' dtype counts"),
    (
        "`dtype_acc`, `use_double_acc`, `sum_scheme`",
        "Genred, KernelSolve",
        "for every reduction that adds terms",
    ),
    ("`enable_chunks`, `rec_multVar_highdim`", "Genred, KernelSolve", "accepted; not needed"),
    ("`use_fast_math`", "Genred, KernelSolve", "off on the host, unless you set it"),
    ("`varinvalias`", "KernelSolve", ""),
    (
        "`backend`",
        "calls",
        '"auto" computes where the arrays are; `GPU_1D`, `GPU_2D`, ... mean "GPU"',
    ),
    ("`device_id`", "calls", ""),
    ("`ranges`", "calls", "checked; allowed in a batch"),
    ("`out`", "calls", "for every reduction with one result"),
    ("`alpha`", "calls of KernelSolve", "may be an array, and has a gradient"),
    ("`eps`", "calls of KernelSolve", ""),
)


def page() -> str:
    """The whole page."""
    found = [f"{module}:{name}" for module, names in NAMES.items() for name in names]
    states = [state(name)[0] for name in found]
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(
        total=len(found),
        same=states.count(SAME),
        different=states.count(DIFFERENT),
        missing=states.count(MISSING),
        main=_rows(_of_both("")),
        arguments=table(
            ("argument", "of", "in redcomp", "what is different"),
            [(a, of, DIFFERENT if what else SAME, what) for a, of, what in ARGUMENTS],
        ),
        methods=_rows(f"{LAZY}:{name}" for name in NAMES[LAZY] if "." in name),
        clusters=_rows(_of_both(".cluster")),
        operations=_language({**SPELLINGS, **BUILDERS}),
        reductions=_language(REDUCTIONS_BY_SPELLING),
        package=_rows(
            f"{module}:{n}" for module in ("pykeops", "pykeops.config") for n in NAMES[module]
        ),
        others="\n\n".join(_others()),
    )


def state(name: str) -> tuple[str, str]:
    """Whether a name "module:name" is the same, and what is different, or why it is missing."""
    reason = keops_names.reason(name)
    if reason is not None:
        return MISSING, reason
    row = TABLE_METHODS.get(name.rpartition(".")[2]) if "LazyTensor." in name else None
    said = keops_names.difference(name) or (row.differs if row else "")
    return (DIFFERENT, said) if said and said != NEW else (SAME, "")


def _of_both(module: str) -> Iterator[str]:
    """The names of a module of either library, each once."""
    first, second = (f"{library}{module}" for library in LIBRARIES)
    yield from (f"{first}:{name}" for name in NAMES[first])
    yield from (f"{second}:{name}" for name in NAMES[second] if name not in NAMES[first])


def _rows(names: Iterable[str]) -> str:
    """A table with a row for each name; members of classes without the class."""
    cells = []
    for name in names:
        kind, said = state(name)
        short = name.partition(":")[2].removeprefix("GenericLazyTensor.")
        cells.append((f"`{short}`", kind, plain(said)))
    return table(HEADER, cells)


def _language(rows: dict[str, object]) -> str:
    """What formulas may say, but for what is new."""
    cells = []
    for name, row in sorted(rows.items()):
        said = str(getattr(row, "differs", ""))
        if said != NEW:
            cells.append((f"`{name}`", DIFFERENT if said else SAME, plain(said)))
    return table(HEADER, cells)


def _others() -> Iterator[str]:
    """The modules that users seldom import from, a row for all names with the same state."""
    shown = {"pykeops", "pykeops.config", LAZY}
    shown |= {f"{library}{module}" for library in LIBRARIES for module in ("", ".cluster")}
    cells: list[Sequence[str]] = []
    for module, names in NAMES.items():
        own = [n for n in names if module not in shown or (module == LAZY and "." not in n)]
        groups: dict[tuple[str, str], list[str]] = {}
        for name in own:
            groups.setdefault(state(f"{module}:{name}"), []).append(f"`{name}`")
        for (kind, said), group in groups.items():
            cells.append((f"`{module}`", ", ".join(group), kind, plain(said)))
    yield table(("module", *HEADER), cells)


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page, __doc__))
