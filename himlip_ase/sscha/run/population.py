"""One population, from its draw to its checkpoint."""

from __future__ import annotations

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.cell import (
    Load,
    allowed_strains,
    load,
    next_strain,
    pressure_gpa,
    secant_update,
    static_stiffness,
    strained,
)
from himlip_ase.sscha.convergence.residual import Residual, residual
from himlip_ase.sscha.convergence.verdict import FreshTest, fresh_test, judge
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import Minimisation
from himlip_ase.sscha.results.result import History, PopulationRecord
from himlip_ase.sscha.run.evaluated_ensembles import Kept, Work, take_ensemble
from himlip_ase.sscha.run.extrapolation import leap
from himlip_ase.sscha.run.finished_population import Stage, save_stage, stage_name
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup


def residual_on(
    kept: Kept, target: HarmonicDistribution, weights: np.ndarray, group: SpaceGroup, n_blocks: int
) -> Residual:
    """What an ensemble asks of `target`, with its importance weights."""
    return residual(target, kept.moved(target), kept.ensemble.forces, weights, group, n_blocks)


def next_size(stages: list[Stage], settings: SschaSettings) -> int:
    """Configurations of the next population: more only where nothing but the error bar is left to improve.

    The number goes with the square of the error, at most four times the last, in whole blocks of pairs.
    """
    if not stages:
        return settings.n_configurations
    last = stages[-1].record
    if not stages[-1].grow or settings.frequency_error_cm is None or last.reused:
        return max(settings.n_configurations, 0 if last.reused else last.n_configurations)
    wanted = last.n_configurations * (last.error_cm / settings.frequency_error_cm) ** 2
    unit = 2 * settings.n_blocks
    grown = unit * int(np.ceil(min(1.1 * wanted, 4 * last.n_configurations) / unit))
    return min(grown, settings.max_configurations)


def run_population(
    number: int, begun: DynamicalMatrices, stages: list[Stage], work: Work, offered: Kept | None = None
) -> Stage:
    """Draw, evaluate, test what the population before left, minimise, move the cell, keep.

    An ensemble that is `offered`, such as a final one that disagreed, is taken instead of a new one.
    """
    settings, name = work.settings, stage_name(number)
    start = HarmonicDistribution(begun, settings.temperature_k)
    n = next_size(stages, settings)
    neighbour = work.neighbour
    if neighbour is not None and not stages:
        offered = neighbour.population
    kept = take_ensemble(name, start, n, number, work, offered)
    if stages:
        reference = stages[0].reference
    elif neighbour is not None:
        reference = neighbour.static_energy
    else:
        reference = kept.ensemble.static_energy / int(np.prod(begun.dims))
    work.bar.begin(f"population {number}")
    with work.bar.timed("minimiser"):
        group = SpaceGroup(begun)
        move = settings.minimise_structure and group.has_free_coordinates()
        fresh = residual_on(kept, start, kept.weights(start), group, settings.n_blocks)
        test = fresh_test(fresh, stages[-1].maker if stages else None)
        found = work.engine.minimise(
            kept.ensemble,
            kept.drawn,
            settings,
            reference,
            group,
            move_centroids=move,
            start=start,
            on_step=work.bar.step,
        )
        end = HarmonicDistribution(found.auxiliary, settings.temperature_k)
        maker = residual_on(kept, end, found.weights, group, settings.n_blocks)
        stress = work.engine.stress(kept.ensemble, kept.drawn, group, end)
    following = leap(found.auxiliary, maker, move) if found.ended == "kong-liu" else found.auxiliary
    cell, following = _move_cell(following, stress, stages, group, work)
    stage = _stage(number, begun, following, kept, test, found, maker, stress, cell, reference, work.settings)
    save_stage(work.state, name, stage)
    return stage


def _move_cell(
    following: DynamicalMatrices,
    stress: tuple[np.ndarray, np.ndarray] | None,
    stages: list[Stage],
    group: SpaceGroup,
    work: Work,
) -> tuple[dict[str, np.ndarray], DynamicalMatrices]:
    """What drives the cell after a population, and the start of the next in its cell."""
    target = work.settings.pressure_gpa
    if target is None:
        return {}, following
    if stress is None:
        raise InputError("pressure_gpa needs stresses, and the force callable returns none")
    before = stages[-1].cell if stages else None
    if before is None:
        basis = allowed_strains(group.rotations)
        supercell = HarmonicDistribution(following).supercell
        stiffness = static_stiffness(supercell, basis, work.forces.evaluate)
        now = load(*stress, basis, target)
    else:
        basis, now = before["basis"], load(*stress, before["basis"], target)
        last = Load(before["excess"], before["sigma"])
        stiffness = secant_update(before["stiffness"], before["strain"], last, now, basis)
    strain = next_strain(now, stiffness, basis)
    cell = {
        "basis": basis,
        "stiffness": stiffness,
        "excess": now.excess,
        "sigma": now.sigma,
        "strain": strain,
    }
    return cell, strained(following, strain) if strain.any() else following


def _stage(
    number: int,
    begun: DynamicalMatrices,
    following: DynamicalMatrices,
    kept: Kept,
    test: FreshTest,
    found: Minimisation,
    maker: Residual,
    stress: tuple[np.ndarray, np.ndarray] | None,
    cell: dict[str, np.ndarray],
    reference: float,
    settings: SschaSettings,
) -> Stage:
    error_cm = float(maker.sigma_cm.max())
    start = HarmonicDistribution(begun, settings.temperature_k)
    reused = not kept.is_from(start)
    load_z = Load(cell["excess"], cell["sigma"]).z() if cell else None
    drift_cm = float(np.abs(found.auxiliary.frequencies() - begun.frequencies()).max())
    kong_liu = float(found.kong_liu[-1])
    settled, grow, verdict = judge(test, found.ended, settings, error_cm, load_z, reused, drift_cm, kong_liu)
    exhausted = grow and len(kept.ensemble) >= settings.max_configurations
    if exhausted:
        verdict += f", which max_configurations = {settings.max_configurations} does not reach"
    pressure = (None, None) if stress is None else pressure_gpa(*stress)
    record = PopulationRecord(
        number,
        found.ended,
        len(found.free_energy) - 1,
        kong_liu,
        float(found.free_energy[-1]),
        float(found.free_energy_sigma[-1]),
        test.rms_z,
        test.max_z,
        test.largest_shift_cm,
        drift_cm,
        kept.ensemble.shortest_distance,
        kept.ensemble.largest_displacement,
        len(kept.ensemble),
        reused,
        error_cm,
        pressure[0],
        pressure[1],
        float(begun.primitive.get_volume()),
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
    return Stage(
        found.auxiliary,
        following if not settled else found.auxiliary,
        maker,
        record,
        history,
        settled,
        settled or exhausted,
        grow,
        verdict,
        float(reference),
        cell,
    )
