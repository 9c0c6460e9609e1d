#!/usr/bin/env bash
# Guess: the XML dyn files of ph.x (fildyn ending in .xml) are XML; a parser reads each of them.
# Found (ph.x 7.2): on a grid (ldisp = .true.) the file of Gamma of an insulator ends without </Root>, so that XML
#   parsers refuse it; the same q-point alone (ldisp = .false.) gives a whole file, and q2r.x 7.2 reads both.
# Why it matters: of every polar crystal the very file with the Born charges looks truncated.
# Needs python3 with pip, and two pseudopotentials (Debian: quantum-espresso-data).
set -eu
pseudo=/usr/share/espresso/pseudo
[ -f "$pseudo/As.pz-bhs.UPF" ] || { echo "As.pz-bhs.UPF is not installed (Debian: quantum-espresso-data)"; exit 2; }
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q "qepy==7.2.0" "numpy==1.26.4" "f90wrap==0.3.0" "packaging==26.4"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
cat > scf.in <<END
&CONTROL
 prefix = 'alas', outdir = './out', pseudo_dir = '$pseudo'
/
&SYSTEM
 ibrav = 2, celldm(1) = 10.6, nat = 2, ntyp = 2, ecutwfc = 8
/
&ELECTRONS
 conv_thr = 1d-10
/
ATOMIC_SPECIES
 Al 26.98 Al.pz-vbc.UPF
 As 74.92 As.pz-bhs.UPF
ATOMIC_POSITIONS alat
 Al 0.00 0.00 0.00
 As 0.25 0.25 0.25
K_POINTS automatic
 2 2 2 1 1 1
END
for grid in true false; do
  cat > ph_$grid.in <<END
phonons
&INPUTPH
 prefix = 'alas', outdir = './out_$grid', fildyn = 'dyn_$grid.xml', epsil = .true., tr2_ph = 1d-12
 ldisp = .$grid., nq1 = 1, nq2 = 1, nq3 = 1
/
0.0 0.0 0.0
END
done
venv/bin/python -m qepy --pw.x -i scf.in > scf.out
for grid in true false; do
  cp -r out out_$grid
  venv/bin/python -m qepy --ph.x -i ph_$grid.in > ph_$grid.out
done
grep -hm1 "Program" scf.out ph_true.out
python3 - <<'END'
import sys
from xml.etree import ElementTree


def parsed(path):
    try:
        ElementTree.parse(path)
    except ElementTree.ParseError as error:
        return f"refused ({error})"
    return "read"


files = {"true": "dyn_true1.xml", "false": "dyn_false.xml"}
outcome = {grid: parsed(path) for grid, path in files.items()}
for grid, words in outcome.items():
    print(f"ldisp = .{grid}.: {words}; last line: {open(files[grid]).read().splitlines()[-1]}")
found = outcome["true"].startswith("refused (no element") and outcome["false"] == "read"
print("as found" if found else "behaviour changed")
sys.exit(0 if found else 1)
END
