#!/usr/bin/env bash
# Guess: ase.io.read("pw.out") of a converged PBE0 run gives the energy pw.x ends with, its "!!" line.
# Found (ase 3.29.0, pw.x 6.7): it gives that of the first "!" line, which belongs to the starting (semi-local)
#   functional, before any exact exchange; the forces beside it are those of PBE0. For H2 the two differ by
#   0.3 eV.
# Why it matters: labels of a hybrid functional read this way mix energies of one functional with forces of
#   another; the differences between structures look reasonable.
# Needs pw.x 6.x or 7.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
command -v pw.x >/dev/null || { echo "pw.x is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/H.pz-vbc.UPF" ] || { echo "H.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ase==3.29.0
cat > pw.in <<END
&CONTROL
 calculation = 'scf', prefix = 'h', outdir = './out', pseudo_dir = '$pseudo', tprnfor = .true.
/
&SYSTEM
 ibrav = 0, nat = 2, ntyp = 1, ecutwfc = 15, input_dft = 'pbe0'
 nqx1 = 1, nqx2 = 1, nqx3 = 1, x_gamma_extrapolation = .false.
/
&ELECTRONS
 conv_thr = 1e-9
/
ATOMIC_SPECIES
 H 1.008 H.pz-vbc.UPF
CELL_PARAMETERS angstrom
 4 0 0
 0 4 0
 0 0 4
ATOMIC_POSITIONS angstrom
 H 0 0 0
 H 0.1 0 0.75
K_POINTS gamma
END
OMP_NUM_THREADS=1 pw.x -in pw.in > pw.out 2>&1
grep -m1 "Program PWSCF" pw.out; grep '^!' pw.out
cat > energy.py <<'END'
import re

import ase
from ase.io import read
from ase.units import create_units

rydberg = create_units("2006")["Ry"]
text = open("pw.out").read()
first, final = (float(re.findall(rf"(?m)^{mark}\s+total energy\s+=\s+(\S+)", text)[0]) for mark in ("!", "!!"))
energy = read("pw.out", format="espresso-out").get_potential_energy()
print(f"ase {ase.__version__}: {energy:.5f} eV; first ! line {first * rydberg:.5f}, !! line {final * rydberg:.5f} eV")
near_first, near_final = abs(energy - first * rydberg) < 1e-3, abs(energy - final * rydberg) < 1e-3
raise SystemExit(0 if near_first and not near_final else 1)
END
if venv/bin/python energy.py; then
  echo "as found: the energy of the starting functional"
else
  echo "behaviour changed"; exit 1
fi
