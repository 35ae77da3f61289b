"""What the project says of itself: versions, addresses, commands.  Needs no backend."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import redcomp
from redcomp import __main__ as command_line

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
check_release: Any = importlib.import_module("check_release")
check_package: Any = importlib.import_module("check_package")

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def texts() -> Iterator[Path]:
    """The files that may name an address."""
    yield from (path for path in ROOT.iterdir() if path.suffix in (".md", ".toml", ".cff", ".py"))
    for folder in (".github", "docs", "examples", "packaging", "redcomp", "scripts"):
        for suffix in ("md", "in", "toml", "yml", "py"):
            yield from (ROOT / folder).rglob(f"*.{suffix}")


# -- the version and the addresses --


def test_the_version_stands_in_one_place() -> None:
    assert check_release.version() == redcomp.__version__
    assert 'version = { attr = "redcomp.__version__" }' in PROJECT
    assert not re.search(r'^version = "', PROJECT, re.MULTILINE)


def test_the_command_says_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'redcomp = "redcomp.__main__:main"' in PROJECT
    with pytest.raises(SystemExit) as ended:
        command_line.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"redcomp {redcomp.__version__} (Python 3.")


def test_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == redcomp.__version__
    assert citation["type"] == "software"
    assert f'license = "{citation["license"]}"' in PROJECT
    assert all(author["name"] in PROJECT for author in citation["authors"])


def test_addresses_stand_in_one_place() -> None:
    addresses = dict(re.findall(r'^(\w+) = "(.*)"$', check_release.addresses(), re.MULTILINE))
    assert {"Homepage", "Repository", "Issues", "Changelog"} <= set(addresses)
    own = addresses["Repository"]
    assert all(address.startswith(own) for address in addresses.values())
    assert [path.name for path in texts() if own in path.read_text("utf-8")] == ["pyproject.toml"]


# -- releases --


def test_a_version_of_a_release_has_its_date_everywhere() -> None:
    if ".dev" not in redcomp.__version__:
        assert set(check_release.missing()) <= {"the addresses of pyproject.toml are nobody's"}


READY = {
    "redcomp/__init__.py": '__version__ = "1.2.3"\n',
    "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n",
    "CITATION.cff": "version: 1.2.3\ndate-released: '2026-01-31'\n",
    "pyproject.toml": '[project.urls]\nRepository = "https://code.org/x"\n\n[project.scripts]\n',
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that can be released."""
    for name, text in READY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(check_release, "ROOT", tmp_path)
    return tmp_path


def test_what_can_be_released(checkout: Path) -> None:
    assert check_release.missing() == check_release.missing("v1.2.3") == []
    assert check_release.missing("v1.2.4") == ["the tag is v1.2.4, but the version v1.2.3"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("redcomp/__init__.py", "1.2.3", "1.2.3.dev0", "1.2.3.dev0 is no number of a release"),
        ("CHANGELOG.md", " - 2026-01-31", "", "CHANGELOG.md has no section [1.2.3] with a date"),
        ("CHANGELOG.md", "01-31", "02-31", "CHANGELOG.md has no section [1.2.3] with a date"),
        ("CITATION.cff", "1.2.3", "1.2.2", "CITATION.cff has another version"),
        ("CITATION.cff", "01-31", "01-30", "CITATION.cff says 2026-01-30, CHANGELOG.md 2026-01-31"),
        ("pyproject.toml", "code.org", "git.example", "the addresses of pyproject.toml are nobody"),
    ],
)
def test_what_cannot_be_released(
    checkout: Path, file: str, old: str, new: str, message: str
) -> None:
    (checkout / file).write_text(READY[file].replace(old, new), encoding="utf-8")
    assert any(what.startswith(message) for what in check_release.missing())


# -- what is uploaded --


def test_links_of_the_uploaded_readme_lead_to_the_repository(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    setup: Any = importlib.import_module("setup")
    monkeypatch.setattr(setup, "ROOT", checkout)
    (checkout / "README.md").write_text(
        "[a](docs/a.md#b) ![p](docs/p.png) [c](#c) [d](https://d.org/e) `x[0](y)`\n", "utf-8"
    )
    assert setup.readme() == (
        "[a](https://code.org/x/blob/v1.2.3/docs/a.md#b) "
        "![p](https://code.org/x/raw/v1.2.3/docs/p.png) [c](#c) [d](https://d.org/e) `x[0](y)`\n"
    )


GOOD = ["redcomp/__init__.py", "redcomp/py.typed", "redcomp-1.2.dist-info/licenses/LICENSE"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (GOOD, []),
        ([*GOOD, "redcomp-1.2.dist-info/METADATA", "redcomp/text/page.html"], []),
        (GOOD[1:], ["redcomp/__init__.py is missing"]),
        (GOOD[:2], ["LICENSE is missing"]),
        ([*GOOD, "tests/test_a.py"], ["tests/test_a.py should not be there"]),
        ([*GOOD, "redcomp/tests/a.py"], ["redcomp/tests/a.py should not be there"]),
    ],
)
def test_what_a_wheel_holds(names: list[str], expected: list[str]) -> None:
    assert check_package.faults(names, {"redcomp/__init__.py", "redcomp/py.typed"}) == expected


def test_readme_has_a_program_without_pytorch() -> None:
    assert "out = " in check_package.programs()


# -- public continuous integration --

