"""One column of a Hessian as all that is known of it."""

from __future__ import annotations

import numpy as np

from himlip_ase.labels.frames import HessianLabel
from himlip_ase.labels.products import HessianProducts


def one_column(label: HessianLabel, seed: int) -> HessianProducts:
    """One column, drawn once and for all."""
    atom, axis = divmod(int(np.random.default_rng(seed).integers(3 * len(label.atoms))), 3)
    return HessianProducts.of_columns(label.atoms, [(atom, axis)], label.matrix[:, :, atom, axis][None])
