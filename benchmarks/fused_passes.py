"""Forces and Hessian-vector products by compiled passes against plain torch: CPU time in turns, equal values.

H3S supercells (Im-3m, rattled by 0.1 Å), himlip-h3s-1, neighbour lists built beforehand, stress not asked
for. The two ways take turns, so that whatever else the machine does falls on both; medians and the spread of
the ratio.

    python -m benchmarks.fused_passes --out benchmarks/results/fused_passes.json
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
from himlip_ase.potential.fused.products import FusedProducts
from himlip_ase.potential.graph import Graph, build_graph

SIZES = ((1, 1), (1, 8), (4, 1), (32, 1))
"""(repetitions of the 32-atom cell along one axis, structures in the batch)."""


def recorded(model: torch.nn.Module, graph: Graph) -> torch.Tensor:
    """Forces by plain torch."""
    positions = graph.positions.detach().requires_grad_(True)
    with torch.enable_grad():
        energies = model(Graph(**{**vars(graph), "positions": positions}))
        return -torch.autograd.grad(energies.sum(), positions)[0]


def recorded_product(model: torch.nn.Module, graph: Graph) -> Callable[[torch.Tensor], torch.Tensor]:
    """Hessian-vector products by plain torch, the gradient recorded once."""
    positions = graph.positions.detach().requires_grad_(True)
    with torch.enable_grad():
        energies = model(Graph(**{**vars(graph), "positions": positions}))
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
    return lambda vector: torch.autograd.grad(gradient, positions, vector, retain_graph=True)[0]


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
        vector = torch.randn(
            graph.positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        with frozen(model):
            forces, known = passes(graph)[1], recorded(model, graph)
            product, known_product = FusedProducts(passes, graph), recorded_product(model, graph)
            error = float((product(vector) - known_product(vector)).abs().max())
            ways = {
                "torch_force": lambda g=graph: recorded(model, g),
                "fused_force": lambda g=graph: passes(g),
                "torch_product": lambda one=known_product, v=vector: one(v),
                "fused_product": lambda one=product, v=vector: one(v),
            }
            seconds = dict(zip(ways, in_turns(list(ways.values()), arguments.rounds).T, strict=True))
        row = {"atoms": len(images[0]), "structures": batch}
        row |= {f"{name}_ms": 1e3 * float(np.median(found)) / batch for name, found in seconds.items()}
        for name, above, below in (
            ("force_ratio", "torch_force", "fused_force"),
            ("product_ratio", "torch_product", "fused_product"),
            ("product_in_force_calls", "fused_product", "fused_force"),
        ):
            row[name] = np.percentile(seconds[above] / seconds[below], [16, 50, 84]).round(3).tolist()
        row["largest_force_difference_ev_a"] = float((forces - known).abs().max())
        row["largest_product_difference_ev_a"] = error
        rows.append(row)
        forces_ms = f"{row['torch_force_ms']:.1f} → {row['fused_force_ms']:.1f} ms a structure"
        print(
            f"{row['atoms']} atoms × {batch}: forces {forces_ms} ({row['force_ratio'][1]:.2f} times)",
            end="; ",
        )
        print(f"products {row['product_ratio'][1]:.2f} times", end=", ")
        print(f"{row['product_in_force_calls'][1]:.2f} force calls each")
    if arguments.out:
        about = {
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "rounds": arguments.rounds,
        }
        write_json(arguments.out, {"about": about, "rows": rows}, overwrite=True)


if __name__ == "__main__":
    main()
