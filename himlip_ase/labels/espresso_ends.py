"""How a run of Quantum ESPRESSO ended: finished, out of time, not converged, crashed, never started."""

from __future__ import annotations

import re

from himlip_ase.errors import CalculationError, NotConvergedError

_PROGRAM_ERROR = re.compile(r"Error in routine\s+(.+?):\s*\n\s*(.+)")
_MPI_ERROR = re.compile(
    r"not enough slots|orte_init failed|opal_init failed|ORTE (?:was unable|has lost)|PRTE|MPI_Init|prterun|"
    r"mpirun (?:was unable|has detected|has exited)|mpiexec|HYDU_|unable to (?:launch|start) the",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"Maximum CPU time exceeded|Calculation stopped in|Program stopped by user request|"
    r"Calculation \(EXX\) stopped after iteration|Signal Received, stopping"
)


class OutOfTimeError(NotConvergedError):
    """The run stopped on its time limit or on request; repeating it with other scf settings mends nothing."""


class MpiError(CalculationError):
    """MPI could not start the program; the message is its own."""


def program_error(text: str) -> str | None:
    """The routine and message of a Quantum ESPRESSO error box, or None."""
    match = _PROGRAM_ERROR.search(text)
    return f"{match.group(1).strip()}: {match.group(2).strip()}" if match else None


def seconds(text: str) -> float:
    """Seconds of a Quantum ESPRESSO time: ``47.16s``, ``2m 3.10s``, ``1h 2m``, ``1d 3h 4m``."""
    parts = re.findall(r"([\d.]+)\s*([dhms])", text)
    if not parts:
        raise CalculationError(f"{text!r} is no time as Quantum ESPRESSO writes it")
    return sum(float(value) * {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}[unit] for value, unit in parts)


def check_started(text: str, name: str, program: str) -> None:
    """Refuse an output in which MPI says why it did not start the program.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.
    program : str
        As it names itself: PWSCF, PHONON.

    Raises
    ------
    MpiError
        With the words of MPI.
    """
    if f"Program {program} v." in text or not (said := _MPI_ERROR.search(text)):
        return
    lines = text[text.rfind("\n", 0, said.start()) + 1 :].splitlines()
    words = " ".join(" ".join(lines[:4]).split())
    raise MpiError(f"{name}: MPI did not start the program (see the prefix of the launcher): {words}")


def check_finished(text: str, name: str) -> None:
    """Refuse the output of a pw.x run that did not reach its end or its convergence threshold.

    Parameters
    ----------
    text : str
    name : str
        Of the file, for messages.

    Raises
    ------
    OutOfTimeError
        The run stopped on its time limit, or was asked to stop.
    NotConvergedError
        The scf cycle did not converge.
    MpiError
        MPI could not start the program.
    CalculationError
        The run crashed, or the output is cut short, or holds two runs.
    """
    error = program_error(text)
    if error:
        raise CalculationError(f"{name}: the program stopped with an error in {error}")
    check_started(text, name, "PWSCF")
    starts = [match.start() for match in re.finditer(r"Program PWSCF v\.", text)]
    if len(starts) > 1:
        raise CalculationError(f"{line_of(text, starts[1], name)}: a second run begins; one file, one run")
    if stop := _STOPPED.search(text):
        raise OutOfTimeError(
            f"{line_of(text, stop.start(), name)}: {words_at(text, stop.start())}; give it more time and "
            "continue with --resume"
        )
    if (place := text.find("convergence NOT achieved")) >= 0:
        raise NotConvergedError(f"{line_of(text, place, name)}: the scf cycle did not converge")
    if "JOB DONE" not in text:
        raise CalculationError(f"{name}: the output ends without JOB DONE; the run was cut short")
    if "convergence has been achieved" not in text:
        raise NotConvergedError(f"{name}: the output never says that convergence has been achieved")


def line_of(text: str, place: int, name: str) -> str:
    """File and line of a place in the text, for messages.

    Parameters
    ----------
    text : str
    place : int
        Offset in `text`.
    name : str
        Of the file.

    Returns
    -------
    str
    """
    number = text.count("\n", 0, place) + 1
    return f"{name}, line {number}"


def words_at(text: str, place: int) -> str:
    """The line at a place in the text, blanks condensed.

    Parameters
    ----------
    text : str
    place : int
        Offset in `text`.

    Returns
    -------
    str
    """
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    return " ".join(text[start : end if end >= 0 else None].split())
