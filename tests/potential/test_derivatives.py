"""Every derivative against finite differences, for every kind of structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from himlip_ase import HiMLIPCalculator
from himlip_ase.potential.derivatives import energy_forces_stress, hessian, hessian_vector_product
from himlip_ase.potential.graph import build_graph
from himlip_ase.testing import check_calculator

from .zoo import ZOO, h3s, rattled, small_model


def graph_of(atoms: Atoms | list[Atoms]):
    model = small_model()
    return build_graph(atoms, model.elements, model.cutoff)


@pytest.mark.parametrize("name", ZOO)
def test_forces_stress_and_hessian_are_derivatives(name: str) -> None:
    checks = [
        "forces = −dE/dx",
        "stress = dE/dε / V",
        "Hessian = −dF/dx",
        "Hessian is symmetric",
        "Hessian obeys the acoustic sum rule",
        "net force is zero",
    ]
    atoms = ZOO[name]()
    report = check_calculator(HiMLIPCalculator(small_model()), atoms, only=checks)
    report.raise_for_failures()
    allowed = set() if atoms.pbc.all() else {"stress = dE/dε / V"}
    assert {check.name for check in report.skipped} == allowed


@pytest.mark.parametrize("name", ["crystal", "slab", "molecule"])
def test_products_are_those_of_the_hessian(name: str) -> None:
    model, atoms = small_model(), ZOO[name]()
    vectors = torch.randn(5, len(atoms), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    full = hessian(model, atoms)
    expected = torch.einsum("iajb,kjb->kia", full, vectors)
    products = hessian_vector_product(model, graph_of(atoms), vectors)
    assert torch.allclose(products, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
    single = hessian_vector_product(model, graph_of(atoms), vectors[3])
    assert torch.allclose(single, products[3], rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_rows_in_small_batches_are_the_full_hessian() -> None:
    model, atoms = small_model(), rattled(h3s())
    full = hessian(model, atoms)
    rows = hessian(model, atoms, indices=[3, 1], memory_gb=1e-6)
    assert torch.allclose(rows, full[[3, 1]], rtol=0, atol=1e-12 * float(full.abs().max()))


def test_hessian_batches_are_halved_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import himlip_ase.potential.derivatives as derivatives
    import himlip_ase.potential.products as module

    monkeypatch.setattr(derivatives, "DENSE_ATOMS", 0)  # by products
    model, atoms = small_model(), rattled(h3s())
    full = hessian(model, atoms)
    true_products, sizes = module._products_of, []

    def hungry(model, group):
        sizes.append(len(group))
        if len(group) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return true_products(model, group)

    monkeypatch.setattr(module, "_products_of", hungry)
    assert torch.allclose(hessian(model, atoms), full, rtol=0, atol=1e-12 * float(full.abs().max()))
    assert sizes[0] > 3 and max(sizes[-3:]) <= 3


def test_gradients_of_products_with_respect_to_parameters() -> None:
    """What training on Hessians follows: d/dθ of (Hv)·w, against differences, for every tensor of weights."""
    model = small_model()
    graph = graph_of([rattled(h3s()), ZOO["molecule"]()])
    generator = torch.Generator().manual_seed(5)
    v, w = torch.randn(2, len(graph.positions), 3, dtype=torch.float64, generator=generator)

    def value() -> torch.Tensor:
        return (hessian_vector_product(model, graph, v, create_graph=True) * w).sum()

    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
    step, checked = 3e-5, 0
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        values = []
        for amount in (-2 * step, -step, step, 2 * step):
            with torch.no_grad():
                parameter += amount * direction
            values.append(value().item())
            with torch.no_grad():
                parameter -= amount * direction
        numeric = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        analytic = 0.0 if gradient is None else float((gradient * direction).sum())
        scale = max(abs(analytic), 1e-3 * abs(value().item()))
        assert abs(numeric - analytic) <= 1e-6 * scale, f"{name}: {analytic} against {numeric}"
        checked += abs(analytic) > 0
    assert checked > len(names) // 2


def test_no_graph_is_kept_after_an_evaluation() -> None:
    result = energy_forces_stress(small_model(), graph_of(rattled(h3s())))
    assert not (result.energies.requires_grad or result.forces.requires_grad or result.stresses.requires_grad)
    product = hessian_vector_product(small_model(), graph_of(rattled(h3s())), torch.ones(4, 3).double())
    assert not product.requires_grad


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        hessian_vector_product(small_model(), graph_of(h3s()), torch.ones(3, 3).double())


def test_virial_of_the_stress_matches_the_pressure_of_a_volume_change() -> None:
    model, atoms = small_model(), rattled(h3s())
    stress = energy_forces_stress(model, graph_of(atoms)).stresses[0]

    def energy(volume_scale: float) -> float:
        copy = atoms.copy()
        copy.set_cell(copy.cell.array * volume_scale ** (1 / 3), scale_atoms=True)
        return model(graph_of(copy)).item()

    step, volume = 1e-4, atoms.cell.volume
    pressure = -(energy(1 + step) - energy(1 - step)) / (2 * step * volume)
    assert np.isclose(-float(stress.trace()) / 3, pressure, rtol=1e-6)
