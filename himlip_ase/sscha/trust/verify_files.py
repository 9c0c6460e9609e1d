"""The configurations to verify in a run folder, what other codes give back for them, and the outcome on disk.

Everything lies in ``<run>/verify``: ``images.extxyz`` (n configurations, then the centroids; the first n stay
the same when n grows), ``pw/000``, … if Quantum ESPRESSO computes them, and the outcome as
``verification.json``, ``verification.npz`` and figures.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
from ase import Atoms

from himlip_ase.errors import InputError
from himlip_ase.evaluation import Evaluation, SinglePoint
from himlip_ase.files import atomic_write, write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.sscha.array_files import save_arrays
from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.results.result import SschaResult, load_result
from himlip_ase.sscha.run.checkpoints import State
from himlip_ase.sscha.run.final_ensemble import final_ensemble_name
from himlip_ase.sscha.run.finished_population import population_name
from himlip_ase.sscha.trust.verify import Verification

if TYPE_CHECKING:
    from himlip_ase.labels.frames import LabelledFrame

SAME_POSITION = 1e-3
"""Positions in other codes' files may differ by this much, Å."""


@dataclass(frozen=True, eq=False)
class FinalEnsemble:
    """The last ensemble of a run.

    Attributes
    ----------
    target : HarmonicDistribution
        The final auxiliary at the temperature of the run.
    ensemble : Ensemble
        Drawn from it, or reweighted to it.
    result : SschaResult
    """

    target: HarmonicDistribution
    ensemble: Ensemble
    result: SschaResult


def load_final_ensemble(folder: str | os.PathLike) -> FinalEnsemble:
    """The ensemble of the free-energy Hessian of a finished run, or its last population if it has none.

    Parameters
    ----------
    folder : path-like
        Of the run.

    Raises
    ------
    InputError
        No result, or its ensembles were deleted.
    """
    result, state = load_result(folder), State(Path(folder))
    number = len(result.populations)
    names = [
        final_ensemble_name(number, result.settings.n_hessian_configurations),
        population_name(number),
    ]
    found = next((ensemble for name in names if (ensemble := state.load_ensemble(name)) is not None), None)
    if found is None:
        raise InputError(f"{state.folder} holds no ensemble any more; run `himlip sscha` again")
    return FinalEnsemble(HarmonicDistribution(result.auxiliary, result.settings.temperature_k), found, result)


def write_images(path: Path, images: list[Atoms], overwrite: bool = False) -> None:
    """Write the configurations to verify, the last with ``centroids=T``, with full precision.

    Parameters
    ----------
    path : Path
    images : list of Atoms
        From :func:`~himlip_ase.sscha.trust.verify.verification_images`.
    overwrite : bool
        Whether an existing file may be replaced.
    """
    buffer = io.StringIO()
    for index, image in enumerate(images):
        bare = Atoms(image.numbers, positions=image.positions, cell=image.cell, pbc=True)
        bare.info["configuration"] = index
        if index == len(images) - 1:
            bare.info["centroids"] = True
        ase.io.write(buffer, bare, format="extxyz", columns=["symbols", "positions"])
    with atomic_write(path, overwrite=overwrite) as stream:
        stream.write(buffer.getvalue())


def read_reference(path: str | os.PathLike, images: list[Atoms]) -> Evaluation:
    """Energies, forces and stresses that any code gave back for the images, in whatever order.

    Parameters
    ----------
    path : path-like
        Labelled frames, as :func:`himlip_ase.labels.readers.read_labels` reads them: extended XYZ, folders of
        ``pw.out``, …
    images : list of Atoms
        From :func:`~himlip_ase.sscha.trust.verify.verification_images`.

    Returns
    -------
    Evaluation
        In the order of `images`.

    Raises
    ------
    InputError
        Images without a labelled frame at their positions; they are counted and named.
    """
    from himlip_ase.labels.readers import read_labels

    frames = read_labels(path)
    found, missing = match_reference(frames, images)
    if missing:
        raise InputError(
            f"{path} has {len(frames)} labelled frames but none at the positions of {len(missing)} of the "
            f"{len(images)} images (first: {missing[0]}); the last image is the structure on its centroids. "
            "Atoms must keep the order of images.extxyz"
        )
    return Evaluation.stack(found)


