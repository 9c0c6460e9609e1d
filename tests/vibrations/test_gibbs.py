"""Gibbs energies against pyscf's thermochemistry, GoodVibes' entropies and closed formulas."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.thermochemistry import IdealGasThermo

from himlip_ase.errors import InputError
from himlip_ase.units import EV_CM, KB_EV_PER_K
from himlip_ase.vibrations.gibbs import Conventions, gibbs_energy, gibbs_slopes
from himlip_ase.vibrations.normal_modes import normal_modes
from himlip_ase.vibrations.partition_functions import (
    damping,
    free_rotor_entropy,
    grimme_entropy,
    harmonic_entropy,
    truhlar_entropy,
)
from himlip_ase.vibrations.rates import barrier_of_rate, eyring_rate, wigner

RRHO = Conventions(entropy="rrho")


def springs(atoms: Atoms, softened: int = 0) -> np.ndarray:
    """A Hessian of springs between all atoms; the softest modes can be made imaginary."""
    n = len(atoms)
    matrix = np.zeros((n, 3, n, 3))
    for i in range(n):
        for j in range(i):
            unit = atoms.positions[i] - atoms.positions[j]
            block = 40.0 / (unit @ unit) ** 2 * np.outer(unit, unit) / (unit @ unit)
            # across as well: springs alone leave planar molecules floppy
            matrix[i, :, i] += block
            matrix[j, :, j] += block
            matrix[i, :, j] -= block
            matrix[j, :, i] -= block
    matrix = matrix.reshape(3 * n, 3 * n)
    roots = np.sqrt(np.repeat(atoms.get_masses(), 3))
    modes = normal_modes(atoms, matrix.reshape(n, 3, n, 3)).modes.reshape(-1, 3 * n)
    for number, mode in enumerate(modes):
        target = -3.0 if number < softened else 0.5 + 0.3 * number
        field = mode * roots
        now = mode @ (matrix / roots / roots[:, None]) @ mode
        matrix += (target - now) * np.outer(field, field)
    return matrix


NAMES = ["H2O", "NH3", "CH4", "CO2", "HCN", "C2H2", "CH3OH", "C2H6", "H2CO", "CH3CHO", "C6H6"]


@pytest.mark.parametrize("name", NAMES)
def test_harmonic_gibbs_energy_is_that_of_ase(name: str) -> None:
    """ASE's constants are CODATA 2014; 1e-6 eV."""
    atoms = molecule(name)
    matrix = springs(atoms)
    found = gibbs_energy(atoms, -3.0, matrix, conventions=RRHO)
    geometry = "linear" if name in ("CO2", "HCN", "C2H2") else "nonlinear"
    thermo = IdealGasThermo(
        list(found.frequencies / EV_CM), geometry, -3.0, atoms, found.symmetry_number, spin=0.0
    )
    assert found.gibbs == pytest.approx(thermo.get_gibbs_energy(298.15, 101325.0, verbose=False), abs=2e-6)


@pytest.mark.peer
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("saddle", [0, 1])
def test_gibbs_energy_is_that_of_pyscf(name: str, saddle: int) -> None:
    gto = pytest.importorskip("pyscf.gto")
    from pyscf.data import nist
    from pyscf.hessian import thermo

    from himlip_ase.units import BOHR_ANGSTROM, HARTREE_EV

    atoms = molecule(name)
    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions.tolist(), strict=True))
    mol = gto.M(atom=geometry, basis="sto-3g", verbose=0)
    atoms.set_masses(mol.atom_mass_list(isotope_avg=True))
    matrix = springs(atoms, saddle)
    n = len(atoms)

    class Field:
        e_tot, _scf = 0.0, None

    field = Field()
    field.mol = mol
    blocks = matrix.reshape(n, 3, n, 3).transpose(0, 2, 1, 3) / (HARTREE_EV / BOHR_ANGSTROM**2)
    modes = thermo.harmonic_analysis(mol, blocks, imaginary_freq=False)
    real = np.array(modes["freq_au"])[saddle:]
    peer = thermo.thermo(field, real, 298.15, 101325)
    mine = gibbs_energy(atoms, 0.0, matrix, saddle, RRHO)
    sigma = 1 if name in ("HCN",) else None
    shift = KB_EV_PER_K * 298.15 * np.log(mine.symmetry_number / peer["sym_number"][0])
    assert sigma is None or mine.symmetry_number == sigma
    assert mine.gibbs == pytest.approx(peer["G_tot"][0] * nist.HARTREE2EV + shift, abs=1e-6)
    assert mine.zero_point == pytest.approx(peer["ZPE"][0] * nist.HARTREE2EV, abs=1e-6)


@pytest.mark.peer
def test_entropies_are_those_of_goodvibes() -> None:
    thermo = pytest.importorskip("goodvibes.thermo")
    frequencies = np.array([5.0, 30.0, 99.0, 180.0, 1000.0, 3500.0])
    per_mole = 96485.33212  # J/mol of one eV
    for temperature in (200.0, 298.15, 1000.0):
        harmonic = np.array(thermo.calc_rrho_entropy(temperature, frequencies.tolist())) / per_mole
        rotor = np.array(thermo.calc_freerot_entropy(temperature, frequencies.tolist())) / per_mole
        weight = np.array(thermo.calc_damp(frequencies.tolist(), 100.0))
        mixed = weight * harmonic + (1 - weight) * rotor
        for mine, peer in (
            (harmonic_entropy(frequencies, temperature), harmonic),
            (free_rotor_entropy(frequencies, temperature), rotor),
            (grimme_entropy(frequencies, temperature, 100.0), mixed),
        ):
            assert np.abs(temperature * (mine - peer)).max() < 1e-6
        assert np.allclose(damping(frequencies, 100.0), weight, atol=1e-12)


