#!/usr/bin/env bash
# Guess: pyscf.hessian.thermo.thermo takes the rotational symmetry number of the molecule, 2 for water, 3 for ammonia,
#   12 for methane.
# Found (pyscf 2.14.0): symmetry is detected to 1e-5 bohr.  A molecule as a relaxation leaves it, symmetric to 1e-4 A,
#   has the symmetry number 1, without a word; thermo() has no argument to give another.
# Why it matters: k T ln(sigma) at 298 K is 0.41 kcal/mol for water and 1.47 for methane.  Free energies of two relaxed
#   geometries of one molecule differ by that much, and a comparison of codes at 1e-6 eV fails or passes by chance.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv; venv/bin/python -m pip install -q pyscf==2.14.0 ase==3.29.0
cat > try.py <<'END'
import sys
import numpy as np
import pyscf
from ase.build import molecule
from pyscf import gto
from pyscf.hessian import thermo
class Field:
    e_tot = 0.0
def sigma_and_g(name, noise):
    atoms = molecule(name)
    if name == "H2O":
        positions = np.array([[0, 0, 0], [0.757, 0, 0.587], [-0.757, 0, 0.587]])
    else:
        positions = 0.629 * np.array([[0, 0, 0], [1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]])
    positions = positions + noise * np.random.default_rng(0).normal(size=positions.shape)
    mol = gto.M(atom=list(zip(atoms.get_chemical_symbols(), positions.tolist())), basis="sto-3g", verbose=0)
    field = Field(); field.mol = mol
    found = thermo.thermo(field, np.full(3 * len(atoms) - 6, 0.01), 298.15, 101325)
    return found["sym_number"][0], found["G_tot"][0] * 627.5095
print("pyscf", pyscf.__version__)
seen = {}
for name in ("H2O", "CH4"):
    for noise in (0.0, 1e-4):
        seen[name, noise] = sigma_and_g(name, noise)
        print(f"{name} moved by {noise:g} A: symmetry number {seen[name, noise][0]}, G {seen[name, noise][1]:.3f} kcal/mol")
if seen["H2O", 0.0][0] == 2 and seen["H2O", 1e-4][0] == 1 and seen["CH4", 1e-4][0] == 1:
    print("as found: 1e-4 A make the symmetry number 1")
else:
    sys.exit("behaviour changed")
END
venv/bin/python try.py
