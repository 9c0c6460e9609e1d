"""ASE's vibrational data and thermochemistry against ASE's own finite differences."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.thermochemistry import IdealGasThermo
from ase.vibrations import Vibrations

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.relaxation import relax
from himlip_ase.vibrations.thermochemistry import harmonic_limit, ideal_gas, vibrations_data

from ..potential.zoo import h3s, rattled, small_model


class Springs(HiMLIPCalculator):
    """The small model with springs between the atoms of a molecule, which give it a minimum."""

    def __init__(self, atoms: Atoms, stiffness: float = 30.0) -> None:
        super().__init__(small_model())
        i, j = np.triu_indices(len(atoms), 1)
        self.pairs, self.stiffness = (i, j), stiffness
        self.lengths = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)

    def _spring(self, positions: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        n = len(positions)
        forces, hessian = np.zeros((n, 3)), np.zeros((n, 3, n, 3))
        energy = 0.0
        for i, j, length in zip(*self.pairs, self.lengths, strict=True):
            vector = positions[i] - positions[j]
            r = np.linalg.norm(vector)
            unit = vector / r
            energy += 0.5 * self.stiffness * (r - length) ** 2
            forces[i] -= self.stiffness * (r - length) * unit
            forces[j] += self.stiffness * (r - length) * unit
            along = np.outer(unit, unit)
            block = self.stiffness * (along + (1 - length / r) * (np.eye(3) - along))
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                hessian[a, :, b] += sign * block
        return energy, forces, hessian

    def calculate(self, atoms=None, properties=None, system_changes=None) -> None:
        super().calculate(atoms, properties, system_changes or ["positions"])
        energy, forces, _ = self._spring(self.atoms.positions)
        self.results["energy"] += energy
        self.results["free_energy"] += energy
        self.results["forces"] = self.results["forces"] + forces

    def hessian_vector_product(self, atoms: Atoms, v: np.ndarray) -> np.ndarray:
        hessian = self._spring(atoms.positions)[2]
        return super().hessian_vector_product(atoms, v) + np.einsum("iajb,...jb->...ia", hessian, v)

    def get_hessian(self, atoms=None, indices=None, symmetry=False) -> np.ndarray:
        rows = super().get_hessian(atoms, indices, symmetry)
        if symmetry:
            return rows
        return (
            rows + self._spring(atoms.positions)[2][list(range(len(atoms)) if indices is None else indices)]
        )


@pytest.fixture(scope="module")
def water() -> tuple[Atoms, Springs]:
    """A relaxed bent molecule, H2S."""
    atoms = Atoms("SH2", positions=[[0, 0, 0], [0.97, 0.93, 0], [-0.97, 0.93, 0]])
    calc = Springs(atoms)
    return relax(atoms, calc, fmax=1e-6).atoms, calc


def test_vibrations_are_those_of_ase(water, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms, calc = water
    monkeypatch.chdir(tmp_path)
    subject = atoms.copy()
    subject.calc = calc
    theirs = Vibrations(subject, delta=1e-3, nfree=4)
    theirs.run()
    ours = vibrations_data(atoms, calc)
    expected = theirs.get_vibrations()
    assert np.abs(ours.get_hessian() - expected.get_hessian()).max() < 1e-4
    assert np.allclose(ours.get_frequencies()[6:], expected.get_frequencies()[6:], atol=0.05)
    assert ours.get_zero_point_energy() == pytest.approx(expected.get_zero_point_energy(), rel=1e-4)
    ours.write(tmp_path / "vibrations.json")
    assert ours.read(tmp_path / "vibrations.json").get_hessian().shape == (3, 3, 3, 3)


def test_constraints_and_indices_choose_what_vibrates(water) -> None:
    atoms, calc = water
    held = atoms.copy()
    held.set_constraint(FixAtoms([0]))
    found = vibrations_data(held, calc)
    assert found.get_indices().tolist() == [1, 2]
    full = calc.get_hessian(atoms)
    assert np.abs(found.get_hessian() - full[1:, :, 1:]).max() < 1e-9
    assert np.abs(vibrations_data(atoms, calc, [2]).get_hessian() - full[2:, :, 2:]).max() < 1e-9
    held.set_constraint(FixAtoms([0, 1, 2]))
    with pytest.raises(InputError, match="no atom is free"):
        vibrations_data(held, calc)


def test_gibbs_energy_of_a_molecule(water) -> None:
    atoms, calc = water
    found = ideal_gas(atoms, calc)
    energies = vibrations_data(atoms, calc).get_energies()
    expected = IdealGasThermo(
        list(energies), "nonlinear", calc.get_property("energy", atoms), atoms, symmetrynumber=2, spin=0
    )
    gibbs = found.get_gibbs_energy(298.15, 101325.0, verbose=False)
    assert gibbs == pytest.approx(expected.get_gibbs_energy(298.15, 101325.0, verbose=False), abs=1e-4)
    assert found.get_ZPE_correction() > 0.1


def test_linear_molecule_has_its_symmetry_number() -> None:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.0]])
    calc = Springs(atoms, 60.0)
    found = ideal_gas(relax(atoms, calc, fmax=1e-6).atoms, calc)
    one = ideal_gas(relax(atoms, calc, fmax=1e-6).atoms, calc, symmetry_number=1)
    extra = found.get_entropy(300.0, 1e5, verbose=False) - one.get_entropy(300.0, 1e5, verbose=False)
    assert extra == pytest.approx(-8.617333e-5 * np.log(2), rel=1e-4)


def test_frozen_surroundings(water) -> None:
    atoms, calc = water
    found = harmonic_limit(atoms, calc, indices=[1])
    energies = vibrations_data(atoms, calc, [1]).get_energies()
    if np.any(energies.imag > 1e-4):
        pytest.fail("the toy molecule should hold its atoms")
    assert found.get_ZPE_correction() == pytest.approx(energies.real.sum() / 2, rel=1e-6)


def test_what_is_no_minimum_is_said(caplog: pytest.LogCaptureFixture) -> None:
    calc = HiMLIPCalculator(small_model())
    atoms = Atoms("SH2", positions=[[0, 0, 0], [1.2, 0.93, 0], [-0.97, 0.93, 0]])
    with caplog.at_level(logging.WARNING, logger="himlip_ase"):
        vibrations_data(atoms, calc)
    assert "not a stationary point" in caplog.text
    with pytest.raises(InputError, match="pbc"):
        ideal_gas(rattled(h3s()), calc)
    with pytest.raises(InputError, match="imaginary"):
        ideal_gas(
            Atoms("H2", positions=[[0, 0, 0], [0, 0, 2.2]]),
            Springs(Atoms("H2", [[0, 0, 0], [0, 0, 2.2]]), -1.0),
        )
