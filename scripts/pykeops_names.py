"""Writes the public names of an installed pykeops to tests/pykeops_names.json.

    python -m venv /tmp/keops && /tmp/keops/bin/pip install pykeops==2.3
    python scripts/pykeops_names.py /tmp/keops/lib/python3.*/site-packages

It reads the sources without running them, so it needs no compiler.  A name is public if a module
defines it at its top, or if a package's `__init__` takes it from another of its modules, and it has
no underscore before it; classes of LazyTensors and of settings are listed with their members.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parents[1] / "tests" / "pykeops_names.json"
# Parts of keopscore that generate code, which nothing but KeOps calls.
GENERATORS = ("binders", "formulas", "include", "mapreduce", "sandbox", "test")
WITH_MEMBERS = (
    "GenericLazyTensor",
    "ComplexGenericLazyTensor",
    "numpytools",
    "torchtools",
    "Config",
    "CUDAConfig",
    "OpenMPConfig",
    "DetectPlatform",
)


def defined(body: list[ast.stmt], is_package: bool) -> Iterator[str]:
    """The names that statements define, in their order."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
            if isinstance(node, ast.ClassDef) and node.name in WITH_MEMBERS:
                yield from (f"{node.name}.{member}" for member in defined(node.body, False))
        elif isinstance(node, ast.Assign):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.ImportFrom) and is_package:
            own = node.level > 0 or str(node.module).split(".")[0] in ("pykeops", "keopscore")
            yield from (a.asname or a.name for a in node.names if own and a.name != "*")
        elif isinstance(node, ast.If) and "__main__" not in ast.unparse(node.test):
            yield from defined(node.body, is_package)


def public_names(folder: Path) -> dict[str, list[str]]:
    """The public names of each module of pykeops and keopscore in a folder of packages."""
    found = {}
    for package in ("pykeops", "keopscore"):
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[1] in GENERATORS:
                continue
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            names = defined(ast.parse(path.read_text(encoding="utf-8")).body, is_package)
            found[module] = sorted({n for n in names if not any(p[0] == "_" for p in n.split("."))})
    return found


if __name__ == "__main__":
    text = json.dumps(public_names(Path(sys.argv[1])), indent=1)
    DATA.write_text(text + "\n", encoding="utf-8")
