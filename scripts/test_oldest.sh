#!/usr/bin/env bash
# The oldest versions of the dependencies that pyproject.toml promises, in an environment of their own, with a part of the tests.
# torch is that of $PYTHON's environment: 2.13.0 is the only build that was ever tried.
set -euo pipefail
PYTHON=${PYTHON:-python3}
versions=(
  ase==3.26.0
  h5py==3.11.0
  matplotlib==3.10.0
  numpy==2.0.0
  phonopy==4.8.6
  pydantic==2.7.0
  PyYAML==6.0.0
  rich==13.0.0
  safetensors==0.4.3
  scipy==1.15.0
  seekpath==2.1.0
  spglib==2.5.0
  symfc==1.7.0
  typer==0.16.0
  vesin==0.6.2
  pytest==8.0.0
)
tests=(tests/test_calculator.py tests/phonons tests/symmetry tests/dft/test_inputs.py tests/dft/test_progress.py
  tests/pipeline/test_stages.py tests/pipeline/test_change_and_resume.py)
checkout=$(cd "$(dirname "$0")/.." && pwd)
cd "$checkout"
env=${OLDEST_ENV:-$(mktemp -d)/env}
[ -x "$env/bin/python" ] || "$PYTHON" -m venv "$env"
"$env/bin/python" -m pip install -q --only-binary :all: "${versions[@]}"
"$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  > "$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/others.pth"
PYTHONPATH="$checkout" "$env/bin/python" -m pytest -q -m "not slow" "${@:-${tests[@]}}"
