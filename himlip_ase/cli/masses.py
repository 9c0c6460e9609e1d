"""The option ``--mass ELEMENT=AMU`` of several commands."""

from __future__ import annotations


def parse_masses(items: list[str]) -> dict[str, float]:
    """Masses in amu by element, from items such as ``H=2.014``.

    Raises
    ------
    InputError
        An item of another form.
    """
    from himlip_ase.errors import InputError

    masses = {}
    for item in items:
        symbol, _, value = item.partition("=")
        try:
            masses[symbol.strip()] = float(value)
        except ValueError as error:
            raise InputError(f"--mass takes ELEMENT=AMU, for example --mass H=2.014; got {item!r}") from error
        if not symbol.strip():
            raise InputError(f"--mass {item!r} names no element; type for example --mass H=2.014")
    return masses
