"""ph.x: complete on every q-point or refused; continued at the q-point where it stopped."""

from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.dft.espresso.engine import Espresso
from himlip_ase.dft.espresso.harmonic import first_unfinished_q, harmonic
from himlip_ase.dft.espresso.input_reading import read_pw_input
from himlip_ase.dft.espresso.inputs import QESettings, ph_input, pw_input
from himlip_ase.dft.espresso.ph_files import check_ph_folder, check_ph_output, read_dyn0
from himlip_ase.dft.espresso.publish import collect_harmonic
from himlip_ase.dft.espresso.runner import Launcher
from himlip_ase.dft.publish import collect
from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.labels.displacements import softest_gamma_mode
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM
from tests.dft.conftest import DATA

OPTIONS = {"n_sigma": 3, "sigma_ry": 0.02, "electron_phonon": True}


@pytest.fixture
def finished(tmp_path):
    """A finished harmonic run of fcc aluminium on 2×2×2 q-points, three broadenings."""
    folder = tmp_path / "harmonic"
    shutil.copytree(DATA / "ph", folder)
    return folder


@pytest.fixture
def crystal(finished):
    return read_pw_input(finished / "scf.in").atoms


def test_finished_run(finished, crystal):
    files = check_ph_folder(finished, crystal)
    assert files.q_grid == (2, 2, 2) and len(files.dyn) == 4 and len(files.elph) == 9
    assert files.sigmas_ry == (0.02, 0.04, 0.06) and files.version == "6.7MaX"
    assert files.core_seconds == 0.44
    assert (
        first_unfinished_q(finished, crystal, OPTIONS) == 3
    )  # nothing is missing: only the last is repeated


@pytest.mark.parametrize(
    ("name", "keep", "start"),
    [
        ("dyn2", 0.6, 2),
        ("dyn3", 0.0, 3),
        ("elph_dir/a2Fq2r.53.2", 0.5, 2),
        ("elph_dir/a2Fq2r.51.1", None, 1),
        ("dyn1", None, 1),
    ],
)
def test_truncated_or_missing_file_is_refused_and_redone(finished, crystal, name, keep, start, tmp_path):
    path = finished / name
    text = path.read_text()
    path.unlink()
    if keep is not None:
        path.write_text(text[: int(keep * len(text))])
    with pytest.raises(CalculationError, match=path.name.replace(".", r"\.")):
        check_ph_folder(finished, crystal)
    with pytest.raises(CalculationError):
        collect_harmonic(finished, tmp_path / "labels")
    assert first_unfinished_q(finished, crystal, OPTIONS) == start


def test_ph_output_is_not_trusted(finished, crystal):
    good = (finished / "ph.out").read_text()
    check_ph_output(good)
    with pytest.raises(CalculationError, match="cut short"):
        check_ph_output(good[: good.index("PHONON       :")])
    with pytest.raises(NotConvergedError):
        check_ph_output(good.replace("JOB DONE", "No convergence has been achieved\n JOB DONE"))
    with pytest.raises(NotConvergedError, match="time limit"):
        check_ph_output(good.replace("JOB DONE", "Maximum CPU time exceeded\n JOB DONE"))


@pytest.mark.parametrize("label", ["", "A'", "B_1  D_1  S_1"])
def test_a_run_that_went_on_within_a_q_point_is_told(finished, crystal, caplog, label):
    """ph.x 6.7 recovered after a kill ends with other matrices and JOB DONE."""
    check_ph_folder(finished, crystal)
    assert not caplog.records
    output = finished / "ph.out"
    mark = f"\n     Representation     1      1 modes -{label}  Done\n"
    mark += "\n     Representation     2      2 modes -  To be done"
    output.write_text(output.read_text().replace("JOB DONE", f"{mark}\n JOB DONE"))
    check_ph_folder(finished, crystal)
    assert "went on within a q-point" in caplog.text


def test_files_of_another_crystal_are_refused(finished, crystal):
    larger, other = crystal.copy(), crystal.copy()
    other.symbols[0] = "Si"
    for wrong in (larger.repeat((1, 1, 2)), other):
        with pytest.raises(CalculationError):
            check_ph_folder(finished, wrong)


def test_nan_is_refused(finished, crystal):
    path = finished / "elph_dir" / "a2Fq2r.52.2"
    lines = path.read_text().splitlines()
    lines[8] = "   NaN   0.0     0.0   0.0     0.0   0.0"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CalculationError, match="not finite"):
        check_ph_folder(finished, crystal)


def test_collected_harmonic_labels(finished, crystal, tmp_path, monkeypatch):
    folder = tmp_path / "pseudo"
    folder.mkdir()
    (folder / "Al.pz-vbc.UPF").write_text('<PP_HEADER element="Al"/>')
    with pytest.raises(InputError, match="not the file"):
        collect_harmonic(finished, tmp_path / "labels", pseudo_dir=folder)
    used = "69dcd8cd7cc1bedf536afd524f174f6a"
    monkeypatch.setattr("himlip_ase.dft.espresso.publish.md5", lambda path: used)
    target = collect(finished, "harmonic", tmp_path / "labels", pseudo_dir=folder)
    assert read_dyn0(target / "dyn0") == ((2, 2, 2), 3)
    for name in ("a2Fq2r.51.1", "a2Fq2r.53.3"):
        with gzip.open(target / "elph_dir" / f"{name}.gz", "rt") as stream:
            assert stream.read() == (finished / "elph_dir" / name).read_text()
    record = json.loads((target / "provenance.json").read_text())
    assert record["q_grid"] == [2, 2, 2] and record["el_ph_sigma_ry"] == [0.02, 0.04, 0.06]
    assert record["pressure_gpa"] == pytest.approx(10.0, abs=0.05)
    assert (tmp_path / "labels" / "inputs" / "harmonic_ph.in").read_text() == (finished / "ph.in").read_text()
    assert read_dyn(target / "dyn0").dims == (2, 2, 2)


