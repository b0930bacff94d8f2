"""The report page shows what the experiments wrote, and needs no other file."""

import base64
import json
from pathlib import Path

import pandas as pd
import pytest

from common.tables import to_markdown
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
