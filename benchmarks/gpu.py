"""Checks and costs of everything on a graphics card.

    python -m benchmarks.gpu --out benchmarks/results/gpu

Plain torch on CUDA, himlip-h3s-1: the conformance suite; energies, forces, stresses, products and Hessians
against the CPU in float64; times of force calls from 32 to 16 384 atoms, of batches as the SSCHA draws them,
of training steps and of Hessians; MACE of the same size beside, where mace-torch is installed. Less than
eight minutes on one card. Sections that stand in OUT.json already are not run again (--again runs all).
Where there is no card it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.force_calls import structures
from himlip_ase import HiMLIPCalculator
from himlip_ase.files import atomic_write, read_json, write_json
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.dense_hessian import dense_hessian
from himlip_ase.potential.derivatives import energy_forces_stress, hessian_vector_product
from himlip_ase.potential.evaluate import evaluate, frozen
from himlip_ase.potential.graph import build_graph

MODEL = "himlip-h3s-1"
EQUAL = 1e-10
"""Largest difference from the CPU in float64, relative to the largest value."""


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes
    ----------
    atoms : tuple of int
        Of single force calls; multiples of 32.
    populations : tuple of int
        Structures of 32 atoms in one call.
    hessians : tuple of int
        Atoms; multiples of 32.
    training : tuple of int
        Structures of 32 atoms in a step.
    repeats : int
    checks : tuple of str or None
        Conformance checks; all by default.
    """

    atoms: tuple[int, ...] = (32, 128, 512, 2048, 8192, 16384)
    populations: tuple[int, ...] = (32, 256, 1024)
    hessians: tuple[int, ...] = (32, 128)
    training: tuple[int, ...] = (8, 32)
    repeats: int = 5
    checks: tuple[str, ...] | None = None


def seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median wall time of a call after a warm-up, work on the card included."""

    def finished() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    finished()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        finished()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def supercell(n_atoms: int) -> Any:
    """A rattled crystal of H3S."""
    return structures(1)[0].repeat((n_atoms // 32, 1, 1))


def conformance(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Checks that fail, of how many."""
    from himlip_ase.testing import check_calculator

    report = check_calculator(HiMLIPCalculator(MODEL, device), only=sizes.checks)
    failed = [check.name for check in report.checks if check.status == "failed"]
    return {"checks": len(report.checks), "failed": failed}


