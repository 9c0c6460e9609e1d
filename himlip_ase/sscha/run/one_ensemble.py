"""Minimisation and free-energy Hessian on one ensemble that is there already, such as one of python-sscha.

No forces are computed.  What is found is as good as the ensemble: it ends where the Kong-Liu ratio runs out,
and no fresh ensemble has tested it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha.array_files import load_arrays, pack, restoring, save_arrays, unpack
from himlip_ase.sscha.choices import HESSIAN_ORDERS
from himlip_ase.sscha.convergence.residual import Residual, residual
from himlip_ase.sscha.curvature.hessian import HessianEstimate, estimate_hessian
from himlip_ase.sscha.curvature.stars import inequivalent
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import Minimisation, MinimisationProblem
from himlip_ase.sscha.minimisation.engines import engine
from himlip_ase.sscha.run.evaluated_ensembles import REUSE_KONG_LIU
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

SCHEMA = 1
FEWEST = 8
"""Configurations without which there are no error bars."""


@dataclass(frozen=True, eq=False)
class EnsembleMinimum:
    """The minimum of the free energy on one ensemble.

    Attributes
    ----------
    target : HarmonicDistribution
        The auxiliary found.
    minimisation : Minimisation
    in_sample : Residual
        What the ensemble still asks of the auxiliary, with its error bars.
    free_energy, free_energy_sigma : float
        eV per primitive cell, the potential energy included; biased low by the search itself.
    stress, stress_sigma : ndarray, shape (6,), or None
        Of the quantum crystal, ASE Voigt, eV/Å³, positive in tension.
    engine : str
        Name and version.
    """

    target: HarmonicDistribution
    minimisation: Minimisation
    in_sample: Residual
    free_energy: float
    free_energy_sigma: float
    stress: np.ndarray | None
    stress_sigma: np.ndarray | None
    engine: str

    @property
    def complete(self) -> bool:
        """Whether the gradient vanished: the ensemble carried the minimisation to its end."""
        return self.minimisation.ended == "gradient"

    def as_dict(self) -> dict[str, Any]:
        """Figures with units and uncertainties, ready for JSON."""
        dynamical, found = self.target.dynamical, self.minimisation
        pressure = None
        if self.stress is not None and self.stress_sigma is not None:
            pressure = {
                "value": float(-self.stress[:3].mean() * EV_PER_ANGSTROM3_GPA),
                "uncertainty": float(self.stress_sigma[:3].mean() * EV_PER_ANGSTROM3_GPA),
                "unit": "GPa",
            }
        return {
            "schema": SCHEMA,
            "engine": self.engine,
            "temperature_k": self.target.temperature_k,
            "complete": self.complete,
            "ended": found.ended,
            "reason": found.reason,
            "steps": len(found.free_energy) - 1,
            "kong_liu": float(found.kong_liu[-1]),
            "free_energy": {
                "value": self.free_energy,
                "uncertainty": self.free_energy_sigma,
                "unit": "eV/primitive cell, potential energy included",
            },
            "pressure": pressure,
            "qpoints": dynamical.qpoints.tolist(),
            "auxiliary_frequencies": {
                "value": dynamical.frequencies().tolist(),
                "uncertainty": self.in_sample.sigma_cm.tolist(),
                "unit": "cm^-1",
            },
            "centroids": {
                "value": dynamical.primitive.get_scaled_positions(wrap=False).tolist(),
                "unit": "fractional",
            },
        }


def settings_for(ensemble: Ensemble, **choices: Any) -> SschaSettings:
    """Settings whose blocks suit an ensemble.

    Parameters
    ----------
    ensemble : Ensemble
    **choices
        As :class:`~himlip_ase.sscha.settings.SschaSettings` takes them.

    Returns
    -------
    SschaSettings

    Raises
    ------
    InputError
        The ensemble is too small for error bars.
    """
    if len(ensemble) < FEWEST:
        raise InputError(
            f"{len(ensemble)} configurations give no error bars; bring {FEWEST} or more of one population"
        )
    blocks = min(20, len(ensemble) // 2)
    return SschaSettings(
        n_configurations=2 * (len(ensemble) // 2),
        n_blocks=blocks,
        temperature_k=ensemble.drawn_from.temperature_k,
        n_hessian_configurations=0,
        **choices,
    )


def minimise_ensemble(ensemble: Ensemble, settings: SschaSettings) -> EnsembleMinimum:
    """Minimise the free energy on one ensemble.

    Parameters
    ----------
    ensemble : Ensemble
    settings : SschaSettings
        Engine, minimiser and thresholds; see :func:`settings_for`.

    Returns
    -------
    EnsembleMinimum
    """
    code, group = engine(settings.engine, settings.minimiser), SpaceGroup(ensemble.drawn_from.dynamical)
    move = settings.minimise_structure and group.has_free_coordinates()
    found = code.minimise(MinimisationProblem(ensemble, group, settings, move_centroids=move))
    target = HarmonicDistribution(found.auxiliary, ensemble.drawn_from.temperature_k)
    value, sigma = code.free_energy(ensemble, target)
    stress = code.stress(ensemble, group, target)
    return EnsembleMinimum(
        target,
        found,
        residual(target, ensemble, group, settings.n_blocks, found.weights),
        value,
        sigma,
        None if stress is None else stress[0],
        None if stress is None else stress[1],
        code.name,
    )


@dataclass(frozen=True, eq=False)
class EnsembleHessian:
    """Free-energy Hessian of an auxiliary on one ensemble.

    Attributes
    ----------
    target : HarmonicDistribution
        The auxiliary.
    estimate : HessianEstimate
    kong_liu : float
        Kong-Liu ratio of the ensemble for the auxiliary; 1 where it was drawn from it.
    order : str
        Terms that are in.
    """

    target: HarmonicDistribution
    estimate: HessianEstimate
    kong_liu: float
    order: str

    @property
    def carried(self) -> bool:
        """Whether the ensemble stands for a draw from the auxiliary, and the fourth order is positive."""
        return self.kong_liu >= REUSE_KONG_LIU and self.estimate.positive

    def as_dict(self) -> dict[str, Any]:
        """Figures with units and uncertainties, ready for JSON."""
        estimate = self.estimate
        return {
            "schema": SCHEMA,
            "temperature_k": self.target.temperature_k,
            "order": self.order,
            "kong_liu": self.kong_liu,
            "positive": estimate.positive,
            "qpoints": estimate.hessian.qpoints.tolist(),
            "auxiliary_frequencies": {
                "value": self.target.dynamical.frequencies().tolist(),
                "unit": "cm^-1",
            },
            "hessian_frequencies": {
                "value": estimate.hessian.frequencies().tolist(),
                "uncertainty": estimate.sigma_cm.tolist(),
                "bias_estimate": estimate.bias_cm.tolist(),
                "unit": "cm^-1, imaginary negative",
            },
        }


def hessian_of_ensemble(
    ensemble: Ensemble, auxiliary: DynamicalMatrices | None = None, order: str = "third+fourth"
) -> EnsembleHessian:
    """Free-energy Hessian on one ensemble, reweighted where it was not drawn from the auxiliary.

    Parameters
    ----------
    ensemble : Ensemble
    auxiliary : DynamicalMatrices, optional
        With its own centroids; by default those that the ensemble was drawn from.  The temperature is that of
        the ensemble.
    order : str
        A name of :data:`~himlip_ase.sscha.choices.HESSIAN_ORDERS`.

    Returns
    -------
    EnsembleHessian
    """
    fourth = HESSIAN_ORDERS[order].fourth
    n_blocks = settings_for(ensemble).n_blocks
    drawn_from = ensemble.drawn_from
    target = drawn_from if auxiliary is None else HarmonicDistribution(auxiliary, drawn_from.temperature_k)
    weights = ensemble.weights(target)
    group = SpaceGroup(target.dynamical)
    in_sample = residual(target, ensemble, group, n_blocks, weights)
    estimate = estimate_hessian(target, ensemble, in_sample, group, n_blocks, fourth=fourth, weights=weights)
    kong_liu = float(weights.sum() ** 2 / (weights**2).sum() / len(weights))
    return EnsembleHessian(target, estimate, kong_liu, order)


def write_minimum(found: EnsembleMinimum, folder: str | os.PathLike, overwrite: bool = False) -> None:
    """Write ``minimum.json`` (figures), ``minimum.npz`` (exact matrices) and ``auxiliary.dyn*``.

    Parameters
    ----------
    found : EnsembleMinimum
    folder : path-like
    overwrite : bool
        Whether existing files may be replaced.
    """
    folder = Path(folder)
    write_json(folder / "minimum.json", found.as_dict(), overwrite)
    save_arrays(folder / "minimum.npz", pack("auxiliary", found.target.dynamical), overwrite)
    write_dyn(found.target.dynamical, folder / "auxiliary.dyn", overwrite)


def load_minimum(folder: str | os.PathLike) -> DynamicalMatrices:
    """The auxiliary that :func:`write_minimum` wrote, exact to the last bit.

    Raises
    ------
    CalculationError
        The file is missing or damaged.
    """
    path = Path(folder) / "minimum.npz"
    arrays = load_arrays(path)
    with restoring(path):
        return unpack("auxiliary", arrays)


def write_hessian(found: EnsembleHessian, folder: str | os.PathLike, overwrite: bool = False) -> None:
    """Write ``hessian.json`` (figures) and ``hessian.dyn*``.

    Parameters
    ----------
    found : EnsembleHessian
    folder : path-like
    overwrite : bool
        Whether existing files may be replaced.
    """
    folder = Path(folder)
    write_json(folder / "hessian.json", found.as_dict(), overwrite)
    write_dyn(found.estimate.hessian, folder / "hessian.dyn", overwrite)


def describe_minimum(found: EnsembleMinimum) -> list[str]:
    """A minimum in a few lines, why it ended first."""
    minimisation = found.minimisation
    state = "minimum found" if found.complete else "NOT AT THE MINIMUM"
    lines = [
        f"{state}: {minimisation.reason}; Kong-Liu ratio {minimisation.kong_liu[-1]:.2f}, "
        f"{len(minimisation.free_energy) - 1} steps",
        f"free energy    {found.free_energy:.6f} ± {found.free_energy_sigma:.6f} eV per cell, potential "
        "energy included, biased low by the search on this ensemble",
    ]
    if found.stress is not None and found.stress_sigma is not None:
        pressure = -found.stress[:3].mean() * EV_PER_ANGSTROM3_GPA
        error = found.stress_sigma[:3].mean() * EV_PER_ANGSTROM3_GPA
        lines.append(f"pressure       {pressure:.2f} ± {error:.2f} GPa")
    return [*lines, *_rows(found.target.dynamical, found.in_sample.sigma_cm, "auxiliary")]


def describe_hessian(found: EnsembleHessian) -> list[str]:
    """A Hessian in a few lines, whether the ensemble carries it first."""
    state = "the ensemble carries it" if found.carried else "NOT TO BE TRUSTED"
    why = "" if found.estimate.positive else ", the fourth order is stronger than the second"
    return [
        f"{state}: Kong-Liu ratio {found.kong_liu:.2f} (at least {REUSE_KONG_LIU:g} is wanted){why}",
        *_rows(found.estimate.hessian, found.estimate.sigma_cm, "Hessian"),
    ]


def _rows(dynamical: DynamicalMatrices, sigma_cm: np.ndarray, name: str) -> list[str]:
    lines, values = [f"frequencies of the {name} (cm⁻¹)"], dynamical.frequencies()
    for index, count in inequivalent(values):
        q = dynamical.qpoints[index]
        more = f" and {count - 1} like it" if count > 1 else ""
        lines.append(f"q = ({q[0]:.3g}, {q[1]:.3g}, {q[2]:.3g}){more}")
        row = zip(np.rint(values[index]) + 0.0, sigma_cm[index], strict=True)
        lines.append("  " + " ".join(f"{value:.0f}±{error:.0f}" for value, error in row))
    return lines
