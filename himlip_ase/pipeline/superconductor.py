"""The ``tc`` stage: α²F, λ and Tc from DFT's G(q) with harmonic and with anharmonic phonons."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices, mass_reduced
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.stages import Context, Outcome, Stage, save_data
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, signed_frequencies_cm

if TYPE_CHECKING:
    from himlip_ase.superconductivity.elph_matrices import ElphMatrices
    from himlip_ase.superconductivity.plateau import SigmaPlateau
    from himlip_ase.superconductivity.spectrum import Spectrum

logger = logging.getLogger(__name__)

TABLES = "tc.json"
SPECTRA = "spectra.npz"
NAMES = {
    "harmonic": "DFT, harmonic",
    "auxiliary": "SSCHA auxiliary",
    "hessian": "free-energy Hessian",
}
"""The phonons that enter, and how the report calls them."""

NOISE_SAMPLES = 40


def _run(context: Context, folder: Path) -> Outcome:
    from himlip_ase.sscha.result import load_result

    labels = label_folder(context)
    outcome = Outcome()
    if not labels.has_elph:
        reason = "no electron-phonon matrices among the labels; `himlip label harmonic` writes them"
        outcome.add("tc", None, "K", reason)
        outcome.notes.append(f"No Tc: {reason}.")
        save_data(folder / TABLES, {})
        return outcome
    elph = labels.elph()
    sscha = load_result(context.of("sscha"))
    cases: dict[str, tuple[DynamicalMatrices, np.ndarray | None]] = {"harmonic": (labels.harmonic, None)}
    cases["auxiliary"] = (sscha.auxiliary, sscha.auxiliary_sigma_cm)
    if sscha.hessian is not None:
        cases["hessian"] = (sscha.hessian, sscha.hessian_sigma_cm)
    refusal = "" if sscha.converged else f"the SSCHA did not converge: {sscha.verdict}"
    tables: dict[str, Any] = {}
    spectra: dict[str, np.ndarray] = {}
    for key, (phonons, sigma_cm) in cases.items():
        spectrum, table = _one(
            context, outcome, elph, key, phonons, sigma_cm, refusal if key != "harmonic" else ""
        )
        spectra[f"{key}.energies_ev"], spectra[f"{key}.lambdas"] = spectrum.energies_ev, spectrum.lambdas
        tables[key] = table
    save_data(folder / TABLES, tables)
    np.savez_compressed(folder / SPECTRA, **spectra)  # type: ignore[arg-type]
    return outcome


def _one(
    context: Context,
    outcome: Outcome,
    elph: ElphMatrices,
    key: str,
    phonons: DynamicalMatrices,
    sigma_cm: np.ndarray | None,
    refusal: str,
) -> tuple[Spectrum, dict[str, Any]]:
    """Spectrum and table of one set of phonons; each Tc is quoted with its error bar or its reason."""
    from himlip_ase.superconductivity.plateau import (
        BootstrapTc,
        bootstrap_tc,
        sigma_plateau,
        with_sigma_spread,
    )
    from himlip_ase.superconductivity.spectral import mode_coupling
    from himlip_ase.superconductivity.tc import NoTc, Tc, tc_table

    config = context.config.tc
    plateau: SigmaPlateau | None = None
    if len(elph.sigma_ry) >= 3:
        plateau = sigma_plateau(elph, phonons, config.mu_star[0], gamma_weight=config.gamma_weight)
    sigma_ry = config.sigma_ry or (plateau.sigma_chosen_ry if plateau else None)
    spectrum = mode_coupling(elph, phonons, sigma_ry, config.gamma_weight).spectrum()
    table = tc_table(spectrum, config.mu_star, config.methods)
    noise: BootstrapTc | None = None
    if sigma_cm is not None and not spectrum.problems:
        samples = noisy_phonons(phonons, sigma_cm, NOISE_SAMPLES)
        noise = bootstrap_tc(elph, samples, config.mu_star, config.methods, sigma_ry, config.gamma_weight)
    name = NAMES[key]
    scope = "all modes" if not spectrum.problems else f"stable modes only ({'; '.join(table.problems)})"
    lambda_noise = [table.lambda_uncertainty, plateau.lambda_spread if plateau else None]
    lambda_noise.append(noise.lambda_std if noise else None)
    outcome.add(
        f"lambda.{key}",
        table.lambda_total,
        "",
        f"2∫α²F/ω, {name}, {scope}; uncertainty: weight of Γ, σ plateau and noise of the phonons",
        quadrature(lambda_noise),
    )
    outcome.add(f"omega_log.{key}", table.omega_log_k, "K", f"logarithmic mean, {name}, {scope}")
    entries = []
    for entry in table.results:
        figure = f"tc.{key}.{entry.method}.mu{entry.mu_star:.2f}"
        if isinstance(entry, Tc) and plateau is not None:
            entry = with_sigma_spread(entry, plateau)
        reason = refusal or (entry.reason if isinstance(entry, NoTc) else "")
        item: dict[str, Any] = {"method": entry.method, "mu_star": entry.mu_star}
        if reason or isinstance(entry, NoTc):
            outcome.add(figure, None, "K", f"no Tc: {reason}")
            entries.append(item | {"kelvin": None, "reason": reason})
            continue
        sources, parts = entry.uncertainty_source, [entry.uncertainty_kelvin]
        if noise is not None:
            match = [r for r in noise.results if (r.method, r.mu_star) == (entry.method, entry.mu_star)]
            if match and isinstance(match[0], Tc):
                parts.append(match[0].uncertainty_kelvin)
                sources += "; statistical noise of the phonons"
            elif match and isinstance(match[0], NoTc):
                outcome.notes.append(
                    f"Tc ({name}, {entry.method}, μ* = {entry.mu_star:g}): {match[0].reason}"
                )
        error = quadrature(parts)
        outcome.add(
            figure, entry.kelvin, "K", f"{entry.method}, μ* = {entry.mu_star:g}, {name}; ±: {sources}", error
        )
        entries.append(item | {"kelvin": entry.kelvin, "uncertainty": error, "sources": sources})
    if table.problems:
        outcome.notes.append(f"No Tc from phonons '{name}': {'; '.join(table.problems)}.")
    data = table.to_dict() | {"tc": entries}
    if plateau is not None:
        data["sigma"] = {
            "sigma_ry": plateau.sigma_ry.tolist(),
            "lambda": plateau.lambdas.tolist(),
            "found": plateau.found,
            "window_ry": list(plateau.window),
            "chosen_ry": sigma_ry,
        }
    return spectrum, data


def quadrature(parts: list[float | None]) -> float | None:
    """Root of the summed squares of the finite parts; None if there are none."""
    finite = [part for part in parts if part is not None and np.isfinite(part)]
    return float(np.sqrt(np.sum(np.square(finite)))) if finite else None


def noisy_phonons(
    phonons: DynamicalMatrices, sigma_cm: np.ndarray, samples: int, seed: int = 0, same_cm: float = 0.5
) -> list[DynamicalMatrices]:
    """Copies whose frequencies are moved by independent Gaussians of the given standard errors.

    Modes equal by symmetry move together: they are recognised by frequency and error within `same_cm`.

    Parameters
    ----------
    phonons : DynamicalMatrices
    sigma_cm : ndarray (nq, 3n)
        Standard errors of ``phonons.frequencies()``, cm⁻¹.
    samples : int
    seed : int
    same_cm : float

    Returns
    -------
    list of DynamicalMatrices
    """
    masses = phonons.primitive.get_masses()
    values, vectors = np.linalg.eigh(mass_reduced(phonons.matrices, masses))
    frequencies = signed_frequencies_cm(values)
    flat, errors = frequencies.ravel(), np.asarray(sigma_cm, dtype=float).ravel()
    order = np.argsort(flat, kind="stable")
    steps = (np.diff(flat[order]) > same_cm) | (np.abs(np.diff(errors[order])) > same_cm)
    group = np.empty(len(flat), dtype=int)
    group[order] = np.concatenate([[0], np.cumsum(steps)])
    roots = np.sqrt(np.repeat(masses, 3))
    outer = roots[:, None] * roots[None, :]
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(samples):
        moved = flat + errors * rng.normal(size=group.max() + 1)[group]
        reduced = np.sign(moved) * (moved / SQRT_EV_PER_ANGSTROM2_AMU_CM) ** 2
        blocks = np.einsum(
            "qim,qm,qjm->qij", vectors, reduced.reshape(values.shape), vectors.conj(), optimize=True
        )
        result.append(DynamicalMatrices(phonons.primitive, phonons.dims, phonons.qpoints, blocks * outer))
    return result


def _inputs(context: Context) -> list[Any]:
    return [context.config.resolved()["tc"]]


STAGE = Stage("tc", _run, _inputs)
