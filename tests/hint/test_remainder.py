"""A harmonic remainder from label to phonons and SSCHA: exact where it must be, else measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from himlip_ase import HiMLIPCalculator
from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.uncertain_calculator import UncertainCalculator
from himlip_ase.hint.training.remainder import add_remainder
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import start_model
from himlip_ase.labels.frames import HessianLabel
from himlip_ase.labels.readers import read_hessian
from himlip_ase.lattice import build_supercell
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.qe import read_dyn, write_dyn
from himlip_ase.potential.checkpoint import load_model, read_card, save_model
from himlip_ase.potential.lattice_potential import LatticePotential
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from himlip_ase.sscha.learn.rounds import load_base
from tests.hint.toy import rattled, toy_frame, toy_hessian

PRIMITIVE = bulk("Cu", "fcc", a=3.7)
SHAPE = HiMLIPConfig(("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1)


def label(dims: tuple[int, int, int]) -> HessianLabel:
    empty = ForceConstants(PRIMITIVE, dims, np.zeros((1, int(np.prod(dims)), 3, 3)))
    constants = ForceConstants.from_hessian(PRIMITIVE, dims, toy_hessian(empty.supercell), order="phonopy")
    return HessianLabel.from_force_constants(constants, f"toy{dims[0]}{dims[1]}{dims[2]}")


def untrained() -> HiMLIP:
    return HiMLIP(SHAPE, seed=1)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A model, dyn files of 2×2×2, labelled cells."""
    save_model(untrained(), tmp_path / "base.safetensors", {"licence": "CC0", "data": "none"})
    (tmp_path / "harmonic").mkdir()
    write_dyn(label((2, 2, 2)).force_constants.dynamical_matrices(), tmp_path / "harmonic" / "dyn")
    images = []
    for name, cell in (("rattle", PRIMITIVE.repeat((2, 1, 1))), ("validation", PRIMITIVE.repeat((1, 2, 2)))):
        for image in rattled(cell, 4, 0.05, seed=len(name)):
            frame = toy_frame(image, name)
            image.info |= {"REF_energy": frame.energy, "REF_stress": frame.stress, "set": name}
            image.arrays["REF_forces"] = frame.forces
            images.append(image)
    ase.io.write(tmp_path / "cells.extxyz", images)
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_frequencies_of_the_densest_grid_are_those_given_and_others_are_judged() -> None:
    small, large = label((2, 2, 2)), label((3, 3, 3))
    frames = [toy_frame(atoms) for atoms in rattled(PRIMITIVE.repeat((2, 2, 1)), 3, 0.05)]
    slab = toy_frame(rattled(PRIMITIVE.repeat((2, 1, 1)), 1, 0.05)[0])
    slab.atoms.set_cell(slab.atoms.cell.array * 1.2, scale_atoms=True)
    found = add_remainder(untrained(), [small, large], [*frames, slab])
    constants = HiMLIPCalculator(found.model).get_force_constants(PRIMITIVE, (3, 3, 3), symmetry=False)
    assert constants.compact == pytest.approx(large.force_constants.compact, abs=1e-9)
    assert found.name == "toy333"
    by_name = {grid.name: grid for grid in found.grids}
    assert by_name["toy333"].rmse < 1e-6 < 10 < by_name["toy333"].without
    # springs shorter than either supercell: the interpolation is exact
    assert by_name["toy222"].rmse < 1e-5 < 10 < by_name["toy222"].without
    (cells,) = found.cells
    assert (cells.frames, cells.elsewhere) == (3, 1)
    # of labels that are nearly harmonic
    assert cells.rmse < 0.1 * cells.without and cells.size == pytest.approx(cells.without, rel=0.1)
    json.dumps(found.record(), allow_nan=False)


def test_matrices_of_no_or_another_crystal_are_refused() -> None:
    with pytest.raises(InputError, match="Hessian of a crystal"):
        add_remainder(untrained(), [HessianLabel(PRIMITIVE, np.zeros((1, 3, 1, 3)))])
    other = label((2, 2, 2))
    moved = ForceConstants(bulk("Cu", "fcc", a=3.8), (2, 2, 2), other.force_constants.compact)
    with pytest.raises(InputError, match="different crystals"):
        add_remainder(
            untrained(), [other, HessianLabel(moved.supercell, moved.hessian(), "other", 1.0, moved)]
        )


