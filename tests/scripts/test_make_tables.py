"""The pages' tables and numbers come from rows, and the check sees every difference."""

import json
import re

import pandas as pd
import pytest

from mi_common.errors import UserError
from scripts import page_tables, page_values, pages
from scripts.make_tables import main
from scripts.provenance import AFTERWARDS, SESSION_FIELDS, digest, files_table

SENTENCE = "PC-softmax gains {gain} points (95 % interval\n{low} to {high})."
VALUES = {"gain": "1.24 ± 0.59", "low": "-0.10", "high": "3"}
TABLE = "Prose.\n\n<!-- table: below -->\n\n<!-- end -->\n"
TRUE_TEXT = "PC-softmax gains 1.24 ±\n0.59 points (95 % interval −0.10 to 3)."


def test_a_true_sentence_stays_as_it_is():
    assert pages.with_numbers(TRUE_TEXT, SENTENCE, VALUES) == TRUE_TEXT


@pytest.mark.parametrize(
    ("right", "wrong"), [("1.24 ±\n0.59", "1.25 ± 0.59"), ("−0.10", "0.10"), (" 3)", " 1,003)")]
)
def test_each_wrong_number_is_replaced(right, wrong):
    text = f"First.\n{TRUE_TEXT.replace(right, wrong)} Last 3."
    made = pages.with_numbers(text, SENTENCE, VALUES)
    assert re.sub(r"\s", " ", made) == re.sub(r"\s", " ", f"First. {TRUE_TEXT} Last 3.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TRUE_TEXT.replace("gains", "wins"), "0 sentences like"),
        (TRUE_TEXT.replace("−0.10", "some"), "0 sentences like"),
        (TRUE_TEXT * 2, "2 sentences like"),
    ],
)
def test_a_sentence_that_is_not_there_once_is_an_error(text, message):
    with pytest.raises(UserError, match=message):
        pages.with_numbers(text, SENTENCE, VALUES)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gian": "1"}, "no value 'gain'; close: 'gian'"),
        ({}, "no value 'gain'; close: none"),
        ({"gain": "nan"}, "gain is nan, no number"),
        ({"gain": "1.24 ± nan"}, "gain is 1.24 ± nan, no number"),
        ({"gain": "1e+02"}, "gain is 1e[+]02, no number"),
    ],
)
def test_a_name_without_a_number_is_an_error(changed, message):
    others = {"low": VALUES["low"], "high": VALUES["high"]}
    with pytest.raises(UserError, match=message):
        pages.with_numbers(TRUE_TEXT, SENTENCE, others | changed)


