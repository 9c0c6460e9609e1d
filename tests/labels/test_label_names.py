"""Names of labels in files: refused with what to type where they are unknown, stale or strange."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import start_training
from himlip_ase.hint.training.training_labels import prepare_labels
from himlip_ase.labels.label_keys import LabelKeys, frame_from_atoms
from himlip_ase.labels.readers import read_labels
from himlip_ase.potential.network import HiMLIPConfig
from tests.labels.emt import emt_frames

SETTINGS = TrainingSettings(epochs=1, device="cpu", validation_fraction=0.25)
NETWORK = HiMLIPConfig(("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1)


def test_fault_24_labels_under_unknown_names_abort_and_say_what_to_type(tmp_path: Path) -> None:
    frame = emt_frames(1)[0]
    atoms = frame.atoms.copy()
    atoms.info |= {
        "qm_energy": frame.energy,
        "qm_virial": -frame.stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3),
    }
    atoms.info["qm_virial"] = atoms.info["qm_virial"] * atoms.get_volume()
    atoms.arrays["qm_force"] = frame.forces
    ase.io.write(tmp_path / "qm.extxyz", [atoms])
    with pytest.raises(
        InputError, match="--energy-key qm_energy --forces-key qm_force --stress-key qm_virial"
    ):
        read_labels(tmp_path / "qm.extxyz")
    (found,) = read_labels(tmp_path / "qm.extxyz", keys=LabelKeys("qm_energy", "qm_force", "qm_virial"))
    assert found.energy == pytest.approx(frame.energy)
    assert found.forces == pytest.approx(frame.forces, abs=1e-7)
    assert found.stress == pytest.approx(frame.stress, abs=1e-8)


@pytest.mark.parametrize(
    ("energy", "forces", "virial"),
    [
        ("REF_energy", "REF_forces", "REF_virials"),  # MACE
        ("energy", "force", "virial"),  # GPUMD
        ("dft_energy", "dft_force", "dft_virial"),  # GAP
    ],
)
def test_names_of_other_codes(tmp_path: Path, energy: str, forces: str, virial: str) -> None:
    frame = emt_frames(1)[0]
    atoms = frame.atoms.copy()
    atoms.info |= {energy: frame.energy, virial: -atoms.get_volume() * matrix_from_voigt(frame.stress)}
    atoms.arrays[forces] = frame.forces
    ase.io.write(tmp_path / "train.xyz", [atoms], format="extxyz")
    (found,) = read_labels(tmp_path / "train.xyz")
    assert found.energy == pytest.approx(frame.energy)
    assert found.forces == pytest.approx(frame.forces, abs=1e-7)
    assert found.stress == pytest.approx(frame.stress, abs=1e-8)


def test_folders_of_deepmd(tmp_path: Path) -> None:
    frames, system, folder = emt_frames(3), tmp_path / "cu", tmp_path / "cu" / "set.000"
    folder.mkdir(parents=True)
    (system / "type_map.raw").write_text("Al\nCu\n")
    (system / "type.raw").write_text("\n".join(["1"] * len(frames[0].atoms)))
    np.save(folder / "coord.npy", [f.atoms.positions.ravel() for f in frames])
    np.save(folder / "box.npy", [f.atoms.cell.array.ravel() for f in frames])
    np.save(folder / "energy.npy", [f.energy for f in frames])
    np.save(folder / "force.npy", [f.forces.ravel() for f in frames])
    volume = frames[0].atoms.get_volume()
    order = [0, 5, 4, 5, 1, 3, 4, 3, 2]
    np.save(folder / "virial.npy", [-volume * f.stress[order] for f in frames])
    found = read_labels(system)
    assert [f.set for f in found] == ["cu"] * 3 and found[0].atoms.get_chemical_formula() == "Cu8"
    for a, b in zip(found, frames, strict=True):
        assert a.energy == pytest.approx(b.energy)
        assert np.allclose(a.forces, b.forces) and np.allclose(a.stress, b.stress)
    np.save(folder / "force.npy", np.zeros((3, 6)))
    with pytest.raises(InputError, match=r"force\.npy does not fit 8 atoms"):
        read_labels(system)


def test_stale_reference_labels_are_refused_until_one_is_named() -> None:
    frame = emt_frames(1)[0]
    atoms = frame.atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
    atoms.info["REF_energy"] = frame.energy - 5.0
    with pytest.raises(InputError, match=r"energy differ by 5: REF_energy and energy.*--energy-key"):
        frame_from_atoms(atoms)
    assert frame_from_atoms(atoms, keys=LabelKeys("REF_energy")).energy == frame.energy - 5.0
    assert frame_from_atoms(atoms, keys=LabelKeys("energy")).energy == frame.energy
    atoms.info["REF_energy"] = frame.energy + 1e-5
    assert frame_from_atoms(atoms).energy == frame.energy + 1e-5
    atoms.arrays["REF_forces"] = frame.forces[::-1].copy()
    with pytest.raises(InputError, match="forces differ"):
        frame_from_atoms(atoms)


def test_free_energies_of_metals_are_taken_and_told(tmp_path: Path, caplog) -> None:
    frame = emt_frames(1)[0]
    atoms = frame.atoms.copy()
    atoms.calc = SinglePointCalculator(
        atoms, energy=frame.energy, free_energy=frame.energy - 0.3, forces=frame.forces
    )
    ase.io.write(tmp_path / "metal.traj", atoms)
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        (found,) = read_labels(tmp_path / "metal.traj")
    assert found.energy == pytest.approx(frame.energy - 0.3)
    assert "differ by up to 0.3 eV" in caplog.text and "--energy-key energy" in caplog.text
    (named,) = read_labels(tmp_path / "metal.traj", keys=LabelKeys("energy"))
    assert named.energy == pytest.approx(frame.energy)


@pytest.mark.parametrize("key", ["charge", "total_charge", "initial_charges"])
def test_charged_frames_are_refused(key: str) -> None:
    atoms = molecule("H2O")
    atoms.info["energy"] = -14.0
    if key == "initial_charges":
        atoms.set_initial_charges([-1.0, 0.0, 0.0])
    else:
        atoms.info[key] = -1
    with pytest.raises(InputError, match=r"charge.* is -1.*neutral systems only"):
        frame_from_atoms(atoms)
    atoms.info.pop(key, None)
    atoms.set_initial_charges([-0.8, 0.4, 0.4])
    assert frame_from_atoms(atoms).energy == -14.0


def test_spins_are_told(tmp_path: Path, caplog) -> None:
    images = [molecule("O2") for _ in range(2)]
    for k, atoms in enumerate(images):
        atoms.set_initial_magnetic_moments()
        atoms.info |= {"REF_energy": -9.0 - k, "multiplicity": 3 - 2 * k}
    ase.io.write(tmp_path / "o2.extxyz", images)
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        read_labels(tmp_path / "o2.extxyz")
    assert "1 frames carry a spin (3)" in caplog.text


def test_isolated_atoms_are_the_energies_of_the_elements() -> None:
    frames = [replace(f, set="bulk") for f in emt_frames(6)]
    atom = Atoms("Cu", cell=[12, 12, 12], pbc=True)
    atom.info |= {"REF_energy": 3.25, "config_type": "IsolatedAtom"}
    atom.arrays["REF_forces"] = np.zeros((1, 3))
    isolated = frame_from_atoms(atom)
    assert isolated.set == "IsolatedAtom"
    labels = prepare_labels([*frames, isolated], settings=SETTINGS)
    assert labels.element_energies == {"Cu": 3.25}
    assert labels.counts.frames + labels.held_counts.frames == 6
    start = start_training(
        labels.training, labels.elements, [], None, NETWORK, SETTINGS, labels.element_energies
    )
    assert float(start.model.get_buffer("energy_shift")[0]) == 3.25
    free = start_training(labels.training, labels.elements, [], None, NETWORK, SETTINGS)
    assert abs(float(free.model.get_buffer("energy_shift")[0])) < 1.0
    assert finetune([*frames, isolated], settings=SETTINGS, network=NETWORK).report["labels"]["sets"] == {
        "bulk": labels.counts.frames
    }


def test_the_command_takes_names_of_labels(tmp_path: Path) -> None:
    frames = emt_frames(6)
    images = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.info |= {"REF_energy": frame.energy, "energy_ml": frame.energy + 5.0}
        atoms.arrays |= {"REF_forces": frame.forces}
        images.append(atoms)
    ase.io.write(tmp_path / "two.extxyz", images)
    labels = ["--labels", str(tmp_path / "two.extxyz")]
    result = CliRunner().invoke(app, ["eval", "himlip-h3s-1", *labels, "--energy-key", "energy_xx"])
    assert result.exit_code == 2
    assert "no structure has 'energy_xx'" in result.output and "--energy-key energy_ml" in result.output


def test_names_that_a_reader_made_numbers_are_told(tmp_path: Path, caplog) -> None:
    atoms = Atoms("H")
    atoms.info |= {"REF_energy": -1.0, "set": "2_2"}
    ase.io.write(tmp_path / "names.extxyz", atoms)
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        assert read_labels(tmp_path / "names.extxyz")[0].set == "22"
    assert "are now 22; give names with a letter" in caplog.text
