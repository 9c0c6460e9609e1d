"""The ``sscha`` stage: anharmonic phonons, free energy and free-energy Hessian with the trained potential.

Its folder, each run of which `himlip_ase.sscha.results.result.load_result` reads (and of which the auxiliary
and the Hessian carry the masses that it was made with)::

    state/sscha/                 the main run: natural masses, grid q_grid
    state/sscha/<isotope>/       one for each name in `anharmonic.isotopes`, on the same grid
    state/sscha/grid_4x4x4/      one for each of `anharmonic.grids`, natural masses

`isotope_folders` and `grid_folders` give those that are finished.  Each run is kept while its own inputs stay
the same: another isotope or grid in the configuration costs only itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import CalculationError
from himlip_ase.files import write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices, acoustic
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.finetune import load_trained, trained_path
from himlip_ase.pipeline.label_correction import CORRECTION_VERSION, correct_by_finished_labels
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.learn import correct_by_labels, learnt_labels
from himlip_ase.pipeline.phonons import HIMLIP_DYN
from himlip_ase.pipeline.potential_error import quote_potential_error
from himlip_ase.pipeline.runfolder import hash_inputs
from himlip_ase.pipeline.stages import Context, Outcome, Stage
from himlip_ase.sscha.ensembles.evaluation import Evaluate
from himlip_ase.sscha.ensembles.precision import precision_sentence
from himlip_ase.sscha.results.grid_comparison import GridDifference, compare_grids
from himlip_ase.sscha.results.result import SschaResult
from himlip_ase.sscha.run.checkpoints import MAY_CHANGE
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.watch.watch import Watch
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

logger = logging.getLogger(__name__)

GRIDS = "grids.json"
INPUTS = "inputs.sha256"


def _run(context: Context, folder: Path) -> Outcome:
    from himlip_ase.hint.last_layer.twin_weights import load_twins
    from himlip_ase.sscha.ensembles.workers import potential_forces
    from himlip_ase.sscha.run.continuation import continue_run
    from himlip_ase.sscha.run.loop import run_sscha
    from himlip_ase.sscha.watch.watch_inputs import build_watch

    model = trained_path(context)
    if load_trained(context) is None:
        raise CalculationError("there is no trained model; run the finetune stage: --from finetune")
    section, settings = context.config.anharmonic, context.config.sscha
    start = read_dyn(context.of("phonons") / f"{HIMLIP_DYN}0")
    key = _key(context, start)
    watch = build_watch([label_folder(context).path, *learnt_labels(context)])
    outcome = Outcome()
    differences: dict[str, GridDifference] = {}
    twins = load_twins(model)
    with potential_forces(model, section.workers or _cores(), context.config.executor) as forces:
        if settings.pressure_gpa is not None and not (folder / "result.json").exists():
            _check_reach(context, start, forces, settings.pressure_gpa)
        main = _one(
            folder,
            key,
            lambda resume: run_sscha(start, forces, settings, folder, resume, progress=True, watch=watch),
        )
        _quote(outcome, main, "")
        _quote_watch(outcome, folder, "")
        quote_potential_error(outcome, folder, "", twins)
        correct_by_labels(context, folder, outcome)
        correct_by_finished_labels(context, folder, outcome, model, twins, section.corrected_by)
        for name, masses in section.isotopes.items():
            result = _isotope(folder, name, masses, key, forces, partial(continue_run, watch=watch))
            _quote(outcome, result, f".{name}")
            _quote_watch(outcome, folder / name, f".{name}")
            quote_potential_error(outcome, folder / name, f".{name}", twins)
            correct_by_finished_labels(
                context, folder / name, outcome, model, twins, section.corrected_by, f".{name}", isotope=True
            )
        for dims in section.grids:
            if dims == start.dims:
                continue
            result = _grid(context, folder, dims, start, key, forces, watch)
            place, suffix = folder / grid_name(dims), f".{grid_name(dims)}"
            _quote(outcome, result, suffix)
            _quote_watch(outcome, place, suffix)
            quote_potential_error(outcome, place, suffix, twins)
            correct_by_finished_labels(
                context, place, outcome, model, twins, section.grids_corrected_by, suffix
            )
            differences[grid_name(dims)] = compare_grids(main, result)
            _quote_difference(outcome, differences[grid_name(dims)], suffix)
    if differences:
        data = {name: difference.as_dict() for name, difference in differences.items()}
        write_json(folder / GRIDS, data, overwrite=True)
    return outcome


def _check_reach(context: Context, start: DynamicalMatrices, forces: Evaluate, pressure_gpa: float) -> None:
    """Refuse before the SSCHA what the ``tc`` stage would refuse after it, where G(q) is wanted."""
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.phonons.harmonic import harmonic_force_constants
    from himlip_ase.pipeline.relaxed_cell import check_reach

    if not label_folder(context).has_elph:
        return
    calculator = HiMLIPCalculator(load_trained(context))

    def phonons(primitive: Atoms) -> DynamicalMatrices:
        return harmonic_force_constants(primitive, calculator, start.dims).dynamical_matrices()

    check_reach(start, forces, phonons, pressure_gpa, context.config.tc.max_strain)


def _cores() -> int:
    """Cores that this process may use, for the forces; small ensembles gain little beyond eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _key(context: Context, start: DynamicalMatrices) -> str:
    """What decides the main run: settings (but those that a resumed run may change), start and potential."""
    settings = context.config.resolved()["sscha"]
    fixed = {name: value for name, value in settings.items() if name not in MAY_CHANGE}
    return hash_inputs(fixed, start.matrices.tobytes().hex(), trained_path(context))


