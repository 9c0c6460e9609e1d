"""Polar crystals: one made of springs and dipoles, two calculated with ph.x (tests/phonons/data)."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from himlip_ase.phonons.born_charges import BornCharges
from himlip_ase.phonons.force_constants import ForceConstants
from himlip_ase.phonons.q2r import dipole_matrices

from .springs import triclinic
from .test_force_constants import build

DATA = Path(__file__).with_name("data")
PH_RUNS = ("alas", "alas_rhombohedral")
"""AlAs in zincblende, and strained along [111] with the sublattices apart; 4×4×4 q-points, few k-points."""


def unpack(name: str, folder: Path) -> Path:
    """Dyn files of a ph.x run, unpacked; their common name."""
    for path in (DATA / name).glob("dyn*.gz"):
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return folder / "dyn"


def polar(make, dims) -> ForceConstants:
    """Springs and dipoles; in the triclinic crystal of charges that no symmetry simplifies."""
    _, fc = build(make, dims)
    n = len(fc.primitive)
    rng = np.random.default_rng(3)
    low = 0.2 if make is triclinic else 0.0
    signs = np.where(np.arange(n) % 2, -1.5, 1.5)
    charges = signs[:, None, None] * np.eye(3) + low * rng.normal(size=(n, 3, 3))
    charges -= charges.mean(axis=0)
    tensor = low * rng.normal(size=(3, 3))
    born = BornCharges(charges, 3 * np.eye(3) + tensor @ tensor.T)
    dm = fc.dynamical_matrices()
    dipoles = dipole_matrices(dm.primitive, born, dm.qpoints, alat=5.0, dims=(2, 2, 2))
    return dm.with_matrices(dm.matrices + dipoles).with_born(born).force_constants()
