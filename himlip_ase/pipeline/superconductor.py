"""The ``tc`` stage: α²F, λ and Tc from DFT's G(q) with harmonic and with anharmonic phonons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.phonons.dynamical_matrices import DynamicalMatrices, mass_reduced
from himlip_ase.pipeline.labels import label_folder
from himlip_ase.pipeline.stages import Context, Outcome, Stage, save_data
from himlip_ase.superconductivity.analysis import TcAnalysis, analyse
from himlip_ase.superconductivity.plateau import BootstrapTc, bootstrap_tc
from himlip_ase.superconductivity.tc import NoTc
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_CM, signed_frequencies_cm

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
    unconverged = "" if sscha.converged else f"the SSCHA did not converge: {sscha.verdict}"
    config = context.config.tc
    tables: dict[str, Any] = {}
    spectra: dict[str, np.ndarray] = {}
    for key, (phonons, sigma_cm) in cases.items():
        found = analyse(
            NAMES[key],
            elph,
            phonons,
            labels.harmonic,
            mu_star=config.mu_star,
            methods=config.methods,
            sigma_ry=config.sigma_ry,
            gamma_weight=config.gamma_weight,
        )
        noise = None
        if sigma_cm is not None and not found.spectrum.problems:
            samples = noisy_phonons(phonons, sigma_cm, NOISE_SAMPLES)
            noise = bootstrap_tc(
                elph, samples, config.mu_star, config.methods, found.sigma_ry, config.gamma_weight
            )
        tables[key] = found.to_dict()
        spectra[f"{key}.energies_ev"] = found.spectrum.energies_ev
        spectra[f"{key}.lambdas"] = found.spectrum.lambdas
        _quote(outcome, key, found, noise, "" if key == "harmonic" else unconverged)
    save_data(folder / TABLES, tables)
    np.savez_compressed(folder / SPECTRA, **spectra)  # type: ignore[arg-type]
    return outcome


def _quote(outcome: Outcome, key: str, found: TcAnalysis, noise: BootstrapTc | None, refusal: str) -> None:
    """λ, ω_log and each Tc with its error bar, or with the reason why there is none."""
    table, name = found.table, found.label
    scope = f"stable modes only ({'; '.join(table.problems)})" if table.problems else "all modes"
    plus = "; statistical noise of the phonons" if noise is not None else ""
    how = f"2∫α²F/ω, {name}, {scope}; ±: {table.uncertainty_source}{plus}"
    error = quadrature([table.lambda_uncertainty, noise.lambda_std if noise else None])
    outcome.add(f"lambda.{key}", _finite(table.lambda_total), "", how, error)
    outcome.add(f"omega_log.{key}", _finite(table.omega_log_k), "K", f"logarithmic mean, {name}, {scope}")
    sampled = {(r.method, r.mu_star): r for r in noise.results} if noise is not None else {}
    for entry in table.results:
        figure = f"tc.{key}.{entry.method}.mu{entry.mu_star:.2f}"
        what = f"{entry.method}, μ* = {entry.mu_star:g}, {name}"
        if isinstance(entry, NoTc) or refusal:
            reason = refusal or (entry.reason if isinstance(entry, NoTc) else "")
            outcome.add(figure, None, "K", f"{what}: no Tc: {reason}")
            continue
        sample = sampled.get((entry.method, entry.mu_star))
        if isinstance(sample, NoTc):
            outcome.add(figure, None, "K", f"{what}: no Tc: {sample.reason}")
            continue
        error = quadrature([entry.uncertainty_kelvin, sample.uncertainty_kelvin if sample else None])
        outcome.add(figure, entry.kelvin, "K", f"{what}; ±: {entry.uncertainty_source}{plus}", error)
    if table.problems:
        outcome.notes.append(f"No Tc from the phonons '{name}': {'; '.join(table.problems)}.")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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
