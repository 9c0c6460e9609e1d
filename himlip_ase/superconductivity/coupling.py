"""From G(q) and any dynamical matrices to mode couplings λ_qν, linewidths and α²F."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from himlip_ase import units
from himlip_ase.errors import InputError
from himlip_ase.lattice import check_dims, commensurate_qpoints, grid_indices
from himlip_ase.phonons.force_constants import DynamicalMatrices, mass_reduced
from himlip_ase.superconductivity.cell_strain import check_same_crystal
from himlip_ase.superconductivity.codec import Record
from himlip_ase.superconductivity.elph_matrices import ElphMatrices
from himlip_ase.superconductivity.spectrum import Problem, Spectrum

if TYPE_CHECKING:
    from ase import Atoms

logger = logging.getLogger(__name__)
GammaWeight = Literal["counted", "excluded"]
_RY_GHZ = units.RY_EV / units.PLANCK_EV_S / 1e9
_IMAGINARY_CM = -0.5


@dataclass(frozen=True)
class ImaginaryMode:
    """A mode with ω² < 0.

    Attributes
    ----------
    qpoint : tuple of 3 float
        Fractional.
    branch : int
        Counted from 1.
    frequency_cm : float
        Negative, cm⁻¹.
    """

    qpoint: tuple[float, float, float]
    branch: int
    frequency_cm: float

    def to_record(self) -> Record:
        """Plain data for JSON."""
        return {"q": list(self.qpoint), "branch": self.branch, "frequency_cm": self.frequency_cm}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ImaginaryMode:
        """What `to_record` wrote."""
        first, second, third = (float(value) for value in record["q"])
        return cls((first, second, third), int(record["branch"]), float(record["frequency_cm"]))

    def __str__(self) -> str:
        q = ", ".join(f"{v:g}" for v in self.qpoint)
        return f"q = ({q}) branch {self.branch}: {abs(self.frequency_cm):.1f}i cm⁻¹"


@dataclass(frozen=True)
class ModeCoupling:
    """Coupling of each phonon on a full q-grid.

    Attributes
    ----------
    primitive : ase.Atoms
        With the masses that were used.
    dims : tuple of 3 int
    qpoints : ndarray, shape (nq, 3)
        Fractional.
    frequencies_cm : ndarray, shape (nq, 3n)
        Imaginary shown negative.
    lambdas : ndarray, shape (nq, 3n)
        λ_qν; 0 where a mode is not summed. Inside a degenerate set only the sum has a meaning.
    gammas_ghz : ndarray, shape (nq, 3n)
        Linewidths γ_qν (half the full width, as ph.x prints them), imaginary modes included.
    atom_weights : ndarray, shape (nq, 3n, n)
        |e_qν,a|², which sum to 1 over the atoms.
    summed : ndarray of bool, shape (nq, 3n)
        Modes that enter λ and α²F.
    weights : ndarray, shape (nq,)
        Weights of the q-sum under `gamma_weight`.
    gamma_weight : {"counted", "excluded"}
    sigma_ry, dos_per_spin_per_ry : float
    imaginary : tuple of ImaginaryMode
        Never summed.
    soft_modes : int
        Modes below the threshold (translations at Γ not counted) that were set to 0, as ph.x does.
    interpolated_from : tuple of 3 int, optional
        Grid of the matrices when `dims` is a denser one reached by Fourier interpolation.
    """

    primitive: Atoms
    dims: tuple[int, int, int]
    qpoints: np.ndarray
    frequencies_cm: np.ndarray
    lambdas: np.ndarray
    gammas_ghz: np.ndarray
    atom_weights: np.ndarray
    summed: np.ndarray
    weights: np.ndarray
    gamma_weight: GammaWeight
    sigma_ry: float
    dos_per_spin_per_ry: float
    imaginary: tuple[ImaginaryMode, ...]
    soft_modes: int
    interpolated_from: tuple[int, int, int] | None = None

    def spectrum(self) -> Spectrum:
        """The discrete spectrum of the q-sum, with its problems and caveats."""
        main = self._spectrum(self.weights)
        problems, caveats = self.judgement()
        other = None
        if len(self.qpoints) > 1:
            swapped: GammaWeight = "excluded" if self.gamma_weight == "counted" else "counted"
            other = self._spectrum(gamma_weights(self.qpoints, swapped))
            change = other.lambda_total / main.lambda_total if main.lambda_total > 0 else float("nan")
            caveats += (f"the other Γ convention multiplies λ by {change:.3f}",)
        return Spectrum(
            main.energies_ev,
            main.lambdas,
            problems,
            caveats,
            other,
            "weight of Γ in the q-sum" if other else "",
        )

    def _spectrum(self, weights: np.ndarray) -> Spectrum:
        mask = self.summed & (weights > 0)[:, None]
        return Spectrum(self.frequencies_cm[mask] / units.EV_CM, (self.lambdas * weights[:, None])[mask])

    def atom_spectra(self) -> dict[str, Spectrum]:
        """Spectrum of each element, λ_qν shared by |e_qν,a|²; they add up to `spectrum`."""
        mask = self.summed & (self.weights > 0)[:, None]
        symbols = np.array(self.primitive.get_chemical_symbols())
        result = {}
        for symbol in dict.fromkeys(symbols):
            share = self.atom_weights[:, :, symbols == symbol].sum(axis=2)
            values = (self.lambdas * self.weights[:, None] * share)[mask]
            result[str(symbol)] = Spectrum(self.frequencies_cm[mask] / units.EV_CM, values)
        return result

    @property
    def gammas_mev(self) -> np.ndarray:
        """Linewidths γ_qν (nq, 3n) in meV: h × GHz."""
        return self.gammas_ghz * units.PLANCK_EV_S * 1e9 * 1e3

    @property
    def _sampled(self) -> int:
        return int(np.prod(self.interpolated_from or self.dims))

    def judgement(self) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
        """Reasons for no Tc, and what a reader must know of the q-sum."""
        problems: list[Problem] = []
        dims = self.interpolated_from or self.dims
        name = "×".join(map(str, dims))
        divisor = "N_q (Γ counted)" if self.gamma_weight == "counted" else "N_q − 1 (Γ excluded)"
        caveats = [f"q-sum divided by {divisor}", f"σ = {self.sigma_ry:g} Ry"]
        if self.interpolated_from is not None:
            caveats.append(f"Fourier-interpolated from {name} to {'×'.join(map(str, self.dims))} q")
        if self.imaginary:
            listed = "; ".join(map(str, self.imaginary[:6]))
            more = f"; and {len(self.imaginary) - 6} more" if len(self.imaginary) > 6 else ""
            problems.append(
                Problem(
                    "imaginary", f"{len(self.imaginary)} imaginary modes, left out of the sum: {listed}{more}"
                )
            )
        if self._sampled < 5:
            problems.append(
                Problem(
                    "coarse",
                    f"the {name} q-grid is too coarse: the weight of Γ alone changes λ by more than 25 %",
                )
            )
        elif min(dims) < 4:
            caveats.append(f"coarse {name} q-grid: not converged in q")
        if self.soft_modes:
            caveats.append(f"{self.soft_modes} modes below the low-frequency threshold set to 0")
        return tuple(problems), tuple(caveats)


def _at_gamma(qpoints: np.ndarray) -> np.ndarray:
    return np.abs(qpoints - np.round(qpoints)).max(axis=1) < 1e-8


def gamma_weights(qpoints: np.ndarray, gamma_weight: GammaWeight) -> np.ndarray:
    """Weights (nq,) of a full q-grid: 1/N_q each ("counted"), or 1/(N_q−1) and 0 at Γ ("excluded").

    Parameters
    ----------
    qpoints : ndarray, shape (nq, 3)
        Fractional, the whole grid.
    gamma_weight : {"counted", "excluded"}

    Returns
    -------
    ndarray, shape (nq,)
    """
    if gamma_weight == "counted":
        return np.full(len(qpoints), 1 / len(qpoints))
    if gamma_weight == "excluded":
        return np.where(_at_gamma(qpoints), 0.0, 1 / max(len(qpoints) - 1, 1))
    raise InputError(f"gamma_weight = {gamma_weight!r}; 'counted' (N_q) or 'excluded' (N_q − 1) is allowed")


def mode_coupling(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    sigma_ry: float | None = None,
    gamma_weight: GammaWeight = "counted",
    threshold_cm: float = 20.0,
) -> ModeCoupling:
    """λ_qν = z†Gz / (2N(E_F)ω²) on the q-grid of the matrices, by the plain q-sum of lambda.x.

    Parameters
    ----------
    elph : ElphMatrices
    phonons : DynamicalMatrices
        Any phonons on the same grid: harmonic, auxiliary, free-energy Hessian. The masses of their primitive
        cell are the ones used, so that ``phonons.with_masses({"H": 2.014})`` gives the isotope.
    sigma_ry : float, optional
        Broadening; None takes the middle one of the run. N(E_F) of the same broadening is used.
    gamma_weight : {"counted", "excluded"}
        "counted" divides by N_q and gives the translations at Γ λ = 0, like lambda.x; "excluded" leaves Γ out
        (its optical modes too) and divides by N_q − 1.
    threshold_cm : float
        Modes of lower frequency get λ = 0, as in ph.x, and are counted in ``soft_modes``.

    Returns
    -------
    ModeCoupling

    Raises
    ------
    InputError
        Another crystal, another grid, a broadening that is not there, an unknown convention.
    """
    elph.check_crystal(phonons)
    one = elph.at(sigma_ry)
    return _couple(one, phonons, phonons.matrices, one.matrices[0], gamma_weight, threshold_cm)


def interpolated_coupling(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    mesh: Sequence[int],
    sigma_ry: float | None = None,
    gamma_weight: GammaWeight = "counted",
    threshold_cm: float = 20.0,
) -> ModeCoupling:
    """The same on a denser Γ-centred mesh, D and G Fourier-interpolated, each with its acoustic sum rule.

    The sum rule is the self-term correction of matdyn.x (``asr='simple'``), applied to G too: without it λ
    diverges near Γ. The phonons may be on another grid than G.

    Parameters
    ----------
    elph, phonons, sigma_ry, gamma_weight, threshold_cm
        As in `mode_coupling`.
    mesh : sequence of 3 int
        The denser mesh, at least as dense as the grid of G.

    Returns
    -------
    ModeCoupling

    Raises
    ------
    InputError
        As in `mode_coupling`; a mesh coarser than the grid of G.
    """
    check_same_crystal(elph.primitive, phonons.primitive, "el-ph matrices", "dynamical matrices")
    dims = check_dims(mesh)
    if any(m < d for m, d in zip(dims, elph.dims, strict=True)):
        raise InputError(f"mesh {dims} is coarser than the el-ph grid {elph.dims}; give a denser one")
    one = elph.at(sigma_ry)
    carrier = DynamicalMatrices(phonons.primitive, one.dims, one.qpoints, one.matrices[0])
    qpoints = commensurate_qpoints(dims)
    g = carrier.force_constants().with_acoustic_sum_rule("onsite").matrices(qpoints)
    d = phonons.force_constants().with_acoustic_sum_rule("onsite").matrices(qpoints)
    return _couple(one, phonons, d, g, gamma_weight, threshold_cm, dims)


def _couple(
    elph: ElphMatrices,
    phonons: DynamicalMatrices,
    matrices: np.ndarray,
    g: np.ndarray,
    gamma_weight: GammaWeight,
    threshold_cm: float,
    mesh: tuple[int, int, int] | None = None,
) -> ModeCoupling:
    """Couplings from Φ(q) and G(q) on the grid of G, or on `mesh` onto which both were interpolated."""
    primitive, dims = phonons.primitive, mesh or elph.dims
    qpoints, n = commensurate_qpoints(dims), len(primitive)
    sigma_ry, dos = float(elph.sigma_ry[0]), float(elph.dos_per_spin_per_ry[0])
    masses = np.repeat(primitive.get_masses(), 3)
    # what is at −q is the conjugate of what is at q: half of the points are enough
    reverse = grid_indices(-qpoints, dims)
    half = np.flatnonzero(np.arange(len(qpoints)) <= reverse)
    place = np.empty(len(qpoints), dtype=int)
    place[half] = place[reverse[half]] = np.arange(len(half))
    values, vectors = np.linalg.eigh(mass_reduced(matrices[half], primitive.get_masses()))
    z = vectors / np.sqrt(masses * units.AMU_RY)[None, :, None]
    coupling = (z.conj() * (g[half] @ z)).sum(axis=1).real[place]  # z†Gz, Ry
    frequencies = units.signed_frequencies_cm(values)[place]
    vectors = vectors[place]
    omega2_ry2 = (frequencies / units.RY_CM) ** 2

    at_gamma = _at_gamma(qpoints)
    translation = np.zeros(frequencies.shape, dtype=bool)
    for q in np.flatnonzero(at_gamma):
        uniform = np.sqrt(masses / masses[::3].sum())[:, None] * np.tile(np.eye(3), (n, 1))
        overlap = (np.abs(vectors[q].conj().T @ uniform) ** 2).sum(axis=1)
        translation[q, np.argsort(overlap)[-3:]] = True
    imaginary = (frequencies < _IMAGINARY_CM) & ~translation
    soft = (frequencies < threshold_cm) & ~imaginary & ~translation
    summed = ~(imaginary | soft | translation)
    lambdas = np.where(summed, coupling / (2 * dos * np.where(summed, omega2_ry2, 1.0)), 0.0)
    named = tuple(
        ImaginaryMode(
            (float(qpoints[q][0]), float(qpoints[q][1]), float(qpoints[q][2])),
            int(b) + 1,
            float(frequencies[q, b]),
        )
        for q, b in np.argwhere(imaginary)
    )
    if named:
        logger.debug("%d imaginary modes are left out of α²F; the first is %s", len(named), named[0])
    return ModeCoupling(
        primitive.copy(),
        dims,
        qpoints,
        frequencies,
        lambdas,
        0.5 * np.pi * coupling * _RY_GHZ,
        (np.abs(vectors) ** 2).reshape(len(qpoints), n, 3, 3 * n).sum(axis=2).swapaxes(1, 2),
        summed,
        gamma_weights(qpoints, gamma_weight),
        gamma_weight,
        sigma_ry,
        dos,
        named,
        int(soft.sum()),
        None if mesh is None else elph.dims,
    )
