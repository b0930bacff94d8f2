"""`scripts.collect` joins tables, says where each row is from, and refuses what it cannot say."""

import json
from pathlib import Path

import pandas as pd
import pytest

from mi_common.errors import UserError
from scripts.collect import main
from scripts.finished_runs import is_finished
from scripts.provenance import check_sidecar

FINISHED = [{"finished": True}]


def collect(*words):
    main([*map(str, words), "--output", "tables/rows.csv"])
    return pd.read_csv("tables/rows.csv", dtype=str), json.loads(
        Path("tables/rows.json").read_text()
    )


def test_rows_are_joined_with_flags_of_the_run_or_of_the_runs_that_it_read(make_run):
    for name, optimizer, layers in (("t0", "adamw", None), ("t1", "sgd", ["a", "b"])):
        make_run(name, "train", optimizer=optimizer, adl=layers, padding="zero")
    make_run("e0", runs=["t0"], padding=None, table="seed,gt_known\n0,0.50\n")
    make_run("e1", runs=["t1"], padding="reflect", table="seed,gt_known\n0,0.6\n1,0.70\n")
    rows, sidecar = collect(
        "e0", "e1", "--columns", "optimizer", "adl", "padding", "training.padding"
    )
    assert rows.columns.tolist() == [
        *("seed", "gt_known", "optimizer", "adl", "padding", "training_padding", "source")
    ]
    assert rows["gt_known"].tolist() == ["0.50", "0.6", "0.70"]  # as they were written
    assert rows["optimizer"].tolist() == ["adamw", "sgd", "sgd"]
    assert rows["adl"].fillna("").tolist() == ["", "a b", "a b"]
    assert rows["padding"].tolist() == ["zero", "reflect", "reflect"]
    assert set(rows["training_padding"]) == {"zero"}
    assert rows["source"].tolist() == ["e0", "e1", "e1"]
    assert list(sidecar["sources"]) == ["e0", "e1"]
    assert list(sidecar["sources"]["e1"]["inputs"]) == ["t1"]


def test_a_column_may_have_another_name_and_is_taken_from_the_table_where_it_is_there(make_run):
    make_run("e0", tune=["lr", "head"], table="head,lr,gt_known\ncosine,0.3,0.50\n")
    make_run("e1", tune=[], head="linear", lr=0.01)
    rows, _ = collect("e0", "e1", "--columns", "head", "lr", "tuned=tune")
    assert rows.fillna("").drop(columns=["gt_known", "source"]).to_dict("list") == {
        "head": ["cosine", "linear"],
        "lr": ["0.3", "0.01"],
        "tuned": ["lr head", ""],
    }


def test_the_sidecar_holds_each_command_with_commit_versions_hardware_and_seconds(make_run):
    make_run("t", "train")
    with pytest.raises(SystemExit):
        make_run("e", runs=["t"], error=UserError("interrupted"))
    make_run("e", runs=["t"], commit="def5678-dirty")
    _, sidecar = collect("e", "--holds", "boxes", "--page", "infocam/README.md#boxes")
    source = sidecar["sources"]["e"]
    assert source["entry"] == "infocam.evaluate"
    assert [session["commit"] for session in source["sessions"]] == ["abc1234", "def5678-dirty"]
    assert source["inputs"]["t"]["entry"] == "infocam.train"
    (session,) = source["inputs"]["t"]["sessions"]
    assert session["command"] == "python -m infocam.train t" and session["gpu"] is None
    assert session["cpu"] == "a CPU" and session["versions"]["torch"] == "2.14.1"
    assert session["seconds"] >= 0 and session["started"].endswith("+00:00")
    assert (sidecar["holds"], sidecar["recorded"]) == ("boxes", "by the runs")
    assert check_sidecar(Path("tables/rows.csv")) == sidecar


@pytest.mark.parametrize(("commit", "noted"), [(None, True), ("abc1234", False)])
def test_rows_that_cannot_stand_on_a_page_are_noted(make_run, capsys, commit, noted):
    collect(make_run("e", commit=commit))
    line = "not for resources/: rows.json: e: no commit of a command"
    assert (line in capsys.readouterr().out) == noted


