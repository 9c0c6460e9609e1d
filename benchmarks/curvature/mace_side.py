"""MACE's side of the curvature benchmark, run by peers.py with the interpreter that has mace-torch.

    python -m benchmarks.curvature.mace_side forces 8 32 108

A random MACE (32x0e + 32x1o, l ≤ 2, correlation 3, two layers, 4.5 Å): weights do not change the cost.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.curvature.structures import measure, rattled, report

CUTOFF, NUMBERS = 4.5, [1, 16]


def calculator(
    hidden: str = "32x0e + 32x1o",
    max_ell: int = 2,
    cutoff: float = CUTOFF,
    bessel: int = 8,
    numbers: Sequence[int] = NUMBERS,
) -> Any:
    """ASE calculator of a random model."""
    # e3nn ships its constants as a pickle that holds a slice, which safe loading must be told to allow
    with torch.serialization.safe_globals([slice]):
        from e3nn import o3
        from mace import modules
    from mace.calculators import MACECalculator

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=bessel,
        num_polynomial_cutoff=5,
        max_ell=max_ell,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=60.0,
        atomic_numbers=list(numbers),
        correlation=3,
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    return MACECalculator(models=[model], device="cpu", default_dtype="float64")


def main() -> None:
    """Measure one task for some numbers of atoms."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    task, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
    calc = calculator()

    def prepare(n_atoms: int) -> Callable[[], Any]:
        atoms = rattled(n_atoms)

        def call() -> None:
            if task == "hessian":
                calc.get_hessian(atoms)
            else:
                # its ASE calculator computes the stress always; the model can do without
                batch = calc._atoms_to_batch(atoms).to_dict()
                calc.models[0](batch, compute_force=True, compute_stress=task == "stress")

        return call

    report(measure(sizes, prepare, 1 if task == "hessian" else 3))


if __name__ == "__main__":
    main()
