"""The native averages against python-sscha's on the same ensemble, reweighted, to 1e-8.

python-sscha carries CODATA 2006 and several values of k_B.  So that both see the same numbers, it is given
masses scaled by the ratio of the units of ħω and, for each of its functions, the temperature at which that
function's k_B T is ours; energies are exchanged with its own Ry.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sscha")

import cellconstructor.Units as peer_units
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from himlip_ase.lattice import grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian
from himlip_ase.sscha.minimisation import python_sscha
from himlip_ase.sscha.minimisation.gradient import TrialAverages
from himlip_ase.sscha.minimisation.native_engine import NativeEngine
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import KB_EV_PER_K, SQRT_EV_PER_ANGSTROM2_AMU_EV

from .crystals import CRYSTALS, made_up_ensemble, random_matrices

pytestmark = pytest.mark.peer
RY, BOHR = float(peer_units.RY_TO_EV), 1 / float(peer_units.A_TO_BOHR)
MASS_FACTOR = float(peer_units.MASS_RY_TO_UMA) * RY * BOHR**2 / SQRT_EV_PER_ANGSTROM2_AMU_EV**2
UPSILON_EV_PER_K = 6.336857346553283e-06 * RY  # k_B of its Υ, weights and gradient
FREE_ENERGY_EV_PER_K = float(peer_units.K_B)  # of its harmonic free energy
TIGHT = 1e-8


def peers_eyes(dynamical: DynamicalMatrices):
    """CellConstructor's matrices with the masses that give our ħω in its units."""
    return python_sscha.peer_matrices(dynamical.with_masses(dynamical.primitive.get_masses() * MASS_FACTOR))


def shifted(dynamical: DynamicalMatrices, scale: float, seed: int, amplitude: float) -> DynamicalMatrices:
    """Other force constants around other centroids."""
    other = random_matrices(dynamical.primitive, dynamical.dims, seed=seed)
    primitive = dynamical.primitive.copy()
    moves = np.random.default_rng(seed).normal(scale=amplitude, size=primitive.positions.shape)
    primitive.positions += moves - moves.mean(axis=0)
    mixed = dynamical.matrices * (1 - scale) + scale * other.matrices
    return DynamicalMatrices(primitive, dynamical.dims, dynamical.qpoints, mixed)


@pytest.fixture(
    scope="module",
    params=[(name, t) for name in ("cubic", "hexagonal", "no symmetry") for t in (0.0, 300.0)],
    ids=lambda item: f"{item[0]}, {item[1]:g} K",
)
def both(request):
    """Our averages and python-sscha's of one ensemble, reweighted to other Φ and R."""
    name, temperature = request.param
    primitive, dims = CRYSTALS[name]
    begun = random_matrices(primitive, dims)
    drawn = HarmonicDistribution(begun, temperature)
    ensemble = made_up_ensemble(drawn, 24, seed=3)
    target = HarmonicDistribution(shifted(begun, 0.1, 7, 0.005), temperature)
    grid = HalfGrid(dims)
    ours = TrialAverages(ensemble, TrialGaussian.of(target, grid))

    there = temperature * KB_EV_PER_K / UPSILON_EV_PER_K
    heavier = begun.with_masses(begun.primitive.get_masses() * MASS_FACTOR)
    peer = python_sscha.build_ensemble(
        dataclasses.replace(ensemble, drawn_from=HarmonicDistribution(heavier, there))
    )
    order = python_sscha.atom_order(begun, peer.dyn_0)
    peer.energies = ensemble.energies / RY
    peer.forces[:] = ensemble.forces[:, order] / RY
    peer.stresses[:] = [-voigt_6_to_full_3x3_stress(s) * BOHR**3 / RY for s in ensemble.stresses]
    with python_sscha._quiet():
        peer.update_weights(peers_eyes(target.dynamical), there)
    return SimpleNamespace(ours=ours, peer=peer, drawn=drawn, target=target, ensemble=ensemble, grid=grid)


def test_weights(both):
    ours, theirs = both.ours.weights, both.peer.rho
    assert np.ptp(ours) > 0.2 * ours.mean()
    np.testing.assert_allclose(ours / ours.sum(), theirs / theirs.sum(), rtol=TIGHT)
    assert both.ours.kong_liu == pytest.approx(both.peer.get_effective_sample_size() / 24, rel=TIGHT)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # its normalisation has a fourth k_B


def test_free_energy(both):
    value, _ = both.ours.free_energy()
    both.peer.current_T = both.target.temperature_k * KB_EV_PER_K / FREE_ENERGY_EV_PER_K
    with python_sscha._quiet():
        theirs = float(both.peer.get_free_energy()) * RY / both.grid.cells
    assert value == pytest.approx(theirs, rel=TIGHT)
    engine = NativeEngine()
    assert engine.free_energy(both.ensemble, both.target)[0] == pytest.approx(value, rel=1e-13)


def test_gradient_of_the_force_constants(both):
    both.peer.current_T = both.target.temperature_k * KB_EV_PER_K / UPSILON_EV_PER_K
    with python_sscha._quiet():
        found, _ = both.peer.get_preconditioned_gradient(True, True, preconditioned=1)
    found = (found + found.conj().transpose(0, 2, 1)) / 2 * RY / BOHR**2
    cell = np.asarray(both.peer.current_dyn.structure.unit_cell)
    place = grid_indices(np.array(both.peer.current_dyn.q_tot) @ cell.T, both.grid.dims)
    theirs = np.empty_like(found)
    theirs[place] = found
    ours = both.grid.join(both.ours.preconditioned_gradient())
    assert np.abs(ours).max() > 0.1
    assert np.abs(ours - theirs).max() < TIGHT * np.abs(theirs).max()


def test_gradient_of_the_centroids(both):
    theirs = both.peer.get_average_forces(False) * RY
    np.testing.assert_allclose(both.ours.force(), theirs, rtol=0, atol=TIGHT * np.abs(theirs).max())
    assert np.abs(theirs).max() > 1e-3


def test_stress(both):
    group = SpaceGroup(both.target.dynamical)
    ours, _ = NativeEngine().stress(both.ensemble, group, both.target)
    with python_sscha._quiet():
        found, _ = both.peer.get_stress_tensor()
    theirs = -full_3x3_to_voigt_6_stress(np.real(found)) * RY / BOHR**3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TIGHT * np.abs(theirs).max())
    assert np.abs(ours).max() > 0.01
