"""A wide head and all weights beside pypolymlp on the same cells of H3S: forces not learnt, and their cost.

    pip install pypolymlp        # needs a C++ compiler and Eigen3 (libeigen3-dev); for this benchmark only
    python -m benchmarks.sscha.polynomial_peer

All learn the older labels of H3S (`examples/h3s/labels_k12`, without the sets that judge) and a growing
number of 32-atom SSCHA cells (`examples/h3s/labels`). Ours have more: the harmonic matrices on 24³ k, which
pypolymlp cannot take, and a base model that knows coarser labels of other cells, which are replayed where all
its weights are trained (by gradients, as `workflows/hydride_potential.py` does). Judges are the cells of
`validation_first` and `validation_second`. pypolymlp 0.22: polynomials of pair invariants and polynomial
invariants to third order (model type 3), 5 Å, in three sizes; its ridge is the best of its own search on a
tenth of the labels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from benchmarks.engine_polynomial import ELEMENTS, SIZES, structure
from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, write_json
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings
from himlip_ase.hint.last_layer.cross_fit import SummedLabels
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.readers import of_elements, open_labels, read_hessian, read_labels, without_judges
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.interface import Potential
from himlip_ase.sscha.learn.rounds import load_base
from workflows.hydride_base import HYDRIDES, SETS, read_set

H3S = Path(__file__).parents[2] / "examples" / "h3s"
CELLS = H3S / "labels"
RESULTS = Path(__file__).parents[1] / "results"
NAME = "sscha_polynomial_peer"
LEARNT = ("learn", "learn_second", "learn_third")
EVERY = 12
"""Cells from one training of all weights to the next."""
FRAMES = 24000
"""Through which such a training goes, in steps of eight at most, whatever the number of cells."""


def judges() -> list[LabelledFrame]:
    """Cells that nobody learns."""
    return [
        frame
        for name in ("validation_first", "validation_second")
        for frame in read_labels(CELLS / f"{name}.extxyz")
    ]


def rms(forces: Sequence[np.ndarray], frames: Sequence[LabelledFrame]) -> list[float]:
    """Error of all forces, of hydrogen's and of sulphur's, meV/Å."""
    missed = np.concatenate([ours - frame.forces for ours, frame in zip(forces, frames, strict=True)])
    sulphur = np.concatenate([frame.atoms.numbers == 16 for frame in frames])
    return [1e3 * float(np.sqrt(np.mean(part**2))) for part in (missed, missed[~sulphur], missed[sulphur])]


def polynomial(
    frames: Sequence[LabelledFrame], size: dict[str, Any]
) -> tuple[list[np.ndarray], dict[str, float]]:
    """Forces on the judges after learning, and the cost."""
    from pypolymlp.calculator.properties import Properties
    from pypolymlp.mlp_dev.pypolymlp import Pypolymlp

    def columns(chosen: Sequence[LabelledFrame]) -> list[Any]:
        pairs = [structure(frame.atoms) for frame in chosen]
        return [
            [one for one, _ in pairs],
            np.array([frame.energy for frame in chosen]),
            [frame.forces[order].T for frame, (_, order) in zip(chosen, pairs, strict=True)],
            np.array(
                [-frame.atoms.get_volume() * voigt_6_to_full_3x3_stress(frame.stress) for frame in chosen]
            ),
        ]

    per_atom = float(np.mean([frame.energy / len(frame.atoms) for frame in frames]))
    fit = Pypolymlp()
    fit.set_params(
        elements=ELEMENTS, cutoff=5.0, model_type=3, max_p=2, gtinv_order=3,
        atomic_energy=(per_atom, per_atom), **size,
    )  # fmt: skip
    held = [frame for index, frame in enumerate(frames) if index % 10 == 9]
    kept = [frame for index, frame in enumerate(frames) if index % 10 != 9]
    names = ("structures", "energies", "forces", "stresses")
    given = {f"train_{name}": value for name, value in zip(names, columns(kept), strict=True)}
    given |= {f"test_{name}": value for name, value in zip(names, columns(held), strict=True)}
    begun = time.process_time()
    fit.set_datasets_structures(**given)
    fit.run()
    seconds = time.process_time() - begun
    with tempfile.TemporaryDirectory() as folder:
        fit.save_mlp(filename=f"{folder}/polymlp.yaml")
        properties = Properties(pot=f"{folder}/polymlp.yaml")
        found = []
        begun = time.process_time()
        for frame in judges():
            one, order = structure(frame.atoms)
            forces = np.empty((len(order), 3))
            forces[order] = properties.eval(one)[1].T
            found.append(forces)
        call = (time.process_time() - begun) / len(found)
    return found, {"seconds": seconds, "call_ms": 1e3 * call}


def all_weights(
    base: Potential,
    cells: Sequence[LabelledFrame],
    older: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
) -> Potential:
    """The base after a training of all its weights, 3000 to 4000 steps."""
    settings, _ = read_training_config(HYDRIDES / "second.yaml")
    settings = replace(settings, epochs=round(FRAMES / len(cells)))
    coarse = [frame for name in SETS for frame in read_set(name)]
    replay = of_elements([*older, *coarse], ELEMENTS)
    bare = [[replace(frame, energy=None) for frame in frames] for frames in (cells, replay)]
    return finetune(bare[0], hessians, base, settings, replay=bare[1]).model


def learners(most: int) -> list[dict[str, Any]]:
    """Rows of both, cell by cell."""
    older = list(without_judges(open_labels([H3S / "labels_k12"])))
    sets = (CELLS / f"{name}.extxyz" for name in LEARNT)
    cells = [frame for path in sets for frame in read_labels(path)][:most]
    hessians = [read_hessian(H3S / "labels" / "harmonic" / "dyn")]
    tested = judges()
    base = load_base("himlip-hydride-1", cells + older, hessians)
    sums = SummedLabels(base, older, hessians, ClosedFormSettings(head="wide"))
    rows = []
    for number in range(4, len(cells) + 1, 4):
        begun = time.process_time()
        for pair in range(number - 4, number, 2):
            sums.add(cells[pair : pair + 2])
        models = {"wide head": (sums.fit().model, time.process_time() - begun)}
        if number % EVERY == 0:
            begun = time.process_time()
            trained = all_weights(base, cells[:number], older, hessians)
            models["all weights"] = (trained, time.process_time() - begun)
        for how, (model, spent) in models.items():
            begun = time.process_time()
            forces = list(evaluate(model, [frame.atoms for frame in tested]).force_array)
            call = 1e3 * (time.process_time() - begun) / len(tested)
            rows.append(
                {"cells": number, "potential": f"himlip-hydride-1, {how}", "rms": rms(forces, tested)}
                | {"seconds": spent, "call_ms": call}
            )
            print(rows[-1], flush=True)
        for name, size in SIZES.items():
            forces, cost = polynomial([*older, *cells[:number]], size)
            row = {"cells": number, "potential": f"pypolymlp, {name}", "rms": rms(forces, tested)}
            rows.append(row | cost)
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Rows, a table and numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=int, default=1000, help="so many cells at most")
    given = parser.parse_args()
    try:
        import pypolymlp  # noqa: F401
    except ImportError as error:
        raise InputError(
            "pypolymlp is not installed; type: pip install pypolymlp (it needs a C++ compiler)"
        ) from error
    rows = learners(given.most)
    lines = [
        "| cells | potential | all | H | S | CPU s of learning | ms a call |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        costs = [f"{row['seconds']:.0f}", f"{row['call_ms']:.1f}"]
        cells = [str(row["cells"]), row["potential"], *(f"{value:.0f}" for value in row["rms"]), *costs]
        lines.append(f"| {' | '.join(cells)} |")
    text = [
        "# A wide head and all weights beside pypolymlp on the same cells of H3S",
        f"`python -m benchmarks.sscha.polynomial_peer --most {max(row['cells'] for row in rows)}`",
        "Force errors on five cells that nobody has learnt (rms, meV/Å). CPU seconds of "
        "learning: of all labels of a row; for the wide head, whose sums grow, of the cells that the row "
        "before had not.",
        "\n".join(lines),
    ]
    write_json(RESULTS / f"{NAME}.json", rows, overwrite=True)
    with atomic_write(RESULTS / f"{NAME}.md", overwrite=True) as stream:
        stream.write("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()
