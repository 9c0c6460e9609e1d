#!/usr/bin/env bash
# Guess: All_Config.from_json of msc-alphanet gives what the file says, and the documented default for what it leaves out.
# Found (msc-alphanet 0.1.3): a key that the file leaves out is taken from an environment variable of that name, whatever its
#   case: CHI2=7 makes another network, A=0.5 halves an untrained one, NAME (which some systems set) renames it, and
#   DEVICE=cuda makes every configuration fail. The published configurations leave out chi2, a, b, readout and more.
# Why it matters: one file then describes different networks on different machines, and "CHI2" is nowhere recorded.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
unset CHI2 A NAME DEVICE
python3 -m venv venv
venv/bin/pip install -q "torch==2.13.0" "pydantic-settings==2.16.3"
venv/bin/pip install -q --no-deps msc-alphanet==0.1.3
echo '{"model": {"num_layers": 4, "hidden_channels": 176, "cutoff": 5, "num_radial": 8}}' > model.json
cat > read.py <<'EOF'
import sys
from alphanet.config import All_Config

try:
    model = All_Config.from_json("model.json").model
    print(model.chi2, model.a, model.name)
except Exception as error:
    print(type(error).__name__)
EOF
plain=$(venv/bin/python read.py 2>/dev/null)
other=$(CHI2=7 A=0.5 NAME=host venv/bin/python read.py 2>/dev/null)
device=$(DEVICE=cuda venv/bin/python read.py 2>/dev/null)
echo "as the file: $plain; with CHI2=7 A=0.5 NAME=host: $other; with DEVICE=cuda: $device"
if [ "$plain" = "6 1.0 Alphanet" ] && [ "$other" = "7 0.5 host" ] && [ "$device" = "ValidationError" ]; then
  echo "as found: the environment fills what the file leaves out"
else
  echo "behaviour changed"; exit 1
fi
