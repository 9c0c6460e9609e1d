"""How λ and Tc depend on the q-grid of G(q), and on the mesh onto which it is interpolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity import codec
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.coupling import GammaWeight, interpolated_coupling, mode_coupling
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.onto_elph_grid import at_grid
from himlip_ase.superconductivity.tc import critical_temperature
from himlip_ase.superconductivity.tc_entries import Tc

if TYPE_CHECKING:
    from himlip_ase.phonons.force_constants import DynamicalMatrices


@dataclass(frozen=True)
class QMeshRow:
    """One q-grid of G(q), and one mesh of the sum.

    Attributes
    ----------
    elph_dims, mesh : tuple of 3 int
        Equal for the plain sum over the grid itself.
    lambda_total, omega_log_k : float
    kelvin : float
        nan where there is no Tc.
    reason : str
        Why there is none.
    """

    elph_dims: tuple[int, int, int]
    mesh: tuple[int, int, int]
    lambda_total: float
    omega_log_k: float
    kelvin: float
    reason: str = ""

    @property
    def interpolated(self) -> bool:
        """Whether G was Fourier-interpolated."""
        return self.elph_dims != self.mesh

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {
            "elph_grid": list(self.elph_dims),
            "mesh": list(self.mesh),
            "lambda": codec.optional(self.lambda_total),
            "omega_log_kelvin": codec.optional(self.omega_log_k),
            "tc_kelvin": codec.optional(self.kelvin),
            "reason": self.reason,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> QMeshRow:
        """What `to_record` wrote."""
        return cls(
            codec.dims_from(record["elph_grid"]),
            codec.dims_from(record["mesh"]),
            codec.number(record["lambda"]),
            codec.number(record["omega_log_kelvin"]),
            codec.number(record["tc_kelvin"]),
            record["reason"],
        )


def q_mesh_convergence(
    elphs: Sequence[ElphMatrices],
    phonons: DynamicalMatrices,
    meshes: Sequence[Sequence[int]] = (),
    mu_star: float = 0.13,
    method: str = "allen-dynes",
    sigma_ry: float | None = None,
    gamma_weight: GammaWeight = "counted",
    accept: Sequence[str] = (),
    mu_star_at: float = 1.0,
) -> tuple[QMeshRow, ...]:
    """λ, ω_log and one Tc for each grid of G(q): the plain sum, and interpolated onto each of `meshes`.

    Parameters
    ----------
    elphs : sequence of ElphMatrices
        Of one crystal, on different grids; all with the broadening `sigma_ry`.
    phonons : DynamicalMatrices
        On the finest of these grids: the coarser sums take their q-points from it, interpolated where a grid
        is no part of it.
    meshes : sequence of three int
        Denser meshes; those coarser than the grid of a G are skipped for it.
    mu_star, method, accept, mu_star_at
        As in `critical_temperature`.
    sigma_ry, gamma_weight
        As in `mode_coupling`.

    Returns
    -------
    tuple[QMeshRow, ...]

    Raises
    ------
    InputError
        Phonons on a coarser grid than G, another crystal, a broadening that one run has not.
    """
    if not elphs:
        raise InputError("q_mesh_convergence wants at least one set of el-ph matrices")
    rows = []
    for elph in sorted(elphs, key=lambda item: int(np.prod(item.dims))):
        if any(coarse > fine for coarse, fine in zip(elph.dims, phonons.dims, strict=True)):
            raise InputError(
                f"the grid of the phonons {phonons.dims} is coarser than the el-ph grid {elph.dims}; bring "
                "them onto it first: swap_onto_grid(anharmonic, harmonic)"
            )
        here = at_grid(phonons, elph.dims)
        couplings = [mode_coupling(elph, here, sigma_ry, gamma_weight)]
        for mesh in meshes:
            if all(m >= d for m, d in zip(mesh, elph.dims, strict=True)) and tuple(mesh) != tuple(elph.dims):
                couplings.append(interpolated_coupling(elph, phonons, mesh, sigma_ry, gamma_weight))
        for coupling in couplings:
            spectrum = coupling.spectrum()
            entry = critical_temperature(
                spectrum, mu_star, method, (*accept, "coarse"), mu_star_at=mu_star_at
            )
            rows.append(
                QMeshRow(
                    elph.dims,
                    coupling.dims,
                    spectrum.lambda_total,
                    spectrum.omega_log_k,
                    entry.kelvin if isinstance(entry, Tc) else float("nan"),
                    "" if isinstance(entry, Tc) else entry.reason,
                )
            )
    return tuple(rows)
