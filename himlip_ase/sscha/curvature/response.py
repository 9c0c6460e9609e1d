"""Static response of the auxiliary on one multiplet: the linear solve behind the Hessian, its sampling error.

The correction to the auxiliary is h = -tᵀ K⁻¹ t with K = 1 + √-Λ Φ⁴ √-Λ; K is applied as an ensemble average
and the solve is conjugate gradients.  Both t and K are averages over configurations, so that the first-order
change of h with the weight of a configuration needs no further solve: with x = K⁻¹t,

    dh = -(dtᵀ x + xᵀ dt - xᵀ dK x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from himlip_ase.errors import CalculationError
from himlip_ase.sscha.curvature.fourth_order import (
    FourthOrder,
    components,
    displacement_columns,
    mean_force_pairs,
    mean_pairs,
    project,
)
from himlip_ase.sscha.curvature.normal_coordinates import Arms, NormalCoordinates, group_mean
from himlip_ase.sscha.curvature.pair_space import PairBasis, PairSpace
from himlip_ase.sscha.symmetry import SpaceGroup

TOLERANCE = 1e-9
"""Relative residual of the linear solve."""

LOOSE = 1e-5
"""The same where the solution is only compared with that of the whole ensemble."""

MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Solve:
    """Solution of K x = t.

    Attributes
    ----------
    vectors : ndarray, shape (size, columns)
    iterations : int
        Applications of Φ⁴.
    residual : float
        Largest |t - K x|/|t|.
    positive : bool
        False if a direction of negative curvature of K was met: the auxiliary is then no minimum of the free
        energy with respect to itself, or the ensemble is too small for Φ⁴.
    """

    vectors: np.ndarray
    iterations: int
    residual: float
    positive: bool


Apply = Callable[[np.ndarray], np.ndarray]


def solve(
    fourth: FourthOrder, right: np.ndarray, weights: np.ndarray, parts: Sequence[slice] = (slice(None),)
) -> Solve:
    """(1 + √-Λ Φ⁴ √-Λ)⁻¹ on all columns of `right` at once, by conjugate gradients.

    Where the matrix is not positive, it is written down and solved as it is.

    Parameters
    ----------
    fourth : FourthOrder
    right : ndarray, shape (size, columns)
    weights : ndarray, shape (n,)
        Of sum 1.
    parts : sequence of slice
        Of the configurations.

    Returns
    -------
    Solve

    Raises
    ------
    CalculationError
        No convergence.
    """
    apply = partial(fourth.apply, weights=weights, parts=parts)
    x, iterations, negative = conjugate_gradients(apply, right, None, TOLERANCE)
    if negative:
        x = np.linalg.solve(np.eye(len(right)) + fourth.matrix(weights, parts), right)
    norms = np.maximum(np.linalg.norm(right, axis=0), np.finfo(float).tiny)
    worst = float((np.linalg.norm(right - x - apply(x), axis=0) / norms).max(initial=0.0))
    if worst > 1e3 * TOLERANCE:
        raise CalculationError(
            f"the four-phonon response did not converge in {iterations} steps (residual {worst:.1e}); use "
            "more configurations, or the third order alone"
        )
    return Solve(x, iterations + 1, worst, not negative)


def conjugate_gradients(
    fourth: Apply, right: np.ndarray, start: np.ndarray | None, tolerance: float
) -> tuple[np.ndarray, int, np.ndarray]:
    """The same on matrices (..., size, columns), each with a K of its own.

    Parameters
    ----------
    fourth : callable
        Applies √-Λ Φ⁴ √-Λ to all columns.
    right : ndarray, shape (..., size, columns)
    start : ndarray of the same shape, or None
    tolerance : float
        Of the relative residual.

    Returns
    -------
    vectors : ndarray, shape (..., size, columns)
    iterations : int
        Applications of Φ⁴.
    negative : ndarray of bool, shape (...)
        Whether a K was met with a direction of negative curvature: its vectors are no solution.
    """
    tiny = np.finfo(float).tiny
    limit = tolerance * np.maximum(np.linalg.norm(right, axis=-2, keepdims=True), tiny)
    x = np.zeros_like(right) if start is None else start.copy()
    residual = right.copy() if start is None else right - x - fourth(x)
    direction, squares = residual.copy(), (residual**2).sum(axis=-2, keepdims=True)
    negative = np.zeros(right.shape[:-2], dtype=bool)
    iterations = int(start is not None)
    while (active := (np.sqrt(squares) > limit) & ~negative[..., None, None]).any():
        if iterations == MAX_ITERATIONS:
            break
        image = direction + fourth(direction)
        iterations += 1
        curvature = (direction * image).sum(axis=-2, keepdims=True)
        negative |= (active & (curvature <= 0)).any(axis=(-2, -1))
        active &= ~negative[..., None, None]
        step = np.where(active, squares / np.where(active, curvature, 1.0), 0.0)
        x += step * direction
        residual -= step * image
        new = (residual**2).sum(axis=-2, keepdims=True)
        direction = residual + new / np.maximum(squares, tiny) * direction
        squares = new
    return x, iterations, negative


@dataclass(frozen=True, eq=False)
class Response:
    """Correction of one multiplet and what its sampling error needs.

    Attributes
    ----------
    basis : PairBasis
    third : ndarray, shape (size, columns)
        t.
    solution : Solve
        x = K⁻¹t; t itself without the fourth order.
    fourth : bool
        Whether the fourth order is in.
    """

    basis: PairBasis
    third: np.ndarray
    solution: Solve
    fourth: bool

    @property
    def sources(self) -> slice:
        """Columns of the copies, without the rest of the commutant."""
        return slice(None, None, len(self.basis.multiplet.commutant))

    def coefficients(self) -> np.ndarray:
        """h, shape (columns, copies), eV/Å²/amu."""
        return -self.third.T @ self.solution.vectors[:, self.sources]

    def matrix(self, coefficients: np.ndarray) -> np.ndarray:
        """Mass-reduced (..., 3n, 3n) of coefficients (..., columns, copies)."""
        multiplet = self.basis.multiplet
        shape = (*coefficients.shape[:-2], len(multiplet.copies), len(multiplet.commutant), -1)
        return np.einsum(
            "axd,rde,...arb,bye->...xy",
            multiplet.copies,
            multiplet.commutant,
            coefficients.reshape(shape),
            multiplet.copies.conj(),
            optimize=True,
        )


def respond(
    basis: PairBasis, blocks: np.ndarray, fourth: FourthOrder | None, weights: np.ndarray
) -> Response:
    """Solve for the response of one multiplet.

    Parameters
    ----------
    basis : PairBasis
    blocks : ndarray, shape (blocks, size, columns)
        From :func:`~himlip_ase.sscha.curvature.fourth_order.third_order_blocks`.
    fourth : FourthOrder or None
        None leaves the fourth order out.
    weights : ndarray, shape (n,)
        Of sum 1.

    Returns
    -------
    Response
    """
    third = blocks.sum(axis=0)
    if fourth is None:
        return Response(basis, third, Solve(third, 0, 0.0, True), fourth=False)
    return Response(basis, third, solve(fourth, third, weights), fourth=True)


def bias(
    response: Response,
    blocks: np.ndarray,
    fourth: FourthOrder | None,
    weights: np.ndarray,
    parts: list[slice],
    halvings: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Bias of h, which is quadratic in noisy averages: halving the ensemble adds as much again.

    Parameters
    ----------
    response : Response
    blocks, fourth
        What it was made from.
    weights : ndarray, shape (n,)
    parts : list of slice
        The configurations of each block.
    halvings : int
        Random ways to halve the blocks.
    generator : Generator

    Returns
    -------
    ndarray, shape (columns, copies)
        Zero if there are fewer than two blocks.
    """
    whole = response.coefficients()
    if len(parts) < 2:
        return np.zeros_like(whole)
    halves = [half for _ in range(halvings) for half in np.array_split(generator.permutation(len(parts)), 2)]
    shares = np.array([sum(weights[parts[block]].sum() for block in half) for half in halves])
    thirds = np.array([blocks[half].sum(axis=0) for half in halves]) / shares[:, None, None]
    solved = thirds[..., response.sources]
    if fourth is not None:
        solved = _halved(
            fourth, solved, response.solution.vectors[:, response.sources], weights, parts, halves
        )
    found = -thirds.swapaxes(1, 2) @ solved
    return (found - whole).sum(axis=0) / (2 * halvings)


