"""The command says one clean sentence about an error, and starts fast."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

from himlip_ase.cli.app import COMMANDS, app
from himlip_ase.errors import CalculationError, InputError

runner = CliRunner()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Put a function in the place of ``himlip predict``."""

    def install(function: Callable[..., None]) -> None:
        module = types.ModuleType("himlip_ase.cli.predict")
        module.register = lambda sub: sub.command("predict")(function)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "himlip_ase.cli.predict", module)

    return install


@pytest.mark.parametrize(
    ("error", "status", "start"),
    [
        (InputError("a.cif holds NaN"), 2, "Input error: a.cif holds NaN"),
        (CalculationError("pw.x died"), 1, "Calculation failed: pw.x died"),
        (FileNotFoundError(2, "No such file or directory", "a.cif"), 2, "Input error: No such file"),
        (OSError(28, "No space left on device", "x"), 1, "Calculation failed: no space left on the disk"),
        (OSError(30, "Read-only file system", "x"), 2, "Input error: the file system of x is read-only"),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
)
def test_fault_36_errors_are_one_message_without_traceback(
    command, error: BaseException, status: int, start: str
) -> None:
    def fail() -> None:
        raise error

    command(fail)
    result = runner.invoke(app, ["predict"])
    assert result.exit_code == status
    assert result.stderr.startswith(start)
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback(command) -> None:
    def fail() -> None:
        raise InputError("a.cif holds NaN")

    command(fail)
    result = runner.invoke(app, ["--debug", "predict"])
    assert isinstance(result.exception, InputError)


def test_arguments_reach_the_subcommand_unchanged(command) -> None:
    seen: list[object] = []

    def predict(
        name: str, n: int = typer.Option(1, "-n"), flag: bool = typer.Option(False, "--flag")
    ) -> None:
        seen.extend([name, n, flag])

    command(predict)
    assert runner.invoke(app, ["predict", "-n", "4", "--flag", "a b.cif"]).exit_code == 0
    assert seen == ["a b.cif", 4, True]
    wrong = runner.invoke(app, ["predict", "--flagg", "x"])
    assert wrong.exit_code == 2 and "flagg" in wrong.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from himlip_ase.cli.app import main\n"
        "sys.argv = ['himlip', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'ase', 'phonopy', 'matplotlib', 'scipy', 'h5py', 'pydantic'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert name in done.stdout


def test_unknown_command_suggests() -> None:
    result = runner.invoke(app, ["shcsa"])
    assert result.exit_code == 2
    assert "No such command" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = runner.invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage: himlip" in result.output


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: str | None, expected: str) -> None:
    """OpenMP reads its policy when torch is loaded; the command has to say it before."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    program = (
        "import sys, os, himlip_ase.cli.app; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [expected, "False"]
