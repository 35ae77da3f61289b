"""What Python shows of redcomp: tables, help, signatures, types, notebooks: needs PyTorch."""

from __future__ import annotations

import ast
import html.parser
import importlib
import inspect
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

import redcomp
import redcomp.numpy
import redcomp.torch
import redcomp.typing
from redcomp import errors
from redcomp.frontend.language.builders import BUILDERS
from redcomp.ops import SPELLINGS
from redcomp.ops.reductions import REDUCTIONS_BY_SPELLING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
make_words: Any = importlib.import_module("make_words")

PACKAGE = Path(redcomp.__path__[0])
FACES = [redcomp, redcomp.numpy, redcomp.torch]
ALIASES = ["x = Vi(3)", "y = Vj(3)"]


class Cells(html.parser.HTMLParser):
    """The texts of a page's cells; fails where elements are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag in ("td", "th", "caption"):
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th", "caption"):
            self.texts[-1] += data


# -- tables


def test_operations_are_all_there() -> None:
    table = redcomp.operations()
    names = [row.name for row in table]
    assert {*SPELLINGS, *BUILDERS} <= set(names)
    assert len(names) == len(set(names)) == len(table)
    assert table["SqDist"].call == "SqDist(f, g)"
    assert table[0] is next(iter(table))
    assert "Exp" in table
    assert "exp" not in table
    with pytest.raises(KeyError, match="did you mean Exp"):
        table["exp"]


def test_reductions_are_all_there() -> None:
    table = redcomp.reductions()
    assert {n for row in table for n in (row.name, *row.other)} == {*REDUCTIONS_BY_SPELLING}
    assert table["SoftMax"] is table["SumSoftMaxWeight"]
    assert (table["ArgKMin"].needs, table["ArgKMin"].gives) == ("opt_arg=K", "indices (int64)")
    assert table["Any"].gives == "booleans"


@pytest.mark.parametrize("table", [redcomp.operations(), redcomp.reductions()], ids=len)
def test_tables_print_themselves(table: Any) -> None:
    text = str(table)
    assert max(map(len, text.splitlines())) <= 100
    cells = Cells(table._repr_html_()).texts
    for row in table:
        shown = row.call if hasattr(row, "call") else row.name
        assert shown in text
        assert shown in cells
        assert row.meaning in cells
        assert row.section in text
    with pytest.raises(AttributeError):
        table.rows = ()


# -- names


def test_names_are_lazy() -> None:
    program = (
        "import sys, redcomp\n"
        "assert not {'numpy', 'torch', 'llvmlite', 'redcomp.errors'} & {*sys.modules}\n"
        "assert issubclass(redcomp.FormulaError, ValueError)\n"
        "assert 'numpy' not in sys.modules\n"
        "assert redcomp.numpy.Genred and redcomp.operations()\n"
        "assert 'torch' not in sys.modules\n"
        "assert {'numpy', 'torch', 'Genred', 'ArgumentError'} <= {*dir(redcomp)}\n"
        "sys.modules['torch'] = None\n"
        "try:\n    redcomp.torch\n"
        "except AttributeError as error:\n    assert 'pip install torch' in str(error), error\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert redcomp.torch is sys.modules["redcomp.torch"]
    with pytest.raises(AttributeError, match="nothing"):
        redcomp.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"redcomp\.numpy and redcomp\.torch have LazyTensor"):
        redcomp.LazyTensor  # type: ignore[attr-defined]  # noqa: B018


def test_errors_have_their_names() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert getattr(redcomp, name) is value
    assert set(redcomp.__all__) <= set(dir(redcomp))
    assert all(hasattr(redcomp, name) for name in redcomp.__all__)


# -- help and signatures


@pytest.mark.parametrize("face", FACES)
def test_help_shows_an_example_and_where_operations_are(face: Any) -> None:
    text = pydoc.render_doc(face.Genred, renderer=pydoc.plaintext)
    for part in ('smooth = Genred("', "redcomp.operations()", "redcomp.reductions()", "axis"):
        assert part in text


def test_the_example_of_help_runs() -> None:
    import numpy as np

    lines = inspect.getdoc(redcomp.numpy.Genred.__mro__[1])
    assert lines is not None
    code = [line[4:] for line in lines.splitlines() if line.startswith("    ") and line[4] != " "]
    code = code[: next(n for n, line in enumerate(code) if line.startswith("out = ")) + 1]
    x, y, b = np.ones((2, 3)), np.zeros((4, 3)), np.ones((4, 1))
    scope: dict[str, Any] = {"x": x, "y": y, "b": b}
    exec("\n".join(code), scope)
    np.testing.assert_allclose(scope["out"], np.full((2, 1), 4 * np.exp(-3)))
    assert (scope["smooth"](b=b, x=x, y=y) == scope["out"]).all()


@pytest.mark.parametrize("face", FACES)
def test_a_missing_argument_is_one_of_genred(face: Any) -> None:
    with pytest.raises(TypeError, match=r"^Genred\.__init__\(\) missing .* 'aliases'"):
        face.Genred("x")


@pytest.mark.parametrize("face", FACES)
def test_signatures_have_the_names(face: Any) -> None:
    made = inspect.signature(face.Genred).parameters
    assert [*made][:4] == ["formula", "aliases", "reduction_op", "axis"]
    assert made["reduction_op"].default == "Sum"
    called = inspect.signature(face.Genred.__call__).parameters
    assert {"backend", "device_id", "ranges", "out"} < {*called}
    if face is not redcomp:
        assert [*inspect.signature(face.KernelSolve).parameters][:3] == [
            "formula",
            "aliases",
            "varinvalias",
        ]


@pytest.mark.parametrize("face", FACES)
def test_signatures_of_calls_have_the_names_of_aliases(face: Any) -> None:
    for op in (
        face.Genred("x * y", ["x = Vi(3)", "y = Vj(3)"], axis=1),
        *(
            solver("x * y", ["x = Vi(1)", "y = Vj(1)"], "y", axis=1)
            for solver in [getattr(face, "KernelSolve", None)]
            if solver is not None
        ),
    ):
        made = inspect.signature(op).parameters
        assert [*made][:3] == ["x", "y", "backend"]
        assert "named" not in made
    for name in ("lambda", "out", "named"):
        op = face.Genred(f"{name} + 1", [f"{name} = Vi(1)"], axis=1)
        assert next(iter(inspect.signature(op).parameters)) == "args"


def strings(path: Path) -> list[str]:
    """The texts of a module, but for its own docstring, which only its readers see."""
    tree = ast.parse(path.read_text("utf-8"))
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    nodes = (node for top in body for node in ast.walk(top))
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def test_no_text_points_to_pages_that_are_not_installed() -> None:
    pointing = {
        str(path.relative_to(PACKAGE)): text
        for path in PACKAGE.rglob("*.py")
        for text in strings(path)
        if "docs/" in text
    }
    assert pointing == {}


# -- types


def test_words_of_types_are_those_of_options() -> None:
    written = make_words.MODULE.read_text(encoding="utf-8")
    assert written == make_words.module(), "run python scripts/make_words.py"
    for name, words in make_words.WORDS.items():
        assert get_args(getattr(redcomp.typing, name)) == tuple(words)


# -- notebooks


@pytest.mark.parametrize("face", FACES)
def test_notebooks_show_reductions_and_compilations(face: Any) -> None:
    op = face.Genred("(x < y) * 2", ALIASES, "Max", axis=1, dtype="float32")
    cells = Cells(op._repr_html_()).texts
    for text in ("(x < y) * 2", "x = Vi(3), y = Vj(3)", "Max", "float32"):
        assert text in cells
    cells = Cells(op.lower(target="sm_90")._repr_html_()).texts
    for text in ("(x < y) * 2", "x (i), y (j)", "max over j of ", "float32", "sm_90"):
        assert any(text in cell for cell in cells), cells
    several = face.Genred(["x", "y"], ALIASES, ["Sum", "Min"], axis=0)
    assert "Sum, Min" in Cells(several._repr_html_()).texts
