"""One side of `benchmarks/engine_page.py`: times tasks of the build that PYTHONPATH names, when told to.

Reads a task a line from standard input and writes its CPU seconds (bytes of "memory", seconds of
"arithmetic" at the rate of large matrix products, meV/Å of "error"); uses what every build since 06090d2 has.
By hand: `python -m benchmarks.engine_worker`, then a task such as ``forces 32``.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import read, write

from himlip_ase import HiMLIPCalculator
from himlip_ase.potential import derivatives
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.graph import build_graph

MODEL = "himlip-h3s-1"
LABELS = Path(__file__).resolve().parents[1] / "examples" / "h3s" / "labels_k12"
PRODUCTS = 8
TAUGHT = 100
"""Cells that a peer learns from the model."""
STEP_ANGSTROM = 0.005
EVERY = 16
"""Differences are taken of every so many coordinates, and the time counted as often."""
CELLS = {8: (2, 1, 1), 32: (2, 2, 2), 128: (8, 2, 2), 512: (8, 8, 2), 1024: (8, 8, 4), 4096: (16, 8, 8)}


def crystal(n_atoms: int) -> Atoms:
    """A rattled supercell of Im-3m H3S."""
    cell = 3.06484 / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = Atoms("SH3", cell=cell, scaled_positions=sites, pbc=True) * CELLS[n_atoms]
    atoms.positions += np.random.default_rng(0).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def differentiable(model: Any, graph: Any) -> Any:
    """What a training step differentiates by the weights."""
    if hasattr(derivatives, "trainable_derivatives"):
        return derivatives.trainable_derivatives(model, graph)
    return derivatives.energy_forces_stress(model, graph, create_graph=True)


class Side:
    """Models and tasks of one build."""

    def __init__(self) -> None:
        self.model, self.single = load_model(MODEL), load_model(MODEL).float()
        self.calculator = HiMLIPCalculator(MODEL, "cpu")

    def task(self, name: str) -> Callable[[], Any]:
        """What one name, "kind atoms", stands for."""
        kind, _, number = name.partition(" ")
        atoms = crystal(int(number))
        if kind in ("forces", "threads"):
            return lambda: evaluate(self.model, atoms, stress=False)
        if kind == "single":
            return lambda: evaluate(self.single, atoms, stress=False)
        if kind == "products":
            vectors = np.random.default_rng(1).normal(size=(PRODUCTS, len(atoms), 3))
            return lambda: self.calculator.hessian_vector_product(atoms, vectors)
        if kind == "hessian":
            return lambda: HiMLIPCalculator.get_hessians(self.calculator, [atoms])
        if kind == "differences":
            return lambda: [evaluate(self.model, image, stress=False) for image in displaced(atoms)]
        if kind == "graph":
            return lambda: build_graph(atoms, self.model.elements, self.model.cutoff)
        if kind in ("training", "memory"):
            return lambda: self.weights_gradient(atoms)
        raise SystemExit(f"no task {name!r}")

    def weights_gradient(self, atoms: Atoms) -> None:
        """Gradient of a loss of forces by the weights."""
        graph = build_graph(atoms, self.model.elements, self.model.cutoff)
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        differentiable(self.model, graph).forces.square().sum().backward()
        self.model.zero_grad()


def displaced(atoms: Atoms) -> list[Atoms]:
    """Some coordinates up and down."""
    images = []
    for index in range(0, 3 * len(atoms), EVERY):
        for sign in (1, -1):
            image = atoms.copy()
            image.positions.flat[index] += sign * STEP_ANGSTROM
            images.append(image)
    return images


def force_error(model: Any) -> float:
    """Of the validation frames, rms of the components in meV/Å."""
    frames = read(LABELS / "validation.extxyz", ":")
    found = evaluate(model, frames, stress=False).forces
    missed = np.concatenate(
        [(one - known.arrays["REF_forces"]).ravel() for one, known in zip(found, frames, strict=True)]
    )
    return 1e3 * float(np.sqrt(np.mean(missed**2)))


def teach(model: Any, path: str) -> None:
    """Write what the model says of rattled and strained cells, as labels."""
    random = np.random.default_rng(3)
    frames = []
    for index in range(TAUGHT):
        atoms = crystal(32)
        atoms.positions += random.normal(scale=0.02 + 0.15 * index / TAUGHT, size=atoms.positions.shape)
        atoms.set_cell(atoms.cell.array * (1 + random.uniform(-0.02, 0.02)), scale_atoms=True)
        frames.append(atoms)
    found = evaluate(model, frames)
    for atoms, energy, forces, stress in zip(
        frames, found.energies, found.forces, found.stresses, strict=True
    ):
        atoms.info |= {"REF_energy": float(energy), "REF_stress": stress}
        atoms.arrays["REF_forces"] = forces
    write(path, frames)


def memory_growth(side: Side, name: str) -> float:
    """By how much a task raises the largest memory that the process has had, in bytes."""
    side.task("training 8")()  # what is loaded once is no part of it
    task = side.task(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task()
    return 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def multiply_and_adds(model: Any, atoms: Atoms) -> float:
    """Those of the matrix products of a force call, forwards and back; all else is left out."""
    config, graph = model.config, build_graph(atoms, model.elements, model.cutoff)
    pairs, width = int(graph.mask.sum()), config.n_radial * config.edge_features
    channels, points = 4 * config.channels, 25  # one of each pair of quadrature points
    total = 0
    for index, layer in enumerate(model.layers):
        first, second = layer.network.first.weight, layer.network.second.weight
        atom = 2 * 16 * width * channels + 3 * points * 16 * channels + 2 * (first.numel() + second.numel())
        if index:
            atom += 2 * 16 * channels * config.edge_features + 2 * config.hidden * config.edge_features
        # density; by harmonics and by radial functions; what is heard, pulled and gathered
        pair = 3 * 16 * (width if index else config.n_radial)
        pair += (3 * 16 + 2 * config.n_radial) * config.edge_features if index else 0
        total += len(atoms) * atom + pairs * pair
    return float(total)


def rate() -> float:
    """Multiply-and-adds a second of a product of two matrices 512 × 512, the best of ten."""
    matrix = torch.rand(512, 512, dtype=torch.float64)
    seconds = []
    for _ in range(10):
        start = time.process_time()
        matrix @ matrix
        seconds.append(time.process_time() - start)
    return 512**3 / min(seconds)


def main() -> None:
    """Answer until there is nothing to read."""
    side, tasks = Side(), {}
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        torch.set_num_threads(2 if name.startswith("threads") else 1)
        if name.startswith("memory"):
            print(memory_growth(side, name), flush=True)
            continue
        if name.startswith("arithmetic"):
            ideal = multiply_and_adds(side.model, crystal(int(name.split()[1]))) / rate()
            print(ideal, flush=True)
            continue
        if name.startswith("teach"):
            teach(side.model, name.split()[1])
            print(0.0, flush=True)
            continue
        if name == "error":
            print(force_error(side.model), flush=True)
            continue
        if name not in tasks:
            tasks[name] = side.task(name)
        clock = time.perf_counter if name.startswith("threads") else time.process_time
        start = clock()
        tasks[name]()
        times = EVERY if name.startswith("differences") else 1
        print((clock() - start) * times, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
