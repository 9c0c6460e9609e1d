"""Do the error bars of the learning loop cover?  A second potential in DFT's place, many seeds.

A model crystal (bonds with cubic and quartic terms on three shells) stands for DFT; what learns is linear in
its coefficients, has two shells and wrong bond lengths, so that it can never be right.  Two rounds of six
configurations are labelled, the first drawn from an older Gaussian; twins judge what the others learnt, and
frequencies, free energy and pressure are corrected as `himlip sscha learn` does it.  With
--without-twins also by the potential that learnt everything: what they are for.

python -m benchmarks.sscha.learning_coverage --seeds 60
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha.convergence.residual import frequency_changes
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.partial_ensemble import draw_ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.learn.agreement import agreement, honest_differences
from himlip_ase.sscha.learn.draws import Draw, LabelledDraw
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.sscha.minimisation.native_engine import NativeEngine
from himlip_ase.sscha.results.result import History, SschaResult
from himlip_ase.sscha.run.initial import positive_definite_start
from himlip_ase.sscha.settings import SschaSettings
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import _Averages, _of_difference
from himlip_ase.units import EV_PER_ANGSTROM3_GPA
from tests.sscha.toy import BondCrystal, cscl

RESULTS = Path(__file__).parents[1] / "results" / "sscha_learning_coverage.md"
DIMS = (1, 1, 2)
TRUTH = [(6.6, -23.0, 140.0, -0.02), (1.8, -5.0, 40.0, 0.02), (1.0, 0.0, 0.0, 0.0)]
SHELLS = 2
LABELLED, ENSEMBLE, MANY = 6, 200, 30_000
RIDGE = 1e-4


def crystal(shells: list[tuple[float, float, float, float]]) -> BondCrystal:
    """Bonds of a two-atom cubic cell, drawn out along z."""
    return BondCrystal(cscl(c=2.7), DIMS, shells)


class Learner:
    """Forces linear in spring, cubic and quartic constants of two shells at the ideal distances."""

    def __init__(self) -> None:
        units = np.eye(3 * SHELLS).reshape(3 * SHELLS, SHELLS, 3)
        self.parts = [crystal([(*unit[s], 0.0) for s in range(SHELLS)]) for unit in units]

    def rows(self, images: list[Atoms]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies (n, P), forces (n, N, 3, P) and stresses (n, 6, P) of unit coefficients."""
        found = [part(images) for part in self.parts]
        return tuple(  # type: ignore[return-value]
            np.stack([getattr(one, name) for one in found], axis=-1)
            for name in ("energies", "forces", "stresses")
        )


def fitted(groups: list[tuple[np.ndarray, np.ndarray]], scale: np.ndarray) -> np.ndarray:
    """Ridge regression of forces, of groups of (rows, forces)."""
    rows = np.concatenate([g[0] for g in groups]) / scale
    values = np.concatenate([g[1] for g in groups])
    gram = rows.T @ rows + RIDGE * len(values) * np.eye(rows.shape[1])
    return np.linalg.solve(gram, rows.T @ values) / scale


def predicted(rows: tuple[np.ndarray, np.ndarray, np.ndarray], head: np.ndarray) -> Evaluation:
    """What a head says."""
    return Evaluation(*(part @ head for part in rows))


def images_of(distribution: HarmonicDistribution, displacements: np.ndarray) -> list[Atoms]:
    """Supercells."""
    images = [distribution.supercell for _ in displacements]
    for image, moved in zip(images, displacements, strict=True):
        image.positions += moved
    return images


def finished(target: HarmonicDistribution, ensemble: Ensemble, group: SpaceGroup) -> SschaResult:
    """A run whose auxiliary is `target`; its own free energy and stress play no part."""
    shape = target.dynamical.frequencies().shape
    stress = NativeEngine().stress(ensemble, group, target)
    assert stress is not None
    nothing = History(**{f.name: np.zeros((0, shape[1])) for f in dataclasses.fields(History)})
    return SschaResult(
        settings=SschaSettings(n_blocks=20),
        converged=True,
        verdict="",
        auxiliary=target.dynamical,
        auxiliary_sigma_cm=np.zeros(shape),
        static_energy=0.0,
        free_energy=0.0,
        free_energy_sigma=0.0,
        stress=stress[0],
        stress_sigma=stress[1],
        hessian=None,
        hessian_sigma_cm=None,
        hessian_bias_cm=None,
        hessian_kong_liu=None,
        populations=[],
        populations_settled=True,
        history=nothing,
    )