FOLDER = ROOT / ".github"
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (FOLDER / "workflows").glob("*.yml")
}
JOBS = [(name, job) for name, flow in WORKFLOWS.items() for job in flow["jobs"]]


def steps(workflow: str, job: str) -> list[dict[str, Any]]:
    """The steps of a job."""
    found: list[dict[str, Any]] = WORKFLOWS[workflow]["jobs"][job]["steps"]
    return found


def commands(workflow: str, job: str) -> list[str]:
    """The commands that a job runs."""
    return [step["run"] for step in steps(workflow, job) if "run" in step]


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_workflows_run_what_is_there(workflow: str, job: str) -> None:
    for step in steps(workflow, job):
        assert len({"run", "uses"} & set(step)) == 1
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", step["uses"])
    for command in commands(workflow, job):
        first, second, *_ = command.split()
        if first == "make":
            assert second in TARGETS
        elif first == "python":
            assert (ROOT / second).is_file()
        else:
            assert command.startswith("command -v make || ")


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_jobs_have_limits_and_few_rights(workflow: str, job: str) -> None:
    flow = WORKFLOWS[workflow]
    assert flow["permissions"] == {"contents": "read"}
    assert 0 < flow["jobs"][job]["timeout-minutes"] < 360
    rights = {"id-token": "write"} if job == "publish" else None
    assert flow["jobs"][job].get("permissions") == rights


def test_workflows_call_what_the_own_continuous_integration_calls() -> None:
    own = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert {"lint", "test"} <= set(own)
    called = {c.split()[1] for job in WORKFLOWS["ci"]["jobs"] for c in commands("ci", job)}
    assert set(own) <= called
    assert {"lint", "test", "docs", "package"} <= called


def test_tests_run_on_every_version_and_system() -> None:
    matrix = WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert matrix["python"] == versions
    assert f'requires-python = ">={versions[0]}"' in PROJECT
    assert {system.split("-")[0] for system in matrix["system"]} == {"ubuntu", "macos", "windows"}


def test_nothing_is_published_unchecked() -> None:
    build = commands("release", "build")
    assert build == ['python scripts/check_release.py "$GITHUB_REF_NAME"', "make package"]
    assert WORKFLOWS["release"]["jobs"]["publish"]["needs"] == "build"


@pytest.mark.parametrize("path", sorted((FOLDER / "ISSUE_TEMPLATE").glob("*.yml")), ids=str)
def test_forms_of_issues(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        return
    assert {"name", "description", "body"} <= set(form)
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    names = [field["id"] for field in asked]
    assert len(set(names)) == len(names)
    assert all(field["attributes"]["label"] for field in asked)
    assert any(field.get("validations", {}).get("required") for field in asked)


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "docs/internals/releasing.md"]
)
def test_pages_name_files_and_targets_that_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= TARGETS
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / page).parent / link).exists(), link
    for name in re.findall(r"`(?:python )?((?:scripts|redcomp|\.github|docs)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


# -- make --


def made(*arguments: str) -> str:
    """What `make` says, without doing anything."""
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_every_target_has_help() -> None:
    assert {"help", "demo", "test", "lint", "docs", "bench", "accuracy"} <= TARGETS
    described = set(re.findall(r"^([a-z-]+):[^#\n]*## \w", MAKEFILE, re.MULTILINE))
    assert described == TARGETS
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == TARGETS
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {f"make {target}" for target in TARGETS} <= {
        line[:21].strip() for line in shown.stdout.splitlines()
    }


def test_every_installation_says_what_it_downloads() -> None:
    extras = set(re.findall(r"^([a-z]+) = \[", PROJECT.split("[project.optional", 1)[1], re.M))
    stamps = set(re.findall(r"stamp-([a-z]+)", MAKEFILE)) - {"venv"}
    assert stamps <= extras
    sizes = dict(re.findall(r"^DOWNLOADS_(\w+) := (.*)$", MAKEFILE, re.MULTILINE))
    assert set(sizes) == stamps
    assert all(re.fullmatch(r"(\d+\.\d ){3}\d+\.\d", size) for size in sizes.values())


def test_measurements_have_a_folder_of_their_own() -> None:
    for target, page in (("bench", "benchmarks/cpu"), ("accuracy", "accuracy.md")):
        assert f"--output output/{page}" in made(target)
        assert f"--output docs/{page}" in made(target, "WRITE=docs")
    assert "output/" in (ROOT / ".gitignore").read_text("utf-8").split()


@pytest.mark.thorough
@pytest.mark.slow
def test_examples_leave_pictures(tmp_path: Path) -> None:
    (command,) = (line for line in made("demo").splitlines() if "draw_examples" in line)
    names = command.split()[3:]
    assert len(names) >= 2
    assert all((ROOT / "examples" / "gallery" / f"{name}.py").exists() for name in names)
    environment = {**os.environ, "REDCOMP_EXAMPLES_SMALL": "1", "PYTHONPATH": str(ROOT)}
    script = ROOT / "scripts" / "draw_examples.py"
    program = [sys.executable, script, tmp_path / "pictures", names[0]]
    subprocess.run(program, env=environment, check=True)
    assert {path.suffix for path in (tmp_path / "pictures").iterdir()} == {".png"}


def test_an_index_of_cpu_builds_is_passed_to_pip() -> None:
    assert "--extra-index-url" not in made("test", "VENV=none")
    assert "--extra-index-url https://a.org/cpu -e" in made(
        "test", "VENV=none", "TORCH_INDEX=https://a.org/cpu"
    )