def _one(folder: Path, key: str, run: Callable[[bool], SschaResult]) -> SschaResult:
    """A run in its folder: continued if it was begun with the same inputs, else begun anew."""
    from himlip_ase.pipeline.stages import set_aside

    mark = folder / INPUTS
    if folder.is_dir() and any(folder.iterdir()):
        if not mark.exists() or mark.read_text(encoding="utf-8").strip() != key:
            set_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(key + "\n", encoding="utf-8")
    result = run((folder / "state" / "run.json").exists())
    _write_phonopy(result, folder)
    return result


def _isotope(
    folder: Path,
    name: str,
    masses: dict[str, float],
    key: str,
    forces: Evaluate,
    continue_run: Callable[..., SschaResult],
) -> SschaResult:
    logger.info("isotope %s: %s", name, ", ".join(f"{element} {m:g} amu" for element, m in masses.items()))
    place = folder / name
    return _one(
        place,
        hash_inputs(key, masses),
        lambda resume: continue_run(folder, forces, place, masses=masses, resume=resume, progress=True),
    )


def _grid(
    context: Context,
    folder: Path,
    dims: tuple[int, int, int],
    start: DynamicalMatrices,
    key: str,
    forces: Evaluate,
    watch: Watch,
) -> SschaResult:
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.phonons.harmonic import harmonic_force_constants
    from himlip_ase.sscha.run.initial import stored_start
    from himlip_ase.sscha.run.loop import run_sscha

    logger.info("grid %s: harmonic start from the potential", "×".join(map(str, dims)))
    calculator = HiMLIPCalculator(load_trained(context))
    share = context.config.anharmonic.grid_share
    place, settings = folder / grid_name(dims), thinned(context.config.sscha, share)

    def run(resume: bool) -> SschaResult:
        own = stored_start(
            place, lambda: harmonic_force_constants(start.primitive, calculator, dims).dynamical_matrices()
        )
        return run_sscha(own, forces, settings, place, resume, progress=True, watch=watch)

    chosen = [] if share == 1 else [share]
    return _one(place, hash_inputs(key, list(dims), *chosen), run)


def thinned(settings: SschaSettings, share: float) -> SschaSettings:
    """The same settings with a share of the configurations, even numbers and enough for the blocks.

    Parameters
    ----------
    settings : SschaSettings
    share : float
        1 changes nothing.

    Returns
    -------
    SschaSettings
    """

    def part(number: int) -> int:
        return min(number, max(2 * settings.n_blocks, 2 * round(share * number / 2)))

    return replace(
        settings,
        n_configurations=part(settings.n_configurations),
        n_hessian_configurations=part(settings.n_hessian_configurations),
    )


