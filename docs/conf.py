"""Build the documentation site: ``make docs``."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_site"))

project = "outlay"
author = "The outlay authors"
copyright = author  # noqa: A001 - the name that Sphinx reads
release = version = installed_version("outlay")

extensions = [
    "command_reference",  # docs/_site: the pages of the command line
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_site"]
suppress_warnings = ["misc.highlighting_failure"]  # requests without a version

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Options", "params_style")]

html_theme = "furo"
html_title = "outlay"
html_static_path: list[str] = []
html_theme_options = {
    "source_repository": "https://github.com/outlay-dev/outlay",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_show_sphinx = False
