"""How sure a model is of a crystal's phonons: standard deviations of D(q) and of frequencies, to first order.

With e the eigenvector of a mode, ω² = e†D(q)e, and D(q) is linear in the head's coefficients: their posterior
gives the variance of ω² as that of one more label, and δω = δ(ω²)/2ω. In a cell of m primitive cells in which
q is periodic, with u the real and w the imaginary part of e_a exp(2πi q·R)/√M_a,

    e†D(q)e = (uᵀHu + wᵀHw)/m,

which is exact for a potential of any range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from himlip_ase.hint.last_layer.posterior import Posterior
from himlip_ase.hint.training.folding import irreducible_cells
from himlip_ase.lattice import check_dims, check_primitive
from himlip_ase.phonons.force_constants import mass_reduced
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.interface import Potential
from himlip_ase.units import signed_frequencies_cm


@dataclass(frozen=True)
class PhononUncertainty:
    """Phonons on a grid of q-points and how sure the model is of them.

    Attributes
    ----------
    qpoints : ndarray (n, 3)
        One of each star, fractional coordinates of the reciprocal primitive basis.
    members : ndarray (n,)
        q-points in the star.
    frequencies, deviations : ndarray (n, 3N)
        cm⁻¹, ascending, imaginary ones negative; standard deviations.
    eigenvalues, eigenvalue_deviations : ndarray (n, 3N)
        ω² and its standard deviation, eV/(Å² amu).
    vectors : ndarray (n, 3N, 3N)
        Eigenvectors, one a column, in the phase convention of `DynamicalMatrices`.
    """

    qpoints: np.ndarray
    members: np.ndarray
    frequencies: np.ndarray
    deviations: np.ndarray
    eigenvalues: np.ndarray
    eigenvalue_deviations: np.ndarray
    vectors: np.ndarray


def phonon_uncertainty(
    posterior: Posterior, model: Potential, primitive: Atoms, dims: Sequence[int], noise: bool = True
) -> PhononUncertainty:
    """Phonons of a crystal on a grid, and their standard deviations.

    Parameters
    ----------
    posterior, model
        Of one fit.
    primitive : Atoms
        At rest, with its masses.
    dims : (int, int, int)
        Γ-centred grid.
    noise : bool
        Include the spread of Hessian labels about the best head.

    Returns
    -------
    PhononUncertainty
        Multiplied by the posterior's factor for phonons, or else for Hessians.
    """
    primitive, dims = check_primitive(primitive), check_dims(dims)
    cells = irreducible_cells(primitive, dims)
    found = [_at(posterior, model, primitive, q, cell, shifts, noise) for q, _, cell, shifts in cells]
    values, spread, vectors = (np.array(part) for part in zip(*found, strict=True))
    return PhononUncertainty(
        np.array([q for q, *_ in cells]),
        np.array([members for _, members, *_ in cells]),
        signed_frequencies_cm(values),
        frequency_deviations(values, spread),
        values,
        spread,
        vectors,
    )


def frequency_deviations(eigenvalues: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Standard deviations of frequencies in cm⁻¹, of ω² and its standard deviations in eV/(Å² amu).

    δω = δ(ω²)/2ω; near ω = 0, where the first order means nothing, ω is taken to be √δ(ω²).

    Parameters
    ----------
    eigenvalues : ndarray
        ω², eV/(Å² amu).
    deviations : ndarray
        Of ω², the same shape and unit.

    Returns
    -------
    ndarray
        cm⁻¹.
    """
    floor = np.maximum(np.maximum(np.abs(eigenvalues), deviations), 1e-30)
    return signed_frequencies_cm(floor) * deviations / (2 * floor)


def _at(
    posterior: Posterior, model: Potential, primitive: Atoms, q: np.ndarray, cell: Atoms, shifts: np.ndarray,
    noise: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Eigenvalues, their standard deviations and eigenvectors at one q."""
    n, m = len(primitive), len(shifts)
    device = next(model.parameters()).device
    rows = hessian(model, cell, indices=range(n), device=device).detach().cpu().numpy()
    phases = np.exp(2j * np.pi * shifts @ q)
    matrix = np.einsum("iamjb,m->iajb", rows.reshape(n, 3, m, n, 3), phases).reshape(3 * n, 3 * n)
    values, vectors = np.linalg.eigh(mass_reduced(matrix, primitive.get_masses()))
    roots = np.sqrt(np.repeat(primitive.get_masses(), 3))
    modes = (vectors / roots[:, None]).T
    patterns = (modes[:, None, :] * phases[None, :, None]).reshape(3 * n, m * n, 3)
    waves = torch.as_tensor(np.concatenate([patterns.real, patterns.imag]), device=device)
    graph = build_graph(cell, model.elements, model.cutoff, device=device)
    features = posterior.features(model).second_derivatives(graph, waves, waves)
    total = (features[: 3 * n] + features[3 * n :]) / m
    quiet = 0.0
    if noise:
        u, w = patterns.real.reshape(3 * n, -1), patterns.imag.reshape(3 * n, -1)
        inner = (u * w).sum(1)
        size = np.sqrt((u**2).sum(1) ** 2 + (w**2).sum(1) ** 2 + 2 * inner**2) / m
        quiet = posterior.noise.hessian / (3 * n * m) ** 0.5 * size
    variance = (total @ posterior.root.to(total)).square().sum(-1).cpu().numpy() + quiet**2
    factor = posterior.factors.get("phonons", posterior.factors.get("hessian", 1.0))
    return values, factor * np.sqrt(variance), vectors
