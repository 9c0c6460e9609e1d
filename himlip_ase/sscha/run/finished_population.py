"""A finished population: what it found, and its files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.array_files import pack, restoring, unpack
from himlip_ase.sscha.cell import CellRelaxation
from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.results.result import History, PopulationRecord
from himlip_ase.sscha.run.checkpoints import State


@dataclass(frozen=True, eq=False)
class FinishedPopulation:
    """What a population found.

    Attributes
    ----------
    auxiliary : DynamicalMatrices
        Minimised, in the cell of the population.
    next_start : DynamicalMatrices
        Where the next population begins: the same, or what the ensemble points to if it was used up, in the
        next cell.
    in_sample : Residual
        Of the auxiliary on the ensemble that it was minimised on, with its final weights.
    record : PopulationRecord
    history : History
    settled, ended : bool
        Whether nothing is left to do; whether the loop ends here (settled, or an error bar out of reach).
    grow : bool
        Whether the next population should be larger.
    verdict : str
        Why, in a sentence.
    static_energy : float
        Zero of energy, eV per primitive cell.
    cell : CellRelaxation, optional
        None where the cell is fixed.
    """

    auxiliary: DynamicalMatrices
    next_start: DynamicalMatrices
    in_sample: Residual
    record: PopulationRecord
    history: History
    settled: bool
    ended: bool
    grow: bool
    verdict: str
    static_energy: float
    cell: CellRelaxation | None


def population_name(number: int) -> str:
    """Name of a population's files in ``state/``."""
    return f"population_{number:03d}"


def save_population(state: State, name: str, population: FinishedPopulation) -> None:
    """Checkpoint a finished population.

    Parameters
    ----------
    state : State
    name : str
        From :func:`population_name`.
    population : FinishedPopulation
    """
    # the names on disk are those of the first version: "following" is next_start, "maker" is in_sample
    arrays = pack("auxiliary", population.auxiliary) | pack("following", population.next_start)
    arrays |= {f"history_{key}": value for key, value in vars(population.history).items()}
    arrays |= {f"maker_{key}": value for key, value in vars(population.in_sample).items()}
    if population.cell is not None:
        arrays |= {f"cell_{key}": value for key, value in vars(population.cell).items()}
    record = {
        "record": dataclasses.asdict(population.record),
        "settled": population.settled,
        "ended": population.ended,
        "grow": population.grow,
        "verdict": population.verdict,
        "reference_ev": population.static_energy,
    }
    state.save(name, arrays, record)


def load_population(state: State, number: int) -> FinishedPopulation | None:
    """A population finished earlier, None if it was not.

    Parameters
    ----------
    state : State
    number : int
        From 1.

    Returns
    -------
    FinishedPopulation or None
    """
    found = state.load(population_name(number))
    if found is None:
        return None
    arrays, data = found

    def read(prefix: str) -> dict[str, np.ndarray]:
        return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}

    with restoring(state.folder / f"{population_name(number)}.npz"):
        cell = read("cell_")
        return FinishedPopulation(
            auxiliary=unpack("auxiliary", arrays),
            next_start=unpack("following", arrays),
            in_sample=Residual(**read("maker_")),
            record=PopulationRecord(**data["record"]),
            history=History(**read("history_")),
            settled=data["settled"],
            ended=data["ended"],
            grow=data["grow"],
            verdict=data["verdict"],
            static_energy=data["reference_ev"],
            cell=CellRelaxation(**cell) if cell else None,
        )
