"""Equivalent descriptions of a structure give one energy, which is smooth where neighbours come and go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from himlip_ase import HiMLIPCalculator
from himlip_ase.conformance.invariances import CHECKS as INVARIANCES
from himlip_ase.conformance.limits import SLOPE_AT_ZERO, SPACING, VALUE_AT_ZERO
from himlip_ase.potential.derivatives import hessian
from himlip_ase.potential.graph import build_graph
from himlip_ase.potential.radial import envelope
from himlip_ase.testing import check_calculator

from .zoo import CUTOFF, ZOO, h3s, rattled, small_model

NAMES = [check.name for check in INVARIANCES]


@pytest.mark.parametrize("name", ZOO)
def test_invariances(name: str) -> None:
    if name == "conventional":
        names = ["rotation", "permutation of atoms", "choice of periodic images"]
    else:
        names = NAMES
    atoms = ZOO[name]()
    report = check_calculator(HiMLIPCalculator(small_model()), atoms, only=names)
    report.raise_for_failures()
    if atoms.pbc.all():
        assert not report.skipped


def test_conventional_and_primitive_cell_describe_one_crystal() -> None:
    model = small_model()
    cubic = Atoms("SH3SH3", cell=[3.06484] * 3, pbc=True)
    sites = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])
    cubic.set_scaled_positions(np.concatenate([sites, sites + 0.5]))
    one, two = (model(build_graph(atoms, model.elements, model.cutoff)).item() for atoms in (h3s(), cubic))
    assert two == pytest.approx(2 * one, rel=1e-12)


def test_smooth_across_the_cutoff() -> None:
    names = [
        "energy across the cutoff",
        "forces across the cutoff",
        "Hessian across the cutoff",
        "third derivative across the cutoff",
    ]
    report = check_calculator(HiMLIPCalculator(small_model()), rattled(h3s()), only=names)
    report.raise_for_failures()
    assert not report.skipped
    seen = small_model()(build_graph(_dimer(CUTOFF * 0.99), ("H", "S"), CUTOFF)).detach()
    apart = small_model()(build_graph(_dimer(CUTOFF * 1.01), ("H", "S"), CUTOFF)).detach()
    assert abs(float(seen - apart)) > 1e-12, "the scan would prove nothing about a model without interaction"


def test_smooth_where_the_repulsion_ends() -> None:
    model = small_model()
    spacing = SPACING / 4  # the error of the extrapolated slope falls as its cube
    for first, second in (("H", "H"), ("H", "S")):
        pair = [model.elements.index(first), model.elements.index(second)]
        end = float(model.repulsion.ranges[pair[0], pair[1]])
        assert end < CUTOFF
        limits = []
        for sign in (-1, 1):
            values = np.array(
                [
                    hessian(model, _dimer(end + sign * step * spacing, first, second))[1, 2, 1, 2]
                    for step in (1, 2, 3, 4)
                ]
            )
            limits.append((VALUE_AT_ZERO @ values, SLOPE_AT_ZERO @ values * sign / spacing))
        assert abs(limits[0][0] - limits[1][0]) < 1e-9
        assert abs(limits[0][1] - limits[1][1]) < 1e-6 * abs(limits[0][1])


def test_envelope_vanishes_with_three_derivatives() -> None:
    r = torch.tensor(CUTOFF, dtype=torch.float64, requires_grad=True)
    value = envelope(r, CUTOFF)
    for _ in range(4):
        assert float(value) == 0.0
        (value,) = torch.autograd.grad(value, r, create_graph=True)
    assert float(envelope(torch.tensor(0.0), CUTOFF)) == 1.0


@pytest.mark.parametrize("pair", [("H", "H"), ("H", "S"), ("S", "S")])
def test_untrained_model_repels_at_every_short_distance(pair: tuple[str, str]) -> None:
    from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

    calc = HiMLIPCalculator(HiMLIP(HiMLIPConfig(("H", "S"), channels=2, hidden=8)))
    pushes = [calc.get_property("forces", _dimer(r, *pair))[1, 2] for r in (0.05, 0.1, 0.2, 0.3, 0.5)]
    assert pushes == sorted(pushes, reverse=True)
    assert pushes[-1] > 1.0


def test_large_displacements_stay_finite() -> None:
    report = check_calculator(
        HiMLIPCalculator(small_model()), h3s() * (2, 1, 1), only=["finite with 0.4 Å rattles"]
    )
    report.raise_for_failures()


def _dimer(distance: float, first: str = "H", second: str = "S") -> Atoms:
    return Atoms([first, second], positions=[[0, 0, 0], [0, 0, distance]])
