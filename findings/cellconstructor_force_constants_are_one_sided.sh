#!/usr/bin/env bash
# Guess: cellconstructor.Phonons.compute_phonons_finite_displacements, which makes the harmonic start of a SSCHA run from
#   an ASE calculator, displaces each atom both ways where symmetry does not do so, as phonopy and ase.phonons do: the
#   third derivative cancels, and its default step gives frequencies to half a per cent.
# Found (CellConstructor 1.6.2): each atom is displaced one way only, by 0.05 A, and the forces at rest are subtracted.
#   The third derivative enters in full: for H2 (a Morse bond) the vibration comes out 7.6 % too high, with central
#   differences of the same step 0.5 %. Without symmetries, one atom is pushed into the bond and the other one out of it,
#   and the error nearly cancels; with them (the default) the first is copied to the other.  epsilon = 0.001 cures both.
# Why it matters: bonds of hydrogen are the most anharmonic ones. A start that is too stiff passes for a strong anharmonic
#   softening afterwards, and two harmonic calculations of one potential disagree. Give epsilon, and halve it.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "cellconstructor==1.6.2" "ase==3.29.0" "spglib==2.8.0" "numpy==2.4.6" "scipy==1.17.1" "matplotlib==3.11.2" "six==1.17.0"
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
from ase.calculators.morse import MorsePotential
from ase.vibrations import Vibrations

print("cellconstructor", version("cellconstructor"), "ase", ase.__version__, "numpy", np.__version__)
RY_IN_CM = 109737.31568
LENGTH, DEPTH, RANGE = 0.7414, 4.75, 1.94  # Å, eV, 1/Å: the bond of H2
molecule = ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, LENGTH]], cell=[6, 6, 7], pbc=True)
constant = 2 * DEPTH * RANGE**2  # eV/Å²
exact = np.sqrt(constant * 2 / molecule.get_masses()[0]) * np.sqrt(ase.units._e * 1e20 / ase.units._amu)
exact /= 2 * np.pi * ase.units._c * 100  # 1/cm


def morse():
    return MorsePotential(epsilon=DEPTH, r0=LENGTH, rho0=RANGE * LENGTH, rcut1=2.5, rcut2=3.0)


def cellconstructor_frequency(**options):
    with contextlib.redirect_stdout(io.StringIO()):
        structure = CC.Structure.Structure()
        structure.generate_from_ase_atoms(molecule, get_masses=True)
        dyn = CC.Phonons.compute_phonons_finite_displacements(structure, morse(), **options)
        frequencies, _ = dyn.DyagDinQ(0)
    return frequencies.max() * RY_IN_CM


central = molecule.copy()
central.calc = morse()
vibrations = Vibrations(central, delta=0.05)
vibrations.run()
both_ways = vibrations.get_frequencies().real.max()
default = cellconstructor_frequency()
plain = cellconstructor_frequency(use_symmetries=False)
small = cellconstructor_frequency(epsilon=0.001)
print(f"exact                                   {exact:.0f} 1/cm; forces at rest {abs(central.get_forces()).max():.1e} eV/A")
for name, value in {"ase.vibrations, both ways by 0.05 A": both_ways, "CellConstructor, as it comes": default,
                    "CellConstructor, use_symmetries=False": plain, "CellConstructor, epsilon=0.001": small}.items():
    print(f"{name:39s} {value:.0f} 1/cm ({value / exact - 1:+.1%})")
found = default / exact - 1 > 0.05 and abs(both_ways / exact - 1) < 0.01 and abs(small / exact - 1) < 0.005
found &= abs(plain / exact - 1) < 0.02
print("as found: displaced one way" if found else "the behaviour has changed")
sys.exit(0 if found else 1)
END
venv/bin/python try.py
