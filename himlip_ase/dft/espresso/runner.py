"""Running pw.x and ph.x without trusting them: finished, converged and of the right input, or an error."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from himlip_ase.dft.espresso.input_reading import read_pw_input
from himlip_ase.dft.espresso.inputs import SCRATCH, comparable
from himlip_ase.dft.espresso.pseudopotentials import md5
from himlip_ase.dft.other_request import OtherRequest
from himlip_ase.dft.programs import InterruptedRun, RunLock, are_noted, note, run_program
from himlip_ase.errors import CalculationError, InputError, NotConvergedError
from himlip_ase.files import atomic_write, read_text, write_json
from himlip_ase.labels.espresso_ends import MpiError, OutOfTimeError, program_error
from himlip_ase.labels.pw_output import PwOutput, check_same_crystal, read_pw_output

logger = logging.getLogger(__name__)

RETRY_CHANGES: tuple[dict[str, Any], ...] = (
    {"mixing_beta": 0.3},
    {"mixing_beta": 0.3, "diagonalization": "cg"},
    {"mixing_beta": 0.2, "diagonalization": "cg", "electron_maxstep": 300},
)
"""What the first, second and third repetition of a failed pw.x run change in &ELECTRONS."""

_HOPELESS = re.compile(
    r"readpp|upf|pseudo|iosys|namelist|read_card|card_|latgen|cell_base|check_atoms|setup|kpoint|input|davcio|open",
    re.IGNORECASE,
)
"""Routines whose errors (wrong input, missing file, full disk) no change of the scf settings can mend."""


@dataclass(frozen=True)
class Launcher:
    """How the executables are started.

    Attributes
    ----------
    prefix : str
        Command in front of the executable, e.g. "mpirun -n 2" or "nice -n 10".
    threads : int
        OMP_NUM_THREADS of the program.
    pools : int
        Pools of k-points (``-nk``) the processes of `prefix` are divided into: small cells with many
        k-points gain nearly the number of processes by it, and little without.
    retries : int
        How often a failed run is repeated with changed settings, at most 3 (`RETRY_CHANGES`).
    pw, ph : str
        Executables, on the PATH or with their path.
    """

    prefix: str = ""
    threads: int = 1
    pools: int = 1
    retries: int = 3
    pw: str = "pw.x"
    ph: str = "ph.x"

    def __post_init__(self) -> None:
        if not 0 <= self.retries <= len(RETRY_CHANGES):
            raise InputError(f"retries is {self.retries}; give 0 to {len(RETRY_CHANGES)}")
        for name in ("threads", "pools"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.pools > 1 and not self.prefix:
            raise InputError(
                f"pools is {self.pools}, of one process; start at least as many, e.g. prefix "
                f"'mpirun -n {self.pools}'"
            )

    def command(self, executable: str, input_name: str) -> list[str]:
        """Words of the command line.

        Parameters
        ----------
        executable : str
            On the PATH or with its path.
        input_name : str

        Returns
        -------
        list of str

        Raises
        ------
        InputError
            The executable, or the first word of `prefix`, is not found.
        """
        words = shlex.split(self.prefix)
        pools = ["-nk", str(self.pools)] if self.pools > 1 else []
        if are_noted():  # for another machine, where the programs have places of their own
            return [*words, executable, *pools, "-in", input_name]
        if missing := self.missing(executable):
            raise InputError("; ".join(missing))
        path = shutil.which(executable)
        assert path is not None
        return [*words, os.path.abspath(path), *pools, "-in", input_name]

    def missing(self, *executables: str) -> list[str]:
        """What is not on the PATH: the first word of `prefix`, programs.

        Parameters
        ----------
        *executables : str

        Returns
        -------
        list of str
            One sentence each.
        """
        words = shlex.split(self.prefix)
        found = []
        if words and shutil.which(words[0]) is None:
            found.append(
                f"{words[0]!r}, the first word of the command prefix {self.prefix!r}, is not on the PATH"
            )
        absent = [name for name in executables if shutil.which(name) is None]
        if absent:
            verb = "is" if len(absent) == 1 else "are"
            found.append(
                f"{' and '.join(absent)} {verb} not on the PATH; install Quantum ESPRESSO (Debian, Ubuntu: "
                "sudo apt install quantum-espresso), or add the folder of your own build to PATH"
            )
        return found


def requested_input(folder: Path, stem: str) -> str | None:
    """The input text a run in a folder was asked for (before any retry changed it), or None.

    Parameters
    ----------
    folder : Path
    stem : str

    Returns
    -------
    str or None
    """
    for name in (f"{stem}.requested.in", f"{stem}.in"):
        if (folder / name).is_file():
            return read_text(folder / name, "delete it and continue with --resume")
    return None


def check_input_unchanged(folder: str | os.PathLike, text: str, stem: str = "pw") -> bool:
    """Whether a folder has been asked for this input already.

    Parameters
    ----------
    folder : path-like
    text : str
        Input.
    stem : str

    Returns
    -------
    bool

    Raises
    ------
    InputError
        It has been asked for another one.
    """
    folder = Path(folder)
    old = requested_input(folder, stem)
    if old is None:
        return False
    if comparable(old) != comparable(text):
        pairs = zip(comparable(old).splitlines(), comparable(text).splitlines(), strict=False)
        was, now = next(((a, b) for a, b in pairs if a != b), ("…", "…"))
        raise OtherRequest(
            f"{folder / stem}.in asks for something else: it has {was.strip()!r}, wanted is {now.strip()!r}. "
            "Choose another folder, or delete this one",
            folder,
        )
    return True


def finished_run(folder: str | os.PathLike, text: str, stem: str = "pw") -> PwOutput | None:
    """Results of a valid run of this input in a folder, or None if it has to be run.

    Parameters
    ----------
    folder : path-like
    text : str
        Input.
    stem : str

    Returns
    -------
    PwOutput or None

    Raises
    ------
    InputError
        The folder holds another input, or a pseudopotential file has changed since.
    """
    folder = Path(folder)
    if not check_input_unchanged(folder, text, stem):
        return None
    try:
        output = read_pw_output(folder / f"{stem}.out")
        request = read_pw_input(folder / f"{stem}.in")
        check_same_crystal(request.atoms, output, str(folder / f"{stem}.out"))
    except CalculationError:
        return None
    directory = re.search(r"pseudo_dir\s*=\s*'(.*)'", text)
    for name, digest in output.pseudopotential_md5.items():
        path = folder / (directory.group(1) if directory else ".") / name
        if path.is_file() and md5(path) != digest:
            raise OtherRequest(
                f"{path} has changed since {folder} was run; restore it, or choose another folder", folder
            )
    return output


def run_pw(
    folder: str | os.PathLike,
    text: str,
    launcher: Launcher | None = None,
    *,
    stem: str = "pw",
    notes: Mapping[str, Any] | None = None,
    fresh_scratch: bool = True,
    delete_scratch: bool = True,
    reuse: bool = True,
    lock: RunLock | None = None,
) -> PwOutput:
    """Run pw.x until its output can be trusted, a bounded number of times.

    A valid output of the same input that is there already is returned without running. A failed run is
    repeated with the changes of `RETRY_CHANGES`; its output is kept as ``<stem>.failed1.out`` …, the input as
    asked for as ``<stem>.requested.in``, and what happened is written into ``<stem>.json``.

    Parameters
    ----------
    folder : path-like
        Made if absent.
    text : str
        Input, see `himlip_ase.dft.espresso.inputs.pw_input`.
    launcher : Launcher, optional
    stem : str
        ``<stem>.in`` and ``<stem>.out`` are written.
    notes : mapping, optional
        Added to ``<stem>.json``.
    fresh_scratch, delete_scratch : bool
        Whether the scratch folder is removed before each run, and after success.
    reuse : bool
        Whether a valid output is returned without running.
    lock : RunLock, optional
        The lock of `folder`, if the caller holds it.

    Returns
    -------
    PwOutput

    Raises
    ------
    InputError
        The folder holds another input or is in use; the executable or a pseudopotential is missing.
    NotConvergedError, CalculationError
        The last repetition failed too; the message tells why.
    """
    launcher, folder = launcher or Launcher(), Path(folder)
    command = launcher.command(launcher.pw, f"{stem}.in")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(lock) if lock is not None else RunLock(folder) as held:
        done = finished_run(folder, text, stem)
        if done is not None and reuse:
            return done
        retries: list[dict[str, Any]] = []
        for attempt in range(launcher.retries + 1):
            changes = RETRY_CHANGES[attempt - 1] if attempt else {}
            _write_inputs(folder, stem, text, changes)
            if fresh_scratch:
                shutil.rmtree(folder / SCRATCH, ignore_errors=True)
            if are_noted():
                record = {"program": "pw.x", "prefix": launcher.prefix, "retries": [], **(notes or {})}
                write_json(folder / f"{stem}.json", record, overwrite=True, seal=True)
            try:
                output = _run_once(command, folder, stem, launcher, held)
                break
            except (InterruptedRun, OutOfTimeError, MpiError):
                raise  # other scf settings mend none of these
            except CalculationError as error:
                printed = (folder / f"{stem}.out").read_text(errors="replace")
                hopeless = _HOPELESS.search((program_error(printed) or "").partition(":")[0])
                if attempt == launcher.retries or hopeless:
                    kind = NotConvergedError if isinstance(error, NotConvergedError) else CalculationError
                    tried = f" after {attempt + 1} attempts" if attempt else ""
                    raise kind(f"{error}{tried}") from error
                os.replace(folder / f"{stem}.out", folder / f"{stem}.failed{attempt + 1}.out")
                logger.warning("%s; repeating it with %s", error, RETRY_CHANGES[attempt])
                retries.append({"failure": _reason(error, folder), "then_changed": RETRY_CHANGES[attempt]})
        record = {"program": "pw.x", "version": output.version, "prefix": launcher.prefix, "retries": retries}
        write_json(folder / f"{stem}.json", {**record, **(notes or {})}, overwrite=True, seal=True)
        if delete_scratch:
            shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        return output


def with_electrons(text: str, changes: Mapping[str, Any]) -> str:
    """An input text with keywords of &ELECTRONS set to other values.

    Parameters
    ----------
    text : str
    changes : mapping
        {keyword: value}.

    Returns
    -------
    str
    """
    for key, value in changes.items():
        text = re.sub(rf"(?m)^\s*{key}\s*=.*\n", "", text)
        written = f"'{value}'" if isinstance(value, str) else str(value)
        text, count = re.subn(r"(?m)^&ELECTRONS[ \t]*\n", f"&ELECTRONS\n   {key:<16} = {written}\n", text)
        if count != 1:
            raise InputError("the input has no &ELECTRONS namelist")
    return text


def note_pw(folder: Path, text: str, launcher: Launcher, stem: str) -> None:
    """Write an input of pw.x and note the program, within `himlip_ase.dft.programs.noting`.

    Parameters
    ----------
    folder : Path
    text : str
        Input.
    launcher : Launcher
    stem : str
    """
    _write_inputs(folder, stem, text, {})
    note(folder, launcher.command(launcher.pw, f"{stem}.in"), f"{stem}.out")


def _write_inputs(folder: Path, stem: str, text: str, changes: Mapping[str, Any]) -> None:
    requested = folder / f"{stem}.requested.in"
    if changes:
        with atomic_write(requested, overwrite=True) as stream:
            stream.write(text)
    with atomic_write(folder / f"{stem}.in", overwrite=True) as stream:
        stream.write(with_electrons(text, changes))
    if not changes:
        requested.unlink(missing_ok=True)


def _run_once(command: list[str], folder: Path, stem: str, launcher: Launcher, lock: RunLock) -> PwOutput:
    status = run_program(command, folder, f"{stem}.out", launcher.threads, lock)
    output = read_pw_output(folder / f"{stem}.out")
    check_same_crystal(read_pw_input(folder / f"{stem}.in").atoms, output, str(folder / f"{stem}.out"))
    if status:
        raise CalculationError(f"{folder / stem}.out: the program ended with exit status {status}")
    return output


def _reason(error: Exception, folder: Path) -> str:
    return str(error).replace(f"{folder}{os.sep}", "")
