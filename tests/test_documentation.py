"""The written reference follows the tables, and links lead somewhere: needs no backend."""

from __future__ import annotations

import fnmatch
import functools
import importlib
import re
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from redcomp.frontend.language.aliases import KIND_OF_CONSTRUCTOR
from redcomp.frontend.language.builders import BUILDERS
from redcomp.ops import SPELLINGS
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING
from redcomp.ops.table import Section

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
make_formulas: Any = importlib.import_module("make_formulas")
make_keops_names: Any = importlib.import_module("make_keops_names")
make_lazy_tensor: Any = importlib.import_module("make_lazy_tensor")

WRITTEN = (p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(WRITTEN)]
LINK = re.compile(r"\[[^\]]*\]\(([^)#]*)(?:#([^)]*))?\)")

# Dimensions that are known from the language itself, not from the shape rules.
DIMENSIONS = {
    "Sum": "1",
    "SumT": "n",
    "Normalize": "f",
    "Extract": "length",
    "Concat": "f + g",
    "OneHot": "n",
    "MatVecMult": "A / b",
    "TensorProd": "f * g",
    "BSpline": "knots - order - 1",
}


@functools.cache
def written() -> str:
    """The page on formulas, as it is committed."""
    return (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8")


@functools.cache
def reference() -> str:
    """What it should be, apart from the errors of limits, which take seconds to try out."""
    (limits,) = re.findall(r"^\| limit \|.*?(?=\n\n)", written(), re.MULTILINE | re.DOTALL)
    return make_formulas.page(limits)


def listed(text: str) -> set[str]:
    """The names in the first cells of the page's tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def test_reference_is_what_its_script_writes() -> None:
    assert written() == reference(), "run python scripts/make_formulas.py"


def test_reference_has_every_limit() -> None:
    for example in make_formulas.EXAMPLES:
        assert f"\n| {example.what} | {example.most} | " in written()


@pytest.mark.thorough
def test_limits_have_the_errors_of_the_reference() -> None:
    assert f"\n\n{make_formulas.limits_table()}\n\n" in written()


def test_page_on_lazy_tensors_is_what_its_script_writes() -> None:
    written = (ROOT / "docs" / "lazy-tensor.md").read_text(encoding="utf-8")
    assert written == make_lazy_tensor.page(), "run python scripts/make_lazy_tensor.py"


def test_page_on_names_of_keops_is_what_its_script_writes() -> None:
    written = (ROOT / "docs" / "keops-names.md").read_text(encoding="utf-8")
    assert written == make_keops_names.page(), "run python scripts/make_keops_names.py"


def test_page_on_names_of_keops_has_all_of_them() -> None:
    shown = set(re.findall(r"`([^`]+)`", make_keops_names.page()))
    for module, names in make_keops_names.NAMES.items():
        short = {name.removeprefix("GenericLazyTensor.") for name in names}
        assert not short - shown, module
    of_formulas = {*SPELLINGS, *BUILDERS, *REDUCTIONS_BY_SPELLING}
    rows = {**SPELLINGS, **BUILDERS, **REDUCTIONS_BY_SPELLING}
    assert not {name for name in of_formulas if rows[name].differs != "new"} - shown


def test_what_is_said_of_names_of_keops_is_said_of_some() -> None:
    names = [f"{m}:{name}" for m, listed in make_keops_names.NAMES.items() for name in listed]
    there = [name for name in names if make_keops_names.keops_names.reason(name) is None]
    for pattern in (p for ps in make_keops_names.keops_names.DIFFERENT.values() for p in ps):
        assert any(fnmatch.fnmatchcase(name, pattern) for name in there), pattern


def test_programs_on_lazy_tensors_run() -> None:
    programs = re.findall(r"```python\n(.*?)```", make_lazy_tensor.page(), re.DOTALL)
    found: dict[str, Any] = {}
    exec("\n".join(programs), found)
    x, y, b = (found[name] for name in "xyb")
    dense = np.exp(-((x[:, None] - y) ** 2).sum(-1))
    np.testing.assert_allclose(found["a"], dense @ b, 1e-9, 1e-12)
    np.testing.assert_allclose(found["same"], dense**0.5 @ b, 1e-9, 1e-12)
    assert found["values"].shape == (1000, 3)
    assert found["spread"].shape == (1000, 1, 1)
    assert found["gradients"].shape == x.shape
    np.testing.assert_allclose(found["again"], dense @ dense.T.sum(1), 1e-9)
    np.testing.assert_allclose(found["near"][:, 0], dense.sum(1), 1e-9)
    assert found["both"].shape == (3000, 3000)
    phases = np.exp(1j * (x @ y.T))
    np.testing.assert_allclose(found["waves"], phases @ b, 1e-9, 1e-10)
    np.testing.assert_allclose(found["spread_of_phases"][:, 0], phases.var(1), 1e-9)


def test_reference_has_every_name() -> None:
    assert set(KIND_OF_CONSTRUCTOR) < set(BUILDERS)
    names = {*SPELLINGS, *BUILDERS, *REDUCTIONS_BY_SPELLING}
    assert len(names) > 100
    missing = names - listed(reference())
    assert not missing


def test_every_row_is_documented() -> None:
    for name, row in {**SPELLINGS, **BUILDERS, **REDUCTIONS_BY_SPELLING}.items():
        assert row.doc.strip(), name
        assert not row.doc.endswith("."), name
    for row in SPELLINGS.values():
        assert row.section in get_args(Section), row.name
        assert row.section != "Primitives", row.name
        assert len(row.operands) in (0, row.arity), row.name


@pytest.mark.parametrize("name", DIMENSIONS)
def test_dimension_of_a_result(name: str) -> None:
    assert make_formulas.dimension(SPELLINGS[name]) == DIMENSIONS[name]


def anchors(page: Path) -> set[str]:
    """The places of a page that links can name, by its headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in LINK.findall(text):
        if target.startswith("http"):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize(
    "layer", ["frontend", "llvm_backend", "ops", "passes", "ptx", "runtime", "text"]
)
def test_internals_name_every_module(layer: str) -> None:
    page = (ROOT / "docs" / "internals" / f"{layer}.md").read_text(encoding="utf-8")
    modules = {file.stem for file in (ROOT / "redcomp" / layer).rglob("*.py")} - {"__init__"}
    assert modules
    assert not {name for name in modules if f"`{name}" not in page}
