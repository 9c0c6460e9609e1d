"""Choosing structures: sparse regions, energies within a composition, and the commands."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
import typer
from ase import Atoms
from ase.build import bulk
from typer.testing import CliRunner

from himlip_ase.cli import sample as command
from himlip_ase.cli.app import app as himlip
from himlip_ase.errors import InputError
from himlip_ase.hint.selection import by_energy, local_sparsity, model_descriptors, weighted_local_density
from himlip_ase.potential.network import HiMLIP, HiMLIPConfig
from tests.hint.toy import rattled


def test_sparsity_is_the_mean_distance_to_the_nearest() -> None:
    points = np.array([[0.0], [1.0], [3.0], [10.0]])
    assert np.allclose(local_sparsity(points, 2), [2.0, 1.5, 2.5, 8.0])
    assert np.allclose(local_sparsity(points[:1]), [1.0])


def test_rare_structures_are_drawn_in_proportion_to_their_distance() -> None:
    """95 crowded points and 5 lonely ones: probabilities are those of the weights."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.01, (95, 3)), rng.normal(0, 5, (5, 3)) + 20])
    weights = local_sparsity(points, 5)
    drawn = np.array([weighted_local_density(points, 1, 5, seed).indices[0] for seed in range(400)])
    expected = weights[95:].sum() / weights.sum()
    assert np.mean(drawn >= 95) == pytest.approx(
        expected, abs=4 * np.sqrt(expected * (1 - expected) / 400) + 0.01
    )
    assert expected > 0.9, "5 % of the structures get most of the weight"
    chosen = weighted_local_density(points, 50, 5, 0)
    assert len(set(chosen.indices)) == 50 and {95, 96, 97, 98, 99} <= set(chosen.indices)


def test_identical_structures_can_be_drawn() -> None:
    assert len(weighted_local_density(np.zeros((6, 2)), 4).indices) == 4
    with pytest.raises(InputError, match="there are 6"):
        weighted_local_density(np.zeros((6, 2)), 7)


def test_energies_are_ranked_within_a_composition() -> None:
    """A supercell counts per atom, and molecules of different formula are not compared with each other."""
    cu, cell = bulk("Cu"), bulk("Cu").repeat(2)
    gold = bulk("Au")
    images = [cu, cell, cu, gold, gold]
    energies = np.array([-3.0, -8 * 3.5, -3.2, -100.0, -99.9])
    high = by_energy(images, energies, 2, "high")
    assert np.allclose(high.scores, [0.5, 0.0, 0.3, 0.0, 0.1])
    assert high.indices.tolist() == [0, 2]
    assert by_energy(images, energies, 2, "low").indices.tolist() == [1, 3]
    with pytest.raises(InputError, match="needs an energy"):
        by_energy(images, np.full(5, np.nan), 2)


def test_model_descriptors_know_a_structure_however_it_is_written() -> None:
    config = HiMLIPConfig(("Cu",), n_radial=4, channels=2, hidden=8, layers=2)
    model, atoms = HiMLIP(config), rattled(bulk("Cu", cubic=True), 1, 0.1)[0]
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    other = rattled(bulk("Cu", cubic=True), 1, 0.1, seed=9)[0]
    a, b, c, d = model_descriptors(model, [atoms, turned, atoms.repeat((2, 1, 1)), other])
    assert np.allclose(a, b, atol=1e-9) and np.allclose(a, c, atol=1e-9)
    assert np.abs(a - d).max() > 1e-3


def _run(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, ["sample", *map(str, arguments)])
    return result.exit_code, result.output


def test_commands_write_indices_structures_and_a_figure(tmp_path) -> None:
    images = rattled(bulk("Cu", cubic=True), 8, 0.05) + rattled(bulk("Cu", cubic=True), 2, 0.5, seed=3)
    for k, image in enumerate(images):
        image.info["REF_energy"] = float(k)
    ase.io.write(tmp_path / "all.extxyz", images)
    code, output = _run(
        "density", tmp_path / "all.extxyz", "--out", tmp_path / "a", "-n", 4, "--descriptor", "model", "-k", 3
    )
    assert code == 0, output
    record = json.loads((tmp_path / "a" / "chosen.json").read_text())
    chosen = ase.io.read(tmp_path / "a" / "chosen.extxyz", index=":")
    assert len(chosen) == len(record["indices"]) == 4 and record["of"] == 10
    assert np.allclose(chosen[0].positions, images[record["indices"][0]].positions, atol=1e-7)
    assert (tmp_path / "a" / "chosen.png").stat().st_size > 1000
    code, output = _run("energy", tmp_path / "all.extxyz", "--out", tmp_path / "b", "-n", 3)
    assert code == 0, output
    assert json.loads((tmp_path / "b" / "chosen.json").read_text())["indices"] == [7, 8, 9]
    code, output = _run("rattle", tmp_path / "all.extxyz", "--out", tmp_path / "c", "-n", 2, "--stdev", 0.1)
    assert code == 0, output
    assert len(ase.io.read(tmp_path / "c" / "chosen.extxyz", index=":")) == 20


def test_a_model_without_its_descriptor_is_refused(tmp_path) -> None:
    words = ["sample", "density", "cells.extxyz", "-n", "5", "--out", str(tmp_path / "o"), "--model", "X"]
    result = CliRunner().invoke(himlip, words)
    assert result.exit_code == 2
    assert (
        "--model is of another descriptor than soap; type --descriptor model, or leave it out"
        in result.output
    )


def test_soap_by_dscribe() -> None:
    pytest.importorskip("dscribe")
    from himlip_ase.hint.selection import soap_descriptors

    atoms = rattled(bulk("Cu", cubic=True), 1, 0.1)[0]
    a, b, c = soap_descriptors([atoms, atoms.repeat((2, 1, 1)), Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]])])
    assert np.allclose(a, b, atol=1e-4 * np.abs(a).max())
    assert np.abs(a - c).max() > 1e-2 * np.abs(a).max()
