"""One population: displaced supercells and their forces, with the Gaussian that they were drawn from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.sscha.ensembles.reweighting import FourierEnsemble, log_weights
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Supercells drawn from one Gaussian with their forces, atoms in the order of ``primitive.repeat(dims)``.

    Averages over another Gaussian (`target`) are taken with :meth:`weights`, and with displacements counted
    from its centroids (:meth:`displacements_from`).

    Attributes
    ----------
    drawn_from : HarmonicDistribution
        The Gaussian: force constants, centroids, masses and temperature.
    displacements : ndarray, shape (n, N, 3)
        Å from the centroids of `drawn_from`; of a draw in pairs, rows 2k and 2k+1 are opposites.
    energies : ndarray, shape (n,)
        eV per supercell.
    forces : ndarray, shape (n, N, 3)
        eV/Å.
    stresses : ndarray, shape (n, 6), or None
        ASE Voigt, eV/Å³, positive in tension.
    static_energy : float
        eV per supercell with every atom on its centroid.
    shortest_distance : float
        Smallest interatomic distance in the ensemble, Å.
    largest_displacement : float
        Å.
    rounding : float or None
        Largest possible shift of an average by single precision, in standard errors, see
        :mod:`himlip_ase.sscha.ensembles.precision`, which says from where on forces are double; None: not
        compared, and double.
    """

    drawn_from: HarmonicDistribution
    displacements: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray | None
    static_energy: float
    shortest_distance: float
    largest_displacement: float
    rounding: float | None = None

    def __len__(self) -> int:
        return len(self.energies)

    @cached_property
    def fourier(self) -> FourierEnsemble:
        """Displacements and forces at each q, made once and dropped with the ensemble."""
        return FourierEnsemble(self.drawn_from, self.displacements, self.forces)

    def is_drawn_from(self, target: HarmonicDistribution) -> bool:
        """Whether the ensemble is a draw from `target` itself, to the last bit."""
        if target is self.drawn_from:
            return True
        mine, other = self.drawn_from.dynamical, target.dynamical
        return (
            self.has_grid_of(target)
            and self.drawn_from.temperature_k == target.temperature_k
            and np.array_equal(mine.matrices, other.matrices)
            and np.array_equal(mine.primitive.positions, other.primitive.positions)
            and np.array_equal(mine.primitive.get_masses(), other.primitive.get_masses())
        )

    def has_grid_of(self, target: HarmonicDistribution) -> bool:
        """Whether `target` is of the same species in the same cell on the same grid."""
        mine, other = self.drawn_from.dynamical, target.dynamical
        return (
            mine.dims == other.dims
            and np.array_equal(mine.primitive.numbers, other.primitive.numbers)
            and np.allclose(mine.primitive.cell, other.primitive.cell, rtol=0, atol=1e-8)
        )

    def check_grid_of(self, target: HarmonicDistribution) -> None:
        """Raise `InputError` unless averages over `target` can be taken, see :meth:`has_grid_of`."""
        if not self.has_grid_of(target):
            here, there = (
                f"{dynamical.primitive.get_chemical_formula()} on a {dynamical.dims} grid"
                for dynamical in (self.drawn_from.dynamical, target.dynamical)
            )
            raise InputError(
                f"an ensemble of {here} cannot be reweighted to {there} or in another cell; draw a new one"
            )

    def weights(self, target: HarmonicDistribution) -> np.ndarray:
        """Importance weights for averages over another Gaussian.

        Parameters
        ----------
        target : HarmonicDistribution
            May differ in force constants, centroids, masses and temperature; of the same cell and grid.

        Returns
        -------
        ndarray, shape (n,)
            Of mean 1; exactly 1 for a draw from `target`.

        Raises
        ------
        InputError
            `target` is of another crystal, cell or grid.
        """
        if self.is_drawn_from(target):
            return np.ones(len(self))
        self.check_grid_of(target)
        gaussian = TrialGaussian.of(target, self.fourier.grid)
        moved = self.fourier.displacements_from(gaussian.centroids)
        logs = log_weights(self.fourier, gaussian, moved)
        weights = np.exp(logs - logs.max())
        return weights / weights.mean()

    def displacements_from(self, target: HarmonicDistribution) -> np.ndarray:
        """Displacements (n, N, 3) in Å from the centroids of `target`."""
        shift = self.drawn_from.dynamical.primitive.positions - target.dynamical.primitive.positions
        if not shift.any():
            return self.displacements
        return self.displacements + np.tile(shift, (int(np.prod(target.dims)), 1))

    def part(self, chosen: np.ndarray) -> Ensemble:
        """The configurations that a mask or an index array chooses."""
        return dataclasses.replace(
            self,
            displacements=self.displacements[chosen],
            energies=self.energies[chosen],
            forces=self.forces[chosen],
            stresses=None if self.stresses is None else self.stresses[chosen],
        )

    def pair_blocks(self, n_blocks: int) -> list[np.ndarray]:
        """Index arrays that split the ensemble into blocks without parting a pair of opposites."""
        pairs = np.array_split(np.arange(len(self) // 2), n_blocks)
        return [np.stack([2 * pair, 2 * pair + 1], axis=1).ravel() for pair in pairs]
