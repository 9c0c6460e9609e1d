"""Whether two structures are the same crystal, and why not."""

import numpy as np
import pytest
from ase import Atoms

from himlip_ase.lattice import crystal_mismatch


@pytest.fixture
def crystal():
    return Atoms(
        "SH3",
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        cell=[[3.0, 0.1, 0], [0, 3.1, 0], [0.2, 0, 3.2]],
        pbc=True,
    )


def test_lattice_vectors_and_strains_within_the_tolerance_do_not_matter(crystal):
    other = crystal.copy()
    other.set_scaled_positions(crystal.get_scaled_positions() + np.array([[1, 0, -2]]))
    assert crystal_mismatch(crystal, other, position=1e-9) is None
    other.set_cell(crystal.cell.array * 1.02, scale_atoms=True)
    assert "cells differ by 0.06" in crystal_mismatch(crystal, other)
    assert crystal_mismatch(crystal, other, cell=0.1, position=1e-9) is None
    assert crystal_mismatch(crystal, other, cell=np.inf, position=1e-9) is None


def test_the_first_difference_is_named(crystal):
    moved = crystal.copy()
    moved.positions[2] += [0, 0.2, 0]
    assert "atom 2 (H) differ by 0.2 Å (allowed 0.1)" in crystal_mismatch(crystal, moved)
    assert crystal_mismatch(crystal, moved, position=0.3) is None
    assert "another order" in crystal_mismatch(crystal, crystal[[1, 0, 2, 3]])
    selenide = crystal.copy()
    selenide.symbols[0] = "Se"
    assert crystal_mismatch(crystal, selenide) == "one holds H3S, the other H3Se"
    assert crystal_mismatch(crystal, crystal[:3]) is not None
    heavy = crystal.copy()
    heavy.set_masses(crystal.get_masses() + 1.0)
    assert crystal_mismatch(crystal, heavy) is None
    assert "masses differ by 1 amu" in crystal_mismatch(crystal, heavy, mass=1e-3)
