"""One side of `benchmarks/engine_page.py`: times tasks of the build that PYTHONPATH names, when told to.

Reads a task a line from standard input and writes its CPU seconds; uses what every build since 06090d2 has.
By hand: `python -m benchmarks.engine_worker`, then a task such as ``forces 32``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ase import Atoms

from himlip_ase import HiMLIPCalculator
from himlip_ase.potential import derivatives
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.graph import build_graph

MODEL = "himlip-h3s-1"
PRODUCTS = 8
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
        if kind == "training":
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


def main() -> None:
    """Answer until there is nothing to read."""
    side, tasks = Side(), {}
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        torch.set_num_threads(2 if name.startswith("threads") else 1)
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
