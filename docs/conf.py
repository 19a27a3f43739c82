"""Sphinx settings."""

from importlib.metadata import version as _version

project = "graphdiff"
author = "The graphdiff developers"
copyright = author
release = version = _version("graphdiffusion")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"graphdiff {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
