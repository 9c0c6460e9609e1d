"""ASE calculator of a Hi-MLIP model: energy, forces, stress, and everything of second order."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
    compare_atoms,
)

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.evaluation import Evaluation
from himlip_ase.potential.checkpoint import default_model, load_model
from himlip_ase.potential.derivatives import hessian, hessians
from himlip_ase.potential.devices import find_device
from himlip_ase.potential.evaluate import evaluate, frozen
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.neighbours import VerletList
from himlip_ase.potential.products import hessian_products
from himlip_ase.potential.recorded_products import recorded_products
from himlip_ase.potential.third_derivatives import third_derivatives

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import ForceConstants

_IGNORED_BY_HESSIAN = {"initial_charges", "initial_magmoms"}
SMALLEST_CHARGE = 1e-3
"""e, as in labels; less is the rounding of partial charges."""


class HiMLIPCalculator(Calculator):
    """Interatomic potential with analytic second derivatives.

    Energies in eV, forces in eV/Å, stress in eV/Å³ (Voigt xx yy zz yz xz xy, positive in tension; crystals
    only), Hessians in eV/Å² with indices (atom, direction, atom, direction). Second derivatives are float64.

    Parameters
    ----------
    model : str, path-like or Potential, optional
        Name of a bundled model, path of a ``.safetensors`` file, ``mace:PATH`` or ``alphanet:PATH`` for a
        model of another package, or a loaded model (which is copied, so that training it further does not
        change this calculator). By default the package's own choice.
    device : str or torch.device, optional
        By default "cuda" where there is one, else "cpu".
    dtype : {"float64", "float32"}
        Precision of energies, forces and stresses; "float32" suits molecular dynamics. Second derivatives are
        computed in float64 in either case.
    skin : float
        Å by which the neighbour list reaches beyond the cutoff. A positive skin (0.3, say) lets molecular
        dynamics and relaxations keep the list until an atom has moved by half of it; the results are those of
        a fresh list to rounding.
    memory_gb : float, optional
        Memory in GiB that second derivatives may take; half of what is free by default.

    Examples
    --------
    >>> from himlip_ase import HiMLIPCalculator
    >>> atoms.calc = HiMLIPCalculator()  # doctest: +SKIP
    >>> atoms.calc.get_hessian(atoms).shape  # doctest: +SKIP
    (4, 3, 4, 3)
    """

    implemented_properties: list[str] = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(
        self,
        model: str | os.PathLike | Potential | None = None,
        device: str | torch.device | None = None,
        dtype: Literal["float64", "float32"] = "float64",
        skin: float = 0.0,
        memory_gb: float | None = None,
    ) -> None:
        super().__init__()
        if dtype not in ("float64", "float32"):
            raise InputError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
        self.device = find_device(device)
        if isinstance(model, Potential):
            name, loaded = "custom", copy.deepcopy(model)
        else:
            name = Path(model).stem if model is not None else default_model()
            loaded = load_model(model)
        self.model = loaded.to(device=self.device, dtype=torch.float64)
        self._first_order = self.model if dtype == "float64" else copy.deepcopy(self.model).to(torch.float32)
        self.parameters = {"model": name, "device": str(self.device), "dtype": dtype, "skin": skin}
        self.memory_gb = memory_gb
        self._verlet = VerletList(self.model.cutoff, skin)
        self._hessian = _HessianRows()
        self._lock = _Lock()

    def set(self, **changes: Any) -> dict[str, Any]:
        """Refuse changes: model, device, precision and skin are those that the calculator was made with.

        Raises
        ------
        InputError
            A parameter that would change.
        """
        changed = {
            key: value
            for key, value in changes.items()
            if key not in self.parameters or self.parameters[key] != value
        }
        if changed:
            asked = ", ".join(f"{key}={value!r}" for key, value in changed.items())
            raise InputError(
                f"{', '.join(changed)} of a calculator cannot be changed; make another one, which may have "
                f"model, device, dtype, skin and memory_gb: HiMLIPCalculator({asked})"
            )
        return {}

    # -- first order -----------------------------------------------------------------------------------------

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """A property by name: those of ASE that are implemented, and "hessian" (see `get_hessian`).

        Parameters
        ----------
        name : str
        atoms : Atoms, optional
            By default the structure of the last call.
        allow_calculation : bool
            Whether to calculate what is not there.

        Returns
        -------
        float, ndarray or None
            In ASE's units and shapes; None for what is not there and may not be calculated.

        Raises
        ------
        PropertyNotImplementedError
            "stress" of a structure that is not periodic in three directions, or an unknown name.
        InputError
            A structure that the model cannot take, or one that carries a charge.
        """
        subject = atoms if atoms is not None else self.atoms
        if subject is not None:
            _check_neutral(subject)
            if name == "stress" and not subject.pbc.all():
                raise PropertyNotImplementedError(
                    f"stress needs a volume, but the structure has pbc {subject.pbc.tolist()}; "
                    "stress is there for crystals, periodic in three directions"
                )
        if name == "hessian":
            if subject is None:
                raise InputError("whose Hessian? Pass atoms: calc.get_property('hessian', atoms)")
            if not allow_calculation and not self._has_hessian(subject):
                return None
            return self.get_hessian(subject)
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results` with energy, free energy, forces and, for a crystal, stress.

        Parameters
        ----------
        atoms, properties, system_changes
            As ASE calls it; all properties are calculated together.
        """
        super().calculate(atoms, properties or ["energy"], list(system_changes))
        subject = self.atoms
        if subject is None:
            raise InputError("no structure to calculate: pass atoms")
        _check_neutral(subject)
        crystal = bool(subject.pbc.all())
        result = evaluate(self._first_order, subject, stress=crystal, find=self._verlet)
        energy = float(result.energies[0])
        self.results = {"energy": energy, "free_energy": energy, "forces": result.forces[0]}
        if crystal:
            self.results["stress"] = result.stresses[0]

    def evaluate(
        self, images: Sequence[Atoms], stress: bool = True, chunk_atoms: int | None = None
    ) -> Evaluation:
        """Energies, forces and stresses of many structures at once.

        See `himlip_ase.potential.evaluate.evaluate`; nothing is cached.

        Parameters
        ----------
        images : sequence of Atoms
        stress : bool
            Whether to calculate stresses.
        chunk_atoms : int, optional
            Atoms of a batch; by default as many as suit the processor's cache.

        Returns
        -------
        Evaluation
            Energies (n,) in eV, forces (N, 3) of each in eV/Å, stresses (n, 6) in eV/Å³.
        """
        frames = [images] if isinstance(images, Atoms) else list(images)
        for atoms in frames:
            _check_neutral(atoms)
        return evaluate(self._first_order, frames, stress=stress, chunk_atoms=chunk_atoms)

    # -- second order ----------------------------------------------------------------------------------------

    def get_hessian(
        self,
        atoms: Atoms | None = None,
        indices: Sequence[int] | None = None,
        symmetry: bool = False,
        flat: bool = False,
    ) -> np.ndarray:
        """Second derivatives of the energy with respect to the positions; constraints are ignored.

        Parameters
        ----------
        atoms : Atoms, optional
            By default those of the last calculation.
        indices : sequence of int, optional
            Atoms whose rows are wanted; all by default. Negative ones count from the end.
        symmetry : bool
            Make the rows from those that the point group of the molecule or the space group of the crystal
            leaves independent: the same values from fewer products (see
            `himlip_ase.symmetry.irreducible_hessian.symmetric_hessian`).
        flat : bool
            A matrix (3n, 3N) with one row and column for each coordinate, as Sella's ``hessian_function`` and
            linear algebra want it.

        Returns
        -------
        ndarray (n, 3, N, 3), or (3n, 3N) if `flat`
            eV/Å², float64; a copy of what is cached for this structure.

        Raises
        ------
        InputError
            A structure that the model cannot take, or an index outside it.
        CalculationError
            A non-finite element.
        """
        subject = atoms if atoms is not None else self.atoms
        if subject is None:
            raise InputError("whose Hessian? Pass atoms: calc.get_hessian(atoms)")
        _check_neutral(subject)
        if not len(subject):
            raise InputError("the structure has no atoms")
        rows = _check_indices(indices, len(subject))
        with self._lock:
            known = self._hessian.of(subject)
            missing = sorted(set(rows) - set(known))
            if missing and symmetry:
                from himlip_ase.symmetry.irreducible_hessian import symmetric_hessian

                values, _ = symmetric_hessian(subject, partial(self.hessian_vector_product, subject))
                known = dict(enumerate(values))
            elif missing:
                with frozen(self.model):
                    rows_found = hessian(
                        self.model, subject, missing, memory_gb=self.memory_gb, device=self.device
                    )
                known |= zip(missing, rows_found.cpu().numpy(), strict=True)
            self._hessian = _HessianRows(subject.copy(), known)
        found = np.zeros((len(rows), 3, len(subject), 3))
        for place, row in enumerate(rows):
            found[place] = known[row]
        return found.reshape(3 * len(rows), 3 * len(subject)) if flat else found

    def get_hessians(
        self, images: Sequence[Atoms], indices: Sequence[Sequence[int]] | None = None
    ) -> list[np.ndarray]:
        """Hessians of many structures, small ones computed together; nothing is cached.

        Parameters
        ----------
        images : sequence of Atoms
        indices : sequence of sequences of int, optional
            Rows that are wanted of each structure; all by default.

        Returns
        -------
        list of ndarray (n, 3, N, 3)
            eV/Å², float64; errors as for `get_hessian`.
        """
        frames = list(images)
        for atoms in frames:
            _check_neutral(atoms)
        if indices is not None and len(indices) != len(frames):
            raise InputError(f"indices for {len(frames)} structures were expected, got {len(indices)} lists")
        rows = [
            _check_indices(indices[number] if indices is not None else None, len(atoms))
            for number, atoms in enumerate(frames)
        ]
        with frozen(self.model):
            found = hessians(self.model, frames, rows, memory_gb=self.memory_gb, device=self.device)
        return [values.cpu().numpy() for values in found]

    def hessian_vector_product(self, atoms: Atoms, v: np.ndarray) -> np.ndarray:
        """Products of the Hessian with given vectors, without the Hessian.

        Parameters
        ----------
        atoms : Atoms
        v : ndarray (N, 3) or (K, N, 3)
            Any unit.

        Returns
        -------
        ndarray
            Same shape, eV/Å² times the unit of `v`.
        """
        _check_neutral(atoms)
        vectors = np.asarray(v, dtype=float)
        if vectors.shape[-2:] != (len(atoms), 3) or vectors.ndim not in (2, 3):
            raise InputError(
                f"vectors for {len(atoms)} atoms must have shape ({len(atoms)}, 3) or (K, {len(atoms)}, 3), "
                f"got {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            raise InputError("the vectors hold numbers that are not finite")
        graph = build_graph(atoms, self.model.elements, self.model.cutoff, device=self.device)
        if not vectors.size:
            return np.zeros(vectors.shape)
        stack = torch.as_tensor(vectors.reshape(-1, len(atoms), 3), device=self.device)
        with frozen(self.model):
            product = hessian_products(self.model, [graph], [stack], self.memory_gb)[0].cpu().numpy()
        if not np.isfinite(product).all():
            raise CalculationError(
                "non-finite Hessian-vector product; check the structure for colliding atoms"
            )
        return product.reshape(vectors.shape)

    def recorded_products(self, atoms: Atoms) -> Callable[[np.ndarray], np.ndarray]:
        """Hessian-vector products of one structure, for algorithms that ask for few at a time, many times.

        The gradient is recorded once and kept in memory as long as the function is.

        Parameters
        ----------
        atoms : Atoms

        Returns
        -------
        callable
            (K, N, 3) → (K, N, 3), as `hessian_vector_product`.
        """
        # the calculator's own checks, on a product that costs nothing
        self.hessian_vector_product(atoms, np.zeros((0, len(atoms), 3)))
        if type(self).hessian_vector_product is not HiMLIPCalculator.hessian_vector_product:
            return partial(self.hessian_vector_product, atoms)
        return recorded_products(self.model, atoms)

    def third_derivatives(self, atoms: Atoms, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Third derivatives of the energy along pairs of vectors, Σ Φ(i, J, K) u_J w_K.

        Parameters
        ----------
        atoms : Atoms
        one, two : ndarray (K, N, 3)
            Any unit.

        Returns
        -------
        ndarray (K, N, 3)
            eV/Å³ times the units of both.
        """
        _check_neutral(atoms)
        return third_derivatives(self.model, atoms, one, two)

    def get_force_constants(
        self,
        atoms: Atoms,
        supercell: Sequence[int] = (2, 2, 2),
        symmetry: bool = True,
        symprec: float = 1e-5,
    ) -> ForceConstants:
        """Harmonic force constants of a crystal, exact second derivatives rather than differences.

        Parameters
        ----------
        atoms : Atoms
            Primitive cell, relaxed as far as the phonons are to be trusted.
        supercell : (int, int, int)
            Diagonal supercell; interactions beyond it are folded back.
        symmetry : bool
            Only differentiate along the displacements that the space group leaves independent (two for
            Im-3m H3S) and make the others from them; what was done and the residuals are logged, and come
            with `himlip_ase.phonons.exact.exact_force_constants`. Otherwise every row of the primitive cell.
        symprec : float
            Tolerance in Å of the space-group search.

        Returns
        -------
        ForceConstants
            phonopy's compact layout (n_prim, n_super, 3, 3) in eV/Å²; masses are those of `atoms`.

        Raises
        ------
        InputError
            A structure that is not periodic in three directions.
        """
        from himlip_ase.phonons.exact import exact_force_constants

        _check_neutral(atoms)
        return exact_force_constants(atoms, supercell, self.hessian_vector_product, symmetry, symprec)[0]

    def _has_hessian(self, atoms: Atoms) -> bool:
        return len(self._hessian.of(atoms)) == len(atoms)


@dataclass(frozen=True, eq=False)
class _HessianRows:
    """Rows of the Hessian of one structure, which belong together however many threads ask."""

    atoms: Atoms | None = None
    rows: dict[int, np.ndarray] = field(default_factory=dict)

    def of(self, atoms: Atoms) -> dict[int, np.ndarray]:
        """A copy of the rows if they are of this structure, else none."""
        other = self.atoms is None or compare_atoms(
            self.atoms, atoms, excluded_properties=_IGNORED_BY_HESSIAN
        )
        return {} if other else dict(self.rows)


class _Lock:
    """A reentrant lock that copies and pickles as a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Lock, ()


def _check_neutral(atoms: Atoms) -> None:
    found = {f"info['{key}']": atoms.info.get(key) for key in ("charge", "total_charge")}
    if atoms.has("initial_charges"):
        found["sum of initial charges"] = float(atoms.get_initial_charges().sum())
    for name, charge in found.items():
        if charge is not None and not np.all(np.abs(np.asarray(charge).astype(float)) <= SMALLEST_CHARGE):
            raise InputError(
                f"the structure has {name} = {charge}, but the model knows neutral systems only; set it to 0 "
                "if that is what you want"
            )


def _check_indices(indices: Sequence[int] | None, n_atoms: int) -> list[int]:
    if indices is None:
        return list(range(n_atoms))
    rows = np.asarray(indices)
    if rows.dtype == bool or (rows.size and not np.issubdtype(rows.dtype, np.integer)) or rows.ndim != 1:
        raise InputError(f"indices must be a list of atom numbers, got {indices!r}")
    if rows.size and (rows.min() < -n_atoms or rows.max() >= n_atoms):
        raise InputError(f"indices must lie between {-n_atoms} and {n_atoms - 1}, got {rows.tolist()}")
    return [int(row) % n_atoms for row in rows]
