"""Structures of pw.x inputs: labels of species as Quantum ESPRESSO allows them, and their masses.

ASE's reader knows neither the label ``D`` nor the masses of ATOMIC_SPECIES.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.io.espresso import read_espresso_in, read_fortran_namelist

from himlip_ase.errors import InputError
from himlip_ase.files import read_text, reading

SAME_MASS = 5e-4
"""Relative difference below which a mass is the natural one, written with other digits."""


@dataclass(frozen=True)
class PwStructure:
    """Structure of a pw.x input, and the input in pieces.

    Attributes
    ----------
    atoms : Atoms
        Å, periodic, without constraints; with masses where they are not the natural ones.
    elements, files : dict
        {label of the species: chemical symbol}, {label: pseudopotential file}, in the order of
        ATOMIC_SPECIES.
    namelists : dict
        {namelist: {keyword: value}}.
    cards : list of str
        All other lines.
    """

    atoms: Atoms
    elements: dict[str, str]
    files: dict[str, str]
    namelists: dict[str, dict[str, Any]]
    cards: list[str]


def read_pw_structure(path: str | os.PathLike, echoed: Atoms | None = None) -> PwStructure:
    """Read the structure of a pw.x input.

    Parameters
    ----------
    path : path-like
    echoed : Atoms, optional
        Structure in the output of the run, for inputs that give their lattice by ``ibrav``.

    Returns
    -------
    PwStructure

    Raises
    ------
    InputError
        It is no pw.x input, names a species that is no element, or gives its lattice by ``ibrav`` and
        `echoed` is None.
    """
    with reading(path, "it is not a readable pw.x input"):
        # ASE ends a namelist at a slash in double quotes, and leaves such quotes around other values
        text = re.sub(r'"([^"\n]*)"', r"'\1'", read_text(path))
        namelists, cards = read_fortran_namelist(io.StringIO(text))
        system = namelists.get("system", {})
        species = [row.split()[:3] for row in _rows(cards, "ATOMIC_SPECIES", int(system["ntyp"]))]
        labels = [row.split()[0] for row in _rows(cards, "ATOMIC_POSITIONS", int(system["nat"]))]
        elements = {label: _element(label, path) for label, _, _ in species}
        if system.get("ibrav", 0) == 0:
            atoms = read_espresso_in(io.StringIO(_relabelled(text, elements)))
        elif echoed is not None:
            atoms = echoed
        else:
            raise InputError(
                f"{path} gives its lattice by ibrav = {system['ibrav']}; write ibrav = 0 and CELL_PARAMETERS"
            )
        mass_of = {label: float(mass.lower().replace("d", "e")) for label, mass, _ in species}
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    set_masses(bare, [mass_of[label] for label in labels])
    files = {label: name for label, _, name in species}
    return PwStructure(bare, elements, files, {k: dict(v) for k, v in namelists.items()}, list(cards))


def element_of_label(label: str) -> str | None:
    """Chemical symbol of a species label (``Fe1``, ``H_1``, ``D``), or None if it names no element."""
    letters = re.match(r"[A-Za-z]*", label)
    symbol = letters.group().capitalize() if letters else ""
    if symbol in ("D", "T"):
        return "H"
    return symbol if symbol in atomic_numbers and symbol != "X" else None


def is_natural(mass: float, symbol: str) -> bool:
    """Whether a mass is that of the natural element, to the digits it is written with.

    Parameters
    ----------
    mass : float
        amu.
    symbol : str

    Returns
    -------
    bool
    """
    natural = float(atomic_masses[atomic_numbers[symbol]])
    return abs(mass - natural) < SAME_MASS * natural


def set_masses(atoms: Atoms, masses: Sequence[float] | np.ndarray) -> None:
    """Give a structure masses (amu), where they are not the natural ones written with other digits.

    Parameters
    ----------
    atoms : Atoms
        Without masses of its own; changed.
    masses : sequence of float
        One for each atom.
    """
    natural = [is_natural(mass, symbol) for mass, symbol in zip(masses, atoms.symbols, strict=True)]
    if not all(natural):
        own = atoms.get_masses()
        atoms.set_masses(np.where(natural, own, np.asarray(masses, dtype=float)))


def _rows(cards: Sequence[str], name: str, count: int) -> list[str]:
    """The first rows of a card."""
    for k, row in enumerate(cards):
        if (word := re.match(r"\s*([A-Za-z_]+)", row)) and word.group(1).upper() == name:
            rows = [line for line in cards[k + 1 :] if line.strip() and line.strip()[0] not in "!#"]
            return rows[:count]
    raise InputError(f"it has no card {name}")


def _element(label: str, path: str | os.PathLike) -> str:
    symbol = element_of_label(label)
    if symbol is None:
        raise InputError(f"{path}: the species {label!r} names no element; call it Fe1, H_1 or D")
    return symbol


def _relabelled(text: str, elements: Mapping[str, str]) -> str:
    """An input whose species ASE understands: H0, H1 for D and H_2."""
    short = {label: f"{symbol}{k}" for k, (label, symbol) in enumerate(elements.items())}
    lines, inside = [], False
    for line in text.splitlines():
        words = line.split()
        first = words[0] if words else ""
        if re.match(r"ATOMIC_(SPECIES|POSITIONS)\b", first, re.IGNORECASE):
            inside = True
        elif first.startswith("&") or ("_" in first and first.isupper() and first not in short):
            inside = False
        elif inside and first in short:
            line = line.replace(first, short[first], 1)
        lines.append(line)
    return "\n".join(lines) + "\n"
