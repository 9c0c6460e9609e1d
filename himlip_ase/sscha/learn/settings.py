"""What the learning loop is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from himlip_ase.errors import InputError
from himlip_ase.hint.training.settings import TrainingSettings, all_weights
from himlip_ase.registry import Registry

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings


@dataclass(frozen=True)
class Choice:
    """A way to do a step of the loop.

    Attributes
    ----------
    name, summary : str
    """

    name: str
    summary: str


CHOICES: Registry[Choice] = Registry(
    "choice",
    Choice("random", "all at random"),
    Choice("posterior", "half at random, half where the posterior of the potential is widest"),
)
"""Ways to choose configurations; only those at random enter averages and the test."""

ONWARD: Registry[Choice] = Registry(
    "way to go on",
    Choice("anew", "fresh ensembles, begun from the auxiliary of the round before"),
    Choice(
        "reweighted", "the ensembles of the round before with new forces, where the Kong-Liu ratio allows"
    ),
)
"""How the SSCHA goes on with the refitted potential."""


@dataclass(frozen=True)
class Refit(Choice):
    """A way to learn what was labelled.

    Attributes
    ----------
    function : str
        ``module:function`` of a `himlip_ase.sscha.learn.refit.Learner` and the folder of the round.
    """

    function: str


_REFIT = "himlip_ase.sscha.learn.refit"
REFITS: Registry[Refit] = Registry(
    "refit",
    Refit("closed_form", "the head, by ridge regression in seconds", f"{_REFIT}:by_head"),
    Refit(
        "gradients",
        "all weights by gradients, then a wide head: minutes for each twin",
        f"{_REFIT}:by_gradients",
    ),
)
"""How the potential learns what was labelled."""


@dataclass(frozen=True)
class LearnSettings:
    """Settings of the loop.

    Parameters
    ----------
    configurations : int
        Labelled in each round, even: they are drawn with their opposites. One more run, with all symmetries,
        is the crystal on its centroids, wherever these have moved.
    rounds : int
        After which the loop ends, agreed or not.
    choice : str
        A name of `CHOICES`.
    onward : str
        A name of `ONWARD`.
    frequency_tolerance_cm : float
        No frequency may be farther from what the labels ask for, beyond twice the error; no error larger.
    free_energy_tolerance_mev : float
        The same for the free energy, meV per atom.
    pressure_tolerance_gpa : float
        The same for the pressure.
    refit : str
        A name of `REFITS`; ``gradients`` pays from some ten labelled supercells on, with at least four twins.
    training : TrainingSettings
        Of refit: gradients.
    head : str
        Of the closed-form fit: readout or wide.
    hessian_weight : {"chosen", "full"}
        Whether the harmonic matrices may lose weight in the fit where the configurations are foretold better
        without them, or keep it, so that the harmonic phonons stay those of the matrices.
    weight : float
        Of the labelled configurations in the fit, beside the labels learnt before.
    folds : int
        Twins of the potential that judge what the others learnt, at most.
    seed : int
        Of the choice.
    """

    configurations: int = 8
    rounds: int = 3
    choice: str = "random"
    onward: str = "anew"
    frequency_tolerance_cm: float = 10.0
    free_energy_tolerance_mev: float = 1.0
    pressure_tolerance_gpa: float = 1.0
    refit: str = "closed_form"
    training: TrainingSettings = field(default_factory=all_weights)
    head: Literal["readout", "wide"] = "readout"
    hessian_weight: Literal["chosen", "full"] = "chosen"
    weight: float = 1.0
    folds: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        multiple = 4 if self.choice == "posterior" else 2
        checks = [
            ("choice", self.choice in CHOICES, f"one of {', '.join(CHOICES.names())}"),
            ("refit", self.refit in REFITS, f"one of {', '.join(REFITS.names())}"),
            ("onward", self.onward in ONWARD, f"one of {', '.join(ONWARD.names())}"),
            (
                "configurations",
                self.configurations >= multiple and self.configurations % multiple == 0,
                f"a multiple of {multiple}",
            ),
            ("rounds", self.rounds >= 1, "at least 1"),
            ("folds", self.folds >= 2, "at least 2"),
            ("seed", self.seed >= 0, "0 or a positive integer"),
            ("head", self.head in ("readout", "wide"), "readout or wide"),
            ("hessian_weight", self.hessian_weight in ("chosen", "full"), "chosen or full"),
            *(
                (name, math.isfinite(getattr(self, name)) and getattr(self, name) > 0, "a positive number")
                for name in (
                    "frequency_tolerance_cm",
                    "free_energy_tolerance_mev",
                    "pressure_tolerance_gpa",
                    "weight",
                )
            ),
        ]
        for name, good, allowed in checks:
            if not good:
                raise InputError(f"learn.{name} is {getattr(self, name)!r}; give {allowed}")

        self._check_refit()

    def _check_refit(self) -> None:
        """What is told of one way to learn is not left unused by the other."""
        # the posterior that chooses configurations is of a head, however the potential learns
        no_head = self.refit == "gradients" and self.choice != "posterior"
        unused = {
            "training": ("gradients", self.refit != "gradients" and self.training != all_weights()),
            "head": ("closed_form", no_head and self.head != "readout"),
            "hessian_weight": ("closed_form", no_head and self.hessian_weight != "chosen"),
        }
        for name, (other, is_unused) in unused.items():
            if is_unused:
                raise InputError(
                    f"learn.{name} is of refit: {other}, and refit is {self.refit}; leave it out"
                )

    @property
    def at_random(self) -> int:
        """Configurations of a round that are chosen at random."""
        return self.configurations if self.choice == "random" else self.configurations // 2

    @property
    def weighs_hessians(self) -> bool:
        """Whether the configurations decide the weight of the matrices."""
        return self.hessian_weight == "chosen"

    @property
    def closed_form(self) -> ClosedFormSettings:
        """Settings of the fit."""
        from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings

        return ClosedFormSettings(head=self.head)
