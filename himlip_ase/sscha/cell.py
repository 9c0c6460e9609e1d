"""Relaxing the cell of the quantum crystal to a pressure, by the strains that its symmetry allows.

The strain ε takes the cell vectors a to (1 + ε) a; centroids keep their fractional coordinates and the
force constants their indices.  The stress of the quantum crystal (Monacelli et al., PRB 98, 024106 (2018))
drives it: ε = -C⁻¹ (σ + P), with a stiffness C that begins as that of the static lattice and learns from
each population (Broyden's secant update).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.evaluation import Evaluate, checked
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
    """The same Φ(q), by index, in a cell strained by a symmetric (3, 3) `strain`.

    Parameters
    ----------
    dynamical : DynamicalMatrices
    strain : ndarray, shape (3, 3)
        Symmetric, without unit.

    Returns
    -------
    DynamicalMatrices
        Atoms keep their fractional coordinates.
    """
    primitive = dynamical.primitive.copy()
    primitive.set_cell(primitive.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return replace(dynamical, primitive=primitive)


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

    Returns
    -------
    ndarray, shape (k, k)
        eV/Å³.

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
    """Components (k,) along `basis` of a Voigt stress (6,).

    Parameters
    ----------
    stress : ndarray, shape (6,)
    basis : ndarray, shape (k, 3, 3)
        From :func:`allowed_strains`.

    Returns
    -------
    ndarray, shape (k,)
        In the unit of `stress`.
    """
    return np.einsum("kij,ij->k", basis, matrix_from_voigt(stress))


@dataclass(frozen=True)
class ExcessStress:
    """What drives the cell: σ + P along the allowed strains.

    Attributes
    ----------
    excess, sigma : ndarray, shape (k,)
        eV/Å³, and its standard error.
    """

    excess: np.ndarray
    sigma: np.ndarray

    def z(self, other: ExcessStress | None = None) -> float:
        """Largest excess over its error (joined with that of `other`)."""
        variance = self.sigma**2 + (0 if other is None else other.sigma**2)
        floor = NEGLIGIBLE_GPA / EV_PER_ANGSTROM3_GPA
        return float(np.max(np.abs(self.excess) / np.sqrt(variance + floor**2)))


def excess_stress(
    stress: np.ndarray, sigma: np.ndarray, basis: np.ndarray, pressure_gpa: float
) -> ExcessStress:
    """Excess stress of a Voigt stress (ASE's sign, eV/Å³) with the error `sigma` at a target pressure.

    Errors of components are added, not joined in quadrature: components equal by symmetry have one error.

    Parameters
    ----------
    stress, sigma : ndarray, shape (6,)
        eV/Å³, positive in tension, and its standard error.
    basis : ndarray, shape (k, 3, 3)
        From :func:`allowed_strains`.
    pressure_gpa : float
        Wanted, GPa.

    Returns
    -------
    ExcessStress
    """
    target = -pressure_gpa / EV_PER_ANGSTROM3_GPA * np.array([1, 1, 1, 0, 0, 0])
    weights = basis[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * np.array([1, 1, 1, 2, 2, 2])
    return ExcessStress(weights @ (stress - target), np.abs(weights) @ sigma)


def next_strain(now: ExcessStress, stiffness: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Strain (3, 3) of the cell towards the target; zero where the load is within its error.

    Parameters
    ----------
    now : ExcessStress
    stiffness : ndarray, shape (k, k)
        eV/Å³.
    basis : ndarray, shape (k, 3, 3)

    Returns
    -------
    ndarray, shape (3, 3)
        Of a size of at most :data:`LARGEST_STRAIN`.
    """
    driving = np.where(np.abs(now.excess) > now.sigma, now.excess, 0.0)
    values, vectors = np.linalg.eigh((stiffness + stiffness.T) / 2)
    values = np.maximum(values, SOFTEST_GPA / EV_PER_ANGSTROM3_GPA)
    strain = np.einsum("k,kij->ij", -vectors @ (vectors.T @ driving / values), basis)
    return strain * min(1.0, LARGEST_STRAIN / max(float(np.linalg.norm(strain)), 1e-12))


def secant_update(
    stiffness: np.ndarray, strain: np.ndarray, before: ExcessStress, after: ExcessStress, basis: np.ndarray
) -> np.ndarray:
    """Broyden's update of the stiffness from what a strain (3, 3) changed, if that exceeds the noise.

    Parameters
    ----------
    stiffness : ndarray, shape (k, k)
        So far, eV/Å³.
    strain : ndarray, shape (3, 3)
        Made between the two.
    before, after : ExcessStress
    basis : ndarray, shape (k, 3, 3)

    Returns
    -------
    ndarray, shape (k, k)
        eV/Å³.
    """
    moved = np.einsum("kij,ij->k", basis, strain)
    change = after.excess - before.excess
    noise = np.sqrt((before.sigma**2 + after.sigma**2).sum())
    if np.linalg.norm(change) <= 3 * noise or moved @ moved == 0:
        return stiffness
    return stiffness + np.outer(change - stiffness @ moved, moved) / (moved @ moved)


def pressure_gpa(stress: np.ndarray, sigma: np.ndarray) -> tuple[float, float]:
    """Pressure and its standard error in GPa of a Voigt stress in eV/Å³ (errors of xx, yy, zz added).

    Parameters
    ----------
    stress, sigma : ndarray, shape (6,)
        ASE Voigt, eV/Å³, positive in tension, and its standard error.

    Returns
    -------
    value, sigma : float
        GPa, positive in compression.
    """
    return (
        float(-stress[:3].mean() * EV_PER_ANGSTROM3_GPA),
        float(sigma[:3].mean() * EV_PER_ANGSTROM3_GPA),
    )


@dataclass(frozen=True, eq=False)
class CellRelaxation:
    """What relaxing the cell has learnt up to a population.

    Attributes
    ----------
    basis : ndarray, shape (k, 3, 3)
        From :func:`allowed_strains`.
    stiffness : ndarray, shape (k, k)
        eV/Å³.
    excess, sigma : ndarray, shape (k,)
        :class:`ExcessStress` of the population.
    strain : ndarray, shape (3, 3)
        Of the cell from this population to the next.
    """

    basis: np.ndarray
    stiffness: np.ndarray
    excess: np.ndarray
    sigma: np.ndarray
    strain: np.ndarray

    @property
    def excess_stress(self) -> ExcessStress:
        """What drove the cell in this population."""
        return ExcessStress(self.excess, self.sigma)

    @classmethod
    def begin(
        cls,
        stress: tuple[np.ndarray, np.ndarray],
        target_gpa: float,
        basis: np.ndarray,
        stiffness: np.ndarray,
    ) -> CellRelaxation:
        """After the first population.

        Parameters
        ----------
        stress : tuple of ndarray, shape (6,)
            Of the quantum crystal and its standard error, ASE Voigt, eV/Å³.
        target_gpa : float
            Pressure wanted, GPa.
        basis, stiffness : ndarray
            From :func:`allowed_strains` and :func:`static_stiffness`.
        """
        now = excess_stress(*stress, basis, target_gpa)
        return cls(basis, stiffness, now.excess, now.sigma, next_strain(now, stiffness, basis))

    def next(self, stress: tuple[np.ndarray, np.ndarray], target_gpa: float) -> CellRelaxation:
        """After the population that followed; parameters as :meth:`begin`.

        Parameters
        ----------
        stress : tuple of ndarray, shape (6,)
            Of the quantum crystal and its standard error, ASE Voigt, eV/Å³.
        target_gpa : float
            Pressure wanted, GPa.
        """
        now = excess_stress(*stress, self.basis, target_gpa)
        stiffness = secant_update(self.stiffness, self.strain, self.excess_stress, now, self.basis)
        return CellRelaxation.begin(stress, target_gpa, self.basis, stiffness)
