#!/usr/bin/env bash
# The built wheel in an empty environment: the command, the calculator without arguments, the examples.
#   scripts/wheel_test.sh          with the dependencies of $PYTHON's environment; no network
#   scripts/wheel_test.sh full     with dependencies that pip installs, as a user would
set -euo pipefail
PYTHON=${PYTHON:-python3}
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/source"
cp -r "$checkout"/{himlip_ase,pyproject.toml,README.md,LICENSE} "$work/source"
find "$work/source" -name __pycache__ -prune -exec rm -rf {} +
"$PYTHON" -m pip wheel -q --no-deps --no-build-isolation -w "$work/dist" "$work/source"
rm -rf "$work/source"

"$PYTHON" -m venv "$work/env"
env_python="$work/env/bin/python"
if [ "${1:-}" = full ]; then
  "$env_python" -m pip install -q "$work"/dist/*.whl
else
  # other packages are found where $PYTHON has them; its own himlip-ase, an editable install, is not
  "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$env_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
  "$env_python" -m pip install -q --no-deps --no-index "$work"/dist/*.whl
fi

mkdir "$work/elsewhere"
cp -r "$checkout/examples" "$work/elsewhere"
cd "$work/elsewhere"
unset PYTHONPATH
export MPLBACKEND=Agg
"$work/env/bin/himlip" --version
"$work/env/bin/himlip" run --help > help.txt
grep -q "labels, finetune" help.txt
"$env_python" - "$work" <<'PYTHON'
import runpy
import sys
from pathlib import Path

import numpy as np
from ase.build import bulk

import himlip_ase

place = Path(himlip_ase.__file__)
assert place.is_relative_to(sys.argv[1]), f"{place} is not of the wheel"
atoms = bulk("PdH", "rocksalt", a=4.09)
atoms.rattle(0.05, seed=1)
atoms.calc = himlip_ase.HiMLIPCalculator()
forces = atoms.get_forces()
assert np.isfinite(forces).all() and np.abs(forces.sum(axis=0)).max() < 1e-8, forces
for example in sorted(Path("examples").glob("*.py")):
    print(f"== {example}", flush=True)
    runpy.run_path(str(example), run_name="__main__")
PYTHON
echo "the wheel works"
