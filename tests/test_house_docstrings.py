"""What is public is documented: parameters and returns of functions of two or more arguments."""

from __future__ import annotations

import importlib
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


def test_public_functions_have_parameters_and_returns() -> None:
    missing = {function.name: function.missing for function in survey() if function.missing}
    assert not missing


@pytest.mark.parametrize("face", FACES)
def test_what_a_face_lists_is_there(face: str) -> None:
    module = importlib.import_module(face)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name).__doc__, f"{face}.{name}"