@pytest.mark.parametrize(
    ("sentence", "value", "belied"),
    [
        ("It gains +{gain}.", "0.0 ± 0.1", False),
        ("It gains +{gain}.", "-0.1 ± 0.2", True),
        ("It gains {gain}.", "-0.1 ± 0.2", False),
        ("It gains {+gain}.", "0.3 ± 0.2", False),
        ("It gains {+gain}.", "1,003", False),
        ("It gains {+gain}.", "0.2 ± 0.2", True),
        ("It gains {+gain}.", "0.0", True),
        ("It gains {+gain}.", "-0.3 ± 0.2", True),
        ("It gains +{+gain}.", "0.1 ± 0.2", True),
    ],
)
def test_a_number_that_belies_its_sentence_is_an_error(sentence, value, belied):
    text = "It gains +1." if "+{" in sentence else "It gains 1."
    if belied:
        with pytest.raises(UserError, match=re.escape(f"gain is {value}, not above zero")):
            pages.with_numbers(text, sentence, {"gain": value})
    else:
        made = pages.with_numbers(text, sentence, {"gain": value})
        assert made == text.replace("1", value.replace("-", "−"))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "mi_estimator",
            lambda rows: rows.rename(columns={"estimate": "mean"}),
            "/mi_estimator.csv: these rows and options do not fit paper_task: KeyError: 'estimate'",
        ),
        ("mi_zero", lambda rows: rows[:0], "/mi_zero.csv: no rows"),
        (
            "pc_softmax_tiny_imagenet",
            lambda rows: pd.concat([rows, rows[:1]]),
            "/pc_softmax_tiny_imagenet.csv: these rows and options do not fit class_accuracies: "
            "ValueError: Index contains duplicate entries",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named_with_their_file(tmp_path, file, change, message):
    for path in (pages.ROOT / "resources").glob("*.csv"):
        (tmp_path / path.name).symlink_to(path)
    rows = change(pd.read_csv(tmp_path / f"{file}.csv"))
    (tmp_path / f"{file}.csv").unlink()
    rows.to_csv(tmp_path / f"{file}.csv", index=False)
    with pytest.raises(UserError, match=re.escape(message)):
        page_values.compute_values(tmp_path)


def test_a_name_with_two_values_is_an_error():
    assert page_values.unique([("a", "1"), ("b", "2"), ("a", "1")]) == {"a": "1", "b": "2"}
    with pytest.raises(UserError, match="a is 1 by some rows and 2 by others"):
        page_values.unique([("a", "1"), ("a", "2")])


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(0.00098, 3, "0.001"), (0.0502, 3, "0.051"), (0.001, 3, "0.001"), (0.58, 2, "0.58")],
)
def test_bounds_are_never_rounded_down(value, digits, shown):
    assert page_values.rounded_up(value, digits) == shown


