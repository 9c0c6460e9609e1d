"""A run folder survives kills, keeps what is finished and redoes what its inputs no longer justify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from himlip_ase.errors import CalculationError, InputError
from himlip_ase.files import FolderLock, read_mapping, write_json
from himlip_ase.pipeline.config import build_config
from himlip_ase.pipeline.runfolder import RESULTS_SCHEMA, RunFolder, hash_inputs
from himlip_ase.pipeline.stages import Context, Outcome, Stage, run_stages


class Toy:
    """Two stages that count how often they run; the second copies the first's number."""

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        self.source = source
        self.runs: list[str] = []
        self.fail_in: str | None = None

    def _first(self, context: Context, folder: Path) -> Outcome:
        self._enter("first")
        (folder / "number.txt").write_text(self.source.read_text())
        outcome = Outcome(notes=["a remark"])
        outcome.add("number", float(self.source.read_text()), "eV", "read from a file", uncertainty=0.5)
        return outcome

    def _second(self, context: Context, folder: Path) -> Outcome:
        (folder / "checkpoint.txt").open("a").write("x")
        self._enter("second")
        (folder / "copy.txt").write_text((context.of("first") / "number.txt").read_text())
        return Outcome()

    def _enter(self, name: str) -> None:
        self.runs.append(name)
        if self.fail_in == name:
            raise CalculationError("killed")

    def go(self, resume: bool = True, pressure: float = 0.0, **options: str) -> dict:
        self.runs = []
        config = build_config({"structure": "x.cif", "name": "toy", "pressure_gpa": pressure})
        context = Context(config, RunFolder(self.path, resume=resume))
        stages = [
            Stage("first", self._first, lambda c: [self.source]),
            Stage("second", self._second, lambda c: [c.config.pressure_gpa]),
        ]
        return run_stages(context, stages, **options)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    source = tmp_path / "source.txt"
    source.write_text("3.5")
    return Toy(tmp_path / "run", source)


def test_finished_stages_are_kept(toy: Toy) -> None:
    toy.go()
    assert toy.runs == ["first", "second"]
    toy.go()
    assert toy.runs == []


def test_results_have_schema_value_unit_uncertainty_and_origin(toy: Toy) -> None:
    toy.go()
    data = json.loads((toy.path / "results.json").read_text())
    assert data["schema"] == RESULTS_SCHEMA
    assert data["figures"]["number"] == {
        "value": 3.5,
        "unit": "eV",
        "uncertainty": 0.5,
        "how": "read from a file",
    }
    assert data["notes"] == ["a remark"]
    for name in ("config.yaml", "versions.json", "log.txt"):
        assert (toy.path / name).stat().st_size > 0
    assert json.loads((toy.path / "versions.json").read_text())["ase"]


def test_a_changed_input_file_reruns_its_stage_and_all_after_it(toy: Toy) -> None:
    toy.go()
    toy.source.write_text("4.5")
    data = toy.go()
    assert toy.runs == ["first", "second"]
    assert data["figures"]["number"]["value"] == 4.5
    assert (toy.path / "state/second/copy.txt").read_text() == "4.5"
    assert (toy.path / "state/first.previous/number.txt").read_text() == "3.5"


def test_a_changed_setting_reruns_only_what_depends_on_it(toy: Toy) -> None:
    toy.go()
    toy.go(pressure=1.0)
    assert toy.runs == ["second"]


@pytest.mark.parametrize("damage", ["edited", "deleted"])
def test_a_stage_whose_files_were_touched_runs_again(toy: Toy, damage: str) -> None:
    toy.go()
    target = toy.path / "state/second/copy.txt"
    target.write_text("tampered") if damage == "edited" else target.unlink()
    toy.go()
    assert toy.runs == ["second"]
    assert target.read_text() == "3.5"


def test_a_killed_stage_continues_in_its_folder(toy: Toy) -> None:
    toy.fail_in = "second"
    with pytest.raises(CalculationError):
        toy.go()
    toy.fail_in = None
    toy.go()
    assert toy.runs == ["second"]
    assert (toy.path / "state/second/checkpoint.txt").read_text() == "xx"


def test_from_and_until_choose_stages(toy: Toy) -> None:
    toy.go(until="first")
    assert toy.runs == ["first"]
    toy.go()
    toy.go(start_from="second")
    assert toy.runs == ["second"]
    with pytest.raises(InputError, match="did you mean 'second'"):
        toy.go(start_from="secnd")


def test_an_existing_run_is_not_overwritten_unasked(toy: Toy) -> None:
    toy.go()
    with pytest.raises(InputError, match="--resume"):
        toy.go(resume=False)
    assert json.loads((toy.path / "results.json").read_text())["system"] == "toy"


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        RunFolder(tmp_path, resume=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


def test_two_processes_cannot_share_a_run_folder(toy: Toy) -> None:
    toy.go()
    with FolderLock(toy.path), pytest.raises(InputError, match="another process"):
        toy.go()


def test_a_damaged_record_is_named(toy: Toy) -> None:
    toy.go()
    (toy.path / "state/first.json").write_text('{"stage": "fir')
    with pytest.raises(CalculationError, match=r"first\.json is damaged"):
        toy.go()


def test_results_of_another_schema_are_refused(toy: Toy) -> None:
    toy.go()
    path = toy.path / "results.json"
    write_json(path, read_mapping(path) | {"schema": "something-else"}, overwrite=True, seal=True)
    with pytest.raises(InputError, match="schema"):
        RunFolder.existing(toy.path).read_results()
    path.write_text(path.read_text().replace("3.5", "8.5"))
    with pytest.raises(InputError, match="has changed since it was written"):
        RunFolder.existing(toy.path).read_results()


def test_hash_follows_content_not_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    assert hash_inputs(tmp_path / "a") == hash_inputs(tmp_path / "b")
    (tmp_path / "b" / "file").write_text("other")
    assert hash_inputs(tmp_path / "a") != hash_inputs(tmp_path / "b")
    assert hash_inputs({"x": 1, "y": 2}) == hash_inputs({"y": 2, "x": 1})
