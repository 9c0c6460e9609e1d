"""The statistics by which a network standardises its inputs, kept up to date while it grows from scratch.

The invariants of a layer are products of up to four densities of the layer below. As the weights of that one
grow, they outgrow the statistics of the random network by orders of magnitude, each changes its sign within a
sliver of its range, and forces on unseen structures are wild. Statistics that are taken anew during the
training prevent that: after 500 steps on the hydride cells, errors on unseen ones are 1.2 to 2.6 times
smaller (three seeds, benchmarks/hint/growing_network.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.network import HiMLIP

LEAST_FRAMES = 64
FRAMES_PER_ELEMENT = 24
MARKS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""Fractions of a training after which the statistics are taken anew."""


def marks_passed(fraction: float) -> int:
    """How many of the `MARKS` a training has passed.

    Parameters
    ----------
    fraction : float
        Of the training, 0 to 1.
    """
    return sum(mark <= fraction for mark in MARKS)


def typical_frames(elements: Sequence[Collection[str]], seed: int, least: int = LEAST_FRAMES) -> list[int]:
    """Frames chosen at random, among which every element occurs often enough for statistics.

    Parameters
    ----------
    elements : sequence of collections of str
        Chemical symbols of each frame.
    seed : int
    least : int
        How many frames, if there are as many.

    Returns
    -------
    list of int
        Indices: at least `least`, and `FRAMES_PER_ELEMENT` with each element, if there are as many.
    """
    chosen: list[int] = []
    seen: dict[str, int] = {}
    for index in np.random.default_rng(seed).permutation(len(elements)).tolist():
        symbols = set(elements[index])
        rare = any(seen.get(symbol, 0) < FRAMES_PER_ELEMENT for symbol in symbols)
        if rare or len(chosen) < least:
            chosen.append(index)
            seen |= {symbol: seen.get(symbol, 0) + 1 for symbol in symbols}
    return chosen


class InputStatistics:
    """Takes a network's statistics from typical frames of its training, whenever it is called.

    Parameters
    ----------
    model : HiMLIP
        Changed in place.
    frames : sequence of LabelledFrame
    seed : int
        Of the choice of frames.
    elements : sequence of collections of str, optional
        Chemical symbols of each frame, if they are known: then only the typical ones are read.
    """

    def __init__(
        self,
        model: HiMLIP,
        frames: Sequence[LabelledFrame],
        seed: int,
        elements: Sequence[Collection[str]] | None = None,
    ) -> None:
        self.model = model
        if elements is None:
            elements = [set(frame.atoms.symbols) for frame in frames]
        self.structures = [frames[k].atoms for k in typical_frames(elements, seed)]

    def __call__(self) -> None:
        """Take the statistics of the model as it is now."""
        device = next(self.model.parameters()).device
        graph = build_graph(self.structures, self.model.elements, self.model.cutoff, device=device)
        self.model.standardise(graph)
