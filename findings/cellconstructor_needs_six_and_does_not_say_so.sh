#!/usr/bin/env bash
# Guess: pip install python-sscha brings all that "import sscha.Ensemble" needs.
# Found (python-sscha 1.6.2, cellconstructor 1.6.2, python-dateutil 4.0.0): cellconstructor/Manipulate.py imports six, which
#   neither package declares. It used to come along with matplotlib, through python-dateutil, whose version 4 has no
#   dependency on it any more: in a clean environment the import ends in a ModuleNotFoundError, and with
#   python-dateutil 2.9.0 it does not.
# Why it matters: environments of yesterday go on working, the same requirements installed anew do not; whoever depends on
#   python-sscha has to name six as well.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv; venv/bin/python -m pip install -q python-sscha==1.6.2 cellconstructor==1.6.2 matplotlib==3.11.2 python-dateutil==4.0.0 numpy==2.4.6
cat > try.py <<'END'
from importlib.metadata import requires, version

print({name: version(name) for name in ("python-sscha", "cellconstructor", "python-dateutil")})
for name in ("python-sscha", "cellconstructor", "python-dateutil"):
    print(name, "declares six:", any(line.startswith("six") for line in requires(name) or []))
try:
    import sscha.Ensemble

    print("imported")
except ModuleNotFoundError as error:
    print("ModuleNotFoundError:", error)
END
venv/bin/python try.py | tee new.txt
venv/bin/python -m pip install -q python-dateutil==2.9.0
venv/bin/python try.py | tee old.txt
grep -q "No module named 'six'" new.txt && grep -q "^imported" old.txt
