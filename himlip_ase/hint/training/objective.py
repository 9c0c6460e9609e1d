"""The loss that a training minimises: what a model's derivatives miss of the labels, and its gradient.

Frames and projections of Hessians are shared out among the processes of a run; the sum of their gradients is
that of the undivided batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from himlip_ase.hint.training.batches import Batch, FrameStore, HessianItem
from himlip_ase.hint.training.distributed import Processes
from himlip_ase.hint.training.hessian_turns import DrawnHessian
from himlip_ase.hint.training.losses import projected_hessian_loss
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.step import EVALUATE, FRAME_LOSSES, Probe, batch_losses, passes
from himlip_ase.potential.derivatives import (
    energy_forces_stress,
    hessian_vector_product,
    trainable_derivatives,
)
from himlip_ase.potential.interface import Potential


class Objective:
    """Losses of a model by kind of label, unweighted but for the weights of the labels themselves.

    Parameters
    ----------
    model : Potential
    settings : TrainingSettings
        Its losses, and how products with Hessians are differentiated.
    processes : Processes
        Among which batches and probes are shared out.
    """

    def __init__(self, model: Potential, settings: TrainingSettings, processes: Processes) -> None:
        self.model, self.settings, self.processes = model, settings, processes

    def weight(self, name: str) -> float:
        """Weight of a kind of label in the sum."""
        return float(getattr(self.settings.loss, name))

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
        derivatives = trainable_derivatives if create_graph else energy_forces_stress
        out = derivatives(self.model, batch.graph, stress=self._with_stress(batch))
        return batch_losses(batch, out, self.settings.loss.huber)

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
        return _summed(probes, products)

    def descend(
        self,
        store: FrameStore,
        chunk: Sequence[int],
        drawn: Sequence[DrawnHessian],
        weights: Mapping[str, float],
    ) -> dict[str, float]:
        """Add the gradient of the weighted loss of frames and Hessians to ``.grad``: this process's share.

        Parameters
        ----------
        store : FrameStore
        chunk : sequence of int
            Frames of the batch.
        drawn : sequence of DrawnHessian
        weights : mapping
            {kind of label: weight}; other kinds are left out.

        Returns
        -------
        dict
            {kind of label: unweighted loss} of all processes, where it is not zero.
        """
        own = list(self.processes.share(chunk))
        graphs = [store.item(k).graph for k in own]
        batch = store.batch(own) if own else None
        found = dict.fromkeys((*FRAME_LOSSES, "hessian"), 0.0)
        own_atoms = sum(len(graph.positions) for graph in graphs)
        (all_atoms,) = self.processes.sum(own_atoms, device=store.device)
        for with_frames, probes in passes(len(own), self._probes(drawn, own)):
            losses: dict[str, Tensor] = {}
            stress = with_frames and batch is not None and self._with_stress(batch)
            values = EVALUATE[self.settings.hessian_products](
                self.model, graphs if with_frames else [], probes, stress
            )
            if values.frames is not None and batch is not None:
                shares = {"forces": own_atoms / all_atoms}
                for name, loss in batch_losses(batch, values.frames, self.settings.loss.huber).items():
                    losses[name] = shares.get(name, len(own) / len(chunk)) * loss
            if probes:
                losses["hessian"] = _summed(probes, values.products)
            torch.stack([weights[k] * v for k, v in losses.items() if k in weights]).sum().backward()
            for name, loss in losses.items():
                found[name] += float(loss.detach())
        summed = dict(zip(found, self.processes.sum(*found.values(), device=store.device), strict=True))
        return {name: value for name, value in summed.items() if name in weights and value}

    def _with_stress(self, batch: Batch) -> bool:
        return self.settings.loss.stress > 0 and bool((batch.stress_weights > 0).any())

    def _probes(self, drawn: Sequence[DrawnHessian], own: Sequence[int]) -> list[Probe]:
        """Probes of this process: all at the frames that it works on, and its share of the others."""
        probes = []
        for hessian in drawn:
            vectors, frame = hessian.vectors, hessian.frame
            if frame is not None and frame not in own:
                continue
            place = None if frame is None else own.index(frame)
            places = self.processes.share(range(len(vectors))) if frame is None else range(len(vectors))
            weight = hessian.item.weight / (len(drawn) * len(vectors))
            probes += [
                Probe(hessian.item.graph, vectors[k], hessian.reference[k], weight, place) for k in places
            ]
        return probes


def _summed(probes: Sequence[Probe], products: Sequence[Tensor]) -> Tensor:
    return torch.stack([p.loss(product) for p, product in zip(probes, products, strict=True)]).sum()
