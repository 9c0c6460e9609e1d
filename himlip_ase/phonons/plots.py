"""Figures of phonon bands and densities of states.

Functions take Axes and return them; the data lie beside the figures.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.figure_style import (
    CLEAR_OF_TICKS,
    COLOURS,
    DPI,
    Look,
    legend_above,
    look,
    second_unit,
    styled,
)
from himlip_ase.files import atomic_write
from himlip_ase.phonons.bands import BandPath, BandStructure, DensityOfStates
from himlip_ase.phonons.force_constants import DynamicalMatrices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOOR = 0.25
"""Part of the height, at most, that imaginary frequencies may take."""


def _lists(data: Any, labels: str | Sequence[str] | None, kind: type) -> tuple[list[Any], list[str | None]]:
    items = [data] if isinstance(data, kind) else list(data)
    if not items:
        raise InputError("nothing to plot: give at least one set")
    names: list[str | None] = (
        [None] * len(items) if labels is None else [labels] if isinstance(labels, str) else list(labels)
    )
    if len(names) != len(items):
        raise InputError(f"{len(items)} sets but {len(names)} labels; give one label for each")
    return items, names


def plot_bands(
    ax: Axes,
    bands: BandStructure | Sequence[BandStructure],
    labels: str | Sequence[str] | None = None,
    looks: Sequence[Look] | None = None,
    both_units: bool = True,
) -> Axes:
    """Draw phonon bands in cm⁻¹ and meV, imaginary frequencies as negative ones below a zero line.

    Parameters
    ----------
    ax : matplotlib Axes
    bands : BandStructure or several
        Several are drawn over one another, each in its colour and dash; they need the same path
        (``band_structure(fc, path=first.path)``).
    labels : str or several, optional
        Entries of the legend.
    looks : sequence of Look, optional
        Colour and dash of each set.
    both_units : bool
        Whether the far side shows meV.

    Returns
    -------
    matplotlib Axes
        `ax`.

    Raises
    ------
    InputError
        Sets along different paths, or as many labels as there are not sets.
    """
    items, names = _lists(bands, labels, BandStructure)
    looks = [look(number) for number in range(len(items))] if looks is None else looks
    positions, ticks = items[0].path.ticks()
    for other in items[1:]:
        if other.path.labels != items[0].path.labels:
            raise InputError(
                f"the sets run along different paths, {other.path.ticks()[1]} and {ticks}; "
                "make the others with band_structure(fc, path=first.path)"
            )
    for item, name, own in zip(items, names, looks, strict=True):
        for i, frequencies in enumerate(item.frequencies):
            x = _places(items[0].path, i, item.path.distances[i])
            lines = ax.plot(x, frequencies, color=own.colour, linestyle=own.style, linewidth=own.width)
            if i == 0:
                lines[0].set_label(name if name is not None else "_")
    for x in positions:
        ax.axvline(x, color="0.75", linewidth=0.6, zorder=0)
    ax.set_xlim(positions[0], positions[-1])
    ax.set_xticks(positions, ticks)
    ax.set_ylabel("frequency (cm⁻¹), imaginary < 0")
    _zero_line(ax, min(item.minimum()[0] for item in items))
    if both_units:
        second_unit(ax)
    if any(name is not None for name in names):
        legend_above(ax)
    return ax


def _places(path: BandPath, segment: int, own: np.ndarray) -> np.ndarray:
    """Distances along a segment of another cell's path, on the axis of `path`."""
    first, last = path.distances[segment][[0, -1]]
    return first + (own - own[0]) * (last - first) / (own[-1] - own[0])


def plot_grid_points(
    ax: Axes, path: BandPath, matrices: DynamicalMatrices, sigma_cm: np.ndarray | None, own: Look
) -> Axes:
    """Draw the frequencies at those points of a path that are points of the q-grid, with their errors.

    Between them bands are interpolated, and carry errors that nobody knows.

    Parameters
    ----------
    ax : matplotlib Axes
        With bands along `path`.
    path : BandPath
    matrices : DynamicalMatrices
    sigma_cm : ndarray (nq, 3n) or None
        One standard error of each frequency.
    own : Look

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    dims, frequencies = np.array(matrices.dims), matrices.frequencies()
    places = {tuple(np.rint(q * dims).astype(int) % dims): k for k, q in enumerate(matrices.qpoints)}
    drawn: set[tuple[float, int]] = set()
    for points, distances in zip(path.qpoints, path.distances, strict=True):
        steps = points * dims
        on_grid = np.abs(steps - np.rint(steps)).max(axis=1) < 1e-6
        for x, step in zip(distances[on_grid], np.rint(steps[on_grid]).astype(int) % dims, strict=True):
            k = places[tuple(step)]
            if (round(float(x), 6), k) in drawn:
                continue
            drawn.add((round(float(x), 6), k))
            error = None if sigma_cm is None else sigma_cm[k]
            ax.errorbar(
                np.full(frequencies.shape[1], x),
                frequencies[k],
                error,
                fmt=own.marker,
                color=own.colour,
                markersize=3,
                elinewidth=1,
                capsize=2,
                zorder=3,
                clip_on=False,
            )
    return ax


def shared_limits(bands: Sequence[BandStructure]) -> tuple[float, float]:
    """Limits of the frequency axis that suit all sets; imaginary ones take a quarter of it at most.

    Parameters
    ----------
    bands : sequence of BandStructure

    Returns
    -------
    low, high : float
        cm⁻¹. Where `low` is above the lowest band, that goes out of the frame.
    """
    low = min(item.minimum()[0] for item in bands)
    high = 1.04 * max(float(f.max()) for item in bands for f in item.frequencies)
    if low > -1:
        return 0.0, high
    return max(1.08 * low, -_FLOOR / (1 - _FLOOR) * high), high


def limit_frequencies(ax: Axes, bands: Sequence[BandStructure], low: float, high: float) -> Axes:
    """Set the limits of the frequency axis, and say how deep the lowest band goes if it leaves the frame.

    Parameters
    ----------
    ax : matplotlib Axes
    bands : sequence of BandStructure
        Those drawn.
    low, high : float
        cm⁻¹.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    ax.set_ylim(low, high)
    lowest = min(item.minimum()[0] for item in bands)
    if lowest < min(low, -0.5):  # rounding at Γ is no imaginary mode
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
        ax.annotate(
            f"down to {lowest:.0f} cm⁻¹", (0.5, 0.0), (0, 4), xycoords="axes fraction",
            textcoords="offset points", ha="center", va="bottom", bbox=box,
        )  # fmt: skip
    return ax