def test_command_adds_one_to_a_model_as_it_is(files: Path) -> None:
    hessian = files / "harmonic" / "dyn"
    output = run(
        "finetune", "--base", files / "base.safetensors", "--hessian", hessian, "--labels",
        files / "cells.extxyz", "--sets", "validation", "--remainder", "alone", "--out", files / "tied",
    )  # fmt: skip
    assert "by construction" in output and "validation: 4 cells" in output
    path = files / "tied" / "model.safetensors"
    card = read_card(path)
    assert card["remainder"]["matrices"] == "harmonic/dyn" and card["remainder"]["dims"] == [2, 2, 2]
    assert card["licence"] == "CC0" and card["network"]["file"] == "base.safetensors"
    assert card["remainder"]["cells"][0]["size"] > 0
    structure = files / "Cu.extxyz"
    PRIMITIVE.write(structure)
    run("phonons", structure, "--model", path, "--dims", 2, 2, 2, "--out", files / "phonons")
    written = read_hessian(files / "phonons" / "phonopy_params.yaml").force_constants
    found = written.dynamical_matrices()
    assert found.frequencies() == pytest.approx(read_dyn(hessian).frequencies(), abs=0.05)


def test_sscha_of_a_harmonic_crystal_is_the_given_one(files: Path) -> None:
    """A network that sees no neighbours leaves a harmonic crystal, whose auxiliary matrices are its own."""
    blind = HiMLIP(replace(SHAPE, cutoff=1.5))
    given = label((2, 2, 2)).force_constants.dynamical_matrices()
    path = save_model(add_remainder(blind, [label((2, 2, 2))]).model, files / "tied.safetensors")
    write_dyn(given.with_matrices(1.3 * given.matrices), files / "start.dyn")
    out = files / "sscha"
    run(
        "sscha", "run", "--dyn", files / "start.dyn", "--model", path, "--out", out, "--n", 160,
        "--n-hessian", 160,
    )  # fmt: skip
    for name in ("auxiliary", "hessian"):
        found = read_dyn(out / f"{name}.dyn")
        assert found.frequencies()[1:] == pytest.approx(given.frequencies()[1:], rel=1e-3)


def test_averaged_hessians_move_by_the_remainder(files: Path) -> None:
    tied = add_remainder(untrained(), [label((2, 2, 2))]).model
    supercell = label((2, 2, 2)).atoms
    cells = rattled(supercell, 3, 0.1)
    mean = [np.mean(HiMLIPCalculator(m).get_hessians(cells), axis=0) for m in (tied, tied.network)]
    alone = HiMLIPCalculator(tied.network).get_hessian(supercell)
    assert mean[0] - mean[1] == pytest.approx(label((2, 2, 2)).matrix - alone, abs=1e-9)


def test_after_training_the_network_lies_beside(files: Path) -> None:
    (files / "train.yaml").write_text("training: {epochs: 1, batch_size: 4, device: cpu}")
    run(
        "finetune", "--base", files / "base.safetensors", "--hessian", files / "harmonic" / "dyn", "--labels",
        files / "cells.extxyz", "--config", files / "train.yaml", "--remainder", "after", "--no-plots",
        "--out", files / "tuned",
    )  # fmt: skip
    tied = load_model(files / "tuned" / "remainder" / "model.safetensors")
    alone = load_model(files / "tuned" / "model.safetensors")
    assert isinstance(tied, LatticePotential)
    for name, tensor in alone.state_dict().items():
        assert np.array_equal(tensor, tied.network.state_dict()[name])
    wrong = CliRunner().invoke(app, ["finetune", "--labels", "x", "--hessian", "y", "--remainder", "alone"])
    assert wrong.exit_code == 2 and "--base MODEL" in wrong.output.replace("\n", " ")


def test_what_learns_starts_from_the_network_or_refuses(files: Path, caplog) -> None:
    tied = add_remainder(untrained(), [label((2, 2, 2))]).model
    path = save_model(tied, files / "tied.safetensors")
    model, _ = start_model([], [], path, None, TrainingSettings())
    assert isinstance(model, HiMLIP) and "remainder is left out" in caplog.text
    with pytest.raises(InputError, match="harmonic remainder"):
        load_base(path, [], [])


def test_a_remainder_has_no_uncertainty(files: Path) -> None:
    run(
        "finetune", "--base", files / "base.safetensors", "--labels", files / "cells.extxyz", "--closed-form",
        "alone", "--no-plots", "--out", files / "fit",
    )  # fmt: skip
    network, posterior = files / "fit" / "model.safetensors", files / "fit" / "posterior.safetensors"
    tied = add_remainder(load_model(network), [label((2, 2, 2))]).model
    atoms = rattled(build_supercell(PRIMITIVE, (2, 1, 1)), 1, 0.05)[0]
    plain, whole = UncertainCalculator(network), UncertainCalculator(tied, posterior)
    assert whole.uncertainty(atoms).forces == pytest.approx(plain.uncertainty(atoms).forces, abs=1e-12)
    shift = HiMLIPCalculator(tied).get_forces(atoms) - HiMLIPCalculator(network).get_forces(atoms)
    drawn = [one.sampled(1)[0].get_forces(atoms) for one in (whole, plain)]
    assert drawn[0] - drawn[1] == pytest.approx(shift, abs=1e-9)
