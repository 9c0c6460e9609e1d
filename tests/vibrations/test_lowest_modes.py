"""Normal modes, and the softest ones without a Hessian."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase import Atoms

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.labels.hessian_file import StoredHessian
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.vibrations.lowest_modes import lowest_modes
from himlip_ase.vibrations.normal_modes import normal_modes
from himlip_ase.vibrations.rigid_motions import rigid_motions

from ..phonons.springs import zincblende
from ..potential.zoo import h3s, rattled, small_model
from .molecules import exact, of_sulfur_and_hydrogen


class Matrix:
    """A calculator whose Hessian is known."""

    def __init__(self, hessian: np.ndarray) -> None:
        self.hessian = hessian
        self.products = 0

    def hessian_vector_product(self, atoms: Atoms, v: np.ndarray) -> np.ndarray:
        self.products += len(v)
        return np.einsum("iajb,kjb->kia", self.hessian, v)


@pytest.fixture(scope="module")
def crystal() -> tuple[Atoms, np.ndarray]:
    """54 atoms on springs: every mode but those at Γ is degenerate."""
    springs = zincblende()
    dims = (3, 3, 3)
    empty = ForceConstants(springs.atoms, dims, np.zeros((2, 54, 3, 3)))
    return empty.supercell, springs.hessian(empty.supercell)


@pytest.mark.parametrize("n", [1, 7, 20])
def test_degenerate_modes_of_a_crystal(crystal, n: int) -> None:
    atoms, hessian = crystal
    calc = Matrix(hessian)
    found = lowest_modes(atoms, calc, n)
    dense = normal_modes(atoms, hessian)
    assert np.abs(found.frequencies - dense.frequencies[:n]).max() < 1e-6
    assert found.converged and found.errors.max() < 1e-2
    assert found.products == calc.products < 3 * len(atoms)
    modes = found.modes.reshape(n, -1)
    assert np.allclose(modes @ modes.T, np.eye(n), atol=1e-10)
    assert np.abs(modes @ rigid_motions(atoms)).max() < 1e-8


def test_disordered_supercell_with_imaginary_modes() -> None:
    atoms = rattled(h3s().repeat((2, 2, 2)), 0.1)
    calc = HiMLIPCalculator(small_model())
    dense = normal_modes(atoms, calc.get_hessian(atoms))
    found = lowest_modes(atoms, calc, 4, tolerance_cm=1e-1)
    assert dense.frequencies[0] < 0
    assert np.abs(found.frequencies - dense.frequencies[:4]).max() < 1e-4
    assert np.all(np.abs(found.frequencies - dense.frequencies[:4]) <= found.errors + 1e-9)
    overlap = found.modes.reshape(4, -1) @ dense.modes.reshape(-1, 96)[:4].T
    assert np.allclose(np.abs(overlap), np.eye(4), atol=1e-3)


def test_molecule_without_its_rigid_motions() -> None:
    atoms = of_sulfur_and_hydrogen(exact("C2H6"))
    calc = HiMLIPCalculator(small_model())
    dense = normal_modes(atoms, calc.get_hessian(atoms))
    assert len(dense.frequencies) == 18
    found = lowest_modes(atoms, calc, 18, tolerance_cm=1e-3)
    assert np.abs(found.frequencies - dense.frequencies).max() < 1e-6


def test_stopped_early_is_said(crystal, caplog: pytest.LogCaptureFixture) -> None:
    atoms, hessian = crystal
    with caplog.at_level(logging.WARNING, logger="himlip_ase"):
        found = lowest_modes(atoms, Matrix(hessian), 5, max_products=12)
    assert not found.converged and "not converged" in caplog.text and found.products <= 14


def test_refusals(crystal) -> None:
    atoms, hessian = crystal
    with pytest.raises(InputError, match="between 1 and 159"):
        lowest_modes(atoms, Matrix(hessian), 160)
    with pytest.raises(InputError, match="tolerance_cm"):
        lowest_modes(atoms, Matrix(hessian), 1, tolerance_cm=0.0)
    with pytest.raises(InputError, match="shape"):
        normal_modes(atoms, hessian[:3])


@pytest.mark.parametrize(("name", "count"), [("CO2", 5), ("H2O", 6), ("CO", 5)])
def test_rigid_motions(name: str, count: int) -> None:
    atoms = exact(name)
    rigid = rigid_motions(atoms)
    assert rigid.shape == (3 * len(atoms), count)
    assert np.allclose(rigid.T @ rigid, np.eye(count), atol=1e-12)
    assert rigid_motions(Atoms("H")).shape == (3, 3)


def test_normal_modes_of_a_crystal_are_its_frequencies(crystal) -> None:
    atoms, hessian = crystal
    found = normal_modes(atoms, hessian)
    every = StoredHessian(atoms, hessian, np.arange(len(atoms))).frequencies()
    assert np.allclose(found.frequencies, every[3:], atol=1e-5) and found.rigid < 1e-3
    assert found.zero_point_energy == pytest.approx(0.5 * found.frequencies.sum() / 8065.544, rel=1e-6)
