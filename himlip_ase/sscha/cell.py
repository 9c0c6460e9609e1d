"""Relaxing the cell of the quantum crystal to a pressure, by the strains that its symmetry allows.

The strain ε takes the cell vectors a to (1 + ε) a; centroids keep their fractional coordinates and the
force constants their indices.  The stress of the quantum crystal (Monacelli et al., PRB 98, 024106 (2018))
drives it: ε = -C⁻¹ (σ + P), with a stiffness C that begins as that of the static lattice and learns from
each population (Broyden's secant update).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.ensemble import Evaluate, checked
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

LARGEST_STRAIN = 0.02
"""Of one population: beyond it the force constants carried over are too far from their minimum."""

SOFTEST_GPA = 10.0
"""Stiffnesses below this, which a noisy or unstable lattice may suggest, count as this."""

NEGLIGIBLE_GPA = 0.01
"""A difference from the target pressure below this is never held against convergence."""

FINITE_STRAIN = 2e-3
"""Of the central differences for the static stiffness."""


def allowed_strains(rotations: Iterable[np.ndarray]) -> np.ndarray:
    """Orthonormal basis (k, 3, 3) of the symmetric strains that Cartesian `rotations` leave unchanged."""
    units = [np.zeros((3, 3)) for _ in range(6)]
    for unit, (i, j) in zip(units, [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)], strict=True):
        unit[i, j] = unit[j, i] = 1.0 if i == j else np.sqrt(0.5)
    turns = list(rotations)
    mean = np.array([sum(turn @ unit @ turn.T for turn in turns) / len(turns) for unit in units])
    projector = np.einsum("aij,bij->ab", np.array(units), mean)
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    return np.einsum("ak,aij->kij", vectors[:, values > 0.5], np.array(units))


def strained(dynamical: DynamicalMatrices, strain: np.ndarray) -> DynamicalMatrices:
    """The same Φ(q), by index, in a cell strained by a symmetric (3, 3) `strain`."""
    primitive = dynamical.primitive.copy()
    primitive.set_cell(primitive.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return DynamicalMatrices(primitive, dynamical.dims, dynamical.qpoints, dynamical.matrices)


def static_stiffness(supercell: Atoms, basis: np.ndarray, evaluate: Evaluate) -> np.ndarray:
    """Derivative (k, k) of the static lattice's stress with respect to strain, both along `basis`, eV/Å³.

    Parameters
    ----------
    supercell : Atoms
        On its centroids, whose fractional coordinates are kept.
    basis : ndarray, shape (k, 3, 3)
        From :func:`allowed_strains`.
    evaluate : callable
        Called once with 2k supercells.

    Raises
    ------
    InputError
        The callable gives no stress.
    """
    images = []
    for strain in basis:
        for sign in (1, -1):
            image = supercell.copy()
            image.set_cell(image.cell.array @ (np.eye(3) + sign * FINITE_STRAIN * strain), scale_atoms=True)
            images.append(image)
    found = checked(evaluate(images), images)
    if not found.has_stress:
        raise InputError("pressure_gpa needs stresses, and the force callable returns none")
    along = np.array([components(stress, basis) for stress in found.stresses]).reshape(len(basis), 2, -1)
    return ((along[:, 0] - along[:, 1]) / (2 * FINITE_STRAIN)).T


def components(stress: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Components (k,) along `basis` of a Voigt stress (6,)."""
    return np.einsum("kij,ij->k", basis, matrix_from_voigt(stress))


@dataclass(frozen=True)
class Load:
    """What drives the cell: σ + P along the allowed strains, and its standard error, eV/Å³, shape (k,)."""

    excess: np.ndarray
    sigma: np.ndarray

    def z(self, other: Load | None = None) -> float:
        """Largest excess over its error (joined with that of `other`)."""
        variance = self.sigma**2 + (0 if other is None else other.sigma**2)
        floor = NEGLIGIBLE_GPA / EV_PER_ANGSTROM3_GPA
        return float(np.max(np.abs(self.excess) / np.sqrt(variance + floor**2)))


def load(stress: np.ndarray, sigma: np.ndarray, basis: np.ndarray, pressure_gpa: float) -> Load:
    """Load of a Voigt stress (ASE's sign, eV/Å³) with the error `sigma` at a target pressure.

    Errors of components are added, not joined in quadrature: components equal by symmetry have one error.
    """
    target = -pressure_gpa / EV_PER_ANGSTROM3_GPA * np.array([1, 1, 1, 0, 0, 0])
    weights = basis[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * np.array([1, 1, 1, 2, 2, 2])
    return Load(weights @ (stress - target), np.abs(weights) @ sigma)


def next_strain(now: Load, stiffness: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Strain (3, 3) of the cell towards the target; zero where the load is within its error."""
    driving = np.where(np.abs(now.excess) > now.sigma, now.excess, 0.0)
    values, vectors = np.linalg.eigh((stiffness + stiffness.T) / 2)
    values = np.maximum(values, SOFTEST_GPA / EV_PER_ANGSTROM3_GPA)
    strain = np.einsum("k,kij->ij", -vectors @ (vectors.T @ driving / values), basis)
    return strain * min(1.0, LARGEST_STRAIN / max(float(np.linalg.norm(strain)), 1e-12))


def secant_update(
    stiffness: np.ndarray, strain: np.ndarray, before: Load, after: Load, basis: np.ndarray
) -> np.ndarray:
    """Broyden's update of the stiffness from what a strain (3, 3) changed, if that exceeds the noise."""
    moved = np.einsum("kij,ij->k", basis, strain)
    change = after.excess - before.excess
    noise = np.sqrt((before.sigma**2 + after.sigma**2).sum())
    if np.linalg.norm(change) <= 3 * noise or moved @ moved == 0:
        return stiffness
    return stiffness + np.outer(change - stiffness @ moved, moved) / (moved @ moved)


def pressure_gpa(stress: np.ndarray, sigma: np.ndarray) -> tuple[float, float]:
    """Pressure and its standard error in GPa of a Voigt stress in eV/Å³ (errors of xx, yy, zz added)."""
    return (
        float(-stress[:3].mean() * EV_PER_ANGSTROM3_GPA),
        float(sigma[:3].mean() * EV_PER_ANGSTROM3_GPA),
    )
