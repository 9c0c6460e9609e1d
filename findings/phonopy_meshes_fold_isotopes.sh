#!/usr/bin/env bash
# Guess: phonopy reduces a mesh by the symmetry of the vibrating crystal, so that a cell with two isotopes of one
#   element (masses set atom by atom) is folded by the operations that map each isotope onto itself.
# Found (phonopy 4.10.0): the operations are those of the symbols alone; masses take no part.  A cell of two light
#   and two heavy hydrogens, tetragonal by its masses, is folded as Fm-3m: (1/4, 0, 0) stands for (0, 0, 1/4), whose
#   frequencies differ by several per cent, and mesh averages, densities of states and free energies with the
#   default is_mesh_symmetry=True are others than without.
# Why it matters: ordered isotopes are how partial deuteration is studied; the error looks like a small
#   isotope effect.  is_mesh_symmetry=False is right.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "phonopy==4.10.0" "spglib==2.8.0" "numpy<3"
cat > try.py <<'END'
import sys, warnings
warnings.simplefilter("ignore")
from importlib.metadata import version
import numpy as np
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

print("phonopy", version("phonopy"), "spglib", version("spglib"), "numpy", np.__version__)
a = 4.0
cell = PhonopyAtoms(
    symbols=["H"] * 4, cell=np.eye(3) * a, masses=[1.008, 1.008, 20.0, 20.0],
    scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)
phonons = Phonopy(cell, np.diag([2, 2, 2]), primitive_matrix="P")
positions, lattice = phonons.supercell.positions, np.asarray(phonons.supercell.cell)
n = len(positions)
constants = np.zeros((n, n, 3, 3))
for i in range(n):
    for j in range(n):
        d = positions[j] - positions[i]
        d -= np.rint(d @ np.linalg.inv(lattice)) @ lattice
        r = np.linalg.norm(d)
        if 0 < r < 0.75 * a:  # a spring between neighbours
            constants[i, j] -= np.outer(d, d) / r**2
            constants[i, i] += np.outer(d, d) / r**2
phonons.force_constants = constants
x, z = (np.asarray(phonons.run_qpoints([q]).frequencies)[0] for q in ([0.25, 0, 0], [0, 0, 0.25]))
print("lowest modes at (1/4, 0, 0):", x[:3].round(3), "THz, at (0, 0, 1/4):", z[:3].round(3), "THz")
means = {}
for symmetry in (True, False):
    phonons.run_mesh([4, 4, 4], is_mesh_symmetry=symmetry)
    weights = np.asarray(phonons.mesh.weights)
    means[symmetry] = float((weights[:, None] * np.asarray(phonons.mesh.frequencies)).sum() / weights.sum())
    print(f"is_mesh_symmetry={symmetry}: {len(weights)} q-points, mean of the sum of frequencies {means[symmetry]:.4f} THz")
group = phonons.symmetry.dataset.international
print("space group that phonopy folds with:", group)
found = group == "Fm-3m" and np.abs(x - z).max() > 0.1 and abs(means[True] - means[False]) > 1e-3
print("as found" if found else "the behaviour has changed")
sys.exit(0 if found else 1)
END
venv/bin/python try.py
