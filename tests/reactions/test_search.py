"""Saddles, strings, reaction coordinates and verdicts on surfaces with known answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc100
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from scipy.integrate import solve_ivp

from himlip_ase.errors import InputError
from himlip_ase.reactions import (
    IrcSettings,
    SaddleSettings,
    SearchSettings,
    StringSettings,
    Surface,
    Verdict,
    bond_graph,
    driven_product,
    find_minimum,
    find_path,
    find_reaction,
    find_saddle,
    follow_irc,
)
from tests.reactions.molecules import (
    acetaldehyde,
    bent_guess,
    ethylamine_to_methane,
    hydrogen_cyanide,
    hydrogen_isocyanide,
    rotation,
    vinyl_alcohol,
)


@pytest.fixture(scope="module")
def gfn2():
    pytest.importorskip("tblite")
    from himlip_ase.labels.molecules.xtb import GFN2

    return GFN2()


@pytest.fixture(scope="module")
def saddle(gfn2):
    return find_saddle(bent_guess(), gfn2)


@pytest.fixture(scope="module")
def slab() -> tuple[Atoms, Atoms]:
    """An atom on Al(100) in two neighbouring hollows, the lower layer held."""
    ends = []
    for offset in ((1, 1), (2, 1)):
        atoms = fcc100("Al", (2, 2, 2), vacuum=6.0)
        add_adsorbate(atoms, "Al", 1.7, "hollow", offset=offset)
        atoms.set_constraint(FixAtoms([atom.index for atom in atoms if atom.tag == 2]))
        ends.append(atoms)
    return ends[0], ends[1]


@pytest.mark.parametrize(
    "settings", [SaddleSettings(), SaddleSettings(step="rs-i-rfo"), SaddleSettings(hessian_every=3)],
    ids=["p-rfo", "i-rfo", "updates"],
)  # fmt: skip
def test_every_search_finds_the_same_saddle(gfn2, saddle, settings: SaddleSettings) -> None:
    found = find_saddle(bent_guess(), gfn2, settings=settings)
    assert found.converged and len(found.imaginary) == 1
    assert found.energy == pytest.approx(saddle.energy, abs=1e-5)
    assert found.imaginary[0] == pytest.approx(saddle.imaginary[0], abs=1)


def test_a_turned_input_takes_the_same_steps(gfn2, saddle) -> None:
    turned = bent_guess()
    turned.positions = turned.positions @ rotation(3).T + [3.0, -1.0, 2.0]
    found = find_saddle(turned, gfn2)
    assert (found.steps, found.counts.gradients) == (saddle.steps, saddle.counts.gradients)
    assert found.energy == pytest.approx(saddle.energy, abs=1e-7)


def test_a_large_system_is_searched_with_products_only(gfn2, saddle) -> None:
    found = find_saddle(bent_guess(), gfn2, settings=SaddleSettings(large_system=0, hessian_every=3))
    assert found.counts.hessians == 0 and found.counts.products > 0
    assert found.converged and found.energy == pytest.approx(saddle.energy, abs=1e-5)
    assert found.imaginary[0] == pytest.approx(saddle.imaginary[0], abs=5)


def test_the_tangent_chooses_the_mode_that_is_climbed(gfn2, saddle) -> None:
    around = np.zeros((3, 3))
    around[0, 0] = 1.0  # the hydrogen along C–N
    found = find_saddle(bent_guess(), gfn2, tangent=around)
    assert found.energy == pytest.approx(saddle.energy, abs=1e-5)
    with pytest.raises(InputError, match="tangent is zero"):
        find_saddle(bent_guess(), gfn2, tangent=np.zeros((3, 3)))


def test_an_atom_jumps_on_a_surface(slab: tuple[Atoms, Atoms]) -> None:
    """EMT's bridge site between two hollows: half way, by symmetry."""
    settings = SearchSettings(irc=IrcSettings(step=1.0, hessian_every=3))  # aluminium is heavy
    found = find_reaction(*slab, EMT(), settings)
    assert found.judgement.verdict is Verdict.INTENDED, found.judgement.reason
    assert found.saddle is not None and len(found.saddle.imaginary) == 1
    ends = [found.path.images[k].positions[-1] for k in (0, -1)]  # neighbours, whatever the cell
    assert np.allclose(found.saddle.atoms.positions[-1][:2], (ends[0] + ends[1])[:2] / 2, atol=0.01)
    held = slab[0].constraints[0].index
    assert np.allclose(found.saddle.atoms.positions[held], slab[0].positions[held])
    image = found.saddle.atoms.copy()
    image.calc = EMT()
    assert np.abs(image.get_forces()).max() < 0.01
    assert found.barrier == pytest.approx(0.2, abs=0.15) and found.reaction_energy == pytest.approx(
        0, abs=1e-4
    )


