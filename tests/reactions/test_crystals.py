"""An atom that jumps in a crystal, part of which is held: the string's saddle is that of a climbing band."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import FIRE

from himlip_ase.reactions import (
    IrcSettings,
    SaddleSettings,
    SearchSettings,
    Surface,
    Verdict,
    find_minimum,
    find_reaction,
)


def vacancy(host: str = "Cu") -> tuple[Atoms, Atoms]:
    """A vacancy and the neighbour that jumps into it; only atoms near the jump move."""
    crystal = bulk(host, cubic=True) * (2, 2, 2)
    jumper = int(np.argsort(crystal.get_distances(0, range(len(crystal)), mic=True))[1])
    near = [
        atom.index
        for atom in crystal
        if crystal.get_distance(0, atom.index, mic=True) < 3.0
        and crystal.get_distance(jumper, atom.index, mic=True) < 3.0
    ]
    moving = {jumper, *near}
    crystal.set_constraint(FixAtoms([k for k in range(1, len(crystal)) if k not in moving]))
    jumped = crystal.copy()
    jumped.positions[jumper] = crystal.positions[0]
    ends = []
    for atoms in (crystal, jumped):
        keep = atoms[1:]
        ends.append(find_minimum(Surface(keep, EMT()), keep.positions.ravel(), 0.005).atoms)
    return ends[0], ends[1]


@pytest.mark.slow
@pytest.mark.parametrize(("large", "products"), [(600, False), (0, True)], ids=["Hessians", "products"])
def test_a_vacancy_moves_over_the_saddle_of_a_climbing_band(large: int, products: bool) -> None:
    start, end = vacancy()
    search = SaddleSettings(large_system=large, hessian_every=1 if not products else 3)
    settings = SearchSettings(saddle=search, irc=IrcSettings(step=1.0, hessian_every=3))
    found = find_reaction(start, end, EMT(), settings)
    assert found.saddle is not None and len(found.saddle.imaginary) == 1
    if products:
        assert found.saddle.counts.hessians == 0 and found.saddle.counts.products > 0
        assert "Hessian" in found.judgement.reason and found.irc is None
    else:
        assert found.judgement.verdict is Verdict.INTENDED, found.judgement.reason
    held = start.constraints[0].index
    assert np.allclose(found.saddle.atoms.positions[held], start.positions[held])
    images = [start.copy() for _ in range(5)] + [end.copy()]
    for image in images:
        image.calc = EMT()
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate(mic=True)
    assert FIRE(band, logfile=None).run(fmax=0.02, steps=300)
    top = max(image.get_potential_energy() for image in images)
    assert found.saddle.energy == pytest.approx(top, abs=2e-3)
