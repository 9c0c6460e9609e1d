"""What a linear head does not know: the covariance of its coefficients, and what follows from it.

The coefficients θ of a head fitted by ridge regression have a Gaussian posterior. Forces, stress, Hessian and
squared frequencies are linear in θ, so that their variances are row·Σ·rowᵀ: exact, from one matrix product.
The spread of the labels about the best head (what no head of this network can express) is added as noise.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from safetensors import safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, reading
from himlip_ase.hint.last_layer.features import HeadFeatures, HeadKind
from himlip_ase.potential.graph import Graph, build_graph
from himlip_ase.potential.interface import Potential
from himlip_ase.potential.lattice_potential import LatticePotential, network_of
from himlip_ase.potential.network import HiMLIP

FORMAT = "himlip-posterior-1"
REMEDY = "make it again with himlip finetune --closed-form"


@dataclass(frozen=True)
class Noise:
    """Standard deviation of the labels about the best head.

    Attributes
    ----------
    energy : float
        eV/atom.
    forces : float
        Component, eV/Å, of an atom on which no strong force acts (see `LossWeights.force_scale`).
    stress : float
        Component, eV/Å³.
    hessian : float
        Norm of a row, eV/Å²: an element of a structure of N atoms has this over √(3N).
    """

    energy: float = 1e-3
    forces: float = 0.03
    stress: float = 1e-3
    hessian: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise InputError(f"noise of the {name} is {value}; give a positive number")


@dataclass(frozen=True)
class Uncertainty:
    """Standard deviations for one structure.

    Attributes
    ----------
    energy : float
        eV.
    forces : ndarray (N, 3)
        eV/Å.
    stress : ndarray (6,) or None
        eV/Å³, ASE's Voigt order; None where there is no volume.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


