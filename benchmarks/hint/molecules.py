"""Study C: good Hessians that a potential of molecules needs, with and without pre-training on cheap ones.

    python -m benchmarks.hint.molecules                 # GFN2-xTB, then 0.1 to 100 % of the good Hessians
    python -m benchmarks.hint.molecules --part weight   # few Hessians: growing against constant weight

Cheap labels: energies, forces and Hessians of GFN2-xTB, examples/molecules/labels/gfn2.h5. Good ones:
ωB97X/6-31G(d), wb97x*.h5. Held out, the same for all seeds, are all structures of some molecules ("new": none
of their good labels is learnt from, though other structures of them are among the cheap ones) and some of the
other molecules' structures ("known"). Every fine-tuning sees energies and forces of all other structures, and
the Hessians of a share of them; a share of less than one structure is one column of the Hessians of a few.

No early stopping: the averaged weights at the end are judged. Learning rates (of the closed form: widths of
the noise) are chosen on a quarter of the structures to learn from, before anything held out is looked at.
Networks from scratch have their input statistics taken anew while they grow. Seeds decide initial weights,
order, probes, and which structures have Hessians; PRETRAINED says how many pre-trained networks the seeds use
in turn. These are kept in the folder `pretrained`. Table, figure and numbers: benchmarks/results/
hint_molecules.*, rewritten after each training; a run that is cut goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hint.columns import one_column
from benchmarks.hint.molecules_report import (
    CHEAP_METHOD,
    CLOSED_FORM,
    LONG_SCRATCH,
    NOT_TUNED,
    PRE_TRAINED,
    RESULTS,
    SCRATCH,
    write_report,
)
from benchmarks.hint.study import Study, parse_study
from himlip_ase.hint.evaluation.error_summary import Mean
from himlip_ase.hint.evaluation.evaluate import evaluate_labels
from himlip_ase.hint.evaluation.hessian_errors import HessianErrors, compare_hessians, means
from himlip_ase.hint.last_layer.closed_form import ClosedFormSettings, fit_closed_form
from himlip_ase.hint.last_layer.posterior import Noise
from himlip_ase.hint.training.curriculum import Curriculum
from himlip_ase.hint.training.input_statistics import InputStatistics
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import start_model
from himlip_ase.hint.training.trainer import Trainer
from himlip_ase.labels.frames import LabelledFrame
from himlip_ase.labels.molecules.xtb import GFN2
from himlip_ase.labels.products import HessianProducts
from himlip_ase.labels.store import LabelStore
from himlip_ase.potential.checkpoint import load_model, save_model
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

LABELS = Path(__file__).parents[2] / "examples" / "molecules" / "labels"
CACHE = Path("pretrained")
NETWORK = HiMLIPConfig(("C", "H", "N", "O"), cutoff=4.0, channels=16, hidden=48, mean_neighbours=8.0)
PRETRAINED = 1
PRETRAINING_STEPS = 4000
PRETRAINING_RATE = 2e-3
MOST_ATOMS = 8
"""Of a structure in the pre-training."""
STEPS = 200
LONGER = 4
"""How many times the steps of the others the longest training from scratch has."""
BATCH = 8
SHARES = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
SHARES_OF = {CLOSED_FORM: (0.0, 0.01, 0.1, 1.0), LONG_SCRATCH: (1.0,)}
"""Where they are others."""
SCARCE = 0.1
"""Share of the Hessians in the part `weight` and for the choice of rates."""
WEIGHT = 1.0
WEIGHTS = (0.3, 3.0, 30.0, 300.0)
RATES = {PRE_TRAINED: (3e-4, 1e-3, 3e-3), SCRATCH: (1e-3, 3e-3, 1e-2), CLOSED_FORM: (0.5, 1.0, 2.0)}
"""Learning rates, and multiples of `NOISE`, among which is chosen."""
NOISE = Noise(energy=0.05, forces=0.5, hessian=8.0)
NEW, KNOWN = 0.12, 0.15
"""Shares held out: structures of new molecules, and of the others."""
POINTS = 10
"""How often the held-out Hessians are looked at during a training of the part `weight`."""
WATCHED = 16
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Good:
    """The structures with good labels: `judging` are in the sets "known" and "new"."""

    training: list[LabelledFrame]
    judging: list[LabelledFrame]

    @classmethod
    def read(cls) -> Good:
        """Split them, always alike."""
        frames = [frame for path in sorted(LABELS.glob("wb97x*.h5")) for frame in LabelStore(path)]
        rng = np.random.default_rng(0)
        formulas = sorted({f.atoms.get_chemical_formula() for f in frames})
        new: set[str] = set()
        for place in rng.permutation(len(formulas)):
            if sum(f.atoms.get_chemical_formula() in new for f in frames) < NEW * len(frames):
                new.add(formulas[place])
        others = [f for f in frames if f.atoms.get_chemical_formula() not in new]
        logger.info("new molecules: %s", ", ".join(sorted(new)))
        judging = [replace(f, set="new") for f in frames if f.atoms.get_chemical_formula() in new]
        return cls(others, judging).part(KNOWN, rng)

    def part(self, share: float, rng: np.random.Generator) -> Good:
        """Hold a share of the structures to learn from out as well."""
        order = rng.permutation(len(self.training))
        held = round(share * len(order))
        judging = [replace(self.training[k], set="known") for k in order[:held]]
        return Good([self.training[k] for k in order[held:]], self.judging + judging)

    def choosing(self) -> Good:
        """Only what is learnt from, of which a quarter judges."""
        return Good(self.training, []).part(0.25, np.random.default_rng(1))

    def with_hessians(self, share: float, seed: int) -> tuple[list[LabelledFrame], list[HessianProducts]]:
        """Frames of which a share keep their Hessian; one column each of a few if that is less than one."""
        order = np.random.default_rng(seed).permutation(len(self.training)).tolist()
        sizes = [3 * len(f.atoms) for f in self.training]
        whole = round(share * len(order))
        kept = set(order[:whole])
        frames = [f if k in kept else replace(f, hessian=None) for k, f in enumerate(self.training)]
        if share and not whole:
            single = order[: math.ceil(share * sum(sizes))]
            labels = [self.training[k].hessian for k in single]
            return frames, [one_column(label, seed) for label in labels if label is not None]
        return frames, []


def settings(
    steps: int, frames: int, rate: float, seed: int, weight: float = WEIGHT, curriculum: str = "linear"
) -> TrainingSettings:
    """Settings of a training of about so many steps."""
    epochs = max(POINTS, round(steps / -(-frames // BATCH)))
    return TrainingSettings(
        epochs=epochs, batch_size=BATCH, hessian_batch=BATCH, seed=seed, device="cpu",
        validate_every=max(1, epochs // POINTS), learning_rate=rate, ema=0.98, warmup_steps=50,
        loss=LossWeights(energy=1000.0, forces=30.0, stress=0.0, hessian=weight),
        curriculum=Curriculum("linear", 0.05, 1.0) if curriculum == "linear" else Curriculum("constant"),
    )  # fmt: skip


def prepared(
    base: HiMLIP | None,
    frames: Sequence[LabelledFrame],
    columns: Sequence[HessianProducts],
    how: TrainingSettings,
    watched: Sequence[LabelledFrame] = (),
    folder: Path | None = None,
) -> Trainer:
    """What trains a pre-trained network, or one from scratch, whose statistics are then taken anew."""
    hessians = [f.hessian for f in frames if f.hessian is not None]
    model, _ = start_model(frames, hessians, base, NETWORK, how)
    judges = [f.hessian for f in watched if f.hessian is not None] or hessians[:1]
    if not watched:
        how = replace(how, validate_every=how.epochs)
    assert isinstance(model, HiMLIP)
    return Trainer(
        model, frames, [*hessians, *columns], how, folder=folder, validation_hessians=judges,
        statistics=InputStatistics(model, frames, how.seed) if base is None else None,
    )  # fmt: skip


def trained(trainer: Trainer, watched: bool) -> tuple[Potential, float, list[tuple[float, float]]]:
    """Model, CPU seconds, and root mean square error of the watched Hessians' rows along the training."""
    points = [(0.0, trainer.validate()["hessian"] ** 0.5)] if watched else []
    start = time.process_time()
    progress = trainer.run()
    seconds = time.process_time() - start
    if watched:
        points += [
            (row["epoch"] / progress.epoch, row["val_hessian"] ** 0.5)
            for row in progress.history
            if "val_hessian" in row
        ]
    return trainer.model, seconds, points


