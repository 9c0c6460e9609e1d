"""Sphinx configuration."""

from __future__ import annotations

from importlib.metadata import version as _version

project = "himlip-ase"
copyright = "the himlip-ase authors"
release = _version("himlip-ase")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
nb_execution_mode = "off"
html_theme = "furo"
html_static_path = ["_static"]
html_title = "himlip-ase"
exclude_patterns = ["_build"]
autodoc_typehints = "description"
