"""Finished runs as compounds: one for each run, and one for each isotope in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import read_yaml
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.comparison.measured import Measured
from himlip_ase.pipeline.config import build_config
from himlip_ase.pipeline.gate import Gate
from himlip_ase.pipeline.known import read_gate
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.report import BEFORE, cost_rows
from himlip_ase.pipeline.run_facts import RunFacts, formula, run_facts
from himlip_ase.pipeline.runfolder import Figure, RunFolder
from himlip_ase.pipeline.sscha import isotope_folders
from himlip_ase.pipeline.stages import Context
from himlip_ase.pipeline.tc_cases import CaseResult, Phonons, TcResults
from himlip_ase.sscha.results.result import load_result

NUCLIDES = (("H", 2.014, "D"), ("H", 3.016, "T"))
"""Element, mass (amu) and how the field writes it."""
_SAME_CELL = 0.02
"""Relative difference of volumes below which two crystals are isotopologues of each other."""


@dataclass(frozen=True, eq=False)
class Compound:
    """One compound of a comparison.

    Attributes
    ----------
    name : str
        Its own among all.
    formula : str
        With D and T.
    run : Path
        Folder of its run.
    facts : RunFacts
    harmonic : DynamicalMatrices
        Of DFT, with its masses.
    anharmonic : DynamicalMatrices or None
        Free-energy Hessian, else SSCHA auxiliary; None where the run did no SSCHA.
    kind : str
        "hessian", "auxiliary" or "".
    sigma_cm : ndarray or None
        Of the anharmonic frequencies.
    cases : dict of str to CaseResult
        By the kind of phonons.
    refusal : str
        Why no phonons at all have a Tc; "" where the ``tc`` stage analysed some.
    gate : Gate or None
        None in folders of older versions.
    pressure_gpa : float or None
        Static.
    costs : dict of str to float
        Core-minutes by part of the run; empty for isotopes, which share those of their run.
    """

    name: str
    formula: str
    run: Path
    facts: RunFacts
    harmonic: DynamicalMatrices
    anharmonic: DynamicalMatrices | None
    kind: str
    sigma_cm: np.ndarray | None
    cases: dict[str, CaseResult]
    refusal: str
    gate: Gate | None
    pressure_gpa: float | None
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def masses(self) -> dict[str, float]:
        """Element to mass, amu."""
        primitive = self.harmonic.primitive
        pairs = zip(primitive.get_chemical_symbols(), primitive.get_masses(), strict=True)
        return {symbol: float(mass) for symbol, mass in pairs}

    @property
    def lightest_amu(self) -> float:
        """Mass of the lightest atom."""
        return min(self.masses.values())

    def phonons(self) -> dict[str, tuple[DynamicalMatrices, np.ndarray | None]]:
        """By kind, harmonic first: matrices, and standard errors of the frequencies (cm⁻¹) where known."""
        found: dict[str, tuple[DynamicalMatrices, np.ndarray | None]] = {"harmonic": (self.harmonic, None)}
        if self.anharmonic is not None:
            found[self.kind] = (self.anharmonic, self.sigma_cm)
        return found

    def measured_in(self, values: Sequence[Measured]) -> list[Measured]:
        """Those measured values that are of this compound."""
        mine = {self.name, self.formula}
        return [value for value in values if value.compound in mine]

    def isotopologue_of(self, other: Compound) -> str | None:
        """The one element whose mass differs between two forms of one crystal; None: they are others."""
        ours, theirs = self.harmonic.primitive, other.harmonic.primitive
        same = Counter(ours.get_chemical_symbols()) == Counter(theirs.get_chemical_symbols())
        volumes = ours.get_volume(), theirs.get_volume()
        if not same or abs(volumes[0] - volumes[1]) > _SAME_CELL * volumes[0]:
            return None
        changed = [e for e, mass in self.masses.items() if abs(mass - other.masses[e]) > 1e-3]
        return changed[0] if len(changed) == 1 else None


def read_compounds(folders: Sequence[str | Path]) -> list[Compound]:
    """The compounds of finished runs, in the order given, isotopes after the natural masses.

    Parameters
    ----------
    folders : sequence of path-like
        Run folders of `himlip run`.

    Returns
    -------
    list of Compound

    Raises
    ------
    InputError
        A folder given twice, one that holds no run, or whose labels are not there.
    """
    paths = [Path(folder) for folder in folders]
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice; name each run once")
    found = [compound for path in paths for compound in _of_run(path)]
    names = Counter(compound.name for compound in found)
    return [replace(c, name=f"{c.name} ({c.run.name})") if names[c.name] > 1 else c for c in found]


def _of_run(path: Path) -> list[Compound]:
    folder = RunFolder.existing(path)
    context = Context(build_config(read_yaml(path / "config.yaml"), str(path / "config.yaml")), folder)
    records = [record for stage in BEFORE if (record := folder.read_record(stage)) is not None]
    quoted: dict[str, Figure] = {name: f for record in records for name, f in record.figures.items()}
    labels = label_folder(context)
    results = TcResults.read(context.of("tc"))
    no_tc = quoted.get("tc")
    refusal = (
        "" if results.cases else no_tc.how if no_tc is not None else "the run did not reach the tc stage"
    )
    pressure = quoted.get("pressure")
    costs = {name.removeprefix("cost."): row[0] for name, row in cost_rows(context).items()}
    found = []
    runs = {"": context.of("sscha")} | isotope_folders(context)
    for isotope, place in runs.items():
        anharmonic, kind, sigma, masses = None, "", None, None
        if (place / "result.json").is_file():
            result = load_result(place)
            masses = result.auxiliary.primitive.get_masses()
            anharmonic, kind, sigma = result.auxiliary, "auxiliary", result.auxiliary_sigma_cm
            if result.hessian is not None:
                anharmonic, kind, sigma = result.hessian, "hessian", result.hessian_sigma_cm
        harmonic = labels.harmonic if masses is None else labels.harmonic.with_masses(masses)
        found.append(
            Compound(
                isotope or context.config.name,
                _with_nuclides(harmonic),
                path,
                run_facts(context, quoted),
                harmonic,
                anharmonic,
                kind,
                sigma,
                {
                    name: results.cases[Phonons(name, isotope)]
                    for name in ("harmonic", "auxiliary", "hessian")
                    if Phonons(name, isotope) in results.cases
                },
                refusal,
                read_gate(folder),
                None if pressure is None or pressure.value is None else float(pressure.value),
                {} if isotope else costs,
            )
        )
    return found


def _with_nuclides(matrices: DynamicalMatrices) -> str:
    """Formula with D and T where the masses are theirs."""
    primitive = matrices.primitive
    text = formula(primitive)
    for element, mass, symbol in NUCLIDES:
        masses = primitive.get_masses()[[s == element for s in primitive.get_chemical_symbols()]]
        if len(masses) and np.abs(masses - mass).max() < 0.01:
            text = re.sub(rf"{element}(?![a-z])", symbol, text)
    return text
