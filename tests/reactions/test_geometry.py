"""Bonds, alignment, interpolation: what needs no energies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.reactions import INTERPOLATIONS, bond_graph, interpolate, matched_order, reordered
from himlip_ase.reactions.alignment import aligned, check_ends, rmsd
from himlip_ase.reactions.atom_order import check_order
from himlip_ase.reactions.interpolation import collisions
from tests.reactions.molecules import (
    acetaldehyde,
    hydrogen_cyanide,
    hydrogen_isocyanide,
    rotation,
    vinyl_alcohol,
)


def test_bonds_and_their_changes() -> None:
    ethanol = bond_graph(molecule("CH3CH2OH"))
    assert len(ethanol.bonds) == 8 and len(ethanol.fragments) == 1
    change = bond_graph(hydrogen_cyanide()).changes_to(bond_graph(hydrogen_isocyanide()))
    assert change == "H0–C1 breaks, H0–N2 forms"
    apart = Atoms("H2CO", [[0, 0, 5], [0, 0, 5.74], [0, 0, 0], [0, 0, 1.13]])
    assert bond_graph(apart).formula == "H2 + CO"


def test_alignment_undoes_a_rotation_and_keeps_handedness() -> None:
    atoms = molecule("CH3CH2OH")
    moved = atoms.copy()
    moved.positions = moved.positions @ rotation(1).T + [1, 2, 3]
    assert rmsd(moved, atoms) < 1e-10
    mirrored = molecule("CH3CHO")
    mirrored.positions[0] += [0.3, 0.2, 0.4]  # chiral
    image = mirrored.copy()
    image.positions[:, 2] *= -1
    assert rmsd(image, mirrored) > 0.1


def test_alignment_takes_the_nearest_images_in_a_crystal() -> None:
    crystal = bulk("Al", cubic=True)
    other = crystal.copy()
    other.positions[1] += crystal.cell[0]
    assert np.allclose(aligned(other, crystal).positions, crystal.positions)


@pytest.mark.parametrize(
    ("product", "message"),
    [
        (Atoms("HCO", np.eye(3)), "different atoms"),
        (Atoms("CHN", np.eye(3)), "atom 0 is H there and C here"),
        (Atoms("HCN", np.eye(3), pbc=True, cell=[9, 9, 9]), "pbc"),
        (Atoms("HCN", np.full((3, 3), np.nan)), "not finite"),
    ],
)
def test_ends_that_do_not_belong_together_are_refused(product: Atoms, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_ends(hydrogen_cyanide(), product)


def test_swapped_atoms_are_noticed() -> None:
    start = vinyl_alcohol()
    swapped = start.copy()
    swapped.positions[[2, 6]] = start.positions[[6, 2]]
    said = check_order(start, swapped)
    assert "H2, H6 change places" in said and "0 1 6 3 4 5 2" in said and "--reorder" in said
    assert check_order(start, start) == ""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffled_atoms_find_their_places(seed: int) -> None:
    """Acetaldehyde shuffled, turned and moved, beside vinyl alcohol: one hydrogen moves, as it should."""
    start, end = vinyl_alcohol(), acetaldehyde()
    meant = bond_graph(start).bonds ^ bond_graph(end).bonds
    assert len(meant) == 2 and check_order(start, end) == ""
    shuffled = end[np.random.default_rng(seed).permutation(len(end))]
    shuffled.positions = shuffled.positions @ rotation(seed).T + [1.0, -2.0, 0.5]
    found = reordered(start, shuffled)
    check_ends(start, found)
    assert len(bond_graph(start).bonds ^ bond_graph(found).bonds) == 2
    assert rmsd(found, start) < rmsd(end, start) + 1e-6


def test_equal_atoms_of_a_crystal_keep_their_places() -> None:
    """A vacancy moves: the atom beside it jumps, all others stay."""
    crystal = bulk("Cu", cubic=True) * (2, 2, 2)
    jumped = crystal.copy()
    jumped.positions[1] = crystal.positions[0]
    start, end = crystal[1:], jumped[1:]
    assert matched_order(start, end) == list(range(len(start)))
    shuffled = end[np.random.default_rng(0).permutation(len(end))]
    assert np.allclose(reordered(start, shuffled).positions, end.positions)


@pytest.mark.parametrize("method", INTERPOLATIONS.names())
def test_no_method_lets_a_hydrogen_run_through_carbon_and_nitrogen(method: str) -> None:
    images = interpolate(hydrogen_cyanide(), hydrogen_isocyanide(), 11, method)
    assert len(images) == 11 and not collisions(images)
    assert rmsd(images[0], hydrogen_cyanide()) < 1e-6 and rmsd(images[-1], hydrogen_isocyanide()) < 1e-6


def test_geodesic_images_do_not_jump() -> None:
    images = interpolate(hydrogen_cyanide(), hydrogen_isocyanide(), 11)
    steps = [np.linalg.norm(a.positions - b.positions) for a, b in itertools.pairwise(images)]
    assert max(steps) < 2.5 * min(steps)


def test_a_path_without_a_way_round_is_refused() -> None:
    start = Atoms("H2", [[0, 0, 0], [0, 0, 0.1]])
    end = Atoms("H2", [[0, 0, 0], [0, 0, 0.12]])
    with pytest.raises(CalculationError, match="collide"):
        interpolate(start, end, 5)
    with pytest.raises(InputError, match="allowed: geodesic"):
        interpolate(start, end, 5, "cubic")
