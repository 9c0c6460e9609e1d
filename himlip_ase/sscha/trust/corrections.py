"""Control-variate corrections of SSCHA averages; the formulas are in :mod:`himlip_ase.sscha.trust.verify`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from himlip_ase.errors import CalculationError
from himlip_ase.jackknife import jackknife, student
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.convergence.residual import Projection, frequency_changes, standard_error
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

TOLERANCE = 1e-9
"""Relative residual at which the linear part of the difference counts as found."""


@dataclass(frozen=True)
class Corrections:
    """SSCHA averages by the potential alone and corrected; energies in eV per primitive cell.

    Attributes
    ----------
    gradient_cm, gradient_sigma_cm : ndarray, shape (nq, 3n)
        Corrected residual: first-order change of each auxiliary frequency that the reference's forces ask
        for, and its standard error, cm⁻¹; translations 0.
    potential_cm, potential_sigma_cm : ndarray, shape (nq, 3n)
        The same by the potential alone.
    change_cm, change_sigma_cm : ndarray, shape (nq, 3n)
        Their difference.
    force, force_sigma : ndarray, shape (n_atoms, 3)
        Corrected mean force on the centroids, symmetrised, eV/Å.
    free_energy, free_energy_sigma : float
        Of the auxiliary's Gaussian with the reference's energies, above its static lattice.
    free_energy_change, free_energy_change_sigma : float
        What the reference adds to the potential's free energy, both above their own static lattices.
    auxiliary : DynamicalMatrices
        Φ + δΦ, the next iterate of the self-consistency with the corrected averages.
    change : ndarray, shape (nq, 3n, 3n)
        The reference's share of δΦ(q), eV/Å².
    frequencies_cm, frequencies_sigma_cm : ndarray, shape (nq, 3n)
        Of `auxiliary`, cm⁻¹, imaginary negative, with their errors.
    deviations : ndarray, shape (units, nq, 3n, 3n)
        What each block of the ensemble and each pair of reference calculations would change in `auxiliary`,
        taken alone, eV/Å²: the variance of a mean over these units is that of both sources together.
    """

    gradient_cm: np.ndarray
    gradient_sigma_cm: np.ndarray
    potential_cm: np.ndarray
    potential_sigma_cm: np.ndarray
    change_cm: np.ndarray
    change_sigma_cm: np.ndarray
    force: np.ndarray
    force_sigma: np.ndarray
    free_energy: float
    free_energy_sigma: float
    free_energy_change: float
    free_energy_change_sigma: float
    auxiliary: DynamicalMatrices
    change: np.ndarray
    frequencies_cm: np.ndarray
    frequencies_sigma_cm: np.ndarray
    deviations: np.ndarray


@dataclass(frozen=True)
class Differences:
    """Reference − potential on n configurations.

    Attributes
    ----------
    displacements : ndarray, shape (n, N, 3)
        Å from the centroids of the auxiliary.
    energies : ndarray, shape (n,)
        eV per supercell, each side above its own energy of the centroids.
    forces : ndarray, shape (n, N, 3)
        eV/Å.
    weights : ndarray, shape (n,)
        Importance weights.
    paired : bool
        Whether rows 2k and 2k+1 are opposites, which are kept together.
    """

    displacements: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    weights: np.ndarray
    paired: bool = True

    def leave_one_out(self) -> np.ndarray:
        """Masks (m, n) that each leave one pair, or one configuration, out."""
        size = 2 if self.paired else 1
        return np.repeat(~np.eye(len(self.energies) // size, dtype=bool), size, axis=1)


@dataclass(frozen=True)
class _Estimate:
    """δΦ(q) (nq, 3n, 3n), mean force (n, 3) and energy (eV per cell) of one set of configurations."""

    matrices: np.ndarray
    force: np.ndarray
    energy: float


class _Averages:
    """Averages over some configurations, on the q-points of a target."""

    def __init__(self, target: HarmonicDistribution, group: Projection) -> None:
        self.target, self.group = target, group
        self.dims = target.dims
        self.cells = int(np.prod(self.dims))
        self.inverse = target.inverse_covariance()
        self.covariance = target.covariance_at_q()

    def at_q(self, fields: np.ndarray) -> np.ndarray:
        """Fields (n, N, 3) as (n, nq, 3n) in the order of the q-points."""
        return at_q(self.target, fields)

    def springs(self, moved: np.ndarray, forces: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """−Υ⟨u f⟩, symmetrised, of fields at q; `weights` sum to 1."""
        correlation = np.einsum("n,nqi,nqj->qij", weights, moved, forces.conj(), optimize=True)
        return self._symmetric(-self.inverse @ correlation / self.cells)

    def mean_force(self, forces: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean force on each atom of the primitive cell, symmetrised, without a common part."""
        mean = (weights @ forces.reshape(len(forces), -1)).reshape(self.cells, -1, 3).mean(axis=0)
        return self.group.vectors(mean - mean.mean(axis=0))

    def product(self, matrices: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Φ u at q."""
        return np.einsum("qij,nqj->nqi", matrices, moved)

    def harmonic_energies(self, matrices: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """½ uᵀΦu of each configuration, eV per primitive cell."""
        pushed = self.product(matrices, moved)
        return np.einsum("nqi,nqi->n", moved.conj(), pushed).real / (2 * self.cells**2)

    def harmonic_mean(self, matrices: np.ndarray) -> float:
        """⟨½ uᵀΦu⟩ of the Gaussian, eV per primitive cell."""
        return float(np.einsum("qij,qji->", matrices, self.covariance).real) / (2 * self.cells)

    def linear_part(
        self, moved: np.ndarray, forces: np.ndarray, weights: np.ndarray, start: np.ndarray | None = None
    ) -> np.ndarray:
        """Symmetrised X that makes ⟨(f + Xu)ᵀ C (f + Xu)⟩ least on these configurations, C the covariance.

        Over the whole Gaussian that is X = −Υ⟨u f⟩, whatever the weight of the squares. `start` is an X near
        the solution, which saves iterations.

        Raises
        ------
        CalculationError
            Too few configurations to determine it.
        """
        sample = np.einsum("n,nqi,nqj->qij", weights, moved, moved.conj(), optimize=True) / self.cells
        mixed = np.einsum("n,nqi,nqj->qij", weights, forces, moved.conj(), optimize=True) / self.cells
        target = self._symmetric(-self.covariance @ mixed)
        if not np.abs(target).max() > 0:
            return target

        def operator(apply: Callable[[np.ndarray], np.ndarray]) -> LinearOperator:
            size = 2 * target.size

            def product(vector: np.ndarray) -> np.ndarray:
                real, imaginary = vector.reshape(2, *target.shape)
                return _packed(self._symmetric(apply(real + 1j * imaginary)))

            return LinearOperator((size, size), matvec=product, dtype=float)

        solution, status = cg(
            operator(lambda matrices: self.covariance @ matrices @ sample),
            _packed(target),
            x0=None if start is None else _packed(start),
            rtol=TOLERANCE,
            maxiter=1000,
            M=operator(lambda matrices: self.inverse @ matrices @ self.inverse),
        )
        if status:
            raise CalculationError(
                f"{len(moved)} configurations do not determine the linear part of the difference; verify more"
            )
        real, imaginary = solution.reshape(2, *target.shape)
        return real + 1j * imaginary

    def _symmetric(self, matrices: np.ndarray) -> np.ndarray:
        return self.group.matrices((matrices + matrices.conj().transpose(0, 2, 1)) / 2)


def _packed(matrices: np.ndarray) -> np.ndarray:
    return np.concatenate([matrices.real.ravel(), matrices.imag.ravel()])


def _of_potential(
    averages: _Averages, ensemble: Ensemble, weights: np.ndarray, n_blocks: int
) -> list[_Estimate]:
    """Blocks of the potential's own averages: δΦ with f + Φu, mean force, ⟨V − V₀ − ½uΦu⟩ per cell."""
    matrices = averages.target.dynamical.matrices
    moved = averages.at_q(ensemble.displacements_from(averages.target))
    excess = averages.at_q(ensemble.forces) + averages.product(matrices, moved)
    energies = (ensemble.energies - ensemble.static_energy) / averages.cells
    energies = energies - averages.harmonic_energies(matrices, moved)
    result = []
    for rows in ensemble.pair_blocks(n_blocks):
        weight = weights[rows] / weights[rows].sum()
        result.append(
            _Estimate(
                averages.springs(moved[rows], excess[rows], weight),
                averages.mean_force(ensemble.forces[rows], weight),
                float(weight @ energies[rows]),
            )
        )
    return result


def _of_difference(
    averages: _Averages,
    moved: np.ndarray,
    energies: np.ndarray,
    forces: np.ndarray,
    weights: np.ndarray,
) -> _Estimate:
    """Averages of reference − potential, with the linear part averaged exactly."""
    weight = weights / weights.sum()
    pushed = averages.at_q(forces)
    linear = averages.linear_part(moved, pushed, weight)
    rest = energies / averages.cells - averages.harmonic_energies(linear, moved)
    return _Estimate(
        linear, averages.mean_force(forces, weight), float(weight @ rest) + averages.harmonic_mean(linear)
    )


def change_of(
    target: HarmonicDistribution,
    group: Projection,
    displacements: np.ndarray,
    forces: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """δΦ(q) that a difference of forces asks for, by its linear part.

    Parameters
    ----------
    target : HarmonicDistribution
        The auxiliary.
    group : Projection
        Its space group.
    displacements, forces : ndarray, shape (n, N, 3)
        Å from the centroids of `target`; other forces minus those that made it, eV/Å.
    weights : ndarray, shape (n,)
        Importance weights of the configurations.
    start : ndarray, shape (nq, 3n, 3n), optional
        The δΦ(q) of nearly the same configurations: it saves time and changes nothing else.

    Returns
    -------
    ndarray, shape (nq, 3n, 3n)
        eV/Å².

    Raises
    ------
    CalculationError
        Too few configurations to determine it.
    """
    averages = _Averages(target, group)
    moved, pushed = averages.at_q(displacements), averages.at_q(forces)
    return averages.linear_part(moved, pushed, weights / weights.sum(), start)


def at_q(target: HarmonicDistribution, fields: np.ndarray) -> np.ndarray:
    """Fourier transforms of fields on the supercell, Σ_R f(R) exp(−2πi q·R).

    Parameters
    ----------
    target : HarmonicDistribution
        Its grid and order of q-points are used.
    fields : ndarray, shape (n, N, 3)

    Returns
    -------
    ndarray, shape (n, nq, 3n_atoms), complex
        In the unit of the fields.
    """
    size = 3 * len(target.dynamical.primitive)
    waves = np.fft.fftn(fields.reshape(len(fields), *target.dims, size), axes=(1, 2, 3))
    return np.asarray(waves.reshape(len(fields), -1, size)[:, target.grid_order])


def pulled_by(target: HarmonicDistribution, matrices: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Φu, which a harmonic crystal pulls its atoms back with.

    Parameters
    ----------
    target : HarmonicDistribution
        Its grid and order of q-points are used.
    matrices : ndarray, shape (nq, 3n, 3n)
        Φ(q), eV/Å².
    displacements : ndarray, shape (n, N, 3)
        Å.

    Returns
    -------
    ndarray, shape (n, N, 3)
        eV/Å.
    """
    waves = at_q(target, displacements)
    pulled = np.empty_like(waves)
    pulled[:, target.grid_order] = np.einsum("qij,nqj->nqi", matrices, waves)
    on_grid = pulled.reshape(len(waves), *target.dims, -1)
    return np.fft.ifftn(on_grid, axes=(1, 2, 3)).real.reshape(displacements.shape)


def correct(
    target: HarmonicDistribution,
    ensemble: Ensemble,
    differences: Differences,
    group: Projection,
    n_blocks: int,
    weights: np.ndarray,
) -> Corrections:
    """Corrected averages; parameters as :func:`himlip_ase.sscha.trust.verify.verify`.

    The errors of the two parts are added in quadrature, right for n ≪ N.

    Parameters
    ----------
    target, ensemble, group, n_blocks, weights
        See :func:`himlip_ase.sscha.trust.verify.verify`.
    differences : Differences

    Returns
    -------
    Corrections
    """
    averages = _Averages(target, group)
    blocks = _of_potential(averages, ensemble, weights, n_blocks)
    shares = np.array([weights[rows].sum() for rows in ensemble.pair_blocks(n_blocks)]) / weights.sum()
    ours = np.array([block.matrices for block in blocks])
    mean = np.tensordot(shares, ours, 1)

    moved = averages.at_q(differences.displacements)
    energies, forces, heights = differences.energies, differences.forces, differences.weights
    whole = _of_difference(averages, moved, energies, forces, heights)
    deleted = [
        _of_difference(averages, moved[keep], energies[keep], forces[keep], heights[keep])
        for keep in differences.leave_one_out()
    ]
    theirs = np.array([part.matrices for part in deleted])

    dynamical = target.dynamical

    def frequencies(change: np.ndarray) -> np.ndarray:
        return dynamical.with_matrices(dynamical.matrices + change).frequencies()

    corrected = mean + whole.matrices
    without = (mean - shares[:, None, None, None] * ours) / (1 - shares)[:, None, None, None]
    sigma = np.hypot(
        jackknife(np.array([frequencies(part + whole.matrices) for part in without])),
        jackknife(np.array([frequencies(mean + part) for part in theirs])),
    )
    sigma[0][np.argsort(np.abs(frequencies(corrected)[0]))[:3]] = 0

    ours_cm = frequency_changes(target, ours)
    ours_sigma = standard_error(ours_cm)
    change_cm = frequency_changes(target, whole.matrices)
    change_sigma = jackknife(frequency_changes(target, theirs))
    potential_cm = np.tensordot(shares, ours_cm, 1)
    force = np.tensordot(shares, [block.force for block in blocks], 1) + whole.force
    force_sigma = np.hypot(
        standard_error(np.array([block.force for block in blocks])),
        jackknife(np.array([part.force for part in deleted])),
    )
    own = np.array([block.energy for block in blocks])
    energy_sigma = float(standard_error(own))
    change_energy_sigma = float(jackknife(np.array([part.energy for part in deleted])))
    return Corrections(
        gradient_cm=potential_cm + change_cm,
        gradient_sigma_cm=np.hypot(ours_sigma, change_sigma),
        potential_cm=potential_cm,
        potential_sigma_cm=ours_sigma,
        change_cm=change_cm,
        change_sigma_cm=change_sigma,
        force=force,
        force_sigma=force_sigma,
        free_energy=target.free_energy() + float(shares @ own) + whole.energy,
        free_energy_sigma=float(np.hypot(energy_sigma, change_energy_sigma)),
        free_energy_change=whole.energy,
        free_energy_change_sigma=change_energy_sigma,
        auxiliary=dynamical.with_matrices(dynamical.matrices + corrected),
        change=whole.matrices,
        frequencies_cm=frequencies(corrected),
        frequencies_sigma_cm=sigma,
        deviations=joined_deviations(ours - mean, np.sqrt(student(len(theirs))) * (1 - len(theirs)) * theirs),
    )


def joined_deviations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Deviations of the units of two independent samples as those of one.

    The variance of a mean over n units is Σd²/(n(n−1)); in a sample of m + n units each must weigh as much as
    it did alone.

    Parameters
    ----------
    first, second : ndarray, shapes (m, ...) and (n, ...)

    Returns
    -------
    ndarray, shape (m + n, ...)
    """
    total = len(first) + len(second)
    parts = [
        (part - part.mean(axis=0)) * np.sqrt(total * (total - 1) / (len(part) * (len(part) - 1)))
        for part in (first, second)
    ]
    return np.concatenate(parts)
