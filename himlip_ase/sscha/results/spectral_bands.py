"""Spectral functions along a path through the Brillouin zone: a map, its data, and where each mode peaks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import write_json
from himlip_ase.phonons.bands import BandPath, BandStructure, band_path
from himlip_ase.phonons.plots import plot_bands, save_figure
from himlip_ase.progress import ProgressBar
from himlip_ase.sscha.array_files import save_arrays
from himlip_ase.sscha.curvature.interpolated_spectrum import interpolated_spectral_function
from himlip_ase.sscha.curvature.spectral_function import SpectralFunction
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class SpectralBands:
    """σ(q, ω) along a path.

    Attributes
    ----------
    path : BandPath
    spectrum : SpectralFunction
        At all points of the path, segment after segment.
    """

    path: BandPath
    spectrum: SpectralFunction

    def segments(self, values: np.ndarray) -> tuple[np.ndarray, ...]:
        """An array over all q-points, cut into segments."""
        return tuple(np.split(values, np.cumsum([len(q) for q in self.path.qpoints])[:-1]))

    def auxiliary(self) -> BandStructure:
        """Interpolated auxiliary bands on the same path."""
        return BandStructure(self.path, self.segments(np.sort(self.spectrum.auxiliary_cm, axis=1)))


def spectral_bands(
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    npoints: int = 31,
    mesh: Sequence[int] = (8, 8, 8),
    smearing_cm: float = 10.0,
    wavenumbers: np.ndarray | None = None,
    progress: bool = False,
) -> SpectralBands:
    """Spectral functions along the high-symmetry path of a crystal.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary.
    ensemble : Ensemble
        Drawn from it, or reweighted to it.
    npoints : int
        q-points of the longest segment.
    mesh, smearing_cm, wavenumbers
        See :func:`~himlip_ase.sscha.curvature.interpolated_spectrum.interpolated_spectral_function`.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    SpectralBands
    """
    path = band_path(distribution.dynamical.primitive, npoints)
    with ProgressBar("spectral function", progress, remaining=True) as bar:
        spectrum = interpolated_spectral_function(
            distribution,
            ensemble,
            SpaceGroup(distribution.dynamical),
            np.concatenate(path.qpoints),
            wavenumbers,
            smearing_cm,
            mesh,
            np.concatenate(path.directions()),
            bar.update,
        )
    return SpectralBands(path, spectrum)


def peaks(spectrum: SpectralFunction) -> tuple[np.ndarray, np.ndarray]:
    """Where each mode's curve is highest, and its full width at half of that height.

    Parameters
    ----------
    spectrum : SpectralFunction

    Returns
    -------
    positions, widths : ndarray, shape (k, 3n)
        cm⁻¹; the width holds 2δ of the smearing. NaN for translations, and widths that leave the range of ω.
    """
    omega = spectrum.wavenumbers
    positions = np.full(spectrum.modes.shape[:2], np.nan)
    widths = positions.copy()
    for place in np.ndindex(*positions.shape):
        curve = spectrum.modes[place]
        top = int(curve.argmax())
        if curve[top] <= 0:
            continue
        positions[place] = omega[top]
        if 0 < top < len(omega) - 1:  # of the parabola through the three highest points
            left, middle, right = curve[top - 1 : top + 2]
            positions[place] += 0.5 * (left - right) / (left - 2 * middle + right) * (omega[1] - omega[0])
        below = np.flatnonzero(curve[:top] < curve[top] / 2)
        above = top + np.flatnonzero(curve[top:] < curve[top] / 2)
        if len(below) and len(above):
            edges = [(below[-1], below[-1] + 1), (above[0], above[0] - 1)]
            ends = [
                omega[i] + (curve[top] / 2 - curve[i]) / (curve[j] - curve[i]) * (omega[j] - omega[i])
                for i, j in edges
            ]
            widths[place] = ends[1] - ends[0]
    return positions, widths


def plot_spectral_bands(ax: Axes, bands: SpectralBands) -> Axes:
    """A map of σ(q, ω) along the path, with the auxiliary bands as thin lines.

    Parameters
    ----------
    ax : matplotlib Axes
    bands : SpectralBands

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    from matplotlib.colors import LogNorm

    total = bands.spectrum.total
    # colours span two decades below what only the sharpest peaks exceed
    top = float(np.quantile(total.max(axis=1), 0.8))
    mesh: Any = None
    for x, values in zip(bands.path.distances, bands.segments(total), strict=True):
        edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])  # no further than the segment
        omega = bands.spectrum.wavenumbers
        steps = np.concatenate([omega[:1], (omega[1:] + omega[:-1]) / 2, omega[-1:]])
        mesh = ax.pcolormesh(
            edges,
            steps,
            np.maximum(values.T, top / 1e3),
            norm=LogNorm(top / 100, top),
            cmap="magma",
            rasterized=True,
        )
    ax.figure.colorbar(mesh, ax=ax, label="σ(q, ω) (1/cm⁻¹)")
    limits = (0.0, float(bands.spectrum.wavenumbers[-1]))
    plot_bands(ax, bands.auxiliary(), both_units=False)
    for line in ax.lines:
        line.set(color="white", linewidth=0.5, linestyle="--")
    ax.set_title("dashed: auxiliary phonons", loc="left")
    ax.set_ylim(*limits)
    ax.set_ylabel("ω (cm⁻¹)")
    return ax


def write_spectral_bands(
    bands: SpectralBands, folder: str | os.PathLike, overwrite: bool = False
) -> list[Path]:
    """Write ``spectral_function.npz`` (arrays), ``.json`` (path and peaks), ``.png`` and ``.pdf``.

    Parameters
    ----------
    bands : SpectralBands
    folder : path-like
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        A file exists and `overwrite` is False.
    """
    from matplotlib.figure import Figure

    stem = Path(folder) / "spectral_function"
    if stem.with_suffix(".json").exists() and not overwrite:
        raise InputError(f"{stem.with_suffix('.json')} exists already; pass --overwrite or another --out")
    spectrum = bands.spectrum
    arrays = {
        "qpoints": spectrum.qpoints,
        "distances": np.concatenate(bands.path.distances),
        "wavenumbers": spectrum.wavenumbers,
        "total": spectrum.total,
        "modes": spectrum.modes,
        "auxiliary_cm": spectrum.auxiliary_cm,
    }
    save_arrays(stem.with_suffix(".npz"), arrays, overwrite=True)
    positions, widths = peaks(spectrum)
    positions_of, labels = bands.path.ticks()
    record = {
        "smearing_cm": spectrum.smearing_cm,
        "mesh": list(spectrum.mesh or ()),
        "special_points": [list(pair) for pair in zip(labels, positions_of, strict=True)],
        "qpoints": spectrum.qpoints.tolist(),
        "peaks_cm": _finite(positions),
        "widths_cm": _finite(widths),
    }
    write_json(stem.with_suffix(".json"), record, overwrite=True)
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    plot_spectral_bands(figure.subplots(), bands)
    written = save_figure(figure, stem, overwrite=True)
    return [stem.with_suffix(".npz"), stem.with_suffix(".json"), *written]


def _finite(values: np.ndarray) -> list[list[float | None]]:
    return [[float(x) if np.isfinite(x) else None for x in row] for row in values]
