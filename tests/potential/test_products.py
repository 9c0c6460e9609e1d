"""However Hessian-vector products are grouped, they are the same."""

from __future__ import annotations

import gc
import logging
import time

import numpy as np
import pytest
import torch
from ase import Atoms

import himlip_ase.potential.products as module
from himlip_ase import HiMLIPCalculator
from himlip_ase.errors import CalculationError, InputError
from himlip_ase.potential import derivatives
from himlip_ase.potential.compiled import CompiledProduct
from himlip_ase.potential.derivatives import hessian, hessian_vector_product, hessians
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.memory import available_bytes, budget_bytes

from .zoo import ZOO, h2s, h3s, rattled, slab, small_model

TOLERANCE = 1e-9
"""eV/Å²."""


@pytest.fixture(autouse=True)
def by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hessians here are made row by row."""
    monkeypatch.setattr(derivatives, "DENSE_ATOMS", 0)


def frames() -> list[Atoms]:
    return [rattled(h3s()), h2s(), slab(), Atoms("S"), rattled(h3s() * (2, 1, 1), seed=3)]


def differences(atoms: Atoms, step: float = 2e-4) -> np.ndarray:
    """Hessian by fourth-order differences of forces."""
    calc = HiMLIPCalculator(small_model())
    rows = np.zeros((len(atoms), 3, len(atoms), 3))
    for atom in range(len(atoms)):
        for axis in range(3):
            forces = []
            for amount in (-2, -1, 1, 2):
                moved = atoms.copy()
                moved.positions[atom, axis] += amount * step
                forces.append(calc.get_property("forces", moved))
            rows[atom, axis] = -(forces[0] - 8 * forces[1] + 8 * forces[2] - forces[3]) / (12 * step)
    return rows


@pytest.mark.parametrize("name", ["crystal", "molecule", "tiny_cell"])
def test_hessian_is_the_difference_of_forces(name: str) -> None:
    atoms = ZOO[name]()
    full = hessian(small_model(), atoms).numpy()
    assert np.abs(full - differences(atoms)).max() < 1e-6 * max(1.0, np.abs(full).max())


def test_full_partial_chunked_batched_and_from_scratch_agree() -> None:
    model, structures = small_model(), frames()
    batched = hessians(model, structures)
    for atoms, together in zip(structures, batched, strict=True):
        alone = hessian(model, atoms)
        graph = build_graph(atoms, model.elements, model.cutoff)
        scratch = hessian_vector_product(
            model, graph, torch.eye(3 * len(atoms), dtype=torch.float64).reshape(-1, len(atoms), 3),
            create_graph=True,
        ).detach()  # fmt: skip
        tight = hessian(model, atoms, memory_gb=1e-9)
        last = hessian(model, atoms, indices=[len(atoms) - 1])
        for other in (together, scratch.reshape(alone.shape), tight):
            assert (other - alone).abs().max() < TOLERANCE
        assert (last - alone[-1:]).abs().max() < TOLERANCE


def test_rows_of_several_structures() -> None:
    calc, structures = HiMLIPCalculator(small_model(), device="cpu"), frames()[:3]
    wanted = [[-1, 0], [], [2]]
    found = calc.get_hessians(structures, wanted)
    for rows, atoms, indices in zip(found, structures, wanted, strict=True):
        assert rows.shape == (len(indices), 3, len(atoms), 3)
        assert not indices or np.abs(rows - calc.get_hessian(atoms)[indices]).max() < TOLERANCE
    assert calc.get_hessians([]) == []
    with pytest.raises(InputError, match="3 structures"):
        calc.get_hessians(structures, [[0]])
    with pytest.raises(InputError, match="indices"):
        calc.get_hessians(structures, [[9], [0], [0]])


def test_order_and_image_of_atoms_do_not_matter() -> None:
    model, atoms = small_model(), rattled(h3s() * (2, 1, 1))
    order = np.random.default_rng(0).permutation(len(atoms))
    moved = atoms[order]
    moved.positions += np.random.default_rng(1).integers(-3, 4, size=(8, 3)) @ atoms.cell.array
    full = hessian(model, atoms)
    assert (hessian(model, moved) - full[order][:, :, order]).abs().max() < TOLERANCE


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_fault_21_running_out_of_memory_halves_the_record(error, monkeypatch, caplog) -> None:
    model, structures = small_model(), frames()
    expected = hessians(model, structures)
    true_products, sizes = module._products_of, []

    def hungry(model, group):
        sizes.append(len(group))
        if sum(len(slot.graph.positions) for slot in group) > 9:
            raise error
        return true_products(model, group)

    monkeypatch.setattr(module, "_products_of", hungry)
    with caplog.at_level(logging.WARNING):
        found = hessians(model, structures)
    assert "out of memory" in caplog.text and sizes[0] > sizes[-1]
    for one, two in zip(found, expected, strict=True):
        assert (one - two).abs().max() < TOLERANCE


def test_one_structure_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(model, group):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(module, "_products_of", hungry)
    with pytest.raises(torch.OutOfMemoryError):
        hessian(small_model(), h3s())


def test_the_budget_bounds_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    model, atoms = small_model(), rattled(h3s())
    sizes, true_products = [], module._products_of

    def counted(model, group):
        products, kept = true_products(model, group)
        sizes.append((len(group), kept))
        return products, kept

    monkeypatch.setattr(module, "_products_of", counted)
    structures = [atoms] * 8
    hessians(model, structures)
    (whole, kept), *_ = sizes
    assert whole > 4 and kept > 0
    sizes.clear()
    found = hessians(model, structures, memory_gb=2.5 * module.WORKING_FACTOR * kept / whole / 1024**3)
    assert max(count for count, _ in sizes[1:]) == 2
    assert (found[5] - found[0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("trained", [True, False])
def test_products_leave_nothing_in_memory(trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By plain torch, as in the validation of a training and on a GPU; each call kept its graph."""
    monkeypatch.setenv("HIMLIP_FUSED", "0")
    model, atoms = small_model().requires_grad_(trained), rattled(h3s())
    graph = build_graph(atoms, model.elements, model.cutoff)
    vectors = torch.ones(2, len(atoms), 3, dtype=torch.float64)

    def living() -> int:
        gc.collect()
        return sum(torch.is_tensor(item) for item in gc.get_objects())

    hessian_vector_product(model, graph, vectors)
    before = living()
    for _ in range(3):
        hessian_vector_product(model, graph, vectors)
    assert living() == before


