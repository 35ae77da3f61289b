"""The documentation's site: `make docs` builds it, and every warning is an error.

Pages are Markdown, which GitHub shows too; the reference of the API comes from docstrings, and the
gallery from the scripts in examples/gallery, which are run at their small sizes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "_extensions")]

import redcomp  # noqa: E402 (found by the line above)

project = "redcomp"
author = "redcomp developers"
copyright = "redcomp developers, MIT licence"
version = release = redcomp.__version__

# The gallery's scripts run in this process, without a window; at small sizes unless one asks for
# the sizes that their pictures are meant for, which take minutes.
if "DOCS_FULL_GALLERY" not in os.environ:
    os.environ["REDCOMP_EXAMPLES_SMALL"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")
GALLERY = ROOT / "examples" / "gallery"
has_gallery = any(GALLERY.glob("*.py"))

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "house_docstrings",
    *(["sphinx_gallery.gen_gallery"] if has_gallery else []),
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"
exclude_patterns = ["_build", "_extensions", "gallery/GALLERY_HEADER.rst"]

# -- warnings ----------------------------------------------------------------------------------

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!redcomp\.).*")]  # names of other projects
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings hold functions
linkcheck_ignore = [r"https?://"]  # only what lies here is checked; the network is not asked

# -- Markdown ----------------------------------------------------------------------------------

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# -- reference ---------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what is taken, in words
autoclass_content = "class"
add_module_names = False
smartquotes = False
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"

# -- gallery -----------------------------------------------------------------------------------

sphinx_gallery_conf: dict[str, Any] = {
    "examples_dirs": [str(GALLERY)],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "nested_sections": False,
    "plot_gallery": True,
    "min_reported_time": 1,
    "copyfile_regex": r"GALLERY_HEADER\.rst",
}

# -- look --------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"redcomp {release}"
html_static_path = ["_static"]
html_css_files = ["redcomp.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def without_gallery(_app: Any, page: str, source: list[str]) -> None:
    """Without scripts in examples/gallery no table of contents has a gallery."""
    if page == root_doc and not has_gallery:
        source[0] = source[0].replace("\ngallery/index\n", "\n")


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("source-read", without_gallery)