def pretrained(number: int) -> HiMLIP:
    """A network trained on the cheap labels; kept in `CACHE`."""
    name = f"molecules_{NETWORK.channels}_{NETWORK.hidden}_{PRETRAINING_STEPS}_{number}"
    path = CACHE / f"{name}.safetensors"
    if not path.is_file():
        frames = [f for f in LabelStore(LABELS / "gfn2.h5") if len(f.atoms) <= MOST_ATOMS]
        how = settings(PRETRAINING_STEPS, len(frames), PRETRAINING_RATE, number, curriculum="constant")
        logger.info("pre-training on %d structures, %d epochs", len(frames), how.epochs)
        trainer = prepared(None, frames, [], how, folder=CACHE / name)
        if trainer.checkpoint is not None and trainer.checkpoint.is_file():
            trainer.load()
        trained(trainer, watched=False)
        assert isinstance(trainer.model, HiMLIP)
        save_model(trainer.model, path, {"seconds": trainer.progress.elapsed}, overwrite=True)
    model = load_model(path)
    assert isinstance(model, HiMLIP)
    return model


def of_errors(force_mae: float, found: Sequence[tuple[str, HessianErrors]]) -> dict[str, float]:
    """Figures of a row: force MAE in eV/Å, and errors of Hessians with their sets."""
    numbers: dict[str, Mean] = means([errors for _, errors in found])
    figures = {
        "force_mae_mev_per_angstrom": 1e3 * force_mae,
        "hessian_mae": numbers["hessian MAE (eV/Å²)"].mean,
        "eigenvalue_mae": numbers["eigenvalue MAE (eV/Å²)"].mean,
        "lowest_mode_cosine": numbers["lowest-mode cosine"].mean,
        "sign_agreement": numbers["sign agreement"].mean,
    }
    for name in sorted({name for name, _ in found}):
        figures[f"hessian_mae_{name}"] = float(np.mean([e.hessian.mae for n, e in found if n == name]))
    return figures


