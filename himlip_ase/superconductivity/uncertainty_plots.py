"""Figures of what makes Tc uncertain: broadening, q-grid and mesh, and all sources side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.plots import COLOURS
from himlip_ase.superconductivity.tables import budget_rows
from himlip_ase.superconductivity.tc_entries import TcTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from himlip_ase.superconductivity.plateau import SigmaPlateau
    from himlip_ase.superconductivity.q_mesh import QMeshRow


def plot_plateaus(ax: Axes, plateaus: Mapping[str, SigmaPlateau], chosen_ry: float | None = None) -> Axes:
    """Draw λ(σ) of several sets of phonons, each with its own plateau drawn thick, and the σ in use.

    Parameters
    ----------
    ax : Axes
    plateaus : mapping of str to SigmaPlateau
    chosen_ry : float, optional
        Broadening in use, Ry.

    Returns
    -------
    Axes
    """
    for number, (label, plateau) in enumerate(plateaus.items()):
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(plateau.sigma_ry, plateau.lambdas, color=colour, marker="o", ms=3, lw=1, label=label)
        low, high = plateau.window
        inside = (plateau.sigma_ry > low - 1e-9) & (plateau.sigma_ry < high + 1e-9)
        if plateau.found:
            ax.plot(plateau.sigma_ry[inside], plateau.lambdas[inside], color=colour, lw=4, alpha=0.4)
    if chosen_ry is not None:
        ax.axvline(chosen_ry, color="0.4", ls=":", lw=1, label=f"in use: {chosen_ry:g} Ry")
    ax.set(xlabel="σ of the double delta (Ry)", ylabel="λ")
    if all((p.lambdas > 0).all() for p in plateaus.values()):  # unstable phonons give any λ
        from matplotlib.ticker import LogLocator, NullFormatter

        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(top=3 * max(float(p.lambdas.max()) for p in plateaus.values()))
    ax.legend(frameon=False, fontsize="small", loc="upper right")
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
        colour = COLOURS[(number + 1) % len(COLOURS)]
        ax.plot(points, values, color=colour, lw=1, label=f"G on {'×'.join(map(str, grid))}")
        for x, y, row in zip(points, values, mine, strict=True):
            face = colour if row.interpolated else "white"
            ax.plot([x], [y], color=colour, marker="o", ms=5, mfc=face, ls="")
    ax.set(xlabel="points of the q-mesh per direction", ylabel="λ" if quantity == "lambda" else "Tc (K)")
    ax.set_ylim(bottom=0, top=1.25 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize="small", title="open: plain sum", title_fontsize="small")
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
        ax.barh(where, sizes, height, color=COLOURS[place % len(COLOURS)], label=label_of(method))
    names = ["\n".join(textwrap.wrap(name, 34)) for name, _, _ in rows]
    ax.set_yticks(np.arange(len(rows)), names, fontsize="small")
    ax.invert_yaxis()
    ax.set(xlabel=f"± of Tc (K) at μ* = {mu:g}")
    ax.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return ax
