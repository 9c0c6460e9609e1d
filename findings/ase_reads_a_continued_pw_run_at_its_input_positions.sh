#!/usr/bin/env bash
# Guess: pw.x with restart_mode = 'restart' prints the positions that it calculates, so that ase.io.read("pw.out",
#   index=":") gives the first energy of a continued run with its structure; where input and saved folder differ,
#   pw.x stops.
# Found (pw.x 6.7, ase 3.29.0): pw.x prints the positions of the input under "site n.", and then says "Atomic
#   positions from file used, from input discarded". What it calculates is the structure of the folder, which the
#   output never prints. ASE gives the first energy and forces at the positions of the input. So an scf whose H-H
#   distance is edited from 0.85 to 0.75 Å before it is restarted "has" the same energy to the last digit.
# Why it matters: molecular dynamics and relaxations that were continued after a time limit are a common source of
#   training data; one frame of every continuation carries forces of another structure, and looks like any other.
# Needs pw.x 6.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
command -v pw.x >/dev/null || { echo "pw.x is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/H.pz-vbc.UPF" ] || { echo "H.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ase==3.29.0
input() {
cat <<END
&CONTROL
 calculation = 'scf', prefix = 'h', outdir = './out', pseudo_dir = '$pseudo', tprnfor = .true., restart_mode = '$1'
/
&SYSTEM
 ibrav = 0, nat = 2, ntyp = 1, ecutwfc = 15
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
 H 0 0 $2
K_POINTS gamma
END
}
export OMP_NUM_THREADS=1
input from_scratch 0.85 > first.in; pw.x -in first.in > first.out 2>&1
input restart 0.75 > second.in; pw.x -in second.in > second.out 2>&1
rm -rf out; input from_scratch 0.75 > right.in; pw.x -in right.in > right.out 2>&1
grep -m1 "Program PWSCF" first.out; grep "from input discarded" second.out
cat > compare.py <<'END'
import ase
from ase.io import read

found = {}
for name in ("first", "second", "right"):
    atoms = read(f"{name}.out", format="espresso-out")
    found[name] = atoms.get_distance(0, 1), atoms.get_potential_energy()
    print(f"ase {ase.__version__}: {name:7s} {found[name][0]:.2f} Å {found[name][1]:.5f} eV")
distance, energy = found["second"]
as_input = abs(distance - 0.75) < 1e-3
as_folder = abs(energy - found["first"][1]) < 1e-4 and abs(energy - found["right"][1]) > 0.01
raise SystemExit(0 if as_input and as_folder else 1)
END
if venv/bin/python compare.py; then
  echo "as found: the energy of one structure with the positions of another"
else
  echo "behaviour changed"; exit 1
fi
