"""Imaginary modes followed into wells whose depth is known exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons import follow
from himlip_ase.phonons.follow import describe_following, follow_imaginary_modes, write_following
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.structures import read_structure

from .wells import QUARTICS, WellCalculator, Wells, parent


def test_a_polar_mode_leads_to_each_of_its_wells_and_to_the_deepest():
    wells = Wells()
    found = follow_imaginary_modes(parent(), WellCalculator(wells), (1, 1, 1))
    first, last = found[0], found[-1]
    assert first.degeneracy == 3 and first.lowest_cm < -100 and not first.stable
    depths = {child.space_group: child.gain_mev * len(child.atoms) for child in first.children}
    assert depths.keys() == QUARTICS.keys()
    for group, quartic in QUARTICS.items():
        assert depths[group] == pytest.approx(1000 * wells.gain(quartic), rel=1e-5)
    assert len(found) == 2 and last.stable and last.space_group == "P4mm"
    axis = last.atoms.positions[1] - last.atoms.positions[0]
    axis -= np.rint(axis / (3.0 / 2)) * (3.0 / 2)
    assert np.linalg.norm(axis) == pytest.approx(np.sqrt(2 / (20 + 30 / 9)), rel=1e-3)


def test_an_alternating_mode_doubles_the_cell():
    wells = Wells(alpha=0.5, gamma=-30.0, coupling=0.05)
    found = follow_imaginary_modes(parent(), WellCalculator(wells), (2, 2, 2), max_generations=1)
    assert np.allclose(found[0].qpoints, 0.5) and found[0].degeneracy == 3
    lowest = found[0].children[0]
    assert len(lowest.atoms) == 4 and lowest.space_group == "R-3m"
    assert lowest.gain_mev * 2 == pytest.approx(1000 * wells.gain(7 / 27, alternating=True), rel=1e-5)
    assert found[-1].stable


def test_files_and_words(tmp_path):
    found = follow_imaginary_modes(parent(), WellCalculator(Wells()), (1, 1, 1), max_generations=1)
    files = write_following(found, tmp_path)
    record = json.loads((tmp_path / "follow.json").read_text(encoding="utf-8"))
    assert record["stable"] and len(record["generations"][0]["children"]) == len(files) - 2 == 3
    assert len(read_structure(tmp_path / "final.extxyz")) == 2
    assert "no imaginary mode is left" in describe_following(found)[-1]


def test_a_stable_crystal_is_left_alone():
    copper = bulk("Cu", a=3.59)
    (only,) = follow_imaginary_modes(copper, EMT(), (2, 2, 2))
    assert only.stable and not only.children


def test_masses_that_were_given_weigh_and_displace_all_generations(monkeypatch):
    """Optical modes leave the centre of mass where it is: that of the masses, which are no natural ones."""
    calculator, weighed, patterns = WellCalculator(Wells()), [], []
    softest, deepest = follow._softest, follow._deepest
    monkeypatch.setattr(follow, "_softest", lambda c: weighed.append(c.supercell) or softest(c))
    monkeypatch.setattr(follow, "_deepest", lambda s, p, c: patterns.append(p) or deepest(s, p, c))
    heavy = harmonic_force_constants(parent(), calculator, (1, 1, 1)).with_masses({"Cl": 300.0})
    lowest = heavy.dynamical_matrices().frequencies().min()
    found = follow_imaginary_modes(parent(), calculator, (1, 1, 1), force_constants=heavy)
    assert len(found) == len(weighed) == 2 and found[0].lowest_cm == pytest.approx(lowest)
    for cell in weighed:
        assert cell.get_masses()[cell.symbols == "Cl"] == pytest.approx(300.0)
    masses = heavy.supercell.get_masses()
    assert patterns and all(np.abs(masses @ pattern).max() < 1e-6 * masses.max() for pattern in patterns)
    mixed = parent().repeat((1, 1, 2))
    mixed.set_masses([133, 35, 133, 37])
    with pytest.raises(InputError, match="several masses"):
        follow_imaginary_modes(mixed, calculator, (1, 1, 1))


def test_a_structure_that_falls_back_is_an_error():
    class Tight(WellCalculator):
        """Phonons of a well that is not there."""

        def get_force_constants(self, cell, supercell, symmetry):
            from himlip_ase.phonons.harmonic import harmonic_force_constants

            return harmonic_force_constants(cell, WellCalculator(Wells()), supercell)

    with pytest.raises(CalculationError, match="relaxed back"):
        follow_imaginary_modes(parent(), Tight(Wells(alpha=-2.0)), (1, 1, 1))
