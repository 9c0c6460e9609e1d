"""Figures: α²F with cumulative λ, Tc against μ*, λ and Tc against σ, Δ(T), each onto given Axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.figure_style import CLEAR_OF_TICKS, GREY, Look, legend_above, look, second_unit
from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc_entries import Tc, TcTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from himlip_ase.superconductivity.gap import GapCurve
    from himlip_ase.superconductivity.plateau import SigmaPlateau


def plot_alpha2f(
    ax: Axes,
    spectra: Sequence[Spectrum],
    labels: Sequence[str],
    width_cm: float | None = None,
    looks: Sequence[Look] | None = None,
    errors: Mapping[str, float | None] | None = None,
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
    looks : sequence of Look, optional
        Of each spectrum.
    errors : mapping of str to float, optional
        ± of λ by label, for the legend.

    Returns
    -------
    (Axes, Axes)
        The one given (α²F) and its twin (λ).
    """
    if len(spectra) != len(labels) or not spectra:
        raise InputError(f"{len(spectra)} spectra and {len(labels)} labels; one label for each is wanted")
    looks = [look(number) for number in range(len(spectra))] if looks is None else looks
    twin = ax.twinx()
    curves = [spectrum.broadened(width_cm) for spectrum in spectra]
    # what is left of unstable phonons must not set the scale of the others
    partial = [any(problem.kind == "imaginary" for problem in s.problems) for s in spectra]
    judged = [c for c, cut in zip(curves, partial, strict=True) if not cut] or curves
    ceiling = max(float(curve.alpha2f.max()) for curve in judged)
    lambda_top = max(float(curve.cumulative_lambda.max()) for curve in judged)
    right = max(float(curve.omega_cm[-1]) for curve in judged)
    rows = zip(spectra, labels, curves, partial, looks, strict=True)
    for spectrum, label, curve, cut, own in rows:
        error = (errors or {}).get(label)
        text = f"{label}: λ = {spectrum.lambda_total:.2f}" + (f" ± {error:.2f}" if error else "")
        text += " (stable modes only)" if cut else ""
        if not cut:
            ax.fill_between(curve.omega_cm, curve.alpha2f, color=own.colour, alpha=0.22, lw=0)
        width = 0.9 if cut else 1.3
        ax.plot(curve.omega_cm, curve.alpha2f, color=own.colour, ls=own.style, lw=width, label=text)
        to_edge = (
            np.append(curve.omega_cm, right),
            np.append(curve.cumulative_lambda, curve.cumulative_lambda[-1]),
        )
        if not cut:
            twin.plot(*to_edge, color=own.colour, lw=width, ls=(0, (1, 1.2)))
    ax.set(xlim=(0, right), ylim=(0, 1.1 * ceiling), xlabel="ω (cm⁻¹)", ylabel="α²F(ω)")
    twin.set(ylim=(0, 1.1 * lambda_top), ylabel="λ(ω), dotted")
    second_unit(ax, "x")
    legend_above(ax, clear=CLEAR_OF_TICKS)
    return ax, twin


