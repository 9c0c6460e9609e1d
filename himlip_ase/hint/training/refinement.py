"""The end of a training run: quasi-Newton descent on all labels at once.

Stochastic steps stop where their own noise keeps them. With a few dozen frames the whole loss is cheap enough
for L-BFGS with a strong Wolfe line search, which lowers it by another factor of several. The Hessian enters
by a few projections that stay fixed within a round, and are drawn afresh for the next.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write
from himlip_ase.hint.training.progress import PolishListener, PolishStanding
from himlip_ase.progress import LOG_SECONDS, duration

if TYPE_CHECKING:
    from himlip_ase.hint.training.batches import Batch
    from himlip_ase.hint.training.progress import Progress
    from himlip_ase.hint.training.trainer import Trainer

logger = logging.getLogger(__name__)

CHECKPOINT = "polish.safetensors"
Drawn = tuple[torch.Tensor, torch.Tensor]
BATCH_ATOMS = 64
"""Atoms evaluated at once, which bounds memory."""
PASSES_AN_ITERATION = 1.25
"""Most passes over the labels for an iteration of `torch.optim.LBFGS` with its line search."""
SETTLED = 5
"""Iterations after which the passes of an iteration are counted instead of assumed."""


def polish(
    trainer: Trainer, on_round: Callable[[Progress], None] | None = None, resume: bool = False
) -> None:
    """Descend from the trainer's weights, in place.

    Parameters
    ----------
    trainer : Trainer
        After its ``run``; its settings hold a `PolishSettings`.
    on_round : callable, optional
        Called with the trainer's progress after each round, whose losses are appended to the history. A
        `PolishListener` is told of each pass over the labels too.
    resume : bool
        Continue after the last finished round; a round starts from nothing but the weights, so the result is
        that of an unbroken run.

    Raises
    ------
    TrainingDiverged
        A non-finite loss; the weights of the last finished round are kept.
    """
    settings = trainer.settings.polish
    path = None if trainer.folder is None else trainer.folder / "state" / CHECKPOINT
    done = _load(path, trainer) if resume and path is not None and path.is_file() else 0
    batches = _batches(trainer)
    watch = _Watch(trainer, done, on_round if isinstance(on_round, PolishListener) else None)
    for number in range(done, settings.rounds):
        start = time.monotonic()
        parts = _round(trainer, batches, number, watch)
        trainer.progress.elapsed += time.monotonic() - start
        last = trainer.progress.history[-1]["epoch"] if trainer.progress.history else 0.0
        row = {"epoch": last + 1, "step": float(trainer.progress.step), "seconds": trainer.progress.elapsed}
        trainer.progress.history.append(row | parts)
        logger.info("polish: round %d of %d: loss %.5g", number + 1, settings.rounds, parts["loss"])
        if path is not None:
            _save(path, trainer, number + 1)
        if on_round:
            on_round(trainer.progress)


class _Watch:
    """Counts the passes over the labels: says what the refinement costs, then how far it is."""

    def __init__(self, trainer: Trainer, done: int, listener: PolishListener | None) -> None:
        self.settings, self.listener = trainer.settings.polish, listener
        self.labels = f"{len(trainer.store)} frames and {len(trainer.hessians)} Hessians"
        self.done, self.passes, self.said = done, 0, time.monotonic()
        self.start = self.said

    def __call__(self, number: int, iteration: int, losses: dict[str, float]) -> None:
        """A pass over the labels is done."""
        self.passes += 1
        now, settings = time.monotonic(), self.settings
        behind = (number - self.done) * settings.iterations + iteration
        ahead = (settings.rounds - self.done) * settings.iterations - behind
        pace = (now - self.start) / self.passes
        ratio = self.passes / behind if behind >= SETTLED else PASSES_AN_ITERATION
        standing = PolishStanding(
            number + 1, settings.rounds, iteration, settings.iterations, pace * ratio * ahead, dict(losses)
        )
        if self.passes == 1:
            logger.info(
                "polish: %d rounds of %d iterations on %s; a pass over them takes %.2g s, all of it about %s",
                settings.rounds - self.done, settings.iterations, self.labels, pace,
                duration(standing.seconds_left),
            )  # fmt: skip
        elif now - self.said > LOG_SECONDS:
            logger.info(
                "polish: round %d of %d, iteration %d of %d, about %s left",
                number + 1, settings.rounds, iteration, settings.iterations, duration(standing.seconds_left),
            )  # fmt: skip
            self.said = now
        if self.listener is not None:
            self.listener.polishing(standing)


def _batches(trainer: Trainer) -> list[Batch]:
    """All frames, those of similar size together so that little is padded."""
    store = trainer.store
    order = sorted(range(len(store)), key=lambda k: len(store.frames[k].atoms))
    groups: list[list[int]] = []
    atoms = BATCH_ATOMS
    for index in order:
        if atoms >= BATCH_ATOMS:
            groups.append([])
            atoms = 0
        groups[-1].append(index)
        atoms += len(store.frames[index].atoms)
    return [store.batch(group) for group in groups]


def _round(trainer: Trainer, batches: list[Batch], number: int, watch: _Watch) -> dict[str, float]:
    settings = trainer.settings
    generator = torch.Generator().manual_seed(settings.seed * 100003 + number)
    probes = [h.draw("rademacher", settings.polish.probes, generator) for h in trainer.hessians]
    optimizer = torch.optim.LBFGS(
        list(trainer.parameters.values()),
        lr=1.0,
        max_iter=settings.polish.iterations,
        history_size=settings.polish.history,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    kept = {key: parameter.detach().clone() for key, parameter in trainer.parameters.items()}
    parts: dict[str, float] = {}

    def loss() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        parts.clear()
        parts.update(_accumulate(trainer, batches, probes))
        state = optimizer.state[optimizer.param_groups[0]["params"][0]]
        watch(number, int(state.get("n_iter", 0)), parts)
        return torch.tensor(parts["loss"], dtype=torch.float64)

    try:
        optimizer.step(loss)
        trainer.check_finite(parts["loss"], parts)
    except Exception:
        with torch.no_grad():
            for key, parameter in trainer.parameters.items():
                parameter.copy_(kept[key])
        raise
    trainer.progress.step += settings.polish.iterations
    return dict(parts)


def _accumulate(trainer: Trainer, batches: list[Batch], probes: list[Drawn]) -> dict[str, float]:
    """Gradient of the loss over all labels into ``.grad``; the losses by name."""
    objective, weights = trainer.objective, trainer.settings.loss
    n_frames = sum(batch.graph.n_frames for batch in batches)
    n_atoms = sum(len(batch.graph.positions) for batch in batches)
    parts: dict[str, float] = {}

    def descend(losses: dict[str, tuple[float, torch.Tensor]]) -> None:
        torch.stack(
            [getattr(weights, k) * share * loss for k, (share, loss) in losses.items()]
        ).sum().backward()
        for key, (share, loss) in losses.items():
            parts[key] = parts.get(key, 0.0) + share * float(loss.detach())

    for batch in batches:
        frames, atoms = batch.graph.n_frames / n_frames, len(batch.graph.positions) / n_atoms
        losses = objective.frame_losses(batch)
        descend({k: (atoms if k == "forces" else frames, loss) for k, loss in losses.items()})
    if weights.hessian > 0:
        for item, drawn in zip(trainer.hessians, probes, strict=True):
            descend({"hessian": (1 / len(trainer.hessians), objective.hessian_loss(item, drawn))})
    parts["loss"] = sum(getattr(weights, key) * value for key, value in parts.items())
    if not math.isfinite(parts["loss"]):
        trainer.check_finite(parts["loss"], parts)
    return parts


def _save(path: Path, trainer: Trainer, done: int) -> None:
    header = {
        "round": str(done),
        "fingerprint": trainer.fingerprint.value,
        "settings": json.dumps(asdict(trainer.settings.polish) | {"rounds": 0}),
        "history": json.dumps(trainer.progress.history[-done:]),
        "elapsed": json.dumps(trainer.progress.elapsed),
    }
    tensors = {key: p.detach().cpu().contiguous().clone() for key, p in trainer.parameters.items()}
    with atomic_write(path, "wb", overwrite=True) as stream:
        stream.write(safetensors.torch.save(tensors, header))


def _load(path: Path, trainer: Trainer) -> int:
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}
    except Exception as error:
        raise InputError(
            f"{path} is not a complete checkpoint ({error}); delete it to repeat the refinement"
        ) from error
    if header.get("settings") != json.dumps(asdict(trainer.settings.polish) | {"rounds": 0}):
        raise InputError(f"{path} belongs to other settings; start again with --overwrite")
    trainer.fingerprint.check(header.get("fingerprint", ""), path)
    with torch.no_grad():
        for key, parameter in trainer.parameters.items():
            parameter.copy_(tensors[key].to(trainer.device))
    trainer.progress.history += json.loads(header["history"])
    trainer.progress.elapsed = json.loads(header["elapsed"])
    done = int(header["round"])
    trainer.progress.step += done * trainer.settings.polish.iterations
    return done
