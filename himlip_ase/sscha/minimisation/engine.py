"""What the SSCHA loop asks of a minimiser: the interface, and the two codes that serve it.

``native`` is this package's own, block-diagonal in q; ``python-sscha`` drives that code through
:mod:`himlip_ase.sscha.minimisation.python_sscha`, which is imported only when it is asked for.

An engine sees an ensemble, the Gaussian it was drawn from (`drawn`: matrices, centroids, masses and
temperature) and the Gaussian it is asked about (`target`); where they differ, every average is reweighted by
importance sampling.  `target` may differ from `drawn` in force constants and centroids, with the native
engine also in masses and temperature (isotope and temperature series), never in cell or grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup

ENGINES = ("native", "python-sscha")
MINIMISERS = ("anderson", "descent", "root-descent")
"""Of the native engine: Anderson-accelerated self-consistency, and python-sscha's preconditioned descent
with line search in the force constants or in their square root."""


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
        self,
        ensemble: Ensemble,
        drawn: HarmonicDistribution,
        settings: MinimiserSettings,
        static_energy: float,
        group: SpaceGroup,
        move_centroids: bool = True,
        start: HarmonicDistribution | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Minimisation:
        """Minimise the free energy until its gradient vanishes or the Kong-Liu ratio runs out.

        Parameters
        ----------
        ensemble : Ensemble
            Displacements from the centroids of `drawn`, energies and forces.
        drawn : HarmonicDistribution
            The Gaussian that `ensemble` was drawn from.
        settings : MinimiserSettings
            Step, thresholds and limits.
        static_energy : float
            Subtracted from the free energy, eV per primitive cell.
        group : SpaceGroup
            Space group that the minimisation keeps.
        move_centroids : bool
            Minimise with respect to the centroids too.
        start : HarmonicDistribution, optional
            Where to start (`drawn` by default); its temperature and masses are those of the free energy.
        on_step : callable, optional
            Called with the number of steps made.

        Raises
        ------
        CalculationError
            No step could be made at all.
        """

    def free_energy(
        self, ensemble: Ensemble, drawn: HarmonicDistribution, target: HarmonicDistribution | None = None
    ) -> tuple[float, float]:
        """Free energy of `target` (default `drawn`) and its standard error, eV per primitive cell.

        The potential energy is included as the forces' code gives it.
        """

    def stress(
        self,
        ensemble: Ensemble,
        drawn: HarmonicDistribution,
        group: SpaceGroup,
        target: HarmonicDistribution | None = None,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Stress of the quantum crystal and its standard error; None if the ensemble has no stresses.

        Returns
        -------
        stress, sigma : ndarray, shape (6,)
            ASE Voigt, eV/Å³, positive in tension, symmetrised (Monacelli et al., PRB 98, 024106 (2018)).
        """

    def kong_liu(
        self, ensemble: Ensemble, drawn: HarmonicDistribution, target: HarmonicDistribution | None = None
    ) -> float:
        """Effective sample size (Σρ)²/Σρ² over the number of configurations; 1 for `drawn` itself."""


def engine(name: str = "native", minimiser: str = "anderson") -> Engine:
    """An engine by name.

    Parameters
    ----------
    name : {"native", "python-sscha"}
    minimiser : {"anderson", "descent", "root-descent"}
        Of the native engine; python-sscha always descends in the force constants.

    Raises
    ------
    InputError
        An unknown name, or python-sscha is missing or older than 1.6.2.
    """
    if minimiser not in MINIMISERS:
        raise InputError(f"minimiser is {minimiser!r}; give one of {', '.join(MINIMISERS)}")
    if name == "native":
        from himlip_ase.sscha.minimisation.native_engine import NativeEngine

        return NativeEngine(minimiser)
    if name == "python-sscha":
        from himlip_ase.sscha.minimisation.python_sscha import PythonSscha

        return PythonSscha()
    raise InputError(f"engine is {name!r}; give one of {', '.join(ENGINES)}")
