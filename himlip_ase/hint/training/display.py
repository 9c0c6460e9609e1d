"""What a training run shows while it goes on, and the figures that it leaves."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from himlip_ase.hint.evaluation.evaluate import MOST_FRAMES, MOST_HESSIANS, evaluate_labels
from himlip_ase.hint.evaluation.plots import parity_figure, plot_losses
from himlip_ase.hint.evaluation.report import save_figure
from himlip_ase.hint.training.checkpoints import read_history
from himlip_ase.hint.training.progress import PolishStanding, Progress
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.views import sampled
from himlip_ase.potential.interface import Potential
from himlip_ase.progress import LOG_SECONDS, ProgressBar, duration

logger = logging.getLogger(__name__)

FIRST_LOG_SECONDS = 30.0
"""After which the log says for the first time how long a training will take."""


class TrainingBar:
    """Shows how far a training is; to be passed to it as `on_epoch`.

    Parameters
    ----------
    bar : ProgressBar
        Which is shown on a terminal.
    settings : TrainingSettings
    """

    def __init__(self, bar: ProgressBar, settings: TrainingSettings) -> None:
        self._bar, self._by_epochs = bar, settings.epochs is not None
        self._total = float(settings.epochs) if settings.epochs else 60 * float(settings.max_minutes or 1)
        self._began: tuple[float, float] | None = None
        self._next_log = time.monotonic() + FIRST_LOG_SECONDS
        self._polishing = False
        bar.begin("epochs" if self._by_epochs else "seconds", self._total)

    def __call__(self, progress: Progress) -> None:
        """An epoch, or a round of the refinement, is done."""
        if self._polishing:
            return
        row, now = progress.history[-1], time.monotonic()
        done = progress.epoch if self._by_epochs else row["seconds"]
        self._bar.update(done, note=_losses(row))
        if self._began is None:
            self._began = (now, done)
        start, before = self._began
        if now > self._next_log and done > before:
            left = (now - start) / (done - before) * (self._total - done)
            logger.info(
                "epoch %d, %s; about %s of training left", progress.epoch, _losses(row), duration(left)
            )
            self._next_log = now + LOG_SECONDS

    def polishing(self, standing: PolishStanding) -> None:
        """The refinement after the last epoch is as far as this.

        Parameters
        ----------
        standing : PolishStanding
        """
        if not self._polishing:
            if self._began is None:
                self._bar.update(self._total, note="done before")
            self._bar.begin("polish", standing.rounds * standing.iterations)
            self._polishing = True
        done = (standing.round - 1) * standing.iterations + standing.iteration
        self._bar.update(done, note=f"round {standing.round}/{standing.rounds}, {_losses(standing.losses)}")


def _losses(row: dict[str, float]) -> str:
    """Root mean square errors of forces and Hessians, as far as they are there."""
    parts = []
    for key, name, factor, unit in (("forces", "F", 1e3, "meV/Å"), ("hessian", "H", 1.0, "eV/Å²")):
        if key in row:
            parts.append(f"{name} {factor * row[key] ** 0.5:.3g} {unit}")
    return ", ".join(parts)


@contextlib.contextmanager
def training_bar(settings: TrainingSettings) -> Iterator[TrainingBar]:
    """A line on standard error with the losses, and how long the training will take.

    Yields
    ------
    TrainingBar
        To be passed to the training as `on_epoch`.
    """
    with ProgressBar("training", remaining=True) as bar:
        yield TrainingBar(bar, settings)


def write_figures(
    model: Potential,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    folder: str | os.PathLike,
    overwrite: bool = True,
) -> None:
    """Write ``figures/parity`` and ``figures/loss`` (PNG and PDF) of a training folder.

    Of very many labels, some are drawn.

    Parameters
    ----------
    model : Potential
    frames : sequence of LabelledFrame
    hessians : sequence of HessianLabel
    folder : path-like
        Of the training; ``history.csv`` in it gives the curves.
    overwrite : bool
    """
    from matplotlib.figure import Figure

    target = Path(folder)
    errors = evaluate_labels(model, sampled(frames, MOST_FRAMES), hessians, most_hessians=MOST_HESSIANS)
    save_figure(parity_figure(errors), target / "figures" / "parity", overwrite)
    history = target / "history.csv"
    if history.is_file():
        figure = Figure(figsize=(6, 4), layout="constrained")
        plot_losses(figure.subplots(), read_history(history))
        save_figure(figure, target / "figures" / "loss", overwrite)