def test_isomerisation_from_end_to_end(gfn2) -> None:
    found = find_reaction(hydrogen_cyanide(), hydrogen_isocyanide(), gfn2)
    assert found.judgement.verdict is Verdict.INTENDED
    assert found.judgement.reactbench == {"ts_converged": True, "ts_valid": True, "irc_intended": True}
    assert found.irc.energies[0] == pytest.approx(found.reactant.energy, abs=1e-3)
    assert found.irc.energies[-1] == pytest.approx(found.product.energy, abs=1e-3)
    assert found.path.counts.gradients <= 150 and found.irc.counts.gradients <= 40


@pytest.mark.parametrize("most", [20, 27, 34])
def test_a_path_asks_for_no_more_gradients_than_it_may(gfn2, most: int) -> None:
    ends = vinyl_alcohol(), acetaldehyde()
    path = find_path(*ends, gfn2, StringSettings(max_gradients=most))
    assert path.counts.gradients <= most


def test_a_wrong_product_is_not_called_intended(gfn2, saddle) -> None:
    from himlip_ase.reactions import judge_reaction

    irc = follow_irc(saddle, gfn2)
    apart = Atoms("HCN", [[-4.0, 0, 0], [0, 0, 0], [1.16, 0, 0]])
    judged = judge_reaction(saddle, irc, hydrogen_cyanide(), apart)
    assert judged.verdict is Verdict.ONE_END and "H0–N2 forms" in judged.reason
    assert judge_reaction(saddle, irc, apart, apart).verdict is not Verdict.INTENDED
    twice = dataclasses.replace(saddle, frequencies=np.array([-900.0, -300.0, 2000.0]))
    assert judge_reaction(twice, irc, hydrogen_cyanide(), apart).verdict is Verdict.SEVERAL_IMAGINARY_MODES


def test_coordinate_is_that_of_a_stiff_integrator(gfn2, saddle) -> None:
    """dx/ds = −g/|g| by LSODA on the surface itself, from the same start."""
    surface = Surface(saddle.atoms, gfn2)
    irc = follow_irc(saddle, surface, IrcSettings(step=0.1))
    branch = irc.forward
    roots = np.sqrt(np.repeat(saddle.atoms.get_masses(), 3))

    def direction(_: float, point: np.ndarray) -> np.ndarray:
        gradient = surface.evaluate(point / roots)[1] / roots
        return -gradient / np.linalg.norm(gradient)

    start = branch.images[0].positions.ravel() * roots
    lengths = branch.coordinates[:-3] - branch.coordinates[0]
    exact = solve_ivp(direction, (0, lengths[-1]), start, "LSODA", t_eval=lengths, rtol=1e-6, atol=1e-7)
    for point, image in zip(exact.y.T, branch.images, strict=False):
        assert np.abs(point / roots - image.positions.ravel()).max() < 5e-3
    energies = [surface.evaluate(point / roots)[0] for point in exact.y.T]
    assert np.allclose(energies, branch.energies[: len(energies)], atol=1e-3)


def test_energies_and_ends_of_a_coordinate_over_a_narrow_barrier(gfn2) -> None:
    """C2H7N → CH4 + CH3N, coarse steps: one side once fell back over the saddle onto the other."""
    saddle = find_saddle(ethylamine_to_methane(), gfn2)
    irc = follow_irc(saddle, gfn2, IrcSettings(hessian_every=4, end_hessian_every=8))
    surface = Surface(saddle.atoms, gfn2)
    energies = [surface.evaluate(image.positions.ravel())[0] for image in irc.images]
    assert np.allclose(irc.energies, energies, atol=5e-3)
    assert irc.backward.converged and irc.forward.converged
    assert bond_graph(irc.backward.end).changes_to(bond_graph(irc.forward.end))


def test_a_product_is_made_from_bond_changes(gfn2) -> None:
    start = vinyl_alcohol()
    start = find_minimum(Surface(start, gfn2), start.positions.ravel()).atoms
    made = driven_product(start, gfn2, form=[(3, 4)], break_=[(0, 4)])
    assert made.energy < Surface(start, gfn2).evaluate(start.positions.ravel())[0]  # acetaldehyde lies lower
    with pytest.raises(InputError, match="not bonded"):
        driven_product(start, gfn2, break_=[(2, 4)])


class _Failing(Calculator):
    """Fails everywhere but at the start."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": float("nan"), "forces": np.zeros((len(atoms), 3))}


def test_a_failing_calculator_gives_a_verdict_not_a_traceback() -> None:
    found = find_reaction(hydrogen_cyanide(), hydrogen_isocyanide(), _Failing())
    assert found.judgement.verdict is Verdict.CALCULATION_FAILED and "reactant" in found.judgement.reason
    assert found.barrier is None


def test_equal_ends_are_refused(gfn2) -> None:
    with pytest.raises(InputError, match="the same structure"):
        find_path(hydrogen_cyanide(), hydrogen_cyanide(), gfn2)