def test_quasi_harmonic_limits() -> None:
    """Grimme's entropy is the oscillator's where vibrations are stiff and the rotor's where they are soft."""
    stiff, soft = np.array([2000.0]), np.array([1.5])
    assert grimme_entropy(stiff, 300.0, 100.0) == pytest.approx(harmonic_entropy(stiff, 300.0), rel=1e-2)
    assert grimme_entropy(soft, 300.0, 100.0) == pytest.approx(free_rotor_entropy(soft, 300.0), rel=1e-5)
    assert truhlar_entropy(soft, 300.0, 100.0) == harmonic_entropy(np.array([100.0]), 300.0)


def test_one_imaginary_mode_of_a_saddle_is_left_out_and_named() -> None:
    atoms = molecule("CH3OH")
    matrix = springs(atoms, softened=1)
    with pytest.raises(InputError, match="saddle=1"):
        gibbs_energy(atoms, 0.0, matrix)
    found = gibbs_energy(atoms, 0.0, matrix, saddle=1)
    assert len(found.left_out) == 1 and found.left_out[0] < -500 and len(found.frequencies) == 11
    with pytest.raises(InputError, match="no transition state"):
        gibbs_energy(atoms, 0.0, springs(atoms), saddle=1)
    with pytest.raises(InputError, match="instead of 1"):
        gibbs_energy(atoms, 0.0, springs(atoms, softened=2), saddle=1)


def test_standard_states_isotopes_and_degeneracy() -> None:
    atoms = molecule("H2O")
    matrix = springs(atoms)
    kt = KB_EV_PER_K * 298.15
    gas = gibbs_energy(atoms, 0.0, matrix, conventions=RRHO).gibbs
    bar = gibbs_energy(atoms, 0.0, matrix, conventions=Conventions(entropy="rrho", pressure=1e5)).gibbs
    assert bar - gas == pytest.approx(kt * np.log(1e5 / 101325), abs=1e-9)
    molar = gibbs_energy(atoms, 0.0, matrix, conventions=Conventions(entropy="rrho", concentration=1)).gibbs
    assert molar - gas == pytest.approx(kt * np.log(24.4654), abs=1e-6)  # 1.89 kcal/mol, known to all
    triplet = gibbs_energy(atoms, 0.0, matrix, conventions=Conventions(entropy="rrho", multiplicity=3)).gibbs
    assert triplet - gas == pytest.approx(-kt * np.log(3), abs=1e-12)
    heavy = gibbs_energy(atoms, 0.0, matrix, conventions=Conventions(isotopes={"H": 2.014}))
    light = gibbs_energy(atoms, 0.0, matrix)
    assert heavy.zero_point < 0.8 * light.zero_point
    half = gibbs_energy(atoms, 0.0, matrix, conventions=Conventions(isotopes={1: 2.014}))
    assert (light.symmetry_number, half.symmetry_number) == (2, 1)
    with pytest.raises(InputError, match="no such atom"):
        gibbs_energy(atoms, 0.0, matrix, conventions=Conventions(isotopes={"C": 13.0}))
    with pytest.raises(InputError, match="one of the two"):
        Conventions(pressure=1e5, concentration=1.0)


def test_a_molecule_that_is_not_quite_straight_is_linear() -> None:
    atoms = molecule("HCN")
    bent = atoms.copy()
    bent.positions[0, 0] += 0.003
    matrix = springs(atoms)
    one, two = gibbs_energy(atoms, 0.0, matrix).gibbs, gibbs_energy(bent, 0.0, matrix).gibbs
    assert two == pytest.approx(one, abs=2e-3)


def test_rates() -> None:
    assert eyring_rate(0.0, 298.15) == pytest.approx(6.2124e12, rel=1e-4)
    assert barrier_of_rate(eyring_rate(0.9, 400.0), 400.0) == pytest.approx(0.9)
    assert wigner(-1000.0, 298.15) == pytest.approx(1.9703, abs=1e-3)  # ħω/kT = 4.8258
    assert wigner(-50.0, 1000.0) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("entropy", ["grimme", "rrho"])
@pytest.mark.parametrize("saddle", [0, 1])
def test_slopes_are_those_of_the_gibbs_energy(entropy: str, saddle: int) -> None:
    """Against differences of G with the Hessian, in a direction that leaves rigid motions free."""
    atoms = molecule("CH3OH")
    matrix = springs(atoms, softened=saddle)
    state = Conventions(temperature=400, entropy=entropy, scale=0.97, isotopes={"H": 2.014})
    slopes, shapes = gibbs_slopes(atoms, matrix, saddle, state)
    change = 0.1 * springs(atoms)
    along = shapes.reshape(len(shapes), -1)
    said = slopes @ np.einsum("mi,ij,mj->m", along, change.reshape(2 * along.shape[1:]), along)
    ahead, behind = (
        gibbs_energy(atoms, 0.0, matrix + s * change, saddle, state).gibbs for s in (1e-3, -1e-3)
    )
    assert said == pytest.approx((ahead - behind) / 2e-3, rel=1e-4)
