#!/usr/bin/env bash
# Guess: the order of `indices` in ase.vibrations.Vibrations(atoms, indices=...) is of no account: the same atoms
#   vibrate, so frequencies and zero-point energy are the same, and the modes come in the order that was given.
# Found (ase 3.29.0): rows of the Hessian follow `indices`, but VibrationsData takes the masses through a boolean
#   mask, in the order of the atoms.  indices=[1, 0] gives the hydrogen's force constants the mass of the oxygen:
#   the zero-point energy of two atoms of water changes by half, without a warning.  Ascending indices are right.
# Why it matters: adsorbates and active sites are often named from the reacting atom outwards; free energies of such
#   calculations are off by tenths of eV and look as good as others.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "ase==3.29.0" "numpy<3" "scipy"
cat > try.py <<'END'
import sys
import ase, numpy as np
from ase import units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.vibrations import Vibrations

print("ase", ase.__version__, "numpy", np.__version__)
water = molecule("H2O")
water.calc = EMT()
BFGS(water, logfile=None).run(fmax=1e-4, steps=500)
zero_point, right = {}, {}
for order in ([0, 1], [1, 0]):
    vibrations = Vibrations(water, indices=order, name="v" + "".join(map(str, order)))
    vibrations.run()
    data = vibrations.get_vibrations()
    zero_point[tuple(order)] = data.get_zero_point_energy()
    # each row with the mass of its own atom
    roots = np.repeat(water.get_masses()[order], 3) ** -0.5
    values = np.linalg.eigvalsh(data.get_hessian_2d() * roots * roots[:, None])
    unit = units._hbar * 1e10 / np.sqrt(units._e * units._amu)
    right[tuple(order)] = unit * np.sqrt(np.clip(values, 0, None)).sum() / 2
    print(f"indices {order}: zero point {zero_point[tuple(order)]:.4f} eV, with the atoms' own masses "
          f"{right[tuple(order)]:.4f} eV")
same = abs(right[0, 1] - right[1, 0]) < 1e-3
wrong = abs(zero_point[0, 1] - zero_point[1, 0]) > 0.05 and abs(zero_point[0, 1] - right[0, 1]) < 1e-3
print("as found" if same and wrong else "the behaviour has changed")
sys.exit(0 if same and wrong else 1)
END
venv/bin/python try.py
