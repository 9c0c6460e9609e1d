"""The free-energy Hessian the long way: whole tensors in real space, averaged over every operation.

Third and fourth order are built over the whole supercell from the ensemble, as (3N)³ and (3N)⁴ arrays, and
the linear system is solved densely in the space of pairs.  For a few atoms.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from himlip_ase.phonons.force_constants import DynamicalMatrices, ForceConstants
from himlip_ase.sscha.curvature.third_order import _modes
from himlip_ase.sscha.curvature.two_phonon import static_propagator
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup


def operations(group: SpaceGroup) -> list[np.ndarray]:
    """Orthogonal (3N, 3N) matrices of all operations times all lattice translations."""
    cells, n, dims = group.cells, group.n, np.array(group.dims)
    found = []
    for rotation, target in zip(group.rotations, group.targets, strict=True):
        for shift in cells:
            atoms = target[0]
            moved = np.ravel_multi_index(tuple(((cells[atoms // n] + shift) % dims).T), group.dims) * n
            matrix = np.zeros((len(atoms), 3, len(atoms), 3))
            matrix[moved + atoms % n, :, np.arange(len(atoms)), :] = rotation
            found.append(matrix.reshape(3 * len(atoms), -1))
    return found


def tensors(
    distribution: HarmonicDistribution, ensemble: Ensemble, group: SpaceGroup, subtract_response: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Φ³ (eV/Å³) and Φ⁴ (eV/Å⁴) over the supercell, symmetric in their indices and under the group."""
    n, size = len(ensemble), 3 * len(distribution.supercell)
    u, f = ensemble.displacements.reshape(n, size), ensemble.forces.reshape(n, size)
    springs = distribution.dynamical.force_constants().hessian(order="ase").reshape(size, size)
    roots = np.sqrt(np.repeat(distribution.supercell.get_masses(), 3))
    reduced = distribution.covariance() * np.outer(roots, roots)
    inverse = np.linalg.pinv(reduced, rcond=1e-9, hermitian=True) * np.outer(roots, roots)
    v = u @ inverse
    excess, turns = f + u @ springs, operations(group)
    if subtract_response:
        response = -(v.T @ excess + excess.T @ v) / (2 * n)
        rigid = np.eye(size) - np.kron(np.full((size // 3, size // 3), 3 / size), np.eye(3))
        response = rigid @ np.mean([g @ response @ g.T for g in turns], axis=0) @ rigid
        excess = excess + u @ response
    third = -np.einsum("na,nb,nc->abc", v, v, excess, optimize=True) / n
    third += np.multiply.outer(inverse, excess.mean(axis=0))
    fourth = -np.einsum("na,nb,nc,nd->abcd", v, v, v, excess, optimize=True) / n
    for order in (third, fourth):
        every = list(permutations(range(order.ndim)))
        order[:] = sum(order.transpose(p) for p in every) / len(every)
    mean3, mean4 = np.zeros_like(third), np.zeros_like(fourth)
    for g in turns:
        mean3 += np.einsum("abc,ia,jb,kc->ijk", third, g, g, g, optimize=True) / len(turns)
        mean4 += np.einsum("abcd,ia,jb,kc,ld->ijkl", fourth, g, g, g, g, optimize=True) / len(turns)
    return mean3, mean4


def explicit_hessian(
    distribution: HarmonicDistribution, third: np.ndarray, fourth: np.ndarray
) -> DynamicalMatrices:
    """Φ + Φ³Λ[1 - Φ⁴Λ]⁻¹Φ³ with dense linear algebra on pairs of modes."""
    energies, modes = _modes(distribution)
    size, count = len(third), len(energies)
    propagator = static_propagator(energies[:, None], energies[None, :], distribution.temperature_k).ravel()
    third = np.einsum("abc,bm,cn->amn", third, modes, modes, optimize=True).reshape(size, -1)
    fourth = np.einsum("abcd,am,bn,co,dp->mnop", fourth, modes, modes, modes, modes, optimize=True)
    matrix = np.eye(count**2) - fourth.reshape(count**2, -1) * propagator
    correction = (third * propagator) @ np.linalg.solve(matrix, third.T)
    dynamical = distribution.dynamical
    n = len(dynamical.primitive)
    blocks = correction.reshape(size // 3, 3, size // 3, 3)
    constants = ForceConstants.from_hessian(dynamical.primitive, dynamical.dims, blocks, order="ase")
    change = constants.dynamical_matrices().matrices
    assert change.shape[1] == 3 * n
    return DynamicalMatrices(
        dynamical.primitive, dynamical.dims, dynamical.qpoints, dynamical.matrices + change
    )
