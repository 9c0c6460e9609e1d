"""Where a potential was taught: the labels' environments, their spread and their shortest distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.sscha.ensembles.distances import Pair
from himlip_ase.sscha.watch.environments import environments
from himlip_ase.sscha.watch.independent_frames import independent_groups

if TYPE_CHECKING:
    import os

    from scipy.spatial import cKDTree

CARD_KEY = "trusted_region"
CARD_ENVIRONMENTS = 100
"""Environments of each element that a model card keeps: those farthest from each other."""


@dataclass(frozen=True)
class TrustedRegion:
    """Environments of the labels, and how far they are from each other.

    Attributes
    ----------
    points : dict of str to ndarray, shape (m, d)
        Environments of each element, see :func:`~himlip_ase.sscha.watch.environments.environments`.
    scales : dict of str to float
        For each element, the `quantile` (Å rms) of the distances from an environment to the nearest one of
        another labelled frame, opposites counting as one frame: the unit in which a new environment's
        distance is quoted.
    shortest : dict of (str, str) to float
        Shortest distance (Å) between atoms of two elements in the labels.
    quantile : float
        By construction, a fraction 1 - `quantile` of environments drawn like the labels lies beyond 1.
    source : str
        Where the labels came from.
    """

    points: Mapping[str, np.ndarray]
    scales: Mapping[str, float]
    shortest: Mapping[Pair, float]
    quantile: float
    source: str

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements that the region knows, sorted."""
        return tuple(sorted(self.points))

    @cached_property
    def _trees(self) -> dict[str, cKDTree]:
        from scipy.spatial import cKDTree

        return {symbol: cKDTree(points) for symbol, points in self.points.items()}

    def distances(self, images: Sequence[Atoms]) -> np.ndarray:
        """Distance of every atom to the nearest environment of the labels, in units of its element's scale.

        Parameters
        ----------
        images : sequence of Atoms
            n configurations with the same N atoms.

        Returns
        -------
        ndarray, shape (n, N)

        Raises
        ------
        InputError
            An element that the labels do not have.
        """
        symbols = np.array(images[0].get_chemical_symbols())
        unknown = sorted(set(symbols.tolist()) - set(self.elements))
        if unknown:
            raise InputError(f"the labels of {self.source} have no {', '.join(unknown)}")
        found = np.array(environments(images, self.elements))
        result = np.empty(found.shape[:2])
        for symbol in np.unique(symbols):
            here = symbols == symbol
            result[:, here] = self._trees[str(symbol)].query(found[:, here])[0] / self.scales[str(symbol)]
        return result

    @classmethod
    def from_labels(
        cls, labels: Sequence[Atoms] | str | os.PathLike, quantile: float = 0.99, source: str = ""
    ) -> TrustedRegion:
        """From labelled structures.

        Parameters
        ----------
        labels : sequence of Atoms, or path
            The structures that the potential was trained on; a file or folder as
            :func:`himlip_ase.labels.readers.read_labels` takes it.
        quantile : float
            Between 0.5 and 1, see the class.
        source : str
            For messages.

        Raises
        ------
        InputError
            Fewer than two frames, opposites counting as one, hold some element.
        """
        if not 0.5 <= quantile <= 1:
            raise InputError(f"quantile is {quantile}; give a number between 0.5 and 1")
        if isinstance(labels, (str, bytes)) or hasattr(labels, "__fspath__"):
            from himlip_ase.labels.readers import read_labels

            source = source or str(labels)
            labels = [frame.atoms for frame in read_labels(labels)]
        frames = list(labels)
        source = source or f"{len(frames)} labelled structures"
        elements = sorted({symbol for frame in frames for symbol in frame.get_chemical_symbols()})
        found, groups = environments(frames, elements), independent_groups(frames)
        points, scales = {}, {}
        for symbol in elements:
            members = [np.array(frame.get_chemical_symbols()) == symbol for frame in frames]
            parts = [row[member] for row, member in zip(found, members, strict=True)]
            owners = np.repeat(groups, [len(part) for part in parts])
            if len(set(owners.tolist())) < 2:
                raise InputError(
                    f"{source}: only one structure holds {symbol} (opposites count as one); two or more are "
                    "needed"
                )
            points[symbol] = np.concatenate(parts)
            scales[symbol] = float(np.quantile(_to_other_frames(points[symbol], owners), quantile))
            if not scales[symbol] > 0:
                raise InputError(f"{source}: all surroundings of {symbol} are alike; is a frame repeated?")
        return cls(points, scales, _shortest(frames), quantile, source)

    def card(self) -> dict[str, Any]:
        """A summary of some tens of kilobytes for a model card (JSON), read by :meth:`from_card`."""
        chosen = {symbol: _spread_out(points, CARD_ENVIRONMENTS) for symbol, points in self.points.items()}
        return {
            "environments": {symbol: np.round(points, 5).tolist() for symbol, points in chosen.items()},
            "scales": dict(self.scales),
            "shortest": {"-".join(pair): value for pair, value in self.shortest.items()},
            "quantile": self.quantile,
            "source": self.source,
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> TrustedRegion:
        """From the card of a model that was trained with its region recorded (key ``trusted_region``).

        Raises
        ------
        InputError
            The card says nothing on it: build the region from the labels.
        """
        data = card.get(CARD_KEY)
        if data is None:
            raise InputError(
                f"the card of {card.get('name', 'this model')} records no trusted region; give the labels: "
                "TrustedRegion.from_labels('labels/')"
            )
        pairs = {tuple(name.split("-")): float(value) for name, value in data["shortest"].items()}
        return cls(
            {symbol: np.array(points) for symbol, points in data["environments"].items()},
            {symbol: float(value) for symbol, value in data["scales"].items()},
            pairs,
            float(data["quantile"]),
            str(data["source"]),
        )


def _to_other_frames(points: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Distance of each environment to the nearest one of another frame."""
    from scipy.spatial import cKDTree

    result = np.empty(len(points))
    for owner in np.unique(owners):
        mine = owners == owner
        result[mine] = cKDTree(points[~mine]).query(points[mine])[0]
    return result


def _shortest(frames: Sequence[Atoms]) -> dict[Pair, float]:
    from vesin import ase_neighbor_list

    found: dict[Pair, float] = {}
    for frame in frames:
        symbols = np.array(frame.get_chemical_symbols())
        first, second, lengths = ase_neighbor_list("ijd", frame, 5.0)
        for a in np.unique(symbols):
            for b in np.unique(symbols):
                chosen = (symbols[first] == a) & (symbols[second] == b)
                if a <= b and chosen.any():
                    pair = (str(a), str(b))
                    found[pair] = min(found.get(pair, np.inf), float(lengths[chosen].min()))
    return found


def _spread_out(points: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the points, each the farthest from those before it."""
    if len(points) <= count:
        return points
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]
    nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]
