"""The SSCHA run: populations until a fresh ensemble agrees, then the free-energy Hessian."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import numpy as np

from himlip_ase.files import FolderLock
from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha import bridge
from himlip_ase.sscha.ensemble import Evaluate
from himlip_ase.sscha.hessian import HessianEstimate, estimate_hessian
from himlip_ase.sscha.initial import positive_definite_start
from himlip_ase.sscha.population import (
    SameForces,
    Stage,
    load_stage,
    run_population,
    stage_name,
    take_ensemble,
)
from himlip_ase.sscha.progress import Progress, log_file
from himlip_ase.sscha.residual import residual
from himlip_ase.sscha.result import History, SschaResult, load_result
from himlip_ase.sscha.sampling import HarmonicDistribution
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.state import State
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.verdict import fresh_test, reason

log = logging.getLogger(__name__)

HESSIAN_STREAM = 1_000_000
"""Stream of the Hessian's ensemble, out of reach of the populations' numbers."""


def run_sscha(
    initial: DynamicalMatrices,
    evaluate: Evaluate,
    settings: SschaSettings | None = None,
    folder: str | os.PathLike = "sscha",
    resume: bool = False,
    progress: bool = False,
) -> SschaResult:
    """Minimise the SSCHA free energy from harmonic matrices and compute the free-energy Hessian.

    Parameters
    ----------
    initial : DynamicalMatrices
        Harmonic (or earlier auxiliary) Φ(q) in eV/Å² on the supercell's grid; may be unstable.
    evaluate : callable
        ``evaluate(images)`` with `images` a list of supercells in the order of ``primitive.repeat(dims)``
        returns an object with ``energies`` (n,) eV, ``forces`` (n, N, 3) eV/Å and ``stresses`` (n, 6) ASE
        Voigt eV/Å³ or None.  It is called once for each population.
    settings : SschaSettings, optional
        Defaults to the paper's.
    folder : path-like
        Run folder; ``state/`` in it is written after every ensemble and population.
    resume : bool
        Continue a run found in `folder`; the result is that of an unbroken run.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    SschaResult
        Also written into `folder`.  Look at its `converged` and `verdict` before using a figure.

    Raises
    ------
    InputError
        Bad settings or matrices, a folder in use, a run in `folder` that was not asked to be resumed or was
        begun with something else, python-sscha missing.
    CalculationError
        Forces that are not finite, or a minimisation that cannot make a step.
    """
    settings = SschaSettings() if settings is None else settings
    folder = Path(folder)
    bridge.engine()
    with FolderLock(folder), log_file(folder), Progress(settings, enabled=progress) as bar:
        state = State(folder)
        state.begin(initial, settings, resume)
        finished = _finished(folder, settings)
        if finished is not None:
            log.info("%s is finished already: %s", folder, finished.verdict)
            return finished
        start, changed = positive_definite_start(initial)
        result = dataclasses.replace(_run(start, evaluate, settings, state, bar), initial_changed=changed)
        result.save(folder, overwrite=True)
        log.info("%s: %s", "converged" if result.converged else "NOT CONVERGED", result.verdict)
    return result


def _finished(folder: Path, settings: SschaSettings) -> SschaResult | None:
    """The result of a run that has nothing left to do."""
    if not (folder / "result.json").exists():
        return None
    result = load_result(folder)
    more = not result.populations_settled and len(result.populations) < settings.max_populations
    other = result.settings.n_hessian_configurations != settings.n_hessian_configurations
    return None if more or other else result


def _run(
    start: DynamicalMatrices, evaluate: Evaluate, settings: SschaSettings, state: State, bar: Progress
) -> SschaResult:
    stages: list[Stage] = []
    checker = SameForces(evaluate)
    while not stages or (not stages[-1].settled and len(stages) < settings.max_populations):
        number = len(stages) + 1
        begun = stages[-1].auxiliary if stages else start
        stage = load_stage(state, number)
        if stage is None:
            if stages:
                _check_forces(checker, start, stages, state)
            stage = run_population(number, begun, stages, checker, settings, state, bar)
        stages.append(stage)
        record = stage.record
        log.info(
            "population %d: %d steps, ended by %s, F = %.3f ± %.3f meV, Kong-Liu %.2f, "
            "largest change %.1f cm⁻¹, shortest distance %.2f Å; %s",
            number,
            record.steps,
            record.ended,
            record.free_energy * 1e3,
            record.free_energy_sigma * 1e3,
            record.kong_liu,
            record.drift_cm,
            record.shortest_distance,
            stage.verdict,
        )
        write_dyn(stage.auxiliary, state.folder.parent / "auxiliary.dyn", overwrite=True)
    _check_forces(checker, start, stages, state)
    return _finish(stages, checker, settings, state, bar)


def _check_forces(checker: SameForces, start: DynamicalMatrices, stages: list[Stage], state: State) -> None:
    """Compare the forces with those that the last population was made with, if by an earlier process."""
    begun = stages[-2].auxiliary if len(stages) > 1 else start
    kept = state.load_ensemble(stage_name(len(stages)))
    if kept is not None:
        checker.check(HarmonicDistribution(begun), kept)


def _finish(
    stages: list[Stage], checker: SameForces, settings: SschaSettings, state: State, bar: Progress
) -> SschaResult:
    """Last test and quoted figures on a fresh ensemble of the final auxiliary."""
    last = stages[-1]
    auxiliary, temperature = last.auxiliary, settings.temperature_k
    converged, verdict = last.settled, last.verdict
    if not converged and len(stages) >= settings.max_populations:
        verdict = f"stopped after {len(stages)} populations: {verdict}"
    free_energy, sigma = last.record.free_energy, last.record.free_energy_sigma
    estimate: HessianEstimate | None = None
    kong_liu, stress = None, None
    if settings.n_hessian_configurations:
        bar.begin("free-energy Hessian", settings.n_blocks)
        distribution = HarmonicDistribution(auxiliary, temperature)
        name = f"hessian_{len(stages):03d}_{settings.n_hessian_configurations}"
        ensemble = take_ensemble(
            name,
            distribution,
            settings.n_hessian_configurations,
            HESSIAN_STREAM + len(stages),
            checker,
            settings,
            state,
        )
        group, ones = SpaceGroup(auxiliary), np.ones(len(ensemble))
        fresh = residual(
            distribution,
            ensemble.displacements,
            ensemble.forces,
            ones,
            group,
            settings.n_blocks,
        )
        test = fresh_test(fresh, last.maker)
        if converged and not test.passed(settings.significance):
            converged = False
            verdict = f"the final ensemble disagrees: {reason(test, 'gradient', settings.significance)}"
        peer_ensemble = bridge.build_ensemble(auxiliary, ensemble, temperature)
        kong_liu = float(peer_ensemble.get_effective_sample_size() / len(ensemble))
        total, sigma = bridge.free_energy(peer_ensemble)
        free_energy = total - last.reference
        stress = bridge.stress(peer_ensemble)
        estimate = estimate_hessian(distribution, ensemble, last.maker, group, settings.n_blocks, bar.step)
    histories = [stage.history for stage in stages]
    return SschaResult(
        settings=settings,
        converged=converged,
        verdict=verdict,
        auxiliary=auxiliary,
        auxiliary_sigma_cm=last.maker.sigma_cm,
        static_energy=last.reference,
        free_energy=free_energy,
        free_energy_sigma=sigma,
        stress=None if stress is None else stress[0],
        stress_sigma=None if stress is None else stress[1],
        hessian=None if estimate is None else estimate.hessian,
        hessian_sigma_cm=None if estimate is None else estimate.sigma_cm,
        hessian_bias_cm=None if estimate is None else estimate.bias_cm,
        hessian_kong_liu=kong_liu,
        populations=[stage.record for stage in stages],
        populations_settled=last.settled,
        history=History(
            **{
                item.name: np.concatenate([getattr(history, item.name) for history in histories])
                for item in dataclasses.fields(History)
            }
        ),
        engine=f"python-sscha {bridge.engine().version}",
    )
