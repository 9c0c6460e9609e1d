"""How exact labels may be taken to be in a ridge regression, judged by frames that it leaves out.

A wide head fits a few hundred labels to the bit, whereupon the evidence takes them for exact. The noise is
therefore bounded from below; how far below is chosen by cross-validation. The sums of normal equations are
additive over frames, so that leaving frames out costs one solution of the system and no evaluation. The same
errors set the scale of all variances, prior and noise alike, which leaves the mean as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from himlip_ase.hint.last_layer.evidence import FLOOR, Evidence, NormalEquations, maximise_evidence, ridge
from himlip_ase.hint.last_layer.posterior import Noise

logger = logging.getLogger(__name__)

LADDER = 2.0
"""Ratio of neighbouring floors."""
HESSIAN_FLOORS = (1.0, 16.0, 256.0)
"""Multiples of the Hessians' floor that are tried, where they may be."""
RUNGS = 4
"""Largest number of rungs above or below `FLOOR`."""

Sums = dict[str, NormalEquations]


@dataclass(frozen=True)
class Chosen:
    """A lower bound of the noise, and how it did.

    Attributes
    ----------
    floor : Noise
    evidence : Evidence
        With all labels and this floor; its variances are scaled so that they are, on average, the squared
        errors on what was left out.
    scores : dict
        {multiple of `FLOOR` for energies, forces and stresses: root mean square error of the forces
        (energies, if there are none) on the frames that were left out}, of those that were tried with the
        chosen floor of Hessians.
    """

    floor: Noise
    evidence: Evidence
    scores: dict[float, float]


def choose_floor(
    parts: Sequence[Sums],
    shared: Sums,
    iterations: int = 40,
    judged: str | None = None,
    weigh_hessians: bool = False,
) -> Chosen:
    """Choose the lower bound of the noise by leaving out each part of the frames in turn.

    Parameters
    ----------
    parts : sequence of {kind: NormalEquations}
        Of disjoint sets of frames, columns scaled alike; at least two.
    shared : {kind: NormalEquations}
        Always learnt from (Hessians).
    iterations : int
        Of the evidence.
    judged : str, optional
        Name of the labels whose errors decide; the forces by default, or the energies if there are none.
    weigh_hessians : bool
        Whether the floor of Hessians, which are never left out, may rise as well where the parts are learnt
        better without them: those of a mesh that is not converged contradict the forces of disordered cells.

    Returns
    -------
    Chosen
    """
    total = summed([*parts, shared])
    if judged is None:
        judged = "forces" if total["forces"].count else "energy"
    found: dict[tuple[int, float], tuple[float, Noise, Evidence]] = {}

    def score(rung: int, of_hessians: float) -> float:
        key = rung, of_hessians
        if key not in found:
            floor = Noise(**{k: LADDER**rung * v for k, v in asdict(FLOOR).items() if k != "hessian"})
            floor = replace(floor, hessian=of_hessians * FLOOR.hessian)
            evidence = maximise_evidence(present_of(total), None, iterations, floor=floor)
            error, expected = np.sum([_left_out(evidence, total, part, judged) for part in parts], axis=0)
            scaled = _scaled(evidence, float(error / expected))
            found[key] = (float(error / total[judged].count) ** 0.5, floor, scaled)
            logger.debug(
                "floor times %.3g, of Hessians %g: error %.4g on what was left out",
                LADDER**rung, of_hessians, found[key][0],
            )  # fmt: skip
        return found[key][0]

    for of_hessians in HESSIAN_FLOORS if weigh_hessians else HESSIAN_FLOORS[:1]:
        step = -1 if score(-1, of_hessians) < score(0, of_hessians) else 1
        rung = 0
        while abs(rung + step) <= RUNGS and score(rung + step, of_hessians) < score(rung, of_hessians):
            rung += step
    best = min(found, key=lambda key: found[key][0])
    scores = {LADDER**rung: found[rung, own][0] for rung, own in sorted(found) if own == best[1]}
    return Chosen(*found[best][1:], scores)


def _left_out(evidence: Evidence, total: Sums, part: Sums, kind: str) -> tuple[float, float]:
    """Squared errors on a part, learnt from all others, and what the posterior expects them to be."""
    rest = without(total, part)
    mean, covariance = ridge(evidence, present_of(rest))
    expected = float((covariance * part[kind].gram).sum()) + part[kind].count / evidence.beta[kind]
    return part[kind].residual(mean), expected


def _scaled(evidence: Evidence, factor: float) -> Evidence:
    """All variances multiplied by a factor."""
    return Evidence(
        evidence.alpha / factor,
        {kind: beta / factor for kind, beta in evidence.beta.items()},
        evidence.mean,
        evidence.root * factor**0.5,
        evidence.effective,
    )


def present_of(sums: Sums) -> Sums:
    """Those of which there are labels.

    Parameters
    ----------
    sums : {name: NormalEquations}

    Returns
    -------
    dict
        {name: NormalEquations}.
    """
    return {kind: values for kind, values in sums.items() if values.count}


def summed(parts: Sequence[Sums]) -> Sums:
    """Of all parts, which need not have labels of the same names.

    Parameters
    ----------
    parts : sequence of {name: NormalEquations}

    Returns
    -------
    dict
        {name: NormalEquations}.
    """
    total: Sums = {}
    for part in parts:
        for name, values in part.items():
            total[name] = total[name] + values if name in total else values
    return total


def without(total: Sums, part: Sums) -> Sums:
    """What is left of a sum without one of its parts.

    Parameters
    ----------
    total, part : {name: NormalEquations}

    Returns
    -------
    dict
        {name: NormalEquations}, of the names of `total`.
    """
    return {name: values - part[name] if name in part else values for name, values in total.items()}
