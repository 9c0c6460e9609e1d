"""himlip predict, relax and hessian, and the files they write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from typer.testing import CliRunner

from himlip_ase import HiMLIPCalculator
from himlip_ase.cli.app import app
from himlip_ase.errors import InputError, NotConvergedError
from himlip_ase.labels.hessian_file import StoredHessian, read_hessian, write_hessian
from himlip_ase.potential.checkpoint import save_model
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from himlip_ase.relaxation import relax

from .zoo import h2s, h3s, rattled, small_model, tiny

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(small_model(), tmp_path / "toy.safetensors", {})
    write(tmp_path / "two.extxyz", [rattled(h3s(), seed=seed) for seed in (1, 2)])
    write(tmp_path / "h2s.xyz", h2s())
    return tmp_path


def himlip(folder: Path, *arguments: str, status: int = 0) -> str:
    result = runner.invoke(app, ["-q", *(argument.replace("@", f"{folder}/") for argument in arguments)])
    assert result.exit_code == status, result.output
    return result.output


def test_predict_writes_what_the_calculator_says(folder: Path) -> None:
    himlip(
        folder, "predict", "@two.extxyz", "@h2s.xyz", "--model", "@toy.safetensors", "--out", "@out.extxyz"
    )
    found = read(folder / "out.extxyz", ":")
    assert [len(atoms) for atoms in found] == [4, 4, 3]
    expected = HiMLIPCalculator(small_model()).evaluate(read(folder / "two.extxyz", ":"))
    assert np.allclose([atoms.get_potential_energy() for atoms in found[:2]], expected.energies, rtol=1e-12)
    assert np.allclose(found[1].get_forces(), expected.forces[1], atol=1e-7)
    assert np.allclose(found[1].get_stress(), expected.stresses[1], atol=1e-12)
    assert "stress" not in found[2].calc.results


def test_case_A6_old_results_in_a_trajectory_are_of_no_account(folder: Path) -> None:
    """A .traj that carries an energy in info, forces in arrays and another calculator's results."""
    old = read(folder / "two.extxyz", 0)
    old.info |= {"energy": -319.0, "stress": np.ones(6), "note": "kept"}
    old.arrays["forces"] = np.ones((4, 3))
    old.calc = SinglePointCalculator(old, energy=7.0, forces=np.ones((4, 3)))
    write(folder / "old.traj", old)
    himlip(folder, "predict", "@old.traj", "--model", "@toy.safetensors", "--out", "@out.extxyz")
    found = read(folder / "out.extxyz")
    expected = HiMLIPCalculator(small_model()).evaluate(old)
    assert found.get_potential_energy() == pytest.approx(expected.energies[0], rel=1e-12)
    assert np.allclose(found.get_forces(), expected.forces[0], atol=1e-7)
    assert found.info["note"] == "kept"


def test_what_cannot_be_written_is_said_before_the_work(folder: Path) -> None:
    for command in ("predict", "relax"):
        output = himlip(folder, command, "@h2s.xyz", "-m", "@toy.safetensors", "-o", "@out.cif", status=2)
        assert "out.extxyz" in output
    output = himlip(
        folder, "predict", "@h2s.xyz", "-m", "@toy.safetensors", "-o", "@o.extxyz", "--device", "cuda:9",
        status=2,
    )  # fmt: skip
    assert "--device cpu" in output


def test_phonons_of_a_slab_are_refused_before_the_work(folder: Path) -> None:
    slab = h3s()
    slab.pbc = (True, True, False)
    write(folder / "slab.extxyz", slab)
    output = himlip(
        folder, "phonons", "@slab.extxyz", "--model", "@toy.safetensors", "--out", "@phonons", status=2
    )
    assert "himlip hessian" in output and not (folder / "phonons").exists()


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    (folder / "out.extxyz").write_text("precious")
    (folder / "out.npz").write_text("precious")
    for command, out in (("predict", "@out.extxyz"), ("relax", "@out.extxyz"), ("hessian", "@out.npz")):
        output = himlip(folder, command, "@h2s.xyz", "-m", "@toy.safetensors", "-o", out, status=2)
        assert "--overwrite" in output
    assert (folder / "out.extxyz").read_text() == (folder / "out.npz").read_text() == "precious"
    himlip(folder, "predict", "@h2s.xyz", "-m", "@toy.safetensors", "-o", "@out.extxyz", "--overwrite")
    assert len(read(folder / "out.extxyz")) == 3


