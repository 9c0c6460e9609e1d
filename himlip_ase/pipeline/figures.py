"""The pictures of a report, each written as PNG and PDF beside the numbers that it shows."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from himlip_ase.sscha.results.result import SschaResult
    from himlip_ase.superconductivity.gap import GapCurve
    from himlip_ase.superconductivity.plateau import SigmaPlateau
    from himlip_ase.superconductivity.q_mesh import QMeshRow
    from himlip_ase.superconductivity.spectrum import Spectrum
    from himlip_ase.superconductivity.tc_entries import TcTable


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``name.png`` and ``name.pdf``; the path of the PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    folder : Path
    name : str
        Without extension.

    Returns
    -------
    Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    for kind in ("pdf", "png"):
        buffer = io.BytesIO()
        # no date and no random names inside: the same numbers give the same file
        figure.savefig(
            buffer, format=kind, dpi=150, metadata={"CreationDate": None} if kind == "pdf" else None
        )
        with atomic_write(folder / f"{name}.{kind}", "wb", overwrite=True) as stream:
            stream.write(buffer.getvalue())
    return folder / f"{name}.png"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


def bands(
    folder: Path,
    left: Mapping[str, DynamicalMatrices],
    right: Mapping[str, DynamicalMatrices],
    npoints: int = 81,
) -> Path:
    """Bands along the high-symmetry path: two groups of phonons side by side on one scale.

    Parameters
    ----------
    folder : Path
    left, right : mapping of label to DynamicalMatrices
    npoints : int
        Points on the longest segment.

    Returns
    -------
    Path
        Of the picture.
    """
    from himlip_ase.phonons.bands import BandStructure, band_path, band_structure
    from himlip_ase.phonons.plots import plot_bands

    path = band_path(next(iter(left.values())).primitive, npoints)
    groups = [group for group in (left, right) if group]
    figure, axes = _figure(5.2 * len(groups), 4.4, len(groups))
    low, high = 0.0, 0.0
    for ax, group in zip(axes, groups, strict=True):
        drawn: dict[str, BandStructure] = {}
        for label, matrices in group.items():
            drawn[label] = band_structure(matrices.force_constants(), path=path)
            name = "".join(c if c.isalnum() else "_" for c in label.lower())
            drawn[label].write(folder / f"bands_{name}.txt", overwrite=True)
        plot_bands(ax, list(drawn.values()), list(drawn))
        for item in drawn.values():
            low = min(low, min(float(f.min()) for f in item.frequencies))
            high = max(high, max(float(f.max()) for f in item.frequencies))
    for ax in axes:
        ax.set_ylim(low - 0.03 * (high - low), high + 0.12 * (high - low))
    return save(figure, folder, "bands")


def double_well(folder: Path, wells: Mapping[str, Any]) -> Path:
    """Energy along the softest mode at Γ: DFT points, potential with and without the Hessian in training.

    Parameters
    ----------
    folder : Path
    wells : mapping of str to dict
        Of the ``phonons`` stage.

    Returns
    -------
    Path
    """
    figure, axes = _figure(9.6, 3.8, 2)
    depth = 1e3 * max(float(well["depth_ev"]) for key, well in wells.items() if key != "pattern")
    styles = {
        "with_hessian": ("-", "C0", "Hi-MLIP"),
        "without_hessian": ("--", "C1", "trained without Hessian"),
    }
    for ax in axes:
        for key, (style, colour, label) in styles.items():
            if key in wells:
                x, y = _mirrored(wells[key])
                ax.plot(x, y, style, color=colour, label=label)
        if "dft" in wells:
            x, y = _mirrored(wells["dft"])
            ax.plot(x, y, "o", color="k", ms=4, label="DFT", zorder=3)
        for marker, key in zip("sD^v", sorted(k for k in wells if k.startswith("dft_")), strict=False):
            x, y = _mirrored(wells[key])
            ax.plot(x, y, marker, color="C2", mfc="none", ms=5, label=f"DFT, {key[4:]}", zorder=3)
        ax.axhline(0, color="0.7", lw=0.8, zorder=0)
        ax.set(xlabel="displacement of the cell along the mode (Å)", ylabel="energy (meV/cell)")
    axes[0].legend(frameon=False, fontsize="small")
    zoom = max(depth, 2.0)
    axes[1].set_ylim(-1.8 * zoom, 3 * zoom)
    write_json(folder / "double_well.json", dict(wells), overwrite=True)
    return save(figure, folder, "double_well")


def _mirrored(well: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes (Å) and energies (meV) on both sides of the symmetric site, ascending."""
    x, y = np.array(well["amplitudes_angstrom"]), 1e3 * np.array(well["energies_ev"])
    both, energies = np.r_[-x, x], np.r_[y, y]
    order = np.argsort(both, kind="stable")
    return both[order], energies[order]


