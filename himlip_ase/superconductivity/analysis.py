"""One call from files to Tc: the Python twin of ``himlip tc``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.gap import GapCurve, gap_curve
from himlip_ase.superconductivity.plateau import SigmaPlateau, sigma_plateau
from himlip_ase.superconductivity.spectral import (
    GammaWeight,
    ImaginaryMode,
    interpolated_coupling,
    mode_coupling,
    swap_onto_grid,
)
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc import (
    DEFAULT_MU_STAR,
    METHODS,
    Method,
    Tc,
    TcTable,
    add_spread,
    critical_temperature,
    tc_table,
)

if TYPE_CHECKING:
    from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices


@dataclass(frozen=True)
class TcAnalysis:
    """α²F and Tc of one set of phonons.

    Attributes
    ----------
    label : str
        For example "harmonic".
    spectrum : Spectrum
    table : TcTable
    imaginary : tuple of ImaginaryMode
        Left out of every sum.
    sigma_ry : float or None
        None for a tabulated α²F.
    plateau : SigmaPlateau or None
        None with fewer than three broadenings.
    masses_amu : dict
        Element to mass in use.
    gap : GapCurve or None
        Δ(T) at the first μ*, when asked for and when there is a Tc.
    """

    label: str
    spectrum: Spectrum
    table: TcTable
    imaginary: tuple[ImaginaryMode, ...] = ()
    sigma_ry: float | None = None
    plateau: SigmaPlateau | None = None
    masses_amu: dict[str, float] = field(default_factory=dict)
    gap: GapCurve | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data: dict[str, Any] = {"label": self.label, **self.table.to_dict()}
        data["imaginary_modes"] = [
            {"q": list(m.qpoint), "branch": m.branch, "frequency_cm": m.frequency_cm} for m in self.imaginary
        ]
        data["sigma_ry"] = self.sigma_ry
        data["masses_amu"] = self.masses_amu
        if self.gap is not None:
            data["gap"] = {
                "two_delta_over_kTc": self.gap.ratio,
                "edge_mev": float(self.gap.gap_edge_ev[0] * 1e3),
                "edge_uncertainty_mev": self.gap.gap_edge_spread_ev * 1e3,
                "kelvin": float(self.gap.kelvin[0]),
                "how": "non-linear Migdal–Eliashberg equations, Padé; uncertainty: order of the approximant",
            }
        if self.plateau is not None:
            p = self.plateau
            data["sigma_plateau"] = {
                "found": p.found,
                "window_ry": list(p.window),
                "lambda_half_spread": p.lambda_spread,
                "tc_half_spread_kelvin": p.tc_spread_kelvin if np.isfinite(p.tc_spread_kelvin) else None,
                "sigma_ry": p.sigma_ry.tolist(),
                "lambda": p.lambdas.tolist(),
                "tc_kelvin": [float(v) if np.isfinite(v) else None for v in p.tc_kelvin],
            }
        return data


def analyse(
    label: str,
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    harmonic: DynamicalMatrices | None = None,
    *,
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[Method] = METHODS,
    masses: dict[str, float] | None = None,
    sigma_ry: float | None = None,
    gamma_weight: GammaWeight = "counted",
    mesh: Sequence[int] | None = None,
    accept: Sequence[str] = (),
    gap: bool = False,
) -> TcAnalysis:
    """α²F, λ, ω_log, ω₂ and every Tc of G(q) with some phonons.

    Parameters
    ----------
    label : str
    elph : ElphMatrices
    phonons : DynamicalMatrices
        Harmonic, auxiliary, free-energy Hessian …; on the grid of `elph` or, with `harmonic`, on one that
        divides it.
    harmonic : DynamicalMatrices, optional
        The dyn files of the ph.x run that wrote G: they prove that G and phonons are of one crystal, and
        carry the phonons onto the grid of G. Without them `phonons` must themselves be those of the run, as
        far as ``elph.inp_lambda`` files allow to check it.
    mu_star, methods, accept
        As in `tc_table`.
    masses : dict, optional
        Element to amu, for isotopes. Anharmonic matrices keep the Φ that they were made with: at low
        temperature that of an isotope differs, and wants its own SSCHA run.
    sigma_ry : float, optional
        Broadening. None takes the middle of the σ-plateau if there is one, else the middle of the list.
    gamma_weight
        As in `mode_coupling`.
    mesh : sequence of 3 int, optional
        Fourier-interpolate D and G onto this mesh.
    gap : bool
        Solve the non-linear Eliashberg equations too, at the first μ*.

    Returns
    -------
    TcAnalysis

    Raises
    ------
    InputError
        Files of different crystals or runs; unknown σ, mass or option.
    """
    checked = harmonic if harmonic is not None else phonons
    try:
        deviation = elph.check_against(checked)
    except InputError as error:
        if harmonic is not None:
            raise
        raise InputError(
            f"{error}. If these phonons are anharmonic ones, give the harmonic dyn files of the ph.x run too "
            "(harmonic=, --harmonic-dyn), so that the crystal can be checked"
        ) from error
    if harmonic is not None and tuple(phonons.dims) != tuple(harmonic.dims):
        phonons = swap_onto_grid(phonons, harmonic)
    if masses:
        phonons = phonons.with_masses(masses)
    plateau = None
    if len(elph.sigma_ry) >= 3:
        plateau = sigma_plateau(elph, phonons, mu_star[0], "allen-dynes", gamma_weight, accept=accept)
        if sigma_ry is None and plateau.found:
            sigma_ry = plateau.sigma_chosen_ry
    coupling = mode_coupling(elph, phonons, sigma_ry, gamma_weight)
    spectrum = coupling.spectrum()
    if mesh is not None:
        plain = spectrum
        coupling = interpolated_coupling(elph, phonons, mesh, sigma_ry, gamma_weight)
        name = "Fourier-interpolated against plain q-sum"
        spectrum = replace(coupling.spectrum(), alternative=plain, alternative_name=name)
    caveats = spectrum.caveats
    if np.isnan(deviation):
        caveats += ("no elph.inp_lambda files: that G and phonons are of one crystal could not be checked",)
    if plateau is not None and not plateau.found:
        caveats += ("no plateau of λ in σ: the k-grids are too coarse or σ not small enough",)
    spectrum = replace(spectrum, caveats=caveats)
    table = tc_table(spectrum, mu_star, methods, accept)
    if plateau is not None:
        low, high = plateau.window
        others = []
        for value in elph.sigma_ry[(elph.sigma_ry > low - 1e-9) & (elph.sigma_ry < high + 1e-9)]:
            if mesh is None:
                second = mode_coupling(elph, phonons, float(value), gamma_weight)
            else:
                second = interpolated_coupling(elph, phonons, mesh, float(value), gamma_weight)
            others.append(tc_table(second.spectrum(), mu_star, methods, accept))
        kind = "σ-plateau" if plateau.found else "flattest σ window, no plateau:"
        table = add_spread(table, others, f"{kind} {low:g}–{high:g} Ry (half the spread)")
    symbols = coupling.primitive.get_chemical_symbols()
    return TcAnalysis(
        label,
        spectrum,
        table,
        coupling.imaginary,
        coupling.sigma_ry,
        plateau,
        {s: float(m) for s, m in zip(symbols, coupling.primitive.get_masses(), strict=True)},
        _gap(spectrum, mu_star[0], accept) if gap else None,
    )


def _gap(spectrum: Spectrum, mu_star: float, accept: Sequence[str]) -> GapCurve | None:
    found = isinstance(critical_temperature(spectrum, mu_star, "eliashberg", accept), Tc)
    return gap_curve(spectrum, mu_star) if found else None


def analyse_curve(
    label: str,
    spectrum: Spectrum,
    *,
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[Method] = METHODS,
    gap: bool = False,
) -> TcAnalysis:
    """Every Tc of a tabulated α²F (`read_alpha2f`)."""
    curve = _gap(spectrum, mu_star[0], ()) if gap else None
    return TcAnalysis(label, spectrum, tc_table(spectrum, mu_star, methods), gap=curve)


def format_table(analyses: Sequence[TcAnalysis]) -> str:
    """A plain-text table of λ, ω_log, ω₂ and Tc, with every refusal, imaginary mode and caveat below it."""
    lines = []
    for item in analyses:
        table = item.table
        error = "" if table.lambda_uncertainty is None else f" ± {table.lambda_uncertainty:.3f}"
        scope = "  (stable modes only)" if item.imaginary else ""
        lines.append(
            f"{item.label}: λ = {table.lambda_total:.4f}{error}, ω_log = {table.omega_log_k:.1f} K, "
            f"ω₂ = {table.omega_2_k:.1f} K{scope}"
        )
        lines += [f"  imaginary, not summed: {mode}" for mode in item.imaginary[:12]]
        if len(item.imaginary) > 12:
            lines.append(f"  … and {len(item.imaginary) - 12} more imaginary modes")
        methods = list(dict.fromkeys(entry.method for entry in table.results))
        values = list(dict.fromkeys(entry.mu_star for entry in table.results))
        reasons: list[str] = []
        lines.append("  μ*     " + "".join(f"{name:>19}" for name in methods))
        for mu in values:
            cells = []
            for name in methods:
                entry = table.get(name, mu)
                if hasattr(entry, "kelvin"):
                    cells.append(f"{entry!s:>19}")
                else:
                    if entry.reason not in reasons:
                        reasons.append(entry.reason)
                    cells.append(f"{f'no Tc ({reasons.index(entry.reason) + 1})':>19}")
            lines.append(f"  {mu:<7.3f}" + "".join(cells))
        lines += [f"  ({number}) {reason}" for number, reason in enumerate(reasons, start=1)]
        if item.plateau is not None and np.isfinite(item.plateau.tc_spread_kelvin):
            p = item.plateau
            kind = "plateau" if p.found else "no plateau; flattest window"
            lines.append(
                f"  σ: {kind} {p.window[0]:g}–{p.window[1]:g} Ry, λ ± {p.lambda_spread:.3f}, "
                f"Tc ± {p.tc_spread_kelvin:.2f} K over it"
            )
        if item.gap is not None:
            g = item.gap
            lines.append(
                f"  gap: Δ₀ = {g.gap_edge_ev[0] * 1e3:.2f} meV at {g.kelvin[0]:.1f} K, "
                f"2Δ₀/kTc = {g.ratio:.2f}"
            )
        lines += [f"  note: {text}" for text in item.spectrum.caveats]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