@pytest.mark.parametrize(
    ("output", "words", "noted"),
    [
        ("resources/rows.csv", [], "holds"),
        ("resources/rows.csv", ["--holds", "boxes"], "page"),
        ("resources/rows.csv", ["--holds", "boxes", "--page", "p#a"], None),
        ("tables/rows.csv", [], None),
    ],
)
def test_missing_words_are_noted_of_rows_for_the_pages(make_run, capsys, output, words, noted):
    main([make_run("e"), *words, "--output", output])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not for")]
    start = f"not for resources/: rows.json: no {noted}; collect the rows again, with --holds"
    assert len(lines) == (noted is not None) and all(line.startswith(start) for line in lines)


def test_overwriting_keeps_the_words_of_the_sidecar(make_run):
    collect(make_run("e"), "--holds", "boxes", "--page", "p#a")
    _, sidecar = collect("e", "--overwrite", "--page", "p#b")
    assert (sidecar["holds"], sidecar["page"]) == ("boxes", "p#b")


def test_a_byte_order_mark_is_no_part_of_a_column(make_run):
    make_run("e0", table="\ufeffgt_known\n0.50\n", seed=0)
    make_run("e1", seed=1)
    assert collect("e0", "e1")[0].columns.tolist() == ["gt_known", "source"]


def test_another_table_is_taken(make_run):
    make_run("e")
    Path("e/differences.csv").write_text("a\n1\n")
    rows, _ = collect("e", "--table", "differences.csv")
    assert rows.to_dict("records") == [{"a": "1"}]


@pytest.fixture
def wrong(make_run, user_error):
    """What is refused, by name: words of the command, and a part of the message."""
    make_run("good", optimizer="sgd", runs=[])
    make_run("train", "train", optimizer="sgd")
    make_run("train2", "train", optimizer="adamw")
    make_run("both", runs=["train", "train2"])
    make_run("twin", optimizer="sgd", runs=[])
    make_run("train-copy", "train", optimizer="sgd")
    for name, read in (("read", "train"), ("read-copy", "train-copy"), ("read-path", "./train")):
        make_run(name, runs=[read])
    make_run("columns", table="other\n1\n")
    make_run("no-table", table=None)
    with pytest.raises(SystemExit):
        make_run("unfinished", error=UserError("interrupted"))
    make_run("gone", runs=["train", "moved"])
    make_run("started", init="moved")
    for name, cells in (("no-rows", ""), ("ragged", "a,b\n1,2\n3\n"), ("long", "a\n1,2\n")):
        make_run(name, table=cells)
    make_run("header", table="gt_known\n")
    make_run("has-source", table="gt_known,source\n0.50,mine\n")
    Path("foreign.csv").write_text("a\n1\n")
    Path("link").symlink_to("good")
    Path("empty").mkdir()
    known = {"flags": {}, "command": "x"}
    configs = {"foreign": {"a": 1}, "old": known, "no-start": known | {"sessions": FINISHED}}
    for name, config in configs.items():
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps(config))
    make_run("damaged")
    Path("damaged/config.json").write_text("{")
    Path("tables").mkdir()
    return lambda *words: user_error(main, [*words, "--output", "tables/rows.csv"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none: no config.json, so it is no run"),
        (["empty"], "empty: no config.json, so it is no run"),
        (["foreign"], "not written by this project"),
        (["damaged"], "damaged, it is not JSON; make it again with its command"),
        (["old"], "old: does not say when it was made; run it again"),
        (["no-start"], "no-start: does not say when it was made; run it again"),
        (["good", "unfinished"], "unfinished: the last command that wrote there is unfinished"),
        (["good", "train"], "train: written by infocam.train, not infocam.evaluate"),
        (["good", "good"], "good: given twice"),
        (["good", "empty/../good"], "good: given twice"),
        (["link", "good"], "link: given twice"),
        (["good", "both", "twin"], "twin: its flags are those of good; give one of the two"),
        (["read", "read-copy"], "read-copy: its flags are those of read; give one of the two"),
        (["read", "read-path"], "read-path: its flags are those of read; give one of the two"),
        (["gone"], "gone: read moved, which is missing or no run"),
        (["started"], "started: read moved, which is missing or no run"),
        (["no-rows"], "no-rows/results.csv: empty or no CSV table"),
        (["ragged"], "ragged/results.csv: damaged, rows do not fit its header"),
        (["long"], "long/results.csv: damaged, rows do not fit its header"),
        (["good", "header"], "header/results.csv: a header without rows"),
        (["has-source"], "has-source/results.csv: has a column 'source'"),
        (["good", "--table", ""], "--table '': not the name of a CSV file"),
        (["good", "--table", "predictions.npz"], "--table 'predictions.npz': not the name"),
        (["good", "--table", "../foreign.csv"], "--table '../foreign.csv': not the name"),
        (["good", "--columns", "source=optimizer"], "--columns source=optimizer: give each"),
        (["good", "--columns", "=optimizer"], "--columns =optimizer: give each column a name"),
        (["good", "--columns", "a=optimizer", "a=runs"], "--columns a=runs: give each column"),
        (["no-table"], "no-table: no results.csv; --table is one of: none"),
        (["good", "--table", "x.csv"], "good: no x.csv; --table is one of: results.csv"),
        (["good", "columns"], "columns ['other'], not ['gt_known']"),
        (["good", "--columns", "lr"], "--columns lr: no such flag"),
        (["good", "--columns", "training.optimizer"], "--columns training.optimizer: no such flag"),
        (["both", "--columns", "optimizer"], "the runs that both read differ in it"),
    ],
)
def test_what_cannot_be_said_truly_is_refused_in_one_line(wrong, words, message):
    assert message in wrong(*words)
    assert list(Path("tables").iterdir()) == []


