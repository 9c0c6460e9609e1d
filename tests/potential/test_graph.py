"""Structures that cannot be, and descriptions that must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from himlip_ase.errors import InputError
from himlip_ase.potential.graph import build_graph

from .zoo import CUTOFF, ZOO, h3s, rattled, small_model, tiny


def build(atoms: Atoms | list[Atoms]):
    return build_graph(atoms, ("H", "S"), CUTOFF)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_position_is_named(value: float) -> None:
    atoms = h3s()
    atoms.positions[2, 1] = value
    with pytest.raises(ValueError, match="atom 2"):
        build(atoms)


def test_no_atoms_is_an_error() -> None:
    with pytest.raises(ValueError, match="no atoms"):
        build(Atoms())
    with pytest.raises(ValueError, match="no structure"):
        build([])


@pytest.mark.parametrize(
    "cell",
    [np.zeros((3, 3)), np.diag([3.0, 3.0, 0.0]), [[3, 0, 0], [0, 3, 0], [3, 3, 0]], np.diag([3, 3, np.nan])],
    ids=["zero", "one missing", "flat", "nan"],
)
def test_cells_without_volume_are_errors(cell) -> None:
    atoms = h3s()
    atoms.set_cell(cell)
    with pytest.raises(InputError, match="cell"):
        build(atoms)


@pytest.mark.parametrize("pbc", [True, False])
def test_coincident_atoms_are_named(pbc: bool) -> None:
    atoms = h3s()
    atoms.positions[3] = atoms.positions[1] + (atoms.cell[0] if pbc else 0)
    atoms.set_pbc(pbc)
    with pytest.raises(InputError, match=r"atoms (1 and 3|3 and 1) coincide"):
        build(atoms)


def test_an_atom_on_its_own_image_is_an_error() -> None:
    with pytest.raises(InputError, match="atoms 0 and 0 coincide"):
        build(Atoms("H", cell=[5e-4, 3, 3], pbc=True))


def test_unknown_elements_are_listed_beside_the_known() -> None:
    with pytest.raises(InputError, match=r"(?s)does not know (Fe, La|La, Fe).*H, S"):
        build(Atoms("HFeLa", positions=np.eye(3)))


@pytest.mark.parametrize("name", ZOO)
def test_neighbours_are_those_that_ase_finds(name: str) -> None:
    atoms = ZOO[name]()
    graph = build(atoms)
    vectors = graph.displacements(graph.positions)
    first, second, distances = neighbor_list("ijd", atoms, CUTOFF)
    for atom in range(len(atoms)):
        found = np.linalg.norm(vectors[atom][:, graph.mask[atom]].numpy(), axis=0)
        assert np.allclose(np.sort(found), np.sort(distances[first == atom]), rtol=0, atol=1e-9)
        assert sorted(graph.neighbours[atom][graph.mask[atom]].tolist()) == sorted(second[first == atom])


def test_a_replicated_graph_is_a_batch_of_copies() -> None:
    model, atoms = small_model(), [rattled(h3s()), ZOO["molecule"]()]
    energies = model(build(atoms)).detach()
    copies = model(build(atoms).replicate(3)).detach()
    assert torch.allclose(copies.reshape(3, 2), energies.expand(3, 2), rtol=1e-14)


def test_many_neighbours_are_never_dropped() -> None:
    graph = build(tiny())
    volume = tiny().cell.volume
    assert int(graph.mask.sum()) == pytest.approx(4 / 3 * np.pi * CUTOFF**3 / volume, rel=0.15)
