"""Labelled frames as tensors: neighbour lists are built once, batches are put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.probes import PROBES
from himlip_ase.hint.training.projections import draw_probes, project
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.products import HessianProducts
from himlip_ase.potential.graph import Graph, build_graph, concatenate
from himlip_ase.potential.interface import Potential


@dataclass
class Batch:
    """A batch of frames with their labels; missing labels have weight zero.

    Attributes
    ----------
    graph : Graph
        Volumes of frames without a volume are 1.
    energies, energy_weights : Tensor (B,)
    forces : Tensor (N, 3)
    force_weights : Tensor (N,)
    stresses : Tensor (B, 3, 3)
    stress_weights : Tensor (B,)
    """

    graph: Graph
    energies: Tensor
    energy_weights: Tensor
    forces: Tensor
    force_weights: Tensor
    stresses: Tensor
    stress_weights: Tensor


CACHED_ATOMS = 200_000
"""Atoms whose graphs a store keeps; those of frames beyond are built again each time they are drawn."""
CACHED_ELEMENTS = 50_000_000
"""Elements of Hessians that a store keeps (0.4 GB)."""


class FrameStore:
    """Frames with their graphs, from which batches are drawn by index.

    A frame is read and its graph built when it is first drawn, and kept as long as there is room, so that a
    sequence that reads from disk (`LabelStore`) is streamed.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    model : Potential
        Gives elements and cutoff.
    weights : LossWeights
        Its `force_scale` softens hot atoms.
    device : torch.device or str
    """

    def __init__(
        self,
        frames: Sequence[LabelledFrame],
        model: Potential,
        weights: LossWeights,
        device: torch.device | str = "cpu",
    ) -> None:
        self.frames = frames
        self.device = torch.device(device)
        self._make = partial(self._item, model=model, weights=weights, device=device)
        self._kept: dict[int, Batch] = {}
        self._room = CACHED_ATOMS

    def __len__(self) -> int:
        return len(self.frames)

    @staticmethod
    def _item(
        frame: LabelledFrame, model: Potential, weights: LossWeights, device: torch.device | str
    ) -> Batch:
        graph = build_graph(frame.atoms, model.elements, model.cutoff, device=device)
        graph = replace(graph, volumes=torch.nan_to_num(graph.volumes, nan=1.0))
        n = len(frame.atoms)
        forces = np.zeros((n, 3)) if frame.forces is None else frame.forces
        soft = np.full(n, frame.weight)
        if weights.force_scale is not None and frame.forces is not None:
            soft = soft / (1 + (forces**2).sum(1) / weights.force_scale**2)
        mean = float(soft.mean())
        stress = np.zeros((3, 3)) if frame.stress is None else matrix_from_voigt(frame.stress)

        def tensor(value: object) -> Tensor:
            return torch.as_tensor(np.asarray(value, dtype=float), device=device)

        return Batch(
            graph,
            tensor([0.0 if frame.energy is None else frame.energy]),
            tensor([0.0 if frame.energy is None else mean]),
            tensor(forces),
            tensor(soft if frame.forces is not None else np.zeros(n)),
            tensor(stress[None]),
            tensor([0.0 if frame.stress is None else mean]),
        )

    def batch(self, indices: Sequence[int]) -> Batch:
        """The frames with these indices."""
        items = [self.item(i) for i in indices]
        if len(items) == 1:
            return items[0]
        return Batch(
            concatenate([b.graph for b in items]),
            *(
                torch.cat([getattr(b, name) for b in items])
                for name in (
                    "energies",
                    "energy_weights",
                    "forces",
                    "force_weights",
                    "stresses",
                    "stress_weights",
                )
            ),
        )

    def item(self, index: int) -> Batch:
        """One frame, as a batch."""
        found = self._kept.get(index)
        if found is None:
            found = self._make(self.frames[index])
            if self._room > 0:
                self._kept[index] = found
                self._room -= len(found.graph.positions)
        return found

    def batches(self, size: int) -> Batches:
        """All frames in batches of at most `size`."""
        return Batches(self, size)


class Batches(Sequence[Batch]):
    """The frames of a store in batches of equal size, each put together when it is asked for.

    Parameters
    ----------
    store : FrameStore
    size : int
    """

    def __init__(self, store: FrameStore, size: int) -> None:
        self.store, self.size = store, size

    def __len__(self) -> int:
        return -(-len(self.store) // self.size)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        start = index % len(self) * self.size
        return self.store.batch(range(start, min(start + self.size, len(self.store))))


@dataclass
class HessianItem:
    """A Hessian label as tensors: a matrix, or products with given vectors.

    Attributes
    ----------
    graph : Graph
    weight : float
    label : HessianLabel or HessianProducts
    matrix : Tensor (N, 3, N, 3) or None
        eV/Å².
    vectors, products : Tensor (K, N, 3) or None
        Where there is no matrix.
    """

    graph: Graph
    weight: float
    label: HessianLabel | HessianProducts
    matrix: Tensor | None = None
    vectors: Tensor | None = None
    products: Tensor | None = None

    @classmethod
    def of(
        cls, label: HessianLabel | HessianProducts, model: Potential, device: torch.device | str = "cpu"
    ) -> HessianItem:
        """Build the graph of a label.

        Parameters
        ----------
        label : HessianLabel or HessianProducts
        model : Potential
            Gives elements and cutoff.
        device : torch.device or str
        """
        graph = build_graph(label.atoms, model.elements, model.cutoff, device=device)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(np.asarray(values, dtype=float), device=device)

        if isinstance(label, HessianProducts):
            vectors, products = tensor(label.vectors), tensor(label.products)
            return cls(graph, label.weight, label, vectors=vectors, products=products)
        return cls(graph, label.weight, label, matrix=tensor(label.matrix))

    def draw(self, kind: str, number: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Vectors to project on, and the label's products with them, (K, N, 3) each.

        Parameters
        ----------
        kind : str
            One of :data:`himlip_ase.hint.training.probes.PROBES`.
        number : int
        generator : torch.Generator or None
            None: one of seed 0.

        Returns
        -------
        vectors, products : Tensor (K, N, 3)

        Notes
        -----
        Of a label that holds products only, `number` of its vectors are drawn, whatever the kind.
        """
        generator = generator or torch.Generator().manual_seed(0)
        if self.matrix is not None:
            n = len(self.graph.positions)
            vectors = draw_probes(kind, n, number, generator, device=self.graph.positions.device)
            return vectors, project(self.matrix, vectors)
        assert self.vectors is not None and self.products is not None
        if PROBES[kind].every or number >= len(self.vectors):
            return self.vectors, self.products
        if PROBES[kind].fixed:
            return self.vectors[:number], self.products[:number]
        chosen = torch.randperm(len(self.vectors), generator=generator)[:number].to(self.vectors.device)
        return self.vectors[chosen], self.products[chosen]


class HessianStore(Sequence[HessianItem]):
    """Hessian labels as tensors, made when they are first drawn and kept as long as there is room.

    Parameters
    ----------
    labels : sequence of HessianLabel or HessianProducts
        May be on disk.
    model : Potential
    device : torch.device or str
    """

    def __init__(
        self,
        labels: Sequence[HessianLabel | HessianProducts],
        model: Potential,
        device: torch.device | str = "cpu",
    ) -> None:
        self.labels = labels
        self._make = partial(HessianItem.of, model=model, device=device)
        self._kept: dict[int, HessianItem] = {}
        self._room = CACHED_ELEMENTS

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"Hessian {index} of {len(self)}")
        index %= len(self)
        found = self._kept.get(index)
        if found is None:
            found = self._make(self.labels[index])
            if self._room > 0:
                self._kept[index] = found
                self._room -= 9 * len(found.graph.positions) ** 2
        return found
