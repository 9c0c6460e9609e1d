"""Inputs on which a wrong number, or none, once came: a test each, found by ``pytest -k case_F2``.

The tests stand with what they concern; the right values there come from other codes, or by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

CASES = {
    "P1": "relax, vc-relax, md of pw.x: every ionic step with its own cell, energy, forces and stress",
    "P2": "hybrid functionals: the energy of the last of several scf cycles",
    "P3": "one set of labels has one energy surface",
    "P4": "masses of isotopes are kept from the input of pw.x to the files of phonopy",
    "P5": "headings of DFT+U, spin-orbit, dipole; labels of species; one bad file never ends a folder",
    "P6": "what is no label is refused by every door",
    "F1": "Born charges are read, used and written",
    "F2": "compact force constants of conventional and non-diagonal cells, compressed files",
    "F3": "phonopy's extended symbols",
    "Q1": "XML dyn files",
    "S1": "the temperature of an imported ensemble",
    "T1": "units and columns in the headings of α²F files",
    "T2": "damaged rows of α²F files",
    "T3": "two spins of a density of states",
    "T4": "two spin blocks of abinit",
    "A1": "slabs where a crystal is meant",
    "A2": "units of a Phonopy object, and no invented displacements in it",
    "A3": "order of atoms that vibrate",
    "A4": "threads on one calculator",
    "A5": "energies in single precision",
    "A6": "old results in a trajectory, and settings changed afterwards",
    "A7": "Hessians negated, in another unit, permuted, rotated",
}


def test_every_case_has_a_test() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    named = re.findall(r"^def test_(?:fault_\d\d_)?case_([A-Z]\d)_", text, re.MULTILINE)
    assert set(named) == set(CASES)
