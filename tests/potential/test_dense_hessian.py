"""All rows of a Hessian at once against products with unit vectors."""

from __future__ import annotations

import pytest
import torch

from himlip_ase.potential import derivatives
from himlip_ase.potential.dense_hessian import dense_hessian
from himlip_ase.potential.derivatives import hessian, hessians
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.products import hessian_products

from .zoo import ZOO, h3s, rattled, small_model


def by_products(model, graph):
    """Rows of plain products."""
    n_atoms = len(graph.positions)
    vectors = torch.eye(3 * n_atoms, dtype=torch.float64).view(-1, n_atoms, 3)
    return hessian_products(model, [graph], [vectors])[0].reshape(3 * n_atoms, 3 * n_atoms)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", ZOO)
def test_rows_are_products_with_unit_vectors(name, layers):
    model = small_model(layers)
    graph = build_graph(ZOO[name](), model.elements, model.cutoff)
    with frozen(model):
        found, expected = dense_hessian(model, graph), by_products(model, graph)
    scale = max(float(expected.abs().max()), 1.0)
    assert float((found - expected).abs().max()) <= 1e-12 * scale


def test_blocks_of_atoms_and_pairs_beyond_the_cutoff_change_nothing(monkeypatch):
    model = small_model()
    close = rattled(h3s().repeat((3, 1, 1)))
    close.positions[1] = close.positions[0] + (0.4, 0.1, 0.2)
    graph = build_graph(close, model.elements, model.cutoff)
    with frozen(model):
        monkeypatch.setattr("himlip_ase.potential.dense_hessian.BLOCK_BYTES", 1)
        found, expected = dense_hessian(model, graph), by_products(model, graph)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))


def test_the_way_does_not_show_in_the_values(monkeypatch):
    model, images = small_model(), [rattled(h3s()), rattled(h3s().repeat((2, 1, 1)))]
    together = hessians(model, images, indices=[[2, 0, 1, 3], [5]])
    monkeypatch.setattr(derivatives, "DENSE_ATOMS", 0)
    for found, atoms, rows in zip(together, images, ([2, 0, 1, 3], [5]), strict=True):
        assert torch.allclose(found, hessian(model, atoms, rows), rtol=0, atol=1e-11)


def test_little_memory_means_products(monkeypatch):
    model, atoms = small_model(), rattled(h3s())
    monkeypatch.setattr(derivatives, "dense_hessian", lambda *_: pytest.fail("more memory than allowed"))
    assert hessian(model, atoms, memory_gb=0.01).shape == (4, 3, 4, 3)


def test_running_out_of_memory_means_products_too(monkeypatch, caplog):
    def hungry(model, graph):
        raise torch.OutOfMemoryError("out of memory")

    model, atoms = small_model(), rattled(h3s())
    expected = hessian(model, atoms)
    monkeypatch.setattr(derivatives, "dense_hessian", hungry)
    assert torch.allclose(hessian(model, atoms), expected, rtol=0, atol=1e-11)
    assert "by products" in caplog.text
