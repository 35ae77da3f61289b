"""Which module may import which, and what all of them do without: needs no backend.

A module imports from its own layer or from a lower one; a new module has
to be given its place here.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "redcomp"

# The top-level modules and packages of each layer, lowest first; "" is redcomp/__init__.py.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("concurrency", "config", "errors", "trust", "limits", "arguments"),
    ("ir",),
    ("ops",),
    ("interpret", "text", "verify"),
    ("passes",),
    ("llvm_backend",),
    ("ptx",),
    ("runtime",),
    ("compile", "dump"),
    ("explain",),
    ("frontend",),
    ("genred", "numpy", "torch", "", "__main__"),
)
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

OPTIONAL = ("cuda", "matplotlib", "torch")


def module_name(path: Path) -> str:
    """The dotted name of a file in the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """The dotted names in redcomp that a module imports, inside functions too.

    `from redcomp.ops import table` yields "redcomp.ops.table": the imported name counts, because in
    `from redcomp import text` it is all that tells the layer.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            package = parts if is_package else parts[:-1]
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "redcomp")


def layer_of(module: str) -> str:
    """The top-level module or package of a dotted name; "" for redcomp itself and names in it."""
    name = module.split(".")[1] if "." in module else ""
    is_module = (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()
    return name if is_module or name in RANKS else ""


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that point to a higher layer."""
    own = RANKS[layer_of(module)]
    names = imported(source, module, is_package=is_package)
    return [name for name in names if RANKS[layer_of(name)] > own]


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_module_has_a_layer() -> None:
    unplaced = {layer_of(module_name(path)) for path in package_files()} - RANKS.keys()
    assert not unplaced, f"give these a place in LAYERS: {sorted(unplaced)}"


@pytest.mark.parametrize("path", package_files(), ids=module_name)
def test_imports_point_downwards(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    upward = violations(source, module_name(path), is_package=path.name == "__init__.py")
    assert upward == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("redcomp.ir", "import redcomp.ops.table", ["redcomp.ops.table"]),
        ("redcomp.ir", "from redcomp import compile", ["redcomp.compile"]),
        (
            "redcomp.ir",
            "def f():\n    from redcomp.passes.cse import cse",
            ["redcomp.passes.cse.cse"],
        ),
        ("redcomp.ir", "from .text import parse", ["redcomp.text.parse"]),
        ("redcomp.ops.table", "from ..passes import grad", ["redcomp.passes.grad"]),
        ("redcomp.ops.table", "from . import arithmetic\nfrom .. import ir", []),
        ("redcomp.frontend.lower", "from redcomp.passes.grad import grad\nimport numpy", []),
        ("redcomp.numpy", "from redcomp import Genred", []),
        ("redcomp.text", "from redcomp import Genred", ["redcomp.Genred"]),
    ],
)
def test_checker_sees_each_form_of_import(module: str, source: str, expected: list[str]) -> None:
    assert violations(source, module) == expected


@pytest.mark.parametrize("module", ["redcomp", "redcomp.numpy"])
def test_import_loads_no_optional_dependency(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules.keys() & set({OPTIONAL!r})))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
    assert loaded.stderr == ""


# Functions that may take the `id` of something.  Values hash by identity, so that they are keys
# themselves: a key that is a number keeps nothing alive, and its number may be another value's.
TAKE_IDS = {
    "redcomp.concurrency": {"_make_once"},  # of a dictionary, which has no hash
}


def uses_of_id(source: str) -> list[str]:
    """The innermost function around each use of `id`, called or passed on; "" outside of all."""
    found: list[str] = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Name) and node.id == "id":
            found.append(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), "")
    return found


@pytest.mark.parametrize("path", package_files(), ids=module_name)
def test_objects_are_keys_themselves(path: Path) -> None:
    taking = set(uses_of_id(path.read_text(encoding="utf-8")))
    assert taking == TAKE_IDS.get(module_name(path), set())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("known = {id(value): 1}", [""]),
        ("def f():\n    return set(map(id, values)), id(a)", ["f", "f"]),
        ("def f():\n    def g():\n        return id(a)\n    return value.id, dict(id=1)", ["g"]),
    ],
)
def test_checker_sees_each_use_of_id(source: str, expected: list[str]) -> None:
    assert uses_of_id(source) == expected
