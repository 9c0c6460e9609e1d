"""A family of reactions at ωB97X/6-31G(d) by an active loop: search, label, fine-tune, search again.

    python -m benchmarks.reactions.family --folder runs/family       # minutes; --resume goes on

Three hydrogen shifts over a chain of three heavy atoms, none of them learnt by himlip-chno-1 (its parts
"test" and "validation"). In every round the model searches minima and transition state of each reaction by
itself; ωB97X labels those of the three that are new, with Hessians, and where the transition state is new the
two path structures on either side of the top; the model is fine-tuned on all labels so far, from
himlip-chno-1. Nothing else is labelled. A structure is new where it differs from every labelled one of its
reaction and role by more than `NEAR`, a transition state by more than `SAME` where the barriers of model and
labels are more than 1 kcal/mol apart. A round's own judgement needs no further label: energy, forces and
Hessian of a structure near a stationary point give the stationary energy by a Newton step, E − ½ g·H⁻¹·g. The
loop ends when nothing is new, or before the labels exceed `MOST_LABELS`. The truth, asked for once at the end
and not counted: ωB97X's own searches, from the last structures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from benchmarks.reactions.tables import write_results
from benchmarks.reactions.unseen import ROLES, SETTINGS, reactions
from himlip_ase.cli.app import configure_logging
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import write_json
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.molecules.run import label_molecules
from himlip_ase.labels.molecules.wb97x import WB97X
from himlip_ase.labels.readers import read_labels
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.reactions import Surface, calculator_by_name, find_minimum, find_path, find_saddle
from himlip_ase.reactions.free_directions import FreeDirections

NAME = "reactions_family"
MEMBERS = ("test 0103", "validation 0200", "test 0049")
BASE = "himlip-chno-1"
LEVEL = WB97X(grid_level=2, density_fitting=True)
KCAL_EV = 0.0433641
MOST_LABELS, MOST_ROUNDS = 50, 12
NEAR, SAME = 0.1, 0.01
"""Å, largest change of a distance between two atoms."""
LONGEST = 0.3
"""Å along one mode."""
TRAINING = TrainingSettings(
    epochs=300, optimizer="soap", batch_size=4, hessian_batch=6, learning_rate=0.002, validation_fraction=0,
    validate_every=300, ema=0.99,
    loss=LossWeights(energy=2000, forces=100, stress=0, hessian=6, force_scale=5),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """Stationary points of one surface, and the structures beside the top of its path.

    Attributes
    ----------
    structures : dict of str to Atoms
        By role.
    barrier : float or None
        eV; None: no saddle of first order was found.
    tangent : ndarray (N, 3) or None
        The climbed direction.
    beside : tuple of Atoms
    """

    structures: dict[str, Atoms]
    barrier: float | None
    tangent: np.ndarray | None
    beside: tuple[Atoms, ...]


def on_model(model: Any, start: dict[str, Atoms]) -> Found:
    """What a model finds between the minima nearest to the given ones."""
    surface = Surface(start["reactant"], model)
    ends = [find_minimum(surface, start[role].positions.ravel()) for role in ("reactant", "product")]
    path = find_path(ends[0].atoms, ends[1].atoms, surface, SETTINGS.string)
    saddle = find_saddle(path.guess, surface, path.tangent, SETTINGS.saddle)
    good = saddle.converged and len(saddle.imaginary) == 1
    top = int(np.argmin([np.abs(image.positions - path.guess.positions).max() for image in path.images]))
    beside = tuple(path.images[index] for index in (top - 1, top + 1) if 0 < index < len(path.images) - 1)
    summit = saddle.atoms if good else path.guess  # the top of the path is worth a label, too
    structures = dict(zip(ROLES, (ends[0].atoms, summit, ends[1].atoms), strict=True))
    return Found(structures, saddle.energy - ends[0].energy if good else None, saddle.followed, beside)


def newton_energy(frame: LabelledFrame, climbed: int) -> float:
    """Energy at the stationary point nearest to a labelled structure, to second order in the way there.

    Up along the `climbed` softest modes, down along all others, by at most `LONGEST` in each: a soft mode of
    the wrong sign would lead anywhere.
    """
    assert frame.hessian is not None and frame.forces is not None and frame.energy is not None
    basis = FreeDirections(frame.atoms).basis(frame.atoms.positions.ravel())
    values, vectors = np.linalg.eigh(basis.T @ frame.hessian.matrix.reshape(2 * (frame.forces.size,)) @ basis)
    slopes = -vectors.T @ basis.T @ frame.forces.ravel()
    uphill = np.where(np.arange(len(values)) < climbed, 1.0, -1.0)
    steps = uphill * np.sign(slopes) * np.minimum(np.abs(slopes / values), LONGEST)
    return frame.energy + float(slopes @ steps + 0.5 * values @ steps**2)


def distance(first: Atoms, second: Atoms) -> float:
    """Largest change of a distance between two atoms, Å."""
    return float(np.abs(first.get_all_distances() - second.get_all_distances()).max())


def nearest(atoms: Atoms, kind: str, frames: Sequence[LabelledFrame]) -> LabelledFrame | None:
    """The labelled structure of that reaction and role that is most like `atoms`."""
    alike = [frame for frame in frames if frame.set == kind]
    return min(alike, key=lambda frame: distance(frame.atoms, atoms), default=None)


def is_new(atoms: Atoms, kind: str, frames: Sequence[LabelledFrame], limit: float) -> bool:
    """Whether no labelled structure of that reaction and role is like it."""
    known = nearest(atoms, kind, frames)
    return known is None or distance(known.atoms, atoms) > limit


def to_label(found: dict[str, Found], known: Sequence[LabelledFrame]) -> tuple[list[Atoms], list[Atoms]]:
    """Structures of a round that are new: for Hessians, and beside the top of a path."""
    stationary, beside = [], []
    for name, one in found.items():
        doubted = bool(known) and not agree(judged({name: one}, known)[0])
        limits = dict.fromkeys(ROLES, NEAR) | ({ROLES[1]: SAME} if doubted else {})
        fresh = [
            role
            for role, atoms in one.structures.items()
            if is_new(atoms, f"{name} {role}", known, limits[role])
        ]
        stationary += [_named(one.structures[role], f"{name} {role}") for role in fresh]
        if ROLES[1] in fresh:
            beside += [_named(atoms, f"{name} beside {index}") for index, atoms in enumerate(one.beside)]
    return stationary, beside


def agree(row: dict[str, Any]) -> bool:
    """Whether the barriers of model and labels are within 1 kcal/mol of each other."""
    return row["model"] is not None and abs(row["model"] - row["labels"]) < KCAL_EV


def _named(atoms: Atoms, kind: str) -> Atoms:
    named = atoms.copy()
    named.info = {"set": kind}
    return named


def labelled(stationary: list[Atoms], beside: list[Atoms], folder: Path, resume: bool) -> list[LabelledFrame]:
    """ωB97X labels of a round: Hessians at the stationary points, none beside the top."""
    frames: list[LabelledFrame] = []
    for hessian, structures in ((True, stationary), (False, beside)):
        path = folder / ("stationary.h5" if hessian else "beside.h5")
        if structures:
            label_molecules(structures, LEVEL, path, hessian, resume=resume)
            frames += read_labels(path)
    return frames


def judged(found: dict[str, Found], frames: Sequence[LabelledFrame]) -> list[dict[str, Any]]:
    """The model's barriers beside those of the labels nearest to its structures."""
    rows = []
    for name, one in found.items():
        first, top = (nearest(one.structures[role], f"{name} {role}", frames) for role in ROLES[:2])
        assert first is not None and top is not None and top.forces is not None
        rows.append(
            {
                "set": name,
                "model": one.barrier,
                "labels": newton_energy(top, 1) - newton_energy(first, 0),
                "largest_force": float(np.linalg.norm(top.forces, axis=1).max()),
            }
        )
    return rows


