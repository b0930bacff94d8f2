"""The report page shows what the experiments wrote, needs no other file, and runs no markup."""

import base64
import io
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mi_common.tables import to_markdown
from scripts.report import main
from scripts.report_page import SECTIONS, markdown_table_to_html

MI, PC, INFOCAM = SECTIONS
WIDE = b"| a | b |\n| --- | --- |\n| 1 | 2 | 3 |\n"


def png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


PNG = png_of(Image.new("RGB", (1, 1), "red"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folders of three experiments, as small as they can be."""
    config = {"command": "python <x>", "torch": "2", "gpu": None, "cpu": "a cpu, 2 cores"}
    files = {f"{INFOCAM.gallery}/{number}.png": PNG for number in range(3)}
    for section in SECTIONS:
        files[section.config] = json.dumps(config).encode()
        files |= dict.fromkeys(section.figures, PNG)
        for name in section.tables:
            files[name] = f"| {name} | b |\n| --- | --- |\n| 1 | 2 |\n".encode()
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def page_of(runs: Path, *flags: str) -> str:
    main([str(runs), *flags])
    return (runs / "report.html").read_text()


def test_the_page_holds_all_tables_and_pictures_and_refers_to_no_other_file(runs, capsys):
    page = page_of(runs)
    tables = [name for section in SECTIONS for name in section.tables]
    assert page.count("<table") == len(tables) == 4
    assert all(f"<th>{name}</th>" in page for name in tables)
    assert page.count("<img ") == page.count(base64.b64encode(PNG).decode()) == 3 + 3
    assert "http" not in page and 'src="data:' in page and "href" not in page
    assert "python &lt;x&gt;" in page
    target = runs / "report.html"
    assert capsys.readouterr().out == f"report: {target}\nnext: python -m webbrowser {target}\n"


def test_tables_keep_empty_cells_bars_and_long_names_and_escape_text():
    table = pd.DataFrame({"a|b": ["<x> &", "|", "y" * 99], "a": ["1|2|3", "", "1 ± 2"]})
    page = re.sub(r">\s+<", "><", markdown_table_to_html(to_markdown(table)))
    for row in (
        "<th>a|b</th><th>a</th>",
        "<td>&lt;x&gt; &amp;</td><td>1|2|3</td>",
        "<td>|</td><td></td>",
        f"<td>{'y' * 99}</td><td>1 ± 2</td>",
    ):
        assert f">{row}</tr>" in page


DAMAGED = {
    "picture cut": (PC.figures[0], png_of(Image.effect_noise((50, 50), 50))[:-600], "readable"),
    "picture of text": (PC.figures[0], b"<html>", "not a readable image"),
    "picture huge": (
        MI.figures[0],
        png_of(Image.new("1", (6000, 10_000))),
        "6000 x 10000 pixels, more than 50,000,000",
    ),
    "overlay cut": (f"{INFOCAM.gallery}/1.png", PNG[:30], "not a readable image"),
    "no JSON": (PC.config, b'{"command": ', "damaged"),
    "no object": (PC.config, b"[1]", "damaged"),
    "config not UTF-8": (PC.config, b"\xff", "damaged"),
    "config of another script": (PC.config, b'{"command": "x", "torch": "2"}', "no 'gpu'"),
    "table empty": (MI.tables[0], b"", "not a Markdown table; run the experiment again"),
    "table of one line": (MI.tables[0], b"| a |\n", "not a Markdown table"),
    "table with a wide row": (MI.tables[0], WIDE, "not a Markdown table"),
    "table without a rule": (MI.tables[0], b"| a |\n| 1 |\n", "not a Markdown table"),
    "table not UTF-8": (MI.tables[0], b"| \xff |\n", "not a Markdown table"),
    "table missing": (PC.tables[0], None, "not found"),
    "folder in its place": (PC.tables[0], Path, "not found"),
    "too large a file": (MI.figures[0], 10**12, "1,000,000,000,000 bytes, more than 50,000,000"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named_and_leaves_the_old_page(runs, user_error, kind):
    name, data, reason = DAMAGED[kind]
    if data is None or data is Path:
        (runs / name).unlink()
    if data is Path:
        (runs / name).mkdir()
    elif isinstance(data, int):
        os.truncate(runs / name, data)  # takes no space
    elif data is not None:
        (runs / name).write_bytes(data)
    (runs / "report.html").write_text("old")
    line = user_error(main, [runs, "--figure", runs / "figure.png"])
    assert line.startswith(f"error: {runs / name}: ") and reason in line
    assert (runs / "report.html").read_text() == "old" and not (runs / "figure.png").exists()


def test_nothing_in_the_files_becomes_markup(runs):
    evil = '"><script>alert(1)</script>'
    config = {"command": evil, "torch": [evil], "gpu": {evil: "\ud800"}, "cpu": None}
    (runs / PC.config).write_text(json.dumps(config))
    (runs / MI.tables[0]).write_text(f"| {evil} |\n| --- |\n| {evil} |\n")
    overlay = os.fsencode(runs / INFOCAM.gallery) + b'/"><script>\xff.png'
    Path(os.fsdecode(overlay)).write_bytes(PNG)  # a name cannot hold a slash
    page = page_of(runs)
    assert "<script" not in page and page.count("&gt;&lt;script&gt;") == 2 + 3 + 1
    assert 'alt="&quot;&gt;&lt;script&gt;?"' in page


def test_the_figure_is_a_png_and_overwrites_no_picture_of_the_page(runs, user_error):
    for name, reason in (
        ("figure.txt", "must end in .png"),
        (MI.figures[0], "choose another name"),
        (f"{INFOCAM.gallery}/../overlays/new.png", "choose another name"),
    ):
        line = user_error(main, [runs, "--figure", runs / name])
        assert line.startswith(f"error: --figure {runs / name}: ") and reason in line
    assert (runs / MI.figures[0]).read_bytes() == PNG and not (runs / "report.html").exists()


def test_pictures_of_extreme_shapes_fit_into_the_figure_with_and_without_overlays(runs):
    figure = runs / "figure.png"
    for name, size in ((MI.figures[0], (5000, 1)), (PC.figures[0], (1, 5000))):
        Image.new("RGB", size).save(runs / name)
    page_of(runs, "--figure", str(figure))
    with Image.open(figure) as image:
        assert image.size == (1600, (1 + 20) + (790 + 20) + (1600 + 20))
    for path in (runs / INFOCAM.gallery).iterdir():
        path.unlink()
    page = page_of(runs, "--figure", str(figure))
    assert page.count("<img ") == 3 and 'class="gallery"' not in page
    with Image.open(figure) as image:
        assert image.size == (1600, 1 + 20)
