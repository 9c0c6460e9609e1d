"""The pictures of a report, each written as PNG and PDF beside the numbers that it shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.figure_style import (
    PANEL,
    Look,
    legend_above,
    look,
    new_figure,
    save,
    styled,
)
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.phonons import WELL_THRESHOLD_EV

if TYPE_CHECKING:
    from himlip_ase.pipeline.tc_cases import Phonons
    from himlip_ase.sscha.results.result import SschaResult
    from himlip_ase.superconductivity.gap import GapCurve
    from himlip_ase.superconductivity.plateau import SigmaPlateau
    from himlip_ase.superconductivity.q_mesh import QMeshRow
    from himlip_ase.superconductivity.spectrum import Spectrum
    from himlip_ase.superconductivity.tc_entries import TcTable

HARMONIC, POTENTIAL = Look("#9A9A9A", "-", "x", 3.0), Look("#3B3B3B", (0, (3, 2)), "x", 1.0)
LOOKS = {
    "harmonic": Look("#6B6B6B", "-", "x", 0.9),
    "auxiliary": look(0),
    "hessian": look(1),
    "auxiliary_corrected": look(2),
    "hessian_corrected": look(3),
}
"""Of each kind of phonons, the same in all pictures."""


def look_of(phonons: Phonons) -> Look:
    """How a set of phonons is drawn."""
    return LOOKS[phonons.kind]


def bands(
    folder: Path,
    groups: Mapping[str, Mapping[str, tuple[DynamicalMatrices, np.ndarray | None, Look]]],
    npoints: int = 81,
) -> dict[str, Path]:
    """Bands along the high-symmetry path, one picture for each group of phonons, all on one scale.

    Points of the q-grid that the path meets are marked, with ±1σ where it is known.

    Parameters
    ----------
    folder : Path
    groups : mapping of name to mapping of label to (DynamicalMatrices, σ in cm⁻¹ or None, Look)
        The name ends that of the picture.
    npoints : int
        Points on the longest segment.

    Returns
    -------
    dict of str to Path
        The pictures.
    """
    from himlip_ase.phonons.bands import band_path, band_structure
    from himlip_ase.phonons.plots import limit_frequencies, plot_bands, plot_grid_points, shared_limits

    groups = {name: group for name, group in groups.items() if group}
    first = next(iter(next(iter(groups.values())).values()))[0]
    path = band_path(first.primitive, npoints)
    drawn = {}
    for name, group in groups.items():
        drawn[name] = {
            label: band_structure(matrices.force_constants(), path=path)
            for label, (matrices, _, _) in group.items()
        }
        for label, item in drawn[name].items():
            stem = "".join(c if c.isalnum() else "_" for c in label.lower())
            item.write(folder / f"bands_{stem}.txt", overwrite=True)
    low, high = shared_limits([item for items in drawn.values() for item in items.values()])
    written = {}
    for name, items in drawn.items():
        with styled():
            figure, (ax,) = new_figure(height=PANEL[1] + 0.4)
            looks = [own for _, _, own in groups[name].values()]
            plot_bands(ax, list(items.values()), list(items), looks)
            for matrices, sigma, own in groups[name].values():
                if sigma is not None:
                    plot_grid_points(ax, path, matrices, sigma, own)
            limit_frequencies(ax, list(items.values()), low, high)
        written[name] = save(figure, folder, f"bands_{name}")
    return written


def is_double_well(wells: Mapping[str, Any]) -> bool:
    """Whether any of the curves of the ``phonons`` stage has a minimum beside the symmetric site."""
    return any(float(well["depth_ev"]) > WELL_THRESHOLD_EV for key, well in wells.items() if key != "pattern")


def double_well(folder: Path, wells: Mapping[str, Any]) -> list[Path]:
    """Energy along the softest mode at Γ: DFT points, potential with and without the Hessian in training.

    Parameters
    ----------
    folder : Path
    wells : mapping of str to dict
        Of the ``phonons`` stage.

    Returns
    -------
    list of Path
        The whole curve, and its bottom where there is a double well.
    """
    double = is_double_well(wells)
    written = []
    for name in ("double_well", "double_well_bottom") if double else ("softest_mode",):
        with styled():
            figure, (ax,) = new_figure()
            _draw_wells(ax, wells)
            if name == "double_well_bottom":
                depth = 1e3 * max(float(w["depth_ev"]) for key, w in wells.items() if key != "pattern")
                ax.set_ylim(-1.8 * depth, 3 * depth)
            legend_above(ax)
        written.append(save(figure, folder, name))
    write_json(folder / "double_well.json", dict(wells), overwrite=True)
    return written


def _draw_wells(ax: Any, wells: Mapping[str, Any]) -> None:
    potentials = {"with_hessian": (look(0), "Hi-MLIP"), "without_hessian": (look(1), "without Hessian")}
    for key, (own, label) in potentials.items():
        if key in wells:
            ax.plot(*_mirrored(wells[key]), ls=own.style, color=own.colour, label=label)
    if "dft" in wells:
        ax.plot(*_mirrored(wells["dft"]), "o", color="#3B3B3B", label="DFT", zorder=3)
    others = sorted(k for k in wells if k.startswith("dft_"))
    for number, key in enumerate(others):
        own = look(2 + number)
        ax.plot(*_mirrored(wells[key]), own.marker, color=own.colour, mfc="none", label=f"DFT, {key[4:]}")
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    ax.set(xlabel="displacement of the cell along the mode (Å)", ylabel="energy (meV/cell)")


def _mirrored(well: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes (Å) and energies (meV) on both sides of the symmetric site, ascending."""
    x, y = np.array(well["amplitudes_angstrom"]), 1e3 * np.array(well["energies_ev"])
    both, energies = np.r_[-x, x], np.r_[y, y]
    order = np.argsort(both, kind="stable")
    return both[order], energies[order]