def test_softest_mode_is_optical_and_unique(finished):
    """Two atoms on isotropic springs: threefold optical mode at ω² = k (1/m + 1/M), taken along z."""
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    spring = 3.0
    block = np.kron([[1, -1], [-1, 1]], np.eye(3)) * spring
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(6, 6)) * 1e-9  # mixes the degenerate eigenvectors at random
    matrices = DynamicalMatrices(atoms, (1, 1, 1), np.zeros((1, 3)), (block + noise + noise.T)[None])
    mode, frequency = softest_gamma_mode(matrices)
    sodium, chlorine = atoms.get_masses()
    assert frequency == pytest.approx(
        SQRT_EV_PER_ANGSTROM2_AMU_CM * np.sqrt(spring * (1 / sodium + 1 / chlorine))
    )
    expected = np.array([[0, 0, chlorine], [0, 0, -sodium]]) / np.hypot(sodium, chlorine)
    assert mode == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="one atom"):
        softest_gamma_mode(read_dyn(finished / "dyn0"))


FAKE_PH = """#!/bin/sh
# plays ph.x: the first call stops within the second q-point
cp ph.in "{state}/input.$(ls "{state}" | wc -l)"
mkdir -p out/_ph0 elph_dir
for f in dyn0 dyn1; do cp "{source}/$f" .; done; cp "{source}"/elph_dir/*.1 elph_dir/
if grep -q start_q ph.in; then
  cp "{source}"/dyn[23] .; cp "{source}"/elph_dir/*.[23] elph_dir/; cat "{source}/ph.out"
else head -30 "{source}/ph.out"; : > dyn2; fi
"""


def test_interrupted_phonons_continue_at_their_q_point(tmp_path, fake_pw, pseudo, finished, crystal):
    state = tmp_path / "calls"
    state.mkdir()
    script = tmp_path / "ph.x"
    script.write_text(FAKE_PH.format(state=state, source=finished))
    script.chmod(0o755)
    (pseudo / "Al.upf").rename(pseudo / "Al.pz-vbc.UPF")
    # the playback pw.x has one crystal only, so both scf runs see the same cell
    scf = (finished / "scf.out").read_text().replace("69dcd8cd7cc1bedf536afd524f174f6a", "0" * 32)
    fake_pw.always(scf[: scf.index("PseudoPot. #")] + scf[scf.index("atomic species   valence") :])
    settings = QESettings(ecutwfc_ry=15, k_grid=(4, 4, 4), degauss_ry=0.05, pseudo_dir=pseudo)
    launcher = Launcher(pw=fake_pw.launcher.pw, ph=str(script))
    folder = tmp_path / "run"
    arguments = (crystal, (2, 2, 2), settings, folder, launcher)
    files = harmonic(*arguments, n_sigma=3, sigma_ry=0.02)
    assert len(files.elph) == 9 and fake_pw.calls == 2
    assert (state / "input.0").read_text() == ph_input((2, 2, 2), n_sigma=3, sigma_ry=0.02)
    assert (state / "input.1").read_text() == ph_input((2, 2, 2), n_sigma=3, sigma_ry=0.02, start_q=2)
    assert len(json.loads((folder / "ph.json").read_text())["retries"]) == 1
    with pytest.raises(InputError, match="--resume"):
        harmonic(*arguments, n_sigma=3, sigma_ry=0.02)
    harmonic(*arguments, n_sigma=3, sigma_ry=0.02, resume=True)
    assert fake_pw.calls == 2 and len(list(state.iterdir())) == 2, "a finished run is not repeated"
    with pytest.raises(InputError, match=r"another ph\.x calculation"):
        harmonic(*arguments, n_sigma=3, sigma_ry=0.01, resume=True)


def test_a_shifted_mesh_is_for_matrices_alone(tmp_path, settings):
    with pytest.raises(InputError, match="--no-electron-phonon"):
        harmonic(bulk("Al", a=4.05), (2, 2, 2), settings, tmp_path / "x", k_shift=True)
    with pytest.raises(InputError, match="--no-electron-phonon"):
        Espresso(settings, k_shift=True)


def test_grids_that_do_not_fit_are_refused(tmp_path, settings):
    atoms = bulk("Al")
    with pytest.raises(InputError, match="multiple"):
        harmonic(atoms, (3, 3, 3), settings, tmp_path / "x", k_grid_dense=(8, 8, 8))
    with pytest.raises(InputError, match="q_grid"):
        harmonic(atoms, (2, 2), settings, tmp_path / "x")
    with pytest.raises(InputError, match="metal"):
        insulator = QESettings(smearing=None, pseudo_dir=settings.pseudo_dir)
        harmonic(atoms, (2, 2, 2), insulator, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert "la2f" in pw_input(atoms, settings, overrides={"system": {"la2F": True}}).lower()