def test_bad_input_is_one_sentence(folder: Path) -> None:
    (folder / "noise.cif").write_text("noise")
    himlip(folder, "predict", "@noise.cif", "-m", "@toy.safetensors", "-o", "@o.extxyz", status=2)
    himlip(folder, "predict", "@nothing.cif", "-m", "@toy.safetensors", "-o", "@o.extxyz", status=2)
    himlip(folder, "predict", "@h2s.xyz", "-m", "@toy.safetensors", "-o", "@o.cif", status=2)
    himlip(folder, "hessian", "@h2s.xyz", "-m", "@toy.safetensors", "-o", "@o.txt", status=2)
    himlip(folder, "hessian", "@h2s.xyz", "-m", "@toy.safetensors", "-o", "@o.h5", "--atom", "7", status=2)
    assert not list(folder.glob("o.*"))


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_hessian_file(folder: Path, suffix: str) -> None:
    himlip(folder, "hessian", "@h2s.xyz", "-m", "@toy.safetensors", "-o", f"@out.{suffix}")
    stored = read_hessian(folder / f"out.{suffix}")
    expected = HiMLIPCalculator(small_model()).get_hessian(read(folder / "h2s.xyz"))
    assert np.allclose(stored.hessian, expected, atol=1e-10) and stored.model == "toy"
    frequencies = stored.frequencies()
    assert len(frequencies) == 9 and np.abs(frequencies).min() < 1e-2


def test_hessian_file_keeps_isotopes_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    atoms = h2s()
    atoms.set_masses([31.97, 2.014, 2.014])
    rows = StoredHessian(atoms, np.ones((1, 3, 3, 3)), np.array([1]))
    write_hessian(tmp_path / "a.npz", rows)
    assert np.array_equal(read_hessian(tmp_path / "a.npz").atoms.get_masses(), atoms.get_masses())
    with pytest.raises(InputError, match="all 3 atoms"):
        rows.frequencies()
    with pytest.raises(InputError, match="shape"):
        write_hessian(tmp_path / "b.npz", StoredHessian(atoms, np.ones((9, 9)), np.arange(3)))
    (tmp_path / "c.h5").write_text("noise")
    with pytest.raises(InputError, match=r"c\.h5"):
        read_hessian(tmp_path / "c.h5")


def repulsive() -> HiMLIPCalculator:
    """Untrained: pure repulsion, whose relaxed crystal is set by the pressure alone."""
    return HiMLIPCalculator(HiMLIP(HiMLIPConfig(("H", "S"), cutoff=3.5, channels=2, hidden=4, layers=1)))


def test_relaxation_to_a_pressure() -> None:
    atoms = tiny()
    before = atoms.positions.copy(), atoms.cell.array.copy()
    found = relax(atoms, repulsive(), pressure_gpa=5.0, fmax=1e-3, steps=200, keep_symmetry=True)
    assert found.pressure_gpa == pytest.approx(5.0, abs=0.2)
    assert found.stress is not None and np.abs(found.stress[3:]).max() < 0.02
    assert np.array_equal(atoms.positions, before[0]) and np.array_equal(atoms.cell.array, before[1])


def test_relaxation_refuses_and_does_not_pretend() -> None:
    with pytest.raises(InputError, match="pbc"):
        relax(h2s(), repulsive(), pressure_gpa=1.0)
    with pytest.raises(InputError, match="fmax"):
        relax(h2s(), repulsive(), fmax=0.0)
    with pytest.raises(NotConvergedError, match="1 steps"):
        relax(rattled(h3s(), 0.2), repulsive(), steps=1)


def test_relaxation_honours_constraints() -> None:
    atoms = Atoms("H3", positions=[[0, 0, 0], [0, 0, 0.6], [0.5, 0, 0.3]])
    atoms.set_constraint(FixAtoms([0]))
    found = relax(atoms, repulsive(), fmax=0.05)
    assert np.array_equal(found.atoms.positions[0], [0, 0, 0])
    assert np.abs(found.atoms.positions[1:] - atoms.positions[1:]).max() > 0.1
