"""Making the labels of a run: relaxation, harmonic matrices, sets of single points, each once, collected."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.dft.espresso.engine import Espresso
from himlip_ase.dft.espresso.k_check_record import FOLDER as K_CHECK
from himlip_ase.dft.set_aside import SetAside
from himlip_ase.dft.single_points import run_jobs
from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, write_json
from himlip_ase.labels.displacements import softest_gamma_mode
from himlip_ase.labels.frames import JUDGES
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import read_dyn
from himlip_ase.pipeline.config import RunConfig
from himlip_ase.pipeline.estimate import RunningEstimate
from himlip_ase.pipeline.preflight import Plan
from himlip_ase.structures import read_structure
from himlip_ase.symmetry.standard_cell import standard_cell
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, SQRT_EV_PER_ANGSTROM2_AMU_EV

logger = logging.getLogger(__name__)

DOUBLE_WELL = "doublewell"
VALIDATION = "validation"
CELL_RECORD = "standard_cell.json"
FORECAST = "forecast.json"
_WIDTHS = 2.2
"""The double well is sampled out to this many zero-point widths of the softest mode."""


def make_labels(config: RunConfig, folder: Path, plan: Plan | None = None, key: str = "") -> None:
    """Relax, then harmonic matrices, rattled cells, double well and validation supercells, collected.

    Finished DFT runs are never repeated: each is recognised by its input. One that is not what is asked for
    now is set aside, and comes back when it is; only what is asked for is collected.

    Parameters
    ----------
    config : RunConfig
    folder : Path
        Of the stage.
    plan : Plan, optional
        What the jobs were expected to cost; shown again after the first scf run, scaled to this machine.
    key : str
        Of everything that decides the labels: what was collected for another one is set aside.
    """
    if config.labels.off():
        logger.info("switched off: %s", ", ".join(config.labels.off()))
    from himlip_ase.dft.publish import collect

    atoms = crystal_to_label(config, folder)
    for name in (*config.labels.rattle_sets, *config.labels.quantum_sets):
        if name.startswith(JUDGES):
            raise InputError(f"labels: '{name}' is the name of a set for judging; choose another")
    engine = config.dft
    runs, out = folder / "runs", folder / "collected"
    aside = SetAside(runs, folder / "set_aside")
    aside.keep_only(["relax"] * config.labels.relax + ["harmonic", *set_names(config)])
    collected_for(folder, key)
    pseudo = config.qe_settings.pseudo_dir
    with (
        config.executor.opened(config.workers, engine.abilities.programs) as executor,
        RunningEstimate(plan, folder / FORECAST, key) as estimate,
    ):
        if config.labels.relax:
            logger.info("relaxing to %g GPa", config.pressure_gpa)
            start, pressure = atoms, config.pressure_gpa
            relaxed = aside.with_room(
                lambda: engine.relax(
                    start,
                    pressure,
                    runs / "relax",
                    executor,
                    resume=True,
                    overwrite=True,
                    listener=estimate,
                )
            )
            atoms = relaxed.atoms
        logger.info("harmonic matrices%s", " and G(q)" if engine.abilities.electron_phonon else "")
        place, q_grid = runs / "harmonic", config.q_grid
        aside.with_room(
            lambda: engine.harmonic(atoms, q_grid, place, executor, resume=True, listener=estimate)
        )
        if config.labels.check_k and isinstance(engine, Espresso):
            tolerance, espresso = config.labels.k_tolerance_cm, engine
            check = aside.with_room(lambda: espresso.check_k(atoms, place, executor, tolerance_cm=tolerance))
            estimate.finished("k-check", check.core_seconds)
        elif (place / K_CHECK).is_dir():
            aside.put(place / K_CHECK)
        collect(runs / "harmonic", "harmonic", out, pseudo_dir=pseudo, overwrite=True)
        estimate.pause()
        for name, frames in label_sets(config, atoms, read_dyn(out / "harmonic" / "dyn0")):
            logger.info("%s: %d single points of %d atoms", name, len(frames), len(frames[0]))
            jobs = engine.single_points(frames, runs / name, primitive=atoms)
            aside.make_room(jobs)
            aside.report()
            results = run_jobs(jobs, executor=executor, resume=True, progress=True)
            estimate.finished(name, sum(result.core_seconds for result in results))
            collect(runs / name, name, out, pseudo_dir=pseudo, overwrite=True)
        aside.report()
        estimate.close()


def set_names(config: RunConfig) -> list[str]:
    """Names of the sets of single points that a run asks for.

    Parameters
    ----------
    config : RunConfig

    Returns
    -------
    list of str
    """
    labels = config.labels
    judges = [DOUBLE_WELL] * bool(labels.double_well) + [VALIDATION] * bool(labels.validation)
    return [*labels.quantum_sets, *labels.rattle_sets, *judges]


def collected_for(folder: Path, key: str) -> None:
    """Set aside what was collected for another request than that of `key`.

    Parameters
    ----------
    folder : Path
        Of the stage.
    key : str
    """
    note, out = folder / "collected_for.txt", folder / "collected"
    old = note.read_text(encoding="utf-8").strip() if note.is_file() else key
    if old != key and out.is_dir():
        aside = SetAside(folder, folder / "set_aside")
        aside.put(out)
    with atomic_write(note, overwrite=True) as stream:
        stream.write(key + "\n")


def label_sets(
    config: RunConfig, atoms: Atoms, matrices: DynamicalMatrices
) -> Iterator[tuple[str, list[Atoms]]]:
    """Name and structures of each set of single points: from the zero-point distribution, rattled, judges.

    Parameters
    ----------
    config : RunConfig
    atoms : Atoms
        Relaxed primitive cell.
    matrices : DynamicalMatrices
        Its harmonic matrices on the q-grid.

    Yields
    ------
    name : str
    frames : list of Atoms
    """
    drawn = dict(displaced_sets(config, atoms, matrices))
    for name in config.labels.quantum_sets:
        yield name, drawn.pop(name)
    yield from rattled_sets(config, atoms)
    yield from drawn.items()


def rattled_sets(config: RunConfig, atoms: Atoms) -> Iterator[tuple[str, list[Atoms]]]:
    """The sets of single points that need no harmonic matrices.

    Parameters
    ----------
    config : RunConfig
    atoms : Atoms
        Relaxed primitive cell.

    Yields
    ------
    name : str
    frames : list of Atoms
    """
    from himlip_ase.labels.displacements import rattle

    for name, rattled in config.labels.rattle_sets.items():
        base = atoms.repeat(rattled.supercell)
        yield (
            name,
            rattle(base, rattled.number, rattled.amplitude_angstrom, rattled.seed, rattled.mass_scaled),
        )


def displaced_sets(
    config: RunConfig, atoms: Atoms, matrices: DynamicalMatrices
) -> Iterator[tuple[str, list[Atoms]]]:
    """The sets of single points that are drawn from harmonic phonons or lie along a mode.

    Parameters
    ----------
    config : RunConfig
    atoms : Atoms
        Relaxed primitive cell.
    matrices : DynamicalMatrices
        Its harmonic matrices on the q-grid.

    Yields
    ------
    name : str
    frames : list of Atoms
    """
    from himlip_ase.labels.displacements import displace_along
    from himlip_ase.sscha.ensembles.sampling import draw_configurations

    for name, drawn in config.labels.quantum_sets.items():
        yield (
            name,
            draw_configurations(
                matrices.interpolated(drawn.supercell), drawn.number, 0.0, drawn.seed, flip_imaginary=True
            ),
        )
    if config.labels.double_well and len(atoms) > 1:
        mode, amplitudes = double_well_scan(matrices, config.labels.double_well)
        yield DOUBLE_WELL, displace_along(atoms, mode, amplitudes.tolist())
    if config.labels.validation:
        from himlip_ase.sscha.run.initial import positive_definite_start

        start, _ = positive_definite_start(matrices)
        frames = draw_configurations(
            start,
            config.labels.validation,
            temperature_k=config.sscha.temperature_k,
            seed=config.sscha.seed + 1000,
        )
        yield VALIDATION, frames


def crystal_to_label(config: RunConfig, folder: Path) -> Atoms:
    """The crystal of a run: primitive, and turned so that the engine finds every symmetry operation.

    Parameters
    ----------
    config : RunConfig
    folder : Path
        Of the stage; runs that an earlier version began there with the cell as it was given go on with it.

    Returns
    -------
    Atoms

    Raises
    ------
    InputError
        As `himlip_ase.symmetry.standard_cell.standard_cell`.
    """
    assert config.structure is not None
    given = read_structure(config.structure)
    record = folder / CELL_RECORD
    begun = any((folder / "runs" / name).is_dir() for name in ("relax", "harmonic"))
    if begun and not record.is_file():
        logger.info("%s was begun with the cell as it was given, and goes on with it", folder / "runs")
        return given
    cell = standard_cell(given)
    logger.info("%s", cell)
    write_json(
        record,
        {"space_group": cell.space_group, "operations": cell.operations, "moved_angstrom": cell.moved},
        overwrite=True,
    )
    return cell.atoms


def double_well_scan(matrices: DynamicalMatrices, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Softest mode at Γ, and amplitudes (Å, Euclidean norm) from 0 to 2.2 zero-point widths of |ω|.

    Returns
    -------
    mode : ndarray (n, 3)
    amplitudes : ndarray (number,)

    Parameters
    ----------
    matrices : DynamicalMatrices
    number : int
        Of amplitudes.
    """
    mode, frequency = softest_gamma_mode(matrices)
    mass = float((matrices.primitive.get_masses()[:, None] * mode**2).sum())
    hbar_omega = max(abs(frequency), 50.0) / SQRT_EV_PER_ANGSTROM2_AMU_CM * SQRT_EV_PER_ANGSTROM2_AMU_EV
    width = SQRT_EV_PER_ANGSTROM2_AMU_EV / np.sqrt(2 * mass * hbar_omega)
    return mode, np.linspace(0.0, min(_WIDTHS * width, 0.8), number)