def parity(folder: Path, pairs: Mapping[str, np.ndarray], name: str) -> Path:
    """Forces on the set `name`: potential against DFT, with and without the Hessian in training.

    Parameters
    ----------
    folder : Path
    pairs : mapping of str to ndarray
        Of the ``finetune`` stage.
    name : str
        Label set.

    Returns
    -------
    Path
    """
    from himlip_ase.hint.evaluation.plots import plot_parity

    titles = {"with_hessian": "with Hessian", "without_hessian": "without Hessian"}
    present = [key for key in titles if f"{key}.{name}.forces" in pairs]
    figure, axes = _figure(4.2 * len(present), 4.0, len(present))
    for ax, key in zip(axes, present, strict=True):
        wanted, got = pairs[f"{key}.{name}.forces"]
        plot_parity(ax, wanted, got, "force", "eV/Å")
        ax.set_title(f"{name}, trained {titles[key]}", fontsize="medium")
    return save(figure, folder, f"parity_{name}")


def alpha2f(folder: Path, spectra: Mapping[str, Spectrum], name: str = "alpha2f") -> Path:
    """α²F and cumulative λ of each set of phonons.

    Parameters
    ----------
    folder : Path
    spectra : mapping of str to Spectrum
    name : str
        Of the picture.

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.plots import curve_text, plot_alpha2f

    figure, (ax,) = _figure(6.4, 4.2)
    plot_alpha2f(ax, list(spectra.values()), list(spectra))
    for label, spectrum in spectra.items():
        stem = "".join(c if c.isalnum() else "_" for c in label.lower())
        with atomic_write(folder / f"alpha2f_{stem}.txt", overwrite=True) as stream:
            stream.write(curve_text(spectrum, label))
    return save(figure, folder, name)


def tc_mu_star(folder: Path, tables: Mapping[str, TcTable]) -> Path:
    """Tc against μ* by every formula, for each set of phonons.

    Parameters
    ----------
    folder : Path
    tables : mapping of str to TcTable

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.plots import plot_tc_against_mu_star

    figure, (ax,) = _figure(6.4, 5.0)
    plot_tc_against_mu_star(ax, list(tables.values()), list(tables))
    return save(figure, folder, "tc_mu_star")


def gap(folder: Path, gaps: Mapping[str, GapCurve]) -> Path:
    """Δ(T) of each set of phonons.

    Parameters
    ----------
    folder : Path
    gaps : mapping of str to GapCurve

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.plots import plot_gaps

    figure, (ax,) = _figure(6.0, 4.0)
    plot_gaps(ax, gaps)
    return save(figure, folder, "gap")


def tc_uncertainty(
    folder: Path,
    table: TcTable,
    mesh: Sequence[QMeshRow],
    plateaus: Mapping[str, SigmaPlateau],
    sigma_ry: float | None,
) -> Path:
    """Broadening, q-mesh, and the sources of the uncertainty of Tc side by side.

    Parameters
    ----------
    folder : Path
    table : TcTable
    mesh : sequence of QMeshRow
    plateaus : mapping of str to SigmaPlateau
    sigma_ry : float or None
        Broadening in use, Ry.

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.uncertainty_plots import plot_budget, plot_plateaus, plot_q_mesh

    parts = 1 + bool(mesh) + bool(plateaus)
    figure, axes = _figure(4.6 * parts + 1.2, 4.2, parts)
    if plateaus:
        plot_plateaus(axes.pop(0), plateaus, sigma_ry)
    if mesh:
        plot_q_mesh(axes.pop(0), mesh)
    plot_budget(axes.pop(0), table)
    return save(figure, folder, "tc_uncertainty")


def sscha(folder: Path, result: SschaResult) -> list[Path]:
    """Convergence of the SSCHA, and frequencies with error bars on the grid.

    Parameters
    ----------
    folder : Path
    result : SschaResult

    Returns
    -------
    list of Path
    """
    from himlip_ase.sscha.results.plots import write_figures

    return [path for path in write_figures(result, folder, overwrite=True) if path.suffix == ".png"]
