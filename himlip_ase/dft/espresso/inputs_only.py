"""Jobs for another machine: a folder of inputs with a job list, and their outputs brought back.

::

    jobs.tsv      their number and a checksum, then one line a job: name, the job it has to wait for
                  ("-": none), folder, command
    pseudo/       the pseudopotentials, where every input looks for them
    rattle040/003/pw.in …
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from himlip_ase.dft.espresso.inputs import PREFIX, SCRATCH, comparable, relocated
from himlip_ase.dft.programs import Program
from himlip_ase.errors import InputError
from himlip_ase.files import atomic_write, read_text

logger = logging.getLogger(__name__)

JOBS, PSEUDO = "jobs.tsv", "pseudo"
HEAD = "# name\tafter\tfolder\tcommand"
NOTHING = "-"
DONE = "JOB DONE"
"""What every program of Quantum ESPRESSO prints last."""


@dataclass(frozen=True)
class ListedJob:
    """One line of the job list.

    Attributes
    ----------
    name : str
    after : str or None
        Name of the job that has to be done before.
    folder : str
        Where it runs, seen from the list.
    command : str
        For a shell; its output goes to a file.
    """

    name: str
    after: str | None
    folder: str
    command: str

    @property
    def output(self) -> str:
        """File of its standard output."""
        return shlex.split(self.command)[-1]


def listed(programs: Sequence[Program], root: Path) -> list[ListedJob]:
    """Programs as lines of a list; those of one folder follow each other.

    Parameters
    ----------
    programs : sequence of Program
    root : Path
        Their folders are in it.

    Returns
    -------
    list of ListedJob
    """
    jobs: list[ListedJob] = []
    before: dict[str, str] = {}
    for program in programs:
        folder = program.folder.relative_to(root.absolute()).as_posix()
        short, long = _names(folder, program.output)
        alone = sum(other.folder == program.folder for other in programs) == 1
        name = short if alone and short else long
        command = f"{shlex.join(program.command)} > {shlex.quote(program.output)}"
        jobs.append(ListedJob(name, before.get(folder), folder, command))
        before[folder] = name
    return jobs


def write_job_folder(programs: Sequence[Program], root: Path, out: Path) -> list[ListedJob]:
    """Write inputs, pseudopotentials and the job list; the folder then needs nothing of this machine.

    Parameters
    ----------
    programs : sequence of Program
        Noted ones, see `himlip_ase.dft.programs.noting`.
    root : Path
        Folder of their folders.
    out : Path
        May be `root` itself; job folders of an earlier list stay.

    Returns
    -------
    list of ListedJob
    """
    jobs = listed(programs, root)
    for job, program in zip(jobs, programs, strict=True):
        name = program.command[-1]
        text, place = (program.folder / name).read_text(encoding="utf-8"), out / job.folder
        found = re.search(r"(?m)^\s*pseudo_dir\s*=\s*'(.*)'", text)
        if found:
            _copy_pseudopotentials(text, program.folder / found.group(1), out / PSEUDO)
        there = Path(os.path.relpath(out / PSEUDO, place)).as_posix()
        with atomic_write(place / name, overwrite=True) as stream:
            stream.write(relocated(text, there))
    with atomic_write(out / JOBS, overwrite=True) as stream:
        stream.write(job_list(jobs))
    return jobs


def job_list(jobs: Sequence[ListedJob]) -> str:
    """Text of ``jobs.tsv``.

    Parameters
    ----------
    jobs : sequence of ListedJob

    Returns
    -------
    str
    """
    lines = ["\t".join((job.name, job.after or NOTHING, job.folder, job.command)) for job in jobs]
    return "\n".join([HEAD, f"# {len(jobs)} jobs, {_checksum(lines)}", *lines, ""])


def _checksum(lines: Sequence[str]) -> str:
    """Eight digits: enough for a flipped bit, and nobody is to type them."""
    return f"crc32 {zlib.crc32(chr(10).join(lines).encode()):08x}"


def _check_whole(path: Path, comments: Sequence[str], lines: Sequence[str]) -> None:
    """Hold the jobs against their number, and tell if one was changed; lists of version 1 say neither."""
    said = [found for line in comments if (found := re.fullmatch(r"# (\d+) jobs, (.*)", line))]
    if said and int(said[0][1]) != len(lines):
        raise InputError(
            f"{path} lists {len(lines)} of {said[0][1]} jobs; write the list again with --inputs-only, or "
            f"take out the line {said[0][0]!r} if you removed jobs yourself"
        )
    if said and said[0][2] != _checksum(lines):
        logger.warning(
            "%s was changed since it was written (take out the line %r if by you)", path, said[0][0]
        )


def _copy_pseudopotentials(text: str, source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(re.findall(r"(?mi)^\s*\w+\s+[\d.eEdD+-]+\s+(\S+\.upf)\s*$", text)):
        copy, original = target / name, source / name
        if copy.exists() and copy.resolve() == original.resolve():
            continue
        if not copy.exists() or copy.read_bytes() != original.read_bytes():
            shutil.copyfile(original, copy)


def read_jobs(folder: Path) -> list[ListedJob]:
    """The job list of a folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of ListedJob

    Raises
    ------
    InputError
        There is none, or it is damaged.
    """
    path = folder / JOBS
    if not path.is_file():
        raise InputError(f"{folder} has no {JOBS}; give the folder that --inputs-only wrote")
    jobs: list[ListedJob] = []
    again = "write the list again with --inputs-only"
    text = read_text(path, again)
    if not text.startswith(HEAD + "\n") or not text.endswith("\n"):
        raise InputError(f"{path} is cut: its first line is not {HEAD!r}, or its last does not end; {again}")
    kept = [line for line in text.splitlines() if line.strip()]
    lines = [line for line in kept if not line.startswith("#")]
    _check_whole(path, [line for line in kept if line.startswith("#")], lines)
    for line in lines:
        words = line.split("\t")
        if len(words) != 4 or not words[3].count(" > ") or words[3].count("'") % 2:
            raise InputError(f"{path}: {line!r} is no job; {again}")
        name, after, place, command = words
        job = ListedJob(name, None if after == NOTHING else after, place, command)
        before = [other.name for other in jobs if other.folder == place]
        if job.after != (before[-1] if before else None):
            raise InputError(f"{path}: {name} waits for {after}, not for the job before in {place}; {again}")
        if name not in _names(place, job.output):
            raise InputError(f"{path}: {name} is not the name of a job in {place}; {again}")
        if not (folder / place).is_dir():
            raise InputError(f"{path}: there is no folder {place}; {again}")
        jobs.append(job)
    return jobs


def _names(folder: str, output: str) -> tuple[str, str]:
    """What the job of a folder is called, alone in it and among others."""
    place = "" if folder == "." else folder.replace("/", "-")
    return place, f"{place}-{Path(output).stem}".lstrip("-")


def bring_back(folder: Path, runs: Path) -> tuple[list[str], list[str]]:
    """Copy the outputs of finished jobs into the folders that asked for them.

    Parameters
    ----------
    folder : Path
        With the job list, as it came back.
    runs : Path
        The same layout, with the inputs as they were asked for.

    Returns
    -------
    back, missing : list of str
        Folders whose jobs are all done; jobs that are not.

    Raises
    ------
    InputError
        An input is not the one that was asked for.
    """
    jobs = read_jobs(folder)
    missing = [job.name for job in jobs if not _is_done(folder / job.folder / job.output)]
    back = []
    for place in dict.fromkeys(job.folder for job in jobs):
        if any(job.name in missing for job in jobs if job.folder == place):
            continue
        _check_inputs((folder / place).glob("*.in"), runs / place)
        _copy_outputs(folder / place, runs / place)
        back.append(place)
    return back, missing


def _is_done(output: Path) -> bool:
    return output.is_file() and DONE in output.read_text(encoding="utf-8", errors="replace")


def _check_inputs(inputs: Iterable[Path], place: Path) -> None:
    for path in inputs:
        asked = place / path.name
        if not asked.is_file() or comparable(asked.read_text()) != comparable(path.read_text()):
            raise InputError(
                f"{path} is not what {place} asks for: the run or the input was changed since; write the "
                "inputs again with --inputs-only"
            )


def _copy_outputs(source: Path, target: Path) -> None:
    """All files but inputs and scratch; of the scratch the eigenvalues of the dense run."""
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_file() and inside.parts[0] != SCRATCH and path.suffix != ".in" and path.name != ".lock":
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / inside)
    bands = source / SCRATCH / f"{PREFIX}.a2Fsave"
    if bands.is_file():
        shutil.copyfile(bands, target / "a2Fsave")
