"""GFN-xTB labels against their own differences and tblite's ASE calculator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from himlip_ase.errors import InputError
from himlip_ase.hint.evaluation.mode_overlap import internal_modes
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.molecules.xtb import GFN1, GFN2
from himlip_ase.units import signed_frequencies_cm

pytest.importorskip("tblite")


def _distorted(name: str) -> Atoms:
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(0).normal(0, 0.1, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize(("labeller", "method"), [(GFN1(), "GFN1-xTB"), (GFN2(), "GFN2-xTB")])
def test_energy_and_forces_are_those_of_the_ase_calculator(labeller: GFN2, method: str) -> None:
    ase = pytest.importorskip("tblite.ase")
    atoms = _distorted("CH3OH")
    result = labeller.calculate(atoms, hessian=False)
    assert labeller.settings["method"] == method
    atoms.calc = ase.TBLite(method=method, accuracy=0.01, verbosity=0)
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)  # two values of the Hartree
    np.testing.assert_allclose(result.forces, atoms.get_forces(), atol=1e-5)


def test_forces_are_the_derivative_of_the_energy() -> None:
    atoms = _distorted("H2CO")
    labeller = GFN2()
    moved = atoms.copy()
    direction = np.random.default_rng(1).normal(size=atoms.positions.shape)
    energies = []
    for step in (0.002, -0.002):
        moved.positions = atoms.positions + step * direction
        energies.append(labeller.calculate(moved, hessian=False).energy)
    slope = (energies[1] - energies[0]) / 0.004
    forces = labeller.calculate(atoms, hessian=False).forces
    assert (forces * direction).sum() == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("name", ["H2CO", "CH3OH"])
def test_step_of_the_differences_does_not_matter(name: str) -> None:
    atoms = _distorted(name)
    usual = GFN2().calculate(atoms, hessian=True).hessian
    half = GFN2(step=GFN2().step / 2).calculate(atoms, hessian=True).hessian
    assert usual is not None and half is not None
    assert np.abs(usual - half).max() < 5e-3  # of 50 to 120 eV/Å²
    assert np.abs(usual - half).mean() < 5e-4
    check_hessian(atoms, usual)


def test_hessians_of_small_molecules_pass_the_checks_and_one_in_another_order_does_not() -> None:
    for name in ("CH3NO2", "HCOOH", "C2H2", "CO2", "trans-butane"):
        atoms = _distorted(name)
        matrix = GFN2().calculate(atoms, hessian=True).hessian
        assert matrix is not None
        check_hessian(atoms, matrix, name)
    order = np.roll(np.arange(len(atoms)), 1)
    with pytest.raises(InputError, match="another order"):
        check_hessian(atoms, matrix[np.ix_(order, range(3), order, range(3))])


def test_frequencies_of_water_are_those_of_ase(tmp_path: Path) -> None:
    ase = pytest.importorskip("tblite.ase")
    atoms = molecule("H2O")
    atoms.calc = ase.TBLite(method="GFN2-xTB", accuracy=0.01, verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=1e-3)
    matrix = GFN2().calculate(atoms, hessian=True).hessian
    assert matrix is not None
    frequencies = signed_frequencies_cm(internal_modes(atoms, matrix)[0])
    vibrations = Vibrations(atoms, name=str(tmp_path / "vibrations"), delta=0.005)
    vibrations.run()
    np.testing.assert_allclose(frequencies, vibrations.get_frequencies().real[-3:], atol=1.0)
