"""The base model of hydrides: pre-training on labels of low fidelity, a test on cells put aside, its card.

Reads like the method section of a paper. ``--resume`` continues a stopped training to the bit on a CPU.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from himlip_ase.cli.app import clean_errors, configure_logging
from himlip_ase.hint.evaluation.error_tables import describe
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.hint.training.display import training_bar
from himlip_ase.hint.training.pretrain import pretrain
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.checkpoint import save_model

HYDRIDES = Path(__file__).parents[1] / "examples" / "hydrides"
NAME = "himlip-hydride-1"
CARD = {
    "name": NAME,
    "version": "1",
    "licence": "MIT",
    "description": "Hi-MLIP of hydrides, to fine-tune and for a first look: PBE (Quantum ESPRESSO "
    "6.7, SG15, 60 Ry, coarse k-points), energies, forces and stresses of H, S, Pd, Ca, La and Y cells, and "
    "some Hessians",
    "validity": "H-S, Ca-H, La-H, Y-H and H near 100 to 250 GPa, Pd-H near 0 GPa; crystals and disordered "
    "packings of these, no molecules, no other elements or mixtures of metals. Errors per system: see "
    "errors. Fine-tune it before quoting a phonon or a Tc.",
    "made_by": "python workflows/hydride_base.py",
}
SETS = ("coarse", "zero_point", "h3s_zero_point", "h3s_zero_point_8")
TEST_EVERY = 10
"""Every tenth cell of each file tests the model and nothing else."""


def split(frames: list[LabelledFrame]) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Cells to train on, and cells that test, in every stretch of the data alike."""
    test = frames[TEST_EVERY - 1 :: TEST_EVERY]
    return [f for k, f in enumerate(frames) if (k + 1) % TEST_EVERY], test


def read_set(name: str) -> list[LabelledFrame]:
    """Cells of one file of the hydride data."""
    return read_labels(HYDRIDES / "labels" / f"{name}.extxyz")


def hessians() -> list[HessianLabel]:
    """Hessians of the hydride data."""
    return [read_hessian(path) for path in sorted((HYDRIDES / "labels").glob("*/harmonic/dyn0"))]


def by_system(frames: list[LabelledFrame]) -> list[LabelledFrame]:
    """The same frames in sets named after the elements: H, HS, CaH and so on."""
    return [replace(f, set="".join(sorted(set(f.atoms.symbols)))) for f in frames]


def main() -> None:
    """Train, test, write the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/hydride_base"), help="(default: %(default)s)"
    )
    parser.add_argument("--config", type=Path, default=HYDRIDES / "base.yaml", help="network and training")
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    configure_logging()
    with clean_errors(arguments.debug):
        settings, network = read_training_config(arguments.config)
        training, test = [], []
        for name in SETS:
            kept, aside = split(read_set(name))
            training, test = training + kept, test + aside

        # Network and Hessian projections by stochastic gradients, from scratch.
        with training_bar(settings) as on_epoch:
            trained = pretrain(
                training, hessians(), settings, arguments.folder, network, resume=arguments.resume,
                on_epoch=on_epoch,
            )  # fmt: skip

        # Cells that it has not seen judge it.
        tested = evaluate_labels(trained.model, by_system(test))
        learnt = evaluate_labels(trained.model, [], hessians())
        summary = [f"test: {line}" for line in describe(tested)]
        summary += [f"learnt: {line}" for line in describe(learnt)]
        print("\n".join(summary))
        errors = {"test": tested.to_dict(), "learnt": learnt.to_dict()}
        card = {**trained.report, **CARD, "errors": errors, "summary": summary}
        path = save_model(trained.model, arguments.folder / f"{NAME}.safetensors", card, overwrite=True)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
