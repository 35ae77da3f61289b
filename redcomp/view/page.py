"""The page as one file: the template, the data as JSON, and what notebooks show of it."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path

from redcomp.backends.gpu import GpuLowering
from redcomp.backends.host import HostLowering
from redcomp.view.collect import collect
from redcomp.view.stages import Json

_PLACE = re.compile("@(TITLE|CSS|SCRIPT|DATA)@")
_FRAME = (
    '<iframe srcdoc="{}" sandbox="allow-scripts" title="redcomp: how a formula is compiled" '
    'style="width: 100%; height: 900px; border: 1px solid #8886; border-radius: 8px"></iframe>'
)


@dataclass(frozen=True)
class View:
    """A page about one compilation; notebooks show it, `save` writes it.

    data   all that it shows
    """

    data: Json

    @property
    def html(self) -> str:
        """The page, one file that loads nothing."""
        title = html.escape(f"redcomp: {self.data['formula']} on {self.data['target']}")
        texts = {
            "TITLE": title,
            "CSS": _template("page.css"),
            "SCRIPT": _template("page.js"),
            "DATA": _embedded(self.data),
        }
        return _PLACE.sub(lambda match: texts[match[1]], _template("page.html"))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the page to a file; its path.  Raises OSError if that cannot be written."""
        target = Path(path)
        target.write_text(self.html, "utf-8")
        return target

    def _repr_html_(self) -> str:
        """The page in a frame of its own, whose script cannot reach the notebook."""
        return _FRAME.format(html.escape(self.html))

    def __repr__(self) -> str:
        return (
            f"<a page about {self.data['formula']} on {self.data['target']}: show it in a "
            "notebook, or save it with .save(path)>"
        )


def view(lowering: HostLowering | GpuLowering, formula: str, source: str = "") -> View:
    """The page about a compilation of a formula.

    source   the text that values are from, pieces of which stand beside them
    """
    return View(collect(lowering, formula, source))


def _template(name: str) -> str:
    return resources.files("redcomp.view").joinpath(name).read_text("utf-8")


def _embedded(data: Json) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
