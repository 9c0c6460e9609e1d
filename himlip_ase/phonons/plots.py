"""Figures of phonon bands and densities of states.

Functions take Axes and return them; the data lie beside the figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.phonons.bands import BandStructure, DensityOfStates, band_structure, dos
from himlip_ase.phonons.force_constants import ForceConstants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


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
    ax: Axes, bands: BandStructure | Sequence[BandStructure], labels: str | Sequence[str] | None = None
) -> Axes:
    """Draw phonon bands in cm⁻¹, imaginary frequencies as negative ones below a zero line.

    Parameters
    ----------
    ax : matplotlib Axes
    bands : BandStructure or several
        Several are drawn over one another, each in its colour and dash; they need the same path
        (``band_structure(fc, path=first.path)``).
    labels : str or several, optional
        Entries of the legend.

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
    positions, ticks = items[0].path.ticks()
    for other in items[1:]:
        if other.path.labels != items[0].path.labels:
            raise InputError(
                f"the sets run along different paths, {other.path.ticks()[1]} and {ticks}; "
                "make the others with band_structure(fc, path=first.path)"
            )
    for number, (item, name) in enumerate(zip(items, names, strict=True)):
        color, style = COLORS[number % len(COLORS)], STYLES[number % len(STYLES)]
        start = 0.0
        for i, frequencies in enumerate(item.frequencies):
            own = item.path.distances[i]
            first, last = items[0].path.distances[i][[0, -1]]
            start = float(first)
            x = start + (own - own[0]) * (last - first) / (own[-1] - own[0])
            lines = ax.plot(x, frequencies, color=color, linestyle=style, linewidth=1.3)
            if i == 0:
                lines[0].set_label(name if name is not None else "_")
    for x in positions:
        ax.axvline(x, color="0.75", linewidth=0.6, zorder=0)
    ax.set_xlim(positions[0], positions[-1])
    ax.set_xticks(positions, ticks)
    ax.set_ylabel("Frequency (cm$^{-1}$), imaginary < 0")
    _zero_line(ax, min(item.minimum()[0] for item in items))
    if any(name is not None for name in names):
        count = len(items) if sum(len(n or "") for n in names) < 60 else 2
        ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=count)
    return ax


def _zero_line(ax: Axes, lowest: float) -> None:
    ax.axhline(0, color="0.3", linewidth=0.8, zorder=0)
    low, high = ax.get_ylim()
    if lowest < -1:
        ax.axhspan(low, 0, color="#D55E00", alpha=0.06, linewidth=0, zorder=0)
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
            color = COLORS[(number + 1) % len(COLORS)]
            fill(items[0].frequencies, 0, partial, color=color, alpha=0.35, linewidth=0, label=symbol)
    for number, (item, name) in enumerate(zip(items, names, strict=True)):
        pair = (item.total, item.frequencies) if sideways else (item.frequencies, item.total)
        ax.plot(
            *pair,
            color=COLORS[number % len(COLORS)],
            linestyle=STYLES[number % len(STYLES)],
            linewidth=1.3,
            label=name if name is not None else "_",
        )
    if sideways:
        ax.axhline(0, color="0.3", linewidth=0.8, zorder=0)
        ax.set_xlim(left=0)
        ax.set_xlabel("DOS (states / cm$^{-1}$)")
    else:
        ax.axvline(0, color="0.3", linewidth=0.8, zorder=0)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("Frequency (cm$^{-1}$), imaginary < 0")
        ax.set_ylabel("DOS (states / cm$^{-1}$)")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize="small")
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
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3.2, 1])
    plot_dos(right, densities, sideways=True)
    plot_bands(left, bands, labels)
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
            figure.savefig(stream, format=suffix, dpi=200)
        written.append(target)
    return written


