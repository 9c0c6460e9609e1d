"""The potential of the hydrides, himlip-hydride-2: one training on all crystals, its twins, its card.

Reads like the method section of a paper. All weights of the base model learn, by gradients, what was labelled
of every crystal for its SSCHA, with the cells of low fidelity replayed beside; then a wide head is fitted in
closed form, so that harmonic phonons are those of the dynamical matrices. Both are done once with all cells
and once without each of a few parts of them: these twins tell how far the potential is off in what it has
not learnt.
``--resume`` continues a stopped training to the bit on a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from hydride_base import HYDRIDES, SETS, by_system, read_set, split

from himlip_ase.cli.app import clean_errors, configure_logging
from himlip_ase.hint.evaluation.error_tables import describe
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.last_layer.cross_fit import Twins
from himlip_ase.hint.last_layer.trained_twins import WIDTHS, Tuning, tune, tune_twin, twins_of
from himlip_ase.hint.last_layer.twin_weights import save_twins
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.potential.checkpoint import load_model, read_card, save_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.sscha.watch.independent_frames import grouped

NAME = "himlip-hydride-2"
BASE = "himlip-hydride-1"
FURTHER = "metal_zero_point"
"""Set of cells of CaH6 and LaH10 that no SSCHA drew; every twin learns them."""
TWINS = 4
"""Twins of the potential, each without that part of every crystal's cells."""
CARD = {
    "name": NAME,
    "version": "2",
    "licence": "MIT",
    "description": "Hi-MLIP of H3S, CaH6, LaH10 and PdH, and a base for other hydrides of H, S, Ca, Y, La "
    "and Pd (PBE, Quantum ESPRESSO 6.7, SG15, 60 Ry)",
    "validity": "H3S (Im-3m, 150 GPa), CaH6 (Im-3m, 172 GPa), LaH10 (Fm-3m, 150 GPa) and PdH (Fm-3m, 0 "
    "GPa): displacements as an SSCHA visits them at 0 K. H-S, Ca-H, La-H, Y-H, Pd-H and H in general as "
    "himlip-hydride-1: fine-tune it first. No molecules, no other elements or mixtures of metals.",
    "made_by": "python workflows/hydride_potential.py",
    "base": BASE,
    "head": {"kind": "wide", "noise": asdict(WIDTHS), "learnt": "the same cells, with their energies"},
}


@dataclass(frozen=True)
class Crystal:
    """What is labelled of one crystal.

    Parameters
    ----------
    name : str
        Of its folder among the examples.
    learnt, judges : tuple of str
        Sets of cells.
    matrices : tuple of str
        Folders of dynamical matrices that are learnt.
    """

    name: str
    learnt: tuple[str, ...]
    judges: tuple[str, ...]
    matrices: tuple[str, ...] = ("harmonic",)

    @property
    def labels(self) -> Path:
        """Their folder."""
        return HYDRIDES.parent / self.name / "labels"

    def frames(self, sets: Sequence[str]) -> list[LabelledFrame]:
        """Cells of some sets, which are called after the crystal."""
        found = [frame for name in sets for frame in read_labels(self.labels / f"{name}.extxyz")]
        return [replace(frame, set=f"{self.name} {frame.set}") for frame in found]

    def hessians(self) -> list[HessianLabel]:
        """What its dynamical matrices say."""
        found = [read_hessian(self.labels / name / "dyn") for name in self.matrices]
        return [replace(label, name=f"{self.name} {label.name}") for label in found]


CRYSTALS = (
    Crystal(
        "h3s",
        ("learn", "learn_second", "learn_third", "learn_quarter"),
        ("validation_first", "validation_second", "validation_quarter", "validation_sheared"),
    ),
    Crystal("cah6", ("learn", "learn_second"), ("validation",)),
    # its matrices are not converged in k, and say nothing that its cells do not
    Crystal("lah10", ("learn", "learn_second"), ("validation",), matrices=()),
    Crystal("pdh", ("learn", "learn_second"), ("validation",)),
)


