"""Softest modes of large crystals by products, against their exact values from force constants.

    python -m benchmarks.curvature.lowest_modes --out benchmarks/results/curvature_lowest_modes

A perfect supercell has the modes of its commensurate q-points, which the symmetry-reduced force constants
give exactly; many are degenerate. A dense Hessian would need 3N products. CPU seconds of one thread, float64.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.curvature.structures import primitive, resident_gb
from himlip_ase import HiMLIPCalculator
from himlip_ase.vibrations.lowest_modes import lowest_modes


def row(calc: HiMLIPCalculator, size: int, modes: int) -> dict[str, float]:
    """Softest modes of a size×size×size supercell of H3S."""
    constants = calc.get_force_constants(primitive(), (size, size, size))
    exact = np.sort(constants.dynamical_matrices().frequencies().ravel())
    exact = np.delete(exact, np.argsort(np.abs(exact))[:3])[:modes]
    start = time.process_time()
    found = lowest_modes(constants.supercell, calc, modes)
    return {
        "atoms": len(constants.supercell),
        "modes": modes,
        "products": found.products,
        "dense_products": 3 * len(constants.supercell),
        "lowest_cm": float(found.frequencies[0]),
        "deviation_cm": float(np.abs(found.frequencies - exact).max()),
        "bound_cm": float(found.errors.max()),
        "cpu_s": time.process_time() - start,
        "process_gb": resident_gb(),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 6], help="5: 500 atoms, 6: 864")
    parser.add_argument("--modes", type=int, default=6)
    parser.add_argument("--model")
    parser.add_argument("--out", type=Path, help="files .json and .md; replaced")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    calc = HiMLIPCalculator(arguments.model, device="cpu")
    rows = [row(calc, size, arguments.modes) for size in arguments.sizes]
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(f"{line[name]:.4g}" for name in names) + " |" for line in rows]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.with_suffix(".json").write_text(
            json.dumps({"schema": 1, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )
        text = f"# Softest modes\n\n{(__doc__ or '').strip()}\n\n" + "\n".join(lines) + "\n"
        arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