def _write_phonopy(result: SschaResult, folder: Path) -> None:
    from himlip_ase.phonons.phonopy_io import write_phonopy_params

    for name, dynamical in (("auxiliary", result.auxiliary), ("hessian", result.hessian)):
        if dynamical is not None:
            path = folder / f"phonopy_params_{name}.yaml"
            write_phonopy_params(dynamical.force_constants(), path, overwrite=True)


def _quote(outcome: Outcome, result: SschaResult, suffix: str) -> None:
    """Figures of one run, their names ending in `suffix`: "" for the main run, ".D3S", ".grid_4x4x4"."""
    settings = result.settings
    sizes = sorted({record.n_configurations for record in result.populations})
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    grid = "×".join(map(str, result.auxiliary.dims))
    run = (
        f"{len(result.populations)} populations of {size} configurations at {settings.temperature_k:g} K, "
        f"{grid} supercell, seed {settings.seed}, {result.engine}"
    )
    outcome.add(f"sscha_converged{suffix}", bool(result.converged), "", result.verdict)
    if not result.converged:
        what = f"The SSCHA of {suffix[1:]}" if suffix else "The SSCHA"
        outcome.notes.append(f"{what} did not converge: {result.verdict}. No Tc is quoted from it.")
    saved = f"; {result.force_calls_saved} taken over from the main run" if result.force_calls_saved else ""
    how = f"forces evaluated by the potential{saved}"
    outcome.add(f"sscha_force_calls{suffix}", result.force_calls, "supercells", how)
    outcome.add(
        f"free_energy{suffix}",
        1e3 * result.free_energy,
        "meV/cell",
        f"SSCHA free energy relative to the static lattice, primitive cell; {run}",
        1e3 * result.free_energy_sigma,
    )
    if result.stress is not None and result.stress_sigma is not None:
        outcome.add(
            f"pressure_quantum{suffix}",
            float(-result.stress[:3].mean() * EV_PER_ANGSTROM3_GPA),
            "GPa",
            f"pressure of the quantum crystal by the potential, static part included; {grid} supercell",
            float(result.stress_sigma[:3].mean() * EV_PER_ANGSTROM3_GPA),
        )
    optical = len(result.auxiliary.primitive) > 1
    if optical:
        value, sigma = lowest_optical(result.auxiliary, result.auxiliary_sigma_cm)
        how = f"SSCHA auxiliary, positive by construction; {grid} supercell"
        outcome.add(f"gamma_optical_lowest.auxiliary{suffix}", value, "cm⁻¹", how, sigma)
    if result.final_rounding is not None:
        how = f"final ensemble in {precision_sentence(result.final_rounding)}"
        outcome.add(f"sscha_rounding{suffix}", result.final_rounding, "standard errors", how)
    if result.hessian is None or result.hessian_sigma_cm is None:
        return
    order = {"third": "third-order term", "third+fourth": "third- and fourth-order terms"}
    how = (
        f"free-energy Hessian with the {order[settings.hessian_order]}, "
        f"{settings.n_hessian_configurations} configurations, {grid} supercell; imaginary shown negative"
    )
    if optical:
        value, sigma = lowest_optical(result.hessian, result.hessian_sigma_cm)
        outcome.add(f"gamma_optical_lowest.hessian{suffix}", value, "cm⁻¹", how, sigma)
    frequencies = result.hessian.frequencies()
    least = np.unravel_index(_without_translations(result.hessian, frequencies).argmin(), frequencies.shape)
    q = ", ".join(f"{x + 0.0:.4g}" for x in result.hessian.qpoints[least[0]])
    outcome.add(
        f"hessian_lowest{suffix}",
        float(frequencies[least]),
        "cm⁻¹",
        f"lowest mode of the free-energy Hessian on the {grid} grid, at q = ({q})",
        float(result.hessian_sigma_cm[least]),
    )


