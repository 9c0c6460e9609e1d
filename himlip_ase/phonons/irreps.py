"""Modes at Γ: irreducible representations, and whether infrared light or Raman scattering sees them.

phonopy gives the characters χ(g) of each degenerate set and the label of its representation.  A mode is
infrared-active if its representation is contained in that of a vector, χ_v(R) = tr R, and Raman-active if it
is contained in that of a symmetric second-rank tensor, χ_t(R) = [χ_v(R)² + χ_v(R²)]/2 (Dresselhaus,
Dresselhaus and Jorio, Group Theory, Springer 2008, ch. 8).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.files import write_json
from himlip_ase.phonons.force_constants import DynamicalMatrices, acoustic

DEGENERATE_CM = 0.05
"""Modes closer than this count as one degenerate set, cm⁻¹."""


@dataclass(frozen=True)
class GammaMode:
    """A degenerate set of modes at Γ.

    Attributes
    ----------
    frequency_cm : float
        cm⁻¹, imaginary negative; of the transverse modes of a polar crystal.
    degeneracy : int
    label : str or None
        Mulliken symbol; None where phonopy's tables have none.
    infrared, raman : bool
        Whether the mode is active by symmetry; translations are neither.
    acoustic : bool
        Whether it is a translation of the crystal.
    sigma_cm : float or None
        Standard error, cm⁻¹, where the source of the matrices has one.
    """

    frequency_cm: float
    degeneracy: int
    label: str | None
    infrared: bool
    raman: bool
    acoustic: bool
    sigma_cm: float | None = None

    @property
    def activity(self) -> str:
        """One of IR, Raman, "IR and Raman", silent, acoustic."""
        if self.acoustic:
            return "acoustic"
        seen = [name for name, active in (("IR", self.infrared), ("Raman", self.raman)) if active]
        return " and ".join(seen) or "silent"


@dataclass(frozen=True)
class GammaModes:
    """All modes at Γ.

    Attributes
    ----------
    point_group : str
        International symbol of the crystal's point group.
    modes : tuple of GammaMode
        Ascending.
    """

    point_group: str
    modes: tuple[GammaMode, ...]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "point_group": self.point_group,
            "modes": [{**asdict(mode), "activity": mode.activity} for mode in self.modes],
        }


def gamma_modes(
    dynamical: DynamicalMatrices, sigma_cm: np.ndarray | None = None, symprec: float = 1e-4
) -> GammaModes:
    """Irreducible representations and activities of the modes at Γ.

    Parameters
    ----------
    dynamical : DynamicalMatrices
        With the symmetry of the crystal; of these only Γ matters.
    sigma_cm : ndarray, shape (3n,), optional
        Standard errors of the frequencies at Γ in ascending order, cm⁻¹.
    symprec : float
        Of the search for the space group, Å.

    Returns
    -------
    GammaModes

    Raises
    ------
    InputError
        A cell that is not primitive, or one in which phonopy finds no symmetry.
    """
    phonopy = dynamical.with_born(None).force_constants().to_phonopy(symprec=symprec)
    run = getattr(phonopy, "run_irreps", None) or phonopy.set_irreps  # another name in early phonopy 4
    try:
        run([0, 0, 0])
    except RuntimeError as error:
        raise InputError(
            f"no irreducible representations at Γ: {error}; give the primitive cell (spglib's find_primitive)"
        ) from error
    found: Any = phonopy.irreps
    rotations = np.asarray(found.conventional_rotations)
    traces = np.trace(rotations, axis1=1, axis2=2)
    tensor = (traces**2 + np.trace(rotations @ rotations, axis1=1, axis2=2)) / 2
    frequencies, vectors = (part[dynamical.index((0, 0, 0))] for part in dynamical.eigen())
    rigid = acoustic(dynamical)
    table = _character_table(phonopy.primitive_symmetry.pointgroup_symbol, rotations, found.rotation_symbols)
    modes = []
    for indices in _degenerate(frequencies, rigid):
        sigma = None if sigma_cm is None else float(np.mean(np.asarray(sigma_cm)[indices]))
        for part in _irreducible(np.asarray(found.ground_matrices), vectors[:, indices]):
            characters = np.einsum("ia,gij,ja->g", part.conj(), found.ground_matrices, part)
            vector, square = (
                bool((characters.conj() @ other).real > 0.5 * len(traces)) for other in (traces, tensor)
            )
            still = indices[0] in rigid
            modes.append(
                GammaMode(
                    float(frequencies[indices].mean()), part.shape[1], _label(characters, table),
                    vector and not still, square and not still, still, sigma,
                )
            )  # fmt: skip
    return GammaModes(str(phonopy.primitive_symmetry.pointgroup_symbol), tuple(modes))


def _degenerate(frequencies: np.ndarray, rigid: np.ndarray) -> list[np.ndarray]:
    """Indices of modes of one frequency; translations are a set of their own."""
    others = np.setdiff1d(np.arange(len(frequencies)), rigid)
    cuts = np.flatnonzero(np.diff(frequencies[others]) > DEGENERATE_CM) + 1
    sets = [rigid, *(part for part in np.split(others, cuts) if len(part))]
    return sorted(sets, key=lambda indices: float(frequencies[indices].mean()))


def _irreducible(matrices: np.ndarray, vectors: np.ndarray) -> list[np.ndarray]:
    """Parts of the space of `vectors` (columns) that no operation mixes: eigenspaces of an invariant matrix.

    The invariant matrix is real, as Φ(Γ) is, so that complex-conjugate representations stay together.
    """
    size = vectors.shape[1]
    inside = vectors.conj().T @ matrices @ vectors
    seed = np.random.default_rng(0).normal(size=(len(vectors), len(vectors)))
    projected = vectors.conj().T @ (seed + seed.T) @ vectors
    mean = np.mean(inside @ projected @ inside.conj().swapaxes(1, 2), axis=0)
    values, turned = np.linalg.eigh((mean + mean.conj().T) / 2)
    cuts = np.flatnonzero(np.diff(values) > 1e-6 * max(1.0, float(np.abs(values).max()))) + 1
    return [vectors @ turned[:, part] for part in np.split(np.arange(size), cuts)]


def _character_table(group: str, rotations: np.ndarray, symbols: list[str]) -> dict[str, np.ndarray]:
    """Characters of each operation in each representation, by Mulliken symbol, from phonopy's tables."""
    from phonopy.phonon.character_table import character_table

    for setting in character_table[group]:
        mapping = setting["mapping_table"]
        if all(
            any(np.array_equal(rotation, known) for known in mapping.get(symbol, ()))
            for rotation, symbol in zip(rotations, symbols, strict=True)
        ):
            places = [setting["rotation_list"].index(symbol) for symbol in symbols]
            return {name: np.array(row)[places] for name, row in setting["character_table"].items()}
    return {}


def _label(characters: np.ndarray, table: dict[str, np.ndarray]) -> str | None:
    return next((name for name, row in table.items() if np.abs(characters - row).max() < 1e-3), None)


def describe_gamma_modes(found: GammaModes) -> list[str]:
    """Table for a terminal.

    Parameters
    ----------
    found : GammaModes

    Returns
    -------
    list of str
    """
    lines = [f"modes at Γ, point group {found.point_group}:"]
    for mode in found.modes:
        sigma = "" if mode.sigma_cm is None else f" ± {mode.sigma_cm:.1f}"
        label = f"{mode.degeneracy}×{mode.label or '?':<5}"
        lines.append(f"  {mode.frequency_cm:9.1f}{sigma} cm⁻¹  {label} {mode.activity}")
    return lines


def write_gamma_modes(
    sets: Mapping[str, GammaModes], path: str | os.PathLike, overwrite: bool = False
) -> Path:
    """Write the tables of one or several sets as JSON.

    Parameters
    ----------
    sets : mapping of str to GammaModes
    path : path-like
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Path
    """
    write_json(path, {name: modes.as_dict() for name, modes in sets.items()}, overwrite)
    return Path(path)
