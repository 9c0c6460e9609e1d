"""One population, from its draw to its checkpoint."""

from __future__ import annotations

import dataclasses

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.sscha import bridge
from himlip_ase.sscha.ensemble import Ensemble, Evaluate, checked, draw_ensemble, warn_close
from himlip_ase.sscha.progress import Progress
from himlip_ase.sscha.residual import Residual, residual
from himlip_ase.sscha.result import History, PopulationRecord
from himlip_ase.sscha.sampling import HarmonicDistribution
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.state import State, pack, unpack
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.verdict import fresh_test, reason

SAME_FORCES = 1e-5
"""On resuming, forces recomputed for one old configuration may differ by this much, eV/Å."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A finished population."""

    auxiliary: DynamicalMatrices
    maker: Residual
    record: PopulationRecord
    history: History
    settled: bool
    verdict: str
    reference: float


def stage_name(number: int) -> str:
    """Name of a population's files in ``state/``."""
    return f"population_{number:03d}"


class SameForces:
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


def take_ensemble(
    name: str,
    distribution: HarmonicDistribution,
    n: int,
    stream: int,
    checker: SameForces,
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


def run_population(
    number: int,
    begun: DynamicalMatrices,
    stages: list[Stage],
    checker: SameForces,
    settings: SschaSettings,
    state: State,
    bar: Progress,
) -> Stage:
    """Draw, evaluate, test what the population before left, minimise, keep."""
    name = stage_name(number)
    bar.begin(f"population {number}")
    distribution = HarmonicDistribution(begun, settings.temperature_k)
    ensemble = take_ensemble(name, distribution, settings.n_configurations, number, checker, settings, state)
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
    stage = Stage(
        auxiliary,
        maker,
        record,
        history,
        settled,
        reason(test, found.ended, settings.significance),
        float(reference),
    )
    save_stage(state, name, stage)
    return stage


def save_stage(state: State, name: str, stage: Stage) -> None:
    """Checkpoint a finished population."""
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


def load_stage(state: State, number: int) -> Stage | None:
    """A population finished earlier, None if it was not."""
    found = state.load(stage_name(number))
    if found is None:
        return None
    arrays, data = found

    def read(prefix: str) -> dict[str, np.ndarray]:
        return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}

    return Stage(
        unpack("auxiliary", arrays),
        Residual(**read("maker_")),
        PopulationRecord(**data["record"]),
        History(**read("history_")),
        data["settled"],
        data["verdict"],
        data["reference_ev"],
    )
