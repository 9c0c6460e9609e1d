#!/usr/bin/env bash
# Guess: IdealGasThermo of a transition state, given all 3N energies of VibrationsData and ignore_imag_modes=True, drops
#   the imaginary mode and the six rigid motions and keeps the 3N - 7 real vibrations.
# Found (ase 3.29.0): vib_selection='highest' (the default) first keeps the 3N - 6 highest squares, then the imaginary
#   ones among these are ignored.  The imaginary mode is the lowest square and is cut, so that one rigid motion, whose
#   frequency is the noise of the Hessian, stays and counts as a vibration.  No warning; n_imag is 0.
# Why it matters: a rigid motion of 5 cm-1 adds T*S of 0.13 eV (3 kcal/mol) at 298 K to one side only: the barrier comes
#   out too low by it, and another Hessian of the same point gives another barrier.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv; venv/bin/python -m pip install -q ase==3.29.0 numpy==2.4.6
cat > try.py <<'END'
import sys, warnings
import ase
import numpy as np
from ase.build import molecule
from ase.thermochemistry import IdealGasThermo
from ase.units import invcm
warnings.simplefilter("ignore")
atoms = molecule("NH3")  # stands for a saddle: one imaginary mode, five vibrations, six rigid motions
vibrations = [1100.0, 1450.0, 1500.0, 3400.0, 3500.0]
def gibbs(rigid):
    energies = np.array([900.0j, *np.array(rigid, dtype=complex), *vibrations]) * invcm
    thermo = IdealGasThermo(list(energies), "nonlinear", atoms=atoms, symmetrynumber=1, spin=0, ignore_imag_modes=True)
    return thermo.get_gibbs_energy(298.15, 101325.0, verbose=False), thermo.n_imag, thermo.get_number_of_modes() if hasattr(thermo, "get_number_of_modes") else None
exact = IdealGasThermo([v * invcm for v in vibrations], "nonlinear", atoms=atoms, symmetrynumber=1, spin=0, vib_selection="all").get_gibbs_energy(298.15, 101325.0, verbose=False)
one, n_imag, _ = gibbs([8j, 4j, 1j, 1.0, 3.0, 5.0])
two, _, _ = gibbs([8j, 4j, 1j, 1.0, 3.0, 20.0])
print("ase", ase.__version__)
print(f"G of the five vibrations {exact:.4f} eV; of all 3N energies {one:.4f} eV (rigid motions up to 5 cm-1), {two:.4f} eV (up to 20 cm-1); n_imag {n_imag}")
if exact - one > 0.05 and abs(one - two) > 0.02:
    print("as found: a rigid motion counts as a vibration")
else:
    sys.exit("behaviour changed")
END
venv/bin/python try.py