def _halved(
    fourth: FourthOrder,
    right: np.ndarray,
    start: np.ndarray,
    weights: np.ndarray,
    parts: list[slice],
    halves: list[np.ndarray],
) -> np.ndarray:
    """K⁻¹ of each half of the ensemble on its own right sides, (halves, size, columns).

    All halves go together, so that the ensemble is read once for all of them.
    """
    used = [[number for number, half in enumerate(halves) if block in half] for block in range(len(parts))]
    shares = np.array([sum(weights[parts[block]].sum() for block in half) for half in halves])

    def apply(vectors: np.ndarray) -> np.ndarray:
        return fourth.apply_to_each(vectors, weights, parts, used) / shares[:, None, None]

    x, _, negative = conjugate_gradients(apply, right, np.broadcast_to(start, right.shape), LOOSE)
    for number in np.flatnonzero(negative):
        chosen = [parts[block] for block in halves[number]]
        matrix = fourth.matrix(weights / shares[number], chosen)
        x[number] = np.linalg.solve(np.eye(len(matrix)) + matrix, right[number])
    return x


def influences(
    responses: list[Response], arms: Arms, space: PairSpace, group: SpaceGroup | None
) -> list[np.ndarray]:
    """First-order change of h of each multiplet by each configuration.

    Weights are included; the shape is (n, columns, copies).

    Parameters
    ----------
    responses : list of Response
        Of all multiplets of one q.
    arms, space
        What they were made from.
    group : SpaceGroup or None
        That symmetrised the linear response taken out of the forces; None if none was.

    Returns
    -------
    list of ndarray, shape (n, columns, copies)
        One for each multiplet.
    """
    maps = [
        [t @ r.solution.vectors[part] for t, part in zip(r.basis.tensors, r.basis.slices, strict=True)]
        for r in responses
    ]
    dimensions = [r.basis.multiplet.dimension for r in responses]
    slices = [[slice(0, r.third.shape[1])] * len(space.stars) for r in responses]
    normal, found = arms.normal, []
    projected = project(arms, space, dimensions, maps, slices, also_even=normal.even is not normal.excess)
    for response, (a, s, *of_even) in zip(responses, projected, strict=True):
        v, f = components(arms, space, response.basis)
        even = of_even[0] if of_even else s
        count = response.basis.multiplet.dimension * len(arms)
        change = np.einsum("nrb,nra->nba", f, a) + 2 * np.einsum("nrb,nra->nba", v, even)
        change -= _through_mean_force(response, arms, space)
        change = (change + change.swapaxes(1, 2)) / (3 * count)
        if response.fourth:
            quadratic = np.einsum("nrb,nra->nba", s, a)
            change -= (quadratic + quadratic.swapaxes(1, 2)) / (2 * count)
            if group is not None:
                change += _through_linear_response(response, normal, space, group)
        change -= np.tensordot(normal.weights, change, 1)
        found.append(normal.weights[:, None, None] * change[:, :, response.sources])
    return found


