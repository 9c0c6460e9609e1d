"""Softest modes of structures that are too large for a dense Hessian."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.symmetry.irreducible import Products
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, signed_frequencies_cm
from himlip_ase.vibrations.davidson import lowest_eigenpairs
from himlip_ase.vibrations.rigid_motions import rigid_motions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LowestModes:
    """The softest vibrations of a structure at Γ.

    Attributes
    ----------
    frequencies : ndarray (n,)
        cm⁻¹, ascending, imaginary negative; rigid motions left out.
    modes : ndarray (n, N, 3)
        Orthonormal eigenvectors of the mass-weighted Hessian; divide by √mass for displacements.
    residuals : ndarray (n,)
        ‖D x − λ x‖ in eV/Å²/amu.
    errors : ndarray (n,)
        cm⁻¹; an eigenfrequency lies within this of each value (the true error is about its square over
        the distance to the next mode, so much smaller).
    products : int
        Hessian-vector products taken.
    converged : bool
        Whether all errors are below what was asked for.
    """

    frequencies: np.ndarray
    modes: np.ndarray
    residuals: np.ndarray
    errors: np.ndarray
    products: int
    converged: bool


def lowest_modes(
    atoms: Atoms,
    calculator: Any,
    n: int = 6,
    tolerance_cm: float = 1e-2,
    max_products: int | None = None,
    seed: int = 0,
) -> LowestModes:
    """Softest modes from Hessian-vector products, without the Hessian.

    Translations, and the rotations of a molecule, are projected out. They are exact modes of zero frequency
    at a stationary point; elsewhere the projected modes are those within a rigid frame.

    Parameters
    ----------
    atoms : Atoms
        Constraints are ignored; masses count.
    calculator : object
        With ``hessian_vector_product(atoms, v)``; `HiMLIPCalculator.recorded_products` is used where it is.
    n : int
        Modes wanted.
    tolerance_cm : float
        Largest error bound of a frequency, cm⁻¹.
    max_products : int, optional
        By default 3N, what a dense Hessian costs.
    seed : int
        Of the first vectors.

    Returns
    -------
    LowestModes

    Raises
    ------
    InputError
        `n` below 1 or above the number of vibrations, or a tolerance that is not positive.
    """
    masses = np.repeat(atoms.get_masses(), 3)
    rigid = rigid_motions(atoms)
    vibrations = 3 * len(atoms) - rigid.shape[1]
    if not 1 <= n <= vibrations:
        raise InputError(f"n must lie between 1 and {vibrations}, the number of vibrations; got {n}")
    if not tolerance_cm > 0:
        raise InputError(f"tolerance_cm must be positive; got {tolerance_cm}")
    if hasattr(calculator, "recorded_products"):
        products: Products = calculator.recorded_products(atoms)
    else:
        products = partial(calculator.hessian_vector_product, atoms)

    def project(vectors: np.ndarray) -> np.ndarray:
        return vectors - rigid @ (rigid.T @ vectors)

    def operator(vectors: np.ndarray) -> np.ndarray:
        return project(mass_weighted(products, vectors, masses))

    def allowed(values: np.ndarray) -> np.ndarray:
        roots = np.sqrt(np.abs(values)) * SQRT_EV_PER_ANGSTROM2_AMU_CM
        return ((roots + tolerance_cm) ** 2 - roots**2) / SQRT_EV_PER_ANGSTROM2_AMU_CM**2

    start = np.random.default_rng(seed).normal(size=(3 * len(atoms), min(vibrations, n + 3)))
    found = lowest_eigenpairs(operator, start, n, allowed, project, max_products or 3 * len(atoms))
    roots = np.sqrt(np.abs(found.values)) * SQRT_EV_PER_ANGSTROM2_AMU_CM
    bounds = np.sqrt(roots**2 + found.residuals * SQRT_EV_PER_ANGSTROM2_AMU_CM**2) - roots
    if not found.converged:
        logger.warning(
            "the lowest modes are not converged after %d products: error bound up to %.1e cm⁻¹",
            found.products, bounds.max(),
        )  # fmt: skip
    return LowestModes(
        signed_frequencies_cm(found.values),
        found.vectors.T.reshape(n, len(atoms), 3),
        found.residuals,
        bounds,
        found.products,
        found.converged,
    )


def mass_weighted(products: Products, vectors: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Products (3N, k) of the mass-weighted Hessian, eV/Å²/amu, with the columns of `vectors` (3N, k).

    Parameters
    ----------
    products : callable
        Hessian-vector products, (K, N, 3) → (K, N, 3) in eV/Å².
    vectors : ndarray (3N, k)
    masses : ndarray (3N,)
        amu, one for each coordinate.

    Returns
    -------
    ndarray (3N, k)
        eV/Å²/amu.
    """
    roots = np.sqrt(masses)
    fields = (vectors / roots[:, None]).T.reshape(vectors.shape[1], -1, 3)
    return products(fields).reshape(vectors.shape[1], -1).T / roots[:, None]
