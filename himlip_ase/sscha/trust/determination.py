"""Whether labelled cells determine the linear part of a force field, q-point by q-point.

Forces −Xu fix the symmetric X on the span of all u(q) and of their images under the space group; a projector
on what lies beyond that span is itself a symmetric X, with no force at all. X is therefore determined just
where ⟨u u†⟩, averaged over the group, has full rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.sscha.convergence.residual import Projection
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.trust.corrections import at_q

SMALLEST = 1e-4
"""Of the largest eigenvalue at a q-point, in units of the Gaussian's own: less is a direction not held."""
PRESENT = 1e-6
"""The same, of the largest anywhere: below it a q-point is in none of the cells."""


@dataclass(frozen=True, eq=False)
class Determination:
    """Symmetrised second moments of cells in groups.

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
    centre : callable
        (displacements, weights) → mean displacement of each atom of the primitive cell, (n, 3), that the fit
        takes off, as far as symmetry leaves it free.
    """

    target: HarmonicDistribution
    group: Projection
    moved: np.ndarray
    weights: np.ndarray
    members: np.ndarray
    centre: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @cached_property
    def _root(self) -> np.ndarray:
        """Υ^½ at each q-point."""
        values, vectors = np.linalg.eigh(self.target.inverse_covariance())
        return (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.conj().transpose(0, 2, 1)

    def _moment(self, rows: np.ndarray, centred: bool = True) -> np.ndarray:
        """Υ^½ ⟨u u†⟩ Υ^½ of some cells, symmetrised, shape (nq, 3n, 3n)."""
        cells = len(self._root)
        moved, weights = self.moved[rows], self.weights[rows]
        if centred:
            moved = moved - np.tile(self.centre(moved, weights), (cells, 1))
        waves = at_q(self.target, moved)
        moment = np.einsum("n,nqi,nqj->qij", weights, waves, waves.conj()) / cells
        return np.asarray(self._root @ self.group.matrices(moment) @ self._root)

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
        names = np.unique(self.members)
        largest = np.linalg.eigvalsh(self._moment(np.ones(len(self.members), dtype=bool))).max()
        of_group = np.array([_ranks(self._moment(self.members == name, False), largest) for name in names])
        directions = np.full(of_group.shape[1], self._root.shape[1])
        directions[0] -= 3
        for name in names:
            held = _ranks(self._moment(self.members != name), largest)
            if (held < directions).any():
                worst = int(np.argmax(directions - held))
                raise InputError(self._why(worst, held[worst], directions[worst], of_group[:, worst]))
        return np.asarray((of_group > 0).sum(axis=0))

    def _why(self, q: int, held: int, directions: int, ranks: np.ndarray) -> str:
        point = ", ".join(f"{x:.4g}" for x in self.target.dynamical.qpoints[q])
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
