"""What the SSCHA loop asks of an engine: averages over a reweighted ensemble, and a minimisation on it.

An ensemble knows the Gaussian it was drawn from; an engine is asked about another (`target`), and reweights
every average by importance sampling.  `target` may differ in force constants and centroids, with the native
engine also in masses and temperature (isotope and temperature series), never in cell or grid.  The codes that
serve it are listed in :data:`himlip_ase.sscha.choices.ENGINES` and made by
:func:`himlip_ase.sscha.minimisation.engines.engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup


class MinimiserSettings(Protocol):
    """The part of :class:`~himlip_ase.sscha.settings.SschaSettings` that a minimisation reads."""

    @property
    def step(self) -> float:
        """First step of the line search."""

    @property
    def kong_liu(self) -> float:
        """Kong-Liu ratio at which the ensemble is used up."""

    @property
    def meaningful_factor(self) -> float:
        """Fraction of its error at which the gradient counts as vanished."""

    @property
    def max_steps(self) -> int:
        """Steps after which the minimisation is stopped."""

    @property
    def n_blocks(self) -> int:
        """Blocks of the ensemble for error bars."""


@dataclass(frozen=True, eq=False)
class MinimisationProblem:
    """The free energy to minimise: an ensemble that samples it, where to begin and what may move.

    Attributes
    ----------
    ensemble : Ensemble
    group : SpaceGroup
        Space group that the minimisation keeps.
    settings : MinimiserSettings
        Step, thresholds and limits.
    static_energy : float
        Subtracted from the free energy, eV per primitive cell.
    move_centroids : bool
        Minimise with respect to the centroids too.
    start : HarmonicDistribution, optional
        Where to begin; its temperature and masses are those of the free energy.  Default: the Gaussian that
        the ensemble was drawn from.

    Raises
    ------
    InputError
        `start` is of another crystal, cell or grid than the ensemble.
    """

    ensemble: Ensemble
    group: SpaceGroup
    settings: MinimiserSettings
    static_energy: float = 0.0
    move_centroids: bool = True
    start: HarmonicDistribution | None = None

    def __post_init__(self) -> None:
        self.ensemble.check_grid_of(self.begin)

    @property
    def begin(self) -> HarmonicDistribution:
        """Where the minimisation begins."""
        return self.ensemble.drawn_from if self.start is None else self.start


@dataclass(frozen=True)
class Minimisation:
    """History of the minimisation on one ensemble, energies in eV per primitive cell.

    Attributes
    ----------
    auxiliary : DynamicalMatrices
        Matrices and centroids at the end.
    weights : ndarray, shape (n,)
        Importance weights of the ensemble at the end, ρ = P_target/P_drawn.
    ended : str
        "gradient" (vanished), "kong-liu" (ensemble used up), "steps" (limit reached) or "stuck".
    reason : str
        One sentence on why it ended.
    free_energy, free_energy_sigma, kong_liu : ndarray, shape (steps + 1,)
        Free energy relative to `static_energy` and its standard error (eV per primitive cell); Kong-Liu
        ratio.
    gradient, gradient_sigma : ndarray, shape (g,)
        Modulus √(Σ_q |G(q)|²) of the preconditioned gradient G = Φ + Υ⟨u f⟩, symmetrised, and the modulus of
        its standard error, eV/Å²; at each point (native, g = steps + 1) or before each step (python-sscha).
    shift, shift_sigma : ndarray, shape (g,)
        Modulus of the preconditioned centroid gradient Φ(Γ)⁻¹⟨δf⟩, the shift still asked for, and of its
        standard error, Å; 0 if the centroids stay (python-sscha gives no error in this unit: NaN).
    frequencies : ndarray, shape (g, 3N)
        All modes of the supercell at the same points, cm⁻¹, ascending.
    """

    auxiliary: DynamicalMatrices
    weights: np.ndarray
    ended: str
    reason: str
    free_energy: np.ndarray
    free_energy_sigma: np.ndarray
    gradient: np.ndarray
    gradient_sigma: np.ndarray
    shift: np.ndarray
    shift_sigma: np.ndarray
    kong_liu: np.ndarray
    frequencies: np.ndarray


class Engine(Protocol):
    """Averages over a reweighted ensemble, and the minimisation built on them."""

    @property
    def name(self) -> str:
        """Code and version, for the record."""

    def minimise(
        self, problem: MinimisationProblem, on_progress: Callable[[int], None] | None = None
    ) -> Minimisation:
        """Minimise the free energy until its gradient vanishes or the Kong-Liu ratio runs out.

        Parameters
        ----------
        problem : MinimisationProblem
        on_progress : callable, optional
            Called with the number of steps made.

        Returns
        -------
        Minimisation

        Raises
        ------
        CalculationError
            No step could be made at all.
        """

    def free_energy(
        self, ensemble: Ensemble, target: HarmonicDistribution | None = None
    ) -> tuple[float, float]:
        """Free energy of a Gaussian and its standard error.

        Parameters
        ----------
        ensemble : Ensemble
        target : HarmonicDistribution, optional
            Default: the Gaussian that `ensemble` was drawn from.

        Returns
        -------
        value, sigma : float
            eV per primitive cell, the potential energy included as the forces' code gives it.
        """

    def stress(
        self, ensemble: Ensemble, group: SpaceGroup, target: HarmonicDistribution | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Stress of the quantum crystal and its standard error; None if the ensemble has no stresses.

        Parameters
        ----------
        ensemble : Ensemble
        group : SpaceGroup
            Symmetrises it.
        target : HarmonicDistribution, optional
            Default: the Gaussian that `ensemble` was drawn from.

        Returns
        -------
        stress, sigma : ndarray, shape (6,)
            ASE Voigt, eV/Å³, positive in tension, symmetrised (Monacelli et al., PRB 98, 024106 (2018)).
        """

    def kong_liu(self, ensemble: Ensemble, target: HarmonicDistribution | None = None) -> float:
        """Kong-Liu ratio of an ensemble reweighted to `target`.

        Parameters
        ----------
        ensemble : Ensemble
        target : HarmonicDistribution, optional
            Default: the Gaussian that `ensemble` was drawn from.

        Returns
        -------
        float
            Effective sample size (Σρ)²/Σρ² over the number of configurations; 1 for the draw itself.
        """
