#!/usr/bin/env bash
# Guess: strings in atoms.info come back from an extended XYZ file as the strings they were.
# Found (ase 3.29.0): write() leaves strings without spaces unquoted, and read() makes numbers and truth values of whatever
#   looks like one: "2_2" becomes 22 (Python's digit groups), "007" becomes 7, "1e5" becomes 100000.0, "T" becomes True.
#   Quotes written by hand do not help.
# Why it matters: sets of training labels and configurations are named so (supercells 2_2 and 1_1, temperatures, job
#   numbers). Weights and choices by name then find no such set, and "2_2" and "22" become one.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ase==3.29.0
cat > names.py <<'END'
import ase
import ase.io
from ase import Atoms

print("ase", ase.__version__)
given = ["2_2", "22", "007", "1e5", "T", "rattle040"]
for name in given:
    atoms = Atoms("H")
    atoms.info["set"] = name
    ase.io.write(f"{name}.extxyz", atoms)
found = [ase.io.read(f"{name}.extxyz").info["set"] for name in given]
for name, value in zip(given, found):
    print(f"{name!r} -> {value!r}")
with open("quoted.extxyz", "w") as stream:
    stream.write('1\nProperties=species:S:1:pos:R:3 set="2_2"\nH 0 0 0\n')
quoted = ase.io.read("quoted.extxyz").info["set"]
print(f'set="2_2" in the file -> {quoted!r}')
expected = [22, 22, 7, 1e5, True, "rattle040"]
raise SystemExit(0 if [*found, quoted] == [*expected, 22] and not isinstance(found[0], str) else 1)
END
if venv/bin/python names.py; then
  echo "as found: names that look like numbers are not names any more"
else
  echo "behaviour changed"; exit 1
fi
