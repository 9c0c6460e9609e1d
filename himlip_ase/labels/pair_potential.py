"""Pair energies fitted to energies and forces, and what they say of the size and sign of other labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from himlip_ase.evaluation import voigt_from_matrix
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.pairs import Pairs

LENGTHS = (0.2, 0.4, 0.8, 1.6)
"""Å; decay lengths of the pair energies."""
MOST_FRAMES = 60
RIDGE = 1e-6
AMPLITUDE = 0.1
"""Å; of typical displacements."""
GOOD_FIT = 0.9
"""Share of the squared forces that pairs have to give before a Hessian is held against them."""
LEAST_FRAMES = 5
"""From so few frames on nothing is concluded."""


@dataclass(frozen=True)
class Comparison:
    """Labels against a prediction.

    Attributes
    ----------
    scale : float
        Size of the labels over that of the prediction, with the sign of the correlation.
    correlation : float
        −1 to 1.
    """

    scale: float
    correlation: float

    @classmethod
    def of(cls, predicted: np.ndarray, labels: np.ndarray) -> Comparison | None:
        """Compare two arrays of equal shape; None if one of them is zero.

        Parameters
        ----------
        predicted, labels : ndarray

        Returns
        -------
        Comparison or None
        """
        sizes = float(np.sum(predicted**2)), float(np.sum(labels**2))
        if not (min(sizes) > 0 and np.isfinite(sizes).all()):
            return None
        correlation = float(np.sum(predicted * labels) / np.sqrt(sizes[0] * sizes[1]))
        return cls(float(np.copysign(np.sqrt(sizes[1] / sizes[0]), correlation)), correlation)


class PairPotential:
    """Pair energies fitted to the energies and forces of some frames.

    Parameters
    ----------
    frames : sequence of LabelledFrame
        Those with forces are fitted to, at most `MOST_FRAMES`.

    Attributes
    ----------
    quality : float
        Share of the squared forces that it gives; 1 if forces are those of pairs.
    """

    quality = 0.0

    def __init__(self, frames: Sequence[LabelledFrame]) -> None:
        self.frames = [f for f in frames if f.forces is not None and len(f.atoms) > 1][:MOST_FRAMES]
        self.kinds = sorted({kind for f in self.frames for kind in Pairs.of(f.atoms).kinds})
        self.elements = sorted({int(z) for f in self.frames for z in f.atoms.numbers})
        self.coefficients = self._fit() if self.frames and self.kinds else None

    def _fit(self) -> np.ndarray:
        forces = np.concatenate([np.ravel(f.forces) for f in self.frames])  # type: ignore[arg-type]
        size = max(float(np.sqrt(np.mean(forces**2))), 1e-6)
        rows, wanted = [], []
        for frame in self.frames:
            energy, force, _ = self._columns(frame.atoms)
            rows.append(force / size)
            wanted.append(np.ravel(frame.forces) / size)  # type: ignore[arg-type]
            if frame.energy is not None:
                # as much as a force that acts along 0.1 Å
                unit = AMPLITUDE * size * len(frame.atoms) ** 0.5
                rows.append(energy[None] / unit)
                wanted.append(np.array([frame.energy]) / unit)
        design = np.concatenate(rows)
        sizes = np.maximum(np.linalg.norm(design, axis=0), 1e-12)
        found: np.ndarray = np.linalg.lstsq(design / sizes, np.concatenate(wanted), rcond=RIDGE)[0] / sizes
        rest = [np.ravel(f.forces) - self._columns(f.atoms)[1] @ found for f in self.frames]  # type: ignore[arg-type]
        self.quality = 1 - float(np.sum(np.concatenate(rest) ** 2) / max(np.sum(forces**2), 1e-30))
        return found

    def stress_scale(self) -> Comparison | None:
        """How the stresses of the frames compare with what energies and forces say of them.

        The mean of each composition is left out: a constant stress needs more than pairs.

        Returns
        -------
        Comparison or None
            None if there are too few frames to tell.
        """
        chosen = [f for f in self.frames if f.stress is not None and f.atoms.pbc.all()]
        if self.coefficients is None or len(chosen) < LEAST_FRAMES:
            return None
        predicted = np.array([self._columns(f.atoms)[2] @ self.coefficients for f in chosen])
        groups: dict[str, list[int]] = {}
        for k, frame in enumerate(chosen):
            groups.setdefault(frame.atoms.get_chemical_formula(empirical=True), []).append(k)
        pairs = []
        for members in groups.values():
            if len(members) > 2:
                labels = np.array([chosen[k].stress for k in members])
                own = predicted[members]
                pairs.append((own - own.mean(0), labels - labels.mean(0)))
        if not pairs:
            return None
        return Comparison.of(np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs]))

    def hessian_scale(self, atoms: Atoms, matrix: np.ndarray) -> Comparison | None:
        """How a Hessian compares with what energies and forces of the frames say of it.

        Parameters
        ----------
        atoms : Atoms
        matrix : ndarray (N, 3, N, 3)

        Returns
        -------
        Comparison or None
            None if there are too few frames of so many atoms (the forces of a primitive cell do not know what
            acts between its images), other elements in them, or forces that are not those of pairs.
        """
        alike = sum(len(frame.atoms) == len(atoms) for frame in self.frames)
        strangers = set(atoms.numbers) - set(self.elements)
        if self.coefficients is None or alike < LEAST_FRAMES or strangers or self.quality < GOOD_FIT:
            return None
        pairs, n = Pairs.of(atoms), len(atoms)
        along = np.einsum("pa,pb->pab", pairs.directions, pairs.directions)
        across = np.eye(3) - along
        springs = np.zeros((len(pairs.kind), 2))
        for place, kind in enumerate(self.kinds):
            if kind in pairs.kinds:
                own = pairs.kind == pairs.kinds.index(kind)
                for step, length in enumerate(LENGTHS):
                    _, slope, bend = pairs.functions(length)
                    weight = self.coefficients[place * len(LENGTHS) + step]
                    springs[own] += weight * np.stack([bend, slope / pairs.distances], axis=1)[own]
        blocks = np.zeros((n, n, 3, 3))
        np.add.at(
            blocks, (pairs.first, pairs.second),
            -springs[:, 0, None, None] * along - springs[:, 1, None, None] * across,
        )  # fmt: skip
        blocks[np.arange(n), np.arange(n)] -= blocks.sum(axis=1)
        return Comparison.of(blocks, matrix.transpose(0, 2, 1, 3))

    def _columns(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What each coefficient adds to energy (C,), forces (3N, C) and stress (6, C)."""
        pairs, n = Pairs.of(atoms), len(atoms)
        volume = atoms.get_volume() if atoms.cell.rank == 3 else np.inf
        energy, forces, stress = [], [], []
        outer = np.einsum("pa,pb->pab", pairs.directions, pairs.directions)
        for kind in self.kinds:
            own = np.zeros(len(pairs.kind), dtype=bool)
            if kind in pairs.kinds:
                own = pairs.kind == pairs.kinds.index(kind)
            for length in LENGTHS:
                value, slope = (np.where(own, x, 0.0) for x in pairs.functions(length)[:2])
                energy.append(0.5 * value.sum())
                force = np.zeros((n, 3))
                np.add.at(force, pairs.first, slope[:, None] * pairs.directions)
                forces.append(force.ravel())
                virial = 0.5 * np.einsum("p,pab->ab", slope * pairs.distances, outer)
                stress.append(voigt_from_matrix(virial / volume))
        for element in self.elements:
            energy.append(float((atoms.numbers == element).sum()))
            forces.append(np.zeros(3 * n))
            stress.append(np.zeros(6))
        return np.array(energy), np.array(forces).T, np.array(stress).T
