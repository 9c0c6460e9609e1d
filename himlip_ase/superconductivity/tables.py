"""Plain-text tables of λ, ω_log, Tc, and of what makes them uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.superconductivity.methods import label_of
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable, mu_star_text

if TYPE_CHECKING:
    from himlip_ase.superconductivity.isotope import IsotopeEffect
    from himlip_ase.superconductivity.options import TcOptions
    from himlip_ase.superconductivity.spectrum import Spectrum
    from himlip_ase.superconductivity.tc_analysis import TcAnalysis


def budget_rows(
    table: TcTable, mu_star: float | None = None
) -> list[tuple[str, float | None, list[float | None]]]:
    """What makes λ and Tc uncertain, one source a row.

    Parameters
    ----------
    table : TcTable
    mu_star : float, optional
        None takes the middle of the values in the table.

    Returns
    -------
    list of (source, size for λ, sizes in K for each of ``table.methods``)
        The last rows are all of them together (root of the summed squares), and half the range of Tc over the
        values of μ*, which is not part of that.
    """
    values, methods = table.mu_stars, table.methods
    mu = table.middle_mu_star if mu_star is None else mu_star
    entries = [table.get(method, mu) for method in methods]
    of_lambda = {part.source: part.size for part in table.lambda_parts}
    parts = [{p.source: p.size for p in entry.parts} if isinstance(entry, Tc) else {} for entry in entries]
    names = dict.fromkeys([*of_lambda, *(name for part in parts for name in part)])
    rows = [(name, of_lambda.get(name), [part.get(name) for part in parts]) for name in names]
    together = [entry.uncertainty_kelvin if isinstance(entry, Tc) else None for entry in entries]
    rows.append(("together", table.lambda_uncertainty, together))
    bands = []
    for method in methods:
        found = [entry.kelvin for entry in (table.get(method, v) for v in values) if isinstance(entry, Tc)]
        bands.append((max(found) - min(found)) / 2 if len(found) == len(values) > 1 else None)
    if len(values) > 1:
        rows.append((f"μ* {min(values):g}–{max(values):g} (half the range, apart)", None, bands))
    return rows


def format_table(analyses: Sequence[TcAnalysis]) -> str:
    """A plain-text table of λ, ω_log, ω₂ and Tc, with every refusal, imaginary mode and caveat below it."""
    lines: list[str] = []
    for item in analyses:
        lines += [*_head(item), *_tc_lines(item.table), *_budget_lines(item.table), *_tail(item), ""]
    return "\n".join(lines).rstrip() + "\n"


def _head(item: TcAnalysis) -> list[str]:
    table = item.table
    error = "" if table.lambda_uncertainty is None else f" ± {table.lambda_uncertainty:.3f}"
    scope = "  (stable modes only)" if item.imaginary else ""
    lines = [
        f"{item.label}: λ = {table.lambda_total:.4f}{error}, ω_log = {table.omega_log_k:.1f} K, "
        f"ω₂ = {table.omega_2_k:.1f} K{scope}"
    ]
    lines += [f"  imaginary, not summed: {mode}" for mode in item.imaginary[:12]]
    if len(item.imaginary) > 12:
        lines.append(f"  … and {len(item.imaginary) - 12} more imaginary modes")
    return lines


def _tc_lines(table: TcTable) -> list[str]:
    methods, reasons = table.methods, list[str]()
    lines = ["  μ*     " + "".join(f"{name:>19}" for name in methods)]
    for mu in table.mu_stars:
        cells = []
        for name in methods:
            entry = table.get(name, mu)
            if isinstance(entry, NoTc):
                if entry.reason not in reasons:
                    reasons.append(entry.reason)
                cells.append(f"{f'no Tc ({reasons.index(entry.reason) + 1})':>19}")
            else:
                cells.append(f"{entry!s:>19}")
        lines.append(f"  {mu_star_text(mu):<7}" + "".join(cells))
    return lines + [f"  ({number}) {reason}" for number, reason in enumerate(reasons, start=1)]


def _budget_lines(table: TcTable) -> list[str]:
    rows = budget_rows(table)
    if len(rows) < 2 or all(value is None for _, _, sizes in rows for value in sizes):
        return []
    lines = [f"  what is uncertain (μ* = {table.middle_mu_star:g}): λ; then K by formula"]
    for name, of_lambda, kelvins in rows:
        cells = "".join(f"{'' if k is None else f'{k:.2f}':>8}" for k in kelvins)
        lines.append(f"    {'' if of_lambda is None else f'{of_lambda:.3f}':>6}{cells}  {name}")
    return lines


def _tail(item: TcAnalysis) -> list[str]:
    lines = []
    if item.plateau is not None and np.isfinite(item.plateau.tc_spread_kelvin):
        p = item.plateau
        kind = "plateau" if p.found else "no plateau; flattest window"
        lines.append(
            f"  σ: {kind} {p.window[0]:g}–{p.window[1]:g} Ry, λ ± {p.lambda_spread:.3f}, "
            f"Tc ± {p.tc_spread_kelvin:.2f} K over it; used: {item.sigma_ry:g} Ry ({item.sigma_source})"
        )
    for row in item.q_mesh:
        tc = f"{row.kelvin:.2f} K" if np.isfinite(row.kelvin) else "no Tc"
        grid, mesh = ("×".join(map(str, d)) for d in (row.elph_dims, row.mesh))
        how = f"interpolated onto {mesh}" if row.interpolated else "plain sum"
        lines.append(
            f"  q: G on {grid}, {how}: λ = {row.lambda_total:.4f}, ω_log = {row.omega_log_k:.1f} K, {tc}"
        )
    for mu, value in item.full_bandwidth.items():
        text = f"{value:.2f} K" if isinstance(value, float) else f"no Tc: {value}"
        lines.append(f"  Migdal–Eliashberg with N(ε), μ* = {mu:g}: {text}")
    if item.gap is not None:
        g = item.gap
        lines.append(
            f"  gap: Δ₀ = {g.gap_edge_ev[0] * 1e3:.2f} meV at {g.kelvin[0]:.1f} K, 2Δ₀/kTc = {g.ratio:.2f}"
        )
    return lines + [f"  note: {text}" for text in item.table.caveats]


def format_widths(labels: Sequence[str], spectra: Sequence[Spectrum], options: TcOptions) -> str:
    """One line for each broadening of a file: λ, ω_log and a Tc.

    Parameters
    ----------
    labels : sequence of str
    spectra : sequence of Spectrum
    options : TcOptions
        The first μ* and the leading formula are used.

    Returns
    -------
    str
    """
    lines = []
    for label, spectrum in zip(labels, spectra, strict=True):
        entry = critical_temperature(
            spectrum,
            options.mu_star[0],
            options.leading_method,
            options.accept,
            mu_star_at=options.mu_star_at,
        )
        lines.append(
            f"  {label}: λ = {spectrum.lambda_total:.4f}, ω_log = {spectrum.omega_log_k:.1f} K, "
            f"{label_of(options.leading_method)}, μ* = {mu_star_text(options.mu_star[0])}: {entry}\n"
        )
    return "".join(lines)


def format_isotopes(effects: Sequence[IsotopeEffect | NoTc]) -> str:
    """One line for each formula; empty without any."""
    lines = []
    for effect in effects:
        name = label_of(effect.method)
        if isinstance(effect, NoTc):
            lines.append(f"isotope coefficient, {name}, μ* = {effect.mu_star:g}: none: {effect.reason}\n")
        else:
            parts = ", ".join(f"{symbol} {value:.3f}" for symbol, value in effect.elements.items())
            lines.append(
                f"isotope coefficient, {name}, μ* = {effect.mu_star:g}, fixed force constants: "
                f"{parts}; all {effect.total:.3f}\n"
            )
    return "".join(lines)
