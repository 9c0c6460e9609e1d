"""One pass for all labels of a step: the values and gradients of separate, exact derivatives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from ase import Atoms
from ase.build import bulk

import himlip_ase.hint.training.step as step_module
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.step import Probe, by_difference, by_differentiation, passes
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame, toy_label

SMALL = HiMLIPConfig(("Cu",), n_radial=4, channels=2, edge_features=2, hidden=8, layers=2)
FAST = TrainingSettings(
    epochs=2, batch_size=3, validation_fraction=0.0, warmup_steps=1, device="cpu", probes=2, ema=0.0
)


def _structures() -> list[Atoms]:
    cube = rattled(bulk("Cu", "fcc", a=3.7, cubic=True), 2, 0.15)
    molecule = Atoms("Cu3", [[0, 0, 0], [2.2, 0.1, 0], [0.9, 2.0, 0.3]])
    return [*cube, molecule, bulk("Cu", a=3.6)]


def _model() -> HiMLIP:
    model = HiMLIP(SMALL, seed=1)
    typical = rattled(bulk("Cu", a=3.7, cubic=True), 6, 0.3)
    model.standardise(build_graph(typical, SMALL.elements, SMALL.cutoff))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def _gradient(model: HiMLIP, loss: torch.Tensor) -> torch.Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.reshape(-1) for g in found if g is not None])


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_difference_of_forces_is_the_exact_product_in_value_and_gradient() -> None:
    """Crystals and a molecule; probes at frames (two at one of them) and beside them, of any length."""
    graphs = [build_graph(a, SMALL.elements, SMALL.cutoff) for a in _structures()]
    graphs = [replace(g, volumes=torch.nan_to_num(g.volumes, nan=1.0)) for g in graphs]
    model = _model()
    other = build_graph(bulk("Cu", a=3.9).repeat((2, 1, 1)), SMALL.elements, SMALL.cutoff)
    probes = []
    for seed, (graph, frame, size) in enumerate(
        [(graphs[1], 1, 1.0), (graphs[1], 1, 1.0), (graphs[2], 2, 40.0), (other, None, 0.01)]
    ):
        n = len(graph.positions)
        vector = size * _random(n, 3, seed=seed).sign()
        probes.append(Probe(graph, vector, _random(n, 3, seed=seed + 50), 0.7, frame))
    found = {}
    for evaluate in (by_difference, by_differentiation):
        values = evaluate(model, graphs, probes, True)
        assert values.frames is not None and values.frames.stresses is not None
        parts = (values.frames.energies, values.frames.forces, values.frames.stresses[[0, 1, 3]])
        misfits = [(part - _random(*part.shape, seed=9)).square().sum() for part in parts]
        misfits += [p.loss(h) for p, h in zip(probes, values.products, strict=True)]
        products = [h / p.vector.norm() for p, h in zip(probes, values.products, strict=True)]
        found[evaluate] = (*parts, torch.cat(products), _gradient(model, torch.stack(misfits).sum()))
    for ours, exact in zip(found[by_difference], found[by_differentiation], strict=True):
        assert float((ours - exact).norm()) < 1e-7 * float(exact.norm())


def test_frames_of_probes_cost_no_further_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build_graph(_structures()[0], SMALL.elements, SMALL.cutoff)
    seen = []
    model = _model()
    true = step_module.trainable_derivatives
    monkeypatch.setattr(
        step_module, "trainable_derivatives", lambda m, g, s: seen.append(g.n_frames) or true(m, g, s)
    )
    probe = Probe(
        graph, torch.ones(4, 3, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64), 1.0, 1
    )
    by_difference(model, [graph, graph], [probe], False)
    assert seen == [3]  # one frame, and two copies for the other one and its probe


def test_bounded_passes_give_the_gradient_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a probe at a frame does not fit into the pass of the frames."""
    frames = [toy_frame(a, hessian=toy_label(a)) for a in rattled(bulk("Cu", cubic=True), 3, 0.1)]
    hessians = [f.hessian for f in frames if f.hessian is not None]
    gradients = []
    for limit in (512, 8):
        monkeypatch.setattr(step_module, "PASS_ATOMS", limit)
        monkeypatch.setattr(passes, "__defaults__", (limit,))
        model = HiMLIP(SMALL, seed=0)
        trainer = Trainer(model, frames, hessians, replace(FAST, hessian_batch=3))
        drawn = trainer.turns.draw([2, 0], 0, trainer.generator)
        assert [hessian.frame for hessian in drawn] == [2, 0, None]
        weights = dict(energy=1.0, forces=1.0, stress=1.0, hessian=1.0)
        trainer.objective.descend(trainer.store, [2, 0], drawn, weights)
        gradients.append(torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]))
    assert float((gradients[0] - gradients[1]).norm()) < 1e-6 * float(gradients[0].norm())


def test_hessians_of_the_batch_come_first_and_none_is_left_out() -> None:
    images = rattled(bulk("Cu", cubic=True), 5, 0.1)
    frames = [toy_frame(a) for a in images]
    alone = bulk("Cu", a=3.9)
    trainer = Trainer(HiMLIP(SMALL), frames, [toy_label(a) for a in (alone, images[3], images[1])], FAST)
    turns, generator = trainer.turns, trainer.generator
    assert turns.items_at == {3: [1], 1: [2]}
    (first,) = turns.draw([0, 1, 2], 0, generator)
    assert (first.item, first.frame) == (trainer.hessians[2], 1)
    taken = []
    for step in range(3):
        (drawn,) = turns.draw([0, 2], step, generator)
        assert drawn.frame is None
        taken.append(drawn.item)
    assert taken == list(trainer.hessians)


def test_either_kind_of_product_trains_to_the_same_weights() -> None:
    frames: list[LabelledFrame] = [toy_frame(a) for a in rattled(bulk("Cu", cubic=True), 4, 0.1)]
    label = toy_label(bulk("Cu", cubic=True))
    weights = []
    for kind in ("difference", "exact"):
        settings = replace(FAST, hessian_products=kind)  # type: ignore[arg-type]
        model = finetune(frames, [label], settings=settings, network=SMALL).model
        weights.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert float((weights[0] - weights[1]).norm()) < 1e-6 * float(weights[1].norm())


def test_a_checkpoint_from_before_a_setting_existed_goes_on(tmp_path: Path) -> None:
    frames = [toy_frame(a) for a in rattled(bulk("Cu", cubic=True), 4, 0.1)]
    finetune(frames, settings=FAST, folder=tmp_path, network=SMALL)
    path = tmp_path / "state" / "checkpoint.safetensors"
    with safetensors.safe_open(path, framework="pt") as stream:
        header, tensors = stream.metadata(), {k: stream.get_tensor(k) for k in stream.keys()}
    header["settings"] = header["settings"].replace('"hessian_batch": 1, ', "")
    assert "hessian_batch" not in header["settings"]
    safetensors.torch.save_file(tensors, path, header)
    finetune(frames, settings=FAST, folder=tmp_path, network=SMALL, resume=True, overwrite=True)
