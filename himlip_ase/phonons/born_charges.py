"""Born effective charges and the dielectric tensor, which split LO from TO modes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from himlip_ase.errors import InputError

logger = logging.getLogger(__name__)

LARGEST_NET_CHARGE = 0.2
"""e per atom; charges that should add up to zero and do worse are told of."""


@dataclass(frozen=True, eq=False)
class BornCharges:
    """Response of a crystal of atoms to an electric field.

    Parameters
    ----------
    charges : (n, 3, 3) ndarray
        Z*(a, i, j) = Ω ∂P_i/∂u_aj = ∂F_aj/∂E_i in units of e: the first direction is that of the field, as in
        phonopy's BORN and in ph.x's "Effective Charges E-U".
    dielectric : (3, 3) ndarray
        High-frequency dielectric tensor ε∞, with fixed ions.

    Raises
    ------
    InputError
        Shapes that do not match, numbers that are not finite, or a tensor that is not symmetric and positive.
    """

    charges: np.ndarray
    dielectric: np.ndarray

    def __post_init__(self) -> None:
        charges, dielectric = (
            np.array(values, dtype=float, order="C") for values in (self.charges, self.dielectric)
        )
        if charges.ndim != 3 or charges.shape[1:] != (3, 3) or dielectric.shape != (3, 3):
            raise InputError(
                "Born charges have shape (n, 3, 3) and a dielectric tensor (3, 3); got "
                f"{charges.shape} and {dielectric.shape}"
            )
        if not (np.isfinite(charges).all() and np.isfinite(dielectric).all()):
            raise InputError("the Born charges or the dielectric tensor hold numbers that are not finite")
        asymmetry = float(np.abs(dielectric - dielectric.T).max())
        if asymmetry > 1e-2 * np.abs(dielectric).max():
            raise InputError(f"the dielectric tensor is asymmetric by {asymmetry:.3g}")
        dielectric = (dielectric + dielectric.T) / 2
        if np.linalg.eigvalsh(dielectric).min() <= 0:
            raise InputError(f"the dielectric tensor is not positive: {dielectric.tolist()}")
        net = float(np.abs(charges.mean(axis=0)).max(initial=0.0))
        if net > LARGEST_NET_CHARGE:
            logger.warning(
                "the Born charges add up to %.3g e in a neutral cell of %d atoms: too few k-points, or "
                "charges of another crystal", net * len(charges), len(charges),
            )  # fmt: skip
        for name, values in (("charges", charges), ("dielectric", dielectric)):
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    def sum_rule_violation(self) -> float:
        """Largest |Σ_a Z*(a)| in e: what a net charge of the cell would be."""
        return float(np.abs(self.charges.sum(axis=0)).max())

    def with_sum_rule(self) -> BornCharges:
        """Charges that add up to zero: each atom gives its share of the sum (q2r.x's ``zasr='simple'``)."""
        return BornCharges(self.charges - self.charges.mean(axis=0), self.dielectric)


def check_number(born: BornCharges | None, n_atoms: int) -> None:
    """Refuse charges of another number of atoms.

    Parameters
    ----------
    born : BornCharges or None
    n_atoms : int
        Of the primitive cell.

    Raises
    ------
    InputError
    """
    if born is not None and len(born.charges) != n_atoms:
        raise InputError(
            f"{len(born.charges)} Born charges for a primitive cell of {n_atoms} atoms; give one for each, "
            "in the order of the atoms"
        )
