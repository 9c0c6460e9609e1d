"""What judges a model while it is trained: validation frames, and Hessians on projections that stay fixed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from himlip_ase.hint.training.batches import FrameStore, HessianStore
from himlip_ase.hint.training.objective import Objective
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts

VALIDATION_PROBES = 4
MOST_JUDGES = 64
"""Hessians that judge the model in a validation, evenly spread over those that there are."""


class Validation:
    """Losses of labels that are not learnt from, or of the Hessians of the training if there are no others.

    Parameters
    ----------
    objective : Objective
    frames : sequence of LabelledFrame
    hessians : sequence of HessianLabel or HessianProducts
        Of which `MOST_JUDGES` are taken.
    device : torch.device
    """

    def __init__(
        self,
        objective: Objective,
        frames: Sequence[LabelledFrame],
        hessians: Sequence[HessianLabel | HessianProducts],
        device: torch.device,
    ) -> None:
        model, settings = objective.model, objective.settings
        self.objective = objective
        self.batches = FrameStore(frames, model, settings.loss, device).batches(settings.batch_size)
        fixed = torch.Generator().manual_seed(settings.seed + 1)
        judges = HessianStore(hessians, model, device)
        spread = range(0, len(judges), max(1, -(-len(judges) // MOST_JUDGES)))
        self.judges = [(judges[k], judges[k].draw("rademacher", VALIDATION_PROBES, fixed)) for k in spread]

    def decides(self, watch: str) -> bool:
        """Whether there are labels from which the best epoch can be told by the loss `watch`."""
        return bool(self.batches) or (watch == "hessian" and bool(self.judges))

    def losses(self) -> dict[str, float]:
        """Unweighted losses of the model as it is, and ``score``, their weighted sum."""
        sums: dict[str, float] = {}
        for batch in self.batches:
            for key, value in self.objective.frame_losses(batch, create_graph=False).items():
                sums[key] = sums.get(key, 0.0) + float(value.detach()) / len(self.batches)
        for item, drawn in self.judges:
            value = self.objective.hessian_loss(item, drawn, create_graph=False)
            sums["hessian"] = sums.get("hessian", 0.0) + float(value.detach()) / len(self.judges)
        sums["score"] = sum(self.objective.weight(k) * v for k, v in sums.items())
        return sums
