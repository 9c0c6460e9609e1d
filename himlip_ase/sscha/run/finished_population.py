"""A finished population: what it found, and its files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices
from himlip_ase.sscha.array_files import pack, unpack
from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.results.result import History, PopulationRecord
from himlip_ase.sscha.run.checkpoints import State


@dataclass(frozen=True)
class Stage:
    """A finished population.

    Attributes
    ----------
    auxiliary : DynamicalMatrices
        Minimised, in the cell of the population.
    following : DynamicalMatrices
        Where the next population begins: the same, or what the ensemble points to if it was used up, in the
        next cell.
    maker : Residual
        Of the auxiliary on the ensemble that made it.
    settled, ended : bool
        Whether nothing is left to do; whether the loop ends here (settled, or an error bar out of reach).
    grow : bool
        Whether the next population should be larger.
    reference : float
        Zero of energy, eV per primitive cell.
    cell : dict of ndarray
        What relaxing the cell has learnt; empty where the cell is fixed.
    """

    auxiliary: DynamicalMatrices
    following: DynamicalMatrices
    maker: Residual
    record: PopulationRecord
    history: History
    settled: bool
    ended: bool
    grow: bool
    verdict: str
    reference: float
    cell: dict[str, np.ndarray]


def stage_name(number: int) -> str:
    """Name of a population's files in ``state/``."""
    return f"population_{number:03d}"


def save_stage(state: State, name: str, stage: Stage) -> None:
    """Checkpoint a finished population."""
    arrays = pack("auxiliary", stage.auxiliary) | pack("following", stage.following)
    arrays |= {f"history_{key}": value for key, value in vars(stage.history).items()}
    arrays |= {f"maker_{key}": value for key, value in vars(stage.maker).items()}
    arrays |= {f"cell_{key}": value for key, value in stage.cell.items()}
    record = {
        "record": dataclasses.asdict(stage.record),
        "settled": stage.settled,
        "ended": stage.ended,
        "grow": stage.grow,
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
        unpack("following", arrays),
        Residual(**read("maker_")),
        PopulationRecord(**data["record"]),
        History(**read("history_")),
        data["settled"],
        data["ended"],
        data["grow"],
        data["verdict"],
        data["reference_ev"],
        read("cell_"),
    )
