"""Twenty reactions: reactant, product, and where a saddle search starts (see make_reactions)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from himlip_ase.structures import read_structures

PATH = Path(__file__).parent / "baker.extxyz"


@dataclass(frozen=True, eq=False)
class Case:
    """One reaction."""

    name: str
    reactant: Atoms
    product: Atoms
    start: Atoms


def cases(only: Sequence[str] | None = None) -> list[Case]:
    """Reactions of the file, all or those of some numbers."""
    found: dict[str, dict[str, Atoms]] = {}
    for atoms in read_structures([PATH]):
        found.setdefault(atoms.info["reaction"], {})[atoms.info["role"]] = atoms
    return [
        Case(name, ends["reactant"], ends["product"], ends["start"])
        for name, ends in found.items()
        if only is None or name.split()[0] in only
    ]


def gfn2() -> Any:
    """The method of these benchmarks."""
    from himlip_ase.labels.molecules.xtb import GFN2

    return GFN2()
