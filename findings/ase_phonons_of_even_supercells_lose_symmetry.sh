#!/usr/bin/env bash
# Guess: ase.phonons interpolates between the q-points of its supercell as other codes do: atoms as far to the left as to
#   the right count half to each side, so that a cubic crystal has the same frequencies at (1/4, 0, 0) and (0, 1/4, 0),
#   and a 2x2x2 supercell of copper, whose forces reach two neighbours, gives a smooth stable dispersion.
# Found (ase 3.29.0): with an even number of cells along an axis the outermost ones are taken on the negative side only.
#   With 2x2x2 that is every bond that leaves the reference cell: (1/4, 0, 0) and (0, 1/4, 0) of the cubic cell differ by
#   up to 2.7 meV (single modes by 19 %), D(q) is not Hermitian and one triangle of it is used, and the primitive cell has
#   an imaginary mode of 9 meV at one of three equivalent points and none at the others.  3x3x3 keeps the symmetry (of the
#   primitive cell to 0.3 %); at q-points of the supercell itself both are right.  Nothing is said.
# Why it matters: 2x2x2 is what one affords of a cell of ten atoms, and an imaginary mode off the grid reads as an
#   instability.  Take odd supercells, or give the forces to phonopy.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "ase==3.29.0" "numpy==2.4.6" "scipy<2"
cat > try.py <<'END'
import contextlib
import io
import sys

import ase
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.phonons import Phonons

np.set_printoptions(precision=2, suppress=True)
print("ase", ase.__version__, "numpy", np.__version__)


def phonons(cubic, n):
    with contextlib.redirect_stdout(io.StringIO()):
        found = Phonons(bulk("Cu", cubic=cubic), EMT(), supercell=(n, n, n), delta=0.01, name=f"p{int(cubic)}{n}")
        found.run()
        found.read(acoustic=True)
    return found


def frequencies(found, q):
    """meV, negative where imaginary."""
    with contextlib.redirect_stdout(io.StringIO()):
        return np.asarray(found.band_structure([q], verbose=False)[0]) * 1e3


spread, skew, lowest = {}, {}, {}
for n in (2, 3):
    cubic = phonons(True, n)
    x, y = frequencies(cubic, (0.25, 0, 0)), frequencies(cubic, (0, 0.25, 0))
    spread[n] = np.abs(x - y).max()
    matrix = cubic.compute_dynamical_matrix(np.array((0, 0.25, 0)), cubic.D_N)
    skew[n] = np.abs(matrix - matrix.conj().T).max() / np.abs(matrix).max()
    print(f"cubic cell, {n}x{n}x{n}: lowest at (1/4, 0, 0) {x[:4]}, at (0, 1/4, 0) {y[:4]} meV; "
          f"largest difference {spread[n]:.2f} meV; D - D^+ is {skew[n]:.2g} of D")
    primitive = phonons(False, n)
    cell = primitive.atoms.cell.array
    equivalent = [(0.15, 0.1, 0.05), (-0.15, 0.1, 0.05), (0.15, 0.1, -0.05)]  # 1/angstrom, without 2 pi
    lowest[n] = np.array([frequencies(primitive, cell @ q)[0] for q in equivalent])
    print(f"primitive cell, {n}x{n}x{n}: lowest mode at three equivalent points {lowest[n]} meV")
found = spread[2] > 1 and skew[2] > 0.05 and lowest[2].min() < -5 and lowest[2].max() > 5
right = spread[3] < 0.05 and skew[3] < 1e-6 and np.ptp(lowest[3]) < 0.1
print("as found: even supercells lose the symmetry" if found and right else "behaviour changed")
sys.exit(0 if found and right else 1)
END
venv/bin/python try.py
