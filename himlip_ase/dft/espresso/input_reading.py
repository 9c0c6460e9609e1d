"""What a given pw.x input asks for: structure, k-grid, and all that changes the energy surface."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.pw_structure import read_pw_structure

SAME_SURFACE = frozenset(
    "ibrav a b c cosab cosac cosbc nat ntyp nbnd nosym nosym_evc noinv no_t_rev force_symmorphic "
    "use_all_frac nr1 nr2 nr3 nr1s nr2s nr3s report space_group uniqueb origin_choice rhombohedral la2f "
    "input_dft ecutwfc ecutrho occupations smearing degauss nspin".split()
)
"""Keywords of &SYSTEM that leave the energy surface as it is, or are compared under another name."""

SURFACE_OF = {
    "control": ("tefield", "dipfield", "lelfield", "gate", "lfcp", "nppstr", "gdir"),
    "electrons": ("real_space", "tqr", "efield", "efield_cart"),
}
"""Keywords of other namelists that change it."""

DEFAULTS: Mapping[str, Any] = {
    "vdw_corr": "none",
    "tot_charge": 0.0,
    "noncolin": False,
    "lspinorb": False,
    "assume_isolated": "none",
    "lda_plus_u": False,
    "tefield": False,
    "dipfield": False,
    "lelfield": False,
    "real_space": False,
    "tqr": False,
}
"""What pw.x takes where a keyword is absent: written or not, it is the same calculation."""


@dataclass(frozen=True)
class PwInput:
    """What a pw.x input asks for.

    Attributes
    ----------
    atoms : Atoms
        Structure, Å, without constraints, with the masses of its species.
    k_grid : tuple of int
        Automatic k-grid; (1, 1, 1) for Γ.
    settings : dict
        Whatever changes the energy surface, and the threshold: what has to agree between the labels of one
        set.
    pseudopotentials : dict
        {element: file name}.
    pseudo_dir : Path or None
        Folder the run reads them from.
    """

    atoms: Atoms
    k_grid: tuple[int, int, int]
    settings: dict[str, Any]
    pseudopotentials: dict[str, str]
    pseudo_dir: Path | None


def read_pw_input(path: str | os.PathLike, echoed: Atoms | None = None) -> PwInput:
    """Read a pw.x input with an automatic k-grid.

    Parameters
    ----------
    path : path-like
    echoed : Atoms, optional
        Structure in the output of the run, for inputs that give their lattice by ``ibrav``.

    Returns
    -------
    PwInput

    Raises
    ------
    InputError
        The file does not exist or is no pw.x input, or gives its lattice by ``ibrav`` and `echoed` is None.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    found = read_pw_structure(path, echoed)
    namelists, cards = found.namelists, found.cards
    grid, sampling = _k_points(cards)
    folder = namelists.get("control", {}).get("pseudo_dir")
    return PwInput(
        found.atoms,
        grid,
        _settings(namelists, cards, list(found.files)) | sampling,
        {found.elements[label]: name for label, name in found.files.items()},
        (path.parent / folder).resolve() if folder else None,
    )


def _settings(namelists: Mapping[str, Any], cards: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    system, electrons = namelists.get("system", {}), namelists.get("electrons", {})
    settings = {
        "ecutwfc_ry": system.get("ecutwfc"),
        "ecutrho_ry": system.get("ecutrho"),
        "occupations": system.get("occupations"),
        "smearing": system.get("smearing"),
        "degauss_ry": system.get("degauss"),
        "nspin": system.get("nspin", 1),
        "conv_thr_ry": electrons.get("conv_thr"),
    }
    others = {key: value for key, value in system.items() if key.partition("(")[0] not in SAME_SURFACE}
    others = {key: value for key, value in others.items() if not key.startswith("celldm")}
    for namelist, keys in SURFACE_OF.items():
        found = namelists.get(namelist, {})
        others |= {key: found[key] for key in keys if key in found}
    for key, value in sorted(others.items()):
        value = value.lower() if isinstance(value, str) else value
        if key in DEFAULTS and value == DEFAULTS[key]:
            continue
        name, _, index = key.partition("(")
        number = index.partition(")")[0].partition(",")[0].strip()
        if number.isdigit() and 0 < int(number) <= len(labels):
            name = f"{name} of {labels[int(number) - 1]}"
        settings[name] = value
    hubbard = [
        " ".join(row.split()) for row in cards if re.match(r"\s*(HUBBARD|[UJVB]\d?\s+\w+-\d[spdf])", row)
    ]
    return settings | ({"hubbard": hubbard} if hubbard else {})


def _k_points(cards: Sequence[str]) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """The automatic grid, and what else the card says."""
    for index, card in enumerate(cards):
        words = card.split()
        if words and words[0].upper() == "K_POINTS":
            kind = card.partition(words[0])[2].strip(" {}()\t").lower() or "tpiba"
            if kind == "automatic":
                n = [int(k) for k in cards[index + 1].split()[:6]]
                offset = n[3:6]
                return (n[0], n[1], n[2]), ({"k_offset": offset} if any(offset) else {})
            if kind == "gamma":
                return (1, 1, 1), {}
            return (1, 1, 1), {"k_points": kind}
    return (1, 1, 1), {}