def groups_in_parts(parts: int) -> Iterator[tuple[int, list[LabelledFrame]]]:
    """Cells of every crystal in groups of opposites, each with the part it belongs to."""
    for crystal in CRYSTALS:
        for number, group in enumerate(grouped(crystal.frames(crystal.learnt))):
            yield number % parts, list(group)


def foretold(groups: Sequence[Sequence[LabelledFrame]], twins: Twins) -> list[str]:
    """Forces of every learnt cell by the twin that has not learnt it, rms by set."""
    missed: dict[str, list[np.ndarray]] = {}
    size: dict[str, list[np.ndarray]] = {}
    for part, group in zip(twins.fold_of, groups, strict=True):
        found = evaluate(twins.without[part], [frame.atoms for frame in group]).forces
        for frame, forces in zip(group, found, strict=True):
            assert frame.forces is not None
            missed.setdefault(frame.set, []).append(forces - frame.forces)
            size.setdefault(frame.set, []).append(frame.forces)
    return [
        f"{name}, by the twin that has not learnt it: forces RMSE "
        f"{1e3 * np.sqrt(np.mean(np.concatenate(off) ** 2)):.0f} of "
        f"{1e3 * np.sqrt(np.mean(np.concatenate(size[name]) ** 2)):.0f} meV/Å, {len(off)} cells"
        for name, off in missed.items()
    ]


def main() -> None:
    """Train, judge, write the model and its twins."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/hydride_potential"), help="(default: %(default)s)"
    )
    parser.add_argument("--config", type=Path, default=HYDRIDES / "second.yaml", help="of the training")
    parser.add_argument(
        "--parts", type=int, nargs="+", choices=range(TWINS),
        help="train these twins alone and stop: a second process beside the first, both with --resume",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    configure_logging()
    with clean_errors(arguments.debug):
        settings, _ = read_training_config(arguments.config)
        coarse, test = [], []
        for name in SETS:
            kept, aside = split(read_set(name))
            coarse, test = coarse + kept, test + aside
        further, aside = split(read_set(FURTHER))
        # energies of cells and of what is replayed are of different smearings; forces say the same
        tuning = Tuning(
            load_model(BASE),
            settings,
            hessians=[label for crystal in CRYSTALS for label in crystal.hessians()],
            shared=further,
            replay=[replace(frame, energy=None) for frame in coarse],
            energies=False,
        )

        # All crystals at once, and without each part of their cells.
        parts, groups = zip(*groups_in_parts(TWINS), strict=True)
        found = {}
        for part in range(TWINS) if arguments.parts is None else arguments.parts:
            found[part] = tune_twin(groups, parts, part, tuning, arguments.folder, arguments.resume)
        if arguments.parts is not None:
            return
        twins = twins_of(groups, parts, [found[part] for part in range(TWINS)])
        every = [frame for group in groups for frame in group]
        model = tune(every, tuning, arguments.folder / "all", arguments.resume)

        # Cells that it has not seen judge it; matrices say how well it holds what it has.
        judged = [frame for crystal in CRYSTALS for frame in crystal.frames(crystal.judges)]
        errors = {
            "never learnt": evaluate_labels(model, judged),
            "low fidelity, never learnt": evaluate_labels(model, by_system(test)),
            f"{FURTHER}, never learnt": evaluate_labels(model, by_system(aside)),
            "learnt matrices": evaluate_labels(
                model, [], [h for crystal in CRYSTALS for h in crystal.hessians()]
            ),
        }
        summary = [f"{part}: {line}" for part, said in errors.items() for line in describe(said)]
        print("\n".join([*summary, *foretold(groups, twins)]))
        report = read_card(arguments.folder / "all" / "model.safetensors")
        card = {**report, **CARD, "errors": {part: said.to_dict() for part, said in errors.items()}}
        path = save_model(
            model, arguments.folder / f"{NAME}.safetensors", card | {"summary": summary}, overwrite=True
        )
        print(f"wrote {path} and {save_twins(twins, path, True, further)}")


if __name__ == "__main__":
    main()
