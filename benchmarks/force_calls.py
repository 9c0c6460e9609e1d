"""CPU time of a force call: Hi-MLIP, and MACE beside it where mace-torch is installed.

32 atoms of H3S (2×2×2 Im-3m, rattled by 0.1 Å), float64, one thread, neighbour lists included, stress not.

    python -m benchmarks.force_calls --model himlip-h3s-1 --out benchmarks/results/force_calls.json

Without --model the default network with untrained weights is timed, which costs the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms

LATTICE_ANGSTROM = 3.06484
BATCHES = (1, 8, 32)


def structures(count: int, seed: int = 0) -> list[Atoms]:
    """Rattled 32-atom supercells of Im-3m H3S at 150 GPa."""
    primitive = Atoms(
        "SH3",
        cell=LATTICE_ANGSTROM / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        pbc=True,
    )
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = primitive * (2, 2, 2)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        found.append(atoms)
    return found


def cpu_ms_per_call(call: Callable[[list[Atoms]], Any], batch: int, repeats: int) -> float:
    """CPU milliseconds per structure, the least of some repetitions after a warm-up."""
    images = structures(batch)
    call(images)
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call(images)
        best = min(best, time.process_time() - start)
    return 1000 * best / batch


def himlip_row(path: str | None, repeats: int) -> dict[str, Any]:
    """Timings of a Hi-MLIP model."""
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.evaluate import evaluate
    from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

    model = load_model(path) if path else HiMLIP(HiMLIPConfig(("H", "S")))
    times = {
        batch: cpu_ms_per_call(lambda images: evaluate(model, images, stress=False), batch, repeats)
        for batch in BATCHES
    }
    name = f"Hi-MLIP ({Path(path).stem})" if path else "Hi-MLIP (untrained)"
    return {"name": name, "parameters": model.n_parameters, "cutoff_angstrom": model.cutoff, "cpu_ms": times}


def mace_row(repeats: int) -> dict[str, Any]:
    """Timings of a random MACE with 32x0e + 32x1o, l ≤ 2, two layers and a cutoff of 4.5 Å."""
    # e3nn ships its constants as a pickle that holds a slice, which safe loading must be told to allow
    with torch.serialization.safe_globals([slice]):
        from e3nn import o3
        from mace import data, modules, tools
    from mace.tools import torch_geometric

    torch.set_default_dtype(torch.float64)
    cutoff, numbers = 4.5, [1, 16]
    model = modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("32x0e + 32x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=60.0,
        atomic_numbers=numbers,
        correlation=3,
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    table = tools.AtomicNumberTable(numbers)

    def call(images: Sequence[Atoms]) -> None:
        keys = data.KeySpecification()
        graphs = [
            data.AtomicData.from_config(data.config_from_atoms(a, key_specification=keys), table, cutoff)
            for a in images
        ]
        batch = next(iter(torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs))))
        model(batch.to_dict(), compute_force=True, compute_stress=False)

    times = {batch: cpu_ms_per_call(call, batch, repeats) for batch in BATCHES}
    count = sum(parameter.numel() for parameter in model.parameters())
    return {"name": "MACE (32x0e + 32x1o)", "parameters": count, "cutoff_angstrom": cutoff, "cpu_ms": times}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    head = f"{'CPU ms per force call, 32 atoms of H3S':<40}{'parameters':>11}{'cutoff Å':>9}"
    lines = [head + "".join(f"{f'{batch} in batch':>13}" for batch in BATCHES)]
    for row in rows:
        lines.append(
            f"{row['name']:<40}{row['parameters']:>11}{row['cutoff_angstrom']:>9.2f}"
            + "".join(f"{row['cpu_ms'][batch]:>13.1f}" for batch in BATCHES)
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="Hi-MLIP model, name or path; repeatable")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-mace", action="store_true", help="Hi-MLIP only")
    parser.add_argument("--no-himlip", action="store_true", help="MACE only (in an environment of its own)")
    parser.add_argument("--out", type=Path, help="JSON file, which is replaced")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = (
        [] if arguments.no_himlip else [himlip_row(m, arguments.repeats) for m in arguments.model or [None]]
    )
    if not arguments.no_mace:
        try:
            rows.append(mace_row(arguments.repeats))
        except ImportError as error:
            print(f"MACE is left out: {error}", file=sys.stderr)
    print(table(rows))
    if arguments.out:
        report = {
            "schema": 1,
            "what": "CPU milliseconds per structure of a force call, 32-atom H3S, float64, one thread",
            "machine": {
                "processor": platform.machine(),
                "torch": torch.__version__,
                "python": sys.version.split()[0],
            },
            "rows": rows,
        }
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
