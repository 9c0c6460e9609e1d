"""Molecules and crystals train together: a mixed batch is the sum of its frames, derivatives included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from himlip_ase.hint.training.batches import FrameStore, HessianItem
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.step import EVALUATE, Probe, batch_losses
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.potential.derivatives import energy_forces_stress
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

NETWORK = HiMLIPConfig(
    ("H", "C", "O"), cutoff=4.0, n_radial=4, channels=2, edge_features=2, hidden=8, mean_neighbours=10.0
)


def _frames() -> list[LabelledFrame]:
    """A crystal with a stress, a molecule, a lone atom, a slab-like mixed cell; random labels."""
    rng = np.random.default_rng(0)
    slab = Atoms("CH", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[2.5, 2.5, 12.0], pbc=[True, True, False])
    frames = []
    for atoms in (bulk("C", "diamond", a=3.6), molecule("CH3OH"), Atoms("O"), slab):
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        stress = rng.normal(0, 0.1, 6) if atoms.pbc.all() else None
        frames.append(LabelledFrame(atoms, rng.normal(), rng.normal(size=(len(atoms), 3)), stress))
    return frames


def _model() -> HiMLIP:
    model = HiMLIP(NETWORK, seed=1)
    store = FrameStore(_frames(), model, LossWeights())
    model.standardise(store.batch(range(4)).graph)
    for k, parameter in enumerate(model.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        with torch.no_grad():
            parameter += 0.1 * noise
    return model


def _gradients(model: HiMLIP, loss: torch.Tensor) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    pairs = zip(found, model.parameters(), strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


def test_values_of_a_mixed_batch_are_those_of_the_frames_alone() -> None:
    model = _model()
    store = FrameStore(_frames(), model, LossWeights())
    mixed = energy_forces_stress(model, store.batch(range(4)).graph, stress=True)
    alone = [energy_forces_stress(model, store.batch([k]).graph, stress=True) for k in range(4)]
    torch.testing.assert_close(mixed.energies, torch.cat([a.energies for a in alone]), rtol=0, atol=1e-11)
    torch.testing.assert_close(mixed.forces, torch.cat([a.forces for a in alone]), rtol=0, atol=1e-11)
    assert mixed.stresses is not None and alone[0].stresses is not None
    torch.testing.assert_close(mixed.stresses[0], alone[0].stresses[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["energy", "forces", "stress"])
def test_gradient_of_a_mixed_batch_is_the_sum_over_its_frames(kind: str) -> None:
    model = _model()
    frames = _frames()
    store = FrameStore(frames, model, LossWeights())

    def gradients(chosen: list[int]) -> list[torch.Tensor]:
        batch = store.batch(chosen)
        values = energy_forces_stress(model, batch.graph, stress=True, create_graph=True)
        return _gradients(model, batch_losses(batch, values)[kind])

    shares = [len(f.atoms) if kind == "forces" else 1 for f in frames]  # a mean over atoms, or over frames
    alone = [gradients([k]) for k in range(len(frames))]
    mixed = gradients(list(range(len(frames))))
    assert max(float(g.abs().max()) for g in mixed) > 1e-3
    for place, found in enumerate(mixed):
        summed = sum(share * own[place] for share, own in zip(shares, alone, strict=True)) / sum(shares)
        torch.testing.assert_close(found, summed, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("how", ["difference", "exact"])
def test_hessian_products_of_molecules_and_crystals_in_one_pass(how: str) -> None:
    model = _model()
    frames = [f for f in _frames() if len(f.atoms) > 1]
    rng = np.random.default_rng(3)
    probes = []
    for frame in frames:
        n = len(frame.atoms)
        label = HessianLabel(frame.atoms, rng.normal(size=(n, 3, n, 3)))
        item = HessianItem.of(label, model)
        vectors, reference = item.draw("rademacher", 1, torch.Generator().manual_seed(n))
        probes.append(Probe(item.graph, vectors[0], reference[0]))

    def gradients(chosen: list[Probe]) -> list[torch.Tensor]:
        products = EVALUATE[how](model, [], chosen, False).products
        losses = [p.loss(h) for p, h in zip(chosen, products, strict=True)]
        return _gradients(model, torch.stack(losses).sum())

    mixed, alone = gradients(probes), [gradients([p]) for p in probes]
    scale = max(float(g.abs().max()) for g in mixed)
    for place, found in enumerate(mixed):
        summed = sum(own[place] for own in alone)
        torch.testing.assert_close(found, summed, rtol=0, atol=1e-6 * scale)


def test_a_mixed_set_trains() -> None:
    frames = [f for f in _frames() if len(f.atoms) > 1]
    settings = TrainingSettings(
        epochs=12, batch_size=3, learning_rate=3e-3, device="cpu", validation_fraction=0.0,
        loss=LossWeights(energy=1.0, forces=1.0, stress=1.0), validate_every=100,
    )  # fmt: skip
    trainer = Trainer(_model(), frames, [], settings)
    history = trainer.run().history
    assert history[-1]["loss"] < history[0]["loss"]
    assert np.isfinite(history[-1]["stress"])
