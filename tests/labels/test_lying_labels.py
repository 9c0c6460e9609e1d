"""Labels that lie are found out: refused with the number and what to type, or told."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.errors import InputError
from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.hint.training.finetune import finetune
from himlip_ase.hint.training.losses import LossWeights
from himlip_ase.hint.training.settings import TrainingSettings
from himlip_ase.hint.training.start import start_training
from himlip_ase.hint.training.training_labels import prepare_labels, split_indices
from himlip_ase.labels.checks import check_frames, hot_frames
from himlip_ase.labels.frames import HessianLabel, LabelledFrame
from himlip_ase.labels.hessian_checks import check_hessian
from himlip_ase.labels.label_keys import LabelKeys, frame_from_atoms
from himlip_ase.labels.readers import open_labels, read_hessian, read_labels
from himlip_ase.labels.stiffness import HARDEST, HESSIAN_UNITS, Stiffness
from himlip_ase.labels.store import LabelStore, write_labels
from himlip_ase.labels.stress_size import stress_size
from himlip_ase.labels.survey import Survey
from himlip_ase.potential.network import HiMLIPConfig
from himlip_ase.units import BOHR_ANGSTROM, EV_PER_ANGSTROM3_GPA, HARTREE_EV
from tests.hint.toy import rattled, toy_frame, toy_hessian

EXAMPLES = Path(__file__).parents[2] / "examples"
HA_BOHR2 = HARTREE_EV / BOHR_ANGSTROM**2
SETTINGS = TrainingSettings(epochs=1, device="cpu", validation_fraction=0.25)
NETWORK = HiMLIPConfig(("Cu",), cutoff=4.5, n_radial=4, channels=2, edge_features=2, hidden=8, layers=1)


def _emt(number: int, symbol: str = "Cu", amplitude: float = 0.1) -> list[LabelledFrame]:
    """Rattled cells of one shape at ambient pressure: no strain, nothing pulls or presses."""
    frames = []
    for atoms in rattled(bulk(symbol, cubic=True).repeat((2, 1, 1)), number, amplitude, seed=3):
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        frames.append(LabelledFrame(atoms.copy(), energy, forces, stress, set="emt"))
    return frames


@cache
def _low_symmetry() -> tuple[Atoms, np.ndarray]:
    """Eight atoms of three metals without a symmetry, and their Hessian by differences of forces."""
    atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
    atoms.symbols[:2] = ["Au", "Al"]
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * np.tri(3)), scale_atoms=True)
    atoms = rattled(atoms, 1, 0.15, seed=5)[0]
    return atoms, _by_differences(atoms)


def _by_differences(atoms: Atoms, step: float = 0.005) -> np.ndarray:
    matrix = np.zeros((len(atoms), 3, len(atoms), 3))
    for atom, axis in np.ndindex(len(atoms), 3):
        for sign in (1, -1):
            image = atoms.copy()
            image.positions[atom, axis] += sign * step
            image.calc = EMT()
            matrix[atom, axis] -= sign * image.get_forces() / (2 * step)
    return (matrix + matrix.transpose(2, 3, 0, 1)) / 2


# -- stress: fault 26 ---------------------------------------------------------------------------------------


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
    frames = _emt(8, symbol)
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
    for k, frame in enumerate(_emt(8, amplitude=0.15)):
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
    frames = _emt(3)
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
    frames = _emt(8)
    with pytest.raises(InputError, match="stress"):
        check_frames([replace(f, stress=-f.stress * f.atoms.get_volume()) for f in frames])


# -- Hessians: fault 27 -------------------------------------------------------------------------------------


def test_fault_27_right_hessians_pass() -> None:
    check_hessian(*_low_symmetry())
    for name in ("CH3CH2OH", "C6H6", "CH3NO2"):
        atoms = molecule(name)
        atoms.set_cell(np.eye(3))
        atoms.pbc = False
        check_hessian(atoms, _springs(atoms))


def _springs(atoms: Atoms) -> np.ndarray:
    """Stiff bonds, soft angles: a Hessian like a molecule's."""
    n = len(atoms)
    vectors = atoms.positions[None] - atoms.positions[:, None]
    r = np.linalg.norm(vectors, axis=2) + np.eye(n)
    unit = vectors / r[..., None]
    along = np.einsum("ija,ijb->ijab", unit, unit)
    stiff, soft = 40 * np.exp(-3 * (r - 1.0)), 2 * np.exp(-2 * (r - 1.0))
    blocks = -stiff[..., None, None] * along - soft[..., None, None] * (np.eye(3) - along)
    blocks[np.arange(n), np.arange(n)] = 0
    blocks[np.arange(n), np.arange(n)] = -blocks.sum(axis=1)
    return blocks.transpose(0, 2, 1, 3)


@pytest.mark.parametrize("crystal", [True, False])
def test_fault_27_case_A7_negated_hessian(crystal: bool) -> None:
    atoms, matrix = _low_symmetry() if crystal else (molecule("H2O"), _springs(molecule("H2O")))
    with pytest.raises(InputError, match=r"eigenvalues add up to -.*dF/dx"):
        check_hessian(atoms, -matrix)


