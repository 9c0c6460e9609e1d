"""What a potential's own error does to the phonons of an SSCHA: the spread of its twins.

Each twin learnt all labels but one of equal parts. On configurations of the final ensemble its forces differ
from the potential's, and ask for another auxiliary (`corrections.change_of`). The delete-one-part jackknife
of these changes is the error of Φ(q) that comes from which cells were labelled, and how many (Efron and
Stein, Ann. Stat. 9, 586 (1981)). It does not hold what no head of this network can express, nor an error that
is common to all labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.jackknife import jackknife
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.ensembles.evaluation import checked
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.corrections import change_of
from himlip_ase.sscha.trust.verify import FEWEST, choose, verification_images
from himlip_ase.sscha.trust.verify_files import load_final_ensemble

if TYPE_CHECKING:
    from himlip_ase.potential.interface import Potential

CONFIGURATIONS = 20
"""Of the ensemble that the twins are asked about: the linear part of a difference needs no more."""
ATOMS = 64
"""Supercells of more atoms tell more each, and fewer of them are asked about (H3S, 256 atoms: σ of 10 and of
20 configurations are 10.6 and 10.4 cm⁻¹ rms)."""

SAME_FORCE = 5e-3
"""eV/Å within which two evaluations of one potential agree, in single precision and on any machine."""


@dataclass(frozen=True)
class PotentialError:
    """Changes that the twins of a potential ask for in the auxiliary of an SSCHA.

    Attributes
    ----------
    auxiliary : DynamicalMatrices
    changes : ndarray, shape (twins, nq, 3n, 3n)
        Of Φ(q), eV/Å².
    forces : ndarray, shape (twins, n, 3)
        Of the mean force on the centroids, symmetrised, eV/Å.
    stresses : ndarray, shape (twins, 6), or None
        Of the mean stress, eV/Å³; None where the ensemble has none.
    configurations : int
        That each twin was asked about.
    """

    auxiliary: DynamicalMatrices
    changes: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray | None
    configurations: int

    def frequencies_sigma(self) -> np.ndarray:
        """Standard errors (nq, 3n) of the auxiliary frequencies, cm⁻¹; translations 0."""
        rows = [self.auxiliary.matrices + change for change in self.changes]
        sigma = jackknife(np.array([self.auxiliary.with_matrices(row).frequencies() for row in rows]))
        sigma[0][np.argsort(np.abs(self.auxiliary.frequencies()[0]))[:3]] = 0
        return sigma


def potential_error(
    folder: str | os.PathLike, twins: Sequence[Potential], n: int | None = None, seed: int = 0
) -> PotentialError:
    """The spread of the twins of a potential on the final ensemble of a finished SSCHA.

    Parameters
    ----------
    folder : path-like
        Of the run, which that potential made.
    twins : sequence of Potential
        Each without one of equal parts of the labels, see `himlip_ase.hint.last_layer.cross_fit`.
    n : int, optional
        Configurations each is asked about; even. By default `CONFIGURATIONS`, of large supercells fewer.
    seed : int
        Of their choice.

    Returns
    -------
    PotentialError

    Raises
    ------
    InputError
        The run is not finished, or its ensembles were deleted.
    CalculationError
        Too few configurations for the linear part.
    """
    from himlip_ase.potential.evaluate import evaluate

    final = load_final_ensemble(folder)
    if n is None:
        share = min(1.0, ATOMS / len(final.target.supercell))
        n = max(FEWEST, 2 * round(CONFIGURATIONS * share / 2))
    whole = 2 * (len(final.ensemble) // 2)
    chosen = np.arange(whole) if whole < FEWEST else choose(len(final.ensemble), min(n, whole), seed)
    images = verification_images(final.ensemble, chosen)[:-1]
    moved = final.ensemble.displacements_from(final.target)[chosen]
    weights, ours = final.ensemble.weights(final.target)[chosen], final.ensemble.forces[chosen]
    group = SpaceGroup(final.result.auxiliary)
    n_atoms, own = len(final.result.auxiliary.primitive), final.ensemble.stresses
    changes, means, stresses = [], [], []
    for twin in twins:
        theirs = checked(evaluate(twin, images), images)
        beyond = theirs.force_array - ours
        changes.append(change_of(final.target, group, moved, beyond, weights))
        mean = np.average(beyond, axis=0, weights=weights).reshape(-1, n_atoms, 3).mean(axis=0)
        means.append(group.vectors(mean - mean.mean(axis=0)))
        if own is not None and theirs.stresses is not None:
            stresses.append(np.average(theirs.stresses - own[chosen], axis=0, weights=weights))
    return PotentialError(
        final.result.auxiliary,
        np.array(changes),
        np.array(means),
        np.array(stresses) if len(stresses) == len(twins) else None,
        len(chosen),
    )


def check_made_by(folder: str | os.PathLike, weights: Path) -> None:
    """Refuse a potential that did not make the ensemble of a finished SSCHA.

    Parameters
    ----------
    folder : path-like
        Of the run.
    weights : Path

    Raises
    ------
    InputError
        Its forces are others than those of the run.
    """
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.evaluate import evaluate

    final = load_final_ensemble(folder)
    images = verification_images(final.ensemble, np.arange(1))[:-1]
    found = checked(evaluate(load_model(weights), images), images)
    apart = np.abs(found.force_array - final.ensemble.forces[:1]).max()
    if apart > SAME_FORCE:
        raise InputError(
            f"--model: {weights} did not make {folder}: its forces in the first configuration of the final "
            f"ensemble are others by up to {1e3 * apart:.1f} meV/Å; name the potential of that run"
        )
