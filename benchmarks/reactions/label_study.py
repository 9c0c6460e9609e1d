"""Which labels make a reaction potential: how many, of which energies, with Hessians, pre-trained.

    python -m benchmarks.reactions.label_study --folder runs/label_study          # hours; --resume goes on
    python -m benchmarks.reactions.label_study --folder runs/label_study --only 0 5-top

The high level is GFN2-xTB, the cheap one for pre-training GFN1-xTB on all frames of the training reactions
(energies, forces, Hessians). From there each model learns a share of the frames with GFN2-xTB labels, drawn
from every training reaction by energy above its reactant: the highest, the lowest, or at random. "H" adds the
Hessians of those frames that have one in the set. All models have one network and one schedule; the number of
steps grows with the labels and is printed. Each is judged on the 67 test reactions: errors at the teacher's
stationary points, and whether its own saddle leads to the teacher's (as in `benchmarks.reactions.unseen`).
Pairs of models are compared reaction by reaction (McNemar's exact test).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.reactions.tables import write_results
from benchmarks.reactions.unseen import ROLES, SET, errors_of, mean_of, model_saddle, reactions, search
from himlip_ase.cli.app import configure_logging
from himlip_ase.hint.training.config import read_training_config
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.pretrain import pretrain
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.molecules.run import label_molecules
from himlip_ase.labels.molecules.xtb import GFN1
from himlip_ase.labels.readers import read_labels
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.reactions import calculator_by_name

CONFIG = SET.parent / "base.yaml"
NAME = "reactions_label_study"
BASE = "gfn1"
PRETRAINING_EPOCHS = 10
LEAST_STEPS, MOST_EPOCHS = 300, 12
"""A training has at least so many steps, in at most so many epochs."""


@dataclass(frozen=True)
class Recipe:
    """What one model learns.

    Attributes
    ----------
    name : str
    percent : int
        Of the frames of the training reactions.
    pick : str
        ``top``, ``bottom`` or ``random``.
    hessians : bool
        Whether Hessians of these frames are learnt.
    pretrained : bool
        Whether it begins with the model of GFN1-xTB.
    rate : float
        Of the base's learning rate. The model of all Hessians diverged at 0.5; it and its pair have less.
    """

    name: str
    percent: int
    pick: str = "random"
    hessians: bool = False
    pretrained: bool = True
    rate: float = 0.5


RECIPES = (
    Recipe("0", 0),
    Recipe("5-random", 5),
    Recipe("5-top", 5, "top"),
    Recipe("5-bottom", 5, "bottom"),
    Recipe("5-top-H", 5, "top", hessians=True),
    Recipe("20-top", 20, "top"),
    Recipe("20-bottom", 20, "bottom"),
    Recipe("20-top-H", 20, "top", hessians=True),
    Recipe("20-top-H-scratch", 20, "top", hessians=True, pretrained=False),
    Recipe("100", 100, rate=0.15),
    Recipe("100-H", 100, hessians=True, rate=0.15),
)
PAIRS = (
    ("5-top", "5-bottom", "high- against low-energy frames, few"),
    ("20-top", "20-bottom", "high- against low-energy frames"),
    ("5-top-H", "5-top", "with against without Hessians, few frames"),
    ("20-top-H", "20-top", "with against without Hessians"),
    ("100-H", "100", "with against without Hessians, all frames"),
    ("20-top-H", "20-top-H-scratch", "with against without pre-training"),
    ("100-H", "20-top-H", "all frames against a fifth"),
    ("20-top-H", "0", "a fifth against none"),
)


def training_frames() -> list[LabelledFrame]:
    """Frames of the training reactions, GFN2-xTB."""
    return [frame for frame in read_labels(SET / "reactions.h5") if frame.set.startswith("training")]


def cheap_frames(frames: Sequence[LabelledFrame], folder: Path, resume: bool) -> list[LabelledFrame]:
    """The same structures with GFN1-xTB labels, with Hessians where the set has them."""
    found: list[LabelledFrame] = []
    for hessian in (False, True):
        path = folder / f"gfn1{'_hessians' if hessian else ''}.h5"
        structures = []
        for frame in frames:
            if (frame.hessian is not None) == hessian:
                atoms = frame.atoms.copy()
                atoms.info = {"set": frame.set}
                structures.append(atoms)
        label_molecules(structures, GFN1(), path, hessian, resume=resume)
        found += read_labels(path)
    return found


def chosen(frames: Sequence[LabelledFrame], recipe: Recipe, seed: int = 0) -> list[LabelledFrame]:
    """The share of every reaction's frames, at least one of each."""
    rng = np.random.default_rng(seed)
    grouped: dict[str, list[LabelledFrame]] = defaultdict(list)
    for frame in frames:
        grouped[frame.set].append(frame)
    found: list[LabelledFrame] = []
    for group in grouped.values():
        number = max(1, round(recipe.percent * len(group) / 100))
        order = np.argsort([frame.energy for frame in group])
        picks = {"top": order[::-1], "bottom": order, "random": rng.permutation(len(group))}[recipe.pick]
        found += [group[index] for index in picks[:number]]
    return found if recipe.hessians else [replace(frame, hessian=None) for frame in found]


