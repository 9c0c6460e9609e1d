"""Third- and fourth-order SSCHA force constants as averages over an ensemble, on symmetry-adapted pairs.

With v = Υu and δf the force left by the auxiliary,

    Φ³_abc = -⟨v_a v_b δf_c⟩,   Φ⁴_abcd = -⟨v_a v_b v_c δf_d⟩   (symmetrised over the indices)

(Bianco et al., PRB 96, 014111 (2017), eqs. 23-24).  Their action never needs the tensors: with a = v⊗v and
s = (v⊗δf + δf⊗v)/2 of each configuration,

    Φ³u = -⟨(a - Υ)(δf·u) + 2 s (v·u) - …⟩/3,   Φ⁴x = -⟨s (a·x) + a (s·x)⟩/2.

What is kept of a configuration are its projections on the basis of
:mod:`himlip_ase.sscha.curvature.pair_space`, with √-Λ(0) multiplied in, so that the Hessian is
Φ - tᵀ(1 + √-Λ Φ⁴ √-Λ)⁻¹t with t = √-Λ Φ³.

At the SSCHA minimum ⟨v δf⟩ = 0.  On a finite ensemble it is noise that three more factors v amplify, so the
linear response of the ensemble itself is taken out of δf; this is the subtraction of the disconnected part of
⟨v v v δf⟩.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from himlip_ase.sscha.curvature.normal_coordinates import Arms, NormalCoordinates
from himlip_ase.sscha.curvature.pair_space import PairBasis, PairSpace, Star

CHUNK_BYTES = 64e6
"""Memory for the pairs of a part of the ensemble."""

CACHE_BYTES = 1e6
"""Of the projections that are worked on at a time."""


def pairs_of(
    normal: NormalCoordinates, space: PairSpace, star: Star, chosen: slice, forces: Sequence[np.ndarray]
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """√-Λ a(k) and √-Λ s(k) of some configurations at each member of a star, (n, 3n, 3n).

    Parameters
    ----------
    normal : NormalCoordinates
    space : PairSpace
    star : Star
    chosen : slice
        Of the configurations.
    forces : sequence of ndarray, shape (nq, n, 3n)
        For each of which there is an s.

    Returns
    -------
    iterator of (int, list of ndarray)
        Place in the star; √-Λ a, then √-Λ s for each of the forces, (n, 3n, 3n).
    """
    weights = space.weights(star)
    for place, k in enumerate(star.members):
        other = space.partner[k]
        v, w = normal.scaled[k, chosen, :, None], normal.scaled[other, chosen, None, :] * weights[place]
        found = [v * w]
        for force in forces:
            s = (v * 0.5) * (force[other, chosen, None, :] * weights[place])
            s += (force[k, chosen, :, None] * 0.5) * w
            found.append(s)
        yield place, found


def mean_pairs(normal: NormalCoordinates, space: PairSpace, star: Star) -> np.ndarray:
    """Gaussian mean of √-Λ a(k) at the members of a star, (p, 3n, 3n); only pairs of q = 0 have one.

    Parameters
    ----------
    normal : NormalCoordinates
    space : PairSpace
    star : Star

    Returns
    -------
    ndarray, shape (p, 3n, 3n)
    """
    vectors, members = space.symmetry.modes.vectors, star.members
    if space.q:
        return np.zeros((len(members), *vectors.shape[1:]))
    turn = vectors[space.partner[members]].swapaxes(1, 2) @ vectors[members]
    return space.weights(star) * turn.conj().swapaxes(1, 2) / normal.variances[members][:, :, None]


def mean_force_pairs(
    normal: NormalCoordinates, space: PairSpace, star: Star, forces: np.ndarray
) -> np.ndarray:
    """Gaussian mean of 2 √-Λ s(k) v(q)* for constant forces δf(0), at k = 0.

    The shape is (..., 3n, 3n, 3n), the last axis that of v. Forces are (..., 3n) on the modes of Γ.

    Parameters
    ----------
    normal : NormalCoordinates
    space : PairSpace
    star : Star
    forces : ndarray, shape (..., 3n)
        δf(0) on the modes of Γ, amu^-1/2 eV/Å.

    Returns
    -------
    ndarray, shape (..., 3n, 3n, 3n)
    """
    precision, unit = 1 / normal.variances[space.q], np.eye(forces.shape[-1])
    result = np.einsum("...x,y,yz->...xyz", forces, precision, unit)
    if space.q == 0:
        result = result + result.swapaxes(-3, -2)
    return result * space.weights(star)[0][..., None]


def third_order_blocks(
    arms: Arms, space: PairSpace, bases: list[PairBasis], blocks: list[slice]
) -> list[np.ndarray]:
    """t = √-Λ Φ³ M^-1/2 from each block of the ensemble, (blocks, size, columns) for each basis.

    eV^1/2 Å⁻¹ amu^-1/2, each block weighted with its share so that the sum over blocks is the average.

    Parameters
    ----------
    arms : Arms
        The ensemble turned to each arm of the star of q.
    space : PairSpace
    bases : list of PairBasis
    blocks : list of slice
        Of the configurations.

    Returns
    -------
    list of ndarray, shape (blocks, size, columns)
        eV^1/2 Å⁻¹ amu^-1/2.
    """
    q, size = space.q, arms.normal.scaled.shape[2]
    vectors = space.symmetry.modes.vectors[q]
    columns = [np.einsum("xy,cxd->cyd", vectors.conj(), displacement_columns(basis)) for basis in bases]
    found = [np.zeros((len(blocks), basis.size, len(u))) for basis, u in zip(bases, columns, strict=True)]
    raws = [
        np.zeros((len(blocks), len(star.members), size * size, size), dtype=complex) for star in space.stars
    ]
    step = max(1, int(CHUNK_BYTES / (6 * 16 * size**2)))
    for normal in arms:
        for raw, star in zip(raws, space.stars, strict=True):
            _add_third(raw, normal, space, star, blocks, step)
    for number, (raw, star) in enumerate(zip(raws, space.stars, strict=True)):
        third_of = raw.reshape(len(blocks), len(star.members), size, size, size)
        for basis, u, result in zip(bases, columns, found, strict=True):
            tensors = basis.tensors[number].conj() * star.copies[:, None, None, None, None]
            third = np.einsum("pxydj,bpxyz,czd->bjc", tensors, third_of, u, optimize=True).real
            result[:, basis.slices[number]] = -third / (3 * basis.multiplet.dimension * len(arms))
    return found


def _add_third(
    raw: np.ndarray,
    normal: NormalCoordinates,
    space: PairSpace,
    star: Star,
    blocks: list[slice],
    step: int,
) -> None:
    """Adds ⟨v v δf⟩ at the members of a star, of each block, (blocks, p, (3n)², 3n)."""
    q, size = space.q, normal.scaled.shape[2]
    for block, bounds in enumerate(blocks):
        for start in range(bounds.start, bounds.stop, step):
            chosen = slice(start, min(start + step, bounds.stop))
            share = normal.weights[chosen, None]
            f, v = share * normal.even[q, chosen].conj(), share * normal.scaled[q, chosen].conj()
            for place, (a, s) in pairs_of(normal, space, star, chosen, [normal.even]):
                raw[block, place] += a.reshape(len(a), -1).T @ f
                raw[block, place] += 2 * (s.reshape(len(s), -1).T @ v)
        # (v v - Υ) δf: constant forces have no third derivative
        force = normal.weights[bounds] @ normal.even[0, bounds]
        if star.members[0] == 0:
            raw[block, 0] -= mean_force_pairs(normal, space, star, force).reshape(size * size, size)
        if q == 0:
            means = mean_pairs(normal, space, star)[..., None] * force.conj()
            raw[block] -= means.reshape(raw[block].shape)


def project(
    arms: Arms,
    space: PairSpace,
    dimensions: list[int],
    maps: list[list[np.ndarray]],
    slices: list[list[slice]],
    also_even: bool = False,
) -> list[tuple[np.ndarray, ...]]:
    """Projections of √-Λ a and √-Λ s of each configuration on maps from displacements to pairs.

    Parameters
    ----------
    arms : Arms
        The ensemble turned to each arm of the star of q.
    space : PairSpace
    dimensions : list of int
        d of each multiplet.
    maps : list of list of ndarray, shape (p, 3n, 3n, d, m)
        For each multiplet and each star.
    slices : list of list of slice
        Where the m elements of each star go; those that share a place are added.
    also_even : bool
        Whether s of the part of the forces that opposites share is wanted too.

    Returns
    -------
    list of (squares, mixed) or (squares, mixed, mixed of the even forces), each (n, arms × rows, total)
        The rows of an arm are the d components of the multiplet, at q ≠ -q first the real then the imaginary
        parts.
    """
    (_, n, size), parts = arms.normal.scaled.shape, 1 if space.real else 2
    kinds = 3 if also_even else 2
    found = [
        np.zeros((kinds, n, len(arms) * parts * d, max(part.stop for part in places)))
        for d, places in zip(dimensions, slices, strict=True)
    ]
    projectors = [
        [
            _projector(tensor, star.copies, space.real)
            for tensor, star in zip(tensors, space.stars, strict=True)
        ]
        for tensors in maps
    ]
    for arm, normal in enumerate(arms):
        forces = [normal.excess, normal.even][: kinds - 1]
        for number, star in enumerate(space.stars):
            step = max(1, int(CHUNK_BYTES / (3 * kinds * 16 * len(star.members) * size**2)))
            for start in range(0, n, step):
                chosen = slice(start, min(start + step, n))
                count = chosen.stop - start
                flat = np.empty((kinds, count, 2, len(star.members), size, size))
                for place, pairs in pairs_of(normal, space, star, chosen, forces):
                    for kind, values in enumerate(pairs):
                        flat[kind, :, 0, place], flat[kind, :, 1, place] = values.real, values.imag
                rows = flat.reshape(kinds * count, -1)
                for d, own, places, out in zip(dimensions, projectors, slices, found, strict=True):
                    if own[number].shape[1]:
                        values = (rows @ own[number]).reshape(kinds, count, parts * d, -1)
                        row = slice(arm * parts * d, (arm + 1) * parts * d)
                        out[:, chosen, row, places[number]] += values
    return [tuple(out) for out in found]


def _projector(tensors: np.ndarray, copies: np.ndarray, real: bool) -> np.ndarray:
    """Real matrix from (real, imaginary) pairs to the components of each basis element."""
    rows, columns = int(np.prod(tensors.shape[:3])), int(np.prod(tensors.shape[3:]))
    weighted = (tensors * copies[:, None, None, None, None]).reshape(rows, columns)
    first = np.concatenate([weighted.real, weighted.imag])
    if real:
        return first
    return np.concatenate([first, np.concatenate([-weighted.imag, weighted.real])], axis=1)


def displacement_columns(basis: PairBasis) -> np.ndarray:
    """Mass-reduced displacements of each column, copies × commutant, (columns, 3n, d)."""
    copies, commutant = basis.multiplet.copies, basis.multiplet.commutant
    return np.einsum("axd,rde->arxe", copies, commutant).reshape(-1, copies.shape[1], copies.shape[2])


def components(arms: Arms, space: PairSpace, basis: PairBasis) -> tuple[np.ndarray, np.ndarray]:
    """v(q) and δf(q) of each configuration on the columns of a multiplet, (n, arms × rows, columns).

    Parameters
    ----------
    arms : Arms
    space : PairSpace
    basis : PairBasis

    Returns
    -------
    v, f : ndarray, shape (n, arms × rows, columns)
        amu^-1/2 Å⁻¹ and amu^-1/2 eV/Å; forces that opposites share.
    """
    vectors, columns = space.symmetry.modes.vectors[space.q], displacement_columns(basis).conj()
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for normal in arms:
        for field, parts in zip((normal.scaled[space.q], normal.even[space.q]), found, strict=True):
            value = np.einsum("nx,cxd->ndc", field @ vectors.T, columns, optimize=True)
            parts.append(value.real if space.real else np.concatenate([value.real, value.imag], axis=1))
    return np.concatenate(found[0], axis=1), np.concatenate(found[1], axis=1)


@dataclass(frozen=True, eq=False)
class FourthOrder:
    """√-Λ Φ⁴ √-Λ on the pairs of one multiplet, as an average over configurations.

    Attributes
    ----------
    squares, mixed : ndarray, shape (n, rows, size)
        From :func:`project`.
    components : int
        Components averaged over: arms × d.
    """

    squares: np.ndarray
    mixed: np.ndarray
    components: int

    def apply(
        self, vectors: np.ndarray, weights: np.ndarray, parts: Sequence[slice] = (slice(None),)
    ) -> np.ndarray:
        """On the columns of (size, c), configurations weighted by `weights`; of some of them, if asked.

        Parameters
        ----------
        vectors : ndarray, shape (size, c)
        weights : ndarray, shape (n,)
            Of sum 1.
        parts : sequence of slice
            Of the configurations; all by default.

        Returns
        -------
        ndarray, shape (size, c)
        """
        return self.apply_to_each(vectors[None], weights, parts, [[0]] * len(parts))[0]

    def matrix(self, weights: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
        """The whole matrix (size, size) of what :meth:`apply` does.

        Parameters
        ----------
        weights : ndarray, shape (n,)
        parts : sequence of slice

        Returns
        -------
        ndarray, shape (size, size)
        """
        size = self.squares.shape[2]
        total = np.zeros((size, size))
        for part in parts:
            weighted = weights[part, None, None] * self.squares[part]
            total += self.mixed[part].reshape(-1, size).T @ weighted.reshape(-1, size)
        return -(total + total.T) / (2 * self.components)

    def apply_to_each(
        self, vectors: np.ndarray, weights: np.ndarray, parts: Sequence[slice], used: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """For several sets of vectors at once, each averaged over parts of its own.

        Configurations are read once, a few at a time that the processor's cache holds.

        Parameters
        ----------
        vectors : ndarray, shape (sets, size, c)
        weights : ndarray, shape (n,)
        parts : sequence of slice
            Of the configurations.
        used : sequence of sequence of int
            The sets that each part is for.

        Returns
        -------
        ndarray, shape (sets, size, c)
        """
        (n, rows, size), columns = self.squares.shape, vectors.shape[2]
        total = np.zeros_like(vectors)
        if not size:  # symmetry leaves no pairs to this multiplet
            return total
        step = max(1, int(CACHE_BYTES / (2 * 8 * rows * size)))
        for part, sets in zip(parts, used, strict=True):
            right = np.ascontiguousarray(vectors[sets].swapaxes(0, 1).reshape(size, len(sets) * columns))
            image = np.zeros_like(right)
            first, last, _ = part.indices(n)
            for start in range(first, last, step):
                chosen = slice(start, min(start + step, last))
                weight = np.repeat(weights[chosen], rows)[:, None]
                a, s = (values[chosen].reshape(-1, size) for values in (self.squares, self.mixed))
                image += s.T @ (weight * (a @ right))
                image += a.T @ (weight * (s @ right))
            total[sets] += image.reshape(size, len(sets), columns).swapaxes(0, 1)
        return -total / (2 * self.components)