def write_bands_and_dos(
    sets: Mapping[str, ForceConstants],
    folder: str | os.PathLike,
    npoints: int = 101,
    mesh: Sequence[int] = (20, 20, 20),
    overwrite: bool = False,
) -> list[Path]:
    """Bands and DOS of one or several sets of force constants: ``bands.png``, ``bands.pdf`` and the data.

    Parameters
    ----------
    sets : mapping of label to ForceConstants
        All are drawn along the path of the first.
    folder : path-like
        Gets ``bands.png``, ``bands.pdf`` and, for each set, ``bands[_label].dat`` and ``dos[_label].dat``.
    npoints, mesh
        See `band_structure` and `dos`.
    overwrite : bool
        Whether existing files may be replaced; `InputError` otherwise, before anything is written.

    Returns
    -------
    list of Path
        The files.
    """
    if not sets:
        raise InputError("nothing to plot: give at least one set")
    folder = Path(folder)
    tags = (
        [""] if len(sets) == 1 else ["_" + "".join(c if c.isalnum() else "-" for c in name) for name in sets]
    )
    if len(set(tags)) != len(tags):
        raise InputError(f"the labels {list(sets)} give file names that are not distinct; choose others")
    targets = [folder / "bands.png", folder / "bands.pdf"]
    targets += [folder / f"{kind}{tag}.dat" for tag in tags for kind in ("bands", "dos")]
    existing = [t for t in targets if t.exists()]
    if existing and not overwrite:
        raise InputError(_exists(existing[0]))
    bands: list[BandStructure] = []
    for fc in sets.values():
        bands.append(band_structure(fc, npoints, path=bands[0].path if bands else None))
    densities = [dos(fc, mesh) for fc in sets.values()]
    for tag, band, density in zip(tags, bands, densities, strict=True):
        band.write(folder / f"bands{tag}.dat", overwrite=overwrite)
        density.write(folder / f"dos{tag}.dat", overwrite=overwrite)
    figure = bands_and_dos_figure(bands, densities, list(sets) if len(sets) > 1 else None)
    save_figure(figure, folder / "bands", overwrite=overwrite)
    return targets


def _tags(sets: Mapping[str, ForceConstants]) -> list[str]:
    if len(sets) == 1:
        return [""]
    tags = ["_" + "".join(c if c.isalnum() else "-" for c in name) for name in sets]
    if len(set(tags)) != len(tags):
        raise InputError(f"the labels {list(sets)} give file names that are not distinct; choose others")
    return tags


def _exists(path: Path) -> str:
    return f"{path} exists already; pass overwrite=True (--overwrite) or choose another folder"


def write_phonons(
    sets: Mapping[str, ForceConstants],
    folder: str | os.PathLike,
    npoints: int = 101,
    mesh: Sequence[int] = (20, 20, 20),
    write_dyn_files: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Figures and data of `write_bands_and_dos`, with a ``phonopy_params.yaml`` and perhaps dyn files.

    Parameters
    ----------
    sets : dict of str to ForceConstants
        By name.
    folder : path-like
    npoints : int
        Points on the longest segment of the path.
    mesh : three integers
        Of the density of states.
    write_dyn_files : bool
        Whether to write dyn files of Quantum ESPRESSO too.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of str
        What a person wants to know: the lowest frequency on the commensurate grid and on the path, and the
        files.
    """
    from himlip_ase.phonons.phonopy_io import write_phonopy_params
    from himlip_ase.phonons.qe import write_dyn

    folder = Path(folder)
    tags = _tags(sets)
    names = [folder / f"phonopy_params{tag}.yaml" for tag in tags]
    existing = [n for n in names if n.exists()]
    if existing and not overwrite:
        raise InputError(_exists(existing[0]))
    files = write_bands_and_dos(sets, folder, npoints, mesh, overwrite)
    lines = []
    for (label, fc), tag, name in zip(sets.items(), tags, names, strict=True):
        files.append(write_phonopy_params(fc, name, overwrite=overwrite))
        if write_dyn_files:
            files += write_dyn(
                fc.dynamical_matrices(), folder / f"dyn{tag and tag + '_'}", overwrite=overwrite
            )
        grid = fc.dynamical_matrices()
        worst = np.unravel_index(int(np.argmin(grid.frequencies())), grid.frequencies().shape)
        low = float(grid.frequencies()[worst])
        verdict = "unstable" if low < -1 else "no imaginary frequency on the grid"
        q = ", ".join(f"{x:.4g}" for x in grid.qpoints[worst[0]])
        lines.append(
            f"{label}: lowest frequency {low:.1f} cm⁻¹ at q = ({q}) of the {grid.dims} grid; {verdict}"
        )
    return [*lines, "written: " + ", ".join(str(f) for f in files)]
