"""Forces by compiled passes against plain torch: CPU time in turns, with equality of the values.

H3S supercells (Im-3m, rattled by 0.1 Å), himlip-h3s-1, neighbour lists built beforehand, stress not asked
for. The two ways take turns, so that whatever else the machine does falls on both; medians and the spread of
the ratio.

    python -m benchmarks.fused_forces --out benchmarks/results/fused_forces.json
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.force_calls import structures
from himlip_ase.files import write_json
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.fused.forces import FusedForces
from himlip_ase.potential.graph import Graph, build_graph

SIZES = ((1, 1), (1, 8), (4, 1), (32, 1))
"""(repetitions of the 32-atom cell along one axis, structures in the batch)."""


def recorded(model: torch.nn.Module, graph: Graph) -> torch.Tensor:
    """Forces by plain torch."""
    positions = graph.positions.detach().requires_grad_(True)
    with torch.enable_grad():
        energies = model(Graph(**{**vars(graph), "positions": positions}))
        return -torch.autograd.grad(energies.sum(), positions)[0]


def in_turns(calls: list[Callable[[], object]], rounds: int) -> np.ndarray:
    """CPU seconds, (rounds, calls)."""
    for call in calls:
        call()
    found = np.zeros((rounds, len(calls)))
    for row in found:
        for index, call in enumerate(calls):
            start = time.process_time()
            call()
            row[index] = time.process_time() - start
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model("himlip-h3s-1")
    passes = FusedForces(model)
    rows = []
    for repeats, batch in SIZES:
        images = [atoms.repeat((repeats, 1, 1)) for atoms in structures(batch)]
        graph = build_graph(images, model.elements, model.cutoff)
        with frozen(model):
            forces, known = passes(graph)[1], recorded(model, graph)
            seconds = in_turns(
                [lambda g=graph: recorded(model, g), lambda g=graph: passes(g)], arguments.rounds
            )
        ratio = seconds[:, 0] / seconds[:, 1]
        low, middle, high = np.percentile(ratio, [16, 50, 84])
        rows.append(
            {
                "atoms": len(images[0]),
                "structures": batch,
                "torch_ms": 1e3 * float(np.median(seconds[:, 0])) / batch,
                "fused_ms": 1e3 * float(np.median(seconds[:, 1])) / batch,
                "ratio": float(middle),
                "ratio_16_84": [float(low), float(high)],
                "largest_force_difference_ev_a": float((forces - known).abs().max()),
            }
        )
        print(
            "{atoms} atoms × {structures}: torch {torch_ms:.1f} ms, fused {fused_ms:.1f} ms a structure, "
            "ratio {ratio:.2f} ({ratio_16_84[0]:.2f}–{ratio_16_84[1]:.2f}), forces equal to "
            "{largest_force_difference_ev_a:.0e} eV/Å".format(**rows[-1])
        )
    if arguments.out:
        about = {
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "rounds": arguments.rounds,
        }
        write_json(arguments.out, {"about": about, "rows": rows}, overwrite=True)


if __name__ == "__main__":
    main()
