"""The training loop: exact to the bit when continued on a CPU, safe against NaN and kills."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.hint.training.batches import Batch, FrameStore, HessianItem, HessianStore
from himlip_ase.hint.training.checkpoints import (
    TrainingState,
    check_settings,
    read_state,
    write_history,
    write_state,
)
from himlip_ase.hint.training.distributed import ALONE, Processes
from himlip_ase.hint.training.fingerprint import COUNTED, Fingerprint
from himlip_ase.hint.training.input_statistics import MARKS, marks_passed
from himlip_ase.hint.training.losses import projected_hessian_loss
from himlip_ase.hint.training.optimizers import OPTIMIZERS
from himlip_ase.hint.training.progress import Progress, SwappedWeights, TrainingDiverged, choose_device
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.step import EVALUATE, FRAME_LOSSES, Probe, batch_losses, passes
from himlip_ase.labels.digests import structure_digest
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.potential.derivatives import (
    energy_forces_stress,
    hessian_vector_product,
    trainable_derivatives,
)
from himlip_ase.potential.interface import Potential

logger = logging.getLogger(__name__)

VALIDATION_PROBES = 4
MOST_JUDGES = 64
"""Hessians that judge the model in a validation, evenly spread over those that there are."""
LEAST_IMPROVEMENT = 1e-3
"""Relative fall of the validation score that counts as one, for patience and plateaus."""
CHECKPOINT = "checkpoint.safetensors"
Drawn = tuple[HessianItem, int | None, Tensor, Tensor]
"""A Hessian of a step, the frame of the batch that it is at, vectors and products of the label."""


class Trainer:
    """Trains a model in place.

    Parameters
    ----------
    model : Potential
        Any module with `elements`, `cutoff` and ``forward(graph, strain)``; float64.
    training, validation : sequence of LabelledFrame
        `validation` may be empty: then the last weights are returned instead of the best.
    hessians : sequence of HessianLabel or HessianProducts
        `hessian_batch` of them take part in every `hessian_every`-th step.
    settings : TrainingSettings
    folder : Path, optional
        Where checkpoints (``state/``) and ``history.csv`` go. None: nothing is written.
    fingerprint : Fingerprint
        Identifies model and labels; a checkpoint of another is refused.
    on_epoch : callable, optional
        Called with the Progress after each epoch.
    validation_hessians : sequence of HessianLabel or HessianProducts
        Hessians that are not trained on and judge the model; those of the training if there are none.
    replay : sequence of LabelledFrame
        Frames of the base model's own training, a batch of which is learnt from in every `replay_every`-th
        step against forgetting: forces and stresses only, because energies of two levels of theory differ.
    processes : Processes
        Among which batches and probes are shared out; the first one writes.
    statistics : callable, optional
        Takes the statistics of the inputs of a network that grows from scratch; called now and then. None: a
        base keeps those that it has.
    store : FrameStore, optional
        Of `training`, if it is there already.
    items_at : dict of int to list of int, optional
        Which of `hessians` belong to the structure of which frame of `training`; None: found by reading all.
    """

    def __init__(
        self,
        model: Potential,
        training: Sequence[LabelledFrame],
        hessians: Sequence[HessianLabel | HessianProducts],
        settings: TrainingSettings,
        validation: Sequence[LabelledFrame] = (),
        folder: Path | None = None,
        fingerprint: Fingerprint | None = None,
        on_epoch: Callable[[Progress], None] | None = None,
        validation_hessians: Sequence[HessianLabel | HessianProducts] = (),
        replay: Sequence[LabelledFrame] = (),
        processes: Processes = ALONE,
        statistics: Callable[[], None] | None = None,
        store: FrameStore | None = None,
        items_at: dict[int, list[int]] | None = None,
    ) -> None:
        if processes.count > 1 and (settings.epochs is None or settings.max_minutes is not None):
            raise InputError(
                "several processes must end together: give epochs and no max_minutes (--epochs, no --minutes)"
            )
        if not training and not hessians:
            raise InputError("nothing to train on: neither frames nor Hessians")
        self.settings = settings
        self.device = choose_device(settings.device)
        self.model = model.to(self.device)
        self.folder = folder
        self.processes = processes
        self.fingerprint = fingerprint or Fingerprint()
        self.on_epoch = on_epoch
        self.statistics = statistics
        if store is None or store.device != self.device:
            store = FrameStore(training, model, settings.loss, self.device)
        self.store = store
        self.validation = FrameStore(validation, model, settings.loss, self.device).batches(
            settings.batch_size
        )
        self.hessians = HessianStore(hessians, model, self.device)
        self.items_at = frames_of_hessians(training, hessians) if items_at is None else items_at
        self.parameters = {k: p for k, p in model.named_parameters() if p.requires_grad}
        self.optimizer = OPTIMIZERS[settings.optimizer].build(self.parameters.values(), settings)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.ema = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.best: dict[str, Tensor] = {}
        self.progress = Progress()
        fixed = torch.Generator().manual_seed(settings.seed + 1)
        judges = HessianStore(validation_hessians or hessians, model, self.device)
        spread = range(0, len(judges), max(1, -(-len(judges) // MOST_JUDGES)))
        self.judges = [(judges[k], judges[k].draw("rademacher", VALIDATION_PROBES, fixed)) for k in spread]
        self.replay = FrameStore(replay, model, settings.loss, self.device) if len(replay) else None

    # -- schedules -------------------------------------------------------------------------------------------

    def _fraction(self, step_in_epoch: float = 0.0) -> float:
        s = self.settings
        if s.epochs is not None:
            return min((self.progress.epoch + step_in_epoch) / s.epochs, 1.0)
        assert s.max_minutes is not None
        return min(self._elapsed() / (60 * s.max_minutes), 1.0)

    def _elapsed(self) -> float:
        return self.progress.elapsed + time.monotonic() - self._started

    def _learning_rate(self, fraction: float) -> float:
        s = self.settings
        rate = s.learning_rate * min(1.0, (self.progress.step + 1) / max(s.warmup_steps, 1))
        if s.schedule == "cosine":
            rate *= s.final_rate + (1 - s.final_rate) * 0.5 * (1 + math.cos(math.pi * fraction))
        elif s.schedule == "plateau":
            rate *= self.progress.plateau_factor
        return rate

    # -- one step --------------------------------------------------------------------------------------------

    def frame_losses(self, batch: Batch, create_graph: bool = True) -> dict[str, Tensor]:
        """Unweighted losses of a batch: energy (per atom), forces, stress.

        Parameters
        ----------
        batch : Batch
        create_graph : bool
            Whether they will be differentiated.

        Returns
        -------
        dict of str to Tensor ()
        """
        stress = self._with_stress(batch)
        derivatives = trainable_derivatives if create_graph else energy_forces_stress
        out = derivatives(self.model, batch.graph, stress=stress)
        return batch_losses(batch, out, self.settings.loss.huber)

    def _with_stress(self, batch: Batch) -> bool:
        return self.settings.loss.stress > 0 and bool((batch.stress_weights > 0).any())

    def hessian_loss(
        self, item: HessianItem, drawn: tuple[Tensor, Tensor], create_graph: bool = True
    ) -> Tensor:
        """Projected Hessian loss times 3N: the mean squared norm of a row's error, eV²/Å⁴.

        Parameters
        ----------
        item : HessianItem
        drawn : (Tensor, Tensor)
            Vectors and the label's products with them, (K, N, 3) each.
        create_graph : bool
            Whether it will be differentiated; else the products are exact.

        Returns
        -------
        Tensor ()
        """
        vectors, reference = drawn
        if not create_graph:
            exact = hessian_vector_product(self.model, item.graph, vectors)
            return item.weight * projected_hessian_loss(exact, reference, vectors) * 3 * vectors.shape[1]
        share = item.weight / len(vectors)
        probes = [Probe(item.graph, v, r, share) for v, r in zip(vectors, reference, strict=True)]
        products = EVALUATE[self.settings.hessian_products](self.model, [], probes, False).products
        return torch.stack([p.loss(h) for p, h in zip(probes, products, strict=True)]).sum()

    def _weight(self, name: str) -> float:
        return float(getattr(self.settings.loss, name))

    def take_step(self, chunk: Sequence[int], fraction: float) -> dict[str, float]:
        """One step of the optimiser.

        Parameters
        ----------
        chunk : sequence of int
            Frames of the batch.
        fraction : float
            How much of the training is done: learning rate and weight of the Hessian follow it.

        Returns
        -------
        dict
            Parts of the loss by name.
        """
        s = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(fraction)
        self.optimizer.zero_grad(set_to_none=True)
        weights = {name: self._weight(name) for name in FRAME_LOSSES}
        drawn: list[Drawn] = []
        if self.hessians and self.progress.step % s.hessian_every == 0 and s.loss.hessian > 0:
            drawn = self._draw(chunk)
            weights["hessian"] = s.curriculum.factor(fraction) * s.loss.hessian
        parts, total = self._learn(self.store, chunk, drawn, weights)
        if self.replay is not None and self.progress.step % s.replay_every == 0:
            count = min(s.batch_size, len(self.replay))
            chosen = torch.randint(len(self.replay), (count,), generator=self.generator).tolist()
            kept = {name: s.replay_weight * self._weight(name) for name in ("forces", "stress")}
            _, parts["replay"] = self._learn(self.replay, chosen, [], kept)
            total += parts["replay"]
        self.processes.sum_gradients(self.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), s.clip if s.clip > 0 else math.inf)
        self.check_finite(float(norm), parts | {"gradient": float(norm)})
        self.optimizer.step()
        self._update_ema()
        self.progress.step += 1
        return parts | {"loss": total}

    def _draw(self, chunk: Sequence[int]) -> list[Drawn]:
        """The Hessians of this step and their probes: those of frames of the batch first, others in turn."""
        s, count = self.settings, min(self.settings.hessian_batch, len(self.hessians))
        at = {item: frame for frame in chunk for item in self.items_at.get(frame, ())}
        turn = self.progress.step // s.hessian_every * count
        in_turn = [(turn + k) % len(self.hessians) for k in range(len(self.hessians))]
        chosen = list(dict.fromkeys([*at, *in_turn]))[:count]
        return [
            (self.hessians[k], at.get(k), *self.hessians[k].draw(s.probe, s.probes, self.generator))
            for k in chosen
        ]

    def _probes(self, drawn: Sequence[Drawn], own: Sequence[int]) -> list[Probe]:
        """Probes of this process: all at the frames that it works on, and its share of the others."""
        probes = []
        for item, frame, vectors, reference in drawn:
            places = self.processes.share(range(len(vectors))) if frame is None else range(len(vectors))
            if frame is not None and frame not in own:
                continue
            place = None if frame is None else own.index(frame)
            weight = item.weight / (len(drawn) * len(vectors))
            probes += [Probe(item.graph, vectors[k], reference[k], weight, place) for k in places]
        return probes

    def _learn(
        self, store: FrameStore, chunk: Sequence[int], drawn: Sequence[Drawn], weights: dict[str, float]
    ) -> tuple[dict[str, float], float]:
        """Gradient of the loss of frames and probes, of which each process has a share; its parts and sum."""
        own = list(self.processes.share(chunk))
        graphs = [store.item(k).graph for k in own]
        batch = store.batch(own) if own else None
        found = dict.fromkeys((*FRAME_LOSSES, "hessian"), 0.0)
        (all_atoms,) = self.processes.sum(sum(len(g.positions) for g in graphs), device=self.device)
        for with_frames, probes in passes(len(own), self._probes(drawn, own)):
            losses: dict[str, Tensor] = {}
            stress = with_frames and batch is not None and self._with_stress(batch)
            values = EVALUATE[self.settings.hessian_products](
                self.model, graphs if with_frames else [], probes, stress
            )
            if values.frames is not None and batch is not None:
                shares = {"forces": len(batch.graph.positions) / all_atoms}
                for name, loss in batch_losses(batch, values.frames, self.settings.loss.huber).items():
                    losses[name] = shares.get(name, len(own) / len(chunk)) * loss
            if probes:
                products = zip(probes, values.products, strict=True)
                losses["hessian"] = torch.stack([p.loss(product) for p, product in products]).sum()
            torch.stack([weights[k] * v for k, v in losses.items() if k in weights]).sum().backward()
            for name, loss in losses.items():
                found[name] += float(loss.detach())
        summed = dict(zip(found, self.processes.sum(*found.values(), device=self.device), strict=True))
        parts = {name: value for name, value in summed.items() if name in weights and value}
        total = sum(weights[name] * value for name, value in parts.items())
        self.check_finite(total, parts)
        return parts, total

    def check_finite(self, value: float, parts: dict[str, float]) -> None:
        """Raise TrainingDiverged, naming the parts of the loss, unless `value` is finite.

        Parameters
        ----------
        value : float
        parts : dict
            {name: part of the loss}, for the message.
        """
        if math.isfinite(value):
            return
        kept = f"; the last good checkpoint is {self.checkpoint}" if self.checkpoint else ""
        raise TrainingDiverged(
            f"training diverged in epoch {self.progress.epoch}, step {self.progress.step}: "
            f"{', '.join(f'{k} = {v:.4g}' for k, v in parts.items())}{kept}. "
            "Lower learning_rate, set clip, or look for colliding atoms among the labels"
        )

    @torch.no_grad()
    def _update_ema(self) -> None:
        step = self.progress.step + 1
        decay = min(self.settings.ema, step / (step + 10)) if self.settings.ema else 0.0
        torch._foreach_lerp_(
            list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - decay
        )

    # -- validation ------------------------------------------------------------------------------------------

    def validate(self) -> dict[str, float]:
        """Unweighted losses of the averaged weights on the validation frames and the Hessians.

        The Hessians, on fixed probes, are those given for validation, or else those of the training.
        """
        with self.averaged_weights():
            sums: dict[str, float] = {}
            for batch in self.validation:
                for key, value in self.frame_losses(batch, create_graph=False).items():
                    sums[key] = sums.get(key, 0.0) + float(value.detach()) / len(self.validation)
            for item, drawn in self.judges:
                value = self.hessian_loss(item, drawn, create_graph=False)
                sums["hessian"] = sums.get("hessian", 0.0) + float(value.detach()) / len(self.judges)
        sums["score"] = sum(self._weight(k) * v for k, v in sums.items())
        return sums

    def averaged_weights(self) -> SwappedWeights:
        """Context in which the model has its averaged weights."""
        return SwappedWeights(self.parameters, self.ema)

    def _validated(self) -> dict[str, float]:
        p = self.progress
        values = self.validate()
        if not math.isfinite(values["score"]):
            self.check_finite(values["score"], values)
        if self.settings.watch not in values:
            raise InputError(
                f"watch is {self.settings.watch!r}, but validation has only {', '.join(sorted(values))}; "
                "give labels of that kind, or watch score"
            )
        watched = values[self.settings.watch]
        improved = watched < p.best_score * (1 - LEAST_IMPROVEMENT)
        if watched < p.best_score:
            p.best_score, p.best_epoch = watched, p.epoch
            self.best = {k: v.clone() for k, v in self.ema.items()}
        if improved:
            p.stale = p.plateau_stale = 0
        else:
            p.stale += 1
            p.plateau_stale += 1
            if p.plateau_stale > self.settings.plateau_patience:
                p.plateau_factor, p.plateau_stale = p.plateau_factor / 2, 0
        return {f"val_{k}": v for k, v in values.items()}

    # -- the loop --------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train until the epochs, the time or the patience are used up.

        The model is left with its best averaged weights (the last ones if there are no validation frames).

        Raises
        ------
        TrainingDiverged
            A non-finite loss or gradient; weights and checkpoint are those before it.
        """
        s, p = self.settings, self.progress
        self._started = saved = time.monotonic()
        if not p.finished and p.epoch == 0:
            self.save()
        while not p.finished:
            if s.statistics_every is None:
                self._update_statistics()
            rows = self._epoch()
            p.epoch += 1
            row = {"epoch": float(p.epoch), "step": float(p.step), "seconds": self._elapsed(), **rows}
            every = s.validate_every or max(1, (s.epochs or 1000) // 100)
            reason = self._end()
            if p.epoch % every == 0 or reason:
                row |= self._validated()
                if s.patience is not None and p.stale >= s.patience:
                    reason = reason or f"no improvement in {p.stale} validations"
            p.history.append(row)
            p.finished = reason
            if p.finished or time.monotonic() - saved > s.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
            if self.on_epoch:
                self.on_epoch(p)
        p.elapsed, self._started = self._elapsed(), time.monotonic()
        judged = bool(self.validation) or (s.watch == "hessian" and bool(self.judges))
        chosen = self.best if (judged and self.best) else self.ema
        with torch.no_grad():
            for key, parameter in self.parameters.items():
                parameter.copy_(chosen[key])
        logger.info(
            "training ended after %d epochs (%s); best at epoch %d", p.epoch, p.finished, p.best_epoch
        )
        return p

    def _update_statistics(self, step_in_epoch: float = 0.0) -> None:
        every, fraction = self.settings.statistics_every, self._fraction(step_in_epoch)
        passed = marks_passed(fraction)
        due = passed != self.progress.marks
        if every is not None:
            due = self.progress.step > 0 and self.progress.step % every == 0 and fraction <= MARKS[-1]
        if self.statistics is None or not due:
            return
        self.statistics()
        self.progress.marks = passed
        # Weights that did well with the old statistics are other functions with the new ones.
        self.best, self.progress.best_score, self.progress.stale = {}, math.inf, 0

    def _end(self) -> str:
        s, p = self.settings, self.progress
        if s.epochs is not None and p.epoch >= s.epochs:
            return f"{s.epochs} epochs"
        if s.max_minutes is not None and self._elapsed() >= 60 * s.max_minutes:
            return f"{s.max_minutes:g} minutes"
        return ""

    def _epoch(self) -> dict[str, float]:
        s = self.settings
        order = torch.randperm(len(self.store), generator=self.generator).tolist()
        chunks: list[list[int]] = [order[k : k + s.batch_size] for k in range(0, len(order), s.batch_size)]
        n_steps = max(len(chunks), 1)
        sums: dict[str, list[float]] = {}
        for k in range(n_steps):
            chunk = chunks[k] if chunks else []
            if s.statistics_every is not None:
                self._update_statistics(k / n_steps)
            for key, value in self.take_step(chunk, self._fraction(k / n_steps)).items():
                sums.setdefault(key, []).append(value)
            if s.epochs is None and self._end():
                break
        rows = {key: sum(values) / len(values) for key, values in sums.items()}
        return rows | {"learning_rate": self.optimizer.param_groups[0]["lr"]}

    # -- checkpoints -----------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path | None:
        """Path of the checkpoint."""
        return None if self.folder is None else self.folder / "state" / CHECKPOINT

    def save(self) -> None:
        """Write the checkpoint and the history; what was there before is replaced only by a complete file."""
        if self.checkpoint is None or self.folder is None or not self.processes.first:
            return
        self.progress.elapsed, self._started = self._elapsed(), time.monotonic()
        write_state(self.checkpoint, self.state())
        write_history(self.folder / "history.csv", self.progress.history)

    def load(self) -> None:
        """Continue from the checkpoint; begin anew where a run was stopped before its first.

        Raises
        ------
        InputError
            A finished model without its checkpoint, or a checkpoint of other labels, another model or other
            settings (which are named).
        """
        if self.checkpoint is None or self.folder is None:
            raise InputError("nothing to resume: the run has no folder")
        if not self.checkpoint.is_file():
            if any(path.suffix == ".safetensors" for path in self.folder.iterdir()):
                raise InputError(f"nothing to resume: no {self.checkpoint}; start without --resume")
            logger.info("%s was stopped before its first checkpoint; training starts anew", self.folder)
            return
        state = read_state(self.checkpoint)
        self.check_fingerprint(state.fingerprint, self.checkpoint)
        check_settings(self.checkpoint, state.settings, self.settings.to_dict())
        self.restore(state)
        logger.info("continuing at epoch %d from %s", self.progress.epoch, self.checkpoint)

    def check_fingerprint(self, found: str, path: Path) -> None:
        """Refuse a file of other labels or of another model.

        Parameters
        ----------
        found : str
            Its fingerprint.
        path : Path
            For the message.

        Raises
        ------
        InputError
        """
        if not self.fingerprint.matches(found):
            raise InputError(
                f"{path} belongs to other labels or another model; resume with those, or use another folder"
            )
        if found != self.fingerprint.value:
            logger.info(
                "%s has a fingerprint of an older release, which fits %s",
                path,
                "the number of labels; it holds no more"
                if found.startswith(COUNTED)
                else "these labels and this model",
            )

    def state(self) -> TrainingState:
        """All that a checkpoint holds."""
        return TrainingState(
            self.model.state_dict(),
            self.ema,
            self.best,
            self.optimizer.state_dict()["state"],
            self.generator.get_state(),
            self.progress,
            self.settings.to_dict(),
            self.fingerprint.value,
        )

    def restore(self, state: TrainingState) -> None:
        """Go back to a state.

        Parameters
        ----------
        state : TrainingState

        Raises
        ------
        InputError
            It is that of another network.
        """

        def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {key: value.to(self.device) for key, value in tensors.items()}

        try:
            self.model.load_state_dict(moved(state.weights))
            averages = moved(state.averages)
            self.ema = {key: averages[key] for key in self.parameters}
        except (RuntimeError, KeyError) as error:
            raise InputError(
                f"{self.checkpoint} is of another network ({str(error).splitlines()[0]}); resume with that "
                "one, or use another folder"
            ) from error
        self.best = moved(state.best)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state.optimizer})
        self.generator.set_state(state.generator)
        self.progress = state.progress
        minutes = self.settings.max_minutes
        ended = self.progress.finished.endswith("minutes")
        if ended and (minutes is None or 60 * minutes > self.progress.elapsed):
            self.progress.finished = ""

    _started: float = time.monotonic()


def frames_of_hessians(
    frames: Sequence[LabelledFrame], hessians: Sequence[HessianLabel | HessianProducts]
) -> dict[int, list[int]]:
    """Which Hessians belong to the structure of which frame, by reading all of them.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    hessians : sequence of HessianLabel or HessianProducts

    Returns
    -------
    dict
        As `hessians_at`.
    """
    return hessians_at(
        [structure_digest(frame.atoms) for frame in frames] if len(hessians) else [],
        [structure_digest(label.atoms) for label in hessians],
    )


def hessians_at(frames: Sequence[bytes], hessians: Sequence[bytes]) -> dict[int, list[int]]:
    """Which Hessians belong to which frame.

    Parameters
    ----------
    frames, hessians : sequences of bytes
        Digests of their structures.

    Returns
    -------
    dict
        {frame: Hessians}, both by their places.
    """
    items: dict[bytes, list[int]] = {}
    for place, digest in enumerate(hessians):
        items.setdefault(digest, []).append(place)
    return {frame: items[digest] for frame, digest in enumerate(frames) if digest in items}