def _zero_line(ax: Axes, lowest: float) -> None:
    ax.axhline(0, color="0.3", linewidth=0.8, zorder=0)
    low, high = ax.get_ylim()
    if lowest < -1:
        ax.axhspan(-1e5, 0, color=COLOURS[1], alpha=0.06, linewidth=0, zorder=0)
    else:
        low = 0.0
    ax.set_ylim(low, high)


def plot_dos(
    ax: Axes,
    densities: DensityOfStates | Sequence[DensityOfStates],
    labels: str | Sequence[str] | None = None,
    sideways: bool = False,
    elements: bool | None = None,
) -> Axes:
    """Draw phonon densities of states.

    Parameters
    ----------
    ax : matplotlib Axes
    densities : DensityOfStates or several
    labels : str or several, optional
        Entries of the legend.
    sideways : bool
        Frequency upwards, to stand beside bands that share the axis.
    elements : bool, optional
        Fill the share of each element; by default where there is one set.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    items, names = _lists(densities, labels, DensityOfStates)
    fill = ax.fill_betweenx if sideways else ax.fill_between
    if elements if elements is not None else len(items) == 1 and len(items[0].partial) > 1:
        for number, (symbol, partial) in enumerate(items[0].partial.items()):
            color = COLOURS[(number + 1) % len(COLOURS)]
            fill(items[0].frequencies, 0, partial, color=color, alpha=0.35, linewidth=0, label=symbol)
    for number, (item, name) in enumerate(zip(items, names, strict=True)):
        pair = (item.total, item.frequencies) if sideways else (item.frequencies, item.total)
        ax.plot(
            *pair,
            color=look(number).colour,
            linestyle=look(number).style,
            linewidth=1.3,
            label=name if name is not None else "_",
        )
    if sideways:
        ax.axhline(0, color="0.3", linewidth=0.8, zorder=0)
        ax.set_xlim(left=0)
        ax.set_xlabel("DOS (states/cm⁻¹)")
    else:
        ax.axvline(0, color="0.3", linewidth=0.8, zorder=0)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("frequency (cm⁻¹), imaginary < 0")
        ax.set_ylabel("DOS (states/cm⁻¹)")
    second_unit(ax, "y" if sideways else "x")
    legend_above(ax, clear=0.0 if sideways else CLEAR_OF_TICKS)
    return ax


def bands_and_dos_figure(
    bands: Sequence[BandStructure], densities: Sequence[DensityOfStates], labels: Sequence[str] | None = None
) -> Figure:
    """One figure: bands at the left, densities of states at the right, on one frequency axis.

    Parameters
    ----------
    bands : sequence of BandStructure
        On one path.
    densities : sequence of DensityOfStates
    labels : sequence of str
        One for each set.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    with styled():
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3.2, 1])
        plot_dos(right, densities, sideways=True)
        plot_bands(left, bands, labels, both_units=False)
    return figure


def save_figure(
    figure: Figure, path: str | os.PathLike, formats: Sequence[str] = ("png", "pdf"), overwrite: bool = False
) -> list[Path]:
    """Save a figure under `path` with the suffix of each format; `InputError` if one exists already.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
        Without suffix.
    formats : sequence of str
        "png", "pdf", …
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path
    """
    base = Path(path)
    base = base.with_suffix("") if base.suffix.lstrip(".") in {"png", "pdf", "svg"} else base
    written = []
    for suffix in formats:
        target = base.with_name(f"{base.name}.{suffix}")
        with atomic_write(target, mode="wb", overwrite=overwrite) as stream:
            figure.savefig(stream, format=suffix, dpi=DPI)
        written.append(target)
    return written
