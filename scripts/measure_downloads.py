"""What installing each extra downloads, in MB, without downloading it: needs `uv` on the path.

    python scripts/measure_downloads.py

uv resolves the versions of constraints.txt from PyPI, whose index says how large files are.  Of a
package that has no file for the platform its source would be downloaded; it is not counted.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
MACOS = "15.0"
MEGABYTE = 1e6
# For each platform, the names that uv and Python have for it, and the wheels that run there.
PLATFORMS = {
    "Linux": ("x86_64-unknown-linux-gnu", "linux", r"manylinux.*x86_64"),
    "macOS": ("aarch64-apple-darwin", "darwin", r"macosx.*(arm64|universal2)"),
    "Windows": ("x86_64-pc-windows-msvc", "win32", r"win_amd64"),
}


def extras() -> dict[str, list[str]]:
    """What each extra asks for, beside the package's own dependencies, which are "" here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = project["dependencies"]
    return {"": own} | {k: own + v for k, v in project["optional-dependencies"].items()}


def pinned(requirements: list[str], platform: str) -> list[str]:
    """The names and versions of all packages that the requirements install on a platform.

    Empty if they cannot be installed there.
    """
    command = ["uv", "pip", "compile", "--no-config", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", PYTHON, "--python-platform", platform]
    command += ["--constraints", str(ROOT / "constraints.txt"), "-"]
    asked = "\n".join(requirements)
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    made = subprocess.run(
        command, input=asked, env=environment, capture_output=True, text=True, check=False
    )
    return [line.split(";")[0].strip() for line in made.stdout.splitlines() if "==" in line]


def sizes(packages: list[str], system: str) -> dict[str, list[dict[str, Any]]]:
    """The wheels of each package, from uv's lock file."""
    with tempfile.TemporaryDirectory() as folder:
        listed = ", ".join(f'"{package}"' for package in packages)
        project = f'[project]\nname = "sizes"\nversion = "0"\ndependencies = [{listed}]\n'
        project += f'requires-python = "=={PYTHON}.*"\n'
        project += f"[tool.uv]\nenvironments = [\"sys_platform == '{system}'\"]\n"
        Path(folder, "pyproject.toml").write_text(project, "utf-8")
        command = ["uv", "lock", "--no-config", "--quiet"]
        subprocess.run(command, cwd=folder, check=True)
        lock = tomllib.loads(Path(folder, "uv.lock").read_text("utf-8"))
    return {package["name"]: package.get("wheels", []) for package in lock["package"]}


def wheel(wheels: list[dict[str, Any]], platform: str) -> int:
    """The bytes of the wheel that is installed on a platform."""
    number = PYTHON.replace(".", "")
    fits = rf"-(cp{number}-\w+|cp3\d+-abi3|py2\.py3-none|py3-none)-(any|{platform})"
    found = [w for w in wheels if re.search(fits, w["url"].rsplit("/", 1)[1])]
    return max((w.get("size", 0) for w in found), default=0)


def rows() -> Iterator[tuple[str, str, float]]:
    """An extra, a platform, and the megabytes of its wheels."""
    for extra, requirements in extras().items():
        for name, (platform, system, of_wheels) in PLATFORMS.items():
            packages = pinned(requirements, platform)
            wheels = sizes(packages, system)
            names = {re.split("[=\\[]", package)[0].lower() for package in packages}
            total = sum(wheel(wheels.get(package, []), of_wheels) for package in names)
            yield extra, name, total / MEGABYTE


if __name__ == "__main__":
    for extra, name, size in rows():
        shown = f"{size:6,.0f} MB" if size else "     -"
        print(f"{extra or '(none)':10s} {name:8s} {shown}", flush=True)
