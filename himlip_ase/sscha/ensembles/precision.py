"""Whether the forces of an ensemble may be of single precision: what that would do to the averages decides.

Some configurations are evaluated in both precisions.  An average over n configurations has the standard error
σ/√n, with σ the spread of what is averaged: the forces beyond those of the auxiliary, on each normal mode,
the energy beyond that of the auxiliary, and each stress.  Rounding errors of root mean square r shift it by
no more than r, even if all of them point the same way.  Single precision is taken where r ≤ `SHARE` σ/√n for
every one of them; in quadrature that adds half a percent to an error bar at most.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from himlip_ase.evaluation import Evaluation
from himlip_ase.sscha.ensembles.evaluation import Evaluate, checked
from himlip_ase.sscha.ensembles.half_grid import HalfGrid
from himlip_ase.sscha.ensembles.partial_ensemble import PartialEnsemble, evaluate_rows, images_of
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

logger = logging.getLogger(__name__)

SHARE = 0.1
"""Of a standard error, by which rounding may shift an average at most."""

COMPARED = 16
"""Configurations evaluated in both precisions."""


@dataclass(frozen=True)
class RoundingCheck:
    """What single precision would do to averages over an ensemble.

    Attributes
    ----------
    forces, energy, stress : float
        Largest possible shift of an average in its standard errors; of the mode, or the component, where it
        is largest.  `stress` is 0 where there are none.
    compared, configurations : int
        Configurations in both precisions, and of the ensemble.
    """

    forces: float
    energy: float
    stress: float
    compared: int
    configurations: int

    @property
    def largest(self) -> float:
        """Of the three, in standard errors."""
        return max(self.forces, self.energy, self.stress)

    @property
    def allows(self) -> bool:
        """Whether single precision may be used."""
        return self.largest <= SHARE

    def sentence(self) -> str:
        """What was found, for the log."""
        return (
            f"{precision_sentence(self.largest)} (forces {self.forces:.2g}, energy {self.energy:.2g}, stress "
            f"{self.stress:.2g}; {self.compared} of {self.configurations} configurations in both)"
        )


def precision_sentence(rounding: float) -> str:
    """Which precision the forces have, and why.

    Parameters
    ----------
    rounding : float
        See :attr:`RoundingCheck.largest`.

    Returns
    -------
    str
    """
    kind = "single" if rounding <= SHARE else "double"
    return (
        f"{kind} precision: rounding to single shifts averages by up to {rounding:.2g} standard errors, "
        f"{SHARE:g} are allowed"
    )


def choose_precision(
    partial: PartialEnsemble, drawn_from: HarmonicDistribution, evaluate: Evaluate
) -> tuple[PartialEnsemble, Evaluate, float | None]:
    """The forces that the rest of an ensemble is to be evaluated with.

    Parameters
    ----------
    partial : PartialEnsemble
        Drawn; its first `COMPARED` configurations and the structure on its centroids are evaluated in double
        precision if they are not yet, so that a resumed run decides as an unbroken one.
    drawn_from : HarmonicDistribution
        The Gaussian.
    evaluate : callable
        In double precision.  Its attribute ``single``, if it has one, is the same in single precision.

    Returns
    -------
    partial : PartialEnsemble
    evaluate : callable
        `evaluate` or its ``single``.
    rounding : float or None
        See :attr:`RoundingCheck.largest`; None where there is no single precision.
    """
    single = getattr(evaluate, "single", None)
    if single is None:
        return partial, evaluate, None
    n, ideal = len(partial.done) - 1, drawn_from.supercell
    rows = np.arange(min(COMPARED, n))
    partial = evaluate_rows(partial, ideal, np.append(rows, n), evaluate)
    images = images_of(partial, ideal, rows)
    check = rounding_check(partial, drawn_from, checked(single(images), images))
    logger.info("%s", check.sentence())
    return partial, single if check.allows else evaluate, check.largest


def rounding_check(
    partial: PartialEnsemble, drawn_from: HarmonicDistribution, single: Evaluation
) -> RoundingCheck:
    """Compare the first configurations of an ensemble in both precisions.

    Parameters
    ----------
    partial : PartialEnsemble
        Its first configurations are evaluated in double precision.
    drawn_from : HarmonicDistribution
        The Gaussian.
    single : Evaluation
        The first configurations in single precision.

    Returns
    -------
    RoundingCheck
    """
    n, count = len(partial.done) - 1, len(single.energies)
    forces, displacements = partial.forces[:count], partial.displacements[:count]
    dynamical, grid = drawn_from.dynamical, HalfGrid(drawn_from.dims)
    vectors = dynamical.eigen()[1]
    largest, harmonic = 0.0, np.zeros(count)
    wrong = grid.fields(np.asarray(single.forces) - forces)
    blocks = grid.split(dynamical.matrices)
    for sector, push, move, error, block in zip(
        grid.sectors, grid.fields(forces), grid.fields(displacements), wrong, blocks, strict=True
    ):
        pulled = move @ block.swapaxes(1, 2)
        harmonic += sector.multiplicity / 2 * np.einsum("kni,kni->n", move.conj(), pulled).real
        modes = drawn_from.inverse_root_masses[:, None] * vectors[sector.points].conj()
        spread, rounding = (
            np.sqrt((np.abs(values @ modes) ** 2).mean(axis=1)) for values in (push + pulled, error)
        )
        moving = np.ones(spread.shape, dtype=bool)
        moving[sector.points == 0, :3] = False  # translations
        largest = max(largest, _shift(rounding[moving], spread[moving], n))
    excess = partial.energies[:count] - harmonic
    energy = _shift(_rms(single.energies - partial.energies[:count]), excess.std(ddof=1), n)
    stress = 0.0
    if np.isfinite(single.stresses).all() and np.isfinite(partial.stresses[:count]).all():
        stresses = partial.stresses[:count]
        stress = _shift(_rms(single.stresses - stresses), stresses.std(axis=0, ddof=1), n)
    return RoundingCheck(largest, energy, stress, count, n)


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt((np.asarray(values) ** 2).mean(axis=0))


def _shift(rounding: np.ndarray, spread: np.ndarray, n: int) -> float:
    """Largest rounding error in standard errors of an average; infinite where nothing spreads."""
    rounding, error = np.atleast_1d(rounding), np.atleast_1d(spread) / np.sqrt(n)
    shifts = np.divide(rounding, error, out=np.full(rounding.shape, np.inf), where=error > 0)
    return float(np.where(rounding == 0, 0.0, shifts).max(initial=0.0))
