"""An ensemble on the normal coordinates of a Gaussian, turned by operations, opposites joined in one.

Of a configuration and its opposite, v and -v, the pairs v⊗v are the same: averages over both need only the
half of the configurations, with the part of the forces that is opposite too (beside an odd power of v) and
the part that is the same (beside an even one).  :func:`folded` joins them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from himlip_ase.sscha.curvature.little_group import GridModes, GridSymmetry, LittleOperation
from himlip_ase.sscha.curvature.two_phonon import occupation
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import SQRT_EV_PER_ANGSTROM2_AMU_EV

OPPOSITE = 1e-9
"""Two configurations are opposites if v + v′ is no larger than this share of the largest v."""


@dataclass(frozen=True, eq=False)
class NormalCoordinates:
    """An ensemble on normal coordinates.

    Attributes
    ----------
    scaled : ndarray, shape (nq, n, 3n)
        e† M^-1/2 v(k), amu^-1/2 Å⁻¹.
    excess : ndarray, shape (nq, n, 3n)
        e† M^-1/2 δf(k), amu^-1/2 eV/Å; where opposites are joined, half the difference of theirs.
    even : ndarray, shape (nq, n, 3n)
        The same; where opposites are joined, half the sum of theirs.
    weights : ndarray, shape (n,)
        Weight of each configuration, of sum 1.
    variances : ndarray, shape (nq, 3n)
        Mean square of e† M^1/2 u, amu Å²; infinite for translations.
    """

    scaled: np.ndarray
    excess: np.ndarray
    even: np.ndarray
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
    return NormalCoordinates(scaled, excess, excess, share, variances)


def folded(normal: NormalCoordinates) -> NormalCoordinates:
    """The ensemble with each configuration and its opposite joined, if all of them come so: 2k and 2k + 1.

    Parameters
    ----------
    normal : NormalCoordinates
        As :func:`ensemble_coordinates` gives it.

    Returns
    -------
    NormalCoordinates
        Of half the configurations; `normal` itself where they are not in pairs of opposites.
    """
    if len(normal.weights) % 2:
        return normal
    one, other = normal.scaled[:, 0::2], normal.scaled[:, 1::2]
    if np.abs(one + other).max() > OPPOSITE * np.abs(one).max():
        return normal
    weights = normal.weights[0::2] + normal.weights[1::2]
    share = normal.weights / np.repeat(np.where(weights > 0, weights, 1.0), 2)
    up, down = (share[start::2, None] * normal.excess[:, start::2] for start in (0, 1))
    return NormalCoordinates(np.ascontiguousarray(one), up - down, up + down, weights, normal.variances)


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


class Arms(Sequence[NormalCoordinates]):
    """The ensemble after the inverse of each operation, made when it is asked for.

    Parameters
    ----------
    normal : NormalCoordinates
    symmetry : GridSymmetry
    operations : list of LittleOperation
        That lead to the arms of the star of a q, see :meth:`GridSymmetry.arms`.
    """

    def __init__(
        self, normal: NormalCoordinates, symmetry: GridSymmetry, operations: list[LittleOperation]
    ) -> None:
        self.normal, self.symmetry, self.operations = normal, symmetry, operations

    def __len__(self) -> int:
        return len(self.operations)

    @overload
    def __getitem__(self, number: int) -> NormalCoordinates: ...
    @overload
    def __getitem__(self, number: slice) -> Arms: ...
    def __getitem__(self, number: int | slice) -> NormalCoordinates | Arms:
        if isinstance(number, slice):
            return Arms(self.normal, self.symmetry, self.operations[number])
        return turned(self.normal, self.symmetry, self.operations[number])

    def __iter__(self) -> Iterator[NormalCoordinates]:
        return (turned(self.normal, self.symmetry, operation) for operation in self.operations)


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
    turns = [
        (symmetry.image(operation, k), symmetry.on_modes(operation, k).conj())
        for k in range(len(normal.scaled))
    ]

    def turn(values: np.ndarray) -> np.ndarray:
        return np.stack([values[image] @ matrix for image, matrix in turns])

    excess = turn(normal.excess)
    even = excess if normal.even is normal.excess else turn(normal.even)
    return NormalCoordinates(turn(normal.scaled), excess, even, normal.weights, normal.variances)
