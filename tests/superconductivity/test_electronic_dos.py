"""N(ε) of other programs: spins and units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from himlip_ase.errors import InputError
from himlip_ase.superconductivity.electronic_dos import ElectronicDos, read_electronic_dos
from himlip_ase.units import HARTREE_EV
from tests.superconductivity.curves import (
    call,
    plain,
)


def test_case_T3_two_spins_of_the_density_of_states_are_added(tmp_path: Path) -> None:
    energies = np.linspace(-5, 5, 401)
    up, down = 1 + 0.5 * np.sin(2 * energies), 1 + 0.5 * np.cos(3 * energies)
    both, total = tmp_path / "spin.dos", tmp_path / "total.dos"
    for path, head, columns in (
        (both, "#  E (eV)   dosup(E)     dosdw(E)   Int dos(E) EFermi =    0.250 eV", (up, down, 0 * up)),
        (total, "#  E (eV)   dos(E)     Int dos(E) EFermi =    0.250 eV", (up + down, 0 * up)),
    ):
        table = np.column_stack([energies, *columns])
        path.write_text(head + "\n" + "\n".join(" ".join(f"{v:13.6E}" for v in row) for row in table) + "\n")
    added, whole = read_electronic_dos(both), read_electronic_dos(total)
    assert added.values == pytest.approx(whole.values, rel=1e-5)
    assert added.energies_ev == pytest.approx(whole.energies_ev)
    curve = tmp_path / "curve.dat"
    curve.write_text(plain())
    outputs = [call("--alpha2f", curve, "--mu-star", "0.1", "--dos", path).output for path in (both, total)]
    lines = [next(line for line in out.splitlines() if "N(ε)" in line) for out in outputs]
    assert lines[0] == lines[1]
    text = both.read_text().replace(f"{up[200]:13.6E}", "*************")
    both.write_text(text)
    with pytest.raises(InputError, match=r"line 202.*overflowed"):
        read_electronic_dos(both)


def test_a_density_of_states_in_the_unit_of_its_header(tmp_path: Path) -> None:
    energies = np.linspace(-5, 5, 101)
    values = 1 + 0.5 * np.sin(2 * energies)

    def density(head: str, unit: float) -> ElectronicDos:
        table = [f"{unit * (e + 1):.8f} {v:.8f}" for e, v in zip(energies, values, strict=True)]
        (tmp_path / "dos").write_text("\n".join([head, *table]) + "\n")
        return read_electronic_dos(tmp_path / "dos")

    whole = density("# E (eV) dos(E) EFermi = 1.0 eV", 1.0)
    for head in (
        "# Fermi energy : 0.0367493222\n# energy(Ha)   DOS",
        "# E [Hartree] DOS, EFermi = 0.0367493222",
    ):
        found = density(head, 1 / HARTREE_EV)
        assert found.energies_ev == pytest.approx(whole.energies_ev, abs=1e-6)
        assert found.values == pytest.approx(whole.values, abs=1e-7)
    with pytest.raises(InputError, match="energies in kJ; write them in eV"):
        density("# E (kJ) dos", 1.0)
