r"""The potential of examples/pdh/model: a wide head in closed form, and what it misses in cells not learnt.

    python examples/pdh/fit.py --learn learn
    python examples/pdh/fit.py --learn learn learn_second --out pdh.safetensors

Less than a minute on one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from himlip_ase.hint.evaluation.error_tables import describe
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings
from himlip_ase.hint.last_layer.cross_fit import SummedLabels
from himlip_ase.hint.last_layer.twin_weights import FEWEST, save_twins
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.checkpoint import save_model
from himlip_ase.sscha.learn.rounds import load_base
from himlip_ase.sscha.watch.independent_frames import grouped

HERE = Path(__file__).parent
LABELS = HERE / "labels"
COARSE = HERE.parent / "hydrides" / "labels" / "coarse.extxyz"
CARD = {
    "version": "2",
    "licence": "MIT",
    "validity": "PdH crystals near the rocksalt structure at 0 GPa: displacements as the SSCHA visits them "
    "at 0 K. Not for other pressures, compositions or molecules.",
    "made_by": "python examples/pdh/fit.py --learn learn learn_second --out pdh.safetensors",
}


def coarse_cells() -> list[LabelledFrame]:
    """Those of the base model's labels that hold Pd and H alone; energies of another k-mesh are left out."""
    frames = read_labels(COARSE)
    return [replace(one, energy=None) for one in frames if set(one.atoms.symbols) == {"Pd", "H"}]


def main() -> None:
    """Fit, judge, and write the model where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--learn", nargs="+", default=["learn"])
    parser.add_argument("--base", default="himlip-hydride-1")
    parser.add_argument(
        "--weigh-hessian", action="store_true", help="weight of the matrices by what cells say"
    )
    parser.add_argument("--out", type=Path, help="write the model there, with a card")
    given = parser.parse_args()
    coarse, hessian = coarse_cells(), read_hessian(LABELS / "harmonic")
    cells = [frame for name in given.learn for frame in read_labels(LABELS / f"{name}.extxyz")]
    base = load_base(given.base, [*cells, *coarse], [hessian])
    sums = SummedLabels(base, coarse, [hessian], ClosedFormSettings(head="wide"))
    for group in grouped(cells):
        sums.add(group)
    fitted = sums.fit(weigh_hessians=given.weigh_hessian)
    model = fitted.model
    parts = {
        "never learnt": evaluate_labels(model, list(read_labels(LABELS / "validation.extxyz"))),
        "learnt matrices": evaluate_labels(model, [], [hessian]),
    }
    summary = [f"{part}: {line}" for part, found in parts.items() for line in describe(found)]
    print("\n".join(summary))
    forces = parts["never learnt"].sets["validation"].pairs["forces"]
    missed = (forces[1] - forces[0]).reshape(-1, len(hessian.atoms), 3)
    is_hydrogen = np.array(hessian.atoms.get_chemical_symbols()) == "H"
    for element, own in (("H", is_hydrogen), ("Pd", ~is_hydrogen)):
        print(f"forces on {element}: {1e3 * np.sqrt(np.mean(missed[:, own] ** 2)):.0f} meV/Å")
    if given.out is not None:
        described = f"{len(cells)} 16-atom cells as an SSCHA draws them, coarse cells of Pd-H"
        card = {
            **CARD,
            "name": given.out.stem,
            "description": "Hi-MLIP of PdH, Fm-3m, near 0 GPa: the wide head of himlip-hydride-1 in closed "
            f"form on {described} and the harmonic Hessian (PBE, Quantum ESPRESSO 6.7, SG15, 60 Ry, "
            "Methfessel-Paxton 0.03 Ry)",
            "labels": {"cells of 16 atoms": len(cells), "coarse cells": len(coarse), "Hessians": 1},
            "errors": {part: found.to_dict() for part, found in parts.items()},
            "summary": summary,
        }
        print(f"wrote {save_model(model, given.out, card)}")
        if len(fitted.twins.without) >= FEWEST:
            print(f"wrote {save_twins(fitted.twins, given.out)}")


if __name__ == "__main__":
    main()
