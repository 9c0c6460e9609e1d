"""What force constants of a file must keep among themselves, and a warning where a few of them do not."""

from __future__ import annotations

import logging
import os

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.relations import broken_by_few

logger = logging.getLogger(__name__)

KEPT = 1e-6
"""Of the largest element; a relation that holds to this is one of the calculation."""
MOST = 20_000_000
"""Numbers that are compared at once; larger crystals are not asked for their symmetry."""


def tell_broken_relations(constants: ForceConstants, source: str | os.PathLike) -> None:
    """Warn if a few elements break a relation that all others keep.

    Φ(iα, jβ) = Φ(jβ, iα); the acoustic sum rule; the site symmetry of the on-site blocks, which alone have no
    partner in the first relation, and none in the second where the rule was not imposed.

    Parameters
    ----------
    constants : ForceConstants
    source : path-like
        Where they come from, for the message.
    """
    scale = float(np.abs(constants.compact).max())
    sums = constants.compact.sum(axis=1)
    ruled = np.median(np.abs(sums)) < KEPT * scale
    for value, name in (
        (broken_by_few(_asymmetry(constants), scale), "symmetry Φ(iα, jβ) = Φ(jβ, iα)"),
        (broken_by_few(sums, scale) if ruled else 0.0, "acoustic sum rule"),
        (site_asymmetry(constants), "site symmetry that the others keep"),
    ):
        if value:
            logger.warning(
                "%s: a few force constants break the %s by %.3g eV/Å² (largest element %.3g): the file may "
                "be damaged",
                os.fspath(source),
                name,
                value,
                scale,
            )


def _asymmetry(constants: ForceConstants) -> np.ndarray:
    """Φ(iα, jβ) − Φ(jβ, iα)."""
    n = len(constants.primitive)
    d1, d2, d3 = constants.dims
    blocks = constants.compact.reshape(n, n, d3, d2, d1, 3, 3)
    reverse = np.roll(np.flip(blocks, (2, 3, 4)), 1, (2, 3, 4))  # of −R
    return blocks - reverse.transpose(1, 0, 2, 3, 4, 6, 5)


def site_asymmetry(constants: ForceConstants) -> float:
    """How far on-site blocks are from the symmetry of a crystal whose other blocks have it.

    A magnetic order, or an unconverged calculation, breaks the symmetry of all blocks; then nothing is said.

    Parameters
    ----------
    constants : ForceConstants

    Returns
    -------
    float
        eV/Å²; 0 where they keep it, or where the other blocks break it too.
    """
    from himlip_ase.symmetry.operations import crystal_operations

    compact = constants.compact
    n, scale = len(compact), float(np.abs(compact).max())
    if not constants.primitive.pbc.all() or compact.shape[1] == 1 or 48 * compact.size > MOST:
        return 0.0
    try:
        operations = crystal_operations(constants.primitive, constants.dims)
    except InputError:
        return 0.0
    first, rotations = operations.first_atoms(), operations.rotations
    on_site = others = 0.0
    for row in range(n):
        targets, permutations = operations.carried(int(first[row]))
        turned = np.einsum("gik,jkl,gml->gjim", rotations, compact[row], rotations)
        images = compact[(targets // operations.cells)[:, None], permutations]
        deviations = np.abs(images - turned).max(axis=(0, 2, 3))
        on_site = max(on_site, float(deviations[first[row]]))
        others = max(others, float(np.delete(deviations, first[row]).max()))
    return on_site if on_site > KEPT * scale > others else 0.0
