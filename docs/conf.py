"""The site: pages in Markdown, a reference generated from what the code says of itself. `tox -e docs` builds it, offline."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import reference  # noqa: E402 - beside this file

project = "ensemble_bench"
version = release = installed("ensemble-bench")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
html_theme = "alabaster"  # comes with Sphinx and fetches nothing
html_theme_options = {
    "description": "How much do CLIP backbones complement each other, and which way of combining them deserves it?",
    "fixed_sidebar": True,
    "page_width": "74rem",
}
html_copy_source = False
suppress_warnings = ["myst.strikethrough"]

reference.write(HERE / "reference")