def one(
    seed: int, target: HarmonicDistribution, older: HarmonicDistribution, group: SpaceGroup, honest: bool
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Value and error of every figure, {name: (values, errors)}."""
    truth, learner = crystal(TRUTH), Learner()
    labelled, groups, rows_of = [], [], []
    for k, drawn_from in enumerate((older, target)):
        moved = drawn_from.displacements(LABELLED, np.random.SeedSequence([seed, k]), pairs=True)
        draw = Draw(drawn_from, moved, np.arange(LABELLED), LABELLED)
        reference = truth(draw.images())
        labelled.append(LabelledDraw(draw, Evaluation(*vars(reference).values())))
        rows = learner.rows(draw.images()[:-1])
        rows_of.append(rows)
        for first in range(0, LABELLED, 2):
            pair = slice(first, first + 2)
            wanted = reference.forces[:-1][pair].ravel()
            groups.append((rows[1][pair].reshape(len(wanted), -1), wanted))
    scale = np.sqrt(np.mean(np.concatenate([g[0] for g in groups]) ** 2, axis=0))
    scale[scale == 0] = 1.0  # bonds of an atom to its own image pull at the cell alone
    whole = fitted(groups, scale)
    heads = [fitted(groups[:k] + groups[k + 1 :], scale) if honest else whole for k in range(len(groups))]
    centroids = learner.rows(labelled[-1].draw.images()[-1:])[0][0]
    ours = []
    for k, rows in enumerate(rows_of):
        parts = []
        for first in range(0, LABELLED, 2):
            head = heads[k * LABELLED // 2 + first // 2]
            own = predicted(tuple(part[first : first + 2] for part in rows), head)  # type: ignore[arg-type]
            parts.append(Evaluation(own.energies - centroids @ head, own.force_array, own.stresses))
        ours.append(Evaluation.concatenate(parts))
    mean_head = np.mean(heads, axis=0)
    moved = target.displacements(ENSEMBLE, np.random.SeedSequence([seed, 9]), pairs=True)
    images = [*images_of(target, moved), target.supercell]
    mean = predicted(learner.rows(images), mean_head)
    ensemble = Ensemble(
        target,
        moved,
        mean.energies[:-1],
        mean.force_array[:-1],
        mean.stresses[:-1],
        mean.energies[-1],
        1.0,
        1.0,
    )
    differences, stresses = honest_differences(target, labelled, ours)
    found = agreement(
        finished(target, ensemble, group), ensemble, mean, differences, stresses, group, LearnSettings()
    )
    c = found.corrections
    return {
        "frequencies": (c.frequencies_cm.ravel(), c.frequencies_sigma_cm.ravel()),
        "asked for": (c.gradient_cm.ravel(), c.gradient_sigma_cm.ravel()),
        "free energy": (np.array([1e3 * c.free_energy]), np.array([1e3 * c.free_energy_sigma])),
        "pressure": (np.array([found.pressure_gpa]), np.array([found.pressure_sigma_gpa])),
    }


def exact(target: HarmonicDistribution, group: SpaceGroup) -> dict[str, np.ndarray]:
    """The truth's averages over the target, by many configurations; what is linear is averaged exactly."""
    large = draw_ensemble(target, MANY, stream(1, 1), crystal(TRUTH))
    averages = _Averages(target, group)
    moved = averages.at_q(large.displacements)
    matrices = target.dynamical.matrices
    excess = averages.at_q(large.forces) + averages.product(matrices, moved)
    weights = np.full(MANY, 1 / MANY)
    change = averages.springs(moved, excess, weights)
    bent = large.energies - large.static_energy - averages.cells * averages.harmonic_energies(matrices, moved)
    hessian = target.dynamical.force_constants().hessian(order="ase").reshape(12, 12)
    pulled = large.forces + (large.displacements.reshape(MANY, 12) @ hessian).reshape(MANY, 4, 3)
    rest = _of_difference(averages, moved, bent, pulled, np.ones(MANY))
    stress = NativeEngine().stress(large, group, target)
    assert stress is not None
    return {
        "frequencies": target.dynamical.with_matrices(matrices + change).frequencies().ravel(),
        "asked for": frequency_changes(target, change).ravel(),
        "free energy": np.array([1e3 * (target.free_energy() + rest.energy)]),
        "pressure": np.array([-stress[0][:3].mean() * EV_PER_ANGSTROM3_GPA]),
    }


def measured(seeds: int, honest: bool = True) -> dict[str, np.ndarray]:
    """(value − exact) / error of every figure and seed.

    Parameters
    ----------
    seeds : int
    honest : bool
        Whether twins judge what the others learnt.

    Returns
    -------
    dict of str to ndarray
    """
    start = positive_definite_start(crystal([(6.0, -20.0, 120.0, 0.0), (2.0, -5.0, 40.0, 0.0)]).harmonic())[0]
    target = HarmonicDistribution(start)
    older = HarmonicDistribution(start.with_matrices(1.1 * start.matrices))
    group = SpaceGroup(start)
    wanted = exact(target, group)
    z: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for seed in range(seeds):
        for name, (values, errors) in one(seed, target, older, group, honest).items():
            moving = errors > 1e-6
            z[name].append((values - wanted[name])[moving] / errors[moving])
    return {name: np.concatenate(values) for name, values in z.items()}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--without-twins", action="store_true", help="also without twins: what they are for")
    arguments = parser.parse_args()
    seeds, every = arguments.seeds, [(True, "")]
    if arguments.without_twins:
        every.append((False, ", judged by the potential that learnt them"))
    began = time.process_time()
    lines = [
        "# Error bars of the learning loop: coverage",
        "",
        f"`python -m benchmarks.sscha.learning_coverage --seeds {seeds}`: a model crystal of three shells in "
        f"DFT's place, a potential of two shells with wrong bond lengths that learns {LABELLED} "
        f"configurations of an older Gaussian and {LABELLED} of the present one; ensembles of {ENSEMBLE}. "
        f"Exact values from {MANY} configurations of the truth. 68 and 95 % would be right.",
        "",
        "| | within 1σ | within 2σ | rms of error/σ |",
        "|---|---|---|---|",
    ]
    for honest, words in every:
        for name, z in measured(seeds, honest).items():
            one_sigma, two = (100 * (np.abs(z) < limit).mean() for limit in (1, 2))
            rms = np.sqrt((z**2).mean())
            lines.append(f"| {name}{words} | {one_sigma:.0f} % | {two:.0f} % | {rms:.2f} |")
            print(lines[-1], flush=True)
    lines += ["", f"{time.process_time() - began:.0f} CPU-seconds on one core."]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
