"""A watch from what people have: label files and names of models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from himlip_ase.sscha.watch.trusted_region import TrustedRegion
from himlip_ase.sscha.watch.watch import Watch


def build_watch(
    labels: Sequence[str | os.PathLike] | None = None,
    committee: Sequence[str] | None = None,
    spread_limit: float | None = None,
) -> Watch:
    """The watch of a run.

    Parameters
    ----------
    labels : sequence of paths, optional
        What the potential was trained on, as :func:`himlip_ase.labels.readers.read_labels` reads it; sets
        that only judge potentials are left out.
    committee : sequence of str, optional
        Names or paths of further models.
    spread_limit : float, optional
        Largest committee spread of a force in a trusted ensemble, eV/Å.

    Returns
    -------
    Watch
    """
    region = None
    if labels:
        from himlip_ase.labels.frames import JUDGES
        from himlip_ase.labels.readers import read_labels

        frames = [frame for frame in read_labels(list(labels)) if not frame.set.startswith(JUDGES)]
        region = TrustedRegion.from_labels(
            [frame.atoms for frame in frames], source=", ".join(str(path) for path in labels)
        )
    members = []
    if committee:
        from himlip_ase.potential.checkpoint import load_model
        from himlip_ase.potential.evaluate import evaluate

        members = [partial(evaluate, load_model(name)) for name in committee]
    return Watch(region, tuple(members), spread_limit=spread_limit)
