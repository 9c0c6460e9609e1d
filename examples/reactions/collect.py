"""All reactions that were found, in one file of labels and one list.

`reactions.h5` is read by `himlip_ase.labels.readers.read_labels`: every frame of every reaction coordinate
with its energy and forces, some with a Hessian, in sets named "training 0001", "validation 0002", "test
0003", so that trainings leave the latter two out. `reactions.json` says what each is: the frames that are
reactant, transition state and product, barriers, verdicts of all candidates, and what it cost.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.files import read_arrays, read_mapping, write_json
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.reactions import bond_graph
from himlip_ase.vibrations.normal_modes import normal_modes

SCHEMA = "himlip-reaction-set-1"
LABELS = Path(__file__).parent / "labels"
PARTS = TRAINING, VALIDATING, TESTING = "training", "validation", "test"
TEST, VALIDATION = 0.35, 0.07
"""Shares of the reactions, drawn by their keys: a reaction's part never changes while the set grows."""
LEAST_BARRIER = 0.02
"""eV; of either direction."""
ABOVE = 0.1
"""eV above the transition state that a frame beside the true path may lie."""
STILL_MINIMUM = 30.0
"""cm⁻¹; imaginary frequencies below it are what is left of the forces in soft modes between fragments."""
SAME_ENERGY, SAME_FREQUENCY = 2e-3, 3.0
"""eV, cm⁻¹: two transition states of one composition within both are one."""


def part_of(key: str) -> str:
    """Part of a reaction by its key."""
    share = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8  # keys themselves are not even
    return TESTING if share < TEST else VALIDATING if share < TEST + VALIDATION else TRAINING


