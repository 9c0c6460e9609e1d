"""The loop: SSCHA → a few configurations → labels → judged, learnt → the SSCHA goes on, until both agree."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from himlip_ase.errors import InputError
from himlip_ase.files import FolderLock, read_mapping, sha256_file, write_json
from himlip_ase.sscha.array_files import load_json
from himlip_ase.sscha.ensembles.workers import potential_forces
from himlip_ase.sscha.learn import rounds
from himlip_ase.sscha.learn.draws import LabelledDraw
from himlip_ase.sscha.learn.onward import go_on
from himlip_ase.sscha.learn.references import Reference
from himlip_ase.sscha.learn.refit import Learner
from himlip_ase.sscha.learn.rounds import Round, round_folder
from himlip_ase.sscha.learn.settings import LearnSettings
from himlip_ase.sscha.results.result import load_result
from himlip_ase.sscha.watch.watch import Watch

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.cross_fit import Twins
    from himlip_ase.labels.frames import HessianLabel, LabelledFrame

logger = logging.getLogger(__name__)

RECORD = "learn.json"
RESULT = "result.json"
TWINS = "twins"


@dataclass(frozen=True)
class LearnResult:
    """What a loop found.

    Attributes
    ----------
    agreed : bool
        Whether the last SSCHA is what the labels ask for, within errors and tolerances.
    verdict : str
    curve : list of dict
        One entry a round: the test on what was not learnt yet, and the distances after it.
    model : Path
        The last potential.
    sscha : Path
        Folder of the last SSCHA.
    last : Path
        Folder of the last round.
    """

    agreed: bool
    verdict: str
    curve: list[dict[str, Any]]
    model: Path
    sscha: Path
    last: Path


def learn(
    source: str | os.PathLike,
    model: str | os.PathLike,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    reference: Reference,
    folder: str | os.PathLike,
    settings: LearnSettings | None = None,
    resume: bool = False,
    workers: int = 1,
    watch: Watch | None = None,
) -> LearnResult:
    """Let an SSCHA learn from a reference until the two agree, or the rounds are used up.

    Parameters
    ----------
    source : path-like
        Folder of a finished SSCHA run.
    model : str or path-like
        The potential of that run, a Hi-MLIP network; what it learns in every round is in `LearnSettings`.
    frames, hessians : sequences of labels
        What is learnt beside the configurations: usually what the potential was trained on.
    reference : Reference
        Where labels come from, see `himlip_ase.sscha.learn.references`.
    folder : path-like
        Of the loop.
    settings : LearnSettings, optional
    resume : bool
        Go on in `folder`; the end is that of an unbroken loop.
    workers : int
        Processes that evaluate the potential.
    watch : Watch, optional
        Looks at every ensemble, see `himlip_ase.sscha.run.loop.run_sscha`.

    Returns
    -------
    LearnResult

    Raises
    ------
    InputError
        A folder with another loop, a run without ensembles; `Waiting` where labels are to be made elsewhere.
    CalculationError
        A label or the SSCHA failed; what is finished is kept.
    """
    from himlip_ase.potential.checkpoint import find_model, load_model

    settings = settings or LearnSettings()
    out, source, start = Path(folder), Path(source), find_model(model)
    with FolderLock(out):
        _begin(out, source, start, frames, hessians, settings, resume)
        learner = Learner(rounds.load_base(start, frames, hessians), frames, hessians, settings)
        labelled: list[LabelledDraw] = []
        curve: list[dict[str, Any]] = []
        twins = None
        agreed = False
        this = Round(1, round_folder(out, 1), source, start)
        for number in range(1, settings.rounds + 1):
            this = Round(number, round_folder(out, number), source, start)
            known = learner.cross_fit() if settings.choice == "posterior" else None
            drawn = rounds.draw(this, settings, known)
            _say_cost(this, drawn.images(), reference)
            labelled.append(rounds.label(this, drawn, reference))
            test = rounds.judge(this, labelled[-1], load_model(str(start)))
            _say_test(number, test)
            twins = rounds.refit(this, learner, labelled[-1], settings)
            found = _onward_and_compare(this, labelled, twins, settings, workers, watch)
            curve.append({"round": number, "learnt_before": _learnt(labelled[:-1]), **test, **found})
            source, start = this.folder / "sscha", this.folder / rounds.MODEL
            agreed = bool(found["agreed"])
            if agreed:
                break
        result = _conclude(curve, agreed, this, settings)
        assert twins is not None
        twins.save(out / TWINS)
        write_json(out / RESULT, _record(result, out), overwrite=True)
    return result


def _onward_and_compare(
    this: Round,
    labelled: Sequence[LabelledDraw],
    twins: Twins,
    settings: LearnSettings,
    workers: int,
    watch: Watch | None,
) -> dict[str, Any]:
    """The SSCHA with the new potential, and its agreement with all labels."""
    if not rounds.finished(this):
        with potential_forces(this.folder / rounds.MODEL, workers) as forces:
            go_on(this, forces, settings, watch)
        found = rounds.compare(this, labelled, twins, settings)
        for distance in found.distances:
            logger.info("round %d: %s", this.number, distance)
    record = load_json(this.folder / "agreement.json")
    converged = rounds.final_result(this).converged
    return {
        "agreed": record["agreed"] and converged,
        "converged": converged,
        "distances": record["distances"],
        "effective_configurations": record["effective_configurations"],
    }


def _begin(
    out: Path,
    source: Path,
    model: Path,
    frames: Sequence[LabelledFrame],
    hessians: Sequence[HessianLabel],
    settings: LearnSettings,
    resume: bool,
) -> None:
    """Write down what the loop is, or check that the folder holds the same; more rounds may be asked for."""
    load_result(source)
    chosen = _plain(settings)
    record = {
        "schema": 1,
        "settings": chosen,
        "source": sha256_file(source / "result.npz"),
        "model": sha256_file(model),
        "labels": _fingerprint(frames, hessians),
    }
    path = out / RECORD
    if not path.exists():
        write_json(path, record)
        return
    if not resume:
        raise InputError(f"{out} holds a learning loop already; pass --resume, or choose another --out")
    before = read_mapping(path)
    may_change = ("rounds",)
    as_before = _plain(LearnSettings())
    for name in ("source", "model", "labels"):
        if before.get(name) != record[name]:
            raise InputError(f"{out} was begun with another {name}; choose another --out")
    for name, value in chosen.items():
        begun = before["settings"].get(name, as_before.get(name))
        if name not in may_change and begun != value:
            raise InputError(
                f"{out} was begun with {name} = {begun!r}, now {value!r}; give the same or choose another "
                "--out"
            )
    write_json(path, record, overwrite=True)


def _plain(settings: LearnSettings) -> dict[str, Any]:
    """What decides, as JSON gives it back."""
    values = dict(json.loads(json.dumps(dataclasses.asdict(settings))))
    if settings.refit == "closed_form":
        del values["training"]
    return values


def _fingerprint(frames: Sequence[LabelledFrame], hessians: Sequence[HessianLabel]) -> str:
    from hashlib import sha256

    digest = sha256()
    for frame in frames:
        for part in (frame.atoms.positions, frame.atoms.cell.array, frame.forces, frame.stress):
            digest.update(b"-" if part is None else part.astype(float).tobytes())
        digest.update(f"{frame.energy!r} {frame.weight!r}".encode())
    for hessian in hessians:
        digest.update(hessian.atoms.positions.tobytes() + hessian.matrix.tobytes())
    return digest.hexdigest()


def _learnt(labelled: Sequence[LabelledDraw]) -> int:
    return sum(len(one.draw) for one in labelled)


def _say_cost(this: Round, images: list[Any], reference: Reference) -> None:
    if (this.folder / "labels.npz").exists():
        return
    primitive = load_result(this.source).auxiliary.primitive
    hours = reference.forecast(images, primitive)
    cost = "" if hours is None else f", about {hours:.2g} core-hours (within a factor of 3 or so)"
    logger.info(
        "round %d: %d configurations of %d atoms and the crystal on its centroids to label%s",
        this.number,
        len(images) - 1,
        len(images[0]),
        cost,
    )


def _say_test(number: int, test: dict[str, Any]) -> None:
    error = test["force_rmse_ev_per_angstrom"]
    sigma = "" if error["uncertainty"] is None else f" ± {1e3 * error['uncertainty']:.0f}"
    percent = test["force_error_percent"]
    share = "" if percent is None else f", {percent:.1f} % of the forces"
    logger.info(
        "round %d: on what it had not learnt, the potential misses forces by %.0f%s meV/Å%s",
        number,
        1e3 * error["value"],
        sigma,
        share,
    )


def _conclude(curve: list[dict[str, Any]], agreed: bool, this: Round, settings: LearnSettings) -> LearnResult:
    labels = sum(entry["configurations"] for entry in curve)
    if agreed:
        verdict = f"the SSCHA is what {labels} labelled configurations ask for, within errors and tolerances"
    else:
        open_ = [d["name"] for d in curve[-1]["distances"] if not d["agreed"]]
        if not curve[-1]["converged"]:
            open_.append("the SSCHA itself, which did not converge")
        verdict = (
            f"after {settings.rounds} rounds not agreed: {', '.join(open_)}; more rounds with --resume "
            f"--rounds {settings.rounds + 2}"
        )
    return LearnResult(agreed, verdict, curve, this.folder / rounds.MODEL, this.folder / "sscha", this.folder)


def _record(result: LearnResult, out: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "agreed": result.agreed,
        "verdict": result.verdict,
        "learning_curve": result.curve,
        "model": os.path.relpath(result.model, out),
        "sscha": os.path.relpath(result.sscha, out),
        "last_round": os.path.relpath(result.last, out),
    }