def test_fault_27_case_A7_hessian_in_hartree_per_bohr2() -> None:
    """By the highest frequency of what it is made of."""
    atoms = molecule("CH3CH2OH")
    matrix = _springs(atoms)
    check_hessian(atoms, matrix)
    with pytest.raises(InputError, match=r"highest frequency is .*Ha/bohr² \(× 97\.174"):
        check_hessian(atoms, matrix / HA_BOHR2)
    with pytest.raises(InputError, match="kJ/mol/nm²"):
        check_hessian(atoms, matrix * 9648.5)


@cache
def _right_hessians() -> list[tuple[Atoms, np.ndarray]]:
    label = read_hessian(EXAMPLES / "h3s" / "labels_k12" / "harmonic" / "dyn")
    ethanol, metal = molecule("CH3CH2OH"), bulk("Cu", cubic=True)
    return [
        (label.atoms, label.matrix), (ethanol, _springs(ethanol)), (metal, _by_differences(metal)),
    ]  # fmt: skip


@pytest.mark.parametrize("unit", HESSIAN_UNITS)
def test_fault_27_hessian_alone_in_another_unit(unit: str) -> None:
    """No forces beside it: bonds as long as its structure's tell, under pressure, in metals and molecules."""
    for atoms, matrix in _right_hessians():
        found = Stiffness.of(atoms, matrix)
        assert found is not None and found.possible
        wrong = HESSIAN_UNITS[unit] * matrix
        with pytest.raises(InputError, match=rf"{unit}") as told:
            check_hessian(atoms, wrong)
        factor = float(re.search(rf"{unit} \(× ([\d.e+-]+) gives", str(told.value))[1])
        np.testing.assert_allclose(factor * wrong, matrix, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(
    "path", ["gfn2.h5", "wb97x.h5", "wb97x_more.h5", "../../reactions/labels/reactions.h5"]
)
def test_stiffness_of_all_committed_molecules(path: str) -> None:
    """Rattled, stretched and on the way of a reaction: no false alarm within a factor of two."""
    frames = open_labels(EXAMPLES / "molecules" / "labels" / path)
    found = [Stiffness.of(f.hessian.atoms, f.hessian.matrix) for f in frames if f.hessian is not None]
    assert len(found) > 50
    assert all(2 * s.least < s.value < HARDEST / 2 for s in found)


@pytest.mark.parametrize("metal", ["PdH", "CaH6", "YH6", "LaH10"])
def test_stiffness_of_the_committed_hydrides(metal: str) -> None:
    label = read_hessian(EXAMPLES / "hydrides" / "labels" / metal / "harmonic" / "dyn")
    found = Stiffness.of(label.atoms, label.matrix)
    assert 2 * found.least < found.value < HARDEST / 2


def test_fault_27_hessian_in_another_unit_than_the_forces() -> None:
    """Where both numbers are possible by themselves, the forces of other frames decide."""
    cell = bulk("Cu", "fcc", a=3.7, cubic=True)
    frames = [toy_frame(atoms) for atoms in rattled(cell, 8, 0.1)]
    label = HessianLabel(cell, toy_hessian(cell), "given")
    check_frames(frames, [label])
    for factor, words in ((23.06, "kcal"), (2 / HA_BOHR2, "Ry/bohr²"), (1 / HA_BOHR2, "Ha/bohr²")):
        wrong = replace(label, matrix=factor * label.matrix)
        with pytest.raises(InputError, match=f"given: the Hessian is .* what the forces.*{words}"):
            check_frames(frames, [wrong])
    own = HessianLabel(frames[0].atoms, 23.06 * toy_hessian(frames[0].atoms), "on a frame")
    with pytest.raises(InputError, match=r"on a frame: .* what the forces"):
        check_frames([replace(frames[0], hessian=own), *frames[1:]])


def test_fault_27_hessian_of_the_committed_h3s_labels() -> None:
    """A soft double well at 150 GPa passes; negated or in Ha/bohr² it does not."""
    label = read_hessian(EXAMPLES / "h3s" / "labels_k12" / "harmonic" / "dyn")
    check_hessian(label.atoms, label.matrix)
    for factor, words in ((-1.0, "dF/dx"), (1 / HA_BOHR2, "Ha/bohr²")):
        with pytest.raises(InputError, match=words):
            check_hessian(label.atoms, factor * label.matrix)


@pytest.mark.parametrize("seed", range(3))
def test_fault_27_case_A7_permuted_atoms_of_a_low_symmetry_cell(seed: int) -> None:
    atoms, matrix = _low_symmetry()
    order = np.random.default_rng(seed).permutation(len(atoms))
    with pytest.raises(InputError, match=r"unexplained, and \d+% with .* in another order|another order"):
        check_hessian(atoms, matrix[np.ix_(order, range(3), order, range(3))])


def test_fault_27_two_like_atoms_exchanged_in_a_molecule() -> None:
    atoms = molecule("CH3CH2OH")
    matrix, order = _springs(atoms), list(range(len(atoms)))
    hydrogens = [k for k in order if atoms.symbols[k] == "H"]
    first, second = hydrogens[0], hydrogens[-1]
    order[first], order[second] = second, first
    with pytest.raises(InputError, match="another order"):
        check_hessian(atoms, matrix[np.ix_(order, range(3), order, range(3))])


@pytest.mark.parametrize("axes", [[1, 2, 0], [0, 2, 1]])
def test_fault_27_case_A7_axes_of_another_frame(axes: list[int]) -> None:
    atoms, matrix = _low_symmetry()
    turn = np.eye(3)[axes]
    turn = turn * np.linalg.det(turn)
    turned = np.einsum("ac,icjd,bd->iajb", turn, matrix, turn)
    with pytest.raises(InputError, match=r"% if its axes are .* of the structure's"):
        check_hessian(atoms, turned)


# -- names: faults 24 and 25 --------------------------------------------------------------------------------


def test_fault_24_labels_under_unknown_names_abort_and_say_what_to_type(tmp_path: Path) -> None:
    frame = _emt(1)[0]
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
    frame = _emt(1)[0]
    atoms = frame.atoms.copy()
    atoms.info |= {energy: frame.energy, virial: -atoms.get_volume() * matrix_from_voigt(frame.stress)}
    atoms.arrays[forces] = frame.forces
    ase.io.write(tmp_path / "train.xyz", [atoms], format="extxyz")
    (found,) = read_labels(tmp_path / "train.xyz")
    assert found.energy == pytest.approx(frame.energy)
    assert found.forces == pytest.approx(frame.forces, abs=1e-7)
    assert found.stress == pytest.approx(frame.stress, abs=1e-8)


def test_folders_of_deepmd(tmp_path: Path) -> None:
    frames, system, folder = _emt(3), tmp_path / "cu", tmp_path / "cu" / "set.000"
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
    frame = _emt(1)[0]
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
    frame = _emt(1)[0]
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
    frames = [replace(f, set="bulk") for f in _emt(6)]
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


# -- NaN ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["forces", "stress", "positions", "energy", "weight"])
def test_one_nan_is_refused_and_named_on_disk_too(where: str, tmp_path: Path) -> None:
    """A missing label is a row of NaN in an .h5; a single NaN is none."""
    frames = _emt(3)
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


# -- what rules the loss, and what is held out --------------------------------------------------------------


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


def test_trajectories_are_told_and_can_be_held_out_at_their_end(caplog) -> None:
    rest = bulk("Cu", "fcc", a=3.7, cubic=True)
    amplitude = np.random.default_rng(1).normal(0, 0.1, rest.positions.shape)
    walk = []
    for k in range(20):
        atoms = rest.copy()
        atoms.positions += np.sin(k / 10) * amplitude
        walk.append(toy_frame(atoms, "md"))
    with caplog.at_level(logging.WARNING, "himlip_ase"):
        prepare_labels([toy_frame(a) for a in rattled(rest, 20, 0.1)], settings=SETTINGS)
        assert "hold_out" not in caplog.text
        prepare_labels(walk, settings=SETTINGS)
    assert "neighbouring frames of md are alike" in caplog.text and "hold_out: trajectories" in caplog.text
    last = prepare_labels(walk, settings=replace(SETTINGS, hold_out="trajectories"))
    assert [f.energy for f in last.held_out] == [f.energy for f in walk[-5:]]


def test_whole_compositions_are_held_out() -> None:
    formulas = ["A"] * 6 + ["B"] * 5 + ["C"] * 4
    kept, held = split_indices(["s"] * 15, 0.3, 0, "structures", formulas)
    assert sorted(kept + held) == list(range(15)) and len(held) >= 5
    assert not {formulas[k] for k in kept} & {formulas[k] for k in held}
    with pytest.raises(InputError, match="several compositions"):
        split_indices(["s"] * 5, 0.3, 0, "structures", ["A"] * 5)


def test_molecules_far_from_rest_are_no_lies() -> None:
    examples = Path(__file__).parents[2] / "examples"
    for file, places in (
        ("molecules/labels/gfn2.h5", (733, 845)),
        ("reactions/labels/reactions.h5", (685, 1458)),
    ):
        store = LabelStore(
            examples / file
        )  # springs leave 48 % of it; CO beyond its inflection; bonds that break
        for place in places:
            check_hessian(store[place].atoms, store[place].hessian.matrix)


def test_whole_sets_are_held_out() -> None:
    sets = ["reaction 1"] * 6 + ["reaction 2"] * 5 + ["reaction 3"] * 4
    kept, held = split_indices(sets, 0.3, 0, "sets")
    assert sorted(kept + held) == list(range(15)) and held
    assert not {sets[k] for k in kept} & {sets[k] for k in held}
    with pytest.raises(InputError, match="several sets"):
        split_indices(["one"] * 5, 0.3, 0, "sets")


def test_the_command_takes_names_of_labels(tmp_path: Path) -> None:
    frames = _emt(6)
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
