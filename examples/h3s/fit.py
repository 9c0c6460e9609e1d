r"""How well a wide head foretells forces of cells that it has not learnt: the table of labels/README.md.

    python examples/h3s/fit.py --hessian examples/h3s/labels_k12/harmonic/dyn --learn learn
    python examples/h3s/fit.py --hessian examples/h3s/labels/harmonic/dyn --learn learn learn_second

Three to ten minutes on one core. The model of the package:

    python examples/h3s/fit.py --hessian examples/h3s/labels/harmonic/dyn \
      --learn learn learn_second learn_third learn_quarter --out himlip-h3s-2.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.hint.evaluation.error_tables import describe
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings
from himlip_ase.hint.last_layer.cross_fit import SummedLabels
from himlip_ase.hint.last_layer.twin_weights import FEWEST, save_twins
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.labels.readers import open_labels, read_hessian, read_labels, without_judges
from himlip_ase.potential.checkpoint import save_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.network import HiMLIP
from himlip_ase.sscha.learn.rounds import load_base
from himlip_ase.sscha.watch.independent_frames import grouped

HERE = Path(__file__).parent
LABELS = HERE / "labels"
OLDER = HERE / "labels_k12"
REPLAY = HERE.parent / "hydrides" / "labels" / "h3s_zero_point_8.extxyz"
CARD = {
    "version": "2",
    "licence": "MIT",
    "description": "Hi-MLIP of H3S, Im-3m, around 150 GPa: the wide head of himlip-hydride-1 in closed form "
    "on 2x2x2 and 1x2x4 cells as an SSCHA draws them (PBE, Quantum ESPRESSO 6.7, SG15, 60 Ry, "
    "Methfessel-Paxton 0.05 Ry), older cells, and the harmonic Hessian of 24x24x24 k",
    "validity": "H3S crystals near the Im-3m structure at 150 GPa: displacements as the SSCHA visits them at "
    "0 K. Not for other pressures, compositions or molecules.",
    "made_by": "python examples/h3s/fit.py --hessian examples/h3s/labels/harmonic/dyn "
    "--learn learn learn_second learn_third learn_quarter --out himlip-h3s-2.safetensors",
}
JUDGES = (
    *(LABELS / f"validation_{name}.extxyz" for name in ("first", "second", "quarter", "sheared")),
    OLDER / "validation.extxyz",
)


def main() -> None:
    """Fit, and judge on every set of `JUDGES`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hessian", type=Path, action="append", default=[])
    parser.add_argument("--learn", nargs="+", default=["learn"])
    parser.add_argument("--base", default="himlip-hydride-1")
    parser.add_argument("--out", type=Path, help="write the model there, with a card")
    arguments = parser.parse_args()
    older = list(without_judges(open_labels([OLDER])))
    older += [replace(frame, energy=None) for frame in read_labels(REPLAY)]
    cells = [frame for name in arguments.learn for frame in read_labels(LABELS / f"{name}.extxyz")]
    hessians = [read_hessian(path) for path in arguments.hessian]
    base = load_base(arguments.base, cells + older, hessians)
    sums = SummedLabels(base, older, hessians, ClosedFormSettings(head="wide"))
    for group in grouped(cells):
        sums.add(group)
    # Matrices at full weight: forces left out are missed by 1.3 % more, frequencies by 5.5, not 39 cm⁻¹.
    fitted = sums.fit(weigh_hessians=False)
    model = fitted.model
    for path in JUDGES:
        frames = list(read_labels(path))
        forces = evaluate(model, [frame.atoms for frame in frames]).force_array
        missed = np.array([ours - frame.forces for ours, frame in zip(forces, frames, strict=True)])
        sulphur = np.array(frames[0].atoms.get_chemical_symbols()) == "S"
        parts = (missed, missed[:, ~sulphur], missed[:, sulphur])
        rms = [1e3 * float(np.sqrt(np.mean(part**2))) for part in parts]
        print(f"{path.stem}: {rms[0]:.0f} meV/Å (H {rms[1]:.0f}, S {rms[2]:.0f}), {len(frames)} cells")
    if arguments.out is not None:
        counts = {"cells of 32 atoms": len(cells), "other cells": len(older), "Hessians": len(hessians)}
        path = save_model(model, arguments.out, card_of(model, arguments.out.stem, hessians, counts))
        print(f"wrote {path}")
        if len(fitted.twins.without) >= FEWEST:
            print(f"wrote {save_twins(fitted.twins, path)}")


def card_of(
    model: HiMLIP, name: str, hessians: Sequence[HessianLabel], counts: Mapping[str, int]
) -> dict[str, Any]:
    """What stands beside the weights: errors on what was never learnt, and on the matrices that were."""
    parts = {
        "never learnt": evaluate_labels(model, [frame for path in JUDGES for frame in read_labels(path)]),
        "learnt matrices": evaluate_labels(model, [], hessians),
    }
    card = {**CARD, "name": name, "labels": dict(counts)}
    card["errors"] = {part: found.to_dict() for part, found in parts.items()}
    card["summary"] = [f"{part}: {line}" for part, found in parts.items() for line in describe(found)]
    return card


if __name__ == "__main__":
    main()
