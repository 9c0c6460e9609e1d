"""LO–TO splitting: in bands, densities and interpolation, through every file that can hold Born charges."""

from __future__ import annotations

import gzip
import lzma
import shutil

import numpy as np
import phonopy
import pytest
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.phonons import (
    band_path,
    band_structure,
    dos,
    from_phonopy,
    read_dyn,
    read_force_constants,
    read_q2r,
    write_dyn,
    write_phonopy_params,
)
from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.born_files import read_born
from himlip_ase.units import COULOMB_EV_ANGSTROM, THZ_CM

from .polar import PH_RUNS, polar, unpack
from .springs import triclinic, zincblende
from .test_qe import matdyn, needs_qe

NEAR_GAMMA = np.concatenate(
    [
        np.array([0.0005, 0.002, 0.005, 0.01, 0.02, 0.03])[:, None] * np.array(direction)
        for direction in ([1, 0, 0], [1, 1, 0], [1, 0.5, -0.2], [0, 0, -1])
    ]
)


def same(one: BornCharges, two: BornCharges, tolerance: float) -> bool:
    return (
        np.abs(one.charges - two.charges).max() < tolerance
        and np.abs(one.dielectric - two.dielectric).max() < tolerance
    )


MATDYN = {
    "alas": [
        [2.0766, 2.0766, 6.4878, 350.4352, 350.4352, 387.5750],
        [3.9034, 4.2039, 9.3036, 350.4063, 350.4136, 387.5761],
        [2.4924, 2.4924, 7.1752, 350.4317, 350.4317, 387.5726],
    ],
    "alas_rhombohedral": [
        [3.5455, 4.1545, 34.1831, 302.0300, 340.4363, 373.6409],
        [5.3579, 7.1386, 37.3980, 302.8632, 340.4111, 373.7001],
        [4.3780, 4.5176, 34.2475, 302.0283, 340.4302, 373.6397],
    ],
}
"""cm⁻¹ by q2r.x and matdyn.x 6.7 at the q-points of the test below, without a sum rule."""


@pytest.mark.parametrize("name", PH_RUNS)
def test_frequencies_near_gamma_of_a_cubic_and_a_rhombohedral_crystal(name, tmp_path):
    fc = read_dyn(unpack(name, tmp_path)).force_constants()
    found = fc.frequencies(np.array([[0.002, 0, 0], [0.01, 0.005, -0.002], [0, 0, -0.005]]))
    assert found == pytest.approx(np.array(MATDYN[name]), abs=2e-3)


@needs_qe
@pytest.mark.parametrize("name", PH_RUNS)
def test_ph_runs_near_gamma_are_those_of_matdyn(name, tmp_path):
    fc = read_dyn(unpack(name, tmp_path)).force_constants()
    reference = matdyn(tmp_path, "dyn", NEAR_GAMMA)
    assert np.abs(fc.frequencies(NEAR_GAMMA) - reference).max() < 0.01
    unsplit = fc.with_born(None).frequencies(NEAR_GAMMA)
    assert np.abs(unsplit - reference).max() > 30


@needs_qe
@pytest.mark.parametrize(("make", "dims"), [(triclinic, (2, 2, 3)), (zincblende, (4, 4, 4))])
def test_what_is_written_for_matdyn_is_read_by_it_and_back(make, dims, tmp_path):
    fc = polar(make, dims).with_masses(np.linspace(4, 9, len(make().atoms)))
    write_dyn(fc.dynamical_matrices(), tmp_path / "dyn")
    back = read_dyn(tmp_path / "dyn")
    assert same(back.born, fc.born, 1e-11)
    assert np.abs(back.matrices - fc.dynamical_matrices().matrices).max() < 1e-9
    qpoints = np.vstack([NEAR_GAMMA[::6], back.qpoints[1:4]])
    assert np.abs(fc.frequencies(qpoints) - matdyn(tmp_path, "dyn", qpoints)).max() < 0.1
    # q2r.x takes the dipoles out, read_q2r puts them back
    read = read_q2r(tmp_path / "x.fc")
    assert same(read.born, fc.born, 1e-7)  # the file has seven decimals of the charges
    assert np.abs(read.compact - fc.compact).max() < 1e-6


