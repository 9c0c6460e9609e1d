"""Is the potential asked about what it was taught?  Recorded for every configuration of every population.

The loop calls :func:`record_watch` after each ensemble; the records lie in ``<run>/watch``, where
:func:`read_watch` and ``himlip sscha watch`` find them.

A distance from the labels says where a potential is blind, not how wrong it is: within the region, single
environments' distances hardly correlate with their force errors (for H3S, rank correlation 0.3).  What it
catches is an ensemble that leaves the labels: too soft a start, a cell under another pressure, a phase
never seen.  For the errors themselves, verify with DFT (:mod:`himlip_ase.sscha.trust.verify`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.sscha.array_files import load_arrays, restoring, save_arrays
from himlip_ase.sscha.ensembles.distances import Pair, pair_table
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.evaluation import Evaluate, checked
from himlip_ase.sscha.watch.trusted_region import TrustedRegion

logger = logging.getLogger(__name__)

CHUNK = 50
"""Configurations whose environments are held at once."""

COLLAPSED = 0.5
"""Without labels, atoms closer than this share of the shortest ideal distance count as too close."""


@dataclass(frozen=True)
class WatchRecord:
    """What an ensemble visits.

    Attributes
    ----------
    name : str
        Of the ensemble.
    pairs : tuple of (str, str)
        Pairs of elements.
    shortest : ndarray, shape (n, len(pairs))
        Shortest distance of each pair in each configuration, Å.
    allowed : ndarray, shape (len(pairs),)
        Distance (Å) below which a configuration counts as too close.
    farthest : ndarray, shape (n,)
        Distance of the most unfamiliar atom of each configuration from the labels, in the labels' own spread
        (1: as far as all but 1 % of the labels are from each other); NaN without labels.
    outside : ndarray, shape (n,)
        Fraction of the atoms of each configuration beyond 1; NaN without labels.
    spread : ndarray, shape (n,)
        Largest standard deviation of a force among the committee, eV/Å; NaN without a committee.
    trusted : bool
        Whether the ensemble as a whole stays where the potential was taught.
    message : str
        One line that says so, with figures.
    """

    name: str
    pairs: tuple[Pair, ...]
    shortest: np.ndarray
    allowed: np.ndarray
    farthest: np.ndarray
    outside: np.ndarray
    spread: np.ndarray
    trusted: bool
    message: str

    @property
    def too_close(self) -> np.ndarray:
        """Configurations (mask) with a pair of atoms closer than allowed."""
        return np.asarray((self.shortest < self.allowed).any(axis=1))

    def worst(self, count: int = 5) -> np.ndarray:
        """Indices of the configurations to look at first: too close, then farthest from the labels."""
        unfamiliar = np.nan_to_num(self.farthest) + np.nan_to_num(self.spread) / 1e3
        return np.argsort(-(unfamiliar + 1e3 * self.too_close), kind="stable")[:count]

    def summary(self) -> dict[str, Any]:
        """Figures of the ensemble, ready for JSON."""
        return {
            "name": self.name,
            "trusted": self.trusted,
            "message": self.message,
            "shortest_angstrom": {
                "-".join(pair): float(value)
                for pair, value in zip(self.pairs, self.shortest.min(axis=0), strict=True)
            },
            "too_close": int(self.too_close.sum()),
            "outside_fraction": _or_none(np.mean(self.outside)),
            "farthest": _or_none(np.max(self.farthest)),
            "largest_spread_ev_per_angstrom": _or_none(np.max(self.spread)),
            "worst": self.worst().tolist(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays by name, ready for ``state.save_arrays``; the inverse is :meth:`from_arrays`."""
        return {item.name: np.asarray(getattr(self, item.name)) for item in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> WatchRecord:
        """The record that `arrays` was written from."""
        values: dict[str, Any] = dict(arrays)
        values |= {key: str(arrays[key]) for key in ("name", "message")}
        values["trusted"] = bool(arrays["trusted"])
        values["pairs"] = tuple((str(a), str(b)) for a, b in arrays["pairs"])
        return cls(**values)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class Watch:
    """Looks at every ensemble of a run.

    Attributes
    ----------
    region : TrustedRegion, optional
        Of the labels; without one, only collapsed distances are seen.
    committee : sequence of force callables
        Further models of the same crystal; with the run's own forces they give a spread.
    tolerated : float
        Largest fraction of atoms beyond 1 in a trusted ensemble; 0.01 are expected of one drawn like the
        labels (for the default quantile).
    farthest : float
        Largest distance of any atom in a trusted ensemble.
    slack : float
        Å by which atoms may come closer than in any label.
    spread_limit : float, optional
        Largest committee spread of a force, eV/Å, in a trusted ensemble.  None: it is only recorded.
    """

    region: TrustedRegion | None = None
    committee: Sequence[Evaluate] = ()
    tolerated: float = 0.05
    farthest: float = 2.0
    slack: float = 0.05
    spread_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("tolerated", "farthest", "slack"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)!r}; give 0 or a positive number")

    def __call__(self, ensemble: Ensemble, name: str = "ensemble") -> WatchRecord:
        """Look at one ensemble.

        Parameters
        ----------
        ensemble : Ensemble
        name : str
            For the message, e.g. "population 3".
        """
        ideal = ensemble.drawn_from.supercell
        table = pair_table(ideal, ensemble.displacements)
        shortest = table.shortest(ensemble.displacements)
        allowed = COLLAPSED * table.ideal
        if self.region is not None:
            labels = [self.region.shortest.get(pair, np.nan) for pair in table.names]
            allowed = np.where(np.isfinite(labels), np.array(labels) - self.slack, allowed)
        n = len(ensemble)
        farthest, outside = np.full(n, np.nan), np.full(n, np.nan)
        worst: tuple[float, int] | None = None
        if self.region is not None:
            for start in range(0, n, CHUNK):
                rows = slice(start, min(start + CHUNK, n))
                found = self.region.distances(_images(ideal, ensemble.displacements[rows]))
                farthest[rows], outside[rows] = found.max(axis=1), (found > 1).mean(axis=1)
                atom = int(found.max(axis=0).argmax())
                if worst is None or found[:, atom].max() > worst[0]:
                    worst = float(found[:, atom].max()), atom
        spread = self._spread(ideal, ensemble)
        record = WatchRecord(name, table.names, shortest, allowed, farthest, outside, spread, True, "")
        trusted, message = self._judge(record, ideal, worst)
        return dataclasses.replace(record, trusted=trusted, message=message)

    def _spread(self, ideal: Atoms, ensemble: Ensemble) -> np.ndarray:
        """Largest standard deviation of a force (norm over directions) in each configuration, eV/Å."""
        if not self.committee:
            return np.full(len(ensemble), np.nan)
        images = _images(ideal, ensemble.displacements)
        forces = [
            ensemble.forces,
            *(checked(member(images), images).force_array for member in self.committee),
        ]
        variance = np.var(forces, axis=0, ddof=1).sum(axis=2)
        return np.sqrt(variance.max(axis=1))

    def _judge(self, record: WatchRecord, ideal: Atoms, worst: tuple[float, int] | None) -> tuple[bool, str]:
        close = np.array([f"{'-'.join(pair)} {value:.2f}" for pair, value in
                          zip(record.pairs, record.shortest.min(axis=0), strict=True)])  # fmt: skip
        seen = [f"shortest distances {', '.join(close)} Å"]
        reasons = []
        if record.too_close.any():
            k = int(np.argmin((record.shortest - record.allowed).min(axis=0)))
            what = "half the ideal distance" if self.region is None else "the labels come"
            reasons.append(
                f"{int(record.too_close.sum())} of {len(record.shortest)} configurations bring atoms closer "
                f"than {what} ({'-'.join(record.pairs[k])}: {record.shortest[:, k].min():.2f} Å, allowed "
                f"{record.allowed[k]:.2f} Å)"
            )
        if self.region is not None and worst is not None:
            fraction = float(record.outside.mean())
            normal = 1 - self.region.quantile
            seen.append(
                f"{fraction:.1%} of the atoms lie outside the labels ({normal:.0%} would be normal), the "
                f"farthest ({ideal.symbols[worst[1]]}) at {worst[0]:.2f} times their spread"
            )
            if fraction > self.tolerated:
                reasons.append(f"{fraction:.1%} of the atoms lie outside the labels")
            if worst[0] > self.farthest:
                reasons.append(
                    f"an atom ({ideal.symbols[worst[1]]}) is {worst[0]:.1f} times their spread away"
                )
        if self.committee:
            largest = float(record.spread.max())
            seen.append(f"committee spread of a force up to {largest:.2f} eV/Å")
            if self.spread_limit is not None and largest > self.spread_limit:
                reasons.append(
                    f"the committee differs by {largest:.2f} eV/Å, more than {self.spread_limit:g} allowed"
                )
        if reasons:
            where = "the trusted region" if self.region is not None else "what any potential can be right on"
            return False, (
                f"{record.name} leaves {where}: {'; '.join(reasons)}. Look at configurations "
                f"{', '.join(map(str, record.worst()))}; verify them with DFT or add them to the labels"
            )
        return True, f"{record.name}: {'; '.join(seen)}"


