"""Reactions of small CHNO molecules, enumerated by bond changes, found and verified at GFN2-xTB.

    python examples/reactions/make_set.py --folder runs/reaction_set --minutes 60
    python examples/reactions/make_set.py --folder runs/reaction_set --collect examples/reactions/labels

    python examples/reactions/make_set.py --folder runs/more --more --lewis 4 --atoms 12 --minutes 60
    python examples/reactions/make_set.py --folder runs/more --more --collect examples/reactions/labels

Molecules: `lewis.py`. Bond changes: `bond_changes.py`. The bonds that change are driven, and the product is
what the structure then relaxes to, whether or not it has the bonds that were asked for. A transition state
that leads elsewhere gives a further candidate: its ends are taken as reactant and product, and the search is
run again from them alone. Each candidate is kept as soon as it is judged, so that a run may be stopped and
begun again. The order is random with a fixed seed. With `--more`, what the committed list has is
not searched again, nor what belongs to the tests by its key: the further reactions are all learnt from.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from bond_changes import SIMPLE, Change, bond_changes, reaction_key
from collect import LABELS, PARTS, TRAINING, Known, collect, part_of
from lewis import g2_molecules, lewis_molecules

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import atomic_write, read_mapping, write_json
from himlip_ase.labels.molecules.xtb import GFN2
from himlip_ase.reactions import (
    IrcSettings,
    Reaction,
    SaddleSettings,
    SearchSettings,
    StringSettings,
    Surface,
    Verdict,
    bond_graph,
    driven_product,
    find_minimum,
    find_reaction,
)
from himlip_ase.reactions.reaction_files import reaction_as_dict

SETTINGS = SearchSettings(
    string=StringSettings(nodes=7, interpolation="linear", max_gradients=90),
    saddle=SaddleSettings(max_steps=25, hessian_every=2),
    irc=IrcSettings(hessian_every=4, end_hessian_every=8),
)
"""Half the cost of the default ones, at molecules of this size."""
MOST_ENERGY = 5.0
"""eV; products above it are not looked for."""
HESSIANS_BETWEEN = 1
"""On each side of the saddle, besides those of the saddle and the ends."""


def plan(heavy: int, lewis: int, atoms_at_most: int, seed: int) -> list[tuple[str, Atoms, Change]]:
    """All candidates: simple changes and few heavy atoms first, in a random order otherwise."""
    start = lewis_molecules(min(heavy, lewis)) | (g2_molecules(lewis + 1, heavy) if heavy > lewis else {})
    listed = [
        (name, atoms, change)
        for name, atoms in start.items()
        if len(atoms) <= atoms_at_most
        for change in bond_changes(atoms)
    ]
    order = np.random.default_rng(seed).permutation(len(listed))
    return sorted(
        (listed[k] for k in order),
        key=lambda item: (item[2][0] not in SIMPLE, (item[1].numbers > 1).sum() > 3),
    )


def key_of(reactant: Atoms, product: Atoms) -> str:
    """See `reaction_key`."""
    return reaction_key(reactant.numbers, bond_graph(reactant).bonds, bond_graph(product).bonds)


class Search:
    """Searches that know what has been found."""

    def __init__(self, folder: Path, known: set[str], parts: tuple[str, ...]) -> None:
        self.folder, self.parts = folder, parts
        self.minima: dict[str, Atoms | None] = {}
        self.found = set(known)
        self.tried: set[str] = set()

    def candidate(self, name: str, atoms: Atoms, change: Change) -> dict[str, Any]:
        """Search one candidate; returns what is kept of it."""
        _, form, break_ = change
        surface, begun = Surface(atoms, GFN2()), time.process_time()
        try:
            reactant = self.minimum(name, atoms, surface)
            product = driven_product(reactant, surface, form, break_, other_bonds=True)
            if product.energy - surface.evaluate(reactant.positions.ravel())[0] > MOST_ENERGY:
                raise CalculationError(f"the product lies more than {MOST_ENERGY} eV above the reactant")
        except (CalculationError, InputError) as error:
            seconds = round(time.process_time() - begun, 2)
            return {"verdict": "no product", "reason": str(error)[:200], "cpu_seconds": seconds}
        return self.between(reactant, product.atoms, begun)

    def minimum(self, name: str, atoms: Atoms, surface: Surface) -> Atoms:
        """The relaxed molecule, if it keeps its bonds."""
        if name not in self.minima:
            self.minima[name] = None
            relaxed = find_minimum(surface, atoms.positions.ravel()).atoms
            if bond_graph(relaxed).bonds == bond_graph(atoms).bonds:
                self.minima[name] = relaxed
        found = self.minima[name]
        if found is None:
            raise CalculationError("the molecule does not keep its bonds")
        return found

    def between(self, reactant: Atoms, product: Atoms, begun: float) -> dict[str, Any]:
        """Search between two minima."""
        key = key_of(reactant, product)
        if key in self.found:
            return {"verdict": "found before", "key": key}
        if part_of(key) not in self.parts:
            return {"verdict": "of another part", "key": key}
        self.tried.add(key)
        found = find_reaction(reactant, product, GFN2(), SETTINGS)
        record = {**reaction_as_dict(found), "key": key}
        if found.judgement.verdict is Verdict.INTENDED:
            self.found.add(key)
            record["arrays"] = arrays_of(found)
        elif found.irc is not None and found.irc.backward.converged and found.irc.forward.converged:
            record["ends_found"] = (found.irc.backward.end, found.irc.forward.end)
        record["cpu_seconds"] = round(time.process_time() - begun, 2)
        return record

    def keep(self, label: str, record: dict[str, Any]) -> None:
        """Write what a candidate gave."""
        arrays, place = record.pop("arrays", None), self.folder / label
        if arrays is not None:
            with atomic_write(place / "reaction.npz", "wb", overwrite=True) as stream:
                np.savez_compressed(stream, **arrays)
        write_json(place / "result.json", record, True)
        print(f"{label}: {record['verdict']} ({record.get('cpu_seconds', 0)} s)", flush=True)

    def run(self, label: str, name: str, atoms: Atoms, change: Change) -> None:
        """Search a candidate, and then between the ends that it led to, if these are others."""
        about = {"molecule": name, "kind": change[0], "form": change[1], "break": change[2]}
        record = self.candidate(name, atoms, change)
        ends = record.pop("ends_found", None)
        if ends is not None:
            key = key_of(*ends)
            same = bond_graph(ends[0]).bonds == bond_graph(ends[1]).bonds
            if not same and key not in self.tried:
                again = self.between(*ends, time.process_time())
                again.pop("ends_found", None)
                self.keep(f"{label}_ends", {**about, "kind": "ends", **again})
        self.keep(label, {**about, **record})  # last: a candidate with this file is done

    def remember(self, label: str) -> bool:
        """Take up what an earlier run kept; False where there is nothing."""
        for place in (self.folder / f"{label}_ends", self.folder / label):
            if (place / "result.json").is_file():
                record = read_mapping(place / "result.json")
                self.tried |= {record.get("key", "")}
                if record["verdict"] == Verdict.INTENDED:
                    self.found.add(record["key"])
        return (self.folder / label / "result.json").is_file()


def arrays_of(reaction: Reaction) -> dict[str, np.ndarray]:
    """Frames of the coordinate with energies, forces and some Hessians."""
    irc, saddle = reaction.irc, reaction.saddle
    assert irc is not None and saddle is not None and saddle.hessian is not None
    images, top = irc.images, len(irc.backward.images)
    surface = Surface(images[0], GFN2())
    energies, gradients = zip(*(surface.evaluate(image.positions.ravel()) for image in images), strict=True)
    forces = [-gradient.reshape(-1, 3) for gradient in gradients]
    sides = [
        np.linspace(0, top, HESSIANS_BETWEEN + 2),
        np.linspace(top, len(images) - 1, HESSIANS_BETWEEN + 2),
    ]
    chosen = np.unique(np.concatenate(sides).round().astype(int))
    matrices = [saddle.hessian if k == top else surface.hessian(images[k].positions.ravel()) for k in chosen]
    return {
        "numbers": images[0].numbers,
        "positions": np.array([image.positions for image in images]),
        "energies": np.array(energies),
        "forces": np.array(forces),
        "coordinates": irc.coordinates,
        "saddle": np.array(top),
        "frequencies": saddle.frequencies,
        "hessian_frames": chosen,
        "hessians": np.array(matrices),
    }


def main() -> None:
    """Search until the time is over, or collect."""
    parser = argparse.ArgumentParser(description="reactions of small molecules")
    parser.add_argument("--folder", type=Path, default=Path("runs/reaction_set"))
    parser.add_argument("--heavy", type=int, default=4, help="most heavy atoms of a molecule")
    parser.add_argument(
        "--lewis", type=int, default=3, help="of one enumerated by valences; beyond it those of the G2 set"
    )
    parser.add_argument("--atoms", type=int, default=9, help="most atoms of a molecule")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", action="store_true", help="training reactions beside the committed ones")
    parser.add_argument("--collect", type=Path, help="write the intended reactions to this folder and stop")
    arguments = parser.parse_args()
    known = Known.read(LABELS) if arguments.more else Known()
    if arguments.collect is not None:
        collect(arguments.folder, arguments.collect, known)
        return
    candidates = plan(arguments.heavy, arguments.lewis, arguments.atoms, arguments.seed)
    print(f"{len(candidates)} candidates", flush=True)
    parts = (TRAINING,) if arguments.more else PARTS
    began, search = time.monotonic(), Search(arguments.folder, known.keys, parts)
    for name, atoms, change in candidates:
        if time.monotonic() - began > 60 * arguments.minutes:
            break
        changed = [*(f"f{i}-{j}" for i, j in change[1]), *(f"b{i}-{j}" for i, j in change[2])]
        label = "_".join([name.replace(" ", "_").replace("#", "~"), *changed])
        if not search.remember(label):
            search.run(label, name, atoms, change)
    print(f"{len(search.found) - len(known.keys)} reactions")


if __name__ == "__main__":
    main()
