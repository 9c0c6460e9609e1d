"""The ``sscha`` stage: anharmonic phonons, free energy and free-energy Hessian with the trained potential.

Its folder, each run of which `himlip_ase.sscha.result.load_result` reads (and of which the auxiliary and the
Hessian carry the masses that it was made with)::

    state/sscha/                 the main run: natural masses, grid q_grid
    state/sscha/<isotope>/       one for each name in `anharmonic.isotopes`, on the same grid
    state/sscha/grid_4x4x4/      one for each of `anharmonic.grids`, natural masses

`isotope_folders` and `grid_folders` give those that are finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.harmonic import HIMLIP_DYN
from himlip_ase.pipeline.stages import Context, Outcome, Stage
from himlip_ase.pipeline.training import load_trained
from himlip_ase.sscha.hessian import acoustic
from himlip_ase.units import EV_PER_ANGSTROM3_GPA


def _run(context: Context, folder: Path) -> Outcome:
    from himlip_ase.phonons.phonopy_io import write_phonopy_params
    from himlip_ase.potential.evaluate import evaluate
    from himlip_ase.sscha.loop import run_sscha

    model = load_trained(context)
    if model is None:
        raise CalculationError("there is no trained model; run the finetune stage: --from finetune")

    def forces(images: list[Atoms]) -> Any:
        return evaluate(model, images, stress=True)

    settings = context.config.sscha
    initial = read_dyn(context.of("phonons") / f"{HIMLIP_DYN}0")
    result = run_sscha(initial, forces, settings, folder, resume=(folder / "state").exists(), progress=True)
    if not (folder / "result.json").exists():
        result.save(folder)
    write_phonopy_params(
        result.auxiliary.force_constants(), folder / "phonopy_params_auxiliary.yaml", overwrite=True
    )

    outcome = Outcome()
    n_populations = len(result.populations)
    run = (
        f"{n_populations} populations of {settings.n_configurations} configurations at "
        f"{settings.temperature_k:g} K, seed {settings.seed}, {result.engine}"
    )
    outcome.add("sscha_converged", bool(result.converged), "", result.verdict)
    if not result.converged:
        outcome.notes.append(f"The SSCHA did not converge: {result.verdict}. No Tc is quoted from it.")
    outcome.add(
        "sscha_force_calls",
        n_populations * settings.n_configurations + settings.n_hessian_configurations,
        "supercells",
        "forces evaluated by the potential",
    )
    outcome.add(
        "free_energy",
        1e3 * result.free_energy,
        "meV/cell",
        f"SSCHA free energy relative to the static lattice, primitive cell; {run}",
        1e3 * result.free_energy_sigma,
    )
    if result.stress is not None and result.stress_sigma is not None:
        outcome.add(
            "pressure_quantum",
            float(-result.stress[:3].mean() * EV_PER_ANGSTROM3_GPA),
            "GPa",
            "pressure of the quantum crystal by the potential, static part included",
            float(np.linalg.norm(result.stress_sigma[:3]) / 3 * EV_PER_ANGSTROM3_GPA),
        )
    value, sigma = lowest_optical(result.auxiliary, result.auxiliary_sigma_cm)
    outcome.add(
        "gamma_optical_lowest.auxiliary", value, "cm⁻¹", "SSCHA auxiliary, positive by construction", sigma
    )
    if result.hessian is not None and result.hessian_sigma_cm is not None:
        write_phonopy_params(
            result.hessian.force_constants(), folder / "phonopy_params_hessian.yaml", overwrite=True
        )
        value, sigma = lowest_optical(result.hessian, result.hessian_sigma_cm)
        how = (
            f"free-energy Hessian with the third-order bubble, {settings.n_hessian_configurations} fresh "
            "configurations; imaginary shown negative"
        )
        outcome.add("gamma_optical_lowest.hessian", value, "cm⁻¹", how, sigma)
        frequencies = result.hessian.frequencies()
        least = np.unravel_index(
            _without_translations(result.hessian, frequencies).argmin(), frequencies.shape
        )
        outcome.add(
            "hessian_lowest",
            float(frequencies[least]),
            "cm⁻¹",
            f"lowest mode of the free-energy Hessian, at q = {result.hessian.qpoints[least[0]].tolist()}",
            float(result.hessian_sigma_cm[least]),
        )
    return outcome


def isotope_folders(context: Context) -> dict[str, Path]:
    """Folders of the isotopes' runs that hold a result, by name, in the order of the configuration."""
    home = context.of(STAGE.name)
    names = context.config.anharmonic.isotopes
    return {name: home / name for name in names if (home / name / "result.json").is_file()}


def grid_folders(context: Context) -> dict[tuple[int, int, int], Path]:
    """Folders of the runs on further grids that hold a result."""
    home = context.of(STAGE.name)
    places = {grid: home / f"grid_{'x'.join(map(str, grid))}" for grid in context.config.anharmonic.grids}
    return {grid: place for grid, place in places.items() if (place / "result.json").is_file()}


def lowest_optical(matrices: DynamicalMatrices, sigma_cm: np.ndarray) -> tuple[float, float]:
    """Lowest optical frequency at Γ and its standard error, cm⁻¹; degenerate partners are averaged.

    Parameters
    ----------
    matrices : DynamicalMatrices
    sigma_cm : ndarray (nq, 3n)
        Standard errors in the order of ``matrices.frequencies()``.
    """
    frequencies = _without_translations(matrices, matrices.frequencies())[0]
    lowest = frequencies.min()
    same = np.abs(frequencies - lowest) < 1.0
    return float(frequencies[same].mean()), float(np.sqrt(np.mean(sigma_cm[0][same] ** 2)))


def _without_translations(matrices: DynamicalMatrices, frequencies: np.ndarray) -> np.ndarray:
    """Frequencies with the three translations at Γ set to +inf."""
    result = np.array(frequencies, dtype=float)
    result[0, acoustic(matrices)] = np.inf
    return result


def _inputs(context: Context) -> list[Any]:
    resolved = context.config.resolved()
    return [resolved["sscha"], resolved["anharmonic"]]


STAGE = Stage("sscha", _run, _inputs)
