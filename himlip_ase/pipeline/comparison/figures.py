"""Pictures of several compounds together; each is named, with a colour, dash and marker of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.figure_style import (
    GREY,
    PANEL,
    Look,
    legend_above,
    look,
    new_figure,
    save,
    second_unit,
    styled,
)
from himlip_ase.pipeline.comparison.band_gap import acoustic_optical_gap
from himlip_ase.pipeline.comparison.compounds import Compound
from himlip_ase.pipeline.comparison.measured import Measured
from himlip_ase.pipeline.tc_cases import NAMES
from himlip_ase.superconductivity.tc_entries import Tc

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from himlip_ase.phonons.bands import BandStructure

HARMONIC = Look("#6B6B6B", (0, (3, 1.5)), "x", 1.0)
_LOW_PANEL = 2.7
"""Inches; panels that stand below one another."""


def phonons(folder: Path, compounds: Sequence[Compound], npoints: int = 61) -> dict[str, Path]:
    """Bands of every compound, harmonic and anharmonic: a picture for each, and all in one (``phonons``).

    Isotopologues share their scale.

    Parameters
    ----------
    folder : Path
    compounds : sequence of Compound
    npoints : int
        Points on the longest segment of the path.

    Returns
    -------
    dict of str to Path
        By the name of the compound, and ``""`` for all in one.
    """
    from himlip_ase.phonons.bands import band_path, band_structure
    from himlip_ase.phonons.plots import shared_limits

    drawn: list[dict[str, BandStructure]] = []
    for compound in compounds:
        path = band_path(compound.harmonic.primitive, npoints)
        sets = {"harmonic": compound.harmonic}
        if compound.anharmonic is not None:
            sets[compound.kind] = compound.anharmonic
        items = {kind: band_structure(m.force_constants(), path=path) for kind, m in sets.items()}
        for kind, item in items.items():
            item.write(folder / f"bands_{_stem(compound.name)}_{kind}.txt", overwrite=True)
        drawn.append(items)
    limits = []
    for compound in compounds:
        family = [
            item
            for other, items in zip(compounds, drawn, strict=True)
            if other is compound or compound.isotopologue_of(other)
            for item in items.values()
        ]
        limits.append(shared_limits(family))
    written = {}
    for compound, items, own in zip(compounds, drawn, limits, strict=True):
        with styled():
            figure, (ax,) = new_figure()
            _bands(ax, compound, items, own)
        written[compound.name] = save(figure, folder, f"phonons_{_stem(compound.name)}")
    columns = 1 if len(compounds) < 4 else 2
    with styled():
        figure, axes = new_figure(-(-len(compounds) // columns), columns, _LOW_PANEL)
        for ax, compound, items, own in zip(axes, compounds, drawn, limits, strict=False):
            _bands(ax, compound, items, own)
        for ax in axes[len(compounds) :]:
            ax.set_axis_off()
    written[""] = save(figure, folder, "phonons")
    return written


def _entry(compound: Compound, kind: str) -> str:
    """Of a legend, where the long name of harmonic phonons has no room."""
    return f"{compound.name}, {'harmonic' if kind == 'harmonic' else NAMES[kind]}"


def _bands(
    ax: Axes, compound: Compound, items: Mapping[str, BandStructure], limits: tuple[float, float]
) -> None:
    from himlip_ase.phonons.plots import limit_frequencies, plot_bands, plot_grid_points

    labels = [_entry(compound, kind) for kind in items]
    plot_bands(ax, list(items.values()), labels, [HARMONIC, look(0)][: len(items)])
    if compound.anharmonic is not None and compound.sigma_cm is not None:
        path = next(iter(items.values())).path
        plot_grid_points(ax, path, compound.anharmonic, compound.sigma_cm, look(0))
    limit_frequencies(ax, list(items.values()), *limits)


def band_gaps(folder: Path, compounds: Sequence[Compound]) -> Path | None:
    """Gap between acoustic and optical bands against the mass of the lightest atom.

    Parameters
    ----------
    folder : Path
    compounds : sequence of Compound

    Returns
    -------
    Path or None
        None where no compound has a gap to show.
    """
    points: list[tuple[Compound, str, float, float | None]] = []
    for compound in compounds:
        for kind, (matrices, sigma) in compound.phonons().items():
            try:
                gap = acoustic_optical_gap(matrices, sigma)
            except InputError:  # the table says why
                continue
            points.append((compound, kind, gap.size_cm, gap.error_cm))
    if not points:
        return None
    with styled():
        figure, (ax,) = new_figure()
        for number, compound in enumerate(compounds):
            own = look(number)
            for mine, kind, size, error in points:
                if mine is not compound:
                    continue
                face = "white" if kind == "harmonic" else own.colour
                ax.errorbar(
                    [compound.lightest_amu], [size], error, fmt=own.marker, color=own.colour, mfc=face, ms=5,
                    label=_entry(compound, kind),
                )  # fmt: skip
        _join(ax, compounds, points)
        ax.axhline(0, color=GREY, lw=0.8, zorder=0)
        ax.set(xlabel="mass of the lightest atom (amu)", ylabel="acoustic to optical (cm⁻¹)")
        ax.set_xlim(left=0)
        second_unit(ax)
        legend_above(ax)
    return save(figure, folder, "band_gaps")


def _join(
    ax: Axes, compounds: Sequence[Compound], points: Sequence[tuple[Compound, str, float, float | None]]
) -> None:
    """A line from the lightest isotopologue through the others, for each kind of phonons."""
    done: set[int] = set()
    for compound in compounds:
        family = [c for c in compounds if c is compound or compound.isotopologue_of(c)]
        if len(family) < 2 or id(compound) in done:
            continue
        done |= {id(c) for c in family}
        for kind in NAMES:
            row = sorted((c.lightest_amu, size) for c, k, size, _ in points if k == kind and c in family)
            style = ":" if kind == "harmonic" else "-"
            ax.plot([m for m, _ in row], [size for _, size in row], style, color=GREY, lw=0.9, zorder=1)


def gaps(folder: Path, compounds: Sequence[Compound]) -> Path | None:
    """Δ(T) of the compounds whose anharmonic phonons have one.

    Parameters
    ----------
    folder : Path
    compounds : sequence of Compound

    Returns
    -------
    Path or None
    """
    from himlip_ase.superconductivity.plots import plot_gaps

    curves, errors = {}, {}
    for compound in compounds:
        case = compound.cases.get(compound.kind)
        if case is None or case.refusal or case.analysis is None or case.analysis.gap is None:
            continue
        curves[compound.name] = case.analysis.gap
        if case.table is not None and "eliashberg" in case.table.methods:
            entry = case.table.get("eliashberg", case.table.mu_stars[0])
            errors[compound.name] = entry.uncertainty_kelvin if isinstance(entry, Tc) else None
    if not curves:
        return None
    with styled():
        figure, (ax,) = new_figure()
        plot_gaps(ax, curves, errors)
    return save(figure, folder, "gaps")


def tc_against_mu_star(folder: Path, compounds: Sequence[Compound], method: str) -> Path | None:
    """Tc against μ* by one formula, anharmonic phonons.

    Parameters
    ----------
    folder : Path
    compounds : sequence of Compound
    method : str

    Returns
    -------
    Path or None
        None where none has a Tc.
    """
    from himlip_ase.superconductivity.plots import plot_tc_against_mu_star

    found = {
        c.name: case.table
        for c in compounds
        if (case := c.cases.get(c.kind)) is not None
        and case.table is not None
        and method in case.table.methods
    }
    if not any(isinstance(e, Tc) and e.method == method for table in found.values() for e in table.results):
        return None
    with styled():
        figure, (ax,) = new_figure()
        plot_tc_against_mu_star(ax, list(found.values()), list(found), [method])
    return save(figure, folder, "tc_mu_star")


def parity(
    folder: Path, compounds: Sequence[Compound], measured: Sequence[Measured], method: str, mu_star: float
) -> Path | None:
    """Tc computed against Tc measured, with the errors of both; open: harmonic, full: anharmonic.

    Parameters
    ----------
    folder : Path
    compounds : sequence of Compound
    measured : sequence of Measured
    method : str
    mu_star : float

    Returns
    -------
    Path or None
        None where no compound has both.
    """
    with styled():
        figure, (ax,) = new_figure(height=PANEL[1] + 0.6)
        top, drawn = 0.0, 0
        for number, compound in enumerate(compounds):
            own = look(number)
            for kind in dict.fromkeys(("harmonic", compound.kind)):
                entry = tc_of(compound, kind, method, mu_star)
                for value in compound.measured_in(measured) if entry is not None else []:
                    assert entry is not None
                    face = "white" if kind == "harmonic" else own.colour
                    ax.errorbar(
                        [value.tc_kelvin], [entry.kelvin], entry.uncertainty_kelvin, value.uncertainty_kelvin,
                        fmt=own.marker, color=own.colour, mfc=face, ms=5, label=_entry(compound, kind),
                    )  # fmt: skip
                    reach = (value.uncertainty_kelvin or 0.0, entry.uncertainty_kelvin or 0.0)
                    top = max(top, value.tc_kelvin + reach[0], entry.kelvin + reach[1])
                    drawn += 1
        if not drawn:
            return None
        ax.plot([0, 1.05 * top], [0, 1.05 * top], color=GREY, lw=0.8, zorder=0)
        ax.set(xlim=(0, 1.05 * top), ylim=(0, 1.05 * top), xlabel="Tc measured (K)", ylabel="Tc computed (K)")
        ax.set_aspect("equal")
        legend_above(ax)
    return save(figure, folder, "parity")


def tc_of(compound: Compound, kind: str, method: str, mu_star: float) -> Tc | None:
    """Tc of one kind of phonons by one formula; None where there is none.

    Parameters
    ----------
    compound : Compound
    kind, method : str
    mu_star : float

    Returns
    -------
    Tc or None
    """
    case = compound.cases.get(kind)
    table = None if case is None else case.table
    if table is None or method not in table.methods or mu_star not in table.mu_stars:
        return None
    entry = table.get(method, mu_star)
    return entry if isinstance(entry, Tc) else None


def costs(folder: Path, compounds: Sequence[Compound]) -> Path | None:
    """Core-minutes spent against what the SSCHA on DFT forces would have needed.

    Parameters
    ----------
    folder : Path
    compounds : sequence of Compound

    Returns
    -------
    Path or None
        None where no run knows both.
    """
    rows = [(c.name, spent(c), c.costs["dft_sscha"]) for c in compounds if c.costs.get("dft_sscha")]
    if not rows:
        return None
    with styled():
        figure, (ax,) = new_figure(height=1.4 + 0.5 * len(rows))
        place = np.arange(len(rows))
        ax.barh(place - 0.2, [row[1] for row in rows], 0.38, color=look(0).colour, label="spent, all stages")
        bars: dict[str, Any] = {"color": "white", "edgecolor": look(1).colour, "hatch": "//", "lw": 1.2}
        ax.barh(place + 0.2, [row[2] for row in rows], 0.38, label="SSCHA on DFT forces, estimated", **bars)
        ax.set_yticks(place, [row[0] for row in rows])
        ax.invert_yaxis()
        ax.set_xscale("log")
        ax.set_xlabel("core-minutes")
        legend_above(ax)
    return save(figure, folder, "costs")


def spent(compound: Compound) -> float:
    """Core-minutes of a run: labels and all stages."""
    return sum(value for name, value in compound.costs.items() if name != "dft_sscha")


def _stem(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
