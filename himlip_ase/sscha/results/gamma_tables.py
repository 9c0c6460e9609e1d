"""Irreducible representations and activities of an SSCHA's modes at Γ."""

from __future__ import annotations

import logging

from himlip_ase.errors import InputError
from himlip_ase.phonons.irreps import GammaModes, gamma_modes
from himlip_ase.sscha.results.result import SschaResult

logger = logging.getLogger(__name__)


def gamma_tables(result: SschaResult) -> dict[str, GammaModes]:
    """Modes at Γ of the auxiliary and of the free-energy Hessian, with standard errors.

    Parameters
    ----------
    result : SschaResult

    Returns
    -------
    dict of str to GammaModes
        "auxiliary" and, where there is one, "Hessian"; empty where the cell is not primitive.
    """
    sets = {"auxiliary": (result.auxiliary, result.auxiliary_sigma_cm)}
    if result.hessian is not None and result.hessian_sigma_cm is not None:
        sets["Hessian"] = (result.hessian, result.hessian_sigma_cm)
    place = result.auxiliary.index((0, 0, 0))
    try:
        return {name: gamma_modes(matrices, sigma[place]) for name, (matrices, sigma) in sets.items()}
    except InputError as error:
        logger.warning("no table of modes at Γ: %s", error)
        return {}
