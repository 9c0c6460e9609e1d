"""What the ``tc`` stage found: one analysis for each set of phonons, and isotope coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.superconductivity.codec import Record, dims_from, read_document, write_document
from himlip_ase.superconductivity.formulas import isotope_coefficient
from himlip_ase.superconductivity.spectrum import Spectrum
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable
from himlip_ase.superconductivity.uncertainty import size_of

TABLES = "tc.json"
SPECTRA_1 = "spectra.npz"
"""Spectra of run folders of version 1, which stood beside `TABLES`."""
NAMES = {
    "harmonic": "DFT, harmonic",
    "auxiliary": "SSCHA auxiliary",
    "hessian": "free-energy Hessian",
    "auxiliary_corrected": "SSCHA auxiliary, corrected by DFT",
    "hessian_corrected": "free-energy Hessian, corrected by DFT",
}
"""The phonons that enter, and how the report calls them."""
BY_INTEREST = ("hessian_corrected", "hessian", "auxiliary_corrected", "auxiliary", "harmonic")
"""The first that has a Tc is the one that is shown first."""


@dataclass(frozen=True)
class Phonons:
    """Which phonons.

    Attributes
    ----------
    kind : str
        One of `NAMES`.
    isotope : str
        Name in ``anharmonic.isotopes``; "" for natural masses.
    grid : tuple of 3 int or None
        A further grid of ``anharmonic.grids``; None for the main one.
    """

    kind: str
    isotope: str = ""
    grid: tuple[int, int, int] | None = None

    @property
    def variant(self) -> tuple[str, tuple[int, int, int] | None]:
        """Isotope and further grid: the phonons that stand in one table."""
        return self.isotope, self.grid

    @property
    def plain(self) -> bool:
        """Natural masses on the main grid."""
        return self.variant == ("", None)

    @property
    def variant_label(self) -> str:
        """How the report calls isotope or grid; "" for the main run."""
        return self.isotope if self.grid is None else f"grid {'×'.join(map(str, self.grid))}"

    @property
    def label(self) -> str:
        """How the report calls them."""
        return NAMES[self.kind] + ("" if self.plain else f", {self.variant_label.removeprefix('grid ')}")

    @property
    def name(self) -> str:
        """How figures and files end: "hessian", "hessian.D3S", "hessian.grid_4x4x4"."""
        if self.grid is not None:
            return f"{self.kind}.grid_{'x'.join(map(str, self.grid))}"
        return f"{self.kind}.{self.isotope}" if self.isotope else self.kind

    def to_record(self) -> Record:
        """Plain data for JSON."""
        grid = None if self.grid is None else list(self.grid)
        return {"phonons": self.kind, "isotope": self.isotope, "grid": grid}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Phonons:
        """What `to_record` wrote."""
        grid = None if record["grid"] is None else dims_from(record["grid"])
        return cls(record["phonons"], record["isotope"], grid)


@dataclass(frozen=True)
class CaseResult:
    """The analysis of one set of phonons, or why there is none.

    Attributes
    ----------
    analysis : TcAnalysis or None
    refusal : str
        Why no Tc is quoted, whatever the formulas give; "" where it may be.
    """

    analysis: TcAnalysis | None
    refusal: str = ""

    @property
    def table(self) -> TcTable | None:
        """λ, ω_log and each Tc as they may be quoted."""
        if self.analysis is None:
            return None
        return self.analysis.table.refused(self.refusal) if self.refusal else self.analysis.table

    @property
    def has_tc(self) -> bool:
        """Whether any Tc may be quoted."""
        return self.table is not None and any(isinstance(entry, Tc) for entry in self.table.results)


@dataclass(frozen=True)
class IsotopeCoefficient:
    """α = −ln(Tc'/Tc)/ln(M'/M) of one element, from the isotope's own SSCHA.

    Attributes
    ----------
    isotope, kind, method, element : str
    mu_star : float
    value, uncertainty : float or None
        None where there is none.
    reason : str
        Why there is none.
    """

    isotope: str
    kind: str
    element: str
    method: str
    mu_star: float
    value: float | None
    uncertainty: float | None = None
    reason: str = ""


@dataclass
class TcResults:
    """Everything that the ``tc`` stage found.

    Attributes
    ----------
    cases : dict of Phonons to CaseResult
        The phonons whose σ serves all come first.
    """

    cases: dict[Phonons, CaseResult] = field(default_factory=dict)

    def refused(self, reason: str) -> TcResults:
        """The same without a Tc for `reason`, which stands before any other; unchanged for ""."""
        if not reason:
            return self
        joined = {
            phonons: replace(case, refusal=f"{reason}; {case.refusal}" if case.refusal else reason)
            for phonons, case in self.cases.items()
        }
        return TcResults(joined)

    def variants(self) -> list[tuple[str, tuple[int, int, int] | None]]:
        """The main run, then isotopes and further grids."""
        return list(dict.fromkeys(phonons.variant for phonons in self.cases))

    def of_interest(self) -> Phonons | None:
        """Of the main run, the first of `BY_INTEREST` that has a Tc."""
        for kind in BY_INTEREST:
            found = self.cases.get(Phonons(kind))
            if found is not None and found.has_tc:
                return Phonons(kind)
        return None

    def isotope_coefficients(self) -> list[IsotopeCoefficient]:
        """Coefficients of every isotope of one element, for the anharmonic phonons that both runs have."""
        found = []
        isotopes = dict.fromkeys(phonons.isotope for phonons in self.cases if phonons.isotope)
        for isotope, kind in product(isotopes, ("hessian", "auxiliary")):
            phonons = Phonons(kind, isotope)
            light, heavy = self.cases.get(Phonons(kind)), self.cases.get(phonons)
            if light is not None and heavy is not None:
                found += coefficients_between(phonons, light, heavy)
        return found

    def write(self, folder: Path) -> None:
        """Write `TABLES` into `folder`, replacing what an interrupted run left."""
        cases = [
            {
                **phonons.to_record(),
                "refusal": case.refusal,
                "analysis": None if case.analysis is None else case.analysis.to_record(),
            }
            for phonons, case in self.cases.items()
        ]
        write_document(folder / TABLES, {"cases": cases}, overwrite=True)

    @classmethod
    def read(cls, folder: Path) -> TcResults:
        """What `write`, or version 1, left in `folder`; empty if there is nothing.

        Raises
        ------
        CalculationError
            The file is damaged.
        """
        path = folder / TABLES
        if not path.is_file():
            return cls()
        spectra = folder / SPECTRA_1
        try:
            cases = {}
            for record in read_document(path)["cases"]:
                analysis = record["analysis"] and TcAnalysis.from_record(record["analysis"])
                cases[Phonons.from_record(record)] = CaseResult(analysis, record["refusal"])
            if spectra.is_file():
                cases = _with_spectra_1(cases, spectra)
            return cls(cases)
        except (KeyError, TypeError, ValueError, OSError) as error:
            message = f"{path} is damaged ({error}); make it again: himlip run … --from tc"
            raise CalculationError(message) from error


def coefficients_between(phonons: Phonons, light: CaseResult, heavy: CaseResult) -> list[IsotopeCoefficient]:
    """Coefficients of two isotopologues by every formula that both have; none if more than one mass differs.

    Parameters
    ----------
    phonons : Phonons
        Kind of both, and the name of the heavier.
    light, heavy : CaseResult

    Returns
    -------
    list of IsotopeCoefficient
    """
    if light.analysis is None or heavy.analysis is None:
        return []
    masses = light.analysis.masses_amu, heavy.analysis.masses_amu
    changed = [e for e in masses[0] if abs(masses[0][e] - masses[1].get(e, np.nan)) > 1e-6]
    if len(changed) != 1:
        return []
    (element,) = changed
    pair = light.analysis.masses_amu[element], heavy.analysis.masses_amu[element]
    refusal = light.refusal or heavy.refusal
    found = []
    theirs = heavy.analysis.table
    for entry in light.analysis.table.results:
        if entry.method not in theirs.methods or entry.mu_star not in theirs.mu_stars:
            continue  # runs with other options
        other = theirs.get(entry.method, entry.mu_star)
        key = phonons.isotope, phonons.kind, element, entry.method, entry.mu_star
        if refusal or isinstance(entry, NoTc) or isinstance(other, NoTc):
            reason = refusal or "one of the two has no Tc"
            found.append(IsotopeCoefficient(*key, None, None, reason))
            continue
        value = isotope_coefficient(entry.kelvin, other.kelvin, *pair)
        # σ, Γ and q-grid move both alike, and so does the potential, twin by twin
        noise = [size_of(tc.parts, "ensemble") / tc.kelvin for tc in (entry, other)]
        noise.append(_of_potential((light.analysis, heavy.analysis), (entry, other)))
        error = float(np.linalg.norm(noise)) / abs(float(np.log(pair[1] / pair[0])))
        found.append(IsotopeCoefficient(*key, value, error if error > 0 else None))
    return found


def _of_potential(analyses: tuple[TcAnalysis, TcAnalysis], entries: tuple[Tc, Tc]) -> float:
    """Standard error of ln(Tc'/Tc) from the twins of the potential, each of which moves both Tc.

    Where one of the two has no twins, what their Tc have of such errors counts as independent.
    """
    columns = []
    for analysis, entry in zip(analyses, entries, strict=True):
        if analysis.potential is None:
            return float(np.linalg.norm([size_of(tc.parts, "potential") / tc.kelvin for tc in entries]))
        found = [(other.method, other.mu_star) for other in analysis.potential.results]
        columns.append(analysis.potential.kelvin[:, found.index((entry.method, entry.mu_star))])
    return float(np.log(columns[1] / columns[0]).std(ddof=1))


def _with_spectra_1(cases: dict[Phonons, CaseResult], path: Path) -> dict[Phonons, CaseResult]:
    found = {}
    with np.load(path) as data:
        for phonons, case in cases.items():
            energies = data.get(f"{phonons.name}.energies_ev")
            if case.analysis is not None and energies is not None:
                table = case.analysis.table
                spectrum = Spectrum(energies, data[f"{phonons.name}.lambdas"], table.problems, table.caveats)
                case = replace(case, analysis=replace(case.analysis, spectrum=spectrum))
            found[phonons] = case
    return found
