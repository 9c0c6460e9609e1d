#!/usr/bin/env bash
# Guess: Structure.generate_from_ase_atoms(atoms, get_masses=True) takes the masses of the Atoms, one for each atom,
#   as the name says; two isotopes of one element either stay apart or are refused.
# Found (CellConstructor 1.6.2): masses are kept in a dictionary by chemical symbol, and the first atom of a symbol
#   decides.  HD becomes H2, DH becomes D2; nothing is said.
# Why it matters: partly deuterated crystals and molecules are how isotope effects are told apart, and ASE holds them
#   without further ado.  Phonons, SSCHA ensembles and free energies of python-sscha are then those of another
#   isotopologue: here the stretching frequency is off by 15 and 18 %.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "cellconstructor==1.6.2" "ase==3.29.0" "spglib==2.8.0" "numpy<3"
cat > try.py <<'END'
import contextlib
import io
import sys
import warnings
from importlib.metadata import version

import ase
import numpy as np

warnings.simplefilter("ignore")
import cellconstructor as CC, cellconstructor.Phonons, cellconstructor.Structure

print("cellconstructor", version("cellconstructor"), "ase", ase.__version__, "numpy", np.__version__)
CM = 109737.31568  # Ry in 1/cm
SPRING = 0.36  # Ry/bohr²


def stretching(masses):
    """Frequency (1/cm) of a bond along z by CellConstructor, with masses (amu) from ASE; and the masses it used."""
    atoms = ase.Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.75]], cell=[6, 6, 6], pbc=True, masses=masses)
    with contextlib.redirect_stdout(io.StringIO()):
        structure = CC.Structure.Structure()
        structure.generate_from_ase_atoms(atoms, get_masses=True)
        dyn = CC.Phonons.Phonons(structure, nqirr=1)
        dyn.dynmats[0] = SPRING * np.kron([[1, -1], [-1, 1]], np.diag([0, 0, 1])).astype(complex)
        frequencies, _ = dyn.DyagDinQ(0)
    return frequencies.max() * CM, structure.get_masses_array()


def exact(masses, unit):
    return np.sqrt(SPRING * (1 / masses[0] + 1 / masses[1]) / unit) * CM


light = stretching([1.008, 1.008])
unit = light[1][0] / 1.008  # CellConstructor's mass unit
as_found = True
for masses in ([1.008, 2.014], [2.014, 1.008]):
    found, used = stretching(masses)
    wanted = exact(masses, unit)
    print(f"masses given {masses}, used {np.round(used / unit, 3).tolist()}: {found:.0f} 1/cm, "
          f"right {wanted:.0f} ({found / wanted - 1:+.1%})")
    as_found &= np.allclose(used / unit, masses[0], rtol=1e-4) and abs(found / wanted - 1) > 0.1
print("as found: the first atom of a symbol decides for all" if as_found else "behaviour changed")
sys.exit(0 if as_found else 1)
END
venv/bin/python try.py
