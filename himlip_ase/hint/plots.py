"""Parity and loss figures; every function draws on the Axes it is given and returns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.hint.evaluate import LabelErrors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}


def plot_parity(
    ax: Axes, labels: np.ndarray, predicted: np.ndarray, name: str, unit: str, label: str = ""
) -> Axes:
    """Predictions against labels with the diagonal and the RMSE.

    Parameters
    ----------
    ax : matplotlib Axes
    labels, predicted : ndarray
        Equal shapes.
    name, unit : str
        For the axes.
    label : str
        For the legend.
    """
    rmse = float(np.sqrt(np.mean((np.ravel(predicted) - np.ravel(labels)) ** 2)))
    ax.plot(
        np.ravel(labels),
        np.ravel(predicted),
        ".",
        ms=3,
        alpha=0.6,
        label=f"{label} RMSE {rmse:.3g} {unit}".strip(),
    )
    ax.axline((float(np.mean(labels)), float(np.mean(labels))), slope=1, color="0.5", lw=0.8, zorder=0)
    ax.set_xlabel(f"DFT {name} ({unit})")
    ax.set_ylabel(f"Hi-MLIP {name} ({unit})")
    ax.legend(fontsize="x-small", frameon=False)
    return ax


def parity_figure(errors: LabelErrors) -> Figure:
    """Energy, forces, stress and frequencies side by side, one colour per set.

    Parameters
    ----------
    errors : LabelErrors
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.6), layout="constrained")
    axes = figure.subplots(1, 4)
    for ax, (quantity, unit) in zip(axes[:3], UNITS.items(), strict=True):
        for name, item in errors.sets.items():
            labels, predicted = item.pairs.get(quantity, (np.zeros(0), np.zeros(0)))
            if labels.size:
                offset = labels.mean() if quantity == "energy" else 0.0
                plot_parity(ax, labels - offset, predicted - offset, quantity, unit, name)
    for found in errors.hessians.values():
        if found.pairs is not None:
            unit, name = ("cm⁻¹", "frequency") if found.frequencies else ("eV/Å²", "Hessian eigenvalue")
            plot_parity(axes[3], *found.pairs, name, unit)
    return figure


def plot_losses(ax: Axes, history: Sequence[dict[str, float]]) -> Axes:
    """Root of each part of the loss against epochs, training solid, validation dashed.

    Parameters
    ----------
    ax : matplotlib Axes
    history : sequence of dict
        Rows of ``history.csv``.
    """
    units = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "hessian": "eV/Å²"}
    for colour, (key, unit) in enumerate(units.items()):
        for column, style, label in ((key, "-", f"{key} ({unit})"), (f"val_{key}", "--", None)):
            rows = [(r["epoch"], r[column] ** 0.5) for r in history if column in r]
            if rows:
                ax.plot(*zip(*rows, strict=True), style, color=f"C{colour}", lw=1, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel("root mean square error")
    ax.legend(fontsize="small", frameon=False)
    return ax
