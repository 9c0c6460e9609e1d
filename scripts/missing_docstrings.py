"""Public functions with two or more arguments whose docstring has no Parameters or Returns section, by room.

python scripts/missing_docstrings.py              # counts by room
python scripts/missing_docstrings.py --room dft   # names in one room
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "himlip_ase"


@dataclass(frozen=True)
class Function:
    """A public function or method."""

    room: str
    name: str
    arguments: tuple[str, ...]
    missing: tuple[str, ...]


def _arguments(node: ast.FunctionDef) -> tuple[str, ...]:
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return tuple(a.arg for a in named if a.arg not in ("self", "cls"))


def _missing(node: ast.FunctionDef, owner: str) -> tuple[str, ...]:
    text = ast.get_docstring(node) or ""
    if re.match(r"See `himlip_ase\.[\w.]+`|See `[A-Z]\w+\.\w+`", text):  # documented there
        return ()
    missing = [] if "Parameters\n----------" in text else ["Parameters"]
    given = ast.unparse(node.returns) if node.returns is not None else "None"
    returns = given not in ("None", "Self", owner)  # a constructor's return needs no words
    if returns and not any(f"{word}\n{'-' * len(word)}" in text for word in ("Returns", "Yields")):
        missing.append("Returns")
    return tuple(missing)


def public_functions(path: Path) -> Iterator[Function]:
    """Public functions and methods of public classes of a file, those of two or more arguments."""
    inside = path.relative_to(PACKAGE).with_suffix("")
    module = ".".join(part for part in inside.parts if part != "__init__")

    def walk(nodes: list[ast.stmt], prefix: str, owner: str = "") -> Iterator[Function]:
        for node in nodes:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, f"{prefix}.{node.name}", node.name)
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = _arguments(node)
                if len(arguments) > 1:
                    yield Function(inside.parts[0], f"{prefix}.{node.name}", arguments, _missing(node, owner))

    yield from walk(ast.parse(path.read_text(encoding="utf-8")).body, module)


def survey() -> list[Function]:
    """Every public function of two or more arguments, but for the modules of the command line.

    What these take is documented by their options.
    """
    return [f for path in sorted(PACKAGE.rglob("*.py")) for f in public_functions(path) if f.room != "cli"]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description="Public functions without Parameters or Returns, by room.")
    parser.add_argument("--room", help="names in this room")
    room = parser.parse_args().room
    found = survey()
    if room:
        for function in found:
            if function.room == room and function.missing:
                print(f"himlip_ase.{function.name}: {', '.join(function.missing)}")
        return
    print(f"{'room':20} without  of")
    for name in sorted({function.room for function in found}):
        inside = [function for function in found if function.room == name]
        print(f"{name:20} {sum(bool(f.missing) for f in inside):7}  {len(inside)}")
    print(f"{'all':20} {sum(bool(f.missing) for f in found):7}  {len(found)}")


if __name__ == "__main__":
    main()