def test_available_memory_is_told() -> None:
    free = available_bytes(torch.device("cpu"))
    assert 2**20 < free < 2**50
    assert budget_bytes(2.0, torch.device("cpu")) == 2 * 1024**3


def test_a_non_finite_hessian_names_its_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    true_products = module._products_of

    def poisoned(model, group):
        products, kept = true_products(model, group)
        for slot, product in zip(group, products, strict=True):
            if slot.structure == 1:
                product[0, 0] = torch.nan
        return products, kept

    monkeypatch.setattr(module, "_products_of", poisoned)
    with pytest.raises(CalculationError, match="structure 1"):
        hessians(small_model(), [h3s(), h2s()])


# -- compiled -------------------------------------------------------------------------------------------


def test_without_a_compiler_the_same_steps_run(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def no_compiler(steps, **options):
        def fail(*tensors):
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    model, atoms = small_model(), rattled(h3s() * (2, 1, 1))
    product = CompiledProduct(model, build_graph(atoms, model.elements, model.cutoff))
    assert not product.compiled and "no C++ compiler" in caplog.text
    moved = rattled(atoms, 0.02, 5)
    graph = build_graph(moved, model.elements, model.cutoff)
    vectors = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if graph.neighbours.shape[1] <= product._graph.neighbours.shape[1]:
        expected = hessian_vector_product(model, graph, vectors)
        assert (product(graph, vectors) - expected).abs().max() < 1e-10
    with pytest.raises(InputError, match="compiled for 8 atoms"):
        product(build_graph(h3s(), model.elements, model.cutoff), vectors[:4])


@pytest.mark.slow
def test_compiled_products_are_those_of_the_hessian() -> None:
    model, atoms = small_model(), rattled(h3s())
    graph = build_graph(atoms, model.elements, model.cutoff)
    start = time.perf_counter()
    product = CompiledProduct(model, graph)
    if not product.compiled:
        pytest.skip("no working C++ compiler")
    assert time.perf_counter() - start < 600
    expected = hessian(model, atoms)
    rows = torch.stack([product(graph, v) for v in torch.eye(12, dtype=torch.float64).reshape(12, 4, 3)])
    assert (rows.reshape(4, 3, 4, 3) - expected).abs().max() < 1e-10
