"""Force constants and dynamical matrices of Quantum ESPRESSO and phonopy, quasi-harmonic volumes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from ase import Atoms

from .kind import Kind, copied_labels, current
from .label_inputs import frames


def _symmetric_constants() -> np.ndarray:
    """(3, 3, 2, 2, 2) of one atom on a simple cubic lattice: axes may be exchanged and reversed; sum zero."""
    values = np.random.default_rng(0).normal(size=(3, 3, 2, 2, 2)) + np.arange(8).reshape(2, 2, 2)
    orders = list(itertools.permutations(range(3)))
    turned = [values[np.ix_(o, o)].transpose(0, 1, *np.add(o, 2)) for o in orders]
    values = np.mean(turned, axis=0) * np.eye(3)[:, :, None, None, None]
    values[:, :, 0, 0, 0] -= values.sum(axis=(2, 3, 4))
    return values


def _q2r(folder: Path) -> None:
    constants = _symmetric_constants()
    lines = ["  1    1   1   5.0000000  0.0000000  0.0000000  0.0000000  0.0000000  0.0000000"]
    lines += ["           1  'Al '    24590.7656", "    1    1      0.0 0.0 0.0", " F", "   2   2   2"]
    for i in range(3):
        for j in range(3):
            lines.append(f"   {i + 1}   {j + 1}   1   1")
            for m in np.ndindex(2, 2, 2):
                value = constants[(i, j, *m)]
                lines.append("   {}   {}   {}  {: .11E}".format(*(np.array(m[::-1]) + 1), value))
    (folder / "q2r.fc").write_text("\n".join(lines) + "\n")


def _xml_dyn(folder: Path) -> None:
    from tests.phonons.qe_writers import as_xml, with_frequencies

    copied_labels("harmonic/dyn*")(folder)
    for number in (1, 2, 3):
        file = current("phonons.qe_text.read_dyn_file")(folder / f"dyn{number}")
        (folder / f"dyn{number}.xml").write_text(with_frequencies(as_xml(file), file))
        (folder / f"dyn{number}").unlink()


def _xml_fc(folder: Path) -> None:
    from ase.build import bulk

    from tests.phonons.qe_writers import xml_fc

    values = _symmetric_constants().transpose(2, 3, 4, 0, 1)[None, None]
    (folder / "q2r.fc.xml").write_text(xml_fc(bulk("Al", "sc", a=2.65), 2.65, values))


def _phonopy(folder: Path) -> None:
    import phonopy
    from ase.build import bulk
    from phonopy.file_IO import write_FORCE_CONSTANTS, write_force_constants_to_hdf5, write_FORCE_SETS
    from phonopy.structure.atoms import PhonopyAtoms

    from tests.hint.toy import toy_labels

    cube = bulk("NaCl", "rocksalt", a=5.2)
    cell = PhonopyAtoms(symbols=cube.get_chemical_symbols(), cell=cube.cell, positions=cube.positions)
    phonon = phonopy.Phonopy(cell, [2, 1, 1], primitive_matrix="P")
    phonon.generate_displacements(distance=0.01)
    phonon.forces = [
        toy_labels(Atoms(c.symbols, positions=c.positions, cell=c.cell, pbc=True))[1]
        for c in phonon.supercells_with_displacements
    ]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    phonon.save(folder / "phonopy_disp.yaml", settings={"force_sets": False, "force_constants": False})
    write_FORCE_SETS(phonon.dataset, filename=folder / "FORCE_SETS")
    write_FORCE_CONSTANTS(phonon.force_constants, filename=folder / "FORCE_CONSTANTS")
    write_force_constants_to_hdf5(phonon.force_constants, filename=folder / "force_constants.hdf5")
    phonon.save(folder / "phonopy_params.yaml", settings={"force_constants": True})


def _volume(folder: Path) -> None:
    """A volume of a quasi-harmonic scan of one atom."""
    numbers = {"strain": 0.0, "volume": 11.5, "energy": -0.01}
    arrays = {
        "dims": [2, 2, 2],
        "mesh": [1, 1, 1],
        "start": np.eye(3),
        "cell": np.eye(3),
        "lengths": [1.0] * 3,
    }
    rows = {
        "positions": np.zeros((1, 3)),
        "frequencies": np.ones((1, 3)),
        "grid_frequencies": np.ones((8, 3)),
    }
    np.savez(folder / "volume_00.npz", **numbers, **arrays, **rows)


KINDS = (
    Kind(
        "volume of a quasi-harmonic scan",
        _volume,
        ("volume_00.npz",),
        lambda n, d: n("phonons.quasi_harmonic.read_volume")(d / "volume_00.npz"),
    ),
    Kind(
        "dyn files",
        copied_labels("harmonic/dyn*"),
        ("dyn*",),
        lambda n, d: n("phonons.qe.read_dyn")(d / "dyn"),
    ),
    Kind("q2r.x force constants", _q2r, ("q2r.fc",), lambda n, d: n("phonons.q2r.read_q2r")(d / "q2r.fc")),
    Kind("XML dyn files", _xml_dyn, ("dyn*.xml",), lambda n, d: n("phonons.qe.read_dyn")(d / "dyn")),
    Kind("q2r.x XML", _xml_fc, ("q2r.fc.xml",), lambda n, d: n("phonons.q2r.read_q2r")(d / "q2r.fc.xml")),
    *(
        Kind(
            f"phonopy {name}",
            _phonopy,
            (name,),
            lambda n, d, name=name: n("phonons.phonopy_files.read_force_constants")(d / name),
            slow=True,
        )
        for name in ("FORCE_CONSTANTS", "force_constants.hdf5", "phonopy_params.yaml", "phonopy_disp.yaml")
    ),
    Kind(
        "phonopy FORCE_SETS",
        _phonopy,
        ("FORCE_SETS", "phonopy_disp.yaml"),
        lambda n, d: frames(n, d / "FORCE_SETS"),
    ),
)
