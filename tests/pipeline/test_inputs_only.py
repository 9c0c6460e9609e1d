"""Labels made elsewhere: a folder of inputs with a job list that runs there, and its outputs brought back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.espresso.inputs_only import HEAD, ListedJob, job_list, read_jobs
from himlip_ase.errors import InputError

DATA = "/usr/share/espresso/pseudo"
NAME = "Al.pz-vbc.UPF"
DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"
needs_espresso = pytest.mark.skipif(
    shutil.which("ph.x") is None or not Path(DATA, NAME).is_file(),
    reason="needs pw.x, ph.x and Al.pz-vbc.UPF; Debian: apt install quantum-espresso quantum-espresso-data",
)
RUN = """
name: Al
structure: Al.cif
pseudopotentials: pseudo
q_grid: [2, 2, 2]
qe: {ecutwfc_ry: 12, k_grid: [2, 2, 2], degauss_ry: 0.05}
harmonic: {dense_k_grid: [4, 4, 4], el_ph_nsigma: 2}
labels:
  relax: false
  check_k: false
  rattle: {rattle040: {number: 2, amplitude_angstrom: 0.1}}
  quantum: {quantum111: {number: 1}, quantum211: null, quantum221: null}
  validation: 1
"""


def snippet(start: str) -> str:
    """A bash block of the page, by the first line that tells it."""
    blocks = re.findall(r"```bash\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    return next(block for block in blocks if start in block)


def himlip(*words: object) -> str:
    result = CliRunner().invoke(app, ["-q", *map(str, words)])
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


def fake(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/bash\n" + text)
    (folder / name).chmod(0o755)


def submit(inputs: Path, tmp_path: Path) -> list[str]:
    """Run the script of the page with an sbatch that does each job at once; returns what it was given."""
    fake(
        tmp_path / "bin",
        "sbatch",
        f'echo "$@" >> {tmp_path}/calls; n=$(wc -l < {tmp_path}/calls)\n'
        'for word in "$@"; do case $word in --chdir=*) cd "${word#*=}";; esac; done\n'
        'bash -c "${@: -1}" > /dev/null && echo $n\n',
    )
    (tmp_path / "calls").unlink(missing_ok=True)
    (tmp_path / "submit.sh").write_text(snippet("submit.sh: bash"))
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", tmp_path / "submit.sh", inputs], check=True, env={**os.environ, "PATH": path}, timeout=300
    )
    return (tmp_path / "calls").read_text().splitlines()


@pytest.fixture
def aluminium(tmp_path: Path) -> Path:
    write(tmp_path / "Al.cif", bulk("Al", "fcc", a=4.0))
    (tmp_path / "pseudo").mkdir()
    if Path(DATA, NAME).is_file():
        shutil.copy(Path(DATA, NAME), tmp_path / "pseudo")
    (tmp_path / "al.yaml").write_text(RUN)
    return tmp_path


@needs_espresso
def test_a_run_goes_to_another_machine_and_back(aluminium: Path) -> None:
    run, yaml = aluminium / "run", aluminium / "al.yaml"
    told = himlip("run", yaml, "--folder", run, "--inputs-only")
    assert "quantum111" in told and "validation" in told
    jobs = {job.name: job for job in read_jobs(run / "inputs")}
    assert list(jobs) == [
        "harmonic-scf_dense",
        "harmonic-scf",
        "harmonic-ph",
        "rattle040-000",
        "rattle040-001",
    ]
    assert jobs["harmonic-ph"].after == "harmonic-scf" and jobs["rattle040-001"].after is None
    assert str(aluminium) not in "".join(path.read_text() for path in (run / "inputs").rglob("*.in"))
    away = aluminium / "away"
    shutil.copytree(run / "inputs", away)
    calls = submit(away, aluminium)
    assert "--dependency=afterok:2" in calls[2] and "dependency" not in calls[3]
    himlip("label", "collect", away, "--run", run)
    assert "wait" not in himlip("run", yaml, "--folder", run, "--inputs-only")
    assert [job.name for job in read_jobs(run / "inputs")] == ["quantum111-000", "validation-000"]
    submit(run / "inputs", aluminium)
    himlip("label", "collect", run / "inputs", "--run", run)
    assert "all labels" in himlip("run", yaml, "--folder", run, "--inputs-only")
    stamps = {path: path.stat().st_mtime_ns for path in (run / "state").rglob("*.out")}
    himlip("run", yaml, "--folder", run, "--until", "labels", "--resume")
    assert {path: path.stat().st_mtime_ns for path in (run / "state").rglob("*.out")} == stamps
    collected = run / "state" / "labels" / "collected"
    assert len(read(collected / "rattle040.extxyz", index=":")) == 2
    assert (collected / "harmonic" / "a2Fsave.gz").is_file()
    n_q = len(list((collected / "harmonic").glob("dyn[1-9]")))
    assert len(list((collected / "harmonic" / "elph_dir").glob("a2Fq2r.*"))) == 2 * n_q


@needs_espresso
def test_an_unfinished_job_and_a_changed_input_are_told(aluminium: Path) -> None:
    run, yaml = aluminium / "run", aluminium / "al.yaml"
    himlip("run", yaml, "--folder", run, "--inputs-only")
    told = himlip("label", "collect", run / "inputs", "--run", run)
    assert "5 jobs are not finished" in told and "harmonic-ph" in told
    place = run / "inputs" / "rattle040" / "000"
    subprocess.run(["pw.x", "-in", "pw.in"], cwd=place, stdout=open(place / "pw.out", "w"), check=True)
    text = (place / "pw.in").read_text()
    (place / "pw.in").write_text(text.replace("ecutwfc          = 12", "ecutwfc          = 13"))
    assert (place / "pw.in").read_text() != text
    result = CliRunner().invoke(app, ["-q", "label", "collect", str(run / "inputs"), "--run", str(run)])
    assert result.exit_code == 2 and "is not what" in result.output + result.stderr


def test_a_single_set_is_written_without_any_program_here(aluminium: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    if not (aluminium / "pseudo" / NAME).is_file():
        (aluminium / "pseudo" / "Al.upf").write_text('<UPF>\n<PP_HEADER\n element="Al"\n/>\n')
    out = aluminium / "cells"
    words = ["rattle", aluminium / "Al.cif", "-n", 2, "--out", out, "--pseudo", aluminium / "pseudo"]
    himlip("label", *words, "--ecutwfc", 12, "--prefix", "srun -n 4", "--inputs-only")
    jobs = read_jobs(out)
    assert [job.name for job in jobs] == ["000", "001"]
    assert jobs[0].command == "srun -n 4 pw.x -in pw.in > pw.out"
    assert "pseudo_dir       = '../pseudo'" in (out / "000" / "pw.in").read_text()
    assert len(list((out / "pseudo").iterdir())) == 1


def test_the_batch_script_of_the_page_runs_as_printed_and_goes_back_into_the_queue(tmp_path: Path) -> None:
    script = tmp_path / "himlip.sh"
    script.write_text(snippet("#SBATCH --job-name=PdH"))
    venv, programs = tmp_path / "venv" / "bin", tmp_path / "bin"
    venv.mkdir(parents=True)
    (venv / "activate").write_text("")
    log = tmp_path / "log"
    fake(programs, "scontrol", f'echo "$@" >> {log}\n')
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HIMLIP_VENV": str(venv.parent), "SLURM_JOB_ID": "17"}
    fake(programs, "himlip", f'echo "$@" >> {log}\n')
    assert subprocess.run(["bash", script], env=environment, timeout=60).returncode == 0
    assert "--resume --workers 4 --set launcher.prefix=srun --exact -n 8" in log.read_text()
    assert "requeue" not in log.read_text()
    # the signal comes minutes after the start; at once it would meet the script before its trap
    stopped = "trap 'exit 130' TERM\nsleep 2\nkill -TERM $PPID\nfor i in {1..100}; do sleep 0.1; done\n"
    fake(programs, "himlip", stopped)
    assert subprocess.run(["bash", script], env=environment, timeout=60).returncode == 130
    assert "requeue 17" in log.read_text()


def test_a_damaged_job_list_is_refused(tmp_path: Path) -> None:
    """A name that is not its folder's, a job that waits for none, a folder that is not there, a cut."""
    rows = ["relax\t-\trelax\tpw.x -in pw.in > pw.out", "ph-scf\t-\tph\tpw.x -in scf.in > scf.out"]
    rows += ["ph-ph\tph-scf\tph\tph.x -in ph.in > ph.out"]
    whole = "\n".join([HEAD, *rows, ""])
    for name in ("relax", "ph"):
        (tmp_path / name).mkdir()
    (tmp_path / "jobs.tsv").write_text(whole)
    assert [job.name for job in read_jobs(tmp_path)] == ["relax", "ph-scf", "ph-ph"]
    for old, new in (
        ("relax\t-", "rekax\t-"),
        ("\tph-scf\t", "\tph-sc\t"),
        ("\tph\tph.x", "\tpi\tph.x"),
        (HEAD, "#"),
    ):
        assert old in whole
        (tmp_path / "jobs.tsv").write_text(whole.replace(old, new))
        with pytest.raises(InputError, match="write the list again with --inputs-only"):
            read_jobs(tmp_path)
    (tmp_path / "jobs.tsv").write_text(whole[:-1])
    with pytest.raises(InputError, match="is cut"):
        read_jobs(tmp_path)


def test_a_job_list_that_lost_a_job_or_a_letter_is_noticed(tmp_path: Path, caplog) -> None:
    """By the number of jobs and a checksum in its second line; who changes the list takes the line out."""
    for k in range(3):
        (tmp_path / "cells" / str(k)).mkdir(parents=True)
    jobs = [ListedJob(f"cells-{k}", None, f"cells/{k}", "pw.x -in pw.in > pw.out") for k in range(3)]
    whole = job_list(jobs)
    (tmp_path / "jobs.tsv").write_text(whole)
    assert read_jobs(tmp_path) == jobs and not caplog.text
    (tmp_path / "jobs.tsv").write_text(whole.replace("cells/1\tpw.x", "cells/1\tqw.x"))
    assert len(read_jobs(tmp_path)) == 3 and "jobs.tsv was changed since it was written" in caplog.text
    lines = whole.splitlines(keepends=True)
    (tmp_path / "jobs.tsv").write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match=r"lists 2 of 3 jobs.*take out the line '# 3 jobs"):
        read_jobs(tmp_path)
    (tmp_path / "jobs.tsv").write_text("".join([lines[0], *lines[2:-1]]))
    assert read_jobs(tmp_path) == jobs[:2]
