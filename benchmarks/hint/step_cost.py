"""What Hessian probes cost: time and memory of a training step with them against the energy-force step.

    python -m benchmarks.hint.step_cost

Every step is the trainer's own: energies, forces and stresses of a batch, probes of Hessians, clipping,
optimiser, averaged weights; float64, one thread. CPU times are the least of interleaved repetitions in one
run; memory is the growth of the resident memory at the highest point of a step, each in a process of its own.

Cases: "as H3S is trained" has eight frames of the shipped labels and the Hessian of a folded cell beside
them; in the others every structure of the batch has energy, forces and a Hessian, and every Hessian is
probed in every step. Labels of those are arbitrary numbers, which the cost does not depend on.
Table, figure and numbers go to benchmarks/results/hint_step_cost.*.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from benchmarks.curvature.measure import peak_megabytes
from benchmarks.h3s_training import LABELS, ROOT, h3s_network
from himlip_ase.files import write_json
from himlip_ase.hint.training.folding import fold_hessian
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.pipeline.labels import LabelFolder
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

RESULTS = ROOT / "benchmarks" / "results" / "hint_step_cost"
LIMIT = 2.2
PEER = {1: 2.1, 2: 3.5, 4: 5.6}
"""HORM's AlphaNet, 16 molecules, steps with one-hot columns: notes on the peers' cost."""
MOLECULES = (
    "CH3CH2OH", "CH3COCH3", "C4H4NH", "CH3CONH2", "C3H4_D2d", "CH3NO2", "H2CCHCN", "CH3OCH3",
    "C4H4O", "CH3CHO", "HCOOCH3", "C2H6NH", "CH2NHCH2", "C3H6_D3h", "CH3COOH", "C2H6CHOH",
)  # fmt: skip
CHANNELS = (8, 16, 32)
KINDS = {"difference of forces": "difference", "third derivative": "exact"}


@dataclass(frozen=True)
class Row:
    """One way to make a step."""

    case: str
    structures: int
    atoms: int
    parameters: int
    probes: int | str
    products: str
    ms: float
    megabytes: float
    time_ratio: float = 1.0
    memory_ratio: float = 1.0


@dataclass(frozen=True)
class Case:
    """Frames and Hessians of a step, and the network."""

    name: str
    network: HiMLIPConfig
    frames: list[LabelledFrame]
    hessians: list[HessianLabel]
    probes: tuple[int | str, ...] = (1, 2, 4)

    def trainer(self, probes: int | str, products: str) -> Trainer:
        """A trainer whose every step takes all frames, and all Hessians with so many probes."""
        settings = TrainingSettings(
            batch_size=len(self.frames),
            hessian_batch=max(len(self.hessians), 1),
            probe="full" if probes == "full" else "rademacher",
            probes=probes if isinstance(probes, int) and probes else 1,
            hessian_products=products,  # type: ignore[arg-type]
            device="cpu",
        )
        model = HiMLIP(self.network, seed=0)
        trainer = Trainer(model, self.frames, self.hessians if probes else [], settings)
        model.standardise(trainer.store.batch(range(len(self.frames))).graph)
        for layer in model.layers:  # an untrained readout is zero, and with it much of the work
            torch.nn.init.normal_(layer.readout.weight, std=0.1)  # type: ignore[union-attr, arg-type]
        return trainer

    def ways(self) -> list[tuple[int | str, str]]:
        """Numbers of probes and kinds of products; no probes first."""
        return [(0, "difference of forces")] + [(n, kind) for n in self.probes for kind in KINDS]

    def step(self, probes: int | str, kind: str) -> Callable[[], object]:
        """A training step."""
        trainer, chunk = self.trainer(probes, KINDS[kind]), list(range(len(self.frames)))
        return lambda: trainer.take_step(chunk, 0.5)


def labelled(images: list[Atoms]) -> tuple[list[LabelledFrame], list[HessianLabel]]:
    """Arbitrary labels, Hessians among them."""
    rng = np.random.default_rng(0)
    frames, hessians = [], []
    for atoms in images:
        n = len(atoms)
        stress = rng.normal(size=6) if atoms.pbc.all() else None
        frames.append(LabelledFrame(atoms, rng.normal(), rng.normal(size=(n, 3)), stress, set="cost"))
        hessians.append(HessianLabel(atoms, rng.normal(size=(n, 3, n, 3)), "cost"))
    return frames, hessians


def cells(count: int, repeats: tuple[int, int, int]) -> list[Atoms]:
    """Rattled cells of H3S."""
    crystal, rng = LabelFolder(LABELS).crystal.repeat(repeats), np.random.default_rng(1)
    images = [crystal.copy() for _ in range(count)]
    for atoms in images:
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    return images


def cases() -> list[Case]:
    """What is measured."""
    names = ("rattle040", "rattle013", "quantum4", "softmode", "cells8", "quantum8", "cells16")
    frames = [read_labels(LABELS / f"{name}.extxyz")[0] for name in names]
    frames.append(read_labels(LABELS / "rattle040.extxyz")[1])
    folded = fold_hessian(read_hessian(LABELS / "harmonic"))[:1]
    organic = HiMLIPConfig(("H", "C", "N", "O"), channels=16, hidden=64)
    found = [
        Case("as H3S is trained", h3s_network(), frames, folded),
        Case("8 cells of 8 atoms", h3s_network(), *labelled(cells(8, (2, 1, 1)))),
        Case("16 molecules", organic, *labelled([molecule(name) for name in MOLECULES])),
        Case("1 cell of 8 atoms", h3s_network(), *labelled(cells(1, (2, 1, 1))), (1, 2, 4, "full")),
    ]
    for channels in CHANNELS:
        own = h3s_network(channels=channels, hidden=4 * channels)
        name = f"1 cell of 32 atoms, {channels} channels"
        found.append(Case(name, own, *labelled(cells(1, (2, 2, 2))), (1,) if channels != 16 else (1, 2, 4)))
    return found


def megabytes(case: Case, probes: int | str, kind: str) -> float:
    """Growth of the memory of a process of its own in a step."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(peak_megabytes(case.step(probes, kind))))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{case.name}, {probes} probes: the process ended with {process.exitcode}")
    return float(receiver.recv())


