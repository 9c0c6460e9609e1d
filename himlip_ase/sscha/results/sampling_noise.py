"""What the blocks of an SSCHA ensemble say about the noise of its dynamical."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.phonons.force_constants import DynamicalMatrices, mass_reduced
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, signed_frequencies_cm

if TYPE_CHECKING:
    from himlip_ase.sscha.results.result import SschaResult

INDEPENDENT_BLOCKS = 40


def deviations_of(result: SschaResult, kind: str) -> np.ndarray | None:
    """Changes of Φ(q) that single blocks of the ensemble ask for, (blocks, nq, 3n, 3n), eV/Å².

    Parameters
    ----------
    result : SschaResult
    kind : {"auxiliary", "hessian"}

    Returns
    -------
    ndarray or None
        From the ensemble's own blocks where the result holds them (all elements of Φ then move together as
        they did from block to block); else independent Gaussians of the standard errors of the frequencies,
        modes equal by symmetry moving together. None without either.
    """
    if kind == "auxiliary" and result.auxiliary_blocks is not None:
        return result.auxiliary_blocks.astype(complex)
    if kind == "hessian" and result.hessian_changes is not None:
        # each of them is a sample of the whole ensemble: as blocks they vary by the root of their number more
        return result.hessian_changes.astype(complex) * np.sqrt(len(result.hessian_changes))
    dynamical = result.auxiliary if kind == "auxiliary" else result.hessian
    sigma_cm = result.auxiliary_sigma_cm if kind == "auxiliary" else result.hessian_sigma_cm
    if dynamical is None or sigma_cm is None:
        return None
    return independent_deviations(dynamical, sigma_cm)


def independent_deviations(
    dynamical: DynamicalMatrices,
    sigma_cm: np.ndarray,
    blocks: int = INDEPENDENT_BLOCKS,
    seed: int = 0,
    same_cm: float = 0.5,
) -> np.ndarray:
    """Blocks whose mean has frequencies with independent errors of the given size.

    Modes equal by symmetry move together: they are recognised by frequency and error within `same_cm`.

    Parameters
    ----------
    dynamical : DynamicalMatrices
    sigma_cm : ndarray (nq, 3n)
        Standard errors of ``dynamical.frequencies()``, cm⁻¹.
    blocks, seed : int
    same_cm : float

    Returns
    -------
    ndarray (blocks, nq, 3n, 3n)
        eV/Å².
    """
    masses = dynamical.primitive.get_masses()
    values, vectors = np.linalg.eigh(mass_reduced(dynamical.matrices, masses))
    flat, errors = signed_frequencies_cm(values).ravel(), np.asarray(sigma_cm, dtype=float).ravel()
    order = np.argsort(flat, kind="stable")
    steps = (np.diff(flat[order]) > same_cm) | (np.abs(np.diff(errors[order])) > same_cm)
    group = np.empty(len(flat), dtype=int)
    group[order] = np.concatenate([[0], np.cumsum(steps)])
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(blocks, int(group.max()) + 1))
    draws = (draws - draws.mean(axis=0)) * np.sqrt(blocks)
    changes = (errors * draws[:, group]).reshape(blocks, *values.shape)
    # dω² = 2ω dω, so that the change of Φ is linear in that of the frequencies
    squares = 2 * np.abs(flat).reshape(values.shape) * changes / SQRT_EV_PER_ANGSTROM2_AMU_CM**2
    roots = np.sqrt(np.repeat(masses, 3))
    outer = roots[:, None] * roots[None, :]
    return np.einsum("qim,bqm,qjm->bqij", vectors, squares, vectors.conj(), optimize=True) * outer
