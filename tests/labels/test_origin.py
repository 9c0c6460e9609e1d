"""What a store of labels was made from."""

from __future__ import annotations

from pathlib import Path

from himlip_ase.labels.origin import Origin


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "learn.extxyz").write_text("1\n\nH 0 0 0\n")
    both = [tmp_path / name / "learn.extxyz" for name in ("first", "second")]
    assert not Origin.of(both).matches(Origin.of(both[1:])) and not Origin.of(both[:1]).matches(
        Origin.of(both[1:])
    )


def test_a_file_that_grew_is_named_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "learn.extxyz"
    path.write_text("1\n\nH 0 0 0\n")
    before = Origin.of([path])
    assert Origin.from_text(before.to_text()) == before and before.changed(Origin.of([path])) == []
    path.write_text(2 * path.read_text())
    after = Origin.of([path])
    assert before.matches(after) and before.changed(after) == [f"{tmp_path.name}/learn.extxyz"]
    path.unlink()
    assert before.matches(Origin.of([path])) and before.changed(Origin.of([path])) == []
