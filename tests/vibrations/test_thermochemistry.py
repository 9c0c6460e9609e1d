"""ASE's vibrational data and thermochemistry against ASE's own finite differences."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixedLine, FixedPlane, FixScaled
from ase.thermochemistry import IdealGasThermo
from ase.vibrations import Vibrations

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.relaxation import relax
from himlip_ase.units import EV_CM, signed_frequencies_cm
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


def reduced_frequencies(atoms: Atoms, calc: HiMLIPCalculator, basis: np.ndarray) -> np.ndarray:
    """cm⁻¹ of the coordinates that are left, the rows of an orthonormal `basis` (k, 3N)."""
    n = len(atoms)
    roots = np.sqrt(np.repeat(atoms.get_masses(), 3))
    matrix = calc.get_hessian(atoms).reshape(3 * n, 3 * n) / roots / roots[:, None]
    return signed_frequencies_cm(np.linalg.eigvalsh(basis @ matrix @ basis.T))


def test_case_A3_atoms_may_be_named_in_any_order_or_by_a_mask(water) -> None:
    atoms, calc = water
    reference = vibrations_data(atoms, calc, indices=[0, 1]).get_energies()
    expected = reduced_frequencies(atoms, calc, np.eye(9)[:6]) / EV_CM
    assert np.abs(np.sort(reference.real) - np.maximum(expected, 0)).max() < 1e-6
    for indices in ([1, 0], [-2, 0], np.array([True, True, False]), [True, True, False]):
        found = vibrations_data(atoms, calc, indices=indices)
        assert np.abs(found.get_energies() - reference).max() < 1e-12
        assert found.get_indices().tolist() == [0, 1]
        zero_point = harmonic_limit(atoms, calc, indices).get_ZPE_correction()
        assert zero_point == pytest.approx(reference.real.sum() / 2, rel=1e-9)
    for wrong in ([0, 0], [0, -3], [3], [0.5], [True, False]):
        with pytest.raises(InputError):
            vibrations_data(atoms, calc, indices=wrong)


@pytest.mark.parametrize(
    ("constraint", "fixed"),
    [
        (FixCartesian([1], (True, False, False)), [[1, 0, 0]]),
        (FixedPlane([1], (0, 0, 2.0)), [[0, 0, 1]]),
        (FixedLine([1], (1.0, 1.0, 0)), [[1, -1, 0], [0, 0, 1]]),
        (FixScaled([1], (False, True, True)), [[1, -1, 0], [0, 0, 1]]),
    ],
)
def test_atoms_that_are_held_in_some_directions(water, constraint, fixed) -> None:
    """The vibrations of the coordinates that are left, and a mode of zero frequency for each that is not."""
    molecule, calc = water
    atoms = molecule.copy()
    atoms.cell = [[6.0, 6.0, 0], [0, 8.0, 0.1], [0, 0, 9.0]]
    if isinstance(constraint, FixScaled):
        atoms.cell = [[6.0, 6.0, 0], [-6.0, 6.0, 0], [0, 0, 9.0]]
    atoms.set_constraint([FixAtoms([0]), constraint])
    rows = np.zeros((len(fixed), 9))
    rows[:, 3:6] = np.array(fixed) / np.linalg.norm(fixed, axis=1)[:, None]
    held = np.vstack([np.eye(9)[:3], rows])
    basis = np.linalg.svd(held)[2][len(held) :]
    bare = atoms.copy()
    bare.set_constraint()
    expected = reduced_frequencies(bare, calc, basis)
    found = vibrations_data(atoms, calc)
    assert found.get_indices().tolist() == [1, 2]
    energies = found.get_energies()
    values = np.sort(energies.real - energies.imag) * EV_CM
    assert np.abs(values - np.sort(np.append(expected, np.zeros(len(fixed))))).max() < 0.1
    if (expected > 1).all():
        assert len(harmonic_limit(atoms, calc).vib_energies) == len(basis)


def test_constraints_that_are_not_directions_are_refused(water) -> None:
    atoms, calc = water
    held = atoms.copy()
    held.set_constraint(FixBondLengths([[0, 1]]))
    with pytest.raises(InputError, match="FixBondLengths"):
        vibrations_data(held, calc)
    assert vibrations_data(held, calc, indices=[1]).get_energies().shape == (3,)


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
