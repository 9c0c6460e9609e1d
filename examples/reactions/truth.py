r"""Structures of the smallest reactions of the set, to be labelled with ωB97X/6-31G(d).

    python examples/reactions/truth.py --number 12 --out runs/truth.extxyz
    himlip label molecules runs/truth.extxyz --method wb97x --grid-level 2 --density-fitting \
        --out examples/reactions/labels/wb97x.h5

Reactant, transition state and product at GFN2-xTB's geometries, in sets named after the reaction of the set
("test 0003"), so that energies along one reaction are compared at the same structures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from himlip_ase.labels.store import LabelStore
from himlip_ase.structures import write_structures

LABELS = Path(__file__).parent / "labels"
ROLES = ("reactant", "transition_state", "product")


def main() -> None:
    """Write the structures."""
    parser = argparse.ArgumentParser(description="structures of the smallest reactions")
    parser.add_argument("--number", type=int, default=12, help="of reactions")
    parser.add_argument("--heavy", type=int, default=4, help="most heavy atoms")
    parser.add_argument("--out", type=Path, default=Path("runs/truth.extxyz"))
    arguments = parser.parse_args()
    listed = json.loads((LABELS / "reactions.json").read_text(encoding="utf-8"))["list"]
    store = LabelStore(LABELS / "reactions.h5")
    found = []
    for reaction in listed:
        frames = [store[reaction[role]] for role in ROLES]
        heavy = int((frames[0].atoms.numbers > 1).sum())
        if heavy <= arguments.heavy:
            found.append((heavy, len(frames[0].atoms), reaction, frames))
    found.sort(key=lambda item: (item[0], item[1], item[2]["key"]))
    structures = []
    for _, _, reaction, frames in found[: arguments.number]:
        for role, frame in zip(ROLES, frames, strict=True):
            atoms = frame.atoms.copy()
            atoms.info = {"set": reaction["set"], "key": reaction["key"], "role": role}
            structures.append(atoms)
        print(f"{reaction['set']}: {reaction['name']} ({reaction['changes']})")
    write_structures(arguments.out, structures, overwrite=False)
    print(f"{len(structures)} structures → {arguments.out}")


if __name__ == "__main__":
    main()
