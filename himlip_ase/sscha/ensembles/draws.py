"""Draws from the harmonic Gaussian: opposite pairs, independent, or scrambled Sobol sequences.

An average over n pairs or independent configurations has an error ∝ n^(-1/2); over a scrambled Sobol
sequence it falls faster for smooth averages (Owen, J. Complexity 14, 466 (1998)).  The points of one sequence
are not independent of each other, so that their scatter says nothing about the error of their mean: a Sobol
draw therefore consists of several independently scrambled sequences, and only the scatter of the
sequences' means is an error bar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.sscha.choices import SAMPLINGS, imported

if TYPE_CHECKING:
    from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution

Seed = int | np.random.SeedSequence | np.random.Generator


def stream(seed: int, population: int) -> np.random.SeedSequence:
    """Source of randomness of one population: the same whatever was drawn before it.

    Parameters
    ----------
    seed : int
        Of the run.
    population : int

    Returns
    -------
    SeedSequence
    """
    return np.random.SeedSequence(seed, spawn_key=(population,))


def check_draw(n: int, sampling: str, n_blocks: int) -> None:
    """Whether n configurations can be drawn in that way.

    Parameters
    ----------
    n : int
    sampling : str
        A name of :data:`himlip_ase.sscha.choices.SAMPLINGS`.
    n_blocks : int
        Blocks for the error bars.

    Raises
    ------
    InputError
        An unknown way, an odd `n` of a way that draws opposites, or an `n` that is not a multiple of 2
        `n_blocks` of one that draws each block by itself ("sobol").
    """
    choice = SAMPLINGS[sampling]
    if n < 1 or (choice.opposites and n % 2):
        raise InputError(f"n is {n}; give a positive even number of configurations")
    if choice.blocks and n % (2 * n_blocks):
        better = 2 * n_blocks * max(1, round(n / (2 * n_blocks)))
        raise InputError(
            f"{n} configurations cannot be split into {n_blocks} Sobol sequences of an even length; give a "
            f"multiple of {2 * n_blocks}, e.g. {better} (a power of two times {n_blocks} is best)"
        )


def draw_displacements(
    distribution: HarmonicDistribution, n: int, seed: Seed, sampling: str = "pairs", n_blocks: int = 20
) -> np.ndarray:
    """Draw n displacements from the centroids.

    Parameters
    ----------
    distribution : HarmonicDistribution
    n : int
        Even unless `sampling` is "independent"; for "sobol" a multiple of 2 `n_blocks`.
    seed : int, SeedSequence or Generator
        See :func:`stream`.
    sampling : str
        "pairs": rows 2k and 2k+1 are opposites, which cancels every odd error.  "independent": n draws.
        "sobol": `n_blocks` independently scrambled Sobol sequences in the normal modes, one after the
        other, softest modes on the first coordinates.
    n_blocks : int
        Sobol sequences.  Split such an ensemble for error bars into this number of contiguous blocks (what
        :meth:`~himlip_ase.sscha.ensembles.ensemble.Ensemble.pair_blocks` does) or a divisor of it: each block
        is then an independent draw.  An error taken from the scatter of single configurations is too large
        for Sobol, and too small for pairs (energies of opposites are nearly equal): take that of pair means.

    Returns
    -------
    ndarray, shape (n, N, 3)
        Å, in the order of ``primitive.repeat(dims)``.  "pairs" and "independent" do not depend on signs or
        phases of eigenvectors; "sobol" does within degenerate modes, and is reproducible on one machine.

    Raises
    ------
    InputError
        As :func:`check_draw`.
    """
    check_draw(n, sampling, n_blocks)
    return imported(SAMPLINGS[sampling].draw)(distribution, n, seed, n_blocks)


def draw_pairs(distribution: HarmonicDistribution, n: int, seed: Seed, n_blocks: int) -> np.ndarray:
    """n/2 draws, each followed by its opposite; `n_blocks` plays no part.

    Parameters
    ----------
    distribution : HarmonicDistribution
    n : int
    seed : int, SeedSequence or Generator
    n_blocks : int

    Returns
    -------
    ndarray, shape (n, N, 3)
        Å from the centroids.
    """
    return distribution.displacements(n, seed, pairs=True)


def draw_independent(distribution: HarmonicDistribution, n: int, seed: Seed, n_blocks: int) -> np.ndarray:
    """n draws; `n_blocks` plays no part.

    Parameters
    ----------
    distribution : HarmonicDistribution
    n : int
    seed : int, SeedSequence or Generator
    n_blocks : int

    Returns
    -------
    ndarray, shape (n, N, 3)
        Å from the centroids.
    """
    return distribution.displacements(n, seed)


def draw_sobol(distribution: HarmonicDistribution, n: int, seed: Seed, n_blocks: int) -> np.ndarray:
    """`n_blocks` scrambled Sobol sequences of n / `n_blocks` points in the normal modes.

    Parameters
    ----------
    distribution : HarmonicDistribution
    n : int
    seed : int, SeedSequence or Generator
    n_blocks : int

    Returns
    -------
    ndarray, shape (n, N, 3)
        Å from the centroids.
    """
    generator = np.random.default_rng(seed)
    normal = [_sobol(distribution.n_modes, n // n_blocks, generator) for _ in range(n_blocks)]
    return distribution.from_modes(np.concatenate(normal))


def _sobol(dimensions: int, length: int, generator: np.random.Generator) -> np.ndarray:
    """Normal deviates (length, dimensions) of one scrambled Sobol sequence."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    engine = qmc.Sobol(dimensions, scramble=True, seed=generator, bits=30)
    whole = engine.random_base2(int(np.ceil(np.log2(length))))
    return ndtri(whole[:length] + 2.0**-31)  # the middle of each cell: never 0 or 1
