"""Third-order SSCHA force constants and the bubble they add to the free-energy Hessian.

Φ³ = -⟨v v (f + Φu)⟩ made symmetric in its indices, with v = Υu, and

    ∂²F/∂R² = Φ - ħ/4 Σ_μν X_μν X_μν [(1 + n_μ + n_ν)/(ω_μ + ω_ν) - (n_μ - n_ν)/(ω_μ - ω_ν)] / (ω_μ ω_ν)

where X_μν is Φ³ with two indices on mass-reduced modes (Bianco et al., PRB 96, 014111 (2017), eqs. 21-24,
without the fourth-order term).
"""

from __future__ import annotations

import numpy as np

from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.sscha.ensemble import Ensemble
from himlip_ase.sscha.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV


def third_order(distribution: HarmonicDistribution, ensemble: Ensemble, group: SpaceGroup) -> np.ndarray:
    """Third-order SSCHA force constants of a fresh ensemble, symmetrised.

    Returns
    -------
    ndarray, shape (3n, 3N, 3N)
        eV/Å³: first index in cell 0, the others over the supercell (order of ``primitive.repeat(dims)``).
    """
    dims, size = distribution.dims, 3 * group.n
    shape = (len(ensemble), *dims, size)
    moved = ensemble.displacements.reshape(shape)
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
            mixed = (v * v[:, first, None]).T @ f
            total[first] += mixed + mixed.T + (v * f[:, first, None]).T @ v
    total /= -3 * len(ensemble) * len(group.cells)
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
    """Free-energy Hessian of an auxiliary with third-order constants from :func:`third_order`."""
    dynamical, dims = distribution.dynamical, distribution.dims
    energies, modes = _modes(distribution)
    factor = propagator(energies, distribution.temperature_k)
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
    return DynamicalMatrices(
        dynamical.primitive, dynamical.dims, dynamical.qpoints, dynamical.matrices + matrices
    )


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


def propagator(energies: np.ndarray, temperature_k: float) -> np.ndarray:
    """Static two-phonon factor of the bubble for each pair of modes, amu² Å⁴/eV, negative."""
    sums = energies[:, None] + energies[None, :]
    factor = 1 / sums
    if temperature_k > 0:
        thermal = KB_EV_PER_K * temperature_k
        occupation = 1 / np.expm1(energies / thermal)
        differences = energies[:, None] - energies[None, :]
        close = np.abs(differences) < 1e-6 * sums
        middle = 1 / np.expm1(sums / 2 / thermal)
        slope = middle * (middle + 1) / thermal
        ratio = np.where(
            close,
            slope,
            -(occupation[:, None] - occupation[None, :]) / np.where(close, 1.0, differences),
        )
        factor = (1 + occupation[:, None] + occupation[None, :]) / sums + ratio
    squared = SQRT_EV_PER_ANGSTROM2_AMU_EV**2
    return -(squared**2) / 4 * factor / (energies[:, None] * energies[None, :])
