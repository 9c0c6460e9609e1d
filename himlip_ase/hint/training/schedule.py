"""How much of a training is done, when it ends, and how the learning rate follows."""

from __future__ import annotations

import math
import time

from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.settings import TrainingSettings


class Budget:
    """Epochs and wall time of a run, continuations included; time passes from `start` to `stop`.

    Parameters
    ----------
    settings : TrainingSettings
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        self._since: float | None = None

    def start(self) -> None:
        """The clock runs."""
        self._since = time.monotonic()

    def elapsed(self, progress: Progress) -> float:
        """Seconds since the beginning of the run, pauses left out."""
        return progress.elapsed + (0.0 if self._since is None else time.monotonic() - self._since)

    def note(self, progress: Progress) -> None:
        """Write the time so far into `progress`."""
        if self._since is not None:
            now = time.monotonic()
            progress.elapsed, self._since = progress.elapsed + now - self._since, now

    def stop(self, progress: Progress) -> None:
        """`note`, and the clock stands."""
        self.note(progress)
        self._since = None

    def fraction(self, progress: Progress, step_in_epoch: float = 0.0) -> float:
        """How much of the training is done, 0 to 1.

        Parameters
        ----------
        progress : Progress
        step_in_epoch : float
            How much of the epoch is done.

        Returns
        -------
        float
        """
        s = self.settings
        if s.epochs is not None:
            return min((progress.epoch + step_in_epoch) / s.epochs, 1.0)
        assert s.max_minutes is not None
        return min(self.elapsed(progress) / (60 * s.max_minutes), 1.0)

    def used_up(self, progress: Progress) -> str:
        """What is used up, epochs or minutes, in words; empty while neither is."""
        s = self.settings
        if s.epochs is not None and progress.epoch >= s.epochs:
            return f"{s.epochs} epochs"
        if s.max_minutes is not None and self.elapsed(progress) >= 60 * s.max_minutes:
            return f"{s.max_minutes:g} minutes"
        return ""


def learning_rate(settings: TrainingSettings, progress: Progress, fraction: float) -> float:
    """Learning rate of the next step.

    Parameters
    ----------
    settings : TrainingSettings
    progress : Progress
    fraction : float
        Of the training that is done.

    Returns
    -------
    float
    """
    rate = settings.learning_rate * min(1.0, (progress.step + 1) / max(settings.warmup_steps, 1))
    if settings.schedule == "cosine":
        rate *= settings.final_rate + (1 - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * fraction))
    elif settings.schedule == "plateau":
        rate *= progress.plateau_factor
    return rate
