"""Are frequencies and pressures corrected by finished labels right within their error bars?  Many seeds.

The crystal, potential and twins of `benchmarks.sscha.potential_coverage`, whose bias no twin can tell.  The
labelled configurations are drawn from Gaussians whose Φ is that of the SSCHA times a factor, as older ones
are, or half of them are of the primitive cell, and correct as `himlip_ase.sscha.trust.label_correction` does.

python -m benchmarks.sscha.label_correction_coverage --seeds 40
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from benchmarks.sscha.learning_coverage import DIMS, MANY, TRUTH, Learner, crystal, finished, images_of
from benchmarks.sscha.potential_coverage import LABELLED, SHARE, cross_fitted
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import change_of
from himlip_ase.sscha.trust.judged_cells import JudgedCell
from himlip_ase.sscha.trust.label_correction import label_correction
from himlip_ase.sscha.trust.potential_error import PotentialError
from himlip_ase.units import EV_PER_ANGSTROM3_GPA

RESULTS = Path(__file__).parents[1] / "results" / "sscha_label_correction_coverage.md"


@dataclass(frozen=True)
class Draw:
    """Where configurations come from.

    Attributes
    ----------
    factor : float
        On the Φ of the SSCHA.
    small : bool
        Whether half of them are of the primitive cell.
    """

    factor: float
    small: bool = False

    @property
    def name(self) -> str:
        """Of the column of the table."""
        return f"{self.factor:g} Φ" + (", half of them primitive cells" if self.small else "")

    def images(self, start: DynamicalMatrices, count: int, seed: int) -> tuple[list[Atoms], np.ndarray]:
        """Supercells in opposite pairs, and which of them repeat a primitive cell."""
        scaled = start.with_matrices(self.factor * start.matrices)
        large = HarmonicDistribution(scaled)
        number = 2 * (count // 4) if self.small else count
        moved = large.displacements(number, np.random.SeedSequence([seed, 1]), pairs=True)
        if self.small:
            gamma = DynamicalMatrices(scaled.primitive, (1, 1, 1), [[0, 0, 0]], scaled.matrices[:1])
            few = HarmonicDistribution(gamma)
            of_one = few.displacements(count - number, np.random.SeedSequence([seed, 2]), pairs=True)
            moved = np.concatenate([moved, np.tile(of_one, (1, int(np.prod(DIMS)), 1))])
        return images_of(large, moved), np.arange(count) >= number


FEWEST_MIXED = 16
"""Half of fewer are not the four pairs of supercells that a pressure needs."""
DRAWS = (Draw(1.0), Draw(1.5), Draw(0.6), Draw(1.0, small=True))


@dataclass(frozen=True)
class Found:
    """Uncorrected − truth, corrected − truth and its error bar, of every figure and seed."""

    before: np.ndarray
    missed: np.ndarray
    errors: np.ndarray

    def row(self) -> str:
        """Root mean squares and coverage."""
        sizes = (self.before, self.missed, self.missed.mean(axis=0), self.errors)
        shown = [f"{np.sqrt(np.mean(size**2)):.2f}" for size in sizes]
        cover = [f"{100 * (np.abs(self.missed) < s * self.errors).mean():.0f} %" for s in (1, 2)]
        return " | ".join(shown + cover)


def measured(seeds: int, labelled: int, draw: Draw) -> tuple[Found, Found]:
    """Of the frequencies, cm⁻¹, and of the pressure, GPa."""
    start = positive_definite_start(crystal([(6.0, -20.0, 120.0, 0.0), (2.0, -5.0, 40.0, 0.0)]).harmonic())[0]
    target = HarmonicDistribution(start)
    truth, learner, group = crystal(TRUTH), Learner(), SpaceGroup(start)
    large = draw_ensemble(target, MANY // SHARE, stream(1, 1), truth)
    _, forces, stresses = learner.rows(images_of(target, large.displacements))
    even = np.ones(len(large))

    def asked(beyond: np.ndarray) -> np.ndarray:
        return change_of(target, group, large.displacements, beyond, even)

    # everything is linear in the coefficients
    units = np.array([asked(forces[..., k]) for k in range(forces.shape[-1])])
    of_truth, pulled, own_pull = asked(large.forces), stresses.mean(axis=0), large.stresses.mean(axis=0)
    result = finished(target, large, group)
    moving, n = start.frequencies() > 1, len(start.primitive)
    frequencies: list[list[np.ndarray]] = []
    pressures: list[list[float]] = []
    for seed in range(seeds):
        images, is_small = draw.images(start, labelled, seed)
        learnt = cross_fitted(truth, learner, images)
        reference, stress_rows = truth(images).stresses, learner.rows(images)[2]
        cells = []
        for k, (image, fold) in enumerate(zip(images, learnt.fold_of, strict=True)):
            twin, size = learnt.twins[fold], n if is_small[k] else len(image)
            if is_small[k]:
                image = image[:n]
                image.cell[2] /= DIMS[2]
            missed = (learnt.wanted[k] - learnt.rows[k] @ twin)[:size]
            cells.append(JudgedCell(image, missed, reference[k] - stress_rows[k] @ twin, int(fold)))
        apart = np.array(learnt.twins) - learnt.whole
        twins = PotentialError(
            start, np.tensordot(apart, units, 1), np.zeros((len(apart), n, 3)), apart @ pulled.T, len(large)
        )
        found = label_correction(result, cells, twins)
        right = start.with_matrices(start.matrices + of_truth - np.tensordot(learnt.whole, units, 1))
        wanted, got = right.frequencies()[moving], found.auxiliary.frequencies()[moving]
        frequencies.append(
            [start.frequencies()[moving] - wanted, got - wanted, found.frequencies_sigma_cm[moving]]
        )
        beyond = -float((own_pull - pulled @ learnt.whole)[:3].mean()) * EV_PER_ANGSTROM3_GPA
        assert found.pressure_gpa is not None and found.pressure_sigma_gpa is not None
        pressures.append([-beyond, found.pressure_gpa - beyond, found.pressure_sigma_gpa])
    return tuple(Found(*np.array(part).swapaxes(0, 1)) for part in (frequencies, pressures))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    seeds = parser.parse_args().seeds
    began = time.process_time()
    head = [
        "",
        "| configurations | drawn from | off uncorrected (rms) | off corrected | of it on average over the "
        "seeds | quoted ± | within 1σ | within 2σ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    tables: list[list[str]] = [[], []]
    for labelled in LABELLED:
        for draw in DRAWS:
            if draw.small and labelled < FEWEST_MIXED:
                continue
            for rows, found in zip(tables, measured(seeds, labelled, draw), strict=True):
                rows.append(f"| {labelled} | {draw.name} | {found.row()} |")
                print(rows[-1], flush=True)
    lines = [
        "# Frequencies and pressure corrected by finished labels: coverage",
        "",
        f"`python -m benchmarks.sscha.label_correction_coverage --seeds {seeds}`: a model crystal of three "
        "shells in DFT's place, a potential of two shells with wrong bond lengths, which learns the labelled "
        "configurations; each of them is judged by a twin that did not learn it, and what all ask for "
        "corrects the auxiliary and the pressure. They come from a Gaussian whose Φ is that of the SSCHA "
        "times a factor. 68 and 95 % would be right.",
        "",
        "Frequencies, cm⁻¹:",
        *head,
        *tables[0],
        "",
        "Pressure, GPa:",
        *head,
        *tables[1],
        "",
        f"{time.process_time() - began:.0f} CPU-seconds on one core.",
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
