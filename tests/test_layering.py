"""Which module may import which, and how long functions are: needs no backend.

A module imports from its own room, from rooms of lower floors, and from no other room of its own
floor; a new room has to be given its place here.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "redcomp"

# The rooms of each floor, lowest first, by their dotted names in redcomp; "" is redcomp/__init__.py
# and what it defines.  A module belongs to the room with the longest name that its own begins with.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("records",),
    ("errors", "concurrency", "tracing", "trust", "abi", "typing", "notebooks", "frontend"),
    ("limits",),
    ("config", "arguments", "ir"),
    ("ops", "target", "foreign", "long_work"),
    ("interpret",),
    ("text",),
    ("verify",),
    ("passes",),
    ("frontend.language", "llvm_backend"),
    ("llvm_backend.host", "ptx"),
    ("runtime",),
    ("dump",),
    ("lowering",),
    ("backends",),
    ("compile",),
    ("explain", "view", "catalogue"),
    ("frontend.reductions",),
    ("frontend.solvers",),
    ("frontend.lazy",),
    ("numpy", "torch"),
    ("torch.nn",),
    ("genred",),
    ("",),
    ("__main__", "as_pykeops"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST_FUNCTION = 50

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
    return imported_by(ast.walk(parsed(source)), module, is_package=is_package)


def imported_by(nodes: Iterable[ast.AST], module: str, *, is_package: bool) -> Iterator[str]:
    """What of that some nodes of the module import."""
    for node in nodes:
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


def room_of(name: str) -> str:
    """The room of a dotted name: of a module, or of what a module defines."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in FLOOR_OF:
        parts.pop()
    return ".".join(parts)


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that do not point to its own room or to a lower floor."""
    own = room_of(module)
    names = imported(source, module, is_package=is_package)
    return [
        name for name in names if room_of(name) != own and FLOOR_OF[room_of(name)] >= FLOOR_OF[own]
    ]


@functools.cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of a file, of which several tests ask."""
    return ast.parse(source)


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_module_has_a_room() -> None:
    without = [m for m in map(module_name, package_files()) if not room_of(m) and m != "redcomp"]
    assert not without, f"give these a place in FLOORS: {without}"


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
        ("redcomp.frontend.language", "from redcomp.passes.grad import grad\nimport numpy", []),
        ("redcomp.ptx.tile", "import redcomp.llvm_backend.code, redcomp.ptx.layout", []),
        (
            "redcomp.ptx.tile",
            "from redcomp.llvm_backend.host.layout import WorkerLayout",
            ["redcomp.llvm_backend.host.layout.WorkerLayout"],
        ),
        (
            "redcomp.passes.cse",
            "from redcomp.llvm_backend import code",
            ["redcomp.llvm_backend.code"],
        ),
        ("redcomp.numpy", "from redcomp import Genred", ["redcomp.Genred"]),
        ("redcomp.text", "from redcomp import Genred", ["redcomp.Genred"]),
    ],
)
def test_checker_sees_each_form_of_import(module: str, source: str, expected: list[str]) -> None:
    assert violations(source, module) == expected


def modules_imported(path: Path) -> set[str]:
    """The modules that a module imports, be it when one of its functions is called."""
    nodes = used_at_run_time(parsed(path.read_text(encoding="utf-8")))
    found = set()
    for name in imported_by(nodes, module_name(path), is_package=path.name == "__init__.py"):
        while not ((PACKAGE.parent / name.replace(".", "/")).with_suffix(".py").exists()):
            if (PACKAGE.parent / name.replace(".", "/")).is_dir() or "." not in name:
                break
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {module_name(path)}


def used_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes without what is imported for types only."""
    yield node
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in node.orelse if is_for_types else ast.iter_child_nodes(node):
        yield from used_at_run_time(child)


def test_no_circle_of_imports() -> None:
    known = {module_name(path): modules_imported(path) for path in package_files()}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in known[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in known:
        visit(module, ())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("path", package_files(), ids=module_name)
def test_functions_are_short(path: Path) -> None:
    tree = parsed(path.read_text(encoding="utf-8"))
    long = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and code_lines(node) > LONGEST_FUNCTION
    ]
    assert long == []


def code_lines(function: ast.FunctionDef) -> int:
    """The lines of a function's body, without its documentation."""
    lines = [node.end_lineno or node.lineno for node in function.body]
    begin = lines[0] if ast.get_docstring(function) else function.body[0].lineno - 1
    return lines[-1] - begin


@pytest.mark.parametrize("module", ["redcomp", "redcomp.numpy"])
def test_import_loads_no_optional_dependency(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules.keys() & set({OPTIONAL!r})))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
    assert loaded.stderr == ""


ONE_CALL = """
import gc, sys, numpy, redcomp.{library}
def loaded():
    compilers = (
        "llvmlite", "redcomp.compile", "redcomp.passes.pipeline", "redcomp.backends.host",
        "redcomp.backends.gpu",
    )
    return [module for module in compilers if module in sys.modules]
print(gc.isenabled(), loaded())
column = redcomp.{library}.Genred("x", "x = Vj(1)", axis=1)
column(numpy.ones((2, 1)) if "{library}" == "numpy" else sys.modules["torch"].ones(2, 1))
print(gc.isenabled(), loaded())
"""


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_compiler_is_loaded_by_the_first_call(library: str) -> None:
    """The backend of a target as well; Python's collector only waits meanwhile."""
    program = ONE_CALL.format(library=library)
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    used = ["llvmlite", "redcomp.compile", "redcomp.passes.pipeline", "redcomp.backends.host"]
    assert printed == ["True []", f"True {used}"]


# Functions that may take the `id` of something.  Values hash by identity, so that they are keys
# themselves: a key that is a number keeps nothing alive, and its number may be another value's.
TAKE_IDS = {
    "redcomp.concurrency": {"_make_once"},  # of a dictionary, which has no hash
    "redcomp.numpy.lazy_tensor": {""},  # of an array, which the key's owner keeps
    "redcomp.torch.lazy_tensor": {"identity"},
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

    visit(parsed(source), "")
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
