"""The SSCHA run: populations until a fresh ensemble agrees, then the free-energy Hessian."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock
from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha import bridge
from himlip_ase.sscha.ensemble import Ensemble, Evaluate, checked, draw_ensemble, warn_close
from himlip_ase.sscha.hessian import HessianEstimate, estimate_hessian
from himlip_ase.sscha.initial import positive_definite_start
from himlip_ase.sscha.progress import Progress
from himlip_ase.sscha.residual import Residual, residual
from himlip_ase.sscha.result import History, PopulationRecord, SschaResult, load_result
from himlip_ase.sscha.sampling import HarmonicDistribution
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.state import State, pack, unpack
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.verdict import fresh_test, reason

log = logging.getLogger(__name__)

SAME_FORCES = 1e-5
"""On resuming, forces recomputed for one old configuration may differ by this much, eV/Å."""

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
    with FolderLock(folder), Progress(settings, enabled=progress) as bar:
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
    return None if more else result


@dataclasses.dataclass(frozen=True)
class _Stage:
    """A finished population."""

    auxiliary: DynamicalMatrices
    maker: Residual
    record: PopulationRecord
    history: History
    settled: bool
    verdict: str
    reference: float


def _run(
    start: DynamicalMatrices, evaluate: Evaluate, settings: SschaSettings, state: State, bar: Progress
) -> SschaResult:
    stages: list[_Stage] = []
    checker = _SameForces(evaluate)
    while not stages or (not stages[-1].settled and len(stages) < settings.max_populations):
        number = len(stages) + 1
        begun = stages[-1].auxiliary if stages else start
        stage = _load(state, number)
        if stage is None:
            stage = _population(number, begun, stages, checker, settings, state, bar)
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
    return _finish(stages, checker, settings, state, bar)


class _SameForces:
    """The force callable, checked against an ensemble that an earlier process evaluated."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate
        self.checked = False

    def check(self, distribution: HarmonicDistribution, ensemble: Ensemble) -> None:
        if self.checked:
            return
        image = distribution.supercell
        image.positions += ensemble.displacements[0]
        _, forces, _ = checked(self.evaluate([image]), [image])
        difference = float(np.abs(forces[0] - ensemble.forces[0]).max())
        if difference > SAME_FORCES:
            raise InputError(
                f"the forces differ by {difference:.2g} eV/Å from those this run was begun with; resume with "
                "the same potential or choose another folder"
            )
        self.checked = True


def _ensemble(
    name: str,
    distribution: HarmonicDistribution,
    n: int,
    stream: int,
    checker: _SameForces,
    settings: SschaSettings,
    state: State,
) -> Ensemble:
    """The ensemble kept under `name`, or a new one, kept."""
    kept = state.load_ensemble(name)
    if kept is not None:
        checker.check(distribution, kept)
        return kept
    seed = np.random.SeedSequence(settings.seed, spawn_key=(stream,))
    ensemble = draw_ensemble(distribution, n, seed, checker.evaluate)
    checker.checked = True
    state.save_ensemble(name, ensemble)
    return ensemble


def _population(
    number: int,
    begun: DynamicalMatrices,
    stages: list[_Stage],
    checker: _SameForces,
    settings: SschaSettings,
    state: State,
    bar: Progress,
) -> _Stage:
    """Draw, evaluate, test what the population before left, minimise, keep."""
    name = f"population_{number:03d}"
    bar.begin(f"population {number}")
    distribution = HarmonicDistribution(begun, settings.temperature_k)
    ensemble = _ensemble(name, distribution, settings.n_configurations, number, checker, settings, state)
    reference = stages[0].reference if stages else ensemble.static_energy / np.prod(begun.dims)
    group = SpaceGroup(begun)
    ones = np.ones(len(ensemble))
    fresh = residual(distribution, ensemble.displacements, ensemble.forces, ones, group, settings.n_blocks)
    test = fresh_test(fresh, stages[-1].maker if stages else None)
    warn_close(number, distribution.supercell, ensemble)
    peer_ensemble = bridge.build_ensemble(begun, ensemble, settings.temperature_k)
    move = settings.minimise_structure and group.has_free_coordinates()
    found = bridge.minimise(peer_ensemble, settings, reference, move, bar.step)
    auxiliary = found.auxiliary
    shift = np.tile(begun.primitive.positions - auxiliary.primitive.positions, (int(np.prod(begun.dims)), 1))
    maker = residual(
        HarmonicDistribution(auxiliary, settings.temperature_k),
        ensemble.displacements + shift,
        ensemble.forces,
        found.weights,
        group,
        settings.n_blocks,
    )
    history = History(
        np.full(len(found.free_energy), number),
        found.free_energy,
        found.free_energy_sigma,
        np.full(len(found.gradient), number),
        found.gradient,
        found.gradient_sigma,
        found.kong_liu,
        found.frequencies,
    )
    record = PopulationRecord(
        number,
        found.ended,
        len(found.free_energy) - 1,
        float(found.kong_liu[-1]),
        float(found.free_energy[-1]),
        float(found.free_energy_sigma[-1]),
        test.rms_z,
        test.max_z,
        test.largest_shift_cm,
        float(np.abs(auxiliary.frequencies() - begun.frequencies()).max()),
        ensemble.shortest_distance,
        ensemble.largest_displacement,
    )
    settled = found.ended == "gradient" and test.passed(settings.significance)
    stage = _Stage(
        auxiliary,
        maker,
        record,
        history,
        settled,
        reason(test, found.ended, settings.significance),
        float(reference),
    )
    _save(state, name, stage)
    return stage


def _save(state: State, name: str, stage: _Stage) -> None:
    arrays = pack("auxiliary", stage.auxiliary)
    arrays |= {f"history_{key}": value for key, value in vars(stage.history).items()}
    arrays |= {f"maker_{key}": value for key, value in vars(stage.maker).items()}
    record = {
        "record": dataclasses.asdict(stage.record),
        "settled": stage.settled,
        "verdict": stage.verdict,
        "reference_ev": stage.reference,
    }
    state.save(name, arrays, record)


def _load(state: State, number: int) -> _Stage | None:
    found = state.load(f"population_{number:03d}")
    if found is None:
        return None
    arrays, data = found

    def read(prefix: str) -> dict[str, np.ndarray]:
        return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}

    return _Stage(
        unpack("auxiliary", arrays),
        Residual(**read("maker_")),
        PopulationRecord(**data["record"]),
        History(**read("history_")),
        data["settled"],
        data["verdict"],
        data["reference_ev"],
    )


def _finish(
    stages: list[_Stage], checker: _SameForces, settings: SschaSettings, state: State, bar: Progress
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
        name = f"hessian_{len(stages):03d}"
        ensemble = _ensemble(
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
