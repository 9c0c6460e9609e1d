"""pypolymlp on the labels of H3S, for `benchmarks/engine_page.py`; runs in an environment that has it.

    python -m benchmarks.engine_page --before FOLDER --polynomial-python ENVIRONMENT/bin/python

The page starts it as ``python -m benchmarks.engine_polynomial FRAMES`` there.
Learns energies, forces and stresses of `examples/h3s/labels_k12`, but those of `validation`, and of a file of
further frames, in three sizes: polynomials of pair invariants and polynomial invariants to third order
(model type 3), 5 Å, ridge by pypolymlp's own search. Writes names and force errors on `validation` as one
line of JSON, then answers every number of a size that it reads with the CPU seconds of a force call of 32
atoms.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.stress import voigt_6_to_full_3x3_stress

LABELS = Path(__file__).resolve().parents[1] / "examples" / "h3s" / "labels_k12"
ELEMENTS = ("S", "H")
SIZES: dict[str, dict[str, Any]] = {
    "l ≤ 2, 5 radial": {"gtinv_maxl": (2, 2), "gaussian_params2": (0.0, 4.0, 5)},
    "l ≤ 4, 6 radial": {"gtinv_maxl": (4, 4), "gaussian_params2": (0.0, 4.0, 6)},
    "l ≤ 4, 8 radial": {"gtinv_maxl": (4, 4), "gaussian_params2": (0.0, 4.0, 8)},
}
ATOMS = 32


def structure(atoms: Atoms) -> Any:
    """pypolymlp's form, atoms ordered by element, and that order."""
    from pypolymlp.core.data_format import PolymlpStructure

    symbols = np.array(atoms.get_chemical_symbols())
    order = np.concatenate([np.flatnonzero(symbols == element) for element in ELEMENTS])
    counts = [int((symbols == element).sum()) for element in ELEMENTS]
    types = [kind for kind, count in enumerate(counts) for _ in range(count)]
    return PolymlpStructure(
        axis=np.array(atoms.cell).T, positions=atoms.get_scaled_positions()[order].T, n_atoms=counts,
        elements=[ELEMENTS[kind] for kind in types], types=types, volume=atoms.get_volume(),
    ), order  # fmt: skip


def columns(frames: list[Atoms]) -> dict[str, Any]:
    """Labels in pypolymlp's form."""
    pairs = [structure(atoms) for atoms in frames]
    return {
        "structures": [one for one, _ in pairs],
        "energies": np.array([atoms.info["REF_energy"] for atoms in frames]),
        "forces": [
            atoms.arrays["REF_forces"][order].T for atoms, (_, order) in zip(frames, pairs, strict=True)
        ],
        "stresses": np.array(
            [-atoms.get_volume() * voigt_6_to_full_3x3_stress(atoms.info["REF_stress"]) for atoms in frames]
        ),
    }


def learnt(frames: list[Atoms], size: dict[str, Any], path: str) -> Any:
    """What evaluates a polynomial after learning; a tenth of the frames chooses its ridge."""
    from pypolymlp.calculator.properties import Properties
    from pypolymlp.mlp_dev.pypolymlp import Pypolymlp

    per_atom = float(np.mean([atoms.info["REF_energy"] / len(atoms) for atoms in frames]))
    fit = Pypolymlp()
    fit.set_params(
        elements=ELEMENTS, cutoff=5.0, model_type=3, max_p=2, gtinv_order=3,
        atomic_energy=(per_atom, per_atom), **size,
    )  # fmt: skip
    kept = [atoms for index, atoms in enumerate(frames) if index % 10 != 9]
    given = {f"train_{name}": value for name, value in columns(kept).items()}
    given |= {f"test_{name}": value for name, value in columns(frames[9::10]).items()}
    fit.set_datasets_structures(**given)
    fit.run()
    fit.save_mlp(filename=path)
    return Properties(pot=path)


def forces(properties: Any, atoms: Atoms) -> np.ndarray:
    """In the order of the atoms."""
    one, order = structure(atoms)
    found = np.empty((len(order), 3))
    found[order] = properties.eval(one)[1].T
    return found


def main() -> None:
    """Learn, then answer until there is nothing to read."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what pypolymlp prints
    judges = read(LABELS / "validation.extxyz", ":")
    taught = [Path(path) for path in sys.argv[1:]]
    paths = taught + sorted(path for path in LABELS.glob("*.extxyz") if path.stem != "validation")
    frames = [atoms for path in paths for atoms in read(path, ":") if "REF_stress" in atoms.info]
    models, rows = [], []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        for number, (name, size) in enumerate(SIZES.items()):
            model = learnt(frames, size, f"{folder}/{number}.yaml")
            missed = np.concatenate([forces(model, one) - one.arrays["REF_forces"] for one in judges])
            error = 1e3 * float(np.sqrt(np.mean(missed**2)))
            rows.append({"name": f"pypolymlp, {name}", "rmse_mev_a": error})
            models.append(model)
    print(json.dumps(rows), file=answers, flush=True)
    atoms = next(one for one in [*judges, *(judges[0] * (n, 1, 1) for n in (2, 4, 8))] if len(one) == ATOMS)
    for line in sys.stdin:
        start = time.process_time()
        forces(models[int(line)], atoms)
        print(time.process_time() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
