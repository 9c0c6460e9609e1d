"""Every name that a room shows is there, and none of them brings torch before it is used."""

import subprocess
import sys
from importlib import import_module

import pytest

ROOMS = ("phonons", "potential", "symmetry", "vibrations")


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_exist_and_are_described(room):
    face = import_module(f"himlip_ase.{room}")
    assert list(face.__all__) == sorted(face.__all__)
    for name in face.__all__:
        assert getattr(face, name).__doc__, name
    with pytest.raises((AttributeError, ImportError)):
        _ = face.no_such_name


def test_faces_come_without_torch():
    code = "; ".join(f"import himlip_ase.{room}" for room in ROOMS)
    code += "; import sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
