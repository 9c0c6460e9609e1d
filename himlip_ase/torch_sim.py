"""Model for torch-sim, whose batched relaxations and molecular dynamics then run on a Hi-MLIP.

Needs the package torch-sim-atomistic (``pip install 'himlip-ase[torch-sim]'``).
"""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from himlip_ase.evaluation import matrix_from_voigt
from himlip_ase.potential.checkpoint import load_model
from himlip_ase.potential.devices import find_device
from himlip_ase.potential.evaluate import evaluate
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.neighbours import PairList, VerletList

try:
    import torch_sim
    from torch_sim.models.interface import ModelInterface
except ImportError as missing:
    raise ImportError("torch-sim is not installed; type: pip install 'himlip-ase[torch-sim]'") from missing


class HiMLIPTorchSimModel(ModelInterface):
    """Energies, forces and stresses of a torch-sim state.

    Parameters
    ----------
    model : str, path-like or Potential, optional
        As for `HiMLIPCalculator`; a loaded model is copied.
    device : torch.device or str, optional
        By default "cuda" where there is one, else "cpu".
    dtype : torch.dtype
        torch.float64 or torch.float32, of the network, forces and stresses. Energies are in float64 always:
        those of the elements are thousands of eV, of which single precision keeps no millielectronvolt.
    compute_stress : bool
        Whether stresses are computed; needed where the cell moves.
    skin : float
        Å by which neighbour lists reach beyond the cutoff, so that they can be kept between steps; the
        results are those of fresh lists.

    Examples
    --------
    >>> model = HiMLIPTorchSimModel()  # doctest: +SKIP
    >>> torch_sim.optimize(images, model, optimizer=torch_sim.Optimizer.fire)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike | Potential | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
        compute_stress: bool = True,
        skin: float = 0.3,
    ) -> None:
        super().__init__()
        self._device = find_device(device)
        self._dtype = dtype
        self._compute_stress = compute_stress
        self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"
        loaded = copy.deepcopy(model) if isinstance(model, Potential) else load_model(model)
        self.potential = loaded.to(device=self._device, dtype=dtype).requires_grad_(False)
        self.skin = skin
        self._lists: list[VerletList] = []

    @property
    def compute_stress(self) -> bool:
        """Whether stresses are computed."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, compute_stress: bool) -> None:
        self._compute_stress = compute_stress

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Evaluate a state.

        Parameters
        ----------
        state : torch_sim.SimState or dict of its tensors

        Returns
        -------
        dict
            ``energy`` (B,) in eV, float64; ``forces`` (N, 3) in eV/Å and, if wanted, ``stress`` (B, 3, 3) in
            eV/Å³, positive in tension; NaN for systems that are not periodic in three directions.
        """
        if isinstance(state, dict):
            state = torch_sim.SimState(**{"masses": torch.ones_like(state["positions"][:, 0]), **state})
        frames = _frames(state)
        while len(self._lists) < len(frames):
            self._lists.append(VerletList(self.potential.cutoff, self.skin))
        lists = {id(atoms): pairs for atoms, pairs in zip(frames, self._lists, strict=False)}

        def find(atoms: Atoms) -> PairList:
            return lists[id(atoms)](atoms)

        result = evaluate(self.potential, frames, stress=self._compute_stress, find=find)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=self._dtype, device=self._device)

        # a sum of float64 energies: rounded to float32, it would move in steps of 0.1 to 1 meV
        energies = torch.as_tensor(result.energies, device=self._device)
        output = {"energy": energies, "forces": tensor(np.concatenate(result.forces))}
        if self._compute_stress:
            output["stress"] = tensor(matrix_from_voigt(result.stresses))
        return output


def _frames(state: Any) -> list[Atoms]:
    """The systems of a state; torch-sim keeps cell vectors as columns."""
    system = state.system_idx.cpu().numpy()
    positions = state.positions.detach().double().cpu().numpy()
    numbers = state.atomic_numbers.cpu().numpy()
    cells = state.cell.detach().double().cpu().numpy().transpose(0, 2, 1)
    pbc = state.pbc.cpu().numpy() if isinstance(state.pbc, Tensor) else state.pbc
    return [
        Atoms(numbers[system == index], positions=positions[system == index], cell=cell, pbc=pbc)
        for index, cell in enumerate(cells)
    ]
