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

from himlip_ase.sscha.curvature.little_group import GridModes, GridSymmetry, LittleOperation
from himlip_ase.sscha.curvature.pair_space import PairBasis, PairSpace, Star
from himlip_ase.sscha.curvature.two_phonon import occupation
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_EV

CHUNK_BYTES = 64e6
"""Memory for the pairs of a part of the ensemble."""


@dataclass(frozen=True, eq=False)
class NormalCoordinates:
    """An ensemble on normal coordinates.

    Attributes
    ----------
    scaled : ndarray, shape (nq, n, 3n)
        e† M^-1/2 v(k), amu^-1/2 Å⁻¹.
    excess : ndarray, shape (nq, n, 3n)
        e† M^-1/2 δf(k), amu^-1/2 eV/Å.
    weights : ndarray, shape (n,)
        Weight of each configuration, of sum 1.
    variances : ndarray, shape (nq, 3n)
        Mean square of e† M^1/2 u, amu Å²; infinite for translations.
    """

    scaled: np.ndarray
    excess: np.ndarray
    weights: np.ndarray
    variances: np.ndarray


def ensemble_coordinates(
    target: HarmonicDistribution,
    modes: GridModes,
    ensemble: Ensemble,
    group: SpaceGroup | None,
    weights: np.ndarray | None = None,
) -> NormalCoordinates:
    """Normal coordinates of an ensemble, counted from the centroids of a Gaussian.

    Parameters
    ----------
    target : HarmonicDistribution
        The Gaussian over which averages are taken.
    modes : GridModes
        Its modes.
    ensemble : Ensemble
        Drawn from `target`, or reweighted to it.
    group : SpaceGroup or None
        Symmetrises the linear response of the ensemble, which is taken out of the forces; None leaves them.
    weights : ndarray, shape (n,), optional
        Of the configurations, such as those of a quadrature; by default the importance weights of the
        ensemble for `target`.

    Returns
    -------
    NormalCoordinates
    """
    ensemble.check_grid_of(target)
    weights = ensemble.weights(target) if weights is None else weights
    share = weights / weights.sum()
    moving = np.isfinite(modes.energies)
    energies = np.where(moving, modes.energies, 1.0)
    squares = np.where(moving, (energies / SQRT_EV_PER_ANGSTROM2_AMU_EV) ** 2, 0.0)
    mean_square = SQRT_EV_PER_ANGSTROM2_AMU_EV**2 / (2 * energies)
    variances = np.where(moving, mean_square * (1 + 2 * occupation(energies, modes.temperature_k)), np.inf)
    fourier = ensemble.fourier
    displacements = fourier.displacements_from(target.dynamical.primitive.positions)
    moved = modes.normal_coordinates(fourier.grid.whole(displacements), mass_power=0.5)
    pushed = modes.normal_coordinates(fourier.grid.whole(fourier.forces), mass_power=-0.5)
    excess = pushed + squares[:, None] * moved
    scaled = moved / variances[:, None]
    if group is not None:
        excess += moved @ linear_response(modes, group, scaled, excess, share).swapaxes(1, 2)
    return NormalCoordinates(scaled, excess, share, variances)


