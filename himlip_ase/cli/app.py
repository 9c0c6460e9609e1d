"""The ``himlip`` command line: subcommands are imported only when called, so that help is instant."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated

import typer

from himlip_ase.errors import CalculationError, InputError

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
"""Threads of torch that wait for each other sleep instead of spinning. Where other work has a core, small
tensors on two spinning threads took 11.5 s for what takes 0.16 s (docs/speed.md). Set before torch is loaded,
which reads it once."""

COMMANDS: dict[str, str] = {
    "predict": "Energy, forces and stress of structures.",
    "relax": "Relax atoms, and the cell to a pressure, with a potential.",
    "hessian": "Second derivatives of the energy of a structure.",
    "phonons": "Harmonic bands, density of states, phonopy and QE files.",
    "label": "Labels by Quantum ESPRESSO, of molecules also by GFN2-xTB and ωB97X.",
    "sample": "Choose the structures that are worth a label.",
    "pretrain": "Train a base model on many labels of low fidelity.",
    "train": "Train a potential from scratch: finetune by its other name.",
    "finetune": "Train a potential on energies, forces, stresses and Hessians.",
    "eval": "Errors of a potential on labelled structures, with parity plots.",
    "sscha": "Anharmonic phonons and the free-energy Hessian.",
    "expansion": "Thermal expansion a(T), quasi-harmonic and anharmonic.",
    "tc": "α²F, λ and superconducting Tc from G(q) and any phonons.",
    "ts": "Transition state between a reactant and a product, verified, with ΔG‡.",
    "irc": "Reaction coordinate from a transition state to both minima.",
    "gibbs": "Gibbs energies of molecules and reactions, rate constants.",
    "run": "Every stage for one crystal, from a YAML file.",
    "report": "Write report.html and report.md of a run folder again.",
}
"""Name of each subcommand (also of its module in ``himlip_ase.cli``) and its line in ``himlip --help``."""

EXIT_CALCULATION = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
CONSOLE = "himlip console"
_STOPPED = "Stopped. Finished work is kept; continue with --resume."

app = typer.Typer(
    name="himlip",
    help="From a crystal and its pseudopotentials to anharmonic phonons and a superconducting Tc.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"himlip-ase {version('himlip-ase')}")
        raise typer.Exit()


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = {"debug": debug}
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    configure_logging(level)


def configure_logging(level: int = logging.INFO) -> None:
    """Send the package's log to standard error, once, at `level`."""
    logger = logging.getLogger("himlip_ase")
    logger.setLevel(level)
    for handler in logger.handlers:
        if handler.get_name() == CONSOLE:
            if isinstance(handler, logging.StreamHandler):
                handler.stream = sys.stderr  # another than at the first call, if it was redirected since
            return
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(
            console=Console(stderr=True), show_path=False, show_level=False, log_time_format="%H:%M:%S"
        )
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.set_name(CONSOLE)
    logger.addHandler(handler)


@contextlib.contextmanager
def clean_errors(debug: bool = False) -> Iterator[None]:
    """Turn the errors that a user can act on into one message and an exit status, unless `debug`.

    Status 2: the input is wrong (``InputError``, a missing or unreadable file); status 1: a calculation
    failed or the disk is full; 130: interrupted.
    """
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        if debug:
            raise
        typer.echo(_STOPPED, err=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except InputError as error:
        if debug:
            raise
        typer.echo(f"Input error: {error}", err=True)
        raise SystemExit(EXIT_INPUT) from None
    except CalculationError as error:
        if debug:
            raise
        typer.echo(f"Calculation failed: {error}", err=True)
        raise SystemExit(EXIT_CALCULATION) from None
    except OSError as error:
        if debug:
            raise
        name = f" {error.filename}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            typer.echo(
                f"Calculation failed: no space left on the disk{name}; free some and --resume", err=True
            )
            raise SystemExit(EXIT_CALCULATION) from None
        if error.errno == errno.EROFS:
            typer.echo(f"Input error: the file system of{name} is read-only; choose another folder", err=True)
        else:
            typer.echo(f"Input error: {error.strerror or error}:{name}", err=True)
        raise SystemExit(EXIT_INPUT) from None


def _stop_as_interrupt(number: int, frame: object) -> None:
    """SIGTERM (a queue's time limit, ``kill``) ends a command as Ctrl-C does: finished work is kept."""
    raise KeyboardInterrupt


def run_command(name: str, arguments: list[str], debug: bool = False) -> None:
    """Import the module of subcommand `name`, let it register itself, and run it with `arguments`."""
    module_name = f"himlip_ase.cli.{name}"
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop_as_interrupt)
    with clean_errors(debug):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name == module_name:
                raise InputError(f"`himlip {name}` is not part of this installation") from error
            raise InputError(
                f"`himlip {name}` needs the Python package '{error.name}'; "
                "install himlip-ase again, with the extra that the documentation names"
            ) from error
        commands = typer.Typer(
            add_completion=False,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        module.register(commands)
        group = typer.main.get_group(commands)
        status = group.main([name, *arguments], prog_name="himlip", standalone_mode=False)
    if status == EXIT_INTERRUPTED:
        typer.echo(_STOPPED, err=True)
    if isinstance(status, int) and status:
        raise typer.Exit(status)


def _add(name: str, summary: str) -> None:
    def command(context: typer.Context) -> None:
        run_command(name, list(context.args), debug=bool((context.obj or {}).get("debug")))

    app.command(
        name,
        help=summary,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(command)


for _name, _summary in COMMANDS.items():
    _add(_name, _summary)


def main() -> None:
    """Entry point of the ``himlip`` script."""
    app()


if __name__ == "__main__":
    main()
