"""What a training run is told: one frozen dataclass, which the checkpoint keeps."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from himlip_ase.errors import InputError
from himlip_ase.hint.training.curriculum import Curriculum
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.optimizers import OPTIMIZERS
from himlip_ase.hint.training.probes import PROBES
from himlip_ase.overlay import laid_over


@dataclass(frozen=True)
class PolishSettings:
    """Settings of the quasi-Newton descent.

    Parameters
    ----------
    rounds : int
        Restarts with fresh projections; 0 leaves the descent out.
    iterations : int
        L-BFGS iterations of a round.
    probes : int
        Rademacher projections of each Hessian.
    history : int
        Steps that the approximate inverse Hessian of the loss remembers.
    """

    rounds: int = 0
    iterations: int = 60
    probes: int = 3
    history: int = 60

    def __post_init__(self) -> None:
        for name, least in (("rounds", 0), ("iterations", 1), ("probes", 1), ("history", 1)):
            if getattr(self, name) < least:
                raise InputError(f"polish.{name} = {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training run.

    Parameters
    ----------
    epochs : int or None
        Passes over the frames. None: as many as fit into `max_minutes`, and learning rate and Hessian weight
        follow the clock (such a run continues after a stop, but is not reproduced to the bit).
    max_minutes : float or None
        Wall time of the whole run, continuations included. With `epochs` given, it only stops the run.
    batch_size : int
        Frames a step.
    hessian_every : int
        Steps between two steps that include a Hessian label.
    hessian_batch : int
        Hessian labels of such a step: those of frames of the batch first, the others in turn.
    hessian_products : {"difference", "exact"}
        How products with Hessians are differentiated by the weights: as differences of forces at displaced
        copies (:mod:`himlip_ase.hint.training.step`; agrees to 1e-8, at half the time and memory), or
        through a third derivative of the network.
    probe, probes : str, int
        Kind (one of :data:`himlip_ase.hint.training.probes.PROBES`) and number of projection vectors of a
        Hessian, drawn afresh each time.
    fold_hessians : bool
        Train on the smallest cells that hold a crystal's q-points instead of the whole supercell: the same
        information, and cheaper products (:func:`himlip_ase.hint.training.folding.fold_hessian`).
    optimizer : str
        One of :data:`himlip_ase.hint.training.optimizers.OPTIMIZERS`.
        :class:`~himlip_ase.hint.training.soap.SOAP` has Adam's steps in the eigenbases of the gradients: as
        fast a step, and far fewer of them.
    learning_rate, weight_decay : float
    schedule : {"cosine", "plateau", "constant"}
        Of the learning rate: cosine over the run down to `final_rate` of it; or halved whenever the
        validation score has not improved for `plateau_patience` validations.
    warmup_steps : int
        Linear growth of the learning rate at the start.
    clip : float
        Largest norm of the gradient; 0 for none.
    ema : float
        Decay of the exponential moving average of the weights, which is what is validated and returned; 0 for
        none.
    validation_fraction : float
        Share of the frames of each set kept from training, unless a validation set is given.
    hold_out : {"frames", "sets", "structures", "trajectories"}
        What is kept from training together: frames chosen at random; all frames of a set, as those of one
        reaction; all frames of a composition, so that the model is judged on others; or the last frames of
        each set, which frames of a trajectory before them resemble least.
    validate_every : int or None
        Epochs between validations; None: about a hundred a run.
    patience : int or None
        Validations without improvement after which training ends. None: never.
    watch : {"score", "energy", "forces", "stress", "hessian"}
        Which validation loss chooses the epoch that is kept and counts for `patience`: the weighted sum, or
        that of one kind of label.
    replay_every, replay_weight : int, float
        With frames to replay (see `Trainer`): steps between two replayed batches, and their relative weight.
    statistics_every : int or None
        Steps between two updates of the statistics of the inputs of a network that grows from scratch, up to
        the last of :data:`himlip_ase.hint.training.input_statistics.MARKS`. None: at the first epoch after
        each of the marks, which is too seldom where an epoch has hundreds of steps.
    checkpoint_seconds : float
        Time between checkpoints, which are written at the ends of epochs.
    seed : int
        Of initial weights, order of frames, held-out frames and probes.
    device : str
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda``.
    loss : LossWeights
    curriculum : Curriculum
        Growth of the Hessian's weight.
    polish : PolishSettings
        Quasi-Newton descent on all labels after the last epoch.
    """

    epochs: int | None = 400
    max_minutes: float | None = None
    batch_size: int = 8
    hessian_every: int = 1
    hessian_batch: int = 1
    hessian_products: Literal["difference", "exact"] = "difference"
    probe: str = "rademacher"
    probes: int = 1
    fold_hessians: bool = True
    optimizer: str = "adam"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    final_rate: float = 0.01
    plateau_patience: int = 10
    warmup_steps: int = 50
    clip: float = 50.0
    ema: float = 0.99
    validation_fraction: float = 0.1
    hold_out: Literal["frames", "sets", "structures", "trajectories"] = "frames"
    validate_every: int | None = None
    patience: int | None = None
    watch: Literal["score", "energy", "forces", "stress", "hessian"] = "score"
    replay_every: int = 4
    replay_weight: float = 1.0
    statistics_every: int | None = None
    checkpoint_seconds: float = 30.0
    seed: int = 0
    device: str = "auto"
    loss: LossWeights = field(default_factory=LossWeights)
    curriculum: Curriculum = field(default_factory=Curriculum)
    polish: PolishSettings = field(default_factory=PolishSettings)

    def __post_init__(self) -> None:
        if self.epochs is None and self.max_minutes is None:
            raise InputError("training has no end: give epochs or max_minutes (--epochs, --minutes)")
        for name in (
            "epochs",
            "batch_size",
            "hessian_every",
            "hessian_batch",
            "probes",
            "validate_every",
            "patience",
            "replay_every",
            "statistics_every",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} = {value}; it must be at least 1")
        for name in ("learning_rate", "max_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} = {value}; it must be positive")
        if not 0 <= self.ema < 1 or not 0 <= self.validation_fraction < 1:
            raise InputError(
                f"ema = {self.ema}, validation_fraction = {self.validation_fraction}; both lie in [0, 1)"
            )
        for name, allowed in (
            ("hessian_products", ("difference", "exact")),
            ("schedule", ("cosine", "plateau", "constant")),
            ("hold_out", ("frames", "sets", "structures", "trajectories")),
            ("watch", ("score", "energy", "forces", "stress", "hessian")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        PROBES[self.probe]  # refuses a name that is not there
        optimizer = OPTIMIZERS[self.optimizer]
        if self.weight_decay and "weight_decay" not in optimizer.settings:
            raise InputError(f"optimizer {self.optimizer} takes no weight_decay; leave it out")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, for JSON and YAML."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainingSettings:
        """Settings of a nested dictionary; unknown keys are refused with the nearest known one."""
        nested = {"loss": LossWeights, "curriculum": Curriculum, "polish": PolishSettings}
        values = dict(known_keys(_names(cls), data, "training setting"))
        for key, kind in nested.items():
            if isinstance(values.get(key), dict):
                values[key] = kind(**known_keys(_names(kind), values[key], f"{key} setting"))
        return cls(**values)

    def updated(self, data: dict[str, Any]) -> TrainingSettings:
        """These settings with what a nested dictionary gives; unknown keys are refused as by `from_dict`."""
        return TrainingSettings.from_dict(laid_over(self.to_dict(), data))


def all_weights() -> TrainingSettings:
    """Settings with which all weights of a trained base learn disordered supercells.

    Returns
    -------
    TrainingSettings
        SOAP at 0.002, for which longer trainings pay, where the 0.01 of base models grows unstable beyond 50
        epochs; the base's data are replayed at every step, and no frame is held out.
    """
    return TrainingSettings(
        optimizer="soap",
        learning_rate=2e-3,
        hessian_every=2,
        replay_every=1,
        validation_fraction=0.0,
        ema=0.995,
        loss=LossWeights(stress=300, hessian=200, force_scale=3),
    )


def _names(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def known_keys(names: Iterable[str], data: dict[str, Any], what: str) -> dict[str, Any]:
    """Return `data` if all its keys are among `names`; else say which is not, and the nearest known one.

    Parameters
    ----------
    names : iterable of str
    data : dict
    what : str
        What a key is, for the message.

    Returns
    -------
    dict
        `data`.
    """
    names = list(names)
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}"
            raise InputError(f"unknown {what} {key!r}; {hint}")
    return data
