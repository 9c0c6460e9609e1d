"""What it costs to train a MACE with Hessian probes, beside our own network.

    python -m benchmarks.hint.mace_base

Whole training steps of the trainer on one rattled cell of H3S that has energy, forces, stress and a Hessian;
float64, one thread. CPU times are the least of interleaved repetitions in one run; memory is the growth of
resident memory at the highest point of a step, each in a process of its own. Weights and labels are
arbitrary, which the cost does not depend on. Needs mace-torch. Table and numbers go to
benchmarks/results/hint_mace_base.*.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.curvature.measure import peak_megabytes
from benchmarks.h3s_training import ROOT
from benchmarks.hint.step_cost import cells, labelled
from himlip_ase.files import write_json
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.potential.derivatives import hessian_vector_product
from himlip_ase.potential.evaluate import frozen
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.mace import MACEConfig, MACEPotential
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

RESULTS = ROOT / "benchmarks" / "results" / "hint_mace_base"
REPEATS = {4: (1, 1, 1), 8: (2, 1, 1), 32: (2, 2, 2)}


@dataclass(frozen=True)
class Row:
    """One network on one cell; units in the names."""

    network: str
    parameters: int
    cutoff_angstrom: float
    atoms: int
    product_ms: float
    step_ms: float
    difference_ms: float
    exact_ms: float
    step_mb: float
    difference_mb: float
    exact_mb: float


def ours() -> Potential:
    """The default network."""
    model = HiMLIP(HiMLIPConfig(("H", "S")), seed=0)
    for layer in model.layers:  # an untrained readout is zero, and with it much of the work
        torch.nn.init.normal_(layer.readout.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    return model


def mace(irreps: str, l_max: int, cutoff: float, elements: int = 2) -> Callable[[], Potential]:
    """A MACE of two layers and correlation three."""
    numbers = [1, 16, *(z for z in range(2, 90) if z != 16)][:elements]
    block = "RealAgnosticResidualInteractionBlock"
    arguments = {
        "r_max": cutoff, "num_bessel": 8, "num_polynomial_cutoff": 5, "max_ell": l_max,
        "interaction_cls": block, "interaction_cls_first": block, "num_interactions": 2,
        "num_elements": elements,
        "hidden_irreps": irreps, "MLP_irreps": "16x0e", "gate": "silu", "atomic_energies": [0.0] * elements,
        "avg_num_neighbors": 60.0, "atomic_numbers": sorted(numbers), "correlation": 3,
        "radial_type": "bessel", "atomic_inter_scale": 1.0, "atomic_inter_shift": 0.0, "heads": ["Default"],
        "readout_cls": "NonLinearReadoutBlock",
    }  # fmt: skip

    def build() -> Potential:
        from ase.data import chemical_symbols

        symbols = tuple(chemical_symbols[z] for z in sorted(numbers))
        return MACEPotential(MACEConfig(symbols, cutoff, "Default", arguments))

    return build


NETWORKS: dict[str, tuple[Callable[[], Potential], tuple[int, ...]]] = {
    "Hi-MLIP, default": (ours, (4, 8, 32)),
    "MACE 16x0e + 16x1o, l ≤ 2": (mace("16x0e + 16x1o", 2, 4.5), (8, 32)),
    "MACE 32x0e + 32x1o, l ≤ 2": (mace("32x0e + 32x1o", 2, 4.5), (8, 32)),
    "MACE 128x0e + 128x1o, l ≤ 3, 89 elements": (mace("128x0e + 128x1o", 3, 6.0, 89), (4,)),
}
"""The last has the shape of MACE-MP-0 medium."""


@cache
def network(name: str) -> Potential:
    """One of `NETWORKS`, built once."""
    return NETWORKS[name][0]()


def steps(model: Potential, atoms: int) -> list[Callable[[], object]]:
    """A product with the Hessian; training steps without probe, with one by differences, with one exact."""
    frames, hessians = labelled(cells(1, REPEATS[atoms]))
    found: list[Callable[[], object]] = []
    for labels, products in (([], "difference"), (hessians, "difference"), (hessians, "exact")):
        settings = TrainingSettings(batch_size=1, hessian_products=products, device="cpu")  # type: ignore[arg-type]
        trainer = Trainer(model, frames, labels, settings)
        found.append(lambda trainer=trainer: trainer.take_step([0], 0.5))  # type: ignore[misc]
    graph = trainer.hessians[0].graph
    vectors = torch.ones_like(graph.positions)

    def product() -> object:
        with frozen(model):
            return hessian_vector_product(model, graph, vectors)

    return [product, *found]


def megabytes(model: Potential, atoms: int, which: int) -> float:
    """Growth of the memory of a process of its own in a step."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(peak_megabytes(steps(model, atoms)[which])))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{atoms} atoms: the process ended with {process.exitcode}")
    return float(receiver.recv())


def milliseconds(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Least CPU time of each, taken in turn."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds + 1):
        for k, call in enumerate(calls):
            start = time.process_time()
            call()
            best[k] = min(best[k], time.process_time() - start)
    return [1e3 * t for t in best]


def markdown(rows: list[Row]) -> str:
    """The table of the results page."""
    lines = [
        "# Training a MACE with Hessian probes",
        "",
        "`python -m benchmarks.hint.mace_base`: whole training steps on one cell of H3S, float64, one",
        "thread; least CPU time of interleaved repetitions, peak memory each in its own process. Products",
        "of Hessians by differences of forces (the default) or by third derivatives; ratios are to the step",
        "with energy, forces and stress alone. H·v: a product without gradients for the weights, as phonons",
        "need it.",
        "",
        "| network | parameters | cutoff Å | atoms | H·v ms | E, F, S step | probe, differences | exact |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        size = f"{r.parameters / 1e6:.1f} M" if r.parameters > 1e6 else f"{r.parameters // 1000} k"
        cells_ = [
            f"{ms:.0f} ms ({ms / r.step_ms:.2f}×), {mb:.0f} MB ({mb / r.step_mb:.2f}×)"
            for ms, mb in ((r.difference_ms, r.difference_mb), (r.exact_ms, r.exact_mb))
        ]
        lines.append(
            f"| {r.network} | {size} | {r.cutoff_angstrom} | {r.atoms} | {r.product_ms:.0f} "
            f"| {r.step_ms:.0f} ms, {r.step_mb:.0f} MB | {cells_[0]} | {cells_[1]} |"
        )
    return "\n".join(lines) + "\n"


def earlier() -> list[Row]:
    """Rows of an earlier run."""
    path = RESULTS.with_suffix(".json")
    return [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.is_file() else []


def main() -> None:
    """Measure what was not measured before, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of every step")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--most", type=int, help="measure so many cases only; a later run goes on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [] if arguments.again else earlier()
    known = {(row.network, row.atoms) for row in rows}
    todo = [
        (name, atoms)
        for name, (_, sizes) in NETWORKS.items()
        for atoms in sizes
        if (name, atoms) not in known
    ][: arguments.most]
    # Forked before this process has differentiated anything, as torch demands.
    memory = [[megabytes(network(name), atoms, which) for which in (1, 2, 3)] for name, atoms in todo]
    for (name, atoms), own in zip(todo, memory, strict=True):
        model = network(name)
        times = milliseconds(steps(model, atoms), arguments.rounds)
        rows.append(Row(name, model.n_parameters, model.cutoff, atoms, *times, *own))
        print(rows[-1], flush=True)
        write_json(RESULTS.with_suffix(".json"), {"rows": [asdict(row) for row in rows]}, overwrite=True)
    RESULTS.with_suffix(".md").write_text(markdown(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
