"""Thermal expansion by the SSCHA: a run at each temperature that relaxes its cell to one pressure.

The cell of a finished run holds the noise of its last populations.  What is quoted is the cell in which the
final ensemble, which had no part in finding it, would be at the pressure: ε = -C⁻¹ (σ + P) further on, with
the stiffness C that the run has learnt, and the standard error of σ carried through C⁻¹.

Only the q-points of the supercell vibrate, and three of their modes are translations: see
:func:`himlip_ase.phonons.thermal_expansion.with_finite_size`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.thermal_expansion import ThermalExpansion
from himlip_ase.sscha.cell import excess_stress
from himlip_ase.sscha.ensembles.evaluation import Evaluate
from himlip_ase.sscha.results.result import SschaResult
from himlip_ase.sscha.run.checkpoints import State
from himlip_ase.sscha.run.continuation import temperature_series
from himlip_ase.sscha.run.finished_population import load_population
from himlip_ase.sscha.run.loop import run_sscha
from himlip_ase.sscha.settings import SschaSettings


def sscha_expansion(
    dynamical: DynamicalMatrices,
    evaluate: Evaluate,
    temperatures_k: Sequence[float],
    folder: str | os.PathLike,
    settings: SschaSettings,
    resume: bool = False,
    progress: bool = False,
) -> tuple[ThermalExpansion, dict[float, SschaResult]]:
    """Run the SSCHA at each temperature, each begun from the one before, and read off the cells.

    Parameters
    ----------
    dynamical : DynamicalMatrices
        Harmonic matrices of the statically relaxed crystal; may be unstable.
    evaluate : callable
        See :func:`~himlip_ase.sscha.run.loop.run_sscha`; with stresses.
    temperatures_k : sequence of float
        K.
    folder : path-like
        Each run gets ``T<kelvin>K`` in it.
    settings : SschaSettings
        With a `pressure_gpa`; the temperature is put in.
    resume : bool
        Continue what `folder` holds.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    ThermalExpansion
    dict of float to SschaResult
        By temperature.

    Raises
    ------
    InputError
        Settings without a pressure, no temperatures.
    CalculationError
        A run that did not converge: the others are on disk, and `resume` with more populations goes on.
    """
    temperatures = np.unique(np.asarray(temperatures_k, dtype=float))
    if settings.pressure_gpa is None:
        raise InputError("thermal expansion is that of a cell at a pressure; set pressure_gpa (--pressure)")
    if len(temperatures) == 0 or temperatures[0] < 0:
        raise InputError(f"temperatures must be 0 or positive (K); got {list(temperatures_k)}")
    first = Path(folder) / f"T{temperatures[0]:g}K"
    begun = resume and (first / "state" / "run.json").exists()
    chosen = dataclasses.replace(settings, temperature_k=float(temperatures[0]))
    results = {float(temperatures[0]): run_sscha(dynamical, evaluate, chosen, first, begun, progress)}
    results |= temperature_series(
        first, evaluate, temperatures[1:].tolist(), folder, settings, resume, progress
    )
    for temperature, result in results.items():
        if not result.converged:
            raise CalculationError(
                f"the run at {temperature:g} K did not converge: {result.verdict}; its figures are in "
                f"{Path(folder) / f'T{temperature:g}K'}"
            )
    cells = [_cell(Path(folder) / f"T{t:g}K", result) for t, result in results.items()]
    volumes, volume_sigma, lengths, length_sigma = (np.array(column) for column in zip(*cells, strict=True))
    alpha, alpha_sigma = _coefficients(temperatures, volumes, volume_sigma)
    found = ThermalExpansion(
        "SSCHA", float(settings.pressure_gpa), temperatures, volumes, volume_sigma, lengths, length_sigma,
        alpha, alpha_sigma, float(abs(np.linalg.det(dynamical.primitive.cell.array))),
        "the stress of the final ensembles",
    )  # fmt: skip
    return found, results


def _cell(folder: Path, result: SschaResult) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Volume and lengths at the pressure, with their standard errors."""
    population = load_population(State(folder), len(result.populations))
    if population is None or population.cell is None or result.stress is None or result.stress_sigma is None:
        raise InputError(f"{folder} holds no relaxation of the cell any more; run it again")
    cell, relaxation = result.auxiliary.primitive.cell.array, population.cell
    assert result.settings.pressure_gpa is not None
    now = excess_stress(result.stress, result.stress_sigma, relaxation.basis, result.settings.pressure_gpa)
    inverse = np.linalg.pinv(relaxation.stiffness)
    strains = np.einsum("kij,kl->lij", relaxation.basis, -inverse)  # answer to a unit of each excess
    moved = cell @ (np.eye(3) + np.tensordot(now.excess, strains, 1))
    volume = float(abs(np.linalg.det(moved)))
    traces = np.trace(strains, axis1=1, axis2=2)
    directions = cell / np.linalg.norm(cell, axis=1)[:, None]
    stretches = np.einsum("ai,lij,aj->al", directions, strains, directions)
    # components of one ensemble are taken to err together
    return (
        volume,
        float(volume * (np.abs(traces) * now.sigma).sum()),
        np.linalg.norm(moved, axis=1),
        np.linalg.norm(cell, axis=1) * (np.abs(stretches) * now.sigma).sum(axis=1),
    )


def _coefficients(
    temperatures: np.ndarray, volumes: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(1/V) ΔV/ΔT between the neighbours of inner temperatures, and its standard error; NaN at the ends."""
    alpha, error = np.full(len(volumes), np.nan), np.full(len(volumes), np.nan)
    for place in range(1, len(volumes) - 1):
        span = temperatures[place + 1] - temperatures[place - 1]
        alpha[place] = (volumes[place + 1] - volumes[place - 1]) / span / volumes[place]
        error[place] = np.hypot(sigma[place + 1], sigma[place - 1]) / span / volumes[place]
    return alpha, error
    places = np.arange(len(volumes))
    left, right = np.maximum(places - 1, 0), np.minimum(places + 1, len(volumes) - 1)
    span = temperatures[right] - temperatures[left]
    alpha = (volumes[right] - volumes[left]) / span / volumes
    error = np.hypot(sigma[right], sigma[left]) / span / volumes
    return alpha, error