def truth(one: Found) -> float:
    """ωB97X's own barrier, from where the model's structures are."""
    surface = Surface(one.structures["reactant"], LEVEL)
    reactant = find_minimum(surface, one.structures["reactant"].positions.ravel(), hessian_every=10)
    saddle = find_saddle(one.structures["transition_state"], surface, one.tangent, SETTINGS.saddle)
    if not saddle.converged or len(saddle.imaginary) != 1:
        raise CalculationError(
            f"ωB97X finds no saddle of first order: {len(saddle.imaginary)} imaginary modes"
        )
    return saddle.energy - reactant.energy


def main() -> None:
    """Rounds until the barriers agree, then the truth."""
    parser = argparse.ArgumentParser(description="one family of reactions by the active loop")
    parser.add_argument("--folder", type=Path, default=Path("runs/family"), help="(default: %(default)s)")
    parser.add_argument("--base", default=BASE, help="name, or path of a .safetensors file")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the folder")
    given = parser.parse_args()
    configure_logging()
    model = calculator_by_name(given.base)
    start = {
        one.about["set"]: {role: one.frames[role].atoms for role in ROLES}
        for part in ("test", "validation")
        for one in reactions(part)
        if one.about["set"] in MEMBERS
    }
    labels: list[LabelledFrame] = []
    history: list[dict[str, Any]] = []
    found: dict[str, Found] = {}
    for number in range(1, MOST_ROUNDS + 1):
        place = given.folder / f"round_{number}"
        place.mkdir(parents=True, exist_ok=True)
        failed = {}
        for name in MEMBERS:
            try:
                found[name] = on_model(model, found[name].structures if name in found else start[name])
            except (CalculationError, InputError) as error:
                failed[name] = str(error)[:100]
                known = found[name].structures if name in found else start[name]
                found[name] = Found(known, None, None, ())
        stationary, beside = to_label(found, labels)
        within = len(labels) + len(stationary) + len(beside) <= MOST_LABELS
        if within:
            labels += labelled(stationary, beside, place, given.resume)
        rows = judged(found, labels)
        history.append({"round": number, "labels": len(labels), "rows": rows, "failed": failed})
        write_json(given.folder / "history.json", history, overwrite=True)
        print(number, len(labels), rows, failed, flush=True)
        if not (stationary and within):
            break
        family, folder = [replace(frame, set="family") for frame in labels], place / "model"
        finetune(
            family, base=load_model(given.base), settings=TRAINING, folder=folder,
            resume=given.resume and folder.is_dir(),
        )  # fmt: skip
        model = calculator_by_name(str(folder))
    true = {}
    for name, one in found.items():
        try:
            true[name] = truth(one)
        except CalculationError as error:
            print(f"{name}: {error}", flush=True)
    write(history, true)


def write(history: Sequence[dict[str, Any]], true: dict[str, float]) -> None:
    """Table and numbers."""
    table = []
    for entry in history:
        for row in entry["rows"]:
            own = true.get(row["set"])
            barriers = ["–" if one is None else f"{one:.3f}" for one in (row["model"], row["labels"], own)]
            errors = [
                "–" if own is None or row[kind] is None else f"{(row[kind] - own) / KCAL_EV:+.2f}"
                for kind in ("model", "labels")
            ]
            table.append([str(entry["round"]), str(entry["labels"]), row["set"], *barriers, *errors])
    columns = ["round", "labels so far", "reaction", "model", "labels", "truth", "model off", "labels off"]
    write_results(
        NAME,
        "One family of reactions at ωB97X/6-31G(d)",
        "python -m benchmarks.reactions.family",
        [(columns, table)],
        [
            "Barriers in eV, errors in kcal/mol. “Model”: at its own stationary points; a round's model has "
            "learnt the labels of the rounds before. “Labels”: ωB97X at the model's stationary points, "
            "with a Newton step. “Truth”: ωB97X's own searches from the last structures, not counted.",
        ],
        {"history": list(history), "truth_ev": true},
    )


if __name__ == "__main__":
    main()
