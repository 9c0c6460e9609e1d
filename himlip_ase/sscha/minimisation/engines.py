"""An engine of the SSCHA by name."""

from __future__ import annotations

from himlip_ase.sscha.choices import ENGINES, MINIMISERS, imported
from himlip_ase.sscha.minimisation.engine import Engine


def engine(name: str = "native", minimiser: str = "anderson") -> Engine:
    """An engine by name.

    Parameters
    ----------
    name : str
        Of :data:`himlip_ase.sscha.choices.ENGINES`.
    minimiser : str
        Of :data:`himlip_ase.sscha.choices.MINIMISERS`, for the native engine; python-sscha always descends in
        the force constants.

    Returns
    -------
    Engine

    Raises
    ------
    InputError
        An unknown name, or python-sscha is missing or older than 1.6.2.
    """
    chosen = MINIMISERS[minimiser]
    return imported(ENGINES[name].make)(chosen.name)