@dataclass(frozen=True, eq=False)
class Known:
    """Reactions that another file holds, beside which further ones are written.

    Attributes
    ----------
    entries : list of dict
        Key, composition, energy (eV) and frequencies (cm⁻¹) of each transition state: what `_known` compares.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, labels: Path) -> Known:
        """The committed reactions."""
        listed = read_mapping(labels / "reactions.json")["list"]
        store = LabelStore(labels / "reactions.h5")
        entries = []
        for about in listed:
            saddle = store[about["transition_state"]]
            entries.append(
                {
                    "record": {"key": about["key"]},
                    "numbers": saddle.atoms.numbers,
                    "energies": np.array([saddle.energy]),
                    "saddle": 0,
                    "frequencies": normal_modes(saddle.atoms, saddle.hessian.matrix).frequencies,
                }
            )
        return cls(entries)

    @property
    def keys(self) -> set[str]:
        """Of all."""
        return {entry["record"]["key"] for entry in self.entries}

    @property
    def stem(self) -> str:
        """Name of the files that are written."""
        return "training_more" if self.entries else "reactions"


def collect(folder: Path, out: Path, known: Known) -> None:
    """Write the intended reactions of a folder, each once."""
    kept: list[dict[str, Any]] = []
    verdicts: dict[str, Counter] = {}
    left_out: Counter = Counter()
    seconds = 0.0
    for path in sorted(folder.glob("*/result.json")):
        record = read_mapping(path)
        verdicts.setdefault(record["kind"], Counter())[record["verdict"]] += 1
        seconds += record.get("cpu_seconds", 0.0)
        if record["verdict"] == "intended":
            entry = {"label": path.parent.name, "record": record, **read_arrays(path.parent / "reaction.npz")}
            reason = _unfit(entry) or _known(entry, known.entries + kept)
            left_out[reason] += 1
            if not reason:
                kept.append(entry)
    del left_out[""]
    first, listed = 0, []
    for number, entry in enumerate(kept, start=len(known.entries)):
        listed.append(_described(number, entry, first))
        first += len(entry["energies"])
    write_labels(
        out / f"{known.stem}.h5",
        (frame for about, entry in zip(listed, kept, strict=True) for frame in _frames(about["set"], entry)),
        overwrite=True,
    )
    statistics = {
        "reactions": dict(Counter(part_of(entry["record"]["key"]) for entry in kept)),
        "candidates": {kind: dict(sorted(counts.items())) for kind, counts in sorted(verdicts.items())},
        "left_out": dict(left_out),
        "cpu_seconds": round(seconds),
    }
    write_json(out / f"{known.stem}.json", {"schema": SCHEMA, **statistics, "list": listed}, True)
    size = (out / f"{known.stem}.h5").stat().st_size / 1e6
    print(f"{len(kept)} reactions, {statistics['reactions']}, {first} frames → {out}, {size:.2f} MB")
    print(f"  left out: {statistics['left_out']}")
    for kind, counts in statistics["candidates"].items():
        print(f"  {kind}: {counts}")


def _unfit(entry: dict[str, Any]) -> str:
    energies, saddle = entry["energies"], int(entry["saddle"])
    if not entry["record"]["irc"]["converged"]:
        return "an end is not relaxed"
    if energies[saddle] - max(energies[0], energies[-1]) < LEAST_BARRIER:
        return "no barrier"
    if energies.max() > energies[saddle] + ABOVE:
        return "the path rises above its transition state"
    for k in (0, -1):
        atoms = Atoms(entry["numbers"], entry["positions"][k])
        matrix = entry["hessians"][k].reshape(len(atoms), 3, len(atoms), 3)
        if normal_modes(atoms, matrix).frequencies[0] < -STILL_MINIMUM:
            return "an end is no minimum"
    return ""


def _known(entry: dict[str, Any], kept: list[dict[str, Any]]) -> str:
    saddle = int(entry["saddle"])
    for other in kept:
        if sorted(other["numbers"]) == sorted(entry["numbers"]):
            apart = abs(other["energies"][int(other["saddle"])] - entry["energies"][saddle])
            shift = np.abs(other["frequencies"] - entry["frequencies"]).max()
            if other["record"]["key"] == entry["record"]["key"] or (
                apart < SAME_ENERGY and shift < SAME_FREQUENCY
            ):
                return "found before"
    return ""


def _described(number: int, entry: dict[str, Any], first: int) -> dict[str, Any]:
    record, energies, saddle = entry["record"], entry["energies"], int(entry["saddle"])
    ends = [bond_graph(Atoms(entry["numbers"], entry["positions"][k])) for k in (0, -1)]
    part = part_of(record["key"])
    return {
        "set": f"{part} {number:04d}",
        "part": part,
        "name": f"{ends[0].formula} → {ends[1].formula}",
        "changes": ends[0].changes_to(ends[1]),
        "key": record["key"],
        "candidate": entry["label"],
        "kind": record["kind"],
        "frames": [first, first + len(energies)],
        "reactant": first,
        "transition_state": first + saddle,
        "product": first + len(energies) - 1,
        "barrier_ev": float(energies[saddle] - energies[0]),
        "reverse_barrier_ev": float(energies[saddle] - energies[-1]),
        "imaginary_frequency_cm": record["imaginary_frequency_cm"],
        "coordinates_sqrt_amu_angstrom": [round(float(s), 4) for s in entry["coordinates"]],
    }


def _frames(name: str, entry: dict[str, Any]) -> Iterator[LabelledFrame]:
    """Single precision suffices for all but energies: 1e-7 Å, and less space."""
    places = {int(frame): k for k, frame in enumerate(entry["hessian_frames"])}
    for k, energy in enumerate(entry["energies"]):
        atoms = Atoms(entry["numbers"], entry["positions"][k].astype(np.float32).astype(float))
        hessian = None
        if k in places:
            size = math.isqrt(entry["hessians"][places[k]].size) // 3
            matrix = entry["hessians"][places[k]].astype(np.float32).astype(float)
            hessian = HessianLabel(atoms.copy(), matrix.reshape(size, 3, size, 3), f"{name} {k}")
        forces = entry["forces"][k].astype(np.float32).astype(float)
        yield LabelledFrame(atoms, float(energy), forces, hessian=hessian, set=name)
