"""Whether labelled cells determine the linear part of a force field, q-point by q-point.

Forces −Xu fix the symmetric X on the span of all u(q) and of their images under the space group; a projector
on what lies beyond that span is itself a symmetric X, with no force at all. X is therefore determined just
where ⟨u u†⟩, averaged over the group, has full rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.sscha.convergence.residual import Projection
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

SMALLEST = 1e-4
"""Of the largest eigenvalue at a q-point, in units of the Gaussian's own: less is a direction not held."""
PRESENT = 1e-6
"""The same, of the largest anywhere: below it a q-point is in none of the cells."""


@dataclass(frozen=True, eq=False)
class Determination:
    """Symmetrised second moments of the cells of each group.

    Parameters
    ----------
    target : HarmonicDistribution
    group : Projection
        Space group.
    moved : ndarray, shape (n, N, 3)
        Å from the centroids.
    weights : ndarray, shape (n,)
    members : ndarray, shape (n,)
        Number of the group of each.
    """

    target: HarmonicDistribution
    group: Projection
    moved: np.ndarray
    weights: np.ndarray
    members: np.ndarray

    def moments(self) -> np.ndarray:
        """Υ^½ ⟨u u†⟩ Υ^½ of each group, shape (groups, nq, 3n, 3n)."""
        inverse = self.target.inverse_covariance()
        values, vectors = np.linalg.eigh(inverse)
        root = (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.conj().transpose(0, 2, 1)
        size, cells = inverse.shape[1], len(inverse)
        waves = np.fft.fftn(self.moved.reshape(-1, *self.target.dims, size), axes=(1, 2, 3))
        waves = waves.reshape(-1, cells, size)[:, self.target.grid_order]
        found = []
        for name in np.unique(self.members):
            own = self.members == name
            moment = np.einsum("n,nqi,nqj->qij", self.weights[own], waves[own], waves[own].conj())
            found.append(root @ self.group.matrices(moment / cells) @ root)
        return np.array(found)

    def check(self) -> np.ndarray:
        """Refuse where the cells without any one group leave some direction open.

        Returns
        -------
        ndarray (nq,) of int
            Groups whose cells have each q-point.

        Raises
        ------
        InputError
            It names the q-point and about how many further cells would do.
        """
        moments = self.moments()
        total = moments.sum(axis=0)
        largest = np.linalg.eigvalsh(total).max()
        directions = np.full(len(total), total.shape[1])
        directions[0] -= 3
        for left_out in moments:
            held = _ranks(total - left_out, largest)
            if (held < directions).any():
                worst = int(np.argmax(directions - held))
                raise InputError(self._why(worst, held[worst], directions[worst], moments, largest))
        return np.asarray((np.array([_ranks(moment, largest) for moment in moments]) > 0).sum(axis=0))

    def _why(self, q: int, held: int, directions: int, moments: np.ndarray, largest: float) -> str:
        point = ", ".join(f"{x:.4g}" for x in self.target.dynamical.qpoints[q])
        ranks = np.array([_ranks(moment, largest)[q] for moment in moments])
        here = int((ranks > 0).sum())
        if here < 2:
            return (
                f"q = ({point}) is in the labelled cells of {here} independent groups; two are the fewest, "
                "so label cells of other shapes"
            )
        more = int(np.ceil((directions - held) / ranks[ranks > 0].mean()))
        return (
            f"the labelled cells do not determine the change at q = ({point}): of {directions} directions "
            f"{held} are held where one of the {here} independent groups that have this q-point is left out; "
            f"label about {more} more of them"
        )


def _ranks(moments: np.ndarray, largest: float) -> np.ndarray:
    """Directions that are held at each q-point."""
    values = np.linalg.eigvalsh(moments)
    held = values > SMALLEST * np.maximum(values[:, -1:], PRESENT / SMALLEST * largest)
    return np.asarray(held.sum(axis=1))
