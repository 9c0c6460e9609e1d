"""Figures of an SSCHA run: each takes Axes and gives them back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.figure_style import legend_above, look, new_figure, save, second_unit, styled
from himlip_ase.files import atomic_write
from himlip_ase.phonons.force_constants import acoustic
from himlip_ase.sscha.curvature.stars import inequivalent
from himlip_ase.sscha.results.result import SschaResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _steps(result: SschaResult) -> np.ndarray:
    """Place of each free energy on the axis of steps: a population begins where the last one ended."""
    population = result.history.population
    return np.arange(len(population)) - (population - population[0])


def _population_lines(ax: Axes, result: SschaResult) -> None:
    steps, population = _steps(result), result.history.population
    for first in np.flatnonzero(np.diff(population)) + 1:
        ax.axvline(steps[first], color="0.85", linewidth=0.8, zorder=0)
    ax.set_xlim(-0.02 * max(steps[-1], 1), 1.02 * max(steps[-1], 1))
    ax.set_xlabel("minimiser step (lines: new population)")


def plot_free_energy(ax: Axes, result: SschaResult) -> Axes:
    """Free energy with its error against step, and the final figure, meV per primitive cell.

    Parameters
    ----------
    ax : Axes
    result : SschaResult

    Returns
    -------
    Axes
    """
    history, steps = result.history, _steps(result)
    for number in np.unique(history.population):
        mine = history.population == number
        value, error = history.free_energy[mine] * 1e3, history.free_energy_sigma[mine] * 1e3
        ax.fill_between(
            steps[mine], value - error, value + error, color=look(0).colour, alpha=0.25, linewidth=0
        )
        ax.plot(steps[mine], value, ".-", color=look(0).colour, markersize=3)
    low, high = (1e3 * (result.free_energy + sign * result.free_energy_sigma) for sign in (-1, 1))
    ax.axhspan(low, high, color=look(1).colour, alpha=0.3, linewidth=0)
    ax.axhline(
        result.free_energy * 1e3, color=look(1).colour, linewidth=1, label="final ensemble, shaded: ±1σ"
    )
    ax.set_ylabel("free energy (meV/cell)")
    legend_above(ax)
    _population_lines(ax, result)
    return ax


def plot_gradient(ax: Axes, result: SschaResult) -> Axes:
    """Modulus of the preconditioned gradient and its stochastic error against step, eV/Å².

    Parameters
    ----------
    ax : Axes
    result : SschaResult

    Returns
    -------
    Axes
    """
    history, steps = result.history, _steps(result)
    for number in np.unique(history.gradient_population):
        # python-sscha gives one gradient less than free energies: nothing follows its last step
        mine = history.gradient_population == number
        place = steps[np.flatnonzero(history.population == number)[: mine.sum()]]
        first = number == history.gradient_population[0]
        ax.semilogy(
            place,
            history.gradient[mine],
            ".-",
            markersize=3,
            color=look(0).colour,
            label="gradient" if first else None,
        )
        ax.semilogy(
            place,
            history.gradient_sigma[mine],
            "--",
            color=look(1).colour,
            label="its error" if first else None,
        )
    ax.set_ylabel("gradient (eV/Å²)")
    legend_above(ax)
    _population_lines(ax, result)
    return ax


def plot_kong_liu(ax: Axes, result: SschaResult) -> Axes:
    """Kong-Liu ratio against step with the threshold of a new population.

    Parameters
    ----------
    ax : Axes
    result : SschaResult

    Returns
    -------
    Axes
    """
    history, steps = result.history, _steps(result)
    for number in np.unique(history.population):
        mine = history.population == number
        ax.plot(steps[mine], history.kong_liu[mine], ".-", color=look(0).colour, markersize=3)
    ax.axhline(
        result.settings.kong_liu,
        color=look(1).colour,
        linestyle="--",
        linewidth=0.8,
        label="new population below",
    )
    ax.set_ylim(0, 1.05)
    ax.set_ylabel("Kong-Liu ratio")
    legend_above(ax)
    _population_lines(ax, result)
    return ax


def plot_frequencies(ax: Axes, result: SschaResult) -> Axes:
    """Auxiliary frequencies of all modes of the supercell against step, cm⁻¹, translations left out.

    Parameters
    ----------
    ax : Axes
    result : SschaResult

    Returns
    -------
    Axes
    """
    history, steps = result.history, _steps(result)
    for number in np.unique(history.gradient_population):
        mine = history.gradient_population == number
        place = steps[history.population == number][-mine.sum() :]  # the native engine has the start too
        ax.plot(
            place, history.frequencies[mine][:, 3:], ".-", color=look(0).colour, linewidth=0.6, markersize=1.5
        )
    ax.set_ylim(bottom=0)
    ax.set_ylabel("auxiliary frequencies (cm⁻¹)")
    second_unit(ax)
    _population_lines(ax, result)
    return ax


def irreducible(result: SschaResult) -> list[int]:
    """One q-point of each set that symmetry makes equivalent."""
    return [index for index, _ in inequivalent(result.frequencies())]


def plot_error_bars(ax: Axes, result: SschaResult) -> Axes:
    """Auxiliary and free-energy-Hessian frequencies with 1σ at each inequivalent q-point of the grid, cm⁻¹.

    Imaginary frequencies are shown negative; the shaded area is where a crystal is unstable.

    Parameters
    ----------
    ax : Axes
    result : SschaResult

    Returns
    -------
    Axes
    """
    chosen = irreducible(result)
    series = [
        (result.frequencies(), result.auxiliary_sigma_cm, "auxiliary (always positive)", -0.14, look(0))
    ]
    hessian = result.hessian_frequencies()
    if hessian is not None and result.hessian_sigma_cm is not None:
        series.append((hessian, result.hessian_sigma_cm, "free-energy Hessian", 0.14, look(1)))
    for values, sigma, label, offset, own in series:
        place = np.repeat(np.arange(len(chosen)) + offset, values.shape[1])
        moving = ~_translations(result, values)[chosen].ravel()
        place, heights, errors = place[moving], values[chosen].ravel()[moving], sigma[chosen].ravel()[moving]
        style: dict[str, Any] = {"color": own.colour, "linewidth": 1.2}
        ax.hlines(heights, place - 0.11, place + 0.11, **style)
        ax.errorbar(place, heights, errors, fmt="none", capsize=2.5, label=label, **style)
    ax.axhline(0, color="0.4", linewidth=0.8)
    bottom = ax.get_ylim()[0]
    if hessian is not None and hessian.min() < -1:
        ax.axhspan(bottom, 0, color=look(1).colour, alpha=0.08, linewidth=0)
        ax.text(0.99, 0.5 * bottom, "imaginary: unstable", color=look(1).colour, ha="right", va="center",
                transform=ax.get_yaxis_transform())  # fmt: skip
        ax.set_ylim(bottom=bottom)
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlim(-0.5, len(chosen) - 0.5)
    names = [
        "Γ" if not q.any() else " ".join(f"{x:.3g}" for x in q) for q in result.auxiliary.qpoints[chosen]
    ]
    ax.set_xticks(range(len(chosen)), names, rotation=0 if len(chosen) < 6 else 45)
    ax.set_xlabel("q (fractional)")
    ax.set_ylabel("frequency (cm⁻¹)")
    second_unit(ax)
    legend_above(ax)
    return ax


def _translations(result: SschaResult, values: np.ndarray) -> np.ndarray:
    """Mask (nq, 3n) of the three translations at Γ."""
    mask = np.zeros(values.shape, dtype=bool)
    dynamical = result.auxiliary
    if result.hessian is not None and not np.array_equal(values, result.frequencies()):
        dynamical = result.hessian
    mask[0, acoustic(dynamical)] = True
    return mask


CONVERGENCE = {
    "sscha_free_energy": plot_free_energy,
    "sscha_gradient": plot_gradient,
    "sscha_kong_liu": plot_kong_liu,
    "sscha_auxiliary": plot_frequencies,
}
"""What shows the convergence of a run, by the name of its picture."""


def write_figures(result: SschaResult, folder: str | os.PathLike, overwrite: bool = False) -> list[Path]:
    """Write ``sscha_convergence`` and ``sscha_frequencies`` as PDF and PNG, and the history as CSV.

    Parameters
    ----------
    result : SschaResult
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
    folder = Path(folder)
    names = [
        f"{stem}.{kind}" for stem in ("sscha_convergence", "sscha_frequencies") for kind in ("pdf", "png")
    ]
    paths = [folder / name for name in [*names, "sscha_history.csv"]]
    present = [path for path in paths if path.exists()]
    if present and not overwrite:
        raise InputError(f"{present[0]} exists already; pass overwrite=True or choose another folder")
    with styled():
        convergence, axes = new_figure(2, 2, height=3.1)
        for ax, plot in zip(axes, CONVERGENCE.values(), strict=True):
            plot(ax, result)
        convergence.suptitle(f"{state(result)} after {len(result.populations)} populations")
        frequencies, (ax,) = new_figure()
        plot_error_bars(ax, result)
    save(convergence, folder, "sscha_convergence")
    save(frequencies, folder, "sscha_frequencies")
    write_history(result, folder / "sscha_history.csv")
    return paths


def state(result: SschaResult) -> str:
    """Whether a run converged, as a figure or its caption says it."""
    return "converged" if result.converged else "NOT CONVERGED"


def write_history(result: SschaResult, path: Path) -> None:
    """Write what the figures of the convergence show as CSV, replacing what is there.

    Parameters
    ----------
    result : SschaResult
    path : Path
    """
    history = result.history
    columns = [history.population, history.free_energy, history.free_energy_sigma, history.kong_liu]
    with atomic_write(path, overwrite=True) as stream:
        stream.write("population,free_energy_ev_per_cell,free_energy_sigma,kong_liu\n")
        for row in zip(*columns, strict=True):
            stream.write(f"{row[0]},{row[1]:.10g},{row[2]:.6g},{row[3]:.6g}\n")
