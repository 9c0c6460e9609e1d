"""Figures of an SSCHA run: each takes Axes and gives them back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.sscha.result import SschaResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _population_lines(ax: Axes, result: SschaResult) -> None:
    starts = np.flatnonzero(np.diff(result.history.population)) + 0.5
    for start in starts:
        ax.axvline(start, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel("minimiser step (lines: new population)")


def plot_free_energy(ax: Axes, result: SschaResult) -> Axes:
    """Free energy with its error against step, meV per primitive cell."""
    history = result.history
    steps = np.arange(len(history.free_energy))
    value, error = history.free_energy * 1e3, history.free_energy_sigma * 1e3
    ax.fill_between(steps, value - error, value + error, alpha=0.3, linewidth=0)
    ax.plot(steps, value)
    ax.set_ylabel("free energy (meV/cell)")
    _population_lines(ax, result)
    return ax


def plot_gradient(ax: Axes, result: SschaResult) -> Axes:
    """Modulus of the preconditioned gradient and its stochastic error against step."""
    history = result.history
    populations = history.population
    for number in np.unique(populations):
        # a population has one free energy more than gradients: its first step has no gradient before it
        chosen = np.flatnonzero(populations == number)[: (history.gradient_population == number).sum()]
        mine = history.gradient_population == number
        ax.semilogy(chosen, history.gradient[mine], color="C0", label="gradient" if number == 1 else None)
        ax.semilogy(
            chosen,
            history.gradient_sigma[mine],
            color="C1",
            linestyle="--",
            label="its error" if number == 1 else None,
        )
    ax.set_ylabel("gradient (bohr²)")
    ax.legend()
    _population_lines(ax, result)
    return ax


def plot_kong_liu(ax: Axes, result: SschaResult) -> Axes:
    """Kong-Liu ratio against step with the threshold of a new population."""
    ax.plot(result.history.kong_liu)
    ax.axhline(
        result.settings.kong_liu, color="C3", linestyle="--", linewidth=0.8, label="new population below"
    )
    ax.set_ylim(0, 1.05)
    ax.set_ylabel("Kong-Liu ratio")
    ax.legend()
    _population_lines(ax, result)
    return ax


def plot_frequencies(ax: Axes, result: SschaResult) -> Axes:
    """Auxiliary frequencies of all modes of the supercell against step, cm⁻¹."""
    history = result.history
    ax.plot(history.frequencies, color="C0", linewidth=0.6)
    ax.set_ylabel("auxiliary frequency (cm⁻¹)")
    ax.set_xlabel("minimiser step")
    return ax


def plot_error_bars(ax: Axes, result: SschaResult) -> Axes:
    """Auxiliary and free-energy-Hessian frequencies with 1σ at each q-point of the grid, cm⁻¹.

    Imaginary frequencies are shown negative.
    """
    points = result.auxiliary.qpoints
    place = np.repeat(np.arange(len(points)), result.auxiliary.matrices.shape[1])
    ax.errorbar(
        place - 0.12,
        result.frequencies().ravel(),
        result.auxiliary_sigma_cm.ravel(),
        fmt=".",
        label="auxiliary",
    )
    hessian = result.hessian_frequencies()
    if hessian is not None and result.hessian_sigma_cm is not None:
        ax.errorbar(
            place + 0.12,
            hessian.ravel(),
            result.hessian_sigma_cm.ravel(),
            fmt=".",
            label="free-energy Hessian",
        )
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set_xticks(
        range(len(points)), ["(" + ", ".join(f"{x:.2g}" for x in q) + ")" for q in points], rotation=45
    )
    ax.set_ylabel("frequency (cm⁻¹)")
    ax.legend()
    return ax


def write_figures(result: SschaResult, folder: str | os.PathLike, overwrite: bool = False) -> list[Path]:
    """Write ``sscha_convergence`` and ``sscha_frequencies`` as PDF and PNG, and the history as CSV.

    Raises
    ------
    InputError
        A file exists and `overwrite` is False.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder = Path(folder)
    names = [
        f"{stem}.{kind}" for stem in ("sscha_convergence", "sscha_frequencies") for kind in ("pdf", "png")
    ]
    paths = [folder / name for name in [*names, "sscha_history.csv"]]
    present = [path for path in paths if path.exists()]
    if present and not overwrite:
        raise InputError(f"{present[0]} exists already; pass overwrite=True or choose another folder")
    convergence = Figure(figsize=(9, 6), layout="constrained")
    axes = convergence.subplots(2, 2)
    for ax, plot in zip(
        axes.flat, (plot_free_energy, plot_gradient, plot_kong_liu, plot_frequencies), strict=True
    ):
        plot(ax, result)
    frequencies = Figure(figsize=(7, 4.5), layout="constrained")
    plot_error_bars(frequencies.subplots(), result)
    for figure, stem in ((convergence, "sscha_convergence"), (frequencies, "sscha_frequencies")):
        FigureCanvasAgg(figure)
        for kind in ("pdf", "png"):
            with atomic_write(folder / f"{stem}.{kind}", "wb", overwrite=True) as stream:
                figure.savefig(stream, format=kind, dpi=150)
    history = result.history
    columns = [history.population, history.free_energy, history.free_energy_sigma, history.kong_liu]
    with atomic_write(folder / "sscha_history.csv", overwrite=True) as stream:
        stream.write("population,free_energy_ev_per_cell,free_energy_sigma,kong_liu\n")
        for row in zip(*columns, strict=True):
            stream.write(f"{row[0]},{row[1]:.10g},{row[2]:.6g},{row[3]:.6g}\n")
    return paths