@dataclass(frozen=True)
class Posterior:
    """Gaussian posterior of a linear head.

    Attributes
    ----------
    root : Tensor (P, P)
        C with covariance Σ = C Cᵀ.
    noise : Noise
    kind : str
        Of the head.
    hidden : int
        Hidden units of the network that the head was fitted on.
    factors : dict
        {"forces", "hessian", …: factor} by which all standard deviations of a quantity are multiplied; fitted
        on labels that the head has not seen, 1 where there were none.
    """

    root: Tensor
    noise: Noise
    kind: HeadKind
    hidden: int
    factors: dict[str, float] = field(default_factory=dict)

    def deviations(self, rows: Tensor, quantity: str, noise: float = 0.0) -> Tensor:
        """Standard deviations of row·θ plus noise.

        Parameters
        ----------
        rows : Tensor (..., P)
        quantity : str
            Whose factor applies.
        noise : float
            Standard deviation to be added in quadrature.

        Returns
        -------
        Tensor (...)
        """
        variance = (rows @ self.root).square().sum(-1) + noise**2
        return self.factors.get(quantity, 1.0) * variance.sqrt()

    def features(self, model: Potential) -> HeadFeatures:
        """The features of a model that this posterior belongs to.

        Raises
        ------
        InputError
            The model is not one that this posterior can belong to.
        """
        network = network_of(model)
        if not isinstance(network, HiMLIP):
            raise InputError("uncertainties are those of a closed-form head, which only Hi-MLIPs have")
        found = HeadFeatures(network, self.kind, self.hidden)
        if found.size != len(self.root):
            raise InputError(
                f"the uncertainty has {len(self.root)} coefficients, this model's {self.kind} head "
                f"{found.size}: they are not of the same fit"
            )
        return found

    def uncertainty(self, model: Potential, atoms: Atoms, noise: bool = True) -> Uncertainty:
        """Standard deviations of energy, forces and stress of one structure.

        Parameters
        ----------
        model : Potential
            A Hi-MLIP, or one with a harmonic remainder, which has no uncertainty.
            The one that was fitted.
        atoms : Atoms
        noise : bool
            Include what no head of this network can express; without it, what more labels could take away.

        Returns
        -------
        Uncertainty
        """
        features, graph = self.features(model), _graph(model, atoms)
        forces, stress = features.forces_and_stress(graph)
        n = len(atoms)
        own = self.noise if noise else None
        energy = self.deviations(features.summed(graph), "energy", own.energy * n if own else 0.0)
        periodic = bool(atoms.pbc.all())
        return Uncertainty(
            float(energy),
            self.deviations(forces, "forces", own.forces if own else 0.0).cpu().numpy(),
            self.deviations(stress, "stress", own.stress if own else 0.0).cpu().numpy() if periodic else None,
        )

    def hessian_uncertainty(
        self, model: Potential, atoms: Atoms, rows: list[int] | None = None
    ) -> np.ndarray:
        """Standard deviations of the elements of the Hessian, (n, 3, N, 3), eV/Å².

        Parameters
        ----------
        model : Potential
        atoms : Atoms
        rows : list of int, optional
            Atoms whose rows are wanted; all by default.

        Returns
        -------
        ndarray (n, 3, N, 3)
            eV/Å².
        """
        features, graph = self.features(model), _graph(model, atoms)
        noise = self.noise.hessian / (3 * len(atoms)) ** 0.5
        chosen = range(len(atoms)) if rows is None else rows
        parts = [self.deviations(features.hessian(graph, [i]), "hessian", noise).cpu() for i in chosen]
        return torch.cat(parts).numpy()

    def product_uncertainty(self, model: Potential, atoms: Atoms, vectors: np.ndarray) -> np.ndarray:
        """Standard deviations of products of the Hessian with vectors.

        Parameters
        ----------
        model : Potential
        atoms : Atoms
        vectors : ndarray (K, N, 3)
            Å or any unit.

        Returns
        -------
        ndarray (K, N, 3)
            eV/Å² times the unit of `vectors`.
        """
        features, graph = self.features(model), _graph(model, atoms)
        n = len(atoms)
        stack = torch.as_tensor(np.ascontiguousarray(vectors), dtype=torch.float64).to(graph.positions)
        unit = torch.eye(3 * n, dtype=stack.dtype, device=stack.device).reshape(3 * n, n, 3)
        parts = []
        for vector in stack:
            rows = features.second_derivatives(graph, unit, vector.expand(3 * n, -1, -1))
            noise = self.noise.hessian / (3 * n) ** 0.5 * float(vector.norm())
            parts.append(self.deviations(rows, "hessian", noise).reshape(n, 3))
        return torch.stack(parts).cpu().numpy()

    def form_uncertainty(
        self, model: Potential, atoms: Atoms, first: np.ndarray, second: np.ndarray
    ) -> np.ndarray:
        """Standard deviations of vᵀHw for pairs of directions, single elements of the Hessian among them.

        Parameters
        ----------
        model : Potential
        atoms : Atoms
        first, second : ndarray (K, N, 3)
            v and w.

        Returns
        -------
        ndarray (K,)
        """
        features, graph = self.features(model), _graph(model, atoms)
        v, w = (
            torch.as_tensor(np.ascontiguousarray(x), dtype=torch.float64).to(graph.positions)
            for x in (first, second)
        )
        rows = features.second_derivatives(graph, v, w)
        lengths = torch.linalg.vector_norm(v, dim=(1, 2)) * torch.linalg.vector_norm(w, dim=(1, 2))
        noise = self.noise.hessian / (3 * len(atoms)) ** 0.5 * lengths
        variance = (rows @ self.root).square().sum(-1) + noise**2
        return (self.factors.get("hessian", 1.0) * variance.sqrt()).cpu().numpy()

    def energy_coordinates(self, model: Potential, atoms: Atoms) -> np.ndarray:
        """The energy of a structure as a vector whose products with others are covariances.

        Quantities that are linear in the head's coefficients, row·θ, have the covariance row·Σ·row'ᵀ =
        (row C)·(row' C): sums and differences of them are those of their vectors, and what they err alike
        cancels. Noise is left out.

        Parameters
        ----------
        model : Potential
        atoms : Atoms

        Returns
        -------
        ndarray (P,)
            eV; its length is the standard deviation of the energy.
        """
        rows = self.features(model).summed(_graph(model, atoms))[0]
        return self.factors.get("energy", 1.0) * (rows @ self.root).cpu().numpy()

    def eigenvalue_coordinates(self, model: Potential, atoms: Atoms, modes: np.ndarray) -> np.ndarray:
        """Eigenvalues of the dynamical matrix, to first order, as vectors; see `energy_coordinates`.

        Parameters
        ----------
        model, atoms, modes
            As for `eigenvalue_uncertainty`.

        Returns
        -------
        ndarray (K, P)
            eV/(Å² amu).
        """
        features, graph = self.features(model), _graph(model, atoms)
        stack = torch.as_tensor(np.ascontiguousarray(modes), dtype=torch.float64).to(graph.positions)
        rows = features.second_derivatives(graph, stack, stack)
        return self.factors.get("hessian", 1.0) * (rows @ self.root).cpu().numpy()

    def sample(self, model: Potential, count: int, seed: int = 0) -> list[Potential]:
        """Models whose heads are drawn from the posterior: a committee around `model`, which is its mean.

        Parameters
        ----------
        model : Potential
            The one that was fitted.
        count, seed : int

        Returns
        -------
        list of Potential
            Each with the remainder of `model` where it has one.
        """
        features = self.features(model)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(count, len(self.root), generator=generator, dtype=torch.float64).to(self.root)
        networks = [features.apply(self.root @ row) for row in drawn]
        if isinstance(model, LatticePotential):
            return [model.with_network(network) for network in networks]
        return list(networks)

    def eigenvalue_uncertainty(self, model: Potential, atoms: Atoms, modes: np.ndarray) -> np.ndarray:
        """Standard deviations of eigenvalues of the dynamical matrix, to first order.

        Parameters
        ----------
        model : Potential
        atoms : Atoms
            The (super)cell of the modes.
        modes : ndarray (K, N, 3)
            Displacements e_i/√m_i of the orthonormal modes e, amu^-1/2.

        Returns
        -------
        ndarray (K,)
            Of ω², eV/(Å² amu): δω = δ(ω²)/2ω.
        """
        return self.form_uncertainty(model, atoms, modes, modes)

    # -- files -----------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike, overwrite: bool = False) -> None:
        """Write as safetensors; the covariance in single precision.

        Parameters
        ----------
        path : path-like
        overwrite : bool
        """
        root = self.root.detach().float().cpu().contiguous()
        header = {
            "format": FORMAT,
            "sha256": _digest(root),
            "noise": json.dumps(asdict(self.noise)),
            "kind": self.kind,
            "hidden": str(self.hidden),
            "factors": json.dumps(self.factors),
        }
        with atomic_write(Path(path), "wb", overwrite=overwrite) as stream:
            stream.write(serialise({"root": root}, metadata=header))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Posterior:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            No such file, or not a posterior.
        """
        if not Path(path).is_file():
            raise InputError(
                f"{path} does not exist; himlip finetune --closed-form writes it beside the model"
            )
        with reading(path, REMEDY), safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            root = stream.get_tensor("root")
        if header.get("format") != FORMAT:
            raise InputError(
                f"{path} is no posterior of a linear head: its format is {header.get('format')!r}"
            )
        if header.get("sha256", _digest(root)) != _digest(root):
            raise InputError(f"{path} has changed since it was written (its checksum does not fit); {REMEDY}")
        with reading(path, REMEDY):
            return cls(
                root.double(),
                Noise(**json.loads(header["noise"])),
                header["kind"],
                int(header["hidden"]),
                json.loads(header["factors"]),
            )


def _digest(root: Tensor) -> str:
    return hashlib.sha256(root.numpy().tobytes()).hexdigest()


def _graph(model: Potential, atoms: Atoms) -> Graph:
    device = next(model.parameters()).device
    return build_graph(atoms, model.elements, model.cutoff, device=device)
