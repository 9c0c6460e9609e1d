"""One round of the loop, step by step; every step leaves a file and is not done twice.

::

    round_001/draw.npz          the configurations, and the Gaussian they come from
    round_001/images.extxyz     the same for other codes, the crystal on its centroids last
    round_001/runs, centroids   of the DFT engine, where one runs
    round_001/labels.npz        energies, forces, stresses of the images; labels.extxyz for other programs
    round_001/test.json         how the potential of the round before fares on them
    round_001/model.safetensors the potential that learnt them
    round_001/sscha/            the SSCHA that goes on with it
    round_001/agreement.json    what the labels ask for beyond it; with agreement.npz and corrected.dyn*
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np

from himlip_ase.evaluation import Evaluation
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.qe import write_dyn
from himlip_ase.sscha.array_files import load_arrays, load_json, pack, restoring, save_arrays
from himlip_ase.sscha.ensembles.evaluation import checked
from himlip_ase.sscha.learn.agreement import Agreement, agreement, honest_differences
from himlip_ase.sscha.learn.choosing import choose_draw
from himlip_ase.sscha.learn.draws import Draw, LabelledDraw, only_random
from himlip_ase.sscha.learn.references import Reference
from himlip_ase.sscha.learn.refit import Learner
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.sscha.results.result import SschaResult, load_result
from himlip_ase.sscha.symmetry import SpaceGroup
from himlip_ase.sscha.trust.deviations import energy_deviation, force_deviations
from himlip_ase.sscha.trust.verify_files import load_final_ensemble, write_images

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.cross_fit import CrossFit, Twins
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame
    from himlip_ase.potential.interface import Potential
    from himlip_ase.potential.network import HiMLIP

logger = logging.getLogger(__name__)

MODEL = "model.safetensors"
LABELS = "labels.extxyz"


@dataclass(frozen=True)
class Round:
    """A round and where it begins.

    Attributes
    ----------
    number : int
        From 1.
    folder : Path
    source : Path
        Folder of the SSCHA run that its configurations come from.
    model : Path
        The potential of that run.
    """

    number: int
    folder: Path
    source: Path
    model: Path

    @property
    def name(self) -> str:
        """Of the set of its labels."""
        return f"learn{self.number:03d}"


def round_folder(out: Path, number: int) -> Path:
    """Folder of a round.

    Parameters
    ----------
    out : Path
        Of the loop.
    number : int

    Returns
    -------
    Path
    """
    return out / f"round_{number:03d}"


def draw(this: Round, settings: LearnSettings, known: CrossFit | None) -> Draw:
    """Choose the configurations, and write them for other codes.

    Parameters
    ----------
    this : Round
    settings : LearnSettings
    known : CrossFit or None
        Of the labels so far, for the choice by posterior.

    Returns
    -------
    Draw
    """
    path = this.folder / "draw.npz"
    if path.exists():
        return Draw.load(path)
    final = load_final_ensemble(this.source)
    posterior = None if known is None else known.posterior
    model = None if known is None else known.model
    found = choose_draw(final.ensemble, this.number, settings, model, posterior)
    this.folder.mkdir(parents=True, exist_ok=True)
    write_images(this.folder / "images.extxyz", found.images(), overwrite=True)
    found.save(path)
    return found


def label(this: Round, drawn: Draw, reference: Reference) -> LabelledDraw:
    """Energies, forces and stresses of the configurations by the reference.

    Parameters
    ----------
    this : Round
    drawn : Draw
    reference : Reference

    Returns
    -------
    LabelledDraw
    """
    path = this.folder / "labels.npz"
    if not path.exists():
        images = drawn.images()
        found = reference.evaluate(images, this.folder, drawn.drawn_from.dynamical.primitive)
        whole = checked(found, images)
        _write_frames(this.folder / LABELS, this.name, drawn, whole)
        save_arrays(
            path,
            {"energies": whole.energies, "forces": whole.force_array, "stresses": whole.stresses},
        )
    arrays = load_arrays(path)
    with restoring(path):
        found = Evaluation(arrays["energies"], arrays["forces"], arrays["stresses"])
        return LabelledDraw(drawn, found)


def _write_frames(path: Path, name: str, drawn: Draw, found: Evaluation) -> None:
    """The labels as extended XYZ, for other programs and as the set of the round."""
    frames = drawn.images()
    for k, image in enumerate(frames):
        image.info |= {"set": name, "REF_energy": float(found.energies[k])}
        image.arrays["REF_forces"] = found.force_array[k]
        if found.has_stress:
            image.info["REF_stress"] = found.stresses[k]
    buffer = io.StringIO()
    ase.io.write(buffer, frames, format="extxyz")
    with atomic_write(path, overwrite=True) as stream:
        stream.write(buffer.getvalue())


def load_labelled(out: Path) -> list[LabelledDraw]:
    """The labelled configurations of every round of a loop.

    Parameters
    ----------
    out : Path

    Returns
    -------
    list of LabelledDraw
    """
    found = []
    for folder in sorted(out.glob("round_*")):
        if (folder / "labels.npz").is_file():
            arrays = load_arrays(folder / "labels.npz")
            with restoring(folder / "labels.npz"):
                reference = Evaluation(arrays["energies"], arrays["forces"], arrays["stresses"])
                found.append(LabelledDraw(Draw.load(folder / "draw.npz"), reference))
    return found


def judge(this: Round, labelled: LabelledDraw, model: Potential) -> dict[str, Any]:
    """How a potential fares on configurations that it has not learnt: one point of the learning curve.

    Parameters
    ----------
    this : Round
    labelled : LabelledDraw
    model : Potential
        Of the round before.

    Returns
    -------
    dict
        Ready for JSON.
    """
    path = this.folder / "test.json"
    if not path.exists():
        from himlip_ase.potential.evaluate import evaluate

        fair = only_random(labelled)
        images = fair.draw.images()
        ours, theirs = evaluate(model, images), fair.reference
        symbols = images[-1].get_chemical_symbols()
        forces = force_deviations(symbols, ours.force_array[:-1], theirs.force_array[:-1])
        energy = energy_deviation(
            len(images[-1]),
            ours.energies[:-1] - ours.energies[-1],
            theirs.energies[:-1] - theirs.energies[-1],
        )
        squares = ((ours.force_array[:-1] - theirs.force_array[:-1]) ** 2).mean(axis=(1, 2))
        pairs = squares.reshape(-1, 2).mean(axis=1)
        rms = forces[0].rms
        error = float(pairs.std(ddof=1) / np.sqrt(len(pairs)) / (2 * rms)) if len(pairs) > 1 and rms else None
        write_json(
            path,
            {
                "configurations": len(fair.draw),
                "atoms": len(images[-1]),
                "force_rmse_ev_per_angstrom": {"value": rms, "uncertainty": error},
                "force_error_percent": 100 * rms / forces[0].spread if forces[0].spread else None,
                "forces": [deviation.as_dict() for deviation in forces],
                "energy_ev_per_atom": energy.as_dict(),
            },
        )
    return load_json(path)


def refit(this: Round, learner: Learner, labelled: LabelledDraw, settings: LearnSettings) -> Twins:
    """Learn the round's labels beside all others.

    Parameters
    ----------
    this : Round
    learner : Learner
        Of the labels before; the round's are added.
    labelled : LabelledDraw
    settings : LearnSettings

    Returns
    -------
    Twins
        Of the potential, which is written into the folder of the round.
    """
    from himlip_ase.potential.checkpoint import save_model

    learner.add(labelled.frames(this.name, settings.weight))
    found = learner.learn(this.folder)
    path = this.folder / MODEL
    if not path.exists():
        save_model(found.model, path, {"round": this.number, **found.card})
    return found.twins


def compare(
    this: Round,
    labelled: Sequence[LabelledDraw],
    twins: Twins,
    settings: LearnSettings,
) -> Agreement:
    """What all labels together ask for beyond the SSCHA of the round, and write it down.

    Parameters
    ----------
    this : Round
    labelled : sequence of LabelledDraw
        Of all rounds.
    twins : Twins
        Its groups are the pairs of `labelled`, in their order.
    settings : LearnSettings

    Returns
    -------
    Agreement
    """
    place = this.folder / "sscha"
    found = agreement_of(labelled, twins, settings, place)
    write_agreement(found, this.folder)
    return found


def write_agreement(found: Agreement, folder: Path) -> None:
    """Write ``agreement.npz`` (exact), ``corrected.dyn*`` and, last, ``agreement.json``.

    Parameters
    ----------
    found : Agreement
    folder : Path
    """
    arrays = pack("auxiliary", found.corrections.auxiliary) | {
        "frequencies_sigma_cm": found.corrections.frequencies_sigma_cm,
        "deviations": found.corrections.deviations,
    }
    save_arrays(folder / "agreement.npz", arrays, overwrite=True)
    write_dyn(found.corrections.auxiliary, folder / "corrected.dyn", overwrite=True)
    write_json(folder / "agreement.json", found.to_record(), overwrite=True)


def agreement_of(
    labelled: Sequence[LabelledDraw],
    twins: Twins,
    settings: LearnSettings,
    place: Path,
) -> Agreement:
    """The agreement of a finished SSCHA with labels that a potential was cross-fitted to.

    Parameters
    ----------
    labelled : sequence of LabelledDraw
    twins : Twins
        Its groups are the pairs of `labelled`, in their order.
    settings : LearnSettings
    place : Path
        Folder of the run.

    Returns
    -------
    Agreement
    """
    final = load_final_ensemble(place)
    centroids = labelled[-1].draw.images()[-1]
    images = [final.ensemble.drawn_from.supercell for _ in range(len(final.ensemble))]
    for image, moved in zip(images, final.ensemble.displacements, strict=True):
        image.positions += moved
    judging = judging_folds(labelled, twins)
    mean = checked(twins.evaluate_mean([*images, centroids], judging), [*images, centroids])
    ours = honest_evaluations(labelled, twins)
    fair = [only_random(one) for one in labelled]
    differences, stresses = honest_differences(final.target, fair, ours)
    group = SpaceGroup(final.result.auxiliary)
    return agreement(final.result, final.ensemble, mean, differences, stresses, group, settings)


def judging_folds(labelled: Sequence[LabelledDraw], twins: Twins) -> list[int]:
    """Fold of every pair that was chosen at random: averages are taken over these alone.

    Parameters
    ----------
    labelled : sequence of LabelledDraw
    twins : Twins
        Its groups are the pairs of `labelled`, in their order.

    Returns
    -------
    list of int
    """
    at_random = [2 * k < one.draw.at_random for one in labelled for k in range(one.pairs())]
    return [fold for fold, own in zip(twins.fold_of, at_random, strict=True) if own]


def honest_evaluations(labelled: Sequence[LabelledDraw], twins: Twins) -> list[Evaluation]:
    """Every configuration chosen at random by the twin that did not learn it.

    Parameters
    ----------
    labelled : sequence of LabelledDraw
    twins : Twins
        Its groups are the pairs of `labelled`, in their order.

    Returns
    -------
    list of Evaluation
        For each draw; energies are above that of the last draw's centroids by the same twin.
    """
    from himlip_ase.potential.evaluate import evaluate

    centroids = labelled[-1].draw.images()[-1]
    zeros = [float(evaluate(twin, [centroids]).energies[0]) for twin in twins.without]
    found, group = [], 0
    for one in labelled:
        images = one.draw.images()[:-1]
        parts = []
        for k in range(one.pairs()):
            fold = twins.fold_of[group + k]
            if 2 * k >= one.draw.at_random:
                continue
            own = evaluate(twins.without[fold], images[2 * k : 2 * k + 2])
            parts.append(Evaluation(own.energies - zeros[fold], own.force_array, own.stresses))
        group += one.pairs()
        found.append(Evaluation.concatenate(parts))
    return found


def finished(this: Round) -> bool:
    """Whether nothing is left to do in a round."""
    return (this.folder / "agreement.json").exists()


def final_result(this: Round) -> SschaResult:
    """The SSCHA of a finished round."""
    return load_result(this.folder / "sscha")


def load_base(model: Path | str, frames: Sequence[LabelledFrame], hessians: Sequence[HessianLabel]) -> HiMLIP:
    """The potential whose head is fitted: of the elements of the labels, with the labels' energies of them.

    A head has coefficients for each element, and fits take time with the cube of their number.

    Parameters
    ----------
    model : path-like
    frames, hessians : sequences of labels
        That are learnt from the beginning.

    Returns
    -------
    HiMLIP

    Raises
    ------
    InputError
        It has no linear head.
    """
    from himlip_ase.errors import InputError
    from himlip_ase.hint.training.remainder import NETWORK
    from himlip_ase.hint.training.settings import TrainingSettings
    from himlip_ase.hint.training.start import start_model
    from himlip_ase.potential.checkpoint import load_model
    from himlip_ase.potential.lattice_potential import LatticePotential
    from himlip_ase.potential.network import HiMLIP
    from himlip_ase.potential.widening import restricted_to

    known = load_model(model)
    if isinstance(known, LatticePotential):
        raise InputError(
            f"{model} has a harmonic remainder, which does not fit a network that the loop refits; give the "
            f"network alone ({NETWORK} or model.safetensors, where `himlip finetune` or a run left it), "
            "and make a remainder for what the loop has learnt: `himlip finetune --base MODEL --hessian "
            "HESSIAN --remainder alone`"
        )
    if not isinstance(known, HiMLIP):
        raise InputError(f"{model} is no Hi-MLIP network: the loop fits its head in closed form")
    there = {symbol for labels in (frames, hessians) for label in labels for symbol in label.atoms.symbols}
    kept = [symbol for symbol in known.elements if symbol in there]
    missing = ", ".join(sorted(there - set(kept)))
    if missing:
        raise InputError(f"{model} does not know {missing}, which is in the labels")
    found, _ = start_model(frames, hessians, restricted_to(known, kept), None, TrainingSettings())
    assert isinstance(found, HiMLIP)
    return found