def measure(case: Case, seconds: float, memory: list[float]) -> list[Row]:
    """Interleaved timings of all ways."""
    ways = case.ways()
    steps = [case.step(*way) for way in ways]
    best = [float("inf")] * len(ways)
    for step in steps:
        step()
    stop = time.process_time() + seconds
    rounds = 0
    while rounds < 3 or time.process_time() < stop:
        for k, step in enumerate(steps):
            start = time.process_time()
            step()
            best[k] = min(best[k], time.process_time() - start)
        rounds += 1
    parameters = HiMLIP(case.network).n_parameters
    atoms = sum(len(frame.atoms) for frame in case.frames)
    rows = [
        Row(case.name, len(case.frames), atoms, parameters, probes, kind, 1e3 * t, mb)
        for (probes, kind), t, mb in zip(ways, best, memory, strict=True)
    ]
    first = rows[0]
    return [replace(r, time_ratio=r.ms / first.ms, memory_ratio=r.megabytes / first.megabytes) for r in rows]


def markdown(rows: list[Row]) -> str:
    """The table of the results page."""
    lines = [
        "# Cost of Hessian probes in training",
        "",
        "`python -m benchmarks.hint.step_cost`: whole training steps, float64, one thread; least CPU time of",
        "interleaved repetitions, peak memory each in its own process. Ratios are to the step with energies,",
        f"forces and stresses alone. Asked for: one probe at most {LIMIT} times, in time and memory.",
        "Products by difference go through the network together with the frames; third derivatives one",
        "structure after the other.",
        "",
        "| case | structures, atoms | parameters | probes | product by | ms | MB | time | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        what = row.products if row.probes else "(energy-force step)"
        lines.append(
            f"| {row.case} | {row.structures}, {row.atoms} | {row.parameters // 1000} k | {row.probes} "
            f"| {what} | {row.ms:.0f} | {row.megabytes:.0f} | {row.time_ratio:.2f} | {row.memory_ratio:.2f} |"
        )
    one = [row for row in rows if row.probes == 1 and row.products == "difference of forces"]
    times, memories = [r.time_ratio for r in one], [r.memory_ratio for r in one]
    exact = [row for row in rows if row.probes == 1 and row.products == "third derivative"]
    held = "held" if max(times + memories) <= LIMIT else "not held everywhere"
    lines += [
        "",
        f"One probe, measured: {min(times):.2f} to {max(times):.2f} times the time and {min(memories):.2f} "
        f"to {max(memories):.2f} times the memory: the limit of {LIMIT} is {held}. By third derivatives: "
        f"{min(r.time_ratio for r in exact):.2f} to {max(r.time_ratio for r in exact):.2f} and "
        f"{min(r.memory_ratio for r in exact):.2f} to {max(r.memory_ratio for r in exact):.2f}.",
        "Steps of HORM's AlphaNet on 16 molecules with 1, 2 and 4 columns cost about "
        f"{', '.join(str(v) for v in PEER.values())} energy-force steps.",
    ]
    return "\n".join(lines) + "\n"


def figure(rows: list[Row], path: Path) -> None:
    """Ratios against the number of probes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, both = plt.subplots(1, 2, figsize=(8.5, 3.8), layout="constrained", sharey=True)
    shown = [n for n in dict.fromkeys(r.case for r in rows) if "channels" not in n or "16 channels" in n]
    for axes, attribute in zip(both, ("time_ratio", "memory_ratio"), strict=True):
        for place, name in enumerate(shown):
            for kind, style in zip(KINDS, ("o-", "o:"), strict=True):
                own = [r for r in rows if r.case == name and r.products == kind and r.probes in (1, 2, 4)]
                label = name if style == "o-" else None
                axes.plot([r.probes for r in own], [getattr(r, attribute) for r in own], style,
                          color=f"C{place}", ms=4, label=label)  # fmt: skip
        axes.axhline(LIMIT, color="0.6", lw=0.8)
        axes.plot([], [], "k:", label="by third derivatives")
        axes.set(xlabel="probes of every Hessian", xticks=(1, 2, 4), ylim=(0, None))
    both[0].plot(list(PEER), list(PEER.values()), "kx", label="HORM's AlphaNet, 16 molecules")
    both[0].set(ylabel="energy-force steps", title="time")
    both[1].set(title="memory")
    both[0].legend(frameon=False, fontsize=7)
    both[0].figure.savefig(path, dpi=150)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep-memory", action="store_true", help="take the memory from the last run")
    parser.add_argument("--seconds", type=float, default=6.0, help="CPU seconds of timings a case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    todo = cases()
    if arguments.keep_memory:
        known = {
            (r["case"], r["probes"], r["products"]): r["megabytes"]
            for r in json.loads(RESULTS.with_suffix(".json").read_text(encoding="utf-8"))["rows"]
        }
        memory = [[known[case.name, *way] for way in case.ways()] for case in todo]
    else:  # forked before this process has differentiated anything, as torch demands
        memory = [[megabytes(case, *way) for way in case.ways()] for case in todo]
    rows: list[Row] = []
    for case, own in zip(todo, memory, strict=True):
        rows += measure(case, arguments.seconds, own)
        print("\n".join(str(row) for row in rows[-len(own) :]), flush=True)
    write_json(RESULTS.with_suffix(".json"), {"rows": [asdict(row) for row in rows]}, overwrite=True)
    RESULTS.with_suffix(".md").write_text(markdown(rows), encoding="utf-8")
    figure(rows, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
