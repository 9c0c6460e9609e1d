"""The k-check: one q-point on a denser mesh, an error for the others, and what mesh would do."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.dft.espresso.harmonic import harmonic
from himlip_ase.dft.espresso.input_reading import read_pw_input
from himlip_ase.dft.espresso.inputs import QESettings, single_q_input
from himlip_ase.dft.espresso.k_check import check_k
from himlip_ase.dft.espresso.k_check_record import KCheck, denser, read_k_check
from himlip_ase.errors import InputError
from himlip_ase.phonons.qe import read_dyn
from tests.dft.conftest import DATA

PSEUDO = Path("/usr/share/espresso/pseudo")
needs_espresso = pytest.mark.skipif(
    shutil.which("ph.x") is None or not (PSEUDO / "Al.pz-vbc.UPF").is_file(),
    reason="pw.x, ph.x and Debian's quantum-espresso-data are not installed",
)
TOY = QESettings(
    ecutwfc_ry=12.0,
    k_grid=(3, 3, 3),
    degauss_ry=0.05,
    pseudo_dir=PSEUDO,
    pseudopotentials={"Al": "Al.pz-vbc.UPF"},
)


@pytest.fixture(scope="module")
def aluminium(tmp_path_factory):
    """A harmonic run of fcc aluminium on a k-mesh that is much too coarse."""
    folder = tmp_path_factory.mktemp("al") / "harmonic"
    atoms = bulk("Al", a=3.95)
    harmonic(atoms, (2, 2, 2), TOY, folder, electron_phonon=False)
    return atoms, folder


@needs_espresso
def test_a_coarse_mesh_is_found_out(aluminium, caplog, tmp_path):
    atoms, folder = aluminium
    with caplog.at_level(logging.INFO):
        check = check_k(atoms, folder, TOY)
    assert check.meshes == ((3, 3, 3), (5, 5, 5)) and not check.converged
    assert "core-minutes" in caplog.text and "5×5×5" in check.verdict()
    record = json.loads((folder / "k_check" / "k_check.json").read_text())
    own = read_dyn(folder / "dyn0")
    errors = np.array([entry["k_error_cm"] for entry in record["frequencies"]])
    assert errors.shape == own.frequencies().shape and errors[0].max() == 0 and errors[1:].max() > 10
    # the mesh of the labels was run again at a point off the grid, and both are on file
    for name in ("dyn_3x3x3", "dyn_5x5x5"):
        assert (folder / "k_check" / name).is_file()
    with pytest.raises(InputError, match="another q-point"):
        check_k(atoms, folder, TOY, qpoint=own.qpoints[1])
    # what the check promises of another point, it keeps: the zone boundary on the denser mesh
    shutil.copytree(folder, tmp_path / "again", ignore=shutil.ignore_patterns("k_check"))
    boundary = check_k(atoms, tmp_path / "again", TOY, qpoint=own.qpoints[1])
    coarse, dense = boundary.changes()[0].frequencies()
    assert (np.abs(dense - coarse) <= errors[1] + 0.5).all()


@needs_espresso
def test_finished_runs_are_kept(aluminium, monkeypatch, tmp_path):
    atoms, done = aluminium
    folder = tmp_path / "harmonic"
    shutil.copytree(done, folder, ignore=shutil.ignore_patterns("k_check"))
    first = check_k(atoms, folder, TOY, qpoint=(0.5, 0, 0))

    def refuse(*arguments, **keywords):
        raise AssertionError("nothing was left to run")

    monkeypatch.setattr("himlip_ase.dft.espresso.k_check_run.run_pw", refuse)
    again = check_k(atoms, folder, TOY, qpoint=(0.5, 0, 0))
    read = read_k_check(folder)
    assert read is not None
    for other in (again, read):
        assert other.meshes == first.meshes and other.shifts() == pytest.approx(first.shifts(), abs=1e-6)


def checked(*frequencies: float) -> KCheck:
    """One atom, its three modes equal, on as many meshes."""
    atoms = bulk("Al", a=3.95)
    meshes = tuple((k, k, k) for k in range(4, 4 + len(frequencies)))
    squares = [f * abs(f) / 521.4708983725064**2 * atoms.get_masses()[0] for f in frequencies]
    return KCheck(atoms, np.array([[0.5, 0, 0]]), meshes, np.array([[s * np.eye(3) for s in squares]]))


@pytest.mark.parametrize(
    ("frequencies", "enough", "says"),
    [
        ((300.0, 305.0), (4, 4, 4), "good enough"),
        ((300.0, 340.0), None, "Test 5×5×5 against 8×8×8 k"),
        ((300.0, 340.0, 345.0), (5, 5, 5), "5×5×5 k would do"),
        # a mesh that agrees with the densest by chance, before one that does not, is no proof
        ((300.0, 340.0, 301.0), None, "no mesh tried"),
        ((-20.0, 20.0), None, "by 40 cm⁻¹"),
    ],
)
def test_which_mesh_would_do(frequencies, enough, says):
    check = checked(*frequencies)
    assert check.enough() == enough and says in check.verdict()
    assert check.converged == (enough == (4, 4, 4))


def test_gamma_is_heard_where_it_is_the_worse_point():
    """A mode at Γ that splits states at the Fermi level moves by more than any off the grid."""
    quiet, loud = checked(300.0, 301.0), checked(-450.0, 920.0)
    qpoints = np.concatenate([quiet.qpoints, np.zeros((1, 3))])
    both = KCheck(quiet.primitive, qpoints, quiet.meshes, np.concatenate([quiet.matrices, loud.matrices]))
    assert quiet.converged and not both.converged and both.shifts() == pytest.approx([1370.0], abs=0.01)
    assert "at q = (0, 0, 0) moves by 1370 cm⁻¹" in both.verdict()


@needs_espresso
def test_gamma_is_tested_beside_the_soft_point(aluminium, tmp_path):
    """On the mesh of the labels it is there already; the record of one point (schema 1) is read too."""
    atoms, done = aluminium
    folder = tmp_path / "harmonic"
    shutil.copytree(done, folder, ignore=shutil.ignore_patterns("k_check"))
    check = check_k(atoms, folder, TOY)
    assert np.abs(check.qpoints[1]).max() == 0 and len(check.qpoints) == 2
    place = folder / "k_check"
    assert (place / "dyn_gamma_5x5x5").is_file() and not (place / "dyn_gamma_3x3x3").exists()
    record = json.loads((place / "k_check.json").read_text())
    first = record.pop("points")[0]
    (place / "k_check.json").write_text(json.dumps({**record, **first, "schema": 1}))
    old = read_k_check(folder)
    assert old is not None and len(old.qpoints) == 1
    assert old.matrices[0] == pytest.approx(check.matrices[0], abs=1e-8)


def test_one_q_point_is_asked_for_in_the_units_of_ph():
    """A third along b1 of an fcc cell, |a1| = a/√2, with b1 = (−1, 1, 1)/a: in 2π/alat times 1/√2."""
    atoms = bulk("Al", a=4.0)
    text = single_q_input([1 / 3, 0, 0], atoms, alpha_mix=0.3)
    q = np.array([float(x) for x in text.strip().splitlines()[-1].split()])
    assert q == pytest.approx(np.array([-1, 1, 1]) / 3 / np.sqrt(2), abs=1e-9)
    assert "alpha_mix(1)     = 0.3" in text and "ldisp" not in text


def test_meshes_have_to_be_denser(tmp_path):
    shutil.copytree(DATA / "ph", tmp_path / "run")
    atoms = read_pw_input(tmp_path / "run" / "scf.in").atoms
    assert denser((4, 5, 1)) == (6, 8, 2)
    for meshes in ([(3, 3, 3)], [(4, 4, 4)], [(6, 6, 6), (5, 9, 9)]):
        with pytest.raises(InputError, match="denser"):
            check_k(atoms, tmp_path / "run", QESettings(k_grid=(4, 4, 4)), meshes=meshes)
    with pytest.raises(InputError, match="three numbers"):
        check_k(atoms, tmp_path / "run", QESettings(k_grid=(4, 4, 4)), qpoint=(0.5, 0.0))
    assert read_k_check(tmp_path / "run") is None


@needs_espresso
def test_a_shifted_mesh_and_one_that_holds_gamma_have_one_limit(tmp_path):
    atoms = bulk("Al", a=3.95)
    found = {}
    for mesh in (3, 7):
        settings = TOY.with_k_grid((mesh,) * 3)
        for shift in (False, True):
            folder = tmp_path / f"{mesh}_{shift}"
            harmonic(atoms, (2, 2, 2), settings, folder, electron_phonon=False, k_shift=shift)
            assert ("k_offset" in read_pw_input(folder / "scf.in").settings) == shift
            found[mesh, shift] = read_dyn(folder / "dyn0").frequencies()
    apart = {mesh: np.abs(found[mesh, True] - found[mesh, False]).max() for mesh in (3, 7)}
    assert apart[3] > 20 and apart[7] < apart[3] / 5
    # the check of a shifted run takes a shifted mesh, too: at a point of the grid, the mesh that was run here
    settings = TOY.with_k_grid((3, 3, 3))
    check = check_k(
        atoms, tmp_path / "3_True", settings, k_shift=True, meshes=[(7, 7, 7)], qpoint=(0.5, 0, 0)
    )
    point = np.flatnonzero((read_dyn(tmp_path / "7_True" / "dyn0").qpoints == (0.5, 0, 0)).all(axis=1))[0]
    assert "7×7×7 shifted k" in check.verdict()
    again = read_k_check(tmp_path / "3_True")
    assert again is not None and again.verdict() == check.verdict()
    denser_mesh = check.changes()[0].frequencies()[1]
    assert np.abs(denser_mesh - found[7, True][point]).max() < 0.1
