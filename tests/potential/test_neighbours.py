"""Every pair has its reverse, and a kept list gives what a fresh one gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.potential import neighbours
from himlip_ase.potential.graph import build_graph, concatenate
from himlip_ase.potential.neighbours import VerletList

from .zoo import CUTOFF, ZOO, h3s, rattled, small_model


@pytest.mark.parametrize("name", ZOO)
def test_every_pair_has_its_reverse(name: str) -> None:
    graph = build_graph([ZOO[name](), rattled(h3s())], ("H", "S"), CUTOFF)
    n_atoms, width = graph.neighbours.shape
    place = torch.arange(n_atoms * width).reshape(n_atoms, width)
    assert torch.equal(graph.reverse.reshape(-1)[graph.reverse], place)
    assert torch.equal((graph.reverse // width)[graph.mask], graph.neighbours[graph.mask])
    assert torch.equal(graph.reverse[~graph.mask], place[~graph.mask])
    vectors = graph.displacements(graph.positions).transpose(1, 2)
    assert torch.allclose(vectors.reshape(-1, 3)[graph.reverse][graph.mask], -vectors[graph.mask], atol=1e-13)


def test_a_concatenation_is_the_batch() -> None:
    model, frames = small_model(), [build() for build in ZOO.values()]
    parts = [build_graph(atoms, model.elements, model.cutoff) for atoms in frames]
    batch = build_graph(frames, model.elements, model.cutoff)
    assert torch.allclose(model(concatenate(parts)), model(batch), rtol=1e-14)


@pytest.mark.parametrize("name", ["crystal", "slab", "molecule", "tiny_cell", "left_handed"])
def test_a_kept_list_gives_the_forces_of_a_fresh_one(name: str) -> None:
    kept, fresh = HiMLIPCalculator(small_model(), skin=0.4), HiMLIPCalculator(small_model())
    atoms = ZOO[name]()
    rng = np.random.default_rng(0)
    for _ in range(12):
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        for quantity in ("energy", "forces") + (("stress",) if atoms.pbc.all() else ()):
            one, two = (np.asarray(calc.get_property(quantity, atoms)) for calc in (kept, fresh))
            assert np.abs(one - two).max() <= 1e-12 * max(1.0, np.abs(two).max())
    assert min(len(atoms), 2) <= kept._verlet.builds < 12 and fresh._verlet.builds == 12


def test_a_list_is_found_anew_when_it_must_be() -> None:
    pairs, atoms = VerletList(CUTOFF, 0.4), h3s()
    first = pairs(atoms)
    atoms.positions[1, 2] += 0.199
    assert pairs(atoms) is first
    changes = {
        "position": lambda a: a.positions.__setitem__((1, 2), a.positions[1, 2] + 0.002),
        "cell": lambda a: a.set_cell(a.cell.array * (1 + 1e-12)),
        "pbc": lambda a: a.set_pbc([True, True, False]),
        "species": lambda a: a.numbers.__setitem__(0, 1),
        "wrapping": lambda a: a.positions.__setitem__(2, a.positions[2] + a.cell.array[0]),
    }
    for change in changes.values():
        before = pairs.builds
        change(atoms)
        pairs(atoms)
        assert pairs.builds == before + 1
        pairs(atoms)
        assert pairs.builds == before + 1
    assert len(pairs(Atoms("H")).first) == 0
    for skin in (-0.1, np.nan, np.inf):
        with pytest.raises(InputError, match="skin"):
            VerletList(CUTOFF, skin)


def test_dynamics_with_a_skin_follow_those_without() -> None:
    ends = []
    for skin in (0.0, 0.5):
        atoms = rattled(h3s() * (2, 1, 1), 0.02)
        atoms.calc = HiMLIPCalculator(small_model(), skin=skin)
        atoms.set_velocities(np.random.default_rng(0).normal(scale=0.1, size=atoms.positions.shape))
        VelocityVerlet(atoms, 0.2 * units.fs).run(30)
        ends.append(atoms)
    assert np.abs(ends[0].positions - ends[1].positions).max() < 1e-10
    assert ends[1].calc._verlet.builds < 10 < ends[0].calc._verlet.builds


def test_a_bad_position_is_refused_with_a_skin_too() -> None:
    calc, atoms = HiMLIPCalculator(small_model(), skin=0.3), h3s()
    calc.get_property("energy", atoms)
    atoms.positions[2] = np.nan
    with pytest.raises(InputError, match="atom 2"):
        calc.get_property("energy", atoms)


def _cells() -> list[Atoms]:
    """Cells of every kind of periodicity, skewed, left-handed, with atoms far outside."""
    random = np.random.default_rng(1)
    skewed = bulk("Cu", cubic=True) * (2, 1, 1)
    skewed.set_cell([[3, 1, 0.5], [0, 9, 2], [1, -2, 4]])
    skewed.positions = 20 * random.normal(size=skewed.positions.shape)
    mirrored = bulk("NaCl", "rocksalt", a=5.6)
    mirrored.set_cell(mirrored.cell.array[[1, 0, 2]])
    slab = bulk("Cu", cubic=True) * (2, 2, 1)
    slab.pbc = (True, False, True)
    slab.rattle(0.1)
    wire = molecule("CH4")
    wire.set_cell([0, 0, 3.0])
    wire.pbc = (False, False, True)
    large = bulk("Cu", cubic=True) * (5, 4, 3)
    large.rattle(0.1)
    return [skewed, mirrored, slab, wire, large, molecule("C6H6"), bulk("Cu"), Atoms("H")]


@pytest.mark.parametrize("reach", [4.5, 6.3])
@pytest.mark.parametrize("atoms", _cells(), ids=lambda atoms: atoms.get_chemical_formula())
def test_compiled_search_and_table_are_those_of_vesin_and_numpy(atoms, reach, monkeypatch) -> None:
    pytest.importorskip("numba")
    compiled = neighbours.find_pairs(atoms, reach)
    table = neighbours.neighbour_table([atoms], [compiled], 4.5)
    monkeypatch.setattr(neighbours, "compiled_here", lambda: False)
    plain = neighbours.find_pairs(atoms, reach)
    for name in ("first", "second", "shifts"):
        assert np.array_equal(getattr(compiled, name), getattr(plain, name)), name
    expected = neighbours.neighbour_table([atoms], [plain], 4.5)
    for name in ("neighbours", "offsets", "mask", "reverse"):
        assert np.array_equal(getattr(table, name), getattr(expected, name)), name


def test_a_list_with_a_skin_gives_the_table_of_a_fresh_one_to_the_bit() -> None:
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    kept = neighbours.VerletList(4.5, 0.8)
    kept(atoms)
    atoms.rattle(0.1, seed=3)
    tables = [
        neighbours.neighbour_table([atoms], [pairs], 4.5)
        for pairs in (kept(atoms), neighbours.find_pairs(atoms, 4.5))
    ]
    assert kept.builds == 1
    for name in ("neighbours", "offsets", "mask", "reverse"):
        assert np.array_equal(*(getattr(table, name) for table in tables)), name
