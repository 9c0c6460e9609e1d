"""Ensembles: forces arrive chunk by chunk, what is known is never asked for again, failures keep the rest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.sscha.array_files import load_arrays, save_arrays
from himlip_ase.sscha.ensembles.distances import shortest_by_pair, shortest_distance
from himlip_ase.sscha.ensembles.draws import stream
from himlip_ase.sscha.ensembles.evaluation import Unfinished, from_calculator, from_executor, single_point
from himlip_ase.sscha.ensembles.partial_ensemble import (
    PartialEnsemble,
    begin_ensemble,
    draw_ensemble,
    evaluate_missing,
)
from himlip_ase.sscha.ensembles.sampling import HarmonicDistribution
from himlip_ase.sscha.run.initial import positive_definite_start

from .toy import DIMS, MILD, AsCalculator, BondCrystal, cscl


@pytest.fixture(scope="module")
def crystal() -> BondCrystal:
    return BondCrystal(cscl(), DIMS, MILD)


@pytest.fixture(scope="module")
def distribution(crystal) -> HarmonicDistribution:
    return HarmonicDistribution(positive_definite_start(crystal.harmonic())[0])


def same(one, two) -> None:
    for name in ("displacements", "energies", "forces", "stresses"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert (one.static_energy, one.shortest_distance) == (two.static_energy, two.shortest_distance)


def test_stopped_between_chunks_and_resumed_equals_unbroken(crystal, distribution, tmp_path):
    unbroken = draw_ensemble(distribution, 20, stream(1, 4), crystal, chunk=6)
    asked = []

    def counting(images):
        asked.append(len(images))
        return crystal(images)

    drawn = begin_ensemble(distribution, 20, stream(1, 4))
    steps = evaluate_missing(drawn, distribution.supercell, counting, chunk=6)
    next(steps)
    kept = next(steps)
    save_arrays(tmp_path / "part.npz", kept.arrays())
    resumed = PartialEnsemble.from_arrays(load_arrays(tmp_path / "part.npz"))
    assert resumed.n_missing == 9 and drawn.n_missing == 21
    with pytest.raises(CalculationError, match="9 of 21"):
        resumed.complete(distribution)
    *_, last = evaluate_missing(resumed, distribution.supercell, counting, chunk=6)
    assert asked == [6, 6, 6, 3]
    same(last.complete(distribution), unbroken)
    (again,) = evaluate_missing(last, distribution.supercell, counting, chunk=6)
    assert asked == [6, 6, 6, 3] and again.n_missing == 0


def test_fault_38_three_missing_of_many_are_the_only_ones_asked_for(crystal, distribution):
    """Jobs fail one by one; the finished ones are kept."""
    broken = {3, 7, 20}
    seen = []

    def job(image):
        index = len(seen)
        seen.append(image)
        if index in broken:
            raise RuntimeError("killed by the queue")
        return single_point(AsCalculator(crystal), image)

    drawn = begin_ensemble(distribution, 20, 5)
    with ThreadPoolExecutor(1) as pool:
        steps = evaluate_missing(drawn, distribution.supercell, from_executor(pool, job))
        kept = next(steps)
        with pytest.raises(Unfinished, match="3 of 21 jobs failed"):
            next(steps)
        assert set(np.flatnonzero(~kept.done)) == broken
        broken.clear()
        *_, last = evaluate_missing(kept, distribution.supercell, from_executor(pool, job))
    assert len(seen) == 24
    whole, expected = last.complete(distribution), draw_ensemble(distribution, 20, 5, crystal)
    np.testing.assert_allclose(whole.forces, expected.forces, atol=1e-12)
    np.testing.assert_allclose(whole.stresses, expected.stresses, atol=1e-14)


def test_an_ase_calculator_serves_an_ensemble(crystal, distribution):
    same(
        draw_ensemble(distribution, 6, 2, from_calculator(AsCalculator(crystal))),
        draw_ensemble(distribution, 6, 2, crystal),
    )


def test_bad_chunk_and_bad_forces_are_refused(crystal, distribution):
    drawn = begin_ensemble(distribution, 4, 2)
    with pytest.raises(InputError, match="chunk is 0"):
        next(evaluate_missing(drawn, distribution.supercell, crystal, chunk=0))

    def nan(images):
        result = crystal(images)
        result.forces[0, 0, 0] = np.nan
        return result

    with pytest.raises(CalculationError, match="not finite"):
        draw_ensemble(distribution, 4, 2, nan)


def test_shortest_distances_of_each_pair_of_elements(distribution):
    """Against every distance by minimum image over 27 neighbouring cells."""
    ideal = distribution.supercell
    moved = distribution.displacements(3, 1) * 2
    images = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    symbols = np.array(ideal.get_chemical_symbols())
    expected: dict = {}
    for displacement in moved:
        positions = ideal.positions + displacement
        delta = positions[None, :, None] - positions[:, None, None] + images @ ideal.cell.array
        lengths = np.linalg.norm(delta, axis=-1)
        lengths[lengths < 1e-9] = np.inf
        for a, b in (("H", "H"), ("H", "S"), ("S", "S")):
            here = lengths[symbols == a][:, symbols == b].min()
            expected[a, b] = min(expected.get((a, b), np.inf), here)
    found = shortest_by_pair(ideal, moved)
    assert found == pytest.approx(expected, abs=1e-9)
    assert shortest_distance(ideal, moved) == pytest.approx(min(expected.values()))
