"""Labels are found wherever ASE put them, and refused when they cannot be right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from himlip_ase.errors import InputError
from himlip_ase.labels.checks import check_frames
from himlip_ase.labels.duplicates import check_separate, find_duplicates
from himlip_ase.labels.frames import HessianLabel, LabelledFrame, count_labels
from himlip_ase.labels.hessian_checks import check_hessian, sum_rule_deviation, symmetry_deviation
from himlip_ase.labels.label_keys import frame_from_atoms
from himlip_ase.labels.readers import read_hessian, read_labels
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.units import GPA_EV_PER_ANGSTROM3
from tests.hint.toy import rattled, toy_frame, toy_hessian, toy_labels


@pytest.fixture
def crystal() -> Atoms:
    return bulk("NaCl", "rocksalt", a=5.4).repeat((2, 1, 1))


def _with_calculator(atoms: Atoms) -> Atoms:
    energy, forces, stress = toy_labels(atoms)
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
    return atoms


def test_labels_are_read_from_the_calculator_and_from_ref_keys(tmp_path: Path, crystal: Atoms) -> None:
    """The same labels under ASE's own names (moved into the calculator) and under REF_ names."""
    image = rattled(crystal, 1, 0.1)[0]
    energy, forces, stress = toy_labels(image)
    ase.io.write(tmp_path / "own.extxyz", _with_calculator(image))
    plain = image.copy()
    plain.info |= {"REF_energy": energy, "REF_stress": stress}
    plain.arrays["REF_forces"] = forces
    ase.io.write(tmp_path / "ref.extxyz", plain)
    frames = read_labels([tmp_path / "own.extxyz", tmp_path / "ref.extxyz"])
    assert [f.set for f in frames] == ["own", "ref"]
    for frame in frames:
        assert frame.energy == pytest.approx(energy, abs=1e-7)
        assert frame.forces == pytest.approx(forces, abs=1e-7)
        assert frame.stress == pytest.approx(stress, abs=1e-7)
        assert frame.atoms.calc is None


def test_swallowed_labels_abort(tmp_path: Path, crystal: Atoms) -> None:
    ase.io.write(tmp_path / "bare.extxyz", crystal)
    with pytest.raises(InputError, match="no label in any"):
        read_labels(tmp_path / "bare.extxyz")
    with pytest.raises(InputError, match="no labels"):
        read_labels(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "absent.extxyz")


def test_counts_and_sets(tmp_path: Path, crystal: Atoms, caplog: pytest.LogCaptureFixture) -> None:
    images = rattled(crystal, 3, 0.1)
    ase.io.write(tmp_path / "a.extxyz", [_with_calculator(i) for i in images[:2]])
    only_energy = images[2].copy()
    only_energy.info["REF_energy"] = 1.0
    ase.io.write(tmp_path / "b.extxyz", only_energy)
    ase.io.write(tmp_path / "crystal.extxyz", crystal)
    with caplog.at_level("INFO", logger="himlip_ase"):
        frames = read_labels(tmp_path)
    counts = count_labels(frames)
    assert (counts.frames, counts.energies, counts.forces, counts.stresses) == (3, 3, 2, 2)
    assert "2 frames: 2 energies, 2 with forces" in caplog.text
    assert [f.set for f in read_labels(tmp_path, sets=["b"])] == ["b"]
    with pytest.raises(InputError, match=r"no set 'c'.*a, b"):
        read_labels(tmp_path, sets=["c"])


def test_constrained_frames_keep_their_raw_forces(crystal: Atoms) -> None:
    atoms = _with_calculator(rattled(crystal, 1, 0.1)[0])
    raw = atoms.calc.results["forces"].copy()
    atoms.set_constraint(FixAtoms(range(len(atoms))))
    assert np.abs(atoms.get_forces()).max() == 0
    frame = frame_from_atoms(atoms)
    assert np.array_equal(frame.forces, raw)
    assert not frame.atoms.constraints


def test_virial_becomes_stress_of_the_right_sign(crystal: Atoms) -> None:
    _, _, stress = toy_labels(crystal)
    xx, yy, zz, yz, xz, xy = stress
    atoms = crystal.copy()
    atoms.info["virial"] = -crystal.get_volume() * np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert frame_from_atoms(atoms).stress == pytest.approx(stress, abs=1e-12)


@pytest.mark.parametrize("text", ["Program PWSCF v.6.7", "JOB DONE. convergence NOT achieved"])
def test_fault_37_unfinished_and_unconverged_runs_are_no_labels(tmp_path: Path, text: str) -> None:
    (tmp_path / "pw.out").write_text(text)
    with pytest.raises(InputError, match=r"JOB DONE|did not converge"):
        read_labels(tmp_path / "pw.out")
    with pytest.raises(InputError, match="no labels"):
        read_labels(tmp_path)


# -- units and signs ----------------------------------------------------------------------------------------


def _strained(crystal: Atoms, factor: float) -> list[LabelledFrame]:
    """Frames under pressure at three volumes, their stress multiplied by `factor`."""
    frames = []
    for scale in (0.84, 0.85, 0.86):
        atoms = crystal.copy()
        atoms.set_cell(crystal.cell * scale, scale_atoms=True)
        frame = toy_frame(atoms)
        frames.append(replace(frame, stress=frame.stress * factor))
    return frames


