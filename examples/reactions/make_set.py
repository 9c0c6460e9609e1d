"""Reactions of small CHNO molecules, enumerated by bond changes, found and verified at GFN2-xTB.

    python examples/reactions/make_set.py --folder runs/reaction_set --minutes 60
    python examples/reactions/make_set.py --folder runs/reaction_set --collect reactions.npz

Molecules of ASE's G2 set of up to `--heavy` heavy atoms; every way to break one or two bonds and to form as
many between atoms within three bonds of each other. The product is made by driving the bonds that change;
what relaxes to other bonds is left out. Each reaction is kept as soon as it is judged, so that a run may be
stopped and begun again. The order is random with a fixed seed: any part of the list is a fair sample of it.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.collections import g2

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import atomic_write, read_mapping, write_json
from himlip_ase.labels.molecules.gfn2 import GFN2
from himlip_ase.reactions import Surface, Verdict, bond_graph, driven_product, find_minimum, find_reaction
from himlip_ase.reactions.reaction_files import reaction_as_dict

Bonds = tuple[tuple[int, int], ...]


def molecules(heavy: int) -> dict[str, Atoms]:
    """Closed-shell molecules of C, H, N and O with hydrogen, in one piece."""
    found = {}
    for name in g2.names:
        atoms = molecule(name)
        symbols = set(atoms.get_chemical_symbols())
        count = int((atoms.numbers > 1).sum())
        whole = symbols <= set("CHNO") and "H" in symbols and 1 <= count <= heavy and len(atoms) > 2
        if whole and atoms.numbers.sum() % 2 == 0 and len(bond_graph(atoms).fragments) == 1:
            if not atoms.get_initial_magnetic_moments().any():
                found[name] = Atoms(atoms.numbers, atoms.positions)
    return found


def changes(atoms: Atoms) -> list[tuple[Bonds, Bonds]]:
    """Bonds that form and bonds that break, one or two of each."""
    bonds = sorted(bond_graph(atoms).bonds)
    distance = np.full((len(atoms), len(atoms)), 9)
    np.fill_diagonal(distance, 0)
    for i, j in bonds:
        distance[i, j] = distance[j, i] = 1
    for k in range(len(atoms)):
        distance = np.minimum(distance, distance[:, [k]] + distance[[k], :])
    near = [pair for pair in itertools.combinations(range(len(atoms)), 2) if 2 <= distance[pair] <= 3]
    found = []
    for number in (1, 2):
        for broken in itertools.combinations(bonds, number):
            touched = {atom for bond in broken for atom in bond}
            partners = [pair for pair in near if touched & set(pair)]
            for formed in itertools.combinations(partners, number):
                valence = np.zeros(len(atoms), dtype=int)
                for sign, pairs in ((1, formed), (-1, broken)):
                    for pair in pairs:
                        valence[list(pair)] += sign
                hydrogens = atoms.numbers == 1
                if np.abs(valence).max() <= 1 and not valence[hydrogens].any():
                    found.append((formed, broken))
    return found


def plan(heavy: int, seed: int) -> list[tuple[str, Bonds, Bonds]]:
    """All candidates in a random order."""
    listed = [(name, *change) for name, atoms in molecules(heavy).items() for change in changes(atoms)]
    order = np.random.default_rng(seed).permutation(len(listed))
    return [listed[k] for k in order]


def search(name: str, form: Bonds, break_: Bonds, folder: Path) -> str:
    """Search one candidate and keep what was found; returns its verdict."""
    start = molecule(name)
    surface = Surface(Atoms(start.numbers, start.positions), GFN2())
    arrays: dict[str, np.ndarray] = {}
    try:
        reactant = find_minimum(surface, start.positions.ravel()).atoms
        product = driven_product(reactant, surface, form, break_).atoms
        found = find_reaction(reactant, product, GFN2())
    except (CalculationError, InputError) as error:
        record = {"verdict": "no product", "reason": str(error)[:200]}
    else:
        record = reaction_as_dict(found)
        if found.judgement.verdict is Verdict.INTENDED and found.saddle is not None and found.irc is not None:
            arrays = {
                "numbers": reactant.numbers.astype(np.int8),
                "positions": np.array([image.positions for image in found.irc.images], dtype=np.float32),
                "energies": found.irc.energies,
                "coordinates": found.irc.coordinates.astype(np.float32),
                "saddle": np.array(len(found.irc.backward.images)),
            }
            for side, atoms in (("reactant", found.irc.backward.end), ("product", found.irc.forward.end)):
                arrays[f"hessian_{side}"] = surface.hessian(atoms.positions.ravel()).astype(np.float32)
            arrays["hessian_saddle"] = found.saddle.hessian.astype(np.float32)
    if arrays:
        with atomic_write(folder / "reaction.npz", "wb", overwrite=True) as stream:
            np.savez_compressed(stream, **arrays)
    write_json(folder / "result.json", {"molecule": name, "form": form, "break": break_, **record}, True)
    return record["verdict"]


def split_of(name: str) -> str:
    """Training, validation or test, by reaction: a fixed tenth each for the latter two."""
    digit = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return {0: "validation", 1: "test"}.get(digit, "training")


def collect(folder: Path, out: Path) -> None:
    """All intended reactions of a folder in one file; the frames of a reaction stay together."""
    arrays, counts = {}, {"training": 0, "validation": 0, "test": 0}
    for path in sorted(folder.glob("*/reaction.npz")):
        part = split_of(path.parent.name)
        counts[part] += 1
        with np.load(path, allow_pickle=False) as stored:
            arrays |= {f"{part}/{path.parent.name}/{key}": stored[key] for key in stored.files}
    with atomic_write(out, "wb", overwrite=True) as stream:
        np.savez_compressed(stream, **arrays)
    print(f"{sum(counts.values())} intended reactions ({counts}) → {out}, {out.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Search until the time is over, or collect."""
    parser = argparse.ArgumentParser(description="reactions of small molecules")
    parser.add_argument("--folder", type=Path, default=Path("runs/reaction_set"))
    parser.add_argument("--heavy", type=int, default=4, help="most heavy atoms of a molecule")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--collect", type=Path, help="write the intended reactions to this .npz and stop")
    arguments = parser.parse_args()
    if arguments.collect is not None:
        collect(arguments.folder, arguments.collect)
        return
    candidates = plan(arguments.heavy, arguments.seed)
    print(f"{len(candidates)} candidates", flush=True)
    began, verdicts = time.monotonic(), {}
    for name, form, break_ in candidates:
        if time.monotonic() - began > 60 * arguments.minutes:
            break
        label = "_".join([name, *(f"f{i}-{j}" for i, j in form), *(f"b{i}-{j}" for i, j in break_)])
        folder = arguments.folder / label
        if (folder / "result.json").is_file():
            verdict = read_mapping(folder / "result.json")["verdict"]
        else:
            verdict = search(name, form, break_, folder)
            print(f"{label}: {verdict}", flush=True)
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    print(verdicts)


if __name__ == "__main__":
    main()