def equality(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Largest differences from the CPU, relative to the largest value, in float64."""
    found: dict[str, list[torch.Tensor]] = {}
    for where in (torch.device("cpu"), device):
        model = load_model(MODEL).to(where)
        graph = build_graph(supercell(32), model.elements, model.cutoff, device=where)
        vector = torch.randn(graph.positions.shape, generator=torch.Generator().manual_seed(0))
        with frozen(model):
            first = energy_forces_stress(model, graph)
            product = hessian_vector_product(model, graph, vector.to(graph.positions))
            values = {
                "energies": first.energies, "forces": first.forces, "stresses": first.stresses,
                "product": product, "hessian": dense_hessian(model, graph),
            }  # fmt: skip
        for name, value in values.items():
            found.setdefault(name, []).append(value.detach().cpu())
    differences = {name: float((a - b).abs().max() / a.abs().max()) for name, (a, b) in found.items()}
    return {"differences": differences, "equal": max(differences.values()) <= EQUAL}


def forces(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of a call with one structure, neighbour list included, and of the network alone."""
    rows = []
    for dtype in (torch.float64, torch.float32):
        model = load_model(MODEL).to(device=device, dtype=dtype)
        for n_atoms in sizes.atoms:
            atoms = supercell(n_atoms)
            graph = build_graph(atoms, model.elements, model.cutoff, device=device, dtype=dtype)
            with frozen(model):
                whole = seconds(lambda m=model, a=atoms: evaluate(m, a, stress=False), device, sizes.repeats)
                network = seconds(
                    lambda m=model, g=graph: energy_forces_stress(m, g, stress=False), device, sizes.repeats
                )
            row = {"dtype": str(dtype)[6:], "atoms": n_atoms}
            rows.append(row | {"ms": 1e3 * whole, "network_ms": 1e3 * network})
    return {"rows": rows}


def populations(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds a structure of batches of 32 atoms with stresses."""
    rows = []
    for dtype in (torch.float64, torch.float32):
        model = load_model(MODEL).to(device=device, dtype=dtype)
        for count in sizes.populations:
            images = structures(count)
            whole = seconds(lambda m=model, i=images: evaluate(m, i), device, max(1, sizes.repeats // 2))
            rows.append({"dtype": str(dtype)[6:], "structures": count, "ms_a_structure": 1e3 * whole / count})
    return {"rows": rows}


def training(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of the trainer's steps, without and with one probe of a Hessian a structure."""
    from benchmarks.hint.step_cost import labelled
    from himlip_ase.hint.training.settings import TrainingSettings
    from himlip_ase.hint.training.trainer import Trainer

    rows = []
    for count in sizes.training:
        frames, hessians = labelled(structures(count))
        for probes in (0, 1):
            settings = TrainingSettings(
                batch_size=count,
                hessian_batch=count,
                probes=1,
                device=str(device),
                hessian_products="difference",
            )
            trainer = Trainer(load_model(MODEL), frames, hessians if probes else [], settings)
            chunk = list(range(count))
            step = seconds(lambda t=trainer, c=chunk: t.take_step(c, 0.5), device, sizes.repeats)
            rows.append({"structures": count, "probes": probes, "ms": 1e3 * step})
    return {"rows": rows}


def hessians(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of a product, and of all of a Hessian at once."""
    model, rows = load_model(MODEL).to(device), []
    for n_atoms in sizes.hessians:
        graph = build_graph(supercell(n_atoms), model.elements, model.cutoff, device=device)
        vector = torch.ones_like(graph.positions)
        with frozen(model):
            product = seconds(
                lambda g=graph, v=vector: hessian_vector_product(model, g, v), device, sizes.repeats
            )
            dense = seconds(lambda g=graph: dense_hessian(model, g), device, max(1, sizes.repeats // 2))
        rows.append({"atoms": n_atoms, "product_ms": 1e3 * product, "dense_ms": 1e3 * dense})
    return {"rows": rows}


def mace(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Milliseconds of MACE's force calls of one structure, or why there are none."""
    try:
        from mace.calculators import mace_mp
    except ImportError as error:
        return {"left_out": str(error)}
    try:
        calculator = mace_mp("small", device=str(device), default_dtype="float64")
    except Exception as error:  # no network, no file
        return {"left_out": str(error)[:200]}
    rows = []
    for n_atoms in sizes.atoms[:4]:
        atoms = supercell(n_atoms)
        atoms.calc = calculator

        def call(atoms: Any = atoms) -> None:
            calculator.reset()
            atoms.get_forces()

        rows.append({"atoms": n_atoms, "ms": 1e3 * seconds(call, device, sizes.repeats)})
    return {"model": "mace-mp-0 small", "rows": rows}


SECTIONS: dict[str, Callable[[torch.device, Sizes], dict[str, Any]]] = {
    "conformance": conformance, "equality": equality, "forces": forces, "populations": populations,
    "hessians": hessians, "training": training, "mace": mace,
}  # fmt: skip


def measure(device: torch.device, sizes: Sizes, out: Path, again: bool = False) -> dict[str, Any]:
    """All sections that do not stand in the file yet; the file is written after each of them."""
    path = out.with_suffix(".json")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    found: dict[str, Any] = {"card": card, "torch": torch.__version__, "model": MODEL}
    if path.exists() and not again:
        known = read_json(path)
        if known["card"] == card:
            found |= known
    for name, section in SECTIONS.items():
        if name in found:
            continue
        start = time.perf_counter()
        found[name] = section(device, sizes) | {"seconds": round(time.perf_counter() - start, 1)}
        print(f"{name}: {json.dumps(found[name])}", flush=True)
        write_json(path, found, overwrite=True)
    with atomic_write(out.with_suffix(".md"), overwrite=True) as stream:
        stream.write(markdown(found))
    return found


def markdown(found: dict[str, Any]) -> str:
    """The sections as tables."""
    lines = [f"# Graphics card: {found['card']}", "", f"`python -m benchmarks.gpu`, torch {found['torch']}."]
    for name in SECTIONS:
        lines += ["", f"## {name}", ""]
        rows = found[name].get("rows")
        if rows:
            lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
            for row in rows:
                values = (
                    f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()
                )
                lines.append("| " + " | ".join(values) + " |")
        else:
            lines.append(json.dumps(found[name]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write, or say that there is no card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    parser.add_argument("--again", action="store_true", help="run sections that stand in the file already")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    os.environ.setdefault("HIMLIP_FUSED", "0")  # plain torch on the CPU, too
    torch.backends.cuda.matmul.allow_tf32 = False
    measure(device, Sizes(), arguments.out, arguments.again)


if __name__ == "__main__":
    main()
