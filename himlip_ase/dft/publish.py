"""Finished runs of any engine, published as a folder of labels."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from himlip_ase.dft.engine import Engine
from himlip_ase.dft.engines import ENGINES
from himlip_ase.dft.finished_runs import FinishedRun
from himlip_ase.dft.label_folder import (
    check_one_accuracy,
    require_new_set,
    warn_of_other_accuracy,
    write_set,
)
from himlip_ase.errors import CalculationError, InputError

logger = logging.getLogger(__name__)


def collect(
    folder: str | os.PathLike,
    set_name: str,
    out: str | os.PathLike,
    *,
    pseudo_dir: str | os.PathLike | None = None,
    partial: bool = False,
    overwrite: bool = False,
    compact: bool = False,
) -> Path:
    """Publish finished runs as labels.

    Parameters
    ----------
    folder : path-like
        Its subfolders are single points of one engine; or it is a harmonic run.
    set_name : str
        Name of the set: ``<set_name>.extxyz`` and ``<set_name>.json`` are written. A harmonic run goes into
        ``harmonic``, or into ``<set_name>`` if that begins with "harmonic".
    out : path-like
        Label folder; it may hold other sets of the same crystal family already.
    pseudo_dir : path-like, optional
        Where the pseudopotentials are now, if not where the inputs say.
    partial : bool
        Leave unfinished runs out instead of refusing.
    overwrite : bool
        Replace the set if it is there.
    compact : bool
        For large sets: keep the input of the first run only, as all differ from it in structure and k-grid
        alone (which the labels hold), and no list of frames in the record.

    Returns
    -------
    Path
        The file with the labels (or the harmonic folder).

    Raises
    ------
    InputError
        The set exists, its runs disagree in accuracy, or a pseudopotential file is missing or different.
    CalculationError
        A run is unfinished.
    """
    folder, out = Path(folder), Path(out)
    pseudo = None if pseudo_dir is None else Path(pseudo_dir)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of runs")
    if not set_name or any(c in set_name for c in "/\\ "):
        raise InputError(f"{set_name!r} is no name for a set; use letters, digits and underscores")
    for engine in ENGINES:
        if engine.holds_harmonic(folder):
            name = set_name if set_name.startswith("harmonic") else "harmonic"
            return engine.publish_harmonic(folder, out, name, pseudo_dir=pseudo, overwrite=overwrite)
    require_new_set(out, set_name, overwrite)
    engine = engine_of(folder)
    runs, left_out = read_runs(folder, partial)
    warn_of_other_accuracy(runs[0], out, set_name)
    extra = engine.provenance(runs, out, pseudo)
    inputs = {}
    for run in runs[:1] if compact else runs:
        suffix, text = engine.published_input(run)
        inputs[f"{set_name}_{run.folder.name}{suffix}"] = text
    return write_set(
        runs, set_name, out, inputs, extra, overwrite=overwrite, compact=compact, left_out=left_out
    )


def engine_of(folder: str | os.PathLike) -> type[Engine]:
    """The engine whose single points are in the subfolders of a folder.

    Raises
    ------
    InputError
        None, or more than one.
    """
    places = sorted(path for path in Path(folder).iterdir() if path.is_dir())
    found = [engine for engine in ENGINES if any(engine.holds(place) for place in places)]
    if not found:
        raise InputError(
            f"no subfolder of {folder} holds a run of {' or '.join(ENGINES.names())} (a pw.in, for example); "
            "give the folder of a set, such as runs/rattle040"
        )
    if len(found) > 1:
        raise InputError(
            f"{folder} holds runs of {' and '.join(engine.name for engine in found)}; a set has one accuracy"
        )
    return found[0]


def read_runs(folder: str | os.PathLike, partial: bool = False) -> tuple[list[FinishedRun], dict[str, str]]:
    """All single points in the subfolders of a folder, sorted by name.

    Parameters
    ----------
    folder : path-like
        Its subfolders are single points of one engine.
    partial : bool
        Leave unfinished runs out instead of refusing the set.

    Returns
    -------
    runs : list of FinishedRun
    left_out : dict
        {name: why} of the others.

    Raises
    ------
    InputError
        No subfolder holds a run, or the runs of the set have different settings.
    CalculationError
        Some runs are unfinished: the message counts and names them.
    """
    folder = Path(folder)
    engine = engine_of(folder)
    places = sorted(path for path in folder.iterdir() if path.is_dir() and engine.holds(path))
    runs: list[FinishedRun] = []
    failures: dict[str, str] = {}
    for place in places:
        try:
            runs += engine.read(place)
        except (CalculationError, InputError) as error:
            failures[place.name] = str(error)
    if failures and not (partial and runs):
        shown = "\n".join(f"  {name}: {reason}" for name, reason in list(failures.items())[:5])
        more = f"\n  and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise CalculationError(
            f"{len(failures)} of {len(places)} runs in {folder} cannot be labels:\n{shown}{more}\n"
            "Finish them (himlip label … --resume), or leave them out with --partial"
        )
    if failures:
        logger.warning(
            "left out %d of %d runs: %s",
            len(failures),
            len(places),
            "; ".join(f"{name} ({reason})" for name, reason in failures.items()),
        )
    check_one_accuracy(runs, folder)
    return runs, failures
