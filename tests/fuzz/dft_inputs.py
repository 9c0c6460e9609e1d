"""What DFT runs leave, and lists of jobs."""

from __future__ import annotations

import shutil
from pathlib import Path

from .kind import ROOT, Kind, current
from .label_inputs import frames


def _pw(folder: Path) -> None:
    shutil.copy(ROOT / "tests" / "dft" / "data" / "al2.out", folder / "pw.out")


def _dft_run(folder: Path) -> None:
    run = folder / "000"
    run.mkdir()
    data = ROOT / "tests" / "dft" / "data"
    shutil.copy(data / "al2.in", run / "pw.in")
    shutil.copy(data / "al2.out", run / "pw.out")
    current("files.write_json")(run / "pw.json", {"index": 0, "set": "al"}, seal=True)


def _jobs(folder: Path) -> None:
    """A list of jobs as ``--inputs-only`` writes it."""
    job = current("dft.espresso.inputs_only.ListedJob")
    jobs = [job("relax", None, "relax", "pw.x -in pw.in > pw.out")]
    jobs += [job(f"rattle-{k:03d}", None, f"rattle/{k:03d}", "pw.x -in pw.in > pw.out") for k in range(3)]
    jobs += [job("harmonic-scf", None, "harmonic", "pw.x -in scf.in > scf.out")]
    jobs += [job("harmonic-ph", "harmonic-scf", "harmonic", "ph.x -in ph.in > ph.out")]
    (folder / "jobs.tsv").write_text(current("dft.espresso.inputs_only.job_list")(jobs))
    for found in jobs:
        (folder / found.folder).mkdir(parents=True, exist_ok=True)


KINDS = (
    Kind("pw.x output", _pw, ("pw.out",), lambda n, d: frames(n, d / "pw.out")),
    Kind("DFT run folder", _dft_run, ("000/*",), lambda n, d: n("dft.espresso.runs.read_run")(d / "000")),
    Kind("job list", _jobs, ("jobs.tsv",), lambda n, d: n("dft.espresso.inputs_only.read_jobs")(d)),
)
