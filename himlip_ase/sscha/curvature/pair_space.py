"""Symmetry-adapted pairs of phonons of total momentum q.

The bubble of the free-energy Hessian at q lives on symmetric pair vectors x(k)_μν, x(q-k) = x(k)ᵀ: n_q·(3n)²
of them.  Third-order constants are an equivariant map from displacements at q to such pairs, and Φ⁴ and Λ
commute with the operations of q, so that for one irreducible subspace W of the displacements (dimension d)
everything happens among the equivariant maps T: W → pairs.  They form a real vector space of about
n_q·(3n)²·d/|G_q| dimensions; an orthonormal basis of it, ⟨T, T'⟩ = Re Tr(T†T')/d, is built here star of k by
star of k.  For a cubic crystal at Γ it has tens to hundreds of elements where the pairs are thousands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.sscha.curvature.little_group import GridSymmetry, LittleOperation, Multiplet
from himlip_ase.sscha.curvature.two_phonon import static_propagator


@dataclass(frozen=True, eq=False)
class Star:
    """Pairs (k, q-k) that the operations of q take into each other.

    Attributes
    ----------
    members : ndarray of int, shape (p,)
        One k of each set {k, q-k}, at q = -q of each set {±k, ±(q-k)}.
    copies : ndarray of int, shape (p,)
        Size of that set.
    """

    members: np.ndarray
    copies: np.ndarray

    @property
    def size(self) -> int:
        """Number of symmetric parameters."""
        return int(self.copies.sum())


@dataclass(frozen=True, eq=False)
class PairBasis:
    """Orthonormal equivariant maps from one irreducible subspace to pairs.

    Attributes
    ----------
    multiplet : Multiplet
    tensors : list of ndarray, shape (p, 3n, 3n, d, m)
        For each star, T_j w at its members, on normal coordinates of k and q-k.
    """

    multiplet: Multiplet
    tensors: list[np.ndarray]

    @property
    def size(self) -> int:
        """Basis elements on all stars."""
        return sum(tensor.shape[-1] for tensor in self.tensors)

    @cached_property
    def slices(self) -> list[slice]:
        """Basis elements on each star."""
        ends = np.cumsum([0] + [tensor.shape[-1] for tensor in self.tensors])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]


class PairSpace:
    """Stars of pairs at one q, and the bases of its multiplets.

    Parameters
    ----------
    symmetry : GridSymmetry
    q : int
        Place of q in the grid.
    operations : list of LittleOperation
        Those that keep q.
    """

    def __init__(self, symmetry: GridSymmetry, q: int, operations: list[LittleOperation]) -> None:
        self.symmetry, self.q, self.operations = symmetry, q, operations
        self.partner = symmetry.modes.partner(q)
        self.real = bool(symmetry.modes.minus[q] == q)
        self.stars = self._find_stars()

    def _same(self, k: int) -> set[int]:
        """k, q-k and, where conjugation keeps q, their opposites."""
        found = {k, int(self.partner[k])}
        if self.real:
            found |= {int(self.symmetry.modes.minus[other]) for other in found}
        return found

    def _find_stars(self) -> list[Star]:
        left, stars = set(range(len(self.partner))), []
        while left:
            first = min(left)
            images = {self.symmetry.image(operation, first) for operation in self.operations}
            members, copies = [], []
            while images:
                member = first if first in images else min(images)
                same = self._same(member)
                members.append(member)
                copies.append(len(same))
                images -= same
                left -= same
            stars.append(Star(np.array(members), np.array(copies)))
        return stars

    def weights(self, star: Star) -> np.ndarray:
        """√-Λ(0) of the pairs of each member, (p, 3n, 3n), amu Å² eV^-1/2."""
        modes = self.symmetry.modes
        first, second = modes.energies[star.members], modes.energies[self.partner[star.members]]
        return np.sqrt(-static_propagator(first[:, :, None], second[:, None, :], modes.temperature_k))

    def basis(self, multiplet: Multiplet) -> PairBasis:
        """Equivariant maps from a multiplet."""
        return PairBasis(multiplet, [self._on_star(star, multiplet) for star in self.stars])

    def _on_star(self, star: Star, multiplet: Multiplet) -> np.ndarray:
        symmetry, d = self.symmetry, multiplet.dimension
        first = int(star.members[0])
        other = int(self.partner[first])
        moves = []
        for operation, factor in zip(self.operations, multiplet.factors, strict=True):
            left, right = symmetry.on_modes(operation, first), symmetry.on_modes(operation, other)
            image = symmetry.image(operation, first)
            moves.append((image, _Move(left, right, factor, operation.conjugates, transposes=False)))
            moves.append(
                (int(self.partner[image]), _Move(left, right, factor, operation.conjugates, transposes=True))
            )
        stabiliser = [move for image, move in moves if image == first]
        count = int(np.rint(sum(move.trace() for move in stabiliser) / len(stabiliser)))
        size = symmetry.modes.vectors.shape[1]
        if count == 0:
            return np.zeros((len(star.members), size, size, d, 0), dtype=complex)
        generator = np.random.default_rng(first)
        shape = (count + 2, d, size, size)
        seeds = generator.normal(size=shape) + 1j * generator.normal(size=shape)
        invariant = np.sum([move.apply(seeds) for move in stabiliser], axis=0) / len(stabiliser)
        rows = np.ascontiguousarray(invariant.reshape(count + 2, -1)).view(float)
        _, singular, right_vectors = np.linalg.svd(rows, full_matrices=False)
        if singular[count - 1] < 1e-6 * singular[0] or (singular[count:] > 1e-6 * singular[0]).any():
            raise CalculationError(
                "the auxiliary does not have the symmetry of the space group; symmetrise it first"
            )
        found = np.ascontiguousarray(right_vectors[:count]).view(complex).reshape(count, d, size, size)
        found *= np.sqrt(d / star.size)
        tensors = []
        for member in star.members:
            move = next(move for image, move in moves if image == member)
            tensors.append(move.apply(found).transpose(2, 3, 1, 0))
        return np.array(tensors)


@dataclass(frozen=True, eq=False)
class _Move:
    """T ↦ g T g⁻¹ for pairs at one k: (..., d, 3n, 3n) to the image of k."""

    left: np.ndarray
    right: np.ndarray
    factor: np.ndarray
    conjugates: bool
    transposes: bool

    def apply(self, tensors: np.ndarray) -> np.ndarray:
        source = tensors.conj() if self.conjugates else tensors
        turned = self.left @ source @ self.right.T
        if self.transposes:
            turned = turned.swapaxes(-1, -2)
        return np.einsum("ab,jbxy->jaxy", self.factor.conj(), turned, optimize=True)

    def trace(self) -> float:
        """Over the real dimensions of T, if the move keeps k."""
        if self.conjugates:
            return 0.0
        pairs = (
            np.trace(self.right @ self.left)
            if self.transposes
            else np.trace(self.left) * np.trace(self.right)
        )
        return 2 * float((pairs * np.trace(self.factor).conj()).real)
