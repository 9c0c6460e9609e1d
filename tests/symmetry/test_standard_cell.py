"""Primitive cells turned along their symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import cellpar_to_cell

from himlip_ase.errors import InputError
from himlip_ase.symmetry.standard_cell import standard_cell

from .crystals import CRYSTALS, as_primitive_cif


@pytest.mark.parametrize("name", CRYSTALS)
def test_primitive_and_conventional_cells_become_the_same(name):
    conventional, operations = CRYSTALS[name]
    one, other = standard_cell(conventional), standard_cell(as_primitive_cif(conventional))
    assert one.operations == other.operations == operations
    assert len(one.atoms) == len(other.atoms) <= len(conventional)
    assert sorted(one.atoms.cell.lengths()) == pytest.approx(sorted(other.atoms.cell.lengths()))
    per_atom = conventional.get_volume() / len(conventional)
    assert one.atoms.get_volume() / len(one.atoms) == pytest.approx(per_atom)


def test_cubic_rotations_lie_along_the_axes():
    standard = standard_cell(as_primitive_cif(CRYSTALS["PdH"][0])).atoms
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = standard.cell.array @ quarter.T @ np.linalg.inv(standard.cell.array)
    np.testing.assert_allclose(turned, np.rint(turned), atol=1e-9)


def test_distances_survive_any_rotation_and_the_shift_is_told():
    crystal = as_primitive_cif(CRYSTALS["monoclinic"][0])
    crystal.rotate(37, (1, 2, 3), rotate_cell=True)
    crystal.positions[0] += (2e-4, 0, 0)
    found = standard_cell(crystal)
    assert found.operations == 4 and 1e-5 < found.moved < 1e-3
    shortest = sorted(
        float(np.sort(atoms.repeat(2).get_all_distances(mic=True)[0])[1]) for atoms in (crystal, found.atoms)
    )
    assert shortest[1] - shortest[0] < 1e-3


def test_isotopes_are_different_kinds():
    rocksalt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    masses = rocksalt.get_masses()
    masses[0] = 24.0
    rocksalt.set_masses(masses)
    found = standard_cell(rocksalt)
    assert len(found.atoms) == 8
    assert sorted(found.atoms.get_masses()) == pytest.approx(sorted(masses))


def test_a_cell_that_serves_is_left_alone():
    """The bcc vectors that QE and ASE use are not spglib's; they are as good."""
    vectors = 3.065 / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    given = Atoms(
        "SH3", cell=vectors, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    )
    given.pbc = True
    found = standard_cell(given)
    assert found.operations == 48 and not found.turned
    np.testing.assert_array_equal(found.atoms.cell, given.cell)


def test_says_what_was_done():
    assert "primitive (8 → 2 atoms)" in str(standard_cell(CRYSTALS["PdH"][0]))
    assert "turned" in str(standard_cell(as_primitive_cif(CRYSTALS["PdH"][0])))
    assert str(standard_cell(bulk("Al", "fcc", a=4.05))) == "Fm-3m (no. 225), 48 operations"


def test_coincident_atoms_are_refused():
    cell = cellpar_to_cell([4, 4, 4, 90, 90, 90])
    with pytest.raises(InputError, match="coincide"):
        standard_cell(Atoms("H2", positions=[(0, 0, 0), (0, 0, 0)], cell=cell, pbc=True))
