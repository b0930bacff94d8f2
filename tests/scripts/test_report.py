"""The report page shows what the experiments wrote, and needs no other file."""

import base64
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mi_common.tables import to_markdown
from scripts.report import SECTIONS, main, markdown_table_to_html

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    config = {"command": "python <x>", "torch": "2", "gpu": None, "cpu": "a cpu, 2 cores"}
    for section in SECTIONS:
        files = {section.config: json.dumps(config).encode()}
        files |= {
            name: f"| {name} | b |\n| --- | --- |\n| 1 | 2 |\n".encode() for name in section.tables
        }
        files |= {name: PNG for name in section.figures}
        if section.gallery:
            files |= {f"{section.gallery}/{number}.png": PNG for number in range(3)}
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    return tmp_path


def test_the_page_holds_all_tables_and_pictures_and_refers_to_no_other_file(runs):
    main([str(runs)])
    page = (runs / "report.html").read_text()
    tables = [name for section in SECTIONS for name in section.tables]
    assert page.count("<table>") == len(tables) == 4
    assert all(f"<th>{name}</th>" in page for name in tables)
    assert page.count("<img ") == page.count(base64.b64encode(PNG).decode()) == 3 + 3
    assert "http" not in page and 'src="data:' in page and "href" not in page
    assert "python &lt;x&gt;" in page


def test_a_missing_experiment_is_named_and_leaves_no_page(runs, capsys):
    missing = runs / SECTIONS[1].tables[0]
    missing.unlink()
    with pytest.raises(SystemExit) as stopped:
        main([str(runs)])
    assert stopped.value.code == 2
    assert str(missing) in capsys.readouterr().err
    assert not (runs / "report.html").exists()


def test_markdown_tables_keep_empty_cells_and_escape_text():
    table = pd.DataFrame({"a": ["<x>", "y"], "n": ["", "2"], "c": ["1 ± 2", ""]})
    page = markdown_table_to_html(to_markdown(table))
    cells = "<td>&lt;x&gt;</td><td></td><td>1 ± 2</td>"
    assert page.count("<tr>") == 3 and cells in page
    assert "<td>y</td><td>2</td><td></td>" in page


# Files that are not what the scripts wrote

MI, PC, INFOCAM = SECTIONS
WIDE = b"| a | b |\n| --- | --- |\n| 1 | 2 | 3 |\n"


def png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


DAMAGED = {
    "picture cut": (
        PC.figures[0],
        png_of(Image.effect_noise((50, 50), 50))[:-600],
        "not a readable image (OSError)",
    ),
    "picture of text": (
        PC.figures[0],
        b"<html>",
        "not a readable image (UnidentifiedImageError)",
    ),
    "picture huge": (
        MI.figures[0],
        png_of(Image.new("1", (6000, 10_000))),
        "6000 x 10000 pixels, more than 50,000,000",
    ),
    "overlay cut": (f"{INFOCAM.gallery}/1.png", PNG[:30], "not a readable image"),
    "no JSON": (PC.config, b'{"command": ', "damaged, it is not JSON; "),
    "no object": (PC.config, b"[1]", "damaged, it holds no JSON object; "),
    "config not UTF-8": (PC.config, b"\xff", "damaged, it is not JSON; "),
    "config of another script": (
        PC.config,
        b'{"command": "x", "torch": "2", "cpu": "x"}',
        "no 'gpu'; run the experiment again",
    ),
    "table empty": (MI.tables[0], b"", "not a Markdown table; run the experiment again"),
    "table of one line": (MI.tables[0], b"| a |\n", "not a Markdown table; "),
    "table with a wide row": (MI.tables[0], WIDE, "not a Markdown table; "),
    "table without a rule": (MI.tables[0], b"| a |\n| 1 |\n", "not a Markdown table; "),
    "table not UTF-8": (MI.tables[0], b"| \xff |\n", "not UTF-8 text; run the experiment again"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named_and_leaves_the_old_page(runs, user_error, kind):
    name, data, reason = DAMAGED[kind]
    (runs / name).write_bytes(data)
    (runs / "report.html").write_text("old")
    figure = runs / "figure.png"
    line = user_error(main, [runs, "--figure", figure])
    assert line.startswith(f"error: {runs / name}: {reason}")
    assert (runs / "report.html").read_text() == "old" and not figure.exists()


def test_a_file_too_large_for_a_page_is_named(runs, user_error):
    with (runs / MI.figures[0]).open("ab") as file:
        file.truncate(10**12)  # takes no space
    line = f"error: {runs / MI.figures[0]}: 1,000,000,000,000 bytes, more than 50,000,000"
    assert user_error(main, [runs]) == line


def test_a_folder_in_the_place_of_a_file_is_named(runs, user_error):
    (runs / PC.tables[0]).unlink()
    (runs / PC.tables[0]).mkdir()
    line = "not there; the folders of scripts/quickstart.sh are wanted"
    assert user_error(main, [runs]) == f"error: {runs / PC.tables[0]}: {line}"


def test_nothing_in_the_files_becomes_markup(runs):
    evil = '"><script>alert(1)</script>'
    config = {"command": evil, "torch": [evil], "gpu": {evil: "\ud800"}, "cpu": None}
    (runs / PC.config).write_text(json.dumps(config))
    (runs / MI.tables[0]).write_text(f"| {evil} |\n| --- |\n| {evil} |\n")
    overlay = os.fsencode(runs / INFOCAM.gallery) + b'/"><script>\xff.png'
    Path(os.fsdecode(overlay)).write_bytes(PNG)  # a name cannot hold a slash
    main([str(runs)])
    page = (runs / "report.html").read_text()
    assert "<script" not in page
    assert page.count("&quot;&gt;&lt;script&gt;") == 2 + 3 + 1
    assert 'alt="&quot;&gt;&lt;script&gt;?"' in page


def test_bars_in_cells_are_no_ends_of_cells():
    table = pd.DataFrame({"a|b": ["|", "x\\"], "c": ["1|2|3", ""]})
    page = markdown_table_to_html(to_markdown(table))
    assert "<tr><th>a|b</th><th>c</th></tr><tr><td>|</td><td>1|2|3</td></tr>" in page


def test_the_figure_is_a_png_and_overwrites_no_picture_of_the_page(runs, user_error):
    for name, reason in (
        ("figure.txt", "the name must end in .png"),
        (MI.figures[0], "is a picture of the report; choose another name"),
        (f"{INFOCAM.gallery}/../overlays/new.png", "is a picture of the report; choose another"),
    ):
        line = user_error(main, [runs, "--figure", runs / name])
        assert line.startswith(f"error: --figure {runs / name}: {reason}")
    assert (runs / MI.figures[0]).read_bytes() == PNG and not (runs / "report.html").exists()


def test_pictures_of_extreme_shapes_fit_into_the_figure(runs):
    for name, size in ((MI.figures[0], (5000, 1)), (PC.figures[0], (1, 5000))):
        Image.new("RGB", size).save(runs / name)
    figure = runs / "figure.png"
    main([str(runs), "--figure", str(figure)])
    with Image.open(figure) as image:
        assert image.size == (1600, (1 + 20) + (790 + 20) + (1600 + 20))


def test_without_overlays_the_page_has_no_gallery(runs):
    for path in (runs / INFOCAM.gallery).iterdir():
        path.unlink()
    figure = runs / "figure.png"
    main([str(runs), "--figure", str(figure)])
    page = (runs / "report.html").read_text()
    assert page.count("<img ") == 3 and 'class="gallery"' not in page
    with Image.open(figure) as image:
        assert image.size == (1600, 790 + 20)
