"""Spectrum: the coupling as λ-weights at phonon energies, from which every Tc formula starts.

A q-sum gives one weight for each mode; an α²F(ω) curve gives one for each of its points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.superconductivity import codec
from himlip_ase.superconductivity.codec import Record


@dataclass(frozen=True)
class Problem:
    """A reason why a spectrum gives no Tc.

    Attributes
    ----------
    kind : {"imaginary", "coarse", "negative", "empty", "unknown"}
        "unknown" only in files of version 1, whose sentence says no more.
    text : str
        The reason, in a sentence.
    """

    kind: str
    text: str

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {"kind": self.kind, "text": self.text}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Problem:
        """What `to_record` wrote."""
        return cls(record["kind"], record["text"])


@dataclass(frozen=True)
class Spectrum:
    """Electron-phonon coupling as a sum of Einstein modes: α²F(ω) = Σ_i ½ ω_i λ_i δ(ω − ω_i).

    Attributes
    ----------
    energies_ev : ndarray, shape (n,)
        Positive phonon energies ħω_i, ascending.
    lambdas : ndarray, shape (n,)
        Their contributions to λ = Σ λ_i.
    problems : tuple of Problem
        Reasons why no Tc may be quoted; empty when there are none.
    caveats : tuple of str
        What a reader of the figures must know (Γ convention, coarse grid, σ …).
    alternative : Spectrum, optional
        The same coupling under another defensible choice (the other weight of Γ; the plain q-sum instead of
        the interpolated one), from which an uncertainty is made; None where there is none.
    alternative_name : str
        Which choice that is.
    """

    energies_ev: np.ndarray
    lambdas: np.ndarray
    problems: tuple[Problem, ...] = ()
    caveats: tuple[str, ...] = ()
    alternative: Spectrum | None = None
    alternative_name: str = ""

    def __post_init__(self) -> None:
        energies, lambdas = np.asarray(self.energies_ev, float), np.asarray(self.lambdas, float)
        if energies.shape != lambdas.shape or energies.ndim != 1:
            raise InputError(
                f"energies {energies.shape} and λ weights {lambdas.shape} must be two equal columns"
            )
        if not (np.isfinite(energies).all() and np.isfinite(lambdas).all() and (energies > 0).all()):
            raise InputError("a spectrum wants finite λ weights at positive, finite energies")
        order = np.argsort(energies, kind="stable")
        object.__setattr__(self, "energies_ev", energies[order])
        object.__setattr__(self, "lambdas", lambdas[order])
        problems = list(self.problems)
        negative, total = -float(lambdas[lambdas < 0].sum()), float(np.abs(lambdas).sum())
        kinds = {problem.kind for problem in problems}
        if total == 0 and "empty" not in kinds:
            problems.append(Problem("empty", "no mode contributes to λ"))
        if total > 0 and negative > 0.01 * total and "negative" not in kinds:
            problems.append(
                Problem(
                    "negative",
                    f"α²F is negative: {negative / total:.1%} of the summed |λ| has the wrong sign",
                )
            )
        object.__setattr__(self, "problems", tuple(problems))

    @property
    def lambda_total(self) -> float:
        """λ = 2∫α²F(ω)/ω dω."""
        return float(self.lambdas.sum())

    @property
    def omega_log_ev(self) -> float:
        """ω_log = exp[(2/λ)∫α²F lnω/ω dω] (eV); nan when λ is not positive."""
        total = self.lambda_total
        if not total > 0:
            return float("nan")
        return float(np.exp((self.lambdas * np.log(self.energies_ev)).sum() / total))

    @property
    def omega_2_ev(self) -> float:
        """ω₂ = [(2/λ)∫α²F ω dω]^½ (eV); nan when λ or the integral is not positive."""
        total, moment = self.lambda_total, float((self.lambdas * self.energies_ev**2).sum())
        return float(np.sqrt(moment / total)) if total > 0 and moment > 0 else float("nan")

    @property
    def omega_max_ev(self) -> float:
        """Highest phonon energy that couples (eV)."""
        coupled = self.energies_ev[
            np.abs(self.lambdas) > 1e-8 * max(np.abs(self.lambdas).max(initial=0.0), 1e-300)
        ]
        return float(coupled.max()) if len(coupled) else float("nan")

    @property
    def omega_log_k(self) -> float:
        """ω_log in K."""
        return self.omega_log_ev * units.EV_KELVIN

    @property
    def omega_2_k(self) -> float:
        """ω₂ in K."""
        return self.omega_2_ev * units.EV_KELVIN

    def to_record(self) -> Record:
        """Plain data for JSON, exact."""
        record: Record = {
            "energies_ev": codec.column(self.energies_ev),
            "lambdas": codec.column(self.lambdas),
            "problems": [problem.to_record() for problem in self.problems],
            "caveats": list(self.caveats),
        }
        if self.alternative is not None:
            record["alternative"] = self.alternative.to_record() | {"name": self.alternative_name}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Spectrum:
        """What `to_record` wrote."""
        other = record.get("alternative")
        return cls(
            codec.array(record["energies_ev"]),
            codec.array(record["lambdas"]),
            tuple(Problem.from_record(item) for item in record["problems"]),
            tuple(record["caveats"]),
            None if other is None else cls.from_record(other),
            "" if other is None else other["name"],
        )

    def coarsened(self, bins: int = 300) -> Spectrum:
        """A shorter equivalent: modes gathered in logarithmic energy bins, λ and ω_log kept exactly."""
        if len(self.energies_ev) <= bins or (self.lambdas < 0).any():
            return self
        logs = np.log(self.energies_ev)
        edges = np.linspace(logs[0], logs[-1] + 1e-12, bins + 1)
        which = np.clip(np.searchsorted(edges, logs, side="right") - 1, 0, bins - 1)
        weight = np.bincount(which, self.lambdas, bins)
        mean = np.bincount(which, self.lambdas * logs, bins)
        kept = weight > 0
        return replace(self, energies_ev=np.exp(mean[kept] / weight[kept]), lambdas=weight[kept])

    def broadened(self, width_cm: float | None = None, points: int = 800) -> Alpha2F:
        """α²F(ω) with each mode drawn as a Gaussian, for plots.

        Parameters
        ----------
        width_cm : float, optional
            Standard deviation; None takes 1/80 of the highest phonon.
        points : int
            Points from 0 to the highest phonon + 4 widths.

        Returns
        -------
        Alpha2F
        """
        if not len(self.energies_ev):
            raise InputError("no mode contributes to λ: there is no α²F to draw")
        top = float(self.energies_ev.max()) * units.EV_CM
        width = top / 80 if width_cm is None else width_cm
        if not width > 0:
            raise InputError(f"width_cm = {width}; a positive broadening in cm⁻¹ is wanted")
        omega = np.linspace(0.0, top + 4 * width, points)
        return Alpha2F(omega, *_gaussian_sums(self, omega, width))


@dataclass(frozen=True)
class Alpha2F:
    """A curve α²F(ω) and the λ summed up to ω.

    Attributes
    ----------
    omega_cm, alpha2f, cumulative_lambda : ndarray, shape (n,)
    """

    omega_cm: np.ndarray
    alpha2f: np.ndarray
    cumulative_lambda: np.ndarray


def _gaussian_sums(spectrum: Spectrum, omega: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import erf

    centres = spectrum.energies_ev * units.EV_CM
    alpha2f, cumulative = np.zeros_like(omega), np.zeros_like(omega)
    for start in range(0, len(centres), 2000):
        centre = centres[start : start + 2000]
        weight = spectrum.lambdas[start : start + 2000]
        x = (omega[:, None] - centre) / width
        alpha2f += (np.exp(-0.5 * x**2) / (np.sqrt(2 * np.pi) * width)) @ (0.5 * centre * weight)
        cumulative += (0.5 * (1 + erf(x / np.sqrt(2)))) @ weight
    return alpha2f, cumulative


_TO_EV = {
    "ev": 1.0,
    "mev": 1e-3,
    "cm-1": 1 / units.EV_CM,
    "thz": 1 / units.EV_THZ,
    "ry": units.RY_EV,
    "ha": units.HARTREE_EV,
    "k": units.KB_EV_PER_K,
}


def spectrum_from_curve(
    omega: np.ndarray, alpha2f: np.ndarray, unit: str, caveats: tuple[str, ...] = ()
) -> Spectrum:
    """Spectrum of a tabulated α²F(ω), by the trapezoidal rule.

    Parameters
    ----------
    omega : ndarray, shape (n,)
        Ascending; points at ω ≤ 0 are left out.
    alpha2f : ndarray, shape (n,)
        Dimensionless.
    unit : {"eV", "meV", "cm-1", "THz", "Ry", "Ha", "K"}
        Unit of `omega`.
    caveats : tuple of str
        Carried along.

    Returns
    -------
    Spectrum

    Raises
    ------
    InputError
        Unknown unit, fewer than 3 points, not ascending, not finite.
    """
    if unit.lower() not in _TO_EV:
        raise InputError(f"unit {unit!r} is unknown; say one of eV, meV, cm-1, THz, Ry, Ha, K")
    omega, alpha2f = np.asarray(omega, float), np.asarray(alpha2f, float)
    if omega.ndim != 1 or omega.shape != alpha2f.shape or len(omega) < 3:
        raise InputError(
            f"α²F wants two columns of at least 3 rows; got shapes {omega.shape} and {alpha2f.shape}"
        )
    if not (np.isfinite(omega).all() and np.isfinite(alpha2f).all()):
        raise InputError("the α²F columns hold values that are not finite")
    steps = np.diff(omega)
    if (steps <= 0).any():
        raise InputError(
            f"the frequencies of the α²F curve must ascend; row {int((steps <= 0).argmax()) + 2} does not"
        )
    weights = np.zeros_like(omega)
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    keep = (omega > 0) & (alpha2f != 0)
    energies = omega[keep] * _TO_EV[unit.lower()]
    return Spectrum(energies, 2 * alpha2f[keep] / omega[keep] * weights[keep], caveats=caveats)