def linear_response(
    modes: GridModes, group: SpaceGroup, scaled: np.ndarray, excess: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Symmetrised -⟨δf v†⟩ on normal coordinates, (nq, 3n, 3n): what the ensemble would add to Φ.

    Parameters
    ----------
    modes : GridModes
    group : SpaceGroup
    scaled, excess : ndarray, shape (nq, n, 3n)
        See :class:`NormalCoordinates`.
    share : ndarray, shape (n,)
        Weights of sum 1.

    Returns
    -------
    ndarray, shape (nq, 3n, 3n)
        eV/Å²/amu.
    """
    correlation = excess.swapaxes(1, 2) @ (scaled.conj() * share[:, None])
    return group_mean(modes, group, -(correlation + correlation.conj().swapaxes(1, 2)) / 2, mass_power=0.5)


def group_mean(modes: GridModes, group: SpaceGroup, blocks: np.ndarray, mass_power: float) -> np.ndarray:
    """Mean over the space group of Hermitian blocks on normal coordinates, (nq, 3n, 3n).

    The Cartesian matrices are M^p e B e† M^p: the power p is 1/2 for force constants, and -1/2 for a density
    that is contracted with force constants.

    Parameters
    ----------
    modes : GridModes
    group : SpaceGroup
    blocks : ndarray, shape (nq, 3n, 3n)
        Hermitian, on normal coordinates.
    mass_power : float
        p.

    Returns
    -------
    ndarray, shape (nq, 3n, 3n)
    """
    scale = np.outer(modes.inverse_roots, modes.inverse_roots) ** (-2 * mass_power)
    adjoint = modes.vectors.conj().swapaxes(1, 2)
    cartesian = modes.vectors @ blocks @ adjoint * scale
    symmetric = np.empty_like(cartesian)
    symmetric[group.order] = group.matrices(cartesian[group.order])
    return adjoint @ (symmetric / scale) @ modes.vectors


def turned(
    normal: NormalCoordinates, symmetry: GridSymmetry, operation: LittleOperation
) -> NormalCoordinates:
    """The ensemble after the inverse of an operation.

    Parameters
    ----------
    normal : NormalCoordinates
    symmetry : GridSymmetry
    operation : LittleOperation

    Returns
    -------
    NormalCoordinates
    """
    scaled, excess = np.empty_like(normal.scaled), np.empty_like(normal.excess)
    for k in range(len(scaled)):
        image, matrix = symmetry.image(operation, k), symmetry.on_modes(operation, k).conj()
        scaled[k], excess[k] = normal.scaled[image] @ matrix, normal.excess[image] @ matrix
    return NormalCoordinates(scaled, excess, normal.weights, normal.variances)


def pairs_of(
    normal: NormalCoordinates, space: PairSpace, star: Star, chosen: slice
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """√-Λ a(k) and √-Λ s(k) of some configurations at each member of a star, (n, 3n, 3n).

    Parameters
    ----------
    normal : NormalCoordinates
    space : PairSpace
    star : Star
    chosen : slice
        Of the configurations.

    Returns
    -------
    iterator of (int, ndarray, ndarray)
        Place in the star, √-Λ a and √-Λ s, each (n, 3n, 3n).
    """
    weights = space.weights(star)
    for place, k in enumerate(star.members):
        other = space.partner[k]
        v, w = normal.scaled[k, chosen, :, None], normal.scaled[other, chosen, None, :]
        f, g = normal.excess[k, chosen, :, None], normal.excess[other, chosen, None, :]
        yield place, v * w * weights[place], (v * g + f * w) * (weights[place] / 2)


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
    arms: list[NormalCoordinates], space: PairSpace, bases: list[PairBasis], blocks: list[slice]
) -> list[np.ndarray]:
    """t = √-Λ Φ³ M^-1/2 from each block of the ensemble, (blocks, size, columns) for each basis.

    eV^1/2 Å⁻¹ amu^-1/2, each block weighted with its share so that the sum over blocks is the average.

    Parameters
    ----------
    arms : list of NormalCoordinates
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
    q, size = space.q, arms[0].scaled.shape[2]
    vectors = space.symmetry.modes.vectors[q]
    columns = [np.einsum("xy,cxd->cyd", vectors.conj(), displacement_columns(basis)) for basis in bases]
    found = [np.zeros((len(blocks), basis.size, len(u))) for basis, u in zip(bases, columns, strict=True)]
    for number, star in enumerate(space.stars):
        raw = np.zeros((len(blocks), len(star.members), size * size, size), dtype=complex)
        step = max(1, int(CHUNK_BYTES / (6 * 16 * size**2)))
        for normal in arms:
            for block, bounds in enumerate(blocks):
                for start in range(bounds.start, bounds.stop, step):
                    chosen = slice(start, min(start + step, bounds.stop))
                    share = normal.weights[chosen, None]
                    f, v = share * normal.excess[q, chosen].conj(), share * normal.scaled[q, chosen].conj()
                    for place, a, s in pairs_of(normal, space, star, chosen):
                        raw[block, place] += a.reshape(len(a), -1).T @ f
                        raw[block, place] += 2 * (s.reshape(len(s), -1).T @ v)
        raw = raw.reshape(len(blocks), len(star.members), size, size, size)
        for normal in arms:  # (v v - Υ) δf: constant forces have no third derivative
            for block, bounds in enumerate(blocks):
                force = normal.weights[bounds] @ normal.excess[0, bounds]
                if star.members[0] == 0:
                    raw[block, 0] -= mean_force_pairs(normal, space, star, force)
                if q == 0:
                    raw[block] -= mean_pairs(normal, space, star)[..., None] * force.conj()
        for basis, u, result in zip(bases, columns, found, strict=True):
            tensors = basis.tensors[number].conj() * star.copies[:, None, None, None, None]
            third = np.einsum("pxydj,bpxyz,czd->bjc", tensors, raw, u, optimize=True).real
            result[:, basis.slices[number]] = -third / (3 * basis.multiplet.dimension * len(arms))
    return found


def project(
    arms: list[NormalCoordinates],
    space: PairSpace,
    dimensions: list[int],
    maps: list[list[np.ndarray]],
    slices: list[list[slice]],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Projections of √-Λ a and √-Λ s of each configuration on maps from displacements to pairs.

    Parameters
    ----------
    arms : list of NormalCoordinates
        The ensemble turned to each arm of the star of q.
    space : PairSpace
    dimensions : list of int
        d of each multiplet.
    maps : list of list of ndarray, shape (p, 3n, 3n, d, m)
        For each multiplet and each star.
    slices : list of list of slice
        Where the m elements of each star go; those that share a place are added.

    Returns
    -------
    list of (squares, mixed), each (n, arms × rows, total)
        The rows of an arm are the d components of the multiplet, at q ≠ -q first the real then the imaginary
        parts.
    """
    n, size, parts = len(arms[0].weights), arms[0].scaled.shape[2], 1 if space.real else 2
    totals = [max(part.stop for part in places) for places in slices]
    found = [
        (np.zeros((n, len(arms) * parts * d, total)), np.zeros((n, len(arms) * parts * d, total)))
        for d, total in zip(dimensions, totals, strict=True)
    ]
    for number, star in enumerate(space.stars):
        projectors = [_projector(tensors[number], star.copies, space.real) for tensors in maps]
        step = max(1, int(CHUNK_BYTES / (6 * 16 * len(star.members) * size**2)))
        for arm, normal in enumerate(arms):
            for start in range(0, n, step):
                chosen = slice(start, min(start + step, n))
                flat = np.empty((2, chosen.stop - start, 2, len(star.members), size, size))
                for place, *pair in pairs_of(normal, space, star, chosen):
                    for kind, values in enumerate(pair):
                        flat[kind, :, 0, place], flat[kind, :, 1, place] = values.real, values.imag
                rows = flat.reshape(2 * (chosen.stop - start), -1)
                for d, projector, places, out in zip(dimensions, projectors, slices, found, strict=True):
                    if projector.shape[1]:
                        values = (rows @ projector).reshape(2, chosen.stop - start, parts * d, -1)
                        own = slice(arm * parts * d, (arm + 1) * parts * d)
                        out[0][chosen, own, places[number]] += values[0]
                        out[1][chosen, own, places[number]] += values[1]
    return found


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


def components(
    arms: list[NormalCoordinates], space: PairSpace, basis: PairBasis
) -> tuple[np.ndarray, np.ndarray]:
    """v(q) and δf(q) of each configuration on the columns of a multiplet, (n, arms × rows, columns).

    Parameters
    ----------
    arms : list of NormalCoordinates
    space : PairSpace
    basis : PairBasis

    Returns
    -------
    v, f : ndarray, shape (n, arms × rows, columns)
        amu^-1/2 Å⁻¹ and amu^-1/2 eV/Å.
    """
    vectors, columns = space.symmetry.modes.vectors[space.q], displacement_columns(basis).conj()
    found = []
    for fields in ([w.scaled[space.q] for w in arms], [w.excess[space.q] for w in arms]):
        values = [np.einsum("nx,cxd->ndc", field @ vectors.T, columns, optimize=True) for field in fields]
        split = [v.real if space.real else np.concatenate([v.real, v.imag], axis=1) for v in values]
        found.append(np.concatenate(split, axis=1))
    return found[0], found[1]


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
        total = np.zeros_like(vectors)
        for part in parts:
            weight, a, s = weights[part, None, None], self.squares[part], self.mixed[part]
            total += _contract(s, weight * (a @ vectors)) + _contract(a, weight * (s @ vectors))
        return -total / (2 * self.components)


def _contract(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sum over configurations and rows, (size, columns)."""
    rows = first.shape[0] * first.shape[1]
    return first.reshape(rows, first.shape[2]).T @ second.reshape(rows, second.shape[2])
