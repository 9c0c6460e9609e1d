"""The SSCHA run: populations until a fresh ensemble agrees, then the free-energy Hessian."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

from himlip_ase.files import FolderLock
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha.ensembles.ensemble import Evaluate
from himlip_ase.sscha.minimisation.engine import engine
from himlip_ase.sscha.results.result import SschaResult, load_result
from himlip_ase.sscha.run.checkpoints import State
from himlip_ase.sscha.run.evaluated_ensembles import Neighbour, SameForces, Work
from himlip_ase.sscha.run.final_ensemble import FinalTest, final_test, finish
from himlip_ase.sscha.run.finished_population import Stage, load_stage, stage_name
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.run.population import run_population
from himlip_ase.sscha.run.progress import Progress, log_file
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.watch.watch import Watch

log = logging.getLogger(__name__)


def run_sscha(
    initial: DynamicalMatrices,
    evaluate: Evaluate,
    settings: SschaSettings | None = None,
    folder: str | os.PathLike = "sscha",
    resume: bool = False,
    progress: bool = False,
    neighbour: Neighbour | None = None,
    watch: Watch | None = None,
) -> SschaResult:
    """Minimise the SSCHA free energy from harmonic matrices and compute the free-energy Hessian.

    Parameters
    ----------
    initial : DynamicalMatrices
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
    neighbour : Neighbour, optional
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
    minimiser = engine(settings.engine, settings.minimiser)
    with FolderLock(folder), log_file(folder), Progress(folder, enabled=progress) as bar:
        state = State(folder)
        state.begin(initial, settings, resume, None if neighbour is None else neighbour.fingerprint)
        finished = _finished(folder, settings)
        if finished is not None:
            log.info("%s is finished already: %s", folder, finished.verdict)
            return finished
        start, changed = positive_definite_start(initial)
        work = Work(SameForces(evaluate), minimiser, settings, state, bar, neighbour, watch or Watch())
        stages, final = _populations(start, work)
        result = dataclasses.replace(finish(stages, work, final), initial_changed=changed)
        bar.write_timings()
        result.save(folder, overwrite=True)
        log.info("%s: %s", "converged" if result.converged else "NOT CONVERGED", result.verdict)
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


def _populations(start: DynamicalMatrices, work: Work) -> tuple[list[Stage], FinalTest | None]:
    """All populations, those of an earlier process read back, and the last test of the auxiliary.

    A final ensemble that disagrees becomes the next population.
    """
    stages: list[Stage] = []
    final: FinalTest | None = None
    while True:
        if stages and (stages[-1].ended or len(stages) == work.settings.max_populations):
            _check_forces(stages, work)
            final = final_test(stages, work)
            if len(stages) == work.settings.max_populations or final is None or not final.disagreement:
                return stages, final
            log.info("the final ensemble disagrees and becomes a population: %s", final.disagreement)
        number = len(stages) + 1
        stage = load_stage(work.state, number)
        if stage is None:
            _check_forces(stages, work)
            begun = stages[-1].following if stages else start
            stage = run_population(number, begun, stages, work, None if final is None else final.kept)
            work.bar.write_timings()
        stages.append(stage)
        final = None
        _report(stage, work.settings)
        write_dyn(stage.auxiliary, work.state.folder.parent / "auxiliary.dyn", overwrite=True)


def _check_forces(stages: list[Stage], work: Work) -> None:
    """Compare the forces with those that the last population was made with, if by an earlier process."""
    kept = work.state.load_ensemble(stage_name(len(stages))) if stages and not work.forces.checked else None
    if kept is not None:
        work.forces.check(kept[1], kept[0].displacements[0], kept[0].forces[0])


def _report(stage: Stage, settings: SschaSettings) -> None:
    record = stage.record
    pressure = ""
    if record.pressure_gpa is not None and settings.pressure_gpa is not None:
        pressure = f"pressure {record.pressure_gpa:.2f} ± {record.pressure_sigma_gpa:.2f} GPa, "
    log.info(
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
        stage.verdict,
    )
