#!/usr/bin/env bash
# Guess: safetensors.numpy.save writes the same bytes whenever it is given the same tensors and the same metadata.
# Found (safetensors 0.8.0): tensors are sorted, entries of the metadata are not. Two keys come in either order, anew
#   at every call: of forty files some begin with one and some with the other; lengths and values are equal.
# Why it matters: a checksum of a model file (ours stands in its card and in the file of its twins) is one of the
#   file, not of the weights: the same training, done again to the bit, has another. Compare tensors.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q safetensors==0.8.0 numpy==2.4.6
cat > order.py <<'END'
import hashlib

import numpy as np
import safetensors
from safetensors.numpy import load, save

tensors, metadata = {"a": np.zeros(2), "b": np.ones(3)}, {"format": "potential", "config": "{}"}
files = [save(tensors, metadata=metadata) for _ in range(40)]
sums = {hashlib.sha256(data).hexdigest()[:12] for data in files}
equal = all((load(data)[name] == tensors[name]).all() for data in files for name in tensors)
print(f"safetensors {safetensors.__version__}: {len(sums)} checksums of 40 files, tensors equal: {equal}")
raise SystemExit(0 if len(sums) == 2 and equal else 1)
END
if venv/bin/python order.py; then
  echo "as found: the order of the metadata changes, the tensors do not"
else
  echo "behaviour changed"; exit 1
fi
