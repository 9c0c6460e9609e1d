"""What a training run shows while it goes on, and the figures that it leaves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from himlip_ase.hint.evaluation.evaluate import MOST_FRAMES, MOST_HESSIANS, evaluate_labels
from himlip_ase.hint.evaluation.plots import parity_figure, plot_losses
from himlip_ase.hint.evaluation.report import save_figure
from himlip_ase.hint.training.checkpoints import read_history
from himlip_ase.hint.training.progress import Progress
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.views import sampled
from himlip_ase.potential.interface import Potential
from himlip_ase.progress import ProgressBar


@contextlib.contextmanager
def training_bar(settings: TrainingSettings) -> Iterator[Callable[[Progress], None]]:
    """A line on standard error with the losses.

    Yields
    ------
    callable
        To be passed to the training as `on_epoch`.
    """
    total = float(settings.epochs) if settings.epochs is not None else 60 * float(settings.max_minutes or 1)

    def on_epoch(progress: Progress) -> None:
        row: dict[str, Any] = progress.history[-1]
        done = progress.epoch if settings.epochs is not None else row["seconds"]
        parts = []
        for key, name, factor, unit in (("forces", "F", 1e3, "meV/Å"), ("hessian", "H", 1.0, "eV/Å²")):
            if key in row:
                parts.append(f"{name} {factor * row[key] ** 0.5:.3g} {unit}")
        bar.update(done, note=", ".join([f"epoch {progress.epoch}", *parts]))

    with ProgressBar("training", remaining=True) as bar:
        bar.begin("epochs" if settings.epochs is not None else "seconds", total)
        yield on_epoch


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
