"""Spectral functions along a path through the Brillouin zone: a map, its data, and where each mode peaks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from himlip_ase.sscha.results.spectral_errors import BLOCKS, PeakErrors, peak_errors, peaks
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
    errors : PeakErrors or None
        Of the peaks at the special points.
    """

    path: BandPath
    spectrum: SpectralFunction
    errors: PeakErrors | None = None

    def special(self) -> list[tuple[str, int]]:
        """(name, place among the q-points) of the ends of the segments."""
        positions, names = self.path.ticks()
        distances = np.concatenate(self.path.distances)
        return [
            (name, int(np.abs(distances - at).argmin())) for name, at in zip(names, positions, strict=True)
        ]

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
    n_blocks: int = BLOCKS,
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
    n_blocks : int
        Of the ensemble, left out in turn for the sampling errors at the special points; 0: no errors.

    Returns
    -------
    SpectralBands
    """
    path = band_path(distribution.dynamical.primitive, npoints)
    directions = np.concatenate(path.directions())
    with ProgressBar("spectral function", progress, remaining=True) as bar:
        spectrum = interpolated_spectral_function(
            distribution,
            ensemble,
            SpaceGroup(distribution.dynamical),
            np.concatenate(path.qpoints),
            wavenumbers,
            smearing_cm,
            mesh,
            directions,
            bar.update,
        )
    bands = SpectralBands(path, spectrum)
    if not n_blocks:
        return bands
    places = sorted({place for _, place in bands.special()})
    with ProgressBar("errors of peaks", progress, remaining=True) as bar:
        errors = peak_errors(
            distribution, ensemble, spectrum, places, directions, n_blocks, on_progress=bar.update
        )
    return replace(bands, errors=errors)


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
    record: dict[str, Any] = {
        "smearing_cm": spectrum.smearing_cm,
        "mesh": list(spectrum.mesh or ()),
        "special_points": [list(pair) for pair in zip(labels, positions_of, strict=True)],
        "qpoints": spectrum.qpoints.tolist(),
        "peaks_cm": _finite(positions),
        "widths_cm": _finite(widths),
    }
    if bands.errors is not None:
        errors = bands.errors
        record["errors"] = {
            "how": f"jackknife over {errors.n_blocks} blocks of the ensemble, at the special points; the "
            "sampling error of the auxiliary is not in them",
            "places": errors.places.tolist(),
            "peaks_cm": _finite(errors.positions),
            "widths_cm": _finite(errors.widths),
            "width_bias_cm": _finite(errors.width_bias),
        }
    write_json(stem.with_suffix(".json"), record, overwrite=True)
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    plot_spectral_bands(figure.subplots(), bands)
    written = save_figure(figure, stem, overwrite=True)
    return [stem.with_suffix(".npz"), stem.with_suffix(".json"), *written]


def peak_lines(bands: SpectralBands) -> list[str]:
    """Peaks at the special points, one line each, with their sampling errors or the reason for none.

    Parameters
    ----------
    bands : SpectralBands

    Returns
    -------
    list of str
    """
    smearing, errors = bands.spectrum.smearing_cm, bands.errors
    positions, widths = peaks(bands.spectrum)
    lines = []
    for name, place in bands.special():
        row = None if errors is None else int(np.searchsorted(errors.places, place))
        shown: dict[str, None] = {}
        for mode in np.argsort(positions[place]):
            if np.isnan(positions[place, mode]):
                continue
            own, width = f"{positions[place, mode]:.0f}", f"{widths[place, mode] - 2 * smearing:.0f}"
            if errors is not None and row is not None:
                own += _with(errors.positions[row, mode])
                width += _with(errors.widths[row, mode])
            shown[f"{own} ({width})"] = None
        lines.append(f"{name}: peaks (width beyond 2δ) {', '.join(shown)} cm⁻¹")
    if errors is None:
        return [*lines, "no ±: errors were switched off"]
    widest = np.nanmax(np.append(errors.width_bias, 0.0))
    return [
        *lines,
        f"±: jackknife over {errors.n_blocks} blocks of the ensemble, without the error of the auxiliary; "
        f"the finite ensemble widens peaks by up to {widest:.0f} cm⁻¹, which is not subtracted",
    ]


def _with(error: float) -> str:
    return f" ± {error:.0f}" if np.isfinite(error) else ""


def _finite(values: np.ndarray) -> list[list[float | None]]:
    return [[float(x) if np.isfinite(x) else None for x in row] for row in values]
