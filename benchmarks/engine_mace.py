"""MACE's side of `benchmarks/engine_page.py`: force calls of random networks; runs where mace-torch is.

    python -m benchmarks.engine_page --before FOLDER --mace-python ENVIRONMENT/bin/python

The page starts it as ``python -m benchmarks.engine_mace`` there.  Weights do not change the cost, so that no
file of weights is needed: a network of the size of MACE-MP-0 small (128x0e, l ≤ 3, 6 Å, 89 elements) and one
of the size of himlip-h3s-1 (32x0e + 32x1o, l ≤ 2, 4.5 Å).  Writes their names as one line of JSON, then
answers every number of a network that it reads with the CPU seconds of a force call of 32 atoms.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings

from benchmarks.curvature.mace_side import calculator
from benchmarks.curvature.structures import rattled

ATOMS = 32
SMALL = {"hidden": "128x0e", "max_ell": 3, "cutoff": 6.0, "bessel": 10, "numbers": list(range(1, 90))}
NETWORKS = {"size of MP-0 small": SMALL, "size of himlip-h3s-1": {}}


def main() -> None:
    """Make the networks, then answer until there is nothing to read."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    calculators = [calculator(**size) for size in NETWORKS.values()]
    print(json.dumps([{"name": f"MACE, {name}"} for name in NETWORKS]), file=answers, flush=True)
    atoms = rattled(ATOMS)
    for line in sys.stdin:
        calc = calculators[int(line)]
        start = time.process_time()
        batch = calc._atoms_to_batch(atoms).to_dict()
        calc.models[0](batch, compute_force=True, compute_stress=False)
        print(time.process_time() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