def test_right_stress_passes(crystal: Atoms) -> None:
    check_frames(_strained(crystal, 1.0))


@pytest.mark.parametrize(
    "factor", [-1.0, 1 / GPA_EV_PER_ANGSTROM3, 10 / GPA_EV_PER_ANGSTROM3, GPA_EV_PER_ANGSTROM3]
)
def test_fault_26_stress_in_another_unit_or_of_wrong_sign_is_refused(crystal: Atoms, factor: float) -> None:
    with pytest.raises(InputError, match="stress"):
        check_frames(_strained(crystal, factor))


def test_fault_26_compressed_rattled_frames_of_wrong_sign_are_refused(crystal: Atoms) -> None:
    """Without a second volume, the sign is judged by what crystals can stand."""
    squeezed = crystal.copy()
    squeezed.set_cell(crystal.cell * 0.72, scale_atoms=True)
    frames = [toy_frame(a) for a in rattled(squeezed, 4, 0.05)]
    assert np.mean([f.stress[:3].mean() for f in frames]) < -0.1
    check_frames(frames)
    with pytest.raises(InputError, match="sign"):
        check_frames([replace(f, stress=-f.stress) for f in frames])


def test_nan_label_is_named(crystal: Atoms) -> None:
    frame = toy_frame(crystal)
    forces = frame.forces.copy()
    forces[1, 2] = np.nan
    with pytest.raises(InputError, match=r"here\.xyz#3: forces"):
        check_frames([replace(frame, forces=forces, source="here.xyz#3")])


# -- Hessians -----------------------------------------------------------------------------------------------


@pytest.fixture
def hessian_case() -> tuple[Atoms, np.ndarray]:
    atoms = bulk("NaCl", "rocksalt", a=5.2).repeat(2)
    matrix = toy_hessian(atoms)
    # Two kinds of atoms that a wrong order mixes up.
    scale = np.where(atoms.numbers == 11, 1.0, 2.0)
    pair = np.sqrt(scale[:, None] * scale[None, :])
    matrix = matrix * pair[:, None, :, None]
    for i in range(len(atoms)):
        matrix[i, :, i, :] -= matrix[i].sum(axis=1)
    return atoms, matrix


def test_right_hessian_passes(hessian_case: tuple[Atoms, np.ndarray]) -> None:
    atoms, matrix = hessian_case
    check_hessian(atoms, matrix)
    deviation, operations = symmetry_deviation(atoms, matrix)
    assert deviation < 1e-8
    assert operations == 48 + 8 - 1, "every rotation once, and all translations"


def test_fault_27_wrong_hessians_and_their_deviation(
    hessian_case: tuple[Atoms, np.ndarray],
) -> None:
    atoms, matrix = hessian_case
    n = len(atoms)
    with pytest.raises(InputError, match="need"):
        check_hessian(atoms, matrix.reshape(3 * n, n, 3))
    lopsided = matrix.copy()
    lopsided[0, 0, 5, 1] += 0.1 * np.abs(matrix).max()
    with pytest.raises(InputError, match=r"not symmetric.*10\.00%"):
        check_hessian(atoms, lopsided)
    heavy = matrix + 0.2 * np.abs(matrix).max() * np.einsum("ij,ab->iajb", np.eye(n), np.eye(3))
    with pytest.raises(InputError, match="acoustic sum rule violated by"):
        check_hessian(atoms, heavy)
    order = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)])
    shuffled = matrix[np.ix_(order, range(3), order, range(3))]
    assert sum_rule_deviation(shuffled) < 1e-10
    with pytest.raises(InputError, match=r"symmetry of its atoms.*%.*order"):
        check_hessian(atoms, shuffled)
    broken = matrix.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"\(0, 0, 0, 0\) is nan"):
        check_hessian(atoms, broken)


@pytest.mark.parametrize("name", ["PdH", "CaH6", "YH6", "LaH10"])
def test_hessians_of_hydrides_are_accepted(name: str) -> None:
    """In PdH the nearest pairs, Pd-H, couple least; in LaH10 farther pairs couple more than near ones."""
    label = read_hessian(Path(__file__).parents[2] / "examples" / "hydrides" / "labels" / name / "harmonic")
    order = np.random.default_rng(0).permutation(len(label.atoms))
    with pytest.raises(InputError, match="order"):
        check_hessian(label.atoms, label.matrix[np.ix_(order, range(3), order, range(3))])


def test_fault_27_wrong_atom_order_of_a_molecule_is_refused() -> None:
    """No symmetry is needed: bonded pairs couple more strongly than distant ones."""
    atoms = Atoms("C8", positions=[[1.4 * k, 0.3 * (k % 2), 0] for k in range(8)])
    matrix = toy_hessian(atoms)
    check_hessian(atoms, matrix)
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    with pytest.raises(InputError, match="order"):
        check_hessian(atoms, matrix[np.ix_(order, range(3), order, range(3))])


