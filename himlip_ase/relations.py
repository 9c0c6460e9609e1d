"""Relations that numbers must keep among themselves: a file in which a few break them is damaged.

Force constants are symmetric, dynamical matrices Hermitian, forces add up to zero, the frequencies of a curve
step evenly. Rounding and unconverged calculations break such a relation a little everywhere; a flipped digit
or a lost block breaks it in one place.
"""

from __future__ import annotations

import logging

import numpy as np

logger = logging.getLogger(__name__)

SHARE = 0.02
"""At most this share of the numbers (or two of them) are a few."""
LARGE = 0.05
"""Of the scale: a deviation that is told however many numbers have it."""
SMALLEST_NET_FORCE = 0.01
"""eV/Å, of a whole structure."""


def broken_by_few(deviations: np.ndarray, scale: float, floor: float = 1e-6) -> float:
    """The largest deviation from a relation, if only a few numbers break it.

    Parameters
    ----------
    deviations : ndarray
        How far each number is from what the others say of it.
    scale : float
        Size of the numbers.
    floor : float
        Of `scale`; what lies below is rounding.

    Returns
    -------
    float
        0 where the relation is kept, or broken a little everywhere.
    """
    sizes = np.abs(np.asarray(deviations))
    if not sizes.size or scale <= 0:
        return 0.0
    broken, largest = int((sizes > floor * scale).sum()), float(sizes.max())
    few = 0 < broken <= max(2, SHARE * sizes.size)
    return largest if few or largest > LARGE * scale else 0.0


def net_force(forces: np.ndarray) -> tuple[float, float]:
    """Size of the sum of all forces, and its ratio to √Σ|F|².

    Parameters
    ----------
    forces : (N, 3) ndarray
        eV/Å.

    Returns
    -------
    (float, float)
        eV/Å; the ratio is about the relative error of the forces.
    """
    total = float(np.linalg.norm(np.sum(forces, axis=0)))
    size = float(np.sqrt(np.sum(np.square(forces))))
    return total, total / size if size else 0.0


def tell_net_forces(named: list[tuple[str, np.ndarray]]) -> None:
    """Warn of structures whose forces do not add up to zero.

    Parameters
    ----------
    named : list of (str, (N, 3) ndarray)
        What the structure is called, and its forces without constraints, eV/Å.
    """
    found = []
    for name, forces in named:
        if len(forces) > 1 and np.isfinite(forces).all():
            total, ratio = net_force(forces)
            if total > SMALLEST_NET_FORCE and ratio > LARGE:
                found.append((total, ratio, name))
    if found:
        total, ratio, name = max(found)
        logger.warning(
            "the forces of %d structure%s do not add up to zero; worst is %s, %.3g eV/Å (%.0f%% of their "
            "size): unconverged, damaged, or an outer field",
            len(found),
            "" if len(found) == 1 else "s",
            name,
            total,
            100 * ratio,
        )
