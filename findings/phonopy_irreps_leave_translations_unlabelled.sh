#!/usr/bin/env bash
# Guess: phonopy labels every mode at Γ of a crystal whose force constants have its symmetry and obey the sum rules:
#   of rutile's point group 4/mmm the three translations are A2u + Eu.
# Found (phonopy 4.10.0): degenerate sets are made of equal frequencies alone, and translations are equal at zero: they
#   are one set of three, whose characters are those of no representation, and whose label is None, in every
#   crystal that is not cubic.  irreps.yaml has "ir_label: None", which YAML reads as a label with the name None.  Any
#   two modes that coincide by accident fare alike; symmetry_adapted=True, which is not the default, labels both.
# Why it matters: "count the labels against the factor-group analysis" is the usual check of a phonon calculation,
#   and what reads irreps.yaml for infrared and Raman spectra looks labels up by band.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "phonopy==4.10.0" "spglib==2.8.0" "symfc==1.8.0" "numpy<3"
cat > try.py <<'END'
import sys, warnings
warnings.simplefilter("ignore")
from importlib.metadata import version
import numpy as np
import yaml
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

print("phonopy", version("phonopy"), "spglib", version("spglib"), "numpy", np.__version__)
u = 0.305
cell = PhonopyAtoms(
    symbols=["Ti"] * 2 + ["O"] * 4, cell=np.diag([4.6, 4.6, 2.96]),
    scaled_positions=[
        [0, 0, 0], [0.5, 0.5, 0.5], [u, u, 0], [1 - u, 1 - u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5],
    ],
)
phonons = Phonopy(cell, np.eye(3, dtype=int), primitive_matrix="P")
positions, lattice, n = phonons.supercell.positions, np.asarray(phonons.supercell.cell), 6
constants = np.zeros((n, n, 3, 3))
for i in range(n):
    for j in range(n):
        for image in np.ndindex(5, 5, 5):
            d = positions[j] - positions[i] + (np.array(image) - 2) @ lattice
            r = np.linalg.norm(d)
            if 0 < r < 3.6:  # springs, stiff along and soft across
                block = np.exp(-r) * (np.outer(d, d) / r**2 + 0.1 * np.eye(3)) * 40
                constants[i, j] -= block
                constants[i, i] += block
phonons.force_constants = constants
labels = {}
for adapted in (False, True):
    phonons.run_irreps([0, 0, 0], symmetry_adapted=adapted)
    phonons.irreps.write_yaml()
    modes = yaml.safe_load(open("irreps.yaml"))["normal_modes"]
    labels[adapted] = [(len(mode["band_indices"]), round(mode["frequency"], 3) + 0.0, mode.get("ir_label")) for mode in modes]
    print(f"symmetry_adapted={adapted}:", labels[adapted])
still = [mode for mode in labels[False] if abs(mode[1]) < 1e-3]
better = sorted((mode[0], mode[2]) for mode in labels[True] if abs(mode[1]) < 1e-3)
found = len(still) == 1 and still[0][0] == 3 and still[0][2] in (None, "None") and better == [(1, "A2u"), (2, "Eu")]
print("as found" if found else "the behaviour has changed")
sys.exit(0 if found else 1)
END
venv/bin/python try.py