def schedule(settings: TrainingSettings, number: int, rate: float) -> TrainingSettings:
    """The base's settings with as many epochs as `number` frames need, at this share of its rate."""
    per_epoch = max(1, -(-number // settings.batch_size))
    epochs = min(MOST_EPOCHS, max(4, -(-LEAST_STEPS // per_epoch)))
    rate *= settings.learning_rate
    return replace(settings, epochs=epochs, learning_rate=rate, validate_every=epochs)


def trained(recipe: Recipe, folder: Path, resume: bool) -> tuple[Path, dict[str, Any]]:
    """Weights of a recipe's model, and what it cost."""
    place = folder / recipe.name
    if recipe.percent == 0:
        return folder / BASE / "model.safetensors", {"frames": 0, "hessians": 0, "steps": 0}
    settings, network = read_training_config(CONFIG)
    frames = chosen(training_frames(), recipe)
    settings = schedule(settings, len(frames), recipe.rate)
    resume = resume and place.is_dir()
    if recipe.pretrained:
        base = load_model(folder / BASE / "model.safetensors")
        finetune(frames, base=base, settings=settings, folder=place, resume=resume)
    else:
        pretrain(frames, (), replace(settings, epochs=3 * settings.epochs), place, network, resume=resume)
    cost = {
        "frames": len(frames),
        "hessians": sum(frame.hessian is not None for frame in frames),
        "steps": settings.epochs * -(-len(frames) // settings.batch_size) * (1 if recipe.pretrained else 3),
    }
    return place / "model.safetensors", cost


def base_model(folder: Path, resume: bool) -> None:
    """Pre-train on GFN1-xTB."""
    place = folder / BASE
    if (place / "model.safetensors").is_file() and resume:
        return
    settings, network = read_training_config(CONFIG)
    settings = replace(settings, epochs=PRETRAINING_EPOCHS)
    frames = cheap_frames(training_frames(), folder, resume)
    pretrain(frames, (), settings, place, network, resume=resume and place.is_dir())


def judged(recipe: Recipe, weights: Path, folder: Path) -> list[dict[str, Any]]:
    """Rows of the test reactions, each written down when it is done."""
    model = calculator_by_name(str(weights))
    path = folder / f"{recipe.name}.jsonl"
    done = {}
    if path.is_file():
        done = {row["set"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    for reaction in reactions("test"):
        if reaction.about["set"] in done:
            continue
        found = search(lambda one: model_saddle(model, one), reaction)
        row = {"set": reaction.about["set"], "barrier": reaction.about["barrier_ev"], "model": found}
        row |= errors_of(model, reaction)
        done[row["set"]] = row
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(recipe.name, row["set"], found, flush=True)
    return list(done.values())


def table_row(recipe: Recipe, cost: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    """One model in the table."""
    hessians = [float(np.mean([row[f"hessian_{role}"] for role in ROLES])) for row in rows]
    ends = [row["gibbs_product"] for row in rows if "gibbs_product" in row]
    saddles = [row["gibbs_transition_state"] for row in rows if "gibbs_transition_state" in row]
    barriers = [abs(row["model"]["barrier"] - row["barrier"]) for row in rows if row["model"]["own"]]
    own = sum(row["model"]["own"] for row in rows)
    return [
        recipe.name, str(cost["frames"]), str(cost["hessians"]), str(cost["steps"]), f"{own} of {len(rows)}",
        mean_of(hessians), mean_of(saddles), mean_of(ends), mean_of(barriers),
    ]  # fmt: skip


def compared(found: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Pairs of models, reaction by reaction."""
    lines = []
    for one, other, what in PAIRS:
        if one not in found or other not in found:
            continue
        mine, theirs = ({row["set"]: row["model"]["own"] for row in found[name]} for name in (one, other))
        shared = sorted(set(mine) & set(theirs))
        gained = sum(mine[name] and not theirs[name] for name in shared)
        lost = sum(theirs[name] and not mine[name] for name in shared)
        chance = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        lines.append([what, one, other, str(gained), str(lost), f"{chance:.2g}"])
    return lines


def main() -> None:
    """Train and judge the models, and write the tables."""
    parser = argparse.ArgumentParser(description="which labels make a reaction potential")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/label_study"), help="(default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=[recipe.name for recipe in RECIPES])
    parser.add_argument("--resume", action="store_true", help="go on with what is in the folder")
    given = parser.parse_args()
    configure_logging()
    base_model(given.folder, given.resume)
    found: dict[str, list[dict[str, Any]]] = {}
    table = []
    for recipe in RECIPES:
        if given.only and recipe.name not in given.only:
            continue
        weights, cost = trained(recipe, given.folder, given.resume)
        found[recipe.name] = judged(recipe, weights, given.folder)
        table.append(table_row(recipe, cost, found[recipe.name]))
        pairs = compared(found)
        columns = [
            "model", "frames", "Hessians", "steps", "teacher's saddle",
            "Hessian", "G of TS", "G of product", "barrier",
        ]  # fmt: skip
        write_results(
            NAME,
            "Which labels make a reaction potential",
            "python -m benchmarks.reactions.label_study",
            [(columns, table), (["question", "one", "other", "only one", "only other", "p"], pairs)],
            [
                "Names: percent of the training frames with GFN2-xTB labels, how drawn, H for their "
                "Hessians; all but scratch begin with a model of GFN1-xTB labels. Mean absolute errors ± "
                "standard error (how many): Hessians at the teacher's structures in eV/Å², Gibbs energies "
                "from the reactant's (298 K, 1 atm) and barriers of the model's own saddles in eV.",
                "“Teacher's saddle”: reactions whose transition state the teacher reaches from the model's.",
                "Pairs, reaction by reaction (McNemar's exact test): how many only the one or only the other "
                "solves.",
                "The learning rate is half of the base's; for the models of all frames, one of which "
                "diverged at that, 0.15 of it. A model that solves none diverged (history.csv in its "
                "folder): its pairs say nothing.",
            ],
            found,
        )


if __name__ == "__main__":
    main()
