"""The statistics of a network's inputs follow it while it grows, and stay with a base."""

from __future__ import annotations

from dataclasses import replace

import torch
from ase import Atoms
from ase.build import bulk

from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.input_statistics import InputStatistics, typical_frames
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled, toy_frame

NETWORK = HiMLIPConfig(("Cu",), n_radial=4, channels=2, edge_features=2, hidden=8, layers=2)
SETTINGS = TrainingSettings(
    epochs=30, batch_size=3, validation_fraction=0.0, learning_rate=1e-2, warmup_steps=2, device="cpu"
)


def copper_frames() -> list[LabelledFrame]:
    crystal = bulk("Cu", "fcc", a=3.7, cubic=True)
    return [toy_frame(atoms) for atoms in rattled(crystal, 9, 0.2)]


def spreads(model: HiMLIP) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.named_buffers() if k.endswith("spread")}


def test_statistics_follow_a_network_from_scratch() -> None:
    """At the end they are those of the trained network, not those of the random one."""
    frames = copper_frames()
    model = finetune(frames, settings=SETTINGS, network=NETWORK).model
    trained = spreads(model)
    InputStatistics(model, frames, 0)()
    now = spreads(model)
    fresh = HiMLIP(NETWORK, seed=SETTINGS.seed)
    InputStatistics(fresh, frames, 0)()
    for name, start in spreads(fresh).items():
        drift = (trained[name] / now[name]).log().abs().median()
        growth = (start / now[name]).log().abs().median()
        assert drift < 0.3 * growth, name


def test_statistics_follow_within_an_epoch() -> None:
    """An epoch of many steps leaves the statistics behind, unless they are taken every few steps."""
    frames = [toy_frame(atoms) for atoms in rattled(bulk("Cu", "fcc", a=3.7, cubic=True), 40, 0.2)]
    drift = {}
    for every in (None, 4):
        settings = replace(SETTINGS, epochs=1, batch_size=1, schedule="constant", statistics_every=every)
        model = finetune(frames, settings=settings, network=NETWORK).model
        trained = spreads(model)
        InputStatistics(model, frames, 0)()
        now = spreads(model)
        drift[every] = max(float((trained[k] / now[k]).log().abs().median()) for k in now)
    assert drift[4] < 0.6 * drift[None], drift


def test_a_base_keeps_its_statistics() -> None:
    frames = copper_frames()
    base = finetune(frames[:5], settings=SETTINGS, network=NETWORK).model
    before = spreads(base)
    after = spreads(finetune(frames[5:], base=base, settings=SETTINGS).model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rare_elements_are_among_the_typical_frames() -> None:
    common = [LabelledFrame(Atoms("H"), 0.0) for _ in range(300)]
    rare = [LabelledFrame(Atoms("HS"), 0.0) for _ in range(3)]
    chosen = typical_frames([set(f.atoms.symbols) for f in (*common, *rare)], seed=0)
    assert {300, 301, 302} <= set(chosen) and len(chosen) < 150
