"""Study C: good Hessians that a potential of molecules needs, with and without pre-training on cheap ones.

    python benchmarks/hint/molecules.py --seeds 3

Cheap labels: energies, forces and Hessians of GFN2-xTB for all structures of
examples/molecules/labels/gfn2.h5. Good ones: ωB97X/6-31G(d), examples/molecules/labels/wb97x.h5, of which a
quarter (the same for all seeds) judges and trains nothing. Every fine-tuning sees the energies and forces of
all other structures, and the Hessians of a share of them; no early stopping, the averaged weights at the end
are judged. Seeds decide initial weights, order, probes, and which structures have Hessians; of pre-trained
networks there are as many as --pretrained says, used by the seeds in turn.

Parts: `share` (Hessians on 0 to 100 % of the structures, from a pre-trained network and from scratch) and
`weight` (few Hessians: growing against constant weight, for several final weights, with the held-out Hessian
error along the way). Table, figure and numbers: benchmarks/results/hint_molecules.*, rewritten after each
training; what is there already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from himlip_ase.files import write_json
from himlip_ase.hint.curriculum import Curriculum
from himlip_ase.hint.error_summary import Mean
from himlip_ase.hint.evaluate import evaluate_labels
from himlip_ase.hint.finetune import start_model
from himlip_ase.hint.hessian_errors import compare_hessians, means
from himlip_ase.hint.label_store import LabelStore
from himlip_ase.hint.labels import LabelledFrame
from himlip_ase.hint.losses import LossWeights
from himlip_ase.hint.settings import TrainingSettings
from himlip_ase.hint.training import Trainer
from himlip_ase.molecular_labels.gfn2 import GFN2
from himlip_ase.potential.checkpoint import load_model, save_model
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

ROOT = Path(__file__).parents[2]
LABELS = ROOT / "examples" / "molecules" / "labels"
RESULTS = ROOT / "benchmarks" / "results" / "hint_molecules"
NETWORK = HiMLIPConfig(("C", "H", "N", "O"), cutoff=4.0, channels=8, hidden=32, mean_neighbours=8.0)
SHARES = (0.0, 0.03, 0.1, 1.0)
SCARCE = 0.1
"""Share of the structures that have a Hessian in the part `weight`."""
WEIGHTS = (10.0, 100.0)
WEIGHT = 1.0
HELD_OUT = 0.25
POINTS = 10
"""How often the held-out Hessians are looked at during a training."""
RATES = (1e-3, 1.5e-3)
"""Learning rates of fine-tuning and of pre-training."""
JUDGES = 16
"""Cheap labels on which the progress of the pre-training is seen."""
STARTS = ("pre-trained", "scratch")
NOT_TUNED = "pre-trained, not fine-tuned"
CHEAP_METHOD = "GFN2-xTB itself"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One training; errors on the held-out structures, units in the names."""

    part: str
    start: str
    seed: int
    hessians: int
    curriculum: str
    weight: float
    cpu_seconds: float
    force_mae_mev_per_angstrom: float
    hessian_mae_ev_per_angstrom2: float
    eigenvalue_mae_ev_per_angstrom2: float
    lowest_mode_cosine: float
    sign_agreement: float
    trajectory: tuple[tuple[float, float], ...] = ()
    """Progress of the training, and root mean square error of the held-out Hessians' rows, eV/Å²."""

    @property
    def key(self) -> tuple:
        """What tells trainings apart."""
        return (self.part, self.start, self.seed, self.hessians, self.curriculum, self.weight)


@dataclass(frozen=True)
class Good:
    """The structures with good labels."""

    training: list[LabelledFrame]
    judging: list[LabelledFrame]

    @classmethod
    def read(cls) -> Good:
        """A quarter of them judges, the same for every seed."""
        frames = list(LabelStore(LABELS / "wb97x.h5"))
        order = np.random.default_rng(0).permutation(len(frames))
        held = round(HELD_OUT * len(frames))
        return cls([frames[k] for k in order[held:]], [frames[k] for k in order[:held]])

    def with_hessians(self, count: int, seed: int) -> list[LabelledFrame]:
        """The frames to train on, of which `count` keep their Hessian; more of them include the fewer."""
        kept = set(np.random.default_rng(seed).permutation(len(self.training))[:count].tolist())
        return [f if k in kept else replace(f, hessian=None) for k, f in enumerate(self.training)]


