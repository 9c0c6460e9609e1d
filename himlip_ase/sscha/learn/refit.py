"""How the potential of the loop learns what was labelled: by its head in closed form, or with all weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from himlip_ase.registry import imported
from himlip_ase.sscha.learn.settings import REFITS, LearnSettings

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.cross_fit import CrossFit, SummedLabels, Twins
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame
    from himlip_ase.potential.interface import Potential
    from himlip_ase.potential.network import HiMLIP

TRAINING = "training"
"""Folder of the trainings of a round."""


@dataclass(frozen=True)
class Learnt:
    """A potential and its twins.

    Attributes
    ----------
    model : Potential
        It learnt everything.
    twins : Twins
        Their groups are the pairs that were labelled.
    card : dict
        How; JSON.
    """

    model: Potential
    twins: Twins
    card: dict[str, Any]


@dataclass
class Learner:
    """What the loop learns, from the beginning and round by round.

    Parameters
    ----------
    base : HiMLIP
        Which has learnt none of what the rounds label.
    frames, hessians : sequences of labels
        Learnt from the beginning.
    settings : LearnSettings
    """

    base: HiMLIP
    frames: Sequence[LabelledFrame]
    hessians: Sequence[HessianLabel]
    settings: LearnSettings
    groups: list[Sequence[LabelledFrame]] = field(default_factory=list, init=False)
    _sums: SummedLabels | None = field(default=None, init=False)
    _fit: CrossFit | None = field(default=None, init=False)

    @property
    def sums(self) -> SummedLabels:
        """Normal equations of everything, collected when they are first asked for."""
        if self._sums is None:
            from himlip_ase.hint.last_layer.cross_fit import SummedLabels

            self._sums = SummedLabels(self.base, self.frames, self.hessians, self.settings.closed_form)
            for group in self.groups:
                self._sums.add(group)
        return self._sums

    def add(self, groups: Sequence[Sequence[LabelledFrame]]) -> None:
        """Add the pairs of a round.

        Parameters
        ----------
        groups : sequence of sequences of LabelledFrame
        """
        self._fit = None
        for group in groups:
            self.groups.append(group)
            if self._sums is not None:
                self._sums.add(group)

    def cross_fit(self) -> CrossFit:
        """The head in closed form, with its posterior and twins.

        Returns
        -------
        CrossFit
        """
        if self._fit is None:
            self._fit = self.sums.fit(self.settings.folds, weigh_hessians=self.settings.weighs_hessians)
        return self._fit

    def learn(self, folder: Path) -> Learnt:
        """Learn everything as the settings want it.

        Parameters
        ----------
        folder : Path
            Of the round; what is finished there is taken.

        Returns
        -------
        Learnt
        """
        learn: Callable[[Learner, Path], Learnt] = imported(REFITS[self.settings.refit].function)
        return learn(self, folder)


def by_head(learner: Learner, folder: Path) -> Learnt:
    """Fit the head in closed form.

    Parameters
    ----------
    learner : Learner
    folder : Path
        Not used: the fit takes seconds and leaves no files.

    Returns
    -------
    Learnt
    """
    found = learner.cross_fit()
    return Learnt(found.model, found.twins, {"how": "closed form", "noise": vars(found.noise)})


def by_gradients(learner: Learner, folder: Path) -> Learnt:
    """Train all weights and then a wide head, and twins likewise.

    Parameters
    ----------
    learner : Learner
    folder : Path
        Receives the trainings; what is finished there is taken.

    Returns
    -------
    Learnt
    """
    from himlip_ase.hint.last_layer.trained_twins import Tuning, partition, tune, tune_twins

    settings, place = learner.settings, folder / TRAINING
    tuning = Tuning(learner.base, settings.training, learner.hessians, learner.frames)
    cells = [frame for group in learner.groups for frame in group]
    model = tune(cells, tuning, place / "all", resume=True)
    twins = tune_twins(learner.groups, partition(learner.groups, settings.folds), tuning, place, resume=True)
    return Learnt(
        model,
        twins,
        {"how": "all weights by gradients, then a wide head", "training": asdict(settings.training)},
    )
