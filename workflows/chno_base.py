"""The reaction potential himlip-chno-1: pre-training on GFN2-xTB paths, a test on unseen reactions, its card.

Reads like the method section of a paper. The labels are those of ``examples/reactions`` (made by its
``make_set.py``); displaced frames beside the paths are labelled here, which needs tblite. Trainings follow
each other: from scratch, then again and again from a higher learning rate, the statistics of the inputs kept;
the last ones learn the further reactions (``labels/training_more.h5``) as well.
``--resume`` continues a stopped training to the bit on a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from himlip_ase.cli.app import clean_errors, configure_logging
from himlip_ase.errors import CalculationError
from himlip_ase.hint.evaluation.error_tables import describe
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.hint.training.display import training_bar
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.pretrain import pretrain
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.molecules.xtb import GFN2
from himlip_ase.labels.readers import read_labels
from himlip_ase.labels.store import write_labels
from himlip_ase.potential.checkpoint import save_model

EXAMPLES = Path(__file__).parents[1] / "examples"
NAME = "himlip-chno-1"
CARD = {
    "name": NAME,
    "version": "1",
    "licence": "MIT",
    "description": "Hi-MLIP of reactions of small C, H, N, O molecules: GFN2-xTB energies, forces and "
    "Hessians along reaction paths and of displaced molecules, to fine-tune on DFT labels of a family",
    "validity": "Neutral molecules and fragments of C, H, N, O with paired electrons and up to about four "
    "heavy atoms, near minima and near paths of reactions like those learnt from. No ions, radicals, "
    "crystals or other elements, no long-range forces. On a CPU it costs what GFN2-xTB itself does: use that "
    "where GFN2-xTB is enough; this model is a start for DFT accuracy. Errors on reactions that it has not "
    "seen: see errors.",
    "made_by": "python workflows/chno_base.py",
    "base": "from scratch, eight trainings",
}
SETS = ("reactions", "training_more")
REFINEMENTS = ("second", "third", "fourth", "fifth", "sixth")
"""Folders of the trainings that follow the first, on the first set."""
WIDENED = ("seventh", "eighth")
"""Folders of those that follow, on both sets."""
SPREADS = (0.04, 0.08, 0.12)
"""Å; standard deviations of the displacements beside the paths."""
BESIDE_EVERY = 2
"""Every so many frames of a path have displaced neighbours."""
SADDLE_SPREADS = (0.03, 0.06, 0.09)
"""Å; displacements of the highest frame of every path, whose neighbours have Hessians as well."""
LARGEST_FORCE = 15.0
"""eV/Å; hotter displaced frames are left out, so that they do not rule the loss."""
LARGEST_GAP = 1.5
"""eV; between an energy and the work of the forces: beyond it another electronic state was found."""


def reactions(part: str, labels: str = SETS[0]) -> list[LabelledFrame]:
    """Frames of the reactions of one part: training, validation or test."""
    frames = read_labels(EXAMPLES / "reactions" / "labels" / f"{labels}.h5")
    return [frame for frame in frames if frame.set.startswith(part)]


def training_frames(labels: str, folder: Path, resume: bool) -> list[LabelledFrame]:
    """Paths of the training reactions of a set, and their displaced neighbours, labelled in the folder."""
    paths = reactions("training", labels)
    neighbours = folder / f"{labels}_beside.h5"
    if not (resume and neighbours.is_file()):
        write_labels(neighbours, beside(paths), overwrite=resume)
    return [*paths, *read_labels(neighbours)]


def displaced(
    frame: LabelledFrame, spread: float, rng: np.random.Generator, hessian: bool
) -> LabelledFrame | None:
    """A neighbour of a path frame with GFN2-xTB labels; None where it is hot or on another surface."""
    atoms = frame.atoms.copy()
    step = rng.normal(scale=spread, size=atoms.positions.shape)
    atoms.positions += step
    try:
        result = GFN2().calculate(atoms, hessian=hessian)
    except CalculationError:
        return None
    # Trapezoidal rule along the displacement: exact to third order on one surface.
    work = -0.5 * np.sum((frame.forces + result.forces) * step)
    if abs(result.energy - frame.energy - work) > LARGEST_GAP:
        return None
    if np.linalg.norm(result.forces, axis=1).max() > LARGEST_FORCE:
        return None
    matrix = None if result.hessian is None else HessianLabel(atoms, result.hessian, f"{frame.set} beside")
    return LabelledFrame(atoms, result.energy, result.forces, hessian=matrix, set=f"{frame.set} beside")


def beside(paths: list[LabelledFrame], seed: int = 0) -> Iterator[LabelledFrame]:
    """Displaced neighbours of path frames; those of each path's highest frame have Hessians."""
    rng = np.random.default_rng(seed)
    some = paths[::BESIDE_EVERY]
    jobs = [(frame, SPREADS[number % len(SPREADS)], False) for number, frame in enumerate(some)]
    highest = {frame.set: frame for frame in sorted(paths, key=lambda frame: frame.energy)}
    jobs += [(frame, spread, True) for frame in highest.values() for spread in SADDLE_SPREADS]
    for frame, spread, hessian in jobs:
        found = displaced(frame, spread, rng, hessian)
        if found is not None:
            yield found


def main() -> None:
    """Label, train, test, write the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/chno_base"), help="(default: %(default)s)")
    parser.add_argument(
        "--config", type=Path, default=EXAMPLES / "reactions" / "base.yaml", help="network and training"
    )
    parser.add_argument(
        "--refine", type=Path, default=EXAMPLES / "reactions" / "refine.yaml", help="second training"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    configure_logging()
    with clean_errors(arguments.debug):
        settings, network = read_training_config(arguments.config)
        again, _ = read_training_config(arguments.refine)
        training = training_frames(SETS[0], arguments.folder, arguments.resume)
        wide = [*training, *training_frames(SETS[1], arguments.folder, arguments.resume)]

        # Network and Hessian projections by stochastic gradients, from scratch.
        first = arguments.folder / "first"
        with training_bar(settings) as on_epoch:
            trained = pretrain(
                training, (), settings, first, network,
                resume=arguments.resume and first.is_dir(), on_epoch=on_epoch,
            )  # fmt: skip
        # Warm restarts: the same schedule again from the weights before it.
        for name, learnt in [(name, training) for name in REFINEMENTS] + [(name, wide) for name in WIDENED]:
            place = arguments.folder / name
            with training_bar(again) as on_epoch:
                trained = finetune(
                    learnt, base=trained.model, settings=again, folder=place,
                    resume=arguments.resume and place.is_dir(), on_epoch=on_epoch,
                )  # fmt: skip

        # Reactions that it has not seen judge it.
        tested = evaluate_labels(
            trained.model, [replace(f, set=part) for part in ("validation", "test") for f in reactions(part)]
        )
        summary = [f"unseen reactions: {line}" for line in describe(tested)]
        print("\n".join(summary))
        found = tested.to_dict()
        del found["hessians"]  # of each; their means stay
        card = {
            **trained.report,
            **CARD,
            "errors": {"unseen reactions": found},
            "summary": summary,
        }
        path = save_model(trained.model, arguments.folder / f"{NAME}.safetensors", card, overwrite=True)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
