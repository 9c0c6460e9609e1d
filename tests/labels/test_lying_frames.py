"""Stresses, numbers and frames that lie are found out: refused with the number, or told."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from himlip_ase.errors import InputError
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.checks import check_frames, hot_frames
from himlip_ase.labels.readers import read_hessian
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.labels.stress_size import stress_size
from himlip_ase.labels.survey import Survey
from himlip_ase.units import EV_PER_ANGSTROM3_GPA
from tests.hint.toy import rattled, toy_frame
from tests.labels.emt import emt_frames

EXAMPLES = Path(__file__).parents[2] / "examples"
SETTINGS = TrainingSettings(epochs=1, device="cpu", validation_fraction=0.25)


@pytest.mark.parametrize("symbol", ["Cu", "Al"])
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (-1.0, "its sign is the other"),
        (EV_PER_ANGSTROM3_GPA, "it is in GPa"),
        (-10 * EV_PER_ANGSTROM3_GPA, "kbar and its sign"),
        (1 / EV_PER_ANGSTROM3_GPA, "its unit or sign is another"),
    ],
)
def test_fault_26_stress_at_ambient_pressure(symbol: str, factor: float, words: str) -> None:
    """Frames of one cell have no strain that would tell: the forces do."""
    frames = emt_frames(8, symbol)
    check_frames(frames)
    # so small that no bound on the size or the median tension can see it
    small = [
        replace(f, stress=1e-3 * f.stress, forces=1e-3 * f.forces, energy=1e-3 * f.energy) for f in frames
    ]
    check_frames(small)
    with pytest.raises(InputError, match=f"times what the energies and forces say.*{words}"):
        check_frames([replace(f, stress=factor * f.stress) for f in small])


def test_fault_26_size_of_stresses_beside_that_of_forces() -> None:
    """No strained frames, no energies, and forces that are not those of pairs: the size alone is left."""
    frames = []
    for k, frame in enumerate(emt_frames(8, amplitude=0.15)):
        turned = np.random.default_rng(k).permutation(frame.forces.ravel()).reshape(-1, 3)
        frames.append(replace(frame, energy=None, forces=0.3 * turned, stress=0.3 * frame.stress))
    mean = np.mean([f.stress for f in frames], axis=0)
    frames = [replace(f, stress=f.stress - mean) for f in frames]
    size = stress_size(frames)
    assert 0.02 < size < 1.0
    survey = Survey.of(frames)
    assert len(survey.unjudged) == 1 and "the sign of 8 stresses could not be judged" in survey.unjudged[0]
    with pytest.raises(InputError, match=r"stress: in frames of one cell it changes by .* GPa or kbar"):
        check_frames([replace(f, stress=EV_PER_ANGSTROM3_GPA * f.stress) for f in frames])


def test_what_could_not_be_judged_is_told() -> None:
    frames = emt_frames(3)
    (remark,) = Survey.of(frames).unjudged
    assert "sign and unit of 3 stresses" in remark and "too few frames" in remark
    label = read_hessian(EXAMPLES / "hydrides" / "labels" / "PdH" / "harmonic" / "dyn")
    (remark,) = Survey.of([], [label]).unjudged
    assert (
        "harmonic/dyn: its unit was judged by itself alone, which does not tell Ry/Å² or Ha/Å² from" in remark
    )
    label = read_hessian(EXAMPLES / "h3s" / "labels_k12" / "harmonic" / "dyn")
    assert Survey.of([], [label]).unjudged == []
    assert Survey.of([replace(f, stress=None) for f in frames]).unjudged == []


def test_virials_given_as_stresses_are_refused() -> None:
    frames = emt_frames(8)
    with pytest.raises(InputError, match="stress"):
        check_frames([replace(f, stress=-f.stress * f.atoms.get_volume()) for f in frames])


@pytest.mark.parametrize("where", ["forces", "stress", "positions", "energy", "weight"])
def test_one_nan_is_refused_and_named_on_disk_too(where: str, tmp_path: Path) -> None:
    """A missing label is a row of NaN in an .h5; a single NaN is none."""
    frames = emt_frames(3)
    if where == "positions":
        atoms = frames[1].atoms.copy()
        atoms.positions[2, 1] = np.nan
        frames[1] = replace(frames[1], atoms=atoms)
    elif where in ("energy", "weight"):
        frames[1] = replace(frames[1], **{where: np.nan})
    else:
        value = getattr(frames[1], where).copy()
        value.flat[4] = np.nan
        frames[1] = replace(frames[1], **{where: value})
    with pytest.raises(InputError, match=where):
        check_frames(frames)
    if where != "energy":
        write_labels(tmp_path / "labels.h5", frames)
        with pytest.raises(InputError, match=rf"labels\.h5#1: .*{where}"):
            check_frames(LabelStore(tmp_path / "labels.h5"))


def test_hot_frames_that_rule_the_loss_are_told(caplog) -> None:
    frames = [toy_frame(a) for a in rattled(bulk("Cu", "fcc", a=3.7, cubic=True), 12, 0.03)]
    assert hot_frames([float(np.sum(f.forces**2)) for f in frames]) == []
    frames[7] = toy_frame(rattled(frames[7].atoms, 1, 0.35, seed=4)[0])
    assert hot_frames([float(np.sum(f.forces**2)) for f in frames]) == [7]
    hard = replace(SETTINGS, loss=LossWeights(force_scale=None))
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        prepare_labels(frames, settings=SETTINGS)
        assert "rule the loss" not in caplog.text
        prepare_labels(frames, settings=hard)
    assert "1 of 12 frames have half of all squared forces" in caplog.text
    assert "force_scale: 1.5" in caplog.text
