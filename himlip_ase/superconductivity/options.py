"""What decides a Tc beside the files: one set of options for Python, the command line and a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.cell_strain import DEFAULT_MAX_STRAIN
from himlip_ase.superconductivity.coupling import GammaWeight
from himlip_ase.superconductivity.methods import check_methods
from himlip_ase.superconductivity.tc import ACCEPTABLE, DEFAULT_MU_STAR
from himlip_ase.superconductivity.zone import Integration
from himlip_ase.units import RY_EV

Mesh = tuple[int, int, int]


@dataclass(frozen=True)
class TcOptions:
    """Options of `analyse` and `analyse_curve`, of ``himlip tc`` and of the section ``tc`` of a run.

    Parameters
    ----------
    mu_star : tuple of float
        Coulomb pseudopotentials, 0 ≤ μ* < 1, each once.
    methods : tuple of str
        Names of formulas of `methods.FORMULAS`; all of them by default.
    mu_star_at : float
        Cutoff at which the values of μ* are meant, in units of the highest phonon: 1 in the sense of Allen
        and Dynes, the Matsubara cutoff in that of most codes for the Eliashberg equations.
    sigma_ry : float or None
        Broadening of the double delta, Ry. None: the middle of the σ-plateau if there is one, else the middle
        of the list.
    gamma_weight : {"counted", "excluded"}
        Whether the q-sum counts Γ (divides by N_q) or leaves it out (divides by N_q − 1).
    mesh : tuple of 3 int or None
        q-mesh onto which D and G are Fourier-interpolated; None: the sum over the grid of G itself.
    integration : {"sum", "tetrahedron", "gaussian"}
        How α²F is made of the modes of the mesh; "sum" keeps the single modes, the others want a dense mesh.
    meshes : tuple of meshes
        Further meshes for the table of convergence.
    samples : int
        SSCHA ensembles put together anew from the blocks of one, for the statistical error of Tc.
    seed : int
        Of these samples.
    accept : tuple of {"imaginary", "coarse"}
        Problems that are turned into caveats instead of refusals.
    gap : bool
        Solve the non-linear equations at the first μ* for Δ(T) and 2Δ/kTc.
    max_strain : float
        Largest principal strain between the cell of G(q) and that of the phonons; beyond it there is no Tc.
    fermi_dos : float or None
        N(E_F) of converged bands in states per eV and primitive cell, both spins, as dos.x prints it: α²F of
        every broadening is rescaled to it (`ElphMatrices.rescaled`). None: as ph.x has it.

    Raises
    ------
    InputError
        A value that is not allowed, named.
    """

    mu_star: tuple[float, ...] = DEFAULT_MU_STAR
    methods: tuple[str, ...] = field(default_factory=lambda: check_methods(None))
    mu_star_at: float = 1.0
    sigma_ry: float | None = None
    gamma_weight: GammaWeight = "counted"
    mesh: Mesh | None = None
    integration: Integration = "sum"
    meshes: tuple[Mesh, ...] = ()
    samples: int = 200
    seed: int = 0
    accept: tuple[str, ...] = ()
    gap: bool = False
    max_strain: float = DEFAULT_MAX_STRAIN
    fermi_dos: float | None = None

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.mu_star)
        if not values or not all(np.isfinite(v) and 0 <= v < 1 for v in values):
            raise InputError(
                f"mu_star = {list(values)}; numbers from 0 to 1 are wanted, 0.10 to 0.16 is usual"
            )
        if len(values) > 1 and np.diff(sorted(values)).min() < 1e-9:
            raise InputError(f"mu_star = {list(values)}; give each value once")
        checks = (
            (
                "sigma_ry",
                self.sigma_ry is None or (np.isfinite(self.sigma_ry) and self.sigma_ry > 0),
                "a positive number of Ry",
            ),
            ("mu_star_at", 0 < self.mu_star_at < np.inf, "a positive number of highest phonons"),
            ("gamma_weight", self.gamma_weight in get_args(GammaWeight), _one_of(get_args(GammaWeight))),
            ("integration", self.integration in get_args(Integration), _one_of(get_args(Integration))),
            ("samples", self.samples >= 2, "2 or more"),
            ("seed", self.seed >= 0, "0 or a positive integer"),
            ("accept", set(self.accept) <= set(ACCEPTABLE), _one_of(ACCEPTABLE)),
            (
                "fermi_dos",
                self.fermi_dos is None or (np.isfinite(self.fermi_dos) and self.fermi_dos > 0),
                "a positive number of states per eV and cell",
            ),
            ("max_strain", np.isfinite(self.max_strain) and 0 <= self.max_strain < 1, "a number from 0 to 1"),
        )
        for name, good, allowed in checks:
            if not good:
                raise InputError(f"{name} = {getattr(self, name)!r}; give {allowed}")
        meshes = [_mesh("mesh", self.mesh)] if self.mesh is not None else []
        object.__setattr__(self, "mu_star", values)
        object.__setattr__(self, "methods", check_methods(self.methods))
        object.__setattr__(self, "mesh", meshes[0] if meshes else None)
        object.__setattr__(self, "meshes", tuple(_mesh("meshes", m) for m in self.meshes))
        object.__setattr__(self, "accept", tuple(self.accept))

    @property
    def middle_mu_star(self) -> float:
        """The value of μ* at which convergence and isotopes are shown."""
        return self.mu_star[len(self.mu_star) // 2]

    @property
    def fermi_dos_per_spin_per_ry(self) -> float | None:
        """`fermi_dos` in the unit of ph.x."""
        return None if self.fermi_dos is None else self.fermi_dos * RY_EV / 2

    @property
    def leading_method(self) -> str:
        """The formula by which convergence is shown."""
        return "allen-dynes" if "allen-dynes" in self.methods else self.methods[0]


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}"


def _mesh(name: str, mesh: Sequence[int]) -> Mesh:
    if len(mesh) != 3 or not all(int(n) == n and n >= 1 for n in mesh):
        raise InputError(f"{name} = {list(mesh)}; three positive integers are wanted")
    n1, n2, n3 = (int(n) for n in mesh)
    return n1, n2, n3
