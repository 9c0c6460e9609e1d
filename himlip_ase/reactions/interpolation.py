"""Images between two structures, from geometry alone."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.mep import idpp_interpolate
from scipy.optimize import minimize

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.reactions.alignment import aligned
from himlip_ase.reactions.free_directions import held_atoms
from himlip_ase.registry import Registry

logger = logging.getLogger(__name__)

COLLISION = 0.55
"""Two atoms collide below this multiple of the sum of their covalent radii (H–H: 0.34, C–C: 0.84 Å)."""


def interpolate(reactant: Atoms, product: Atoms, n_images: int, method: str = "geodesic") -> list[Atoms]:
    """Images from one structure to another, both included.

    Parameters
    ----------
    reactant, product : Atoms
        In one frame (see `aligned`), atoms in the same order.
    n_images : int
        All images, at least 3.
    method : str
        A name of `INTERPOLATIONS`.

    Returns
    -------
    list of Atoms
        With the reactant's constraints, without calculators.

    Raises
    ------
    InputError
        An unknown method or too few images.
    CalculationError
        Images with colliding atoms that could not be mended.
    """
    interpolation = INTERPOLATIONS[method]
    if n_images < 3:
        raise InputError(f"a path needs at least 3 images, got {n_images}")
    images = _as_images(reactant, interpolation.positions(reactant, product, n_images))
    colliding = collisions(images)
    if colliding and method != "geodesic":
        logger.info("%s interpolation: %s; taking the geodesic instead", method, colliding[0])
        images = _as_images(reactant, geodesic(reactant, product, n_images))
        colliding = collisions(images)
    if colliding:
        raise CalculationError(
            f"atoms collide on the interpolated path ({colliding[0]}); turn or shift one of the two ends, or "
            "give images of your own"
        )
    return images


def collisions(images: Sequence[Atoms]) -> list[str]:
    """Pairs of atoms that are too close for a path, with their distances; ends are not looked at."""
    found = []
    for number, atoms in enumerate(images[1:-1], start=1):
        distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
        np.fill_diagonal(distances, np.inf)
        radii = covalent_radii[atoms.numbers]
        ratio = distances / (radii[:, None] + radii)
        i, j = np.unravel_index(ratio.argmin(), ratio.shape)
        if ratio[i, j] < COLLISION:
            symbols = atoms.get_chemical_symbols()
            found.append(f"image {number}: {symbols[i]}{i} and {symbols[j]}{j} at {distances[i, j]:.2f} Å")
    return found


def linear(reactant: Atoms, product: Atoms, n_images: int) -> np.ndarray:
    """Straight lines between the positions, (n_images, N, 3).

    Parameters
    ----------
    reactant, product : Atoms
    n_images : int
        Both ends included.

    Returns
    -------
    ndarray (n_images, N, 3)
        Å.
    """
    weights = np.linspace(0, 1, n_images)[:, None, None]
    return (1 - weights) * reactant.positions + weights * product.positions


def idpp(reactant: Atoms, product: Atoms, n_images: int) -> np.ndarray:
    """Image-dependent pair potential (Smidstrup, J. Chem. Phys. 140, 214106 (2014)), by ASE.

    Parameters
    ----------
    reactant, product : Atoms
    n_images : int
        Both ends included.

    Returns
    -------
    ndarray (n_images, N, 3)
        Å.
    """
    straight = linear(reactant, product, n_images)
    images = _as_images(reactant, straight + _nudge(straight))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a method of bands that has no say here
        idpp_interpolate(images, traj=None, log=None, fmax=0.1, steps=200, mic=bool(reactant.pbc.any()))
    return np.array([image.positions for image in images])


def unsprung(reactant: Atoms, product: Atoms, n_images: int) -> np.ndarray:
    """Minima of the image-dependent pair potential, each image by itself: a start for the geodesic.

    Σ (d − d_k)²/d⁴ of all pairs of image k, d_k between the distances at both ends, from the straight line.
    Without the springs of `idpp` images are not evenly spaced, which the geodesic mends; it takes a fraction
    of the time.

    Parameters
    ----------
    reactant, product : Atoms
    n_images : int
        Both ends included.

    Returns
    -------
    ndarray (n_images, N, 3)
        Å.
    """
    pairs = _ScaledDistances(reactant)
    path = linear(reactant, product, n_images)
    path = path + _nudge(path)
    weights = np.linspace(0, 1, n_images)[1:-1, None]
    ends = pairs.vectors(path[[0, -1]])[1]
    targets = (1 - weights) * ends[0] + weights * ends[1]
    shape = path[1:-1].shape

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        units, lengths = pairs.vectors(flat.reshape(shape))
        miss = lengths - targets
        slope = 2 * miss / lengths**4 - 4 * miss**2 / lengths**5
        gradient = pairs.incidence @ (slope[:, :, None] * units)
        gradient[:, pairs.held] = 0
        return float((miss**2 / lengths**4).sum()), gradient.ravel()

    found = minimize(energy, path[1:-1].ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    path[1:-1] = found.x.reshape(shape)
    return path


def geodesic(reactant: Atoms, product: Atoms, n_images: int) -> np.ndarray:
    """Shortest path in the space of scaled distances q = exp[−α(r − r₀)/r₀] + β r₀/r of all pairs.

    The metric of Zhu, Thompson and Martínez (J. Chem. Phys. 150, 164103 (2019), α = 1.7, β = 0.01, r₀ the sum
    of the covalent radii): stretching a bond costs more than the same motion of distant atoms, and atoms
    that touch infinitely much. The energy Σ|Δq|² of a curve with midpoints is minimised by L-BFGS, from the
    straight line and from the pair potential's path; its minimum is the shortest curve, evenly divided.

    Parameters
    ----------
    reactant, product : Atoms
    n_images : int
        Both ends included.

    Returns
    -------
    ndarray (n_images, N, 3)
        Å.
    """
    space = _ScaledDistances(reactant)
    best, shortest = None, np.inf
    starts = [linear(reactant, product, n_images)]
    with contextlib.suppress(ValueError, RuntimeError, ArithmeticError):
        starts.append(unsprung(reactant, product, n_images))
    for start in starts:
        path = space.shortened(start + _nudge(start))
        length = space.length(path)
        if length < shortest:
            best, shortest = path, length
    if best is None:
        raise CalculationError("no geodesic was found between the two structures")
    fixed = bool(reactant.pbc.any() or reactant.constraints)
    return best if fixed else _without_turning(reactant, best)


class _ScaledDistances:
    """The coordinates q of a set of atoms, and the energy of curves in them."""

    ALPHA, BETA = 1.7, 0.01

    def __init__(self, atoms: Atoms) -> None:
        self.first, self.second = np.triu_indices(len(atoms), 1)
        pairs = np.arange(len(self.first))
        self.incidence = np.zeros((len(atoms), len(pairs)))
        self.incidence[self.first, pairs], self.incidence[self.second, pairs] = 1.0, -1.0
        radii = covalent_radii[atoms.numbers]
        self.reference = radii[self.first] + radii[self.second]
        self.cell, self.pbc = atoms.cell, atoms.pbc
        self.held = held_atoms(atoms)

    def shortened(self, path: np.ndarray, iterations: int = 400) -> np.ndarray:
        """The path with its inner images moved to make it a geodesic."""
        inner = path[1:-1]
        shape = inner.shape
        stiffness = 1e-4  # eV-free: keeps what the distances leave open, as the frame, from drifting

        def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
            whole = path.copy()
            whole[1:-1] = flat.reshape(shape)
            points = np.empty((2 * len(path) - 1, *shape[1:]))
            points[::2] = whole
            points[1::2] = (whole[1:] + whole[:-1]) / 2
            q, slope, units = self._coordinates(points)
            steps = np.diff(q, axis=0)
            pull = np.zeros_like(q)
            pull[1:] += 2 * steps
            pull[:-1] -= 2 * steps
            force = (pull * slope)[:, :, None] * units
            gradient = self.incidence @ force
            total = gradient[::2].copy()
            total[1:] += gradient[1::2] / 2
            total[:-1] += gradient[1::2] / 2
            motion = np.diff(whole, axis=0)
            total[1:] += 2 * stiffness * motion
            total[:-1] -= 2 * stiffness * motion
            total[:, self.held] = 0
            return float((steps**2).sum() + stiffness * (motion**2).sum()), total[1:-1].ravel()

        found = minimize(
            energy, inner.ravel(), jac=True, method="L-BFGS-B",
            options={"maxiter": iterations, "ftol": 1e-7, "maxcor": 20},
        )  # fmt: skip
        result = path.copy()
        result[1:-1] = found.x.reshape(shape)
        return result

    def length(self, path: np.ndarray) -> float:
        """Sum of |Δq|."""
        return float(np.linalg.norm(np.diff(self._coordinates(path)[0], axis=0), axis=1).sum())

    def _coordinates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q (M, P), ∂q/∂r (M, P) and unit vectors (M, P, 3) of all pairs."""
        units, lengths = self.vectors(points)
        decay = np.exp(-self.ALPHA * (lengths - self.reference) / self.reference)
        q = decay + self.BETA * self.reference / lengths
        slope = -self.ALPHA / self.reference * decay - self.BETA * self.reference / lengths**2
        return q, slope, units

    def vectors(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (M, P, 3) and lengths (M, P) of all pairs of M structures."""
        vectors = points[:, self.first] - points[:, self.second]
        if self.pbc.any():
            from ase.geometry import find_mic

            vectors = find_mic(vectors.reshape(-1, 3), self.cell, self.pbc)[0].reshape(vectors.shape)
        lengths = np.maximum(np.linalg.norm(vectors, axis=2), 1e-3)
        return vectors / lengths[:, :, None], lengths


@dataclass(frozen=True)
class Interpolation:
    """A way to put images between two structures.

    Attributes
    ----------
    name, summary : str
    positions : callable
        Reactant, product, number of images → (n_images, N, 3).
    """

    name: str
    summary: str
    positions: Callable[[Atoms, Atoms, int], np.ndarray]


INTERPOLATIONS = Registry(
    "interpolation",
    Interpolation("geodesic", "shortest path in scaled distances of all pairs", geodesic),
    Interpolation("idpp", "image-dependent pair potential, by ASE", idpp),
    Interpolation("linear", "straight lines", linear),
)


def _nudge(path: np.ndarray) -> np.ndarray:
    """Small fixed displacements of the inner images: atoms that meet head on must leave their line."""
    noise = np.random.default_rng(0).normal(size=path.shape[1:]) * 0.02
    moving = np.linalg.norm(path[-1] - path[0], axis=1) > 1e-3
    bump = np.sin(np.linspace(0, np.pi, len(path)))[:, None, None]
    return bump * noise * moving[:, None]


def _without_turning(reactant: Atoms, path: np.ndarray) -> np.ndarray:
    """Each image superposed on the one before it."""
    images = _as_images(reactant, path)
    for k in range(1, len(images)):
        images[k] = aligned(images[k], images[k - 1])
    return np.array([image.positions for image in images])


def _as_images(template: Atoms, path: np.ndarray) -> list[Atoms]:
    images = []
    for positions in path:
        image = template.copy()
        image.set_positions(positions, apply_constraint=False)
        images.append(image)
    return images
