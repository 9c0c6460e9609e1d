"""spglib that finds nothing, as each of its releases says it."""

import pytest
import spglib
from ase import Atoms
from ase.build import bulk

from himlip_ase.symmetry.operations import crystal_operations
from himlip_ase.symmetry.spglib_search import spglib_search


@pytest.mark.parametrize("throws", [False, True])
def test_nothing_found_is_none_however_spglib_says_it(monkeypatch, throws):
    if hasattr(spglib, "error") and hasattr(spglib.error, "OLD_ERROR_HANDLING"):
        monkeypatch.setattr(spglib.error, "OLD_ERROR_HANDLING", not throws)
    monkeypatch.delenv("SPGLIB_OLD_ERROR_HANDLING", raising=False)
    one_site = ([[3.0, 0, 0], [0, 3, 0], [0, 0, 3]], [[0, 0, 0], [0, 0, 0]], [1, 1])
    for search in (spglib.get_symmetry, spglib.get_symmetry_dataset, spglib.find_primitive):
        assert spglib_search(search, one_site, symprec=1e-5) is None
    iron = bulk("Fe")
    cell = (iron.cell.array, iron.get_scaled_positions(), iron.numbers)
    assert spglib_search(spglib.get_symmetry_dataset, cell).number == 229


def test_what_is_wrong_with_the_call_is_not_hidden():
    def broken(cell):
        raise TypeError("no such option")

    with pytest.raises(TypeError):
        spglib_search(broken, None)


def test_a_crystal_in_which_nothing_is_found_has_its_translations():
    twice = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0]], cell=[3, 3, 3], pbc=True)
    assert crystal_operations(twice, (2, 1, 1)).order == 1