def settings(steps: int, frames: int, seed: int, weight: float, curriculum: str) -> TrainingSettings:
    """Settings of a training of about so many steps."""
    batch = 8
    epochs = max(POINTS, round(steps / -(-frames // batch)))
    return TrainingSettings(
        epochs=epochs, batch_size=batch, hessian_batch=batch, seed=seed, device="cpu",
        validate_every=max(1, epochs // POINTS), learning_rate=RATES[curriculum == "pre-training"],
        ema=0.98, warmup_steps=50,
        loss=LossWeights(energy=1000.0, forces=30.0, stress=0.0, hessian=weight),
        curriculum=Curriculum("linear", 0.05, 1.0) if curriculum == "linear" else Curriculum("constant"),
    )  # fmt: skip


def train(
    base: HiMLIP | None,
    frames: Sequence[LabelledFrame],
    how: TrainingSettings,
    watched: Sequence[LabelledFrame],
) -> tuple[HiMLIP, float, tuple[tuple[float, float], ...]]:
    """Train without choosing by what is watched; model, CPU seconds, trajectory of the watched Hessians."""
    hessians = [f.hessian for f in frames if f.hessian is not None]
    start = time.process_time()
    model, _ = start_model(frames, hessians, base, NETWORK, how)
    judges = [f.hessian for f in watched if f.hessian is not None]
    trainer = Trainer(model, frames, hessians, how, validation_hessians=judges)
    progress = trainer.run()
    if not judges:
        return trainer.model, time.process_time() - start, ()
    found = [
        (row["epoch"] / progress.epoch, row["val_hessian"] ** 0.5)
        for row in progress.history
        if "val_hessian" in row
    ]
    return trainer.model, time.process_time() - start, tuple(found)  # type: ignore[return-value]


def pretrained(steps: int, seed: int, cache: Path, most: int) -> HiMLIP:
    """A network trained on the cheap labels; kept in `cache`."""
    path = cache / f"pretrained_{steps}_{seed}.safetensors"
    if not path.is_file():
        every = [f for f in LabelStore(LABELS / "gfn2.h5") if len(f.atoms) <= most]
        frames, held = every[JUDGES:], every[:JUDGES]
        how = settings(steps, len(frames), seed, WEIGHT, "pre-training")
        logger.info("pre-training on %d structures, %d epochs", len(frames), how.epochs)
        model, seconds, trajectory = train(None, frames, how, held)
        logger.info("held-out GFN2-xTB Hessians, rows, RMS error: %s", [round(v, 2) for _, v in trajectory])
        save_model(model, path, {"cpu_seconds": seconds}, overwrite=True)
    return load_model(path)


def judged(row: Row, model: HiMLIP, good: Good) -> Row:
    """`row` with its errors."""
    errors = evaluate_labels(model, [replace(f, set="held out") for f in good.judging])
    forces = errors.sets["held out"].forces
    assert forces is not None
    return filled(row, forces.mae, errors.means())


def filled(row: Row, force_mae: float, numbers: dict[str, Mean]) -> Row:
    """`row` with its figures."""
    return replace(
        row,
        force_mae_mev_per_angstrom=1e3 * force_mae,
        hessian_mae_ev_per_angstrom2=numbers["hessian MAE (eV/Å²)"].mean,
        eigenvalue_mae_ev_per_angstrom2=numbers["eigenvalue MAE (eV/Å²)"].mean,
        lowest_mode_cosine=numbers["lowest-mode cosine"].mean,
        sign_agreement=numbers["sign agreement"].mean,
    )


def of_the_cheap_method(row: Row, good: Good) -> Row:
    """Errors of GFN2-xTB against the good labels."""
    forces, errors = [], []
    for frame in good.judging:
        result = GFN2().calculate(frame.atoms, hessian=True)
        assert frame.hessian is not None and result.hessian is not None and frame.forces is not None
        forces.append(np.abs(result.forces - frame.forces).ravel())
        errors.append(compare_hessians(result.hessian, frame.hessian))
    return filled(row, float(np.concatenate(forces).mean()), means(errors))


def planned(part: str, seed: int, total: int) -> Iterator[Row]:
    """The trainings of a part, without their errors."""
    empty = Row(part, "", seed, 0, "linear", WEIGHT, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if part == "share":
        if not seed:
            yield replace(empty, start=CHEAP_METHOD)
            yield replace(empty, start=NOT_TUNED)
        counts = dict.fromkeys(min(total, int(np.ceil(share * total))) for share in SHARES)
        for count in counts:
            for start in STARTS:
                yield replace(empty, start=start, hessians=count)
    else:
        for weight in WEIGHTS:
            for curriculum in ("linear", "constant"):
                count = int(np.ceil(SCARCE * total))
                yield replace(empty, start=STARTS[0], hessians=count, weight=weight, curriculum=curriculum)


def performed(row: Row, good: Good, arguments: argparse.Namespace) -> Row:
    """Train and judge."""
    if row.start == CHEAP_METHOD:
        return of_the_cheap_method(row, good)
    base = None
    if row.start != "scratch":
        number = row.seed % arguments.pretrained
        base = pretrained(arguments.pretraining_steps, number, arguments.cache, arguments.most_atoms)
    frames = good.with_hessians(row.hessians, row.seed)
    how = settings(arguments.steps, len(frames), row.seed, row.weight, row.curriculum)
    watched = good.judging if row.part == "weight" else []
    if not watched:
        how = replace(how, validate_every=how.epochs)
    if row.start == NOT_TUNED:
        assert base is not None
        model, _ = start_model(frames, [], base, None, how)  # the elements' energies only
    else:
        model, seconds, trajectory = train(base, frames, how, watched)
        row = replace(row, cpu_seconds=seconds, trajectory=trajectory)
    row = judged(row, model, good)
    logger.info("%s", replace(row, trajectory=()))
    return row


def spread(rows: Sequence[Row], name: str, digits: int) -> str:
    """Mean ± standard deviation over the seeds."""
    values = [getattr(row, name) for row in rows]
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def table(rows: Sequence[Row], good: Good) -> str:
    """Markdown."""
    header = ["part", "start", "Hessians", "weight", "seeds", "Hessian MAE (eV/Å²)", "eigenvalue MAE (eV/Å²)"]
    header += ["force MAE (meV/Å)", "lowest mode, cosine", "signs right (%)", "rise of the Hessian error (%)"]
    lines = [
        f"{len(good.training)} structures to learn from, {len(good.judging)} held out.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for key in dict.fromkeys((r.part, r.start, r.hessians, r.curriculum, r.weight) for r in rows):
        own = [r for r in rows if (r.part, r.start, r.hessians, r.curriculum, r.weight) == key]
        part, start, count, curriculum, weight = key
        schedule = f"{weight:g}, {curriculum}" if start in STARTS else ""
        lines.append(
            f"| {part} | {start} | {count} | {schedule} | {len(own)} "
            f"| {spread(own, 'hessian_mae_ev_per_angstrom2', 3)} "
            f"| {spread(own, 'eigenvalue_mae_ev_per_angstrom2', 3)} "
            f"| {spread(own, 'force_mae_mev_per_angstrom', 0)} | {spread(own, 'lowest_mode_cosine', 3)} "
            f"| {100 * np.mean([r.sign_agreement for r in own]):.1f} | {rise(own)} |"
        )
    return "\n".join([*lines, ""])


def rise(rows: Sequence[Row]) -> str:
    """By how much the held-out Hessian error at the end exceeds its least value during the training."""
    shown = [r.trajectory for r in rows if r.part == "weight" and r.trajectory]
    ratios = [values[-1][1] / min(value for _, value in values) - 1 for values in shown]
    return f"{100 * np.mean(ratios):.1f}" if ratios else ""


def figure(rows: Sequence[Row], path: Path) -> None:
    """Error against the number of Hessians, against the weight, and along the training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for start, colour in zip(STARTS, ("C0", "C1"), strict=True):
        own = [r for r in rows if r.part == "share" and r.start == start]
        plot_means(left, own, "hessians", label=start, color=colour)
    left.set_xscale("symlog", linthresh=1)
    left.set(xlabel="ωB97X Hessians", ylabel="held-out Hessian MAE (eV/Å²)", yscale="log")
    left.legend(frameon=False)
    for curriculum, colour in (("linear", "C2"), ("constant", "C3")):
        own = [r for r in rows if r.part == "weight" and r.curriculum == curriculum]
        plot_means(middle, own, "weight", label=f"{curriculum} weight", color=colour)
        heaviest = [r for r in own if r.weight == max(q.weight for q in own)]
        for k, r in enumerate(heaviest):
            label = f"{curriculum}, weight {r.weight:g}" if not k else None
            right.plot(*zip(*r.trajectory, strict=True), color=colour, label=label)
    middle.set(xscale="log", xlabel="final weight of the Hessian", ylabel="held-out Hessian MAE (eV/Å²)")
    right.set(xlabel="progress of training", ylabel="held-out rows, RMS error (eV/Å²)", yscale="log")
    for axes in (middle, right):
        if axes.lines:
            axes.legend(frameon=False)
    left.figure.savefig(path, dpi=150)
    plt.close(left.figure)


def plot_means(axes, rows: Sequence[Row], name: str, **style: str) -> None:
    """Means over seeds with their spread."""
    values = sorted({getattr(r, name) for r in rows})
    groups = [[r.hessian_mae_ev_per_angstrom2 for r in rows if getattr(r, name) == v] for v in values]
    axes.errorbar(
        values, [np.mean(g) for g in groups], [np.std(g) for g in groups], marker="o", capsize=3, **style
    )


def write(rows: Sequence[Row], good: Good, what: dict) -> None:
    """Numbers, table and figure."""
    write_json(RESULTS.with_suffix(".json"), {**what, "rows": [asdict(r) for r in rows]}, overwrite=True)
    RESULTS.with_suffix(".md").write_text(table(rows, good), encoding="utf-8")
    figure(rows, RESULTS.with_suffix(".png"))


def earlier(what: dict) -> list[Row]:
    """Rows of an earlier run with the same settings and labels."""
    path = RESULTS.with_suffix(".json")
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    if {k: found.get(k) for k in what} != what:
        raise SystemExit(f"{path} was made with other settings or labels; move it away first")
    return [
        Row(**{**row, "trajectory": tuple(tuple(point) for point in row["trajectory"])})
        for row in found["rows"]
    ]


def main() -> None:
    """Run what is missing of the study."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("himlip_ase").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120, help="of each fine-tuning")
    parser.add_argument("--pretraining-steps", type=int, default=2000)
    parser.add_argument("--pretrained", type=int, default=1, help="networks, shared out among the seeds")
    parser.add_argument("--most-atoms", type=int, default=8, help="of a structure in the pre-training")
    parser.add_argument("--part", nargs="+", choices=("share", "weight"), default=["share", "weight"])
    parser.add_argument(
        "--cache", type=Path, default=Path("pretrained"), help="folder of pre-trained networks"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    good = Good.read()
    what = {
        "steps": arguments.steps, "pretraining_steps": arguments.pretraining_steps,
        "pretrained_networks": arguments.pretrained, "most_atoms": arguments.most_atoms,
        "training": len(good.training), "held_out": len(good.judging),
    }  # fmt: skip
    rows = earlier(what)
    for part in arguments.part:
        for seed in range(arguments.seeds):
            for row in planned(part, seed, len(good.training)):
                if row.key not in {r.key for r in rows}:
                    rows.append(performed(row, good, arguments))
                    write(rows, good, what)


if __name__ == "__main__":
    main()
