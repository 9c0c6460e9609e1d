"""How far pw.x and ph.x are, from outputs cut at any place; a listener that is told once of each run."""

from __future__ import annotations

from pathlib import Path

import pytest

from himlip_ase.dft.espresso.dry_run import DryRun
from himlip_ase.dft.espresso.forecast import step_seconds
from himlip_ase.dft.espresso.progress import ph_standing, scf_standing
from himlip_ase.dft.espresso.response import scf_steps
from himlip_ase.dft.executors import Local
from himlip_ase.dft.standing import Standing
from himlip_ase.progress import duration

DATA = Path(__file__).parent / "data"


def test_an_scf_run_tells_its_iteration_accuracy_and_the_time_left():
    text = (DATA / "al2.out").read_text()
    assert scf_standing(text[: text.index("iteration #")], "scf") is None
    cut = text.index("iteration #  5")
    standing = scf_standing(text[:cut] + "iteration #  5", "scf, dense k")
    assert standing.step == "iteration 5" and "1e-10" in standing.detail
    assert 0 < standing.fraction < 1 and standing.seconds_left >= 0
    fractions = [scf_standing(text[:place], "scf").fraction or 0.0 for place in range(cut, len(text), 500)]
    assert fractions == sorted(fractions)


PH_Q = """
     Calculation of q =    0.0000000   0.0000000   {q}.0000000
     number of k points=     8  Methfessel-Paxton smearing, width (Ry)=  0.0500
     There are    2 irreducible representations
     Representation     1      1 modes -  To be done
     Representation     2      2 modes -  To be done
     Representation #   1 mode #   1
      iter #   1 total cpu time :    {first}.2 secs   av.it.:   4.0
      iter #   2 total cpu time :    {first}.9 secs   av.it.:   5.0
     Convergence has been achieved
     Representation #   2 modes #   2   3
      iter #   1 total cpu time :    {second}.2 secs   av.it.:   4.0
"""


def ph_output(count: int, done: int) -> str:
    """What ph.x 6.7 prints of the q-points 1 to `done` of `count`, each of which takes two seconds."""
    head = f"     Dynamical matrices for ( 2, 2, 2)  uniform grid of q-points\n     (   {count} q-points):\n"
    return head + "".join(PH_Q.format(q=q, first=2 * q, second=2 * q + 1) for q in range(done))


def test_ph_tells_q_point_representation_and_the_time_left():
    text, k_points = ph_output(3, 3), [8, 16, 24]
    seen = []
    for place in range(0, len(text) + 1, 40):
        standing = ph_standing(text[:place], 1, k_points, 3)
        if standing is not None and standing.fraction is not None:
            assert "of 3" in standing.step and "representation" in standing.detail
            seen.append(standing)
    fractions = [standing.fraction for standing in seen]
    assert fractions == sorted(fractions) and 0 <= fractions[0] < fractions[-1] <= 1
    assert seen[-1].step == "q-point 3 of 3" and "2 of 2" in seen[-1].detail
    # done: 3 modes at 8 and at 16 k-points, one at 24; left: two at 24, a half of that, after 4.9 s
    cut = text.index("      iter #   1 total cpu time :    5.2")
    assert ph_standing(text[:cut], 1, k_points, 3).seconds_left == pytest.approx(4.9 / 2)


def test_a_ph_run_that_goes_on_counts_from_where_it_began():
    standing = ph_standing(ph_output(4, 2), 3, [10] * 4, 3)
    assert standing.step == "q-point 4 of 4" and standing.fraction > 0.75
    assert ph_standing("     PHONON starts", 1, [10], 3) is None


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_are_told_in_words(seconds, words):
    assert duration(seconds) == words
    assert f"about {words} left" in str(Standing("ph.x", "q-point 1 of 2", "", 0.5, seconds))


def test_a_call_is_watched_while_it_runs(monkeypatch):
    import time

    monkeypatch.setattr("himlip_ase.dft.executors.WATCH_SECONDS", 0.05)
    looks = []
    with Local().opened(1) as executor:
        assert executor.call(lambda: time.sleep(0.4) or 7, watch=lambda: looks.append(1)) == 7
    assert len(looks) >= 2


def _cell(bands: int, plane_waves: int, fft_points: int) -> DryRun:
    return DryRun(48, 0, 1, bands, plane_waves, 0, fft_points, 0.0)


def test_steps_of_larger_cells_cost_in_proportion_what_they_took() -> None:
    """One step at one k-point, recorded CPU seconds: PdH of 2 and 16 atoms, H3S of 4 and 32."""
    palladium = step_seconds(_cell(91, 5961, 110592)) / step_seconds(_cell(14, 941, 13824))
    assert palladium == pytest.approx(2.43 / 0.0176, rel=0.25)
    sulphur = step_seconds(_cell(44, 10500, 125000)) / step_seconds(_cell(9, 1481, 15625))
    assert sulphur == pytest.approx(0.491 / 0.0062, rel=0.25)


def test_supercells_need_more_scf_steps_and_loose_thresholds_fewer() -> None:
    recorded = {1: 5, 2: 8, 4: 9, 8: 11, 16: 15}  # middle of Al, AlH, H3S, PdH
    for atoms, steps in recorded.items():
        assert steps / 1.5 < scf_steps(atoms) < 1.5 * steps
    assert scf_steps(16, 1e-6) < 0.7 * scf_steps(16)
