"""Cells of a crystal against temperature: what the quasi-harmonic approximation and the SSCHA both give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.figure_style import legend_above, look
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.plots import save_figure
from himlip_ase.structures import require_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class ThermalExpansion:
    """Equilibrium cells at one pressure.

    Attributes
    ----------
    method : str
        "quasi-harmonic" or "SSCHA".
    pressure_gpa : float
        GPa.
    temperatures_k : ndarray, shape (t,)
        K, ascending.
    volumes, volume_sigma : ndarray, shape (t,)
        Of the primitive cell and its standard error, Å³.
    lengths, length_sigma : ndarray, shape (t, 3)
        Of the primitive lattice vectors and their standard errors, Å.
    alpha, alpha_sigma : ndarray, shape (t,)
        Volumetric expansion coefficient (1/V) dV/dT and its standard error, 1/K; NaN where there is none.
    static_volume : float
        Without vibrations, at the same pressure, Å³.
    origin : str
        Where the errors come from.
    """

    method: str
    pressure_gpa: float
    temperatures_k: np.ndarray
    volumes: np.ndarray
    volume_sigma: np.ndarray
    lengths: np.ndarray
    length_sigma: np.ndarray
    alpha: np.ndarray
    alpha_sigma: np.ndarray
    static_volume: float
    origin: str

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is not a number becomes None."""
        return {
            "method": self.method,
            "pressure_gpa": self.pressure_gpa,
            "static_volume_angstrom3": self.static_volume,
            "errors": self.origin,
            "temperatures_k": self.temperatures_k.tolist(),
            "volume_angstrom3": self.volumes.tolist(),
            "volume_sigma_angstrom3": self.volume_sigma.tolist(),
            "lengths_angstrom": self.lengths.tolist(),
            "length_sigma_angstrom": self.length_sigma.tolist(),
            "alpha_per_k": [float(x) if np.isfinite(x) else None for x in self.alpha],
            "alpha_sigma_per_k": [float(x) if np.isfinite(x) else None for x in self.alpha_sigma],
        }


def with_finite_size(
    found: ThermalExpansion, mesh: ThermalExpansion, grid: ThermalExpansion
) -> ThermalExpansion:
    """An expansion computed in a supercell, corrected by what the quasi-harmonic one owes to the q-points.

    A supercell holds few q-points, and of their modes three are translations, which expand nothing: cells
    come out too small, by 1/8 of the expansion for one atom in 2×2×2.

    Parameters
    ----------
    found : ThermalExpansion
        From the supercell.
    mesh, grid : ThermalExpansion
        Quasi-harmonic, on a dense mesh and on the supercell's q-points, at the same temperatures.

    Returns
    -------
    ThermalExpansion
        Without `alpha`.
    """
    share = mesh.volumes - grid.volumes
    none = np.full(len(share), np.nan)
    return replace(
        found,
        method=f"{found.method} + (q-mesh − supercell's q) of the quasi-harmonic one",
        volumes=found.volumes + share,
        volume_sigma=np.hypot(found.volume_sigma, mesh.volume_sigma + grid.volume_sigma),
        lengths=found.lengths + mesh.lengths - grid.lengths,
        length_sigma=np.hypot(found.length_sigma, mesh.length_sigma + grid.length_sigma),
        alpha=none,
        alpha_sigma=none,
        origin=f"{found.origin} and {mesh.origin}",
    )


def describe_expansion(found: ThermalExpansion) -> list[str]:
    """Table for a terminal.

    Parameters
    ----------
    found : ThermalExpansion

    Returns
    -------
    list of str
    """
    lines = [
        f"{found.method} at {found.pressure_gpa:g} GPa, static volume {found.static_volume:.4f} Å³ ± from "
        f"{found.origin}",
        "     T (K)   V (Å³ per primitive cell)   |a|, |b|, |c| (Å)                     (1/V) dV/dT (10⁻⁶/K)",
    ]
    for place, temperature in enumerate(found.temperatures_k):
        lengths = ", ".join(
            f"{x:.5f}({s:.5f})" for x, s in zip(found.lengths[place], found.length_sigma[place], strict=True)
        )
        alpha = "" if np.isnan(found.alpha[place]) else f"{1e6 * found.alpha[place]:.2f}"
        if alpha and np.isfinite(found.alpha_sigma[place]):
            alpha += f" ± {1e6 * found.alpha_sigma[place]:.2f}"
        volume = f"{found.volumes[place]:.4f} ± {found.volume_sigma[place]:.4f}"
        lines.append(f"{temperature:10g}   {volume}   {lengths}   {alpha}")
    return lines


def plot_expansion(ax: Axes, found: Sequence[ThermalExpansion]) -> Axes:
    """Length of the first lattice vector against temperature, with error bars.

    Parameters
    ----------
    ax : matplotlib Axes
    found : sequence of ThermalExpansion

    Returns
    -------
    matplotlib Axes
        `ax`.
    """
    for number, item in enumerate(found):
        ax.errorbar(
            item.temperatures_k,
            item.lengths[:, 0],
            item.length_sigma[:, 0],
            color=look(number).colour,
            linestyle=look(number).style,
            marker=look(number).marker,
            markersize=3,
            capsize=2,
            label=item.method,
        )
    ax.set_xlabel("T (K)")
    ax.set_ylabel("length of the first primitive vector (Å)")
    legend_above(ax)
    return ax


def write_expansion(
    found: Sequence[ThermalExpansion], folder: str | os.PathLike, overwrite: bool = False
) -> list[Path]:
    """Write ``expansion.json``, a text table and a figure.

    Parameters
    ----------
    found : sequence of ThermalExpansion
    folder : path-like
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    list of Path
    """
    from matplotlib.figure import Figure

    folder = Path(folder)
    record, table = folder / "expansion.json", folder / "expansion.dat"
    for path in (record, table):
        require_new(path, overwrite)
    write_json(record, [item.as_dict() for item in found], overwrite)
    with atomic_write(table, overwrite=overwrite) as stream:
        for item in found:
            stream.write(f"# {item.method}, {item.pressure_gpa:g} GPa; ± {item.origin}\n")
            stream.write(
                "# T (K), V, its error (Å³), three lengths, their errors (Å), alpha, its error (1/K)\n"
            )
            rows = [
                item.temperatures_k, item.volumes, item.volume_sigma, *item.lengths.T, *item.length_sigma.T,
                item.alpha, item.alpha_sigma,
            ]  # fmt: skip
            for row in np.column_stack(rows):
                stream.write(" ".join(f"{x:.8g}" for x in row) + "\n")
            stream.write("\n\n")
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    plot_expansion(figure.subplots(), found)
    return [record, table, *save_figure(figure, folder / "expansion", overwrite=overwrite)]