def judged(model: Potential, judging: Sequence[LabelledFrame]) -> dict[str, float]:
    """Errors of a model."""
    errors = evaluate_labels(model, [replace(f, set="all", hessian=None) for f in judging])
    forces = errors.sets["all"].forces
    assert forces is not None
    own = evaluate_labels(model, [], [f.hessian for f in judging if f.hessian is not None]).hessians
    return of_errors(forces.mae, list(zip([f.set for f in judging], own.values(), strict=True)))


def of_the_cheap_method(judging: Sequence[LabelledFrame]) -> dict[str, float]:
    """Errors of GFN2-xTB against the good labels."""
    forces, errors = [], []
    for frame in judging:
        result = GFN2().calculate(frame.atoms, hessian=True)
        assert frame.hessian is not None and result.hessian is not None and frame.forces is not None
        forces.append(np.abs(result.forces - frame.forces).ravel())
        errors.append((frame.set, compare_hessians(result.hessian, frame.hessian)))
    return of_errors(float(np.concatenate(forces).mean()), errors)


def chosen_rate(study: Study, start: str) -> float:
    """The rate (or multiple of the noise) of least Hessian error where that was tried."""
    rows = study.chosen(part="choice", start=SCRATCH if start == LONG_SCRATCH else start)
    return float(min(rows, key=lambda row: row["hessian_mae"])["rate"]) if rows else 0.0


