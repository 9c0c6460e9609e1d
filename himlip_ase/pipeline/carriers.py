"""Harmonic matrices of the run's potential, which carry anharmonic phonons onto the grid of G(q)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from himlip_ase.errors import CalculationError
from himlip_ase.lattice import crystal_mismatch
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.finetune import load_trained
from himlip_ase.pipeline.stages import Context

if TYPE_CHECKING:
    from ase import Atoms

    from himlip_ase.potential.interface import Potential

WORDS = {"dft": "D_harm of DFT + difference", "potential": "D_harm of the potential + difference"}
"""How an SSCHA of a smaller supercell reaches the grid of G(q), by ``tc.carrier``."""
_ROUNDING = 1e-9
"""Å; cells that differ by less are one."""


@dataclass
class Carriers:
    """Harmonic matrices of one potential on one grid, made once for each crystal.

    Attributes
    ----------
    model : Potential or None
        None: of a run without a model, whose phonons must be on the grid already.
    dims : tuple of 3 int
        Of G(q).
    """

    model: Potential | None
    dims: tuple[int, int, int]
    _made: list[DynamicalMatrices] = field(default_factory=list)

    @classmethod
    def of_run(cls, context: Context, dims: tuple[int, int, int]) -> Carriers | None:
        """Those of the run's model where ``tc.carrier`` asks for them; None where DFT's carry.

        Parameters
        ----------
        context : Context
        dims : tuple of 3 int

        Returns
        -------
        Carriers or None
        """
        if context.config.tc.carrier == "dft":
            return None
        return cls(load_trained(context), dims)

    def carrying(self, phonons: DynamicalMatrices) -> DynamicalMatrices | None:
        """The harmonic matrices that carry `phonons`, in their cell; None where they are on the grid.

        Parameters
        ----------
        phonons : DynamicalMatrices

        Returns
        -------
        DynamicalMatrices or None

        Raises
        ------
        CalculationError
            They are on another grid, and the run has no model.
        """
        if phonons.dims == self.dims:
            return None
        for made in self._made:
            if crystal_mismatch(made.primitive, phonons.primitive, _ROUNDING, _ROUNDING) is None:
                return made
        self._made.append(self._make(phonons.primitive))
        return self._made[-1]

    def _make(self, primitive: Atoms) -> DynamicalMatrices:
        from himlip_ase.calculator import HiMLIPCalculator
        from himlip_ase.phonons.harmonic import harmonic_force_constants

        if self.model is None:
            raise CalculationError("there is no trained model; run the finetune stage: --from finetune")
        constants = harmonic_force_constants(primitive, HiMLIPCalculator(self.model), self.dims)
        return constants.dynamical_matrices()
