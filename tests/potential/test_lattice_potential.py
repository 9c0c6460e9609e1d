"""A network with a harmonic remainder: exact phonons, right derivatives, any cell of a crystal alike."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import make_supercell

from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.lattice import build_supercell
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.potential import LatticePotential, ReferenceLattice, build_graph, load_model, save_model
from himlip_ase.potential.derivatives import hessian_vector_product
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.lattice_potential import network_of
from tests.potential.zoo import h3s, rattled, small_model

DIMS = (2, 2, 1)


def random_constants(dims: tuple[int, int, int] = DIMS, seed: int = 0) -> ForceConstants:
    """Of no symmetry but index symmetry and the acoustic sum rule."""
    primitive = h3s()
    n, count = len(primitive), int(np.prod(dims))
    values = np.random.default_rng(seed).normal(scale=0.05, size=(n, n * count, 3, 3))
    matrices = ForceConstants(primitive, dims, values).dynamical_matrices()
    hermitian = (matrices.matrices + np.conj(matrices.matrices.swapaxes(1, 2))) / 2
    return matrices.with_matrices(hermitian).with_acoustic_sum_rule().force_constants()


@cache
def tied() -> LatticePotential:
    constants = random_constants()
    lattice = ReferenceLattice.of(constants.primitive, constants.dims)
    return LatticePotential(small_model(), lattice, constants.compact)


def test_force_constants_are_those_of_the_network_and_the_remainder() -> None:
    added, primitive = random_constants(), h3s()
    both = HiMLIPCalculator(tied()).get_force_constants(primitive, DIMS, symmetry=False)
    alone = HiMLIPCalculator(small_model()).get_force_constants(primitive, DIMS, symmetry=False)
    assert both.compact - alone.compact == pytest.approx(added.compact, abs=1e-12)


def test_larger_supercells_get_what_phonopy_interpolates() -> None:
    dims = (3, 4, 2)
    supercell, wanted = (
        build_supercell(h3s(), dims),
        random_constants().dynamical_matrices().interpolated(dims),
    )
    n, count = 4, int(np.prod(dims))
    vectors = np.zeros((3 * n, n * count, 3))
    for row in range(3 * n):
        vectors[row, row // 3 * count, row % 3] = 1
    graph = build_graph(supercell, tied().elements, tied().cutoff)
    rows = tied().remainder.products(graph, torch.from_numpy(vectors)).numpy()
    compact = rows.reshape(n, 3, n * count, 3).transpose(0, 2, 1, 3)
    assert compact == pytest.approx(wanted.force_constants().compact, abs=1e-12)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(copy.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def test_forces_and_stress_are_derivatives() -> None:
    rng = np.random.default_rng(2)
    atoms = strained(rattled(build_supercell(h3s(), DIMS), 0.1), 0.01 * np.diag([1, -2, 1]))
    found = evaluate(tied(), atoms)
    direction = rng.normal(size=atoms.positions.shape)

    def along(step: float) -> float:
        moved = atoms.copy()
        moved.positions += step * direction
        return float(evaluate(tied(), moved).energies[0])

    slope = (along(1e-5) - along(-1e-5)) / 2e-5
    assert -(found.forces[0] * direction).sum() == pytest.approx(slope, abs=1e-6)
    for strain in (np.diag([1.0, 0, 0]), np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])):
        steps = [float(evaluate(tied(), strained(atoms, s * strain)).energies[0]) for s in (1e-5, -1e-5)]
        slope = (steps[0] - steps[1]) / 2e-5 / atoms.get_volume()
        voigt = np.array([strain[0, 0], 0, 0, 0, 0, 2 * strain[0, 1]])
        assert found.stresses[0] @ voigt == pytest.approx(slope, abs=1e-7)


def test_closed_forms_are_those_of_automatic_differentiation() -> None:
    atoms = [rattled(build_supercell(h3s(), DIMS), 0.1), rattled(build_supercell(h3s(), (1, 2, 2)), 0.1, 3)]
    graph = build_graph(atoms, tied().elements, tied().cutoff)
    positions = graph.positions.clone().requires_grad_(True)
    strain = torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True)
    graph.positions = positions
    energies = tied().remainder(graph, (strain + strain.transpose(1, 2)) / 2)
    gradient, virial = torch.autograd.grad(energies.sum(), (positions, strain))
    closed = tied().remainder.energy_forces_virials(graph)
    for one, other in zip(closed, (energies, -gradient, virial), strict=True):
        assert one.detach().numpy() == pytest.approx(other.detach().numpy(), abs=1e-12)
    graph.positions = positions.detach()
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=graph.positions.shape))
    plain = hessian_vector_product(tied(), graph, vectors)
    recorded = hessian_vector_product(tied(), graph, vectors, create_graph=True).detach()
    assert plain.numpy() == pytest.approx(recorded.numpy(), abs=1e-10)


def test_calculator_has_all_derivatives() -> None:
    calc = HiMLIPCalculator(tied())
    atoms = rattled(h3s(), 0.05)
    vectors = np.random.default_rng(1).normal(size=(2, 4, 3))
    hessian = calc.get_hessian(atoms)
    products = np.einsum("iajb,kjb->kia", hessian, vectors)
    assert calc.hessian_vector_product(atoms, vectors) == pytest.approx(products, abs=1e-10)
    assert calc.recorded_products(atoms)(vectors) == pytest.approx(products, abs=1e-10)
    others = np.random.default_rng(2).normal(size=(2, 4, 3))
    plain = HiMLIPCalculator(small_model()).third_derivatives(atoms, vectors, others)
    assert calc.third_derivatives(atoms, vectors, others) == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(np.diag([2, 1, 2]), id="2x2x2"),
        pytest.param(np.diag([1, 1, 4]), id="1x2x4"),
        pytest.param(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 2]]), id="sheared"),
        pytest.param(np.array([[1, 0, 0], [2, 1, 0], [-3, 1, 1]]), id="another basis"),
    ],
)
def test_any_cell_order_image_and_origin_of_a_crystal_is_the_same(times: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    small = rattled(build_supercell(h3s(), (1, 2, 1)), 0.12)
    other = make_supercell(small, times)
    other = other[rng.permutation(len(other))]
    other.positions += rng.integers(-2, 3, size=(len(other), 3)) @ other.cell.array
    other.positions += rng.normal(scale=3.0, size=3)
    one, two = evaluate(tied(), small), evaluate(tied(), other)
    alone = evaluate(network_of(tied()), small)
    assert abs(one.energies[0] - alone.energies[0]) > 1e-3
    assert two.energies[0] / len(other) == pytest.approx(one.energies[0] / len(small), abs=1e-10)
    assert two.stresses[0] == pytest.approx(one.stresses[0], abs=1e-10)
    lengths = [np.sort(np.linalg.norm(found.forces[0], axis=1)) for found in (one, two)]
    assert lengths[1] == pytest.approx(np.repeat(lengths[0], len(other) // len(small)), abs=1e-9)


def test_a_shift_is_told_from_a_small_distortion_that_it_resembles() -> None:
    """H dimerised by 0.1 Å in a row of S: a shift by half of the cell nearly gives the same sites."""
    primitive = Atoms(
        "S2H2",
        cell=[6.0, 2.5, 2.5],
        pbc=True,
        positions=[[0, 0, 0], [3, 0, 0], [1.55, 1, 0.3], [4.45, 1, 0.3]],
    )
    lattice = ReferenceLattice.of(primitive, (1, 1, 1))
    springs = np.kron(np.eye(4) - 1 / 4, np.eye(3)).reshape(4, 3, 4, 3).transpose(0, 2, 1, 3)
    model = LatticePotential(small_model(), lattice, springs)
    for amplitude in (0.0, 0.02):
        atoms = rattled(primitive.repeat((2, 2, 1)), amplitude)
        wanted = evaluate(model, atoms).energies[0]
        if amplitude == 0:
            assert wanted == pytest.approx(evaluate(small_model(), atoms).energies[0], abs=1e-10)
        atoms.positions += [3.0, 0, 0]
        assert evaluate(model, atoms).energies[0] == pytest.approx(wanted, abs=1e-10)


def test_many_products_at_once_are_those_one_by_one(monkeypatch) -> None:
    from himlip_ase.potential import harmonic_remainder

    graph = build_graph(rattled(build_supercell(h3s(), (2, 2, 2)), 0.1), tied().elements, tied().cutoff)
    vectors = torch.from_numpy(np.random.default_rng(3).normal(size=(7, 32, 3)))
    whole = tied().remainder.products(graph, vectors)
    monkeypatch.setattr(harmonic_remainder, "CHUNK_BYTES", 200_000)
    assert tied().remainder.products(graph, vectors).numpy() == pytest.approx(whole.numpy(), abs=1e-14)
    assert tied().remainder.products(graph, vectors[:0]).shape == (0, 32, 3)


def test_atoms_on_their_sites_feel_nothing_of_it() -> None:
    atoms = strained(build_supercell(h3s(), (1, 2, 3)), np.full((3, 3), 0.01))
    atoms.positions += [0.3, 5.0, -0.2]
    ours, plain = evaluate(tied(), atoms), evaluate(small_model(), atoms)
    assert ours.energies == pytest.approx(plain.energies, abs=1e-12)
    assert ours.forces[0] == pytest.approx(plain.forces[0], abs=1e-12)
    assert ours.stresses == pytest.approx(plain.stresses, abs=1e-12)


def test_a_calculator_that_has_seen_one_crystal_takes_another() -> None:
    calc = HiMLIPCalculator(tied())
    first, second = (rattled(build_supercell(h3s(), DIMS), 0.1, seed) for seed in (1, 2))
    fresh = HiMLIPCalculator(tied()).evaluate([second]).energies[0]
    second.positions += [0.4, -7.0, 2.0]
    calc.evaluate([first])
    assert calc.evaluate([second]).energies[0] == pytest.approx(fresh, abs=1e-10)


def test_single_precision_rounds_the_network_alone() -> None:
    atoms = rattled(build_supercell(h3s(), DIMS), 0.1)
    single = HiMLIPCalculator(tied(), dtype="float32")
    assert single._first_order.remainder.compact.dtype == torch.float64
    double = HiMLIPCalculator(tied()).evaluate([atoms])
    found = single.evaluate([atoms])
    assert found.energies == pytest.approx(double.energies, abs=1e-4)
    assert found.forces[0] == pytest.approx(double.forces[0], abs=1e-3)


def test_files_hold_network_and_remainder(tmp_path) -> None:
    path = save_model(tied(), tmp_path / "tied.safetensors", {"licence": "CC0"})
    atoms = rattled(build_supercell(h3s(), DIMS), 0.1)
    again = load_model(path)
    assert isinstance(again, LatticePotential)
    assert np.array_equal(evaluate(again, atoms).forces[0], evaluate(tied(), atoms).forces[0])
    atoms.calc = HiMLIPCalculator(path)
    assert atoms.get_stress() == pytest.approx(evaluate(tied(), atoms).stresses[0], abs=1e-12)


def refused() -> dict[str, tuple[Atoms, str]]:
    good = build_supercell(h3s(), DIMS)
    turned = good.copy()
    turned.rotate(20, "z", rotate_cell=True)
    slab = good.copy()
    slab.pbc = [True, True, False]
    vacancy = good.copy()
    del vacancy[0]
    exchanged = good.copy()
    exchanged.numbers[[0, 4]] = 1
    crowded = good.copy()
    crowded.positions[5] = crowded.positions[4] + [0.0, 0.4, 0.3]
    return {
        "rotated": (turned, "rotat"),
        "not periodic": (slab, "not periodic"),
        "a vacancy": (vacancy, "no multiple"),
        "another composition": (exchanged, "no multiple"),
        "two atoms on a site": (crowded, "nearest to one site"),
        "strained": (strained(good, 0.08 * np.diag([1, -1, 0])), "strain"),
        "other lattice": (strained(good, 0.4 * np.diag([1, -1, 0.5])), "supercell|strain"),
    }


@pytest.mark.parametrize("name", refused())
def test_other_structures_are_refused_with_what_to_use(name: str) -> None:
    atoms, words = refused()[name]
    calc = HiMLIPCalculator(tied())
    with pytest.raises(InputError, match=words) as found:
        calc.evaluate([atoms])
    assert "tied to its lattice" in str(found.value) and "network" in str(found.value)
    with pytest.raises(InputError, match=words):
        calc.hessian_vector_product(atoms, np.ones((len(atoms), 3)))
    with pytest.raises(InputError, match="structure 1"):
        calc.evaluate([build_supercell(h3s(), DIMS), atoms])


def test_constants_that_would_push_a_crystal_along_are_refused() -> None:
    constants = random_constants()
    lattice = ReferenceLattice.of(constants.primitive, constants.dims)
    with pytest.raises(InputError, match="acoustic sum rule"):
        LatticePotential(small_model(), lattice, constants.compact + 0.01)
    with pytest.raises(InputError, match="shape"):
        LatticePotential(small_model(), lattice, constants.compact[:, :4])


def test_a_mace_gets_one_too(tmp_path) -> None:
    pytest.importorskip("mace", reason="no mace-torch here")
    from tests.potential.mace_zoo import mace_potential

    constants = random_constants((2, 1, 1))
    network = copy.deepcopy(mace_potential())
    both = LatticePotential(network, ReferenceLattice.of(h3s(), constants.dims), constants.compact)
    path = save_model(both, tmp_path / "tied.safetensors")
    atoms = rattled(h3s(), 0.05)
    hessian = HiMLIPCalculator(path).get_hessian(atoms) - HiMLIPCalculator(network).get_hessian(atoms)
    folded = constants.compact.reshape(4, 4, 2, 3, 3).sum(axis=2).transpose(0, 2, 1, 3)
    assert hessian == pytest.approx(folded, abs=1e-8)


def test_torch_sim_takes_it() -> None:
    torch_sim = pytest.importorskip("torch_sim", reason="no torch-sim here")
    from himlip_ase.torch_sim import HiMLIPTorchSimModel

    images = [rattled(build_supercell(h3s(), dims), 0.1) for dims in (DIMS, (1, 2, 2))]
    state = torch_sim.io.atoms_to_state(images, torch.device("cpu"), torch.float64)
    found = HiMLIPTorchSimModel(tied(), device="cpu")(state)
    wanted = evaluate(tied(), images)
    assert found["energy"].numpy() == pytest.approx(wanted.energies, abs=1e-9)
    assert found["forces"].numpy() == pytest.approx(np.concatenate(wanted.forces), abs=1e-9)
