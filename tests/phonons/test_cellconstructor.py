"""The bridge to CellConstructor, checked on its own supercell Fourier transform and files."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.phonons.cellconstructor import from_cellconstructor, to_cellconstructor
from himlip_ase.phonons.qe import read_dyn, write_dyn

from .springs import triclinic, zincblende
from .test_force_constants import build

CASES = [(triclinic, (2, 1, 3)), (zincblende, (2, 2, 2))]


def make_case(make, dims):
    pytest.importorskip("cellconstructor")
    _, fc = build(make, dims)
    return fc.with_masses(np.linspace(2.014, 9, len(fc.primitive)))


@pytest.mark.peer
@pytest.mark.parametrize(("make", "dims"), CASES)
def test_round_trip_and_its_own_frequencies(make, dims):
    fc = make_case(make, dims)
    import cellconstructor.Units as units

    dm = fc.dynamical_matrices()
    dyn = to_cellconstructor(dm)
    back = from_cellconstructor(dyn)
    assert back.dims == dims
    assert np.abs(back.frequencies() - dm.frequencies()).max() < 0.01
    assert np.abs(back.primitive.get_masses() - dm.primitive.get_masses()).max() < 1e-9
    own = np.sort(np.concatenate([dyn.DyagDinQ(i)[0] for i in range(len(dyn.q_tot))])) * units.RY_TO_CM
    assert np.abs(own - np.sort(dm.frequencies().ravel()))[3:].max() < 0.01
    in_supercell = np.sort(dyn.DiagonalizeSupercell()[0])[3:] * units.RY_TO_CM
    assert np.abs(in_supercell - own[3:]).max() < 0.01


@pytest.mark.peer
@pytest.mark.parametrize(("make", "dims"), CASES)
def test_its_real_space_force_constants_are_ours(make, dims):
    """CellConstructor transforms with its own phases; atoms are matched by position."""
    fc = make_case(make, dims)
    import cellconstructor.Units as units

    big = to_cellconstructor(fc.dynamical_matrices()).GenerateSupercellDyn(dims)
    inverse = np.linalg.inv(np.asarray(fc.supercell.cell))
    order = []
    for position in fc.supercell.positions:
        delta = (big.structure.coords - position) @ inverse
        order.append(int(np.argmin(np.abs(delta - np.rint(delta)).max(axis=1))))
    size = len(order)
    assert sorted(order) == list(range(size))
    hessian = np.real(big.dynmats[0]).reshape(size, 3, size, 3)[order][:, :, order]
    assert np.abs(hessian * units.RY_TO_EV * units.A_TO_BOHR**2 - fc.hessian()).max() < 1e-9


@pytest.mark.peer
@pytest.mark.parametrize(("make", "dims"), CASES)
def test_files_pass_both_ways(make, dims, tmp_path):
    fc = make_case(make, dims)
    from cellconstructor.Phonons import Phonons

    dm = fc.dynamical_matrices()
    paths = write_dyn(dm, tmp_path / "dyn")
    theirs = Phonons(str(tmp_path / "dyn"), len(paths) - 1)
    assert np.abs(from_cellconstructor(theirs).frequencies() - dm.frequencies()).max() < 0.01
    to_cellconstructor(dm).save_qe(str(tmp_path / "cc"))
    assert np.abs(read_dyn(tmp_path / "cc").frequencies() - dm.frequencies()).max() < 0.01


@pytest.mark.peer
def test_stars_let_it_symmetrise():
    fc = make_case(zincblende, (2, 2, 2)).with_masses([10.8, 14.0])
    dyn = to_cellconstructor(fc.dynamical_matrices())
    assert sorted(len(star) for star in dyn.q_stars) == [1, 3, 4]
    dyn.Symmetrize()
    assert np.abs(from_cellconstructor(dyn).matrices - fc.dynamical_matrices().matrices).max() < 1e-6


@pytest.mark.peer
def test_one_mass_for_each_element():
    fc = make_case(zincblende, (1, 1, 1))
    twins = fc.primitive.copy()
    twins.symbols[:] = "B"
    from himlip_ase.phonons import ForceConstants

    with pytest.raises(InputError, match="one mass for each element"):
        to_cellconstructor(ForceConstants(twins, (1, 1, 1), fc.compact).dynamical_matrices())


def test_without_the_extra_the_message_says_what_to_type(monkeypatch):
    for name in [m for m in sys.modules if m.partition(".")[0] == "cellconstructor"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cellconstructor", None)
    _, fc = build(zincblende, (1, 1, 1))
    with pytest.raises(InputError, match=r"pip install 'himlip-ase\[sscha\]'"):
        to_cellconstructor(fc.dynamical_matrices())
