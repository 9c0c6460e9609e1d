"""A changed run file: what changed is set aside and done again, what did not is kept, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import read
from typer.testing import CliRunner

from himlip_ase.cli.app import app
from himlip_ase.dft.other_request import OtherRequest
from himlip_ase.dft.set_aside import SetAside

RUN = """
name: Cu
structure: cu.extxyz
q_grid: [1, 1, 2]
engine: {{name: ase, calculator: 'ase.calculators.emt:EMT', arguments: {{asap_cutoff: {cutoff}}}}}
labels:
  relax: {relax}
  rattle: {{rattle040: {{number: {number}, amplitude_angstrom: 0.1, supercell: [1, 1, 2]}}, {further}}}
  quantum: {{quantum111: null, quantum211: null, quantum221: null}}
  double_well: 0
  validation: {validation}
"""
DEFAULTS = {"cutoff": False, "relax": False, "number": 3, "validation": 1, "further": ""}


class Run:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bulk("Cu", a=3.6).write(folder / "cu.extxyz")

    def __call__(self, *words: str, **changes: object) -> str:
        (self.folder / "cu.yaml").write_text(RUN.format(**{**DEFAULTS, **changes}))
        place = ["--folder", str(self.folder / "run"), "--until", "labels"]
        result = CliRunner().invoke(app, ["-q", "run", str(self.folder / "cu.yaml"), *place, *words])
        assert result.exit_code == 0, result.output + result.stderr
        return result.output

    @property
    def labels(self) -> Path:
        return self.folder / "run" / "state" / "labels"

    def stamps(self, pattern: str) -> dict[str, int]:
        """When the single points were calculated."""
        return {
            str(path.relative_to(self.labels)): path.stat().st_mtime_ns
            for path in self.labels.glob(f"{pattern}/result.json")
        }

    def count(self, name: str) -> int:
        path = self.labels / "collected" / f"{name}.extxyz"
        return len(read(path, index=":")) if path.is_file() else 0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path)
    run()
    return run


def test_more_or_fewer_cells_repeat_none_and_only_what_is_asked_for_is_collected(run: Run) -> None:
    before = run.stamps("runs/rattle040/*")
    assert len(before) == 3 == run.count("rattle040")
    run("--resume", number=2)
    assert run.count("rattle040") == 2
    assert len(list((run.labels / "set_aside" / "rattle040").iterdir())) == 1
    run("--resume", number=4)
    after = run.stamps("runs/rattle040/*")
    assert run.count("rattle040") == 4 and {name: after[name] for name in before} == before


def test_a_set_that_is_no_longer_asked_for_is_kept_and_not_learnt_from(run: Run) -> None:
    run("--resume", further="more: {number: 2, amplitude_angstrom: 0.2, seed: 5}")
    assert run.count("more") == 2
    old = run.stamps("runs/more/*")
    run("--resume")
    assert run.count("more") == 0 and not (run.labels / "runs" / "more").exists()
    assert len(run.stamps("set_aside/more-*/*")) == 2
    run("--resume", further="more: {number: 2, amplitude_angstrom: 0.2, seed: 5}")
    assert run.count("more") == 2 and len(old) == 2


def test_a_changed_accuracy_is_done_again_and_the_first_comes_back_when_asked_for(run: Run) -> None:
    first = run.stamps("runs/rattle040/*")
    energy = read(run.labels / "collected" / "rattle040.extxyz").info["REF_energy"]
    run("--resume", cutoff=True)
    changed = read(run.labels / "collected" / "rattle040.extxyz").info["REF_energy"]
    assert changed != energy
    assert len(run.stamps("set_aside/rattle040/*")) == 3
    assert len(list((run.labels / "set_aside").glob("harmonic-*"))) == 1
    run("--resume")
    assert run.stamps("runs/rattle040/*") == first
    assert read(run.labels / "collected" / "rattle040.extxyz").info["REF_energy"] == energy


def test_a_change_within_an_unfinished_stage_is_no_obstacle(run: Run) -> None:
    (run.folder / "run" / "state" / "labels.json").unlink()
    (run.labels / "runs" / "rattle040" / "001" / "result.json").unlink()
    run("--resume", cutoff=True, relax=True)
    assert run.count("rattle040") == 3 and (run.labels / "runs" / "relax").is_dir()


def test_a_dry_run_tells_what_stays_and_changes_nothing(run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != "cu.yaml"}
    assert "would keep labels\nwould run nothing" in run("--resume", "--dry-run")
    assert "would run labels" in run("--from", "labels", "--dry-run")
    changed = run("--resume", "--dry-run", number=4)
    assert "would run labels" in changed and "would keep" not in changed and "by --resume" in changed
    after = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.name != "cu.yaml"}
    assert after == before


def test_labels_from_the_start_repeat_no_finished_run(run: Run) -> None:
    before = run.stamps("runs/*/*")
    run("--from", "labels")
    assert run.stamps("runs/*/*") == before


def test_two_requests_of_one_place_are_told_apart(tmp_path: Path) -> None:
    runs, aside = tmp_path / "runs", SetAside(tmp_path / "runs", tmp_path / "aside")

    def ask(text: str) -> str:
        place = runs / "000"
        place.mkdir(parents=True, exist_ok=True)
        if (place / "pw.in").is_file() and (place / "pw.in").read_text() != text:
            raise OtherRequest("another input", place)
        fresh = not (place / "pw.in").is_file()
        (place / "pw.in").write_text(text)
        return "done" if fresh else "kept"

    answers = [aside.with_room(lambda text=text: ask(text)) for text in ("a", "b", "a", "c", "b", "b")]
    assert answers == ["done", "done", "kept", "done", "kept", "kept"]
    assert len(list((tmp_path / "aside").iterdir())) == 2