def plot_tc_against_mu_star(
    ax: Axes, tables: Sequence[TcTable], labels: Sequence[str], methods: Sequence[str] | None = None
) -> Axes:
    """Draw Tc against μ* with its ±: a line for each formula of each table; refusals leave a gap.

    Parameters
    ----------
    ax : Axes
    tables : sequence of TcTable
    labels : sequence of str
    methods : sequence of str, optional
        Formulas that are drawn; None: all.

    Returns
    -------
    Axes
    """
    every = sorted({entry.mu_star for table in tables for entry in table.results})
    known = list(dict.fromkeys(entry.method for table in tables for entry in table.results))
    chosen = known if methods is None else [method for method in known if method in methods]
    several = sum(any(isinstance(e, Tc) for e in table.results) for table in tables) > 1
    lines = []
    for table, label in zip(tables, labels, strict=True):
        if table.stable_modes_only:
            label = f"{label} (stable modes)"
        found = [[e for e in table.results if isinstance(e, Tc) and e.method == m] for m in chosen]
        if not any(found):
            ax.plot([], [], ls="", label=f"{label}: no Tc")
        for method, entries in zip(chosen, found, strict=True):
            name = label_of(method)
            if several:
                name = label if len(chosen) == 1 else f"{label}, {name}"
            lines += [(name, entries)] if entries else []
    step = 0.06 * min(np.diff(every), default=0.03)  # so that error bars stand side by side
    for number, (name, entries) in enumerate(lines):
        own = look(number)
        ax.errorbar(
            [e.mu_star + step * (number - (len(lines) - 1) / 2) for e in entries],
            [e.kelvin for e in entries],
            yerr=[e.uncertainty_kelvin or 0.0 for e in entries],
            color=own.colour,
            ls=own.style,
            marker=own.marker,
            elinewidth=0.8,
            label=name,
        )
    ax.set(xlabel="μ*", ylabel="Tc (K)", xticks=every)
    ax.set_ylim(bottom=0)
    legend_above(ax)
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
    ax.plot(plateau.sigma_ry, plateau.lambdas, color=look(0).colour, marker="o", label=label)
    ax.set(xlabel="σ (Ry)", ylabel="λ")
    ax.set_ylim(bottom=0)
    finite = plateau.tc_kelvin[np.isfinite(plateau.tc_kelvin)]
    if len(finite):
        twin = ax.twinx()
        twin.plot(plateau.sigma_ry, plateau.tc_kelvin, color=look(1).colour, marker="s", ls="--")
        twin.set(ylim=(0, 1.2 * finite.max()), ylabel="Tc (K), dashed")
    if plateau.found:
        ax.axvspan(plateau.window[0], plateau.window[1], color="#d1d5db", alpha=0.5, lw=0, label="plateau")
    legend_above(ax)
    return ax


def plot_gaps(
    ax: Axes, gaps: Mapping[str, GapCurve], tc_errors: Mapping[str, float | None] | None = None
) -> Axes:
    """Draw the gap edge (meV) against T with its closing at Tc, Δ(iω₀) dotted, and tanh(1.74 √(Tc/T − 1)).

    Parameters
    ----------
    ax : Axes
    gaps : mapping of str to GapCurve
    tc_errors : mapping of str to float, optional
        ± of Tc (K), drawn where the gap closes.

    Returns
    -------
    Axes
    """
    smooth = np.linspace(1e-3, 1, 300)
    for number, (label, gap) in enumerate(gaps.items()):
        own = look(number)
        kelvin = np.append(gap.kelvin, gap.tc_kelvin)
        edge = np.append(gap.gap_edge_ev, 0.0) * 1e3
        text = f"{label}: 2Δ₀/kTc = {gap.ratio:.2f}"
        ax.plot(kelvin, edge, color=own.colour, ls=own.style, marker=own.marker, label=text)
        ax.plot(kelvin, np.append(gap.delta0_ev, 0.0) * 1e3, ":", color=own.colour, lw=1)
        curve = np.tanh(1.74 * np.sqrt(1 / smooth - 1)) * edge[0]
        ax.plot(smooth * gap.tc_kelvin, curve, "--", color=GREY, lw=0.8, zorder=1)
        error = (tc_errors or {}).get(label)
        if error:
            ax.errorbar([gap.tc_kelvin], [0], xerr=error, color=own.colour, capsize=3, clip_on=False)
    ax.plot([], [], ":", color="0.2", lw=1, label="Δ(iω₀)")
    ax.plot([], [], "--", color=GREY, lw=0.8, label="Δ₀ tanh(1.74 √(Tc/T − 1))")
    ax.set(xlabel="T (K)", ylabel="gap edge Δ (meV)")
    ax.set_xlim(left=0)
    ax.set_ylim(0, 1.08 * max(float(np.nanmax(gap.gap_edge_ev)) for gap in gaps.values()) * 1e3)
    legend_above(ax)
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
