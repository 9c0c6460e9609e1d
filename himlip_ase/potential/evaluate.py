"""Energies, forces and stresses of many structures, in batches that fit the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from ase import Atoms

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.evaluation import Evaluation, voigt_from_matrix
from himlip_ase.potential.derivatives import energy_forces_stress
from himlip_ase.potential.fused import tensors_of
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.memory import is_out_of_memory
from himlip_ase.potential.neighbours import PairList


def evaluate(
    model: Potential,
    images: Sequence[Atoms] | Atoms,
    stress: bool = True,
    chunk_atoms: int | None = None,
    find: Callable[[Atoms], PairList] | None = None,
) -> Evaluation:
    """Energies, forces and stresses of a batch of structures, on the model's device and in its precision.

    Structures with similarly many neighbours share a batch; a batch that does not fit in memory is split in
    two and tried again. The values do not depend on the batches.

    Parameters
    ----------
    model : Potential
    images : Atoms or sequence of Atoms
        Any mixture of molecules, slabs and crystals. An empty sequence gives an empty result.
    stress : bool
        Whether to compute stresses.
    chunk_atoms : int, optional
        Largest number of atoms per batch (a larger structure makes a batch of its own). By default a batch
        has about `Potential.batch_pairs` atom pairs.
    find : callable, optional
        Where pairs of atoms come from (see `himlip_ase.potential.neighbours.VerletList`); looked for anew by
        default.

    Returns
    -------
    Evaluation
        In the order of `images`, float64.

    Raises
    ------
    InputError
        A structure that the model cannot take, by its index.
    CalculationError
        A non-finite energy, force or stress; the message names the structure.
    """
    frames = [images] if isinstance(images, Atoms) else list(images)
    if chunk_atoms is not None and chunk_atoms < 1:
        raise InputError(f"chunk_atoms must be at least 1, got {chunk_atoms}")
    energies = np.zeros(len(frames))
    stresses = np.full((len(frames), 6), np.nan)
    forces: list[np.ndarray] = [np.zeros((0, 3))] * len(frames)
    waiting = list(reversed(_chunks(frames, model.cutoff, chunk_atoms, model.batch_pairs)))
    with frozen(model):
        while waiting:
            chunk = waiting.pop()
            result = _try_batch(model, frames, chunk, stress, find)
            if result is None:
                half = len(chunk) // 2
                waiting += [chunk[half:], chunk[:half]]
                continue
            for index, energy, force, strain_gradient in zip(chunk, *result, strict=True):
                energies[index], forces[index], stresses[index] = energy, force, strain_gradient
    _check_finite(frames, energies, forces, stresses if stress else None)
    return Evaluation(energies, forces, stresses)


@contextlib.contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """The model's parameters without gradients: derivatives with respect to positions become cheaper."""
    trainable = [tensor for tensor in tensors_of(model) if tensor.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _try_batch(
    model: Potential,
    frames: list[Atoms],
    chunk: list[int],
    stress: bool,
    find: Callable[[Atoms], PairList] | None,
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray] | None:
    """Energies, forces and stresses of some frames; None when they need more memory than there is."""
    reference = next(model.parameters())
    try:
        graph = build_graph(
            [frames[index] for index in chunk],
            model.elements,
            model.cutoff,
            device=reference.device,
            dtype=reference.dtype,
            find=find,
        )
        result = energy_forces_stress(model, graph, stress=stress)
        energies = result.energies.double().cpu().numpy()
        forces = result.forces.double().cpu().numpy()
        tensors = None if result.stresses is None else result.stresses.double().cpu().numpy()
    except InputError as error:
        raise _named(error, frames, chunk, model) from error
    except (RuntimeError, MemoryError) as error:
        if len(chunk) == 1 or not is_out_of_memory(error):
            raise
        return None
    splits = np.cumsum([len(frames[index]) for index in chunk])[:-1]
    if tensors is None:
        voigt = np.full((len(chunk), 6), np.nan)
    else:
        voigt = voigt_from_matrix(tensors)
    return energies, [part.copy() for part in np.split(forces, splits)], voigt


def _named(error: InputError, frames: list[Atoms], chunk: list[int], model: Potential) -> InputError:
    """The error of the first structure of a batch that has one, with the structure's index in front."""
    if len(frames) == 1:
        return error
    for index in chunk:
        try:
            build_graph(frames[index], model.elements, model.cutoff)
            model.check(frames[index])
        except InputError as single:
            return InputError(f"structure {index} ({frames[index].get_chemical_formula()}): {single}")
    return error


def _expected_neighbours(atoms: Atoms, cutoff: float) -> float:
    """Rough number of neighbours of an atom, for putting alike structures together."""
    n_atoms = len(atoms)
    if n_atoms == 0 or not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        return 1.0
    if not atoms.pbc.any():
        return max(n_atoms - 1.0, 1.0)
    lengths = np.ptp(atoms.positions, axis=0).max() + 2.0
    cell = np.where(np.asarray(atoms.pbc)[:, None], atoms.cell.array, lengths * atoms.cell.complete().array)
    cell[~atoms.pbc] *= lengths / np.maximum(np.linalg.norm(cell[~atoms.pbc], axis=1), 1e-8)[:, None]
    volume = max(abs(float(np.linalg.det(cell))), 1e-3)
    return max(4 / 3 * np.pi * cutoff**3 * n_atoms / volume, 1.0)


def _chunks(frames: list[Atoms], cutoff: float, chunk_atoms: int | None, batch_pairs: int) -> list[list[int]]:
    """Indices of the frames of each batch."""
    if len(frames) == 1:
        return [[0]]
    widths = np.array([_expected_neighbours(atoms, cutoff) for atoms in frames])
    chunks: list[list[int]] = []
    atoms = 0
    for index in np.argsort(widths, kind="stable").tolist():
        allowed = chunk_atoms or max(1, int(batch_pairs / widths[index]))
        if not chunks or atoms + len(frames[index]) > allowed:
            chunks.append([])
            atoms = 0
        chunks[-1].append(index)
        atoms += len(frames[index])
    return chunks


def _check_finite(
    frames: list[Atoms], energies: np.ndarray, forces: list[np.ndarray], stresses: np.ndarray | None
) -> None:
    for index, atoms in enumerate(frames):
        bad = [
            name
            for name, value in (
                ("energy", energies[index]),
                ("forces", forces[index]),
                ("stress", 0.0 if stresses is None or not atoms.pbc.all() else stresses[index]),
            )
            if not np.isfinite(value).all()
        ]
        if bad:
            raise CalculationError(
                f"non-finite {', '.join(bad)} for structure {index} ({atoms.get_chemical_formula()}); "
                "check it for colliding atoms, and the model's weights"
            )
