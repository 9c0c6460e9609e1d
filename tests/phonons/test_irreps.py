"""Irreducible representations at Γ against the character tables of well-known crystals."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from himlip_ase.errors import InputError
from himlip_ase.lattice import build_supercell
from himlip_ase.phonons import ForceConstants
from himlip_ase.phonons.irreps import describe_gamma_modes, gamma_modes, write_gamma_modes
from himlip_ase.symmetry.standard_cell import standard_cell

from .springs import Springs


def matrices(atoms: Atoms, cutoff: float = 3.6):
    hessian = Springs(atoms, cutoff).hessian(build_supercell(atoms, (1, 1, 1)))
    return ForceConstants.from_hessian(atoms, (1, 1, 1), hessian).dynamical_matrices()


def rutile() -> Atoms:
    return crystal(
        "TiO", [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90]
    )


def wurtzite() -> Atoms:
    return bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.382)


def cristobalite_like() -> Atoms:
    return standard_cell(bulk("Si", "diamond", a=5.43)).atoms


# point group, {label: number of sets}, active ones: textbook factor-group analyses
KNOWN = {
    "rutile": (
        rutile,
        "4/mmm",
        {"A1g": 1, "A2g": 1, "B1g": 1, "B2g": 1, "Eg": 1, "A2u": 2, "B1u": 2, "Eu": 4},
        {"A1g": "Raman", "B1g": "Raman", "B2g": "Raman", "Eg": "Raman", "A2u": "IR", "Eu": "IR",
         "A2g": "silent", "B1u": "silent"},
    ),
    "diamond": (cristobalite_like, "m-3m", {"T1u": 1, "T2g": 1}, {"T2g": "Raman"}),
    "wurtzite": (
        wurtzite,
        "6mm",
        {"A1": 2, "B1": 2, "E1": 2, "E2": 2},
        {"A1": "IR and Raman", "E1": "IR and Raman", "E2": "Raman", "B1": "silent"},
    ),
    "rock salt": (lambda: bulk("NaCl", "rocksalt", a=5.6), "m-3m", {"T1u": 2}, {"T1u": "IR"}),
    "zincblende": (lambda: bulk("GaAs", "zincblende", a=5.65), "-43m", {"T2": 2}, {"T2": "IR and Raman"}),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_textbook_tables(name):
    build, group, labels, activity = KNOWN[name]
    found = gamma_modes(matrices(build(), 4.5 if name != "rutile" else 3.6))
    assert found.point_group == group
    # wurtzite's B1 and B2 exchange their names with the setting of the mirror planes
    seen = Counter(
        (mode.label or "?").replace("B2", "B1") if name == "wurtzite" else mode.label for mode in found.modes
    )
    assert seen == Counter(labels)
    for mode in found.modes:
        label = mode.label.replace("B2", "B1") if name == "wurtzite" else mode.label
        assert mode.activity == ("acoustic" if mode.acoustic else activity[label])
    assert sum(mode.degeneracy for mode in found.modes if mode.acoustic) == 3
    assert sum(mode.degeneracy for mode in found.modes) == 3 * len(build())


def test_a_repeated_cell_is_refused():
    with pytest.raises(InputError, match="primitive"):
        gamma_modes(matrices(bulk("Si", "diamond", a=5.43, cubic=True)))


def test_errors_are_carried_along(tmp_path):
    found = gamma_modes(matrices(bulk("NaCl", "rocksalt", a=5.6), 4.5), sigma_cm=np.arange(6.0))
    assert [mode.sigma_cm for mode in found.modes] == [1.0, 4.0]
    path = write_gamma_modes({"springs": found}, tmp_path / "gamma_modes.json")
    assert json.loads(path.read_text(encoding="utf-8"))["springs"]["modes"][1]["activity"] == "IR"
    assert "± 4.0" in describe_gamma_modes(found)[2]
