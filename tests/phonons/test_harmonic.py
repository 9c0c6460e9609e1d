"""Force constants from calculators, and the command."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import typer
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.phonons.harmonic import harmonic_force_constants
from himlip_ase.phonons.phonopy_files import read_force_constants
from himlip_ase.phonons.qe import read_dyn, write_dyn

from .springs import zincblende
from .test_force_constants import build


class WithHessian(EMT):
    """EMT with a Hessian by central differences, as calculators with an analytic one offer it."""

    calls = 0

    def get_hessian(self, atoms):
        self.calls += 1
        step, size = 1e-3, len(atoms)
        hessian = np.empty((size, 3, size, 3))
        for i in range(size):
            for a in range(3):
                forces = []
                for sign in (1, -1):
                    moved = atoms.copy()
                    moved.positions[i, a] += sign * step
                    moved.calc = EMT()
                    forces.append(moved.get_forces())
                hessian[i, a] = (forces[1] - forces[0]) / (2 * step)
        return hessian


class Broken(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.full((len(self.atoms), 3), np.nan)}


@pytest.fixture(scope="module")
def copper():
    return bulk("Cu", "fcc", a=3.6)


def test_hessian_and_displacements_give_the_same_phonons(copper):
    calculator = WithHessian()
    fc = harmonic_force_constants(copper, calculator, (2, 2, 2))
    assert calculator.calls == 1
    other = harmonic_force_constants(copper, EMT(), (2, 2, 2))
    qpoints = np.array([[0.5, 0, 0], [0.5, 0.5, 0], [0.2, 0.1, 0.35]])
    # anharmonic error of the 0.01 Å displacements
    assert np.abs(fc.frequencies(qpoints) - other.frequencies(qpoints)).max() < 0.2
    assert 50 < fc.frequencies(qpoints).min() < fc.frequencies(qpoints).max() < 350
    assert fc.acoustic_sum_rule_violation() < 1e-8


def test_unrelaxed_crystal_is_told(caplog):
    crystal = bulk("CuAu", "zincblende", a=5.6)
    with caplog.at_level(logging.WARNING, logger="himlip_ase"):
        harmonic_force_constants(crystal, EMT(), (1, 1, 1))
    assert "not relaxed" not in caplog.text
    crystal.positions[1] += [0.05, 0.02, 0.0]
    with caplog.at_level(logging.WARNING, logger="himlip_ase"):
        harmonic_force_constants(crystal, EMT(), (1, 1, 1))
    assert "not relaxed" in caplog.text


def test_himlip_calculator_gives_the_phonons_of_its_own_forces():
    """Exact second derivatives against phonopy's displacements, through the same function."""
    torch = pytest.importorskip("torch")
    from himlip_ase.calculator import HiMLIPCalculator
    from himlip_ase.potential.network import HiMLIP, HiMLIPConfig

    torch.manual_seed(0)
    crystal = build(zincblende, (1, 1, 1))[0].atoms
    calculator = HiMLIPCalculator(HiMLIP(HiMLIPConfig(elements=("B", "N"))))

    class ForcesOnly(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            result = calculator.evaluate([self.atoms])
            self.results = {"energy": float(result.energies[0]), "forces": result.forces[0]}

    exact = harmonic_force_constants(crystal, calculator, (2, 1, 1))
    differences = harmonic_force_constants(crystal, ForcesOnly(), (2, 1, 1), displacement=1e-3)
    assert np.abs(exact.compact).max() > 1e-3
    assert np.abs(exact.compact - differences.compact).max() < 1e-3 * np.abs(exact.compact).max()
    raw = harmonic_force_constants(crystal, calculator, (2, 1, 1), symmetrize=False)
    assert np.abs(exact.compact - raw.compact).max() < 1e-6 * np.abs(exact.compact).max()


def test_calculator_that_returns_nan_is_caught(copper):
    with pytest.raises(CalculationError, match="not finite"):
        harmonic_force_constants(copper, Broken(), (1, 1, 1))


@pytest.fixture
def app():
    from himlip_ase.cli.phonons import register

    app = typer.Typer()
    register(app)
    return app


def test_command_plots_files(app, tmp_path):
    _, fc = build(zincblende, (2, 2, 2))
    write_dyn(fc.dynamical_matrices(), tmp_path / "dyn")
    arguments = ["--dyn", str(tmp_path / "dyn"), "--out", str(tmp_path / "out"), "--mesh", "3", "3", "3"]
    arguments += ["--npoints", "5", "--mass", "B=20", "--write-dyn"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "lowest frequency" in done.output
    heavy = read_force_constants(tmp_path / "out" / "phonopy_params.yaml")
    assert heavy.primitive.get_masses()[0] == pytest.approx(20)
    expected = fc.with_masses({"B": 20.0}).dynamical_matrices().frequencies()
    assert np.abs(read_dyn(tmp_path / "out" / "dyn").frequencies() - expected).max() < 0.01
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, InputError)
    assert "--overwrite" in str(again.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either a STRUCTURE"),
        (["a.xyz", "--dyn", "b"], "either a STRUCTURE"),
        (["--dyn", "a", "--dyn", "b", "--label", "x"], "one --label for each"),
        (["--dyn", "a", "--dyn", "a"], "repeat"),
        (["--dyn", "nowhere/dyn"], "nowhere/dyn0"),
        (["nowhere.cif"], "nowhere.cif"),
        (["a.xyz", "--pressure", "10", "--no-relax"], "needs --relax"),
        (["--dyn", "a", "--mass", "H:2"], "--mass takes ELEMENT=AMU"),
        (["--dyn", "a", "--pressure", "150"], "--pressure needs a STRUCTURE, and --dyn files are read"),
        (["--dyn", "a", "--model", "m"], "--model needs a STRUCTURE"),
        (["--dyn", "a", "--calculator", "m:f"], "--calculator needs a STRUCTURE"),
        (["--dyn", "a", "--dims", "2", "2", "2"], "--dims needs a STRUCTURE"),
        (["--dyn", "a", "--fmax", "1e-5"], "--fmax needs a STRUCTURE"),
        (["--dyn", "a", "--no-relax"], "--no-relax needs a STRUCTURE"),
        (["--dyn", "a", "--no-symmetrize"], "--no-symmetrize needs a STRUCTURE"),
        (["--dyn", "a", "--follow"], "--follow needs a STRUCTURE"),
        (["a.xyz", "--label", "A"], "--label is of --dyn files; type --dyn PREFIX instead of STRUCTURE"),
        (["a.xyz", "--no-asr"], "--no-asr is of --dyn files"),
        (["a.xyz", "--max-generations", "4"], "--max-generations is of --follow; type --follow"),
        (["a.xyz", "--no-relax", "--fmax", "1"], "--fmax is of relaxations, and --no-relax has none"),
    ],
)
def test_command_refuses_what_makes_no_sense(app, arguments, message):
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
