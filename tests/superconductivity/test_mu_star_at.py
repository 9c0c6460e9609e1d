"""μ* that is meant at another cutoff, and the number of frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.superconductivity import TcOptions, critical_temperature
from himlip_ase.superconductivity.tc_entries import Tc
from tests.superconductivity.curves import (
    call,
    plain,
)


def test_mu_star_at_another_cutoff() -> None:
    from himlip_ase.superconductivity import Spectrum, eliashberg_tc

    einstein = Spectrum(np.array([0.02]), np.array([0.5]))
    # 3.995 K: Einstein mode of 20 meV, λ = 0.5, μ* = 0.1 at 30 ω, by a code that takes μ* at its own cutoff
    assert eliashberg_tc(einstein, 0.1, 30, mu_star_at=30) == pytest.approx(3.995, abs=1e-3)
    assert eliashberg_tc(einstein, 0.1) == pytest.approx(2.742, abs=1e-3)
    entry = critical_temperature(einstein, 0.1, "eliashberg", mu_star_at=30)
    assert isinstance(entry, Tc) and entry.kelvin == pytest.approx(3.995, rel=3e-3) and entry.mu_star == 0.1
    there = 1 / (10 + np.log(30))
    for method in ("mcmillan", "allen-dynes", "sisso"):
        meant = critical_temperature(einstein, 0.1, method, mu_star_at=30)
        moved = critical_temperature(einstein, float(there), method)
        assert isinstance(meant, Tc) and isinstance(moved, Tc)
        assert meant.kelvin == pytest.approx(moved.kelvin, rel=1e-12)


def test_mu_star_at_on_the_command_line_and_in_a_run(tmp_path: Path) -> None:
    from himlip_ase.pipeline.config import parse_config

    path, out = tmp_path / "curve.dat", tmp_path / "tc.json"
    path.write_text(plain())
    result = call("--alpha2f", path, "--mu-star", "0.1", "--mu-star-at", "15", "--json", out, "--gap")
    assert result.exit_code == 0, result.exception
    assert "meant at 15 times the highest phonon; at the highest phonon 0.10 is 0.0787" in result.output
    from himlip_ase.superconductivity import read_results

    (found,), _ = read_results(out)
    assert found.table.mu_star_at == 15 and found.gap is not None
    entry = found.table.get("eliashberg", 0.1)
    assert isinstance(entry, Tc) and found.gap.tc_kelvin == pytest.approx(entry.kelvin, rel=1e-6)
    assert parse_config("structure: x.cif\ntc: {mu_star_at: 15}").tc.mu_star_at == 15
    with pytest.raises(InputError, match="mu_star_at"):
        TcOptions(mu_star_at=0)


@pytest.mark.parametrize("coupling", [0.5, 1.0, 2.5])
def test_the_number_of_frequencies_does_not_move_tc(coupling: float) -> None:
    from himlip_ase.superconductivity import Spectrum, eliashberg_tc

    # μ* stays at the highest phonon, and the sums converge
    spectrum = Spectrum(np.array([0.05, 0.1]), np.array([0.4, 0.6]) * coupling)
    high = eliashberg_tc(spectrum, 0.12, 60)
    for cutoff, least in ((4, 4), (4, 64), (8, 4), (15, 4), (15, 64), (15, 256)):
        assert eliashberg_tc(spectrum, 0.12, cutoff, min_frequencies=least) == pytest.approx(high, rel=3e-3)
