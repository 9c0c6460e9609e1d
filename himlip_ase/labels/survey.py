"""One reading of all labels, and everything that has to be known of them before a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from himlip_ase.labels.checks import FrameChecks
from himlip_ase.labels.digests import frame_digest, hessian_digest, structure_digest
from himlip_ase.labels.duplicates import StructureKey
from himlip_ase.labels.frames import HessianLabel, LabelCounts, LabelledFrame


@dataclass
class Survey:
    """What one reading of all frames tells.

    Attributes
    ----------
    sets, elements : list
        Of every frame: name of its set, its chemical symbols.
    numbers : list of tuple of int
        Of every frame: how many energies, forces, stresses, Hessians (0 or 1) and products of one.
    evaluated, hessians, products : list of int
        Frames with an energy, forces or a stress; with a Hessian; with products of one.
    sizes : list of int
        Atoms of every frame.
    keys : list of StructureKey
        Of every frame.
    structures, digests : list of bytes
        Digests of every frame's structure, and of its structure and labels.
    hessian_digests, product_digests : dict of int to bytes
        Of the Hessians and products of the frames that have them.
    hessian_structures, product_structures : dict of int to bytes
        Of the structures that these belong to.
    force_squares : list of float
        Σ|F|² of every frame, (eV/Å)²; 0 without forces.
    unjudged : list of str
        What the checks could not tell of stresses and Hessians, and why.
    steps : list of float
        Of every frame: root mean square distance of its atoms from those of the frame before it in its set,
        over that from the first of the set; 1 where these are other atoms.
    """

    sets: list[str] = field(default_factory=list)
    elements: list[tuple[str, ...]] = field(default_factory=list)
    numbers: list[tuple[int, ...]] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    hessians: list[int] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    keys: list[StructureKey] = field(default_factory=list)
    structures: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    hessian_digests: dict[int, bytes] = field(default_factory=dict)
    product_digests: dict[int, bytes] = field(default_factory=dict)
    hessian_structures: dict[int, bytes] = field(default_factory=dict)
    product_structures: dict[int, bytes] = field(default_factory=dict)
    force_squares: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, frames: Sequence[LabelledFrame], hessians: Sequence[HessianLabel] = ()) -> Survey:
        """Read the frames one by one, each once, and check them.

        Parameters
        ----------
        frames : sequence of LabelledFrame
        hessians : sequence of HessianLabel
            Beside those on the frames; held against their forces.

        Returns
        -------
        Survey

        Raises
        ------
        InputError
            As :func:`himlip_ase.labels.checks.check_frames`.
        """
        found, checks, order = cls(), FrameChecks(), _Trajectories()
        for index, frame in enumerate(frames):
            checks.add(frame)
            found._add(index, frame)
            found.steps.append(order.step(frame))
        found.unjudged = checks.finish(hessians)
        return found

    def _add(self, index: int, frame: LabelledFrame) -> None:
        self.sets.append(frame.set)
        self.sizes.append(len(frame.atoms))
        self.elements.append(tuple(sorted({*frame.atoms.symbols})))
        labels = (frame.energy, frame.forces, frame.stress, frame.hessian)
        vectors = 0 if frame.products is None else len(frame.products.vectors)
        self.numbers.append((*(int(label is not None) for label in labels), vectors))
        self.structures.append(structure_digest(frame.atoms))
        self.digests.append(frame_digest(frame))
        self.keys.append(StructureKey.of(frame))
        self.force_squares.append(0.0 if frame.forces is None else float(np.sum(frame.forces**2)))
        if frame.evaluated:
            self.evaluated.append(index)
        if frame.hessian is not None:
            self.hessians.append(index)
            self.hessian_digests[index] = hessian_digest(frame.hessian)
            self.hessian_structures[index] = structure_digest(frame.hessian.atoms)
        if frame.products is not None:
            self.products.append(index)
            self.product_digests[index] = hessian_digest(frame.products)
            self.product_structures[index] = structure_digest(frame.products.atoms)

    def counts(self, chosen: Sequence[int] | None = None) -> LabelCounts:
        """How many labels of each kind some frames have; all by default."""
        rows = self.numbers if chosen is None else [self.numbers[k] for k in chosen]
        return LabelCounts(len(rows), *(sum(row[kind] for row in rows) for kind in range(5)))

    def trajectories(self) -> dict[str, float]:
        """Sets whose neighbouring frames are alike, as those of molecular dynamics are.

        Returns
        -------
        dict
            {set: median of `steps`}, of sets of ten frames or more in which it is below `ALIKE`.
        """
        members: dict[str, list[float]] = {}
        for name, step in zip(self.sets, self.steps, strict=True):
            members.setdefault(name, []).append(step)
        medians = {name: float(np.median(own)) for name, own in members.items() if len(own) >= 10}
        return {name: value for name, value in medians.items() if value < ALIKE}


ALIKE = 0.5
"""Independent displacements have a median step of 1."""


class _Trajectories:
    """The first and the last frame of every set, for telling whether frames follow each other."""

    def __init__(self) -> None:
        self._first: dict[str, LabelledFrame] = {}
        self._last: dict[str, LabelledFrame] = {}

    def step(self, frame: LabelledFrame) -> float:
        """See `Survey.steps`."""
        first, last = self._first.setdefault(frame.set, frame), self._last.get(frame.set)
        self._last[frame.set] = frame
        if last is None or last is first:
            return 1.0
        near, far = _distance(frame, last), _distance(frame, first)
        return near / far if near is not None and far else 1.0


def _distance(one: LabelledFrame, other: LabelledFrame) -> float | None:
    """Root mean square distance between the same atoms of two frames, Å; None for other atoms."""
    if not np.array_equal(one.atoms.numbers, other.atoms.numbers):
        return None
    shift = one.atoms.positions - other.atoms.positions
    if one.atoms.cell.rank == 3:
        fractional = one.atoms.cell.scaled_positions(shift)
        shift = shift - np.rint(fractional) @ one.atoms.cell.array
    return float(np.sqrt(np.mean(np.sum(shift**2, axis=1))))
