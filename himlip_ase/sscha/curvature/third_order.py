"""Third-order SSCHA force constants and the bubble they add to the free-energy Hessian.

Φ³ = -⟨(v v - Υ)(f + Φu)⟩ made symmetric in its indices, with v = Υu, and ∂²F/∂R² = Φ + Φ³ Λ Φ³ (Bianco et
al., PRB 96, 014111 (2017), eqs. 21-24, without the fourth-order term).  The whole tensor is formed here, in
real space; the Hessian of :mod:`himlip_ase.sscha.curvature.hessian` does without it.
"""

from __future__ import annotations

import numpy as np

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.curvature.two_phonon import static_propagator
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_EV


def third_order(
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    group: SpaceGroup,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Third-order SSCHA force constants, symmetrised.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary.
    ensemble : Ensemble
        Drawn from it, or reweighted to it.
    group : SpaceGroup
        Of the auxiliary.
    weights : ndarray, shape (n,), optional
        Of the configurations; by default all count alike.

    Returns
    -------
    ndarray, shape (3n, 3N, 3N)
        eV/Å³: first index in cell 0, the others over the supercell (order of ``primitive.repeat(dims)``).
    """
    dims, size = distribution.dims, 3 * group.n
    shape = (len(ensemble), *dims, size)
    moved = ensemble.displacements_from(distribution).reshape(shape)
    share = np.full(len(ensemble), 1 / len(ensemble)) if weights is None else weights / weights.sum()
    inverse = np.empty((len(group.cells), size, size), dtype=complex)
    spring = np.empty_like(inverse)
    inverse[distribution.grid_order] = distribution.inverse_covariance()
    spring[distribution.grid_order] = distribution.dynamical.matrices
    scaled = _multiply(inverse, moved)
    excess = ensemble.forces.reshape(shape) + _multiply(spring, moved)
    total = np.zeros((size, 3 * group.n * len(group.cells), 3 * group.n * len(group.cells)))
    for cell in group.cells:
        v = np.roll(scaled, -cell, axis=(1, 2, 3)).reshape(len(ensemble), -1)
        f = np.roll(excess, -cell, axis=(1, 2, 3)).reshape(len(ensemble), -1)
        for first in range(size):
            mixed = (v * (share * v[:, first])[:, None]).T @ f
            total[first] += mixed + mixed.T + (v * (share * f[:, first])[:, None]).T @ v
    total /= -3 * len(group.cells)
    force = np.tensordot(share, excess.mean(axis=(1, 2, 3)), 1)
    shells = np.fft.ifftn(inverse.reshape(*dims, size, size), axes=(0, 1, 2)).real  # Υ(L, 0)
    here = shells.transpose(4, 0, 1, 2, 3).reshape(size, -1)  # Υ(0a, Lb)
    everywhere = np.tile(force, len(group.cells))
    relative = (group.cells[:, None] - group.cells[None]) % np.array(dims)
    full = shells[tuple(np.moveaxis(relative, -1, 0))].transpose(0, 2, 1, 3).reshape(2 * [total.shape[1]])
    total += (here[:, :, None] * everywhere + here[:, None, :] * everywhere[:, None]) / 3
    total += force[:, None, None] * full / 3
    return group.third(total)


def _multiply(blocks: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """Apply blocks (cells, 3n, 3n) of the FFT grid to real fields (n_configurations, *dims, 3n)."""
    transformed = np.fft.fftn(fields, axes=(1, 2, 3))
    product = np.einsum(
        "xyzij,nxyzj->nxyzi", blocks.reshape(*fields.shape[1:4], *blocks.shape[1:]), transformed
    )
    return np.fft.ifftn(product, axes=(1, 2, 3)).real


def hessian_with_bubble(
    distribution: HarmonicDistribution, tensor: np.ndarray, group: SpaceGroup
) -> DynamicalMatrices:
    """Free-energy Hessian of an auxiliary with third-order constants from :func:`third_order`.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary.
    tensor : ndarray, shape (3n, 3N, 3N)
        eV/Å³.
    group : SpaceGroup
        Of the auxiliary.

    Returns
    -------
    DynamicalMatrices
    """
    dynamical, dims = distribution.dynamical, distribution.dims
    energies, modes = _modes(distribution)
    factor = static_propagator(energies[:, None], energies[None, :], distribution.temperature_k)
    count, size = len(group.cells), 3 * group.n
    waves = modes.reshape(*dims, size, -1)
    here = _on_modes(tensor, modes)
    weighted = (here * factor).reshape(size, -1)
    bubble = np.empty((count, size, size))
    for index, cell in enumerate(group.cells):
        there = _on_modes(tensor, np.roll(waves, -cell, axis=(0, 1, 2)).reshape(modes.shape))
        bubble[index] = weighted @ there.reshape(size, -1).T
    compact = bubble.reshape(count, group.n, 3, group.n, 3).transpose(1, 0, 3, 2, 4)
    matrices = group.matrices(group.to_matrices(compact.reshape(group.n, -1, 3, 3)))
    return dynamical.with_matrices(dynamical.matrices + matrices)


def _on_modes(tensor: np.ndarray, modes: np.ndarray) -> np.ndarray:
    return np.matmul(modes.T, np.matmul(tensor, modes))


def _modes(distribution: HarmonicDistribution) -> tuple[np.ndarray, np.ndarray]:
    """ħω (eV) and real mass-reduced modes e/√m (amu^-1/2), (3N, modes), of the supercell but translations."""
    size = 3 * len(distribution.supercell)
    root = np.sqrt(np.repeat(distribution.supercell.get_masses(), 3))
    hessian = distribution.dynamical.force_constants().hessian(order="ase").reshape(size, size)
    rigid = root[:, None] * np.kron(np.ones((size // 3, 1)), np.eye(3))
    basis = np.linalg.qr(rigid, mode="complete")[0][:, 3:]
    values, vectors = np.linalg.eigh(basis.T @ (hessian / np.outer(root, root)) @ basis)
    return np.sqrt(values) * SQRT_EV_PER_ANGSTROM2_AMU_EV, basis @ vectors / root[:, None]
