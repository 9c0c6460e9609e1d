"""Figures of what makes Tc uncertain: broadening, q-grid and mesh, and all sources side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.figure_style import GREY, Look, legend_above, look
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.tables import budget_rows
from himlip_ase.superconductivity.tc_entries import TcTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from himlip_ase.superconductivity.plateau import SigmaPlateau
    from himlip_ase.superconductivity.q_mesh import QMeshRow


def plot_plateaus(
    ax: Axes,
    plateaus: Mapping[str, SigmaPlateau],
    chosen_ry: float | None = None,
    looks: Sequence[Look] | None = None,
    partial: Collection[str] = (),
) -> Axes:
    """Draw λ(σ) of several sets of phonons, each with its own plateau shaded, and the σ in use.

    Parameters
    ----------
    ax : Axes
    plateaus : mapping of str to SigmaPlateau
    chosen_ry : float, optional
        Broadening in use, Ry.
    looks : sequence of Look, optional
        Of each set.
    partial : collection of str
        Labels of unstable phonons, of which only the stable modes are summed: they set no scale.

    Returns
    -------
    Axes
    """
    looks = [look(number) for number in range(len(plateaus))] if looks is None else looks
    judged = [p for label, p in plateaus.items() if label not in partial] or list(plateaus.values())
    top = 1.15 * max(float(p.lambdas.max()) for p in judged)
    for (label, plateau), own in zip(plateaus.items(), looks, strict=True):
        beyond = f"{label} (stable modes only)" if label in partial else label
        style: dict[str, Any] = {
            "color": own.colour,
            "ls": own.style,
            "marker": own.marker,
            "ms": 3,
            "lw": 1.1,
        }
        ax.plot(plateau.sigma_ry, plateau.lambdas, label=beyond, **style)
        low, high = plateau.window
        inside = (plateau.sigma_ry > low - 1e-9) & (plateau.sigma_ry < high + 1e-9)
        if plateau.found and label not in partial:
            values = plateau.lambdas[inside]
            ax.fill_between(
                plateau.sigma_ry[inside], values.min(), values.max(), color=own.colour, alpha=0.25, lw=0
            )
    if chosen_ry is not None:
        ax.axvline(chosen_ry, color=GREY, ls=":", lw=1, label=f"in use: {chosen_ry:g} Ry")
    ax.set(xlabel="σ of the double delta (Ry)", ylabel="λ", ylim=(0, top))
    legend_above(ax)
    return ax


def plot_q_mesh(ax: Axes, rows: Sequence[QMeshRow], quantity: str = "lambda") -> Axes:
    """Draw λ (or Tc) against the mesh, one line for each q-grid of G: open the plain sum, else interpolated.

    Parameters
    ----------
    ax : Axes
    rows : sequence of QMeshRow
    quantity : {"lambda", "tc"}

    Returns
    -------
    Axes
    """
    if not rows or quantity not in ("lambda", "tc"):
        raise InputError(f"{len(rows)} rows, quantity {quantity!r}; want rows, and 'lambda' or 'tc'")
    for number, grid in enumerate(dict.fromkeys(row.elph_dims for row in rows)):
        mine = [row for row in rows if row.elph_dims == grid]
        points = [float(np.prod(row.mesh)) ** (1 / 3) for row in mine]
        values = [row.lambda_total if quantity == "lambda" else row.kelvin for row in mine]
        own = look(number)
        ax.plot(points, values, color=own.colour, ls=own.style, label=f"G on {'×'.join(map(str, grid))}")
        for x, y, row in zip(points, values, mine, strict=True):
            face = own.colour if row.interpolated else "white"
            ax.plot([x], [y], color=own.colour, marker=own.marker, ms=5, mfc=face, ls="")
    ax.set(xlabel="points of the q-mesh per direction", ylabel="λ" if quantity == "lambda" else "Tc (K)")
    ax.set_ylim(bottom=0)
    legend_above(ax)
    return ax


def plot_budget(ax: Axes, table: TcTable, mu_star: float | None = None) -> Axes:
    """Draw each source of the uncertainty of Tc (K) as bars, one for each formula.

    Parameters
    ----------
    ax : Axes
    table : TcTable
    mu_star : float, optional
        None takes the middle of the table's.

    Returns
    -------
    Axes
    """
    rows, methods = budget_rows(table, mu_star), table.methods
    mu = table.middle_mu_star if mu_star is None else mu_star
    height = 0.8 / len(methods)
    for place, method in enumerate(methods):
        sizes = [kelvins[place] or 0.0 for _, _, kelvins in rows]
        where = np.arange(len(rows)) + (place - (len(methods) - 1) / 2) * height
        ax.barh(where, sizes, height, color=look(place).colour, label=label_of(method))
    names = ["\n".join(textwrap.wrap(name, 28)) for name, _, _ in rows]
    ax.set_yticks(np.arange(len(rows)), names)
    ax.invert_yaxis()
    ax.set(xlabel=f"± of Tc (K) at μ* = {mu:g}")
    legend_above(ax)
    return ax
