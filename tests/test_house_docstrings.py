"""What a room's face lists is documented: parameters and returns of functions of two or more arguments."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from missing_docstrings import PACKAGE, survey  # noqa: E402

FACES = sorted(
    [
        f"himlip_ase.{path.parent.name}"
        for path in PACKAGE.glob("*/__init__.py")
        if path.parent.name not in ("cli", "models")
    ]
)
FACES_ONLY = ("reactions", "vibrations")
"""Rooms of which only what their `__init__` lists is held to this."""


def listed() -> set[str]:
    """Full names of what the rooms list, where it is defined."""
    found = set()
    for room in ("himlip_ase", *FACES):
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found.add(f"{thing.__module__}.{thing.__qualname__}".removeprefix("himlip_ase."))
    return found


def test_public_functions_have_parameters_and_returns() -> None:
    public = listed()
    missing = {
        function.name: function.missing
        for function in survey()
        if function.missing
        and (
            function.room not in FACES_ONLY
            or function.name in public
            or function.name.rpartition(".")[0] in public
        )
    }
    assert not missing


@pytest.mark.parametrize("face", FACES)
def test_what_a_face_lists_is_there(face: str) -> None:
    module = importlib.import_module(face)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name).__doc__, f"{face}.{name}"
