"""The SSCHA run: populations until a fresh ensemble agrees, then the free-energy Hessian."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

from himlip_ase.files import FolderLock
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha.ensembles.evaluation import Evaluate
from himlip_ase.sscha.minimisation.engines import engine
from himlip_ase.sscha.results.result import SschaResult, load_result
from himlip_ase.sscha.run.checkpoints import State
from himlip_ase.sscha.run.evaluated_ensembles import CheckedForces, RunContext, SourceRun
from himlip_ase.sscha.run.final_ensemble import FinalEnsembleTest, assemble_result, judge_on_final_ensemble
from himlip_ase.sscha.run.finished_population import FinishedPopulation, load_population, population_name
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.run.population import run_population
from himlip_ase.sscha.run.progress import RunProgress, log_file
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.watch.watch import Watch

logger = logging.getLogger(__name__)


def run_sscha(
    dynamical: DynamicalMatrices,
    evaluate: Evaluate,
    settings: SschaSettings | None = None,
    folder: str | os.PathLike = "sscha",
    resume: bool = False,
    progress: bool = False,
    source: SourceRun | None = None,
    watch: Watch | None = None,
) -> SschaResult:
    """Minimise the SSCHA free energy from harmonic matrices and compute the free-energy Hessian.

    Parameters
    ----------
    dynamical : DynamicalMatrices
        Harmonic (or earlier auxiliary) Φ(q) in eV/Å² on the supercell's grid; may be unstable.
    evaluate : callable
        ``evaluate(images)`` with `images` a list of supercells in the order of ``primitive.repeat(dims)``
        returns an object with ``energies`` (n,) eV, ``forces`` (n, N, 3) eV/Å and ``stresses`` (n, 6) ASE
        Voigt eV/Å³ or None.  Its attribute ``chunk``, if it has one, says how many supercells it is given at
        once (64 otherwise).  Adapters for ASE calculators and executors of jobs are in
        :mod:`himlip_ase.sscha.ensembles.evaluation`.
    settings : SschaSettings, optional
        Defaults to the paper's.
    folder : path-like
        Run folder; ``state/`` in it is written after every chunk of forces, ensemble and population.
    resume : bool
        Continue a run found in `folder`; the result is that of an unbroken run.
    progress : bool
        Show a progress bar on stderr.
    source : SourceRun, optional
        A finished run whose ensembles may serve again; see
        :func:`~himlip_ase.sscha.run.continuation.continue_run`.
    watch : Watch, optional
        What looks at every ensemble, see :func:`~himlip_ase.sscha.watch.watch_inputs.build_watch`; by default
        only collapsed distances are seen.  The records lie in ``watch/`` of the run folder.

    Returns
    -------
    SschaResult
        Also written into `folder`.  Look at its `converged` and `verdict` before using a figure.

    Raises
    ------
    InputError
        Bad settings or matrices, a folder in use, a run in `folder` that was not asked to be resumed or was
        begun with something else, python-sscha missing where it was asked for.
    CalculationError
        Forces that are not finite, a minimisation that cannot make a step, damaged files in `folder`.
    """
    settings = SschaSettings() if settings is None else settings
    folder = Path(folder)
    chosen = engine(settings.engine, settings.minimiser)
    with FolderLock(folder), log_file(folder), RunProgress(folder, progress) as shown:
        state = State(folder)
        state.begin(dynamical, settings, resume, None if source is None else source.fingerprint)
        finished = _finished(folder, settings)
        if finished is not None:
            logger.info("%s is finished already: %s", folder, finished.verdict)
            return finished
        start, changed = positive_definite_start(dynamical)
        run = RunContext(CheckedForces(evaluate), chosen, settings, state, shown, source, watch or Watch())
        populations, test = _populations(start, run)
        result = dataclasses.replace(assemble_result(populations, run, test), initial_changed=changed)
        shown.write_timings()
        result.save(folder, overwrite=True)
        logger.info("%s: %s", "converged" if result.converged else "NOT CONVERGED", result.verdict)
    return result


def _finished(folder: Path, settings: SschaSettings) -> SschaResult | None:
    """The result of a run that has nothing left to do."""
    if not (folder / "result.json").exists():
        return None
    result = load_result(folder)
    more = not result.populations_settled and len(result.populations) < settings.max_populations
    hessian = ("n_hessian_configurations", "hessian_order")
    other = any(getattr(result.settings, name) != getattr(settings, name) for name in hessian)
    return None if more or other else result


def _populations(
    start: DynamicalMatrices, run: RunContext
) -> tuple[list[FinishedPopulation], FinalEnsembleTest | None]:
    """All populations, those of an earlier process read back, and the last test of the auxiliary.

    A final ensemble that disagrees becomes the next population.
    """
    populations: list[FinishedPopulation] = []
    test: FinalEnsembleTest | None = None
    limit = run.settings.max_populations
    while True:
        if populations and (populations[-1].ended or len(populations) == limit):
            _check_forces(populations, run)
            test = judge_on_final_ensemble(populations, run)
            if len(populations) == limit or test is None or not test.disagreement:
                return populations, test
            logger.info("the final ensemble disagrees and becomes a population: %s", test.disagreement)
        number = len(populations) + 1
        population = load_population(run.state, number)
        if population is None:
            _check_forces(populations, run)
            begin = populations[-1].next_start if populations else start
            offered = None if test is None else test.ensemble
            population = run_population(number, begin, populations, run, offered)
            run.progress.write_timings()
        populations.append(population)
        test = None
        _report(population, run.settings)
        write_dyn(population.auxiliary, run.state.folder.parent / "auxiliary.dyn", overwrite=True)


def _check_forces(populations: list[FinishedPopulation], run: RunContext) -> None:
    """Compare the forces with those that the last population was made with, if by an earlier process."""
    if not populations or run.forces.checked:
        return
    ensemble = run.state.load_ensemble(population_name(len(populations)))
    if ensemble is not None:
        run.forces.check_first_of(ensemble)


def _report(population: FinishedPopulation, settings: SschaSettings) -> None:
    record = population.record
    pressure = ""
    if record.pressure_gpa is not None and settings.pressure_gpa is not None:
        pressure = f"pressure {record.pressure_gpa:.2f} ± {record.pressure_sigma_gpa:.2f} GPa, "
    logger.info(
        "population %d: %d %s, %d steps, ended by %s, F = %.3f ± %.3f meV, shortest distance %.2f Å, %s%s",
        record.number,
        record.n_configurations,
        "reused configurations" if record.reused else "configurations",
        record.steps,
        record.ended,
        record.free_energy * 1e3,
        record.free_energy_sigma * 1e3,
        record.shortest_distance,
        pressure,
        population.verdict,
    )
