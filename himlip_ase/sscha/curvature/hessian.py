"""Free-energy Hessian with the third- and the fourth-order SCHA force constants, and its error bars.

    ∂²F/∂R² = Φ + Φ³ Λ [1 - Φ⁴ Λ]⁻¹ Φ³

(Bianco et al., PRB 96, 014111 (2017), eq. 21).  It is block-diagonal in q: each irreducible q is solved on
its symmetry-adapted pairs (:mod:`himlip_ase.sscha.curvature.pair_space`), where Φ⁴ acts as an average over
the ensemble, and carried over its star.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.convergence.residual import Residual
from himlip_ase.sscha.curvature.fourth_order import FourthOrder, project, third_order_blocks
from himlip_ase.sscha.curvature.little_group import GridSymmetry, LittleOperation, grid_modes, multiplets
from himlip_ase.sscha.curvature.normal_coordinates import (
    Arms,
    NormalCoordinates,
    ensemble_coordinates,
    folded,
)
from himlip_ase.sscha.curvature.pair_space import PairBasis, PairSpace
from himlip_ase.sscha.curvature.response import Response, bias, influences, respond
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.units import signed_frequencies_cm

RESAMPLES = 200
"""Bootstrap samples of the error bars."""

STORED = 60
"""Of these, how many whole Hessians are stored, for what is computed from all their elements together."""

PROJECTIONS_BYTES = 5e8
"""Memory for the projections of multiplets that are worked on together; a larger one is alone."""

HALVINGS = 4
"""Ways to halve the ensemble at random, for the bias."""


@dataclass(frozen=True)
class HessianEstimate:
    """Free-energy Hessian, the standard error and the bias of its frequencies.

    Attributes
    ----------
    hessian : DynamicalMatrices
        From the whole ensemble, eV/Å².
    sigma_cm : ndarray, shape (nq, 3n)
        Standard error of each frequency, cm⁻¹.
    bias_cm : ndarray, shape (nq, 3n)
        Estimate of the bias left by the finite ensemble (the correction is quadratic in noisy third-order
        constants), cm⁻¹; not subtracted.
    fourth : bool
        Whether the fourth order is in.
    iterations : int
        Largest number of applications of Φ⁴ in a linear solve; 0 without the fourth order.
    residual : float
        Largest relative residual of a linear solve.
    positive : bool
        False if 1 - Φ⁴Λ was met with a negative direction: the auxiliary is then no minimum of the free
        energy (or the ensemble is too small), and the Hessian is not to be trusted.
    """

    hessian: DynamicalMatrices
    sigma_cm: np.ndarray
    bias_cm: np.ndarray
    fourth: bool = False
    iterations: int = 0
    residual: float = 0.0
    positive: bool = True
    changes: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _Point:
    """The responses of an irreducible q, and what they were made from."""

    space: PairSpace
    responses: list[Response]
    biases: list[np.ndarray]
    arms: Arms

    def correction(self) -> np.ndarray:
        """Mass-reduced correction to the auxiliary at q, (3n, 3n), eV/Å²/amu."""
        return np.sum([r.matrix(r.coefficients()) for r in self.responses], axis=0)


def free_energy_hessian(
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    group: SpaceGroup,
    fourth: bool = True,
    weights: np.ndarray | None = None,
    subtract_response: bool = True,
) -> DynamicalMatrices:
    """Free-energy Hessian without error bars.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary; symmetric under `group`.
    ensemble : Ensemble
        Drawn from it, or reweighted to it.
    group : SpaceGroup
        Of the auxiliary.
    fourth : bool
        Include Φ⁴.
    weights : ndarray, shape (n,), optional
        Of the configurations, such as those of a quadrature; by default the importance weights of `ensemble`
        for `distribution`.
    subtract_response : bool
        Take the ensemble's own linear response out of the forces, see
        :mod:`himlip_ase.sscha.curvature.fourth_order`.  python-sscha does not.

    Returns
    -------
    DynamicalMatrices
        eV/Å²; negative eigenvalues are instabilities.

    Raises
    ------
    CalculationError
        The auxiliary lacks the symmetry of `group`, or the linear solve did not converge.
    """
    symmetry = GridSymmetry(group, distribution.dynamical.primitive.cell.array, grid_modes(distribution))
    normal = folded(
        ensemble_coordinates(
            distribution, symmetry.modes, ensemble, group if subtract_response else None, weights
        )
    )
    blocks = [slice(0, len(normal.weights))]
    corrections, points = {}, []
    for q, star in irreducible(symmetry):
        point = _point(symmetry, q, normal, fourth, blocks, np.random.default_rng(0))
        corrections[q] = point.correction()
        points.append((q, star))
    return _plus(distribution.dynamical, _over_stars(distribution, symmetry, corrections, points))


def irreducible(symmetry: GridSymmetry) -> list[tuple[int, dict[int, LittleOperation]]]:
    """One q of each star, and the star: images with an operation that leads there."""
    found, seen = [], set[int]()
    for q in range(len(symmetry.modes.energies)):
        if q not in seen:
            star = symmetry.star(q)
            seen |= set(star)
            found.append((q, star))
    return found


def _point(
    symmetry: GridSymmetry,
    q: int,
    normal: NormalCoordinates,
    fourth: bool,
    blocks: list[slice],
    generator: np.random.Generator,
) -> _Point:
    """The responses of one q."""
    operations = symmetry.operations(q)
    space = PairSpace(symmetry, q, operations)
    bases = [space.basis(multiplet) for multiplet in multiplets(symmetry, q, operations)]
    arms = Arms(normal, symmetry, symmetry.arms(q))
    thirds = third_order_blocks(arms, space, bases, blocks)
    responses, biases = [], []
    for together in _groups(bases, arms, space) if fourth else [slice(None)]:
        orders = _fourth_orders(bases[together], arms, space) if fourth else [None] * len(bases)
        for basis, third in zip(bases[together], thirds[together], strict=True):
            order = orders.pop(0)  # the largest arrays: each goes when its multiplet is done
            responses.append(respond(basis, third, order, normal.weights))
            biases.append(bias(responses[-1], third, order, normal.weights, blocks, HALVINGS, generator))
    return _Point(space, responses, biases, arms)


def _groups(bases: list[PairBasis], arms: Arms, space: PairSpace) -> list[slice]:
    """Consecutive multiplets whose projections fit into `PROJECTIONS_BYTES` together."""
    starts, held = [0], 0.0
    for number, basis in enumerate(bases):
        rows = len(arms) * basis.multiplet.dimension * (1 if space.real else 2)
        size = 2.0 * 8 * len(arms.normal.weights) * rows * basis.size
        if held and held + size > PROJECTIONS_BYTES:
            starts, held = [*starts, number], 0.0
        held += size
    return [slice(a, b) for a, b in pairwise([*starts, len(bases)])]


def _fourth_orders(bases: list[PairBasis], arms: Arms, space: PairSpace) -> list[FourthOrder | None]:
    """Φ⁴ on the pairs of some multiplets, from one passage through the pairs of the ensemble."""
    dimensions = [basis.multiplet.dimension for basis in bases]
    tensors, slices = [basis.tensors for basis in bases], [basis.slices for basis in bases]
    projected = project(arms, space, dimensions, tensors, slices)
    return [FourthOrder(a, s, d * len(arms)) for d, (a, s) in zip(dimensions, projected, strict=True)]


def _over_stars(
    distribution: HarmonicDistribution,
    symmetry: GridSymmetry,
    changes: dict[int, np.ndarray],
    points: list[tuple[int, dict[int, LittleOperation]]],
) -> np.ndarray:
    """Changes of Φ on the grid (..., nq, 3n, 3n) from mass-reduced ones (..., 3n, 3n) at irreducible q."""
    shape = distribution.dynamical.matrices.shape
    blocks = np.empty((*changes[0].shape[:-2], *shape), dtype=complex)
    roots = 1 / symmetry.modes.inverse_roots
    for q, star in points:
        change = changes[q]
        change = (change + change.conj().swapaxes(-1, -2)) / 2 * np.outer(roots, roots)
        for image, operation in star.items():
            turn = symmetry.matrix(operation, q)
            source = change.conj() if operation.conjugates else change
            blocks[..., image, :, :] = turn @ source @ turn.conj().T
    return blocks[..., distribution.grid_order, :, :]


def _plus(dynamical: DynamicalMatrices, change: np.ndarray) -> DynamicalMatrices:
    return dynamical.with_matrices(dynamical.matrices + change)


def estimate_hessian(
    distribution: HarmonicDistribution,
    ensemble: Ensemble,
    in_sample: Residual | None,
    group: SpaceGroup,
    n_blocks: int = 10,
    on_progress: Callable[[int], None] | None = None,
    fourth: bool = False,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> HessianEstimate:
    """Hessian of an ensemble with the error of its frequencies.

    The error joins a bootstrap over pairs of configurations, to first order in their weights (which needs no
    further linear solve), with the noise of the auxiliary.

    Parameters
    ----------
    distribution : HarmonicDistribution
        The auxiliary; symmetric under `group`.
    ensemble : Ensemble
        Drawn from it, or reweighted to it; opposites adjacent.
    in_sample : Residual or None
        Of the auxiliary on the ensemble that it was minimised on; its blocks carry the auxiliary's own noise
        into the Hessian's error.  None for an auxiliary that is exact.
    group : SpaceGroup
        Of the auxiliary.
    n_blocks : int
        Blocks of the ensemble that are halved at random for the bias.
    on_progress : callable, optional
        Called with the number of irreducible q done.
    fourth : bool
        Include Φ⁴.
    seed : int
        Of the bootstrap.
    weights : ndarray, shape (n,), optional
        Of the configurations; by default the importance weights of `ensemble` for `distribution`.

    Returns
    -------
    HessianEstimate

    Raises
    ------
    CalculationError
        As :func:`free_energy_hessian`.
    """
    symmetry = GridSymmetry(group, distribution.dynamical.primitive.cell.array, grid_modes(distribution))
    normal = folded(ensemble_coordinates(distribution, symmetry.modes, ensemble, group, weights))
    step = 2 * len(normal.weights) // len(ensemble)  # rows of a pair: one where opposites are joined
    generator = np.random.default_rng(seed)
    pairs = (len(ensemble) + 1) // 2
    draws = generator.multinomial(pairs, np.full(pairs, 1 / pairs), size=RESAMPLES) - 1.0
    edges = step * (np.arange(n_blocks + 1) * pairs // n_blocks)
    blocks = [slice(int(a), int(b)) for a, b in pairwise(edges) if b > a]
    auxiliary_noise = _auxiliary_noise(symmetry, distribution, in_sample, generator)
    base = np.empty_like(distribution.dynamical.matrices)
    base[distribution.grid_order] = distribution.dynamical.matrices
    base = base * np.outer(symmetry.modes.inverse_roots, symmetry.modes.inverse_roots)
    sigma, offset = (np.zeros(base.shape[:2]) for _ in range(2))
    corrections: dict[int, np.ndarray] = {}
    resampled: dict[int, np.ndarray] = {}
    points = irreducible(symmetry)
    solves = []
    for number, (q, star) in enumerate(points, start=1):
        point = _point(symmetry, q, normal, fourth, blocks, generator)
        whole = corrections[q] = point.correction()
        samples = auxiliary_noise[:, q].copy()
        for response, each in zip(
            point.responses, influences(point.responses, point.arms, point.space, group), strict=True
        ):
            paired = np.add.reduceat(each, np.arange(0, len(normal.weights), step))
            samples += response.matrix(np.tensordot(draws, paired, 1))
        resampled[q] = samples[:STORED]
        spread = _frequencies(base[q] + whole + samples, q, symmetry)
        centre = _frequencies(base[q] + whole, q, symmetry)
        excess = np.sum([r.matrix(b) for r, b in zip(point.responses, point.biases, strict=True)], axis=0)
        images = list(star)
        sigma[images] = np.sqrt(((spread - centre) ** 2).mean(axis=0))
        offset[images] = centre - _frequencies(base[q] + whole - excess, q, symmetry)
        solves += [response.solution for response in point.responses]
        if on_progress is not None:
            on_progress(number)
    return HessianEstimate(
        _plus(distribution.dynamical, _over_stars(distribution, symmetry, corrections, points)),
        sigma[distribution.grid_order],
        offset[distribution.grid_order],
        fourth,
        max(s.iterations for s in solves),
        max(s.residual for s in solves),
        all(s.positive for s in solves),
        _over_stars(distribution, symmetry, resampled, points).astype(np.complex64),
    )


def _frequencies(matrices: np.ndarray, q: int, symmetry: GridSymmetry) -> np.ndarray:
    """Wavenumbers (cm⁻¹) of mass-reduced matrices (..., 3n, 3n), the translations exactly zero."""
    values = np.linalg.eigvalsh((matrices + matrices.conj().swapaxes(-1, -2)) / 2)
    frequencies = signed_frequencies_cm(values)
    if q == 0:
        small = np.argsort(np.abs(values), axis=-1)[..., :3]
        np.put_along_axis(frequencies, small, 0.0, axis=-1)
    return frequencies


def _auxiliary_noise(
    symmetry: GridSymmetry,
    distribution: HarmonicDistribution,
    in_sample: Residual | None,
    generator: np.random.Generator,
) -> np.ndarray:
    """Random mass-reduced changes of the auxiliary with the covariance of the in-sample blocks."""
    blocks = np.zeros((RESAMPLES, *distribution.dynamical.matrices.shape), dtype=complex)
    if in_sample is not None:
        count = len(in_sample.blocks)
        changes = (in_sample.blocks - in_sample.blocks.mean(axis=0)) / np.sqrt(count * (count - 1))
        blocks[:, distribution.grid_order] = np.tensordot(
            generator.standard_normal((RESAMPLES, count)), changes, 1
        )
    return blocks * np.outer(symmetry.modes.inverse_roots, symmetry.modes.inverse_roots)