def _through_mean_force(response: Response, arms: Arms, space: PairSpace) -> np.ndarray:
    """The part of each configuration's 3d·arms xᵀt that a constant force gives, (n, columns, columns)."""
    basis, vectors = response.basis, space.symmetry.modes.vectors[space.q]
    columns = np.einsum("xy,cxd->cyd", vectors.conj(), displacement_columns(basis))
    unit = np.eye(vectors.shape[1])
    # coefficients of δf(0) and of its conjugate
    linear, conjugate = (np.zeros((len(unit), len(columns), len(columns)), dtype=complex) for _ in range(2))
    for star, tensor, part in zip(space.stars, basis.tensors, basis.slices, strict=True):
        fields = (tensor @ response.solution.vectors[part]).conj() * star.copies[:, None, None, None, None]
        if star.members[0] == 0:
            pairs = mean_force_pairs(arms.normal, space, star, unit)
            linear += np.einsum("xyda,fxyz,bzd->fba", fields[0], pairs, columns, optimize=True)
        if space.q == 0:
            means = np.einsum("pxyda,pxy->da", fields, mean_pairs(arms.normal, space, star), optimize=True)
            conjugate += np.einsum("bfd,da->fba", columns, means)
    forces = [normal.even[0] for normal in arms]
    return sum((np.tensordot(f, linear, 1) + np.tensordot(f.conj(), conjugate, 1)).real for f in forces)  # type: ignore[return-value]