def planned(part: str, seeds: int, study: Study) -> Iterator[dict[str, Any]]:
    """What tells the runs of a part from one another."""
    run = {"part": part, "seed": 0, "share": SCARCE, "weight": WEIGHT, "curriculum": "linear"}
    if part == "choice":
        for start, rates in RATES.items():
            yield from ({**run, "start": start, "rate": rate} for rate in rates)
        return
    if part == "share":
        yield from ({**run, "start": start, "share": 0.0, "rate": 0.0} for start in (CHEAP_METHOD, NOT_TUNED))
    for seed in range(seeds):
        run["seed"] = seed
        if part == "weight":
            run |= {"start": PRE_TRAINED, "rate": chosen_rate(study, PRE_TRAINED)}
            for weight in WEIGHTS:
                for curriculum in ("linear", "constant"):
                    yield {**run, "weight": weight, "curriculum": curriculum}
            continue
        for start in (PRE_TRAINED, CLOSED_FORM, SCRATCH, LONG_SCRATCH):
            for share in SHARES_OF.get(start, SHARES):
                yield {**run, "start": start, "share": share, "rate": chosen_rate(study, start)}


def performed(run: dict[str, Any], good: Good) -> dict[str, Any]:
    """Train and judge."""
    start, seed, rate = run["start"], run["seed"], run["rate"]
    if run["part"] == "choice":
        good = good.choosing()
    if start == CHEAP_METHOD:
        return {**run, "hessians": 0, "columns": 0, "cpu_seconds": 0.0, **of_the_cheap_method(good.judging)}
    base = None if start in (SCRATCH, LONG_SCRATCH) else pretrained(seed % PRETRAINED)
    frames, columns = good.with_hessians(run["share"], seed)
    kept = [3 * len(f.atoms) for f in frames if f.hessian is not None]
    row = {**run, "hessians": len(kept), "columns": sum(kept) + len(columns), "cpu_seconds": 0.0}
    steps = STEPS * (LONGER if start == LONG_SCRATCH else 1)
    how = settings(steps, len(frames), rate or 1.0, seed, run["weight"], run["curriculum"])
    if start in (NOT_TUNED, CLOSED_FORM):
        begun = time.process_time()
        model, _ = start_model(frames, [], base, None, how)  # the elements' energies only
        if start == CLOSED_FORM:
            assert isinstance(model, HiMLIP)
            noise = Noise(rate * NOISE.energy, rate * NOISE.forces, hessian=rate * NOISE.hessian)
            wide = ClosedFormSettings(head="wide", noise=noise, folds=0, seed=seed)
            model = fit_closed_form(model, frames, [], wide, columns).model
            row["cpu_seconds"] = time.process_time() - begun
    else:
        watched = good.judging[:: -(-len(good.judging) // WATCHED)] if run["part"] == "weight" else []
        trainer = prepared(base, frames, columns, how, watched)
        model, row["cpu_seconds"], row["trajectory"] = trained(trainer, bool(watched))
    return row | judged(model, good.judging)


def main() -> None:
    """Run what is missing of the study."""
    arguments = parse_study(__doc__, ("share", "weight"), "share")
    begun = time.monotonic()
    good = Good.read()
    what = {
        "steps": STEPS, "longer": LONGER,
        "pretraining_steps": PRETRAINING_STEPS, "pretrained_networks": PRETRAINED,
        "channels": NETWORK.channels, "hidden": NETWORK.hidden,
        "learnt_from": len(good.training), "columns": sum(3 * len(f.atoms) for f in good.training),
        "held_out_known": sum(f.set == "known" for f in good.judging),
        "held_out_new": sum(f.set == "new" for f in good.judging),
    }  # fmt: skip
    study = Study(
        RESULTS.with_suffix(".json"), what, ("part", "start", "seed", "share", "weight", "curriculum", "rate")
    )
    for part in ("choice", arguments.part):
        for run in planned(part, arguments.seeds, study):
            late = time.monotonic() - begun > arguments.stop_after
            if late or study.has(*(run[key] for key in study.keys)):
                continue
            row = performed(run, good)
            logger.info("%s", {k: v for k, v in row.items() if k != "trajectory"})
            study.add([row])
            write_report(study)


if __name__ == "__main__":
    main()
