"""Networks that grow from random weights, as `himlip finetune` grows them without a base; costs of a step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from benchmarks.h3s_training import h3s_network
from himlip_ase.hint.training.input_statistics import InputStatistics
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import start_model
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.potential.network import HiMLIP


def trainer_from_scratch(
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel | HessianProducts],
    settings: TrainingSettings,
) -> Trainer:
    """What trains the network of H3S from random weights; statistics of its inputs are taken as it grows."""
    model, _ = start_model(frames, [], None, h3s_network(), settings)
    assert isinstance(model, HiMLIP)
    statistics = InputStatistics(model, frames, settings.seed)
    return Trainer(model, frames, hessians, settings, statistics=statistics)


def step_seconds(trainers: Mapping[str, Trainer], rounds: int = 5) -> dict[str, float]:
    """CPU seconds of a step of each, the least of interleaved repetitions; changes their weights."""
    best = dict.fromkeys(trainers, float("inf"))
    for _ in range(rounds):
        for name, own in trainers.items():
            start = time.process_time()
            own.take_step(range(own.settings.batch_size), 0.5)
            best[name] = min(best[name], time.process_time() - start)
    return best
