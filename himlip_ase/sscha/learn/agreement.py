"""How far an SSCHA is from what the reference asks for, with an error that holds sampling and potential.

The reference is known on n configurations, all of which the potential may have learnt.  Each of them is
judged by a twin of the potential that did not learn it (`himlip_ase.hint.last_layer.cross_fit`), and the
average of the reference over the auxiliary Gaussian is

    ⟨b⟩ ≈ ⟨ā⟩_N + Σ_i w_i (b − a_(i))(x_i) / Σ_i w_i,

a the forces of a twin, ā those of the twins' mean head, N the whole ensemble: the control variate of
`himlip_ase.sscha.trust.verify` with honest differences.  Configurations of earlier rounds enter by their
weight in the present Gaussian.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.evaluation import Evaluation
from himlip_ase.jackknife import jackknife
from himlip_ase.phonons.force_constants import acoustic
from himlip_ase.sscha.convergence.residual import Projection
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.learn.draws import LabelledDraw, displacements_from, mixture_weights
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.sscha.results.result import SschaResult
from himlip_ase.sscha.trust.corrections import Corrections, Differences, correct
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

CLEAR = 2.0
"""A correction within so many errors is none."""


@dataclass(frozen=True)
class Distance:
    """What is left of one quantity.

    Attributes
    ----------
    name : str
    unit : str
    correction, sigma : float
        What the reference asks for beyond the SSCHA, and its standard error; of the mode farthest from
        agreement where there are many.
    tolerance : float
    largest_sigma : float
        Over all modes.
    """

    name: str
    unit: str
    correction: float
    sigma: float
    tolerance: float
    largest_sigma: float

    @property
    def agreed(self) -> bool:
        """Within twice its error or the tolerance, the errors themselves within the tolerance."""
        near = abs(self.correction) <= max(self.tolerance, CLEAR * self.sigma)
        return bool(near and self.largest_sigma <= self.tolerance)

    def __str__(self) -> str:
        verdict = "agrees" if self.agreed else "does not agree"
        return (
            f"{self.name}: {self.correction:+.3g} ± {self.sigma:.2g} {self.unit} (largest error "
            f"{self.largest_sigma:.2g}, tolerance {self.tolerance:g}): {verdict}"
        )

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**dataclasses.asdict(self), "agreed": self.agreed}


@dataclass(frozen=True, eq=False)
class Agreement:
    """An SSCHA beside the reference.

    Attributes
    ----------
    corrections : Corrections
        Averages by the potential and corrected, with errors that hold sampling and potential.
    pressure_gpa, pressure_sigma_gpa : float or None
        Of the quantum crystal, corrected; None without stresses.
    distances : tuple of Distance
        Frequencies, free energy and, with stresses, pressure.
    effective : float
        Labelled configurations that the weights leave.
    """

    corrections: Corrections
    pressure_gpa: float | None
    pressure_sigma_gpa: float | None
    distances: tuple[Distance, ...]
    effective: float

    @property
    def agreed(self) -> bool:
        """Whether every distance is within its error and the tolerance."""
        return all(distance.agreed for distance in self.distances)

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        c = self.corrections
        return {
            "agreed": self.agreed,
            "effective_configurations": self.effective,
            "distances": [distance.to_record() for distance in self.distances],
            "free_energy_mev_per_cell": {
                "value": 1e3 * c.free_energy,
                "uncertainty": 1e3 * c.free_energy_sigma,
            },
            "pressure_gpa": {"value": self.pressure_gpa, "uncertainty": self.pressure_sigma_gpa},
            "frequencies_cm": {
                "value": c.frequencies_cm.tolist(),
                "uncertainty": c.frequencies_sigma_cm.tolist(),
            },
            "asked_for_cm": {"value": c.gradient_cm.tolist(), "uncertainty": c.gradient_sigma_cm.tolist()},
        }


def honest_differences(
    target: HarmonicDistribution, labelled: Sequence[LabelledDraw], ours: Sequence[Evaluation]
) -> tuple[Differences, np.ndarray | None]:
    """Reference − potential on all labelled configurations, and of the stresses where there are some.

    Parameters
    ----------
    target : HarmonicDistribution
        The Gaussian over which averages are wanted.
    labelled : sequence of LabelledDraw
        Chosen at random, of one cell and grid.
    ours : sequence of Evaluation
        For each draw, every configuration by the twin that did not learn it, its energy above that of the
        last draw's centroids by the same twin.

    Returns
    -------
    differences : Differences
        Energies of the reference are above that of the last draw's centroids.
    stresses : ndarray, shape (n, 6), or None
    """
    zero = labelled[-1].reference.energies[-1]
    moved, energies, forces, stresses = [], [], [], []
    for one, own in zip(labelled, ours, strict=True):
        n = len(one.draw)
        moved.append(displacements_from(target, one.draw))
        energies.append(one.reference.energies[:n] - zero - own.energies)
        forces.append(one.reference.force_array[:n] - own.force_array)
        stresses.append(one.reference.stresses[:n] - own.stresses)
    weights = mixture_weights(target, [one.draw for one in labelled])
    together = np.concatenate(stresses)
    return (
        Differences(np.concatenate(moved), np.concatenate(energies), np.concatenate(forces), weights),
        together if np.isfinite(together).all() else None,
    )


def agreement(
    result: SschaResult,
    ensemble: Ensemble,
    mean: Evaluation,
    differences: Differences,
    stresses: np.ndarray | None,
    group: Projection,
    settings: LearnSettings,
) -> Agreement:
    """What the reference asks for beyond a finished SSCHA.

    Parameters
    ----------
    result : SschaResult
    ensemble : Ensemble
        Its last, with the forces that it was minimised with.
    mean : Evaluation
        The ensemble's configurations by the mean of the twins; the last row: centroids of the last draw.
    differences, stresses
        Of `honest_differences`.
    group : Projection
        Space group of the auxiliary.
    settings : LearnSettings
        Tolerances.

    Returns
    -------
    Agreement

    Raises
    ------
    CalculationError
        Too few configurations.
    """
    if len(differences.energies) < 4:
        raise CalculationError("fewer than two pairs of labelled configurations give no error; label more")
    target = HarmonicDistribution(result.auxiliary, result.settings.temperature_k)
    n = len(ensemble)
    own = dataclasses.replace(
        ensemble,
        energies=mean.energies[:n],
        forces=mean.force_array[:n],
        stresses=mean.stresses[:n] if mean.has_stress else None,
        static_energy=float(mean.energies[-1]),
    )
    blocks = result.settings.n_blocks
    found = correct(target, own, differences, group, blocks, ensemble.weights(target))
    distances = [
        _frequencies(result, found, settings.frequency_tolerance_cm),
        _free_energy(result, found, settings.free_energy_tolerance_mev),
    ]
    pressure, error = None, None
    if result.stress is not None and result.stress_sigma is not None and stresses is not None:
        if ensemble.stresses is not None and mean.has_stress:
            weights = ensemble.weights(target)
            ours = np.average(mean.stresses[:n] - ensemble.stresses, axis=0, weights=weights)
            change, sigma = _pressure(differences, stresses)
            change -= float(ours[:3].mean())
            pressure = float(-result.stress[:3].mean()) + change
            error = float(np.hypot(sigma, result.stress_sigma[:3].mean())) * EV_PER_ANGSTROM3_GPA
            pressure, change = pressure * EV_PER_ANGSTROM3_GPA, change * EV_PER_ANGSTROM3_GPA
            tolerance = settings.pressure_tolerance_gpa
            distances.append(Distance("pressure", "GPa", change, error, tolerance, error))
    weights = differences.weights
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return Agreement(found, pressure, error, tuple(distances), effective)


def _frequencies(result: SschaResult, found: Corrections, tolerance: float) -> Distance:
    """The mode farthest from agreement, translations left out."""
    change, sigma = np.array(found.gradient_cm), np.array(found.gradient_sigma_cm)
    moving = np.ones(change.shape, dtype=bool)
    moving[0, acoustic(result.auxiliary)] = False
    beyond = np.where(moving, np.abs(change) / np.maximum(tolerance, CLEAR * sigma), 0.0)
    worst = np.unravel_index(int(beyond.argmax()), change.shape)
    largest = float(sigma[moving].max())
    return Distance("frequencies", "cm⁻¹", float(change[worst]), float(sigma[worst]), tolerance, largest)


def _free_energy(result: SschaResult, found: Corrections, tolerance: float) -> Distance:
    """meV per atom."""
    scale = 1e3 / len(result.auxiliary.primitive)
    change = scale * (found.free_energy - result.free_energy)
    sigma = scale * found.free_energy_sigma
    return Distance("free energy", "meV/atom", change, sigma, tolerance, sigma)


def _pressure(differences: Differences, stresses: np.ndarray) -> tuple[float, float]:
    """Mean pressure of reference − potential and its error, eV/Å³."""
    values, weights = -stresses[:, :3].mean(axis=1), differences.weights
    deleted = [np.average(values[keep], weights=weights[keep]) for keep in differences.leave_one_out()]
    return float(np.average(values, weights=weights)), float(jackknife(np.array(deleted)))