def test_sentences_are_read_by_page(tmp_path):
    file = tmp_path / "sentences.txt"
    file.write_text(
        "# Comment.\n\n== a.md\nOne {x}\ntwo.\n\nThree {y}.\n\n== b/c.md\n\nFour {z}.\n"
    )
    expected = {"a.md": ["One {x}\ntwo.", "Three {y}."], "b/c.md": ["Four {z}."]}
    assert pages.read_sentences(file) == expected


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one page with a table and a sentence, both right."""
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources/pictures.json").write_text("{}")
    (tmp_path / "scripts").mkdir()
    rows = tmp_path / "resources/rows.csv"
    rows.write_text("a,b,source\n1,0.5,first\n2,0.25,second\n")
    run = {"entry": "x.run", "inputs": {}, "sessions": [dict.fromkeys(SESSION_FIELDS)]}
    sidecar = {"holds": "rows", "page": "README.md", "recorded": AFTERWARDS}
    sidecar |= {"sha256": digest(rows), "sources": {"first": run, "second": run}}
    run["sessions"][0]["command"] = "python -m x.run"
    rows.with_suffix(".json").write_text(json.dumps(sidecar))
    (tmp_path / "scripts/page_sentences.txt").write_text("== README.md\nThe mean is {mean}.\n")
    table = "| a | b |\n| --- | --- |\n| 2 | 0.25 |\n"
    (tmp_path / "README.md").write_text(
        f"# T\n\n<!-- table: above resources/rows.csv low=1 -->\n\n{table}\n<!-- end -->\n\n"
        "The mean is 1.5.\n"
    )
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "PAGES", [tmp_path / "README.md"])
    monkeypatch.setattr(page_values, "compute_values", lambda folder: {"mean": "1.5"})
    function = lambda rows, low: rows[rows["a"] > int(low)]  # noqa: E731
    function.__module__ = page_tables.__name__
    monkeypatch.setattr(page_tables, "above", function, raising=False)
    return tmp_path / "README.md"


def test_the_check_passes_where_text_and_rows_agree(project, capsys):
    main(["--check"])
    assert capsys.readouterr().out == "0 of 1 pages differ from the rows\n"


@pytest.mark.parametrize(
    ("old", "new"), [("| 0.25 |", "| 0.26 |"), ("is 1.5.", "is 1.6."), ("| 2 | 0.25 |\n", "")]
)
def test_the_check_fails_where_they_do_not_and_the_page_is_made_anew(project, capsys, old, new):
    right = project.read_text()
    project.write_text(right.replace(old, new))
    with pytest.raises(SystemExit) as end:
        main(["--check"])
    assert end.value.code == 1 and project.read_text() == right.replace(old, new)
    assert re.search(rf"^\+.*{re.escape(old.strip())}$", capsys.readouterr().out, re.MULTILINE)
    main([])
    assert project.read_text() == right


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("above", "below", "no function below"),
        ("above", "summarise", "no function summarise"),  # which page_tables imports
        ("rows.csv", "none.csv", "none.csv: no such file"),
        (" low=1", "", "do not fit above: TypeError"),
        ("low=1", "low=one", "do not fit above: ValueError"),
        (" resources/rows.csv", "", "do not fit above: TypeError"),
        ("<!-- end -->\n", "", "<!-- table: above resources/rows.csv low=1 -->: no <!-- end -->"),
        ("<!-- end -->\n", f"\n{TABLE}", "<!-- table: below -->: <!-- table: FUNCTION"),
        (
            "<!-- table: ",
            "<!-- table:",
            "<!-- table:above resources/rows.csv low=1 -->: <!-- table",
        ),
        (" -->\n", "\n-->\n", "<!-- table: above resources/rows.csv low=1: <!-- table"),
        ("<!-- table: ", "<!-- tabel: ", "<!-- end -->: <!-- table: FUNCTION"),
    ],
)
def test_a_wrong_marker_is_an_error_and_the_page_stays(project, user_error, old, new, message):
    wrong = project.read_text().replace(old, new, 1)
    project.write_text(wrong)
    line = user_error(main, [])
    assert line.startswith("error: README.md: <!-- ") and message in line
    assert project.read_text() == wrong


def test_values_are_found_by_a_part_of_their_names(project, capsys, user_error):
    project.write_text("")
    main(["--values", "ea"])
    assert capsys.readouterr().out == "mean: 1.5\n"
    assert "--values medi: no name contains it" in user_error(main, ["--values", "medi"])
    assert project.read_text() == ""


def test_a_sentence_of_no_page_is_an_error(project, user_error):
    file = project.parent / "scripts/page_sentences.txt"
    file.write_text(file.read_text() + "\n== none.md\nThe mean is {mean}.\n")
    assert "none.md: no such page" in user_error(main, ["--check"])


def test_rows_that_changed_after_their_sidecar_are_an_error(project, user_error):
    file = project.parent / "resources/rows.csv"
    file.write_text(file.read_text().replace("0.25", "0.26"))
    message = user_error(main, ["--check"])
    assert "rows.csv: not the rows of rows.json" in message and digest(file) in message


def test_the_table_of_files_counts_each_run_once(tmp_path):
    def session(commit, seconds, gpu=None):
        return {"commit": commit, "seconds": seconds, "cpu": "a CPU", "gpu": gpu}

    training = {"entry": "x.train", "sessions": [session("c1, say", 1000.4, "a GPU")]}
    sources = {
        name: {"entry": "x.run", "inputs": {"t": training}, "sessions": [session(commit, seconds)]}
        for name, commit, seconds in (("e0", "c2-dirty or a little before", 20), ("e1", None, None))
    }
    (tmp_path / "rows.csv").write_text("a\n")
    sidecar = {"holds": "boxes", "page": "p#a", "recorded": "by the runs", "sources": sources}
    (tmp_path / "rows.json").write_text(json.dumps(sidecar))
    assert files_table(tmp_path).to_dict("records") == [
        {
            "file": "`rows.csv`",
            "holds": "boxes",
            "made by": "[`x.run`](../p#a)",
            "commit": "c2-dirty, c1",
            "machine": "a CPU; a GPU",
            "seconds": "1,020",
            "recorded": "by the runs",
        }
    ]
