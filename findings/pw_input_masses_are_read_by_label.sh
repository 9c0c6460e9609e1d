#!/usr/bin/env bash
# Guess: who reads an input of pw.x for its structure takes the masses of ATOMIC_SPECIES with it: "H 2.014 H.UPF", which is
#   how pw.x and ph.x are told of deuterium, is deuterium for phonopy's interface and for ASE too.
# Found (phonopy 4.10.0, ase 3.29.0): phonopy takes the masses of the file only if some label, of any species, carries a
#   number. "H" is light hydrogen, "H1" is deuterium, and "H" is deuterium again as soon as the metal is called "Pd1";
#   the metal's mass follows suit. ASE drops the masses whatever the labels are, and writes natural ones into the next
#   input. Neither says so. (Upstream, phonopy issue 415: masses of the input are not read.)
# Why it matters: frequencies of a deuteride come out too high by the square root of 2, by the same file from which ph.x
#   gives the right ones; renaming a species changes the isotope. Set masses after reading, or phonopy's MASS.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "phonopy==4.10.0" "ase==3.29.0" "spglib==2.8.0" "numpy==2.4.6"
cat > try.py <<'END'
import sys
from importlib.metadata import version

import ase
import ase.io
from phonopy.interface.calculator import read_crystal_structure

print("phonopy", version("phonopy"), "ase", ase.__version__)
INPUT = """&control
 calculation = 'scf'
/
&system
 ibrav = 0, nat = 2, ntyp = 2, ecutwfc = 20
/
&electrons
/
ATOMIC_SPECIES
 {metal} 110.0 Pd.UPF
 {hydrogen} 2.014 H.UPF
CELL_PARAMETERS angstrom
 0 2 2
 2 0 2
 2 2 0
ATOMIC_POSITIONS crystal
 {metal} 0 0 0
 {hydrogen} 0.5 0.5 0.5
K_POINTS gamma
"""
seen = {}
for metal, hydrogen in (("Pd", "H"), ("Pd", "H1"), ("Pd1", "H")):
    with open("pw.in", "w") as file:
        file.write(INPUT.format(metal=metal, hydrogen=hydrogen))
    cell, _ = read_crystal_structure("pw.in", interface_mode="qe")
    atoms = ase.io.read("pw.in", format="espresso-in")
    seen[metal, hydrogen] = [round(float(x), 3) for x in (*cell.masses, *atoms.get_masses())]
    print(f"labels {metal}, {hydrogen}; masses in the file 110.0, 2.014; phonopy {seen[metal, hydrogen][:2]}, "
          f"ase {seen[metal, hydrogen][2:]}")
natural, given = [106.42, 1.008], [110.0, 2.014]
found = seen == {("Pd", "H"): natural + natural, ("Pd", "H1"): given + natural, ("Pd1", "H"): given + natural}
print("as found" if found else "the behaviour has changed")
sys.exit(0 if found else 1)
END
venv/bin/python try.py
