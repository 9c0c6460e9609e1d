"""The ``tc`` stage: α²F, λ and Tc from DFT's G(q) with harmonic and with anharmonic phonons, and isotopes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.carriers import Carriers
from himlip_ase.pipeline.coupling_labels import electron_phonon, electrons, harmonic_phonons, k_refusal
from himlip_ase.pipeline.gate import GateLimits
from himlip_ase.pipeline.gate_checks import run_gate
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.learn import corrected
from himlip_ase.pipeline.potential_error import read_potential_error
from himlip_ase.pipeline.roads import Grid, roads, with_gap
from himlip_ase.pipeline.sscha import grid_folders, isotope_folders
from himlip_ase.pipeline.stages import Context, Outcome, Stage
from himlip_ase.pipeline.tc_cases import NAMES, CaseResult, Phonons, TcResults
from himlip_ase.progress import ProgressBar
from himlip_ase.sscha.results.sampling_noise import deviations_of
from himlip_ase.sscha.trust.corrections import joined_deviations
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.cell_strain import (
    NOT_RECALCULATED,
)
from himlip_ase.superconductivity.tc_analysis import TcAnalysis
from himlip_ase.superconductivity.tc_entries import NoTc, mu_star_text

if TYPE_CHECKING:
    from himlip_ase.sscha.results.result import SschaResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """One set of phonons to be joined with G(q).

    Attributes
    ----------
    phonons : Phonons
        Which.
    matrices : DynamicalMatrices
        On the grid of the SSCHA and in its cell, with the masses of the isotope.
    deviations : ndarray or None
        What each block of the ensemble would change (see `resampled_phonons`).
    refusal : str
        Why no Tc is quoted, whatever it would be.
    without : ndarray or None
        What potentials that each left out a part of the labels would change.
    deviations_of : str
        What `deviations` hold.
    """

    phonons: Phonons
    matrices: DynamicalMatrices
    deviations: np.ndarray | None = None
    refusal: str = ""
    without: np.ndarray | None = None
    deviations_of: str = "SSCHA ensemble"

    @property
    def anharmonic(self) -> bool:
        """Whether they come from an SSCHA."""
        return self.phonons.kind != "harmonic"


def _run(context: Context, folder: Path) -> Outcome:
    labels, config = label_folder(context), context.config.tc
    outcome, results = Outcome(), TcResults()
    if not labels.has_elph:
        reason = labels.why_no_elph
        outcome.add("tc", None, "K", reason)
        outcome.notes.append(f"No Tc: {reason}.")
        results.write(folder)
        return outcome
    name, own, elph, coarser = electron_phonon(labels, config.electron_phonon)
    measured, harmonic = harmonic_phonons(labels, name, own)
    outcome.add("elph_q_grid", "×".join(map(str, elph.dims)), "", f"q-grid of G(q), labels {name}")
    bands = electrons(labels, name, config.electronic_dos)
    leading: TcAnalysis | None = None
    kind = ""
    unconverged = k_refusal(labels, measured)
    if unconverged:
        outcome.notes.append(f"Every Tc rests on labels of which {unconverged}.")
    cases = list(_cases(context, harmonic, unconverged))
    carriers = Carriers.of_run(context, elph.dims)
    for case in _shown(cases):
        leads = leading is None or case.phonons.kind == kind
        try:
            found = analyse(
                case.phonons.label,
                elph,
                case.matrices,
                own,
                config if case.phonons.plain else replace(config, meshes=()),
                sigma_of=leading,
                coarser=coarser,
                deviations=case.deviations,
                deviations_of=case.deviations_of,
                without=case.without,
                dos=bands if leads else None,  # costly, and wanted for the phonons of interest
                carrier=carriers.carrying(case.matrices) if carriers and case.anharmonic else None,
            )
        except InputError as error:
            reason = f"{case.phonons.label}: no Tc: {error}"
            outcome.add(f"lambda.{case.phonons.name}", None, "", reason)
            outcome.notes.append(f"{reason}.")
            results.cases[case.phonons] = CaseResult(None, str(error))
            continue
        logger.info(
            "%s: λ = %.3f, ω_log = %.0f K",
            case.phonons.label,
            found.table.lambda_total,
            found.table.omega_log_k,
        )
        leading, kind = leading or found, kind or case.phonons.kind
        results.cases[case.phonons] = CaseResult(found, case.refusal)
    if leading is not None:
        text = f"{leading.sigma_source}; the same for all phonons of the run"
        outcome.add("sigma", leading.sigma_ry, "Ry", f"double-delta broadening: {text}")
    if context.config.gate.off():
        logger.info("switched off: %s", ", ".join(context.config.gate.off()))
    both = roads(results, context.config.q_grid, elph.dims, config.carrier)
    gate = outcome.gate = run_gate(context, labels, measured, leading, elph.dims, both)
    results = with_gap(results, both).refused(gate.refusal)
    if both is not None:
        through, finer = both.words
        for kind, (near, on) in both.lambdas.items():
            how = f"λ of {finer} ({on:.3f}) minus λ through {through} ({near:.3f}), {NAMES[kind]}"
            outcome.add(f"roads_gap.{kind}", on - near, "", how)
    quote(outcome, results, gate.mark)
    results.write(folder)
    return outcome


def _shown(cases: list[Case]) -> Iterator[Case]:
    """The cases one by one; log and terminal say which is on."""
    with ProgressBar("Tc", sys.stderr.isatty()) as bar:
        bar.begin(total=len(cases))
        for place, case in enumerate(cases):
            bar.update(place, note=case.phonons.label)
            logger.info("%s (%d of %d)", case.phonons.label, place + 1, len(cases))
            yield case
        bar.update(len(cases))


def _cases(context: Context, harmonic: DynamicalMatrices, unconverged: str) -> Iterator[Case]:
    """Every set of phonons; the one whose σ-plateau decides comes first."""
    from himlip_ase.sscha.results.result import load_result

    runs: list[tuple[str, Grid | None, Path]] = [("", None, context.of("sscha"))]
    runs += [(name, None, place) for name, place in isotope_folders(context).items()]
    runs += [("", grid, place) for grid, place in grid_folders(context).items()]
    for isotope, grid, place in runs:
        result = load_result(place)
        refusal = "" if result.converged else f"the SSCHA did not converge: {result.verdict}"
        # most interesting first: the Hessian if it is stable, else the auxiliary
        kinds = ["auxiliary"] if result.hessian is None else ["hessian", "auxiliary"]
        if result.hessian is not None and float(result.hessian.frequencies().min()) < -20.0:
            kinds.reverse()
        for kind in kinds:
            matrices = result.auxiliary if kind == "auxiliary" else result.hessian
            assert matrices is not None
            without = read_potential_error(place)
            yield Case(Phonons(kind, isotope, grid), matrices, deviations_of(result, kind), refusal, without)
        yield from _corrected_cases(place, result, refusal, isotope, grid)
        if grid is None:
            masses = result.auxiliary.primitive.get_masses()
            yield Case(Phonons("harmonic", isotope), harmonic.with_masses(masses), refusal=unconverged)


def _corrected_cases(
    place: Path, result: SschaResult, refusal: str, isotope: str, grid: Grid | None
) -> Iterator[Case]:
    """The auxiliary corrected by labelled cells, and the Hessian with the same correction.

    What third and fourth order add is the potential's in both Hessians; the noise of the Hessian is added to
    that of the corrected auxiliary as if it were independent.
    """
    found = corrected(place)
    if found is None:
        return
    auxiliary, deviations = found
    named = "SSCHA ensemble and labelled cells"
    if result.hessian is not None:
        change = auxiliary.matrices - result.auxiliary.matrices
        matrices = result.hessian.with_matrices(result.hessian.matrices + change)
        beyond = deviations_of(result, "hessian")
        both = deviations if beyond is None else joined_deviations(deviations, beyond)
        phonons = Phonons("hessian_corrected", isotope, grid)
        yield Case(phonons, matrices, both, refusal, deviations_of=named)
        if not phonons.plain:  # whose auxiliary says no more, and takes seconds
            return
    phonons = Phonons("auxiliary_corrected", isotope, grid)
    yield Case(phonons, auxiliary, deviations, refusal, deviations_of=named)


def quote(outcome: Outcome, results: TcResults, mark: str = "") -> None:
    """λ, ω_log and each Tc of every case with its error bar, or with the reason why there is none.

    Parameters
    ----------
    outcome : Outcome
        Receives the figures; each carries the key by which a program finds it.
    results : TcResults
    mark : str
        What the gate found beyond its limits; stands beside each Tc.
    """
    for phonons, case in results.cases.items():
        if case.analysis is not None:
            _quote_case(outcome, phonons, case, case.analysis, mark)
    for item in results.isotope_coefficients():
        what = f"−ln(Tc'/Tc)/ln(M'/M), {item.element}, {NAMES[item.kind]}, own SSCHA of each isotope"
        why = (
            "±: statistical noise of both ensembles, and of the potential where its twins tell it "
            "(σ, Γ and q-grid are the same for both)"
        )
        outcome.add(
            f"isotope_coefficient.{item.isotope}.{item.kind}.{item.method}.mu{mu_star_text(item.mu_star)}",
            item.value,
            "",
            f"{what}; {why}" if item.value is not None else f"{what}: {item.reason}",
            item.uncertainty,
            key={
                "quantity": "isotope_coefficient",
                "phonons": item.kind,
                "isotope": item.isotope,
                "method": item.method,
                "mu_star": item.mu_star,
            },
        )


def _quote_case(outcome: Outcome, phonons: Phonons, case: CaseResult, found: TcAnalysis, mark: str) -> None:
    name, table, label = phonons.name, found.table, found.label
    marked = f"; marked: {mark}" if mark else ""

    def add(
        quantity: str, value: float | None, unit: str, how: str, error: float | None = None, **key: Any
    ) -> None:
        of = {"quantity": quantity, **phonons.to_record(), **key}
        tail = f".{key['method']}.mu{mu_star_text(key['mu_star'])}" if key else ""
        outcome.add(f"{quantity}.{name}{tail}", value, unit, how, error, key=of)

    problems = "; ".join(problem.text for problem in table.problems)
    scope = f"stable modes only ({problems})" if problems else "all modes"
    how = f"2∫α²F/ω, {label}, {scope}; ±: {table.uncertainty_source}"
    add("lambda", _finite(table.lambda_total), "", how, table.lambda_uncertainty)
    add("omega_log", _finite(table.omega_log_k), "K", f"logarithmic mean, {label}, {scope}")
    for entry in table.results:
        key: dict[str, Any] = {"method": entry.method, "mu_star": entry.mu_star}
        what = f"{entry.method}, μ* = {entry.mu_star:g}, {label}"
        if isinstance(entry, NoTc) or case.refusal:
            reason = case.refusal or (entry.reason if isinstance(entry, NoTc) else "")
            add("tc", None, "K", f"{what}: no Tc: {reason}", **key)
            continue
        how = f"{what}; ±: {entry.uncertainty_source}{marked}"
        add("tc", entry.kelvin, "K", how, entry.uncertainty_kelvin, **key)
    for mu, kelvin in found.full_bandwidth.items():
        key = {"method": "eliashberg-dos", "mu_star": mu}
        what = f"Migdal–Eliashberg with N(ε), μ* = {mu:g}, {label}"
        if isinstance(kelvin, float) and np.isfinite(kelvin) and not case.refusal:
            add("tc", kelvin, "K", f"{what}; its uncertainty is that of a constant DOS{marked}", **key)
        else:
            add("tc", None, "K", f"{what}: no Tc: {case.refusal or kelvin}", **key)
    if found.gap is not None and not case.refusal:
        add(
            "two_delta_over_kTc",
            found.gap.ratio,
            "",
            f"non-linear Eliashberg equations, gap edge by Padé, μ* = {table.mu_stars[0]:g}, {label}",
        )
    if found.strain is not None:
        how = f"largest principal strain of the cell against that of G(q), {label}: {found.strain}"
        add("cell_strain", 100 * found.strain.largest, "%", how)
        how = f"V/V₀ − 1 against the cell of G(q), {label}; not recalculated: {', '.join(NOT_RECALCULATED)}"
        add("cell_volume_change", 100 * found.strain.volume, "%", how)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _inputs(context: Context) -> list[Any]:
    dos = context.config.tc.electronic_dos
    resolved, gate = context.config.resolved(), context.config.gate
    # what is younger than runs that are finished enters where it is not as it was before
    chosen = [] if gate == GateLimits() else [resolved["gate"]]
    for limit in resolved["gate"].values():
        if limit["unknown"] == "marked":
            del limit["unknown"]
    if context.config.tc.carrier == "dft":
        resolved["tc"].pop("carrier")
    return [resolved["tc"], *chosen, *([dos] if dos is not None else [])]


STAGE = Stage("tc", _run, _inputs)
