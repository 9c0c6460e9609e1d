"""Trial Gaussians of the SSCHA, block by block in q: modes, covariance, free energy and normalisation.

    P(x) ∝ √(det Υ) exp(-½ (x - R)ᵀ Υ (x - R)),   Υ = √M [Σ_μ e_μ e_μ† / σ_μ] √M,   σ = ħ(1 + 2n)/(2ω)

(Monacelli et al., J. Phys.: Condens. Matter 33, 363001 (2021), eq. 17).  The three translations have no
Gaussian: Υ vanishes on them, and no average depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.sampling import SOFTEST_EV, HarmonicDistribution
from himlip_ase.units import EV_CM, KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV


class NotPositive(CalculationError):
    """Force constants with an imaginary mode, which has no Gaussian."""


@dataclass(frozen=True)
class Crystal:
    """What stays the same for all trial Gaussians of a minimisation.

    Attributes
    ----------
    grid : HalfGrid
    masses : ndarray, shape (n,)
        amu.
    temperature_k : float
    """

    grid: HalfGrid
    masses: np.ndarray
    temperature_k: float

    @cached_property
    def roots(self) -> np.ndarray:
        """√m of each of the 3n coordinates."""
        return np.repeat(np.sqrt(self.masses), 3)

    @cached_property
    def rigid(self) -> np.ndarray:
        """Orthonormal mass-reduced translations at Γ, shape (3n, 3)."""
        return np.kron(np.sqrt(self.masses / self.masses.sum())[:, None], np.eye(3))


class TrialGaussian:
    """Gaussian of force constants Φ(q) around centroids R.

    Parameters
    ----------
    crystal : Crystal
    matrices : list of ndarray, shape (k, 3n, 3n)
        Φ(q) by sector of the grid, Hermitian, eV/Å².
    centroids : ndarray, shape (n, 3)
        Å.

    Raises
    ------
    NotPositive
        A mode other than the translations is imaginary or below 1 cm⁻¹.
    """

    def __init__(self, crystal: Crystal, matrices: list[np.ndarray], centroids: np.ndarray) -> None:
        self.crystal, self.matrices, self.centroids = crystal, matrices, centroids
        roots, rigid = crystal.roots, crystal.rigid
        self.eigenvalues: list[np.ndarray] = []
        self.vectors: list[np.ndarray] = []
        for number, block in enumerate(matrices):
            reduced = block / np.outer(roots, roots)
            if number == 0:  # translations at Γ are moved above all other modes
                keep = np.eye(len(roots)) - rigid @ rigid.T
                above = 4 * np.abs(reduced).max() * len(roots) + 1.0
                reduced[0] = keep @ reduced[0] @ keep + above * rigid @ rigid.T
            values, vectors = np.linalg.eigh(reduced)
            if number == 0:
                values[0, -3:] = np.inf
            self.eigenvalues.append(values)
            self.vectors.append(vectors)
        lowest = min(float(values.min()) for values in self.eigenvalues)
        if not lowest >= (SOFTEST_EV / SQRT_EV_PER_ANGSTROM2_AMU_EV) ** 2:
            signed = np.sign(lowest) * np.sqrt(abs(lowest)) * SQRT_EV_PER_ANGSTROM2_AMU_EV * EV_CM
            raise NotPositive(f"the force constants have a mode at {signed:.1f} cm⁻¹ (negative is imaginary)")

    @classmethod
    def of(cls, distribution: HarmonicDistribution, grid: HalfGrid | None = None) -> TrialGaussian:
        """The trial Gaussian of a :class:`~himlip_ase.sscha.ensembles.sampling.HarmonicDistribution`.

        Parameters
        ----------
        distribution : HarmonicDistribution
        grid : HalfGrid, optional
            Made anew by default.
        """
        dynamical = distribution.dynamical
        grid = HalfGrid(distribution.dims) if grid is None else grid
        crystal = Crystal(grid, dynamical.primitive.get_masses(), distribution.temperature_k)
        return cls(crystal, grid.split(dynamical.matrices), np.array(dynamical.primitive.positions))

    def on_whole_grid(self, dynamical: DynamicalMatrices) -> DynamicalMatrices:
        """Φ(q) and centroids of this Gaussian, with the cell, species and masses of `dynamical`."""
        primitive = dynamical.primitive.copy()
        primitive.positions = self.centroids
        return replace(dynamical, primitive=primitive, matrices=self.crystal.grid.join(self.matrices))

    @cached_property
    def energies(self) -> list[np.ndarray]:
        """ħω in eV by sector, (k, 3n); infinite for the translations."""
        return [np.sqrt(values) * SQRT_EV_PER_ANGSTROM2_AMU_EV for values in self.eigenvalues]

    @cached_property
    def variances(self) -> list[np.ndarray]:
        """⟨|Q|²⟩ of the mass-reduced normal coordinates by sector, amu Å²; 0 for the translations."""
        temperature = self.crystal.temperature_k
        result = []
        for energies in self.energies:
            variance = SQRT_EV_PER_ANGSTROM2_AMU_EV**2 / (2 * energies)
            if temperature > 0:
                variance = variance / np.tanh(energies / (2 * KB_EV_PER_K * temperature))
            result.append(variance)
        return result

    @cached_property
    def inverse_covariance(self) -> list[np.ndarray]:
        """Υ(q) in Å⁻² by sector, (k, 3n, 3n)."""
        roots = self.crystal.roots
        result = []
        for variances, vectors in zip(self.variances, self.vectors, strict=True):
            weights = np.divide(1, variances, out=np.zeros_like(variances), where=variances > 0)
            scaled = vectors * roots[:, None]
            result.append((scaled * weights[:, None, :]) @ scaled.conj().swapaxes(1, 2))
        return result

    def _sum_over_modes(self, values: list[np.ndarray]) -> float:
        sectors = self.crystal.grid.sectors
        return float(sum(s.multiplicity * value.sum() for s, value in zip(sectors, values, strict=True)))

    def harmonic_free_energy(self) -> float:
        """Σ ħω/2 + k_BT ln(1 - exp(-ħω/k_BT)) without translations, eV per primitive cell."""
        thermal = KB_EV_PER_K * self.crystal.temperature_k
        parts = []
        for energies in self.energies:
            finite = np.where(np.isfinite(energies), energies, 0.0)
            part = finite / 2
            if thermal > 0:
                part = part + thermal * np.log(-np.expm1(-energies / thermal))
            parts.append(part)
        return self._sum_over_modes(parts) / self.crystal.grid.cells

    def log_normalisation(self) -> float:
        """½ ln det Υ over displacements without a common shift (Å⁻¹ each).

        From det Υ = det M · (n/Σm)³ · Π 1/σ, by the determinant lemma for the three translations.
        """
        logs = [np.log(v, out=np.zeros_like(v), where=v > 0) for v in self.variances]
        masses, cells = self.crystal.masses, self.crystal.grid.cells
        of_masses = 3 * (cells * np.log(masses).sum() + np.log(len(masses) / masses.sum()))
        return (float(of_masses) - self._sum_over_modes(logs)) / 2

    def mean_square_displacement(self) -> float:
        """⟨Σ_a |u_a|²⟩ of the supercell, Å²."""
        inverse = 1 / self.crystal.roots[:, None]
        squares = [
            (np.abs(vectors * inverse) ** 2).sum(axis=1) * variances
            for vectors, variances in zip(self.vectors, self.variances, strict=True)
        ]
        return self._sum_over_modes(squares)

    def static_response(self) -> np.ndarray:
        """Φ(Γ)⁻¹ without translations, (3n, 3n), Å²/eV: the shift of the centroids per force on them."""
        polarised = self.vectors[0][0] / self.crystal.roots[:, None]
        return (polarised / self.eigenvalues[0][0]) @ polarised.T

    def frequencies_cm(self) -> np.ndarray:
        """All 3N modes of the supercell, cm⁻¹, ascending, the translations as 0."""
        parts = []
        for sector, energies in zip(self.crystal.grid.sectors, self.energies, strict=True):
            finite = np.where(np.isfinite(energies), energies, 0.0).ravel()
            parts += [finite] * sector.multiplicity
        return np.sort(np.concatenate(parts)) * EV_CM
