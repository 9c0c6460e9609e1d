"""himlip hessian and himlip phonons on a small model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from himlip_ase import HiMLIPCalculator, relaxation
from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.phonons import follow, phono3py_io
from himlip_ase.phonons.phonopy_files import read_force_constants
from himlip_ase.potential.checkpoint import save_model
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

runner = CliRunner()


def repulsive() -> HiMLIP:
    """Untrained: pure repulsion, under which a close-packed crystal is stable."""
    return HiMLIP(HiMLIPConfig(("H", "S"), cutoff=3.0, channels=2, hidden=4, layers=1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(repulsive(), tmp_path / "toy.safetensors", {})
    write(tmp_path / "molecule.xyz", Atoms("SH2", positions=[[0, 0, 0], [0.97, 0.93, 0], [-0.97, 0.93, 0]]))
    write(tmp_path / "fcc.extxyz", bulk("H", "fcc", a=1.45))
    open_cell = Atoms("HS", cell=np.eye(3) * 1.3, scaled_positions=[[0, 0, 0], [0.52, 0.5, 0.5]], pbc=True)
    write(tmp_path / "off.extxyz", open_cell)
    return tmp_path


def himlip(folder: Path, *arguments: str, status: int = 0) -> str:
    result = runner.invoke(app, [argument.replace("@", f"{folder}/") for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def test_hessian_uses_symmetry_and_says_what_it_is(folder: Path) -> None:
    output = himlip(folder, "hessian", "@molecule.xyz", "-m", "@toy.safetensors", "-o", "@a.npz")
    assert "3 Hessian-vector products instead of 9" in output
    assert "3 vibrations" in output and "zero point" in output and "Not a stationary point" in output
    himlip(folder, "hessian", "@molecule.xyz", "-m", "@toy.safetensors", "-o", "@b.npz", "--no-symmetry")
    one, two = (np.load(folder / name)["hessian"] for name in ("a.npz", "b.npz"))
    assert np.abs(one - two).max() < 1e-9 and np.abs(one).max() > 1


def test_lowest_modes_without_a_hessian(folder: Path) -> None:
    supercell = read(folder / "fcc.extxyz").repeat(2)
    write(folder / "large.extxyz", supercell)
    arguments = ["hessian", "@large.extxyz", "-m", "@toy.safetensors", "--lowest", "3", "-o", "@modes.h5"]
    output = himlip(folder, *arguments)
    assert "(a Hessian: 24)" in output and ", converged" in output and output.count("cm⁻¹ ±") == 3
    with h5py.File(folder / "modes.h5") as file:
        frequencies = file["frequencies"][:]
        assert file["modes"].shape == (3, 8, 3) and bool(file["converged"][()])
    constants = HiMLIPCalculator(repulsive()).get_force_constants(read(folder / "fcc.extxyz"))
    assert frequencies == pytest.approx(np.sort(constants.dynamical_matrices().frequencies().ravel())[3:6])
    assert "--overwrite" in himlip(folder, *arguments, status=2)
    both = [
        "hessian",
        "@large.extxyz",
        "-m",
        "@toy.safetensors",
        "--lowest",
        "3",
        "--atom",
        "0",
        "-o",
        "@c.h5",
    ]
    assert "one of the two" in himlip(folder, *both, status=2)


def phonons(folder: Path, structure: str, *more: str, status: int = 0) -> str:
    quick = ["--mesh", "2", "2", "2", "--npoints", "3", "--dims", "2", "2", "2"]
    return himlip(
        folder, "phonons", structure, "--model", "@toy.safetensors", "--out", "@out", *quick, *more,
        status=status,
    )  # fmt: skip


def test_phonons_relax_first(folder: Path) -> None:
    output = phonons(folder, "@off.extxyz")
    assert "not relaxed" not in output and "relaxed in" in output
    relaxed = read_force_constants(folder / "out" / "phonopy_params.yaml")
    distance = np.diff(relaxed.primitive.positions, axis=0) @ np.linalg.inv(relaxed.primitive.cell)
    assert np.abs(distance) == pytest.approx(0.5, abs=1e-3)
    assert relaxed.acoustic_sum_rule_violation() < 1e-8
    output = phonons(folder, "@off.extxyz", "--no-relax", "--overwrite")
    assert "not relaxed" in output


def test_case_P4_masses_of_an_input_of_pw_reach_the_files(folder: Path) -> None:
    """Frequencies of D are those of H divided by the root of the ratio of masses."""
    text = (
        "&CONTROL\n/\n&SYSTEM\n ibrav = 0, nat = 1, ntyp = 1, ecutwfc = 30\n/\n&ELECTRONS\n/\n"
        "ATOMIC_SPECIES\nH {mass} H.upf\nK_POINTS gamma\nCELL_PARAMETERS angstrom\n"
        "0 0.725 0.725\n0.725 0 0.725\n0.725 0.725 0\nATOMIC_POSITIONS crystal\nH 0 0 0\n"
    )
    found = {}
    for mass in (1.008, 2.0141):
        (folder / "one.pw.in").write_text(text.format(mass=mass))
        phonons(folder, "@one.pw.in", "--no-relax", "--overwrite")
        written = read_force_constants(folder / "out" / "phonopy_params.yaml")
        assert written.primitive.get_masses() == pytest.approx([mass])
        assert f"mass: {mass:.6f}" in (folder / "out" / "phonopy_params.yaml").read_text()
        found[mass] = written.frequencies(np.array([[0.5, 0.5, 0.5]]))
    assert found[1.008].max() > 100
    assert found[2.0141] * np.sqrt(2.0141 / 1.008) == pytest.approx(found[1.008], rel=1e-6)


def test_third_order_for_phono3py(folder: Path) -> None:
    output = phonons(folder, "@fcc.extxyz", "--third", "3", "1", "1")
    assert "third order:" in output and "fc3.hdf5" in output
    with h5py.File(folder / "out" / "fc3.hdf5") as file:
        assert file["fc3"].shape == (1, 3, 3, 3, 3, 3) and np.abs(file["fc3"]).max() > 1
    with h5py.File(folder / "out" / "fc2.hdf5") as file:
        assert file["force_constants"].shape == (1, 8, 3, 3)
    assert "--third needs a STRUCTURE" in himlip(
        folder, "phonons", "--dyn", "@nothing", "--third", "2", "2", "2", status=2
    )


BORN = "14.4\n3 0 0 0 3 0 0 0 3\n1 0 0 0 1 0 0 0 1\n-1 0 0 0 -1 0 0 0 -1\n"


def test_charges_and_masses_reach_the_files_of_phono3py(folder: Path, monkeypatch) -> None:
    """phono3py need not be installed: its object is replaced by the constants that it would be made of."""
    written = []

    class Stub:
        def __init__(self, fc, third):
            written.append(fc)

        def save(self, path):
            path.write_text("")

    monkeypatch.setattr(phono3py_io, "find_spec", lambda name: True)
    monkeypatch.setattr(phono3py_io, "to_phono3py", Stub)
    (folder / "BORN").write_text(BORN)
    phonons(
        folder, "@off.extxyz", "--third", "1", "1", "1", "--born", str(folder / "BORN"), "--mass", "H=2.014",
        "--no-relax",
    )  # fmt: skip
    (fc,) = written
    assert fc.primitive.get_masses()[0] == pytest.approx(2.014)
    assert fc.born is not None and fc.born.charges[0] == pytest.approx(np.eye(3))
    own = read_force_constants(folder / "out" / "phonopy_params.yaml")
    assert np.allclose(own.compact, fc.compact) and np.allclose(own.born.charges, fc.born.charges)


@pytest.mark.parametrize(("typed", "limits"), [([], (1e-5, 1e-4)), (["--fmax", "1e-6"], (1e-6, 1e-6))])
def test_the_largest_force_that_was_given_holds_for_both(folder: Path, monkeypatch, typed, limits) -> None:
    seen = []

    def relaxed(atoms, calculator, pressure, fmax, **more):
        seen.append(fmax)
        return SimpleNamespace(atoms=atoms)

    def followed(atoms, calculator, dims, generations, pressure, fmax, **more):
        seen.append(fmax)
        raise InputError("far enough")

    monkeypatch.setattr(relaxation, "relax", relaxed)
    monkeypatch.setattr(follow, "follow_imaginary_modes", followed)
    assert "far enough" in phonons(folder, "@fcc.extxyz", "--follow", *typed, status=2)
    assert tuple(seen) == limits
