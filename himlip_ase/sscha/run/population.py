"""One population, from its draw to its checkpoint."""

from __future__ import annotations

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.cell import CellRelaxation, allowed_strains, pressure_gpa, static_stiffness, strained
from himlip_ase.sscha.convergence.residual import Residual, residual
from himlip_ase.sscha.convergence.verdict import FreshTest, fresh_test, judge
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.minimisation.engine import Minimisation, MinimisationProblem
from himlip_ase.sscha.results.result import History, PopulationRecord
from himlip_ase.sscha.run.evaluated_ensembles import RunContext, obtain_ensemble
from himlip_ase.sscha.run.extrapolation import extrapolate
from himlip_ase.sscha.run.finished_population import FinishedPopulation, population_name, save_population
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup


def next_size(populations: list[FinishedPopulation], settings: SschaSettings) -> int:
    """Configurations of the next population: more only where nothing but the error bar is left to improve.

    The number goes with the square of the error, at most four times the last, in whole blocks of pairs.

    Parameters
    ----------
    populations : list of FinishedPopulation
        Those so far.
    settings : SschaSettings

    Returns
    -------
    int
    """
    if not populations:
        return settings.n_configurations
    last = populations[-1].record
    if not populations[-1].grow or settings.frequency_error_cm is None or last.reused:
        return max(settings.n_configurations, 0 if last.reused else last.n_configurations)
    wanted = last.n_configurations * (last.error_cm / settings.frequency_error_cm) ** 2
    unit = 2 * settings.n_blocks
    grown = unit * int(np.ceil(min(1.1 * wanted, 4 * last.n_configurations) / unit))
    return min(grown, settings.max_configurations)


def run_population(
    number: int,
    start: DynamicalMatrices,
    populations: list[FinishedPopulation],
    run: RunContext,
    offered: Ensemble | None = None,
) -> FinishedPopulation:
    """Draw, evaluate, test what the population before left, minimise, move the cell, store.

    Parameters
    ----------
    number : int
        From 1.
    start : DynamicalMatrices
        Auxiliary to draw from.
    populations : list of FinishedPopulation
        Those before.
    run : RunContext
    offered : Ensemble, optional
        Taken instead of a new one, such as a final ensemble that disagreed.

    Returns
    -------
    FinishedPopulation
        Also stored.
    """
    settings, name = run.settings, population_name(number)
    begin = HarmonicDistribution(start, settings.temperature_k)
    n = next_size(populations, settings)
    if run.source is not None and not populations:
        offered = run.source.last_population
    ensemble = obtain_ensemble(name, begin, n, number, run, offered)
    if populations:
        static_energy = populations[0].static_energy
    elif run.source is not None:
        static_energy = run.source.static_energy
    else:
        static_energy = ensemble.static_energy / int(np.prod(start.dims))
    run.progress.begin(f"population {number}")
    with run.progress.timed("minimiser"):
        group = SpaceGroup(start)
        move = settings.minimise_structure and group.has_free_coordinates()
        fresh = residual(begin, ensemble, group, settings.n_blocks)
        test = fresh_test(fresh, populations[-1].in_sample if populations else None)
        problem = MinimisationProblem(ensemble, group, settings, static_energy, move, begin)
        found = run.engine.minimise(problem, run.progress.update)
        end = HarmonicDistribution(found.auxiliary, settings.temperature_k)
        in_sample = residual(end, ensemble, group, settings.n_blocks, found.weights)
        stress = run.engine.stress(ensemble, group, end)
    next_start = found.auxiliary
    if found.ended == "kong-liu":
        next_start = extrapolate(found.auxiliary, in_sample, move)
    cell, next_start = _move_cell(next_start, stress, populations, group, run)
    record = _record(number, begin, ensemble, test, found, in_sample, stress)
    excess_z = None if cell is None else cell.excess_stress.z()
    settled, grow, verdict = judge(
        test,
        found.ended,
        settings,
        record.error_cm,
        excess_z,
        record.reused,
        record.drift_cm,
        record.kong_liu,
    )
    exhausted = grow and len(ensemble) >= settings.max_configurations
    if exhausted:
        verdict += f", which max_configurations = {settings.max_configurations} does not reach"
    population = FinishedPopulation(
        auxiliary=found.auxiliary,
        next_start=found.auxiliary if settled else next_start,
        in_sample=in_sample,
        record=record,
        history=_history(number, found),
        settled=settled,
        ended=settled or exhausted,
        grow=grow,
        verdict=verdict,
        static_energy=float(static_energy),
        cell=cell,
    )
    save_population(run.state, name, population)
    return population


def _move_cell(
    next_start: DynamicalMatrices,
    stress: tuple[np.ndarray, np.ndarray] | None,
    populations: list[FinishedPopulation],
    group: SpaceGroup,
    run: RunContext,
) -> tuple[CellRelaxation | None, DynamicalMatrices]:
    """What drives the cell after a population, and the start of the next in its cell."""
    target = run.settings.pressure_gpa
    if target is None:
        return None, next_start
    if stress is None:
        raise InputError("pressure_gpa needs stresses, and the force callable returns none")
    before = populations[-1].cell if populations else None
    if before is None:
        basis = allowed_strains(group.rotations)
        supercell = HarmonicDistribution(next_start).supercell
        stiffness = static_stiffness(supercell, basis, run.forces.evaluate)
        cell = CellRelaxation.begin(stress, target, basis, stiffness)
    else:
        cell = before.next(stress, target)
    return cell, strained(next_start, cell.strain) if cell.strain.any() else next_start


def _record(
    number: int,
    begin: HarmonicDistribution,
    ensemble: Ensemble,
    test: FreshTest,
    found: Minimisation,
    in_sample: Residual,
    stress: tuple[np.ndarray, np.ndarray] | None,
) -> PopulationRecord:
    start = begin.dynamical
    pressure = (None, None) if stress is None else pressure_gpa(*stress)
    return PopulationRecord(
        number=number,
        ended=found.ended,
        steps=len(found.free_energy) - 1,
        kong_liu=float(found.kong_liu[-1]),
        free_energy=float(found.free_energy[-1]),
        free_energy_sigma=float(found.free_energy_sigma[-1]),
        fresh_rms_z=test.rms_z,
        fresh_max_z=test.max_z,
        fresh_shift_cm=test.largest_shift_cm,
        drift_cm=float(np.abs(found.auxiliary.frequencies() - start.frequencies()).max()),
        shortest_distance=ensemble.shortest_distance,
        largest_displacement=ensemble.largest_displacement,
        n_configurations=len(ensemble),
        reused=not ensemble.is_drawn_from(begin),
        error_cm=float(in_sample.sigma_cm.max()),
        pressure_gpa=pressure[0],
        pressure_sigma_gpa=pressure[1],
        volume=float(start.primitive.get_volume()),
        rounding=ensemble.rounding,
    )


def _history(number: int, found: Minimisation) -> History:
    return History(
        population=np.full(len(found.free_energy), number),
        free_energy=found.free_energy,
        free_energy_sigma=found.free_energy_sigma,
        gradient_population=np.full(len(found.gradient), number),
        gradient=found.gradient,
        gradient_sigma=found.gradient_sigma,
        kong_liu=found.kong_liu,
        frequencies=found.frequencies,
    )
