"""Structures to be labelled: Gaussian displacements, and displacements along one mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices, acoustic, mass_reduced
from himlip_ase.units import signed_frequencies_cm


def rattle(atoms: Atoms, count: int, stdev: float, seed: int, mass_scaled: bool = False) -> list[Atoms]:
    """Copies of a structure with independent Gaussian displacements.

    Parameters
    ----------
    atoms : Atoms
        Structure to displace: a unit cell or a supercell.
    count : int
        How many copies. The first ones do not depend on it.
    stdev : float
        Standard deviation of each Cartesian displacement, Å.
    seed : int
        Of numpy's default generator.
    mass_scaled : bool
        Scale the displacements by (lightest mass / mass)^¼, as zero-point amplitudes in equal springs are.

    Returns
    -------
    list of Atoms

    Raises
    ------
    InputError
        `count` or `stdev` is not positive.
    """
    if count < 1 or not stdev > 0:
        raise InputError(f"count is {count} and stdev is {stdev}; both have to be positive")
    generator = np.random.default_rng(seed)
    masses = atoms.get_masses()
    scale = np.full(len(atoms), stdev) * ((masses.min() / masses) ** 0.25 if mass_scaled else 1.0)
    images = []
    for _ in range(count):
        image = atoms.copy()
        image.positions += generator.normal(size=(len(image), 3)) * scale[:, None]
        images.append(image)
    return images


def displace_along(atoms: Atoms, mode: np.ndarray, amplitudes: Sequence[float]) -> list[Atoms]:
    """Copies of a structure displaced along one direction of configuration space, such as a double well.

    Parameters
    ----------
    atoms : Atoms
        Structure at amplitude zero.
    mode : ndarray (N, 3)
        Displacement pattern (not mass-weighted); its length does not matter.
    amplitudes : sequence of float
        Å; the Euclidean norm of all displacements of the cell together, with a sign.

    Returns
    -------
    list of Atoms
        ``info["amplitude"]`` holds the amplitude.

    Raises
    ------
    InputError
        The mode has another shape, or is zero or not finite.
    """
    mode = np.asarray(mode, dtype=float)
    norm = float(np.linalg.norm(mode))
    if mode.shape != (len(atoms), 3) or not np.isfinite(norm) or norm == 0:
        raise InputError(f"the mode has shape {mode.shape} and norm {norm}; give ({len(atoms)}, 3), not zero")
    images = []
    for amplitude in amplitudes:
        image = atoms.copy()
        image.positions += float(amplitude) * mode / norm
        image.info["amplitude"] = float(amplitude)
        images.append(image)
    return images


DEGENERATE_CM = 0.1
"""Modes at Γ whose frequencies (cm⁻¹) are closer belong to one degenerate space."""
EQUAL_WEIGHT = 1e-3
"""Shares of the squared amplitude that differ by less are equal."""


def softest_gamma_mode(matrices: DynamicalMatrices) -> tuple[np.ndarray, float]:
    """Displacement pattern and frequency of the lowest mode at Γ that is no translation.

    Of degenerate modes, whose eigenvectors come mixed from the diagonalisation, the combination is taken that
    moves most along z, then along y, then along x, then most on the first atom along z, y, x, and so on,
    until one is left: of T1u of a cubic crystal the partner that transforms like z.

    Parameters
    ----------
    matrices : DynamicalMatrices

    Returns
    -------
    mode : ndarray (N, 3)
        Displacements e/√M, of unit Euclidean norm; the largest one is positive.
    frequency : float
        cm⁻¹, imaginary shown negative; of the matrices as they are.

    Raises
    ------
    InputError
        The primitive cell has one atom, so that every mode at Γ is a translation.
    """
    masses = matrices.primitive.get_masses()
    if len(masses) == 1:
        raise InputError("a crystal with one atom in its primitive cell has no optical mode at Γ")
    gamma = matrices.index((0.0, 0.0, 0.0))
    reduced = mass_reduced(matrices.matrices[gamma].real, masses)
    translations = np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))
    optical = np.linalg.svd(translations, full_matrices=True)[0][:, 3:]
    eigenvalues, vectors = np.linalg.eigh(optical.T @ reduced @ optical)
    frequencies = signed_frequencies_cm(eigenvalues)
    space = optical @ vectors[:, np.abs(frequencies - frequencies[0]) < DEGENERATE_CM]
    vector = most_along(space.reshape(len(masses), 3, -1)).reshape(-1, 3)
    mode = vector / np.sqrt(masses)[:, None]
    mode *= np.sign(mode.flat[np.abs(mode).argmax()]) / np.linalg.norm(mode)
    branch = np.setdiff1d(np.arange(3 * len(masses)), acoustic(matrices))[0]
    return mode, float(matrices.eigen()[0][gamma, branch])


def most_along(space: np.ndarray) -> np.ndarray:
    """The vector of a degenerate space that moves most along z, then y, x, then atom by atom.

    Parameters
    ----------
    space : ndarray (N, 3, k)
        k orthonormal vectors.

    Returns
    -------
    ndarray (N, 3)
        Of unit norm, its sign arbitrary; the same whatever basis of the space was given.
    """
    n = len(space)
    parts = [(slice(None), axis) for axis in (2, 1, 0)]
    parts += [(slice(atom, atom + 1), axis) for atom in range(n) for axis in (2, 1, 0)]
    for part in parts:
        if space.shape[-1] == 1:
            break
        moved = space[part]
        weights, combinations = np.linalg.eigh(moved.T @ moved)
        space = space @ combinations[:, weights > weights[-1] - EQUAL_WEIGHT]
    return space[..., -1]
