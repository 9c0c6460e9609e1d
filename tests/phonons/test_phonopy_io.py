"""phonopy's own results on the same force constants, and its own commands on our files."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import phonopy
import pytest
import yaml
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.phonons.phonopy_files import read_force_constants
from himlip_ase.phonons.phonopy_io import from_phonopy, write_phonopy_params
from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, setup_phonopy, to_phonopy, to_phonopy_atoms
from himlip_ase.units import THZ_CM

from .springs import Springs, triclinic, zincblende
from .test_force_constants import build

CASES = [(triclinic, (2, 1, 3)), (zincblende, (2, 2, 2))]


@pytest.mark.parametrize(("make", "dims"), CASES)
def test_phonopy_given_displacement_forces_agrees_at_any_q(make, dims):
    """phonopy makes force constants itself, from forces of the springs on its displaced supercells."""
    _, fc = build(make, dims)
    ph = setup_phonopy(fc.primitive, dims)
    ph.generate_displacements(distance=0.01)
    sites = ph.supercell.positions
    hessian = fc.hessian()
    ph.forces = np.array(
        [-np.einsum("iajb,jb->ia", hessian, s.positions - sites) for s in ph.supercells_with_displacements]
    )
    ph.produce_force_constants()
    qpoints = np.vstack([np.random.default_rng(0).random((5, 3)), fc.dynamical_matrices().qpoints[1:]])
    ph.run_qpoints(qpoints)
    assert np.abs(ph.qpoints.frequencies * THZ_CM - fc.frequencies(qpoints)).max() < 0.01
    assert np.abs(from_phonopy(ph).frequencies(qpoints) - fc.frequencies(qpoints)).max() < 0.01


@pytest.mark.parametrize(("make", "dims"), CASES)
def test_yaml_round_trip_with_changed_masses(make, dims, tmp_path):
    _, fc = build(make, dims)
    fc = fc.with_masses(np.linspace(2.014, 9, len(fc.primitive)))
    path = write_phonopy_params(fc, tmp_path / "phonopy_params.yaml")
    back = read_force_constants(path)
    qpoints = np.random.default_rng(1).random((4, 3))
    assert back.dims == dims
    assert np.abs(back.primitive.get_masses() - fc.primitive.get_masses()).max() < 1e-6
    assert np.abs(back.frequencies(qpoints) - fc.frequencies(qpoints)).max() < 0.01
    ph = phonopy.load(path, primitive_matrix="P", symmetrize_fc=False, log_level=0)
    ph.run_qpoints(qpoints)
    assert np.abs(ph.qpoints.frequencies * THZ_CM - fc.frequencies(qpoints)).max() < 0.01
    with pytest.raises(InputError, match="exists already"):
        write_phonopy_params(fc, path)


@pytest.mark.skipif(shutil.which("phonopy-load") is None, reason="phonopy's commands are not on the PATH")
def test_phonopy_load_post_processes_the_file(tmp_path):
    _, fc = build(zincblende, (2, 2, 2))
    write_phonopy_params(fc, tmp_path / "phonopy_params.yaml")
    command = [
        "phonopy-load",
        "phonopy_params.yaml",
        "--qpoints",
        "0.5 0 0  0.1 0.2 0.3",
        "--pa",
        "P",
        "--no-sym-fc",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = yaml.safe_load((tmp_path / "qpoints.yaml").read_text())
    theirs = [[band["frequency"] * THZ_CM for band in q["band"]] for q in result["phonon"]]
    assert np.abs(theirs - fc.frequencies(np.array([[0.5, 0, 0], [0.1, 0.2, 0.3]]))).max() < 0.01


def test_full_and_compact_and_foreign_set_ups_are_read():
    _, fc = build(zincblende, (2, 2, 2))
    ph = fc.to_phonopy()
    ph.force_constants = fc.full()
    assert np.abs(from_phonopy(ph).compact - fc.compact).max() < 1e-12
    snf = phonopy.Phonopy(ph.unitcell, [2, 2, 2], primitive_matrix="P", use_SNF_supercell=True)
    snf.force_constants = fc.full()[_positions_order(fc, snf)][:, _positions_order(fc, snf)]
    qpoints = np.array([[0.11, 0.2, 0.37], [0.5, 0.5, 0]])
    assert np.abs(from_phonopy(snf).frequencies(qpoints) - fc.frequencies(qpoints)).max() < 1e-6


def test_force_constants_are_an_array_to_numpy_and_phonopy():
    _, fc = build(zincblende, (2, 1, 2))
    array = np.asarray(fc)
    assert array.shape == (2, 8, 3, 3) and np.array_equal(array, fc.compact)
    assert np.allclose(fc, fc.compact) and np.array_equal(fc - 0 * array, array)
    assert np.array(fc, dtype="f4").dtype == np.float32
    copy = np.array(fc)
    copy[:] = 0  # a copy is the caller's own
    assert np.abs(fc).max() > 0
    ph = setup_phonopy(fc.primitive, fc.dims)
    ph.force_constants = fc
    qpoints = np.array([[0.11, 0.2, 0.37], [0.5, 0.5, 0]])
    theirs = np.asarray(ph.run_qpoints(qpoints).frequencies) * THZ_CM
    assert np.abs(theirs - fc.frequencies(qpoints)).max() < 0.01


def _positions_order(fc, ph):
    ours = fc.supercell.get_scaled_positions()
    order = []
    for site in ph.supercell.scaled_positions:
        delta = ours - site
        order.append(int(np.argmin(np.abs(delta - np.rint(delta)).max(axis=1))))
    assert sorted(order) == list(range(len(ours)))
    return order


def test_what_cannot_be_read_is_refused(tmp_path):
    _, fc = build(zincblende, (2, 2, 2))
    empty = setup_phonopy(fc.primitive, (2, 2, 2))
    with pytest.raises(InputError, match="no force constants"):
        from_phonopy(empty)
    with pytest.raises(InputError, match="no such file"):
        read_force_constants(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1, 2\n")
    with pytest.raises(InputError, match=r"bad\.yaml"):
        read_force_constants(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("matrix", "dims"),
    [([[0, 1, 1], [1, 0, 1], [1, 1, 0]], (2, 2, 2)), ([[2, 0, 0], [1, 1, 0], [0, 0, 3]], (2, 2, 3))],
)
def test_case_F2_supercells_that_are_not_diagonal_keep_phonopys_frequencies(matrix, dims):
    springs = zincblende()
    ph = phonopy.Phonopy(to_phonopy_atoms(springs.atoms), np.array(matrix).T, primitive_matrix="P")
    hessian = springs.hessian(from_phonopy_atoms(ph.supercell))
    ph.force_constants = hessian.transpose(0, 2, 1, 3)
    found = from_phonopy(ph)
    assert found.dims == dims
    qpoints = np.random.default_rng(0).random((8, 3))
    theirs = np.asarray(ph.run_qpoints(qpoints).frequencies) * THZ_CM
    assert np.abs(found.frequencies(qpoints) - theirs).max() < 0.01
    ph.nac_params = {
        "born": np.array([2 * np.eye(3), -2 * np.eye(3)]), "dielectric": 4 * np.eye(3), "factor": 14.4,
        "method": "wang",
    }  # fmt: skip
    polar = from_phonopy(ph)
    ph.nac_params = dict(ph.nac_params) | {"method": "gonze"}
    theirs = np.asarray(ph.run_qpoints(qpoints).frequencies) * THZ_CM
    assert np.abs(polar.frequencies(qpoints) - theirs).max() < 0.1


def test_case_F3_labels_of_species_are_not_symbols():
    """H2 is hydrogen of another mass to phonopy, Cl1 chlorine with a spin."""
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=["H2", "Cl1"],
        cell=3 * np.eye(3),
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]],
        masses=[2.0141, 35.45],
    )
    ph = phonopy.Phonopy(cell, [1, 1, 1], primitive_matrix="P")
    ph.force_constants = np.zeros((2, 2, 3, 3))
    primitive = from_phonopy(ph).primitive
    assert primitive.get_chemical_symbols() == ["H", "Cl"]
    assert primitive.get_masses() == pytest.approx([2.0141, 35.45])


def test_meshes_of_two_isotopes_are_not_folded_by_symbols(caplog):
    """Tetragonal by its masses, cubic by its symbols, which is all that phonopy looks at."""
    crystal = bulk("Cu", cubic=True)
    crystal.symbols[:] = "H"
    crystal.set_masses([1.008, 1.008, 2.014, 2.014])
    _, fc = build(lambda: Springs(crystal), (1, 1, 1))

    def free_energies(symmetry: bool) -> list[float]:
        found = []
        for folded in (True, False):
            if symmetry:
                ph = setup_phonopy(fc.primitive, fc.dims)
                ph.force_constants = fc.compact
            else:
                ph = to_phonopy(fc.primitive, fc.dims, fc.compact)
            ph.run_mesh([3, 3, 3], is_gamma_center=True, is_mesh_symmetry=folded)
            ph.run_thermal_properties(t_min=0, t_max=0, t_step=1)
            found.append(float(ph.thermal_properties.free_energy[0]))
        return found

    folded, whole = free_energies(symmetry=True)
    assert abs(folded - whole) > 1e-5 * whole  # what phonopy does by itself
    assert free_energies(symmetry=False) == pytest.approx([whole, whole], rel=1e-9)
    assert "atoms of H have different masses" in caplog.text and "is_mesh_symmetry=False" in caplog.text
