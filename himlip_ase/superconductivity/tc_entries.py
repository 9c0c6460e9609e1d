"""A critical temperature, or the reason why there is none, and the table of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from himlip_ase.errors import InputError
from himlip_ase.superconductivity import codec
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.spectrum import Problem
from himlip_ase.superconductivity.uncertainty import Parts, parts_from, quadrature, sources


def mu_star_text(mu_star: float) -> str:
    """A μ* as shown: at least two decimals, and as many as tell it from any other: 0.10, 0.125."""
    two = f"{mu_star:.2f}"
    return two if float(two) == mu_star else repr(float(mu_star))


@dataclass(frozen=True)
class Tc:
    """A critical temperature.

    Attributes
    ----------
    method : str
        Name of a formula of `methods.FORMULAS`.
    mu_star : float
        In the sense of Allen and Dynes (cutoff at the highest phonon).
    kelvin : float
    parts : tuple of Part
        What is uncertain, each with its size in K.
    caveats : tuple of str
    undetermined : tuple of str
        Sources whose size is unknown, because what should be compared has no Tc.
    """

    method: str
    mu_star: float
    kelvin: float
    parts: Parts = ()
    caveats: tuple[str, ...] = ()
    undetermined: tuple[str, ...] = ()

    @property
    def uncertainty_kelvin(self) -> float | None:
        """Root of the summed squares of the parts; None when none, or not every one, was determined."""
        return None if self.undetermined else quadrature(self.parts)

    @property
    def uncertainty_source(self) -> str:
        """Names of the parts."""
        if self.undetermined:
            return f"not determined: no Tc to compare with for {'; '.join(self.undetermined)}"
        return sources(self.parts)

    def __str__(self) -> str:
        error = "" if self.uncertainty_kelvin is None else f" ± {self.uncertainty_kelvin:.1f}"
        return f"{self.kelvin:.2f}{error} K"

    def to_record(self) -> Record:
        """Plain data for JSON."""
        how = f"{self.method}; uncertainty: {self.uncertainty_source}"
        return {
            "method": self.method,
            "mu_star": self.mu_star,
            **codec.figure(self.kelvin, "K", self.uncertainty_kelvin, how),
            "uncertainty_parts": [part.to_record() for part in self.parts],
            "uncertainty_undetermined": list(self.undetermined),
            "caveats": list(self.caveats),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Tc:
        """What `to_record` wrote."""
        return cls(
            record["method"],
            float(record["mu_star"]),
            float(record["value"]),
            parts_from(record["uncertainty_parts"]),
            tuple(record["caveats"]),
            tuple(record["uncertainty_undetermined"]),
        )


@dataclass(frozen=True)
class NoTc:
    """No critical temperature may be quoted, and why. It has no number to be used by accident."""

    method: str
    mu_star: float
    reason: str

    def __str__(self) -> str:
        return f"no Tc: {self.reason}"

    def to_record(self) -> Record:
        """Plain data for JSON: a value of null, and the reason."""
        return {
            "method": self.method,
            "mu_star": self.mu_star,
            "value": None,
            "unit": "K",
            "reason": self.reason,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> NoTc:
        """What `to_record` wrote."""
        return cls(record["method"], float(record["mu_star"]), record["reason"])


def entry_from_record(record: Mapping[str, Any]) -> Tc | NoTc:
    """The `Tc` or the `NoTc` that a record holds."""
    return NoTc.from_record(record) if record["value"] is None else Tc.from_record(record)


@dataclass(frozen=True)
class TcTable:
    """λ, ω_log, ω₂ and every Tc of one spectrum.

    Attributes
    ----------
    lambda_total, omega_log_k, omega_2_k : float
        Of the modes that were summed; nan when there are none.
    results : tuple of Tc or NoTc
    problems : tuple of Problem
    caveats : tuple of str
    lambda_parts : tuple of Part
        What makes λ uncertain, as `Tc.parts`.
    mu_star_at : float
        Cutoff at which the values of μ* are meant, in units of the highest phonon.
    """

    lambda_total: float
    omega_log_k: float
    omega_2_k: float
    results: tuple[Tc | NoTc, ...]
    problems: tuple[Problem, ...]
    caveats: tuple[str, ...]
    lambda_parts: Parts = ()
    mu_star_at: float = 1.0

    @property
    def lambda_uncertainty(self) -> float | None:
        """Root of the summed squares of the parts; None when none was determined."""
        return quadrature(self.lambda_parts)

    @property
    def uncertainty_source(self) -> str:
        """Names of the parts of λ's uncertainty."""
        return sources(self.lambda_parts)

    @property
    def methods(self) -> tuple[str, ...]:
        """Formulas of the table, in order."""
        return tuple(dict.fromkeys(entry.method for entry in self.results))

    @property
    def mu_stars(self) -> tuple[float, ...]:
        """Values of μ* of the table, in order."""
        return tuple(dict.fromkeys(entry.mu_star for entry in self.results))

    @property
    def middle_mu_star(self) -> float:
        """The value of μ* at which sources of uncertainty are listed."""
        return self.mu_stars[len(self.mu_stars) // 2]

    @property
    def stable_modes_only(self) -> bool:
        """Whether imaginary modes were left out of the sums."""
        return any(problem.kind == "imaginary" for problem in self.problems)

    def get(self, method: str, mu_star: float) -> Tc | NoTc:
        """One entry; InputError if it was not computed.

        Parameters
        ----------
        method : str
        mu_star : float

        Returns
        -------
        Tc or NoTc
        """
        for entry in self.results:
            if entry.method == method and abs(entry.mu_star - mu_star) < 1e-9:
                return entry
        raise InputError(f"{method} at μ* = {mu_star} is not in this table")

    def refused(self, reason: str) -> TcTable:
        """The same λ and ω_log, and no Tc for `reason`."""
        return replace(self, results=tuple(NoTc(e.method, e.mu_star, reason) for e in self.results))

    def to_record(self) -> Record:
        """Plain data for JSON: each figure with value, unit, uncertainty and how it was obtained."""
        scope = "stable modes only" if self.stable_modes_only else "all modes"
        return {
            "lambda": codec.figure(self.lambda_total, "", self.lambda_uncertainty, f"2∫α²F/ω, {scope}")
            | {"uncertainty_parts": [part.to_record() for part in self.lambda_parts]},
            "omega_log": codec.figure(self.omega_log_k, "K", None, f"logarithmic mean, {scope}"),
            "omega_2": codec.figure(self.omega_2_k, "K", None, f"second moment, {scope}"),
            "mu_star_at": self.mu_star_at,
            "tc": [entry.to_record() for entry in self.results],
            "problems": [problem.to_record() for problem in self.problems],
            "caveats": list(self.caveats),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TcTable:
        """What `to_record` wrote."""
        return cls(
            codec.number(record["lambda"]["value"]),
            codec.number(record["omega_log"]["value"]),
            codec.number(record["omega_2"]["value"]),
            tuple(entry_from_record(item) for item in record["tc"]),
            tuple(Problem.from_record(item) for item in record["problems"]),
            tuple(record["caveats"]),
            parts_from(record["lambda"]["uncertainty_parts"]),
            float(record.get("mu_star_at", 1.0)),
        )