def _images(ideal: Atoms, displacements: np.ndarray) -> list[Atoms]:
    images = []
    for displacement in displacements:
        image = ideal.copy()
        image.positions += displacement
        images.append(image)
    return images


def record_watch(watch: Watch, run: Path, name: str, ensemble: Ensemble) -> WatchRecord:
    """Look at an ensemble of a run once, say what was seen, and write it down.

    Parameters
    ----------
    watch : Watch
    run : Path
        Run folder; ``watch/<name>.npz`` is written in it, and read where it is there already.
    name : str
        Of the ensemble's files, e.g. "population_003".
    ensemble : Ensemble

    Returns
    -------
    WatchRecord
    """
    path = run / "watch" / f"{name}.npz"
    if path.exists():
        return _load_record(path)
    record = watch(ensemble, name.replace("_", " "))
    save_arrays(path, record.arrays())
    (logger.info if record.trusted else logger.warning)("watch: %s", record.message)
    return record


def read_watch(run: Path) -> list[WatchRecord]:
    """What was seen of every ensemble of a run: its populations, then its final ensemble."""
    paths = sorted(
        (run / "watch").glob("*.npz"), key=lambda path: (not path.name.startswith("pop"), path.name)
    )
    return [_load_record(path) for path in paths]


def _load_record(path: Path) -> WatchRecord:
    arrays = load_arrays(path)
    with restoring(path):
        return WatchRecord.from_arrays(arrays)
