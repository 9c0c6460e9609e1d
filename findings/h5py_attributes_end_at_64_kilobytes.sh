#!/usr/bin/env bash
# Guess: an HDF5 attribute holds a list of names of any length, as a dataset does; h5py moves large ones elsewhere.
# Found (h5py 3.16.0): from 64 kB on, writing it raises "object header message is too large"; with libver="latest" the same
#   list is written. 4000 names of nine letters fit, 9000 do not: what counts is 16 bytes a name, however short.
# Why it matters: names of sets, of species, of jobs are natural attributes of a file of labels, and a collection of many
#   molecules has a set for each. The file fails at its very end, when all frames are written.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
python3 -m venv venv
venv/bin/pip install -q h5py==3.16.0
cat > attributes.py <<'END'
import h5py

print("h5py", h5py.__version__, "HDF5", h5py.version.hdf5_version)


def fits(count, length, **options):
    with h5py.File("names.h5", "w", **options) as file:
        try:
            file.attrs["sets"] = ["x" * length] * count
        except OSError as error:
            print(f"{count} names of {length} letters, {options or 'default'}: {error}")
            return False
    print(f"{count} names of {length} letters, {options or 'default'}: written")
    return True


found = [fits(4000, 9), fits(9000, 9), fits(9000, 1), fits(4000, 300), fits(9000, 9, libver="latest")]
raise SystemExit(0 if found == [True, False, False, True, True] else 1)
END
if venv/bin/python attributes.py; then
  echo "as found: the number of names is limited, not their length"
else
  echo "behaviour changed"; exit 1
fi
