"""One population: displaced supercells, their forces from one batched call, and what to watch in them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.sscha.sampling import HarmonicDistribution

log = logging.getLogger(__name__)


class EvaluationLike(Protocol):
    """What the force callable returns for n images of N atoms."""

    @property
    def energies(self) -> Any:
        """(n,) eV"""

    @property
    def forces(self) -> Any:
        """(n, N, 3) or n arrays (N, 3), eV/Å"""

    @property
    def stresses(self) -> Any:
        """(n, 6) ASE Voigt in eV/Å³, positive in tension; None, or NaN everywhere, if not computed"""


class Evaluate(Protocol):
    """Energies, forces and stresses of a batch of supercells."""

    def __call__(self, images: list[Atoms], /) -> EvaluationLike: ...


@dataclass(frozen=True)
class Ensemble:
    """Supercells drawn from one Gaussian with their forces, atoms in the order of ``primitive.repeat(dims)``.

    Attributes
    ----------
    displacements : ndarray, shape (n, N, 3)
        Å from the centroids; rows 2k and 2k+1 are opposites.
    energies : ndarray, shape (n,)
        eV per supercell.
    forces : ndarray, shape (n, N, 3)
        eV/Å.
    stresses : ndarray, shape (n, 6), or None
        ASE Voigt, eV/Å³, positive in tension.
    static_energy : float
        eV per supercell with every atom on its centroid.
    shortest_distance : float
        Smallest interatomic distance in the ensemble, Å.
    largest_displacement : float
        Å.
    """

    displacements: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray | None
    static_energy: float
    shortest_distance: float
    largest_displacement: float

    def __len__(self) -> int:
        return len(self.energies)

    def part(self, chosen: np.ndarray) -> Ensemble:
        """The configurations that a mask or an index array chooses."""
        return dataclasses.replace(
            self,
            displacements=self.displacements[chosen],
            energies=self.energies[chosen],
            forces=self.forces[chosen],
            stresses=None if self.stresses is None else self.stresses[chosen],
        )

    def pair_blocks(self, n_blocks: int) -> list[np.ndarray]:
        """Index arrays that split the ensemble into blocks without parting a pair of opposites."""
        pairs = np.array_split(np.arange(len(self) // 2), n_blocks)
        return [np.stack([2 * pair, 2 * pair + 1], axis=1).ravel() for pair in pairs]


def draw_ensemble(
    distribution: HarmonicDistribution, n: int, seed: np.random.SeedSequence, evaluate: Evaluate
) -> Ensemble:
    """Draw n configurations in opposite pairs and evaluate them, and the centroids, in one batch.

    Raises
    ------
    InputError
        The callable returned arrays of the wrong number or shape.
    CalculationError
        An energy, force or stress is not finite.
    """
    displacements = distribution.displacements(n, seed, pairs=True)
    ideal = distribution.supercell
    images = [ideal.copy() for _ in range(n + 1)]
    for image, displacement in zip(images, displacements, strict=False):
        image.positions += displacement
    shortest = shortest_distance(ideal, displacements)
    energies, forces, stresses = checked(evaluate(images), images)
    return Ensemble(
        displacements,
        energies[:n],
        forces[:n],
        None if stresses is None else stresses[:n],
        float(energies[n]),
        shortest,
        float(np.linalg.norm(displacements, axis=2).max()),
    )


def checked(
    evaluation: EvaluationLike, images: Sequence[Atoms]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Arrays of an evaluation after a check of number, shape and finiteness."""
    n, size = len(images), len(images[0])
    energies = np.asarray(evaluation.energies, dtype=float).reshape(-1)
    forces = np.asarray([np.asarray(f, dtype=float) for f in evaluation.forces])
    given = getattr(evaluation, "stresses", None)
    stresses = None if given is None else np.asarray(given, dtype=float)
    if stresses is not None and np.isnan(stresses).all():
        stresses = None
    if energies.shape != (n,) or forces.shape != (n, size, 3):
        raise InputError(
            f"the force callable returned energies {energies.shape} and forces {forces.shape} for {n} images "
            f"of {size} atoms; it must return energies ({n},) in eV and forces ({n}, {size}, 3) in eV/Å"
        )
    if stresses is not None and stresses.shape != (n, 6):
        raise InputError(
            f"the force callable returned stresses {stresses.shape}; "
            f"give ({n}, 6), ASE Voigt in eV/Å³, or None"
        )
    bad = ~np.isfinite(energies) | ~np.isfinite(forces).all(axis=(1, 2))
    if stresses is not None:
        bad |= ~np.isfinite(stresses).all(axis=1)
    if bad.any():
        raise CalculationError(
            f"{bad.sum()} of {n} configurations have an energy, force or stress that is not finite "
            f"(first: {int(np.flatnonzero(bad)[0])}); the potential does not cover what this ensemble visits"
        )
    return energies, forces, stresses


def shortest_distance(ideal: Atoms, displacements: np.ndarray) -> float:
    """Smallest distance (Å) between two atoms, periodic images included, over all configurations."""
    size = len(ideal)
    reach = 2 * float(np.linalg.norm(displacements, axis=2).max())
    nearest = 1.5 * (ideal.get_volume() / size) ** (1 / 3)
    while len(distances := neighbor_list("d", ideal, nearest)) == 0:
        nearest *= 1.5
    first, second, vectors = neighbor_list("ijD", ideal, float(distances.min()) + reach + 1e-6)
    once = first <= second
    first, second, vectors = first[once], second[once], vectors[once]
    smallest = np.inf
    for moved in displacements:
        smallest = min(smallest, float(np.linalg.norm(vectors + moved[second] - moved[first], axis=1).min()))
    return smallest


def warn_close(number: int, ideal: Atoms, ensemble: Ensemble) -> None:
    """Log a warning where atoms come closer than half the shortest ideal distance."""
    ideal_shortest = shortest_distance(ideal, np.zeros((1, len(ideal), 3)))
    if ensemble.shortest_distance < ideal_shortest / 2:
        log.warning(
            "population %d brings two atoms to %.2f Å (ideal crystal: %.2f Å); few potentials are right "
            "there: verify the forces, or the start is too soft",
            number,
            ensemble.shortest_distance,
            ideal_shortest,
        )
