"""Check a built package as its users get it: python scripts/check_package.py dist

Looks at what the wheel holds, installs it in an empty environment, and there runs README's programs
and the command `redcomp`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("show", "Exp(-SqDist(x,y))*b", "x=Vi(3)", "y=Vj(3)", "b=Vj(1)")
KEOPS = "import redcomp.as_pykeops, pykeops; print('pykeops', pykeops.__version__)"


def faults(names: list[str], modules: set[str]) -> list[str]:
    """What is wrong with the files of a wheel, which should hold the package's modules."""
    found = [f"{name} is missing" for name in sorted(modules - set(names))]
    found += [
        f"{name} should not be there"
        for name in names
        if not re.match(r"redcomp(-[^/]+\.dist-info)?/", name) or "/tests/" in name
    ]
    if not any(re.search(r"\.dist-info/licenses/LICENSE$", name) for name in names):
        found.append("LICENSE is missing")
    return found


def programs() -> str:
    """README's programs, as one, without those that need PyTorch."""
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return "\n".join(block for block in blocks if "torch" not in block)


def install(wheel: Path, folder: str) -> Path:
    """An environment with the wheel and what it needs; the folder of its commands."""
    venv.create(folder, with_pip=True)
    commands = Path(folder, "Scripts" if os.name == "nt" else "bin")
    subprocess.run(
        [commands / "python", "-m", "pip", "install", "--disable-pip-version-check", wheel],
        check=True,
    )
    return commands


def main(dist: str) -> int:
    """Check the one wheel in a folder; the exit status."""
    (wheel,) = Path(dist).resolve().glob("*.whl")
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "redcomp").rglob("*.py")}
    found = faults(zipfile.ZipFile(wheel).namelist(), modules | {"redcomp/py.typed"})
    if found:
        print(*found, sep="\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        commands = install(wheel, folder)
        for command in (
            ("python", "-c", f"{programs()}\nprint('README gives an array of shape', out.shape)"),
            ("python", "-c", KEOPS),
            ("redcomp", "--version"),
            ("redcomp", *SHOWN),
            ("redcomp", *SHOWN, "--target", "sm_90", "--stage", "ptx"),
        ):
            print(first_line(commands, command, folder))
    return 0


def first_line(commands: Path, command: tuple[str, ...], folder: str) -> str:
    """The first line that a command of the environment prints, which must succeed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    program = [commands / command[0], *command[1:]]
    made = subprocess.run(
        program, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return made.stdout.strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["dist"]))
