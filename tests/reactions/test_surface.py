"""One view of every calculator, and what it counts."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

from himlip_ase.calculator import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.reactions import Surface, calculator_by_name


def test_differences_are_counted_apart_and_the_same_point_once() -> None:
    atoms = molecule("C2H6")
    surface = Surface(atoms, EMT())
    where = atoms.positions.ravel()
    surface.evaluate(where)
    surface.evaluate(where)
    matrix = surface.hessian(where)
    counts = surface.counts
    assert (counts.gradients, counts.hessians, counts.difference_gradients) == (1, 1, 6 * len(atoms))
    vector = np.random.default_rng(0).normal(size=(24, 1))
    assert np.allclose(surface.products(where)(vector), matrix @ vector, atol=0.02)


def test_exact_hessians_cost_no_differences(h3s: object) -> None:
    surface = Surface(h3s, HiMLIPCalculator())
    where = h3s.positions.ravel()
    matrix = surface.hessian(where)
    assert surface.counts.hessians == 1 and surface.counts.difference_gradients == 0
    step = 1e-3 * np.random.default_rng(1).normal(size=len(where))
    change = surface.evaluate(where + step)[1] - surface.evaluate(where - step)[1]
    assert np.allclose(change, 2 * matrix @ step, atol=1e-4)


@pytest.fixture
def h3s():
    cell = bulk("S", "bcc", a=3.0)
    from ase import Atoms

    half = cell.cell.array / 2
    atoms = Atoms("SH3", [np.zeros(3), *half], cell=cell.cell, pbc=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_constraints_do_not_touch_gradients() -> None:
    from ase.constraints import FixAtoms

    atoms = molecule("H2O")
    free = Surface(atoms, MorsePotential()).evaluate(atoms.positions.ravel() * 1.1)[1]
    atoms.set_constraint(FixAtoms([0, 1]))
    assert np.allclose(Surface(atoms, MorsePotential()).evaluate(atoms.positions.ravel() * 1.1)[1], free)


def test_calculators_by_name() -> None:
    assert isinstance(calculator_by_name("ase.calculators.emt:EMT"), EMT)
    with pytest.raises(InputError, match="did you mean 'gfn2'"):
        calculator_by_name("gfn22")
    with pytest.raises(InputError, match="module:factory"):
        calculator_by_name("no.such.module:make")
    with pytest.raises(InputError, match="no calculator"):
        Surface(molecule("H2O"), 3)
