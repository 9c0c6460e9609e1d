"""Does the jackknife over twins tell a potential's own error in SSCHA frequencies?  Many seeds.

A model crystal (bonds with cubic and quartic terms on three shells) stands for DFT; what learns is linear in
its coefficients, has two shells and wrong bond lengths, so that it can never be right.  Each seed labels
other configurations.  What its twins ask for, on twenty configurations of the Gaussian, makes an error bar
(`himlip_ase.sscha.trust.potential_error`); what the truth asks for is known.

python -m benchmarks.sscha.potential_coverage --seeds 40
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from benchmarks.sscha.learning_coverage import MANY, TRUTH, Learner, crystal, fitted, images_of
from himlip_ase.jackknife import jackknife
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import change_of
from himlip_ase.sscha.trust.potential_error import CONFIGURATIONS
from tests.sscha.toy import BondCrystal

RESULTS = Path(__file__).parents[1] / "results" / "sscha_potential_coverage.md"
LABELLED = (8, 12, 24)
MOST_TWINS = 10
SHARE = 10
"""One of so many configurations of the truth is enough for the exact answer, with its linear part exact."""


@dataclass(frozen=True)
class Learnt:
    """What a learner makes of labelled configurations.

    Attributes
    ----------
    rows : ndarray, shape (n, N, 3, P)
        Forces of unit coefficients.
    wanted : ndarray, shape (n, N, 3)
        Forces of the truth, eV/Å.
    whole : ndarray, shape (P,)
        Coefficients from all configurations.
    twins : list of ndarray
        From all but one fold.
    fold_of : ndarray, shape (n,)
        Fold of each configuration; opposites share one.
    """

    rows: np.ndarray
    wanted: np.ndarray
    whole: np.ndarray
    twins: list[np.ndarray]
    fold_of: np.ndarray


def cross_fitted(truth: BondCrystal, learner: Learner, images: list[Atoms]) -> Learnt:
    """Coefficients from configurations in opposite pairs, and those of up to `MOST_TWINS` twins."""
    rows, wanted = learner.rows(images)[1], truth(images).forces
    pairs = [slice(k, k + 2) for k in range(0, len(images), 2)]
    groups = [(rows[p].reshape(-1, rows.shape[-1]), wanted[p].ravel()) for p in pairs]
    scale = np.sqrt(np.mean(np.concatenate([g[0] for g in groups]) ** 2, axis=0))
    scale[scale == 0] = 1.0
    number = min(MOST_TWINS, len(groups))
    folds = np.arange(len(groups)) % number
    twins = [
        fitted([g for g, own in zip(groups, folds, strict=True) if own != k], scale) for k in range(number)
    ]
    return Learnt(rows, wanted, fitted(groups, scale), twins, np.repeat(folds, 2))


def measured(seeds: int, labelled: int) -> tuple[np.ndarray, np.ndarray]:
    """(potential − truth) and its error bar for every frequency and seed, cm⁻¹."""
    start = positive_definite_start(crystal([(6.0, -20.0, 120.0, 0.0), (2.0, -5.0, 40.0, 0.0)]).harmonic())[0]
    target, truth, learner = HarmonicDistribution(start), crystal(TRUTH), Learner()
    group = SpaceGroup(start)
    large = draw_ensemble(target, MANY // SHARE, stream(1, 1), truth)
    rows_of_large = learner.rows(images_of(target, large.displacements))[1]
    missed, errors = [], []
    for seed in range(seeds):
        moved = target.displacements(labelled, np.random.SeedSequence([seed, 1]), pairs=True)
        learnt = cross_fitted(truth, learner, images_of(target, moved))
        whole, twins = learnt.whole, learnt.twins
        few = target.displacements(CONFIGURATIONS, np.random.SeedSequence([seed, 2]), pairs=True)
        rows = learner.rows(images_of(target, few))[1]
        even = np.ones(CONFIGURATIONS)
        changes = [change_of(target, group, few, rows @ (twin - whole), even) for twin in twins]
        found = [start.with_matrices(start.matrices + change).frequencies() for change in changes]
        asked = change_of(
            target, group, large.displacements, large.forces - rows_of_large @ whole, np.ones(len(large))
        )
        change = start.with_matrices(start.matrices + asked).frequencies() - start.frequencies()
        error = jackknife(np.array(found))
        moving = start.frequencies() > 1
        missed.append(-change[moving])
        errors.append(error[moving])
    return np.array(missed), np.array(errors)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    seeds = parser.parse_args().seeds
    began = time.process_time()
    lines = [
        "# The potential's own error: coverage of the jackknife over twins",
        "",
        f"`python -m benchmarks.sscha.potential_coverage --seeds {seeds}`: a model crystal of three shells "
        "in DFT's place, a potential of two shells with wrong bond lengths that learns configurations of the "
        f"Gaussian; up to {MOST_TWINS} twins. 68 and 95 % would be right. Scatter: standard deviation over "
        "the seeds, which is all that twins can tell; bias: rms of the mean over the seeds, what this "
        "potential cannot learn however much it is shown.",
        "",
        "| configurations learnt | scatter (cm⁻¹) | bias (cm⁻¹) | quoted ± (rms, cm⁻¹) "
        "| within 1σ | within 2σ | within 1σ, bias taken off | within 2σ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for labelled in LABELLED:
        missed, errors = measured(seeds, labelled)
        mean = missed.mean(axis=0)
        cover = [100 * (np.abs(m / errors) < s).mean() for m in (missed, missed - mean) for s in (1, 2)]
        sizes = [missed.std(axis=0, ddof=1), mean, errors]
        shown = " | ".join(f"{np.sqrt(np.mean(size**2)):.2f}" for size in sizes)
        lines.append(f"| {labelled} | {shown} | " + " | ".join(f"{c:.0f} %" for c in cover) + " |")
        print(lines[-1], flush=True)
    lines += ["", f"{time.process_time() - began:.0f} CPU-seconds on one core."]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