def match_reference(
    frames: Sequence[LabelledFrame], images: Sequence[Atoms]
) -> tuple[list[SinglePoint], list[int]]:
    """Labels of images by their positions, up to lattice vectors of the cell.

    Parameters
    ----------
    frames : sequence of LabelledFrame
        Those without energy or forces are passed over.
    images : sequence of Atoms

    Returns
    -------
    found : list of SinglePoint
        Of the images that have a label.
    missing : list of int
        The others.
    """
    whole = [frame for frame in frames if frame.energy is not None and frame.forces is not None]
    found: list[SinglePoint] = []
    missing: list[int] = []
    for index, image in enumerate(images):
        match = next((frame for frame in whole if _same_positions(frame.atoms, image)), None)
        if match is None:
            missing.append(index)
        else:
            assert match.energy is not None and match.forces is not None
            found.append(SinglePoint(match.energy, match.forces, match.stress))
    return found, missing


def _same_positions(atoms: Atoms, image: Atoms) -> bool:
    if not np.array_equal(atoms.numbers, image.numbers):
        return False
    if np.abs(atoms.cell.array - image.cell.array).max() > SAME_POSITION:
        return False
    shift = (atoms.positions - image.positions) @ np.linalg.inv(image.cell.array)
    return bool(np.abs((shift - np.rint(shift)) @ image.cell.array).max() < SAME_POSITION)


def _figure(value: Any, unit: str, uncertainty: Any = None) -> dict[str, Any]:
    return {
        "value": np.asarray(value).tolist(),
        "unit": unit,
        "uncertainty": None if uncertainty is None else np.asarray(uncertainty).tolist(),
    }


def write_verification(
    folder: Path, found: Verification, auxiliary: DynamicalMatrices, reference: str, overwrite: bool = False
) -> None:
    """Write ``verification.json`` (figures), ``verification.npz`` (all arrays) and ``corrected.dyn*``.

    Parameters
    ----------
    folder : Path
    found : Verification
    auxiliary : DynamicalMatrices
        That was verified.
    reference : str
        Name of the reference, for the record.
    overwrite : bool
        Whether existing files may be replaced.
    """
    from himlip_ase.phonons.qe import write_dyn

    c = found.corrections
    stress = None
    if found.stress_difference is not None:
        stress = _figure(found.stress_difference, "eV/Å^3, Voigt, positive in tension", found.stress_sigma)
    write_json(
        folder / "verification.json",
        {
            "schema": 1,
            "reference": reference,
            "configurations": found.chosen.tolist(),
            "energy": {"unit": "eV/atom above the centroids", **found.energy.as_dict()},
            "forces": [{"unit": "eV/Å", **d.as_dict()} for d in found.forces],
            "stress_difference": stress,
            "free_energy": _figure(c.free_energy, "eV/primitive cell", c.free_energy_sigma),
            "free_energy_change": _figure(
                c.free_energy_change, "eV/primitive cell", c.free_energy_change_sigma
            ),
            "qpoints": auxiliary.qpoints.tolist(),
            "auxiliary_frequencies": _figure(auxiliary.frequencies(), "cm^-1"),
            "corrected_frequencies": _figure(c.frequencies_cm, "cm^-1", c.frequencies_sigma_cm),
            "corrected_gradient": _figure(c.gradient_cm, "cm^-1", c.gradient_sigma_cm),
            "change_by_reference": _figure(c.change_cm, "cm^-1", c.change_sigma_cm),
            "mean_force": _figure(c.force, "eV/Å", c.force_sigma),
            "method": "control variate: potential on all configurations, reference on few; linear part of "
            "the difference averaged exactly; delete-one jackknife",
        },
        overwrite,
    )
    arrays = {"chosen": found.chosen, "change": c.change}
    for name, side in (("potential", found.potential), ("reference", found.reference)):
        arrays |= {f"{name}_energies": side.energies, f"{name}_forces": side.force_array}
    save_arrays(folder / "verification.npz", arrays, overwrite)
    write_dyn(c.auxiliary, folder / "corrected.dyn", overwrite)
