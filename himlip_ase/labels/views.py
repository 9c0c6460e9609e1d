"""Some labels of many, several sets of them as one, what lies on frames, what was read once: views."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar, overload

import numpy as np

from himlip_ase.labels.frames import LabelledFrame

Item = TypeVar("Item")


class OnDemand(Sequence[Item]):
    """A sequence whose items are read when they are asked for; slices are views."""

    @abstractmethod
    def _item(self, index: int) -> Item:
        """The item of a number from 0 to the length less one."""

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return Chosen(self, range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self._item(int(index) % len(self))


class Joined(OnDemand[Item]):
    """Sequences of frames or other labels one after the other, without reading them.

    Parameters
    ----------
    parts : sequence of sequences
    """

    def __init__(self, parts: Sequence[Sequence[Item]]) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _item(self, index: int) -> Item:
        place = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[place][index - int(self._ends[place]) + len(self.parts[place])]

    def __iter__(self) -> Iterator[Item]:
        return (frame for part in self.parts for frame in part)

    def set_names(self) -> list[str]:
        """See `set_names`."""
        return [name for part in self.parts for name in set_names(part)]  # type: ignore[arg-type]

    def codes(self) -> list[str]:
        """See `codes_of`."""
        return [code for part in self.parts for code in codes_of(part)]  # type: ignore[arg-type]


class Chosen(OnDemand[Item]):
    """Some frames or other labels of a sequence, in any order, without reading them.

    Parameters
    ----------
    frames : sequence
    indices : sequence of int
    """

    def __init__(self, frames: Sequence[Item], indices: Sequence[int]) -> None:
        self.frames, self.indices = frames, indices

    def __len__(self) -> int:
        return len(self.indices)

    def _item(self, index: int) -> Item:
        return self.frames[self.indices[index]]

    def set_names(self) -> list[str]:
        """See `set_names`."""
        every = set_names(self.frames)  # type: ignore[arg-type]
        return [every[k] for k in self.indices]

    def codes(self) -> list[str]:
        """See `codes_of`."""
        every = codes_of(self.frames)  # type: ignore[arg-type]
        return [every[k] for k in self.indices]


KEPT_ATOMS = 200_000
"""Atoms of the frames that `Remembered` keeps."""
KEPT_ELEMENTS = 50_000_000
"""Elements of Hessians of the frames that `Remembered` keeps (0.4 GB)."""


class Remembered(OnDemand[LabelledFrame]):
    """Frames that are read once, as long as there is room to keep them, and again beyond.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    """

    def __init__(self, frames: Sequence[LabelledFrame]) -> None:
        self.frames = frames
        self._kept: dict[int, LabelledFrame] = {}
        self._atoms, self._elements = KEPT_ATOMS, KEPT_ELEMENTS

    def __len__(self) -> int:
        return len(self.frames)

    def _item(self, index: int) -> LabelledFrame:
        frame = self._kept.get(index)
        if frame is None:
            frame = self.frames[index]
            atoms = len(frame.atoms)
            elements = 0 if frame.hessian is None else 9 * atoms**2
            elements += 0 if frame.products is None else 2 * frame.products.vectors.size
            if self._atoms >= atoms and self._elements >= elements:
                self._kept[index] = frame
                self._atoms -= atoms
                self._elements -= elements
        return frame

    def set_names(self) -> list[str]:
        """See `set_names`."""
        return set_names(self.frames)

    def codes(self) -> list[str]:
        """See `codes_of`."""
        return codes_of(self.frames)


def remembered(frames: Sequence[LabelledFrame]) -> Sequence[LabelledFrame]:
    """Frames on disk as `Remembered`; those in memory as they are."""
    return Remembered(frames) if isinstance(frames, OnDemand) else frames


def set_names(frames: Sequence[LabelledFrame]) -> list[str]:
    """Name of the set of each frame, without reading those that are on disk."""
    known = getattr(frames, "set_names", None)
    return known() if known is not None else [frame.set for frame in frames]


def codes_of(frames: Sequence[LabelledFrame]) -> list[str]:
    """Program and version that calculated each frame, without reading those that are on disk."""
    known = getattr(frames, "codes", None)
    return known() if known is not None else [frame.code for frame in frames]


class OnFrames(OnDemand[Any]):
    """The Hessians, or the parts of Hessians, on some frames, read when they are asked for.

    Parameters
    ----------
    frames : sequence of LabelledFrame
    indices : sequence of int
        Of frames that have one.
    kind : {"hessian", "products"}
    """

    def __init__(
        self, frames: Sequence[LabelledFrame], indices: Sequence[int], kind: Literal["hessian", "products"]
    ) -> None:
        self.frames, self.indices, self.kind = frames, list(indices), kind

    def __len__(self) -> int:
        return len(self.indices)

    def _item(self, index: int) -> Any:
        return getattr(self.frames[self.indices[index]], self.kind)


def sampled(items: Sequence[Any], most: int) -> Sequence[Any]:
    """All items, or some of them chosen at random (always the same), in their order.

    Parameters
    ----------
    items : sequence
    most : int
        How many there may be.

    Returns
    -------
    sequence
    """
    if len(items) <= most:
        return items
    return Chosen(items, sorted(np.random.default_rng(0).permutation(len(items))[:most].tolist()))
