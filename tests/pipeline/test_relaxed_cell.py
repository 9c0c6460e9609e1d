"""A pressure that leads the cell away from G(q) is refused before the SSCHA runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from himlip_ase.errors import InputError
from himlip_ase.lattice import commensurate_qpoints
from himlip_ase.phonons.force_constants import DynamicalMatrices
from himlip_ase.pipeline.relaxed_cell import check_reach, relaxed_strain, zero_point_pressure
from himlip_ase.pipeline.run import run_pipeline
from himlip_ase.sscha.ensembles.evaluation import from_calculator
from himlip_ase.units import EV_PER_ANGSTROM3_GPA
from tests.pipeline.test_h3s import short

BULK_GPA = 160.0
GRUENEISEN = 2.0


class Elastic(Calculator):
    """Rock salt whose pressure is −K ln(V/V₀)·V₀/V, and nothing else."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, volume: float) -> None:
        super().__init__()
        self.volume = volume

    def calculate(self, atoms=None, properties=(), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x, k = np.log(atoms.get_volume() / self.volume), BULK_GPA / EV_PER_ANGSTROM3_GPA
        stress = k * x * self.volume / atoms.get_volume() * np.array([1, 1, 1, 0, 0, 0])
        self.results = {
            "energy": 0.5 * k * self.volume * x**2,
            "forces": np.zeros((len(atoms), 3)),
            "stress": stress,
        }


def phonons(atoms: Atoms) -> DynamicalMatrices:
    """One Einstein-like spring, softer in a larger cell by ω ∝ V^(−γ)."""
    volume = bulk("NaCl", "rocksalt", a=4.0).get_volume()
    spring = 40.0 * (atoms.get_volume() / volume) ** (-2 * GRUENEISEN)
    block = np.kron(spring * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.eye(3)).astype(complex)
    return DynamicalMatrices(atoms, (1, 1, 1), commensurate_qpoints((1, 1, 1)), block[None])


@pytest.fixture
def start() -> DynamicalMatrices:
    return phonons(bulk("NaCl", "rocksalt", a=4.0))


def test_the_estimate_is_that_of_the_equation_of_state(start: DynamicalMatrices) -> None:
    volume = start.primitive.get_volume()
    energy = start.frequencies().sum() / 2 / 8065.54
    pressure = zero_point_pressure(start, phonons)
    assert pressure == pytest.approx(GRUENEISEN * energy / volume, rel=1e-3)
    evaluate = from_calculator(Elastic(volume))
    for wanted in (5.0, -3.0):
        strain = relaxed_strain(start, evaluate, wanted, pressure)
        assert strain is not None
        ratio = 1 + strain.volume
        balance = -BULK_GPA * np.log(ratio) / ratio + pressure * EV_PER_ANGSTROM3_GPA
        assert balance == pytest.approx(wanted, abs=0.11)
        assert strain.principal[0] == pytest.approx(strain.principal[2])


def test_refused_only_where_it_is_certain(start: DynamicalMatrices) -> None:
    volume = start.primitive.get_volume()
    evaluate = from_calculator(Elastic(volume))
    zero_point = zero_point_pressure(start, phonons) * EV_PER_ANGSTROM3_GPA
    near = check_reach(start, evaluate, phonons, zero_point, 0.01)
    assert near is None or near.largest < 0.001
    for wanted in (40.0, -15.0):
        with pytest.raises(InputError, match=r"Nothing was run.*near") as caught:
            check_reach(start, evaluate, phonons, wanted, 0.01)
        assert "tc.max_strain=" in str(caught.value) and "sscha.pressure_gpa" in str(caught.value)
    assert check_reach(start, evaluate, phonons, 40.0, 0.2) is not None


def test_a_run_is_refused_before_its_sscha(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sscha\.pressure_gpa = 60.*Nothing was run"):
        run_pipeline(short(**{"sscha.pressure_gpa": 60.0}), tmp_path / "run", until="sscha")
    assert not (tmp_path / "run/state/sscha/result.json").exists()
    assert not any((tmp_path / "run/state/sscha").glob("**/*population*"))


@pytest.mark.slow
def test_a_run_at_a_pressure_ends_with_a_tc(tmp_path: Path) -> None:
    from himlip_ase.pipeline.tc_cases import Phonons, TcResults

    options = {
        "sscha.pressure_gpa": 175.0,
        "sscha.n_configurations": 60,
        "sscha.max_populations": 8,
        "sscha.n_hessian_configurations": 100,
        "sscha.hessian_order": "third",
        "sscha.significance": 5.0,
        "tc.electron_phonon": "harmonic",
    }
    run_pipeline(short(**options), tmp_path / "run")
    case = TcResults.read(tmp_path / "run/state/tc").cases[Phonons("auxiliary")]
    assert case.has_tc and case.analysis is not None and case.analysis.strain is not None
    assert 0.0005 < case.analysis.strain.largest < 0.01
    assert "Not recalculated in the relaxed cell" in (tmp_path / "run/report.md").read_text(encoding="utf-8")
