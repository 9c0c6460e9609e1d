"""Which configurations of an ensemble are worth a label: random ones, or where the posterior is widest.

Copper by EMT in DFT's place, thermal supercells at 600 K, a small network whose head learns in closed form.
Each seed draws other candidates; counted is the force error on supercells that nobody chose.

python -m benchmarks.sscha.learning_choice --seeds 12
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from himlip_ase.hint.last_layer.closed_form_run import finetune_closed_form
from himlip_ase.hint.last_layer.cross_fit import SummedLabels
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.displacements import rattle
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.network import HiMLIPConfig
from himlip_ase.sscha.ensembles.sampling import draw_configurations
from himlip_ase.sscha.learn.choosing import least_known

RESULTS = Path(__file__).parents[1] / "results" / "sscha_learning_choice.md"
DIMS = (2, 2, 2)
LABELLED, CANDIDATES, JUDGES = 8, 40, 24
NETWORK = HiMLIPConfig(
    ("Cu",), cutoff=4.2, n_radial=4, channels=4, edge_features=2, hidden=16, layers=2, bond_degree=1
)


def labelled(atoms: Atoms) -> LabelledFrame:
    """By EMT."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    return LabelledFrame(
        atoms.copy(), atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(), set="pool"
    )


def measured(seeds: int) -> dict[str, np.ndarray]:
    """Force error (meV/Å) on unseen supercells, {way to choose: one for each seed}.

    Parameters
    ----------
    seeds : int

    Returns
    -------
    dict
    """
    primitive = bulk("Cu", a=3.6)
    base = [labelled(atoms) for atoms in rattle(primitive.repeat(DIMS), 4, 0.1, 1)]
    model = finetune_closed_form(
        base, settings=TrainingSettings(validation_fraction=0), network=NETWORK
    ).model
    matrices = harmonic_force_constants(primitive, EMT(), DIMS).dynamical_matrices()
    sums = SummedLabels(model, base)
    before = sums.fit()
    found: dict[str, list[float]] = {
        "nothing learnt": [],
        "random": [],
        "half by posterior": [],
        "posterior": [],
    }
    for seed in range(seeds):
        pool = draw_configurations(matrices, CANDIDATES + JUDGES, 600.0, seed)
        candidates, judges = pool[:CANDIDATES], [labelled(atoms) for atoms in pool[CANDIDATES:]]
        widest = least_known(before.model, before.posterior, candidates, LABELLED).tolist()
        half = list(range(LABELLED // 2))
        rest = [k for k in range(CANDIDATES) if k not in half]
        more = least_known(before.model, before.posterior, [candidates[k] for k in rest], LABELLED // 2)
        chosen = {
            "nothing learnt": [],
            "random": list(range(LABELLED)),
            "half by posterior": [*half, *(rest[int(k)] for k in more)],
            "posterior": widest,
        }
        for name, rows in chosen.items():
            sums.groups = []
            for row in rows:
                sums.add([labelled(candidates[row])])
            fitted = sums.fit().model if rows else before.model
            ours = evaluate(fitted, [frame.atoms for frame in judges])
            wanted = np.array([frame.forces for frame in judges])
            found[name].append(1e3 * float(np.sqrt(((ours.force_array - wanted) ** 2).mean())))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    seeds = parser.parse_args().seeds
    began = time.process_time()
    found = measured(seeds)
    lines = [
        "# Learning loop: which configurations are worth a label",
        "",
        f"`python -m benchmarks.sscha.learning_choice --seeds {seeds}`: Cu by EMT, 8 atoms, 600 K; "
        f"{LABELLED} of {CANDIDATES} learnt, force error on {JUDGES} others. ± is the error of the mean over "
        "seeds; the ratio to random is of the same seed.",
        "",
        "| chosen | force error (meV/Å) | ratio to random |",
        "|---|---|---|",
    ]
    for name, values in found.items():
        ratio = values / found["random"]
        error, spread = (v.std(ddof=1) / np.sqrt(len(v)) for v in (values, ratio))
        share = "" if name == "random" else f"{ratio.mean():.3f} ± {spread:.3f}"
        lines.append(f"| {name} | {values.mean():.1f} ± {error:.1f} | {share} |")
        print(lines[-1], flush=True)
    lines += ["", f"{time.process_time() - began:.0f} CPU-seconds on one core."]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
