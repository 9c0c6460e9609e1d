"""Files of phonopy, written by phonopy: the same force constants and forces from each of them."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import numpy as np
import phonopy
import pytest
from ase.build import bulk
from phonopy.file_IO import write_FORCE_CONSTANTS, write_force_constants_to_hdf5, write_FORCE_SETS
from phonopy.interface.vasp import write_vasp
from phonopy.physical_units import get_calculator_physical_units

from himlip_ase.errors import InputError
from himlip_ase.phonons.phonopy_files import (
    is_phonopy_file,
    read_displaced_supercells,
    read_force_constants,
)
from himlip_ase.phonons.phonopy_io import from_phonopy
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, to_phonopy_atoms
from himlip_ase.units import BOHR_ANGSTROM, RY_EV, THZ_CM
from tests.hint.toy import toy_labels

CUBE = bulk("NaCl", "rocksalt", a=5.2, cubic=True)


def _finished(scale: float = 1.0, calculator: str | None = None) -> phonopy.Phonopy:
    """A finished calculation with lengths in units of `scale` Å."""
    cell = to_phonopy_atoms(CUBE)
    cell.cell = np.asarray(cell.cell) / scale
    phonon = phonopy.Phonopy(cell, [2, 1, 1], primitive_matrix="P", calculator=calculator)
    phonon.generate_displacements(distance=0.01 / scale)
    force = 1.0 if calculator is None else scale / RY_EV
    images = [from_phonopy_atoms(c, scale) for c in phonon.supercells_with_displacements]
    phonon.forces = [toy_labels(atoms)[1] * force for atoms in images]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    return phonon


@pytest.fixture(scope="module")
def phonon() -> phonopy.Phonopy:
    return _finished()


def _write(phonon: phonopy.Phonopy, folder: Path) -> None:
    phonon.save(folder / "phonopy_disp.yaml", settings={"force_sets": False, "force_constants": False})
    write_FORCE_SETS(phonon.dataset, filename=folder / "FORCE_SETS")
    rows = phonon.primitive.p2s_map
    write_FORCE_CONSTANTS(phonon.force_constants, filename=folder / "FORCE_CONSTANTS", p2s_map=rows)
    write_force_constants_to_hdf5(
        phonon.force_constants, filename=folder / "force_constants.hdf5", p2s_map=rows
    )


def test_the_same_force_constants_from_every_file(phonon: phonopy.Phonopy, tmp_path: Path) -> None:
    _write(phonon, tmp_path)
    phonon.save(tmp_path / "phonopy_params.yaml", settings={"force_constants": True})
    largest = np.abs(phonon.force_constants).max()
    names = (
        "FORCE_SETS", "FORCE_CONSTANTS", "force_constants.hdf5", "phonopy_params.yaml", "phonopy_disp.yaml",
    )  # fmt: skip
    for name in names:
        found = read_force_constants(tmp_path / name)
        assert found.dims == (2, 1, 1)
        full = found.full()
        expected = np.asarray(phonon.force_constants)
        order = _order(found.supercell, phonon.supercell)
        assert np.abs(full - expected[np.ix_(order, order)]).max() < 1e-5 * largest, name


def test_a_yaml_whose_repeated_cells_disagree_is_told(
    phonon: phonopy.Phonopy, tmp_path: Path, caplog
) -> None:
    _write(phonon, tmp_path)
    path = tmp_path / "phonopy_disp.yaml"
    text = path.read_text()
    read_force_constants(path)
    assert not caplog.text
    place = text.index("coordinates", text.index("\nsupercell:"))
    changed = text[place:].replace("0.500000000000000", "0.510000000000000", 1)
    path.write_text(text[:place] + changed)
    read_force_constants(path)
    assert "phonopy_disp.yaml: the supercell is 0." in caplog.text


def _order(supercell, theirs) -> list[int]:
    ours = supercell.get_scaled_positions(wrap=False)
    delta = ours[:, None] - np.asarray(theirs.scaled_positions)[None]
    return list(np.linalg.norm(delta - np.rint(delta), axis=2).argmin(axis=1))


def test_displaced_supercells_and_their_forces(phonon: phonopy.Phonopy, tmp_path: Path) -> None:
    """Each structure with its own forces: what the forces were made from gives them again."""
    _write(phonon, tmp_path)
    found = read_displaced_supercells(tmp_path / "FORCE_SETS")
    assert len(found) == len(phonon.supercells_with_displacements) == 2
    for atoms, energy, forces in found:
        assert energy is None
        assert np.abs(forces - toy_labels(atoms)[1]).max() < 1e-6
        assert np.abs(forces).max() > 1e-3


def test_poscar_and_sposcar_stand_in_for_the_yaml(phonon: phonopy.Phonopy, tmp_path: Path) -> None:
    _write(phonon, tmp_path)
    (tmp_path / "phonopy_disp.yaml").unlink()
    with pytest.raises(InputError, match="POSCAR and SPOSCAR"):
        read_force_constants(tmp_path / "FORCE_SETS")
    write_vasp(tmp_path / "POSCAR", phonon.unitcell)
    write_vasp(tmp_path / "SPOSCAR", phonon.supercell)
    for name in ("FORCE_SETS", "FORCE_CONSTANTS"):
        found = read_force_constants(tmp_path / name)
        assert np.abs(found.compact).max() == pytest.approx(np.abs(phonon.force_constants).max(), rel=1e-5)
    moved = phonon.supercell.copy()
    positions = np.array(moved.scaled_positions)
    positions[3] += 0.01
    moved.scaled_positions = positions
    write_vasp(tmp_path / "SPOSCAR", moved)
    with pytest.raises(InputError, match=r"an atom is 0\.\d+ Å"):
        read_force_constants(tmp_path / "FORCE_SETS")


def test_units_of_the_calculator_are_converted(phonon: phonopy.Phonopy, tmp_path: Path) -> None:
    """The same crystal calculated in bohr and Ry/bohr."""
    other = _finished(BOHR_ANGSTROM, "qe")
    other.save(tmp_path / "phonopy_params.yaml", settings={"force_constants": True})
    found = read_force_constants(tmp_path / "phonopy_params.yaml")
    assert np.asarray(found.primitive.cell) == pytest.approx(np.asarray(CUBE.cell), rel=1e-6)
    assert np.abs(found.compact).max() == pytest.approx(np.abs(phonon.force_constants).max(), rel=1e-4)
    atoms, _, forces = read_displaced_supercells(tmp_path / "phonopy_params.yaml")[0]
    assert np.abs(forces - toy_labels(atoms)[1]).max() < 1e-5


def test_random_displacements_keep_their_energies(phonon: phonopy.Phonopy, tmp_path: Path) -> None:
    random = phonopy.Phonopy(to_phonopy_atoms(CUBE), [1, 1, 1], primitive_matrix="P")
    random.generate_displacements(distance=0.02, number_of_snapshots=6, random_seed=1)
    images = [from_phonopy_atoms(c) for c in random.supercells_with_displacements]
    random.forces = [toy_labels(a)[1] for a in images]
    random.supercell_energies = [toy_labels(a)[0] for a in images]
    random.save(tmp_path / "phonopy_params.yaml")
    found = read_displaced_supercells(tmp_path / "phonopy_params.yaml")
    assert [energy for _, energy, _ in found] == pytest.approx([toy_labels(a)[0] for a in images], abs=1e-6)
    constants = read_force_constants(tmp_path / "phonopy_params.yaml")
    assert constants.dims == (1, 1, 1) and np.abs(constants.compact).max() > 0.1


def test_nothing_is_picked_up_from_the_working_folder(
    phonon: phonopy.Phonopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    _write(phonon, tmp_path / "elsewhere")
    phonon.save(tmp_path / "phonopy_disp.yaml", settings={"force_sets": False, "force_constants": False})
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="neither force constants nor forces"):
        read_force_constants(Path(os.path.relpath(tmp_path / "phonopy_disp.yaml")))


def test_other_structures_are_refused(phonon: phonopy.Phonopy, tmp_path: Path) -> None:
    _write(phonon, tmp_path)
    larger = phonopy.Phonopy(to_phonopy_atoms(CUBE), [2, 2, 1], primitive_matrix="P")
    larger.generate_displacements(distance=0.01)
    larger.save(tmp_path / "phonopy_disp.yaml")
    for name in ("FORCE_SETS", "FORCE_CONSTANTS"):
        with pytest.raises(InputError):
            read_force_constants(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_force_constants(tmp_path / "FORCE_SETS_2")


def _conventional(folder: Path) -> phonopy.Phonopy:
    """phonopy 4's way: conventional cell, primitive cell "auto", compact force constants."""
    phonon = phonopy.Phonopy(to_phonopy_atoms(CUBE), [2, 2, 2], primitive_matrix="auto")
    phonon.generate_displacements(distance=0.01)
    images = [from_phonopy_atoms(c) for c in phonon.supercells_with_displacements]
    phonon.forces = [toy_labels(atoms)[1] for atoms in images]
    phonon.produce_force_constants(calculate_full_force_constants=False)
    assert phonon.force_constants.shape == (2, 64, 3, 3)
    _write(phonon, folder)
    phonon.save(folder / "phonopy_params.yaml", settings={"force_constants": True})
    return phonon


