"""Two supercells of one crystal: what differs, at the q-points that both have, within its error."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.sscha import SschaSettings, compare_grids, run_sscha

from .toy import STRONG, BondCrystal, cscl

SETTINGS = SschaSettings(
    n_configurations=200, n_hessian_configurations=400, seed=2, n_blocks=10, hessian_order="third"
)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    results = []
    for dims in ((1, 1, 2), (1, 1, 4)):
        crystal = BondCrystal(cscl(c=2.7), dims, STRONG)
        folder = tmp_path_factory.mktemp(str(dims[2]))
        results.append(run_sscha(crystal.harmonic(), crystal, SETTINGS, folder))
    return results


def test_only_common_q_points_are_compared(both):
    coarse, fine = both
    change = compare_grids(coarse, fine)
    assert change.qpoints.tolist() == [[0, 0, 0], [0, 0, 0.5]]
    place = fine.auxiliary.index([0, 0, 0.5])
    expected = fine.frequencies()[place] - coarse.frequencies()[1]
    np.testing.assert_allclose(change.auxiliary[1], expected)
    assert change.free_energy_mev[0] == pytest.approx(1e3 * (fine.free_energy - coarse.free_energy))
    assert change.free_energy_mev[1] > 1e3 * fine.free_energy_sigma
    assert change.as_dict()["fine"] == [1, 1, 4]
    assert change.sentence().startswith("1×1×4 minus 1×1×2: free energy")
    largest, sigma = change.largest()
    assert abs(largest) == np.abs(change.auxiliary).max() and sigma > 0


def test_short_bonds_make_the_grids_agree_within_their_errors(both):
    change = compare_grids(*both)
    for kind in ("auxiliary", "hessian"):
        shift, sigma = getattr(change, kind), getattr(change, f"{kind}_sigma")
        z = shift[sigma > 0] / sigma[sigma > 0]
        assert np.sqrt((z**2).mean()) < 3


def test_a_run_does_not_differ_from_itself_and_other_crystals_are_refused(both):
    coarse, _ = both
    change = compare_grids(coarse, coarse)
    assert not change.auxiliary.any() and change.free_energy_mev[0] == 0 and change.rms("hessian") == 0
    other = coarse.auxiliary.primitive.copy()
    other.set_cell(1.2 * other.cell.array, scale_atoms=True)
    swollen = dataclasses.replace(coarse, auxiliary=dataclasses.replace(coarse.auxiliary, primitive=other))
    with pytest.raises(InputError, match="different crystals"):
        compare_grids(coarse, swollen)
