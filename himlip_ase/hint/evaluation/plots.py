"""Parity and loss figures; every function draws on the Axes it is given and returns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.figure_style import grow_for_legends, legend_above, look, new_figure, styled
from himlip_ase.hint.evaluation.evaluate import LabelErrors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "Hessian": "eV/Å²", "frequency": "cm⁻¹"}
NAMED = 4
"""Hessians that get a colour each; more share one."""

Pairs = tuple[np.ndarray, np.ndarray]


def plot_parity(
    ax: Axes,
    labels: np.ndarray,
    predicted: np.ndarray,
    name: str,
    unit: str,
    label: str = "",
    number: int = 0,
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
    number : int
        Which colour.

    Returns
    -------
    matplotlib Axes
    """
    rmse = float(np.sqrt(np.mean((np.ravel(predicted) - np.ravel(labels)) ** 2)))
    ax.plot(
        np.ravel(labels),
        np.ravel(predicted),
        ".",
        ms=3,
        alpha=0.6,
        color=look(number).colour,
        label=f"{label} RMSE {rmse:.3g} {unit}".strip(),
        rasterized=np.size(labels) > 5000,
    )
    ax.axline((float(np.mean(labels)), float(np.mean(labels))), slope=1, color="0.5", lw=0.8, zorder=0)
    ax.set_xlabel(f"reference {name} ({unit})")
    ax.set_ylabel(f"predicted {name} ({unit})")
    legend_above(ax, markerscale=2)
    return ax


def parity_figure(errors: LabelErrors) -> Figure:
    """Energy, forces, stress, Hessian and frequencies, whichever there are; one colour per set.

    Parameters
    ----------
    errors : LabelErrors
    """
    panels = parity_panels(errors)
    with styled():
        figure, axes = new_figure(1, max(len(panels), 1), height=4.2)
        for ax, (quantity, sets) in zip(axes, panels.items(), strict=False):
            for number, (name, (labels, predicted)) in enumerate(sets.items()):
                plot_parity(ax, labels, predicted, quantity, UNITS[quantity], name, number)
            if quantity == "frequency":
                ax.axhline(0, color="0.85", lw=0.8, zorder=0)
                ax.axvline(0, color="0.85", lw=0.8, zorder=0)
    grow_for_legends(figure)
    return figure


def parity_panels(errors: LabelErrors) -> dict[str, dict[str, Pairs]]:
    """{quantity: {name of the set or Hessian: (labels, predictions)}}; energies less the set's mean."""
    panels: dict[str, dict[str, Pairs]] = {}
    for name, item in errors.sets.items():
        for quantity, (labels, predicted) in item.pairs.items():
            if labels.size:
                shift = float(labels.mean()) if quantity == "energy" else 0.0
                place = "Hessian" if quantity == "products" else quantity
                key = f"{name} products" if quantity == "products" else name
                panels.setdefault(place, {})[key] = (labels - shift, predicted - shift)
    for quantity, pairs in (("Hessian", "elements"), ("frequency", "pairs")):
        found = {k: getattr(h, pairs) for k, h in errors.hessians.items() if getattr(h, pairs) is not None}
        found = {k: v for k, v in found.items() if v[0].size}
        if len(found) > NAMED:
            joined = np.concatenate([np.stack(v) for v in found.values()], axis=1)
            found = {f"{len(found)} Hessians": (joined[0], joined[1])}
        if found:
            panels.setdefault(quantity, {}).update(found)
    return {quantity: panels[quantity] for quantity in UNITS if quantity in panels}


def plot_losses(ax: Axes, history: Sequence[dict[str, float]]) -> Axes:
    """Root of each part of the loss against epochs, training solid, validation dashed.

    Parameters
    ----------
    ax : matplotlib Axes
    history : sequence of dict
        Rows of ``history.csv``.

    Returns
    -------
    matplotlib Axes
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
    legend_above(ax)
    return ax
