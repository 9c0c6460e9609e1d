"""Numbers are quoted with their uncertainty; the HTML report is complete in itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from himlip_ase.errors import InputError
from himlip_ase.figure_style import save
from himlip_ase.pipeline import tc_report
from himlip_ase.pipeline.document import (
    Document,
    Files,
    Heading,
    Link,
    Notice,
    Paragraph,
    Picture,
    Table,
    number,
)
from tests.browser import Browser, faults_of, find_browser


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
    assert '<h2 id="phonons">Phonons</h2>' in html and "a &lt; b" in html and "&lt;1&gt;" in html
    sources = re.findall(r'src="([^"]{0,30})', html)
    assert re.findall(r'href="([^"]*)', html) == ["#phonons"]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_same_numbers_give_the_same_picture(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, 1, 4])
        written.append(save(figure, tmp_path, name))
    assert written[0].read_bytes() == written[1].read_bytes()
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_only_wide_tables_are_turned_on_a_phone() -> None:
    narrow = Table(
        ["phonons", "harmonic", "auxiliary"], [["Tc, Allen–Dynes, μ* = 0.10", "no Tc", "172 ± 47 K"]], [1, 2]
    )
    assert not narrow.turned and 'class="turned"' not in Document("x", [narrow]).html()
    wide = Table(["a", "b", "c", "d", "e"], [["1.23 ± 0.45 K"] * 5], [1, 2, 3, 4])
    assert wide.turned
    html = Document("x", [wide]).html()
    assert 'role="rowheader"' in html and 'data-label="b"' in html


def every_block(folder: Path) -> Document:
    figure = Figure(figsize=(4.8, 3))
    figure.subplots().plot([0, 1, 4])
    (folder / "figures").mkdir()
    picture = Picture(save(figure, folder / "figures", "line"), "A caption", "A line that rises")
    rows = [["Tc, Migdal–Eliashberg, μ* = 0.13", "191 ± 61 K", "no Tc", "a sentence " * 12, "1.2 ± 0.3"]] * 3
    document = Document("Every kind of block")
    document.add(
        Notice("ok", "Good.", "May be quoted."), Notice("marked", "Careful."), Notice("withheld", "No."),
        Heading("Pictures"), picture, picture,
        Heading("Tables"), Heading("Narrow", 3), Table(["", ""], [["a", "b" * 60]]),
        Table(["what", "a", "b", "c", "d"], rows, [1, 2, 4], "A wide one"),
        Table(["quantity", "value"], [["lowest mode", "754.8 ± 7.6 cm⁻¹ (93.6 ± 0.9 meV)"]], [1]),
        Heading("Tables"), Paragraph("averyveryverylongwordwithoutanyspace" * 4),
        Files([(Link("line", "figures/line.png"), "a picture")]),
    )  # fmt: skip
    return document


needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium here (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(str(find_browser())) as opened:
        yield opened


@needs_browser
def test_every_block_fits_both_widths_and_can_be_read(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(every_block(tmp_path).html(), encoding="utf-8")
    assert faults_of(browser, page) == []


@needs_browser
def test_the_browser_finds_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    html = every_block(tmp_path).html()
    for good, bad in (
        ('lang="en"', ""),
        ('alt="A line that rises"', 'alt=""'),
        ("--muted: #4d565f", "--muted: #c0c4c8"),
        ("figures/line.png", "figures/gone.png"),
        ('href="#tables"', 'href="#nowhere"'),
        ("<h3", "<h4"),
        ("max-width: 100%", "min-width: 2000px"),
        ("data:image/png;base64,iVBOR", "data:image/png;base64,broken"),
    ):
        assert good in html, good
        html = html.replace(good, bad)
    page = tmp_path / "page.html"
    page.write_text(html, encoding="utf-8")
    found = " ".join(faults_of(browser, page))
    for what in (
        "no language", "no alternative text", "contrast", "no such file: figures/gone.png",
        "leads nowhere: #nowhere", "a level is left out", "wide in a window", "does not load",
    ):  # fmt: skip
        assert what in found, what


def test_what_is_to_be_typed_is_set_as_code(tmp_path) -> None:
    document = Document("t", [Paragraph("do `a < b` now"), Table(["what"], [["`himlip sscha learn`"]])])
    assert "<code>a &lt; b</code>" in document.html() and "<code>himlip sscha learn</code>" in document.html()
    assert "`a < b`" in document.markdown(tmp_path)


def test_without_any_tc_one_row_stands_for_all_formulas() -> None:
    rows = [
        ["λ", "0.4"],
        ["Tc, McMillan, μ* = 0.10", "no Tc"],
        ["Tc, SISSO, μ* = 0.10", "no Tc"],
        ["2Δ/kTc", "4"],
    ]
    assert tc_report._without_rows_of_nothing(rows) == [
        ["λ", "0.4"], ["Tc, by every formula and μ*", "no Tc"], ["2Δ/kTc", "4"]
    ]  # fmt: skip
    rows[1][1] = "3 K"
    assert tc_report._without_rows_of_nothing(rows) == rows
