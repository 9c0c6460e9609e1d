"""Which structures to label: those that are unlike the others, or those high or low in energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from himlip_ase.errors import InputError
from himlip_ase.potential.network import HiMLIP, element_union


@dataclass(frozen=True)
class Selection:
    """Chosen structures.

    Attributes
    ----------
    indices : ndarray (n,)
        Ascending.
    scores : ndarray (N,)
        What the choice went by, of every structure: mean distance to the nearest neighbours, or energy per
        atom above the lowest of the same composition.
    method : str
    """

    indices: np.ndarray
    scores: np.ndarray
    method: str


def soap_descriptors(
    images: Sequence[Atoms], cutoff: float = 5.0, n_max: int = 6, l_max: int = 4
) -> np.ndarray:
    """SOAP power spectra averaged over the atoms of each structure, by dscribe.

    Parameters
    ----------
    images : sequence of Atoms
    cutoff : float
        Å.
    n_max, l_max : int
        Radial functions and largest degree.

    Returns
    -------
    ndarray (N, D)

    Raises
    ------
    InputError
        dscribe is not installed.
    """
    try:
        from dscribe.descriptors import SOAP
    except ImportError as error:
        raise InputError(
            "SOAP descriptors need dscribe: pip install 'himlip-ase[molecules]'; "
            "or take a model's own descriptors with --descriptor model"
        ) from error
    species = element_union([atoms.get_chemical_symbols() for atoms in images])
    rows = []
    for atoms in images:
        soap = SOAP(
            species=species, r_cut=cutoff, n_max=n_max, l_max=l_max, average="outer",
            periodic=bool(atoms.pbc.any()),
        )  # fmt: skip
        rows.append(soap.create(atoms))
    return np.asarray(rows)


def model_descriptors(model: HiMLIP, images: Sequence[Atoms]) -> np.ndarray:
    """Means over the atoms of each element of what a network sees of them: its standardised invariants.

    Parameters
    ----------
    model : HiMLIP
        Trained, or only standardised on typical structures.
    images : sequence of Atoms

    Returns
    -------
    ndarray (N, D)
        Invariant under rotation, translation, permutation and repetition of the cell.
    """
    from himlip_ase.hint.last_layer.features import HeadFeatures
    from himlip_ase.potential.graph import build_graph

    features = HeadFeatures(model, "wide")
    device = next(model.parameters()).device
    rows = []
    for atoms in images:
        graph = build_graph(atoms, model.elements, model.cutoff, device=device)
        rows.append((features.summed(graph)[0] / len(atoms)).cpu().numpy())
    return np.asarray(rows)


def local_sparsity(descriptors: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """Mean Euclidean distance of each point to its nearest neighbours, the inverse of a local density.

    Parameters
    ----------
    descriptors : ndarray (N, D)
    neighbours : int
        k; as many as there are, if fewer.

    Returns
    -------
    ndarray (N,)
    """
    k = min(neighbours, len(descriptors) - 1)
    if k < 1:
        return np.ones(len(descriptors))
    distances, _ = cKDTree(descriptors).query(descriptors, k=k + 1)
    return distances[:, 1:].mean(axis=1)


def weighted_local_density(
    descriptors: np.ndarray, count: int, neighbours: int = 10, seed: int = 0
) -> Selection:
    """Draw structures with a probability proportional to their distance from others (paper, eq. 1).

    Parameters
    ----------
    descriptors : ndarray (N, D)
    count : int
        How many, drawn without replacement.
    neighbours : int
        k of the mean distance.
    seed : int

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        `count` is not between 1 and N.
    """
    _check_count(count, len(descriptors))
    scores = local_sparsity(descriptors, neighbours)
    weights = scores + 1e-12 * max(float(scores.max()), 1.0)
    chosen = np.random.default_rng(seed).choice(len(scores), count, replace=False, p=weights / weights.sum())
    return Selection(np.sort(chosen), scores, "weighted local density")


def by_energy(
    images: Sequence[Atoms], energies: np.ndarray, count: int, part: Literal["high", "low"] = "high"
) -> Selection:
    """The structures highest (or lowest) in energy among those of the same composition.

    Energies are compared per atom with the lowest of the same reduced formula, so that isomers of different
    molecules, and supercells of a crystal, can be ranked together.

    Parameters
    ----------
    images : sequence of Atoms
    energies : ndarray (N,)
        eV.
    count : int
    part : {"high", "low"}
        "high" holds transition regions, "low" the basins.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        `count` is not between 1 and N, energies are missing, or `part` is unknown.
    """
    _check_count(count, len(images))
    values = np.asarray(energies, dtype=float)
    if values.shape != (len(images),) or not np.isfinite(values).all():
        raise InputError(f"every one of the {len(images)} structures needs an energy to be ranked by it")
    if part not in ("high", "low"):
        raise InputError(f"part is {part!r}; choose high or low")
    per_atom = values / np.array([len(atoms) for atoms in images])
    formulas = [atoms.symbols.formula.reduce()[0].format("hill") for atoms in images]
    lowest: dict[str, float] = {}
    for formula, value in zip(formulas, per_atom, strict=True):
        lowest[formula] = min(value, lowest.get(formula, np.inf))
    scores = per_atom - np.array([lowest[formula] for formula in formulas])
    order = np.argsort(-scores if part == "high" else scores, kind="stable")
    return Selection(np.sort(order[:count]), scores, f"{part} in energy among equal compositions")


def _check_count(count: int, available: int) -> None:
    if not 1 <= count <= available:
        raise InputError(f"count is {count}; there are {available} structures to choose from")


def selection_figure(selection: Selection, descriptors: np.ndarray | None = None) -> object:
    """What was chosen: a map of the descriptors (two principal components) if there are any, and the scores.

    Parameters
    ----------
    selection : Selection
    descriptors : ndarray (N, D), optional

    Returns
    -------
    matplotlib Figure
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2 if descriptors is not None else 1, figsize=(9, 4), layout="constrained")
    last = axes if descriptors is None else axes[1]
    chosen = np.zeros(len(selection.scores), dtype=bool)
    chosen[selection.indices] = True
    if descriptors is not None and len(descriptors) > 2:
        centred = descriptors - descriptors.mean(axis=0)
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        plane = left[:, :2] * sizes[:2]
        axes[0].scatter(*plane[~chosen].T, s=10, color="0.75", label="left out")
        axes[0].scatter(*plane[chosen].T, s=14, label="chosen")
        axes[0].set(xlabel="first principal component", ylabel="second")
        axes[0].legend(frameon=False)
    bins = np.histogram_bin_edges(selection.scores, bins=30).tolist()
    last.hist(selection.scores, bins=bins, color="0.75", label="all")
    last.hist(selection.scores[chosen], bins=bins, label="chosen")
    last.set(xlabel=f"score ({selection.method})", ylabel="structures")
    last.legend(frameon=False)
    return figure
