"""The calculator of a model whose head was fitted in closed form: it also says how sure it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from himlip_ase.calculator import HiMLIPCalculator
from himlip_ase.errors import InputError
from himlip_ase.hint.last_layer.closed_form_run import POSTERIOR
from himlip_ase.hint.last_layer.posterior import Posterior, Uncertainty
from himlip_ase.potential.checkpoint import find_model
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.lattice_potential import network_of
from himlip_ase.potential.network import HiMLIP

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.phonon_uncertainty import PhononUncertainty


class UncertainCalculator(HiMLIPCalculator):
    """`HiMLIPCalculator` with standard deviations of energies, forces, stresses, Hessians and frequencies.

    They are methods of their own and never enter ``calc.results``, whose properties ASE writes to files.

    Parameters
    ----------
    model : str, path-like or Potential
        As `HiMLIPCalculator`: a Hi-MLIP, or one with a harmonic remainder, which has no uncertainty.
    posterior : Posterior or path-like, optional
        By default ``posterior.safetensors`` beside the model.
    **options
        Those of `HiMLIPCalculator`.

    Examples
    --------
    >>> calc = UncertainCalculator("finetune/model.safetensors")  # doctest: +SKIP
    >>> calc.uncertainty(atoms).forces  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike | Potential,
        posterior: Posterior | str | os.PathLike | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if not isinstance(network_of(self.model), HiMLIP):
            raise InputError("uncertainties are those of a closed-form head, which only Hi-MLIPs have")
        if posterior is None:
            if isinstance(model, Potential):
                raise InputError(
                    "a model in memory needs its posterior: UncertainCalculator(model, posterior)"
                )
            posterior = Path(find_model(model)).parent / POSTERIOR
        self.posterior = posterior if isinstance(posterior, Posterior) else Posterior.load(posterior)
        self.posterior.features(self.model)

    def uncertainty(self, atoms: Atoms, noise: bool = True) -> Uncertainty:
        """Standard deviations of energy (eV), forces (eV/Å), stress (eV/Å³): see `Posterior.uncertainty`.

        Parameters
        ----------
        atoms : Atoms
        noise : bool
            Include what no head of this network can express.

        Returns
        -------
        Uncertainty
        """
        return self.posterior.uncertainty(self.model, atoms, noise)

    def hessian_uncertainty(self, atoms: Atoms, indices: list[int] | None = None) -> np.ndarray:
        """Standard deviations of the Hessian's elements, (n, 3, N, 3) in eV/Å², rows of `indices`.

        Parameters
        ----------
        atoms : Atoms
        indices : list of int, optional
            Atoms whose rows are wanted; all by default.

        Returns
        -------
        ndarray (n, 3, N, 3)
            eV/Å².
        """
        return self.posterior.hessian_uncertainty(self.model, atoms, indices)

    def product_uncertainty(self, atoms: Atoms, vectors: np.ndarray) -> np.ndarray:
        """Standard deviations of products of the Hessian with vectors, (N, 3) or (K, N, 3), as they are.

        Parameters
        ----------
        atoms : Atoms
        vectors : ndarray (N, 3) or (K, N, 3)

        Returns
        -------
        ndarray
            Shaped like `vectors`; eV/Å² times their unit.
        """
        stack = np.asarray(vectors, dtype=float).reshape(-1, len(atoms), 3)
        return self.posterior.product_uncertainty(self.model, atoms, stack).reshape(np.shape(vectors))

    def frequency_uncertainty(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """Γ frequencies of a structure and their standard deviations, to first order.

        Returns
        -------
        frequencies, deviations : ndarray (3N,)
            cm⁻¹, imaginary ones negative; see
            `himlip_ase.hint.last_layer.phonon_uncertainty.frequency_deviations`.
        """
        from himlip_ase.hint.last_layer.phonon_uncertainty import frequency_deviations
        from himlip_ase.units import signed_frequencies_cm

        weights = np.repeat(atoms.get_masses() ** -0.5, 3)
        size = 3 * len(atoms)
        matrix = self.get_hessian(atoms).reshape(size, size) * weights[:, None] * weights
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        modes = (weights[:, None] * vectors).T.reshape(-1, len(atoms), 3)
        spread = self.posterior.eigenvalue_uncertainty(self.model, atoms, modes)
        return signed_frequencies_cm(values), frequency_deviations(values, spread)

    def phonon_uncertainty(
        self, primitive: Atoms, dims: Sequence[int], noise: bool = True
    ) -> PhononUncertainty:
        """Frequencies on a grid of q-points and their standard deviations.

        See :func:`himlip_ase.hint.last_layer.phonon_uncertainty.phonon_uncertainty`.

        Parameters
        ----------
        primitive : Atoms
        dims : three ints
            The q-grid.
        noise : bool
            Include what no head of this network can express.

        Returns
        -------
        PhononUncertainty
        """
        from himlip_ase.hint.last_layer.phonon_uncertainty import phonon_uncertainty

        return phonon_uncertainty(self.posterior, self.model, primitive, dims, noise)

    def sampled(self, count: int, seed: int = 0) -> list[HiMLIPCalculator]:
        """Calculators whose heads are drawn from the posterior, with which to repeat any calculation.

        Parameters
        ----------
        count : int
        seed : int

        Returns
        -------
        list of HiMLIPCalculator
        """
        return [
            HiMLIPCalculator(model, device=self.device)
            for model in self.posterior.sample(self.model, count, seed)
        ]