def test_phonopy_says_the_same(tmp_path):
    fc = polar(zincblende, (2, 2, 2))
    ph = phonopy.Phonopy(fc.to_phonopy().unitcell, [2, 2, 2], primitive_matrix="P")
    ph.force_constants = fc
    ph.nac_params = {
        "born": fc.born.charges, "dielectric": fc.born.dielectric, "factor": COULOMB_EV_ANGSTROM,
    }  # fmt: skip
    qpoints = np.vstack([NEAR_GAMMA, [[0.3, 0.1, 0.7], [0.5, 0.5, 0.0]]])
    theirs = np.asarray(ph.run_qpoints(qpoints).frequencies) * THZ_CM
    assert np.abs(fc.frequencies(qpoints) - theirs).max() < 0.01
    direction = np.array([[0.2, 0.5, -0.1]])
    split = np.asarray(ph.run_qpoints([[0, 0, 0]], nac_q_direction=direction[0]).frequencies) * THZ_CM
    gamma = np.zeros((1, 3))
    assert np.abs(fc.frequencies(gamma, direction) - split).max() < 0.01
    # the limit is reached from any distance, also where phonopy puts Γ itself
    for scale in (1e-4, 1e-6, 1e-7):
        assert np.abs(fc.frequencies(scale * direction) - split)[0, 3:].max() < 0.01
    plain = np.asarray(ph.run_qpoints([[0, 0, 0]]).frequencies) * THZ_CM
    assert np.abs(fc.frequencies(gamma) - plain).max() < 0.01 and np.abs(split - plain).max() > 5


def test_case_F1_every_file_of_phonopy_keeps_the_charges(tmp_path):
    fc = polar(zincblende, (2, 2, 2))
    path = write_phonopy_params(fc, tmp_path / "phonopy_params.yaml")
    assert same(read_force_constants(path).born, fc.born, 1e-12)
    theirs = phonopy.load(path, log_level=0)
    mine = np.asarray(theirs.run_qpoints(NEAR_GAMMA).frequencies) * THZ_CM
    assert np.abs(mine - fc.frequencies(NEAR_GAMMA)).max() < 0.01
    assert same(from_phonopy(theirs).born, fc.born, 1e-12)
    for suffix, module in ((".xz", lzma), (".gz", gzip)):
        packed = tmp_path / f"{suffix[1:]}.yaml{suffix}"
        packed.write_bytes(module.compress(path.read_bytes()))
        assert same(read_force_constants(packed).born, fc.born, 1e-12)
        packed.write_bytes(module.compress(path.read_bytes())[:-50])
        with pytest.raises(InputError, match="is it whole"):
            read_force_constants(packed)


def test_born_beside_the_forces_is_read_and_none_elsewhere(tmp_path, monkeypatch):
    fc = read_dyn(unpack("alas", tmp_path)).with_acoustic_sum_rule().force_constants()
    ph = fc.to_phonopy()
    ph.nac_params = None
    folder = tmp_path / "phonopy"
    folder.mkdir()
    ph.save(folder / "phonopy_params.yaml", settings={"force_constants": True})
    assert read_force_constants(folder / "phonopy_params.yaml").born is None
    rows = [fc.born.dielectric, *fc.born.charges]
    text = "\n".join(" ".join(f"{x:.8f}" for x in row.ravel()) for row in rows)
    (tmp_path / "BORN").write_text(f"# epsilon and Z*\n{text}\n")
    monkeypatch.chdir(tmp_path)
    assert read_force_constants(folder / "phonopy_params.yaml").born is None
    (folder / "BORN").write_text((tmp_path / "BORN").read_text())
    assert same(read_force_constants(folder / "phonopy_params.yaml").born, fc.born, 1e-6)


def test_bands_split_at_gamma_by_the_direction_of_each_segment(tmp_path):
    fc = read_dyn(unpack("alas_rhombohedral", tmp_path)).with_acoustic_sum_rule().force_constants()
    path = band_path(fc.primitive, npoints=201)
    bands = band_structure(fc, path=path)
    ends = 0
    for q, frequencies in zip(path.qpoints, bands.frequencies, strict=True):
        for end, inside in ((0, 1), (-1, -2)):
            if np.abs(q[end]).max() < 1e-12:
                ends += 1
                assert np.abs(frequencies[end] - frequencies[inside])[3:].max() < 3
    assert ends >= 2
    split = [fc.frequencies(np.zeros((1, 3)), np.array([d]))[0, -1] for d in ([1, 1, 1], [1, -1, 0])]
    assert abs(split[0] - split[1]) > 1  # not cubic: the LO mode depends on the direction
    density, without = dos(fc, (9, 9, 9)), dos(fc.with_born(None), (9, 9, 9))
    top = density.frequencies[density.total > 0.01 * density.total.max()].max()
    assert top > without.frequencies[without.total > 0.01 * without.total.max()].max() + 5