def test_case_F2_compact_constants_of_a_conventional_cell(tmp_path: Path) -> None:
    phonon = _conventional(tmp_path)
    qpoints = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.0], [0.25, 0.0, 0.0]])
    theirs = np.asarray(phonon.run_qpoints(qpoints).frequencies) * THZ_CM
    for name in ("phonopy_params.yaml", "FORCE_CONSTANTS", "force_constants.hdf5"):
        found = read_force_constants(tmp_path / name)
        assert len(found.primitive) == 2, name  # six branches of NaCl, not twenty-four
        assert np.abs(found.frequencies(qpoints) - theirs).max() < 0.05, name
    # labels want the supercell that was calculated, of which the unit cell is a diagonal part
    of_unit = read_force_constants(tmp_path / "phonopy_params.yaml", cell="unit")
    assert len(of_unit.primitive) == 8 and of_unit.dims == (2, 2, 2)
    gamma = of_unit.frequencies(np.zeros((1, 3)))[0]
    for frequency in np.asarray(phonon.run_qpoints(np.array([[0.5, 0.0, 0.5]])).frequencies)[0] * THZ_CM:
        assert np.abs(gamma - frequency).min() < 0.05  # X of the primitive cell folds onto Γ


def test_case_F2_compressed_files_are_read(phonon: phonopy.Phonopy, tmp_path: Path) -> None:
    _write(phonon, tmp_path)
    reference = read_force_constants(tmp_path / "FORCE_SETS").compact
    for name in ("FORCE_SETS", "phonopy_disp.yaml"):
        path = tmp_path / name
        (tmp_path / f"{name}.xz").write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    found = read_force_constants(tmp_path / "FORCE_SETS.xz")
    assert np.array_equal(found.compact, reference)
    assert np.array_equal(read_force_constants(tmp_path / "phonopy_disp.yaml.xz").compact, reference)
    assert is_phonopy_file(tmp_path / "FORCE_SETS.xz") and is_phonopy_file("a/phonopy_params.yaml.gz")


@pytest.mark.parametrize("calculator", ["qe", "abinit", "cp2k", "elk", "wien2k", "siesta", "castep"])
def test_units_of_every_calculator(phonon: phonopy.Phonopy, calculator: str) -> None:
    """The same crystal in the units of each: the frequencies of phonopy, and of the crystal in eV and Å."""
    units = get_calculator_physical_units(calculator)
    cell = to_phonopy_atoms(CUBE)
    cell.cell = np.asarray(cell.cell) / units.distance_to_A
    other = phonopy.Phonopy(cell, [2, 1, 1], primitive_matrix="P", calculator=calculator)
    factor = units.force_to_eVperA / units.distance_to_A
    other.force_constants = np.asarray(phonon.force_constants) / factor
    found = from_phonopy(other)
    expected = from_phonopy(phonon)
    assert np.abs(found.compact - expected.compact).max() < 1e-9 * np.abs(expected.compact).max()
    assert np.asarray(found.primitive.cell) == pytest.approx(np.asarray(CUBE.cell))
    qpoints = np.array([[0.1, 0.2, 0.3]])
    theirs = np.asarray(other.run_qpoints(qpoints).frequencies) * THZ_CM
    assert np.abs(found.frequencies(qpoints) - theirs).max() < 0.05
