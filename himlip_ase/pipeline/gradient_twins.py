"""Twins of a potential that is trained by gradients: planned before the training, made after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.twin_weights import FEWEST, save_twins, twins_beside

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.trained_twins import Partition, Tuning
    from himlip_ase.labels.frames import LabelledFrame
    from himlip_ase.potential.interface import Potential


@dataclass(frozen=True)
class TwinPlan:
    """Which cells which twin will leave out.

    Attributes
    ----------
    groups : list of list of LabelledFrame
        Cells that are independent of each other, opposites together.
    chosen : Partition
    """

    groups: list[list[LabelledFrame]]
    chosen: Partition

    @classmethod
    def of(
        cls, frames: Sequence[LabelledFrame], number: int, base: Potential | str | None, asked: str
    ) -> TwinPlan:
        """Plan them.

        Parameters
        ----------
        frames : sequence of LabelledFrame
        number : int
            Of twins; of a base that has learnt some of the cells, it is the number of its own.
        base : Potential or name or path, or None
            What the training begins with.
        asked : str
            What asked for them, for messages.

        Returns
        -------
        TwinPlan

        Raises
        ------
        InputError
            Too few independent cells, or cells that no twin of the base is without.
        """
        from himlip_ase.hint.last_layer.trained_twins import partition
        from himlip_ase.sscha.watch.independent_frames import grouped

        groups = grouped(list(frames))
        chosen = partition(groups, number, base)
        if chosen.number < FEWEST:
            raise InputError(
                f"{asked}: {len(groups)} independent groups of cells (opposites are one) make "
                f"{chosen.number} twins, and at least {FEWEST} tell an error; label more, or leave it out"
            )
        return cls(groups, chosen)

    def train(self, tuning: Tuning, folder: Path, model: Path, resume: bool, overwrite: bool = False) -> Path:
        """Train them and write them beside the model.

        Parameters
        ----------
        tuning : Tuning
            That of the model.
        folder : Path
            Of their trainings.
        model : Path
            Weights of the model.
        resume, overwrite : bool
            As in `himlip_ase.hint.last_layer.trained_twins.tune`.

        Returns
        -------
        Path
            Of the file of twins.
        """
        from himlip_ase.hint.last_layer.trained_twins import tune_twins

        twins_beside(model).unlink(missing_ok=True)  # of a model that was there before
        found = tune_twins(self.groups, self.chosen, tuning, folder, resume, overwrite)
        return save_twins(found, model, before=self.chosen.before)
