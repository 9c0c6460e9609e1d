"""Which Hessians take part in a step of the training, and the projections of them that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from himlip_ase.hint.training.batches import HessianItem, HessianStore
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.labels.digests import structure_digest
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts


@dataclass(frozen=True, eq=False)
class DrawnHessian:
    """A Hessian of a step, and what it is projected on.

    Attributes
    ----------
    item : HessianItem
    frame : int or None
        Frame of the batch that has the same structure.
    vectors, reference : Tensor (K, N, 3)
        Vectors, and the label's products with them.
    """

    item: HessianItem
    frame: int | None
    vectors: Tensor
    reference: Tensor


class HessianTurns:
    """Draws the Hessians of a step: those of frames of the batch first, the others in turn.

    Parameters
    ----------
    hessians : HessianStore
    items_at : dict of int to list of int
        {frame: Hessians of its structure}, as `hessians_at`.
    settings : TrainingSettings
    """

    def __init__(
        self, hessians: HessianStore, items_at: dict[int, list[int]], settings: TrainingSettings
    ) -> None:
        self.hessians, self.items_at, self.settings = hessians, items_at, settings

    def draw(self, chunk: Sequence[int], step: int, generator: torch.Generator) -> list[DrawnHessian]:
        """Hessians of a step with their vectors; none where the step has none.

        Parameters
        ----------
        chunk : sequence of int
            Frames of the batch.
        step : int
        generator : torch.Generator
            Of the vectors.

        Returns
        -------
        list of DrawnHessian
        """
        s, everything = self.settings, len(self.hessians)
        if not everything or step % s.hessian_every or not s.loss.hessian > 0:
            return []
        count = min(s.hessian_batch, everything)
        at = {item: frame for frame in chunk for item in self.items_at.get(frame, ())}
        turn = step // s.hessian_every * count
        in_turn = [(turn + k) % everything for k in range(everything)]
        chosen = list(dict.fromkeys([*at, *in_turn]))[:count]
        return [
            DrawnHessian(self.hessians[k], at.get(k), *self.hessians[k].draw(s.probe, s.probes, generator))
            for k in chosen
        ]


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
