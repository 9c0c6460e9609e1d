"""The training loop: exact to the bit when continued on a CPU, safe against NaN and kills."""

from __future__ import annotations

import logging
import math
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
from himlip_ase.hint.training.fingerprint import Fingerprint
from himlip_ase.hint.training.hessian_turns import DrawnHessian, HessianTurns, frames_of_hessians
from himlip_ase.hint.training.input_statistics import MARKS, marks_passed
from himlip_ase.hint.training.objective import Objective
from himlip_ase.hint.training.optimizers import OPTIMIZERS
from himlip_ase.hint.training.progress import Progress, SwappedWeights, TrainingDiverged, choose_device
from himlip_ase.hint.training.schedule import Budget, learning_rate
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.step import FRAME_LOSSES
from himlip_ase.hint.training.validation import Validation
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.potential.interface import Potential

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"


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
        self.hessians = HessianStore(hessians, model, self.device)
        places = frames_of_hessians(training, hessians) if items_at is None else items_at
        self.turns = HessianTurns(self.hessians, places, settings)
        self.replay = FrameStore(replay, model, settings.loss, self.device) if len(replay) else None
        self.objective = Objective(model, settings, processes)
        self.validation = Validation(self.objective, validation, validation_hessians or hessians, self.device)
        self.budget = Budget(settings)
        self.parameters = {k: p for k, p in model.named_parameters() if p.requires_grad}
        self.optimizer = OPTIMIZERS[settings.optimizer].build(self.parameters.values(), settings)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.ema = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.best: dict[str, Tensor] = {}
        self.progress = Progress()

    # -- one step --------------------------------------------------------------------------------------------

    def frame_losses(self, batch: Batch, create_graph: bool = True) -> dict[str, Tensor]:
        """See `Objective.frame_losses`."""
        return self.objective.frame_losses(batch, create_graph)

    def hessian_loss(
        self, item: HessianItem, drawn: tuple[Tensor, Tensor], create_graph: bool = True
    ) -> Tensor:
        """See `Objective.hessian_loss`."""
        return self.objective.hessian_loss(item, drawn, create_graph)

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
        s, weight = self.settings, self.objective.weight
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(s, self.progress, fraction)
        self.optimizer.zero_grad(set_to_none=True)
        weights = {name: weight(name) for name in FRAME_LOSSES}
        drawn = self.turns.draw(chunk, self.progress.step, self.generator)
        if drawn:
            weights["hessian"] = s.curriculum.factor(fraction) * weight("hessian")
        parts, total = self._descend(self.store, chunk, drawn, weights)
        if self.replay is not None and self.progress.step % s.replay_every == 0:
            count = min(s.batch_size, len(self.replay))
            chosen = torch.randint(len(self.replay), (count,), generator=self.generator).tolist()
            kept = {name: s.replay_weight * weight(name) for name in ("forces", "stress")}
            _, parts["replay"] = self._descend(self.replay, chosen, [], kept)
            total += parts["replay"]
        self.processes.sum_gradients(self.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), s.clip if s.clip > 0 else math.inf)
        self.check_finite(float(norm), parts | {"gradient": float(norm)})
        self.optimizer.step()
        self._update_ema()
        self.progress.step += 1
        return parts | {"loss": total}

    def _descend(
        self,
        store: FrameStore,
        chunk: Sequence[int],
        drawn: Sequence[DrawnHessian],
        weights: dict[str, float],
    ) -> tuple[dict[str, float], float]:
        """Gradient of the loss of frames and Hessians; its parts and their weighted sum."""
        parts = self.objective.descend(store, chunk, drawn, weights)
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
            return self.validation.losses()

    def averaged_weights(self) -> SwappedWeights:
        """Context in which the model has its averaged weights."""
        return SwappedWeights(self.parameters, self.ema)

    def _validated(self) -> dict[str, float]:
        values = self.validate()
        self.check_finite(values["score"], values)
        if self.settings.watch not in values:
            raise InputError(
                f"watch is {self.settings.watch!r}, but validation has only {', '.join(sorted(values))}; "
                "give labels of that kind, or watch score"
            )
        if self.progress.judge(values[self.settings.watch], self.settings.plateau_patience):
            self.best = {k: v.clone() for k, v in self.ema.items()}
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
        self.budget.start()
        saved = self.budget.elapsed(p)
        if not p.finished and p.epoch == 0:
            self.save()
        while not p.finished:
            if s.statistics_every is None:
                self._update_statistics()
            rows = self._epoch()
            p.epoch += 1
            row = {"epoch": float(p.epoch), "step": float(p.step), "seconds": self.budget.elapsed(p), **rows}
            every = s.validate_every or max(1, (s.epochs or 1000) // 100)
            reason = self.budget.used_up(p)
            if p.epoch % every == 0 or reason:
                row |= self._validated()
                if s.patience is not None and p.stale >= s.patience:
                    reason = reason or f"no improvement in {p.stale} validations"
            p.history.append(row)
            p.finished = reason
            if p.finished or self.budget.elapsed(p) - saved > s.checkpoint_seconds:
                self.save()
                saved = self.budget.elapsed(p)
            if self.on_epoch:
                self.on_epoch(p)
        self.budget.stop(p)
        chosen = self.best if self.best and self.validation.decides(s.watch) else self.ema
        with torch.no_grad():
            for key, parameter in self.parameters.items():
                parameter.copy_(chosen[key])
        logger.info(
            "training ended after %d epochs (%s); best at epoch %d", p.epoch, p.finished, p.best_epoch
        )
        return p

    def _update_statistics(self, step_in_epoch: float = 0.0) -> None:
        every, fraction = self.settings.statistics_every, self.budget.fraction(self.progress, step_in_epoch)
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
            fraction = self.budget.fraction(self.progress, k / n_steps)
            for key, value in self.take_step(chunk, fraction).items():
                sums.setdefault(key, []).append(value)
            if s.epochs is None and self.budget.used_up(self.progress):
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
        self.budget.note(self.progress)
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
        self.fingerprint.check(state.fingerprint, self.checkpoint)
        check_settings(self.checkpoint, state.settings, self.settings.to_dict())
        self.restore(state)
        logger.info("continuing at epoch %d from %s", self.progress.epoch, self.checkpoint)

    def check_fingerprint(self, found: str, path: Path) -> None:
        """See `Fingerprint.check`."""
        self.fingerprint.check(found, path)

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