def parity(folder: Path, pairs: Mapping[str, np.ndarray], name: str) -> dict[str, Path]:
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
    dict of str to Path
        By how the potential was trained.
    """
    from himlip_ase.hint.evaluation.plots import plot_parity

    titles = {"with_hessian": "with Hessian", "without_hessian": "without Hessian"}
    written = {}
    for number, (key, title) in enumerate(titles.items()):
        if f"{key}.{name}.forces" not in pairs:
            continue
        wanted, got = pairs[f"{key}.{name}.forces"]
        with styled():
            figure, (ax,) = new_figure(height=PANEL[1] + 0.6)
            plot_parity(ax, wanted, got, "force", "eV/Å", f"trained {title},", number)
            ax.set_aspect("equal", adjustable="datalim")
        written[title] = save(figure, folder, f"parity_{name}_{key}")
    return written


def alpha2f(
    folder: Path,
    spectra: Mapping[Phonons, Spectrum],
    errors: Mapping[str, float | None],
    name: str = "alpha2f",
) -> Path:
    """α²F and cumulative λ of each set of phonons of one isotope or grid, which the caption names.

    Parameters
    ----------
    folder : Path
    spectra : mapping of Phonons to Spectrum
    errors : mapping of str to float or None
        ± of λ by label.
    name : str
        Of the picture.

    Returns
    -------
    Path
    """
    from himlip_ase.pipeline.tc_cases import NAMES
    from himlip_ase.superconductivity.plots import curve_text, plot_alpha2f

    labels, looks = [p.label for p in spectra], [look_of(p) for p in spectra]
    kinds = [NAMES[p.kind] for p in spectra]  # with the isotope a line is too long
    of_kind = {kind: errors.get(label) for kind, label in zip(kinds, labels, strict=True)}
    with styled():
        figure, (ax,) = new_figure()
        plot_alpha2f(ax, list(spectra.values()), kinds, looks=looks, errors=of_kind)
    for label, spectrum in zip(labels, spectra.values(), strict=True):
        stem = "".join(c if c.isalnum() else "_" for c in label.lower())
        with atomic_write(folder / f"alpha2f_{stem}.txt", overwrite=True) as stream:
            stream.write(curve_text(spectrum, label))
    return save(figure, folder, name)


def tc_mu_star(folder: Path, table: TcTable, label: str, name: str = "tc_mu_star") -> Path:
    """Tc against μ* by every formula, for one set of phonons.

    Parameters
    ----------
    folder : Path
    table : TcTable
    label : str
    name : str
        Of the picture.

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.plots import plot_tc_against_mu_star

    with styled():
        figure, (ax,) = new_figure()
        plot_tc_against_mu_star(ax, [table], [label])
    return save(figure, folder, name)


def gap(folder: Path, gaps: Mapping[str, GapCurve], tc_errors: Mapping[str, float | None]) -> Path:
    """Δ(T) of each set of phonons.

    Parameters
    ----------
    folder : Path
    gaps : mapping of str to GapCurve
    tc_errors : mapping of str to float or None
        ± of Tc (K) by label.

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.plots import plot_gaps

    with styled():
        figure, (ax,) = new_figure()
        plot_gaps(ax, gaps, tc_errors)
    return save(figure, folder, "gap")


def plateaus(
    folder: Path,
    found: Mapping[Phonons, SigmaPlateau],
    sigma_ry: float | None,
    partial: Collection[str],
) -> Path:
    """λ against the broadening of the double delta.

    Parameters
    ----------
    folder : Path
    found : mapping of Phonons to SigmaPlateau
    sigma_ry : float or None
        Broadening in use, Ry.
    partial : collection of str
        Labels of unstable phonons.

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.uncertainty_plots import plot_plateaus

    looks = [look_of(phonons) for phonons in found]
    with styled():
        figure, (ax,) = new_figure()
        plot_plateaus(ax, {p.label: plateau for p, plateau in found.items()}, sigma_ry, looks, partial)
    return save(figure, folder, "tc_broadening")


def q_mesh(folder: Path, rows: Sequence[QMeshRow]) -> Path:
    """λ against the q-mesh, for each q-grid of G.

    Parameters
    ----------
    folder : Path
    rows : sequence of QMeshRow

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.uncertainty_plots import plot_q_mesh

    with styled():
        figure, (ax,) = new_figure()
        plot_q_mesh(ax, rows)
    return save(figure, folder, "tc_q_mesh")


def budget(folder: Path, table: TcTable) -> Path:
    """Sources of the uncertainty of Tc.

    Parameters
    ----------
    folder : Path
    table : TcTable

    Returns
    -------
    Path
    """
    from himlip_ase.superconductivity.tables import budget_rows
    from himlip_ase.superconductivity.uncertainty_plots import plot_budget

    with styled():
        figure, (ax,) = new_figure(height=max(PANEL[1], 0.62 * len(budget_rows(table)) + 0.7))
        plot_budget(ax, table)
    return save(figure, folder, "tc_uncertainty")


def sscha(folder: Path, result: SschaResult) -> dict[str, Path]:
    """Convergence of the SSCHA in four pictures, and frequencies with error bars on the grid.

    Parameters
    ----------
    folder : Path
    result : SschaResult

    Returns
    -------
    dict of str to Path
        By the name of the picture.
    """
    from himlip_ase.sscha.results.plots import CONVERGENCE, plot_error_bars, write_history

    written = {}
    for name, plot in (CONVERGENCE | {"sscha_frequencies": plot_error_bars}).items():
        with styled():
            figure, (ax,) = new_figure()
            plot(ax, result)
        written[name] = save(figure, folder, name)
    write_history(result, folder / "sscha_history.csv")
    return written