def test_a_file_is_not_replaced_without_being_asked(make_run, user_error):
    collect(make_run("e"))
    before = Path("tables/rows.csv").read_bytes()
    words = ["e", "--columns", "output_dir", "--output", "tables/rows.csv"]
    assert "tables/rows.csv exists; use --overwrite" in user_error(main, words)
    assert Path("tables/rows.csv").read_bytes() == before
    assert "ends with .csv" in user_error(main, ["e", "--output", "tables/rows.txt"])
    Path("tables/rows.csv").unlink()
    assert "tables/rows.json exists; use --overwrite" in user_error(main, words)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("e/results.csv", "--output e/results.csv: inside the run "),
        ("link/new.csv", "--output link/new.csv: inside the run "),
        ("other/results.csv", "--output other/results.csv: inside the run "),
        ("other/below/rows.csv", "--output other/below/rows.csv: inside the run "),
        ("folder.csv", "--output folder.csv is a folder"),
        ("file/below/rows.csv", "--output file/below/rows.csv: file is a file"),
        ("config.csv", "--overwrite config.json: not of a table"),
    ],
)
def test_an_output_that_would_lose_something_or_cannot_be_is_refused(
    make_run, user_error, output, message
):
    make_run("e")
    make_run("other", "train")
    Path("folder.csv").mkdir()
    Path("link").symlink_to("e")
    Path("file").touch()
    Path("config.json").write_text('{"a": 1}')
    files = ["e/results.csv", "other/results.csv", "file", "config.json"]
    before = [Path(file).read_bytes() for file in files]
    assert message in user_error(main, ["e", "--output", output, "--overwrite"])
    assert [Path(file).read_bytes() for file in files] == before
    assert not Path("e/results.json").exists() and not Path("config.csv").exists()


def test_a_run_that_was_read_and_has_changed_since_is_refused(make_run, change_config, user_error):
    make_run("t", "train")
    make_run("e", runs=["t"])
    words = ["infocam.evaluate", "e"]
    assert is_finished(Path("e"), words) and not is_finished(Path("e"), [*words, "--seed", "0"])
    change_config("t", started="2999-01-01T00:00:00+00:00")
    assert "t has changed since it was read" in user_error(main, ["e", "--output", "x.csv"])
    assert not is_finished(Path("e"), words)
