"""Which configurations of an ensemble are labelled: at random, or where the potential knows least."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from himlip_ase.sscha.ensembles.ensemble import Ensemble
from himlip_ase.sscha.learn.draws import Draw
from himlip_ase.sscha.learn.settings import LearnSettings

if TYPE_CHECKING:
    from himlip_ase.hint.last_layer.posterior import Posterior
    from himlip_ase.potential.network import HiMLIP

CANDIDATES = 50
"""Pairs among which the posterior chooses."""


def choose_draw(
    ensemble: Ensemble,
    number: int,
    settings: LearnSettings,
    model: HiMLIP | None = None,
    posterior: Posterior | None = None,
) -> Draw:
    """The configurations of one round, pairs of opposites.

    Parameters
    ----------
    ensemble : Ensemble
        Opposite pairs adjacent.
    number : int
        Of the round, from 1: every round has its own random numbers.
    settings : LearnSettings
    model, posterior
        Of the present potential, for the choice by posterior.

    Returns
    -------
    Draw
    """
    generator = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(11, number)))
    order = generator.permutation(len(ensemble) // 2)
    n_random = settings.at_random // 2
    pairs = order[:n_random]
    wanted = settings.configurations // 2 - n_random
    if wanted and model is not None and posterior is not None:
        candidates = order[n_random : n_random + max(CANDIDATES, wanted)]
        images = [_image(ensemble, 2 * int(pair)) for pair in candidates]
        picked = least_known(model, posterior, images, wanted)
        pairs = np.concatenate([pairs, candidates[picked]])
    rows = np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()
    return Draw(ensemble.drawn_from, ensemble.displacements[rows], rows, 2 * n_random)


def least_known(model: HiMLIP, posterior: Posterior, images: list[Atoms], count: int) -> np.ndarray:
    """Structures whose forces the posterior knows least, each given those before it.

    After each choice the covariance is that of a potential which has learnt its forces, so that alike
    structures are not chosen twice.

    Parameters
    ----------
    model : HiMLIP
    posterior : Posterior
    images : list of Atoms
    count : int

    Returns
    -------
    ndarray of int, shape (count,)
    """
    import torch

    from himlip_ase.potential.graph import build_graph

    features = posterior.features(model)
    device = next(model.parameters()).device
    rows = []
    for image in images:
        graph = build_graph(image, model.elements, model.cutoff, device=device)
        rows.append(features.forces_and_stress(graph)[0].flatten(0, 1))
    root = posterior.root
    noise = posterior.noise.forces**2
    chosen: list[int] = []
    for _ in range(count):
        seen = [row @ root for row in rows]
        widths = np.array([float(part.square().sum()) for part in seen])
        widths[chosen] = -np.inf
        best = int(widths.argmax())
        chosen.append(best)
        # Σ' = C (1 + SᵀS/noise)⁻¹ Cᵀ with S = X C: the posterior after forces with this noise
        own = seen[best]
        inner = torch.eye(own.shape[1], dtype=own.dtype, device=own.device) + own.T @ own / noise
        factor = torch.linalg.cholesky(torch.linalg.inv(inner))
        root = root @ factor
    return np.array(chosen)


def _image(ensemble: Ensemble, row: int) -> Atoms:
    image = ensemble.drawn_from.supercell
    image.positions += ensemble.displacements[row]
    return image
