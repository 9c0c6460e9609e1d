"""Figures of a verification: parity of forces and energies, and what the reference changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.figure_style import legend_above, look, new_figure, save, styled
from himlip_ase.sscha.results.result import SschaResult
from himlip_ase.sscha.trust.verify import Verification

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_force_parity(ax: Axes, found: Verification, symbols: list[str]) -> Axes:
    """Force components of the potential against the reference's, by element, eV/Å.

    Parameters
    ----------
    ax : Axes
    found : Verification
    symbols : list of str
        Of the atoms.

    Returns
    -------
    Axes
    """
    kinds = np.array(symbols)
    limit = 1.05 * max(np.abs(found.reference.force_array).max(), np.abs(found.potential.force_array).max())
    ax.plot([-limit, limit], [-limit, limit], color="0.6", linewidth=0.8, zorder=0)
    for number, deviation in enumerate(found.forces[1:]):
        mask = kinds == deviation.name
        ax.plot(
            found.reference.force_array[:, mask].ravel(),
            found.potential.force_array[:, mask].ravel(),
            ".",
            markersize=2.5,
            alpha=0.6,
            color=look(number).colour,
            label=f"{deviation.name}: rms error {deviation.rms:.3f} eV/Å",
        )
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set_xlabel("reference force (eV/Å)")
    ax.set_ylabel("force of the potential (eV/Å)")
    legend_above(ax, markerscale=4)
    return ax


def plot_energy_parity(ax: Axes, found: Verification) -> Axes:
    """Energies above the static lattice, meV per atom.

    Parameters
    ----------
    ax : Axes
    found : Verification

    Returns
    -------
    Axes
    """
    n_atoms = found.reference.force_array.shape[1]
    theirs, ours = (side.energies / n_atoms * 1e3 for side in (found.reference, found.potential))
    low, high = min(theirs.min(), ours.min()), max(theirs.max(), ours.max())
    pad = 0.05 * (high - low)
    ends = (low - pad, high + pad)
    ax.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
    ax.plot(
        theirs,
        ours,
        "o",
        color=look(0).colour,
        markersize=4,
        label=f"rms error {found.energy.rms * 1e3:.2f} meV/atom",
    )
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.set_xlabel("reference energy (meV/atom above static)")
    ax.set_ylabel("energy of the potential (meV/atom)")
    legend_above(ax)
    return ax


def plot_changes(ax: Axes, found: Verification, result: SschaResult) -> Axes:
    """First-order change of each auxiliary frequency that the reference asks for, with 1σ, cm⁻¹.

    Blue: by the potential's own forces on the final ensemble (zero within its error at convergence); orange:
    with the reference's correction.

    Parameters
    ----------
    ax : Axes
    found : Verification
    result : SschaResult

    Returns
    -------
    Axes
    """
    c, frequencies = found.corrections, result.frequencies()
    shown = c.potential_sigma_cm > 0
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    for values, sigma, label, own in (
        (c.potential_cm, c.potential_sigma_cm, "potential alone", look(0)),
        (c.gradient_cm, c.gradient_sigma_cm, "corrected by the reference", look(1)),
    ):
        ax.errorbar(
            frequencies[shown], values[shown], sigma[shown], fmt=own.marker, markersize=3, linewidth=1,
            color=own.colour, alpha=0.8, label=label,
        )  # fmt: skip
    ax.set_xlabel("auxiliary frequency (cm⁻¹)")
    ax.set_ylabel("change asked for (cm⁻¹)")
    legend_above(ax)
    return ax


def write_verification_figures(
    found: Verification, result: SschaResult, folder: Path, overwrite: bool = False
) -> list[Path]:
    """Write ``verification`` as PDF and PNG.

    Parameters
    ----------
    found : Verification
    result : SschaResult
    folder : Path
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path
    """
    symbols = result.auxiliary.primitive.repeat(result.auxiliary.dims).get_chemical_symbols()
    with styled():
        figure, axes = new_figure(1, 3, height=4.2)
        plot_force_parity(axes[0], found, symbols)
        plot_energy_parity(axes[1], found)
        plot_changes(axes[2], found, result)
    png = save(figure, folder, "verification", overwrite)
    return [png.with_suffix(".pdf"), png]
