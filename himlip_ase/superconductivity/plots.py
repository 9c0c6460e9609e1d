"""Figures: α²F with cumulative λ, Tc against μ*, λ and Tc against σ, Δ(T), each onto given Axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc_entries import Tc, TcTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from himlip_ase.superconductivity.gap import GapCurve
    from himlip_ase.superconductivity.plateau import SigmaPlateau

COLOURS = ("#9aa0a6", "#c2410c", "#1d4ed8", "#15803d", "#7c3aed")


def plot_alpha2f(
    ax: Axes, spectra: Sequence[Spectrum], labels: Sequence[str], width_cm: float | None = None
) -> tuple[Axes, Axes]:
    """Draw α²F(ω) filled, and λ summed up to ω on a second axis.

    Parameters
    ----------
    ax : Axes
    spectra : sequence of Spectrum
        For example harmonic and anharmonic. Those with imaginary modes are marked "stable modes only", and
        reach beyond the frame where there are others.
    labels : sequence of str
    width_cm : float, optional
        Broadening; None takes 1/80 of the highest phonon of each.

    Returns
    -------
    (Axes, Axes)
        The one given (α²F) and its twin (λ).
    """
    if len(spectra) != len(labels) or not spectra:
        raise InputError(f"{len(spectra)} spectra and {len(labels)} labels; one label for each is wanted")
    twin = ax.twinx()
    curves = [spectrum.broadened(width_cm) for spectrum in spectra]
    # what is left of unstable phonons must not set the scale of the others
    partial = [any(problem.kind == "imaginary" for problem in s.problems) for s in spectra]
    judged = [c for c, cut in zip(curves, partial, strict=True) if not cut] or curves
    ceiling = max(float(curve.alpha2f.max()) for curve in judged)
    lambda_top = max(float(curve.cumulative_lambda.max()) for curve in judged)
    right = max(float(curve.omega_cm[-1]) for curve in curves)
    for number, (spectrum, label) in enumerate(zip(spectra, labels, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        curve = curves[number]
        text = f"{label}: λ = {spectrum.lambda_total:.2f}" + (
            " (stable modes only)" if partial[number] else ""
        )
        ax.fill_between(curve.omega_cm, curve.alpha2f, color=colour, alpha=0.25, lw=0)
        ax.plot(curve.omega_cm, curve.alpha2f, color=colour, lw=1.2, label=text)
        to_edge = (
            np.append(curve.omega_cm, right),
            np.append(curve.cumulative_lambda, curve.cumulative_lambda[-1]),
        )
        twin.plot(*to_edge, color=colour, lw=1.4, ls="--")
    ax.set(xlim=(0, right), ylim=(0, 1.35 * ceiling), xlabel="ω (cm⁻¹)", ylabel="α²F(ω)")
    twin.set(ylim=(0, 1.35 * lambda_top), ylabel="λ(ω), dashed")
    twin.legend(
        *ax.get_legend_handles_labels(), loc="upper left", fontsize="small", edgecolor="none", framealpha=0.85
    )
    return ax, twin


def plot_tc_against_mu_star(ax: Axes, tables: Sequence[TcTable], labels: Sequence[str]) -> Axes:
    """Draw Tc against μ*: a colour for each formula, a line style for each table; refusals leave a gap.

    Parameters
    ----------
    ax : Axes
    tables : sequence of TcTable
    labels : sequence of str

    Returns
    -------
    Axes
    """
    styles = ["-", "--", ":", "-."]
    every = sorted({entry.mu_star for table in tables for entry in table.results})
    methods = list(dict.fromkeys(entry.method for table in tables for entry in table.results))
    step = 0.04 * min(np.diff(every), default=0.03)  # so that error bars stand side by side
    drawn: list[str] = []
    for table, label in zip(tables, labels, strict=True):
        found = [e for e in table.results if isinstance(e, Tc)]
        if table.stable_modes_only:
            label = f"{label} (stable modes)"
        if not found:
            ax.plot([], [], ls="", label=f"{label}: no Tc")
            continue
        style = styles[len(drawn) % len(styles)]
        drawn.append(label)
        for place, method in enumerate(methods):
            entries = [e for e in found if e.method == method]
            ax.errorbar(
                [e.mu_star + step * (place - (len(methods) - 1) / 2) for e in entries],
                [e.kelvin for e in entries],
                yerr=[e.uncertainty_kelvin or 0.0 for e in entries],
                color=COLOURS[place % len(COLOURS)],
                ls=style,
                marker="o",
                ms=4,
                lw=1.2,
                elinewidth=0.8,
            )
        ax.plot([], [], color="0.2", ls=style, label=label)
    for place, method in enumerate(methods):
        ax.plot([], [], color=COLOURS[place % len(COLOURS)], marker="o", ms=4, label=label_of(method))
    ax.set(xlabel="μ*", ylabel="Tc (K)")
    ax.set_ylim(bottom=0)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize="small")
    return ax


def plot_sigma(ax: Axes, plateau: SigmaPlateau, label: str = "λ") -> Axes:
    """Draw λ (left) and Tc (right) against the broadening, with the plateau shaded.

    Parameters
    ----------
    ax : Axes
    plateau : SigmaPlateau
    label : str

    Returns
    -------
    Axes
    """
    ax.plot(plateau.sigma_ry, plateau.lambdas, color=COLOURS[2], marker="o", ms=4, label=label)
    ax.set(xlabel="σ (Ry)", ylabel="λ")
    ax.set_ylim(bottom=0)
    finite = plateau.tc_kelvin[np.isfinite(plateau.tc_kelvin)]
    if len(finite):
        twin = ax.twinx()
        twin.plot(plateau.sigma_ry, plateau.tc_kelvin, color=COLOURS[1], marker="s", ms=4, ls="--")
        twin.set(ylim=(0, 1.2 * finite.max()), ylabel="Tc (K), dashed")
    if plateau.found:
        ax.axvspan(plateau.window[0], plateau.window[1], color="#d1d5db", alpha=0.5, lw=0, label="plateau")
    ax.legend(loc="lower right", frameon=False, fontsize="small")
    return ax


def plot_gaps(ax: Axes, gaps: Mapping[str, GapCurve]) -> Axes:
    """Draw the gap edge (meV) against T with its closing at Tc, Δ(iω₀) dotted, and tanh(1.74 √(Tc/T − 1)).

    Parameters
    ----------
    ax : Axes
    gaps : mapping of str to GapCurve

    Returns
    -------
    Axes
    """
    smooth = np.linspace(1e-3, 1, 300)
    for number, (label, gap) in enumerate(gaps.items(), start=1):
        colour = COLOURS[number % len(COLOURS)]
        kelvin = np.append(gap.kelvin, gap.tc_kelvin)
        edge = np.append(gap.gap_edge_ev, 0.0) * 1e3
        ax.plot(kelvin, edge, color=colour, marker="o", ms=4, label=f"{label}: 2Δ₀/kTc = {gap.ratio:.2f}")
        ax.plot(kelvin, np.append(gap.delta0_ev, 0.0) * 1e3, ":", color=colour, lw=1.2)
        ax.plot(
            smooth * gap.tc_kelvin, np.tanh(1.74 * np.sqrt(1 / smooth - 1)) * edge[0], "--", color="0.6", lw=1
        )
    ax.plot([], [], ":", color="0.2", lw=1.2, label="Δ(iω₀)")
    ax.plot([], [], "--", color="0.6", lw=1, label="Δ₀ tanh(1.74 √(Tc/T − 1))")
    ax.set(xlabel="T (K)", ylabel="gap edge Δ (meV)")
    ax.set_xlim(left=0)
    ax.set_ylim(0, 1.35 * max(float(np.nanmax(gap.gap_edge_ev)) for gap in gaps.values()) * 1e3)
    ax.legend(frameon=False, fontsize="small", loc="upper right")
    return ax


def curve_text(spectrum: Spectrum, label: str, width_cm: float | None = None) -> str:
    """The data behind `plot_alpha2f` as text: ω (cm⁻¹), α²F and λ(ω); `read_alpha2f` reads it back.

    Parameters
    ----------
    spectrum : Spectrum
    label : str
    width_cm : float, optional
        As in `plot_alpha2f`.

    Returns
    -------
    str
    """
    curve = spectrum.broadened(width_cm)
    columns = zip(curve.omega_cm, curve.alpha2f, curve.cumulative_lambda, strict=True)
    rows = [f"{w:12.4f} {a:14.7e} {c:14.7e}" for w, a, c in columns]
    return "\n".join([f"# {label}: omega (cm-1), alpha2F, lambda(omega)", *rows, ""])
