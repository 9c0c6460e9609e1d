"""Inputs: what is asked for is what was meant, at the same k-density, with the right pseudopotentials."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms

from himlip_ase.dft.espresso.input_reading import read_pw_input
from himlip_ase.dft.espresso.inputs import QESettings, comparable, ph_input, pw_input, relocated
from himlip_ase.dft.espresso.k_grids import k_grid_like, scale_k_grid
from himlip_ase.dft.espresso.pseudopotentials import checksums, element_of, find_pseudopotentials
from himlip_ase.errors import InputError


def test_round_trip(tmp_path, aluminium, settings):
    (tmp_path / "pw.in").write_text(pw_input(aluminium, settings, nosym=True))
    request = read_pw_input(tmp_path / "pw.in")
    assert request.atoms.positions == pytest.approx(aluminium.positions, abs=1e-9)
    assert request.atoms.cell.array == pytest.approx(aluminium.cell.array, abs=1e-12)
    assert request.k_grid == (4, 4, 2)
    assert request.pseudopotentials == {"Al": "Al.upf"}
    assert request.settings["ecutwfc_ry"] == 15 and request.settings["degauss_ry"] == 0.05
    assert "nosym            = .true." in (tmp_path / "pw.in").read_text()


def test_constraints_do_not_reach_the_input(aluminium, settings):
    free = pw_input(aluminium, settings)
    aluminium.set_constraint(FixAtoms([0]))
    assert pw_input(aluminium, settings) == free


def test_options_reach_the_input(aluminium, settings):
    metal = pw_input(aluminium, settings)
    assert "'mp'" in metal and "nosym" not in metal and "ecutrho" not in metal
    insulator = pw_input(aluminium, QESettings(smearing=None, ecutrho_ry=480, pseudo_dir=settings.pseudo_dir))
    assert "'fixed'" in insulator and "degauss" not in insulator and "480" in insulator
    magnetic = QESettings(pseudo_dir=settings.pseudo_dir, extra={"system": {"nspin": 2}})
    assert "nspin            = 2" in pw_input(aluminium, magnetic)


def test_k_density_of_supercells():
    assert scale_k_grid((12, 12, 12), (2, 2, 2)) == (6, 6, 6)
    assert scale_k_grid((12, 12, 12), (2, 2, 1)) == (6, 6, 12)
    assert scale_k_grid((8, 8, 8), (3, 1, 16)) == (3, 8, 1)
    primitive = bulk("Al")
    assert k_grid_like(primitive, (12, 12, 12), primitive.repeat((2, 1, 3))) == (6, 12, 4)
    cubic = bulk("Al", cubic=True)  # not a diagonal supercell: at least the same density everywhere
    grid = k_grid_like(primitive, (12, 12, 12), cubic)
    spacing = np.linalg.norm(cubic.cell.reciprocal(), axis=1) / grid
    finest = np.linalg.norm(primitive.cell.reciprocal(), axis=1).max() / 12
    assert (spacing <= finest + 1e-9).all()
    assert grid == (7, 7, 7)


def test_ph_input():
    text = ph_input((2, 2, 2))
    assert "electron_phonon  = 'interpolated'" in text and "tr2_ph           = 1.0d-14" in text
    assert "start_q" not in text and "recover" not in text
    assert "start_q          = 3" in ph_input((2, 2, 2), start_q=3)
    assert "electron_phonon" not in ph_input((2, 2, 2), electron_phonon=False)


def test_comparison_ignores_only_the_place_of_the_pseudopotentials(aluminium, settings):
    text = pw_input(aluminium, settings)
    assert comparable(relocated(text)) == comparable(text) and relocated(text) != text
    assert comparable(text.replace("15.0", "16.0")) != comparable(text)


def test_bad_structures_are_explained(aluminium, settings):
    nan, coincident, molecule, slab = (aluminium.copy() for _ in range(4))
    nan.positions[1, 0] = np.nan
    coincident.positions[1] = coincident.positions[0]
    molecule.set_cell(None)
    slab.pbc = (True, True, False)
    cases = (
        (nan, "atom 1"),
        (coincident, "0 and 1"),
        (molecule, "cell"),
        (slab, "pbc"),
        (Atoms(), "no atoms"),
    )
    for atoms, word in cases:
        with pytest.raises(InputError, match=word):
            pw_input(atoms, settings)


@pytest.mark.parametrize(
    "options", [{"k_grid": (4, 4)}, {"k_grid": (4, 0, 4)}, {"ecutwfc_ry": -1}, {"degauss_ry": np.nan}]
)
def test_bad_settings_are_refused(options):
    with pytest.raises(InputError):
        QESettings(**options)


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ('<UPF version="2.0.1"><PP_HEADER generated="x" element=" B" pseudo_type="NC"/>', "B"),
        ('<UPF version="2.0.1">\n<PP_INFO>\n  Element: Xx\n</PP_INFO>\n<PP_HEADER\nelement="Cl"', "Cl"),
        ("<PP_HEADER>\n   0   Version Number\n  Ni                   Element\n   US\n", "Ni"),
        ("no header at all", None),
    ],
)
def test_element_from_the_header(tmp_path, text, element):
    path = tmp_path / "misleading_H_name.UPF"
    path.write_text(text)
    assert element_of(path) == element


def test_pseudopotentials_are_found_or_asked_for(tmp_path, pseudo, monkeypatch):
    assert find_pseudopotentials(["Al", "Al"], pseudo) == {"Al": "Al.upf"}
    with pytest.raises(InputError, match=r"no pseudopotential of H .*Al"):
        find_pseudopotentials(["Al", "H"], pseudo)
    (pseudo / "Al_other.UPF").write_text('<PP_HEADER element="Al"/>')
    with pytest.raises(InputError, match=r"Al.upf, Al_other.UPF.*--pseudopotential Al="):
        find_pseudopotentials(["Al"], pseudo)
    assert find_pseudopotentials(["Al"], pseudo, {"Al": "Al_other.UPF"}) == {"Al": "Al_other.UPF"}
    (pseudo / "H.upf").write_text('<PP_HEADER element="H"/>')
    with pytest.raises(InputError, match="of H, not of Al"):
        find_pseudopotentials(["Al"], pseudo, {"Al": "H.upf"})
    assert len(checksums({"H": "H.upf"}, pseudo)["H"]["sha256"]) == 64
    monkeypatch.delenv("ESPRESSO_PSEUDO", raising=False)
    with pytest.raises(InputError, match="--pseudo"):
        find_pseudopotentials(["Al"])
    with pytest.raises(InputError, match="does not exist"):
        find_pseudopotentials(["Al"], tmp_path / "nowhere")
