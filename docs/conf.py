"""Sphinx configuration; the reference pages are made from what each room lists in its ``__all__``."""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from importlib.metadata import version as _version
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this copy of the package, installed or not

project = "himlip-ase"
copyright = "the himlip-ase authors"
release = _version("himlip-ase")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 2
nb_execution_mode = "off"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
templates_path = ["_templates"]
html_title = "himlip-ase"
exclude_patterns = ["_build"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_numpy_docstring = True
napoleon_google_docstring = False

PUBLIC = (
    "himlip_ase",
    "himlip_ase.superconductivity",
    "himlip_ase.reactions",
    "himlip_ase.sscha",
    "himlip_ase.hint",
    "himlip_ase.dft",
    "himlip_ase.labels",
    "himlip_ase.testing",
    "himlip_ase.vibrations",
    "himlip_ase.phonons",
    "himlip_ase.symmetry",
    "himlip_ase.potential",
)
"""Rooms whose faces a user meets, from the highest floor down."""


def _page(room: str) -> str | None:
    """Reference page of a room in reStructuredText; None if it lists nothing."""
    try:
        module = import_module(room)
    except ModuleNotFoundError:
        return None
    names = [name for name in getattr(module, "__all__", []) if not name.startswith("__")]
    if not names:
        return None
    lines = [room, "=" * len(room), "", (module.__doc__ or "").strip().split("\n\n")[0], ""]
    for name in names:
        found = getattr(module, name)
        kind = (
            "autoclass"
            if inspect.isclass(found)
            else "autofunction"
            if callable(found) and hasattr(found, "__name__")
            else "autodata"
        )
        lines += [f".. {kind}:: {room}.{name}"]
        lines += ["   :members:", ""] if kind == "autoclass" else [""]
    return "\n".join(lines)


def _write_reference(_: Any) -> None:
    for room in PUBLIC:
        path = HERE / "reference" / f"{room}.rst"
        text = _page(room)
        if text is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


class RegistryTable(Directive):
    """``{registry} module.NAME``: a table of the entries of a registry, as ``--help`` lists them."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"columns": str.split}
    """Further attributes of the entries, a column each."""

    def run(self) -> list[nodes.Node]:
        """Render the table."""
        module, _, name = self.arguments[0].rpartition(".")
        more = self.options.get("columns", [])
        # pages are Markdown, and so is what a directive in them parses
        width = len(more) + 2
        lines = ["| " + " | ".join(["name", *more, "what it is"]) + " |", "|" + "---|" * width]
        for entry in getattr(import_module(module), name):
            cells = [f"`{entry.name}`", *(getattr(entry, column) for column in more), entry.summary]
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source="registry"), self.content_offset, node)
        return node.children


def _no_empty_headers(_: Any, __: str, ___: str, context: dict[str, Any], ____: Any) -> None:
    """The cell above the names of rows is no header of theirs: a screen reader would say "blank" for each."""
    if "body" in context:
        context["body"] = re.sub(r'<th class="head"><p>\s*</p></th>', "<td></td>", context["body"])


def _keep_bars(_: Any, kind: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Bars in docstrings are absolute values, |Φ|, not substitutions."""
    lines[:] = ["`".join(_escaped(i, part) for i, part in enumerate(line.split("`"))) for line in lines]


def _escaped(place: int, part: str) -> str:
    """A piece of a line: every other one stands between backquotes and is left alone."""
    return part if place % 2 else part.replace("|", r"\|")


def setup(app: Any) -> None:
    """Write the reference pages before Sphinx looks for them."""
    app.add_directive("registry", RegistryTable)
    app.connect("builder-inited", _write_reference)
    app.connect("autodoc-process-docstring", _keep_bars)
    app.connect("html-page-context", _no_empty_headers)
