#!/usr/bin/env bash
# Guess: `pip install phonopy==4.2.2`, as the methods section of a paper or a lock file of direct dependencies says,
#   gives the phonopy 4.2.2 of its day: pip resolves what it needs, and a mesh with its DOS can be made.
# Found (phonopy 4.2.2, installed when phonors 0.8.0 was out): its compiled half phonors is asked for as >= 0.2.0, without
#   an upper bound; pip takes 0.8.0, which has lost grid_index_from_address.  q-points and bands work, run_mesh (DOS,
#   thermal properties) raises AttributeError.  With phonors 0.3.0 the same phonopy works; from phonopy 4.7.0 on nothing asks for it.
# Why it matters: who repeats a calculation with the stated version gets through displacements, forces and bands, and
#   fails at the free energy.  Pin phonors beside phonopy, or take phonopy 4.7.0 or later.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
python3 -m venv venv
venv/bin/pip install -q "phonopy==4.2.2" "phonors==0.8.0" "spglib==2.8.0" "symfc==1.8.0" "numpy<3"
cat > try.py <<'END'
import sys, warnings
from importlib.metadata import requires, version
import numpy as np
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

warnings.simplefilter("ignore")
print("phonopy", version("phonopy"), "phonors", version("phonors"))
print("asked for:", next(line for line in requires("phonopy") if line.startswith("phonors")))
cell = PhonopyAtoms(symbols=["Cu"], cell=1.8 * (1 - np.eye(3)), scaled_positions=[[0, 0, 0]])
phonons = Phonopy(cell, np.diag([2, 2, 2]), primitive_matrix="P")
constants = np.zeros((8, 8, 3, 3))
for i in range(8):
    for j in range(8):
        constants[i, j] = (7.0 if i == j else -1.0) * np.eye(3)
phonons.force_constants = constants
phonons.run_qpoints([[0.5, 0.5, 0.0]])
print("q-points:", np.round(phonons.get_qpoints_dict()["frequencies"], 3).tolist(), "THz")
try:
    phonons.run_mesh([4, 4, 4])
    print("mesh: made")
    sys.exit(0)
except AttributeError as error:
    print("mesh: AttributeError:", error)
    sys.exit(7)
END
old=0; venv/bin/python try.py || old=$?
venv/bin/pip install -q "phonors==0.3.0"
pinned=0; venv/bin/python try.py || pinned=$?
if [ "$old" = 7 ] && [ "$pinned" = 0 ]; then echo "as found"; else echo "the behaviour changed"; exit 1; fi
