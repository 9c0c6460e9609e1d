"""The noise of an SSCHA ensemble carried into λ and Tc."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.jackknife import student
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.superconductivity import codec
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.coupling import GammaWeight, mode_coupling
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.methods import check_methods
from himlip_ase.superconductivity.tc import DEFAULT_MU_STAR, add_part, critical_temperature
from himlip_ase.superconductivity.tc_entries import NoTc, Tc, TcTable, entry_from_record
from himlip_ase.superconductivity.uncertainty import Kind, Part

FEWEST_FOR_QUANTILES = 50
"""Samples below which their middle 68 % say less than a standard deviation."""
WITHIN_ONE_SIGMA = math.erf(math.sqrt(0.5))
"""Share of a Gaussian within one standard deviation of its mean."""


def resampled_phonons(
    phonons: DynamicalMatrices, deviations: np.ndarray, samples: int, seed: int = 0
) -> list[DynamicalMatrices]:
    """Phonons of ensembles put together anew from the blocks of one, with replacement.

    Every element of Φ(q) moves with all others as it does from block to block, so that the correlations
    between modes and q-points, and the symmetry of the crystal, are kept.

    Parameters
    ----------
    phonons : DynamicalMatrices
        Of the whole ensemble.
    deviations : ndarray, shape (blocks, nq, 3n, 3n)
        What each block, taken alone, would change (eV/Å²); their mean is taken off. `jackknife_deviations`
        makes them from matrices that leave one block out.
    samples, seed : int

    Returns
    -------
    list of DynamicalMatrices

    Raises
    ------
    InputError
        Fewer than 4 blocks, or of another shape than the phonons.
    """
    deviations = np.asarray(deviations)
    if len(deviations) < 4 or deviations.shape[1:] != phonons.matrices.shape:
        raise InputError(
            f"deviations of shape {deviations.shape}; want at least 4 blocks of {phonons.matrices.shape}"
        )
    blocks = len(deviations)
    centred = deviations - deviations.mean(axis=0)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=samples)
    # the factor makes the variance that of a mean over independent blocks
    moved = np.tensordot(counts / np.sqrt(blocks * (blocks - 1)), centred, 1)
    return [
        DynamicalMatrices(phonons.primitive, phonons.dims, phonons.qpoints, phonons.matrices + change)
        for change in moved
    ]


def one_sigma(values: np.ndarray, samples: int | None = None) -> float:
    """Half the interval that holds the middle 68 % of many samples; of fewer than 50 the standard deviation.

    λ goes as 1/ω²: one soft sample in hundreds may make most of a standard deviation, and another seed has
    another one. Of a Gaussian both are the same.

    Parameters
    ----------
    values : ndarray, shape (n,)
        At least two.
    samples : int, optional
        How many there were before some gave no value; that of `values` by default.

    Returns
    -------
    float
    """
    if (samples or len(values)) < FEWEST_FOR_QUANTILES:
        return float(values.std(ddof=1))
    below, above = (1 - WITHIN_ONE_SIGMA) / 2, (1 + WITHIN_ONE_SIGMA) / 2
    return float(np.diff(np.quantile(values, [below, above]))[0]) / 2


def jackknife_deviations(deleted: np.ndarray) -> np.ndarray:
    """Deviations of single blocks from results (blocks, …) that leave one of them out each."""
    deleted = np.asarray(deleted)
    return -(len(deleted) - 1) * (deleted - deleted.mean(axis=0))


def spread_as_jackknife(phonons: DynamicalMatrices, deleted: np.ndarray) -> list[DynamicalMatrices]:
    """Phonons whose standard deviation is the jackknife's standard error of what leaves one part out each.

    Parameters
    ----------
    phonons : DynamicalMatrices
    deleted : ndarray, shape (parts, nq, 3n, 3n)
        What leaving each of equal parts out changes in them, eV/Å².

    Returns
    -------
    list of DynamicalMatrices
        One for each part, about `phonons`; of few parts wider by Student's t, as in
        `himlip_ase.jackknife.jackknife`.
    """
    m = len(deleted)
    factor = (m - 1) / np.sqrt(m) * np.sqrt(student(m))
    centred = factor * (deleted - deleted.mean(axis=0))
    return [phonons.with_matrices(phonons.matrices + change) for change in centred]


@dataclass(frozen=True)
class BootstrapTc:
    """Spread of the results over samples of the phonons.

    Attributes
    ----------
    lambda_mean, lambda_std : float
        Over the samples without imaginary modes; the second is `one_sigma`.
    results : tuple of Tc or NoTc
        One for each (μ*, method): the mean, with `one_sigma` as its uncertainty.
    samples, refused : int
        How many were given, and how many of them had imaginary modes or another reason for no Tc.
    kelvin : ndarray, shape (samples, n_results)
        Tc of each sample; nan where refused.
    """

    lambda_mean: float
    lambda_std: float
    results: tuple[Tc | NoTc, ...]
    samples: int
    refused: int
    kelvin: np.ndarray

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {
            "samples": self.samples,
            "without_tc": self.refused,
            "lambda_mean": codec.optional(self.lambda_mean),
            "lambda_std": codec.optional(self.lambda_std),
            "tc": [entry.to_record() for entry in self.results],
            "kelvin": [codec.column(row) for row in self.kelvin],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BootstrapTc:
        """What `to_record` wrote."""
        return cls(
            codec.number(record["lambda_mean"]),
            codec.number(record["lambda_std"]),
            tuple(entry_from_record(item) for item in record["tc"]),
            record["samples"],
            record["without_tc"],
            np.array([codec.array(row) for row in record["kelvin"]]),
        )


def bootstrap_tc(
    elph: ElphMatrices,
    samples: Sequence[DynamicalMatrices],
    mu_star: Sequence[float] = DEFAULT_MU_STAR,
    methods: Sequence[str] | None = None,
    sigma_ry: float | None = None,
    gamma_weight: GammaWeight = "counted",
    max_refused: float = 0.1,
    mu_star_at: float = 1.0,
) -> BootstrapTc:
    """Carry the statistical noise of the phonons into Tc.

    Parameters
    ----------
    elph : ElphMatrices
    samples : sequence of DynamicalMatrices
        For example free-energy Hessians from resampled SSCHA ensembles, on the grid of `elph`.
    mu_star, methods, sigma_ry, gamma_weight, mu_star_at
        As in `tc_table` and `mode_coupling`.
    max_refused : float
        Allowed fraction of samples without a Tc. Above it there is no Tc: leaving out the unstable samples
        would bias what is left.

    Returns
    -------
    BootstrapTc

    Raises
    ------
    InputError
        Fewer than two samples.
    """
    if len(samples) < 2:
        raise InputError(f"{len(samples)} samples; at least 2 are wanted for a spread")
    combinations = [(mu, method) for mu in mu_star for method in check_methods(methods)]
    kelvin = np.full((len(samples), len(combinations)), np.nan)
    lambdas = np.full(len(samples), np.nan)
    reasons: list[dict[str, int]] = [{} for _ in combinations]
    caveats: tuple[str, ...] = ()
    near: dict[int, float] = {}
    for row, phonons in enumerate(samples):
        spectrum = mode_coupling(elph, phonons, sigma_ry, gamma_weight).spectrum()
        caveats = spectrum.caveats
        if not spectrum.problems:
            lambdas[row] = spectrum.lambda_total
        for column, (mu, method) in enumerate(combinations):
            entry = critical_temperature(
                spectrum, mu, method, near_kelvin=near.get(column), mu_star_at=mu_star_at
            )
            if isinstance(entry, Tc):
                kelvin[row, column] = near[column] = entry.kelvin
            else:
                reasons[column][entry.reason] = reasons[column].get(entry.reason, 0) + 1
    results: list[Tc | NoTc] = []
    for column, (mu, method) in enumerate(combinations):
        good = kelvin[np.isfinite(kelvin[:, column]), column]
        lost = 1 - len(good) / len(samples)
        if lost > max_refused or len(good) < 2:
            reason = max(reasons[column], key=lambda text: reasons[column][text])
            results.append(NoTc(method, mu, f"{lost:.0%} of the samples have no Tc; most often: {reason}"))
            continue
        text = f"{_spread_name(len(samples))} of {len(good)} samples of the phonons"
        more = (f"{lost:.1%} of the samples had no Tc and were left out",) if lost else ()
        part = Part("samples", text, one_sigma(good, len(samples)))
        results.append(Tc(method, mu, float(good.mean()), (part,), caveats + more))
    stable = lambdas[np.isfinite(lambdas)]
    return BootstrapTc(
        float(stable.mean()) if len(stable) else float("nan"),
        one_sigma(stable, len(samples)) if len(stable) > 1 else float("nan"),
        tuple(results),
        len(samples),
        int(np.isnan(kelvin).any(axis=1).sum()),
        kelvin,
    )


def _spread_name(samples: int) -> str:
    few = samples < FEWEST_FOR_QUANTILES
    return "standard deviation" if few else "half the width of the middle 68 %"


def add_noise(table: TcTable, noise: BootstrapTc, name: str, kind: Kind = "ensemble") -> TcTable:
    """Add the spread over the samples as a source of uncertainty; what they have no Tc for loses its Tc.

    Parameters
    ----------
    table : TcTable
    noise : BootstrapTc
        Of the same formulas and μ*.
    name : str
        How the source of uncertainty is called.
    kind : str
        As in `uncertainty.Part`.

    Returns
    -------
    TcTable
    """
    refused = {(r.method, r.mu_star): r for r in noise.results if isinstance(r, NoTc)}
    spread = {(r.method, r.mu_star): r.parts[0].size for r in noise.results if isinstance(r, Tc)}
    table = add_part(table, kind, name, noise.lambda_std, spread)
    kept = tuple(refused.get((e.method, e.mu_star), e) if isinstance(e, Tc) else e for e in table.results)
    return replace(table, results=kept)
