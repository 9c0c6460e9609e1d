#!/usr/bin/env bash
# Guess: the q-points listed in the dyn files of a ph.x run with ldisp and lshift_q are the shifted grid: the stars of
#   dyn1, dyn2, ... add up to nq1 nq2 nq3, as they do without the shift, and their sizes are the weights of a q-sum.
# Found (ph.x 6.7, fcc Al): a shifted grid of an fcc lattice is not mapped onto itself by every operation, and ph.x
#   writes the whole star of the point group all the same.  The 2x2x2 grid has 8 points, the dyn files list 32, of
#   which 24 lie off the grid (on grids shifted along other directions).
# Why it matters: lambda_tetra and other sums over such grids weigh a q by its share of the *grid*.  Weights from the
#   star sizes give a wrong norm (here a factor of 4), a reader that asks for a complete grid stops, and matrices
#   sorted by position on the grid land on the wrong points.
# Needs pw.x and ph.x 6.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
for program in pw.x ph.x; do
  command -v $program >/dev/null || { echo "$program is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
done
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/Al.pz-vbc.UPF" ] || { echo "Al.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
cat > scf.in <<END
&CONTROL
 calculation = 'scf', prefix = 'al', outdir = './out', pseudo_dir = '$pseudo'
/
&SYSTEM
 ibrav = 2, celldm(1) = 7.65, nat = 1, ntyp = 1, ecutwfc = 12
 occupations = 'smearing', smearing = 'mp', degauss = 0.05
/
&ELECTRONS
/
ATOMIC_SPECIES
 Al 26.98 Al.pz-vbc.UPF
ATOMIC_POSITIONS alat
 Al 0 0 0
K_POINTS automatic
 4 4 4 0 0 0
END
pw.x -in scf.in > scf.out 2>&1
for shift in false true; do
cat > ph.$shift.in <<END
phonons
&INPUTPH
 prefix = 'al', outdir = './out', fildyn = '$shift.dyn', ldisp = .true., lshift_q = .$shift.
 nq1 = 2, nq2 = 2, nq3 = 2, tr2_ph = 1d-10
/
END
ph.x -in ph.$shift.in > ph.$shift.out 2>&1
rm -rf out/_ph0
done
grep -m1 "Program PHONON" ph.true.out
cat > count.py <<'END'
import glob
import re
import sys

cell = [[-0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [-0.5, 0.5, 0.0]]  # fcc, in alat: fractional q = cell . q
found = {}
for name in ("false", "true"):
    listed = []
    for path in sorted(glob.glob(f"{name}.dyn[1-9]*")):
        text = open(path).read().split("Diagonalizing")[0]
        for x in re.findall(r"q = \(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)", text):
            listed.append([sum(float(a) * b for a, b in zip(x, row)) for row in cell])
    shift = 0.25 if name == "true" else 0.0
    on = {
        tuple(round(2 * (v - shift)) % 2 for v in q)
        for q in listed
        if all(abs(2 * (v - shift) - round(2 * (v - shift))) < 1e-4 for v in q)
    }
    off = [q for q in listed if not all(abs(2 * (v - shift) - round(2 * (v - shift))) < 1e-4 for v in q)]
    found[name] = len(listed), len(on), len(off)
    print(f"lshift_q = .{name}.: {len(listed)} q-points in the dyn files; {len(on)} points of the 2x2x2 grid, {len(off)} off it")
as_found = found["false"] == (8, 8, 0) and found["true"][0] > 8 and found["true"][1] == 8 and found["true"][2] > 0
print("as found: the stars of a shifted grid leave it" if as_found else "behaviour changed")
sys.exit(0 if as_found else 1)
END
python3 count.py