def _quote_watch(outcome: Outcome, folder: Path, suffix: str) -> None:
    """How far the last ensemble of a run went from what the potential was taught."""
    from himlip_ase.sscha.watch.watch import read_watch

    records = read_watch(folder)
    if not records or np.isnan(records[-1].outside).all():
        return
    last = records[-1]
    how = f"of the {last.name} ensemble, farther from all labels than 99 % of the labels are; {last.message}"
    outcome.add(f"atoms_far_from_labels{suffix}", 100 * float(last.outside.mean()), "%", how)
    if not last.trusted:
        which = f"The SSCHA {suffix[1:]}".rstrip()
        outcome.notes.append(f"{which} left what the potential was taught: {last.message}.")


def _quote_difference(outcome: Outcome, difference: GridDifference, suffix: str) -> None:
    """What the larger supercell changes."""
    coarse, fine = ("×".join(map(str, dims)) for dims in (difference.coarse, difference.fine))
    words = f"{fine} minus {coarse}"
    value, sigma = difference.free_energy_mev
    outcome.add(f"grid_difference.free_energy{suffix}", value, "meV/cell", words, sigma)
    if difference.pressure_gpa is not None:
        value, sigma = difference.pressure_gpa
        outcome.add(f"grid_difference.pressure{suffix}", value, "GPa", words, sigma)
    for kind, name in (("auxiliary", "auxiliary"), ("hessian", "free-energy Hessian")):
        if getattr(difference, kind) is None:
            continue
        how = f"{words}, frequencies of the {name} at the q-points of both grids"
        outcome.add(f"grid_difference.{kind}_rms{suffix}", difference.rms(kind), "cm⁻¹", f"{how}, rms")
        value, sigma = difference.largest(kind)
        outcome.add(f"grid_difference.{kind}_largest{suffix}", value, "cm⁻¹", f"{how}, largest", sigma)


def grid_name(dims: tuple[int, int, int]) -> str:
    """Folder of a further grid, and how its figures end: ``grid_4x4x4``."""
    return f"grid_{'x'.join(map(str, dims))}"


def isotope_folders(context: Context) -> dict[str, Path]:
    """Folders of the isotopes' runs that hold a result, by name, in the order of the configuration."""
    home = context.of(STAGE.name)
    names = context.config.anharmonic.isotopes
    return {name: home / name for name in names if (home / name / "result.json").is_file()}


def grid_folders(context: Context) -> dict[tuple[int, int, int], Path]:
    """Folders of the runs on further grids that hold a result."""
    home = context.of(STAGE.name)
    places = {dims: home / grid_name(dims) for dims in context.config.anharmonic.grids}
    return {dims: place for dims, place in places.items() if (place / "result.json").is_file()}


def lowest_optical(dynamical: DynamicalMatrices, sigma_cm: np.ndarray) -> tuple[float, float]:
    """Lowest optical frequency at Γ and its standard error, cm⁻¹; degenerate partners are averaged.

    Parameters
    ----------
    dynamical : DynamicalMatrices
    sigma_cm : ndarray (nq, 3n)
        Standard errors in the order of ``dynamical.frequencies()``.

    Returns
    -------
    frequency, error : float
        cm⁻¹.
    """
    frequencies = _without_translations(dynamical, dynamical.frequencies())[0]
    lowest = frequencies.min()
    same = np.abs(frequencies - lowest) < 1.0
    return float(frequencies[same].mean()), float(np.sqrt(np.mean(sigma_cm[0][same] ** 2)))


def _without_translations(dynamical: DynamicalMatrices, frequencies: np.ndarray) -> np.ndarray:
    """Frequencies with the three translations at Γ set to +inf."""
    result = np.array(frequencies, dtype=float)
    result[0, acoustic(dynamical)] = np.inf
    return result


def _inputs(context: Context) -> list[Any]:
    resolved = context.config.resolved()
    section = {name: value for name, value in resolved["anharmonic"].items() if name != "workers"}
    if section["grid_share"] == 1:  # younger than runs that are finished and stay so
        del section["grid_share"]
    own: list[Any] = []
    for key in ("corrected_by", "grids_corrected_by"):
        if sets := section.pop(key):
            files = [label_folder(context).path / f"{name}.extxyz" for name in sets]
            own += [CORRECTION_VERSION, *(["grids"] if key != "corrected_by" else []), sets, *files]
    return [resolved["sscha"], section, *own]


STAGE = Stage("sscha", _run, _inputs, keep_files=True)
