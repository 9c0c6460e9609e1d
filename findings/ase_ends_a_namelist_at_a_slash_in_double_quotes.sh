#!/usr/bin/env bash
# Guess: ase.io.espresso.read_fortran_namelist reads 'a/b' and "a/b" alike, as Fortran and pw.x do.
# Found (ase 3.29.0): a slash inside double quotes ends the namelist. Of
#   &control pseudo_dir = "./pseudo", outdir = './out' / the path becomes '".' and outdir is lost, without a word;
#   other double-quoted values keep their quotes ('"pbesol"').
# Why it matters: pw.x takes such inputs. Whoever reads them back (which folder, which functional, one accuracy in a
#   set of labels?) gets another calculation than the one that was run.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ase==3.29.0
cat > quotes.py <<'END'
import io

import ase
from ase.io.espresso import read_fortran_namelist

text = """&control
 pseudo_dir = QUOTE./pseudoQUOTE, outdir = './out'
/
&system
 input_dft = QUOTEpbesolQUOTE
/
"""
print("ase", ase.__version__)
found = {}
for name, quote in (("single", "'"), ("double", '"')):
    namelists, _ = read_fortran_namelist(io.StringIO(text.replace("QUOTE", quote)))
    found[name] = {key: dict(namelists.get(key, {})) for key in ("control", "system")}
    print(f"{name} quotes: {found[name]}")
single = {"control": {"pseudo_dir": "./pseudo", "outdir": "./out"}, "system": {"input_dft": "pbesol"}}
lost = "outdir" not in found["double"]["control"] and found["double"]["system"]["input_dft"] == '"pbesol"'
raise SystemExit(0 if found["single"] == single and lost else 1)
END
if venv/bin/python quotes.py; then
  echo "as found: the namelist ends at the slash"
else
  echo "behaviour changed"; exit 1
fi