def test_what_is_interpolated_keeps_the_charges(tmp_path):
    dm = read_dyn(unpack("alas", tmp_path))
    with_rule = dm.with_acoustic_sum_rule()
    assert with_rule.born.sum_rule_violation() < 1e-12 < dm.born.sum_rule_violation()
    finer = with_rule.interpolated((8, 8, 8))
    assert same(finer.born, with_rule.born, 1e-15)
    qpoints = np.array([[0.02, 0, 0], [0.37, 0.1, 0.2]])
    direct = with_rule.force_constants().frequencies(qpoints)
    assert np.abs(finer.force_constants().frequencies(qpoints) - direct).max() < 1e-3
    assert same(
        with_rule.with_masses({"Al": 30.0}).force_constants().symmetrized().born, with_rule.born, 1e-12
    )


@pytest.mark.parametrize(
    ("charges", "dielectric", "message"),
    [
        (np.zeros((2, 3)), np.eye(3), "shape"),
        (np.zeros((2, 3, 3)), np.diag([1.0, 2.0, -1.0]), "positive"),
        (np.zeros((2, 3, 3)), np.eye(3) + np.triu(np.ones((3, 3)), 1), "asymmetric"),
        (np.full((2, 3, 3), np.nan), np.eye(3), "finite"),
    ],
)
def test_what_are_no_charges_is_refused(charges, dielectric, message):
    with pytest.raises(InputError, match=message):
        BornCharges(charges, dielectric)


def test_charges_of_another_cell_are_refused():
    fc = polar(zincblende, (1, 1, 1))
    with pytest.raises(InputError, match="3 Born charges for a primitive cell of 2"):
        fc.with_born(BornCharges(np.zeros((3, 3, 3)), np.eye(3)))


def test_cellconstructor_keeps_the_charges():
    pytest.importorskip("cellconstructor")
    from himlip_ase.phonons import from_cellconstructor, to_cellconstructor

    dm = polar(zincblende, (2, 2, 2)).dynamical_matrices()
    dyn = to_cellconstructor(dm)
    assert np.abs(dyn.effective_charges - dm.born.charges).max() == 0
    assert same(from_cellconstructor(dyn).born, dm.born, 1e-15)


def test_sscha_matrices_keep_the_charges():
    from himlip_ase.sscha.array_files import pack
    from himlip_ase.sscha.array_files import unpack as unpacked
    from himlip_ase.sscha.cell import strained
    from himlip_ase.sscha.run.initial import positive_definite_start

    dm = polar(zincblende, (2, 2, 2)).dynamical_matrices()
    again = unpacked("x", pack("x", dm))
    assert same(again.born, dm.born, 1e-15) and np.array_equal(again.matrices, dm.matrices)
    assert unpacked("x", pack("x", dm.with_born(None))).born is None
    assert same(strained(dm, 0.01 * np.eye(3)).born, dm.born, 1e-15)
    assert same(positive_definite_start(dm)[0].born, dm.born, 1e-12)


def test_case_F1_the_command_splits_lo_from_to_and_writes_what_it_read(tmp_path):
    """LO at Γ in the bands, charges in the YAML and dyn files; --born gives them to files without."""
    prefix = unpack("alas", tmp_path)
    dm = read_dyn(prefix).with_acoustic_sum_rule()
    lo = dm.force_constants().frequencies(np.zeros((1, 3)), np.array([[1.0, 1.0, 0]])).max()
    assert lo > dm.frequencies()[0].max() + 20

    def top(*arguments: str) -> float:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        done = CliRunner().invoke(
            app, ["-q", "phonons", *arguments, "--out", str(out), "--mesh", "3", "3", "3", "--npoints", "31"]
        )
        assert done.exit_code == 0, done.output
        rows = [x.split() for x in (out / "bands.dat").read_text().splitlines() if x and x[0] != "#"]
        table = np.array(rows, dtype=float)
        return float(table[np.abs(table[:, 1:4]).max(axis=1) < 1e-9][:, 4:].max())

    assert top("--dyn", str(prefix), "--write-dyn") == pytest.approx(lo, abs=0.01)
    written = tmp_path / "out" / "phonopy_params.yaml"
    assert same(read_force_constants(written).born, dm.born, 1e-9)
    assert same(read_dyn(tmp_path / "out" / "dyn").born, dm.born, 1e-9)
    kept = tmp_path / "phonopy_params.yaml"
    kept.write_text(written.read_text())
    plain = write_phonopy_params(dm.with_born(None).force_constants(), tmp_path / "plain.yaml")
    assert top("--dyn", str(plain)) == pytest.approx(dm.frequencies()[0].max(), abs=0.01)
    assert top("--dyn", str(plain), "--born", f"{prefix}1") == pytest.approx(lo, abs=0.05)
    assert same(read_born(kept, dm.primitive), dm.born, 1e-9)
    with pytest.raises(InputError, match="no Born charges"):
        read_born(plain, dm.primitive)
    with pytest.raises(InputError, match="for a primitive cell of 4"):
        read_born(kept, dm.primitive.repeat((2, 1, 1)))
