"""Are frequencies corrected by finished labels right within their error bars?  Many seeds.

The crystal, potential and twins of `benchmarks.sscha.potential_coverage`, whose bias no twin can tell.  The
labelled configurations are drawn from Gaussians whose Φ is that of the SSCHA times a factor, as older ones
are, and correct it as `himlip_ase.sscha.trust.label_correction` does.

python -m benchmarks.sscha.label_correction_coverage --seeds 40
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.sscha.learning_coverage import MANY, TRUTH, Learner, crystal, finished, images_of
from benchmarks.sscha.potential_coverage import LABELLED, SHARE, cross_fitted
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import change_of
from himlip_ase.sscha.trust.label_correction import Miss, label_correction

RESULTS = Path(__file__).parents[1] / "results" / "sscha_label_correction_coverage.md"
OLDER = (1.0, 1.5, 0.6)
"""Factors on Φ of the Gaussians that cells are drawn from."""


def measured(seeds: int, labelled: int, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Uncorrected − truth, corrected − truth and its error bar, for every frequency and seed, cm⁻¹."""
    start = positive_definite_start(crystal([(6.0, -20.0, 120.0, 0.0), (2.0, -5.0, 40.0, 0.0)]).harmonic())[0]
    target = HarmonicDistribution(start)
    older = HarmonicDistribution(start.with_matrices(factor * start.matrices))
    truth, learner, group = crystal(TRUTH), Learner(), SpaceGroup(start)
    large = draw_ensemble(target, MANY // SHARE, stream(1, 1), truth)
    rows_of_large = learner.rows(images_of(target, large.displacements))[1]
    even = np.ones(len(large))
    result = finished(target, large, group)
    before, missed, errors = [], [], []
    for seed in range(seeds):
        moved = older.displacements(labelled, np.random.SeedSequence([seed, 1]), pairs=True)
        images = images_of(target, moved)
        learnt = cross_fitted(truth, learner, images)
        whole, twins = learnt.whole, learnt.twins
        judged = zip(learnt.wanted, learnt.rows, learnt.fold_of, strict=True)
        honest = [Miss(forces - rows @ twins[fold]) for forces, rows, fold in judged]
        mean = np.mean(twins, axis=0) - whole
        shift = change_of(target, group, large.displacements, rows_of_large @ mean, even)
        found = label_correction(result, images, honest, shift)
        asked = change_of(target, group, large.displacements, large.forces - rows_of_large @ whole, even)
        right = start.with_matrices(start.matrices + asked).frequencies()
        moving = start.frequencies() > 1
        before.append((start.frequencies() - right)[moving])
        missed.append((found.auxiliary.frequencies() - right)[moving])
        errors.append(found.frequencies_sigma_cm[moving])
    return np.array(before), np.array(missed), np.array(errors)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    seeds = parser.parse_args().seeds
    began = time.process_time()
    lines = [
        "# Frequencies corrected by finished labels: coverage",
        "",
        f"`python -m benchmarks.sscha.label_correction_coverage --seeds {seeds}`: a model crystal of three "
        "shells in DFT's place, a potential of two shells with wrong bond lengths, which learns the labelled "
        "configurations; each of them is judged by a twin that did not learn it, and what all ask for "
        "corrects the auxiliary. They are drawn from a Gaussian whose Φ is that of the SSCHA times a factor. "
        "68 and 95 % would be right.",
        "",
        "| configurations | Φ drawn from | off uncorrected (rms, cm⁻¹) | off corrected | of it on average "
        "over the seeds | quoted ± | within 1σ | within 2σ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for labelled in LABELLED:
        for factor in OLDER:
            before, missed, errors = measured(seeds, labelled, factor)
            sizes = (before, missed, missed.mean(axis=0), errors)
            shown = " | ".join(f"{np.sqrt(np.mean(size**2)):.2f}" for size in sizes)
            cover = " | ".join(f"{100 * (np.abs(missed) < s * errors).mean():.0f} %" for s in (1, 2))
            lines.append(f"| {labelled} | {factor:g} Φ | {shown} | {cover} |")
            print(lines[-1], flush=True)
    lines += ["", f"{time.process_time() - began:.0f} CPU-seconds on one core."]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
