"""A dyn file whose matrices and printed frequencies disagree is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn, write_dyn

from .springs import zincblende


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    springs = zincblende()
    q = commensurate_qpoints((2, 2, 2))
    matrices = DynamicalMatrices(springs.atoms, (2, 2, 2), q, springs.matrices(q))
    return write_dyn(matrices, tmp_path / "dyn")


def test_what_is_written_agrees_with_itself(files: list[Path]) -> None:
    assert np.isfinite(read_dyn(files[0]).matrices).all()


@pytest.mark.parametrize("number", [1, 2])
def test_a_changed_digit_is_found(files: list[Path], number: int) -> None:
    path = files[number]
    lines = path.read_text().splitlines(keepends=True)
    row = next(i for i, line in enumerate(lines) if line.split() == ["1", "1"]) + 1
    word = lines[row].split()[0]
    digit = word.index(".") + 2
    changed = word[:digit] + str((int(word[digit]) + 5) % 10) + word[digit + 1 :]
    path.write_text("".join([*lines[:row], lines[row].replace(word, changed, 1), *lines[row + 1 :]]))
    with pytest.raises(InputError, match="is printed below"):
        read_dyn(files[0])


def test_another_mass_is_found_unless_the_frequencies_go(files: list[Path]) -> None:
    for path in files[1:]:
        text = path.read_text()
        mass = next(line for line in text.splitlines() if "'" in line).split()[-1]
        path.write_text(text.replace(mass, f"{2 * float(mass):.10f}", 1))
    with pytest.raises(InputError, match="masses were changed on purpose"):
        read_dyn(files[0])
    for path in files[1:]:
        path.write_text(path.read_text().partition("Diagonalizing")[0].rstrip() + "\n")
    assert read_dyn(files[0]).primitive.get_masses().max() > 0
