"""One reading of all labels, and everything that has to be known of them before a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from himlip_ase.labels.checks import FrameChecks
from himlip_ase.labels.digests import frame_digest, hessian_digest, structure_digest
from himlip_ase.labels.duplicates import StructureKey
from himlip_ase.labels.frames import LabelCounts, LabelledFrame


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
    keys : list of StructureKey
        Of every frame.
    structures, digests : list of bytes
        Digests of every frame's structure, and of its structure and labels.
    hessian_digests, product_digests : dict of int to bytes
        Of the Hessians and products of the frames that have them.
    hessian_structures, product_structures : dict of int to bytes
        Of the structures that these belong to.
    """

    sets: list[str] = field(default_factory=list)
    elements: list[tuple[str, ...]] = field(default_factory=list)
    numbers: list[tuple[int, ...]] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    hessians: list[int] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    keys: list[StructureKey] = field(default_factory=list)
    structures: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    hessian_digests: dict[int, bytes] = field(default_factory=dict)
    product_digests: dict[int, bytes] = field(default_factory=dict)
    hessian_structures: dict[int, bytes] = field(default_factory=dict)
    product_structures: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, frames: Sequence[LabelledFrame]) -> Survey:
        """Read the frames one by one, each once, and check them.

        Raises
        ------
        InputError
            As :func:`himlip_ase.labels.checks.check_frames`.
        """
        found, checks = cls(), FrameChecks()
        for index, frame in enumerate(frames):
            checks.add(frame)
            found._add(index, frame)
        checks.finish()
        return found

    def _add(self, index: int, frame: LabelledFrame) -> None:
        self.sets.append(frame.set)
        self.elements.append(tuple(sorted({*frame.atoms.symbols})))
        labels = (frame.energy, frame.forces, frame.stress, frame.hessian)
        vectors = 0 if frame.products is None else len(frame.products.vectors)
        self.numbers.append((*(int(label is not None) for label in labels), vectors))
        self.structures.append(structure_digest(frame.atoms))
        self.digests.append(frame_digest(frame))
        self.keys.append(StructureKey.of(frame))
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
