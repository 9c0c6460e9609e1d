"""Pictures of a reaction: energy profile, imaginary mode, rates. Functions take Axes and return them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from himlip_ase.reactions.bonds import bond_graph
from himlip_ase.reactions.growing_string import ReactionPath
from himlip_ase.reactions.irc import Irc

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HALF_BOND_FACTOR = 1.7
"""Pairs that move against each other are joined by a dashed line up to this multiple of their radii."""

PATH_COLOR, IRC_COLOR, SADDLE_COLOR = "#56B4E9", "#0072B2", "#D55E00"


def plot_profile(ax: Axes, irc: Irc, zero: float, of: str = "reactant") -> Axes:
    """Draw the energy along the intrinsic reaction coordinate.

    Parameters
    ----------
    ax : matplotlib Axes
    irc : Irc
    zero : float
        Energy that is drawn as zero, eV.
    of : str
        What has that energy.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.plot(irc.coordinates, irc.energies - zero, "-o", ms=3.5, lw=1.2, color=IRC_COLOR, label="IRC")
    ax.plot(0, irc.saddle_energy - zero, "D", ms=7, color=SADDLE_COLOR, label="transition state")
    ax.annotate(
        f"{irc.saddle_energy - zero:.3f} eV", (0, irc.saddle_energy - zero), (8, 2), textcoords="offset "
        "points"
    )  # fmt: skip
    ax.margins(y=0.12)
    ax.set_xlabel("reaction coordinate (√amu Å)")
    ax.set_ylabel(f"energy over the {of} (eV)")
    ax.legend(frameon=False, loc="best")
    return ax


def plot_path(ax: Axes, path: ReactionPath, saddle_energy: float | None = None) -> Axes:
    """Draw the energy of the string's images against the distance along it.

    Parameters
    ----------
    ax : matplotlib Axes
    path : ReactionPath
    saddle_energy : float, optional
        eV; drawn as a line.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    points = np.array([image.positions.ravel() for image in path.images])
    distance = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    zero = path.energies[0]
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.plot(distance, path.energies - zero, "-o", ms=4, lw=1.2, color=PATH_COLOR, label="string")
    ax.plot(distance[path.top], path.energies[path.top] - zero, "s", ms=7, color=IRC_COLOR, label="guess")
    if saddle_energy is not None:
        ax.axhline(saddle_energy - zero, ls="--", lw=1, color=SADDLE_COLOR, label="transition state")
    ax.margins(y=0.12)
    ax.set_xlabel("distance along the string (Å)")
    ax.set_ylabel("energy over the reactant (eV)")
    ax.legend(frameon=False, loc="best")
    return ax


def plot_mode(ax: Axes, atoms: Atoms, displacement: np.ndarray) -> Axes:
    """Draw a molecule with the displacements of a mode as arrows, seen so that most of the motion shows.

    Parameters
    ----------
    ax : matplotlib Axes
    atoms : Atoms
    displacement : ndarray (N, 3)
        Cartesian, any length.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    view = _view(atoms, displacement)
    points = (atoms.positions - atoms.positions.mean(axis=0)) @ view.T
    arrows = displacement @ view.T
    arrows = 1.2 * arrows / max(float(np.linalg.norm(displacement, axis=1).max()), 1e-12)
    depth = points[:, 2]
    bonds = bond_graph(atoms).bonds
    for i, j in sorted(bonds, key=lambda bond: depth[list(bond)].mean()):
        ax.plot(*points[[i, j], :2].T, color="0.55", lw=3, zorder=2, solid_capstyle="round")
    for i, j in bond_graph(atoms, HALF_BOND_FACTOR).bonds - bonds:
        if np.linalg.norm(displacement[i] - displacement[j]) > 0.3 * np.abs(displacement).max():
            ax.plot(*points[[i, j], :2].T, color="0.55", lw=2, ls=(0, (2, 2)), zorder=1)
    symbols = atoms.get_chemical_symbols()
    for rank, k in enumerate(np.argsort(depth)):
        size = 0.45 * covalent_radii[atoms.numbers[k]] + 0.08
        color = jmol_colors[atoms.numbers[k]]
        ax.add_patch(_disc(points[k, :2], size, color, 3 + rank / 1000))
        dark = color @ [0.3, 0.6, 0.1] < 0.5
        ax.text(
            points[k, 0], points[k, 1], f"{symbols[k]}{k}", ha="center", va="center", fontsize=7, zorder=6,
            color="white" if dark else "black",
        )  # fmt: skip
        if np.linalg.norm(arrows[k, :2]) > 0.08:
            ax.annotate(
                "", points[k, :2] + arrows[k, :2], points[k, :2],
                zorder=5, arrowprops={"arrowstyle": "-|>", "color": SADDLE_COLOR, "lw": 1.6, "shrinkA": 0,
                "shrinkB": 0},
            )  # fmt: skip
    reach = np.vstack([points[:, :2], points[:, :2] + arrows[:, :2]])
    low, high = reach.min(axis=0) - 0.6, reach.max(axis=0) + 0.6
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def plot_rates(ax: Axes, curve: Sequence[dict[str, Any]], unit: str) -> Axes:
    """Draw the logarithm of the rate constant against the inverse temperature (Arrhenius).

    Parameters
    ----------
    ax : matplotlib Axes
    curve : sequence of dict
        As of `himlip_ase.reactions.free_energies.ReactionGibbs.curve`.
    unit : str
        Of the rate constant.

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    inverse = [1000 / point["temperature_k"] for point in curve]
    ax.plot(inverse, [np.log10(point["rate"]) for point in curve], "-o", ms=4, lw=1.2, color=IRC_COLOR)
    ax.set_xlabel("1000 K / temperature")
    ax.set_ylabel(f"log₁₀ of the rate constant ({unit})")
    return ax


def _view(atoms: Atoms, displacement: np.ndarray) -> np.ndarray:
    """Rows: right, up, towards the eye. Motion weighs most, extent breaks ties."""
    centred = atoms.positions - atoms.positions.mean(axis=0)
    motion = displacement / max(float(np.linalg.norm(displacement)), 1e-12)
    spread = centred / max(float(np.linalg.norm(centred)), 1e-12)
    axes = np.linalg.eigh(2 * motion.T @ motion + spread.T @ spread)[1][:, ::-1].T
    return axes * np.array([1.0, 1.0, np.linalg.det(axes)])[:, None]


def _disc(where: np.ndarray, size: float, color: np.ndarray, zorder: float) -> Any:
    from matplotlib.patches import Circle

    return Circle(tuple(where), size, facecolor=color, edgecolor="0.2", lw=0.8, zorder=zorder)
