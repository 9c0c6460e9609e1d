#!/usr/bin/env bash
# Guess: pw.x's line "Total force" is the norm of the forces that are printed above it, and the forces in
#   data-file-schema.xml are the printed ones.
# Found (pw.x 6.7; 7.2 does the same): in a relaxation with fixed components (0 behind a position) "Total force"
#   is the norm of the free components only, and so are the forces in the XML: the fixed ones are zero there.
#   The text has them all.
# Why it matters: whoever takes forces from the XML of a relaxation with fixed atoms trains a potential on zeros;
#   whoever checks forces by "Total force" refuses good ones.
# Needs pw.x 6.x (Debian: quantum-espresso, quantum-espresso-data).
set -eu
command -v pw.x >/dev/null || { echo "pw.x is not installed (Debian: apt-get install quantum-espresso)"; exit 2; }
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/Si.pz-vbc.UPF" ] || { echo "Si.pz-vbc.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
export OMP_NUM_THREADS=1
cat > si.in <<END
&CONTROL
 calculation = 'relax', prefix = 'si', outdir = './out', pseudo_dir = '$pseudo', forc_conv_thr = 1d-2
/
&SYSTEM
 ibrav = 2, celldm(1) = 10.2, nat = 2, ntyp = 1, ecutwfc = 10
/
&ELECTRONS
 conv_thr = 1d-9
/
&IONS
/
ATOMIC_SPECIES
 Si 28.0855 Si.pz-vbc.UPF
ATOMIC_POSITIONS crystal
 Si 0.02 0.01 0.00 1 0 0
 Si 0.25 0.25 0.25
K_POINTS automatic
 2 2 2 1 1 1
END
pw.x -in si.in > si.out 2>&1
grep -m1 "Program PWSCF" si.out
python3 - <<'END'
import re
import sys

text, xml = open("si.out").read(), open("out/si.save/data-file-schema.xml").read()
row = re.compile(r"atom\s+\d+ type\s+\d+\s+force =\s+(\S+)\s+(\S+)\s+(\S+)")
printed = [float(x) for found in row.findall(text)[:2] for x in found]
total = float(re.search(r"Total force =\s+(\S+)", text)[1])
stored = [2 * float(x) for x in re.search(r"<forces rank[^>]*>([^<]*)<", xml)[1].split()]
norm, free = sum(x * x for x in printed) ** 0.5, sum(x * x for x in [printed[0], *printed[3:]]) ** 0.5
print("forces in the text (Ry/bohr):", printed)
print("forces in the XML  (Ry/bohr):", [round(x, 8) for x in stored])
print(f"norm of the printed forces {norm:.6f}, of the free components {free:.6f}; 'Total force' {total:.6f}")
found = abs(total - free) < 2e-6 < abs(total - norm) and stored[1] == stored[2] == 0 != printed[1]
print("as found" if found else "behaviour changed")
sys.exit(0 if found else 1)
END
