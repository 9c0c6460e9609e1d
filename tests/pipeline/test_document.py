"""Numbers are quoted with their uncertainty; the HTML report is complete in itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from himlip_ase.errors import InputError
from himlip_ase.pipeline.document import Document, Heading, Paragraph, Picture, Table, number
from himlip_ase.pipeline.figures import save


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (123.456, 0.789, "123.46 ± 0.79"),
        (-604.2, 31.0, "-604 ± 31"),
        (0.0123456, None, "0.01235"),
        (-598.04, None, "-598.0"),
        (0.0, None, "0"),
        (None, None, "–"),
        (True, None, "yes"),
        ("2×2×2", None, "2×2×2"),
    ],
)
def test_numbers(value: object, uncertainty: float | None, text: str) -> None:
    assert number(value, uncertainty) == text


def test_what_is_not_finite_cannot_be_quoted() -> None:
    with pytest.raises(InputError, match="None with its reason"):
        number(float("nan"))


def test_markdown_and_self_contained_html(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1])
    (tmp_path / "figures").mkdir()
    path = save(figure, tmp_path / "figures", "line")
    document = Document("A <title> & more")
    document.add(
        Heading("Phonons"),
        Paragraph("a < b"),
        Table(["x|y", "n"], [["<1>", "2"]], numbers=[1]),
        Picture(path, "A line"),
    )
    markdown, html = document.markdown(tmp_path), document.html()
    assert "![A line](figures/line.png)" in markdown
    assert "x\\|y" in markdown
    assert "<h2>Phonons</h2>" in html and "a &lt; b" in html and "&lt;1&gt;" in html
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_same_numbers_give_the_same_picture(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1, 4])
        written.append(save(figure, tmp_path, name))
    assert written[0].read_bytes() == written[1].read_bytes()
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