def _through_linear_response(
    response: Response, normal: NormalCoordinates, space: PairSpace, group: SpaceGroup
) -> np.ndarray:
    """Change of xᵀ √-Λ Φ⁴ √-Λ x through what each configuration adds to the linear response taken out of δf.

    For δf = L u in Gaussian averages it is -Re Σ_k tr[L(k) Y(k)]/d with a density Y quadratic in x;
    configuration I adds -(δf v† + v δf†)/2 to L.  Shape (n, columns, columns).
    """
    modes, columns = space.symmetry.modes, response.third.shape[1]
    densities = _densities(response, normal, space)
    result = np.empty((len(normal.weights), columns, columns))
    for b in range(columns):
        for a in range(b, columns):
            both = (densities[b, a] + densities[a, b]) / 2
            both = group_mean(modes, group, (both + both.conj().swapaxes(1, 2)) / 2, mass_power=-0.5)
            values = np.einsum("knx,knx->n", normal.excess.conj(), normal.scaled @ both.swapaxes(1, 2))
            result[:, b, a] = result[:, a, b] = values.real
    return result / response.basis.multiplet.dimension


def _densities(response: Response, normal: NormalCoordinates, space: PairSpace) -> np.ndarray:
    """Y(k), before the mean over the group, for each pair of columns: (columns, columns, nq, 3n, 3n)."""
    modes, basis = space.symmetry.modes, response.basis
    precision, columns = 1 / normal.variances, response.third.shape[1]
    densities = np.zeros((columns, columns, *modes.vectors.shape), dtype=complex)
    traces = np.zeros((basis.multiplet.dimension, columns), dtype=complex)
    contracted = []
    for star, tensor, part in zip(space.stars, basis.tensors, basis.slices, strict=True):
        fields = tensor @ response.solution.vectors[part] * space.weights(star)[..., None, None]
        for k, copies, field in zip(star.members, star.copies, fields, strict=True):
            other = space.partner[k]
            sides = (
                [(k, other, field)] if k == other else [(k, other, field), (other, k, field.swapaxes(0, 1))]
            )
            for here, there, x in sides:
                share = copies / len(sides)
                weighted = x * precision[there][None, :, None, None]
                densities[:, :, here] += (
                    2 * share * np.einsum("xydb,zyda->baxz", weighted, x.conj(), optimize=True)
                )
                if space.q == 0:
                    x = np.einsum("xydc,yz->xzdc", x, modes.vectors[there].T @ modes.vectors[here])
                    traces += share * np.einsum("xxdc,x->dc", x.conj(), precision[here])
                    contracted.append((here, share * x))
    for here, x in contracted:
        densities[:, :, here] += np.einsum("db,xyda->baxy", traces, x)
    return densities
