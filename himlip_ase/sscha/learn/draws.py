"""Labelled configurations of the loop, and what they weigh in averages over another Gaussian."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from himlip_ase.evaluation import Evaluation
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.sscha.array_files import load_arrays, pack, restoring, save_arrays, unpack
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.reweighting import quadratic_forms
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.ensembles.trial_gaussian import TrialGaussian


@dataclass(frozen=True, eq=False)
class Draw:
    """Configurations of one round.

    Attributes
    ----------
    drawn_from : HarmonicDistribution
    displacements : ndarray, shape (n, N, 3)
        Å from the centroids of `drawn_from`; rows 2k and 2k+1 are opposites.
    rows : ndarray of int, shape (n,)
        Of the ensemble that they were chosen from.
    at_random : int
        The first so many were chosen at random; averages take these only.
    """

    drawn_from: HarmonicDistribution
    displacements: np.ndarray
    rows: np.ndarray
    at_random: int

    def __len__(self) -> int:
        return len(self.displacements)

    def images(self) -> list[Atoms]:
        """The configurations and, last, the crystal on its centroids."""
        images = [self.drawn_from.supercell for _ in range(len(self) + 1)]
        for image, moved in zip(images, self.displacements, strict=False):
            image.positions += moved
        return images

    def save(self, path: Path) -> None:
        """Write all of it, exact to the last bit.

        Parameters
        ----------
        path : Path
            ``.npz``.
        """
        arrays = pack("drawn_from", self.drawn_from.dynamical)
        arrays |= {"displacements": self.displacements, "rows": self.rows}
        arrays |= {"at_random": np.array(self.at_random)}
        arrays["temperature_k"] = np.array(self.drawn_from.temperature_k)
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> Draw:
        """What `save` wrote."""
        arrays = load_arrays(path)
        with restoring(path):
            distribution = HarmonicDistribution(unpack("drawn_from", arrays), float(arrays["temperature_k"]))
            return cls(distribution, arrays["displacements"], arrays["rows"], int(arrays["at_random"]))


@dataclass(frozen=True, eq=False)
class LabelledDraw:
    """A draw with what the reference gives for it.

    Attributes
    ----------
    draw : Draw
    reference : Evaluation
        Of ``draw.images()``: the last row is the crystal on its centroids.
    """

    draw: Draw
    reference: Evaluation

    def pairs(self) -> int:
        """Number of pairs of opposites."""
        return len(self.draw) // 2

    def frames(self, name: str, weight: float) -> list[list[LabelledFrame]]:
        """What is learnt: one group for each pair of opposites.

        Parameters
        ----------
        name : str
            Of the set.
        weight : float

        Returns
        -------
        list of list of LabelledFrame
        """
        images = self.draw.images()
        found = [self._frame(k, images[k], name, weight) for k in range(len(self.draw))]
        return [found[k : k + 2] for k in range(0, len(found), 2)]

    def centroids(self, name: str) -> LabelledFrame:
        """The crystal on its centroids."""
        return self._frame(len(self.draw), self.draw.images()[-1], name, 1.0)

    def _frame(self, k: int, image: Atoms, name: str, weight: float) -> LabelledFrame:
        stress = self.reference.stresses[k] if self.reference.has_stress else None
        return LabelledFrame(
            image,
            float(self.reference.energies[k]),
            self.reference.force_array[k],
            stress,
            set=name,
            weight=weight,
            source=f"{name}, configuration {k}",
        )


def log_density(distribution: HarmonicDistribution, displacements: np.ndarray) -> np.ndarray:
    """ln P of configurations in a Gaussian, up to a constant of the crystal.

    Parameters
    ----------
    distribution : HarmonicDistribution
    displacements : ndarray, shape (n, N, 3)
        Å from its centroids.

    Returns
    -------
    ndarray, shape (n,)
    """
    grid = HalfGrid(distribution.dims)
    gaussian = TrialGaussian.of(distribution, grid)
    quadratic, _ = quadratic_forms(grid, gaussian.inverse_covariance, grid.fields(displacements))
    return np.asarray(gaussian.log_normalisation() - quadratic / 2)


def displacements_from(target: HarmonicDistribution, draw: Draw) -> np.ndarray:
    """Displacements (n, N, 3) in Å of a draw from the centroids of another Gaussian.

    Parameters
    ----------
    target : HarmonicDistribution
    draw : Draw

    Returns
    -------
    ndarray
    """
    shift = draw.drawn_from.dynamical.primitive.positions - target.dynamical.primitive.positions
    return draw.displacements + np.tile(shift, (int(np.prod(target.dims)), 1))


def mixture_weights(target: HarmonicDistribution, draws: Sequence[Draw]) -> np.ndarray:
    """Importance weights of all draws together for averages over another Gaussian.

    The draws are one sample of the mixture of their Gaussians: w = P_target / Σ_j (n_j/n) P_j, the balance
    heuristic of multiple importance sampling (Veach and Guibas, SIGGRAPH 1995), which no single draw from an
    old Gaussian can dominate.

    Parameters
    ----------
    target : HarmonicDistribution
    draws : sequence of Draw
        Of one cell and grid.

    Returns
    -------
    ndarray, shape (n,)
        Of mean 1, in the order of the draws.
    """
    moved = {id(d.drawn_from): d.drawn_from for d in draws}

    def logs(distribution: HarmonicDistribution) -> np.ndarray:
        return np.concatenate([log_density(distribution, displacements_from(distribution, d)) for d in draws])

    counts = {key: sum(len(d) for d in draws if id(d.drawn_from) == key) for key in moved}
    total = sum(counts.values())
    each = np.array([np.log(counts[key] / total) + logs(moved[key]) for key in moved])
    highest = each.max(axis=0)
    mixture = highest + np.log(np.exp(each - highest).sum(axis=0))
    found = logs(target) - mixture
    weights = np.exp(found - found.max())
    return np.asarray(weights / weights.mean())


def only_random(labelled: LabelledDraw) -> LabelledDraw:
    """The configurations that were chosen at random, and the centroids."""
    draw, n = labelled.draw, labelled.draw.at_random
    kept = dataclasses.replace(draw, displacements=draw.displacements[:n], rows=draw.rows[:n])
    rows = [*range(n), len(draw)]
    reference = labelled.reference
    stresses = reference.stresses[rows] if reference.has_stress else None
    return LabelledDraw(kept, Evaluation(reference.energies[rows], reference.force_array[rows], stresses))