def test_hessian_label_of_force_constants_phonopy_and_qe(tmp_path: Path) -> None:
    primitive = bulk("NaCl", "rocksalt", a=5.2)
    n_cells = 8
    supercell = ForceConstants(primitive, (2, 2, 2), np.zeros((2, 2 * n_cells, 3, 3))).supercell
    stiff = 4.0  # the toy's springs are softer than any salt's
    matrix = stiff * toy_hessian(supercell)
    constants = ForceConstants.from_hessian(primitive, (2, 2, 2), matrix, order="phonopy")
    label = HessianLabel.from_force_constants(constants)
    assert label.matrix == pytest.approx(stiff * toy_hessian(label.atoms), abs=1e-8)
    from himlip_ase.phonons.phonopy_io import write_phonopy_params
    from himlip_ase.phonons.qe import write_dyn

    write_phonopy_params(constants, tmp_path / "phonopy_params.yaml")
    again = read_hessian(tmp_path / "phonopy_params.yaml")
    assert again.matrix == pytest.approx(label.matrix, abs=1e-6)
    assert again.atoms.get_chemical_symbols() == label.atoms.get_chemical_symbols()
    write_dyn(constants.dynamical_matrices(), tmp_path / "harmonic" / "dyn")
    for path in ("harmonic/dyn", "harmonic/dyn0", "harmonic"):
        from_qe = read_hessian(tmp_path / path)
        assert from_qe.name.startswith("harmonic/dyn")
        assert np.linalg.eigvalsh(from_qe.matrix.reshape(48, 48)) == pytest.approx(
            np.linalg.eigvalsh(label.matrix.reshape(48, 48)), abs=1e-5
        )
    with pytest.raises(InputError):
        read_hessian(tmp_path / "absent.yaml")
    with pytest.raises(InputError):
        read_hessian(tmp_path / "dyn")


# -- duplicates ---------------------------------------------------------------------------------------------


def test_fault_28_duplicates_within_and_between_sets(crystal: Atoms) -> None:
    frames = [toy_frame(a) for a in rattled(crystal, 4, 0.1)]
    assert find_duplicates(frames) == []
    moved = frames[1].atoms.copy()
    moved.positions += [0.3, -0.2, 0.7]
    moved.wrap()
    copy = toy_frame(moved[[2, 1, 0, 3]])
    found = find_duplicates([*frames, copy])
    assert [(d.first, d.second) for d in found] == [("toy#1", "toy#4")]
    check_separate(frames[:2], frames[2:])
    with pytest.raises(InputError, match="1 frames are in both"):
        check_separate(frames, [copy])


# -- phonopy ------------------------------------------------------------------------------------------------


def test_phonopy_forces_are_frames_and_a_hessian(tmp_path: Path) -> None:
    """FORCE_SETS: the frames give the forces, the Hessian is that of the same potential."""
    import phonopy
    from phonopy.file_IO import write_FORCE_SETS

    from himlip_ase.phonons.phonopy_objects import from_phonopy_atoms, to_phonopy_atoms

    cell = bulk("NaCl", "rocksalt", a=5.2, cubic=True)
    phonon = phonopy.Phonopy(to_phonopy_atoms(cell), [2, 1, 1], primitive_matrix="P")
    phonon.generate_displacements(distance=0.01)
    stiff = 4.0  # the toy's springs are softer than any salt's
    displaced = [from_phonopy_atoms(c) for c in phonon.supercells_with_displacements]
    phonon.forces = [stiff * toy_labels(atoms)[1] for atoms in displaced]
    folder = tmp_path / "nacl"
    folder.mkdir()
    phonon.save(folder / "phonopy_disp.yaml", settings={"force_sets": False})
    write_FORCE_SETS(phonon.dataset, filename=folder / "FORCE_SETS")
    frames = read_labels(folder / "FORCE_SETS")
    assert [f.set for f in frames] == ["nacl", "nacl"] and frames[0].energy is None
    for frame in frames:
        assert np.abs(frame.forces - stiff * toy_labels(frame.atoms)[1]).max() < 1e-6
    label = read_hessian(folder / "FORCE_SETS")
    exact = stiff * toy_hessian(label.atoms)
    assert np.abs(label.matrix - exact).max() < 1e-3 * np.abs(label.matrix).max()
    assert label.force_constants is not None


def test_a_hessian_of_himlip_hessian_is_a_label(tmp_path: Path) -> None:
    from himlip_ase.labels.hessian_file import StoredHessian, write_hessian

    atoms = bulk("Cu", "fcc", a=3.7, cubic=True).repeat((2, 1, 1))
    matrix = toy_hessian(atoms)
    write_hessian(tmp_path / "h.npz", StoredHessian(atoms, matrix, np.arange(8)))
    assert np.array_equal(read_hessian(tmp_path / "h.npz").matrix, matrix)
    write_hessian(tmp_path / "rows.h5", StoredHessian(atoms, matrix[:3], np.arange(3)))
    with pytest.raises(InputError, match="rows of 3 of 8 atoms"):
        read_hessian(tmp_path / "rows.h5")
