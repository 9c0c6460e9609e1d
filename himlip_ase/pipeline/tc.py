"""The ``tc`` stage: α²F, λ and Tc from DFT's G(q) with harmonic and with anharmonic phonons, and isotopes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.labels import LabelFolder, label_folder
from himlip_ase.pipeline.sscha import grid_folders, isotope_folders
from himlip_ase.pipeline.stages import Context, Outcome, Stage, save_data
from himlip_ase.sscha.results.sampling_noise import deviations_of
from himlip_ase.superconductivity.analysis import analyse
from himlip_ase.superconductivity.formulas import isotope_coefficient
from himlip_ase.superconductivity.tc import NoTc, Tc
from himlip_ase.superconductivity.tc_analysis import TcAnalysis

if TYPE_CHECKING:
    from himlip_ase.sscha.results.result import SschaResult
    from himlip_ase.superconductivity.electron_bands import ElectronBands
    from himlip_ase.superconductivity.electronic_dos import ElectronicDos
    from himlip_ase.superconductivity.elph_matrices import ElphMatrices

logger = logging.getLogger(__name__)

TABLES = "tc.json"
SPECTRA = "spectra.npz"
NAMES = {
    "harmonic": "DFT, harmonic",
    "auxiliary": "SSCHA auxiliary",
    "hessian": "free-energy Hessian",
}
"""The phonons that enter, and how the report calls them."""


def name_of(key: str) -> str:
    """How the report calls a case: "hessian" or, with an isotope or a further grid, "hessian.D3S"."""
    kind, _, variant = key.partition(".")
    return NAMES[kind] + (f", {variant.replace('grid_', '').replace('x', '×')}" if variant else "")


@dataclass(frozen=True)
class Case:
    """One set of phonons.

    Attributes
    ----------
    key : str
        "harmonic", "auxiliary" or "hessian", with ".D3S" or ".grid_4x4x4" for an isotope or a further grid.
    phonons : DynamicalMatrices
        On the grid of the SSCHA, with the masses of the isotope.
    deviations : ndarray or None
        What each block of the ensemble would change (see `resampled_phonons`).
    refusal : str
        Why no Tc is quoted, whatever it would be.
    """

    key: str
    phonons: DynamicalMatrices
    deviations: np.ndarray | None = None
    refusal: str = ""


def _run(context: Context, folder: Path) -> Outcome:
    labels, config = label_folder(context), context.config.tc
    outcome = Outcome()
    if not labels.has_elph:
        reason = "no electron-phonon matrices among the labels; `himlip label harmonic` writes them"
        outcome.add("tc", None, "K", reason)
        outcome.notes.append(f"No Tc: {reason}.")
        save_data(folder / TABLES, {})
        return outcome
    name, harmonic, elph, coarser = electron_phonon(labels, config.electron_phonon)
    outcome.add("elph_q_grid", "×".join(map(str, elph.dims)), "", f"q-grid of G(q), labels {name}")
    options: dict[str, Any] = {
        "mu_star": config.mu_star,
        "methods": config.methods,
        "gamma_weight": config.gamma_weight,
        "mesh": config.mesh,
        "integration": config.integration,
        "samples": config.samples,
        "gap": config.gap,
    }
    bands = electrons(labels, name, config.electronic_dos)
    tables: dict[str, Any] = {}
    spectra: dict[str, np.ndarray] = {}
    done: dict[str, TcAnalysis] = {}
    leading: TcAnalysis | None = None
    kind = ""
    for case in _cases(context, harmonic):
        plain = "." not in case.key
        leads = leading is None or case.key.partition(".")[0] == kind
        try:
            found = analyse(
                name_of(case.key),
                elph,
                case.phonons,
                harmonic,
                sigma_ry=config.sigma_ry,
                sigma_of=leading,
                coarser=coarser,
                meshes=config.meshes if plain else (),
                deviations=case.deviations,
                dos=bands if leads else None,  # costly, and wanted for the phonons of interest
                **options,
            )
        except InputError as error:
            reason = f"{name_of(case.key)}: no Tc: {error}"
            outcome.add(f"lambda.{case.key}", None, "", reason)
            outcome.notes.append(f"{reason}.")
            continue
        leading, kind = leading or found, kind or case.key
        done[case.key] = found
        tables[case.key] = found.to_dict() | {"refusal": case.refusal}
        spectra[f"{case.key}.energies_ev"] = found.spectrum.energies_ev
        spectra[f"{case.key}.lambdas"] = found.spectrum.lambdas
        _quote(outcome, case, found)
    if leading is not None:
        text = f"{leading.sigma_source}; the same for all phonons of the run"
        outcome.add("sigma", leading.sigma_ry, "Ry", f"double-delta broadening: {text}")
    _isotopes(context, outcome, done, {key: table["refusal"] for key, table in tables.items()})
    save_data(folder / TABLES, dict(sorted(tables.items(), key=lambda item: _order(item[0]))))
    np.savez_compressed(folder / SPECTRA, **spectra)  # type: ignore[arg-type]
    return outcome


def _order(key: str) -> tuple[str, int]:
    kind, _, variant = key.partition(".")
    return variant, list(NAMES).index(kind)


def electron_phonon(
    labels: LabelFolder, name: str | None
) -> tuple[str, DynamicalMatrices, ElphMatrices, list[ElphMatrices]]:
    """The ph.x run whose G(q) is used, its phonons, and the G(q) of runs on coarser grids that it contains.

    Parameters
    ----------
    labels : LabelFolder
    name : str or None
        None: the run on the finest q-grid.
    """
    runs = {run: labels.coupled(run) for run in labels.elph_runs()}
    if name is not None and name not in runs:
        labels.coupled(name)  # says what there is
    chosen = name or max(runs, key=lambda run: int(np.prod(runs[run][1].dims)))
    harmonic, elph = runs[chosen]
    coarser = [
        other
        for run, (_, other) in runs.items()
        if run != chosen
        and other.dims != elph.dims
        and all(fine % coarse == 0 for fine, coarse in zip(elph.dims, other.dims, strict=True))
        and all(np.abs(elph.sigma_ry - s).min() < 1e-6 for s in other.sigma_ry)
        and len(other.sigma_ry) == len(elph.sigma_ry)
    ]
    return chosen, harmonic, elph, coarser


def electrons(labels: LabelFolder, run: str, path: Path | None) -> ElectronicDos | ElectronBands | None:
    """N(ε) of a given file, else of the band energies beside G(q); None where there is neither."""
    from himlip_ase.superconductivity.electron_bands import read_a2fsave
    from himlip_ase.superconductivity.electronic_dos import read_electronic_dos

    if path is not None:
        return read_electronic_dos(path)
    beside = labels.path / run / "a2Fsave.gz"
    return read_a2fsave(beside) if beside.is_file() else None


def _cases(context: Context, harmonic: DynamicalMatrices) -> Iterator[Case]:
    """Every set of phonons; the one whose σ-plateau decides comes first."""
    from himlip_ase.sscha.results.result import load_result

    runs = {"": context.of("sscha")}
    runs |= {f".{name}": place for name, place in isotope_folders(context).items()}
    runs |= {f".grid_{'x'.join(map(str, grid))}": place for grid, place in grid_folders(context).items()}
    for suffix, place in runs.items():
        result = load_result(place)
        refusal = "" if result.converged else f"the SSCHA did not converge: {result.verdict}"
        # most interesting first: the Hessian if it is stable, else the auxiliary
        kinds = ["auxiliary"] if result.hessian is None else ["hessian", "auxiliary"]
        if result.hessian is not None and float(result.hessian.frequencies().min()) < -20.0:
            kinds.reverse()
        for kind in kinds:
            yield _anharmonic(result, kind, suffix, refusal)
        if not suffix.startswith(".grid_"):
            yield Case(f"harmonic{suffix}", harmonic.with_masses(result.auxiliary.primitive.get_masses()))


def _anharmonic(result: SschaResult, kind: str, suffix: str, refusal: str) -> Case:
    phonons = result.auxiliary if kind == "auxiliary" else result.hessian
    assert phonons is not None
    return Case(f"{kind}{suffix}", phonons, deviations_of(result, kind), refusal)


def _quote(outcome: Outcome, case: Case, found: TcAnalysis) -> None:
    """λ, ω_log and each Tc with its error bar, or with the reason why there is none."""
    key, table, name = case.key, found.table, found.label
    scope = f"stable modes only ({'; '.join(table.problems)})" if table.problems else "all modes"
    how = f"2∫α²F/ω, {name}, {scope}; ±: {table.uncertainty_source}"
    outcome.add(f"lambda.{key}", _finite(table.lambda_total), "", how, table.lambda_uncertainty)
    outcome.add(f"omega_log.{key}", _finite(table.omega_log_k), "K", f"logarithmic mean, {name}, {scope}")
    for entry in table.results:
        figure = f"tc.{key}.{entry.method}.mu{entry.mu_star:.2f}"
        what = f"{entry.method}, μ* = {entry.mu_star:g}, {name}"
        if isinstance(entry, NoTc) or case.refusal:
            reason = case.refusal or (entry.reason if isinstance(entry, NoTc) else "")
            outcome.add(figure, None, "K", f"{what}: no Tc: {reason}")
            continue
        how = f"{what}; ±: {entry.uncertainty_source}"
        outcome.add(figure, entry.kelvin, "K", how, entry.uncertainty_kelvin)
    for mu, kelvin in found.full_bandwidth.items():
        figure, what = (
            f"tc.{key}.eliashberg-dos.mu{mu:.2f}",
            f"Migdal–Eliashberg with N(ε), μ* = {mu:g}, {name}",
        )
        if isinstance(kelvin, float) and np.isfinite(kelvin) and not case.refusal:
            outcome.add(figure, kelvin, "K", f"{what}; its uncertainty is that of a constant DOS")
        else:
            outcome.add(figure, None, "K", f"{what}: no Tc: {case.refusal or kelvin}")
    if found.gap is not None and not case.refusal:
        outcome.add(
            f"two_delta_over_kTc.{key}",
            found.gap.ratio,
            "",
            f"non-linear Eliashberg equations, gap edge by Padé, μ* = {table.results[0].mu_star:g}, {name}",
        )


def _isotopes(
    context: Context,
    outcome: Outcome,
    done: dict[str, TcAnalysis],
    refusals: dict[str, str],
) -> None:
    """α = −ln(Tc'/Tc)/ln(M'/M) from the isotope's own SSCHA, for the phonons that both have."""
    for isotope, masses in context.config.anharmonic.isotopes.items():
        for kind in ("hessian", "auxiliary"):
            light, heavy = done.get(kind), done.get(f"{kind}.{isotope}")
            if light is None or heavy is None or len(masses) != 1:
                continue
            (element,) = masses
            pair = (light.masses_amu[element], heavy.masses_amu[element])
            for entry in light.table.results:
                other = heavy.table.get(entry.method, entry.mu_star)
                name = f"isotope_coefficient.{isotope}.{kind}.{entry.method}.mu{entry.mu_star:.2f}"
                what = f"−ln(Tc'/Tc)/ln(M'/M), {element}, {NAMES[kind]}, own SSCHA of each isotope"
                refusal = refusals[kind] or refusals[f"{kind}.{isotope}"]
                if refusal or isinstance(entry, NoTc) or isinstance(other, NoTc):
                    outcome.add(name, None, "", f"{what}: {refusal or 'one of the two has no Tc'}")
                    continue
                value = isotope_coefficient(entry.kelvin, other.kelvin, *pair)
                noise = [_noise(item) / item.kelvin for item in (entry, other)]
                error = float(np.hypot(noise[0], noise[1])) / abs(float(np.log(pair[1] / pair[0])))
                how = (
                    f"{what}; ±: statistical noise of both ensembles (σ, Γ and q-grid are the same for both)"
                )
                outcome.add(name, value, "", how, error if error > 0 else None)


def _noise(entry: Tc) -> float:
    return sum(value for name, value in entry.parts if name.startswith("SSCHA"))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _inputs(context: Context) -> list[Any]:
    dos = context.config.tc.electronic_dos
    return [context.config.resolved()["tc"], *([dos] if dos is not None else [])]


STAGE = Stage("tc", _run, _inputs)
