"""Fault 40 and its neighbours: no number without a stated reason, and damaged files are named."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity.bootstrap import bootstrap_tc
from himlip_ase.superconductivity.coupling import mode_coupling
from himlip_ase.superconductivity.elph_matrices import read_elph
from himlip_ase.superconductivity.methods import FORMULAS
from himlip_ase.superconductivity.spectrum import Spectrum, spectrum_from_curve
from himlip_ase.superconductivity.tc import critical_temperature, tc_table
from himlip_ase.superconductivity.tc_entries import NoTc, Tc
from tests.superconductivity.material import AL, al_phonons, al_primitive, needs_al, toy


def unstable() -> tuple[DynamicalMatrices, object]:
    d, elph = toy()
    matrices = d.matrices.copy()
    values, vectors = np.linalg.eigh(matrices[0])
    values[-1] = -1.5
    matrices[0] = (vectors * values) @ vectors.conj().T
    return DynamicalMatrices(d.primitive, d.dims, d.qpoints, matrices), elph


def test_fault_40_imaginary_modes_are_named_and_never_summed() -> None:
    d, elph = unstable()
    coupling = mode_coupling(elph, d, 0.02)  # type: ignore[arg-type]
    assert len(coupling.imaginary) == 1
    mode = coupling.imaginary[0]
    assert mode.qpoint == (0, 0, 0) and mode.branch == 1 and mode.frequency_cm < -100
    assert coupling.lambdas[0, 0] == 0 and not coupling.summed[0, 0]
    spectrum = coupling.spectrum()
    for method in FORMULAS.names():
        result = critical_temperature(spectrum, 0.1, method)
        assert isinstance(result, NoTc)
        assert "imaginary" in result.reason and "q = (0, 0, 0) branch 1" in result.reason
    accepted = critical_temperature(spectrum, 0.1, accept=["imaginary"])
    assert isinstance(accepted, Tc) and any("imaginary" in text for text in accepted.caveats)


def test_no_tc_holds_no_number_and_survives_json() -> None:
    d, elph = unstable()
    table = tc_table(mode_coupling(elph, d, 0.02).spectrum())  # type: ignore[arg-type]
    assert all(isinstance(entry, NoTc) and not hasattr(entry, "kelvin") for entry in table.results)
    data = json.loads(json.dumps(table.to_record(), allow_nan=False))
    assert all(entry["value"] is None and entry["reason"] for entry in data["tc"])
    assert "stable modes only" in data["lambda"]["how"]


@pytest.mark.parametrize("method", FORMULAS.names())
def test_fault_40_coupling_below_the_threshold(method) -> None:
    result = critical_temperature(Spectrum(np.array([0.03]), np.array([0.12])), 0.13, method)
    assert isinstance(result, NoTc) and "0.62" in result.reason


def test_fault_40_negative_alpha2f() -> None:
    omega = np.linspace(1, 100, 200)
    curve = np.where(omega < 30, -0.3, 0.6)
    result = critical_temperature(spectrum_from_curve(omega, curve, "meV"), 0.1)
    assert isinstance(result, NoTc) and "negative" in result.reason
    with pytest.raises(InputError, match="accept"):
        critical_temperature(Spectrum(np.array([0.03]), np.array([1.0])), 0.1, accept=["negative"])


def test_fault_40_grid_too_coarse() -> None:
    d, elph = toy((2, 1, 1))
    result = critical_temperature(mode_coupling(elph, d, 0.02).spectrum(), 0.1)
    assert isinstance(result, NoTc) and "coarse" in result.reason
    d, elph = toy((2, 2, 2))
    result = critical_temperature(mode_coupling(elph, d, 0.02).spectrum(), 0.1)
    assert isinstance(result, Tc) and any("coarse" in text for text in result.caveats)


def test_everything_soft_is_empty_not_zero() -> None:
    d, elph = toy()
    spectrum = mode_coupling(elph, d, 0.02, threshold_cm=1e6).spectrum()
    result = critical_temperature(spectrum, 0.1)
    assert isinstance(result, NoTc) and "no mode" in result.reason


@pytest.mark.parametrize("mu_star", [-0.1, 1.5, float("nan")])
def test_unreasonable_mu_star(mu_star: float) -> None:
    with pytest.raises(InputError, match="0 to 1"):
        critical_temperature(Spectrum(np.array([0.03]), np.array([1.0])), mu_star)


def test_phonons_of_another_crystal() -> None:
    d, elph = toy()
    other = d.primitive.copy()
    other.symbols[0] = "Pt"
    with pytest.raises(InputError, match="HPd"):
        mode_coupling(elph, DynamicalMatrices(other, d.dims, d.qpoints, d.matrices))
    other = d.primitive.copy()
    other.set_cell(other.cell * 1.01, scale_atoms=True)
    with pytest.raises(InputError, match="cells"):
        mode_coupling(elph, DynamicalMatrices(other, d.dims, d.qpoints, d.matrices))
    other = d.primitive.copy()
    other.positions[1] += 0.4
    with pytest.raises(InputError, match="atom 1"):
        mode_coupling(elph, DynamicalMatrices(other, d.dims, d.qpoints, d.matrices))
    with pytest.raises(InputError, match="swap_onto_grid"):
        mode_coupling(elph, toy((1, 2, 2))[0])
    with pytest.raises(InputError, match=r"0\.01, 0\.02"):
        mode_coupling(elph, d, 0.03)


def test_unstable_bootstrap_samples_are_not_dropped_in_silence() -> None:
    bad, elph = unstable()
    good, _ = toy()
    few = bootstrap_tc(elph, [good] * 19 + [bad], (0.1,), ("allen-dynes",), 0.02)  # type: ignore[arg-type]
    assert isinstance(few.results[0], Tc) and "left out" in few.results[0].caveats[-1] and few.refused == 1
    many = bootstrap_tc(elph, [good] * 3 + [bad] * 2, (0.1,), ("allen-dynes",), 0.02)  # type: ignore[arg-type]
    assert isinstance(many.results[0], NoTc) and "40%" in many.results[0].reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(AL / "elph_dir", tmp_path / "elph_dir")
    shutil.copy(AL / "al.dyn1", tmp_path)
    return tmp_path / "elph_dir"


@needs_al
def test_missing_block_is_named(folder: Path) -> None:
    (folder / "a2Fq2r.53.4").unlink()
    with pytest.raises(InputError, match=r"a2Fq2r\.53\.4 is missing"):
        read_elph(folder, al_primitive())


@needs_al
def test_missing_star_is_named(folder: Path) -> None:
    for path in folder.glob("a2Fq2r.*.3"):
        path.unlink()
    with pytest.raises(InputError, match=r"4 of the 64 q-points.*missing"):
        read_elph(folder, al_primitive())


@needs_al
def test_truncated_files_are_named(folder: Path) -> None:
    path = folder / "a2Fq2r.51.2"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a2Fq2r\.51\.2 holds 3 complete matrices of the 8"):
        read_elph(folder, al_primitive())
    path.write_text("")
    with pytest.raises(InputError, match="empty"):
        read_elph(folder, al_primitive())
    path.write_text(whole)
    zipped = folder / "a2Fq2r.51.5.gz"
    zipped.write_bytes(zipped.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a2Fq2r\.51\.5\.gz cannot be read"):
        read_elph(folder, al_primitive())


@needs_al
def test_truncated_elph_inp_lambda(folder: Path) -> None:
    path = folder / "elph.inp_lambda.2"
    path.write_text(path.read_text()[:700])
    with pytest.raises(InputError, match="truncated"):
        read_elph(folder, al_primitive())


@needs_al
def test_sigma_and_dos_of_another_run(folder: Path) -> None:
    path = folder / "a2Fq2r.52.3"
    path.write_text(path.read_text().replace("1.88176", "2.88176", 1))
    with pytest.raises(InputError, match=r"N\(E_F\)"):
        read_elph(folder, al_primitive())


@needs_al
def test_order_of_blocks_in_a_file_does_not_matter(folder: Path) -> None:
    before = read_elph(folder, al_primitive())
    for path in folder.glob("a2Fq2r.*.2"):
        head, *blocks = path.read_text().split("     Dynamical  Matrix in cartesian axes")
        path.write_text("     Dynamical  Matrix in cartesian axes".join([head, *blocks[::-1]]))
    after = read_elph(folder, al_primitive())
    assert np.array_equal(before.matrices, after.matrices)


@needs_al
def test_compressed_and_plain_files_are_the_same(folder: Path) -> None:
    before = read_elph(folder, al_primitive())
    for path in folder.glob("a2Fq2r.*[0-9]"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert np.array_equal(before.matrices, read_elph(folder, al_primitive()).matrices)


@needs_al
def test_wrong_alat_or_cell_is_noticed(folder: Path) -> None:
    with pytest.raises(InputError, match="grid"):
        read_elph(folder, al_primitive(), alat_bohr=7.9)
    (folder.parent / "al.dyn1").unlink()
    with pytest.raises(InputError, match="alat_bohr"):
        read_elph(folder, al_primitive())


@needs_al
def test_wrong_number_of_atoms(folder: Path) -> None:
    with pytest.raises(InputError, match=r"another crystal|truncated"):
        read_elph(folder, al_primitive().repeat((2, 1, 1)))


@needs_al
def test_phonons_of_another_run_are_refused() -> None:
    elph, dm = read_elph(AL, al_primitive()), al_phonons()
    stiffer = DynamicalMatrices(dm.primitive, dm.dims, dm.qpoints, 1.05 * dm.matrices)
    with pytest.raises(InputError, match="different crystals or runs"):
        elph.check_against(stiffer)
    with pytest.raises(InputError, match="GHz"):
        elph.check_against(dm.with_masses({"Al": 30.0}))
    with pytest.raises(InputError, match="GHz"):
        replace(elph, matrices=1.05 * elph.matrices).check_against(dm)


def test_a_folder_without_matrices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="electron_phonon='interpolated'"):
        read_elph(tmp_path, al_primitive())
    with pytest.raises(InputError, match="not a folder"):
        read_elph(tmp_path / "no", al_primitive())
